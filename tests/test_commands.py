"""The two command lines: what is wrong is said in one line, and the exit status is not 0. Nothing is run
here.
"""

import json
import os

import pytest
import yaml

from mlcllm import interchange, runs, sweeps

GRID = dict(
    datasets=["demo"], models=["tiny"], seeds=[0], parameters=dict(n_docs=6), jobs={"01_stepwise_logits": {}}
)


def refused(main, args, capsys):  # the one line
    try:
        code = main([str(a) for a in args])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert code not in (0, None) and not said.out.strip(), (code, said.out[-500:])
    assert len(said.err.strip().splitlines()) == 1 and len(said.err) < 1200, said.err[-2000:]
    return said.err


@pytest.mark.parametrize("main", [sweeps.main, interchange.main])
@pytest.mark.parametrize(
    "args",
    [
        [],
        ["rnu"],
        ["run"],
        ["plan"],
        [""],
        ["--nonsense"],
        ["to-csv"],
        ["to-csv", "a"],
        ["to-csv", "a", "b", "c"],
        ["job"],
        ["job", "x"],
        ["compare", "x"],
        ["run", "x", "--core", "two"],
        ["run", "x", "--cores", "2.5"],
    ],
)
def test_wrong_arguments(main, args, capsys):
    assert "--help shows what there is" in refused(main, args, capsys)


FILES = [  # content of a grid, what the line says
    ("", "it is empty"),
    ("   \n", "it is empty"),
    ("- a\n- b\n", "must hold settings (name: value), it holds ['a', 'b']"),
    ("just text", "it holds 'just text'"),
    ("3", "it holds 3"),
    ("null", "must hold settings"),
    ("jobs: [", "is no YAML"),
    ("a: b: c", "is no YAML"),
    ("\tjobs: {}", "is no YAML"),
    ("x: !!python/object/apply:os.system [ls]", "is no YAML"),
    ("jobs: &a [*a]", "nested more than 20 levels"),
    ("[" * 20_000, "nested too deep"),
    ("x: \x00", "is no YAML"),
    ("jobs: {01_stepwise_logits: {}}\njobs: {02_alignment: {}}", "'jobs' stands twice in one table"),
    ("jobs: {01_stepwise_logits: {parameters: {shots: 3, shots: 4}}}", "'shots' stands twice"),
    ("x: 2020-13-45\n", "is no YAML"),
    (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{c}: &{c} [{', '.join(['*' + chr(ord(c) - 1)] * 9)}]" for c in "bcdefghijkl"),
        "holds more than 100,000 values",
    ),
    ("seeds: &a [*a]\njobs: {01_stepwise_logits: {}}", "nested more than 20 levels"),
    ("jobs: {01_stepwise_logits: {}}\nseeds: " + "[" * 30 + "]" * 30, "nested more than 20 levels"),
    (b"\xff\xfea\x00", "is not UTF-8"),
    (b"jobs: {caf\xe9: {}}", "is not UTF-8"),
]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("content, says", FILES, ids=range(len(FILES)))
def test_files_that_are_no_grid(tmp_path, content, says, command, capsys):
    path = tmp_path / "grid.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert (
        says in refused(sweeps.main, [command, path, "--output-dir", tmp_path / "out"], capsys)
        and not (tmp_path / "out").exists()
    )


def test_places_that_are_no_grid(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for there, says in (
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "it is no regular file"),
        (os.devnull, "it is no regular file"),
        (tmp_path / "none.yaml", "there is no such file"),
        ("x" * 300, "cannot be looked up"),
        ("a\0b", "cannot be looked up"),
        ("", "cannot be read"),
    ):
        for command in ("run", "plan"):
            assert says in refused(sweeps.main, [command, there], capsys)


GRIDS = [  # what is changed in a right grid, what the line says
    (dict(model=["tiny"]), "did you mean 'models'"),
    (dict(models="tiny"), "models must be a list of names"),
    (dict(models=3), "models must be"),
    (dict(models={"tiny": 3}), "models must be"),
    (dict(datasets={}), "datasets must be"),
    (dict(datasets=[["demo"]]), "unknown"),
    (dict(seeds=0), "seeds must be a list"),
    (dict(seeds=["0"]), "seeds must be a list"),
    (dict(seeds=[True]), "seeds must be a list"),
    (dict(seeds=[0.5]), "seeds must be a list"),
    (dict(seeds=[-1]), "seed must be a whole number of at least 0, got -1"),
    (dict(seeds=[]), "seeds must be"),
    (dict(parameters=["n_docs"]), "parameters must be a table"),
    (dict(parameters="x"), "parameters must be a table"),
    (dict(parameters=3), "parameters must be a table"),
    (dict(parameters=dict(n_dcos=3)), "did you mean 'n_docs'"),
    (dict(output_dir=3), "output_dir must be the path of a folder"),
    (dict(output_dir=[1]), "output_dir must be"),
    (dict(jobs=["01_stepwise_logits"]), "jobs must be a table"),
    (dict(jobs={"01_stepwise_logits": 3}), "must be a table of settings"),
    (dict(jobs={1: {}}), "unknown notebook '1'"),
    (dict(jobs={"x": {"notebook": 3}}), "notebook must be a name"),
    (dict(jobs={"01_stepwise_logits": {"gpus": -1}}), "gpus of job 01_stepwise_logits"),
    (dict(jobs={"01_stepwise_logits": {"gpus": True}}), "gpus of job"),
    (dict(models={"tiny": {"gpus": -1}}), "model tiny"),
    (dict(models={"tiny": {"gpus": 1e30}}), "model tiny"),
    (dict(jobs={"01_stepwise_logits": {"files": [3]}}), "files must be a list of paths"),
    (dict(jobs={"01_stepwise_logits": {"files": ["none.yaml"]}}), "there is no such file"),
    (dict(jobs={"01_stepwise_logits": {"vary": {"shots": 3}}}), "vary shots must be a list of values"),
    (dict(jobs={"01_stepwise_logits": {"join": [3]}}), "unknown job that"),
    *(
        (dict(parameters={k: v}), f"job 01_stepwise_logits: {k} ")
        for k, v in [
            ("n_docs", "six"),
            ("n_docs", 0),
            ("shots", -1),
            ("shots", 10**9),
            ("ratio", "half"),
            ("chat", "maybe"),
            ("label_format", 3),
            ("template", [1]),
            ("max_new_tokens", float("nan")),
            ("options", "x"),
            ("test_ids", 3),
        ]
    ),
    (
        dict(parameters=dict(backend_options={"trust_remote_code": "no"})),
        "backend_options: trust_remote_code must be True or False, got 'no'",
    ),
    (dict(parameters=dict(dtype="flaot16")), "did you mean 'float16'?"),
    (dict(jobs={"02_alignment": {"parameters": {"methods": 3}}}), "job 02_alignment: methods must be names"),
    (dict(jobs={"02_alignment": {"vary": {"mass": [0.5, "x"]}}}), "job 02_alignment: mass must be a number"),
    (
        dict(jobs={"04_demux": {"parameters": {"epochs": 0}}}),
        "job 04_demux: epochs must be a number above 0, got 0",
    ),
    (dict(models={"tiny": {"dtype": 16}}), "job 01_stepwise_logits: dtype must be"),
    (dict(datasets={"demo": {"split": "tets"}}), "unknown split 'tets'; did you mean 'test'?"),
]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("changes, says", GRIDS, ids=range(len(GRIDS)))
def test_grids_with_a_wrong_value(tmp_path, changes, says, command, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID | changes))
    assert (
        says in refused(sweeps.main, [command, path, "--output-dir", tmp_path / "out"], capsys)
        and not (tmp_path / "out").exists()
    )


def test_other_arguments_of_sweeps(tmp_path, capsys):
    path, file = tmp_path / "grid.yaml", tmp_path / "file"
    path.write_text(yaml.safe_dump(GRID))
    file.write_text("x")
    out = ("--output-dir", tmp_path / "out")
    for args, says in [
        (["run", path, "--cores", 0, *out], "--cores must be a whole number from 1 to 10000, got 0"),
        (["run", path, "--cores", -2, *out], "--cores must be"),
        (["run", path, "--executor", "slrum", *out], "did you mean 'slurm'?"),
        (["run", path, "--output-dir", file], "is a file, and a folder is needed there"),
        (["run", path, "--output-dir", ""], "output_dir is blank"),
        (["plan", path, "--output-dir", file / "x"], "is a file, and a folder is needed there"),
        (["run", path, "--data", file, *out], "there is no folder"),
        (["plan", path, "--data", tmp_path / "none", *out], "there is no folder"),
        (["plan", path, "--gpu", "H1000", *out], "unknown GPU 'H1000'; did you mean 'H100'?"),
        (["status", file], "is no folder of runs"),
        (["clean-failed", file], "is no folder of runs"),
        (["job", tmp_path, "x"], "unknown job 'x': there is none to choose from"),
        (["compare", tmp_path, file], "it has no run.json"),
        (["compare", "", ""], "it has no run.json"),
    ]:
        assert says in refused(sweeps.main, args, capsys), args


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "3",
        '{"jobs"',
        "{}",
        '{"jobs": 3}',
        '{"jobs": [3]}',
        '{"jobs": [{}]}',
        '{"jobs": [{"takes": 3}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_plan(tmp_path, text, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "plan.json").write_text(text)
    for args in (["status", tmp_path], ["job", tmp_path, "x"]):
        assert "plan.json" in refused(sweeps.main, args, capsys)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "3",
        '{"a": 1',
        "{}",
        '{"folder": 3}',
        '{"folder": "x"}',
        *["[" * 100_000] * hasattr(runs, "read_record"),
    ],
)
def test_damaged_markers_and_records_count_as_not_done(tmp_path, text):
    for place in ("sweep/done/x.json", "n/d/m/r/run.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    assert (
        sweeps.finished_folder(tmp_path, "x") is None
        and sweeps.run_states(tmp_path).problem.str.contains("cannot be read|another version").all()
    )


RECORDS = [
    "",
    "[1]",
    "3",
    '{"a": 1',
    "{}",
    "[" * 100_000,
    json.dumps(dict(notebook="01_stepwise_logits", status="done", parameters=[], labels=[], fingerprint={})),
]


@pytest.mark.skipif(not hasattr(runs, "read_record"), reason="records are read by runs.read_record")
@pytest.mark.parametrize("text", RECORDS, ids=range(len(RECORDS)))
def test_runs_that_are_none(tmp_path, text, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(text)
    assert "run.json" in refused(
        interchange.main, ["to-logs", run, tmp_path / "logs"], capsys
    ) and "run.json" in refused(sweeps.main, ["compare", run, run], capsys)


LOGS = [
    "",
    "- a",
    "x",
    "3",
    "a: [",
    "experiment_0: 3",
    "experiment_0: {}",
    "experiment_0: {d1: {}}",
    "experiment_0: {d1: {test_scores: 3}}",
    "experiment_0: {d1: {test_scores: {joy: high}}}",
    "experiment_0: {d1: {test_scores: [3]}}",
    "experiment_0: {d1: {test_all_scores: [{joy: .nan}]}}",
    "experiment_0: {d1: {test_scores: {joy: 0.5}, test_preds: 3}}",
    "experiment_0: {d1: {test_scores: {joy: 0.5}, test_gt: {a: 1}}}",
    "experiment_0: {d1: {test_scores: {joy: -1}}}",
    "{" * 5000,
]


@pytest.mark.parametrize("text", LOGS, ids=range(len(LOGS)))
def test_logs_that_are_none(tmp_path, text, capsys):
    folder = tmp_path / "demo" / "dev" / "baseline" / "tiny_0"
    folder.mkdir(parents=True)
    (folder / "indexed_metrics.yml").write_text(text)
    assert "indexed_metrics.yml" in refused(
        interchange.main, ["from-logs", folder, tmp_path / "runs"], capsys
    )


def test_places_of_exchanges(tmp_path, capsys):
    file, pipe = tmp_path / "file", tmp_path / "logs" / "indexed_metrics.yml"
    file.write_text("x")
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    for args, says in [
        (["to-logs", tmp_path, tmp_path / "x"], "run.json"),
        (["to-logs", "nowhere", tmp_path / "x"], "nowhere"),
        (["to-logs", tmp_path, file], "is a file, and a folder is needed there"),
        (["from-logs", "nowhere", tmp_path], "nowhere"),
        (["from-logs", pipe.parent, tmp_path], "it is no regular file"),
        (["from-logs", tmp_path, file], "is a file"),
        (["to-csv", "nowhere", tmp_path], "there is no table"),
        (["to-csv", tmp_path, file], "is a file"),
        (["card", "nowhere"], "there is no such folder of runs"),
        (["card", file], "is a file"),
        (["card", tmp_path], "no finished run in it"),
    ]:
        assert says in refused(interchange.main, args, capsys), args
    (tmp_path / "docs.parquet").write_text("x")
    assert "docs.parquet" in refused(interchange.main, ["to-csv", tmp_path, tmp_path / "out"], capsys)
