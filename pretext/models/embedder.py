"""Turn texts into unit vectors with sentence-transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Models, Speed
from pretext.errors import ModelError
from pretext.models.precision import check_device
from pretext.models.runtimes import (
    SAMPLE_TEXTS,
    Features,
    Runtime,
    list_runtimes,
    open_fastest_runtime,
)
from pretext.models.sources import explain_model_errors, resolve_embedder
from pretext.progress import show_progress
from pretext.vectors import normalize_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PLAIN = frozenset({"text", "message"})
"""What an embedder may read: strings, and messages of a chat, which no string is taken for."""

_BLOCK_TEXTS = 2048  # texts tokenized at once
_LENGTH_STEP = 8  # tokens; lengths are padded to multiples of it
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 256, 16_384
_log = logging.getLogger(__name__)


class SentenceEmbedder:
    """A sentence-transformers model; it cuts private and public texts to the same number of tokens.

    Texts of similar length share a batch, which keeps padding low, and equal texts are embedded once. The transformer
    runs in the dtype and on the runtime that are fastest here (`pretext.models.runtimes`), everything after it in
    float32.

    A text's row is a function of that text alone, to the last bit. Otherwise a client's presence could change the votes
    of others, and the sensitivity would exceed that client's bound (Casacuberta et al. 2022 describe this kind of
    defect). The length of its texts alone decides the shape of a batch; repeated texts fill it up. Opening the model
    checks that rows do not depend on their place in such a batch or on the rest of it. Where they do, texts are
    embedded one at a time.

    Args:
        name: as in `pretext.models.sources.resolve_embedder`.
        max_tokens: texts are cut to this many tokens, or to the model's own limit.
        batch_tokens: tokens per forward pass; default: a size that suits the device.
        device: `cpu`, `cuda`, ...; default: the best available.
        dtype: float32, bfloat16 or float16; default: the fastest.
        runtime: `torch` or `openvino`; default: the fastest.

    Raises:
        ModelError: the model cannot be found or loaded, or the runtime cannot run it.
        UsageError: the device does not exist, or the runtime is not installed.
    """

    def __init__(
        self,
        name: str,
        max_tokens: int,
        batch_tokens: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        runtime: str | None = None,
    ) -> None:
        device = _choose_device(device)
        runtimes = list_runtimes(device, runtime, dtype)
        self._batch_tokens = batch_tokens or (_CPU_BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS)
        only_torch = len(runtimes) == 1 and runtimes[0].name == "torch"
        # Other runtimes are converted from, and compared with, the model in full precision.
        self._model = _load_sentence_model(name, device, runtimes[0].dtype if only_torch else "float32")
        self._max_tokens = min(max_tokens, self._model.max_seq_length or max_tokens)
        with suppress(AttributeError):  # a model of static word vectors reads whole texts
            self._model.max_seq_length = self._max_tokens
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "")
        self._later_modules = [module.float() for module in list(self._model)[1:]]
        sample = self._tokenize(list(SAMPLE_TEXTS))
        self._session = (
            open_fastest_runtime(self._model[0], sample, runtimes, name) if _is_padded_batch(sample) else None
        )
        if self._session is not None and not self._is_batch_independent():
            _log.info("Embeddings depend on the rest of the batch here; embedding texts one at a time.")
            self._batch_tokens = 1

    @classmethod
    def from_sections(cls, models: Models, speed: Speed) -> SentenceEmbedder:
        """Load the embedder that `models.embedder` names; errors as the class."""
        return cls(
            models.embedder,
            models.embedder_tokens,
            speed.embed_batch_tokens,
            speed.device,
            speed.dtype,
            speed.embed_runtime,
        )

    @property
    def runtime(self) -> Runtime | None:
        """What the transformer runs on; None where only `SentenceTransformer.encode` can run the model."""
        return None if self._session is None else self._session.runtime

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """See `Embedder`."""
        first: dict[str, int] = {}
        source = np.fromiter((first.setdefault(text, row) for row, text in enumerate(texts)), np.int64, len(texts))
        order = np.array(sorted(first.values(), key=lambda row: -len(texts[row])), np.int64)
        rows = np.empty((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        with show_progress(announce, len(order), show_counts=False) as advance:
            for block in _iterate_blocks(order):
                rows[block] = normalize_rows(self._encode([texts[row] for row in block]))
                advance(len(block))
        for block in _iterate_blocks(np.flatnonzero(source != np.arange(len(texts)))):
            rows[block] = rows[source[block]]
        return rows

    def _tokenize(self, texts: list[str]) -> Features:
        features = self._model.preprocess(texts, prompt=self._prompt)
        device = self._model.device
        return {name: value.to(device) if hasattr(value, "to") else value for name, value in features.items()}

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed a block of texts; rows are not yet of length 1."""
        import torch

        texts = [text.encode(errors="replace").decode() for text in texts]  # half a surrogate pair stops the tokenizer
        if self._session is None:
            encoded = self._model.encode(texts, batch_size=1, convert_to_tensor=True, show_progress_bar=False)
            return np.asarray(encoded.float().cpu().numpy(), dtype=np.float32)
        features = self._tokenize(texts)
        lengths = _count_tokens(features)
        rows = np.empty((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        shapes = list(batch_by_length(lengths, self._batch_tokens, self._max_tokens))
        with torch.inference_mode():
            outputs = self._session.run_all(self._cut_batch(features, *shape) for shape in shapes)
            for (places, _), output in zip(shapes, outputs, strict=True):
                rows[places] = self._pool(output)[:, : rows.shape[1]]
        return rows

    def _cut_batch(self, features: Features, places: NDArray[np.int64], length: int) -> Features:
        """Take the features of some texts, cut or padded to a length."""
        import torch

        shape, tokenizer = features["attention_mask"].shape, self._model.tokenizer
        rows = torch.from_numpy(places).to(features["attention_mask"].device)
        padding = max(0, length - shape[1])
        left = tokenizer.padding_side == "left"

        def cut(name: str, value: Any) -> Any:
            if getattr(value, "shape", None) != shape:
                return value[rows] if getattr(value, "shape", (0,))[:1] == shape[:1] else value
            empty = tokenizer.pad_token_id or 0 if name == "input_ids" else 0
            wide = torch.nn.functional.pad(value[rows], (padding, 0) if left else (0, padding), value=empty)
            return wide[:, -length:] if left else wide[:, :length]

        return {name: cut(name, value) for name, value in features.items()}

    def _is_batch_independent(self) -> bool:
        """Whether a text's row is the same, bit by bit, among other texts and in another place: compared at every place
        of a full batch, for every shape that several texts share."""
        rng, words = np.random.default_rng(0), " ".join(SAMPLE_TEXTS).split()
        steps = range(_LENGTH_STEP, self._batch_tokens // 2 + _LENGTH_STEP, _LENGTH_STEP)
        for length in sorted({min(step, self._max_tokens) for step in steps}):
            size = self._batch_tokens // length
            if size < 2:
                continue
            counts = rng.integers(length // 2 + 1, length + 1, size)
            features = self._tokenize([" ".join(rng.choice(words, count)) for count in counts])
            places = np.arange(size)
            rows = self._embed_places(features, places, length)
            others = [np.roll(places, 1), np.roll(places, size // 2), places[::-1].copy(), places // 2]
            if any(not np.array_equal(self._embed_places(features, other, length), rows[other]) for other in others):
                return False
        return True

    def _embed_places(self, features: Features, places: NDArray[np.int64], length: int) -> NDArray[np.float32]:
        """Embed one batch: the texts at these places, cut or padded to a length."""
        import torch

        assert self._session is not None
        with torch.inference_mode():
            (output,) = self._session.run_all([self._cut_batch(features, places, length)])
            return self._pool(output)

    def _pool(self, features: Features) -> NDArray[np.float32]:
        """Run the modules after the transformer, in float32: half precision would show in the mean."""
        import torch

        features = {
            name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in features.items()
        }
        for module in self._later_modules:
            features = module(features)
        return np.asarray(features["sentence_embedding"].cpu().numpy(), dtype=np.float32)


def _iterate_blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + _BLOCK_TEXTS] for start in range(0, len(rows), _BLOCK_TEXTS))


def batch_by_length(
    lengths: NDArray[np.int64], max_tokens: int, max_length: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Batch texts of similar length, the longest first: the row of every place, and the length to pad to.

    The length of its own texts alone decides a batch's length and number of places; repeated texts fill it up.

    Args:
        lengths: shape (n,), tokens of each text.
        max_tokens: limit on places times length; a single longer text is a batch of its own.
        max_length: limit on the padded length.
    """
    padded = np.maximum(np.minimum(-(-lengths // _LENGTH_STEP) * _LENGTH_STEP, max_length), np.maximum(lengths, 1))
    for length in np.unique(padded)[::-1].tolist():
        rows = np.flatnonzero(padded == length)
        size = max(1, max_tokens // length)
        for start in range(0, len(rows), size):
            yield np.resize(rows[start : start + size], size), length


def _count_tokens(features: Features) -> NDArray[np.int64]:
    """Count the tokens of each text, padding left out."""
    return np.asarray(features["attention_mask"].sum(1).cpu().numpy(), np.int64)


def _is_padded_batch(features: Features) -> bool:
    """Whether a batch is a table of token ids with a mask over its padding."""
    ids, mask = features.get("input_ids"), features.get("attention_mask")
    return ids is not None and mask is not None and ids.ndim == 2 and ids.shape == mask.shape


def _choose_device(device: str | None) -> str:
    """Check the device, or choose the best one."""
    from sentence_transformers.util import get_device_name

    if device is None:
        return str(get_device_name())
    check_device(device)
    return device


def _load_sentence_model(name: str, device: str, dtype: str) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer

    source = str(resolve_embedder(name))
    with explain_model_errors(name):
        model = SentenceTransformer(source, device=device, model_kwargs={"dtype": getattr(torch, dtype)}).eval()
    if others := {str(modality) for modality in model.modalities} - _PLAIN:
        # It opens a text that looks like the address or path of an image, and private texts are handed to it.
        raise ModelError(
            f"The embedder {name} reads {' and '.join(sorted(others))} too and would open texts that look like "
            "the address or path of a file; name one that reads text alone (models.embedder)."
        )
    return model
