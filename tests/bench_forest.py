"""The token forest against transformers one prompt at a time and in padded batches, on this machine: `make
bench`.

Both rivals are timed on prompts drawn at random, interleaved with the forest, and scaled to all prompts; the
interval is a 95 % bootstrap over those prompts (or batches).
Beside each ratio stand the token counts and the ratio that they allow. The table is stored for 00e_engines to
show.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from mlcllm.engines import HFEngine

SHAPE = dict(
    vocab_size=6144,
    hidden_size=512,
    intermediate_size=1376,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=2048,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)


def new_model():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()


def workloads(n_docs, rng):
    "name -> (prompts, new tokens, tokens that one at a time computes)"

    def draw(n):
        return rng.integers(2, 6000, n).tolist()

    head, questions = draw(700), [draw(5) for _ in range(28)]
    docs = [head + draw(int(n)) for n in rng.integers(20, 61, n_docs)]
    out = {
        f"{name}: {k} questions a document": ([d + q for d in docs for q in questions[:k]], 0)
        for name, k in (("unary", 7), ("binary", 28))
    }
    return out | {"stepwise: 18 tokens written": (docs, 18)}


@torch.no_grad()
def transformers_way(model, prompts, n_new):
    "One batch, padded on the left where there is more than one prompt"
    width = max(map(len, prompts))
    ids, mask = (
        torch.tensor([[fill] * (width - len(p)) + row for p, row in zip(prompts, rows)])
        for fill, rows in ((0, prompts), (0, [[1] * len(p) for p in prompts]))
    )
    if n_new:
        model.generate(ids, attention_mask=mask, max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False)
    else:
        model(
            ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        )


def fast(engine, prompts, n_new):
    engine.generate(prompts, n_new, watch_ids=[5, 6]) if n_new else engine.score(prompts, [5, 6])


def timed(call, *args):
    began = time.perf_counter()
    call(*args)
    return time.perf_counter() - began


BATCH = 8


def measure(prompts, n_new, sample, rng, tokenizer, rounds=2):
    "seconds of the forest per round; seconds a prompt of each rival's samples; tokens asked and computed"
    plain, model = new_model(), new_model()
    transformers_way(plain, prompts[:1], n_new)
    fast(HFEngine(model, tokenizer), prompts[:8], n_new)  # warm up
    forest, alone, padded = [], [], []
    for part in np.array_split(rng.permutation(len(prompts))[:sample], rounds):
        alone += [timed(transformers_way, plain, [prompts[k]], n_new) for k in part]
        engine = HFEngine(model, tokenizer)  # knows no prefix yet
        forest.append(timed(fast, engine, prompts, n_new))
        padded += [
            timed(
                transformers_way,
                plain,
                [prompts[k] for k in rng.choice(len(prompts), BATCH, replace=False)],
                n_new,
            )
            / BATCH
            for _ in range(3)
        ]
    asked = sum(map(len, prompts)) + len(prompts) * max(n_new - 1, 0)
    return (
        forest,
        {"one at a time": alone, f"padded batches of {BATCH}": padded},
        asked,
        engine.stats["tokens_forwarded"],
    )


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--docs", type=int, default=200)
    flags.add_argument("--sample", type=int, default=20)
    flags.add_argument("--threads", type=int, default=None)
    flags.add_argument(
        "--out", default="outputs/reference/00e_engines/bench.parquet", help="where the table goes"
    )
    args = flags.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["a b c"], vocab_size=300, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)
    rng = np.random.default_rng(0)
    rows = []
    print(
        f"{new_model().num_parameters():,} parameters, {args.docs} documents behind 700 shared tokens, "
        f"{torch.get_num_threads()} threads"
    )
    print(
        f"{'workload':36} {'against transformers':22} {'asked':>12} {'computed':>10} {'allowed':>8} "
        f"{'measured':>8}  95 % interval   seconds"
    )
    for name, (prompts, n_new) in workloads(args.docs, rng).items():
        forest, rivals, asked, computed = measure(prompts, n_new, args.sample, rng, tokenizer)
        for rival, seconds in rivals.items():
            draws = rng.choice(seconds, (2000, len(seconds))).mean(1) * len(prompts) / np.mean(forest)
            lo, hi = np.quantile(draws, [0.025, 0.975])
            whole = np.mean(seconds) * len(prompts)
            print(
                f"{name:36} {rival:22} {asked:12,} {computed:10,} {asked / computed:7.1f}× "
                f"{whole / np.mean(forest):7.1f}×  {lo:5.1f} – {hi:5.1f}   {whole:8.1f} → "
                f"{np.mean(forest):.1f}",
                flush=True,
            )
            rows.append(
                dict(
                    workload=name,
                    rival=rival,
                    n_docs=args.docs,
                    n_prompts=len(prompts),
                    tokens_in=asked,
                    tokens_forwarded=computed,
                    allowed=asked / computed,
                    ratio=whole / np.mean(forest),
                    lo=lo,
                    hi=hi,
                    rival_seconds=whole,
                    forest_seconds=np.mean(forest),
                    device=f"CPU, {torch.get_num_threads()} threads",
                    torch=torch.__version__,
                )
            )
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(args.out, index=False)
    print(f"table: {args.out}")


if __name__ == "__main__":
    main()
