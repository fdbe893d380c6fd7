"""Word pieces are replaced in a text whose other parts keep their spaces and capitals."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pretext.evolution.word_pieces import splice_word_pieces


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from pretext.models.sources import EMBEDDED, resolve_embedder

    return AutoTokenizer.from_pretrained(resolve_embedder(EMBEDDED))


def replace_tokens(tokenizer: Any, text: str, **replacements: str) -> str:
    """Replace the first token of each name by its value."""
    encoded = tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
    old_tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    new_tokens = list(old_tokens)
    for old, new in replacements.items():
        new_tokens[old_tokens.index(old)] = new
    return splice_word_pieces(text, encoded["offset_mapping"], old_tokens, new_tokens)


TEXT = "I don't know, it's (maybe) 5.10 ... \"Really\"? See http://a.b/c_d  now"


def test_what_stays_is_copied(tokenizer: Any) -> None:
    assert replace_tokens(tokenizer, TEXT) == TEXT
    assert replace_tokens(tokenizer, TEXT, know="care") == TEXT.replace("know", "care")


@settings(deadline=None)
@given(text=st.text(max_size=40))
@example(text="a \N{HANGUL SYLLABLE MIL} b")
def test_a_text_without_changes_is_a_part_of_itself(tokenizer: Any, text: str) -> None:
    # Characters that no token stands for may be left out at the ends alone.
    assert replace_tokens(tokenizer, text) in text


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("Who knows it", "knows", "asks", "Who asks it"),
        ("Who knows it", "knows", "##s", "Whos it"),
        ("playfulness wins", "playful", "the", "theness wins"),
        ("playfulness wins", "##ness", "##ly", "playfully wins"),
        ("playfulness wins", "##ness", "and", "playful and wins"),
        ("red, blue", ",", "and", "red and blue"),
        ("red and blue", "and", ",", "red, blue"),
        ("red-blue", "-", "or", "red or blue"),
        ("a red one", "red", "-", "a - one"),
        ("Toronto is big", "toronto", "paris", "Paris is big"),
        ("USA wins", "usa", "he", "HE wins"),
        ("I said so", "i", "we", "We said so"),
        ("So I said", "i", "we", "So we said"),
        ("Stop. I said", "i", "we", "Stop. We said"),
    ],
)
def test_spaces_and_capitals(tokenizer: Any, text: str, old: str, new: str, expected: str) -> None:
    assert replace_tokens(tokenizer, text, **{old: new}) == expected


def test_what_is_cut_off_is_left_out() -> None:
    spans, old_tokens, new_tokens = (
        [(0, 0), (0, 3), (4, 7), (0, 0)],
        ["[CLS]", "one", "two", "[SEP]"],
        ["[CLS]", "one", "ten", "[SEP]"],
    )
    assert splice_word_pieces("one two three", spans, old_tokens, new_tokens) == "one ten"


def test_splice__many_replacements__has_the_letters_of_the_new_tokens(tokenizer: Any) -> None:
    encoded = tokenizer(TEXT, return_offsets_mapping=True, add_special_tokens=False)
    spans, old_tokens = encoded["offset_mapping"], tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    new_tokens = [token if number % 3 else "word" for number, token in enumerate(old_tokens)]
    letters = re.sub(r"\s", "", splice_word_pieces(TEXT, spans, old_tokens, new_tokens)).lower()
    assert letters == "".join(token.removeprefix("##") for token in new_tokens)
