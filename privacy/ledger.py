"""The budget of a dataset, in SQLite: the only place where noise is drawn.

The ledger is a privacy filter. A budget (epsilon, delta) belongs to a dataset, not to a run. `release` checks that
everything ever charged to the dataset, and all that runs have reserved, composed with the new release, stays within the
budget (claim and proof: `privacy.account`); draws; and commits charge and noisy value, all in one transaction that
locks out every other writer. A crash before the commit leaves neither charge nor value, and nobody saw the value; after
the commit both are there, and asking again for the same label replays the stored value. So no label is drawn twice and
no spending is forgotten.

The ledger is a log of events (`privacy.events`): whatever happens to a dataset is appended to its chain
(`privacy.chain`), and nothing is ever changed. A release, a replay, a reservation and a seal read the end of the chain
and the event that they ask for: they cost the same with 10 or 100,000 releases before them. The whole chain is read,
and checked, by `register`, with which every run begins, by `set_budget` and by `account`; `register` and `examine` read
the whole file too (`privacy.storage` says what a release may leave for them to notice).

An account is open until something is released from it: each start registers it as it needs it, and the chain keeps
every registration. From the first reservation of another run on, and for good from the first release on, it is settled.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from privacy import chain
from privacy.account import Account, Entry, events_in_force
from privacy.accounting import Cost
from privacy.bounding import Bounded
from privacy.errors import LedgerConflict
from privacy.events import Budget, BudgetChange, Event, Registration, Release, Reservation, Seal, Source, run_of
from privacy.file import LedgerFile
from privacy.mechanisms import DiscreteGaussian
from privacy.storage import examine, now, remove_leftovers
from privacy.units import Relation, Unit


class Ledger:
    """One file that holds the budgets of all datasets of a user. Safe to use from several processes at once.

    Args:
        path: the SQLite file.
        patience: seconds to wait for another process that holds the lock.
        make: make the file and its folder (closed to other users) if they are missing; reading makes nothing.

    Attributes:
        file: on the disk.

    Raises:
        LedgerCorrupted: the file is damaged or not a ledger.
        LedgerError: the file cannot be opened, read, or made.
    """

    def __init__(self, path: Path, patience: float = 30.0, *, make: bool = True) -> None:
        self.file = LedgerFile(path, patience, make=make)
        self._seen: dict[str, tuple[int, str]] = {}  # by dataset, the end of its chain after the last write from here

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.path

    @property
    def identity(self) -> str:
        """Random, made with the file: it tells this ledger from every other one."""
        return self.file.identity

    @property
    def is_new(self) -> bool:
        """Whether the file was made just now."""
        return self.file.is_new

    def register(
        self,
        name: str,
        source: str,
        unit: Unit,
        relation: Relation,
        budget: Budget,
        *,
        file: str = "",
        run: str = "",
        chosen: bool = True,
        confirmed: bool = False,
    ) -> Account:
        """Make the dataset known, or check that what is known agrees. Reads the whole file and the whole chain.

        Unit, relation and budget count for an account that is open (see the top of this module). A settled one keeps
        its own; a budget that `set_budget` decided is kept in any case.

        Args:
            name: of the dataset.
            source: where it is read from.
            unit: who is protected.
            relation: under which releases are charged.
            budget: of an open account.
            file: what identifies the source's file under any name (device and inode); empty without one.
            run: the one that registers; its own reservation does not settle the account.
            chosen: the name was given, not made from the source; only then may it hold several sources.
            confirmed: the source may be charged under a name other than before.

        Raises:
            LedgerConflict: the same source is charged under another name and `confirmed` is False, or the dataset is
                known with another unit, or its name, which was not chosen, belongs to another source. A second name
                would start a second budget for the same people.
            LedgerCorrupted: the file, or an event of the dataset, is not as it was written.
        """
        with self._writing() as connection:
            remove_leftovers(self.path)
            examine(connection)
            entries = chain.read_chain(connection, name)
            place = Source(source, file, now())
            if not confirmed:
                _refuse_alias(connection, name, place)
            if _is_settled(entries, run):
                self._check_settled(Account.of(name, entries), place, unit, chosen or confirmed)
                if not any(_is_same_place(place, event) for event in events_in_force(entries)):
                    entries.append(self._append(connection, name, entries[-1], place))
            else:
                decided = [entry.event.budget for entry in entries if isinstance(entry.event, BudgetChange)]
                terms = Registration(unit, relation, (decided or [budget])[-1], now())
                if not _is_as_registered(entries, terms, place):
                    entries.append(self._append(connection, name, entries[-1] if entries else None, terms))
                    entries.append(self._append(connection, name, entries[-1], place))
            return Account.of(name, entries)

    def set_budget(self, name: str, budget: Budget) -> Account:
        """Replace the budget of a known dataset; the old one stays in the history.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        with self._writing() as connection:
            entries = self._entries(connection, name)
            entries.append(self._append(connection, name, entries[-1], BudgetChange(budget, now())))
            return Account.of(name, entries)

    def reserve(self, name: str, run: str, cost: Cost, unit: Unit, folder: str = "") -> None:
        """Reserve what a run may still draw, unless what it has reserved already covers it.

        Args:
            name: a registered dataset.
            run: its releases have labels that begin with it and a slash.
            cost: of all its releases to come, at most, under the account's relation.
            unit: whom the run protects.
            folder: where the run lies, for people.

        Raises:
            BudgetExceeded: it does not fit beside what was spent and what others have reserved; nothing changed.
            LedgerConflict: the dataset is unknown, or was registered with another unit.
        """
        if cost == Cost():
            return
        with self._writing() as connection:
            last = self._last_entry(connection, name)
            _check_unit(name, last.balance.unit, unit)
            held = last.balance.reserved.get(run)
            if held is None or not held.covers(cost):
                last.balance.check(name, last.balance.with_reservation(run, cost), cost)
                self._append(connection, name, last, Reservation(run, cost, unit, folder, now()))

    def give_back(self, name: str, run: str) -> bool:
        """Give back what a run has reserved and not drawn; say whether there was anything.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        with self._writing() as connection:
            last = self._last_entry(connection, name)
            if run not in last.balance.reserved:
                return False
            self._append(connection, name, last, Reservation(run, Cost(), last.balance.unit, "", now()))
            return True

    def holding(self, run: str) -> list[str]:
        """List the datasets of which a run has something reserved."""
        with self.file.reading() as connection:
            query = "SELECT DISTINCT dataset FROM event WHERE kind = 'reservation' AND key = ? ORDER BY dataset"
            names = [row[0] for row in connection.execute(query, (run,))]
            return [name for name in names if run in self._last_entry(connection, name).balance.reserved]

    def account(self, name: str, position: int | None = None) -> Account:
        """Read budget and history of one dataset; with a position in its chain, as they were when that was its end.

        Raises:
            LedgerConflict: the dataset is unknown, or the position is below 1.
            LedgerCorrupted: an event was edited, deleted, added or moved; the message names it.
        """
        with self.file.reading() as connection:
            entries = self._entries(connection, name)
        if position is not None and position < 1:
            raise LedgerConflict(f"The chain of dataset {name!r} begins with position 1, not {position}.")
        return Account.of(name, entries[:position])

    def examine(self) -> None:
        """Check the file as a whole: its pages, its indices, its datasets. Takes time in proportion to its size.

        Raises:
            LedgerCorrupted: it is damaged.
        """
        with self.file.reading() as connection:
            examine(connection)

    def seal(self, name: str, run: str, manifest: str) -> None:
        """Record the digest of a run folder's manifest, unless it is the run's last one already.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        with self._writing() as connection:
            last = self._last_entry(connection, name)
            seal = chain.find(connection, name, Seal, run)
            if seal is None or seal.manifest != manifest or seal.opened:
                self._append(connection, name, last, Seal(run, manifest, now()))

    def open_again(self, name: str, run: str, accepted: tuple[str, ...] = ()) -> None:
        """Record that a sealed run folder is opened to be continued; nothing where it was never sealed.

        Args:
            name: of the dataset.
            run: the folder's.
            accepted: the files in it that differ from the seal, by the decision of whoever opens it.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        with self._writing() as connection:
            last = self._last_entry(connection, name)
            seal = chain.find(connection, name, Seal, run)
            if seal is not None and not (seal.opened and accepted in ((), seal.accepted)):
                self._append(connection, name, last, Seal(run, seal.manifest, now(), True, accepted))

    def last_seal(self, name: str, run: str) -> Seal | None:
        """Find the last seal of a run, in constant time; None if there is none, or the dataset is unknown."""
        with self.file.reading() as connection:
            return chain.find(connection, name, Seal, run)

    def names(self) -> list[str]:
        """List the datasets that this ledger knows."""
        with self.file.reading() as connection:
            return [row[0] for row in connection.execute("SELECT dataset FROM head ORDER BY dataset")]

    def names_of(self, source: str, file: str = "") -> list[str]:
        """List the datasets that are charged for what `source` holds, or for the same file under another path."""
        with self.file.reading() as connection:
            return [name for name, _ in _charged_places(connection, Source(source, file, ""))]

    def replay(self, name: str, label: str, subject: str) -> Release | None:
        """Read the stored release of `label`; None if it was never released.

        Raises:
            LedgerConflict: the label was released for another subject, or the dataset is unknown.
        """
        with self.file.reading() as connection:
            self._last_entry(connection, name)
            return _replay(connection, name, label, subject)

    def release(
        self, name: str, label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation
    ) -> Release:
        """Check the budget, draw, and commit charge and noisy value in one transaction; a known label is replayed.

        Args:
            name: a registered dataset.
            label: names the release within the dataset; drawn once for all time. What stands before its first slash is
                the run whose reservation is drawn on.
            subject: a digest of the public question (for votes: of the candidates), so that a replay answers the same
                one.
            bounded: the private value.
            mechanism: the noise.
            relation: the one that `mechanism` was calibrated for; the charge is under the budget's own relation.

        Raises:
            BudgetExceeded: nothing was drawn, nothing charged.
            LedgerConflict: the label was released for another subject, or the dataset is unknown, or was registered
                with another unit since the run reserved.
            LedgerLocked, LedgerCorrupted: the ledger cannot be used; nothing was drawn.
            InvalidParameter: the mechanism lives on another grid than the value.
        """
        with self._writing() as connection:
            last = self._last_entry(connection, name)
            release = _replay(connection, name, label, subject)
            if release is None:
                reservation = chain.find(connection, name, Reservation, run_of(label))
                if reservation is not None:
                    _check_unit(name, last.balance.unit, reservation.unit)
                sensitivity_squared = bounded.sensitivity_squared(last.balance.relation)
                cost = mechanism.cost(bounded.dimension, sensitivity_squared)
                last.balance.check(name, last.balance.with_release(label, cost), cost)
                release = _draw(label, subject, bounded, mechanism, relation)
                self._append(connection, name, last, release)
        return release  # committed: from here on the value is public

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write to the file in one transaction, as `LedgerFile.writing` does."""
        seen = dict(self._seen)
        try:
            with self.file.writing() as connection:
                yield connection
        except BaseException:
            self._seen = seen
            raise

    def _append(self, connection: sqlite3.Connection, name: str, before: Entry | None, event: Event) -> Entry:
        entry = chain.append(connection, name, before, event)
        self._seen[name] = (entry.position, entry.digest)
        return entry

    def _last_entry(self, connection: sqlite3.Connection, name: str) -> Entry:
        self._check_seen(connection, name)
        last = chain.last_entry(connection, name)
        if last is None:
            raise self._unknown(name)
        return last

    def _entries(self, connection: sqlite3.Connection, name: str) -> list[Entry]:
        self._check_seen(connection, name)
        entries = chain.read_chain(connection, name)
        if not entries:
            raise self._unknown(name)
        return entries

    def _check_seen(self, connection: sqlite3.Connection, name: str) -> None:
        """Notice an older copy of the ledger in its place. Raises sqlite3.DatabaseError."""
        position, digest = self._seen.get(name, (0, self.identity))
        if chain.digest_at(connection, name, position) != digest:
            raise sqlite3.DatabaseError(f"event {position} of dataset {name!r} is not the one that was written")

    def _check_settled(self, account: Account, place: Source, unit: Unit, chosen: bool) -> None:
        """Check that a settled account may be charged for a source and a unit. Raises LedgerConflict."""
        if not chosen and place.path not in account.sources:
            raise LedgerConflict(
                f"The dataset name {account.name!r}, made from the path, is taken by another file in the ledger "
                f"{self.path}. Name this one with privacy.dataset; give the same name only if it holds the same "
                "people's data."
            )
        _check_unit(account.name, account.unit, unit)

    def _unknown(self, name: str) -> LedgerConflict:
        return LedgerConflict(
            f"The ledger {self.path} knows no dataset {name!r}; `pretext ledger` lists those it knows."
        )


def _is_settled(entries: list[Entry], run: str) -> bool:
    """Say whether something was released from the account, or another run than `run` holds a reservation."""
    if not entries:
        return False
    balance = entries[-1].balance
    return balance.spent.mu_squared > 0 or any(name != run for name in balance.reserved)


def _is_as_registered(entries: list[Entry], terms: Registration, place: Source) -> bool:
    """Say whether an open account is registered on these terms, for this place alone."""
    if not entries:
        return False
    balance = entries[-1].balance
    sources = [event for event in events_in_force(entries) if isinstance(event, Source)]
    known_terms = (balance.unit, balance.relation, balance.budget) == (terms.unit, terms.relation, terms.budget)
    return known_terms and all(_is_same_place(place, source) for source in sources)


def _is_same_place(place: Source, event: Event) -> bool:
    """Say whether an event names this place already; that there is no file now changes nothing."""
    return isinstance(event, Source) and event.path == place.path and place.file in ("", event.file)


def _charged_places(connection: sqlite3.Connection, place: Source) -> list[tuple[str, Source]]:
    """List the settled datasets that are read from a place, or from its file under another path, and that path."""
    query = (
        "SELECT DISTINCT dataset FROM event WHERE kind = 'source' AND (key = ? OR (? <> '' AND instr(content, ?) > 0))"
        " ORDER BY dataset"
    )
    found = []
    for (name,) in connection.execute(query, (place.path, place.file, json.dumps(place.file))).fetchall():
        entries = chain.read_chain(connection, name)
        sources = [event for event in events_in_force(entries) if isinstance(event, Source)]
        same = [source for source in sources if source.path == place.path or source.file == place.file != ""]
        if same and _is_settled(entries, ""):
            found.append((name, same[-1]))
    return found


def _refuse_alias(connection: sqlite3.Connection, name: str, place: Source) -> None:
    """Refuse a second name for what is charged under another one. Raises LedgerConflict."""
    charged = _charged_places(connection, place)
    if not charged or name in [known for known, _ in charged]:
        return
    known, source = charged[0]
    same = "" if source.path == place.path else f" the same file as {source.path}, which is"
    raise LedgerConflict(
        f"{place.path} is{same} already charged as dataset {known!r}; under the name {name!r} the same people "
        f"would get a second budget. Use the name {known!r} (privacy.dataset), or, if other people's data lie there "
        "now, confirm it with --confirm-new-name."
    )


def _check_unit(name: str, known: Unit, asked: Unit) -> None:
    """Check that an account protects the same unit. Raises LedgerConflict."""
    if known != asked:
        raise LedgerConflict(
            f"Dataset {name!r} is charged with another privacy unit ({known.words}); now asked is: {asked.words}. "
            "Guarantees for different units do not add up; use the same client column, or a dataset name of its own."
        )


def _replay(connection: sqlite3.Connection, name: str, label: str, subject: str) -> Release | None:
    release = chain.find(connection, name, Release, label)
    if release is not None and release.subject != subject:
        raise LedgerConflict(
            f"Release {label!r} of dataset {name!r} answered another question (its candidates differ from "
            "those in the run folder now). The folder was changed after the release; restore it, or start a new run."
        )
    return release


def _draw(label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation) -> Release:
    code = f"pretext {importlib.metadata.version('pretext')}"
    norm_squared, nonnegative = bounded.norm_squared, bounded.nonnegative
    noisy = mechanism.draw(bounded)
    return Release(label, subject, mechanism, norm_squared, nonnegative, relation, noisy, now(), code)
