"""What the command line does, from a notebook."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretext.config.resolve import resolve
from pretext.errors import UsageError
from pretext.run.shards import synthetic_rows
from pretext.tables import resolve_location

if TYPE_CHECKING:
    import pandas

    from pretext.evaluation.memorization import MemorizationCheck
    from pretext.jobs.fred import Answer


@dataclass(frozen=True)
class Result:
    """A finished run, read from its folder."""

    folder: Path

    def __iter__(self) -> Iterator[dict[str, str]]:
        """The synthetic texts with their labels, one mapping each, read as a stream."""
        return synthetic_rows(self.folder)

    @property
    def rows(self) -> list[dict[str, str]]:
        """All of them at once."""
        return list(self)

    @property
    def texts(self) -> list[str]:
        """The synthetic texts."""
        return [row["text"] for row in self.rows]

    @property
    def privacy(self) -> dict[str, Any]:
        """The privacy statement."""
        return dict(json.loads((self.folder / "privacy.json").read_text(encoding="utf-8")))

    def expand(self, texts: int) -> Result:
        """Write more synthetic texts, until there are so many, from the same seeds. Costs no privacy."""
        from pretext.jobs.parts import Parts
        from pretext.jobs.run import expand_run
        from pretext.run.folder import Run

        run, config = Run.open(self.folder)
        expand_run(config, run, Parts.of(config), texts)
        return self

    def check_memorization(self, data: Any = None, *, embedding: bool = True, control: int = 0) -> MemorizationCheck:
        """What of the private texts stands in the synthetic ones. NOT private: for whoever holds the data, no release.

        Args:
            data: the private texts again, where they came from memory.
            embedding: look for near duplicates too, by embedding all private texts.
            control: texts to write as a control group; see `pretext.evaluation.memorization.check_memorization`.
        """
        from pretext.evaluation.memorization import check_memorization
        from pretext.jobs.parts import Parts
        from pretext.run.folder import Run

        _, config = Run.open(self.folder)
        parts = Parts.of(config)
        embed, engine = parts.embedder() if embedding else None, parts.engine() if control else None
        return check_memorization(self.folder, embed=embed, engine=engine, control=control, rows=_convert_rows(data))


def synthesize(
    data: str | Path | Sequence[str] | Sequence[Mapping[str, Any]] | pandas.DataFrame,
    *,
    out: str | Path = "run",
    epsilon: float | None = None,
    delta: float | None = None,
    client_column: str | None = None,
    prompts: Sequence[str] = (),
    public: str | Path | None = None,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Private texts in, differentially private synthetic texts out. Called again with the same arguments, it resumes.

    Args:
        data: a file, a Hugging Face dataset id, a list of texts, a list of rows, or a DataFrame.
        out: the run folder.
        epsilon, delta: the guarantee of this run.
        client_column: column that tells clients apart; without it every record is a client of its own.
        prompts: public sentences that describe the domain.
        public: file or dataset of public texts for the initial population.
        dataset: name in the ledger; needed when `data` is not a file, so that its budget is found again.
        settings: any further settings, nested as in the configuration file.

    Raises:
        PretextError, privacy.PrivacyError: see the command line; each message is one full sentence.
    """
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize as run_job

    path, rows = _locate_source(data, dataset)
    chosen: dict[str, dict[str, Any]] = {
        "data": {"path": path, "client_column": client_column},
        "privacy": {"epsilon": epsilon, "delta": delta, "dataset": dataset},
        "initial": {
            "prompts": list(prompts) or None,
            "texts": None if public is None else resolve_location(public),
        },
    }
    given = {name: {key: value for key, value in table.items() if value is not None} for name, table in chosen.items()}
    config = resolve(settings=settings, defaults=given)
    return Result(run_job(config, Path(out), Parts.of(config, rows)).folder)


def rank_public_sets(
    data: str | Path | Sequence[str] | Sequence[Mapping[str, Any]] | pandas.DataFrame,
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
) -> Answer:
    """Which of the public candidates is nearest to the private texts, by one release (FreD).

    Called again with the same arguments, or with other candidates and the same folder, it spends nothing.

    Args:
        data: as for `synthesize`.
        public_sets: at least two public files or Hugging Face dataset ids.
        clients: a public estimate of the number of clients.
        out: the FreD folder.
        epsilon, delta: the guarantee of the release.
        client_column: column that tells clients apart.
        choose: how many candidates the nearest mixture may hold.
        dataset: name in the ledger; needed when `data` is not a file.
        settings: any further settings, nested as in the configuration file.

    Returns:
        the ranking with intervals and probabilities (`.ranking.lines`, `.ranking.recommendation`), the question that
        was asked, and the privacy statement.

    Raises:
        PretextError, privacy.PrivacyError: see the command line; each message is one full sentence.
    """
    from pretext.jobs.fred import run_fred
    from pretext.jobs.parts import Parts

    path, rows = _locate_source(data, dataset)
    chosen: dict[str, dict[str, Any]] = {
        "data": {"path": path, "client_column": client_column},
        "privacy": {"epsilon": epsilon, "delta": delta, "dataset": dataset, "clients": clients},
        "initial": {"public_sets": [resolve_location(location) for location in public_sets]},
    }
    given = {name: {key: value for key, value in table.items() if value is not None} for name, table in chosen.items()}
    config = resolve(settings=settings, defaults=given)
    return run_fred(config, Path(out), Parts.of(config, rows), choose=choose)


def _locate_source(data: Any, dataset: str | None) -> tuple[str, list[Mapping[str, Any]] | None]:
    """A location, or rows from memory."""
    if isinstance(data, str | Path):
        return resolve_location(data), None
    if dataset is None:
        raise UsageError(
            "Texts from memory need a name for their budget in the ledger: give dataset, for example dataset='notes'."
        )
    return "", _convert_rows(data)


def _convert_rows(data: Any) -> list[Mapping[str, Any]] | None:
    """Rows from memory, if there are any."""
    if data is None:
        return None
    if hasattr(data, "to_dict"):
        return list(data.to_dict("records"))
    return [row if isinstance(row, Mapping) else {"text": row} for row in data]
