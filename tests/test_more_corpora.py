"""ConvAbuse, REDv2 and GoEmotions' raters: counts of the real files made without the loaders, and files that
are wrong (one line each).
"""

import csv
import json
import os
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebooks import run_short

from mlcllm.data import LabelSet, load_docs
from mlcllm.more_corpora import (
    _COLUMNS,
    _JUDGED,
    ABUSE_KINDS,
    ABUSE_LEVELS,
    RED_EMOTIONS,
    _judgements,
    load_convabuse,
    load_redv2,
)
from mlcllm.prompts import check_names, format_labels, parse_labels

FILES = dict(train="train", dev="valid", test="test")
pytestmark = pytest.mark.filterwarnings("ignore:.*judged the same document before")


def folder_of(data_root, name):
    if not (data_root / name).is_dir():
        pytest.skip(f"no {name} among the corpora")
    return data_root / name


def one_line(call):
    with pytest.raises((ValueError, OSError)) as error:
        call()
    assert "\n" not in str(error.value), error.value
    return str(error.value)


# ConvAbuse: the real files, read by place and counted in fractions


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.reader(f))[1:]


def by_hand(row):
    "{expert: [17 numbers for each time they judged]} of a row of a per-split file"
    found = {}
    for k in range(8):
        cells = row[7 + 17 * k : 24 + 17 * k]
        if cells[0]:
            found[f"Annotator{k + 1}"] = list(zip(*[[int(x) for x in c.split(",")] for c in cells]))
    return found


def mean_votes(judged, columns):
    "Each expert's mean judgement, as fractions"
    return {
        who: [Fraction(sum(j[c] for j in times), len(times)) for c in columns]
        for who, times in judged.items()
    }


@pytest.fixture(scope="module")
def convabuse(data_root):
    return folder_of(data_root, "convabuse")


@pytest.mark.parametrize(
    "split, n, n_gold, n_votes", [("train", 2501, 231, 7421), ("dev", 831, 83, 2443), ("test", 853, 92, 2547)]
)
def test_convabuse_against_a_count_by_hand(convabuse, split, n, n_gold, n_votes):
    docs, rows = load_convabuse(split, convabuse), rows_of(convabuse / f"ConvAbuseEMNLP{FILES[split]}.csv")
    assert (
        docs.ids == tuple(r[0] for r in rows)
        and len(docs) == n
        and len(docs.votes) == n_votes
        and docs.labels.names == ABUSE_KINDS
    )
    assert int(docs.gold.any(1).sum()) == n_gold
    people, human = docs.n_annotators, docs.human().probs  # 406 texts in all have a kind by majority
    for k, row in enumerate(rows):
        votes = mean_votes(by_hand(row), range(5, 12))
        share = [sum(v) / len(votes) for v in zip(*votes.values())]
        assert people[k] == len(votes) and docs.gold[k].tolist() == [
            float(s >= Fraction(1, 2)) for s in share
        ]
        assert np.allclose(human[k], [float(s) for s in share], atol=1e-6)


@pytest.mark.parametrize("split", FILES)
def test_convabuse_agrees_with_the_file_of_single_judgements(convabuse, split):
    "In that file no column is misnamed, and a row is one judgement"
    with open(convabuse / "ConvAbuseEMNLPfull.csv", encoding="utf-8", newline="") as f:
        judgements = list(csv.DictReader(f))
    kinds = [c for c in judgements[0] if c.startswith("type.")]
    single = defaultdict(lambda: defaultdict(list))
    assert len(judgements) == 12768 and [sum(int(j[c]) for j in judgements) for c in kinds] == [
        14,
        83,
        334,
        27,
        285,
        570,
        4,
    ]
    for j in judgements:
        single[tuple(j[c] for c in ("prev_agent", "prev_user", "agent", "user", "conv_id"))][
            j["annotator_id"]
        ].append([int(j[c]) for c in kinds])
    rows = rows_of(convabuse / f"ConvAbuseEMNLP{FILES[split]}.csv")
    docs, keys = load_convabuse(split, convabuse), [tuple([*r[2:6], r[1]]) for r in rows]
    known, people, once = 0, docs.n_annotators, Counter(keys)
    for v, d, who in zip(docs.votes, docs.vote_doc, docs.vote_annotator):
        times = single[keys[d]].get(who)
        if times is None or once[keys[d]] > 1:
            continue  # four texts differ from another one only in capitals
        known += 1
        assert np.allclose(v, np.mean(times, 0), atol=1e-6) or len(single[keys[d]]) != people[d]
    assert known > 0.99 * len(docs.votes)


def test_convabuse_degrees(convabuse):
    docs = load_convabuse("test", convabuse, {"task": "abuse"})
    rows = rows_of(convabuse / "ConvAbuseEMNLPtest.csv")
    assert (
        docs.labels.file_order == ABUSE_LEVELS
        and not docs.labels.multi
        and np.allclose(docs.human().probs.sum(1), 1)
    )
    for k, row in enumerate(rows):
        share, named = dict.fromkeys(ABUSE_LEVELS, Fraction(0)), []
        for times in by_hand(row).values():
            for j in times:
                named.append(ABUSE_LEVELS[j[:5].index(1)])
                share[named[-1]] += Fraction(1, len(times))
        first = next(n for n in named if share[n] == max(share.values()))
        assert docs.labels.decode(docs.gold[k]) == (first,)


def test_convabuse_texts(convabuse):
    both, user = load_convabuse("dev", convabuse), load_convabuse("dev", convabuse, {"text": "user"})
    for row, text, turn in zip(rows_of(convabuse / "ConvAbuseEMNLPvalid.csv"), both.texts, user.texts):
        assert (
            turn == row[5]
            and text.endswith(f"User: {row[5]}")
            and text.count("\n") == sum(t != "_" for t in row[2:5])
        )
    assert both.ids == user.ids and np.array_equal(both.votes, user.votes)


@pytest.mark.parametrize("split, n", [("train", 231), ("dev", 59), ("test", 67)])
def test_convabuse_counts_who_judged_twice(convabuse, split, n):
    assert [note for note in load_convabuse(split, convabuse).notes] == [
        note for note in load_docs("ConvAbuse", split, data_dir=convabuse).notes
    ]
    assert load_convabuse(split, convabuse).notes[0].startswith(f"ConvAbuse {split}: {n} of ")


def test_convabuse_saved_again_by_pandas(convabuse, tmp_path):
    "It writes whole columns as floats, and gives the repeated name numbers"
    pd.read_csv(convabuse / "ConvAbuseEMNLPvalid.csv", keep_default_na=False, na_values=[""]).to_csv(
        tmp_path / "ConvAbuseEMNLPvalid.csv", index=False
    )
    assert (
        "Annotator6_transphobic.2"
        in (tmp_path / "ConvAbuseEMNLPvalid.csv").read_text(encoding="utf-8").split("\n")[0]
    )
    assert load_convabuse("dev", tmp_path).content_hash() == load_convabuse("dev", convabuse).content_hash()


def test_a_checkout_serves_as_folder(convabuse, redv2, tmp_path):
    (tmp_path / "2_splits").symlink_to(convabuse)
    (tmp_path / "data").symlink_to(redv2)
    assert (
        load_convabuse("test", tmp_path).ids == load_convabuse("test", convabuse).ids
        and load_redv2("dev", tmp_path).ids == load_redv2("dev", redv2).ids
    )


# ConvAbuse: files of the published form


def judgement(*kinds, degree="1"):
    return [str(int(c in (f"is_abuse.{degree}", *kinds))) for c in _JUDGED]


UNSEEN = [""] * 17
HEADER = [
    c.replace("Annotator7_tr", "Annotator6_tr").replace("Annotator8_tr", "Annotator6_tr") for c in _COLUMNS
]
TURNS = ["c", "_", "_", "Hello.", "hi", "B"]


def abuse_file(tmp_path, *rows, header=HEADER, part="valid"):
    with open(tmp_path / f"ConvAbuseEMNLP{part}.csv", "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([header, *rows])
    return tmp_path


def test_each_experts_column_is_theirs(tmp_path):
    "Three columns of the published header are called Annotator6_transphobic"

    def kind(k):
        return [
            x for e in range(8) for x in (judgement("transphobic", degree="-1") if e == k else judgement())
        ]

    docs = load_convabuse("dev", abuse_file(tmp_path, *[[f"{k}.0", *TURNS, *kind(k)] for k in range(8)]))
    who = docs.vote_annotator[docs.votes[:, ABUSE_KINDS.index("transphobic")] == 1]
    assert who.tolist() == [f"Annotator{k + 1}" for k in range(8)]
    assert (
        load_convabuse("dev", abuse_file(tmp_path, ["1", *TURNS, *kind(6)], header=_COLUMNS)).votes.sum() == 1
    )


def test_a_text_that_nobody_judged_is_left_out_and_counted(tmp_path):
    docs = load_convabuse(
        "dev", abuse_file(tmp_path, ["1", *TURNS, *judgement(), *UNSEEN * 7], ["2", *TURNS, *UNSEEN * 8])
    )
    assert (
        docs.ids == ("1",)
        and docs.notes == ("ConvAbuse dev: 1 of 2 texts were judged by nobody and are left out",)
        and docs.n_annotators.tolist() == [1]
    )


def test_thirds_of_a_vote_make_a_half(tmp_path):
    thrice = [
        f"{a}, {b}, {c}"
        for a, b, c in zip(judgement("racist", degree="-1"), judgement("racist", degree="-2"), judgement())
    ]
    once = [f"{a}, {b}, {c}" for a, b, c in zip(judgement("racist", degree="-1"), judgement(), judgement())]
    docs = load_convabuse("dev", abuse_file(tmp_path, ["1", *TURNS, *thrice, *once, *UNSEEN * 6]))
    assert docs.labels.decode(docs.gold[0]) == ("racist",)


@given(st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(5, 16))), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_judgements_are_read_as_they_were_written(times):
    said = [[int(k == degree or k in kinds) for k in range(17)] for degree, kinds in times]
    assert _judgements([", ".join(str(j[k]) for j in said) for k in range(17)], "").tolist() == said


GOOD = [*judgement(), *UNSEEN * 7]


def swap(k, cell):
    return [cell if k == j else x for j, x in enumerate(GOOD)]


@pytest.mark.parametrize(
    "rows, says",
    [
        ([["1", *TURNS, *swap(9, "")]], "row 1, example_id 1, Annotator1: sexist must be 0 or 1"),
        (
            [["1", *TURNS, *GOOD], ["2", *TURNS, *swap(9, "-1")]],
            "row 2, example_id 2, Annotator1: sexist must be 0 or 1",
        ),
        ([["1", *TURNS, *swap(9, "nan")]], "found 'nan'"),
        ([["1", *TURNS, *swap(9, "2")]], "found '2'"),
        ([["1", *TURNS, *swap(9, "0, x")]], "found '0, x'"),
        ([["1", *TURNS, *swap(9, "0, 1")]], "different numbers of judgements"),
        ([["1", *TURNS, *swap(0, "0")]], "exactly one of is_abuse.1"),
        ([["1", *TURNS, *swap(3, "1")]], "exactly one of is_abuse.1"),
        (
            [["1", *TURNS, *GOOD], ["1", *TURNS, *GOOD]],
            "row 2, example_id 1: this example_id stands for several rows",
        ),
        ([["", *TURNS, *GOOD]], "example_id and user must not be empty"),
        ([["1", *TURNS[:4], " ", "B", *GOOD]], "example_id and user must not be empty"),
        ([["1", *TURNS, *GOOD[:-1]]], "row 1: 142 cells found, there are 143"),
        ([["1", *TURNS, *GOOD, "0"]], "row 1: 144 cells found"),
        ([["1", *TURNS, *UNSEEN * 8]], "no document with a judgement that counts"),
        ([], "has no rows"),
    ],
)
def test_bad_convabuse(tmp_path, rows, says):
    assert says in one_line(lambda: load_convabuse("dev", abuse_file(tmp_path, *rows)))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda h: h[1:], "column 1: example_id expected, found 'conv_id'"),
        (lambda h: [*h, "x"], "143"),
        (lambda h: h[:-1], "column 143: Annotator8_implicit expected, found ''"),
        (
            lambda h: [*h[:7], h[8], h[7], *h[9:]],
            "column 8: Annotator1_is_abuse.1 expected, found 'Annotator1_is_abuse.0'",
        ),
    ],
)
def test_bad_convabuse_headers(tmp_path, change, says):
    assert says in one_line(lambda: load_convabuse("dev", abuse_file(tmp_path, header=change(HEADER))))


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda p: load_convabuse("dev"), "amandacurry/convabuse"),
        (lambda p: load_convabuse("dev", p), "holds no ConvAbuseEMNLPvalid.csv"),
        (lambda p: load_convabuse("dev", p / "x"), "does not exist"),
        (lambda p: load_convabuse("val", p), "unknown split 'val'"),
        (lambda p: load_convabuse("dev", p, {"task": "kind"}), "did you mean 'kinds'?"),
        (lambda p: load_convabuse("dev", p, {"text": ["user"]}), "option text of ConvAbuse"),
        (lambda p: load_convabuse("dev", p, {"kinds": 1}), "option of ConvAbuse 'kinds'"),
        (lambda p: load_redv2("dev", p), "holds no valid.json"),
        (lambda p: load_redv2("tset", p), "did you mean 'test'?"),
        (lambda p: load_redv2("dev", p, {"neutral": False}), "option neutral of REDv2 False"),
    ],
)
def test_what_is_asked_is_checked(tmp_path, call, says):
    assert says in one_line(lambda: call(tmp_path))


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "column 1: example_id expected"),
        (b"\xff\xfee\x00", "not UTF-8"),
        ((",".join(HEADER) + '\n"1,').encode(), "no readable CSV file"),
        ((",".join(HEADER) + "\n\0").encode(), "no readable CSV file"),
    ],
)
def test_unreadable_convabuse(tmp_path, content, says):
    (tmp_path / "ConvAbuseEMNLPvalid.csv").write_bytes(content)
    assert says in one_line(lambda: load_convabuse("dev", tmp_path))


# REDv2


@pytest.fixture(scope="module")
def redv2(data_root):
    return folder_of(data_root, "redv2")


def test_redv2_against_a_count_by_hand(redv2):
    docs, items = load_redv2("test", redv2), json.loads((redv2 / "test.json").read_text(encoding="utf-8"))
    assert (
        len(docs) == 818
        and docs.ids == tuple(str(r["text_id"]) for r in items)
        and docs.texts == tuple(r["text"] for r in items)
        and not docs.notes
    )
    assert docs.labels.file_order == RED_EMOTIONS and docs.n_annotators.tolist() == [3] * 818
    order = [docs.labels.index(n) for n in RED_EMOTIONS]
    assert docs.gold[:, order].tolist() == [r["agreed_labels"] for r in items] and np.array_equal(
        docs.gold, docs.human().probs > 0.5
    )
    assert docs.gold.sum(0)[order].tolist() == [164, 87, 99, 145, 210, 94, 128] and np.bincount(
        docs.gold.sum(1).astype(int)
    ).tolist() == [0, 714, 99, 5]
    for k in (1, 2, 3):
        assert docs.votes[docs.vote_annotator == f"annotator{k}"][:, order].tolist() == [
            r[f"annotator{k}"] for r in items
        ]


def test_redv2_without_neutral(redv2):
    seven, six = load_redv2("test", redv2), load_redv2("test", redv2, {"neutral": "none"})
    assert (
        seven.ids == six.ids
        and six.labels.names == tuple(n for n in seven.labels.names if n != "neutral")
        and six.labels.allows_none
        and not seven.labels.allows_none
    )
    assert (
        np.bincount(six.gold.sum(1).astype(int)).tolist()[0] == 184
    )  # 210 neutral, 26 of them with another emotion
    assert np.array_equal(six.human().probs, np.delete(seven.human().probs, seven.labels.index("neutral"), 1))


def test_redv2_halves_valid_where_there_is_no_train(redv2, tmp_path):
    halves = {s: load_redv2(s, redv2) for s in ("train", "dev")}
    items = json.loads((redv2 / "valid.json").read_text(encoding="utf-8"))
    assert sorted(halves["train"].ids + halves["dev"].ids) == sorted(str(r["text_id"]) for r in items) and [
        len(h) for h in halves.values()
    ] == [270, 273]
    assert "there is no train.json, so 270 of the 543 tweets" in halves["train"].notes[0]
    for name in ("train", "valid"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps(items[:100] if name == "train" else items[100:]), encoding="utf-8"
        )
    whole = {s: load_redv2(s, tmp_path) for s in ("train", "dev")}
    assert [len(w) for w in whole.values()] == [100, 443] and not whole["train"].notes


ITEM = dict(text="Bine.", text_id=7, agreed_labels=[0, 0, 0, 0, 1, 0, 0]) | {
    f"annotator{k}": [0, 0, 0, 0, 1, 0, 0] for k in (1, 2, 3)
}


def red_file(tmp_path, *items):
    (tmp_path / "test.json").write_text(
        items[0] if isinstance(items[0], str) else json.dumps(list(items)), encoding="utf-8"
    )
    return tmp_path


@pytest.mark.parametrize(
    "lost", [None, [None] * 7, [-1] * 7, [0, 0, 0, 0, 1, 0, None], [float("nan")] * 7, "absent"]
)
def test_a_lost_judgement_is_no_vote(tmp_path, lost):
    item = (
        {k: v for k, v in ITEM.items() if k != "annotator2"}
        if lost == "absent"
        else ITEM | dict(annotator2=lost)
    )
    docs = load_redv2("test", red_file(tmp_path, item))
    assert docs.vote_annotator.tolist() == ["annotator1", "annotator3"] and docs.human().probs[0].max() == 1
    assert docs.notes == ("REDv2 test: 1 of 3 judgements are missing or unknown and are no votes",)


def test_a_tweet_whose_judgements_are_all_lost_has_no_distribution(tmp_path):
    docs = load_redv2(
        "test",
        red_file(
            tmp_path, ITEM, ITEM | dict(text_id=8) | dict.fromkeys(("annotator1", "annotator2", "annotator3"))
        ),
    )
    assert np.isnan(docs.human().probs[1]).all() and docs.n_annotators.tolist() == [3, 0]


def test_tweets_without_ids_are_numbered(tmp_path):
    items = [{k: v for k, v in ITEM.items() if k != "text_id"}] * 2
    assert load_redv2("test", red_file(tmp_path, *items)).ids == ("test-0", "test-1")


@pytest.mark.parametrize(
    "items, says",
    [
        ([ITEM | dict(agreed_labels=None)], "item 1 (text_id 7): no agreed_labels"),
        ([{k: v for k, v in ITEM.items() if k != "agreed_labels"}], "no agreed_labels"),
        ([ITEM | dict(agreed_labels=[-1] * 7)], "no agreed_labels"),
        ([ITEM | dict(agreed_labels=[0] * 6)], "agreed_labels must be a list of 7 numbers"),
        ([ITEM | dict(annotator1=[2] * 7)], "annotator1 must hold 0 or 1"),
        ([ITEM | dict(annotator1="0000100")], "annotator1 must be a list"),
        ([ITEM | dict(annotator1=["joy"])], "annotator1 must be a list"),
        ([ITEM | dict(annotator1=[0.5] * 7)], "annotator1 must hold 0 or 1"),
        ([ITEM | dict(annotator3=[True] * 7)], "annotator3 must be a list"),
        ([ITEM, ITEM | dict(text=5, text_id=8)], "item 2 (text_id 8): text must be a text"),
        ([ITEM | dict(text=["a", "b"])], "text must be a text"),
        ([ITEM | dict(text=" ")], "text must be a text that is not empty"),
        ([ITEM | dict(text=None)], "text must be a text"),
        ([ITEM, ITEM], "ids repeat"),
        ([ITEM, ITEM | dict(text_id=None)], "item 2: text_id must be"),
        ([ITEM | dict(text_id=1.5)], "text_id must be"),
        ([ITEM | dict(text_id=True)], "text_id must be"),
        ([ITEM | dict(text_id={"a": 1})], "text_id must be"),
        ([[1, 2]], "item 1: an object"),
        (["{"], "not valid JSON"),
        (['{"a": 1}'], "a list of objects"),
        (["[]"], "a list of objects"),
        (["[" * 100_000], "nested too deeply"),
    ],
)
def test_bad_redv2(tmp_path, items, says):
    assert says in one_line(lambda: load_redv2("test", red_file(tmp_path, *items)))


def test_redv2_from_the_hub(monkeypatch):
    import datasets

    asked = []

    def fake(repo, config=None, split=None, **how):
        asked.append((repo, split))
        return datasets.Dataset.from_list([ITEM])

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert [load_redv2(s).ids for s in FILES] == [("7",)] * 3 and asked == [
        ("Alegzandra/REDv2", s) for s in ("train", "validation", "test")
    ]


# GoEmotions' raters


@pytest.fixture(scope="module")
def with_raters(data_root, tmp_path_factory):
    source, folder = folder_of(data_root, "goemotions"), tmp_path_factory.mktemp("raters")
    if not (source / "raters_sample.csv").exists():
        pytest.skip("no sample of the raters' rows")
    for name in ("train.tsv", "dev.tsv", "test.tsv", "emotions.txt"):
        (folder / name).symlink_to(source / name)
    (folder / "goemotions_1.csv").symlink_to(source / "raters_sample.csv")
    return folder


@pytest.mark.parametrize(
    "split, n_judged, n_voted, n_votes, unclear",
    [("dev", 438, 434, 458, 4), ("test", 423, 418, 434, 5), ("train", 3463, 3428, 3552, 39)],
)
def test_raters_on_real_rows(with_raters, split, n_judged, n_voted, n_votes, unclear):
    docs = load_docs("GoEmotions", split, data_dir=with_raters, options={"clustering": "none"})
    ids = set(docs.ids)
    with open(with_raters / "goemotions_1.csv", encoding="utf-8", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["id"] in ids]
    clear = [
        r for r in rows if r["example_very_unclear"] == "False" and "" not in r.values()
    ]  # one row of the sample breaks off
    assert (
        len({r["id"] for r in rows}) == n_judged
        and len({r["id"] for r in clear}) == n_voted
        and len(clear) == n_votes
    )
    votes = {
        (docs.ids[d], who): v.tolist() for d, who, v in zip(docs.vote_doc, docs.vote_annotator, docs.votes)
    }
    assert votes == {(r["id"], r["rater_id"]): [float(r[e]) for e in docs.labels.names] for r in clear}
    known = ~np.isnan(docs.human().probs).any(1)
    assert (
        known.sum() == n_voted
        and np.isnan(docs.human().probs[~known]).all()
        and (docs.n_annotators == 2).sum() == n_votes - n_voted
    )
    assert docs.notes[
        0
    ] == f"GoEmotions {split}: {unclear} raters' judgements are marked as very unclear and left out" and len(
        docs.notes
    ) == 2 + (split == "train")
    assert docs.notes[-1] == (
        f"GoEmotions {split}: {len(docs) - n_voted:,} of {len(docs):,} posts have no rater's vote and "
        "so no human distribution"
    )


HEAD = "text,id,author,subreddit,link_id,parent_id,created_utc,rater_id,example_very_unclear,joy,anger,fear,neutral\n"  # noqa: E501


def small(tmp_path, *rows, head=HEAD, clusters=None):
    (tmp_path / "emotions.txt").write_text("joy\nanger\nfear\nneutral\n")
    (tmp_path / "dev.tsv").write_text("so happy\t0\ta1\nmeh\t3\ta2\n")
    (tmp_path / "goemotions_1.csv").write_text(head + "".join(f"x,{r}\n" for r in rows))
    if clusters:
        (tmp_path / "emotion_clustering.json").write_text(json.dumps(clusters))
    return lambda: load_docs(
        "GoEmotions", "dev", data_dir=tmp_path, options={} if clusters else {"clustering": "none"}
    )


ROW = "{},u,s,l,p,1,{},{},{}"


def test_a_rater_who_judged_a_post_twice_has_one_vote(tmp_path):
    twice = [
        ROW.format("a1", 7, False, "0,1,0,0"),
        ROW.format("a1", 7, False, "0,0,1,0"),
        ROW.format("a1", 9, False, "1,0,0,0"),
    ]
    docs = small(tmp_path, *twice)()
    assert (
        docs.n_annotators.tolist() == [2, 0]
        and docs.human().probs[0].tolist() == [0.25, 0.25, 0.5]
        and "1 raters' judgements are by somebody who judged the same post before" in docs.notes[0]
    )
    pooled = small(tmp_path, *twice, clusters={"good": ["joy"], "bad": ["anger", "fear"]})()
    assert pooled.human().probs[0].tolist() == [0.5, 0.5]  # either time they saw something bad


@pytest.mark.parametrize("cell", ["", "-1", "nan", "NaN", "null", " "])
def test_a_judgement_with_an_unknown_cell_is_no_vote(tmp_path, cell):
    docs = small(
        tmp_path, ROW.format("a1", 7, False, f"0,{cell},0,0"), ROW.format("a1", 9, False, "1,0,0,0")
    )()
    assert (
        docs.vote_annotator.tolist() == ["9"]
        and docs.notes[0] == "GoEmotions dev: 1 raters' judgements have an empty cell and are left out"
    )


def test_a_judgement_that_breaks_off_is_no_vote(tmp_path):
    docs = small(tmp_path, ROW.format("a1", 7, False, "0,,,"), ROW.format("a2", 9, True, "0,0,0,0"))()
    assert not docs.has_votes and np.isnan(docs.human().probs).all() and len(docs.notes) == 3


@pytest.mark.parametrize(
    "row, says",
    [
        (
            ROW.format("a1", 7, False, "2,0,0,0"),
            "row 1, comment 'a1', rater '7': emotion columns must hold 0 or 1",
        ),
        (ROW.format("zz", 7, False, "x,0,0,0"), "row 1, comment 'zz'"),
        (ROW.format("a1", 7, False, "0.5,0,0,0"), "0 or 1"),
        (ROW.format("a1", 7, "maybe", "0,0,0,0"), "example_very_unclear must be True or False"),
        (ROW.format("a1", 7, "", "0,0,0,0"), "example_very_unclear must be True or False"),
        (ROW.format("a1", "", False, "0,0,0,0"), "id and rater_id are expected"),
        (ROW.format("", 7, False, "0,0,0,0"), "id and rater_id are expected"),
    ],
)
def test_bad_raters(tmp_path, row, says):
    assert says in one_line(small(tmp_path, row))


def test_a_raters_file_that_lacks_a_column_is_named(tmp_path):
    line = one_line(small(tmp_path, ROW.format("a1", 7, False, "0,0,0"), head=HEAD.replace("fear,", "")))
    assert "lack the columns ['fear']" in line and "goemotions_1.csv" in line


@pytest.mark.parametrize("label_format", ["comma", "json", "polysyndeton", "<{label}; {label}>"])
def test_a_task_in_which_nobody_has_no_label_can_be_written_and_read(label_format):
    labels = LabelSet(tuple(sorted(RED_EMOTIONS)), allows_none=False)
    check_names(labels, label_format)
    for names in (("joy",), ("anger", "trust")):
        assert parse_labels(format_labels(names, label_format), labels, label_format).predicted == names


@pytest.mark.parametrize(
    "load, name", [(load_convabuse, "ConvAbuseEMNLPtest.csv"), (load_redv2, "test.json")]
)
def test_a_pipe_is_not_waited_for(tmp_path, load, name):
    os.mkfifo(tmp_path / name)
    assert f"holds no {name}" in one_line(lambda: load("test", tmp_path))


# Through the notebooks


@pytest.mark.parametrize(
    "dataset, folder, warned",
    [
        (
            "ConvAbuse",
            "convabuse",
            "67 of 2,614 judgements are by somebody who judged the same document before",
        ),
        ("REDv2", "redv2", None),
    ],
)
def test_a_run_with_votes(data_root, tmp_path, dataset, folder, warned):
    asked = dict(
        dataset=dataset,
        data_dir=folder_of(data_root, folder),
        split="test",
        n_docs=30,
        shots=4,
        label_format="comma",
    )
    run_short("01_stepwise_logits", tmp_path, **asked)
    run_short("02_alignment", tmp_path, **asked, methods="max_over_generations,unary")
    docs = load_docs(dataset, "test", data_dir=data_root / folder, n_docs=30)
    for path in (tmp_path / "runs").glob("0*/*/*/*/run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (
            record["status"] == "done" and any(warned in w for w in record["warnings"])
            if warned
            else record["status"] == "done"
        )
        stored = (
            pd.read_parquet(path.with_name("docs.parquet"))
            if path.with_name("docs.parquet").exists()
            else None
        )
        if stored is not None:
            assert (
                stored.doc_id.tolist() == list(docs.ids)
                and np.allclose(np.stack(stored.human), docs.human().probs)
                and stored.n_annotators.tolist() == docs.n_annotators.tolist()
            )
    scores = pd.read_parquet(next((tmp_path / "runs").glob("02*/*/*/*/scores.parquet")))
    kl = scores[scores.label.isna() & (scores.metric == "kl")].set_index("method").value
    assert (
        np.isfinite(kl).all()
        and {"max_over_generations", "unary", "uniform"} <= set(kl.index)
        and (scores[scores.metric == "kl"].n_docs.dropna() == 30).all()
    )
