"Servers of the local world: how many log-probabilities they give, what they refuse, and how that is learned."

import json
import sqlite3
import zlib

import numpy as np
import pytest
from fake_server import FakeServer

from mlcllm.engines import load_engine
from mlcllm.openai_engine import _space, _told, load_openai

KEY, QUESTION = "secret-key-123456", "Input: what a day\nEmotion(s):"
CHAT = dict(api="chat")


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    waits = []
    monkeypatch.setattr("mlcllm.openai_engine.time.sleep", waits.append)
    return waits


def engine_at(server, **more):
    return load_openai("tiny", dict(base_url=server.url, tokenizer="tiny", cache=False) | more)


def asked(server):
    return [n for _, n, _ in server.questions]


def true_values(tiny, ids):
    got = tiny.score([tiny.encode(QUESTION)], ids)
    return got.logits - got.logsumexp[:, None]


IDS = list(range(300, 500))


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_as_many_are_asked_for_as_a_server_gives(tiny, api):
    with FakeServer(tiny, "plain", most=10**6) as server:
        engine = engine_at(server, api=api)
        got = engine.score([tiny.encode(QUESTION)], IDS)
    assert asked(server) == [4000, 4000] and "the 4,000 most probable" in engine.notes[0]
    true, seen = true_values(tiny, IDS), ~np.isnan(got.logits)
    np.testing.assert_allclose(got.logits[seen], true[seen], atol=1e-3)
    assert seen.mean() > 0.5 and engine.stats["values_cut_off"] == (~seen).sum()
    with FakeServer(tiny, "plain", most=10**6) as server:
        fewer = engine_at(server, api=api, top_logprobs=20)
        few = fewer.score([tiny.encode(QUESTION)], IDS)
    assert asked(server) == [20, 20] and np.isnan(few.logits).sum() > np.isnan(got.logits).sum()


@pytest.mark.parametrize(
    "server, questions, then",
    [
        (dict(most=20), [4000], 20),
        (dict(most=150), [4000], 150),
        (dict(most=100, strict=True), [4000, 100], 100),
        (dict(most=20, strict=True), [4000, 100, 20], 20),
        (dict(most=5, strict=True), [4000, 100, 20, 5], 5),
        (dict(most=5), [4000, 100, 20], 20),
    ],
)
def test_where_a_server_gives_fewer_it_is_asked_for_fewer(tiny, server, questions, then):
    with FakeServer(tiny, "plain", **server) as s:
        engine = engine_at(s, api="completions")
        engine.score([tiny.encode(QUESTION)], IDS)
    assert asked(s) == [*questions, then]
    assert f"the {min(then, s.most)} most probable" in engine.notes[0] and len(engine.notes) == 1


def test_a_number_that_a_server_refuses_is_said_with_the_option(tiny):
    with FakeServer(tiny, "plain", strict=True) as server:
        engine = engine_at(server, api="completions", top_logprobs=50)
        with pytest.raises(ValueError, match="must be between 0 and 20.*option top_logprobs") as error:
            engine.score([tiny.encode(QUESTION)], IDS)
    assert asked(server) == [50] and "\n" not in str(error.value)


@pytest.mark.parametrize("api", [None, "completions"])
def test_how_many_is_learned_once(tiny, tmp_path, api):
    at = dict(cache=str(tmp_path / "kept.sqlite"), api=api)
    with FakeServer(tiny, "plain", most=100, strict=True) as server:
        first = engine_at(server, **at)
        first.score([tiny.encode(QUESTION)], IDS)
        n = len(server.questions)
        again = engine_at(server, **at)
        again.score([tiny.encode(QUESTION)], IDS)
    assert asked(server)[n:] == [100] and again.stats["cached_answers"] == 1
    assert again.model_hash == first.model_hash and again.notes == first.notes


def test_the_number_does_not_change_whose_answers_these_are(tiny, tmp_path):
    at = dict(cache=str(tmp_path / "kept.sqlite"), api="completions")
    with FakeServer(tiny, "plain", most=10**6) as server:
        names = {engine_at(server, **at, top_logprobs=n).model_hash for n in (20, 500)}
        names.add(engine_at(server, **at).model_hash)
        assert len(names) == 1
        stored = engine_at(server, **at).client.kept.models(f"{server.url} tiny")
    assert [said.get("n_asked") for _, _, said, _ in stored] == [None, 4000]
    for _, card, said, space in stored:
        assert len(said["values"]) == 20 and space == _space(card, said)


def test_a_model_that_was_stored_before_keeps_its_answers(tiny, tmp_path):
    at = dict(cache=str(tmp_path / "kept.sqlite"), api="chat")
    with FakeServer(tiny, "chat") as server:
        first = engine_at(server, **at)
        first.score([tiny.encode(QUESTION)], IDS)
        with sqlite3.connect(tmp_path / "kept.sqlite") as db:
            (said,) = db.execute("select said from models").fetchone()
            before = {k: v for k, v in json.loads(said).items() if k != "n_asked"}
            db.execute("update models set said=?", (json.dumps(before),))
        again = engine_at(server, **at)
        again.score([tiny.encode(QUESTION)], IDS)
        assert again.model_hash == first.model_hash and again.stats["cached_answers"] == 1


def test_long_answers_have_fewer_at_each_token(tiny):
    with FakeServer(tiny, "plain", most=10**6) as server:
        engine = engine_at(server, api="completions")
        engine.score([tiny.encode(QUESTION)], [5])
        server.reply, n = None, len(server.questions)
        for new in (25, 50, 5000):
            assert engine._most_at_once(new) == max(20, 100_000 // new)
        engine.n_asked = 5
        assert engine._most_at_once(5000) == 5 and len(server.questions) == n


def test_many_that_fail_are_asked_for_once_more_and_then_left(tiny, monkeypatch):
    from fake_server import Handler

    answer = Handler.answer

    def fails_at_many(self, body, fault):
        many = body["logprobs"] > 20
        self.server.failed["many"] += many
        if many and self.server.failed["many"] <= self.server.fail:
            return self.refuse(500, "out of memory")
        answer(self, body, fault)

    monkeypatch.setattr(Handler, "answer", fails_at_many)
    for fail, then in ((10**6, 20), (2, 4000)):
        with FakeServer(tiny, "plain", most=10**6) as server:
            server.fail = fail
            engine = engine_at(server, api="completions")
            engine.model_hash
        assert engine.n_asked == then and server.failed["many"] == 3


def test_a_large_answer_is_kept_compressed_and_a_plain_one_is_read(tiny, tmp_path):
    at = dict(cache=str(tmp_path / "kept.sqlite"), api="completions")
    with FakeServer(tiny, "plain", most=10**6) as server:
        first = engine_at(server, **at).score([tiny.encode(QUESTION)], IDS)
        with sqlite3.connect(tmp_path / "kept.sqlite") as db:
            (kept,) = db.execute("select answer from answers").fetchone()
            said = zlib.decompress(kept)
            assert isinstance(kept, bytes) and len(kept) < len(said) / 2
        for form in (kept, said.decode()):
            with sqlite3.connect(tmp_path / "kept.sqlite") as db:
                db.execute("update answers set answer=?", (form,))
            engine = engine_at(server, **at)
            np.testing.assert_array_equal(engine.score([tiny.encode(QUESTION)], IDS).logits, first.logits)
            assert engine.stats["cached_answers"] == 1
        for damaged in (kept[:-9], b"", b"\xff"):
            with sqlite3.connect(tmp_path / "kept.sqlite") as db:
                db.execute("update answers set answer=?", (damaged,))
            engine = engine_at(server, **at)
            np.testing.assert_array_equal(engine.score([tiny.encode(QUESTION)], IDS).logits, first.logits)
            assert engine.stats["cached_answers"] == 0


# ---- token ids that a server fails at ----


def test_a_server_that_fails_at_ids_is_asked_twice_and_never_again(tiny, tmp_path, no_waits):
    at = dict(cache=str(tmp_path / "kept.sqlite"))
    with FakeServer(tiny, "llama-cpp") as server:
        engine = engine_at(server, **at)
        got = engine.score([tiny.encode(QUESTION)], IDS)
        assert [text for *_, text in server.questions] == [False, True, False, True] and not no_waits
        assert engine.api == "completions" and np.isfinite(got.logits).mean() > 0.5
        again = engine_at(server, **at)
        assert again.api == "completions" and len(server.questions) == 5


def test_one_failure_at_ids_is_not_what_the_server_is(tiny, monkeypatch, no_waits):
    from fake_server import Handler

    answer, done = Handler.answer, []

    def first_fails(self, body, fault):
        done.append(1)
        answer(self, body, "500" if len(done) == 1 else fault)

    monkeypatch.setattr(Handler, "answer", first_fails)
    with FakeServer(tiny, "full") as server:
        engine = engine_at(server)
        assert engine.api == "full" and not no_waits and not engine.notes
        true = true_values(tiny, IDS)
        np.testing.assert_allclose(engine.score([tiny.encode(QUESTION)], IDS).logits, true, atol=1e-3)


def test_a_server_that_fails_at_all_is_asked_again_as_ever(tiny, no_waits):
    with FakeServer(tiny, "full", faults=1.0) as server:
        server.rng = type("Always", (), dict(random=lambda self: 0, choice=lambda self, of: "500"))()
        with pytest.raises(ValueError, match="the server itself fails"):
            engine_at(server, retries=3)
    assert no_waits[:3] == [0.25, 0.5, 1.0]


def test_logits_all_is_named(tiny, monkeypatch):
    from fake_server import Handler

    said = "logprobs is not supported for models created with logits_all=False"
    monkeypatch.setattr(Handler, "answer", lambda self, body, fault: self.refuse(500, said))
    with FakeServer(tiny) as server, pytest.raises(ValueError, match="--logits_all true") as error:
        engine_at(server, retries=0)
    assert "\n" not in str(error.value)


# ---- Ollama ----


def test_ollama_gives_its_twenty_in_turns(tiny, no_waits):
    with FakeServer(tiny, "ollama") as server:
        engine = engine_at(server, retries=1)
        got = engine.score([tiny.encode(QUESTION)], IDS)
    assert engine.api == "chat" and engine.n_asked == 20 and "the 20 most probable" in engine.notes[0]
    true, seen = true_values(tiny, IDS), ~np.isnan(got.logits)
    np.testing.assert_allclose(got.logits[seen], true[seen], atol=1e-3)
    assert [n for chat, n, _ in server.questions if chat] == [4000, 100, 20, 20]


@pytest.mark.parametrize("api", [None, "chat", "completions"])
def test_an_ollama_without_log_probabilities_is_one_line(tiny, api):
    with FakeServer(tiny, "old-ollama") as server:
        engine = engine_at(server, api=api, retries=0)
        assert "gives no log-probabilities (take Ollama 0.12.11 or later" in engine.text_only
        with pytest.raises(ValueError, match="Ollama 0.12.11 or later") as error:
            engine.score([tiny.encode(QUESTION)], IDS)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


# as ToChatCompletion writes it (github.com/ollama/ollama, openai/openai.go)
RECORDED = dict(
    id="chatcmpl-1",
    object="chat.completion",
    created=1234567890,
    model="tiny",
    system_fingerprint="fp_ollama",
    choices=[
        dict(
            index=0,
            message=dict(role="assistant", content="joy"),
            finish_reason="length",
            logprobs=dict(
                content=[
                    dict(
                        token=" joy",
                        logprob=-0.1,
                        bytes=[32, 106, 111, 121],
                        top_logprobs=[
                            dict(token=" joy", logprob=-0.1, bytes=[32, 106, 111, 121]),
                            dict(token=" fear", logprob=-3.0, bytes=[32, 102, 101, 97, 114]),
                        ],
                    )
                ]
            ),
        )
    ],
    usage=dict(prompt_tokens=5, completion_tokens=1, total_tokens=6),
)


@pytest.mark.parametrize("with_bytes", [True, False])
def test_an_answer_in_ollamas_form_is_read(tiny, monkeypatch, with_bytes):
    from fake_server import Handler

    answer = json.loads(json.dumps(RECORDED))
    if not with_bytes:  # of versions before the bytes came
        (step,) = answer["choices"][0]["logprobs"]["content"]
        for token in (step, *step["top_logprobs"]):
            del token["bytes"]
    monkeypatch.setattr(Handler, "answer", lambda self, body, fault: self.send(200, answer))
    with FakeServer(tiny) as server:
        engine = engine_at(server, **CHAT)
        ids = [tiny.tokenizer.encode(f" {w}", add_special_tokens=False)[0] for w in ("joy", "fear", "anger")]
        got = engine.score([tiny.encode(QUESTION)], ids)
        (written,) = engine.generate([tiny.encode(QUESTION)], 1)
    np.testing.assert_allclose(got.logits[0, :2], [-0.1, -3.0], atol=1e-6)
    assert np.isnan(got.logits[0, 2]) and got.bound[0] == np.float32(-3.0)
    assert written.text == " joy" and written.finish_reason == "length"
    assert _told(answer)["written"] == repr((" joy", b" joy" if with_bytes else None))
