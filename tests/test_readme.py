"The README keeps its word: its Python runs, its pictures and notebooks exist, its commands are make's."
import re

import numpy as np

from mlcllm.stored_runs import comparable, gather, index_runs, plain_runs


def test_python_in_the_readme_runs(root):
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    assert blocks
    names = {}
    for block in blocks: exec(compile(block, "README.md", "exec"), names)
    assert names["estimates"].probs.shape == (2, len(names["demos"].labels))
    assert names["again"].predict_proba(["A day by the sea"]).method == "max_over_generations+platt" and names["thresholds"] == names["tuned"].thresholds
    probs = names["traces"][0].probs
    assert probs.shape[1] == len(names["docs"].labels.with_none) and np.allclose(probs.sum(1), 1)


def test_what_the_readme_names_exists(root):
    text = (root / "README.md").read_text()
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text): assert (root / picture).is_file(), picture
    listed = re.findall(r"^\| \[(\d\d\w+)\]\((.+?)\) \|", text, re.M)
    assert [link for _, link in listed] == [f"nbs/{name}.ipynb" for name, _ in listed]
    assert [name for name, _ in listed] == sorted(p.stem for p in (root / "nbs").glob("0*.ipynb"))
    targets = " ".join(re.findall(r"^([\w -]+):", (root / "Makefile").read_text(), re.M)).split()
    named = re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)
    assert {"demo", "test"} <= set(named) <= set(targets), set(named) - set(targets)


def test_numbers_in_the_readme_are_those_of_the_stored_runs(root):
    scores = gather(comparable(plain_runs(index_runs(root / "outputs" / "reference"), "02_alignment")).table, "scores").table
    scores = scores[scores.label.isna() & (scores.model == "small")].set_index(["dataset", "method", "metric"])
    methods = {"hard": "hard", "compare to": "compare_to_none", "unary": "unary", "binary": "binary", "max over": "max_over_generations", "the same, calibrated": "max_over_generations+platt", "exact marginals": "set_marginals", "label prior": "prior", "one person": "annotator"}
    seen = 0
    for line in re.findall(r"^\| (.*) \|$", (root / "README.md").read_text().split("## What comes out")[1].split("## ")[0], re.M):
        name, *cells = [c.strip() for c in line.split("|")]
        method = next((m for start, m in methods.items() if name.startswith(start)), None)
        for cell, (dataset, metric) in zip(cells, (("HateXplainTargets", "kl"), ("HateXplainTargets", "example_f1"), ("GoEmotions", "kl"), ("GoEmotions", "example_f1"))):
            if not method or not re.match(r"\d", cell): continue
            r = scores.loc[[(dataset, method, metric)]].iloc[0]
            assert cell == f"{r.value:.2f} [{r.lo:.2f}, {r.hi:.2f}]", (name, dataset, metric)
            seen += 1
    assert seen == 34
