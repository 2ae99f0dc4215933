"""Names of earlier versions go on working: classes, functions, attributes, methods and keyword arguments."""

import inspect
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlcllm.alignment import Estimator, choose_methods, estimate
from mlcllm.checks import renamed_arguments, renamed_attribute
from mlcllm.data import LabelSet, load_docs
from mlcllm.engines import Engine, HFEngine, load_engine
from mlcllm.figure_tables import RunIndex, sweep_table
from mlcllm.prompts import LabelTokens, Prompt, build_prompts, get_template, label_tokens
from mlcllm.scale import Setting
from mlcllm.stepwise_logits import (
    ListGrammar,
    PromptConfig,
    Verbalizer,
    answer_room,
    ask_prompts,
    choose_scoring,
    encode_prompts,
    first_slot,
    joined_labels,
    label_logits,
    make_verbalizer,
    parse_answer,
    read_first_slot,
    read_trace,
    rescore,
    score_sequences,
    step_contexts,
    step_prefixes,
    trace_docs,
)
from mlcllm.tiny import Batch, Task

NAMES = [  # module, earlier name, name
    ("stepwise_logits", "Asking", "PromptConfig"),
    ("stepwise_logits", "LabelReader", "Verbalizer"),
    ("stepwise_logits", "make_reader", "make_verbalizer"),
    ("stepwise_logits", "step_leads", "step_prefixes"),
    ("stepwise_logits", "turning_tokens", "find_stop_tokens"),
    ("figure_tables", "Shelf", "RunIndex"),
    ("figure_tables", "open_shelf", "open_run_index"),
    ("figure_tables", "attention_rows", "stored_attention"),
    ("figures", "Shelf", "RunIndex"),
    ("figures", "open_shelf", "open_run_index"),
    ("stored_runs", "Rows", "Selection"),
    ("probing", "Insides", "Activations"),
    ("probing", "look_inside", "collect_activations"),
    ("probing", "TARGETS", "PROBE_TARGETS"),
    ("alignment", "take_over", "inherit_parameters"),
    ("alignment", "with_people", "add_references"),
    ("data", "leave_out", "exclude"),
    ("tiny", "taught_answers", "distilled_answers"),
    ("tiny", "model_card", "bundled_model_card"),
    ("demux", "METRICS", "DEV_METRICS"),
    ("demux", "load_tokenizer", "load_encoder_tokenizer"),
    ("scale", "estimate", "estimate_cost"),
]

ATTRIBUTES = [  # class, earlier name, name
    (PromptConfig, "words", "template_for"),
    (PromptConfig, "sampling_of", "sampling_for"),
    (RunIndex, "lacks", "note_missing"),
]

KEYWORDS = [  # module, functions, earlier name, name
    ("stepwise_logits", ("ask_prompts", "make_verbalizer"), "asking", "config"),
    ("label_sets", ("choice_funnel",), "asking", "config"),
    ("alignment", ("choose_methods", "estimate", "forecast"), "asking", "config"),
    ("probing", ("collect_activations",), "asking", "config"),
    ("sft", ("sft_examples", "train_grpo"), "asking", "config"),
    (
        "stepwise_logits",
        (
            "parse_answer",
            "joined_labels",
            "label_logits",
            "read_trace",
            "first_slot",
            "read_first_slot",
            "step_contexts",
            "step_prefixes",
            "score_sequences",
            "rescore",
            "answer_room",
            "choose_scoring",
            "trace_docs",
        ),
        "reader",
        "verbalizer",
    ),
    ("stepwise_logits", ("label_logits", "score_sequences"), "leads", "prefixes"),
    ("label_sets", ("set_marginals", "set_marginals_global", "forced_first"), "reader", "verbalizer"),
    ("probing", ("collect_activations", "attention_rows", "lens_rows"), "reader", "verbalizer"),
    ("sft", ("sft_examples", "train_grpo", "answer_reward"), "reader", "verbalizer"),
    (
        "figure_tables",
        (
            "traces_of",
            "traced_runs",
            "sweep_answers",
            "sweep_table",
            "probe_table",
            "information_rows",
            "probe_rows",
            "alignment_scores",
            "stored_losses",
            "attention_means",
            "stored_attention",
            "order_table",
            "order_answers",
            "cost_table",
            "dists_of",
        ),
        "shelf",
        "run_index",
    ),
    ("tiny", ("answer_episode", "episode", "batches"), "taught", "distilled"),
    ("tiny", ("batches", "make_batch"), "alone", "isolated"),
    ("engines", ("load_engine",), "share", "share_prefixes"),
]

MOVED = {  # from stepwise_logits, where they are found as well: module -> names
    "verbalizer": (
        "LabelReader",
        "ListGrammar",
        "Verbalizer",
        "find_stop_tokens",
        "joined_labels",
        "label_logits",
        "likeliest",
        "parse_answer",
        "score_sequences",
        "text_lengths",
        "tokens_at",
        "turning_tokens",
    ),
    "prompt_config": (
        "DECODINGS",
        "LABEL_SCORINGS",
        "Asking",
        "PromptConfig",
        "ask_prompts",
        "choose_scoring",
        "kept_warnings",
        "make_reader",
        "make_verbalizer",
        "once_each",
    ),
    "answer_scores": (
        "answer_scores",
        "count_readings",
        "plot_sweep",
        "score_table",
        "sweep_scores",
        "tfidf_answers",
        "tfidf_probs",
        "warn_of_parts",
        "word_counts",
    ),
    "stored_answers": ("docs_table", "read_answers", "steps_table"),
}


@pytest.mark.parametrize("module", MOVED)
def test_what_moved_is_found_in_its_earlier_place(module):
    here, there = import_module("mlcllm.stepwise_logits"), import_module(f"mlcllm.{module}")
    assert all(getattr(here, name) is getattr(there, name) for name in MOVED[module])


@pytest.fixture(scope="module")
def engine():
    return load_engine("tiny", gpu="cpu")


@pytest.mark.parametrize("module, old, name", NAMES)
def test_a_name_is_another_for_the_same_thing(module, old, name):
    there = import_module(f"mlcllm.{module}")
    assert getattr(there, old) is getattr(there, name)


@pytest.mark.parametrize("owner, old, name", ATTRIBUTES)
def test_a_method_is_another_for_the_same_thing(owner, old, name):
    assert getattr(owner, old) is getattr(owner, name)


@pytest.mark.parametrize(
    "module, function, old, name", [(m, f, old, name) for m, fs, old, name in KEYWORDS for f in fs]
)
def test_a_keyword_by_either_name_arrives(module, function, old, name):
    "With both a function refuses; with one of them and no other argument it asks for the others"
    call = getattr(import_module(f"mlcllm.{module}"), function)
    assert name in inspect.signature(call).parameters and old not in inspect.signature(call).parameters
    with pytest.raises(TypeError, match=f"was given {name} twice: {old} is its name in earlier versions"):
        call(**{old: 1, name: 2})
    try:
        inspect.signature(call).bind(**{name: 1})
    except TypeError:  # there are others without a default
        with pytest.raises(TypeError, match="missing") as error:
            call(**{old: 1})
        assert f"'{name}'" not in str(error.value)


def test_prompt_config():
    config, docs = PromptConfig(shots=2), load_docs("demo", "test", n_docs=2)
    assert config.words(docs) == get_template(docs.template, docs.labels.multi, "pipeline")
    assert config.sampling_of(docs.labels) == "multilabel"


def test_a_verbalizer(engine):
    labels = LabelSet(("joy", "fear"))
    v = Verbalizer(engine.tokenizer, labels, "json", get_template("demo"))
    assert v.whole is v.label_tokens and v.forms is v.variants and v.behind is v.next_tokens
    assert v.edges is v.boundary_tokens and v.turns is v.stop_tokens
    assert v.template.lead == v.template.prefix and v.nearest(lead=" ") == v.nearest(" ")
    assert ListGrammar(reader=v)(()) == ListGrammar(v)(())


def test_functions_of_a_verbalizer(engine):
    docs, demos, config = (
        load_docs("demo", "test", n_docs=2),
        load_docs("demo", "train"),
        PromptConfig(shots=2),
    )
    v, prompts = make_verbalizer(engine, docs, asking=config), ask_prompts(docs, demos, asking=config)
    ids = encode_prompts(engine, prompts, answer_room(reader=v, max_new_tokens=12))
    traces = trace_docs(engine, prompts=prompts, max_new_tokens=12, reader=v)
    text, z = traces[0].output, np.zeros((1, len(v.watch_ids)), np.float32)
    assert parse_answer(reader=v, text=text) == parse_answer(v, text)
    assert joined_labels(reader=v) == joined_labels(v) and choose_scoring(reader=v) == choose_scoring(v)
    assert first_slot(reader=v) == first_slot(v)
    assert (label_logits(reader=v, logits=z, leads=[""]) == label_logits(v, z, [""])).all()
    assert step_contexts(reader=v, prompts=ids, traces=traces) == step_contexts(v, ids, traces)
    assert step_prefixes(reader=v, trace=traces[0]) == step_prefixes(v, traces[0])
    assert read_first_slot(engine, reader=v, prompts=ids, traces=traces) == traces
    written = engine.generate(ids[:1], 12, [v.template.stop], v.watch_ids)[0]
    assert read_trace(reader=v, doc_id="a", generation=written).output.rstrip() == text
    leads = [first_slot(v)[1]]
    a = score_sequences(engine, reader=v, contexts=ids[:1], leads=leads)
    assert (a == score_sequences(engine, v, ids[:1], leads)).all()
    assert len(rescore(engine, reader=v, prompts=ids, traces=traces)) == 2


def test_prompts_and_label_tokens(engine):
    turns = (("user", "Hi"),)
    assert Prompt("a", "Hi", (), turns=turns).messages == turns == Prompt("a", "Hi", (), (), turns).turns
    assert LabelTokens(lead=" ", ids=(1,)) == LabelTokens(" ", (1,))
    assert (
        label_tokens(engine.tokenizer, "joy", '"').lead == label_tokens(engine.tokenizer, "joy", '"').prefix
    )
    docs = load_docs("demo", "test", n_docs=1)
    assert build_prompts(docs, load_docs("demo", "train"), shots=1)[0].turns == ()


def test_an_estimator(engine):
    demos, config = load_docs("demo", "train"), PromptConfig(shots=2)
    estimator = Estimator(engine, demos, "unary", asking=config)
    assert estimator.asking is config and estimator.config is config
    chosen = [m.name for m in choose_methods("unary,hard", demos.labels, asking=config)]
    assert chosen == ["unary", "hard"]
    docs = load_docs("demo", "test", n_docs=1)
    a, b = (estimate(engine, docs, demos, ["unary"], **{k: config}).dists[0] for k in ("asking", "config"))
    assert (a.probs == b.probs).all()


def test_engines(engine):
    slow = load_engine("tiny", gpu="cpu", share=False)
    assert not slow.share and not slow.share_prefixes and engine.share
    assert not HFEngine(slow.model, slow.tokenizer, share=False).share_prefixes
    slow.limits += ("it is slow",)
    assert slow.notes == slow.limits == ("it is slow",)


def test_an_engine_written_for_an_earlier_version(engine):
    class Served(Engine):
        limits, share = ("log-probabilities only",), False

    class Local(Served):
        pass

    for kind in (Served, Local):
        own = kind(engine.tokenizer)
        assert own.notes == own.limits == ("log-probabilities only",)
        assert own.share_prefixes is own.share is False
    assert Engine(engine.tokenizer).notes == () and Engine(engine.tokenizer).share


def test_tables_of_runs():
    index = RunIndex(None)
    index.lacks("figure 1", "A", "tiny", "no run", "make run")
    index.note_missing("figure 1", "A", "tiny", "no run", "make run")
    assert len(index.missing) == 1
    with pytest.raises(AttributeError, match="index"):  # it has arrived
        sweep_table(shelf=SimpleNamespace())


def test_settings_and_training():
    assert Setting(True, 1, 16, 1.0, "one GPU").say == "one GPU"
    answers, rows = np.zeros((1, 2)), torch.ones(1, dtype=torch.bool)
    assert Task(None, None, (), 1.0, taught=answers).distilled is answers
    assert Task(None, None, (), 1.0, answers).taught is answers
    assert Batch(None, None, None, None, alone=rows).isolated is rows
    assert Batch(None, None, None, None, rows).alone is rows


def test_unknown_keywords_are_refused_as_before():
    @renamed_arguments(old="new")
    def call(new=None):
        "A function"
        return new

    class Thing:
        new = 1
        old = renamed_attribute("new")

    assert call.__name__ == "call" and call.__doc__ == "A function" and call(old=2) == 2
    with pytest.raises(TypeError, match="unexpected keyword argument 'odd'"):
        call(odd=1)
    thing = Thing()
    thing.old = 3
    assert thing.new == 3 and "earlier versions" in Thing.old.__doc__
