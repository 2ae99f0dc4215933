"""What a user adds from outside the package is known everywhere: one section a kind.

Backends, metrics and data sets stand in test_additions_engine.py.
"""

import numpy as np
import pytest
from notebooks import run_short

from mlcllm.alignment import estimate
from mlcllm.data import LabelDist, load_docs
from mlcllm.engines import load_engine
from mlcllm.estimator import Estimator
from mlcllm.methods import (
    ANSWERS,
    ESTIMATORS,
    EstimatorSpec,
    Query,
    choose_methods,
    estimators_table,
    own_estimators,
    register_estimator,
)
from mlcllm.prompts import build_prompts
from mlcllm.runs import find_runs, read_run
from mlcllm.scale import count_tokens
from mlcllm.stepwise_logits import PromptConfig, ask_prompts

TEST, TRAIN = load_docs("demo", "test", n_docs=6), load_docs("demo", "train")

# An estimator


def surest_step(docs, traces):
    "The distribution at the step at which one label is most probable"
    steps = [t.probs[t.probs.max(1).argmax(), : len(docs.labels)] for t in traces]
    return LabelDist(np.stack(steps), docs.labels, docs.ids, "surest_step")


def short_prompts(docs, demos, config):
    return build_prompts(docs, demos, shots=2, label_format="json")


def ask_length(engine, docs, demos, config, mass):
    prompts = engine.encode([p.text for p in short_prompts(docs, demos, config)])
    return engine.score(prompts, [1, 2]).logits


def by_length(docs, logits):  # a query of its own, and a number that anyone can check
    share = [1 / (1 + len(t)) for t in docs.texts]
    probs = np.tile(np.array(share)[:, None], (1, len(docs.labels)))
    assert len(logits) == len(docs)
    return LabelDist(probs, docs.labels, docs.ids, "by_length")


LENGTH = Query("length", ask_length, prompts=short_prompts)


@pytest.fixture
def added():
    "Two estimators from outside: one reads answers that are there anyway, one asks in its own way"
    register_estimator(EstimatorSpec("surest_step", (ANSWERS,), surest_step))
    register_estimator(EstimatorSpec("by_length", (LENGTH,), by_length))
    yield
    for name in ("surest_step", "by_length"):
        ESTIMATORS.pop(name, None)


def test_a_new_estimator_is_estimated_and_costed(added):
    made = estimate(
        load_engine("tiny", gpu="cpu"), TEST, TRAIN, "surest_step,hard,by_length,surest_step+order2"
    )
    found = {d.method: d.probs for d in made.dists}
    assert found["by_length"][0] == pytest.approx(1 / (1 + len(TEST.texts[0])))
    costs = made.costs.set_index("method")
    assert costs.prompts.to_dict() == {"surest_step": 6, "hard": 6, "by_length": 6, "surest_step+order2": 12}
    assert costs.unread["surest_step"] == costs.unread["hard"]
    assert costs.tokens_in["by_length"] < costs.tokens_in["hard"]


def test_a_new_estimator_is_in_the_table_of_02(added, tmp_path):
    asked = dict(n_docs=5, n_dev=10, methods="hard,surest_step,by_length", calibrations="platt")
    run_short("02_alignment", tmp_path, **asked)
    (folder,) = find_runs(tmp_path / "runs", "02_alignment")
    run = read_run(folder)
    names = {"surest_step", "by_length", "surest_step+platt", "by_length+global"}
    assert names <= set(run["scores"].method)
    assert {"surest_step", "by_length"} <= set(run["costs"].method) & set(run["dists"].method)
    assert set(run["record"]["fingerprint"]["estimators"]) == {"surest_step", "by_length"}


def test_a_new_estimator_is_among_those_of_a_run_that_names_none(added):
    default = [m.name for m in choose_methods(None, TEST.labels)]
    assert default[-2:] == ["surest_step", "by_length"]
    assert {"surest_step", "by_length"} <= set(estimators_table(TEST.labels).estimator)
    register_estimator(EstimatorSpec("by_length", (LENGTH,), by_length, default="never"), overwrite=True)
    assert "by_length" not in [m.name for m in choose_methods(None, TEST.labels)]


@pytest.mark.parametrize("wrong, right", [("surest_stp", "surest_step"), ("by_lenght", "by_length")])
def test_the_error_of_a_misspelt_method_names_the_new_one(added, wrong, right):
    with pytest.raises(ValueError) as error:
        choose_methods(wrong, TEST.labels)
    assert f"did you mean {right!r}?" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"did you mean {right!r}"):
        Estimator("tiny", demos=TRAIN, method=wrong).predict_proba(["a text"])


def test_a_new_estimator_is_a_method_of_the_estimator_for_texts_of_ones_own(added):
    p = Estimator("tiny", demos=TRAIN, method="by_length", engine_options=dict(gpu="cpu"))
    assert np.asarray(p.predict_proba(["abc"]))[0] == pytest.approx(0.25)


def test_the_plan_counts_what_a_new_estimator_asks(added):
    job = dict(dataset="demo", model="tiny", n_docs=6, n_dev=0)

    def told(methods):
        return count_tokens("02_alignment", job | dict(methods=methods))

    def tokens(prompts):
        return sum(map(len, load_engine("tiny", gpu="cpu").encode([p.text for p in prompts])))

    assert told("hard") == told("surest_step") == told("hard,surest_step")
    both = told("surest_step,by_length")
    asked = ask_prompts(TEST, TRAIN, PromptConfig()) + short_prompts(TEST, TRAIN, None)
    assert both.asked == tokens(asked)
    assert told("by_length").answered == 0 and "without" not in both.source


def test_the_plan_names_an_estimator_whose_prompts_are_not_known_beforehand(added):
    register_estimator(EstimatorSpec("by_length", (Query("turns", ask_length),), by_length), overwrite=True)
    job = dict(dataset="demo", model="tiny", n_docs=6, n_dev=0, methods="hard,by_length")
    assert count_tokens("02_alignment", job).source.endswith("without by_length")


def test_a_changed_estimator_is_not_taken_for_the_stored_one(added):
    (m,) = choose_methods("surest_step", TEST.labels)
    before = own_estimators([m])
    assert list(before) == ["surest_step"] and own_estimators(choose_methods("hard", TEST.labels)) == {}
    register_estimator(EstimatorSpec("surest_step", (ANSWERS,), by_length), overwrite=True)
    other = own_estimators([m])
    register_estimator(EstimatorSpec("surest_step", (ANSWERS,), by_length, version=2), overwrite=True)
    assert len({*before.values(), *other.values(), *own_estimators([m]).values()}) == 3


def no_dist(docs, traces):
    return np.zeros((len(docs), len(docs.labels)))


def fewer(docs, traces):
    return surest_step(docs.take([0]), traces[:1])


def out_of_range(docs, traces):
    return LabelDist(np.full(docs.gold.shape, 2.0), docs.labels, docs.ids, "x")


WRONG_SPECS = [
    (lambda: register_estimator("surest"), "an estimator is an EstimatorSpec, got 'surest'"),
    (lambda: register_estimator(EstimatorSpec("hard", (ANSWERS,), surest_step)), "is there already"),
    (lambda: register_estimator(EstimatorSpec("a+b", (ANSWERS,), surest_step)), "letters, digits and"),
    (lambda: register_estimator(EstimatorSpec("a,b", (ANSWERS,), surest_step)), "letters, digits and"),
    (lambda: register_estimator(EstimatorSpec("", (ANSWERS,), surest_step)), "letters, digits and"),
    (lambda: register_estimator(EstimatorSpec("prior", (ANSWERS,), surest_step)), "choose another"),
    (lambda: register_estimator(EstimatorSpec("gold", (ANSWERS,), surest_step)), "choose another"),
    (lambda: register_estimator(EstimatorSpec("paper", (ANSWERS,), surest_step)), "choose another"),
    (lambda: register_estimator(EstimatorSpec("new", (), surest_step)), "at least one Query"),
    (lambda: register_estimator(EstimatorSpec("new", ANSWERS, surest_step)), "at least one Query"),
    (lambda: register_estimator(EstimatorSpec("new", ("answers",), surest_step)), "got 'answers' in it"),
    (lambda: register_estimator(EstimatorSpec("new", (ANSWERS,), None)), "read must be a function"),
    (lambda: register_estimator(EstimatorSpec("new", (ANSWERS,), surest_step, "x")), "read_log_odds must"),
    (
        lambda: register_estimator(EstimatorSpec("new", (ANSWERS,), surest_step, default="nevr")),
        "did you mean 'never'?",
    ),
    (
        lambda: register_estimator(EstimatorSpec("new", (Query("answers", ask_length),), by_length)),
        "another query is named 'answers'",
    ),
    (lambda: Query("x", None), "query 'x': ask must be a function, got None"),
    (lambda: Query("x", ask_length, n_prompts=len), "give both"),
]


@pytest.mark.parametrize("call, says", WRONG_SPECS, ids=[str(k) for k in range(len(WRONG_SPECS))])
def test_what_is_no_estimator_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)
    assert "new" not in ESTIMATORS


@pytest.mark.parametrize(
    "read, says",
    [
        (no_dist, "estimator 'wrong': read must return a LabelDist"),
        (fewer, "it was given 6 documents and returned 1"),
        (out_of_range, "a probability lies outside"),
    ],
    ids=["array", "fewer", "range"],
)
def test_estimates_that_do_not_fit_are_refused_in_one_line(read, says):
    register_estimator(EstimatorSpec("wrong", (ANSWERS,), read))
    try:
        with pytest.raises(ValueError) as error:
            estimate(load_engine("tiny", gpu="cpu"), TEST, TRAIN, "wrong")
    finally:
        ESTIMATORS.pop("wrong")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_refusal_of_a_task_is_the_estimators_own(added):
    def refuses(labels, config):
        return "by_length needs a single-label task" if labels.multi else None

    register_estimator(EstimatorSpec("by_length", (LENGTH,), by_length, refuses=refuses), overwrite=True)
    with pytest.raises(ValueError, match="^by_length needs a single-label task$"):
        choose_methods("by_length", TEST.labels)
    assert "by_length" not in [m.name for m in choose_methods(None, TEST.labels)]
