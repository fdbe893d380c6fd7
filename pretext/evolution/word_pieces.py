"""Replace word pieces in a text so that the rest keeps its spaces and capitals. Public.

Word pieces (BERT's tokens) lose both: decoded, "Don't (yet)" reads "don ' t ( yet )". So the tokens that stay are
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
    """Replace in the text every token of `old_tokens` that differs in `new_tokens`.

    Args:
        text: the text that was tokenized; whatever follows the last token is left out.
        spans: start and end of each token in the text; special tokens have an empty span and are skipped.
        old_tokens, new_tokens: the tokens before and after, as many as spans.
    """
    written, end, after_change = "", 0, False
    for (start, stop), old, new in zip(spans, old_tokens, new_tokens, strict=True):
        if start == stop:
            continue
        # The tokens of one decomposed character, such as a Hangul syllable, share its span: it is copied once.
        changed, original = old != new, text[max(start, end) : stop]
        piece = _match_case(new.removeprefix(_CONTINUES), original, written) if changed else original
        gap = text[end:start]
        written += (_space_before(gap, written, new, changed) if changed or after_change else gap) + piece
        end, after_change = stop, changed
    return written.strip()


def _space_before(gap: str, written: str, token: str, changed: bool) -> str:
    """The space before a token, where it or the token before it was replaced."""
    if token.startswith(_CONTINUES) or (changed and token in _CLOSING):
        return ""
    return gap or (" " if written[-1:].isalnum() and token[0].isalnum() else "")


def _match_case(piece: str, original: str, written: str) -> str:
    """Give the piece the capitals of the original; a single capital letter counts only at the start of a sentence."""
    if len(original) > 1 and original.isupper():
        return piece.upper()
    starts = not written or written[-1] in _ENDING
    return piece[:1].upper() + piece[1:] if original[:1].isupper() and (len(original) > 1 or starts) else piece
