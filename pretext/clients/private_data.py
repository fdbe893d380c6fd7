"""The one door to raw private text.

Only `pretext.clients.voting` sees what comes in here. Nothing of it is printed, logged, saved or quoted in an
exception: no text, no count, no length.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Data
from pretext.errors import UsageError
from pretext.identity import describe_identity, normalize_identity
from pretext.tables import ColumnBatch, Source, read_columns, read_rows
from pretext.texts import Reservoir, describe_cell, explain_other_cells, is_usable_text

MAX_PRIVATE_CHARACTERS = 4_000
"""Longer texts are cut here: the embedder reads far fewer characters, and one giant text cannot fill the memory."""


@dataclass(frozen=True)
class PrivateTexts:
    """At most `max_texts_per_client` texts of each client. The repr shows nothing.

    Attributes:
        texts: the texts.
        client: shape (len(texts),), int64, which client each belongs to.
        label: shape (len(texts),), int64, position in the public list of labels; all 0 without labels.
    """

    texts: list[str] = field(repr=False)
    client: NDArray[np.int64] = field(repr=False)
    label: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrivateRecord:
    """One usable record."""

    text: str = field(repr=False)
    client: str = field(repr=False)
    label: int = field(repr=False)


def read_private(data: Data, max_texts_per_client: int, records: Sequence[Any] | None = None) -> PrivateTexts:
    """Read the private source once and sample at most `max_texts_per_client` texts of each client.

    Records without a usable text, without a client or with an unlisted label are passed over; how many is not told. The
    sample comes from the operating system's entropy.

    Args:
        data: where the texts are, and in which columns.
        max_texts_per_client: public cap.
        records: rows as mappings in place of a file, for the Python API.

    Raises:
        UsageError: the source cannot be read, or holds texts of fewer than two clients.
    """
    name = data.path if records is None else "The given collection"
    if records is None:
        batches = read_columns(Source(data.path, data.subset, data.split), data.columns)
    else:
        batches = read_rows(records, data.columns, data.text_column)
    parser = _Parser(data)
    samples = _sample_per_client(parser.parse(batches), max_texts_per_client)
    if len(samples) < 2:
        raise UsageError(
            f"{name} holds usable texts of fewer than two clients; a guarantee for each client among others needs "
            f"others. {parser.explain_no_texts()}"
        )
    return _join_samples(samples)


class _Parser:
    """Takes the usable records out of batches, and remembers which kinds of cells were no texts and no clients."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._labels = {normalize_identity(label): place for place, label in enumerate(data.labels)}
        self._other_texts: set[str] = set()
        self._other_clients: set[str] = set()

    def explain_no_texts(self) -> str:
        """Say why there are too few clients."""
        column = self._data.client_column
        if self._other_clients:
            return (
                f"In it, the column {column!r} holds {' and '.join(sorted(self._other_clients))}, which name nobody; "
                f"name a column that holds the identity itself, for example {column}.id."
            )
        if self._other_texts:
            return f"In it, {explain_other_cells(self._data.text_column, self._other_texts)}."
        return "Check the text column and the client column."

    def parse(self, batches: Iterable[ColumnBatch]) -> Iterator[PrivateRecord]:
        """Yield the usable records."""
        data, number = self._data, 0
        for batch in batches:
            for position, text in enumerate(batch[data.text_column]):
                number += 1
                client = batch[data.client_column][position] if data.client_column else number
                label = batch[data.label_column][position] if data.label_column else None
                yield from self._parse_record(text, client, label)

    def _parse_record(self, text: Any, client: Any, label: Any) -> Iterator[PrivateRecord]:
        if (kind := describe_cell(text)) is not None:
            self._other_texts.add(kind)
        if (kind := describe_identity(client)) is not None:
            self._other_clients.add(kind)
        identity = normalize_identity(client)
        place = 0 if self._data.label_column is None else self._labels.get(normalize_identity(label))
        if is_usable_text(text) and identity is not None and place is not None:
            yield PrivateRecord(text[:MAX_PRIVATE_CHARACTERS], identity, place)


def _sample_per_client(records: Iterable[PrivateRecord], cap: int) -> list[list[PrivateRecord]]:
    """Sample at most `cap` texts of each client, in one pass over any number of records."""
    rng = random.SystemRandom()
    samples: dict[str, Reservoir[PrivateRecord]] = {}
    for record in records:
        if record.client not in samples:
            samples[record.client] = Reservoir(cap, rng.randrange)
        samples[record.client].add(record)
    return [reservoir.sample for reservoir in samples.values()]


def _join_samples(clients: Sequence[Sequence[PrivateRecord]]) -> PrivateTexts:
    return PrivateTexts(
        [record.text for client in clients for record in client],
        np.repeat(np.arange(len(clients), dtype=np.int64), [len(client) for client in clients]),
        np.array([record.label for client in clients for record in client], dtype=np.int64),
    )
