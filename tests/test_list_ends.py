"An answer ends with its list: the same label steps, the same P(stop), and nothing else ends early."

from itertools import permutations

import numpy as np
import pytest
from fake_server import FakeServer
from test_steps import ASKED, EMOTIONS, OWN_FORMATS, tokenizer, written  # noqa: F401 (a fixture)

from mlcllm.answers import LABEL_FORMATS, format_labels, list_end, parse_labels
from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import Engine, Generation, cut_answer, load_engine
from mlcllm.openai_engine import load_openai
from mlcllm.prompts import build_prompts, get_template
from mlcllm.sampled_answers import sample_answers
from mlcllm.stepwise_logits import encode_prompts, read_trace, trace_docs
from mlcllm.verbalizer import Verbalizer, find_list_end, parse_answer

DOCS, TRAIN = load_docs("demo", "test", n_docs=12), load_docs("demo", "train")
SETS = [p for n in range(4) for p in permutations(("fear", "joy", "love"), n)]


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu")


class Forwarded(Engine):
    "An engine of one's own, which knows nothing of early ends"

    def __init__(self, engine):
        super().__init__(engine.tokenizer, engine.max_length, engine.eos, engine.model_hash)
        self.engine = engine

    def score(self, *args):
        return self.engine.score(*args)

    def generate(self, prompts, max_new_tokens, stop=(), watch_ids=(), allowed=None):
        return self.engine.generate(prompts, max_new_tokens, stop, watch_ids, allowed)


@pytest.mark.parametrize("label_format", (*LABEL_FORMATS, *OWN_FORMATS))
@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_a_list_ends_where_the_format_ends_it_and_not_before(label_format, names):
    answer = format_labels(names, label_format)
    several = label_format == OWN_FORMATS[-1]
    text = "\n " + answer + ("\n\n" if several else "\n") + "Input: I fear joy\nEmotion(s): anger"
    ends = {list_end(text[:k], EMOTIONS, label_format, True) for k in range(len(text) + 1)} - {None}
    assert len(ends) == 1, ends  # the same wherever it is noticed
    (end,) = ends
    assert text[:end].strip() == answer.strip()
    known = parse_labels(text[:end], EMOTIONS, label_format)
    assert known.well_formed and known.labels == (names or ("none",))
    closed = answer[-1] in "}>]"
    assert (list_end(text, EMOTIONS, label_format) is not None) == closed  # without demonstrations


@pytest.mark.parametrize("label_format", (*LABEL_FORMATS, "json-emotions"))
@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_label_steps_and_p_stop_stay(tokenizer, label_format, names):  # noqa: F811
    template, before, after, _ = ASKED["plain"]
    verbalizer = Verbalizer(tokenizer, EMOTIONS, label_format, template)
    long = written(verbalizer, before + format_labels(names, label_format) + after + "Then more of it")
    long = Generation(
        tuple(long.token_ids), long.text, long.logits, long.logsumexp, "length", np.zeros(len(long.token_ids))
    )
    short = cut_answer(tokenizer, long, find_list_end(verbalizer, True))
    assert len(short.token_ids) < len(long.token_ids) and short.finish_reason == "stop"
    assert len(short.token_ids) == len(short.logits) == len(short.logsumexp) == len(short.logprobs)
    until = long.text.index("Then")
    expected = read_trace(verbalizer, "d", Generation(**(vars(long) | dict(text=long.text[:until]))))
    got = read_trace(verbalizer, "d", short)
    assert got.chosen == expected.chosen and got.well_formed
    for name in ("token_index", "logits", "logsumexp", "continue_logit", "stop_logit"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


@pytest.mark.parametrize(
    "text", ["joy, fear!\n", "glee\n", "joy, joy\n", "joy,\nfear\n", "none, joy\n", "So: joy\n"]
)
def test_what_the_format_does_not_write_is_read_to_its_end(text):
    assert list_end(text, EMOTIONS, "comma", True) is None


def test_one_label_of_a_document():
    one = LabelSet(("hate", "normal", "offensive"), allows_none=False, multi=False)
    assert list_end('{"label": "hate"}\nIn', one, "json") == 17
    assert list_end(" hate\n\nIn", one, "comma", True) == 5
    assert list_end(" hate, normal\n", one, "comma", True) is None


def test_thoughts_and_answers_that_go_on_with_the_document_do_not_end_early(tokenizer):  # noqa: F811
    template, *_ = ASKED["thoughts"]
    thinks = find_list_end(Verbalizer(tokenizer, EMOTIONS, "json", template), True)
    assert thinks('{"label": ["joy"]}') is None
    template, *_ = ASKED["plain"]  # answers stand on the line below the document
    ends = find_list_end(Verbalizer(tokenizer, EMOTIONS, "comma", template), True)
    assert (ends(" joy\n"), ends("\njoy\n")) == (None, 4)


@pytest.mark.parametrize("label_format", ["json", "comma"])
@pytest.mark.parametrize("shots", [0, 4])
def test_every_engine_ends_an_answer_at_the_same_token(tiny, monkeypatch, tmp_path, label_format, shots):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123456")
    template = get_template("demo")
    verbalizer = Verbalizer(tiny.tokenizer, DOCS.labels, label_format, template)
    prompts = build_prompts(DOCS, TRAIN, template, shots, label_format=label_format)
    own = trace_docs(tiny, verbalizer, prompts)
    whole = tiny.generate(encode_prompts(tiny, prompts, 24), 24, [template.stop], verbalizer.watch_ids)
    fewer = sum(len(t.token_ids) for t in own) / sum(len(g.token_ids) for g in whole)
    assert fewer < 0.9 if shots else fewer <= 1
    for trace, g in zip(own, whole):
        assert g.token_ids[: len(trace.token_ids)] == trace.token_ids
        full = read_trace(verbalizer, trace.doc_id, g)
        assert full.predicted == trace.predicted
        if full.found_step and not full.well_formed:
            assert trace.token_ids == g.token_ids or trace.well_formed
    with FakeServer(tiny, "full") as server:
        served = load_openai("tiny", dict(base_url=server.url, cache=str(tmp_path / "answers.sqlite")))
        for engine in (Forwarded(tiny), served):
            for a, b in zip(own, trace_docs(engine, verbalizer, prompts)):
                assert (a.output, a.finish_reason, a.token_ids) == (b.output, b.finish_reason, b.token_ids)
                assert a.chosen == b.chosen
                np.testing.assert_allclose(a.probs, b.probs, atol=1e-4)
                np.testing.assert_allclose(a.p_stop, b.p_stop, atol=1e-4)


@pytest.mark.parametrize("label_format", ["json", "comma"])
def test_draws_end_with_their_lists_too(tiny, label_format):
    template = get_template("demo")
    verbalizer = Verbalizer(tiny.tokenizer, DOCS.labels, label_format, template)
    prompts = encode_prompts(tiny, build_prompts(DOCS, TRAIN, template, 4, label_format=label_format), 24)
    tiny.sample(prompts, 1, 1)  # both find what prompts share read already
    before = tiny.stats["tokens_forwarded"]
    early = sample_answers(tiny, verbalizer, prompts, DOCS.ids, 5, seed=3, demonstrated=True)
    between = tiny.stats["tokens_forwarded"]
    whole = tiny.sample(prompts, 5, 24, [template.stop], None, 3)
    assert between - before < tiny.stats["tokens_forwarded"] - between
    for own, row in zip(early.texts, whole):
        for text, g in zip(own, row):
            assert g.text.startswith(text)
            assert parse_answer(verbalizer, text).labels == parse_answer(verbalizer, g.text).labels


def test_chats_end_by_themselves(tiny):
    chat = Verbalizer(tiny.tokenizer, EMOTIONS, "comma", get_template("demo"), chat=True)
    for label_format, text in (("comma", "joy\nfear\nlove"), ("json", '{"label": ["joy"]} No, I mean fear.')):
        chat = Verbalizer(tiny.tokenizer, EMOTIONS, label_format, get_template("demo"), chat=True)
        assert find_list_end(chat, True)(text) is None


def test_a_closing_without_an_opening_needs_demonstrations():
    full_stop = "{label}; {label}."
    assert list_end("joy; fear.\n", EMOTIONS, full_stop) is None
    assert list_end("joy; fear.\n", EMOTIONS, full_stop, True) == 10


class OneArgument:
    "A wrapper that passes everything on, and takes no arguments by name"

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def generate(self, *args):
        return self.engine.generate(*args)


def test_wrappers_and_subclasses_without_early_ends_are_cut(tiny):
    template = get_template("demo")
    verbalizer = Verbalizer(tiny.tokenizer, DOCS.labels, "json", template)
    prompts = build_prompts(DOCS, TRAIN, template, 4, label_format="json")
    own = trace_docs(tiny, verbalizer, prompts)
    assert [t.output for t in trace_docs(OneArgument(tiny), verbalizer, prompts)] == [t.output for t in own]


def test_an_answer_whose_tokens_are_another_text_is_left_as_it_is(tiny):
    ids = tuple(tiny.encode('x{"label": ["joy"]}'))
    odd = Generation(
        ids, '{"label": ["joy"]} More', np.zeros((len(ids), 0)), np.zeros(len(ids)), "length", None
    )
    ends = find_list_end(Verbalizer(tiny.tokenizer, EMOTIONS, "json", get_template("demo")), True)
    assert cut_answer(tiny.tokenizer, odd, ends) is odd
