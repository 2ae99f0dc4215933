"""A run is what the files that its parameters name hold: whatever their paths and times, other content is
another run.

Notebooks run up to the place where they start their run, which is where its folder is known.
"""

import json
import os
import shutil
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml
from notebooks import run_short
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

import mlcllm
from mlcllm import demux, engines, runs
from mlcllm.checks import OWN_PARAMETERS, PARAMETERS, Place, Table
from mlcllm.data import load_docs
from mlcllm.runs import NAMED_FILES, identity, run_id
from mlcllm.sweeps import without_examples

ASKING = ("01_stepwise_logits", "02_alignment", "03_probing", "04a_sft")
RUNS = (*ASKING, "04_demux")
FEW = {
    "01_stepwise_logits": dict(n_docs=3, shots=2),
    "02_alignment": dict(n_docs=3, shots=2, n_dev=5, methods="hard"),
    "03_probing": dict(n_docs=3, n_train=3, shots=2),
    "04a_sft": dict(n_docs=3, n_train=3, shots=2),
    "04_demux": dict(n_docs=3, n_train=20),
}


START = runs.start_run


class Started(Exception):
    pass


def says_folder(notebook, params, docs=None, labels=(), fingerprint=None, output_dir=None, others=()):
    raise Started(runs.run_folder(notebook, params, fingerprint or {}, "out"))


@pytest.fixture
def folder_of(monkeypatch):
    "The folder that a notebook's run would get"
    monkeypatch.setattr(runs, "start_run", says_folder)
    bundled = lru_cache(lambda: engines_loaded("tiny"))
    engines_loaded = engines.load_engine
    monkeypatch.setattr(
        engines,
        "load_engine",
        lambda model, **how: bundled() if model == "tiny" else engines_loaded(model, **how),
    )

    def run(notebook, **params):
        plain = {
            k: str(v) if isinstance(v, Path) else v
            for k, v in (FEW[notebook] | dict(gpu="cpu") | params).items()
        }
        book = parameterize_notebook(load_notebook_node(without_examples(notebook)), plain)
        space = {"__name__": "__main__"}
        try:
            for cell in book.cells:
                if cell.cell_type == "code":
                    exec(compile(cell.source, notebook, "exec"), space)
        except Started as started:
            return started.args[0]
        finally:
            plt.close("all")
        raise AssertionError("no run was started")

    return run


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def replace_in(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def demo_posts():
    return (Path(mlcllm.__file__).parent / "demo" / "posts.jsonl").read_text(encoding="utf-8")


def encoder(folder):
    "A small sentence encoder, which is also one for Demux"
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(demux.find_encoder("minilm"))
    tokenizer.save_pretrained(folder)
    small = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(small).save_pretrained(folder)


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    "What several cases need: an encoder, and a finished run of 01"
    place = tmp_path_factory.mktemp("tools")
    encoder(place / "encoder")
    run_short("01_stepwise_logits", place, n_docs=3, shots=2, gpu="cpu")
    return dict(encoder=place / "encoder", answers=next((place / "runs").glob("01*/*/*/*")))


def other_config(folder):  # content that changes no answer counts, too
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict(note="other")))


# Each case: make(folder, tools) writes the files into an empty folder and returns parameters; change(folder)
# changes their content.

OWN = "id,text,labels,split\n" + "".join(
    f"{split}{k},this is text {k} of {split},{labels},{split}\n"
    for split in ("train", "dev", "test")
    for k in range(24)
    for labels in [("joy", "fear", "joy;fear")[k % 3]]
)


def own_table(folder, tools):
    return dict(
        dataset=write(folder / "posts.csv", OWN),
        options=dict(separator=";"),
        encoder=tools["encoder"],
        dev_split="dev",
        train_demo_split="dev",
    )


def in_data_dir(folder, tools):
    write(folder / "posts.csv", OWN)
    return dict(
        dataset="posts.csv",
        data_dir=folder,
        options=dict(separator=";"),
        encoder=tools["encoder"],
        train_demo_split="dev",
    )


def demo_folder(folder, tools):
    write(folder / "posts.jsonl", demo_posts())
    return dict(data_dir=folder)


def ids(folder, tools):
    return dict(test_ids=write(folder / "ids.txt", "\n".join(load_docs("demo", tools["split"]).ids[:3])))


def other_ids(folder):
    (folder / "ids.txt").write_text("\n".join(load_docs("demo", "test").ids[1:3]))


EMOTIONS, GROUPS = ("joy", "anger", "fear", "love"), dict(good=["joy", "love"], bad=["anger", "fear"])


def go_emotions(folder, tools):
    write(folder / "data" / "emotions.txt", "\n".join(EMOTIONS))
    for split in ("train", "dev", "test"):
        write(
            folder / "data" / f"{split}.tsv",
            "".join(
                f"text {k} of {split}\t{label}\t{split}{k}\n"
                for k in range(24)
                for label in [("0", "1", "0,2", "3,1")[k % 4]]
            ),
        )
    clusters = write(folder / "clusters.json", json.dumps(GROUPS))
    return dict(
        dataset="GoEmotions",
        data_dir=folder / "data",
        options=dict(clustering=str(clusters)),
        encoder=tools["encoder"],
    )


def other_clusters(folder):
    (folder / "clusters.json").write_text(json.dumps(dict(good=["joy", "love", "fear"], bad=["anger"])))


def mfrc(folder, tools):
    texts = {
        split: {f"text {k} of {split}": f"{split}{k}" for k in range(24)}
        for split in ("train", "dev", "test")
    }
    names = ("Care", "Equality", "Care,Loyalty")
    rows = [
        dict(text=t, annotator=who, annotation=names[k % 3])
        for part in texts.values()
        for k, t in enumerate(part)
        for who in ("a", "b")
    ]
    (folder / "data").mkdir()
    pd.DataFrame(rows).to_csv(folder / "data" / "final_mfrc_data.csv", index=False)
    path = write(folder / "splits.yaml", yaml.safe_dump(texts))
    return dict(
        dataset="MFRC", data_dir=folder / "data", options=dict(splits=str(path)), encoder=tools["encoder"]
    )


def other_splits(folder):
    replace_in(folder / "splits.yaml", ": test1\n", ": other1\n")


def model(folder, tools):
    shutil.copytree(Path(mlcllm.__file__).parent / "models" / "tiny", folder / "model")
    return dict(model=folder / "model")


def matcher(folder, tools):
    shutil.copytree(tools["encoder"], folder / "encoder")
    return dict(match_unknown=folder / "encoder")


def similar(folder, tools):
    shutil.copytree(tools["encoder"], folder / "encoder")
    return dict(encoder=folder / "encoder", sampling="similarity")


def demux_encoder(folder, tools):
    shutil.copytree(tools["encoder"], folder / "encoder")
    return dict(encoder=folder / "encoder")


def predictions(folder, tools):
    for split in ("train", "dev"):
        docs = load_docs("demo", split)
        rows = [dict(doc_id=i, predicted=["joy"]) for i in docs.ids]
        (folder / "run").mkdir(exist_ok=True)
        known = pd.read_parquet(folder / "run" / "docs.parquet") if split == "dev" else pd.DataFrame()
        pd.concat([known, pd.DataFrame(rows)]).to_parquet(folder / "run" / "docs.parquet")
    return dict(demo_labels=folder / "run")


def other_predictions(folder):
    path = folder / "run" / "docs.parquet"
    rows = pd.read_parquet(path)
    rows["predicted"] = [["fear"]] * len(rows)
    rows.to_parquet(path)


WORDS = dict(instruction="Which of {labels}?\n", example="Text: {text}\nLabels: {label}\n\n")


def yaml_template(folder, tools):
    return dict(template=write(folder / "own.yaml", yaml.safe_dump(WORDS)))


def yaml_without_shots(folder, tools):
    return yaml_template(folder, tools) | dict(shots=0)


def yaml_and_text(folder, tools):
    write(folder / "instruction.txt", WORDS["instruction"])
    return dict(
        template=write(folder / "own.yaml", yaml.safe_dump(WORDS | dict(instruction="instruction.txt")))
    )


def dict_and_text(folder, tools):
    path = write(folder / "instruction.txt", WORDS["instruction"])
    return dict(template=WORDS | dict(instruction=str(path)))


def other_tail(folder):
    replace_in(folder / "own.yaml", "{label}", "{label}.")


def other_instruction(folder):
    replace_in(folder / "instruction.txt", "Which", "What")


def thoughts(folder, tools):
    known = [i for split in ("train", "dev") for i in load_docs("demo", split).ids]
    return dict(
        cot=write(folder / "cot.csv", "id,cot\n" + "".join(f"{i},I think of {i}\n" for i in known)),
        template=WORDS | dict(example="Text: {text}\nThoughts: {cot}\nLabels: {label}\n\n"),
    )


def other_thoughts(folder):
    replace_in(folder / "cot.csv", "I think", "We think")


def answers(folder, tools):
    shutil.copytree(tools["answers"], folder / "answers")
    return dict(traces=folder / "answers")


def other_answers(folder):
    path = folder / "answers" / "steps.parquet"
    steps = pd.read_parquet(path)
    steps["logits"] = [z + 1 for z in steps.logits]
    steps.to_parquet(path)


def estimates(folder, tools):
    docs = load_docs("demo", "test", n_docs=3)
    rows = [dict(doc_id=i, method="mine", label=l, prob=0.25) for i in docs.ids for l in docs.labels.names]
    pd.DataFrame(rows).to_parquet(folder / "dists.parquet")
    return dict(join=folder / "dists.parquet")


def run_with_estimates(folder, tools):
    estimates(folder, tools)
    return dict(join=f"{folder}")


def other_estimates(folder):  # its last number
    rows = pd.read_parquet(folder / "dists.parquet")
    rows.loc[len(rows) - 1, "prob"] = 0.75
    rows.to_parquet(folder / "dists.parquet")


def demux_model(folder, tools):
    made, tokenizer = demux.make_demux(
        str(tools["encoder"]), load_docs("demo", "train").labels, max_length=96
    )
    made.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    return dict(trained=folder / "trained")


CASES = {  # parameter -> kind of value -> how it is made and changed, and in which notebooks
    "dataset": {
        "a file": (
            own_table,
            lambda f: replace_in(f / "posts.csv", "text 1 of test", "another 1 of test"),
            RUNS,
        ),
        "a file in data_dir": (
            in_data_dir,
            lambda f: replace_in(f / "posts.csv", "text 1 of train", "another 1 of train"),
            RUNS,
        ),
    },
    "data_dir": {
        "a folder": (
            demo_folder,
            lambda f: replace_in(f / "posts.jsonl", '"text": "', '"text": "Well. '),
            RUNS,
        )
    },
    "options": {"clustering": (go_emotions, other_clusters, RUNS), "splits": (mfrc, other_splits, RUNS)},
    "test_ids": {"a file": (ids, other_ids, RUNS)},
    "model": {"a folder": (model, lambda f: other_config(f / "model"), ASKING)},
    "match_unknown": {"a folder": (matcher, lambda f: other_config(f / "encoder"), ASKING[:1])},
    "encoder": {
        "a folder": (similar, lambda f: other_config(f / "encoder"), ASKING[:3]),
        "a folder to train": (demux_encoder, lambda f: other_config(f / "encoder"), ("04_demux",)),
    },
    "demo_labels": {"a run": (predictions, other_predictions, ASKING[:3])},
    "template": {
        "a file": (yaml_template, other_tail, ASKING),
        "its last words": (yaml_without_shots, other_tail, ASKING),
        "a text that a file names": (yaml_and_text, other_instruction, ASKING),
        "a text that a table names": (dict_and_text, other_instruction, ASKING),
    },
    "cot": {"a file": (thoughts, other_thoughts, ASKING[:3])},
    "traces": {"a run": (answers, other_answers, ("02_alignment",))},
    "join": {
        "a file": (estimates, other_estimates, ("02_alignment",)),
        "a run": (run_with_estimates, other_estimates, ("02_alignment",)),
    },
    "trained": {"a folder": (demux_model, lambda f: other_config(f / "trained"), ("04_demux",))},
}
ELSEWHERE = {  # parameters that may name files, of which a run's folder need not know
    "backend_options": "its tokenizer is tested below, without a server",
    "chat_options": "literal values only",
    "start": "00m_tiny trains anew each time and keeps no run",
    "runs": "05 draws everything anew from the runs that it finds",
    ("05a_step_viewer", "traces"): "the page is written anew each time, as tested below",
    ("00m_tiny", "data_dir"): "as start",
    ("04a_sft", "cot"): "is no parameter there",
}


def names_files(kinds):
    return any(isinstance(k, (Place, Table)) for k in kinds)


def file_naming():  # (notebook, parameter) of all that may name a file
    for notebook in (*RUNS, "00m_tiny", "05_figures", "05a_step_viewer"):
        known = PARAMETERS | OWN_PARAMETERS.get(notebook, {})
        for name in runs.notebook_parameters(notebook):
            if names_files(known[name].kinds):
                yield notebook, name


def test_every_parameter_that_may_name_a_file_has_a_case():
    tested = {(n, p) for p, kinds in CASES.items() for *_, notebooks in kinds.values() for n in notebooks}
    lacking = [
        (n, p)
        for n, p in file_naming()
        if (n, p) not in tested and p not in ELSEWHERE and (n, p) not in ELSEWHERE
    ]
    assert lacking == []
    assert [p for p in CASES if p not in (*NAMED_FILES, "data_dir", "options")] == []


@pytest.mark.parametrize(
    "notebook, name, kind",
    [(n, p, k) for p, kinds in CASES.items() for k, (_, _, notebooks) in kinds.items() for n in notebooks],
)
def test_other_content_is_another_run_and_another_path_is_not(
    tools, folder_of, tmp_path, notebook, name, kind
):
    make, change, _ = CASES[name][kind]
    known = runs.notebook_parameters(notebook)

    def folder(place, old=False):
        place.mkdir()
        params = make(place, tools | dict(split="dev" if notebook == "03_probing" else "test"))
        if old:
            [os.utime(p, (10**9, 10**9)) for p in place.rglob("*")]
        return lambda: folder_of(notebook, **{k: v for k, v in params.items() if k in known})

    here, there = tmp_path / "here", tmp_path / "there"
    first = folder(here)
    before = first()
    assert folder(there, old=True)() == before
    change(here)
    assert first().name != before.name
    shutil.rmtree(here)
    assert folder(here)() == before


BASE = dict(dataset="demo", model="tiny", backend="openai")
WHERE = dict(
    base_url="http://localhost:8000/v1",
    timeout=3,
    retries=1,
    concurrency=2,
    cache=False,
    max_tokens=9,
    price_in=1.5,
)


def test_of_a_backends_options_only_what_changes_answers_counts(tmp_path):
    def of(**options):
        return run_id(BASE | dict(backend_options=options or None), {})

    for k, v in WHERE.items():
        assert of(**{k: v}) == of(), k
    assert len({of(), of(quantization="fp8"), of(tokenizer="owner/name"), of(tokenizer="owner/other")}) == 4
    for name in ("one", "two"):
        write(tmp_path / name / "tokenizer.json", "{}")
    same = of(tokenizer=str(tmp_path / "one"))
    assert same == of(tokenizer=str(tmp_path / "two")) != of()
    write(tmp_path / "one" / "tokenizer.json", "{ }")
    assert of(tokenizer=str(tmp_path / "one")) != same
    (tmp_path / "two" / "tokenizer.json").unlink()
    assert of(tokenizer=str(tmp_path / "two")) != same


def test_a_folder_that_gives_a_server_its_tokenizer_counts(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "tokenizer.json", "{}")

    def of(name):
        return run_id(BASE | dict(model=str(tmp_path / name)), dict(model="as the server says"))

    assert of("one") == of("two")
    write(tmp_path / "one" / "tokenizer.json", "{ }")
    assert of("one") != of("two")


def test_names_are_names_whatever_lies_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = dict(
        dataset="demo",
        model="tiny",
        template="pipeline",
        options=dict(clustering="none", text="text"),
        test_ids=["a"],
        cot=None,
        join=None,
    )
    before = identity(params, dict(docs="d"))
    assert before == dict(parameters=params, fingerprint=dict(docs="d"))
    for name in ("demo", "tiny", "pipeline", "none", "text", "a"):
        write(tmp_path / name / "config.json", "{}")
    assert identity(params, dict(docs="d")) == before


def test_a_record_leads_back_to_its_folder(tmp_path):
    cot = write(tmp_path / "cot.csv", "id,cot\n1,a\n")
    run = START(
        "test",
        dict(dataset="demo", model="none", cot=str(cot)),
        fingerprint=dict(docs="d"),
        output_dir=tmp_path / "runs",
    )
    assert run.record["fingerprint"]["files"].keys() == {"cot"} and run.record["parameters"]["cot"] == str(
        cot
    )
    again = START(
        "test", run.record["parameters"], fingerprint=run.record["fingerprint"], output_dir=tmp_path / "runs"
    )
    assert again.folder == run.folder


@pytest.mark.parametrize(
    "bad",
    ["\0", "x" * 5000, "~", "/dev/null", "", " ", "a,,b", "a\nb"],
    ids=["zero", "long", "home", "device", "empty", "blank", "commas", "lines"],
)
def test_odd_paths_are_left_to_those_who_read_them(bad):
    for name in NAMED_FILES:
        run_id({"dataset": "demo", name: bad}, {})
    run_id(dict(options=dict(splits=bad, clustering=bad), backend_options=dict(tokenizer=bad)), {})


def test_answers_to_other_prompts_are_not_taken_over(tmp_path):
    template = yaml_template(tmp_path, {})["template"]
    asked = dict(n_docs=3, shots=2, gpu="cpu", template=template)
    run_short("01_stepwise_logits", tmp_path, **asked)
    answers = next((tmp_path / "runs").glob("01*/*/*/*"))
    replace_in(template, "Text:", "Words:")
    with pytest.raises(ValueError, match="are to other prompts than those of now") as error:
        run_short("02_alignment", tmp_path, traces=answers, n_dev=5, methods="hard", thresholds=None)
    assert str(answers) in str(error.value) and "\n" not in str(error.value)


def test_states_that_changed_on_disk_are_computed_again(tmp_path):
    asked = dict(n_docs=24, n_train=60, shots=2, gpu="cpu", layers="last", attention=False)
    run_short("03_probing", tmp_path, **asked)
    folder = next((tmp_path / "runs").glob("03*/*/*/*"))
    before = pd.read_parquet(folder / "scores.parquet")
    for name in ("hidden.safetensors", "hidden_train.safetensors"):
        states = bytearray((folder / name).read_bytes())
        middle = len(states) // 2
        states[middle : middle + 3000] = bytes(3000)
        (folder / name).write_bytes(states)
    run_short("03_probing", tmp_path, **asked)
    assert next((tmp_path / "runs").glob("03*/*/*/*")) == folder
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "scores.parquet"), before)
    said = runs.read_record(folder)["warnings"]
    assert len([w for w in said if "does not hold what was written" in w]) == 2


def test_the_step_viewer_shows_what_a_run_holds_now(tools, tmp_path):
    shutil.copytree(tools["answers"], tmp_path / "answers")
    run_short("05a_step_viewer", tmp_path, traces=tmp_path / "answers")
    docs = pd.read_parquet(tmp_path / "answers" / "docs.parquet")
    docs.assign(text="quite another text").to_parquet(tmp_path / "answers" / "docs.parquet")
    run_short("05a_step_viewer", tmp_path, traces=tmp_path / "answers")
    page = next((tmp_path / "runs").glob("05a*/*/*/*/viewer.html"))
    assert page.read_text(encoding="utf-8").count("quite another text") == len(docs)
