"""README's picture, from the stored run of `tiny` on the demo posts: the right answer of several labels whose
steps are the most peaked. `python tests/hero_picture.py` writes outputs/reference/figures/steps.png.
"""

import sys
from pathlib import Path

import matplotlib

from mlcllm.data import load_docs
from mlcllm.stepwise_logits import plot_steps, read_answers, read_traces
from mlcllm.stored_runs import reference_runs, usable

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "outputs" / "reference" / "figures" / "steps.png"


def best_example(folder):
    "Its trace, and its gold labels"
    docs, steps, names = read_answers(folder)
    found = zip(read_traces(docs, steps, names), docs.gold, strict=True)
    right = [(trace, gold) for trace, gold in found if len(trace) > 1 and set(trace.chosen) == set(gold)]
    return max(right, key=lambda pair: pair[0].probs.max(axis=1).min())


def main(picture=PICTURE):
    matplotlib.use("agg")
    runs = usable(reference_runs(), "01_stepwise_logits")
    folder = runs.folder[(runs.dataset == "demo") & (runs.model == "tiny")].tolist()[-1]
    trace, gold = best_example(folder)
    docs = load_docs("demo", "test")
    fig = plot_steps(trace, docs.texts[docs.ids.index(trace.doc_id)], gold)
    fig.savefig(picture, dpi=150)
    print(f"{trace.doc_id}: {', '.join(trace.chosen)}; {trace.probs.max(axis=1).round(2)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
