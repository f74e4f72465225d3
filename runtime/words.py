"""Prompts as tokens: the words of emotions, and of a vocabulary that a graph states of itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from mien.engines.errors import ModelError, UsageError

PADDING, UNKNOWN, FIRST = 0, 1, 2  # tokens; the words are numbered from FIRST on
VOCABULARY_KEY = "mien.vocabulary"  # of the metadata: the words in the order of their tokens
MOST_LETTERS = 500  # of a prompt
WORD = re.compile(r"[a-z]+")
# How captions and prompts call each emotion.
ADJECTIVES = {
    "neutral": ("neutral", "calm", "relaxed", "expressionless"),
    "happy": ("happy", "joyful", "cheerful", "glad", "delighted"),
    "sad": ("sad", "unhappy", "sorrowful", "gloomy"),
    "surprised": ("surprised", "astonished", "amazed", "startled"),
    "fearful": ("fearful", "afraid", "scared", "frightened"),
    "disgusted": ("disgusted", "revolted", "repelled"),
    "angry": ("angry", "furious", "annoyed", "mad"),
    "contemptuous": ("contemptuous", "scornful", "disdainful"),
}
NOUNS = {
    "neutral": ("calm", "neutrality"),
    "happy": ("happiness", "joy"),
    "sad": ("sadness", "sorrow"),
    "surprised": ("surprise", "astonishment"),
    "fearful": ("fear", "fright"),
    "disgusted": ("disgust",),
    "angry": ("anger", "rage"),
    "contemptuous": ("contempt", "scorn"),
}


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return WORD.findall(text.lower())


def tokenise(text: str, vocabulary: Sequence[str], length: int) -> np.ndarray:
    """The tokens of a text: int64 (length,), PADDING after the last word.

    Words beyond `length` are left out, words that the vocabulary lacks are UNKNOWN.
    """
    numbers = {word: FIRST + i for i, word in enumerate(vocabulary)}
    found = [numbers.get(word, UNKNOWN) for word in words_of(text)][:length]
    tokens = np.full(length, PADDING, np.int64)
    tokens[: len(found)] = found
    return tokens


def prompt_tokens(prompt: str, vocabulary: Sequence[str], length: int) -> np.ndarray:
    """The tokens of a user's prompt: int64 (1, length).

    Raises UsageError where it is empty or too long, or the vocabulary has none of its words.
    """
    if len(prompt) > MOST_LETTERS:
        raise UsageError(
            f"a prompt may have {MOST_LETTERS} characters, not {len(prompt)}; shorten it"
        )
    words = words_of(prompt)
    if not words:
        raise UsageError(f"the prompt {prompt!r} has no word; try 'a happy face with open lips'")
    known = set(vocabulary)
    filling = {"a", "an", "and", "the", "of", "with", "face", "person"}
    if not (known - filling).intersection(words):
        telling = sorted(known - filling)
        near = [m for word in words for m in difflib.get_close_matches(word, telling, 1)]
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(telling[:6])}"
        raise UsageError(f"the prompt {prompt!r} says nothing that this model knows; {hint}")
    return tokenise(prompt, vocabulary, length)[None]


def stated_vocabulary(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that a text tower's graph states. Raises ModelError where it states none."""
    words = tuple(metadata.get(VOCABULARY_KEY, "").split())
    if not words or any(WORD.fullmatch(word) is None for word in words):
        raise ModelError(
            "the text network does not state its vocabulary; export it again with mien's recipe"
        )
    return words
