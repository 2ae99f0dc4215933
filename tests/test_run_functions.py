"Runs as functions: the same defaults, refusals and results as the notebooks that call them."

import inspect

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from notebooks import ROOT, refusal

from mlcllm.data import load_docs
from mlcllm.demux import DemuxRunConfig, draw_docs, run_demux
from mlcllm.probing import ProbingConfig, run_probing
from mlcllm.prompt_config import StepwiseConfig, check_disjoint
from mlcllm.runs import find_runs, notebook_parameters, read_run
from mlcllm.sft import FinetuningConfig, run_finetuning

RUNS = {
    "03_probing": (ProbingConfig, run_probing),
    "04_demux": (DemuxRunConfig, run_demux),
    "04a_sft": (FinetuningConfig, run_finetuning),
}


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
    ("04_demux", dict(encodr="minilm"), "unknown parameter 'encodr'; did you mean 'encoder'?"),
    ("04_demux", dict(model="tiny"), "unknown parameter 'model'"),
    ("04_demux", dict(pooling="men"), "did you mean 'mean'?"),
    ("04_demux", dict(n_train=1), "n_train must be a whole number of at least 2"),
    ("04_demux", dict(gpu=99), "for the CPU use"),
    ("04_demux", dict(split="train"), "train_split must hold other documents"),
    ("04_demux", dict(dev_split="train"), "used to stop as well"),
    ("04_demux", dict(push_to_hub="me/nothing"), "the Hub cannot be reached"),
    ("04a_sft", dict(lora="8"), "unknown parameter 'lora'"),
    ("04a_sft", dict(tuning="lore"), "did you mean 'lora'?"),
    ("04a_sft", dict(dtype="float16"), "unknown dtype 'float16'; did you mean 'bfloat16'?"),
    ("04a_sft", dict(model="tin"), "did you mean 'tiny'?"),
    ("04a_sft", dict(train_split="test"), "train_split and split must be different documents"),
    ("04a_sft", dict(lora_dropout=1), "lora_dropout must be"),
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
    ("04a_sft", dict(train_split="test")),
    ("04a_sft", dict(shots=1000)),
    ("04a_sft", dict(quantization="4bit", gpu="cpu")),
]


@pytest.mark.parametrize("notebook, given", OVERLAPS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(OVERLAPS)])
def test_data_are_checked_before_a_model_is_loaded(tmp_path, monkeypatch, notebook, given):
    kind, function = RUNS[notebook]

    def too_early(*args, **how):
        raise AssertionError("a model was loaded")

    monkeypatch.setitem(function.__globals__, "load_engine", too_early)
    with pytest.raises(ValueError):
        function(kind(**given), output_dir=tmp_path)


@pytest.mark.parametrize("notebook", RUNS)
def test_the_notebook_calls_the_function_and_shows(notebook):
    "So that a run from Python is the notebook's: nothing is computed or stored in the last section itself"
    book = nbformat.read(ROOT / "nbs" / f"{notebook}.ipynb", 4)
    (head,) = [k for k, cell in enumerate(book.cells) if cell.source.startswith("## Run")]
    code = [cell.source for cell in book.cells[head:] if cell.cell_type == "code"]
    assert code[0].startswith(f"run = {RUNS[notebook][1].__name__}(**parameters)")
    assert not [source for source in code if "save_" in source or "start_run" in source]


def check_stored(run, notebook, tmp_path, tables):
    "A finished run's tables and pictures are where it says, and its scores are those that are stored"
    assert run.folder in [f.resolve() for f in find_runs(tmp_path, notebook)]
    stored = read_run(run.folder)
    assert run.record["status"] == "done" and stored["record"]["run"] == run.folder.name
    assert set(tables) <= set(stored)
    scores = stored["scores"].iloc[: len(run.scores)]
    assert list(scores.method) == list(run.scores.method)
    assert np.array_equal(scores.value, run.scores.value, equal_nan=True)
    assert "scores" not in repr(run) and not plt.get_fignums()
    return {p.stem for p in (run.folder / "figures").glob("*.svg")}


def test_a_probing_run(tmp_path, capsys):
    given = dict(n_train=60, n_docs=24, split="test", layers="last", shots=2)
    run = run_probing(**given, output_dir=tmp_path)
    tables = ("docs", "steps", "counts", "dists", "attention_means", "hidden")
    assert check_stored(run, "03_probing", tmp_path, tables) >= {"probes", "layers", "lens"}
    assert run.layers == (4,) and len(run.docs) == len(run.prompts) == len(run.test.traces) == 24
    assert len(run.train.docs) == 59  # without the demonstration that is among the first sixty
    assert "gold.layer_4.position_1" in run.probes
    assert capsys.readouterr().out.splitlines()[-1].startswith("tables and pictures: ")


def test_a_demux_run_and_one_of_what_it_trained(tmp_path, capsys):
    run = run_demux(n_train=16, n_docs=8, epochs=1, seed=1, output_dir=tmp_path)
    drawn = check_stored(run, "04_demux", tmp_path, ("dists", "history"))
    assert drawn == {"training", "methods", "people"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("model, tables and pictures: ")
    assert len(run.docs) == 8 and len(run.train) == 16 and len(run.history) == 1
    again = run_demux(DemuxRunConfig(trained=run.folder / "model", n_docs=8), output_dir=tmp_path)
    assert check_stored(again, "04_demux", tmp_path, ("dists",)) == {"methods", "people"}
    assert again.history is None and again.record["parameters"]["encoder"] == "minilm"
    assert again.dists[0].method == "demux" and np.array_equal(again.dists[0].probs, run.dists[0].probs)
    assert capsys.readouterr().out.splitlines()[-1].startswith("tables and pictures: ")


def test_a_finetuning_run(tmp_path, capsys):
    given = dict(n_train=8, n_docs=4, epochs=1, shots=2, lora_r=2, max_new_tokens=12)
    run = run_finetuning(**given, output_dir=tmp_path)
    tables = ("docs_base", "docs_sft", "steps_sft", "spikiness", "sft_log", "dists")
    assert check_stored(run, "04a_sft", tmp_path, tables) == {"training", "steps"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("models, tables and pictures: ")
    assert list(run.traces) == ["base", "sft"] and list(run.logs) == ["sft"]
    assert len(run.examples) == len(run.train) == 8 and len(run.traces["sft"]) == len(run.prompts) == 4


def test_documents_are_drawn_in_their_order_and_by_the_seed():
    docs = load_docs("demo", "train")
    drawn = draw_docs(docs, 9, 3)
    rows = [docs.ids.index(name) for name in drawn.ids]
    assert rows == sorted(set(rows)) and len(rows) == 9
    assert drawn.ids == draw_docs(docs, 9, 3).ids != draw_docs(docs, 9, 4).ids
    assert draw_docs(docs, None).ids == docs.ids == draw_docs(docs, 10**6).ids


def test_documents_of_two_uses_are_counted_and_named():
    few = load_docs("demo", "train").take([0, 1, 2])
    assert check_disjoint(few.take([0]), few.take([1, 2]), "scored", "others") is None
    with pytest.raises(ValueError) as refused:
        check_disjoint(few, few.take([2]), "scored", "take other documents")
    name = few.ids[2]
    assert str(refused.value) == (
        f"1 documents are trained on and scored as well, such as {name!r}: take other documents"
    )
