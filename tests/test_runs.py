"Runs: one folder per identity, nothing lost when a run dies, one clear line when it cannot go on."

import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from notebooks import refusal
from tqdm import tqdm

from mlcllm.alignment import check_weights, inherit_parameters, join_dists, stored_traces
from mlcllm.checks import PARAMETERS
from mlcllm.data import DATASETS, load_docs, note_parameters, read_parameters
from mlcllm.demos import perturb_labels
from mlcllm.interchange import write_logs
from mlcllm.runs import (
    find_runs,
    hide_secrets,
    read_record,
    read_run,
    read_table,
    run_folder,
    run_id,
    start_run,
)
from mlcllm.scale import measured_speeds
from mlcllm.stored_runs import _dataset_name as index_name
from mlcllm.stored_runs import comparable, compare_runs, gather, index_runs, plain_runs, publish_runs

PARAMS = dict(dataset="numbers", model="none", seed=0)
WORKER = """
import sys, time, pyarrow as pa
from mlcllm.runs import start_run

run = start_run("test", dict(dataset="numbers", model="none", seed=0), output_dir=sys.argv[1])
print(run.folder, flush=True)


def work(a, b):
    time.sleep(float(sys.argv[2]))
    return dict(t=pa.table(dict(x=list(range(a, b)), y=[i * i for i in range(a, b)])))


with run.timed("work"):
    tables = run.chunks("squares", 200, 5, work)
run.save_table("squares", tables["t"])
run.done()
"""


def squares(a, b):
    return dict(t=pa.table(dict(x=list(range(a, b)), y=[i * i for i in range(a, b)])))


def begin(tmp_path, **params):
    return start_run("test", PARAMS | params, output_dir=tmp_path)


@pytest.mark.parametrize(
    "change, same",
    [
        ({}, True),
        (dict(gpu=3), True),
        (dict(data_dir="x"), True),
        (dict(output_dir="y"), True),
        (dict(seed=1), False),
        (dict(shots=None), False),
    ],
)
def test_identity(change, same):
    assert (run_id(PARAMS | change, dict(docs="a")) == run_id(PARAMS, dict(docs="a"))) == same
    assert run_id(PARAMS, dict(docs="b")) != run_id(PARAMS, dict(docs="a"))


BAD_TEMPLATES = {
    "no YAML": b"a: [",
    "not UTF-8": b"a: \xe9",
    "nested": b"[" * 5000,
    "a bad date": b"a: 2020-13-45",
    "a control character": b"a: \x07",
}


@pytest.mark.parametrize("bad", BAD_TEMPLATES)
def test_a_template_that_cannot_be_read_is_one_line_with_its_name(tmp_path, bad):
    path = tmp_path / "own.yaml"
    path.write_bytes(BAD_TEMPLATES[bad])
    with pytest.raises(ValueError) as error:
        run_id(PARAMS | dict(template=str(path)), {})
    assert type(error.value) is ValueError and str(path) in str(error.value) and "\n" not in str(error.value)


def test_killed_at_50_random_moments_ends_like_an_uninterrupted_run(tmp_path):
    """Every other child is killed while it starts or reads, the others soon after their first new chunk:
    while they compute or write the next ones
    """
    rng, fork = random.Random(0), multiprocessing.get_context("fork")

    def large(a, b):
        time.sleep(0.01)
        return dict(
            t=pa.table(
                dict(x=np.repeat(np.arange(a, b), 2000), y=np.random.default_rng(a).random(2000 * (b - a)))
            )
        )

    def work(folder):
        run = start_run("test", PARAMS, output_dir=folder)
        with run.timed("work"):
            tables = run.chunks("noise", 1200, 2, large)
        run.save_table("noise", tables["t"])
        run.done()

    def stored():
        return len(list((tmp_path / "killed").glob("*/*/*/*/chunks/*.json")))

    for kill in range(50):
        before, p = stored(), fork.Process(target=work, args=(tmp_path / "killed",))
        p.start()
        if kill % 2:
            time.sleep(rng.uniform(0, 0.3))
        else:
            while stored() == before and p.is_alive():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
        p.kill()
        p.join()
        assert p.exitcode == -signal.SIGKILL, f"it ended before kill {kill}"
    for folder in ("killed", "whole"):
        p = fork.Process(target=work, args=(tmp_path / folder,))
        p.start()
        p.join()
        assert p.exitcode == 0
    killed, whole = (next((tmp_path / f).glob("*/*/*/*")) for f in ("killed", "whole"))
    assert read_run(killed)["record"]["status"] == "done" and read_run(killed)["noise"].equals(
        read_run(whole)["noise"]
    )
    assert (
        int((killed / "run.log").read_text().split("600 chunks, ")[1].split()[0]) > 20
    )  # earlier chunks were used
    assert not [p for p in killed.rglob("*") if ".part" in p.name], "half-written files are left"


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b""],
    ids=["truncated", "a bit flipped", "emptied"],
)
def test_damaged_chunk_is_computed_again_and_said_so(tmp_path, damage):
    begin(tmp_path).chunks("squares", 10, 4, squares)
    victim = next(tmp_path.glob("*/*/*/*/chunks/squares-0000004*.parquet"))
    victim.write_bytes(damage(victim.read_bytes()))
    again, calls = begin(tmp_path), []
    out = again.chunks("squares", 10, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [4] and out["t"].column("y").to_pylist() == [i * i for i in range(10)]
    assert "damaged" in again.record["warnings"][0]


def two_tables(a, b):
    return squares(a, b) | dict(u=squares(a, b)["t"])


def rewrite(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "n, short", [(4, 0), (12, 0), (12, 1)], ids=["the only chunk", "the first", "a later one"]
)
def test_a_chunk_whose_manifest_lacks_a_table_is_computed_again(tmp_path, n, short):
    folder = begin(tmp_path)
    folder.chunks("squares", n, 4, two_tables)
    rewrite(
        sorted((folder.folder / "chunks").glob("*.json"))[short], lambda manifest: manifest["tables"].pop("u")
    )
    run, calls = begin(tmp_path), []
    out = run.chunks("squares", n, 4, lambda a, b: calls.append(a) or two_tables(a, b))
    assert calls == [4 * short] and out["u"].equals(out["t"]) and len(out["u"]) == n
    assert begin(tmp_path).chunks("squares", n, 4, lambda a, b: 1 / 0)["u"].equals(out["t"])


def test_a_table_that_the_work_no_longer_gives_does_not_matter(tmp_path):
    begin(tmp_path).chunks("squares", 4, 4, two_tables)
    manifest = next(tmp_path.rglob("squares*.json"))
    manifest.unlink()
    assert list(begin(tmp_path).chunks("squares", 4, 4, squares)) == ["t"]
    assert list(begin(tmp_path).chunks("squares", 4, 4, lambda a, b: 1 / 0)) == ["t"]


def folder_for_file(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "place", ["chunks", "squares-0000000-0000004.json", "squares-0000000-0000004.t.parquet"]
)
def test_files_and_folders_of_chunks_in_each_others_place_are_made_anew(tmp_path, place):
    run = begin(tmp_path)
    run.chunks("squares", 8, 4, squares)
    if place == "chunks":
        shutil.rmtree(run.folder / place)
        (run.folder / place).write_text("x")
    else:
        folder_for_file(run.folder / "chunks" / place)
    begin(tmp_path).chunks("squares", 8, 4, squares)
    assert len(begin(tmp_path).chunks("squares", 8, 4, lambda a, b: 1 / 0)["t"]) == 8


def test_a_folder_for_a_file_or_the_reverse_is_one_line(tmp_path):
    run = begin(tmp_path)
    (run.folder / "docs.parquet").mkdir()
    (run.folder / "figures").write_text("x")
    for place, write in {
        "docs.parquet": lambda: run.save_table("docs", squares(0, 3)["t"]),
        "figures": lambda: run.save_figure("a", None),
    }.items():
        with pytest.raises(OSError, match="remove it and run again") as error:
            write()
        assert (
            str(run.folder / place) in str(error.value)
            and "\n" not in str(error.value)
            and "part" not in str(error.value)
        )


def no_manifest(folder):
    (folder / "model.files.json").unlink()


def empty_manifest(folder):
    (folder / "model.files.json").write_text('{"source":"","files":{}}')


def other_columns(folder):
    pq.write_table(pa.table(dict(a=[1])), folder / "history.parquet")


def no_rows(folder):
    pq.write_table(pa.table(dict(epoch=[1]))[:0], folder / "history.parquet")


def no_model(folder):
    shutil.rmtree(folder / "model")


def only_the_table(folder):
    rewrite(folder / "model.files.json", lambda noted: noted["files"].pop("model/weights"))


TRAINING_DAMAGE = [
    (no_manifest, other_columns),
    (no_manifest, no_rows),
    (no_manifest, no_model),
    (empty_manifest,),
    (empty_manifest, no_rows),
    (empty_manifest, no_model),
    (only_the_table, no_model),
]


@pytest.mark.parametrize("damage", TRAINING_DAMAGE, ids=lambda some: " ".join(f.__name__ for f in some))
def test_a_training_of_which_something_is_gone_is_repeated(tmp_path, damage):
    calls = []

    def train(folder):
        calls.append(folder)
        folder.mkdir()
        (folder / "weights").write_text("x")
        return pd.DataFrame(dict(epoch=[1]))

    def trained():
        return begin(tmp_path).train_once("model", "history", train, lambda folder: None, columns=("epoch",))

    folder = begin(tmp_path).folder
    assert len(trained()) == len(trained()) == 1 and len(calls) == 1
    for do in damage:
        do(folder)
    assert list(trained().epoch) == list(trained().epoch) == [1] and len(calls) == 2
    assert (folder / "model" / "weights").exists() and "trained again" in read_record(folder)["warnings"][0]


def test_a_training_without_a_manifest_is_kept(tmp_path):
    def train(folder):
        folder.mkdir()
        (folder / "weights").write_text("x")
        return pd.DataFrame(dict(epoch=[1]))

    run = begin(tmp_path)
    run.train_once("model", "history", train, lambda folder: None, columns=("epoch",))
    no_manifest(run.folder)
    assert (
        len(
            begin(tmp_path).train_once(
                "model", "history", lambda folder: 1 / 0, lambda folder: None, columns=("epoch",)
            )
        )
        == 1
    )


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -3, True, 10**400])
def test_counters_of_a_chunk_that_are_no_amounts_are_ignored(tmp_path, odd):
    def work(stats):
        return lambda a, b: stats.update(tokens=stats["tokens"] + b - a) or squares(a, b)

    stats = dict(tokens=0)
    run = begin(tmp_path)
    run.chunks("squares", 10, 5, work(stats), stats=stats)
    rewrite(
        sorted((run.folder / "chunks").glob("*.json"))[0],
        lambda manifest: manifest.update(counters=dict(tokens=odd)),
    )
    again = begin(tmp_path)
    again.chunks("squares", 10, 5, lambda a, b: 1 / 0, stats=dict(tokens=0))
    assert again.record["counters"] == dict(tokens=10)


@pytest.mark.parametrize("odd", [None, "x", [1], {}, True, float("nan"), -1])
def test_a_record_whose_sums_are_no_numbers_is_gone_on_with(tmp_path, odd):
    run = begin(tmp_path)
    run.count(seen=1)
    rewrite(
        run.folder / "run.json",
        lambda record: record.update(
            timings=dict(work=odd, total=odd), counters=dict(seen=odd), warnings=[odd, "kept"]
        ),
    )
    again = begin(tmp_path)
    with again.timed("work"):
        again.count(seen=2)
    again.done()
    record = read_record(run.folder)
    assert record["counters"] == dict(seen=2) and set(record["timings"]) == {"work", "total"}
    assert record["warnings"][-1] == "kept" and len(record["warnings"]) == 1 + (odd == "x")


def test_chunks_of_another_run_are_not_taken(tmp_path):
    begin(tmp_path).chunks("squares", 10, 4, squares)
    begin(tmp_path, seed=1).chunks("squares", 10, 4, lambda a, b: squares(a + 100, b + 100))
    ours, theirs = (
        next(tmp_path.glob(f"*/*/*/{run_id(PARAMS | dict(seed=seed), {})}/chunks")) for seed in (0, 1)
    )
    for p in theirs.iterdir():
        (ours / p.name).write_bytes(p.read_bytes())
    run = begin(tmp_path)
    assert run.chunks("squares", 10, 4, squares)["t"].column("y").to_pylist() == [i * i for i in range(10)]
    assert all("is not of this run" in w for w in run.record["warnings"]) and len(run.record["warnings"]) == 3


def test_full_disk_is_one_clear_line_and_keeps_what_was_finished(tmp_path, monkeypatch):
    run, calls = begin(tmp_path), []

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    def work(a, b):
        if a == 8:
            monkeypatch.setattr(pq, "write_table", full)
        return squares(a, b)

    with pytest.raises(OSError, match="the disk is full.*run again"):
        run.chunks("squares", 20, 4, work)
    monkeypatch.undo()
    begin(tmp_path).chunks("squares", 20, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [8, 12, 16] and not list(tmp_path.rglob("*.part*"))


def test_two_processes_on_one_run(tmp_path):
    p = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    p.stdout.readline()
    second = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path), "0"], capture_output=True, text=True
    )
    assert (
        second.returncode
        and "another process is working on this very run" in second.stderr.strip().splitlines()[-1]
    )
    assert p.poll() is None
    p.kill()
    p.wait()  # the first one is not disturbed


def test_read_only_folder_is_one_clear_line_and_keeps_what_was_finished(tmp_path):
    "The rights are lost in the middle of a run, and are missing when it is started again"
    says, fork = multiprocessing.get_context("fork").Queue(), multiprocessing.get_context("fork")

    def lose_rights():
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write everywhere
        else:
            [p.chmod(0o500) for p in tmp_path.rglob("*") if p.is_dir()]

    def work(a, b):
        if a == 8:
            lose_rights()
        return squares(a, b)

    def child():
        for _ in range(2):
            try:
                begin(tmp_path).chunks("squares", 20, 4, work)
            except OSError as error:
                says.put(str(error))

    p = fork.Process(target=child)
    p.start()
    lines = [says.get(timeout=60) for _ in range(2)]
    p.join()
    for d in [p for p in tmp_path.rglob("*") if p.is_dir()]:
        d.chmod(0o700)
    assert (
        "cannot write" in lines[0]
        and "everything finished before is kept" in lines[0]
        and not any("\n" in x for x in lines)
    )
    assert "choose another place with -p output_dir" in lines[1]
    calls = []
    begin(tmp_path).chunks("squares", 20, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [8, 12, 16] and not list(tmp_path.rglob("*.part*"))


def test_failure_is_recorded(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(ZeroDivisionError), run.timed("work"):
        1 / 0
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == "ZeroDivisionError: division by zero"


def test_interrupted_in_jupyter_it_goes_on_in_the_same_kernel(tmp_path):
    "What the stop button of JupyterLab does, then the cell again"
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    code = WORKER.replace("sys.argv[1]", repr(str(tmp_path))).replace("sys.argv[2]", "'.5'")
    try:
        client.execute(code, stop_on_error=False)  # else what is sent next may still be turned away
        deadline = time.time() + 60
        while len(list(tmp_path.rglob("chunks/*.json"))) < 3 and time.time() < deadline:
            time.sleep(0.02)
        manager.interrupt_kernel()
        said = client.get_shell_msg(timeout=60)["content"]
        assert said.get("ename") == "KeyboardInterrupt", said
        record = json.loads(next(tmp_path.rglob("run.json")).read_text())
        assert record["status"] == "started" and record["error"].startswith("KeyboardInterrupt")
        kept = len(list(tmp_path.rglob("chunks/*.json")))
        client.execute(code.replace("'.5'", "'0'"))
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    stored = read_run(next(tmp_path.rglob("run.json")).parent)
    assert stored["record"]["status"] == "done" and stored["squares"].y.tolist() == [
        i * i for i in range(200)
    ]
    assert f"40 chunks, {kept} of them from before" in next(tmp_path.rglob("run.log")).read_text()


def test_no_secret_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "very-secret-thing")
    run = begin(tmp_path, note="very-secret-thing")
    run.warn("very-secret-thing failed, and hf_" + "a" * 30)
    run.done()
    for name in ("run.json", "run.log"):
        text = (run.folder / name).read_text()
        assert "very-secret-thing" not in text and "a" * 30 not in text and "<SOME_API_KEY>" in text


def test_misspelt_parameter_names_the_closest():
    cell = dict(dataset="demo", seed=0)
    noted = note_parameters(cell)
    assert read_parameters(noted, cell | dict(seed=3)) == dict(dataset="demo", seed=3)
    with pytest.raises(ValueError, match="unknown parameter 'sede'; did you mean 'seed'"):
        read_parameters(noted, cell | dict(sede=3))


def made(tmp_path, dataset="demo", docs=None, **params):
    "A finished run of 01 with small tables"
    run = start_run(
        "01_stepwise_logits",
        dict(dataset=dataset, split="test", model="tiny") | params,
        labels=["joy", "none"],
        fingerprint=dict(docs=dataset + "d" * 64, model="m"),
        output_dir=tmp_path,
    )
    table = dict(
        doc_id=["a", "b"],
        text=["one secret text", "two"],
        gold=[["joy"], []],
        predicted=[["joy"], []],
        human=[[1.0], [0.0]],
        output=[" joy", " secret text says joy"],
        well_formed=[True, True],
        found_step=[True, True],
        prompt_sha256=["0" * 64] * 2,
    )
    run.save_table("docs", docs if docs is not None else pd.DataFrame(table))
    steps = dict(
        doc_id=["a", "b"],
        step=[0, 0],
        chosen=["joy", "none"],
        is_last=[True, True],
        logits=[[1.0, 0.0], [0.0, 1.0]],
        logsumexp=[1.0, 1.0],
        continue_logit=[0.0, 0.0],
        stop_logit=[1.0, 1.0],
    )
    run.save_table("steps", pd.DataFrame(steps))
    run.done()
    return run.folder


def fifo(p):
    p.unlink()
    os.mkfifo(p)


def folder_instead(p):
    p.unlink()
    p.mkdir()


def changed(**new):
    return lambda p: p.write_text(json.dumps(json.loads(p.read_text()) | new))


def lacking(key):
    return lambda p: p.write_text(
        json.dumps({k: v for k, v in json.loads(p.read_text()).items() if k != key})
    )


DAMAGE = {
    "empty": lambda p: p.write_text(""),
    "blank": lambda p: p.write_text(" \n"),
    "a list": lambda p: p.write_text("[1]"),
    "null": lambda p: p.write_text("null"),
    "a text": lambda p: p.write_text('"done"'),
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:200]),
    "not UTF-8": lambda p: p.write_bytes(b"\xff\xfe{}"),
    "nested": lambda p: p.write_text("[" * 100_000),
    "a huge number": lambda p: p.write_text("9" * 10_000),
    "no keys": lambda p: p.write_text("{}"),
    "schema": changed(schema_version=99),
    "schema is a list": changed(schema_version=[]),
    "parameters a list": changed(parameters=[1]),
    "labels null": changed(labels=None),
    "status a number": changed(status=3),
    "no status": lacking("status"),
    "no parameters": lacking("parameters"),
    "no fingerprint": lacking("fingerprint"),
    "no labels": lacking("labels"),
    "a folder": folder_instead,
    "a pipe": fifo,
    "n_docs a text": changed(n_docs="x"),
    "n_docs a list": changed(n_docs=[1]),
    "n_docs a table": changed(n_docs={}),
    "n_docs true": changed(n_docs=True),
    "n_docs a fraction": changed(n_docs=1.5),
    "n_docs nan": changed(n_docs=float("nan")),
    "n_docs huge": changed(n_docs=10**400),
    "n_docs negative": changed(n_docs=-1),
    "seed a text": changed(parameters=dict(seed="x")),
    "seed a table": changed(parameters=dict(seed={})),
    "seed nan": changed(parameters=dict(seed=float("nan"))),
    "a dangling link": lambda p: (p.unlink(), p.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_one_line_for_every_reader(tmp_path, damage):
    folder = made(tmp_path)
    DAMAGE[damage](folder / "run.json")
    calls = [
        lambda: read_run(folder),
        lambda: read_record(folder),
        lambda: compare_runs(folder, folder),
        lambda: write_logs(folder, tmp_path / "logs"),
    ]
    for call in calls:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            call()
        said = str(error.value)
        assert (
            "\n" not in said and str(folder / "run.json") in said and ("again" in said or "Errno" not in said)
        ), said
    if "link" in damage:
        return  # a listing does not see it
    with pytest.warns(UserWarning, match="it is passed over") as seen:
        assert find_runs(tmp_path) == []
    assert all("\n" not in str(w.message) for w in seen)
    index = index_runs(tmp_path)
    assert len(index) == 1 and index.problem.notna().all() and "\n" not in index.problem[0]


@pytest.mark.parametrize("damage", ["n_docs a text", "n_docs nan", "seed a text", "cut off"])
def test_readers_of_many_runs_pass_over_a_damaged_record(tmp_path, damage):
    good, bad = made(tmp_path), made(tmp_path, seed=1)
    DAMAGE[damage](bad / "run.json")
    index = index_runs(tmp_path)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        runs = plain_runs(index, read_record(good)["notebook"])
    assert list(comparable(runs).table.folder.map(Path)) == [good]
    assert any(str(bad) in str(w.message) for w in seen) or index.problem.notna().sum() == 1
    rewrite(
        good / "run.json",
        lambda record: record.update(counters=dict(tokens_in=9, tokens_forwarded=6), n_docs=3),
    )
    assert list(measured_speeds(tmp_path).asked) == [3]


def test_a_record_without_the_lesser_keys_is_read(tmp_path):
    folder = made(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps(
            {
                k: record[k]
                for k in (
                    "schema_version",
                    "notebook",
                    "status",
                    "run",
                    "parameters",
                    "fingerprint",
                    "labels",
                )
            }
            | dict(timings=3)
        )
    )
    assert (
        find_runs(tmp_path) == [folder]
        and read_record(folder)["timings"] == {}
        and read_record(folder)["warnings"] == []
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"PAR1"),
        lambda p: p.write_bytes(p.read_bytes()[:-20]),
        lambda p: p.write_text("x" * 500),
        folder_instead,
        fifo,
    ],
    ids=["empty", "head only", "cut off", "text", "a folder", "a pipe"],
)
def test_a_damaged_table_is_one_line(tmp_path, damage):
    folder = made(tmp_path)
    damage(folder / "docs.parquet")
    for call in (lambda: read_table(folder, "docs"), lambda: read_run(folder)):
        with pytest.raises(ValueError) as error:
            call()
        assert (
            "\n" not in str(error.value)
            and str(folder / "docs.parquet") in str(error.value)
            and "again" in str(error.value)
        )
    notes = gather(index_runs(tmp_path), "docs").notes
    assert len(notes) == 1 and "docs.parquet" in notes[0]


def test_the_step_viewer_says_what_is_wrong_with_a_run(tmp_path):
    for name, damage in dict(cut=lambda p: p.write_bytes(p.read_bytes()[:200]), pipe=fifo).items():
        folder = made(tmp_path / name)
        damage(folder / "run.json")
        said = refusal("05a_step_viewer", tmp_path, traces=str(folder))
        assert said.startswith("ValueError") and str(folder / "run.json") in said and "\n" not in said
    folder = made(tmp_path / "columns")
    pq.write_table(pa.table(dict(doc_id=["a"])), folder / "docs.parquet")
    assert "has no column 'gold'" in refusal("05a_step_viewer", tmp_path, traces=str(folder))
    for odd in (3, ["x"], 2.5, {"a": 1}):
        assert "\n" not in refusal("05a_step_viewer", tmp_path, traces=odd)


@pytest.mark.parametrize("place", [folder_instead, fifo], ids=["a folder", "a pipe"])
def test_a_run_does_not_start_where_its_record_is_no_file(tmp_path, place):
    run = begin(tmp_path)
    place(run.folder / "run.json")
    with pytest.raises(ValueError, match="is no file"):
        begin(tmp_path)


@pytest.mark.parametrize(
    "dataset, part",
    [
        ("demo", "demo"),
        ("demo.csv", "demo.csv"),
        ("x/GoEmotions.csv", "GoEmotions.csv"),
        ("./demo", "own-demo"),
        ("/demo", "own-demo"),
        ("demo/", "own-demo"),
        ("owner/name", "owner--name"),
        ("a b.JSONL", "a-b.JSONL"),
        ("mfrc.tsv", "mfrc.tsv"),
        ("MFRC", "MFRC"),
    ],
)
def test_an_own_file_never_stands_among_runs_of_a_registered_data_set(dataset, part):
    assert run_folder("01", dict(dataset=dataset, model="tiny"), {}, "out").parts[2] == part
    shown = index_name(dict(dataset=dataset))
    assert (shown in DATASETS) == (dataset in DATASETS)


SECRET = "very-secret-thing-17"


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@host/v1",
        f"http://host/v1?key={SECRET}",
        f"http://host/v1?a=b&api_key={SECRET}&x=1",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"authorization: Basic {SECRET}",
        f"x-api-key: {SECRET}",
        f"api-key={SECRET}",
        f"Bearer {SECRET}",
    ],
)
def test_keys_in_addresses_and_headers_are_hidden(text):
    shown = hide_secrets(dict(a=[text], b={text: 1}))
    assert SECRET not in json.dumps(shown) and "hidden" in json.dumps(shown)


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/@me and mail a@b.org",
        "basic emotions.",
        "a bearer of news",
        "key = joy",
        "joy? fear & love",
    ],
)
def test_plain_text_is_not_hidden(text):
    assert hide_secrets(text) == text


def test_half_surrogates_are_written_visibly(tmp_path):
    odd = "half \ud83d pair"
    run = begin(tmp_path, note=odd)
    run.warn(odd)
    run.log(odd)
    run.count(**{odd: 1})
    run.save_table(
        "t",
        pd.DataFrame(
            dict(text=np.array([odd, None], dtype=object), names=[[odd], []], n=[1, 2]), dtype=object
        ).astype(dict(n=int)),
    )
    with pytest.raises(ValueError), run.timed("work"):
        raise ValueError(odd)
    run.done()
    stored = read_run(run.folder)
    assert (
        stored["t"].text[0] == "half \\ud83d pair"
        and list(stored["t"].names[0]) == ["half \\ud83d pair"]
        and stored["t"].n.tolist() == [1, 2]
    )
    assert "half \\ud83d pair" in (run.folder / "run.log").read_text() and stored["record"]["warnings"] == [
        "half \\ud83d pair"
    ]


ROOT = Path(__file__).resolve().parent.parent
PRIVATE = ["secret text", "patients-of-clinic", "clinicroom", "/srv/somebody"]


@pytest.mark.parametrize(
    "dataset, more",
    [
        ("/srv/somebody/patients-of-clinic/GoEmotions.csv", {}),
        ("patients-of-clinic.csv", {}),
        ("GoEmotions.csv", dict(data_dir="/srv/somebody/patients-of-clinic")),
        ("./patients-of-clinic", {}),
        ("/srv/somebody/patients-of-clinic/demo", {}),
        ("demo", dict(data_dir="/srv/somebody/patients-of-clinic/demo")),
        ("GoEmotions", dict(data_dir="clinicroom/GoEmotions")),
        (
            "SemEval",
            dict(
                test_ids="/srv/somebody/patients-of-clinic.txt",
                template="/srv/somebody/patients-of-clinic.yaml",
                cot="patients-of-clinic.jsonl",
            ),
        ),
        (
            "SemEval",
            dict(
                model="/srv/somebody/models/mine",
                traces="clinicroom",
                join="clinicroom,patients-of-clinic.csv",
                backend_options=dict(base_url="http://clinicroom:80/v1", tokenizer="/srv/somebody/t"),
            ),
        ),
        (
            "GoEmotions",
            dict(
                options=dict(splits="clinicroom", clustering="none", file="/srv/somebody/x.json"),
                note="prompt with\nsecret text inside",
            ),
        ),
        ("owner/patients-of-clinic", {}),
    ],
)
def test_what_leaves_the_machine(tmp_path, dataset, more):
    folder = made(tmp_path / "here", dataset, **more)
    run = start_run(
        "01_stepwise_logits",
        read_record(folder)["parameters"],
        labels=["joy", "none"],
        fingerprint=read_record(folder)["fingerprint"],
        output_dir=tmp_path / "here",
    )
    run.warn("patients-of-clinic: row 3 holds secret text")
    run.save_table("extra", pd.DataFrame(dict(x=["secret text"])))
    run.done()
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    files = [f for f in (tmp_path / "there").rglob("*") if f.is_file()]
    assert {f.name for f in files} == {"run.json", "docs.parquet", "steps.parquet"}
    all_text = " ".join(
        [
            *(str(f.relative_to(tmp_path / "there")) for f in files),
            (new / "run.json").read_text(),
            *(
                pd.read_parquet(f).to_json() + str(pq.read_schema(f).metadata)
                for f in files
                if f.suffix == ".parquet"
            ),
        ]
    )
    assert not [w for w in PRIVATE if w in all_text]
    back = read_run(new)
    assert (
        back["docs"].text.isna().all()
        and back["docs"].output[0] == " joy"
        and pd.isna(back["docs"].output[1])
        and "prompt_sha256" not in back["docs"]
    )
    assert back["docs"].doc_id.tolist() == back["steps"].doc_id.tolist() and [
        list(g) for g in back["docs"].gold
    ] == [["joy"], []]
    assert (back["docs"].doc_id.tolist() == ["a", "b"]) == (dataset in DATASETS)
    index = index_runs(tmp_path / "there")
    assert index.problem.isna().all() and (index.dataset[0].split(" ")[0] in DATASETS) == (
        dataset in DATASETS
    )


def test_our_own_documents_may_be_given_away(tmp_path):
    made(tmp_path / "here")
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    assert read_table(new, "docs").text.tolist() == ["one secret text", "two"]


TEXT = "Patient_Schmidt_was_admitted"
LEAKS = {
    "a model's folder": dict(model="/srv/somebody/clinicroom"),
    "a model's name": dict(model="clinicroom/mine"),
    "up": dict(model=".."),
    "an encoder's name": dict(encoder="clinicroom/enc"),
    "an encoder's folder": dict(encoder="/srv/clinicroom"),
    "a word as encoder": dict(encoder="clinicroom"),
    "a name of an option": dict(options={"/srv/clinicroom": 1}),
    "nested": dict(options=dict(preprocess={"clinicroom": [{"clinicroom": 1}, "clinicroom"]})),
    "an option": dict(options=dict(text="clinicroom notes")),
    "chat": dict(chat_options=dict(date_string="clinicroom")),
    "format": dict(label_format="json-clinicroom"),
    "template": dict(template=dict(task="clinicroom", demo="{text} clinicroom")),
    "methods": dict(methods="hard,clinicroom+platt"),
    "unknown parameter": dict(clinicroom="clinicroom"),
    "words": {
        k: TEXT
        for k in (
            "note",
            "shots",
            "split",
            "sampling",
            "quantization",
            "layers",
            "start",
            "trained",
            "push_to_hub",
        )
    },
}


@pytest.mark.parametrize("leak", LEAKS)
def test_own_words_are_published_as_digests(tmp_path, leak):
    made(tmp_path / "here", "SemEval", **LEAKS[leak])
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    text = str(new.relative_to(tmp_path / "there")) + (new / "run.json").read_text()
    assert (
        not [w for w in (*PRIVATE, TEXT) if w in text]
        and new.parts[-3] == "SemEval"
        and ".." not in new.parts
    )


ADDRESSES = [
    f"https://me:{SECRET}@clinicroom.org/v1",
    f"https://{SECRET}@clinicroom.org/v1",
    f"https://clinicroom.org/v1?api_key={SECRET}",
    f"https://clinicroom.org/v1?a=b&token={SECRET}#x",
    f"https://clinicroom.org/{SECRET}/v1",
    f"http://clinicroom.org/v1;key={SECRET}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_and_no_key_is_published_wherever_a_record_holds_it(tmp_path, address):
    folder = made(tmp_path / "here")
    record = json.loads((folder / "run.json").read_text())  # as an earlier version may have left it
    record["parameters"] |= {name: address for name in ("model", "note", "push_to_hub", "dataset", "join")}
    record["parameters"] |= dict(
        backend_options=dict(base_url=address),
        chat_options=dict(url=address),
        options={address: address},
        template=dict(instruction=address),
    )
    record["fingerprint"] |= {"model": f"{address} chat 1", address: [address, {address: address}]}
    record |= dict(
        warnings=[address],
        error=address,
        counters={address: 3},
        timings={address: 1.5},
        device=address,
        git_commit=address,
        versions={address: "1", "torch": address},
    )
    (folder / "run.json").write_text(json.dumps(record))
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    text = str(new.relative_to(tmp_path / "there")) + (new / "run.json").read_text()
    assert SECRET not in text and "clinicroom" not in text


PATHS = {
    "absolute": "/srv/clinicroom/x",
    "cache": str(Path.home() / ".cache" / "huggingface" / "hub" / "models--clinicroom"),
    "home": "~/clinicroom",
    "above": "../clinicroom",
    "windows": r"C:\clinicroom",
    "file": "file:" + "///clinicroom",
    "list": ["/srv/clinicroom"],
    "table": {"/srv/clinicroom": ["/srv/clinicroom"]},
}


@pytest.mark.parametrize("value", PATHS)
def test_no_path_is_published_whatever_the_parameter(tmp_path, value):
    folder = made(tmp_path / "here")
    record = json.loads((folder / "run.json").read_text())
    record["parameters"] |= {
        name: PATHS[value] for name in PARAMETERS if name != "seed"
    }  # a seed that is no number is refused before
    record["fingerprint"] |= {name: PATHS[value] for name in ("docs", "prompts", "files", "joined")}
    (folder / "run.json").write_text(json.dumps(record))
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    text = (
        str(new.relative_to(tmp_path / "there"))
        + (new / "run.json").read_text()
        + "".join(str(pq.read_table(p).to_pylist()) for p in new.glob("*.parquet"))
    )
    assert (
        "clinicroom" not in text
        and "/srv" not in text
        and str(Path.home()) not in text
        and "secret" not in text
    )


def test_the_digests_of_files_are_published_under_their_names(tmp_path):
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="demo", model="tiny"),
        fingerprint=dict(
            docs="d", files={"cot": "a" * 64, "/srv/clinicroom": "b" * 64, "join": "clinicroom"}
        ),
        output_dir=tmp_path / "here",
    )
    run.done()
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    shown = read_record(new)["fingerprint"]["files"]
    assert shown["cot"] == "a" * 64 and "clinicroom" not in json.dumps(shown)


@pytest.mark.parametrize("data_dir", ["/srv/clinicroom", ".", Path("x")], ids=["absolute", "here", "a path"])
@pytest.mark.parametrize("dataset", ["demo", "Boxes"])
def test_texts_of_ones_own_folder_stay_at_home(tmp_path, dataset, data_dir):
    made(tmp_path / "here", dataset, data_dir=str(data_dir))
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    docs = read_table(new, "docs")
    assert (
        docs.text.isna().all()
        and "secret" not in docs.to_json()
        and read_record(new)["parameters"]["data_dir"] is None
    )


def test_public_words_are_published_as_they_are(tmp_path):
    p = dict(
        model="tiny",
        encoder="sentence-transformers/all-mpnet-base-v2",
        options=dict(preprocess="twitter", language="english"),
        label_format="json",
        methods="hard,max_over_generations+platt,binary+order5",
        calibrations="platt",
        template="pipeline",
        split="dev+test",
        layers=[0, 1],
        decoding="free",
        chat=False,
        ratio=0.5,
        cot=None,
    )
    made(tmp_path / "here", "SemEval", **p)
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    shown = read_record(new)["parameters"]
    assert {k: shown[k] for k in p} == p


@pytest.mark.parametrize(
    "digest, named",
    [("a" * 40, True), ("a" * 40 + "+" + "b" * 40, True), ("a" * 64, False), ("m", False), ("", False)],
)
def test_a_model_of_the_hub_is_named_where_the_record_holds_its_commit(tmp_path, digest, named):
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="demo", model="owner/name"),
        fingerprint=dict(docs="d", model=digest),
        output_dir=tmp_path / "here",
    )
    run.done()
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    assert (read_record(new)["parameters"]["model"] == "owner/name") == named and (
        new.parts[-2] == "owner--name"
    ) == named


def test_only_known_columns_and_short_ids_are_published(tmp_path):
    ids = ["/srv/clinicroom/1.txt", "clinicroom was here"]
    table = dict(
        doc_id=ids,
        text=["secret text"] * 2,
        gold=[["joy"], ["secret text"]],
        predicted=[["joy"], []],
        clinicroom_age=[81, 82],
        clinicroom_note=["x", "y"],
        codes=[[5, 6], [7, 8]],
        output=["joy", "none"],
        well_formed=[True, True],
        finish_reason=["stop", "secret text"],
        logits=[[1.0], [2.0]],
    )
    made(tmp_path / "here", "SemEval", docs=pd.DataFrame(table))
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    docs = read_table(new, "docs")
    assert not [w for w in PRIVATE if w in docs.to_json()] and set(docs) == {
        "doc_id",
        "text",
        "gold",
        "predicted",
        "output",
        "well_formed",
        "finish_reason",
    }
    assert (
        docs.doc_id.str.fullmatch("own-[0-9a-f]{8}").all()
        and docs.doc_id.nunique() == 2
        and list(docs.gold[0]) == ["joy"]
    )


def test_ids_of_ones_own_cannot_be_guessed(tmp_path):
    for note in ("x", "y"):
        made(tmp_path / "here", "patients.csv", note=note)
    index = index_runs(tmp_path / "here")
    first, second = publish_runs(index, tmp_path / "there")
    ids, name = read_table(first, "docs").doc_id.tolist(), read_record(first)["parameters"]["dataset"]
    assert ids == read_table(second, "docs").doc_id.tolist() == read_table(first, "steps").doc_id.tolist()
    assert not {
        hashlib.sha256(f"{before}{i}".encode()).hexdigest()[:8] for i in "ab" for before in ("", f"{name} ")
    } & set(ids)
    secret = tmp_path / "here" / ".publish_secret"
    assert secret.stat().st_mode & 0o777 == 0o600 and not list((tmp_path / "there").rglob(".publish_secret"))
    assert not [
        p for p in (tmp_path / "there").rglob("*") if p.is_file() and secret.read_bytes() in p.read_bytes()
    ]
    again = publish_runs(index, tmp_path / "there")[0]  # the same secret
    assert read_table(again, "docs").doc_id.tolist() == ids
    twice, _ = publish_runs(index_runs(tmp_path / "there"), tmp_path / "twice")
    assert (
        read_table(twice, "docs").doc_id.tolist() == ids
        and not (tmp_path / "there" / ".publish_secret").exists()
    )
    secret.unlink()
    assert not set(read_table(publish_runs(index, tmp_path / "new")[0], "docs").doc_id) & set(ids)
    secret.write_text("short")
    with pytest.raises(ValueError, match="must hold the 64 hex digits"):
        publish_runs(index, tmp_path / "new")


@pytest.mark.parametrize("place", ["", ".", "inside", "01_stepwise_logits", "..", "link"])
def test_runs_are_never_published_over_themselves(tmp_path, place):
    folder = made(tmp_path / "around" / "here", "SemEval")
    (tmp_path / "around" / "link").symlink_to(tmp_path / "around" / "here")
    before = {f: f.read_bytes() for f in folder.iterdir() if f.is_file()}
    with pytest.raises(ValueError, match="texts would be lost") as error:
        publish_runs(
            index_runs(tmp_path / "around" / "here"),
            tmp_path / "around" / "link" if place == "link" else tmp_path / "around" / "here" / place,
        )
    assert "\n" not in str(error.value) and all(f.read_bytes() == b for f, b in before.items())


def test_another_run_at_the_target_is_kept(tmp_path):
    made(tmp_path / "here")
    kept = made(tmp_path / "there")
    with pytest.raises(ValueError, match="no published run"):
        publish_runs(index_runs(tmp_path / "here"), tmp_path / "there")
    assert read_table(kept, "docs").output.notna().all()
    for _ in range(2):
        publish_runs(index_runs(tmp_path / "here"), tmp_path / "new")


def test_a_bad_target_or_table_is_one_line(tmp_path):
    made(tmp_path / "here")
    (tmp_path / "file").write_text("x")
    for target, tables, says in (
        (tmp_path / "file", None, "is a file"),
        (tmp_path / "file" / "x", None, "is a file|cannot be looked up"),
        (" ", None, "blank"),
        (tmp_path / "new", ["doc"], "did you mean 'docs'"),
        (tmp_path / "new", "extra", "unknown table"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            publish_runs(index_runs(tmp_path / "here"), target, tables)
        assert "\n" not in str(error.value)
    (new,) = publish_runs(index_runs(tmp_path / "here"), tmp_path / "new", "docs")
    assert (new / "docs.parquet").exists() and not (new / "steps.parquet").exists()


def test_reference_runs_published_again_are_the_same(tmp_path):
    index = index_runs(ROOT / "outputs" / "reference")
    again = index_runs(tmp_path) if publish_runs(index, tmp_path) else None
    assert index[["notebook", "dataset", "docs", "model", "n_docs", "labels", "same_docs"]].equals(
        again[["notebook", "dataset", "docs", "model", "n_docs", "labels", "same_docs"]]
    )
    for old, new in zip(index.folder, again.folder):
        for path in Path(old).glob("*.parquet"):  # answers that are more than a list of labels are null now
            before, after = (
                pd.read_parquet(p).drop(columns="output", errors="ignore")
                for p in (path, Path(new) / path.name)
            )
            pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize(
    "damage",
    [fifo, folder_instead, lambda p: p.write_bytes(b"PAR1")],
    ids=["a pipe", "a folder", "head only"],
)
def test_readers_of_other_chapters_refuse_a_damaged_table_in_one_line(tmp_path, damage):
    train = load_docs("demo", "train")
    folder = made(tmp_path)
    damage(folder / "docs.parquet")
    os.mkfifo(folder / "dists.parquet")
    for call in (
        lambda: perturb_labels(train, str(folder)),
        lambda: stored_traces(folder, train),
        lambda: join_dists(str(folder), train),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            call()
        assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_damaged_record_as_traces_is_one_line(tmp_path):
    for name in ("empty", "a list", "cut off", "parameters a list", "no fingerprint", "a pipe", "a folder"):
        folder = made(tmp_path / name.replace(" ", "-"))
        DAMAGE[name](folder / "run.json")
        for call in (
            lambda: inherit_parameters(folder, {}, dict(seen={})),
            lambda: check_weights(folder, dict(model="x")),
            lambda: stored_traces(folder, load_docs("demo", "train")),
        ):
            with pytest.raises(ValueError) as error:
                call()
            assert "\n" not in str(error.value) and str(folder / "run.json") in str(error.value)


class Bar(tqdm):
    "A progress bar that is kept"

    made = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Bar.made.append(self)


def test_what_was_there_already_is_no_part_of_the_speed(tmp_path, monkeypatch):
    def stops(a, b):
        if a == 8:
            raise KeyboardInterrupt
        return squares(a, b)

    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path).chunks("squares", 12, 4, stops)
    monkeypatch.setattr("mlcllm.runs.tqdm", Bar)
    begin(tmp_path).chunks("squares", 12, 4, squares)
    bar = Bar.made.pop()
    assert (bar.initial, bar.n, bar.total) == (8, 12, 12)


def test_the_progress_bar_moves_within_a_chunk(tmp_path, monkeypatch):
    "in whole documents, to the end of the chunk and no further; a chunk that is there already is one step"
    seen = []

    class Bar(tqdm):
        def update(self, n=1):
            super().update(n)
            seen.append(self.n)

    class Asked:
        on_progress, stats = None, dict(prompts=0)

    engine = Asked()

    def compute(start, stop):
        for _ in range(stop - start):
            engine.on_progress(2)
        engine.on_progress(5)  # more than was expected
        return squares(start, stop)

    monkeypatch.setattr("mlcllm.runs.tqdm", Bar)
    begin(tmp_path).chunks("squares", 10, 4, compute, engine=engine, prompts_per_item=2)
    assert seen == [1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 8, 8, 9, 10, 10, 10] and engine.on_progress is None
    seen.clear()
    begin(tmp_path).chunks("squares", 10, 4, compute, engine=engine, prompts_per_item=2)
    assert seen == [4, 8, 10]
