"""The commented configuration file: complete, readable, and the preset that it names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pretext.config.presets import PRESETS
from pretext.config.resolve import compare_configs, resolve
from pretext.config.template import render_template


@pytest.mark.parametrize("preset", PRESETS)
def test_the_file_resolves_to_its_preset(preset: str, tmp_path: Path) -> None:
    file = tmp_path / "pretext.toml"
    file.write_text(render_template(preset, PRESETS[preset]), encoding="utf-8")
    assert tomllib.loads(file.read_text(encoding="utf-8"))["preset"] == preset
    written = resolve(file)
    required = {"privacy": {"epsilon": 1.0}, "initial": {"prompts": ["x"]}} if preset != "icml2024" else {}
    expected = resolve(settings={**required, "preset": preset})
    # The examples fill in what only the user can know; everything else is the preset's.
    examples = {"data.path", "data.client_column", *(["initial.prompts"] if preset != "icml2024" else [])}
    assert set(compare_configs(written, expected)) <= examples


def test_the_consequences_are_told_apart() -> None:
    text = render_template("default", {})
    order = [text.index(word) for word in ("CHANGES THE GUARANTEE", "CHANGES THE TEXT", "CHANGES ONLY SPEED")]
    assert order == sorted(order)


def test_lines_can_be_read_on_a_terminal() -> None:
    assert max(map(len, render_template("default", {}).splitlines())) <= 120
