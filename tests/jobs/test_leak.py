"""Nothing private leaves, but through the ledger."""

from __future__ import annotations

import logging
import os
import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pretext.clients.private_data import read_private
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.settings import Config
from pretext.jobs.run import synthesize
from privacy import DiscreteGaussian
from tests.support.runs import HashEmbedder, make_parts, rows_of, write_rows


def _planted(path: Path) -> list[str]:
    """Every text, client id and label of the private file gets a unique string; these are returned."""
    rows, marks = rows_of(), []
    for row in rows:
        mark = f"canary{secrets.token_hex(8)}"
        marks.append(mark)
        row["text"] += f" {mark}"
        row["client_id"] = f"{row['client_id']}-{mark[:20]}"
    write_rows(path, rows)
    return [*marks, *{row["client_id"] for row in rows}]


def _everything(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            yield str(path), b"" if path.is_dir() else path.read_bytes()


def _found(marks: list[str], places: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> list[str]:
    return [name for name, content in places for mark in marks if mark.encode() in content or mark in name]


def test_a_whole_run_leaves_no_trace_of_a_private_text(
    make_config: Callable[..., Config],
    tmp_path: Path,
    private_file: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    marks = _planted(private_file)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    config = make_config("evolution.nearest=2")
    with caplog.at_level(logging.DEBUG):
        run = synthesize(config, tmp_path / "run", make_parts(config))
    captured = capfd.readouterr()
    outputs = [("log", caplog.text.encode()), ("stdout", captured.out.encode()), ("stderr", captured.err.encode())]
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    assert _found(marks, outputs) == []
    assert _found(marks, _everything(run.folder, home, tmp_path / "temporary", cache)) == []
    # The search itself works: it finds the planted strings where they do stand.
    assert _found(marks, _everything(private_file.parent))


def test_the_number_of_clients_and_texts_is_not_told(
    make_config: Callable[..., Config],
    tmp_path: Path,
    private_file: Path,
    home: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """1,237 clients with 3,711 texts: neither number is in any file of the run, the log or the output."""
    write_rows(private_file, rows_of(clients=1237))
    config = make_config()
    with caplog.at_level(logging.DEBUG, "pretext"):
        run = synthesize(config, tmp_path / "run", make_parts(config))
    captured = capfd.readouterr()
    files = [path for path in run.folder.rglob("*") if path.is_file() and path.suffix != ".npy"]
    # The manifest holds nothing but digests and sizes of the other files.
    texts = [path.read_text() for path in files if "selected" not in str(path) and path.name != "manifest.json"]
    # As a number of its own: among the digits of a digest or of a measured second, any four stand now and then.
    counts = re.compile(r"(?<![0-9a-f.])(1[,_ ]?237|3[,_ ]?711)(?![0-9a-f])")
    for text in [*texts, caplog.text, captured.out, captured.err]:
        assert counts.search(text) is None
    assert all(counts.search(text) for text in ("(1237 clients)", '"texts": 3711,', "3,711 texts of 1,237"))


def test_what_holds_private_values_shows_none(make_config: Callable[..., Config], private_file: Path) -> None:
    marks = _planted(private_file)
    config = make_config()
    private = read_private(config.data, 8)
    clients = Clients.embed(private, HashEmbedder())
    ballot = Ballot(HashEmbedder()(["kernel", "soup"]), np.zeros(2, np.int64))
    bounded = clients.vote(ballot, VoteRule(1, config.privacy.norm_squared, False))
    for thing in (private, clients, bounded):
        shown = f"{thing!r} {thing}"
        assert not any(mark in shown for mark in marks)
        assert "array" not in shown
        assert str(int(bounded.value[0])) not in shown


@pytest.mark.parametrize("phase", ["embed", "vote", "draw"])
def test_an_exception_in_a_private_phase_quotes_nothing(
    phase: str, make_config: Callable[..., Config], tmp_path: Path, private_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = _planted(private_file)
    config = make_config()

    def broken(*arguments: object, **named: object) -> object:
        raise MemoryError

    place = {"embed": (HashEmbedder, "__call__"), "vote": (Clients, "vote"), "draw": (DiscreteGaussian, "draw")}[phase]
    monkeypatch.setattr(*place, broken)
    with pytest.raises(MemoryError) as caught:
        synthesize(config, tmp_path / "run", make_parts(config))
    shown = "".join(traceback.format_exception(caught.value))
    assert _found(marks, [("traceback", shown.encode())]) == []
    assert _found(marks, _everything(tmp_path / "run")) == []


def test_the_released_histogram_is_never_the_true_one(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Every released coordinate lies off the grid of whole votes: noise is on all of them."""
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    selected = run.selection(0)
    assert selected is not None
    off = np.abs(np.array(selected.noisy) - np.round(selected.noisy))
    # A coordinate of true whole votes would sit at 1e-8; noise lands that near with a chance below 1e-6 for all 24.
    assert (off > 1e-8).all()
