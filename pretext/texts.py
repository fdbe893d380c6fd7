"""Which values are texts, and a uniform sample of a stream of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeGuard, TypeVar

Item = TypeVar("Item")


def is_usable_text(value: Any) -> TypeGuard[str]:
    """Decide whether a cell holds a text: a string that is not blank. The same rule for private and public texts."""
    return isinstance(value, str) and bool(value.strip())


class Reservoir(Generic[Item]):
    """A uniform sample of at most `size` items of a stream of any length, in one pass (Vitter 1985, algorithm R).

    Attributes:
        sample: the items drawn so far.
        seen: how many items were added.

    Args:
        size: items at most; 0 samples nothing.
        draw_below: n -> a uniform integer in [0, n). Private streams pass the operating system's entropy, public ones a
            seeded generator.
    """

    __slots__ = ("_draw_below", "_size", "sample", "seen")

    def __init__(self, size: int, draw_below: Callable[[int], int]) -> None:
        self.sample: list[Item] = []
        self.seen = 0
        self._size = size
        self._draw_below = draw_below

    def add(self, item: Item) -> None:
        """Take the next item of the stream."""
        self.seen += 1
        if len(self.sample) < self._size:
            self.sample.append(item)
        elif (slot := self._draw_below(self.seen)) < self._size:
            self.sample[slot] = item
