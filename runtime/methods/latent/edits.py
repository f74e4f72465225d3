"""What moves a face's code: the Emotion Manipulation Mapper, or the directions of attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from mien.engines import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.face_space import condition, layer_levels, stated_condition
from mien.runtime.faces.smoothing import Easing
from mien.runtime.methods.base import Goal
from mien.runtime.methods.latent.prompts import PromptReader
from mien.runtime.methods.latent.space import check_sides, stated_words
from mien.runtime.target import ALIASES, EMOTIONS, Target, shortened

PROMPT_S: Final = 0.45  # how long a change of prompt takes, as a change of emotion does
LEAST_PROMPTED: Final = 1e-3  # a prompt with less of a share has faded
SURER_S: Final = 0.5  # time constant of how surely the classifier sees each emotion
# Another emotion is taken for the face's own where it is that much surer than the one before:
# a mapper answers differently under each, and a face between two would flicker.
SURER: Final = 0.15


class CodeEditor(Protocol):
    """Edits the codes of one face through a video."""

    def __call__(self, codes: np.ndarray, goal: Goal, time_s: float) -> np.ndarray:
        """Where the goal takes codes (layers, width) at full strength: float32, same shape."""
        ...


class CodeEdit(Protocol):
    """A way to edit codes, with its networks open. engines: these."""

    engines: tuple[Engine, ...]

    def check_target(self, target: Target) -> None:
        """Raise UsageError where it cannot be reached."""
        ...

    def new_face(self) -> CodeEditor:
        """An editor for a face that has just appeared."""
        ...


class EmotionMapper(CodeEdit):
    """The mapper under the condition of the face's own emotion, which the classifier sees.

    drawn: (8,), draws of a normal distribution for the condition; None for its median. reader: of
    prompts, None where there is no text tower. targets: the emotions that it was trained for.

    Raises ModelError where networks do not fit each other, or state no condition.
    """

    def __init__(
        self,
        mapper: Engine,
        classifier: Engine,
        *,
        drawn: np.ndarray | None = None,
        reader: PromptReader | None = None,
    ) -> None:
        self.engines = (classifier, mapper) + (() if reader is None else (reader.engine,))
        self.mapper, self.classifier, self.reader = mapper, classifier, reader
        codes = (None, *mapper.network.inputs[0].shape[1:])
        self.targets = stated_words(mapper.metadata, "targets") or EMOTIONS
        batched = (None, len(EMOTIONS))
        check_sides(
            mapper,
            {
                "in codes": codes,
                "in condition": batched,
                "in target": (None, len(self.targets)),
                "out edited": codes,
            },
        )
        check_sides(classifier, {"in codes": codes, "out probabilities": batched})
        classes = stated_words(classifier.metadata, "classes") or EMOTIONS
        if classes != EMOTIONS:
            raise ModelError(
                f"{classifier.network.name}: its classes are {', '.join(classes)}, expected "
                f"{', '.join(EMOTIONS)}; export it again"
            )
        table = stated_condition(mapper.metadata)
        self.conditions = [condition(table, source, drawn) for source in range(len(EMOTIONS))]

    def check_target(self, target: Target) -> None:
        """Check that the mapper was trained for all of its emotions, or that its prompt is read."""
        if target.prompt:
            if self.reader is None:
                raise UsageError(
                    "a prompt needs the network text_tower, which is missing; add it to the "
                    "folder of --models, or give --emotion"
                )
            weights: Sequence[float] = self.reader(target.prompt).tolist()
        else:
            weights = target.weights
        for emotion, weight in zip(EMOTIONS, weights, strict=True):
            if weight > 0 and emotion not in self.targets:
                raise UsageError(
                    f"the mapper cannot make a face {emotion} (it can: "
                    f"{', '.join(self.targets)}); use another --emotion or --method"
                )

    def target_of(self, weights: np.ndarray) -> np.ndarray:
        """The mapper's target of weights (8,): float32 (1, n), in the order it states."""
        known = [EMOTIONS.index(name) if name in EMOTIONS else -1 for name in self.targets]
        picked = [float(weights[place]) if place >= 0 else 0.0 for place in known]
        return np.array([picked], np.float32)

    def new_face(self) -> CodeEditor:
        """An editor that remembers the face's own emotion."""
        return MappedFace(self)


class MappedFace(CodeEditor):
    """One face under the mapper."""

    def __init__(self, edit: EmotionMapper) -> None:
        self._edit = edit
        self._own = OwnEmotion(edit.classifier)
        self._read = Easing(PROMPT_S)
        self._prompted = Easing(PROMPT_S)  # 1 under a prompt, 0 under an emotion
        self._prompt = ""

    def __call__(self, codes: np.ndarray, goal: Goal, time_s: float) -> np.ndarray:
        """A mix is the mapper's own: its target takes weights. See `CodeEditor`."""
        source = self._own(codes, time_s)
        weights = self._weights(goal, time_s)
        total = min(1.0, float(weights.sum()))
        if total <= 0:
            return codes
        feeds = {
            "codes": codes[None],
            "condition": self._edit.conditions[source],
            "target": np.clip(self._edit.target_of(weights / max(total, 1e-6)), 0, 1),
        }
        edited = infer_one(self._edit.mapper, feeds)["edited"]
        # What a mix leaves of 1 stays as it is.
        moved: np.ndarray = codes + np.float32(total) * (edited - codes)
        return moved

    def _weights(self, goal: Goal, time_s: float) -> np.ndarray:
        """The emotions to show now, whether words or weights ask for them: float32 (8,)."""
        share = float(self._prompted(1.0 if goal.prompt else 0.0, time_s))
        self._prompt = goal.prompt or self._prompt
        if self._edit.reader is None or not self._prompt or share < LEAST_PROMPTED:
            return goal.weights
        read = self._read(self._edit.reader(self._prompt), time_s)
        mixed: np.ndarray = np.clip(goal.weights + share * (read - goal.weights), 0, 1)
        return mixed.astype(np.float32)


class OwnEmotion:
    """Which emotion a face shows by itself, as its codes say."""

    def __init__(self, classifier: Engine) -> None:
        self._classifier = classifier
        self._sure: np.ndarray | None = None
        self._source = 0
        self._time_s = 0.0

    def __call__(self, codes: np.ndarray, time_s: float) -> int:
        """The index of the emotion after codes (layers, width); it changes for a surer one."""
        found = infer_one(self._classifier, {"codes": codes[None]})["probabilities"]
        step_s, self._time_s = time_s - self._time_s, time_s
        if self._sure is None or not 0 <= step_s < 1:
            self._sure, self._source = found, int(found.argmax())
            return self._source
        self._sure = found + np.float32(math.exp(-step_s / SURER_S)) * (self._sure - found)
        best = int(self._sure.argmax())
        if self._sure[best] > self._sure[self._source] + SURER:
            self._source = best
        return self._source


class Directions(CodeEdit, CodeEditor):
    """The matrix of directions: w' = w + T s, the same for every face.

    moves: how far each named attribute is moved. mask: (layers,), how much of it a layer takes.
    An attribute whose name is that of an emotion serves `--emotion` too.

    Raises ModelError where the graph does not say which attributes it has, UsageError for others.
    """

    def __init__(self, walk: Engine, moves: Sequence[tuple[str, float]], mask: np.ndarray) -> None:
        self.engines = (walk,)
        self.walk, self.mask = walk, mask.astype(np.float32)
        self.names = stated_words(walk.metadata, "attributes")
        codes = (None, *walk.network.inputs[0].shape[1:])
        count = len(self.names)
        steps = {"in steps": (None, count), "in mask": (codes[1],)}
        check_sides(walk, {"in codes": codes, **steps, "out edited": codes})
        self.steps = np.zeros(count, np.float32)
        for name, amount in moves:
            if name not in self.names:
                raise UsageError(
                    f"unknown attribute {shortened(name)} (known: {', '.join(self.names)})"
                )
            self.steps[self.names.index(name)] = amount
        self.emotions = _emotions_among(self.names)

    def check_target(self, target: Target) -> None:
        """Check that each emotion has a direction; neutral is the face as it is."""
        for emotion, weight in zip(EMOTIONS, target.weights, strict=True):
            if weight > 0 and emotion not in self.emotions and emotion != "neutral":
                can = ", ".join(self.emotions) or "none"
                raise UsageError(
                    f"no direction makes a face {emotion} (emotions: {can}; attributes: "
                    f"{', '.join(self.names)}); use --emotion neutral with --attribute, or "
                    "another --method"
                )

    def new_face(self) -> CodeEditor:
        """An editor, which remembers nothing."""
        return self

    def __call__(self, codes: np.ndarray, goal: Goal, time_s: float) -> np.ndarray:
        """All faces move alike; see `CodeEditor`."""
        del time_s
        steps = self.steps.copy()
        for emotion, column in self.emotions.items():
            steps[column] += goal.weights[EMOTIONS.index(emotion)]
        low, high = -1.0, 1.0
        feeds = {
            "codes": codes[None],
            "steps": np.clip(steps, low, high)[None].astype(np.float32),
            "mask": self.mask,
        }
        return infer_one(self.walk, feeds)["edited"]


def infer_one(engine: Engine, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first answer of a network to inputs of a batch of one, each without its batch.

    Inputs are repeated where the graph takes several at once; those without a batch are kept.
    """
    full = {}
    for spec in engine.network.inputs:
        given = feeds[spec.name]
        is_single = given.ndim == len(spec.shape) and given.shape[0] == 1 != spec.shape[0]
        full[spec.name] = np.repeat(given, spec.shape[0], 0) if is_single else given
    return {name: values[0] for name, values in engine.infer(full).items()}


def parse_moves(text: str) -> list[tuple[str, float]]:
    """The moves of `smiling:+1,brows_raised:-0.5`; a name alone is moved by 1.

    Raises UsageError.
    """
    moves = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, amount = part.partition(":")
        try:
            number = float(amount) if colon else 1.0
        except ValueError:
            number = math.nan
        if not -1 <= number <= 1:
            raise UsageError(
                f"{shortened(part)} says not how far; write NAME:AMOUNT with an amount in -1..1, "
                "as smiling:+1"
            )
        moves.append((name.strip().lower(), number))
    return moves


def parse_layers(text: str, layers: int) -> np.ndarray:
    """A mask over a code's layers, float32 (layers,), of `all`, level names or ranges `0-7`.

    The levels are those of `face_space.layer_levels`. Raises UsageError.
    """
    coarse, middle = (min(end, layers) for end in layer_levels(layers))
    named = {
        "all": (0, layers),
        "coarse": (0, coarse),
        "middle": (coarse, middle),
        "fine": (middle, layers),
    }
    mask = np.zeros(layers, np.float32)
    for part in (part.strip().lower() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if part in named:
            low, high = named[part]
        elif first.isdecimal() and (last.isdecimal() or not dash):
            low, high = int(first[:4]), int((last or first)[:4]) + 1
        else:
            low, high = 0, 0
        if not 0 <= low < high <= layers:
            raise UsageError(
                f"layers {shortened(part)}: give all, coarse, middle, fine, or numbers in "
                f"0-{layers - 1}"
            )
        mask[low:high] = 1
    return mask


def _emotions_among(names: Sequence[str]) -> dict[str, int]:
    """Which column serves which emotion, by the emotions' names and other words for them."""
    found: dict[str, int] = {}
    for column, name in enumerate(names):
        emotion = name if name in EMOTIONS else ALIASES.get(name)
        if emotion is not None:
            found.setdefault(emotion, column)
    return found
