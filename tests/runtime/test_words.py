"""Prompts as tokens."""

from __future__ import annotations

import numpy as np
import pytest

from mien.engines.errors import ModelError, UsageError
from mien.runtime.words import (
    PADDING,
    UNKNOWN,
    VOCABULARY_KEY,
    prompt_tokens,
    stated_vocabulary,
    tokenise,
)

WORDS = ("a", "eyes", "face", "happy", "wide", "with")


def test_words_become_their_numbers_and_the_rest_is_padding() -> None:
    tokens = tokenise("A Happy face, with WIDE eyes!", WORDS, 8)
    assert tokens.tolist() == [2, 5, 4, 7, 6, 3, PADDING, PADDING]
    assert tokens.dtype == np.int64


def test_unknown_words_are_kept_as_such_and_long_texts_are_cut() -> None:
    assert tokenise("a purple face", WORDS, 8)[:3].tolist() == [2, UNKNOWN, 4]
    assert tokenise("happy " * 20, WORDS, 4).tolist() == [5, 5, 5, 5]


def test_a_prompt_has_a_batch_of_one() -> None:
    assert prompt_tokens("a happy person", WORDS, 6).shape == (1, 6)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("", "has no word"),
        ("42 !", "has no word"),
        ("a hapy face", "did you mean 'happy'"),
        ("a face", "says nothing that this model knows"),
        ("x" * 600, "may have 500 characters, not 600"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused_in_one_line(prompt: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        prompt_tokens(prompt, WORDS, 6)
    assert "\n" not in str(caught.value)


def test_a_graph_states_its_vocabulary_or_is_refused() -> None:
    assert stated_vocabulary({VOCABULARY_KEY: "a happy face"}) == ("a", "happy", "face")
    for stated in ({}, {VOCABULARY_KEY: ""}, {VOCABULARY_KEY: "a ha-ppy"}):
        with pytest.raises(ModelError, match="does not state its vocabulary"):
            stated_vocabulary(stated)
