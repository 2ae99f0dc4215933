"""The paper's four workloads by four ways, on the bundled `small` in float32, on this machine: `make
bench-servers`.

Stepwise answers, unary and binary questions, and a ratio sweep (five shares of multi-label demonstrations),
each by the token forest, by vLLM with its prefix cache (in blocks of its own choice and of 32 tokens), and by
transformers one prompt at a time and in padded batches.
Every way runs in a process of its own, so that its memory is its own, and vLLM's started engine has answered
other prompts before the clock runs. transformers is timed on prompts drawn at random and scaled, with a 95 %
bootstrap interval. The table is stored for 00f_vllm to show.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_forest import BATCH, timed, transformers_way

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.questions import binary_prompts, unary_prompts
from mlcllm.stepwise_logits import PromptConfig, ask_prompts, make_verbalizer

WAYS = ("forest", "vllm", "vllm, small blocks", "one at a time", "padded")
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEW = 18


def workloads(n_docs, encode, reader_of):
    "name -> (token-id lists, new tokens, ids to watch)"
    docs, train = load_docs("demo", "dev+test", n_docs=n_docs), load_docs("demo", "train")

    def asked(**how):
        return encode([p.text for p in ask_prompts(docs, train, PromptConfig(**how))])

    watch = reader_of(docs).watch_ids
    return {
        "stepwise": (asked(), NEW, watch),
        "unary": (encode([q.text for q in unary_prompts(docs, train)]), 0, watch[:2]),
        "binary": (encode([q.text for q in binary_prompts(docs, train)]), 0, watch[:2]),
        "ratio sweep": ([p for r in RATIOS for p in asked(ratio=r)], NEW, watch),
    }


def through(engine, prompts, n_new, watch):
    engine.generate(prompts, n_new, [], watch) if n_new else engine.score(prompts, watch)


def whole(way, engine, jobs):
    "Rows of an engine that does everything"
    other = [p[: len(p) // 2] + [7, 9, 11] for p in jobs["unary"][0][:40]]
    through(engine, other, 4, [5, 6])
    through(engine, other, 0, [5, 6])  # nothing that is timed, but everything compiled
    for name, (prompts, n_new, watch) in jobs.items():
        before = dict(engine.stats)
        seconds = timed(through, engine, prompts, n_new, watch)
        yield dict(
            workload=name,
            way=way,
            seconds=seconds,
            lo=seconds,
            hi=seconds,
            n_prompts=len(prompts),
            tokens_in=engine.stats["tokens_in"] - before["tokens_in"],
            tokens_forwarded=engine.stats["tokens_forwarded"] - before["tokens_forwarded"],
        )


def sampled(way, model, jobs, sample, rng):
    "Rows of transformers, scaled from prompts drawn at random"
    for name, (prompts, n_new, _) in jobs.items():
        distinct = list({tuple(p): p for p in prompts}.values())

        def draw(n):
            return [distinct[k] for k in rng.choice(len(distinct), n, replace=False)]

        transformers_way(model, draw(2), n_new)
        each = np.array(
            [
                timed(transformers_way, model, batch, n_new) / len(batch)
                for batch in (
                    [draw(1) for _ in range(sample)]
                    if way == "one at a time"
                    else [draw(BATCH) for _ in range(max(4, sample // BATCH))]
                )
            ]
        )
        lo, hi = np.quantile(rng.choice(each, (2000, len(each))).mean(1), [0.025, 0.975]) * len(distinct)
        tokens = sum(map(len, distinct)) + len(distinct) * max(n_new - 1, 0)
        yield dict(
            workload=name,
            way=way,
            seconds=each.mean() * len(distinct),
            lo=lo,
            hi=hi,
            n_prompts=len(prompts),
            tokens_in=sum(map(len, prompts)),
            tokens_forwarded=tokens,
        )


def one_way(way, n_docs, sample):
    began, rng = time.perf_counter(), np.random.default_rng(0)
    engine = (
        load_engine(
            "small",
            backend="vllm",
            dtype="float32",
            backend_options=dict(
                gpu_memory_utilization=0.5,
                max_model_len=2048,
                block_size=32 if "small" in way else 128,
            ),
        )
        if "vllm" in way
        else load_engine("small", gpu="cpu", dtype="float32", share_prefixes=way == "forest")
    )
    start = time.perf_counter() - began
    jobs = workloads(n_docs, engine.encode, lambda docs: make_verbalizer(engine, docs, PromptConfig()))
    rows = list(
        whole(way, engine, jobs)
        if way == "forest" or "vllm" in way
        else sampled(way, engine.model, jobs, sample, rng)
    )
    if "vllm" in way:
        del engine.llm  # its process ends, and is counted
    time.sleep(3)
    peak = (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * 1024
    )
    return [
        r
        | dict(
            start_seconds=start,
            peak_bytes=peak,
            device=f"CPU, {os.cpu_count()} cores",
            torch=torch.__version__,
            n_docs=n_docs,
        )
        for r in rows
    ]


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--docs", type=int, default=160)
    flags.add_argument("--sample", type=int, default=24)
    flags.add_argument("--way", choices=WAYS, default=None)
    flags.add_argument("--rows", default=None)
    flags.add_argument(
        "--out", default="outputs/reference/00f_vllm/bench.parquet", help="where the table goes"
    )
    args = flags.parse_args()
    if args.way:
        Path(args.rows).write_text(json.dumps(one_way(args.way, args.docs, args.sample)))
        return
    os.environ |= dict(
        VLLM_CPU_KVCACHE_SPACE="4", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="ERROR"
    )
    rows, file = [], Path(args.out).with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    for way in WAYS:
        subprocess.run(
            [
                sys.executable,
                __file__,
                "--way",
                way,
                "--rows",
                str(file),
                "--docs",
                str(args.docs),
                "--sample",
                str(args.sample),
            ],
            check=True,
        )
        rows += json.loads(file.read_text())
        file.unlink()
        print(
            pd.DataFrame(rows[-4:])[
                [
                    "workload",
                    "way",
                    "seconds",
                    "lo",
                    "hi",
                    "tokens_in",
                    "tokens_forwarded",
                    "start_seconds",
                    "peak_bytes",
                ]
            ]
            .round(2)
            .to_string(index=False),
            flush=True,
        )
    pd.DataFrame(rows).to_parquet(args.out, index=False)
    print(f"table: {args.out}")


if __name__ == "__main__":
    main()
