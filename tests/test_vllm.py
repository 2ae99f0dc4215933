"""The real vLLM, in this process and behind its own HTTP server, against the token forest: `make
test-servers`.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from transformers import LlamaConfig, LlamaForCausalLM

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-servers")
os.environ |= dict(
    VLLM_CPU_KVCACHE_SPACE="2",
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL="ERROR",
    OPENAI_API_KEY="secret-key-123456",
)

from conformance import check_engine
from fake_server import FakeServer
from peft import LoraConfig, get_peft_model

from mlcllm.data import load_docs
from mlcllm.engines import find_model, load_engine, load_tokenizer
from mlcllm.openai_engine import load_openai
from mlcllm.questions import answer_probs, binary_prompts, unary_prompts
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import PromptConfig, ask_prompts, make_verbalizer, trace_docs

ROOT = Path(__file__).resolve().parent.parent
DOCS, TRAIN = load_docs("demo", "dev+test"), load_docs("demo", "train")
PORT, OFFLINE = 8137, dict(gpu_memory_utilization=0.4, enforce_eager=True)


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu", dtype="float32")


@pytest.fixture(scope="module")
def offline():
    return load_engine("tiny", backend="vllm", dtype="float32", backend_options=OFFLINE)


@contextmanager
def serving(folder, log, port):
    "vLLM's own server on loopback, and its address"
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(folder),
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--gpu-memory-utilization",
        "0.4",
        "--max-logprobs",
        "128",
        "--api-key",
        os.environ["OPENAI_API_KEY"],
        "--enforce-eager",
    ]
    with open(log, "w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    for _ in range(180):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
            break
        except OSError:
            time.sleep(1)
            assert server.poll() is None, Path(log).read_text()[-2000:]
    yield f"http://127.0.0.1:{port}/v1"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(find_model("tiny"), tmp_path_factory.mktemp("server") / "log", PORT) as url:
        yield load_openai("tiny", dict(base_url=url, tokenizer="tiny", cache=False))


@pytest.fixture(scope="module")
def random_llama(tmp_path_factory):
    "A Llama with random weights whose logits spread like those of a trained one"
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=6144,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            tie_word_embeddings=False,
        )
    )
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.15)
    model.save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["offline", "served"])
def engine(request):
    return request.getfixturevalue(request.param)


def steps_agree(engine, own, docs, config):
    "How many documents were compared; raises where a step differs"

    def of(e):
        return trace_docs(
            e,
            make_verbalizer(e, docs, config),
            ask_prompts(docs, TRAIN, config),
            18,
            "first_token",
            config.decoding,
        )

    for k, (a, b) in enumerate(zip(of(engine), of(own), strict=True)):  # noqa: B007
        assert (a.chosen, a.output, a.finish_reason, a.found_step) == (
            b.chosen,
            b.output,
            b.finish_reason,
            b.found_step,
        )
        np.testing.assert_allclose(
            a.logits - a.logsumexp[:, None], b.logits - b.logsumexp[:, None], atol=1e-4
        )
        np.testing.assert_allclose(a.p_stop, b.p_stop, atol=1e-4)
    return k + 1


@pytest.mark.parametrize(
    "decoding, label_format", [("free", "comma"), ("free", "json"), ("constrained", "comma")]
)
def test_label_steps_are_those_of_the_forest(engine, tiny, decoding, label_format):
    docs = DOCS.take(range(len(DOCS) if decoding == "free" else 12))
    config = PromptConfig(shots=6, label_format=label_format, decoding=decoding)
    assert steps_agree(engine, tiny, docs, config) == len(docs)


@pytest.mark.parametrize("how", ["offline", "served"])
def test_a_random_llama(random_llama, how, tmp_path):
    own = load_engine(random_llama, gpu="cpu", dtype="float32")
    assert own.score([own.encode("We won the cup!")], range(6144)).logits.std() > 1

    def same(other):
        check_engine(other, own)
        assert steps_agree(other, own, DOCS, PromptConfig(shots=4)) == len(DOCS)

    if how == "offline":
        same(load_engine(random_llama, backend="vllm", dtype="float32", backend_options=OFFLINE))
    else:
        with serving(random_llama, tmp_path / "log", PORT + 1) as url:
            same(load_openai("tiny", dict(base_url=url, tokenizer="tiny", cache=False)))


def test_an_adapter_is_a_model_here_too(tmp_path):
    model = LlamaForCausalLM.from_pretrained(find_model("tiny"), dtype=torch.float32)
    lora = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    lora.peft_config["default"].base_model_name_or_path = "tiny"
    lora.save_pretrained(tmp_path / "good")
    own = load_engine(str(tmp_path / "good"), gpu="cpu", dtype="float32")
    other = load_engine(str(tmp_path / "good"), backend="vllm", dtype="float32", backend_options=OFFLINE)
    prompts = own.encode([t + "\nEmotion(s):" for t in DOCS.texts[:20]])
    a, b = own.score(prompts, range(20, 120)), other.score(prompts, range(20, 120))
    np.testing.assert_allclose(b.logits, a.logits - a.logsumexp[:, None], atol=2e-4)
    assert own.model_hash == other.model_hash
    wide = get_peft_model(
        LlamaForCausalLM.from_pretrained(find_model("small"), dtype=torch.float32),
        LoraConfig(r=8, target_modules=["q_proj"]),
    )
    wide.peft_config["default"].base_model_name_or_path = "tiny"
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="adapter .*wide does not fit") as error:
        load_engine(str(tmp_path / "wide"), backend="vllm", dtype="float32", backend_options=OFFLINE)
    assert "\n" not in str(error.value)


def test_the_engine_conforms(engine, tiny):
    check_engine(engine, tiny)


def test_questions_are_answered_as_by_the_forest(engine, tiny):
    for questions in (unary_prompts(DOCS.take(range(10)), TRAIN), binary_prompts(DOCS.take(range(3)), TRAIN)):
        np.testing.assert_allclose(answer_probs(engine, questions), answer_probs(tiny, questions), atol=1e-4)


def test_draws_follow_the_models_own_probabilities(engine, tiny):
    prompts = [tiny.encode(t) for t in ("Input: I miss you\n", "Input: what a day\n")]
    n = 400
    p = softmax(tiny.score(prompts, range(len(tiny.tokenizer))).logits.astype(float), -1)
    for row, drawn in zip(p, engine.sample(prompts, n, 1)):
        texts = [g.text for g in drawn]
        for i in np.argsort(-row)[:4]:  # tokens that no other one is written like
            counted = texts.count(tiny.tokenizer.decode([i], skip_special_tokens=True))
            assert abs(counted - n * row[i]) < 5 * np.sqrt(n * row[i] * (1 - row[i])) + 1
    again = engine.sample(prompts[1:], 5, 6, seed=4)
    assert [g.text for g in engine.sample(prompts, 5, 6, seed=4)[1]] == [g.text for g in again[0]]


def test_many_ids_repeats_and_bad_input(engine, tiny):
    prompts = [tiny.encode(t) for t in ("a day by the sea", "who ate my lunch", "a day by the sea")]
    ids = [*range(10, 300), 10]
    got, true = engine.score(prompts, ids), tiny.score(prompts, ids)
    np.testing.assert_allclose(
        got.logits - got.logsumexp[:, None], true.logits - true.logsumexp[:, None], atol=1e-4
    )
    for call, says in (
        (lambda: engine.score([[]], [5]), "prompt 0 is empty"),
        (lambda: engine.score([[5]], [10**6]), "is not in the tokenizer's vocabulary"),
        (lambda: engine.score([[5] * 5000], [5]), "the model's context holds"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_the_cache_is_used(offline):
    before = dict(offline.stats)
    offline.score(
        [
            offline.encode("one two three four five six seven eight nine ten " * 20 + str(k))
            for k in range(40)
        ],
        [5],
    )
    asked, computed = (offline.stats[k] - before[k] for k in ("tokens_in", "tokens_forwarded"))
    assert computed < asked


def test_behind_a_faulty_proxy_500_questions_get_the_same_answers(served, tiny):
    questions = unary_prompts(DOCS.take(range(63)), TRAIN, shots=2)
    with FakeServer(None, faults=0.2, forward=served.client.url) as proxy:
        got = answer_probs(
            load_openai(
                "tiny", dict(base_url=proxy.url, tokenizer="tiny", cache=False, retries=12, api="full")
            ),
            questions,
        )
    assert len(questions) > 500 and sum(proxy.failed.values()) > 50
    np.testing.assert_allclose(got, answer_probs(tiny, questions), atol=1e-4)


def run_01(url, folder, data_root, wait=True):
    "Notebook 01 on 500 documents, as a user runs it"
    options = dict(base_url=url, tokenizer="tiny", cache=str(folder / "kept.sqlite"), retries=12, api="full")
    folder.mkdir(exist_ok=True)
    command = [
        str(Path(sys.executable).parent / "papermill"),
        str(ROOT / "nbs" / "01_stepwise_logits.ipynb"),
        str(folder / "o.ipynb"),
        "--no-progress-bar",
        "-k",
        "python3",
        "-p",
        "output_dir",
        str(folder / "runs"),
        "-p",
        "dataset",
        "GoEmotions",
        "-p",
        "data_dir",
        str(data_root / "goemotions"),
        "-p",
        "split",
        "dev",
        "-p",
        "n_docs",
        "500",
        "-p",
        "backend",
        "openai",
        "-y",
        f"backend_options: {json.dumps(options)}",
    ]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    if wait:
        out, err = run.communicate(timeout=600)
        assert run.returncode == 0, err[-2000:]
    return run


def test_500_documents_through_faults_and_a_kill_end_with_the_same_tables(served, data_root, tmp_path):
    run_01(served.client.url, tmp_path / "plain", data_root)
    with FakeServer(None, faults=0.2, forward=served.client.url) as proxy:
        first = run_01(proxy.url, tmp_path / "faulty", data_root, wait=False)
        while sum(proxy.answered.values()) < 200 and first.poll() is None:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        time.sleep(1)
        before = sum(proxy.answered.values())
        assert 200 <= before < 500
        run_01(proxy.url, tmp_path / "faulty", data_root)
    one, other = (
        read_run(find_runs(tmp_path / f / "runs", "01_stepwise_logits")[0]) for f in ("plain", "faulty")
    )
    for table in ("docs", "steps", "scores"):
        pd.testing.assert_frame_equal(one[table], other[table], atol=2e-4, rtol=1e-4)
    again = sum(n - 1 for n in proxy.answered.values())
    print(
        f"{before} answered before the kill, {again} asked again, {sum(proxy.failed.values())} faults "
        f"in {sum(proxy.asked.values())} requests"
    )
    assert (
        len(one["docs"]) == 500 and sum(proxy.failed.values()) > 80 and again <= 8
    )  # those on their way when it was killed
