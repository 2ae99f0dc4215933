"People against people, sampling alone, the Brier score's parts, and stored scores computed again."

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from recomputed import assert_recomputed

from mlcllm.alignment import add_references, dists_table, reading, stored_estimates, thresholds_table
from mlcllm.data import AnnotatedDocs, LabelDist, LabelSet, load_docs
from mlcllm.estimators import (
    GOLD_RULES,
    PEOPLE_METRICS,
    dist_from_pairs,
    dist_from_traces,
    leave_one_out,
    one_against_rest,
    reference_dists,
    resampling_floor,
    score_without_one,
    scored_prior,
)
from mlcllm.metrics import (
    METRICS,
    TRUTHS,
    brier,
    brier_parts,
    l1,
    nll,
    plot_by_eps,
    plot_scores_table,
    score,
    scores_by_eps,
    spearman,
    wasserstein,
)
from mlcllm.runs import read_record, read_table, start_run
from mlcllm.stepwise_logits import read_traces
from mlcllm.stored_runs import (
    KEPT_TABLES,
    WITHOUT_ONE,
    compare_runs,
    gather,
    index_runs,
    main_rows,
    plain_runs,
    publish_runs,
)

ROOT = Path(__file__).resolve().parent.parent
SHARE = st.floats(0, 1, width=32)


def make_docs(seed, n_annotators, n_labels=4, multi=True, rule=None):
    "Documents with so many annotators each; gold by a rule of GOLD_RULES, worked in the slow way"
    rng, doc = np.random.default_rng(seed), np.repeat(np.arange(len(n_annotators)), n_annotators)
    votes = (
        (rng.random((len(doc), n_labels)) < 0.4)
        if multi
        else np.eye(n_labels)[rng.integers(0, n_labels, len(doc))]
    )
    rule = rule or ("more_than_half" if multi else "most_frequent_named_first")
    gold = np.array(
        [slow_gold([tuple(v) for v in votes[doc == d]], rule) for d in range(len(n_annotators))], np.float32
    )
    ids = tuple(f"d{k}" for k in range(len(n_annotators)))
    who = np.array([f"p{k}" for n in n_annotators for k in range(n)])
    return AnnotatedDocs(
        "made",
        "test",
        LabelSet(tuple("abcdefgh"[:n_labels]), multi, multi),
        ids,
        ids,
        gold,
        votes.astype(np.float32),
        doc,
        who,
    )


def slow_gold(votes, rule):
    "Gold labels of a few people's votes, by the rule's words"
    n_labels, n = len(votes[0]), len(votes)
    count = [sum(v[k] for v in votes) for k in range(n_labels)]
    if rule == "more_than_half":
        return [float(c > n / 2) for c in count]
    if rule == "at_least_half":
        return [float(c >= n / 2) for c in count]
    best = [k for k in range(n_labels) if count[k] == max(count)]
    if rule == "most_frequent_listed_first":
        chosen = best[0]
    else:
        chosen = next(k for v in votes for k in range(n_labels) if v[k] and k in best)
    return [float(k == chosen) for k in range(n_labels)]


def slow_without_one(dist, docs, rule, metric, person=False):
    "The mean over documents of the mean over who is left out, one person at a time"
    of_docs = []
    for d in np.flatnonzero(docs.n_annotators >= 2):
        votes = [tuple(v) for v in docs.votes[docs.vote_doc == d]]
        each = []
        for k in range(len(votes)):
            others = votes[:k] + votes[k + 1 :]
            one = replace(
                docs.take([d]),
                gold=np.array([slow_gold(others, rule)], np.float32),
                votes=np.array(others, np.float32),
                vote_doc=np.zeros(len(others), int),
                vote_annotator=np.array([f"p{j}" for j in range(len(others))]),
            )
            said = np.clip(np.array([votes[k]], float), 1e-8, 1 - 1e-8) if person else dist.probs[[d]]
            each.append(score(LabelDist(said, docs.labels, one.ids, "m"), one, [metric], n_boot=0).value[0])
        of_docs.append(np.nan if np.isnan(each).all() else np.nanmean(each))
    return np.nanmean(of_docs)


# --- the person who is left out

CASES = [
    (True, "more_than_half"),
    (True, "at_least_half"),
    (False, "most_frequent_named_first"),
    (False, "most_frequent_listed_first"),
]


@pytest.mark.parametrize("multi, rule", CASES, ids=lambda x: str(x))
def test_leaving_one_out_is_the_slow_loop(multi, rule):
    docs = make_docs(3, [2, 3, 4, 1, 5, 2, 3, 3, 6, 4], multi=multi, rule=rule)
    rng = np.random.default_rng(0)
    p = rng.random((len(docs), 4)) if multi else rng.dirichlet(np.ones(4), len(docs))
    dist = LabelDist(p, docs.labels, docs.ids, "m")
    left = leave_one_out(docs)
    assert (
        left.rule == rule
        and (left.n_others == np.concatenate([[n - 1] * n for n in (2, 3, 4, 5, 2, 3, 3, 6, 4)])).all()
    )
    got = score_without_one([dist], docs, n_boot=0).set_index(["method", "metric"])
    assert set(got.truth) == {"votes without one person"} and set(
        got.n_docs[got.index.get_level_values(1) != "spearman"]
    ) == {9}
    for metric in [m for m in PEOPLE_METRICS if METRICS[m].per_doc]:
        assert got.value["m", metric] == pytest.approx(
            slow_without_one(dist, docs, rule, metric), abs=1e-6
        ), metric
        assert got.value["annotator", metric] == pytest.approx(
            slow_without_one(dist, docs, rule, metric, person=True), abs=1e-5
        ), metric


@given(st.integers(0, 10**6), st.sampled_from(CASES), st.lists(st.integers(1, 5), min_size=12, max_size=20))
@settings(max_examples=25, deadline=None)
def test_gold_of_the_others_is_made_by_the_rule_that_made_all(seed, case, n):
    docs = make_docs(seed, [2, 2, 4] + n, 3, *case)
    left, at = leave_one_out(docs), 0
    assert all(left.docs.gold[k].sum() <= 1 for k in range(len(left.docs))) or docs.labels.multi
    for d in np.flatnonzero(docs.n_annotators >= 2):
        votes = [tuple(v) for v in docs.votes[docs.vote_doc == d]]
        for k in range(len(votes)):
            assert left.docs.gold[at].tolist() == slow_gold(votes[:k] + votes[k + 1 :], left.rule)
            assert np.allclose(left.docs.human().probs[at], np.mean(votes[:k] + votes[k + 1 :], axis=0))
            at += 1
    assert at == len(left.docs) and (GOLD_RULES.keys() >= {left.rule})


def test_gold_that_the_person_made_does_not_flatter():
    "Where people choose at random, nobody agrees with the others by more than chance"
    docs = make_docs(0, [3] * 3000, 3, multi=False)
    person, others = one_against_rest(docs)
    flattered = score([person], others, ["example_f1"], n_boot=0).value[0]
    right = score_without_one([], docs, ["example_f1"], 0).value[0]
    assert flattered > 0.55 and right == pytest.approx(1 / 3, abs=0.02)


def test_intervals_are_over_documents_and_not_over_rows():
    docs = make_docs(1, [4] * 200)
    narrow = score([leave_one_out(docs).person], leave_one_out(docs).docs, ["l1"], 400)
    right = score_without_one([], docs, ["l1"], 400)
    several = np.array(
        [slow_without_one(None, docs.take([d]), "more_than_half", "l1", person=True) for d in range(200)]
    )
    assert (right.hi - right.lo)[0] == pytest.approx(2 * 1.96 * several.std() / 200**0.5, rel=0.15)
    assert right.n_docs[0] == 200 and narrow.n_docs[0] == 800


def test_methods_meet_the_same_votes_as_people():
    docs = make_docs(2, [3] * 60)
    exact = docs.human()
    against_three = score(replace(exact, method="votes"), docs, ["brier"], 0).value[0]
    t = score_without_one([replace(exact, method="votes")], docs, ["brier"], 0).set_index("method").value
    assert against_three == 0 and t["votes"] > 0  # votes of three are no longer those of two


@pytest.mark.parametrize(
    "docs, says",
    [
        (make_docs(0, [1, 1]), "no document has two annotators"),
        (replace(make_docs(0, [3, 3]), counted=True), "given as counts"),
    ],
    ids=["one annotator", "counts"],
)
def test_where_nobody_can_be_left_out_it_says_so(docs, says):
    with pytest.raises(ValueError, match=says) as error:
        score_without_one([], docs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "dataset, f1, pairs", [("HateXplainTargets", 0.663, 0.656), ("HateXplain", 0.673, 0.671)]
)
def test_people_of_hatexplain(data_root, dataset, f1, pairs):
    docs = load_docs(dataset, "test", data_dir=data_root / "hatexplain")
    t = score_without_one([], docs, ["example_f1"], 0)
    assert t.value[0] == pytest.approx(f1, abs=6e-4) and t.n_docs[0] == 1924
    votes = docs.votes[np.argsort(docs.vote_doc, kind="stable")].reshape(1924, 3, -1)

    def both(a, b):
        return np.where(
            a.sum(1) + b.sum(1) == 0, 1, 2 * (a * b).sum(1) / np.maximum(a.sum(1) + b.sum(1), 1)
        ).mean()

    assert np.mean([both(votes[:, i], votes[:, j]) for i in range(3) for j in range(i)]) == pytest.approx(
        pairs, abs=6e-4
    )


def test_a_model_of_hatexplain_against_two_votes_and_three(root, data_root):
    docs = load_docs("HateXplainTargets", "test", data_dir=data_root / "hatexplain")
    runs = plain_runs(index_runs(root / "outputs" / "reference"), "01_stepwise_logits")
    folder = runs[(runs.dataset == "HateXplainTargets") & (runs.model == "small")].folder.iloc[-1]
    if not set(read_table(folder, "docs").doc_id) == set(docs.ids):
        pytest.skip("the stored run is on other documents")
    traces = {
        t.doc_id: t
        for t in read_traces(
            read_table(folder, "docs"), read_table(folder, "steps"), read_record(folder)["labels"]
        )
    }
    dist = dist_from_traces([traces[i] for i in docs.ids], docs.labels, "max_over_generations")
    three = score(dist, docs, ["kl"], 0).value[0]
    two = score_without_one([dist], docs, ["kl"], 0).value[0]
    assert three == pytest.approx(2.47, abs=0.05) and two - three == pytest.approx(2.638 - 2.470, abs=0.02)


# --- sampling alone


@pytest.mark.parametrize("multi", [True, False])
def test_the_floors_are_what_they_say(multi):
    "Brier scores of true shares, of another panel and of redrawn votes, by simulation, with three annotators"
    rng = np.random.default_rng(5)
    truth = rng.beta(0.3, 1.2, (6000, 7)) if multi else rng.dirichlet(np.full(4, 0.5), 6000)
    n_docs, n_labels = truth.shape

    def panel():
        if multi:
            return rng.random((n_docs, 3, n_labels)) < truth[:, None]
        return np.eye(n_labels)[(rng.random((n_docs, 3, 1)) > truth.cumsum(1)[:, None, :-1]).sum(-1)]

    votes, other = panel(), panel()
    ids = tuple(map(str, range(n_docs)))
    docs = AnnotatedDocs(
        "simulated",
        "test",
        LabelSet(tuple("abcdefg"[:n_labels]), multi, multi),
        ids,
        ids,
        np.zeros(truth.shape, np.float32),
        votes.reshape(-1, n_labels).astype(np.float32),
        np.repeat(np.arange(n_docs), 3),
        np.tile(["p", "q", "r"], n_docs),
    )
    h, got = docs.human().probs, resampling_floor(docs, 30, n_boot=0).set_index(["method", "metric"]).value
    assert got["true_shares", "brier"] == pytest.approx(brier(truth, h).mean(), rel=0.03)
    assert got["another_panel", "brier"] == pytest.approx(brier(other.mean(1), h).mean(), rel=0.03)
    assert got["resampled", "brier"] == pytest.approx(2 / 3 * got["true_shares", "brier"], rel=0.03)
    assert got["resampled", "l1"] < l1(truth, h).mean()


def test_floors_of_unequal_panels_and_partial_votes():
    docs = make_docs(0, [1, 2, 5, 3] * 50)
    docs = replace(docs, votes=docs.votes * 0.5)
    t = resampling_floor(docs, 400, n_boot=20).set_index(["method", "metric"])
    each = [
        docs.votes[docs.vote_doc == d].var(0, ddof=1).sum() / n
        for d, n in enumerate(docs.n_annotators)
        if n > 1
    ]
    assert t.value["true_shares", "brier"] == pytest.approx(np.mean(each), rel=1e-5) and set(t.n_docs) == {
        150
    }
    plug_in = np.mean(
        [docs.votes[docs.vote_doc == d].var(0).sum() / n for d, n in enumerate(docs.n_annotators) if n > 1]
    )
    assert t.value["resampled", "brier"] == pytest.approx(plug_in, rel=0.05)


# --- the Brier score and its parts


@given(arrays(float, (12, 3), elements=SHARE), arrays(float, (12, 3), elements=SHARE), st.integers(1, 15))
@settings(max_examples=80, deadline=None)
def test_the_parts_add_up(p, h, n_bins):
    parts = brier_parts(p, h, n_bins)
    assert parts.brier == pytest.approx(brier(p, h).mean(), abs=1e-9)
    assert parts.reliability >= 0 and parts.uncertainty == pytest.approx(h.var(0).sum(), abs=1e-9)
    known = np.arange(12) % 3 > 0
    gap = np.where(known[:, None], p, np.nan)
    assert brier_parts(gap, h, n_bins) == brier_parts(p[known], h[known], n_bins)


@pytest.mark.parametrize("multi", [True, False])
def test_parts_of_a_table_are_those_of_the_function(multi):
    docs = make_docs(4, [3] * 80, multi=multi)
    rng = np.random.default_rng(1)
    p = rng.random((80, 4)) if multi else rng.dirichlet(np.ones(4), 80)
    dists = [LabelDist(p, docs.labels, docs.ids, "m"), scored_prior(docs)]
    t = score(dists, docs, n_boot=50).set_index(["method", "metric"])
    parts = brier_parts(p, docs.human().probs)
    for name in ("reliability", "resolution", "uncertainty", "skill"):
        assert t.value["m", f"brier_{name}"] == pytest.approx(getattr(parts, name))
    assert t.value["prior_scored", "brier_skill"] == pytest.approx(0, abs=1e-9)
    assert t.value["prior_scored", "brier"] == pytest.approx(t.value["m", "brier_uncertainty"])
    assert list(METRICS)[0] == "brier" and t.index[0] == ("m", "brier")


def test_two_priors_where_splits_were_chosen_differently():
    docs = make_docs(6, [3] * 100)
    natural = replace(make_docs(7, [3] * 100), ids=tuple(f"n{k}" for k in range(100)))
    natural = replace(natural, votes=natural.votes * (np.arange(4) == 0))  # nobody chose b, c or d there
    prior = next(d for d in reference_dists(docs, natural) if d.method == "prior")
    t = (
        score([prior, scored_prior(docs)], docs, ["brier", "brier_skill"], 0)
        .set_index(["method", "metric"])
        .value
    )
    assert t["prior", "brier_skill"] < -0.1 and t["prior_scored", "brier_skill"] == pytest.approx(0, abs=1e-9)
    said = reading(
        pd.concat(
            [
                score(
                    [
                        prior,
                        scored_prior(docs),
                        replace(prior, method="constant"),
                        replace(prior, method="unary"),
                    ],
                    docs,
                    n_boot=0,
                )
            ]
        ),
        ["unary"],
    )
    assert f"{t['prior', 'brier']:.3f}" in said and f"{t['prior_scored', 'brier']:.3f}" in said


# --- one set of documents


def test_level_estimates_count_in_the_same_documents():
    docs = make_docs(8, [3] * 60)
    rng = np.random.default_rng(2)
    often_level = np.where(rng.random((60, 1)) < 0.5, 0.1, rng.random((60, 4)))
    dists = [
        LabelDist(rng.random((60, 4)), docs.labels, docs.ids, "varied"),
        LabelDist(often_level, docs.labels, docs.ids, "level at times"),
        LabelDist(np.full((60, 4), 0.3), docs.labels, docs.ids, "constant"),
    ]
    t = score(dists, docs, ["spearman"], 20).set_index("method")
    usable = int((np.ptp(docs.human().probs, axis=1) > 0).sum())
    assert set(t.n_docs) == {usable} and t.value["constant"] == 0
    rho = spearman(often_level, docs.human().probs)
    level = np.ptp(often_level, axis=1) == 0
    assert (rho[level & ~np.isnan(rho)] == 0).all() and t.value["level at times"] == pytest.approx(
        np.nanmean(rho)
    )


def test_answers_without_a_label_count_for_wasserstein():
    docs = make_docs(9, [3] * 40, multi=False)
    p = np.eye(4)[np.random.default_rng(0).integers(0, 4, 40)]
    p[:10] = 0
    unread, flat = np.clip(p, 1e-8, 1 - 1e-8), np.where(p.sum(1, keepdims=True) == 0, 0.25, p)
    dists = [LabelDist(unread, docs.labels, docs.ids, "hard"), LabelDist(flat, docs.labels, docs.ids, "flat")]
    t = score(dists, docs, ["wasserstein"], 0, positions=[0, 1, 2, 3])
    assert t.n_docs.tolist() == [40, 40] and t.value[0] == pytest.approx(t.value[1], abs=1e-6)
    with pytest.raises(ValueError, match="sums to 1.5"):
        wasserstein([[1, 0.5]], [[1, 0]], [0, 1])


# --- eps


def test_the_ranking_moves_with_eps():
    docs = make_docs(10, [3] * 50)
    hard = LabelDist(np.clip(docs.gold.astype(float), 1e-8, 1 - 1e-8), docs.labels, docs.ids, "hard")
    flat = LabelDist(np.full(docs.gold.shape, 0.4), docs.labels, docs.ids, "flat")
    t = scores_by_eps([hard, flat], docs, "nll", (1e-8, 0.2))
    assert t.eps.isna().sum() == 2 and t[(t.eps == 1e-8) & (t.method == "hard")]["rank"].item() == 2
    assert t[(t.eps == 0.2) & (t.method == "hard")].value.item() == pytest.approx(
        nll(hard.probs, docs.human().probs, True, 0.2).mean()
    )
    assert t[t.eps.isna() & (t.method == "hard")]["rank"].item() == 1
    ax = plot_by_eps(t)
    assert [x.get_text() for x in ax.get_xticklabels()] == ["1e-08", "0.2", "Brier"]


# --- tables


def test_truth_stands_in_every_row():
    docs = make_docs(11, [3] * 30)
    dist = LabelDist(np.full((30, 4), 0.2), docs.labels, docs.ids, "m")
    t = score(dist, docs, n_boot=0)
    assert (
        (t.truth == t.against).all()
        and set(t.truth) == {"votes", "gold", "none"}
        and TRUTHS[2] == WITHOUT_ONE
    )
    both = pd.concat([t, score_without_one([dist], docs, n_boot=0)], ignore_index=True)
    assert list(both.columns[:7]) == ["method", "metric", "label", "value", "lo", "hi", "n_docs"] and set(
        both.truth
    ) == set(TRUTHS)
    pd.testing.assert_frame_equal(main_rows(both), t)
    with pytest.raises(ValueError, match="choose the rows of one truth"):
        plot_scores_table(both)


def saved(folder, scores, **params):
    run = start_run(
        "02_alignment",
        dict(dataset="demo", split="test", model="tiny", **params),
        labels=["a", "none"],
        fingerprint=dict(docs="d"),
        output_dir=folder,
    )
    run.save_table("scores", scores)
    run.done()
    return run.folder


def test_older_tables_without_truth_are_read(tmp_path):
    docs = make_docs(12, [3] * 30)
    dist = LabelDist(np.full((30, 4), 0.2), docs.labels, docs.ids, "m")
    new = pd.concat(
        [score(dist, docs, n_boot=0), score_without_one([dist], docs, n_boot=0)], ignore_index=True
    )
    person, others = one_against_rest(docs)
    old = pd.concat([score(dist, docs, n_boot=0), score([person], others, n_boot=0)], ignore_index=True).drop(
        columns="truth"
    )
    a, b = saved(tmp_path, new), saved(tmp_path, old, seed=1)
    index = index_runs(tmp_path)
    got, of_people = gather(index, "scores").table, gather(index, "scores", people=True).table
    assert (
        set(got.method) == {"m"}
        and not got.duplicated(["metric", "label", "seed"] if "seed" in got else None).all()
    )
    assert set(of_people.method) == {"m", "annotator"} and len(of_people) == 2 * len(PEOPLE_METRICS)
    assert not (compare_runs(a, b).kind == "score").any()


# --- stored scores, computed again


def made_run(folder):
    "A run of 02 by hand: three methods, one of them sure of itself, on demo documents"
    docs = load_docs("demo", "test", n_docs=40)
    rng = np.random.default_rng(0)
    z = rng.normal(0, 9, docs.gold.shape)
    dists = [
        LabelDist(1 / (1 + np.exp(-z)), docs.labels, docs.ids, "unary"),
        LabelDist(np.clip(docs.gold.astype(float), 1e-8, 1 - 1e-8), docs.labels, docs.ids, "hard"),
        LabelDist(1 / (1 + np.exp(-z / 9)), docs.labels, docs.ids, "binary"),
        scored_prior(docs),
    ]
    run = start_run(
        "02_alignment",
        dict(dataset="demo", split="test", model="tiny"),
        docs=docs,
        labels=list(docs.labels.with_none),
        fingerprint=dict(docs=docs.content_hash()),
        output_dir=folder,
    )
    run.save_table(
        "scores", pd.concat([score(dists, docs), score_without_one(dists, docs)], ignore_index=True)
    )
    run.save_table("dists", dists_table(add_references(dists, docs)))
    run.done()
    return docs


def test_scores_of_a_published_run_are_computed_again(tmp_path):
    docs = made_run(tmp_path / "runs")
    (new,) = publish_runs(index_runs(tmp_path / "runs"), tmp_path / "published")
    assert_recomputed(index_runs(tmp_path / "runs").folder[0], docs, 1e-12)
    assert assert_recomputed(new, docs, 1e-5) > 100
    table = read_table(new, "dists")
    unary = table[table.method == "unary"].prob
    assert table.prob.dtype == float and (unary < 1e-8).any() and (unary > 1 - 1e-8).any()
    assert set(read_table(new, "scores").truth) == set(TRUTHS)


@given(arrays(float, 50, elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_published_digits_suffice(p):
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(
            "02_alignment",
            dict(dataset="demo", split="test", model="tiny"),
            labels=["a", "none"],
            fingerprint=dict(docs="d"),
            output_dir=f"{folder}/runs",
        )
        run.save_table(
            "dists", pd.DataFrame(dict(doc_id=[str(k) for k in range(50)], method="m", label="a", prob=p))
        )
        run.done()
        (new,) = publish_runs(index_runs(f"{folder}/runs"), f"{folder}/published")
        got = read_table(new, "dists").prob.to_numpy()
    assert ((got >= 0.5) == (p >= 0.5)).all() and ((got == 0) == (p == 0)).all()
    for a, b in ((p, got), (1 - p, 1 - got)):
        a, b = np.clip(a, 1e-8, 1 - 1e-8), np.clip(b, 1e-8, 1 - 1e-8)
        np.testing.assert_allclose(np.log(a), np.log(b), atol=2e-7)


STORED = sorted((ROOT / "outputs" / "reference" / "02_alignment").glob("*/*/*/run.json")) + sorted(
    (ROOT / "outputs" / "reference" / "04_demux").glob("*/*/*/run.json")
)


@pytest.mark.parametrize("path", STORED, ids=lambda p: "-".join(p.parts[-5:-1]))
def test_scores_of_stored_runs_are_computed_again(path, request):
    folder, scores = path.parent, read_table(path.parent, "scores")
    if "truth" not in scores:
        return old_scores_fit(folder, scores)
    assert (folder / "dists.parquet").exists(), "a run whose numbers are shown has its estimates stored"
    record = read_record(folder)
    name = {
        "HateXplain": "hatexplain",
        "HateXplainTargets": "hatexplain",
        "GoEmotions": "goemotions",
        "SemEval": "semeval2018",
    }.get(record["parameters"]["dataset"])
    docs = None
    if WITHOUT_ONE in set(scores.truth) and name:
        docs = load_docs(
            record["parameters"]["dataset"],
            record["parameters"]["split"],
            data_dir=request.getfixturevalue("data_root") / name,
        )
        docs = docs.take([docs.ids.index(i) for i in dict.fromkeys(read_table(folder, "dists").doc_id)])
    assert_recomputed(folder, docs, 2e-5)


def old_scores_fit(folder, scores):
    """Runs of before estimates kept their digits: five decimals allow each score a range, and the stored one
    lies in it
    """
    if not (folder / "dists.parquet").exists():
        pytest.skip("an older run without estimates: make reference DATA=folder makes it anew")
    dists, docs = stored_estimates(folder)
    h = docs.human().probs if docs.has_votes else docs.gold
    value = scores[scores.label.isna()].set_index(["method", "metric"]).value
    for d in dists:
        low, high = np.clip(d.probs - 6e-6, 0, 1), np.clip(d.probs + 6e-6, 0, 1)
        near = np.clip(h, low, high)
        for metric, loss in (
            ("l1", l1),
            ("brier", brier),
            ("nll", lambda p, h: nll(p, h, docs.labels.multi)),
        ):
            if (d.method, metric) not in value:
                continue
            single = metric == "nll" and not docs.labels.multi
            least = loss(high if single else near, h).mean()
            most = loss(low, h).mean() if single else slow_most(low, high, h, loss)
            assert least - 1e-6 <= value[d.method, metric] <= most + 1e-6, (d.method, metric)


def slow_most(low, high, h, loss):
    "The largest loss label by label: at one end of each range, for losses that are sums over labels"
    each = [
        np.maximum(loss(low[:, [k]], h[:, [k]]), loss(high[:, [k]], h[:, [k]])) for k in range(h.shape[1])
    ]
    return np.sum(each, 0).mean()


def test_thresholds_are_kept_with_a_run():
    assert "thresholds" in KEPT_TABLES["02_alignment"]
    assert thresholds_table([], ["global"]).columns.tolist() == ["method", "label", "threshold"]


def test_labels_that_did_equally_well_are_level():
    "Whatever the last digits of the solver: pairs won by rank, with labels that stand in for one another"
    rng = np.random.default_rng(0)
    for _ in range(40):
        rank = rng.integers(0, 3, 7)  # the last is none
        won = (rank[:, None] > rank) + 0.5 * (rank[:, None] == rank)
        p = dist_from_pairs(won[None], LabelSet(tuple("abcdef")), ("d",), "binary_outcome").probs[0]
        for a in range(6):
            assert all(p[a] == p[b] for b in range(6) if rank[a] == rank[b]) and (
                rank[a] != rank[6] or p[a] == 0.5
            )
