"""The privacy statement: what was released, under which guarantee, and what is not covered. Made from the ledger "
"alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from pretext.config import Config
from privacy import Account, Ledger, Relation, Release, compose, epsilon, rdp_epsilon
from privacy.account import round_up

NOT_COVERED = (
    "What the language model, the embedder and the public texts held before: a text that they knew may come out.",
    "Anything computed from the private data outside of this program, such as choosing settings, prompts or labels "
    "by looking at them.",
    "People who are spread over several clients, or named in another client's texts, beyond those texts' own client.",
    "The number of clients, where the relation is replace-one: it counts as public.",
    "Running times, memory and messages about an unusable private file, as seen by whoever runs the program on the "
    "private data.",
    "Whoever can read the private file or the memory of the process: the one who runs the program is trusted.",
)


def run_releases(account: Account, run_id: str) -> list[Release]:
    """The releases that belong to a run."""
    return [release for release in account.releases if release.label.startswith(f"{run_id}/")]


def rounds_released(releases: list[Release]) -> int:
    """How many of a run's releases are rounds of voting."""
    return sum("/votes/" in release.label for release in releases)


def statement(config: Config, run_id: str, ledger: Ledger, account: Account) -> dict[str, Any]:
    """The machine-readable statement (privacy.json) of a run; every epsilon with its delta, unit and relation."""
    releases = run_releases(account, run_id)
    privacy = config.privacy
    return {
        "format": "pretext privacy statement, version 1",
        "run": run_id,
        "guarantee": {
            "unit": account.unit.name,
            "relation": privacy.relation.value,
            **_epsilons(config, releases, privacy.relation),
        },
        "other_relation": [
            {"unit": account.unit.name, "relation": other.value, **_epsilons(config, releases, other)}
            for other in Relation
            if other is not privacy.relation
        ],
        "unit": {"name": account.unit.name, "column": account.unit.column, "words": account.unit.words},
        "relation": {"name": privacy.relation.value, "words": privacy.relation.words},
        "rounds_planned": privacy.rounds,
        "rounds_released": rounds_released(releases),
        "releases": [release_in_full(release, privacy.relation) for release in releases],
        "bounding": {
            "max_texts_per_client": privacy.max_texts_per_client,
            "choice": "uniform at random, from the operating system's entropy",
            "vote_norm": float(privacy.norm_squared) ** 0.5,
            "normalised": privacy.normalise_votes,
            "labels": "one vector and one bound over all labels" if config.data.labels else None,
        },
        "accountant": {
            "curve": "exact Gaussian differential privacy curve (dp-accounting), plus the proven slack of the "
            "discrete noise",
            "composition": "adaptive, fully: mu^2 adds up",
            "proof": "PRIVACY.md and the docstring of privacy.mechanisms",
        },
        "data_set": {
            "name": account.name,
            "unit": account.unit.name,
            "relation": account.relation.value,
            "budget": dataclasses.asdict(account.budget),
            "spent_epsilon": account.spent_epsilon,
            "left_epsilon": account.left_epsilon,
            "releases": len(account.releases),
            "ledger": str(ledger.path),
        },
        "not_covered": list(NOT_COVERED),
    }


def in_words(statement: dict[str, Any]) -> str:
    """The statement in a few lines for the terminal; losses are rounded up."""
    guarantee, data_set = statement["guarantee"], statement["data_set"]
    other = statement["other_relation"][0]
    return "\n".join(
        [
            f"Guarantee    ({round_up(guarantee['epsilon'])}, {guarantee['delta']:g})-differential privacy, "
            f"unit {guarantee['unit']}, relation {guarantee['relation']}",
            f"             (relation {other['relation']}: epsilon {round_up(other['epsilon'])} at the same delta)",
            f"Unit         {statement['unit']['words']}",
            f"Relation     {statement['relation']['words']}",
            f"Releases     {statement['rounds_released']} of {statement['rounds_planned']} rounds, discrete Gaussian "
            "noise",
            f"Data set     {data_set['name']}: epsilon {round_up(data_set['spent_epsilon'])} of "
            f"{data_set['budget']['epsilon']:g} spent in all "
            f"(delta {data_set['budget']['delta']:g}, unit {data_set['unit']}, {data_set['relation']})",
            f"Ledger       {data_set['ledger']}",
        ]
    )


def _epsilons(config: Config, releases: list[Release], relation: Relation) -> dict[str, float]:
    delta = config.privacy.delta
    total = compose(release.cost(relation) for release in releases)
    return {"epsilon": epsilon(total, delta), "delta": delta, "epsilon_by_renyi_accounting": rdp_epsilon(total, delta)}


def release_in_full(release: Release, relation: Relation) -> dict[str, Any]:
    """A release as the statement shows it."""
    cost = release.cost(relation)
    deviation = release.mechanism.standard_deviation
    sensitivity = cost.mu_squared**0.5 * deviation
    return {
        "label": release.label,
        "subject_sha256": release.subject,
        "mechanism": release.mechanism.name,
        "coordinates": release.dimension,
        "noise_standard_deviation": deviation,
        "l2_sensitivity": sensitivity,
        "noise_multiplier": deviation / sensitivity,
        "grid": release.mechanism.grid,
        "mu_squared": cost.mu_squared,
        "slack": cost.slack,
        "time": release.time,
        "code": release.code,
    }
