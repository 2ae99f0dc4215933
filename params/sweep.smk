# The jobs of a grid, a rule for each kind; made and called by mlcllm.sweeps (make paper GRID=params/demo.yaml)
import json
import re
import sys
from pathlib import Path
from shlex import quote

from mlcllm.sweeps import read_plan

OUT, JOBS = Path(config["out"]), read_plan(config["out"])
GIVEN = "MLCLLM_GPUS_GIVEN=1 " if config["executor"] == "slurm" else ""  # by the scheduler
MEMORY = OUT / "sweep" / "memory.json"  # MB, of a sweep on a cluster
ASKED = json.loads(MEMORY.read_text()) if config["executor"] == "slurm" else dict(jobs={}, most=0)
done = lambda i: str(OUT / "sweep" / "done" / f"{i}.json")


rule all:
    input: [done(i) for i in JOBS]


for kind in dict.fromkeys(j.name for j in JOBS.values()):
    rule:
        name: "job_" + re.sub(r"\W+", "_", kind)
        input: lambda w: [done(i) for i in JOBS[w.id].needs]
        output: str(OUT / "sweep" / "done" / "{id}.json")
        log: str(OUT / "sweep" / "logs" / "{id}.log")
        wildcard_constraints: id="|".join(re.escape(i) for i, j in JOBS.items() if j.name == kind)
        threads: 1
        resources:
            gpu=lambda w: JOBS[w.id].gpus,
            # twice as much where the first attempt failed, which may have been for want of memory
            mem_mb=lambda w, attempt: min(attempt * ASKED["jobs"].get(w.id, 0), ASKED["most"])
        shell: f"{GIVEN}OMP_NUM_THREADS=${{{{SLURM_CPUS_PER_TASK:-{{threads}}}}}} {quote(sys.executable)} -m mlcllm.sweeps job {quote(str(OUT))} {{wildcards.id:q}} > {{log:q}} 2>&1"
