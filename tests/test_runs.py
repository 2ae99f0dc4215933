"Runs: one folder per identity, nothing lost when a run dies, one clear line when it cannot go on."
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcllm.data import note_parameters, read_parameters
from mlcllm.runs import read_run, run_id, start_run

PARAMS = dict(dataset="numbers", model="none", seed=0)
WORKER = """
import sys, time, pyarrow as pa
from mlcllm.runs import start_run
run = start_run("test", dict(dataset="numbers", model="none", seed=0), output_dir=sys.argv[1])
print(run.folder, flush=True)
def work(a, b): time.sleep(float(sys.argv[2])); return dict(t=pa.table(dict(x=list(range(a, b)), y=[i*i for i in range(a, b)])))
with run.timed("work"): tables = run.chunks("squares", 200, 5, work)
run.save_table("squares", tables["t"]); run.done()
"""


def squares(a, b): return dict(t=pa.table(dict(x=list(range(a, b)), y=[i * i for i in range(a, b)])))


def begin(tmp_path, **params): return start_run("test", PARAMS | params, output_dir=tmp_path)


@pytest.mark.parametrize("change, same", [({}, True), (dict(gpu=3), True), (dict(data_dir="x"), True), (dict(output_dir="y"), True), (dict(seed=1), False), (dict(shots=None), False)])
def test_identity(change, same):
    assert (run_id(PARAMS | change, dict(docs="a")) == run_id(PARAMS, dict(docs="a"))) == same
    assert run_id(PARAMS, dict(docs="b")) != run_id(PARAMS, dict(docs="a"))


def test_killed_at_50_random_moments_ends_like_an_uninterrupted_run(tmp_path):
    "Every other child is killed while it starts or reads, the others soon after their first new chunk: while they compute or write the next ones"
    rng, fork = random.Random(0), multiprocessing.get_context("fork")
    def large(a, b): time.sleep(.01); return dict(t=pa.table(dict(x=np.repeat(np.arange(a, b), 2000), y=np.random.default_rng(a).random(2000 * (b - a)))))
    def work(folder):
        run = start_run("test", PARAMS, output_dir=folder)
        with run.timed("work"): tables = run.chunks("noise", 1200, 2, large)
        run.save_table("noise", tables["t"]); run.done()
    stored = lambda: len(list((tmp_path / "killed").glob("*/*/*/*/chunks/*.json")))
    for kill in range(50):
        before, p = stored(), fork.Process(target=work, args=(tmp_path / "killed",)); p.start()
        if kill % 2: time.sleep(rng.uniform(0, .3))
        else:
            while stored() == before and p.is_alive(): time.sleep(.002)
            time.sleep(rng.uniform(0, .05))
        p.kill(); p.join()
        assert p.exitcode == -signal.SIGKILL, f"it ended before kill {kill}"
    for folder in ("killed", "whole"):
        p = fork.Process(target=work, args=(tmp_path / folder,)); p.start(); p.join()
        assert p.exitcode == 0
    killed, whole = (next((tmp_path / f).glob("*/*/*/*")) for f in ("killed", "whole"))
    assert read_run(killed)["record"]["status"] == "done" and read_run(killed)["noise"].equals(read_run(whole)["noise"])
    assert int((killed / "run.log").read_text().split("600 chunks, ")[1].split()[0]) > 20          # earlier chunks were used
    assert not [p for p in killed.rglob("*") if ".part" in p.name], "half-written files are left"


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b""], ids=["truncated", "a bit flipped", "emptied"])
def test_damaged_chunk_is_computed_again_and_said_so(tmp_path, damage):
    begin(tmp_path).chunks("squares", 10, 4, squares)
    victim = next(tmp_path.glob("*/*/*/*/chunks/squares-0000004*.parquet")); victim.write_bytes(damage(victim.read_bytes()))
    again, calls = begin(tmp_path), []
    out = again.chunks("squares", 10, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [4] and out["t"].column("y").to_pylist() == [i * i for i in range(10)]
    assert "damaged" in again.record["warnings"][0]


def test_chunks_of_another_run_are_not_taken(tmp_path):
    begin(tmp_path).chunks("squares", 10, 4, squares); begin(tmp_path, seed=1).chunks("squares", 10, 4, lambda a, b: squares(a + 100, b + 100))
    ours, theirs = (next(tmp_path.glob(f"*/*/*/{run_id(PARAMS | dict(seed=seed), {})}/chunks")) for seed in (0, 1))
    for p in theirs.iterdir(): (ours / p.name).write_bytes(p.read_bytes())
    run = begin(tmp_path)
    assert run.chunks("squares", 10, 4, squares)["t"].column("y").to_pylist() == [i * i for i in range(10)]
    assert all("is not of this run" in w for w in run.record["warnings"]) and len(run.record["warnings"]) == 3


def test_full_disk_is_one_clear_line_and_keeps_what_was_finished(tmp_path, monkeypatch):
    run, calls = begin(tmp_path), []
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, "No space left on device")
    def work(a, b):
        if a == 8: monkeypatch.setattr(pq, "write_table", full)
        return squares(a, b)
    with pytest.raises(OSError, match="the disk is full.*run again"): run.chunks("squares", 20, 4, work)
    monkeypatch.undo()
    begin(tmp_path).chunks("squares", 20, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [8, 12, 16] and not list(tmp_path.rglob("*.part*"))


def test_two_processes_on_one_run(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), "60"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    p.stdout.readline()
    second = subprocess.run([sys.executable, "-c", WORKER, str(tmp_path), "0"], capture_output=True, text=True)
    assert second.returncode and "another process is working on this very run" in second.stderr.strip().splitlines()[-1]
    assert p.poll() is None; p.kill(); p.wait()                                   # the first one is not disturbed


def test_read_only_folder_is_one_clear_line_and_keeps_what_was_finished(tmp_path):
    "The rights are lost in the middle of a run, and are missing when it is started again"
    says, fork = multiprocessing.get_context("fork").Queue(), multiprocessing.get_context("fork")
    def lose_rights():
        if os.geteuid() == 0: os.setuid(65534)                                    # root may write everywhere
        else: [p.chmod(0o500) for p in tmp_path.rglob("*") if p.is_dir()]
    def work(a, b):
        if a == 8: lose_rights()
        return squares(a, b)
    def child():
        for _ in range(2):
            try: begin(tmp_path).chunks("squares", 20, 4, work)
            except OSError as error: says.put(str(error))
    p = fork.Process(target=child); p.start(); lines = [says.get(timeout=60) for _ in range(2)]; p.join()
    for d in [p for p in tmp_path.rglob("*") if p.is_dir()]: d.chmod(0o700)
    assert "cannot write" in lines[0] and "everything finished before is kept" in lines[0] and not any("\n" in x for x in lines)
    assert "choose another place with -p output_dir" in lines[1]
    calls = []
    begin(tmp_path).chunks("squares", 20, 4, lambda a, b: calls.append(a) or squares(a, b))
    assert calls == [8, 12, 16] and not list(tmp_path.rglob("*.part*"))


def test_failure_is_recorded(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(ZeroDivisionError), run.timed("work"): 1 / 0
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == "ZeroDivisionError: division by zero"


def test_interrupted_in_jupyter_it_goes_on_in_the_same_kernel(tmp_path):
    "What the stop button of JupyterLab does, then the cell again"
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3")
    code = WORKER.replace("sys.argv[1]", repr(str(tmp_path))).replace("sys.argv[2]", "'.5'")
    try:
        client.execute(code, stop_on_error=False) # else what is sent next may still be turned away
        deadline = time.time() + 60
        while len(list(tmp_path.rglob("chunks/*.json"))) < 3 and time.time() < deadline: time.sleep(.02)
        manager.interrupt_kernel()
        said = client.get_shell_msg(timeout=60)["content"]
        assert said.get("ename") == "KeyboardInterrupt", said
        record = json.loads(next(tmp_path.rglob("run.json")).read_text())
        assert record["status"] == "started" and record["error"].startswith("KeyboardInterrupt")
        kept = len(list(tmp_path.rglob("chunks/*.json")))
        client.execute(code.replace("'.5'", "'0'"))
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"
    finally: client.stop_channels(); manager.shutdown_kernel(now=True)
    stored = read_run(next(tmp_path.rglob("run.json")).parent)
    assert stored["record"]["status"] == "done" and stored["squares"].y.tolist() == [i * i for i in range(200)]
    assert f"40 chunks, {kept} of them from before" in next(tmp_path.rglob("run.log")).read_text()


def test_no_secret_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "very-secret-thing")
    run = begin(tmp_path, note="very-secret-thing"); run.warn("very-secret-thing failed, and hf_" + "a" * 30); run.done()
    for name in ("run.json", "run.log"):
        text = (run.folder / name).read_text()
        assert "very-secret-thing" not in text and "a" * 30 not in text and "<SOME_API_KEY>" in text


def test_misspelt_parameter_names_the_closest():
    cell = dict(dataset="demo", seed=0)
    noted = note_parameters(cell)
    assert read_parameters(noted, cell | dict(seed=3)) == dict(dataset="demo", seed=3)
    with pytest.raises(ValueError, match="unknown parameter 'sede'; did you mean 'seed'"): read_parameters(noted, cell | dict(sede=3))
