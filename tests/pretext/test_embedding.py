from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

from pretext.config import Config
from pretext.embedding import SentenceEmbedder, unit_rows
from pretext.errors import ModelError

TEXTS = [
    "short",
    "",
    "a rather longer text about gardens and soup",
    "😀",
    "the screen stays black " * 30,
    "مرحبا بالعالم",
]


@pytest.fixture(scope="module")
def embed() -> SentenceEmbedder:
    """The model that is installed with the program, in full precision."""
    return SentenceEmbedder("embedded", 64, 4, "cpu", "float32")


def test_rows_are_unit_vectors(embed: SentenceEmbedder) -> None:
    rows = embed(TEXTS)
    assert rows.shape == (len(TEXTS), 384) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_rows_stand_in_the_order_of_the_texts(embed: SentenceEmbedder) -> None:
    # More texts than a block of 32 batches holds, so that blocks show too.
    texts = [f"note {number} " + "word " * (number * 7 % 23) for number in range(140)]
    together = embed(texts)
    for number in (0, 1, 64, 127, 128, 139):
        np.testing.assert_allclose(embed([texts[number]])[0], together[number], atol=2e-5)


def test_long_texts_are_cut_alike(embed: SentenceEmbedder) -> None:
    start = " ".join(f"word{number}" for number in range(64))
    rows = embed([start, start + " and then a tail on something else", start + " garden" * 5000])
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), atol=2e-5)


def test_the_cut_is_the_configured_one(make_config: Callable[..., Config]) -> None:
    config = make_config("models.embedder_tokens=8", "speed.dtype=float32", "speed.device=cpu")
    rows = SentenceEmbedder.from_config(config)(
        ["one two three four five six seven", "one two three four five six eight"]
    )
    # Eight tokens with the two special ones: the seventh word is not read.
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-5)


def test_no_texts(embed: SentenceEmbedder) -> None:
    assert embed([]).shape == (0, 384)


def test_progress_shows_a_name_and_no_number(embed: SentenceEmbedder, capfd: pytest.CaptureFixture[str]) -> None:
    embed(TEXTS)
    assert capfd.readouterr() == ("", "")
    embed(TEXTS, announce="Clients embed their texts")
    assert capfd.readouterr() == ("", "Clients embed their texts ...\n")  # how many texts clients have is private


def test_half_precision_means_the_same(embed: SentenceEmbedder) -> None:
    half = SentenceEmbedder("embedded", 64, 4, "cpu", "bfloat16")(TEXTS)
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    assert (np.sum(half * embed(TEXTS), axis=1) > 0.995).all()


def test_half_a_character_does_not_stop_the_clients(embed: SentenceEmbedder) -> None:
    # A Python list of texts may hold one, and the tokenizer's complaint would carry the private text.
    assert embed(["lone \ud800 surrogate", "other"]).shape == (2, 384)


def test_zero_rows_stay_zero() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [0, 0]]))


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "no such name!", "someone/no-such-model-zqxj"])
def test_an_unknown_name_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        SentenceEmbedder(name, 64, 4)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    for files in ([], ["config.json"], ["config.json", "model.safetensors", "tokenizer.json"]):
        for file in files:
            (tmp_path / file).write_text("{}", encoding="utf-8")
        with pytest.raises(ModelError) as caught:
            SentenceEmbedder(str(tmp_path), 64, 4)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float99", "nn"])
def test_an_unknown_dtype_is_one_sentence(dtype: str, make_config: Callable[..., Config]) -> None:
    from pretext.errors import PretextError

    with pytest.raises(PretextError, match="dtype"):
        SentenceEmbedder.from_config(make_config(f"speed.dtype={dtype}"))
