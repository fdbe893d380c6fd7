"""From layers of settings to one configuration, and one sentence for every mistake in them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from pretext.config.flags import LOCATIONS, resolve_location
from pretext.config.presets import PRESETS, Settings
from pretext.config.settings import Config
from pretext.errors import UsageError

_MAX_LENGTH = 200


def resolve(
    file: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Merge layers of settings into a configuration; each layer overrides those before it.

    In order: the preset, `defaults` (nested), a TOML file, `settings` (nested), `section.key=value` overrides. A path
    in the file belongs to the file's folder, one in an override to the current folder; both become absolute.

    Raises:
        UsageError: the file cannot be read, a key is unknown (the message names its nearest neighbor), or a value is
            out of range.
    """
    layers = [
        dict(defaults or {}),
        _locate_settings(_read_toml(file), file.absolute().parent) if file is not None else {},
        dict(settings or {}),
        _locate_settings(_nest_overrides(overrides), Path.cwd()),
    ]
    preset = next((layer["preset"] for layer in reversed(layers) if "preset" in layer), "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}; the presets are {' and '.join(PRESETS)}.")
    merged: Settings = {}
    for layer in [PRESETS[preset], *layers]:
        _replace_target(merged, layer)
        _merge_layer(merged, layer)
    return validate_settings(merged)


def validate_settings(settings: Mapping[str, Any]) -> Config:
    """Make a Config from nested plain values. Raises UsageError with one sentence per mistake."""
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise UsageError(" ".join(_explain_problem(dict(problem)) for problem in error.errors())) from None
    except (RecursionError, OverflowError):
        raise UsageError("A setting is nested too deep, or too large a number.") from None
    for key, value in _flatten(dump_settings(config)).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not _is_writable(text):
                raise UsageError(f"The setting {key} holds a character that UTF-8 does not have; give other text.")
    return config


def dump_settings(config: Config) -> Settings:
    """Return the settings as nested plain values without the unset ones, for TOML and JSON."""
    return config.model_dump(mode="json", exclude_none=True)


def compare_configs(left: Config, right: Config) -> list[str]:
    """List the `section.key`s in which two configurations differ, except for speed."""
    first, second = _flatten(dump_settings(left)), _flatten(dump_settings(right))
    keys = sorted(key for key in first.keys() | second.keys() if not key.startswith("speed."))
    return [key for key in keys if first.get(key) != second.get(key)]


def _read_toml(file: Path) -> Settings:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except FileNotFoundError:
        raise UsageError(f"There is no configuration file {file}; `pretext init` writes one.") from None
    except OSError as error:
        raise UsageError(f"The configuration file {file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {file} is not valid TOML: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"The configuration file {file} is not valid TOML: a value in it cannot be read ({type(error).__name__})."
        ) from None


def _locate_settings(settings: Settings, base: Path) -> Settings:
    """Make the paths in a layer of settings absolute, relative to a folder."""
    for section, keys in LOCATIONS.items():
        table: Any = settings.get(section)
        for key in keys if isinstance(table, dict) else ():
            match table.get(key):
                case str(value) if value != "embedded":  # a model's name, whatever lies in the folder
                    table[key] = resolve_location(value, base)
                case [*values]:
                    table[key] = [resolve_location(item, base) if isinstance(item, str) else item for item in values]
    return settings


def _is_writable(text: str) -> bool:
    """Whether a text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nest_overrides(overrides: Sequence[str]) -> Settings:
    """Turn `["privacy.epsilon=1.29"]` into `{"privacy": {"epsilon": 1.29}}`; a value that is not TOML is a string."""
    settings: Settings = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UsageError(
                f"--set {override!r} has no value; write it as section.key=value, for example privacy.epsilon=1."
            )
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            parsed = value
        for part in reversed(key.strip().split(".")):
            parsed = {part: parsed}
        _merge_layer(settings, parsed)
    return settings


def _merge_layer(base: Settings, layer: Mapping[str, Any]) -> None:
    """Lay the nested `layer` over `base`."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(base.get(key, {}), dict):
            _merge_layer(base.setdefault(key, {}), value)
        else:
            base[key] = value


def _replace_target(base: Settings, layer: Mapping[str, Any]) -> None:
    """Drop the lower layers' epsilon or noise_multiplier where `layer` names one of the two."""
    upper, lower = layer.get("privacy"), base.get("privacy")
    if isinstance(upper, Mapping) and isinstance(lower, dict) and {"epsilon", "noise_multiplier"} & upper.keys():
        lower.pop("epsilon", None)
        lower.pop("noise_multiplier", None)


def _explain_problem(problem: Settings) -> str:
    """Say one of pydantic's validation errors in a sentence."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, key = [str(part) for part in problem["loc"]]
        near = difflib.get_close_matches(key, _list_keys(parents), n=1, cutoff=0.4)
        hint = (
            f"did you mean {'.'.join([*parents, near[0]])}?"
            if near
            else f"allowed are {', '.join(_list_keys(parents))}."
        )
        return f"There is no setting {where}; {hint}"
    if problem["type"] == "missing":
        return f"The setting {where} is missing" + (
            ": give privacy.epsilon, for example 1.0." if where == "privacy" else "."
        )
    message = str(problem["msg"]).removeprefix("Value error, ")
    return (
        f"The setting {where} is {_cut(repr(problem['input']))}: {message}."
        if problem["type"] != "value_error"
        else f"{where or 'settings'}: {message}."
    )


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."


def _list_keys(parents: Sequence[str]) -> list[str]:
    """List the settings of a section, or all sections where there are no parents."""
    model: Any = Config
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        model = next(
            (kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")), annotation
        )
    return list(model.model_fields)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Turn `{"privacy": {"epsilon": 1.29}}` into `{"privacy.epsilon": 1.29}`."""
    flat: Settings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
