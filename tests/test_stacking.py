"Stacked readings follow the formula, match the best of them, and keep near the prior with few documents"

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax

from mlcllm.calibration import fit_calibrator, load_calibration, save_calibration
from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet
from mlcllm.distances import brier
from mlcllm.stacking import (
    STRENGTHS,
    StackedOdds,
    clipped_log_odds,
    cross_stack,
    curve_table,
    fit_stacking,
    learning_curve,
    smoothed_prior,
    with_best_reading,
)

LEVELS = np.array([-3, -2, -1.5, -1])


def simulated(n, seed, multi=True, n_votes=0):
    "One overconfident reading that likes some labels, and three of noise"
    rng = np.random.default_rng(seed)
    z = LEVELS + 1.5 * rng.normal(size=(n, 4))
    truth = expit(z) if multi else softmax(z, 1)
    if multi:
        gold = (rng.random(z.shape) < truth).astype(np.float32)
    else:
        gold = np.eye(4, dtype=np.float32)[[rng.choice(4, p=row) for row in truth]]
    votes, whose = np.zeros((0, 4)), np.zeros(0, int)
    if n_votes:
        votes = (rng.random((n, n_votes, 4)) < truth[:, None]).reshape(-1, 4).astype(np.float32)
        whose = np.repeat(np.arange(n), n_votes)
    ids, labels = tuple(f"{seed}-{k}" for k in range(n)), LabelSet(tuple("abcd"), multi, multi)
    who = np.tile(np.arange(max(n_votes, 1)).astype(str), n)[: len(votes)]
    docs = AnnotatedDocs("simulated", "dev", labels, ids, ids, gold, votes, whose, who)
    told = 2 * z + np.array([2, -1, 0, 3]) + 0.3 * rng.normal(size=z.shape)
    odds = dict(zip("tuvw", (told, *rng.normal(size=(3, n, 4)))))
    as_probs = expit if multi else lambda x: softmax(x, 1)
    return truth, docs, [LabelDist(as_probs(x), labels, ids, m, not multi) for m, x in odds.items()]


def some(dists, rows):
    return [replace(d, probs=d.probs[rows], ids=tuple(d.ids[k] for k in rows)) for d in dists]


@pytest.mark.parametrize("strength", [1e-3, 0.1, 1.0])
def test_against_the_objective_written_out(strength):
    "By a general optimiser, with the prior's weight left free, a loop over documents, labels and readings"
    _, docs, dists = simulated(40, 2, n_votes=3)
    h, n = docs.human().probs, len(docs)
    model = StackedOdds(strength).fit(np.stack([clipped_log_odds(d.probs) for d in dists], 1), h)
    x = [np.clip(np.log(d.probs / (1 - d.probs)), -np.log(9999), np.log(9999)) for d in dists]
    x = [a - a.mean(0) for a in x]
    x = [a / np.sqrt((a**2).mean()) for a in x]
    prior = np.log((h.sum(0) + 0.5) / (n - h.sum(0) + 0.5))
    seen = [l for l in range(4) if h[:, l].sum() > 0]

    def odds(v, d, l):
        return v[0] + v[1] * prior[l] + sum(v[2 + m] * x[m][d, l] for m in range(4))

    def loss(v):
        total = (v[2:] ** 2).sum() / 2 + (v[1] / 100) ** 2 / 2
        for d in range(n):
            for l in seen:
                z = odds(v, d, l)
                total += strength * (np.logaddexp(0, z) - h[d, l] * z)
        return total

    v = minimize(loss, np.r_[0, 1, np.zeros(4)], method="BFGS", options=dict(gtol=1e-6)).x
    by_hand = [[expit(odds(v, d, l)) for l in range(4)] for d in range(n)]
    found = model.predict(np.stack([clipped_log_odds(d.probs) for d in dists], 1))
    np.testing.assert_allclose(found[:, seen], np.array(by_hand)[:, seen], atol=2e-3)


def test_as_good_as_the_best_calibrated_reading():
    "Which reading knows something is not told; with 100 documents that costs nothing, on 12 draws"
    behind = []
    for seed in range(12):
        _, few, dists = simulated(100, seed)
        truth, docs, new = simulated(800, 1000 + seed)
        stacked = fit_stacking(dists, few).transform(new).probs
        platt = fit_calibrator(dists[0], few).transform(new[0]).probs
        behind.append((brier(stacked[None], truth) - brier(platt[None], truth)).mean())
    assert np.mean(behind) < 0.005


@pytest.mark.parametrize("knows", [True, False], ids=["one reading knows", "all are noise"])
def test_with_25_documents_it_is_not_behind_the_prior(knows):
    worse = []
    for seed in range(12):
        _, few, dists = simulated(25, seed)
        truth, docs, new = simulated(800, 1000 + seed)
        part = slice(0 if knows else 1, None)
        stacked = fit_stacking(dists[part], few).transform(new[part]).probs
        prior = np.tile(smoothed_prior(few.gold), (len(docs), 1))
        worse.append((brier(stacked[None], truth) - brier(prior[None], truth)).mean())
    assert np.mean(worse) < (-0.05 if knows else 0.02)


def test_single_label_estimates_sum_to_one():
    _, few, dists = simulated(120, 0, multi=False)
    truth, _, new = simulated(800, 1, multi=False)
    stacked = fit_stacking(dists, few).transform(new)
    np.testing.assert_allclose(stacked.probs.sum(1), 1)
    assert stacked.sums_to_one and np.abs(stacked.probs - truth).mean() < 0.07
    nll = [-(truth * np.log(p)).sum(1).mean() for p in (stacked.probs, new[0].probs, truth)]
    assert nll[2] < nll[0] < min(nll[1], nll[2] + 0.05)


def test_labels_that_nobody_chose_keep_the_prior():
    _, few, dists = simulated(40, 3)
    gold = few.gold.copy()
    gold[:, 1] = 0
    stacked = fit_stacking(dists, replace(few, gold=gold)).transform(simulated(30, 4)[2])
    np.testing.assert_allclose(stacked["b"], 0.5 / 41)
    nothing = fit_stacking(dists, replace(few, gold=0 * gold)).transform(simulated(30, 4)[2])
    np.testing.assert_allclose(nothing.probs, 0.5 / 41)
    every = fit_stacking(dists, replace(few, gold=0 * gold + 1)).transform(simulated(30, 4)[2])
    np.testing.assert_allclose(every.probs, 40.5 / 41)


def test_own_estimates_use_no_own_label():
    "Another label of one document changes nothing of its out-of-fold estimate"
    _, few, dists = simulated(40, 5)
    gold = few.gold.copy()
    gold[7] = 1 - gold[7]
    first, second = cross_stack(dists, few), cross_stack(dists, replace(few, gold=gold))
    np.testing.assert_allclose(first.probs[7], second.probs[7])
    assert np.abs(first.probs - second.probs).max() > 1e-4


def test_stored_refused_and_unknown(tmp_path):
    _, few, dists = simulated(40, 6)
    _, _, new = simulated(20, 7)
    stacking = fit_stacking(dists, few)
    (stored,) = load_calibration(save_calibration(tmp_path / "s.json", stacking))
    assert stored == stacking and stacking.strength in STRENGTHS
    np.testing.assert_array_equal(stored.transform(new).probs, stacking.transform(new).probs)
    p = new[1].probs.copy()
    p[3, 2] = np.nan
    found = stacking.transform([new[0], replace(new[1], probs=p), *new[2:]]).probs
    assert np.isnan(found[3, 2]) and np.isnan(found).sum() == 1
    for call, says in (
        (lambda: stacking.transform(dists), "40 of these documents were fitted to"),
        (lambda: stacking.transform(new[:2]), "v is missing among t, u"),
        (lambda: stacking.transform([new[0], *some(new[1:], [0])]), "estimates of different documents"),
        (lambda: fit_stacking(some(dists, range(4)), few.take(range(4))), "at least 5 are needed"),
        (lambda: fit_stacking(dists, few, n_folds=1), "n_folds must be a whole number"),
        (lambda: fit_stacking([*dists, 3], few), "a list of LabelDist, got int"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_curves_of_the_same_documents():
    "Every way is scored in every draw, once, and a draw is the same whatever else is compared"
    _, docs, dists = simulated(150, 8)
    rng = np.random.default_rng(0)
    vectors = docs.gold @ rng.normal(size=(4, 8)) + 0.3 * rng.normal(size=(150, 8))
    options = dict(sizes=(25, 60), n_draws=2, calibrations=("platt",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = learning_curve(dists[:2], docs, features=dict(vectors=vectors), **options)
    ways = {
        "prior",
        "t+platt",
        "u+platt",
        "vectors",
        "stacked",
        "stacked_texts",
        "stacked_readings_and_texts",
    }
    assert set(scores.method) == ways and len(scores) == 2 * 2 * 3 * len(ways)
    less = learning_curve(dists[:2], docs, **options)
    both = scores.merge(less, on=["n", "draw", "method", "metric"], suffixes=("", "_less"))
    assert len(both) == len(less) and np.allclose(both.value, both.value_less)
    table = curve_table(scores)
    means = table.pivot(index="method", columns=["metric", "n"], values="value")
    assert means["brier", 60]["vectors"] < means["brier", 60]["prior"]
    best = with_best_reading(table).query("method == 'best calibrated reading'")
    assert len(best) == 6 and set(best.value) <= set(table.value)
