"""Agreement against another library, and test sets drawn from real corpora: sizes, balance, independence of
order, files that load_docs reads.
"""

import warnings
from dataclasses import replace

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm.data import AnnotatedDocs, LabelSet, load_docs
from mlcllm.testsets import (
    _draw,
    _quotas,
    agreement_table,
    annotators_differ,
    balanced_test_set,
    krippendorff_alpha,
    label_alphas,
    multilabel_test_set,
    plot_strata,
    strata,
    strata_counts,
    write_ids,
)

PAPER = {
    "GoEmotions": ("goemotions", "dev"),
    "SemEval": ("semeval2018", "dev"),
    "HateXplain": ("hatexplain", "test"),
}


def random_docs(seed, multi, n_docs=40, n_labels=4, n_annotators=6):
    "Documents with 0 to 6 votes each"
    rng = np.random.default_rng(seed)
    doc, who = np.nonzero(rng.random((n_docs, n_annotators)) < 0.5)
    truth = rng.random((n_docs, n_labels))
    votes = (
        (truth[doc] + 0.4 * rng.random((len(doc), n_labels)) > 1)
        if multi
        else np.eye(n_labels)[(truth[doc] + 0.5 * rng.random((len(doc), n_labels))).argmax(1)]
    )
    gold = (truth > 0.7) if multi else np.eye(n_labels)[truth.argmax(1)]
    return AnnotatedDocs(
        "random",
        "test",
        LabelSet(tuple("abcd"[:n_labels]), multi, multi),
        tuple(f"d{k}" for k in range(n_docs)),
        ("text",) * n_docs,
        gold.astype(np.float32),
        votes.astype(np.float32),
        doc,
        np.array([f"p{w}" for w in who]),
    )


def answers(docs, values):
    "(n_annotators, n_docs) a value a vote, nan where nobody was asked"
    who = sorted(set(docs.vote_annotator))
    table = np.full((len(who), len(docs)), np.nan)
    table[[who.index(w) for w in docs.vote_annotator], docs.vote_doc] = values
    return table


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_the_librarys(seed):
    docs = random_docs(seed, multi=True)
    expected = [
        krippendorff.alpha(reliability_data=answers(docs, docs.votes[:, k]), level_of_measurement="nominal")
        for k in range(4)
    ]
    assert np.allclose(label_alphas(docs), expected) and np.isclose(
        krippendorff_alpha(docs), np.mean(expected)
    )
    single = random_docs(seed, multi=False)
    assert np.isclose(
        krippendorff_alpha(single),
        krippendorff.alpha(
            reliability_data=answers(single, single.votes.argmax(1)), level_of_measurement="nominal"
        ),
    )


def test_alpha_of_real_annotators_is_the_librarys(data_root):
    docs = load_docs("HateXplain", "test", data_dir=data_root / "hatexplain")
    by_place = (
        docs.votes.argmax(1).reshape(-1, 3).T.astype(float)
    )  # three votes a post; who gave them does not matter to α
    assert np.isclose(
        krippendorff_alpha(docs),
        krippendorff.alpha(reliability_data=by_place, level_of_measurement="nominal"),
    )


@pytest.mark.parametrize("multi", [True, False])
def test_interval_against_documents_drawn_one_by_one(multi):
    docs = random_docs(3, multi)
    table, rng, draws = agreement_table(docs, n_draws=30, seed=5).iloc[0], np.random.default_rng(5), []
    for rows in rng.integers(len(docs), size=(30, len(docs))):
        votes = [np.flatnonzero(docs.vote_doc == r) for r in rows]
        again = replace(
            docs,
            votes=docs.votes[np.concatenate(votes)],
            vote_doc=np.repeat(np.arange(len(rows)), [len(v) for v in votes]),
            vote_annotator=docs.vote_annotator[np.concatenate(votes)],
        )
        draws.append(krippendorff_alpha(again))
    half = 1.96 * np.std(draws, ddof=1)
    assert np.allclose([table.alpha_lo, table.alpha_hi], [table.alpha - half, table.alpha + half])
    assert table.two_or_more == (docs.n_annotators > 1).sum() < len(docs)


def crowd(rng, n_docs=300, n_annotators=60):
    "Three of many annotators judge each document"
    doc = np.repeat(np.arange(n_docs), 3)
    who = np.concatenate([rng.choice(n_annotators, 3, False) for _ in range(n_docs)])
    chance = rng.choice([0.05, 0.1, 0.8], size=(n_docs, 3), p=[0.6, 0.2, 0.2])
    votes = (rng.random((len(doc), 3)) < chance[doc]).astype(np.float32)
    return AnnotatedDocs(
        "crowd",
        "test",
        LabelSet(tuple("abc")),
        tuple(map(str, range(n_docs))),
        ("text",) * n_docs,
        np.zeros((n_docs, 3), np.float32),
        votes,
        doc,
        np.array([f"p{w}" for w in who]),
    )


def test_intervals_hold_the_truth():
    "Where pairs of annotators share few documents, quantiles of the draws hold κ half of the time only"
    rng = np.random.default_rng(0)
    tables = pd.concat([agreement_table(crowd(rng), n_draws=50) for _ in range(40)])
    for what in ("cohen_kappa", "alpha"):
        truth, name = tables[what].mean(), what.split("_")[-1]
        assert 0.85 <= ((tables[f"{name}_lo"] < truth) & (truth < tables[f"{name}_hi"])).mean() <= 1
    assert (
        tables.alpha.mean() > tables.cohen_kappa.mean() + 0.2
    )  # and κ is far below α, though annotators are all alike


def test_kappa_is_low_where_annotators_share_few_documents(data_root):
    table = agreement_table(
        load_docs("HateXplain", "test", data_dir=data_root / "hatexplain"), n_draws=0
    ).iloc[0]
    assert (
        round(table.alpha, 3) == 0.501
        and table.alpha > table.cohen_kappa + 0.1
        and round(table.disagree, 3) == round(950 / 1924, 3)
    )


def test_agreement_without_annotators_and_without_draws(data_root):
    none = agreement_table(load_docs("GoEmotions", "dev", data_dir=data_root / "goemotions", n_docs=50)).iloc[
        0
    ]
    assert (
        none.documents == 50
        and none[["annotators", "disagree", "cohen_kappa", "alpha", "alpha_lo", "kappa_hi"]].isna().all()
    )
    table = agreement_table(load_docs("demo", "test"), n_draws=0).iloc[0]
    assert not np.isnan(table.alpha) and np.isnan(table.alpha_lo)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 200))
def test_quotas_are_even(sizes, n):
    quota = _quotas(np.array(sizes), n)
    assert quota.sum() == min(n, sum(sizes)) and (quota <= sizes).all()
    open_ = quota[quota < sizes]
    assert (
        not len(open_) or quota.max() <= open_.min() + 1
    )  # who could give more has given as much as anybody, but for the remainder


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.randoms(), st.integers(1, 60))
def test_order_does_not_matter(seed, random, n):
    docs = random_docs(0, multi=True, n_docs=60)
    rows = list(range(60))
    random.shuffle(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for draw in (balanced_test_set, multilabel_test_set):
            assert draw(docs, n, seed) == draw(docs.take(rows), n, seed)


def test_other_documents_leave_a_stratum_alone():
    ids = [f"d{k}" for k in range(500)]
    small, large = _draw(ids[:300], 50, 0), _draw(ids, 50, 0)
    assert [i for i in large if i in set(ids[:300])] == small[
        : len([i for i in large if i in set(ids[:300])])
    ]


def test_hatexplain_targets(data_root, tmp_path):
    docs = load_docs("HateXplainTargets", "test", data_dir=data_root / "hatexplain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every stratum has enough
        ids = balanced_test_set(docs)
    counts = strata_counts(docs, ids)
    assert counts.corpus.tolist() == [386, 387, 405, 553, 37, 156] and counts.chosen.tolist() == [
        34,
        34,
        33,
        33,
        33,
        33,
    ]
    back = load_docs(
        "HateXplainTargets",
        "test",
        data_dir=data_root / "hatexplain",
        test_ids=write_ids(tmp_path / "list.txt", ids),
    )
    assert (
        sorted(back.ids) == ids and strata(back).value_counts(sort=False).tolist() == counts.chosen.tolist()
    )
    with pytest.warns(UserWarning, match="only 193 documents have two gold labels"):
        assert len(multilabel_test_set(docs)) == 193
    assert [p.get_width() for p in plot_strata(docs, ids).patches][6:] == pytest.approx(
        [0.17, 0.17, 0.165, 0.165, 0.165, 0.165]
    )


def test_goemotions_without_annotators(data_root):
    docs = load_docs("GoEmotions", "dev", data_dir=data_root / "goemotions")
    ids = balanced_test_set(docs, 231)
    assert strata_counts(docs, ids).to_dict("list") == {"corpus": [1592, 3388, 446], "chosen": [77, 77, 77]}
    assert not annotators_differ(docs).any()
    paper = load_docs(
        "GoEmotions",
        "dev",
        data_dir=data_root / "goemotions",
        test_ids=data_root / "id_lists" / "GoEmotions" / "big_multilabel.txt",
    )
    assert multilabel_test_set(docs, 446) == sorted(paper.ids)  # the paper's list is all there are


@pytest.mark.parametrize(
    "dataset, expected",
    [("GoEmotions", [80, 80, 71]), ("SemEval", [3, 26, 156]), ("HateXplain", [33, 33, 33, 34, 34, 33])],
)
def test_how_the_papers_lists_are_balanced(data_root, dataset, expected):
    folder, split = PAPER[dataset]
    docs = load_docs(dataset, split, data_dir=data_root / folder, test_ids=data_root / "id_lists")
    assert (
        strata(docs).value_counts(sort=False).tolist() == expected
    )  # HateXplain: class by agreement, hence the rule for single-label tasks


def test_a_short_stratum_is_said_once():
    docs = load_docs("demo", "test")
    with pytest.warns(
        UserWarning,
        match=r"demo test: some strata have fewer than 16 documents, the others fill up to 100 \(no label, agree: 4 of 4; .*2\+ labels, disagree: 32 of 32\)",  # noqa: E501
    ) as said:
        ids = balanced_test_set(docs, 100)
    assert len(said) == 1 and len(ids) == 100 and said[0].filename == __file__
    with pytest.warns(UserWarning, match="only 103 documents for a test set of 200; all are taken"):
        assert len(balanced_test_set(docs)) == 103


def test_single_votes_are_in_no_stratum():
    docs = load_docs("demo", "test")
    first = docs.vote_doc == np.maximum(docs.vote_doc, 0)
    one = np.concatenate(
        [np.flatnonzero(docs.vote_doc == k)[: 1 if k < 10 else None] for k in range(len(docs))]
    )
    mixed = replace(
        docs, votes=docs.votes[one], vote_doc=docs.vote_doc[one], vote_annotator=docs.vote_annotator[one]
    )
    assert (
        first.all()
        and not annotators_differ(mixed)[:10].any()
        and strata(mixed)[:10].isna().all()
        and strata(mixed)[10:].notna().all()
    )
    with pytest.warns(UserWarning, match="only 93 documents"):
        assert not set(balanced_test_set(mixed)) & set(docs.ids[:10])
    alone = docs.take(range(10))
    alone = replace(
        alone, votes=alone.votes[::5], vote_doc=alone.vote_doc[::5], vote_annotator=alone.vote_annotator[::5]
    )
    assert set(strata(alone).cat.categories) == {
        "no label",
        "1 label",
        "2+ labels",
    }  # nobody can agree: the number of labels is left
    assert np.isnan(agreement_table(alone).disagree.iloc[0])


BAD = [
    (lambda d, p: balanced_test_set(d, 0), "n_docs must be a whole number of at least 1"),
    (lambda d, p: balanced_test_set(d, 10, seed="x"), "seed must be a whole number"),
    (lambda d, p: multilabel_test_set(d, True), "n_docs must be a whole number"),
    (
        lambda d, p: multilabel_test_set(d.take(np.flatnonzero(d.gold.sum(1) < 2))),
        "no document has two gold labels",
    ),
    (lambda d, p: agreement_table(d, n_draws=-1), "n_draws must be a whole number"),
    (lambda d, p: plot_strata(d, ["demo-x"]), "1 of 1 ids are not in demo test, e.g. demo-x"),
    (lambda d, p: write_ids(p / "a.txt", []), "a.txt: there are no ids to write"),
    (lambda d, p: write_ids(p / "a.txt", ["a", "b", "a"]), "id 'a' is listed twice"),
    (lambda d, p: write_ids(p / "a.txt", ["a ", "b"]), "id 'a ' cannot stand in a list"),
]


@pytest.mark.parametrize("call, says", BAD, ids=[s for _, s in BAD])
def test_bad_input(tmp_path, call, says):
    with pytest.raises(ValueError) as error:
        call(load_docs("demo", "test"), tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=8),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
@settings(deadline=None, max_examples=60)
def test_lists_come_back(tmp_path_factory, ids):
    "Whatever can be written is read back as it was by load_docs' own reader"
    from mlcllm.data import _id_list

    path = tmp_path_factory.mktemp("ids") / "list.txt"
    try:
        write_ids(path, ids)
    except (ValueError, UnicodeEncodeError):
        return
    assert _id_list(path, "any") == ids
