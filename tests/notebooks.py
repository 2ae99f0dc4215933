"""Notebooks as a user runs them, through papermill, and the same cells in this process where starting a
kernel and the worked examples would take most of the time.
"""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mlcllm.sweeps import without_examples

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def papermill_command(notebook, tmp_path, *args, **params):
    flags = [
        x
        for k, v in (dict(output_dir=tmp_path / "runs") | params).items()
        if v is not None
        for x in ("-p", k, str(v))
    ]
    return [
        str(Path(sys.executable).parent / "papermill"),
        str(ROOT / "nbs" / f"{notebook}.ipynb"),
        str(tmp_path / "out.ipynb"),
        "--no-progress-bar",
        "-k",
        "python3",
        *flags,
        *args,
    ]


def papermill(notebook, tmp_path, *args, **params):
    return subprocess.run(
        papermill_command(notebook, tmp_path, *args, **params),
        capture_output=True,
        text=True,
        timeout=600,
        env=ENV,
    )


def run_short(notebook, tmp_path, **params):
    "What a job of a sweep runs of it"
    plain = {
        k: str(v) if isinstance(v, Path) else v
        for k, v in (dict(output_dir=tmp_path / "runs") | params).items()
    }
    book = parameterize_notebook(load_notebook_node(without_examples(notebook)), plain)
    space = {"__name__": "__main__"}
    try:
        for cell in book.cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, notebook, "exec"), space)
    finally:
        plt.close("all")


def refusal(notebook, tmp_path, **params):
    "The error with which a notebook refuses parameters"
    try:
        run_short(notebook, tmp_path, **params)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"
