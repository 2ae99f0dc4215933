"""Questions about one label, two labels and a label set: what they show, what the bundled model answers, and
what is refused.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from mlcllm.data import LabelSet, load_docs
from mlcllm.demos import sample_demos
from mlcllm.engines import load_engine
from mlcllm.prompts import Template, prompts_hash
from mlcllm.questions import (
    ANSWERS,
    Question,
    answer_probs,
    answer_tokens,
    binary_matrix,
    binary_prompts,
    plot_pairs,
    set_prompts,
    set_scores,
    set_targets,
    unary_matrix,
    unary_prompts,
)

TEST, TRAIN = load_docs("demo", "test", n_docs=6), load_docs("demo", "train")
THREE = LabelSet(("hate", "normal", "offensive"), allows_none=False, multi=False)
BUILDERS = dict(unary=unary_prompts, binary=binary_prompts, set=set_prompts)


def single(docs):
    return replace(docs, labels=THREE, gold=np.eye(3, dtype=np.float32)[np.arange(len(docs)) % 3])


def examples(question):
    return question.head.split("\n\n")[1:-1]


def lines(example):
    return dict(
        line.split(": ", 1) if ": " in line else line.split(". ", 1) for line in example.split("\n")[1:]
    )


def gold_of(docs, doc_id):
    return docs.labels.decode(docs.gold[docs.ids.index(doc_id)])


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 15), st.integers(0, 10**6), st.sampled_from(["multilabel", "uniform", "random"]))
def test_demonstrations_show_right_and_wrong_labels_in_equal_parts(shots, seed, sampling):
    unary = unary_prompts(TEST, TRAIN, shots, seed, sampling)[0]
    binary = binary_prompts(TEST, TRAIN, shots, seed, sampling=sampling)[0]
    assert (
        unary.demo_ids
        == binary.demo_ids
        == tuple(TRAIN.ids[i] for i in (sample_demos(TRAIN, shots, sampling, seed=seed) if shots else []))
    )
    right = []
    for doc_id, u, b in zip(unary.demo_ids, map(lines, examples(unary)), map(lines, examples(binary))):
        gold = gold_of(TRAIN, doc_id) or ("none",)
        assert (u["Label"] in gold) == (u["Is the label reasonable"] == "reasonable")
        assert (b["a"] in gold, b["b"] in gold) == (
            (True, False) if b["Correct Label"] == "a" else (False, True)
        )
        if gold == ("none",) and u["Is the label reasonable"] == "unreasonable":
            assert u["Label"] != "none"
        right.append((u["Is the label reasonable"] == "reasonable", b["Correct Label"] == "a"))
    n = np.array(right).reshape(-1, 2).sum(0)
    assert ((n == shots // 2) | (n == (shots + 1) // 2)).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 12),
    st.floats(0, 1),
    st.integers(0, 10**6),
    st.sampled_from(["random", "distribution"]),
    st.booleans(),
)
def test_set_demonstrations(shots, unreasonable, seed, mode, one_label):
    docs, demos = (single(TEST), single(TRAIN)) if one_label else (TEST, TRAIN)
    question = set_prompts(docs, demos, shots=shots, unreasonable=unreasonable, seed=seed, mode=mode)[0]
    shown = [lines(e) for e in examples(question)]
    assert len(shown) == shots and sum(s["Assessment"] == "unreasonable" for s in shown) == int(
        unreasonable * shots + 1e-9
    )
    for doc_id, s in zip(question.demo_ids, shown):
        names = set(s["Label"].split(", ")) - {"none"}
        assert (names == set(gold_of(demos, doc_id))) == (s["Assessment"] == "reasonable")
        assert not one_label or len(names) == 1


def test_a_share_that_floats_cannot_hold_is_not_rounded_down():
    assert (
        0.58 * 50 < 29
        and set_prompts(TEST, TRAIN, shots=50, unreasonable=0.58, sampling="random")[0].head.count(
            "Assessment: unreasonable"
        )
        == 29
    )


def test_wrong_sets_are_drawn_for_each_document():
    alike = replace(TRAIN, gold=np.tile(TRAIN.labels.encode(["joy"]), (len(TRAIN), 1)))
    shown = [
        lines(e)["Label"] for e in examples(set_prompts(TEST, alike, unreasonable=1, sampling="random")[0])
    ]
    assert len(set(shown)) > 5 and "joy" not in shown


@pytest.mark.parametrize("kind", BUILDERS)
def test_what_is_shown_does_not_depend_on_the_documents(kind):
    build = BUILDERS[kind]
    all_of = {q.id: q.text for q in build(TEST, TRAIN)}
    assert {q.id: q.text for q in build(TEST.take([4, 2]), TRAIN)}.items() <= all_of.items()
    assert (
        prompts_hash(build(TEST, TRAIN))
        == prompts_hash(build(TEST, TRAIN))
        != prompts_hash(build(TEST, TRAIN, seed=1))
    )
    drawn = {q.id: q.text for q in set_prompts(TEST, TRAIN, "random")}
    assert {q.id: q.text for q in set_prompts(TEST.take([5, 0]), TRAIN, "random")}.items() <= drawn.items()


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_document_never_demonstrates_for_itself(kind):
    build = BUILDERS[kind]
    shared = build(TEST, TRAIN, shots=10)[0]
    asked = [TRAIN.ids.index(i) for i in shared.demo_ids]
    renamed = replace(
        TRAIN.take(asked), ids=tuple(f"other-{k}" for k in range(10))
    )  # the same text under another id
    for docs in (TRAIN.take(asked), renamed):
        questions = build(docs, TRAIN, shots=10)
        for k, doc_id in enumerate(docs.ids):
            its = [q for q in questions if q.doc_id == doc_id]
            assert len({id(q.head) for q in its}) == 1
            changed = [j for j, (x, y) in enumerate(zip(examples(its[0]), examples(shared))) if x != y]
            assert changed == [k] and shared.demo_ids[k] not in its[0].demo_ids


@pytest.mark.parametrize("kind", BUILDERS)
def test_prompts_end_at_the_answer(kind):
    odd = replace(TEST, texts=tuple("{label} {answer} {a} $name {0} 100%\n\n x " for _ in TEST.ids))
    for q in BUILDERS[kind](odd, TRAIN) + BUILDERS[kind](TEST, TRAIN, shots=0):
        assert q.text == q.text.strip() and q.query.split()[-1] in ("reasonable:", "Label:", "Assessment:")
        assert q.doc_id not in q.demo_ids and ("{0} 100%\n\n x " in q.query) == bool(q.demo_ids)


def test_own_words():
    template = Template(
        "Ist das Etikett vertretbar? Antworte mit {labels}.\n\n",
        "Text: {text}\nEtikett: {label}\nAntwort: {answer}\n\n",
        "answer",
    )
    for build in (unary_prompts, set_prompts):
        q = build(TEST, TRAIN, answers=("ja", "nein"), template=template)[0]
        assert (
            q.text.startswith('Ist das Etikett vertretbar? Antworte mit "ja" or "nein".')
            and q.answers == ("ja", "nein")
            and q.head.count("Antwort: ja") == 5
        )
    binary = Template("", "{text}\na: {a}\nb: {b}\nBetter? {answer}\n", "answer")
    assert binary_prompts(TEST, TRAIN, shots=2, template=binary)[0].query.endswith(
        "\na: admiration\nb: anger\nBetter?"
    )


def test_orders_change_sides_and_sets_but_no_columns():
    p = np.arange(28 * len(TEST)) / 1000
    for order in ("alphabetical", "reverse", "file", "random"):
        questions = binary_prompts(TEST, TRAIN, label_order=order, seed=3)
        m = binary_matrix(questions, p, TEST.labels)
        for q, x in zip(questions, p):
            i, j = (TEST.labels.with_none.index(n) for n in q.labels)
            assert m[TEST.ids.index(q.doc_id), i, j] == x and np.isclose(
                m[TEST.ids.index(q.doc_id), j, i], 1 - x
            )
    both = set_prompts(TEST, TRAIN, [("anger", "joy")] * len(TEST), label_order="reverse")
    assert "\nLabel: joy, anger\n" in both[0].query


def test_matrices_of_parts_and_of_repeats():
    questions = unary_prompts(TEST, TRAIN)
    part = unary_matrix(questions[:3], [0.1, 0.2, 0.3], TEST.labels)
    assert part.shape == (1, 8) and np.isnan(part[0, 3:]).all()  # not asked is nan, not 0
    again = unary_matrix(
        questions + unary_prompts(TEST, TRAIN, seed=1), np.r_[np.full(48, 0.2), np.full(48, 0.6)], TEST.labels
    )
    assert np.allclose(again, 0.4)  # two seeds: their mean
    assert np.isnan(unary_matrix(questions, np.r_[np.nan, np.full(47, 0.5)], TEST.labels)).sum() == 1
    named = [replace(q, labels=("snake_case" if q.labels == ("joy",) else q.labels[0],)) for q in questions]
    labels = LabelSet(tuple(sorted({"snake_case", *TEST.labels.names} - {"joy"})))
    assert not np.isnan(
        unary_matrix(named, np.zeros(48), labels)
    ).any()  # a name with an underscore stays whole


def test_real_corpus_is_asked_fast(data_root):
    folder = data_root / "goemotions"
    docs, train = (load_docs("GoEmotions", s, data_dir=folder) for s in ("dev", "train"))
    questions = binary_prompts(docs, train)
    assert len(questions) == 28 * 5426 == 151_928
    assert len({id(q.head) for q in questions}) == 1 and len(unary_prompts(docs, train)) == 8 * 5426
    m = binary_matrix(questions, np.full(len(questions), 0.3), docs.labels)
    assert np.allclose(np.nansum(m, (1, 2)), 28)
    assert (
        set_targets(set_prompts(docs, train) + set_prompts(docs, train, "distribution"), docs).tolist()
        == [True] * 5426 + [False] * 5426
    )


def test_other_label_sets_of_real_corpora(data_root):
    for name, folder, n_unary, n_binary in (
        ("SemEval", "semeval2018", 12, 66),
        ("HateXplain", "hatexplain", 3, 3),
    ):
        docs = load_docs(name, "dev", data_dir=data_root / folder, n_docs=5)
        train = load_docs(name, "train", data_dir=data_root / folder)
        assert (len(unary_prompts(docs, train)), len(binary_prompts(docs, train))) == (
            5 * n_unary,
            5 * n_binary,
        )
        assert len(binary_prompts(docs, train, both_orders=True)) == 10 * n_binary


def test_answers_of_the_bundled_model(tiny):
    questions = (
        unary_prompts(TEST, TRAIN)
        + binary_prompts(TEST, TRAIN, both_orders=True)
        + set_prompts(TEST, TRAIN)
        + set_prompts(TEST, TRAIN, answers="yes")
    )
    p = answer_probs(tiny, questions)
    assert (
        p.shape == (len(questions),)
        and ((p > 0) & (p < 1)).all()
        and len(np.unique(p.round(6))) > len(p) // 2
    )
    alone = load_engine("tiny", gpu="cpu", share_prefixes=False)
    few = np.random.default_rng(0).choice(len(questions), 12, replace=False)
    for k in few:  # the slow way: one prompt, the model's own forward pass
        q = questions[k]
        with torch.no_grad():
            z = alone.model(torch.tensor([tiny.encode(q.text)])).logits[0, -1].double()
        first, second = (
            max(z[i] for i in ids) for ids in answer_tokens(tiny.tokenizer, q.answers, q.query.split()[-1])
        )
        assert abs(p[k] - float(torch.softmax(torch.stack([first, second]), 0)[0])) < 1e-5
    assert np.allclose(answer_probs(tiny, questions, batch=37), p, atol=1e-5)  # in other parts, the same


def test_the_bundled_model_was_taught_to_answer_and_shares_the_demonstrations(tiny):
    docs = load_docs("demo", "test")
    questions = unary_prompts(docs, TRAIN)
    before = dict(tiny.stats)
    u = unary_matrix(questions, answer_probs(tiny, questions), docs.labels)[:, :-1]
    asked, computed = (tiny.stats[k] - before[k] for k in ("tokens_in", "tokens_forwarded"))
    assert computed < asked / 30  # demonstrations once, a text once for its eight questions
    gold = docs.gold > 0
    assert u[gold].mean() > u[~gold].mean() + 0.02  # better than chance
    both = binary_prompts(docs, TRAIN, both_orders=True)
    m = binary_matrix(both, answer_probs(tiny, both), docs.labels)[:, :-1, :-1]
    wins = m[gold[:, :, None] & ~gold[:, None, :]]
    assert wins.mean() > 0.5


def small_tokenizer(words):  # a tokenizer that knows a blank as a token of its own
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([words] * 9, vocab_size=256 + 40, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)


def test_first_tokens_of_a_real_tokenizer(data_root):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(data_root / "tokenizers" / "llama3" / "tokenizer.json")
    )
    for answers in (*ANSWERS.values(), ("a", "b")):
        read = [[tokenizer.decode([i]) for i in ids] for ids in answer_tokens(tokenizer, answers, "Label:")]
        for word, tokens in zip(answers, read):
            assert (
                " " + word in tokens
                and word[:2] in {t[:2] for t in tokens}
                and all(word.upper().startswith(t.strip().upper()) for t in tokens)
            )
        assert not set(read[0]) & set(read[1])
    with pytest.raises(ValueError, match="begin with the same token ' '"):
        answer_tokens(tokenizer, ("1", "2"))


def test_tokens_of_both_answers_count_for_neither():
    shared, again = (
        TINY.tokenizer(w, add_special_tokens=False).input_ids[0] for w in ("REASONABLE", "REJECTED")
    )
    assert shared == again  # both begin with "RE"
    first, second = answer_tokens(TINY.tokenizer, ("reasonable", "rejected"))
    assert shared not in first + second and first and second


def test_scores_against_a_slow_reference():
    rng = np.random.default_rng(0)
    wanted = rng.random(60) < 0.4
    p = np.clip(wanted * 0.3 + rng.random(60).round(1), 0, 1)
    table = set_scores(p, wanted, n_boot=50).set_index("metric")
    pairs = [(x > y) + 0.5 * (x == y) for x in p[wanted] for y in p[~wanted]]
    hit, said = (p >= 0.5) & wanted, p >= 0.5
    assert np.allclose(
        table.value, [(said == wanted).mean(), 2 * hit.sum() / (said.sum() + wanted.sum()), np.mean(pairs)]
    )
    assert ((table.lo <= table.value) & (table.value <= table.hi)).all()
    assert set_scores(p, wanted, n_boot=50).equals(set_scores(p, wanted, n_boot=50))
    assert set_scores(np.zeros(4), np.ones(4), n_boot=5).value[:2].tolist() == [
        0,
        0,
    ]  # never said "reasonable": F1 is 0, not an error


def some(kind="unary", **other):
    return replace(Question("d", kind, "", "Q:", (), ("joy",), ("a", "b")), **other)


def with_max_length(n):
    return SimpleNamespace(tokenizer=TINY.tokenizer, encode=TINY.encode, score=TINY.score, max_length=n)


TINY = load_engine("tiny", gpu="cpu")
EVERY = replace(TRAIN, gold=np.ones_like(TRAIN.gold), labels=LabelSet(TRAIN.labels.names, allows_none=False))
ALIKE = replace(TRAIN, gold=np.tile(TRAIN.gold[:1], (len(TRAIN), 1)))
NONE = LabelSet(("joy", "none"))
BAD = [  # a call and what its one line says
    (lambda: unary_prompts(TEST, TRAIN, shots=len(TRAIN) + 1), "ask for fewer"),
    (lambda: binary_prompts(TEST, TRAIN, shots=-1), "shots must be a whole number of at least 0, got -1"),
    (lambda: binary_prompts(TEST, TRAIN, seed=0.5), "seed must be a whole number of at least 0, got 0.5"),
    (lambda: unary_prompts(TEST, TRAIN, sampling="unifrom"), "did you mean 'uniform'?"),
    (lambda: binary_prompts(TEST, TRAIN, ratio=2), "ratio must be a number from 0 to 1, got 2"),
    (lambda: unary_prompts(single(TEST), single(TRAIN), sampling="multilabel"), "needs a multi-label task"),
    (lambda: binary_prompts(TEST, TRAIN, label_order="alphabetic"), "did you mean 'alphabetical'?"),
    (
        lambda: unary_prompts(TEST, single(TRAIN)),
        "documents and demonstrations have different labels (admiration, anger,",
    ),
    (
        lambda: binary_prompts(TEST, replace(TRAIN, labels=replace(TRAIN.labels, allows_none=False))),
        "single- or multi-label, with or without none",
    ),
    (
        lambda: unary_prompts(
            *(replace(single(d), labels=replace(THREE, allows_none=True)) for d in (TEST, TRAIN))
        ),
        "has one label a document, and yet its label set allows none",
    ),
    (
        lambda: binary_prompts(*(replace(d, labels=NONE, gold=np.zeros((len(d), 2))) for d in (TEST, TRAIN))),
        "the label name 'none' is taken",
    ),
    (
        lambda: unary_prompts(replace(TEST, labels=EVERY.labels), EVERY, sampling="random"),
        'has every label and the task knows no "none"',
    ),
    (
        lambda: binary_prompts(
            replace(TEST, labels=EVERY.labels), replace(EVERY, gold=0 * EVERY.gold), sampling="random"
        ),
        'has no label and the task knows no "none"',
    ),
    (
        lambda: unary_prompts(TEST, TRAIN, answers="resonable"),
        "unknown answers 'resonable'; did you mean 'reasonable'?",
    ),
    (lambda: unary_prompts(TEST, TRAIN, answers=("ja", "nein")), "need a template that explains them"),
    (lambda: set_prompts(TEST, TRAIN, answers=("ja", "Ja")), "two different words"),
    (lambda: set_prompts(TEST, TRAIN, answers=7), "two different words, got 7"),
    (
        lambda: unary_prompts(TEST, TRAIN, template=Template("", "{text}\n{answer}", "answer")),
        "needs the slot {label} before its answer",
    ),
    (
        lambda: binary_prompts(TEST, TRAIN, template=Template("", "{text}\n{label}\n")),
        "needs the slot {a} before its answer",
    ),
    (
        lambda: unary_prompts(TEST, TRAIN, template=Template("", "{text} {label}\n{answer}", "answer")),
        "in the line of its last words",
    ),
    (
        lambda: set_prompts(TEST, TRAIN, unreasonable=-0.1),
        "unreasonable must be a number from 0 to 1, got -0.1",
    ),
    (
        lambda: set_prompts(TEST, TRAIN, unreasonable="half"),
        "unreasonable must be a number from 0 to 1, got 'half'",
    ),
    (lambda: set_prompts(TEST, TRAIN, mode="randm"), "unknown mode 'randm'; did you mean 'random'?"),
    (lambda: set_prompts(TEST, TRAIN, "golden"), "unknown label_sets 'golden'; did you mean 'gold'?"),
    (lambda: set_prompts(TEST, TRAIN, label_format="jsn"), "did you mean 'json'?"),
    (
        lambda: set_prompts(TEST, TRAIN, [["joy"]] * 5),
        "5 label sets for 6 documents of demo test: give one for each document",
    ),
    (
        lambda: set_prompts(TEST, TRAIN, [["joy"]] * 5 + [["joy", "angr"]]),
        f"label in the set for document {TEST.ids[5]!r} 'angr'; did you mean 'anger'?",
    ),
    (lambda: set_prompts(TEST, TRAIN, [["joy", "none"]] * 6), "unknown label in the set for document"),
    (lambda: set_prompts(TEST, TRAIN, 3), "label_sets must be gold, random, distribution or a list"),
    (
        lambda: set_prompts(TEST, TRAIN, [["joy"]] * 5 + [None]),
        f"the set for document {TEST.ids[5]!r} must be a list of label names, got None",
    ),
    (
        lambda: set_prompts(single(TEST), single(TRAIN), [[]] * 6),
        'is empty, and demo knows no "none": name a label (hate, normal, offensive)',
    ),
    (lambda: set_prompts(single(TEST), single(TRAIN), ["none"] * 6), "unknown label in the set for document"),
    (
        lambda: set_prompts(single(TEST), single(TRAIN), [["hate", "normal"]] * 6),
        "holds 2 labels, and demo has one label a document",
    ),
    (lambda: set_prompts(TEST, ALIKE, mode="distribution", sampling="random"), "to show; use mode random"),
    (lambda: set_targets(unary_prompts(TEST, TRAIN), TEST), "questions about sets are expected"),
    (lambda: set_targets(set_prompts(TEST, TRAIN), TEST.take([0, 1])), "unknown document"),
    (lambda: answer_tokens(small_tokenizer("joy"), ("yes", "no")), "begin with the same token ' '"),
    (lambda: answer_tokens(TINY.tokenizer, ("a", "a")), "begin with the same token ' a'"),
    (
        lambda: answer_probs(TINY, [some(answers=("fear", "fear and anger"))]),
        "'fear' and 'fear and anger' begin with the same token",
    ),
    (
        lambda: answer_probs(with_max_length(3), [some(query="much too long for so small a model:")]),
        "question 'd_unary_joy' has",
    ),
    (lambda: answer_probs(TINY, [some()], batch=0), "batch must be a whole number of at least 1, got 0"),
    (lambda: unary_matrix([some()], [0.1, 0.2], TEST.labels), "2 probabilities for 1 questions"),
    (
        lambda: unary_matrix([some(kind="set")], [0.1], TEST.labels),
        "unary questions are expected, 'd_set_joy' is set",
    ),
    (
        lambda: binary_matrix([some()], [0.1], TEST.labels),
        "binary questions are expected, 'd_unary_joy' is unary",
    ),
    (
        lambda: unary_matrix([some(labels=("joi",))], [0.1], TEST.labels),
        "unknown label 'joi'; did you mean 'joy'?",
    ),
    (lambda: plot_pairs(np.zeros((2, 2)), ("a", "b", "c")), "a matrix of 3 rows and columns is expected"),
    (lambda: set_scores([0.5, np.nan], [True, False]), "question 1: P = nan is no probability"),
    (lambda: set_scores([0.5], [True, False]), "1 probabilities, 2 targets: one each"),
    (lambda: set_scores([0.5], [True], groups=["a", "b"]), "1 probabilities, 1 targets, 2 groups"),
    (lambda: set_scores([], []), "there are no questions to score"),
]


@pytest.mark.parametrize("call, says", BAD, ids=[says[:40] for _, says in BAD])
def test_bad_input_gets_one_line(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value) and says in str(error.value), error.value


def test_a_question_is_previewed_like_a_prompt():
    from mlcllm.prompt_preview import preview

    question = unary_prompts(TEST, TRAIN, shots=2)[0]
    shown = preview(question, load_engine("tiny", gpu="cpu"), TEST.labels)
    assert "".join(shown.to_frame().token) == question.text and "reasonable" in shown._repr_html_()


def test_a_single_label_task_has_no_none():
    posts = single(TEST), single(TRAIN)
    assert len(unary_prompts(*posts)) == len(binary_prompts(*posts)) == 3 * len(TEST)
    assert "none" not in binary_prompts(*posts)[0].head
    with pytest.raises(ValueError, match="different labels"):
        unary_prompts(TEST, posts[1])


def test_duplicates_add_no_information_where_the_groups_are_known():
    "Doubling every question narrows an interval by √2, unless the groups are known"
    x, y, group = np.r_[[0.9] * 60, [0.1] * 40], np.ones(100, bool), np.arange(100)

    def width(*given):
        table = set_scores(*given)
        return table.hi[0] - table.lo[0]

    twice = [np.concatenate([v, v]) for v in (x, y, group)]
    assert abs(width(*twice, 100) - width(x, y, group, 100)) < 1e-9
    assert width(*twice[:2], None, 200) < 0.85 * width(x, y, None, 200)
