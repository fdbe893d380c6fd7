"""The chain: what is edited, deleted, added or moved is named; what a chain cannot tell is not claimed."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from privacy import Budget, DiscreteGaussian, Ledger, LedgerConflict, LedgerCorrupted, Relation, Unit
from privacy.account import Entry
from privacy.accounting import Cost
from privacy.bounding import grid_for
from privacy.chain import _digest, append, digest_at, last_entry, read_chain
from privacy.events import BudgetChange, Event, Registration, Release, Reservation, Seal, Source
from privacy.rows import Record, decode, decode_balance, encode, encode_balance
from tests.privacy.helpers import BOUND, BUDGET, ask, gaussian, labels, open_ledger

NORM_SQUARED = grid_for(BOUND)[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Events: registration, source, releases 0 and 1, a budget, release 2, a seal, a release of another run."""
    ledger = open_ledger(tmp_path / "ledger.db")
    for label in ("run/votes/0", "run/votes/1"):
        ask(ledger, label)
    ledger.set_budget("forum", Budget(2.0, 1e-6))
    ask(ledger, "run/votes/2")
    ledger.seal("forum", "run", "a" * 64)
    ask(ledger, "other/votes/0")
    return tmp_path / "ledger.db"


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1


def entries(path: Path, name: str = "forum") -> list[Entry]:
    with closing(sqlite3.connect(path)) as connection:
        return read_chain(connection, name)


def test_events_come_in_the_order_in_which_they_were_written(path: Path) -> None:
    kinds = ["registration", "source", "release", "release", "budget", "release", "seal", "release"]
    assert [entry.event.KIND for entry in entries(path)] == kinds
    assert [entry.position for entry in entries(path)] == list(range(1, 9))
    account = Ledger(path).account("forum")
    assert (account.position, account.head) == (8, entries(path)[-1].digest)


def test_every_event_carries_the_balance_after_it(path: Path) -> None:
    spent = [entry.balance.spent.cost.mu_squared for entry in entries(path)]
    assert spent == pytest.approx([0, 0, 0.0004, 0.0008, 0.0008, 0.0012, 0.0012, 0.0016])
    assert [entry.balance.budget.epsilon for entry in entries(path)] == [1, 1, 1, 1, 2, 2, 2, 2]
    with closing(sqlite3.connect(path)) as connection:
        last = last_entry(connection, "forum")
    assert last is not None and last.balance == entries(path)[-1].balance


def test_a_registration_alone_is_a_chain(path: Path) -> None:
    with Ledger(path).file.writing() as connection:
        first = append(connection, "code", None, Registration(Unit(None), Relation.ADD_REMOVE, BUDGET, "now"))
        assert last_entry(connection, "code") == first
        assert read_chain(connection, "code") == [first]
        assert last_entry(connection, "typo") is None


class Tampering(NamedTuple):
    """How the file was changed, what the whole chain says of it, and what its end alone says, if anything."""

    statements: list[str]
    whole: str
    end: str | None = None


def move(change: str, where: str) -> list[str]:
    """Change positions, on a detour so that none is taken twice."""
    return [
        f"UPDATE event SET position = -({change}) WHERE {where}",
        "UPDATE event SET position = -position WHERE position < 0",
    ]


SIGMA = "content = json_set(content, '$.sigma', content ->> 'sigma' / 2)"
UNWRITTEN = "is not as it was written, or not in its place"
INSERTED = "INSERT INTO event SELECT dataset, {}, balance, digest FROM event WHERE position = {}"
TAMPERING = {
    "deleted release": Tampering(["DELETE FROM event WHERE position = 4"], "event 4 of dataset 'forum' is gone"),
    "deleted release, the others moved up": Tampering(
        ["DELETE FROM event WHERE position = 4", *move("position - 1", "position > 4")],
        f"event 4 of dataset 'forum' (budget) {UNWRITTEN}",
        f"event 7 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}",
    ),
    "deleted last release": Tampering(
        ["DELETE FROM event WHERE position = 8"], *["event 8 of dataset 'forum' is gone, or the head was moved"] * 2
    ),
    "deleted last release, head moved by hand": Tampering(
        ["DELETE FROM event WHERE position = 8", "UPDATE head SET position = 7"],
        *["the head of dataset 'forum' is not as it was written"] * 2,
    ),
    "deleted event before the last": Tampering(
        ["DELETE FROM event WHERE position = 7"], *["event 7 of dataset 'forum' is gone"] * 2
    ),
    "head moved back": Tampering(
        ["UPDATE head SET (position, digest) = (SELECT position, digest FROM event WHERE position = 6)"],
        *["event 8 of dataset 'forum' was added from outside, or the head moved"] * 2,
    ),
    "no head": Tampering(["DELETE FROM head"], *["the head of dataset 'forum' is gone"] * 2),
    "another head": Tampering(
        ["UPDATE head SET digest = 'x'"], *["the head of dataset 'forum' is not as it was written"] * 2
    ),
    "no events at all": Tampering(["DELETE FROM event"], *["event 8 of dataset 'forum' is gone"] * 2),
    "less noise": Tampering([f"UPDATE event SET {SIGMA} WHERE position = 3"], f"votes/0') {UNWRITTEN}"),
    "less noise in the last release": Tampering(
        [f"UPDATE event SET {SIGMA} WHERE position = 8"],
        *[f"event 8 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}"] * 2,
    ),
    "another value": Tampering(
        ["UPDATE event SET value = zeroblob(32) WHERE position = 6"], f"(release 'run/votes/2') {UNWRITTEN}"
    ),
    "another value in the last release": Tampering(
        ["UPDATE event SET value = zeroblob(32) WHERE position = 8"], *[f"(release 'other/votes/0') {UNWRITTEN}"] * 2
    ),
    "another budget": Tampering(
        ["UPDATE event SET content = json_set(content, '$.epsilon', 9.0) WHERE position = 5"],
        f"event 5 of dataset 'forum' (budget) {UNWRITTEN}",
    ),
    "another budget in the balance": Tampering(
        ["UPDATE event SET balance = json_set(balance, '$.epsilon', 9.0) WHERE position = 8"],
        *[f"event 8 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}"] * 2,
    ),
    "nothing spent in the balance": Tampering(
        ["UPDATE event SET balance = json_set(balance, '$.spent.mu_squared', json('[0, 1]')) WHERE position = 8"],
        *[f"event 8 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}"] * 2,
    ),
    "the balance of an earlier event": Tampering(
        ["UPDATE event SET balance = (SELECT balance FROM event WHERE position = 3) WHERE position = 8"],
        *[f"event 8 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}"] * 2,
    ),
    "another source": Tampering(
        ["UPDATE event SET key = '/data/x.csv' WHERE position = 2"],
        f"event 2 of dataset 'forum' (source '/data/x.csv') {UNWRITTEN}",
    ),
    "another unit": Tampering(
        ["UPDATE event SET content = json_set(content, '$.unit', NULL) WHERE position = 1"],
        f"event 1 of dataset 'forum' (registration) {UNWRITTEN}",
    ),
    "another seal": Tampering(
        ["UPDATE event SET content = json_set(content, '$.manifest', 'b') WHERE position = 7"],
        f"event 7 of dataset 'forum' (seal 'run') {UNWRITTEN}",
    ),
    "another label": Tampering(
        ["UPDATE event SET key = 'run/votes/9' WHERE position = 4"],
        f"event 4 of dataset 'forum' (release 'run/votes/9') {UNWRITTEN}",
    ),
    "another digest": Tampering(["UPDATE event SET digest = 'x' WHERE position = 4"], f"votes/1') {UNWRITTEN}"),
    "another digest before the last event": Tampering(
        ["UPDATE event SET digest = 'x' WHERE position = 7"],
        f"event 7 of dataset 'forum' (seal 'run') {UNWRITTEN}",
        f"event 8 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}",
    ),
    "events exchanged": Tampering(
        move("7 - position", "position IN (3, 4)"), f"event 3 of dataset 'forum' (release 'run/votes/1') {UNWRITTEN}"
    ),
    "the last two exchanged": Tampering(
        move("15 - position", "position IN (7, 8)"),
        f"event 7 of dataset 'forum' (release 'other/votes/0') {UNWRITTEN}",
        f"event 8 of dataset 'forum' (seal 'run') {UNWRITTEN}",
    ),
    "added release": Tampering(
        [INSERTED.format("9, kind, 'x', content, value", 8)],
        *[f"event 9 of dataset 'forum' (release 'x') {UNWRITTEN}"] * 2,
    ),
    "an event of no kind": Tampering(
        ["UPDATE event SET kind = 'gift' WHERE position = 4"],
        f"event 4 of dataset 'forum' (gift 'run/votes/1') {UNWRITTEN}",
    ),
    "an event before the first": Tampering(
        [INSERTED.format("0, 'source', '/x', '{}', x''", 1)],
        "event 1 of dataset 'forum' is gone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_is_named_wherever_the_whole_chain_is_read(path: Path, case: str) -> None:
    """Above all when a run begins: before anything is spent."""
    statements, words, _ = TAMPERING[case]
    edit(path, *statements)
    for call in (
        lambda: Ledger(path).account("forum"),
        lambda: Ledger(path).account("forum", 1),
        lambda: Ledger(path).set_budget("forum", BUDGET),
    ):
        with pytest.raises(LedgerCorrupted) as caught:
            call()
        assert words in str(caught.value)
    with pytest.raises(LedgerCorrupted):
        open_ledger(path)


@pytest.mark.parametrize("case", [case for case, tampering in TAMPERING.items() if tampering.end])
def test_tampering_with_the_end_is_named_before_anything_is_drawn(
    path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In constant time: the end of the chain, its balance and its head."""
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda mechanism, bounded: pytest.fail("noise was drawn"))
    statements, _, words = TAMPERING[case]
    edit(path, *statements)
    for call in (
        lambda: ask(Ledger(path), "run/votes/3"),
        lambda: Ledger(path).replay("forum", "run/votes/0", "digest"),
        lambda: Ledger(path).seal("forum", "run", "b" * 64),
    ):
        with pytest.raises(LedgerCorrupted) as caught:
            call()
        assert words is not None and words in str(caught.value)


@pytest.mark.parametrize("case", [case for case, tampering in TAMPERING.items() if not tampering.end])
def test_tampering_further_back_makes_no_release_cheaper(path: Path, case: str) -> None:
    """A release that does not read the damage is charged on top of all that was ever spent."""
    before = entries(path)[-1].balance.spent
    edit(path, *TAMPERING[case].statements)
    ask(Ledger(path), "run/votes/3")
    with closing(sqlite3.connect(path)) as connection:
        last = last_entry(connection, "forum")
    assert last is not None and last.balance.spent == before.plus(gaussian(50.0).cost(4, NORM_SQUARED))
    with pytest.raises(LedgerCorrupted):
        Ledger(path).account("forum")


def test_find__of_a_release_deleted_in_the_middle__charges_it_again(path: Path) -> None:
    """A constant-time look cannot tell it from one that never was: that costs budget, never privacy."""
    spent = entries(path)[-1].balance.spent
    edit(path, *TAMPERING["deleted release"].statements)
    ask(Ledger(path), "run/votes/1")
    with closing(sqlite3.connect(path)) as connection:
        last = last_entry(connection, "forum")
    assert last is not None and last.balance.spent == spent.plus(gaussian(50.0).cost(4, NORM_SQUARED))
    with pytest.raises(LedgerCorrupted, match="event 4 of dataset 'forum' is gone"):
        open_ledger(path)


def test_a_cut_tail_is_noticed_against_what_was_kept_elsewhere_only(path: Path) -> None:
    before = Ledger(path).account("forum")
    edit(
        path,
        "DELETE FROM event WHERE position = 8",
        "UPDATE head SET (position, digest) = (SELECT position, digest FROM event WHERE position = 7)",
    )
    after = Ledger(path).account("forum")
    assert len(after.releases) == 3, "the chain alone does not tell"
    assert Ledger(path).account("forum", before.position).head != before.head


def test_datasets_have_chains_of_their_own(path: Path) -> None:
    Ledger(path).register("code", "/data/code.csv", Unit("user"), Relation.ADD_REMOVE, Budget(1.0, 1e-6))
    edit(path, "UPDATE event SET content = '{}' WHERE dataset = 'code' AND position = 1")
    assert len(Ledger(path).account("forum").releases) == 4
    with pytest.raises(LedgerCorrupted, match=r"event 1 of dataset 'code' \(registration\)"):
        Ledger(path).account("code")


def test_exchanged_datasets_are_noticed(path: Path) -> None:
    ledger = Ledger(path)
    ledger.register("code", "/data/code.csv", Unit("user"), Relation.ADD_REMOVE, Budget(99.0, 1e-6))
    swapped = "SET dataset = CASE dataset WHEN 'forum' THEN 'CODE' ELSE 'FORUM' END"
    for table in ("event", "head"):
        edit(path, f"UPDATE {table} {swapped}", f"UPDATE {table} SET dataset = lower(dataset)")
    for call in (lambda: ledger.account("forum"), lambda: ask(ledger, "run/votes/3")):
        with pytest.raises(LedgerCorrupted, match=UNWRITTEN):
            call()


def test_the_account_as_it_was(path: Path) -> None:
    ledger = Ledger(path)
    now = ledger.account("forum")
    then = ledger.account("forum", 4)
    assert labels(then) == ["run/votes/0", "run/votes/1"]
    assert (then.budget.epsilon, now.budget.epsilon) == (1.0, 2.0)
    assert then.spent.mu_squared == pytest.approx(now.spent.mu_squared / 2)
    assert (then.position, then.seals) == (4, ())
    assert ledger.account("forum", 7).position == 6, "a seal changes nothing"
    assert ledger.account("forum", 1).releases == ledger.account("forum", 1).sources == ()
    assert ledger.account("forum", 99).head == now.head
    for position in (0, -1):
        with pytest.raises(LedgerConflict, match="begins with position 1"):
            ledger.account("forum", position)


# Whoever may write the file can compute the chain anew; what it then holds is still no nonsense


def chain_anew(path: Path) -> None:
    """Compute every digest of the dataset anew over the rows as they are now, and move the head."""
    query = "SELECT position, kind, key, content, value, balance FROM event ORDER BY position"
    with closing(sqlite3.connect(path)) as connection, connection:
        digest = digest_at(connection, "forum", 0)
        for position, *fields, balance in connection.execute(query).fetchall():
            digest = _digest(digest, "forum", position, Record(*fields), balance)
            connection.execute("UPDATE event SET digest = ? WHERE position = ?", (digest, position))
        connection.execute("UPDATE head SET position = ?, digest = ?", (position, digest))


def content(name: str, value: str, position: int = 8) -> str:
    return f"UPDATE event SET content = json_set(content, '$.{name}', {value}) WHERE position = {position}"


def balance(name: str, value: str, position: int = 8) -> str:
    return f"UPDATE event SET balance = json_set(balance, '$.{name}', {value}) WHERE position = {position}"


NONSENSE = [
    content("sigma", "0.5"),
    content("sigma", "9e999"),
    content("sigma", "'much'"),
    content("grid", "0.3"),
    content("mechanism", "'Laplace'"),
    content("relation", "'none'"),
    "UPDATE event SET value = x'00' WHERE position = 8",
    "UPDATE event SET content = 'no json' WHERE position = 8",
    "UPDATE event SET content = '[]' WHERE position = 8",
    "UPDATE event SET kind = 'gift' WHERE position = 8",
    "UPDATE event SET balance = '{}' WHERE position = 8",
    f"UPDATE event SET balance = '{'[' * 100_000}' WHERE position = 8",
    balance("spent.mu_squared", "json('[-1, 1]')"),
    balance("spent.slack", "json('[1, 0]')"),
    balance("spent.slack", "json('[\"1e999999999\", 1]')"),
    balance("epsilon", "-1"),
    balance("relation", "'none'"),
]
INCONSISTENT = [
    balance("epsilon", "99.0"),
    balance("spent.mu_squared", "json('[0, 1]')"),
    balance("relation", "'replace-one'"),
    content("sigma", "content ->> 'sigma' * 2", 3),
    content("norm_squared", "-5"),
    content("epsilon", "99.0", 5),
    content("relation", "'replace-one'", 1),
    "UPDATE event SET (kind, content) = (SELECT kind, content FROM event WHERE position = 1) WHERE position = 5",
    'UPDATE event SET (kind, content) = (\'source\', \'{"file": "", "time": ""}\') WHERE position = 1',
]


@pytest.mark.parametrize("statement", NONSENSE)
def test_nonsense_with_right_digests_is_damage(path: Path, statement: str) -> None:
    edit(path, statement)
    chain_anew(path)
    for call in (lambda: Ledger(path).account("forum"), lambda: ask(Ledger(path), "run/votes/3")):
        with pytest.raises(LedgerCorrupted, match=r"event 8 of dataset 'forum' \(.*\) is none that a ledger writes"):
            call()


@pytest.mark.parametrize("statement", INCONSISTENT)
def test_a_balance_that_does_not_follow_is_damage(path: Path, statement: str) -> None:
    edit(path, statement)
    chain_anew(path)
    for call in (lambda: Ledger(path).account("forum"), lambda: open_ledger(path)):
        with pytest.raises(LedgerCorrupted, match=r"the balance after event \d of dataset 'forum' .* does not follow"):
            call()


# Events as rows

EVENTS: list[Event] = [
    Registration(Unit("user"), Relation.REPLACE_ONE, Budget(1.0, 1e-6), "now"),
    Registration(Unit(None), Relation.ADD_REMOVE, Budget(1, 1e-6), "now"),
    Source("/data/ä \udcff.csv", "2049:17", "now"),
    BudgetChange(Budget(0.1 + 0.2, 1e-12), "now"),
    Reservation("run", Cost(0.1 + 0.2, 5e-324), Unit("user"), "/runs/ä", "now"),
    Reservation("run", Cost(), Unit(None), "", "now"),
    Seal("run", "a" * 64, "now"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.KIND)
def test_an_event_comes_back_from_its_row(event: Event) -> None:
    assert decode(encode(event)) == event


def test_a_release_comes_back_from_its_row_bit_for_bit() -> None:
    value = np.array([-(2**62), 2**62, -1, 0, 2**53 + 1])
    release = Release(
        "votes/0", "digest", gaussian(50.0), NORM_SQUARED, True, Relation.ADD_REMOVE, value, "now", "code"
    )
    again = decode(encode(release))
    assert isinstance(again, Release)
    np.testing.assert_array_equal(again.value, value)
    assert dataclasses.replace(again, value=value) == release


def test_a_balance_comes_back_exactly(path: Path) -> None:
    for entry in entries(path):
        assert decode_balance(encode_balance(entry.balance)) == entry.balance


# Seals


def test_a_seal_is_kept_and_the_same_one_is_not_written_twice(path: Path) -> None:
    ledger = Ledger(path)
    before = ledger.account("forum")
    ledger.seal("forum", "run", "a" * 64)
    assert len(ledger.account("forum").seals) == 1
    ledger.seal("forum", "run", "b" * 64)
    ledger.seal("forum", "other", "c" * 64)
    account = ledger.account("forum")
    assert [(seal.run, seal.manifest[0]) for seal in account.seals] == [("run", "a"), ("run", "b"), ("other", "c")]
    seal = account.last_seal("run")
    assert seal is not None and seal.manifest == "b" * 64
    assert account.last_seal("nobody") is None
    assert (account.position, account.head) == (before.position, before.head), "a seal changes nothing that is spent"
    assert account.spent == before.spent


def test_a_seal_needs_a_known_dataset(path: Path) -> None:
    with pytest.raises(LedgerConflict, match="knows no dataset 'typo'"):
        Ledger(path).seal("typo", "run", "a")


# The price


def count_rows(path: Path, act: Callable[[Ledger], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many steps SQLite's machine takes for an act."""
    connect, steps = sqlite3.connect, 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def counting_connect(*arguments: object, **named: object) -> sqlite3.Connection:
        connection = connect(*arguments, **named)  # type: ignore[call-overload]
        connection.set_progress_handler(step, 1)
        return connection

    ledger = Ledger(path)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting_connect)
        act(ledger)
    return steps


@pytest.mark.parametrize("act", ["release", "replay", "seal"])
def test_an_act_costs_the_same_with_few_and_with_many_events_before_it(
    path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in steps of SQLite's machine, not in seconds."""
    acts: dict[str, Callable[[int], Callable[[Ledger], object]]] = {
        "release": lambda number: lambda ledger: ask(ledger, f"new/{number}"),
        "replay": lambda number: lambda ledger: ledger.replay("forum", "run/votes/1", "digest"),
        "seal": lambda number: lambda ledger: ledger.seal("forum", "run", str(number)),
    }
    few = count_rows(path, acts[act](0), monkeypatch)
    with Ledger(path).file.writing() as connection:
        last = last_entry(connection, "forum")
        for event in make_releases(2000):
            last = append(connection, "forum", last, event)
    many = count_rows(path, acts[act](1), monkeypatch)
    assert many <= few + 5
    assert Ledger(path).account("forum").position > 2000


def make_releases(count: int) -> Iterator[Release]:
    value = np.zeros(4, np.int64)
    for number in range(count):
        label = f"many/{number}"
        yield Release(label, "digest", gaussian(1e3), NORM_SQUARED, True, Relation.ADD_REMOVE, value, "now", "code")
