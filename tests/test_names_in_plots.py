"""Names of labels, methods, models and data sets stand in every picture as they are, whatever they hold.

matplotlib sets what stands between two `$` as a formula: it is drawn as something else, or ends in an error.
Every
function of the package that is called plot_* is drawn here with such names; a new one needs a line in PLOTS.
"""

import importlib
import inspect
import pkgutil
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import cbook
from matplotlib.text import Text
from test_comparisons import make_dists, make_docs
from test_figures import stored

import mlcllm
from mlcllm import (
    alignment,
    boxes,
    calibration,
    claims,
    comparisons,
    conformal,
    data,
    demux,
    disagreement,
    figures,
    label_sets,
    metrics,
    people,
    probing,
    questions,
    reasonableness,
    sft,
    stacking,
    stepwise_logits,
    testsets,
    variance,
)
from mlcllm.checks import legend_text, plain_text
from mlcllm.data import LabelDist, LabelSet
from mlcllm.prompt_config import PromptConfig

LABELS = (r"$\frac{a}{b$", r"50 % $x_1^2$ off", r"\notacommand{$y$}", r"a\$b", r"{brace}^hat_sub")
METHODS = (r"$m$", r"\way$_1$", r"100%^{$")
DATASET, MODEL = r"$d_1$ \{set", r"_$model$/^x"

DOCS = replace(make_docs(n_docs=40), name=DATASET, labels=LabelSet(LABELS))
DISTS = make_dists(DOCS, METHODS)
SCORES = metrics.score(DISTS, DOCS, n_boot=20)
ALIGNED = SimpleNamespace(dists=DISTS, docs=DOCS, people=SCORES)  # a run of 02
DEV = DOCS.take(range(20)), LabelDist(DISTS[0].probs[:20], DOCS.labels, DOCS.ids[:20], METHODS[0])
TEST = DOCS.take(range(20, 40)), LabelDist(DISTS[0].probs[20:], DOCS.labels, DOCS.ids[20:], METHODS[0])
RUNS = pd.concat(
    [SCORES.assign(dataset=d, model=m, docs=d) for d in (DATASET, "other") for m in (MODEL, "tiny")]
)
RENAMED = RUNS.assign(
    method=RUNS.method.map(dict(zip(METHODS, ("binary", "binary_outcome", "unary")))).fillna(RUNS.method)
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def points(**columns):  # a table of two datasets and two models
    rows = [
        dict(dataset=d, model=m, value=0.5, lo=0.4, hi=0.6, n=30, n_docs=30, **columns)
        for d in (DATASET, "other")
        for m in (MODEL, "tiny")
    ]
    return pd.DataFrame(rows)


def traced(folder):  # runs of 01 with such labels
    for seed, model in enumerate((MODEL, "tiny")):
        stored(folder, DATASET, model, seed=seed, labels=(*LABELS, "none"))
    found = figures.traces_of(figures.open_run_index(folder))
    assert (DATASET, MODEL) in found
    return found


def trace():  # of one answer
    n, names = 2, (*LABELS, "none")
    z = np.random.default_rng(0).normal(size=(n, len(names)))
    return stepwise_logits.StepTrace(
        "d0",
        names,
        f"the answer is {LABELS[0]}",
        "stop",
        LABELS[:n],
        np.arange(n),
        z,
        np.full(n, 3.0),
        np.zeros(n),
        np.ones(n),
    )


def answered():  # a run of 01
    return SimpleNamespace(docs=DOCS, traces=[trace()] * len(DOCS))


def votes_wall():  # from `dists_of`
    tables = {}
    for name in (DATASET, "other"):
        parts = [
            pd.DataFrame(
                dict(
                    doc_id=np.repeat(d.ids, len(LABELS)),
                    label=LABELS * len(d),
                    prob=d.probs.ravel(),
                    method=m,
                )
            )
            for d, m in zip(DISTS, ("unary", "binary", "hard"))
        ]
        table = (
            pd.concat(parts).pivot(index=["doc_id", "label"], columns="method", values="prob").reset_index()
        )
        tables[name] = table.assign(people=table.unary)
    return tables


def sets():  # of one document
    found = ((LABELS[:2], 0.6), ((), 0.4))
    return label_sets.SetMarginals(
        DISTS[0],
        np.ones(len(DOCS)),
        DISTS[0].probs,
        DISTS[0].probs,
        (found,) * len(DOCS),
        np.ones(len(DOCS), int),
    )


def forced():
    rng, n = np.random.default_rng(0), len(LABELS)
    return label_sets.ForcedFirst(
        DOCS.ids[:9],
        (*LABELS, "none"),
        rng.normal(size=(9, n + 1)),
        rng.normal(size=(9, n, n + 1)),
        rng.random((9, n)),
    )


def step_rows():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            dict(
                doc_id=f"d{k}",
                step=s,
                is_last=s == 1,
                top=rng.random(),
                second=rng.random(),
                entropy=rng.random(),
                p_stop=0.5,
                second_is_next=None,
            )
            for k in range(9)
            for s in range(2)
        ]
    )


def probe_rows():
    rows = [
        dict(
            target=k,
            method="probe",
            metric="micro_f1",
            layer=l,
            position=p,
            value=0.5,
            lo=0.4,
            hi=0.6,
            n_docs=9,
        )
        for k in probing.PROBE_TARGETS
        for l in (0, 1)
        for p in (0, 1)
    ]
    return pd.DataFrame(rows)


def ranks_by_eps():
    return pd.DataFrame(
        [
            dict(method=m, metric="nll", eps=e, value=1.0, rank=k + 1)
            for k, m in enumerate(METHODS)
            for e in (1e-8, np.nan)
        ]
    )


def information_rows():
    return pd.DataFrame(
        [
            dict(target=t, method=m, value=1.0, lo=0.9, hi=1.1, share=0.5, n_docs=9)
            for t in ("first", "second")
            for m in ("entropy", "words", "state", "gain")
        ]
    )


def lens_rows():
    return pd.DataFrame([dict(step=1, layer=l, rank=1, p_chosen=0.5) for l in (1, 2) for _ in range(3)])


def attention_rows():
    parts = ("first", "input", "answer", "labels")
    return pd.DataFrame(
        [{p: np.full(2, 0.25) for p in parts} | {f"n_{p}": 2 for p in parts} for _ in range(3)]
    )


def sweep():
    rows = [
        dict(method=f"hard+ratio{r}", metric="multilabel_share", value=r, lo=r, hi=r, n_docs=9)
        for r in (0, 0.5)
    ]
    return stepwise_logits.plot_sweep(pd.DataFrame(rows), DOCS)


def splits():  # of every method, under two sets of demonstrations
    found = {PromptConfig(seed=k): make_dists(DOCS, METHODS, seed=k) for k in (0, 1)}
    return variance.split_by_method(variance.document_scores(found, DOCS))


LEARNED = pd.DataFrame(dict(epoch=[1, 2], loss=[2.0, 1.0], dev_loss=[2.0, 1.0], dev_nll=[2.0, 1.0]))
PERSONS = np.array([f"$who$_{k}" for k in range(3)] * 40)  # who voted on DOCS
METHOD_NAMES = [m.replace("_", " ") for m in METHODS]  # as pictures show them

PLOTS = {  # function -> a call, the names that must be seen
    "plot_box_items": (lambda d: boxes.plot_box_items(boxes.generate_boxes(3)), []),
    "plot_calibration": (
        lambda d: calibration.plot_calibration(calibration.fit_calibrator(*DEV[::-1]), *TEST[::-1]),
        METHOD_NAMES[:1],
    ),
    "plot_threshold": (
        lambda d: calibration.plot_threshold(calibration.fit_thresholds(*DEV[::-1]), *TEST[::-1]),
        [],
    ),
    "plot_coverage": (
        lambda d: conformal.plot_coverage(conformal.coverage_table([1, 2], DISTS[0], DOCS, n_boot=9)),
        ["top 1", "top 2"],
    ),
    "plot_learning_curve": (
        lambda d: stacking.plot_learning_curve(
            pd.DataFrame(
                [
                    dict(dataset=w, n=n, draw=k, method=m, metric="nll", value=1 + k / n)
                    for w in (DATASET, "other")
                    for n in (25, 50)
                    for k in (0, 1)
                    for m in (*METHODS, "stacked", "hard+platt")
                ]
            ),
            "nll",
        ),
        [DATASET, *METHOD_NAMES, "stacked"],
    ),
    "plot_pareto": (
        lambda d: comparisons.plot_pareto(comparisons.pareto(SCORES, dict(zip(METHODS, (58, 75, 180))))),
        METHOD_NAMES,
    ),
    "plot_label_bars": (
        lambda d: comparisons.plot_label_bars(DISTS, DOCS, n_boot=9),
        [*LABELS, *METHOD_NAMES],
    ),
    "plot_votes_scatter": (
        lambda d: comparisons.plot_votes_scatter(DISTS[1], DOCS, n_boot=9),
        METHOD_NAMES[1:2],
    ),
    "plot_outcome_pairs": (lambda d: comparisons.plot_outcome_pairs(RENAMED), [f"{DATASET} · {MODEL}"]),
    "plot_runs": (lambda d: comparisons.plot_runs(RUNS), [DATASET, " " + MODEL, *METHOD_NAMES]),
    "plot_labels": (lambda d: data.plot_labels(DOCS), LABELS),
    "plot_agreement": (lambda d: data.plot_agreement(DOCS), []),
    "plot_training": (lambda d: demux.plot_training(LEARNED), []),
    "plot_methods": (lambda d: demux.plot_methods(SCORES, ("nll",)), METHOD_NAMES),
    "plot_learning": (lambda d: sft.plot_learning(dict(sft=LEARNED.assign(step=[1, 2]))), ["sft"]),
    "plot_finetuned_steps": (lambda d: sft.plot_finetuned_steps(dict(base=[trace()])), ["before"]),
    "plot_steps_wall": (lambda d: figures.plot_steps_wall(traced(d)), [DATASET, MODEL]),
    "plot_first_ranks": (lambda d: figures.plot_first_ranks(traced(d)), [DATASET, MODEL]),
    "plot_later_ranks": (lambda d: figures.plot_later_ranks(traced(d)), [DATASET, MODEL]),
    "plot_lines": (lambda d: figures.plot_lines(points(x=1), "x"), [DATASET, " " + MODEL]),
    "plot_positions": (lambda d: figures.plot_positions(points(position=1)), [DATASET, f" {MODEL} (n = 30)"]),
    "plot_sweeps": (
        lambda d: figures.plot_sweeps(points(ratio=0.5, gold=0.5)),
        [DATASET, f" {MODEL} (n = 30)"],
    ),
    "plot_probe_wall": (lambda d: figures.plot_probe_wall(points(what="gold")), [DATASET, MODEL]),
    "plot_tuned": (
        lambda d: figures.plot_tuned(
            pd.DataFrame(
                [
                    dict(
                        dataset=DATASET,
                        base=MODEL,
                        method=m,
                        metric=k,
                        before=1,
                        before_lo=1,
                        before_hi=1,
                        after=2,
                        after_lo=2,
                        after_hi=2,
                    )
                    for m in METHODS
                    for k in ("nll", "example_f1")
                ]
            )
        ),
        [f"{DATASET}\n{MODEL}", *METHOD_NAMES],
    ),
    "plot_slopes": (lambda d: figures.plot_slopes(RUNS), [DATASET, MODEL, *METHOD_NAMES]),
    "plot_votes_wall": (lambda d: figures.plot_votes_wall(votes_wall()), [DATASET]),
    "plot_label_reliability": (lambda d: figures.plot_label_reliability(votes_wall()), [DATASET, *LABELS]),
    "plot_costs": (
        lambda d: figures.plot_costs(points(method=METHODS[0], tokens=30)),
        [DATASET, " " + MODEL, METHOD_NAMES[0]],
    ),
    "plot_scale": (
        lambda d: figures.plot_scale(points(statistic="top").assign(size=[1e6, 2e6] * 2)),
        [DATASET, f"{MODEL}\n1.0 M"],
    ),
    "plot_claims": (
        lambda d: figures.plot_claims([claims.decide("5", [], DATASET, MODEL)]),
        [DATASET, MODEL],
    ),
    "plot_sets": (
        lambda d: label_sets.plot_sets(sets(), "d0", others={"_$other$": DISTS[1].probs[0]}),
        [*LABELS, ", ".join(LABELS[:2]), " _$other$"],
    ),
    "plot_forced_first": (lambda d: label_sets.plot_forced_first(forced()), LABELS),
    "plot_reliability": (lambda d: metrics.plot_reliability(DISTS[2], DOCS), METHOD_NAMES[2:]),
    "plot_scores_table": (lambda d: metrics.plot_scores_table(SCORES, ("nll",)), METHOD_NAMES),
    "plot_probes": (lambda d: probing.plot_probes(probe_rows(), 1), []),
    "plot_layers": (lambda d: probing.plot_layers(probe_rows()), []),
    "plot_by_eps": (lambda d: metrics.plot_by_eps(ranks_by_eps()), METHOD_NAMES),
    "plot_reasonableness": (
        lambda d: reasonableness.plot_reasonableness(pd.DataFrame(dict(p=[0.2, 0.9], wanted=[False, True]))),
        [],
    ),
    "plot_information": (lambda d: probing.plot_information(information_rows()), []),
    "plot_lens": (lambda d: probing.plot_lens(lens_rows()), []),
    "plot_attention": (lambda d: probing.plot_attention(attention_rows()), []),
    "plot_pairs": (lambda d: questions.plot_pairs(np.full((len(LABELS),) * 2, 0.5), LABELS), LABELS),
    "plot_steps": (
        lambda d: stepwise_logits.plot_steps(trace(), f"the text {LABELS[1]}", LABELS[:1]),
        [f"● {LABELS[0]}", *LABELS[1:]],
    ),
    "plot_mean_steps": (
        lambda d: stepwise_logits.plot_mean_steps([trace()] * 3, [LABELS[:1]] * 3),
        LABELS,
    ),
    "plot_step_distributions": (lambda d: stepwise_logits.plot_step_distributions(step_rows(), 6), []),
    "plot_longest_answer": (lambda d: stepwise_logits.plot_longest_answer(answered()), []),
    "plot_all_steps": (lambda d: stepwise_logits.plot_all_steps(answered()), []),
    "plot_n_labels": (lambda d: stepwise_logits.plot_n_labels([trace()] * len(DOCS), DOCS), []),
    "plot_sweep": (lambda d: sweep(), []),
    "plot_scores": (
        lambda d: stepwise_logits.plot_scores(RUNS.assign(model="tiny", method="hard")),
        [f"{DATASET}\n{DATASET} (n = 40)"],
    ),
    "plot_epsilon": (lambda d: alignment.plot_epsilon(ALIGNED), METHOD_NAMES),
    "plot_people": (lambda d: alignment.plot_people(ALIGNED), METHOD_NAMES),
    "plot_reliabilities": (lambda d: alignment.plot_reliabilities(ALIGNED), METHOD_NAMES),
    "plot_votes": (lambda d: alignment.plot_votes(ALIGNED), METHOD_NAMES),
    "plot_vote_shares": (lambda d: people.plot_vote_shares(people.beta_binomial(DOCS), LABELS[0], 3), []),
    "plot_annotators": (
        lambda d: people.plot_annotators(people.dawid_skene(replace(DOCS, vote_annotator=PERSONS))),
        [f"$who$_{k} (40)" for k in range(3)],
    ),
    "plot_ceiling": (
        lambda d: people.plot_ceiling(people.people_ceiling(DOCS, DISTS, n_boot=9)),
        METHOD_NAMES,
    ),
    "plot_disagreement": (
        lambda d: disagreement.plot_disagreement(disagreement.disagreement(DISTS, DOCS, n_boot=9)),
        METHOD_NAMES,
    ),
    "plot_variance": (lambda d: variance.plot_variance(splits()), METHOD_NAMES),
    "plot_strata": (lambda d: testsets.plot_strata(DOCS, list(DOCS.ids[:9])), []),
}


def test_every_plot_is_here():
    found = set()
    for module in pkgutil.iter_modules(mlcllm.__path__):
        if module.name.startswith("_"):
            continue
        here = importlib.import_module(f"mlcllm.{module.name}")
        found |= {n for n, f in vars(here).items() if n.startswith("plot_") and inspect.isfunction(f)}
    assert found == set(PLOTS)


def texts_of(fig):  # what is drawn: its text as matplotlib writes it
    fig.draw_without_rendering()
    texts = [t for t in fig.findobj(Text) if t.get_text()]
    own = [
        t.get_text() for t in texts if not t.get_text().startswith(r"$\mathdefault{")
    ]  # else: matplotlib's own powers of ten
    assert not [text for text in own if cbook.is_math_text(text)]
    return [t.get_text().replace(r"\$", "$") for t in texts]


@pytest.mark.parametrize("name", PLOTS)
def test_names_are_drawn_as_they_are(name, tmp_path):
    call, names = PLOTS[name]
    call(tmp_path)
    drawn = [t for k in plt.get_fignums() for t in texts_of(plt.figure(k))]
    assert [n for n in names if n not in drawn] == [], drawn


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("$\\_^{}%"), max_size=20))
def test_a_text_is_drawn_as_it_is(text):
    for drawn in (plain_text(text), legend_text(text)):
        assert not cbook.is_math_text(drawn) and not drawn.startswith("_") or drawn == plain_text(text)
        assert drawn.replace(r"\$", "$").removeprefix(" " * (drawn != plain_text(text))) == text
    plain = Text(0, 0, plain_text(text))
    assert plain._preprocess_math(plain.get_text()) == (text, False)
