"Answers that begin with the rest of the document: a list on a later line counts, the next document's never."

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcllm.data import LabelSet
from mlcllm.prompts import format_labels, get_template, parse_labels
from mlcllm.stepwise_logits import Verbalizer, parse_answer

LABELS = LabelSet(("anger", "fear", "joy", "sadness"))

READ = [  # label format, what the model wrote behind "Input: {text}" without a line break, labels
    ("comma", ".\nfear, sadness", "fear sadness"),
    ("comma", ".\nfear, sadness\n", "fear sadness"),
    ("comma", "!!\n\nfear", "fear"),
    ("comma", " day so far\nnone\n", "none"),
    ("comma", " #sad\nSadness\n", "sadness"),
    ("comma", ".\r\nfear\r\n", "fear"),
    ("comma", " of joy, not that I care.\nsadness\n", "sadness"),
    ("comma", " and more\nand more still\njoy\n", "joy"),
    ("comma", "…\n  fear , joy \n", "fear joy"),
    ("comma", " 😂😂\nfear", "fear"),
    ("comma", ": see you\nfear", "fear"),
    ("polysyndeton", ".\nthe fear and the sadness\n", "fear sadness"),
    ("polysyndeton", " now\nnone\n", "none"),
    ("{label}; {label}", ".\nfear; joy\n", "fear joy"),
    ("{label} | {label}", ".\nfear | joy\n", "fear joy"),
    ("json", '.\n{"label": ["fear"]}\n', "fear"),
    ("<{label}; {label}>", ".\n<fear; joy>\n", "fear joy"),
]
UNREAD = [  # nothing that is certainly this document's answer
    ("comma", ".\nInput: I am afraid\nfear\n"),
    ("comma", " bad\nInput: fear\njoy"),
    ("comma", ".\nfearful, sad"),
    ("comma", ".\nfear and trembling"),
    ("comma", ".\nfear, joyful"),
    ("comma", ".\n\n"),
    ("comma", ".\nfear, none"),
    ("comma", ".\nI feel joy\nfear"),
    ("comma", ".\nHere are the options:\nfear"),
    ("comma", ".\nNot these\nfear"),
    ("comma", ".\nfear, fear"),
]


def verbalizer(label_format, family="SemEval"):
    return Verbalizer(None, LABELS, label_format, get_template(family))


@pytest.mark.parametrize("label_format, text, chosen", READ)
def test_a_list_below_the_rest_of_the_document_is_read(label_format, text, chosen):
    parsed = parse_answer(verbalizer(label_format), text)
    assert parsed.labels == tuple(chosen.split()) and parsed.read in ("in_part", "loose")
    assert [text[s:e].lower() for s, e in zip(parsed.starts, parsed.ends)] == list(parsed.labels)


@pytest.mark.parametrize("label_format, text", UNREAD)
def test_what_is_not_certainly_this_documents_answer_is_not_read(label_format, text):
    parsed = parse_answer(verbalizer(label_format), text)
    assert (parsed.labels, parsed.read) == ((), "unread")


@pytest.mark.parametrize(
    "text, chosen",
    [
        (".\nfear, sadness", ("fear", "sadness")),  # right below
        (".\n\nfear", ()),
        (".\nI love you\njoy", ()),  # may be the next document's
        ("joy it is not\nfear", ()),
        ("Words:\nfear", ()),
        ("# Words\nfear", ()),
    ],
)
def test_without_the_next_documents_first_words_only_the_second_line_counts(text, chosen):
    assert parse_labels(text, LABELS).labels == chosen


def test_a_chat_has_no_document_to_go_on_with():
    chat = Verbalizer(None, LABELS, "comma", get_template("SemEval"), chat=True)
    assert parse_answer(chat, "Full of joy.\nfear").labels == ()
    assert parse_answer(chat, "Let me see.\nfear").labels == ("fear",)


PROSE = st.text(st.sampled_from("qwzx .!?"), min_size=1, max_size=30)  # names no label


@given(
    PROSE,
    st.lists(st.sampled_from(LABELS.names), unique=True),
    PROSE,
    st.lists(st.sampled_from(LABELS.names), unique=True),
    st.sampled_from(["comma", "polysyndeton", "{label}; {label}"]),
)
def test_the_next_documents_answer_is_never_read(rest, names, following, others, label_format):
    own, theirs = (format_labels(n, label_format) for n in (names, others))
    parsed = parse_answer(verbalizer(label_format), f"{rest}\n{own}\nInput: {following}\n{theirs}\n")
    if rest.strip():
        assert parsed.labels == (tuple(names) or ("none",))
    assert parse_answer(verbalizer(label_format), f"{rest}\nInput: {following}\n{theirs}\n").labels == ()
