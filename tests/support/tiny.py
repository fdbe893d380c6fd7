"""Build a causal language model of a few hundred thousand random weights from a configuration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CONTEXT = 512

_TEXTS = [
    "The weather was fine and the people of the town went out to the market.",
    "I would like to order two cups of coffee and one piece of cake, please.",
    "List of diverse original text samples: Original Text Sample 1",
    "What do you think of the new phone? It is small, fast and not expensive.",
] * 4

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(folder: Path) -> Path:
    """Save a Llama-architecture checkpoint with a byte-level tokenizer and a chat template into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def change_settings(file: Path, **settings: object) -> None:
    """Change values in a JSON file of settings."""
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def _copy(checkpoint: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Copy the checkpoint with changed weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def build_adapter(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """Save a LoRA adapter, and the checkpoint with the adapter's product added to its weights."""
    import torch
    from safetensors.torch import save_file

    rank, alpha, parts = 4, 8, {}
    generator = torch.Generator().manual_seed(1)

    def add(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            if name.endswith(("q_proj.weight", "o_proj.weight", "down_proj.weight")):
                down = torch.randn(rank, weight.shape[1], generator=generator) * 0.3
                up = torch.randn(weight.shape[0], rank, generator=generator) * 0.3
                start = f"base_model.model.{name.removesuffix('.weight')}"
                parts.update({f"{start}.lora_A.weight": down, f"{start}.lora_B.weight": up})
                weights[name] = weight + alpha / rank * up @ down

    merged = _copy(checkpoint, folder / "merged", add)
    adapter = folder / "adapter"
    adapter.mkdir()
    save_file(parts, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none"}
    settings |= {"target_modules": ["q_proj", "o_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return adapter, merged


def build_quantized(checkpoint: Path, folder: Path) -> Path:
    """Save the checkpoint with 8-bit weights and a scale per row, in the format of compressed-tensors."""
    import torch

    def quantize(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.endswith("_proj.weight")]:
            scale = weights[name].abs().amax(1, keepdim=True) / 127
            weights[name] = (weights[name] / scale).round().to(torch.int8)
            weights[f"{name}_scale"] = scale

    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight, "strategy": "token", "dynamic": True},
    }
    settings = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed"}
    _copy(checkpoint, folder, quantize)
    change_settings(
        folder / "config.json", quantization_config={**settings, "ignore": ["lm_head"], "config_groups": {"0": group}}
    )
    return folder


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,
        show_progress=False,
    )
    bare.train_from_iterator(_TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
