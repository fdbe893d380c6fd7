from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pretext.errors import EngineError, ModelError, UsageError
from pretext.models.chat_format import encode_prompt
from pretext.models.engines import Sampling
from pretext.models.engines.transformers import TransformersEngine
from pretext.prompts import Prompt
from tests.support import tiny

pytestmark = pytest.mark.slow

SHORT = Sampling(max_tokens=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def local(checkpoint):
    return TransformersEngine(checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


def test_a_batch_gives_what_single_prompts_give(local):
    prompts = [Prompt("word " * count) for count in (1, 7, 40, 3)]
    greedy = Sampling(max_tokens=12, temperature=0.0)
    assert local.complete(prompts, greedy) == [local.complete([prompt], greedy)[0] for prompt in prompts]


def test_greedy_agrees_with_the_library(local, checkpoint, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    prompt = Prompt("The weather was fine")
    ids = torch.tensor([encode_prompt(prompt, tokenizer)])
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
    texts = local.complete([prompt], Sampling(max_tokens=20, temperature=0.0))
    assert texts == [tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)]


def _shares(probabilities, draws=20_000, **sampling):
    import torch

    from pretext.models.engines.transformers import _draw_tokens

    logits = torch.log(torch.tensor([probabilities])).repeat(draws, 1)
    tokens = _draw_tokens(logits, Sampling(max_tokens=1, **sampling), torch.Generator().manual_seed(0)).numpy()
    return np.bincount(tokens, minlength=len(probabilities)) / len(tokens)


def _nucleus(probabilities, top_p):
    """The slow twin: sort, cut where the likelier tokens hold `top_p` together, and normalize."""
    order = np.argsort(-np.array(probabilities), kind="stable")
    ordered = np.array(probabilities)[order]
    nucleus = np.zeros(len(order))
    nucleus[order] = np.where(ordered.cumsum() - ordered < top_p, ordered, 0)
    return nucleus / nucleus.sum()


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.7, 0.8, 0.97, 1.0])
def test_draws_from_the_nucleus_with_the_right_shares(top_p):
    probabilities = [0.02, 0.1, 0.47, 0.15, 0.25, 0.01]
    expected = _nucleus(probabilities, top_p)
    # Five standard errors of a share: a false alarm in 10^6 seeds; the seed is fixed besides.
    assert np.abs(_shares(probabilities, top_p=top_p) - expected).max() <= 5 * np.sqrt(0.25 / 20_000)
    assert (_shares(probabilities, top_p=top_p)[expected == 0] == 0).all()


def test_a_wrong_nucleus_would_be_noticed():
    probabilities = [0.02, 0.1, 0.47, 0.15, 0.25, 0.01]
    wrong = _nucleus(probabilities, 0.97)
    assert np.abs(_shares(probabilities, top_p=0.8) - wrong).max() > 5 * np.sqrt(0.25 / 20_000)


def test_draws_from_a_large_vocabulary_with_the_right_shares():
    weights = 1.0 / np.arange(1, 50_001)
    probabilities = np.random.default_rng(0).permutation(weights / weights.sum()).astype(np.float32).tolist()
    expected, shares = _nucleus(probabilities, 0.9), _shares(probabilities, draws=1000, top_p=0.9)
    likely = expected > 0.01
    assert np.abs(shares - expected)[likely].max() < 5 * np.sqrt(0.1 * 0.9 / 1000)
    assert abs(shares[~likely].sum() - expected[~likely].sum()) < 5 * np.sqrt(0.25 / 1000)
    assert shares[expected == 0].sum() == 0


def test_temperature_flattens():
    probabilities = np.array([0.1, 0.6, 0.3])
    flat = np.sqrt(probabilities) / np.sqrt(probabilities).sum()
    assert np.abs(_shares(probabilities.tolist(), temperature=2.0) - flat).max() < 5 * np.sqrt(0.25 / 20_000)


def test_sampling_leaves_the_global_generator_alone(local):
    import torch

    before = torch.random.get_rng_state()
    local.complete([Prompt("Hello")], SHORT)
    assert torch.equal(before, torch.random.get_rng_state())


def test_prompts_longer_than_the_context(local, caplog):
    long = Prompt("word and " * 600)
    assert [type(text) for text in local.complete([long, Prompt("short")], SHORT)] == [type(None), str]
    assert "1 of 2 prompts" in caplog.text
    with pytest.raises(EngineError, match=f"context of {tiny.CONTEXT}"):
        local.complete([long], SHORT)


@pytest.mark.parametrize("wrong", [{"device": "abacus"}, {"dtype": "float99"}, {"dtype": "int8"}, {"batch_size": 0}])
def test_wrong_settings(checkpoint, wrong):
    with pytest.raises(UsageError):
        TransformersEngine(checkpoint, **wrong)


def test_an_unknown_model(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as raised:
        TransformersEngine("no-such-organization/no-such-model")
    assert "no-such-organization/no-such-model" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_model(tmp_path):
    tiny.build(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError) as raised:
        TransformersEngine(str(tmp_path), device="cpu")
    assert "\n" not in str(raised.value)


def _save_altered(tmp_path, *, tokenizer=None, config=None):
    """Save the tiny model with other entries in its JSON files; None removes an entry."""
    tiny.build(tmp_path)
    for name, entries in (("tokenizer_config.json", tokenizer or {}), ("config.json", config or {})):
        settings = json.loads((tmp_path / name).read_text()) | entries
        (tmp_path / name).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return str(tmp_path)


@pytest.mark.parametrize("missing", [["pad_token"], ["pad_token", "eos_token"]])
def test_a_tokenizer_without_pad_or_end_token(tmp_path, missing, local):
    folder = _save_altered(tmp_path, tokenizer=dict.fromkeys(missing))
    engine = TransformersEngine(folder, device="cpu", dtype="float32")
    prompts, greedy = [Prompt("word " * count) for count in (1, 7, 40, 3)], Sampling(max_tokens=6, temperature=0.0)
    assert [getattr(engine._tokenizer, name) for name in missing] == [None] * len(missing)
    assert engine.complete(prompts, greedy) == local.complete(prompts, greedy)


def test_a_model_and_tokenizer_without_any_end_write_until_they_may_no_more(tmp_path):
    folder = _save_altered(
        tmp_path,
        tokenizer=dict.fromkeys(["eos_token", "pad_token"]),
        config=dict.fromkeys(["eos_token_id", "pad_token_id"]),
    )
    (tmp_path / "generation_config.json").write_text("{}")
    rename = json.loads((tmp_path / "tokenizer.json").read_text().replace("<|im_end|>", "<|no_end|>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(rename))
    engine = TransformersEngine(folder, device="cpu", dtype="float32")
    before = engine.usage
    engine.complete([Prompt("Hello")] * 20, Sampling(max_tokens=40))
    assert (engine.usage - before).written == 20 * 40


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["RobertaForMaskedLM"]}, r"RobertaForMaskedLM.*masked language model.*models\.masked"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "an encoder-decoder model"),
        ({"architectures": ["BertModel"]}, "BertModel.*no generator"),
    ],
)
def test_a_model_that_cannot_write_on_is_named_before_it_is_loaded(tmp_path, config, message):
    folder = _save_altered(tmp_path, config=config)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match=message) as raised:
        TransformersEngine(folder, device="cpu")
    assert str(raised.value).count(". ") == 0 and str(raised.value).endswith("as models.generator.")


def test_a_model_too_large_for_memory_is_not_loaded(checkpoint, tmp_path, monkeypatch):
    weights = sum(file.stat().st_size for file in Path(checkpoint).glob("*.safetensors"))
    free = {"bytes": weights // 2 - 100_000}
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free["bytes"]))
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ModelError, match="GiB are free; name a smaller or a quantized model"):
            TransformersEngine(checkpoint, device="cpu", dtype=dtype)
    free["bytes"] = weights // 2 + 100_000  # enough for two bytes per weight, too little for four
    assert TransformersEngine(checkpoint, device="cpu", dtype="bfloat16").complete([Prompt("Hello")], SHORT)
    with pytest.raises(ModelError, match="GiB are free"):
        TransformersEngine(checkpoint, device="cpu", dtype="float32")
    # Most of a terabyte, known from the configuration alone.
    huge = _save_altered(tmp_path, config={"hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 100})
    with pytest.raises(ModelError, match=r"takes .* GiB on cpu"):
        TransformersEngine(huge, device="cpu")


def test_the_size_of_a_model_is_known_before_it_is_loaded(checkpoint, local):
    from transformers import AutoConfig

    from pretext.models.engines.transformers import _count_weight_bytes

    size = sum(weight.numel() * weight.element_size() for weight in local._model.parameters())
    assert _count_weight_bytes(checkpoint, AutoConfig.from_pretrained(checkpoint), local._model.dtype) == size


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own calls
def test_an_adapter_is_added_to_the_model(checkpoint, tmp_path, local):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        settings = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, settings).save_pretrained(tmp_path)
    engine = TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu", dtype="float32")
    prompt, greedy = Prompt("The weather was fine"), Sampling(max_tokens=20, temperature=0.0)
    ids = torch.tensor([encode_prompt(prompt, engine._tokenizer)])
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    slow = PeftModel.from_pretrained(plain, tmp_path).generate(input_ids=ids, do_sample=False, max_new_tokens=20)
    expected = engine._tokenizer.decode(slow[0, ids.shape[1] :], skip_special_tokens=True)
    assert engine.complete([prompt], greedy) == [expected] != local.complete([prompt], greedy)


def test_an_adapter_that_is_not_there(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="holds no LoRA adapter"):
        TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'pretext\[adapt\]'"):
        TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu")


FAMILIES = {
    "positions of its own": ("BloomConfig", {"n_layer": 2, "n_head": 2}),
    "learned positions": ("GPT2Config", {"n_layer": 2, "n_head": 2, "n_positions": tiny.CONTEXT}),
    "sliding window": ("MistralConfig", {"sliding_window": 16, "num_key_value_heads": 1}),
}


def _save_family(name: str, folder: Path, tokenizer, settings) -> None:
    """Save a tiny model of another architecture, with the given tokenizer."""
    import torch
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if name in ("BloomConfig", "GPT2Config"):
        sizes = {"hidden_size": 64}
    config = getattr(transformers, name)(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **ends, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_architectures_agree_with_the_library(family, tmp_path, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    name, settings = FAMILIES[family]
    _save_family(name, tmp_path, tokenizer, settings)
    prompts = [Prompt("word " * count) for count in (1, 7, 40, 3)]
    alike = [Prompt(f"{'word ' * 30}{end}") for end in ("", "one", "one two three four five", "six seven", "")]
    engine = TransformersEngine(str(tmp_path), device="cpu", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = []
    for prompt in (*prompts, *alike):
        ids = torch.tensor([encode_prompt(prompt, tokenizer)])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
        expected.append(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))
    greedy = Sampling(max_tokens=20, temperature=0.0)
    assert engine.complete(prompts, greedy) + engine.complete(alike, greedy) == expected


def test_what_all_prompts_begin_with_is_read_once(local, monkeypatch):
    """The same texts, and far fewer tokens go through the model."""
    lengths = []
    forward = local._forward
    monkeypatch.setattr(
        local, "_forward", lambda **inputs: lengths.append(inputs["input_ids"].numel()) or forward(**inputs)
    )
    prompts = [Prompt(f"{'word ' * 30}{end}") for end in ("", "one", "one two three", "")]
    texts = local.complete(prompts, Sampling(max_tokens=1, temperature=0.0))
    alone = [local.complete([prompt], Sampling(max_tokens=1, temperature=0.0))[0] for prompt in prompts]
    assert texts == alone
    assert sum(lengths[:-4]) < sum(lengths[-4:]) / 2


def test_an_architecture_without_a_cache_is_named(tmp_path, tokenizer):
    _save_family("MambaConfig", tmp_path, tokenizer, {})
    with pytest.raises(ModelError, match=r"\(MambaForCausalLM\) has no key-value cache"):
        TransformersEngine(str(tmp_path), device="cpu")


def test_a_quantized_model_whose_package_is_missing(tmp_path):
    folder = _save_altered(tmp_path, config={"quantization_config": {"quant_method": "gptq", "bits": 4}})
    with pytest.raises(ModelError, match="GPTQ") as raised:
        TransformersEngine(folder, device="cpu")
    assert "\n" not in str(raised.value)
