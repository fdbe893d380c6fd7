"""Asks the clients. Here they sit in this process; a network can stand behind the same Protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pretext.clients.voting import Ballot, Clients, VoteRule
from privacy import Bounded
from privacy.moments import MomentQuery


class Federation(Protocol):
    """Whoever can ask all clients."""

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """The sum of all clients' bounded votes. Private: it goes to `Ledger.release` and nowhere else."""
        ...

    def sum_moments(self, query: MomentQuery) -> Bounded:
        """The sum of all clients' bounded moments. Private likewise."""
        ...


class LocalFederation:
    """All clients in this process, gathered at the first question: a run that only replays never opens the private
    file."""

    def __init__(self, gather: Callable[[], Clients]) -> None:
        self._gather = gather
        self._clients: Clients | None = None

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """See `Federation`."""
        return self._open_clients().vote(ballot, rule)

    def sum_moments(self, query: MomentQuery) -> Bounded:
        """See `Federation`."""
        return self._open_clients().sum_moments(query)

    def _open_clients(self) -> Clients:
        if self._clients is None:
            self._clients = self._gather()
        return self._clients
