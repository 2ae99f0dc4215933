"""Ranges of documents and annotators, wrong labels with a seed or a length of their own, any chain of
thought, user and assistant words.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlcllm.data import LabelSet, load_docs, most_active
from mlcllm.demos import perturb_labels
from mlcllm.engines import load_tokenizer
from mlcllm.prompts import any_cots, build_prompts, get_template
from mlcllm.stepwise_logits import PromptConfig, Verbalizer, ask_prompts, parse_answer

DOCS, TRAIN = load_docs("demo", "test"), load_docs("demo", "train")


def some(**options):
    return load_docs("demo", "test", options=options)


@pytest.mark.parametrize(
    "asked, ids",
    [
        (3, DOCS.ids[:3]),
        ([2, 5], DOCS.ids[2:5]),
        ([len(DOCS) - 2, 10**6], DOCS.ids[-2:]),
        ([0, 1], DOCS.ids[:1]),
    ],
)
def test_a_range_of_documents(asked, ids):
    assert some(doc_range=asked).ids == ids


@pytest.mark.parametrize(
    "asked, says",
    [
        ([5, 5], "is empty"),
        ([-1, 3], "is empty"),
        ([10**6, 10**6 + 1], "there are"),
        ("3", "must be a number, or two"),
        ([1], "must be a number, or two"),
        (True, "must be a number, or two"),
        ([1.5, 3], "must be a number, or two"),
    ],
)
def test_a_range_that_is_none_is_refused(asked, says):
    with pytest.raises(ValueError, match=says):
        some(doc_range=asked)


def test_two_ways_to_say_which_documents_are_one_too_many():
    with pytest.raises(ValueError, match="give one of them"):
        load_docs("demo", "test", n_docs=3, options=dict(doc_range=3))


def test_a_range_of_annotators_keeps_the_most_active():
    fewer = most_active(DOCS, 3)
    assert (
        sorted(set(fewer.vote_annotator)) == ["simulated-1", "simulated-2", "simulated-3"]
        and (fewer.n_annotators == 3).all()
    )
    kept = np.array([w != "simulated-1" or d % 2 == 1 for w, d in zip(DOCS.vote_annotator, DOCS.vote_doc)])
    lazy = replace(
        DOCS, votes=DOCS.votes[kept], vote_doc=DOCS.vote_doc[kept], vote_annotator=DOCS.vote_annotator[kept]
    )
    assert set(most_active(lazy, [4, 5]).vote_annotator) == {"simulated-1"}
    alone = some(annotator_range=[0, 2], annotators="annotator")
    assert set(alone.annotator) == {"simulated-1", "simulated-2"} and len(alone) == 2 * len(DOCS)
    with pytest.raises(ValueError, match="there are 5 annotators"):
        some(annotator_range=[9, 10])


def test_smalldev_of_semeval(tmp_path):
    folder = tmp_path / "English" / "E-c"
    folder.mkdir(parents=True)
    for part in ("dev", "smalldev"):
        (folder / f"2018-E-c-En-{part}.txt").write_text(f"ID\tTweet\tjoy\tanger\n{part}-1\tso\t1\t0\n")
    assert load_docs("SemEval", "dev", data_dir=tmp_path, options={"dev": "smalldev"}).ids == ("smalldev-1",)
    assert load_docs("SemEval", "dev", data_dir=tmp_path).ids == ("dev-1",)
    with pytest.raises(ValueError, match="not on the Hub"):
        load_docs("SemEval", "dev", options={"dev": "smalldev"})


def test_wrong_labels_have_a_seed_of_their_own():
    a, b, c = (
        perturb_labels(TRAIN, dict(labels="random", seed=s), seed=k) for s, k in ((1, 0), (1, 9), (2, 0))
    )
    assert (
        np.array_equal(a, b)
        and not np.array_equal(a, c)
        and np.array_equal(a, perturb_labels(TRAIN, "random", 1))
    )
    prompts = [
        ask_prompts(DOCS.take([0]), TRAIN, PromptConfig(demo_labels=dict(labels="random", seed=s)))[0]
        for s in (1, 2)
    ]
    assert (
        prompts[0].demo_ids == prompts[1].demo_ids and prompts[0].text != prompts[1].text
    )  # the same demonstrations, other labels


@pytest.mark.parametrize("label_format", ["comma", "json"])
def test_wrong_labels_of_the_same_length(label_format):
    tokenizer = load_tokenizer("tiny")
    config = PromptConfig(
        label_format=label_format, demo_labels=dict(labels="distribution", same_length=True, seed=3)
    )
    length = config.length_of(TRAIN.labels, tokenizer)
    shown = perturb_labels(TRAIN, config.demo_labels, length=length)

    def of(rows):
        return [length(TRAIN.labels.decode(r)) for r in rows]

    assert of(shown) == of(TRAIN.gold) and not np.array_equal(shown, TRAIN.gold)
    kinds = {tuple(r) for r in TRAIN.gold}
    assert (
        all(tuple(r) in kinds for r in shown)
        and config.needs_tokenizer
        and not PromptConfig().needs_tokenizer
    )
    with pytest.warns(UserWarning, match="1 of 1 possible demonstrations keep their labels"):
        perturb_labels(TRAIN.take([0]), config.demo_labels, length=length)
    with pytest.raises(ValueError, match="no tokenizer is known"):
        ask_prompts(DOCS, TRAIN, config)


@pytest.mark.parametrize(
    "demo_labels, says",
    [
        (dict(label="random"), "did you mean 'labels'"),
        (dict(labels="random", same_length=True), "must be 'distribution'"),
        (dict(labels="random", seed=-1), "seed must be"),
        (dict(labels="randm"), "did you mean 'random'"),
    ],
)
def test_settings_that_are_not_understood_are_refused(demo_labels, says):
    with pytest.raises(ValueError, match=says):
        perturb_labels(TRAIN, demo_labels)


def test_any_chain_of_thought(tmp_path):
    path = tmp_path / "cot.csv"
    path.write_text("id,cot\n" + "".join(f"{i},because {k}\n" for k, i in enumerate(TRAIN.ids)))
    thinks = dict(example="Text: {text}\nThoughts: {cot}\nLabels: {label}\n\n")
    own, anyone, again = (
        ask_prompts(DOCS.take([0]), TRAIN, PromptConfig(shots=4, template=thinks, cot=cot))[0]
        for cot in (str(path), *[dict(file=str(path), randomize=True)] * 2)
    )
    assert own.demo_ids == anyone.demo_ids and own.text != anyone.text and anyone.text == again.text
    assert set(any_cots({"a": "x", "b": "y"}, TRAIN.ids)) == set(TRAIN.ids)
    with pytest.raises(ValueError, match="did you mean 'randomize'"):
        ask_prompts(
            DOCS.take([0]), TRAIN, PromptConfig(template=thinks, cot=dict(file=str(path), randomise=True))
        )


class Chat:
    "Turns by a template that shows everything"

    chat_template = "shown"

    def apply_chat_template(self, turns, tokenize, add_generation_prompt):
        return "".join(f"[{t['role']}]{t['content']}[end]\n" for t in turns) + "[assistant]"


def test_user_and_assistant_words():
    words = get_template(
        "SemEval", True, dict(user="What does it express? {text}", assistant="Emotions: {label}")
    )
    plain = build_prompts(DOCS.take([0]), TRAIN, words, shots=1, rows=[[0]])[0]
    assert plain.text.endswith(
        f"What does it express? {TRAIN.texts[0]}\nEmotions: "
        f"{plain.text[slice(*plain.answers[0])]}\nWhat does it express? {DOCS.texts[0]}"
    )
    chat = build_prompts(DOCS.take([0]), TRAIN, words, shots=1, rows=[[0]], chat=Chat())[0]
    assert [r for r, _ in chat.messages] == ["user", "assistant", "user"]
    assert (
        chat.messages[1][1].startswith("Emotions: ")
        and chat.messages[2][1] == f"What does it express? {DOCS.texts[0]}"
    )
    assert chat.text[slice(*chat.answers[0])] == plain.text[slice(*plain.answers[0])]
    assert parse_answer(Verbalizer(None, DOCS.labels, "comma", words), "\nEmotions: joy, fear\n").labels == (
        "joy",
        "fear",
    )
    assert get_template("SemEval", True, dict(user="Say: {text}")).example == "Say: {text}\n{label}\n"


@pytest.mark.parametrize(
    "words, says",
    [
        (dict(user="no slot"), "need the slot {text} once"),
        (dict(user="{text} {label}"), "and not {label}"),
        (dict(assistant="{text}: {label}"), "and not {text}"),
        (dict(user="{text}", example="{text}{label}"), "leave example and ask out"),
        (dict(usr="{text}"), "did you mean 'user'"),
    ],
)
def test_user_and_assistant_words_that_cannot_be(words, says):
    with pytest.raises(ValueError, match=says):
        get_template("SemEval", True, words)


def test_parameters_may_be_tables():
    from mlcllm.checks import check_parameter

    for name, value in (
        ("demo_labels", dict(labels="random", seed=1)),
        ("cot", dict(file="cot.csv", randomize=True)),
        ("template", dict(user="{text}")),
    ):
        assert check_parameter(name, value) == value and json.dumps(value)


VECTORS = {
    "anger": [1, 0, 0],
    "fear": [0, 1, 0],
    "joy": [0, 0, 1],
    "fury": [0.9, 0.3, 0],
    "happiness": [0, 0.1, 0.9],
}


@pytest.mark.parametrize(
    "text, labels, unknown",
    [
        ("fury, fear", ("anger", "fear"), ()),
        ("happiness", ("joy",), ()),
        ("joy, happiness", ("joy",), ("happiness",)),
        ("fury, fury", (), ("fury", "fury")),
        ("none, fury", ("none",), ("fury",)),
        ("fear, joy", ("fear", "joy"), ()),
    ],
)
def test_an_unknown_word_counts_as_the_nearest_label_where_that_is_asked_for(
    monkeypatch, text, labels, unknown
):
    from mlcllm import demos

    monkeypatch.setattr(demos, "embed", lambda texts, encoder: np.array([VECTORS[t] for t in texts], float))
    task = LabelSet(("anger", "fear", "joy"))
    plain = parse_answer(Verbalizer(None, task, "comma", get_template("SemEval")), "\n" + text)
    match = demos.NearestLabel(task.names, "an encoder")
    got = parse_answer(Verbalizer(None, task, "comma", get_template("SemEval"), match=match), "\n" + text)
    assert (got.labels, got.unknown) == (labels, unknown)
    assert set(plain.labels) <= set(got.labels) and (got.read == plain.read or got.read == "in_part")
    assert [("\n" + text)[s:e] for s, e in zip(got.starts, got.ends)] == [
        next((w for w, n in match.found.items() if n == l and w in text), l) if l not in text else l
        for l in labels
    ]
