"Notebook 03 as a user runs it, and its probes against scikit-learn's own."

import os
from pathlib import Path

import numpy as np
import pytest
from notebooks import papermill, refusal, run_short
from safetensors import safe_open
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlcllm.data import load_docs
from mlcllm.engines import load_engine
from mlcllm.probing import (
    ProbingConfig,
    StateFile,
    attention_table,
    collect_activations,
    fit_probe,
    load_probes,
    load_probing_inputs,
)
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import PromptConfig, ask_prompts, make_verbalizer

ROOT = Path(__file__).resolve().parent.parent


def test_a_run_its_return_and_its_probabilities_in_02(tmp_path):
    done = papermill("03_probing", tmp_path, "-y", "layers: [2, -1]", n_train=80, n_docs=40, split="test")
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = find_runs(tmp_path / "runs", "03_probing")
    run = read_run(folder)
    assert run["record"]["status"] == "done" and run["record"]["parameters"]["layers"] == [2, 4]
    index, scores = run["hidden"], run["scores"]
    assert (
        set(index[index.position == 0].doc_id)
        == set(index[index.position == 1].doc_id)
        == set(run["docs"].doc_id)
    )  # every answer has a first step, an empty one too
    with safe_open(folder / "hidden.safetensors", "numpy") as f:
        states = {k: f.get_tensor(k) for k in f.keys()}
    assert (
        set(states) == {"layer_2", "layer_4"}
        and states["layer_4"].dtype == np.float16
        and (np.abs(states["layer_4"][index.row]).sum(1) > 0).all()
    )
    assert {
        "probe",
        "probe_seen_types",
        "control",
        "selectivity",
        "most_frequent",
        "bag_of_words",
        "model",
    } == set(scores.method) and {"gold", "pred", "pred_2plus", "first"} == set(scores.target)
    probe = load_probes(folder / "probes.safetensors")["gold.layer_4.position_1"]
    first = index[index.position == 1].sort_values("doc_id")
    told = (
        run["dists"]
        .query("method=='probe'")
        .pivot(index="doc_id", columns="label", values="prob")
        .loc[first.doc_id, list(probe.labels)]
    )
    assert np.allclose(probe.predict_proba(states["layer_4"][first.row]), told, atol=1e-6)
    (folder / "hidden.safetensors").unlink()  # its rows are computed anew, the training documents' are not
    run_short("03_probing", tmp_path, layers=[2, -1], n_train=80, n_docs=40, split="test")
    with safe_open(folder / "hidden.safetensors", "numpy") as f:
        assert all(np.allclose(f.get_tensor(k), v, atol=1e-2) for k, v in states.items())
    assert (
        "train: 1 chunks, 1 of them from before" in (folder / "run.log").read_text()
        and "test: 1 chunks, 1 of them" not in (folder / "run.log").read_text()
    )
    run_short("02_alignment", tmp_path, methods="compare_to_none", n_dev=0, n_docs=40, join=folder)
    assert {"probe", "compare_to_none"} <= set(
        read_run(find_runs(tmp_path / "runs", "02_alignment")[0])["scores"].method
    )


@pytest.mark.parametrize(
    "params, says",
    [
        (dict(layers=[9]), "layer 9 does not exist"),
        (dict(backend="vllm"), "backend='hf'"),
        (dict(split="train"), "are trained on and scored as well"),
        (dict(train_demo_split="train"), "demonstrations to themselves"),
    ],
)
def test_bad_input_is_one_line(tmp_path, params, says):
    said = refusal("03_probing", tmp_path, **dict(n_docs=4, n_train=4) | params)
    assert says in said and "\n" not in said


@pytest.mark.parametrize("demos_per, n_docs", [("run", 40), ("document", 3)])
def test_the_same_demonstrations_for_training_and_scored_documents(demos_per, n_docs):
    how = dict(train_demo_split="same", demos_per=demos_per, shots=4)
    inputs = load_probing_inputs(ProbingConfig(model="tiny", split="test", n_docs=n_docs, n_train=60, **how))
    prompts = {
        k: ask_prompts(d, inputs.demos[k], PromptConfig(shots=4, demos_per=demos_per))
        for k, d in inputs.docs.items()
    }
    shown = {i for p in prompts["test"] for i in p.demo_ids}
    assert shown and not shown & set(inputs.docs["train"].ids)
    kept = [i for i in load_docs("demo", "train", n_docs=60).ids if i not in shown]
    assert list(inputs.docs["train"].ids) == kept
    if demos_per == "run":
        assert {p.demo_ids for p in prompts["train"]} == {p.demo_ids for p in prompts["test"]}
        assert len({p.demo_ids for p in prompts["train"]}) == 1


def test_the_same_demonstrations_must_leave_something_to_train_on():
    how = dict(train_demo_split="same", demos_per="document", sampling="random", shots=20, n_train=2)
    with pytest.raises(ValueError, match="every training document is a demonstration.*demos_per=run"):
        load_probing_inputs(ProbingConfig(model="tiny", split="test", **how))


def test_the_paper_recipe_is_scikit_learns_own():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(400, 40)) @ rng.normal(size=(40, 40)) + 5).astype(np.float32)
    y = (x @ rng.normal(size=(40, 2)) / 40 + rng.logistic(size=(400, 2)) > 0).astype(int)
    fit, _ = train_test_split(np.arange(400), test_size=0.2, random_state=42)
    before = make_pipeline(StandardScaler(with_mean=False), TruncatedSVD(39, random_state=42)).fit(x[fit])
    ours = fit_probe(x, y, ("a", "b"), "paper")
    for k in range(2):
        theirs = LogisticRegression(C=np.inf, solver="lbfgs", max_iter=10000).fit(
            before.transform(x[fit]), y[fit, k]
        )
        assert (
            np.abs(ours.predict_proba(x)[:, k] - theirs.predict_proba(before.transform(x))[:, 1]).mean()
            < 0.02
        )  # saga stops after 1,000 rounds, near the same optimum
    assert ours.about["n_train"] == 320


def test_answers_cut_at_the_limit_and_without_labels_have_the_states_that_produced_them(data_root):
    docs, train = (
        load_docs("GoEmotions", s, data_dir=data_root / "goemotions", n_docs=n)
        for s, n in (("dev", 24), ("train", 200))
    )
    engine = load_engine("tiny", gpu="cpu")
    for n_new in (2, 9):  # no label fits into two tokens of a JSON list; nine cut some lists
        config = PromptConfig(max_new_tokens=n_new)
        verbalizer, prompts = make_verbalizer(engine, docs, config), ask_prompts(docs, train, config)
        seen = collect_activations(engine, verbalizer, docs, prompts, config, (4,))
        assert any(t.finish_reason == "length" for t in seen.traces) and (
            n_new > 2 or not any(t.found_step for t in seen.traces)
        )
        for k, t in enumerate(seen.traces):
            state = seen.states[(seen.doc == k) & (seen.position == 1)][0, 0]
            z = engine.model.get_output_embeddings().weight.detach().numpy()[verbalizer.watch_ids] @ state
            where = [verbalizer.columns[prefix] for prefix in verbalizer.variants]
            assert (
                min(np.abs(z[c].max(-1) - t.logits[0]).max() for c in where) < 1e-2
            )  # through the head, the state gives the logits of the trace


def test_attention_is_averaged_over_steps_as_by_hand():
    engine = load_engine("tiny", gpu="cpu")
    docs, train, config = load_docs("demo", "test"), load_docs("demo", "train"), PromptConfig()
    docs = docs.take([8, 35, 47])
    verbalizer, prompts = make_verbalizer(engine, docs, config), ask_prompts(docs, train, config)
    seen = collect_activations(engine, verbalizer, docs, prompts, config, (4,))
    engine.model.set_attn_implementation("eager")
    per_token = []
    for p, t in zip(prompts, seen.traces):
        ids = engine.encode(p.text)
        for k in t.token_index[1:]:
            tokens = ids + list(t.token_ids[:k])
            weights = np.stack(
                [
                    w[0, :, -1].mean(0).detach().numpy()
                    for w in engine.model(
                        __import__("torch").tensor([tokens]), output_attentions=True
                    ).attentions
                ]
            ).mean(0)
            earlier = [len(ids) + i for i in t.token_index if i < k]
            per_token.append(
                (weights[: len(ids)].mean(), weights[len(ids) :].mean(), weights[earlier].mean())
            )
    table = attention_table(seen.attention, 10).set_index("part").per_token
    assert np.allclose(table[["input", "answer", "labels"]], 100 * np.mean(per_token, 0), atol=1e-4)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_file_in_the_place_of_states_is_removed_and_never_waited_for(tmp_path, kind):
    path = tmp_path / "hidden.safetensors"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        (path / "inner").mkdir(parents=True)
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    file = StateFile(path, 4, (0, 2), 8)
    assert not file.exists
    file.create()
    file.write([1], np.ones((1, 2, 8)))
    assert file.exists and (file.layer(2)[1] == 1).all()
