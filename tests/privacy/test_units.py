"""The privacy unit and the neighboring relation in words, and the errors' one root."""

from __future__ import annotations

import pytest

from privacy import (
    InvalidParameter,
    LedgerConflict,
    LedgerCorrupted,
    LedgerError,
    LedgerLocked,
    PrivacyError,
    Relation,
    Unit,
)
from privacy.errors import BudgetExceeded


def test_relations_are_a_closed_pair() -> None:
    assert {relation.value for relation in Relation} == {"add/remove", "replace-one"}


def test_relation_in_words() -> None:
    assert "absent" in Relation.ADD_REMOVE.words
    assert "exchanged" in Relation.REPLACE_ONE.words
    assert "number of units is public" in Relation.REPLACE_ONE.words


def test_unit_without_a_column_is_the_record_and_says_whom_it_does_not_protect() -> None:
    assert Unit().name == "record"
    assert "NOT" in Unit().words


def test_unit_with_a_column_is_the_client() -> None:
    assert Unit("user").name == "client"
    assert "'user'" in Unit("user").words


@pytest.mark.parametrize(
    "error", [InvalidParameter, BudgetExceeded, LedgerError, LedgerLocked, LedgerCorrupted, LedgerConflict]
)
def test_one_except_clause_catches_every_error(error: type[Exception]) -> None:
    assert issubclass(error, PrivacyError)


def test_a_bad_parameter_is_a_value_error_too() -> None:
    assert issubclass(InvalidParameter, ValueError)
