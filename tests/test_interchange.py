"""Logs of the paper's code: written for either producer, read back with every digit, and never more than they
say.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import expit

from mlcllm.alignment import inherit_parameters, stored_traces
from mlcllm.data import CLUSTERS, load_docs
from mlcllm.estimators import dist_from_traces
from mlcllm.figure_tables import sweep_answers, sweep_table
from mlcllm.interchange import (
    PRODUCERS,
    dataset_of,
    label_order_of,
    main,
    read_logs,
    tables_of_logs,
    write_logs,
)
from mlcllm.runs import read_record, read_table, start_run
from mlcllm.stepwise_logits import read_traces, step_summary
from mlcllm.stored_runs import index_runs, plain_runs

DOCS = load_docs("demo", "test", n_docs=4)
NAMES = DOCS.labels.with_none
FLAT = {n: 1 / 7 for n in NAMES[:-1]}


def stored(folder, gap=9.0):
    "A run whose label logits lie far apart, and whose last answer holds no label"
    z = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32) * gap
    chosen = [NAMES[k] for k in z.argmax(1)]
    docs = pd.DataFrame(
        [
            dict(
                doc_id=i,
                text=t,
                gold=list(DOCS.labels.decode(g)),
                predicted=[c] * (c != "none"),
                human=None,
                n_annotators=0,
                output=c,
                finish_reason="stop",
                n_prompt_tokens=9,
                found_step=True,
                well_formed=True,
            )
            for i, t, g, c in zip(DOCS.ids, DOCS.texts, DOCS.gold, chosen)
        ]
    )
    docs.loc[3, ["found_step", "output"]] = False, "I cannot say"
    docs.at[3, "predicted"] = []
    steps = pd.DataFrame(
        [
            dict(
                doc_id=i,
                step=0,
                token_index=1,
                chosen=c,
                is_last=True,
                logits=x,
                logsumexp=0.0,
                continue_logit=0.0,
                stop_logit=0.0,
            )
            for i, c, x in zip(DOCS.ids, chosen, z.tolist())
        ]
    )
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="demo", model="tiny", split="test", shots=10, seed=0, label_order="reverse", ratio=0.5),
        labels=list(NAMES),
        fingerprint=dict(docs=DOCS.content_hash()),
        output_dir=folder,
    )
    for name, table in dict(docs=docs, steps=steps).items():
        run.save_table(name, table)
    run.done()
    return run.folder, z


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("gap", [1.0, 9.0, 40.0])
def test_there_and_back_keeps_every_comparison_with_none(tmp_path, producer, gap):
    run, z = stored(tmp_path, gap)
    (folder,) = [write_logs(run, tmp_path / "logs", producer=producer)]
    (back,) = read_logs(folder, tmp_path / "back")
    record = read_record(back)
    assert record["labels"] == list(NAMES) and record["parameters"]["label_order"] == "reverse"
    traces = read_traces(read_table(back, "docs"), read_table(back, "steps"), NAMES)
    got = dist_from_traces(traces, DOCS.labels, "compare_to_none").probs
    assert np.allclose(got[:3], expit(z[:3, :-1].astype(float) - z[:3, -1:]), rtol=1e-5, atol=0)
    assert np.isnan(got[3]).all() and not traces[3].found_step and traces[3].predicted == ()
    hard = dist_from_traces(traces, DOCS.labels, "hard").probs
    assert (hard[3] < 0.5).all() and not step_summary(traces).doc_id.isin([DOCS.ids[3]]).any()


def test_traces_of_logs_stand_for_their_documents_in_alignment(tmp_path):
    run, z = stored(tmp_path)
    (back,) = read_logs(write_logs(run, tmp_path / "logs"), tmp_path / "back")
    parameters = dict(
        dataset="demo",
        split="dev",
        model="small",
        shots=3,
        seed=1,
        test_ids=None,
        data_dir=None,
        options=None,
    )
    noted = dict(seen={k: id(v) for k, v in parameters.items()})
    taken = inherit_parameters(back, parameters, noted)
    assert (taken["dataset"], taken["split"], taken["model"], taken["shots"]) == ("demo", "test", "tiny", 10)
    traces = stored_traces(back, DOCS.take([2, 0]))
    assert [t.doc_id for t in traces] == [DOCS.ids[2], DOCS.ids[0]] and np.allclose(
        traces[1].probs[0].argmax(), z[0].argmax()
    )
    with pytest.raises(
        ValueError, match="no answer to .* documents of demo test, such as .*: set split and test_ids"
    ):
        stored_traces(back, load_docs("demo", "test", n_docs=9))
    other = DOCS.take([0])
    other.gold[:] = 1 - other.gold
    with pytest.raises(ValueError, match="has other gold labels for"):
        stored_traces(back, other)


@pytest.mark.parametrize(
    "entry, predicted, found",
    [
        (
            dict(test_preds=["anger"], test_scores=FLAT, test_all_scores=[], test_outs="no idea"),
            [],
            False,
        ),  # what llm_prob_distr stores without a label
        (dict(test_preds="anger", test_scores=FLAT, test_outs="no idea"), [], False),
        (
            dict(test_preds=["joy"], test_scores=FLAT, test_all_scores=[], test_outs="so much Joy"),
            ["joy"],
            False,
        ),
        (dict(test_preds=["joy"], test_scores=[], test_outs=""), [], False),
        (dict(test_preds=[], test_scores=None, test_outs=""), [], False),
        (
            dict(test_preds=["joy"], test_scores=dict.fromkeys(NAMES, 0.1) | dict(joy=0.3), test_outs="joy"),
            ["joy"],
            True,
        ),
    ],
)
def test_an_answer_without_a_label_is_not_the_first_of_the_alphabet(entry, predicted, found):
    sure = dict(
        test_preds=["fear"],
        test_gt=["fear"],
        test_scores=[dict.fromkeys(NAMES, 0.01) | dict(fear=0.93)],
        test_outs="fear",
    )
    docs, steps, names = tables_of_logs(dict(a=sure, b=dict(test_gt=["joy"]) | entry))
    assert (list(docs.predicted[1]), bool(docs.found_step[1])) == (predicted, found)
    assert np.isnan(steps.logits.iloc[-1]).all() != found
    trace = read_traces(docs, steps, names)[1]
    assert trace.predicted == tuple(predicted)


def ratio_logs(folder):
    entries = {}
    for r, many in (("0.0", 0), ("0.4", 1), ("1.0", 2)):
        for k in range(3):
            preds = ["fear", "joy"] if k < many else ["joy"]
            scores = [dict(fear=0.2, joy=0.7, none=0.1), dict(fear=0.8, joy=0.1, none=0.1)][: len(preds)]
            entries[f"d{k}_ratio_{r}"] = dict(
                test_preds=preds,
                test_gt=["joy"],
                test_scores=scores[0],
                test_all_scores=scores,
                test_outs=", ".join(preds),
            )
    place = folder / "SemEval" / "main_test_set" / "multilabel_ICL" / "meta-llama--Llama-3.1-8B_0"
    place.mkdir(parents=True)
    (place / "indexed_metrics.yml").write_text(
        yaml.safe_dump(dict(experiment_0=entries | dict(description="")))
    )
    return place


def test_a_sweep_of_ratios_can_be_drawn(tmp_path):
    read_logs(ratio_logs(tmp_path / "logs"), tmp_path / "runs")
    run_index = SimpleNamespace(index=index_runs(tmp_path / "runs"))
    table = sweep_table(run_index).set_index("ratio")
    assert np.allclose(table.value, [0, 1 / 3, 2 / 3]) and (table.n_docs == 3).all()
    assert np.allclose(sweep_answers(run_index).groupby("ratio").many.mean(), [0, 1 / 3, 2 / 3])


@pytest.mark.parametrize(
    "dataset, lists, params, order",
    [
        ("SemEval", [["anger", "joy"]], {}, "alphabetical"),
        ("GoEmotions", [["joy"]], {}, "file"),
        ("GoEmotions", [["optimism", "admiration"]], {}, "file"),
        ("mine", [["anger", "joy"]], {}, None),
        ("mine", [["joy", "anger"]], {}, "file"),
        ("SemEval", [], dict(label_order="reverse"), "reverse"),
        ("TREC", [["human"]], {}, "file"),
        ("HateXplain", [["hate"]], {}, "alphabetical"),
        ("Boxes", [["the book"]], {}, None),
    ],
)
def test_the_label_order_is_that_of_the_prompt_or_unknown(dataset, lists, params, order):
    entries = {str(k): dict(test_gt=x) for k, x in enumerate(lists)}
    assert label_order_of(entries | dict(description=""), dataset, params) == order


@pytest.mark.parametrize(
    "name, here",
    [
        ("Hatexplain", "HateXplain"),
        ("MMLU-Pro", "MMLUPro"),
        ("semeval", "SemEval"),
        ("GoEmotions", "GoEmotions"),
        ("mine", "mine"),
    ],
)
def test_their_names_of_datasets(name, here):
    assert dataset_of(name) == here


def test_hatexplain_has_their_name_in_logs_and_ours_in_runs(tmp_path):
    labels = ("hate", "normal", "offensive")
    docs = pd.DataFrame(
        [
            dict(
                doc_id="1_gab",
                text="x",
                gold=["hate"],
                predicted=["hate"],
                human=None,
                n_annotators=0,
                output="hate",
                finish_reason="stop",
                n_prompt_tokens=1,
                found_step=True,
                well_formed=True,
            )
        ]
    )
    steps = pd.DataFrame(
        [
            dict(
                doc_id="1_gab",
                step=0,
                token_index=0,
                chosen="hate",
                is_last=True,
                logits=[2.0, 0.0, 0.0],
                logsumexp=0.0,
                continue_logit=0.0,
                stop_logit=0.0,
            )
        ]
    )
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="HateXplain", model="tiny", split="test"),
        labels=list(labels),
        output_dir=tmp_path,
    )
    for name, table in dict(docs=docs, steps=steps).items():
        run.save_table(name, table)
    run.done()
    folder = write_logs(run.folder, tmp_path / "logs")
    assert folder.relative_to(tmp_path).as_posix() == "logs/Hatexplain/test/baseline/tiny_0"
    (back,) = read_logs(folder, tmp_path / "back")
    assert read_record(back)["parameters"]["dataset"] == "HateXplain"


def test_clusters_of_goemotions_are_drawn_although_their_order_is_the_files(tmp_path):
    place = tmp_path / "logs" / "GoEmotions" / "main_test_set" / "baseline" / "m_0"
    place.mkdir(parents=True)
    one = dict(
        test_preds=["joy"],
        test_gt=["joy"],
        test_scores=[dict.fromkeys((*CLUSTERS, "none"), 0.05) | dict(joy=0.65)],
        test_outs="joy",
    )
    (place / "indexed_metrics.yml").write_text(yaml.safe_dump(dict(experiment_0=dict(a=one))))
    read_logs(place, tmp_path / "runs")
    (row,) = plain_runs(index_runs(tmp_path / "runs"), "01_stepwise_logits").itertuples()
    assert row.label_order == "file"


def test_probabilities_that_the_logs_lack_are_refused_and_doubts_said(tmp_path, capsys):
    full = dict(test_gt=[], test_preds=[], test_scores=[dict(fear=0.2, joy=0.7, none=0.1)], test_outs="")
    with pytest.raises(ValueError, match="document b, step 1: label 'none' is missing"):
        tables_of_logs(dict(a=full, b=full | dict(test_scores=[dict(fear=0.3, joy=0.7)])))
    place = tmp_path / "mine" / "ids" / "baseline" / "m_0"
    place.mkdir(parents=True)
    entries = dict(
        a=full | dict(test_scores=dict(fear=0.0, joy=1.0, none=0.0)),
        b=full | dict(test_preds=["fear", "joy"], test_scores=dict(fear=0.8, joy=0.1, none=0.1)),
    )
    (place / "indexed_metrics.yml").write_text(yaml.safe_dump(dict(experiment_0=entries)))
    (back,) = read_logs(place, tmp_path / "runs")
    warnings = " ".join(read_record(back)["warnings"])
    assert "only the first label step was logged" in warnings and "rounded to 0" in warnings


def test_the_command_line_writes_either_shape(tmp_path, capsys):
    run, _ = stored(tmp_path)
    assert main(["to-logs", str(run), str(tmp_path / "logs"), "--producer", "llm_prompting_clsf"]) == 0
    (path,) = (tmp_path / "logs").rglob("indexed_metrics.yml")
    entry = yaml.safe_load(path.read_text())["experiment_0"][DOCS.ids[0]]
    assert isinstance(entry["test_scores"], list) and "test_all_scores" not in entry
    assert main(["from-logs", str(path.parent), str(tmp_path / "runs"), "--dataset", "demo"]) == 0
    with pytest.raises(SystemExit):
        main(["to-logs", str(run), str(tmp_path / "logs"), "--producer", "llm"])


def small_run(folder, ids=("a", "b"), found=True, logits=(2.0, 1.0, 0.0)):
    "A run of two documents and the labels joy, fear and none"
    docs = [
        dict(
            doc_id=i,
            text="hi",
            gold=["joy"],
            predicted=["joy"] * found,
            human=None,
            n_annotators=0,
            output="joy" if found else "I cannot say",
            found_step=found,
        )
        for i in ids
    ]
    unknown = dict(token_index=0, is_last=True, logsumexp=3.0, continue_logit=0.0, stop_logit=1.0)
    steps = [dict(doc_id=i, step=0, chosen="joy", logits=list(logits)) | unknown for i in ids]
    run = start_run(
        "01_stepwise_logits",
        dict(dataset="demo", split="test", model="tiny", seed=0),
        labels=["joy", "fear", "none"],
        fingerprint=dict(docs="x"),
        output_dir=folder,
    )
    run.save_table("docs", pd.DataFrame(docs))
    run.save_table("steps", pd.DataFrame(steps))
    run.done()
    return run.folder


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize(
    "ids, found",
    [
        (("a", "b"), False),  # no answer holds a label: the labels stand in params.yml
        (("post_unary_1", "x_binary_2"), True),  # ids that look like questions of the paper's code
        (("description", "b"), True),  # the name under which the paper's code stores a remark
    ],
)
def test_what_was_written_is_read(tmp_path, producer, ids, found):
    folder = write_logs(small_run(tmp_path, ids, found), tmp_path / "logs", producer=producer)
    (back,) = read_logs(folder, tmp_path / "back")
    docs = read_table(back, "docs")
    assert sorted(docs.doc_id) == sorted(ids) and (docs.found_step == found).all()
    assert read_record(back)["labels"] == ["fear", "joy", "none"]
    logits = np.stack(read_table(back, "steps").logits).astype(float)
    assert (np.isnan(logits) == (not found)).all()


def test_what_could_not_be_read_is_not_written(tmp_path):
    run = small_run(tmp_path, logits=(1.0, np.nan, 0.0))
    with pytest.raises(ValueError, match="document a, label step 1: the logit of a label is not known"):
        write_logs(run, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
