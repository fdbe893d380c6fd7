"""What a configuration will spend and cost, from public numbers alone: nothing private is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pretext.calibration import Calibration, explain_slack
from pretext.config.settings import Config, Evolution, Privacy
from pretext.evolution.distillation import WRITTEN_PER_TEXT
from pretext.profile.query import count_noise, least_texts
from pretext.screening.language import check_languages
from pretext.separation import check_sources_apart
from privacy import DiscreteGaussian, Unit, epsilon, rdp_epsilon


@dataclass(frozen=True)
class Plan:
    """A run's noise and its price.

    Attributes:
        noise_multiplier: standard deviation of a round's noise / sensitivity.
        mechanism: the object that will draw every round.
        sigma: standard deviation of the noise per candidate, in votes.
        epsilon: of all releases, at the configuration's delta and relation, exact.
        epsilon_per_round: of one round.
        epsilon_rdp: of all releases by the looser Renyi accounting, for comparison with papers.
        votes_per_candidate: the most votes per candidate that clients can give on average, see `max_votes_per_client`;
            None without a public number of clients, and for a profile.
        texts_noise: of a profile, standard deviation of the noise of the number of texts; None for votes.
        tokens: most tokens that variations and expansion generate.
        warnings: sentences about what may go wrong.
    """

    noise_multiplier: float
    mechanism: DiscreteGaussian
    sigma: float
    epsilon: float
    epsilon_per_round: float
    epsilon_rdp: float
    votes_per_candidate: float | None
    texts_noise: float | None
    tokens: int
    warnings: tuple[str, ...] = ()


def make_plan(config: Config) -> Plan:
    """Calibrate a configuration and say what it means.

    Raises:
        InvalidParameter: its target cannot be met.
        UsageError: a language of the screening is not known, or a public source is the private one.
    """
    check_languages(config.screening.languages)
    check_sources_apart(config.data, config.initial)
    privacy, evolution, calibration = config.privacy, config.evolution, Calibration.of(config)
    total = calibration.total_cost()
    votes = noise = None
    if privacy.release == "profile":
        noise = count_noise(calibration.mechanism.standard_deviation, privacy.max_texts_per_client)
    elif privacy.clients is not None:
        votes = privacy.clients * max_votes_per_client(privacy, evolution) / evolution.population
    plan = Plan(
        calibration.noise_multiplier,
        calibration.mechanism,
        calibration.mechanism.standard_deviation,
        epsilon(total, privacy.delta),
        epsilon(calibration.round_cost(), privacy.delta),
        rdp_epsilon(total, privacy.delta),
        votes,
        noise,
        _count_tokens(config),
    )
    return replace(
        plan, warnings=tuple(_warnings(privacy, evolution, config.unit, plan, explain_slack(privacy, total)))
    )


def _count_tokens(config: Config) -> int:
    """Count the most tokens that the generator writes."""
    privacy, evolution, profile = config.privacy, config.evolution, config.profile
    if privacy.release == "profile":
        varied, prompted = 0, profile.prompted_texts if config.initial.prompts else 0
        pool = prompted + profile.guided_texts * privacy.rounds
        written = pool + WRITTEN_PER_TEXT * config.expansion.texts + profile.adapted_texts
    else:
        prompted = evolution.population if config.initial.prompts else 0
        varied = prompted + evolution.population * (privacy.rounds - 1 + evolution.lookahead * privacy.rounds)
        written = config.expansion.texts
    return varied * config.variation.max_tokens + written * config.expansion.max_tokens


def max_votes_per_client(privacy: Privacy, evolution: Evolution) -> float:
    """Compute the most votes that one client can give to all candidates together, in votes.

    Spread evenly over n of them, a vector of norm C sums up to C sqrt(n); unless it is scaled up to the bound, a client
    has no more votes than texts.
    """
    candidates = min(privacy.max_texts_per_client * evolution.nearest, evolution.population)
    most = math.sqrt(privacy.norm_squared * candidates)
    return most if privacy.normalize_votes else min(most, privacy.max_texts_per_client)


def _warnings(privacy: Privacy, evolution: Evolution, unit: Unit, plan: Plan, slack: str | None) -> list[str]:
    warnings = [] if slack is None else [slack]
    if unit.column is None:
        warnings.append(f"No client column is named: the guarantee covers {unit.words}.")
    if privacy.clients is None:
        warnings.append(
            "The number of clients is not stated (privacy.clients, a public estimate), so delta and signal cannot be "
            "judged."
        )
        return warnings
    if privacy.delta > 1 / privacy.clients:
        warnings.append(
            f"delta {privacy.delta:g} is above one over the number of clients ({1 / privacy.clients:.2g}): it would "
            "allow giving a client away."
        )
    if plan.texts_noise is not None:
        least = least_texts(plan.sigma, privacy.max_texts_per_client)
        if privacy.clients < least:
            warnings.append(
                f"There are too few clients: a profile is read from about {least:,.0f} texts on, and below several "
                "times as many it says little; take a larger epsilon, more clients or fewer rounds."
            )
        return warnings
    assert plan.votes_per_candidate is not None
    if plan.votes_per_candidate < evolution.threshold * plan.sigma:
        better = max(2, math.floor(privacy.clients * plan.epsilon / math.sqrt(privacy.rounds)))
        warnings.append(
            f"The signal may drown: a candidate gets {plan.votes_per_candidate:.1f} votes on average at most, the "
            f"noise is {plan.sigma:.1f}. Only candidates with far more votes than the average will be seen; try "
            f"evolution.population near {min(better, evolution.population // 2)}, fewer rounds, more clients or a "
            "larger epsilon."
        )
    return warnings
