"05 draws what is there, says what is not, and draws the same picture twice; the viewer is one page."

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from notebooks import papermill, refusal, run_short

from mlcllm.claims import adjust, claim_text, claims_table, step_verdicts
from mlcllm.comparisons import plot_pareto, wrap_name
from mlcllm.demux import plot_training
from mlcllm.figure_tables import TUNED_COLUMNS, Missing
from mlcllm.figures import (
    MEASURES,
    load_traced,
    never_table,
    no_run,
    open_run_index,
    panels,
    plot_positions,
    plot_slopes,
    plot_steps_wall,
    plot_tuned,
    scale_table,
    shown_panels,
    traced_runs,
    traces_of,
)
from mlcllm.label_sets import plot_forced_first
from mlcllm.probing import plot_lens
from mlcllm.runs import find_runs, read_run, start_run
from mlcllm.step_statistics import step_table
from mlcllm.stored_runs import index_runs

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("anger", "fear", "joy", "none")


def stored(folder, dataset="A", model="tiny", n=30, labels=LABELS, seed=0, docs="same", done=True, **params):
    "A stepwise run whose answers are drawn at random"
    rng = np.random.default_rng(seed)
    rows, steps = [], []
    for k in range(n):
        written = list(rng.permutation(labels[:-1])[: rng.integers(1, 3)])
        rows.append(
            dict(
                doc_id=f"d{k}",
                text=None,
                gold=list(rng.permutation(labels[:-1])[:2]),
                predicted=written,
                human=list(rng.random(len(labels) - 1)),
                n_annotators=3,
                output=", ".join(written),
                found_step=True,
            )
        )
        for s, name in enumerate(written):
            z = rng.normal(size=len(labels)).astype(np.float32)
            z[labels.index(name)] = z.max() + 1
            steps.append(
                dict(
                    doc_id=f"d{k}",
                    step=s,
                    token_index=s,
                    chosen=name,
                    is_last=s == len(written) - 1,
                    logits=z.tolist(),
                    logsumexp=3.0,
                    continue_logit=0.0,
                    stop_logit=1.0,
                )
            )
    run = start_run(
        "01_stepwise_logits",
        dict(
            dataset=dataset,
            split="test",
            model=model,
            ratio=0.5,
            label_order="alphabetical",
            seed=seed,
            **params,
        ),
        labels=list(labels),
        fingerprint=dict(docs=docs, n=n),
        output_dir=folder,
    )
    run.record["n_docs"] = n
    run.save_table("docs", pd.DataFrame(rows)), run.save_table("steps", pd.DataFrame(steps))
    if done:
        run.done()
    return run.folder


def test_statistics_of_a_wall_are_those_of_plain_loops(tmp_path):
    stored(tmp_path), stored(tmp_path, model="small", seed=1)
    traced = traces_of(open_run_index(tmp_path))
    assert set(traced) == {("A", "tiny"), ("A", "small")}
    t = traced["A", "tiny"]
    for column, last in (("top", True), ("top", False), ("second", False)):
        plain = []
        for r in t.stored.itertuples():
            p = np.exp(np.array(r.logits, float) - max(r.logits))
            p = sorted(p / p.sum())
            if r.is_last == last:
                plain.append(p[-1] if column == "top" else p[-2])
        assert np.array_equal(np.sort(t.steps[t.steps.is_last == last][column]), np.sort(plain))
    verdicts = adjust(step_verdicts(traced))
    mid = t.steps[~t.steps.is_last]
    assert next(
        v for v in verdicts if (v.part, v.dataset, v.model) == ("4a", "A", "tiny")
    ).value == pytest.approx(1 - mid.second_is_next.mean())
    assert (
        "Claim 4" in claim_text(verdicts, 4)
        and "nothing was run" in claim_text(verdicts, 8)
        and set(claims_table(verdicts).claim) == set(range(1, 6))
    )
    never = never_table(traced)
    v = mid.second_never.dropna()
    assert never[never.model == "tiny"].value.item() == pytest.approx(100 * v.mean()) and never[
        never.model == "tiny"
    ].n.item() == len(v)
    size = scale_table(traced)
    assert size[(size.model == "tiny") & (size.statistic == "second is next")].value.item() == pytest.approx(
        mid.second_is_next.mean()
    )


def test_drawn_numbers_are_the_tables(tmp_path):
    stored(tmp_path)
    traced = traces_of(open_run_index(tmp_path))
    fig = plot_steps_wall(traced, "top", kind="box")
    medians = sorted(
        line.get_ydata()[0]
        for line in fig.axes[0].lines
        if line.get_color() == "black"
        and len(line.get_ydata()) == 2
        and line.get_linestyle() == "-"
        and len(set(line.get_ydata())) == 1
        and line.get_xdata()[0] != line.get_xdata()[1]
    )
    s = traced["A", "tiny"].steps
    wanted = [g.top.median() for _, g in s[s.step < 2].groupby(["step", "is_last"])]
    assert all(any(abs(m - w) < 1e-12 for m in medians) for w in wanted)
    assert set(MEASURES) == {"top", "second", "entropy"}


def test_runs_that_cannot_stand_together(tmp_path):
    for seed, model in enumerate(("tiny", "small")):
        stored(tmp_path, model=model, seed=seed)
    (
        stored(tmp_path, n=50, docs="others", seed=2),
        stored(tmp_path, labels=("x", "y", "none"), seed=3),
        stored(tmp_path, dataset="B", seed=4, done=False),
    )
    old = stored(tmp_path, dataset="C", seed=5)
    (old / "run.json").write_text(
        (old / "run.json").read_text().replace('"schema_version": 1', '"schema_version": 7')
    )
    run_index = open_run_index(tmp_path)
    rows = traced_runs(run_index)
    assert rows.table.n_docs.tolist() == [30, 30] and rows.table.dataset.tolist() == ["A", "A"]
    assert len(rows.notes) == 1 and "2 of 4 runs" in rows.notes[0]
    problems = " ".join(run_index.index.problem.dropna())
    assert "in progress" in problems and "schema 7" in problems


def test_figures_of_a_folder(tmp_path):
    runs = tmp_path / "runs"
    for seed, (d, m) in enumerate((("A", "tiny"), ("A", "small"), ("B", "tiny"))):
        stored(runs, d, m, seed=seed)
    stored(runs, "B", "small", seed=9, done=False)
    broken = stored(runs, "D", "tiny", seed=10)
    (broken / "steps.parquet").write_bytes(b"PAR1")
    digests = []

    def by_papermill(*args, **params):
        done = papermill(*args, **params)
        assert done.returncode == 0, done.stderr[-3000:]

    for draw in (by_papermill, run_short):
        draw("05_figures", tmp_path, runs=runs, output_dir=tmp_path / "made")
        (folder,) = find_runs(tmp_path / "made", "05_figures")
        digests.append({p.name: p.read_bytes() for p in sorted((folder / "figures").glob("*.svg"))})
    assert digests[0] == digests[1] and {
        "figure2.svg",
        "figure3.svg",
        "figure10.svg",
        "figure11.svg",
        "claims.svg",
    } <= set(digests[0])
    run = read_run(folder)
    missing = run["missing"]
    assert {"figure6", "figure7", "table2"} <= set(missing.exhibit) and (
        missing.command.str.startswith("papermill nbs/") | (missing.command == "")
    ).all()
    assert "B" in set(missing.dataset[missing.exhibit == "figure2"]) and any(
        "cannot be read" in w for w in missing.why
    )
    assert any("in progress" in w for w in run["record"]["warnings"])
    assert set(run["verdicts"].claim) <= set(range(1, 6))
    for command in missing.command[missing.command != ""]:  # a list is a value of -y, never of -p
        words = shlex.split(command)
        assert all(
            not yaml.safe_load(words[k + 2]).__class__ is list for k, w in enumerate(words) if w == "-p"
        ), command


# runs of 02, as if only these methods had been asked for, with estimates drawn at random
def asked_with(folder, methods, metrics=None):
    reference = ROOT / "outputs" / "reference" / "02_alignment" / "HateXplainTargets"
    for run in reference.glob("*/*"):
        to = folder / "02_alignment" / "HateXplainTargets" / run.parent.name / run.name
        shutil.copytree(run, to)
        for name in ("scores", "costs", "pairs"):
            table = pd.read_parquet(to / f"{name}.parquet")
            table = table[table.method.isin(methods)]
            if name == "pairs":
                table = table[table.other.isin(methods)]
            if name == "scores" and metrics:
                table = table[table.metric.isin(metrics)]
            table.to_parquet(to / f"{name}.parquet")
        rng = np.random.default_rng(0)
        rows = [
            dict(doc_id=f"d{k}", method=m, label=n, prob=rng.random())
            for k in range(20)
            for m in (*methods, "gold")
            for n in "abc"
        ]
        pd.DataFrame(rows).to_parquet(to / "dists.parquet")
    return folder


@pytest.mark.parametrize(
    "methods, metrics, missing",
    [
        (["binary", "unary"], None, {"figure8"}),
        (["binary_outcome"], None, {"figure8", "reliability"}),
        (["hard", "unary"], None, {"figure8"}),
        (["prior"], None, {"figure8", "slopes", "reliability", "votes"}),
        (["unary", "hard"], ["kl"], {"figure8", "table2"}),
        (["binary", "binary_outcome"], ["example_f1"], {"figure8", "slopes"}),
        ([], None, {"table2", "figure8", "slopes", "costs"}),
    ],
    ids=["binary", "outcome", "neither", "baseline", "kl", "f1", "none"],
)
def test_whatever_methods_were_asked_for_figures_are_drawn_or_named_as_missing(
    tmp_path, methods, metrics, missing
):
    runs = asked_with(tmp_path / "runs", methods, metrics)
    run_short("05_figures", tmp_path, runs=runs, output_dir=tmp_path / "made")
    (folder,) = find_runs(tmp_path / "made", "05_figures")
    run = read_run(folder)
    assert run["record"]["status"] == "done" and missing <= set(run["missing"].exhibit)
    drawn = {p.stem for p in (folder / "figures").glob("*.svg")}
    assert not missing & drawn


def test_both_binary_methods_are_drawn(tmp_path):
    runs = asked_with(tmp_path / "runs", ["binary", "binary_outcome"])
    run_short("05_figures", tmp_path, runs=runs, output_dir=tmp_path / "made", figures="figure8")
    (folder,) = find_runs(tmp_path / "made", "05_figures")
    assert (folder / "figures" / "figure8.svg").exists()


def test_wrong_names_are_one_line(tmp_path):
    stored(tmp_path / "runs")
    for params, says in (
        (dict(runs=tmp_path / "nowhere"), "no such folder"),
        (dict(runs=tmp_path / "runs", figures="figur2"), "did you mean 'figure2'"),
    ):
        assert says in refusal("05_figures", tmp_path, **params)
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        open_run_index(tmp_path / "runs", models=["tinny"])
    with pytest.raises(ValueError, match="did you mean 'violin'"):
        plot_steps_wall(traces_of(open_run_index(tmp_path / "runs")), kind="violins")


def test_committed_runs_carry_no_text():
    index = index_runs(ROOT / "outputs" / "reference")
    for r in index.itertuples():
        path = Path(r.folder) / "docs.parquet"
        if path.exists() and r.dataset.split(" ")[0] not in ("demo", "Boxes"):
            assert pd.read_parquet(path, columns=["text"]).text.isna().all(), path
        assert not re.search(r"/(root|home|work|tmp)/", (Path(r.folder) / "run.json").read_text()), r.folder
        assert json.loads((Path(r.folder) / "run.json").read_text())["status"] == "done"
    assert sum(p.stat().st_size for p in (ROOT / "outputs" / "reference").rglob("*") if p.is_file()) < 30e6


def test_a_trace_is_read_as_it_was_written(tmp_path):
    folder = stored(tmp_path)
    row = next(index_runs(tmp_path).itertuples())
    t = load_traced(row)
    assert t.names == LABELS and t.several and len(t.steps) == len(pd.read_parquet(folder / "steps.parquet"))
    pd.testing.assert_frame_equal(t.steps, step_table(t.docs, t.stored, LABELS))


def test_a_run_that_lacks_a_column_costs_its_own_panel(tmp_path):
    stored(tmp_path / "runs")
    broken = stored(tmp_path / "runs", model="small", seed=1)
    pd.read_parquet(broken / "steps.parquet").drop(columns="stop_logit").to_parquet(broken / "steps.parquet")
    run_index = open_run_index(tmp_path / "runs")
    assert set(traces_of(run_index)) == {("A", "tiny")} and "stop_logit" in run_index.missing[0][3]
    run_short("05_figures", tmp_path, runs=tmp_path / "runs", output_dir=tmp_path / "made")
    (folder,) = find_runs(tmp_path / "made", "05_figures")
    assert (folder / "figures" / "figure2.svg").exists() and (folder / "table1.parquet").exists()


def test_tables_are_shown_whole(tmp_path, capsys):
    "All rows of Table 2 with their truth, and Tables 6 and 7 too, stand in the committed notebook"
    book = json.loads((ROOT / "nbs" / "05_figures.ipynb").read_text())
    shown = {
        s: "".join("".join(o.get("data", {}).get("text/html", "")) for o in c["outputs"])
        for c in book["cells"]
        if c["cell_type"] == "code"
        for s in re.findall(r'show\(\s*"(table\d)"', "".join(c["source"]))
    }
    assert set(shown) == {"table1", "table2", "table4", "table6", "table7"}
    for name, words in {
        "table2": ("against", "votes", "gold", "published, Table 2"),
        "table6": ("labels", "published"),
        "table7": ("random, seed 2", "published", "<td>877</td>"),
        "table1": ("κ (Fleiss)", "κ (Cohen)", "3.58 per document", "3 per document"),
    }.items():
        assert all(w in shown[name] for w in words), name
    assert shown["table2"].count("<tr>") > 100


def test_base_and_tuned_share_one_legend_outside_the_panels():
    rows = [
        ("A", "Llama-3.1-8B", f"{m}{c}", k, 1, 0.9, 1.1, 2, 1.9, 2.1)
        for m in ("hard", "unary", "binary", "compare_to_none", "max_over_generations")
        for c in ("", "+platt", "+global")
        for k in ("nll", "example_f1")
    ]
    fig = plot_tuned(
        pd.DataFrame(
            rows,
            columns=TUNED_COLUMNS,
        )
    )
    assert all(ax.get_legend() is None for ax in fig.axes) and len(fig.legends[0].get_texts()) == 5


def outside(ax):
    "Whether the legend of `ax` touches none of its data area"
    fig = ax.figure
    fig.draw_without_rendering()
    return not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


def test_rows_and_columns_without_a_panel_are_left_out():
    found = {("A", "tiny"): 1, ("A", "small"): None, ("B", "tiny"): None, ("B", "small"): None}
    assert shown_panels(found) == (["A"], ["tiny"])
    with pytest.raises(Missing):
        shown_panels({("A", "tiny"): None})


def test_a_blank_panel_has_no_hatching():
    ax = no_run(plt.figure().subplots())
    assert not ax.axison and not ax.patches and [t.get_text() for t in ax.texts] == ["no run"]


def score_rows(n_methods, n_models=2):
    return pd.DataFrame(
        [
            dict(dataset="A", model=m, method=f"m{k}", metric="kl", value=1.0 + k, lo=0.9 + k, hi=1.1 + k)
            for k in range(n_methods)
            for m in ("tiny", "small")[:n_models]
        ]
    )


def test_slopes_have_six_colours_and_no_single_points():
    lone = score_rows(1, 1).assign(method="lone")
    ax = plot_slopes(pd.concat([score_rows(17), lone])).axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2]
    looks = {(line.get_color(), line.get_linestyle(), line.get_markerfacecolor()) for line in lines}
    assert len(lines) == len(looks) == 17 and len({line.get_color() for line in lines}) == 6
    with pytest.raises(Missing):
        plot_slopes(lone)


def test_legends_lie_below_the_points():
    rows = [("A", m, k, 0.9, 0.8, 1.0, 40) for m in ("tiny", "small") for k in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["dataset", "model", "position", "value", "lo", "hi", "n"])
    ax = plot_positions(table).axes[0]
    assert outside(ax) and list(ax.get_xticks()) == [1, 2, 3]


def test_intervals_of_shares_end_at_0_and_1():
    rows = [
        dict(step=1, layer=k, rank=1 + (j < 2 - k), p_chosen=0.99 - j) for k in (0, 1) for j in (0, 0, 0, 0.9)
    ]
    for ax in plot_lens(pd.DataFrame(rows)):
        ends = np.concatenate([s for c in ax.collections for s in c.get_segments()])[:, 1]
        assert ends.min() >= 0 and ends.max() <= 1


def test_epochs_are_whole():
    table = pd.DataFrame(dict(epoch=[1.0, 2, 3], loss=0.7, dev_loss=0.6, dev_nll=[3, 2.9, 2.95]))
    for ax in plot_training(table):
        ax.figure.draw_without_rendering()
        assert all(float(t).is_integer() for t in ax.get_xticks())


def test_the_sign_of_a_change_has_a_colour():
    after = np.array([[[np.nan, 0.6, 0.4], [0.2, np.nan, 0.8], [0.5, 0.5, np.nan]]] * 2)
    effect = np.array([[[np.nan, 0.2, -0.2], [-0.2, np.nan, 0.2], [0.0, 0.0, np.nan]]] * 2)
    forced = SimpleNamespace(names=("a", "b", "c"), n_labels=3, after=after, effect=effect, ids=("x", "y"))
    image = plot_forced_first(forced)[1].images[0]
    up, down = image.cmap(image.norm([0.2, -0.2]))[:, :3]
    assert up[2] > up[0] and down[0] > down[2]


def test_names_beside_cost_marks_do_not_overlap():
    names = ("compare_to_none", "hard", "max_over_generations", "unary", "binary", "binary_outcome")
    marks = pd.DataFrame(dict(method=names, value=[0.8, 0.81, 0.5, 1.1, 0.7, 0.9], metric="brier"))
    marks = marks.assign(tokens=[40, 40, 40, 90, 200, 200], asked=[450, 450, 450, 4000, 15000, 15000])
    marks = marks.assign(lo=marks.value - 0.1, hi=marks.value + 0.1, n_docs=57, reference=False)
    (ax,) = plot_pareto(marks.assign(on_front=marks.method == "max_over_generations"))
    ax.figure.draw_without_rendering()
    texts = [t for t in ax.texts if t.get_text()]
    boxes = [t.get_window_extent() for t in texts]
    assert {t.get_text().replace(" ", "_") for t in texts} == set(names)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(
        ax.bbox.x0 <= b.x0 and b.x1 <= ax.bbox.x1 and t.get_path_effects() for b, t in zip(boxes, texts)
    )


def test_a_viewer_stands_beside_a_plain_table():
    "Jupyter shows no frame of a notebook that it does not trust"
    book = json.loads((ROOT / "nbs" / "05a_step_viewer.ipynb").read_text())
    shown = [o.get("data", {}) for c in book["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    pages = ["".join(d.get("text/html", "")) for d in shown]
    frames = [k for k, html in enumerate(pages) if "<iframe" in html]
    assert frames and all("<table" in pages[k + 1] and "label step" in pages[k + 1] for k in frames)


@pytest.mark.parametrize(
    "name, lines",
    [
        ("tiny", ["tiny"]),
        ("binary both orders", ["binary both", "orders"]),
        ("posts_of_2024-annotated.csv", ["posts_of_", "2024-", "annotated.", "csv"]),
        ("incomprehensibilities", ["incomprehensibilities"]),
        ("", [""]),
    ],
)
def test_names_are_broken_between_words(name, lines):
    assert wrap_name(name, 12).split("\n") == lines


def test_the_name_of_a_row_stays_beside_its_row():
    "An own CSV's name is long; it must not run under the next row or the legend"
    fig, axes = panels(["my_posts_about_the_weather_of_2024_annotated_by_five_people.csv", "b"], ["tiny"])
    fig.draw_without_rendering()
    (text,) = axes[0][0].texts
    assert text.get_window_extent().height <= axes[0][0].get_window_extent().height + 20
