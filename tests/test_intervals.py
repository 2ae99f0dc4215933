"""Intervals hold the truth as often as they say, and tests err as often as they say, whatever the number and
kind of documents
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet, load_docs, same_document, split_annotators
from mlcllm.demos import repeat_docs
from mlcllm.metrics import bootstrap_weights, compare, score, sign_flip_p
from mlcllm.step_statistics import LEAST_DOCS, RANGES, document_of, mean_difference, mean_interval, means
from mlcllm.stepwise_logits import answer_scores

POPULATIONS = {  # kind, true mean, draws
    "even": ("share", 0.5, lambda rng, n: (rng.random(n) < 0.5).astype(float)),
    "rare": ("share", 0.9, lambda rng, n: (rng.random(n) < 0.9).astype(float)),
    "top probability": ("share", 8 / 9, lambda rng, n: rng.beta(8, 1, n)),
    "narrow": ("share", 0.5, lambda rng, n: rng.beta(50, 50, n)),
    "difference": ("difference", 0.1, lambda rng, n: rng.choice([-1.0, 0, 1], n, p=[0.1, 0.7, 0.2])),
    "difference of probabilities": ("difference", 0, lambda rng, n: rng.random(n) - rng.random(n)),
    "normal": ("mean", 0, lambda rng, n: rng.normal(size=n)),
    "heavy tails": ("mean", 0, lambda rng, n: rng.standard_t(3, n)),
    "exponential": ("mean", 1, lambda rng, n: rng.exponential(size=n)),
}


def coverage(kind, truth, draw, n, clustered, n_samples=200):
    rng, hits = np.random.default_rng(1), []
    for _ in range(n_samples):
        doc, values = np.arange(n), draw(rng, n)
        if clustered:  # one to four rows a document, most of them alike
            doc = np.repeat(doc, rng.integers(1, 5, n))
            values = np.where(rng.random(len(doc)) < 0.6, values[doc], draw(rng, len(doc)))
        _, lo, hi = mean_interval(values, doc, kind=kind)
        hits.append(lo <= truth <= hi)
    return np.mean(hits)


@pytest.mark.parametrize("clustered", [False, True], ids=["one row", "several rows"])
@pytest.mark.parametrize("n", [2, 5, 10, 30, 100])
@pytest.mark.parametrize("population", POPULATIONS)
def test_coverage(population, n, clustered):
    "Student's t and the exact interval for shares; with normal intervals this was .70 at two documents"
    kind, truth, draw = POPULATIONS[population]
    least = 0.9 if n >= LEAST_DOCS else 0.86
    assert coverage(kind, truth, draw, n, clustered) >= least


KINDS = [  # values, kind, what the limits must be
    (
        [-1.0, 1.0],
        "mean",
        [-stats.t.ppf(0.975, 1), stats.t.ppf(0.975, 1)],
    ),  # two documents: Student's t, not the normal's
    ([0.0, 0, 0], "share", proportion_confint(0, 3, 0.05, "beta")),
    ([1.0, 1, 1], "share", proportion_confint(3, 3, 0.05, "beta")),
    ([True, True], None, proportion_confint(2, 2, 0.05, "beta")),
    (
        [0.0, 0, 0],
        "difference",
        [-(1 - 0.025 ** (1 / 3)), 1 - 0.025 ** (1 / 3)],
    ),  # nobody differed: not a share of 0
    ([1.0, 1], "difference", [-1 + 2 * 0.025**0.5, 1]),
    ([0.25, 0.25], "share", [0.25 * 0.025**0.5, 1 - 0.75 * 0.025**0.5]),
    ([2.0, 2, 2], "mean", [np.nan, np.nan]),  # no spread, no range: nothing is known
    ([0.0, 0, 0], None, [np.nan, np.nan]),  # numbers are no share unless they are said to be one
    ([1.0], "share", [np.nan, np.nan]),
]


@pytest.mark.parametrize("values, kind, limits", KINDS)
def test_kinds(values, kind, limits):
    np.testing.assert_allclose(mean_interval(values, range(len(values)), kind=kind)[1:], limits, rtol=1e-9)


def test_differences_within_0_and_1_are_no_share():
    "Differences that happen to be positive or 0 had an interval cut at 0"
    v = np.array([0, 0, 0, 0.1, 0, 0.3, 0, 0])
    _, lo, hi = mean_interval(v, range(8), kind="difference")
    assert lo < 0 < hi


@pytest.mark.parametrize(
    "kind, value, said",
    [
        ("share", -0.1, "a share has numbers from 0 to 1, got -0.1"),
        ("share", 1.2, "got 1.2"),
        ("difference", 1.5, "from -1 to 1"),
        ("shares", 0.5, "did you mean 'share'"),
    ],
)
def test_a_wrong_kind_is_refused(kind, value, said):
    with pytest.raises(ValueError, match=said):
        mean_interval([0.5, value], [1, 2], kind=kind)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40),
    st.sampled_from(["share", "difference", "mean"]),
    st.integers(1, 4),
)
def test_an_interval_holds_its_mean_and_keeps_its_range(values, kind, rows):
    values = np.array(values) * 2 - 1 if kind == "difference" else np.array(values)
    mean, lo, hi = mean_interval(values, np.arange(len(values)) // rows, kind=kind)
    assert np.isnan(lo) or RANGES[kind][0] - 1e-9 <= lo <= mean + 1e-9 <= hi + 2e-9 <= RANGES[kind][1] + 3e-9


def test_a_clear_share_at_exact_binomial_coverage():
    """Over every outcome of ten yes-or-no documents, weighted by its probability: at least 95 %, as Clopper
    and Pearson promise
    """
    found = [mean_interval(np.arange(10) < k, range(10))[1:] for k in range(11)]
    for p in np.linspace(0.02, 0.98, 25):
        assert sum(stats.binom.pmf(k, 10, p) for k, (lo, hi) in enumerate(found) if lo <= p <= hi) >= 0.95


@pytest.mark.parametrize("n_few, n_many", [(2, 60), (5, 60), (30, 30)])
def test_a_difference_with_few_documents_on_one_side(n_few, n_many):
    "The side with two documents decides the degrees of freedom"
    rng, hits = np.random.default_rng(2), []
    for _ in range(300):
        few, many = rng.normal(size=n_few), rng.normal(size=n_many)
        _, lo, hi = mean_difference(few, np.arange(n_few), many, 100 + np.arange(n_many))
        hits.append(lo <= 0 <= hi)
    assert np.mean(hits) >= 0.92


def test_two_constant_shares_differ_with_an_interval():
    got = mean_difference([1.0, 1, 1], [1, 2, 3], [0.0, 0, 0], [4, 5, 6], kind="share")
    np.testing.assert_allclose(got, [1, 1 - np.hypot(0.708, 0.708), 1], atol=1e-3)


def test_means_knows_the_kinds_of_its_columns():
    t = pd.DataFrame(dict(doc_id=list("abc"), g=1, top=[1.0, 1, 1], entropy=[0.0, 0, 0]))
    got = means(t, ["top", "entropy"], ["g"]).set_index("statistic")
    assert got.loc["top", "lo"] > 0.2 and np.isnan(got.loc["entropy", "lo"])


# paired tests


def now_and_then(rng, shape):
    "Nearly equal, but one method is now and then far off"
    return rng.normal(0, 0.3, shape) + np.where(rng.random(shape) < 0.1, rng.exponential(5, shape), 0) - 0.5


DIFFERENCES = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
    "now and then": now_and_then,
    "yes or no": lambda rng, shape: rng.choice([-1.0, 0, 1], shape, p=[0.1, 0.8, 0.1]),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [57, 103])
@pytest.mark.parametrize("kind", DIFFERENCES)
def test_a_paired_test_errs_as_often_as_it_says(kind, n, sign):
    "Plain sign flips erred in up to 17 % of samples, all on one side, where differences are skewed"
    d = sign * DIFFERENCES[kind](np.random.default_rng(3), (1500, n))
    wrong = (sign_flip_p(d, 1000) <= 0.05).mean()
    assert wrong <= 0.07  # .05 and 3 standard errors of 1,500 samples
    if kind in ("normal", "uniform", "heavy tails"):
        assert wrong >= 0.034


@pytest.mark.parametrize("scale", [1e-120, 1e-6, 1, 1e9])
def test_the_scale_of_differences_does_not_matter(scale):
    d = np.random.default_rng(0).exponential(size=(4, 60)) - 0.8
    np.testing.assert_allclose(sign_flip_p(d * scale, 500), sign_flip_p(d, 500))


def test_small_p_are_those_of_every_way():
    rng = np.random.default_rng(5)
    d = np.stack(
        [rng.normal(m, 1, 18) for m in (0.7, 1.0, 1.5)]
        + [rng.standard_t(3, 18) + 1, rng.exponential(1, 18) - 0.3]
    )
    np.testing.assert_allclose(sign_flip_p(d), sign_flip_p(d, n_perm=2**18), rtol=0.15)


def test_small_p_are_those_of_a_million_flips():
    d = np.random.default_rng(1).normal(0.42, 1, (1, 100))
    np.testing.assert_allclose(sign_flip_p(d), sign_flip_p(np.tile(d, (1, 1)), n_perm=10**6), rtol=0.35)
    assert sign_flip_p(d)[0] < 1e-3


@pytest.mark.parametrize(
    "d",
    [
        np.ones((1, 40)),
        np.zeros((1, 40)),
        np.full((1, 40), 1e-300),
        np.r_[1.0, np.zeros(39)][None],
        np.arange(40.0)[None],
        np.full((1, 40), np.nan),
    ],
    ids=["ones", "zeros", "tiny", "one", "rising", "unknown"],
)
def test_edges_give_a_p(d):
    p = sign_flip_p(d)[0]
    assert 0 < p <= 1
    if not np.nan_to_num(d).any() or (d > 0).sum() == 1:
        assert p > 0.3
    if (d >= 0.9).sum() > 30:
        assert p < 1e-6


def test_no_p_is_0():
    assert sign_flip_p(np.random.default_rng(0).normal(5, 1, (3, 2000))).min() > 0


@pytest.mark.parametrize("n_methods", [3, 34, 60])
def test_a_clear_winner_stays_significant(n_methods):
    "With 10,000 flips nothing could be significant from 33 methods on: 528 pairs times 1/10,001 is above .05"
    rng = np.random.default_rng(0)
    docs = AnnotatedDocs(
        "made",
        "test",
        LabelSet(("a",)),
        tuple(map(str, range(100))),
        ("text",) * 100,
        np.zeros((100, 1)),
        np.zeros((0, 1)),
        np.zeros(0, int),
        np.zeros(0, str),
    )
    methods = [
        LabelDist(
            np.clip(rng.normal(0.1 if k == 0 else 0.5, 0.03, (100, 1)), 0, 1), docs.labels, docs.ids, f"m{k}"
        )
        for k in range(n_methods)
    ]
    t = compare(methods, docs, "brier", n_boot=0)
    assert (t.p_adjusted[t.method == "m0"] < 0.001).all()
    others = t[t.method != "m0"]
    assert (others.p_adjusted < 0.05).mean() <= 0.05
    np.testing.assert_allclose(t.p_adjusted, multipletests(t.p, method="holm")[1])


# readings of one document


def readings(rng, n_docs=40, n_people=4):
    "A document a person, who mostly agree: one label, chosen by half"
    agree = rng.random(n_docs) < 0.5
    vote = np.where(
        rng.random((n_docs, n_people)) < 0.85, agree[:, None], rng.random((n_docs, n_people)) < 0.5
    ).astype(float)
    docs = AnnotatedDocs(
        "made",
        "test",
        LabelSet(("a",)),
        tuple(f"d{i}" for i in range(n_docs)),
        tuple(f"text {i}" for i in range(n_docs)),
        np.zeros((n_docs, 1), np.float32),
        vote.reshape(-1, 1),
        np.repeat(np.arange(n_docs), n_people),
        np.tile([f"p_{k}" for k in range(n_people)], n_docs),
    )
    return split_annotators(docs)


def test_intervals_of_scores_over_readings_cover():
    "Readings drawn one by one gave intervals 1.3 to 1.9 times too narrow"
    rng, hits, narrow = np.random.default_rng(0), [], []
    for k in range(150):
        docs = readings(rng)
        dist = LabelDist(np.full((len(docs), 1), 0.3), docs.labels, docs.ids, "m")
        r = score([dist], docs, ["brier"], n_boot=200, seed=k).iloc[0]
        hits.append(
            r.lo <= 0.29 <= r.hi
        )  # .09 where nobody, .49 where somebody chose the label, half of the time
        alone = replace(docs, ids=tuple(map(str, range(len(docs)))), annotator=None)
        r = score([replace(dist, ids=alone.ids)], alone, ["brier"], n_boot=200, seed=k).iloc[0]
        narrow.append(r.lo <= 0.29 <= r.hi)
    assert np.mean(hits) >= 0.9 and np.mean(narrow) <= 0.8


def test_a_paired_test_over_readings_errs_as_often_as_it_says():
    rng, wrong = np.random.default_rng(1), []
    for k in range(200):
        docs = readings(rng)
        pair = [
            LabelDist(np.full((len(docs), 1), p), docs.labels, docs.ids, m)
            for m, p in (("low", 0.3), ("high", 0.7))
        ]
        wrong.append(compare(pair, docs, "brier", n_perm=500, n_boot=0, seed=k).p[0] <= 0.05)
    assert np.mean(wrong) <= 0.1


@pytest.mark.parametrize("keep_aggregate", [False, True], ids=["readings", "both"])
@pytest.mark.parametrize(
    "names", [("p", "q"), ("p__1", "1"), ("_", "__")], ids=["plain", "underscores", "only underscores"]
)
def test_readings_are_known_by_their_document(names, keep_aggregate):
    "Ids and names may hold the joint __ themselves"
    two = AnnotatedDocs(
        "made",
        "test",
        LabelSet(("a",)),
        ("x", "x__y"),
        ("one", "two"),
        np.ones((2, 1), np.float32),
        np.ones((4, 1)),
        np.repeat([0, 1], 2),
        np.array(names * 2),
    )
    split = split_annotators(two, keep_aggregate)
    expected = [0, 0, 0, 1, 1, 1] if keep_aggregate else [0, 0, 1, 1]
    assert same_document(split).tolist() == expected
    assert same_document(repeat_docs(split, [0.0, 0.5])).tolist() == expected * 2 or keep_aggregate
    table = pd.DataFrame(dict(doc_id=split.ids, text=split.texts))
    assert pd.factorize(document_of(table, "both" if keep_aggregate else "annotator"))[0].tolist() == expected
    assert document_of(table).tolist() == list(split.ids)


def test_distinct_documents_are_drawn_as_ever():
    docs = load_docs("demo", "test")
    np.testing.assert_array_equal(
        bootstrap_weights(len(docs), 20, 3, same_document(docs)), bootstrap_weights(len(docs), 20, 3)
    )


def test_answers_of_readings_are_drawn_by_document():
    docs = readings(np.random.default_rng(0))
    rows = (
        answer_scores(docs.gold, np.ones_like(docs.gold), of=same_document(docs)),
        answer_scores(docs.gold, np.ones_like(docs.gold)),
    )
    width = [t.set_index("metric").loc["micro_f1"] for t in rows]
    assert width[0].hi - width[0].lo > 1.4 * (width[1].hi - width[1].lo)
