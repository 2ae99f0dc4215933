"""What a run of 01 stored is checked before 02, 05, 05a and 06a use it: whatever a table holds, one line
names file, row and document.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlcllm.figure_tables import load_traced, open_run_index, traces_of
from mlcllm.interchange import write_logs
from mlcllm.stepwise_logits import read_answers, read_traces
from mlcllm.stored_runs import reference_runs, usable

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path):
    "A finished run whose tables a test may spoil"
    index = usable(reference_runs(), "01_stepwise_logits")
    folder = Path(index.folder[index.dataset == "demo"].tolist()[-1])
    record = json.loads((folder / "run.json").read_text())
    del record["warnings_left_out"]  # not a published one, which may lack the text of an answer
    (tmp_path / "run.json").write_text(json.dumps(record))
    for name in ("docs", "steps"):
        pd.read_parquet(folder / f"{name}.parquet").to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def spoil(folder, table, change):
    path = folder / f"{table}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def with_value(column, value, row=1):
    "A table whose column holds something else in one row"

    def change(table):
        values = list(table[column])
        values[row] = value
        return table.assign(**{column: values})

    return change


def as_text(column):
    return lambda table: table.assign(**{column: [str(v) for v in table[column]]})


FAULTS = {
    "a chosen label that is none": ("steps", with_value("chosen", "envy"), "row 2", "chosen must be a label"),
    "no chosen label": ("steps", with_value("chosen", None), "row 2", "chosen must be a label"),
    "a gold label that is none": (
        "docs",
        with_value("gold", ["envy"]),
        "row 2",
        "gold must be a list of labels",
    ),
    "no gold": ("docs", with_value("gold", None), "row 2", "gold must be a list"),
    "no answer": ("docs", with_value("predicted", None), "row 2", "predicted must be a list"),
    "a label that is a number": (
        "docs",
        lambda t: t.assign(gold=[[1.0]] * len(t)),
        "row 1",
        "gold must be a list",
    ),
    "no output": ("docs", with_value("output", None), "row 2", "output must be a text"),
    "a share of 3": (
        "docs",
        lambda t: t.assign(human=[[3.0]] * len(t)),
        "row 1",
        "human must be empty, or a share",
    ),
    "no logits": ("steps", with_value("logits", None), "row 2", "logits must be a list of"),
    "too few logits": ("steps", with_value("logits", [1.0]), "row 2", "logits must be a list of"),
    "logits as text": ("steps", as_text("logits"), "row 1", "logits must be a list of"),
    "log-sum-exp as text": ("steps", as_text("logsumexp"), "row 1", "logsumexp must be a number"),
    "steps as text": ("steps", as_text("step"), "row 1", "step must be a whole number"),
    "no document": ("docs", lambda t: t.head(0), "", "holds no document"),
    "a document twice": ("docs", lambda t: pd.concat([t, t.head(1)]), "", "stands there twice"),
    "a step twice": ("steps", lambda t: pd.concat([t, t.head(1)]), "", "stands there twice"),
    "a step of nobody": ("steps", with_value("doc_id", "nobody"), "", "is not in docs.parquet"),
    "an id that is a number": (
        "docs",
        lambda t: t.assign(doc_id=range(len(t))),
        "row 1",
        "doc_id must be a text",
    ),
} | {
    f"{table} without {column}": (
        table,
        lambda t, c=column: t.drop(columns=c),
        "",
        f"has no column '{column}'",
    )
    for table, columns in (
        ("docs", ("doc_id", "gold", "predicted", "human", "output", "found_step")),
        ("steps", ("doc_id", "step", "chosen", "token_index", "logits", "logsumexp")),
    )
    for column in columns
}


def test_what_was_stored_is_read(run):
    docs, steps, names = read_answers(run)
    traces = read_traces(docs, steps, names)
    assert len(traces) == len(docs) and sum(map(len, traces)) == len(steps)
    assert all(np.isfinite(t.logits).all() for t in traces if t.found_step)


def test_rows_of_steps_may_stand_in_any_order_and_be_absent(run):
    docs, steps, names = read_answers(run)
    missing = docs.doc_id.iloc[1]
    mixed = steps[steps.doc_id != missing].sample(frac=1, random_state=0)
    foreign = mixed.iloc[:1].assign(doc_id="of another run", logits=[None])
    mixed = pd.concat([foreign, mixed])
    for trace, d in zip(read_traces(docs, mixed, names), docs.itertuples()):
        own = steps[steps.doc_id == d.doc_id].sort_values("step")  # one document after the other
        if d.doc_id == missing:
            assert len(trace) == 1 and np.isnan(trace.logits).all() and trace.token_index[0] == -1
            continue
        assert trace.doc_id == d.doc_id and trace.chosen == tuple(own.chosen)
        np.testing.assert_array_equal(trace.logits, np.stack(own.logits.to_list()))
        for name in ("token_index", "logsumexp", "continue_logit", "stop_logit"):
            np.testing.assert_array_equal(getattr(trace, name), own[name])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_table_is_named(run, fault):
    table, change, row, message = FAULTS[fault]
    spoil(run, table, change)
    with pytest.raises(ValueError) as told:
        read_answers(run)
    text = str(told.value)
    assert f"{table}.parquet" in text and message in text and row in text and "\n" not in text


def test_every_reader_says_the_same(run, tmp_path):
    "05's tables and 06a refuse what `read_answers` refuses"
    spoil(run, "steps", with_value("chosen", "envy"))
    row = type("Row", (), dict(folder=run, dataset="demo", model="tiny", docs="test", labels=()))
    for use in (lambda: load_traced(row), lambda: write_logs(run, tmp_path / "logs")):
        with pytest.raises(ValueError, match="steps.parquet, row 2"):
            use()


def test_a_published_run_may_lack_the_text_of_answers(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | dict(warnings_left_out=0)))
    spoil(run, "docs", with_value("output", None))
    docs, _, _ = read_answers(run)
    assert docs.output.isna().tolist() == [False, True] + [False] * (len(docs) - 2)
    spoil(run, "docs", lambda t: t.assign(output=3))
    with pytest.raises(ValueError, match="output must be a text"):
        read_answers(run)


def test_every_stored_run_is_read():
    found = reference_runs()
    chosen = found[found.notebook.isin(("01_stepwise_logits", "04a_sft"))]
    assert len(chosen) > 30
    for row in chosen.itertuples():
        for suffix in ("",) if row.notebook.startswith("01") else ("_base", "_sft"):
            docs, steps, names = read_answers(row.folder, suffix)
            assert len(docs) and len(steps) and names
    index = open_run_index(ROOT / "outputs" / "reference")
    traces_of(index)
    assert index.missing == []
