"""Notebooks as nbdev hands them to Quarto, in _proc/: python tests/stage_site.py. Nothing else is written,
README.md least of all.
"""

import os
import re
import shutil
from pathlib import Path

import nbformat
from nbdev.serve import proc_nbs
from tidy_notebooks import is_imports_section

ROOT = Path(__file__).resolve().parent.parent
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
SYMBOL_LINK = re.compile(r"\[(`[^`]+`)\]\(\S+?\)")


def without_links_in_code(text):
    "Signatures stand in blocks of code, where nbdev's links to symbols would be read as they are written"
    return FENCED.sub(lambda block: SYMBOL_LINK.sub(r"\1", block[0]), text)


def mend(path):
    "What nbdev leaves in a staged notebook and a page should not show"
    book = nbformat.read(path, nbformat.NO_CONVERT)
    book.metadata.pop("widgets", None)
    book.cells = [
        cell for cell in book.cells if cell.cell_type != "markdown" or not is_imports_section(cell.source)
    ]
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    for data in (output.data for output in outputs if "text/markdown" in output.get("data", {})):
        data["text/markdown"] = without_links_in_code(data["text/markdown"])
    nbformat.write(book, path)


def stage(root=ROOT):
    "All notebooks staged anew; the folder in which they are"
    os.chdir(root)
    staged = Path(root) / "_proc"
    shutil.rmtree(staged, ignore_errors=True)
    proc_nbs(Path(root) / "nbs")
    for path in staged.glob("*.ipynb"):
        mend(path)
    return staged


if __name__ == "__main__":
    stage()
