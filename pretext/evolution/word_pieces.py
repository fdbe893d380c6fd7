"""Text in which some word pieces were replaced: what stays keeps its spaces and capitals. Public.

Word pieces (BERT's tokens) forget both: decoded, "Don't (yet)" reads "don ' t ( yet )". So the tokens that stay are
copied from the text they came from, and the new ones take over its spaces and capitals.
"""

from __future__ import annotations

from collections.abc import Sequence

_CONTINUES = "##"
_CLOSING = frozenset(".,;:!?)]}%")
_ENDING = frozenset(".!?")


def spliced(text: str, spans: Sequence[tuple[int, int]], given: Sequence[str], now: Sequence[str]) -> str:
    """The text with every token of `given` that differs in `now` replaced.

    Args:
        text: what was tokenised; the part behind the last token is left out.
        spans: start and end of each token in the text; special tokens have an empty one and are skipped.
        given, now: the tokens before and after, as many as spans.
    """
    written, end, touched = "", 0, False
    for (start, stop), old, new in zip(spans, given, now, strict=True):
        if start == stop:
            continue
        changed, there = old != new, text[start:stop]
        piece = _cased(new.removeprefix(_CONTINUES), there, written) if changed else there
        gap = text[end:start]
        written += (_gap(gap, written, new, changed) if changed or touched else gap) + piece
        end, touched = stop, changed
    return written.strip()


def _gap(gap: str, before: str, token: str, changed: bool) -> str:
    """What stands before a token if it or the one before it has changed."""
    if token.startswith(_CONTINUES) or (changed and token in _CLOSING):
        return ""
    return gap or (" " if before[-1:].isalnum() and token[0].isalnum() else "")


def _cased(piece: str, there: str, before: str) -> str:
    """The piece in the capitals of what it replaces; a lone capital counts only where a sentence starts."""
    if len(there) > 1 and there.isupper():
        return piece.upper()
    starts = not before or before[-1] in _ENDING
    return piece[:1].upper() + piece[1:] if there[:1].isupper() and (len(there) > 1 or starts) else piece
