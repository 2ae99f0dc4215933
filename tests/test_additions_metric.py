"A metric that is added from outside the package is known wherever metrics are chosen by name."

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_metrics import DISTS, DOCS, make_docs

from mlcllm.comparisons import pareto, plot_outcome_pairs, plot_pareto, plot_runs, recommend
from mlcllm.data import LabelDist
from mlcllm.figure_tables import outcome_pairs
from mlcllm.figures import plot_costs, plot_slopes
from mlcllm.metrics import METRICS, Draws, Metric, compare, plot_scores_table, register_metric, score

TOKENS = dict(m0=10, m1=20, m2=40)


def largest_gap(probs, votes):  # the largest error of a document
    return np.abs(probs - votes).max(-1)


def hit_share(pred, gold, weights):  # share of documents with the gold label set, draw by draw
    return weights @ (pred == gold).all(1) / weights.sum(1)


def label_hits(pred, gold, weights):
    by_label = weights @ (pred == gold) / weights.sum(1)[:, None]
    return dict(hits=Draws(by_label.mean(1), by_label))


def agreement(pred, votes, annotators):  # counts only documents that several people judged
    close = (np.abs(pred - votes) < 0.5).mean(-1)
    return np.where(annotators > 1, close, np.nan)


@pytest.fixture
def added():
    before = dict(METRICS)
    register_metric("gap", largest_gap, ("probs", "votes"), "low", "largest gap")
    register_metric("hit_share", hit_share, ("pred", "gold", "weights"), "high")
    register_metric("hits", label_hits, ("pred", "gold", "weights"), "high")
    register_metric("agreement", agreement, ("pred", "votes", "annotators"), "high")
    yield
    METRICS.clear()
    METRICS.update(before)
    plt.close("all")


def overall(table, metric):
    rows = table[(table.metric == metric) & table.label.isna()]
    return rows.set_index("method").value


# --- score tables


def test_a_score_table_holds_it_without_being_asked(added):
    table = score(DISTS, DOCS, n_boot=30)
    votes = DOCS.human().probs
    for d in DISTS:
        assert np.isclose(overall(table, "gap")[d.method], largest_gap(d.probs, votes).mean())
        exact = ((d.probs >= 0.5) == (DOCS.gold > 0)).all(1).mean()
        assert np.isclose(overall(table, "hit_share")[d.method], exact)
    rows = table[table.metric == "gap"]
    assert rows.against.eq("votes").all() and (rows.lo < rows.value).all() and (rows.value < rows.hi).all()
    assert table[table.metric == "hit_share"].against.eq("gold").all()


def test_a_metric_with_a_number_for_each_label_has_a_row_for_each(added):
    table = score(DISTS[:1], DOCS, ["hits"], n_boot=10)
    assert table.label.tolist() == [None, *DOCS.labels.names]
    assert np.isclose(table.value.iloc[1:].mean(), table.value.iloc[0])


def test_without_votes_it_is_held_against_gold_and_says_so(added):
    bare = replace(
        DOCS, votes=DOCS.votes[:0], vote_doc=DOCS.vote_doc[:0], vote_annotator=DOCS.vote_annotator[:0]
    )
    table = score(DISTS, bare, ["gap"], n_boot=0)
    assert table.against.eq("gold").all()
    assert np.isclose(table.value.iloc[0], largest_gap(DISTS[0].probs, DOCS.gold).mean())


def test_what_it_needs_and_a_corpus_lacks_is_left_out_or_refused(added):
    one_each = np.flatnonzero(np.r_[True, np.diff(DOCS.vote_doc) > 0])
    keep = {what: getattr(DOCS, what)[one_each] for what in ("votes", "vote_doc", "vote_annotator")}
    alone = replace(DOCS, **keep)
    assert "agreement" in set(score(DISTS, DOCS, n_boot=0).metric)
    assert "agreement" not in set(score(DISTS, alone, n_boot=0).metric)
    with pytest.raises(
        ValueError, match="agreement needs annotators: documents with at least two annotators"
    ):
        score(DISTS, alone, ["agreement"])


def test_an_ordered_metric_needs_positions():
    docs = make_docs(multi=False)
    dist = LabelDist(docs.human().probs, docs.labels, docs.ids, "votes")
    register_metric(
        "steps",
        lambda p, h, at: np.abs((p - h) @ np.asarray(at, float)),
        ("probs", "votes", "positions"),
        "low",
    )
    try:
        assert "steps" not in set(score(dist, docs, n_boot=0).metric)
        found = score(dist, docs, ["steps"], n_boot=0, positions=range(len(docs.labels)))
        assert np.isclose(found.value.item(), 0)
    finally:
        METRICS.pop("steps")


# --- comparisons: the best is by direction


@pytest.mark.parametrize("metric", ["gap", "agreement"])
def test_comparisons_know_which_values_are_better(added, metric):
    table = score(DISTS, DOCS, n_boot=50)
    values = overall(table, metric)
    best = values.idxmin() if METRICS[metric].direction == "low" else values.idxmax()
    assert recommend(table, TOKENS, metric=metric, margin=0).best == best
    front = pareto(table, TOKENS, (metric,))
    assert front[front.method == best].on_front.item()
    pairs = compare(DISTS, DOCS, metric, n_perm=50, n_boot=20)
    assert np.isclose(pairs.difference.iloc[0], values["m0"] - values["m1"])
    assert recommend(table, TOKENS, metric=metric, pairs=pairs).best == best


def test_a_corpus_metric_is_not_compared_by_documents(added):
    with pytest.raises(ValueError, match="hit_share is no mean over documents.*gap"):
        compare(DISTS, DOCS, "hit_share")


# --- tables and figures where metrics are chosen by name


def filled(ax):  # the row of the dot that is marked as the best
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    return [k for k, dot in enumerate(dots) if dot.get_color() == "tab:orange"]


@pytest.mark.parametrize("metric, title", [("gap", "largest gap ↓"), ("hit_share", "hit share ↑")])
def test_the_figure_of_scores_marks_the_best(added, metric, title):
    table = score(DISTS, DOCS, n_boot=20)
    (ax,) = plot_scores_table(table, (metric,))
    values = overall(table, metric)
    best = values.min() if METRICS[metric].direction == "low" else values.max()
    assert ax.get_title() == title
    assert filled(ax) == [k for k, v in enumerate(values) if v == best]


def test_figures_of_runs_and_costs_name_it(added):
    table = score(DISTS, DOCS, n_boot=20)
    runs = pd.concat([table.assign(dataset="d", model=m, docs="d") for m in ("small", "tiny")])
    assert plot_runs(runs, "gap")[0].get_xlabel().startswith("largest gap, low is good")
    (ax,) = plot_pareto(pareto(table, TOKENS, ("hit_share",)))
    assert ax.get_ylabel().startswith("hit share\nhigh is good")
    assert plot_slopes(runs, "gap").axes[0].get_ylabel() == "largest gap, low is good"
    costs = runs[runs.metric == "gap"].assign(tokens=10.0)
    assert plot_costs(costs, "gap").axes[0].get_xlabel().startswith("largest gap, low is good (n = ")


def test_the_pairs_of_figure_8_can_be_of_it(added):
    table = score(DISTS[:2], DOCS, n_boot=20).assign(dataset="d", model="m")
    table["method"] = table.method.map(dict(m0="binary", m1="binary_outcome"))
    assert set(outcome_pairs(table, "gap").metric) == {"gap"}
    assert plot_outcome_pairs(table, "gap").get_xlabel() == "largest gap, low is good"


# --- what is refused

WRONG = {
    "a name that is taken": (("kl", largest_gap, ("probs", "votes"), "low"), "there is a metric kl already"),
    "no name": (
        ("a gap", largest_gap, ("probs", "votes"), "low"),
        "made of letters, digits and _, got 'a gap'",
    ),
    "no function": (("gap", 3, ("probs", "votes"), "low"), "must be callable, got 3"),
    "a misspelt need": (("gap", largest_gap, ("probs", "vote"), "low"), "did you mean 'votes'"),
    "a misspelt direction": (("gap", largest_gap, ("probs", "votes"), "lower"), "did you mean 'low'"),
    "two truths": (("gap", largest_gap, ("probs", "votes", "gold"), "low"), "needs votes and gold"),
    "no estimates": (("gap", largest_gap, ("votes",), "low"), "needs neither probs nor pred"),
    "needs as one word": (("gap", largest_gap, "probs", "low"), "needs of gap must be a tuple of names"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_description_is_refused_in_one_line(case):
    arguments, words = WRONG[case]
    before = dict(METRICS)
    with pytest.raises(ValueError) as error:
        register_metric(*arguments)
    assert words in str(error.value) and "\n" not in str(error.value) and before == METRICS


@pytest.mark.parametrize(
    "function, needs, words",
    [
        (lambda p, h: p - h, ("probs", "votes"), "gave numbers of shape (1, 60, "),
        (lambda p, h, w: p, ("pred", "gold", "weights"), "gave draws of shape (60, "),
        (lambda p, h, w: dict(other=w.sum(1)), ("pred", "gold", "weights"), "gave no draws of it"),
    ],
    ids=["per document", "draws", "another name"],
)
def test_a_function_that_gives_other_shapes_is_refused(function, needs, words):
    register_metric("odd", function, needs, "low")
    try:
        with pytest.raises(ValueError) as error:
            score(DISTS[:1], DOCS, ["odd"], n_boot=3)
    finally:
        METRICS.pop("odd")
    assert words in str(error.value) and "odd" in str(error.value)


def test_a_metric_can_be_replaced_on_purpose(added):
    register_metric("gap", largest_gap, ("probs", "votes"), "high", replace=True)
    assert METRICS["gap"] == Metric(largest_gap, ("probs", "votes"), "high", "gap")
    assert METRICS["gap"].best == "high" and METRICS["gap"].per_doc and METRICS["gap"].against == "soft"
