# The jobs of a grid, a rule for each kind; made and called by mlcllm.sweeps (make paper GRID=params/demo.yaml)
import json
import re
import sys
from pathlib import Path
from shlex import quote

from mlcllm.sweeps import read_plan

OUT, JOBS = Path(config["out"]), read_plan(config["out"])
ON_CLUSTER = config["executor"] == "slurm"
ASKED = json.loads((OUT / "sweep" / "asked.json").read_text()) if ON_CLUSTER else dict(jobs={}, most=0)
GIVEN = "MLCLLM_GPUS_GIVEN=1 " if ON_CLUSTER else ""  # by the scheduler
done = lambda i: str(OUT / "sweep" / "done" / f"{i}.json")


KINDS = list(dict.fromkeys(j.name for j in JOBS.values()))


def ids_of(kind):  # a pattern of the ids of a kind's jobs, which begin with its name
    mixed = [k for k in KINDS if k != kind and (k.startswith(f"{kind}-") or kind.startswith(f"{k}-"))]
    own = (re.escape(i) for i, j in JOBS.items() if j.name == kind)
    return "|".join(own) if mixed else re.escape(kind) + "-.+"


rule all:
    input: [done(i) for i in JOBS]


for kind in KINDS:
    rule:
        name: "job_" + re.sub(r"\W+", "_", kind)
        input: lambda w: [done(i) for i in JOBS[w.id].needs]
        output: str(OUT / "sweep" / "done" / "{id}.json")
        log: str(OUT / "sweep" / "logs" / "{id}.log")
        wildcard_constraints: id=ids_of(kind)
        threads: 1
        resources:
            gpu=lambda w: JOBS[w.id].gpus,
            # twice as much where the first attempt failed, which may have been for want of memory
            mem_mb=lambda w, attempt: min(attempt * ASKED["jobs"].get(w.id, (0, 1))[0], ASKED["most"]),
            cpus_per_task=lambda w: ASKED["jobs"].get(w.id, (0, 1))[1]
        shell: f"{GIVEN}OMP_NUM_THREADS=${{{{SLURM_CPUS_PER_TASK:-{{threads}}}}}} {quote(sys.executable)} -m mlcllm.sweeps job {quote(str(OUT))} {{wildcards.id:q}} > {{log:q}} 2>&1"
