"""What a configuration will spend and cost, from public numbers alone: nothing private is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pretext.calibration import fred_cost, noise_multiplier, round_cost
from pretext.config.settings import Config
from pretext.screening.language import check_languages
from privacy import DiscreteGaussian, compose, epsilon, rdp_epsilon


@dataclass(frozen=True)
class Plan:
    """A run's noise and its price.

    Attributes:
        noise_multiplier: standard deviation of a round's noise / sensitivity.
        mechanism: the object that will draw every round.
        sigma: standard deviation of the noise per candidate, in votes.
        epsilon: of all rounds, at the configuration's delta and relation, exact.
        epsilon_per_round: of one round.
        epsilon_rdp: of all rounds by the looser Renyi accounting, for comparison with papers.
        votes_per_candidate: the most votes per candidate that clients can give on average, see `max_votes_per_client`;
            None without a public number of clients.
        tokens: most tokens that variations and expansion generate.
    """

    noise_multiplier: float
    mechanism: DiscreteGaussian
    sigma: float
    epsilon: float
    epsilon_per_round: float
    epsilon_rdp: float
    votes_per_candidate: float | None
    tokens: int
    warnings: tuple[str, ...]


def make_plan(config: Config) -> Plan:
    """Calibrate a configuration and say what it means. Raises InvalidParameter if its target cannot be met."""
    check_languages(config.screening.languages)
    privacy = config.privacy
    multiplier = noise_multiplier(config)
    mechanism = DiscreteGaussian.for_sum(multiplier, privacy.norm_squared, privacy.relation)
    total = compose([fred_cost(config, privacy.relation), *[round_cost(config, multiplier)] * privacy.rounds])
    votes = None
    if privacy.clients is not None:
        votes = privacy.clients * max_votes_per_client(config) / config.evolution.population
    draft = Plan(
        multiplier,
        mechanism,
        mechanism.standard_deviation,
        epsilon(total, privacy.delta),
        epsilon(round_cost(config, multiplier), privacy.delta),
        rdp_epsilon(total, privacy.delta),
        votes,
        _count_tokens(config),
        (),
    )
    return Plan(**{**draft.__dict__, "warnings": tuple(_warnings(config, draft))})


def max_votes_per_client(config: Config) -> float:
    """The most votes that one client can give to all candidates together, in votes.

    Spread evenly over n of them, a vector of norm C sums up to C sqrt(n); unless it is scaled up to the bound, a client
    has no more votes than texts.
    """
    privacy, evolution = config.privacy, config.evolution
    chosen = min(privacy.max_texts_per_client * evolution.nearest, evolution.population)
    most = math.sqrt(privacy.norm_squared * chosen)
    return most if privacy.normalize_votes else min(most, privacy.max_texts_per_client)


def _count_tokens(config: Config) -> int:
    """Variations of every round but the last, lookahead in every round, prompts, expansion; each of the largest
    length."""
    evolution, rounds = config.evolution, config.privacy.rounds
    variations = evolution.population * (rounds - 1 + evolution.lookahead * rounds)
    prompted = evolution.population if config.initial.prompts else 0
    return (variations + prompted) * config.variation.max_tokens + config.expansion.texts * config.expansion.max_tokens


def _warnings(config: Config, draft: Plan) -> list[str]:
    privacy, evolution = config.privacy, config.evolution
    found = []
    if config.data.client_column is None:
        found.append(f"No client column is named: the guarantee covers {config.unit.words}.")
    if privacy.clients is None:
        found.append(
            "The number of clients is not stated (privacy.clients, a public estimate), so delta and signal cannot be "
            "judged."
        )
        return found
    if privacy.delta > 1 / privacy.clients:
        found.append(
            f"delta {privacy.delta:g} is above one over the number of clients ({1 / privacy.clients:.2g}): it would "
            "allow giving a client away."
        )
    assert draft.votes_per_candidate is not None
    if draft.votes_per_candidate < evolution.threshold * draft.sigma:
        better = max(2, math.floor(privacy.clients * draft.epsilon / math.sqrt(privacy.rounds)))
        found.append(
            f"The signal may drown: a candidate gets {draft.votes_per_candidate:.1f} votes on average at most, the "
            f"noise is {draft.sigma:.1f}. "
            "Only candidates with far more votes than the average will be seen; try evolution.population near "
            f"{min(better, evolution.population // 2)}, "
            "fewer rounds, more clients or a larger epsilon."
        )
    return found
