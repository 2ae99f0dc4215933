"The shape of the repository: notebooks, exports, imports and parameter files fit together."

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").glob("0*.ipynb"))
ALL_NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
BIN = Path(sys.executable).parent


def parameter_cells(path):
    return [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]


def parameter_names(path):
    return {
        t.id
        for c in parameter_cells(path)
        for node in ast.parse(c.source).body
        if isinstance(node, ast.Assign)
        for t in node.targets
    } - {"noted"}


def module_of(path):
    first = next(c.source for c in nbformat.read(path, 4).cells if "default_exp" in c.source)
    return re.search(r"default_exp (\w+)", first)[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the repository in which nbdev may write"
    target = tmp_path_factory.mktemp("repo") / "mlcllm"
    shutil.copytree(
        ROOT,
        target,
        symlinks=True,
        ignore=shutil.ignore_patterns(".git", ".venv*", "outputs", "_proc", "_docs", "models", "*.egg-info"),
    )
    return target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_a_kernel(path):
    assert nbformat.read(path, 4).metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", ["00_data", "00m_tiny", "01_stepwise_logits", "02_alignment"])
def test_run_notebooks_have_one_parameters_cell(name):
    assert len(parameter_cells(ROOT / "nbs" / f"{name}.ipynb")) == 1


def test_tags_and_kernels_survive_cleaning(copy):
    before = {
        p.name: (len(parameter_cells(p)), nbformat.read(p, 4).metadata.kernelspec.name) for p in NOTEBOOKS
    }
    subprocess.run([BIN / "nbdev_clean"], cwd=copy, check=True, capture_output=True)
    after = {
        p.name: (len(parameter_cells(p)), nbformat.read(p, 4).metadata.kernelspec.name)
        for p in sorted((copy / "nbs").glob("0*.ipynb"))
    }
    assert after == before


def test_committed_notebooks_are_clean(copy):
    subprocess.run([BIN / "nbdev_clean"], cwd=copy, check=True, capture_output=True)
    assert [p.name for p in NOTEBOOKS if p.read_text() != (copy / "nbs" / p.name).read_text()] == []


def test_exports_are_in_sync(copy):
    subprocess.run([BIN / "nbdev_export"], cwd=copy, check=True, capture_output=True)
    differ = [
        p.name
        for p in sorted((ROOT / "mlcllm").glob("*.py"))
        if p.read_text() != (copy / "mlcllm" / p.name).read_text()
    ]
    assert differ == [], f"edit the notebook, then run nbdev_export: {differ}"


def test_imports_go_one_way():
    order, found = {module_of(p): p.stem for p in NOTEBOOKS}, 0
    for path in NOTEBOOKS:
        for imported in re.findall(
            r"^\s*from \.(\w+) import", (ROOT / "mlcllm" / f"{module_of(path)}.py").read_text(), re.M
        ):
            found += 1
            assert order[imported] < path.stem, f"{path.stem} imports {imported}, which comes later"
    assert found > len(NOTEBOOKS)


@pytest.mark.parametrize(
    "path",
    sorted(p for p in (ROOT / "params").glob("*/*.yaml") if p.parent.name != "slurm"),
    ids=lambda p: p.stem,
)
def test_parameter_files_name_only_parameters(path):
    given = yaml.safe_load(path.read_text())
    for notebook in {
        "tables": ["03_probing"] if path.stem == "figure7" else ["02_alignment"],
        "demux": ["04_demux"],
        "sft": ["04a_sft"],
    }.get(path.parent.name, ["01_stepwise_logits", "02_alignment", "03_probing"]):
        known = parameter_names(ROOT / "nbs" / f"{notebook}.ipynb")
        assert given and set(given) <= known, f"unknown in {notebook}: {set(given) - known}"


def test_every_extra_can_be_installed():
    named = set(re.findall(r"^(\w+)_requirements", (ROOT / "settings.ini").read_text(), re.M))
    known = set(re.findall(r'"(\w+)"', re.search(r"EXTRAS = \((.*?)\)", (ROOT / "setup.py").read_text())[1]))
    asked = set(re.findall(r"mlcllm\[(\w+)\]", (ROOT / "settings.ini").read_text()))
    assert asked | {"dev"} <= known == named


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if parameter_cells(p)], ids=lambda p: p.stem)
def test_no_cell_changes_a_parameter(path):
    names, behind = parameter_names(path), False
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code" and behind:
            tree = ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.M))
            inner = {
                id(n)
                for f in ast.walk(tree)
                if isinstance(
                    f,
                    (
                        ast.FunctionDef,
                        ast.Lambda,
                        ast.ClassDef,
                        ast.ListComp,
                        ast.SetComp,
                        ast.DictComp,
                        ast.GeneratorExp,
                    ),
                )
                for n in ast.walk(f)
            }
            stored = {
                n.id
                for n in ast.walk(tree)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in inner
            }
            assert not stored & names, f"{stored & names} is set again in: {cell.source[:200]}"
        behind = behind or "parameters" in cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda p: p.stem)
def test_imports_stand_in_cells_of_their_own(path):
    "nbdev runs every cell with an import when it makes the site, and nothing of what such a cell may need"
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code" or re.search(r"^#\|\s*(export|default_exp)", cell.source, re.M):
            continue
        tree = ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.M))
        imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not imports or all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body), (
            cell.source[:200]
        )


@pytest.mark.parametrize("path", ALL_NOTEBOOKS, ids=lambda p: p.stem)
def test_a_chapter_has_at_most_60_cells(path):
    assert len(nbformat.read(path, 4).cells) <= 60


@pytest.mark.parametrize("path", ALL_NOTEBOOKS, ids=lambda p: p.stem)
def test_options_of_cells_are_yaml(path):  # Quarto reads them so, and stops at one that is not
    for cell in nbformat.read(path, 4).cells:
        for line in re.findall(r"^#\| (\S+: .*)$", cell.source, re.M):
            (value,) = yaml.safe_load(line).values()
            assert isinstance(value, (str, bool)), line


def test_nothing_of_this_machine_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = [
        ROOT / f
        for f in tracked.stdout.split()
        if Path(f).suffix in (".py", ".ipynb", ".md", ".ini", ".yml", ".yaml", ".json", ".cff")
        or Path(f).name in ("Makefile", "run")
    ]
    pattern = re.compile(r"/(root|home|work|tmp)/\w|\bpypi\.o[r]g|file:/{3}")
    hits = [
        f"{f.relative_to(ROOT)}: {m[0]}"
        for f in files
        if f.exists() and f.name != "tokenizer.json"
        for m in [pattern.search(f.read_text(encoding="utf-8"))]
        if m
    ]
    assert hits == []
    assert not [f for f in files if f.suffix == ".py" and f.parent.name == "nbs"], (
        "a notebook's .py twin is committed"
    )
