"""Generation with transformers, on any processor: the engine that is always there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pretext.engines import Sampling, Usage, cut_at_stop, fitting, unheard
from pretext.errors import UsageError
from pretext.models import loading, preferred_dtype, resolve_generator
from pretext.prompts import Prompt, token_ids

if TYPE_CHECKING:
    import torch


class TransformersEngine:
    """A causal language model in this process.

    Prompts go through in batches of similar length, padded on the left; a sequence that has ended leaves its batch, so
    a batch costs what its tokens cost. The same prompts with the same sampling give the same texts on one machine.

    Args:
        model: as in `pretext.models.resolve_generator`.
        device: `cpu`, `cuda`, `cuda:1`, ...; default: the best there is.
        dtype: name of a torch dtype; default: `pretext.models.preferred_dtype`.
        batch_size: prompts per forward pass.

    Raises:
        ModelError: the model cannot be found or loaded.
        UsageError: a device or dtype that torch does not know.
    """

    def __init__(
        self, model: str, *, device: str | None = None, dtype: str | None = None, batch_size: int = 32
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be at least 1.")
        self._device = _device(device)
        chosen = _dtype(dtype or preferred_dtype(str(self._device)))
        source = resolve_generator(model)
        with loading(model):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=chosen)
            self._model = loaded.to(self._device).eval()
        self._batch_size = batch_size
        self.usage = Usage()
        self._context = min(
            getattr(self._model.config.get_text_config(), "max_position_embeddings", 2**31),
            self._tokenizer.model_max_length,
        )
        self._ends = torch.tensor(_end_ids(self._model, self._tokenizer), device=self._device)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = unheard
    ) -> list[str | None]:
        """See `Engine`."""
        import torch

        encoded = [token_ids(prompt, self._tokenizer) for prompt in prompts]
        order = sorted(fitting(encoded, self._context, sampling.max_tokens), key=lambda index: len(encoded[index]))
        generator = torch.Generator(self._device).manual_seed(sampling.seed % 2**63)
        texts: list[str | None] = [None] * len(prompts)
        advance(len(prompts) - len(order))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            answers = self._generate([encoded[index] for index in chosen], sampling, generator)
            for index, answer in zip(chosen, answers, strict=True):
                text = self._tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                texts[index] = cut_at_stop(text, sampling.stop)
            self.usage += Usage(sum(len(encoded[index]) for index in chosen), sum(map(len, answers)))
            advance(len(chosen))
        return texts

    def _generate(self, prompts: list[list[int]], sampling: Sampling, generator: torch.Generator) -> list[list[int]]:
        """The new token ids of every prompt, ended by an end token, a stop string or `max_tokens`."""
        import torch

        answers: list[list[int]] = [[] for _ in prompts]
        running = list(range(len(prompts)))
        with torch.inference_mode():
            ids, mask = self._pad(prompts)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            cache = None
            for _ in range(sampling.max_tokens):
                output = self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                cache = output.past_key_values
                drawn = _draw(output.logits[:, -1].float(), sampling, generator)
                for row, token in zip(running, drawn.tolist(), strict=True):
                    answers[row].append(token)
                kept = self._unfinished(drawn, [answers[row] for row in running], sampling.stop)
                if not kept:
                    break
                if len(kept) < len(running):
                    rows = torch.tensor(kept, device=self._device)
                    cache.batch_select_indices(rows)
                    mask, positions, drawn = mask[rows], positions[rows], drawn[rows]
                    running = [running[row] for row in kept]
                ids, positions = drawn[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        return answers

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both (batch, longest), padded on the left."""
        import torch

        longest = max(map(len, prompts))
        # The mask hides the padding, so any token will do.
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=self._device)
        mask = (torch.arange(longest, device=self._device) >= longest - lengths).long()
        return ids, mask

    def _unfinished(self, drawn: torch.Tensor, answers: list[list[int]], stop: Sequence[str]) -> list[int]:
        """The rows that go on: no end token, and no stop string in the last tokens."""
        import torch

        ended = torch.isin(drawn, self._ends).tolist()
        if not stop:
            return [row for row, end in enumerate(ended) if not end]
        # A token holds at least one byte, so a stop string that has just been completed lies within these.
        window = 1 + max(len(string.encode()) for string in stop)
        tails = self._tokenizer.batch_decode([answer[-window:] for answer in answers], skip_special_tokens=True)
        return [row for row, end in enumerate(ended) if not end and not any(string in tails[row] for string in stop)]


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """One token per row of `logits`, shape (batch, vocabulary)."""
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, tokens = probabilities.sort(dim=-1, descending=True)
        # A token stays while those before it hold less than top_p together; the first one always stays.
        ordered[ordered.cumsum(-1) - ordered >= sampling.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter_(-1, tokens, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's and, where the model was tuned to more of them, the model's."""
    tuned = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(tuned if isinstance(tuned, list) else [tuned])}
    return sorted(end for end in ends if end is not None)


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise UsageError(f"The device {name!r} is not there; give cpu, or a device that torch sees here.") from None


def _dtype(name: str) -> torch.dtype:
    import torch

    chosen = getattr(torch, name, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise UsageError(f"{name!r} is no dtype of a model; give float32, bfloat16 or float16.")
    return chosen
