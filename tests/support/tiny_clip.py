"""A tiny CLIP with random weights, as sentence-transformers loads one: it reads texts and images."""

from __future__ import annotations

import json
import string
from pathlib import Path


def build(folder: Path) -> Path:
    """Save the model as a folder and return it."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    inner = folder / "0_CLIPModel"
    inner.mkdir(parents=True)
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {token: number for number, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        text_config={**layers, **text, "pad_token_id": 1, "projection_dim": 8},
        vision_config={**layers, "image_size": 16, "patch_size": 8, "projection_dim": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(inner)
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)).save_pretrained(inner)
    modules = [{"idx": 0, "name": "0", "path": inner.name, "type": "sentence_transformers.models.CLIPModel"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder
