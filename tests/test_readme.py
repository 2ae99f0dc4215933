"The README keeps its word: its Python runs, its pictures and notebooks exist, its commands are make's."
import re

import numpy as np


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
    for notebook in re.findall(r"^\| `(\d\d\w+)` \|", text, re.M): assert (root / "nbs" / f"{notebook}.ipynb").is_file(), notebook
    targets = " ".join(re.findall(r"^([\w -]+):", (root / "Makefile").read_text(), re.M)).split()
    named = re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)
    assert {"demo", "test"} <= set(named) <= set(targets), set(named) - set(targets)
