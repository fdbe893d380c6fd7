from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pretext.files import (
    find_temporary,
    make_folder_atomically,
    open_atomically,
    read_file,
    remove_leftovers,
    replace_folder,
    replace_nonfinite,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write__over_a_file__replaces_it_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "old")
    write_atomically(tmp_path / "a", "new \ud800")
    assert (tmp_path / "a").read_text() == "new ?"
    assert names(tmp_path) == ["a"]


def test_write__with_a_failure_inside__keeps_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="half"), open_atomically(tmp_path / "a") as file:
        file.write(b"1" * int("half"))
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_write__over_a_link__replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "untouched"
    assert not (tmp_path / "link").is_symlink()


def test_write__over_a_pipe_or_a_device__is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("replaced"))  # as root it would be
    places = [tmp_path / "pipe", tmp_path / "null", Path("/dev/null"), Path("/dev/stdout"), Path("/proc/self/fd/1")]
    for place in places:
        with pytest.raises(OSError, match="not a regular file"):
            write_atomically(place, "new")


def test_write__by_many_at_once__gives_one_of_them_whole(tmp_path: Path) -> None:
    contents = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "a", content), contents * 5))
    assert (tmp_path / "a").read_text() in contents
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a" * 255, "\u5b57" * 85], ids=["ascii", "three bytes each"])
def test_write__of_a_long_name__fits(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, "new")
    assert names(tmp_path) == [name]


def test_write__by_many_at_once__leaves_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    umask = os.umask

    def set_slowly(mask: int) -> int:
        previous = umask(mask)
        time.sleep(0.001)  # lets the other threads run between reading the mask and setting it back
        return previous

    before = umask(0o022)
    try:
        monkeypatch.setattr(os, "umask", set_slowly)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: write_atomically(tmp_path / f"{number}", ""), range(32)))
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
        assert umask(0o022) == 0o022
    finally:
        umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_and_folders__follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", "")
        with make_folder_atomically(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_make_folder__over_a_full_one__is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    with pytest.raises(OSError), make_folder_atomically(tmp_path / "a") as fresh:
        (fresh / "c").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["b"]


def test_remove_leftovers__of_a_killed_writer__leaves_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in (".b.jsonl-x1y2z3w4.tmp", "a/.c-x1y2z3w4.tmp", "a/d", "e.tmp"):
        (tmp_path / path).touch()
    remove_leftovers(find_temporary(tmp_path))
    assert names(tmp_path) == ["a", "e.tmp"]
    assert names(tmp_path / "a") == ["d"]


def test_replace_nonfinite__reaches_every_depth() -> None:
    nan, infinity = float("nan"), float("inf")
    assert replace_nonfinite({"a": [1.5, nan, (infinity, "x")]}) == {"a": [1.5, None, [None, "x"]]}


def test_open__beside_a_leftover__removes_it_and_leaves_what_a_process_holds(tmp_path: Path) -> None:
    (tmp_path / ".a-x1y2z3w4.tmp").write_text("of a killed writer")
    (tmp_path / ".b-x1y2z3w4.tmp").write_text("of another target")
    with open_atomically(tmp_path / "a") as outer:
        outer.write(b"outer")
        write_atomically(tmp_path / "a", "inner")
    assert (tmp_path / "a").read_text() == "outer"
    assert names(tmp_path) == [".b-x1y2z3w4.tmp", "a"]


def test_remove_leftovers__of_a_file_that_a_process_holds__leaves_it(tmp_path: Path) -> None:
    with open_atomically(tmp_path / "a"):
        remove_leftovers(find_temporary(tmp_path))
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_replace_folder__over_an_earlier_one__leaves_the_new_one_alone(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr("pretext.files._exchange", lambda left, right: False)
    for number in range(2):
        with replace_folder(tmp_path / "a") as fresh:
            (fresh / str(number)).touch()
            assert number == 0 or names(tmp_path / "a") == ["0"]
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], ["1"])


def test_replace_folder__with_a_failure_inside__keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "old").mkdir(parents=True)
    with pytest.raises(ValueError, match="half"), replace_folder(tmp_path / "a"):
        int("half")
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], ["old"])


def test_read_file__of_a_pipe__is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        read_file(tmp_path / "pipe")
