"""Asks the clients. Here they sit in this process; a network can stand behind the same Protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pretext.clients import Ballot, Clients, VoteRule
from privacy import Bounded


class Federation(Protocol):
    """Whoever can ask all clients to vote."""

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """The sum of all clients' bounded votes. Private: it goes to `Ledger.release` and nowhere else."""
        ...


class LocalFederation:
    """All clients in this process, gathered at the first question: a run that only replays never opens the private
    file."""

    def __init__(self, gather: Callable[[], Clients]) -> None:
        self._gather = gather
        self._clients: Clients | None = None

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """See `Federation`."""
        if self._clients is None:
            self._clients = self._gather()
        return self._clients.vote(ballot, rule)
