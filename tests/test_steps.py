"Label steps are found and read right: every format, a real tokenizer, answers that are awkward on purpose."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import find_model, load_engine
from mlcllm.prompt_preview import inspect_labels, label_tokens
from mlcllm.prompts import (
    LABEL_FORMATS,
    Prompt,
    Template,
    build_prompts,
    format_labels,
    get_template,
    parse_labels,
)
from mlcllm.stepwise_logits import (
    ListGrammar,
    Verbalizer,
    count_readings,
    docs_table,
    encode_prompts,
    joined_labels,
    parse_answer,
    read_trace,
    read_traces,
    score_sequences,
    steps_table,
    trace_docs,
    warn_of_parts,
)

EMOTIONS = LabelSet(("anger", "fear", "joy", "love", "sadness"))


@pytest.fixture(scope="module", params=["bundled", "llama3"])
def tokenizer(request):
    if request.param == "bundled":
        return AutoTokenizer.from_pretrained(find_model("tiny"))
    path = request.getfixturevalue("data_root") / "tokenizers" / "llama3" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="<|end_of_text|>")


def written(verbalizer, text, confident=7.0, eos=False):
    "What an engine would give for `text`: at each token, the written id's logit is high if it is watched"
    ids = (
        verbalizer.tokenizer(text, add_special_tokens=False).input_ids
        + [verbalizer.tokenizer.eos_token_id] * eos
    )
    z = np.array([[confident * (i == w) for w in verbalizer.watch_ids] for i in ids], np.float32)
    return SimpleNamespace(
        token_ids=ids,
        text=text,
        finish_reason="stop",
        logits=z,
        logsumexp=np.full(len(ids), confident, np.float32),
    )


OWN_FORMATS = ("json-emotions", "< {label}; {label} >", "{label} | {label}", "- {label}\n- {label}")
THINKS = Template("Labels: {labels}.\n", "Input: {text}\nThoughts: {cot}\nAnswer: {label}\n\n")
ASKED = {
    "plain": (get_template("GoEmotions"), "\n", "\n", False),
    "chat": (get_template("GoEmotions"), "", "", True),
    "full stop": (get_template("Boxes"), " ", ".\n\n", False),
    "thoughts": (THINKS, " joy or fear? Let us see.\nAnswer: ", "\n\n", False),
    "thoughts in a chat": (THINKS, "Not joy. I see fear.\nAnswer: ", "", True),
}  # template, text before and after the answer, chat


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("label_format", (*LABEL_FORMATS, *OWN_FORMATS))
@pytest.mark.parametrize(
    "names",
    [[], ["joy"], ["fear", "sadness"], ["sadness", "anger", "love"]],
    ids=lambda n: "+".join(n) or "none",
)
def test_each_written_label_is_a_step_and_has_the_top_logit_there(tokenizer, label_format, names, asked):
    template, before, after, chat = ASKED[asked]
    verbalizer = Verbalizer(tokenizer, EMOTIONS, label_format, template, chat=chat)
    answer = format_labels(names, label_format)
    trace = read_trace(verbalizer, "d", written(verbalizer, before + answer + after, eos=chat))
    assert trace.chosen == tuple(names or ["none"]) and trace.predicted == tuple(names) and trace.well_formed
    assert [trace.names[k] for k in trace.logits.argmax(1)] == list(trace.chosen)
    if label_format in LABEL_FORMATS and asked == "plain":
        assert (trace.continue_logit > trace.stop_logit).tolist() == [True] * (len(trace) - 1) + [
            False
        ]  # the separator after each label but the last


def test_a_label_that_swallows_what_stands_before_it_is_named(data_root):
    "Llama 3 has tokens <f and <s"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(data_root / "tokenizers" / "llama3" / "tokenizer.json"),
        eos_token="<|end_of_text|>",
    )
    assert joined_labels(
        Verbalizer(tokenizer, EMOTIONS, "<{label}; {label}>", get_template("GoEmotions"))
    ) == ["fear", "sadness"]
    for label_format in LABEL_FORMATS:
        assert not joined_labels(Verbalizer(tokenizer, EMOTIONS, label_format, get_template("GoEmotions")))


def test_without_its_marker_a_chain_of_thought_has_no_answer(tokenizer):
    verbalizer = Verbalizer(tokenizer, EMOTIONS, "comma", THINKS)
    assert not read_trace(verbalizer, "d", written(verbalizer, " joy, fear, I think.\n\n")).found_step
    with pytest.raises(ValueError, match="leave the chain of thought out"):
        ListGrammar(verbalizer)


def test_a_chat_is_tokenised_as_its_template_does_and_answers_are_read(tokenizer):
    "And what documents write of the template's own tokens stays text"
    engine = load_engine("tiny", gpu="cpu")
    engine.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]\n{{ m.content | trim }}{{ eos_token }}{% endfor %}{% if "
        "add_generation_prompt %}[assistant]\n{% endif %}"
    )
    docs, train = load_docs("demo", "test", n_docs=12), load_docs("demo", "train")
    docs = replace(docs, texts=(f"{engine.tokenizer.eos_token} anger", *docs.texts[1:]))
    prompts = build_prompts(docs, train, shots=6, label_format="json", chat=engine.tokenizer)
    ids = encode_prompts(engine, prompts, 24)
    for p, i in zip(prompts[1:], ids[1:]):
        assert (
            i
            == engine.tokenizer.apply_chat_template(
                [dict(role=r, content=c) for r, c in p.messages], add_generation_prompt=True
            )["input_ids"]
        )
    assert ids[0].count(engine.tokenizer.eos_token_id) == len(
        prompts[0].messages
    )  # one behind each turn, none in the document
    verbalizer = Verbalizer(engine.tokenizer, docs.labels, "json", get_template("demo"), chat=True)
    traces = trace_docs(engine, verbalizer, prompts)
    assert sum(t.found_step for t in traces) > 8 and all(
        t.names[k] == c for t in traces if t.found_step for c, k in zip(t.chosen, t.logits.argmax(1))
    )


@pytest.mark.parametrize(
    "text, chosen",
    [
        ("\nJoy, FEAR\n", ("joy", "fear")),  # capitals
        ("\njoy,fear\n", ("joy", "fear")),  # no blank after the comma
        ("\njoy, joyful, fearless, fear\n", ("joy", "fear")),  # labels inside other words
        ("\njoy, fear, joy\n", ("joy", "fear", "joy")),  # a repeated label
        ("\njoy, fe", ("joy",)),  # cut at the token limit
        ("\n  love\n\njoy", ("love",)),  # blanks before, text after
        ("\n", ()),
        ("", ()),
        ("\nI think 👋 nothing fits\n", ()),
    ],
)
def test_awkward_answers(tokenizer, text, chosen):
    verbalizer = Verbalizer(tokenizer, EMOTIONS, "comma", get_template("SemEval"))
    trace = read_trace(verbalizer, "d", written(verbalizer, text))
    assert trace.chosen == chosen and trace.found_step == bool(chosen)
    for step, k in enumerate(trace.token_index):
        assert (
            tokenizer.decode(written(verbalizer, text).token_ids[k:])
            .lower()
            .strip(' ,"')
            .startswith(chosen[step][:2])
        )


def test_the_28_emotions_under_llama3(data_root):
    """After a blank all first tokens differ; on a line of their own some labels break into pieces and
    collide, and that is said
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(data_root / "tokenizers" / "llama3" / "tokenizer.json")
    )
    docs = load_docs(
        "GoEmotions", "dev", data_dir=data_root / "goemotions", n_docs=5, options={"clustering": "none"}
    )
    seen = inspect_labels(tokenizer, docs.labels, "comma").set_index("label")
    assert seen.first_id.nunique() == len(seen) == 28  # 27 emotions and none
    alone = {n: tokenizer(n, add_special_tokens=False).input_ids[0] for n in seen.index}
    collide = {n for n in alone for m in alone if m != n and alone[m] == alone[n]}
    assert collide and set(seen.index[seen.shares_first_token_with != ""]) == collide


def test_colliding_labels_are_found_under_llama3(data_root):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(data_root / "tokenizers" / "llama3" / "tokenizer.json")
    )
    seen = inspect_labels(
        tokenizer, LabelSet(("disappointment", "disapprovals", "unhappily", "unhappinesses")), "json"
    ).set_index("label")
    same = [(a, b) for a in seen.index for b in seen.index if a != b and seen.first_id[a] == seen.first_id[b]]
    assert {tuple(sorted(p)) for p in same} <= {
        tuple(sorted((a, b))) for a in seen.index for b in seen.shares_first_token_with[a].split(", ") if b
    }
    assert same


@pytest.mark.parametrize(
    "names, nested",
    [(("disgust", "disgusting", "joy", "joylessness"), True), (("disgusting", "disapproval", "joy"), False)],
)
def test_whole_labels_are_scored_as_by_brute_force(names, nested):
    "The tokens of each label one by one; where a label begins another one, also the tokens that may end it"
    slow, labels = load_engine("tiny", gpu="cpu", share_prefixes=False), LabelSet(names)
    verbalizer = Verbalizer(slow.tokenizer, labels, "json", get_template("demo"))
    context = slow.encode('Input: a day\n{"label": ["')
    got = score_sequences(load_engine("tiny", gpu="cpu"), verbalizer, [context], [""])[0]
    edges = {slow.tokenizer.encode('"' + rest, add_special_tokens=False)[0] for rest in (', "joy"', "]}")}
    for name, value in zip(labels.with_none, got):
        ids, total = label_tokens(slow.tokenizer, name, '["').ids, 0.0
        for k, i in enumerate(ids):
            read = slow.score([context + list(ids[:k])], [i])
            total += read.logits[0, 0] - read.logsumexp[0]
        if nested:
            read = slow.score([context + list(ids)], sorted(edges))
            total += np.logaddexp.reduce(read.logits[0]) - read.logsumexp[0]
        assert abs(total - value) < 1e-3, name


@pytest.mark.parametrize("label_format", LABEL_FORMATS)
def test_labels_of_split_characters_are_steps_where_they_begin(tokenizer, label_format):
    "An emoji is several tokens: its step is the first of them; an accent may be a character of its own"
    labels = LabelSet(("😀", "🙁", "e\u0301tat", "joy"))
    verbalizer = Verbalizer(tokenizer, labels, label_format, get_template("demo"))
    trace = read_trace(
        verbalizer,
        "d",
        written(verbalizer, "\n" + format_labels(["e\u0301tat", "🙁", "joy"], label_format) + "\n"),
    )
    assert trace.chosen == ("e\u0301tat", "🙁", "joy") and trace.well_formed
    ids = written(
        verbalizer, "\n" + format_labels(["e\u0301tat", "🙁", "joy"], label_format) + "\n"
    ).token_ids
    for name, k in zip(trace.chosen, trace.token_index):
        assert tokenizer.decode(ids[k:]).lstrip(' "').startswith(name) and not tokenizer.decode(
            ids[k + 1 :]
        ).lstrip(' "').startswith(name)
    assert (trace.continue_logit > trace.stop_logit).tolist() == [True, True, False]


@pytest.mark.parametrize("label_format", LABEL_FORMATS)
@pytest.mark.parametrize(
    "labels",
    [
        EMOTIONS,
        LabelSet(("disgust", "disgusting", "joy")),
        LabelSet(("hate", "normal"), allows_none=False, multi=False),
    ],
    ids=["emotions", "nested", "single"],
)
def test_constrained_decoding_writes_nothing_but_lists(label_format, labels):
    engine = load_engine("tiny", gpu="cpu")
    verbalizer = Verbalizer(engine.tokenizer, labels, label_format, get_template("demo", labels.multi))
    texts = ["a letter from home", "Nobody came.", "x"]
    prompts = [Prompt(str(k), f"Say what you like.\nInput: {t}", ()) for k, t in enumerate(texts)]
    for t in trace_docs(engine, verbalizer, prompts, max_new_tokens=40, decoding="constrained"):
        assert t.well_formed and t.finish_reason in ("stop", "eos"), t.output


@pytest.mark.parametrize("label_format", LABEL_FORMATS)
@pytest.mark.parametrize(
    "names, multi",
    [
        (("C#", "Java"), True),
        (("LGBTQ+", "Women", "Men"), True),
        (("U.S.", "joy"), True),
        (("C#", "Java"), False),
        (("hate", "hate speech", "x"), True),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, tuple) else None,
)
def test_a_grammar_allows_nothing_but_lists(tokenizer, label_format, names, multi):
    "Random walks, with labels whose last character a tokenizer joins with what follows"
    labels = LabelSet(names, allows_none=multi, multi=multi)
    grammar = ListGrammar(Verbalizer(tokenizer, labels, label_format, get_template("demo", multi)))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        written = ()
        while options := grammar(written):
            written += (int(rng.choice(options)),)
        parsed = parse_labels(tokenizer.decode(written, skip_special_tokens=True), labels, label_format)
        assert parsed.well_formed, tokenizer.decode(written)
        seen.add(parsed.labels)
    assert {(n,) for n in labels.with_none} <= seen


@pytest.mark.parametrize("names", [("LGBTQ+", "Men", "Women"), ("Men", "Women", "LGBTQ+")])
def test_labels_that_end_in_punctuation_spoil_no_other_label(tokenizer, names):
    """Where a token holds the end of a label and the separator, that label's turn cannot be read; all others
    are
    """
    for label_format in LABEL_FORMATS:
        verbalizer = Verbalizer(tokenizer, LabelSet(names), label_format, get_template("demo"))
        trace = read_trace(
            verbalizer,
            "d",
            written(verbalizer, "\n" + format_labels(["Men", "LGBTQ+", "Women"], label_format) + "\n"),
        )
        assert trace.chosen == ("Men", "LGBTQ+", "Women")
        turns = trace.continue_logit - trace.stop_logit
        assert turns[0] > 0 > turns[2] and (np.isnan(turns[1]) or turns[1] > 0)


def test_ending_the_text_ends_a_label_too():
    "A model that likes to end its answer after 'hate' must not be taken for one that means 'hate speech'"
    tokenizer = AutoTokenizer.from_pretrained(find_model("tiny"))
    for eos in ((), (7, 9)):
        verbalizer = Verbalizer(
            tokenizer, LabelSet(("hate", "hate speech", "joy")), "comma", get_template("demo"), eos
        )
        assert set(eos or (tokenizer.eos_token_id,)) <= set(verbalizer.boundary_tokens) & set(
            verbalizer.stop_tokens[1]
        ) & {e[0] for e in ListGrammar(verbalizer).ends}
    assert (
        tokenizer.eos_token_id
        not in Verbalizer(tokenizer, EMOTIONS, "json", get_template("demo")).boundary_tokens
    )  # a JSON list is closed first


def test_constrained_probabilities_are_those_of_brute_force_and_sum_to_one():
    """All lists over two labels, each token's probability among the allowed ones, from a model one prompt at
    a time
    """
    engine, slow = load_engine("tiny", gpu="cpu"), load_engine("tiny", gpu="cpu", share_prefixes=False)
    verbalizer = Verbalizer(
        engine.tokenizer, LabelSet(("disgust", "disgusting")), "comma", get_template("demo")
    )
    grammar, prompt = ListGrammar(verbalizer), engine.encode("Input: a day by the sea")

    def lists(written=(), logp=0.0):
        options = grammar(written)
        if not options:
            return {written: logp}
        z = slow.score([prompt + list(written)], options).logits[0].astype(float)
        return {
            w: p
            for i, step in zip(options, z - np.logaddexp.reduce(z))
            for w, p in lists(written + (i,), logp + step).items()
        }

    every = lists()
    assert abs(np.exp(list(every.values())).sum() - 1) < 1e-6
    got = engine.generate([prompt], 40, watch_ids=[5], allowed=grammar)[0]
    assert abs(got.logprobs.sum() - every[got.token_ids]) < 1e-3
    assert {engine.tokenizer.decode(w, skip_special_tokens=True).strip() for w in every} == {
        "none",
        "disgust",
        "disgusting",
        "disgust, disgusting",
        "disgusting, disgust",
    }


def test_prompts_that_do_not_fit_name_their_document():
    engine = load_engine("tiny", gpu="cpu")
    verbalizer = Verbalizer(load_engine("tiny", gpu="cpu").tokenizer, EMOTIONS, "json", get_template("demo"))
    long = Prompt("post-7", "word " * 3000, tuple("abcdefghij"))
    with pytest.raises(
        ValueError,
        match=r"document 'post-7': its prompt has 3\d\d\d tokens and 24 are kept for the answer, the model's context holds 2048; about \d of its 10 demonstrations would fit",  # noqa: E501
    ):
        trace_docs(engine, verbalizer, [Prompt("post-6", "word", ()), long])


def test_answers_without_a_label_are_read_at_the_first_slot():
    engine = load_engine("tiny", gpu="cpu")
    docs, demos = load_docs("demo", "test", n_docs=3), load_docs("demo", "train")
    verbalizer = Verbalizer(engine.tokenizer, docs.labels, "json", get_template("demo"))
    prompts = build_prompts(docs, demos, shots=3, label_format="json")
    for scoring in ("first_token", "sequence"):
        cut = trace_docs(
            engine, verbalizer, prompts, max_new_tokens=2, label_scoring=scoring
        )  # no room for a label
        assert [t.found_step for t in cut] == [False] * 3 and all(
            len(t) == 1 and t.predicted == () and t.token_index[0] == -1 for t in cut
        )
        whole = trace_docs(engine, verbalizer, prompts, label_scoring=scoring)
        for a, b in zip(cut, whole):
            if b.well_formed:
                np.testing.assert_allclose(
                    a.probs[0], b.probs[0], atol=1e-4
                )  # the forced opening is what it writes itself


@pytest.mark.parametrize(
    "label_format, names", [("json", ("a", "b", "label")), ("polysyndeton", ("e", "h", "the"))]
)
def test_labels_that_occur_in_the_formats_own_words(tokenizer, label_format, names):
    verbalizer = Verbalizer(tokenizer, LabelSet(names), label_format, get_template("demo"))
    trace = read_trace(
        verbalizer, "d", written(verbalizer, "\n" + format_labels(names[:2], label_format) + "\n")
    )
    assert trace.chosen == names[:2] and (trace.continue_logit > trace.stop_logit).tolist() == [True, False]


def test_whole_labels_keep_the_order_of_the_label_set(tokenizer):
    labels = LabelSet(("hate", "normal", "offensive"), allows_none=False, multi=False)
    for label_format in LABEL_FORMATS:
        verbalizer = Verbalizer(tokenizer, labels, label_format, get_template("HateXplain", False))
        assert all(tuple(names) == labels.names for names in verbalizer.label_tokens.values())


def test_spellings_that_two_labels_share_speak_for_neither(tokenizer):
    labels = LabelSet(("Hispanic", "Homosexual", "anger", "annoyance", "caring", "curiosity"))
    for label_format in LABEL_FORMATS:
        verbalizer = Verbalizer(tokenizer, labels, label_format, get_template("demo"))
        for prefix, per_label in verbalizer.variants.items():
            for k, n in enumerate(labels.names):
                assert verbalizer.label_tokens[prefix][n][0] in per_label[k]  # as given, always
                shared = set(per_label[k]) & set().union(
                    *(set(ids) for m, ids in enumerate(per_label) if m != k)
                )
                assert shared <= {ids[0] for ids in verbalizer.label_tokens[prefix].values()}


def answered(tokenizer, text, label_format="comma", finish="stop"):
    verbalizer = Verbalizer(tokenizer, EMOTIONS, label_format, get_template("demo"))
    generation = written(verbalizer, text)
    generation.finish_reason = finish
    return read_trace(verbalizer, "d", generation)


@pytest.mark.parametrize(
    "label_format, text, finish, read",
    [
        ("comma", "\njoy, fear", "stop", "well_formed"),
        ("comma", "\njoy, fear", "length", "in_part"),
        ("comma", "\njoy, fear\n", "length", "well_formed"),
        ("json", '\n{"label": ["joy"]}', "length", "well_formed"),
        ("json", '\n{"label": ["joy"', "length", "in_part"),
        ("json", '\n["joy"]', "length", "loose"),
        ("comma", "\nThe emotions are joy, fe", "length", "in_part"),
        ("comma", "\nnothing of this", "stop", "unread"),
        ("json", '\n{"label": []}', "stop", "loose"),
    ],
)
def test_how_an_answer_was_read_is_kept(tokenizer, label_format, text, finish, read):
    trace = answered(tokenizer, text, label_format, finish)
    assert trace.read == read and trace.well_formed == (read == "well_formed")
    assert trace.found_step == (read not in ("unread",) and "[]" not in text)


@pytest.mark.parametrize(
    "text, chosen",
    [
        ('```json\n["fear", "joy"]\n```', ("fear", "joy")),
        ("1. **fear**\n2. **joy**", ("fear", "joy")),
        ('{"reason": "joy", "label": ["fear"]}', ("fear",)),
        ("The emotions are `fear` and `joy`.", ("fear", "joy")),
    ],
)
def test_labels_written_otherwise_are_steps_where_they_stand(tokenizer, text, chosen):
    trace = answered(tokenizer, text, "json")
    assert trace.chosen == chosen and trace.read == "loose"
    for name, k in zip(trace.chosen, trace.token_index):
        before = tokenizer.decode(trace.token_ids[:k])
        assert (
            len(before) <= text.index(name, len(before) - 1) < len(tokenizer.decode(trace.token_ids[: k + 1]))
        )


def test_the_full_stop_of_a_template_moves_no_label(tokenizer):
    verbalizer = Verbalizer(tokenizer, EMOTIONS, "- {label}\n- {label}", get_template("Boxes"))
    text = "\n- joy.\n- fear."
    got = parse_answer(verbalizer, text)
    assert [text[s:e] for s, e in zip(got.starts, got.ends)] == ["joy", "fear"]


def test_parts_are_counted_stored_and_shown(tokenizer, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "very-secret-value")
    docs = load_docs("demo", "test", n_docs=4)
    texts = (
        "\njoy",
        "\nnot joy, fear",
        "\njoy, " + "and so on " * 40,
        "\njoy, " + "x" * 60 + " very-secret-value",
    )
    prompts = [Prompt(i, "x", ()) for i in docs.ids]
    traces = [replace(answered(tokenizer, text), doc_id=i) for i, text in zip(docs.ids, texts)]
    assert count_readings(traces) == dict(
        answers_well_formed=1, answers_loose=0, answers_in_part=3, answers_unread=0
    )
    said = warn_of_parts(traces)
    assert (
        said.startswith("3 of 4 answers were read in part")
        and "very-s" not in said
        and len(said) < 500
        and "\n" not in said
        and docs.ids[1] in said
    )
    found = [t for t in traces if t.found_step]
    part = docs.take([k for k, t in enumerate(traces) if t.found_step])
    table = docs_table(part, [p for p in prompts if p.doc_id in part.ids], found).to_pandas()
    assert table.read.tolist() == ["well_formed", "in_part", "in_part", "in_part"]
    old = read_traces(table.drop(columns="read"), steps_table(found).to_pandas(), found[0].names)
    assert [t.read for t in old] == [None] * len(old) and warn_of_parts(old) is None
