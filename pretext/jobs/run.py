"""The main job: wire the parts together and run them. Running and resuming are the same function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

from pretext.calibration import Calibration
from pretext.clients.voting import VoteRule
from pretext.config.settings import Config, Data, Initial, Privacy
from pretext.errors import RunFolderError, UsageError
from pretext.evolution.expansion import SeedWriter, expand
from pretext.evolution.initial import make_initial_population
from pretext.evolution.loop import evolve
from pretext.evolution.public_texts import read_public_texts
from pretext.evolution.releases import RoundReleases
from pretext.evolution.selection import collect_seeds
from pretext.evolution.trial import try_variation, try_writer
from pretext.fred.design import require_client_estimate
from pretext.fred.query import QUERY_FILE, load_query
from pretext.fred.recommend import ask_clients, rank_sets, resolve_public_sets
from pretext.home import open_ledger
from pretext.jobs.accounts import (
    begin_run,
    charged_ledger,
    find_run,
    open_account,
    reservation,
    save_statement,
)
from pretext.jobs.adapting import check_adaptation
from pretext.jobs.fred import make_query, measure_public_sets
from pretext.jobs.parts import Parts, TimedModels
from pretext.jobs.plan import make_plan
from pretext.jobs.profile import ProfileRun
from pretext.jobs.timing import Meter
from pretext.models.engines import Engine
from pretext.report.card import write_card
from pretext.run.folder import Run
from pretext.run.lock import lock_folder
from pretext.run.manifest import seal_run
from pretext.run.records import Candidate, Seed
from pretext.screening.screen import Screen
from pretext.separation import private_source
from pretext.statement.seals import RUN_WRITES, open_sealed_run
from pretext.statement.statement import count_rounds, releases_of_run
from pretext.tables import Source, check_columns
from privacy import Account, Cost, Ledger, compose

_TRIED = 64  # texts of a pool that serve the trial of the generator as examples
_SAMPLES = 16  # texts of each public set for the trial of the generator
_log = logging.getLogger("pretext")


def synthesize(
    config: Config,
    folder: Path,
    parts: Parts,
    *,
    confirmed: bool = False,
    accept_changes: bool = False,
    ledger: Ledger | None = None,
) -> Run:
    """Evolve, state the guarantee, and expand; arguments and errors as `evolve_run`."""
    with lock_folder(folder):
        run = _evolve(config, folder, parts, confirmed, accept_changes, ledger)
        with _log_to_folder(run):
            _expand(config, run, parts, config.expansion.texts, accept_changes, ledger)
    return run


def evolve_run(
    config: Config,
    folder: Path,
    parts: Parts,
    *,
    confirmed: bool = False,
    accept_changes: bool = False,
    ledger: Ledger | None = None,
) -> Run:
    """Evolve and state the guarantee, without the expansion. What the folder already holds is not done again.

    Args:
        config: resolved settings.
        folder: the run folder, new or of the same configuration.
        parts: engine, embedder, variation, federation.
        confirmed: the source may be charged under a name other than before.
        accept_changes: continue although somebody changed the sealed folder; the ledger records that.
        ledger: default: the user's.

    Raises:
        BudgetExceeded: the dataset's budget does not hold all rounds still to come; nothing was drawn.
        PretextError: see its subclasses; everything done so far is kept.
    """
    with lock_folder(folder):
        return _evolve(config, folder, parts, confirmed, accept_changes, ledger)


def _evolve(
    config: Config, folder: Path, parts: Parts, confirmed: bool, accept_changes: bool, ledger: Ledger | None
) -> Run:
    """Evolve in a folder that this process holds; arguments and errors as `evolve_run`."""
    plan, calibration = make_plan(config), Calibration.of(config)
    run = find_run(config, folder, ledger)
    if run is None:
        _check_sources(config.data, config.initial, config.privacy)
        check_adaptation(config)
    ledger = ledger or open_ledger()
    if run is not None:
        open_sealed_run(run, ledger, RUN_WRITES, accept_changes)
    account = open_account(config, ledger, run, calibration.total_cost(), confirmed)
    run = run or begin_run(config, folder, ledger, account)
    meter = Meter(parts.engine)
    varies = config.privacy.release == "votes" and (config.privacy.rounds > 1 or config.evolution.lookahead > 0)
    models = TimedModels(parts, meter, varies)
    evolution = _Evolution(config, calibration, run, ledger, account, parts, models)
    with _log_to_folder(run):
        for warning in plan.warnings:
            _log.warning(warning)
        try:
            with reservation(ledger, account, run, evolution.cost_to_come(), config.unit), meter.persist(run):
                evolution.work()
        finally:
            save_statement(config, run, ledger)
        seal_run(run, ledger)
    return run


def expand_run(
    config: Config, run: Run, parts: Parts, texts: int, ledger: Ledger | None = None, *, accept_changes: bool = False
) -> Path:
    """Write synthetic texts from a finished evolution until there are `texts`, and seal the folder in the ledger.

    Costs no privacy. The ledger defaults to the user's.

    Raises:
        LedgerConflict: it is not the one that the run is charged to.
        PretextError: see its subclasses; everything done so far is kept.
    """
    with lock_folder(run.folder):
        return _expand(config, run, parts, texts, accept_changes, ledger)


def _expand(config: Config, run: Run, parts: Parts, texts: int, accept_changes: bool, ledger: Ledger | None) -> Path:
    """Expand a run whose folder this process holds; arguments and errors as `expand_run`."""
    ledger = charged_ledger(run, ledger)
    open_sealed_run(run, ledger, RUN_WRITES, accept_changes)
    if run.expansion_state().kept < texts:
        ledger.open_again(run.account.dataset, run.id)
    meter = Meter(parts.engine)
    with meter.persist(run), meter.phase("expansion"):
        if config.privacy.release == "profile":
            target = ProfileRun(config, run, parts, TimedModels(parts, Meter(parts.engine), False)).expand(texts)
        else:
            target = expand_seeds(config, run, save_seeds(config, run), parts.engine, texts)
    save_statement(config, run, ledger)
    write_card(run.folder)
    seal_run(run, ledger)
    return target


def expand_seeds(config: Config, run: Run, seeds: Sequence[Seed], engine: Callable[[], Engine], texts: int) -> Path:
    """Write synthetic texts from seeds as a configuration describes; see `expand`."""
    style = config.prompt_style
    return expand(
        run,
        lambda: SeedWriter(seeds, engine(), config.expansion, style, config.evolution.seed),
        chain(style.anchors, (seed.text for seed in seeds)),
        texts,
        expansion=config.expansion,
        screening=config.screening,
        prompts_at_once=config.speed.prompts_at_once,
    )


def save_seeds(config: Config, run: Run) -> list[Seed]:
    """Collect the seeds of a finished evolution and save them for people. Raises what `collect_seeds` does."""
    return run.save_seeds(collect_seeds(run, config.seed_rounds, config.evolution.seed_power), config.data.labels)


def vote_rule(privacy: Privacy, nearest: int) -> VoteRule:
    """Make the rule by which a client votes."""
    return VoteRule(nearest, privacy.norm_squared, privacy.normalize_votes)


def make_first_population(
    config: Config, screen: Screen, engine: Engine | None, locations: Sequence[str] = ()
) -> list[Candidate]:
    """Make the first population that a configuration describes; arguments as `make_initial_population`."""
    return make_initial_population(
        config.initial, config.evolution, config.variation, config.prompt_style, screen, engine, locations
    )


@dataclass(frozen=True)
class _Evolution:
    """An evolution on its way: its settings, noise, folder, account and models."""

    config: Config
    calibration: Calibration
    run: Run
    ledger: Ledger
    account: Account
    parts: Parts
    models: TimedModels

    def cost_to_come(self) -> Cost:
        """Compute what the releases still to come cost at most, under the account's relation."""
        calibration, relation = self.calibration, self.account.relation
        releases = releases_of_run(self.account, self.run.id)
        finds = bool(self.config.initial.public_sets) and len(releases) == count_rounds(releases)
        rounds = [calibration.round_cost(relation)] * self.rounds_to_release()
        return compose([calibration.fred_cost(relation)] * finds + rounds)

    def rounds_to_release(self) -> int:
        """Count the rounds that were not released when this job began."""
        return self.config.privacy.rounds - count_rounds(releases_of_run(self.account, self.run.id))

    def try_generator(self, candidates: Sequence[Candidate]) -> None:
        """Open all models and ask for a few texts, so that none that fails or writes nothing usable costs budget."""
        config, parts, seed = self.config, self.parts, self.config.evolution.seed
        self.models.open_all()
        with self.models.meter.phase("trial"):
            if self.models.varies:
                try_variation(parts.variation(), candidates, config.screening, seed)
            seeds = [Seed(candidate.text, candidate.label, 0, 1.0, 1.0) for candidate in candidates]
            writer = SeedWriter(seeds, parts.engine(), config.expansion, config.prompt_style, seed)
            try_writer(writer, config.screening)

    def work(self) -> None:
        """Run all rounds and save the seeds."""
        config, kind = self.config, self.config.privacy.release
        mechanism = self.calibration.mechanism
        releases = RoundReleases(self.ledger, self.account.name, self.run, kind, mechanism, config.privacy.relation)
        if kind == "profile":
            profile = ProfileRun(config, self.run, self.parts, self.models)
            pool = profile.make_pool(self.public_locations)
            if self.rounds_to_release():
                self.try_generator(pool[:_TRIED])
                profile.find_weights()
            profile.work(releases, pool)
            return
        population = self.first_population()
        if self.rounds_to_release():
            self.try_generator(population)
        evolve(
            self.run,
            population,
            releases,
            self.parts.federation,
            self.models,
            rounds=config.privacy.rounds,
            rule=vote_rule(config.privacy, config.evolution.nearest),
            evolution=config.evolution,
            screening=config.screening,
        )
        save_seeds(config, self.run)

    def first_population(self) -> list[Candidate]:
        """Read the first population from the folder, or make and save it now."""
        if (population := self.run.population(0)) is not None:
            return population
        initial, screen = self.config.initial, Screen(self.config.screening)
        locations = self.public_locations()
        with self.models.meter.phase("initial population"):
            engine = self.parts.engine() if initial.prompts else None
            population = make_first_population(self.config, screen, engine, locations)
        return self.run.save_population(0, population, dict(screen.dropped))

    def public_locations(self) -> list[str]:
        """Name the public sets, which FreD may have to find first.

        That asks the clients: how long it takes is private, so it is not timed.
        """
        initial = self.config.initial
        if initial.public_sets:
            return self.find_public_sets()
        return [] if initial.texts is None else [initial.texts]

    def find_public_sets(self) -> list[str]:
        """Find where the public sets lie whose mixture is nearest, by a release of the run's own."""
        config, run, label = self.config, self.run, f"{self.run.id}/fred"
        sets = measure_public_sets(config.initial, config.models, resolve_public_sets(config.initial), self.parts)
        query = load_query(run.folder)
        if query is None:
            query = make_query(config, sets, self.parts, self.calibration.fred_epsilon)
            run.write(QUERY_FILE, query.to_json())
        if all(release.label != label for release in releases_of_run(self.account, run.id)):
            self.try_generator(_read_samples(config.initial, config.screening.max_words))
        release = ask_clients(query, run, self.ledger, self.account, label, self.parts.federation)
        ranking = rank_sets(query, release, sets, config.initial.public_sets_used)
        run.save("ranking.json", asdict(ranking))
        _log.info(ranking.recommendation)
        return [public.source.location for name in ranking.mixture for public, _ in sets if public.name == name]


def _check_sources(data: Data, initial: Initial, privacy: Privacy) -> None:
    """Fail at the door: before a folder is made, a budget is set up or a model is loaded."""
    if data.path:
        check_columns(private_source(data), data.columns)
    if initial.public_sets:
        resolve_public_sets(initial)
        require_client_estimate(privacy)
    if initial.texts is not None:
        check_columns(Source(initial.texts, initial.subset, initial.split), [initial.text_column])


def _read_samples(initial: Initial, max_words: int) -> list[Candidate]:
    """Read the first few texts of each public set."""
    texts = [islice(read_public_texts(initial, location, max_words), _SAMPLES) for location in initial.public_sets]
    samples = [Candidate(text) for text in chain.from_iterable(texts)]
    if not samples:
        raise UsageError(
            f"No public set has a text of at least {initial.min_words} words; lower initial.min_words or give others."
        )
    return samples


class _RunLog(logging.FileHandler):
    """Writes run.log; once that fails, as on a full disk, the work goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Give up, and say so."""
        _log.removeHandler(self)
        _log.warning("%s cannot be written, so nothing more goes there.", self.baseFilename)


@contextmanager
def _log_to_folder(run: Run) -> Iterator[None]:
    """Copy this program's log, and no library's, into the run folder."""
    path = run.folder / "run.log"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RunFolderError(f"{path} is not a regular file; remove it.")
    with run.writing():
        handler = _RunLog(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
