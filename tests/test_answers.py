"""The text of a completion, and what shows that there is none."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.answers import extract_answer, find_leftover
from pretext.prompts import HEADER, PromptStyle

TEXT = "the printer stopped working before lunch"
ENDS = PromptStyle(chat=True).ends
HALF = chr(0xD83D)  # of a character outside the basic plane
THOUGHT = "Okay, the user wants one more.\n\nLet me think about a printer."


@pytest.mark.parametrize(
    "completion",
    [
        TEXT,
        f"  {TEXT} \n",
        f"{TEXT}\n\n{HEADER} 5\nanother",
        f"{TEXT}\r\n\r\nanother",
        f"{TEXT}\n\nLet me know if you would like another one!",
        # reasoning
        f"<think>\n{THOUGHT}\n</think>\n\n{TEXT}",
        f"<think>\n\n</think>\n\n{TEXT}",
        f"{THOUGHT}\n</think>\n\n{TEXT}",
        f"<thinking>{THOUGHT}</thinking>{TEXT}",
        f"<thought>\n{THOUGHT}\n</thought>\n{TEXT}",
        f"[THINK]{THOUGHT}[/THINK]{TEXT}",
        f"◁think▷{THOUGHT}◁/think▷{TEXT}",
        f"<seed:think>{THOUGHT}</seed:think>{TEXT}",
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{TEXT}<|END_RESPONSE|>",
        f"<|begin_of_thought|>\n\n{THOUGHT}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{TEXT}\n<|end_of_solution|>",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}<|return|>",
        f"analysis{THOUGHT}assistantfinal{TEXT}",
        f"<|channel>thought\n{THOUGHT}<channel|>{TEXT}",
        f"<unused94>thought\n{THOUGHT}<unused95>{TEXT}",
        f"<REASONING>{THOUGHT}</REASONING><CONCLUSION>{TEXT}</CONCLUSION>",
        f"<think>{THOUGHT}</think><answer>{TEXT}</answer>",
        f"Here is my thought process:\n{THOUGHT}\n\nHere is my response:\n{TEXT}",
        f"{TEXT}\n<think>Was that right? It should",
        f'<think type="deep">{THOUGHT}</think>{TEXT}',
        f"< think >{THOUGHT}</ think >{TEXT}",
        f"&lt;think&gt;{THOUGHT}&lt;/think&gt;{TEXT}",
        f"<inner_monologue>{THOUGHT}</inner_monologue>{TEXT}",
        f"Thinking Process:\n1. a printer\n2. lunch\n\nFinal Answer:\n{TEXT}",
        f"**Reasoning**\n{THOUGHT}\n\n**Answer**\n{TEXT}",
        # control tokens
        f"{TEXT}<|im_end|>",
        f"{TEXT}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nmore",
        f"{TEXT}</s><s>[INST] more",
        f"{TEXT}<end_of_turn>\n<start_of_turn>user",
        f"{TEXT}<｜end▁of▁sentence｜>",
        f"{TEXT}<|im_e",
        f"{TEXT}[EOS]",
        f"<s> {TEXT}",
        f"<|im_start|>assistant\n{TEXT}<|im_end|>\n<|im_start|>user\nmore",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}",
        f"<start_of_turn>model\n{TEXT}",
        # preambles
        f"Here is one more sample:\n\n{TEXT}",
        f"Sure! Here's another text on a subject of its own:\n{TEXT}",
        f"Of course. Here are the same words, rewritten:\n\n{TEXT}",
        f"Sure, here's one: {TEXT}",
        f"Certainly! Here you go: {TEXT}",
        f"Here is another sample: {TEXT}",
        f"Sure!\n\n{TEXT}",
        f"Certainly! Below is one more sample:\n\n{TEXT}",
        f"Here's one:\n\n{TEXT}",
        f"Here you go:\n{TEXT}",
        f"Of course. Here it is.\n\n{TEXT}",
        f"Gerne! Hier ist ein weiterer Text:\n\n{TEXT}",
        f"Voici un autre exemple :\n\n{TEXT}",
        f"当然，这是一个示例：\n\n{TEXT}",
        f"Assistant: {TEXT}",
        f"Final answer: {TEXT}",
        f"Answer:\n{TEXT}",
        f"Sure, I can help with that.\n\n{TEXT}",
        f"Sure! Here is one more sample:\n\n---\n\n{TEXT}\n\n---\n\nI hope this sample helps!",
        # headers
        f"{HEADER} 5\n{TEXT}",
        f"**{HEADER} 12:**\n{TEXT}",
        f"{HEADER} 5\n{HEADER} 6\n{TEXT}",
        f"**Sample 4**\n\n{TEXT}",
        f"### Sample 4:\n\n{TEXT}",
        f"{TEXT}\n\nSample 5:\nanother",
        f"Sample 4: {TEXT}",
        f"**Text:** {TEXT}",
        f"The same sample in other words:\n{TEXT}",
        # frames
        f'"{TEXT}"',
        f"“{TEXT}”",
        f"«{TEXT}»",
        f"„{TEXT}“",
        f"「{TEXT}」",
        f"`{TEXT}`",
        f'Here is a sample:\n"{TEXT}"',
        f"```\n{TEXT}\n```",
        f"```text\n{TEXT}\n```\nLet me know if you want another sample.",
        f"Here is one more sample:\n\n```\n{TEXT}",
        json.dumps({"text": TEXT}),
        json.dumps({"text": TEXT, "subject": "printers"}, indent=1),
        json.dumps([{"Original Text Sample 4": TEXT}]),
        json.dumps({"samples": [TEXT]}),
        f'{{"text": "{TEXT}',
        f'```json\n{{"text": "{TEXT}"}}\n```',
        # notes in the same paragraph
        f"{TEXT}. Let me know if you'd like another one!",
        f"{TEXT}! I hope this sample meets your needs.",
        f"{TEXT}.\n(Note: this is a fictional sample.)",
        f"{TEXT}.\n[End of sample]",
        f"{TEXT}.\n(12 words)",
        f"{TEXT}.\n### End",
        # half characters
        TEXT + HALF,
        f"{TEXT} \ufffd",
        f"\ufeff{TEXT}",
    ],
)
def test_extract_answer__whatever_stands_around_the_text__gives_the_text(completion: str) -> None:
    answer = extract_answer(completion, ENDS)
    assert answer is not None and answer.rstrip(".!") == TEXT and find_leftover(answer) is None


@pytest.mark.parametrize(
    "text",
    [
        "two\n\nparagraphs",
        "Here is what I did:\nI restarted it.",
        "Here's the plan: we sample the text: twice.",
        "sure, here is the text you asked me for, and nothing ends it",
        "Sample 5 of the rock was the heaviest.",
        "We took\nSample 5 and went on.",
        '"Yes," she said, "I do."',
        'He said "no"',
        '"',
        '""',
        "Okay, so I went home.\n\nThen it rained.",
        "I think <b>bold</b> is fine, and 1 < 2 > 0 [1] {x}.",
        "Please review the draft. Let me know if you have any questions.",
        "Note: the office is closed on Monday.",
        '{"level": "info", "code": 3}',
        "[2024-01-01] boot completed",
        "Ein Löffel Öl 🙂 und 中文 mit 👩‍👩‍👧.",
        "The user manual is missing, and the task is late.",
        "I need to buy milk before the shop closes.",
        "So, the users complained again.",
        "The user asked for a new printer and the request is still open.",
        "Let me think about it until Monday.",
        "We need to write to the landlord.",
        "My reasoning: it was late.",
        "Dear all:\n\nThe office is closed.",
        "Answer: yes, it was late.",
        "This was the end of the line",
        "Below is the old road, above it the new one.",
        "'Tis the season, and 'twas late",
    ],
)
def test_extract_answer__what_may_be_a_text__stays(text: str) -> None:
    assert extract_answer(text, (HEADER,)) == text and find_leftover(text) is None


@pytest.mark.parametrize(
    "completion", ["", "  \n", "Here is another sample of the same kind:", "<|im_end|>", "```\n```"]
)
def test_extract_answer__nothing_but_frames__is_empty(completion: str) -> None:
    assert extract_answer(completion, ENDS) == "" and extract_answer(None, ENDS) is None


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (f"<think>\n{THOUGHT}", "reasoning"),
        (THOUGHT, "reasoning"),
        ("Let me come up with an example about printers.", "reasoning"),
        ("Let me think about this step by step. A printer", "reasoning"),
        ("The user wants another text sample, so", "reasoning"),
        ("We need to write one more sample of the same kind.", "reasoning"),
        (f"<|channel|>analysis<|message|>{THOUGHT}", "reasoning"),
        (f"analysis{THOUGHT}", "reasoning"),
        (f"[THINK]{THOUGHT}", "reasoning"),
        (f"<think>{THOUGHT}</think> <think>{THOUGHT}", "reasoning"),
        ("the <unk> stopped working", "control token"),
        ("the [MASK] stopped working", "control token"),
        ("the pr\ufffdnter stopped working", "broken character"),
        (f"the pr{HALF}nter stopped working", "broken character"),
        ("the \x1b[31mprinter stopped working", "control character"),
        ("the printer\x00 stopped working", "control character"),
        ("the printer\x85 stopped working", "control character"),
    ],
)
def test_find_leftover__what_no_person_writes__is_named(completion: str, reason: str) -> None:
    answer = extract_answer(completion, ENDS)
    assert answer is not None and find_leftover(answer) == reason


@given(st.text(max_size=80), st.sampled_from(["", "<think>", '{"text": "', "```\n", "Sure! ", "Sample 4: "]))
def test_extract_answer__of_anything__can_be_written_down(text: str, before: str) -> None:
    answer = extract_answer(before + text + HALF, ENDS)
    assert answer is not None and answer.encode("utf-8", "strict") is not None


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "<|",
        "sample ",
        "Sure, here ",
        "\n\n",
        '{"text": "',
        "\\",
        "* ",
        "let me know if you want ",
        "[[",
        "a \n ---\n",
        " \n",
    ],
)
def test_extract_answer__of_a_long_answer__takes_time_in_proportion(piece: str) -> None:
    started = time.process_time()
    answer = extract_answer(f"a{piece * (2**20 // len(piece))}b", ())
    assert answer is not None and time.process_time() - started < 5
