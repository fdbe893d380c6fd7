"""Whether a run folder's candidates come from where they may, and are those that were voted on.

A server that makes a candidate of what it knows about a client asks a sharper question. Epsilon holds for every
population, so that question is paid for like any other; but it is not the one that the run is said to ask. Here is
checked what can be: that each saved population is the one that its release is bound to (the ledger keeps the digest),
that each first candidate names a source (and is in the public one), and each later one a parent that the round before
selected. Whether a text is a *true* variation of its parent is not checked: a generator may write anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pretext.config import Config
from pretext.population import Candidate, digest, public_texts
from pretext.run import Run, Selected


def check_provenance(config: Config, run: Run, subjects: Mapping[str, str]) -> list[str]:
    """What is wrong with the populations of a run folder, a sentence each; empty if nothing is.

    Args:
        config: the run's.
        run: the folder.
        subjects: the digest under which each label was released, from the ledger (or from privacy.json).

    Raises:
        RunFolderError: a file is damaged.
        UsageError: the public source cannot be read any more.
    """
    found = [
        f"Round {round_number}: {wrong}"
        for round_number in range(config.privacy.rounds)
        for wrong in _wrong(run, round_number, subjects.get(f"{run.id}/votes/{round_number}"))
    ]
    return [*found, *_strangers(config, run.population(0) or [])]


def _wrong(run: Run, round_number: int, subject: str | None) -> Iterator[str]:
    population = run.population(round_number)
    if population is None:
        if subject is not None:
            yield "votes were released, but the population is not in the folder."
        return
    if subject is not None and digest(population) != subject:
        yield "the population in the folder is not the one that was voted on."
    if round_number == 0:
        yield from _wrong_start(population)
        return
    before, selected = run.population(round_number - 1), run.selected(round_number - 1)
    if before is None or selected is None:
        yield "the round before it is missing, so its parents cannot be checked."
        return
    yield from _wrong_parents(population, before, selected)


def _wrong_start(population: Sequence[Candidate]) -> Iterator[str]:
    for row, candidate in enumerate(population):
        if candidate.origin is None or candidate.origin.kind not in ("public", "prompt"):
            yield f"candidate {row} names neither a public source nor a prompt."


def _strangers(config: Config, population: Sequence[Candidate]) -> Iterator[str]:
    """Whether the texts that are said to be public are in the public source, where one is configured."""
    if config.initial.texts is None:
        return
    strangers = {candidate.text for candidate in population if candidate.origin and candidate.origin.kind == "public"}
    for text in public_texts(config, config.initial.texts):
        strangers.discard(text)
    if strangers:
        yield f"Round 0: {len(strangers)} candidates are said to be public, but are not in {config.initial.texts}."


def _wrong_parents(population: Sequence[Candidate], before: Sequence[Candidate], selected: Selected) -> Iterator[str]:
    chosen = set(selected.survivors or selected.parents)
    repeated = any(candidate.origin and candidate.origin.kind == "again" for candidate in population)
    for row, candidate in enumerate(population):
        origin = candidate.origin
        if origin is None or origin.kind not in ("kept", "variation", "again"):
            yield f"candidate {row} names no parent."
        elif not 0 <= origin.number < len(before):
            yield f"candidate {row} names a parent that is not there."
        elif origin.kind != "variation" and candidate != before[origin.number]:
            yield f"candidate {row} is said to be candidate {origin.number} of the round before, but is another text."
        elif origin.kind == "variation" and (repeated or candidate.label != before[origin.number].label):
            yield f"candidate {row} cannot be a variation of candidate {origin.number} of the round before."
        elif origin.kind != "again" and origin.number not in chosen:
            yield f"candidate {row} comes from candidate {origin.number} of the round before, which was not selected."
