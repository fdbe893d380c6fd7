"""Extract the text from what a generator wrote, and find what makes it no text. Public post-processing.

Around the text may stand reasoning, control tokens, a preamble, a header, a frame and a note. They are taken off in
this order, and only then does the text end at a stop string: taken earlier, a stop would end an answer before it has
begun. Whatever is not plainly one of them stays.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_FLAGS = re.IGNORECASE | re.MULTILINE
_MAX_LAYERS = 8  # a preamble, a header, a frame, a header in it, ...

# Reasoning, in the frames of DeepSeek and Qwen, Mistral, Kimi, Seed, Cohere, Sky-T1, LLaVA-CoT, gpt-oss and Granite.
_THOUGHT = (
    r"(?:\w+:)?(?:think(?:ing)?|thoughts?|thought_process|reason(?:ing)?|reflection|analysis|scratchpad|inner_monologue"
    r"|chain_of_thought|cot)"
)
_OPEN, _CLOSE = r"(?:[<◁]|&lt;)\s?\|?", r"(?:\s[^<>\n]{0,60})?\|?(?:[>▷]|&gt;)"
_REASONING_START = re.compile(
    rf"{_OPEN}(?:begin_of_|start_)?{_THOUGHT}{_CLOSE}|\[THINK\]|<unused94>|<\|channel\|?>\s*(?!final)\w+"
    r"|\Aanalysis(?=[A-Z])|\A[\s*_#]*(?:thinking|reasoning|thought process|thinking process)[*_ ]*:"
    r"|\A(?:\*\*|#{1,6} )(?:thinking|reasoning|thoughts?|thought process|thinking process)(?:\*\*)?[ \t]*\n"
    r"|\Ahere(?:'s|’s| is) my (?:thought process|thinking|reasoning)\b",
    re.IGNORECASE,
)
_REASONING_END = re.compile(
    rf"{_OPEN}(?:/\s?|end_of_|end_){_THOUGHT}{_CLOSE}|\[/THINK\]|<unused95>|<channel\|>"
    r"|<\|channel\|>\s*final\b[^<\n]*<\|message\|>",
    re.IGNORECASE,
)
_BARE_REASONING_END = re.compile(  # where the reasoning began with a word and not with a token
    r"assistantfinal|^[ *_#]{0,9}(?:here is my |my )?(?:final )?(?:answer|response|text|output)[*_ ]*:[*_ ]*"
    r"|^[*_#][ *_#]{0,8}(?:final )?(?:answer|response|text|output)[*_ ]*$",
    _FLAGS,
)
_HESITATION = r"(?:okay|ok|alright|hmm|so|well|first|now)\b[, .]*"
_THINKING_ALOUD = re.compile(
    rf"\A(?:(?:{_HESITATION}){{1,3}}the user(?:['’]s\b| (?:wants?|is|asks?|asked|needs?|has|gave|says?|said)\b)"
    rf"|(?:{_HESITATION}){{0,3}}(?:the user\b|(?:i|we) (?:need|have|want) to (?:write|create|come up|generate|make)\b"
    r"|(?:i|we)(?:'m|’m|'re|’re| am| are) (?:being )?(?:asked|tasked)\b"
    r"|(?:let me|let's|let’s) (?:think|come up|craft|write|try)\b"
    r"|the (?:task|request|prompt|instructions?) (?:is|are|asks?|says?|wants?)\b)"
    r"[^\n]{0,80}\b(?:step by step|samples?|examples?|one more|the user|rewrite|rephrase|in other words"
    r"|of the same kind)\b)",
    re.IGNORECASE,
)

# Control tokens. One that a token limit cut short ends the text too.
_CONTROL_TOKEN = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]?>|<[^<>|｜\s]{1,40}[|｜]>|<[|｜][\w▁]*\Z|</?s>|<(?:bos|eos|pad|eot|eom|unused\d+)>"
    r"|<(?:start|end)_of_(?:turn|text|utterance)>|<</?SYS>>|\[/?INST\]|\[(?:EOS|BOS)\]"
)
_OPENING_TOKENS = re.compile(rf"\A(?:\s*(?:{_CONTROL_TOKEN.pattern})(?:(?:assistant|model)\b)?)+\s*")
_PLACEHOLDER_TOKEN = re.compile(r"<(?:unk|mask)>|\[(?:UNK|MASK|CLS|SEP|PAD)\]")

# What chat models write before the text although we ask for the text only.
_YES = r"(?:sure|certainly|of course|absolutely|okay|ok|alright|great|gladly|yes|no problem)\b(?: thing)?"
_HERE = r"\b(?:here(?:'s|’s| is| are| you go)|below (?:is|are)|the following is)(?!\w)"
_NOUN = r"\b(?:one|samples?|texts?|examples?|versions?|rewrites?|rewritten|in other words)\b"
_PREAMBLES = re.compile(
    rf"\A(?:{_YES}[^\n:]{{0,60}}{_HERE}[^\n:]{{0,80}}:"
    rf"|(?:{_YES}[^\n:]{{0,30}})?{_HERE}[^\n:]{{0,80}}{_NOUN}[^\n:]{{0,40}}:[ \t]*(?:\n|\Z)"
    rf"|{_HERE}[^\n:]{{0,60}}\b(?:sample|text|version|rewrite)\b[^\n:]{{0,40}}:"
    r"|here you go\b[^\n:]{0,40}[:.!]?[ \t]*\n"
    # A line that ends in a colon announces what follows the blank line, in any language.
    r"|(?!dear\b|hi\b|hello\b)[^\n]{1,120}[:：][ \t]*\n[ \t]*\n"
    r"|(?:assistant|final answer|generated text|output)[*_ \t]*:[*_ \t]*(?=\S)|answer[*_ \t]*:[*_ \t]*\n"
    rf"|{_YES}[!.,]*(?:[ ,]+(?:i\b|i['’]|here\b|let me|happy|glad|one more|another)[^\n]{{0,120}})?[ \t]*\n\s*\n"
    r"|(?:assistant|model)[ \t]*:?[ \t]*\n"
    r"|[-*_=]{3,}[ \t]*\n)",
    re.IGNORECASE,
)
_HEADER = (
    r"[*#_ \t]*(?:the )?(?:new |another |same |original |rewritten |final )*(?:text )?(?:sample|text|version)"
    r"(?: text)?(?: in other words)?"
)
_FIRST_HEADER = re.compile(
    rf"\A{_HEADER}(?:[ \t]*\d+)?(?:[*_ \t]*:[*_ \t]*|[*_. \t]*(?=\n|\Z))|\A{_HEADER} \d+ ?[-–.)] ", re.IGNORECASE
)
_NEXT_HEADER = re.compile(r"^[*#_ \t]*(?:original )?(?:text )?sample \d+[*:._ \t]*$", _FLAGS)
_FENCE = re.compile(r"\A(`{3,}|~{3,})[\w+-]*[ \t]*\n(.*?)(?:(?<=\n)\1.*|\Z)", re.DOTALL)
_ELEMENT = re.compile(
    r"\A<(answer|text|sample|output|response|result|final|solution|conclusion|example)>(.*?)(?:</\1>.*|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_JSON_KEY = re.compile(r"(?:\w+[ _])*(?:text|sample|answer|output|response|example)(?:[ _]\d+)?", re.IGNORECASE)
_CUT_JSON = re.compile(
    rf'\A[\[\s]*\{{\s*"{_JSON_KEY.pattern}"\s*:\s*"((?:[^"\\]|\\.)*)\\?\Z', re.IGNORECASE | re.DOTALL
)
_QUOTED = re.compile(r"\A(?:\"[^\"]+\"|“[^“”]+”|„[^„“”]+[“”]|«[^«»]+»|‘[^‘’]+’|`[^`]+`|「[^「」]+」|『[^『』]+』)\Z")

# And what they write after it.
_CLOSING_NOTE = re.compile(
    r"(?:^|(?<=[.!?\"”)\]\n]))[ \t(\[*_#]*(?:let me know if (?:you(?:['’]d| would| want| need)|this|that)[^\n]{0,60}"
    r"\b(?:another|more|one|different|changes?|adjust\w*|samples?|texts?|versions?|works?)\b"
    r"|i hope (?:this|that|the)\b[^\n]{0,30}\b(?:sample|text|version|helps|meets|works)\b"
    r"|(?:would you like|do you want|if you(?:['’]d| would) like)\b[^\n]{0,40}"
    r"\b(?:another|more|different|samples?|texts?)\b"
    r"|(?:please )?note:? (?:that )?(?:this|the|i)\b[^\n]{0,60}\b(?:sample|text|version|request|fictional|names)\b"
    r"|note:? fictional\b|end of (?:the )?(?:sample|text|example|output|response)\b|(?<=# )end(?=\s*\Z)|\d+ words\)"
    r"|word count:? \d|feel free to ask for (?:more|another)\b)"
    r"[^\n]{0,200}\s*\Z",
    re.IGNORECASE,
)
_SEPARATOR_AT_END = re.compile(r"\n[ \t]{0,9}[-*_=]{3,}\s*\Z")


def extract_answer(completion: str | None, ends: Sequence[str]) -> str | None:
    """Extract the text of a completion; None stays None, and nothing but frames gives an empty text.

    Reasoning that never ends, and what no person writes, is left in for `find_leftover`.

    Args:
        completion: what the generator wrote.
        ends: strings of which the first one ends the text.
    """
    if completion is None:
        return None
    text = _cut_control_tokens(_remove_reasoning(_repair_characters(completion)))
    for _ in range(_MAX_LAYERS):
        text, before = _remove_layer(text), text
        if text == before:
            break
    text = text[: min((place for end in ends if (place := text.find(end)) >= 0), default=len(text))]
    text = _NEXT_HEADER.split(text)[0].strip()
    text = _SEPARATOR_AT_END.sub("", _CLOSING_NOTE.sub("", text).strip())
    return _unquote(text).rstrip("\ufffd").strip()


def find_leftover(text: str) -> str | None:
    """Find what shows that an extracted text is none, as a reason to drop it; None if nothing does."""
    if _REASONING_START.search(text) or _REASONING_END.search(text) or _THINKING_ALOUD.match(text):
        return "reasoning"
    if _CONTROL_TOKEN.search(text) or _PLACEHOLDER_TOKEN.search(text):
        return "control token"
    if any(character == "\ufffd" or "\ud800" <= character <= "\udfff" for character in text):
        return "broken character"
    if any(unicodedata.category(character) == "Cc" and character not in "\t\n\r" for character in text):
        return "control character"
    return None


def _repair_characters(text: str) -> str:
    """Join surrogate pairs, replace halves of them by U+FFFD, and write every line end as a newline."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff \n\t")


def _remove_reasoning(text: str) -> str:
    """Return what follows the reasoning, or what stands before reasoning that does not end."""
    ends = list(_REASONING_END.finditer(text))
    if not ends and _REASONING_START.match(text):
        ends = list(_BARE_REASONING_END.finditer(text))[:1]
    answer = text[ends[-1].end() :] if ends else text
    start = _REASONING_START.search(answer)
    return answer[: start.start()] if start and answer[: start.start()].strip() else answer


def _cut_control_tokens(text: str) -> str:
    """Remove the tokens that open an answer, and end the text at the first other one."""
    if _REASONING_START.match(text):
        return text
    text = _OPENING_TOKENS.sub("", text)
    token = _CONTROL_TOKEN.search(text)
    return text[: token.start()] if token else text


def _remove_layer(text: str) -> str:
    """Remove one preamble, header or frame."""
    text = _FIRST_HEADER.sub("", _PREAMBLES.sub("", text.strip()).strip()).strip()
    for frame in (_FENCE, _ELEMENT):
        if match := frame.match(text):
            return match[2].strip()
    return _unquote(_unwrap_json(text))


def _unwrap_json(text: str) -> str:
    """Return the text in a JSON object or list that holds one text, also if a token limit cut its end off."""
    if not text.startswith(("{", "[")):
        return text
    cut = _CUT_JSON.match(text)
    try:
        value: Any = json.loads(f'"{cut[1]}"' if cut else text, strict=False)
    except (ValueError, RecursionError):
        return text
    while isinstance(value, list | dict) and value:
        fields = value if isinstance(value, dict) else dict(enumerate(value))
        texts = [field for name, field in fields.items() if len(fields) == 1 or _JSON_KEY.fullmatch(str(name))]
        value = texts[0] if len(texts) == 1 else None
    return value if isinstance(value, str) else text


def _unquote(text: str) -> str:
    return text[1:-1].strip() if _QUOTED.match(text) else text
