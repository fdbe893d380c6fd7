"""Prompt formats. Texts of the pool are data: they are never read as a format's control tokens.

Two formats: `base` continues a list of samples (PrE-Text's expansion prompt), `chat` asks an instruction-tuned model
through its own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEADER = "Original Text Sample"
INSTRUCTION = "diverse original text samples"
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


def answer(completion: str | None) -> str | None:
    """The text in a completion: what stands before the next header, without the white space around it."""
    return None if completion is None else completion.split(HEADER)[0].strip()


def leaks(text: str) -> bool:
    """Whether the text holds a piece of our own prompts."""
    folded = text.casefold()
    return any(fragment in folded for fragment in _FRAGMENTS)


def token_ids(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt as token ids, `prompt.text` encoded with special tokens disabled.

    A chat prompt is rendered by the tokenizer's template around a placeholder, so that `<|im_end|>` inside the text
    stays eight harmless characters. Raises ModelError if a chat prompt meets a tokenizer without a template.
    """
    raise NotImplementedError
