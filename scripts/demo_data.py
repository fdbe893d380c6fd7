"""Collect real text that every machine has, for the demonstration.

    python scripts/demo_data.py FOLDER [--modules 8000]

Writes docstrings.jsonl: the docstrings of the installed Python packages, one client per module, treated as private.
Sources are parsed, never imported; the first paragraph of a docstring becomes a text if it has 5 to 60 words. And
descriptions.jsonl: the sentences of the same packages' published descriptions, which are public.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--modules", type=int, default=8000, help="largest number of modules to parse")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    private = [{"client": str(path), "text": text} for path in modules(arguments.modules) for text in docstrings(path)]
    public = [{"text": text} for text in dict.fromkeys(descriptions())]
    for name, rows in (("docstrings", private), ("descriptions", public)):
        path = arguments.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{path}: {len(rows)} texts", file=sys.stderr)


def modules(limit: int) -> list[Path]:
    """Return at most `limit` source files, chosen by a hash of their path, so that every call chooses the same."""
    paths = sysconfig.get_paths()
    outside = {"site-packages", "dist-packages", "test"}
    files = {path for path in Path(paths["purelib"]).rglob("*.py") if "test" not in path.as_posix().lower()}
    files |= {path for path in Path(paths["stdlib"]).rglob("*.py") if not outside & {*path.parts}}
    return sorted(files, key=lambda path: hashlib.sha256(str(path).encode()).digest())[:limit]


def docstrings(path: Path) -> Iterator[str]:
    """Yield the usable first paragraphs in a source file, each once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    paragraphs = [" ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()) for node in documented]
    yield from dict.fromkeys(text for text in paragraphs if 5 <= len(text.split()) <= 60)


def descriptions() -> Iterator[str]:
    """Yield sentences of the installed packages' long descriptions, without code, tables and links."""
    for package in importlib.metadata.distributions():
        metadata: Any = package.metadata  # an e-mail message, which its type does not say
        text = re.sub(r"```.*?```|<[^>]*>|\[([^\]]*)\]\([^)]*\)", r"\1", str(metadata.get_payload() or ""), flags=re.S)
        for paragraph in text.split("\n\n"):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                if 6 <= len(sentence.split()) <= 40 and re.fullmatch(r"[A-Z][\w\s,.;:'()\"/!?-]*[.!?]", sentence):
                    yield sentence


if __name__ == "__main__":
    main()
