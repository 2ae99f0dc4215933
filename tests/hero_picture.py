"""README's picture, from the stored run of SmolLM2 on GoEmotions: mean label probabilities before the first
and the second label, beside gold labels. `python tests/hero_picture.py` writes
outputs/reference/figures/mean_steps.png.
"""

import sys
from pathlib import Path

import matplotlib

from mlcllm.stepwise_logits import plot_mean_steps, read_answers, read_traces
from mlcllm.stored_runs import plain_runs, reference_runs

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "outputs" / "reference" / "figures" / "mean_steps.png"


def stored_traces(dataset="GoEmotions", model="smollm2"):
    "Traces of a stored run, and the gold labels of their documents"
    runs = plain_runs(reference_runs(), "01_stepwise_logits")
    folder = runs.folder[(runs.dataset == dataset) & (runs.model == model)].iloc[-1]
    docs, steps, names = read_answers(folder)
    return read_traces(docs, steps, names), list(docs.gold)


def main(picture=PICTURE):
    matplotlib.use("agg")
    plot_mean_steps(*stored_traces()).savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
