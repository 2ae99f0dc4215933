"Numbers in the prose of chapters that read stored runs, against those runs and the committed outputs."

import re

import nbformat

from mlcllm.methods import EXTRA_METHODS, METHODS, PAPER_METHODS
from mlcllm.stored_runs import comparable, gather, index_runs, plain_runs


def outputs(root, name):
    "All text that a committed notebook shows"
    book = nbformat.read(root / "nbs" / f"{name}.ipynb", nbformat.NO_CONVERT)
    shown = [o for cell in book.cells for o in cell.get("outputs", ())]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in shown)


def test_lists_of_claims_are_those_of_the_marks(root):
    "Each statement stands in the list that its own counts belong to"
    said = outputs(root, "05_figures")
    models, toys = said.split("**Language models**")[1].split("**The bundled toys")[:2]
    for text in (models, toys):
        groups = re.findall(r"\* \*\*(.+?)\*\*: (.*)\.", text)
        found = {part: name for name, parts in groups for part in re.findall(r"(?:^|; )(\d+[a-d]?) ", parts)}
        counts = re.findall(r"(\d+[a-d]?) [^:;]*: ([^;.]*) of (\d+)", text.split("score by score")[0])
        assert len(counts) == len(found) >= 10
        for part, verdicts, n in counts:
            each = {w: int(k) for w, k in re.findall(r"(holds|does not hold|cannot tell) in (\d+)", verdicts)}
            assert sum(each.values()) == int(n)
            nowhere = found[part].startswith("Does not hold")
            assert nowhere == ("does not hold" in each and "holds" not in each), part


def test_estimates_of_the_real_model_lie_behind_the_prior_until_they_are_calibrated(root):
    "The first sentences of 02"
    runs = comparable(plain_runs(index_runs(root / "outputs" / "reference"), "02_alignment")).table
    scores = gather(runs, "scores").table
    scores = scores[(scores.metric == "brier") & scores.label.isna()]
    brier = scores.pivot_table(index="method", columns=["dataset", "model"], values="value")
    real = brier.xs("smollm2", axis=1, level="model")
    real = real.dropna(subset="max_over_generations", axis=1)  # several labels
    raw = real[real.index.isin([*METHODS, *EXTRA_METHODS])]
    assert len(raw) >= 8 and len(raw.columns) == 4 and not (raw < real.loc["prior"]).any(axis=None)
    assert (real.loc["first_step+prior_matching"] < real.loc["prior"]).all()
    toys = brier.drop(columns="smollm2", level="model").dropna(subset="max_over_generations", axis=1)
    paper = [m for m in PAPER_METHODS if m in toys.index]
    assert (toys.loc[paper].idxmin() == "max_over_generations").mean() > 0.5
