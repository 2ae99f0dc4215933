"""In which settings does a small model answer best? Templates, chat, label formats and shots, on dev.

python tests/search_settings.py --data folder [--dataset GoEmotions] [--model smollm2]

All settings are asked about the same documents of dev; the best one there (micro-F1) and the paper's are then
asked once about test. Stored are scores with intervals over documents, no texts and no ids; what is there is
not asked again.
"""

import argparse
import os
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from mlcllm.answer_scores import score_table
from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.prompt_config import PromptConfig, ask_prompts, choose_scoring, make_verbalizer
from mlcllm.stepwise_logits import trace_docs

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "outputs" / "reference" / "00f_gguf" / "settings.parquet"
AXES = dict(
    template=("pipeline", "config"),
    chat=(False, True),
    label_format=("json", "comma"),
    shots=(0, 2, 5, 10, 20),
)
PAPER = PromptConfig()  # ten shots, a JSON list, in the words of the paper's pipeline
KEPT = ("micro_f1", "example_f1", "multilabel_share", "well_formed_share")


def settings():
    "Every setting, as a list of PromptConfig"
    return [replace(PAPER, **dict(zip(AXES, values))) for values in product(*AXES.values())]


def ask(engine, docs, demos, config):
    "Scores of the answers under one setting, and what a document costs; baselines under the paper's"
    start, before = time.process_time(), engine.stats["tokens_in"]
    verbalizer = make_verbalizer(engine, docs, config)
    scoring, _ = choose_scoring(verbalizer, config.label_scoring)
    prompts = ask_prompts(docs, demos, config, engine.tokenizer)
    traces = trace_docs(engine, verbalizer, prompts, config.max_new_tokens, scoring)
    table = score_table(traces, docs, demos if config == PAPER else None)  # baselines: once
    cost = dict(
        tokens_per_doc=(engine.stats["tokens_in"] - before) / len(docs),
        seconds_per_doc=(time.process_time() - start) / len(docs),
    )
    about = {k: getattr(config, k) for k in AXES}
    own = table[table.metric.isin(KEPT)]
    return own[["method", "metric", "value", "lo", "hi", "n_docs"]].assign(**about, **cost)


def is_there(table, about):
    "Whether a table holds rows of a setting"
    return table is not None and (table[list(about)] == pd.Series(about)).all(axis=1).any()


def save(table, place):
    "Write a table beside its place, and rename it"
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    table.to_parquet(part, index=False)
    os.replace(part, place)


def best_setting(table):
    "The setting with the highest micro-F1 on dev"
    rows = table[(table.method == "hard") & (table.metric == "micro_f1") & (table.split == "dev")]
    best = rows.loc[rows.value.idxmax()]
    return replace(PAPER, **{k: type(AXES[k][0])(best[k]) for k in AXES})


def search(engine, load, about, place, n_dev=100, n_test=300, say=print):
    "Ask under every setting about dev, under the best and the paper's about test"
    table, demos = (pd.read_parquet(place) if place.exists() else None), load("train", None)

    def step(split, docs, config):
        nonlocal table
        key = about | dict(split=split) | {k: getattr(config, k) for k in AXES}
        if is_there(table, key):
            return
        rows = ask(engine, docs, demos, config).assign(**about, split=split)
        table = rows if table is None else pd.concat([table, rows], ignore_index=True)
        save(table, place)
        f1 = rows[(rows.method == "hard") & (rows.metric == "micro_f1")].iloc[0]
        say(f"{split} {list(key.values())[-len(AXES) :]}: micro-F1 {f1.value:.3f} [{f1.lo:.3f}, {f1.hi:.3f}]")

    dev = load("dev", n_dev)
    for config in settings():
        step("dev", dev, config)
    mine = table[(table[list(about)] == pd.Series(about)).all(axis=1)]
    for config in (best_setting(mine), PAPER):
        step("test", load("test", n_test), config)
    return table


def main():
    ask_for = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask_for.add_argument("--data", required=True, help="holds a folder for each data set")
    ask_for.add_argument("--dataset", default="GoEmotions")
    ask_for.add_argument("--model", default="smollm2")
    given = ask_for.parse_args()
    engine = load_engine(given.model, gpu="cpu")

    def load(split, n_docs):
        return load_docs(given.dataset, split, data_dir=Path(given.data) / given.dataset, n_docs=n_docs)

    search(engine, load, dict(dataset=given.dataset, model=given.model), TARGET)


if __name__ == "__main__":
    main()
