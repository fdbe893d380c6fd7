"""Prompt formats. Texts of the pool are data: they are never read as a format's control tokens.

Two formats: `base` continues a list of samples (PrE-Text's expansion prompt), `chat` asks an instruction-tuned model
through its own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretext.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEADER = "Original Text Sample"
INSTRUCTION = "diverse original text samples"
# What Llama 3 templates print in place of today, so that a prompt does not depend on the day.
_TEMPLATE_DATE = "26 Jul 2024"
_PLACEHOLDER = "-pretext-prompt-text-"
_REWRITTEN = "The same sample in other words"
_FRAGMENTS = (HEADER.casefold(), INSTRUCTION, _REWRITTEN.casefold(), "answer with the text only")


@dataclass(frozen=True)
class Prompt:
    """What an engine completes: the open text of a `base` prompt, or the user's message of a `chat` prompt."""

    text: str
    chat: bool = False


def few_shot(examples: Sequence[str], label: str | None, chat: bool) -> Prompt:
    """Asks for one more text like the examples (PrE-Text, appendix); `label` is public."""
    about = f" ({label})" if label is not None else ""
    samples = "\n\n".join(f"{HEADER} {number}\n{text}" for number, text in enumerate(examples, start=1))
    if chat:
        request = (
            f"Below are {INSTRUCTION}{about}. Write one more of the same kind, on a subject of its own. Answer "
            "with the text only."
        )
        return Prompt(f"{request}\n\n{samples}", chat=True)
    return Prompt(f"List of {2 * len(examples)} {INSTRUCTION}{about}:\n\n{samples}\n\n{HEADER} {len(examples) + 1}\n")


def rewrite(text: str, label: str | None, chat: bool) -> Prompt:
    """Asks for the text in other words (Aug-PE's variation)."""
    about = f" ({label})" if label is not None else ""
    if chat:
        request = (
            f"Write the following text{about} in other words, in the same style and length. Answer with the text only."
        )
        return Prompt(f"{request}\n\n{text}", chat=True)
    return Prompt(f"{HEADER} 1{about}\n{text}\n\n{_REWRITTEN}\n")


def described(description: str, chat: bool) -> Prompt:
    """Asks for a text out of a domain that a public description names."""
    if chat:
        return Prompt(f"{description}\n\nWrite one such text. Answer with the text only.", chat=True)
    return Prompt(f"{description}\n\nList of 6 {INSTRUCTION}:\n\n{HEADER} 1\n")


def stops(one_paragraph: bool) -> tuple[str, ...]:
    """Where an answer ends: at the next header, and with `one_paragraph` at a blank line."""
    return (HEADER, "\n\n") if one_paragraph else (HEADER,)


def answer(completion: str | None) -> str | None:
    """The text in a completion: what stands before the next header, without the white space around it."""
    return None if completion is None else completion.split(HEADER)[0].strip()


def leaks(text: str) -> bool:
    """Whether the text holds a piece of our own prompts."""
    folded = text.casefold()
    return any(fragment in folded for fragment in _FRAGMENTS)


def token_ids(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt as token ids, `prompt.text` encoded with special tokens disabled; never empty.

    A chat prompt is rendered by the tokenizer's template around a placeholder, so that `<|im_end|>` inside the text
    stays eight harmless characters. Raises ModelError if a chat prompt meets a tokenizer without a template.
    """
    text = _plain_ids(prompt.text, tokenizer)
    if prompt.chat:
        first, *others = (_template_ids(piece, tokenizer) for piece in _template_pieces(tokenizer))
        return [*first, *(token for piece in others for token in (*text, *piece))]
    start = tokenizer.bos_token_id
    if start is not None and start in tokenizer("").input_ids:
        return [start, *text]
    return text or [start if start is not None else tokenizer.eos_token_id]


def _plain_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The text's tokens; where a vocabulary holds a special token as an ordinary piece too, that piece is left out."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    special = set(tokenizer.all_special_ids)
    return [token for token in ids if token not in special]


def _template_ids(piece: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=False)
    return ids


def _template_pieces(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the chat template writes before and after the user's text: no thinking aloud and, if possible, no date."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"The model {tokenizer.name_or_path!r} has no chat template; use base prompts, or a chat model."
        )
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": _PLACEHOLDER}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
        date_string=_TEMPLATE_DATE,
    )
    pieces = str(rendered).split(_PLACEHOLDER)
    if len(pieces) < 2:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path!r} leaves out what the user says; use base prompts."
        )
    return pieces
