"""Trained models: a training that is killed ends where it would have, and notebooks 04 and 04a run as a user
runs them.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from notebooks import ENV, papermill, refusal, run_short

from mlcllm import demux, sft
from mlcllm.alignment import join_dists
from mlcllm.data import load_docs
from mlcllm.demux import last_checkpoint, load_demux, predict, train_targets
from mlcllm.runs import find_runs, read_run

ROOT = Path(__file__).resolve().parent.parent
BERT = """
import sys, torch
from mlcllm.data import load_docs
from mlcllm.demux import load_tokenizer, make_demux, train_demux, predict
from transformers import AutoModel, BertConfig
from pathlib import Path

place = Path(sys.argv[1])
tokenizer = load_tokenizer("minilm")
torch.manual_seed(0)
AutoModel.from_config(
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
).save_pretrained(place / "encoder")
tokenizer.save_pretrained(place / "encoder")
train, dev = load_docs("demo", "train"), load_docs("demo", "dev")
model, own = make_demux(str(place / "encoder"), train.labels, max_length=96)
history = train_demux(
    model,
    own,
    train,
    dev,
    place / "checkpoints",
    epochs=6,
    learning_rate=1e-3,
    batch_size=16,
    patience=9,
    metric="nll",
)
model.save_pretrained(place / "model")
own.save_pretrained(place / "model")
history.to_parquet(place / "history.parquet")
"""


def test_a_killed_training_ends_where_it_would_have(tmp_path):
    def command(place):
        return [sys.executable, "-c", BERT, str(place)]

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert subprocess.run(command(tmp_path / "whole"), env=ENV, capture_output=True).returncode == 0
    process = subprocess.Popen(
        command(tmp_path / "killed"), env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.time() + 120
    while (
        len(list((tmp_path / "killed" / "checkpoints").glob("checkpoint-*/trainer_state.json"))) < 2
        and process.poll() is None
        and time.time() < until
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL), process.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert subprocess.run(command(tmp_path / "killed"), env=ENV, capture_output=True).returncode == 0
    docs = load_docs("demo", "test")
    whole, killed = (predict(*load_demux(tmp_path / n / "model"), docs).probs for n in ("whole", "killed"))
    assert np.abs(whole - killed).max() < 1e-5


def test_demux_on_votes_joins_02(tmp_path):
    done = papermill("04_demux", tmp_path, votes=True, epochs=1, n_train=32, n_docs=12)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = find_runs(tmp_path / "runs", "04_demux")
    assert {"demux+votes", "tfidf", "prior", "annotator", "demux+votes+global"} <= set(
        read_run(folder)["scores"].method
    )
    docs = load_docs("demo", "test", n_docs=12)
    (own,) = join_dists(folder, docs)
    assert own.method == "demux+votes" and np.allclose(
        own.probs, predict(*load_demux(folder / "model", docs.labels), docs).probs, atol=1e-6
    )
    run_short(
        "04_demux", tmp_path, trained=folder / "model", split="dev", dev_split="test", n_docs=8
    )  # what is trained is scored elsewhere
    place = next(f for f in find_runs(tmp_path / "runs", "04_demux") if f != folder)
    dists = read_run(place)["dists"]
    mine = dists[dists.method == "demux+votes"].pivot(index="doc_id", columns="label", values="prob")
    few = load_docs("demo", "dev", n_docs=8)
    assert (
        np.allclose(
            mine.loc[list(few.ids), list(few.labels.names)],
            predict(*load_demux(folder / "model"), few).probs,
            atol=1e-6,
        )
        and not (place / "model").exists()
    )
    assert "| demux+votes |" in (folder / "model" / "README.md").read_text() and not list(
        folder.rglob("*.bin")
    ) + list(folder.rglob("*.pt"))


@pytest.mark.parametrize(
    "notebook, params, says",
    [
        ("04_demux", dict(split="train"), "are trained on and scored as well"),
        ("04_demux", dict(encoder="./nowhere"), "there is no such folder"),
        ("04_demux", dict(max_length=16), "set max_length to"),
        ("04_demux", dict(train_split="training"), "did you mean 'train'"),
        ("04_demux", dict(trained="."), "no trained Demux model"),
        ("04a_sft", dict(quantization="4bit", gpu="cpu"), "trains on a GPU only"),
        ("04a_sft", dict(max_length=30), "raise max_length"),
        ("04a_sft", dict(train_split="test"), "trained on and asked about"),
    ],
)
def test_bad_input_is_one_line(tmp_path, notebook, params, says):
    said = refusal(notebook, tmp_path, **dict(n_docs=4, n_train=8) | params)
    assert says in said and "\n" not in said


def test_finetuning_and_reinforcement_leave_models_and_rows(tmp_path):
    done = papermill("04a_sft", tmp_path, n_train=32, n_docs=12, epochs=1, rl_steps=2, rl_group=4, lora_r=8)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = find_runs(tmp_path / "runs", "04a_sft")
    run = read_run(folder)
    assert (
        {"base_hard", "sft_hard", "sft_max", "rl_hard", "rl_max"} <= set(run["dists"].method)
        and set(run["spikiness"].model) == {"base", "sft", "rl"}
        and len(run["rl_log"]) == 2
    )
    assert {p.name for p in folder.glob("model_*")} == {
        "model_sft",
        "model_rl",
        "model_sft.files.json",
        "model_rl.files.json",
    } and not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt"))
    run_short(
        "01_stepwise_logits", tmp_path, model=folder / "model_sft", n_docs=12, max_new_tokens=24
    )  # the adapter is a model
    asked = read_run(find_runs(tmp_path / "runs", "01_stepwise_logits")[0])
    assert asked["docs"].output.tolist() == run["docs_sft"].output.tolist()


def test_too_little_memory_names_what_lowers_it(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(demux._Trainer, "train", full)
    few = load_docs("demo", "train", n_docs=8)
    with pytest.raises(MemoryError, match="batch_size=32 and max_length=96: lower one"):
        demux.train_demux(*demux.make_demux("minilm", few.labels, max_length=96), few, few, tmp_path)
    trl = pytest.importorskip("trl")
    monkeypatch.setattr(trl.SFTTrainer, "train", full)
    with pytest.raises(MemoryError, match="batch_size=8: lower it and raise accumulate"):
        sft.train_sft("tiny", [dict(prompt="a b", completion=" joy")] * 8, tmp_path / "model")


def test_targets_are_votes_or_gold():
    docs = load_docs("demo", "train", n_docs=9)
    assert np.array_equal(train_targets(docs)[1], docs.gold) and np.allclose(
        train_targets(docs, True)[1], docs.human().probs
    )


def test_a_file_where_checkpoints_go_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(ValueError, match="checkpoints is a file where the checkpoints of the training go"):
        last_checkpoint(tmp_path / "checkpoints")
