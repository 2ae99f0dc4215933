"A backend and a dataset from outside of the package: one registration each, and everything knows them."

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlcllm import parameters
from mlcllm.boxes import generate_boxes
from mlcllm.checks import Number, Word, check_parameter
from mlcllm.data import DATASETS, AnnotatedDocs, LabelSet, find_dataset, load_docs, register_dataset
from mlcllm.engines import BACKENDS, Engine, Scored, load_engine
from mlcllm.figures import open_run_index, traces_of, votes_table
from mlcllm.parameters import BACKEND_OPTIONS, backend_of, register_backend
from mlcllm.prompts import get_template
from mlcllm.runs import run_id
from mlcllm.stepwise_logits import run_stepwise
from mlcllm.sweeps import check_jobs, plan, read_grid

ADDITIONS = """
import numpy as np

from mlcllm.data import AnnotatedDocs, LabelSet, register_dataset
from mlcllm.parameters import register_backend

ROWS = [("Dark clouds, then a shower", "rain"), ("Blue sky all day", "sun"), ("Fog", "")]


def load_weather(split, data_dir, options):
    labels = LabelSet(("rain", "sun"), allows_none=True)
    texts = [f"{text} ({split} {k})" for k in range(4) for text, _ in ROWS]
    votes = np.stack([labels.encode(names.split()) for _ in range(4) for _, names in ROWS])
    ids, who = tuple(f"{split}{k}" for k in range(len(texts))), np.array(["me"] * len(texts))
    docs = (ids, tuple(texts), votes, votes, np.arange(len(texts)), who)
    return AnnotatedDocs("weather", split, labels, *docs)


register_dataset("weather", load_weather)
"""
WORDS = dict(instruction="What is the weather: {labels}?\n\n", example="Report: {text}\nWeather: {label}\n\n")


class Heated(Engine):
    "The bundled model at another temperature"

    def __init__(self, engine, temperature):
        super().__init__(engine.tokenizer, engine.max_length, model_hash=engine.model_hash)
        self.engine, self.temperature = engine, temperature

    def score(self, prompts, token_ids):
        scored = self.engine.score(prompts, token_ids)
        return Scored(scored.logits / self.temperature, scored.logsumexp)

    def generate(self, *args, **options):
        return self.engine.generate(*args, **options)


def load_heated(model, backend_options):
    return Heated(load_engine(model, gpu="cpu"), backend_options.get("temperature", 1.0))


SEEN = []  # the options that the loader got


def load_posts(split, data_dir, options):
    SEEN.append(options)
    one = options["task"] == "degree"
    labels = LabelSet(("mild", "strong"), allows_none=not one, multi=not one)
    names = [("mild",), ("strong",)] * 6 if one else [("mild",), ("mild", "strong"), ()] * 4
    votes = np.stack([labels.encode(n) for n in names])
    ids, n = tuple(f"{split}{k}" for k in range(12)), np.arange(12)
    texts = tuple(f"Post {k} of {split}" for k in range(12))
    return AnnotatedDocs("posts", split, labels, ids, texts, votes, votes, n, np.array(["me"] * 12))


@pytest.fixture
def added():
    "A backend with an option, and a dataset with an option that makes it a single-label task"
    kept = [(table, dict(table)) for table in (BACKENDS, BACKEND_OPTIONS, DATASETS)]
    options = dict(temperature=Number(0, 10, whole=False, above=True))
    register_backend("heated", load_heated, options, devices=("cpu",))
    switches = dict(task=("degree",))
    register_dataset("posts", load_posts, dict(task="kinds"), switches=switches, template=WORDS)
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


def says(call):
    with pytest.raises(ValueError) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_backend_is_loaded_with_checked_options(added):
    engine = load_engine("tiny", backend="heated", backend_options=dict(temperature=2.0))
    prompts = engine.encode(["A day by the sea"])
    got, plain = engine.score(prompts, [5, 6]), engine.engine.score(prompts, [5, 6])
    assert np.allclose(got.logits * 2, plain.logits, atol=1e-5)
    assert load_engine("tiny", backend="heated").temperature == 1.0


BACKEND_FAULTS = [
    (dict(backend="heatd"), "unknown backend 'heatd'; did you mean 'heated'?"),
    (dict(backend="heated", backend_options=dict(temprature=1)), "did you mean 'temperature'?"),
    (dict(backend="heated", backend_options=dict(temperature=11)), "must be a number from 0 to 10"),
    (dict(backend="heated", backend_options=dict(temperature="hot")), "temperature must be a number"),
    (dict(backend="heated", backend_options=[1]), "backend_options must be a table"),
    (dict(backend="heated", gpu=0), "0"),  # no such GPU here, or a backend of CPUs only
]


@pytest.mark.parametrize("asked, words", BACKEND_FAULTS, ids=range(len(BACKEND_FAULTS)))
def test_what_a_backend_cannot_be_asked(added, asked, words):
    assert words in says(lambda: load_engine("tiny", **asked))


def test_what_a_backend_does_not_take_is_said(added):
    engine = load_engine("tiny", backend="heated", dtype="float32", quantization="4bit")
    assert [n.split("=")[0] for n in engine.notes if "has no effect" in n] == ["dtype", "quantization"]
    assert not [n for n in load_engine("tiny", gpu="cpu", dtype="float32").notes if "no effect" in n]


def test_what_has_to_be_installed(added):
    register_backend("absent", "no_such_module:load", extra="my_package[absent]")
    assert says(lambda: load_engine("tiny", backend="absent")) == (
        "backend 'absent' needs no_such_module: pip install 'my_package[absent]'"
    )


def test_parameters_know_a_backend(added):
    assert check_parameter("backend", "heated") == "heated"
    assert "did you mean 'heated'?" in says(lambda: check_parameter("backend", "heatde"))
    assert "from 0 to 10" in says(lambda: check_parameter("backend_options", dict(temperature=99)))


def test_options_of_a_backend_belong_to_a_runs_identity(added):
    def of(backend="heated", **options):
        return run_id(dict(dataset="demo", model="tiny", backend=backend, backend_options=options), {})

    assert len({of(), of(temperature=1), of(temperature=2)}) == 3
    assert of("hf", attn_implementation="sdpa") == of("hf")
    assert of("openai", timeout=3) == of("openai")
    assert of("of_somebody_else", size=1) != of("of_somebody_else", size=2)


WRONG_BACKENDS = [
    (dict(name="hf", loader=print), "backend 'hf' is a part of mlcllm"),
    (dict(name="my backend", loader=print), "a word such as my_server"),
    (dict(name="mine", loader="load"), "must be a function, or a text such as my_module:my_function"),
    (dict(name="mine", loader=print, takes=("dtyp",)), "did you mean 'dtype'?"),
    (dict(name="mine", loader=print, devices=("gpus",)), "did you mean 'gpu'?"),
    (dict(name="mine", loader=print, options=dict(max_length=Word(("a", "b")))), "give it another name"),
    (dict(name="mine", loader=print, identity=("size",)), "unknown option in the identity"),
]


@pytest.mark.parametrize("given, words", WRONG_BACKENDS, ids=range(len(WRONG_BACKENDS)))
def test_wrong_registrations_of_backends(added, given, words):
    before = dict(BACKENDS)
    assert words in says(lambda: register_backend(**given))
    assert before == BACKENDS


WRONG_DATASETS = [
    (dict(name="TREC", loader=print), "dataset 'TREC' is a part of mlcllm"),
    (dict(name="trec", loader=print), "only in capitals"),
    (dict(name="my,posts", loader=print), "a word such as my_posts"),
    (dict(name="posts.csv", loader=print), "a word such as my_posts"),
    (dict(name="mine", loader=3), "must be a function"),
    (dict(name="mine", loader=print, options=dict(preprocess=None)), "every dataset has the option"),
    (dict(name="mine", loader=print, options=dict(a=1), switches=dict(b=(1,))), "unknown option of mine 'b'"),
]


@pytest.mark.parametrize("given, words", WRONG_DATASETS, ids=range(len(WRONG_DATASETS)))
def test_wrong_registrations_of_datasets(added, given, words):
    before = dict(DATASETS)
    assert words in says(lambda: register_dataset(**given))
    assert before == DATASETS


def test_a_dataset_is_loaded_with_all_its_options(added):
    assert load_docs("posts", "test").labels.multi and SEEN[-1] == dict(task="kinds")
    assert not load_docs("posts", "test", options=dict(task="degree")).labels.multi
    assert len(load_docs("posts", "dev+test", options=dict(annotators="both"))) > 24
    assert "did you mean 'task'?" in says(lambda: load_docs("posts", "test", options=dict(tsk=1)))
    assert "did you mean 'posts'?" in says(lambda: load_docs("postss", "test"))


def test_its_prompts_have_its_words(added):
    docs = load_docs("posts", "test")
    template = get_template(docs.template, docs.labels.multi)
    assert (template.instruction, template.example) == (WORDS["instruction"], WORDS["example"])
    assert get_template("demo").instruction != WORDS["instruction"]


def test_a_plain_function_in_the_table_goes_on_working(added):
    DATASETS["bare"] = lambda split, data_dir, options: load_posts(split, data_dir, dict(task="kinds"))
    assert len(load_docs("bare", "test")) == 12 and find_dataset("bare").is_multi()


def test_a_run_with_both_and_its_tables(added, tmp_path):
    run = run_stepwise(
        dataset="posts",
        model="tiny",
        backend="heated",
        backend_options=dict(temperature=2.0),
        shots=2,
        n_docs=4,
        output_dir=str(tmp_path),
    )
    assert run.prompts[0].text.startswith("What is the weather: mild and strong?")
    assert run.folder.relative_to(tmp_path).parts[:3] == ("01_stepwise_logits", "posts", "tiny")
    assert isinstance(run.engine, Heated) and run.record["parameters"]["backend"] == "heated"
    traced = traces_of(open_run_index(tmp_path))
    table = votes_table(traced)
    assert list(table.index) == [("posts", "ours")]


def grid(folder, **jobs):
    path = Path(folder) / "grid.yaml"
    models = {"tiny": {}, "small": {}, "other": dict(model="owner/other")}
    path.write_text(yaml.safe_dump(dict(datasets=["posts"], models=models, jobs=jobs)))
    return path


def test_a_plan_knows_both(added, tmp_path):
    job = dict(parameters=dict(backend="heated", backend_options=dict(temperature=2.0)))
    jobs = plan(read_grid(grid(tmp_path, **{"01_stepwise_logits": job})))
    asked = {(j.dataset, j.model, j.gpus) for j in jobs}
    assert asked == {("posts", m, 0) for m in ("tiny", "small", "other")}
    job["parameters"]["backend_options"] = dict(temperature=99)
    assert "from 0 to 10" in says(lambda: plan(read_grid(grid(tmp_path, **{"01_stepwise_logits": job}))))


@pytest.mark.parametrize("task, refused", [("kinds", False), ("degree", True)])
def test_a_plan_knows_which_tasks_have_one_label(added, tmp_path, task, refused):
    job = dict(parameters=dict(methods="max_over_generations", options=dict(task=task), gpu="cpu"), gpus=0)
    jobs = plan(read_grid(grid(tmp_path, **{"02_alignment": job})))
    if refused:
        assert "needs a multi-label task" in says(lambda: check_jobs(jobs, tmp_path))
    else:
        check_jobs(jobs, tmp_path)


SINGLE = [  # dataset, options, one label a document?
    ("HateXplain", None, True),
    ("HateXplainTargets", None, False),
    ("GoEmotions", None, False),
    ("MSPPodcast", None, True),
    ("MSPPodcast", dict(multilabel=True), False),
    ("QueerReclaimLex", None, False),
    ("QueerReclaimLex", dict(variant="both"), False),
    ("QueerReclaimLex", dict(variant="in"), True),
    ("ConvAbuse", None, False),
    ("ConvAbuse", dict(task="abuse"), True),
    ("MMLUPro", None, True),
    ("TREC", dict(dev="test"), True),
    ("Boxes", None, False),
    ("demo", None, False),
]


@pytest.mark.parametrize("dataset, options, single", SINGLE, ids=range(len(SINGLE)))
def test_which_registered_tasks_have_one_label(dataset, options, single):
    assert find_dataset(dataset).is_multi(options) != single


def test_registered_options_are_those_of_the_generator():
    defaults = {k: p.default for k, p in inspect.signature(generate_boxes).parameters.items()}
    assert DATASETS["Boxes"].options == dict(subset=None, after=None) | defaults


@pytest.mark.parametrize("name", ["demo", "Boxes"])
def test_registered_kinds_are_those_of_the_documents(name):
    options = dict(n_samples=20) if name == "Boxes" else None
    assert load_docs(name, "test", options=options).labels.multi == find_dataset(name).is_multi()


def test_a_backend_of_parameters():
    assert backend_of({}).name == backend_of(dict(backend=None)).name == "hf"
    assert backend_of(dict(backend="openai")).is_remote and not backend_of(dict(backend="vllm")).is_remote
    assert backend_of(dict(backend="unknown")) is None


def in_process(folder, code, **environment):
    search = os.pathsep.join([str(folder), str(Path(__file__).parent.parent)])
    env = os.environ | dict(PYTHONPATH=search) | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return done.stdout + done.stderr.strip().rsplit("\n", 1)[-1]


def test_a_process_of_its_own_finds_additions(tmp_path):
    "As a job of a sweep does, in its own kernel"
    (tmp_path / "my_additions.py").write_text(ADDITIONS)
    code = "from mlcllm import load_docs; print(len(load_docs('weather', 'test')))"
    assert in_process(tmp_path, code, MLCLLM_ADDITIONS="my_additions") == "12\n"
    assert "MLCLLM_ADDITIONS: module 'mine' cannot be imported (ModuleNotFoundError" in in_process(
        tmp_path, code, MLCLLM_ADDITIONS="mine"
    )
    assert "unknown dataset 'weather'" in in_process(tmp_path, code)


def test_additions_are_imported_once(tmp_path, monkeypatch):
    (tmp_path / "my_twice.py").write_text("print('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLCLLM_ADDITIONS", "my_twice, my_twice")
    parameters.load_additions.cache_clear()
    assert parameters.load_additions() == ("my_twice", "my_twice")
    monkeypatch.delenv("MLCLLM_ADDITIONS")
    parameters.load_additions.cache_clear()
    assert parameters.load_additions() == ()


@pytest.mark.parametrize(
    "backend, options, differ",
    [
        ("heated", [dict(temperature=1), dict(temperature=2)], True),
        ("openai", [dict(tokenizer="owner/one"), dict(tokenizer="owner/two")], True),
        ("openai", [dict(timeout=3), dict(timeout=4)], False),
    ],
    ids=range(3),
)
def test_jobs_that_differ_in_what_changes_answers_are_two(added, tmp_path, backend, options, differ):
    job = dict(notebook="01_stepwise_logits", models=["tiny"])
    jobs = {
        name: job | dict(parameters=dict(backend=backend, backend_options=o))
        for name, o in zip(("one", "two"), options)
    }
    assert len(plan(read_grid(grid(tmp_path, **jobs)))) == 1 + differ
