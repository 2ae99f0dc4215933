"""Grids as a user runs them: to the end, killed at random moments and gone on with, twice at once, with jobs
that fail.
"""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from rich.console import Console

from mlcllm.runs import start_run
from mlcllm.sweeps import (
    _same_asking,
    _states,
    _write_plan,
    check_jobs,
    finished_folder,
    job_states,
    main,
    plan,
    print_plan,
    read_grid,
    read_plan,
    run_states,
    signatures,
    snakemake_command,
    stale_jobs,
    sweep_dir,
)

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("MLCLLM_KILLS", "2"))
GRID = dict(
    datasets=["demo"],
    models=["tiny"],
    seeds=[0, 1],
    parameters=dict(n_docs=6),
    jobs={"01_stepwise_logits": {}},
)


def grid(tmp_path, name="grid.yaml", **changes):
    path = tmp_path / name
    path.write_text(yaml.safe_dump(GRID | changes))
    return path


def start(path, out, cores=2):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlcllm.sweeps",
            "run",
            str(path),
            "--output-dir",
            str(out),
            "--cores",
            str(cores),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(path, out):
    said, _ = (p := start(path, out)).communicate(timeout=900)
    return p.returncode, said


def below(pid):  # the processes of a sweep that live, by what they do
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    kinds = []
    for p in family:
        try:
            line = " ".join(p.cmdline())
        except psutil.Error:
            continue
        kinds.append(
            (
                "kernel"
                if "ipykernel" in line
                else "worker"
                if "mlcllm.sweeps job" in line and "python" in line.split()[0]
                else "other",
                p,
            )
        )
    return kinds


def tables(out):  # of all finished runs, by what was asked
    found = {}
    for i, j in read_plan(out).items():
        folder = Path(finished_folder(out, i))
        found[j.seed] = {t: pd.read_parquet(folder / f"{t}.parquet") for t in ("docs", "steps")}
    return found


# a kernel or a worker, as soon as there is one; is the sweep still there?
def kill_one(sweep, victim, chance):
    while sweep.poll() is None and not (alive := [p for kind, p in below(sweep.pid) if kind == victim]):
        time.sleep(0.05)
    if sweep.poll() is None:
        chance.choice(alive).kill()
    return sweep.poll() is None


def strike(
    sweep,
    victim,
    chance,
    most,
    # within `most` seconds, kill one part of a sweep at a random moment, and all of it a little later; was it
    # at work?
):
    def wait(seconds):
        deadline = time.time() + seconds
        while time.time() < deadline and sweep.poll() is None:
            time.sleep(0.05)

    wait(chance.uniform(1, most))
    if victim != "driver" and kill_one(sweep, victim, chance):
        wait(chance.uniform(0, 8))
    at_work = sweep.poll() is None
    if at_work:
        os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    return at_work


@pytest.mark.timeout(7200)
def test_killed_and_gone_on_with_equals_uninterrupted(tmp_path):
    n = KILLS + 1
    path = grid(tmp_path, seeds=list(range(n)))
    whole = tmp_path / "whole"
    broken = tmp_path / "broken"
    hits = 0
    began = time.time()
    code, said = finish(path, whole)
    assert code == 0, said[-3000:]
    half, began = (time.time() - began) / 2, time.time()
    code, said = finish(path, whole)
    assert code == 0 and f"{n} done, 0 left" in said
    print(f"a second call took {time.time() - began:.1f} s")
    chance = random.Random(0)
    for k in range(KILLS):
        victim = ("kernel", "driver", "worker")[k % 3]
        hits += strike(start(path, broken), victim, chance, min(half, 30))
        print(k, victim, job_states(broken).state.value_counts().to_dict(), flush=True)
    code, said = finish(path, broken)
    assert code == 0 and hits, said[-3000:]
    print(f"{hits} of {KILLS} kills met a sweep at work")
    a, b = tables(whole), tables(broken)
    assert set(a) == set(b) == set(range(n))
    for seed in a:
        for t in a[seed]:
            pd.testing.assert_frame_equal(a[seed][t], b[seed][t])
    assert (
        not list(broken.rglob("*.part*"))
        and set(job_states(broken).state) == {"done"}
        and not list((sweep_dir(broken) / "failed").glob("*"))
    )


@pytest.mark.timeout(1200)
def test_a_kernel_and_a_worker_that_die_are_told_apart(tmp_path):
    path, out = grid(tmp_path, seeds=[0]), tmp_path / "out"
    for victim, says in (("kernel", "Kernel died"), ("worker", "Snakemake ended with")):
        sweep = start(path, out)
        assert kill_one(sweep, victim, random)
        said = sweep.communicate(timeout=600)[0]
        assert sweep.returncode and says in said, said[-3000:]


@pytest.fixture
def small_disk(tmp_path):  # of 64 MB
    place = tmp_path / "disk"
    place.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)], capture_output=True
        ).returncode
    ):
        pytest.skip("no disk may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.timeout(1200)
def test_a_disk_that_fills_and_one_that_is_read_only(tmp_path, small_disk):
    path, out, ballast = grid(tmp_path, seeds=[0]), small_disk / "out", small_disk / "ballast"
    sweep = start(path, out, cores=1)
    while sweep.poll() is None and not list(out.glob("01_stepwise_logits/*/*/*/chunks/*.parquet")):
        time.sleep(0.02)
    with pytest.raises(OSError, match="No space left"), open(ballast, "wb") as f:
        while True:
            f.write(bytes(4096))
            f.flush()
    said = sweep.communicate(timeout=300)[0]
    assert (
        sweep.returncode and "No space left on device" in said and "make room and call this again" in said
    ), said[-3000:]
    code, said = finish(path, out)
    assert code == 1 and said.count("\n") == 1 and "make room, or give this one another output_dir" in said
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, said = finish(path, out)
    assert (
        code == 1
        and said.count("\n") == 1
        and ("cannot write below" in said or "nothing may be written to" in said)
    )
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    code, said = finish(path, out)
    assert code == 0 and set(job_states(out).state) == {"done"} and not list(out.rglob("*.part*")), said[
        -3000:
    ]
    assert len(tables(out)[0]["docs"]) == 6


@pytest.mark.timeout(1200)
def test_a_job_that_fails_keeps_its_notebook_and_the_others_go_on(tmp_path):
    out = tmp_path / "out"
    path = grid(tmp_path, datasets={"demo": {}, "Boxes": {"options": {"n_boxes": 0}}}, seeds=[0])
    code, said = finish(path, out)
    states = job_states(out).set_index("dataset")
    assert code != 0 and states.state.to_dict() == {"demo": "done", "Boxes": "failed"}, said[-2000:]
    assert "n_boxes" in states.note["Boxes"] and "Boxes" in said
    (kept,) = (sweep_dir(out) / "failed").glob("*.ipynb")
    assert any(
        o["output_type"] == "error"
        for c in json.loads(kept.read_text())["cells"]
        for o in c.get("outputs", [])
    )
    executed = Path(finished_folder(out, states.id["demo"])) / "notebook.ipynb"
    assert executed.exists()
    assert main(["clean-failed", str(out)]) == 0 and not kept.exists()


def test_snakemake_understands_what_a_cluster_is_asked(tmp_path):
    from snakemake.cli import parse_args

    _, asked = parse_args(
        snakemake_command(tmp_path, 4, "slurm", "system")[3:]
    )  # a partition with the name of a function
    given = {k: r.raw for k, r in asked.default_resources.items()}
    assert (asked.executor, asked.jobs, asked.retries) == ("slurm", 4, 1)
    assert (given["slurm_partition"], given["mem_mb"]) == ("'system'", 32768)
    _, here = parse_args(snakemake_command(tmp_path, 2)[3:])
    assert here.cores == 2 and here.keep_going


def scanned_takes(job, before, join):
    "What a job takes, by looking at every job before it"
    same = [o.id for o in before if o.notebook == "01_stepwise_logits" and _same_asking(job, o)]
    places = {(m, s) for m in ("", job.model) for s in (None, job.seed)}
    joined = [
        o.id for o in before if o.name in join and o.dataset == job.dataset and (o.model, o.seed) in places
    ]
    takes = dict(traces=tuple(same[:1])) if job.notebook == "02_alignment" and same else {}
    takes |= dict(join=tuple(joined)) if joined else {}
    return takes | (dict(after=tuple(o.id for o in before)) if job.notebook == "05_figures" else {})


@pytest.mark.parametrize("name", ["demo", "medusa", "paper", "qwen", "real"])
def test_what_jobs_take_from_others_is_what_a_look_at_every_job_finds(name):
    asked = read_grid(ROOT / "params" / f"{name}.yaml")
    jobs = plan(asked)
    assert len({j.id for j in jobs}) == len(jobs)
    for k, job in enumerate(jobs):
        if "traces" in job.parameters:
            continue
        assert job.takes == scanned_takes(job, jobs[:k], asked.jobs[job.name].get("join", ())), job.id


def test_kinds_of_jobs_whose_names_begin_alike_are_told_apart(tmp_path):
    kinds = ("a", "a-demo", "b", "zero/shot")
    given = dict(notebook="01_stepwise_logits")
    path = grid(tmp_path, jobs={k: given | dict(parameters=dict(n_docs=n)) for n, k in enumerate(kinds, 5)})
    out = tmp_path / "out"
    sweep_dir(out).mkdir(parents=True)
    jobs = plan(read_grid(path))
    _write_plan(out, jobs)
    dry = subprocess.run([*snakemake_command(out, 1), "-n"], capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    for k in kinds:
        assert (
            "job_" + re.sub(r"\W", "_", k) + " " in dry.stdout and len([j for j in jobs if j.name == k]) == 2
        )


def test_a_look_at_a_sweep_knows_what_was_done_before(tmp_path):
    out = tmp_path / "out"
    place = sweep_dir(out)
    (place / "done").mkdir(parents=True)
    jobs = plan(read_grid(grid(tmp_path)))
    _write_plan(out, jobs)
    planned, finished = read_plan(out), {}
    for n, i in enumerate(planned, 1):
        folder = out / f"run{n}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(dict(status="done")))
        (place / "done" / f"{i}.json").write_text(json.dumps(dict(folder=folder.name, seconds=n)))
        looked = _states(out, planned, finished)
        pd.testing.assert_frame_equal(looked, job_states(out))
        assert finished[i] == n and (looked.state == "done").sum() == n


def test_two_drivers_on_one_folder(tmp_path):
    from filelock import FileLock

    out = tmp_path / "out"
    sweep_dir(out).mkdir(parents=True)
    with FileLock(sweep_dir(out) / "driver.lock"):
        code, said = finish(grid(tmp_path), out)
    assert code == 1 and "another sweep is at work" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(model=["tiny"]), "did you mean 'models'"),
        (dict(models=["tin"]), "did you mean 'tiny'"),
        (dict(datasets=["demos"]), "did you mean 'demo'"),
        (dict(jobs={"01_stepwise_logit": {}}), "did you mean '01_stepwise_logits'"),
        (dict(jobs={"02_alignment": {"parameters": {"method": "hard"}}}), "did you mean 'methods'"),
        (
            dict(
                datasets=["HateXplain"],
                jobs={"02_alignment": {"parameters": {"methods": "max_over_generations"}}},
            ),
            "needs a multi-label task",
        ),
        (dict(models={"Llama-3.1-8B": {"gpus": 64}}), "takes 64 GPUs"),
        (dict(models={"Llama-3.1-8B": {"gpus": 0}}), "needs a GPU, and the grid gives it none"),
        (dict(jobs={}), "no jobs"),
        *(
            (
                dict(jobs={"01_stepwise_logits": {"files": [f"params/{field}.yaml"]}}),
                "which alone are replaced",
            )
            for field in (
                "{nope}",
                "{0}",
                "{}",
                "{dataset.x}",
                "{dataset[x]}",
                "{",
                "}",
                "{dataset:999999999}",
                "{{model}}",
            )
        ),
    ],
)
def test_bad_grids_fail_with_one_line_before_anything_runs(tmp_path, changes, says, capsys):
    assert main(["run", str(grid(tmp_path, **changes)), "--output-dir", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert says in said and said.strip().count("\n") == 0 and not (tmp_path / "out").exists()


def test_a_grid_is_counted_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("mlcllm.sweeps._job_parameters", lambda *job: pytest.fail("a job was made"))
    vary = {k: list(range(1, 401)) for k in ("n_docs", "shots", "max_new_tokens")}
    two = {"01_stepwise_logits": {"vary": {"n_docs": list(range(1, 201)), "shots": list(range(1, 201))}}}
    two["again"] = two["01_stepwise_logits"] | {"notebook": "01_stepwise_logits"}
    for jobs, says in (
        ({"01_stepwise_logits": {"vary": vary}}, "128,000,000 jobs"),
        (two, "the grid has 160,000 jobs"),
    ):
        with pytest.raises(ValueError, match=f"{says}.*at most 100,000"):
            plan(read_grid(grid(tmp_path, jobs=jobs)))


DAMAGES = {
    "gpus": "two",
    "parameters": [1],
    "name": 3,
    "notebook": "none_such",
    "seed": "x",
    "takes": {"join": "abc"},
    "dataset": None,
    "more": 1,
}


@pytest.mark.parametrize("name", [*DAMAGES, "files", "jobs", "a job"])
def test_a_damaged_plan_is_one_line(tmp_path, name, capsys):
    jobs = plan(read_grid(grid(tmp_path)))
    _write_plan(tmp_path, jobs)
    path = sweep_dir(tmp_path) / "plan.json"
    found = json.loads(path.read_text())
    if name in DAMAGES:
        found["jobs"][0][name] = DAMAGES[name]
    elif name == "a job":
        found["jobs"][0] = "x"
    else:
        found[name] = 3
    path.write_text(json.dumps(found))
    for command in (["status", str(tmp_path)], ["job", str(tmp_path), jobs[0].id]):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert "is no plan of a sweep: start the sweep again" in said and said.strip().count("\n") == 0


def test_an_output_folder_of_another_version(tmp_path):
    run = start_run("01_stepwise_logits", dict(dataset="demo", model="tiny"), output_dir=tmp_path)
    run.done()
    (run.folder / "run.json").write_text(
        (run.folder / "run.json").read_text().replace('"schema_version": 1', '"schema_version": 9')
    )
    with pytest.raises(ValueError, match="made by another version"):
        check_jobs(plan(read_grid(grid(tmp_path))), tmp_path)


def test_a_truncated_record_and_a_clock_that_jumps(tmp_path):
    run = start_run("01_stepwise_logits", dict(dataset="demo", model="tiny"), output_dir=tmp_path)
    run.done()
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(
        json.dumps(record | dict(started="2099-01-01T00:00:00+00:00", finished="1999-01-01T00:00:00+00:00"))
    )
    assert run_states(tmp_path).state.tolist() == ["done"]
    (run.folder / "run.json").write_text(json.dumps(record)[:40])
    assert run_states(tmp_path).problem.str.contains("cannot be read").all()
    again = start_run("01_stepwise_logits", dict(dataset="demo", model="tiny"), output_dir=tmp_path)
    assert again.folder == run.folder and again.status == "started"


def test_committed_grids_can_be_planned():
    for path in sorted((ROOT / "params").glob("*.yaml")):
        jobs = plan(read_grid(path))
        assert (
            len(jobs) > 4
            and len({j.id for j in jobs}) == len(jobs)
            and all(i in {j.id for j in jobs} for j in jobs for i in j.needs)
        ), path


def test_ten_thousand_runs_are_listed(tmp_path):
    record = dict(
        schema_version=1,
        status="done",
        run="0",
        notebook="01_stepwise_logits",
        parameters=dict(dataset="demo", model="tiny"),
        fingerprint=dict(docs="d"),
        labels=["joy"],
        n_docs=9,
        finished="2026-01-01",
    )
    for k in range(10_000):
        folder = tmp_path / "01_stepwise_logits" / "demo" / "tiny" / f"{k:012x}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
    assert (run_states(tmp_path).state == "done").sum() == 10_000


def test_a_job_whose_files_changed_is_run_again_and_so_is_what_needs_it(tmp_path, monkeypatch):
    (tmp_path / "own.csv").write_text("id,text,labels\n1,a,joy\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "posts.jsonl").write_text("{}")
    path = grid(
        tmp_path,
        datasets={"own": dict(dataset=str(tmp_path / "own.csv")), "demo": dict(data_dir=str(data))},
        jobs={"01_stepwise_logits": {}, "02_alignment": dict(parameters=dict(methods="hard"))},
    )
    jobs = plan(read_grid(path))

    def of(dataset):
        return {j.id for j in jobs if j.dataset == dataset}

    def finished():  # all jobs, with their files as they are now
        (sweep_dir(tmp_path) / "done").mkdir(parents=True, exist_ok=True)
        files = signatures(jobs)
        for j in jobs:
            (sweep_dir(tmp_path) / "done" / f"{j.id}.json").write_text(
                json.dumps(dict(job=j.id, folder="x", files=files[j.id]))
            )

    finished()
    assert stale_jobs(jobs, tmp_path) == set() and all(
        any(j.needs for j in jobs if j.dataset == d) for d in ("own", "demo")
    )
    (tmp_path / "own.csv").write_text("id,text,labels\n1,b,joy\n2,c,joy\n")
    assert stale_jobs(jobs, tmp_path) == of("own")
    finished()
    (data / "more.txt").write_text("x")
    assert stale_jobs(jobs, tmp_path) == of("demo")


@pytest.mark.parametrize("width", [60, 100])
def test_a_plan_says_all_of_why_a_job_is_not_estimated(tmp_path, width):
    "No word of a message, and no name in the table, is cut at the terminal's width"
    path = grid(
        tmp_path,
        datasets=["GoEmotions"],
        models=["medusa-1.0-zephyr-7b-beta"],
        seeds=[0],
        jobs=dict(stepwise=dict(notebook="01_stepwise_logits")),
    )
    console = Console(file=io.StringIO(), width=width)
    print_plan(path, tmp_path / "out", data=str(tmp_path), console=console)
    said = console.file.getvalue()
    (why,) = [line for line in said.splitlines() if "not known" in line]
    assert len(why) > 110 and "…" not in said
