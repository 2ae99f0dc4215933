"Memory: predicted before a call, flat in the number of documents, and packs that do not fit are halved."

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from test_engines import CASES, DOCS, FAMILIES, HEAD, draw, engine, folder, tokenizer  # noqa: F401 (fixtures)

from mlcllm.engines import HFEngine, load_engine

SETUP = """
import gc, resource, sys
import numpy as np, torch

torch.set_num_threads(1)
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from mlcllm.engines import HFEngine

bpe = ByteLevelBPETokenizer()
bpe.train_from_iterator(["a b c"], vocab_size=300, show_progress=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)


def engine(vocabulary, width, layers, heads):
    return HFEngine(
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                intermediate_size=3 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads // 2,
                max_position_embeddings=2048,
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=0,
            )
        ),
        tokenizer,
    )


rng = np.random.default_rng(0)
draw = lambda n: rng.integers(2, 2000, n).tolist()


def status(key):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))


def fresh():
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    return status("VmRSS")
"""


def python(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(x) for x in done.stdout.split()[-2:]]


needs_proc = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="peak memory is read from /proc, which this system lacks",
)


@needs_proc
@pytest.mark.parametrize(
    "shape, n_docs, n_questions, n_new",
    [
        ((6144, 256, 4, 8), 60, 7, 0),
        ((100000, 128, 4, 4), 60, 7, 0),
        ((6144, 256, 8, 8), 3, 406, 0),
        ((6144, 256, 4, 8), 60, 1, 18),
        ((6144, 256, 2, 16), 2, 1, 0),
    ],
    ids=["unary", "large vocabulary", "406 pairs", "written", "a long start"],
)
def test_the_peak_is_predicted_within_a_fifth(shape, n_docs, n_questions, n_new):
    predicted, peak = python(
        """
        shape = tuple(int(x) for x in sys.argv[1].split(","))
        n_docs, n_questions, n_new = map(int, sys.argv[2:])
        e, head = engine(*shape), draw(1900 if n_docs < 3 else 700)
        questions = [draw(5) for _ in range(n_questions)]
        prompts = [d + q for d in [head + draw(40) for _ in range(n_docs)] for q in questions]
        before = fresh()
        predicted = before + e.predict_memory(prompts, n_new)
        e.generate(prompts, n_new, watch_ids=[5]) if n_new else e.score(prompts, [5, 6])
        print(predicted, status("VmHWM"))
        """,
        ",".join(map(str, shape)),
        n_docs,
        n_questions,
        n_new,
    )
    assert abs(predicted / peak - 1) < 0.2


@needs_proc
def test_memory_is_flat_from_200_to_5000_documents():
    small, large = python("""
        e, head, questions, peaks = engine(2000, 32, 2, 2), draw(300), [draw(2) for _ in range(2)], []
        for n in (200, 5000):
            prompts = [d + q for d in [head + draw(15) for _ in range(n)] for q in questions]
            before = fresh(); e.score(prompts, [5, 6]); peaks.append(status("VmHWM") - before)
        print(*peaks)
    """)
    assert (
        large < small + 60e6
    )  # 10,000 prompts of 317 tokens are 25 MB as 64-bit numbers, and must not be copied several times


def test_a_pack_that_does_not_fit_is_halved(engine, monkeypatch):  # noqa: F811
    whole, written = engine.score(CASES["questions"], range(9)), engine.generate(DOCS, 5, watch_ids=[4])
    forward, turned_down = HFEngine._forward, []

    def scarce(self, ids, pack, keep):
        if ids.shape[1] > 40 and len(pack.rows if pack.rows is not None else []) > 1:
            turned_down.append(ids.shape)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, ids, pack, keep)

    monkeypatch.setattr(HFEngine, "_forward", scarce)
    np.testing.assert_allclose(engine.score(CASES["questions"], range(9)).logits, whole.logits, atol=1e-4)
    assert turned_down and [g.token_ids for g in engine.generate(DOCS, 5, watch_ids=[4])] == [
        g.token_ids for g in written
    ]
    monkeypatch.setattr(
        HFEngine,
        "_forward",
        lambda *_: (_ for _ in ()).throw(RuntimeError("DefaultCPUAllocator: can't allocate memory")),
    )
    engine._prefix = (None, None)
    with pytest.raises(
        MemoryError, match="a prompt with 9 tokens of its own does not fit into memory: use a smaller model"
    ):
        engine.score([draw(9)], [1])
    with pytest.raises(MemoryError, match="the start of 90 tokens that prompts share does not fit"):
        engine.score([HEAD + draw(9), HEAD + draw(9)], [1])


def test_the_questions_of_one_document_are_cut_where_they_do_not_fit(engine, monkeypatch):  # noqa: F811
    prompts = [d + q for d in DOCS[:2] for q in [draw(3) for _ in range(600)]]
    whole, rows = engine.score(prompts, range(9)), []
    forward = HFEngine._forward

    def scarce(self, ids, pack, keep):
        if len(keep) > 100:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        rows.append(len(keep))
        return forward(self, ids, pack, keep)

    monkeypatch.setattr(HFEngine, "_forward", scarce)
    np.testing.assert_allclose(engine.score(prompts, range(9)).logits, whole.logits, atol=1e-4)
    assert sum(rows) >= 1100


def test_weights_that_change_are_noticed(folder):  # noqa: F811
    fast, slow = (load_engine(str(folder), gpu="cpu", share_prefixes=share) for share in (True, False))
    fast.score(CASES["questions"], [5])
    for e in (fast, slow):
        with torch.no_grad():
            next(p for n, p in e.model.named_parameters() if "down_proj" in n).mul_(1.5)
    np.testing.assert_allclose(
        fast.score(CASES["questions"], range(9)).logits,
        slow.score(CASES["questions"], range(9)).logits,
        atol=1e-4,
    )


def test_packs_are_made_to_fit(engine, monkeypatch):  # noqa: F811
    whole = engine.score(CASES["questions"] + CASES["strangers"], [7]).logits
    before = engine.stats["tokens_forwarded"]
    monkeypatch.setattr("mlcllm.engines.free_memory", lambda device: 1)
    calls = []
    forward = HFEngine._forward
    monkeypatch.setattr(
        HFEngine, "_forward", lambda self, ids, *rest: calls.append(ids.shape[1]) or forward(self, ids, *rest)
    )
    np.testing.assert_allclose(
        engine.score(CASES["questions"] + CASES["strangers"], [7]).logits, whole, atol=1e-4
    )
    assert len(calls) > 3 and engine.stats["tokens_forwarded"] > before
