"""Every parameter of every notebook against values of every kind: taken, or refused in one line that names
it.

Only the cells up to the check are run, so that nothing is loaded. What the check takes and a chapter must
refuse itself goes through whole notebooks below.
"""

import json
import os
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebooks import ROOT, refusal, run_short
from papermill.cli import _resolve_type
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mlcllm import (
    data,
    demos,
    demux,
    engines,
    openai_engine,
    probing,
    prompts,
    sft,
    stepwise_logits,
    tiny,
    vllm_engine,
)
from mlcllm.checks import BACKEND_OPTIONS, OWN_PARAMETERS, PARAMETERS, Flag, check_parameter
from mlcllm.sweeps import plan, read_grid

SOON = {"chat_options"}  # in the table before a notebook has it

NESTED = []
for _ in range(5000):
    NESTED = [NESTED]

VALUES = [  # of every kind
    3,
    0,
    -1,
    10**12,
    10**400,
    0.5,
    -0.5,
    1e30,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    "no such word",
    "",
    " ",
    "\t\n",
    "3",
    "true",
    "None",
    "nan",
    ",",
    "+",
    "a,,b",
    "\ud800",
    "a\0b",
    "x" * 300,
    "x" * 200_000,
    "../" * 2000,
    [],
    [1],
    ["a", "b"],
    [None],
    [[]],
    [float("nan")],
    {},
    {"a": 1},
    {1: 2},
    {"a": {"b": [None]}},
    NESTED,
    {"a": NESTED},
    b"bytes",
    1j,
]


# sources of the code up to the cell that reads the parameters, and of that cell
def cells_to_the_check(book):
    code = [c.source for c in book.cells if c.cell_type == "code"]
    k = next(i for i, c in enumerate(code) if c.startswith("parameters = read_parameters"))
    return code[:k], code[k]


def with_parameters():
    books = {p.stem: nbformat.read(p, 4) for p in sorted((ROOT / "nbs").glob("*.ipynb"))}
    return {
        n: b for n, b in books.items() if any("parameters" in c.metadata.get("tags", []) for c in b.cells)
    }


BOOKS = with_parameters()


@pytest.fixture(scope="module")
def started():  # notebook -> its names behind the parameters cell, its check
    found = {}
    for name, book in BOOKS.items():
        before, check = cells_to_the_check(book)
        space = {"__name__": "__main__"}
        for source in before:
            exec(compile(source, name, "exec"), space)
        found[name] = space, compile(check, name, "exec")
    return found


def answer(started, notebook, **values):  # None: the check takes them; else how it refuses
    space, check = started[notebook]
    try:
        exec(check, space | values)
    except ValueError as error:
        return str(error)


def names_of(started, notebook):
    return started[notebook][0]["noted"]["parameters"]


def test_every_parameter_has_a_specification_and_none_is_left_over(started):
    assert len(BOOKS) == 10
    used = {n for b in BOOKS for n in names_of(started, b)}
    assert used - set(PARAMETERS) == set() and set(PARAMETERS) - used - SOON == set()
    for notebook, own in OWN_PARAMETERS.items():
        assert set(own) <= set(names_of(started, notebook)), notebook


def test_every_notebook_names_itself_where_it_reads_its_parameters():
    for name, book in BOOKS.items():
        assert cells_to_the_check(book)[1].startswith(
            f'parameters = read_parameters(noted, globals(), "{name}")'
        ), name


@pytest.mark.parametrize("notebook", BOOKS)
def test_defaults_are_taken(started, notebook):
    assert answer(started, notebook) is None


@pytest.mark.parametrize("notebook", BOOKS)
def test_any_value_is_taken_or_refused_in_one_line_that_names_the_parameter(
    started, notebook, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in names_of(started, notebook):
        for value in VALUES:
            said = answer(started, notebook, **{name: value})
            if said is None:
                continue
            assert name in said and len(said.splitlines()) == 1 and len(said) < 700, (name, said)


@pytest.mark.parametrize("notebook", BOOKS)
def test_what_can_be_none_of_a_parameters_kinds_is_refused(started, notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    never = [
        "",
        " ",
        "\ud800",
        float("nan"),
        float("inf"),
        1e30,
        10**400,
        [float("nan")],
        [None],
        {1: 2},
        NESTED,
        {"a": NESTED},
        b"bytes",
        1j,
    ]
    for name in names_of(started, notebook):
        for value in never:
            assert answer(started, notebook, **{name: value}), (name, value)


BOOLEANS = sorted(name for name, p in PARAMETERS.items() if any(isinstance(kind, Flag) for kind in p.kinds))
YES_AND_NO = {"true": True, "yes": True, "false": False, "no": False}


def any_case(word):
    return [word, word.upper(), word.capitalize(), word[0] + word[1:].upper()]


def test_booleans_are_those_of_the_parameters_cells(started):
    "A parameter whose default is True or False is a boolean in the table, in every notebook"
    found = {
        name
        for space, _ in started.values()
        for name in space["noted"]["parameters"]
        if isinstance(space[name], bool)
    }
    assert found == set(BOOLEANS) == {"attention", "chat", "forced_first", "half", "packing", "votes"}


@pytest.mark.parametrize("notebook", BOOKS)
def test_every_boolean_of_every_notebook_means_what_it_says(started, notebook):
    space, check = started[notebook]
    for name in set(names_of(started, notebook)) & set(BOOLEANS):
        for word, meant in YES_AND_NO.items():
            for value in (*any_case(word), meant):
                after = space | {name: value}
                exec(check, after)
                assert after[name] is meant and after["parameters"][name] is meant, (name, value)


@pytest.mark.parametrize("notebook", BOOKS)
def test_what_is_no_boolean_is_refused(started, notebook):
    wrong = [
        0,
        1,
        0.0,
        1.0,
        "0",
        "1",
        "on",
        "off",
        "t",
        "f",
        "y",
        "n",
        "none",
        "None",
        None,
        "",
        "tru",
        "true ",
        "truefalse",
        "not true",
        "falſe",
        [],
        [False],
        {},
        float("nan"),
    ]
    for name in set(names_of(started, notebook)) & set(BOOLEANS):
        for value in wrong:
            said = answer(started, notebook, **{name: value})
            assert said and said.startswith(f"{name} must be True or False, got "), (name, value, said)


@pytest.mark.parametrize(
    "word, meant", [("false", False), ("No", False), ("FALSE", False), ("true", True), ("yes", True)]
)
def test_papermill_passes_texts_and_they_mean_what_they_say(word, meant):
    "As `papermill -p votes false` and `-r votes false` build the cell that is run"
    for value in (_resolve_type(word), word):
        book = parameterize_notebook(
            load_notebook_node(str(ROOT / "nbs" / "04_demux.ipynb")), dict(votes=value)
        )
        before, check = cells_to_the_check(book)
        space = {"__name__": "__main__"}
        for source in (*before, check):
            exec(compile(source, "04_demux", "exec"), space)
        assert space["votes"] is meant and space["parameters"]["votes"] is meant


def test_booleans_of_backends_are_no_texts():
    for name, kinds in BACKEND_OPTIONS.items():
        if not any(isinstance(kind, Flag) for kind in kinds.kinds):
            continue
        for word in YES_AND_NO:
            with pytest.raises(
                ValueError, match=f"^backend_options: {name} must be True or False, got '{word}'$"
            ):
                check_parameter("backend_options", {name: word})


def test_a_sweep_plans_the_same_jobs_for_false_and_its_text(tmp_path):
    ids = []
    for votes in ("false", "'No'", "'FALSE'"):
        (tmp_path / "grid.yaml").write_text(f"jobs: {{04_demux: {{parameters: {{votes: {votes}}}}}}}")
        (job,) = plan(read_grid(tmp_path / "grid.yaml"))
        assert job.parameters["votes"] is False
        ids.append(job.id)
    assert len(set(ids)) == 1


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(
        ["last", "3", "cpu", "hard", "dev+test", "a,b", "+order5", "json", "/dev/zero", "/", "~", "https://x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.integers()
            | st.sampled_from(["trust_remote_code", "base_url", "preprocess", "max_length"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(sorted(PARAMETERS)), st.sampled_from([None, *BOOKS]), ANY)
def test_nothing_but_one_line_whatever_is_given(name, notebook, value):
    try:
        assert (
            check_parameter(name, value, notebook) is value
            or name in BOOLEANS
            and str(value).lower() in YES_AND_NO
        )
    except ValueError as error:
        assert name in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 700


RIGHT = {  # values that people use
    "dataset": ["GoEmotions", "go.csv", "cornell-movie-review-data/rotten_tomatoes", Path("a.csv")],
    "data_dir": [None, ".", Path(".")],
    "options": [
        None,
        {},
        {"clustering": "none"},
        {"preprocess": {"domain": "twitter", "steps": ["url"]}},
        {"label_names": ["a", "b"], "separator": " "},
    ],
    "split": ["train", "dev+test"],
    "demo_split": ["dev"],
    "dev_split": ["train"],
    "train_split": ["train+dev"],
    "train_demo_split": ["test", "same"],
    "test_ids": [None, "ids.txt", ["a", 7]],
    "n_docs": [None, 1, 10**6],
    "n_train": [None, 10],
    "n_dev": [0, 200],
    "model": ["tiny", "small"],
    "backend": ["hf"],
    "backend_options": [None, {"max_length": 512}],
    "gpu": [None, -1, "cpu", "CPU", "auto"],
    "quantization": [None, "4bit", "8bit"],
    "dtype": ["auto", "float32", "bfloat16", "float16"],
    "encoder": ["minilm"],
    "seed": [0, 2**32 - 1],
    "output_dir": [None, "new/folder", Path("x")],
    "shots": [0, 10, 500],
    "ratio": [0, 1, 0.5],
    "nearest": ["first"],
    "sampling": [None, "random"],
    "demos_per": ["document"],
    "demo_labels": ["gold", "outputs/x", {"labels": "random", "seed": 1}],
    "template": ["config", "my.yaml", {"example": "{text}: {label}"}],
    "chat": [True, False],
    "cot": [None, "cot.csv", {"file": "cot.csv", "randomize": True}],
    "label_format": ["json-emotions", "\n{label}; {label}"],
    "chat_options": [None, {"enable_thinking": False}],
    "label_order": ["shuffled"],
    "label_scoring": ["sequence"],
    "decoding": ["constrained"],
    "max_new_tokens": [1, 4096],
    "match_unknown": [None, "sentence-transformers/all-mpnet-base-v2"],
    "methods": [None, "paper", "unary+order5+platt, hard"],
    "calibrations": [None, "platt,isotonic"],
    "thresholds": [None, "global", "global, per_label"],
    "mass": [0.5, 1, 0.999],
    "forced_first": [True],
    "traces": [None, "outputs/run"],
    "join": [None, "a.parquet, b"],
    "layers": ["all", "last", 3, -1, [0, 2, -1]],
    "n_steps": [1, 20],
    "half": [False],
    "attention": [False],
    "recipe": ["paper"],
    "runs": [None, "a,b"],
    "datasets": [None, "GoEmotions,SemEval"],
    "models": [None, "tiny"],
    "figures": [None, "figure2,table4"],
    "kind": ["box"],
    "trained": [None, "model", "me/demux"],
    "votes": [True],
    "pooling": ["max"],
    "intra": [0, 0.2],
    "epochs": [0.5, 3, 100],
    "patience": [1],
    "metric": ["micro_f1"],
    "batch_size": [1, 64],
    "learning_rate": [2e-5, 1],
    "warmup": [0, 0.1],
    "max_length": [64, 8192],
    "push_to_hub": [None, "me/demux-goemotions"],
    "tuning": ["full"],
    "loss": ["all"],
    "accumulate": [4],
    "lora_r": [8, 256],
    "lora_alpha": [16, 0.5],
    "lora_dropout": [0],
    "packing": [True],
    "rl_steps": [0, 50],
    "rl_learning_rate": [1e-6],
    "rl_group": [4],
    "size": ["small"],
    "start": [None, str(ROOT / "mlcllm" / "models" / "tiny")],
    "tokens_per_step": [512],
    "label_sets": ["gold", "gold,random", "distribution"],
    "unreasonable": [0, 0.5, 1],
    "mode": ["random", "distribution"],
    "answers": ["reasonable", "yes"],
    "lm_weight": [0],
    "word_dropout": [0, 1],
    "dropout": [0],
    "alone": [1],
    "taught": [0.5],
}
RIGHT_IN = {
    ("01_stepwise_logits", "ratio"): [[0, 0.2, 1.0]],
    ("04_demux", "encoder"): [None],
    ("04_demux", "learning_rate"): [None],
    ("04a_sft", "learning_rate"): [None],
}


@pytest.mark.parametrize("notebook", BOOKS)
def test_values_that_people_use_are_taken(started, notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in names_of(started, notebook):
        right = RIGHT[name] + RIGHT_IN.get((notebook, name), [])
        if (notebook, name) == ("04a_sft", "dtype"):
            right = [v for v in right if v != "float16"]  # nothing is trained in it
        for value in right:
            assert answer(started, notebook, **{name: value}) is None, (name, value)


WRONG = [  # parameter, value, what the line says besides
    (
        "methods",
        3,
        "names joined by ',' or None, got 3; with papermill, -r methods 3 passes a number on as a text",
    ),
    ("methods", ["hard"], "got ['hard']"),
    (
        "methods",
        "unary+order1000000",
        "'unary+order1000000' asks with 1000000 label orders, at most 1,000 make sense",
    ),
    ("calibrations", 0.5, "got 0.5"),
    ("thresholds", "golbal", "did you mean 'global'?"),
    ("thresholds", True, "got True"),
    ("join", ["a"], "got ['a']"),
    ("traces", 20240101, "the folder of a run or None, got 20240101"),
    ("runs", {}, "got {}"),
    ("figures", 2, "got 2"),
    ("datasets", ["demo"], "names joined by ','"),
    ("dataset", 5, "a name or a path (text), got 5"),
    ("dataset", None, "got None"),
    ("template", 1, "a name or a path (text) or a table of settings (name: value), got 1"),
    ("options", "clustering", "a table of settings"),
    ("backend_options", ["a"], "a table of settings"),
    ("output_dir", 3, "the path of a folder or None, got 3"),
    ("epochs", 0, "above 0, got 0"),
    ("epochs", -1, "above 0, got -1"),
    ("epochs", "three", "above 0, got 'three'"),
    ("learning_rate", "fast", "a number above 0 or None, got 'fast'"),
    ("learning_rate", 0, "above 0, got 0"),
    ("learning_rate", 5.0, "from 0 to 1"),
    ("warmup", None, "a number from 0 to 1, got None"),
    ("seed", "x", "a whole number of at least 0, got 'x'"),
    ("seed", 2**32, "at most 4,294,967,295"),
    ("max_length", 512.0, "got 512.0"),
    ("lora_r", 10**6, "at most 8,192"),
    ("lora_r", 0, "at least 1, got 0"),
    ("shots", 10**9, "at most 10,000"),
    ("shots", 2.5, "a whole number of at least 0, got 2.5"),
    ("ratio", [0.5, 2], "got [0.5, 2]"),
    ("split", "dev+trian", "did you mean 'train'?"),
    ("demo_split", "tran", "unknown demo_split 'tran'; did you mean 'train'?"),
    ("dtype", "flaot16", "unknown dtype 'flaot16'; did you mean 'float16'?"),
    ("quantization", 4, "one of 4bit, 8bit or None, got 4"),
    ("chat", "off", "True or False, got 'off'"),
    ("votes", 1, "True or False, got 1"),
    ("methods", "unary+order5+order3", "has two numbers of label orders"),
    ("thresholds", "global,global", "names something twice"),
    ("split", "dev+dev", "names something twice"),
    *(
        (
            "backend_options",
            {"trust_remote_code": v},
            f"backend_options: trust_remote_code must be True or False, got {v!r}",
        )
        for v in ("false", "no", "False", 0, 1, None, [])
    ),
    ("backend_options", {"base_url": 3}, "an address such as http://localhost:8000/v1 or None, got 3"),
    ("backend_options", {"base_url": "localhost:8000"}, "an address such as"),
    ("backend_options", {"timeout": "60"}, "timeout must be a number above 0, got '60'"),
    (
        "backend_options",
        {"tensor_parallel_size": 2.0},
        "tensor_parallel_size must be a whole number of at least 1, got 2.0",
    ),
    ("backend_options", {"max_length": float("nan")}, "max_length"),
    ("backend_options", {"cache": 3}, "True or False, the path of a file or None, got 3"),
    (
        "options",
        {"preprocess": 3},
        "options: preprocess must be a text, a table of settings (name: value) or None, got 3",
    ),
    (
        "options",
        {"preprocess": {"domain": "twitter", "steps": 3}},
        "options: preprocess: steps must be a list (each a text) or None, got 3",
    ),
    ("options", {"preprocess": {"domain": "twitter", "without": "url"}}, "without must be a list"),
    ("options", {"preprocess": {"domain": "twitter", "steps": [1]}}, "steps, value 1 must be a text, got 1"),
    ("gpu", "cuda:0", "'cpu', 'auto' or a GPU's number, got 'cuda:0'"),
    ("layers", "lst", "did you mean 'last'?"),
    ("layers", [True], "value 1 must be"),
    ("push_to_hub", "a b", "a Hub repository such as"),
    ("label_order", "shufled", "did you mean 'shuffled'?"),
]


@pytest.mark.parametrize("name, value, says", WRONG, ids=[f"{n}-{k}" for k, (n, *_) in enumerate(WRONG)])
def test_what_is_wrong_and_what_would_be_right(name, value, says):
    with pytest.raises(ValueError) as refused:
        check_parameter(name, value)
    assert name in str(refused.value) and says in str(refused.value)


@pytest.mark.parametrize(
    "name, words",
    [
        ("sampling", demos.SAMPLINGS),
        ("demos_per", demos.DEMOS_PER),
        ("nearest", demos.NEAREST),
        ("label_order", prompts.LABEL_ORDERS),
        ("label_scoring", stepwise_logits.LABEL_SCORINGS),
        ("decoding", stepwise_logits.DECODINGS),
        ("backend", engines.BACKENDS),
        ("dtype", engines.DTYPES),
        ("quantization", engines.QUANTIZATIONS),
        ("pooling", demux.POOLINGS),
        ("metric", demux.DEV_METRICS),
        ("tuning", sft.TUNINGS),
        ("loss", sft.LOSSES),
        ("recipe", probing.RECIPES),
        ("size", tuple(tiny.SIZES)),
        ("split", data.SPLITS),
    ],
)
def test_words_of_the_table_are_those_of_the_chapters(name, words):
    kind = PARAMETERS[name].kinds[0]
    assert set(kind.words) == set(words) - {None} and (
        PARAMETERS[name].none == (None in words) or name == "sampling"
    )


def test_places_that_cannot_be_read_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("file").write_text("x")
    Path("folder").mkdir()
    for name in (
        "dataset",
        "model",
        "encoder",
        "template",
        "demo_labels",
        "cot",
        "test_ids",
        "traces",
        "join",
        "runs",
        "start",
        "trained",
        "data_dir",
    ):
        with pytest.raises(ValueError, match=f"^{name}: 'pipe' is neither a regular file nor a folder$"):
            check_parameter(name, "pipe")
    for name, there, wanted in (
        ("cot", "folder", "a file is needed"),
        ("traces", "file", "a folder is needed"),
        ("data_dir", "file", "a folder is needed"),
        ("runs", "folder,file", "a folder is needed"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: .*{wanted}$"):
            check_parameter(name, there)
    for there in ("file", "file/below", "file/below/that"):
        with pytest.raises(ValueError, match="^output_dir: .*file' is a file, and a folder is needed there$"):
            check_parameter("output_dir", there)
    with pytest.raises(ValueError, match="pipe' is a file"):
        check_parameter("output_dir", "pipe/below")
    assert check_parameter("output_dir", "folder/new/er") and not Path("folder/new").exists()


def test_places_without_the_right_to_read_or_write(tmp_path, monkeypatch):  # for root everything is allowed
    monkeypatch.setattr(os, "access", lambda path, how: False)
    with pytest.raises(ValueError, match="^output_dir: nothing may be written to"):
        check_parameter("output_dir", str(tmp_path / "new"))
    with pytest.raises(ValueError, match="^data_dir: .* may not be read by this user"):
        check_parameter("data_dir", str(tmp_path))


def test_options_of_backends_are_those_of_the_backends():
    known = set(engines.HF_OPTIONS) | set(vllm_engine.VLLM_OPTIONS) | set(openai_engine.OPTIONS)
    assert set(BACKEND_OPTIONS) == known
    for options in (engines.HF_OPTIONS, vllm_engine.VLLM_OPTIONS, openai_engine.OPTIONS):
        check_parameter("backend_options", options)  # the defaults are right


CHAPTERS = [  # notebook, what the table takes and a chapter must refuse, what the line says
    ("01_stepwise_logits", dict(template="pipelin"), "did you mean 'pipeline'?"),
    ("01_stepwise_logits", dict(template={"exmple": "x"}), "did you mean 'example'?"),
    ("01_stepwise_logits", dict(template={"example": 3}), "must be a text"),
    ("01_stepwise_logits", dict(label_format="jsno"), "did you mean 'json'?"),
    ("01_stepwise_logits", dict(label_format="{label}"), "two {label} slots"),
    ("01_stepwise_logits", dict(demo_labels="glod"), "did you mean 'gold'?"),
    ("01_stepwise_logits", dict(options={"preprocess": "twiter"}), "did you mean 'twitter'?"),
    ("01_stepwise_logits", dict(options={"annotators": 3}), "unknown option annotators 3"),
    ("01_stepwise_logits", dict(options={"min_annotators": 10**9}), "no document has"),
    ("01_stepwise_logits", dict(shots=10_000), "ask for fewer (papermill: -p shots 135)"),
    ("01_stepwise_logits", dict(max_new_tokens=100_000), "the model's context holds 2048"),
    ("01_stepwise_logits", dict(ratio=[0.5, 0.5]), "must differ"),
    ("01_stepwise_logits", dict(test_ids=["x"]), "are not in demo test"),
    ("01_stepwise_logits", dict(backend_options={"max_lenght": 3}), "did you mean 'max_length'?"),
    ("01_stepwise_logits", dict(backend_options={"trust_remote_code": "false"}), "must be True or False"),
    ("01_stepwise_logits", dict(dataset="dem"), "did you mean 'demo'?"),
    ("01_stepwise_logits", dict(model="tin"), "did you mean 'tiny'?"),
    ("02_alignment", dict(methods="hrad"), "did you mean 'hard'?"),
    (
        "02_alignment",
        dict(
            methods=",",
        ),
        "methods is empty",
    ),
    ("02_alignment", dict(calibrations="plat"), "did you mean 'platt'?"),
    ("02_alignment", dict(methods="hard", calibrations="platt", n_dev=0), "leaves no document to fit"),
    (
        "02_alignment",
        dict(methods="hard", n_dev=3),
        "n_dev=3 leaves 3 documents of dev to fit thresholds='global'",
    ),
    (
        "02_alignment",
        dict(methods="hard", thresholds=None, calibrations="platt", n_dev=4),
        "calibrations='platt'",
    ),
    ("04_demux", dict(push_to_hub="me/nothing"), "push_to_hub='me/nothing': the Hub cannot be reached"),
    ("04a_sft", dict(push_to_hub="me/nothing"), "push_to_hub='me/nothing': the Hub cannot be reached"),
    ("02_alignment", dict(traces="nowhere"), "no run in nowhere"),
    ("02_alignment", dict(join="nowhere"), "no table of estimates"),
    ("02_alignment", dict(methods="unary+order0"), "from 1 to 1000, got 0"),
    ("03_probing", dict(layers=99), "layer 99 does not exist"),
    ("03_probing", dict(layers=[0, -99]), "layer -99 does not exist"),
    ("03_probing", dict(backend="openai"), "shows no hidden states"),
    ("03_probing", dict(train_split="test"), "trained on and scored as well"),
    ("04_demux", dict(max_length=8), "set max_length to"),
    ("04_demux", dict(max_length=10**6), "has 512 positions"),
    ("04_demux", dict(encoder="nowhere/at/all"), "nowhere/at/all"),
    ("04_demux", dict(trained="./nowhere"), "no trained Demux model"),
    ("04_demux", dict(dev_split="train"), "used to stop as well"),
    ("04a_sft", dict(max_length=8), "raise max_length"),
    ("04a_sft", dict(train_split="test"), "trained on and asked about as well"),
    ("04a_sft", dict(quantization="4bit"), "trains on a GPU only"),
    ("05_figures", dict(runs="nowhere"), "there is no such folder of runs"),
    ("05_figures", dict(figures="figure99"), "unknown figure 'figure99'"),
    ("05a_step_viewer", dict(traces="nowhere"), "nowhere"),
]


@pytest.mark.parametrize(
    "notebook, params, says", CHAPTERS, ids=[f"{n[:3]}-{k}" for k, (n, *_) in enumerate(CHAPTERS)]
)
def test_what_the_table_leaves_to_the_chapters(tmp_path, notebook, params, says):
    said = refusal(notebook, tmp_path, **params)
    assert (
        says in said
        and len(said.splitlines()) == 1
        and len(said) < 800
        and not list((tmp_path).glob("runs/*/*/*/*/chunks/*"))
    )


def test_one_method_alone_is_a_run(tmp_path):
    run_short("02_alignment", tmp_path, methods="hard", n_docs=6, n_dev=0)
    (record,) = (json.loads(p.read_text()) for p in tmp_path.glob("runs/02_alignment/*/*/*/run.json"))
    assert record["status"] == "done"
