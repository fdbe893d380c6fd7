"""Keep private and public sources apart: the same texts must not be both.

Whatever is read from a public source is shown, as a candidate or as an example. So a private source that is given as a
public one too is refused before anything is read. Names and file numbers are compared, never contents: whether two
files hold the same texts would be a fact about the private ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pretext.config.settings import Data, Initial
from pretext.errors import UsageError
from pretext.formats.reading import strip_compression
from pretext.tables import Source

_log = logging.getLogger("pretext")


def private_source(data: Data) -> Source:
    """Name the place of the private texts."""
    return Source(data.path, data.subset, data.split)


def check_sources_apart(data: Data, initial: Initial, folder: Path | None = None) -> None:
    """Check the sources that a configuration names, as `check_apart` does.

    Args:
        data: the private source.
        initial: the public ones.
        folder: of a run whose synthetic texts are compared with the private ones.

    Raises:
        UsageError: as `check_apart`, or the private source is the run folder, lies in it, or holds it.
    """
    private = private_source(data)
    check_apart(private, [Source(location, initial.subset, initial.split) for location in initial.locations])
    if data.path and folder is not None and _is_same(private, Source(str(folder.absolute()))):
        raise UsageError(
            f"{data.path} is given as private, but is, holds or lies in the run folder {folder}, whose texts are "
            "synthetic; give the private texts alone."
        )


def check_apart(private: Source, public: Iterable[Source]) -> None:
    """Check that no public source is the private one: the same path, a link, a compressed neighbor, or a dataset's id.

    Raises:
        UsageError: one is, holds it, or lies in it.
    """
    if not private.location:
        return
    for source in public:
        if _is_same(private, source):
            raise UsageError(
                f"{source.location} is given as public, but is or holds the private source {private.location}; public "
                "texts are shown as they are. Give other public texts."
            )
        if source.file is not None and _is_of_a_run(source.file):
            _log.warning(
                "The public source %s was written by a run: it is public only as far as that run's texts are.",
                source.location,
            )
    if private.file is not None and _is_of_a_run(private.file):
        _log.warning("The private source %s was written by a run: it holds synthetic texts.", private.location)


def _is_same(private: Source, public: Source) -> bool:
    one, other = private.file, public.file
    if one is None or other is None:
        return one is other and _dataset_key(private) == _dataset_key(public)
    one, other = (Path(os.path.realpath(path)) for path in (one, other))
    return (
        one.is_relative_to(other)
        or other.is_relative_to(one)
        or strip_compression(one) == strip_compression(other)
        or not _list_file_numbers(one).isdisjoint(_list_file_numbers(other))
    )


def _dataset_key(source: Source) -> tuple[str, str, str]:
    return source.dataset_id.casefold(), source.subset or "default", source.split


def _list_file_numbers(path: Path) -> set[tuple[int, int]]:
    """List device and inode of a file, or of all files in a folder: what a hard link shares."""
    paths = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    numbers = set()
    for file in paths:
        try:
            status = file.stat()
        except OSError:
            continue
        numbers.add((status.st_dev, status.st_ino))
    return numbers


def _is_of_a_run(path: Path) -> bool:
    """Whether a folder is a run's, or a file lies in one."""
    path = Path(os.path.realpath(path))
    return any((folder / "run.json").is_file() for folder in (path, *path.parents[:2]))
