"""Notebooks as they are committed: names of notebooks in prose are links, the heading above a chapter's
imports is followed by the chapters that it imports, outputs hold no progress bars, widgets or warnings of
libraries, and examples are tagged, so that papermill passes over them.

python tests/tidy_notebooks.py [folder of the repository]; a second run changes nothing. A test asks that
there is nothing left to do.
"""

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
PLAIN_WORDS = {"index"}  # a notebook's name that prose uses as a word
IMPORTS = "## Imports"  # the heading above a chapter's imports; the site leaves this cell out
CHAPTERS = {
    "00": "00_data",
    "01b": "01b_metrics",
    "01f": "01f_comparisons",
}  # where a number begins several names: the chapter that is meant by it
SKIP = "skip-execution"  # nbclient's tag: papermill and nbconvert do not run such a cell, JupyterLab does
NEEDED = ("#| export", "#| hide", "parameters = read_parameters")  # what a run needs of the cells above it
WIDGET = "application/vnd.jupyter.widget-view+json"

# of a line of prose: formulas, links, HTML and addresses are left alone; code that is a name or a chain of
# names becomes links
PIECES = re.compile(
    r"(?P<kept>\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|https?://\S+)"
    r"|(?P<ticks>`+)(?P<code>.+?)(?P=ticks)(?!`)"
    r"|arXiv:(?P<arxiv>\d{4}\.\d{4,5})"
)
# 01, 04a: not part of a number, a date or a path
NUMBER = r"(?<![\w.,:$/\\-])0\d[a-z]?(?![\w/\\-]|[.,:]\d| ?%)"
BAR = re.compile(r"\d+%\|.*\||\d+(it|doc|step|layer)s? \[\d\d:\d\d")  # tqdm's, with a total and without
LIBRARY_WARNING = re.compile(r"^\[\w+\] |\w*Warning: |^(WARNING|[WIE]\d{4} |Failed to load CPU )")


def notebook_names(root):
    return sorted(path.stem for path in (Path(root) / "nbs").glob("*.ipynb"))


def modules(root):
    "The notebook of each module: module -> name"
    sources = {
        name: (Path(root) / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8")
        for name in notebook_names(root)
    }
    found = {name: re.search(r"#\| *default_exp (\w+)", source) for name, source in sources.items()}
    return {match[1]: name for name, match in found.items() if match}


def short_names(names):
    "What a number stands for: 01 for 01_stepwise_logits, 00b for nothing where three names begin with it"
    numbers = [name.split("_")[0] for name in names]
    single = {
        number: name
        for number, name in zip(numbers, names)
        if numbers.count(number) == 1 and number[0].isdigit()
    }
    return single | {number: name for number, name in CHAPTERS.items() if name in names}


def link(name, text=None):
    return f"[{text or name}]({name}.ipynb)"


def link_text(text, names):
    "Names of notebooks, and the numbers that stand for them, in text that holds no code"
    short = short_names(names)
    numbered = sorted((name for name in names if name[0].isdigit()), key=len, reverse=True)
    full = rf"(?<![\w/\[(.-])(?:{'|'.join(map(re.escape, numbered))})(?![\w(-]|\.\w)"

    def one(match):
        found = match[0]
        return link(found) if found in names else link(short[found], found) if found in short else found

    return re.sub(f"{full}|{NUMBER}", one, text)


def link_code(ticks, code, names):
    "A code span: a notebook's name is a link, a chain of them is text with links, the rest is code"
    name = re.fullmatch(r"(?:nbs/)?(\w+?)(?:\.ipynb)?", code.strip())
    if name and name[1] in names and name[1] not in PLAIN_WORDS:
        return link(name[1])
    linked = link_text(code, names) if re.search("[→⇄]", code) and "`" not in code else code
    return linked if linked != code else f"{ticks}{code}{ticks}"


def link_line(line, names):
    "A line of prose or of a table"
    parts, end = [], 0
    for piece in PIECES.finditer(line):
        parts.append(link_text(line[end : piece.start()], names))
        if piece["kept"]:
            parts.append(piece[0])
        elif piece["arxiv"]:
            parts.append(f"[{piece[0]}](https://arxiv.org/abs/{piece['arxiv']})")
        else:
            parts.append(link_code(piece["ticks"], piece["code"], names))
        end = piece.end()
    return "".join([*parts, link_text(line[end:], names)])


def link_names(source, names):
    "A markdown cell whose names of notebooks are links; headings, subtitles, code blocks and formulas stay"
    lines, block = [], None
    for line in source.split("\n"):
        marker = re.match(r"\s*(```+|~~~+|\$\$)", line)
        if block:
            block = None if line.rstrip().endswith(block) else block
            lines.append(line)
        elif marker and not line.rstrip()[len(marker[0]) :].endswith(marker[1]):
            block = marker[1]
            lines.append(line)
        elif marker or re.match(r"#{1,6} |>| {4}|\t", line):
            lines.append(line)
        else:
            lines.append(link_line(line, names))
    return "\n".join(lines)


def without_bars(text):
    "A stream without progress bars and warnings of libraries; the same text where it holds none"
    kept, warned, dropped = [], False, False
    for line in re.split(r"[\r\n]+", text):
        warned = (
            bool(LIBRARY_WARNING.search(line)) or warned and line.startswith("  ")
        )  # the line that warned follows, indented
        if warned or BAR.search(line):
            dropped = True
        elif line.strip():
            kept.append(line)
    return text if kept and not dropped else "".join(f"{line}\n" for line in kept)


def is_progress(output):
    "Is a shown output a widget or a progress bar?"
    data = output.get("data", {})
    return (
        WIDGET in data
        or "<progress" in data.get("text/html", "")
        or bool(BAR.search(data.get("text/plain", "")))
    )


def tidy_outputs(outputs):
    "Outputs without bars, widgets and warnings of libraries"
    tidied = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = without_bars(output.text) if output.name == "stderr" else output.text
            tidied += [output] if output.text else []
        elif not is_progress(output):
            tidied.append(output)
    return tidied


def chapters_used(book, notebook_of):
    "A sentence with the chapters whose modules a notebook's own module imports; empty where there are none"
    exported = [
        cell.source
        for cell in book.cells
        if cell.cell_type == "code" and re.search(r"^#\| *export", cell.source, re.M)
    ]
    imported = re.findall(r"^(?:from|import) mlcllm\.(\w+)", "\n".join(exported), re.M)
    links = [
        link(name) for name in sorted({notebook_of[module] for module in imported if module in notebook_of})
    ]
    together = " and ".join([", ".join(links[:-1]), links[-1]] if links[1:] else links)
    return f"This chapter uses {together}." if links else ""


def is_imports_section(source):
    "Is this the cell above the imports, with nothing but its heading and the chapters used?"
    heading, _, below = source.partition("\n")
    plain = not below.strip() or below.strip().startswith("This chapter uses [")
    return heading.strip() == IMPORTS and plain


def under_imports(source, sentence):
    "The cell that holds the heading above the imports, and below it the chapters used"
    return f"{IMPORTS}\n\n{sentence}" if sentence and is_imports_section(source) else source


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def tag_examples(book):
    "Tag what stands above the heading Run and is only shown there: a run's first result comes in seconds"
    code = [k for k, cell in enumerate(book.cells) if cell.cell_type == "code"]
    heads = [k for k, cell in enumerate(book.cells) if cell.source.startswith("## Run")]
    runs = bool(heads) and any(has_tag(book.cells[k], "parameters") for k in code)
    for k in code:
        cell = book.cells[k]
        example = runs and k < heads[0] and not has_tag(cell, "parameters")
        skipped = example and not cell.source.startswith(NEEDED)
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != SKIP] + [SKIP] * skipped
        cell.metadata.pop("tags", None)
        if tags:
            cell.metadata["tags"] = tags


def tidy(book, names, notebook_of):
    "A notebook with links and tagged examples, and without the rest"
    tag_examples(book)
    book.metadata.pop("widgets", None)
    sentence = chapters_used(book, notebook_of)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = under_imports(link_names(cell.source, names), sentence)
        elif cell.cell_type == "code":
            cell.outputs = tidy_outputs(cell.outputs)
    return book


def main(root=ROOT):
    names, notebook_of = notebook_names(root), modules(root)
    for name in names:
        path = Path(root) / "nbs" / f"{name}.ipynb"
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(tidy(nbformat.reads(before, nbformat.NO_CONVERT), names, notebook_of)) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"changed: nbs/{path.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
