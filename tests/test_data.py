"Loaders against the facts of real corpora, and against files of the documented form."
import json

import numpy as np
import pytest

from mlcllm.data import annotation_stats, load_docs


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
    assert np.allclose(stats[["0 labels", "1 labels", "2 labels", "3+ labels"]].astype(float), [.29, .62, .08, .01], atol=.006)


def test_goemotions_raters(tmp_path):
    (tmp_path / "emotions.txt").write_text("joy\nanger\nfear\nneutral\n")
    (tmp_path / "dev.tsv").write_text("so happy\t0\ta1\nmeh\t3\ta2\n")
    head = "text,id,author,subreddit,link_id,parent_id,created_utc,rater_id,example_very_unclear,joy,anger,fear,neutral\n"
    row = "x,{},au,sub,l,p,1,{},{},{},0,{},0\n"
    (tmp_path / "goemotions_1.csv").write_text(head + row.format("a1", 7, False, 1, 0) + row.format("a1", 9, False, 1, 1) + row.format("a1", 5, True, 0, 0) + row.format("zz", 7, False, 1, 0))
    (tmp_path / "emotion_clustering.json").write_text(json.dumps({"good": ["joy"], "bad": ["anger", "fear"]}))
    docs = load_docs("GoEmotions", "dev", data_dir=tmp_path)
    assert docs.labels.names == ("bad", "good")
    assert docs.votes.tolist() == [[0, 1], [1, 1]] and docs.vote_annotator.tolist() == ["7", "9"]
    assert np.allclose(docs.human().probs, [[.5, 1], [np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize("split, n", [("train", 6838), ("dev", 886), ("test", 3259)])
def test_semeval_sizes(data_root, split, n):
    assert len(load_docs("SemEval", split, data_dir=data_root / "semeval2018")) == n


def test_semeval_labels_per_document(data_root):
    docs = load_docs("SemEval", "dev", data_dir=data_root / "semeval2018")
    assert np.bincount(docs.gold.sum(1).astype(int)).tolist() == [14, 117, 351, 290, 99, 14, 1]


def test_semeval_spanish(tmp_path):
    folder = tmp_path / "Spanish" / "E-c"; folder.mkdir(parents=True)
    (folder / "2018-E-c-Es-dev.txt").write_text('ID\tTweet\tjoy\tanger\n1\t"qué bien\t1\t0\n')
    docs = load_docs("SemEval", "dev", data_dir=tmp_path, options={"language": "Spanish"})
    assert docs.labels.names == ("anger", "joy") and docs.gold.tolist() == [[0, 1]] and docs.texts == ('"qué bien',)


def test_hatexplain(data_root):
    docs = load_docs("HateXplain", "test", data_dir=data_root / "hatexplain")
    assert len(docs) == 1924 and docs.votes.sum(0).tolist() == [1728, 2335, 1709]
    assert int((docs.human().probs.max(1) == 1).sum()) == 974
    assert np.allclose(docs.human().probs.sum(1), 1)
    halves = [set(load_docs("HateXplain", s, data_dir=data_root / "hatexplain").ids) for s in ("train", "dev")]
    assert len(halves[0]) + len(halves[1]) == 1922 and not halves[0] & halves[1]


def test_hatexplain_targets(data_root):
    docs = load_docs("HateXplainTargets", "test", data_dir=data_root / "hatexplain")
    assert docs.n_annotators.tolist() == [3] * 1924
    assert np.array_equal(docs.gold, docs.human().probs > .5)


@pytest.mark.parametrize("dataset, folder, split, name, n", [("GoEmotions", "goemotions", "dev", "GoEmotions", 231), ("SemEval", "semeval2018", "dev", "SemEval", 185), ("HateXplain", "hatexplain", "test", "Hatexplain", 200)])
def test_the_papers_id_lists(data_root, dataset, folder, split, name, n):
    by_file = load_docs(dataset, split, data_dir=data_root / folder, test_ids=data_root / "id_lists" / name / "main_test_set.txt")
    by_folder = load_docs(dataset, split, data_dir=data_root / folder, test_ids=data_root / "id_lists")
    assert len(by_file) == n and by_file.ids == by_folder.ids


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_own_file(tmp_path, kind):
    import pandas as pd
    df = pd.DataFrame(dict(key=["1", "2", "3"], body=["a", "b", "c"], tags=["x, y", "none", "y"], split=["test"] * 3))
    path = tmp_path / f"mine.{kind}"
    {"csv": lambda: df.to_csv(path, index=False), "jsonl": lambda: df.to_json(path, orient="records", lines=True), "parquet": lambda: df.to_parquet(path)}[kind]()
    docs = load_docs(str(path), "test", options=dict(id="key", text="body", labels="tags"))
    assert docs.gold.tolist() == [[1, 1], [0, 0], [0, 1]] and docs.texts == ("a", "b", "c")


def test_own_file_with_label_columns_and_annotators(tmp_path):
    (tmp_path / "v.csv").write_text("id,text,who,x,y,split\n2,b,p,1,0,dev\n1,a,p,1,1,dev\n1,a,q,0,1,dev\n")
    docs = load_docs("v.csv", "dev", data_dir=tmp_path, options=dict(label_names=["x", "y"], annotator="who"))
    assert docs.ids == ("2", "1") and docs.gold.tolist() == [[1, 0], [1, 1]] and docs.human().probs.tolist() == [[1, 0], [.5, 1]]


@pytest.mark.parametrize("call, says", [
    (lambda d: load_docs("GoEmotion", "dev"), "did you mean 'GoEmotions'"),
    (lambda d: load_docs("demo", "tets"), "did you mean 'test'"),
    (lambda d: load_docs("demo", "test", data_dir=d / "nowhere"), "does not exist"),
    (lambda d: load_docs("SemEval", "dev", data_dir=d, options={"language": "englsh"}), "did you mean 'english'"),
    (lambda d: load_docs("demo", "test", n_docs=0), "n_docs must be"),
    (lambda d: load_docs("none.csv", "test", data_dir=d), "none.csv does not exist"),
])
def test_bad_input_says_what_is_wrong(tmp_path, call, says):
    with pytest.raises((ValueError, FileNotFoundError)) as error: call(tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_bad_lines_are_named(tmp_path):
    (tmp_path / "emotions.txt").write_text("joy\nneutral\n")
    (tmp_path / "dev.tsv").write_text("a\t0\ti1\nb\t9\ti2\n")
    with pytest.raises(ValueError, match="line 2: '9'"): load_docs("GoEmotions", "dev", data_dir=tmp_path, options={"clustering": "none"})
    (tmp_path / "dev.tsv").write_text("a\t0\ti1\nb\t0\ti1\n")
    with pytest.raises(ValueError, match="ids repeat, e.g. 'i1'"): load_docs("GoEmotions", "dev", data_dir=tmp_path, options={"clustering": "none"})


def test_hub_is_asked_with_the_right_names(monkeypatch):
    import datasets
    seen = []
    def fake(repo, config=None, split=None):
        seen.append((repo, config, split))
        return datasets.Dataset.from_dict(dict(ID=["t1"], Tweet=["hi"], joy=[True], anger=[False]))
    monkeypatch.setattr(datasets, "load_dataset", fake)
    docs = load_docs("SemEval", "dev")
    assert seen == [("SemEvalWorkshop/sem_eval_2018_task_1", "subtask5.english", "validation")] and docs.gold.tolist() == [[0, 1]]
