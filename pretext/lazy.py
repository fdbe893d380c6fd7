"""Open something expensive on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Opened = TypeVar("Opened")


class Once(Generic[Opened]):
    """Opens something expensive at the first call, and returns the same object at every call.

    Attributes:
        opened: the object, or None before the first call.
    """

    def __init__(self, opener: Callable[[], Opened]) -> None:
        self._opener = opener
        self.opened: Opened | None = None

    def __call__(self) -> Opened:
        """Return the object; open it if need be."""
        if self.opened is None:
            self.opened = self._opener()
        return self.opened
