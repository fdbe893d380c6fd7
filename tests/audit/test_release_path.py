"""The attacks on the release path leave the real program alone; `tests/mutants.py` says what they must notice.

An accusation has a false-alarm rate of 1e-7 for each attack.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pretext.audit import joint_noise
from pretext.audit.finding import Finding
from pretext.audit.joint_noise import attack_joint_noise
from pretext.audit.release_path import ReleasePath, attack_releases, compare_processes, count_games
from pretext.audit.run import make_scratch_folder
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.errors import PretextError
from pretext.jobs.plan import make_plan
from privacy import Ledger, Relation
from tests.support.broken import forget_the_bound

pytestmark = pytest.mark.slow

GAMES = 2048  # half the noise is missed with a chance below 1e-6


def make_config(relation: Relation = Relation.ADD_REMOVE, **privacy: object) -> Config:
    table = {"epsilon": 8.0, "delta": 1e-5, "rounds": 2, "relation": relation.value, **privacy}
    return resolve(settings={"privacy": table, "initial": {"prompts": ["x"]}, "evolution": {"seeds_from_round": 0}})


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with make_scratch_folder() as folder:
        yield Ledger(folder / "ledger.sqlite")


def make_path(config: Config, ledger: Ledger) -> ReleasePath:
    return ReleasePath.of(config.privacy, make_plan(config), ledger)


def ignore_progress(_: int) -> None:
    pass


@pytest.mark.parametrize("relation", list(Relation))
def test_the_program_stays_under_its_claim(relation: Relation, ledger: Ledger) -> None:
    progress: list[int] = []
    findings = []
    for finding in attack_releases(make_path(make_config(relation), ledger), GAMES, progress.append):
        assert finding.verdict != "ABOVE THE CLAIM", finding.attack  # at once, so that a defect is soon found
        findings.append(finding)
    assert len(findings) == 7
    assert all(7.99 < finding.claim <= 8.0 for finding in findings)
    assert sum(progress) == count_games(GAMES, 2)
    # The attacks see something (five standard deviations below what they see on average): without this, staying under
    # the claim would mean little.
    by_name = {finding.attack: finding for finding in findings}
    assert by_name["one candidate for each client"].bound > 2
    assert by_name["neighbors before the noise"].bound > 7.99


@pytest.mark.parametrize("relation", list(Relation))
@pytest.mark.parametrize("rounds", [1, 2])
def test_noise_is_not_predicted_from_other_noise(rounds: int, relation: Relation, ledger: Ledger) -> None:
    progress: list[int] = []
    path = make_path(make_config(relation, rounds=rounds), ledger)
    finding = attack_joint_noise(path, GAMES // 2, progress.append)
    assert finding.verdict != "ABOVE THE CLAIM"
    assert finding.bound > 0.1
    assert sum(progress) == joint_noise.count_games(GAMES // 2)


def test_a_copy_that_cannot_release_is_no_agreement(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Ledger, "release", broken)
    with pytest.raises(PretextError, match="could not release"):
        compare_processes(make_path(make_config(), ledger))


def accused(findings: Iterator[Finding]) -> bool:
    return any(finding.verdict == "ABOVE THE CLAIM" for finding in findings)


def test_a_large_bound_and_one_text_are_attacked_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_path(make_config(max_texts_per_client=1, rounds=1), ledger)
    assert not accused(attack_releases(path, GAMES, ignore_progress))
    # With one text of a client the door hides a missing clip; the attacking client comes past the door with more.
    forget_the_bound(monkeypatch)
    assert accused(attack_releases(path, GAMES, ignore_progress))
