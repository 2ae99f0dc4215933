"""Bad input gets one clear line: what is wrong, where, and what would be right.

Each case is a call and the words that its one line must hold. Whole runs with bad parameters are in
test_papermill.py, damaged runs in test_runs.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from mlcllm.boxes import box_docs
from mlcllm.data import LabelDist, LabelSet, load_docs, note_parameters, read_parameters
from mlcllm.demos import nearest_demos, perturb_labels, repeat_docs
from mlcllm.engines import find_model, load_engine
from mlcllm.prompt_preview import preview
from mlcllm.prompts import (
    Prompt,
    Template,
    build_prompts,
    check_names,
    format_labels,
    get_template,
    order_labels,
    parse_labels,
    read_cots,
)
from mlcllm.questions import binary_prompts
from mlcllm.runs import pick_device, read_run, start_run
from mlcllm.stepwise_logits import Verbalizer, trace_docs
from mlcllm.stored_runs import index_runs, read_table
from mlcllm.testsets import write_ids

HEAD = "id,text,labels,split\n"
EMOTIONS = LabelSet(("anger", "fear", "joy"))
THINKS = Template("Labels: {labels}.\n", "Input: {text}\nThoughts: {cot}\nAnswer: {label}\n\n")
DEMO, TRAIN = load_docs("demo", "test", n_docs=3), load_docs("demo", "train")

TABLES = [  # a file of one's own: name, content, options, what the line says
    ("a.csv", HEAD + "1,Hello, world,joy,test\n", {}, "line 2 has 5 fields, the first has 4"),
    ("a.csv", HEAD + "1,hi,joy,test\n2,Hello, world,joy,test\n", {}, "line 3 has 5 fields"),
    ("a.csv", "id;text,labels;split\n1;hi,joy;test\n", {}, "are the columns separated by ',' or ';'"),
    ("a.csv", "", {}, "No columns"),
    ("a.csv", HEAD, {}, "is empty"),
    ("a.csv", HEAD + "1,,joy,test\n", {}, "row 1: no text"),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,joy,test\n", {}, "row 2: ids repeat, e.g. '1'"),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,joy,dev\n", {}, "differ in their split"),
    ("a.csv", HEAD + "1,hi,joy,dev\n", {}, "no rows of split 'test' (there are: dev)"),
    ("a.csv", HEAD + "1,hi,none,test\n", {}, "holds no label at all"),
    ("a.csv", HEAD + "1,hi,[joy,test\n", {}, "row 1: '[joy' begins like a list and is none"),
    ("a.csv", HEAD + "1,hi,joi,test\n", {"label_names": ["joy", "fear"]}, "did you mean 'joy'"),
    ("a.csv", HEAD + "1,hi,joy,test\n", {"label_names": "joy"}, "must be a list of names"),
    ("a.csv", HEAD + "1,hi,joy,test\n", {"labels": "label"}, "did you mean 'labels'"),
    ("a.csv", HEAD + "1,hi,joy,test\n", {"txt": "text"}, "did you mean 'text'"),
    (
        "a.csv",
        HEAD + "1,hi,2,test\n",
        {"label_names": ["labels"]},
        "row 1, column 'labels': label columns must hold 0 or 1",
    ),
    (
        "a.csv",
        HEAD + '1,hi,"joy,fear",test\n',
        {"single": True},
        "exactly one label expected (single=True), found 2",
    ),
    (
        "a.csv",
        "id,text,labels,who,split\n1,hi,joy,p,test\n1,hi,fear,p,test\n",
        {"annotator": "who"},
        "row 2: annotator 'p' judges id '1' twice",
    ),
    ("a.csv", "id,text,labels,who,split\n1,hi,joy,,test\n", {"annotator": "who"}, "row 1: no annotator"),
    ("a.jsonl", '{"id": 1, "text": null, "labels": ["joy"]}\n', {}, "row 1: no text"),
    ("a.jsonl", '{"id": 1, "text": "hi", "labels": ["joy"]}\n{"id": 2, \n', {}, "line 2: not valid JSON"),
    ("a.jsonl", "[1, 2]\n", {}, "line 1: an object"),
    ("a.jsonl", '{"id": 1, "text": "hi", "labels": {"joy": 1}}\n', {}, "neither a list"),
    ("a.jsonl", "\n", {}, "is empty"),
    ("a.parquet", "no parquet", {}, "no readable parquet file"),
    ("a.tsv", "id\ttext\n", {}, "a.tsv is empty"),
    ("a.txt", "id\ttext\n", {}, "must end in .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .xlsx"),
    ("a.csv", HEAD + "1,   ,joy,test\n", {}, "row 1: no text"),
    ("a.csv", HEAD + ",hi,joy,test\n", {}, "row 1: no id"),
    ("a.csv", "id,labels,split\n1,joy,test\n", {}, "text"),
    (
        "a.jsonl",
        '{"id": 1, "text": "hi", "labels": ["joy"], "split": "tst"}\n',
        {},
        "no rows of split 'test' (there are: tst)",
    ),
]

CORPORA = [  # files of a public corpus, dataset, options, what the line says
    ({"dev.tsv": "a\t0\ti1\nb\t0\n"}, "GoEmotions", None, "dev.tsv: line 2 has 2 fields, the first has 3"),
    ({"dev.tsv": "a\t0\ti1\nb\t0\ti2\textra\n"}, "GoEmotions", None, "dev.tsv"),
    ({"dev.tsv": "a\t0.7\ti1\n"}, "GoEmotions", None, "line 1: '0.7' is no label number"),
    ({"dev.tsv": ""}, "GoEmotions", None, "dev.tsv"),
    ({"dev.tsv": "a\t0\ti1\n", "emotion_clustering.json": "{"}, "GoEmotions", {}, "not valid JSON"),
    (
        {"dev.tsv": "a\t0\ti1\n", "emotion_clustering.json": "[1]"},
        "GoEmotions",
        {},
        "a clustering is an object",
    ),
    (
        {"dev.tsv": "a\t0\ti1\n", "emotion_clustering.json": '{"good": ["joi"]}'},
        "GoEmotions",
        {},
        "did you mean 'joy'",
    ),
    (
        {"2018-E-c-En-dev.txt": "ID\tTweet\tjoy\nx\thi\t2\n"},
        "SemEval",
        None,
        "line 2, id x: labels must be 0 or 1",
    ),
    ({"2018-E-c-En-dev.txt": "ID\tTweet\tjoy\nx\thi\t1\t1\n"}, "SemEval", None, "2018-E-c-En-dev.txt"),
    (
        {
            "annotators_val_test.jsonl": (
                '{"id": "p", "split": "val", "tokens": ["a"], "labels": [0, 5, 1], "annotator_ids": [1, 2, '
                '3], "targets": [[], [], []]}\n'
            )
        },
        "HateXplain",
        None,
        "line 1, id p: one label (0, 1 or 2)",
    ),
    ({"annotators_val_test.jsonl": '{"id": "p"}\n'}, "HateXplain", None, "line 1: not a HateXplain record"),
    (
        {
            "annotators_val_test.jsonl": (
                '{"id": "p", "split": "test", "tokens": ["a"], "labels": [0], "annotator_ids": [1], '
                '"targets": [[]]}\n'
            )
        },
        "HateXplain",
        None,
        "the split 'dev' has no documents",
    ),
    ({}, "demo", {"lang": "en"}, "demo takes no options"),
    ({"dev.tsv": "a\t9\ti1\n"}, "GoEmotions", None, "line 1: '9' is no label number from 0 to 1"),
    ({"dev.tsv": "a\t0\ti1\nb\t0\ti1\n"}, "GoEmotions", None, "ids repeat, e.g. 'i1'"),
    ({"other.txt": ""}, "SemEval", None, "2018-E-c-En-dev.txt does not exist"),
    ({"dev.tsv": "a\t0\ti1\n"}, "GoEmotions", {"clusterin": "none"}, "did you mean 'clustering'"),
]


def ids(*names):
    def write(d):
        (d / "ids.txt").write_text("\n".join(names))
        return d / "ids.txt"

    return write


def file(d, name, content):
    (d / name).write_text(content)
    return str(d / name)


class refusing:  # a tokenizer whose chat template raises
    name_or_path, chat_template = "refusing", "x"

    def apply_chat_template(self, *args, **kwargs):
        raise RuntimeError("no turns today")


def tiny():
    return load_engine("tiny", gpu="cpu")


def broken_model():
    engine = tiny()
    engine.model.model.norm.weight.data[0] = float("nan")
    return engine


def ask(engine, prompts, **how):
    return trace_docs(
        engine, Verbalizer(engine.tokenizer, EMOTIONS, "json", get_template("demo")), prompts, **how
    )


CALLS = [  # what is called (with an empty folder), what the line says
    (lambda d: load_docs("GoEmotion", "dev"), "unknown dataset 'GoEmotion'; did you mean 'GoEmotions'?"),
    (lambda d: load_docs("demo", "tets"), "unknown split 'tets'; did you mean 'test'?"),
    (lambda d: load_docs("demo", "dev+tets"), "did you mean 'test'?"),
    (lambda d: load_docs("demo", "test", data_dir=d / "nowhere"), "nowhere does not exist"),
    (
        lambda d: load_docs("SemEval", "dev", data_dir=d, options={"language": "englsh"}),
        "did you mean 'english'?",
    ),
    (lambda d: load_docs("demo", "test", n_docs=0), "n_docs must be a whole number of at least 1, got 0"),
    (
        lambda d: load_docs("demo", "test", n_docs="many"),
        "n_docs must be a whole number of at least 1, got 'many'",
    ),
    (lambda d: load_docs("none.csv", "test", data_dir=d), "none.csv does not exist"),
    (lambda d: load_docs("demo", "test", options="clustering"), "options must be a dict"),
    (lambda d: load_docs("demo", "test", test_ids=d / "ids.txt"), "ids.txt does not exist"),
    (
        lambda d: load_docs("demo", "test", test_ids=ids("no-such-post")(d)),
        "1 of 1 ids are not in demo test, e.g. no-such-post",
    ),
    (
        lambda d: load_docs("demo", "test", test_ids=ids("", " ")(d)),
        "is empty; it should hold a document id a line",
    ),
    (lambda d: LabelSet(()), "at least one name"),
    (lambda d: LabelSet(("a", "b", "a")), "label names repeat: ['a']"),
    (lambda d: EMOTIONS.encode(["yoy"]), "unknown label 'yoy'; did you mean 'joy'?"),
    (
        lambda d: LabelDist(np.ones((1, 2)), EMOTIONS, ("1",), "unary"),
        "probs have shape (1, 2), expected (1, 3)",
    ),
    (
        lambda d: LabelDist(np.full((1, 3), 1.5), EMOTIONS, ("1",), "unary"),
        "unary: a probability lies outside [0, 1]",
    ),
    (lambda d: replace(DEMO, ids=DEMO.ids[:1] * 3), "ids repeat"),
    (lambda d: replace(DEMO, texts=("a", " ", "b")), "has no text"),
    (lambda d: replace(DEMO, texts=("a",)), "3 ids, 1 texts, 3 gold rows"),
    (
        lambda d: read_parameters(note_parameters(dict(seed=0)), dict(sede=1)),
        "unknown parameter 'sede'; did you mean 'seed'?",
    ),
    (
        lambda d: get_template("demo", template="pipelin"),
        "unknown template 'pipelin'; did you mean 'pipeline'?",
    ),
    (lambda d: Template("", "no slots"), "needs the slot {text}"),
    (lambda d: format_labels(["joy"], "jason"), "unknown label_format 'jason'; did you mean 'json'?"),
    (lambda d: parse_labels("joy", EMOTIONS, "coma"), "did you mean 'comma'?"),
    (lambda d: order_labels(EMOTIONS, "alphabetic"), "did you mean 'alphabetical'?"),
    (
        lambda d: check_names(LabelSet(("a, b", "c")), "comma"),
        "label 'a, b' cannot be read back from label_format='comma': it holds ','",
    ),
    (lambda d: check_names(LabelSet(("None", "b")), "json"), "'none' is taken"),
    (lambda d: check_names(LabelSet(("A", "a")), "json"), "differ by more than case"),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "exmple: x")),
        "unknown key of the template 'exmple'; did you mean 'example'?",
    ),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "example: 'Post: {label}'")),
        "needs the slot {text}",
    ),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "example: '{txt} {label}'")),
        "did you mean 'text'?",
    ),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "instruction: 'Labels: {lables}'")),
        "did you mean 'labels'?",
    ),
    (lambda d: get_template("demo", template=file(d, "t.yaml", "example: [")), "t.yaml: not valid YAML"),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "- a")),
        "keys such as instruction and example",
    ),
    (
        lambda d: get_template("demo", template=file(d, "t.yaml", "system: system.txt")),
        "system.txt does not exist",
    ),
    (lambda d: get_template("demo", template=file(d, "t.yaml", "system: 3")), "must be a text"),
    (lambda d: get_template("demo", template=str(d / "none.yaml")), "none.yaml does not exist"),
    (lambda d: Template("", "{text} {cot} {label}"), "announce the answer"),
    (lambda d: Template("", "{label}: {text}"), "in the order {text}, {cot}, {label}"),
    (lambda d: Template("", "{cot} then {text} {label}"), "in the order {text}, {cot}, {label}"),
    (lambda d: Template("", "{text} {a} {label}"), "unknown slot of the template's example 'a'"),
    (lambda d: Template("", "{text} {label} {label}"), "needs the slot {label} once"),
    (
        lambda d: Template("", "{text} {label}", ask="{text} {label}"),
        "unknown slot of the template's ask 'label'",
    ),
    (lambda d: check_names(EMOTIONS, "\n{label}; {label}"), "cannot be read back: it writes"),
    (lambda d: check_names(EMOTIONS, "{label}\n\n{label}"), "cannot be read back: it writes"),
    (lambda d: format_labels("joy"), "names must be a list of label names, got 'joy'"),
    (lambda d: build_prompts(DEMO, TRAIN, rows=[[0]]), "rows must hold, for each of the 3 documents"),
    (lambda d: build_prompts(DEMO, TRAIN, rows=[[999]] * 3), "possible demonstrations"),
    (lambda d: build_prompts(DEMO, TRAIN, shown=np.zeros((2, 7))), "shown has shape (2, 7), expected ("),
    (lambda d: build_prompts(DEMO, TRAIN, chat=True), "chat must be the tokenizer of an instruct model"),
    (lambda d: preview("text", None), "preview takes one Prompt and a tokenizer or an engine"),
    (
        lambda d: binary_prompts(DEMO, TRAIN, label_order="shuffled"),
        "questions have one order for all documents",
    ),
    (lambda d: repeat_docs(DEMO, 0.5), "a list such as [0, 0.5, 1], got 0.5"),
    (lambda d: perturb_labels(TRAIN, "random", -1), "seed must be a whole number of at least 0"),
    (lambda d: perturb_labels(TRAIN, str(d / "nowhere")), "there is no folder"),
    (lambda d: load_docs("demo", "test", data_dir=3), "data_dir must be a path, got 3"),
    (
        lambda d: load_docs("demo", "test", test_ids=["x"]),
        "test_ids: 1 of 1 ids are not in demo test, e.g. x",
    ),
    (
        lambda d: load_docs("demo", "test", test_ids=3),
        "test_ids must be a file with an id a line, or a list of ids",
    ),
    (lambda d: read_cots(None), "cot must be a path"),
    (lambda d: write_ids(d / "ids.txt", "demo-1"), "a list of ids is expected, got 'demo-1'"),
    (lambda d: box_docs([], "test"), "give a list from generate_boxes"),
    (lambda d: Template("", "{text} {label}", ask="Now this:"), "ask needs the slot {text}"),
    (lambda d: format_labels(["joy"], "<{label}>"), "two {label} slots"),
    (lambda d: format_labels(["joy"], "<{label}, {label}>", multi=False), "one {label} slot"),
    (lambda d: format_labels(["joy"], "{label} {label}"), "more than blanks"),
    (lambda d: format_labels(["joy"], 'json-a"b'), "a JSON key without quotes"),
    (lambda d: check_names(LabelSet(("a; b", "c")), "{label}; {label}"), "it holds ';'"),
    (lambda d: read_cots(d / "cot.csv"), "cot.csv does not exist"),
    (lambda d: read_cots(file(d, "cot.csv", "id,cots\n1,x\n")), "did you mean 'cots'?"),
    (lambda d: read_cots(file(d, "cot.csv", "id,cot\n1,x\n2,\n")), "row 2: no chain of thought for '2'"),
    (lambda d: build_prompts(DEMO, TRAIN, THINKS), "give cot, a file with the columns id and cot"),
    (
        lambda d: build_prompts(DEMO, TRAIN, THINKS, cots={TRAIN.ids[0]: "x"}),
        "10 demonstrations wanted, 1 of the",
    ),
    (lambda d: build_prompts(DEMO, TRAIN, cots={}), "need a {cot} slot in the template's example"),
    (
        lambda d: build_prompts(DEMO, TRAIN, THINKS, shots=1, rows=[[0]] * 3, cots={TRAIN.ids[1]: "x"}),
        f"demonstration {TRAIN.ids[0]!r} has no chain of thought",
    ),
    (
        lambda d: build_prompts(DEMO, TRAIN, THINKS, shots=1, rows=[[0]] * 3),
        "give cot, a file with the columns id and cot",
    ),
    (lambda d: build_prompts(DEMO, TRAIN, chat=tiny().tokenizer), "has no chat template: set chat to False"),
    (
        lambda d: build_prompts(DEMO, TRAIN, chat=refusing()),
        "the chat template of refusing refuses these turns (user, assistant): no turns today",
    ),
    (
        lambda d: build_prompts(DEMO, TRAIN, demos_per="doc"),
        "unknown demos_per 'doc'; did you mean 'document'?",
    ),
    (lambda d: build_prompts(DEMO, TRAIN, sampling="complete", shots=1), "sampling='complete' needs"),
    (lambda d: build_prompts(DEMO, TRAIN, sampling="similarity"), "see nearest_demos"),
    (lambda d: build_prompts(DEMO, TRAIN, label_order="shufled"), "did you mean 'shuffled'?"),
    (
        lambda d: build_prompts(DEMO, TRAIN.take(np.flatnonzero(TRAIN.gold.sum(1) < 2)), ratio=1.0),
        "0 documents fit sampling='multilabel', ratio=1.0",
    ),
    (lambda d: nearest_demos(DEMO, TRAIN, 3, str(d / "encoder")), "give a sentence-transformers model"),
    (lambda d: nearest_demos(DEMO, TRAIN, 300, "x"), "300 demonstrations wanted"),
    (lambda d: nearest_demos(DEMO, TRAIN, 3, "x", nearest="frist"), "did you mean 'first'?"),
    (lambda d: perturb_labels(TRAIN, "opposit"), "did you mean 'opposite'?"),
    (
        lambda d: perturb_labels(TRAIN, "opposite"),
        "needs a task with one of two labels; demo has 7, several at once",
    ),
    (lambda d: perturb_labels(TRAIN, str(d)), "holds no docs.parquet"),
    (lambda d: repeat_docs(DEMO, (0, 1.2)), "ratio must be a number from 0 to 1, got 1.2"),
    (lambda d: repeat_docs(DEMO, (0.2, 0.2)), "must differ"),
    (lambda d: load_docs("demo", "test", options={"annotators": "all"}), "unknown option annotators 'all'"),
    (
        lambda d: load_docs("demo", "test", options={"anotators": "both"}),
        "takes no options besides annotators",
    ),
    (
        lambda d: load_docs("demo", "test", options={"min_annotators": 9}),
        "no document has 9 annotators; the most is 5",
    ),
    (
        lambda d: load_docs("demo", "test", options={"min_annotators": 0}),
        "min_annotators must be a whole number of at least 1",
    ),
    (lambda d: load_docs("demo", "test", options={"preprocess": "twiter"}), "did you mean 'twitter'?"),
    (
        lambda d: build_prompts(load_docs("demo", "test", options={"annotators": "annotator"}), TRAIN),
        "read none of the possible demonstrations",
    ),
    (lambda d: build_prompts(DEMO, TRAIN, shots=-1), "shots must be a whole number of at least 0, got -1"),
    (lambda d: build_prompts(DEMO, TRAIN, shots=True), "shots must be a whole number"),
    (lambda d: build_prompts(DEMO, TRAIN, ratio=1.5), "ratio must be a number from 0 to 1, got 1.5"),
    (lambda d: build_prompts(DEMO, TRAIN, seed=-1), "seed must be a whole number of at least 0, got -1"),
    (lambda d: build_prompts(DEMO, TRAIN, sampling="similar"), "unknown sampling 'similar'"),
    (lambda d: build_prompts(DEMO, TRAIN, shots=10_000), "10000 demonstrations wanted"),
    (
        lambda d: build_prompts(
            DEMO,
            replace(TRAIN, labels=replace(TRAIN.labels, names=tuple(n + "x" for n in TRAIN.labels.names))),
            shots=2,
        ),
        "documents and demonstrations have different labels",
    ),
    (lambda d: pick_device("gpu"), "gpu='gpu' is neither a GPU's number nor 'cpu'"),
    (lambda d: pick_device(99), "for the CPU use gpu='cpu'"),
    (lambda d: find_model("smal"), "unknown model 'smal'; did you mean 'small'?"),
    (lambda d: find_model(str(d / "no-model")), "there is no such folder"),
    (lambda d: find_model(""), "model '': there is no such folder (bundled: tiny, small"),
    (lambda d: load_engine(str(d), gpu="cpu"), "holds no model that can be loaded"),
    (lambda d: load_engine("tiny", backend="hff"), "unknown backend 'hff'; did you mean 'hf'?"),
    (lambda d: load_engine("tiny", backend="vllm"), "pip install -e .[vllm]"),
    (lambda d: load_engine("tiny", dtype="float33"), "unknown dtype 'float33'"),
    (lambda d: load_engine("tiny", quantization="5bit"), "unknown quantization '5bit'; did you mean"),
    (lambda d: tiny().score([[1] * 2049], [1]), "prompt 0 has 2049 tokens, the model's context holds 2048"),
    (lambda d: tiny().generate([[1] * 2040], 9), "prompt 0 has 2040 tokens and 9 are to be written"),
    (lambda d: tiny().score([[1], []], [1]), "prompt 1 is empty"),
    (lambda d: tiny().score([[1]], [10**6]), "token id 1000000 is not in the model's vocabulary of 6144"),
    (
        lambda d: tiny().score([[1], [10**6]], [1]),
        "prompt 1 holds a token that is not in the model's vocabulary of 6144",
    ),
    (lambda d: tiny().generate([[1]], 0), "max_new_tokens must be a whole number of at least 1, got 0"),
    (lambda d: broken_model().score([[1, 2]], [1]), "logits that are no numbers"),
    (lambda d: broken_model().generate([[1, 2]], 3), "try dtype='float32'"),
    (
        lambda d: ask(tiny(), [Prompt("post-7", "word " * 3000, tuple("abcdefghij"))]),
        "document 'post-7': its prompt has",
    ),
    (
        lambda d: ask(tiny(), [Prompt("post-7", "word " * 3000, ())]),
        "leave the document out (test_ids) or take a model with a longer context",
    ),
    (
        lambda d: ask(tiny(), [], label_scoring="first"),
        "unknown label_scoring 'first'; did you mean 'first_token'?",
    ),
    (
        lambda d: ask(tiny(), [], decoding="constraint"),
        "unknown decoding 'constraint'; did you mean 'constrained'?",
    ),
    (lambda d: read_run(d), "it has no run.json"),
    (
        lambda d: start_run("01", dict(dataset="demo"), output_dir=ids("a")(d)),
        "choose another place with -p output_dir <folder>",
    ),
    (lambda d: index_runs(d / "nowhere"), "there is no such folder of runs"),
    (lambda d: read_table(d, "scores"), "the run has no such table; run it again"),
]


def one_line(call, *args):
    with pytest.raises((ValueError, OSError, FloatingPointError)) as error:
        call(*args)
    assert "\n" not in str(error.value), error.value
    return str(error.value)


@pytest.mark.parametrize(
    "name, content, options, says", TABLES, ids=lambda x: "" if isinstance(x, dict) else None
)
def test_own_tables(tmp_path, name, content, options, says):
    (tmp_path / name).write_text(content)
    line = one_line(lambda: load_docs(name, "test", data_dir=tmp_path, options=options))
    assert says in line and (name in line or "did you mean" in says or "label_names" in line), line


@pytest.mark.parametrize(
    "files, dataset, options, says", CORPORA, ids=lambda x: "" if isinstance(x, dict) else None
)
def test_public_corpora(tmp_path, files, dataset, options, says):
    (tmp_path / "emotions.txt").write_text("joy\nneutral\n")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    line = one_line(
        lambda: load_docs(
            dataset,
            "dev",
            data_dir=tmp_path if files else None,
            options={"clustering": "none"} if options is None and dataset == "GoEmotions" else options,
        )
    )
    assert says in line, line


@pytest.mark.parametrize("call, says", CALLS, ids=[says[:40] for _, says in CALLS])
def test_calls(tmp_path, call, says):
    line = one_line(call, tmp_path)
    assert says in line, line


def test_there_are_many():
    assert len(TABLES) + len(CORPORA) + len(CALLS) >= 60
