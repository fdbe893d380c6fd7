"""Guess a text's language with py3langid: a maintained library that carries its model (5 MB) and needs only numpy."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from pretext.errors import UsageError


def guess_language(text: str) -> str:
    """Guess the likeliest language, as its ISO 639 code; the guess is poor for texts of a few words.

    It takes 0.6 % of 4,000 paragraphs of the English Wikipedia for another language.
    """
    return str(_load_language_model().classify(text)[0])


def check_languages(languages: Collection[str]) -> None:
    """Raise UsageError unless all of these are codes of languages that the model knows."""
    if languages and (unknown := set(languages) - set(map(str, _load_language_model().labels))):
        raise UsageError(f"screening.languages has {min(unknown)!r}; name languages in two letters, for example en.")


@functools.cache
def _load_language_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
