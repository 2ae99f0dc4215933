"""What is in a cell, a column, a file: a table of cases with their right values. What is not certainly
understood is refused with its place.
"""

import csv
import json
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm.columns import (
    index_cell,
    is_unknown,
    label_cell,
    mark_cell,
    name_cell,
    parse_list,
    read_table,
    text_cell,
)
from mlcllm.data import load_docs
from mlcllm.estimators import one_against_rest
from mlcllm.runs import start_run

EMOTIONS = ("anger", "fear", "joy")
REFUSED = "refused"


def said(call):
    "What a call returns, or that it was refused in one line"
    try:
        return call()
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 600, str(error)
        return REFUSED


LABEL_CELLS = [  # cell, label_names, the labels in it (None: unknown)
    ("joy", None, ("joy",)),
    ("joy, fear", None, ("joy", "fear")),
    (" joy ,fear,", None, ("joy", "fear")),
    ("joy, joy", None, REFUSED),
    (["joy", "joy", "fear"], None, REFUSED),
    ('["joy", "fear"]', None, ("joy", "fear")),
    ("['joy', 'fear']", None, ("joy", "fear")),
    ("['joy' 'fear']", None, ("joy", "fear")),
    ("['fear'\n 'joy']", None, ("fear", "joy")),
    ("[\"it's fear\" 'joy']", None, ("it's fear", "joy")),
    ("['joy']", None, ("joy",)),
    ("array(['joy', 'fear'], dtype=object)", None, ("joy", "fear")),
    ("array(['joy', 'fear'], dtype='<U4')", None, ("joy", "fear")),
    ("[np.str_('joy'), np.str_('fear')]", None, ("joy", "fear")),
    ("('joy', 'fear')", None, ("joy", "fear")),
    ("('joy',)", None, ("joy",)),
    ("{'joy', 'fear'}", None, ("fear", "joy")),
    ("frozenset({'joy'})", None, ("joy",)),
    ("set()", None, ()),
    ({"joy", "fear"}, None, ("fear", "joy")),
    (["joy", "fear"], None, ("joy", "fear")),
    (("joy",), None, ("joy",)),
    (np.array(["joy", "fear"]), None, ("joy", "fear")),
    ('{"choices": ["joy", "fear"]}', None, ("joy", "fear")),
    ({"choices": ["joy"]}, None, ("joy",)),
    ({"choices": "joy"}, None, ("joy",)),
    ({"choices": []}, None, ()),
    ('"joy", "fear"', None, ("joy", "fear")),
    ('"joy"', None, ("joy",)),
    ("", None, ()),
    ("[]", None, ()),
    ([], None, ()),
    ("none", None, ()),
    ("None", None, ()),
    (["none"], None, ()),
    ("[None]", None, None),
    (None, None, None),
    (float("nan"), None, None),
    ("nan", None, None),
    ("NaN", None, None),
    ("null", None, None),
    ("-1", None, None),
    (-1, None, None),
    (-1.0, None, None),
    ("[-1]", None, None),
    ('["joy", null]', None, None),
    (["joy", None], None, None),
    (["joy", -1], None, None),
    (pd.NA, None, None),
    (pd.NaT, None, None),
    ("<NA>", None, None),
    ("N/A", None, None),
    ("joy, none", None, REFUSED),
    (["none", "joy"], None, REFUSED),
    ("['joy' 'fear', 'anger']", None, REFUSED),
    ("['joy' ... 'fear']", None, REFUSED),
    ("[joy, fear]", None, REFUSED),
    ("[joy", None, REFUSED),
    ("joy]", None, REFUSED),
    ("('joy'", None, REFUSED),
    ("[" * 5000, None, REFUSED),
    ("[" * 200_000 + "]" * 200_000, None, REFUSED),
    ("[[]]", None, REFUSED),
    ('[["joy"]]', None, REFUSED),
    ({"joy": 1}, None, REFUSED),
    ('{"joy": 1, "fear": 0}', None, REFUSED),
    ({}, None, REFUSED),
    ("{}", None, REFUSED),
    ({"choices": ["joy"], "rating": 3}, None, REFUSED),
    ('{"choices": ["joy"], "choices": ["fear"]}', None, REFUSED),
    ([{"choices": ["joy"]}], None, REFUSED),
    (3, None, REFUSED),
    (3.0, None, REFUSED),
    ("3", None, REFUSED),
    ("0,2", None, REFUSED),
    ([2, 0], None, REFUSED),
    (True, None, REFUSED),
    ([True, False], None, REFUSED),
    (1.5, None, REFUSED),
    (b"joy", None, REFUSED),
    ("[1, 0, 1]", None, REFUSED),
    ("1", None, REFUSED),
    (float("inf"), None, REFUSED),
    ("jo\x00y", None, REFUSED),
    ("\ud83d", None, REFUSED),
    (["\ud83d"], None, REFUSED),
    ("[1, 0, 1]", EMOTIONS, ("anger", "joy")),
    ("[1 0 1]", EMOTIONS, ("anger", "joy")),
    ("[1. 0. 1.]", EMOTIONS, ("anger", "joy")),
    ("[ True False  True]", EMOTIONS, ("anger", "joy")),
    ("(1, 0, 1)", EMOTIONS, ("anger", "joy")),
    ("1,0,1", EMOTIONS, ("anger", "joy")),
    ([1.0, 0.0, 1.0], EMOTIONS, ("anger", "joy")),
    ([True, False, True], EMOTIONS, ("anger", "joy")),
    (np.array([0, 1, 0]), EMOTIONS, ("fear",)),
    (np.array([False, True, False]), EMOTIONS, ("fear",)),
    ([0, 0, 0], EMOTIONS, ()),
    ("[0, 0, 0]", EMOTIONS, ()),
    ("[1, -1, 0]", EMOTIONS, None),
    ([1, None, 0], EMOTIONS, None),
    ("[1, 0, NaN]", EMOTIONS, None),
    ("[1. nan 0.]", EMOTIONS, None),
    ("[1, 0]", EMOTIONS, REFUSED),
    ("[1, 0, 2]", EMOTIONS, REFUSED),
    ("[1, 0, 1, 0]", EMOTIONS, REFUSED),
    ([0.5, 0, 1], EMOTIONS, REFUSED),
    ([2, 0], EMOTIONS, REFUSED),
    (2, EMOTIONS, REFUSED),
    (True, EMOTIONS, REFUSED),
    ("joi", EMOTIONS, REFUSED),
    ("Joy", EMOTIONS, REFUSED),
    ("joy;fear", EMOTIONS, REFUSED),
    ("['joy' 'sadness']", EMOTIONS, REFUSED),
    ("0,2", ("0", "1", "2"), ("0", "2")),
    ("1", ("0", "1", "2"), ("1",)),
    ([0, 2], ("0", "1", "2"), ("0", "2")),
    (2, ("0", "1", "2"), ("2",)),
    (2.0, ("0", "1", "2"), ("2",)),
    ("0,1", ("0", "1"), ("0", "1")),
    ([0, 1], ("0", "1"), REFUSED),
    (["0", "1"], ("0", "1"), ("0", "1")),
    ("-1", ("-1", "0", "1"), ("-1",)),
    (-1, ("-1", "0", "1"), ("-1",)),
    ("NA", ("NA", "joy"), ("NA",)),
    ("a, b", ("a, b", "c"), ("a, b",)),
    ("a, b, c", ("a, b", "c"), REFUSED),
    ('["a, b", "c"]', ("a, b", "c"), ("a, b", "c")),
    ("1", ("toxic",), ("toxic",)),
    ("0", ("toxic",), ()),
]


@pytest.mark.parametrize("cell, names, right", LABEL_CELLS, ids=[str(k) for k in range(len(LABEL_CELLS))])
def test_label_cells(cell, names, right):
    assert said(lambda: label_cell(cell, "a.csv, row 7", names)) == right
    if right == REFUSED:
        with pytest.raises(ValueError, match="row 7"):
            label_cell(cell, "a.csv, row 7", names)


def is_number(text):
    try:
        return float(text) == float(text) or True
    except ValueError:
        return False


PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters=',[](){}:="\\\0', exclude_categories=("Cc", "Cs", "Cn")),
    min_size=1,
    max_size=12,
).map(str.strip)
NAMES = st.lists(
    PLAIN.filter(
        lambda x: (
            any(c.isalpha() for c in x)
            and not is_unknown(x)
            and x.lower() not in ("none", "inf", "infinity")
            and not is_number(x)
            and not x.startswith(("'", "array", "set", "frozenset"))
            and not x.endswith("'")
        )
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


@settings(max_examples=150, deadline=None)
@given(NAMES)
def test_however_names_are_written_they_are_read_back(names):
    written = [
        ",".join(names),
        json.dumps(names),
        json.dumps(names, ensure_ascii=False),
        str(names),
        str(tuple(names)),
        str(np.array(names)),
        repr(np.array(names, dtype=object)),
        names,
        tuple(names),
        np.array(names),
        {"choices": names},
        json.dumps({"choices": names}),
    ]
    with np.printoptions(threshold=1000, linewidth=75):
        for cell in written:
            for known in (None, tuple(names)):
                assert label_cell(cell, "row 1", known) == tuple(names), cell
    assert set(label_cell(str(set(names)), "row 1")) == set(names)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6))
def test_vectors_are_read_by_their_places(marks):
    names = tuple("abcdef"[: len(marks)])
    right = tuple(n for n, m in zip(names, marks) if m)
    ints = [int(m) for m in marks]
    for cell in (
        marks,
        ints,
        [float(m) for m in ints],
        str(marks),
        str(ints),
        json.dumps(marks),
        str(np.array(marks)),
        str(np.array(ints)),
        str(np.array(ints, float)),
        repr(np.array(ints)),
        np.array(marks),
        ",".join(map(str, ints)),
    ):
        assert label_cell(cell, "row 1", names) == right
        assert said(lambda: label_cell(cell, "row 1")) == REFUSED


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    for names in (None, EMOTIONS):
        said(lambda: label_cell(text, "row 1", names))
    said(lambda: parse_list(text, "row 1"))


MARKS = [
    (x, 1)
    for x in (1, 1.0, True, "1", "1.0", "TRUE", "true", "Yes", " yes ", np.True_, np.int8(1), np.float32(1))
] + [(x, 0) for x in (0, 0.0, False, "0", "FALSE", "no", np.False_)]
MARKS += [(Decimal("1"), 1), (Decimal("0.0"), 0), (10**400, REFUSED)]
MARKS += [(x, None) for x in (None, "", " ", float("nan"), -1, "-1", "nan", "null", pd.NA)] + [
    (x, REFUSED) for x in (2, 0.5, "x", "2", "maybe", [1], {"a": 1}, 3.0, "1,0")
]


@pytest.mark.parametrize("cell, right", MARKS, ids=[str(k) for k in range(len(MARKS))])
def test_marks(cell, right):
    assert said(lambda: mark_cell(cell, "row 1, column 'joy'")) == right


@pytest.mark.parametrize(
    "cell, right",
    [
        (0, ("anger",)),
        ("2,0", ("joy", "anger")),
        ("[2 0]", ("joy", "anger")),
        ([1], ("fear",)),
        (2.0, ("joy",)),
        (-1, None),
        (None, None),
        ([0, -1], None),
        ("", ()),
        ([], ()),
        (3, REFUSED),
        (-2, REFUSED),
        (0.5, REFUSED),
        ("joy", REFUSED),
        (True, REFUSED),
        ([0, 3], REFUSED),
        (1e30, REFUSED),
        ({"a": 1}, REFUSED),
    ],
    ids=repr,
)
def test_indices(cell, right):
    assert said(lambda: index_cell(cell, "row 1", EMOTIONS)) == right


@pytest.mark.parametrize(
    "cell",
    [
        None,
        3,
        1.5,
        float("nan"),
        True,
        {"a": 1},
        ["so", "glad"],
        b"hi",
        pd.Timestamp("2020-01-01"),
        "",
        "  ",
        "\ud83d",
        "a\0b",
        np.int64(3),
        "NA",
        "nan",
        "NULL",
        "None",
        "#N/A",
        "#NAME?",
        "\u200b",
        "\ufeff",
        "['i', 'am']",
        "['i' 'am']",
        "{'text': 'hi'}",
        "b'hi'",
        "[{'a': 1}]",
    ],
    ids=repr,
)
def test_texts_are_texts(cell):
    assert said(lambda: text_cell(cell, "row 1")) == REFUSED


def test_words_are_joined_when_asked():
    for cell in (
        ["so", "glad"],
        ("so", "glad"),
        np.array(["so", "glad"]),
        "['so', 'glad']",
        "['so' 'glad']",
        '["so", "glad"]',
    ):
        assert text_cell(cell, "row 1", True) == "so glad"
    assert text_cell("so glad", "row 1", True) == "so glad"
    for cell in ([1, 2], [["so"]], 3, "[so glad]"):
        assert said(lambda: text_cell(cell, "row 1", True)) == REFUSED


@pytest.mark.parametrize(
    "cell, right",
    [
        ("a", "a"),
        (7, "7"),
        (7.0, "7"),
        (2**60 + 1, str(2**60 + 1)),
        ("007", "007"),
        (7.5, REFUSED),
        (float("inf"), REFUSED),
        (1e300, REFUSED),
        (True, REFUSED),
        ([1], REFUSED),
        (None, REFUSED),
        ("", REFUSED),
        ("\ud83d", REFUSED),
        ("NA", REFUSED),
        ("nan", REFUSED),
        (" a ", "a"),
        ("['a1', 'a2']", REFUSED),
    ],
    ids=repr,
)
def test_ids(cell, right):
    assert said(lambda: name_cell(cell, "row 1", "id")) == right


# ---- files


def load(folder, name, content, **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return said(
        lambda: {
            i: docs.labels.decode(g)
            for docs in [load_docs(name, "test", data_dir=folder, options=options or None)]
            for i, g in zip(docs.ids, docs.gold)
        }
    )


HEAD = "id,text,labels,split\n"
FILES = [  # name, content, options, id -> labels
    ("a.csv", HEAD + "1,hi,joy,test\n", {}, {"1": ("joy",)}),
    ("a.csv", "\ufeff" + HEAD + "1,hi,joy,test\r\n\r\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD.replace("\n", "\r") + "1,hi,joy,test\r", {}, {"1": ("joy",)}),
    ("a.csv", "sep=;\n" + HEAD.replace(",", ";") + "1;hi, you;joy;test\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD.replace(",", ";") + "1;hi, you;joy,fear;test\n", {}, {"1": ("fear", "joy")}),
    ("a.csv", HEAD.replace(",", "\t") + "1\thi, you\tjoy\ttest\n", {}, {"1": ("joy",)}),
    ("a.tsv", HEAD.replace(",", "\t") + "1\thi, you\tjoy\ttest\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD.replace(",", "|") + "1|hi, you|joy|test\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD.replace(",", "^") + "1^hi, you^joy^test\n", dict(delimiter="^"), {"1": ("joy",)}),
    ("a.csv", HEAD.replace(",", ";") + "1;hi;joy;test\n", dict(delimiter=","), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(delimiter=",,"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(delimiter=5), REFUSED),
    ("a.csv", HEAD + '1,"He said ""hi"", twice\nand left",joy,test\n', {}, {"1": ("joy",)}),
    ("a.csv", HEAD + '1,"He said hi,joy,test\n', {}, REFUSED),
    ("a.csv", HEAD + '1,"He said hi,joy,test\n2,"She left,fear,test\n', {}, REFUSED),
    ("a.csv", HEAD + '1,"open,joy,test\n2,shut",fear,test\n3,fine,joy,test\n', {}, REFUSED),
    ("a.csv", HEAD + '1,"open,joy,test\n2,a,joy,test\n3,shut",fear,test\n4,fine,joy,test\n', {}, REFUSED),
    ("a.csv", HEAD + '1,say "hi",joy,test\n', {}, {"1": ("joy",)}),
    ("a.csv", HEAD + '1,"hi" he said,joy,test\n', {}, REFUSED),
    ("a.csv", HEAD + '1,"hi" he said,joy,test\n', dict(quotes=False), {"1": ("joy",)}),
    ("a.csv", HEAD + "1,hi,joy\n", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test,x\n", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n2,ho\n", {}, REFUSED),
    ("a.csv", "id,text,text,labels,split\n1,hi,ho,joy,test\n", {}, REFUSED),
    ("a.csv", ",id,text,labels,split\n0,1,hi,joy,test\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD + "1," + "x" * 300_000 + ",joy,test\n", {}, {"1": ("joy",)}),
    ("a.csv", HEAD + "1,h\0i,joy,test\n", {}, REFUSED),
    ("a.csv", (HEAD + "1,grün,joy,test\n").encode("latin-1"), {}, REFUSED),
    ("a.csv", (HEAD + "1,grün,joy,test\n").encode("latin-1"), dict(encoding="latin-1"), {"1": ("joy",)}),
    ("a.csv", (HEAD + "1,grün,joy,test\n").encode("cp1252"), dict(encoding="cp1252"), {"1": ("joy",)}),
    ("a.csv", (HEAD + "1,grün,joy,test\n").encode("utf-16"), {}, REFUSED),
    ("a.csv", (HEAD + "1,grün,joy,test\n").encode("utf-16"), dict(encoding="utf-16"), {"1": ("joy",)}),
    ("a.csv", (HEAD + "1,hi,joy,test\n").encode("utf-16-le"), {}, REFUSED),
    ("a.csv", (HEAD + "1,hi,joy,test\n").encode("utf-16-le"), dict(encoding="utf-16-le"), {"1": ("joy",)}),
    ("a.csv", HEAD + "1,grün,joy,test\n", dict(encoding="latin-1"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(encoding="latin-7x"), REFUSED),
    ("a.csv", HEAD.encode() + b"1,\xed\xa0\xbd,joy,test\n", {}, REFUSED),
    ("a.csv", "", {}, REFUSED),
    ("a.csv", "\n\n", {}, REFUSED),
    ("a.csv", HEAD, {}, REFUSED),
    ("a.csv", HEAD + "1,hi,-1,test\n2,ho,joy,test\n", {}, {"2": ("joy",)}),
    ("a.csv", HEAD + "1,hi,-1,test\n2,ho,joy,dev\n", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,,test\n2,ho,joy,dev\n", {}, {"1": ()}),
    ("a.csv", HEAD + "1,hi,joy/fear,test\n2,ho,joy,dev\n3,hu,fear,dev\n", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,he/she,test\n", {}, {"1": ("he/she",)}),
    ("a.csv", HEAD + "1,hi,rock and roll,test\n", {}, {"1": ("rock and roll",)}),
    (
        "a.csv",
        "id,text,joy,fear,split\n1,hi,1,0,test\n2,ho,,1,test\n3,hu,yes,TRUE,test\n",
        dict(label_names=["joy", "fear"]),
        {"1": ("joy",), "3": ("joy", "fear")},
    ),
    ("a.csv", "id,text,joy,fear,split\n1,hi,1,0,test\n", dict(label_names=["joy", "anger"]), REFUSED),
    ("a.csv", "id,text,joy,fear,split\n1,hi,3,0,test\n", dict(label_names=["joy", "fear"]), REFUSED),
    ("a.csv", HEAD + "1,hi,1,test\n", dict(label_names=["joy", "fear"], indices=True), {"1": ("fear",)}),
    ("a.csv", HEAD + "1,hi,2,test\n", dict(label_names=["joy", "fear"], indices=True), REFUSED),
    ("a.csv", HEAD + "1,hi,1,test\n", dict(indices=True), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,fear,test\n", dict(repeats="gather"), {"1": ("fear", "joy")}),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,none,test\n", dict(repeats="gather"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,fear,test\n", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,fear,test\n", dict(repeats="first"), {"1": ("joy",)}),
    ("a.csv", HEAD + "1,hi,joy,test\n1,hi,fear,test\n", dict(repeats="mean"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(repeats="last"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(sheet="a"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(config="a"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(single="no"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(separator=""), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(text=["text"]), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(labels=None), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(label_names={"joy": 1}), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(label_names=[]), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(label_names=["joy", "joy"]), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(label_names=["joy", "\ud83d"]), REFUSED),
    (
        "a.jsonl",
        '{"id": 1, "text": "hi", "labels": ["joy"], "split": "test"}\n{"id": 2, "text": "ho", "split": '
        '"test"}\n{"id": 3, "text": "hu", "labels": null, "split": "test"}\n{"id": 4, "text": "he", '
        '"labels": [], "split": "test"}\n',
        {},
        {"1": ("joy",), "4": ()},
    ),
    ("a.jsonl", '{"id": 1, "text": 5, "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    ("a.jsonl", '{"id": 1, "text": {"a": 1}, "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    ("a.jsonl", '{"id": 1, "text": "\\ud83d", "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    ("a.jsonl", '{"id": 1, "text": "hi", "labels": ["\\ud83d"], "split": "test"}\n', {}, REFUSED),
    (
        "a.jsonl",
        '{"id": 1, "text": "\\ud83d\\ude00", "labels": ["joy"], "split": "test"}\n',
        {},
        {"1": ("joy",)},
    ),
    ("a.jsonl", '{"id": Infinity, "text": "hi", "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    ("a.jsonl", '{"id": 1, "id": 2, "text": "hi", "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    ("a.jsonl", "[" * 100_000, {}, REFUSED),
    (
        "a.jsonl",
        '{"id": 1, "text": "hi", "labels": ' + "[" * 50_000 + "]" * 50_000 + ', "split": "test"}\n',
        {},
        REFUSED,
    ),
    (
        "a.jsonl",
        '{"id": 1, "text": ["so", "glad"], "labels": ["joy"], "split": "test"}\n',
        dict(join_words=True),
        {"1": ("joy",)},
    ),
    ("a.jsonl", '{"id": 1, "text": ["so", "glad"], "labels": ["joy"], "split": "test"}\n', {}, REFUSED),
    (
        "a.jsonl",
        '{"id": 1152921504606846977, "text": "hi", "labels": ["joy"], "split": "test"}\n{"text": "ho", '
        '"labels": ["joy"], "split": "test"}\n',
        {},
        REFUSED,
    ),
    (
        "a.jsonl",
        '{"id": 1152921504606846977, "text": "hi", "labels": ["joy"], "split": "test"}\n',
        {},
        {"1152921504606846977": ("joy",)},
    ),
    ("a.jsonl", '{"id": 1, "text": "hi", "labels": ["joy"], "split": 3}\n', {}, REFUSED),
    ("a.json", '[{"id": 1, "text": "hi", "labels": ["joy"], "split": "test"}]', {}, {"1": ("joy",)}),
    ("a.json", "[1]", {}, REFUSED),
    ("a.json", '[{"id": 1,', {}, REFUSED),
    ("a.json", '{"id": 1, "text": "hi", "labels": ["joy"], "split": "test"}\n', {}, {"1": ("joy",)}),
    ("a.parquet", b"PAR1", {}, REFUSED),
    ("a.xlsx", b"PK", {}, REFUSED),
    ("a.xls", b"x", {}, REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(annotations="notes"), REFUSED),
    ("a.csv", HEAD + "1,hi,joy,test\n", dict(counts=True), REFUSED),
]


@pytest.mark.parametrize("name, content, options, right", FILES, ids=[str(k) for k in range(len(FILES))])
@pytest.mark.filterwarnings(
    "ignore:.*unknown labels", "ignore:.*the first is kept", "ignore:.*another split", "ignore:.*option where"
)
def test_files(tmp_path, name, content, options, right):
    assert load(tmp_path, name, content, **options) == right, content


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
            .map(lambda t: "w" + t)
            .filter(lambda t: text_cell(t, "text") == t),
            st.sampled_from(["joy", "fear", "joy, fear", "none"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(",;\t|"),
)
def test_what_a_program_writes_is_read_back(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f, delimiter=delimiter).writerows(
            [("id", "text", "labels", "split")] + [(k, t, x, "test") for k, (t, x) in enumerate(rows)]
        )
    try:
        docs = load_docs(
            path.name,
            "test",
            data_dir=path.parent,
            options=dict(label_names=["fear", "joy"], delimiter=delimiter),
        )
    except ValueError as error:
        assert "looks like rows of the table" in str(error)  # a text of several lines that could be rows
        return
    assert docs.texts == tuple(t for t, _ in rows)
    assert [", ".join(sorted(docs.labels.decode(g), reverse=True)) or "none" for g in docs.gold] == [
        x for _, x in rows
    ]


def test_excel_is_read_as_csv_is(tmp_path):
    table = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "text": ["hi", "ho", "hu"],
            "joy": [True, False, True],
            "fear": [0, 1, 1],
            "split": "test",
        }
    )
    table.to_excel(tmp_path / "a.xlsx", index=False)
    docs = load_docs("a.xlsx", "test", data_dir=tmp_path, options=dict(label_names=["joy", "fear"]))
    assert docs.ids == ("1", "2", "3") and docs.gold.tolist() == [[1, 0], [0, 1], [1, 1]]
    with pd.ExcelWriter(tmp_path / "b.xlsx") as book:
        table.to_excel(book, sheet_name="posts", index=False)
        table.to_excel(book, sheet_name="more", index=False)
    with pytest.raises(ValueError, match="several sheets .posts, more."):
        load_docs("b.xlsx", "test", data_dir=tmp_path, options=dict(label_names=["joy", "fear"]))
    assert (
        len(
            load_docs(
                "b.xlsx", "test", data_dir=tmp_path, options=dict(label_names=["joy", "fear"], sheet="more")
            )
        )
        == 3
    )
    pd.DataFrame({"id": [1], "text": [42], "labels": ["joy"], "split": ["test"]}).to_excel(
        tmp_path / "c.xlsx", index=False
    )
    with pytest.raises(ValueError, match="row 2: a text is expected, found int 42"):
        load_docs("c.xlsx", "test", data_dir=tmp_path)


def test_a_formula_that_was_never_computed_is_refused(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["id", "text", "labels", "split"], [1, "hi", '=IF(1>0,"joy","")', "test"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="cell C2: the formula"):
        load_docs("a.xlsx", "test", data_dir=tmp_path)


def test_parquet_keeps_whole_numbers_and_lists(tmp_path):
    pd.DataFrame(
        {
            "id": pd.array([2**60 + 1, 2**60 + 2], dtype="Int64"),
            "text": ["hi", "ho"],
            "labels": [["joy"], None],
            "split": "test",
        }
    ).to_parquet(tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="1 of 2 documents of split 'test' have unknown labels"):
        docs = load_docs("a.parquet", "test", data_dir=tmp_path)
    assert docs.ids == (str(2**60 + 1),) and docs.notes and docs.labels.names == ("joy",)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv", "x" * 300 + ".csv", "no.csv"):
        assert said(lambda: load_docs(name, "test", data_dir=tmp_path)) == REFUSED
    assert said(lambda: load_docs("demo", "test", test_ids=tmp_path / "pipe.csv")) == REFUSED
    assert said(lambda: read_table("/dev/zero")) == REFUSED


# ---- votes


def votes_of(folder, name, content, **options):
    (folder / name).write_text(content)
    docs = load_docs(name, "test", data_dir=folder, options=options)
    return {
        i: (dict(zip(docs.labels.names, p.round(3).tolist())), n)
        for i, p, n in zip(docs.ids, docs.human().probs, docs.n_annotators.tolist())
    }, docs


def test_judgements_of_one_text_are_those_of_one_document(tmp_path):
    rows = 'text,labels,who,split\nhi,joy,a,test\nhi,"joy, fear",b,test\nho,fear,a,test\nhi,fear,c,test\n'
    votes, _ = votes_of(tmp_path, "a.csv", rows, id=None, annotator="who")
    assert votes == {"0": (dict(fear=0.667, joy=0.667), 3), "1": (dict(fear=1, joy=0), 1)}


def test_ids_of_judgements_are_no_ids_of_documents(tmp_path):
    rows = "id,text,labels,who,split\n1,hi,joy,a,test\n2,hi,fear,b,test\n3,ho,joy,a,test\n4,ho,joy,b,test\n"
    with pytest.raises(
        ValueError, match="row 1: every judgement has an id of its own, but texts repeat: with id: null"
    ):
        votes_of(tmp_path, "a.csv", rows, annotator="who")
    assert votes_of(tmp_path, "a.csv", rows, annotator="who", id=None)[0]["1"] == (dict(fear=0, joy=1), 2)


def test_unknown_votes_are_no_votes(tmp_path):
    rows = "id,text,labels,who,split\n1,hi,joy,a,test\n1,hi,-1,b,test\n2,ho,nan,a,test\n3,hu,none,a,test\n"
    with pytest.warns(
        UserWarning, match="2 of 4 judgements .* and with them 1 documents that nobody else judged"
    ):
        votes, docs = votes_of(tmp_path, "a.csv", rows, annotator="who")
    assert votes == {"1": (dict(joy=1), 1), "3": (dict(joy=0), 1)} and len(docs.notes) == 1


def test_a_run_records_what_was_left_out(tmp_path):
    (tmp_path / "a.csv").write_text(
        "id,text,labels,split\n1,hi,joy,test\n2,ho,-1,test\n3,hu,joy,train\n4,he,nan,train\n"
    )
    with pytest.warns(UserWarning, match="1 of 2 documents"):
        docs, demos = (load_docs("a.csv", split, data_dir=tmp_path) for split in ("test", "train"))
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="a.csv", model="tiny"),
        docs=docs,
        others=(demos,),
        output_dir=tmp_path / "runs",
    )
    assert [w.split(" have")[0].split(": ")[1] for w in run.record["warnings"]] == [
        "1 of 2 documents of split 'test'",
        "1 of 2 documents of split 'train'",
    ]


REPEATS = "id,text,labels,who,split\n1,hi,joy,a,test\n1,hi,fear,a,test\n1,hi,joy,b,test\n"


@pytest.mark.parametrize(
    "repeats, right, note",
    [
        ("first", dict(fear=0, joy=1), "the first is kept"),
        ("mean", dict(fear=0.25, joy=0.75), "their mean is one vote"),
        ("gather", dict(fear=0.5, joy=1), None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*judgements by somebody")
def test_the_same_person_twice(tmp_path, repeats, right, note):
    with pytest.raises(ValueError, match="row 2: annotator 'a' judges id '1' twice; the option repeats"):
        votes_of(tmp_path, "a.csv", REPEATS, annotator="who")
    votes, docs = votes_of(tmp_path, "a.csv", REPEATS, annotator="who", repeats=repeats)
    assert votes == {"1": (right, 2)} and (not docs.notes if note is None else note in docs.notes[0])


NESTED = [
    {"annotator": "a", "labels": ["joy"]},
    {"annotator": "b", "labels": ["joy", "fear"]},
    {"annotator": "c", "labels": []},
]


@pytest.mark.parametrize(
    "cell",
    [NESTED, json.dumps(NESTED), {"annotator": ["a", "b", "c"], "labels": [["joy"], ["joy", "fear"], []]}],
    ids=["list", "text", "lists by key"],
)
def test_nested_judgements(tmp_path, cell):
    votes, docs = votes_of(
        tmp_path, "a.jsonl", json.dumps(dict(id="p", text="hi", annotations=cell, split="test")) + "\n"
    )
    assert votes == {"p": (dict(fear=0.333, joy=0.667), 3)} and docs.vote_annotator.tolist() == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    "people, labels",
    [(["a", "b", "c"], ["joy", ["joy", "fear"], []]), ("['a', 'b', 'c']", "['joy', ['joy', 'fear'], []]")],
    ids=["lists", "texts"],
)
def test_lists_beside_each_other(tmp_path, people, labels):
    votes, docs = votes_of(
        tmp_path,
        "a.jsonl",
        json.dumps(dict(id="p", text="hi", who=people, labels=labels, split="test")) + "\n",
        annotator="who",
    )
    assert votes == {"p": (dict(fear=0.333, joy=0.667), 3)} and docs.vote_annotator.tolist() == [
        "a",
        "b",
        "c",
    ]
    with pytest.raises(ValueError, match="as many lists of labels as annotators"):
        votes_of(
            tmp_path,
            "b.jsonl",
            json.dumps(dict(id="p", text="hi", who=["a", "b"], labels=["joy"], split="test")) + "\n",
            annotator="who",
        )


def test_withdrawn_judgements_are_none(tmp_path):
    said_so = NESTED + [dict(annotator="d", labels=[], was_cancelled=True)]
    with pytest.warns(UserWarning, match="1 withdrawn annotations are left out"):
        votes, _ = votes_of(
            tmp_path, "a.jsonl", json.dumps(dict(id="p", text="hi", annotations=said_so, split="test")) + "\n"
        )
    assert votes == {"p": (dict(fear=0.333, joy=0.667), 3)}


@pytest.mark.parametrize(
    "cell",
    [
        [1],
        "x",
        {"a": 1},
        [{"labels": ["joy"]}],
        [{"annotator": "a"}],
        [{"annotator": None, "labels": []}],
        [{"annotator": "a", "labels": 3}],
        [],
    ],
    ids=repr,
)
def test_nested_judgements_that_are_none(tmp_path, cell):
    (tmp_path / "a.jsonl").write_text(
        json.dumps(dict(id="p", text="hi", annotations=cell, split="test")) + "\n"
    )
    assert said(lambda: load_docs("a.jsonl", "test", data_dir=tmp_path)) == REFUSED


def test_counts_become_shares(tmp_path):
    rows = "id,text,joy,fear,people,split\n1,hi,2,1,3,test\n2,ho,0,3,3,test\n3,hu,1,2,3,test\n"
    votes, docs = votes_of(tmp_path, "a.csv", rows, label_names=["fear", "joy"], counts="people")
    assert (
        votes
        == {
            "1": (dict(fear=0.333, joy=0.667), 3),
            "2": (dict(fear=1, joy=0), 3),
            "3": (dict(fear=0.667, joy=0.333), 3),
        }
        and docs.counted
    )
    assert (
        votes_of(tmp_path, "a.csv", rows, label_names=["fear", "joy"], counts=True, single=True)[0] == votes
    )
    assert votes_of(tmp_path, "a.csv", rows, label_names=["fear", "joy"], counts=3)[0] == votes
    with pytest.raises(ValueError, match="given as counts"):
        one_against_rest(docs)
    with pytest.raises(ValueError, match="given as counts"):
        load_docs(
            "a.csv",
            "test",
            data_dir=tmp_path,
            options=dict(label_names=["fear", "joy"], counts=3, annotators="annotator"),
        )
    for options in (
        dict(counts=True),
        dict(counts=2),
        dict(counts="text"),
        dict(counts="persons"),
        dict(counts="people", annotator="id"),
        {},
    ):
        assert (
            said(
                lambda: load_docs(
                    "a.csv", "test", data_dir=tmp_path, options=dict(label_names=["fear", "joy"]) | options
                )
            )
            == REFUSED
        )


# ---- Hub data sets (folders with a dataset in the Hub's form)


def hub(folder, columns, features, split="test"):
    import datasets

    (folder / "data").mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(
        folder / "data" / f"{split}-00000-of-00001.parquet"
    )
    return str(folder) if "/" in str(folder) else f"./{folder}"


@pytest.fixture
def kinds():
    import datasets

    return datasets, dict(id=datasets.Value("string"), text=datasets.Value("string"))


@pytest.mark.filterwarnings("ignore:.*unknown labels")
def test_classes_of_a_hub_dataset(tmp_path, kinds):
    datasets, base = kinds
    one = datasets.ClassLabel(names=list(EMOTIONS))
    several = datasets.Sequence(datasets.ClassLabel(names=list(EMOTIONS)))
    texts = dict(id=["1", "2", "3"], text=["a", "b", "c"])
    docs = load_docs(
        hub(tmp_path / "one", texts | dict(labels=[2, -1, None]), base | dict(labels=one)),
        "test",
        options=dict(single=True),
    )
    assert docs.ids == ("1",) and docs.labels.names == ("joy",)
    docs = load_docs(
        hub(tmp_path / "several", texts | dict(labels=[[0, 2], [], [-1]]), base | dict(labels=several)),
        "test",
    )
    assert docs.ids == ("1", "2") and [docs.labels.decode(g) for g in docs.gold] == [("anger", "joy"), ()]


@pytest.mark.parametrize(
    "names, right",
    [
        (["false", "true"], True),
        (["no", "yes"], True),
        (["not_toxic", "toxic"], True),
        (["toxic", "non-toxic"], False),
        (["negative", "positive"], True),
        (["clean", "dirty"], REFUSED),
    ],
    ids=str,
)
def test_a_class_of_two_names_as_a_mark(tmp_path, kinds, names, right):
    datasets, base = kinds
    folder = hub(
        tmp_path / "hub",
        dict(id=["1", "2"], text=["a", "b"], toxic=[1, 0], rude=[1, 1]),
        base | dict(toxic=datasets.ClassLabel(names=names), rude=datasets.Value("int8")),
    )
    found = said(
        lambda: load_docs(folder, "test", options=dict(label_names=["toxic", "rude"])).gold[:, 0].tolist()
    )
    assert found == (right if right == REFUSED else [float(right), float(not right)])


def test_nested_judgements_of_a_hub_dataset(tmp_path, kinds):
    datasets, base = kinds
    inner = datasets.Sequence(
        dict(
            annotator=datasets.Value("string"),
            labels=datasets.Sequence(datasets.ClassLabel(names=list(EMOTIONS))),
        )
    )
    folder = hub(
        tmp_path / "hub",
        dict(id=["1"], text=["a"], annotations=[dict(annotator=["x", "y"], labels=[[0], [0, 2]])]),
        base | dict(annotations=inner),
    )
    docs = load_docs(folder, "test")
    assert dict(zip(docs.labels.names, docs.human().probs[0])) == dict(anger=1, joy=0.5)


def test_a_folder_of_text_files_is_read_as_strictly(tmp_path):
    folder = tmp_path / "posts"
    folder.mkdir()
    (folder / "train.csv").write_text("id,text,labels\n001,hi,joy\n002,ho,\n")
    (folder / "test.csv").write_text("id,text,labels\n003,hu,fear\n")
    docs = load_docs(str(folder), "train+test")
    assert docs.ids == ("001", "002", "003") and [docs.labels.decode(g) for g in docs.gold] == [
        ("joy",),
        (),
        ("fear",),
    ]
    for content, words in (
        ('id,text,labels\n1,"oh no,joy\n2,fine,joy\n3,right?",fear\n4,bye,joy\n', "is a quote not closed"),
        ("id,text,labels\n1,a,joy,x\n", "line 2 has 4 fields"),
        ("id,text,labels,labels\n1,a,joy,x\n", "two columns are called"),
    ):
        (folder / "train.csv").write_text(content)
        with pytest.raises(ValueError, match=words):
            load_docs(str(folder), "train")
    (folder / "train.csv").rename(folder / "posts.csv")
    with pytest.raises(ValueError, match="which split is this"):
        load_docs(str(folder), "train")


def test_parquet_of_datasets_keeps_its_classes(tmp_path, kinds):
    datasets, base = kinds
    features = base | dict(
        split=datasets.Value("string"),
        labels=datasets.Sequence(datasets.ClassLabel(names=["World, news", "Sports"])),
    )
    datasets.Dataset.from_dict(
        dict(id=["1"], text=["a"], split=["test"], labels=[[0]]), features=datasets.Features(features)
    ).to_parquet(tmp_path / "a.parquet")
    assert load_docs("a.parquet", "test", data_dir=tmp_path).labels.names == ("World, news",)


def test_merged_cells_and_stray_formats_in_excel(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["id", "text", "labels", "split"], [1, "hi", "joy", "test"], [2, "ho", None, "test"]):
        book.active.append(row)
    book.active["A60000"].font = openpyxl.styles.Font(bold=True)
    book.save(tmp_path / "a.xlsx")
    assert load_docs("a.xlsx", "test", data_dir=tmp_path).gold.tolist() == [[1], [0]]
    book.active.merge_cells("C2:C3")
    book.save(tmp_path / "b.xlsx")
    with pytest.raises(ValueError, match="the cells C2:C3 are merged"):
        load_docs("b.xlsx", "test", data_dir=tmp_path)


def test_configurations_are_named(tmp_path, kinds):
    _, base = kinds
    for name in ("easy", "hard"):
        hub(
            tmp_path / "hub" / name,
            dict(id=["1"], text=[name], labels=["joy"]),
            base | dict(labels=kinds[0].Value("string")),
        )
    (tmp_path / "hub" / "README.md").write_text(
        "---\nconfigs:\n- config_name: easy\n  data_files: easy/data/*.parquet\n- config_name: hard\n  "
        "data_files: hard/data/*.parquet\n---\n"
    )
    with pytest.raises(
        ValueError, match="several configurations: easy, hard; choose one with the option config"
    ):
        load_docs(str(tmp_path / "hub"), "train")
    with pytest.raises(ValueError, match="did you mean 'hard'"):
        load_docs(str(tmp_path / "hub"), "train", options=dict(config="har"))
    assert load_docs(str(tmp_path / "hub"), "train", options=dict(config="hard")).texts == ("hard",)
