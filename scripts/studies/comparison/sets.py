"""Read the private sets of a comparison: clients who train, and others who test.

A third part, for validation, is left alone: it is for whoever chooses settings on the set itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pretext.errors import UsageError
from pretext.evaluation.split import part_of
from pretext.tables import Source, read_columns

CLIENT, TEXT = "client_id", "text"


@dataclass(frozen=True)
class PrivateSet:
    """Texts by part; the repr tells the name only.

    Attributes:
        name: the file's name without its endings.
        training: the texts of every training client.
        test: texts of the clients who test.
    """

    name: str
    training: list[list[str]] = field(repr=False)
    test: list[str] = field(repr=False)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The training texts as rows with a client column, as `pretext.jobs.run` takes them."""
        return [{CLIENT: str(number), TEXT: text} for number, texts in enumerate(self.training) for text in texts]


def read_set(path: Path, clients: int, texts_per_client: int) -> PrivateSet:
    """Read a file with the columns client_id and text.

    Hashes decide which clients and texts count, and who trains, validates and tests, so that every method and every
    repetition sees the same.

    Args:
        path: the file.
        clients: largest number of clients.
        texts_per_client: largest number of texts of each client.

    Raises:
        UsageError: the file cannot be read, or a part is without clients.
    """
    by_client: dict[str, list[str]] = {}
    for client, text in _read_records(path):
        by_client.setdefault(client, []).append(text)
    sample = sorted(by_client, key=_hash_key)[:clients]
    parts: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
    for client in sorted(sample):
        parts[part_of(client)].append(sorted(by_client[client], key=_hash_key)[:texts_per_client])
    if not parts["train"] or not parts["test"]:
        raise UsageError(f"{path} has too few clients to train and to test on; give a larger set.")
    return PrivateSet(path.name.split(".")[0], parts["train"], [text for texts in parts["test"] for text in texts])


def _read_records(path: Path) -> Iterator[tuple[str, str]]:
    for batch in read_columns(Source(str(path)), [CLIENT, TEXT]):
        for client, text in zip(batch[CLIENT], batch[TEXT], strict=True):
            if client is not None and isinstance(text, str) and text.strip():
                yield str(client), text.strip()


def _hash_key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
