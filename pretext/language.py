"""Which language a text is in, with py3langid: a kept library that carries its model (5 MB) and needs numpy alone."""

from __future__ import annotations

import functools
from typing import Any


def language(text: str) -> str:
    """The likeliest language, by its code in ISO 639; a guess, poor for texts of a few words.

    Of 4,000 paragraphs of the English Wikipedia 0.6 % are taken for another language.
    """
    return str(_identifier().classify(text)[0])


def known_languages() -> frozenset[str]:
    """The codes of all languages that are told apart."""
    return frozenset(map(str, _identifier().labels))


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
