"""Expressions as ROS's `hri_msgs/Expression` has them: a name, or valence and arousal.

Source: https://github.com/ros4hri/hri_msgs, msg/Expression.msg, whose expressions are names, and
were numbers in older versions. Where emotions lie by valence and arousal is after Russell, A
circumplex model of affect (1980).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

from mien.engines.errors import UsageError
from mien.runtime.target import EMOTIONS, Target, finite_number, shortened

# mien's emotion for each name, and how much of it.
NAMES: Final = {
    "neutral": ("neutral", 1.0), "happy": ("happy", 1.0), "sad": ("sad", 1.0),
    "angry": ("angry", 1.0), "surprised": ("surprised", 1.0), "disgusted": ("disgusted", 1.0),
    "scared": ("fearful", 1.0), "despaired": ("sad", 1.0), "disappointed": ("sad", 0.6),
    "horrified": ("fearful", 1.0), "annoyed": ("angry", 0.5), "furious": ("angry", 1.0),
    "amazed": ("surprised", 1.0), "excited": ("happy", 1.0), "skeptical": ("contemptuous", 0.6),
}  # fmt: skip
NUMBERS: Final = ("neutral", "happy", "sad", "angry", "surprised", "disgusted", "scared")
OWN_NAMES: Final = {"fearful": "scared", "contemptuous": "skeptical"}
# Degrees from pleasure, by arousal upwards: happy, astonished, angry, afraid, sad, calm, happy.
CIRCLE: Final = (
    (8.0, "happy"), (70.0, "surprised"), (99.0, "angry"), (116.0, "fearful"), (208.0, "sad"),
    (316.0, "neutral"), (368.0, "happy"),
)  # fmt: skip
LEAST: Final = 0.05  # from the middle, where no emotion is


def target_of(message: dict[str, Any]) -> Target:
    """The expression of a message. Raises UsageError for one that mien cannot show."""
    said = message.get("expression")
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < len(NUMBERS):
        said = NUMBERS[said]
    valence, arousal = (finite_number(message.get(name, 0.0)) for name in ("valence", "arousal"))
    if valence is None or arousal is None or max(abs(valence), abs(arousal)) > 1:
        raise UsageError("valence and arousal lie in -1..1")
    if said in ("", None, "neutral") and math.hypot(valence, arousal) >= LEAST:
        return _by_affect(valence, arousal)
    if said in ("", None):
        said = "neutral"
    if not isinstance(said, str) or said not in NAMES:
        raise UsageError(f"unknown expression {shortened(said)} (known: {', '.join(NAMES)})")
    emotion, share = NAMES[said]
    return Target(tuple(share if name == emotion else 0.0 for name in EMOTIONS))


def _by_affect(valence: float, arousal: float) -> Target:
    """The two emotions beside a point of the circle, mixed by nearness, as far as it lies out."""
    angle = math.degrees(math.atan2(arousal, valence)) % 360
    angle += 360 if angle < CIRCLE[0][0] else 0
    far = min(1.0, math.hypot(valence, arousal))
    weights = dict.fromkeys(EMOTIONS, 0.0)
    for (low, first), (high, second) in itertools.pairwise(CIRCLE):
        if low <= angle < high:
            share = (angle - low) / (high - low)
            weights[first] += far * (1 - share)
            weights[second] += far * share
    return Target(tuple(weights.values()))


def message_of(weights: tuple[float, ...]) -> dict[str, Any]:
    """The message, but for its header, that tells weights of EMOTIONS, each 0..1."""
    found = dict(zip(EMOTIONS, weights, strict=True))
    strongest = max(found, key=lambda name: found[name])
    share = found[strongest]
    if share < 2 * LEAST:
        strongest = "neutral"
    angles = {name: math.radians(angle) for angle, name in CIRCLE if name != "neutral"}
    valence = sum(found[name] * math.cos(angle) for name, angle in angles.items())
    arousal = sum(found[name] * math.sin(angle) for name, angle in angles.items())
    return {
        "expression": OWN_NAMES.get(strongest, strongest),
        "valence": min(1.0, max(-1.0, valence)),
        "arousal": min(1.0, max(-1.0, arousal)),
        "confidence": min(1.0, max(share, 0.0)),
    }
