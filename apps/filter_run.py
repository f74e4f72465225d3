"""The filter at work on one file: what it is to reach at which time, and what it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from mien.runtime.frame import Frame
from mien.runtime.target import Target
from mien.runtime.timeline import Timeline


class FaceFilter(Protocol):
    """What the programs need of `mien.runtime.Filter`."""

    target: Target | None

    @property
    def timings(self) -> Mapping[str, float]:
        """Milliseconds of each stage for the last frame."""

    @property
    def faces(self) -> Sequence[object]:
        """The faces in the last frame."""

    def apply(self, frame: Frame) -> Frame:
        """`frame` edited; the very same object where nothing is."""

    def reset(self) -> None:
        """Nothing; forgets the clip."""

    def __enter__(self) -> FaceFilter: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class FilterRun:
    """One file's way through a filter; called with each frame, in order.

    goal: an expression for the whole file, or a timeline, whose times count from the first frame.
    on_first: called once, when the first frame is edited.
    """

    def __init__(
        self,
        face_filter: FaceFilter,
        goal: Target | Timeline,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.frames = 0
        self.frames_with_face = 0
        self.faces = 0
        self.stage_ms: dict[str, float] = {}
        self._filter = face_filter
        self._goal = goal
        self._on_first = on_first
        self._start_s: float | None = None
        face_filter.reset()

    def __call__(self, frame: Frame) -> Frame:
        """`frame` edited. Counts faces and time."""
        self._filter.target = self._target(frame)
        edited = self._filter.apply(frame)
        self.frames += 1
        seen = len(self._filter.faces)
        self.frames_with_face += seen > 0
        self.faces = max(self.faces, seen)
        for stage, ms in self._filter.timings.items():
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + ms
        if self._on_first is not None and self.frames == 1:
            self._on_first()
        return edited

    def _target(self, frame: Frame) -> Target | None:
        if isinstance(self._goal, Target):
            return self._goal
        time_s = frame.time_s or 0.0
        if self._start_s is None:
            self._start_s = time_s
        return self._goal.target_at(time_s - self._start_s)
