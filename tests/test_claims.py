"The ten claims: their statistics against plain loops, on simulated data with a known truth, and on the paper's own numbers."
from pathlib import Path

import numpy as np
import pytest

from mlcllm.runs import read_table
from mlcllm.step_statistics import step_table
from mlcllm.stepwise_logits import label_probs
from mlcllm.stored_runs import index_runs, plain_runs

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("dataset", ["SemEval", "GoEmotions"])
def test_ranks_among_labels_that_are_left_are_those_of_a_plain_loop(dataset):
    runs = plain_runs(index_runs(ROOT / "outputs" / "reference"), "01_stepwise_logits")
    run = runs[(runs.dataset == dataset) & (runs.docs != "test")].iloc[0]
    docs, steps = read_table(run.folder, "docs"), read_table(run.folder, "steps")
    table, names, seen = step_table(docs, steps, run.labels), list(run.labels), 0
    groups = dict(list(table.groupby("doc_id", sort=False)))
    for doc, stored in list(steps[steps.doc_id.isin(groups)].groupby("doc_id", sort=False))[:300]:
        mine, chosen = groups[doc].reset_index(drop=True), stored.chosen.tolist()
        for k, p in enumerate(label_probs(np.stack(stored.logits.tolist()))):
            order = [names[j] for j in np.argsort(p)[::-1]]
            left = [n for n in order if n != "none" and n not in chosen[:k + 1]]
            if k: assert mine.top_is_new[k] == float(order[0] not in chosen[:k])
            if k + 1 == len(chosen):
                assert np.isnan(mine.next_rank[k]) and np.isnan(mine.n_left[k]) and np.isnan(mine.never_by_chance[k])
                continue
            follows, seen = chosen[k + 1], seen + 1
            assert mine.n_left[k] == len(left)
            assert mine.next_rank[k] == 1 + left.index(follows) if follows in left else np.isnan(mine.next_rank[k])
            if order[1] != follows and order[1] in left and follows in left:
                later = [n for n in set(chosen[k + 2:]) if n in left and n != follows]
                assert mine.never_by_chance[k] == pytest.approx(1 - len(later) / (len(left) - 1))
            else: assert np.isnan(mine.never_by_chance[k])
    assert seen > 10
