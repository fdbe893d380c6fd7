from __future__ import annotations

import pytest

from pretext.prompts import HEADER, Prompt, answer, described, few_shot, leaks, rewrite

# ALGORITHM.md, section 3: the published prompt for three seeds.
PUBLISHED = """\
List of 6 diverse original text samples:

Original Text Sample 1
first seed

Original Text Sample 2
second seed

Original Text Sample 3
third seed

Original Text Sample 4
"""


def test_the_published_few_shot_prompt() -> None:
    prompt = few_shot(["first seed", "second seed", "third seed"], None, chat=False)
    assert prompt == Prompt(PUBLISHED, chat=False)


def test_a_label_is_told() -> None:
    assert few_shot(["a"], "jobs", chat=False).text.startswith("List of 2 diverse original text samples (jobs):\n")
    assert " (jobs)." in few_shot(["a"], "jobs", chat=True).text
    assert " (jobs)" in rewrite("a", "jobs", chat=True).text and " (jobs)" in rewrite("a", "jobs", chat=False).text


def test_the_chat_form_asks() -> None:
    prompt = few_shot(["first", "second"], None, chat=True)
    request, *samples = prompt.text.split("\n\n")
    assert prompt.chat and "Write one more" in request and "Answer with the text only." in request
    assert samples == [f"{HEADER} 1\nfirst", f"{HEADER} 2\nsecond"]


def test_no_examples_is_still_a_prompt() -> None:
    assert few_shot([], None, chat=False).text.endswith(f"{HEADER} 1\n")


def test_rewrite() -> None:
    base, chat = rewrite("my text", None, chat=False), rewrite("my text", None, chat=True)
    assert base.text == f"{HEADER} 1\nmy text\n\nThe same sample in other words\n" and not base.chat
    assert chat.chat and chat.text.endswith("Answer with the text only.\n\nmy text")


def test_described() -> None:
    base, chat = described("Notes on gardens.", chat=False), described("Notes on gardens.", chat=True)
    assert base.text == f"Notes on gardens.\n\nList of 6 diverse original text samples:\n\n{HEADER} 1\n"
    assert chat.chat and chat.text.startswith("Notes on gardens.\n\nWrite one such text.")


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        (None, None),
        ("", ""),
        ("  a text \n", "a text"),
        (f"a text\n\n{HEADER} 5\nanother", "a text"),
        (f"{HEADER} 5\nanother", ""),
        ("two\n\nparagraphs", "two\n\nparagraphs"),
    ],
)
def test_an_answer_ends_at_the_next_header(completion: str | None, text: str | None) -> None:
    assert answer(completion) == text


@pytest.mark.parametrize("text", [f"x {HEADER} 1", "Diverse ORIGINAL text samples", "Answer with the text only"])
def test_pieces_of_prompts_are_leaks(text: str) -> None:
    assert leaks(text) and not leaks("An original text about samples.")
