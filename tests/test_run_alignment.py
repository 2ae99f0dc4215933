"A run of 02 as a function: the defaults, refusals and results of the notebook that calls it."

import inspect
import os

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from notebooks import refusal, run_short

from mlcllm import alignment
from mlcllm.alignment import AlignmentConfig, documents_scored, measures_table, pairs_of_best, run_alignment
from mlcllm.alignment_config import load_alignment, with_inherited
from mlcllm.prompt_config import StepwiseConfig
from mlcllm.runs import find_runs, notebook_parameters, read_run
from mlcllm.stepwise_logits import run_stepwise

FEW = dict(n_docs=6, n_dev=12, methods="hard,compare_to_none,unary", shots=4)
TABLES = ("dists", "costs", "scores", "pairs", "thresholds")


def only_run(tmp_path):
    (folder,) = find_runs(tmp_path / "runs", "02_alignment")
    return read_run(folder)


def test_the_function_has_the_defaults_of_the_notebook():
    "The same names and values, in the same order, as the parameters cell; help() shows them"
    defaults = notebook_parameters("02_alignment")
    assert list(AlignmentConfig().parameters.items()) == list(defaults.items())
    shown = inspect.signature(run_alignment).parameters
    assert {k: p.default for k, p in shown.items() if k != "config"} == defaults


def test_what_is_said_of_a_parameter_stands_behind_it():
    lines = inspect.getsource(AlignmentConfig).split("\n")
    for name in notebook_parameters("02_alignment"):
        at = next(k for k, line in enumerate(lines) if line.startswith(f"    {name}: "))
        assert "  # " in lines[at] or lines[at - 1].startswith("    # "), name


def test_a_run_from_python_is_the_run_of_the_notebook(tmp_path, capsys):
    run_short("02_alignment", tmp_path, **FEW)
    before = only_run(tmp_path)
    capsys.readouterr()
    run = run_alignment(**FEW, output_dir=tmp_path / "runs")
    after, said = only_run(tmp_path), capsys.readouterr().out
    assert run.record["run"] == before["record"]["run"] and run.record["status"] == "done"
    for name in TABLES:
        pd.testing.assert_frame_equal(after[name], before[name])
    told = pd.concat([run.scores, run.people], ignore_index=True)
    for table in (told, after["scores"]):
        table["label"] = table.label.fillna("all").astype(object)
    pd.testing.assert_frame_equal(told, after["scores"], check_dtype=False)
    assert [d.method for d in run.dists] == FEW["methods"].split(",")
    assert len(run.docs) == 6 and len(run.sample) == 12 and not set(run.docs.ids) & set(run.sample.ids)
    place, recommended, *others = said.strip().split("\n")[-4:]
    assert place == f"tables and pictures: {os.path.relpath(run.folder)}"
    assert recommended == str(run.recommendation) and run.recommendation.method in recommended
    assert others == [str(run.recommendations[k]) for k in ("frequencies", "nothing")]
    assert "scores=" not in repr(run) and not plt.get_fignums()
    drawn = {p.stem for p in (run.folder / "figures").glob("*.svg")}
    assert drawn == {"methods", "by_eps", "people", "cost", "reliability", "votes", "labels"}


def test_tables_of_a_run(tmp_path):
    run = run_alignment(**FEW, output_dir=tmp_path)
    wide = measures_table(run.scores)
    assert list(wide.columns[:1]) == ["brier"] and {"hard", "prior"} <= set(wide.index)
    of_hard = run.scores[(run.scores.method == "hard") & run.scores.label.isna()].set_index("metric").value
    assert wide.loc["hard", "kl, ε = 1e-8"] == of_hard["kl"]
    counts = documents_scored(run.scores)
    assert counts.loc["brier"].tolist() == [6, 6] and (counts["least"] == counts["most"]).all()
    best = wide.brier[["hard", "compare_to_none", "unary"]].idxmin()
    pairs = pairs_of_best(run)
    assert len(pairs) == 2 and ((pairs.method == best) | (pairs.other == best)).all()


def test_a_run_with_a_single_method_and_without_dev(tmp_path):
    run = run_alignment(n_docs=3, n_dev=0, methods="hard", output_dir=tmp_path)
    assert run.recommendation is None and len(run.pairs) == 0 and len(pairs_of_best(run)) == 0
    assert run.dev_dists == [] and run.fitted == [] and run.forced is None


REFUSED = [
    (dict(modle="tiny"), "unknown parameter 'modle'; did you mean 'model'?"),
    (dict(method="unary"), "did you mean 'methods'?"),
    (dict(methods="hrad"), "did you mean 'hard'?"),
    (dict(methods="hard,unray"), "did you mean 'unary'?"),
    (dict(thresholds="golbal"), "did you mean 'global'?"),
    (dict(calibrations="plat"), "did you mean 'platt'?"),
    (dict(model="tin"), "did you mean 'tiny'?"),
    (dict(gpu=99), "for the CPU use"),
    (dict(n_docs=0), "n_docs"),
    (dict(decoding="constraind"), "did you mean 'constrained'"),
    (dict(dev_split="test"), "take another dev_split"),
    (dict(methods="hard", calibrations="platt", n_dev=0), "leaves no document to fit"),
    (dict(methods="hard", n_dev=3), "n_dev=3 leaves 3 documents of dev to fit thresholds='global'"),
    (dict(methods="unary+logodds"), "needs a single-label task"),
    (dict(methods="unary", sampling="similarity"), "leave sampling out"),
    (dict(traces="nowhere"), "no run in nowhere"),
    (dict(join="nowhere"), "no table of estimates"),
    (dict(dataset="dmo"), "did you mean 'demo'?"),
]


@pytest.mark.parametrize("given, says", REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_wrong_arguments_are_refused_in_the_notebooks_words_before_a_model_is_loaded(
    tmp_path, monkeypatch, given, says
):
    def too_early(*args, **how):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(alignment, "load_engine", too_early)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        run_alignment(**given, output_dir=tmp_path / "runs")
    said = str(refused.value)
    assert says in said and "\n" not in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "given, says", [REFUSED[0], REFUSED[2], REFUSED[10]], ids=["name", "method", "split"]
)
def test_the_notebook_refuses_in_the_same_words(tmp_path, given, says):
    with pytest.raises(ValueError) as refused:
        run_alignment(**given)
    assert refusal("02_alignment", tmp_path, **given) == f"ValueError: {refused.value}"


@pytest.mark.parametrize(
    "wrong", ["tiny", StepwiseConfig(), dict(model="tiny")], ids=["text", "of 01", "dict"]
)
def test_a_configuration_of_another_kind_is_refused(wrong):
    with pytest.raises(ValueError, match="^config must be a AlignmentConfig, got "):
        run_alignment(wrong)


def test_a_configuration_can_be_kept_and_changed(tmp_path):
    config = AlignmentConfig(**FEW | dict(n_dev=0, methods="hard"), output_dir=tmp_path)
    run = run_alignment(config, n_docs=3)
    assert len(run.docs) == 3 and run.record["parameters"]["shots"] == 4


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    "A run of 01 with parameters that are not the defaults"
    there = tmp_path_factory.mktemp("answers")
    return run_stepwise(n_docs=4, shots=3, label_format="comma", output_dir=there).folder


def test_answers_of_a_run_are_read_with_its_parameters_and_no_model_is_loaded(answers, tmp_path, monkeypatch):
    def too_early(*args, **how):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(alignment, "load_engine", too_early)
    run = run_alignment(traces=answers, methods="hard,last_step", n_dev=0, output_dir=tmp_path)
    parameters = run.record["parameters"]
    assert (parameters["shots"], parameters["label_format"], len(run.docs)) == (3, "comma", 4)
    assert run.engine is None and (run.costs.prompts >= 1).all()


@pytest.mark.parametrize("name, value", [("shots", 5), ("label_format", "polysyndeton"), ("n_docs", 3)])
def test_a_parameter_that_is_not_that_of_the_answers_is_refused(answers, name, value):
    with pytest.raises(ValueError) as refused:
        run_alignment(traces=answers, methods="hard", n_dev=0, **{name: value})
    assert f"leave {name} out, or traces" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_asked_besides_needs_an_engine(answers):
    def needs(**given):
        config = with_inherited(AlignmentConfig(traces=str(answers), thresholds=None, **given))
        return load_alignment(config).needs_engine(config)

    assert not needs(methods="hard,last_step", n_dev=0)
    for more in (
        dict(methods="hard,unary", n_dev=0),
        dict(methods="hard", n_dev=5),
        dict(methods="hard+order2", n_dev=0),
        dict(methods="hard", n_dev=0, forced_first=True),
    ):
        assert needs(**more), more


NAMES = """METHODS EXTRA_METHODS PAPER_METHODS QUESTION_METHODS SET_TREES SET_METRICS Method Estimates
parse_method choose_methods served_methods estimate label_orders prompts_per_doc forecast dists_table
add_references with_people read_dists stored_estimates join_dists dist_hash inherit_parameters take_over
check_weights check_prompts stored_traces calibrate_dists threshold_scores thresholds_table unread_rule
reading Estimator text_docs"""


@pytest.mark.parametrize("name", NAMES.split())
def test_public_names_are_where_they_were(name):
    assert hasattr(alignment, name)
