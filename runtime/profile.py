"""How long the stages of a filter take, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mien.runtime.filter import Filter
from mien.runtime.frame import Frame

# The first frames find the face, and touch memory and code for the first time.
WARM_UP_FRAMES = 10


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds a frame of one stage: the median, and what 95 of 100 frames stay under."""

    name: str
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class FilterProfile:
    """The times of a filter over the frames of a clip, without codec.

    stages: in the order of the way of a frame. whole: a call of the filter.
    frames: measured, without the warm-up. faces: the most in one frame. fps: frames by the time
    of all calls together, for a method that does not pay for its networks in every frame.
    """

    stages: tuple[StageTime, ...]
    whole: StageTime
    frames: int
    faces: int
    fps: float


def profile_filter(face_filter: Filter, frames: Iterable[Frame]) -> FilterProfile:
    """The times of `face_filter` over `frames`; decoding them is not counted."""
    whole_ms: list[float] = []
    stages_ms: dict[str, list[float]] = {}
    faces = 0
    for index, frame in enumerate(frames):
        started = time.perf_counter()
        face_filter.apply(frame)
        spent_ms = 1000 * (time.perf_counter() - started)
        faces = max(faces, len(face_filter.faces))
        if index < WARM_UP_FRAMES:
            continue
        whole_ms.append(spent_ms)
        for name, stage_ms in face_filter.timings.last_ms.items():
            stages_ms.setdefault(name, []).append(stage_ms)
    stages = tuple(stage_time(name, times_ms) for name, times_ms in stages_ms.items())
    fps = 1000 * len(whole_ms) / sum(whole_ms) if whole_ms else 0.0
    return FilterProfile(stages, stage_time("filter", whole_ms), len(whole_ms), faces, fps)


def stage_time(name: str, times_ms: list[float]) -> StageTime:
    """Median and 95th percentile of some times; zeros where there are none."""
    if not times_ms:
        return StageTime(name, 0.0, 0.0)
    median_ms, p95_ms = np.percentile(times_ms, (50, 95))
    return StageTime(name, float(median_ms), float(p95_ms))
