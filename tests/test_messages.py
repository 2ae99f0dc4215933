"""What is wrong is said in one line that names the file, the line, the value; nothing hangs."""

import os
import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mlcllm.alignment import choose_methods, parse_method
from mlcllm.checks import check_choice, check_parameter, check_path, read_object, read_text
from mlcllm.corpora import _lex_ids, _read_splits
from mlcllm.data import LabelSet, load_docs
from mlcllm.figures import open_run_index
from mlcllm.more_corpora import _read_json_list
from mlcllm.prompts import build_prompts, get_template, read_cots
from mlcllm.runs import find_runs, read_record, read_run, read_table, start_run
from mlcllm.stepwise_logits import tfidf_answers, tfidf_probs
from mlcllm.stored_runs import index_runs
from mlcllm.sweeps import main, read_grid, read_yaml
from mlcllm.weights import check_trained, check_training

LATIN = "caf\xe9".encode("latin-1")
NEITHER = [3, 2.5, True, None, b"demo", float("nan"), {"a": 1}, [["x"]]]


@pytest.fixture(autouse=True)
def never_for_long():  # what hangs is an error
    def stop(*args):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def line(call, *args, **how):
    with pytest.raises((ValueError, OSError)) as refused:
        call(*args, **how)
    assert (
        type(refused.value) in (ValueError, FileNotFoundError)
        and len(str(refused.value).splitlines()) == 1
        and len(str(refused.value)) < 700
    )
    return str(refused.value)


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


READERS = {  # who reads a file -> its name, what stands before the third line
    "jsonl": (
        lambda p: load_docs(str(p), "test"),
        "a.jsonl",
        b'{"id":"1","text":"a","labels":["x"]}\n{"id":"2","text":"b","labels":["y"]}\n{"id":"3","text":"',
    ),
    "csv": (lambda p: load_docs(str(p), "test"), "a.csv", b"id,text,labels\n1,a,x\n2,"),
    "tsv": (lambda p: load_docs(str(p), "test"), "a.tsv", b"id\ttext\tlabels\n1\ta\tx\n2\t"),
    "json": (lambda p: load_docs(str(p), "test"), "a.json", b'[\n\n{"id":"3","text":"'),
    "ids": (lambda p: load_docs("demo", "test", test_ids=str(p)), "ids.txt", b"demo-1\ndemo-2\n"),
    "cot": (read_cots, "cot.csv", b"id,cot\n1,x\n2,"),
    "template": (lambda p: get_template("demo", template=str(p)), "t.yaml", b"\n\nexample: "),
    "system": (lambda p: get_template("demo", template={"system": str(p)}), "system.txt", b"\n\n"),
    "grid": (read_grid, "grid.yaml", b"\n\nabout: "),
    "settings": (read_yaml, "s.yaml", b"a: 1\nb: 2\nc: "),
    "object": (read_object, "o.json", b'{\n\n"a": "'),
    "run": (lambda p: read_record(p.parent), "run.json", b'{\n\n"status": "'),
    "splits": (_read_splits, "splits.yaml", b"\n\ndev: "),
    "lex": (lambda p: _lex_ids(p, "test"), "lex.json", b"{\n\n"),
    "red": (_read_json_list, "red.json", b"[\n\n"),
    "clusters": (
        lambda p: load_docs("GoEmotions", "dev", data_dir=p.parent, options={"clustering": str(p)}),
        "c.json",
        b"{\n\n",
    ),
}


@pytest.mark.parametrize("kind", READERS)
def test_text_that_is_not_utf8_is_named_with_file_and_line(tmp_path, kind):
    read, name, before = READERS[kind]
    if kind == "clusters":
        written(tmp_path / "emotions.txt", b"joy\n")
        written(tmp_path / "dev.tsv", b"a\t0\tid\n")
    path = written(tmp_path / name, before + LATIN + b"\n")
    assert f"{path}, line 3: byte 0xe9 is not" in line(read, path)


def test_text_in_a_parquet_file_that_is_not_utf8(tmp_path):
    raw = pa.array([b"ok", LATIN, b"ok"], pa.binary())
    texts = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(
        pa.table(dict(id=["1", "2", "3"], text=texts, labels=[["x"], ["y"], ["x"]])), tmp_path / "a.parquet"
    )
    assert (
        line(load_docs, str(tmp_path / "a.parquet"), "test")
        == f"{tmp_path}/a.parquet, row 2, column 'text': the text is not UTF-8"
    )


def test_the_record_of_a_run_is_named_in_lists_of_runs(tmp_path):
    path = written(tmp_path / "01_stepwise_logits" / "a" / "b" / "c" / "run.json", b"{\n" + LATIN)
    assert index_runs(tmp_path).problem.tolist() == [
        f"{path}, line 2: byte 0xe9 is not UTF-8; delete the folder and run it again"
    ]
    with pytest.warns(UserWarning, match="line 2: byte 0xe9"):
        assert find_runs(tmp_path) == []


def test_a_byte_order_mark_is_no_letter(tmp_path):
    assert read_object(written(tmp_path / "a.json", b'\xef\xbb\xbf{"a": 1}')) == {"a": 1} and read_text(
        tmp_path / "a.json"
    ).startswith("{")


LONG = b"a " * 200_000  # longer than a field of Python's csv reader may be


@pytest.mark.parametrize(
    "content, says",
    [
        (b'id,text,labels\n1,"' + LONG + b",x\n2,b,y\n", "lines 2 to 3: a quote is not closed"),
        (b'id,text,labels\n1,"' + LONG + b'",x\n2,b\n', "line 3 has 2 fields, the first has 3"),
        (b"id,text,labels\n1," + LONG + b",x,y\n", "line 2 has 4 fields"),
        (b"id,text,label\n1," + LONG + b",\n", "label"),
    ],
)
def test_the_real_fault_of_a_file_with_a_long_cell(tmp_path, content, says):
    said = line(load_docs, str(written(tmp_path / "long.csv", content)), "test")
    assert says in said and "field larger" not in said


def test_a_long_cell_is_read(tmp_path):
    docs = load_docs(
        str(written(tmp_path / "long.csv", b'id,text,labels\n1,"' + LONG + b'",x\n2,b,y\n')), "test+dev+train"
    )
    assert max(map(len, docs.texts)) >= len(LONG) - 1


NAMES = {  # what takes a name or a path
    "path": lambda v: check_path("folder", v),
    "labels": lambda v: LabelSet((v, "b")),
    "label set": lambda v: LabelSet(v),
    "choice": lambda v: check_choice("fruit", v, ["apple"]),
    "method": parse_method,
    "run": read_run,
    "record": read_record,
    "table": lambda v: read_table(v, "scores"),
    "runs": find_runs,
    "index": index_runs,
    "shelf": open_run_index,
    "notebook": lambda v: start_run(v, {}, output_dir="."),
    "grid": read_grid,
    "text": read_text,
    "dataset": lambda v: load_docs(v, "test"),
    "split": lambda v: load_docs("demo", v),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("value", NEITHER, ids=[str(v) for v in NEITHER])
def test_numbers_and_lists_where_names_are_expected(tmp_path, monkeypatch, what, value):
    monkeypatch.chdir(tmp_path)
    line(NAMES[what], value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [3, 2.5, True, b"demo", {"a": 1}], ids=str)
def test_lists_of_names(value):
    assert "must be" in line(choose_methods, value, LabelSet(("a", "b")))
    assert "must be a list of names" in line(open_run_index, ".", models=value)
    if isinstance(value, dict):
        assert "dataset must be a name" in line(get_template, value)


@pytest.mark.parametrize("choices", [[], (), {}])
@pytest.mark.parametrize("value", ["x", "", 3, None, ["x"]], ids=str)
def test_a_choice_where_there_is_none(choices, value):
    assert line(check_choice, "job", value, choices).endswith("there is none to choose from")


@pytest.mark.parametrize(
    "how, says",
    [
        (dict(seed=-1), "seed must be a whole number from 0"),
        (dict(epochs=0), "epochs must be a number above 0, got 0"),
        (dict(epochs=-1), "epochs"),
        (dict(epochs=float("nan")), "epochs"),
        (dict(learning_rate=0), "learning_rate must be a number above 0"),
        (dict(learning_rate=1e9), "learning_rate must be a number from 0 to 10, got 1000000000.0"),
        (dict(learning_rate=float("nan")), "learning_rate must be a number from 0 to 10, got nan"),
        (dict(batch_size=0), "batch_size"),
    ],
    ids=str,
)
def test_a_training_that_would_not_train(how, says):
    right = dict(epochs=1, learning_rate=1e-3, batch_size=2, seed=0)
    check_training(**right)
    assert says in line(check_training, **right | how)


def test_a_training_that_diverged_is_not_blamed_on_the_files():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    check_trained(model, 1e-3)
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    assert line(check_trained, model, 0.5) == (
        "the training diverged: 1 of the model's 4 tensors hold values that are no numbers (1.weight); "
        "take a learning rate below 0.5"
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("rl_steps", -1),
        ("rl_steps", 10**9),
        ("rl_steps", "ten"),
        ("rl_group", 1),
        ("rl_group", 10**6),
        ("rl_group", 2.5),
        ("rl_learning_rate", 0),
        ("rl_learning_rate", float("nan")),
        ("rl_learning_rate", 5.0),
        ("rl_learning_rate", "fast"),
    ],
)
def test_reinforcement_is_checked_before_anything_is_trained(name, value):
    assert line(check_parameter, name, value, "04a_sft").startswith(f"{name} must be")


@pytest.mark.parametrize(
    "texts", [("a", "b", "c"), ("1", "2"), ("?", "!", "😀"), ("a b c", "d"), ("我", "你")], ids=repr
)
def test_texts_without_a_word_of_two_letters(texts):
    docs = load_docs("demo", "train", n_docs=60)
    short = replace(docs, texts=tuple(texts[k % len(texts)] for k in range(len(docs))))
    held, probs = tfidf_probs(short, short)
    assert np.isfinite(held).all() and probs.shape == short.gold.shape and (probs.max(0) > 0).any()
    assert set(np.unique(tfidf_answers(short, short))) <= {0, 1}


def test_words_that_all_stand_in_one_text_only():
    docs = load_docs("demo", "train")
    times = 1 + 1000 // len(docs)
    rows = list(range(len(docs))) * times
    many = replace(
        docs.take(rows[: len(docs)]),
        ids=tuple(f"d{k}" for k in range(len(rows))),
        texts=tuple(f"word{k} other{k}" for k in range(len(rows))),
        gold=np.tile(docs.gold, (times, 1)),
        votes=docs.votes[:0],
        vote_doc=docs.vote_doc[:0],
        vote_annotator=docs.vote_annotator[:0],
    )
    assert len(many) > 1000 and np.isfinite(tfidf_probs(many, docs)[1]).all()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(9)
)


def nested(levels=9):  # a value that YAML repeats by reference, in one line
    value = "&a [x, x, x, x, x, x, x, x, x]"
    for k in range(levels):
        value = f"[&{chr(98 + k)}n {value}, " + ", ".join(f"*{chr(98 + k)}n" for _ in range(8)) + "]"
    return value


@pytest.mark.parametrize(
    "read",
    [lambda p: get_template("demo", template=str(p)), read_grid, read_yaml, _read_splits],
    ids=["template", "grid", "settings", "splits"],
)
@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        f"example: {nested()}\n",
        f"jobs: {nested()}\n",
        f"seeds: {nested()}\njobs: {{01_stepwise_logits: {{}}}}\n",
        nested(),
        "[" * 5000 + "]" * 5000,
        "a: " + "9" * 10_000,
        f"dev: {nested()}\n",
    ],
    ids=["names", "example", "jobs", "seeds", "list", "deep", "digits", "split"],
)
def test_a_yaml_file_that_grows_without_end(tmp_path, read, content):
    line(read, written(tmp_path / "a.yaml", content.encode()))


PIPED = {
    "table": lambda d: load_docs(str(d / "a.csv"), "test"),
    "lines": lambda d: load_docs(str(d / "a.jsonl"), "test"),
    "parquet": lambda d: load_docs(str(d / "a.parquet"), "test"),
    "sheet": lambda d: load_docs(str(d / "a.xlsx"), "test"),
    "ids": lambda d: load_docs("demo", "test", test_ids=str(d / "a.txt")),
    "template": lambda d: get_template("demo", template=str(d / "a.yaml")),
    "system": lambda d: get_template("demo", template={"system": str(d / "a.txt")}),
    "cot": lambda d: read_cots(d / "a.csv"),
    "grid": lambda d: read_grid(d / "a.yaml"),
    "object": lambda d: read_object(d / "a.json"),
    "run": lambda d: read_record(d),
    "scores": lambda d: read_table(d, "a"),
    "corpus": lambda d: load_docs("GoEmotions", "dev", data_dir=d),
    "red": lambda d: _read_json_list(d / "a.json"),
    "splits": lambda d: _read_splits(d / "a.yaml"),
    "lex": lambda d: _lex_ids(d / "a.json", "test"),
    "clusters": lambda d: load_docs(
        "GoEmotions", "dev", data_dir=d / "corpus", options={"clustering": str(d / "a.json")}
    ),
}


@pytest.mark.parametrize("kind", PIPED)
def test_a_pipe_is_not_waited_for(tmp_path, kind):
    written(tmp_path / "corpus" / "emotions.txt", b"joy\n")
    written(tmp_path / "corpus" / "dev.tsv", b"a\t0\tid\n")
    for name in (
        "a.csv",
        "a.jsonl",
        "a.parquet",
        "a.xlsx",
        "a.txt",
        "a.yaml",
        "a.json",
        "run.json",
        "emotions.txt",
        "dev.tsv",
    ):
        os.mkfifo(tmp_path / name)
    line(PIPED[kind], tmp_path)


def test_numbers_beyond_measure():
    docs, train = load_docs("demo", "test"), load_docs("demo", "train")
    assert "1000000000 demonstrations wanted" in line(build_prompts, docs, train, shots=10**9)
    for orders in (0, 1001, 999999999, 10**30):
        line(parse_method, f"hard+order{orders}")
        line(check_parameter, "methods", f"hard+order{orders}") if orders else None


def test_clean_failed_says_what_it_did(tmp_path, capsys):
    assert main(["clean-failed", str(tmp_path)]) == 0 and capsys.readouterr().out == "nothing had failed\n"
    notebook = written(tmp_path / "sweep" / "failed" / "a.ipynb", b"{}")
    assert (
        main(["clean-failed", str(tmp_path)]) == 0
        and capsys.readouterr().out == f"deleted {os.path.relpath(notebook)}\n"
        and not notebook.exists()
    )
