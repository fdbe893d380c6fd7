"""Several processes at one ledger: never over budget, and one value for each label."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import random
import sqlite3
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from privacy import BudgetExceeded, Ledger, LedgerLocked, Relation, Unit
from privacy.storage import create
from tests.privacy.helpers import BUDGET, ask, labels, open_ledger

pytestmark = pytest.mark.slow

LABELS = [f"votes/{number}" for number in range(10)]
MULTIPLIER = 10.0
FIT = 5
"""At epsilon 1 and delta 1e-6 there is room for 1 / 4.22468^2 = 0.0560 of mu squared, five times 0.01."""

Answers = dict[str, bytes | None]


def hammer(path: Path, start: float, seed: int) -> Answers:
    """Ask for every label, in an order of this process's own; None where the budget refuses."""
    time.sleep(max(0.0, start - time.time()))  # all at once
    order = list(LABELS)
    random.Random(seed).shuffle(order)
    ledger = open_ledger(path)
    return {label: answer(ledger, label) for label in order}


def answer(ledger: Ledger, label: str) -> bytes | None:
    try:
        return ask(ledger, label, MULTIPLIER).tobytes()
    except BudgetExceeded:
        return None


@pytest.mark.parametrize(("processes", "is_there"), [(2, True), (4, True), (4, False)])
def test_processes_share_one_budget(tmp_path: Path, processes: int, is_there: bool) -> None:
    """A ledger that is not there yet is made by all of them at once."""
    path = tmp_path / "ledger.db"
    if is_there:
        open_ledger(path)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        start = time.time() + 2.0
        runs = [pool.submit(hammer, path, start, seed) for seed in range(processes)]
        answers = [run.result() for run in runs]
    account = Ledger(path).account("forum")
    assert len(account.releases) == len(set(labels(account))) == FIT
    assert account.spent_epsilon <= BUDGET.epsilon
    for release in account.releases:
        values = {run[release.label] for run in answers} - {None}
        assert values == {release.noisy.tobytes()}, "all who got an answer got the same"
    refused = set(LABELS) - set(labels(account))
    assert all(run[label] is None for run in answers for label in refused)


def test_one_that_finds_a_fresh_ledger_locked_waits(tmp_path: Path) -> None:
    """The other one made it and is in the middle of its first transaction."""
    path = tmp_path / "ledger.db"
    create(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    assert Ledger(path, patience=0.0).names() == [], "whoever only reads need not wait"
    with pytest.raises(LedgerLocked, match=r"waited 0.1 seconds"):
        open_ledger(path, patience=0.1)
    finisher = threading.Timer(0.5, other.rollback)
    finisher.start()
    try:
        assert open_ledger(path, patience=20.0).names() == ["forum"]
    finally:
        finisher.join()
        other.close()


def test_many_that_make_the_same_ledger_at_once(tmp_path: Path) -> None:
    """All get the same one, and none is left beside it."""
    for attempt in range(10):
        path = tmp_path / str(attempt) / "ledger.db"
        barrier = threading.Barrier(4)

        def make(name: str, path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(300)
            Ledger(path).register(name, f"/data/{name}.csv", Unit(), Relation.ADD_REMOVE, BUDGET)

        with ThreadPoolExecutor(4) as pool:
            for made in [pool.submit(make, name) for name in "abcd"]:
                made.result()
        assert Ledger(path).names() == ["a", "b", "c", "d"], "a registration in a ledger that was replaced is lost"
        assert list(path.parent.iterdir()) == [path]


def test_a_process_that_holds_the_lock_is_waited_for(tmp_path: Path) -> None:
    """Patience that is long enough gets the value; patience that is too short says so and draws nothing."""
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path, patience=0.2)
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(path, held, done))
    holder.start()
    try:
        assert held.wait(300)
        with pytest.raises(LedgerLocked, match="locked by another process"):
            ask(ledger, "votes/0")
    finally:
        done.set()
        holder.join()
    patient = ask(Ledger(path, patience=10.0), "votes/0")
    np.testing.assert_array_equal(ask(ledger, "votes/0"), patient)


def hold(path: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    """Keep the ledger locked until told to let go."""
    with Ledger(path).file.writing():
        held.set()
        done.wait(300)
