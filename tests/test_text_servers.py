"Servers that give no log-probabilities: what can be had there, and one line for everything else."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_server import FakeServer, Handler
from notebooks import refusal, run_short

from mlcllm import Estimator
from mlcllm.data import load_docs
from mlcllm.engines import Engine, load_engine
from mlcllm.methods import (
    ESTIMATORS,
    EstimatorSpec,
    choose_methods,
    estimate,
    parse_method,
    register_estimator,
    served_methods,
    step_estimator,
)
from mlcllm.openai_engine import load_openai
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import PromptConfig

DOCS, TRAIN = load_docs("demo", "test", n_docs=2), load_docs("demo", "train")
CONFIG, PROMPT = PromptConfig(shots=2), "Input: what a day\nEmotion(s):"
WITHOUT = ("none", "absent", "unsupported")  # modes of the server
ONLY_TEXT = "methods that need only text: hard, sampled, verbalized"


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


@pytest.fixture(autouse=True)
def no_key_and_no_waits(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123456")
    monkeypatch.setattr("mlcllm.openai_engine.time.sleep", lambda seconds: None)


def options(server, **more):
    return dict(base_url=server.url, tokenizer="tiny", cache=False, retries=1) | more


class Sure:
    "The bundled model, which says of everything that 40 percent would choose it"

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def generate(self, *args):
        return [replace(g, text=" 40\n\n") for g in self.engine.generate(*args)]


def says(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


# ---- the engine ----


@pytest.mark.parametrize("mode", WITHOUT)
@pytest.mark.parametrize("api", [None, "completions", "chat"])
def test_it_writes_what_the_model_writes_and_says_what_it_lacks(tiny, mode, api):
    prompts = [tiny.encode(PROMPT), tiny.encode("Input: I miss you\nEmotion(s):")]
    with FakeServer(tiny, mode) as server:
        engine = load_openai("tiny", options(server, api=api))
        assert engine.text_only == f"{server.url}: the model 'tiny' gives no log-probabilities"
        assert engine.api == (api or "completions") and engine.text_only in engine.notes[0]
        for stop in ([], ["\n"]):
            got = engine.generate([*prompts, prompts[0]], 12, stop)
            own = tiny.generate([*prompts, prompts[0]], 12, stop)
            assert [(g.text, g.finish_reason) for g in got] == [(g.text, g.finish_reason) for g in own]
        drawn = engine.sample(prompts, 3, 6, seed=1)
        texts = [[g.text for g in row] for row in drawn]
        assert texts == [[g.text for g in row] for row in engine.sample(prompts, 3, 6, seed=1)]
        for call in (
            lambda: engine.score(prompts, [5]),
            lambda: engine.generate(prompts, 3, [], [5]),
        ):
            assert "gives no log-probabilities, which are needed here" in says(call)
        refused = says(lambda: engine.generate(prompts, 3, allowed=lambda written: [5]))
        assert "decoding='free'" in refused


def test_a_server_with_log_probabilities_has_nothing_to_say(tiny):
    assert tiny.text_only == ""
    for mode in ("full", "plain", "chat"):
        with FakeServer(tiny, mode) as server:
            assert load_openai("tiny", options(server)).text_only == ""


@pytest.mark.parametrize("mode", WITHOUT)
def test_it_is_found_out_once_and_again_when_it_changes(tiny, tmp_path, mode):
    kept = str(tmp_path / "kept.sqlite")
    with FakeServer(tiny, mode) as server:
        first = load_openai("tiny", options(server, cache=kept))
        identity = first.model_hash
        (answer,) = first.generate([tiny.encode(PROMPT)], 6)
        asked = len(server.questions)
        second = load_openai("tiny", options(server, cache=kept))
        assert second.model_hash == identity and second.text_only
        assert len(server.questions) - asked <= 5  # they found out with more than that
        assert second.generate([tiny.encode(PROMPT)], 6)[0].text == answer.text
        assert second.stats["cached_answers"] == 1
        server.mode = "plain"
        with pytest.warns(UserWarning, match="answers a question otherwise"):
            third = load_openai("tiny", options(server, cache=kept))
            assert third.model_hash != identity and third.text_only == ""
        assert third.score([tiny.encode(PROMPT)], [5]).logits.shape == (1, 1)


def test_another_model_is_noticed_by_what_it_writes(tiny, tmp_path):
    kept = str(tmp_path / "kept.sqlite")
    with FakeServer(tiny, "none") as server:
        identity = load_openai("tiny", options(server, cache=kept)).model_hash
        server.engine = Sure(tiny)
        with pytest.warns(UserWarning, match="another model: the stored answers are not used"):
            assert load_openai("tiny", options(server, cache=kept)).model_hash != identity


def test_one_that_does_not_answer_without_them_either_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(
        Handler, "answer", lambda self, body, fault: self.refuse(400, "logprobs is not supported")
    )
    with FakeServer(tiny) as server:
        said = says(lambda: load_openai("tiny", options(server)))
    assert "gives no log-probabilities, and without them it does not answer either" in said


def test_the_first_words_count_towards_the_budget(tiny):
    with FakeServer(tiny, "none") as server:
        assert "the budget is used up" in says(lambda: load_openai("tiny", options(server, max_tokens=120)))


def test_an_answer_with_the_key_is_not_used(tiny, monkeypatch):
    with FakeServer(tiny, "none") as server:
        engine = load_openai("tiny", options(server))
        monkeypatch.setattr("mlcllm.openai_engine.holds_secret", lambda text: True)
        assert "writes a secret" in says(lambda: engine.generate([tiny.encode(PROMPT)], 3))


@pytest.mark.parametrize("refused", ["top_p", "max_tokens", "both"])
def test_a_model_that_takes_other_parameters_is_asked_with_those(tiny, monkeypatch, refused):
    bodies, answer = [], Handler.answer

    def picky(self, body, fault):
        bodies.append(body)
        if refused != "top_p" and "max_tokens" in body:
            return self.refuse(
                400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            )
        if refused != "max_tokens" and {"temperature", "top_p"} <= set(body):
            return self.refuse(400, "`temperature` and `top_p` cannot both be specified for this model.")
        return answer(self, body, fault)

    prompts = [tiny.encode(PROMPT), tiny.encode("Input: I miss you\nEmotion(s):")]
    with FakeServer(tiny, "none") as server:
        expected = load_openai("tiny", options(server, api="chat"))
        wanted = (
            [g.text for g in expected.generate(prompts, 5)],
            drawn_texts(expected.sample(prompts, 3, 5, seed=2)),
        )
    monkeypatch.setattr(Handler, "answer", picky)
    with FakeServer(tiny, "none") as server:
        engine = load_openai("tiny", options(server, api="chat", concurrency=1))
        got = [g.text for g in engine.generate(prompts, 5)], drawn_texts(engine.sample(prompts, 3, 5, seed=2))
        assert got == wanted
        name = "max_tokens" if refused == "top_p" else "max_completion_tokens"
        last = bodies[-1]
        assert name in last and last["temperature"] == 1 and ("top_p" in last) == (refused == "max_tokens")
        refusals = [b for b in bodies if "top_p" in b and refused != "max_tokens"]
        assert len(refusals) <= 1  # said once, and remembered


def test_what_a_server_says_of_another_parameter_is_passed_on(tiny, monkeypatch):
    with FakeServer(tiny, "none") as server:
        engine = load_openai("tiny", options(server, api="chat"))
        monkeypatch.setattr(Handler, "answer", lambda self, *_: self.refuse(400, "seed is not supported"))
        assert "seed is not supported" in says(lambda: engine.sample([tiny.encode(PROMPT)], 2, 5, seed=1))


def test_a_prompt_that_is_too_long_renames_nothing(tiny, monkeypatch):
    answer = Handler.answer
    told = (
        "'max_tokens' or 'max_completion_tokens' is too large: 5. This model's maximum context length is 40."
    )

    def short(self, body, fault):
        return self.refuse(400, told) if len(str(body)) > 900 else answer(self, body, fault)

    with FakeServer(tiny, "none") as server:
        engine = load_openai("tiny", options(server, api="completions"))
        monkeypatch.setattr(Handler, "answer", short)
        assert "maximum context length" in says(lambda: engine.generate([tiny.encode("word " * 300)], 5))
        assert engine.generate([tiny.encode(PROMPT)], 5)[0].text


def drawn_texts(drawn):
    return [[g.text for g in row] for row in drawn]


def test_greedy_answers_of_a_vllm_server_are_not_penalised(tiny, monkeypatch):
    bodies, reply = [], Handler.reply
    monkeypatch.setattr(Handler, "reply", lambda self, body, *a: bodies.append(body) or reply(self, body, *a))
    with FakeServer(tiny, "full") as server:
        engine = load_openai("tiny", options(server))
        bodies.clear()
        engine.generate([tiny.encode(PROMPT)], 5, [], [5])
    assert bodies and all(b["repetition_penalty"] == 1 and b["temperature"] == 0 for b in bodies)


@pytest.mark.parametrize("mode", ["full", "plain", "none"])
def test_draws_of_different_prompts_have_seeds_of_their_own(tiny, monkeypatch, mode):
    bodies, reply = [], Handler.reply

    def seen(self, body, *args):
        bodies.append(body)
        return reply(self, body, *args)

    monkeypatch.setattr(Handler, "reply", seen)
    prompts = [tiny.encode(PROMPT), tiny.encode("Input: I miss you\nEmotion(s):")]
    with FakeServer(tiny, mode) as server:
        engine = load_openai("tiny", options(server, concurrency=1))
        engine.model_hash  # noqa: B018
        seeds = []
        for asked in (prompts, prompts[::-1]):
            bodies.clear()
            engine.sample(asked, 5, 4, seed=3)
            seeds.append([b["seed"] for b in bodies])
            assert all(b["temperature"] == 1 and "logprobs" not in b for b in bodies)
            assert all(b["top_p"] == 1 for b in bodies)
            more = ("top_k", "min_p", "repetition_penalty")
            expected = (0, 0, 1) if mode == "full" else (None, None, None)
            assert {tuple(b.get(k) for k in more) for b in bodies} == {expected}
    assert len(set(seeds[0])) == 10 and seeds[0][:5] == seeds[1][5:]


# ---- methods ----


@pytest.mark.parametrize("mode", WITHOUT)
def test_methods_that_need_text_are_those_of_the_model(tiny, mode):
    with FakeServer(tiny, mode) as server:
        engine = load_openai("tiny", options(server))
        hard, sampled = estimate(engine, DOCS, TRAIN, "hard,sampled+draws6", CONFIG).dists
        (own,) = estimate(tiny, DOCS, TRAIN, "hard", CONFIG).dists
        np.testing.assert_array_equal(hard.probs, own.probs)
        np.testing.assert_allclose(sampled.probs * 6, np.round(sampled.probs * 6), atol=1e-6)
        server.engine = Sure(tiny)
        made = estimate(engine, DOCS, TRAIN, "verbalized,hard", CONFIG)
    np.testing.assert_allclose(made.dists[0].probs, 0.4)
    assert made.costs.unread.tolist() == [0, 2]  # "40" names no label


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"hard", "sampled", "verbalized"}))
def test_every_other_method_is_one_line_that_names_what_works(name):
    assert ESTIMATORS[name].needs == "logprobs"
    engine = SimpleNamespace(text_only="http://x: the model 'm' gives no log-probabilities", draws=True)
    chosen = [parse_method("hard"), parse_method(name)]
    said = says(lambda: served_methods(chosen, engine, True))
    assert said == f"{engine.text_only}, which {name} reads; {ONLY_TEXT}"


@pytest.fixture
def registry():
    "What a test adds is gone afterwards"
    kept = dict(ESTIMATORS)
    yield
    ESTIMATORS.clear()
    ESTIMATORS.update(kept)


@pytest.mark.parametrize("needs", ["text", "logprobs"])
def test_a_method_of_ones_own_says_what_it_needs(registry, needs):
    spec = register_estimator(replace(step_estimator("hard", needs=needs), name="my_own"))
    engine, chosen = SimpleNamespace(text_only="none here"), choose_methods("my_own", DOCS.labels)
    if needs == "text":
        assert served_methods(chosen, engine, True) == chosen
    else:
        assert says(lambda: served_methods(chosen, engine, True)).startswith("none here, which my_own reads")
    odd = replace(spec, needs="txt")
    assert "did you mean 'text'" in says(lambda: register_estimator(odd, overwrite=True))


def test_log_probabilities_are_needed_unless_a_method_says_otherwise():
    assert EstimatorSpec.needs == "logprobs" and Engine.text_only == ""


# ---- runs and the estimator ----


def parameters(server, folder, **more):
    at = options(server, cache=str(folder / "kept.sqlite"))
    return dict(n_docs=2, n_dev=0, shots=2, backend="openai", backend_options=at) | more


def test_02_runs_with_what_needs_text_and_refuses_the_rest_before_it_begins(tiny, tmp_path):
    with FakeServer(Sure(tiny), "unsupported") as server:
        run_short(
            "02_alignment", tmp_path, **parameters(server, tmp_path, methods="verbalized,sampled+draws3")
        )
        run = read_run(find_runs(tmp_path / "runs", "02_alignment")[0])
        assert run["record"]["status"] == "done"
        assert {"verbalized", "sampled+draws3"} <= set(run["scores"].method)
        assert any("gives no log-probabilities" in w for w in run["record"]["warnings"])
        for more in (dict(methods="unary,verbalized"), dict(), dict(methods="paper")):
            said = refusal("02_alignment", tmp_path / "no", **parameters(server, tmp_path, **more))
            assert ONLY_TEXT in said and "\n" not in said
        forced = parameters(server, tmp_path, methods="hard", forced_first=True)
        assert "which forced_first reads" in refusal("02_alignment", tmp_path / "no", **forced)
        steps = {k: v for k, v in parameters(server, tmp_path).items() if k != "n_dev"}
        said = refusal("01_stepwise_logits", tmp_path / "no", **steps)
        assert "gives no log-probabilities, which label steps are read from" in said
        assert not list(tmp_path.glob("no/**/run.json"))


def test_the_estimator(tiny):
    texts = ["We won the cup!", "Who ate my lunch again?"]
    with FakeServer(Sure(tiny), "none") as server:
        at = dict(backend="openai", backend_options=options(server))
        est = Estimator("tiny", demos=TRAIN, method="verbalized", config=CONFIG, engine_options=at)
        np.testing.assert_allclose(est.predict_proba(texts).probs, 0.4)
        server.engine = tiny
        hard = Estimator(est.engine, demos=TRAIN, method="hard", config=CONFIG)
        assert hard.predict(texts) == Estimator(tiny, demos=TRAIN, method="hard", config=CONFIG).predict(
            texts
        )
        for method in (None, "unary"):
            other = Estimator(est.engine, demos=TRAIN, method=method, config=CONFIG)
            assert ONLY_TEXT in says(lambda other=other: other.predict_proba(texts))
