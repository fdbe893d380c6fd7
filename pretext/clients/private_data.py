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
from pretext.tables import Source, read_columns
from pretext.texts import Reservoir, is_usable_text

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
    if records is None:
        return _sample_per_client(_read_source_records(data), max_texts_per_client, data.path)
    return _sample_per_client(_iterate_records(data, records), max_texts_per_client, "The given collection")


def _read_source_records(data: Data) -> Iterator[PrivateRecord]:
    number = 0
    for batch in read_columns(Source(data.path, data.subset, data.split), data.columns):
        for position, text in enumerate(batch[data.text_column]):
            number += 1
            client = batch[data.client_column][position] if data.client_column else number
            label = batch[data.label_column][position] if data.label_column else None
            yield from _parse_record(data, text, client, label)


def _iterate_records(data: Data, records: Sequence[Any]) -> Iterator[PrivateRecord]:
    for number, row in enumerate(records):
        missing = [column for column in data.columns if column not in row]
        if missing:
            raise UsageError(f"The given texts have no column {missing[0]!r}; name the right one.")
        client = row[data.client_column] if data.client_column else number
        label = row[data.label_column] if data.label_column else None
        yield from _parse_record(data, row[data.text_column], client, label)


def _parse_record(data: Data, text: Any, client: Any, label: Any) -> Iterator[PrivateRecord]:
    if not is_usable_text(text) or client is None or client == "" or client != client:
        return  # a missing value of a DataFrame differs from itself
    if data.label_column is None:
        yield PrivateRecord(text[:MAX_PRIVATE_CHARACTERS], str(client), 0)
    elif str(label) in data.labels:
        yield PrivateRecord(text[:MAX_PRIVATE_CHARACTERS], str(client), data.labels.index(str(label)))


def _sample_per_client(records: Iterable[PrivateRecord], cap: int, name: str) -> PrivateTexts:
    """Sample at most `cap` texts of each client, in one pass over any number of records."""
    rng = random.SystemRandom()
    samples: dict[str, Reservoir[PrivateRecord]] = {}
    for record in records:
        if record.client not in samples:
            samples[record.client] = Reservoir(cap, rng.randrange)
        samples[record.client].add(record)
    if len(samples) < 2:
        raise UsageError(
            f"{name} holds usable texts of fewer than two clients; a guarantee for each client among others needs "
            "others. Check the text column and the client column."
        )
    clients = [reservoir.sample for reservoir in samples.values()]
    return PrivateTexts(
        [record.text for client in clients for record in client],
        np.repeat(np.arange(len(clients), dtype=np.int64), [len(client) for client in clients]),
        np.array([record.label for client in clients for record in client], dtype=np.int64),
    )
