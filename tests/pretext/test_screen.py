from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config import Screening
from pretext.prompts import HEADER, few_shot, rewrite
from pretext.screen import LONGEST_TEXT, Screen

RULES = Screening(min_words=2, max_words=5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no answer"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("one", "too short"),
        ("one two three four five six", "too long"),
        ("a " + "x" * LONGEST_TEXT, "too long"),
        (f"well {HEADER} 3", "prompt leak"),
        (f"well {HEADER.upper()}", "prompt leak"),
        ("one two", None),
        ("one two three four five", None),
    ],
)
def test_each_reason_is_counted_once(text: str | None, reason: str | None) -> None:
    screen = Screen(RULES)
    assert screen.reason(text) == reason
    assert not screen.dropped  # asking alone counts nothing
    assert screen.keep(text) is (reason is None)
    assert dict(screen.dropped) == ({} if reason is None else {reason: 1})


def test_a_text_that_was_kept_or_known_is_a_duplicate() -> None:
    screen = Screen(RULES, known=["Old  Text"])
    assert [screen.keep(text) for text in ("old text", "new text", " NEW\ntext ", "newtext yes")] == [
        False,
        True,
        False,
        True,
    ]
    assert dict(screen.dropped) == {"duplicate": 2}


def test_a_dropped_text_is_not_remembered() -> None:
    screen = Screen(RULES)
    assert not screen.keep("short") and not screen.keep("short")
    assert dict(screen.dropped) == {"too short": 2}


@pytest.mark.parametrize("chat", [True, False])
def test_no_answer_may_hold_a_piece_of_our_prompts(chat: bool) -> None:
    for prompt in (few_shot(["some text"], "label", chat), rewrite("some text", None, chat)):
        assert Screen(Screening(min_words=1, max_words=500)).reason(prompt.text) == "prompt leak"


def test_half_a_character_is_no_reason_to_fall_over() -> None:
    screen = Screen(RULES)
    assert screen.keep("lone \ud800 surrogate") and not screen.keep("LONE \ud800 surrogate")


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=30))
def test_every_text_is_kept_or_counted(texts: list[str | None]) -> None:
    screen = Screen(RULES)
    kept = [text for text in texts if screen.keep(text)]
    assert len(kept) + sum(screen.dropped.values()) == len(texts)
    # What is kept is of the right length and each text is one of its own.
    folded = [" ".join((text or "").casefold().split()) for text in kept]
    assert len(set(folded)) == len(folded)
    assert all(2 <= len((text or "").split()) <= 5 for text in kept)
