"Formats and their parsers are exact inverses, for names nobody chose by hand."
import random

import pytest
from hypothesis import given, settings, strategies as st

from mlcllm.data import LabelSet, load_docs
from mlcllm.prompts import LABEL_FORMATS, LabelFormat, build_prompts, check_names, format_labels, parse_labels

word = st.text(st.characters(codec="utf-8", exclude_characters='",\\\n\r{}[]', exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=300, deadline=None)
@given(st.lists(word, min_size=1, max_size=6, unique_by=str.lower), st.sampled_from(sorted(LABEL_FORMATS)), st.data())
def test_reading_inverts_writing(names, label_format, data):
    labels = LabelSet(tuple(names))
    try: check_names(labels, label_format)
    except ValueError: return
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    text = "\n" + format_labels(chosen, label_format) + "\n"
    parsed = parse_labels(text, labels, label_format)
    assert parsed.predicted == tuple(chosen) and parsed.well_formed
    assert [text[s:e] for s, e in zip(parsed.starts, parsed.ends)] == list(parsed.labels)


FORMATS = [*LABEL_FORMATS, "json-emotions", "<{label}; {label}>", "- {label}\n- {label}", "{label} | {label}", '["{label}", "{label}"]', LabelFormat("(", "*", "*", " + ", ")", True)]
PIECES = ["joy", "fear", "Ärger", "喜び", "😀", "e\u0301", "a, b", "salt and pepper", 'say "x"', "it's", "no", "none at all", "the", "x;y", "[1]", "{z}", "]}", "U.S.", "50 %", "- a", "|", "back\\slash", "Z"]


@pytest.mark.parametrize("label_format", FORMATS, ids=str)
def test_reading_inverts_writing_on_10000_random_label_sets(label_format):
    rng, inverted = random.Random(0), 0
    for _ in range(10_000):
        names = {" ".join(rng.sample(PIECES, rng.randint(1, 2))).strip() for _ in range(rng.randint(1, 6))}
        labels = LabelSet(tuple({n.lower(): n for n in sorted(names)}.values()))
        try: check_names(labels, label_format)
        except ValueError: continue
        chosen = rng.sample(labels.names, rng.randint(0, len(labels)))
        text = "\n" + format_labels(chosen, label_format) + "\n\nInput: joy, fear"
        parsed = parse_labels(text.removesuffix("\n\nInput: joy, fear"), labels, label_format)
        assert parsed.predicted == tuple(chosen) and parsed.well_formed, (text, parsed)
        assert [text[s:e] for s, e in zip(parsed.starts, parsed.ends)] == list(parsed.labels)
        inverted += 1
    assert inverted > 2000                                                          # the others hold a piece of the format, and are refused


@pytest.mark.parametrize("names, label_format", [(("a, b", "c"), "comma"), (("salt and pepper",), "polysyndeton"), (('say "x"',), "json"), (("None", "b"), "comma"), (("A", "a"), "comma")])
def test_names_that_cannot_be_read_back_are_refused(names, label_format):
    with pytest.raises(ValueError): check_names(LabelSet(names), label_format)


def test_a_broken_off_list_keeps_its_labels():
    labels = LabelSet(("fear", "joy"))
    parsed = parse_labels('\n{"label": ["joy", "fear"', labels, "json")
    assert parsed.labels == ("joy", "fear") and not parsed.well_formed


@pytest.mark.parametrize("options", [dict(label_order="random", seed=5), dict(sampling="uniform"), dict(sampling="random", shots=3), dict(shots=0), dict(ratio=1.), dict(label_format="polysyndeton")])
def test_demonstrations_are_the_same_for_all_and_from_run_to_run(options):
    docs, train = load_docs("demo", "test"), load_docs("demo", "train")
    a, b = (build_prompts(docs, train, **options) for _ in range(2))
    assert a == b and len({p.demo_ids for p in a}) == 1 and len(a[0].demo_ids) == options.get("shots", 10)


def test_texts_are_never_searched_for_slots():
    from dataclasses import replace
    docs = load_docs("demo", "test", n_docs=1)
    odd = replace(docs, texts=("{label} {text} $name {0} 100%",))
    assert build_prompts(odd, load_docs("demo", "train"))[0].text.endswith("{label} {text} $name {0} 100%")


@pytest.mark.parametrize("label_format, text, chosen", [
    ("json", '{"label":["joy","fear"]}', ("joy", "fear")),                       # compact
    ("json", '{"label": "joy"}', ("joy",)),                                      # no list
    ("json", '```json\n{"label": ["joy", "fear"]}\n```', ("joy", "fear")),       # in a fence
    ("json", '{\n  "label": [\n    "joy",\n    "fear"\n  ]\n}', ("joy", "fear")), # over lines
    ("json", '{"label": [" joy", "fear "]}', ("joy", "fear")),                   # blanks inside the quotes
    ("json", '{"label": ["joy", "fear"], "x": 1}', ("joy", "fear")),             # another key
    ("json-emotions", '{"label": ["joy", "fear"]}', ("joy", "fear")), ("json", '{"emotions": ["joy"]}', ("joy",)), # under another key
    ("json", "none", ("none",)), ("json", "joy, fear", ("joy", "fear")),         # bare
    ("json", "I feel joy and fear", ()), ("json", '{"label": []}', ()),
    ("polysyndeton", "The joy and the fear", ("joy", "fear")),
    ("comma", "joy.", ("joy",)), ("comma", '"joy", "fear"', ("joy", "fear")), ("comma", "joyful, the rest", ()),
])
def test_answers_wrapped_otherwise_are_read_but_not_well_formed(label_format, text, chosen):
    parsed = parse_labels("\n" + text, LabelSet(("fear", "joy")), label_format)
    assert parsed.labels == chosen and not parsed.well_formed
    assert [("\n" + text)[s:e].lower() for s, e in zip(parsed.starts, parsed.ends)] == list(chosen)


def test_the_most_similar_demonstrations_of_an_annotator_are_that_annotators(monkeypatch):
    import numpy as np
    from mlcllm import demos as module
    vector = lambda texts, *_: np.stack([(v := np.random.default_rng(len(t)).normal(size=8)) / np.linalg.norm(v) for t in texts])
    monkeypatch.setattr(module, "embed", vector)
    docs, train = (load_docs("demo", d, n_docs=20, options={"annotators": "both"}) for d in ("test", "train"))
    rows = module.nearest_demos(docs, train, 3, "any")
    assert all(train.annotator[r] == a for a, own in zip(docs.annotator, rows) for r in own) and all(len(own) == 3 for own in rows)
    alone = [k for k, a in enumerate(train.annotator) if a is None]
    best = np.array(alone)[(vector(docs.texts) @ vector([train.texts[k] for k in alone]).T).argmax(1)]
    assert [own[-1] for own, a in zip(rows, docs.annotator) if a is None] == [b for b, a in zip(best, docs.annotator) if a is None]
