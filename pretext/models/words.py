"""Common words, from a tokenizer: its vocabulary is public and lists frequent words first."""

from __future__ import annotations

from pretext.models.sources import explain_model_errors, resolve_embedder

_WORD_STARTS = ("Ġ", "▁")  # of byte-level and SentencePiece vocabularies; WordPiece marks what is no start
_CONTINUATION = "##"


def read_general_words(embedder: str) -> list[str]:
    """Return the whole words of the embedder's tokenizer, in the order of its vocabulary.

    Raises:
        ModelError: the model cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    with explain_model_errors(embedder):
        tokenizer = AutoTokenizer.from_pretrained(resolve_embedder(embedder))
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    marked = any(token.startswith(_WORD_STARTS) for token in tokens)
    words = (token[1:] if token.startswith(_WORD_STARTS) else "" if marked else token for token in tokens)
    return list(dict.fromkeys(word for word in words if word.isalpha() and not word.startswith(_CONTINUATION)))
