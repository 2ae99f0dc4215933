"""Servers name tokens by text, bytes, ids or pieces: what comes back is right or unknown, whatever the
tokenizer and the way of naming.
"""

import json

import numpy as np
import pytest
import transformers
from fake_server import FakeServer, bytes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from mlcllm.engines import Engine, Generation, load_tokenizer
from mlcllm.openai_engine import TokenNames, _meaning, load_openai, token_bytes

KEY = "secret-key-123456"
NAMINGS = ["text", "decoded", "bytes", "said", "pieces", "bare", "ids"]
WORDS = ["joy", "fear", "sadness", "an", "ger", "é", "о", "nothing", ",", ".", "s", "in"]


def sentence_piece():
    """A tokenizer like Llama 2's: ▁ for a blank, bytes for what has no piece, and a decoder that drops the
    leading blank
    """
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "▁▁", "\n"]
    pieces += list(dict.fromkeys([*("▁" + w for w in WORDS), *WORDS, *letters, "▁only", "▁▁two"]))
    t = Tokenizer(
        models.Unigram(
            [(p, -float(len(pieces) > 0) - k / 1000) for k, p in enumerate(pieces)], 0, byte_fallback=True
        )
    )
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=t, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


class RandomModel(Engine):
    "Logits drawn from the prompt, with awkward tokens among the most probable ones"

    def __init__(self, tokenizer):
        super().__init__(tokenizer, 10**6)
        self.size = len(tokenizer)
        self.model = type("Model", (), dict(config=type("Config", (), dict(vocab_size=self.size))()))()
        odd = [
            i for i, t in enumerate(tokenizer.batch_decode([[i] for i in range(self.size)])) if "\ufffd" in t
        ]
        twins = [
            i for w in WORDS for f in (w, " " + w) for i in tokenizer.encode(f, add_special_tokens=False)
        ]
        self.pools = [np.array(odd[:400]), np.unique(twins), np.arange(self.size)]

    def logits(self, ids):
        draw = np.random.default_rng([len(ids), *map(int, ids[-8:])])
        z = draw.normal(size=self.size)
        for pool in self.pools:
            z[draw.choice(pool, min(10, len(pool)), replace=False)] += 9 + draw.random()
        z[list(self.tokenizer.all_special_ids)] = -5
        return z

    def generate(self, prompts, max_new_tokens, stop=(), watch_ids=(), allowed=None):
        return [self.one(list(p), max_new_tokens) for p in prompts]

    def one(self, ids, n):
        rows, new = [], []
        for _ in range(n):
            rows.append(self.logits(ids + new))
            new.append(int(rows[-1].argmax()))
        z = np.array(rows)
        return Generation(
            tuple(new), self.tokenizer.decode(new), z, np.logaddexp.reduce(z, 1), "length", np.zeros(n)
        )


@pytest.fixture(scope="module", params=["tiny", "sentence_piece", "llama3"])
def world(request, tmp_path_factory):
    "A tokenizer's folder and a model of it"
    if request.param == "tiny":
        return "tiny", RandomModel(load_tokenizer("tiny"))
    if request.param == "llama3":
        folder = request.getfixturevalue("data_root") / "tokenizers" / "llama3"
        if not folder.is_dir():
            pytest.skip("no tokenizer of Llama 3")
        return str(folder), RandomModel(load_tokenizer(str(folder)))
    folder = tmp_path_factory.mktemp("sentence_piece")
    sentence_piece().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return str(folder), RandomModel(load_tokenizer(str(folder)))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_bytes_of_tokens(world):
    tokenizer = world[1].tokenizer
    ours = token_bytes(tokenizer)
    for i in range(0, len(tokenizer), max(1, len(tokenizer) // 3000)):
        assert ours[i] == bytes_of(tokenizer, i)


def truth(model, prompts):
    "Log-probabilities of all tokens behind each prompt"
    z = np.array([model.logits(p) for p in prompts])
    return z - np.logaddexp.reduce(z, 1)[:, None]


@pytest.mark.parametrize("mode", ["plain", "chat"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_a_value_is_right_or_unknown_and_bounds_hold(world, naming, mode):
    folder, model = world
    if "llama3" in folder and (mode == "plain" or naming == "said"):
        pytest.skip("seen with the smaller ones")
    texts = [f"Input: {w} and {v}\nEmotion(s):" for w in WORDS[:3] for v in WORDS[:3]]
    with FakeServer(model, mode, naming=naming) as server:
        engine = load_openai(
            "tiny",
            dict(
                base_url=server.url,
                tokenizer=folder,
                cache=False,
                api="chat" if mode == "chat" else "completions",
            ),
        )
        prompts = [engine.encode(t) for t in texts]
        sent = [engine.encode(engine.tokenizer.decode(p, skip_special_tokens=True)) for p in prompts]
        true = truth(model, sent)
        best = np.argsort(-true, 1)[:, :20]
        watch = sorted(
            {*best.ravel().tolist(), *np.random.default_rng(0).integers(model.size, size=200).tolist()}
        )
        got = engine.score(prompts, watch)
    known, t = ~np.isnan(got.logits), true[:, watch]
    np.testing.assert_allclose(got.logits[known], t[known], atol=1e-4)
    claimed = ~known & ~np.isnan(got.bound)[:, None]
    assert (t[claimed] <= np.broadcast_to(got.bound[:, None], t.shape)[claimed] + 1e-4).all()
    listed = np.zeros_like(true, bool)
    np.put_along_axis(listed, best, True, 1)
    share = known[listed[:, watch]].mean()
    print(
        naming,
        mode,
        f"{share:.2f} of the listed values are known, {np.isnan(got.bound).mean():.2f} of the rows "
        "without a bound",
    )
    if naming in ("ids", "pieces") or naming == "bytes" and mode == "chat" and "sentence_piece" not in folder:
        assert share == 1
    assert (
        share > (0 if "sentence_piece" in folder and naming in ("decoded", "said", "bare") else 0.25) - 1e-9
    )  # there every word is two tokens


def test_several_ids_with_one_text_are_unknown_and_no_bound_is_claimed(tmp_path):
    model = RandomModel(sentence_piece())
    joys = [model.tokenizer.convert_tokens_to_ids(p) for p in ("▁joy", "joy")]
    names = TokenNames(model.tokenizer)
    listed = [("joy", None), ("only", None)]
    meant = names.resolve(listed)
    assert meant[("joy", None)] == tuple(sorted(joys)) and meant[("only", None)] == (
        model.tokenizer.convert_tokens_to_ids("▁only"),
    )
    kept = names.resolve([("joy", None), (" only", None)])  # this server keeps blanks
    assert kept[("joy", None)] == (joys[1],)
    assert len(names.resolve([("\n", None)])[("\n", None)]) == 2  # a piece, and the byte token
    assert names.resolve([("<0x0A>", None)])[("<0x0A>", None)] == (
        model.tokenizer.convert_tokens_to_ids("<0x0A>"),
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_lists_of_names(world_names, data):
    "Of any 20 tokens, named in any way: each name's ids hold the right one"
    tokenizer, names = world_names
    ids = data.draw(st.lists(st.integers(3, len(tokenizer) - 1), min_size=1, max_size=20, unique=True))
    naming, chat = data.draw(st.sampled_from(NAMINGS[:-1])), data.draw(st.booleans())
    from fake_server import token_name

    from mlcllm.openai_engine import _named

    said = {i: token_name(tokenizer, i, naming, chat) for i in ids}
    named = {i: _named(s["token"], s.get("bytes")) for i, s in said.items()}
    meant = names.resolve(list(named.values()))
    for i, n in named.items():
        assert i in meant[n], (naming, chat, i, said[i], meant[n])


@pytest.fixture(scope="module", params=["tiny", "sentence_piece"])
def world_names(request):
    tokenizer = load_tokenizer("tiny") if request.param == "tiny" else sentence_piece()
    return tokenizer, TokenNames(tokenizer)


@pytest.mark.parametrize("mode", ["plain", "chat"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_written_tokens_are_right_or_refused_in_one_line(world, naming, mode):
    folder, model = world
    if "llama3" in folder and (mode == "plain" or naming not in ("text", "bytes")):
        pytest.skip("seen with the smaller ones")
    refused = 0
    with FakeServer(model, mode, naming=naming) as server:
        engine = load_openai(
            "tiny",
            dict(
                base_url=server.url,
                tokenizer=folder,
                cache=False,
                api="chat" if mode == "chat" else "completions",
            ),
        )
        for w in WORDS[:6]:
            p = engine.encode(f"Say {w}:")
            sent = engine.encode(engine.tokenizer.decode(p, skip_special_tokens=True))
            try:
                (g,) = engine.generate([p], 6)
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error) and "cannot be told" in str(error), str(error)
                continue
            assert g.token_ids == model.one(sent, 6).token_ids
    if naming in ("ids", "pieces"):
        assert not refused  # bytes do not tell a comma from the byte token of a comma
    print(naming, mode, refused, "of 6 refused")


@pytest.mark.parametrize("mode, naming", [("plain", "text"), ("chat", "bytes"), ("full", "ids")])
def test_another_tokenizer_is_noticed(world, mode, naming):
    folder, model = world
    if folder == "tiny":
        pytest.skip("it is the other one")
    api = dict(plain="completions", chat="chat", full="full")[mode]
    with FakeServer(model, mode, naming=naming) as server:
        engine = load_openai(
            "tiny", dict(base_url=server.url, tokenizer="tiny", cache=False, api=api, retries=0)
        )
        said = []
        for w in WORDS:
            try:
                engine.generate([engine.encode(f"Say {w}:")], 6)
            except ValueError as error:
                said.append(str(error))
        assert len(said) > len(WORDS) / 2 and all("\n" not in s for s in said)
        assert any("backend option tokenizer" in s for s in said)


def test_the_right_tokenizer_is_not_accused(world):
    folder, model = world
    if "llama3" in folder:
        pytest.skip("seen with the smaller ones")
    for naming in NAMINGS:
        with FakeServer(model, "chat", naming=naming) as server:
            engine = load_openai("tiny", dict(base_url=server.url, tokenizer=folder, cache=False, api="chat"))
            for w in WORDS:
                try:
                    engine.generate([engine.encode(f"Say {w}:")], 6)
                except ValueError as error:
                    assert "cannot be told" in str(error) and "own" not in str(error), str(error)


# ---- several ids of the same bytes ----


def like_gemma():
    """A trained BPE that adds no blank in front, with a token for each byte: a newline is a piece, and a byte
    token that the tokenizer never writes
    """
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.Replace(" ", "▁")
    texts = [f"Say {w}:\nEmotion(s): {w}, {v}\n" for w in WORDS for v in WORDS]
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"]))
    pieces = sorted(t.get_vocab(), key=t.get_vocab().get) + [f"<0x{b:02X}>" for b in range(256)]
    merges = [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]]
    vocab = {p: i for i, p in enumerate(pieces)}
    t.model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=t, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


class Gemma(RandomModel):
    "Writes a newline second; byte tokens are improbable"

    def logits(self, ids):
        z = super().logits(ids)
        z[self.tokenizer.convert_tokens_to_ids([f"<0x{b:02X}>" for b in range(256)])] -= 30
        if len(ids) % 3 == 0:
            z[self.tokenizer.convert_tokens_to_ids("\n")] = 30
        return z


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma")
    like_gemma().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return str(folder), Gemma(load_tokenizer(str(folder)))


def test_of_ids_with_the_same_bytes_the_tokenizers_own_is_meant(gemma):
    tokenizer = gemma[1].tokenizer
    names, (newline, byte) = TokenNames(tokenizer), tokenizer.convert_tokens_to_ids(["\n", "<0x0A>"])
    assert names.bytes[newline] == names.bytes[byte] == b"\n" and tokenizer.encode("\n") == [newline]
    for name in (("\n", None), ("\n", b"\n")):
        assert names.resolve([name])[name] == (newline,)
        assert names.resolve([name, (" joy", None)])[name] == (newline,)
    assert names.resolve([("<0x0A>", None)]) == {("<0x0A>", None): (byte,)}
    assert names.twins(None, False) == 0 and names.also[newline] == [byte]
    byte_only = [("\ufffd", bytes([200]))]  # has no piece
    assert names.resolve(byte_only)[byte_only[0]] == (tokenizer.convert_tokens_to_ids("<0xC8>"),)


def test_where_the_tokenizer_writes_none_of_them_they_stay_unknown():
    for tokenizer in (sentence_piece(), load_tokenizer("tiny")):
        assert TokenNames(tokenizer).unwritten == {}


@pytest.mark.parametrize("mode, naming", [("plain", "text"), ("chat", "bytes"), ("llama-cpp", "halved")])
def test_a_newline_that_two_ids_write_is_read_and_written(gemma, mode, naming):
    folder, model = gemma
    api = "chat" if mode == "chat" else "completions"
    with FakeServer(model, mode, naming=naming) as server:
        engine = load_openai("tiny", dict(base_url=server.url, tokenizer=folder, cache=False, api=api))
        (newline,) = engine.tokenizer.encode("\n", add_special_tokens=False)
        for w in WORDS[:6]:
            p = engine.encode(f"Say {w}:")
            sent = engine.encode(engine.tokenizer.decode(p, skip_special_tokens=True))
            (g,) = engine.generate([p], 3, watch_ids=[newline])
            assert g.token_ids == model.one(sent, 3).token_ids and newline in g.token_ids
            k = g.token_ids.index(newline)
            rows = truth(model, [list(sent) + list(g.token_ids[:k])])
            assert g.logits[k, 0] == pytest.approx(rows[0, newline], abs=1e-4)
        assert not any("share theirs" in note for note in engine.notes)


@pytest.mark.parametrize(
    "listed, value",
    [
        ([(" joy", -0.5), ("\n", -2.0), (",", -3.0)], -2.0),
        ([(" joy", -0.5), ("\n", -2.0), (",", -3.0), ("\n", -9.0)], -2.0),  # the byte token comes later
        ([(" joy", -0.5), ("\n", -9.0), (",", -3.0)], None),  # a table: its value has taken the place
        ([("\n", -0.1), (",", -3.0)], -0.1),
    ],
)
def test_the_value_of_another_id_is_not_taken_for_the_newlines(gemma, listed, value):
    tokenizer = gemma[1].tokenizer
    newline, byte = tokenizer.convert_tokens_to_ids(["\n", "<0x0A>"])
    top = [((text, None), v) for text, v in listed]
    (step,) = _meaning([(top[0][0], top[0][1], top)], lambda: TokenNames(tokenizer))
    assert step.values.get(newline) == value and byte in step.unsure
    assert (newline in step.unsure) == (value is None)
