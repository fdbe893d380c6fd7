"""The whole table on a small set: every method gives a row, cells resume, and nothing is done twice."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.bench import ALL_METHODS
from comparison.cells import Cell, Row, read_rows
from comparison.methods import ADAPTED_METHODS
from reproduce import list_cells, main, make_reproduce_parser, reproduce

from pretext.errors import UsageError
from pretext.evaluation.student import CausalStudent
from pretext.jobs.parts import Parts
from pretext.lazy import Once
from pretext.models.engines import Sampling
from pretext.models.engines.scripted import ScriptedEngine
from privacy.errors import InvalidParameter
from tests.support import tiny

pytestmark = pytest.mark.slow

Reproduce = Callable[..., list[Row]]


@pytest.fixture
def run(
    tmp_path: Path, private_set: Path, public_file: Path, student: CausalStudent, scripted_parts: Parts
) -> Reproduce:
    """Runs the script in this process; more arguments as on the command line."""

    def call(*more: str, parts: Parts = scripted_parts) -> list[Row]:
        words = f"--csv {tmp_path}/table.csv --sets {private_set} --public {public_file} --population 16 --rounds 2"
        sizes = "--pool 100 --texts 24 --tokens 12 --texts-per-client 3 --delta 1e-3 --epsilons 20"
        reproduce(make_reproduce_parser().parse_args([*words.split(), *sizes.split(), *more]), student, parts)
        return read_rows(tmp_path / "table.csv")

    return call


def test_every_method_gives_a_row(run: Reproduce, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = [method for method in ALL_METHODS if method not in ADAPTED_METHODS]
    rows = run("--methods", *methods, "--set", "adapt.method=none")  # the scripted generator has no weights
    assert [row.method for row in rows] == methods
    assert [row.epsilon for row in rows] == [0.0, math.inf, 0.0, 0.0, math.inf, *[20.0] * 6]
    for row in rows:
        assert 0 <= row.top1 <= row.top3 <= row.top5 <= 1
        assert row.cross_entropy > 0
        assert math.isnan(row.frechet) == row.method.startswith(("dp-", "untouched"))
    by_method = {row.method: row for row in rows}
    assert by_method["non-private"].top5 > 0  # of a student with random weights and few texts that is all to expect
    assert by_method["non-private"].gap_closed == 1.0
    assert by_method["untouched"].gap_closed == 0.0
    assert by_method["votes"].texts == by_method["profile"].texts == 24
    assert "in context, no lookahead" in by_method["pretext-icml24"].setting
    command = ["reproduce.py", "--csv", str(tmp_path / "table.csv"), "--print-only"]
    sys.argv = [*command, "--figure", str(tmp_path / "gaps.svg")]
    main()
    assert "gap closed" in (tmp_path / "gaps.svg").read_text()
    printed = capsys.readouterr().out
    assert all(method in printed for method in methods)
    assert "9.1 times fewer rounds" in printed


def test_every_adapted_method_gives_a_row(run: Reproduce, tmp_path: Path) -> None:
    """With a generator that can be adapted; what it writes after so little training is hardly text."""
    checkpoint = str(tiny.build(tmp_path / "generator"))
    settings = ("adapt.texts=64", "adapt.passes=4", "adapt.learning_rate=0.01", "screening.min_words=1")
    changes = [word for setting in settings for word in ("--set", setting)]
    rows = run("--methods", *ADAPTED_METHODS, "--generator", checkpoint, *changes)
    assert [(row.method, row.epsilon) for row in rows] == [
        ("adapted-on-public", 0.0),
        ("adapted-on-private", math.inf),
        ("dp-sgd-lora", 20.0),
    ]
    for row in rows:  # noise alone may leave a generator that writes nothing usable
        assert row.texts <= 24 and (math.isnan(row.top1) if row.texts == 0 else row.top5 >= row.top1 >= 0)
    assert rows[1].texts > 0
    assert [row.rounds for row in rows] == [0, 0, 12]
    assert rows[2].bytes_up > 0 and rows[2].client_flops > 0


def test_each_cell_has_a_ledger_of_its_own(run: Reproduce, tmp_path: Path) -> None:
    before = os.environ["PRETEXT_HOME"]
    run("--methods", "votes", "--epsilons", "20", "30")
    ledgers = sorted(tmp_path.glob("table/irc_ubuntu/*/home/ledger.sqlite"))
    assert [path.parent.parent.name[:11] for path in ledgers] == ["votes-20-0-", "votes-30-0-"]
    assert os.environ["PRETEXT_HOME"] == before
    assert not Path(before, "ledger.sqlite").exists()


def test_a_finished_cell_is_not_done_again_and_a_new_repetition_is_added(run: Reproduce) -> None:
    methods = ("--methods", "untouched", "non-private", "prompt-only")
    first = run(*methods)
    assert repr(run(*methods)) == repr(first)  # seconds and all; NaN differs from itself, not its repr
    more = run(*methods, "--repetitions", "2")
    assert [row.repetition for row in more] == [0, 0, 0, 1, 1, 1]
    assert [row.seconds for row in more[:3]] == [row.seconds for row in first]


def test_other_sizes_are_other_cells(run: Reproduce) -> None:
    run("--methods", "prompt-only")
    rows = run("--methods", "prompt-only", "--texts", "20")
    assert [row.texts for row in rows] == [24, 20]


def test_another_value_is_another_cell_and_a_wrong_one_is_refused_at_the_door(run: Reproduce) -> None:
    run("--methods", "prompt-only")
    rows = run("--methods", "prompt-only", "--set", "expansion.texts=20", "--set", "expansion.temperature=0.5")
    assert [row.texts for row in rows] == [24, 20]
    assert rows[1].setting.endswith("; expansion.texts=20; expansion.temperature=0.5")
    with pytest.raises(UsageError, match="temperature"):
        run("--methods", "untouched", "--set", "expansion.temperature=-1")


class Stops(ScriptedEngine):
    """Is interrupted at its n-th batch of prompts."""

    def __init__(self, engine: ScriptedEngine, calls: int) -> None:
        super().__init__(engine._reply)
        self._tickets_left = calls

    def complete(self, prompts, sampling: Sampling, advance=lambda steps: None):
        self._tickets_left -= 1
        if self._tickets_left < 0:
            raise KeyboardInterrupt
        return super().complete(prompts, sampling, advance)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_an_interrupted_cell_goes_on_with_the_same_releases(
    run: Reproduce, tmp_path: Path, scripted_parts: Parts, calls: int
) -> None:
    """Cut short at each phase, the cell ends with one release per round in its ledger, as if nothing had happened."""
    from privacy import Ledger

    stopping = Stops(scripted_parts.engine(), calls)
    with pytest.raises(KeyboardInterrupt):
        run("--methods", "votes", parts=replace(scripted_parts, engine=Once(lambda: stopping)))
    assert read_rows(tmp_path / "table.csv") == []
    assert len(run("--methods", "votes")) == 1
    ledger = Ledger(next(tmp_path.glob("table/*/*/home/ledger.sqlite")))
    assert len(ledger.account("irc_ubuntu").releases) == 2


def test_time_is_up_before_the_first_cell(run: Reproduce, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seconds", "-1") == []
    assert "goes on from here" in capsys.readouterr().err


def test_cells_come_with_the_gaps_ends_first_and_repetitions_last() -> None:
    cells = list(list_cells("a", ["votes", "non-private", "prompt-only", "untouched"], [1.0, 8.0], 2))
    assert cells[:5] == [
        Cell("a", "untouched", 0.0, 0),
        Cell("a", "non-private", math.inf, 0),
        Cell("a", "prompt-only", 0.0, 0),
        Cell("a", "votes", 1.0, 0),
        Cell("a", "votes", 8.0, 0),
    ]
    assert [cell.repetition for cell in cells] == [0] * 5 + [1] * 5


@pytest.mark.parametrize("epsilon", ["0", "-1", "inf", "nan"])
def test_an_epsilon_that_is_none_is_refused_before_anything_is_done(run: Reproduce, epsilon: str) -> None:
    """The ends of the gap have methods of their own; an epsilon of 0 must not be run at another one."""
    with pytest.raises(InvalidParameter, match="epsilon is"):
        run("--methods", "votes", "--epsilons", epsilon)


def test_an_unknown_set_is_one_sentence(run: Reproduce, tmp_path: Path, private_set: Path) -> None:
    unknown = private_set.rename(tmp_path / "letters.jsonl")
    with pytest.raises(UsageError, match="Nothing public is known of the set 'letters'"):
        run("--sets", str(unknown))


@pytest.fixture(autouse=True)
def argv() -> Iterator[None]:
    before = sys.argv
    yield
    sys.argv = before
