"""What any engine must do, checked against one that is known to be right: `check_engine(yours, reference)`,
both over the same model.
"""

import numpy as np
import pytest

from mlcllm.data import load_docs
from mlcllm.stepwise_logits import ListGrammar, PromptConfig, ask_prompts, make_verbalizer, trace_docs

TEXTS = (
    "Input: We won the cup!\nEmotion(s):",
    "Input: Who ate my lunch?\nEmotion(s):",
    "Input: We won the cup, and the sun is out.\nEmotion(s):",
)


def centred(read):  # log-probabilities: logits are defined up to a constant for each prompt
    return np.asarray(read.logits, float) - np.asarray(read.logsumexp, float)[..., None]


def check_engine(engine, reference, atol=1e-4, constrained=True):
    "Raise where an engine does not do what notebooks rely on"
    for a in (
        "tokenizer",
        "max_length",
        "eos",
        "stats",
        "notes",
        "share_prefixes",
        "all_tokens",
        "model_hash",
        "dtype",
        "device",
    ):
        assert hasattr(engine, a), f"an engine has {a}"
    prompts = engine.encode(list(TEXTS))
    assert prompts == reference.encode(list(TEXTS)) and engine.encode(TEXTS[0]) == prompts[0]
    check_score(engine, reference, prompts, atol)
    check_generate(engine, reference, prompts, atol, constrained)
    check_steps(engine, reference, atol)
    check_refusals(engine, prompts)


def check_score(engine, reference, prompts, atol):
    ids = [*range(20, 60), 25]  # one of them twice
    before = dict(engine.stats)
    got = engine.score([*prompts, prompts[0]], ids)
    assert got.logits.shape == (4, 41) and got.logits.dtype == np.float32 and got.logsumexp.shape == (4,)
    np.testing.assert_allclose(centred(got), centred(reference.score([*prompts, prompts[0]], ids)), atol=atol)
    np.testing.assert_allclose(got.logits[0], got.logits[3], atol=atol)
    np.testing.assert_allclose(got.logits[:, 5], got.logits[:, 40], atol=atol)
    np.testing.assert_allclose(
        centred(engine.score(prompts[::-1], ids))[::-1], centred(got)[:3], atol=atol
    )  # rows in the order of the prompts
    np.testing.assert_allclose(centred(engine.score(prompts[:1], ids[:3])), centred(got)[:1, :3], atol=atol)
    assert engine.score([], ids).logits.shape == (0, 41)
    assert engine.stats["prompts"] - before["prompts"] >= 4 and engine.stats["tokens_in"] - before[
        "tokens_in"
    ] >= sum(map(len, prompts))


def check_generate(engine, reference, prompts, atol, constrained):
    ids = list(range(20, 60))
    for n, stop in ((1, []), (12, []), (12, ["\n"]), (12, [","])):
        for a, b in zip(engine.generate(prompts, n, stop, ids), reference.generate(prompts, n, stop, ids)):
            assert (tuple(a.token_ids), a.text, a.finish_reason) == (
                tuple(b.token_ids),
                b.text,
                b.finish_reason,
            )
            assert np.asarray(a.logits).shape == (len(a.token_ids), 40)
            np.testing.assert_allclose(centred(a), centred(b), atol=atol)
    if not constrained:
        return
    docs = load_docs("demo", "test", n_docs=1)
    grammar = ListGrammar(make_verbalizer(engine, docs, PromptConfig(label_format="comma")))
    for a, b in zip(
        engine.generate(prompts, 20, [], ids, grammar), reference.generate(prompts, 20, [], ids, grammar)
    ):
        assert tuple(a.token_ids) == tuple(b.token_ids) and a.finish_reason == b.finish_reason
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=atol)


def check_steps(engine, reference, atol):
    docs, train, config = (
        load_docs("demo", "test", n_docs=6),
        load_docs("demo", "train"),
        PromptConfig(shots=4),
    )

    def of(e):
        return trace_docs(e, make_verbalizer(e, docs, config), ask_prompts(docs, train, config), 18)

    for a, b in zip(of(engine), of(reference)):
        assert (a.chosen, a.output, a.finish_reason) == (b.chosen, b.output, b.finish_reason)
        np.testing.assert_allclose(a.probs, b.probs, atol=atol)
        np.testing.assert_allclose(a.p_stop, b.p_stop, atol=atol)


def check_refusals(engine, prompts):
    for call in (
        lambda: engine.score([[]], [5]),
        lambda: engine.score(prompts, [10**7]),
        lambda: engine.score([[5] * (engine.max_length + 1)], [5]),
        lambda: engine.generate(prompts, 0),
        lambda: engine.generate([[5] * engine.max_length], 5),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).strip() and "\n" not in str(error.value)
