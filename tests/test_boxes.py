"""Boxes (00b_boxes): the solver against the generator, the same scenarios everywhere, the authors'
files against the released code's rules, and bad input (one line each).
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from mlcllm.boxes import (
    _FILES,
    _SUBSET,
    OBJECTS,
    box_docs,
    generate_boxes,
    load_boxes,
    plot_box_items,
    solve_boxes,
    write_boxes,
    wrong_gold,
)
from mlcllm.data import SPLITS, load_docs
from mlcllm.prompts import check_names, format_labels, parse_labels

# of the default scenarios: a numpy that draws other numbers would show here
DIGEST = "305a97d302d12ff9820d9d9054969b92f27615f5587ec2b0793a032fc6810387"
SMALL = dict(n_samples=20, n_boxes=3, n_operations=4)


def digest(samples):
    return sha256(repr([(s.sentences, s.states, s.split) for s in samples]).encode()).hexdigest()


@pytest.fixture(scope="module")
def samples():
    return generate_boxes()


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    return write_boxes(tmp_path_factory.mktemp("boxes"), samples)


# The generator


def test_the_same_scenarios_everywhere(samples, root):
    assert digest(samples) == DIGEST
    code = (
        "from mlcllm.boxes import *; from hashlib import sha256; print(sha256(repr([(s.sentences, s.states, "
        "s.split) for s in generate_boxes()]).encode()).hexdigest())"
    )
    for seed in ("1", "271828"):
        out = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == DIGEST


def test_of_the_published_size():
    samples = generate_boxes()
    assert Counter(s.split for s in samples) == dict(train=990, dev=220, test=990)
    start_items = np.array([[len(b) for b in s.states[0]] for s in samples])
    assert (
        abs(start_items.mean() - 2) < 0.05
        and max(len(b) for s in samples for state in s.states for b in state) == 3
    )
    assert all(len(s.sentences) == len(s.states) == 13 and len(s.states[0]) == 7 for s in samples)


def test_splits_share_neither_scenario_nor_shape(samples):
    shapes = {split: {tuple(map(len, s.states[0])) for s in samples if s.split == split} for split in SPLITS}
    ids = {split: {i.split("-")[0] for i in box_docs(samples, split).ids} for split in SPLITS}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not shapes[a] & shapes[b] and not ids[a] & ids[b]
    assert sum(map(len, ids.values())) == 2200


@pytest.mark.parametrize(
    "how",
    [
        dict(n_boxes=2, max_items=1, expected_items=0.5),
        dict(n_boxes=2, max_items=1, expected_items=0),
        dict(n_boxes=2, max_items=1, expected_items=1),
        dict(n_boxes=20, max_items=5, expected_items=4.5),
        dict(n_boxes=2, max_items=50, expected_items=50),
        dict(n_boxes=4, max_items=25, expected_items=1),
        dict(n_operations=0),
        dict(move_contents=False),
        dict(all_contents=True),
        dict(all_contents=True, move_contents=False),
        dict(n_operations=60),
    ],
)
def test_extreme_parameters_are_solved(how):
    samples = generate_boxes(**dict(n_samples=30, seed=5) | how)
    assert Counter(s.split for s in samples) == dict(train=13, dev=3, test=14)
    for split in SPLITS:
        assert wrong_gold(box_docs(samples, split, "every")) == ()
    most = how.get("max_items", 3)
    for s in samples:
        for state in s.states:
            assert max(map(len, state)) <= most and sum(map(len, state)) == len({o for b in state for o in b})
        assert all(a != b for a, b in zip(s.states, s.states[1:]))  # every operation changes something
    if how.get("expected_items") == most:
        assert all(len(b) == most for s in samples for b in s.states[0])


def test_all_kinds_of_operation_are_equally_likely(samples):
    kinds = Counter(x.split()[0] for s in samples for x in s.sentences[1:])
    assert set(kinds) == {"Move", "Remove", "Put"} and all(
        abs(n / 26400 - 1 / 3) < 0.02 for n in kinds.values()
    )
    several = sum(" and the " in x for s in samples for x in s.sentences[1:])
    assert several > 2000


# The solver


def test_the_solver_confirms_every_state(samples):
    for s in samples:
        assert solve_boxes(" ".join(s.sentences)) == dict(enumerate(s.states[-1]))
    for s in samples[:100]:
        for k, state in enumerate(s.states):
            assert solve_boxes(" ".join(s.sentences[: k + 1])) == dict(enumerate(state))


def test_the_solver_confirms_what_is_read_from_files(folder):
    assert [wrong_gold(load_boxes(split, folder)) for split in SPLITS] == [(), (), ()]


# The authors' files


@pytest.mark.parametrize("after", [None, [0, 5], "every"])
def test_round_trip(tmp_path, after):
    samples = generate_boxes(**SMALL) if after == "every" else generate_boxes(20, n_operations=6)
    write_boxes(tmp_path, samples, after=after)
    for split in SPLITS:
        docs = box_docs(samples, split, after)
        assert (
            load_docs("Boxes", split, data_dir=tmp_path).content_hash()
            == load_docs("Boxes", split, data_dir=tmp_path / _SUBSET).content_hash()
            == docs.content_hash()
        )
    rows = [json.loads(line) for line in (tmp_path / _SUBSET / _FILES["test"]).read_text().splitlines()]
    assert all(
        r["sentence_masked"].removesuffix("<extra_id_0> .")
        + r["masked_content"].removeprefix("<extra_id_0> ")
        + "."
        == r["sentence"]
        for r in rows
    )
    if after is not None:
        assert rows[0]["numops"] == 0 and max(r["numops"] for r in rows) > 1


def released(path):
    """The released code's rules as official_behaviour.md states them, without its faults: id -> (text,
    objects)
    """
    out, previous, n = {}, None, 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        n = n + 1 if row["sample_id"] == previous else 0
        previous = row["sample_id"]
        words = row["masked_content"][len("<extra_id_0>") :].split()
        out[f"{previous}-{n}"] = (
            row["sentence_masked"].split("<extra_id_0>")[0].strip(),
            {w for w in words if w not in ("the", "and", "nothing")},
        )
    return out


@pytest.mark.parametrize("split", SPLITS)
def test_ids_texts_and_labels_follow_the_released_rules(folder, split):
    docs, expected = load_boxes(split, folder), released(folder / _SUBSET / _FILES[split])
    assert docs.ids == tuple(expected) and docs.texts == tuple(t for t, _ in expected.values())
    assert [set(docs.labels.decode(g)) for g in docs.gold] == [x for _, x in expected.values()]
    for o in ("candle", "sand", "feather"):
        assert docs.gold[:, docs.labels.index(o)].sum() > 0  # "and" and "the" inside words


def files(root, rows, objects="rock,theatre,band stand,sand\n", subset=_SUBSET, split="dev"):
    (root / subset).mkdir(parents=True, exist_ok=True)
    if objects is not None:
        (root / "objects.txt").write_bytes(objects if isinstance(objects, bytes) else objects.encode())
    (root / subset / _FILES[split]).write_bytes(
        rows
        if isinstance(rows, bytes)
        else "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()
    )
    return root


def row(content="the rock", sample_id=7, text="Box 0 contains the rock. Box 0 contains <extra_id_0> ."):
    return dict(sentence_masked=text, masked_content="<extra_id_0> " + content, sample_id=sample_id)


def test_names_with_the_and_and_in_them(tmp_path):
    docs = load_boxes(
        "dev",
        files(
            tmp_path,
            [
                row("the theatre and the band stand and the sand"),
                row("nothing"),
                row("contains the Rock.", "a", "Box 0 contains the Rock. Box 0 <extra_id_0> ."),
                row("is empty", "a"),
            ],
        ),
    )
    assert wrong_gold(docs) == ("7-0", "7-1", "a-1")
    assert [docs.labels.decode(g) for g in docs.gold] == [
        ("band stand", "sand", "theatre"),
        (),
        ("rock",),
        (),
    ]
    assert (
        docs.ids == ("7-0", "7-1", "a-0", "a-1")
        and docs.texts[0] == "Box 0 contains the rock. Box 0 contains"
    )
    assert (
        docs.labels.names == ("band stand", "rock", "sand", "theatre")
        and docs.labels.file_order == ("rock", "theatre", "band stand", "sand")
        and docs.labels.allows_none
    )
    assert solve_boxes(
        "Box 0 contains the theatre and the band stand, Box 1 contains nothing. Move the band stand "
        "from Box 0 to Box 1."
    ) == {0: ("theatre",), 1: ("band stand",)}


def test_a_scenario_that_comes_back_goes_on_counting(tmp_path):
    assert load_boxes("dev", files(tmp_path, [row(), row(sample_id=8), row()])).ids == ("7-0", "8-0", "7-1")


def test_other_subsets_and_places(tmp_path):
    files(tmp_path, [row()])
    files(tmp_path, [row("the sand")], subset="few_shot_boxes_nso_exp2_max3")
    other = load_docs("Boxes", "dev", data_dir=tmp_path, options=dict(subset="few_shot_boxes_nso_exp2_max3"))
    assert (
        other.labels.decode(other.gold[0]) == ("sand",) and load_boxes("dev", tmp_path).gold[0].argmax() == 1
    )
    same = load_boxes(
        "dev", tmp_path / "few_shot_boxes_nso_exp2_max3", dict(subset="few_shot_boxes_nso_exp2_max3")
    )
    assert same.content_hash() == other.content_hash()
    alone = tmp_path / "alone"
    files(alone, [row()])
    (alone / "objects.txt").rename(alone / _SUBSET / "objects.txt")
    assert len(load_boxes("dev", alone / _SUBSET)) == 1


# Through load_docs, prompts and plots


def test_load_docs():
    docs = load_docs("Boxes", "dev+test", options=SMALL | dict(after=[0, 4]))
    assert len(docs) == 2 * 3 * (2 + 9) and docs.split == "dev+test"
    assert len(load_docs("Boxes", "test", n_docs=5)) == 5 and len(load_docs("Boxes", "test")) == 6930
    assert wrong_gold(load_docs("Boxes", "test", options=dict(all_contents=True, n_samples=50))) == ()


def test_an_answer_can_be_written_and_read_back():
    docs = load_docs("Boxes", "dev")
    check_names(docs.labels, "polysyndeton")
    for gold in docs.gold[:200]:
        names = docs.labels.decode(gold)
        answer = parse_labels(format_labels(names, "polysyndeton"), docs.labels, "polysyndeton")
        assert answer.labels == (names or ("none",)) and answer.well_formed


def test_every_object_is_a_token_of_its_own(data_root):
    path = data_root / "tokenizers" / "llama3" / "tokenizer.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    tokens = [encode(f"the {o}")[len(encode("the")) :] for o in OBJECTS]
    assert all(len(t) == 1 for t in tokens) and len({t[0] for t in tokens}) == len(OBJECTS)


def test_plot(samples):
    import matplotlib.pyplot as plt

    ax = plot_box_items(samples)
    start, asked = np.reshape([b.get_height() for b in ax.patches], (2, 4))
    boxes = [[len(b) for s in samples for b in s.states[k]] for k in (0, -1)]
    assert np.allclose(start, np.bincount(boxes[0]) / 15400) and np.allclose(
        asked, np.bincount(boxes[1]) / 15400
    )
    assert (
        ax.get_xlabel() and ax.get_ylabel() and plot_box_items(load_docs("Boxes", "dev", n_docs=7), ax) is ax
    )
    plt.close(ax.figure)


# Bad input

GENERATOR = [
    (dict(max_items=15), "7 × 15 = 105 objects could be needed, there are only 100"),
    (dict(n_boxes=34), "34 × 3 = 102 objects"),
    (
        dict(expected_items=4),
        "expected_items must be a number from 0 to 3, got 4; a box holds at most max_items=3",
    ),
    (dict(expected_items=2, max_items=1), "from 0 to 1, got 2"),
    (dict(expected_items=-1), "expected_items"),
    (dict(expected_items=float("nan")), "got nan"),
    (dict(expected_items="2"), "got '2'"),
    (dict(max_items=0), "max_items must be a whole number of at least 1"),
    (dict(n_boxes=1), "n_boxes must be a whole number of at least 2, got 1"),
    (dict(n_boxes=2.5), "n_boxes"),
    (dict(n_samples=2), "n_samples must be a whole number of at least 3"),
    (dict(n_samples=True), "got True"),
    (dict(n_operations=-1), "n_operations"),
    (dict(seed=-1), "seed must be"),
    (dict(seed=None), "got None"),
    (dict(move_contents="yes"), "unknown move_contents 'yes'"),
    (dict(all_contents=2), "unknown all_contents 2"),
]
OPTIONS = [
    (dict(n_box=3), "did you mean 'n_boxes'?"),
    (dict(expected_item=3), "did you mean 'expected_items'?"),
    (dict(subset=_SUBSET), "option 'subset' of Boxes is for the files in data_dir"),
    (SMALL | dict(after="all"), "unknown after 'all'; did you mean 'every'?"),
    (SMALL | dict(after=5), "after must be a whole number from 0 to 4, got 5"),
    (SMALL | dict(after=[]), "one or more different numbers"),
    (SMALL | dict(after=[1, 1]), "one or more different numbers"),
    (SMALL | dict(after=[0, "2"]), "got '2'"),
    (SMALL | dict(annotators="both"), "has no annotators"),
]


def one_line(call, words, kinds=(ValueError, FileNotFoundError)):
    with pytest.raises(kinds) as error:
        call()
    message = str(error.value)
    assert words in message and "\n" not in message and len(message) < 900, message


@pytest.mark.parametrize("how, words", GENERATOR)
def test_bad_parameters(how, words):
    one_line(lambda: generate_boxes(**how), words)
    one_line(lambda: load_docs("Boxes", "test", options=how), words)


@pytest.mark.parametrize("how, words", OPTIONS)
def test_bad_options(how, words):
    one_line(lambda: load_docs("Boxes", "test", options=how), words)


def test_bad_split():
    one_line(lambda: load_docs("Boxes", "tset"), "did you mean 'test'?")
    one_line(lambda: load_boxes("val"), "unknown split 'val'")
    one_line(lambda: box_docs([], "val"), "unknown split 'val'")


ROWS = [  # lines of the dev file, and what the one line says
    (["{"], "dev-t5.jsonl, line 1: not valid JSON"),
    ([row(), "", '{"sample_id": 1'], "line 3: not valid JSON"),
    (["[1]"], "line 1: an object"),
    ([], "no documents in it"),
    (b"\xff\xfe{}", "is written in UTF-16, not UTF-8"),
    ([{"sample_id": 1}], "line 1: no field 'sentence_masked'"),
    ([row(), {k: v for k, v in row().items() if k != "sample_id"}], "line 2: no field 'sample_id'"),
    ([row(sample_id=None)], "line 1: sample_id should be a number or text, found None"),
    ([row(sample_id=1.5)], "found 1.5"),
    ([row() | dict(masked_content=3)], "masked_content should be text, found 3"),
    ([row(text="Box 0 contains")], "line 1: sentence_masked should be a text with <extra_id_0> behind it"),
    ([row(text="<extra_id_0> .")], "sentence_masked should be"),
    ([row() | dict(masked_content="the rock")], "masked_content should start with <extra_id_0>"),
    ([row("")], "line 1: masked_content should name objects"),
    ([row(" .")], "masked_content should name objects"),
    ([row("contains .")], "masked_content should name objects"),
    ([row(), row("the rock and the sant")], "line 2, document 7-1 'sant'; did you mean 'sand'?"),
    ([row("rock sand")], "unknown object"),
]


@pytest.mark.parametrize("rows, words", ROWS)
def test_bad_lines(tmp_path, rows, words):
    files(tmp_path, rows)
    one_line(lambda: load_docs("Boxes", "dev", data_dir=tmp_path), words)


@pytest.mark.parametrize(
    "objects, words",
    [
        (None, "holds no objects.txt"),
        ("", "no objects"),
        ("rock, sand,Rock\n", "'rock' stands there twice"),
        (b"r\xf6ck", "not a text in UTF-8"),
    ],
)
def test_bad_objects(tmp_path, objects, words):
    one_line(lambda: load_boxes("dev", files(tmp_path, [row()], objects)), words)


def test_missing_files(tmp_path):
    one_line(lambda: load_docs("Boxes", "dev", data_dir=tmp_path / "no"), "does not exist")
    one_line(lambda: load_docs("Boxes", "dev", data_dir=tmp_path), f"holds no {_SUBSET}/dev-t5.jsonl")
    files(tmp_path, [row()])
    one_line(lambda: load_docs("Boxes", "test", data_dir=tmp_path), "test-subsample-states-t5.jsonl")
    one_line(lambda: load_docs("Boxes", "dev", data_dir=tmp_path / "objects.txt"), "holds no")
    one_line(
        lambda: load_docs(
            "Boxes", "dev", data_dir=tmp_path, options=dict(subset="few_shot_boxes_nso_exp2_max3")
        ),
        f"did you mean '{_SUBSET}'?",
    )
    for how in (dict(seed=1), dict(after=[1])):
        one_line(
            lambda: load_docs("Boxes", "dev", data_dir=tmp_path, options=how),
            f"option {next(iter(how))!r} of Boxes is for generated documents",
        )


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "sentence 1: what is in the boxes should stand here"),
        ("The cat sat.", "should stand here, found 'The cat sat'"),
        (
            "Box 0 contains the pen; Box 1 is red.",
            "'the rock and the string' expected, found 'the pen; Box 1 is red'",
        ),
        ("Box 0 contains pen.", "sentence 1: objects such as"),
        ("Box 0 contains the pen, Box 0 is empty.", "a box is described twice"),
        ("Box 0 contains the pen, Box 1 contains the pen.", "the pen is in two boxes"),
        ("Box 0 contains the pen. Move the key from Box 0 to Box 1.", "sentence 2: there is no Box 1"),
        (
            "Box 0 contains the pen, Box 1 is empty. Move the key from Box 0 to Box 1.",
            "sentence 2: the key is not in Box 0",
        ),
        ("Box 0 contains the pen. Put the pen into Box 0.", "sentence 2: the pen is in a box already"),
        ("Box 0 contains the pen. Open Box 0.", "sentence 2: not understood: 'Open Box 0'"),
    ],
)
def test_texts_that_cannot_be_solved(text, words):
    one_line(lambda: solve_boxes(text), words)


def test_gold_that_cannot_be_checked(tmp_path):
    docs = load_boxes(
        "dev",
        files(
            tmp_path, [row(), row(text="Box 0 contains the rock. Shake Box 0. Box 0 contains <extra_id_0>")]
        ),
    )
    one_line(lambda: wrong_gold(docs), "Boxes document '7-1': sentence 2: not understood")
    assert wrong_gold(docs.take([0])) == ()
    one_line(lambda: plot_box_items([]), "there are no boxes to count")


# Moved here from the chapter


@pytest.mark.parametrize("how", [dict(move_contents=False), dict(all_contents=True)], ids=range(2))
def test_the_wording_changes_no_state(how):
    other, same = generate_boxes(200, **how), generate_boxes(200)
    assert [s.states for s in other] == [s.states for s in same]
    assert [s.sentences for s in other] != [s.sentences for s in same]


def test_what_the_wording_options_say(samples):
    def said(samples, words):
        return sum(words in x for s in samples for x in s.sentences)

    assert said(generate_boxes(200, move_contents=False), "contents of") == 0
    assert said(samples, "Remove the contents") == 0 and said(samples, "Move the contents") > 2200
    assert said(generate_boxes(200, all_contents=True), "Remove the contents") > 200
    assert generate_boxes(9, seed=1) == generate_boxes(9, seed=1) != generate_boxes(9, seed=2)


def test_a_scenario_asked_at_the_start_and_at_the_end(samples):
    early = box_docs(samples, "dev", [0, 12])
    assert (len(early), len(box_docs(samples, "dev", "every"))) == (2 * 1540, 13 * 1540)
    first = early.ids[0].split("-")[0]
    assert early.ids[:14] == tuple(f"{first}-{n}" for n in range(14))
    late = early.take([k for k, i in enumerate(early.ids) if int(i.split("-")[1]) >= 7])
    assert late.texts == box_docs(samples, "dev").texts


def test_wrong_answers_are_found(samples):
    few = box_docs(samples, "test").take(range(7))
    full = np.flatnonzero(few.gold.any(1))[-1]
    few.gold[0, few.gold[0].argmin()] = 1
    few.gold[full] = 0
    assert wrong_gold(few) == (few.ids[0], few.ids[full])
    with pytest.raises(ValueError, match=f"document '{few.ids[6]}': the text should end with a question"):
        wrong_gold(replace(few, texts=few.texts[:6] + ("It rains.",)))
