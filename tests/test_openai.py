"""A model behind a server: the same label steps as without one, through faults, kills and budgets; never a
key in what is said.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import check_engine
from fake_server import FakeServer
from notebooks import run_short

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.openai_engine import load_openai
from mlcllm.questions import answer_probs, unary_prompts
from mlcllm.runs import find_runs, read_run, start_run
from mlcllm.stepwise_logits import PromptConfig, ask_prompts, make_verbalizer, trace_docs

ROOT, KEY = Path(__file__).resolve().parent.parent, "secret-key-123456"
DOCS, TRAIN = load_docs("demo", "dev+test"), load_docs("demo", "train")


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def options(server, **more):
    return dict(base_url=server.url, tokenizer="tiny", cache=False) | more


def traces_of(engine, docs, **how):
    config = PromptConfig(shots=4, label_format="comma", **how)
    return trace_docs(
        engine,
        make_verbalizer(engine, docs, config),
        ask_prompts(docs, TRAIN, config),
        18,
        "first_token",
        config.decoding,
    )


@pytest.mark.parametrize("decoding", ["free", "constrained"])
def test_label_steps_are_those_of_the_model_itself(tiny, decoding):
    docs = DOCS.take(range(40 if decoding == "free" else 4))
    with FakeServer(tiny) as server:
        for a, b in zip(
            traces_of(load_openai("tiny", options(server)), docs, decoding=decoding),
            traces_of(tiny, docs, decoding=decoding),
        ):
            assert (a.chosen, a.output, a.finish_reason, a.found_step) == (
                b.chosen,
                b.output,
                b.finish_reason,
                b.found_step,
            )
            np.testing.assert_allclose(a.probs, b.probs, atol=1e-4)
            np.testing.assert_allclose(a.p_stop, b.p_stop, atol=1e-4)


def test_the_engine_conforms(tiny):
    with FakeServer(tiny) as server:
        check_engine(load_openai("tiny", options(server)), tiny)


@pytest.mark.parametrize("mode", ["plain", "chat"])
def test_what_a_plain_server_cuts_off_is_set_to_its_bound_and_counted(tiny, mode):
    docs = DOCS.take(range(12))
    with FakeServer(tiny, mode) as server:
        engine = load_openai("tiny", options(server))
        got = traces_of(engine, docs)
    for a, b in zip(got, traces_of(tiny, docs)):
        assert a.chosen == b.chosen and not np.isnan(a.logits).any()
        assert np.abs(a.probs - b.probs).max() < 0.05  # labels outside the 20 best are improbable
    assert engine.stats["values_cut_off"] > 0 and engine.notes and "values_cut_off" in engine.notes[0]


def test_a_faulty_server_gives_the_same_values(tiny):
    questions = unary_prompts(DOCS.take(range(62)), TRAIN, shots=2)  # 496 of them
    with FakeServer(tiny, faults=0.2) as server:
        got = answer_probs(load_openai("tiny", options(server, retries=12, api="full")), questions)
    assert sum(server.failed.values()) > 50 and len(server.failed) == 5
    np.testing.assert_allclose(got, answer_probs(tiny, questions), atol=1e-4)


def test_no_more_requests_at_once_than_allowed(tiny):
    with FakeServer(tiny, slow=0.02) as server:
        answer_probs(
            load_openai("tiny", options(server, concurrency=3)),
            unary_prompts(DOCS.take(range(6)), TRAIN, shots=2),
        )
    assert 2 <= server.most_in_flight <= 3


def test_a_killed_run_asks_for_nothing_twice(tiny, tmp_path):
    script = (
        "from mlcllm.data import load_docs; from mlcllm.openai_engine import load_openai; from "
        "mlcllm.questions import answer_probs, unary_prompts; import sys, numpy as np\n"
        "e = load_openai('tiny', dict(base_url=sys.argv[1], tokenizer='tiny', cache=sys.argv[2], "
        "concurrency=4))\n"
        "p = answer_probs(e, unary_prompts(load_docs('demo', 'dev+test').take(range(20)), "
        "load_docs('demo', 'train'), shots=2)); np.save(sys.argv[3], p); "
        "print(e.stats['cached_answers'])"
    )
    with FakeServer(tiny, slow=0.03) as server:
        command = [
            sys.executable,
            "-c",
            script,
            server.url,
            str(tmp_path / "kept.sqlite"),
            str(tmp_path / "p.npy"),
        ]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while len(server.answered) < 40 and first.poll() is None:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
        done = len(server.answered)
        second = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr[-1000:]
    assert (
        40 <= done < 160 and int(second.stdout) >= done - 5
    )  # at most those on their way when it was killed
    assert sum(n - 1 for n in server.answered.values()) <= 5
    np.testing.assert_allclose(
        np.load(tmp_path / "p.npy"),
        answer_probs(tiny, unary_prompts(DOCS.take(range(20)), TRAIN, shots=2)),
        atol=1e-4,
    )
    assert KEY.encode() not in (tmp_path / "kept.sqlite").read_bytes()


def test_a_budget_stops_cleanly_and_keeps_what_was_answered(tiny, tmp_path):
    questions = unary_prompts(DOCS.take(range(8)), TRAIN, shots=2)
    with FakeServer(tiny) as server:
        how = options(server, cache=str(tmp_path / "kept.sqlite"), api="full", concurrency=1)
        with pytest.raises(ValueError, match="the budget is used up.*what was answered is kept"):
            answer_probs(load_openai("tiny", how | dict(max_tokens=3000)), questions)
        spent = sum(server.answered.values()) - 1
        assert 0 < spent < len(questions)  # at every start one question is asked again
        engine = load_openai("tiny", how)
        answer_probs(engine, questions)
        assert engine.stats["cached_answers"] == spent and sum(server.answered.values()) == len(questions) + 2
        dear = load_openai("tiny", how | dict(max_cost=1e-9, price_in=1, price_out=1, cache=False))
        with pytest.raises(ValueError, match="raise max_cost"):
            answer_probs(dear, questions)


def test_notebooks_run_01_and_02_behind_a_server(tiny, tmp_path):
    for mode, notebook, more in (("full", "01_stepwise_logits", {}), ("chat", "02_alignment", dict(n_dev=0))):
        with FakeServer(tiny, mode) as server:
            run_short(
                notebook,
                tmp_path,
                n_docs=4,
                shots=4,
                backend="openai",
                backend_options=options(server, cache=str(tmp_path / "kept.sqlite")),
                **more,
            )
        run = read_run(find_runs(tmp_path / "runs", notebook)[0])
        assert run["record"]["status"] == "done" and run["record"]["counters"]["requests"] > 0
        if mode == "chat":
            assert (
                any("20 most probable" in w for w in run["record"]["warnings"])
                and "set_marginals" not in set(run["scores"].method)
                and run["record"]["counters"]["values_cut_off"] > 0
            )
    for f in (tmp_path / "runs").rglob("*"):
        assert not f.is_file() or KEY.encode() not in f.read_bytes(), f


@pytest.fixture(scope="module")
def other():
    "A model that answers otherwise"
    engine = load_engine("tiny", gpu="cpu")
    with torch.no_grad():
        for p in engine.model.parameters():
            p.mul_(0.5)
    return engine


IDS, ASKED = [5, 6, 7, 40], "Input: what a day\n"


def start(engine, cache, port=0, mode="full", api=None, **server):
    "What one start at a server gives: values, counters, the model's identity, the port, what was asked"
    s = FakeServer(engine, mode, port=port, **server)
    with s:
        e = load_openai("tiny", options(s, cache=str(cache), api=api))
        z = e.score([engine.encode(ASKED)], IDS).logits
        return z, dict(e.stats), e.model_hash, s.server_address[1], list(e.notes), sum(s.asked.values())


@pytest.mark.filterwarnings("ignore:.*stored answers")
@pytest.mark.parametrize("mode, api", [("full", None), ("full", "full"), ("plain", None), ("chat", None)])
def test_stored_answers_are_those_of_this_model(tiny, other, tmp_path, mode, api):
    cache = tmp_path / "kept.sqlite"
    z, stats, first, port, limits, _ = start(tiny, cache, mode=mode, api=api)
    again, stats, same, _, _, asked = start(tiny, cache, port, mode, api)
    assert same == first and stats["cached_answers"] == 1 and asked == 1  # one question at each start
    np.testing.assert_array_equal(z, again)
    with pytest.warns(UserWarning, match="answers a question otherwise.*not used"):
        new, stats, second, _, limits, _ = start(other, cache, port, mode, api)
    assert second != first and stats["cached_answers"] == 0 and any("are not used" in l for l in limits)
    truth, _, third, *_ = start(other, tmp_path / "empty.sqlite", port, mode, api)
    np.testing.assert_allclose(new, truth, atol=1e-5)
    assert third == second and (mode != "full" or not np.allclose(z, new, atol=0.01))
    back, stats, name, _, limits, _ = start(
        tiny, cache, port, mode, api
    )  # the first one again: its answers are there
    assert name == first and stats["cached_answers"] == 1 and not any("are not used" in l for l in limits)


@pytest.mark.filterwarnings("ignore:.*stored answers")
@pytest.mark.parametrize(
    "before, after, same",
    [
        ({}, {}, True),
        (dict(card=False), dict(card=False), True),
        (dict(fingerprint="a"), dict(fingerprint="b"), False),
        (dict(card=dict(max_model_len=4096)), dict(card=dict(max_model_len=8192)), False),
        (dict(card=dict(root="/a")), dict(card=dict(root="/b")), False),
        (dict(card=dict(owned_by="x")), dict(card=dict(owned_by="y")), False),
        (dict(card=dict(created=1)), dict(card=dict(created=2)), False),
        (
            dict(card=dict(created=time.time(), permission=[dict(id="a")])),
            dict(card=dict(created=time.time() + 2, permission=[dict(id="b")])),
            True,
        ),
    ],
)
def test_what_a_server_says_of_its_model_is_part_of_its_identity(tiny, tmp_path, before, after, same):
    cache = tmp_path / "kept.sqlite"
    *_, first, port, _, _ = start(tiny, cache, api="full", **before)
    _, stats, second, _, limits, _ = start(tiny, cache, port, api="full", **after)
    assert (
        (second == first)
        == same
        == (stats["cached_answers"] == 1)
        == (not any("not used" in l for l in limits))
    )


def test_a_budget_counts_the_question(tiny, tmp_path):
    with FakeServer(tiny) as server:
        engine = load_openai("tiny", options(server, api="full", max_tokens=5))
        with pytest.raises(ValueError, match="the budget is used up"):
            engine.model_hash
        engine = load_openai("tiny", options(server, api="full"))
        engine.model_hash
        assert engine.stats["requests"] == 1 and engine.stats["tokens_sent"] > 5


def said_by(caplog, capfd, engine=None, error=None):
    return " ".join(
        [
            caplog.text,
            *capfd.readouterr(),
            repr(engine),
            str(error),
            repr(error),
            "".join(traceback.format_exception(error)) if error else "",
        ]
    )


@pytest.mark.parametrize("mode", ["full", "chat"])
def test_a_redirect_takes_no_key_along(tiny, tmp_path, caplog, capfd, mode):
    caplog.set_level("DEBUG")
    with FakeServer(tiny, mode) as away, FakeServer(tiny, mode, redirect=away.url) as server:
        for api in (None, "full", "chat"):
            with pytest.raises(ValueError) as error:
                load_openai("tiny", options(server, api=api)).model_hash
            assert "redirects to http://127.0.0.1" in str(error.value) and "\n" not in str(error.value)
            assert KEY not in said_by(caplog, capfd, None, error.value)
    assert not away.seen and server.seen


@pytest.mark.parametrize("where", ["environment", ".env", "user", "query"])
def test_a_key_is_in_nothing_that_is_said_or_stored(tiny, tmp_path, monkeypatch, caplog, capfd, where):
    caplog.set_level("DEBUG")
    monkeypatch.chdir(tmp_path)
    secret = f"thekey-{where.strip('.')}-778899"
    monkeypatch.delenv("OPENAI_API_KEY")
    if where == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", secret)
    if where == ".env":
        (tmp_path / ".env").write_text(f"OPENAI_API_KEY='{secret}'\n")

    def address(s):
        return (
            s.url.replace("//", f"//me:{secret}@")
            if where == "user"
            else s.url + f"?key={secret}"
            if where == "query"
            else s.url
        )

    with FakeServer(tiny, key=secret) as server:
        how = options(server, base_url=address(server), cache=str(tmp_path / "kept.sqlite"))
        engine = load_openai("tiny", how)
        engine.score([tiny.encode(ASKED)], IDS)
        run = start_run(
            "01",
            dict(dataset="demo", model="tiny", backend_options=how),
            fingerprint=dict(model=engine.model_hash),
            output_dir=tmp_path / "runs",
        )
        run.warn(f"{how['base_url']} said Authorization: Bearer {secret}")
        run.done()
        server.key = "changed"
        with pytest.raises(ValueError) as refused:
            load_openai("tiny", how | dict(cache=False))
    with pytest.raises(ValueError) as gone:
        load_openai("tiny", how | dict(cache=False, retries=0))
    assert secret not in said_by(caplog, capfd, engine, refused.value) + said_by(
        caplog, capfd, engine, gone.value
    )
    for f in [tmp_path / "kept.sqlite", *(tmp_path / "runs").rglob("*")]:
        assert not f.is_file() or secret.encode() not in f.read_bytes(), f


@pytest.mark.parametrize(
    "more, says",
    [
        (dict(base_url=3), "base_url must be a text"),
        (dict(base_url="localhost:80"), "must be an address"),
        (dict(base_url="http://x:port"), "must be an address"),
        (dict(base_url="ftp://x"), "must be an address"),
        (dict(tokenizer=["x"]), "tokenizer must be a text"),
        (dict(cache=True), "cache must be a file"),
        (dict(cache=5), "cache must be a file"),
        (dict(max_tokens=-1), "max_tokens must be"),
        (dict(max_tokens="9"), "max_tokens must be"),
        (dict(max_cost="x", price_in=1, price_out=1), "max_cost must be"),
        (dict(timeout="9"), "timeout must be"),
        (dict(concurrency=0), "concurrency must be"),
        (dict(retries=10**9), "retries must be"),
        (dict(api="ful"), "did you mean 'full'"),
    ],
)
def test_options_of_a_wrong_kind_are_one_line(more, says):
    with pytest.raises(ValueError, match=says) as error:
        load_openai("tiny", dict(base_url="http://127.0.0.1:9/v1", tokenizer="tiny", cache=False) | more)
    assert "\n" not in str(error.value)


def test_a_place_for_answers_that_is_none_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no database " * 200)
    for place in (tmp_path, tmp_path / "pipe", tmp_path / "text"):
        with pytest.raises(ValueError, match="cannot be kept there") as error:
            load_openai("tiny", dict(base_url="http://127.0.0.1:9/v1", tokenizer="tiny", cache=str(place)))
        assert "\n" not in str(error.value)
