"""Who trains and who tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparison.domains import DOMAINS, domain_of
from comparison.sets import read_set

from pretext.errors import UsageError
from tests.support.runs import write_rows


def rows(clients: int, texts: int = 3) -> list[dict[str, str]]:
    return [{"client_id": f"c{i}", "text": f"text {j} of client {i}"} for i in range(clients) for j in range(texts)]


def test_nobody_trains_and_tests_and_most_train(tmp_path: Path) -> None:
    private = read_set(write_rows(tmp_path / "letters.jsonl", rows(1000)), 1000, 3)
    training = {text.split()[-1] for texts in private.training for text in texts}
    test = {text.split()[-1] for text in private.test}
    assert private.name == "letters"
    assert training.isdisjoint(test)
    assert 740 < len(training) < 860  # false alarm below 1e-5: standard deviation 13; a hash, so always the same
    assert 60 < len(test) < 150


def test_caps_choose_the_same_whatever_the_order(tmp_path: Path) -> None:
    records = rows(100, 5)
    forward = read_set(write_rows(tmp_path / "a.jsonl", records), 60, 2)
    backward = read_set(write_rows(tmp_path / "b.jsonl", records[::-1]), 60, 2)
    assert (forward.training, forward.test) == (backward.training, backward.test)
    assert all(len(texts) == 2 for texts in forward.training)
    assert len(forward.training) + len(forward.test) / 2 <= 60


def test_a_cap_takes_some_of_the_same_clients(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", rows(200))
    few, many = read_set(path, 50, 3), read_set(path, 200, 3)
    assert set(map(tuple, few.training)) <= set(map(tuple, many.training))
    assert set(few.test) <= set(many.test)


def test_rows_name_each_client_once(tmp_path: Path) -> None:
    private = read_set(write_rows(tmp_path / "a.jsonl", rows(50)), 50, 3)
    assert [row["text"] for row in private.rows] == [text for texts in private.training for text in texts]
    assert len({row["client_id"] for row in private.rows}) == len(private.training)


def test_the_repr_holds_no_text(tmp_path: Path) -> None:
    assert "client" not in repr(read_set(write_rows(tmp_path / "a.jsonl", rows(50)), 50, 3))


def test_too_few_clients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too few clients"):
        read_set(write_rows(tmp_path / "a.jsonl", rows(1)), 50, 3)


def test_every_domain_has_a_sentence_and_three_examples() -> None:
    for domain in DOMAINS.values():
        assert not domain.sentence.endswith(".")
        assert len(set(domain.examples)) == 3
    with pytest.raises(UsageError, match=r"domains\.py"):
        domain_of("letters")
