"The front door: Estimator by scikit-learn's rules, tables in hand as documents, lazy exports."

import copy
import inspect
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.utils import estimator_checks as checks

import mlcllm.alignment
from mlcllm import Estimator, LabelDist, LabelSet, PromptConfig, StepTrace, load_docs, load_engine, score
from mlcllm.alignment import estimate
from mlcllm.estimator import default_config
from mlcllm.tables import label_docs, text_docs, to_docs

TEXTS, NAMES = ["so glad", "it is late", "what a day"], ["joy", "anger"]
ROWS = [
    dict(id="a", text="so glad", labels="joy"),
    dict(id="b", text="it is late", labels="anger, fear"),
    dict(id="c", text="leave me alone", labels="anger"),
    dict(id="d", text="what now?", labels="fear"),
]
TRAIN, TEST = load_docs("demo", "train"), load_docs("demo", "test", n_docs=6)


@pytest.fixture(scope="module")
def engine():
    return load_engine("tiny", gpu="cpu")


class NoEngine:
    "Wrong use is refused before the model is asked"

    def score(self, *args):
        raise AssertionError("the model was asked")

    generate = score

    def __repr__(self):
        return "NoEngine()"


def est(**given):
    return Estimator(NoEngine(), **given)


def asks(**given):
    return lambda: est(**given).predict_proba(["a"])


# what is called, and a part of the line that it gives
WRONG = {
    "nothing but a model": (lambda: Estimator("tiny").predict_proba("text"), "labels are not known"),
    "one text": (
        lambda: est(labels=NAMES).predict_proba("text"),
        "not one text: put it into",
    ),
    "no such file": (lambda: est(labels=NAMES).predict_proba("my.csv"), "my.csv does not exist"),
    "texts None": (lambda: est(labels=NAMES).predict_proba(None), "takes a list of texts, got None"),
    "texts a number": (lambda: est(labels=NAMES).predict_proba(5), "takes a list of texts, got 5"),
    "texts a dict": (lambda: est(labels=NAMES).predict_proba(dict(text="a")), "takes a list of texts, got {"),
    "texts a set": (lambda: est(labels=NAMES).predict_proba({"a"}), "takes a list of texts, got {'a'}"),
    "no texts": (lambda: est(labels=NAMES).predict_proba([]), "no texts to estimate: give at least one"),
    "numbers": (lambda: est(labels=NAMES).predict_proba([1, 2]), "text 1 is int, a text is expected"),
    "a missing text": (lambda: est(labels=NAMES).predict(["a", None]), "text 2 is NoneType"),
    "a nan among texts": (lambda: est(labels=NAMES).predict(["a", np.nan]), "text 2 is float"),
    "a blank text": (lambda: est(labels=NAMES).predict_proba(["a", " "]), "'text-2' has no text"),
    "two axes": (lambda: est(labels=NAMES).predict_proba(np.array([["a"]])), "one axis is expected"),
    "a table without texts": (
        lambda: est(labels=NAMES).predict_proba(pd.DataFrame(dict(post=["a"]))),
        "unknown column for text of predict_proba 'text'",
    ),
    "documents of other labels": (
        lambda: est(labels=NAMES).predict_proba(TEST),
        "have the labels adm",
    ),
    "a model 3": (lambda: Estimator(3).predict_proba(["a"]), "model must be a name such as 'tiny'"),
    "no model": (lambda: Estimator(labels=NAMES).predict_proba(["a"]), "model must be a name"),
    "an empty model": (lambda: Estimator("", labels=NAMES).predict_proba(["a"]), "model must be a name"),
    "a dict as model": (lambda: Estimator({}, labels=NAMES).predict_proba(["a"]), "model must be a name"),
    "demos a list of texts": (
        asks(demos=["a"]),
        "demos, item 1: a file, a pandas",
    ),
    "demos a number": (asks(demos=3), "demos must be labelled documents"),
    "demos an empty list": (asks(demos=[]), "demos must be labelled documents"),
    "demos without labels": (asks(demos=[dict(text="a")]), "column for labels"),
    "demos with numbers": (
        asks(demos=[dict(text="a", labels=1)]),
        "demos, row 1: names of labels are expected, found int 1",
    ),
    "no such demos": (asks(demos="my.csv"), "demos: my.csv does not exist"),
    "a misspelt dataset": (asks(demos="demoo"), "did you mean 'demo'?"),
    "labels of others": (
        asks(demos=TRAIN, labels=NAMES),
        "labels and demos differ",
    ),
    "labels a text": (
        asks(labels="joy, anger"),
        "labels must be a list of names",
    ),
    "labels a dict": (asks(labels=dict(joy=1)), "labels must be a list of names"),
    "labels a number": (asks(labels=3), "labels must be a list of names"),
    "no labels": (asks(labels=[]), "labels must be a list of names"),
    "labels twice": (asks(labels=["joy", "joy"]), "names repeat: ['joy']"),
    "labels alike": (asks(labels=["joy", "Joy"]), "differ by case"),
    "labels no names": (
        asks(labels=["joy", 1]),
        "item 2: a name is expected, got 1",
    ),
    "nested labels": (asks(labels=[["joy"]]), "item 1: a name is expected"),
    "none as a label": (asks(labels=["joy", "none"]), "none is how no label is"),
    "single no truth value": (asks(labels=NAMES, single="yes"), "unknown single"),
    "no such method": (
        asks(labels=NAMES, method="unray"),
        "did you mean 'unary'?",
    ),
    "a method 3": (asks(labels=NAMES, method=3), "a method is a name such as"),
    "a calibration as method": (
        asks(labels=NAMES, method="unary+platt"),
        "by .calibrate(dev, 'platt')",
    ),
    "a method of other tasks": (
        asks(labels=NAMES, single=True, method="max_over_generations"),
        "this task allows compare_to_none",
    ),
    "a config that is none": (
        asks(labels=NAMES, config={}),
        "must be a PromptConfig",
    ),
    "an engine option": (
        lambda: Estimator("tiny", labels=NAMES, engine_options=dict(gpus=0)).predict_proba(["a"]),
        "did you mean 'gpu'?",
    ),
    "engine options a text": (
        lambda: Estimator("tiny", labels=NAMES, engine_options="cpu").predict_proba(["a"]),
        "engine_options must be a dict",
    ),
    "options a text": (
        asks(demos=ROWS, options="tags"),
        "options must be a dict",
    ),
    "fit without labels": (lambda: est().fit(TEXTS), "fit needs labels: fit(texts, labels)"),
    "fit one text": (lambda: est().fit("so glad", ["joy"]), "fit takes a list of texts, not one text"),
    "fit one label": (lambda: est().fit(TEXTS, "joy"), "y must hold the labels of each text, got 'joy'"),
    "fewer labels": (lambda: est().fit(TEXTS, ["joy"]), "3 texts and the labels of 1"),
    "a label missing": (lambda: est().fit(TEXTS, ["joy", None, "joy"]), "label 2 is None"),
    "names and lists": (lambda: est().fit(TEXTS, ["joy", ["joy"], "joy"]), "label 2 is ['joy']"),
    "joined names": (
        lambda: est().fit(TEXTS, ["joy, fear", "joy", "joy"]),
        "several labels of a text",
    ),
    "an empty name": (lambda: est().fit(TEXTS, ["", "joy", "joy"]), "exactly one label expected"),
    "an unknown name": (lambda: est(labels=NAMES).fit(TEXTS, ["joy", "fear", "joy"]), "fit, row 2 'fear'"),
    "numbers without names": (lambda: est().fit(TEXTS, [0, 1, 0]), "labels are names, which the model reads"),
    "truth values": (lambda: est(labels=["a", "b"]).fit(TEXTS, [True, False, True]), "labels are names"),
    "numbers in doubt": (lambda: est(labels=NAMES).fit(TEXTS, [0, 1, 0]), "not in alphabetical order"),
    "numbers of some": (lambda: est(labels=["a", "b", "c"]).fit(TEXTS, [0, 1, 0]), "each at least once"),
    "a matrix without names": (lambda: est().fit(TEXTS, np.eye(3)), "nothing says which labels they are"),
    "a matrix too wide": (
        lambda: est(labels=NAMES).fit(TEXTS, np.eye(3)),
        "3 columns, and there",
    ),
    "a matrix of twos": (lambda: est(labels=["a", "b", "c"]).fit(TEXTS, 2 * np.eye(3)), "must hold 0 or 1"),
    "three axes": (lambda: est(labels=NAMES).fit(TEXTS, np.zeros((3, 2, 2))), "y has the shape (3, 2, 2)"),
    "columns of others": (
        lambda: est(labels=["x", "y", "z"]).fit(TEXTS, pd.DataFrame(np.eye(3), columns=[*"xyw"])),
        "the columns of y and labels differ, e.g. 'w'",
    ),
    "no such calibration": (lambda: est(calibration="plat").fit(TEXTS, ["joy"] * 3), "did you mean 'platt'?"),
    "dev a list of texts": (lambda: est(demos=TRAIN).calibrate(TEXTS), "dev, item 1: a file, a pandas"),
    "a coverage in per cent": (lambda: est(demos=TRAIN).conform(TEST, 90), "between 0 and 1, such as 0.9"),
    "an unknown kind of sets": (
        lambda: est(demos=TRAIN).conform(TEST, how="all"),
        "unknown kind of label sets",
    ),
    "sets before conform": (lambda: est(demos=TRAIN).predict_set(TEXTS), "no label sets were fitted"),
    "sets of another kind": (lambda: est(demos=TRAIN, sets=0.9).predict_set(TEXTS), "must be ConformalSets"),
    "load_docs of names": (lambda: load_docs(["joy"]), "table, item 1: a file, a pandas DataFrame"),
    "load_docs of nothing": (lambda: load_docs(None, "train"), "dataset must be a name, a file, a Hub id"),
    "load_docs without a split": (lambda: load_docs("demo"), "split must be train, dev, test"),
    "load_docs of equal columns": (
        lambda: load_docs(pd.DataFrame([["a", "b"]], columns=["text", "text"])),
        "two columns are called 'text'",
    ),
    "load_docs with a folder": (
        lambda: load_docs(ROWS, "train", data_dir="."),
        "this one is given as",
    ),
}


@pytest.mark.parametrize("call, says", WRONG.values(), ids=list(WRONG))
def test_wrong_use_gives_one_line(call, says):
    with pytest.raises((ValueError, OSError)) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value), error.value


# with text as input scikit-learn's check_estimator runs nothing at all; these need no table of numbers
API_CHECKS = [
    checks.check_estimator_cloneable,
    checks.check_estimator_tags_renamed,
    checks.check_valid_tag_types,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_mixin_order,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
]


@pytest.mark.parametrize("check", API_CHECKS, ids=lambda check: check.__name__)
def test_checks_of_scikit_learn(check):
    check("Estimator", Estimator("tiny", labels=NAMES))


def test_all_other_checks_need_numbers():
    tags = Estimator().__sklearn_tags__()
    assert tags.input_tags.string and not tags.input_tags.two_d_array and not tags.requires_fit
    assert tags.classifier_tags.multi_label and is_classifier(Estimator())
    assert list(inspect.signature(Estimator.fit).parameters)[1:] == ["X", "y"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(checks._yield_all_checks(Estimator(), legacy=True)) == []


def test_fit_changes_no_parameter_and_returns_itself(engine):
    made = Estimator(engine, method="unary")
    before = made.get_params()
    assert made.fit(TEXTS, ["joy", "anger", "joy"]) is made
    assert made.get_params() == before
    assert {k for k in vars(made) if not k.startswith("_")} - set(before) == {"demos_", "target_kind_"}
    assert made.classes_.tolist() == ["anger", "joy"]
    with pytest.raises(NotFittedError):
        Estimator(engine).classes_  # noqa: B018


def test_a_clone_shares_the_loaded_model_and_a_pickle_loads_it_again():
    made = Estimator("tiny", labels=NAMES, engine_options=dict(gpu="cpu"))
    other = clone(made)
    assert other.engine is made.engine and clone(other).engine is made.engine
    assert made.set_params(engine_options=dict(gpu="cpu", share_prefixes=False)).engine is not other.engine
    again = pickle.loads(pickle.dumps(other))
    assert again.get_params() == other.get_params() and "_engines" not in vars(again)
    assert clone(Estimator(other.engine, TRAIN)).model is other.engine


def test_earlier_names_go_on_working(engine):
    config = PromptConfig(shots=2)
    made = Estimator(engine=engine, demos=TRAIN, asking=config)
    assert made.model is made.engine is engine and made.asking is config
    assert mlcllm.alignment.Estimator is Estimator and mlcllm.alignment.text_docs is text_docs
    assert Estimator(engine, TRAIN, "unary", config).method == "unary"


def test_zero_shot_asks_without_demonstrations(engine):
    p = Estimator(engine, labels=NAMES).predict_proba(TEXTS)
    none = label_docs(NAMES)
    config = PromptConfig(shots=0)
    direct = estimate(engine, text_docs(TEXTS, none), none, ["max_over_generations"], config).dists[0]
    np.testing.assert_array_equal(p, direct.probs)
    assert p.labels.names == tuple(NAMES) and p.ids == ("text-1", "text-2", "text-3")
    other = Estimator(engine, labels=NAMES, config=PromptConfig(label_format="comma")).predict_proba(TEXTS)
    assert other.shape == (3, 2)  # a config with demonstrations does not ask for any here


@pytest.mark.parametrize("method", ["unary", "binary", "set_marginals", "hard"])
def test_zero_shot_by_other_methods(engine, method):
    p = np.asarray(Estimator(engine, labels=NAMES, method=method).predict_proba(TEXTS))
    assert p.shape == (3, 2) and not np.isnan(p).any()


def test_a_single_label_task_sums_to_one(engine):
    p = Estimator(engine, labels=NAMES, single=True).predict_proba(TEXTS)
    np.testing.assert_allclose(np.asarray(p).sum(1), 1, atol=1e-6)
    assert p.method == "compare_to_none" and p.sums_to_one


def write(rows, path):
    df = pd.DataFrame(rows)
    if path.suffix == ".jsonl":
        df.to_json(path, orient="records", lines=True)
    else:
        {".csv": df.to_csv, ".xlsx": df.to_excel, ".parquet": df.to_parquet}[path.suffix](path, index=False)
    return path


def forms(tmp_path, rows):
    files = [write(rows, tmp_path / f"mine{kind}") for kind in (".csv", ".jsonl", ".parquet", ".xlsx")]
    return [
        *files,
        str(files[0]),
        pd.DataFrame(rows),
        pd.DataFrame(rows, index=[7, 7, 8, 9]),
        rows,
        tuple(rows),
    ]


def test_demonstrations_are_the_same_in_every_form(engine, tmp_path):
    right = to_docs(ROWS)
    assert right.gold.tolist() == [[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0]]
    expected = Estimator(engine, right, "unary").predict_proba(TEXTS)
    for demos in forms(tmp_path, ROWS):
        made = Estimator(engine, demos, "unary")
        assert made._task().gold.tolist() == right.gold.tolist() and made._task().ids == right.ids
        np.testing.assert_array_equal(made.predict_proba(TEXTS), expected)


def test_texts_are_the_same_in_every_form(engine, tmp_path):
    made = Estimator(engine, labels=NAMES, method="unary")
    texts = [r["text"] for r in ROWS]
    expected = made.predict_proba(texts)
    more = [pd.Series(texts, index=[3, 1, 2, 0]), np.array(texts), np.array(texts, dtype=object), iter(texts)]
    for form in forms(tmp_path, ROWS) + more:
        p = made.predict_proba(form)
        np.testing.assert_array_equal(p, expected)
        assert p.ids in (tuple("abcd"), expected.ids)


def test_ids_of_rows_without_ids_come_from_their_text():
    rows = [dict(text=t, labels="joy") for t in ("a b", "c", "a b")]
    with pytest.raises(ValueError, match="most texts stand in several rows"):
        to_docs(rows)
    docs = to_docs(rows + [dict(text=t, labels="fear") for t in "xyz"])
    assert len(set(docs.ids)) == 6 and to_docs([dict(text="c", labels="joy")]).ids == (docs.ids[1],)
    assert text_docs(["a"], replace(docs.take([0]), ids=("text-1",))).ids == ("new-text-1",)


def test_a_column_says_which_rows_demonstrate():
    rows = [r | dict(split=s) for r, s in zip(ROWS, ("train", "test", "dev", "train"))]
    assert est(demos=rows)._task().ids == ("a", "d") and est(demos=rows)._dev_docs(rows).ids == ("c",)
    assert load_docs(rows, "test", options=dict(label_names=["joy", "anger", "fear"])).ids == ("b",)
    assert load_docs(pd.DataFrame(ROWS)).ids == tuple("abcd")


def test_unknown_labels_are_told(engine):
    with pytest.warns(UserWarning, match="1 of 3 documents have unknown labels"):
        made = Estimator(engine).fit(TEXTS, ["joy", "nan", "anger"])
    assert made.demos_.texts == (TEXTS[0], TEXTS[2])


# labels of fit, what is predicted for its form, and the labels' order
TARGETS = {
    "names": (["joy", "anger", "joy"], None, ("anger", "joy")),
    "array": (np.array(["joy", "anger", "joy"]), None, ("anger", "joy")),
    "category": (pd.Series(["joy", "anger", "joy"], dtype="category"), None, ("anger", "joy")),
    "names with labels": (["joy", "anger", "joy"], ["joy", "anger", "fear"], ("anger", "fear", "joy")),
    "numbers": ([1, 0, 1], ["anger", "joy"], ("anger", "joy")),
    "lists": ([["joy"], ["anger", "joy"], []], None, ("anger", "joy")),
    "lists with labels": ([["joy"], ["anger", "joy"], []], ["joy", "anger"], ("joy", "anger")),
    "sets": ([{"joy"}, {"anger", "joy"}, set()], None, ("anger", "joy")),
    "matrix": (np.array([[1, 0], [1, 1], [0, 0]]), ["joy", "anger"], ("joy", "anger")),
    "truth values": (np.array([[1, 0], [1, 1], [0, 0]], bool), ["joy", "anger"], ("joy", "anger")),
    "rows of marks": ([[1, 0], [1, 1], [0, 0]], ["joy", "anger"], ("joy", "anger")),
    "sparse": (csr_matrix([[1, 0], [1, 1], [0, 0]]), ["joy", "anger"], ("joy", "anger")),
    "frame": (pd.DataFrame(dict(split=[1, 1, 0], id=[0, 1, 0])), None, ("split", "id")),
    "frame with labels": (pd.DataFrame(dict(b=[1, 1, 0], a=[0, 1, 0])), ["a", "b"], ("b", "a")),
}


@pytest.mark.parametrize("y, labels, names", TARGETS.values(), ids=list(TARGETS))
def test_labels_are_understood_in_every_form(engine, y, labels, names):
    made = Estimator(engine, labels=labels, method="unary").fit(TEXTS, y)
    assert made.demos_.labels.names == names and made.demos_.texts == tuple(TEXTS)
    kind = made.target_kind_
    shown = [made.demos_.labels.decode(row) for row in made.demos_.gold]
    if kind in ("names", "numbers"):
        assert shown == [("joy",), ("anger",), ("joy",)] and not made.demos_.labels.multi
    else:
        first, second = ("split", "id") if "split" in names else ("b", "a") if "b" in names else NAMES
        assert list(map(set, shown)) == [{first}, {first, second}, set()]
    predicted = made.predict(TEXTS)
    if kind == "indicator":
        assert predicted.shape == (3, 2) and set(predicted.ravel()) <= {0, 1}
    elif kind == "lists":
        assert all(isinstance(row, tuple) for row in predicted)
    else:
        assert set(predicted) <= set(made.classes_.tolist())


def test_a_text_never_demonstrates_for_itself(engine):
    made = Estimator(engine, method="unary").fit(TEXTS, [["joy"], ["anger"], []])
    p = made.predict_proba(TEXTS + ["new"])
    for k, text in enumerate(TEXTS):
        rest = made.demos_.take([i for i in range(3) if i != k])
        alone = estimate(engine, text_docs([text], rest), rest, ["unary"], default_config(rest)).dists[0]
        np.testing.assert_allclose(p[k], alone.probs[0], atol=1e-5)
    np.testing.assert_allclose(p[3], made.predict_proba(["new"])[0], atol=1e-5)  # whatever is asked beside it


def test_out_of_fold_estimates_keep_columns_and_rows(engine):
    few = TRAIN.take(range(12))
    order = list(few.labels.names[::-1])
    y = few.gold[:, ::-1].astype(int)
    made = Estimator(engine, labels=order, method="unary")
    p = cross_val_predict(made, list(few.texts), y, cv=3, method="predict_proba")
    first = Estimator(engine, labels=order, method="unary").fit(list(few.texts[4:]), y[4:])
    np.testing.assert_allclose(p[:4], first.predict_proba(list(few.texts[:4])), atol=1e-5)
    assert cross_val_predict(made, np.array(few.texts), y, cv=3).shape == y.shape
    assert cross_val_score(made, few.texts, y, cv=2).shape == (2,)


def test_single_label_names_in_cross_validation(engine):
    y = ["joy", "anger", "fear"] * 4
    texts = [f"{n} {k}" for k, n in enumerate(y)]
    made = Estimator(engine, labels=["anger", "fear", "joy"], method="unary")
    p = cross_val_predict(made, texts, y, cv=3, method="predict_proba")  # scikit-learn numbers the classes
    named = cross_val_predict(made, texts, y, cv=3)
    assert [["anger", "fear", "joy"][k] for k in p.argmax(1)] == named.tolist()


def test_a_pipeline_hands_texts_on(engine):
    strip = FunctionTransformer(lambda texts: [t.strip() for t in texts])
    marks = MultiLabelBinarizer()
    y = marks.fit_transform([["joy"], ["anger"], ["joy", "fear"]])
    pipe = Pipeline([("strip", strip), ("label", Estimator(engine, labels=list(marks.classes_)))])
    p = pipe.fit(TEXTS, y).predict_proba(["  hello "])
    direct = Estimator(engine, labels=list(marks.classes_)).fit(TEXTS, y).predict_proba(["hello"])
    np.testing.assert_array_equal(p, direct)
    assert pipe.predict(["hello"]).shape == (1, 3)


def test_fit_calibrates_when_asked(engine):
    few = TRAIN.take(range(30))
    made = Estimator(engine, calibration="platt").fit(few)
    p = made.predict_proba(["We won the cup!"])
    assert p.method == "max_over_generations+platt" and made.calibrator is None
    by_hand = Estimator(engine, few).calibrate(few, "platt")
    np.testing.assert_allclose(p, by_hand.predict_proba(["We won the cup!"]), atol=1e-6)
    tuned = by_hand.tune(load_docs("demo", "dev", n_docs=20))
    assert tuned.thresholds and tuned.predict(["We won the cup!"]) and by_hand.thresholds is None
    assert copy.copy(made).calibrate(few.take(range(20)), "isotonic").calibrator.how == "isotonic"


class Silent(Estimator):
    "Nothing is known of the last text"

    def _uncalibrated(self, X, what="predict_proba"):
        labels = self._task().labels
        probs = np.array([[0.25, 0.75], [np.nan, np.nan]])
        return LabelDist(probs, labels, ("text-1", "text-2"), "hard", not labels.multi)


def test_what_is_unknown_is_not_predicted():
    with pytest.raises(ValueError, match="no label of 'text-2' has a probability above 0"):
        Silent(NoEngine()).fit(TEXTS, ["joy", "anger", "joy"]).predict(["a", "b"])
    with pytest.warns(UserWarning, match="of 1 texts no probability is known: they get no label"):
        assert Silent(NoEngine(), labels=NAMES).predict(["a", "b"]) == [("anger",), ()]


def test_few_demonstrations_are_all_shown():
    one = TRAIN.take(np.flatnonzero(TRAIN.gold.sum(1) == 1)[:20])
    assert default_config(TRAIN) == PromptConfig()
    assert default_config(one) == PromptConfig(sampling="random")
    assert default_config(one.take(range(3))).shots == 3 and default_config(one.take([0]), 1).shots == 0


def test_a_distribution_is_an_array_and_a_table():
    labels = LabelSet(("<b>", "joy"))
    p = LabelDist(np.array([[0.25, np.nan], [1, 0]]), labels, ("a&b", "c"), "<i>")
    np.testing.assert_array_equal(np.asarray(p), p.probs)
    assert np.asarray(p, dtype=np.float32).dtype == np.float32 and np.array(p) is not p.probs
    assert p["<b>"].tolist() == [0.25, 1] and p[1].tolist() == [1, 0] and p[:, 0].tolist() == [0.25, 1]
    assert p.shape == (2, 2) and [len(row) for row in p] == [2, 2]
    assert p.to_frame().loc["c", "joy"] == 0
    with pytest.raises(ValueError, match="did you mean 'joy'"):
        p["joi"]
    page = p._repr_html_()
    assert "&lt;b&gt;" in page and "a&amp;b" in page and "&lt;i&gt;" in page and "<td>–</td>" in page
    assert "<b>" not in page and "<i>" not in page


def test_traces_and_configurations_show_themselves():
    z = np.log([[1.0, 3.0]])
    t = StepTrace("<u>", ("joy", "none"), '{"<s>', "stop", ("none",), np.zeros(1, int), z, z[0], z[0], z[0])
    page = t._repr_html_()
    assert "<b>0.750</b>" in page and "<td>0.250</td>" in page and "&lt;u&gt;" in page and "<s>" not in page
    page = PromptConfig(shots=3, template="<x>", label_format="comma")._repr_html_()
    assert "<b>3</b>" in page and "&lt;x&gt;" in page and "<b>0.5</b>" not in page


def test_scores_take_what_the_estimator_gives(engine):
    p = Estimator(engine, TRAIN).predict_proba(TEST)
    pd.testing.assert_frame_equal(score(p, TEST, ["brier"], n_boot=0), score([p], TEST, ["brier"], n_boot=0))


HEAVY = ("torch", "transformers", "pandas", "sklearn", "matplotlib", "scipy", "datasets", "pyarrow")
IMPORTS = {
    "import mlcllm": HEAVY,
    "from mlcllm import LabelDist": ("torch", "transformers", "sklearn", "datasets", "scipy"),
    "import mlcllm.alignment": ("transformers.modeling_utils", "datasets", "sentence_transformers"),
}


@pytest.mark.parametrize("line, absent", IMPORTS.items(), ids=list(IMPORTS))
def test_imports_load_what_they_need(line, absent, root):
    code = f"{line}; import sys; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-500:]


def test_exports_are_found():
    import mlcllm

    names = {"Estimator", "load_docs", "load_engine", "score"}
    assert names <= set(dir(mlcllm)) and names <= set(mlcllm.__all__)
    assert all(getattr(mlcllm, name) is not None for name in mlcllm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Estimater'"):
        mlcllm.Estimater  # noqa: B018


def test_sets_hold_the_labels_as_often_as_was_asked(engine):
    "Fitted to documents of their own, with a calibration and without; sets of other sizes need no new fit"
    dev = load_docs("demo", "dev")
    calibrated = Estimator(engine, demos=TRAIN, method="unary").calibrate(dev.take(range(20)))
    with pytest.raises(ValueError, match="20 of these documents were calibrated on"):
        calibrated.conform(dev)
    sure = calibrated.conform(dev.take(range(20, 57)))
    found = sure.predict_set(TEST)
    assert found == sure.sets.predict(calibrated.predict_proba(TEST))
    assert all(set(a) >= set(b) for a, b in zip(found, sure.predict_set(TEST, coverage=0.5)))
    assert sure.calibrate(dev.take(range(20))).sets is None  # they were of other estimates
    with pytest.raises(ValueError, match="fitted to estimates of unary.platt, not of unary"):
        Estimator(engine, demos=TRAIN, method="unary", sets=sure.sets).predict_set(TEST)
