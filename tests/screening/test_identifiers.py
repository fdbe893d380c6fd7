"""Find each kind of identifier, and pass what only looks like one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from pretext.screening.identifiers import find_identifiers

FOUND = {
    "e-mail address": ["mail ann.b+c@posteo.de, please", "<ann@mail.co.uk>", "ann@notexample.org", "jörg@web.de"],
    "personal web address": [
        "see https://ann:secret@host.org/x",
        "http://host.edu/~ann/notes",
        "https://social.org/@ann",
        "www.forum.net/users/ann",
        "https://linkedin.com/in/ann-b",
        "twitter.com/annb",
    ],
    "IP address": ["from 8.8.4.4.", "host 140.82.121.4:443 is down", "at 2001:4860:4860::8888 now"],
    "card number": ["4111 1111 1111 1111", "card 5555-5555-5555-4444.", "378282246310005"],
    "account number": ["IBAN GB82 WEST 1234 5698 7654 32", "to DE89370400440532013000."],
    "social security number": ["ssn 536-90-4399 ok"],
    "phone number": ["call 301-496-5248", "(202) 456-1111", "+44 20 7946 0958", "ring 1-800-232-4636 today"],
}
PASS = [
    "ann@example.com and bob@mail.example and @rails and a @ b.c",
    "https://github.com/rails/rails/pull/1234 and http://host.org/in/",
    "localhost 127.0.0.1, 192.168.1.20, 10.0.0.1, version 1.2.3.4.5, 999.1.1.1, 255.255.255.0",
    "std::vector, A::B, 12:30:45, 2001:db8::1, ::1",
    "order 4111 1111 1111 1112 and 1234567890123456 and 0000 0000 0000 0000",
    "GB82 WEST 1234 5698 7654 33 and AB12 CDEF",
    "000-12-3456 and 666-12-3456 and 12-34-5678",
    "2004-10-20 14:30, 10.1016/j.cell.2020.01.001, ISBN 978-3-16-148410-0, 1,234,567.89, 2010-2015, 20041020",
    "",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_each_kind_is_found(kind: str, text: str) -> None:
    assert kind in list(find_identifiers(text, "US"))


@pytest.mark.parametrize("text", PASS)
def test_what_only_looks_like_one_passes(text: str) -> None:
    assert list(find_identifiers(text, "US")) == []


def test_the_region_tells_which_numbers_ring() -> None:
    assert "phone number" in list(find_identifiers("call 020 7946 0958", "GB"))
    assert list(find_identifiers("call 020 7946 0958", "US")) == []


@given(st.integers(10**14, 10**15 - 1), st.sampled_from(["", " ", "-"]))
def test_every_card_number_is_found_and_no_other_last_digit(stem: int, between: str) -> None:
    digits = f"4{stem}"
    for last in "0123456789":
        number = digits[:15] + last
        formatted = between.join(number[start : start + 4] for start in range(0, 16, 4))
        assert ("card number" in list(find_identifiers(f"pay {formatted} now", "US"))) == luhn.is_valid(number)


@pytest.mark.slow
@given(st.text(max_size=80))
def test_no_text_makes_it_fall_over(text: str) -> None:
    assert len(list(find_identifiers(text, "US"))) <= len(FOUND)


@pytest.mark.parametrize(
    "piece", ["http://", "www./", "www.a/", "a+.-", "a@a.", "a.", "@a.", "http://a:", "1(", "AB12 "]
)
def test_find_identifiers__of_a_text_made_against_patterns__takes_linear_time(piece: str) -> None:
    # A quadratic pattern takes minutes for a million characters.
    started = time.process_time()
    list(find_identifiers((piece * 300_000)[:300_000], "US"))
    assert time.process_time() - started < 10
