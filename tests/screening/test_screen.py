from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config.resolve import resolve
from pretext.config.settings import Screening
from pretext.errors import UsageError
from pretext.prompts import HEADER, make_few_shot_prompt, make_rewrite_prompt
from pretext.screening.language import check_languages
from pretext.screening.screen import MAX_SCREENED_CHARACTERS, BloomFilter, Screen
from pretext.texts import count_words

RULES = Screening(min_words=2, max_words=5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no answer"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("one", "too short"),
        ("one two three four five six", "too long"),
        ("a " + "x" * MAX_SCREENED_CHARACTERS, "too long"),
        (f"well {HEADER} 3", "prompt leak"),
        (f"well {HEADER.upper()}", "prompt leak"),
        ("one two", None),
        ("one two three four five", None),
    ],
)
def test_each_reason_is_counted_once(text: str | None, reason: str | None) -> None:
    screen = Screen(RULES)
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
    for prompt in (make_few_shot_prompt(["some text"], "label", chat), make_rewrite_prompt("some text", None, chat)):
        screen = Screen(Screening(min_words=1, max_words=500))
        assert not screen.keep(prompt.text)
        assert dict(screen.dropped) == {"prompt leak": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lone \ud800 surrogate", "broken character"),
        ("<think> it over", "reasoning"),
        ("left over <|im_end|>", "control token"),
        ("a \x00 b", "control character"),
        ("I cannot help with that.", "refusal"),
    ],
)
def test_screen__what_is_no_text__is_counted_under_a_reason_of_its_own(text: str, reason: str) -> None:
    screen = Screen(RULES)
    assert not screen.keep(text) and dict(screen.dropped) == {reason: 1}


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=30))
def test_every_text_is_kept_or_counted(texts: list[str | None]) -> None:
    screen = Screen(RULES)
    passed = [text for text in texts if screen.keep(text)]
    assert len(passed) + sum(screen.dropped.values()) == len(texts)
    # Texts that pass are of the right length, and no two are the same.
    folded = [" ".join((text or "").casefold().split()) for text in passed]
    assert len(set(folded)) == len(folded)
    assert all(2 <= count_words(text or "") <= 5 for text in passed)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).encode(errors="replace").decode()


@settings(deadline=None)
@given(st.lists(st.text("aAbB \n\u00df\ud800", max_size=6), max_size=30))
def test_known_texts_are_those_of_a_plain_set(texts: list[str]) -> None:
    known, exact = BloomFilter(), set()
    for text in texts:
        assert known.add(text) == (_fold(text) not in exact)
        exact.add(_fold(text))


def test_new_texts_are_taken_for_known_as_rarely_as_promised() -> None:
    """A small filter takes new texts for known as often as the formula says, and never a known text for a new one."""
    bits, texts = 2**15, 6000
    known = BloomFilter(bits)
    mistakes = texts - sum(known.add(f"text {number}") for number in range(texts))
    assert not any(known.add(f"text {number}") for number in range(texts))
    promised = sum((1 - math.exp(-10 * number / bits)) ** 10 for number in range(texts))
    # Six standard deviations, and a tenth, as a text that is taken for known sets no bits: missed below 1e-6.
    assert abs(mistakes - promised) < 6 * math.sqrt(promised) + 0.1 * promised
    assert (1 - math.exp(-10 * 2e6 / 2**27)) ** 10 < 2.6e-9  # what the docstring promises
    assert (1 - math.exp(-10 * 4e6 / 2**27)) ** 10 < 1.3e-6


def test_the_memory_of_known_texts_does_not_grow() -> None:
    known = BloomFilter(2**16)
    before = sys.getsizeof(known._bits)
    for number in range(10_000):
        known.add(str(number))
    assert sys.getsizeof(known._bits) == before


def test_identifiers_are_reasons_of_their_own_and_can_be_let_through() -> None:
    texts = ["write to ann@posteo.de soon", "call 202-555-1234 or 301-496-5248", "nothing to see here"]
    screen = Screen(Screening())
    assert [screen.keep(text) for text in texts] == [False, False, True]
    assert dict(screen.dropped) == {"e-mail address": 1, "phone number": 1}
    assert all(map(Screen(Screening(identifiers=False)).keep, texts))


def test_the_paper_had_no_such_rule() -> None:
    assert not resolve(settings={"preset": "icml2024"}).screening.identifiers


def test_other_languages_are_dropped_only_on_request() -> None:
    texts = [
        "The committee will meet again in the morning to settle the matter.",
        "Der Ausschuss wird am Morgen noch einmal zusammenkommen und entscheiden.",
    ]
    assert all(map(Screen(Screening()).keep, texts))
    screen = Screen(Screening(languages=("de", "fr")))
    assert [screen.keep(text) for text in texts] == [False, True]
    assert dict(screen.dropped) == {"other language": 1}


def test_an_unknown_language_is_refused_before_anything_is_screened() -> None:
    with pytest.raises(UsageError, match="'english'; name languages in two letters"):
        check_languages(["de", "english"])


def test_an_unknown_region_is_refused_with_the_settings() -> None:
    with pytest.raises(UsageError, match="'Kent'; name a"):
        resolve(overrides=["screening.phone_region='Kent'"], settings={"preset": "icml2024"})
