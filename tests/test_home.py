from __future__ import annotations

from pathlib import Path

import pytest

from pretext.home import model_cache_folder, user_folder


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


def test_a_relative_home__becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRETEXT_HOME", "home")
    assert user_folder() == tmp_path / "home"
