"""Which language a text is in, with py3langid: a kept library that carries its model (5 MB) and needs numpy alone."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from pretext.errors import UsageError


def guess_language(text: str) -> str:
    """The likeliest language, by its code in ISO 639; a guess, poor for texts of a few words.

    Of 4,000 paragraphs of the English Wikipedia 0.6 % are taken for another language.
    """
    return str(_load_language_model().classify(text)[0])


def check_languages(languages: Collection[str]) -> None:
    """Raises UsageError unless all of these are codes of languages that are told apart."""
    if languages and (unknown := set(languages) - set(map(str, _load_language_model().labels))):
        raise UsageError(f"screening.languages holds {min(unknown)!r}; name languages in two letters, for example en.")


@functools.cache
def _load_language_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
