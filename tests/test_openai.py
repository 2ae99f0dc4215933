"A model behind a server: the same label steps as without one, through faults, kills and budgets; never a key in what is said."
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conformance import check_engine
from fake_server import FakeServer
from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.openai_engine import load_openai
from mlcllm.questions import answer_probs, unary_prompts
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import Asking, ask_prompts, make_reader, trace_docs
from notebooks import run_short

ROOT, KEY = Path(__file__).resolve().parent.parent, "secret-key-123456"
DOCS, TRAIN = load_docs("demo", "dev+test"), load_docs("demo", "train")


@pytest.fixture(scope="module")
def tiny(): return load_engine("tiny", gpu="cpu")


@pytest.fixture(autouse=True)
def key(monkeypatch): monkeypatch.setenv("OPENAI_API_KEY", KEY)


def options(server, **more): return dict(base_url=server.url, tokenizer="tiny", cache=False) | more


def traces_of(engine, docs, **how):
    asking = Asking(shots=4, label_format="comma", **how)
    return trace_docs(engine, make_reader(engine, docs, asking), ask_prompts(docs, TRAIN, asking), 18, "first_token", asking.decoding)


@pytest.mark.parametrize("decoding", ["free", "constrained"])
def test_label_steps_are_those_of_the_model_itself(tiny, decoding):
    docs = DOCS.take(range(40 if decoding == "free" else 4))
    with FakeServer(tiny) as server:
        for a, b in zip(traces_of(load_openai("tiny", options(server)), docs, decoding=decoding), traces_of(tiny, docs, decoding=decoding)):
            assert (a.chosen, a.output, a.finish_reason, a.found_step) == (b.chosen, b.output, b.finish_reason, b.found_step)
            np.testing.assert_allclose(a.probs, b.probs, atol=1e-4); np.testing.assert_allclose(a.p_stop, b.p_stop, atol=1e-4)


def test_the_engine_conforms(tiny):
    with FakeServer(tiny) as server: check_engine(load_openai("tiny", options(server)), tiny)


@pytest.mark.parametrize("mode", ["plain", "chat"])
def test_what_a_plain_server_cuts_off_is_set_to_its_bound_and_counted(tiny, mode):
    docs = DOCS.take(range(12))
    with FakeServer(tiny, mode) as server:
        engine = load_openai("tiny", options(server)); got = traces_of(engine, docs)
    for a, b in zip(got, traces_of(tiny, docs)):
        assert a.chosen == b.chosen and not np.isnan(a.logits).any()
        assert np.abs(a.probs - b.probs).max() < .05                                              # labels outside the 20 best are improbable
    assert engine.stats["values_cut_off"] > 0 and engine.limits and "values_cut_off" in engine.limits[0]


def test_a_faulty_server_gives_the_same_values(tiny):
    questions = unary_prompts(DOCS.take(range(62)), TRAIN, shots=2)                               # 496 of them
    with FakeServer(tiny, faults=.2) as server: got = answer_probs(load_openai("tiny", options(server, retries=12, api="full")), questions)
    assert sum(server.failed.values()) > 50 and len(server.failed) == 5
    np.testing.assert_allclose(got, answer_probs(tiny, questions), atol=1e-4)


def test_no_more_requests_at_once_than_allowed(tiny):
    with FakeServer(tiny, slow=.02) as server: answer_probs(load_openai("tiny", options(server, concurrency=3)), unary_prompts(DOCS.take(range(6)), TRAIN, shots=2))
    assert 2 <= server.most_in_flight <= 3


def test_a_killed_run_asks_for_nothing_twice(tiny, tmp_path):
    script = ("from mlcllm.data import load_docs; from mlcllm.openai_engine import load_openai; from mlcllm.questions import answer_probs, unary_prompts; import sys, numpy as np\n"
              "e = load_openai('tiny', dict(base_url=sys.argv[1], tokenizer='tiny', cache=sys.argv[2], concurrency=4))\n"
              "p = answer_probs(e, unary_prompts(load_docs('demo', 'dev+test').take(range(20)), load_docs('demo', 'train'), shots=2)); np.save(sys.argv[3], p); print(e.stats['cached_answers'])")
    with FakeServer(tiny, slow=.03) as server:
        command = [sys.executable, "-c", script, server.url, str(tmp_path / "kept.sqlite"), str(tmp_path / "p.npy")]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while len(server.answered) < 40 and first.poll() is None: time.sleep(.05)
        first.send_signal(signal.SIGKILL); first.wait(); done = len(server.answered)
        second = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr[-1000:]
    assert 40 <= done < 160 and int(second.stdout) >= done - 5                                    # at most those on their way when it was killed
    assert sum(n - 1 for n in server.answered.values()) <= 5
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), answer_probs(tiny, unary_prompts(DOCS.take(range(20)), TRAIN, shots=2)), atol=1e-4)
    assert KEY.encode() not in (tmp_path / "kept.sqlite").read_bytes()


def test_a_budget_stops_cleanly_and_keeps_what_was_answered(tiny, tmp_path):
    questions = unary_prompts(DOCS.take(range(8)), TRAIN, shots=2)
    with FakeServer(tiny) as server:
        how = options(server, cache=str(tmp_path / "kept.sqlite"), api="full", concurrency=1)
        with pytest.raises(ValueError, match="the budget is used up.*what was answered is kept"): answer_probs(load_openai("tiny", how | dict(max_tokens=3000)), questions)
        spent = sum(server.answered.values()) - 1; assert 0 < spent < len(questions)              # at every start one question is asked again
        engine = load_openai("tiny", how); answer_probs(engine, questions)
        assert engine.stats["cached_answers"] == spent and sum(server.answered.values()) == len(questions) + 2
        dear = load_openai("tiny", how | dict(max_cost=1e-9, price_in=1, price_out=1, cache=False))
        with pytest.raises(ValueError, match="raise max_cost"): answer_probs(dear, questions)


def test_notebooks_run_01_and_02_behind_a_server(tiny, tmp_path):
    for mode, notebook, more in (("full", "01_stepwise_logits", {}), ("chat", "02_alignment", dict(n_dev=0))):
        with FakeServer(tiny, mode) as server: run_short(notebook, tmp_path, n_docs=4, shots=4, backend="openai", backend_options=options(server, cache=str(tmp_path / "kept.sqlite")), **more)
        run = read_run(find_runs(tmp_path / "runs", notebook)[0])
        assert run["record"]["status"] == "done" and run["record"]["counters"]["requests"] > 0
        if mode == "chat": assert any("20 most probable" in w for w in run["record"]["warnings"]) and "set_marginals" not in set(run["scores"].method) and run["record"]["counters"]["values_cut_off"] > 0
    for f in (tmp_path / "runs").rglob("*"): assert not f.is_file() or KEY.encode() not in f.read_bytes(), f
