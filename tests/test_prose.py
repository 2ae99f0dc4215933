"Numbers in the prose of chapters that read stored runs, against those runs and the committed outputs."

import re

import nbformat

from mlcllm.stored_runs import comparable, gather, index_runs, plain_runs


def outputs(root, name):
    "All text that a committed notebook shows"
    book = nbformat.read(root / "nbs" / f"{name}.ipynb", nbformat.NO_CONVERT)
    shown = [o for cell in book.cells for o in cell.get("outputs", ())]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in shown)


def prose(root, name):
    book = nbformat.read(root / "nbs" / f"{name}.ipynb", nbformat.NO_CONVERT)
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


def test_claims_that_hold_are_those_of_the_verdicts(root):
    said = outputs(root, "05_figures")
    found = dict(re.findall(r"(?:\* |; )(?:\*\*\d+\*\* )?(\d+[a-d]?) [^:;]*: ([^;.]*)", said))
    everywhere = {p for p, counts in found.items() if re.fullmatch(r"holds in (\d+) of \1", counts)}
    nowhere = {p for p, counts in found.items() if re.fullmatch(r"does not hold in (\d+) of \1", counts)}
    assert "1a, 8 and 9a hold wherever tested; 1d, 6 and 9b nowhere; 5 holds in 3 of 12," in prose(
        root, "05_figures"
    )
    assert everywhere == {"1a", "8a", "8b", "9a"} and nowhere == {"1d", "6a", "6b", "9b"}
    assert found["5"] == "holds in 3, cannot tell in 9 of 12"


def test_pairs_by_probability_are_ahead_as_often_as_said(root):
    runs = comparable(plain_runs(index_runs(root / "outputs" / "reference"), "02_alignment")).table
    scores = gather(runs, "scores").table
    rows = scores[(scores.metric == "brier") & scores.label.isna()]
    brier = rows.pivot_table(index=["dataset", "model"], columns="method", values="value")
    ahead = int((brier.binary < brier.binary_outcome).sum())
    assert f"by the Brier score probabilities are ahead in {ahead} of {len(brier)}" in prose(
        root, "05_figures"
    )
