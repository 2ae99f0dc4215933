"Scores of a run, computed again from the estimates that it stored."

from pathlib import Path

import numpy as np
import pandas as pd

from mlcllm.alignment import stored_estimates
from mlcllm.estimators import score_without_one
from mlcllm.metrics import score
from mlcllm.runs import read_table
from mlcllm.stored_runs import main_rows


def assert_recomputed(folder, docs=None, tolerance=1e-6):
    "Every score of a run, from the run's own estimates; with documents also those of people"
    stored, (dists, known) = read_table(folder, "scores"), stored_estimates(folder)
    names = [m for m in dict.fromkeys(stored.method) if m in {d.method for d in dists}]
    dists = sorted((d for d in dists if d.method in names), key=lambda d: names.index(d.method))
    fresh = [score(dists, known, n_boot=0)]
    if docs is not None and (docs.n_annotators >= 2).any():
        fresh.append(score_without_one(dists, docs, n_boot=0))
    if (Path(folder) / "thresholds.parquet").exists():
        fresh += at_thresholds(dists, known, read_table(folder, "thresholds"))
    fresh = pd.concat(fresh, ignore_index=True)
    main = stored if docs is not None else main_rows(stored)
    on = ["method", "metric", "label", "truth"]
    both = main.assign(label=main.label.fillna("")).merge(
        fresh.assign(label=fresh.label.fillna("")), on=on, how="left", suffixes=("", "_again")
    )
    drawn = both.method.isin(["resampled", "true_shares", "another_panel"])  # of votes, not of estimates
    assert both.value_again.notna()[~drawn & both.value.notna()].all(), both[
        ~drawn & both.value_again.isna()
    ][on].head()
    np.testing.assert_allclose(both.value[~drawn], both.value_again[~drawn], atol=tolerance)
    return len(both)


def at_thresholds(dists, docs, thresholds):
    by_name = {d.method: d for d in dists}
    for method, rows in thresholds.groupby("method", sort=False):
        values = rows.set_index("label").threshold.loc[list(docs.labels.names)].to_numpy()
        t = score(
            [by_name[method.rsplit("+", 1)[0]]],
            docs,
            ["example_f1", "jaccard", "micro_f1", "macro_f1", "f1"],
            0,
            threshold=values,
        )
        yield t.assign(method=method)
