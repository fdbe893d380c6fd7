"""What the report says of a run, from numbers that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pretext.report.facts import Facts, Round, sample_rows
from pretext.report.wording import factor_up, format_odds, guess_probability, percent_up, size_category
from pretext.run.folder import Run


def _round(votes: np.ndarray, sigma: float = 10.0, threshold: float = 20.0) -> Round:
    return Round(0, np.sort(votes)[::-1], sigma, threshold, [], [], {}, None)


def test_noise_alone_is_never_called_a_signal_and_a_signal_is() -> None:
    """20 rounds of noise alone: each is called a signal with chance 3e-5; the draws are seeded, so this is decided."""
    rng = np.random.default_rng(5)
    for count in (8, 96, 2048) * 7:
        assert _round(rng.normal(0, 10, count)).verdict == "cannot be told from noise"
    for spread, verdict in ((8.0, "weak"), (30.0, "clear")):
        votes = rng.normal(0, spread, 2048) + rng.normal(0, 10, 2048)
        assert _round(votes).verdict == verdict
        assert _round(votes).signal_to_noise == pytest.approx(spread / 10, rel=0.1)
    # The twin: where sigma is given a fifth too small, noise alone is taken for a signal.
    assert _round(rng.normal(0, 10, 2048), sigma=8.0).verdict != "cannot be told from noise"


def test_chance_above_the_threshold() -> None:
    voting_round = _round(np.zeros(1000), sigma=10.0, threshold=20.0)
    assert voting_round.above_by_chance == pytest.approx(22.75, abs=0.01)
    assert voting_round.above == 0
    assert voting_round.share_above == 0.0


def test_a_guess_is_bounded_by_the_best_test_of_two_gaussians() -> None:
    """The claim in words holds for the Gaussian mechanism, whose best test is known: its accuracy is Phi(mu / 2)."""
    from privacy import Cost, epsilon

    for mu in (0.1, 0.5, 1.0, 2.0):
        best = (1 + math.erf(mu / 2 / math.sqrt(2))) / 2
        claimed = guess_probability(epsilon(Cost(mu**2), 1e-5), 1e-5)
        assert best <= claimed < 1
    assert guess_probability(0.0, 0.0) == 0.5
    assert guess_probability(math.inf, 1e-6) == 1.0
    assert guess_probability(1.0, 1e-6) == pytest.approx(math.e / (1 + math.e), abs=1e-5)


def test_numbers_in_words_err_on_the_bad_side() -> None:
    assert percent_up(0.73106) == "73.2 %"
    assert percent_up(1.0) == "100.0 %"
    assert factor_up(1.0) == "2.72"
    assert factor_up(math.inf) == "more than a million"
    assert format_odds(1e-6) == "1 in 1,000,000"
    assert format_odds(3e-6) == "1 in 333,333"
    assert [size_category(n) for n in (999, 1000, 2_000_000, 10**7)] == ["n<1K", "1K<n<10K", "1M<n<10M", "n>10M"]


def test_the_sample_is_uniform_and_in_order() -> None:
    """Of 20 rows 5, 4000 times: a row is drawn 1000 times +- 27; 6 sigma, seeded."""
    rng, counts = np.random.default_rng(0), np.zeros(20)
    for _ in range(4000):
        drawn = [int(row["text"]) for row in sample_rows(({"text": str(i)} for i in range(20)), 5, rng)]
        assert drawn == sorted(drawn)
        counts[drawn] += 1
    assert np.abs(counts - 1000).max() < 6 * 27.4
    assert len(sample_rows(iter([{"text": "one"}]), 5, rng)) == 1


def test_a_whole_run(finished: Callable[..., Run]) -> None:
    run = finished()
    facts = Facts.read(run.folder)
    assert facts.missing == []
    assert len(facts.rounds) == 3
    assert all(r.points is not None and r.points.shape == (len(r.votes), 32) for r in facts.rounds)
    assert facts.texts_written == len(facts.synthetic) == 30
    assert set(facts.diversities) == {"synthetic texts", "first population"}
    assert {diversity.texts for diversity in facts.diversities.values()} == {24}


def test_what_is_missing_is_named(finished: Callable[..., Run]) -> None:
    run = finished()
    for name in ("selected/002.json", "seeds.jsonl", "synthetic.jsonl", "expansion.json", "privacy.json"):
        (run.folder / name).unlink()
    facts = Facts.read(run.folder)
    sentences = " ".join(facts.missing)
    for words in ("2 of 3 rounds", "no privacy statement", "no seeds", "0 of 30 synthetic"):
        assert words in sentences


def test_positions_are_public_half_precision_and_may_be_missing(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished("privacy.rounds=2")
    points = run.positions(0)
    assert points is not None
    assert np.load(run.folder / "positions/000.npy").dtype == np.float16
    assert np.allclose(np.linalg.norm(points, axis=1), 1, atol=1e-2)
    assert run.positions(7) is None
    (run.folder / "positions/000.npy").write_bytes(b"rubbish")
    with pytest.raises(Exception, match="delete it"):
        run.positions(0)
