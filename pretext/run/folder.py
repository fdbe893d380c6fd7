"""The run folder: everything public that a run made, written atomically, so that a kill at any moment loses nothing
done.

config.toml         the resolved settings
run.json            the run's id, when it began, the version that made it, the account that it is charged to, and the
                    job: a run, or a ranking of public sets (FreD)
population/NNN.json the candidates of a round and their origins, saved before anybody votes on them
positions/NNN.npy   where a round's candidates stand, shape (n, d), for the report
selected/NNN.json   a round's released votes and what was selected by them
profile/            the questions and answers of a run of profiles, see pretext.run.profiles
adapter/            what its generator learned
writer.json         which writer it chose, see pretext.run.writers
query.json          FreD's question, and in ranking.json what its answer says
seeds.jsonl         the survivors that seed the expansion, with round and noisy votes
synthetic.jsonl     the result, one object a line; or .parquet, or shards in synthetic/, see pretext.run.shards
expansion.json      how far the expansion got
privacy.json        the privacy statement, see pretext.run.privacy_statement
README.md           the dataset card
manifest.json       digests of the above, itself sealed in the ledger, see pretext.run.manifest
manifest.next.json  the same until the ledger has its digest
timings.json        seconds and tokens by phase
run.log             what happened, when
.lock               held by the process that works here, see pretext.run.lock
"""

from __future__ import annotations

import datetime
import errno
import importlib.metadata
import io
import json
import os
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
import tomlkit
from numpy.typing import NDArray
from pydantic import NonNegativeInt, StringConstraints, TypeAdapter, ValidationError

from pretext.config.resolve import compare_configs, dump_settings, validate_settings
from pretext.config.settings import Config
from pretext.errors import RunFolderError, UsageError
from pretext.files import read_file, replace_nonfinite, write_atomically
from pretext.formatting import quote_path
from pretext.run.account import AccountReference
from pretext.run.privacy_statement import STATEMENT_FILE, PrivacyStatement, statement_error
from pretext.run.records import (
    Candidate,
    ExpansionState,
    Origin,
    OriginKind,
    Phase,
    Seed,
    SeedLine,
    Selection,
    format_seed,
)

_MAX_POSITIONS = 10_000
LOCK_FILE = ".lock"
EXPANSION_FILE = "expansion.json"
_SEEDS_FILE, _TIMINGS_FILE = "seeds.jsonl", "timings.json"
_FIRST_STEPS = ("population/*.json", "positions/*.npy", "profile/*", "query.json", STATEMENT_FILE, _TIMINGS_FILE)
"""What a run writes before its first release."""

Value = TypeVar("Value")
Job: TypeAlias = Literal["run", "fred"]


@dataclass(frozen=True)
class _RunFile:
    id: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]
    account: AccountReference
    created: str = ""
    pretext: str = ""
    job: Job = "run"


_RUN_FILE = TypeAdapter(_RunFile)
_ORIGIN = TypeAdapter(tuple[OriginKind, int])
_SELECTION = TypeAdapter(Selection)
_EXPANSION_STATE = TypeAdapter(ExpansionState)
_TIMINGS = TypeAdapter(dict[str, Phase])
_DROP_COUNTS = TypeAdapter(dict[str, NonNegativeInt])
_SEED_LINE = TypeAdapter(SeedLine)


@dataclass(frozen=True)
class Run:
    """A run folder. Every save is atomic; every load of something not yet there gives None, or an empty value.

    Attributes:
        folder: the run folder.
        id: of the run; the labels of its releases begin with it.
        created: when it began, in UTC.
        version: of the program that began it.
        account: that it is charged to.
        job: a run, or FreD.
    """

    folder: Path
    id: str
    created: str
    version: str
    account: AccountReference
    job: Job = "run"

    @classmethod
    def create(cls, folder: Path, config: Config, account: AccountReference, job: Job = "run") -> Run:
        """Make the folder, or open it if it holds a run of the same configuration.

        Raises:
            RunFolderError: it holds a run of another configuration, or something else.
        """
        if (folder / "run.json").exists():
            run, stored_config = cls.open(folder)
            if changed := compare_configs(config, stored_config):
                raise RunFolderError(
                    f"{folder} holds a run of another configuration (it differs in {', '.join(changed)}); "
                    "give another folder with --out, or continue that run with `pretext resume`."
                )
            return run
        settings = _config_file(config)
        _check_is_free(folder, settings)
        run = cls._begin(folder, uuid.uuid4().hex[:12], account, job)
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        run._save_beginning(settings)
        return run

    def begin_anew(self, config: Config, account: AccountReference, job: Job = "run") -> Run:
        """Take over a folder from which nothing was released, for another configuration; the id stays."""
        run = self._begin(self.folder, self.id, account, job)
        with explain_write_errors(self.folder):
            for name in _FIRST_STEPS:
                for path in self.folder.glob(name):
                    path.unlink()
        run._save_beginning(_config_file(config))
        return run

    @classmethod
    def _begin(cls, folder: Path, run_id: str, account: AccountReference, job: Job) -> Run:
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(folder, run_id, created, importlib.metadata.version("pretext"), account, job)

    def _save_beginning(self, settings: str) -> None:
        identity = asdict(_RunFile(self.id, self.account, self.created, self.version, self.job))
        with explain_write_errors(self.folder):
            write_atomically(self.folder / "config.toml", settings)
            # Last: with this file the folder is a run folder.
            write_atomically(self.folder / "run.json", json.dumps(identity, indent=1))

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Config]:
        """Open an existing run folder and its configuration. Raises RunFolderError if it is none, or damaged."""
        try:
            file = _RUN_FILE.validate_json(read_file(folder / "run.json"))
            config = validate_settings(tomllib.loads(read_file(folder / "config.toml").decode()))
            return cls(folder, file.id, file.created, file.pretext, file.account, file.job), config
        except FileNotFoundError:
            raise RunFolderError(
                f"{folder} is not a run folder (no run.json and config.toml in it); give the folder that `pretext "
                "run` made."
            ) from None
        except OSError as error:
            raise RunFolderError(f"The run folder {folder} cannot be read: {error.strerror}.") from None
        except (ValueError, UsageError, RecursionError) as error:
            raise RunFolderError(
                f"The run folder {folder} is damaged ({type(error).__name__} in run.json or config.toml)."
            ) from None

    def require_texts(self) -> None:
        """Refuse a folder in which no texts are written, as it is FreD's. Raises RunFolderError."""
        if self.job == "fred":
            raise RunFolderError(
                f"{self.folder} holds a ranking of `pretext fred`, and no texts; give the folder of a run, or the same "
                "`pretext fred` command to continue the ranking."
            )

    def population(self, round_number: int) -> list[Candidate] | None:
        """Load the candidates of a round. Raises RunFolderError if the file is damaged."""
        name = _population_file(round_number)
        if (stored := self.load(name)) is None:
            return None
        try:
            pairs = zip(stored["candidates"], stored["origins"], strict=True)
            return [_parse_candidate(text, label, origin) for (text, label), origin in pairs]
        except (KeyError, TypeError, ValueError):
            raise self._damage_error(name) from None

    def drop_counts(self, round_number: int) -> dict[str, int]:
        """Load how many texts were dropped while a round's candidates were made, by reason.

        Raises:
            RunFolderError: the file is damaged.
        """
        name = _population_file(round_number)
        stored = self.load(name)
        try:
            return {} if stored is None else _DROP_COUNTS.validate_python(stored["dropped"])
        except (KeyError, TypeError, ValueError):
            raise self._damage_error(name) from None

    def save_population(
        self, round_number: int, population: list[Candidate], dropped: dict[str, int] | None = None
    ) -> list[Candidate]:
        """Save a round's candidates, where each comes from, and how many texts were dropped on the way, by reason.

        Raises:
            RunFolderError: the round has candidates already. A release may be bound to them: they are never replaced.
        """
        name = _population_file(round_number)
        if (self.folder / name).exists():
            raise RunFolderError(f"{self.folder / name} is there already, and votes may be bound to it; keep it.")
        rows = [[candidate.text, candidate.label] for candidate in population]
        origins = [candidate.origin and [candidate.origin.kind, candidate.origin.number] for candidate in population]
        self.save(name, {"candidates": rows, "origins": origins, "dropped": dropped or {}})
        return population

    def positions(self, round_number: int) -> NDArray[np.float32] | None:
        """Load the positions of a round's first candidates, shape (at most 10,000, d).

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self.folder / f"positions/{round_number:03}.npy"
        try:
            points: NDArray[Any] = np.load(io.BytesIO(read_file(path)), allow_pickle=False)
            if points.ndim != 2 or points.dtype.kind != "f" or not np.isfinite(points).all():
                raise ValueError("no positions")
            return points.astype(np.float32)
        except FileNotFoundError:
            return None
        except Exception:  # a damaged header is evaluated as Python, and may raise anything
            raise RunFolderError(f"{path} is damaged; delete it: only a picture in the report needs it.") from None

    def save_positions(self, round_number: int, points: NDArray[np.float32]) -> None:
        """Save the positions of a round's candidates, which are public; in half precision, as only pictures need
        them."""
        file = io.BytesIO()
        np.save(file, points[:_MAX_POSITIONS].astype(np.float16))
        self.write(f"positions/{round_number:03}.npy", file.getvalue())

    def selection(self, round_number: int) -> Selection | None:
        """Load a round's selection. Raises RunFolderError if the file is damaged."""
        name = f"selected/{round_number:03}.json"
        if (selection := self._load_value(name, _SELECTION)) is None:
            return None
        rows, selected = range(len(selection.noisy)), selection.survivors + selection.parents
        if len(selection.weights) != len(selection.survivors) or not all(row in rows for row in selected):
            raise self._damage_error(name)
        return selection

    def save_selection(self, round_number: int, selection: Selection) -> Selection:
        """Save a round's selection."""
        self.save(f"selected/{round_number:03}.json", asdict(selection))
        return selection

    def seed_lines(self) -> list[SeedLine]:
        """Load the seeds as they are listed for people; empty before the evolution is finished.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self.folder / _SEEDS_FILE
        try:
            return [_SEED_LINE.validate_json(line) for line in read_file(path).splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({type(error).__name__}); resume the run to write it anew."
            ) from None

    def save_seeds(self, seeds: list[Seed], labels: Sequence[str]) -> list[Seed]:
        """Save the seeds for people; the program computes them anew from the rounds."""
        self.write(_SEEDS_FILE, "".join(format_seed(seed, labels) + "\n" for seed in seeds))
        return seeds

    def statement(self) -> PrivacyStatement | None:
        """Load the privacy statement. Raises RunFolderError if it is damaged."""
        path = self.folder / STATEMENT_FILE
        try:
            return PrivacyStatement.from_json(read_file(path), path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise statement_error(path, f" ({error.strerror})") from None

    def require_statement(self) -> PrivacyStatement:
        """Load the privacy statement. Raises RunFolderError if there is none yet, or it is damaged."""
        if (statement := self.statement()) is None:
            raise statement_error(self.folder / STATEMENT_FILE)
        return statement

    def save_statement(self, statement: PrivacyStatement) -> PrivacyStatement:
        """Save the privacy statement."""
        self.write(STATEMENT_FILE, statement.to_json())
        return statement

    def expansion_state(self) -> ExpansionState:
        """Load how far the expansion got. Raises RunFolderError if the file is damaged."""
        try:
            return self._load_value(EXPANSION_FILE, _EXPANSION_STATE) or ExpansionState(0, 0, 0, {})
        except RunFolderError:
            raise RunFolderError(
                f"{self.folder / EXPANSION_FILE} is damaged; delete that file to write all texts anew, then resume "
                "with --accept-changes."
            ) from None

    def save_expansion_state(self, state: ExpansionState) -> None:
        """Save how far the expansion got."""
        self.save(EXPANSION_FILE, asdict(state))

    def timings(self) -> dict[str, Phase]:
        """Load what each phase took so far; nothing if the file is damaged, as only the report shows it."""
        try:
            return self._load_value(_TIMINGS_FILE, _TIMINGS) or {}
        except RunFolderError:
            return {}

    def save_timings(self, phases: Mapping[str, Phase]) -> None:
        """Save what each phase took so far."""
        self.save(_TIMINGS_FILE, {name: asdict(phase) for name, phase in phases.items()})

    def save(self, name: str, value: Any) -> None:
        """Write a JSON file atomically, with null for numbers that are not finite."""
        self.write(name, json.dumps(replace_nonfinite(value), indent=1))

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file atomically (`pretext.files`). Raises RunFolderError as `writing`."""
        path = self.folder / name
        with self.writing():
            if path.parent != self.folder:
                path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write to the folder in the block, by whatever means.

        Raises:
            RunFolderError: the file system refuses it, or the folder is not this run's any more, see `check_in_place`.
        """
        self.check_in_place()
        with explain_write_errors(self.folder):
            yield

    def check_in_place(self) -> None:
        """Check that the folder is still there, and still this run's: it is neither made again nor another's filled.

        Raises:
            RunFolderError: it was removed or renamed, or holds another run now.
        """
        with suppress(OSError, ValueError, RecursionError):
            if _RUN_FILE.validate_json(read_file(self.folder / "run.json")).id == self.id:
                return
        raise vanished_error(self.folder)

    def load(self, name: str) -> Any:
        """Load a JSON file, or None if it was not written yet. Raises RunFolderError if it is damaged."""
        try:
            return json.loads(read_file(self.folder / name))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise self._damage_error(name, type(error).__name__) from None

    def _load_value(self, name: str, adapter: TypeAdapter[Value]) -> Value | None:
        """Load a JSON file as a value, or None if it was not written yet. Raises RunFolderError if it is damaged."""
        if (stored := self.load(name)) is None:
            return None
        try:
            return adapter.validate_python(stored)
        except ValidationError:
            raise self._damage_error(name) from None

    def _damage_error(self, name: str, reason: str = "it does not hold what it should") -> RunFolderError:
        return RunFolderError(f"{self.folder / name} cannot be read ({reason}); delete that file, then resume.")


def vanished_error(folder: Path) -> RunFolderError:
    """Say that a folder went away while a process worked in it."""
    return RunFolderError(
        f"{folder} is not this run's folder any more: it was removed, renamed or replaced while the command worked in "
        "it, and is not made again. If it has another name now, continue there with `pretext resume`; if not, what was "
        "released stays charged, and `pretext ledger release` gives back what is reserved; `pretext ledger` lists both."
    )


def check_outside_run(out: Path, folder: Path) -> None:
    """Refuse to write a file into a run folder: what lies there is sealed, and the guarantee covers it. Raises
    UsageError."""
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise UsageError(
            f"{out} lies in the run folder, which holds only what was sealed and what the guarantee covers; give a "
            "path elsewhere."
        )


def _check_is_free(folder: Path, settings: str) -> None:
    """Refuse a folder that holds anything but what a killed start of the same run left there. Raises RunFolderError."""
    with explain_write_errors(folder):
        held = (
            {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name} if folder.exists() else set()
        )
    with suppress(OSError):  # nobody's own file is replaced: it holds just these settings
        if read_file(folder / "config.toml") == settings.encode():
            held.discard("config.toml")
    if held - {LOCK_FILE}:
        raise RunFolderError(f"{folder} exists and is not a run folder; give an empty or a new one with --out.")


def _config_file(config: Config) -> str:
    return tomlkit.dumps(dump_settings(config))


def _parse_candidate(text: object, label: object, origin: object) -> Candidate:
    """Check the parts of a candidate as a file holds it. Raises ValueError."""
    if not isinstance(text, str) or type(label) is not int or label < 0:
        raise ValueError("no candidate")
    # A lone surrogate is allowed in a text: `digest_population` needs it as it is.
    return Candidate(text, label, None if origin is None else Origin(*_ORIGIN.validate_python(origin)))


def _population_file(round_number: int) -> str:
    return f"population/{round_number:03}.json"


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a RunFolderError that names a remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "The disk is full; make room",
            errno.EDQUOT: "The disk quota is used up; make room",
            errno.EROFS: "It is read-only; make it writable",
            errno.EACCES: "Permission is denied; make it writable",
        }.get(error.errno or 0, f"{error.strerror}; mend that")
        raise RunFolderError(
            f"The run folder {folder} cannot be written. {remedy}, then continue with "
            f"`pretext resume {quote_path(folder)}`; "
            "nothing done so far is lost."
        ) from None
