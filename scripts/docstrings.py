"""Real text that every machine has: the docstrings of the installed Python packages, one client per module.

    python scripts/docstrings.py OUT.jsonl [--modules 3000]

Sources are parsed, never imported. The first paragraph of every docstring of 5 to 60 words becomes a text.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

PLACES = {name: Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")}


def modules(most: int) -> list[Path]:
    """At most `most` source files, chosen by a hash of their path, so that the choice is the same on every call."""
    found = {path for path in PLACES["purelib"].rglob("*.py") if "test" not in path.as_posix().lower()}
    found |= {
        path
        for path in PLACES["stdlib"].rglob("*.py")
        if not {"site-packages", "dist-packages", "test"} & {*path.parts}
    }
    return sorted(found, key=lambda path: hashlib.sha256(path.name.encode() + str(path).encode()).digest())[:most]


def docstrings(path: Path) -> Iterator[str]:
    """The usable first paragraphs in a source file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if 5 <= len(paragraph.split()) <= 60:
                yield paragraph


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--modules", type=int, default=3000)
    arguments = parser.parse_args()
    texts = clients = 0
    with arguments.out.open("w", encoding="utf-8") as file:
        for path in modules(arguments.modules):
            found = list(dict.fromkeys(docstrings(path)))
            clients += bool(found)
            for text in found:
                file.write(json.dumps({"client": str(path), "text": text}) + "\n")
                texts += 1
    print(f"{arguments.out}: {texts} docstrings of {clients} modules", file=sys.stderr)


if __name__ == "__main__":
    main()
