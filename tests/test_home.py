from __future__ import annotations

from pretext.home import model_cache_folder


def test_the_cache_without_a_home_is_the_users(monkeypatch):
    monkeypatch.delenv("PRETEXT_HOME")
    assert model_cache_folder().parent.name == "pretext"
