"""The run folder: everything public that a run made, written atomically, so that a kill at any moment loses nothing
done.

config.toml         the resolved settings
run.json            the run's id and the version that made it
population/NNN.json the candidates of a round and their origins, saved before anybody votes on them
positions/NNN.npy   where a round's candidates stand, shape (n, d), for the report
selected/NNN.json   a round's released votes and what was selected by them
seeds.jsonl         the survivors that seed the expansion, with round and noisy votes
synthetic.jsonl     the result, one object a line; or .parquet, or shards in synthetic/, see pretext.run.shards
expansion.json      how far the expansion got
privacy.json        the privacy statement
README.md           the dataset card
manifest.json       digests of the above, itself sealed in the ledger, see pretext.run.manifest
timings.json        seconds and tokens by phase
run.log             what happened, when
"""

from __future__ import annotations

import datetime
import errno
import importlib.metadata
import io
import json
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pretext.config.resolve import compare_configs, dump_settings, validate_settings
from pretext.config.settings import Config
from pretext.errors import RunFolderError, UsageError
from pretext.files import make_folder_atomically, replace_nonfinite, write_atomically
from pretext.run.records import Candidate, Origin, Seed, Selection, format_seed

_MAX_POSITIONS = 10_000


_SELECTION = TypeAdapter(Selection)


@dataclass(frozen=True)
class Run:
    """A run folder. Every save is atomic; every load of something not yet there gives None."""

    folder: Path
    id: str
    created: str

    @classmethod
    def create(cls, folder: Path, config: Config) -> Run:
        """Make the folder, or open it if it holds a run of the same configuration.

        Raises:
            RunFolderError: it holds a run of another configuration, or something else.
        """
        if (folder / "run.json").exists():
            run, other = cls.open(folder)
            if changed := compare_configs(config, other):
                raise RunFolderError(
                    f"{folder} holds a run of another configuration (it differs in {', '.join(changed)}); "
                    "give another folder with --out, or continue that run with `pretext resume`."
                )
            return run
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(
                f"{folder} is there already and is not a run folder; give an empty or a new one with --out."
            )
        run = cls(folder, uuid.uuid4().hex[:12], datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
        with _explain_write_errors(folder), make_folder_atomically(folder) as fresh:
            (fresh / "config.toml").write_text(tomlkit.dumps(dump_settings(config)), encoding="utf-8")
            about = {"id": run.id, "created": run.created, "pretext": importlib.metadata.version("pretext")}
            (fresh / "run.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        return run

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Config]:
        """An existing run folder and its configuration. Raises RunFolderError if it is none, or damaged."""
        try:
            about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            config = validate_settings(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")))
            return cls(folder, about["id"], about["created"]), config
        except FileNotFoundError:
            raise RunFolderError(
                f"{folder} is not a run folder (no run.json and config.toml in it); give the folder that `pretext "
                "run` made."
            ) from None
        except OSError as error:
            raise RunFolderError(f"The run folder {folder} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError) as error:
            raise RunFolderError(
                f"The run folder {folder} is damaged ({type(error).__name__} in run.json or config.toml)."
            ) from None

    def population(self, round_number: int) -> list[Candidate] | None:
        """The candidates of a round. Raises RunFolderError if the file is damaged."""
        name = f"population/{round_number:03}.json"
        if (stored := self.load(name)) is None:
            return None
        try:
            rows = stored["candidates"]
            origins = [origin and Origin(*origin) for origin in stored.get("origins", [None] * len(rows))]
            return [Candidate(text, label, origin) for (text, label), origin in zip(rows, origins, strict=True)]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._damage_error(name) from None

    def save_population(
        self, round_number: int, population: list[Candidate], dropped: dict[str, int] | None = None
    ) -> list[Candidate]:
        """Save a round's candidates, where each comes from, and how many texts were dropped on the way, by reason."""
        rows = [[candidate.text, candidate.label] for candidate in population]
        origins = [candidate.origin and [candidate.origin.kind, candidate.origin.number] for candidate in population]
        saved = {"candidates": rows, "origins": origins, "dropped": dropped or {}}
        self.save(f"population/{round_number:03}.json", saved)
        return population

    def positions(self, round_number: int) -> NDArray[np.float32] | None:
        """Where a round's first candidates stand, shape (at most 10,000, d); None in folders of earlier versions.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self.folder / f"positions/{round_number:03}.npy"
        try:
            return np.load(path, allow_pickle=False).astype(np.float32) if path.exists() else None
        except (OSError, ValueError, EOFError):
            raise RunFolderError(
                f"{path} is damaged; delete it: nothing but a picture in the report needs it."
            ) from None

    def save_positions(self, round_number: int, points: NDArray[np.float32]) -> None:
        """Save where a round's candidates stand, which is public; in half precision, as it serves pictures alone."""
        file = io.BytesIO()
        np.save(file, points[:_MAX_POSITIONS].astype(np.float16))
        self.write(f"positions/{round_number:03}.npy", file.getvalue())

    def selection(self, round_number: int) -> Selection | None:
        """A round's selection. Raises RunFolderError if the file is damaged."""
        name = f"selected/{round_number:03}.json"
        if (stored := self.load(name)) is None:
            return None
        try:
            found = _SELECTION.validate_python(stored)
        except ValidationError:
            raise self._damage_error(name) from None
        rows = range(len(found.noisy))
        if len(found.weights) == len(found.survivors) and all(row in rows for row in found.survivors + found.parents):
            return found
        raise self._damage_error(name)

    def save_selection(self, round_number: int, selection: Selection) -> Selection:
        """Save a round's selection."""
        self.save(f"selected/{round_number:03}.json", asdict(selection))
        return selection

    def save_seeds(self, seeds: list[Seed], labels: Sequence[str]) -> list[Seed]:
        """Save the seeds for people; the program computes them anew from the rounds."""
        self.write("seeds.jsonl", "".join(format_seed(seed, labels) + "\n" for seed in seeds))
        return seeds

    def save(self, name: str, value: Any) -> None:
        """Write a JSON file atomically; see `pretext.files.replace_nonfinite`."""
        self.write(name, json.dumps(replace_nonfinite(value), indent=1))

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file atomically (`pretext.files`)."""
        path = self.folder / name
        with _explain_write_errors(self.folder):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)

    @contextmanager
    def explain_write_errors(self) -> Iterator[None]:
        """Turns what the file system refuses into a RunFolderError; for files that are appended to."""
        with _explain_write_errors(self.folder):
            yield

    def load(self, name: str) -> Any:
        """A JSON file's content, or None if it was not written yet. Raises RunFolderError if it is damaged."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damage_error(name, type(error).__name__) from None

    def _damage_error(self, name: str, reason: str = "it does not hold what it should") -> RunFolderError:
        return RunFolderError(f"{self.folder / name} cannot be read ({reason}); delete that file, then resume.")


def check_outside_run(out: Path, folder: Path) -> None:
    """Raises UsageError if a file with figures that are not covered by the guarantee would lie in a run folder."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{out} lies in the run folder, which holds nothing that is not covered by the guarantee; these numbers "
            "are not: give a path elsewhere with --out."
        )


@contextmanager
def _explain_write_errors(folder: Path) -> Iterator[None]:
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
            f"The run folder {folder} cannot be written. {remedy}, then continue with `pretext resume {folder}`; "
            "nothing done so far is lost."
        ) from None
