"""The main job: wires the parts together and runs them. Running and resuming are the same function."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import platformdirs

from pretext.clients import Ballot, Clients, VoteRule
from pretext.config import Config
from pretext.embedding import Embedder
from pretext.engines import Engine
from pretext.evolve import Noisy, Steps, evolve, seeds_of
from pretext.expansion import expand
from pretext.federation import Federation, LocalFederation
from pretext.fred.procedure import ask, measured, public_sets, rank
from pretext.fred.question import check_clients, question_for, restored, share_cost, share_of_epsilon, stored
from pretext.manifest import seal
from pretext.plan import Plan, plan, round_cost
from pretext.population import Candidate, digest, initial_population
from pretext.private import read_private
from pretext.report.card import write_card
from pretext.run import Run
from pretext.screen import Screen
from pretext.statement import rounds_released, run_releases, statement
from pretext.tables import Source, check_columns
from pretext.timing import Meter, Once
from pretext.variation import Variation, open_variation
from privacy import Account, Budget, Ledger, LedgerConflict, compose

_log = logging.getLogger("pretext")
Models: TypeAlias = tuple[Engine, Embedder]


@dataclass(frozen=True)
class Parts:
    """What is expensive to open; each is opened once, when it is first needed."""

    engine: Once[Engine]
    embedder: Once[Embedder]
    variation: Once[Variation]
    federation: Once[Federation]

    @classmethod
    def of(cls, config: Config, given: Sequence[Any] | None = None, models: Models | None = None) -> Parts:
        """The parts that a configuration names; `given` rows take the place of a private file, `models` that of the
        configured engine and embedder."""
        engine = Once(lambda: _engine(config) if models is None else models[0])
        embedder = Once(lambda: _embedder(config) if models is None else models[1])

        def gather() -> Clients:
            return Clients.embed(read_private(config.data, config.privacy.max_texts_per_client, given), embedder())

        return cls(
            engine,
            embedder,
            Once(lambda: open_variation(config, engine)),
            Once(lambda: LocalFederation(gather)),
        )


def home() -> Path:
    """The user's data folder: PRETEXT_HOME, or the platform's place for it."""
    return Path(os.environ.get("PRETEXT_HOME") or platformdirs.user_data_dir("pretext"))


def open_ledger() -> Ledger:
    """The user's ledger."""
    return Ledger(home() / "ledger.sqlite")


def cache() -> Path:
    """Where statistics of public sets are kept."""
    return home() / "fred"


def synthesize(
    config: Config, folder: Path, parts: Parts, *, confirmed: bool = False, ledger: Ledger | None = None
) -> Run:
    """Evolve, state and expand; arguments and errors as `evolve_run`."""
    run = evolve_run(config, folder, parts, confirmed=confirmed, ledger=ledger)
    with _logged(run):
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
        BudgetExceeded: the data set's budget does not hold all rounds still to come; nothing was drawn.
        PretextError, PrivacyError: see their subclasses; everything done so far is kept.
    """
    planned = plan(config)
    ledger = ledger or open_ledger()
    if not (folder / "run.json").exists():
        _check_sources(config)
    name = data_set_name(config, ledger)
    run = Run.create(folder, config)
    account = registered(config, ledger, name, planned.epsilon, confirmed)
    meter = Meter(parts.engine)
    with _logged(run):
        for warning in planned.warnings:
            _log.warning(warning)
        _afford(config, run, planned, account)
        try:
            with meter.kept(run):
                evolve(config, run, _steps(config, run, ledger, account, planned, parts, meter))
        finally:
            save_statement(config, run, ledger, name)
        seal(run, ledger)
    return run


def expand_run(config: Config, run: Run, parts: Parts, texts: int, ledger: Ledger | None = None) -> Path:
    """Write `texts` synthetic texts in all from a finished evolution, and seal the folder in the ledger (default: the
    user's). Costs no privacy."""
    meter = Meter(parts.engine)
    with meter.kept(run), meter.phase("expansion"):
        target = expand(config, run, seeds_of(config, run), parts.engine, texts)
    write_card(config, run)
    seal(run, ledger or open_ledger())
    return target


def data_set_name(config: Config, ledger: Ledger) -> str:
    """The configured name, or the one made from the path; that one must not belong to another file already.

    Raises:
        LedgerConflict: the default name is taken by another source.
    """
    if config.privacy.data_set is not None:
        return config.privacy.data_set
    known = ledger.names_of(_source(config).identity)
    if known:
        return known[0]
    name = _source(config).default_name
    if name in ledger.names():
        raise LedgerConflict(
            f"The data set name {name!r}, made from the path, is taken by another file in the ledger {ledger.path}. "
            "Name this one with privacy.data_set; give the same name only if it holds the same people's data."
        )
    return name


def save_statement(config: Config, run: Run, ledger: Ledger, name: str) -> dict[str, Any]:
    """Write privacy.json from the ledger and return it."""
    current = statement(config, run.id, ledger, ledger.account(name))
    run.save("privacy.json", current)
    return current


def _check_sources(config: Config) -> None:
    """Fail at the door: before a folder is made, a budget is set up or a model is loaded."""
    if config.data.path:
        check_columns(_source(config), config.data.columns)
    initial = config.initial
    if initial.candidates:
        public_sets(config)
        check_clients(config)
    if initial.texts is not None:
        check_columns(Source(initial.texts, initial.subset, initial.split), [initial.text_column])


def registered(config: Config, ledger: Ledger, name: str, cost: float, confirmed: bool) -> Account:
    """The data set's account; a new one's budget is the configured one, or the run's epsilon, or what the run costs."""
    privacy = config.privacy
    # A budget made from a run holds that run: what was calibrated to epsilon costs at most epsilon.
    budget = Budget(privacy.budget_epsilon or privacy.epsilon or cost, privacy.delta)
    identity = _source(config).identity if config.data.path else f"memory:{name}"
    return ledger.register(name, identity, config.unit, privacy.relation, budget, confirmed=confirmed)


def _afford(config: Config, run: Run, planned: Plan, account: Account) -> None:
    """Refuse before anything private is touched if the budget does not hold the rounds still to come."""
    releases = run_releases(account, run.id)
    coming = round_cost(config, planned.noise_multiplier, account.relation)
    found = any(release.label == f"{run.id}/fred" for release in releases)
    finding = [] if found else [share_cost(config, account.relation)]
    account.check(compose([*finding, *[coming] * (config.privacy.rounds - rounds_released(releases))]))


def _steps(
    config: Config, run: Run, ledger: Ledger, account: Account, planned: Plan, parts: Parts, meter: Meter
) -> Steps:
    rule = VoteRule(config.evolution.nearest, config.privacy.norm_squared, config.privacy.normalise_votes)

    def initial(screen: Screen) -> list[Candidate]:
        # Finding the candidates asks the clients: how long that takes is private.
        found = _found(config, run, ledger, account, parts) if config.initial.candidates else []
        with meter.phase("initial population"):
            return initial_population(config, parts.engine() if config.initial.prompts else None, found, screen)

    def ask(round_number: int, population: list[Candidate], ballot: Callable[[], Ballot]) -> Noisy:
        label, subject = f"{run.id}/votes/{round_number}", digest(population)
        release = ledger.replay(account.name, label, subject)
        if release is None:
            with meter.phase("loading models"):
                _open_all(config, parts)
            bounded = parts.federation().vote(ballot(), rule)
            release = ledger.release(account.name, label, subject, bounded, planned.mechanism, config.privacy.relation)
        return Noisy(release.noisy, release.mechanism.standard_deviation)

    return Steps(
        initial,
        ask,
        lambda: meter.timed("variations", parts.variation()),
        lambda: meter.timed("embedding of candidates", parts.embedder()),
    )


def _found(config: Config, run: Run, ledger: Ledger, account: Account, parts: Parts) -> list[str]:
    """Where the candidates lie whose mixture is nearest, by a release of the run's own."""
    sets = measured(config, public_sets(config), parts.embedder(), cache())
    plain = run.load("query.json")
    if plain is None:
        made = question_for(config, [each for _, each in sets], parts.embedder(), share_of_epsilon(config))
        plain = stored(made)
        run.save("query.json", plain)
    question = restored(plain)
    _open_all(config, parts)
    release = ask(question, ledger, account, f"{run.id}/fred", parts.federation)
    ranking = rank(question, release, sets, config.initial.candidates_chosen)
    run.save("ranking.json", asdict(ranking))
    _log.info(ranking.recommendation)
    return [public.source.location for name in ranking.mixture for public, _ in sets if public.name == name]


def _open_all(config: Config, parts: Parts) -> None:
    """Open every model before a round is paid for: one that cannot be loaded must not cost budget."""
    parts.embedder()
    if config.privacy.rounds > 1 or config.evolution.lookahead:
        parts.variation()
    parts.engine()


def _engine(config: Config) -> Engine:
    from pretext.engines import open_engine

    return open_engine(config.models, config.speed)


def _embedder(config: Config) -> Embedder:
    from pretext.embedding import SentenceEmbedder

    return SentenceEmbedder.from_config(config)


def _source(config: Config) -> Source:
    return Source(config.data.path, config.data.subset, config.data.split)


@contextmanager
def _logged(run: Run) -> Iterator[None]:
    """Copy this program's log, and no library's, into the run folder."""
    with run.writing():
        handler = logging.FileHandler(run.folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
