"""Prompts: which emotions a text asks for, by the text tower of a text-image pair.

As in StyleCLIP and the mapper's paper, texts are compared in the pair's space: a prompt with
captions of each emotion. What is closest gets most of the weight.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mien.engines import Engine
from mien.engines.errors import UsageError
from mien.runtime.target import EMOTIONS
from mien.runtime.words import (
    ADJECTIVES,
    NOUNS,
    prompt_tokens,
    stated_vocabulary,
    tokenise,
)

SHARPNESS: Final = 20.0  # what a cosine is multiplied by before the softmax
LEAST_SHARE: Final = 0.1  # an emotion with less weight than that is left out
# Where even the likeliest emotion has less than this, the prompt says nothing about expressions.
CLEAR: Final = 0.25


class PromptReader:
    """Reads prompts as weights of emotions.

    engine: the text tower, tokens (n, length) to embeddings. Raises ModelError where its graph does
    not state its vocabulary, or knows no word for any emotion.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._vocabulary = stated_vocabulary(engine.metadata)
        self._length = engine.network.inputs[0].shape[1]
        self._last: tuple[str, np.ndarray] | None = None
        prototypes = {emotion: self._prototype(emotion) for emotion in EMOTIONS}
        self._prototypes = {e: known for e, known in prototypes.items() if known is not None}

    def __call__(self, prompt: str) -> np.ndarray:
        """The weights of a prompt: float32 (8,), their sum 1; the last prompt's are kept.

        Raises UsageError where it has no word that the tower knows, or none of an expression.
        """
        if self._last is None or self._last[0] != prompt:
            self._last = prompt, self._read(prompt)
        return self._last[1]

    def _read(self, prompt: str) -> np.ndarray:
        asked = self._embedded(prompt_tokens(prompt, self._vocabulary, self._length))
        names = list(self._prototypes)
        nearness = np.array([asked @ self._prototypes[name] for name in names])
        shares = np.exp(SHARPNESS * (nearness - nearness.max(initial=-1.0)))
        shares = shares / shares.sum() if names else shares
        if shares.max(initial=0.0) < CLEAR:
            raise UsageError(
                f"the prompt {prompt!r} names no expression; try 'a surprised face', or give "
                "--emotion"
            )
        shares[shares < LEAST_SHARE] = 0
        weights = np.zeros(len(EMOTIONS), np.float32)
        weights[[EMOTIONS.index(name) for name in names]] = shares / shares.sum()
        return weights

    def _prototype(self, emotion: str) -> np.ndarray | None:
        """The mean of an emotion's captions, of unit length; None where it has no known word."""
        known = set(self._vocabulary)
        texts = [f"a {word} face" for word in ADJECTIVES[emotion] if word in known]
        texts += [f"an emotion of {word}" for word in NOUNS[emotion] if word in known]
        if not texts:
            return None
        embedded = [
            self._embedded(tokenise(text, self._vocabulary, self._length)[None]) for text in texts
        ]
        return _unit(np.mean(embedded, axis=0))

    def _embedded(self, tokens: np.ndarray) -> np.ndarray:
        batch = self.engine.network.inputs[0].shape[0]
        found = self.engine.infer({"tokens": np.repeat(tokens, batch, 0)})["embedding"][0]
        return _unit(found)


def _unit(vector: np.ndarray) -> np.ndarray:
    normed: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return normed
