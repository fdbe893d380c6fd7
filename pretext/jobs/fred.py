"""The FreD job: wire the parts together and rank public sets. Asking and asking again are the same function."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pretext.calibration import explain_slack, moments_multiplier
from pretext.config.settings import Config, Initial, Models
from pretext.fred.design import check_embedder, design_fred_query, embedder_identity, require_client_estimate
from pretext.fred.public_sets import PublicSet
from pretext.fred.query import QUERY_FILE, FredQuery, load_query
from pretext.fred.recommend import (
    CONFIDENCE,
    MeasuredSets,
    Ranking,
    ask_clients,
    measure_sets,
    rank_sets,
    resolve_public_sets,
)
from pretext.home import fred_cache_folder, open_ledger
from pretext.jobs.accounts import begin_run, find_run, open_account
from pretext.jobs.parts import Parts
from pretext.run.lock import lock_folder
from pretext.run.manifest import seal_run
from pretext.run.privacy_statement import PrivacyStatement
from pretext.separation import check_sources_apart, private_source
from pretext.statement.seals import RANKING_WRITES, open_sealed_run
from pretext.statement.statement import make_fred_statement
from pretext.tables import check_columns

_log = logging.getLogger("pretext")
_FIXED_SETTINGS = ("data.", "privacy.", "models.embedder")


@dataclass(frozen=True)
class Answer:
    """A ranking, the query behind it, and the privacy statement."""

    folder: Path
    ranking: Ranking
    query: FredQuery
    privacy: PrivacyStatement


def run_fred(
    config: Config,
    folder: Path,
    parts: Parts,
    *,
    choose: int = 1,
    confirmed: bool = False,
    accept_changes: bool = False,
) -> Answer:
    """Rank the configured public sets by one release: drawn now, or replayed from the ledger.

    Args:
        config: resolved settings; `initial.public_sets` are ranked.
        folder: keeps the query and the ranking; the release of an existing folder is used again, at no cost.
        parts: embedder and federation.
        choose: sets in the recommended mixture, at most.
        confirmed: the source may be charged under a name other than before.
        accept_changes: continue although somebody changed the sealed folder; the ledger records that.

    Raises:
        BudgetExceeded: nothing was drawn.
        PretextError: see its subclasses.
    """
    with lock_folder(folder):
        return _rank(config, folder, parts, choose, confirmed, accept_changes)


def _rank(config: Config, folder: Path, parts: Parts, choose: int, confirmed: bool, accept_changes: bool) -> Answer:
    """Rank in a folder that this process holds; arguments and errors as `run_fred`."""
    check_sources_apart(config.data, config.initial)
    sets = resolve_public_sets(config.initial)
    run = find_run(config, folder, None, _FIXED_SETTINGS, "fred")
    if run is not None:
        open_sealed_run(run, open_ledger(), RANKING_WRITES, accept_changes)
    query = None if run is None else load_query(run.folder)
    if query is None and config.data.path:
        check_columns(private_source(config.data), config.data.columns)
    require_client_estimate(config.privacy)
    measured = measure_public_sets(config.initial, config.models, sets, parts)
    if query is None:
        query = make_query(config, measured, parts)
        _warn_of_slack(config, query)
    check_embedder(query, config.models, parts.embedder())
    ledger = open_ledger()
    account = open_account(config, ledger, run, query.cost(query.relation), confirmed)
    run = run or begin_run(config, folder, ledger, account, "fred")
    run.write(QUERY_FILE, query.to_json())
    release = ask_clients(query, run, ledger, account, query.label, parts.federation)
    ranking = rank_sets(query, release, measured, choose)
    statement = make_fred_statement(config.privacy, run.id, query, ledger, ledger.account(account.name), release)
    run.save("ranking.json", {"confidence": CONFIDENCE, **asdict(ranking)})
    run.save_statement(statement)
    seal_run(run, ledger)
    return Answer(folder, ranking, query, statement)


def plan_query(config: Config, parts: Parts) -> FredQuery:
    """Make the query that `run_fred` would ask, with what it promises. Nothing private is touched.

    Raises:
        UsageError: a public set cannot be used, or there are fewer than two, or no number of clients is stated.
    """
    check_sources_apart(config.data, config.initial)
    sets = resolve_public_sets(config.initial)
    require_client_estimate(config.privacy)
    measured = measure_public_sets(config.initial, config.models, sets, parts)
    query = make_query(config, measured, parts)
    _warn_of_slack(config, query)
    return query


def _warn_of_slack(config: Config, query: FredQuery) -> None:
    if (warning := explain_slack(config.privacy, query.cost(config.privacy.relation))) is not None:
        _log.warning(warning)


def measure_public_sets(initial: Initial, models: Models, sets: Sequence[PublicSet], parts: Parts) -> MeasuredSets:
    """Measure the sets as configured, with the user's cache. Raises UsageError if two hold the same texts."""
    identity = embedder_identity(models)
    return measure_sets(sets, parts.embedder(), identity, initial.public_set_texts, fred_cache_folder())


def make_query(config: Config, measured: MeasuredSets, parts: Parts, epsilon: float | None = None) -> FredQuery:
    """Design the query whose release costs at most `epsilon` (default: all of the configured guarantee)."""
    privacy, models = config.privacy, config.models
    multiplier = moments_multiplier(privacy, epsilon)
    statistics = [statistics for _, statistics in measured]
    return design_fred_query(statistics, config.data, privacy, multiplier, models, parts.embedder())
