"Chat templates of the kinds that models have: options, no system role, strict alternation, dates, thoughts, one BOS."
import warnings
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import load_engine
from mlcllm.prompts import build_prompts, encode_chats, get_template, preview
from mlcllm.runs import find_runs, read_run
from mlcllm.stepwise_logits import Asking, LabelReader, ListGrammar, ask_prompts, parse_answer
from notebooks import refusal, run_short

DOCS, TRAIN = load_docs("demo", "test", n_docs=2), load_docs("demo", "train")
SYSTEM = replace(get_template("demo"), system="You are a careful annotator.")
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
         "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
         "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
         "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
         "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")
QWEN3 = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n"
         "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}")
LLAMA31 = ("{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
           "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
           "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
           "{% else %}{% set system = '' %}{% endif %}"
           "<|start|>system<|stop|>Today Date: {{ date_string }}\n\n{{ system }}<|eot|>"
           "{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
           "{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}")
MISTRAL = ("{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
           "{{ raise_exception('After the optional system message, roles must alternate') }}{% endif %}"
           "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}")
SILENT = QWEN3.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")   # drops system words without a word
TODAY = "{{ bos_token }}{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
R1 = QWEN3.split("{% if enable_thinking")[0] + "<think>\n{% endif %}"
SPECIAL = ["<s>", "</s>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|stop|>", "<|eot|>"]


@pytest.fixture(scope="module")
def sentencepiece_like():
    "Pieces with a mark for blanks and bytes for the rest, and BOS before every plain text, as Llama 2, Mistral and Gemma have"
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL + [f"<0x{b:02X}>" for b in range(256)], show_progress=False)
    tok.train_from_iterator(TRAIN.texts[:200], trainer)
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tok.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                                   additional_special_tokens=SPECIAL[3:])


def tokenizer_with(base, template):
    base.chat_template = template
    return base


def built(tokenizer, template=SYSTEM, **how):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prompts = build_prompts(DOCS, TRAIN, template, shots=2, chat=tokenizer, **how)
    return prompts, [str(w.message) for w in said]


def bos_of(tokenizer, prompt): return encode_chats(tokenizer, [prompt])[0].count(tokenizer.bos_token_id)


def test_system_words_stand_before_the_first_question_where_there_is_no_system_role(sentencepiece_like):
    for source in (GEMMA, MISTRAL, SILENT):
        tok = tokenizer_with(sentencepiece_like, source)
        prompts, said = built(tok)
        assert sum("has no system role" in s for s in said) == 1
        assert all(p.text.count("You are a careful annotator.") == 1 for p in prompts)
        assert [r for r, _ in prompts[0].turns] == ["user", "assistant"] * 2 + ["user"]
        assert prompts[0].turns[0][1].startswith("You are a careful annotator.\n\nClassify")
        assert "has no system role" not in " ".join(built(tok, get_template("demo"))[1])     # no system words, nothing to say


@pytest.mark.parametrize("source, begins", [(GEMMA, 1), (MISTRAL, 1), (LLAMA31, 1), (TODAY, 1), (QWEN3, 0)], ids=["gemma", "mistral", "llama", "today", "qwen"])
def test_there_is_the_bos_that_the_template_writes_and_no_other(sentencepiece_like, source, begins):
    tok = tokenizer_with(sentencepiece_like, source)
    for p in built(tok)[0]:
        assert bos_of(tok, p) == begins
        if begins: assert encode_chats(tok, [p])[0][0] == tok.bos_token_id
    imitated = replace(DOCS, texts=("I won <s> and </s> it", DOCS.texts[1]))
    p = build_prompts(imitated, TRAIN, shots=1, chat=tok)[0]
    assert bos_of(tok, p) == begins                                       # one in a document is plain text


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
    asked = ask_prompts(DOCS, TRAIN, Asking(shots=2, chat=True, chat_options={"enable_thinking": False}), tok)
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
    reader = LabelReader(tok, LabelSet(("anger", "fear", "joy")), "json", get_template("demo"), chat=True, thinks=True)
    assert parse_answer(reader, "joy").read == "unread" and parse_answer(reader, '{"label": ["joy"]}').read == "unread"
    text = 'Is it joy?\n</think>\n\n{"label": ["fear"]}'
    got = parse_answer(reader, text)
    assert got.labels == ("fear",) and text[got.starts[0]:got.ends[0]] == "fear"
    with pytest.raises(ValueError, match="opens thoughts"): ListGrammar(reader)


@pytest.mark.parametrize("options, message", [
    ({"enable_thinkin": False}, "did you mean 'enable_thinking'"), ({"tokenize": True}, "set by the run itself"),
    ({"add_generation_prompt": False}, "set by the run itself"), ({"messages": []}, "set by the run itself"),
    ({"bos_token": ""}, "set by the run itself"), ({1: 2}, "must be a dict"), ("enable_thinking", "must be a dict"), (True, "must be a dict"),
    ([1], "must be a dict"), ({"enable_thinking": object()}, "must be a text"), ({"enable_thinking": float("nan")}, "must be a text"),
    ({"date_string": "x"}, "did you mean 'enable_thinking'")])
def test_options_that_the_template_does_not_know_are_refused(sentencepiece_like, options, message):
    tok = tokenizer_with(sentencepiece_like, QWEN3)
    with pytest.raises(ValueError, match=message) as error: build_prompts(DOCS, TRAIN, shots=1, chat=tok, chat_options=options)
    assert "\n" not in str(error.value)


def test_a_template_without_options_takes_none(sentencepiece_like):
    with pytest.raises(ValueError, match="takes no options"): built(tokenizer_with(sentencepiece_like, MISTRAL), chat_options={"x": 1})


def test_options_need_a_chat():
    with pytest.raises(ValueError, match="set chat to True"): build_prompts(DOCS, TRAIN, shots=1, chat_options={"enable_thinking": False})
    with pytest.raises(ValueError, match="set chat to True"): Asking(chat_options={"enable_thinking": False})


def test_a_template_that_leaves_the_question_out_is_refused(sentencepiece_like):
    with pytest.raises(ValueError, match="leaves out or rewrites"): built(tokenizer_with(sentencepiece_like, "{{ bos_token }}Hello"))


def test_several_templates_by_name(sentencepiece_like):
    tok = tokenizer_with(sentencepiece_like, {"default": QWEN3, "tool_use": "x"})
    assert built(tok, chat_options={"enable_thinking": False})[0][0].text.endswith("</think>\n\n")


def test_options_are_part_of_a_run(tmp_path):
    engine = load_engine("tiny", gpu="cpu", share=False)
    engine.tokenizer.chat_template = ("{% for m in messages %}{{ m.content }}\n{% endfor %}"
                                      "{% if style is defined %}{{ style }}{% endif %}{% if today is defined %}{{ today }}{% endif %}")
    engine.model.save_pretrained(tmp_path / "model")
    engine.tokenizer.save_pretrained(tmp_path / "model")
    how = dict(model=str(tmp_path / "model"), chat=True, n_docs=6, shots=2, label_format="comma", template={"system": "Be careful."})
    for options in (None, {"style": "Short: "}):
        run_short("01_stepwise_logits", tmp_path, **how, chat_options=options)
    plain, styled = (read_run(f) for f in find_runs(tmp_path / "runs", "01_stepwise_logits"))
    assert plain["record"]["run"] != styled["record"]["run"] and styled["record"]["parameters"]["chat_options"] == {"style": "Short: "}
    assert not set(plain["docs"].prompt_sha256) & set(styled["docs"].prompt_sha256)
    for run in (plain, styled):
        counted = {r: run["record"]["counters"][f"answers_{r}"] for r in ("well_formed", "loose", "in_part", "unread")}
        assert counted == {r: int((run["docs"]["read"] == r).sum()) for r in counted} and sum(counted.values()) == 6
        assert any("read in part" in w for w in run["record"]["warnings"]) == (counted["in_part"] > 0)
    assert "did you mean 'style'" in refusal("01_stepwise_logits", tmp_path, **how, chat_options={"styl": "x"})
    assert "set chat to True" in refusal("01_stepwise_logits", tmp_path, chat_options={"style": "x"})
