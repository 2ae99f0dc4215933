"Conformal sets keep what they promise on exchangeable documents, whatever the estimates are worth"

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm.calibration import fit_thresholds, load_calibration, save_calibration
from mlcllm.conformal import SET_KINDS, coverage_table, fit_conformal, split_coverage
from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet

NAMES = tuple("abcdef")


def made(gold, multi=True, allows_none=True):
    "Documents with these gold labels"
    gold = np.asarray(gold, np.float32)
    ids = tuple(f"d{k}" for k in range(len(gold)))
    n = gold.shape[1]
    labels = LabelSet(NAMES[:n], allows_none, multi)
    return AnnotatedDocs(
        "made", "dev", labels, ids, ids, gold, np.zeros((0, n)), np.zeros(0, int), np.zeros(0, str)
    )


def estimates(probs, docs):
    return LabelDist(np.asarray(probs, float), docs.labels, docs.ids, "m", not docs.labels.multi)


def drawn(n, seed, multi=True, n_labels=4):
    "Documents, and estimates that know something of them and are wrong in level"
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 2, (n, n_labels))
    if multi:
        docs = made(rng.random(z.shape) < 1 / (1 + np.exp(-z)))
        return docs, estimates(1 / (1 + np.exp(1 - 2 * z)), docs)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    gold = np.eye(n_labels)[[rng.choice(n_labels, p=row) for row in p]]
    docs = made(gold, multi=False, allows_none=False)
    return docs, estimates(p**3 / (p**3).sum(1, keepdims=True), docs)


def quiet_fit(*given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_conformal(*given, **options)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 60), st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95]))
def test_thresholds_are_the_order_statistic(seed, n, coverage):
    "Written out: the ⌈(n+1)·coverage⌉-th largest of the lowest probabilities of gold labels; ties included"
    rng = np.random.default_rng(seed)
    docs = made(rng.random((n, 3)) < 0.4)
    p = rng.random((n, 3)).round(1)
    sets = quiet_fit(estimates(p, docs), docs, coverage)
    lowest = sorted((min((x for x, g in zip(row, gold) if g), default=2) for row, gold in zip(p, docs.gold)))
    k = math.ceil(round((n + 1) * coverage, 9))
    assert sets.thresholds == ((lowest[::-1][k - 1],) if k <= n else (0.0,))
    each = quiet_fit(estimates(p, docs), docs, coverage, how="per_label")
    for label, threshold in enumerate(each.thresholds):
        own = sorted(p[docs.gold[:, label] > 0, label], reverse=True)
        k = math.ceil(round((len(own) + 1) * coverage, 9))
        assert threshold == (own[k - 1] if k <= len(own) else 0.0)


@pytest.mark.parametrize("multi", [True, False], ids=["several", "one"])
@pytest.mark.parametrize("how", SET_KINDS)
def test_coverage_is_within_two_points_over_100_splits(how, multi):
    docs, dist = drawn(600, 3, multi)
    for asked in (0.8, 0.9):
        splits = split_coverage(dist, docs, asked, how)
        assert len(splits) == 100 and abs(splits.coverage.mean() - asked) < 0.02


def test_useless_estimates_give_large_sets_and_no_broken_promise():
    docs, _ = drawn(600, 4)
    noise = estimates(np.random.default_rng(0).random(docs.gold.shape), docs)
    good = split_coverage(drawn(600, 4)[1], docs, 0.9)
    bad = split_coverage(noise, docs, 0.9)
    assert abs(bad.coverage.mean() - 0.9) < 0.02 and bad["size"].mean() > good["size"].mean() + 0.5


def test_a_label_shift_breaks_the_first_promise_only():
    "Documents with a hard, rare label become frequent"
    rng = np.random.default_rng(1)
    docs, dist = drawn(6000, 5)
    gold, p = docs.gold.copy(), np.array(dist.probs)
    gold[:, 0] *= rng.random(len(docs)) < 0.15
    p[:, 0] = rng.random(len(docs)) * (0.01 + 0.01 * gold[:, 0])
    docs, rows = replace(docs, gold=gold), np.arange(3000, 6000)
    odds = np.where(gold[rows, 0] > 0, 20.0, 1.0)
    shifted = rng.choice(rows, 3000, p=odds / odds.sum())
    fit = docs.take(range(3000))
    covered = {}
    for how in SET_KINDS:
        chosen = p[shifted] >= np.array(fit_conformal(estimates(p[:3000], fit), fit, how=how).thresholds)
        has = gold[shifted] > 0
        covered[how] = (chosen | ~has).all(1).mean(), chosen[has[:, 0], 0].mean()
    assert covered["marginal"][0] < 0.8 and abs(covered["per_label"][1] - 0.9) < 0.06


def test_rare_labels_are_always_in_the_set_and_named():
    gold = np.zeros((30, 3))
    gold[:20, 0], gold[:8, 1] = 1, 1
    docs = made(gold)
    dist = estimates(np.random.default_rng(0).random((30, 3)) * 0.9 + 0.05, docs)
    with pytest.warns(UserWarning, match=r"needs at least 9 documents that have a label.*: b, c$"):
        sets = fit_conformal(dist, docs, how="per_label")
    assert sets.always == ("b", "c")
    new = replace(dist, ids=tuple(f"new {i}" for i in dist.ids))
    assert all({"b", "c"} <= set(s) for s in sets.predict(new))


def test_what_is_unknown():
    docs, dist = drawn(40, 0, multi=False)
    gold = docs.gold.copy()
    gold[:5] = 0  # one label fits each document, and of these it is not known which
    sets = quiet_fit(dist, replace(docs, gold=gold))
    assert len(sets.ids) == 35
    p = np.array(dist.probs)
    p[:3] = np.nan
    assert len(quiet_fit(replace(dist, probs=p), docs).ids) == 37
    found = sets.predict(replace(dist, probs=p), allow_fitted=True)
    assert found[:3] == [docs.labels.names] * 3


def test_stored_and_refused(tmp_path):
    docs, dist = drawn(60, 1)
    kept = [quiet_fit(dist, docs, 0.8, how) for how in SET_KINDS] + [fit_thresholds(dist, docs)]
    assert load_calibration(save_calibration(tmp_path / "f.json", *kept)) == kept
    assert kept[0].at(how="per_label") == kept[1] and kept[1].at(0.8, "marginal") == kept[0]
    for wrong, says in (
        (dict(coverage=1), "between 0 and 1"),
        (dict(coverage="0.9"), "between 0 and 1"),
        (dict(how="labels"), "unknown kind of label sets"),
    ):
        with pytest.raises(ValueError, match=says):
            fit_conformal(dist, docs, **wrong)
    with pytest.raises(ValueError, match="conformal sets of m: label"):
        kept[0].predict(drawn(9, 2, n_labels=5)[1])
    with pytest.raises(ValueError, match="60 of these documents were fitted to"):
        coverage_table(kept[0], dist, docs)


def test_table_against_counting():
    docs, dist = drawn(200, 6)
    fit, rest = [
        (docs.take(r), replace(dist, probs=dist.probs[r], ids=docs.take(r).ids))
        for r in (np.arange(100), np.arange(100, 200))
    ]
    sets = quiet_fit(fit[1], fit[0])
    table = coverage_table([sets, 1], rest[1], rest[0], n_boot=200).set_index(["way", "measure"])
    found = sets.predict(rest[1])
    gold = [set(docs.labels.decode(g)) for g in rest[0].gold]
    own = table.loc["marginal 0.9"]
    assert own.value["coverage"] == pytest.approx(np.mean([g <= set(s) for g, s in zip(gold, found)]))
    assert own.value["size"] == pytest.approx(np.mean([len(s) for s in found]))
    assert own.value["full"] == pytest.approx(np.mean([len(s) == 4 for s in found]))
    assert own.value["empty"] == pytest.approx(np.mean([not s for s in found]))
    for name, value in table.loc[[("marginal 0.9", "label_coverage")]].set_index("label").value.items():
        assert value == pytest.approx(np.mean([name in s for g, s in zip(gold, found) if name in g]))
    assert (own.lo <= own.value).all() and (own.value <= own.hi).all()
