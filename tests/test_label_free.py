"""Estimates that need no label: sampled answers, content-free texts, ensembles, a number asked for"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_server import FakeServer
from scipy.special import expit, logit

from mlcllm import estimate_tables
from mlcllm.alignment import run_alignment
from mlcllm.content_free import CONTENT_FREE, content_free_config, content_free_docs
from mlcllm.data import load_docs
from mlcllm.engines import Engine, load_engine
from mlcllm.ensembles import demo_seeds
from mlcllm.estimator import Estimator
from mlcllm.methods import (
    ESTIMATORS,
    choose_methods,
    estimate,
    parse_method,
    register_estimator,
    served_methods,
    step_estimator,
)
from mlcllm.openai_engine import load_openai
from mlcllm.prompt_config import PromptConfig
from mlcllm.runs import read_record

CONFIG = PromptConfig(shots=4)


@pytest.fixture(scope="module")
def engine():
    return load_engine("tiny", gpu="cpu")


@pytest.fixture(scope="module")
def docs():
    return load_docs("demo", "test", n_docs=6)


@pytest.fixture(scope="module")
def demos():
    return load_docs("demo", "train")


def test_draws_depend_on_the_document_alone(engine, docs, demos):
    whole = estimate(engine, docs, demos, "sampled+draws5", CONFIG).dists[0]
    parts = [estimate(engine, docs.take(r), demos, "sampled+draws5", CONFIG).dists[0] for r in ([0, 1], [2])]
    np.testing.assert_array_equal(np.concatenate([p.probs for p in parts]), whole.probs[:3])
    other = estimate(engine, docs, demos, "sampled+draws5", replace(CONFIG, seed=1)).dists[0]
    assert (other.probs != whole.probs).any()


def test_draws_are_the_same_one_at_a_time(engine, docs):
    prompts = [engine.encode(t) for t in docs.texts]
    shared = engine.sample(prompts, 4, 6)
    alone = load_engine("tiny", gpu="cpu", share_prefixes=False).sample(prompts, 4, 6)
    same = [a.token_ids == b.token_ids for x, y in zip(shared, alone) for a, b in zip(x, y)]
    assert np.mean(same) > 0.95  # a token may differ where its number falls on the border of two
    for x, y in zip(shared, alone):
        for a, b in zip(x, y):
            if a.token_ids == b.token_ids:
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_more_draws_come_nearer(engine, docs, demos):
    names = "sampled+draws400,sampled+draws10,set_marginals"
    many, few, exact = estimate(
        engine, docs, demos, names, replace(CONFIG, decoding="constrained"), 0.999
    ).dists
    off = [np.abs(d.probs - exact.probs).mean() for d in (many, few)]
    assert off[0] < 0.02 < off[1]


def test_an_engine_that_cannot_draw_is_refused_before_it_is_asked(docs):
    class Reads(Engine):
        def __init__(self):
            pass

    chosen = choose_methods("hard,sampled", docs.labels)
    with pytest.raises(ValueError, match="sampled draws answers, and Reads cannot"):
        served_methods(chosen, Reads(), True)
    assert served_methods(chosen, None, True) == chosen
    with pytest.raises(NotImplementedError, match="does not draw"):
        Reads().sample([[1]], 2, 3)


@pytest.mark.parametrize("how", CONTENT_FREE)
def test_a_run_takes_away_what_the_model_says_of_nothing(engine, docs, demos, how, tmp_path):
    methods = f"first_step,unary,first_step+{how},unary+{how}"
    run = run_alignment(
        n_docs=6, n_dev=0, thresholds=None, methods=methods, shots=4, output_dir=str(tmp_path), gpu="cpu"
    )
    by_name = {d.method: d for d in run.dists}
    nothing = content_free_docs(docs, how)
    asked = estimate(engine, nothing, demos, "first_step,unary", content_free_config(CONFIG, how)).dists
    for name, of_nothing in zip(("first_step", "unary"), asked):
        mean = logit(of_nothing.probs.clip(1e-8, 1 - 1e-8)).mean(0)
        level = logit(expit(mean).mean())
        slow = expit(logit(by_name[name].probs.clip(1e-8, 1 - 1e-8)) - mean + level)
        np.testing.assert_allclose(by_name[f"{name}+{how}"].probs, slow, atol=1e-5)
    assert how in run.record["timings"]


def test_a_member_that_cannot_be_read_is_counted_in_shares(engine, docs, demos):
    made = estimate(engine, docs, demos, "hard+demos3", replace(CONFIG, max_new_tokens=3))
    assert made.costs.prompts[0] >= 18
    members = [
        estimate(engine, docs, demos, "hard", replace(CONFIG, max_new_tokens=3, seed=s)).costs.unread[0]
        for s in demo_seeds(3, 0)
    ]
    assert made.costs.unread[0] == pytest.approx(np.mean(members))


@pytest.mark.parametrize(
    "name, why",
    [
        ("sampled+draws0", "number of draws"),
        ("first_step+demos0", "number of members"),
        ("first_step+order2+order3", "second suffix of its kind"),
        ("first_step+pmi+order2", "last suffix"),
        ("first_step+logmean", "how an ensemble"),
        ("hard+draws5", "variant of sampled only"),
        ("first_step+contextal", "did you mean 'contextual'"),
    ],
)
def test_a_wrong_suffix_is_one_line(name, why):
    with pytest.raises(ValueError, match=why) as error:
        parse_method(name)
    assert "\n" not in str(error.value)


def test_a_calibration_is_added_without_asking_again(tmp_path):
    told = dict(n_docs=8, n_dev=6, shots=4, thresholds=None, output_dir=str(tmp_path), gpu="cpu")
    first = run_alignment(methods="first_step,hard", **told)
    second = run_alignment(methods="first_step", calibrations="batch,prior_matching", **told)
    assert second.engine.stats["prompts"] < first.engine.stats["prompts"] / 4
    assert first.folder.name in second.record["warnings"][0]
    assert second.record["timings"]["estimates"] == first.record["timings"]["estimates"]
    np.testing.assert_array_equal(second.dists[0].probs, first.dists[0].probs)
    other = run_alignment(methods="first_step", calibrations="batch", **told | dict(seed=1))
    assert not any("asked the same" in w for w in other.record["warnings"])
    more = run_alignment(methods="first_step,unary", **told)
    assert not any("asked the same" in w for w in more.record["warnings"])


def test_the_newest_finished_run_is_taken_over_and_no_more_are_read(tmp_path, monkeypatch):
    told = dict(n_docs=2, n_dev=0, shots=2, thresholds=None, output_dir=str(tmp_path), gpu="cpu")
    folder = run_alignment(methods="first_step,hard", **told).folder
    for age, (name, status) in enumerate((("failed", "failed"), ("newest", "done"), ("a", "done")), 1):
        copy = Path(shutil.copytree(folder, folder.parent / name))
        record = json.loads((copy / "run.json").read_text()) | dict(status=status)
        (copy / "run.json").write_text(json.dumps(record))
        os.utime(copy / "run.json", (2e9 - age, 2e9 - age))
    (folder.parent / "empty").mkdir()
    seen = []
    monkeypatch.setattr(estimate_tables, "read_record", lambda f: seen.append(f.name) or read_record(f))
    started = SimpleNamespace(folder=folder, record=read_record(folder))
    assert estimate_tables.earlier_run(started, ["hard"]).name == "newest" and seen == ["failed", "newest"]
    assert estimate_tables.earlier_run(started, ["unary"]) is None


def test_an_estimator_of_ones_own_that_counts_answers_takes_no_content_free_calibration(docs):
    spec = replace(step_estimator("hard"), name="counted", counts_answers=True)
    register_estimator(spec)
    try:
        with pytest.raises(ValueError, match="counted counts what was written: \\+pmi is for estimates"):
            choose_methods("counted+pmi", docs.labels)
    finally:
        del ESTIMATORS["counted"]
    assert {s.name for s in ESTIMATORS.values() if s.counts_answers} == {"hard", "sampled"}


def test_an_estimator_that_counts_answers_is_not_calibrated_by_texts_without_content(engine, demos):
    with pytest.raises(ValueError, match="hard counts what was written"):
        Estimator(engine, demos, "hard", config=CONFIG).calibrate(how="contextual")


def test_prior_matching_gives_the_frequencies_of_all_of_dev(tmp_path):
    run = run_alignment(
        n_docs=8, n_dev=6, shots=4, methods="first_step", calibrations="prior_matching", thresholds=None,
        output_dir=str(tmp_path), gpu="cpu",
    )  # fmt: skip
    on_dev, on_test = run.dev_dists[0].probs, run.dists[0].probs
    offsets = np.array(run.fitted[0].values["b"])
    means = expit(logit(np.concatenate([on_dev, on_test]).clip(1e-8, 1 - 1e-8)) + offsets).mean(0)
    prior = next(d for d in run.references if d.method == "prior").probs[0]
    least = 1 / (len(on_dev) + len(on_test) + 2)
    np.testing.assert_allclose(means, prior.clip(least, 1 - least), atol=1e-4)
    assert run.fitted[0].ids == ()


def test_a_calibrated_method_that_is_named_twice_is_there_once(tmp_path):
    run = run_alignment(
        n_docs=6, n_dev=6, shots=4, methods="hard,hard+platt", calibrations="platt,batch", thresholds=None,
        output_dir=str(tmp_path), gpu="cpu",
    )  # fmt: skip
    assert [d.method for d in run.dists] == ["hard", "hard+platt", "hard+batch"]


@pytest.mark.parametrize("mode", ["full", "plain", "chat"])
def test_a_server_draws_answers_too(engine, docs, demos, mode, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123456")
    few = docs.take([0, 1, 2])
    with FakeServer(engine, mode=mode) as server:
        behind = load_openai("tiny", dict(base_url=server.url, tokenizer="tiny", cache=False))
        made = estimate(behind, few, demos, "sampled+draws12", CONFIG)
        again = estimate(behind, few, demos, "sampled+draws12", CONFIG).dists[0]
        grammar = replace(CONFIG, decoding="constrained")
        with pytest.raises(ValueError, match="draws answers freely"):
            estimate(behind, few, demos, "sampled+draws2", grammar)
    np.testing.assert_array_equal(made.dists[0].probs, again.probs)
    assert made.costs.prompts[0] == 12 * len(few)
    own = estimate(engine, few, demos, "sampled+draws12", CONFIG).dists[0]
    assert np.abs(made.dists[0].probs - own.probs).mean() < 0.12  # two samples of one distribution
