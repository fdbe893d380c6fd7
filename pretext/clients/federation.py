"""Ask all clients. Here they are in this process; a network can stand behind the same Protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.profile.query import ProfileQuery
from privacy import Bounded
from privacy.moments import MomentQuery


class Federation(Protocol):
    """Anything that can ask all clients."""

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """Sum all clients' bounded votes. Private: the sum goes to `Ledger.release` and nowhere else."""
        ...

    def profile(self, query: ProfileQuery) -> Bounded:
        """Sum all clients' bounded profiles. Private likewise."""
        ...

    def sum_moments(self, query: MomentQuery) -> Bounded:
        """Sum all clients' bounded moments. Private likewise."""
        ...


class LocalFederation:
    """All clients in this process. They are opened at the first question: a run that only replays never opens the
    private file."""

    def __init__(self, open_clients: Callable[[], Clients]) -> None:
        self._open = open_clients
        self._clients: Clients | None = None

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """See `Federation`."""
        return self._open_clients().vote(ballot, rule)

    def profile(self, query: ProfileQuery) -> Bounded:
        """See `Federation`."""
        return self._open_clients().profile(query)

    def sum_moments(self, query: MomentQuery) -> Bounded:
        """See `Federation`."""
        return self._open_clients().sum_moments(query)

    def _open_clients(self) -> Clients:
        if self._clients is None:
            self._clients = self._open()
        return self._clients
