"""Checks that a run folder is as it was sealed, before a command continues it or shows it.

A command that continues a run seals what lies in its folder in the end. Without this check it would seal what somebody
edited meanwhile, and `pretext privacy verify` would pass again. So the folder is compared with its last seal first.
What the command writes anew from the ledger need not agree. Where an expansion was interrupted, the ledger says so
(`Seal.opened`): then there may be more texts, behind those that were sealed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from pretext.errors import RunFolderError
from pretext.files import open_regular
from pretext.formatting import format_count, quote_path
from pretext.run.folder import EXPANSION_FILE, Run
from pretext.run.manifest import (
    MANIFEST,
    FileDigest,
    file_digest,
    finish_seal,
    is_name_of_ours,
    read_contents,
    read_manifest,
)
from pretext.statement.provenance import ABSENT, Difference
from privacy import Ledger, Seal

RUN_WRITES = frozenset({"privacy.json", "README.md"})
"""What continuing a run writes anew, from the ledger and from what is sealed."""
RANKING_WRITES = frozenset({"ranking.json", "privacy.json"})
"""What asking FreD again writes anew."""

_GROWING = re.compile(r"expansion\.json|synthetic[./].*")
_SHOWN = 20


def open_sealed_run(run: Run, ledger: Ledger, writes: frozenset[str], accept_changes: bool) -> None:
    """Compare a folder with its last seal before a command continues it.

    Args:
        run: the folder, held by this process.
        ledger: that it is charged to.
        writes: files that the command writes anew.
        accept_changes: continue although something was changed; the ledger records what.

    Raises:
        RunFolderError: something was changed that the command does not write.
    """
    finish_seal(run, ledger)
    seal = ledger.last_seal(run.account.dataset, run.id)
    if seal is None:
        return
    differences = list(compare_with_seal(run, seal, writes))
    if differences and not accept_changes:
        raise _changed_error(
            run,
            differences,
            "Put the files back, or give --accept-changes to continue from them as they are; the ledger records that.",
        )
    if differences:
        ledger.open_again(run.account.dataset, run.id, tuple(sorted({difference.file for difference in differences})))


def check_seal(run: Run, ledger: Ledger) -> None:
    """Compare a folder that is only read with its last seal, if this ledger holds one.

    Raises:
        RunFolderError: something was changed.
    """
    if ledger.identity != run.account.ledger or (seal := ledger.last_seal(run.account.dataset, run.id)) is None:
        return
    if differences := list(compare_with_seal(run, seal, frozenset())):
        raise _changed_error(
            run,
            differences,
            f"Put the files back, or accept them: pretext resume {quote_path(run.folder)} --accept-changes",
        )


def compare_with_seal(run: Run, seal: Seal, writes: frozenset[str]) -> Iterator[Difference]:
    """List what differs from the last seal of a folder, but for what is written anew or may have grown since."""
    path = run.folder / MANIFEST
    digest = file_digest(path) if path.is_file() and not path.is_symlink() else ABSENT
    if digest != seal.manifest:
        yield Difference(MANIFEST, f"SHA-256 sealed at {seal.time}", seal.manifest, digest)
        return
    manifest, contents = read_manifest(run), read_contents(run.folder)
    assert manifest is not None
    writes |= RUN_WRITES.union(seal.accepted) if seal.opened else frozenset()
    for name, kind in contents.strays.items():
        if kind != "an unknown file" and (name in manifest.files or is_name_of_ours(name)):
            yield Difference(name, "", "a regular file", kind)
    for difference in compare_files(manifest.files, contents.files):
        name = difference.file
        if name not in writes and not (seal.opened and _has_grown(run, seal, manifest.files, name)):
            yield difference


def compare_files(listed: dict[str, FileDigest], present: dict[str, FileDigest]) -> Iterator[Difference]:
    """List the files that differ from those that a manifest lists."""
    for name in sorted(listed.keys() | present.keys()):
        if name not in present or name not in listed:
            yield Difference(name, "", *("a file" if name in files else "no file" for files in (listed, present)))
        elif listed[name].bytes != present[name].bytes:
            yield Difference(name, "bytes", listed[name].bytes, present[name].bytes)
        elif listed[name].sha256 != present[name].sha256:
            yield Difference(name, "sha256", listed[name].sha256, present[name].sha256)


def _has_grown(run: Run, seal: Seal, listed: dict[str, FileDigest], name: str) -> bool:
    """Whether a file is what an interrupted expansion may have made of a sealed one, or is one of its own.

    Only the last file of texts grows, behind what is sealed. In parquet, growing writes it anew.
    """
    if not _GROWING.fullmatch(name):
        return False
    if seal.accepted or name not in listed or name == EXPANSION_FILE:
        return True
    if name != max(other for other in listed if other.startswith("synthetic")):
        return False
    if name.endswith(".parquet"):
        return True
    try:
        with open_regular(run.folder / name) as file:
            return hashlib.sha256(file.read(listed[name].bytes)).hexdigest() == listed[name].sha256
    except OSError:
        return False


def _changed_error(run: Run, differences: list[Difference], remedy: str) -> RunFolderError:
    lines = [str(difference) for difference in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"and {format_count(len(differences) - _SHOWN, 'more difference')}")
    return RunFolderError("\n".join([*lines, f"{run.folder} was changed after it was sealed. {remedy}"]))
