"""Whether a run folder, its statement and the ledger still say the same. Nothing private is opened, no model loaded.

Recomputed are: the digests of all files of the manifest and of the manifest itself; the chain of the ledger; every
number of the statement, from the ledger and the settings, as the ledger stood then; what each round voted on, where it
comes from, its noisy votes, and the selection that follows from them; the seeds. Not recomputed is what a model made of
them: candidates and synthetic texts, and the ranking of a FreD folder, are compared with their digests alone. A public
source that cannot be read any more, or was changed, is a difference: the first candidates are looked for in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pretext.calibration import noise_multiplier
from pretext.config.settings import Config
from pretext.errors import PretextError
from pretext.evolution.selection import Noisy, seeds_from, selection
from pretext.files import finite
from pretext.fred.query import restored
from pretext.run.folder import Run
from pretext.run.manifest import MANIFEST, described, file_digest
from pretext.run.records import seed_line
from pretext.statement.accountants import own_account, own_releases
from pretext.statement.provenance import ABSENT, Difference, check_candidates, check_origins
from pretext.statement.statement import fred_statement, run_releases, statement
from privacy import Account, DiscreteGaussian, Ledger, LedgerConflict, LedgerCorrupted, Release
from privacy.bounding import grid_for

_FORMAT = (PretextError, KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What reading a file that somebody edited may raise."""


@dataclass(frozen=True)
class Check:
    """What was checked, and the differences, of which there should be none."""

    words: str
    differences: list[Difference]


def verify(folder: Path, ledger: Ledger) -> list[Check]:
    """Check all of a run folder, or of a FreD folder, against its ledger.

    Raises:
        RunFolderError: this is no run folder.
        LedgerError: the ledger cannot be read at all.
    """
    run, config = Run.open(folder)
    files = _guarded(MANIFEST, "files are as the manifest lists them", partial(_files, run))
    try:
        account = own_account(run, config, ledger)
        releases = own_releases(run, account)
    except (LedgerConflict, LedgerCorrupted, PretextError) as error:
        return [files, Check("the ledger", [Difference("ledger", "", "the account of the run", str(error))])]
    facts = _Facts(run, config, account, releases)
    checks = [
        files,
        Check(f"the chain of data set {account.name!r} is whole", []),
        _guarded(MANIFEST, "the manifest is the one that was sealed in the ledger", partial(_seal, facts)),
        _guarded(
            "privacy.json",
            "every value of privacy.json follows from the ledger and config.toml",
            partial(_statement, facts, ledger),
        ),
    ]
    if (folder / "query.json").exists():
        words = "FreD's question is the one that was answered"
        checks.append(_guarded("query.json", words, partial(_question, facts)))
    return checks if facts.fred_alone else [*checks, *_evolution(facts)]


@dataclass(frozen=True)
class _Facts:
    """What is checked: a folder, and the account and the releases that the ledger holds for it."""

    run: Run
    config: Config
    account: Account
    releases: list[Release]

    @property
    def fred_alone(self) -> bool:
        """Whether this is a FreD folder: it asked a question, and no release bears a run's label."""
        return (self.run.folder / "query.json").exists() and not run_releases(self.account, self.run.id)


def _evolution(facts: _Facts) -> list[Check]:
    votes = {int(label[-1]): each for each in facts.releases if (label := each.label.split("/"))[1] == "votes"}
    there = {int(path.stem) for path in facts.run.folder.glob("selected/[0-9]*.json")}
    noise = "the noise of every round is what config.toml plans"
    checks = [_guarded("config.toml", noise, partial(_noise, facts.config, votes))]
    for number in sorted({*votes, *there, *range(facts.config.privacy.rounds)}):
        words = f"round {number}: candidates, noisy votes and the selection are those of its release"
        one = partial(_round, facts.run, facts.config, number, votes.get(number))
        checks.append(_guarded(f"selected/{number:03}.json", words, one))
    words = "every candidate comes from the public source, a prompt or a parent that was selected"
    checks.append(_guarded("population", words, partial(check_origins, facts.config, facts.run)))
    seeds = partial(_seeds, facts.run, facts.config)
    return [*checks, _guarded("seeds.jsonl", "the seeds follow from the selections", seeds)]


def _guarded(what: str, words: str, differences: Callable[[], Iterator[Difference]]) -> Check:
    """The check; a file that cannot even be read is a difference too."""
    try:
        return Check(words, list(differences()))
    except _FORMAT as error:
        reason = str(error) if isinstance(error, PretextError) else f"one that is damaged ({type(error).__name__})"
        return Check(words, [Difference(what, "", "a readable file", reason)])


def _files(run: Run) -> Iterator[Difference]:
    manifest = run.load(MANIFEST)
    if manifest is None:
        yield Difference(MANIFEST, "", "the file", f"{ABSENT}; `pretext resume {run.folder}` finishes and seals a run")
        return
    yield from _apart(MANIFEST, run.id, manifest["run"], "run")
    listed, there = manifest["files"], described(run.folder)
    for name in sorted(listed.keys() | there.keys()):
        if name not in there or name not in listed:
            yield Difference(name, "", *("a file" if name in files else "no file" for files in (listed, there)))
        elif differences := list(_apart(name, listed[name], there[name])):
            yield differences[-1]  # where the size differs, so does the digest: the size tells more


def _seal(facts: _Facts) -> Iterator[Difference]:
    last, path = facts.account.sealed(facts.run.id), facts.run.folder / MANIFEST
    if last is None:
        yield Difference("ledger", f"seal of run {facts.run.id}", "a seal", ABSENT)
    elif path.exists() and (found := file_digest(path)) != last.manifest:
        yield Difference(MANIFEST, f"SHA-256 sealed at {last.time}", last.manifest, found)


def _statement(facts: _Facts, ledger: Ledger) -> Iterator[Difference]:
    run, config, stated = facts.run, facts.config, facts.run.load("privacy.json")
    try:
        then = ledger.account(facts.account.name, stated["data_set"].get("ledger_position"))
    except (LedgerCorrupted, TypeError):
        then = facts.account
    known = {release.label for release in then.releases}
    counted = sum(release.label in known for release in facts.releases)
    yield from _apart("privacy.json", len(facts.releases), counted, "releases of the run")
    if not facts.fred_alone:
        expected = statement(config, run.id, ledger, then)
    elif facts.releases:
        question = restored(run.load("query.json"))
        expected = fred_statement(config, run.id, question, ledger, then, facts.releases[0])
    else:
        return  # that there is no answer to the question is told where the question is looked at
    stated["data_set"]["ledger"] = expected["data_set"]["ledger"]  # it may lie elsewhere now
    yield from _apart("privacy.json", finite(expected), finite(stated))


def _question(facts: _Facts) -> Iterator[Difference]:
    question = restored(facts.run.load("query.json"))
    noise = question.mechanism.standard_deviation
    asked = [each for each in facts.releases if each.label in (question.label, f"{facts.run.id}/fred")]
    if not asked:
        yield Difference("ledger", question.label, "a release", ABSENT)
    for release in asked:
        yield from _apart("query.json", release.subject, question.subject, "digest of the question")
        yield from _apart("query.json", release.mechanism.standard_deviation, noise, "noise")


def _noise(config: Config, votes: dict[int, Release]) -> Iterator[Difference]:
    privacy = config.privacy
    planned = DiscreteGaussian.for_sum(noise_multiplier(config), privacy.norm_squared, privacy.relation)
    grid, norm_squared = grid_for(privacy.norm_squared)
    for number, release in votes.items():
        where = f"round {number}"
        if not math.isclose(planned.standard_deviation, release.mechanism.standard_deviation, rel_tol=1e-6):
            yield Difference(
                "config.toml", f"noise of {where}", release.mechanism.standard_deviation, planned.standard_deviation
            )
        yield from _apart("config.toml", release.norm_squared, norm_squared, f"bound of {where} (grid {grid:g})")
        yield from _apart("config.toml", release.relation.value, config.privacy.relation.value, f"relation of {where}")


def _round(run: Run, config: Config, number: int, release: Release | None) -> Iterator[Difference]:
    selected = run.selected(number)
    if release is None:
        yield Difference("ledger", f"{run.id}/votes/{number}", "a release", ABSENT)
        return
    yield from check_candidates(run, number, release.subject)
    expected = selection(config, number, Noisy(release.noisy, release.mechanism.standard_deviation))
    yield from _apart(f"selected/{number:03}.json", asdict(expected), asdict(selected) if selected else {})


def _seeds(run: Run, config: Config) -> Iterator[Difference]:
    path = run.folder / "seeds.jsonl"
    found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    expected = [seed_line(seed, config.data.labels) for seed in seeds_from(config, run)]
    yield from _apart("seeds.jsonl", expected, found, "lines")


def _apart(what: str, expected: Any, found: Any, where: str = "") -> Iterator[Difference]:
    """The places in which two nested values differ; of lists the length, and the first entry that differs."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            below = f"{where}.{key}" if where else key
            yield from _apart(what, expected.get(key, ABSENT), found.get(key, ABSENT), below)
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield Difference(what, f"length of {where}", len(expected), len(found))
        pairs = enumerate(zip(expected, found, strict=False))
        for place, (one, other) in pairs:
            if differences := list(_apart(what, one, other, f"{where}[{place}]")):
                yield from differences
                return
    elif not _same(expected, found):
        yield Difference(what, where, expected, found)


def _same(one: Any, other: Any) -> bool:
    """Equal, or floating-point numbers that another version of a library may give in the last digits."""
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return type(one) is type(other) and bool(one == other)
