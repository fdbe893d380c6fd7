"""Checks that a run folder, its statement and the ledger still say the same. It opens no private text and no model.

Recomputed are: the digests of all files of the manifest and of the manifest itself; the chain of the ledger; every
number of the statement, from the ledger and the settings, as the ledger stood then; what each round voted on, where it
comes from, its noisy votes, and the selection that follows from them; the seeds. Not recomputed is what a model made of
them: candidates and synthetic texts, and the ranking of a FreD folder, are compared with their digests alone. A public
source that was changed, or cannot be read any more, is a difference: the first candidates are looked for in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pretext.calibration import Calibration
from pretext.config.settings import Config
from pretext.errors import PretextError, RunFolderError
from pretext.evolution.selection import collect_seeds, select_round
from pretext.files import read_file
from pretext.formatting import quote_path
from pretext.fred.query import QUERY_FILE, load_query
from pretext.run.folder import Run
from pretext.run.manifest import MANIFEST, file_digest, read_contents, read_manifest
from pretext.run.privacy_statement import STATEMENT_FILE
from pretext.run.records import format_seed
from pretext.statement.accountants import find_account, find_releases
from pretext.statement.profile_checks import check_profile, check_writer
from pretext.statement.provenance import ABSENT, Difference, check_candidates, check_origins, check_pool_origins
from pretext.statement.seals import compare_files
from pretext.statement.statement import make_fred_statement, make_statement, releases_of_run
from privacy import Account, Ledger, LedgerConflict, LedgerCorrupted, Release
from privacy.bounding import grid_for


@dataclass(frozen=True)
class Check:
    """What was checked, in words, and the differences; there should be none."""

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
        account = find_account(run, ledger)
        releases = find_releases(run, account)
    except (LedgerConflict, LedgerCorrupted, RunFolderError) as error:
        return [files, Check("the ledger", [Difference("ledger", "", "the account of the run", str(error))])]
    evidence = _Evidence(run, config, account, releases)
    checks = [
        files,
        Check(f"the chain of dataset {account.name!r} is whole", []),
        _run_check(MANIFEST, "the manifest is the one that was sealed in the ledger", partial(_compare_seal, evidence)),
        _run_check(
            STATEMENT_FILE,
            "every value of privacy.json follows from the ledger and config.toml",
            partial(_compare_statement, evidence, ledger),
        ),
    ]
    if (folder / QUERY_FILE).exists():
        words = "FreD's query is the one that was answered"
        checks.append(_run_check(QUERY_FILE, words, partial(_compare_query, evidence)))
    return checks if evidence.is_fred_folder else [*checks, *_check_evolution(evidence)]


@dataclass(frozen=True)
class _Evidence:
    """What the checks compare: a folder, and the account and the releases that the ledger holds for it."""

    run: Run
    config: Config
    account: Account
    releases: list[Release]

    @cached_property
    def calibration(self) -> Calibration:
        """The noise that the settings plan, and its price."""
        return Calibration.of(self.config)

    @property
    def is_fred_folder(self) -> bool:
        """Whether this is a FreD folder: it holds a query, and no release bears a run's label."""
        return (self.run.folder / QUERY_FILE).exists() and not releases_of_run(self.account, self.run.id)


def _check_evolution(evidence: _Evidence) -> list[Check]:
    run, config = evidence.run, evidence.config
    votes = {
        int(found[1]): release
        for release in evidence.releases
        if (found := re.fullmatch(rf".*/{config.privacy.release}/(\d{{1,9}})", release.label, re.ASCII))
    }
    if config.privacy.release == "profile":
        return _check_profiles(evidence, votes)
    selections = {int(path.stem) for path in run.folder.glob("selected/*.json") if re.fullmatch(r"\d{3,9}", path.stem)}
    noise = "the noise of every round is what config.toml plans"
    checks = [_run_check("config.toml", noise, partial(_compare_noise, evidence, votes))]
    for number in sorted({*votes, *selections, *range(config.privacy.rounds)}):
        words = f"round {number}: candidates, noisy votes and the selection are those of its release"
        compare = partial(_compare_round, evidence, number, votes.get(number))
        checks.append(_run_check(f"selected/{number:03}.json", words, compare))
    words = "every candidate comes from the public source, a prompt or a parent that was selected"
    checks.append(
        _run_check(
            "population",
            words,
            partial(check_origins, run, config.privacy.rounds, config.initial, config.screening.max_words),
        )
    )
    words = "the seeds follow from the selections"
    return [*checks, _run_check("seeds.jsonl", words, partial(_compare_seeds, evidence))]


def _check_profiles(evidence: _Evidence, releases: dict[int, Release]) -> list[Check]:
    run, config = evidence.run, evidence.config
    noise = "the noise of every round is what config.toml plans"
    checks = [_run_check("config.toml", noise, partial(_compare_noise, evidence, releases))]
    for number in sorted({*releases, *range(config.privacy.rounds)}):
        words = f"round {number}: the question and the noisy answer are those of its release"
        compare = partial(check_profile, run, number, releases.get(number))
        checks.append(_run_check(f"profile/{number:03}.json", words, compare))
    words = "every text of the pool comes from a public source, a prompt or the generator"
    origins = partial(check_pool_origins, run, config.initial, config.screening.max_words)
    checks.append(_run_check("population", words, origins))
    return [*checks, _run_check("writer.json", "the writer is one that was judged", partial(check_writer, run))]


def _run_check(file: str, words: str, compare: Callable[[], Iterator[Difference]]) -> Check:
    """Run a check; a file that cannot even be read is a difference too."""
    try:
        return Check(words, list(compare()))
    except Exception as error:  # an edited file may raise anything; whatever it is, nothing was verified
        reason = str(error) if isinstance(error, PretextError) else f"one that is damaged ({type(error).__name__})"
        return Check(words, [Difference(file, "", "a readable file", reason)])


def _compare_files(run: Run) -> Iterator[Difference]:
    contents = read_contents(run.folder)
    for name, kind in contents.strays.items():
        yield Difference(name, "", "no such thing", kind)
    manifest = read_manifest(run)
    if manifest is None:
        yield Difference(
            MANIFEST, "", "the file", f"{ABSENT}; `pretext resume {quote_path(run.folder)}` finishes and seals a run"
        )
        return
    yield from _diff_values(MANIFEST, run.id, manifest.run, "run")
    yield from compare_files(manifest.files, contents.files)


def _compare_seal(evidence: _Evidence) -> Iterator[Difference]:
    last, path = evidence.account.last_seal(evidence.run.id), evidence.run.folder / MANIFEST
    if last is None:
        yield Difference("ledger", f"seal of run {evidence.run.id}", "a seal", ABSENT)
    elif path.exists() and (digest := file_digest(path)) != last.manifest:
        yield Difference(MANIFEST, f"SHA-256 sealed at {last.time}", last.manifest, digest)


def _compare_statement(evidence: _Evidence, ledger: Ledger) -> Iterator[Difference]:
    """Compare the file as it is, so that a value that no statement holds is a difference too."""
    run, privacy = evidence.run, evidence.config.privacy
    stored = run.load(STATEMENT_FILE)
    try:
        then = ledger.account(evidence.account.name, stored["dataset"].get("ledger_position"))
    except (LedgerConflict, TypeError):
        then = evidence.account
    known = {release.label for release in then.releases}
    counted = sum(release.label in known for release in evidence.releases)
    yield from _diff_values(STATEMENT_FILE, len(evidence.releases), counted, "releases of the run")
    if not evidence.is_fred_folder:
        expected = make_statement(evidence.config, evidence.calibration, run.id, ledger, then)
    elif evidence.releases and (query := load_query(run.folder)) is not None:
        expected = make_fred_statement(privacy, run.id, query, ledger, then, evidence.releases[0])
    else:
        return  # the check of the query reports that the ledger holds no answer to it
    stored["dataset"]["ledger"] = expected.dataset.ledger  # it may lie elsewhere now
    yield from _diff_values(STATEMENT_FILE, json.loads(expected.to_json()), stored)


def _compare_query(evidence: _Evidence) -> Iterator[Difference]:
    query = load_query(evidence.run.folder)
    assert query is not None
    labels = (query.label, f"{evidence.run.id}/fred")
    answers = [release for release in evidence.releases if release.label in labels]
    if not answers:
        yield Difference("ledger", query.label, "a release", ABSENT)
    noise = query.mechanism.standard_deviation
    for release in answers:
        yield from _diff_values(QUERY_FILE, release.subject, query.subject, "digest of the query")
        yield from _diff_values(QUERY_FILE, release.mechanism.standard_deviation, noise, "noise")


def _compare_noise(evidence: _Evidence, votes: dict[int, Release]) -> Iterator[Difference]:
    privacy = evidence.config.privacy
    planned = evidence.calibration.mechanism.standard_deviation
    grid, norm_squared = grid_for(privacy.norm_squared)
    for number, release in votes.items():
        drawn, where = release.mechanism.standard_deviation, f"round {number}"
        if not math.isclose(planned, drawn, rel_tol=1e-6):
            yield Difference("config.toml", f"noise of {where}", drawn, planned)
        yield from _diff_values("config.toml", release.norm_squared, norm_squared, f"bound of {where} (grid {grid:g})")
        yield from _diff_values("config.toml", release.relation.value, privacy.relation.value, f"relation of {where}")


def _compare_round(evidence: _Evidence, number: int, release: Release | None) -> Iterator[Difference]:
    run, evolution = evidence.run, evidence.config.evolution
    selection = run.selection(number)
    if release is None:
        yield Difference("ledger", f"{run.id}/votes/{number}", "a release", ABSENT)
        return
    yield from check_candidates(run, number, release.subject)
    expected = select_round(number, release.noisy, release.mechanism.standard_deviation, evolution)
    yield from _diff_values(f"selected/{number:03}.json", asdict(expected), asdict(selection) if selection else {})


def _compare_seeds(evidence: _Evidence) -> Iterator[Difference]:
    run, config = evidence.run, evidence.config
    path = run.folder / "seeds.jsonl"
    text = read_file(path).decode() if path.exists() else ""
    lines = text.removesuffix("\n").split("\n") if text else []  # an unterminated last line counts too
    seeds = collect_seeds(run, config.seed_rounds, config.evolution.seed_power)
    yield from _diff_values("seeds.jsonl", [format_seed(seed, config.data.labels) for seed in seeds], lines, "lines")


def _diff_values(file: str, expected: Any, actual: Any, where: str = "") -> Iterator[Difference]:
    """Yield the places in which two nested values differ; of lists the length, and the first entry that differs."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            place = f"{where}.{key}" if where else key
            yield from _diff_values(file, expected.get(key, ABSENT), actual.get(key, ABSENT), place)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield Difference(file, f"length of {where}", len(expected), len(actual))
        for row, (left, right) in enumerate(zip(expected, actual, strict=False)):
            if differences := list(_diff_values(file, left, right, f"{where}[{row}]")):
                yield from differences
                return
    elif not _is_equal(expected, actual):
        yield Difference(file, where, expected, actual)


def _is_equal(expected: Any, actual: Any) -> bool:
    """Compare values; floating-point numbers may differ in the last digits, as other versions of a library do."""
    if isinstance(expected, float) and isinstance(actual, float | int):
        return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)
    return type(expected) is type(actual) and bool(expected == actual)
