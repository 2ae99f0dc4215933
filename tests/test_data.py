"Loaders against the facts of real corpora, and against files of the documented form."

import csv
import json

import numpy as np
import pytest

from mlcllm.data import annotation_stats, copies, exclude, load_docs


@pytest.mark.parametrize("split, n", [("train", 43410), ("dev", 5426), ("test", 5427)])
def test_goemotions_sizes(data_root, split, n):
    assert len(load_docs("GoEmotions", split, data_dir=data_root / "goemotions")) == n


def test_goemotions_labels(data_root):
    docs = load_docs("GoEmotions", "train", data_dir=data_root / "goemotions", options={"clustering": "none"})
    assert len(docs.labels) == 27
    count = dict(zip(docs.labels.names, docs.gold.sum(0)))
    assert (count["admiration"], count["grief"]) == (4130, 77)
    pooled = load_docs("GoEmotions", "train", data_dir=data_root / "goemotions")
    joy = docs.gold[:, [docs.labels.index(e) for e in ("amusement", "excitement", "joy", "love")]].max(1)
    assert np.array_equal(pooled.gold[:, pooled.labels.index("joy")], joy)
    assert pooled.labels.file_order[0] == "joy" and pooled.labels.names[0] == "admiration"


def test_goemotions_table_1(data_root):
    stats = annotation_stats(load_docs("GoEmotions", "dev", data_dir=data_root / "goemotions")).iloc[0]
    assert np.allclose(
        stats[["0 labels", "1 labels", "2 labels", "3+ labels"]].astype(float),
        [0.29, 0.62, 0.08, 0.01],
        atol=0.006,
    )


def test_goemotions_raters(tmp_path):
    (tmp_path / "emotions.txt").write_text("joy\nanger\nfear\nneutral\n")
    (tmp_path / "dev.tsv").write_text("so happy\t0\ta1\nmeh\t3\ta2\n")
    head = "text,id,author,subreddit,link_id,parent_id,created_utc,rater_id,example_very_unclear,joy,anger,fear,neutral\n"  # noqa: E501
    row = "x,{},au,sub,l,p,1,{},{},{},0,{},0\n"
    (tmp_path / "goemotions_1.csv").write_text(
        head
        + row.format("a1", 7, False, 1, 0)
        + row.format("a1", 9, False, 1, 1)
        + row.format("a1", 5, True, 0, 0)
        + row.format("zz", 7, False, 1, 0)
    )
    (tmp_path / "emotion_clustering.json").write_text(json.dumps({"good": ["joy"], "bad": ["anger", "fear"]}))
    docs = load_docs("GoEmotions", "dev", data_dir=tmp_path)
    assert docs.labels.names == ("bad", "good")
    assert docs.votes.tolist() == [[0, 1], [1, 1]] and docs.vote_annotator.tolist() == ["7", "9"]
    assert np.allclose(docs.human().probs, [[0.5, 1], [np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize("split, n", [("train", 6838), ("dev", 886), ("test", 3259)])
def test_semeval_sizes(data_root, split, n):
    assert len(load_docs("SemEval", split, data_dir=data_root / "semeval2018")) == n


def test_semeval_labels_per_document(data_root):
    docs = load_docs("SemEval", "dev", data_dir=data_root / "semeval2018")
    assert np.bincount(docs.gold.sum(1).astype(int)).tolist() == [14, 117, 351, 290, 99, 14, 1]


def test_semeval_spanish(tmp_path):
    folder = tmp_path / "Spanish" / "E-c"
    folder.mkdir(parents=True)
    (folder / "2018-E-c-Es-dev.txt").write_text('ID\tTweet\tjoy\tanger\n1\t"qué bien\t1\t0\n')
    docs = load_docs("SemEval", "dev", data_dir=tmp_path, options={"language": "Spanish"})
    assert (
        docs.labels.names == ("anger", "joy")
        and docs.gold.tolist() == [[0, 1]]
        and docs.texts == ('"qué bien',)
    )


def test_hatexplain(data_root):
    docs = load_docs("HateXplain", "test", data_dir=data_root / "hatexplain")
    assert len(docs) == 1924 and docs.votes.sum(0).tolist() == [1728, 2335, 1709]
    assert int((docs.human().probs.max(1) == 1).sum()) == 974
    assert np.allclose(docs.human().probs.sum(1), 1)
    halves = [
        set(load_docs("HateXplain", s, data_dir=data_root / "hatexplain").ids) for s in ("train", "dev")
    ]
    assert len(halves[0]) + len(halves[1]) == 1922 and not halves[0] & halves[1]


def test_hatexplain_targets(data_root):
    docs = load_docs("HateXplainTargets", "test", data_dir=data_root / "hatexplain")
    assert docs.n_annotators.tolist() == [3] * 1924
    assert np.array_equal(docs.gold, docs.human().probs > 0.5)


@pytest.mark.parametrize(
    "dataset, folder, split, name, n",
    [
        ("GoEmotions", "goemotions", "dev", "GoEmotions", 231),
        ("SemEval", "semeval2018", "dev", "SemEval", 185),
        ("HateXplain", "hatexplain", "test", "Hatexplain", 200),
    ],
)
def test_the_papers_id_lists(data_root, dataset, folder, split, name, n):
    by_file = load_docs(
        dataset,
        split,
        data_dir=data_root / folder,
        test_ids=data_root / "id_lists" / name / "main_test_set.txt",
    )
    by_folder = load_docs(dataset, split, data_dir=data_root / folder, test_ids=data_root / "id_lists")
    assert len(by_file) == n and by_file.ids == by_folder.ids


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_own_file(tmp_path, kind):
    import pandas as pd

    df = pd.DataFrame(
        dict(key=["1", "2", "3"], body=["a", "b", "c"], tags=["x, y", "none", "y"], split=["test"] * 3)
    )
    path = tmp_path / f"mine.{kind}"
    {
        "csv": lambda: df.to_csv(path, index=False),
        "jsonl": lambda: df.to_json(path, orient="records", lines=True),
        "parquet": lambda: df.to_parquet(path),
    }[kind]()
    docs = load_docs(str(path), "test", options=dict(id="key", text="body", labels="tags"))
    assert docs.gold.tolist() == [[1, 1], [0, 0], [0, 1]] and docs.texts == ("a", "b", "c")


def test_own_file_with_label_columns_and_annotators(tmp_path):
    (tmp_path / "v.csv").write_text("id,text,who,x,y,split\n2,b,p,1,0,dev\n1,a,p,1,1,dev\n1,a,q,0,1,dev\n")
    docs = load_docs("v.csv", "dev", data_dir=tmp_path, options=dict(label_names=["x", "y"], annotator="who"))
    assert (
        docs.ids == ("2", "1")
        and docs.gold.tolist() == [[1, 0], [1, 1]]
        and docs.human().probs.tolist() == [[1, 0], [0.5, 1]]
    )


HEAD = "id,text,labels,split\n"


@pytest.mark.parametrize(
    "name, content",
    [
        (
            "a.csv",
            "\ufeff" + HEAD + "1,hi,\"['joy', 'fear']\",TEST\n",
        ),  # a byte-order mark, a list as pandas writes it
        ("a.csv", HEAD + '1,hi,"[""joy"", ""fear""]",Test\n'),
        ("a.jsonl", '\ufeff{"id": 1.0, "text": "hi", "labels": ["joy", "fear"], "split": "test"}\n\n'),
        (
            "a.jsonl",
            '{"id": "1", "text": "hi", "labels": "joy ,fear", "split": "test"}\n{"id": "2", "text": '
            '"a\u2028b", "labels": null, "split": "dev"}\n',
        ),
    ],
)
def test_odd_but_good_tables(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    docs = load_docs(name, "test", data_dir=tmp_path)
    assert docs.ids == ("1",) and docs.labels.names == ("fear", "joy") and docs.gold.tolist() == [[1, 1]]


def test_another_separator_is_suspected(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + "1,hi,joy;fear,test\n2,ho,joy,test\n")
    with pytest.raises(ValueError, match="is 'joy;fear' one label.*separator: ';'"):
        load_docs("a.csv", "test", data_dir=tmp_path)
    assert (
        len(
            load_docs(
                "a.csv", "test", data_dir=tmp_path, options=dict(label_names=["joy", "joy;fear"])
            ).labels
        )
        == 2
    )
    assert load_docs("a.csv", "test", data_dir=tmp_path, options=dict(separator=";")).gold.tolist() == [
        [1, 1],
        [0, 1],
    ]


def test_rows_without_ids_are_numbered(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "hi", "labels": "three"}\n{"text": "ho", "labels": []}\n'.replace("}", ', "split": "test"}')
    )
    docs = load_docs("a.jsonl", "test", data_dir=tmp_path, options={"id": None})
    assert docs.ids == ("0", "1") and docs.labels.names == ("three",) and docs.gold.tolist() == [[1], [0]]


def test_id_lists_are_read_line_by_line(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + "post 1,hi,joy,test\npost 2,ho,joy,test\n")
    (tmp_path / "ids.txt").write_text("\ufeffpost 2\n\n", encoding="utf-8")
    assert load_docs("a.csv", "test", data_dir=tmp_path, test_ids=tmp_path / "ids.txt").ids == ("post 2",)


def test_everything_that_a_result_depends_on_changes_the_hash():
    from dataclasses import replace

    docs = load_docs("demo", "test", n_docs=4)
    others = [
        replace(docs, texts=("other",) + docs.texts[1:]),
        replace(docs, vote_annotator=docs.vote_annotator[::-1].copy()),
        replace(docs, gold=1 - docs.gold),
        replace(docs, labels=replace(docs.labels, file_order=docs.labels.file_order[::-1])),
    ]
    assert len({d.content_hash() for d in [docs, *others]}) == 5


def hub(monkeypatch, answer):
    "Puts `answer(repo, **how)` in place of the Hub; returns the list of what was asked"
    import datasets

    asked = []

    def fake(repo, config=None, split=None, **how):
        asked.append((repo, config, split, how))
        return answer(split, how)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    return asked


def tweets():  # as SemEval's table on the Hub
    import datasets

    return datasets.Dataset.from_dict(dict(ID=["t1"], Tweet=["hi"], joy=[True], anger=[False]))


def test_hub_is_asked_with_the_right_names(monkeypatch):
    asked = hub(monkeypatch, lambda split, how: tweets())
    assert load_docs("SemEval", "dev").gold.tolist() == [[0, 1]]
    assert asked == [("SemEvalWorkshop/sem_eval_2018_task_1", "subtask5.english", "validation", {})]


def test_repositories_with_a_loading_script_are_read_from_their_parquet_branch(monkeypatch):
    def answer(split, how):
        if "revision" not in how:
            raise RuntimeError("Dataset scripts are no longer supported, but found sem_eval_2018_task_1.py")
        return tweets()

    asked = hub(monkeypatch, answer)
    assert load_docs("SemEval", "test").gold.tolist() == [[0, 1]]
    assert asked[1] == (
        "SemEvalWorkshop/sem_eval_2018_task_1",
        None,
        "test",
        dict(data_dir="subtask5.english", revision="refs/convert/parquet"),
    )


def test_any_hub_dataset(monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    many = Features(dict(text=Value("string"), tags=Sequence(ClassLabel(names=["joy", "fear", "zeal"]))))
    parts = dict(
        train=Dataset.from_dict(dict(text=["a", "b"], tags=[[0, 1], []]), features=many),
        validation=Dataset.from_dict(dict(text=["c"], tags=[[2]]), features=many),
    )
    hub(monkeypatch, lambda split, how: parts)
    docs = load_docs("someone/posts", "dev", options=dict(id=None, labels="tags"))
    assert docs.labels.names == ("fear", "joy", "zeal") and docs.gold.tolist() == [
        [0, 0, 1]
    ]  # labels do not depend on the split
    one = Features(dict(text=Value("string"), label=ClassLabel(names=["no", "yes"])))
    hub(
        monkeypatch,
        lambda split, how: dict(test=Dataset.from_dict(dict(text=["a", "b"], label=[1, 0]), features=one)),
    )
    docs = load_docs("someone/posts", "test", options=dict(id=None, labels="label", single=True))
    assert docs.labels.names == ("no", "yes") and docs.gold.tolist() == [[0, 1], [1, 0]]


def test_copies_of_scored_posts_leave_training(data_root):
    train, scored = (
        load_docs("GoEmotions", s, data_dir=data_root / "goemotions") for s in ("train", "dev+test")
    )
    slow = {" ".join(t.split()) for t in train.texts}
    assert copies(scored, train).sum() == sum(" ".join(t.split()) in slow for t in scored.texts) == 80
    rest = exclude(train, scored, "train_split")
    assert len(rest) == len(train) - 127 and not {" ".join(t.split()) for t in rest.texts} & {
        " ".join(t.split()) for t in scored.texts
    }
    assert "127 of 43,410 documents of GoEmotions train have the text of a scored document" in rest.notes[-1]


@pytest.mark.parametrize(
    "cell, text",
    [
        ('"He said ""stop"" twice"', 'He said "stop" twice'),
        ('"""Being organised"" is hard"', '"Being organised" is hard'),
        ('"all of it"', "all of it"),
        ('""""', '"'),
        ("plain", "plain"),
        ('"unfinished', '"unfinished'),
        ('"so" he said', '"so" he said'),
        ('"a" and "b"', '"a" and "b"'),
        ('5" wide', '5" wide'),
        ("it's", "it's"),
    ],
)
def test_goemotions_texts_are_read_without_csv_quotes(tmp_path, cell, text):
    (tmp_path / "emotions.txt").write_text("joy\nanger\nneutral\n")
    (tmp_path / "dev.tsv").write_text(f"{cell}\t0,1\ta1\nmeh\t2\ta2\n")
    docs = load_docs("GoEmotions", "dev", data_dir=tmp_path, options={"clustering": "none"})
    assert docs.texts == (text, "meh") and docs.ids == ("a1", "a2")


def test_an_empty_quoted_text_of_goemotions_is_refused(tmp_path):
    (tmp_path / "emotions.txt").write_text("joy\nneutral\n")
    (tmp_path / "dev.tsv").write_text('ok\t0\ta1\n""\t0\ta2\n')
    with pytest.raises(ValueError, match="line 2: text, label numbers and id expected"):
        load_docs("GoEmotions", "dev", data_dir=tmp_path, options={"clustering": "none"})


@pytest.mark.parametrize("split, n_escaped", [("train", 1097), ("dev", 137), ("test", 149)])
def test_goemotions_texts_are_those_of_a_csv_reader(data_root, split, n_escaped):
    path = data_root / "goemotions" / f"{split}.tsv"
    with open(path, encoding="utf-8", newline="") as f:
        theirs = [row[0] for row in csv.reader(f, delimiter="\t")]
    raw = [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(a != b for a, b in zip(raw, theirs)) == n_escaped
    assert list(load_docs("GoEmotions", split, data_dir=data_root / "goemotions").texts) == theirs
