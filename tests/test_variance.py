"""Variance components against statsmodels and known truths, intervals that hold as often as they say, power,
equivalence, bad input.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_variance import MATCHED, METHODS, SCORES, measure
from scipy import stats
from test_comparisons import make_dists, make_docs

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.estimate_tables import add_references, dists_table
from mlcllm.metrics import compare, score
from mlcllm.prompt_config import PromptConfig
from mlcllm.runs import start_run
from mlcllm.stored_runs import index_runs, usable
from mlcllm.variance import (
    COMBINED,
    FACTORS,
    RESIDUAL,
    _two_one_sided,
    difference_scores,
    document_scores,
    equivalence,
    gain_margin,
    interval_with_prompt,
    plot_variance,
    power_note,
    prompt_share,
    scores_of_runs,
    smallest_difference,
    split_by_method,
    split_variance,
    standard_error,
    variance_of_mean,
    with_prompt_intervals,
)

SD = dict(zip((*FACTORS.values(), COMBINED, RESIDUAL), (0.3, 0.06, 0.05, 0.04, 0.03, 0.1)))
SIZES = tuple(SD.values())
ALONG = ((0,), (1,), (2,), (3,), (1, 2, 3), (0, 1, 2, 3))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def simulate(rng, n_docs=50, n_seeds=5, n_orders=3, n_templates=3, sd=SIZES, mean=0.5):
    shape = (n_docs, n_seeds, n_orders, n_templates)
    value = np.full(shape, mean)
    for size, along in zip(sd, ALONG):
        value = value + size * rng.normal(size=[n if k in along else 1 for k, n in enumerate(shape)])
    cells = np.indices(shape).reshape(4, -1)
    return pd.DataFrame(dict(zip(FACTORS, cells)) | dict(value=value.ravel()))


def answers(n_docs=30, n_seeds=2, methods=("unary", "hard")):
    "Made-up estimates of two methods under several settings"
    docs = make_docs(n_docs=n_docs)
    found = {}
    for seed in range(n_seeds):
        for order in ("alphabetical", "reverse"):
            dists = make_dists(docs, methods, seed=10 * seed + (order == "reverse"))
            found[PromptConfig(seed=seed, label_order=order)] = dists
    return docs, found


def test_components_are_those_of_restricted_maximum_likelihood():
    table = simulate(np.random.default_rng(0), 10, 4, 3, 1, (0.3, 0.2, 0.2, 0, 0.15, 0.1)).assign(group=1)
    terms = ["doc_id", "seed", "label_order", "doc_id:seed", "doc_id:label_order", "seed:label_order"]
    rng = np.random.default_rng(1)
    for one, many in (("doc_id", "seed"), ("doc_id", "label_order")):  # so that no estimate is 0
        shift = pd.Series(rng.normal(0, 0.15, 400)).to_numpy()
        table["value"] += shift[table[one] * 10 + table[many]]
    formulas = {t: "0 + " + ":".join(f"C({f})" for f in t.split(":")) for t in terms}
    fit = smf.mixedlm("value ~ 1", table, groups="group", vc_formula=formulas).fit(reml=True)
    reml = dict(zip(fit.model.exog_vc.names, fit.vcomp))
    ours = split_variance(table).table.set_index("component").variance
    assert all(v > 1e-4 for v in reml.values())
    wanted = {FACTORS[t]: v for t, v in reml.items() if t in FACTORS}
    wanted |= {COMBINED: reml["seed:label_order"]}
    wanted |= {RESIDUAL: reml["doc_id:seed"] + reml["doc_id:label_order"] + fit.scale}
    assert ours.to_dict() == pytest.approx(wanted, rel=0.01, abs=1e-4)


def test_components_are_found_again_and_intervals_hold_them():
    rng, truth = np.random.default_rng(2), np.array(list(SD.values())) ** 2
    drawn = [split_variance(simulate(rng), n_draws=400).table for _ in range(200)]
    variances = np.array([t.variance for t in drawn])
    assert (np.abs(variances.mean(0) - truth) < 3.5 * variances.std(0) / 200**0.5).all()
    held = np.mean([(t.lo <= truth) & (truth <= t.hi) for t in drawn], 0)
    assert ((0.88 <= held) & (held <= 0.995)).all()


@pytest.mark.parametrize("fixed", [(), ("template",)])
def test_only_an_interval_with_the_prompt_holds_the_mean(fixed):
    rng, by_documents, by_prompts = np.random.default_rng(3), [], []
    sd = [0 if name in map(FACTORS.get, fixed) else s for name, s in SD.items()]
    for _ in range(250):
        pilot = split_variance(simulate(rng, sd=tuple(sd)), n_draws=1)
        new = simulate(rng, 50, 1, 1, 1, tuple(sd)).value
        lo, hi = stats.t.interval(0.95, 49, new.mean(), stats.sem(new))
        by_documents.append(lo < 0.5 < hi)
        lo, hi = interval_with_prompt(new.mean(), pilot, fixed=fixed)
        by_prompts.append(lo < 0.5 < hi)
    assert np.mean(by_documents) < 0.8
    assert 0.92 <= np.mean(by_prompts) <= 0.985


def test_the_interval_of_the_share_of_the_prompt_holds_it():
    rng, parts = np.random.default_rng(9), np.array(SIZES) ** 2 / (50, 1, 1, 1, 1, 50)
    truth, held = parts[1:5].sum() / parts.sum(), []
    for _ in range(150):
        share, lo, hi = prompt_share(split_variance(simulate(rng), n_draws=1), n_draws=400)
        held.append(lo <= truth <= hi)
        assert lo <= hi and 0 <= share <= 1
    assert np.mean(held) >= 0.88


def test_the_standard_error_is_that_of_repeated_studies():
    rng, shape = np.random.default_rng(4), (20, 3, 2, 2)
    means = [simulate(rng, *shape).value.mean() for _ in range(1500)]
    split = split_variance(simulate(rng, 400, 40, 8, 8), n_draws=1)
    assert standard_error(split, 20, n_seeds=3, n_orders=2, n_templates=2) == pytest.approx(
        np.std(means), rel=0.25
    )


@given(st.permutations(range(24)), st.floats(-5, 5), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_rows_order_and_level_do_not_matter_and_scale_does(order, shift, scale):
    table = simulate(np.random.default_rng(5), 6, 2, 2, 1)
    moved = table.iloc[order].assign(value=lambda t: scale * t.value + shift)
    before, after = (split_variance(t, n_draws=1).table.variance for t in (table, moved))
    np.testing.assert_allclose(after, before * scale**2, rtol=1e-6, atol=1e-9)


def test_variance_is_that_of_the_mean():
    "One factor of two levels each: the textbook's two-way table"
    table = pd.DataFrame(dict(doc_id=[0, 0, 1, 1], seed=[0, 1, 0, 1], value=[1.0, 3.0, 2.0, 6.0]))
    split = split_variance(table)
    assert variance_of_mean(split, 1).tolist() == pytest.approx([1.5, 4, 1])
    assert variance_of_mean(split, 10, n_seeds=2).tolist() == pytest.approx([0.15, 2, 0.05])
    assert variance_of_mean(split, 1, fixed=("seed",)).to_dict() == pytest.approx(
        {"documents": 1.5, RESIDUAL: 1}
    )


def test_equal_scores_have_no_variance():
    table = simulate(np.random.default_rng(0), 4, 2, 2, 1).assign(value=0.25)
    split = split_variance(table)
    assert (split.table.variance == 0).all() and (split.table.share == 0).all()
    assert interval_with_prompt(0.25, split) == (0.25, 0.25)
    plot_variance(dict(a=split))


def test_scores_of_documents_and_their_differences():
    docs, found = answers()
    table = document_scores(found, docs)
    whole = score(found[PromptConfig(seed=1)], docs, ["brier"], n_boot=0).set_index("method").value
    rows = table[(table.seed == 1) & (table.label_order == "alphabetical")]
    assert rows.groupby("method").value.mean().to_dict() == pytest.approx(whole.to_dict())
    apart = difference_scores(table, "unary", "hard")
    assert apart.value.mean() == pytest.approx(
        table[table.method == "unary"].value.mean() - table[table.method == "hard"].value.mean()
    )
    splits = split_by_method(table)
    assert splits["unary"].method == "unary" and splits["unary"].levels == dict(
        doc_id=30, seed=2, label_order=2
    )
    both = with_prompt_intervals(score(found[PromptConfig()], docs, ["brier", "kl"], n_boot=50), splits)
    assert both.metric.unique().tolist() == ["brier"] and (both.lo_prompt < both.hi_prompt).all()


def test_documents_that_some_setting_does_not_know_are_left_out():
    table = simulate(np.random.default_rng(6), 20, 3, 1, 1)
    holed = table.assign(value=table.value.where(table.index != 7))
    split = split_variance(holed)
    assert (split.n_left_out, split.n_docs) == (1, 19)
    kept = split_variance(table[table.doc_id != table.doc_id[7]])
    assert split.table.variance.tolist() == pytest.approx(kept.table.variance.tolist())


def store(folder, docs, dists, **parameters):
    run = start_run("02_alignment", parameters, docs, docs.labels.with_none, {}, folder)
    run.save_table("dists", dists_table(add_references(dists, docs)))
    run.done()


def test_stored_runs(tmp_path):
    docs, found = answers()
    asked = dict(dataset="demo", model="tiny", shots=10)
    for config, dists in found.items():
        store(tmp_path, docs, dists, **asked, seed=config.seed, label_order=config.label_order)
    table = scores_of_runs(usable(index_runs(tmp_path), "02_alignment"))
    keys = ["method", "doc_id", "seed", "label_order"]
    there, here = (t.set_index(keys).value.sort_index() for t in (table, document_scores(found, docs)))
    pd.testing.assert_series_equal(there, here)
    store(tmp_path, docs, found[PromptConfig()], **asked | dict(shots=3), seed=2)
    with pytest.raises(ValueError, match="its shots is 3, that of the first run 10: give runs that"):
        scores_of_runs(usable(index_runs(tmp_path), "02_alignment"))


def test_the_script_stores_no_texts_and_no_ids():
    docs, demos = load_docs("demo", "test", n_docs=6), load_docs("demo", "train")
    table = measure(load_engine("tiny"), docs, demos, n_seeds=2, say=lambda line: None)
    methods = {*METHODS, *(f"{m}+prior_matching" for m in MATCHED), "prior"}
    assert set(table.method) == methods and len(table) == len(methods) * len(SCORES) * 6 * 8
    assert set(table.doc_id) == set(range(6)) and not {"text", "id"} & set(table)
    assert not table.astype(str).isin(docs.ids).any(axis=None)


def test_the_smallest_difference_is_seen_as_often_as_it_says():
    rng = np.random.default_rng(7)
    for n, power in ((12, 0.8), (100, 0.5), (300, 0.9)):
        size = smallest_difference(n, 0.3, power)
        samples = size + 0.3 * rng.normal(size=(3000, n))
        assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(power, abs=0.03)
    split = split_variance(simulate(rng, 200, 30, 1, 1), n_draws=1)
    size, error = smallest_difference(40, split, n_seeds=5), standard_error(split, 40, n_seeds=5)
    assert size == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error, rel=1e-3)


def test_the_line_below_a_table_of_pairs():
    docs = make_docs(n_docs=80)
    pairs = compare(make_dists(docs, ("a", "b", "c")), docs, "brier")
    assert power_note(pairs).startswith("With 80 documents a difference of ")
    assert " Brier (by pair) can be seen in 4 of 5 cases" in power_note(pairs)
    assert "9 of 10 cases" in power_note(pairs, power=0.9)
    assert power_note(pairs[:0]) == ""
    assert power_note(pairs.assign(lo=0, hi=0)).startswith("All pairs have the same score")


@pytest.mark.parametrize("true, most", [(0.06, 0.07), (-0.06, 0.07), (0.1, 0.01)])
def test_equivalence_is_rarely_claimed_where_it_is_not(true, most):
    claimed = [v == "equivalent" for v in verdicts(true, 0.06)]
    assert np.mean(claimed) <= most


def test_equivalence_is_found_as_often_as_theory_says():
    n, sd = 60, 0.2  # as `verdicts` draws them
    for margin in (0.06, 0.1):
        theory = 2 * stats.norm.cdf(margin * n**0.5 / sd - stats.norm.ppf(0.95)) - 1
        assert np.mean([v == "equivalent" for v in verdicts(0, margin)]) == pytest.approx(theory, abs=0.08)
    assert np.mean([v == "different" for v in verdicts(0.1, 0.05)]) > 0.9
    assert np.mean([v == "undecided" for v in verdicts(0.0, 0.01)]) > 0.9


def verdicts(true, margin, n=60, sd=0.2, n_samples=400):
    rng, found = np.random.default_rng(8), []
    for _ in range(n_samples):
        one = _two_one_sided(true + sd * rng.normal(size=n), np.zeros(n), margin, 0.05)
        equal, apart = one["p"] < 0.05, one["p_different"] < 0.05
        found.append("equivalent" if equal else "different" if apart else "undecided")
    return found


def test_equivalence_of_methods():
    docs = make_docs(n_docs=80)
    one, two = make_dists(docs, ("a", "b"))
    same = replace(one, method="same")
    table = equivalence([one, same, two], docs, "brier", margin=0.02)
    assert table.verdict[0] == "equivalent" and table.difference[0] == 0
    pairs = compare([one, same, two], docs, "brier", n_boot=0)
    assert table.difference.tolist() == pytest.approx(pairs.difference.tolist())
    assert (table.p_adjusted >= table.p).all()
    wide = equivalence([one, same, two], docs, "brier", margin=10)
    assert set(wide.verdict) == {"equivalent"}


def test_a_margin_is_a_tenth_of_the_gain():
    rows = [("prior", 0.5), ("uniform", 0.9), ("unary", 0.3), ("hard", 0.7)]
    scores = pd.DataFrame(rows, columns=["method", "value"])
    scores = scores.assign(metric="brier", label=None, lo=0, hi=1, n_docs=9, against="votes")
    assert gain_margin(scores) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="no method is ahead of prior"):
        gain_margin(scores[scores.method != "unary"])


BAD = {
    "no table": (lambda t: split_variance([1]), "a table with the columns doc_id and value is needed"),
    "no values": (lambda t: split_variance(t.drop(columns="value")), "the columns doc_id and value"),
    "one setting": (lambda t: split_variance(t[t.seed == 0]), "all scores are of one setting"),
    "one document": (lambda t: split_variance(t[t.doc_id == 0]), "1 documents have a score under every"),
    "twice": (
        lambda t: split_variance(pd.concat([t, t[:1]])),
        "doc_id 0, seed 0.* stands in the table twice",
    ),
    "infinite": (lambda t: split_variance(t.assign(value=np.inf)), "a score is infinite"),
    "methods": (lambda t: split_variance(t.assign(method=t.seed)), "several values of method"),
    "texts": (lambda t: split_variance(t.assign(value="a")), "value must hold numbers"),
    "draws": (lambda t: split_variance(t, n_draws=0), "n_draws must be a whole number"),
    "level": (lambda t: split_variance(t, level=95), "level must be a number"),
    "orders": (lambda t: standard_error(split_variance(t), n_orders=2), "label_order had one value only"),
    "documents": (lambda t: standard_error(split_variance(t), 0), "n_docs must be a whole number"),
    "fixed": (lambda t: standard_error(split_variance(t), fixed=("seeds",)), "did you mean 'seed'"),
    "a text as fixed": (lambda t: standard_error(split_variance(t), fixed="seed"), "fixed must be a tuple"),
    "no methods": (lambda t: split_by_method(t), "no column method"),
    "power": (lambda t: smallest_difference(30, 0.1, power=80), "power must be a number"),
    "sd": (lambda t: smallest_difference(30, -1), "sd must be a number of at least 0"),
    "no splits": (lambda t: plot_variance({}), "no splits to draw"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(what):
    call, message = BAD[what]
    with pytest.raises(ValueError, match=message) as error:
        call(simulate(np.random.default_rng(0), 5, 2, 1, 1))
    assert "\n" not in str(error.value)


def test_settings_are_crossed_and_named_by_configs():
    docs, found = answers()
    with pytest.raises(ValueError, match="only 3 of 4 combinations of seed, label_order are there"):
        split_by_method(document_scores(dict(list(found.items())[:3]), docs))
    with pytest.raises(ValueError, match="settings are named by a PromptConfig each, got 0"):
        document_scores({0: found[PromptConfig()]}, docs)
    with pytest.raises(ValueError, match="macro_f1 is no mean over documents"):
        document_scores(found, docs, "macro_f1")
    with pytest.raises(ValueError, match="unknown metric 'breir'; did you mean 'brier'"):
        document_scores(found, docs, "breir")
