"The real vLLM, in this process and behind its own HTTP server, against the token forest: `make test-servers`."
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-servers")
os.environ |= dict(VLLM_CPU_KVCACHE_SPACE="2", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", OPENAI_API_KEY="secret-key-123456")

from conformance import check_engine
from fake_server import FakeServer
from mlcllm.data import load_docs
from mlcllm.engines import find_model, load_engine
from mlcllm.openai_engine import load_openai
from mlcllm.questions import answer_probs, binary_prompts, unary_prompts
from mlcllm.stepwise_logits import Asking, ask_prompts, make_reader, trace_docs

DOCS, TRAIN = load_docs("demo", "dev+test"), load_docs("demo", "train")
PORT = 8137


@pytest.fixture(scope="module")
def tiny(): return load_engine("tiny", gpu="cpu", dtype="float32")


@pytest.fixture(scope="module")
def offline(): return load_engine("tiny", backend="vllm", dtype="float32", backend_options=dict(gpu_memory_utilization=.4, enforce_eager=True))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    log = open(tmp_path_factory.mktemp("server") / "log", "w")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", find_model("tiny"), "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(PORT), "--dtype", "float32", "--gpu-memory-utilization", "0.4", "--max-logprobs", "128", "--api-key", os.environ["OPENAI_API_KEY"], "--enforce-eager"]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    for _ in range(120):
        try: urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health"); break
        except OSError: time.sleep(1); assert server.poll() is None, Path(log.name).read_text()[-2000:]
    yield load_openai("tiny", dict(base_url=f"http://127.0.0.1:{PORT}/v1", tokenizer="tiny", cache=False))
    server.terminate(); server.wait()


@pytest.fixture(params=["offline", "served"])
def engine(request): return request.getfixturevalue(request.param)


@pytest.mark.parametrize("decoding, label_format", [("free", "comma"), ("free", "json"), ("constrained", "comma")])
def test_label_steps_are_those_of_the_forest(engine, tiny, decoding, label_format):
    docs, asking = DOCS.take(range(len(DOCS) if decoding == "free" else 12)), Asking(shots=6, label_format=label_format, decoding=decoding)
    of = lambda e: trace_docs(e, make_reader(e, docs, asking), ask_prompts(docs, TRAIN, asking), 18, "first_token", decoding)
    for a, b in zip(of(engine), of(tiny)):
        assert (a.chosen, a.output, a.finish_reason, a.found_step) == (b.chosen, b.output, b.finish_reason, b.found_step)
        np.testing.assert_allclose(a.logits - a.logsumexp[:, None], b.logits - b.logsumexp[:, None], atol=1e-4); np.testing.assert_allclose(a.p_stop, b.p_stop, atol=1e-4)


def test_the_engine_conforms(engine, tiny): check_engine(engine, tiny)


def test_questions_are_answered_as_by_the_forest(engine, tiny):
    for questions in (unary_prompts(DOCS.take(range(10)), TRAIN), binary_prompts(DOCS.take(range(3)), TRAIN)): np.testing.assert_allclose(answer_probs(engine, questions), answer_probs(tiny, questions), atol=1e-4)


def test_many_ids_repeats_and_bad_input(engine, tiny):
    prompts, ids = [tiny.encode(t) for t in ("a day by the sea", "who ate my lunch", "a day by the sea")], [*range(10, 300), 10]
    got, true = engine.score(prompts, ids), tiny.score(prompts, ids)
    np.testing.assert_allclose(got.logits - got.logsumexp[:, None], true.logits - true.logsumexp[:, None], atol=1e-4)
    for call, says in ((lambda: engine.score([[]], [5]), "prompt 0 is empty"), (lambda: engine.score([[5]], [10**6]), "is not in the tokenizer's vocabulary"), (lambda: engine.score([[5] * 5000], [5]), "the model's context holds")):
        with pytest.raises(ValueError, match=says): call()


def test_the_cache_is_used(offline):
    before = dict(offline.stats); offline.score([offline.encode("one two three four five six seven eight nine ten " * 20 + str(k)) for k in range(40)], [5])
    asked, computed = (offline.stats[k] - before[k] for k in ("tokens_in", "tokens_forwarded"))
    assert computed < asked


def test_behind_a_faulty_proxy_500_questions_get_the_same_answers(served, tiny):
    questions = unary_prompts(DOCS.take(range(63)), TRAIN, shots=2)
    with FakeServer(None, faults=.2, forward=served.client.url) as proxy:
        got = answer_probs(load_openai("tiny", dict(base_url=proxy.url, tokenizer="tiny", cache=False, retries=12, api="full")), questions)
    assert len(questions) > 500 and sum(proxy.failed.values()) > 50
    np.testing.assert_allclose(got, answer_probs(tiny, questions), atol=1e-4)
