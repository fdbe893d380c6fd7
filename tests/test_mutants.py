"""The catalog of mutants: each one applies, is a program, and names tests that exist. `scripts/mutants` runs them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant__in_a_copy__changes_one_place(mutant: Mutant, tmp_path: Path) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text(source, encoding="utf-8")
    mutant.write(tmp_path)
    changed = copy.read_text(encoding="utf-8")
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    with pytest.raises(ValueError, match="not once"):
        Mutant("", "", mutant.file, "no such text", "", "", ()).write(tmp_path)


def test_catalog__all_in_all__covers_many_kinds_and_names_tests_that_are_there() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 50
    assert len({mutant.kind for mutant in MUTANTS}) >= 15
    for mutant in MUTANTS:
        assert mutant.killers
        for test in mutant.killers:
            file, _, name = test.partition("::")
            assert name.split("[")[0] in (ROOT / file).read_text(encoding="utf-8"), test
