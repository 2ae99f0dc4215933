"Formats and their parsers are exact inverses, for names nobody chose by hand."

import ast
import json
import os
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcllm.answers import THOUGHT_TAGS, read_value, thoughts_end
from mlcllm.data import LabelSet, load_docs
from mlcllm.prompts import (
    LABEL_FORMATS,
    TEMPLATES,
    LabelFormat,
    Prompt,
    build_prompts,
    check_names,
    format_labels,
    get_template,
    parse_labels,
    prompts_hash,
)

word = (
    st.text(
        st.characters(
            codec="utf-8", exclude_characters='",\\\n\r{}[]', exclude_categories=("Cc", "Cs", "Zl", "Zp")
        ),
        min_size=1,
        max_size=12,
    )
    .map(str.strip)
    .filter(bool)
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(word, min_size=1, max_size=6, unique_by=str.lower),
    st.sampled_from(sorted(LABEL_FORMATS)),
    st.data(),
)
def test_reading_inverts_writing(names, label_format, data):
    labels = LabelSet(tuple(names))
    try:
        check_names(labels, label_format)
    except ValueError:
        return
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    text = "\n" + format_labels(chosen, label_format) + "\n"
    parsed = parse_labels(text, labels, label_format)
    assert parsed.predicted == tuple(chosen) and parsed.well_formed
    assert [text[s:e] for s, e in zip(parsed.starts, parsed.ends)] == list(parsed.labels)


FORMATS = [
    *LABEL_FORMATS,
    "json-emotions",
    "<{label}; {label}>",
    "- {label}\n- {label}",
    "{label} | {label}",
    '["{label}", "{label}"]',
    LabelFormat("(", "*", "*", " + ", ")", True),
]
PIECES = [
    "joy",
    "fear",
    "Ärger",
    "喜び",
    "😀",
    "e\u0301",
    "a, b",
    "salt and pepper",
    'say "x"',
    "it's",
    "no",
    "none at all",
    "the",
    "x;y",
    "[1]",
    "{z}",
    "]}",
    "U.S.",
    "50 %",
    "- a",
    "|",
    "back\\slash",
    "Z",
]


@pytest.mark.parametrize("label_format", FORMATS, ids=str)
def test_reading_inverts_writing_on_10000_random_label_sets(label_format):
    rng, inverted = random.Random(0), 0
    for _ in range(10_000):
        names = {" ".join(rng.sample(PIECES, rng.randint(1, 2))).strip() for _ in range(rng.randint(1, 6))}
        labels = LabelSet(tuple({n.lower(): n for n in sorted(names)}.values()))
        try:
            check_names(labels, label_format)
        except ValueError:
            continue
        chosen = rng.sample(labels.names, rng.randint(0, len(labels)))
        text = "\n" + format_labels(chosen, label_format) + "\n\nInput: joy, fear"
        parsed = parse_labels(text.removesuffix("\n\nInput: joy, fear"), labels, label_format)
        assert parsed.predicted == tuple(chosen) and parsed.well_formed, (text, parsed)
        assert [text[s:e] for s, e in zip(parsed.starts, parsed.ends)] == list(parsed.labels)
        inverted += 1
    assert inverted > 2000  # the others hold a piece of the format, and are refused


@pytest.mark.parametrize(
    "names, label_format",
    [
        (("a, b", "c"), "comma"),
        (("salt and pepper",), "polysyndeton"),
        (('say "x"',), "json"),
        (("None", "b"), "comma"),
        (("A", "a"), "comma"),
    ],
)
def test_names_that_cannot_be_read_back_are_refused(names, label_format):
    with pytest.raises(ValueError):
        check_names(LabelSet(names), label_format)


def test_a_broken_off_list_keeps_its_labels():
    labels = LabelSet(("fear", "joy"))
    parsed = parse_labels('\n{"label": ["joy", "fear"', labels, "json")
    assert parsed.labels == ("joy", "fear") and not parsed.well_formed


@pytest.mark.parametrize(
    "options",
    [
        dict(label_order="random", seed=5),
        dict(sampling="uniform"),
        dict(sampling="random", shots=3),
        dict(shots=0),
        dict(ratio=1.0),
        dict(label_format="polysyndeton"),
    ],
)
def test_demonstrations_are_the_same_for_all_and_from_run_to_run(options):
    docs, train = load_docs("demo", "test"), load_docs("demo", "train")
    a, b = (build_prompts(docs, train, **options) for _ in range(2))
    assert a == b and len({p.demo_ids for p in a}) == 1 and len(a[0].demo_ids) == options.get("shots", 10)


def test_texts_are_never_searched_for_slots():
    from dataclasses import replace

    docs = load_docs("demo", "test", n_docs=1)
    odd = replace(docs, texts=("{label} {text} $name {0} 100%",))
    assert build_prompts(odd, load_docs("demo", "train"))[0].text.endswith("{label} {text} $name {0} 100%")


@pytest.mark.parametrize(
    "label_format, text, chosen",
    [
        ("json", '{"label":["joy","fear"]}', ("joy", "fear")),  # compact
        ("json", '{"label": "joy"}', ("joy",)),  # no list
        ("json", '```json\n{"label": ["joy", "fear"]}\n```', ("joy", "fear")),  # in a fence
        ("json", '{\n  "label": [\n    "joy",\n    "fear"\n  ]\n}', ("joy", "fear")),  # over lines
        ("json", '{"label": [" joy", "fear "]}', ("joy", "fear")),  # blanks inside the quotes
        ("json", '{"label": ["joy", "fear"], "x": 1}', ("joy", "fear")),  # another key
        ("json-emotions", '{"label": ["joy", "fear"]}', ("joy", "fear")),
        ("json", '{"emotions": ["joy"]}', ("joy",)),  # under another key
        ("json", "none", ("none",)),
        ("json", "joy, fear", ("joy", "fear")),  # bare
        ("json", "I feel joy and fear", ()),
        ("json", '{"label": []}', ()),
        ("polysyndeton", "The joy and the fear", ("joy", "fear")),
        ("comma", "joy.", ("joy",)),
        ("comma", '"joy", "fear"', ("joy", "fear")),
        ("comma", "joyful, the rest", ()),
    ],
)
def test_answers_wrapped_otherwise_are_read_but_not_well_formed(label_format, text, chosen):
    parsed = parse_labels("\n" + text, LabelSet(("fear", "joy")), label_format)
    assert parsed.labels == chosen and not parsed.well_formed
    assert [("\n" + text)[s:e].lower() for s, e in zip(parsed.starts, parsed.ends)] == list(chosen)


def test_the_most_similar_demonstrations_of_an_annotator_are_that_annotators(monkeypatch):
    import numpy as np

    from mlcllm import demos as module

    def vector(texts, *_):
        return np.stack(
            [(v := np.random.default_rng(len(t)).normal(size=8)) / np.linalg.norm(v) for t in texts]
        )

    monkeypatch.setattr(module, "embed", vector)
    docs, train = (load_docs("demo", d, n_docs=20, options={"annotators": "both"}) for d in ("test", "train"))
    rows = module.nearest_demos(docs, train, 3, "any")
    assert all(train.annotator[r] == a for a, own in zip(docs.annotator, rows) for r in own) and all(
        len(own) == 3 for own in rows
    )
    alone = [k for k, a in enumerate(train.annotator) if a is None]
    best = np.array(alone)[(vector(docs.texts) @ vector([train.texts[k] for k in alone]).T).argmax(1)]
    assert [own[-1] for own, a in zip(rows, docs.annotator) if a is None] == [
        b for b, a in zip(best, docs.annotator) if a is None
    ]


ANSWERS = [  # format, what a model wrote, the labels that it names for certain, how it was read
    ("json", '{"label": ["joy"]}', ("joy",), "well_formed"),
    ("json", '{"label": "joy"}', ("joy",), "loose"),
    ("json", '{"labels": ["joy", "fear"]}', ("joy", "fear"), "loose"),
    ("json", '["joy", "fear"]', ("joy", "fear"), "loose"),
    ("json", '```json\n{"label": ["joy"]}\n```', ("joy",), "loose"),
    ("json", '{"label": ["Joy","Fear"]}', ("joy", "fear"), "well_formed"),
    ("json", '{"label": []}', (), "loose"),
    ("json", '{"label": ["none"]}', ("none",), "well_formed"),
    ("json", '{"label": [""]}', (), "unread"),
    ("json", '{"label": ["joy", "joy"]}', ("joy", "joy"), "loose"),
    ("json", '{\n  "label": [\n    "joy",\n    "fear"\n  ]\n}', ("joy", "fear"), "loose"),
    ("json", '{"label": ["joy; fear"]}', ("joy", "fear"), "loose"),
    ("json", "{'label': ['joy', 'fear']}", ("joy", "fear"), "loose"),
    ("json", '{"label": null}', (), "unread"),
    ("json", '<think>\nmaybe joy or fear\n</think>\n{"label": ["anger"]}', ("anger",), "loose"),
    ("json", '{"label": ["not joy"]}', (), "unread"),
    ("json", '{"reason": "joy", "label": ["fear"]}', ("fear",), "loose"),
    ("json", 'The label is {"label": ["fear"]}.', ("fear",), "loose"),
    ("json", '{"label": {"joy": 1, "fear": 0}}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "confidence": {"fear": 0.1}}', ("joy",), "loose"),
    ("json", '{"label": ["joy", "sadness"]}', ("joy",), "in_part"),
    ("json", '{"emotion": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy", "fear"}', ("joy", "fear"), "loose"),
    ("json", '{"label": [joy, fear]}', ("joy", "fear"), "loose"),
    ("json", '{label: ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy" "fear"]}', ("joy", "fear"), "loose"),
    ("json", "['joy' 'fear']", ("joy", "fear"), "loose"),
    ("json", '("joy","fear")', ("joy", "fear"), "loose"),
    ("json", '{"joy","fear"}', ("joy", "fear"), "loose"),
    ("json", '{"joy": 1, "fear": 0, "anger": 0}', ("joy",), "loose"),
    ("json", '{"joy": 0.9, "fear": 0.1}', (), "unread"),
    ("json", '{"label": ["joy"], "label": ["fear"]}', (), "unread"),
    ("json", '{"label": ["joy"]}\n{"label": ["fear"]}', ("joy",), "in_part"),
    ("json", '[{"label": "joy"}, {"label": "fear"}]', ("joy", "fear"), "loose"),
    ("json", '[{"label":"joy","score":0.9}]', ("joy",), "loose"),
    ("json", '{"reason": "joy"}', (), "unread"),
    ("json", '{"reason": ["joy"]}', (), "unread"),
    ("json", '{"excluded": ["joy"]}', (), "unread"),
    ("json", '{"result": {"label": ["joy"]}}', ("joy",), "loose"),
    ("json", '{"label": ["jo', (), "unread"),
    ("json", '{"label": ["joy', ("joy",), "in_part"),
    ("json", '{"label": "joy, fear"}', ("joy", "fear"), "loose"),
    ("json", '{"label": "joy and fear"}', ("joy", "fear"), "loose"),
    ("json", '{"label": None}', (), "unread"),
    ("json", '{"label": ["none", "joy"]}', ("none", "joy"), "in_part"),
    ("json", '{"label": [null]}', (), "unread"),
    ("json", '{"label": [1, 0, 1]}', (), "unread"),
    ("json", '{"label": true}', (), "unread"),
    ("json", "{}", (), "unread"),
    ("json", "[]", (), "loose"),
    ("json", "[ ]", (), "loose"),
    ("json", '{"label":', (), "unread"),
    ("json", '{"label": "joy", "fear"}', ("joy", "fear"), "in_part"),
    ("json", 'Not joy: {"label": ["fear"]}', ("fear",), "in_part"),
    ("json", '{"label": ["joy"]} and also fear', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]}\n\nExplanation: the author is happy.', ("joy",), "loose"),
    ("json", "<think>joy", (), "unread"),
    ("json", "<think></think>joy", ("joy",), "loose"),
    ("json", '{"label": ["joy"], "reason": "not fear', ("joy",), "in_part"),
    ("json", "{'reason': \"it's joy\", 'label': ['fear']}", ("fear",), "loose"),
    ("json", "{“label”: [“joy”]}", ("joy",), "loose"),
    ("json", '{"Label": "Joy"}', ("joy",), "loose"),
    ("json", '{"label": ["\\u006aoy"]}', ("joy",), "loose"),
    ("json", '{"label": [["joy","fear"]]}', ("joy", "fear"), "loose"),
    ("json", '{"label": ["joy", ["fear"]]}', (), "unread"),
    ("json", "```\njoy, fear\n```", ("joy", "fear"), "loose"),
    ("json", '```json\n["joy"]\n```\nThe author is happy.', ("joy",), "loose"),
    ("json", 'json\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": {"joy": true, "fear": false}}', ("joy",), "loose"),
    ("json", '{"label": {"joy": 0, "fear": 0}}', (), "loose"),
    ("json", '{"label": {"joy": 2}}', (), "unread"),
    ("json", '{"label": {"name": "joy"}}', (), "unread"),
    ("json", 'The post shows joy.\n{"label": ["fear"]}', ("fear",), "in_part"),
    ("json", "\\boxed{joy}", ("joy",), "loose"),
    ("json", '{"labels": ["joy"], "label": ["fear"]}', ("fear",), "in_part"),
    ("json", '{"answer": ["joy"], "alternatives": ["fear"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"],}', ("joy",), "loose"),
    ("json", '{"label": ["joy",]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]}}', ("joy",), "loose"),
    ("json", '{"label": "[\\"joy\\"]"}', (), "unread"),
    ("json", '"joy"', ("joy",), "loose"),
    ("json", '"joy", "fear"', ("joy", "fear"), "loose"),
    ("json", "{'label': 'none'}", ("none",), "loose"),
    ("json", '{"label": "N/A"}', ("none",), "loose"),
    ("json", '{"label": ["no emotions"]}', ("none",), "loose"),
    ("comma", "joy, fear", ("joy", "fear"), "well_formed"),
    ("comma", "joy and fear", ("joy", "fear"), "loose"),
    ("comma", "Joy; Fear", ("joy", "fear"), "loose"),
    ("comma", "- joy\n- fear", ("joy", "fear"), "loose"),
    ("comma", "1. joy\n2. fear", ("joy", "fear"), "loose"),
    ("comma", "joy", ("joy",), "well_formed"),
    ("comma", "None", ("none",), "well_formed"),
    ("comma", "none.", ("none",), "loose"),
    ("comma", "joy, none", ("joy", "none"), "in_part"),
    ("comma", "joy/fear", ("joy", "fear"), "loose"),
    ("comma", "The emotions are joy, fear.", ("joy", "fear"), "loose"),
    ("comma", "joy (strong), fear (weak)", ("joy", "fear"), "loose"),
    ("comma", "**joy**, fear", ("joy", "fear"), "loose"),
    ("comma", "joy,fear,", ("joy", "fear"), "loose"),
    ("comma", "Emotions: joy", ("joy",), "loose"),
    ("comma", "joy，fear", ("joy", "fear"), "loose"),
    ("comma", "not joy, fear", ("fear",), "in_part"),
    ("comma", "joy\nInput: x", ("joy",), "loose"),
    ("comma", "no emotions", ("none",), "loose"),
    ("comma", "N/A", ("none",), "loose"),
    ("comma", "[joy, fear]", ("joy", "fear"), "loose"),
    ("comma", "joy or fear", (), "unread"),
    ("comma", "joy, fear, or anger", (), "unread"),
    ("comma", "There is no anger, fear, or joy in this text.", (), "unread"),
    ("comma", "The author feels joy, fear", (), "unread"),
    ("comma", "I would say that, overall, joy, but also fear", (), "unread"),
    ("comma", "The emotions are: joy and fear", ("joy", "fear"), "loose"),
    ("comma", "The answer is not joy", (), "unread"),
    ("comma", "The emotion is joy because the author won.", (), "unread"),
    ("comma", "**Emotions:** joy, fear", ("joy", "fear"), "loose"),
    ("comma", "Emotions:\n- joy\n- fear", ("joy", "fear"), "loose"),
    ("comma", "Here are the labels:\njoy, fear", ("joy", "fear"), "loose"),
    ("comma", "- **joy**: the author won a prize\n- **fear**: they worry", ("joy", "fear"), "loose"),
    ("comma", "- joy: not present\n- fear: present", ("fear",), "in_part"),
    ("comma", "joy: 0.9, fear: 0.1", (), "unread"),
    ("comma", "joy\nfear", ("joy", "fear"), "loose"),
    ("comma", "joy\n\nfear", ("joy",), "in_part"),
    ("comma", "- [x] joy\n- [ ] fear", ("joy",), "loose"),
    ("comma", "1) joy 2) fear", ("joy", "fear"), "loose"),
    ("comma", "joy?", (), "unread"),
    ("comma", "joy!", ("joy",), "loose"),
    ("comma", '"joy"', ("joy",), "loose"),
    ("comma", "'joy', 'fear'", ("joy", "fear"), "loose"),
    ("comma", "`joy`", ("joy",), "loose"),
    ("comma", "JOY", ("joy",), "well_formed"),
    ("comma", "jóy", (), "unread"),
    ("comma", "joyful", (), "unread"),
    ("comma", "enjoy", (), "unread"),
    ("comma", "joy fear", (), "unread"),
    ("comma", "joy, fear and anger", ("joy", "fear", "anger"), "loose"),
    ("comma", "joy, fear, and anger", ("joy", "fear", "anger"), "loose"),
    ("comma", "anger & joy", ("anger", "joy"), "loose"),
    ("comma", "joy + fear", ("joy", "fear"), "loose"),
    ("comma", "joy -> fear", (), "unread"),
    ("comma", "_joy_", ("joy",), "loose"),
    ("comma", "# joy", ("joy",), "loose"),
    ("comma", "> joy", ("joy",), "loose"),
    ("comma", "joy (not fear)", (), "unread"),
    ("comma", "joy (maybe)", (), "unread"),
    ("comma", "joy [fear is weak]", (), "unread"),
    ("comma", "none of the above", ("none",), "loose"),
    ("comma", "None of the emotions apply.", ("none",), "loose"),
    ("comma", "There are no emotions present.", ("none",), "loose"),
    ("comma", "no anger", (), "unread"),
    ("comma", "no joy", (), "unread"),
    ("comma", "nothing", (), "unread"),
    ("comma", "neutral", (), "unread"),
    ("comma", "no", (), "unread"),
    ("comma", "", (), "unread"),
    ("comma", "   ", (), "unread"),
    ("comma", "\n\n", (), "unread"),
    ("comma", "-", (), "unread"),
    ("comma", "...", (), "unread"),
    ("comma", "neither joy nor fear", (), "unread"),
    ("comma", "joy, joy", ("joy", "joy"), "loose"),
    ("comma", "none, none", ("none", "none"), "loose"),
    ("comma", "n/a, joy", ("joy",), "in_part"),
    ("comma", "The post expresses happiness about winning.\nAnswer: joy", ("joy",), "loose"),
    ("comma", "Let me think step by step.\nEmotions: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "happy\nAnswer: joy", (), "unread"),
    ("comma", "Input: joy", (), "unread"),
    ("comma", "Sure! joy", (), "unread"),
    ("comma", "Sure, joy", ("joy",), "in_part"),
    ("comma", "<answer>joy</answer>", ("joy",), "loose"),
    ("comma", "<b>joy</b>", ("joy",), "loose"),
    ("comma", "ＪＯＹ", ("joy",), "loose"),
    ("comma", "joy\u200b", ("joy",), "loose"),
    ("comma", "“joy”", ("joy",), "loose"),
    ("comma", "joy;fear;", ("joy", "fear"), "loose"),
    ("comma", "joy|fear", ("joy", "fear"), "loose"),
    ("comma", "joy、fear", ("joy", "fear"), "loose"),
    ("comma", "joy，fear；anger", ("joy", "fear", "anger"), "loose"),
    ("comma", "joy.", ("joy",), "loose"),
    ("comma", "joy. fear.", (), "unread"),
    ("comma", "a) joy\nb) fear", ("joy", "fear"), "loose"),
    ("comma", "• joy\n• fear", ("joy", "fear"), "loose"),
    ("comma", "* joy\n* fear", ("joy", "fear"), "loose"),
    ("comma", "joy\nNot fear", ("joy",), "in_part"),
    ("comma", "joy, possibly fear", ("joy",), "in_part"),
    ("comma", "mostly joy", (), "unread"),
    ("comma", "joy - 5", (), "unread"),
    ("comma", "without joy, fear", (), "unread"),
    ("comma", "joy, not fear", ("joy",), "in_part"),
    ("comma", "labels = [joy, fear]", ("joy", "fear"), "loose"),
    ("comma", 'labels = ["joy", "fear"]', ("joy", "fear"), "loose"),
    ("comma", "Emotion: none", ("none",), "loose"),
    ("comma", "Emotions: none, joy", ("none", "joy"), "in_part"),
    ("comma", "The emotions expressed in this text are **joy** and **fear**.", ("joy", "fear"), "loose"),
    ("comma", "joy and the rest", (), "unread"),
    ("comma", "N.A.", ("none",), "loose"),
    ("comma", "NA", (), "unread"),
    ("comma", "nan", (), "unread"),
    ("comma", "null", (), "unread"),
    ("comma", "NONE", ("none",), "well_formed"),
    ("comma", "[none]", ("none",), "loose"),
    ("comma", "[None]", ("none",), "loose"),
    ("comma", "Joy/Fear/Anger", ("joy", "fear", "anger"), "loose"),
    ("comma", "joy (fear)", (), "unread"),
    ("comma", "joy, fear (joy)", ("joy",), "in_part"),
    ("polysyndeton", "The joy and the fear", ("joy", "fear"), "loose"),
    ("polysyndeton", "joy and fear", ("joy", "fear"), "loose"),
    ("polysyndeton", "the joy, the fear", ("joy", "fear"), "loose"),
    ("polysyndeton", "the joy and the sadness", ("joy",), "in_part"),
    ("polysyndeton", "I feel joy and fear", (), "unread"),
    ("polysyndeton", "the fear and", ("fear",), "loose"),
    ("polysyndeton", "- the joy\n- the fear", ("joy", "fear"), "loose"),
    ("polysyndeton", "none", ("none",), "well_formed"),
    ("polysyndeton", "the none", ("none",), "well_formed"),
    ("<{label}; {label}>", "<joy; fear> because", ("joy", "fear"), "loose"),
    ("<{label}; {label}>", "<joy; sad>", ("joy",), "in_part"),
    ("<{label}; {label}>", "joy; fear", ("joy", "fear"), "loose"),
    ("<{label}; {label}>", "<joy", ("joy",), "in_part"),
    ("<{label}; {label}>", '["joy"]', ("joy",), "loose"),
    ("json", 'Label: ["joy", "fear"]', ("joy", "fear"), "loose"),
    ("json", 'Output: {"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}<|im_end|>', ("joy",), "loose"),
    ("json", 'Sure! Here is the JSON:\n```json\n{"label": ["joy"]}\n```\nLet me know', ("joy",), "loose"),
    ("json", '{"label": ["**joy**"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy (strong)"]}', ("joy",), "loose"),
    ("json", '{"label": ["1. joy", "2. fear"]}', ("joy", "fear"), "loose"),
    ("json", '{"label": "joy\\nfear"}', (), "unread"),
    ("json", '{"label": ["joy/fear"]}', ("joy", "fear"), "loose"),
    ("json", "label: joy", ("joy",), "loose"),
    ("json", "label: [joy, fear]", ("joy", "fear"), "loose"),
    ("json", "labels:\n  - joy\n  - fear", ("joy", "fear"), "loose"),
    ("json", 'label = "joy"', ("joy",), "loose"),
    ("json", "- label: joy", ("joy",), "loose"),
    ("json", '{"labels": {"primary": "joy"}}', (), "unread"),
    ("json", '{"label": ["joy"], "labels": ["fear"]}', ("joy",), "in_part"),
    ("json", '[["joy"], ["fear"]]', (), "unread"),
    ("json", "joy, fear (both strong)", ("joy", "fear"), "loose"),
    ("json", "joy – fear", (), "unread"),
    ("json", "joy... fear", (), "unread"),
    ("json", "joy,\nfear", ("joy", "fear"), "loose"),
    ("json", "joy,\n fear,\n anger", ("joy", "fear", "anger"), "loose"),
    ("json", "1. joy", ("joy",), "loose"),
    ("json", "joy 1", (), "unread"),
    ("json", "(joy, fear)", ("joy", "fear"), "loose"),
    ("json", "joy and fear.", ("joy", "fear"), "loose"),
    ("json", "Both joy and fear", ("joy", "fear"), "loose"),
    ("json", "Joy. The author is happy.", ("joy",), "loose"),
    ("json", "joy: the author is happy", (), "unread"),
    ("json", "The author expresses joy.", (), "unread"),
    ("json", "I think the label is joy.", ("joy",), "loose"),
    ("json", "It's joy", (), "unread"),
    ("json", "Joy (because they won)", ("joy",), "loose"),
    ("json", "only joy", (), "unread"),
    ("json", "primarily joy", (), "unread"),
    ("json", "joy, fear.\n\nExplanation: they won", ("joy", "fear"), "loose"),
    ("json", "Emotion 1: joy\nEmotion 2: fear", (), "unread"),
    ("json", "Primary emotion: joy; secondary: fear", ("joy",), "in_part"),
    ("json", "joy,none,fear", ("joy", "none", "fear"), "in_part"),
    ("json", "no label", ("none",), "loose"),
    ("json", "No emotion is expressed.", ("none",), "loose"),
    ("json", "This text has no emotions", (), "unread"),
    ("json", "No emotions.", ("none",), "loose"),
    ("json", "None, because it is a fact", ("none",), "in_part"),
    ("json", "none of these", (), "unread"),
    ("json", "neither", (), "unread"),
    ("json", "n/a.", ("none",), "loose"),
    ("json", "N / A", ("none",), "loose"),
    ("json", "not applicable", ("none",), "loose"),
    ("json", '["none"]', ("none",), "loose"),
    ("json", "empty list", (), "unread"),
    ("json", "joy\tfear", (), "unread"),
    ("json", "#joy #fear", (), "unread"),
    ("json", "joy ✅ fear ❌", (), "unread"),
    ("json", "✅ joy\n❌ fear", ("joy",), "in_part"),
    ("json", "joy=1, fear=0", (), "unread"),
    ("json", "joy: yes\nfear: no", (), "unread"),
    ("json", "joy: 1\nfear: 0", (), "unread"),
    ("json", "| joy | fear |", ("joy", "fear"), "loose"),
    ("json", "| label |\n|---|\n| joy |", ("joy",), "in_part"),
    ("json", "* joy, * fear", ("joy", "fear"), "loose"),
    ("json", "<joy>", ("joy",), "loose"),
    ("json", "<label>joy</label>", ("joy",), "loose"),
    ("json", "Assistant: joy", ("joy",), "loose"),
    ("json", "A: joy", (), "unread"),
    ("json", "joy</s>", ("joy",), "loose"),
    ("json", "«joy»", ("joy",), "loose"),
    ("json", "joy、fear。", ("joy", "fear"), "loose"),
    ("json", "JOY AND FEAR", ("joy", "fear"), "loose"),
    ("json", "j o y", (), "unread"),
    ("json", "joy;\nfear", ("joy", "fear"), "loose"),
    ("json", "Emotions: 1. joy 2. fear", ("joy", "fear"), "loose"),
    ("json", "Emotions: joy (0.9)", (), "unread"),
    ("json", "joy - strong", (), "unread"),
    ("json", "joy—fear", (), "unread"),
    ("json", "joy, and possibly fear", ("joy",), "in_part"),
    ("json", "joy, maybe", ("joy",), "in_part"),
    ("json", "maybe joy, fear", ("fear",), "in_part"),
    ("json", "joy and not fear", (), "unread"),
    ("json", "not joy and fear", (), "unread"),
    ("json", "no joy, fear", (), "unread"),
    ("json", "joy; not fear", ("joy",), "in_part"),
    ("json", "fear, but not joy", ("fear",), "in_part"),
    ("json", "fear but not joy", (), "unread"),
    ("json", "joy only", (), "unread"),
    ("json", "The emotions are not clear: joy, fear", (), "unread"),
    ("json", "The label that does not apply is joy", (), "unread"),
    ("json", "Excluded emotions: joy", (), "unread"),
    ("json", "Other emotions: joy", (), "unread"),
    ("json", "Absent emotions:\n- joy", (), "unread"),
    ("json", "Emotions that are not present:\n- joy\n- fear", (), "unread"),
    ("json", "Emotions not expressed: joy", (), "unread"),
    ("json", "Joy is the emotion", (), "unread"),
    ("json", "joy is expressed", (), "unread"),
    ("json", "{'label': ['joy'], 'not': ['fear']}", ("joy",), "loose"),
    ("json", '{"label": ["joy"]} {"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}, {"label": ["fear"]}', ("joy",), "in_part"),
    ("json", '{"label":["joy"],"label":["joy"]}', (), "unread"),
    ("json", '{"label": ["fear", "joy"], "final": ["joy"]}', ("fear", "joy"), "in_part"),
    ("json", '{"emotions": ["joy"], "reason": "fear"}', ("joy",), "loose"),
    ("json", '{"joy": "yes", "fear": "no"}', (), "unread"),
    ("json", '{"joy": ["x"]}', (), "unread"),
    ("json", '{"label": ["joy"], "not_label": ["fear"]}', ("joy",), "loose"),
    ("json", '[{"emotion": "joy"}, {"emotion": "fear"}]', ("joy", "fear"), "loose"),
    ("json", '[{"label": ["joy"]}]', ("joy",), "loose"),
    ("json", '{"label": [{"name": "joy"}]}', (), "unread"),
    ("json", '{"label": ["joy", 1]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy", null]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy", ""]}', ("joy",), "in_part"),
    ("json", '"{\\"label\\": [\\"joy\\"]}"', (), "unread"),
    ("json", '{"label": "[joy]"}', ("joy",), "loose"),
    ("json", "{\"label\": \"['joy', 'fear']\"}", ("joy", "fear"), "loose"),
    ("json", '{"label": ["joy"}', ("joy",), "loose"),
    ("json", '{"label": "joy"', ("joy",), "in_part"),
    ("json", '{"label": [\'joy", "fear"]}', ("joy", "fear"), "in_part"),
    ("json", '{"label": ["joy"]]}', ("joy",), "loose"),
    ("json", '{{"label": ["joy"]}}', ("joy",), "loose"),
    ("json", '{"label": ["joy"] // happy\n}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], // fear\n}', ("joy",), "in_part"),
    ("json", "label: {joy}", ("joy",), "loose"),
    ("json", "text {text} joy", (), "unread"),
    ("json", "<think>\n\n</think>\n\njoy, fear", ("joy", "fear"), "loose"),
    ("json", "thought</think>joy", ("joy",), "loose"),
    ("json", "<think>joy</think>", (), "unread"),
    ("json", "<thinking>joy</thinking><answer>fear</answer>", ("fear",), "loose"),
    ("json", 'analysisWe think joy.assistantfinal{"label": ["fear"]}', ("fear",), "in_part"),
    ("json", "Input: I fear\nanger", (), "unread"),
    ("json", "joy\n\nInput: I fear it\nanger", ("joy",), "in_part"),
    ("json", "joy\n---\nfear", ("joy",), "in_part"),
    ("json", "joy -- fear", (), "unread"),
    ("comma", "joy. Fear is absent.", ("joy",), "in_part"),
    ("comma", "The emotions are joy. Fear is absent.", ("joy",), "in_part"),
    ("comma", "Joy. The author won.", ("joy",), "loose"),
    ("comma", "Joy. Not at all sad.", ("joy",), "in_part"),
    ("comma", "joy,\nfear,\nand anger", ("joy", "fear", "anger"), "loose"),
    ("comma", "joy,\nInput: x", ("joy",), "in_part"),
]

# what stands around a list must announce or affirm it: format, what a model wrote, its labels, how it was
# read
AROUND = [
    (
        "comma",
        "Emotions: anger, fear, joy\n\nText: I am glad\nEmotions: joy",
        ("anger", "fear", "joy"),
        "in_part",
    ),
    ("comma", "Here are the options:\nanger, fear, joy", (), "unread"),
    ("comma", "Given the labels:\n- anger\n- fear\n- joy\n\nI would choose joy.", (), "unread"),
    ("comma", "Emotions to choose from: anger, fear, joy", (), "unread"),
    (
        "comma",
        '```python\nlabels = ["anger", "fear", "joy"]\nprint(labels[2])',
        ("anger", "fear", "joy"),
        "in_part",
    ),
    (
        "json",
        'Labels: ["anger","fear","joy"]\nText: so glad\nOutput: ["joy"]',
        ("anger", "fear", "joy"),
        "in_part",
    ),
    (
        "json",
        'The possible labels are ["anger","fear","joy"]. I choose {"label": ["joy"]}',
        ("anger", "fear", "joy"),
        "in_part",
    ),
    ("<{label}; {label}>", "Options: <anger; joy>\nAnswer: <joy>", ("anger", "joy"), "in_part"),
    ("json", 'Draft: ["joy","fear"]\nFinal: ["joy"]', ("joy", "fear"), "in_part"),
    ("json", '{"label": ["joy","fear"]}\nCorrection:\n{"label": ["joy"]}', ("joy", "fear"), "in_part"),
    ("comma", "Initial label: joy, fear\nFinal label: joy", ("joy",), "in_part"),
    ("comma", "- joy\n- fear\n\nOf these, only joy applies.", ("joy", "fear"), "in_part"),
    ("<{label}; {label}>", "<joy; fear>\nCorrected: <joy>", ("joy", "fear"), "in_part"),
    ("json", 'It is not ["joy"].', ("joy",), "in_part"),
    ("json", 'Not ["joy"]', ("joy",), "in_part"),
    ("json", 'I would not say {"label": ["joy"]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]} is wrong.', ("joy",), "in_part"),
    ("json", '["joy","fear"] do not apply.', ("joy", "fear"), "in_part"),
    ("json", 'Example output: {"label": ["joy"]}', ("joy",), "in_part"),
    ("json", 'I can\'t help with that. The format would be {"label": ["joy"]}.', ("joy",), "in_part"),
    ("comma", "joy\n\nActually, that is wrong.", ("joy",), "in_part"),
    ("comma", "joy\nHowever, this does not apply.", ("joy",), "in_part"),
    ("comma", "joy. Wait, no.", ("joy",), "in_part"),
    ("<{label}; {label}>", "Not <joy; fear>", ("joy", "fear"), "in_part"),
    ("<{label}; {label}>", "<joy; fear> does not apply", ("joy", "fear"), "in_part"),
    ("<{label}; {label}>", "I rule out <joy>", ("joy",), "in_part"),
    ("json", '{"labels": ["anger","fear","joy"], "predicted": ["joy"]}', (), "unread"),
    ("json", '{"labels": ["anger","fear","joy"], "answer": ["joy"]}', (), "unread"),
    ("json", '{"labels": ["anger","fear","joy"], "present": [false,false,true]}', (), "unread"),
    (
        "json",
        '{"sequence": "so glad", "labels": ["joy","fear","anger"], "scores": [0.97,0.02,0.01]}',
        (),
        "unread",
    ),
    ("json", '{"label": [], "emotions": ["joy"]}', (), "unread"),
    ("json", '{"label": "none", "emotions": ["joy"]}', ("none",), "in_part"),
    ("json", '{"label": "joy", "label2": "fear"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "additional_labels": ["fear"]}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "emotions": ["fear","anger"]}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "applies": false}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "present": "no"}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "present": 0}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "negated": true}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "is_correct": false}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "value": 0}', ("joy",), "in_part"),
    ("json", '{"label": "joy", "score": 0.02}', ("joy",), "in_part"),
    ("json", '{"ruled_out": ["joy"]}', (), "unread"),
    ("json", '{"discarded": ["joy"]}', (), "unread"),
    ("json", '{"removed": ["joy"]}', (), "unread"),
    ("json", '{"ignored": ["joy"]}', (), "unread"),
    ("json", '{"irrelevant": ["joy"]}', (), "unread"),
    ("json", '{"considered": ["joy"]}', (), "unread"),
    ("json", '{"options": ["joy"]}', (), "unread"),
    ("json", '{"negative": ["joy"]}', (), "unread"),
    ("json", '{"weak": ["joy"]}', (), "unread"),
    ("json", '{"low": ["joy"]}', (), "unread"),
    ("json", '{"secondary": ["joy"]}', (), "unread"),
    ("json", '{"doesNotApply": ["joy"]}', (), "unread"),
    ("json", '{"notLabels": ["joy"]}', (), "unread"),
    ("json", '{"nolabel": ["joy"]}', (), "unread"),
    ("json", '{"dont": ["joy"]}', (), "unread"),
    ("json", '{"keywords": ["joy"]}', (), "unread"),
    ("json", '{"trigger_words": ["joy"]}', (), "unread"),
    ("json", '{"evidence": ["joy"]}', (), "unread"),
    ("json", '{"words": ["joy"]}', (), "unread"),
    ("json", '{"quotes": ["joy"]}', (), "unread"),
    ("json", '{"examples": ["joy"]}', (), "unread"),
    ("json", '{"previous": ["joy"]}', (), "unread"),
    ("json", '{"errors": ["joy"]}', (), "unread"),
    ("json", '{"few_shot": [{"label": ["fear"]}]}', (), "unread"),
    ("json", '[]\n\nInput: I am scared\n{"label": ["fear"]}', ("fear",), "in_part"),
    ("comma", "- fear: ✗", (), "unread"),
    ("comma", "- fear: n/a", (), "unread"),
    ("comma", "- fear: N", (), "unread"),
    ("comma", "- fear: nope", (), "unread"),
    ("comma", "- fear: low", (), "unread"),
    ("comma", "- fear: minimal", (), "unread"),
    ("comma", "- fear: denied", (), "unread"),
    ("comma", "- fear: dismissed", (), "unread"),
    ("comma", "- fear: ruled out", (), "unread"),
    ("comma", "- fear: irrelevant here", (), "unread"),
    ("comma", "- fear: doubtful", (), "unread"),
    ("comma", "- fear: zero evidence", (), "unread"),
    ("comma", "- fear: cannot be found", (), "unread"),
    ("comma", "- fear: nothing in the text suggests it", (), "unread"),
    ("comma", "- fear: The author denies this emotion", (), "unread"),
    ("comma", "- fear: nein", (), "unread"),
    ("comma", "- fear: nichts", (), "unread"),
    ("comma", "- fear: いいえ", (), "unread"),
    ("comma", "- fear: —", (), "unread"),
    ("comma", "- joy: ✓\n- fear: ✗", ("joy",), "in_part"),
    ("comma", "- joy: high\n- fear: low", ("joy",), "in_part"),
    ("json", '{"label": ["fear (✗)"]}', (), "unread"),
    ("json", '{"label": ["fear (n/a)"]}', (), "unread"),
    ("json", '{"label": ["fear (nope)"]}', (), "unread"),
    ("json", '{"label": ["fear (zero)"]}', (), "unread"),
    ("json", '{"label": ["fear (denied)"]}', (), "unread"),
    ("json", '{"label": ["fear (discarded)"]}', (), "unread"),
    ("json", '{"label": ["fear (removed)"]}', (), "unread"),
    ("json", '{"label": ["fear (ruled out)"]}', (), "unread"),
    ("json", '{"label": ["fear (crossed out)"]}', (), "unread"),
    ("json", '{"label": ["fear (irrelevant)"]}', (), "unread"),
    ("json", '{"label": ["fear (ironic)"]}', (), "unread"),
    ("json", '{"label": ["fear (sarcastic)"]}', (), "unread"),
    ("json", '{"label": ["fear (mentioned only)"]}', (), "unread"),
    ("json", '{"label": ["fear (low)"]}', (), "unread"),
    ("json", '{"label": ["fear (cannot say)"]}', (), "unread"),
    ("json", '{"label": ["fear (nein)"]}', (), "unread"),
    ("comma", "joy, fear (X)", ("joy",), "in_part"),
    ("comma", "joy, fear (✗)", ("joy",), "in_part"),
    ("comma", "joy, fear (n/a)", ("joy",), "in_part"),
    ("comma", "joy, fear (ruled out)", ("joy",), "in_part"),
    ("comma", "joy (strong), fear (mild)", ("joy", "fear"), "loose"),
    ("comma", "~~joy~~, fear", ("fear",), "in_part"),
    ("comma", "<del>joy</del>, fear", ("fear",), "in_part"),
    ("comma", "<del>joy</del>", (), "unread"),
    ("comma", "<strike>joy</strike>", (), "unread"),
    ("comma", "<s>joy</s>", (), "unread"),
    ("comma", "<not>joy</not>", (), "unread"),
    ("comma", "<no>joy</no>", (), "unread"),
    ("comma", "<reason>joy</reason>", (), "unread"),
    ("comma", "<input>joy</input>", (), "unread"),
    ("comma", "<text>joy</text>", (), "unread"),
    ("comma", "~joy", (), "unread"),
    ("comma", "~~joy~~", (), "unread"),
    ("comma", "Least likely emotion: joy", (), "unread"),
    ("comma", "Emotions to avoid: joy", (), "unread"),
    ("comma", "Emotions ruled out: joy", (), "unread"),
    ("comma", "Emotions that the author denies: joy", (), "unread"),
    ("comma", "Opposing emotions: joy", (), "unread"),
    ("comma", "I doubt that the emotion is joy", (), "unread"),
    ("comma", "Ruled out:\n- joy", (), "unread"),
    ("comma", "The author denies:\n- joy", (), "unread"),
    ("comma", "Weak:\n- fear", (), "unread"),
    ("comma", "Reasoning:\n- joy", (), "unread"),
    ("comma", "Text:\njoy", (), "unread"),
    ("comma", "Labels considered:\n- joy\n- fear\n\nFinal: joy", (), "unread"),
    ("comma", "The emotions are:", (), "unread"),
    ("comma", "The labels for this text are", (), "unread"),
    ("comma", "Answer:", (), "unread"),
    ("comma", "label:", (), "unread"),
    ("comma", "Emotions = ", (), "unread"),
    ("comma", ",", (), "unread"),
    ("comma", ";", (), "unread"),
    ("comma", "|", (), "unread"),
    ("json", "The emotions are:", (), "unread"),
    ("json", "Answer:", (), "unread"),
    ("json", "label:", (), "unread"),
    ("json", ",", (), "unread"),
    ("json", "|", (), "unread"),
    ("json", 'maybe joy and fear\n[/THINK]\n\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", '<|START_THINKING|>joy or fear<|END_THINKING|>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<|START_THINKING|>joy, fear", (), "unread"),
    ("json", '◁think▷joy or fear◁/think▷{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "◁think▷joy, fear", (), "unread"),
    ("json", '<thought>joy or fear</thought>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<thought>joy, fear", (), "unread"),
    ("json", '<reasoning>joy or fear</reasoning>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<reasoning>joy, fear", (), "unread"),
    ("json", '<seed:think>joy or fear</seed:think>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<seed:think>joy, fear", (), "unread"),
    ("json", '<|begin_of_thought|>joy or fear<|end_of_thought|>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<|begin_of_thought|>joy, fear", (), "unread"),
    ("json", '<scratchpad>joy or fear</scratchpad>{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "<scratchpad>joy, fear", (), "unread"),
    ("json", '[THINK]joy or fear[/THINK]{"label": ["anger"]}', ("anger",), "loose"),
    ("json", "[THINK]joy, fear", (), "unread"),
    ("comma", "joy-", (), "unread"),
    ("comma", "joy -", (), "unread"),
    ("json", '["\\tjoy"]', ("joy",), "loose"),
    ("json", '["joy\\n"]', ("joy",), "loose"),
    ("json", '["\\n joy \\t"]', ("joy",), "loose"),
    ("json", '{"label": ["\\tjoy", "fear\\n"]}', ("joy", "fear"), "loose"),
    ("json", '{"label": ["joy", // "fear"\n "anger"]}', ("joy", "anger"), "in_part"),
    ("json", '{"label": ["joy", /* "fear" */ "anger"]}', ("joy", "anger"), "in_part"),
    ("json", '{"label": ["joy", # "fear"\n "anger"]}', ("joy", "anger"), "in_part"),
    ("comma", "joy\n\nExplanation: the text says that the author won.", ("joy",), "loose"),
    ("comma", "The emotions expressed by the author are joy and fear.", ("joy", "fear"), "loose"),
    ("comma", "Sure! Here are the emotions:\n\n- joy\n- fear", ("joy", "fear"), "loose"),
    (
        "comma",
        "Here are the emotions expressed in the text:\n1. **Joy**\n2. **Fear**",
        ("joy", "fear"),
        "loose",
    ),
    ("comma", "Answer: joy", ("joy",), "loose"),
    ("comma", "**Answer:** joy", ("joy",), "loose"),
    ("comma", "### Answer\njoy", ("joy",), "loose"),
    ("comma", "Final answer: joy", ("joy",), "loose"),
    ("comma", "The final answer is joy.", ("joy",), "loose"),
    ("comma", "Output: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "Based on the text, the emotions are: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "Labels: joy, fear\n\nThe author celebrates a victory.", ("joy", "fear"), "loose"),
    ("comma", "- joy: The author celebrates a victory", ("joy",), "loose"),
    ("comma", "The most likely emotion is joy", ("joy",), "loose"),
    ("comma", "Predicted label: joy", ("joy",), "loose"),
    ("comma", "labels: joy", ("joy",), "loose"),
    ("comma", "joy (very strong)", ("joy",), "loose"),
    ("comma", "joy\n\nNote: This is based on the tone of the text.", ("joy",), "loose"),
    ("comma", "The correct label is joy.", ("joy",), "loose"),
    ("comma", "In this text, the emotions are joy and fear", ("joy", "fear"), "loose"),
    ("comma", "emotion = joy", ("joy",), "loose"),
    ("comma", "The answer is: **joy**", ("joy",), "loose"),
    ("comma", "I believe the emotion is joy", ("joy",), "loose"),
    ("comma", "Emotion(s): joy", ("joy",), "loose"),
    ("comma", "EMOTIONS: JOY", ("joy",), "loose"),
    ("comma", "<label>joy</label>, <label>fear</label>", ("joy", "fear"), "loose"),
    ("comma", "None of the emotions apply.\n\nExplanation: a fact.", ("none",), "loose"),
    ("comma", "The label is none", ("none",), "loose"),
    (
        "comma",
        "Joy, Fear\n\nThe author is happy to win, and worries about the next match.",
        ("joy", "fear"),
        "loose",
    ),
    ("json", 'Here is the JSON:\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", 'Here is the answer in JSON format:\n```json\n{"label": ["joy"]}\n```', ("joy",), "loose"),
    ("json", 'The correct answer is: {"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}\n\nThe text is about a win.', ("joy",), "loose"),
    ("json", '<answer>{"label": ["joy"]}</answer>', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "explanation": "not sad at all"}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "confidence": 0.93}', ("joy",), "loose"),
    ("json", '{"labels": ["joy"], "confidence": "high"}', ("joy",), "loose"),
    ("json", '{"id": 3, "label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"text": "I fear", "label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"predicted_emotions": ["joy"]}', ("joy",), "loose"),
    ("json", '{"emotions_expressed": ["joy"]}', ("joy",), "loose"),
    ("json", '{"emotionLabels": ["joy"]}', ("joy",), "loose"),
    ("json", '{"emotion": "joy", "intensity": "high"}', ("joy",), "loose"),
    ("json", '{"label": "joy", "score": 1}', ("joy",), "loose"),
    ("json", 'Based on the text, the label is:\n\n```json\n{"label": ["joy"]}\n```', ("joy",), "loose"),
    ("json", 'Answer: {"label": ["joy"]}<|im_end|>\n<|im_start|>user', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", 'The author won a prize. Thus:\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", 'assistant\n\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}\n\nExplanation:\n- The author won a prize [1].', ("joy",), "loose"),
    ("comma", "joy\n\nScratch that.", ("joy",), "in_part"),
    ("comma", "joy, though hardly", ("joy",), "in_part"),
    ("comma", "joy\n\nEdit: nothing fits", ("joy",), "in_part"),
    ("comma", "- joy: far from it", (), "unread"),
    ("comma", "- joy: opposite of what is said", (), "unread"),
    ("comma", "- joy (in the quote)", (), "unread"),
    ("comma", "Emotions I see least: joy", (), "unread"),
    ("comma", "Not the emotions: joy", (), "unread"),
    ("comma", "joy is wrong", (), "unread"),
    ("comma", "joy\nThat was an error", ("joy",), "in_part"),
    ("comma", "joy\n(this is incorrect)", ("joy",), "in_part"),
    ("comma", "Joy. That is mistaken.", ("joy",), "in_part"),
    ("comma", "Emotion the author lacks: joy", (), "unread"),
    ("comma", "No: joy", (), "unread"),
    ("comma", "joy\nDelete that", ("joy",), "in_part"),
    ("comma", "Opposite of the emotion: joy", (), "unread"),
    ("comma", "joy\n\nI take that back.", ("joy",), "in_part"),
    ("comma", "Anti-label: joy", (), "unread"),
    ("comma", "Unlike the emotion: joy", (), "unread"),
    ("comma", "The label is joy or fear", (), "unread"),
    ("comma", "Candidate labels: joy, fear", (), "unread"),
    ("comma", "The labels to choose from are joy, fear", (), "unread"),
    ("comma", "Valid answers: joy, fear", (), "unread"),
    ("comma", "joy ❌", (), "unread"),
    ("comma", "joy ✗", (), "unread"),
    ("comma", "❌ joy", (), "unread"),
    ("comma", "joy: ❌", (), "unread"),
    ("comma", "Negative: joy", (), "unread"),
    ("comma", "non-joy", (), "unread"),
    ("comma", "un-joy", (), "unread"),
    ("comma", "anti joy", (), "unread"),
    ("comma", "joy~", (), "unread"),
    ("comma", "~~joy, fear~~", (), "unread"),
    ("comma", "- ~~joy~~\n- fear", ("fear",), "in_part"),
    ("comma", "The emotions are likely absent: joy", (), "unread"),
    ("comma", "Emotions (excluded): joy", (), "unread"),
    ("comma", "label != joy", (), "unread"),
    ("comma", "label ≠ joy", (), "unread"),
    ("comma", "label: !joy", (), "unread"),
    ("comma", "!joy", (), "unread"),
    ("comma", "¬joy", (), "unread"),
    ("comma", "- joy → no", (), "unread"),
    ("comma", "* joy -- removed", (), "unread"),
    ("comma", "Which emotion is joy?", (), "unread"),
    ("comma", "The label is joy? Hmm", (), "unread"),
    ("comma", "Emotions: joy (?)", (), "unread"),
    ("json", 'label != ["joy"]', ("joy",), "in_part"),
    ("json", '!["joy"]', ("joy",), "in_part"),
    ("json", '~~["joy"]~~', ("joy",), "in_part"),
    ("json", 'not ["joy"]', ("joy",), "in_part"),
    ("json", '{"label": "!joy"}', (), "unread"),
    ("json", '{"!label": ["joy"]}', (), "unread"),
    ("json", '{"non-label": ["joy"]}', (), "unread"),
    ("json", '{"un_label": ["joy"]}', (), "unread"),
    ("json", '{"label": ["joy"]} ✗', ("joy",), "in_part"),
    ("json", '❌ {"label": ["joy"]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]}\n\nScratch that.', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "status": "rejected"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "valid": "nope"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "polarity": "negative"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "probability": "2%"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "confidence": "low"}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "rejected": ["joy"]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy"], "absent": true}', ("joy",), "in_part"),
    ("json", '{"label": {"joy": "no"}}', (), "unread"),
    ("json", '{"label": {"present": [], "absent": ["joy"]}}', (), "loose"),
    ("json", '{"label": {"absent": ["joy"]}}', (), "unread"),
    ("json", '{"label": [{"label": "joy", "applies": false}]}', ("joy",), "in_part"),
    ("json", '[{"joy": false}]', (), "loose"),
    ("json", '[{"label": "joy", "present": false}, {"label": "fear", "present": true}]', (), "unread"),
    ("json", 'if x: ["joy"]', ("joy",), "in_part"),
    ("json", '["joy"]?', ("joy",), "in_part"),
    ("json", '["joy"] or ["fear"]', ("joy",), "in_part"),
    ("json", 'Would it be ["joy"]?', ("joy",), "in_part"),
    ("json", '<del>["joy"]</del>', ("joy",), "in_part"),
    ("json", '<!-- ["joy"] -->', ("joy",), "in_part"),
    ("json", '// ["joy"]', ("joy",), "in_part"),
    ("json", '# ["joy"]\n["fear"]', ("joy",), "in_part"),
    ("json", 'Is it ["joy"]?', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]} → no', ("joy",), "in_part"),
    ("comma", "1. joy\n2. fear\n\nThe text describes winning.", ("joy", "fear"), "loose"),
    (
        "comma",
        "* **Joy**: The author is thrilled about it.\n* **Fear**: The author worries about tomorrow.",
        ("joy", "fear"),
        "loose",
    ),
    ("comma", "Emotions present: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "The primary emotion is joy.", ("joy",), "loose"),
    ("comma", "Emotion: **joy**", ("joy",), "loose"),
    ("comma", "Joy\n\n---\n\nThe author wins.", ("joy",), "loose"),
    ("comma", "joy\n\nReason: he won", ("joy",), "loose"),
    ("comma", "joy, fear\n\n(Explanation: the author won)", ("joy", "fear"), "loose"),
    ("comma", "The labels that apply are: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "Label(s): joy", ("joy",), "loose"),
    ("comma", "Sure, the labels are: joy", ("joy",), "loose"),
    ("comma", "**joy**\n\nThe author won.", ("joy",), "loose"),
    ("comma", "'joy'", ("joy",), "loose"),
    ("comma", "- Emotion: joy\n- Emotion: fear", ("joy", "fear"), "loose"),
    ("comma", "Dominant emotions: joy, fear", ("joy", "fear"), "loose"),
    ("comma", "The sentiment is joy", ("joy",), "loose"),
    ("comma", '"joy"\n\nThe author is celebrating.', ("joy",), "loose"),
    ("comma", "Detected emotions:\n\n* joy\n* fear", ("joy", "fear"), "loose"),
    ("comma", "I think the emotions in this text are joy and fear.", ("joy", "fear"), "loose"),
    ("comma", "My answer: joy", ("joy",), "loose"),
    ("comma", "- joy - the author won the cup", ("joy",), "loose"),
    ("json", '{\n  "label": ["joy"],\n  "reason": "The author won."\n}', ("joy",), "loose"),
    ("json", '{"reasoning": "I was not sure; fear?", "label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "reasoning": null}', ("joy",), "loose"),
    ("json", '{"label": "joy", "scores": {"joy": 0.9, "fear": 0.2}}', ("joy",), "loose"),
    ("json", '{"text": "x", "labels": ["joy"]}', ("joy",), "loose"),
    ("json", '{"tweet": "x", "label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"input": "x", "output": {"label": ["joy"]}}', ("joy",), "loose"),
    ("json", '{"output": ["joy"]}', ("joy",), "loose"),
    ("json", '{"response": "joy"}', ("joy",), "loose"),
    ("json", '{"answer": "joy"}', ("joy",), "loose"),
    ("json", '{"emotion": ["joy"], "sentiment": "positive"}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "sentiment": "positive"}', ("joy",), "loose"),
    ("json", '{"label": ["joy"], "certain": true}', ("joy",), "loose"),
    ("json", 'I believe the best label is {"label": ["joy"]}.', ("joy",), "loose"),
    ("json", '["joy"].', ("joy",), "loose"),
    ("json", '`{"label": ["joy"]}`', ("joy",), "loose"),
    ("json", '**{"label": ["joy"]}**', ("joy",), "loose"),
    ("json", 'json {"label": ["joy"]}', ("joy",), "loose"),
    ("json", 'JSON:\n{"label": ["joy"]}', ("joy",), "loose"),
    ("json", 'Result:\n["joy"]', ("joy",), "loose"),
    ("json", '- {"label": ["joy"]}', ("joy",), "loose"),
    ("json", '1. {"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}\n```\n\nI hope this helps!', ("joy",), "loose"),
    ("json", '{"label": ["joy"]} Let me know if you need anything else.', ("joy",), "loose"),
    ("json", '{"label": ["joy"]}\n\nPlease let me know if this works.', ("joy",), "loose"),
    ("json", '</s>{"label": ["joy"]}', ("joy",), "loose"),
    ("json", '{"Labels": ["joy"]}', ("joy",), "loose"),
    ("json", '{"EMOTIONS": ["joy"]}', ("joy",), "loose"),
    ("json", '{"detected_labels": ["joy"]}', ("joy",), "loose"),
    ("json", '{"labels_present": ["joy"]}', ("joy",), "loose"),
    ("json", '{"text_emotions": ["joy"]}', ("joy",), "loose"),
    ("json", "Label: 'joy'", ("joy",), "loose"),
    ("json", '"label": ["joy"]', ("joy",), "loose"),
    ("json", '{"final_answer": ["joy"]}', ("joy",), "loose"),
    ("comma", "The emotion is joy in the first example", (), "unread"),
    ("comma", "joy\nfear\n\nThese are the options.", ("joy",), "in_part"),
    ("comma", "joy\n\nText: I hate it", ("joy",), "loose"),
    ("comma", "joy, fear\n\nThese are the labels that I can choose from.", ("joy", "fear"), "in_part"),
    ("comma", "- joy: the author would rather avoid it", (), "unread"),
    ("comma", "- joy: someone else feels it", (), "unread"),
    ("comma", "- joy: is what others feel here", (), "unread"),
    ("comma", "The text: joy", (), "unread"),
    ("comma", "This is the text: joy", (), "unread"),
    ("comma", "The user: joy", (), "unread"),
    ("comma", "In the text: joy", (), "unread"),
    ("comma", "Emotions by others: joy", (), "unread"),
    ("comma", "joy\n\nJust kidding.", ("joy",), "in_part"),
    ("comma", "joy\n\nHold on, let me think again.", ("joy",), "in_part"),
    ("comma", "joy\n\nLet me reconsider.", ("joy",), "in_part"),
    ("comma", "joy? fear", (), "unread"),
    ("comma", "Sample answer: joy", (), "unread"),
    ("comma", "Possible answer: joy", (), "unread"),
    ("comma", "The opposite answer: joy", (), "unread"),
    ("comma", "Best answer: joy", ("joy",), "loose"),
    ("comma", "Input text: joy", (), "unread"),
    ("comma", "Response to the text: joy", (), "unread"),
    ("comma", "The label of the text above is joy", (), "unread"),
    ("comma", "joy*", ("joy",), "loose"),
    ("comma", "joy (*)", (), "unread"),
    ("comma", "The labels are: joy, fear, ...", ("joy", "fear"), "in_part"),
    ("comma", "joy, etc.", ("joy",), "in_part"),
    ("comma", "joy, f", ("joy",), "in_part"),
    ("comma", "joy, fea", ("joy",), "in_part"),
    ("comma", "joy, fear, none of the above", ("joy", "fear", "none"), "in_part"),
    ("comma", "joy and", ("joy",), "loose"),
    ("comma", "joy,", ("joy",), "loose"),
    ("comma", "joy or", (), "unread"),
    ("comma", "joy /", ("joy",), "loose"),
    ("comma", "joy;", ("joy",), "loose"),
    ("json", '{"label": ["joy"]} vs {"label": ["fear"]}', ("joy",), "in_part"),
    ("json", '{"output": {"label": ["joy"]}, "corrected": {"label": ["fear"]}}', (), "unread"),
    ("json", '{"draft": {"label": ["joy"]}}', (), "unread"),
    ("json", '{"label": ["joy"], "final": "fear"}', ("joy",), "in_part"),
    ("json", '{"example": {"label": ["joy"]}, "label": ["fear"]}', ("fear",), "in_part"),
    ("json", '{"label": [{"joy": false}]}', (), "loose"),
    ("json", '{"label": {"value": "joy", "applies": false}}', (), "unread"),
    ("json", '{"label": ["joy: false"]}', (), "unread"),
    ("json", '{"label": ["joy=0"]}', (), "unread"),
    ("json", '{"label": ["~joy"]}', (), "unread"),
    ("json", '{"label": ["no joy"]}', (), "unread"),
    ("json", '{"label": ["<joy>?"]}', (), "unread"),
    ("json", '{"label": "joy|fear"}', ("joy", "fear"), "loose"),
    ("json", '{"label": "joy or fear"}', (), "unread"),
    ("json", '{"label": ["joy or fear"]}', (), "unread"),
    ("json", '{"label": "<joy>"}', ("joy",), "loose"),
    ("json", '{"label": ["label"]}', (), "unread"),
    ("json", '{"label": "..."} \n{"label": ["joy"]}', (), "unread"),
    ("json", '{"label": ["joy", ...]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy", "..."]}', ("joy",), "in_part"),
    ("json", '{"label": ["joy", "..."]', ("joy",), "in_part"),
    ("json", '{"type": "array", "items": ["joy", "fear"]}', (), "unread"),
    ("json", '{"type": "object", "label": {"enum": ["joy", "fear"]}}', (), "unread"),
    ("json", '{"label": {"type": "string", "enum": ["joy"]}}', (), "unread"),
    ("json", '{"assistant": ["joy"]}', ("joy",), "loose"),
    ("json", '{"user": ["joy"]}', (), "unread"),
    ("json", '{"text": ["joy"]}', (), "unread"),
    ("json", '{"topic": ["joy"]}', ("joy",), "loose"),
    ("json", '{"most": ["joy"]}', (), "unread"),
    ("json", '{"option": ["joy"]}', ("joy",), "loose"),
    ("json", '{"target": "joy"}', ("joy",), "loose"),
    ("json", '{"is": ["joy"]}', (), "unread"),
    ("json", '{"json": ["joy"]}', (), "unread"),
    ("json", '{"author": ["joy"]}', (), "unread"),
    ("json", '{"present": ["joy"], "absent": ["fear"]}', ("joy",), "loose"),
    ("json", '{"labels": ["joy"], "gold": ["fear"]}', (), "unread"),
    ("json", '{"emotion": ["joy"], "emotions": ["fear"]}', (), "unread"),
    ("json", 'Text: ["joy"]', ("joy",), "in_part"),
    ("json", 'Author: ["joy"]', ("joy",), "in_part"),
    ("json", 'the text: {"label": ["joy"]}', ("joy",), "in_part"),
    ("json", 'text = ["joy"]', ("joy",), "in_part"),
    ("json", '{"label": ["joy"]}\nText: so sad\n{"label": []}', ("joy",), "in_part"),
    ("polysyndeton", "the joy and the fear and", ("joy", "fear"), "loose"),
    ("polysyndeton", "the joy, and the fear", ("joy", "fear"), "loose"),
    ("polysyndeton", "the joy and the fear\n\nThe end.", ("joy", "fear"), "loose"),
    ("polysyndeton", "the joy and the fear are wrong", ("joy",), "in_part"),
    ("polysyndeton", "not the joy", (), "unread"),
    ("polysyndeton", "The joy and the fear.", ("joy", "fear"), "loose"),
    ("json", "- joy: ✅", ("joy",), "loose"),
    ("json", "- joy: ✓ present", ("joy",), "loose"),
    ("json", "* joy – yes", ("joy",), "loose"),
    ("json", "- joy: strong evidence of it", ("joy",), "loose"),
    ("json", "- joy: N", (), "unread"),
    ("json", "1. joy: yes\n2. fear: no", ("joy",), "in_part"),
    ("json", "- joy: 1\n- fear: 0", (), "unread"),
    ("json", "- joy: true", ("joy",), "loose"),
    ("json", "- joy: présent", (), "unread"),
    ("json", "- joy: sí", (), "unread"),
    ("json", "- joy: x", (), "unread"),
    ("json", "- joy: X", (), "unread"),
]


@pytest.mark.parametrize("label_format, text, chosen, read", ANSWERS + AROUND)
def test_answers_are_read_as_far_as_they_are_certain(label_format, text, chosen, read):
    parsed = parse_labels(text, LabelSet(("anger", "fear", "joy")), label_format)
    assert (parsed.labels, parsed.read) == (chosen, read)
    assert list(parsed.starts) == sorted(parsed.starts)
    assert all(0 <= s < e <= len(text) for s, e in zip(parsed.starts, parsed.ends))


@pytest.mark.parametrize("label_format, text, chosen, read", ANSWERS + AROUND)
def test_each_label_stands_where_its_place_says(label_format, text, chosen, read):
    parsed = parse_labels("\n " + text, LabelSet(("anger", "fear", "joy")), label_format)
    written = [("\n " + text)[s:e] for s, e in zip(parsed.starts, parsed.ends)]
    same = [
        w.lower() == n or n == "none" or w in ("ＪＯＹ", "\\u006aoy") for w, n in zip(written, parsed.labels)
    ]
    assert all(same) and len(written) == len(parsed.labels), written


OTHER_NAMES = [  # names of labels, several of them?, then as above
    (
        ("anger", "disgust", "fear", "joy", "sadness"),
        True,
        "comma",
        "Labels: anger, disgust, fear, joy, sadness\nAnswer: joy",
        ("anger", "disgust", "fear", "joy", "sadness"),
        "in_part",
    ),
    (("-1", "0", "1"), True, "comma", "-1.", ("-1",), "loose"),
    (("-1", "0", "1"), True, "comma", "**-1**", ("-1",), "loose"),
    (("-1", "0", "1"), True, "comma", '"-1"', ("-1",), "loose"),
    (("-1", "0", "1"), True, "comma", "Answer: -1.", ("-1",), "loose"),
    (("-1", "0", "1"), True, "comma", "-1 (negative)", ("-1",), "loose"),
    (("0", "1"), True, "comma", "-1", (), "unread"),
    (("#metoo", "metoo"), True, "comma", "#metoo.", ("#metoo",), "loose"),
    (("the left", "left"), True, "comma", "the left.", ("the left",), "loose"),
    (("both sides", "sides"), True, "comma", "both sides.", ("both sides",), "loose"),
    (("hate", "normal"), False, "comma", "The forbidden label: normal", (), "unread"),
    (("hate", "normal"), False, "comma", "The label of the first example is normal", (), "unread"),
    (("Angst", "Freude"), True, "comma", "Die Emotion ist nicht: Freude", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate-", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate-speech", ("hate-speech",), "well_formed"),
    (("hate", "hate-speech"), True, "comma", "hate speech", ("hate-speech",), "loose"),
    (tuple("ABCDEFGHIJ"), False, "comma", "A. B", (), "unread"),
    (tuple("ABCDEFGHIJ"), False, "comma", "B. A", (), "unread"),
    (tuple("ABCDEFGHIJ"), False, "comma", "Answer: B. A", (), "unread"),
    (tuple("ABCDEFGHIJ"), False, "comma", "C. I", (), "unread"),
    (tuple("ABCDEFGHIJ"), False, "comma", "(D) I", (), "unread"),
    (tuple("ABCDEFGHIJ"), False, "comma", "B", ("B",), "well_formed"),
    (tuple("ABCDEFGHIJ"), False, "comma", "B.", ("B",), "loose"),
    (tuple("ABCDEFGHIJ"), False, "comma", "Answer: B", ("B",), "loose"),
    (("hate", "normal"), False, "comma", "hate", ("hate",), "well_formed"),
    (("hate", "normal"), False, "comma", "Label: hate", ("hate",), "loose"),
    (("hate", "normal"), False, "comma", "Classification: hate", ("hate",), "loose"),
    (("hate", "normal"), False, "comma", "Category: hate", ("hate",), "loose"),
    (("hate", "normal"), False, "comma", "hate\n\nThe text attacks a group.", ("hate",), "loose"),
    (("not hateful", "hateful"), False, "comma", "not hateful", ("not hateful",), "well_formed"),
    (("not hateful", "hateful"), False, "comma", "Not hateful.", ("not hateful",), "loose"),
    (("not hateful", "hateful"), False, "comma", "The text is not hateful", (), "unread"),
    (("not hateful", "hateful"), False, "comma", "Label: not hateful", ("not hateful",), "loose"),
    (("not hateful", "hateful"), False, "comma", "hateful\n\nActually, not hateful", ("hateful",), "in_part"),
    (("not hateful", "hateful"), False, "comma", "hateful", ("hateful",), "well_formed"),
    (("not hateful", "hateful"), False, "json", '{"label": "not hateful"}', ("not hateful",), "well_formed"),
    (
        ("not hateful", "hateful"),
        False,
        "json",
        '{"label": "hateful", "reason": "not nice"}',
        ("hateful",),
        "loose",
    ),
    (
        ("not hateful", "hateful"),
        False,
        "json",
        'Answer: {"label": "not hateful"}',
        ("not hateful",),
        "loose",
    ),
    (("0", "1"), False, "comma", "1", ("1",), "well_formed"),
    (("0", "1"), False, "comma", "1.", ("1",), "loose"),
    (("0", "1"), False, "comma", "Label: 1", ("1",), "loose"),
    (("0", "1"), False, "comma", "The label is 1", ("1",), "loose"),
    (("0", "1"), False, "comma", "1 (yes)", ("1",), "loose"),
    (("0", "1"), False, "comma", "1\n\nThe text is rude.", ("1",), "loose"),
    (("0", "1"), False, "comma", "-1", (), "unread"),
    (("0", "1"), False, "comma", "1. 0", (), "unread"),
    (("0", "1"), False, "comma", "0.", ("0",), "loose"),
    (("0", "1"), False, "comma", "**1**", ("1",), "loose"),
    (("0", "1"), False, "comma", "(1)", ("1",), "loose"),
    (("0", "1"), False, "comma", "[1]", ("1",), "loose"),
    (("0", "1"), False, "comma", "1)", ("1",), "loose"),
    (("0", "1"), False, "comma", '"1"', ("1",), "loose"),
    (("0", "1"), False, "comma", "Answer: 0.", ("0",), "loose"),
    (("0", "1"), False, "json", '{"label": 1}', ("1",), "loose"),
    (("0", "1"), False, "json", '{"label": "1"}', ("1",), "well_formed"),
    (("0", "1"), False, "json", '{"label": 0}', ("0",), "loose"),
    (("0", "1"), False, "json", "[1]", ("1",), "loose"),
    (("0", "1"), False, "json", '{"label": 1, "confidence": 0}', ("1",), "in_part"),
    (("0", "1"), False, "json", '{"label": true}', (), "unread"),
    (("care", "fairness", "text", "author"), True, "comma", "text", ("text",), "well_formed"),
    (
        ("care", "fairness", "text", "author"),
        True,
        "comma",
        "author, text",
        ("author", "text"),
        "well_formed",
    ),
    (
        ("care", "fairness", "text", "author"),
        True,
        "comma",
        "The labels are text, author",
        ("text", "author"),
        "loose",
    ),
    (("care", "fairness", "text", "author"), True, "comma", "Label: text", ("text",), "loose"),
    (("care", "fairness", "text", "author"), True, "comma", "The author is: care", (), "unread"),
    (
        ("care", "fairness", "text", "author"),
        True,
        "comma",
        "The foundations are care and fairness",
        ("care", "fairness"),
        "loose",
    ),
    (("emotion", "no emotion", "label"), False, "comma", "emotion", ("emotion",), "well_formed"),
    (("emotion", "no emotion", "label"), False, "comma", "no emotion", ("no emotion",), "well_formed"),
    (("emotion", "no emotion", "label"), False, "comma", "No emotion.", ("no emotion",), "loose"),
    (("emotion", "no emotion", "label"), False, "comma", "Label: emotion", ("emotion",), "loose"),
    (("emotion", "no emotion", "label"), False, "comma", "label", ("label",), "well_formed"),
    (("emotion", "no emotion", "label"), False, "comma", "label: label", ("label",), "loose"),
    (("emotion", "no emotion", "label"), False, "comma", "The emotion is label", ("label",), "loose"),
    (
        ("only child", "final", "correct", "wrong"),
        True,
        "comma",
        "only child",
        ("only child",),
        "well_formed",
    ),
    (
        ("only child", "final", "correct", "wrong"),
        True,
        "comma",
        "final, correct",
        ("final", "correct"),
        "well_formed",
    ),
    (("only child", "final", "correct", "wrong"), True, "comma", "Answer: wrong", ("wrong",), "loose"),
    (
        ("only child", "final", "correct", "wrong"),
        True,
        "comma",
        "wrong\n\nThe post errs.",
        ("wrong",),
        "loose",
    ),
    (("Freude", "Angst"), True, "comma", "Emotion: Freude", ("Freude",), "loose"),
    (("Freude", "Angst"), True, "comma", "Emotionen: Freude", ("Freude",), "loose"),
    (("Freude", "Angst"), True, "comma", "Antwort: Freude", ("Freude",), "loose"),
    (("Freude", "Angst"), True, "json", '{"emotionen": ["Freude"]}', ("Freude",), "loose"),
    (("hate", "hate-speech"), True, "comma", "hate", ("hate",), "well_formed"),
    (("hate", "hate-speech"), True, "comma", "hate-speech", ("hate-speech",), "well_formed"),
    (("hate", "hate-speech"), True, "comma", "hate, hate-speech", ("hate", "hate-speech"), "well_formed"),
    (("hate", "hate-speech"), True, "comma", "hate–", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate—", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate_", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate…", (), "unread"),
    (("hate", "hate-speech"), True, "comma", "hate...", (), "unread"),
    (("hate", "hate-speech"), True, "json", '{"label": ["hate-"]}', (), "unread"),
    (("hate", "hate-speech"), True, "json", '{"label": ["hate", "hate-', ("hate",), "in_part"),
    (("hate", "hate-speech"), True, "json", '["hate\\u0020"]', ("hate",), "loose"),
    (("hate", "hate-speech"), True, "json", '["\\u00a0hate"]', ("hate",), "loose"),
    (("hate", "hate-speech"), True, "json", '["hate\\\\n"]', (), "unread"),
    (("hate", "hate-speech"), True, "json", '["\\"hate\\""]', (), "unread"),
    (("hate", "hate-speech"), True, "json", '["\\r\\nhate\\r\\n"]', ("hate",), "loose"),
    (("hate", "hate-speech"), True, "json", "['\\thate']", ("hate",), "loose"),
]


@pytest.mark.parametrize("names, multi, label_format, text, chosen, read", OTHER_NAMES)
def test_signs_articles_and_letters_are_parts_of_names(names, multi, label_format, text, chosen, read):
    parsed = parse_labels(text, LabelSet(names, allows_none=multi, multi=multi), label_format)
    assert (parsed.labels, parsed.read) == (chosen, read)


SINGLE = LabelSet(("hate", "hate speech", "normal"), allows_none=False, multi=False)
ONE_LABEL = [
    ("json", '{"label": "hate"}', ("hate",), "well_formed"),
    ("json", '{"label": ["hate"]}', ("hate",), "loose"),
    ("json", "hate", ("hate",), "loose"),
    ("json", '{"label": "none"}', (), "unread"),
    ("json", '{"label": ["hate", "normal"]}', ("hate", "normal"), "in_part"),
    ("json", '{"label": "hate', (), "unread"),
    ("json", '{"label": "normal', ("normal",), "in_part"),
    ("comma", "hate speech", ("hate speech",), "well_formed"),
    ("comma", "Label: normal.", ("normal",), "loose"),
    ("comma", "hate, normal", ("hate", "normal"), "in_part"),
    ("comma", "no hate", (), "unread"),
    ("comma", "hateful", (), "unread"),
    ("comma", "hate or normal", (), "unread"),
]


@pytest.mark.parametrize("label_format, text, chosen, read", ONE_LABEL)
def test_answers_of_one_label(label_format, text, chosen, read):
    parsed = parse_labels(text, SINGLE, label_format)
    assert (parsed.labels, parsed.read) == (chosen, read)


AWKWARD = LabelSet(
    (
        "label",
        "salt and pepper",
        "self-harm",
        "no harm",
        "x/y",
        "C#",
        "<b>",
        "שמחה",
        "e\u0301tat",
        "ja\u200bnein",
    )
)


@pytest.mark.parametrize(
    "text, chosen",
    [
        ('["label"]', ("label",)),
        ('{"label": ["label"]}', ("label",)),
        ("['salt and pepper']", ("salt and pepper",)),
        ("salt and pepper; label", ("salt and pepper", "label")),
        ("Self Harm", ("self-harm",)),
        ("self_harm", ("self-harm",)),
        ("no harm", ("no harm",)),
        ("1. x/y\n2. C#", ("x/y", "C#")),
        ("<b>", ("<b>",)),
        ("**שמחה**", ("שמחה",)),
        ("\u00e9tat", ("e\u0301tat",)),
        ("janein", ("ja\u200bnein",)),
        ("no emotions", ("none",)),
        ("no harms", ("none",)),
    ],
)
def test_names_that_hold_pieces_of_lists_are_read_whole(text, chosen):
    parsed = parse_labels(text, AWKWARD, "json")
    assert parsed.labels == chosen and parsed.read in ("loose", "well_formed")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def plain(value):
    "A `Value` as Python has it"
    if value.kind == "list":
        return [plain(v) for v in value.content]
    if value.kind == "object":
        return {k.content: plain(v) for k, v in value.content}
    if value.kind == "text":
        return value.content
    return ast.literal_eval(
        {"null": "None", "true": "True", "false": "False"}.get(value.content, value.content)
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(json_values, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, 2]))
def test_values_are_those_of_json_and_of_literals(values, ascii_only, indent):
    assert plain(read_value(json.dumps(values, ensure_ascii=ascii_only, indent=indent))) == json.loads(
        json.dumps(values)
    )
    assert plain(read_value(repr(values))) == values


PARTS = [
    "joy",
    "fear",
    "none",
    "hate speech",
    "Ärger",
    ",",
    ", ",
    ";",
    "\n",
    " and ",
    " or ",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    ":",
    '"label": ',
    "**",
    "- ",
    "1. ",
    "(",
    ")",
    "<think>",
    "</think>",
    "```",
    "not ",
    "The emotions are ",
    "Answer: ",
    "\\",
    "null",
    "1",
    ".",
    "?",
    "…",
    "\u200b",
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), st.sampled_from(FORMATS))
def test_any_text_is_read_and_places_do_not_overlap(text, label_format):
    parsed = parse_labels(text, LabelSet(("fear", "hate speech", "joy", "Ärger")), label_format)
    places = list(zip(parsed.starts, parsed.ends))
    assert all(s < e for s, e in places) and all(a <= b for (_, a), (b, _) in zip(places, places[1:]))
    assert parsed.read != "unread" or not parsed.labels
    assert parsed.read != "well_formed" or not parsed.unknown


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        '{"a":' * 9_000,
        "[1," * 9_000,
        " " * 50_000,
        "\n" * 50_000,
        "joy, " * 9_000,
        "**" * 20_000,
        "emotion " * 9_000,
        "\\" * 20_000,
        '{"label": ["joy", ' * 4_000,
        "a" * 90_000,
        "1. " * 9_000,
    ],
)
def test_long_nonsense_is_read_soon(text):
    for label_format in FORMATS[:4]:  # a pattern that runs away meets the time limit of a test
        assert set(parse_labels(text, LabelSet(("fear", "joy")), label_format).labels) <= {"fear", "joy"}


STRANGE = [
    "{w}: joy",
    "{w} label: joy",
    "The label {w} is joy",
    "{w} joy",
    "{w}:\n- joy",
    "## {w}\njoy",
    "joy ({w})",
    "- joy: {w}",
    "- joy - {w}",
    "<{w}>joy</{w}>",
    '{w} ["joy"]',
    '{w}: ["joy"]',
    '{w} label = ["joy"]',
    '{w}:\n["joy"]',
    '<{w}>["joy"]</{w}>',
    '{{"{w}": ["joy"]}}',
    '{{"{w}_label": ["joy"]}}',
    '{{"{w}": {{"label": ["joy"]}}}}',
    '{{"label": ["joy"], "{w}": false}}',
    '{{"label": ["joy"], "{w}": 0}}',
    '{{"label": ["joy"], "{w}": "{w}"}}',
    '{{"label": ["joy"], "{w}": ["fear"]}}',
    '{{"label": ["joy ({w})"]}}',
    '["joy"] // fear {w}',
    '["joy"]\n{w} fear',
    '["joy"]\n{w}: ["anger"]',
    "joy\n{w}: fear",
    "joy\n\nNot {w}",
    "joy\n\n{w} is wrong",
]


@settings(max_examples=300, deadline=None)
@given(
    st.text("abcdefgh", min_size=2, max_size=8).map("qz".__add__),
    st.sampled_from(STRANGE),
    st.sampled_from(["comma", "json", "json-emotions", "<{label}; {label}>"]),
)
def test_words_that_nobody_knows_never_announce_or_affirm_labels(w, pattern, label_format):
    parsed = parse_labels(pattern.format(w=w), LabelSet(("anger", "fear", "joy")), label_format)
    assert parsed.read in ("in_part", "unread"), parsed


@pytest.mark.parametrize("opening, closing", THOUGHT_TAGS)
def test_what_is_thought_is_no_answer(opening, closing):
    labels = LabelSet(("anger", "fear", "joy"))
    for lead in (opening, ""):
        text = f'{lead}joy, fear or {{"label": ["joy"]}}{closing}\n\n{{"label": ["anger"]}}'
        parsed = parse_labels(text, labels, "json")
        assert (parsed.labels, parsed.read) == (("anger",), "loose") and text[
            parsed.starts[0] : parsed.ends[0]
        ] == "anger"
    assert parse_labels(opening + "joy, fear", labels).read == "unread"
    assert thoughts_end("x" + closing + "y") == 1 + len(closing) and thoughts_end("joy") is None


HOSTILE = [
    "I see{b}joy",
    "joy{b}x",
    "- a{b}b",
    "| joy{b}| x",
    '{{"label": ["joy{b}x"]}}',
    "- joy{b}: x",
    "joy{b}(x)",
    "joy{b}& x",
]
REPEATED = [
    "foo, joy, ",
    "joy: ",
    "emotion is ",
    "[",
    "<b>",
    "/* ",
    '["joy"] ',
    "```",
    "joy (",
    "joy &",
    "~",
    "the ",
    "<think>",
    "# ",
    "!",
]


@pytest.mark.parametrize(
    "text",
    [t.format(b=" " * 20_000) for t in HOSTILE]
    + [t * (60_000 // len(t)) for t in REPEATED]
    + ['["joy"] ' + t * (60_000 // len(t)) for t in REPEATED],
)
def test_twice_the_text_takes_about_twice_the_time(text):
    def seconds(text):
        began = time.process_time()
        for label_format in FORMATS[:2]:
            parse_labels(text, LabelSet(("fear", "joy")), label_format)
        return time.process_time() - began

    half = text.replace(" " * 10_000, " " * 5_000) if " " * 20_000 in text else text[: len(text) // 2]
    assert any(
        seconds(text) < 3 * seconds(half) + 0.1 for _ in range(4)
    )  # four times as long where the time is quadratic


def test_an_answer_is_read_the_same_after_ten_thousand_others():
    labels = LabelSet(("anger", "fear", "joy"))
    first = [parse_labels(answer[1], labels, "json") for answer in ANSWERS]
    for k in range(10_000):
        assert parse_labels(ANSWERS[k % len(ANSWERS)][1], labels, "json") == first[k % len(ANSWERS)]


NAMED = [
    "demo",
    "single",
    "multi",
    "MFRC",
    "GoEmotions",
    "HateXplain",
    "MSPPodcast multi",
    "pipeline",
    "config",
    "tiny",
    "json",
    "None",
    "none",
]


@pytest.mark.parametrize("many", [True, False], ids=["several labels", "one label"])
@pytest.mark.parametrize("family", TEMPLATES)
def test_the_name_of_a_file_selects_no_words(tmp_path, family, many):
    labels = ["praise", "blame", "praise, blame" if many else "blame", "praise"]
    rows = [f'{k},it works and breaks {k},"{labels[k % 4]}",train' for k in range(12)]
    options = None if many else {"single": True}

    def prompt(stem):
        path = tmp_path / f"{stem}.csv"
        path.write_text("\n".join(["id,text,labels,split", *rows]) + "\n")
        docs = load_docs(str(path), "train", options=options)
        template = get_template(docs.template, docs.labels.multi, family)
        by_default = build_prompts(docs.take([0]), docs, shots=2, sampling="random")[0].text
        return by_default, build_prompts(docs.take([0]), docs, template, shots=2, sampling="random")[0].text

    right = prompt("contracts")
    assert ("following labels" if many else "following options") in right[1]
    assert [stem for stem in NAMED if prompt(stem) != right] == []


def test_the_name_of_a_file_in_this_folder_selects_no_template(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pipeline", "config", "pipeline.yaml", "json", "comma", "json.yaml"):
        (tmp_path / name).write_text("instruction: nonsense\n")
    assert get_template("demo", True, "pipeline") == TEMPLATES["pipeline"]["demo"]
    assert format_labels(["joy"], "json") == '{"label": ["joy"]}'


def test_registered_names_keep_their_words_and_no_other_name_has_any():
    for family, known in TEMPLATES.items():
        for name in ("multi", "single", "MSPPodcast multi", None, "MFRC.csv", "mfrc", ""):
            assert (
                get_template(name, True, family) == known["multi"]
                and get_template(name, False, family) == known["single"]
            )
    assert get_template("MSPPodcast", True) == TEMPLATES["pipeline"]["MSPPodcast multi"]


def test_half_a_surrogate_has_a_digest():
    prompts = [Prompt("d", text, ()) for text in ("a\ud800", "a\ud801")]
    assert prompts[0].sha256 != prompts[1].sha256 and prompts_hash(prompts[:1]) != prompts_hash(prompts[1:])


def test_demonstrations_are_embedded_once_for_all_chunks_of_documents(monkeypatch):
    "Also where their encoder is another one, or the folder of the encoder has changed"
    import numpy as np

    from mlcllm import demos as module

    asked = []

    def vector(texts, *_):
        asked.append(len(texts))
        return np.stack([np.random.default_rng(len(t)).normal(size=8) for t in texts])

    monkeypatch.setattr(module, "embed", vector)
    docs, train = load_docs("demo", "test", n_docs=8), load_docs("demo", "train")
    whole = module.nearest_demos(docs, train, 3, "any")
    parts = [module.nearest_demos(docs.take(range(k, k + 4)), train, 3, "any") for k in (0, 4)]
    assert asked == [8, len(train), 4, 4] and sum(parts, []) == whole
    module.nearest_demos(docs, train, 3, "another")
    module.nearest_demos(docs, train.take(range(20)), 3, "any")
    assert asked[4:] == [8, len(train), 8, 20]


def test_a_changed_encoder_embeds_anew(monkeypatch, tmp_path):
    import numpy as np

    from mlcllm import demos as module

    asked = []
    monkeypatch.setattr(
        module, "embed", lambda texts, *_: asked.append(len(texts)) or np.ones((len(texts), 2))
    )
    docs, train = load_docs("demo", "test", n_docs=2), load_docs("demo", "train", n_docs=9)
    for words in ("one", "two"):
        (tmp_path / "model.bin").write_text(words)
        os.utime(tmp_path / "model.bin", ns=(len(asked), len(asked)))
        module.nearest_demos(docs, train, 3, str(tmp_path))
    assert asked == [2, 9, 2, 9]
