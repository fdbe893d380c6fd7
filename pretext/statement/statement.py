"""The privacy statement: what was released, under which guarantee, and what is not covered. Made from the ledger
alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pretext.config.settings import Config
from pretext.formatting import format_count
from pretext.fred.query import FredQuery
from privacy import Account, Ledger, Relation, Release, compose, epsilon, rdp_epsilon
from privacy.rounding import round_up

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


def releases_of_run(account: Account, run_id: str) -> list[Release]:
    """The releases that belong to a run."""
    return [release for release in account.releases if release.label.startswith(f"{run_id}/")]


def count_voting_rounds(releases: list[Release]) -> int:
    """How many of a run's releases are rounds of voting."""
    return sum("/votes/" in release.label for release in releases)


def make_statement(config: Config, run_id: str, ledger: Ledger, account: Account) -> dict[str, Any]:
    """The machine-readable statement (privacy.json) of a run; every epsilon with its delta, unit and relation."""
    releases = releases_of_run(account, run_id)
    privacy = config.privacy
    return {
        "format": "pretext privacy statement, version 1",
        "run": run_id,
        **guarantee_part(config, account, releases, privacy.relation),
        "rounds_planned": privacy.rounds,
        "rounds_released": count_voting_rounds(releases),
        "releases": [release_part(release, privacy.relation) for release in releases],
        "bounding": {
            "max_texts_per_client": privacy.max_texts_per_client,
            "choice": "uniform at random, from the operating system's entropy",
            "vote_norm": float(privacy.norm_squared) ** 0.5,
            "normalized": privacy.normalize_votes,
            "labels": "one vector and one bound over all labels" if config.data.labels else None,
        },
        "accountant": {
            "curve": "exact Gaussian differential privacy curve (dp-accounting), plus the proven slack of the "
            "discrete noise",
            "composition": "adaptive, fully: mu^2 adds up",
            "proof": "PRIVACY.md and the docstring of privacy.mechanisms",
        },
        "dataset": dataset_part(account, ledger),
        "not_covered": list(NOT_COVERED),
    }


def guarantee_part(config: Config, account: Account, releases: Sequence[Release], relation: Relation) -> dict[str, Any]:
    """The part of a statement that says what its releases come to, under both relations, and what the words mean."""
    unit = account.unit

    def under(one: Relation) -> dict[str, Any]:
        return {"unit": unit.name, "relation": one.value, **_epsilons(config, releases, one)}

    return {
        "guarantee": under(relation),
        "other_relation": [under(other) for other in Relation if other is not relation],
        "unit": {"name": unit.name, "column": unit.column, "words": unit.words},
        "relation": {"name": relation.value, "words": relation.words},
    }


def dataset_part(account: Account, ledger: Ledger) -> dict[str, Any]:
    """The part of a statement about all that was ever released from the dataset, and where the ledger stood then."""
    return {
        "name": account.name,
        "unit": account.unit.name,
        "relation": account.relation.value,
        "budget": dataclasses.asdict(account.budget),
        "spent_epsilon": account.spent_epsilon,
        "left_epsilon": account.left_epsilon,
        "releases": len(account.releases),
        "history": history(account),
        "ledger": str(ledger.path),
        "ledger_position": account.position,
        "ledger_head_sha256": account.head,
    }


def history(account: Account) -> list[dict[str, Any]]:
    """The runs that a dataset was charged for, in the order of their last releases; epsilons at the budget's delta.

    A run is the part of a label before its first slash; `pretext fred` counts as one.
    """
    last = {_run_id(release): number for number, release in enumerate(account.releases)}
    told = []
    for run, number in sorted(last.items(), key=lambda item: item[1]):
        own = [release for release in account.releases if _run_id(release) == run]
        told.append(
            {
                "time": account.releases[number].time,
                "run": run,
                "releases": len(own),
                "epsilon": _spent_epsilon(account, own),
                "spent_epsilon": _spent_epsilon(account, account.releases[: number + 1]),
            }
        )
    return told


def describe_statement(statement: dict[str, Any]) -> str:
    """The statement in a few lines for the terminal; losses are rounded up."""
    guarantee, dataset = statement["guarantee"], statement["dataset"]
    other = statement["other_relation"][0]
    return "\n".join(
        [
            f"Guarantee    ({round_up(guarantee['epsilon'])}, {guarantee['delta']:g})-differential privacy, "
            f"unit {guarantee['unit']}, relation {guarantee['relation']}",
            f"             (relation {other['relation']}: epsilon {round_up(other['epsilon'])} at the same delta)",
            f"Unit         {statement['unit']['words']}",
            f"Relation     {statement['relation']['words']}",
            f"Releases     {describe_releases(statement)}, discrete Gaussian noise",
            f"Dataset     {dataset['name']}: epsilon {round_up(dataset['spent_epsilon'])} of "
            f"{dataset['budget']['epsilon']:.10g} spent in all "
            f"(delta {dataset['budget']['delta']:g}, unit {dataset['unit']}, {dataset['relation']})",
            f"Ledger       {dataset['ledger']}",
        ]
    )


def describe_releases(statement: dict[str, Any]) -> str:
    """What was released, in a few words."""
    rounds = statement.get("rounds_released")
    votes = [] if rounds is None else [f"{rounds} of {format_count(statement['rounds_planned'], 'round')} of votes"]
    moments = len(statement["releases"]) - (rounds or 0)
    return " and ".join([*votes, *(["moments of the clients' embeddings"] if moments else [])])


def _run_id(release: Release) -> str:
    return release.label.split("/", 1)[0]


def _spent_epsilon(account: Account, releases: Sequence[Release]) -> float:
    return epsilon(compose(release.cost(account.relation) for release in releases), account.budget.delta)


def _epsilons(config: Config, releases: Sequence[Release], relation: Relation) -> dict[str, float]:
    delta = config.privacy.delta
    total = compose(release.cost(relation) for release in releases)
    return {"epsilon": epsilon(total, delta), "delta": delta, "epsilon_by_renyi_accounting": rdp_epsilon(total, delta)}


def release_part(release: Release, relation: Relation) -> dict[str, Any]:
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


def make_fred_statement(
    config: Config, run_id: str, query: FredQuery, ledger: Ledger, account: Account, release: Release
) -> dict[str, Any]:
    """The machine-readable statement of a release of moments."""
    return {
        "format": "pretext privacy statement of a release of moments, version 1",
        "run": run_id,
        **guarantee_part(config, account, [release], query.relation),
        "releases": [release_part(release, query.relation)],
        "bounding": {
            "max_texts_per_client": config.privacy.max_texts_per_client,
            "vector": "mean over a client's texts of (count, mean, second moments), signed, of L2 norm 1 at most",
            "clients": "public" if query.clients else "counted by the release itself",
        },
        "proof": "PRIVACY.md and the docstring of privacy.moments",
        "dataset": dataset_part(account, ledger),
        "not_covered": list(NOT_COVERED),
    }
