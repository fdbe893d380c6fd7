"""Text in which some word pieces were replaced: what stays keeps its spaces and capitals. Public.

Word pieces (BERT's tokens) forget both: decoded, "Don't (yet)" reads "don ' t ( yet )". So the tokens that stay are
copied from the text they came from, and the new ones take over its spaces and capitals.
"""

from __future__ import annotations

from collections.abc import Sequence

_CONTINUES = "##"
_CLOSING = frozenset(".,;:!?)]}%")
_ENDING = frozenset(".!?")


def splice_word_pieces(
    text: str, spans: Sequence[tuple[int, int]], old_tokens: Sequence[str], new_tokens: Sequence[str]
) -> str:
    """The text with every token of `given` that differs in `now` replaced.

    Args:
        text: what was tokenized; the part behind the last token is left out.
        spans: start and end of each token in the text; special tokens have an empty one and are skipped.
        old_tokens, now: the tokens before and after, as many as spans.
    """
    written, end, touched = "", 0, False
    for (start, stop), old, new in zip(spans, old_tokens, new_tokens, strict=True):
        if start == stop:
            continue
        changed, there = old != new, text[start:stop]
        piece = _match_case(new.removeprefix(_CONTINUES), there, written) if changed else there
        gap = text[end:start]
        written += (_space_before(gap, written, new, changed) if changed or touched else gap) + piece
        end, touched = stop, changed
    return written.strip()


def _space_before(gap: str, written: str, token: str, changed: bool) -> str:
    """What stands before a token if it or the one before it has changed."""
    if token.startswith(_CONTINUES) or (changed and token in _CLOSING):
        return ""
    return gap or (" " if written[-1:].isalnum() and token[0].isalnum() else "")


def _match_case(piece: str, replaced: str, written: str) -> str:
    """The piece in the capitals of what it replaces; a lone capital counts only where a sentence starts."""
    if len(replaced) > 1 and replaced.isupper():
        return piece.upper()
    starts = not written or written[-1] in _ENDING
    return piece[:1].upper() + piece[1:] if replaced[:1].isupper() and (len(replaced) > 1 or starts) else piece
