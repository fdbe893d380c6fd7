"""The settings that have a name of their own: one table for the command line and for Python.

`--client-column id` and `synthesize(client_column="id")` both set `data.client_column`. Reach every other setting with
`--set section.key=value`, in the configuration file, or with `settings=`.

This module imports nothing heavy: `pretext --help` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pretext.config.presets import Settings


@dataclass(frozen=True)
class Flag:
    """One row of the table.

    Attributes:
        name: the argument in Python; on the command line `--name`, with dashes, and in the singular if repeated.
        setting: `section.key` in the configuration.
        help: the line of `--help`.
        type: of a value.
        is_location: the value is a file or a Hugging Face dataset id, see `resolve_location`.
        is_repeated: the flag may be given several times; the setting is a list.
    """

    name: str
    setting: str
    help: str
    type: type = str
    is_location: bool = False
    is_repeated: bool = False

    @property
    def option(self) -> str:
        """As on the command line."""
        return "--" + (self.name.removesuffix("s") if self.is_repeated else self.name).replace("_", "-")


_TABLE = (
    Flag("private", "data.path", "Private texts: a file or a Hugging Face dataset id.", is_location=True),
    Flag("text_column", "data.text_column", "Column with the private text."),
    Flag("client_column", "data.client_column", "Column that tells clients apart; default: each record is a client."),
    Flag("label_column", "data.label_column", "Column with the label."),
    Flag("public", "initial.texts", "Public texts to start from: a file or a dataset id.", is_location=True),
    Flag("prompts", "initial.prompts", "Public sentence that describes the domain; may be repeated.", is_repeated=True),
    Flag(
        "public_sets",
        "initial.public_sets",
        "Public set to rank: a file or a dataset id; repeat it, at least two.",
        is_location=True,
        is_repeated=True,
    ),
    Flag("public_column", "initial.text_column", "Column with the public sets' text."),
    Flag("public_set_texts", "initial.public_set_texts", "Most texts of each public set to embed.", int),
    Flag("epsilon", "privacy.epsilon", "Privacy loss of all releases together.", float),
    Flag("noise_multiplier", "privacy.noise_multiplier", "Noise of a round / sensitivity, in place of epsilon.", float),
    Flag("delta", "privacy.delta", "Probability mass outside of epsilon.", float),
    Flag("relation", "privacy.relation", "Neighboring datasets: add/remove or replace-one."),
    Flag("rounds", "privacy.rounds", "Rounds of voting, each one release.", int),
    Flag("max_texts_per_client", "privacy.max_texts_per_client", "Most texts that a client votes with.", int),
    Flag("clients", "privacy.clients", "Public estimate of the number of clients.", int),
    Flag("clients_exact", "privacy.clients_exact", "The number of clients is exact, and public.", bool),
    Flag("dataset", "privacy.dataset", "Name of the dataset in the ledger."),
    Flag("texts", "expansion.texts", "Synthetic texts to write.", int),
    Flag("preset", "preset", "Starting point: default, profile or icml2024."),
)
LOCATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "data": ("path",),
    "initial": ("texts", "public_sets"),
    "models": ("generator", "adapter", "embedder", "masked"),
}
"""The settings that may hold a path, by section."""
FLAGS: Final[Mapping[str, Flag]] = {flag.name: flag for flag in _TABLE}

_SOURCE = ("private", "text_column", "client_column")
RUN_FLAGS = (
    *_SOURCE,
    "label_column",
    "public",
    "prompts",
    "epsilon",
    "delta",
    "relation",
    "texts",
    "preset",
)
FRED_FLAGS = (
    *_SOURCE,
    "public_sets",
    "public_column",
    "public_set_texts",
    "epsilon",
    "delta",
    "relation",
    "clients",
    "clients_exact",
)
CALIBRATION_FLAGS = ("epsilon", "noise_multiplier", "delta", "relation", "rounds", "max_texts_per_client")


def nest_flags(values: Mapping[str, Any]) -> Settings:
    """Return the layer of settings that flags make.

    Args:
        values: by the flags' names; None and an empty list stand for a flag that was not given.
    """
    layer: Settings = {}
    for name, value in values.items():
        flag = FLAGS[name]
        if value is None or (flag.is_repeated and not value):
            continue
        if flag.is_repeated and isinstance(value, str | Path):
            from pretext.errors import UsageError

            raise UsageError(f"{name} is a list; write {name}=[...] around the single value.")
        if flag.is_location or flag.is_repeated:
            _check_texts(name, value if flag.is_repeated else [value])
        if flag.is_location:
            value = [resolve_location(item) for item in value] if flag.is_repeated else resolve_location(value)
        section, _, key = flag.setting.rpartition(".")
        table = layer.setdefault(section, {}) if section else layer
        table[key] = list(value) if flag.is_repeated else value
    return layer


def _check_texts(name: str, values: Any) -> None:
    """Check that the values of a flag, which Python may give, are texts or paths. Raises UsageError."""
    from pretext.errors import UsageError

    items = values if isinstance(values, list | tuple) else [values]
    wrong = next((type(item).__name__ for item in items if not isinstance(item, str | Path)), None)
    if wrong is not None:
        raise UsageError(f"{name} holds a value of the type {wrong}; give texts, or paths of files.")


def resolve_location(source: str | Path, base: Path | None = None) -> str:
    """Return the absolute path of a file, so that a run resumes from any folder, or a dataset's or model's id as it is.

    Args:
        source: a path or an id; what does not exist is a path if it looks like one: it begins with a dot, or ends as
            files do.
        base: the folder that a relative path belongs to; default: the current one.
    """
    from pretext.formats.reading import has_known_ending  # not above: `pretext --help` would pay for it

    text = str(source)
    with suppress(OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links, no known home
        path = Path(base or "", Path(source).expanduser())
        looks_like_a_path = text.startswith(("./", "../")) or has_known_ending(text)
        if text and not text.startswith("hf:") and (path.exists() or looks_like_a_path):
            return str(path.resolve())
    return text
