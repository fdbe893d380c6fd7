"""Chat format."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretext.errors import ModelError
from pretext.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# What other templates print in place of today, so that a prompt does not depend on the day.
_TEMPLATE_DATE = "26 Jul 2024"


_PLACEHOLDER = "-pretext-prompt-text-"


# https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/
_LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


_END_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>")


# What may be a control token of some model, up to the bracket behind which a space takes its meaning away.
_CONTROL_TOKEN = re.compile(r"<(?=[|｜]|/?s>|(?:bos|eos|pad)>|(?:start|end)_of_turn>|<?/?SYS>)|\[(?=/?INST\])")


def escape_control_tokens(text: str) -> str:
    """The text with a space inside whatever may be a control token of some model, where its tokenizer cannot help."""
    return _CONTROL_TOKEN.sub(r"\g<0> ", text)


def encode_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt as token ids, `prompt.text` encoded with special tokens disabled; never empty.

    A chat prompt is Llama 3's format, or the tokenizer's template around a placeholder, so that `<|im_end|>` inside the
    text stays ten harmless characters.

    Raises:
        ModelError: a chat prompt for a tokenizer without a template, or an empty one for a tokenizer without any token
            to begin with.
    """
    form = _make_format(tokenizer, str(tokenizer.chat_template or "") if prompt.chat else None)
    said = escape_control_tokens(prompt.text) if form.plain_markers else prompt.text
    text = _encode_text(said.strip() if prompt.chat else said, tokenizer, form.reserved)
    first, *others = form.pieces
    if others:
        return [*first, *(token for piece in others for token in (*text, *piece))]
    return [*first, *text] or _default_start_ids(tokenizer)


def end_token_ids(tokenizer: PreTrainedTokenizerBase, eos_token_id: int | Sequence[int] | None) -> list[int]:
    """The tokens that end an answer: the tokenizer's, those of the formats it knows, and the model's own.

    Args:
        tokenizer: of the model.
        eos_token_id: `eos_token_id` of the model's generation configuration.
    """
    added = tokenizer.get_added_vocab()
    known = [added[name] for name in _END_TOKENS if name in added]
    ends = {tokenizer.eos_token_id, *known, *([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or [])}
    return sorted(end for end in ends if end is not None)


@dataclass(frozen=True)
class _PromptFormat:
    """The tokens around every place of the text, and those that must not come out of the text itself.

    `plain_markers`: the format has markers that are no tokens but plain text, as `[INST]` of the first Mistral models.
    """

    pieces: list[list[int]]
    reserved: frozenset[int]
    plain_markers: bool


@functools.lru_cache(maxsize=8)
def _make_format(tokenizer: PreTrainedTokenizerBase, template: str | None) -> _PromptFormat:
    """The format of chat prompts, or without a template that of base prompts."""
    if template is None:
        start = tokenizer.bos_token_id
        begins = start is not None and start in tokenizer("").input_ids
        return _PromptFormat([[start] if begins else []], frozenset(tokenizer.all_special_ids), False)
    pieces = _llama3_pieces(tokenizer, template) or _template_pieces(tokenizer)
    ids = [tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=False) for piece in pieces]
    # Some tokenizers have runs of line ends among their added tokens; every text may hold those.
    control = {*tokenizer.all_special_ids, *(i for name, i in tokenizer.get_added_vocab().items() if name.strip())}
    reserved = set(tokenizer.all_special_ids) | control.intersection({token for piece in ids for token in piece})
    plain = tokenizer.decode([token for piece in ids for token in piece if token not in control])
    return _PromptFormat(ids, frozenset(reserved), bool(_CONTROL_TOKEN.search(str(plain))))


def _encode_text(text: str, tokenizer: PreTrainedTokenizerBase, reserved: frozenset[int]) -> list[int]:
    """The text's tokens; a space goes into what the tokenizer takes for a `reserved` token all the same."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if reserved.isdisjoint(ids):
        return ids
    for name in tokenizer.convert_ids_to_tokens(sorted(reserved.intersection(ids))):
        text = text.replace(name, f"{name[:1]} {name[1:]}")
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return [token for token in ids if token not in reserved]


def _default_start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that stands for an empty prompt."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise ModelError(
        f"The tokenizer of {tokenizer.name_or_path!r} has neither a start nor an end token, so it cannot begin with an "
        "empty prompt; give a prompt, or name another model."
    )


def _llama3_pieces(tokenizer: PreTrainedTokenizerBase, template: str) -> list[str]:
    """What stands before and after the user's text in Meta's format; nothing if this is another family's tokenizer.

    The family shows in its special tokens, not in a name: they are in the vocabulary, and the template writes them (a
    base model has no template, and others tuned Llama 3 to formats of their own).
    """
    added = tokenizer.get_added_vocab()
    if not all(name in added for name in _LLAMA3) or "<|start_header_id|>" not in template:
        return []
    user, assistant = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))
    return [f"<|begin_of_text|>{user}", f"<|eot_id|>{assistant}"]


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
