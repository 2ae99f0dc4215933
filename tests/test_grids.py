"Every grid of params/ can be drawn: its jobs on a few bundled documents, and 05 on what they made."

from itertools import product
from pathlib import Path

import pytest
import yaml
from notebooks import run_short

from mlcllm.runs import find_runs, read_run

ROOT = Path(__file__).resolve().parent.parent
GRIDS = sorted(p.stem for p in (ROOT / "params").glob("*.yaml"))
FEW = {
    "01_stepwise_logits": {},
    "02_alignment": dict(n_dev=5),
    "03_probing": dict(n_train=200, n_docs=40),
    "04_demux": dict(encoder="minilm", epochs=1, n_train=30),
    "04a_sft": dict(epochs=1, n_train=8),
}
ALL = {"figure2", "figure3", "figure4", "figure9", "figure10", "table1", "table4", "claims"}
DRAWN = {
    "paper": ALL | {"figure6", "figure7", "figure8", "table2", "table7", "votes", "reliability", "costs"},
    "qwen": ALL,
    "medusa": ALL,
    "demo": ALL | {"figure8", "table2", "votes", "reliability", "costs"},
}  # of so few documents of one model; what needs several labels in an answer, or two models, may be missing


# a bundled data set and its settings; the demo documents stand for corpora that are not here
def own(grid, job):
    known = grid["datasets"] if isinstance(grid["datasets"], dict) else {}
    name = next(
        (d for d in job.get("datasets", grid["datasets"]) if d in known and d in ("demo", "Boxes")), "demo"
    )
    return dict(dataset=name) | {
        k: v for k, v in (known.get(name) or {}).items() if k in ("options", "shots")
    }


def jobs(grid):
    "(notebook, parameters) of each kind of job and each value that it varies"
    for name, job in grid["jobs"].items():
        notebook, job = (job or {}).get("notebook", name), job or {}
        if notebook not in FEW:
            continue
        vary = job.get("vary", {})
        for values in product(*vary.values()):
            for seed in job.get("seeds", grid["seeds"])[:1]:
                yield (
                    notebook,
                    (job.get("parameters") or {})
                    | dict(zip(vary, values))
                    | own(grid, job)
                    | dict(seed=seed),
                )


def run_job(folder, notebook, parameters):
    model = {} if notebook == "04_demux" else dict(model="tiny")
    if "methods" in parameters:  # the toys answer no question for a percentage
        methods = [m for m in parameters["methods"].split(",") if m != "verbalized"]
        parameters = parameters | dict(methods=",".join(methods))
    split = (
        dict(split="test", demo_split="train")
        if "split" in parameters and notebook == "01_stepwise_logits"
        else {}
    )
    run_short(
        notebook,
        folder,
        **dict(n_docs=8) | parameters | FEW[notebook] | dict(output_dir=folder / "runs") | model | split,
    )


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_drawn(name, tmp_path):
    grid = yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text())
    for notebook, parameters in jobs(grid):
        run_job(tmp_path, notebook, parameters)
    run_short("05_figures", tmp_path, runs=tmp_path / "runs", output_dir=tmp_path / "drawn")
    (folder,) = find_runs(tmp_path / "drawn", "05_figures")
    run = read_run(folder)
    missing = run["missing"]
    assert not missing.why.str.contains("cannot be drawn").any(), missing[["exhibit", "why"]].to_string()
    assert not DRAWN.get(name, ALL) & set(missing.exhibit[missing.dataset == ""]), missing[
        ["exhibit", "why"]
    ].to_string()
    assert len(run["verdicts"]) >= 2 and run["verdicts"].p[run["verdicts"].n < 30].isna().all()
