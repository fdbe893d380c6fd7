from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from pretext.errors import UsageError
from pretext.home import model_cache_folder, network_file_system, open_ledger, read_ledger, user_folder
from privacy import LedgerError


def test_without_a_home__the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRETEXT_HOME")
    assert model_cache_folder().parent.name == "pretext"


def test_a_home_with_a_tilde__is_expanded_and_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRETEXT_HOME", "~/pretext")
    assert user_folder() == tmp_path / "pretext"
    assert model_cache_folder() == tmp_path / "pretext" / "models"


@pytest.mark.parametrize("named", ["home", "./home", "$HOME/pretext", "~nobody-of-this-name/pretext"])
def test_user_folder__relative_home__is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that a command is started in would have a ledger of its own."""
    monkeypatch.setenv("PRETEXT_HOME", named)
    with pytest.raises(UsageError, match="PRETEXT_HOME"):
        user_folder()


def test_user_folder__name_that_is_no_utf8__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run folder could name the ledger, so what a run had released would be lost."""
    monkeypatch.setenv("PRETEXT_HOME", os.fsdecode(b"/tmp/caf\xe9"))
    with pytest.raises(UsageError, match="PRETEXT_HOME"):
        user_folder()


def test_user_folder__nobody_s_home__names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("PRETEXT_HOME", "HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UsageError, match="PRETEXT_HOME"):
        user_folder()


def test_open_ledger__home_is_missing__makes_it_for_its_owner_alone(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = os.umask(0)
    try:
        ledger = open_ledger()
    finally:
        os.umask(mask)
    assert (home.stat().st_mode & 0o777, ledger.path.stat().st_mode & 0o777) == (0o700, 0o600)
    assert str(ledger.path) in caplog.text, "a new ledger is said aloud"
    caplog.clear()
    open_ledger()
    assert not caplog.text


def test_read_ledger__there_is_none__makes_nothing(home: Path) -> None:
    with pytest.raises(LedgerError, match="PRETEXT_HOME"):
        read_ledger()
    assert not home.exists()


@pytest.mark.parametrize(("number", "name"), [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0x65735546, "FUSE")])
def test_open_ledger__network_file_system__is_named(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Library:
        @staticmethod
        def statfs(path: bytes, status: ctypes.Array[ctypes.c_char]) -> int:
            ctypes.c_long.from_buffer(status).value = number
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    open_ledger()
    assert name in caplog.text


def test_network_file_system__local_disk__is_none(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) is None
    assert network_file_system(tmp_path / "missing") is None
