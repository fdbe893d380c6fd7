from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel, PreTrainedTokenizerFast

from pretext.config.settings import Config
from pretext.errors import ModelError, UsageError
from pretext.models.embedder import SentenceEmbedder, batch_by_length
from pretext.models.runtimes import RuntimeSession
from pretext.vectors import normalize_rows
from tests.support import tiny, tiny_clip

pytestmark = pytest.mark.slow

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
    """The embedded model in full precision."""
    return SentenceEmbedder("embedded", 64, 128, "cpu", "float32")


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
    rows = SentenceEmbedder.from_sections(config.models, config.speed)(
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
    half = SentenceEmbedder("embedded", 64, 128, "cpu", "bfloat16")(TEXTS)
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    assert (np.sum(half * embed(TEXTS), axis=1) > 0.995).all()


def test_half_a_character_does_not_stop_the_clients(embed: SentenceEmbedder) -> None:
    # A Python list of texts may hold one, and the tokenizer's complaint would carry the private text.
    assert embed(["lone \ud800 surrogate", "other"]).shape == (2, 384)


def embed_slowly(source: str, texts: list[str], tokens: int = 64) -> NDArray[np.float32]:
    """The slow twin: sentence-transformers itself, in float32, one text at a time."""
    model = SentenceTransformer(source, device="cpu", model_kwargs={"dtype": torch.float32})
    with suppress(AttributeError):  # static word vectors
        model.max_seq_length = min(tokens, model.max_seq_length or tokens)
    return normalize_rows(np.stack([model.encode([text])[0] for text in texts]))


words = st.lists(st.sampled_from(["garden", "soup", "ok", "😀", "screen\n", "", "a" * 40, "مرحبا"]), max_size=30)


@settings(max_examples=25)
@given(st.lists(words.map(" ".join), max_size=12))
def test_every_row_is_that_of_sentence_transformers(embed: SentenceEmbedder, texts: list[str]) -> None:
    rows = embed(texts)
    assert rows.shape == (len(texts), 384)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_allclose(row, normalize_rows(embed._model.encode([text]))[0], atol=2e-5)


def build_encoder(folder: Path, kind: str) -> Transformer:
    """Build a tiny transformer with the tokenizer of the tiny generator; a causal one pads on the left."""
    if kind == "causal":
        tiny.build(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    else:
        bare = tiny._tokenizer().backend_tokenizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<|endoftext|>", model_max_length=100)
        shape: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 110,
            "initializer_range": 0.3,
        }
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = MPNetModel(MPNetConfig(**shape)) if kind == "mpnet" else BertModel(BertConfig(**shape))
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Transformer(str(folder), max_seq_length=50)


def save_model(folder: Path, kind: str) -> str:
    """Save a tiny model of sentence-transformers.

    It is an encoder with mean pooling, the same with a dense layer and a prompt, a causal model that pools the last
    token, or a model without a transformer.
    """
    options: dict[str, Any] = {}
    if kind == "static":
        modules: list[Any] = [StaticEmbedding(tiny._tokenizer().backend_tokenizer, embedding_dim=8)]
    else:
        first = build_encoder(folder / "encoder", kind)
        width = first.get_embedding_dimension()
        modules = [first, Pooling(width, pooling_mode="lasttoken" if kind == "causal" else "mean")]
    if kind == "dense":
        modules += [Dense(width, 6), Normalize()]
        options = {"prompts": {"every": "query: "}, "default_prompt_name": "every"}
    SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(str(folder))
    return str(folder)


MIXED = [" ".join(["note", str(number), *["word"] * (number * 7 % 23)]) for number in range(40)]


@pytest.mark.parametrize("runtime", ["torch", "openvino", None])
@pytest.mark.parametrize("kind", ["bert", "mpnet", "causal", "dense", "static"])
def test_any_model_of_sentence_transformers(kind: str, runtime: str | None, tmp_path: Path) -> None:
    if runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the extra openvino")
    source = save_model(tmp_path, kind)
    if (kind, runtime) == ("causal", "openvino"):  # it has no numbers for tokens that may look at padding only
        with pytest.raises(ModelError, match=r"openvino in float32; set speed\.embed_runtime to torch"):
            SentenceEmbedder(source, 20, 60, "cpu", "float32", runtime)
        return
    rows = SentenceEmbedder(source, 20, 60, "cpu", "float32", runtime)(MIXED)
    expected = embed_slowly(source, MIXED, 20)
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_static_vectors_show_no_number_and_take_half_a_character(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    embed = SentenceEmbedder(save_model(tmp_path, "static"), 20, 60, "cpu")
    capfd.readouterr()
    with caplog.at_level("INFO"):  # at this level sentence-transformers would count batches on a bar
        assert np.isfinite(embed([*MIXED, "lone \ud800 surrogate"])).all()
    assert capfd.readouterr() == ("", "")


def test_equal_texts_are_embedded_once(embed: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = embed._encode
    monkeypatch.setattr(embed, "_encode", lambda texts: encoded.extend(texts) or encode(texts))  # type: ignore[func-returns-value]
    texts = ["ok", "thanks", "ok", "ok", "", "thanks", ""] * 50
    rows = embed(texts)
    assert sorted(encoded) == ["", "ok", "thanks"]
    np.testing.assert_array_equal(rows, np.tile(rows[:7], (50, 1)))
    np.testing.assert_allclose(rows[:7], embed._model.encode(texts[:7]), atol=2e-5)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_depends_on_its_own_text_alone(runtime: str, dtype: str) -> None:
    # To the last bit: if one client's texts could turn another's votes, a client would be worth more than its bound.
    if runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the extra openvino")
    # Fewer tokens in bfloat16, which takes ten times as long on a processor without instructions for it.
    embed = SentenceEmbedder("embedded", 64 if dtype == "float32" else 24, None, "cpu", dtype, runtime)
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(["garden", "soup", "ok", "screen", "😀", "a" * 30], rng.integers(1, 30))) for _ in range(60)
    ]
    rows = dict(zip(texts, embed(texts), strict=True))
    for batch in (rng.permutation(texts)[:25].tolist(), texts[7:9], texts[:1], [*texts, "one more client's text"]):
        for text, row in zip(batch, embed(batch), strict=True):
            if text in rows:
                np.testing.assert_array_equal(row, rows[text])


@pytest.mark.parametrize(("batch_tokens", "longest"), [(1024, 256), (256, 128), (64, 32)])
def test_every_shape_that_several_texts_share_is_checked(
    batch_tokens: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, int]] = []

    def embed_places(self: SentenceEmbedder, features: Any, places: np.ndarray, length: int) -> np.ndarray:
        shapes.append((len(places), length))
        return np.zeros((len(places), 384), np.float32)

    monkeypatch.setattr(SentenceEmbedder, "_embed_places", embed_places)
    SentenceEmbedder("embedded", 256, batch_tokens, "cpu", "float32", "torch")
    assert {(batch_tokens // length, length) for length in range(8, longest + 1, 8)} <= set(shapes)


@pytest.mark.parametrize("place", [0, 3, -1])
def test_is_batch_independent__one_place_that_differs__is_seen(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all = RuntimeSession.run_all

    def shift_one_place(self: RuntimeSession, batches: Any) -> Any:
        for features in run_all(self, batches):
            name = next(name for name in features if name.endswith("embeddings"))
            if len(features[name]) > 1:
                features[name][place] += 1e-3
            yield features

    monkeypatch.setattr(RuntimeSession, "run_all", shift_one_place)
    assert SentenceEmbedder("embedded", 64, None, "cpu", "float32", "torch")._batch_tokens == 1


def test_embedder__that_reads_images_too__is_refused(tmp_path: Path) -> None:
    """The library takes a text for an image where it names a file that is one: the row is another with the file."""
    folder, path = tiny_clip.build(tmp_path / "clip"), tmp_path / "a.png"
    model = SentenceTransformer(str(folder), device="cpu")
    as_text = model.encode([str(path)])
    Image.new("RGB", (16, 16), "red").save(path)
    assert not np.allclose(model.encode([str(path)]), as_text)
    with pytest.raises(ModelError, match="image"):
        SentenceEmbedder(str(folder), 64, None, "cpu", "float32", "torch")


def test_where_company_matters_every_text_goes_through_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_all = RuntimeSession.run_all

    def run_dependently(self: RuntimeSession, batches: Any) -> Any:
        for features in run_all(self, batches):
            name = next(name for name in features if name.endswith("embeddings"))
            yield {**features, name: features[name] + 1e-3 * features["input_ids"].sum()}

    monkeypatch.setattr(RuntimeSession, "run_all", run_dependently)
    with caplog.at_level("INFO"):
        embed = SentenceEmbedder("embedded", 64, None, "cpu", "float32", "torch")
    assert embed._batch_tokens == 1 and "one at a time" in caplog.text
    np.testing.assert_array_equal(embed(TEXTS)[:2], embed(TEXTS[:2]))


@given(st.lists(st.integers(0, 70), max_size=80), st.integers(1, 300), st.integers(1, 70))
def test_a_batch_is_shaped_by_its_own_texts(lengths: list[int], tokens: int, most: int) -> None:
    batches = list(batch_by_length(np.array(lengths, np.int64), tokens, most))
    assert {row for places, _ in batches for row in places.tolist()} == set(range(len(lengths)))
    for places, length in batches:
        alone = next(batch_by_length(np.array(lengths, np.int64)[places[:1]], tokens, most))
        assert (len(places), length) == (len(alone[0]), alone[1])
        assert max(lengths[row] for row in places) <= length
        assert len(places) == 1 or len(places) * length <= tokens


def test_rows_that_are_no_numbers_become_zero() -> None:
    rows = normalize_rows(np.array([[np.nan, 1], [np.inf, 0], [0, 2], [-np.inf, np.nan]], np.float32))
    np.testing.assert_array_equal(rows, np.array([[0, 0], [0, 0], [0, 1], [0, 0]]))


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "no such device"])
def test_a_device_that_is_not_there_is_one_sentence(device: str) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(UsageError, match=f"'{device}' does not exist here"):
        SentenceEmbedder("embedded", 64, 128, device)


def test_an_unknown_runtime_is_one_sentence(make_config: Callable[..., Config]) -> None:
    with pytest.raises(UsageError, match=r"speed\.embed_runtime is 'onnx'.*'torch' or 'openvino'"):
        make_config("speed.embed_runtime=onnx")


def test_zero_rows_stay_zero() -> None:
    rows = normalize_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [0, 0]]))


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "no such name!", "someone/no-such-model-zqxj"])
def test_an_unknown_name_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        SentenceEmbedder(name, 64, 128)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    for files in ([], ["config.json"], ["config.json", "model.safetensors", "tokenizer.json"]):
        for file in files:
            (tmp_path / file).write_text("{}", encoding="utf-8")
        with pytest.raises(ModelError) as caught:
            SentenceEmbedder(str(tmp_path), 64, 128)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float99", "nn"])
def test_an_unknown_dtype_is_one_sentence(dtype: str, make_config: Callable[..., Config]) -> None:
    from pretext.errors import PretextError

    with pytest.raises(PretextError, match="dtype"):
        make_config(f"speed.dtype={dtype}")
