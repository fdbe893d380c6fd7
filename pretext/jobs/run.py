"""The main job: wires the parts together and runs them. Running and resuming are the same function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pretext.calibration import fred_cost, fred_epsilon, round_cost
from pretext.clients.voting import Ballot, VoteRule
from pretext.config.settings import Config
from pretext.evolution.expansion import expand
from pretext.evolution.initial import make_initial_population
from pretext.evolution.loop import Steps, evolve
from pretext.evolution.selection import NoisyHistogram, save_seeds_of_run
from pretext.fred.design import check_client_estimate, design_question
from pretext.fred.query import decode_question, encode_question
from pretext.fred.recommend import ask_clients, measure_sets, rank_sets, resolve_public_sets
from pretext.home import fred_cache_folder, open_ledger
from pretext.jobs.accounts import _private_source, dataset_name, register_dataset, save_statement
from pretext.jobs.parts import Parts
from pretext.jobs.plan import Plan, make_plan
from pretext.jobs.timing import Meter
from pretext.report.card import write_card
from pretext.run.folder import Run
from pretext.run.manifest import seal_run
from pretext.run.records import Candidate, digest_population
from pretext.screening.screen import Screen
from pretext.statement.statement import count_voting_rounds, releases_of_run
from pretext.tables import Source, check_columns
from privacy import Account, Ledger, compose

_log = logging.getLogger("pretext")


def synthesize(
    config: Config, folder: Path, parts: Parts, *, confirmed: bool = False, ledger: Ledger | None = None
) -> Run:
    """Evolve, state and expand; arguments and errors as `evolve_run`."""
    run = evolve_run(config, folder, parts, confirmed=confirmed, ledger=ledger)
    with _log_to_folder(run):
        expand_run(config, run, parts, config.expansion.texts, ledger)
    return run


def evolve_run(
    config: Config, folder: Path, parts: Parts, *, confirmed: bool = False, ledger: Ledger | None = None
) -> Run:
    """Evolve and state, without the expansion; whatever the folder already holds is not done again.

    Args:
        config: resolved settings.
        folder: the run folder, new or of the same configuration.
        parts: engine, embedder, variation, federation.
        confirmed: the source may be charged under a name other than before.
        ledger: default: the user's.

    Raises:
        BudgetExceeded: the dataset's budget does not hold all rounds still to come; nothing was drawn.
        PretextError, PrivacyError: see their subclasses; everything done so far is kept.
    """
    planned = make_plan(config)
    ledger = ledger or open_ledger()
    if not (folder / "run.json").exists():
        _check_sources(config)
    name = dataset_name(config, ledger)
    run = Run.create(folder, config)
    account = register_dataset(config, ledger, name, planned.epsilon, confirmed)
    meter = Meter(parts.engine)
    with _log_to_folder(run):
        for warning in planned.warnings:
            _log.warning(warning)
        _check_budget(config, run, planned, account)
        try:
            with meter.persist(run):
                evolve(config, run, _make_steps(config, run, ledger, account, planned, parts, meter))
        finally:
            save_statement(config, run, ledger, name)
        seal_run(run, ledger)
    return run


def expand_run(config: Config, run: Run, parts: Parts, texts: int, ledger: Ledger | None = None) -> Path:
    """Write `texts` synthetic texts in all from a finished evolution, and seal the folder in the ledger (default: the
    user's). Costs no privacy."""
    meter = Meter(parts.engine)
    with meter.persist(run), meter.phase("expansion"):
        target = expand(config, run, save_seeds_of_run(config, run), parts.engine, texts)
    write_card(config, run)
    seal_run(run, ledger or open_ledger())
    return target


def _check_sources(config: Config) -> None:
    """Fail at the door: before a folder is made, a budget is set up or a model is loaded."""
    if config.data.path:
        check_columns(_private_source(config), config.data.columns)
    initial = config.initial
    if initial.public_sets:
        resolve_public_sets(config)
        check_client_estimate(config)
    if initial.texts is not None:
        check_columns(Source(initial.texts, initial.subset, initial.split), [initial.text_column])


def _check_budget(config: Config, run: Run, planned: Plan, account: Account) -> None:
    """Refuse before anything private is touched if the budget does not hold the rounds still to come."""
    releases = releases_of_run(account, run.id)
    coming = round_cost(config, planned.noise_multiplier, account.relation)
    found = any(release.label == f"{run.id}/fred" for release in releases)
    finding = [] if found else [fred_cost(config, account.relation)]
    account.check(compose([*finding, *[coming] * (config.privacy.rounds - count_voting_rounds(releases))]))


def _make_steps(
    config: Config, run: Run, ledger: Ledger, account: Account, planned: Plan, parts: Parts, meter: Meter
) -> Steps:
    rule = VoteRule(config.evolution.nearest, config.privacy.norm_squared, config.privacy.normalize_votes)

    def initial(screen: Screen) -> list[Candidate]:
        # Finding the candidates asks the clients: how long that takes is private.
        found = _find_public_sets(config, run, ledger, account, parts) if config.initial.public_sets else []
        with meter.phase("initial population"):
            return make_initial_population(config, parts.engine() if config.initial.prompts else None, found, screen)

    def ask(round_number: int, population: list[Candidate], ballot: Callable[[], Ballot]) -> NoisyHistogram:
        label, subject = f"{run.id}/votes/{round_number}", digest_population(population)
        release = ledger.replay(account.name, label, subject)
        if release is None:
            with meter.phase("loading models"):
                _open_models(config, parts)
            bounded = parts.federation().vote(ballot(), rule)
            release = ledger.release(account.name, label, subject, bounded, planned.mechanism, config.privacy.relation)
        return NoisyHistogram(release.noisy, release.mechanism.standard_deviation)

    return Steps(
        initial,
        ask,
        lambda: meter.time_calls("variations", parts.variation()),
        lambda: meter.time_calls("embedding of candidates", parts.embedder()),
    )


def _find_public_sets(config: Config, run: Run, ledger: Ledger, account: Account, parts: Parts) -> list[str]:
    """Where the candidates lie whose mixture is nearest, by a release of the run's own."""
    sets = measure_sets(config, resolve_public_sets(config), parts.embedder(), fred_cache_folder())
    plain = run.load("query.json")
    if plain is None:
        made = design_question(config, [each for _, each in sets], parts.embedder(), fred_epsilon(config))
        plain = encode_question(made)
        run.save("query.json", plain)
    question = decode_question(plain)
    _open_models(config, parts)
    release = ask_clients(question, ledger, account, f"{run.id}/fred", parts.federation)
    ranking = rank_sets(question, release, sets, config.initial.public_sets_used)
    run.save("ranking.json", asdict(ranking))
    _log.info(ranking.recommendation)
    return [public.source.location for name in ranking.mixture for public, _ in sets if public.name == name]


def _open_models(config: Config, parts: Parts) -> None:
    """Open every model before a round is paid for: one that cannot be loaded must not cost budget."""
    parts.embedder()
    if config.privacy.rounds > 1 or config.evolution.lookahead:
        parts.variation()
    parts.engine()


@contextmanager
def _log_to_folder(run: Run) -> Iterator[None]:
    """Copy this program's log, and no library's, into the run folder."""
    with run.explain_write_errors():
        handler = logging.FileHandler(run.folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
