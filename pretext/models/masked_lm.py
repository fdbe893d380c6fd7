"""Sample tokens at masked positions, with a masked language model of any family. Public.

Wherever the model's head allows it, only the masked positions are scored against the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pretext.errors import ModelError, UsageError
from pretext.models.precision import choose_dtype, read_layer_sizes
from pretext.models.sources import explain_model_errors, resolve_masked

if TYPE_CHECKING:
    import torch

_UNUSED = re.compile(r"[\[<]?(unused|madeupword)\d+[\]>]?")


class MaskedLM:
    """A Hugging Face masked language model and its tokenizer.

    Attributes:
        tokenizer: the model's own.
        model: on its device, in evaluation mode.
        excluded: shape (e,), int64: ids that are never sampled because they stand for no text (special, added and
            unused tokens, and rows of the vocabulary without a token).
        has_word_pieces: whether the tokenizer loses spaces and capitals, as BERT's does.
        scores_positions: whether the head scores the masked positions alone; otherwise it scores all positions.

    Args:
        name: a folder or a Hugging Face name.
        device: `cpu`, `cuda`, ...; default: the best available.
        dtype: name of a torch dtype; default: what the device computes fastest.

    Raises:
        ModelError: the model cannot be loaded, is no masked language model, or has no mask token.
    """

    def __init__(self, name: str, device: str | None, dtype: str | None) -> None:
        self.tokenizer, self.model = _load_masked_lm(name, device, dtype)
        self.excluded = _find_excluded_ids(self.tokenizer, self.model.config.get_text_config().vocab_size)
        self.has_word_pieces = _has_word_pieces(self.tokenizer)
        self.scores_positions = head_takes_positions(self.model)

    def check_length(self, tokens: int) -> None:
        """Raise UsageError unless the model takes texts of `tokens` tokens, special ones included."""
        least = self.tokenizer.num_special_tokens_to_add() + 1
        most = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", tokens))
        if not least <= tokens <= most:
            raise UsageError(
                f"variation.max_tokens is {tokens}, but the masked language model takes texts of {least} to {most} "
                "tokens, special ones included; set it within that range, or name another model as models.masked."
            )

    def fill(
        self,
        ids: NDArray[np.int64],
        attention: NDArray[np.int64],
        positions: tuple[NDArray[np.int64], NDArray[np.int64]],
        uniforms: NDArray[np.float32],
        temperature: float,
    ) -> NDArray[np.int64]:
        """Sample one token for each of p positions, in one forward pass.

        Args:
            ids: shape (n, length), token ids, with the mask token at masked positions.
            attention: shape (n, length), 0 on padding.
            positions: rows and columns to sample, shape (p,) each.
            uniforms: shape (p,), one uniform number in [0, 1) per position, the only randomness.
            temperature: sampling temperature; 0 takes the likeliest token.

        Returns:
            Token ids, shape (p,).
        """
        import torch

        with torch.inference_mode():
            logits = self.logits(ids, attention, positions)
            return np.asarray(self.sample(logits, uniforms, temperature).cpu().numpy())

    def logits(
        self,
        ids: NDArray[np.int64],
        attention: NDArray[np.int64],
        positions: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> torch.Tensor:
        """Compute the logits at the positions, shape (p, vocabulary)."""
        import torch

        device = self.model.device
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        where = torch.from_numpy(positions[0]).to(device), torch.from_numpy(positions[1]).to(device)
        with _gather_states(self.model, where) if self.scores_positions else nullcontext():
            logits: torch.Tensor = self.model(**inputs).logits
        return logits[0] if self.scores_positions else logits[where]

    def sample(self, logits: torch.Tensor, uniforms: NDArray[np.float32], temperature: float) -> torch.Tensor:
        """Take the first token whose cumulative probability passes the uniform; shape (p,)."""
        import torch

        logits = logits.float()
        logits[:, self.excluded] = -torch.inf
        if temperature == 0:
            return logits.argmax(dim=1)
        cumulative = torch.softmax(logits / temperature, dim=1).cumsum(dim=1)
        targets = torch.from_numpy(uniforms).to(cumulative.device)[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, targets, right=True)[:, 0]


def head_takes_positions(model: Any) -> bool:
    """Whether the model gives the same logits when its head sees only some positions; families differ, so try it."""
    import torch

    ids = torch.arange(6, device=model.device).reshape(2, 3)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    where = torch.tensor([0, 1, 1], device=model.device), torch.tensor([2, 0, 1], device=model.device)
    with torch.inference_mode():
        expected = model(**inputs).logits[where].float()
        try:
            with _gather_states(model, where):
                logits = model(**inputs).logits.float()
        except Exception:  # heads of other families fail in their own ways
            return False
    if logits.shape != (1, *expected.shape):
        return False
    return bool((logits[0] - expected).abs().max() <= 0.02 * expected.abs().max())


@contextmanager
def _gather_states(model: Any, where: tuple[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Inside the block, the model's head sees the encoder's states at these rows and columns only, as a single row."""

    def gather(module: object, arguments: object, output: Any) -> Any:
        output["last_hidden_state"] = output["last_hidden_state"][where][None]
        return output

    handle = model.base_model.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _find_excluded_ids(tokenizer: Any, size: int) -> NDArray[np.int64]:
    vocabulary = tokenizer.get_vocab()
    unused = {index for token, index in vocabulary.items() if _UNUSED.fullmatch(token)}
    absent = set(range(size)) - set(vocabulary.values())
    return np.array(sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder, *unused, *absent}), np.int64)


def _has_word_pieces(tokenizer: Any) -> bool:
    from tokenizers.decoders import WordPiece

    return tokenizer.is_fast and isinstance(tokenizer.backend_tokenizer.decoder, WordPiece)


def _load_masked_lm(name: str, device: str | None, dtype: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    source = resolve_masked(name)
    with explain_model_errors(name):
        settings = AutoConfig.from_pretrained(source)
        if type(settings) not in MODEL_FOR_MASKED_LM_MAPPING:
            raise _make_fill_error(name, "is no masked language model")
        precision = dtype or choose_dtype(device, *read_layer_sizes(settings))
        tokenizer = AutoTokenizer.from_pretrained(source)
        if tokenizer.mask_token_id is None:
            raise _make_fill_error(name, "has no mask token")
        model, information = AutoModelForMaskedLM.from_pretrained(
            source, dtype=getattr(torch, precision), output_loading_info=True
        )
    if information["missing_keys"]:
        raise _make_fill_error(name, "was saved without the head that predicts tokens")
    return tokenizer, model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _make_fill_error(name: str, reason: str) -> ModelError:
    return ModelError(
        f"The model {name!r} {reason}, so it cannot fill masks; set models.masked to a masked language model such as "
        "roberta-large."
    )
