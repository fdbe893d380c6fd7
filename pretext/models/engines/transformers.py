"""Generation with transformers, on any processor: the engine that is always there."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretext.errors import ModelError, UsageError
from pretext.models.chat_format import encode_prompt, end_token_ids
from pretext.models.engines import Sampling, Usage, cut_at_stop, find_fitting_prompts, ignore_progress
from pretext.models.precision import check_device, layer_sizes, preferred_dtype
from pretext.models.sources import check_generator, explain_model_errors, is_quantized, resolve_generator
from pretext.prompts import Prompt

if TYPE_CHECKING:
    import torch


class TransformersEngine:
    """A causal language model in this process.

    Prompts go through in batches of similar length, padded on the left; a sequence that has ended leaves its batch, so
    a batch costs what its tokens cost. The same prompts with the same sampling give the same texts on one machine.
    Prompts of one phase share their first dozen tokens only, so no prefix is computed once for all.

    Args:
        model: as in `pretext.models.sources.resolve_generator`.
        adapter: folder or Hugging Face name of a LoRA adapter of the model.
        device: `cpu`, `cuda`, `cuda:1`, ...; default: the best there is.
        dtype: name of a torch dtype; default: `pretext.models.precision.preferred_dtype`.
        batch_size: prompts per forward pass.

    Raises:
        ModelError: the model cannot be found or loaded, does not fit into memory, or is of a kind that cannot write on.
        UsageError: a device or dtype that torch does not know.
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
        if adapter is not None and importlib.util.find_spec("peft") is None:
            raise ModelError(
                "A LoRA adapter (models.adapter) needs the package peft, which is not installed; run "
                "`pip install 'pretext[lora]'`, or leave the adapter out."
            )
        self._device = _resolve_device(device)
        given = None if dtype is None else _parse_dtype(dtype)
        with explain_model_errors(model):
            self._tokenizer, loaded = _load_causal_model(model, self._device, given)
        self._forward_parameters = frozenset(inspect.signature(loaded.forward).parameters)
        if "past_key_values" not in self._forward_parameters:
            raise ModelError(
                f"The model {model!r} ({type(loaded).__name__}) has no key-value cache, so this engine cannot run it; "
                "name another model, or use the engine vllm or openai."
            )
        self._context = min(
            getattr(loaded.config.get_text_config(), "max_position_embeddings", 2**31), self._tokenizer.model_max_length
        )
        ends = end_token_ids(self._tokenizer, loaded.generation_config.eos_token_id)
        self._ends = torch.tensor(ends, dtype=torch.long, device=self._device)
        self._model = loaded if adapter is None else _apply_adapter(loaded, adapter)
        self._batch_size = batch_size
        self.usage = Usage()

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
                output = self._forward(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                cache = output.past_key_values
                drawn = _draw_tokens(output.logits[:, -1].float(), sampling, generator)
                for row, token in zip(running, drawn.tolist(), strict=True):
                    answers[row].append(token)
                kept = self._find_unfinished(drawn, [answers[row] for row in running], sampling.stop)
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

    def _forward(self, **inputs: Any) -> Any:
        """A forward pass; not every architecture takes positions, or can leave out the logits of a prompt."""
        return self._model(**{name: value for name, value in inputs.items() if name in self._forward_parameters})

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both (batch, longest), padded on the left."""
        import torch

        longest = max(map(len, prompts))
        # The mask hides the padding, so any token will do.
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=self._device)
        mask = (torch.arange(longest, device=self._device) >= longest - lengths).long()
        return ids, mask

    def _find_unfinished(self, drawn: torch.Tensor, answers: list[list[int]], stop: Sequence[str]) -> list[int]:
        """The rows that go on: no end token, and no stop string in the last tokens."""
        import torch

        ended = torch.isin(drawn, self._ends).tolist()
        if not stop:
            return [row for row, end in enumerate(ended) if not end]
        # A token holds at least one byte, so a stop string that has just been completed lies within these.
        window = 1 + max(len(string.encode()) for string in stop)
        tails = self._tokenizer.batch_decode([answer[-window:] for answer in answers], skip_special_tokens=True)
        return [row for row, end in enumerate(ended) if not end and not any(string in tails[row] for string in stop)]


def _draw_tokens(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """One token per row of `logits`, shape (batch, vocabulary).

    A token of the nucleus is one before which less than `top_p` of the probability stands. A draw from all tokens that
    is repeated until it lies within follows the same law as a draw from the nucleus, and needs no sorted vocabulary,
    which on a CPU would take longer than the model does.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    heights = probabilities.cumsum(-1)
    drawn = _draw_at_random_height(heights, generator)
    rows = _rows_outside_nucleus(probabilities, drawn, sampling.top_p)
    while len(rows):
        drawn[rows] = _draw_at_random_height(heights[rows], generator)
        rows = rows[_rows_outside_nucleus(probabilities[rows], drawn[rows], sampling.top_p)]
    return drawn


def _draw_at_random_height(heights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Per row of cumulative probabilities, the token at a random height."""
    import torch

    chosen = heights[:, -1:] * torch.rand(len(heights), 1, generator=generator, device=heights.device)
    # Rounding may lift a height to the very top, where no token lies.
    return torch.searchsorted(heights, chosen, right=True)[:, 0].clamp(max=heights.shape[1] - 1)


def _rows_outside_nucleus(probabilities: torch.Tensor, drawn: torch.Tensor, top_p: float) -> torch.Tensor:
    """The rows whose token is not in the nucleus; the likeliest one always is."""
    import torch

    if top_p == 1:
        return drawn.new_empty(0)
    own = probabilities.gather(1, drawn[:, None])
    before = torch.where(probabilities > own, probabilities, 0).sum(-1)
    return (before >= top_p).nonzero()[:, 0]


def _load_causal_model(name: str, device: torch.device, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Tokenizer and model, once its kind and its size are known to be right."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = resolve_generator(name)
    config: Any = AutoConfig.from_pretrained(source)
    check_generator(name, config.to_dict())
    chosen = dtype or _parse_dtype(preferred_dtype(str(device), *layer_sizes(config)))
    tokenizer = AutoTokenizer.from_pretrained(source)
    _check_memory(name, _weight_bytes(source, config, chosen), device)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=chosen, device_map={"": device})
    return tokenizer, model.eval()


def _weight_bytes(source: Path | str, config: Any, dtype: torch.dtype) -> int:
    """Bytes of the weights in memory: as they are built in `dtype`, or as they are stored if they are quantized."""
    import torch
    from transformers import AutoModelForCausalLM

    if is_quantized(config):
        return sum(file.stat().st_size for file in Path(source).glob("*.safetensors"))
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return sum(weight.numel() * weight.element_size() for weight in build(config, dtype=dtype).parameters())


def _check_memory(name: str, size: int, device: torch.device) -> None:
    """Raises ModelError if so many bytes are not free, before they are asked for and the system ends the process."""
    import psutil
    import torch

    match device.type:
        case "cuda":
            free = torch.cuda.mem_get_info(device)[0]
        case "cpu":
            free = psutil.virtual_memory().available
        case _:
            return
    if size > free:
        raise ModelError(
            f"The model {name!r} takes {size / 2**30:.1f} GiB on {device}, where {free / 2**30:.1f} GiB are free; name "
            "a smaller or a quantized model, set speed.dtype to bfloat16, or end other programs."
        )


def _apply_adapter(model: Any, adapter: str) -> Any:
    """The model with the LoRA adapter; added to the weights, which costs nothing later, unless they are quantized."""
    from peft import PeftModel

    with explain_model_errors(adapter), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
        adapted: Any = PeftModel.from_pretrained(model, adapter)
        return adapted.eval() if is_quantized(model.config) else adapted.merge_and_unload().eval()


def _resolve_device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    return torch.empty(0, device=name).device


def _parse_dtype(name: str) -> torch.dtype:
    import torch

    chosen = getattr(torch, name, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise UsageError(f"{name!r} is no dtype of a model; give float32, bfloat16 or float16.")
    return chosen
