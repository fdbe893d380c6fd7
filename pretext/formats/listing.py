"""Which files of a dataset belong to a split: those of whom the dataset's card, or else their own name, says so.

No file decides whether another one is read. The library `datasets` lets one file whose name holds "train" or "test"
take all files without such a word out of the split, and reads the files of the most frequent ending alone. In a folder
with a file for each client, one client would then decide whether all others are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

from pretext.formats.reading import has_known_ending

CARD: Final = "README.md"
"""The card of a dataset, which may begin with a list of its files."""
_WORDS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_METADATA = frozenset(
    ("config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "package.json", "state.json")
)


def choose_files(names: Iterable[str], card: str, subset: str | None, split: str) -> list[str]:
    """Choose the data files of a split, in order of their names.

    A file belongs to the split whose name stands as a word in its path, and to `train` if no split's does.

    Args:
        names: paths of all files of the dataset, relative to it, with slashes.
        card: the content of its card; empty if it has none.
        subset: a configuration that the card names; None: the default one.
        split: train, validation, test, or a name of the dataset's own.

    Raises:
        ValueError: the card cannot be read, or there is no such subset.
    """
    names = sorted(name for name in names if _is_data(name))
    patterns = _read_patterns(card, subset)
    if patterns is None:
        return [name for name in names if _tells_split(name, split)]
    wanted = [re.compile(_translate(pattern)) for pattern in patterns.get(split, ())]
    return [name for name in names if any(pattern.match(name) for pattern in wanted)]


def _is_data(name: str) -> bool:
    path = PurePath(name)
    is_hidden = any(part.startswith((".", "__")) for part in path.parts)
    return has_known_ending(name) and not is_hidden and path.name not in _METADATA


def _tells_split(name: str, split: str) -> bool:
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & {split.lower(), *_WORDS.get(split, ())}:
        return True
    return split == "train" and not words & {word for group in _WORDS.values() for word in group}


def _read_patterns(card: str, subset: str | None) -> Mapping[str, Sequence[str]] | None:
    """Read the patterns of the files of each split that a card declares; None if it declares none.

    Raises:
        ValueError: it cannot be read, or has no such subset.
    """
    configs = _read_configs(card)
    if subset is None:
        names = [name for name, config in configs.items() if config.get("default")] or ["default", *configs]
        subset = next((name for name in names if name in configs), None)
    elif subset not in configs and (configs or subset != "default"):
        raise ValueError("no such subset")
    files = configs[subset].get("data_files") if subset in configs else None
    if files is None:
        return None
    patterns: dict[str, list[str]] = {}
    for item in files if isinstance(files, list) else [files]:
        split, paths = (item["split"], item["path"]) if isinstance(item, dict) else ("train", item)
        patterns.setdefault(str(split), []).extend(map(str, paths if isinstance(paths, list) else [paths]))
    return patterns


def _read_configs(card: str) -> dict[str, dict[str, Any]]:
    """Read the subsets that a card describes, by name. Raises ValueError."""
    from huggingface_hub import RepoCard

    if not card.startswith("---"):
        return {}
    try:
        configs = RepoCard(card).data.get("configs") or ()
        return {str(config["config_name"]): config for config in configs}
    except Exception:  # of the YAML parser, or of a list that is none
        raise ValueError("the card cannot be read") from None


def _translate(pattern: str) -> str:
    from fsspec.utils import glob_translate

    return str(glob_translate(pattern.removeprefix("./")))
