"""Texts, labels, methods and names of data sets are text wherever HTML or Markdown is written: nothing of
them is a tag.
"""

import json
from dataclasses import replace
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
from notebooks import ROOT
from test_comparisons import make_dists, make_docs

from mlcllm.checks import markdown_text, styled
from mlcllm.claims import Condition, Effect, adjust, claim_text, decide
from mlcllm.comparisons import show_disagreements
from mlcllm.data import LabelSet
from mlcllm.demux import model_card
from mlcllm.engines import load_tokenizer
from mlcllm.metrics import score
from mlcllm.prompt_preview import Preview, preview
from mlcllm.prompts import build_prompts
from mlcllm.step_viewer import step_viewer

ATTACK = "<img src=x onerror=alert(1)>"
HOSTILE = (
    ATTACK,
    "</script><script>alert(2)</script>",
    "\"'><b onclick='alert(3)'>",
    "&lt;img src=x onerror=alert(4)&gt;",
    "a</td></tr></table><iframe src=javascript:alert(5)>",
    "<svg/onload=alert(6)>",
)
LABELS, METHODS = HOSTILE[:5], HOSTILE[1:4]


def hostile_docs():
    docs = make_docs(n_docs=12)
    texts = tuple(f"{HOSTILE[k % len(HOSTILE)]} {k}" for k in range(12))
    return replace(
        docs,
        name=ATTACK,
        split=ATTACK,
        labels=LabelSet(LABELS),
        ids=tuple(f"{ATTACK}{k}" for k in range(12)),
        texts=texts,
    )


DOCS = hostile_docs()


class Tags(HTMLParser):  # what a browser would make of a page
    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def assert_text_only(page, shown=ATTACK, scripts=0):  # nothing of the names is a tag; they are there as text
    tags = Tags(page)
    names = [tag for tag, _ in tags.found]
    assert not {"img", "svg", "iframe"} & set(names) and names.count("script") == scripts
    assert not [a for _, attributes in tags.found for a in attributes if a.startswith("on")]
    assert shown is None or shown in tags.text
    return tags


def test_documents_draw_themselves():
    for docs in (DOCS, DOCS.take([1, 3, 5])):
        assert_text_only(docs._repr_html_())


def test_a_prompt_draws_itself():
    docs = replace(DOCS, labels=LabelSet((ATTACK, "<svg/onload=alert(6)>", "</pre>", "<b>", "&lt;b&gt;")))
    for prompt in build_prompts(
        docs.take(range(3)), docs.take(range(3, 12)), shots=2, label_format="json", ratio=0
    ):
        assert_text_only(preview(prompt, load_tokenizer("tiny"))._repr_html_(), shown=prompt.text[:60])
    assert {f for f in vars(Preview) if f.startswith("_repr_") and f != "_repr_html_"} == set()


def test_disagreements_draw_themselves():
    tags = assert_text_only(show_disagreements(make_dists(DOCS, METHODS), DOCS, n=12)._repr_html_())
    for name in (*LABELS, *METHODS):
        assert name.replace("_", " ") in tags.text or name in tags.text


def test_tables_with_a_style():
    table = score(make_dists(DOCS, METHODS), DOCS, n_boot=0).pivot_table(
        index="method", columns="metric", values="value"
    )
    table[ATTACK] = ATTACK
    table = table.rename_axis(index=ATTACK, columns=ATTACK)
    for page in (
        styled(table),
        styled(table).hide(),
        styled(table.T),
        styled(pd.concat({ATTACK: table}, names=[ATTACK])),
    ):
        assert_text_only(page.to_html())
    assert_text_only(table.to_html())


def test_every_style_in_a_notebook_escapes():
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type != "code" or ".style" not in cell.source:
                continue
            escaped = cell.source.count('escape="html"')
            assert escaped >= cell.source.count(".style."), (path.name, cell.source)


def test_the_page_of_the_step_viewer():
    n = len(LABELS)
    docs = pd.DataFrame(
        [
            dict(doc_id=i, text=t, gold=[LABELS[0]], human=None, output=ATTACK, found_step=True)
            for i, t in zip(DOCS.ids, DOCS.texts)
        ]
    )
    steps = pd.DataFrame(
        [
            dict(doc_id=i, step=0, chosen=LABELS[1], logits=[0.0] * n, continue_logit=0.0, stop_logit=1.0)
            for i in DOCS.ids
        ]
    )
    page = step_viewer(docs, steps, LABELS, title=ATTACK)
    tags = assert_text_only(page, scripts=2)
    data = page.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(data)["labels"] == list(LABELS) and ATTACK in tags.text


def as_html(text):  # as a page of Markdown
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").render(text)


@pytest.mark.parametrize(
    "name",
    [
        *HOSTILE,
        "a_b_c",
        "*a*",
        "[a](javascript:alert(1))",
        "`a`",
        "# a",
        "a|b",
        r"a\b",
        "$x$",
        "![a](b)",
        "~~a~~",
    ],
)
def test_a_name_in_markdown(name):
    tags = assert_text_only(as_html(f"**Claim** {markdown_text(name)}."), shown=None)
    assert [t for t, _ in tags.found] == ["p", "strong"] and tags.text.strip() == f"Claim {name}."


def test_what_is_said_about_claims_and_models():
    sure = [Condition(Effect(0.5, 0.05, 99))]
    verdicts = adjust(
        [
            decide("5", sure, ATTACK, METHODS[0]),
            decide("5", sure, "a_b_c", "*m*"),
            decide("5", [], HOSTILE[1], ATTACK),
        ]
    )
    assert_text_only(as_html(claim_text(verdicts, 5)))
    card = model_card(
        ATTACK, "a/b", {"task": markdown_text(ATTACK)}, score(make_dists(DOCS, METHODS), DOCS, n_boot=9)
    )
    page = assert_text_only(as_html(card))
    assert METHODS[0] in page.text
