"""Write prompts.

There are two formats: `base` continues a list of samples (PrE-Text's expansion prompt), `chat` asks an
instruction-tuned model. `pretext.models.chat_format` encodes both; nothing in a text is read as a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADER = "Original Text Sample"
INSTRUCTION = "diverse original text samples"
_REWRITE_HEADER = "The same sample in other words"
_REQUEST = "Write one more of the same kind, on a subject of its own."
_REWRITE = "in other words, in the same style and length"
_ANSWER_ONLY = "Answer with the text only."
_FRAGMENTS = [
    piece.casefold().rstrip(".") for piece in (HEADER, INSTRUCTION, _REWRITE_HEADER, _REQUEST, _REWRITE, _ANSWER_ONLY)
]


@dataclass(frozen=True)
class Prompt:
    """What an engine completes: the open text of a `base` prompt, or the user's message of a `chat` prompt."""

    text: str
    chat: bool = False


@dataclass(frozen=True)
class PromptStyle:
    """The wording of all prompts of a run. Public.

    Attributes:
        chat: ask an instruction-tuned model; otherwise continue a list of samples.
        one_paragraph: end every text at its first blank line.
        labels: the public list of labels; empty without labels.
        description: a sentence about the domain, added to every prompt if there are no labels; or None.
        anchors: invented examples at the start of every few-shot prompt. They keep a weak generator to the domain's
            style through all rounds, and they are a prefix that all prompts share.
    """

    chat: bool = False
    one_paragraph: bool = True
    labels: tuple[str, ...] = ()
    description: str | None = None
    anchors: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[str, ...]:
        """The strings that end a text: the next header, and with `one_paragraph` a blank line."""
        return (HEADER, "\n\n") if self.one_paragraph else (HEADER,)

    @property
    def stops(self) -> tuple[str, ...]:
        """Those of `ends` at which an engine may stop: none in a chat, where more than the text may stand before it."""
        return () if self.chat else self.ends

    def about(self, label: int) -> str | None:
        """Return what a prompt says about the texts that it asks for: the label, or the description of the domain."""
        return self.labels[label] if self.labels else self.description

    def describe(self, description: str, examples: Sequence[str]) -> Prompt:
        """Ask for a text of the domain that a public sentence describes, similar to the examples if there are any."""
        if examples:
            return make_few_shot_prompt(examples, description, self.chat)
        return make_description_prompt(description, self.chat)

    def of_label(self, description: str, examples: Sequence[str], label: int) -> Prompt:
        """Ask for a text of the domain, of one of its labels if there are any."""
        named = f"{description.rstrip(' .')} ({self.labels[label]})" if self.labels else description
        return self.describe(named, examples)

    def begin(self, prompt: Prompt, start: str) -> Prompt:
        """Ask the same for a text that begins with `start`; `finish` puts the answer together."""
        if not start:
            return prompt
        return Prompt(f'{prompt.text} Begin with "{start}".', chat=True) if self.chat else Prompt(prompt.text + start)

    def finish(self, start: str, completion: str | None) -> str | None:
        """Return the whole answer to a prompt that `begin` made: a continued sample lacks its start."""
        return completion if completion is None or self.chat else start + completion

    def few_shot(self, examples: Sequence[str], label: int) -> Prompt:
        """Ask for one more text like the anchors and the examples."""
        return make_few_shot_prompt([*self.anchors, *examples], self.about(label), self.chat)

    def rewrite(self, text: str, label: int) -> Prompt:
        """Ask for the text in other words."""
        return make_rewrite_prompt(text, self.about(label), self.chat)


def make_few_shot_prompt(examples: Sequence[str], about: str | None, chat: bool) -> Prompt:
    """Ask for one more text like the examples (PrE-Text, appendix); the public `about` says what they are."""
    about = _parenthesize(about)
    samples = "\n\n".join(f"{HEADER} {number}\n{text}" for number, text in enumerate(examples, start=1))
    if chat:
        return Prompt(f"Below are {INSTRUCTION}{about}. {_REQUEST} {_ANSWER_ONLY}\n\n{samples}", chat=True)
    return Prompt(f"List of {2 * len(examples)} {INSTRUCTION}{about}:\n\n{samples}\n\n{HEADER} {len(examples) + 1}\n")


def make_rewrite_prompt(text: str, about: str | None, chat: bool) -> Prompt:
    """Ask for the text in other words (Aug-PE's variation); `about` as in `make_few_shot_prompt`."""
    about = _parenthesize(about)
    if chat:
        request = f"Write the sample{about} below {_REWRITE}. {_ANSWER_ONLY}"
        return Prompt(f"{request}\n\n{HEADER} 1\n{text}", chat=True)
    return Prompt(f"{HEADER} 1{about}\n{text}\n\n{_REWRITE_HEADER}\n")


def _parenthesize(about: str | None) -> str:
    return "" if about is None else f" ({about.rstrip(' .')})"


def make_description_prompt(description: str, chat: bool) -> Prompt:
    """Ask for a text of the domain that a public sentence describes."""
    if chat:
        return Prompt(f"{description}\n\nWrite one such text. {_ANSWER_ONLY}", chat=True)
    return Prompt(f"{description}\n\nList of 6 {INSTRUCTION}:\n\n{HEADER} 1\n")


def has_prompt_leak(text: str) -> bool:
    """Whether the text contains a piece of our own prompts, in any case."""
    folded = text.casefold()
    return any(fragment in folded for fragment in _FRAGMENTS)
