"""A model is what its folder says it is, or it is refused in one line: files, configuration, tensors,
tokenizer, adapters, options, foreign code.
"""

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mlcllm.engines import HF_KINDS, HF_OPTIONS, find_model, load_engine, load_tokenizer
from mlcllm.vllm_engine import VLLM_KINDS, VLLM_OPTIONS, load_vllm
from mlcllm.weights import check_config, check_options, folder_hash, model_files


def plain_id(value):
    "The same in every process, so that two workers collect the same tests"
    return "call" if callable(value) else str(value)


TINY = Path(find_model("tiny"))
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def model_copy(folder, config=None, weights=None, tokenizer=None, of=TINY):
    "A copy of a model with another configuration, other tensors or another tokenizer"
    shutil.copytree(of, folder, dirs_exist_ok=True)
    if config:
        rewrite(folder / "config.json", lambda c: {k: v for k, v in (c | config).items() if v != "gone"})
    if weights:
        save_file(
            {k: v.contiguous() for k, v in weights(load_file(folder / "model.safetensors")).items()},
            folder / "model.safetensors",
            metadata=dict(format="pt"),
        )
    if tokenizer:
        rewrite(folder / "tokenizer.json", tokenizer)
    return folder


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def refusal(call):
    "The one line that a call ends with"
    with pytest.raises((ValueError, FloatingPointError)) as error:
        call()
    assert "\n" not in str(error.value), error.value
    return str(error.value)


def without(part):
    return lambda w: {k: v for k, v in w.items() if part not in k}


def renamed(prefix):
    return lambda w: {prefix + k: v for k, v in w.items()}


def filled(part, value):
    return lambda w: {k: torch.full_like(v, value) if part in k else v for k, v in w.items()}


@pytest.mark.parametrize(
    "config, weights, says",
    [
        (
            None,
            renamed("_orig_mod."),
            ["39 of the model's 39 tensors are not in the files", "begin with '_orig_mod.'"],
        ),
        (None, renamed("module."), ["39 of the model's 39 tensors", "begin with 'module.'"]),
        (
            None,
            renamed("module._orig_mod."),
            ["39 of the model's 39 tensors", "begin with 'module._orig_mod.'"],
        ),
        (
            None,
            lambda w: {k.replace("model.", "model._orig_mod."): v for k, v in w.items()},
            ["Names in the files hold '_orig_mod.'"],
        ),
        (
            dict(tie_word_embeddings=False),
            None,
            [
                "1 of the model's 39 tensors are not in the files (lm_head.weight)",
                "tie_word_embeddings: true",
            ],
        ),
        (
            dict(num_hidden_layers=6),
            None,
            ["18 of the model's 57 tensors", "model.layers.4.", "config.json has 6"],
        ),
        (
            dict(num_hidden_layers=3),
            None,
            ["9 tensors of the files have no place in the model", "The files have 4 layers, config.json 3"],
        ),
        (None, without("layers.2."), ["9 of the model's 39 tensors are not in the files (model.layers.2."]),
        (
            None,
            without("layers.0.mlp.up_proj"),
            ["1 of the model's 39 tensors are not in the files (model.layers.0.mlp.up_proj.weight)"],
        ),
        (None, without("embed_tokens"), ["lm_head.weight, model.embed_tokens.weight"]),
        (
            None,
            lambda w: w | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(128)},
            ["1 tensors of the files have no place in the model (model.layers.0.self_attn.q_proj.bias)"],
        ),
        (
            dict(hidden_size=256),
            None,
            ["38 have another shape (model.embed_tokens.weight (6144, 128) for (6144, 256)"],
        ),
        (dict(vocab_size=6145), None, ["1 have another shape"]),
        (dict(vocab_size=900_000_000), None, ["config.json describes", "the weight files hold"]),
        (
            dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
            None,
            ["12 of the model's 51 tensors"],
        ),
        (
            dict(model_type="gpt2", architectures=["GPT2LMHeadModel"]),
            None,
            ["53 of the model's 53 tensors", "another kind of model"],
        ),
        (
            dict(model_type="gemma"),
            None,
            ["model_type 'gemma', but architectures 'LlamaForCausalLM' belongs to 'llama'"],
        ),
        (dict(architectures=["LlamaForSequenceClassification"]), None, ["does not write text"]),
        (None, filled("", 0.0), ["29 of its 29 matrices are all zero"]),
        (None, filled("layers", 0.0), ["28 of its 29 matrices are all zero"]),
        (None, filled("embed", 0.0), ["exactly the same answer to different prompts"]),
        (None, filled("", 1.0), ["exactly the same answer to different prompts"]),
        (None, filled("norm", float("nan")), ["tensors hold values that are no numbers"]),
    ],
    ids=plain_id,
)
def test_what_was_not_loaded_is_an_error(tmp_path, config, weights, says):
    said = refusal(lambda: load_engine(str(model_copy(tmp_path / "model", config, weights)), gpu="cpu"))
    assert all(s in said for s in says) and str(tmp_path) in said, said


@pytest.mark.parametrize(
    "config, weights, left_out",
    [
        (
            None,
            lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()},
            None,
        ),  # both of two tied tensors
        (
            None,
            lambda w: {"lm_head.weight" if "embed" in k else k: v for k, v in w.items()},
            None,
        ),  # the other one of them
        (
            None,
            lambda w: (
                w | {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.ones(16) for k in range(4)}
            ),
            None,
        ),  # buffers of old checkpoints
        (
            None,
            lambda w: w | {"v_head.summary.weight": torch.ones(1, 128)},
            "1 tensors of other parts are left out (v_head.summary.weight)",
        ),
        (dict(architectures="gone"), None, None),
        (dict(architectures=["LLaMAForCausalLM"]), None, None),  # a name that transformers does not know
        (
            None,
            lambda w: {
                k: torch.randn_like(v, dtype=torch.float32) * 0.05 if v.ndim > 1 else v for k, v in w.items()
            },
            "its weights are random or damaged",
        ),  # a control, not a fault
    ],
)
def test_what_is_no_fault_loads(tmp_path, config, weights, left_out):
    limits = load_engine(str(model_copy(tmp_path / "model", config, weights)), gpu="cpu").notes
    assert any(left_out in s for s in limits) if left_out else limits == ()


CUT_OFF = {
    "half of a file": lambda d: cut(d / "model.safetensors", 2),
    "its beginning": lambda d: cut(d / "model.safetensors", 1000),
    "an empty file": lambda d: (d / "model.safetensors").write_bytes(b""),
    "half of an old file": lambda d: (to_bin(d), cut(d / "pytorch_model.bin", 2)),
    "a missing shard": lambda d: to_shards(d, lost=True),
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "an index that is a list": lambda d: (
        (d / "model.safetensors").unlink(),
        (d / "model.safetensors.index.json").write_text("[]"),
    ),
    "half of a tokenizer": lambda d: cut(d / "tokenizer.json", 2),
    "no tokenizer": lambda d: [(d / f).unlink() for f in ("tokenizer.json", "tokenizer_config.json")],
    "tokenizer_config.json that is a list": lambda d: (d / "tokenizer_config.json").write_text("[]"),
    "a pipe for weights": lambda d: to_pipe(d / "model.safetensors"),
    "a pipe for a tokenizer": lambda d: to_pipe(d / "tokenizer.json"),
    "a pipe for config.json": lambda d: to_pipe(d / "config.json"),
    "config.json that is a list": lambda d: (d / "config.json").write_text("[1]"),
    "nested config.json": lambda d: (d / "config.json").write_text('{"a":' * 100_000),
    "UTF-16": lambda d: (d / "config.json").write_bytes("{}".encode("utf-16")),
}


def cut(path, part):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // part])


def to_pipe(path):
    path.unlink(), os.mkfifo(path)


def to_bin(folder):
    (
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin"),
        (folder / "model.safetensors").unlink(),
    )


def to_shards(folder, lost=False):
    weights, name = load_file(folder / "model.safetensors"), "model-0000{}-of-00002.safetensors"
    (folder / "model.safetensors").unlink()
    parts = [dict(list(weights.items())[:9]), dict(list(weights.items())[9:])]
    for k, part in enumerate(parts[:1] if lost else parts, 1):
        save_file(part, folder / name.format(k), metadata=dict(format="pt"))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(
            dict(metadata={}, weight_map={n: name.format(k) for k, part in enumerate(parts, 1) for n in part})
        )
    )


@pytest.mark.parametrize("damage", CUT_OFF)
def test_files_that_are_cut_off_or_no_files(tmp_path, damage):
    CUT_OFF[damage](model_copy(tmp_path / "model"))
    said = refusal(lambda: load_engine(str(tmp_path / "model"), gpu="cpu"))
    assert (
        "holds no model that can be loaded" in said
        or "is no regular file" in said
        or "must hold an object" in said
    ), said


@pytest.mark.parametrize("change", [to_bin, to_shards], ids=lambda f: f.__name__)
def test_other_formats_are_the_same_model(tmp_path, change):
    change(model_copy(tmp_path / "model"))
    own, tiny = (load_engine(m, gpu="cpu", dtype="float32") for m in (str(tmp_path / "model"), "tiny"))
    assert (
        own.score([[5, 6, 7]], [8, 9]).logits == tiny.score([[5, 6, 7]], [8, 9]).logits
    ).all() and own.notes == ()


# ---- configuration

WRONG = dict(
    num_hidden_layers=[-1, 0, "four", 4.5, True, None, [4], {}, 10**9, float("nan")],
    num_attention_heads=[0, -4, "4", None],
    num_key_value_heads=[0, 3, "2", False],
    hidden_size=[0, "128", None, 1.5],
    intermediate_size=["wide", -1],
    vocab_size=[-6144, "all"],
    max_position_embeddings=[0, "many"],
    rms_norm_eps=["x", 0, -1e-6, float("inf")],
    attention_dropout=["none", 2, -1],
    tie_word_embeddings=["no", 1],
    eos_token_id=["x", 1.5, [1, "b"], -7],
    bos_token_id=[{}],
    architectures=["LlamaForCausalLM", [3]],
    model_type=[3, None, []],
    dtype=["float13"],
    rope_parameters=["abc", dict(rope_theta=0), dict(rope_theta="x")],
    quantization_config=["4bit"],
)


@pytest.mark.parametrize(
    "field, value", [(k, v) for k, vs in WRONG.items() for v in vs], ids=lambda x: str(x)[:20]
)
def test_a_configuration_that_cannot_be_names_its_field(tmp_path, field, value):
    folder = model_copy(tmp_path / "model", {field: value})
    said = refusal(lambda: load_engine(str(folder), gpu="cpu"))
    assert (
        f"config.json: {field}" in said
        or field == "rope_parameters"
        and "rope_parameters: rope_theta" in said
        or field == "num_key_value_heads"
        and "no multiple of num_key_value_heads" in said
    ), said
    assert refusal(lambda: load_tokenizer(str(folder))) == said


@pytest.mark.parametrize(
    "field, value",
    [
        ("hidden_act", "no_such"),
        ("hidden_act", 3),
        ("head_dim", 7),
        ("rope_parameters", dict(rope_type="nope", rope_theta=1e4)),
    ],
)
def test_what_a_library_says_names_the_field_too(tmp_path, field, value):
    said = refusal(lambda: load_engine(str(model_copy(tmp_path / "model", {field: value})), gpu="cpu"))
    assert "config.json: " in said and (field in said or "head_dim" in said) and "Error:" not in said, said


REAL = [
    dict(
        hidden_size=2048,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=None,
        rope_theta=500000.0,
        eos_token_id=[128001, 128008, 128009],
        pad_token_id=None,
        rope_scaling=dict(factor=8.0, rope_type="llama3"),
    ),
    dict(n_layer=12, n_head=12, n_embd=768, n_inner=None, attn_pdrop=0.1, layer_norm_epsilon=1e-5),
    dict(
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_decoder_layers=8,
        num_heads=6,
        dropout_rate=0.1,
        classifier_dropout=0.0,
    ),
    dict(
        hidden_size=2048,
        intermediate_size=[8192, 16384],
        num_hidden_layers=2,
        attn_logit_softcapping=None,
        pad_token_id=-1,
    ),
    dict(dim=768, n_layers=6, n_heads=12, dropout=0.1, qa_dropout=0.1, seq_classif_dropout=0.2),
    dict(torch_dtype="bfloat16"),
    dict(dtype="auto"),
]


@pytest.mark.parametrize("config", REAL, ids=plain_id)
def test_configurations_of_known_models_pass(config):
    check_config("model 'x'", config)


@given(
    st.dictionaries(
        st.sampled_from(sorted(WRONG)),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.lists(st.integers(), max_size=3),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=300)
def test_any_configuration_is_read_or_refused_in_one_line(config):
    try:
        check_config("model 'x'", config)
    except ValueError as error:
        assert str(error).startswith("model 'x': config.json") and "\n" not in str(error)


# ---- tokenizer


def shifted(by, special=True, added=True):
    def change(t):
        vocab, kept = t["model"]["vocab"], set() if special else {a["content"] for a in t["added_tokens"]}
        moving = sorted(i for k, i in vocab.items() if k not in kept)
        to = dict(zip(moving, moving[by:] + moving[:by]))
        t["model"]["vocab"] = {k: to.get(i, i) if k not in kept else i for k, i in vocab.items()}
        if added and special:
            for a in t["added_tokens"]:
                a["id"] = to[a["id"]]
        return t

    return change


def more_words(t):
    t["model"]["vocab"] |= {f"word{k}": 6144 + k for k in range(9)}
    return t


def padding(t):
    t["added_tokens"].append(t["added_tokens"][0] | dict(id=6144, content="[PAD]"))
    return t


@pytest.mark.parametrize(
    "change, says",
    [
        (
            shifted(1),
            "bos is 1 in the tokenizer and 0 in the model; eos is 2 in the tokenizer and 1 in the model",
        ),
        (shifted(1, added=False), "its ids are shifted"),
        (shifted(100), "its ids are shifted"),
        (shifted(1, special=False), "shifted by 1"),
        (shifted(-2, special=False), "shifted by -2"),
        (more_words, "9 tokens such as 'word0' have none"),
    ],
    ids=["1", "1 of words", "100", "words 1", "words -2", "more words"],
)
def test_a_tokenizer_of_another_model_is_refused(tmp_path, change, says):
    said = refusal(lambda: load_engine(str(model_copy(tmp_path / "model", tokenizer=change)), gpu="cpu"))
    assert says in said, said


def test_a_tokenizer_of_another_size(tmp_path, data_root):
    folder = model_copy(tmp_path / "model")
    shutil.copy(data_root / "tokenizers" / "llama3" / "tokenizer.json", folder)
    assert "rows of embeddings" in refusal(lambda: load_engine(str(folder), gpu="cpu"))


def test_a_token_that_was_only_added_does_no_harm(tmp_path):
    engine = load_engine(str(model_copy(tmp_path / "model", tokenizer=padding)), gpu="cpu")
    assert engine.notes == () and len(engine.tokenizer) == 6145


def test_mixed_up_words_are_said(tmp_path):
    def mixed(t):
        kept = {a["content"] for a in t["added_tokens"]}
        words = [k for k in t["model"]["vocab"] if k not in kept]
        t["model"]["vocab"] |= dict(zip(words, [t["model"]["vocab"][k] for k in words[::-1]]))
        return t

    assert "its tokenizer is another model's" in " ".join(
        load_engine(str(model_copy(tmp_path / "model", tokenizer=mixed)), gpu="cpu").notes
    )


@pytest.mark.parametrize(
    "config, says", [(dict(eos_token_id=99_999), "eos_token_id is 99,999 and the model has 6,144 rows")]
)
def test_special_tokens_beyond_the_model(tmp_path, config, says):
    assert says in refusal(lambda: load_engine(str(model_copy(tmp_path / "model", config)), gpu="cpu"))


@pytest.mark.parametrize("length", ["many", -5, 0, True])
def test_a_length_that_is_none(tmp_path, length):
    folder = model_copy(tmp_path / "model")
    rewrite(folder / "tokenizer_config.json", lambda c: c | dict(model_max_length=length))
    assert "model_max_length must be a number" in refusal(lambda: load_engine(str(folder), gpu="cpu"))


# ---- identity

DECIDES = (
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json",
    "model.safetensors.index.json",
    "model-q4.gguf",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool.jinja",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapter_config.json",
    "modeling_odd.py",
    "qwen.tiktoken",
)


@pytest.mark.parametrize("name", DECIDES)
def test_every_file_that_decides_an_answer_is_part_of_the_identity(tmp_path, name):
    place = model_copy(tmp_path) / name
    place.parent.mkdir(exist_ok=True)
    seen = set()
    for content in (b"aaaa", b"aaab", b"aaa"):
        place.write_bytes(content), os.utime(place, (1, 1)), seen.add(folder_hash(tmp_path))
    place.unlink(), seen.add(folder_hash(tmp_path))
    assert len(seen) == 4  # the times were the same


def test_what_decides_nothing_is_not(tmp_path):
    before = folder_hash(model_copy(tmp_path))
    for name in ("README.md", "picture.png", "training.json", ".gitattributes"):
        (tmp_path / name).write_text("other")
    (tmp_path / "checkpoint-3").mkdir(), (tmp_path / "checkpoint-3" / "model.safetensors").write_bytes(b"x")
    for path in model_files(tmp_path):
        os.utime(path)
    assert folder_hash(tmp_path) == before


def test_other_weights_in_an_old_file_are_another_model(tmp_path):
    to_bin(model_copy(tmp_path))
    first = load_engine(str(tmp_path), gpu="cpu").model_hash
    torch.save(
        {k: torch.randn_like(v) * 0.05 for k, v in torch.load(tmp_path / "pytorch_model.bin").items()},
        tmp_path / "pytorch_model.bin",
    )
    assert load_engine(str(tmp_path), gpu="cpu").model_hash != first


@needs_peft
def test_an_adapter_of_other_weights_is_another_model(tmp_path):
    folder = save_adapter(tmp_path / "adapter", base=str(model_copy(tmp_path / "base")))
    first = load_engine(str(folder), gpu="cpu").model_hash
    model_copy(tmp_path / "base", weights=lambda w: {k: v * 0.9 for k, v in w.items()})
    second = load_engine(str(folder), gpu="cpu").model_hash
    assert second != first and second.split("+")[1] == first.split("+")[1]


ON_THE_HUB = """
import sys
from mlcllm.engines import load_engine
print(load_engine(sys.argv[1], gpu="cpu").model_hash)
"""


def cached(hub, name, commit):
    "The folder of a Hub model in a cache"
    repo = hub / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True), (repo / "refs" / "main").write_text(commit)
    return repo / "snapshots" / commit


@needs_peft
def test_a_model_of_the_hub_is_its_commit(tmp_path):
    model, adapter = "a1b2c3d4" * 5, "0f1e2d3c" * 5
    (
        model_copy(cached(tmp_path, "someone/model", model)),
        save_adapter(cached(tmp_path, "someone/adapter", adapter), base="someone/model"),
    )
    for name, identity in (("someone/model", model), ("someone/adapter", f"{model}+{adapter}")):
        done = subprocess.run(
            [sys.executable, "-c", ON_THE_HUB, name],
            env=os.environ | dict(HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1"),
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == identity, done.stderr[-2000:]


def test_vllm_takes_the_version_that_the_run_records(tmp_path, monkeypatch):
    asked, commit = {}, "a1b2c3d4" * 5

    def start(name, **given):
        asked.update(given, name=name)
        raise RuntimeError("enough\nseen")

    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(LLM=start))
    monkeypatch.setattr("mlcllm.vllm_engine.base_model", lambda model: (model, None, None))
    monkeypatch.setattr("mlcllm.vllm_engine.hub_revision", lambda name: commit)
    assert "vLLM cannot load 'someone/model': enough" in refusal(lambda: load_vllm("someone/model"))
    assert (
        asked["revision"] == asked["tokenizer_revision"] == asked["code_revision"] == commit
        and asked["trust_remote_code"] is False
    )


# ---- foreign code and options


def with_code(folder, place):
    "A model whose own code leaves a mark when it runs"
    model_copy(
        folder,
        dict(
            model_type="odd",
            architectures=["OddForCausalLM"],
            auto_map=dict(AutoConfig="odd.OddConfig", AutoModelForCausalLM="odd.OddForCausalLM"),
        ),
    )
    (folder / "odd.py").write_text(
        f"from transformers import LlamaConfig, LlamaForCausalLM\nopen({str(place)!r}, 'w').close()\n"
        "class OddConfig(LlamaConfig): model_type = 'odd'\nclass OddForCausalLM(LlamaForCausalLM): "
        "config_class = OddConfig\n"
    )
    return str(folder)


@pytest.mark.parametrize("backend", ["hf", "vllm"])
@pytest.mark.parametrize("answer", ["false", "no", "False", "true", "yes", 0, 1, None, [], "absent", False])
def test_foreign_code_does_not_run_against_the_users_word(tmp_path, monkeypatch, backend, answer):
    monkeypatch.setitem(
        sys.modules,
        "vllm",
        types.SimpleNamespace(
            LLM=lambda name, **given: (
                pytest.fail(f"vLLM was started with {given}")
                if given["trust_remote_code"]
                else (_ for _ in ()).throw(ValueError("set trust_remote_code"))
            )
        ),
    )
    options = None if answer == "absent" else dict(trust_remote_code=answer)
    said = refusal(
        lambda: load_engine(
            with_code(tmp_path / "model", tmp_path / "ran"),
            backend=backend,
            gpu="cpu",
            backend_options=options,
        )
    )
    assert not (tmp_path / "ran").exists() and "trust_remote_code" in said, said


def test_foreign_code_runs_when_it_is_asked_for(tmp_path):
    engine = load_engine(
        with_code(tmp_path / "model", tmp_path / "ran"),
        gpu="cpu",
        backend_options=dict(trust_remote_code=True),
    )
    assert (tmp_path / "ran").exists() and any("trust_remote_code" in s for s in engine.notes)


def test_foreign_code_runs_in_no_other_loader(tmp_path):
    from mlcllm import demux, sft
    from mlcllm.data import load_docs

    model = with_code(tmp_path / "model", tmp_path / "ran")
    labels = load_docs("demo", "train", n_docs=4).labels
    calls = [
        lambda: load_tokenizer(model),
        lambda: load_tokenizer(model, "false"),
        lambda: demux.make_demux(model, labels),
        lambda: demux.load_demux(model),
        lambda: demux.encoder_digest(model + "x"),
    ]
    if importlib.util.find_spec("trl"):
        calls.append(lambda: sft.load_trainable(model))
    for call in calls:
        try:
            call()
        except ValueError as error:
            assert "\n" not in str(error)
    assert not (tmp_path / "ran").exists()


class Mark:
    "Leaves a file behind where it is unpickled"

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize(
    "write",
    [lambda x, path: torch.save(x, path), lambda x, path: path.write_bytes(pickle.dumps(x))],
    ids=["torch", "pickle"],
)
def test_a_pickle_runs_nothing(tmp_path, write):
    folder = model_copy(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    write(dict(mark=Mark(tmp_path / "ran"), fill=torch.zeros(400_000)), folder / "pytorch_model.bin")
    assert (
        "holds no model that can be loaded" in refusal(lambda: load_engine(str(folder), gpu="cpu"))
        and not (tmp_path / "ran").exists()
    )


WRONG_OPTIONS = [
    ([1], "must be options"),
    (3, "must be options"),
    ("x", "must be options"),
    (True, "must be options"),
    (dict(trust=True), "did you mean 'trust_remote_code'"),
    ({1: 2}, "unknown backend option 1"),
    (dict(max_length="9"), "max_length must be a whole number"),
    (dict(max_length=0), "max_length must be"),
    (dict(max_length=True), "max_length must be"),
    (dict(max_length=[9]), "max_length must be"),
    (dict(attn_implementation="sdp"), "did you mean 'sdpa'"),
    (dict(attn_implementation="someone/kernel"), "unknown backend_options: attn_implementation"),
    (dict(base_url="http://x"), "unknown backend option 'base_url'"),
]


@pytest.mark.parametrize("options, says", WRONG_OPTIONS, ids=plain_id)
def test_options_of_hf_are_typed(options, says):
    assert says in refusal(lambda: load_engine("tiny", gpu="cpu", backend_options=options))


@pytest.mark.parametrize(
    "options, says",
    [
        *WRONG_OPTIONS[:4],
        (dict(tensor_parallel=2), "did you mean 'tensor_parallel_size'"),
        (dict(tensor_parallel_size="2"), "must be a whole number"),
        (dict(gpu_memory_utilization=1.5), "from 0.01 to 1"),
        (dict(gpu_memory_utilization="0.4"), "must be a number"),
        (dict(enforce_eager="no"), "must be true or false"),
        (dict(quantization=4), "must be a name"),
        (dict(distributed_executor_backend="rai"), "did you mean 'ray'"),
        (dict(max_model_len="8k"), "must be a whole number"),
        (dict(max_lora_rank=0), "from 1 to"),
    ],
    ids=plain_id,
)
def test_options_of_vllm_are_typed(options, says):
    assert says in refusal(lambda: load_engine("tiny", backend="vllm", backend_options=options))


@pytest.mark.parametrize("kinds, defaults", [(HF_KINDS, HF_OPTIONS), (VLLM_KINDS, VLLM_OPTIONS)])
def test_every_option_has_a_type_and_takes_its_default(kinds, defaults):
    assert list(kinds) == list(defaults) and check_options(defaults, kinds, defaults) == defaults


# ---- adapters


def save_adapter(folder, rank=4, base="tiny"):
    "A LoRA adapter with random weights"
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    lora = get_peft_model(
        AutoModelForCausalLM.from_pretrained(TINY),
        LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    lora.peft_config["default"].base_model_name_or_path = base
    lora.save_pretrained(folder)
    return folder


def config_of_adapter(**given):
    return lambda d: rewrite(d / "adapter_config.json", lambda c: c | given)


def tensors_of_adapter(change):
    return lambda d: save_file(
        change(load_file(d / "adapter_model.safetensors")), d / "adapter_model.safetensors"
    )


ADAPTERS = [
    (tensors_of_adapter(lambda w: dict(list(w.items())[:-1])), "1 tensors are not in its file"),
    (tensors_of_adapter(renamed("_orig_mod.")), "16"),
    (
        tensors_of_adapter(
            lambda w: (
                w | {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(4, 128)}
            )
        ),
        "1",
    ),
    (lambda d: cut(d / "adapter_model.safetensors", 2), "cut off"),
    (lambda d: (d / "adapter_model.safetensors").write_bytes(b""), "cut off"),
    (lambda d: (d / "adapter_model.safetensors").unlink(), "adapter"),
    (config_of_adapter(r=10**9), "the largest matrix of its file is 128 wide"),
    (config_of_adapter(r=8), "does not fit"),
    (config_of_adapter(r="four"), "r must be a whole number"),
    (config_of_adapter(r=-4), "r must be"),
    (config_of_adapter(r=True), "r must be"),
    (config_of_adapter(lora_alpha="x"), "lora_alpha must be a number"),
    (config_of_adapter(target_modules=3), "target_modules must be a list"),
    (config_of_adapter(peft_type="NOPE"), "peft_type must be"),
    (config_of_adapter(base_model_name_or_path=None), "does not name its base model"),
    (lambda d: (d / "adapter_config.json").write_text("{"), "adapter_config.json cannot be read"),
    (lambda d: (d / "adapter_config.json").write_text("[]"), "must hold an object"),
    (lambda d: config_of_adapter(base_model_name_or_path=str(d))(d), "is an adapter itself"),
]


@needs_peft
@pytest.mark.parametrize("damage, says", ADAPTERS, ids=[s for _, s in ADAPTERS])
def test_an_adapter_that_is_not_whole_is_refused(tmp_path, damage, says):
    from mlcllm.sft import load_trainable

    damage(save_adapter(tmp_path / "adapter"))
    said = refusal(lambda: load_engine(str(tmp_path / "adapter"), gpu="cpu"))
    assert says in said, said
    if importlib.util.find_spec("trl"):
        refusal(lambda: load_trainable(str(tmp_path / "adapter")))


# ---- no false alarm: what transformers saves, loads

SMALL = dict(vocab_size=6144, bos_token_id=0, eos_token_id=1)
WIDE = SMALL | dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    pad_token_id=1,
)
GROUPED = WIDE | dict(num_key_value_heads=2)
OLD = SMALL | dict(n_embd=64, n_layer=2, n_head=4, n_positions=256)
WRITERS = dict(
    GPT2=OLD,
    GPTNeoX=WIDE,
    OPT=SMALL
    | dict(
        hidden_size=64,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=64,
    ),
    Bloom=SMALL | dict(hidden_size=64, n_layer=2, n_head=4),
    Falcon=SMALL | dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4),
    Phi=WIDE,
    Gemma=GROUPED | dict(head_dim=16),
    Gemma2=GROUPED | dict(head_dim=16),
    Qwen2=GROUPED,
    Qwen3=GROUPED | dict(head_dim=16),
    Mixtral=GROUPED | dict(num_local_experts=4),
    Mamba=SMALL | dict(hidden_size=64, num_hidden_layers=2, pad_token_id=1),
    T5=SMALL
    | dict(d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, decoder_start_token_id=1, pad_token_id=1),
    Llama=GROUPED | dict(tie_word_embeddings=False),
)


@pytest.mark.parametrize("name", WRITERS)
def test_what_transformers_saves_is_not_refused(tmp_path, name):
    import transformers

    config = getattr(transformers, f"{name}Config")(**WRITERS[name])
    torch.manual_seed(0)
    (
        transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    ).from_config(config).save_pretrained(tmp_path)
    load_tokenizer("tiny").save_pretrained(tmp_path)
    said = load_engine(str(tmp_path), gpu="cpu").notes
    known = (
        "plain English sentence",
        "an encoder–decoder",
        "makes other tokens",
    )  # a class of its own for Qwen
    assert all(any(k in s for k in known) for s in said), said


# ---- encoders of 04

ENCODER = dict(
    vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
ENCODERS = dict(
    BertForMaskedLM=("BertConfig", ENCODER),
    BertForSequenceClassification=("BertConfig", ENCODER),
    RobertaForMaskedLM=("RobertaConfig", ENCODER | dict(pad_token_id=0)),
    DistilBertForMaskedLM=(
        "DistilBertConfig",
        dict(vocab_size=30522, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    ),
    ElectraForPreTraining=("ElectraConfig", ENCODER | dict(embedding_size=32)),
    DebertaV2ForMaskedLM=("DebertaV2Config", ENCODER),
    ModernBertForMaskedLM=("ModernBertConfig", ENCODER | dict(pad_token_id=0)),
    AlbertForMaskedLM=("AlbertConfig", ENCODER | dict(embedding_size=16)),
)


def save_encoder(folder, name="BertForMaskedLM"):
    import transformers

    from mlcllm.demux import load_encoder_tokenizer as load

    kind, given_ = ENCODERS[name]
    torch.manual_seed(0)
    (
        getattr(transformers, name)(getattr(transformers, kind)(**given_)).save_pretrained(folder),
        load("minilm").save_pretrained(folder),
    )
    return folder


def demo(n=8):
    from mlcllm.data import load_docs

    return load_docs("demo", "train", n_docs=n)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_with_any_head_are_encoders(tmp_path, name):
    from mlcllm.demux import load_demux, make_demux, predict

    docs = demo()
    model, own = make_demux(str(save_encoder(tmp_path / "encoder", name)), docs.labels, max_length=96)
    model.save_pretrained(tmp_path / "demux"), own.save_pretrained(tmp_path / "demux")
    assert (
        abs(predict(*load_demux(tmp_path / "demux"), docs).probs - predict(model, own, docs).probs).max()
        < 1e-6
    )


NO_ENCODERS = [
    (None, renamed("_orig_mod."), "37 of the model's 37 tensors are not in the files"),
    (None, without("layer.1."), "16 of the model's 37 tensors"),
    (dict(num_hidden_layers=3), None, "16 of the model's 53 tensors"),
    (dict(num_hidden_layers=1), None, "The files have 2 layers, config.json 1"),
    (None, lambda w: {k: v for k, v in w.items() if k.startswith("cls")}, "37 of the model's 37 tensors"),
    (None, filled("", 0.0), "matrices are all zero"),
    (dict(is_decoder=True), None, "is a decoder"),
    (dict(num_attention_heads=0), None, "num_attention_heads must be"),
    (dict(num_attention_heads=3), None, "multiple"),
    (dict(model_type="roberta"), None, "names two kinds of model"),
    (dict(vocab_size=100), None, "1 have another shape"),
    (dict(max_position_embeddings=10**9), None, "the weight files hold"),
]


@pytest.mark.parametrize("config, weights, says", NO_ENCODERS, ids=[s for *_, s in NO_ENCODERS])
def test_an_encoder_that_is_not_whole_is_refused(tmp_path, config, weights, says):
    from mlcllm.demux import make_demux

    folder = model_copy(tmp_path / "model", config, weights, of=save_encoder(tmp_path / "encoder"))
    said = refusal(lambda: make_demux(str(folder), demo().labels, max_length=96))
    assert says in said and said.startswith("encoder "), said


def test_a_decoder_is_no_encoder_and_an_encoder_does_not_write(tmp_path):
    from mlcllm.demux import make_demux

    assert "is a decoder, which does not see what comes later" in refusal(
        lambda: make_demux(str(TINY), demo().labels)
    )
    encoder = save_encoder(tmp_path / "encoder")
    assert "is a BertForMaskedLM, which does not write" in refusal(
        lambda: load_engine(str(encoder), gpu="cpu")
    )
    rewrite(encoder / "config.json", lambda c: {k: v for k, v in c.items() if k != "architectures"})
    assert "lets later tokens change earlier answers" in refusal(lambda: load_engine(str(encoder), gpu="cpu"))


@pytest.mark.parametrize(
    "weights, says",
    [
        (without("head."), "4 of the model's 41 tensors"),
        (renamed("_orig_mod."), "41 of the model's 41"),
        (lambda w: w | {"encoder.x": torch.ones(2)}, "encoder.x"),
        (filled("head", float("nan")), "no numbers"),
    ],
)
def test_a_trained_model_that_is_not_whole_is_refused(tmp_path, weights, says):
    from mlcllm.demux import load_demux, make_demux

    model, own = make_demux(str(save_encoder(tmp_path / "encoder")), demo().labels, max_length=96)
    model.save_pretrained(tmp_path / "demux"), own.save_pretrained(tmp_path / "demux")
    said = refusal(
        lambda: load_demux(model_copy(tmp_path / "broken", weights=weights, of=tmp_path / "demux"))
    )
    assert "no trained Demux model" in said and says in said, said


# ---- trainings that would not train


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize(
    "given_, says",
    [
        (dict(epochs=0), "epochs must be a number above 0"),
        (dict(epochs=-1), "epochs must be"),
        (dict(epochs="3"), "epochs must be"),
        (dict(learning_rate=0), "learning_rate must be"),
        (dict(learning_rate=float("nan")), "learning_rate must be"),
        (dict(seed=-1), "seed must be"),
        (dict(batch_size=0), "batch_size must be"),
        (dict(dtype="float13"), "unknown dtype"),
        (dict(dtype="float16"), "unknown dtype"),
        (dict(rank=10**9), "matrices are 128 wide"),
        (dict(rank=0), "lora_r must be"),
        (dict(rank="8"), "lora_r must be"),
    ],
    ids=plain_id,
)
def test_a_finetuning_that_would_not_train_is_refused(tmp_path, given_, says):
    from mlcllm.sft import Lora, train_sft

    def call():
        more = dict(lora=Lora(r=given_["rank"])) if "rank" in given_ else given_
        train_sft("tiny", [dict(prompt="a b", completion=" joy")] * 8, tmp_path / "model", **more)

    assert says in refusal(call)


@pytest.mark.parametrize(
    "given_, says",
    [
        (dict(epochs=0), "epochs must be a number above 0"),
        (dict(epochs=float("nan")), "epochs must be"),
        (dict(learning_rate="fast"), "learning_rate must be"),
        (dict(warmup=2), "warmup must be"),
        (dict(batch_size=1.5), "batch_size must be"),
        (dict(patience=0), "patience must be"),
    ],
    ids=plain_id,
)
def test_a_training_that_would_not_train_is_refused(tmp_path, given_, says):
    from mlcllm.demux import make_demux, train_demux

    docs = demo()
    model, own = make_demux(str(save_encoder(tmp_path / "encoder")), docs.labels, max_length=96)
    assert says in refusal(lambda: train_demux(model, own, docs, docs, tmp_path / "checkpoints", **given_))


# ---- files that are named elsewhere


def weights_to(place, index="model.safetensors.index.json"):
    "The weights in a file that an index names"

    def change(folder):
        (folder / place).parent.mkdir(exist_ok=True)
        names = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").rename(folder / place)
        (folder / index).write_text(json.dumps(dict(metadata={}, weight_map=dict.fromkeys(names, place))))

    return change


def weights_by_config(folder):
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub" / "own.safetensors")
    rewrite(folder / "config.json", lambda c: c | dict(transformers_weights="sub/own.safetensors"))


NAMED = {
    "a folder": (weights_to("s/a.safetensors"), "s/a.safetensors"),
    "an index of an old file": (weights_to("s/a.bin", "pytorch_model.bin.index.json"), "s/a.bin"),
    "a name that is ignored": (weights_to("training_args.bin"), "training_args.bin"),
    "another ending": (weights_to("weights.dat"), "weights.dat"),
    "config.json": (weights_by_config, "sub/own.safetensors"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_files_that_an_index_names_are_part_of_the_identity(tmp_path, kind):
    change, place = NAMED[kind]
    change(model_copy(tmp_path / "model"))
    first = folder_hash(tmp_path / "model")
    content = bytearray((tmp_path / "model" / place).read_bytes())
    content[-1] ^= 1
    (tmp_path / "model" / place).write_bytes(content)
    assert folder_hash(tmp_path / "model") != first


@pytest.mark.parametrize("kind", ["a folder", "config.json"])
def test_weights_in_a_folder_of_a_model_are_the_same_model(tmp_path, kind):
    NAMED[kind][0](model_copy(tmp_path / "model"))
    own, tiny = (load_engine(m, gpu="cpu", dtype="float32") for m in (str(tmp_path / "model"), "tiny"))
    assert (
        own.score([[5, 6, 7]], [8]).logits == tiny.score([[5, 6, 7]], [8]).logits
    ).all() and own.notes == ()


@pytest.mark.parametrize(
    "place", ["../outside.safetensors", "s/../../outside.safetensors", "/outside.safetensors"]
)
def test_weights_outside_the_folder_are_refused(tmp_path, place):
    folder = model_copy(tmp_path / "model")
    index = dict(metadata={}, weight_map={"a": place})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lies outside the folder" in refusal(lambda: load_engine(str(folder), gpu="cpu"))


@pytest.mark.parametrize(
    "content, says",
    [
        ({}, "weight_map must name the file of every tensor"),
        (dict(metadata={}, weight_map={}), "weight_map must name the file of every tensor"),
        (dict(metadata={}, weight_map={"a": 5}), "weight_map: a must be the name of a file, got 5"),
        (dict(metadata={}, weight_map=["a"]), "weight_map must name"),
        (dict(weight_map={"a": "b.safetensors"}), "metadata must be an object"),
        ([], "must hold an object"),
    ],
    ids=plain_id,
)
def test_an_index_that_names_no_files(tmp_path, content, says):
    folder = model_copy(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    said = refusal(lambda: load_engine(str(folder), gpu="cpu"))
    assert "model.safetensors.index.json" in said and says in said, said


@pytest.mark.parametrize("other", ["pytorch_model.bin", "model-q4.gguf", "consolidated.00.pth"])
def test_weights_of_two_formats_are_said(tmp_path, other):
    folder = model_copy(tmp_path / "model")
    (folder / "optimizer.pt").write_bytes(b"x")
    (folder / other).write_bytes(b"x")
    (said,) = load_engine(str(folder), gpu="cpu").notes
    assert f"read from model.safetensors; other weight files beside it are left out ({other})" in said


# ---- fields that a library would blame on nobody


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(auto_map=5), "auto_map must be an object"),
        (dict(auto_map={"AutoConfig": 5}), "auto_map: AutoConfig must be the name of a class"),
        (dict(id2label=5), "id2label must be an object"),
        (dict(id2label={"x": "a"}), "id2label must have a number for each label"),
        (dict(return_dict=False), "return_dict must be true or left out"),
        (dict(return_dict="no"), "return_dict must be true or false"),
        (dict(transformers_weights=5), "transformers_weights must be the name of a file"),
        (dict(is_encoder_decoder=True), "is_encoder_decoder is true, but 'llama' is no encoder–decoder"),
        (dict(max_position_embeddings=8), "its context holds 8 tokens"),
        (dict(rope_parameters=dict(rope_type="yarn", rope_theta=1e4)), "'yarn' needs a factor above 0"),
        (
            dict(rope_parameters=dict(rope_type="linear", factor="x")),
            "rope_parameters: factor must be a number",
        ),
        (dict(rope_parameters=dict(rope_type="linear", factor=0)), "factor must be a number above 0, got 0"),
        (dict(rope_scaling=dict(type="linear", factor=-2)), "rope_scaling: factor must be"),
        (dict(quantization_config=dict(x=1)), "quant_method must be a name"),
        (
            dict(quantization_config=dict(quant_method="bitsandbytes", load_in_4bit=True)),
            "the files hold plain weights",
        ),
        (dict(quantization_config=dict(load_in_8bit=True)), "names bitsandbytes, but the files hold plain"),
        (dict(quantization_config=dict(quant_method="gptq", bits=4)), "names gptq, but the files hold plain"),
    ],
    ids=plain_id,
)
def test_every_field_is_named(tmp_path, config, says):
    said = refusal(lambda: load_engine(str(model_copy(tmp_path / "model", config)), gpu="cpu"))
    assert says in said and "config.json" in said, said


def test_a_file_of_added_tokens_is_named(tmp_path):
    folder = model_copy(tmp_path / "model")
    (folder / "added_tokens.json").write_text('{"zz": "x"}')
    assert "added_tokens.json: the id of 'zz' must be" in refusal(lambda: load_engine(str(folder), gpu="cpu"))


def test_a_byte_order_mark_is_named(tmp_path):
    path = model_copy(tmp_path / "model") / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "save it as UTF-8 without BOM" in refusal(lambda: load_engine(str(path.parent), gpu="cpu"))


@pytest.mark.parametrize(
    "name", ["a" * 5000, "a/" * 3000, "a\0b", "ä" * 200], ids=["long", "deep", "zero", "bytes"]
)
def test_a_name_that_no_folder_can_have(name):
    assert "is no name" in refusal(lambda: load_engine(name))


def test_flexible_attention_needs_a_gpu():
    options = dict(attn_implementation="flex_attention")
    assert "runs on a GPU only" in refusal(lambda: load_engine("tiny", gpu="cpu", backend_options=options))


@pytest.mark.parametrize("form", [lambda d: None, to_bin], ids=["safetensors", "bin"])
def test_codes_without_a_key_are_no_weights(tmp_path, form):
    def codes(weights):
        return {k: (v.float() * 50).to(torch.int8) if v.ndim > 1 else v for k, v in weights.items()}

    folder = model_copy(tmp_path / "model", weights=codes)
    form(folder)
    said = refusal(lambda: load_engine(str(folder), gpu="cpu"))
    assert "29 of its weights are whole numbers (I8" in said, said


# ---- tokenizers that lose something


@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
def test_a_tokenizer_that_loses_every_blank_is_refused(tmp_path, name):
    folder = model_copy(tmp_path / "model")
    rewrite(folder / "tokenizer_config.json", lambda c: c | dict(tokenizer_class=name))
    said = refusal(lambda: load_engine(str(folder), gpu="cpu"))
    assert "makes 'Theweatherwas" in said and "names a class, LlamaTokenizer" in said, said


def test_a_class_that_makes_other_tokens_than_its_file_is_said(tmp_path):
    folder = model_copy(tmp_path / "model")
    rewrite(folder / "tokenizer_config.json", lambda c: c | dict(tokenizer_class="Qwen2Tokenizer"))
    (said,) = load_engine(str(folder), gpu="cpu").notes
    assert "Qwen2Tokenizer, makes other tokens of a plain text than tokenizer.json" in said


@pytest.mark.parametrize("name", ["BertTokenizer", "T5Tokenizer"])
def test_a_class_of_another_kind_of_tokenizer_is_named(tmp_path, name):
    folder = model_copy(tmp_path / "model")
    rewrite(folder / "tokenizer_config.json", lambda c: c | dict(tokenizer_class=name))
    assert "tokenizer_class" in refusal(lambda: load_engine(str(folder), gpu="cpu"))


def merges(part):
    "A tokenizer that kept a part of its merges"

    def change(t):
        own = t["model"]["merges"]
        t["model"]["merges"] = own[: int(len(own) * part)]
        return t

    return change


@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_lost_merges_are_refused(tmp_path, part):
    said = refusal(
        lambda: load_engine(str(model_copy(tmp_path / "model", tokenizer=merges(part))), gpu="cpu")
    )
    assert "merges are missing" in said, said


def test_a_few_lost_merges_are_said(tmp_path):
    (said,) = load_engine(str(model_copy(tmp_path / "model", tokenizer=merges(0.995))), gpu="cpu").notes
    assert "30 of the tokenizer's 6,144 tokens" in said


def test_a_vocabulary_that_needs_no_merges(tmp_path):
    def change(t):
        t["model"]["ignore_merges"] = True
        return merges(0.5)(t)

    limits = load_engine(str(model_copy(tmp_path / "model", tokenizer=change)), gpu="cpu").notes
    assert not any("merges" in s for s in limits)


def save_gpt2(folder, **config):
    import transformers

    torch.manual_seed(0)
    own = transformers.GPT2Config(vocab_size=6144, n_embd=64, n_layer=2, n_head=4, n_positions=256, **config)
    transformers.GPT2LMHeadModel(own).save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)
    return folder


def test_the_default_of_a_class_is_no_fault(tmp_path):
    engine = load_engine(str(save_gpt2(tmp_path)), gpu="cpu")
    assert any("eos_token_id is 50,256" in s and "the tokenizer's own is taken" in s for s in engine.notes)
    assert 1 in engine.eos and max(engine.eos) < 6144


def test_an_id_beyond_the_rows_that_is_no_default_is_a_fault(tmp_path):
    assert "eos_token_id is 50,000" in refusal(
        lambda: load_engine(str(save_gpt2(tmp_path, eos_token_id=50_000)), gpu="cpu")
    )


# ---- adapters of every kind

SWITCHES = ["use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "inference_mode", "use_qalora"]


@needs_peft
@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["false", "no", 0, 1, []], ids=plain_id)
def test_switches_of_an_adapter_are_true_or_false(tmp_path, name, value):
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = dict(peft_type="LORA", base_model_name_or_path="tiny", r=4, target_modules=["q_proj"])
    (folder / "adapter_config.json").write_text(json.dumps(config | {name: value}))
    said = refusal(lambda: load_engine(str(folder), gpu="cpu"))
    assert f"adapter_config.json: {name} must be true or false, without quotes, got {value!r}" in said, said


@needs_peft
@pytest.mark.parametrize(
    "given_, says",
    [
        (dict(rank_pattern=5), "rank_pattern must be an object"),
        (dict(rank_pattern={"q_proj": "x"}), "rank_pattern: q_proj must be"),
        (dict(rank_pattern={"q_proj": 0}), "rank_pattern: q_proj must be"),
        (dict(alpha_pattern={"q_proj": "x"}), "alpha_pattern: q_proj must be"),
        (dict(lora_dropout="x"), "lora_dropout must be a number"),
    ],
    ids=plain_id,
)
def test_fields_of_an_adapter_are_typed(tmp_path, given_, says):
    config_of_adapter(**given_)(save_adapter(tmp_path / "adapter"))
    assert says in refusal(lambda: load_engine(str(tmp_path / "adapter"), gpu="cpu"))


def peft_kinds():
    import peft

    low = dict(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    modules = ["q_proj", "v_proj"]
    return {
        "LoRA": peft.LoraConfig(**low),
        "rsLoRA": peft.LoraConfig(**low, use_rslora=True),
        "DoRA": peft.LoraConfig(**low, use_dora=True),
        "tokens": peft.LoraConfig(**low, trainable_token_indices=[5, 6]),
        "bias": peft.LoraConfig(**low, lora_bias=True),
        "wide": peft.LoraConfig(**low | dict(r=256)),
        "VeRA": peft.VeraConfig(r=8, target_modules=["q_proj"], init_weights=False),
        "OFT": peft.OFTConfig(r=0, oft_block_size=32, target_modules=modules, init_weights=False),
        "IA3": peft.IA3Config(target_modules=modules, feedforward_modules=[], init_ia3_weights=False),
        "LoHa": peft.LoHaConfig(r=4, target_modules=modules, init_weights=False),
        "LoKr": peft.LoKrConfig(r=4, target_modules=modules, init_weights=False),
    }


KINDS = ["LoRA", "rsLoRA", "DoRA", "tokens", "bias", "wide", "VeRA", "OFT", "IA3", "LoHa", "LoKr"]


@needs_peft
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_every_kind_give_what_peft_gives(tmp_path, kind, form):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    model = get_peft_model(base, peft_kinds()[kind]).eval()
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(tmp_path)
    if form == "bin":
        weights = load_file(tmp_path / "adapter_model.safetensors")
        torch.save(weights, tmp_path / "adapter_model.bin")
        (tmp_path / "adapter_model.safetensors").unlink()
    prompt = [5, 6, 7, 8, 900, 5]
    want = model(input_ids=torch.tensor([prompt])).logits[0, -1].detach()[[8, 9, 10]]
    got = load_engine(str(tmp_path), gpu="cpu", dtype="float32").score([prompt], [8, 9, 10]).logits[0]
    assert abs(torch.as_tensor(got) - want).max() < 1e-4


@needs_peft
def test_an_adapter_that_changes_nothing_is_said(tmp_path):
    folder = save_adapter(tmp_path / "adapter")
    config_of_adapter(lora_alpha=0)(folder)
    assert any("lora_alpha is 0: it changes nothing" in s for s in load_engine(str(folder), gpu="cpu").notes)
    config_of_adapter(lora_alpha=8)(folder)
    assert load_engine(str(folder), gpu="cpu").notes == ()
    tensors_of_adapter(filled("lora_B", 0.0))(folder)
    assert any("its matrices are all zero" in s for s in load_engine(str(folder), gpu="cpu").notes)


@needs_peft
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_an_adapter_of_no_numbers_is_named(tmp_path, value):
    tensors_of_adapter(filled("layers.1.self_attn.q_proj.lora_B", value))(save_adapter(tmp_path / "adapter"))
    said = refusal(lambda: load_engine(str(tmp_path / "adapter"), gpu="cpu"))
    assert said.startswith("adapter ") and "1 of its tensors hold values that are no numbers" in said, said


@needs_peft
def test_an_adapter_of_codes_is_refused(tmp_path):
    tensors_of_adapter(lambda w: {k: v.to(torch.int8) for k, v in w.items()})(
        save_adapter(tmp_path / "adapter")
    )
    assert "are whole numbers" in refusal(lambda: load_engine(str(tmp_path / "adapter"), gpu="cpu"))


@needs_peft
def test_an_adapter_of_learned_tokens_is_refused(tmp_path):
    config = dict(peft_type="PROMPT_TUNING", base_model_name_or_path="tiny", num_virtual_tokens=4)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    said = refusal(lambda: load_engine(str(tmp_path), gpu="cpu"))
    assert "PROMPT_TUNING puts learned tokens before a prompt" in said, said


# ---- labels in their tokens


def test_a_label_that_its_tokens_have_lost_is_named():
    from mlcllm.prompt_preview import label_tokens

    class Lossy:
        def __call__(self, text, **how):
            return dict(input_ids=[1], offset_mapping=[(0, 1)])

    with pytest.raises(ValueError, match="label 'joy' cannot be found in its own tokens.*loses characters"):
        label_tokens(Lossy(), "joy", "a text, ")
