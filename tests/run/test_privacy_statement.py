"""The privacy statement as a value: it survives its file, and a file that lacks anything is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pretext.errors import RunFolderError
from pretext.run.privacy_statement import (
    Accounting,
    DatasetAccount,
    Guarantee,
    MomentBounding,
    Neighbors,
    PrivacyStatement,
    Rounds,
    RunCharge,
    StatedRelease,
    UnitOfProtection,
    VoteBounding,
)
from privacy import Budget

STATEMENT = PrivacyStatement(
    run="a1",
    guarantee=Guarantee("client", "add/remove", 1.5, 1e-6, 1.6),
    other_relation=Guarantee("client", "replace-one", 2.5, 1e-6, 2.6),
    reading_epsilon=1.2,
    unit=UnitOfProtection("client", "author", "all texts of one author"),
    relation=Neighbors("add/remove", "one unit is there or not"),
    rounds=Rounds(3, 2, "votes"),
    releases=(
        StatedRelease("a1/votes/0", "ab", "gaussian", 24, 4.0, 1.0, 4.0, 0.5, 0.0625, 1e-12, "now", "pretext 1"),
    ),
    bounding=VoteBounding(8, "uniform", 2.0, False, None),
    accountant=Accounting("exact", "adaptive", "PRIVACY.md"),
    dataset=DatasetAccount(
        "notes",
        "client",
        "add/remove",
        Budget(3.0, 1e-6),
        1.5,
        0.1,
        1.4,
        1,
        (RunCharge("now", "a1", 1, 1.5, 1.5),),
        "l",
        4,
        "cd",
    ),
    not_covered=("this", "that"),
)
MOMENTS = replace(STATEMENT, rounds=None, bounding=MomentBounding(8, "mean over texts", "public"))
INFINITE = replace(STATEMENT, guarantee=replace(STATEMENT.guarantee, epsilon=math.inf))
FILE = Path("run/privacy.json")


@pytest.mark.parametrize("statement", [STATEMENT, MOMENTS, INFINITE], ids=["votes", "moments", "infinite"])
def test_statement__written_and_read__is_equal(statement: PrivacyStatement) -> None:
    text = statement.to_json()
    assert PrivacyStatement.from_json(text, FILE) == statement
    assert "Infinity" not in text


def test_to_json__infinite_epsilon__is_null() -> None:
    assert json.loads(INFINITE.to_json())["guarantee"]["epsilon"] is None


def test_from_json__any_value_missing__names_it() -> None:
    """Every key of the file but the format's, wherever it stands, is one that a reader needs."""
    for path in _paths(json.loads(STATEMENT.to_json())):
        if path == ["format"]:
            continue
        values = json.loads(STATEMENT.to_json())
        place = values
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with pytest.raises(RunFolderError) as caught:
            PrivacyStatement.from_json(json.dumps(values), FILE)
        assert str(path[-1]) in str(caught.value)
        assert "run holds no whole privacy.json" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(format="another"),
        lambda values: values["dataset"].update(ledger_position="last"),
        lambda values: values["guarantee"].update(epsilon="1.5"),
        lambda values: values["guarantee"].update(delta=None),
        lambda values: values["dataset"].update(left_epsilon=None),
        lambda values: values.update(releases=values["releases"][0]),
    ],
)
def test_from_json__value_of_another_type__is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(STATEMENT.to_json())
    change(values)
    with pytest.raises(RunFolderError, match=r"privacy\.json"):
        PrivacyStatement.from_json(json.dumps(values), FILE)


def _paths(value: Any) -> list[list[Any]]:
    """The paths of all keys of nested objects."""
    if isinstance(value, list):
        return [[place, *path] for place, item in enumerate(value) for path in _paths(item)]
    if not isinstance(value, dict):
        return []
    return [path for key, item in value.items() for path in ([key], *([key, *below] for below in _paths(item)))]
