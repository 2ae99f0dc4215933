"""The site without Quarto: every page staged by nbdev and made HTML, what it holds checked, and looked at in
a browser at two widths.

python tests/site_check.py [folder for the pages]
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import yaml
from bs4 import BeautifulSoup
from stage_site import stage
from tidy_notebooks import WIDGET, modules, notebook_names, tidy

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3e6  # bytes of a page
WIDTHS = dict(desktop=1280, phone=390)  # pixels
SOURCE = "https://github.com/mlcllm/mlcllm/blob/main/mlcllm/"
CONVERTERS = (
    ".jp-InputPrompt",
    ".jp-OutputPrompt",
    ".highlight",
    ".anchor-link",
)  # what nbconvert draws its own way, and Quarto another
NOT_OURS = {
    "link-in-text-block",  # nbconvert's style sheet underlines no link, Quarto's does
    "scrollable-region-focusable",  # browsers let the keyboard reach what scrolls
}
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def convert(staged, target):
    "Staged notebooks as pages, with the site's own style sheet"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    notebooks = map(str, sorted(staged.glob("*.ipynb")))
    made = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(target), *notebooks],
        capture_output=True,
        text=True,
    )
    if made.returncode:  # what went wrong stands at the end of what nbconvert says
        raise RuntimeError(f"nbconvert ended with {made.returncode}:\n{made.stderr.strip()[-2000:]}")
    for pattern in ("*.png", "*.svg", "*.css"):
        for path in staged.glob(pattern):
            shutil.copy(path, target)
    for page in target.glob("*.html"):
        styled = page.read_text(encoding="utf-8").replace(
            "</head>", '<link rel="stylesheet" href="styles.css"></head>', 1
        )
        page.write_text(styled, encoding="utf-8")
    return sorted(target.glob("*.html"))


def pages_in(value):
    "Every notebook that _quarto.yml names"
    if isinstance(value, dict):
        return [page for part in value.values() for page in pages_in(part)]
    if isinstance(value, list):
        return [page for part in value for page in pages_in(part)]
    return [value] if isinstance(value, str) and value.endswith(".ipynb") else []


def check_navigation():
    "The menus hold every notebook, and none that is not there"
    named = set(pages_in(yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]))
    there = {path.name for path in (ROOT / "nbs").glob("*.ipynb")}
    missing = [f"_quarto.yml: {page} does not exist" for page in sorted(named - there)]
    return missing + [f"_quarto.yml: {page} is in no menu" for page in sorted(there - named)]


def check_notebook(path, names, notebook_of):
    "Names are links, outputs are tidy, pictures have an alt text in the cell that draws them"
    book = nbformat.read(path, nbformat.NO_CONVERT)
    tidied = tidy(nbformat.read(path, nbformat.NO_CONVERT), names, notebook_of)
    for k, (cell, mended) in enumerate(zip(book.cells, tidied.cells)):
        where = f"{path.name}, cell {k}"
        if cell.source != mended.source:
            yield f"{where}: names of notebooks are not links (python tests/tidy_notebooks.py)"
        if cell.get("outputs") != mended.get("outputs"):
            yield (
                f"{where}: progress bars, widgets or warnings of libraries in its outputs (python "
                "tests/tidy_notebooks.py)"
            )
        draws = cell.cell_type == "code" and any(
            "image/png" in output.get("data", {}) for output in cell.outputs
        )
        if (
            draws
            and "#| fig-alt:" not in cell.source
            or cell.cell_type == "markdown"
            and "![](" in cell.source
        ):
            yield f"{where}: a picture without alt text"


def check_links(page, soup, soups):
    "Every link inside the site leads to a page, a file or an anchor"
    for link in soup.find_all("a", href=True):
        url = urlparse(link["href"])
        if url.scheme or link["href"].startswith("//"):
            continue
        target = soups.get(Path(unquote(url.path)).stem) if url.path else soup
        if url.path and not url.path.endswith((".html", ".ipynb", ".qmd")):
            target = (page.parent / unquote(url.path)).exists() or None
        if target is None:
            yield f"link to {link['href']}, which does not exist"
        elif (
            url.fragment
            and hasattr(target, "find")
            and not any(target.find(id=name) for name in (url.fragment, unquote(url.fragment)))
        ):
            yield f"no anchor {link['href']}"


def check_page(page, soup, soups):
    "Size, links, headings and what no page should show"
    body = soup.find("main") or soup
    if page.stat().st_size > LIMIT:
        yield f"{page.stat().st_size / 1e6:.1f} MB, {LIMIT / 1e6:.0f} MB at most"
    yield from check_links(page, soup, soups)
    if not any(link["href"].endswith(".ipynb") for link in body.find_all("a", href=True)):
        yield "no link to another page"
    for heading in body.find_all(re.compile(r"^h[1-6]$")):
        if not heading.get_text().strip(" \n¶"):
            yield "an empty heading"
    if body.find("progress") or WIDGET in page.read_text(encoding="utf-8"):
        yield "a progress bar or a widget"
    if any("`](http" in block.get_text() for block in body.find_all("pre")):
        yield "a link in a block of code, which is shown as it is written"


def check_symbols(soups):
    "By the entry point in setup.py nbdev links what is documented to its source"
    there = any(
        link["href"].startswith(SOURCE) for soup in soups.values() for link in soup.find_all("a", href=True)
    )
    return (
        []
        if there
        else [
            "no symbol has a link to its source: install the package again (pip install -e .), so that "
            "nbdev finds its entry point"
        ]
    )


def check_with_axe(axe, tab):
    "Faults that axe-core calls serious"
    for fault in axe.run(tab, context={"exclude": [[part] for part in CONVERTERS]}).response["violations"]:
        if fault["id"] in NOT_OURS:
            continue
        if fault["impact"] in ("serious", "critical"):
            yield (
                f"{fault['impact']} {fault['id']} ({len(fault['nodes'])}), e.g. "
                f"{fault['nodes'][0]['html'][:120]}"
            )


def look_at(page, browser, axe):
    "Screenshots, widths, and faults that a browser finds"
    for name, width in WIDTHS.items():
        tab = browser.new_page(viewport=dict(width=width, height=900))
        tab.route(re.compile("^https?:"), lambda route: route.abort())
        tab.goto(page.as_uri())
        tab.screenshot(path=str(page.parent / "shots" / f"{page.stem}-{name}.png"))
        wide = tab.evaluate("document.documentElement.scrollWidth")
        if wide > width + 1:
            yield f"{wide} pixels wide on a {name} of {width}"
        if name == "desktop":
            yield from check_with_axe(axe, tab)
        tab.close()


def look(pages):
    "All pages in a browser, where there is one"
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        print(f"not looked at in a browser ({error}): pip install -e .[site] and a Chromium are needed")
        return []
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("not looked at in a browser: no Chromium is installed")
        return []
    (pages[0].parent / "shots").mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        axe = Axe()
        faults = [f"{page.name}: {fault}" for page in pages for fault in look_at(page, browser, axe)]
        browser.close()
    return faults


def main(target=ROOT / "_site_check"):
    target = Path(target).resolve()
    names, notebook_of = notebook_names(ROOT), modules(ROOT)
    faults = check_navigation()
    faults += [
        fault
        for name in names
        for fault in check_notebook(ROOT / "nbs" / f"{name}.ipynb", names, notebook_of)
    ]
    pages = convert(stage(ROOT), target)
    soups = {page.stem: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in pages}
    faults += [
        f"{page.name}: {fault}" for page in pages for fault in check_page(page, soups[page.stem], soups)
    ]
    faults += check_symbols(soups) + look(pages)
    largest = max(page.stat().st_size for page in pages)
    print(f"{len(pages)} pages in {target.name}/, the largest {largest / 1e6:.1f} MB;")
    print(f"{len(faults)} faults" if faults else "no fault", *faults, sep="\n  ")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
