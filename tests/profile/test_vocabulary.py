"""Which features are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.errors import UsageError
from pretext.profile.features import MARKS, text_features
from pretext.profile.vocabulary import Vocabulary, build_vocabulary, public_clip

POOL = ["I want a table for two.", "I want to fly home.", "I need help", "Is it open?"] * 5


def test_vocabulary__of_a_pool__begins_with_marks_and_holds_what_it_lacks() -> None:
    features = build_vocabulary(POOL, ["zebra", "okay"], 80).features
    assert features[: len(MARKS)] == MARKS
    assert {"zebra", "<s> Zebra", "<s> okay", "I want", "? </s>"} <= set(features)


@given(st.integers(len(MARKS) + 1, 300), st.lists(st.sampled_from(["a", "want", "Zoo", "x"]), max_size=4))
def test_vocabulary__of_any_size__is_at_most_that_large_and_without_doubles(size: int, words: list[str]) -> None:
    features = build_vocabulary(POOL, words, size).features
    assert len(features) == len(set(features)) <= size
    assert build_vocabulary(POOL, words, size) == Vocabulary(features)


@pytest.mark.parametrize(("pool", "size"), [([], 100), (["once"], 100), (POOL, len(MARKS))])
def test_vocabulary__without_room_or_pool__is_refused(pool: list[str], size: int) -> None:
    with pytest.raises(UsageError):
        build_vocabulary(pool, [], size)


@given(st.lists(st.text(alphabet="aAb !?1\n", max_size=20), max_size=8))
def test_matrix__of_any_texts__marks_each_feature_once(texts: list[str]) -> None:
    vocabulary = Vocabulary((*MARKS, "a", "b", "a b", "<s> a", "! </s>"))
    matrix = vocabulary.matrix(texts)
    assert matrix.dtype == np.float32 and matrix.shape == (len(texts), len(vocabulary.features))
    assert matrix.toarray().tolist() == [
        [float(feature in text_features(text)) for feature in vocabulary.features] for text in texts
    ]


def test_digest__of_features_in_another_order__is_another() -> None:
    assert Vocabulary(("a", "b")).digest == Vocabulary(("a", "b")).digest
    assert len({Vocabulary(names).digest for names in (("a", "b"), ("b", "a"), ("a b",))}) == 3


def test_clip__of_equal_texts__is_the_norm_of_their_sum() -> None:
    vocabulary = Vocabulary(("I", "want", "? </s>"))
    assert public_clip(vocabulary, ["I want"] * 50, 4) == pytest.approx(4 * np.sqrt(2))
    assert public_clip(vocabulary, ["none of these"] * 50, 4) == 1.0
