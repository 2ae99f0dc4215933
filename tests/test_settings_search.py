"The search for settings asks each once, takes the best on dev, and scores as 01 does"

import pandas as pd
import pytest
import search_settings
from search_settings import AXES, KEPT, PAPER, best_setting, save, search, settings

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.stepwise_logits import run_stepwise

FEW = dict(template=("pipeline",), chat=(False,), label_format=("json", "comma"), shots=(0, 10))
ABOUT = dict(dataset="demo", model="tiny")


def load(split, n_docs):
    return load_docs("demo", split, n_docs=n_docs)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(search_settings, "AXES", FEW)


@pytest.fixture(scope="module")
def engine():
    return load_engine("tiny", gpu="cpu")


def test_all_settings_differ_and_hold_the_papers():
    found = settings()
    assert len(found) == len(set(map(repr, found))) == 40
    assert PAPER in found


def fixed_scores(engine, docs, demos, config):
    "Scores as of `ask`: comma answers are better, on test as well"
    value = 0.4 if config.label_format == "comma" and config.shots == 10 else 0.2
    row = dict(method="hard", metric="micro_f1", value=value, lo=0.1, hi=0.5, n_docs=len(docs))
    return pd.DataFrame([row]).assign(**{k: getattr(config, k) for k in AXES})


def test_each_setting_once_then_the_best_and_the_papers_on_test(few, monkeypatch, tmp_path):
    monkeypatch.setattr(search_settings, "ask", fixed_scores)
    said, place = [], tmp_path / "settings.parquet"
    table = search(None, load, ABOUT, place, n_dev=12, n_test=8, say=said.append)
    assert table.split.value_counts().to_dict() == dict(dev=4, test=2)
    on_test = table[table.split == "test"]
    assert on_test[["label_format", "shots"]].values.tolist() == [["comma", 10], ["json", 10]]
    assert (table.n_docs == table.split.map(dict(dev=12, test=8))).all()
    pd.testing.assert_frame_equal(pd.read_parquet(place), table)
    assert len(said) == 6


def test_what_is_there_is_not_asked_again(few, engine, tmp_path):
    place = tmp_path / "settings.parquet"
    whole = search(engine, load, ABOUT, place, n_dev=12, n_test=8, say=str)
    save(whole[whole.shots == 10].query("split == 'dev'"), place)  # as after a kill
    before, said = engine.stats["prompts"], []
    again = search(engine, load, ABOUT, place, n_dev=12, n_test=8, say=said.append)
    n_tests = len(whole[whole.split == "test"].drop_duplicates([*AXES]))
    assert engine.stats["prompts"] - before == 2 * 12 + n_tests * 8
    assert len(said) == 2 + n_tests
    by = ["split", *AXES, "method", "metric"]
    cost = ["seconds_per_doc"]
    a, b = (t.drop(columns=cost).sort_values(by, ignore_index=True) for t in (whole, again))
    pd.testing.assert_frame_equal(a, b)


def test_the_best_is_that_of_dev_not_of_test():
    rows = [
        dict(
            method="hard",
            template="pipeline",
            chat=False,
            label_format=f,
            shots=10,
            metric=m,
            split=s,
            value=v,
        )
        for f, m, s, v in (
            ("json", "micro_f1", "dev", 0.3),
            ("comma", "micro_f1", "dev", 0.4),
            ("json", "micro_f1", "test", 0.9),
            ("json", "example_f1", "dev", 0.9),
        )
    ]
    assert best_setting(pd.DataFrame(rows)).label_format == "comma"


def test_scores_are_those_of_a_run_of_01(engine, tmp_path):
    docs, demos = load("test", 12), load("train", None)
    own = search_settings.ask(engine, docs, demos, PAPER)
    run = run_stepwise(dataset="demo", model="tiny", n_docs=12, output_dir=str(tmp_path))
    by = ["method", "metric"]
    both = own.merge(run.scores, on=by, suffixes=("", "_run"))
    assert set(both.metric) == set(KEPT) and "tfidf" in set(both.method) and len(both) == len(own)
    assert both.value.to_numpy() == pytest.approx(both.value_run.to_numpy())
