"Notebook 01 as a user runs it: through papermill, with good and bad parameters, killed and resumed."

import inspect
import json
import os
import re
import signal
import subprocess
import time

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from notebooks import ENV, papermill, papermill_command, refusal, run_short

from mlcllm.data import load_docs
from mlcllm.demos import embed, nearest_demos
from mlcllm.prompt_config import StepwiseConfig
from mlcllm.prompts import build_prompts
from mlcllm.runs import find_runs, notebook_parameters, read_run
from mlcllm.stepwise_logits import run_stepwise


def only_run(tmp_path):
    runs = find_runs(tmp_path / "runs", "01_stepwise_logits")
    assert len(runs) == 1
    return read_run(runs[0])


def test_default_run(tmp_path):
    done = papermill("01_stepwise_logits", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    run = only_run(tmp_path)
    assert run["record"]["status"] == "done" and run["record"]["parameters"]["model"] == "tiny"
    assert len(run["docs"]) == run["record"]["n_docs"] > 0
    steps = run["steps"]
    assert set(steps.doc_id) == set(run["docs"].doc_id) and {len(z) for z in steps.logits} == {
        len(run["record"]["labels"])
    }
    assert run["record"]["counters"]["tokens_forwarded"] < run["record"]["counters"]["tokens_in"] / 5
    assert {p.name for p in (find_runs(tmp_path / "runs")[0] / "figures").iterdir()} == {
        "steps.png",
        "steps.svg",
        "step_distributions.png",
        "step_distributions.svg",
    }


@pytest.mark.parametrize(
    "dataset, folder, split, extra",
    [
        ("GoEmotions", "goemotions", "dev", {}),
        ("SemEval", "semeval2018", "dev", {"label_format": "comma"}),
        ("HateXplainTargets", "hatexplain", "test", {"label_format": "polysyndeton"}),
        ("HateXplain", "hatexplain", "test", {"label_format": "comma"}),
    ],
)
def test_real_corpora(tmp_path, data_root, dataset, folder, split, extra):
    run_short(
        "01_stepwise_logits",
        tmp_path,
        dataset=dataset,
        data_dir=data_root / folder,
        split=split,
        n_docs=40,
        **extra,
    )
    assert len(only_run(tmp_path)["docs"]) == 40


def test_one_run_asks_with_every_ratio_and_in_many_other_ways(tmp_path):
    run_short(
        "01_stepwise_logits",
        tmp_path,
        ratio=[0, 0.5, 1],
        options=dict(annotators="both", preprocess="twitter"),
        n_docs=3,
        label_order="shuffled",
        label_format="{label}; {label}",
        demo_labels="distribution",
        template="config",
    )
    run = only_run(tmp_path)
    assert len(run["docs"]) == 3 * 6 * 3 and run["docs"].doc_id.str.extract(r"_ratio_(.*)")[
        0
    ].value_counts().to_dict() == {"0.0": 18, "0.5": 18, "1.0": 18}
    assert {m for m in run["scores"].method if m.startswith("hard+")} == {
        "hard+ratio0",
        "hard+ratio0.5",
        "hard+ratio1",
    }
    assert (find_runs(tmp_path / "runs")[0] / "figures" / "ratio_sweep.png").exists()


def test_a_chat_with_the_most_similar_demonstrations(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from mlcllm.engines import load_engine

    words = sorted(
        {
            w
            for d in ("train", "test")
            for t in load_docs("demo", d).texts
            for w in re.findall(r"\w+|\S", t.lower())
        }
    )
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "encoder")
    BertModel(
        BertConfig(
            vocab_size=len(words) + 5,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
        )
    ).save_pretrained(tmp_path / "encoder")
    engine = load_engine("tiny", gpu="cpu", share_prefixes=False)
    engine.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]\n{{ m.content }}{{ eos_token }}{% endfor %}{% if "
        "add_generation_prompt %}[assistant]\n{% endif %}"
    )
    engine.model.save_pretrained(tmp_path / "chat")
    engine.tokenizer.save_pretrained(tmp_path / "chat")
    run_short(
        "01_stepwise_logits",
        tmp_path,
        model=tmp_path / "chat",
        chat=True,
        sampling="similarity",
        encoder=tmp_path / "encoder",
        shots=3,
        n_docs=6,
    )
    run = only_run(tmp_path)
    assert len(run["docs"]) == 6 and run["docs"].found_step.mean() > 0.5
    docs, train = load_docs("demo", "test", n_docs=6), load_docs("demo", "train")
    rows = nearest_demos(docs, train, 3, str(tmp_path / "encoder"))
    prompts = build_prompts(docs, train, shots=3, label_format="json", rows=rows, chat=engine.tokenizer)
    assert run["docs"].prompt_sha256.tolist() == [p.sha256 for p in prompts]
    vectors = embed(docs.texts, str(tmp_path / "encoder")), embed(train.texts, str(tmp_path / "encoder"))
    assert [r[-1] for r in rows] == (vectors[0] @ vectors[1].T).argmax(1).tolist()  # the nearest stands last


@pytest.mark.parametrize(
    "params, says",
    [
        (dict(chat=True), "has no chat template"),
        (dict(template="pipline"), "did you mean 'pipeline'?"),
        (dict(cot="none.csv"), "none.csv does not exist"),
        (dict(datset="demo"), "unknown parameter 'datset'; did you mean 'dataset'?"),
        (dict(dataset="dmo"), "did you mean 'demo'?"),
        (dict(model="tinny"), "did you mean 'tiny'?"),
        (dict(label_format="jason"), "did you mean 'json'?"),
        (dict(gpu=7), "-p gpu cpu"),
        (dict(shots=-1), "shots must be a whole number of at least 0"),
        (dict(ratio=2), "ratio must be a number from 0 to 1"),
        (dict(start_run=1), "unknown parameter 'start_run'"),
        (dict(model="meta-llama/Llama-3.1-8b"), "could not be fetched from the Hub"),
    ],
)
def test_bad_parameters_fail_with_one_clear_line(tmp_path, params, says):
    said = refusal("01_stepwise_logits", tmp_path, **params)
    assert says in said and "\n" not in said


@pytest.mark.parametrize(
    "notebook, params, says",
    [
        ("01_stepwise_logits", dict(datset="demo"), "unknown parameter 'datset'; did you mean 'dataset'?"),
        (
            "04_demux",
            dict(epochs=0),
            "epochs must be a number above 0, got 0",
        ),  # papermill makes a number of it
        (
            "02_alignment",
            dict(methods=3),
            "methods must be names joined by ',' or None, got 3; with papermill, -r methods 3 passes a "
            "number on as a text",
        ),
    ],
)
def test_papermill_ends_with_the_line_that_says_what_is_wrong(tmp_path, notebook, params, says):
    done = papermill(notebook, tmp_path, **params)
    assert done.returncode and says in done.stderr.strip().splitlines()[-1]


def test_killed_run_goes_on_and_ends_with_the_same_tables(tmp_path, data_root):
    params = dict(
        dataset="SemEval",
        data_dir=data_root / "semeval2018",
        split="dev",
        n_docs=600,
        shots=2,
        max_new_tokens=12,
    )  # two chunks
    process = subprocess.Popen(
        papermill_command("01_stepwise_logits", tmp_path, **params),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENV,
        start_new_session=True,
    )
    deadline = time.time() + 300
    while not list((tmp_path / "runs").glob("*/*/*/*/chunks/*.json")) and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = next((tmp_path / "runs").glob("*/*/*/*"))
    assert json.loads((folder / "run.json").read_text())["status"] == "started"
    kept = {p: p.stat().st_mtime_ns for p in (folder / "chunks").glob("*.parquet")}
    done = papermill("01_stepwise_logits", tmp_path, **params)
    assert done.returncode == 0, done.stderr[-2000:]
    resumed = only_run(tmp_path)
    assert kept and all(
        p.stat().st_mtime_ns == t
        for p, t in kept.items()
        if p.with_name(p.name.split(".")[0] + ".json").exists()
    )
    (tmp_path / "fresh").mkdir()
    run_short("01_stepwise_logits", tmp_path / "fresh", **params)
    fresh = only_run(tmp_path / "fresh")
    pd.testing.assert_frame_equal(resumed["docs"], fresh["docs"])
    pd.testing.assert_frame_equal(
        resumed["steps"].drop(columns="logits"), fresh["steps"].drop(columns="logits"), rtol=1e-3, atol=1e-3
    )


def test_any_dataset_is_shown_by_00_data(tmp_path, data_root):
    done = papermill(
        "00_data",
        tmp_path,
        dataset="SemEval",
        data_dir=data_root / "semeval2018",
        split="dev",
        output_dir=None,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "out.ipynb").read_text()
    assert (
        "SemEval dev" in text and "0.016" in text and "no annotators" not in done.stderr
    )  # 14 of 886 documents have no label


def test_a_finished_run_keeps_its_record(tmp_path):
    for _ in range(2):
        run_short("01_stepwise_logits", tmp_path, n_docs=5)
    record = only_run(tmp_path)["record"]
    assert (
        record["status"] == "done"
        and 5 <= record["counters"]["prompts"] < 10
        and record["counters"]["tokens_in"] > record["counters"]["tokens_forwarded"] > 0
    )


def test_the_function_has_the_defaults_of_the_notebook():
    "The same names and values, in the same order, as the parameters cell; help() shows them"
    defaults = notebook_parameters("01_stepwise_logits")
    assert list(StepwiseConfig().parameters.items()) == list(defaults.items())
    shown = inspect.signature(run_stepwise).parameters
    assert {k: p.default for k, p in shown.items() if k != "config"} == defaults


def test_a_run_from_python_is_the_run_of_the_notebook(tmp_path, capsys):
    run_short("01_stepwise_logits", tmp_path, n_docs=5)
    before = only_run(tmp_path)
    run = run_stepwise(model="tiny", n_docs=5, output_dir=tmp_path / "runs")
    after = only_run(tmp_path)
    assert run.folder == find_runs(tmp_path / "runs")[0].resolve() and run.record["status"] == "done"
    assert run.record["run"] == before["record"]["run"] and len(run.traces) == len(run.docs) == 5
    assert [t.output for t in run.traces] == list(before["docs"].output)
    for name in ("docs", "steps", "scores"):
        pd.testing.assert_frame_equal(after[name], before[name])
    pd.testing.assert_frame_equal(run.scores, after["scores"], check_dtype=False)
    assert f"tables and pictures: {os.path.relpath(run.folder)}" in capsys.readouterr().out
    assert "traces" not in repr(run) and not plt.get_fignums()


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(modle="tiny"), "unknown parameter 'modle'; did you mean 'model'?"),
        (dict(decoding="constraind"), "did you mean 'constrained'"),
        (dict(model="tin"), "did you mean 'tiny'?"),
        (dict(gpu=99), "for the CPU use"),
        (dict(n_docs=0), "n_docs"),
        (dict(ratio=[0, 1], sampling="uniform"), "a list of ratios needs sampling='multilabel'"),
    ],
)
def test_wrong_arguments_are_refused_in_the_notebooks_words(tmp_path, given, says):
    with pytest.raises(ValueError) as refused:
        run_stepwise(**given, output_dir=tmp_path / "runs")
    said = str(refused.value)
    assert says in said and "\n" not in said
    assert refusal("01_stepwise_logits", tmp_path, **given) == f"ValueError: {said}"


def test_a_configuration_can_be_kept_and_changed(tmp_path):
    config = StepwiseConfig(n_docs=4, shots=2, output_dir=tmp_path)
    run = run_stepwise(config, n_docs=3)
    assert len(run.docs) == 3 and len(run.prompts[0].demo_ids) == 2
