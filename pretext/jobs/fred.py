"""The FreD job: wires the parts together and ranks candidates. Asking and asking again are the same function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretext.config.resolve import compare_configs
from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.fred.design import check_client_estimate, check_embedder, design_question
from pretext.fred.query import Question, decode_question, encode_question
from pretext.fred.recommend import CONFIDENCE, Ranking, ask_clients, measure_sets, rank_sets, resolve_public_sets
from pretext.home import fred_cache_folder, open_ledger
from pretext.jobs.accounts import dataset_name, open_account, private_source
from pretext.jobs.parts import Parts
from pretext.run.folder import Run
from pretext.run.manifest import seal_run
from pretext.statement.statement import make_fred_statement
from pretext.tables import check_columns
from privacy import epsilon

_FIXED_SETTINGS = ("data.", "privacy.", "models.embedder")


@dataclass(frozen=True)
class Answer:
    """A ranking, the question behind it, and the privacy statement."""

    folder: Path
    ranking: Ranking
    question: Question
    privacy: dict[str, Any]


def plan_question(config: Config, parts: Parts) -> Question:
    """What would be asked, and what it promises. Nothing private is touched.

    Raises:
        UsageError: a candidate cannot be used, or there are fewer than two, or the number of clients is not stated.
    """
    sets = resolve_public_sets(config)
    check_client_estimate(config)
    found = measure_sets(config, sets, parts.embedder(), fred_cache_folder())
    return design_question(config, [each for _, each in found], parts.embedder())


def run_fred(config: Config, folder: Path, parts: Parts, *, choose: int = 1, confirmed: bool = False) -> Answer:
    """Rank the configured candidates by one release, made now or found in the folder or in the ledger.

    Args:
        config: resolved settings; `initial.public_sets` are ranked.
        folder: holds the question and the ranking; an existing one's release is used again, at no cost.
        parts: embedder and federation.
        choose: how many candidates the mixture may hold.
        confirmed: the source may be charged under a name other than before.

    Raises:
        BudgetExceeded: nothing was drawn.
        PretextError, PrivacyError: see their subclasses.
    """
    sets = resolve_public_sets(config)
    run, question = _load_question(config, folder)
    ledger = open_ledger()
    if question is None and config.data.path:
        check_columns(private_source(config.data), config.data.columns)
    name = dataset_name(config.data, config.privacy.dataset, ledger)
    check_client_estimate(config)
    found = measure_sets(config, sets, parts.embedder(), fred_cache_folder())
    if question is None:
        question = design_question(config, [each for _, each in found], parts.embedder())
        run = Run.create(folder, config)
        run.save("query.json", encode_question(question))
    assert run is not None
    check_embedder(question, config, parts.embedder())
    own = epsilon(question.cost(question.relation), config.privacy.delta)
    account = open_account(config, ledger, name, own, confirmed)
    release = ask_clients(question, ledger, account, question.label, parts.federation)
    ranking = rank_sets(question, release, found, choose)
    privacy = make_fred_statement(config, run.id, question, ledger, ledger.account(account.name), release)
    run.save("ranking.json", {"confidence": CONFIDENCE, **asdict(ranking)})
    run.save("privacy.json", privacy)
    seal_run(run, ledger)
    return Answer(folder, ranking, question, privacy)


def _load_question(config: Config, folder: Path) -> tuple[Run | None, Question | None]:
    """The folder's run and question, if it holds them.

    Raises:
        RunFolderError: the folder belongs to another question, or is damaged.
    """
    if not (folder / "run.json").exists():
        return None, None
    run, before = Run.open(folder)
    changed = [key for key in compare_configs(before, config) if key.startswith(_FIXED_SETTINGS)]
    if changed:
        raise RunFolderError(
            f"{folder} holds a release of another question (it differs in {', '.join(changed)}); give another folder "
            "with --out, or the same settings."
        )
    plain = run.load("query.json")
    try:
        return run, None if plain is None else decode_question(plain)
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(
            f"{folder / 'query.json'} is damaged; delete the folder: if nothing else changed, the ledger replays its "
            "release at no cost."
        ) from None
