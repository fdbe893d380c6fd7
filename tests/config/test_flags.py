"""The table of flags: every row names a real setting, and the layers it makes are those of the configuration file."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import pretext
from pretext.config.flags import CALIBRATION_FLAGS, FLAGS, FRED_FLAGS, RUN_FLAGS, Flag, nest_flags, resolve_location
from pretext.config.settings import Config
from pretext.errors import UsageError
from tests.support.commands import walk_commands


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_flag__every_row__sets_a_setting_that_exists(flag: Flag) -> None:
    section, _, key = flag.setting.rpartition(".")
    model = Config.model_fields[section].annotation if section else Config
    assert key in model.model_fields  # type: ignore[union-attr]
    assert flag.help.endswith(".")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (("plan",), RUN_FLAGS),
        (("run",), RUN_FLAGS),
        (("fred",), FRED_FLAGS),
        (("privacy", "calibrate"), CALIBRATION_FLAGS),
        (("privacy", "compare"), CALIBRATION_FLAGS),
    ],
)
def test_command__options__stand_in_the_order_of_the_table(path: tuple[str, ...], names: tuple[str, ...]) -> None:
    command = dict(walk_commands())[path]
    listed = [parameter for parameter in command.params if parameter.name in names]
    assert [parameter.name for parameter in listed] == list(names)
    assert [parameter.opts for parameter in listed] == [[FLAGS[name].option] for name in names]


@pytest.mark.parametrize("function", [pretext.synthesize, pretext.rank_public_sets])
def test_python__arguments__are_flags_by_the_same_names(function: object) -> None:
    own = {"data", "out", "settings", "choose", "confirm_new_name", "accept_changes"}
    assert inspect.signature(function).parameters.keys() - own <= FLAGS.keys()  # type: ignore[arg-type]


def test_option__a_repeated_flag__is_singular_on_the_command_line() -> None:
    assert FLAGS["client_column"].option == "--client-column"
    assert FLAGS["public_sets"].option == "--public-set"
    assert FLAGS["texts"].option == "--texts"


def test_nest_flags__unset_flags__leave_no_trace() -> None:
    assert nest_flags({"epsilon": None, "prompts": (), "public_sets": [], "private": None}) == {}
    assert nest_flags({"epsilon": 0.0, "clients_exact": False, "preset": "icml2024", "prompts": ("a", "b")}) == {
        "privacy": {"epsilon": 0.0, "clients_exact": False},
        "preset": "icml2024",
        "initial": {"prompts": ["a", "b"]},
    }


def test_nest_flags__locations__become_absolute_where_a_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.csv").touch()
    assert nest_flags({"private": "notes.csv", "public_sets": ["notes.csv", "allenai/c4"]}) == {
        "data": {"path": str(tmp_path / "notes.csv")},
        "initial": {"public_sets": [str(tmp_path / "notes.csv"), "allenai/c4"]},
    }
    assert resolve_location("") == ""  # not the folder in which we are


@pytest.mark.parametrize("name", ["prompts", "public_sets"])
def test_nest_flags__of_one_string_for_a_list__refuses(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        nest_flags({name: "Short notes."})


@pytest.mark.parametrize("location", ["a" * 5000, "~no-such-user/notes.csv", "nul\0.csv", "/dev/null", ""])
def test_resolve_location__of_no_file__leaves_it(location: str) -> None:
    assert resolve_location(location) == location
