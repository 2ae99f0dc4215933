"""Scores of single documents under several prompts, on a real corpus: what 01j_variance splits.

python tests/measure_variance.py --dataset GoEmotions --data folder --model smollm2

Every document is asked about with each of several sets of demonstrations, label orders and templates; one
answer gives all the methods, two of them once more matched to the labels' frequencies in the train split,
beside the label prior. Stored are scores, no texts and no ids: documents are numbered.
"""

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from mlcllm.calibration import fit_offsets
from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.estimators import reference_dists
from mlcllm.methods import estimate
from mlcllm.prompt_config import PromptConfig
from mlcllm.variance import document_scores

ROOT = Path(__file__).parents[1]
METHODS = ("compare_to_none", "hard", "max_over_generations", "first_step")
MATCHED = ("max_over_generations", "first_step")  # once more, shifted to the frequencies of the labels
SCORES = ("brier", "kl", "l1", "example_f1")
ORDERS, TEMPLATES = ("alphabetical", "reverse"), ("pipeline", "config")


def settings(n_seeds):
    "Every set of demonstrations with every label order and template"
    plain = PromptConfig()
    return [
        replace(plain, seed=s, label_order=o, template=t)
        for s, o, t in product(range(n_seeds), ORDERS, TEMPLATES)
    ]


def with_matched(dists, docs, demos):
    "Estimates, two of them also matched to the label prior, and that prior"
    prior = next(d for d in reference_dists(docs, demos) if d.method == "prior")
    chosen = [d for d in dists if d.method in MATCHED]
    fitted = [fit_offsets([d], "prior_matching", prior.probs[0]) for d in chosen]
    return [*dists, *(f.transform(d) for f, d in zip(fitted, chosen)), prior]


def measure(engine, docs, demos, n_seeds=3, say=print):
    "Scores of every document by every method and metric under every setting; documents are numbered"
    found, start = {}, time.process_time()
    for config in settings(n_seeds):
        found[config] = with_matched(estimate(engine, docs, demos, list(METHODS), config).dists, docs, demos)
        spent = time.process_time() - start
        say(f"seed {config.seed}, {config.label_order}, {config.template}: {spent:.0f} CPU seconds")
    table = pd.concat([document_scores(found, docs, m) for m in SCORES], ignore_index=True)
    numbers = {name: k for k, name in enumerate(docs.ids)}
    return table.assign(doc_id=table.doc_id.map(numbers).astype("int32"), value=table.value.astype("float32"))


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--dataset", default="demo")
    flags.add_argument("--data", help="the data set's own folder")
    flags.add_argument("--split", default="test")
    flags.add_argument("--model", default="tiny")
    flags.add_argument("--docs", type=int, default=100)
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--to", type=Path, default=ROOT / "outputs" / "reference" / "01j_variance")
    args = flags.parse_args()
    docs = load_docs(args.dataset, args.split, data_dir=args.data, n_docs=args.docs)
    demos = load_docs(args.dataset, "train", data_dir=args.data)
    table = measure(load_engine(args.model), docs, demos, args.seeds, lambda line: print(line, flush=True))
    args.to.mkdir(parents=True, exist_ok=True)
    path = args.to / f"{args.dataset}.parquet"
    table.assign(dataset=args.dataset, model=args.model).to_parquet(path, index=False, compression="zstd")
    print(f"{len(table):,} scores: {path}")


if __name__ == "__main__":
    main()
