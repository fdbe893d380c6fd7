from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pretext.formatting import escape_markdown, quote_path


@pytest.mark.parametrize("name", ["<b>x</b>", "a\n# b", "[x](http://y)", "a|b", "`x`", "a\u202eb", "a\x1b[31mb"])
def test_escape_markdown__of_an_odd_name__leaves_no_markup(name: str) -> None:
    escaped = escape_markdown(name)
    assert not {"<", "\n", "\u202e", "\x1b"} & set(escaped)
    assert all(escaped[place - 1] == "\\" for place, letter in enumerate(escaped) if letter in "[]|`*")


def test_escape_markdown__of_a_plain_name__is_that_name() -> None:
    assert escape_markdown("my notes_2-a.b (é)") == "my notes_2-a.b (é)"


@pytest.mark.parametrize("name", ["a b", "x; touch pwned", "$(touch pwned)", "-rf", "a'b"])
def test_quote_path__of_an_odd_name__is_one_word_and_no_option(name: str) -> None:
    (word,) = shlex.split(quote_path(Path(name)))
    assert Path(word) == Path(name)
    assert not word.startswith("-")
