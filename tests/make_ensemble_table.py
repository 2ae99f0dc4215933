"""What ensembles of prompts, sampled answers and verbalised confidence are worth on a real model.

python tests/make_ensemble_table.py folders of runs of 02, as the job `prompts_and_draws` of params/real.yaml
makes them. Kept in outputs/reference/01e_ensembles: Brier scores, differences and costs; no text, no id.
"""

import sys

import numpy as np
import pandas as pd

from mlcllm.runs import default_output_dir, read_record, read_table

TARGET = default_output_dir() / "reference" / "01e_ensembles"
COSTS = ["prompts", "tokens_in", "tokens_forwarded", "unread"]  # a document


def shares_of_certainty(dists):
    "How often a method says 0 or 1; stored probabilities keep 1e-8 away from both"
    by = dists.groupby("method").prob
    return pd.DataFrame(
        {f"at_{end}": by.agg(lambda p: np.isclose(p, end, rtol=0, atol=2e-8).mean()) for end in (0, 1)}
    )


def tables(folder):
    "Brier scores with costs, and the differences of two methods on the same documents"
    given = read_record(folder)["parameters"]
    about = dict(dataset=given["dataset"], model=given["model"], n_docs=given["n_docs"])
    pairs = read_table(folder, "pairs")
    pairs = pairs[pairs.metric == "brier"]
    against = pairs.against.iloc[0]  # votes, or gold labels where there are none
    scores = read_table(folder, "scores")
    scores = scores[(scores.metric == "brier") & scores.label.isna() & (scores.truth == against)]
    scores = scores.set_index("method")[["value", "lo", "hi"]]
    costs = read_table(folder, "costs").set_index("method")[COSTS]
    scores = scores.join(costs).join(shares_of_certainty(read_table(folder, "dists")))
    pairs = pairs[["method", "other", "difference", "lo", "hi", "p", "p_adjusted"]]
    return scores.round(6).reset_index().assign(**about), pairs.round(6).assign(**about)


def main(*folders):
    if not folders:
        sys.exit(__doc__)
    found = [tables(f) for f in folders]
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, parts in zip(("scores", "differences"), zip(*found)):
        table = pd.concat(parts, ignore_index=True)
        table.to_parquet(TARGET / f"{name}.parquet", index=False)
        print(f"{len(table):,} rows in {TARGET}/{name}.parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
