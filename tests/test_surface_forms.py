"""Which spellings of a label have a first token that stands for it: whole words, never a piece that other
words begin with.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from mlcllm.corpora import MORAL_FOUNDATIONS
from mlcllm.data import CLUSTERS, HATE_LABELS, LabelSet
from mlcllm.engines import load_tokenizer
from mlcllm.prompt_preview import LabelTokens, label_tokens, stands_for, surface_forms
from mlcllm.prompts import LABEL_FORMATS, get_template
from mlcllm.questions import answer_tokens
from mlcllm.stepwise_logits import Verbalizer, label_logits

SEMEVAL = tuple("anger anticipation disgust fear joy love optimism pessimism sadness surprise trust".split())
TASKS = {
    "SemEval": LabelSet(SEMEVAL),
    "GoEmotions": LabelSet(tuple(sorted(CLUSTERS))),
    "MFRC": LabelSet(MORAL_FOUNDATIONS),
    "HateXplain": LabelSet(HATE_LABELS, allows_none=False, multi=False),
}

# the form, what its first token holds, what the label's own first token holds, does it stand for the label?
CASES = [
    ("Joy", "Joy", "joy", True),
    (" Joy", " Joy", " joy", True),
    ("NONE", "NONE", "none", True),
    ("NONE", "N", "none", False),
    ("None", "N", "n", False),
    ("Pessimism", "P", "pessim", False),
    ("Pessimism", "P", "p", False),
    ("Disgust", "Dis", "dis", True),
    ("Disgust", "Dis", "disgust", False),
    ("DISGUST", "DIS", "dis", False),
    ("Optimism", "Optim", "optimism", False),
    ("Optimism", "Opt", "optim", False),
    ("a", "a", "A", True),
    ("Hate speech", "Hate", "hate", True),
    ("Hate speech", "H", "hate", False),
    ("No harm", "No", "no", True),
    ("ärger", "ärger", "Ärger", True),
    ("ärger", "ä", "Ä", False),
]


@pytest.mark.parametrize("form, start, own, stands", CASES)
def test_whole_words_and_equal_pieces_stand_for_a_label(form, start, own, stands):
    assert stands_for(LabelTokens("", (1,), start), form, LabelTokens("", (2,), own)) == stands


@given(st.text(st.characters(categories=["Lu", "Ll"]), min_size=2, max_size=9), st.integers(1, 8))
def test_less_of_a_word_than_the_labels_own_token_never_stands_for_it(name, k):
    for form in surface_forms(name):
        piece = LabelTokens("", (1,), form[: min(k, len(form) - 1)])
        assert not stands_for(piece, form, LabelTokens("", (2,), name))


@pytest.fixture(scope="module")
def llama3(data_root):
    return PreTrainedTokenizerFast(
        tokenizer_file=str(data_root / "tokenizers" / "llama3" / "tokenizer.json"),
        eos_token="<|end_of_text|>",
    )


def spoken(verbalizer):
    "prefix -> label -> first tokens as texts, the label's own left out"
    own = {
        prefix: {n: ids[0] for n, ids in names.items()} for prefix, names in verbalizer.label_tokens.items()
    }

    def text(i):
        return verbalizer.tokenizer.decode([i]).strip()

    return {
        prefix: {
            n: {text(i) for i in ids if i != own[prefix][n]}
            for n, ids in zip(verbalizer.labels.with_none, per)
        }
        for prefix, per in verbalizer.variants.items()
    }


@pytest.mark.parametrize("label_format", LABEL_FORMATS)
@pytest.mark.parametrize("task", TASKS)
def test_no_letter_alone_speaks_for_a_label_under_llama3(llama3, task, label_format):
    labels = TASKS[task]
    for names in spoken(Verbalizer(llama3, labels, label_format, get_template(task, labels.multi))).values():
        for n, texts in names.items():
            assert not [t for t in texts if len(t) < 2]
            assert all(
                t in surface_forms(n) or t == t.capitalize() and n.startswith(t.lower()) for t in texts
            )


def test_what_is_left_out_under_llama3(llama3):
    "The pieces that the all-capitals spelling and others brought in: P, F, S, C"
    verbalizer = Verbalizer(llama3, TASKS["SemEval"], "comma", get_template("SemEval"))
    texts = spoken(verbalizer)[" "]
    assert texts == {n: set() for n in verbalizer.labels.with_none} | dict(
        fear={"Fear"},
        joy={"Joy"},
        love={"Love", "LOVE"},
        surprise={"Surprise"},
        trust={"Trust"},
        none={"None", "NONE"},
    )
    assert spoken(Verbalizer(llama3, TASKS["MFRC"], "comma", get_template("MFRC")))[""]["care"] == {"Care"}
    spelt = [
        (n, f, label_tokens(llama3, f, "\njoy, "))
        for n in verbalizer.labels.with_none
        for f in surface_forms(n)[1:]
    ]
    assert (
        sum(not stands_for(t, f, label_tokens(llama3, n, "\njoy, ")) for n, f, t in spelt) == 16
        and len(spelt) == 24
    )


def test_what_a_letter_says_is_no_longer_read_as_none():
    "The bundled tokenizer cuts NONE into N and ONE: a high logit of N left none at the top"
    tokenizer = load_tokenizer("tiny")
    verbalizer = Verbalizer(tokenizer, TASKS["SemEval"], "comma", get_template("SemEval"))
    (n,) = {label_tokens(tokenizer, f, "\n").ids[0] for f in ("NONE", "None")}
    assert tokenizer.decode([n]) == "N" and n not in verbalizer.watch_ids
    logits = np.zeros((1, len(verbalizer.watch_ids)), np.float32)
    logits[0, verbalizer.watch_ids.index(label_tokens(tokenizer, "joy", "\n").ids[0])] = 2
    assert verbalizer.labels.with_none[label_logits(verbalizer, logits, [""])[0].argmax()] == "joy"


@pytest.mark.parametrize(
    "answers, first, second",
    [
        (("reasonable", "unreasonable"), {"reasonable"}, {"un", "Un", "unreasonable"}),
        (("yes", "no"), {"yes", "Yes", "YES"}, {"no", "No", "NO"}),
        (("a", "b"), {"a", "A"}, {"b", "B"}),
    ],
)
def test_answers_to_questions_follow_the_same_rule(llama3, answers, first, second):
    got = [{llama3.decode([i]).strip() for i in ids} for ids in answer_tokens(llama3, answers)]
    assert got == [first, second]
