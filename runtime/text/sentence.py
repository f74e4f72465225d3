"""A sentence as the tokens of a text encoder, which states its vocabulary in its graph.

Source of the rules: the captions of AttnGAN and FaceCLIP. Words are of letters, digits and
underscores, in small letters; what is not ASCII in them is left out, and so are words that the
vocabulary lacks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.engines.errors import ModelError, UsageError
from mien.engines.text_faces import FIRST, PADDING, VOCABULARY_KEY
from mien.runtime.words import MOST_LETTERS

WORD: Final = re.compile(r"\w+")
# Words that alone say nothing of a face.
FILLING: Final = frozenset(
    ("a", "an", "and", "the", "of", "with", "face", "person", "has", "is", "to", "in", "s")
)
SHOWN: Final = 6  # known words that a message lists
# Those are shown first, where a vocabulary has them.
TELLING: Final = ("happy", "sad", "surprised", "angry", "smiling", "woman", "man", "young", "old")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text as tokens.

    words: those that the encoder knows, in order. tokens: int64 (1, length), PADDING after the
    last. dropped: the words that it does not know.
    """

    text: str
    words: tuple[str, ...]
    tokens: np.ndarray
    dropped: tuple[str, ...]


class Vocabulary:
    """The words that a text encoder knows, in the order of their tokens."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: FIRST + i for i, word in enumerate(self.words)}

    @classmethod
    def stated(cls, metadata: Mapping[str, str], tokens: int) -> Vocabulary:
        """The vocabulary that the graph of an encoder of so many tokens states.

        Raises ModelError where it states none, or one of another size.
        """
        words = metadata.get(VOCABULARY_KEY, "").split()
        if len(words) + FIRST != tokens or len(set(words)) != len(words):
            raise ModelError(
                f"the text encoder takes {tokens} tokens and states {len(words)} words; export it "
                "again with mien export --vocabulary captions.pickle"
            )
        return cls(words)

    def read(self, text: str, length: int) -> Sentence:
        """A text as tokens for an encoder of up to `length` words.

        Raises UsageError where the text is empty or too long, or says nothing that is known.
        """
        if len(text) > MOST_LETTERS:
            raise UsageError(
                f"a description may have {MOST_LETTERS} characters, not {len(text)}; shorten it"
            )
        found = [word for word in map(_in_ascii, WORD.findall(text.lower())) if word]
        if not found:
            raise UsageError(
                f"the description {text!r} has no word; try 'a young woman, happy, brows raised'"
            )
        known = tuple(word for word in found if word in self._numbers)
        dropped = tuple(word for word in found if word not in self._numbers)
        if not set(known) - FILLING:
            raise UsageError(
                f"the description {text!r} says nothing that this model knows; {self._hint(found)}"
            )
        if len(known) > length:
            raise UsageError(
                f"the description has {len(known)} known words, and this model reads {length}; "
                "shorten it"
            )
        tokens = np.full((1, length), PADDING, np.int64)
        tokens[0, : len(known)] = [self._numbers[word] for word in known]
        return Sentence(text, known, tokens, dropped)

    def _hint(self, found: Sequence[str]) -> str:
        telling = [word for word in self.words if word not in FILLING]
        near = [m for word in found for m in difflib.get_close_matches(word, telling, 1)]
        if near:
            return f"did you mean {near[0]!r}?"
        first = [word for word in TELLING if word in self._numbers]
        shown = list(dict.fromkeys([*first, *telling]))[:SHOWN]
        return f"it knows {', '.join(shown)} and more"


def _in_ascii(word: str) -> str:
    return word.encode("ascii", "ignore").decode()
