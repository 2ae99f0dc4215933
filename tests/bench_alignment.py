"""Unary and binary estimates as a user asks for them (questions written, tokenised, answered, Bradley-Terry
solved) against one prompt at a time, on this machine: `make bench`.

The rival is given each question's text, tokenises it and runs transformers on it alone; it is timed on
questions drawn at random, interleaved with ours, and scaled to all of them. 95 % bootstrap intervals.
"""

import argparse

import numpy as np
import torch
from bench_forest import new_model, timed, transformers_way
from transformers.utils import logging

from mlcllm.alignment import estimate
from mlcllm.data import load_docs
from mlcllm.engines import HFEngine, load_tokenizer
from mlcllm.questions import binary_prompts, unary_prompts


def two_hundred():
    "Documents to ask about and ten of the others to demonstrate"
    every, train = load_docs("demo", "dev+test"), load_docs("demo", "train")
    shown = {i for q in unary_prompts(every.take([0]), train) for i in getattr(q, "demo_ids", ())}
    more = [k for k, i in enumerate(train.ids) if i not in shown][: 200 - len(every)]
    return [every, train.take(more)], train


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--sample", type=int, default=20)
    flags.add_argument("--rounds", type=int, default=2)
    args = flags.parse_args()
    logging.set_verbosity_error()
    (docs, more), demos = two_hundred()
    tokenizer, rng = load_tokenizer("tiny"), np.random.default_rng(0)
    plain = new_model()

    def alone(text):
        transformers_way(plain, [tokenizer(text, split_special_tokens=True).input_ids], 0)

    def ours(engine, method):
        for part in (docs, more):
            estimate(engine, part, demos, [method])

    alone("warm up")
    ours(HFEngine(new_model(), tokenizer), "unary")
    print(
        f"{plain.num_parameters():,} parameters, {len(docs) + len(more)} documents, {len(docs.labels)} "
        f"labels, {torch.get_num_threads()} threads"
    )
    print(
        f"{'method':8} {'prompts':>8} {'asked':>12} {'computed':>10} {'allowed':>8} {'measured':>8}  95 "
        "% interval   seconds"
    )
    for method, write in (("unary", unary_prompts), ("binary", binary_prompts)):
        texts, slow, fast = [q.text for part in (docs, more) for q in write(part, demos)], [], []
        for part in np.array_split(rng.permutation(len(texts))[: args.sample], args.rounds):
            slow += [timed(alone, texts[k]) for k in part]
            engine = HFEngine(new_model(), tokenizer)
            fast.append(timed(ours, engine, method))
        asked = engine.stats["tokens_in"]
        computed = engine.stats["tokens_forwarded"]
        whole = np.mean(slow) * len(texts)
        lo, hi = np.quantile(
            rng.choice(slow, (2000, len(slow))).mean(1) * len(texts) / np.mean(fast), [0.025, 0.975]
        )
        print(
            f"{method:8} {len(texts):8,} {asked:12,} {computed:10,} {asked / computed:7.1f}× "
            f"{whole / np.mean(fast):7.1f}×  {lo:5.1f} – {hi:5.1f}   {whole:8.1f} → {np.mean(fast):.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
