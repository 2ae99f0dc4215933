"""Wrong arguments of the chapters on sampled answers, ensembles, sets, stacking, people, variance and
disagreement: one line that says what is wrong, and what would be right.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlcllm.conformal import coverage_table, fit_conformal, plot_coverage, split_coverage
from mlcllm.content_free import content_free_config, content_free_docs, fit_content_free
from mlcllm.data import LabelDist, LabelSet, load_docs
from mlcllm.disagreement import (
    counted_docs,
    disagreement,
    label_entropy,
    plot_disagreement,
    weighted_spearman,
)
from mlcllm.engines import load_engine
from mlcllm.ensembles import Ensemble, average_probs, demo_seeds, ensemble_members, label_orders
from mlcllm.people import (
    beta_binomial,
    check_estimates,
    dawid_skene,
    people_ceiling,
    plot_annotators,
    plot_ceiling,
    plot_vote_shares,
    unbiased_brier,
    vote_variance,
)
from mlcllm.prompt_config import PromptConfig, make_verbalizer
from mlcllm.sampled_answers import SampledAnswers, sample_answers
from mlcllm.stacking import (
    cross_stack,
    curve_table,
    fit_stacking,
    learning_curve,
    plot_learning_curve,
    with_best_reading,
)
from mlcllm.variance import (
    difference_scores,
    gain_margin,
    interval_with_prompt,
    mean_squares,
    plot_variance,
    power_note,
    prompt_share,
    scores_of_runs,
    split_variance,
    standard_error,
    variance_of_mean,
    with_prompt_intervals,
)

RNG = np.random.default_rng(0)
DOCS, TRAIN = load_docs("demo", "test", n_docs=60), load_docs("demo", "train")
FIT, REST, EMPTY, ONE = DOCS.take(range(30)), DOCS.take(range(30, 60)), DOCS.take([]), DOCS.take([0])
DIST = LabelDist(RNG.random(DOCS.gold.shape), DOCS.labels, DOCS.ids, "m")
OTHER = replace(DIST, probs=RNG.random(DIST.shape), method="k")
NAN = replace(DIST, probs=np.full(DIST.shape, np.nan))
ELSEWHERE = replace(DIST, ids=tuple(f"q{k}" for k in range(60)))
TURNED = replace(DIST, labels=LabelSet(DIST.labels.names[::-1]))
HALF, HELD = DIST.take(range(30)), DIST.take(range(30, 60))
SETS, SHARES, ANSWERS = (
    fit_conformal(HALF, FIT, 0.8),
    beta_binomial(DOCS),
    SampledAnswers(DIST, np.full(60, 20), ()),
)
STACKING = fit_stacking([HALF, OTHER.take(range(30))], FIT)
CELLS = [(f"d{k}", s, x, "m", "brier") for s in range(3) for k, x in enumerate(RNG.random(20))]
TABLE = pd.DataFrame(CELLS, columns=["doc_id", "seed", "value", "method", "metric"])
SPLIT, ODD = split_variance(TABLE), pd.DataFrame({"a": [1]})
ENGINE = load_engine("tiny", gpu="cpu")
VERBALIZER = make_verbalizer(ENGINE, DOCS, PromptConfig())
PROMPTS = [ENGINE.encode("Input: I miss you"), ENGINE.encode("Input: joy")]


def draw(prompts=PROMPTS, ids=("a", "b"), engine=ENGINE, **options):
    return sample_answers(engine, VERBALIZER, prompts, ids, 2, **options)


def curve(dists=(DIST,), **options):
    return learning_curve(list(dists), DOCS, **dict(sizes=(25,), n_draws=1) | options)


def unknown_half(dist, first):
    known = (np.arange(60) < 30) == first
    return replace(dist, probs=np.where(known[:, None], dist.probs, np.nan))


PEOPLE = [
    (lambda: people_ceiling(ONE), "1 document has two votes or more"),
    (lambda: people_ceiling(EMPTY), "has no votes"),
    (lambda: people_ceiling(DOCS, "m"), "must be a LabelDist or a list of them, got 'm'"),
    (lambda: people_ceiling(DOCS, [NAN]), "no document has an estimate for all its labels"),
    (lambda: people_ceiling(DOCS, [DIST, DIST]), "two estimates are called 'm'"),
    (lambda: people_ceiling(DOCS, [replace(DIST, method="prior")]), "'prior' is the name of a row"),
    (lambda: people_ceiling(DOCS, seed=-1), "seed must be a whole number of at least 0, got -1"),
    (lambda: SHARES.interval(DIST), "docs must be an AnnotatedDocs, as from load_docs"),
    (lambda: SHARES.posterior("demo"), "docs must be an AnnotatedDocs, as from load_docs, got 'demo'"),
    (lambda: plot_vote_shares(DOCS, "joy", 3), "fit must be a BetaBinomial, as from beta_binomial"),
    (lambda: plot_annotators(SHARES), "model must be an AnnotatorModel, as from dawid_skene"),
    (lambda: dawid_skene(DIST), "documents with votes are needed"),
    (lambda: vote_variance(DIST), "docs must be an AnnotatedDocs"),
    (lambda: unbiased_brier([], DOCS), "at least one LabelDist"),
    (lambda: unbiased_brier(NAN, DOCS), "no document has an estimate for all its labels"),
    (lambda: unbiased_brier([DIST, DIST], DOCS), "two estimates are called 'm'"),
    (lambda: unbiased_brier(TURNED, DOCS), "are not those of demo test, in order"),
    (lambda: plot_ceiling("table"), "a table is needed, as from people_ceiling"),
    (lambda: plot_ceiling(ODD), "no column 'method': give one as from people_ceiling"),
]
SETS_WITH_A_GUARANTEE = [
    (lambda: coverage_table("marginal", HELD, REST), "sets of fit_conformal.*from 1 to 7, got 'marginal'"),
    (lambda: coverage_table([99], HELD, REST), "from 1 to 7, got 99"),
    (lambda: coverage_table([True], HELD, REST), "got True"),
    (lambda: coverage_table([], HELD, REST), "no way to choose labels is given"),
    (lambda: coverage_table([SETS, SETS], HELD, REST), "two ways are 'marginal 0.8'"),
    (lambda: coverage_table([SETS], REST, HELD), "estimates must be a LabelDist, as from predict_proba"),
    (lambda: split_coverage(DIST, DOCS, fit_share=1.5), "fit_share must be a number from 0 to 1, got 1.5"),
    (lambda: split_coverage(DIST, DOCS, fit_share=1), "fits to 60 of 60 documents"),
    (lambda: split_coverage(DIST, DOCS, fit_share=0), "fits to 0 of 60 documents"),
    (lambda: split_coverage(DIST, DOCS, fit_share=0.999), "fits to 60 of 60 documents"),
    (lambda: split_coverage("m", DOCS), "estimates must be a LabelDist"),
    (lambda: split_coverage(DIST, DIST), "docs must be an AnnotatedDocs"),
    (lambda: split_coverage(DIST, DOCS, 95), "coverage must be a number between 0 and 1"),
    (lambda: fit_conformal(DIST, "demo"), "docs must be an AnnotatedDocs, as from load_docs, got 'demo'"),
    (lambda: SETS.predict([HELD]), "estimates must be a LabelDist"),
    (lambda: SETS.predict(HELD.probs), "estimates must be a LabelDist"),
    (lambda: plot_coverage("table"), "a table is needed, as from coverage_table"),
    (lambda: plot_coverage(ODD), "no column 'way'"),
    (lambda: plot_coverage(coverage_table([SETS], HELD, REST, 0), 90), "coverage must be a number between 0"),
]
STACKED = [
    (lambda: fit_stacking([DIST], DOCS, strengths=()), "strengths must be a tuple of numbers above 0"),
    (lambda: fit_stacking([DIST], DOCS, strengths=1.0), "strengths must be a tuple of numbers above 0"),
    (lambda: fit_stacking([DIST], DOCS, strengths=(-1,)), "a strength must be a number"),
    (lambda: fit_stacking([DIST], DIST), "docs must be an AnnotatedDocs"),
    (
        lambda: fit_stacking([unknown_half(DIST, True), unknown_half(OTHER, False)], DOCS),
        r"0 documents have an estimate of every reading \(m, k\)",
    ),
    (lambda: STACKING.transform("m"), "a list of LabelDist, got str"),
    (lambda: STACKING.transform(HELD), "k is missing among m"),
    (lambda: cross_stack([DIST, OTHER], DOCS, n_folds=1), "n_folds must be a whole number of at least 2"),
    (lambda: cross_stack([DIST, OTHER], DOCS, seed=-1), "seed must be a whole number"),
    (lambda: cross_stack([DIST.take([0])], ONE), "at least 10 are needed, got 1"),
    (lambda: curve(sizes=25), r"sizes must be a tuple such as \(25, 50\), got 25"),
    (lambda: curve(sizes=()), "sizes must be a tuple"),
    (lambda: curve(metrics="brier"), "metrics must be a tuple such as .*, got 'brier'"),
    (lambda: curve(calibrations="platt"), "calibrations must be a tuple such as .*, got 'platt'"),
    (lambda: curve(calibrations=("plat",)), "did you mean 'platt'"),
    (lambda: curve(features=DOCS.texts), "features must be a dict name -> texts or embeddings"),
    (lambda: curve(features=dict(t="texts")), "features 't': 1 rows, and there are 60 documents"),
    (lambda: curve(features=dict(t=np.zeros(60))), r"of shape \(n_docs, width\), are needed"),
    (lambda: curve(features=dict(t=np.full((60, 2), np.nan))), "finite numbers"),
    (lambda: curve_table("scores"), "a table is needed, as from learning_curve"),
    (lambda: curve_table(ODD), "no column 'metric': give one as from learning_curve"),
    (lambda: with_best_reading(ODD), "no column 'metric': give one as from curve_table"),
    (lambda: plot_learning_curve(ODD), "no column 'metric'"),
]
VARIANCE = [
    (lambda: scores_of_runs("outputs"), "a table is needed, as from index_runs, got 'outputs'"),
    (lambda: scores_of_runs(ODD), "no column 'folder'"),
    (lambda: variance_of_mean(TABLE), "split must be a VarianceSplit, as from split_variance"),
    (lambda: standard_error(TABLE), "split must be a VarianceSplit"),
    (lambda: prompt_share(SPLIT, n_draws=0), "n_draws must be a whole number of at least 1"),
    (lambda: prompt_share(SPLIT, seed=-1), "seed must be a whole number"),
    (lambda: split_variance(TABLE, 95), "level must be a number from 0.01 to 0.999, got 95"),
    (lambda: interval_with_prompt("x", SPLIT), "value must be a mean score, a number, got 'x'"),
    (lambda: with_prompt_intervals(TABLE, SPLIT), "splits must be a dict, as from split_by_method"),
    (lambda: difference_scores(TABLE, "m", "m"), "the difference of m and itself is 0"),
    (lambda: difference_scores("table", "m", "k"), "a table is needed, as from document_scores"),
    (lambda: power_note("pairs"), "a table is needed, as from compare"),
    (lambda: power_note(ODD), "no column 'metric': give one as from compare"),
    (lambda: gain_margin(ODD, share=10), "share must be a number from 0 to 1, got 10"),
    (lambda: plot_variance(SPLIT), "splits must be a dict"),
    (lambda: plot_variance({"m": TABLE}), "split must be a VarianceSplit"),
    (lambda: mean_squares(np.zeros((3, 1)), ("doc_id", "seed")), "an axis of at least 2 for each factor"),
    (lambda: mean_squares(np.zeros((3, 2)), ("doc_id",)), "an axis of at least 2 for each factor"),
]
DISAGREEMENT = [
    (lambda: disagreement(DIST.take([0]), ONE), "1 of 1 documents have two votes or more"),
    (lambda: disagreement(DIST.take([]), EMPTY), "0 of 0 documents have two votes"),
    (lambda: disagreement("m", DOCS), "got 'm'"),
    (lambda: disagreement(DIST, DIST), "docs must be an AnnotatedDocs"),
    (lambda: disagreement([DIST, DIST], DOCS), "two estimates are called 'm'"),
    (lambda: disagreement(ELSEWHERE, DOCS), "are not those of demo test, in order"),
    (
        lambda: disagreement(replace(DIST, method="true_shares"), DOCS),
        "'true_shares' is the name of a ceiling",
    ),
    (lambda: label_entropy([0.2, 1.5]), "probabilities must lie from 0 to 1, got 1.5"),
    (lambda: weighted_spearman(np.arange(3), np.arange(4), np.ones((1, 3))), r"got shapes \(3,\), \(4,\)"),
    (lambda: weighted_spearman(np.arange(3), np.arange(3), np.ones(3)), "weights .* are needed"),
    (lambda: weighted_spearman([1, np.nan], [1, 2], np.ones((1, 2))), "a value is nan"),
    (lambda: plot_disagreement("table"), "a table is needed, as from disagreement"),
    (lambda: plot_disagreement(disagreement([], DOCS, n_boot=0)), "no method to draw, only ceilings"),
    (lambda: plot_disagreement(disagreement(DIST, DOCS, n_boot=0), "pooled"), "levels must be a tuple"),
    (lambda: plot_disagreement(disagreement(DIST, DOCS, n_boot=0), ()), "levels must be a tuple"),
    (lambda: counted_docs(DOCS, dict.fromkeys(DOCS.ids, 3)), "n_annotators must be a Series"),
    (lambda: counted_docs(DOCS, pd.Series(-3, index=list(DOCS.ids))), "must be a whole number, got -3"),
    (lambda: counted_docs(DOCS, pd.Series(2.5, index=list(DOCS.ids))), "must be a whole number, got 2.5"),
]
WITHOUT_LABELS = [
    (lambda: content_free_docs(None, "pmi"), "docs must be an AnnotatedDocs"),
    (lambda: content_free_config(None, "pmi"), "config must be a PromptConfig"),
    (lambda: fit_content_free("m", "pmi", True), "estimates must be a LabelDist"),
    (lambda: fit_content_free(DIST.take([]), "pmi", True), "no estimate for a text without content"),
    (
        lambda: fit_content_free(replace(DIST, probs=DIST.probs.round()), "pmi", True),
        "counts what was written",
    ),
    (lambda: Ensemble("templates", 5), "members of templates must be a whole number from 1 to 2, got 5"),
    (lambda: label_orders(DOCS.labels, 0), "n must be a whole number of at least 1, got 0"),
    (lambda: label_orders(DOCS, 2), "labels must be a LabelSet, as from docs.labels"),
    (lambda: label_orders(DOCS.labels, 2, -1), "seed must be a whole number"),
    (lambda: demo_seeds(-3), "n must be a whole number of at least 1, got -3"),
    (lambda: demo_seeds("3"), "n must be a whole number of at least 1, got '3'"),
    (lambda: ensemble_members("order", DOCS, TRAIN, PromptConfig()), "ensemble must be an Ensemble"),
    (lambda: average_probs([]), "a list of LabelDist is needed"),
    (lambda: average_probs(DIST), "a list of LabelDist is needed"),
    (lambda: average_probs(["m"]), "an estimate must be a LabelDist"),
    (lambda: average_probs([DIST, HALF]), "the same documents and labels, in one order"),
    (lambda: average_probs([DIST, ELSEWHERE]), "the same documents and labels, in one order"),
    (lambda: average_probs([DIST, TURNED]), "the same documents and labels, in one order"),
    (lambda: ANSWERS.interval(1), "level must be a number from 0.01 to 0.999, got 1"),
    (lambda: ANSWERS.interval("0.95"), "level must be a number"),
    (lambda: draw(ids=("a",)), "2 prompts for 1 documents"),
    (lambda: draw(prompts=["Input: joy", "Input: I"]), "a prompt is a list of token ids"),
    (lambda: draw(seed=-1), "seed must be a whole number"),
    (lambda: draw(engine=object()), "an engine that can draw, and object cannot"),
]
CASES = PEOPLE + SETS_WITH_A_GUARANTEE + STACKED + VARIANCE + DISAGREEMENT + WITHOUT_LABELS


@pytest.mark.parametrize(
    "call, words", CASES, ids=[f"{k}-{words[:30]}" for k, (_, words) in enumerate(CASES)]
)
def test_a_wrong_argument_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_one_estimate_or_a_list_of_them_is_taken():
    assert check_estimates(DIST, DOCS) == check_estimates([DIST], DOCS) == [DIST]
    table = people_ceiling(DOCS, DIST, n_boot=0)
    assert set(table.method) >= {"m", "prior", "others"}


def test_a_setting_without_a_seed_is_a_value_of_its_own():
    unnamed = split_variance(TABLE.assign(seed=TABLE.seed.where(TABLE.seed > 0)))
    assert unnamed.levels == SPLIT.levels
    np.testing.assert_allclose(np.sort(unnamed.table.variance), np.sort(SPLIT.table.variance))


def test_rows_are_taken_in_the_order_that_is_given():
    part = DIST.take([4, 0])
    assert part.ids == (DOCS.ids[4], DOCS.ids[0]) and (part.probs == DIST.probs[[4, 0]]).all()
    assert (part.method, part.labels, DIST.take([]).shape) == ("m", DIST.labels, (0, 7))
