"""A generator at work: pictures in, restyled pictures out, and what its labels mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.engines import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.networks import GeneratorFacts, generator_facts
from mien.runtime.methods.gan.parts import KIND_OF_PART, PART_KINDS, PARTS
from mien.runtime.target import EMOTIONS, Target, emotion_name

ARROW = "->"
REST = "neutral"


class Labels:
    """What the numbers of a generator's label mean, in mien's own words.

    emotions: those it can give. source: what it must be given, where it goes one way only.
    """

    def __init__(self, network: str, facts: GeneratorFacts) -> None:
        self._network = network
        self._is_conditional = facts.is_conditional
        names = facts.labels
        self.source: str | None = None
        if not facts.is_conditional:
            source, arrow, goal = facts.labels[0].partition(ARROW)
            if not arrow:
                raise ModelError(
                    f"{network}: its direction is stated as {facts.labels[0]!r}, expected a pair "
                    f"such as neutral{ARROW}happy; export it again with mien export --labels"
                )
            self.source, names = source.strip(), (goal,)
        self._names = tuple(_plain(name) for name in names)
        self.emotions = tuple(name for name in self._names if name in EMOTIONS)
        if not self.emotions:
            raise ModelError(
                f"{network}: none of its labels is an emotion (it has: {', '.join(facts.labels)}); "
                "name them with mien export --labels"
            )

    def check(self, target: Target) -> None:
        """Raise UsageError, which names what can be made, where the target cannot be."""
        for emotion, weight in zip(EMOTIONS, target.weights, strict=True):
            if weight > 0 and emotion not in self.emotions:
                way = f", from {self.source} faces" if self.source else ""
                raise UsageError(
                    f"the model {self._network!r} cannot make a face {emotion} "
                    f"(it can: {', '.join(self.emotions)}{way}); use another --emotion or --method"
                )

    def share(self, weights: np.ndarray) -> float:
        """How much of a mix (8,) the emotions there are hold together, 0..1."""
        known = [EMOTIONS.index(emotion) for emotion in self.emotions]
        return min(1.0, float(weights[known].sum()))

    @property
    def rest(self) -> str | None:
        """What a mix is filled up with where nothing better is known."""
        return REST if REST in self.emotions else None

    def ones(self, emotion: str, names: Sequence[str]) -> np.ndarray:
        """The labels of one emotion, for each of `names`: float32 (n, k)."""
        weights = np.zeros(len(EMOTIONS), np.float32)
        weights[EMOTIONS.index(emotion)] = 1
        return self.mixes(weights, names, None)

    def mixes(self, weights: np.ndarray, names: Sequence[str], rest: str | None) -> np.ndarray:
        """The labels of a mix of emotions: float32 (n, k).

        weights: (8,). names: what each label is for; parts of PARTS have labels of their own kind.
        rest: the emotion that gets what the mix leaves of 1.
        """
        return np.stack([self._mix(weights, name, rest) for name in names])

    def _mix(self, weights: np.ndarray, part: str, rest: str | None) -> np.ndarray:
        label = np.zeros(len(self._names), np.float32)
        for place, name in enumerate(self._names):
            if name in EMOTIONS:
                label[place] = weights[EMOTIONS.index(name)]
        if rest is not None and rest in self._names:
            label[self._names.index(rest)] += max(0.0, 1.0 - float(weights.sum()))
        if part in PARTS:
            kind = PART_KINDS[KIND_OF_PART[PARTS.index(part)]]
            if kind in self._names:
                label[self._names.index(kind)] = 1
        return label


class Restyler:
    """The stage: squares of a face in, restyled squares out.

    facts: what its generator takes. labels: what it can give.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.network.name
        self.facts = generator_facts(engine)
        self.labels = Labels(self.name, self.facts)

    @property
    def provider(self) -> str:
        """What runs the generator now; it changes where a plan was built meanwhile."""
        return self._engine.provider

    def __call__(self, squares: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Restyled squares: float32 (n, c, s, s) in [0, 1], c and s as in `squares`.

        squares: float32 (n, c, s, s) in [0, 1], luma where c is 1, else RGB. labels: float32
        (n, k), None for a generator without a label.
        """
        batch, size = self.facts.batch, self.facts.size
        edited = []
        for start in range(0, len(squares), batch):
            part = squares[start : start + batch]
            feeds = {"image": np.zeros((batch, 3, size, size), np.float32)}
            feeds["image"][: len(part)] = 2 * part - 1  # luma fills all three channels
            if labels is not None:
                feeds["label"] = np.zeros((batch, labels.shape[1]), np.float32)
                feeds["label"][: len(part)] = labels[start : start + batch]
            edited.append(self._engine.infer(feeds)["edited"][: len(part)])
        pictures = np.concatenate(edited) / 2 + np.float32(0.5)
        if squares.shape[1] == 1:
            pictures = pictures.mean(1, keepdims=True)
        shown: np.ndarray = np.clip(pictures, 0, 1).astype(np.float32)
        return shown

    def close(self) -> None:
        """Close the network."""
        self._engine.close()


def _plain(label: str) -> str:
    """mien's own name of an emotion, or the label in lower case."""
    try:
        return emotion_name(label)
    except UsageError:
        return label.strip().lower()
