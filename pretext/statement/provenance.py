"""Checks that a run folder's candidates come from where they may, and are those that were voted on.

A server that makes a candidate of what it knows about a client asks a sharper question. Epsilon holds for every
population, so that question is paid for like any other; but it is not the one that the run is said to ask. What can be
checked is checked here: each saved population is the one that its release is bound to (the ledger keeps the digest),
each first candidate names a source that is configured (and is in a public one if it says so), and each later one names
a parent that the round before selected. Whether a text is a *true* variation of its parent is not checked: a generator
may write anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pretext.config.settings import Initial
from pretext.errors import UsageError
from pretext.evolution.public_texts import read_public_texts
from pretext.formatting import format_count
from pretext.run.folder import Run
from pretext.run.records import Candidate, digest_population

ABSENT = "nothing"
_MAX_LENGTH = 600  # shows a sentence of an error, with a path in it, whole


@dataclass(frozen=True)
class Difference:
    """Something that is not as it must be: in which file, where in it, what was expected and what was found."""

    file: str
    where: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return f"{self.file}{where}: expected {_cut(self.expected)}, found {_cut(self.actual)}"


def check_provenance(
    run: Run, rounds: int, initial: Initial, max_words: int, subjects: Mapping[str, str]
) -> list[Difference]:
    """List what is wrong with the populations of a run folder; empty if nothing is.

    Args:
        run: the folder.
        rounds, initial, max_words: as `check_origins`.
        subjects: the digest under which each label was released, from the ledger (or from privacy.json).

    Raises:
        RunFolderError: a file is damaged.
    """
    differences = [
        difference
        for number in range(rounds)
        if (subject := subjects.get(f"{run.id}/votes/{number}")) is not None
        for difference in check_candidates(run, number, subject)
    ]
    return [*differences, *check_origins(run, rounds, initial, max_words)]


def check_candidates(run: Run, number: int, subject: str) -> Iterator[Difference]:
    """Check that a round's candidates are those that were voted on: `subject` is what the release is bound to."""
    population = run.population(number)
    digest = ABSENT if population is None else digest_population(population)
    if digest != subject:
        yield Difference(_population_file(number), "digest of the candidates", subject, digest)


def check_origins(run: Run, rounds: int, initial: Initial, max_words: int) -> Iterator[Difference]:
    """Check that the candidates of every saved round say where they come from, and could come from there.

    Args:
        run: the folder.
        rounds: of voting, as planned.
        initial: the sources of the first candidates.
        max_words: longest public text that passes the screening.
    """
    yield from check_pool_origins(run, initial, max_words)
    for number in range(1, rounds):
        yield from _check_parents(run, number)


def check_pool_origins(run: Run, initial: Initial, max_words: int) -> Iterator[Difference]:
    """Check the origins of the first candidates, or of a profile's pool; arguments as `check_origins`."""
    first, sources = run.population(0) or [], initial.locations
    kinds = {"public": "a public source"} if sources else {}
    kinds |= {"prompt": "a prompt"} if initial.prompts else {}
    for row, candidate in enumerate(first):
        if candidate.origin is None or candidate.origin.kind not in kinds:
            expected = " or ".join(kinds.values())
            yield Difference(_population_file(0), f"candidate {row}", expected, _describe_origin(candidate))
    public = {candidate.text for candidate in first if candidate.origin and candidate.origin.kind == "public"}
    if sources and public:
        texts = chain.from_iterable(read_public_texts(initial, source, max_words) for source in sources)
        yield from _check_public_texts(public, texts, " or ".join(sources))


def _check_public_texts(candidates: set[str], texts: Iterator[str], sources: str) -> Iterator[Difference]:
    """Check that the candidates that are said to be public are among the texts of the sources."""
    try:
        for text in texts:
            candidates.discard(text)
            if not candidates:
                return
    except UsageError as error:
        yield Difference(_population_file(0), "", "a public source to find its texts in", str(error))
        return
    missing = f"{format_count(len(candidates), 'text')} not in there"
    yield Difference(_population_file(0), "", f"public candidates that are in {sources}", missing)


def _check_parents(run: Run, number: int) -> Iterator[Difference]:
    """Check the origins of a later round against the selection of the round before."""
    population, parents, selection = run.population(number), run.population(number - 1), run.selection(number - 1)
    if population is None:
        return
    if parents is None or selection is None:
        yield Difference(
            _population_file(number), "", "parents in the round before", f"{ABSENT}, as that round is missing"
        )
        return
    selected = set(selection.survivors or selection.parents)
    repeated = any(candidate.origin and candidate.origin.kind == "again" for candidate in population)
    for row, candidate in enumerate(population):
        if (expected := _origin_fault(candidate, parents, selected, repeated)) is not None:
            yield Difference(_population_file(number), f"candidate {row}", expected, _describe_origin(candidate))


def _origin_fault(
    candidate: Candidate, parents: Sequence[Candidate], selected: AbstractSet[int], repeated: bool
) -> str | None:
    """Say what a candidate of a later round should be and is not. A repeated round holds no variations."""
    origin = candidate.origin
    if origin is None or origin.kind not in ("kept", "variation", "again"):
        return "a parent in the round before"
    if not 0 <= origin.number < len(parents):
        return "a parent that is there"
    parent = parents[origin.number]
    if origin.kind != "variation" and candidate != parent:
        return "the same text as its parent"
    if origin.kind == "variation" and repeated:
        return "no variation, as the round is a repeated one"
    if candidate.label != parent.label:
        return "the label of its parent"
    return None if origin.kind == "again" or origin.number in selected else "a parent that was selected"


def _describe_origin(candidate: Candidate) -> str:
    """Describe where a candidate says that it comes from."""
    return ABSENT if candidate.origin is None else f"{candidate.origin.kind} {candidate.origin.number}"


def _population_file(number: int) -> str:
    return f"population/{number:03}.json"


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
