"""Students learn what is planted, and are scored exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretext.errors import ModelError, UsageError
from pretext.evaluation.student import CausalStudent, Score, open_student, tiny_folder
from pretext.evaluation.tiny import save_student
from pretext.evaluation.training import make_batches, predict_tokens

pytestmark = pytest.mark.slow

PATTERN = [f"{first} {second} printer update" for first in ("boot", "disk", "mount") for second in ("sound", "network")]
OTHER = ["butter oven flower recipe", "recipe flower soup garden"]
ODD = [
    "",
    "x",
    "kernel",
    "half \ud83d a pair",
    "<start> a <end> b",
    "läuft 日本 soup",
    " \n two\n\n lines ",
    "word " * 200,
]


def _weights(student: CausalStudent) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in student.module.state_dict().items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _slow_score(student: CausalStudent, texts: list[str]) -> Score:
    """The twin: text by text, position by position, sorted logits, bytes by decoding."""
    nats, ranks, size = 0.0, [], 0
    for row in student.encode(texts):
        with torch.no_grad():
            laws = torch.log_softmax(student.module(torch.tensor([row])).logits[0].double(), 1)
        for position, token in enumerate(row[1:]):
            own = laws[position, token].item()
            nats -= own
            ranks.append(sum(value >= own for value in laws[position].tolist()))
        size += len(student.tokenizer.decode([token for token in row if token > 1]).encode())
    top1, top3, top5 = (sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 3, 5))
    return Score(top1, top3, top5, nats / len(ranks), nats / math.log(2) / size, len(ranks))


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary(student: CausalStudent) -> None:
    flat = student.with_weights({name: torch.zeros_like(value) for name, value in _weights(student).items()})
    score = flat.score(["kernel driver", "soup"])
    size = len(student.tokenizer)
    assert score.cross_entropy == pytest.approx(math.log(size), rel=1e-6)
    assert score.bits_per_byte == pytest.approx(score.tokens * math.log2(size) / len(b"kernel driversoup"), rel=1e-6)
    assert (score.top1, score.top3, score.top5) == (0, 0, 0)  # a guess among equals is no merit
    assert score.tokens == sum(len(row) - 1 for row in student.encode(["kernel driver", "soup"]))


def test_a_score_is_that_of_single_texts_without_batches(student: CausalStudent) -> None:
    trained = student.train(PATTERN, validation=[], seed=0)
    texts = [*PATTERN, *OTHER, *ODD]
    fast, slow = trained.score(texts), _slow_score(trained, texts)
    assert fast.tokens == slow.tokens
    assert fast.cross_entropy == pytest.approx(slow.cross_entropy, rel=1e-5)
    assert fast.bits_per_byte == pytest.approx(slow.bits_per_byte, rel=1e-5)
    assert (fast.top1, fast.top3, fast.top5) == pytest.approx((slow.top1, slow.top3, slow.top5), abs=2 / fast.tokens)
    assert 0 < fast.top1 < fast.top3 <= fast.top5 < 1


def test_a_text_ends_and_what_looks_like_an_end_is_text(student: CausalStudent) -> None:
    start, end = student.tokenizer.bos_token_id, student.tokenizer.eos_token_id
    for row, text in zip(student.encode(ODD), ODD, strict=True):
        assert row[0] == start
        assert {start, end}.isdisjoint(row[1:-1])
        assert len(row) <= student.longest
        assert (row[-1] == end) == (len(row) < student.longest), text


def test_a_student_learns_a_planted_pattern_and_nothing_else(student: CausalStudent) -> None:
    before, own = student.score(PATTERN), _weights(student)
    trained = student.train(PATTERN, validation=PATTERN, seed=0)
    after = trained.score(PATTERN)
    assert before.top1 < 0.3
    # The first word and the second cannot be known; the rest can.
    assert after.top1 > 0.7
    assert after.cross_entropy < 1 < before.cross_entropy
    assert trained.score(OTHER).top1 < 0.5
    assert _equal(own, _weights(student))


def test_the_same_seed_gives_the_same_student_and_another_one_another(student: CausalStudent) -> None:
    torch.manual_seed(5)
    first = student.train(PATTERN, validation=PATTERN[:2], seed=3, tokens=600)
    drawn = torch.rand(1)
    second = student.train(PATTERN, validation=PATTERN[:2], seed=3, tokens=600)
    assert _equal(_weights(first), _weights(second))
    assert not _equal(_weights(first), _weights(student.train(PATTERN, validation=PATTERN[:2], seed=4, tokens=600)))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))  # the global generator is left alone


def test_early_stopping_keeps_the_weights_that_were_best_on_the_validation_texts(student: CausalStudent) -> None:
    begun = student.train(OTHER, validation=[], seed=0, tokens=1000)
    stopped = begun.train(PATTERN, validation=OTHER, seed=0)
    on = begun.train(PATTERN, validation=[], seed=0)
    assert stopped.score(OTHER).cross_entropy <= begun.score(OTHER).cross_entropy
    assert on.score(OTHER).cross_entropy > 2 * begun.score(OTHER).cross_entropy


def test_adapters_learn_while_everything_keeps_its_place(student: CausalStudent) -> None:
    pytest.importorskip("peft")
    lora = replace(student, training=replace(student.training, lora_rank=4, rate=3e-2))
    trained = lora.train(PATTERN, validation=PATTERN, seed=0)
    assert trained.score(PATTERN).top1 > student.score(PATTERN).top1 + 0.3
    assert _weights(trained).keys() == _weights(student).keys()
    changed = {name for name, value in _weights(student).items() if not torch.equal(value, _weights(trained)[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_weights_can_be_put_into_a_copy(student: CausalStudent) -> None:
    trained = student.train(PATTERN, validation=[], seed=0, tokens=600)
    assert student.with_weights(trained.module.state_dict()).score(OTHER) == trained.score(OTHER)
    assert student.score(OTHER) != trained.score(OTHER)


def test_predictions_carry_a_gradient(student: CausalStudent) -> None:
    logits, targets = predict_tokens(student.module, student.encode(PATTERN))
    assert logits.shape == (len(targets), len(student.tokenizer))
    assert logits.requires_grad


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 100), st.integers(0, 9))
def test_batches_hold_every_row_once(lengths: list[int], tokens: int, seed: int) -> None:
    rows = [[number] * length for number, length in enumerate(lengths)]
    for rng in (None, np.random.default_rng(seed)):
        batches = list(make_batches(rows, tokens, rng))
        assert sorted(row for batch in batches for row in batch) == sorted(row for row in rows if len(row) > 1)
        assert all(len(batch) == 1 or len(batch) * max(map(len, batch)) <= tokens for batch in batches)


def test_nothing_to_learn_or_to_score_is_refused(student: CausalStudent) -> None:
    with pytest.raises(UsageError, match="at least one"):
        student.train([], validation=[], seed=0)
    with pytest.raises(UsageError, match="at least one"):
        student.score([])


def test_the_tiny_student_comes_out_of_its_folder_as_it_went_in(student: CausalStudent, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pretext student FILES"):
        open_student("tiny", cache=tmp_path)
    save_student(student, tiny_folder(tmp_path))
    save_student(student, tiny_folder(tmp_path))
    opened = open_student("tiny", cache=tmp_path, device="cpu", training=student.training)
    assert opened.score(ODD) == student.score(ODD)
    with pytest.raises(UsageError, match="abacus"):
        open_student("tiny", cache=tmp_path, device="abacus")
