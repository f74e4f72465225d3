"""The dearest calls of a filter: what functions cost by themselves, in time of the processor."""

from __future__ import annotations

import cProfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Final

from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.profile import WARM_UP_FRAMES

MOST_CALLS: Final = 10
MOST_FRAMES: Final = 200  # that are looked at; more say the same


@dataclass(frozen=True, slots=True)
class CallRow:
    """One function: its name and place, calls a frame, and milliseconds a frame of its own.

    What it calls is not counted. Noting every call costs some time itself, so functions that call
    many others look dearer than they are.
    """

    name: str
    calls: float
    own_ms: float


def dearest_calls(face_filter: Filter, frames: Iterable[Frame]) -> tuple[CallRow, ...]:
    """The functions that cost most over the frames after the warm-up, the dearest first."""
    profiler = cProfile.Profile(time.process_time)
    count = 0
    for index, frame in enumerate(frames):
        if index < WARM_UP_FRAMES:
            face_filter.apply(frame)
            continue
        if count == MOST_FRAMES:
            break
        count += 1
        profiler.enable()
        try:
            face_filter.apply(frame)
        finally:
            profiler.disable()
    found = sorted(profiler.getstats(), key=lambda entry: -entry.inlinetime)[:MOST_CALLS]
    each = max(1, count)
    return tuple(
        CallRow(_name(entry.code), entry.callcount / each, 1e3 * entry.inlinetime / each)
        for entry in found
    )


def _name(code: object) -> str:
    """A function as a reader finds it: its file and name, or what a built-in one calls itself."""
    if not isinstance(code, CodeType):
        return str(code)
    return f"{Path(code.co_filename).name}: {code.co_name}"
