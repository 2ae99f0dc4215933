"""A sweep on a real SLURM with two nodes of one core on this machine: make test-cluster.

It needs the commands of SLURM and munge, root, and no other SLURM here; it stops what it starts.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mlcllm.runs import read_table
from mlcllm.sweeps import finished_folder, job_states, sweep_dir

COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
CONFIG = Path("/etc/slurm/slurm.conf")  # the only place where jobs look for it
pytestmark = pytest.mark.skipif(
    not os.environ.get("MLCLLM_TEST_CLUSTER"), reason="make test-cluster starts a SLURM of its own"
)
NODES, MEMORY = ("n1", "n2"), 4000  # MB of each
SETTINGS = """\
ClusterName=mlcllm
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPort=16817
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=20
ReturnToService=2
SlurmdParameters=config_overrides
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory={memory}\n"


def call(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(what, seconds=120):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(1)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    "The folder of a SLURM that runs while the tests do"
    if missing := [c for c in COMMANDS if not shutil.which(c, path=os.environ["PATH"] + ":/usr/sbin")]:
        pytest.fail(f"{', '.join(missing)} missing: install slurm-wlm and munge")
    if CONFIG.exists() or os.geteuid():
        pytest.fail(f"these tests need root and a machine without {CONFIG}")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().split(".")[0]
    os.environ["PATH"] += ":/usr/sbin"
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    places = {f"--{k}-file": folder / f"munge.{k}" for k in ("key", "pid", "log", "seed")}
    call("munged", "--force", f"--socket={folder}/munge.socket", *(f"{k}={v}" for k, v in places.items()))
    nodes = (NODE.format(name=n, host=host, port=16821 + k, memory=MEMORY) for k, n in enumerate(NODES))
    text = SETTINGS.format(host=host, folder=folder) + "".join(nodes)
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(
        text + f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
    )
    (folder / "state").mkdir()
    try:
        call("slurmctld")
        for n in NODES:
            call("slurmd", "-N", n)
        wait_for(lambda: call("sinfo", "-h", "-o", "%T").split() == ["idle"])
        yield folder
    finally:
        subprocess.run(["scancel", "--user", "root"])
        for name in ("slurmctld", *(f"slurmd-{n}" for n in NODES), "munge"):
            stop(folder / f"{name}.pid")
        CONFIG.unlink()


def stop(pid_file, how=signal.SIGTERM):
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), how)


def grid(folder, name="grid", models=("tiny", "small"), seeds=(0, 1)):
    what = dict(
        datasets={"demo": {}}, models=list(models), seeds=list(seeds), jobs={"01_stepwise_logits": {}}
    )
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(what))
    return path


def start(path, out, *more):
    command = [sys.executable, "-m", "mlcllm.sweeps", "run", str(path), "--output-dir", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


ON_CLUSTER = ("--executor", "slurm", "--partition", "main")


def tables(out):
    "What the jobs of a sweep have found, by job"
    return {i: read_table(finished_folder(out, i), "scores") for i in job_states(out).id}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    "The same grid without a cluster"
    folder = tmp_path_factory.mktemp("local")
    child = start(grid(folder), folder / "out", "--cores", "2")
    assert child.wait() == 0, child.stdout.read()
    return tables(folder / "out")


def check_equal(out, local):
    found = tables(out)
    assert set(found) == set(local)
    for i, table in found.items():
        pd.testing.assert_frame_equal(table, local[i], rtol=1e-5)


def nodes_of(folder):  # where jobs ran, by the logs of the nodes
    return {n for n in NODES if "launch task" in (folder / f"slurmd-{n}.log").read_text()}


@pytest.mark.timeout(1200)
def test_jobs_spread_over_both_nodes_and_find_what_they_find_here(cluster, tmp_path, local):
    child = start(grid(tmp_path), tmp_path / "out", *ON_CLUSTER)
    said = child.communicate()[0]
    assert child.returncode == 0, said
    assert nodes_of(cluster) == set(NODES)
    check_equal(tmp_path / "out", local)


@pytest.mark.timeout(1800)
def test_a_drained_node_a_killed_one_and_a_killed_driver(cluster, tmp_path, local):
    out = tmp_path / "out"
    call("scontrol", "update", "NodeName=n1", "State=drain", "Reason=test")
    child = start(grid(tmp_path), out, *ON_CLUSTER)
    wait_for(lambda: sweep_dir(out).exists() and (job_states(out).state == "running").any())
    stop(cluster / "slurmd-n2.pid", signal.SIGKILL)
    child.kill()  # the driver; Snakemake goes on, and a second driver is told so
    snakemake = int((sweep_dir(out) / "snakemake.pid").read_text())
    second = start(grid(tmp_path), out, *ON_CLUSTER)
    said = second.communicate()[0]
    assert second.returncode and f"still at work below {out} (process {snakemake})" in said
    os.kill(snakemake, signal.SIGKILL)
    call("scontrol", "update", "NodeName=n1", "State=resume")
    call("slurmd", "-N", "n2")
    subprocess.run(["scancel", "--user", "root"])
    wait_for(lambda: not call("squeue", "-h"))
    third = start(grid(tmp_path), out, *ON_CLUSTER)
    said = third.communicate()[0]
    assert third.returncode == 0, said
    check_equal(out, local)


@pytest.mark.timeout(1200)
def test_what_no_node_has_is_refused_at_once(cluster, tmp_path):
    child = start(grid(tmp_path, models=("Llama-3.1-8B",)), tmp_path / "out", *ON_CLUSTER)
    said = child.communicate()[0]
    assert child.returncode == 1 and said.count("\n") == 1
    assert "asks for" in said and f"at most {MEMORY:,} MB, 0 GPUs" in said


@pytest.mark.timeout(1200)
def test_why_jobs_wait_is_said(cluster, tmp_path):
    out = tmp_path / "out"
    for n in NODES:
        call("scontrol", "update", f"NodeName={n}", "State=drain", "Reason=test")
    child = start(grid(tmp_path, models=("tiny",), seeds=(0,)), out, *ON_CLUSTER)
    wait_for(lambda: call("squeue", "-h", "-t", "PENDING"))
    time.sleep(20)  # it looks every ten seconds
    for n in NODES:
        call("scontrol", "update", f"NodeName={n}", "State=resume")
    said = child.communicate()[0]
    assert child.returncode == 0 and "waiting 1 jobs: " in " ".join(said.split()), said


SMALL = """
import sys
import mlcllm.sweeps as sweeps
real = sweeps.slurm_settings
sweeps.slurm_settings = lambda: real() | dict(memory=dict(least_mb=200, most_mb=200, unknown_mb=200))
sys.exit(sweeps.main(sys.argv[1:]))
"""


@pytest.mark.timeout(1200)
def test_a_job_over_its_memory_is_said_to_be(cluster, tmp_path):
    out, path = tmp_path / "out", grid(tmp_path, models=("tiny",), seeds=(0,))
    how = ["run", str(path), "--output-dir", str(out), *ON_CLUSTER]
    done = subprocess.run([sys.executable, "-c", SMALL, *how], capture_output=True, text=True)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr, said
    (state,) = job_states(out).itertuples()
    assert state.state == "failed" and "memory" in state.note and state.note in said, (state.note, said)
    assert start(path, out, *ON_CLUSTER).wait() == 0  # with what it needs
    assert job_states(out).state.tolist() == ["done"]
