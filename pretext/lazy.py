"""Lazy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Opened = TypeVar("Opened")


class Once(Generic[Opened]):
    """Opens something expensive when it is first called for, and keeps it."""

    def __init__(self, opener: Callable[[], Opened]) -> None:
        self._opener = opener
        self.opened: Opened | None = None

    def __call__(self) -> Opened:
        """What was opened."""
        if self.opened is None:
            self.opened = self._opener()
        return self.opened
