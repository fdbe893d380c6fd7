"""Generate with transformers, on any processor: the engine that every installation has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pretext.errors import ModelError, UsageError
from pretext.models.adapters import resolve_adapter
from pretext.models.chat_format import encode_prompt, find_end_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, find_fitting_prompts, ignore_progress
from pretext.models.low_rank import check_low_rank_support, load_adapter
from pretext.models.precision import check_device, choose_dtype, find_free_memory, read_layer_sizes
from pretext.models.sources import check_generator, explain_model_errors, is_quantized, resolve_generator
from pretext.prompts import Prompt

_LEAST_SHARED = 8
"""Tokens from which on it pays to read a shared start on its own."""

if TYPE_CHECKING:
    import torch

    from pretext.config.settings import Models, Speed


class TransformersEngine:
    """A causal language model in this process.

    Batches hold prompts of similar length, padded on the left. A sequence that has ended leaves its batch, so a batch
    costs what its tokens cost. What all prompts of a batch begin with is read once: often that is nearly all of them.
    On one machine, the same prompts with the same sampling give the same texts.

    Args:
        model: as in `pretext.models.sources.resolve_generator`.
        adapter: folder or Hugging Face name of a LoRA adapter of the model.
        device: `cpu`, `cuda`, `cuda:1`, ...; default: the best available.
        dtype: name of a torch dtype; default: see `pretext.models.precision.choose_dtype`.
        batch_size: prompts per forward pass.

    Raises:
        ModelError: the model cannot be found or loaded, does not fit into memory, or is of a kind that does not
            generate text.
        UsageError: torch does not know the device or the dtype.
    """

    def __init__(
        self,
        model: str,
        *,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 32,
    ) -> None:
        import torch

        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be at least 1.")
        if adapter is not None:
            check_low_rank_support()
            adapter = str(resolve_adapter(adapter, model))
        self._device = resolve_device(device)
        torch_dtype = None if dtype is None else _parse_dtype(dtype)
        with explain_model_errors(model):
            self._tokenizer, causal_model = load_causal_model(model, self._device, torch_dtype)
        self._forward_parameters = frozenset(inspect.signature(causal_model.forward).parameters)
        if "past_key_values" not in self._forward_parameters:
            raise ModelError(
                f"The model {model!r} ({type(causal_model).__name__}) has no key-value cache, so this engine cannot "
                "run it; name another model, or use the engine vllm or openai."
            )
        settings = causal_model.config.get_text_config()
        windows = ("sliding_window", "attention_chunk_size")
        self._sees_all = not any(getattr(settings, name, None) for name in windows)
        self._context = min(
            getattr(settings, "max_position_embeddings", 2**31),
            self._tokenizer.model_max_length,
        )
        ends = find_end_tokens(self._tokenizer, causal_model.generation_config.eos_token_id)
        self._ends = torch.tensor(ends, dtype=torch.long, device=self._device)
        self._model = causal_model if adapter is None else load_adapter(causal_model, adapter)
        self._batch_size = batch_size
        self.usage = Usage()

    @classmethod
    def from_sections(cls, models: Models, speed: Speed) -> Self:
        """Load the generator that a configuration names; errors as the class."""
        return cls(
            models.generator,
            adapter=models.adapter,
            device=speed.device,
            dtype=speed.dtype,
            batch_size=speed.batch_size,
        )

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """See `Engine`."""
        import torch

        encoded = [encode_prompt(prompt, self._tokenizer) for prompt in prompts]
        order = sorted(
            find_fitting_prompts(encoded, self._context, sampling.max_tokens), key=lambda index: len(encoded[index])
        )
        generator = torch.Generator(self._device).manual_seed(sampling.seed % 2**63)
        texts: list[str | None] = [None] * len(prompts)
        advance(len(prompts) - len(order))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            answers = self._generate([encoded[index] for index in batch], sampling, generator)
            for index, answer in zip(batch, answers, strict=True):
                text = self._tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                texts[index] = cut_at_stop(text, sampling.stop)
            self.usage += Usage(sum(len(encoded[index]) for index in batch), sum(map(len, answers)))
            advance(len(batch))
        return texts

    def _generate(self, prompts: list[list[int]], sampling: Sampling, generator: torch.Generator) -> list[list[int]]:
        """Generate each prompt's new token ids, until an end token, a stop string or `max_tokens`."""
        import torch

        answers: list[list[int]] = [[] for _ in prompts]
        running = list(range(len(prompts)))
        with torch.inference_mode():
            cache, shared = self._read_shared_start(prompts)
            ids, mask = self._pad([prompt[shared:] for prompt in prompts])
            mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
            for _ in range(sampling.max_tokens):
                output = self._forward(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                )
                cache = output.past_key_values
                tokens = _draw_tokens(output.logits[:, -1].float(), sampling, generator)
                for row, token in zip(running, tokens.tolist(), strict=True):
                    answers[row].append(token)
                unfinished = self._find_unfinished(tokens, [answers[row] for row in running], sampling.stop)
                if not unfinished:
                    break
                if len(unfinished) < len(running):
                    rows = torch.tensor(unfinished, device=self._device)
                    cache.batch_select_indices(rows)
                    mask, positions, tokens = mask[rows], positions[rows], tokens[rows]
                    running = [running[row] for row in unfinished]
                ids, positions = tokens[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        return answers

    def _read_shared_start(self, prompts: list[list[int]]) -> tuple[Any, int]:
        """Read once what all prompts begin with: a key-value cache for all of them, and the number of its tokens.

        Between that and shorter ends lies padding, so a model that sees only the last so many tokens would see less.
        """
        import torch

        columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)  # each keeps a token to go on from
        shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
        if len(prompts) == 1 or shared < _LEAST_SHARED or not self._sees_all:
            return None, 0
        start, mask = self._pad([prompts[0][:shared]])
        cache = self._forward(input_ids=start, attention_mask=mask, position_ids=mask.cumsum(1) - 1).past_key_values
        cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.long, device=self._device))
        return cache, shared

    def _forward(self, **inputs: Any) -> Any:
        """Run the model on with its cache; not every architecture takes positions, or can leave out logits."""
        inputs |= {"use_cache": True, "logits_to_keep": 1}
        return self._model(**{name: value for name, value in inputs.items() if name in self._forward_parameters})

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad the prompts on the left; return token ids and attention mask, both of shape (batch, longest)."""
        import torch

        longest = max(map(len, prompts))
        # The mask hides the padding, so any token will do.
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=self._device)
        mask = (torch.arange(longest, device=self._device) >= longest - lengths).long()
        return ids, mask

    def _find_unfinished(self, tokens: torch.Tensor, answers: list[list[int]], stop: Sequence[str]) -> list[int]:
        """Find the rows that go on: no end token, and no stop string in the last tokens."""
        import torch

        ended = torch.isin(tokens, self._ends).tolist()
        if not stop:
            return [row for row, end in enumerate(ended) if not end]
        # A token holds at least one byte, so a stop string that has just been completed lies within this window.
        window = 1 + max(len(string.encode()) for string in stop)
        tails = self._tokenizer.batch_decode([answer[-window:] for answer in answers], skip_special_tokens=True)
        return [row for row, end in enumerate(ended) if not end and not any(string in tails[row] for string in stop)]


def _draw_tokens(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """Draw one token per row of `logits`, shape (batch, vocabulary).

    A token is in the nucleus if the likelier ones hold less than `top_p` of the probability. Drawing from all tokens
    until the token is in the nucleus has the same distribution as drawing from the nucleus. It needs no sorted
    vocabulary; sorting one takes longer on a CPU than the model does.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    heights = probabilities.cumsum(-1)
    tokens = _draw_at_random_height(heights, generator)
    rows = _find_rows_outside_nucleus(probabilities, tokens, sampling.top_p)
    while len(rows):
        tokens[rows] = _draw_at_random_height(heights[rows], generator)
        rows = rows[_find_rows_outside_nucleus(probabilities[rows], tokens[rows], sampling.top_p)]
    return tokens


def _draw_at_random_height(heights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one token per row of cumulative probabilities: the token at a random height."""
    import torch

    targets = heights[:, -1:] * torch.rand(len(heights), 1, generator=generator, device=heights.device)
    # Rounding may lift a height to the very top, where no token lies.
    return torch.searchsorted(heights, targets, right=True)[:, 0].clamp(max=heights.shape[1] - 1)


def _find_rows_outside_nucleus(probabilities: torch.Tensor, tokens: torch.Tensor, top_p: float) -> torch.Tensor:
    """Find the rows whose token is outside the nucleus; the likeliest token is always inside."""
    import torch

    if top_p == 1:
        return tokens.new_empty(0)
    own = probabilities.gather(1, tokens[:, None])
    before = torch.where(probabilities > own, probabilities, 0).sum(-1)
    return (before >= top_p).nonzero()[:, 0]


def load_causal_model(name: str, device: torch.device, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Load a generator's tokenizer and model, after checking the model's kind and size.

    Raises:
        ModelError: it does not generate text, or does not fit into memory.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = resolve_generator(name)
    config: Any = AutoConfig.from_pretrained(source)
    check_generator(name, config.to_dict())
    dtype = dtype or _parse_dtype(choose_dtype(str(device), *read_layer_sizes(config)))
    tokenizer = AutoTokenizer.from_pretrained(source)
    _check_memory(name, _count_weight_bytes(source, config, dtype), device)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, device_map={"": device})
    return tokenizer, model.eval()


def _count_weight_bytes(source: Path | str, config: Any, dtype: torch.dtype) -> int:
    """Count the bytes of the weights in memory: in `dtype`, or as they are stored if they are quantized."""
    import torch
    from transformers import AutoModelForCausalLM

    if is_quantized(config):
        return sum(file.stat().st_size for file in Path(source).glob("*.safetensors"))
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return sum(weight.numel() * weight.element_size() for weight in build(config, dtype=dtype).parameters())


def _check_memory(name: str, size: int, device: torch.device) -> None:
    """Raise ModelError unless that many bytes are free, before the system kills the process for taking them."""
    free = find_free_memory(device)
    if free is not None and size > free:
        raise ModelError(
            f"The model {name!r} takes {size / 2**30:.1f} GiB on {device}, where {free / 2**30:.1f} GiB are free; name "
            "a smaller or a quantized model, set speed.dtype to bfloat16, or end other programs."
        )


def resolve_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best available. Raises UsageError if torch does not see it."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    return torch.empty(0, device=name).device


def _parse_dtype(name: str) -> torch.dtype:
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"{name!r} is no dtype of a model; give float32, bfloat16 or float16.")
    return dtype
