"Notebook 01 as a user runs it: through papermill, with good and bad parameters, killed and resumed."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mlcllm.runs import find_runs, read_run

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def papermill(tmp_path, *args, wait=True, **params):
    flags = [x for k, v in params.items() for x in ("-p", k, str(v))]
    command = [str(BIN / "papermill"), str(ROOT / "nbs" / "01_stepwise_logits.ipynb"), str(tmp_path / "out.ipynb"), "--no-progress-bar", "-k", "python3", "-p", "output_dir", str(tmp_path / "runs"), *flags, *args]
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=600) if wait else subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, start_new_session=True)


def only_run(tmp_path):
    runs = find_runs(tmp_path / "runs", "01_stepwise_logits")
    assert len(runs) == 1
    return read_run(runs[0])


def test_default_run(tmp_path):
    done = papermill(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    run = only_run(tmp_path)
    assert run["record"]["status"] == "done" and run["record"]["parameters"]["model"] == "tiny"
    assert len(run["docs"]) == run["record"]["n_docs"] > 0
    steps = run["steps"]
    assert set(steps.doc_id) == set(run["docs"].doc_id) and {len(z) for z in steps.logits} == {len(run["record"]["labels"])}
    assert run["record"]["counters"]["tokens_forwarded"] < run["record"]["counters"]["tokens_in"] / 5
    assert {p.name for p in (find_runs(tmp_path / "runs")[0] / "figures").iterdir()} == {"steps.png", "steps.svg", "step_distributions.png", "step_distributions.svg"}


@pytest.mark.parametrize("dataset, folder, split, extra", [("GoEmotions", "goemotions", "dev", {}), ("SemEval", "semeval2018", "dev", {"label_format": "comma"}), ("HateXplainTargets", "hatexplain", "test", {"label_format": "polysyndeton"}), ("HateXplain", "hatexplain", "test", {"label_format": "comma"})])
def test_real_corpora(tmp_path, data_root, dataset, folder, split, extra):
    done = papermill(tmp_path, dataset=dataset, data_dir=data_root / folder, split=split, n_docs=40, **extra)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(only_run(tmp_path)["docs"]) == 40


@pytest.mark.parametrize("params, says", [
    (dict(datset="demo"), "unknown parameter 'datset'; did you mean 'dataset'?"),
    (dict(dataset="dmo"), "did you mean 'demo'?"),
    (dict(model="tinny"), "did you mean 'tiny'?"),
    (dict(label_format="jason"), "did you mean 'json'?"),
    (dict(gpu=7), "-p gpu cpu"),
    (dict(shots=-1), "shots must be a whole number of at least 0"),
    (dict(ratio=2), "ratio must be a number from 0 to 1"),
    (dict(start_run=1), "unknown parameter 'start_run'"),
    (dict(model="meta-llama/Llama-3.1-8b"), "could not be fetched from the Hub"),
])
def test_bad_parameters_fail_with_one_clear_line(tmp_path, params, says):
    done = papermill(tmp_path, **params)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and says in last, last


def test_killed_run_goes_on_and_ends_with_the_same_tables(tmp_path, data_root):
    params = dict(dataset="GoEmotions", data_dir=data_root / "goemotions", split="dev", n_docs=1300)
    process = papermill(tmp_path, wait=False, **params)
    deadline = time.time() + 300
    while not list((tmp_path / "runs").glob("*/*/*/*/chunks/*.json")) and time.time() < deadline: time.sleep(.05)
    os.killpg(process.pid, signal.SIGKILL); process.wait()
    folder = next((tmp_path / "runs").glob("*/*/*/*"))
    assert json.loads((folder / "run.json").read_text())["status"] == "started"
    kept = {p: p.stat().st_mtime_ns for p in (folder / "chunks").glob("*.parquet")}
    done = papermill(tmp_path, **params)
    assert done.returncode == 0, done.stderr[-2000:]
    resumed = only_run(tmp_path)
    assert kept and all(p.stat().st_mtime_ns == t for p, t in kept.items() if p.with_name(p.name.split(".")[0] + ".json").exists())
    (tmp_path / "fresh").mkdir()
    done = papermill(tmp_path / "fresh", **params)
    fresh = only_run(tmp_path / "fresh")
    pd.testing.assert_frame_equal(resumed["docs"], fresh["docs"])
    pd.testing.assert_frame_equal(resumed["steps"].drop(columns="logits"), fresh["steps"].drop(columns="logits"), rtol=1e-3, atol=1e-3)


def test_any_dataset_is_shown_by_00_data(tmp_path, data_root):
    command = [str(BIN / "papermill"), str(ROOT / "nbs" / "00_data.ipynb"), str(tmp_path / "out.ipynb"), "--no-progress-bar", "-k", "python3", "-p", "dataset", "SemEval", "-p", "data_dir", str(data_root / "semeval2018"), "-p", "split", "dev"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "out.ipynb").read_text()
    assert "SemEval dev" in text and "0.016" in text and "no annotators" not in done.stderr       # 14 of 886 documents have no label
    done = subprocess.run(command + ["-p", "datset", "demo"], capture_output=True, text=True, timeout=600)
    assert done.returncode and "did you mean 'dataset'" in done.stderr.strip().splitlines()[-1]


def test_a_finished_run_keeps_its_record(tmp_path):
    for _ in range(2): assert papermill(tmp_path, n_docs=5).returncode == 0
    record = only_run(tmp_path)["record"]
    assert record["status"] == "done" and 5 <= record["counters"]["prompts"] < 10 and record["counters"]["tokens_in"] > record["counters"]["tokens_forwarded"] > 0
