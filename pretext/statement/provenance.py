"""Whether a run folder's candidates come from where they may, and are those that were voted on.

A server that makes a candidate of what it knows about a client asks a sharper question. Epsilon holds for every
population, so that question is paid for like any other; but it is not the one that the run is said to ask. Here is
checked what can be: that each saved population is the one that its release is bound to (the ledger keeps the digest),
that each first candidate names a source that is configured (and is in a public one if it says so), and each later one
a parent that the round before selected. Whether a text is a *true* variation of its parent is not checked: a generator
may write anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.evolution.public_texts import public_set_locations, read_public_texts
from pretext.formatting import format_count
from pretext.run.folder import Run
from pretext.run.records import Candidate, digest_population

ABSENT = "nothing"
_MAX_LENGTH = 600  # a sentence of an error, with a path in it, is shown whole


@dataclass(frozen=True)
class Difference:
    """Something that is not as it must be: in which file, where in it, what was expected and what was found."""

    what: str
    where: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return f"{self.what}{where}: expected {_shorten(self.expected)}, found {_shorten(self.actual)}"


def check_provenance(config: Config, run: Run, subjects: Mapping[str, str]) -> list[Difference]:
    """What is wrong with the populations of a run folder; empty if nothing is.

    Args:
        config: the run's.
        run: the folder.
        subjects: the digest under which each label was released, from the ledger (or from privacy.json).

    Raises:
        RunFolderError: a file is damaged.
    """
    released = [
        difference
        for number in range(config.privacy.rounds)
        if (subject := subjects.get(f"{run.id}/votes/{number}")) is not None
        for difference in check_candidates(run, number, subject)
    ]
    return [*released, *check_origins(config, run)]


def check_candidates(run: Run, number: int, subject: str) -> Iterator[Difference]:
    """Whether a round's candidates are those that were voted on: `subject` is what the release is bound to."""
    population = run.population(number)
    found = ABSENT if population is None else digest_population(population)
    if found != subject:
        yield Difference(_population_file(number), "digest of the candidates", subject, found)


def check_origins(config: Config, run: Run) -> Iterator[Difference]:
    """Whether the candidates of every round that is there say where they come from, and could."""
    first, sources = run.population(0) or [], public_set_locations(config.initial)
    kinds = {"public": "a public source"} if sources else {}
    kinds |= {"prompt": "a prompt"} if config.initial.prompts else {}
    for row, candidate in enumerate(first):
        if candidate.origin is None or candidate.origin.kind not in kinds:
            yield Difference(
                _population_file(0), f"candidate {row}", " or ".join(kinds.values()), _describe_origin(candidate)
            )
    yield from _check_public_texts(config, first, sources)
    for number in range(1, config.privacy.rounds):
        yield from _check_parents(run, number)


def _check_public_texts(
    config: Config, population: Sequence[Candidate], sources: Sequence[str]
) -> Iterator[Difference]:
    """Whether the texts that are said to be public are in one of the public sources."""
    strangers = {candidate.text for candidate in population if candidate.origin and candidate.origin.kind == "public"}
    if not sources or not strangers:
        return
    try:
        for text in chain.from_iterable(
            read_public_texts(config.initial, source, config.screening.max_words) for source in sources
        ):
            strangers.discard(text)
            if not strangers:
                return
    except UsageError as error:
        yield Difference(_population_file(0), "", "a public source to find its texts in", str(error))
        return
    expected = f"public candidates that are in {' or '.join(sources)}"
    yield Difference(_population_file(0), "", expected, f"{format_count(len(strangers), 'text')} not in there")


def _check_parents(run: Run, number: int) -> Iterator[Difference]:
    population, before, selected = run.population(number), run.population(number - 1), run.selection(number - 1)
    if population is None:
        return
    if before is None or selected is None:
        yield Difference(
            _population_file(number), "", "parents in the round before", f"{ABSENT}, as that round is missing"
        )
        return
    chosen = set(selected.survivors or selected.parents)
    repeated = any(candidate.origin and candidate.origin.kind == "again" for candidate in population)
    for row, candidate in enumerate(population):
        if (expected := _required_origin(candidate, before, chosen, repeated)) is not None:
            yield Difference(_population_file(number), f"candidate {row}", expected, _describe_origin(candidate))


def _required_origin(
    candidate: Candidate, before: Sequence[Candidate], selected: AbstractSet[int], repeated: bool
) -> str | None:
    """What a candidate of a later round should be and is not. A round that is repeated holds no variations."""
    origin = candidate.origin
    if origin is None or origin.kind not in ("kept", "variation", "again"):
        return "a parent in the round before"
    if not 0 <= origin.number < len(before):
        return "a parent that is there"
    if origin.kind != "variation" and candidate != before[origin.number]:
        return "the same text as its parent"
    if origin.kind == "variation" and repeated:
        return "no variation, as the round is a repeated one"
    if candidate.label != before[origin.number].label:
        return "the label of its parent"
    return None if origin.kind == "again" or origin.number in selected else "a parent that was selected"


def _describe_origin(candidate: Candidate) -> str:
    """Where a candidate says that it comes from."""
    return ABSENT if candidate.origin is None else f"{candidate.origin.kind} {candidate.origin.number}"


def _population_file(number: int) -> str:
    return f"population/{number:03}.json"


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
