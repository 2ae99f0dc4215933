"""The learning curves of 01i_stacking on the stored estimates of SmolLM2-135M and Gemma 3 270M.

python tests/make_learning_curves.py DATA [folders of runs of 02 ...]: DATA holds a folder for each data set.
Runs of other data sets and models keep their rows.
Of every run only scores are kept, in outputs/reference/01i_stacking/learning_curves.parquet: no text, no id.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mlcllm.data import load_docs
from mlcllm.demos import embed
from mlcllm.encoders import find_encoder
from mlcllm.estimate_tables import read_dists
from mlcllm.runs import default_output_dir, read_record, read_table
from mlcllm.stacking import learning_curve
from mlcllm.stored_runs import reference_runs, usable

# chosen on the runs of the two bundled toys, where adding hard, binary and last_step made stacking worse;
# where one label fits, a run has two of them
READINGS = ("compare_to_none", "first_step", "max_over_generations", "mean_over_generations", "unary")
MODELS = ("smollm2", "gemma3-270m")
TARGET = default_output_dir() / "reference" / "01i_stacking" / "learning_curves.parquet"


def documents(record, ids, data):
    "The texts and votes of a run's documents, in the order of its estimates"
    given = record["parameters"]
    docs = load_docs(given["dataset"], given["split"], data_dir=Path(data) / given["dataset"])
    where = {i: k for k, i in enumerate(docs.ids)}
    return docs.take([where[i] for i in ids])


def curves(folder, data, **options):
    record, rows = read_record(folder), read_table(folder, "dists")
    docs = documents(record, list(dict.fromkeys(rows.doc_id)), data)
    raw = rows[rows.method.isin(READINGS)]
    vectors = embed(docs.texts, find_encoder("minilm"), device="cpu")
    features = dict(tfidf=docs.texts, minilm=vectors)
    table = learning_curve(read_dists(raw, docs), docs, features=features, **options)
    about = {k: record["parameters"][k] for k in ("dataset", "split", "model")}
    return table.assign(**about, n_docs=len(docs), value=np.round(table.value, 6))


def main(data, *folders):
    if not folders:
        runs = usable(reference_runs(), "02_alignment").query("model in @MODELS")
        folders = [f for f in runs.folder if (Path(f) / "dists.parquet").exists()]
    found = pd.concat([curves(f, data, n_draws=8) for f in folders], ignore_index=True)
    if TARGET.exists():
        old, key = pd.read_parquet(TARGET), ["dataset", "model"]
        again = old.set_index(key).index.isin(found.set_index(key).index)
        found = pd.concat([old[~again], found], ignore_index=True)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    found.sort_values(["model", "dataset"], kind="stable").to_parquet(TARGET, index=False)
    print(f"{len(found):,} scores of {', '.join(dict.fromkeys(found.dataset))} in {TARGET}")


if __name__ == "__main__":
    main(*sys.argv[1:])
