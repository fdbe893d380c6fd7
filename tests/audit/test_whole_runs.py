"""Attacks on whole runs: the real job with a scripted generator and a hashing embedder.

An accusation has a false-alarm rate of 1e-7 for each attack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pretext.audit.run import make_scratch_folder
from pretext.audit.whole_runs import Canaries, Workshop, attack_honest_runs, attack_hostile_runs, attack_runs
from pretext.statement.provenance import check_provenance
from privacy import Ledger, Relation
from tests.audit.test_release_path import ignore_progress, make_config
from tests.support import broken

pytestmark = pytest.mark.slow

RUNS = 12


@pytest.fixture
def folder() -> Iterator[Path]:
    with make_scratch_folder() as folder:
        yield folder


def workshop(folder: Path, relation: Relation = Relation.ADD_REMOVE, epsilon: float = 12.0) -> Workshop:
    config = make_config(relation, epsilon=epsilon, rounds=3)
    return Workshop.of(config, folder, Ledger(folder / "ledger.sqlite"), None)


@pytest.mark.parametrize("relation", list(Relation))
def test_whole_runs_stay_under_the_claim(relation: Relation, folder: Path, home: Path) -> None:
    progress: list[int] = []
    findings = list(attack_runs(workshop(folder, relation), RUNS, progress.append))
    assert [finding.attack for finding in findings] == [
        *(f"{attack} ({kind})" for attack in ("synthetic texts, similarity", "synthetic texts, 2-grams", "all releases")
          for kind in ("natural", "nonces")),
        "hostile server",
    ]  # fmt: skip
    assert [finding.attack for finding in findings if finding.verdict == "ABOVE THE CLAIM"] == []
    assert all(11.9 < finding.claim <= 12.0 for finding in findings)
    assert sum(progress) == 2 * RUNS
    # The hostile server sees much of what may be seen (five standard deviations below what it sees on average), and
    # the user's own ledger nothing.
    assert findings[-1].bound > 1.5
    assert not home.exists()


def test_a_whole_run_with_half_the_noise_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.halve_noise(monkeypatch)
    # 72 runs of 32 canaries: missed with a chance below 1e-6.
    assert attack_hostile_runs(workshop(folder, epsilon=6.0), 72, ignore_progress).verdict == "ABOVE THE CLAIM"


def test_texts_alone_give_away_who_was_there_where_there_is_no_noise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacks on texts and on releases have power: without any noise they see the canaries.

    The coins fall alike every time, and there is no noise, so the result is fixed.
    """
    broken.forget_noise(monkeypatch)
    default_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=7: default_rng(seed))
    findings = {
        finding.attack: finding for finding in attack_honest_runs(workshop(folder, epsilon=0.5), 16, ignore_progress)
    }
    assert findings["synthetic texts, similarity (natural)"].bound > 0.5
    assert findings["synthetic texts, 2-grams (natural)"].bound > 0.5
    assert findings["all releases (natural)"].bound > 0.5


def test_the_crafted_population_asks_for_every_canary_in_every_round(folder: Path) -> None:
    shop = workshop(folder)
    run = shop.run("one", np.ones(32, bool), True)
    wanted = {*shop.canaries.heads, *shop.canaries.tails, *shop.canaries.bystanders}
    for round_number in range(3):
        assert {candidate.text for candidate in run.population(round_number) or []} == wanted


def test_the_provenance_of_a_hostile_run_shows_what_can_be_seen(folder: Path) -> None:
    """Its first population is not of the public source; its variations are lies that no check of origins finds."""
    shop = workshop(folder)
    run = shop.run("one", np.ones(32, bool), True)
    subjects = {release.label: release.subject for release in shop.ledger.account("one").releases}
    config = shop.config
    wrong = check_provenance(run, config.privacy.rounds, config.initial, config.screening.max_words, subjects)
    assert len(wrong) == 1
    assert str(wrong[0]).startswith("population/000.json: expected public candidates that are in")
    assert wrong[0].actual == "76 texts not in there"


def test_the_other_client_of_replace_one_holds_the_other_text() -> None:
    canaries = Canaries.invent()
    coins = np.arange(32) < 16
    removed = canaries.rows(coins, make_config().privacy)
    replaced = canaries.rows(coins, make_config(Relation.REPLACE_ONE).privacy)
    assert len({row["client"] for row in removed}) == 12 + 16
    assert len({row["client"] for row in replaced}) == 12 + 32
    texts = {row["client"]: row["text"] for row in replaced}
    assert texts["canary 0"] == canaries.heads[0] and texts["canary 31"] == canaries.tails[31]
    assert len({*canaries.heads, *canaries.tails, *canaries.bystanders}) == 64 + 12


def test_workshop__of_a_profile__runs_votes_under_its_bound(folder: Path) -> None:
    config = make_config(release="profile", rounds=1)
    shop = Workshop.of(config, folder, Ledger(folder / "ledger.sqlite"), None)
    assert shop.config.privacy.norm_squared == config.privacy.norm_squared == 1
    finding = attack_hostile_runs(shop, 2, ignore_progress)
    assert finding.verdict != "ABOVE THE CLAIM"
    assert 7.9 < finding.claim <= 8.0


def test_runs_are_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    list(attack_runs(workshop(folder), 2, ignore_progress))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
