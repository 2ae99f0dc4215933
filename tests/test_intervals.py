"Intervals hold the truth as often as they say, for shares, differences and means, whatever the number of documents"
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mlcllm.step_statistics import LEAST_DOCS, RANGES, mean_difference, mean_interval, means

POPULATIONS = {  # kind, true mean, draws
    "even": ("share", .5, lambda rng, n: (rng.random(n) < .5).astype(float)),
    "rare": ("share", .9, lambda rng, n: (rng.random(n) < .9).astype(float)),
    "top probability": ("share", 8/9, lambda rng, n: rng.beta(8, 1, n)),
    "narrow": ("share", .5, lambda rng, n: rng.beta(50, 50, n)),
    "difference": ("difference", .1, lambda rng, n: rng.choice([-1., 0, 1], n, p=[.1, .7, .2])),
    "difference of probabilities": ("difference", 0, lambda rng, n: rng.random(n)-rng.random(n)),
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
            values = np.where(rng.random(len(doc)) < .6, values[doc], draw(rng, len(doc)))
        _, lo, hi = mean_interval(values, doc, kind=kind)
        hits.append(lo <= truth <= hi)
    return np.mean(hits)


@pytest.mark.parametrize("clustered", [False, True], ids=["one row", "several rows"])
@pytest.mark.parametrize("n", [2, 5, 10, 30, 100])
@pytest.mark.parametrize("population", POPULATIONS)
def test_coverage(population, n, clustered):
    "Student's t and the exact interval for shares; with normal intervals this was .70 at two documents"
    kind, truth, draw = POPULATIONS[population]
    least = .9 if n >= LEAST_DOCS else .86
    assert coverage(kind, truth, draw, n, clustered) >= least


KINDS = [  # values, kind, what the limits must be
    ([-1., 1.], "mean", [-stats.t.ppf(.975, 1), stats.t.ppf(.975, 1)]),  # two documents: Student's t, not the normal's
    ([0., 0, 0], "share", proportion_confint(0, 3, .05, "beta")),
    ([1., 1, 1], "share", proportion_confint(3, 3, .05, "beta")),
    ([True, True], None, proportion_confint(2, 2, .05, "beta")),
    ([0., 0, 0], "difference", [-(1-.025**(1/3)), 1-.025**(1/3)]),  # nobody differed: not a share of 0
    ([1., 1], "difference", [-1 + 2*.025**.5, 1]),
    ([.25, .25], "share", [.25*.025**.5, 1-.75*.025**.5]),
    ([2., 2, 2], "mean", [np.nan, np.nan]),  # no spread, no range: nothing is known
    ([0., 0, 0], None, [np.nan, np.nan]),    # numbers are no share unless they are said to be one
    ([1.], "share", [np.nan, np.nan]),
]


@pytest.mark.parametrize("values, kind, limits", KINDS)
def test_kinds(values, kind, limits):
    np.testing.assert_allclose(mean_interval(values, range(len(values)), kind=kind)[1:], limits, rtol=1e-9)


def test_differences_within_0_and_1_are_no_share():
    "Differences that happen to be positive or 0 had an interval cut at 0"
    v = np.array([0, 0, 0, .1, 0, .3, 0, 0])
    _, lo, hi = mean_interval(v, range(8), kind="difference")
    assert lo < 0 < hi


@pytest.mark.parametrize("kind, value, said", [("share", -.1, "a share has numbers from 0 to 1, got -0.1"), ("share", 1.2, "got 1.2"), ("difference", 1.5, "from -1 to 1"), ("shares", .5, "did you mean 'share'")])
def test_a_wrong_kind_is_refused(kind, value, said):
    with pytest.raises(ValueError, match=said):
        mean_interval([.5, value], [1, 2], kind=kind)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40), st.sampled_from(["share", "difference", "mean"]), st.integers(1, 4))
def test_an_interval_holds_its_mean_and_keeps_its_range(values, kind, rows):
    values = np.array(values)*2 - 1 if kind=="difference" else np.array(values)
    mean, lo, hi = mean_interval(values, np.arange(len(values))//rows, kind=kind)
    assert np.isnan(lo) or RANGES[kind][0]-1e-9 <= lo <= mean+1e-9 <= hi+2e-9 <= RANGES[kind][1]+3e-9


def test_a_clear_share_at_exact_binomial_coverage():
    "Over every outcome of ten yes-or-no documents, weighted by its probability: at least 95 %, as Clopper and Pearson promise"
    found = [mean_interval(np.arange(10) < k, range(10))[1:] for k in range(11)]
    for p in np.linspace(.02, .98, 25):
        assert sum(stats.binom.pmf(k, 10, p) for k, (lo, hi) in enumerate(found) if lo <= p <= hi) >= .95


@pytest.mark.parametrize("n_few, n_many", [(2, 60), (5, 60), (30, 30)])
def test_a_difference_with_few_documents_on_one_side(n_few, n_many):
    "The side with two documents decides the degrees of freedom"
    rng, hits = np.random.default_rng(2), []
    for _ in range(300):
        few, many = rng.normal(size=n_few), rng.normal(size=n_many)
        _, lo, hi = mean_difference(few, np.arange(n_few), many, 100+np.arange(n_many))
        hits.append(lo <= 0 <= hi)
    assert np.mean(hits) >= .92


def test_two_constant_shares_differ_with_an_interval():
    got = mean_difference([1., 1, 1], [1, 2, 3], [0., 0, 0], [4, 5, 6], kind="share")
    np.testing.assert_allclose(got, [1, 1-np.hypot(.708, .708), 1], atol=1e-3)


def test_means_knows_the_kinds_of_its_columns():
    t = pd.DataFrame(dict(doc_id=list("abc"), g=1, top=[1., 1, 1], entropy=[0., 0, 0]))
    got = means(t, ["top", "entropy"], ["g"]).set_index("statistic")
    assert got.loc["top", "lo"] > .2 and np.isnan(got.loc["entropy", "lo"])
