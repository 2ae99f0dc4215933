"""Published numbers, the front against a slow reference, recommendations under random input, pictures of
every shape, bad input.
"""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm.calibration import cross_calibrate
from mlcllm.comparisons import (
    _on_front,
    _share_columns,
    disagreements,
    pareto,
    plot_label_bars,
    plot_outcome_pairs,
    plot_pareto,
    plot_votes_scatter,
    published_scores,
    recommend,
    show_disagreements,
    with_calibrated,
    with_published,
)
from mlcllm.data import DATASETS, AnnotatedDocs, LabelDist, LabelSet, load_docs
from mlcllm.metrics import METRICS, compare, score

L70, L8 = "meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-8B"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def make_docs(n_docs=60, n_labels=5, n_annotators=(3,), multi=True, seed=0):
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(n_docs), rng.choice(n_annotators, n_docs))
    votes = (
        (
            rng.random((len(doc), n_labels))
            < (np.linspace(0.1, 0.8, n_labels) * rng.random((n_docs, n_labels)))[doc]
        )
        if multi
        else np.eye(n_labels)[rng.integers(0, n_labels, len(doc))]
    )
    share = np.zeros((n_docs, n_labels))
    np.add.at(share, doc, votes)
    share /= np.bincount(doc)[:, None]
    gold = share >= 0.5 if multi else np.eye(n_labels)[share.argmax(1)]
    return AnnotatedDocs(
        "made",
        "dev",
        LabelSet(tuple(f"label {k:02}" for k in range(n_labels)), multi, multi),
        tuple(f"d{k}" for k in range(n_docs)),
        tuple(f"text {k}" for k in range(n_docs)),
        gold.astype(np.float32),
        votes.astype(np.float32),
        doc,
        np.array([f"p{k}" for k in range(len(doc))]),
    )


def make_dists(docs, methods=("hard", "unary", "binary"), seed=1):
    rng, h = np.random.default_rng(seed), docs.human().probs
    noisy = [np.clip(h + rng.normal(0, 0.1 * (k + 1), h.shape), 0.001, 0.999) for k in range(len(methods))]
    if not docs.labels.multi:
        noisy = [p / p.sum(1, keepdims=True) for p in noisy]
    return [LabelDist(p, docs.labels, docs.ids, m) for p, m in zip(noisy, methods)]


def no_votes(docs):
    return replace(
        docs, votes=docs.votes[:0], vote_doc=docs.vote_doc[:0], vote_annotator=docs.vote_annotator[:0]
    )


def rows(metric="kl", n_docs=200, **values):
    return pd.DataFrame(
        [
            dict(
                method=m,
                metric=metric,
                label=None,
                value=v,
                lo=v - 0.1,
                hi=v + 0.1,
                n_docs=n_docs,
                against="votes",
            )
            for m, v in values.items()
        ]
    )


DOCS = make_docs()
DISTS = make_dists(DOCS)
SCORES = score(DISTS, DOCS, n_boot=200)
TOKENS = dict(hard=58, unary=75, binary=180)


# --- published numbers


@pytest.mark.parametrize(
    "model, dataset, method, expected",
    [
        (L70, "HateXplain", "binary", (1.12, 1.06, 0.29)),
        (L70, "MSPPodcast", "compare_to_none", (2.63, 1.37, 0.29)),
        (L70, "GoEmotions", "sft_max", (4.15, 0.72, 0.57)),
        (L70, "MFRC", "probe", (2.81, 0.44, 0.81)),
        (L8, "HateXplain", "hard", (12.63, 1.17, 0.42)),
        (L8, "MSPPodcast", "unary", (1.62, 1.48, 0.12)),
        (L8, "GoEmotions", "max_over_generations", (3.0, 1.44, 0.34)),
        (L8, "MFRC", "probe", (2.49, 0.39, 0.83)),
    ],
)
def test_published_cells(model, dataset, method, expected):
    part = published_scores(dataset, model).query("method == @method").set_index("metric")
    assert tuple(part.value[["nll", "l1", "example_f1"]]) == expected
    assert set(part.source) == {"Table 2" if model == L70 else "Table 5"}


def test_published_names_are_ours():
    p = published_scores()
    assert (
        set(p.dataset) <= set(DATASETS)
        and set(p.metric) <= set(METRICS)
        and set(p.model) == {L70, L8}
        and not p.duplicated(["dataset", "model", "method", "metric"]).any()
    )
    single = p[p.dataset.isin(["HateXplain", "MSPPodcast"])]
    assert set(single.method) == {"compare_to_none", "hard", "unary", "binary", "demux"}  # n/a is absent
    assert (single[single.metric == "l1"].value <= 2).all() and (p.value >= 0).all()


def test_published_agree_with_the_reference_page(data_root):
    page = data_root.parent / "reference" / "paper.md"
    if not page.is_file():
        pytest.skip("the page of the paper's facts is not here")
    names = {
        "Compare-to-none": "compare_to_none",
        "Hard predictions": "hard",
        "Unary breakdown": "unary",
        "Binary breakdown": "binary",
        "Max-over-generations": "max_over_generations",
        "BERT (Demux)": "demux",
        "Linear probing": "probe",
        "SFT outputs": "sft_hard",
        "SFT max-over-generations": "sft_max",
    }
    text = page.read_text(encoding="utf-8")
    seen = 0
    for table, model in (("Table 2,", L70), ("Table 5,", L8)):
        block = text[text.index("\n" + table) :].split("\n\n")[1]
        for line in block.split("\n")[2:]:
            name, *cells = [c.strip() for c in line.strip().strip("|").split("|")]
            for dataset, cell in zip(("HateXplain", "MSPPodcast", "GoEmotions", "MFRC"), cells, strict=True):
                got = published_scores(dataset, model)
                got = got[got.method == names[name]].value.tolist()
                seen += 1
                assert got == ([] if cell in ("n/a", "–") else [float(x) for x in cell.split("/")]), (
                    name,
                    dataset,
                )
    assert seen == 4 * (9 + 5)


def test_beside_ours():
    few = with_published(SCORES, "MFRC", L70)
    assert list(few.index) == ["hard", "unary", "binary"]
    assert few["published, Llama-3.3-70B-Instruct (Table 2)"].loc["binary"].tolist() == [3.55, 2.11, 0.41]
    over_all = SCORES[SCORES.label.isna()].set_index(["method", "metric"]).value
    for m in ("nll", "l1", "example_f1"):
        assert (few["ours"][m] == over_all.xs(m, level="metric")).all()
    assert with_published(SCORES, "my posts.csv", L70).columns.get_level_values(0).unique().tolist() == [
        "ours"
    ]
    assert with_published(SCORES, "MFRC", "other/model").columns.get_level_values(0).unique().tolist() == [
        "ours"
    ]
    assert with_published(SCORES, "MFRC", "other/model", any_model=True).shape == (3, 7 + 6)
    assert few.round(2).to_html().count("published") == 1


def test_beside_gold_says_so():
    docs = no_votes(DOCS)
    t = with_published(score(DISTS, docs, n_boot=0), "SemEval", L8)
    assert (
        t.columns[0][0] == "ours (against gold labels, no votes)" and (t.iloc[:, 1] == "").all()
    )  # no draws, no interval


# --- the front


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_front_against_a_slow_reference(points):
    slow = [not any(t <= a and v <= b and (t < a or v < b) for t, v in points) for a, b in points]
    t, v = np.array(points).T
    assert _on_front(t, v).tolist() == slow and any(slow)


def test_pareto_of_a_table():
    t = pareto(SCORES, pd.Series(TOKENS), asked=dict(hard=758, unary=5215, binary=20860))
    assert (
        t.columns.tolist()
        == [
            "metric",
            "method",
            "tokens",
            "asked",
            "value",
            "lo",
            "hi",
            "n_docs",
            "against",
            "reference",
            "on_front",
        ]
        and len(t) == 6
    )
    assert (t.asked > t.tokens).all() and t.groupby("metric").tokens.apply(
        lambda x: x.is_monotonic_increasing
    ).all()
    assert t[(t.metric == "kl") & (t.method == "hard")].on_front.all()  # the cheapest is the best here
    unknown = SCORES.copy()
    unknown.loc[unknown.method == "hard", "value"] = np.nan
    assert not pareto(unknown, TOKENS).set_index("method").loc["hard"].on_front.any()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: pareto(SCORES, dict(hard=58)), "tokens: no count for 'unary'; there are counts for hard"),
        (lambda: pareto(SCORES, {}), "counts for nothing"),
        (lambda: pareto(SCORES, TOKENS, asked=dict(hard=1)), "asked: no count for 'unary'"),
        (
            lambda: pareto(SCORES, TOKENS | dict(unary=np.nan)),
            "tokens of unary must be a number above 0, got nan",
        ),
        (
            lambda: pareto(SCORES, TOKENS | dict(unary="75")),
            "tokens of unary must be a number above 0, got '75'",
        ),
        (lambda: pareto(SCORES, TOKENS, ("kll",)), "unknown metric of these scores 'kll'; did you mean 'kl'"),
        (lambda: pareto(rows(prior=1.0), {}, "kl"), "references only"),
        (lambda: pareto([1], TOKENS), "scores must be a table as `score` gives it, got list"),
        (lambda: pareto(SCORES.drop(columns="lo"), TOKENS), "scores have no column 'lo'"),
        (lambda: pareto(SCORES, TOKENS, "entropy_bits"), "neither better high nor low"),
        (lambda: pareto(SCORES, TOKENS, ()), "metrics is empty"),
        (lambda: recommend(SCORES, TOKENS, metric="acc"), "unknown metric 'acc'"),
        (lambda: recommend(SCORES, TOKENS, -1), "budget must be a number of at least 0, got -1"),
        (lambda: recommend(SCORES, TOKENS, split="test"), "choices are made on dev, not on test"),
        (
            lambda: recommend(SCORES, TOKENS, pairs=compare(DISTS, DOCS, "l1")),
            "pairs must be the table of compare(dists, docs, 'brier')",
        ),
        (
            lambda: recommend(SCORES, TOKENS, pairs=compare(DISTS[1:], DOCS, "brier")),
            "pairs hold no test of unary against hard",
        ),
        (
            lambda: recommend(SCORES, TOKENS, 10),
            "nothing can be had for 10 tokens a document: the cheapest is hard with 58",
        ),
        (lambda: recommend(rows(A=np.nan), dict(A=1), metric="kl"), "kl: no method has a score"),
        (lambda: recommend(SCORES, TOKENS, margin=-2), "margin must be a number of at least 0, got -2"),
        (
            lambda: recommend(SCORES, TOKENS, pairs=compare(DISTS, DOCS, "brier", n_boot=0)),
            "pairs have no intervals (n_boot=0)",
        ),
        (lambda: published_scores(model="Llama-3.1-8B"), "did you mean 'meta-llama/Llama-3.1-8B'"),
        (lambda: with_published(SCORES, "hatexplain", L8), "did you mean 'HateXplain'"),
        (lambda: plot_pareto(SCORES), "the table has no column 'on_front'"),
        (lambda: plot_outcome_pairs(SCORES), "unknown method of these scores 'binary_outcome'"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        call()
    assert "\n" not in str(error.value)


# --- recommendations


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=6),
    st.sampled_from(["kl", "example_f1"]),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_recommendation_is_affordable_and_not_worse(methods, metric, budget):
    t = pd.DataFrame(
        [
            dict(
                method=f"m{k}",
                metric=metric,
                label=None,
                value=v / 30,
                lo=v / 30 - w / 30,
                hi=v / 30 + w / 30,
                n_docs=50,
                against="votes",
            )
            for k, (_, v, w) in enumerate(methods)
        ]
    )
    costs = {f"m{k}": c for k, (c, _, _) in enumerate(methods)}
    affordable = [m for m in costs if budget is None or costs[m] <= budget]
    if not affordable:
        with pytest.raises(ValueError, match="nothing can be had"):
            recommend(t, costs, budget, metric)
        return
    r = recommend(t, costs, budget, metric, margin=0.2)
    by = t.set_index("method")
    sign = -1 if METRICS[metric].best == "high" else 1
    assert (
        r.method in affordable
        and r.best in affordable
        and sign * by.value[r.best] == min(sign * by.value[affordable])
    )

    def wide(m):
        return by.hi[m] - by.value[m]

    fine = [
        m
        for m in affordable
        if m == r.best or sign * (by.value[m] - by.value[r.best]) + np.hypot(wide(m), wide(r.best)) < 0.2
    ]
    assert r.table.set_index("method").non_inferior.to_dict() == {m: m in fine for m in affordable}
    assert r.method in fine and costs[r.method] == min(costs[m] for m in fine)


def test_paired_differences_see_more_than_intervals():
    h = DOCS.human().probs

    def even(p, m):
        return LabelDist(np.clip(p, 0.001, 0.999), DOCS.labels, DOCS.ids, m)

    two = [even(0.9 * h + 0.05, "hard"), even(0.895 * h + 0.0525, "unary")]
    s = score(two, DOCS, ["brier"])
    costs = dict(hard=2, unary=1)
    assert (
        recommend(s, costs, margin=0.0012).method == "hard"
        and recommend(s, costs, pairs=compare(two, DOCS, "brier"), margin=0.0012).method == "unary"
    )


@pytest.mark.parametrize("n_docs, method", [(12, "best"), (400, "cheap")])
def test_few_documents_do_not_make_the_cheap_one_win(n_docs, method):
    "Not significantly worse was good enough: with twelve documents everything was"
    rng, docs = np.random.default_rng(0), make_docs(n_docs)
    h = docs.human().probs
    two = [
        LabelDist(np.clip(h + rng.normal(0, sd, h.shape), 0, 1), docs.labels, docs.ids, m)
        for m, sd in (("best", 0.30), ("cheap", 0.31))
    ]
    prior = LabelDist(np.tile(h.mean(0), (n_docs, 1)), docs.labels, docs.ids, "prior")
    r = recommend(
        score([*two, prior], docs, ["brier"]),
        dict(best=10, cheap=1),
        pairs=compare(two, docs, "brier"),
        margin=0.08,
    )
    assert r.method == method and r.best == "best"


def test_the_margin_is_a_tenth_of_what_is_gained_over_reading_nothing():
    costs = dict(a=10, b=1)
    s = pd.concat([rows(a=1.0, b=1.05), rows(prior=2.0, uniform=3.0, annotator=0.1)]).assign(
        lo=lambda d: d.value - 0.01, hi=lambda d: d.value + 0.01
    )
    assert (
        recommend(s, costs, metric="kl").margin == pytest.approx(0.1)
        and recommend(s, costs, metric="kl").method == "b"
    )
    assert recommend(s[s.method != "prior"], costs, metric="kl").margin == pytest.approx(0.2)
    assert recommend(s[s.method.isin(["a", "b"])], costs, metric="kl").margin == pytest.approx(1 / 20)
    lost = recommend(s.assign(value=s.value.where(s.method != "prior", 0.5)), costs, metric="kl")
    assert (
        lost.margin == 0 and lost.method == "a" and "but prior, which reads nothing, scores 0.500" in lost.why
    )


@pytest.mark.parametrize("multi, how", [(True, "platt"), (False, "temperature")])
def test_calibrated_candidates_are_crossfitted_and_cost_the_same(multi, how):
    docs = make_docs(40, multi=multi)
    sharp = [
        replace(
            d,
            probs=(p := d.probs**3) / (p + (1 - d.probs) ** 3)
            if multi
            else d.probs**3 / (d.probs**3).sum(1, keepdims=True),
        )
        for d in make_dists(docs)
    ]
    made = with_calibrated(sharp, docs)
    assert [d.method for d in made] == [
        "hard",
        "unary",
        "binary",
        f"hard+{how}",
        f"unary+{how}",
        f"binary+{how}",
    ]
    np.testing.assert_allclose(made[4].probs, cross_calibrate(sharp[1], docs, how).probs)
    assert [d.method for d in with_calibrated(made, docs)] == [d.method for d in made]  # once is enough
    assert (
        len(
            with_calibrated(
                [replace(d, ids=d.ids[:9], probs=d.probs[:9]) for d in sharp], docs.take(range(9))
            )
        )
        == 3
    )
    s = score(made, docs, ["brier"])
    assert recommend(s, TOKENS, pairs=compare(made, docs, "brier")).tokens in TOKENS.values()
    assert pareto(s, TOKENS, "brier").set_index("method").tokens[f"unary+{how}"] == 75


def test_the_sentence():
    s = rows(max_over_generations=1.0, unary=1.5, binary=1.05, annotator=0.2)
    costs = dict(max_over_generations=20, unary=90, binary=200)
    assert str(recommend(s, costs, 20, "kl")) == (
        "Recommended within 20 tokens a document: max_over_generations, KL 1.000 on dev (n = 200), "
        "20 tokens a document"
    )
    assert recommend(s, costs, metric="kl", split="train").why.endswith(
        "1.000 on train (n = 200), 20 tokens a document"
    )  # the annotator is no estimator that reads nothing
    assert (
        "but prior, which reads nothing, scores 0.900"
        in recommend(pd.concat([s, rows(constant=0.95, prior=0.9, uniform=4.0)]), costs, metric="kl").why
    )
    tie = recommend(rows(a=1.02, b=1.0, c=1.04), dict(a=5, b=5, c=5), metric="kl")
    assert tie.method == "b"  # at one price the best
    cheap = recommend(rows(a=1.02, b=1.0), dict(a=5, b=50), metric="kl", margin=0.5)
    assert str(cheap) == (
        "Recommended: a, KL 1.020 on dev (n = 200), 5 tokens a document; the cheapest shown to be within 0.5 "
        "of the best, b (1.000, 50 tokens): at most 0.161 behind by the 95 % interval (intervals of both)"
    )


# --- pictures


def test_names_do_not_overlap():
    methods = [
        "compare_to_none",
        "hard",
        "max_over_generations",
        "last_step",
        "mean_over_generations",
        "unary",
        "binary",
        "binary_outcome",
        "binary_both_orders",
    ]
    s = pd.concat(
        [
            rows(
                "kl",
                **dict(zip(methods, (7.0, 70.0, 2.0, 2.3, 2.4, 4.0, 6.0, 20.0, 5.0))),
                prior=4.6,
                constant=4.7,
                uniform=12.0,
            ),
            rows(
                "example_f1",
                **dict(zip(methods, (0.62, 0.62, 0.68, 0.44, 0.41, 0.73, 0.6, 0.46, 0.67))),
                prior=0.1,
                constant=0.1,
                uniform=0.23,
            ),
        ]
    )
    costs = dict(zip(methods, [58] * 5 + [75, 180, 180, 360]))
    for asked in (None, {m: 50 * c for m, c in costs.items()}):
        for ax in plot_pareto(pareto(s, costs, ("kl", "example_f1"), asked=asked)):
            ax.figure.draw_without_rendering()
            boxes = [
                t.get_window_extent() for t in ax.texts if t.get_text() and not t.get_text().startswith("n =")
            ]
            assert len(boxes) >= 11 and not [
                1 for k, a in enumerate(boxes) for b in boxes[:k] if a.overlaps(b)
            ]
    assert ax.get_yscale() == "linear"


def test_pareto_into_axes_of_ones_own():
    ax = plt.subplots()[1]
    assert plot_pareto(pareto(SCORES, TOKENS, "kl"), [ax])[0] is ax
    ax = plt.subplots()[1]
    plot_pareto(pareto(SCORES, TOKENS, "l1"), ax)
    fig = plt.figure().subfigures(1, 2)[0]
    plot_pareto(pareto(SCORES, TOKENS), fig.subplots(2))
    plot_pareto(pareto(score(DISTS, DOCS, n_boot=0), TOKENS))  # no intervals
    with pytest.raises(ValueError, match="kl: no method has a score"):
        plot_pareto(pareto(rows(A=np.nan, prior=1.0), dict(A=1), "kl"))
    with pytest.raises(ValueError, match="2 metrics need 2 axes, got 1"):
        plot_pareto(pareto(SCORES, TOKENS), [plt.subplots()[1]])


@pytest.mark.parametrize(
    "docs",
    [
        DOCS,
        make_docs(n_labels=28, n_annotators=(3, 4, 5)),
        make_docs(multi=False),
        no_votes(DOCS),
        make_docs(n_annotators=(13, 17, 19)),
        make_docs(n_docs=1),
        make_docs(n_labels=1),
    ],
    ids=["multi", "28 labels", "single", "gold", "many votes", "one document", "one label"],
)
def test_pictures_of_every_shape(docs):
    source = docs if docs.has_votes else DOCS
    dists = [replace(d, ids=docs.ids, labels=docs.labels) for d in make_dists(source)]
    axes = plot_label_bars(dists, docs, n_boot=50)
    assert len(axes) == 3 and len(axes[0].get_yticks()) == len(docs.labels)
    assert all(
        ax.get_xlim() == axes[0].get_xlim() and (line.get_xdata() <= ax.get_xlim()[1]).all()
        for ax in axes
        for line in ax.lines
    )  # a later panel may reach farther
    ax = plot_votes_scatter(dists[0], docs, n_boot=50)
    counts = [int(t.get_text().replace(",", "")) for t in ax.texts]
    assert sum(counts) == docs.gold.size and ("votes" if docs.has_votes else "gold") in ax.get_xlabel()
    plot_votes_scatter(dists[0], docs, plt.subplots()[1], n_boot=0)
    ax.figure.draw_without_rendering()
    axes[0].figure.draw_without_rendering()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fractions(0, 1, max_denominator=9).map(float), min_size=1, max_size=80))
def test_shares_are_in_columns_near_them(shares):
    shares = np.array(shares)
    which, x = _share_columns(shares)
    assert (
        np.abs(x[which] - shares).max() <= 0.1 + 1e-6
        and (np.diff(x) > 0).all()
        and len(x) <= 11
        and set(which) == set(range(len(x)))
    )


def test_outcome_pairs():
    pair = make_dists(DOCS, ("binary", "binary_outcome"))
    one = score(pair, DOCS, n_boot=20)
    assert plot_outcome_pairs(one).get_title() == "probabilities ahead in 1 of 1"
    flipped = one.assign(method=one.method.map(dict(binary="binary_outcome", binary_outcome="binary")))
    both = pd.concat(
        [
            one.assign(dataset="A"),
            flipped.assign(dataset="B"),
            score(DISTS[:1], DOCS, n_boot=0).assign(dataset="C"),
        ]
    )  # another method's rows do no harm
    assert plot_outcome_pairs(both).get_title() == "probabilities ahead in 1 of 2"
    assert plot_outcome_pairs(both, "example_f1").get_xlabel() == "example-F1, high is good"


# --- disagreements


def test_disagreements_against_a_slow_reference():
    t = disagreements(DISTS, DOCS, n=60)
    spread = {
        i: {
            name: max(d.probs[k, l] for d in DISTS) - min(d.probs[k, l] for d in DISTS)
            for l, name in enumerate(DOCS.labels.names)
        }
        for k, i in enumerate(DOCS.ids)
    }
    assert t.doc_id.tolist() == sorted(DOCS.ids, key=lambda i: -np.mean(list(spread[i].values())))
    for r in t.itertuples():
        k, l = DOCS.ids.index(r.doc_id), DOCS.labels.names.index(r.label)
        assert (
            np.isclose(r.spread, max(spread[r.doc_id].values()))
            and np.isclose(r.unary, DISTS[1].probs[k, l])
            and np.isclose(r.votes, DOCS.human().probs[k, l])
        )
    assert len(disagreements(DISTS, DOCS, n=1000)) == 60 and "gold" in disagreements(DISTS, no_votes(DOCS))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {k for k, _ in attrs}


@settings(deadline=None, max_examples=40)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1).filter(str.strip),
    st.sampled_from(["<script>x</script>", "<img src=x onerror=y>", "'\"><b>", "&lt;"]),
)
def test_nothing_of_the_data_becomes_html(text, nasty):
    docs = make_docs(n_docs=3, n_labels=2)
    labels = LabelSet((nasty, "b"))
    docs = replace(docs, labels=labels, ids=(nasty, "1", "2"), texts=(nasty + text, text, nasty))
    dists = [
        replace(d, labels=labels, ids=docs.ids, method=d.method + nasty)
        for d in make_dists(make_docs(n_docs=3, n_labels=2))
    ]
    shown = show_disagreements(dists, docs)
    tags = Tags()
    tags.feed(shown._repr_html_())
    assert (
        tags.tags == {"div", "p", "b", "blockquote", "table", "tr", "th", "td"}
        and tags.attributes == {"style"}
        and len(shown.table) == 3
    )


def test_unknown_estimates_and_votes():
    probs = DISTS[0].probs.copy()
    probs[:59] = np.nan
    silent = replace(DISTS[0], probs=probs)
    assert (
        show_disagreements([silent, DISTS[1]], DOCS).table.doc_id.tolist() == ["d59"]
        and len(plot_label_bars([silent, DISTS[1]], DOCS)) == 2
    )
    keep = DOCS.vote_doc != 59
    unread = replace(
        DOCS, votes=DOCS.votes[keep], vote_doc=DOCS.vote_doc[keep], vote_annotator=DOCS.vote_annotator[keep]
    )
    assert "–</td>" in show_disagreements([silent, DISTS[1]], unread).html  # no votes: a dash, not 0
    for f in (plot_label_bars, lambda d, docs: plot_votes_scatter(d[0], docs)):
        with pytest.raises(ValueError, match="no document"):
            f([silent, DISTS[1]], unread)
    other = probs[::-1].copy()
    with pytest.raises(ValueError, match="no document is known to all methods"):
        disagreements([silent, replace(DISTS[1], probs=other)], DOCS)


@pytest.mark.parametrize(
    "call",
    [
        lambda d, x: plot_label_bars(d, x),
        lambda d, x: plot_votes_scatter(d[0], x),
        lambda d, x: disagreements(d, x),
        lambda d, x: show_disagreements(d, x),
    ],
)
def test_estimates_of_other_documents_are_refused(call):
    for docs, says in (
        (DOCS.take(range(59)), "hard: 60 ids where the documents have 59"),
        (DOCS.take(range(59, -1, -1)), "in another order"),
        (
            replace(DOCS, labels=LabelSet(tuple("abcde"))),
            "hard: label 1 is 'label 00' where the documents have 'a'",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(says)):
            call(DISTS, docs)


@pytest.mark.parametrize("name, folder", [("GoEmotions", "goemotions"), ("HateXplain", "hatexplain")])
def test_real_votes(data_root, name, folder):
    if not (data_root / folder).is_dir():
        pytest.skip(f"no {folder} among the corpora")
    docs = load_docs(name, "dev", data_dir=data_root / folder, n_docs=400)
    rng = np.random.default_rng(0)
    truth = docs.human().probs if docs.has_votes else docs.gold

    def blur(a):
        return a * truth + (1 - a) / len(docs.labels) * rng.random((len(docs), 1))

    dists = [LabelDist(blur(a), docs.labels, docs.ids, m) for a, m in ((0.9, "hard"), (0.7, "unary"))]
    ax = plot_votes_scatter(dists[0], docs)
    assert (
        sum(int(t.get_text().replace(",", "")) for t in ax.texts) == np.isfinite(truth).sum()
        and len(ax.texts) <= 11
    )
    assert len(plot_label_bars(dists, docs)) == 2 and len(show_disagreements(dists, docs).table) == 5
    assert set(with_published(score(dists, docs, n_boot=50), name, L8).columns.get_level_values(0)) == {
        f"ours{'' if docs.has_votes else ' (against gold labels, no votes)'}",
        "published, Llama-3.1-8B (Table 5)",
    }
