"""vLLM's engine without vLLM: a module of its interface that asks the bundled model, so that what is sent
and how answers are read is tested everywhere. `test_vllm.py` asks the real one.
"""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from conformance import check_engine
from scipy.special import softmax

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.methods import estimate
from mlcllm.stepwise_logits import ListGrammar, PromptConfig, ask_prompts, encode_prompts, make_verbalizer

DOCS, TRAIN = load_docs("demo", "test", n_docs=4), load_docs("demo", "train")
CONFIG = PromptConfig(shots=4)


@dataclass
class SamplingParams:  # the fields that are used, with vLLM's defaults
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = None
    max_tokens: int = 16
    stop: list = None
    logprobs: int = None
    logprob_token_ids: list = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True


class LLM:
    "As vllm.LLM; a seed draws what the bundled model draws with it"

    def __init__(self, model, **given):
        self.given = given
        self.own, self.asked = load_engine(model, gpu="cpu", dtype="float32"), []
        config = self.own.model.config
        hf = SimpleNamespace(eos_token_id=config.eos_token_id, get_text_config=lambda: config)
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(hf_config=hf, max_model_len=512, dtype="float32", model=model)
        )

    def generate(self, prompts, params, use_tqdm):
        each = params if isinstance(params, list) else [params] * len(prompts)
        self.asked += each
        return [self.answers(p["prompt_token_ids"], how) for p, how in zip(prompts, each, strict=True)]

    def answers(self, ids, how):
        watch = how.logprob_token_ids or []
        assert len(watch) <= 128 and how.include_stop_str_in_output and (how.logprobs == 0 or watch)
        if how.temperature == 0:
            drawn = self.own.generate([ids], how.max_tokens, how.stop or [], watch)
        else:
            assert (how.temperature, how.top_p, how.top_k) == (1, 1, 0)
            drawn = self.own.sample([ids], how.n, how.max_tokens, how.stop or [], seed=how.seed)[0]
        return SimpleNamespace(outputs=[self.output(g, watch) for g in drawn], num_cached_tokens=0)

    def output(self, g, watch):
        values = [{}] * len(g.token_ids)
        if watch:
            values = [dict(zip(watch, row)) for row in g.logits - g.logsumexp[:, None]]
        told = [v | {i: p} for v, i, p in zip(values, g.token_ids, g.logprobs)]
        logprobs = [{i: SimpleNamespace(logprob=float(p)) for i, p in step.items()} for step in told]
        return SimpleNamespace(token_ids=list(g.token_ids), logprobs=logprobs)


@pytest.fixture
def engine(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.on_cpu = LLM, SamplingParams, True
    platforms = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(is_cpu=lambda: module.on_cpu)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    return load_engine("tiny", backend="vllm", dtype="float32")


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu", dtype="float32")


def test_the_engine_conforms(engine, tiny):
    check_engine(engine, tiny)


def test_blocks_are_small_on_a_cpu_unless_told_otherwise(engine):
    assert engine.llm.given["block_size"] == 32
    chosen = load_engine("tiny", backend="vllm", backend_options=dict(block_size=64))
    assert chosen.llm.given["block_size"] == 64
    sys.modules["vllm"].on_cpu = False
    assert "block_size" not in load_engine("tiny", backend="vllm").llm.given


def test_draws_depend_on_the_prompt_and_the_seed_alone(engine):
    prompts = [engine.encode(t) for t in DOCS.texts]
    whole = engine.sample(prompts, 3, 6)
    parts = engine.sample(prompts[2:], 3, 6) + engine.sample(prompts[:1], 3, 6)
    assert [g.token_ids for g in parts[0] + parts[2]] == [g.token_ids for g in whole[2] + whole[0]]
    engine.llm.asked.clear()
    other = engine.sample([*prompts, prompts[0]], 3, 6, seed=1)
    assert [g.token_ids for g in other[0]] != [g.token_ids for g in whole[0]]
    assert [g.token_ids for g in other[0]] == [g.token_ids for g in other[4]]
    asked = engine.llm.asked  # each prompt once, with a seed of its own
    assert [p.n for p in asked] == [3] * 4 and len({p.seed for p in asked}) == 4
    assert engine.sample([], 3, 6) == []


def test_first_tokens_are_drawn_with_their_probabilities(engine, tiny):
    prompt = tiny.encode("Input: I miss you\n")
    drawn = engine.sample([prompt], 2000, 1)[0]
    p = softmax(tiny.score([prompt], range(len(tiny.tokenizer))).logits[0].astype(float))
    often = np.argsort(-p)[:6]
    counted = np.array([sum(g.token_ids[0] == i for g in drawn) for i in often])
    assert (np.abs(counted - 2000 * p[often]) < 4 * np.sqrt(2000 * p[often] * (1 - p[often]))).all()
    for g in drawn[:20]:
        np.testing.assert_allclose(g.logprobs, np.log(p[list(g.token_ids)]), atol=1e-3)
        assert g.logits.shape == (1, 0)


def test_a_draw_ends_where_it_should(engine):
    prompt = engine.encode("Input: We won the cup!\nEmotion(s):")
    for g in engine.sample([prompt], 20, 8, "\n")[0]:
        assert "\n" not in g.text and (g.finish_reason != "length" or len(g.token_ids) == 8)
        assert len(g.logprobs) == len(g.logsumexp) == len(g.token_ids)


def test_constrained_draws_are_those_of_the_model_itself(engine, tiny):
    verbalizer = make_verbalizer(tiny, DOCS, CONFIG)
    prompts = encode_prompts(tiny, ask_prompts(DOCS, TRAIN, CONFIG), 24)
    how = (5, 18, [verbalizer.template.stop], ListGrammar(verbalizer), 3)
    got, own = engine.sample(prompts, *how), tiny.sample(prompts, *how)
    for a, b in zip(sum(got, []), sum(own, []), strict=True):
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    assert len({g.text for g in sum(got, [])}) > 5


def test_the_method_sampled(engine, tiny):
    made = estimate(engine, DOCS, TRAIN, "sampled+draws200,hard", CONFIG)
    own = estimate(tiny, DOCS, TRAIN, "sampled+draws200,hard", CONFIG)
    for a, b, most in zip(made.dists, own.dists, (0.25, 1e-6)):
        assert np.abs(a.probs - b.probs).max() < most
    assert made.costs.prompts.tolist() == own.costs.prompts.tolist() == [800, 4]
    for call in (lambda: engine.sample([[5]], 0, 6), lambda: engine.sample([[5]], 3, 0)):
        with pytest.raises(ValueError, match="n_draws|max_new_tokens"):
            call()
