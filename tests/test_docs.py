"""The documents name every command, every public name and every setting."""

from __future__ import annotations

import importlib.resources
import inspect
import re
import tomllib
from pathlib import Path

import click
import pytest

import pretext
import pretext.api
import pretext.errors
import privacy
from pretext.cli import EXIT_CODES
from pretext.config.presets import PRESETS
from pretext.config.settings import Config, Section
from pretext.config.template import render_template
from tests.support.commands import walk_commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {" ".join(path): command for path, command in walk_commands() if path}


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_readme__every_command__is_named(path: str) -> None:
    group, _, name = f"pretext {path}".rpartition(" ")
    assert re.search(rf"{group} \[?{name}\b", README)  # `pretext ledger [show NAME]` names `ledger show` too


@pytest.mark.parametrize("document", ["README.md", "PRIVACY.md"])
def test_document__every_line_to_type__has_options_that_the_command_knows(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^    pretext (\w+ .*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        words = line.partition("#")[0].split()
        command = COMMANDS.get(" ".join(words[:2])) or COMMANDS[words[0]]
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("path", COMMANDS)
def test_help__every_command__is_short_whole_and_names_the_exit_codes(path: str) -> None:
    command = COMMANDS[path]
    assert command.short_help and command.short_help.endswith(".") and len(command.short_help) <= 80
    assert command.help
    assert command.epilog == EXIT_CODES
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help and option.help.endswith((".", "]")), option.name


@pytest.mark.parametrize("package", [pretext, privacy])
def test_package__every_public_name__is_sorted_and_has_a_docstring(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        assert inspect.getdoc(getattr(package, name)), name


def test_pretext__every_function_and_class_of_the_api__is_exported_and_in_the_readme() -> None:
    api = {
        name
        for name, value in vars(pretext.api).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == "pretext.api" and callable(value)
    }
    assert set(pretext.__all__) == api | {"PretextError"}
    for name in pretext.__all__:
        assert re.search(rf"\b{name}\b", README), name


def test_privacy__the_page_of_the_claim__is_in_the_package_and_its_wheel() -> None:
    page = importlib.resources.files(privacy) / "PRIVACY.md"
    assert page.read_text(encoding="utf-8") == (ROOT / "PRIVACY.md").read_text(encoding="utf-8")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "PRIVACY.md" in build["package-data"]["privacy"]


@pytest.mark.parametrize("name", re.findall(r"`(tests/[\w/.*]+)`", (ROOT / "PRIVACY.md").read_text(encoding="utf-8")))
def test_privacy__a_test_that_the_page_of_the_claim_names__is_there(name: str) -> None:
    assert list(ROOT.glob(name))


def test_privacy__every_error__is_exported() -> None:
    errors = {name for name, _ in inspect.getmembers(privacy.errors, inspect.isclass)} - {"PretextError"}
    assert errors <= set(privacy.__all__)


@pytest.mark.parametrize("preset", PRESETS)
def test_template__every_setting__is_there_with_its_meaning(preset: str) -> None:
    text = render_template(preset, PRESETS[preset])
    tables = dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))
    sections = {name: field.annotation for name, field in Config.model_fields.items() if name != "preset"}
    assert tables.keys() == sections.keys()
    for name, section in sections.items():
        assert isinstance(section, type) and issubclass(section, Section)
        words = " ".join(line.removeprefix("# ") for line in tables[name].splitlines())
        for key, setting in section.model_fields.items():
            assert re.search(rf"^(# )?{key} =", tables[name], re.MULTILINE), f"{name}.{key}"
            assert setting.description and setting.description in words, f"{name}.{key}"
