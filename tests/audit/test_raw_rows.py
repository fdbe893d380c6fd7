"""The attacks on the clients' side leave the real program alone; `tests/mutants.py` says what they must notice."""

from __future__ import annotations

import pytest

from pretext.audit.raw_rows import attack_moments, compare_raw_rows, count_moment_games
from pretext.audit.run import make_scratch_folder
from pretext.jobs.plan import make_plan
from privacy import Ledger, Relation
from tests.audit.test_release_path import make_config
from tests.support.broken import halve_noise


@pytest.mark.parametrize("privacy", [{}, {"max_texts_per_client": 1}, {"normalize_votes": False}], ids=str)
@pytest.mark.parametrize("relation", list(Relation))
def test_neighbors_from_raw_rows_on_stay_under_the_claim(relation: Relation, privacy: dict[str, object]) -> None:
    config = make_config(relation, **privacy)
    findings = list(compare_raw_rows(config.privacy, make_plan(config).mechanism))
    assert [finding.attack for finding in findings] == [
        "raw rows, votes", "raw rows, votes with labels", "raw rows, profile", "raw rows, FreD",
    ]  # fmt: skip
    for finding in findings:
        assert finding.verdict == "below the claim", finding.attack
        assert 7.9 < finding.claim <= 8.0
        assert finding.bound > 2  # the comparison sees much of what may be seen


@pytest.mark.slow
@pytest.mark.parametrize("relation", list(Relation))
def test_fred_stays_under_its_claim_and_half_its_noise_does_not(
    relation: Relation, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy, progress = make_config(relation).privacy, []
    with make_scratch_folder() as folder:
        ledger = Ledger(folder / "ledger.sqlite")
        finding = attack_moments(privacy, ledger, 1024, progress.append)
        assert finding.verdict != "ABOVE THE CLAIM"
        assert finding.bound > 2
        assert 7.99 < finding.claim <= 8.0
        assert sum(progress) == finding.trials == count_moment_games(1024)
        halve_noise(monkeypatch)
        assert attack_moments(privacy, ledger, 4096, progress.append).verdict == "ABOVE THE CLAIM"
