"""The commented configuration file that `pretext init` writes, made from the settings' own descriptions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import tomlkit
from pydantic.fields import FieldInfo
from tomlkit.items import Table

from pretext.config.settings import Config, Section

_EXAMPLES: dict[str, dict[str, Any]] = {
    "data": {"path": "private.jsonl", "client_column": "client_id"},
    "privacy": {"epsilon": 1.0},
    "initial": {"prompts": ["Short messages in which people ask for help with their computers."]},
}
_HEADINGS = {
    "data": "Where the private texts are.",
    "privacy": "WHAT CHANGES THE GUARANTEE.",
    "initial": "WHAT CHANGES THE TEXT, from here to [models]. Where the run starts must be public.",
    "speed": "WHAT CHANGES ONLY SPEED.",
}


def render_template(preset: str, settings: Mapping[str, Any]) -> str:
    """Write a complete TOML file: every setting, its meaning and its value in the preset, unset ones commented out.

    A table that the preset leaves alone gets an example where it would be useless without one.
    """
    document = tomlkit.document()
    document.add(
        tomlkit.comment("pretext: the preset decides what is not set here; `pretext plan` shows what a run will spend.")
    )
    document.add("preset", tomlkit.item(preset))
    for name, field in Config.model_fields.items():
        if name == "preset":
            continue
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, Section)
        document.add(tomlkit.nl())
        if name in _HEADINGS:
            document.add(tomlkit.comment(_HEADINGS[name]))
        document.add(name, _build_table(section, _choose_values(name, settings.get(name, {}))))
    return tomlkit.dumps(document)


def _choose_values(name: str, preset: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a preset's values of a table, with an example where they leave it useless."""
    has_target = bool({"epsilon", "noise_multiplier"} & preset.keys())
    if preset and (name != "privacy" or has_target):
        return preset
    return {**_EXAMPLES.get(name, {}), **preset}


def _build_table(section: type[Section], values: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for key, field in section.model_fields.items():
        for line in textwrap.wrap(field.description or "", 100):
            table.add(tomlkit.comment(line))
        value = values.get(key, _default_value(field))
        if value is None:
            table.add(tomlkit.comment(f"{key} ="))
        else:
            table.add(key, tomlkit.item(value))
    return table


def _default_value(field: FieldInfo) -> Any:
    value = getattr(field.default, "value", field.default)
    return list(value) if isinstance(value, tuple) else value
