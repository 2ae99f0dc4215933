"""The token forest against transformers one prompt at a time: five families, with and without windows shorter
than the prompts, every kind of sharing.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import check_engine
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from mlcllm.data import load_docs
from mlcllm.engines import (
    Engine,
    Generation,
    HFEngine,
    Scored,
    encode_texts,
    end_of_text,
    find_model,
    load_engine,
)

TINY = Path(find_model("tiny"))

SHAPE = dict(
    vocab_size=600,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=None,
    pad_token_id=0,
)
SOFTCAPS = dict(query_pre_attn_scalar=16, attn_logit_softcapping=20.0, final_logit_softcapping=15.0)
FAMILIES = dict(
    llama=LlamaConfig(**SHAPE),
    qwen2=Qwen2Config(**SHAPE),
    qwen2_window=Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=24, max_window_layers=1),
    mistral=MistralConfig(**SHAPE, sliding_window=None),
    mistral_window=MistralConfig(**SHAPE, sliding_window=24),
    gemma2=Gemma2Config(**SHAPE, sliding_window=4096, **SOFTCAPS),
    gemma2_window=Gemma2Config(**SHAPE, sliding_window=24, **SOFTCAPS),
    phi3=Phi3Config(**SHAPE, sliding_window=None),
    phi3_window=Phi3Config(**SHAPE, sliding_window=24),
)
TOKENS = np.random.default_rng(0)


def draw(n):
    return TOKENS.integers(2, 500, n).tolist()


HEAD = draw(90)
DOCS = [HEAD + draw(n) for n in (1, 9, 10, 45)]
CASES = dict(
    questions=[d + q for d in DOCS for q in ([5], [6, 7], [6, 8, 9], draw(12))],
    duplicates=[DOCS[1], DOCS[1], DOCS[2], DOCS[1]],
    one_begins_another=[HEAD[:30], HEAD[:31], HEAD, HEAD + [4], HEAD + [4, 4]],
    single=[DOCS[3]],
    strangers=[draw(n) for n in (40, 3, 1, 70)],
    uneven=[[7], HEAD * 2, draw(200), HEAD + [3]],
)


@pytest.fixture(scope="module")
def tokenizer():
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["the quick brown fox, joy and fear"] * 9, vocab_size=300, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<e>")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tokenizer, tmp_path_factory):
    "A saved random model whose logits spread like those of a trained one"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[request.param], attn_implementation="eager")
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder):
    return load_engine(str(folder), gpu="cpu", dtype="float32")


@pytest.fixture(scope="module")
def plain(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def last_logits(model, prompt):
    return model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double().numpy()


@pytest.mark.parametrize("case", CASES)
def test_score_is_transformers_one_prompt_at_a_time(engine, plain, case):
    got, ids = engine.score(CASES[case], range(500)), list(range(500))
    assert got.logits.shape == (len(CASES[case]), 500) and got.logits.dtype == np.float32
    for prompt, z, lse in zip(CASES[case], got.logits, got.logsumexp):
        want = last_logits(plain, prompt)
        assert want.std() > 1
        np.testing.assert_allclose(z, want[ids], atol=1e-4, rtol=0)
        np.testing.assert_allclose(lse, np.log(np.exp(want - want.max()).sum()) + want.max(), atol=1e-4)


def test_bfloat16_is_as_near_as_bfloat16_allows(folder, engine):
    """Both ways round to 8 bits: the forest must not be further from float32 than one prompt at a time is,
    but for chance
    """
    ids, prompts = range(500), CASES["questions"] + CASES["uneven"]
    exact = engine.score(prompts, ids).logits
    fast, slow = (
        load_engine(str(folder), gpu="cpu", dtype="bfloat16", share_prefixes=share).score(prompts, ids).logits
        for share in (True, False)
    )
    assert (
        np.abs(fast - exact).mean() < 1.2 * np.abs(slow - exact).mean()
        and np.abs(fast - slow).mean() < 0.05 * exact.std()
    )


@pytest.mark.parametrize("n", [1, 500])
def test_any_number_of_watched_ids(engine, n):
    prompts, ids = CASES["questions"][:4], list(range(500))[-n:]
    whole = engine.score(prompts, range(500)).logits
    assert (engine.score(prompts, ids).logits == whole[:, -n:]).all()
    for g in engine.generate(prompts, 3, watch_ids=ids):
        assert g.logits.shape == (len(g.token_ids), n) and g.logprobs.shape == (len(g.token_ids),)


def test_generate_is_greedy_one_prompt_at_a_time(engine, plain):
    prompts = CASES["questions"][::3] + CASES["strangers"]
    for prompt, g in zip(prompts, engine.generate(prompts, 32, watch_ids=[3, 400])):
        text = list(prompt)
        for k, token in enumerate(g.token_ids):
            want = last_logits(plain, text)
            assert token == want.argmax()
            np.testing.assert_allclose(g.logits[k], want[[3, 400]], atol=1e-4)
            text.append(token)
        ended = g.token_ids[-1] == engine.tokenizer.eos_token_id
        assert g.finish_reason == ("eos" if ended else "length") and (ended or len(g.token_ids) == 32)


def test_neither_order_nor_company_matters(engine):
    prompts = CASES["questions"] + CASES["uneven"]
    whole = engine.score(prompts, [9]).logits
    shuffled = np.random.default_rng(1).permutation(len(prompts))
    np.testing.assert_allclose(
        engine.score([prompts[k] for k in shuffled], [9]).logits, whole[shuffled], atol=1e-4
    )
    np.testing.assert_allclose(engine.score(prompts[3:4], [9]).logits, whole[3:4], atol=1e-4)
    assert (engine.score(prompts, [9]).logits == whole).all()  # and twice is the same


def test_sharing_saves_what_is_shared(folder):
    engine = load_engine(str(folder), gpu="cpu", dtype="float32")
    engine.score(CASES["questions"], [1])
    distinct = {tuple(p[:n]) for p in CASES["questions"] for n in range(1, len(p) + 1)}
    assert engine.stats["tokens_in"] == sum(map(len, CASES["questions"]))
    assert (
        len(distinct) <= engine.stats["tokens_forwarded"] <= len(distinct) + 8 * len(DOCS)
    )  # a trie's nodes, but for short stretches that are cheaper to repeat


def longest_text(engine):
    "A prompt whose continuation has some text: half of a random model's tokens are unknown to the tokenizer"
    prompts = CASES["questions"] + CASES["uneven"]
    return max(zip(prompts, engine.generate(prompts, 20)), key=lambda pair: len(pair[1].text))


def test_one_model_behind_two_engines(folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    fast = HFEngine(model, tokenizer)
    slow = HFEngine(model, tokenizer, share_prefixes=False)
    again = HFEngine(model, tokenizer)
    wanted = slow.score(CASES["uneven"], [5]).logits
    for engine in (fast, again, slow, fast):
        np.testing.assert_allclose(engine.score(CASES["uneven"], [5]).logits, wanted, atol=1e-4)


def test_stop_strings_end_an_answer(engine):
    prompt, free = longest_text(engine)
    stop = free.text[3:5]
    got = engine.generate([prompt], 20, stop=[stop])[0]
    assert (
        got.finish_reason == "stop"
        and got.text == free.text[: free.text.find(stop)]
        and len(got.logits) == len(got.token_ids) < 20
    )


def test_what_cannot_be_asked(engine):
    with pytest.raises(ValueError, match="context holds 256"):
        engine.score([[1] * 257], [1])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        engine.score([[1], []], [1])
    with pytest.raises(ValueError, match="did you mean 'hf'"):
        load_engine("tiny", backend="hff")
    with pytest.raises(ValueError, match="did you mean 'small'"):
        load_engine("smal")


def test_a_model_that_cannot_share_runs_one_at_a_time(engine, plain, tokenizer, monkeypatch):
    monkeypatch.setattr(type(plain), "_can_set_attn_implementation", classmethod(lambda cls: False))
    with pytest.warns(UserWarning, match="one at a time"):
        slow = HFEngine(plain, tokenizer)
    np.testing.assert_allclose(
        slow.score(CASES["uneven"], [5]).logits, engine.score(CASES["uneven"], [5]).logits, atol=1e-4
    )


def test_an_architecture_that_the_forest_cannot_compute_is_noticed_and_runs_one_at_a_time(tokenizer):
    from transformers import GptOssConfig

    torch.manual_seed(0)
    config = GptOssConfig(
        **{**SHAPE, "head_dim": 16}, num_local_experts=4, num_experts_per_tok=2, sliding_window=24
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, std=2.0 if "sinks" in name else 0.2)
    with pytest.warns(UserWarning, match="attention sinks.*one at a time"):
        engine = HFEngine(model, tokenizer)
    assert not engine.share_prefixes and engine.stats["tokens_in"] == 0
    plain = [last_logits(model, p) for p in CASES["uneven"][1:]]
    np.testing.assert_allclose(engine.score(CASES["uneven"][1:], range(600)).logits, plain, atol=1e-3)


def test_a_model_without_attention_runs_one_at_a_time(tokenizer):
    from transformers import MambaConfig

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        MambaConfig(
            vocab_size=600,
            hidden_size=32,
            num_hidden_layers=2,
            state_size=4,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    with pytest.warns(UserWarning, match="one at a time"):
        engine = HFEngine(model, tokenizer)
    prompts = CASES["questions"][:3]
    assert engine.predict_memory(prompts, 5) > 0
    for prompt, z in zip(prompts, engine.score(prompts, range(600)).logits):
        np.testing.assert_allclose(z, last_logits(model, prompt), atol=1e-4)
    for prompt, g in zip(prompts, engine.generate(prompts, 5, watch_ids=[3])):
        for k, token in enumerate(g.token_ids):
            assert token == last_logits(model, prompt + list(g.token_ids[:k])).argmax()


def test_rotary_frequencies_that_depend_on_length_stay_right(tokenizer):
    torch.manual_seed(0)
    half = SHAPE["head_dim"] // 2
    rope = dict(
        rope_type="longrope",
        short_factor=[1.0] * half,
        long_factor=[4.0] * half,
        original_max_position_embeddings=128,
        rope_theta=10000.0,
    )
    config = Phi3Config(**SHAPE, original_max_position_embeddings=128, rope_parameters=rope)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    prompts = [HEAD + draw(20), HEAD + draw(25), HEAD + draw(90)]
    wanted = [last_logits(model, p) for p in prompts]
    engine = HFEngine(model, tokenizer)
    np.testing.assert_allclose(engine.score(prompts, range(600)).logits, wanted, atol=1e-3)
    np.testing.assert_allclose(engine.score(prompts[:2], range(600)).logits, wanted[:2], atol=1e-3)
    assert engine.share_prefixes


def test_one_long_document_does_not_make_short_ones_expensive():
    from mlcllm.engines import build_forest, make_packs

    prompts = [HEAD + draw(8) for _ in range(60)] + [HEAD + draw(900)]
    packs = [p for g in build_forest(prompts) for p in make_packs(g.branches, 2048)]
    assert sum(len(p) for p in packs) == 61
    assert max(len(p) * max(map(len, p)) ** 2 for p in packs) <= 900**2  # scores: rows x width x width


def test_long_rows_are_attended_to_in_blocks(engine, plain, monkeypatch):
    import mlcllm.engines

    monkeypatch.setitem(mlcllm.engines._MAX_SCORES, "cpu", 1000)
    for prompt, z in zip(CASES["uneven"], engine.score(CASES["uneven"], range(500)).logits):
        np.testing.assert_allclose(z, last_logits(plain, prompt)[:500], atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_fused_operation_is_what_it_is_taken_for(monkeypatch, dtype, tolerance):
    "It is not public: this notices when it changes or goes, and the plain way is then taken"
    import mlcllm.engines

    q, k, v = (torch.randn(n, dtype=dtype) for n in ((3, 4, 2, 9, 16), (3, 4, 30, 16), (3, 4, 30, 16)))
    assert mlcllm.engines._FUSED is not None
    for seen in (None, (torch.rand(3, 1, 1, 9, 30) < 0.5) | (torch.arange(30) == 0)):
        got = mlcllm.engines._attend(q, k, v, seen, 0.25, None)
        with monkeypatch.context() as m:
            m.setattr(mlcllm.engines, "_FUSED", None)
            wanted = mlcllm.engines._attend(q, k, v, seen, 0.25, None)
        for a, b in zip(got, wanted):
            assert a.shape == b.shape and (a - b).abs().max() < tolerance


def test_traps_in_arguments(engine):
    with pytest.raises(ValueError, match="token id 600 is not in the model's vocabulary of 600"):
        engine.score(CASES["single"], [5, 600])
    prompt, free = longest_text(engine)
    assert (
        engine.generate(
            [prompt],
            20,
            stop=[
                "",
            ],
        )[0].text
        == free.text
    )
    assert (
        engine.generate([prompt], 20, stop=free.text[2:4])[0].text
        == free.text[: free.text.find(free.text[2:4])]
    )
    ids = load_engine("tiny", gpu="cpu").encode("a <|end|> b")
    assert (
        ids[0] == 0 and 1 not in ids[1:] and 0 not in ids[1:]
    )  # special tokens only where the tokenizer puts them


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda d: "", "there is no such folder"),
        (lambda d: d / "absent", "there is no such folder"),
        (lambda d: "./models/x", "there is no such folder"),
        (lambda d: d, "is a folder, but it holds no model that can be loaded"),
        (
            lambda d: [d, (d / "config.json").write_text("{")][0],
            "is a folder, but it holds no model that can be loaded",
        ),
        (
            lambda d: [
                d,
                *[
                    (d / f).write_bytes((TINY / f).read_bytes()[: 3000 if f.endswith("tensors") else None])
                    for f in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
                ],
            ][0],
            "is a folder, but it holds no model that can be loaded",
        ),
    ],
)
def test_models_that_cannot_be_loaded_are_one_clear_line(tmp_path, make, says):
    with pytest.raises(ValueError) as error:
        load_engine(make(tmp_path), gpu="cpu")
    assert says in str(error.value) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize("name", ["bundled", "llama3"])
def test_questions_tokenised_behind_their_common_start_are_the_same_tokens(name, request):
    from mlcllm.questions import binary_prompts, unary_prompts

    path = (
        TINY / "tokenizer.json"
        if name == "bundled"
        else request.getfixturevalue("data_root") / "tokenizers" / "llama3" / "tokenizer.json"
    )
    words = PreTrainedTokenizerFast(tokenizer_file=str(path))
    docs, demos = load_docs("demo", "test", n_docs=20), load_docs("demo", "train")
    for label_order in ("alphabetical", "reverse"):
        for questions in (
            unary_prompts(docs, demos),
            binary_prompts(docs, demos, both_orders=True, label_order=label_order),
        ):
            texts = [q.text for q in questions]
            assert encode_texts(words, texts) == words(texts, split_special_tokens=True).input_ids


class Naive(Engine):
    "As the notebook shows: another engine in a few lines"

    def __init__(self, model, tokenizer):
        super().__init__(tokenizer, model.config.max_position_embeddings)
        self.model = model

    def _check(self, prompts, ids, room=0):
        if (
            not all(map(len, prompts))
            or max(map(len, prompts), default=0) + room > self.max_length
            or max(ids, default=0) >= self.model.config.vocab_size
        ):
            raise ValueError("an empty or too long prompt, or an unknown id")
        self.stats["prompts"] += len(prompts)
        self.stats["tokens_in"] += sum(map(len, prompts))

    @torch.no_grad()
    def _last(self, p):
        return self.model(torch.tensor([list(p)])).logits[0, -1].float().numpy()

    def score(self, prompts, token_ids):
        self._check(prompts, token_ids)
        z = np.array([self._last(p) for p in prompts], np.float32).reshape(
            len(prompts), self.model.config.vocab_size
        )
        return Scored(z[:, list(token_ids)], np.logaddexp.reduce(z.astype(float), 1).astype(np.float32))

    def generate(self, prompts, max_new_tokens, stop=(), watch_ids=(), allowed=None):
        if max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        self._check(prompts, watch_ids, max_new_tokens)
        return [self._write(p, max_new_tokens, list(stop), list(watch_ids), allowed) for p in prompts]

    def _write(self, prompt, n, stop, watch, allowed):
        written, rows, logprobs, reason = (), [], [], None
        while reason is None:
            z = self._last((*prompt, *written))
            options = np.array(allowed(written) if allowed else range(len(z)))
            if not len(options):
                reason = "stop"
                break
            written += (int(options[z[options].argmax()]),)
            rows.append(z)
            logprobs.append(z[written[-1]] - np.logaddexp.reduce(z[options].astype(float)))
            _, text, reason = end_of_text(self.tokenizer, written, stop, self.eos, n)
            if reason is None and allowed and not allowed(written):
                reason = "stop"
        z = np.array(rows, np.float32)
        return Generation(
            written,
            text,
            z[:, watch],
            np.logaddexp.reduce(z.astype(float), 1).astype(np.float32),
            reason,
            np.array(logprobs, np.float32),
        )


def test_every_engine_conforms():
    reference = load_engine("tiny", gpu="cpu", share_prefixes=False)
    check_engine(load_engine("tiny", gpu="cpu"), reference)
    check_engine(
        Naive(load_engine("tiny", gpu="cpu", share_prefixes=False).model, reference.tokenizer), reference
    )
    assert Engine(reference.tokenizer).predict_memory([[1]]) == 0
    with pytest.raises(NotImplementedError):
        Engine(reference.tokenizer).score([[1]], [1])


def test_an_engine_tells_of_every_prompt_that_it_has_finished(tokenizer):
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"])
    for share_prefixes in (True, False):
        engine, told = HFEngine(model, tokenizer, share_prefixes, pack_tokens=40), []
        engine.on_progress = told.append
        engine.score(CASES["questions"], [5, 6])
        assert sum(told) == len(CASES["questions"]) and len(told) > 1
        told.clear()
        engine.generate(CASES["duplicates"], 3)
        assert sum(told) == len(set(map(tuple, CASES["duplicates"])))
