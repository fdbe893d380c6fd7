"""The public features of a text."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.profile.features import MARKS, join_words, read_start, text_features, tokenize


def test_features__of_a_sentence__are_its_ngrams_and_marks() -> None:
    assert text_features("Is it?") == {
        *("Is", "it", "?", "<s> Is", "Is it", "it ?", "? </s>", "<s> Is it", "Is it ?", "it ? </s>"),
        *("#length 3", "#capital"),
    }


def test_features__case__tells_texts_apart() -> None:
    assert "#lower" in text_features("ok then") and "#open" in text_features("ok then")
    assert {"#upper", "#capital", "#exclamation"} <= text_features("STOP!")
    assert {"#digits", "#lines"} <= text_features("room 5\nat noon")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop", ["Don't", "stop"]),
        ("3.14 at example.com, ok", ["3.14", "at", "example.com", ",", "ok"]),
        ("我想去。", ["我", "想", "去", "。"]),
        ("รักคุณ", ["รั", "ก", "คุ", "ณ"]),
        ("コンピュータを", ["コンピュータ", "を"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("👩\u200d💻👍🏽", ["👩\u200d💻", "👍🏽"]),
    ],
)
def test_words__of_a_script__are_those_of_its_readers(text: str, words: list[str]) -> None:
    assert tokenize(text) == words
    assert join_words(tokenize(text)).replace(" ", "") == text.replace(" ", "")


def test_join__unspaced_script__puts_no_space() -> None:
    assert join_words(["我", "想", "ok", "go"]) == "我想 ok go"


@given(st.text())
def test_words__of_any_text__are_not_empty_and_hold_no_space(text: str) -> None:
    assert all(len(word.split()) == 1 and word == word.strip() for word in tokenize(text))


@given(st.text(alphabet="<s>/# length0$^ "))
def test_words__that_look_like_marks__are_no_marks(text: str) -> None:
    words = set(tokenize(text))
    assert not words & {"<s>", "</s>", *MARKS}
    assert len([feature for feature in text_features(text) if feature.startswith("#length ")]) == 1


def test_words__of_another_normal_form__are_the_same() -> None:
    text = "Één café in Łódź, 한국어"
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(unicodedata.normalize("NFC", text))


@given(st.text())
def test_start__of_any_feature__is_how_the_text_begins(text: str) -> None:
    words = tuple(tokenize(text))
    for feature in text_features(text):
        start = read_start(feature)
        assert start == words[: len(start)]


def test_start__of_what_is_no_start__is_empty() -> None:
    assert read_start("<s> I want") == ("I", "want")
    assert [read_start(feature) for feature in ("<s> “", "I want", "ok </s>", "<s> ok </s>", "#lower")] == [()] * 5


@pytest.mark.parametrize(
    "part", ["\u0315\u0300", "a", "a ", "\u0300", "🇩", "👩\u200d", "'", "\r\n", "我", "1,", "\ud800"]
)
def test_features__of_a_huge_text__take_linear_time(part: str) -> None:
    def seconds(times: int) -> float:
        start = time.process_time()
        text_features(part * times)
        return time.process_time() - start

    assert seconds(40_000) < 40 * seconds(4_000) + 1  # 100 times as long if it were quadratic
