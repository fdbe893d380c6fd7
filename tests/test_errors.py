"""One root of errors, and an exit code with each class."""

from __future__ import annotations

import inspect

import pytest

import pretext
import pretext.errors
import privacy
import privacy.errors

ERRORS = {
    error
    for module in (pretext.errors, privacy.errors)
    for _, error in inspect.getmembers(module, inspect.isclass)
    if issubclass(error, Exception)
}
CODES = {
    "BudgetExceeded": 3,
    "Interrupted": 4,
    "InvalidParameter": 2,
    "LedgerConflict": 2,
    "UsageError": 2,
}


@pytest.mark.parametrize("error", sorted(ERRORS, key=lambda error: error.__name__))
def test_error__every_class__has_the_root_that_users_catch_and_its_exit_code(error: type[Exception]) -> None:
    assert issubclass(error, pretext.PretextError)
    assert error.exit_code == CODES.get(error.__name__, 1)  # type: ignore[attr-defined]


def test_privacy_error__errors_of_the_program__are_none() -> None:
    own = {error for error in ERRORS if error.__module__ == "pretext.errors"}
    assert own and not any(issubclass(error, privacy.PrivacyError) for error in own)
