"""Turn prompts into token ids, in the format that each model family was trained on.

A prompt's text is data: nothing in it is read as a control token.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretext.errors import ModelError
from pretext.prompts import HEADER, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Templates that print today's date print this one, so that a prompt does not depend on the day.
_TEMPLATE_DATE = "26 Jul 2024"
_PLACEHOLDER = "-pretext-prompt-text-"
# https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/
_LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_END_TOKENS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>")
# The opening bracket of anything that may be some model's control token; a space after it makes it plain text.
_CONTROL_TOKEN = re.compile(r"<(?=[|｜]|/?s>|(?:bos|eos|pad)>|(?:start|end)_of_turn>|<?/?SYS>)|\[(?=/?INST\])")


def escape_control_tokens(text: str) -> str:
    """Put a space inside anything that may be some model's control token, where its tokenizer is out of reach."""
    return _CONTROL_TOKEN.sub(r"\g<0> ", text)


def encode_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Encode a prompt as token ids, `prompt.text` with special tokens disabled; the result is never empty.

    A chat prompt takes Llama 3's format, or the tokenizer's template around a placeholder, so that `<|im_end|>` inside
    the text stays ten harmless characters.

    Raises:
        ModelError: the prompt is a chat prompt and the tokenizer has no template, or the prompt is empty and the
            tokenizer has no token to begin with.
    """
    prompt_format = _make_format(tokenizer, str(tokenizer.chat_template or "") if prompt.chat else None)
    text = escape_control_tokens(prompt.text) if prompt_format.plain_markers else prompt.text
    ids = _encode_text(text.strip() if prompt.chat else text, tokenizer, prompt_format.reserved)
    first, *rest = prompt_format.pieces
    if rest:
        return [*first, *(token for piece in rest for token in (*ids, *piece))]
    return [*first, *ids] or _choose_start_ids(tokenizer)


def encode_answer(answer: str, chat: bool, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Encode an answer and its end, as they follow the prompt that `encode_prompt` encodes.

    The end of a base answer is a blank line and the next header, where all engines stop; that of a chat answer is the
    token that the chat template writes after it. Nothing in the answer is read as a control token.

    Raises:
        ModelError: it answers a chat prompt, and the tokenizer has no template or no token that ends an answer.
    """
    if not chat:
        reserved = frozenset(tokenizer.all_special_ids)
        return _encode_text(f"{answer.strip()}\n\n{HEADER}", tokenizer, reserved)
    prompt_format = _make_format(tokenizer, str(tokenizer.chat_template or ""))
    text = escape_control_tokens(answer) if prompt_format.plain_markers else answer
    return [*_encode_text(text.strip(), tokenizer, prompt_format.reserved), _find_chat_end(tokenizer)]


def find_end_tokens(tokenizer: PreTrainedTokenizerBase, eos_token_id: int | Sequence[int] | None) -> list[int]:
    """Find the tokens that end an answer: the tokenizer's, those of the formats it knows, and the model's own.

    Args:
        tokenizer: the model's.
        eos_token_id: `eos_token_id` of the model's generation configuration.
    """
    added = tokenizer.get_added_vocab()
    known = [added[name] for name in _END_TOKENS if name in added]
    ends = {tokenizer.eos_token_id, *known, *([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or [])}
    return sorted(end for end in ends if end is not None)


@dataclass(frozen=True)
class _PromptFormat:
    """The tokens around the text, which may stand in several places.

    Attributes:
        pieces: token ids before the text, between two places of it, and after it.
        reserved: token ids that the text itself must not produce.
        plain_markers: whether the format marks turns with plain text, such as `[INST]` of the first Mistral models.
    """

    pieces: list[list[int]]
    reserved: frozenset[int]
    plain_markers: bool


@functools.lru_cache(maxsize=8)
def _make_format(tokenizer: PreTrainedTokenizerBase, template: str | None) -> _PromptFormat:
    """Make the format of chat prompts, or without a template that of base prompts."""
    if template is None:
        start = tokenizer.bos_token_id
        begins = start is not None and start in tokenizer("").input_ids
        return _PromptFormat([[start] if begins else []], frozenset(tokenizer.all_special_ids), False)
    pieces = _make_llama3_pieces(tokenizer, template) or _split_template(tokenizer)
    ids = [tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=False) for piece in pieces]
    # Some tokenizers have runs of newlines among their added tokens; any text may hold those.
    control = {*tokenizer.all_special_ids, *(i for name, i in tokenizer.get_added_vocab().items() if name.strip())}
    reserved = set(tokenizer.all_special_ids) | control.intersection({token for piece in ids for token in piece})
    plain = tokenizer.decode([token for piece in ids for token in piece if token not in control])
    return _PromptFormat(ids, frozenset(reserved), bool(_CONTROL_TOKEN.search(str(plain))))


def _encode_text(text: str, tokenizer: PreTrainedTokenizerBase, reserved: frozenset[int]) -> list[int]:
    """Encode the text; break up with a space what the tokenizer still takes for a `reserved` token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if reserved.isdisjoint(ids):
        return ids
    for name in tokenizer.convert_ids_to_tokens(sorted(reserved.intersection(ids))):
        text = text.replace(name, f"{name[:1]} {name[1:]}")
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return [token for token in ids if token not in reserved]


def _choose_start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Choose the token that stands for an empty prompt."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise ModelError(
        f"The tokenizer of {tokenizer.name_or_path!r} has neither a start nor an end token, so it cannot begin with an "
        "empty prompt; give a prompt, or name another model."
    )


def _make_llama3_pieces(tokenizer: PreTrainedTokenizerBase, template: str) -> list[str]:
    """Write what Meta's format puts before and after the user's text; nothing for a tokenizer of another family.

    Special tokens identify the family, not a name: they are in the vocabulary, and the template writes them. (A base
    model has no template, and others have tuned Llama 3 to formats of their own.)
    """
    added = tokenizer.get_added_vocab()
    if not all(name in added for name in _LLAMA3) or "<|start_header_id|>" not in template:
        return []
    user, assistant = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))
    return [f"<|begin_of_text|>{user}", f"<|eot_id|>{assistant}"]


def _split_template(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Split what the chat template writes around the user's text; no thinking aloud and, if possible, no date."""
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
            f"The chat template of {tokenizer.name_or_path!r} leaves out the user's message; use base prompts."
        )
    return pieces


def _find_chat_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """Find the token that ends an answer: the first end token behind it in the template, or the tokenizer's."""
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _PLACEHOLDER}]
    after = str(tokenizer.apply_chat_template(messages, tokenize=False)).rpartition(_PLACEHOLDER)[2]
    ends = find_end_tokens(tokenizer, None)
    written = tokenizer.encode(after, add_special_tokens=False, split_special_tokens=False)
    end = next((token for token in written if token in ends), tokenizer.eos_token_id)
    if end is None:
        raise ModelError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no token that ends an answer; use base prompts."
        )
    return int(end)
