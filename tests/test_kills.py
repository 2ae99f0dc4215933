"""Aimed kills: what lies on the disk at chosen moments of a run is put back, and the notebook run again ends
like one that nobody disturbed.
"""

import errno
import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from notebooks import run_short
from safetensors import SafetensorError
from transformers import AutoModel, BertConfig
from transformers.trainer_callback import TrainerState

from mlcllm.demux import last_checkpoint, load_encoder_tokenizer
from mlcllm.runs import (
    find_runs,
    manifest_fault,
    read_record,
    read_run,
    read_table,
    start_run,
    tell_full_disk,
    write_manifest,
)

TIMES = ["seconds", "examples_per_second", "peak_bytes"]
FULL = "the disk is full"


def begin(place, **params):
    return start_run("test", dict(dataset="numbers", model="none", seed=0) | params, output_dir=place)


def work(place, stats=None):
    "A run of two works, which counts what it does"
    run, stats = begin(place), {} if stats is None else stats

    def compute(a, b):
        stats["asked"] = stats.get("asked", 0) + b - a
        return dict(t=pa.table(dict(x=list(range(a, b)))))

    with run.timed("work"):
        tables = [run.chunks(name, 10, 5, compute, stats=stats)["t"] for name in ("first", "second")]
    run.save_table("numbers", pa.concat_tables(tables))
    run.done()
    return run


def tables_of(folder):  # without what differs between any two runs
    found = read_run(folder)
    return {k: t.drop(columns=TIMES, errors="ignore") for k, t in found.items() if k != "record"}


def check_same(folder, tables, record):
    "A run that ended like an undisturbed one"
    found, now = tables_of(folder), read_record(folder)
    assert now["status"] == "done" and now["counters"] == record["counters"]
    assert found.keys() == tables.keys()
    for k, t in tables.items():
        pd.testing.assert_frame_equal(found[k], t, check_exact=True)


class Moments:
    """Keeps what lies on the disk each time that something was written, as a kill at that moment would leave
    it
    """

    def __init__(self, tmp_path, wanted):  # a pattern of paths, for the first of each kind
        self.runs, self.wanted, self.kept = tmp_path / "runs", re.compile(wanted), {}

    def keep(self, path):
        path = Path(path)
        if not path.is_relative_to(self.runs):
            return
        path = path.relative_to(self.runs)
        name = Path(*path.parts[4:]).as_posix()
        if name in self.kept or not self.wanted.fullmatch(name):
            return
        place = self.runs.with_name(f"moment-{len(self.kept)}")
        shutil.copytree(self.runs, place)
        self.kept[name] = path, place

    def after(self, write, at):  # write, and keep what it leaves
        def call(*args, **kwargs):
            found = write(*args, **kwargs)
            self.keep(args[at])
            return found

        return call

    def put_back(self, name, damage=lambda path: None):  # at the same path, which checkpoints name
        path, place = self.kept[name]
        shutil.rmtree(self.runs)
        shutil.copytree(place, self.runs)
        damage(self.runs / path)


@contextmanager
def watched(tmp_path, wanted=".*"):
    seen = Moments(tmp_path, wanted)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, at in ((os, "replace", 1), (torch, "save", 1), (TrainerState, "save_to_json", 1)):
            patch.setattr(owner, name, seen.after(getattr(owner, name), at))
        yield seen


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def folder_instead(path):
    path.unlink()
    path.mkdir()


def pipe_instead(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = dict(none=lambda path: None, gone=lambda path: path.unlink(), cut=cut, empty=empty)


@pytest.mark.parametrize("damage", DAMAGE)
def test_killed_after_every_write_it_ends_the_same(tmp_path, damage):
    with watched(tmp_path) as seen:
        folder = work(tmp_path / "runs").folder
    tables, record = tables_of(folder), read_record(folder)
    assert (
        record["counters"] == dict(asked=20) and len(seen.kept) == 10
    )  # record, table, 4 chunks and their manifests
    for name in seen.kept:
        seen.put_back(name, DAMAGE[damage])
        work(tmp_path / "runs")
        check_same(folder, tables, record)


@pytest.mark.parametrize(
    "damage",
    [cut, empty, lambda p: p.unlink(), lambda p: p.write_text("[]")],
    ids=["cut", "empty", "gone", "a list"],
)
def test_counters_survive_a_lost_record(tmp_path, damage):
    folder = work(tmp_path).folder
    damage(folder / "run.json")
    again = work(tmp_path)
    assert again.record["counters"] == dict(asked=20) and again.counted("asked") == "20"


def without_counters(folder):  # as earlier versions stored chunks
    for place in (folder / "chunks").glob("*.json"):
        manifest = json.loads(place.read_text())
        place.write_text(json.dumps({k: manifest[k] for k in ("run", "tables")}))


def test_chunks_of_earlier_versions_are_read(tmp_path):
    folder = work(tmp_path).folder
    without_counters(folder)
    assert work(tmp_path).record["counters"] == dict(asked=20)  # the record knows
    next(folder.glob("chunks/second-0000005*.json")).unlink()
    assert work(tmp_path).record["counters"] == dict(asked=25)  # what is computed again is added
    (folder / "run.json").unlink()
    lost = work(tmp_path)
    assert (
        lost.record["counters"] == {}
        and lost.counted("asked") == "an unknown number of"
        and lost.status == "done"
    )


def test_a_chunk_that_is_computed_again_counts_once(tmp_path):
    folder = work(tmp_path).folder
    cut(next(folder.glob("chunks/first-0000000*.parquet")))
    assert work(tmp_path).record["counters"] == dict(asked=20)


def test_chunks_of_another_source_are_computed_again(tmp_path):
    def ask(source):
        calls = []
        begin(tmp_path).chunks(
            "x", 4, 2, lambda a, b: calls.append(a) or dict(t=pa.table(dict(x=[a]))), source=source
        )
        return calls

    assert [ask("one"), ask("one"), ask("two")] == [[0, 2], [], [0, 2]]


@pytest.mark.parametrize("place", [folder_instead, pipe_instead])
@pytest.mark.parametrize("name", ["run.json", "run.log", ".lock"])
def test_a_run_that_cannot_keep_its_files_says_so(tmp_path, name, place):
    path = begin(tmp_path).folder / name
    place(path)
    with pytest.raises(ValueError, match="is no file") as error:
        begin(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("place", [folder_instead, pipe_instead])
def test_a_chunk_that_is_no_file_is_not_waited_for(tmp_path, place):
    folder = work(tmp_path).folder
    manifest = next(folder.glob("chunks/first-0000000*.json"))
    table = next(folder.glob("chunks/first-0000005*.parquet"))
    if place is pipe_instead:
        place(manifest)
    os.remove(table)
    os.mkfifo(table)
    assert work(tmp_path).record["counters"] == dict(asked=20)


@pytest.mark.parametrize(
    "error, full",
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "x"), False),
        (ValueError("x"), False),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (SafetensorError("x"), False),
        (
            RuntimeError(
                "[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file "
                "data/0: file write failed"
            ),
            True,
        ),
    ],
)
def test_a_full_disk_is_one_line_whoever_writes(error, full):
    with pytest.raises(OSError if full else type(error)) as said, tell_full_disk("there"):
        raise error
    assert (FULL in str(said.value)) == full and (not full or "there" in str(said.value))


def checkpoint(place, step, best=None, manifest=True):
    folder = place / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"{step}")
    state = dict(best_model_checkpoint=None if best is None else str(place / f"checkpoint-{best}"))
    (folder / "trainer_state.json").write_text(json.dumps(state))
    if manifest:
        write_manifest(folder)
    return folder


CHECKPOINTS = {
    "whole": (lambda p: None, 4, [2, 4]),
    "no manifest": (lambda p: (p / "checkpoint-4.files.json").unlink(), 2, [2]),
    "manifest cut": (lambda p: cut(p / "checkpoint-4.files.json"), 2, [2]),
    "state cut": (lambda p: cut(p / "checkpoint-4/trainer_state.json"), 2, [2]),
    "weights cut": (lambda p: empty(p / "checkpoint-4/weights"), 2, [2]),
    "a bit": (lambda p: flip(p / "checkpoint-4/weights"), 2, [2]),
    "a file gone": (lambda p: (p / "checkpoint-4/weights").unlink(), 2, [2]),
    "the best gone": (lambda p: shutil.rmtree(p / "checkpoint-2"), None, []),
    "the best damaged": (lambda p: flip(p / "checkpoint-2/weights"), None, []),
    "no folder": (lambda p: shutil.rmtree(p), None, []),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_only_whole_checkpoints_are_taken(tmp_path, case):
    damage, taken, left = CHECKPOINTS[case]
    place = tmp_path / "checkpoints"
    for step in (2, 4):
        checkpoint(place, step, best=2)
    damage(place)
    expected = None if taken is None else str(place / f"checkpoint-{taken}")
    assert last_checkpoint(place) == expected
    assert sorted(p.name for p in place.glob("*") if p.is_dir()) == [f"checkpoint-{k}" for k in left]


def train(place, calls, source=""):
    "A run with a model that is trained once"
    run = begin(place)

    def learn(folder):
        folder.mkdir()
        (folder / "weights").write_text("1 2 3")
        (folder / "README.md").write_text("a model")
        calls.append(folder)
        return pd.DataFrame(dict(loss=[2.0, 1.0]))

    def load(folder):
        if (folder / "weights").read_text() != "1 2 3":
            raise ValueError(f"{folder} holds no model")

    log = run.train_once("model", "history", learn, load, source)
    assert log.loss.tolist() == [2.0, 1.0]
    return run


TRAINED = {
    "nothing": (lambda f: None, None),
    "the card": (lambda f: (f / "model/README.md").write_text("better"), None),
    "manifest": (lambda f: (f / "model.files.json").unlink(), None),
    "manifest cut": (lambda f: cut(f / "model.files.json"), None),
    "weights cut": (lambda f: cut(f / "model/weights"), "weights is damaged or gone"),
    "a bit": (lambda f: flip(f / "model/weights"), "weights is damaged or gone"),
    "weights gone": (lambda f: (f / "model/weights").unlink(), "weights is damaged or gone"),
    "a pipe": (lambda f: pipe_instead(f / "model/weights"), "weights is damaged or gone"),
    "folder gone": (lambda f: shutil.rmtree(f / "model"), "model is gone"),
    "history gone": (lambda f: (f / "history.parquet").unlink(), "history.parquet is damaged or gone"),
    "history cut": (lambda f: cut(f / "history.parquet"), "history.parquet is damaged or gone"),
    "a folder": (lambda f: folder_instead(f / "history.parquet"), "history.parquet is damaged or gone"),
    "old and cut": (
        lambda f: ((f / "model.files.json").unlink(), cut(f / "model/weights")),
        "cannot be read",
    ),
    "old, history cut": (
        lambda f: ((f / "model.files.json").unlink(), cut(f / "history.parquet")),
        "the training of",
    ),
    "never finished": (lambda f: ((f / "model.files.json").unlink(), (f / "history.parquet").unlink()), ""),
}


@pytest.mark.parametrize("case", TRAINED)
def test_a_trained_model_that_is_damaged_is_trained_again(tmp_path, case):
    damage, says = TRAINED[case]
    calls = []
    folder = train(tmp_path, calls).folder
    damage(folder)
    run = train(tmp_path, calls)
    assert len(calls) == 1 + (says is not None) and manifest_fault(folder / "model") == ""
    assert len(run.record["warnings"]) == bool(says)
    if says:
        assert (
            says in run.record["warnings"][0]
            and "trained again" in run.record["warnings"][0]
            and "\n" not in run.record["warnings"][0]
        )


def test_what_was_trained_from_another_model_is_trained_again(tmp_path):
    calls = []
    for source in ("a", "a", "b"):
        train(tmp_path, calls, source)
    assert len(calls) == 2


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):  # a BERT of two small layers
    place, tokenizer = tmp_path_factory.mktemp("models") / "encoder", load_encoder_tokenizer("minilm")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    AutoModel.from_config(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


ANSWERS = dict(n_docs=4, shots=2, max_new_tokens=12)
SFT = ANSWERS | dict(n_train=16, epochs=2, lora_r=2, batch_size=8, accumulate=1)


def run_once(notebook, tmp_path, **params):  # its folder
    run_short(notebook, tmp_path, **params)
    (folder,) = find_runs(tmp_path / "runs", notebook)
    return folder


def test_01_goes_on_without_its_record(tmp_path):
    with watched(tmp_path, "chunks/.*json") as seen:
        folder = run_once("01_stepwise_logits", tmp_path, **ANSWERS)
    tables, record = tables_of(folder), read_record(folder)
    for name in seen.kept:  # killed right behind its only chunk, the record cut off
        seen.put_back(name, lambda path: cut(path.parent.parent / "run.json"))
        check_same(run_once("01_stepwise_logits", tmp_path, **ANSWERS), tables, record)
    assert record["counters"]["tokens_in"] > 0 and len(seen.kept) == 1


def test_02_with_a_single_method_ends(tmp_path):
    folder = run_once("02_alignment", tmp_path, n_docs=4, n_dev=6, shots=2, methods="unary")
    assert read_record(folder)["status"] == "done" and "pairs" not in read_run(folder)


def test_04_killed_in_a_checkpoint_then_damaged_ends_the_same(tmp_path, encoder):
    params = dict(n_docs=4, n_train=16, encoder=encoder, epochs=2, batch_size=8)
    with watched(tmp_path, r"checkpoints/checkpoint-4/(optimizer.pt|trainer_state.json)") as seen:
        folder = run_once("04_demux", tmp_path, **params)
    tables, record = tables_of(folder), read_record(folder)
    assert len(seen.kept) == 2
    for name, damage in zip(seen.kept, (empty, cut)):
        seen.put_back(name, damage)
        check_same(run_once("04_demux", tmp_path, **params), tables, record)
    (folder / "model" / "tokenizer.json").unlink()
    check_same(run_once("04_demux", tmp_path, **params), tables, record)
    (says,) = read_record(folder)["warnings"]
    assert "tokenizer.json is damaged or gone: it is trained again" in says


def test_04a_killed_in_a_checkpoint_then_damaged_ends_the_same(tmp_path):
    with watched(tmp_path, r"model_sft_checkpoints/checkpoint-4/optimizer.pt") as seen:
        folder = run_once("04a_sft", tmp_path, **SFT)
    tables, record = tables_of(folder), read_record(folder)
    for name in seen.kept:
        seen.put_back(name, cut)
        check_same(run_once("04a_sft", tmp_path, **SFT), tables, record)
    cut(folder / "model_sft" / "adapter_model.safetensors")
    again = run_once("04a_sft", tmp_path, **SFT)
    check_same(again, tables, record)
    assert (
        len(seen.kept) == 1
        and "adapter_model.safetensors is damaged or gone" in read_record(again)["warnings"][0]
    )


def test_a_full_disk_in_a_checkpoint_is_one_line_and_the_training_goes_on_later(
    tmp_path, encoder, monkeypatch
):
    params = dict(n_docs=4, n_train=16, encoder=encoder, epochs=2, batch_size=8)

    def full(*args, **kwargs):
        raise RuntimeError(
            "[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file "
            "data/0: file write failed"
        )

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=FULL) as error:
        run_short("04_demux", tmp_path, **params)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert read_record(run_once("04_demux", tmp_path, **params))["status"] == "done"


def test_04a_without_a_label_in_any_answer_ends(tmp_path):
    folder = run_once("04a_sft", tmp_path, **SFT | dict(max_new_tokens=1, epochs=1))
    warnings = read_record(folder)["warnings"]
    assert [w.split(" holds")[0] for w in warnings] == [
        "none of the 4 answers of base",
        "none of the 4 answers of sft",
    ]
    assert read_table(folder, "spikiness").empty
