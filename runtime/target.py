"""What a face should look like: emotions, mixes of them, and how strongly."""

from __future__ import annotations

import difflib
import math
import numbers
from dataclasses import dataclass

import numpy as np

from mien.engines.errors import UsageError

EMOTIONS = (
    "neutral",
    "happy",
    "sad",
    "surprised",
    "fearful",
    "disgusted",
    "angry",
    "contemptuous",
)

ALIASES = {
    "neutrality": "neutral",
    "calm": "neutral",
    "happiness": "happy",
    "joy": "happy",
    "smile": "happy",
    "smiling": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "fearful",
    "afraid": "fearful",
    "scared": "fearful",
    "disgust": "disgusted",
    "anger": "angry",
    "contempt": "contemptuous",
}

# Words in the place of an emotion that leave the face as it is.
NO_EDIT = frozenset(("none", "off", "original", "-"))

MAX_STRENGTH = 1.5
MAX_TEXT = 500  # characters of a mix; one of all eight emotions has 120


@dataclass(frozen=True, slots=True)
class Target:
    """An expression to reach.

    weights: a weight per emotion of EMOTIONS, each in [0, 1], their sum in (0, 1] where a mix
        leaves some of the face as it is.
    strength: 0 leaves the face alone, 1 is the full expression, at most MAX_STRENGTH.
    """

    weights: tuple[float, ...]
    strength: float = 1.0

    def __post_init__(self) -> None:
        given: object = self.weights
        if not isinstance(given, (tuple, list, np.ndarray)):
            kind = type(given).__name__
            raise UsageError(f"a target has {len(EMOTIONS)} weights as a tuple, not {kind}")
        if len(self.weights) != len(EMOTIONS):
            raise UsageError(f"a target has {len(EMOTIONS)} weights, not {len(self.weights)}")
        weights = tuple(w for w in map(finite_number, self.weights) if w is not None and w >= 0)
        if len(weights) != len(EMOTIONS) or not 0 < sum(weights) <= 1 + 1e-6:
            raise UsageError("the weights of an emotion mix must lie in 0..1 and sum to at most 1")
        strength = finite_number(self.strength)
        if strength is None or not 0 <= strength <= MAX_STRENGTH:
            raise UsageError(
                f"intensity must lie in 0..{MAX_STRENGTH:g}, not {shortened(self.strength)}"
            )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "strength", strength)

    def vector(self) -> np.ndarray:
        """The weights as float32 (8,)."""
        return np.array(self.weights, np.float32)

    @property
    def name(self) -> str:
        """The mix in short form, fit for a file name: `happy` or `happy70-surprised30`."""
        parts = [(w, e) for w, e in zip(self.weights, EMOTIONS, strict=True) if w > 0]
        if len(parts) == 1 and parts[0][0] >= 0.995:
            return parts[0][1]
        return "-".join(f"{e}{round(100 * w)}" for w, e in parts)


def finite_number(value: object) -> float | None:
    """The float of a finite real number, NumPy's included; None for all else, and for a bool."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the floats
        return None
    return number if math.isfinite(number) else None


def shortened(value: object) -> str:
    """A value as an error line shows it: printable, and at most 43 characters."""
    if isinstance(value, numbers.Integral) and abs(int(value)).bit_length() > 128:
        return "a number of many digits"  # Python refuses to write some of them
    text = repr(value) if isinstance(value, str) else str(value)
    text = "".join(sign if sign.isprintable() else "?" for sign in text[:80])
    return text if len(text) <= 43 else text[:40] + "..."


def emotion_name(name: str) -> str:
    """The canonical name of an emotion or alias; UsageError names the nearest otherwise."""
    key = name.strip().lower()
    if key in EMOTIONS:
        return key
    if key in ALIASES:
        return ALIASES[key]
    near = difflib.get_close_matches(key, [*EMOTIONS, *ALIASES], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"unknown emotion {shortened(name)}{hint} (known: {', '.join(EMOTIONS)})")


def is_no_edit(text: str) -> bool:
    """Whether a text says that the face is to be left as it is: `none`."""
    return text.strip().lower() in NO_EDIT


def parse_goal(text: str, strength: float = 1.0) -> Target | None:
    """The target of a text as `parse_target` takes it, or None for `none`. Raises UsageError."""
    given: object = text
    is_left = isinstance(given, str) and is_no_edit(given)
    return None if is_left else parse_target(text, strength)


def goal_name(target: Target | None) -> str:
    """A target's name, fit for a file name; `none` where faces are left as they are."""
    return "none" if target is None else target.name


def goal_text(target: Target | None) -> str:
    """A target's mix as `parse_goal` takes it; `none` where faces are left as they are."""
    if target is None:
        return "none"
    parts = [(w, e) for w, e in zip(target.weights, EMOTIONS, strict=True) if w > 0]
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return "+".join(f"{emotion}:{weight:.4g}" for weight, emotion in parts)


def parse_target(text: str, strength: float = 1.0) -> Target:
    """The target of `happy` or of a mix such as `happy:0.7+surprised:0.3`.

    A comma serves as well as a plus. Weights that are left out share what the others leave; a sum
    above 1 is scaled down to 1. Raises UsageError.
    """
    if not isinstance(text, str):
        raise UsageError(f"an expression is a text such as 'happy', not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise UsageError(f"an expression of {len(text):,} characters; {MAX_TEXT} are allowed")
    weights = dict.fromkeys(EMOTIONS, 0.0)
    open_parts: list[str] = []
    for part in text.replace(",", "+").split("+"):
        name, colon, weight = part.partition(":")
        emotion = emotion_name(name)
        if not colon:
            open_parts.append(emotion)
            continue
        weights[emotion] += _weight(weight, part)
    left = max(0.0, 1.0 - sum(weights.values()))
    for emotion in open_parts:
        weights[emotion] += left / len(open_parts)
    total = sum(weights.values())
    if total <= 0:
        raise UsageError(f"the mix {shortened(text)} gives no emotion any weight")
    scale = 1 / total if total > 1 else 1.0
    return Target(tuple(weights[e] * scale for e in EMOTIONS), strength)


def _weight(text: str, part: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(
            f"{shortened(text)} in {shortened(part)} is not a number between 0 and 1"
        ) from None
    if not 0 <= weight <= 1:
        raise UsageError(f"the weight in {shortened(part)} must lie between 0 and 1")
    return weight
