"""What the command line does, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pretext.config.flags import nest_flags
from pretext.config.resolve import resolve
from pretext.errors import UsageError
from pretext.formats.memory import collect_rows
from pretext.run.shards import synthetic_rows
from pretext.tables import read_rows

if TYPE_CHECKING:
    import pandas

    from pretext.config.settings import Config
    from pretext.evaluation.memorization import MemorizationCheck
    from pretext.jobs.fred import Answer
    from pretext.run.privacy_statement import PrivacyStatement

Rows: TypeAlias = "Iterable[str] | Iterable[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | pandas.DataFrame"
Data: TypeAlias = "str | Path | Rows"


@dataclass(frozen=True)
class Result:
    """A finished run, read from its folder."""

    folder: Path

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Read the synthetic texts with their labels one by one, each as a mapping."""
        return synthetic_rows(self.folder)

    @property
    def rows(self) -> list[dict[str, str]]:
        """All texts with their labels at once."""
        return list(self)

    @property
    def texts(self) -> list[str]:
        """The synthetic texts."""
        return [row["text"] for row in self.rows]

    @property
    def privacy(self) -> PrivacyStatement:
        """The privacy statement; `.to_json()` writes it as privacy.json holds it."""
        from pretext.run.folder import Run

        return Run.open(self.folder)[0].require_statement()

    def expand(self, texts: int, *, accept_changes: bool = False) -> Result:
        """Write more synthetic texts from the same seeds, `texts` in all. This costs no privacy.

        Args:
            texts: in all, those already written included.
            accept_changes: continue from files that were changed after they were sealed; the ledger records which.
        """
        from pretext.jobs.parts import Parts
        from pretext.jobs.run import expand_run
        from pretext.run.folder import Run

        run, config = Run.open(self.folder)
        expand_run(config, run, Parts.of(config), texts, accept_changes=accept_changes)
        return self

    def check_memorization(
        self, data: Rows | None = None, *, embedding: bool = True, control: int = 0
    ) -> MemorizationCheck:
        """Count the synthetic texts that repeat private ones. NOT private: for whoever holds the data, no release.

        Args:
            data: the private texts again, if they came from memory.
            embedding: look for near duplicates too, by embedding all private texts.
            control: texts to write as a control group; see `pretext.evaluation.memorization.check_memorization`.
        """
        from pretext.evaluation.memorization import check_memorization
        from pretext.jobs.parts import Parts
        from pretext.run.folder import Run

        _, config = Run.open(self.folder)
        parts = Parts.of(config)
        embed, engine = parts.embedder() if embedding else None, parts.engine() if control else None
        rows = None if data is None else collect_rows(data)
        return check_memorization(self.folder, embed=embed, engine=engine, control=control, rows=rows)


def synthesize(
    data: Data,
    *,
    out: str | Path = "run",
    epsilon: float | None = None,
    delta: float | None = None,
    client_column: str | None = None,
    prompts: Sequence[str] = (),
    public: str | Path | None = None,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    confirm_new_name: bool = False,
    accept_changes: bool = False,
) -> Result:
    """Write differentially private synthetic texts from private ones; the same call again resumes.

    The arguments after `out` are flags of `pretext run`, see `pretext.config.flags`.

    Args:
        data: a file, a folder of files, a Hugging Face dataset id, a list of texts, or rows in any container that
            `pretext.formats.memory.collect_rows` knows.
        out: the run folder.
        epsilon, delta: the guarantee of this run.
        client_column: column that tells clients apart; without it every record is a client of its own.
        prompts: public sentences that describe the domain.
        public: file or dataset of public texts for the initial population.
        dataset: name in the ledger; needed when `data` is not a file, so that its budget is found again.
        settings: any further settings, nested as in the configuration file; they override the arguments.
        confirm_new_name: charge a known file under a new dataset name: it now holds other people's data.
        accept_changes: continue from files that were changed after they were sealed; the ledger records which.

    Returns:
        the finished run.

    Raises:
        PretextError: one of its subclasses, each message a full sentence; `privacy.BudgetExceeded` drew nothing.
    """
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize as run_job

    path, rows = _locate_source(data, dataset)
    arguments = nest_flags(
        {
            "private": path,
            "client_column": client_column,
            "epsilon": epsilon,
            "delta": delta,
            "dataset": dataset,
            "prompts": prompts,
            "public": public,
        }
    )
    config = _resolve(settings, arguments, rows)
    parts = Parts.of(config, rows)
    run = run_job(config, Path(out), parts, confirmed=confirm_new_name, accept_changes=accept_changes)
    return Result(run.folder)


def rank_public_sets(
    data: Data,
    public_sets: Sequence[str | Path],
    *,
    clients: int,
    out: str | Path = "fred",
    epsilon: float | None = None,
    delta: float | None = None,
    client_column: str | None = None,
    choose: int = 1,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    confirm_new_name: bool = False,
    accept_changes: bool = False,
) -> Answer:
    """Rank public sets by their distance from the private texts, by one release (FreD).

    The same call again spends nothing; nor does one with other public sets and the same folder. The arguments are
    flags of `pretext fred`, see `pretext.config.flags`.

    Args:
        data: as for `synthesize`.
        public_sets: at least two public files or Hugging Face dataset ids.
        clients: a public estimate of the number of clients.
        out: the FreD folder.
        epsilon, delta: the guarantee of the release.
        client_column: column that tells clients apart.
        choose: number of public sets in the recommended mixture.
        dataset: name in the ledger; needed when `data` is not a file.
        settings: any further settings, nested as in the configuration file; they override the arguments.
        confirm_new_name, accept_changes: as for `synthesize`.

    Returns:
        the ranking with intervals and probabilities (`.ranking.lines`, `.ranking.recommendation`), the question that
        the clients answered, and the privacy statement.

    Raises:
        PretextError: one of its subclasses, each message a full sentence; `privacy.BudgetExceeded` drew nothing.
    """
    from pretext.jobs.fred import run_fred
    from pretext.jobs.parts import Parts

    path, rows = _locate_source(data, dataset)
    arguments = nest_flags(
        {
            "private": path,
            "client_column": client_column,
            "public_sets": public_sets,
            "epsilon": epsilon,
            "delta": delta,
            "clients": clients,
            "dataset": dataset,
        }
    )
    config = _resolve(settings, arguments, rows)
    return run_fred(
        config,
        Path(out),
        Parts.of(config, rows),
        choose=choose,
        confirmed=confirm_new_name,
        accept_changes=accept_changes,
    )


def _resolve(settings: Mapping[str, Any] | None, arguments: Mapping[str, Any], rows: Sequence[Any] | None) -> Config:
    """Resolve the settings, and check rows from memory against them before anything is started."""
    config = resolve(settings=settings, defaults=arguments)
    if rows is not None:
        next(read_rows(rows, config.data.columns, config.data.text_column))
    return config


def _locate_source(data: Data, dataset: str | None) -> tuple[str | None, list[Any] | None]:
    """Return a location, or rows from memory."""
    if isinstance(data, str | Path):
        return str(data), None
    if dataset is None:
        raise UsageError(
            "Texts from memory need a name for their budget in the ledger: give dataset, for example dataset='notes'."
        )
    return None, collect_rows(data)
