"""Models that need more than a folder of weights: adapters, extra heads, few bits, several devices, code of
their own, encoder–decoders.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from conformance import check_engine
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from mlcllm.data import load_docs
from mlcllm.encoder_decoder import EncoderDecoderEngine
from mlcllm.engines import (
    Engine,
    Generation,
    HFEngine,
    Scored,
    end_of_text,
    find_model,
    load_engine,
    load_tokenizer,
)
from mlcllm.runs import pick_device

TINY = Path(find_model("tiny"))
TEXTS = ["We won the cup!", "Who ate my lunch?", "We won the cup, and the sun is out."]


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def tiny():
    return load_engine("tiny", gpu="cpu", dtype="float32")


def adapter_of(model, folder, base, rank=4):
    "A LoRA adapter with random weights"
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    lora = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    lora.peft_config["default"].base_model_name_or_path = base
    lora.save_pretrained(folder)
    return lora.merge_and_unload()


def fresh():
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)


@needs("peft")
@pytest.mark.parametrize("base", ["tiny", str(TINY)])
def test_an_adapter_is_a_model(tiny, tmp_path, base):
    merged = HFEngine(adapter_of(fresh(), tmp_path, base), tiny.tokenizer, share_prefixes=False)
    engine = load_engine(str(tmp_path), gpu="cpu", dtype="float32")
    assert (
        engine.share_prefixes
        and engine.model_hash.startswith(tiny.model_hash)
        and engine.model_hash != tiny.model_hash
    )
    prompts, ids = engine.encode(TEXTS), range(6000)
    got = engine.score(prompts, ids).logits
    np.testing.assert_allclose(got, merged.score(prompts, ids).logits, atol=1e-4)
    assert np.abs(got - tiny.score(prompts, ids).logits).max() > 0.05  # it does something
    assert load_tokenizer(str(tmp_path)).get_vocab() == tiny.tokenizer.get_vocab()


@needs("peft")
def test_an_adapter_of_another_model_is_refused(tmp_path):
    small = AutoModelForCausalLM.from_pretrained(find_model("small"), dtype=torch.float32)
    adapter_of(small, tmp_path / "wide", "tiny")  # other widths
    with pytest.raises(ValueError, match="does not fit .* it was trained on another model") as error:
        load_engine(str(tmp_path / "wide"), gpu="cpu")
    assert "\n" not in str(error.value)
    config = fresh().config
    config.num_hidden_layers = 6  # more layers, the same widths
    adapter_of(AutoModelForCausalLM.from_config(config), tmp_path / "deep", "tiny")
    with pytest.raises(ValueError, match="does not fit .* it was trained on another model"):
        load_engine(str(tmp_path / "deep"), gpu="cpu")
    adapter_of(fresh(), tmp_path / "lost", "./no/such/model")
    with pytest.raises(ValueError, match="belongs on top of './no/such/model'.*there is no such folder"):
        load_engine(str(tmp_path / "lost"), gpu="cpu")


def test_a_model_with_several_heads_is_read_from_its_base_head(tiny, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            dict(
                model_type="medusa",
                medusa_num_heads=3,
                medusa_num_layers=1,
                base_model_name_or_path=str(TINY),
            )
        )
    )
    engine = load_engine(str(tmp_path), gpu="cpu")
    assert any("3 extra decoding heads are left out" in s for s in engine.notes)
    prompts = engine.encode(TEXTS)
    np.testing.assert_array_equal(engine.score(prompts, [5, 6]).logits, tiny.score(prompts, [5, 6]).logits)


@needs("bitsandbytes")
@pytest.mark.parametrize("quantization, near", [("8bit", 0.1), ("4bit", 0.5)])
def test_few_bits(tiny, quantization, near):
    engine = load_engine("tiny", gpu="cpu", quantization=quantization)
    prompts = engine.encode(TEXTS)
    got, true = (e.score(prompts, range(6000)).logits for e in (engine, tiny))
    off = np.abs(got - true).mean() / true.std()
    assert engine.share_prefixes and 1e-4 < off < near  # rounded, not ruined
    slow = (
        load_engine("tiny", gpu="cpu", quantization=quantization, share_prefixes=False)
        .score(prompts, range(6000))
        .logits
    )
    assert (
        np.abs(got - slow).mean() < 0.1 * np.abs(got - true).mean() + 0.02 * true.std()
    )  # the forest adds little to that
    size = sum(
        p.numel() * p.element_size() for m in [engine.model] for n, p in m.named_parameters() if "proj" in n
    )
    assert size < (0.3 if quantization == "8bit" else 0.2) * sum(
        p.numel() * 4 for n, p in tiny.model.named_parameters() if "proj" in n
    )


def test_layers_on_several_devices_give_the_same(tiny, tmp_path):
    """accelerate's hooks move what a layer takes to where the layer is; here half of the layers come from the
    disk
    """
    parts = {
        "model.embed_tokens": "cpu",
        "lm_head": "cpu",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
    } | {f"model.layers.{k}": "cpu" if k < 2 else "disk" for k in range(4)}
    model = dispatch_model(fresh(), parts, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    engine = HFEngine(model, tiny.tokenizer)
    prompts = tiny.encode([t + q for t in TEXTS for q in ("", " One", " Two")])
    assert engine.share_prefixes
    np.testing.assert_allclose(
        engine.score(prompts, [5, 6]).logits, tiny.score(prompts, [5, 6]).logits, atol=1e-5
    )
    for a, b in zip(engine.generate(prompts, 9, watch_ids=[5]), tiny.generate(prompts, 9, watch_ids=[5])):
        assert a.token_ids == b.token_ids
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)


def test_a_pack_moves_without_its_keys_and_values(tiny):
    from mlcllm.engines import Pack

    pack = Pack(torch.arange(3), rows=torch.zeros(1, 3), prefix=[(torch.ones(1), torch.ones(1))], kept={})
    moved = pack.to("meta")
    assert (
        moved.position.device.type == moved.rows.device.type == "meta"
        and moved.prefix is pack.prefix
        and moved.kept is pack.kept
        and pack.to("cpu") is pack
    )


def test_all_gpus_or_else_the_cpu(tiny):
    assert pick_device("auto") == pick_device(None)
    if not torch.cuda.is_available():
        assert load_engine("tiny", gpu="auto").device.type == "cpu"


def test_code_that_comes_with_a_model_runs_only_if_asked(tmp_path):
    for f in TINY.glob("*"):
        shutil.copy(f, tmp_path)
    config = json.loads((TINY / "config.json").read_text()) | dict(
        model_type="odd",
        architectures=["OddForCausalLM"],
        auto_map=dict(AutoConfig="odd.OddConfig", AutoModelForCausalLM="odd.OddForCausalLM"),
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "odd.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\nfrom pathlib import "
        f"Path\nPath({str(tmp_path / 'ran')!r}).write_text('yes')\n"
        "class OddConfig(LlamaConfig): model_type = 'odd'\nclass OddForCausalLM(LlamaForCausalLM): "
        "config_class = OddConfig\n"
    )
    with pytest.raises(ValueError, match="code of its own.*trust_remote_code: true") as error:
        load_engine(str(tmp_path), gpu="cpu")
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()
    engine = load_engine(str(tmp_path), gpu="cpu", backend_options=dict(trust_remote_code=True))
    assert (tmp_path / "ran").exists() and any("trust_remote_code" in s for s in engine.notes)


def test_attention_and_length_are_options(tiny):
    engine = load_engine(
        "tiny",
        gpu="cpu",
        share_prefixes=False,
        backend_options=dict(attn_implementation="eager", max_length=40),
    )
    prompts = engine.encode(TEXTS)
    assert engine.model.config._attn_implementation == "eager" and engine.max_length == 40
    np.testing.assert_allclose(
        engine.score(prompts, [5, 6]).logits, tiny.score(prompts, [5, 6]).logits, atol=1e-4
    )
    with pytest.raises(ValueError, match="context holds 40"):
        engine.score([[5] * 41], [5])


class Slow(Engine):
    "An encoder–decoder as plainly as can be: the whole of both rows through the model for every token"

    def __init__(self, model, tokenizer, seam):
        super().__init__(tokenizer, 512, [1])
        self.model, self.seam = model, seam

    @torch.no_grad()
    def logits(self, prompt):
        source, target = self.seam(list(prompt))
        return (
            self.model(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]), use_cache=False
            )
            .logits[0, -1]
            .numpy()
        )

    def score(self, prompts, token_ids):
        z = np.stack([self.logits(p) for p in prompts])
        return Scored(z[:, list(token_ids)], np.logaddexp.reduce(z, 1))

    def generate(self, prompts, max_new_tokens, stop=(), watch_ids=(), allowed=None):
        done = []
        for p in prompts:
            ids, kept, total, logprobs, reason = (), [], [], [], None
            while reason is None:
                z = self.logits([*p, *ids])
                options = list(range(len(z))) if allowed is None else allowed(ids)
                if not options:
                    reason = "stop"
                    break
                inner = z[options] - np.logaddexp.reduce(z[options])
                ids += (options[int(inner.argmax())],)
                kept.append(z[list(watch_ids)])
                total.append(np.logaddexp.reduce(z))
                logprobs.append(inner.max())
                reason = end_of_text(self.tokenizer, ids, stop, self.eos, max_new_tokens)[2]
                if reason is None and allowed is not None and not allowed(ids):
                    reason = "stop"
            done.append(
                Generation(
                    ids,
                    end_of_text(self.tokenizer, ids, stop, self.eos, max_new_tokens)[1],
                    np.array(kept),
                    np.array(total),
                    reason,
                    np.array(logprobs),
                )
            )
        return done


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_conforms(kind, tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    demo = load_docs("demo", "train")
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    pieces.train_from_iterator(
        demo.texts + demo.labels.names * 3,
        trainers.UnigramTrainer(
            vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    pieces.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    torch.manual_seed(0)
    n = pieces.get_vocab_size()
    model = (
        T5ForConditionalGeneration(
            T5Config(
                vocab_size=n,
                d_model=64,
                d_kv=16,
                d_ff=96,
                num_layers=2,
                num_heads=4,
                decoder_start_token_id=0,
                pad_token_id=0,
                eos_token_id=1,
            )
        )
        if kind == "t5"
        else BartForConditionalGeneration(
            BartConfig(
                vocab_size=n,
                d_model=64,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=96,
                decoder_ffn_dim=96,
                max_position_embeddings=512,
                pad_token_id=0,
                bos_token_id=2,
                eos_token_id=1,
                decoder_start_token_id=1,
                forced_bos_token_id=2,
                forced_eos_token_id=None,
            )
        )
    ).eval()
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.25)
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(tmp_path)
    engine = load_engine(str(tmp_path), gpu="cpu")
    assert isinstance(engine, EncoderDecoderEngine) and engine.max_length == 512
    check_engine(engine, Slow(engine.model, engine.tokenizer, engine._seam))
