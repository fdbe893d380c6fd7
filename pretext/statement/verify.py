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

from pretext.calibration import Calibration
from pretext.config.settings import Config
from pretext.errors import PretextError, RunFolderError, UsageError
from pretext.evolution.selection import collect_seeds, select_round
from pretext.files import replace_nonfinite
from pretext.fred.query import load_query
from pretext.run.folder import Run
from pretext.run.manifest import MANIFEST, digest_files, file_digest
from pretext.run.records import format_seed
from pretext.statement.accountants import find_account, find_releases
from pretext.statement.provenance import ABSENT, Difference, check_candidates, check_origins
from pretext.statement.statement import make_fred_statement, make_statement, releases_of_run
from privacy import Account, Ledger, LedgerConflict, LedgerCorrupted, Release
from privacy.bounding import grid_for

_READ_ERRORS = (RunFolderError, UsageError, KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What reading a file that somebody edited may raise."""


@dataclass(frozen=True)
class Check:
    """What was checked, and the differences, of which there should be none."""

    words: str
    differences: list[Difference]


def verify_folder(folder: Path, ledger: Ledger) -> list[Check]:
    """Check all of a run folder, or of a FreD folder, against its ledger.

    Raises:
        RunFolderError: this is no run folder.
        LedgerError: the ledger cannot be read at all.
    """
    run, config = Run.open(folder)
    files = _run_check(MANIFEST, "files are as the manifest lists them", partial(_compare_files, run))
    try:
        ledger.examine()
        account = find_account(run, config, ledger)
        releases = find_releases(run, account)
    except (LedgerConflict, LedgerCorrupted, RunFolderError) as error:
        return [files, Check("the ledger", [Difference("ledger", "", "the account of the run", str(error))])]
    facts = _Evidence(run, config, account, releases)
    checks = [
        files,
        Check(f"the chain of dataset {account.name!r} is whole", []),
        _run_check(MANIFEST, "the manifest is the one that was sealed in the ledger", partial(_compare_seal, facts)),
        _run_check(
            "privacy.json",
            "every value of privacy.json follows from the ledger and config.toml",
            partial(_compare_statement, facts, ledger),
        ),
    ]
    if (folder / "query.json").exists():
        words = "FreD's question is the one that was answered"
        checks.append(_run_check("query.json", words, partial(_compare_question, facts)))
    return checks if facts.is_fred_folder else [*checks, *_check_evolution(facts)]


@dataclass(frozen=True)
class _Evidence:
    """What is checked: a folder, and the account and the releases that the ledger holds for it."""

    run: Run
    config: Config
    account: Account
    releases: list[Release]

    @property
    def is_fred_folder(self) -> bool:
        """Whether this is a FreD folder: it asked a question, and no release bears a run's label."""
        return (self.run.folder / "query.json").exists() and not releases_of_run(self.account, self.run.id)


def _check_evolution(facts: _Evidence) -> list[Check]:
    votes = {int(label[-1]): each for each in facts.releases if (label := each.label.split("/"))[1] == "votes"}
    there = {int(path.stem) for path in facts.run.folder.glob("selected/[0-9]*.json")}
    noise = "the noise of every round is what config.toml plans"
    checks = [_run_check("config.toml", noise, partial(_compare_noise, facts.config, votes))]
    for number in sorted({*votes, *there, *range(facts.config.privacy.rounds)}):
        words = f"round {number}: candidates, noisy votes and the selection are those of its release"
        one = partial(_compare_round, facts.run, facts.config, number, votes.get(number))
        checks.append(_run_check(f"selected/{number:03}.json", words, one))
    words = "every candidate comes from the public source, a prompt or a parent that was selected"
    checks.append(_run_check("population", words, partial(check_origins, facts.config, facts.run)))
    seeds = partial(_compare_seeds, facts.run, facts.config)
    return [*checks, _run_check("seeds.jsonl", "the seeds follow from the selections", seeds)]


def _run_check(what: str, words: str, differences: Callable[[], Iterator[Difference]]) -> Check:
    """The check; a file that cannot even be read is a difference too."""
    try:
        return Check(words, list(differences()))
    except _READ_ERRORS as error:
        reason = str(error) if isinstance(error, PretextError) else f"one that is damaged ({type(error).__name__})"
        return Check(words, [Difference(what, "", "a readable file", reason)])


def _compare_files(run: Run) -> Iterator[Difference]:
    manifest = run.load(MANIFEST)
    if manifest is None:
        yield Difference(MANIFEST, "", "the file", f"{ABSENT}; `pretext resume {run.folder}` finishes and seals a run")
        return
    yield from _diff_values(MANIFEST, run.id, manifest["run"], "run")
    listed, there = manifest["files"], digest_files(run.folder)
    for name in sorted(listed.keys() | there.keys()):
        if name not in there or name not in listed:
            yield Difference(name, "", *("a file" if name in files else "no file" for files in (listed, there)))
        elif differences := list(_diff_values(name, listed[name], there[name])):
            yield differences[-1]  # where the size differs, so does the digest: the size tells more


def _compare_seal(facts: _Evidence) -> Iterator[Difference]:
    last, path = facts.account.last_seal(facts.run.id), facts.run.folder / MANIFEST
    if last is None:
        yield Difference("ledger", f"seal of run {facts.run.id}", "a seal", ABSENT)
    elif path.exists() and (found := file_digest(path)) != last.manifest:
        yield Difference(MANIFEST, f"SHA-256 sealed at {last.time}", last.manifest, found)


def _compare_statement(facts: _Evidence, ledger: Ledger) -> Iterator[Difference]:
    run, config, stated = facts.run, facts.config, facts.run.load("privacy.json")
    try:
        then = ledger.account(facts.account.name, stated["dataset"].get("ledger_position"))
    except (LedgerConflict, TypeError):
        then = facts.account
    known = {release.label for release in then.releases}
    counted = sum(release.label in known for release in facts.releases)
    yield from _diff_values("privacy.json", len(facts.releases), counted, "releases of the run")
    if not facts.is_fred_folder:
        expected = make_statement(config, run.id, ledger, then)
    elif facts.releases and (query := load_query(run.folder)) is not None:
        expected = make_fred_statement(config, run.id, query, ledger, then, facts.releases[0])
    else:
        return  # that there is no answer to the question is told where the question is looked at
    stated["dataset"]["ledger"] = expected["dataset"]["ledger"]  # it may lie elsewhere now
    yield from _diff_values("privacy.json", replace_nonfinite(expected), replace_nonfinite(stated))


def _compare_question(facts: _Evidence) -> Iterator[Difference]:
    query = load_query(facts.run.folder)
    assert query is not None
    noise = query.mechanism.standard_deviation
    asked = [each for each in facts.releases if each.label in (query.label, f"{facts.run.id}/fred")]
    if not asked:
        yield Difference("ledger", query.label, "a release", ABSENT)
    for release in asked:
        yield from _diff_values("query.json", release.subject, query.subject, "digest of the question")
        yield from _diff_values("query.json", release.mechanism.standard_deviation, noise, "noise")


def _compare_noise(config: Config, votes: dict[int, Release]) -> Iterator[Difference]:
    privacy = config.privacy
    planned = Calibration.of(config).mechanism
    grid, norm_squared = grid_for(privacy.norm_squared)
    for number, release in votes.items():
        where = f"round {number}"
        if not math.isclose(planned.standard_deviation, release.mechanism.standard_deviation, rel_tol=1e-6):
            yield Difference(
                "config.toml", f"noise of {where}", release.mechanism.standard_deviation, planned.standard_deviation
            )
        yield from _diff_values("config.toml", release.norm_squared, norm_squared, f"bound of {where} (grid {grid:g})")
        yield from _diff_values(
            "config.toml", release.relation.value, config.privacy.relation.value, f"relation of {where}"
        )


def _compare_round(run: Run, config: Config, number: int, release: Release | None) -> Iterator[Difference]:
    selected = run.selection(number)
    if release is None:
        yield Difference("ledger", f"{run.id}/votes/{number}", "a release", ABSENT)
        return
    yield from check_candidates(run, number, release.subject)
    expected = select_round(number, release.noisy, release.mechanism.standard_deviation, config.evolution)
    yield from _diff_values(f"selected/{number:03}.json", asdict(expected), asdict(selected) if selected else {})


def _compare_seeds(run: Run, config: Config) -> Iterator[Difference]:
    path = run.folder / "seeds.jsonl"
    found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    expected = [
        format_seed(seed, config.data.labels)
        for seed in collect_seeds(run, config.seed_rounds, config.evolution.seed_power)
    ]
    yield from _diff_values("seeds.jsonl", expected, found, "lines")


def _diff_values(what: str, expected: Any, actual: Any, where: str = "") -> Iterator[Difference]:
    """The places in which two nested values differ; of lists the length, and the first entry that differs."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            below = f"{where}.{key}" if where else key
            yield from _diff_values(what, expected.get(key, ABSENT), actual.get(key, ABSENT), below)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield Difference(what, f"length of {where}", len(expected), len(actual))
        pairs = enumerate(zip(expected, actual, strict=False))
        for place, (one, other) in pairs:
            if differences := list(_diff_values(what, one, other, f"{where}[{place}]")):
                yield from differences
                return
    elif not _is_equal(expected, actual):
        yield Difference(what, where, expected, actual)


def _is_equal(expected: Any, actual: Any) -> bool:
    """Equal, or floating-point numbers that another version of a library may give in the last digits."""
    if isinstance(expected, float) and isinstance(actual, float | int):
        return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)
    return type(expected) is type(actual) and bool(expected == actual)
