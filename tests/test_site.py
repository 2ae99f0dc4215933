"""The site: its configuration, how it is built, and what its pages hold. Quarto itself is not needed: a
stand-in writes what it would write.
"""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from nbdev.showdoc import show_doc
from stage_site import mend, without_links_in_code
from tidy_notebooks import (
    IMPORTS,
    chapters_used,
    link_names,
    modules,
    notebook_names,
    tidy,
    tidy_outputs,
    under_imports,
    without_bars,
)

ROOT = Path(__file__).resolve().parent.parent
NAMES = notebook_names(ROOT)
MODULES = modules(ROOT)
FEW = [
    "index",
    "contributing",
    "changelog",
    "00_checks",
    "00_data",
]  # enough notebooks to build a site in seconds
QUARTO = """#!{python}
# stands for Quarto: writes a page for each notebook into the output folder, or the file that -o names,
# and notes how it was called
import os, sys
from pathlib import Path
import nbformat, yaml
if sys.argv[1:2] == ["--version"]: sys.exit(print("1.7.34"))
out = Path(yaml.safe_load(Path("_quarto.yml").read_text())["project"].get("output-dir", "_site"))
out.mkdir(exist_ok=True)
if "-o" in sys.argv: (out / sys.argv[sys.argv.index("-o") + 1]).write_text("rendered from a notebook")
else:
    for path in Path(".").glob("*.ipynb"):
        front = yaml.safe_load(nbformat.read(path, 4).cells[0].source.strip("- \\n"))
        (out / front["output-file"]).write_text(front["title"])
with open(os.environ["QUARTO_CALLS"], "a") as calls: print(Path.cwd().name, *sys.argv[1:], file=calls)
"""


def book(name):
    return nbformat.read(ROOT / "nbs" / f"{name}.ipynb", nbformat.NO_CONVERT)


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def git(folder, *args):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository of its own with a few of the notebooks, an environment that make finds ready, and a
    stand-in for Quarto
    """
    place = tmp_path_factory.mktemp("site")
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "outputs", "_*_check", "_proc", "_docs", "models", "*.egg-info", "__pycache__"
    )
    copy = Path(shutil.copytree(ROOT, place / "mlcllm", symlinks=True, ignore=left_out))
    for path in (copy / "nbs").glob("*.ipynb"):
        if path.stem not in FEW:
            path.unlink()
    git(copy, "init", "-q")
    git(copy, "add", "-A")
    git(copy, "commit", "-qm", "all")
    executable(place / "venv" / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (place / "venv" / ".mlcllm-ready").touch()
    executable(place / "bin" / "quarto", QUARTO.format(python=sys.executable))
    return copy


def build(copy, *command):
    "Run a command that makes the site; what Quarto was asked for"
    calls = copy.parent / "calls"
    calls.write_text("")
    path = f"{copy.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | dict(
        PATH=path, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", QUARTO_CALLS=str(calls)
    )
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return calls.read_text().splitlines()


def set_age(copy, readme_is):
    "README.md older or newer than the notebook from which nbdev would render it"
    notebook = copy / "nbs" / "index.ipynb"
    seconds = notebook.stat().st_mtime + dict(older=-1000, newer=1000)[readme_is]
    os.utime(copy / "README.md", (seconds, seconds))


@pytest.mark.parametrize("readme_is", ["older", "newer"])
def test_make_site_writes_pages_and_nothing_else(checkout, readme_is):
    readme = (checkout / "README.md").read_bytes()
    set_age(checkout, readme_is)
    calls = build(checkout, "make", "site", f"VENV={checkout.parent / 'venv'}")
    assert calls == ["_proc render --no-cache"]
    assert (checkout / "README.md").read_bytes() == readme
    assert git(checkout, "status", "--porcelain") == ""
    assert {p.name for p in (checkout / "_docs").glob("*.html")} == {
        "index.html",
        "contributing.html",
        "changelog.html",
        "checks.html",
        "data.html",
    }
    assert (checkout / "_proc" / "styles.css").is_file()


def test_nbdev_docs_leaves_the_readme_alone_too(checkout):
    readme = (checkout / "README.md").read_bytes()
    set_age(checkout, "older")
    calls = build(
        checkout,
        sys.executable,
        "-c",
        "from nbdev.quarto import nbdev_docs; nbdev_docs.__wrapped__(n_workers=2)",
    )
    assert calls == ["_proc render --no-cache"]
    assert (checkout / "README.md").read_bytes() == readme
    assert git(checkout, "status", "--porcelain") == ""
    assert (checkout / "_docs" / "index.html").is_file()


def test_without_quarto_make_site_says_what_is_needed(checkout):
    assert "nbdev_docs" not in (ROOT / ".github" / "workflows" / "site.yaml").read_text()
    place = checkout.parent
    done = subprocess.run(
        ["make", "site", f"VENV={place / 'venv'}", "PATH=/usr/bin:/bin"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    if not shutil.which("quarto", path="/usr/bin:/bin"):
        assert done.returncode and "the site needs Quarto" in done.stdout


def test_configuration_of_the_site():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert config["project"]["output-dir"] == "_docs"
    assert config["website"]["repo-subdir"] == "nbs"
    assert config["author"] == [{"name": {"literal": "The mlcllm authors"}}]
    assert config["citation"]["issued"] == 2026
    assert (ROOT / "nbs" / config["format"]["html"]["css"]).is_file()


def listed(value):
    "Notebooks that a part of _quarto.yml names"
    if isinstance(value, dict):
        return [name for part in value.values() for name in listed(part)]
    if isinstance(value, list):
        return [name for part in value for name in listed(part)]
    return [value.removesuffix(".ipynb")] if isinstance(value, str) and value.endswith(".ipynb") else []


def test_the_sidebar_holds_every_notebook_once():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert sorted(listed(config["website"]["sidebar"])) == NAMES


def test_the_reading_map_holds_every_chapter_and_says_what_the_readme_says():
    row = re.compile(r"^\| \[(\d\w+)\]\((?:nbs/)?(\w+)\.ipynb\) \| (.+) \|$", re.M)
    cells = [cell.source for cell in book("index").cells if cell.cell_type == "markdown"]
    rows = row.findall("\n".join(cells))
    assert [name for name, _, _ in rows] == [name for name in NAMES if name[0].isdigit()]
    assert all(name == target for name, target, _ in rows)
    main = row.findall((ROOT / "README.md").read_text())
    assert len(main) == 6 and set(main) <= set(rows)


def test_sidebar_and_reading_map_have_the_same_sections():
    (map_,) = [cell.source for cell in book("index").cells if cell.source.startswith("## Reading map")]
    parts = re.split(r"^### (.+)$", map_, flags=re.M)[1:]
    shown = {title: re.findall(r"^\| \[(\w+)\]", rows, re.M) for title, rows in zip(parts[::2], parts[1::2])}
    contents = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
    sections = {part["section"]: listed(part) for part in contents if isinstance(part, dict)}
    assert shown == sections and list(shown) == list(sections)


def test_symbols_link_to_their_pages_and_to_their_source(tmp_path):
    "nbdev looks symbols up by the entry point that setup.py gives it"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    code = (
        "from nbdev.doclinks import NbdevLookup as look; print(look().doc('load_docs'), "
        "look().code('load_docs'), look().linkify('see `load_docs`'))"
    )
    environment = os.environ | dict(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    page = "https://mlcllm.github.io/mlcllm/data.html#load_docs"
    line = re.search(r"^def load_docs\(", (ROOT / "mlcllm" / "data.py").read_text(), re.M)
    number = (ROOT / "mlcllm" / "data.py").read_text()[: line.start()].count("\n") + 1
    source = f"https://github.com/mlcllm/mlcllm/blob/main/mlcllm/data.py#L{number}"
    assert done.stdout == f"{page} {source} see [`load_docs`]({page})\n"


def test_links_in_signatures_are_taken_back():
    text = (
        "see [`Run`](https://x.org/runs.html#run)\n\n```python\ndef f(\n    a, # a "
        "[`Run`](https://x.org/runs.html#run)\n):\n```\n"
    )
    assert (
        without_links_in_code(text)
        == text[: text.index("```")] + "```python\ndef f(\n    a, # a `Run`\n):\n```\n"
    )


# names in prose, and what becomes of them
SOME = [
    "00_checks",
    "00_data",
    "00a_runs",
    "00c_demos",
    "00c_prompts",
    "01_stepwise_logits",
    "02_alignment",
    "changelog",
    "index",
]
LINKED = {
    "`01_stepwise_logits`": "[01_stepwise_logits](01_stepwise_logits.ipynb)",
    "`nbs/00_data.ipynb` and 00_data": "[00_data](00_data.ipynb) and [00_data](00_data.ipynb)",
    "| `00a_runs` | a `folder` |": "| [00a_runs](00a_runs.ipynb) | a `folder` |",
    "`00_data →` **here** `→ … → 02_alignment`": "[00_data](00_data.ipynb) → **here** → … → [02_alignment](02_alignment.ipynb)",  # noqa: E501
    "`01 … 02 → outputs/ →` **here**": "[01](01_stepwise_logits.ipynb) … [02](02_alignment.ipynb) → outputs/ → **here**",  # noqa: E501
    "as in 01 (00a), 02.": "as in [01](01_stepwise_logits.ipynb) ([00a](00a_runs.ipynb)), [02](02_alignment.ipynb).",  # noqa: E501
    "`00 … 02 →` **here**": "[00](00_data.ipynb) … [02](02_alignment.ipynb) → **here**",
    "`changelog` has a line": "[changelog](changelog.ipynb) has a line",
    "(EMNLP 2025, arXiv:2505.17510)": "(EMNLP 2025, [arXiv:2505.17510](https://arxiv.org/abs/2505.17510))",
}
LEFT_ALONE = [
    "`papermill nbs/01_stepwise_logits.ipynb out.ipynb -p traces outputs/01_stepwise_logits/demo`",
    "# 01_stepwise_logits",
    "> what 01 says",
    "```bash\npapermill nbs/00_data.ipynb\n01\n```",
    "    python 01_stepwise_logits.py",
    "$0.01 + 02$ and 0.01, .02, 2026-01-02, 10:01, 02 %, 1,02",
    "$$\n\\sum 01\n$$",
    "the ``index`` and `index` of 00b",
    "`a → b`",
    "[01](02_alignment.ipynb) [arXiv:2505.17510](https://arxiv.org/abs/2505.17510) <a href='01'> "
    "https://x.org/01/02",
    "outputs/01_stepwise_logits/demo",
    "`99_nothing`",
    "01_stepwise_logits.ipynb.bak",
    "v01 01x",
]


@pytest.mark.parametrize("before", LINKED)
def test_names_in_prose_become_links(before):
    assert link_names(before, SOME) == LINKED[before]
    assert link_names(LINKED[before], SOME) == LINKED[before]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_is_no_name_in_prose_stays(text):
    assert link_names(text, SOME) == text


WORDS = st.sampled_from(
    [*LINKED, *LEFT_ALONE, "`", "``", "$", "[", "](", "→", "\n", "\n\n", "```", "|", "<", "01", "`00_data"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=8))
def test_linking_twice_is_linking_once(words):
    once = link_names(" ".join(words), SOME)
    assert link_names(once, SOME) == once


STREAMS = {
    "\rdocs:   0%|          | 0/10 [00:00<?, ?doc/s]": "",
    "\rdocs: 100%|██████████| 10/10 [00:00<00:00, 658.92doc/s]\n": "",
    "\n": "",
    "3doc [00:01,  2.5doc/s]": "",
    "[transformers] Model config: bos_token_id must be `None`\n": "",
    "/x/lib.py:3: UserWarning: old\n  warnings.warn('old')\nwarning: 2 rows were left out\n": "warning: 2 rows were left out\n",  # noqa: E501
    "warning: a part is computed again\n\rdocs: 100%|██| 1/1 [00:00<00:00, 9.1doc/s]": "warning: a part is computed again\n",  # noqa: E501
    "nowhere.yaml cannot be read\n": "nowhere.yaml cannot be read\n",
    "warning: two\n\nlines\n": "warning: two\n\nlines\n",
}


@pytest.mark.parametrize("text", STREAMS)
def test_bars_and_warnings_of_libraries_leave_a_stream(text):
    assert without_bars(text) == STREAMS[text]


def test_widgets_and_bars_leave_the_outputs_and_results_stay():
    shown = [
        {"text/plain": "0.5"},
        {"text/html": "<table>…</table>", "text/plain": "50 %"},
        {"image/png": "aGk=", "text/plain": "<Figure>"},
    ]
    bars = [
        {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "x"},
        {"text/html": "<progress value=1>"},
        {"text/plain": "Map:   0%|   | 0/3 [00:00<?]"},
    ]
    outputs = [nbformat.v4.new_output("display_data", data) for data in [*bars, *shown]]
    assert [output.data for output in tidy_outputs(outputs)] == shown


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_tidy(name):
    """What python tests/tidy_notebooks.py does is done: links, the chapters used, outputs without progress
    bars, widgets and warnings of libraries
    """
    before, after = book(name), tidy(book(name), NAMES, MODULES)
    assert [cell.source for cell in before.cells] == [cell.source for cell in after.cells]
    assert [cell.get("outputs") for cell in before.cells] == [cell.get("outputs") for cell in after.cells]
    assert before.metadata == after.metadata


@pytest.mark.parametrize("name", NAMES)
def test_the_cell_of_the_title_holds_nothing_else(name):
    "nbdev makes a page's head of that cell, and what else stands in it is not on the site"
    cells = [cell.source for cell in book(name).cells if cell.cell_type == "markdown"]
    title = next(source for source in cells if source.startswith("# "))
    rest = [line for line in title.splitlines()[1:] if line.strip() and not line.startswith(">")]
    assert not rest, rest[0]


@pytest.mark.parametrize("name", NAMES)
def test_links_between_notebooks_lead_somewhere(name):
    cells = [cell.source for cell in book(name).cells if cell.cell_type == "markdown"]
    targets = re.findall(r"\]\(([\w-]+)\.ipynb(?:#[\w-]+)?\)", "\n".join(cells))
    assert targets, "a page without a link"
    assert set(targets) <= set(NAMES), set(targets) - set(NAMES)


def test_the_heading_above_the_imports_is_followed_by_the_chapters_used():
    cells = [
        "#| export\nimport os\nfrom mlcllm.runs import Run\nfrom mlcllm.data import A, B",
        "#| hide\nfrom mlcllm.engines import load_engine",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    used = chapters_used(notebook, dict(data="00_data", runs="00a_runs", engines="00e_engines"))
    assert used == "This chapter uses [00_data](00_data.ipynb) and [00a_runs](00a_runs.ipynb)."
    assert under_imports(IMPORTS, used) == f"{IMPORTS}\n\n{used}"
    assert under_imports(f"{IMPORTS}\n\nThis chapter uses [x](x.ipynb).", used) == f"{IMPORTS}\n\n{used}"
    assert under_imports(f"{IMPORTS}\n\nWords of its own.", used) == f"{IMPORTS}\n\nWords of its own."
    assert under_imports("## Another", used) == "## Another"


def test_the_section_above_the_imports_is_not_on_the_site(tmp_path):
    "The site shows nothing of the imports, so their heading would stand above nothing; own words stay"
    kept = ["# Title", "## Next", f"{IMPORTS}\n\nWords of its own.", f"{IMPORTS} of data"]
    dropped = [IMPORTS, f"{IMPORTS}\n\nThis chapter uses [x](x.ipynb) and [y](y.ipynb)."]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(source) for source in [*dropped, *kept, *dropped]]
    )
    path = tmp_path / "x.ipynb"
    nbformat.write(notebook, path)
    mend(path)
    assert [cell.source for cell in nbformat.read(path, 4).cells] == kept


HIDDEN = {"hide", "export", "exporti", "default_exp"}


def shows(cell):
    """Does a page show anything of a code cell? Of an exported one the documentation of what it defines, of a
    hidden one nothing
    """
    options = dict(re.findall(r"^#\| *([\w-]+):? *(.*)$", cell.source, re.M))
    code = re.sub(r"^(#\||[%!]).*$", "", cell.source, flags=re.M).strip()
    if options.keys() & {"export", "exports"}:
        defined = [node for node in ast.parse(code).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        return "exports" in options or any(not node.name.startswith("_") for node in defined)
    if options.keys() & HIDDEN or options.get("include") == "false":
        return False
    return bool(cell.outputs) or bool(code) and options.get("echo") != "false"


def parts(notebook):
    """What a page consists of, in order: the levels of headings with their words, and 0 for everything else
    that it shows
    """
    for cell in notebook.cells:
        if cell.cell_type == "code" and shows(cell):
            yield 0, "code"
        if cell.cell_type == "markdown":
            prose = re.sub(r"^```.*?^```", "code", cell.source, flags=re.M | re.S)
            for line in filter(str.strip, prose.split("\n")):
                heading = re.match(r"(#{1,6})(?: +(.*))?$", line)
                yield (len(heading[1]), (heading[2] or "").strip(" #-")) if heading else (0, line)


@pytest.mark.parametrize("name", NAMES)
def test_no_heading_is_empty(name):
    "Every heading has words, and a page shows something below it before the next one of its level"
    found = list(parts(book(name)))
    assert all(words for _, words in found)
    empty = [
        words
        for (level, words), (following, _) in zip(found, [*found[1:], (1, "")])
        if level and following and following <= level
    ]
    assert empty == []


def test_what_nbconvert_says_is_shown(tmp_path):
    "A page that cannot be made ends with the reason, not with a status alone"
    pytest.importorskip("bs4")
    from site_check import convert

    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "bad.ipynb").write_text("{not json")
    with pytest.raises(RuntimeError, match=r"(?s)nbconvert ended with 1:.*not valid|JSON"):
        convert(tmp_path / "staged", tmp_path / "pages")


@pytest.mark.parametrize("module", sorted(p.stem for p in (ROOT / "mlcllm").glob("[a-z]*.py")))
def test_the_page_of_every_exported_name_can_be_made(module):
    "As nbdev makes it: a function whose comments cannot be found would end the site"
    here = importlib.import_module(f"mlcllm.{module}")
    for name in here.__all__:
        thing = getattr(here, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert thing.__name__ in show_doc(thing)._repr_markdown_().replace("\\", "")


@pytest.mark.parametrize("name", ["stepwise", "alignment", "probing", "demux", "finetuning"])
def test_the_page_of_a_run_function_explains_its_parameters(name):
    modules = dict(stepwise="stepwise_logits", finetuning="sft")
    run = getattr(importlib.import_module(f"mlcllm.{modules.get(name, name)}"), f"run_{name}")
    page = show_doc(run)._repr_markdown_()
    assert "dataset:str='demo', # a name in mlcllm.data.DATASETS" in page and "seed:int=0, #" in page
