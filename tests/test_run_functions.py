"Runs as functions: the same defaults, refusals and results as the notebooks that call them."

import inspect

import pandas as pd
import pytest
from notebooks import refusal, run_short

from mlcllm.data import load_docs
from mlcllm.probing import ProbingConfig, run_probing
from mlcllm.prompt_config import StepwiseConfig, check_disjoint
from mlcllm.runs import find_runs, notebook_parameters, read_run

RUNS = {"03_probing": (ProbingConfig, run_probing)}


@pytest.mark.parametrize("notebook", RUNS)
def test_the_function_has_the_defaults_of_the_notebook(notebook):
    "The same names and values, in the same order, as the parameters cell; help() shows them"
    kind, function = RUNS[notebook]
    defaults = notebook_parameters(notebook)
    assert kind.notebook == notebook
    assert list(kind().parameters.items()) == list(defaults.items())
    shown = inspect.signature(function).parameters
    assert {name: p.default for name, p in shown.items() if name != "config"} == defaults


@pytest.mark.parametrize("notebook", RUNS)
def test_what_is_said_of_a_parameter_stands_behind_it(notebook):
    "Every field of a configuration has a comment, above it or behind it"
    lines = inspect.getsource(RUNS[notebook][0]).split("\n")
    for name in notebook_parameters(notebook):
        at = next(k for k, line in enumerate(lines) if line.startswith(f"    {name}: "))
        assert "  # " in lines[at] or lines[at - 1].startswith("    # "), name


REFUSED = [
    ("03_probing", dict(modle="tiny"), "unknown parameter 'modle'; did you mean 'model'?"),
    ("03_probing", dict(recipe="cw"), "did you mean 'cv'?"),
    ("03_probing", dict(model="tin"), "did you mean 'tiny'?"),
    ("03_probing", dict(gpu=99), "for the CPU use"),
    ("03_probing", dict(backend="openai"), "shows no hidden states"),
    ("03_probing", dict(n_docs=0), "n_docs"),
    ("03_probing", dict(split="train"), "train_split and split must be different documents"),
    ("03_probing", dict(train_demo_split="train"), "choose another train_demo_split"),
    ("03_probing", dict(layers=9, n_docs=2, n_train=2), "layer 9 does not exist"),
]


@pytest.mark.parametrize(
    "notebook, given, says", REFUSED, ids=[f"{n}-{k}" for k, (n, *_) in enumerate(REFUSED)]
)
def test_wrong_arguments_are_refused_in_the_notebooks_words(tmp_path, notebook, given, says):
    with pytest.raises(ValueError) as refused:
        RUNS[notebook][1](**given, output_dir=tmp_path / "runs")
    said = str(refused.value)
    assert says in said and "\n" not in said
    assert refusal(notebook, tmp_path, **given) == f"ValueError: {said}"


@pytest.mark.parametrize("notebook", RUNS)
def test_a_configuration_of_another_kind_is_refused(notebook):
    kind, function = RUNS[notebook]
    for wrong in ("tiny", StepwiseConfig(), dict(model="tiny")):
        with pytest.raises(ValueError, match=f"^config must be a {kind.__name__}, got "):
            function(wrong)


OVERLAPS = [
    ("03_probing", dict(split="train")),
    ("03_probing", dict(train_demo_split="train")),
    ("03_probing", dict(template="pipelin")),
]


@pytest.mark.parametrize("notebook, given", OVERLAPS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(OVERLAPS)])
def test_data_are_checked_before_a_model_is_loaded(tmp_path, monkeypatch, notebook, given):
    kind, function = RUNS[notebook]

    def too_early(*args, **how):
        raise AssertionError("a model was loaded")

    monkeypatch.setitem(function.__globals__, "load_engine", too_early)
    with pytest.raises(ValueError):
        function(kind(**given), output_dir=tmp_path)


def the_run(notebook, tmp_path):
    (folder,) = find_runs(tmp_path / "runs", notebook)
    return read_run(folder)


def check_same_run(notebook, function, tmp_path, tables, **given):
    "The function's run is the notebook's: same folder, same tables; the finished run"
    run_short(notebook, tmp_path, **given)
    before = the_run(notebook, tmp_path)
    run = function(**given, output_dir=tmp_path / "runs")
    after = the_run(notebook, tmp_path)
    assert run.folder.name == before["record"]["run"] and run.record["status"] == "done"
    for name in tables:
        pd.testing.assert_frame_equal(after[name], before[name])
    pd.testing.assert_frame_equal(run.scores, after["scores"], check_dtype=False)
    return run


def test_a_probing_run_from_python_is_the_run_of_the_notebook(tmp_path, capsys):
    given = dict(n_train=60, n_docs=24, split="test", layers="last", shots=2)
    tables = ("docs", "steps", "scores", "counts", "dists", "attention_means")
    run = check_same_run("03_probing", run_probing, tmp_path, tables, **given)
    assert run.layers == (4,) and len(run.docs) == len(run.prompts) == len(run.test.traces) == 24
    assert len(run.train.docs) == 60 and "gold.layer_4.position_1" in run.probes
    assert "tables and pictures: " in capsys.readouterr().out.splitlines()[-1]
    assert {p.stem for p in (run.folder / "figures").glob("*.svg")} >= {"probes", "layers", "lens"}
    assert "scores" not in repr(run)


def test_documents_of_two_uses_are_counted_and_named():
    few = load_docs("demo", "train").take([0, 1, 2])
    assert check_disjoint(few.take([0]), few.take([1, 2]), "scored", "others") is None
    with pytest.raises(ValueError) as refused:
        check_disjoint(few, few.take([2]), "scored", "take other documents")
    name = few.ids[2]
    assert str(refused.value) == (
        f"1 documents are trained on and scored as well, such as {name!r}: take other documents"
    )
