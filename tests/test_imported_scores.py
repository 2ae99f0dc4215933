"Scores that come from elsewhere: what is no probability, or belongs to nothing, is refused in one line."

import numpy as np
import pandas as pd
import pytest

from mlcllm.alignment import join_dists
from mlcllm.data import load_docs
from mlcllm.interchange import tables_of_logs

DOCS = load_docs("demo", "test", n_docs=3)
ROWS = pd.DataFrame(
    [dict(doc_id=i, method="m", label=l, prob=0.1) for i in DOCS.ids for l in DOCS.labels.names]
)
NO_PROBABILITY = [float("nan"), -3, 7, float("inf"), -float("inf"), None, "0.5", True, [0.5], 10**400, -1e-9]


@pytest.mark.parametrize("k", range(len(NO_PROBABILITY)))
@pytest.mark.parametrize("key", ["test_scores", "test_all_scores"])
def test_scores_of_logs_are_probabilities(key, k):
    step = dict(joy=NO_PROBABILITY[k], fear=0.2)
    entries = [
        {key: step},
        {key: [dict(joy=0.5, fear=0.5), step]},
        dict(test_scores=[dict(joy=0.5, fear=0.5)], test_all_scores=[dict(joy=1.0, fear=0.0)])
        | {key: [step]},
    ]
    for entry in entries:
        with pytest.raises(
            ValueError, match="document a: the probability of joy must be a number from 0 to 1"
        ) as error:
            tables_of_logs(dict(a=dict(test_preds=["joy"], test_gt=["joy"]) | entry))
        assert "\n" not in str(error.value)


def test_a_step_without_any_probability_is_none():
    with pytest.raises(ValueError, match="document a, label step 1: all probabilities are 0"):
        tables_of_logs(
            dict(a=dict(test_preds=["joy"], test_scores=[dict(joy=1.0, fear=0.0), dict(joy=0.0, fear=0)]))
        )


def joined(tmp_path, rows):
    rows.to_parquet(tmp_path / "dists.parquet")
    return join_dists(str(tmp_path / "dists.parquet"), DOCS)


@pytest.mark.parametrize("p", [np.nan, -3, 7, np.inf, -np.inf, None, 1.0001, -1e-9])
def test_joined_estimates_are_probabilities(tmp_path, p):
    rows = ROWS.copy()
    rows.loc[4, "prob"] = p
    with pytest.raises(
        ValueError, match=f"row 5: document '{rows.doc_id[4]}', method 'm', label '{rows.label[4]}'"
    ) as error:
        joined(tmp_path, rows)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["doc_id", "method", "label"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_joined_rows_belong_to_something(tmp_path, column, value):
    more = ROWS.assign(**{column: value})
    for rows in (more, pd.concat([ROWS, more.tail(1)])):
        with pytest.raises(
            ValueError, match=f"row {1 if rows is more else len(ROWS) + 1}: {column} is empty"
        ):
            joined(tmp_path, rows)


def test_unknown_votes_in_a_joined_file_do_no_harm(tmp_path):
    (got,) = joined(tmp_path, pd.concat([ROWS.assign(method="human", prob=np.nan), ROWS]))
    assert got.method == "m" and (got.probs == 0.1).all()


@pytest.mark.parametrize("split", ["nope", "splits", "Split", "train", "split"])
@pytest.mark.parametrize("part", ["train", "test", "train+dev+test"])
def test_a_column_of_splits_that_is_not_there_is_refused(tmp_path, split, part):
    path = tmp_path / "own.csv"
    pd.DataFrame(dict(id=list("abcdef"), text=list("uvwxyz"), labels=["joy", "fear"] * 3)).to_csv(
        path, index=False
    )
    with pytest.raises(ValueError, match="unknown column for split of") as error:
        load_docs(str(path), part, options=dict(split=split))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "a\u202eb"])
def test_a_joined_method_has_a_name_that_can_be_seen(tmp_path, name):
    with pytest.raises(ValueError, match="has a line break or another sign that cannot be seen") as error:
        joined(tmp_path, ROWS.assign(method=name))
    assert "\n" not in str(error.value)


def test_probabilities_of_a_step_that_exceed_one_are_told(recwarn):
    scores = [dict(joy=0.9, fear=0.6)]
    _, steps, names = tables_of_logs(dict(a=dict(test_preds=["joy"], test_gt=["joy"], test_scores=scores)))
    assert "document a, label step 0: the probabilities of its labels sum to 1.5" in str(
        recwarn.pop(UserWarning).message
    )
    assert np.allclose(np.exp(steps.logits[0]), [0.6, 0.9]) and names == ("fear", "joy")
