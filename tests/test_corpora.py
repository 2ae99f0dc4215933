"The loaders of corpora: slow references, real splits with made-up annotations, bad input (one line each)."

import json
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
import yaml

from mlcllm.corpora import (
    LETTERS,
    MORAL_FOUNDATIONS,
    PRIMARY_EMOTIONS,
    SECONDARY_EMOTIONS,
    TREC_LABELS,
    load_mfrc,
    load_mmlu_pro,
    load_msp_podcast,
    load_queer_reclaim_lex,
    load_trec,
)
from mlcllm.data import _join, _only


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def hub(monkeypatch, tables):
    "Puts {(repo, split): Dataset} in place of the Hub; returns the list of what was asked"
    import datasets

    asked = []

    def fake(repo, config=None, split=None, **how):
        asked.append((repo, config, split, how))
        if "revision" not in how and repo == "CogComp/trec":
            raise RuntimeError("Dataset scripts are no longer supported, but found trec.py")
        return tables[repo, split]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    return asked


# MFRC


def made_up(texts, seed=0):
    "A judgement of three or four annotators on every text, with the real corpus' names"
    rng, rows = np.random.default_rng(seed), []
    names = [*(n.capitalize() for n in MORAL_FOUNDATIONS), "Non-Moral", "Thin Morality"]
    for text in texts:
        for who in rng.choice(6, size=rng.integers(3, 5), replace=False):
            rows.append(
                (
                    text,
                    "sub",
                    "Everyday Morality",
                    f"annotator{who:02}",
                    ",".join(rng.choice(names, size=rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]), replace=False)),
                    "Confident",
                )
            )
    return pd.DataFrame(
        rows, columns=["text", "subreddit", "bucket", "annotator", "annotation", "confidence"]
    )


def slow_gold(df, ids):
    "id -> (n_annotators, set of labels with at least half of them), row by row"
    votes = defaultdict(dict)
    for r in df.itertuples():
        names = r.annotation.split(",")
        if r.text not in ids or len(names) > 1 and {"Non-Moral", "Thin Morality"} & set(names):
            continue
        votes[ids[r.text]][r.annotator] = {n.lower() for n in names} - {"non-moral", "thin morality"}
    return {
        i: (len(v), {n for n in MORAL_FOUNDATIONS if 2 * sum(n in x for x in v.values()) >= len(v)})
        for i, v in votes.items()
    }


@pytest.fixture(scope="module")
def mfrc(data_root, tmp_path_factory):
    "The real splits with annotations that are made up; the table, the splits and the folder"
    source, folder = data_root / "mfrc" / "splits.yaml", tmp_path_factory.mktemp("mfrc")
    if not source.exists():
        pytest.skip(f"{source} is not there")
    (folder / "splits.yaml").symlink_to(source)
    splits = yaml.load(source.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    df = made_up([t for texts in splits.values() for t in texts])
    df.to_csv(folder / "final_mfrc_data.csv", index=False)
    return df, splits, folder


@pytest.mark.parametrize("split, n", [("dev", 800), ("test", 1600), ("train", 15486)])
def test_mfrc_published_sizes(mfrc, split, n):
    df, splits, folder = mfrc
    docs = load_mfrc(split, folder)
    expected = slow_gold(df, splits[split])
    assert (
        len(splits[split]) == n and n >= len(docs) > 0.99 * n
    )  # all but those whose every row contradicts itself
    assert docs.ids == tuple(expected) and dict(zip(docs.texts, docs.ids)).items() <= splits[split].items()
    assert docs.n_annotators.tolist() == [k for k, _ in expected.values()]
    assert [set(docs.labels.decode(g)) for g in docs.gold] == [x for _, x in expected.values()]
    assert docs.labels.names == MORAL_FOUNDATIONS


def careful(mfrc, folder, kind, splits=("dev", "test", "train")):
    "Documents whose every row counts: one made-up judgement on each text"
    df, path = mfrc[0].drop_duplicates("text").assign(annotation="Care"), folder / f"MFRC.{kind}"
    df.to_csv(path, index=False) if kind == "csv" else df.to_parquet(path)
    return [load_mfrc(s, folder, {"splits": mfrc[2] / "splits.yaml"}) for s in splits]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_mfrc_finds_every_text(mfrc, tmp_path, kind, recwarn):
    docs = careful(mfrc, tmp_path, kind)
    assert (
        [len(d) for d in docs] == [800, 1600, 15486]
        and sorted(map(int, sum((d.ids for d in docs), ()))) == list(range(17886))
        and not recwarn.list
    )


@pytest.mark.parametrize("name, n", [("main_test_set", 202), ("big_multilabel", 80)])
def test_mfrc_id_lists(mfrc, data_root, tmp_path, name, n):
    ids = (data_root / "id_lists" / "MFRC" / f"{name}.txt").read_text().split()
    assert len(_only(_join(careful(mfrc, tmp_path, "parquet", ("dev", "test"))), ids, name)) == n == len(ids)


SPLITS = "dev: {a: '1', b: '2'}\ntrain: {c: '3'}\n"
HEAD = "text,annotator,annotation\n"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_mfrc_tables(tmp_path, kind):
    df = pd.DataFrame(
        dict(text=["b", "a", "a"], annotator=[1, 1, 2], annotation=["Care", "CARE, purity", "Thin Morality"])
    )
    path = write(tmp_path, {"splits.yaml": SPLITS}) / f"mine.{kind}"
    {
        "csv": lambda: df.to_csv(path, index=False),
        "jsonl": lambda: df.to_json(path, orient="records", lines=True),
        "parquet": lambda: df.to_parquet(path),
    }[kind]()
    docs = load_mfrc("dev", tmp_path)
    assert (
        docs.ids == ("2", "1")
        and docs.vote_annotator.tolist() == ["1", "1", "2"]
        and docs.human().probs[1].tolist() == [0, 0.5, 0, 0, 0, 0.5]
    )


def test_mfrc_from_the_hub(tmp_path, monkeypatch):
    from datasets import Dataset

    write(tmp_path, {"configs/MFRC/splits.yaml": SPLITS})
    asked = hub(
        monkeypatch,
        {
            ("USC-MOLA-Lab/MFRC", "train"): Dataset.from_dict(
                dict(
                    text=["a", "c"],
                    subreddit=["s"] * 2,
                    bucket=["b"] * 2,
                    annotator=["annotator00"] * 2,
                    annotation=["Care", "Purity"],
                    confidence=["Confident"] * 2,
                )
            )
        },
    )
    docs = load_mfrc("dev", options={"splits": str(tmp_path)})
    assert (
        docs.ids == ("1",)
        and docs.labels.decode(docs.gold[0]) == ("care",)
        and asked == [("USC-MOLA-Lab/MFRC", None, "train", {})]
    )


def test_mfrc_says_when_many_texts_are_in_no_split(tmp_path, recwarn):
    known = "".join(f"{t},p,Care\n" for t in "abc")
    write(tmp_path, {"splits.yaml": SPLITS, "mine.csv": HEAD + known + "x,p,Care\nx,q,Care\n"})
    with pytest.warns(UserWarning, match="1 of 4 texts are in no split"):
        load_mfrc("dev", tmp_path)
    write(tmp_path, {"splits.yaml": SPLITS, "mine.csv": HEAD + known})
    recwarn.clear()
    load_mfrc("dev", tmp_path)
    assert not recwarn.list


def test_a_person_has_one_vote_whatever_the_order_of_rows(tmp_path):
    rows = ["a,p,Care", "a,q,Care", "a,p,Non-Moral", "b,p,Purity"]
    for order in (rows, rows[::-1]):
        write(tmp_path, {"splits.yaml": SPLITS, "mine.csv": HEAD + "\n".join(order) + "\n"})
        docs = load_mfrc("dev", tmp_path)
        assert docs.notes[0].startswith(
            "MFRC dev: 1 of 4 judgements are by somebody who judged the same document before"
        )
        human = dict(zip(docs.ids, docs.human().probs))
        assert (
            sorted(docs.n_annotators) == [1, 2]
            and human["1"][1] == 0.75
            and human["2"].tolist() == [0, 0, 0, 0, 0, 1]
        )


# MSP-Podcast

CONSENSUS = "FileName,EmoClass,Split_Set\n{}.wav,N,Train\n"


def podcast(n_files, seed=0):
    "A made-up copy of the documented form: its files, and its judgements (id, worker, primary, secondary)"
    rng, rows = np.random.default_rng(seed), []
    primary = [*(n.capitalize() for n in PRIMARY_EMOTIONS), "Other-tired, or so"]
    secondary = [*(n.capitalize() for n in SECONDARY_EMOTIONS), "Neutral"]
    for k in range(n_files):
        for w in rng.choice(50, size=rng.integers(1, 7), replace=False):
            rows.append(
                (
                    f"MSP-PODCAST_{k:04}_0001",
                    f"WORKER{w:08}",
                    rng.choice(primary),
                    ",".join(
                        [
                            *rng.choice(secondary, size=rng.integers(1, 4), replace=False),
                            *["Other-not, Sad"] * (rng.random() < 0.2),
                        ]
                    ),
                )
            )
    sets = rng.choice(["Train", "Development", "Test1", "Test2"], size=n_files)
    files = {
        "transcripts.csv": "id,text\n"
        + "".join(f"MSP-PODCAST_{k:04}_0001,{'' if k % 10 == 0 else f'turn {k}'}\n" for k in range(n_files)),
        "Labels/labels_consensus.csv": "FileName,Split_Set\n"
        + "".join(f"MSP-PODCAST_{k:04}_0001.wav,{s}\n" for k, s in enumerate(sets)),
        "Labels/labels_detailed.csv": "FileName,EmoDetail\n"
        + "".join(f'{i}.wav,"{w}; {p}; {s}; A:3.000000; V:4.0; D:5.0;"\n' for i, w, p, s in rows),
    }
    return files, rows, {f"MSP-PODCAST_{k:04}_0001": s for k, s in enumerate(sets) if k % 10}


@pytest.mark.parametrize("split, name", [("train", "Train"), ("dev", "Development"), ("test", "Test1")])
def test_msp_podcast_against_a_slow_reference(tmp_path, split, name):
    files, rows, sets = podcast(300)
    write(tmp_path, files)
    one, many = load_msp_podcast(split, tmp_path), load_msp_podcast(split, tmp_path, {"multilabel": True})
    primary, secondary = defaultdict(list), defaultdict(list)
    for i, _, p, s in rows:
        if sets.get(i) != name:
            continue
        secondary[i].append({x.lower() for x in s.split("Other")[0].split(",") if x} - {"neutral"})
        if "Other" not in p:
            primary[i].append(p.lower())
    assert one.ids == tuple(primary) and many.ids == tuple(secondary)
    assert [one.labels.decode(g)[0] for g in one.gold] == [
        Counter(v).most_common(1)[0][0] for v in primary.values()
    ]
    assert [set(many.labels.decode(g)) for g in many.gold] == [
        {n for n in SECONDARY_EMOTIONS if 2 * sum(n in x for x in v) >= len(v)} for v in secondary.values()
    ]
    assert np.allclose(
        one.human().probs, [[v.count(n) / len(v) for n in PRIMARY_EMOTIONS] for v in primary.values()]
    )
    assert (
        one.labels.names == PRIMARY_EMOTIONS
        and many.labels.names == SECONDARY_EMOTIONS
        and len(many.labels) == 15
    )


def test_labels_do_not_depend_on_a_splits_rows(tmp_path):
    files = {
        "transcripts.csv": "id,text\nx,hello\n",
        "Labels/labels_consensus.csv": CONSENSUS.format("x"),
        "Labels/labels_detailed.csv": 'FileName,EmoDetail\nx.wav,"W1; Sad; Sad; A:1; V:1; D:1;"\n',
    }
    assert load_msp_podcast("train", write(tmp_path, files)).labels.names == PRIMARY_EMOTIONS
    write(tmp_path, {"splits.yaml": SPLITS, "MFRC.csv": HEAD + "a,p,Care\nc,p,Non-Moral\n"})
    assert load_mfrc("dev", tmp_path).labels == load_mfrc("train", tmp_path).labels


# QueerReclaimLex

LEX = {
    "balanced-splits.json": '{"train": ["1-poet"], "test": ["2-poet"]}',
    "QueerReclaimLex.csv": ",template_idx,term,template\n0,1,poet,a poet\n1,2,poet,we poets\n",
}
COLUMNS = ["POST", "HARMFUL_IF_IN", "HARMFUL_IF_OUT"]


def book(root, name, slurs=(), identity=(), columns=COLUMNS, sheets=("slurs", "identity terms")):
    (root / "Annotations").mkdir(exist_ok=True)
    with pd.ExcelWriter(root / "Annotations" / name) as w:
        for sheet, rows in zip(sheets, (slurs, identity)):
            pd.DataFrame(list(rows), columns=columns).to_excel(w, sheet_name=sheet, index=False)


@pytest.mark.parametrize("variant", ["both", "in", "out"])
def test_queer_reclaim_lex_keeps_half_votes_and_discards_the_ambiguous(tmp_path, variant):
    write(tmp_path, LEX | {"balanced-splits.json": '{"train": ["1-poet", "2-poet", "9-poet"]}'})
    book(tmp_path, "Annotator1.xlsx", [["a poet", 0, 0.5], ["we poets", 1, 1]])
    book(tmp_path, "Annotator10.xlsx", [["a poet", 1, 0.5]], [["we poets", 0.5, 1]])
    with pytest.warns(
        UserWarning, match="1 of 3 ids of balanced-splits.json are not in QueerReclaimLex.csv, e.g. 9-poet"
    ):
        docs = load_queer_reclaim_lex("train", tmp_path, {"variant": variant})
    harm = np.array([[0.5, 0.5], [0.75, 1]])[:, {"both": [0, 1], "in": [0], "out": [1]}[variant]]
    assert np.allclose(docs.human().probs if variant == "both" else docs.human().probs[:, :1], harm) and set(
        docs.vote_annotator
    ) == {"Annotator1", "Annotator10"}
    assert [len(docs.labels.decode(g)) for g in docs.gold] == (
        [0, 2] if variant == "both" else [1, 1]
    ) and docs.labels.multi == (variant == "both")
    with pytest.warns(UserWarning):
        assert load_queer_reclaim_lex(
            "train", tmp_path, {"variant": variant, "discard_ambiguous": True}
        ).ids == ("2-poet",)


def test_what_does_not_count_is_noted(tmp_path):
    mfrc = write(tmp_path / "mfrc", MFRC | {"mine.csv": HEAD + 'a,p,Care\na,q,"Care,Non-Moral"\n'})
    assert load_mfrc("dev", mfrc).notes == (
        "MFRC dev: 1 of 2 judgements contradict themselves (Non-Moral or Thin Morality beside another "
        "label) and are left out",
    )
    msp = write(
        tmp_path / "msp",
        MSP
        | {
            "Labels/labels_detailed.csv": MSP["Labels/labels_detailed.csv"]
            + 'x.wav,"W2; Other-x; Sad; A:1; V:1; D:1;"\nx.wav,"W3; ; Sad; A:1; V:1; D:1;"\n'
        },
    )
    assert load_msp_podcast("train", msp).notes == (
        "MSPPodcast train: 2 of 3 judgements name none of the emotions and are left out",
    )
    lex = write(tmp_path / "lex", LEX)
    book(lex, "Annotator1.xlsx", [["a poet", 0, "?"]])
    book(lex, "Annotator2.xlsx", [["a poet", 1, 0.5], ["a poet", 0, None]])
    docs = load_queer_reclaim_lex("train", lex)
    assert docs.notes == (
        "QueerReclaimLex train: 2 of 3 judgements hold something else than 0, .5 or 1 and are left out",
    ) and docs.human().probs.tolist() == [[1, 0.5]]


def test_texts_that_are_missing_are_left_out_and_counted(tmp_path):
    write(
        tmp_path,
        {
            "splits.yaml": SPLITS,
            "mine.jsonl": (
                '{"text": "a", "annotator": "p", "annotation": "Care"}\n{"text": null, "annotator": "p", '
                '"annotation": "Care"}\n'
            ),
        },
    )
    docs = load_mfrc("dev", tmp_path)
    assert docs.ids == ("1",) and docs.notes == ("MFRC: 1 judgements of no text are left out",)


# MMLU-Pro and TREC

QUESTION = dict(
    question_id=7, question="Which?", options=["x", "y"], answer="B", answer_index=1, category="math"
)


def test_mmlu_pro_from_the_hub(monkeypatch):
    from datasets import Dataset

    asked = hub(
        monkeypatch,
        {
            ("TIGER-Lab/MMLU-Pro", s): Dataset.from_list([QUESTION | dict(question_id=k)])
            for k, s in enumerate(("validation", "test"))
        },
    )
    train, dev, test = (load_mmlu_pro(s) for s in ("train", "dev", "test"))
    assert (
        train.ids == dev.ids == ("0",)
        and test.ids == ("1",)
        and test.texts == ("Which?\nA. x\nB. y",)
        and test.labels.decode(test.gold[0]) == ("B",)
    )
    assert [a[2] for a in asked] == ["validation", "validation", "test"] and len(_join([dev, test])) == 2
    with pytest.raises(ValueError, match="ids repeat"):
        _join([train, dev])


def test_mmlu_pro_keeps_ten_letters_and_options_called_none(tmp_path):
    ten = [str(k) for k in range(9)] + ["None"]
    write(
        tmp_path, {"test.jsonl": json.dumps(QUESTION | dict(options=ten, answer="J", answer_index=9)) + "\n"}
    )
    docs = load_mmlu_pro("test", tmp_path)
    assert (
        docs.labels.decode(docs.gold[0]) == ("J",)
        and docs.texts[0].endswith("\nJ. None")
        and docs.labels.names == LETTERS
        and not docs.has_votes
    )


def test_trec_from_the_hub_equals_the_original_file(tmp_path, monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    lines = [f"{code}:x What is question {k} ?" for k in range(40) for code in TREC_LABELS]
    write(tmp_path, {"train_5500.label": "\n".join(lines) + "\n"})
    table = Dataset.from_dict(
        dict(
            text=[x.split(" ", 1)[1] for x in lines],
            coarse_label=[list(TREC_LABELS).index(x.split(":")[0]) for x in lines],
        ),
        features=Features(dict(text=Value("string"), coarse_label=ClassLabel(names=list(TREC_LABELS)))),
    )
    asked = hub(monkeypatch, {("CogComp/trec", "train"): table})
    for split in ("train", "dev"):
        assert load_trec(split).content_hash() == load_trec(split, tmp_path).content_hash()
    assert asked[1] == ("CogComp/trec", None, "train", dict(data_dir=None, revision="refs/convert/parquet"))
    train, dev = load_trec("train", tmp_path), load_trec("dev", tmp_path)
    assert len(train) + len(dev) == 240 and 0 < len(dev) < 60 and not set(train.texts) & set(dev.texts)
    assert len(_join([train, dev])) == 240 and len(load_trec("train", tmp_path, {"dev": "test"})) == 240
    assert train.labels.file_order == tuple(TREC_LABELS.values()) and train.labels.names == tuple(
        sorted(TREC_LABELS.values())
    )


# Bad input: a loader, its files, split, options, and the words that the one line must hold

MFRC = {"splits.yaml": SPLITS, "mine.csv": HEAD + "a,p,Care\n"}
DETAIL = "FileName,EmoDetail\n"
MSP = {
    "transcripts.csv": "id,text\nx,hello\n",
    "Labels/labels_consensus.csv": CONSENSUS.format("x"),
    "Labels/labels_detailed.csv": DETAIL + 'x.wav,"W1; Sad; Sad; A:1; V:1; D:1;"\n',
}
MMLU = json.dumps(QUESTION)


def mmlu(**changes):
    return {"test.jsonl": MMLU + "\n" + json.dumps(QUESTION | dict(question_id=8) | changes) + "\n"}


BAD = [
    (load_mfrc, {"mine.csv": HEAD + "a,p,Care\n"}, "dev", None, "configs/MFRC/splits.yaml"),
    (load_mfrc, None, "dev", None, "MFRC: splits.yaml is needed"),
    (load_mfrc, MFRC, "dev", {"splits": "nowhere"}, "no splits.yaml in nowhere"),
    (load_mfrc, MFRC, "dev", {"split": "x"}, "did you mean 'splits'?"),
    (load_mfrc, MFRC, "tets", None, "did you mean 'dev'?"),
    (
        load_mfrc,
        MFRC | {"splits.yaml": "dev: {a: '1'\ntrain"},
        "dev",
        None,
        "splits.yaml, line 2: not valid YAML",
    ),
    (
        load_mfrc,
        MFRC | {"splits.yaml": "dev: {a: '1', no: '2'}\n"},
        "dev",
        None,
        "texts and ids must be texts or whole numbers, found False; put quotes around it",
    ),
    (load_mfrc, MFRC | {"splits.yaml": "dev: {a: [1]}\n"}, "dev", None, "found [1]; put quotes around it"),
    (
        load_mfrc,
        MFRC | {"splits.yaml": "dev: {a: '1', null: '2'}\n"},
        "dev",
        None,
        "found None; put quotes around it",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"balanced-splits.json": '{"test": [["1-poet"]]}'},
        "test",
        None,
        "ids must be texts or whole numbers, found ['1-poet']",
    ),
    (load_mfrc, MFRC | {"splits.yaml": "dev: [a, b]\n"}, "dev", None, "for each split, the ids of its texts"),
    (load_mfrc, MFRC | {"splits.yaml": ""}, "dev", None, "for each split, the ids of its texts"),
    (
        load_mfrc,
        MFRC | {"splits.yaml": b"dev: {\xff: '1'}"},
        "dev",
        None,
        "splits.yaml, line 1: byte 0xff is not utf-8",
    ),
    (load_mfrc, {"splits.yaml": SPLITS}, "dev", None, "holds no table; final_mfrc_data.csv"),
    (load_mfrc, MFRC | {"other.csv": HEAD}, "dev", None, "several tables (mine.csv, other.csv)"),
    (
        load_mfrc,
        MFRC | {"mine.csv": "text,annotator,annotations\na,p,Care\n"},
        "dev",
        None,
        "did you mean 'annotations'?",
    ),
    (
        load_mfrc,
        MFRC | {"mine.csv": HEAD + 'b,p,Care\na,p,"Care,Carre"\n'},
        "dev",
        None,
        "unknown label in row 2 of",
    ),
    (load_mfrc, MFRC | {"mine.csv": HEAD + "c,p,Care\na,p,Carre\n"}, "dev", None, "did you mean 'care'?"),
    (
        load_mfrc,
        MFRC | {"mine.csv": HEAD + "c,p,Care\na,p,\n"},
        "dev",
        None,
        "mine.csv, row 2: no annotation",
    ),
    (load_mfrc, MFRC | {"mine.csv": HEAD + "a, ,Care\n"}, "dev", None, "mine.csv, row 1: no annotator"),
    (
        load_mfrc,
        MFRC | {"mine.csv": HEAD + "A,p,Care\n"},
        "dev",
        None,
        "none of its 1 texts is in splits.yaml, e.g. 'A'",
    ),
    (
        load_mfrc,
        MFRC | {"mine.csv": HEAD + 'a,p,"Care,Non-Moral"\n'},
        "dev",
        None,
        "MFRC: the split 'dev' has no document with a judgement",
    ),
    (
        load_mfrc,
        MFRC | {"mine.csv": HEAD + "a,p,Care,Purity\n"},
        "dev",
        None,
        "line 2 has 4 fields, the first has 3",
    ),
    (load_mfrc, MFRC | {"mine.csv": HEAD + 'a,p,","\n'}, "dev", None, "unknown label in row 1 of"),
    (
        load_mfrc,
        {"splits.yaml": SPLITS, "mine.jsonl": '{"text": 1, "annotator": "p", "annotation": "Care"}\n'},
        "dev",
        None,
        "row 1: text must be a text, found '1'",
    ),
    (
        load_mfrc,
        {"splits.yaml": SPLITS, "mine.jsonl": '{"text": ["a"], "annotator": "p", "annotation": "Care"}\n'},
        "dev",
        None,
        "row 1: text must be a text",
    ),
    (
        load_mfrc,
        {"splits.yaml": SPLITS, "mine.jsonl": '{"text": "a", "annotator": "p", "annotation": ["Care"]}\n'},
        "dev",
        None,
        "row 1: annotation must be a text",
    ),
    (
        load_mfrc,
        {
            "splits.yaml": SPLITS,
            "mine.jsonl": '{"text": "a", "annotator": {"id": 1}, "annotation": "Care"}\n',
        },
        "dev",
        None,
        "row 1: annotator must be a text or a whole number",
    ),
    (
        load_mfrc,
        {"splits.yaml": SPLITS, "mine.jsonl": '{"text": "a", "annotator": true, "annotation": "Care"}\n'},
        "dev",
        None,
        "annotator must be a text or a whole number, found 'True'",
    ),
    (
        load_mfrc,
        {"splits.yaml": SPLITS, "mine.jsonl": '{"text": "a", "annotator": "p", "annotation": null}\n'},
        "dev",
        None,
        "row 1: no annotation",
    ),
    (
        load_msp_podcast,
        MSP | {"transcripts.csv": "id,text\nx,hello\nx.wav,bye\n"},
        "train",
        None,
        "transcripts.csv, row 1: the rows of x differ in their text",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_consensus.csv": "FileName,Split_Set\nx.wav,Train\nx.wav,Test1\n"},
        "train",
        None,
        "the rows of x differ in their Split_Set",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL + 'x.wav,"W1; Sad; ; A:1; V:1; D:1;"\n'},
        "train",
        {"multilabel": True},
        "no document with a judgement that counts",
    ),
    (load_msp_podcast, None, "train", None, "MSPPodcast is licensed"),
    (load_msp_podcast, MSP, "train", {"multi": True}, "did you mean 'multilabel'?"),
    (load_msp_podcast, MSP, "train", {"multilabel": "yes"}, "unknown option multilabel of MSPPodcast 'yes'"),
    (load_msp_podcast, MSP, "tran", None, "did you mean 'train'?"),
    (load_msp_podcast, MSP, "test", None, "no row has Split_Set Test1 (there are: Train)"),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_consensus.csv": "FileName,Split\nx.wav,Train\n"},
        "train",
        None,
        "did you mean 'Split'?",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL + "y.wav,what\nx.wav,W1; Sad\n"},
        "train",
        None,
        "labels_detailed.csv, row 2: 'worker; primary; secondary",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL + 'x.wav,"W1; Sadd; Sad; A:1; V:1; D:1;"\n'},
        "train",
        None,
        "unknown label in row 1 of",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL + 'x.wav,"W1; Sad; Confuzed; A:1; V:1; D:1;"\n'},
        "train",
        {"multilabel": True},
        "did you mean 'confused'?",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL + 'x.wav,"W1; Other-x; Sad; A:1; V:1; D:1;"\n'},
        "train",
        None,
        "no document with a judgement that counts",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": "FileName,WorkerID,EmoClass_Major\nx.wav,W1,Sad\n"},
        "train",
        None,
        "column for EmoClass_Second",
    ),
    (
        load_msp_podcast,
        MSP | {"Labels/labels_detailed.csv": DETAIL.replace("EmoDetail", "EmoDetails") + "x.wav,a\n"},
        "train",
        None,
        "did you mean 'EmoDetails'?",
    ),
    (
        load_msp_podcast,
        MSP | {"transcripts.csv": "id,text\ny,hello\n"},
        "train",
        None,
        "no document with a judgement that counts",
    ),
    (
        load_msp_podcast,
        {k: v for k, v in MSP.items() if k != "transcripts.csv"},
        "train",
        None,
        "transcripts.csv does not exist",
    ),
    (load_queer_reclaim_lex, None, "test", None, "QueerReclaimLex is not on the Hub"),
    (load_queer_reclaim_lex, LEX, "dev", None, "has no split 'dev'; balanced-splits.json has train, test"),
    (load_queer_reclaim_lex, LEX, "test", None, "holds no Annotator1.xlsx"),
    (load_queer_reclaim_lex, LEX, "test", {"variant": "inside"}, "did you mean 'in'?"),
    (
        load_queer_reclaim_lex,
        LEX,
        "test",
        {"discard_ambiguous": "no"},
        "option discard_ambiguous of QueerReclaimLex 'no'",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"balanced-splits.json": "{"},
        "test",
        None,
        "balanced-splits.json: not valid JSON",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"balanced-splits.json": '{"test": 3}'},
        "test",
        None,
        "a list of ids for each split",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"QueerReclaimLex.csv": "template_idx,term,text\n1,poet,a poet\n"},
        "test",
        None,
        "column for template of",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"QueerReclaimLex.csv": "template_idx,term,template\n1,,a poet\n"},
        "test",
        None,
        "row 1: no term",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"Annotations/Annotator1.xlsx": "no workbook"},
        "test",
        None,
        "Annotator1.xlsx: no workbook with the sheets 'slurs' and 'identity terms'",
    ),
    (
        load_queer_reclaim_lex,
        LEX | {"QueerReclaimLex.csv": "template_idx,term,template\n1,poet,a poet\n1,poet,the poet\n"},
        "train",
        None,
        "row 1: the rows of 1-poet differ in their template",
    ),
    (load_mmlu_pro, {}, "test", None, "holds no test.parquet, test.jsonl or test.csv"),
    (load_mmlu_pro, mmlu(), "val", None, "unknown split 'val'"),
    (load_mmlu_pro, mmlu(), "test", {"delimiter": 3}, "option delimiter of MMLUPro must be a text, got 3"),
    (load_mmlu_pro, mmlu(), "test", {"category": "Math"}, "did you mean 'math'?"),
    (
        load_mmlu_pro,
        mmlu(answer_index=2),
        "test",
        None,
        "row 2: answer_index 2 is none of its 2 options (0 to 1)",
    ),
    (load_mmlu_pro, mmlu(answer="A"), "test", None, "row 2: answer 'A' and answer_index 1 (B) disagree"),
    (
        load_mmlu_pro,
        mmlu(options="x or y"),
        "test",
        None,
        "row 2: options must be a list of texts, found 'x or y'",
    ),
    (load_mmlu_pro, mmlu(options=["x"] * 11), "test", None, "row 2: 2 to 10 options expected, found 11"),
    (
        load_mmlu_pro,
        mmlu(options=["x", None]),
        "test",
        None,
        "row 2: options must be a list of texts, found None among them",
    ),
    (
        load_mmlu_pro,
        mmlu(options=["x", 3]),
        "test",
        None,
        "row 2: options must be a list of texts, found 3 among them",
    ),
    (
        load_mmlu_pro,
        mmlu(answer_index=True),
        "test",
        None,
        "row 2: answer_index True is none of its 2 options",
    ),
    (load_mmlu_pro, mmlu(answer_index=None), "test", None, "is none of its 2 options"),
    (load_mmlu_pro, mmlu(question={"a": 1}), "test", None, "row 2: question must be a text, found"),
    (
        load_mmlu_pro,
        mmlu(question_id=[7]),
        "test",
        None,
        "row 2: question_id must be a text or a whole number",
    ),
    (load_mmlu_pro, mmlu(category=None), "test", {"category": "math"}, "row 2: no category"),
    (load_mmlu_pro, mmlu(question_id=7), "test", None, "ids repeat, e.g. '7'"),
    (load_mmlu_pro, mmlu(question=" "), "test", None, "row 2: no question"),
    (
        load_mmlu_pro,
        {"test.csv": 'question_id,question,options,correct\n1,hm,"[1, 2]",A\n'},
        "test",
        None,
        "column for answer_index of",
    ),
    (load_trec, {}, "test", None, "holds neither TREC_10.label nor test.csv"),
    (
        load_trec,
        {"TREC_10.label": "DESC:manner How ?\n\nWho is it ?\n"},
        "test",
        None,
        "TREC_10.label, line 3: 'LABEL:kind question' expected, found 'Who is it ?'",
    ),
    (
        load_trec,
        {"TREC_10.label": "DESC:manner How ?\nENT:food What ?\n"},
        "test",
        None,
        "unknown label in row 2 of",
    ),
    (
        load_trec,
        {"TREC_10.label": "DESC:manner How ?\nENT:food What ?\n"},
        "test",
        None,
        "did you mean 'ENTY'?",
    ),
    (load_trec, {"TREC_10.label": "DESC:manner\n"}, "test", None, "row 1: no text"),
    (load_trec, {"test.csv": "text,label\nHow ?,DESC\n"}, "test", None, "column for coarse_label of"),
    (load_trec, {"test.csv": "text,coarse_label\nHow ?,6\n"}, "test", None, "unknown label in row 1 of"),
    (load_trec, {"TREC_10.label": "DESC:manner How ?\n"}, "dev", {"dev": "tests"}, "did you mean 'test'?"),
    (load_trec, {"TREC_10.label": "DESC:manner How ?\n"}, "validation", None, "unknown split 'validation'"),
]


def one_line(call):
    with pytest.raises((ValueError, OSError)) as error:
        call()
    assert "\n" not in str(error.value), error.value
    return str(error.value)


@pytest.mark.parametrize(
    "load, files, split, options, says", BAD, ids=[f"{load.__name__}-{says[:36]}" for load, *_, says in BAD]
)
def test_bad_input(tmp_path, load, files, split, options, says):
    folder = None if files is None else write(tmp_path, files)
    line = one_line(lambda: load(split, folder, options))
    assert says in line, line


def test_bad_workbooks(tmp_path):
    write(tmp_path, LEX)
    book(tmp_path, "Annotator1.xlsx", sheets=("slurs", "identity"))
    assert "Annotator1.xlsx: no workbook with the sheets" in one_line(
        lambda: load_queer_reclaim_lex("test", tmp_path)
    )
    book(tmp_path, "Annotator1.xlsx", [["a poet", 1, 1]], columns=["POST", "HARMFUL_IN", "HARMFUL_IF_OUT"])
    assert "sheet 'slurs' 'HARMFUL_IF_IN'; did you mean 'HARMFUL_IN'?" in one_line(
        lambda: load_queer_reclaim_lex("test", tmp_path)
    )
    book(tmp_path, "Annotator1.xlsx", [["we poets", 2, 1]])
    assert "no document with a judgement that counts" in one_line(
        lambda: load_queer_reclaim_lex("test", tmp_path)
    )
