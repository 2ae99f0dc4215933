# The jobs of a grid, a rule for each kind; made and called by mlcllm.sweeps (make paper GRID=params/demo.yaml)
import json
import re
import sys
from pathlib import Path
from shlex import quote

from mlcllm.sweeps import read_plan

OUT, JOBS = Path(config["out"]), read_plan(config["out"])
ON_CLUSTER = config["executor"] == "slurm"
ASKED = json.loads((OUT / "sweep" / "asked.json").read_text()) if ON_CLUSTER else {}
GIVEN = "MLCLLM_GPUS_GIVEN=1 " if ON_CLUSTER else ""  # by the scheduler
done = lambda i: str(OUT / "sweep" / "done" / f"{i}.json")


KINDS = list(dict.fromkeys(j.name for j in JOBS.values()))


def asked(i, attempt):  # MB and cores; more memory where an attempt failed, which may have been for want of it
    return ASKED[i][min(attempt, len(ASKED[i])) - 1] if i in ASKED else (0, 1)


def ids_of(kind):  # a pattern of the ids of a kind's jobs, which begin with its name
    own = [i for i, j in JOBS.items() if j.name == kind]
    first = kind.replace("/", "--") + "-"
    others = any(i.startswith(first) for i, j in JOBS.items() if j.name != kind)
    return "|".join(map(re.escape, own)) if others else re.escape(first) + ".+"


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
            mem_mb=lambda w, attempt: asked(w.id, attempt)[0],
            cpus_per_task=lambda w, attempt: asked(w.id, attempt)[1]
        shell: f"{GIVEN}OMP_NUM_THREADS=${{{{SLURM_CPUS_PER_TASK:-{{threads}}}}}} {quote(sys.executable)} -m mlcllm.sweeps job {quote(str(OUT))} {{wildcards.id:q}} > {{log:q}} 2>&1"
