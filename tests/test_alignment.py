"Notebook 02 as a user runs it, and its parts against slower ways."

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from notebooks import papermill, refusal, run_short
from recomputed import assert_recomputed

from mlcllm.alignment import (
    METHODS,
    Estimator,
    _note_costs,
    choose_methods,
    dists_table,
    estimate,
    join_dists,
    parse_method,
    read_dists,
    unread_rule,
)
from mlcllm.calibration import load_calibration
from mlcllm.data import LabelDist, LabelSet, load_docs
from mlcllm.engines import load_engine
from mlcllm.estimators import bradley_terry, dist_from_pairs, one_against_rest, reference_dists
from mlcllm.metrics import compare, ece, nll, reliability, score
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import PromptConfig, ask_prompts, choose_scoring, make_verbalizer, trace_docs
from mlcllm.stored_runs import index_runs, main_rows, publish_runs

ROOT = Path(__file__).resolve().parent.parent
TEST, TRAIN = load_docs("demo", "test", n_docs=6), load_docs("demo", "train")


def only_run(tmp_path):
    runs = find_runs(tmp_path / "runs", "02_alignment")
    assert len(runs) == 1
    return read_run(runs[0])


def test_default_run_scores_every_method_and_reference(tmp_path):
    done = papermill("02_alignment", tmp_path, n_docs=20)
    assert done.returncode == 0, done.stderr[-2000:]
    run = only_run(tmp_path)
    blind = {"constant", "prior", "prior_scored", "uniform"}
    people = {"annotator", "resampled", "true_shares", "another_panel"}
    assert set(run["scores"].method) == {*METHODS, *(f"{m}+global" for m in METHODS), *blind, *people}
    assert set(run["dists"].method) == {*METHODS, *blind, "human", "gold"}
    scores = main_rows(run["scores"])
    table = scores[scores.label.isna()].pivot(index="method", columns="metric", values="value")
    assert table.loc["hard", "nll"] / table.loc["hard", "l1"] == pytest.approx(
        18.42, abs=0.01
    )  # as the published hard rows
    assert run["record"]["counters"]["tokens_forwarded"] < run["record"]["counters"]["tokens_in"] / 20
    docs = load_docs("demo", "test", n_docs=20)
    again = estimate(load_engine("tiny", gpu="cpu"), docs, TRAIN, ["unary"]).dists[0]
    stored = next(d for d in read_dists(run["dists"][run["dists"].method == "unary"], docs))
    np.testing.assert_allclose(stored.probs, again.probs, atol=1e-4)
    folder = find_runs(tmp_path / "runs", "02_alignment")[0]
    assert assert_recomputed(folder, docs, 1e-9) > 800  # every score, from what is stored
    (published,) = publish_runs(index_runs(tmp_path / "runs"), tmp_path / "published")
    assert_recomputed(published, docs, 2e-5)
    without_one = run["scores"][run["scores"].truth == "votes without one person"]
    assert set(without_one.method) == {*METHODS, *blind, "annotator"} and set(without_one.n_docs) <= set(
        range(15, 21)
    )
    printed = (tmp_path / "out.ipynb").read_text()
    n_unread = round(run["costs"].set_index("method").unread["hard"] * 20)
    assert (f"{n_unread} of 20 answers named no label" in printed) == (n_unread > 0)
    assert "the prior of other documents" in printed.lower()


def test_answers_without_a_label_are_told_of_where_there_are_any(capsys):
    session = SimpleNamespace(config=SimpleNamespace(mass=0.99), inputs=SimpleNamespace(docs=TEST))
    for unread in (0.0, 0.5):
        _note_costs(session, pd.DataFrame(dict(covered=np.nan, unread=[unread]), index=["hard"]))
        assert ("answers named no label" in capsys.readouterr().out) == (unread > 0)


def test_answers_without_a_label_are_counted():
    traces = [replace(t, found_step=k > 1) for k, t in enumerate(answers_of(TEST))]
    made = estimate(None, TEST, TRAIN, ["hard", "compare_to_none"], traces=traces)
    assert made.costs.unread.tolist() == [2, 2] and (made.dists[0].probs[:2] == 1e-8).all()
    assert "as if the answer were" in unread_rule(TEST.labels) and "never right" in unread_rule(
        LabelSet(("a", "b"), False, False)
    )


def answers_of(docs):
    engine, config = load_engine("tiny", gpu="cpu"), PromptConfig()
    verbalizer = make_verbalizer(engine, docs, config)
    return trace_docs(
        engine,
        verbalizer,
        ask_prompts(docs, TRAIN, config, engine.tokenizer),
        12,
        choose_scoring(verbalizer, "first_token")[0],
    )


def test_words_counted_beside_an_encoder_do_not_join(tmp_path):
    words = LabelDist(np.full(TEST.gold.shape, 0.3), TEST.labels, TEST.ids, "tfidf")
    dists_table([words, replace(words, method="demux")]).to_pandas().to_parquet(tmp_path / "of_04.parquet")
    dists_table([words]).to_pandas().to_parquet(tmp_path / "own.parquet")
    assert [d.method for d in join_dists([tmp_path / "of_04.parquet", tmp_path / "own.parquet"], TEST)] == [
        "demux",
        "tfidf",
    ]


def test_single_label_task(tmp_path, data_root):
    run_short(
        "02_alignment",
        tmp_path,
        dataset="HateXplain",
        data_dir=data_root / "hatexplain",
        n_docs=30,
        label_format="comma",
        calibrations="temperature",
        n_dev=40,
    )
    run = only_run(tmp_path)
    assert "max_over_generations" not in set(run["dists"].method)
    sums = (
        run["dists"][run["dists"].method.isin(["compare_to_none", "unary", "binary", "human"])]
        .groupby(["method", "doc_id"])
        .prob.sum()
    )
    np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize(
    "params, says",
    [
        (dict(methods="unary,binry"), "did you mean 'binary'?"),
        (dict(dev_split="test", n_docs=103), "take another dev_split"),
        (dict(calibrations="plat"), "did you mean 'platt'?"),
        (dict(calibrations="platt", n_dev=0), "leaves no document to fit"),
        (dict(traces="nowhere"), "no run in nowhere"),
        (dict(method="unary"), "did you mean 'methods'?"),
    ],
)
def test_bad_parameters_fail_with_one_clear_line(tmp_path, params, says):
    said = refusal("02_alignment", tmp_path, **dict(n_docs=3) | params)
    assert says in said and "\n" not in said


def test_answers_of_a_run_of_01_are_read_and_not_asked_for_again(tmp_path):
    run_short("01_stepwise_logits", tmp_path, n_docs=8, label_format="comma")
    traces = find_runs(tmp_path / "runs", "01_stepwise_logits")[0]
    run_short(
        "02_alignment", tmp_path, traces=traces, methods="hard,max_over_generations,compare_to_none", n_dev=0
    )
    run = only_run(tmp_path)
    assert (
        run["record"]["counters"].get("prompts", 0) == 0
        and run["record"]["parameters"]["label_format"] == "comma"
        and run["record"]["n_docs"] == 8
    )
    docs, costs = load_docs("demo", "test", n_docs=8), run["costs"].set_index("method")
    again = estimate(
        load_engine("tiny", gpu="cpu"),
        docs,
        TRAIN,
        ["hard", "max_over_generations", "compare_to_none"],
        PromptConfig(label_format="comma"),
    )
    for d in again.dists:
        np.testing.assert_allclose(
            d.probs,
            next(e for e in read_dists(run["dists"][run["dists"].method == d.method], docs)).probs,
            atol=1e-4,
        )
    assert costs.tokens_in["hard"] == pytest.approx(read_run(traces)["record"]["counters"]["tokens_in"] / 8)
    assert "leave label_format out, or traces" in refusal(
        "02_alignment", tmp_path, traces=traces, methods="hard", n_dev=0, label_format="polysyndeton"
    )
    assert "a finished run of 01_stepwise_logits is needed" in refusal(
        "02_alignment",
        tmp_path,
        traces=find_runs(tmp_path / "runs", "02_alignment")[0],
        methods="hard",
        n_dev=0,
    )


def test_joined_calibrated_averaged(tmp_path):
    docs = load_docs("demo", "test", n_docs=12)
    table = dists_table(
        [
            LabelDist(
                np.full(load_docs("demo", "test").gold.shape, 0.3),
                docs.labels,
                load_docs("demo", "test").ids,
                "probe",
            )
        ]
    ).to_pandas()
    table.to_parquet(tmp_path / "probe.parquet")
    run_short(
        "02_alignment",
        tmp_path,
        n_docs=12,
        n_dev=20,
        methods="unary,compare_to_none+order3",
        calibrations="platt,isotonic",
        thresholds="global,per_label",
        join=tmp_path / "probe.parquet",
        forced_first=True,
    )
    run = only_run(tmp_path)
    found = set(run["scores"].method)
    assert {
        "probe",
        "unary",
        "unary+platt",
        "unary+isotonic",
        "compare_to_none+order3+platt",
        "unary+global",
        "unary+per_label",
        "resampled",
        "annotator",
    } <= found
    assert (run["dists"][run["dists"].method == "probe"].prob == 0.3).all() and len(
        run["forced_first"]
    ) == 12 * 7 * 6
    fitted = load_calibration(Path(find_runs(tmp_path / "runs", "02_alignment")[0]) / "fitted.json")
    platt = next(f for f in fitted if getattr(f, "how", "") == "platt" and f.method == "unary")
    scored = {
        m: next(iter(read_dists(run["dists"][run["dists"].method == m], docs)))
        for m in ("unary", "unary+platt")
    }
    np.testing.assert_allclose(platt.transform(scored["unary"]).probs, scored["unary+platt"].probs, atol=1e-9)
    assert not set(platt.ids) & set(docs.ids) and len(platt.ids) == 20
    costs = run["costs"].set_index("method")
    assert costs.prompts["compare_to_none+order3"] == pytest.approx(3) and costs.prompts[
        "unary"
    ] == pytest.approx(8)


class Sided:
    "An engine that always prefers the first of two labels, whichever they are"

    def __init__(self):
        self.stats = dict(prompts=0, tokens_in=0, tokens_forwarded=0)
        self.tokenizer = load_engine("tiny", gpu="cpu").tokenizer

    def encode(self, texts):
        return self.tokenizer(texts).input_ids

    def score(self, prompts, ids):
        from mlcllm.engines import Scored

        a = set(self.tokenizer(" a", add_special_tokens=False).input_ids)
        return Scored(
            np.tile([2.0 * (i in a) for i in ids], (len(prompts), 1)).astype(np.float32),
            np.zeros(len(prompts), np.float32),
        )


def test_asked_in_both_orders_a_preference_for_a_side_cancels_out():
    one, both = estimate(Sided(), TEST, TRAIN, ["binary", "binary_both_orders"]).dists
    assert np.ptp(one.probs[0]) > 0.1 and np.abs(both.probs - 0.5).max() < 1e-6


def test_bradley_terry_recovers_strengths_and_takes_missing_pairs():
    s = np.random.default_rng(0).normal(size=(50, 8))
    s -= s.mean(1, keepdims=True)
    p = 1 / (1 + np.exp(s[:, None, :] - s[:, :, None]))
    np.testing.assert_allclose(bradley_terry(p, ridge=1e-9), s, atol=1e-5)
    half = np.where(np.tri(8, dtype=bool), np.nan, p)  # each pair in one order only
    np.testing.assert_allclose(bradley_terry(half), bradley_terry(p), atol=1e-8)


LABELS = LabelSet(("a", "b"))
CALLS = [
    (lambda: choose_methods("unray", LABELS), "did you mean 'unary'?"),
    (lambda: choose_methods("unary", LABELS, PromptConfig(chat=True)), "leave chat out"),
    (lambda: estimate(None, TEST, TRAIN, ["unary"], mass=2), "mass must be a number from 0 to 1"),
    (lambda: parse_method("unary+order"), "did you mean 'order5'?"),
    (lambda: join_dists([], TEST) or join_dists("x.csv", TEST), "x.csv: no table of estimates"),
    (lambda: Estimator(None, TRAIN, "unary+platt").predict_proba(["a"]), "by .calibrate(dev, 'platt')"),
    (lambda: bradley_terry(np.zeros((2, 3))), "expected (documents, labels, labels)"),
    (lambda: bradley_terry(np.full((1, 2, 2), 2.0)), "outside [0, 1]"),
    (lambda: bradley_terry(np.full((1, 2, 2), 0.5), ridge=0), "ridge must be above 0"),
    (
        lambda: dist_from_pairs(np.full((1, 3, 3), 0.5), LABELS, ("1",), "binary_outcomes"),
        "did you mean 'binary_outcome'?",
    ),
    (lambda: reference_dists(TEST, TEST), "take another dev_split"),
    (
        lambda: one_against_rest(
            replace(
                TEST, votes=TEST.votes[:0], vote_doc=TEST.vote_doc[:0], vote_annotator=TEST.vote_annotator[:0]
            )
        ),
        "no document has two annotators",
    ),
    (
        lambda: Estimator(None, TRAIN, "maximum").predict_proba(["a"]),
        "unknown method 'maximum'; did you mean",
    ),
    (lambda: Estimator(None, TRAIN).predict_proba("one text"), "takes a list of texts"),
    (
        lambda: read_dists(
            dists_table([LabelDist(TEST.gold[:3].astype(float), TEST.labels, TEST.ids[:3], "x")]).to_pandas(),
            TEST,
        ),
        "is only in the documents (3 in all)",
    ),
    (
        lambda: score([LabelDist(TEST.gold[:3].astype(float), TEST.labels, TEST.ids[:3], "x")], TEST),
        "where the documents have",
    ),
    (
        lambda: score([LabelDist(np.full(TEST.gold.shape, np.nan), TEST.labels, TEST.ids, "x")], TEST),
        "nan everywhere",
    ),
    (lambda: score([TEST.human()], TEST, n_boot=-1), "n_boot must be a whole number"),
    (lambda: compare([TEST.human()], TEST, "kl"), "at least two methods"),
    (lambda: compare([TEST.human(), replace(TEST.human(), method="y")], TEST, "klm"), "did you mean 'kl'?"),
    (lambda: reliability(np.ones((1, 3)), np.ones((1, 3)), bins="widht"), "did you mean 'width'?"),
    (lambda: ece(np.ones((1, 3)), np.ones((1, 3)), n_bins=0), "n_bins must be a whole number of at least 1"),
]


@pytest.mark.parametrize("call, says", CALLS, ids=[says[:40] for _, says in CALLS])
def test_bad_input_gives_one_clear_line(call, says):
    with pytest.raises((ValueError, OSError)) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value), error.value


def test_unknown_estimates_count_as_missing_and_not_as_zero():
    probs = TEST.human().probs.copy()
    probs[2, 0] = np.nan
    table = score([LabelDist(probs, TEST.labels, TEST.ids, "x")], TEST, n_boot=50)
    table = table[table.label.isna()].set_index("metric")
    assert table.loc["kl", "n_docs"] == table.loc["micro_f1", "n_docs"] == len(TEST) - 1 and table.loc[
        "kl", "value"
    ] == pytest.approx(0, abs=1e-5)
    assert np.isfinite(nll(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), True)).all() and nll(
        np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), True
    )[0] == pytest.approx(-2 * np.log(1e-8), rel=1e-6)
