"""What leaves is a function of the releases alone: with the releases held fixed, private texts change not a byte.

Three private sets that could hardly differ more go through the real command line. The draw is replaced by a function of
what is public about it, and the clocks by one that moves with work. Then every file of the folder, the ledger, standard
output, standard error and the exit code must be equal: what differs found a way past the ledger.
"""

from __future__ import annotations

import datetime
import itertools
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pretext.jobs.parts
from pretext.audit.canary_texts import HashEmbedder
from pretext.clients.voting import Clients
from pretext.models.engines.scripted import ScriptedEngine
from pretext.progress import show_progress
from privacy import Bounded, DiscreteGaussian
from tests.support.runs import WORDS, Command, reply, rows_of, write_rows

Rows = list[dict[str, Any]]
LABELS = ["computers", "home"]
LABELED = ("--set", "data.label_column=label", "--set", 'data.labels=["computers", "home"]')
NOW = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def two_clients_among_blanks() -> Rows:
    """Of 400 records those of two clients can be used, both of one label; one text is longer than any is read."""
    blank = [{"client_id": f"b{i}", "text": " " * (i % 3), "label": "other"} for i in range(398)]
    long = " ".join(WORDS * 400)
    return [*blank, *({"client_id": f"c{i}", "text": long[i:], "label": "home"} for i in range(2))]


def many_of_one_word() -> Rows:
    """Say the same word as 700 clients, but for one client with a hundred texts of its own."""
    glutton = [{"client_id": "glutton", "text": f"zebra {i} " * i, "label": LABELS[i % 2]} for i in range(1, 101)]
    return [*({"client_id": f"c{i}", "text": "soup", "label": "home"} for i in range(700)), *glutton]


PRIVATE_SETS: list[Callable[[], Rows]] = [
    lambda: rows_of(60, label=True),
    two_clients_among_blanks,
    many_of_one_word,
]


class Clock:
    """Seconds that pass with work alone: one for each text that is embedded, read or voted with."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def after(self, work: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            result = work(*arguments, **named)
            self.seconds += size(result, *arguments)
            return result

        return timed


class FixedDatetime(datetime.datetime):
    """A calendar that stands still: time stamps tell when the clients were done, which the claim leaves out."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return NOW.astimezone(tz)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which everything but the private texts is fixed: models, public texts, clocks, random names."""
    folder = tmp_path / "world"
    monkeypatch.setenv("PRETEXT_HOME", str(folder / "home"))
    monkeypatch.setattr("pretext.jobs.parts._open_engine", lambda *_: ScriptedEngine(reply))
    monkeypatch.setattr("pretext.jobs.parts._open_embedder", lambda *_: HashEmbedder())
    monkeypatch.setattr("pretext.jobs.parts._read_general_words", lambda *_: WORDS)
    fixed = SimpleNamespace(datetime=FixedDatetime, UTC=datetime.UTC)
    for module in ("privacy.storage", "pretext.run.folder"):
        monkeypatch.setattr(f"{module}.datetime", fixed)
    monkeypatch.setattr("time.time", lambda: NOW.timestamp())
    monkeypatch.setattr("time.time_ns", lambda: int(NOW.timestamp()) * 10**9)
    # Which file it is (device and inode) is no more private than its path, and another one for each set.
    monkeypatch.setattr("pretext.jobs.accounts._file_identity", lambda source: "1:2")
    clock = Clock()
    for name in ("perf_counter", "monotonic", "process_time"):
        monkeypatch.setattr(f"time.{name}", clock)
    embed, read = HashEmbedder.__call__, pretext.jobs.parts.read_private

    def embed_aloud(self: HashEmbedder, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """Embed, and say so as the real embedder does."""
        with show_progress(announce, len(texts), show_counts=False):
            return embed(self, texts)

    monkeypatch.setattr(HashEmbedder, "__call__", clock.after(embed_aloud, lambda rows, *_: len(rows)))
    monkeypatch.setattr("pretext.jobs.parts.read_private", clock.after(read, lambda private, *_: len(private.texts)))
    for name in ("vote", "profile", "sum_moments"):
        work = getattr(Clients, name)
        monkeypatch.setattr(Clients, name, clock.after(work, lambda _, clients, *__: len(clients.client)))
    return folder


def make_draw(scale: float) -> Callable[[DiscreteGaussian, Bounded], NDArray[np.int64]]:
    """A draw that is a function of what everybody knows beforehand: the noise and the number of coordinates."""

    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        noise = np.random.default_rng(bounded.dimension).normal(0, scale * self.sigma, bounded.dimension)
        noise[-1] = 10 * scale * self.sigma  # of a profile the number of texts, without which nothing is read from it
        return np.rint(noise).astype(np.int64)

    return draw


def write_public(folder: Path, name: str, words: list[str], seed: int) -> Path:
    rng = np.random.default_rng(seed)
    return write_rows(folder / name, [{"text": " ".join(rng.choice(words, 7))} for _ in range(120)])


def observe(folder: Path, rows: Rows, command: Command, *lines: tuple[object, ...]) -> dict[str, object]:
    """Run commands on private rows in a world of their own; return all that anybody can see of it afterwards."""
    folder.mkdir()
    write_public(folder, "near.jsonl", WORDS, 3)
    write_public(folder, "far.jsonl", ["haus", "garten", "suppe", "blume", "ofen", "tisch"], 4)
    write_rows(folder / "private.jsonl", rows)
    numbers = itertools.count(1)
    seen: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uuid.uuid4", lambda: uuid.UUID(int=next(numbers) << 64))
        patch.setattr("secrets.token_hex", lambda size=32: f"{next(numbers):0{2 * size}x}")
        for line in lines:
            seen[f"output of {line[0]}"] = command(*line)
    (folder / "private.jsonl").unlink()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("ledger.sqlite-"):
            seen[str(path.relative_to(folder))] = path.read_bytes()
    if "home/ledger.sqlite" in seen:  # its pages hold what was overwritten in no fixed order
        with closing(sqlite3.connect(folder / "home" / "ledger.sqlite")) as connection:
            seen["home/ledger.sqlite"] = list(connection.iterdump())
    shutil.rmtree(folder)
    return seen


def flags(folder: Path, *more: object) -> tuple[object, ...]:
    private = ("--private", folder / "private.jsonl", "--client-column", "client_id")
    return (*private, "--epsilon", "5", "--delta", "1e-3", *more)


def run_line(folder: Path, *more: object) -> tuple[object, ...]:
    sets = ["evolution.population=24", "evolution.threshold=0.5", "privacy.rounds=2", "speed.chunk=8"]
    options = [part for setting in sets for part in ("--set", setting)]
    return ("run", *flags(folder, "--texts", 10, "--out", folder / "run", *options, *more))


def public_sets(folder: Path) -> tuple[object, ...]:
    return ("--public-set", folder / "near.jsonl", "--public-set", folder / "far.jsonl", "--clients", 500)


def run_plain(folder: Path) -> list[tuple[object, ...]]:
    public = ("--public", folder / "near.jsonl")
    later = [
        ("expand", folder / "run", "--texts", 20),
        ("ledger", "show", "private"),
        ("report", folder / "run", "--out", folder / "report.html"),
    ]
    return [run_line(folder, *public), *later]


def run_labeled(folder: Path) -> list[tuple[object, ...]]:
    lookahead = ("--set", "evolution.lookahead=1", "--set", "evolution.nearest=3")
    return [run_line(folder, "--public", folder / "near.jsonl", *LABELED, *lookahead)]


def run_profile(folder: Path) -> list[tuple[object, ...]]:
    sets = ["profile.prompted_texts=120", "profile.guided_texts=60", "profile.features=100", "profile.clusters=8"]
    sets += ["privacy.rounds=2", "adapt.method=none", "initial.prompts=['lists of words']", "screening.min_words=1"]
    options = [part for setting in sets for part in ("--set", setting)]
    line = ("run", "--preset", "profile", *flags(folder, "--texts", 10, "--out", folder / "run", *options))
    return [
        line,
        ("expand", folder / "run", "--texts", 20),
        ("report", folder / "run", "--out", folder / "report.html"),
    ]


def run_with_fred(folder: Path) -> list[tuple[object, ...]]:
    sets = f'initial.public_sets=["{folder}/near.jsonl", "{folder}/far.jsonl"]'
    return [run_line(folder, "--set", sets, "--set", "privacy.clients=500")]


def fred_alone(folder: Path) -> list[tuple[object, ...]]:
    return [("fred", *flags(folder, *public_sets(folder), "--out", folder / "fred"))]


def without_client_column(folder: Path) -> list[tuple[object, ...]]:
    line = run_line(folder, "--public", folder / "near.jsonl", "--relation", "replace-one")
    at = line.index("--client-column")
    return [(*line[:at], *line[at + 2 :])]


@pytest.mark.parametrize("scale", [2.0, 0.0], ids=["signal", "no signal"])
@pytest.mark.parametrize(
    "lines", [run_plain, run_labeled, run_profile, run_with_fred, fred_alone, without_client_column]
)
def test_what_leaves__releases_held_fixed__is_equal_for_all_private_sets(
    lines: Callable[[Path], list[tuple[object, ...]]],
    scale: float,
    world: Path,
    called: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DiscreteGaussian, "draw", make_draw(scale))
    first, *others = (observe(world, make_rows(), called, *lines(world)) for make_rows in PRIVATE_SETS)
    code = next(iter(first.values()))[0]  # type: ignore[index]
    assert code == (1 if scale == 0 and lines is not fred_alone else 0), first
    for other in others:
        assert list(other) == list(first)
        assert [name for name in first if other[name] != first[name]] == []


def test_what_leaves__real_draw__tells_the_private_sets_apart(world: Path, called: Command) -> None:
    """Without a draw that is held fixed the same comparison sees a difference, so it compares something."""
    first, second = (observe(world, make_rows(), called, *run_plain(world)) for make_rows in PRIVATE_SETS[:2])
    differing = [name for name in first if second.get(name) != first[name]]
    assert {"run/selected/000.json", "run/privacy.json", "home/ledger.sqlite"} <= set(differing)
