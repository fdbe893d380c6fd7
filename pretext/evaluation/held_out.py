"""Private texts that the run never saw, to measure on: a door of its own.

`pretext.clients.private_data` is the one door to the texts that vote, and what comes through it leaves by the ledger
alone. Texts come through this door to be measured on without noise, and the numbers leave without a release: the
guarantee does not cover them. That is why there are two doors. The texts themselves still leave no trace: none is
printed, logged, saved or quoted in an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pretext.config.settings import Data
from pretext.errors import UsageError
from pretext.identity import normalize_identity
from pretext.separation import private_source
from pretext.tables import read_columns
from pretext.texts import is_usable_text

MAX_TEXT_CHARACTERS = 4_000
"""Longer texts are cut to so many characters; students read fewer."""


@dataclass(frozen=True)
class LabeledTexts:
    """Texts, each with its label; without labels all labels are "". The repr shows neither."""

    texts: list[str] = field(repr=False)
    labels: list[str] = field(repr=False)

    def sample(self, size: int, seed: int) -> LabeledTexts:
        """Draw at most `size` texts without replacement, in random order."""
        rows = np.random.default_rng(seed).permutation(len(self.texts))[:size].tolist()
        return LabeledTexts([self.texts[row] for row in rows], [self.labels[row] for row in rows])


def read_labeled_texts(data: Data) -> LabeledTexts:
    """Read the usable texts of a file: strings that are not blank, with a listed label if there are labels.

    Raises:
        UsageError: the file cannot be read, or holds no usable text.
    """
    labeled = LabeledTexts([], [])
    listed: dict[str | None, str] = {None: ""} if data.label_column is None else {}
    listed |= {normalize_identity(label): label for label in data.labels if data.label_column}
    for batch in read_columns(private_source(data), data.columns):
        texts = batch[data.text_column]
        labels = map(normalize_identity, batch[data.label_column]) if data.label_column else [None] * len(texts)
        for text, label in zip(texts, labels, strict=True):
            if is_usable_text(text) and label in listed:
                labeled.texts.append(text[:MAX_TEXT_CHARACTERS])
                labeled.labels.append(listed[label])
    if not labeled.texts:
        raise UsageError(
            f"{data.path} holds no usable text in column {data.text_column!r}; a usable text is a string that is not "
            "blank, with one of the run's labels if it has labels."
        )
    return labeled


def check_disjoint(test: Data, training: Data) -> None:
    """Check that no test client was trained on: otherwise remembering would look like learning.

    Clients are compared where both files tell them apart, otherwise texts. How many overlap is private.

    Raises:
        UsageError: some overlap, or the training texts are not in a file.
    """
    if not training.path:
        raise UsageError(
            "The run got its private texts from Python, so the program cannot check whether it saw the clients of "
            f"{test.path}; make sure that it did not, then add --force-overlap."
        )
    by_client = test.client_column is not None and training.client_column is not None
    seen = set(_read_identities(training, by_client))
    if not seen.isdisjoint(_read_identities(test, by_client)):
        shared = "clients" if by_client else "texts"
        raise UsageError(
            f"{test.path} and {training.path} have {shared} in common, so the numbers would flatter; give texts of "
            "different clients (`pretext split` splits a file), or add --force-overlap."
        )


def _read_identities(data: Data, by_client: bool) -> Iterator[str]:
    column = data.client_column if by_client and data.client_column else data.text_column
    for batch in read_columns(private_source(data), [column]):
        yield from (identity for identity in map(normalize_identity, batch[column]) if identity is not None)
