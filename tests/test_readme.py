"The README keeps its word: its Python runs, its pictures and notebooks exist, its commands are make's."

import contextlib
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hero_picture import stored_traces

from mlcllm.figure_tables import dists_of, open_run_index
from mlcllm.runs import read_run
from mlcllm.sft import paired_steps
from mlcllm.stored_runs import comparable, gather, index_runs, plain_runs


def test_python_in_the_readme_and_its_guide_runs(root):
    guide = nbformat.read(root / "nbs" / "running.ipynb", nbformat.NO_CONVERT)
    text = "\n".join([(root / "README.md").read_text(), *(cell.source for cell in guide.cells)])
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```python") >= 2  # each with what it prints
    names = {}
    for block, printed in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(block, "README.md", "exec"), names)
        assert said.getvalue() == printed
    assert np.asarray(names["p"]).shape == (2, 7)
    again, tuned = names["again"], names["tuned"]
    assert again.thresholds == tuned.thresholds
    assert again.predict_proba(["A day by the sea"]).method == "max_over_generations+platt"


def test_what_the_readme_names_exists(root):
    text = (root / "README.md").read_text()
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (root / picture).is_file(), picture
    listed = re.findall(r"^\| \[(\d\d\w+)\]\((.+?)\) \|", text, re.M)
    assert [link for _, link in listed] == [f"nbs/{name}.ipynb" for name, _ in listed]
    assert [name[:2] for name, _ in listed] == ["00", "01", "02", "03", "04", "05"]
    for page in re.findall(r"\]\((nbs/\w+\.ipynb)\)", text):
        assert (root / page).is_file(), page
    assert text.count("\n") <= 120
    targets = " ".join(re.findall(r"^([\w -]+):", (root / "Makefile").read_text(), re.M)).split()
    guide = (root / "nbs" / "running.ipynb").read_text()
    named = re.findall(r"(?:^|`|\")make ([\w-]+)", text + guide, re.M)
    assert {"demo", "test"} <= set(named) <= set(targets), set(named) - set(targets)


def test_numbers_under_the_readmes_picture_are_those_of_the_stored_run(root):
    traces, gold = stored_traces()
    text = (root / "README.md").read_text()
    caption = re.search(r"^\*SmolLM2.*\*$", text, re.M)[0]
    several = [k for k, t in enumerate(traces) if len(t) > 1]
    assert {traces[k].chosen for k in several} == {("admiration", "sadness")}
    names = traces[0].names
    means = np.mean([traces[k].probs[:2] for k in several], axis=0)
    sad = names.index("sadness")
    share = np.mean(["sadness" in gold[k] for k in several])
    assert f"on {len(traces):,} GoEmotions posts" in caption and f"the {len(several)} posts" in caption
    assert f"{means[0, sad]:.2f} of the probability, before the second {means[1, sad]:.2f};" in caption
    assert f"gold label of {share:.0%}".replace("%", " %") in caption
    first, second = means[0, names.index("admiration")], means[1, sad]
    assert f"{first:.2f} for admiration, and before the second, {second:.2f} for sadness" in text


METHODS = {
    "hard": "hard",
    "compare to": "compare_to_none",
    "unary": "unary",
    "binary": "binary",
    "max over": "max_over_generations",
    "the same, calibrated": "max_over_generations+platt",
    "first label step": "first_step+prior_matching",
    "label prior": "prior",
    "one person": "annotator",
}
COLUMNS = [
    (dataset, metric)
    for dataset in ("HateXplainTargets", "GoEmotions")
    for metric in ("brier", "kl", "example_f1")
]


def rows_of(part):
    "method and cells of each line of a table"
    for line in re.findall(r"^\| (.*) \|$", part, re.M):
        name, *cells = [c.strip() for c in line.split("|")]
        method = next((m for start, m in METHODS.items() if name.startswith(start)), None)
        if method:
            yield method, cells


def assert_stored(part, scores):
    "Every cell is that of the stored runs; how many there are"
    scores = scores[scores.label.isna() & (scores.model == "smollm2")].set_index(
        ["dataset", "method", "metric"]
    )
    seen = 0
    for method, cells in rows_of(part):
        for cell, (dataset, metric) in zip(cells, COLUMNS):
            r = scores.loc[[(dataset, method, metric)]].iloc[0]
            assert cell == f"{r.value:.2f} [{r.lo:.2f}, {r.hi:.2f}]", (method, dataset, metric)
            seen += 1
    return seen


def stored(root, people):
    return gather(
        comparable(plain_runs(index_runs(root / "outputs" / "reference"), "02_alignment")).table,
        "scores",
        people=people,
    ).table


def parts(root):
    return (
        (root / "README.md").read_text().split("## What comes out")[1].split("## ")[0].split("And one person")
    )


def test_numbers_in_the_readme_are_those_of_the_stored_runs(root):
    assert assert_stored(parts(root)[0], stored(root, False)) == 48


def test_people_in_the_readme_are_those_of_the_stored_runs(root):
    scores = stored(root, True)
    if not len(scores):
        pytest.skip(
            "the stored runs were made before people were scored without their own votes: make reference"
        )
    assert assert_stored(parts(root)[1], scores) == 12


def test_what_the_readme_concludes_is_in_its_table(root):
    value = {m: [float(c.split(" ")[0]) for c in cells] for m, cells in rows_of(parts(root)[0])}
    raw = ("hard", "compare_to_none", "unary", "binary", "max_over_generations")
    for k in (0, 3):  # Brier on both corpora
        assert all(value[m][k] > value["prior"][k] for m in raw)
        assert value["first_step+prior_matching"][k] < value["max_over_generations+platt"][k]
    text = parts(root)[1]
    said = " or ".join(f"{value['prior'][k]:.2f}" for k in (2, 5))
    assert f"an F1 of {said} is that of the empty answer" in text
    person = dict(rows_of(text))
    assert all(
        float(person["annotator"][0].split(" ")[0]) < float(p[0].split(" ")[0])
        for m, p in person.items()
        if m != "annotator"
    )


def ahead_of_the_prior(root, dataset, model):
    "Mean difference in Brier score between the prior and the matched first step, with a 95 % interval"
    index = open_run_index([str(root / "outputs" / "reference")], None, None)
    x = dists_of(index, dataset, model)
    assert (x["prior"] < 0.5).all()  # the prior's answer is empty
    first = "first_step+prior_matching"
    loss = {m: ((x[m] - x.people) ** 2).groupby(x.doc_id).sum() for m in ("prior", first)}
    ahead = loss["prior"] - loss[first]
    half = 1.96 * ahead.std(ddof=1) / np.sqrt(len(ahead))
    return ahead.mean(), ahead.mean() - half, ahead.mean() + half


@pytest.mark.parametrize("model", ["smollm2", "gemma3-270m"])
def test_differences_from_the_prior_in_the_readme_are_those_of_the_stored_estimates(root, model):
    for dataset in ("HateXplainTargets", "GoEmotions", "SemEval", "ConvAbuse"):
        value, lo, hi = ahead_of_the_prior(root, dataset, model)
        assert f"{value:.3f} [{lo:.3f}, {hi:.3f}]" in parts(root)[1], dataset
        level = (model, dataset) == ("gemma3-270m", "ConvAbuse")
        assert (lo > 0) != level, dataset


def said(row):
    return f"{row.value:.2f} [{row.lo:.2f}, {row.hi:.2f}]"


def test_what_the_state_knows_and_what_finetuning_changes_are_those_of_the_stored_runs(root):
    text = (
        (root / "README.md").read_text().split("**Its state tells more than the words do")[1].split("\n")[0]
    )
    runs = index_runs(root / "outputs" / "reference")
    own = runs[(runs.dataset == "SemEval") & (runs.model == "smollm2")].set_index("notebook")
    probes = pd.read_parquet(Path(own.folder["03_probing"]) / "scores.parquet")
    gold = probes[(probes.metric == "micro_f1") & (probes.target == "gold")]
    last = gold[(gold.method == "probe") & (gold.layer == gold.layer.max()) & (gold.position == 1)].iloc[0]
    finetuned = Path(own.folder["04a_sft"])
    f1 = pd.read_parquet(finetuned / "scores.parquet").query("metric == 'micro_f1'").set_index("method")
    words, answers = (gold[gold.method == m].iloc[0] for m in ("bag_of_words", "model"))
    numbers = [last, words, answers, f1.loc["base_hard"], f1.loc["sft_hard"]]
    assert [said(r) for r in numbers] == re.findall(r"0\.\d\d \[[^]]*\]", text)
    change = paired_steps(read_run(finetuned)).groupby("step").change
    upper = change.mean() + 1.96 * change.std() / np.sqrt(change.size())
    assert (upper.loc[[1, 2]] < 0.04).all() and (change.mean().loc[[1, 2]].abs() < 0.02).all()


def brier_by_prompt(root, dataset):
    "Mean Brier score under each prompt, a column for each method, and how many posts"
    scores = pd.read_parquet(root / "outputs" / "reference" / "01j_variance" / f"{dataset}.parquet")
    brier = scores[scores.metric == "brier"]
    index = ["seed", "label_order", "template"]
    return brier.pivot_table(index=index, columns="method", values="value"), brier.doc_id.nunique()


@pytest.mark.parametrize("dataset", ["GoEmotions", "HateXplainTargets"])
def test_under_how_many_prompts_it_is_ahead_of_the_prior(root, dataset):
    prompts, n_posts = brier_by_prompt(root, dataset)
    ahead = (prompts["first_step+prior_matching"] < prompts["prior"]).sum()
    words = {12: "each of twelve prompts", 8: "eight of twelve"}
    corpus = dict(GoEmotions="GoEmotions posts", HateXplainTargets="of HateXplain's groups")[dataset]
    assert len(prompts) == 12
    assert re.search(rf"on {n_posts} {corpus}[^,.]* under {words[ahead]}", parts(root)[1])
    assert prompts["first_step"].std() > 5 * prompts["first_step+prior_matching"].std()


def test_matched_to_the_frequencies_of_100_documents_it_is_ahead_of_a_calibration_on_them(root):
    curves = pd.read_parquet(root / "outputs" / "reference" / "01i_stacking" / "learning_curves.parquet")
    at = curves[(curves.metric == "brier") & (curves.n == 100) & (curves.model == "smollm2")]
    at = at[at.dataset != "HateXplain"]  # one label, and no answer of several steps
    mean = at.pivot_table(index="dataset", columns="method", values="value")
    calibrated = mean[["first_step+platt", "max_over_generations+platt"]].min(axis=1)
    assert len(mean) == 4 and (mean["first_step+prior_matching"] < calibrated).all()


def test_training_documents_are_those_of_the_models_cards(root):
    said = re.search(r"\((\d+) posts for each HateXplain task\)", (root / "README.md").read_text())[1]
    assert f"{said} training posts for each" in (root / "nbs" / "00m_tiny.ipynb").read_text()
    for name in ("tiny", "small"):
        card = (root / "mlcllm" / "models" / name / "README.md").read_text()
        assert re.findall(r"^\| HateXplain\w* \(.*?\) \| (\d+) \|", card, re.M) == [said, said]
