"The site without Quarto: every page staged by nbdev and made HTML, its links, anchors and pictures checked, and looked at in a browser at two widths: python tests/site_check.py [folder]"
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3e6  # bytes of a page
WIDTHS = dict(desktop=1280, phone=390)
CONVERTERS = (".jp-InputPrompt", ".jp-OutputPrompt", ".highlight", ".anchor-link")  # what nbconvert draws its own way, and Quarto another


def stage(): # nbdev's own staging, as it hands notebooks to Quarto
    from nbdev.serve import proc_nbs
    shutil.rmtree(ROOT / "_proc", ignore_errors=True)
    proc_nbs(ROOT / "nbs")
    return ROOT / "_proc"


def convert(staged, target):
    shutil.rmtree(target, ignore_errors=True), target.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(target), *map(str, sorted(staged.glob("*.ipynb")))], check=True, capture_output=True)
    for picture in [*staged.glob("*.png"), *staged.glob("*.svg")]: shutil.copy(picture, target)
    return sorted(target.glob("*.html"))


def pages_in(value): # every notebook that _quarto.yml names
    if isinstance(value, dict): return [p for v in value.values() for p in pages_in(v)]
    if isinstance(value, list): return [p for v in value for p in pages_in(v)]
    return [value] if isinstance(value, str) and value.endswith(".ipynb") else []


def check_navigation(faults):
    named, there = set(pages_in(yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"])), {p.name for p in (ROOT / "nbs").glob("*.ipynb")}
    faults += [f"_quarto.yml: {p} does not exist" for p in named - there] + [f"_quarto.yml: {p} is in no menu" for p in there - named]


def check_pictures(faults): # alt text stands in the cell that draws
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        for k, cell in enumerate(nbformat.read(path, 4).cells):
            draws = cell.cell_type == "code" and any("image/png" in o.get("data", {}) for o in cell.outputs)
            if draws and "#| fig-alt:" not in cell.source: faults.append(f"{path.name}, cell {k}: a picture without #| fig-alt")
            if cell.cell_type == "markdown": faults += [f"{path.name}, cell {k}: a picture without alt text" for _ in re.findall(r"!\[\]\(", cell.source)]


def check_page(page, pages, faults):
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    if page.stat().st_size > LIMIT: faults.append(f"{page.name}: {page.stat().st_size/1e6:.1f} MB, {LIMIT/1e6:.0f} MB at most")
    for a in soup.find_all("a", href=True):
        url = urlparse(a["href"])
        if url.scheme or a["href"].startswith("//"): continue
        target = pages.get(Path(unquote(url.path)).stem) if url.path else soup
        if url.path and not url.path.endswith((".html", ".ipynb", ".qmd")): target = (page.parent / unquote(url.path)).exists() or None
        if target is None: faults.append(f"{page.name}: link to {a['href']}, which does not exist")
        elif url.fragment and hasattr(target, "find") and not any(target.find(id=f) for f in (url.fragment, unquote(url.fragment))): faults.append(f"{page.name}: no anchor {a['href']}")


def look(pages, target, faults): # screenshots, faults that axe-core calls serious, errors of scripts
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import sync_playwright
    except ImportError: return print("not looked at in a browser: pip install -e .[site] and a Chromium are needed")
    chromium = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if chromium is None: return print("not looked at in a browser: no Chromium is installed")
    (target / "shots").mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        for page in pages:
            for name, width in WIDTHS.items():
                tab = browser.new_page(viewport=dict(width=width, height=900)); tab.route(re.compile("^https?:"), lambda route: route.abort()); tab.goto(page.as_uri())
                tab.screenshot(path=str(target / "shots" / f"{page.stem}-{name}.png"))
                wide = tab.evaluate("document.documentElement.scrollWidth")
                if wide > width + 1: faults.append(f"{page.name}: {wide} pixels wide on a {name} of {width}")
                if name == "desktop":
                    for v in Axe().run(tab, context={"exclude": [[c] for c in CONVERTERS]}).response["violations"]:
                        if v["id"] == "link-in-text-block": continue # nbconvert's style sheet underlines no link, Quarto's does
                        if v["impact"] in ("serious", "critical"): faults.append(f"{page.name}: {v['impact']} {v['id']} ({len(v['nodes'])}), e.g. {v['nodes'][0]['html'][:120]}")
                tab.close()
        browser.close()


def main(target=ROOT / "_site_check"):
    faults, target = [], Path(target)
    check_navigation(faults), check_pictures(faults)
    pages = convert(stage(), target)
    soups = {p.stem: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in pages}
    for p in pages: check_page(p, soups, faults)
    look(pages, target, faults)
    print(f"{len(pages)} pages in {target.name}/, the largest {max(p.stat().st_size for p in pages)/1e6:.1f} MB;", f"{len(faults)} faults" if faults else "no fault", *faults, sep="\n  ")
    return bool(faults)


if __name__ == "__main__": sys.exit(main(*sys.argv[1:]))
