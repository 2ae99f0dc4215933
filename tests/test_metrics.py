"Scores against other libraries, against slow resampling, under random input; real votes; bad input."

import warnings
from dataclasses import replace
from math import log

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, permutation_test, skew, spearmanr
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, jaccard_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet, load_docs
from mlcllm.metrics import (
    BINS,
    METRICS,
    bootstrap_weights,
    brier,
    compare,
    ece,
    entropy_bits,
    example_f1,
    jaccard,
    js,
    kl,
    l1,
    nll,
    plot_reliability,
    plot_scores_table,
    reliability,
    score,
    semantic_f1,
    sign_flip_p,
    spearman,
    to_labels,
    wasserstein,
)
from mlcllm.stepwise_logits import answer_scores

FLOAT = st.floats(0, 1, width=32)


def make_docs(seed=0, n_docs=60, n_labels=4, n_annotators=3, multi=True):
    "Documents with votes, and gold labels that half of the annotators gave"
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(n_docs), n_annotators)
    if multi:
        votes = (
            rng.random((len(doc), n_labels))
            < np.linspace(0.1, 0.5, n_labels) * 2 * rng.random((n_docs, n_labels))[doc]
        )
    else:
        votes = np.eye(n_labels)[rng.integers(0, n_labels, len(doc))]
    share = np.add.reduceat(votes.astype(float), np.arange(0, len(doc), n_annotators), 0) / n_annotators
    gold = share >= 0.5 if multi else np.eye(n_labels)[share.argmax(1)]
    return AnnotatedDocs(
        "made",
        "test",
        LabelSet(tuple("abcdefgh"[:n_labels]), multi, multi),
        tuple(f"d{k}" for k in range(n_docs)),
        ("text",) * n_docs,
        gold.astype(np.float32),
        votes.astype(np.float32),
        doc,
        np.array([f"p{k}" for k in range(n_annotators)] * n_docs),
    )


def make_dists(docs, n_methods=3, seed=1):
    rng, h = np.random.default_rng(seed), docs.human().probs
    noisy = [np.clip(h + rng.normal(0, 0.15 * (k + 1), h.shape), 0, 1) for k in range(n_methods)]
    if not docs.labels.multi:
        noisy = [(p + 0.01) / (p + 0.01).sum(1, keepdims=True) for p in noisy]
    return [LabelDist(p, docs.labels, docs.ids, f"m{k}") for k, p in enumerate(noisy)]


def no_votes(docs):
    return replace(
        docs, votes=docs.votes[:0], vote_doc=docs.vote_doc[:0], vote_annotator=docs.vote_annotator[:0]
    )


def values(table, method="m0"):
    "(metric, label) -> row"
    return {
        (r.metric, r.label if isinstance(r.label, str) else None): r
        for r in table[table.method == method].itertuples()
    }


DOCS = make_docs()
DISTS = make_dists(DOCS)
SINGLE = make_docs(multi=False)


# --- against other libraries


@pytest.mark.parametrize("multi", [True, False])
def test_label_scores_are_scikit_learns(multi):
    docs = make_docs(3, multi=multi)
    d = make_dists(docs)[0]
    got = values(score(d, docs, n_boot=0))
    gold, p = docs.gold.astype(int), d.probs
    pred = to_labels(p, multi).astype(int)
    if not multi:
        assert (pred.argmax(1) == p.argmax(1)).all()
    for metric, average, empty in (
        ("example_f1", "samples", 1),
        ("micro_f1", "micro", 0),
        ("macro_f1", "macro", 0),
    ):
        assert np.isclose(
            got[metric, None].value, f1_score(gold, pred, average=average, zero_division=empty)
        ), metric
    assert np.isclose(
        got["jaccard", None].value, jaccard_score(gold, pred, average="samples", zero_division=1)
    )
    for k, name in enumerate(docs.labels.names):
        assert np.isclose(got["f1", name].value, f1_score(gold[:, k], pred[:, k], zero_division=0))
        assert np.isclose(got["average_precision", name].value, average_precision_score(gold[:, k], p[:, k]))
        assert np.isclose(got["roc_auc", name].value, roc_auc_score(gold[:, k], p[:, k]))
    assert np.isclose(got["roc_auc", None].value, roc_auc_score(gold, p, average="macro"))
    assert np.isclose(got["average_precision", None].value, average_precision_score(gold, p, average="macro"))


def test_brier_is_scikit_learns():
    d = make_dists(SINGLE)[0]
    assert np.isclose(
        brier(d.probs, SINGLE.gold).mean(),
        brier_score_loss(SINGLE.gold.argmax(1), d.probs, scale_by_half=False),
    )
    p = DISTS[0].probs
    assert np.isclose(
        brier(p, DOCS.gold).mean(),
        sum(brier_score_loss(DOCS.gold[:, k].astype(int), p[:, k]) for k in range(4)),
    )


def test_divergences_are_scipys():
    docs = SINGLE
    p, h = make_dists(docs)[0].probs, docs.human().probs
    assert np.allclose(kl(p, h, False), entropy(h, p, axis=1)) and np.allclose(
        entropy_bits(p, False), entropy(p, base=2, axis=1)
    )
    assert np.allclose(nll(p, h, False), entropy(h, p, axis=1) + entropy(h, axis=1)) and np.allclose(
        js(p, h, False), jensenshannon(p, h, axis=1) ** 2
    )

    def two(x):
        return np.stack([x, 1 - x], -1)

    p, h = DISTS[0].probs * 0.98 + 0.01, DOCS.human().probs
    assert np.allclose(kl(p, h, True), entropy(two(h), two(p), axis=-1).sum(-1)) and np.allclose(
        entropy_bits(p, True), entropy(two(p), base=2, axis=-1).sum(-1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.allclose(spearman(p, h), [spearmanr(a, b).statistic for a, b in zip(p, h)], equal_nan=True)


@pytest.mark.parametrize("n_bins", [1, 5, 15])
def test_ece_is_torchmetrics(n_bins):
    calibration = pytest.importorskip(
        "torchmetrics.functional.classification",
        reason="torchmetrics is not installed: ECE is not compared with it",
    )
    import torch

    rng = np.random.default_rng(n_bins)
    p = rng.random((200, 4))
    y = (rng.random(p.shape) < p**2).astype(int)
    other = calibration.binary_calibration_error(
        torch.tensor(p).ravel(), torch.tensor(y).ravel(), n_bins=n_bins, norm="l1"
    )
    assert np.isclose(ece(p, y, n_bins), float(other), atol=1e-6)


@pytest.mark.parametrize("equal", [False, True])
def test_ece_is_netcals(equal):
    netcal = pytest.importorskip(
        "netcal.metrics", reason="netcal is not installed: ECE is not compared with it"
    )
    rng = np.random.default_rng(7)
    p = rng.random(600)
    y = (rng.random(600) < p**2).astype(int)
    other = netcal.ECE(bins=10, equal_intervals=not equal).measure(p, y)
    assert np.isclose(
        ece(p[:, None], y[:, None], 10, "mass" if equal else "width"), other, atol=1e-3 if equal else 1e-6
    )


def test_semantic_f1_is_the_packages():
    package = pytest.importorskip("semantic_f1_score", reason="semantic-f1-score is not installed")
    names = list(DOCS.labels.names)
    rng = np.random.default_rng(0)
    sim = rng.random((4, 4))
    sim = pd.DataFrame(np.maximum(sim, sim.T), names, names)
    for k in range(4):
        sim.iloc[k, k] = 1.0
    pred = to_labels(DISTS[0].probs, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = semantic_f1(pred, DOCS.gold, sim)

    def sets(x):
        return [set(DOCS.labels.decode(r)) for r in x]

    assert np.isclose(
        ours.mean(), package.semantic_f1_score(sets(pred), sets(DOCS.gold), sim, average="samples")
    )
    assert np.allclose(
        semantic_f1(pred, DOCS.gold, pd.DataFrame(np.eye(4), names, names)), example_f1(pred, DOCS.gold)
    )
    t = score(DISTS, DOCS, ["semantic_f1"], n_boot=5, similarity=sim)
    assert np.isclose(t.value[0], ours.mean()) and t.lo.notna().all()


def test_same_as_the_answers_scores_of_the_main_job():
    got = values(score(DISTS, DOCS, n_boot=1000))
    other = answer_scores(DOCS.gold, to_labels(DISTS[0].probs, True)).set_index("metric")
    for m in ("micro_f1", "example_f1"):
        assert np.isclose(got[m, None].value, other.value[m]) and np.allclose(
            [got[m, None].lo, got[m, None].hi], other.loc[m, ["lo", "hi"]].astype(float), atol=0.02
        )


def hall(x):
    "Student's t with Hall's correction for skewness, as the formula is printed"
    n, w, g = len(x), x.mean() / x.std(), skew(x)
    return np.sqrt(n) * (w + g * w**2 / 3 + g**2 * w**3 / 27 + g / (6 * n))


@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_are_scipys(seed):
    rng = np.random.default_rng(seed)
    d = rng.normal(0.4, 1, (4, 9)).round(1)

    def exact(x):
        return permutation_test(
            (x,), hall, permutation_type="samples", n_resamples=np.inf, vectorized=False
        ).pvalue

    assert np.allclose(sign_flip_p(d), [exact(x) for x in d])
    assert np.allclose(
        sign_flip_p(np.hstack([d, np.full((4, 3), np.nan)])), [exact(x) for x in d]
    )  # unknown documents do not matter
    assert np.allclose(
        sign_flip_p(d, n_perm=511), [exact(x) for x in d], atol=0.07
    )  # 2^9 ways are too many: drawn
    assert (sign_flip_p(np.zeros((1, 30))) == 1).all()


def test_no_difference_is_found_as_often_as_p_says():
    p = sign_flip_p(np.random.default_rng(0).normal(size=(400, 40)), n_perm=500)
    assert 0.02 < (p <= 0.05).mean() < 0.09 and abs(p.mean() - 0.5) < 0.06


# --- the bootstrap


@pytest.mark.parametrize("multi", [True, False])
def test_bootstrap_is_resampling(multi):
    docs = make_docs(5, 40, multi=multi)
    dists = make_dists(docs, 2)
    fast = score(dists, docs, n_boot=30, seed=3, n_bins=5)
    metrics = [
        m for m in fast.metric.unique() if m != "ece_mass"
    ]  # its borders stay those of the data: checked below

    def redraw(w):
        rows = np.repeat(np.arange(len(docs)), w.astype(int))
        ids = tuple(f"r{k}" for k in range(len(rows)))
        part = docs.take(np.arange(len(docs)))
        sample = replace(
            part,
            ids=ids,
            texts=("text",) * len(rows),
            gold=docs.gold[rows],
            votes=docs.votes.reshape(len(docs), 3, -1)[rows].reshape(-1, docs.votes.shape[1]),
            vote_doc=np.repeat(np.arange(len(rows)), 3),
            vote_annotator=np.array(["p0", "p1", "p2"] * len(rows)),
        )
        return score(
            [LabelDist(d.probs[rows], d.labels, ids, d.method) for d in dists],
            sample,
            metrics,
            n_boot=0,
            n_bins=5,
        ).value

    draws = np.stack([redraw(w) for w in bootstrap_weights(len(docs), 30, 3)[1:]])
    kept = fast[fast.metric.isin(metrics)]
    assert np.allclose(kept.lo, np.nanquantile(draws, 0.025, axis=0)) and np.allclose(
        kept.hi, np.nanquantile(draws, 0.975, axis=0)
    )


def test_bins_of_equal_mass_keep_their_borders():
    d = DISTS[0]
    t = score(d, DOCS, ["ece_mass"], n_boot=20, seed=1, n_bins=6)
    h = DOCS.human().probs
    inner = np.unique(np.quantile(d.probs, np.arange(1, 6) / 6))
    which = np.searchsorted(inner, d.probs, side="right")
    slow = []
    for w in bootstrap_weights(len(DOCS), 20, 1)[1:]:
        gaps = [abs(sum((w[:, None] * (d.probs - h))[which == b])) for b in range(len(inner) + 1)]
        slow.append(sum(gaps) / (w.sum() * h.shape[1]))
    assert np.allclose([t.lo[0], t.hi[0]], np.quantile(slow, [0.025, 0.975]))


def test_draws_are_documents_with_replacement():
    w = bootstrap_weights(50, 2000)
    x = np.random.default_rng(9).random(50)
    assert (w[0] == 1).all() and (w.sum(1) == 50).all() and abs(w[1:].var() - (1 - 1 / 50)) < 0.02
    assert np.isclose((w[1:] @ x / 50).mean(), x.mean(), atol=0.005) and np.isclose(
        (w[1:] @ x / 50).std(), x.std() / 50**0.5, rtol=0.1
    )
    data = np.random.default_rng(0).random(500) < 0.04  # simulated from the seed of the draws
    assert (bootstrap_weights(500, 3)[1:] @ data > 5).all()


def test_intervals_hold_the_truth():
    "A known mean L1 lies in 95 % of intervals, give or take"
    rng, inside = np.random.default_rng(0), 0
    for k in range(100):
        docs = no_votes(replace(make_docs(0, 80, 2), gold=np.zeros((80, 2), np.float32)))
        t = score(
            LabelDist(rng.random((80, 2)), docs.labels, docs.ids, "m"), docs, ["l1"], n_boot=200, seed=k
        )
        inside += t.lo[0] <= 1 <= t.hi[0]
    assert 88 <= inside <= 100


def test_one_seed_one_table_and_methods_do_not_matter_to_each_other():
    a = score(DISTS, DOCS, n_boot=50)
    b = score(DISTS, DOCS, n_boot=50)
    alone = score(DISTS[1], DOCS, n_boot=50)
    pd.testing.assert_frame_equal(a, b)
    pd.testing.assert_frame_equal(a[a.method == "m1"].reset_index(drop=True), alone)
    assert not a.lo.equals(score(DISTS, DOCS, n_boot=50, seed=1).lo)
    few = score(DISTS, DOCS, ["roc_auc", "nll"], n_boot=0)
    assert (
        few.metric.unique().tolist() == ["roc_auc", "nll"]
        and few.lo.isna().all()
        and few.method.unique().tolist() == ["m0", "m1", "m2"]
    )


# --- three documents by hand

THREE_LABELS = LabelSet(("anger", "fear", "joy"))
THREE = AnnotatedDocs(
    "three",
    "test",
    THREE_LABELS,
    ("a", "b", "c"),
    ("one", "two", "three"),
    np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]]),
    np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]),
    np.repeat([0, 1, 2], 2),
    np.array(["p", "q"] * 3),
)
GUESS = LabelDist(
    np.array([[0.5, 0.5, 0.25], [0.25, 0.25, 0.5], [0.5, 0.25, 0]]), THREE_LABELS, THREE.ids, "m0"
)
HALF_SURE, QUARTER_OFF = 0.75 * log(4 / 3), log(2) / 8 + 3 / 8 * log(6 / 7) + log(8 / 7) / 2
QUARTER = 2 - 0.75 * np.log2(3)  # entropy of 1/4, 3/4 in bits
BY_HAND = dict(
    nll=log(16 / 3 * 32 / 9 * 8 / 3) / 3,
    kl=log(8 / 3 * 32 / 9 * 8 / 3) / 3,
    l1=2.5 / 3,
    brier=1 / 3,
    js=HALF_SURE + 4 / 3 * QUARTER_OFF,
    spearman=(1.5 / np.sqrt(3) + 1) / 2,
    ece=1 / 6,
    entropy_bits=4 / 3 + 4 / 3 * QUARTER,
    brier_uncertainty=1 / 2,
    brier_skill=1 / 3,
    example_f1=5 / 9,
    jaccard=1 / 2,
    micro_f1=2 / 3,
    macro_f1=5 / 9,
    average_precision=0.75,
    roc_auc=0.875,
)
LABEL_BY_HAND = dict(f1=(2 / 3, 0, 1), average_precision=(0.5, np.nan, 1), roc_auc=(0.75, np.nan, 1))


@pytest.mark.parametrize("metric", BY_HAND)
def test_scores_are_those_by_hand(metric):
    got = values(score(GUESS, THREE, [metric], n_boot=0, n_bins=2))
    assert np.isclose(got[metric, None].value, BY_HAND[metric], atol=1e-7)
    for label, want in zip(THREE_LABELS.names, LABEL_BY_HAND.get(metric, ())):
        assert np.isclose(got[metric, label].value, want, equal_nan=True)


def test_f1_of_each_label_by_hand():
    got = values(score(GUESS, THREE, ["f1"], n_boot=0))
    assert [got["f1", label].value for label in THREE_LABELS.names] == pytest.approx(LABEL_BY_HAND["f1"])


def test_rows_of_one_document_count_by_their_mean_and_are_drawn_together():
    rows = np.array([0, 0, 1, 1, 1, 2])
    many = replace(
        THREE.take([0]),
        ids=tuple("uvwxyz"),
        texts=("text",) * 6,
        gold=THREE.gold[rows],
        votes=THREE.human().probs[rows],
        vote_doc=np.arange(6),
        vote_annotator=np.array(["p"] * 6),
    )
    several = LabelDist(GUESS.probs[rows], THREE_LABELS, many.ids, "m0")
    once, often = score(GUESS, THREE), score(several, many, mean_over=rows)
    kept = ~once.metric.str.startswith("ece_mass")  # its borders are those of all rows
    columns = ["value", "lo", "hi", "n_docs"]
    pd.testing.assert_frame_equal(once[kept][columns], often[kept][columns], rtol=1e-9)
    with pytest.raises(ValueError, match="without a gap"):
        score(GUESS, THREE, mean_over=[0, 2, 2])


def test_every_score_lies_in_its_range_and_most_in_their_intervals():
    table = score(DISTS, DOCS)
    rest = table[~table.metric.str.startswith("ece") & table.value.notna()]
    assert ((rest.lo <= rest.value) & (rest.value <= rest.hi)).mean() > 0.9
    signed = rest.metric.isin(("spearman", "brier_skill", "brier_resolution"))
    assert (rest[~signed].value >= -1e-12).all()


# --- what is unknown, and what there is to hold against


def test_unknown_estimates_are_missing_and_counted():
    p = DISTS[0].probs.copy()
    p[:10, 2] = np.nan
    gap = replace(DISTS[0], probs=p)
    got, rest = values(score(gap, DOCS, n_boot=20)), DOCS.take(range(10, 60))
    want = values(score(LabelDist(p[10:], DOCS.labels, rest.ids, "m0"), rest, n_boot=0))
    for key, r in want.items():
        assert np.isclose(got[key].value, r.value, equal_nan=True) and got[key].n_docs == r.n_docs, key
    assert got["nll", None].n_docs == 50 and got["roc_auc", "a"].n_docs == 50
    t = compare([gap, DISTS[1]], DOCS, "l1", n_perm=100)
    assert t.n_docs[0] == 50 and np.isclose(
        t.difference[0], (l1(p, DOCS.human().probs) - l1(DISTS[1].probs, DOCS.human().probs))[10:].mean()
    )


def test_documents_without_votes_count_for_gold_only():
    keep = DOCS.vote_doc >= 20
    part = replace(
        DOCS, votes=DOCS.votes[keep], vote_doc=DOCS.vote_doc[keep], vote_annotator=DOCS.vote_annotator[keep]
    )
    t = score(DISTS, part, n_boot=20).set_index("metric")
    assert set(t.n_docs[["nll", "l1", "ece", "ece_mass", "js"]]) == {40} and set(
        t.n_docs[["micro_f1", "example_f1", "roc_auc", "entropy_bits"]]
    ) == {60}
    rest = DOCS.take(range(20, 60))
    assert np.isclose(t.value["nll"].iloc[0], nll(DISTS[0].probs[20:], rest.human().probs, True).mean())


def test_without_votes_gold_is_what_counts():
    t = score(DISTS, no_votes(DOCS), n_boot=0)
    soft = [m for m in METRICS if METRICS[m].against == "soft"]
    assert (
        set(t.against[t.metric.isin(soft)]) == {"gold"}
        and set(t.against[t.metric == "entropy_bits"]) == {"none"}
        and not t.against.eq("votes").any()
    )
    assert np.isclose(values(t)["l1", None].value, l1(DISTS[0].probs, DOCS.gold).mean())
    voted = score(DISTS, DOCS, n_boot=0)
    assert set(voted.against[voted.metric.isin(soft)]) == {"votes"} and set(
        voted.against[voted.metric == "micro_f1"]
    ) == {"gold"}


def test_an_answer_without_a_label_in_a_single_label_task():
    docs = make_docs(0, 3, 3, multi=False)
    p = np.full((3, 3), 1e-8)
    p[0] = np.where(docs.gold[0] > 0, 1 - 1e-8, 1e-8)
    got = values(score(LabelDist(p, docs.labels, docs.ids, "m0"), docs, n_boot=0))
    assert (to_labels(p, False)[1:] == 0).all() and np.isclose(got["example_f1", None].value, 1 / 3)
    assert np.isclose(nll(p, docs.human().probs, False)[1], -log(1e-8)) and np.isclose(
        js(p, docs.human().probs, False)[1], log(2), atol=1e-5
    )


def test_single_label_document_without_gold_is_unknown():
    gold = SINGLE.gold.copy()
    gold[:7] = 0
    docs = replace(SINGLE, gold=gold)
    t = score(make_dists(SINGLE)[0], docs, ["nll", "micro_f1", "example_f1"], n_boot=5)
    assert t.n_docs.tolist() == [60, 53, 53]


def test_one_class_labels_have_no_ranking():
    gold = DOCS.gold.copy()
    gold[:, 0], gold[:, 1] = 0, 1
    t = values(score(DISTS[0], replace(DOCS, gold=gold), n_boot=20))
    for m in ("roc_auc", "average_precision"):
        assert np.isnan([t[m, "a"].value, t[m, "b"].value, t[m, "a"].lo]).all() and np.isclose(
            t[m, None].value, np.mean([t[m, "c"].value, t[m, "d"].value])
        )


def test_ordinal_classes():
    d, h = make_dists(SINGLE)[0], SINGLE.human().probs
    t = score(d, SINGLE, ["wasserstein"], n_boot=10, positions=[0, 1, 2, 5])
    assert np.isclose(t.value[0], wasserstein(d.probs, h, [0, 1, 2, 5]).mean()) and t.against[0] == "votes"
    assert np.allclose(
        wasserstein(d.probs, h, [1, 0, 2, 5]),
        wasserstein(d.probs[:, [1, 0, 2, 3]], h[:, [1, 0, 2, 3]], [0, 1, 2, 5]),
    )


# --- properties


@given(arrays(float, (5, 3), elements=FLOAT), arrays(float, (5, 3), elements=FLOAT))
@settings(max_examples=80, deadline=None)
def test_losses_keep_their_bounds(p, h):
    assert (
        (kl(p, h, True) >= 0).all()
        and np.allclose(kl(h, h, True), 0, atol=1e-6)
        and (nll(p, h, True) >= entropy_bits(h, True) * log(2) - 1e-6).all()
    )
    assert (
        (js(p, h, True) >= 0).all()
        and (js(p, h, True) <= 3 * log(2) + 1e-12).all()
        and np.allclose(js(p, h, True), js(h, p, True))
    )
    assert (
        (brier(p, h) <= l1(p, h) + 1e-12).all()
        and np.allclose(l1(p, h), l1(h, p))
        and (js(h, h, True) == 0).all()
    )
    rho = spearman(p, h)
    assert (np.abs(rho[~np.isnan(rho)]) <= 1 + 1e-12).all() and not np.isnan(js(p, h, True)).any()
    for bins in BINS:
        assert (
            0 <= ece(p, h, 4, bins) <= 1
            and reliability(p, h, 4, bins).n.sum() == 15
            and ece(h, h, 4, bins) < 1e-9
        )


@given(
    arrays(float, (5, 3), elements=st.floats(0.001, 1)), arrays(float, (5, 3), elements=st.floats(0.001, 1))
)
@settings(max_examples=50, deadline=None)
def test_losses_of_single_labels_keep_their_bounds(p, h):
    p, h = p / p.sum(1, keepdims=True), h / h.sum(1, keepdims=True)
    assert (
        (kl(p, h, False) >= 0).all()
        and np.allclose(kl(h, h, False), 0, atol=1e-6)
        and (l1(p, h) <= 2 + 1e-9).all()
        and (js(p, h, False) <= log(2) + 1e-12).all()
    )
    assert (l1(p, h) ** 2 / 2 <= kl(p, h, False) + 1e-6).all()  # Pinsker
    assert (to_labels(p, False).sum(1) == 1).all()


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_order_of_documents_does_not_matter(seed):
    docs = make_docs(seed, 20)
    order = np.random.default_rng(seed).permutation(20)
    dists = make_dists(docs, 2, seed)
    moved = score(
        [LabelDist(d.probs[order], d.labels, tuple(docs.ids[k] for k in order), d.method) for d in dists],
        docs.take(order),
        n_boot=0,
    )
    pd.testing.assert_frame_equal(score(dists, docs, n_boot=0), moved, check_exact=False)


@given(
    arrays(np.int8, (4, 5), elements=st.integers(0, 1)),
    arrays(float, (4, 5), elements=st.sampled_from([0, 0.25, 1 / 3, 0.5, 2 / 3, 1])),
)
@settings(max_examples=50, deadline=None)
def test_hard_answers_cost_18_times_their_distance(chosen, h):
    p = np.where(chosen, 1 - 1e-8, 1e-8)
    assert np.allclose(nll(p, h, True), -log(1e-8) * l1(p, h), atol=1e-5)
    assert np.allclose(
        nll(p.astype(np.float32), h, True), nll(p, h, True), atol=1e-5
    )  # float32 knows no 1 - 1e-8


@pytest.mark.parametrize("eps", [1e-12, 1e-8, 1e-3])
def test_eps_is_the_worst_that_a_label_can_cost(eps):
    assert np.isclose(nll([[0.0]], [[1.0]], True, eps)[0], -log(eps)) and np.isclose(
        nll([[1.0]], [[0.0]], True, eps)[0], -log(eps)
    )


@given(
    arrays(np.int8, (6, 4), elements=st.integers(0, 1)), arrays(np.int8, (6, 4), elements=st.integers(0, 1))
)
@settings(max_examples=50, deadline=None)
def test_f1_and_jaccard_are_one_another(pred, gold):
    f, j = example_f1(pred, gold), jaccard(pred, gold)
    assert (
        np.allclose(f, 2 * j / (1 + j))
        and np.allclose(f, example_f1(gold, pred))
        and (example_f1(gold, gold) == 1).all()
    )


# --- pairs of methods


def test_compare_has_all_pairs_and_holms_correction():
    t = compare(DISTS, DOCS, "brier", n_perm=2000)
    assert (
        list(zip(t.method, t.other)) == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
        and np.allclose(t.p_adjusted, multipletests(t.p, method="holm")[1])
        and (t.p_adjusted >= t.p).all()
    )
    means = score(DISTS, DOCS, ["brier"], n_boot=0).value
    assert (
        np.allclose(t.difference, [means[0] - means[1], means[0] - means[2], means[1] - means[2]])
        and ((t.lo <= t.difference) & (t.difference <= t.hi)).all()
    )
    assert (t.p < 0.01).all() and ((t.lo > 0) | (t.hi < 0)).all() and t.against.eq("votes").all()
    same = compare([DISTS[0], replace(DISTS[0], method="copy")], DOCS, "nll", n_perm=200)
    assert same.p[0] == 1 and same.difference[0] == 0


@pytest.mark.parametrize(
    "metric", [m for m in METRICS if METRICS[m].per_doc and m not in ("wasserstein", "semantic_f1")]
)
def test_compare_takes_every_mean(metric):
    assert compare(DISTS, DOCS, metric, n_perm=50, n_boot=0).p.between(0, 1).all()


# --- files, pictures, real votes


def test_table_survives_parquet(tmp_path):
    t = score(DISTS, DOCS, n_boot=20)
    t.to_parquet(tmp_path / "scores.parquet", index=False)
    back = pd.read_parquet(tmp_path / "scores.parquet")
    assert (
        list(back.columns[:7]) == ["method", "metric", "label", "value", "lo", "hi", "n_docs"]
        and back.label.isna().sum() == t.label.isna().sum()
    )
    pd.testing.assert_frame_equal(
        t.assign(label=t.label.fillna("")), back.assign(label=back.label.fillna("")), check_dtype=False
    )


def test_pictures_show_what_the_tables_hold():
    import matplotlib.pyplot as plt

    t = score(DISTS, DOCS, n_boot=20)
    axes = plot_scores_table(t, ("nll", "micro_f1"))
    assert (
        [a.get_title() for a in axes] == ["NLL (nats) ↓", "micro-F1 ↑"]
        and [x.get_text() for x in axes[0].get_yticklabels()] == ["m0", "m1", "m2"]
        and "n = 60" in axes[0].get_xlabel()
    )
    ax = plot_reliability(DISTS[0], DOCS, 5, "mass")
    r = reliability(DISTS[0].probs, DOCS.human().probs, 5, "mass")
    assert (
        np.allclose(ax.collections[1].get_offsets(), r[["mean_prob", "mean_vote"]])
        and "votes" in ax.get_ylabel()
    )
    assert "gold" in plot_reliability(DISTS[0], no_votes(DOCS)).get_ylabel()
    plot_scores_table(score(DISTS[:1], DOCS, ["nll"], n_boot=0), ("nll",))
    plt.close("all")


def test_real_votes(data_root):
    docs = load_docs("HateXplain", "test", data_dir=data_root / "hatexplain")
    h = docs.human().probs
    people, uniform = docs.human(), LabelDist(np.full(h.shape, 1 / 3), docs.labels, docs.ids, "uniform")
    t = score([people, uniform], docs, n_boot=100).set_index(["method", "metric"])
    assert (
        np.isclose(t.value["human", "kl"], 0, atol=1e-6)
        and t.value["human", "l1"] == 0
        and np.isclose(t.value["uniform", "nll"], log(3))
    )
    assert (
        np.isclose(t.value["human", "nll"], entropy_bits(h, False).mean() * log(2), atol=1e-6)
        and t.value["human", "micro_f1"] > 0.98
    )
    p = compare([people, uniform], docs, "kl", n_perm=200)
    assert p.p[0] < 1e-9 and p.hi[0] < 0


# --- bad input


def with_probs(p):
    return replace(DISTS[0], probs=np.asarray(p, float))


P, H, SIM = DISTS[0].probs, DOCS.human().probs, pd.DataFrame(np.eye(4), list("abcd"), list("abcd"))
BAD = [  # a call and the words that its one line must hold
    (lambda: with_probs(P * 2), "m0: a probability lies outside [0, 1]"),
    (lambda: l1(P, H + 0.5), "human: 1."),
    (lambda: nll(-P, H, True), "lies outside [0, 1]"),
    (lambda: l1(P[:, :3], H), "probs have shape (60, 3), human (60, 4)"),
    (lambda: l1(P[0], H[0]), "axes (..., n_docs, n_labels), got shape (4,)"),
    (
        lambda: score(with_probs(P * np.nan), DOCS),
        "m0: no document has an estimate for all its labels (nan everywhere)",
    ),
    (
        lambda: score(replace(DISTS[0], ids=("x",) + DOCS.ids[1:]), DOCS),
        "m0: id 1 is 'x' where the documents have 'd0'",
    ),
    (
        lambda: score(replace(DISTS[0], ids=DOCS.ids[::-1]), DOCS),
        "id 1 is 'd59' where the documents have 'd0' (the same ones in another order)",
    ),
    (
        lambda: score(DISTS[0], DOCS.take(range(59))),
        "m0: 60 ids where the documents have 59; id 'd59' is not among them",
    ),
    (lambda: score(replace(DISTS[0], probs=P[1:], ids=DOCS.ids[1:]), DOCS), "id 'd0' is missing"),
    (
        lambda: score(replace(DISTS[0], labels=LabelSet(tuple("abce"))), DOCS),
        "m0: label 4 is 'e' where the documents have 'd'",
    ),
    (
        lambda: score(replace(DISTS[0], labels=LabelSet(tuple("bacd"))), DOCS),
        "label 1 is 'b' where the documents have 'a' (the same ones in another order)",
    ),
    (
        lambda: score(replace(DISTS[0], probs=P[:, :3], labels=LabelSet(tuple("abc"))), DOCS),
        "3 labels where the documents have 4; label 'd' is missing",
    ),
    (lambda: score([], DOCS), "no distributions to score"),
    (lambda: score([P], DOCS), "must be a list of LabelDist, found ndarray"),
    (lambda: score([DISTS[0], DISTS[0]], DOCS), "two distributions are called 'm0'"),
    (
        lambda: score(DISTS[0], no_votes(replace(DOCS, gold=DOCS.gold * np.nan))),
        "neither votes nor gold labels",
    ),
    (
        lambda: score(
            LabelDist(np.zeros((60, 4)), SINGLE.labels, SINGLE.ids, "m"),
            no_votes(replace(SINGLE, gold=0 * SINGLE.gold)),
        ),
        "neither votes nor gold labels",
    ),
    (
        lambda: score(LabelDist(np.full((60, 4), 0.5), SINGLE.labels, SINGLE.ids, "m"), SINGLE),
        "rows must not sum to more than 1; that of 'd0' sums to 2.000",
    ),
    (lambda: score(LabelDist(np.zeros((0, 4)), DOCS.labels, (), "m"), DOCS.take([])), "no documents"),
    (lambda: score(DISTS, DOCS, ["micro-f1"]), "unknown metric 'micro-f1'; did you mean 'micro_f1'"),
    (lambda: score(DISTS, DOCS, "nl"), "did you mean 'nll'"),
    (lambda: score(DISTS, DOCS, []), "metrics is empty"),
    (lambda: score(DISTS, DOCS, n_boot=-1), "n_boot must be a whole number of at least 0, got -1"),
    (lambda: score(DISTS, DOCS, n_boot=10.5), "n_boot must be a whole number"),
    (lambda: score(DISTS, DOCS, seed=-1), "seed must be a whole number of at least 0"),
    (lambda: score(DISTS, DOCS, eps=0.7), "eps must be a number from 0 to 0.5, got 0.7"),
    (lambda: score(DISTS, DOCS, eps=0), "eps must lie between 0 and 0.5"),
    (lambda: score(DISTS, DOCS, n_bins=0), "n_bins must be a whole number of at least 1"),
    (lambda: score(DISTS, DOCS, threshold=[0.5, 0.5]), "one number or one per label (4), got 2"),
    (lambda: score(DISTS, DOCS, threshold=2), "threshold: 2 at"),
    (lambda: score(DISTS, DOCS, ["wasserstein"]), "wasserstein needs positions"),
    (lambda: score(DISTS, DOCS, ["wasserstein"], positions=[0, 1, 2, 3]), "are for single-label tasks"),
    (lambda: score(DISTS, DOCS, ["semantic_f1"]), "semantic_f1 needs similarity"),
    (lambda: score(DISTS, DOCS, ["semantic_f1"], similarity=np.eye(4)), "similarity must be a DataFrame"),
    (lambda: score(DISTS, DOCS, similarity=SIM.iloc[::-1]), "in this order; rows are d, c, b, a"),
    (lambda: score(DISTS, DOCS, similarity=SIM - 1), "every value must lie in [0, 1]"),
    (lambda: semantic_f1(P[:, :3] > 0.5, H[:, :3] > 0.5, SIM), "similarity is of 4 labels, pred of 3"),
    (lambda: ece(P, H, bins="weight"), "unknown bins 'weight'; did you mean 'width'"),
    (lambda: reliability(P, H, n_bins=-3), "n_bins must be"),
    (lambda: compare(DISTS[:1], DOCS, "nll"), "compare needs at least two methods, got m0 only"),
    (lambda: compare(DISTS, DOCS, "macro_f1"), "macro_f1 is no mean over documents"),
    (lambda: compare(DISTS, DOCS, "klx"), "did you mean 'kl'"),
    (lambda: compare(DISTS, DOCS, "nll", n_perm=0), "n_perm must be a whole number of at least 1"),
    (
        lambda: compare(
            [
                with_probs(np.where(np.arange(60)[:, None] < 30, P, np.nan)),
                replace(DISTS[1], probs=np.where(np.arange(60)[:, None] < 30, np.nan, P)),
            ],
            DOCS,
            "nll",
        ),
        "m0 and m1 know no document in common",
    ),
    (
        lambda: plot_scores_table(score(DISTS, DOCS, ["nll"], n_boot=0), ("l1",)),
        "unknown metric of these scores 'l1'; did you mean 'nll'",
    ),
]


@pytest.mark.parametrize("call, words", BAD, ids=[w[:40] for _, w in BAD])
def test_bad_input_gets_one_line(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value) and "\n" not in str(error.value)
