"""Makes the privacy statement from the ledger: what was released, under which guarantee, and what is not covered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pretext.calibration import Calibration
from pretext.config.settings import Config, Privacy
from pretext.formatting import format_count
from pretext.fred.query import FredQuery
from pretext.run.privacy_statement import (
    Accounting,
    DatasetAccount,
    Guarantee,
    MomentBounding,
    Neighbors,
    PrivacyStatement,
    ProfileBounding,
    Rounds,
    RunCharge,
    StatedRelease,
    UnitOfProtection,
    VoteBounding,
)
from privacy import Account, Cost, Ledger, Relation, Release, compose, epsilon, rdp_epsilon
from privacy.accounting import RunningCost
from privacy.events import run_of
from privacy.rounding import round_down, round_up

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


_CURVE = "exact Gaussian differential privacy curve (dp-accounting), plus the proven slack of the discrete noise"
_COMPOSITION = "adaptive, fully: mu^2 adds up"


def releases_of_run(account: Account, run_id: str) -> list[Release]:
    """Select the releases that belong to a run."""
    return [release for release in account.releases if release.label.startswith(f"{run_id}/")]


def count_rounds(releases: Sequence[Release]) -> int:
    """Count the releases that are rounds, of votes or profiles."""
    return sum(release.label.split("/")[1] in ("votes", "profile") for release in releases)


def make_statement(
    config: Config, calibration: Calibration, run_id: str, ledger: Ledger, account: Account
) -> PrivacyStatement:
    """Make the statement of a run; every epsilon comes with its delta, unit and relation.

    Args:
        config: the run's settings.
        calibration: the noise that they plan, and its price.
        run_id: names the run's releases in the ledger.
        ledger: that the run was charged to.
        account: of its dataset, as it stands or stood.
    """
    privacy = config.privacy
    releases = releases_of_run(account, run_id)
    return _state(
        run_id,
        releases,
        calibration.total_cost,
        privacy,
        ledger,
        account,
        rounds=Rounds(privacy.rounds, count_rounds(releases), privacy.release),
        bounding=_bounding(privacy, config.data.labels),
        proof="PRIVACY.md and the docstring of privacy.mechanisms",
    )


def _bounding(privacy: Privacy, labels: Sequence[str]) -> VoteBounding | ProfileBounding:
    choice = "uniform at random, from the operating system's entropy"
    over_labels = "one vector and one bound over all labels" if labels else None
    if privacy.release == "profile":
        vector = (
            "a vector of weighted counts of public features, votes for clusters and texts, non-negative, of Euclidean "
            "length 1 at most"
        )
        return ProfileBounding(privacy.max_texts_per_client, choice, vector, over_labels)
    return VoteBounding(
        max_texts_per_client=privacy.max_texts_per_client,
        choice=choice,
        vote_norm=float(privacy.norm_squared) ** 0.5,
        normalized=privacy.normalize_votes,
        labels=over_labels,
    )


def make_fred_statement(
    privacy: Privacy, run_id: str, query: FredQuery, ledger: Ledger, account: Account, release: Release
) -> PrivacyStatement:
    """Make the statement of a release of moments; arguments as `make_statement`."""
    bounding = MomentBounding(
        max_texts_per_client=privacy.max_texts_per_client,
        vector="mean over a client's texts of (count, mean, second moments), signed, of L2 norm 1 at most",
        clients="public" if query.clients else "counted by the release itself",
    )
    return _state(
        run_id,
        [release],
        query.cost,
        privacy,
        ledger,
        account,
        rounds=None,
        bounding=bounding,
        proof="PRIVACY.md and the docstring of privacy.moments",
    )


def _state(
    run_id: str,
    releases: Sequence[Release],
    planned: Callable[[Relation], Cost],
    privacy: Privacy,
    ledger: Ledger,
    account: Account,
    *,
    rounds: Rounds | None,
    bounding: VoteBounding | ProfileBounding | MomentBounding,
    proof: str,
) -> PrivacyStatement:
    unit, relation, delta = account.unit, privacy.relation, privacy.delta
    (other_relation,) = (neighbor for neighbor in Relation if neighbor is not relation)
    return PrivacyStatement(
        run=run_id,
        guarantee=_guarantee(account, planned, relation, delta),
        other_relation=_guarantee(account, planned, other_relation, delta),
        reading_epsilon=epsilon(compose(release.cost(relation) for release in releases), delta),
        unit=UnitOfProtection(unit.name, unit.column, unit.words),
        relation=Neighbors(relation.value, relation.words),
        rounds=rounds,
        releases=tuple(_state_release(release, relation) for release in releases),
        bounding=bounding,
        accountant=Accounting(_CURVE, _COMPOSITION, proof),
        dataset=_dataset_account(account, ledger),
        not_covered=NOT_COVERED,
    )


def _guarantee(account: Account, planned: Callable[[Relation], Cost], relation: Relation, delta: float) -> Guarantee:
    """State what was fixed before the first release: where a run stopped early, its releases alone bound nothing, since
    when it stopped may depend on them."""
    total = planned(relation)
    return Guarantee(account.unit.name, relation.value, epsilon(total, delta), delta, rdp_epsilon(total, delta))


def _state_release(release: Release, relation: Relation) -> StatedRelease:
    cost, deviation = release.cost(relation), release.mechanism.standard_deviation
    sensitivity = cost.mu_squared**0.5 * deviation
    return StatedRelease(
        label=release.label,
        subject_sha256=release.subject,
        mechanism=release.mechanism.name,
        coordinates=release.dimension,
        noise_standard_deviation=deviation,
        l2_sensitivity=sensitivity,
        noise_multiplier=deviation / sensitivity,
        grid=release.mechanism.grid,
        mu_squared=cost.mu_squared,
        slack=cost.slack,
        time=release.time,
        code=release.code,
    )


def _dataset_account(account: Account, ledger: Ledger) -> DatasetAccount:
    return DatasetAccount(
        name=account.name,
        unit=account.unit.name,
        relation=account.relation.value,
        budget=account.budget,
        spent_epsilon=account.spent_epsilon,
        reserved_epsilon=account.balance.reserved_epsilon,
        left_epsilon=account.left_epsilon,
        releases=len(account.releases),
        history=tuple(charge_history(account)),
        ledger=str(ledger.path),
        ledger_position=account.position,
        ledger_head_sha256=account.head,
    )


def charge_history(account: Account) -> list[RunCharge]:
    """List what each run was charged, in the order of their last releases; epsilons at the budget's delta.

    A run is the part of a label before its first slash; all of `pretext fred` counts as one.
    """
    last = {run_of(release.label): number for number, release in enumerate(account.releases)}
    own: dict[str, list[Cost]] = {}
    spent, charges, delta = RunningCost(), [], account.budget.delta
    for number, release in enumerate(account.releases):
        run, cost = run_of(release.label), release.cost(account.relation)
        own.setdefault(run, []).append(cost)
        spent = spent.plus(cost)
        if number == last[run]:
            own_epsilon, spent_epsilon = epsilon(compose(own[run]), delta), epsilon(spent.cost, delta)
            charges.append(RunCharge(release.time, run, len(own[run]), own_epsilon, spent_epsilon))
    return charges


def describe_statement(statement: PrivacyStatement) -> str:
    """Describe the statement in a few lines for the terminal; losses are rounded up."""
    guarantee, second, dataset = statement.guarantee, statement.other_relation, statement.dataset
    budget = dataset.budget
    return "\n".join(
        [
            f"Guarantee    ({round_up(guarantee.epsilon)}, {guarantee.delta:g})-differential privacy, "
            f"unit {guarantee.unit}, relation {guarantee.relation}",
            f"             (relation {second.relation}: epsilon {round_up(second.epsilon)} at the same delta)",
            *_describe_reading(statement),
            f"Unit         {statement.unit.words}",
            f"Relation     {statement.relation.words}",
            f"Releases     {describe_releases(statement)}, discrete Gaussian noise",
            f"Dataset      {dataset.name}: epsilon {budget.epsilon:.10g} is guaranteed for all that ever leaves it "
            f"(delta {budget.delta:g}, unit {dataset.unit}, {dataset.relation});",
            f"             reading so far: {round_up(dataset.spent_epsilon)} spent, "
            f"{round_up(dataset.reserved_epsilon)} reserved, {round_down(dataset.left_epsilon)} left",
            f"Ledger       {dataset.ledger}",
        ]
    )


def _describe_reading(statement: PrivacyStatement) -> list[str]:
    """Describe what an unfinished run has released so far; nothing for a finished one."""
    rounds = statement.rounds
    if rounds is None or rounds.released == rounds.planned:
        return []
    return [
        f"             fixed before the first release; reading after {rounds.released} of "
        f"{format_count(rounds.planned, 'round')}: {round_up(statement.reading_epsilon)}, which is no guarantee"
    ]


def describe_releases(statement: PrivacyStatement) -> str:
    """Describe what was released in a few words."""
    rounds, parts = statement.rounds, []
    if rounds is not None:
        of = "votes" if rounds.release == "votes" else "a profile"
        parts.append(f"{rounds.released} of {format_count(rounds.planned, 'round')} of {of}")
    if len(statement.releases) > (0 if rounds is None else rounds.released):
        parts.append("moments of the clients' embeddings")
    return " and ".join(parts)
