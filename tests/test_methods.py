"The names of methods, what each asks, and what a task or an engine cannot have."

from types import SimpleNamespace

import numpy as np
import pytest

from mlcllm import estimators
from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import load_engine
from mlcllm.estimators import STEP_METHODS, STEP_READERS, dist_from_traces, step_probs
from mlcllm.methods import (
    ESTIMATORS,
    EXTRA_METHODS,
    METHODS,
    QUESTION_METHODS,
    all_queries,
    choose_methods,
    estimate,
    parse_method,
    prompts_per_doc,
    queries_of,
    served_methods,
)
from mlcllm.stepwise_logits import PromptConfig, StepTrace

MANY, ONE = LabelSet(("anger", "joy")), LabelSet(("normal", "hate"), False, False)
ALWAYS = LabelSet(("a", "b"), allows_none=False)
CHAT, COT = PromptConfig(chat=True), PromptConfig(cot="x.csv")

REFUSED = [
    ("unray", MANY, None, "did you mean 'unary'"),
    ("unary+plat", MANY, None, "did you mean 'platt'"),
    ("hard+logodds", MANY, None, "logodds is a variant of unary only"),
    ("unary+platt+order5", MANY, None, "is the last suffix"),
    ("unary+order0", MANY, None, "from 1 to 1000"),
    ("unary+logodds", MANY, None, "needs a single-label task"),
    (",", MANY, None, "methods is empty"),
    ("max_over_generations", ONE, None, "a single-label answer has one step"),
    ("compare_to_none", ALWAYS, None, "no logit of none to compare with"),
    ("choice_funnel", ONE, None, "nothing else says when to stop"),
    ("choice_funnel", ALWAYS, None, "nothing else says when to stop"),
    *((name, MANY, CHAT, f"{name} is asked in plain text") for name in (*QUESTION_METHODS, "choice_funnel")),
    ("unary", MANY, PromptConfig(sampling="similarity"), "leave sampling out"),
    ("binary", MANY, PromptConfig(demos_per="document"), "leave demos_per out"),
    ("set_marginals", MANY, COT, "leave the chain of thought out (cot)"),
    ("set_marginals_global", MANY, COT, "leave the chain of thought out (cot)"),
]


@pytest.mark.parametrize(
    "name, labels, config, says", REFUSED, ids=[f"{k}-{r[0]}" for k, r in enumerate(REFUSED)]
)
def test_what_a_task_or_a_way_of_asking_cannot_have(name, labels, config, says):
    with pytest.raises(ValueError) as error:
        choose_methods(name, labels, config or PromptConfig())
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [MANY, ONE, ALWAYS], ids=["many", "one", "always"])
@pytest.mark.parametrize("config", [PromptConfig(), CHAT, COT], ids=["plain", "chat", "cot"])
def test_what_is_chosen_by_default_is_what_is_not_refused(labels, config):
    chosen = [m.name for m in choose_methods(None, labels, config)]
    for name in METHODS:
        try:
            choose_methods(name, labels, config)
            allowed = labels.multi or name not in ("last_step", "mean_over_generations")
        except ValueError:
            allowed = False
        assert (name in chosen) == allowed, name


def test_the_registry_holds_the_packages_methods():
    assert set(ESTIMATORS) == {*METHODS, *EXTRA_METHODS}
    assert [m.name for m in choose_methods(None, MANY)] == list(METHODS)
    names = [q.name for q in all_queries()]
    read = ["answers", "sampled", "set_marginals", "set_marginals_global", "choice_funnel"]
    assert names == [*read, "verbalized", "unary", "binary", "binary_both_orders"]


def test_what_is_asked_once_serves_several():
    assert [q.name for q in queries_of(choose_methods(",".join(STEP_METHODS), MANY))] == ["answers"]
    pairs = choose_methods("binary,binary_outcome,binary_both_orders", MANY)
    assert [q.name for q in queries_of(pairs)] == ["binary", "binary_both_orders"]
    assert prompts_per_doc(pairs, MANY) == dict(binary=3, binary_both_orders=3)
    orders = choose_methods("binary,binary+order2,binary_outcome+order2,unary+order7", MANY)
    assert prompts_per_doc(orders, MANY) == dict(binary=9, unary=3)


def test_a_server_that_hides_tokens_cannot_open_the_tree_of_lists():
    server = SimpleNamespace(all_tokens=False)
    left = served_methods(choose_methods(None, MANY), server, False)
    assert {m.name for m in left} == set(METHODS) - {"set_marginals"}
    for name in ("set_marginals", "set_marginals_global"):
        with pytest.raises(ValueError, match=f"^{name} needs the values of all tokens"):
            served_methods(choose_methods(name, MANY), server, True)


def trace(labels):
    z = np.log([[6.0, 3.0, 1.0], [1.0, 8.0, 1.0]]).astype(np.float32)[:, : len(labels.with_none)]
    nan = np.full(2, np.nan, np.float32)
    names = labels.with_none
    return StepTrace("d", names, "a, b", "stop", names[:2], np.arange(2), z, nan, nan, nan)


@pytest.mark.parametrize("name", ["second_step", "mean", "max_over_generation", "", "MEAN_OVER_GENERATIONS"])
def test_an_unknown_step_method_is_refused_and_never_the_mean(name, monkeypatch):
    "Also where a name was added to STEP_METHODS, and nothing says how it reads"
    monkeypatch.setattr(estimators, "STEP_METHODS", (*STEP_METHODS, name))
    for read in (
        lambda: step_probs(trace(MANY), MANY, name),
        lambda: dist_from_traces([trace(MANY)], MANY, name),
    ):
        with pytest.raises(ValueError) as error:
            read()
        assert "unknown method" in str(error.value) and "\n" not in str(error.value)


def test_step_methods_by_hand():
    found = {name: step_probs(trace(MANY), MANY, name).round(6).tolist() for name in STEP_READERS}
    assert found["compare_to_none"] == [round(6 / 7, 6), 0.75]
    assert found["max_over_generations"] == [0.6, 0.8]
    assert found["last_step"] == [0.1, 0.8] and found["mean_over_generations"] == [0.35, 0.55]
    assert found["first_step"] == [0.6, 0.3] and found["hard"] == [1, 1]


@pytest.mark.parametrize("name", [*METHODS, *EXTRA_METHODS])
def test_a_method_alone_is_the_method_among_others(name):
    test, train = load_docs("demo", "test", n_docs=3), load_docs("demo", "train")
    engine, config = load_engine("tiny", gpu="cpu"), PromptConfig(shots=2)
    alone = estimate(engine, test, train, name, config)
    many = estimate(engine, test, train, f"hard,unary,binary,{name}", config)
    np.testing.assert_allclose(
        alone.dists[0].probs, next(d for d in many.dists if d.method == name).probs, atol=1e-4
    )
    costs = [m.costs.set_index("method").loc[name, ["prompts", "tokens_in"]].tolist() for m in (alone, many)]
    assert costs[0] == costs[1]
    assert parse_method(name).spec.name == name
