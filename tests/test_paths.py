"""Every path that documents, docstrings and comments name exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHERE = ("*.md", "*.toml", "Makefile", ".ci/run", "docs/*.md", "requirements/*.txt", "notebooks/*.ipynb")
CODE = ("privacy/**/*.py", "pretext/**/*.py", "scripts/**/*", "tests/**/*.py")
PATH = re.compile(
    r"(?<![\w./*-])(?:\.?/)?((?:scripts|tests|docs|notebooks|requirements|privacy|pretext|comparison)/[\w./*-]*\w[\w/*-]*/?)"
)
MODULE = re.compile(r"python -m (scripts(?:\.\w+)+)")


def files() -> Iterator[Path]:
    for pattern in (*WHERE, *CODE):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts and path != Path(__file__).resolve():
                yield path


def read_prose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])  # outputs may name anything


def is_path(name: str) -> bool:
    """Whether a file or folder has this path from the root, or from scripts/studies; a pattern may match several."""
    return any(True for root in (ROOT, ROOT / "scripts/studies") for _ in root.glob(name.rstrip("/")))


def dangling_paths(text: str) -> list[str]:
    names = [match.rstrip("./") for match in PATH.findall(text)]
    names += [match.replace(".", "/") + ".py" for match in MODULE.findall(text)]
    return sorted({name for name in names if looks_like_a_path(name) and not is_path(name)})


def looks_like_a_path(name: str) -> bool:
    """A name with an ending or a pattern, or in a folder of files alone; "privacy/utility" and NAME.py are none."""
    if re.search(r"\b[A-Z]{3,}\b", name):
        return False
    return bool(re.search(r"\.\w+$|\*", name)) or name.startswith(("scripts/", "tests/", "docs/", "notebooks/"))


@pytest.mark.parametrize("path", list(files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_file_names_exists(path: Path) -> None:
    assert dangling_paths(read_prose(path)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see `scripts/gone.py`.", ["scripts/gone.py"]),
        ("run scripts/gone", ["scripts/gone"]),
        ("`tests/privacy/test_gone*.py`", ["tests/privacy/test_gone*.py"]),
        ("python -m scripts.bench.gone FILE", ["scripts/bench/gone.py"]),
        ("scripts/test, `tests/privacy/test_ledger*.py` and comparison/costs.py (pretext/cli/).", []),
        ("a trade of privacy/utility", []),
        ("write pretext/models/engines/NAME.py", []),
    ],
)
def test_dangling_paths__of_a_text__are_those_that_do_not_exist(text: str, expected: list[str]) -> None:
    assert dangling_paths(text) == expected
