# The jobs of a grid, a rule for each kind; made and called by mlcllm.sweeps (make paper GRID=params/demo.yaml)
import json
import re
import sys
from pathlib import Path

from mlcllm.sweeps import read_plan

OUT, JOBS = Path(config["out"]), read_plan(config["out"])
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
        resources: gpu=lambda w: JOBS[w.id].gpus
        shell: f"OMP_NUM_THREADS={{threads}} {sys.executable} -m mlcllm.sweeps job {OUT} {{wildcards.id}} > {{log}} 2>&1"
