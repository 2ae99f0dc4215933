"""Chat templates of the kinds that models have: options, no system role, strict alternation, dates, thoughts,
one BOS.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notebooks import refusal, run_short
from tokenizers import (
    AddedToken,
    ByteLevelBPETokenizer,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from mlcllm.data import AnnotatedDocs, LabelSet, load_docs
from mlcllm.engines import load_engine
from mlcllm.prompt_preview import preview
from mlcllm.prompts import Template, build_prompts, encode_chats, get_template
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import ListGrammar, PromptConfig, Verbalizer, ask_prompts, parse_answer

DOCS, TRAIN = load_docs("demo", "test", n_docs=2), load_docs("demo", "train")
SYSTEM = replace(get_template("demo"), system="You are a careful annotator.")
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim "
    "}}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif "
    "%}{% endif %}"
)
LLAMA31 = (
    "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}{% set "
    "date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = "
    "messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|start|>system<|stop|>Today Date: {{ date_string }}\n\n{{ system }}<|eot|>"
    "{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('After the optional system message, roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ "
    "eos_token }}{% endif %}{% endfor %}"
)
SILENT = QWEN3.replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)  # drops system words without a word
TODAY = (
    "{{ bos_token }}{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}[{{ m.role }}]{{ m.content }}{% "
    "endfor %}[assistant]"
)
R1 = QWEN3.split("{% if enable_thinking")[0] + "<think>\n{% endif %}"
SPECIAL = [
    "<s>",
    "</s>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start|>",
    "<|stop|>",
    "<|eot|>",
]


@pytest.fixture(scope="module")
def sentencepiece_like():
    """Pieces with a mark for blanks and bytes for the rest, and BOS before every plain text, as Llama 2,
    Mistral and Gemma have
    """
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL + [f"<0x{b:02X}>" for b in range(256)], show_progress=False
    )
    tok.train_from_iterator(TRAIN.texts[:200], trainer)
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tok.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tok,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=SPECIAL[3:],
    )


def tokenizer_with(base, template):
    base.chat_template = template
    return base


def built(tokenizer, template=SYSTEM, **how):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prompts = build_prompts(DOCS, TRAIN, template, shots=2, chat=tokenizer, **how)
    return prompts, [str(w.message) for w in said]


def bos_of(tokenizer, prompt):
    return encode_chats(tokenizer, [prompt])[0].count(tokenizer.bos_token_id)


def test_system_words_stand_before_the_first_question_where_there_is_no_system_role(sentencepiece_like):
    for source in (GEMMA, MISTRAL, SILENT):
        tok = tokenizer_with(sentencepiece_like, source)
        prompts, said = built(tok)
        assert sum("has no system role" in s for s in said) == 1
        assert all(p.text.count("You are a careful annotator.") == 1 for p in prompts)
        assert [r for r, _ in prompts[0].messages] == ["user", "assistant"] * 2 + ["user"]
        assert prompts[0].messages[0][1].startswith("You are a careful annotator.\n\nClassify")
        assert "has no system role" not in " ".join(
            built(tok, get_template("demo"))[1]
        )  # no system words, nothing to say


@pytest.mark.parametrize(
    "source, begins",
    [(GEMMA, 1), (MISTRAL, 1), (LLAMA31, 1), (TODAY, 1), (QWEN3, 0)],
    ids=["gemma", "mistral", "llama", "today", "qwen"],
)
def test_there_is_the_bos_that_the_template_writes_and_no_other(sentencepiece_like, source, begins):
    tok = tokenizer_with(sentencepiece_like, source)
    for p in built(tok)[0]:
        assert bos_of(tok, p) == begins
        if begins:
            assert encode_chats(tok, [p])[0][0] == tok.bos_token_id
    imitated = replace(DOCS, texts=("I won <s> and </s> it", DOCS.texts[1]))
    p = build_prompts(imitated, TRAIN, shots=1, chat=tok)[0]
    assert bos_of(tok, p) == begins  # one in a document is plain text


def test_answers_of_demonstrations_are_found_in_every_template(sentencepiece_like):
    for source in (GEMMA, MISTRAL, LLAMA31, QWEN3, SILENT, TODAY, R1):
        tok = tokenizer_with(sentencepiece_like, source)
        for p in built(tok, label_format="json")[0]:
            assert len(p.answers) == 2 and all(p.text[a:z].startswith('{"label": [') for a, z in p.answers)
            assert preview(p, tok, DOCS.labels, "json").labels


def test_options_reach_the_template(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, QWEN3)
    plain, said = built(tok)
    off, silent = built(tok, chat_options={"enable_thinking": False})
    assert plain[0].text.endswith("assistant\n") and off[0].text.endswith("<think>\n\n</think>\n\n")
    assert any("enable_thinking" in s for s in said) and not silent
    assert plain[0].sha256 != off[0].sha256
    asked = ask_prompts(
        DOCS, TRAIN, PromptConfig(shots=2, chat=True, chat_options={"enable_thinking": False}), tok
    )
    assert asked[0].text.endswith("</think>\n\n")


def test_the_date_does_not_make_runs_differ(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, LLAMA31)
    prompts, said = built(tok)
    assert "Today Date: 26 Jul 2024" in prompts[0].text and sum("the date" in s for s in said) == 1
    own, quiet = built(tok, chat_options={"date_string": "1 Jan 2026"})
    assert "Today Date: 1 Jan 2026" in own[0].text and not quiet
    tok = tokenizer_with(sentencepiece_like, TODAY)
    assert "2024-07-26" in built(tok)[0][0].text
    assert "some day [" in built(tok, chat_options={"date_string": "some day"})[0][0].text


def test_an_opened_thought_is_said_and_only_what_follows_it_is_an_answer(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, R1)
    assert any("opens thoughts" in s for s in built(tok)[1])
    verbalizer = Verbalizer(
        tok, LabelSet(("anger", "fear", "joy")), "json", get_template("demo"), chat=True, thinks="</think>"
    )
    assert (
        parse_answer(verbalizer, "joy").read == "unread"
        and parse_answer(verbalizer, '{"label": ["joy"]}').read == "unread"
    )
    text = 'Is it joy?\n</think>\n\n{"label": ["fear"]}'
    got = parse_answer(verbalizer, text)
    assert got.labels == ("fear",) and text[got.starts[0] : got.ends[0]] == "fear"
    with pytest.raises(ValueError, match="opens thoughts"):
        ListGrammar(verbalizer)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"enable_thinkin": False}, "did you mean 'enable_thinking'"),
        ({"tokenize": True}, "set by the run itself"),
        ({"add_generation_prompt": False}, "set by the run itself"),
        ({"messages": []}, "set by the run itself"),
        ({"bos_token": ""}, "set by the run itself"),
        ({1: 2}, "must be a dict"),
        ("enable_thinking", "must be a dict"),
        (True, "must be a dict"),
        ([1], "must be a dict"),
        ({"enable_thinking": object()}, "must be a text"),
        ({"enable_thinking": float("nan")}, "must be a text"),
        ({"date_string": "x"}, "did you mean 'enable_thinking'"),
    ],
)
def test_options_that_the_template_does_not_know_are_refused(sentencepiece_like, options, message):
    tok = tokenizer_with(sentencepiece_like, QWEN3)
    with pytest.raises(ValueError, match=message) as error:
        build_prompts(DOCS, TRAIN, shots=1, chat=tok, chat_options=options)
    assert "\n" not in str(error.value)


def test_a_template_without_options_takes_none(sentencepiece_like):
    with pytest.raises(ValueError, match="takes no options"):
        built(tokenizer_with(sentencepiece_like, MISTRAL), chat_options={"x": 1})


def test_options_need_a_chat():
    with pytest.raises(ValueError, match="set chat to True"):
        build_prompts(DOCS, TRAIN, shots=1, chat_options={"enable_thinking": False})
    with pytest.raises(ValueError, match="set chat to True"):
        PromptConfig(chat_options={"enable_thinking": False})


def test_a_template_that_leaves_the_question_out_is_refused(sentencepiece_like):
    with pytest.raises(ValueError, match="leaves out or rewrites"):
        built(tokenizer_with(sentencepiece_like, "{{ bos_token }}Hello"))


def test_several_templates_by_name(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, {"default": QWEN3, "tool_use": "x"})
    assert built(tok, chat_options={"enable_thinking": False})[0][0].text.endswith("</think>\n\n")


def test_options_are_part_of_a_run(tmp_path):
    engine = load_engine("tiny", gpu="cpu", share_prefixes=False)
    engine.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}\n{% endfor %}"
        "{% if style is defined %}{{ style }}{% endif %}{% if today is defined %}{{ today }}{% endif %}"
    )
    engine.model.save_pretrained(tmp_path / "model")
    engine.tokenizer.save_pretrained(tmp_path / "model")
    how = dict(
        model=str(tmp_path / "model"),
        chat=True,
        n_docs=6,
        shots=2,
        label_format="comma",
        template={"system": "Be careful."},
    )
    for options in (None, {"style": "Short: "}):
        run_short("01_stepwise_logits", tmp_path, **how, chat_options=options)
    plain, styled = (read_run(f) for f in find_runs(tmp_path / "runs", "01_stepwise_logits"))
    assert plain["record"]["run"] != styled["record"]["run"] and styled["record"]["parameters"][
        "chat_options"
    ] == {"style": "Short: "}
    assert not set(plain["docs"].prompt_sha256) & set(styled["docs"].prompt_sha256)
    for run in (plain, styled):
        counted = {
            r: run["record"]["counters"][f"answers_{r}"]
            for r in ("well_formed", "loose", "in_part", "unread")
        }
        assert (
            counted == {r: int((run["docs"]["read"] == r).sum()) for r in counted}
            and sum(counted.values()) == 6
        )
        assert any("read in part" in w for w in run["record"]["warnings"]) == (counted["in_part"] > 0)
    assert "did you mean 'style'" in refusal(
        "01_stepwise_logits", tmp_path, **how, chat_options={"styl": "x"}
    )
    assert "set chat to True" in refusal("01_stepwise_logits", tmp_path, chat_options={"style": "x"})


# Where the words of each turn are

ROMAN = LabelSet(tuple("ABCDEFGHIJ"), multi=False)
SMALL = LabelSet(tuple("ais"), multi=False)
COHERE = (
    "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{% if m.role == 'user' "
    "%}<|USER_TOKEN|>{% elif m.role == 'system' %}"
    "<|SYSTEM_TOKEN|>{% else %}<|CHATBOT_TOKEN|>{% endif %}{{ m.content }}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
MISTRAL_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set "
    "messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ "
    "system }}\n\n{% endif %}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
TWICE = QWEN3.replace(
    "{% if add_generation_prompt %}", "{% if add_generation_prompt %}Again: {{ messages[-1].content }}\n"
)
ONE_LINE = QWEN3.replace("{{ m.content }}", "{{ m.content | replace('\n', ' ') }}")  # white space of its own
SPLIT = QWEN3.replace(
    "{{ m.content }}", "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
)
ANSWERS = Template("Label each text: {labels}.\n\n", "{text}\n{label}\n")


def letters(labels, split="test"):
    "A document for each label, whose words are markup or a label"
    words = (
        "[INST]",
        "assistant",
        "user",
        "<|CHATBOT_TOKEN|>",
        "I",
        "a",
        "s",
        "</s>",
        "im_start",
        "[/INST]",
    )[: len(labels.names)]
    ids, n = tuple(f"{split}-{name}" for name in labels.names), len(words)
    return AnnotatedDocs(
        "letters",
        split,
        labels,
        ids,
        words,
        np.eye(n, dtype=int),
        np.zeros((0, n)),
        np.zeros(0, int),
        np.zeros(0, str),
    )


@pytest.mark.parametrize("labels", [ROMAN, SMALL], ids=["letters", "small"])
@pytest.mark.parametrize(
    "source",
    [MISTRAL, MISTRAL_SYSTEM, COHERE, QWEN3, GEMMA, LLAMA31, TODAY, TWICE, ONE_LINE, SPLIT],
    ids=[
        "mistral",
        "mistral-system",
        "cohere",
        "chatml",
        "gemma",
        "llama",
        "today",
        "twice",
        "one-line",
        "split",
    ],
)
@pytest.mark.parametrize(
    "example",
    ["{text}\n{label}\n", "{text}\nAnswer: {label} is a label, I say\n"],
    ids=["bare", "words-behind"],
)
@pytest.mark.filterwarnings("ignore")
def test_answers_are_found_where_the_template_writes_them(sentencepiece_like, labels, source, example):
    tok = tokenizer_with(sentencepiece_like, source)
    docs, train = letters(labels), letters(labels, "train")
    for system in ("", "user", "I"):
        template = replace(ANSWERS, system=system, example=example)
        for p in build_prompts(
            docs, train, template, shots=2, sampling="random", label_format="comma", chat=tok
        ):
            gold = [labels.names[train.ids.index(i)] for i in p.demo_ids]
            assert [p.text[a:z] for a, z in p.answers] == gold
            for turn, a, z in p.places:
                assert p.text[a:z].split() == p.messages[turn][1].split()
            checked_against_marks(tok, p)


def checked_against_marks(tok, p):
    "Render with another answer in one turn: what differs must be at the recorded place"
    for k, (a, z) in zip([k for k, (r, _) in enumerate(p.messages) if r == "assistant"], p.answers):
        role, words = p.messages[k]
        turn, start, end = next(x for x in p.places if x[0] == k)
        messages = [
            dict(role=r, content=w) for r, w in (*p.messages[:k], (role, "§" + words), *p.messages[k + 1 :])
        ]
        other = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert "§" in other and other.index("§") == start <= a < z <= end


MARKUP = st.text("aiIs [/]<|>", max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user=MARKUP,
    assistant=MARKUP,
    end=MARKUP,
    words=st.lists(MARKUP.filter(str.strip), min_size=10, max_size=10),
)
@pytest.mark.filterwarnings("ignore")
def test_answers_are_found_in_any_markup(sentencepiece_like, user, assistant, end, words):
    source = (
        f"{{% for m in messages %}}{{% if m.role == 'user' %}}{user}{{% else %}}{assistant}{{% endif "
        f"%}}{{{{ m.content }}}}{end}{{% endfor %}}"
    )
    docs, train = (
        replace(letters(ROMAN, s), texts=tuple(f"{k}{s[0]}{w}" for k, w in enumerate(words)))
        for s in ("test", "train")
    )
    tok = tokenizer_with(sentencepiece_like, source)
    for p in build_prompts(docs, train, ANSWERS, shots=3, sampling="random", label_format="comma", chat=tok):
        at = 0
        for k, (role, said) in enumerate(p.messages):
            at += len(user if role == "user" else assistant)
            assert p.places[k] == (k, at, at + len(said)) and (
                role == "user" or p.answers[k // 2] == (at, at + 1)
            )
            at += len(said + end)
        assert at == len(p.text)


# Turns that a template loses

LAST = QWEN3.replace("for m in messages", "for m in messages[-1:]")
NO_ANSWERS = QWEN3.replace("for m in messages", "for m in messages if m.role != 'assistant'")
FIRST_LOST = QWEN3.replace("for m in messages", "for m in messages[-3:]")
SHOUTS = QWEN3.replace("{{ m.content }}", "{{ m.content | upper if m.role == 'assistant' else m.content }}")
CUT = QWEN3.replace("{{ m.content }}", "{{ m.content[:60] }}")
ESCAPED = QWEN3.replace("{{ m.content }}", "{{ m.content | e }}")


@pytest.mark.parametrize(
    "source, lost",
    [
        (LAST, "its question"),
        (NO_ANSWERS, "its answer"),
        (FIRST_LOST, "its question"),
        (SHOUTS, "its answer"),
        (CUT, "its question"),
        ("{{ bos_token }}{{ messages[0].content }}", "its answer"),
    ],
    ids=["last", "no-answers", "first-lost", "shouts", "cut", "first-only"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_template_that_loses_a_turn_is_refused(sentencepiece_like, source, lost):
    tok = tokenizer_with(sentencepiece_like, source)
    with pytest.raises(
        ValueError, match=rf"leaves out or rewrites the words of demonstration '[^']+' \({lost}\): set chat"
    ) as error:
        build_prompts(DOCS, TRAIN, shots=2, chat=tok)
    assert "\n" not in str(error.value) and repr(DOCS.ids[0]) in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_what_a_template_rewrites_in_one_document_is_refused(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, ESCAPED)
    assert build_prompts(replace(DOCS, texts=("plain", "plain")), TRAIN, shots=0, chat=tok)
    with pytest.raises(ValueError, match=f"document '{DOCS.ids[1]}': .* the words of the question"):
        build_prompts(replace(DOCS, texts=("plain", "a < b")), TRAIN, shots=0, chat=tok)


SYSTEM_IF_SHORT = SILENT.replace("if m.role != 'system'", "if m.role != 'system' or messages | length <= 2")


@pytest.mark.parametrize("words", ["You are a careful annotator.", "user", "x", "I", "assistant"])
@pytest.mark.parametrize(
    "source, shots, own_turn",
    [
        (SYSTEM_IF_SHORT, 2, False),
        (SYSTEM_IF_SHORT, 0, True),
        (SILENT, 0, False),
        (SILENT, 2, False),
        (QWEN3, 2, True),
        (MISTRAL_SYSTEM, 2, True),
        (COHERE, 1, True),
    ],
)
def test_system_words_are_never_lost(sentencepiece_like, words, source, shots, own_turn):
    tok = tokenizer_with(sentencepiece_like, source)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prompts = build_prompts(DOCS, TRAIN, replace(SYSTEM, system=words), shots=shots, chat=tok)
    assert any("has no system role" in str(w.message) for w in said) == (not own_turn)
    for p in prompts:
        assert p.messages[0][0] == ("system" if own_turn else "user") and p.messages[0][1].startswith(words)
        assert {k for k, _, _ in p.places} == set(range(len(p.messages)))


# Values of options

THINKS_IF = QWEN3.replace("enable_thinking is defined and enable_thinking is false", "{}")
FLAGS = {
    "prefix": ("enable_thinking", QWEN3),
    "not": ("thinking", THINKS_IF.replace("{}", "not thinking")),
    "if": ("brief", THINKS_IF.replace("{}", "brief is defined and brief")),
    "default": ("thoughts", THINKS_IF.replace("{}", "not (thoughts | default(true))")),
    "set": (
        "thinking",
        "{% if thinking is not defined %}{% set thinking = true %}{% endif %}"
        + THINKS_IF.replace("{}", "not thinking"),
    ),
    "passed on": (
        "deep",
        "{% set mode = deep if deep is defined else true %}" + THINKS_IF.replace("{}", "not mode"),
    ),
    "equals": ("deep", THINKS_IF.replace("{}", "deep == false")),
    "same": ("deep", THINKS_IF.replace("{}", "deep is sameas false")),
    "generation": (
        "enable_thinking",
        QWEN3.replace("{{ m.content }}", "{%+ generation %}{{ m.content }}{%- endgeneration +%}"),
    ),
}


@pytest.mark.parametrize("value", ["false", "no", "true", "", 0, 1, None, [], [False], {}, 0.5])
@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.filterwarnings("ignore")
def test_an_option_that_is_only_asked_about_is_true_or_false(sentencepiece_like, kind, value):
    name, source = FLAGS[kind]
    tok = tokenizer_with(sentencepiece_like, source)
    with pytest.raises(ValueError, match=f"{name} must be true or false") as error:
        built(tok, chat_options={name: value})
    assert "\n" not in str(error.value)
    texts = {built(tok, chat_options={name: v})[0][0].text for v in (True, False)}
    assert len(texts) == 2  # and so it has an effect


STYLE = QWEN3.replace("{% if add", "{% if style is defined %}{{ style | trim }}{% endif %}{% if add")
EFFORT = QWEN3.replace(
    "{% if add",
    "{% if effort is not defined %}{% set effort = 'medium' %}{% endif %}{{ 'Effort: ' + effort }}{% if add",
)
UNUSED = QWEN3.replace("{% for", "{% if is_first and false %}Hello{% endif %}{% for", 1)
CHOSEN = QWEN3.replace("{% if add", "{% if mode == 'brief' %}Be brief.{% endif %}{% if add")


@pytest.mark.parametrize(
    "source, name", [(STYLE, "style"), (EFFORT, "effort"), (LLAMA31, "date_string"), (TODAY, "date_string")]
)
@pytest.mark.parametrize("value", [None, True, ["x"], {"x": 1}])
@pytest.mark.filterwarnings("ignore")
def test_an_option_that_is_written_is_a_text(sentencepiece_like, source, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a text"):
        built(tokenizer_with(sentencepiece_like, source), chat_options={name: value})


def test_an_option_without_effect_is_said(sentencepiece_like):
    for source, options, n in (
        (CHOSEN, {"mode": "breif"}, 1),
        (CHOSEN, {"mode": "brief"}, 0),
        (CHOSEN, {"mode": None}, 1),
        (EFFORT, {"effort": "medium"}, 1),
        (EFFORT, {"effort": "high"}, 0),
        (STYLE, {"style": "Short."}, 0),
        (STYLE, {"style": ""}, 1),
        (QWEN3, {"enable_thinking": True}, 0),
        (UNUSED, {"is_first": True}, 1),
        (LLAMA31, {"date_string": "26 Jul 2024"}, 0),
    ):
        said = built(tokenizer_with(sentencepiece_like, source), chat_options=options)[1]
        assert sum("the same as without it" in s for s in said) == n, (options, said)


# What a template cannot be made of, and control tokens


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content }}",
        "{% unknown %}{{ strftime_now('%Y') }}",
        "{{ messages[0].content",
    ],
)
def test_a_template_that_cannot_be_read_is_refused(sentencepiece_like, source):
    with pytest.raises(ValueError, match=r"cannot be read \(line 1: .*\): set chat to False") as error:
        built(tokenizer_with(sentencepiece_like, source))
    assert "\n" not in str(error.value)


def test_the_date_stands_still_and_comments_name_no_options(sentencepiece_like):
    tok = tokenizer_with(
        sentencepiece_like,
        TODAY.replace("{{ m.content }}", "{%+ generation -%}{{ m.content }}{%- endgeneration %}")
        + "{# verbose #}",
    )
    prompts, said = built(tok)
    assert all(p.text.startswith("<s>2024-07-26 ") for p in prompts) and any("the date" in s for s in said)
    with pytest.raises(ValueError, match="verbose"):
        built(tok, chat_options={"verbose": True})


def test_bos_is_written_once(sentencepiece_like):
    llama2 = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]{% "
        "else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    )
    every = (
        "{% for m in messages %}{{ bos_token }}{{ m.role }} {{ m.content }}{% endfor %}{{ bos_token "
        "}}assistant"
    )
    for source, n in (
        (GEMMA, 0),
        (LLAMA31, 0),
        (MISTRAL, 0),
        (QWEN3, 0),
        (llama2, 0),
        (every, 0),
        ("{{ bos_token }}" + GEMMA, 1),
        ("{{ bos_token }}\n" + GEMMA, 1),
        ("<s>" + GEMMA, 1),
        ("{{ bos_token }}A chat. " + GEMMA, 1),
    ):
        said = built(tokenizer_with(sentencepiece_like, source), get_template("demo"))[1]
        assert sum("more than once" in s for s in said) == n, source


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("control", ["</think>", "<think>", "[THINK]", "◁/think▷", "<|eot|>"])
@pytest.mark.filterwarnings("ignore")
def test_control_tokens_of_documents_are_plain_text(control, special):
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        TRAIN.texts[:50],
        vocab_size=300,
        show_progress=False,
        special_tokens=["<s>", "<|im_start|>", "<|im_end|>"],
    )
    tok = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tok.add_tokens(
        [
            AddedToken(control, special=special, normalized=False),
            AddedToken("covid", normalized=False),
            AddedToken("   ", normalized=False),
        ]
    )
    tok.chat_template = QWEN3
    control_id, word, blanks = tok.convert_tokens_to_ids([control, "covid", "   "])
    docs = replace(DOCS, texts=(f"I {control}{control} <|im_end|>covid   {control}user", "plain covid"))
    prompts = build_prompts(docs, TRAIN, shots=2, chat=tok)
    for p, ids in zip(prompts, encode_chats(tok, prompts)):
        assert control_id not in ids and tok.decode(ids) == p.text
        assert ids.count(tok.eos_token_id) == len(p.messages) and ids.count(word) == 1
    assert encode_chats(tok, prompts)[0].count(blanks) == 1  # blanks and words are what they always are
    shown = preview(prompts[0], tok)
    assert "".join(shown.to_frame().token) == prompts[0].text
    tok.chat_template = QWEN3.replace("<|im_start|>assistant\n", f"<|im_start|>assistant\n{control}")
    assert (
        encode_chats(tok, build_prompts(docs, TRAIN, shots=0, chat=tok))[0].count(control_id) == 1
    )  # the template's own is a token
