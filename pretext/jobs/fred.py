"""The FreD job: wires the parts together and ranks candidates. Asking and asking again are the same function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretext.config.resolve import differences
from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.fred.design import check_clients, check_embedder, question_for
from pretext.fred.query import Question, restored, stored
from pretext.fred.recommend import CONFIDENCE, Ranking, ask, measured, public_sets, rank
from pretext.home import cache, open_ledger
from pretext.jobs.accounts import data_set_name, registered
from pretext.jobs.parts import Parts
from pretext.run.folder import Run
from pretext.run.manifest import seal
from pretext.statement.statement import fred_statement
from pretext.tables import Source, check_columns
from privacy import epsilon

_FIXED = ("data.", "privacy.", "models.embedder")


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
    sets = public_sets(config)
    check_clients(config)
    found = measured(config, sets, parts.embedder(), cache())
    return question_for(config, [each for _, each in found], parts.embedder())


def fred(config: Config, folder: Path, parts: Parts, *, choose: int = 1, confirmed: bool = False) -> Answer:
    """Rank the configured candidates by one release, made now or found in the folder or in the ledger.

    Args:
        config: resolved settings; `initial.candidates` are ranked.
        folder: holds the question and the ranking; an existing one's release is used again, at no cost.
        parts: embedder and federation.
        choose: how many candidates the mixture may hold.
        confirmed: the source may be charged under a name other than before.

    Raises:
        BudgetExceeded: nothing was drawn.
        PretextError, PrivacyError: see their subclasses.
    """
    sets = public_sets(config)
    run, question = _reopened(config, folder)
    ledger = open_ledger()
    if question is None and config.data.path:
        check_columns(Source(config.data.path, config.data.subset, config.data.split), config.data.columns)
    name = data_set_name(config, ledger)
    check_clients(config)
    found = measured(config, sets, parts.embedder(), cache())
    if question is None:
        question = question_for(config, [each for _, each in found], parts.embedder())
        run = Run.create(folder, config)
        run.save("query.json", stored(question))
    assert run is not None
    check_embedder(question, config, parts.embedder())
    own = epsilon(question.cost(question.relation), config.privacy.delta)
    account = registered(config, ledger, name, own, confirmed)
    release = ask(question, ledger, account, question.label, parts.federation)
    ranking = rank(question, release, found, choose)
    privacy = fred_statement(config, run.id, question, ledger, ledger.account(name), release)
    run.save("ranking.json", {"confidence": CONFIDENCE, **asdict(ranking)})
    run.save("privacy.json", privacy)
    seal(run, ledger)
    return Answer(folder, ranking, question, privacy)


def _reopened(config: Config, folder: Path) -> tuple[Run | None, Question | None]:
    """The folder's run and question, if it holds them.

    Raises:
        RunFolderError: the folder belongs to another question, or is damaged.
    """
    if not (folder / "run.json").exists():
        return None, None
    run, before = Run.open(folder)
    changed = [key for key in differences(before, config) if key.startswith(_FIXED)]
    if changed:
        raise RunFolderError(
            f"{folder} holds a release of another question (it differs in {', '.join(changed)}); give another folder "
            "with --out, or the same settings."
        )
    plain = run.load("query.json")
    try:
        return run, None if plain is None else restored(plain)
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(
            f"{folder / 'query.json'} is damaged; delete the folder: if nothing else changed, the ledger replays its "
            "release at no cost."
        ) from None
