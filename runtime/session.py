"""The filter at work on one file: what it is to reach at which time, and what it saw."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol

from mien.engines.errors import UsageError
from mien.runtime.faces.tracking import FILE, PICTURE, SearchEffort
from mien.runtime.frame import Frame
from mien.runtime.spec import FilterSpec
from mien.runtime.target import Target, Timeline
from mien.runtime.video.values import Progress
from mien.runtime.watermark.watermark import Watermark

# A still is shown to the filter this often, a second apart, so that all easing has come to its end.
STILL_PASSES = 3
# A section begins and ends gently: the filter is at rest this long before it, and told to rest this
# long before its end.
LEAD_S, FADE_S = 0.2, 0.6
# A preview begins so long before its first frame, which it shows for it, so that all has settled.
LEADS_S = (1.2, 0.8, 0.4)
MICRO = 1_000_000


class StageTimes(Protocol):
    """How long the stages of a filter took."""

    @property
    def last_ms(self) -> Mapping[str, float]:
        """Milliseconds of each stage for the last frame."""


class FaceFilter(Protocol):
    """What the programs need of `mien.runtime.Filter`."""

    target: Target | None
    own: float
    effort: SearchEffort
    watermark: Watermark | None

    @property
    def is_marked(self) -> bool:
        """Whether the last frame has the watermark."""

    @property
    def unfollowed(self) -> int:
        """How many faces in view are left unchanged because there are too many."""

    @property
    def is_face_missing(self) -> bool:
        """Whether there are faces in the last frame, but not the one that was chosen by number."""

    @property
    def share_done(self) -> float:
        """How much of the edit of a face under way is done, 0..1; read from any thread."""

    @property
    def timings(self) -> StageTimes:
        """How long the stages took."""

    @property
    def faces(self) -> Sequence[object]:
        """The faces in the last frame."""

    @property
    def unedited_parts(self) -> Sequence[str]:
        """Parts of faces that the last frame does not show and that are as they were."""

    def apply(self, frame: Frame) -> Frame:
        """`frame` edited; the very same object where nothing is."""

    def reset(self) -> None:
        """Forget the clip."""

    def close(self) -> None:
        """Close the networks."""


FilterMaker = Callable[[FilterSpec], FaceFilter]


def check_section(start_s: float | None, end_s: float | None) -> None:
    """Raise UsageError for a section that ends before it begins."""
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise UsageError(
            f"the section from {start_s:g} s to {end_s:g} s is empty; its end must come after its "
            "start"
        )


@dataclass(slots=True)
class RunCounts:
    """What is counted while frames go through a filter.

    frames, frames_with_face, frames_marked, frames_without_chosen: numbers of frames. faces,
    unfollowed: the most of one frame. stage_ms: of all frames, by stage. unedited_parts: how often
    each was not to be seen.
    """

    frames: int = 0
    frames_with_face: int = 0
    frames_marked: int = 0
    frames_without_chosen: int = 0
    faces: int = 0
    unfollowed: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)
    unedited_parts: Counter[str] = field(default_factory=Counter)

    def add(self, other: RunCounts) -> None:
        """Count what was counted of other frames of the same file, too."""
        self.frames += other.frames
        self.frames_with_face += other.frames_with_face
        self.frames_marked += other.frames_marked
        self.frames_without_chosen += other.frames_without_chosen
        self.faces = max(self.faces, other.faces)
        self.unfollowed = max(self.unfollowed, other.unfollowed)
        self.unedited_parts.update(other.unedited_parts)
        for stage, ms in other.stage_ms.items():
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + ms


class FilterRun:
    """One file's way through a filter; called with each frame, in order.

    goal: an expression for the whole file, None for none, or a timeline, whose times count from
        the first frame.
    start_s, end_s: frames outside, counted likewise, are given back as they are; the edit eases in
        from start_s on and is gone by end_s.
    own: how much of a person's own expression is shown between them, as of `Filter`.
    zero_s: when the file's first frame is shown; None for that of the first frame that comes.
    counts: of the frames so far; may be replaced on the way.
    Raises UsageError where the filter cannot show that much of it, and for an empty section.
    """

    def __init__(
        self,
        face_filter: FaceFilter,
        goal: Target | Timeline | None,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        own: float = 1.0,
        zero_s: float | None = None,
    ) -> None:
        check_section(start_s, end_s)
        self.counts = RunCounts()
        self.ended: threading.Event | None = None  # it waits for nothing
        self._filter = face_filter
        self._goal, self._own = goal, own
        self._start_s = start_s or 0.0
        self._end_s = math.inf if end_s is None else end_s
        self._rest_s = self._end_s - min(FADE_S, (self._end_s - self._start_s) / 3)
        self._zero_s = zero_s
        face_filter.own = own
        face_filter.effort = FILE
        face_filter.reset()

    def __call__(self, frame: Frame) -> Frame:
        """`frame` edited, or itself outside the section. Counts faces and time."""
        time_s = self._time_s(frame)
        if not self._start_s - LEAD_S <= time_s < self._end_s:
            return frame
        self._set(time_s)
        edited = self._filter.apply(frame)
        seen, missing = len(self._filter.faces), self._filter.is_face_missing
        of_this = RunCounts(
            frames=1,
            frames_with_face=int(seen > 0),
            frames_marked=int(self._filter.is_marked),
            frames_without_chosen=int(missing),
            faces=seen,
            unfollowed=self._filter.unfollowed,
            stage_ms=dict(self._filter.timings.last_ms),
            unedited_parts=Counter(self._filter.unedited_parts),
        )
        self.counts.add(of_this)
        return edited

    def progress(self, progress: Progress) -> Progress:
        """How far it is, with how much of the edit of a face under way is done."""
        return replace(progress, share_done=self._filter.share_done)

    def still(self, frame: Frame) -> Frame:
        """A picture edited, with all that eases over time at its end."""
        self._filter.effort = PICTURE
        edited = frame
        for second in range(STILL_PASSES):
            self.counts.unedited_parts.clear()  # the passes show one and the same picture
            edited = frame  # a large picture of the last pass is released
            shown = replace(frame, pts=second, time_base=Fraction(1))
            edited = self(shown)
            if edited is shown:
                edited = frame
        return edited

    def moment(self, frames: Sequence[Frame], times_s: Sequence[float]) -> Frame:
        """The last of some frames in a row edited, with what eases over time as it would be then.

        times_s: when each is shown, from the first frame of the clip on.
        """
        self._start_s = -math.inf
        early = [(frames[0], times_s[0] - lead_s) for lead_s in LEADS_S]
        edited = frame = frames[-1]
        for frame, time_s in (*early, *zip(frames, times_s, strict=True)):
            # what is counted is the last one alone
            self.counts.unedited_parts.clear()
            self.counts.frames = self.counts.frames_without_chosen = 0
            self._zero_s = 0.0
            shown = replace(frame, pts=round(time_s * MICRO), time_base=Fraction(1, MICRO))
            edited = self(shown)
            edited = frame if edited is shown else edited
        return edited

    def _set(self, time_s: float) -> None:
        """Tell the filter what to reach at this time."""
        if not self._start_s <= time_s < self._rest_s:
            self._filter.target, self._filter.own = None, 1.0
            return
        goal = self._goal
        at = goal.target_at(max(0.0, time_s)) if isinstance(goal, Timeline) else goal
        self._filter.target, self._filter.own = at, self._own

    def _time_s(self, frame: Frame) -> float:
        """Seconds since the first frame."""
        time_s = frame.time_s or 0.0
        if self._zero_s is None:
            self._zero_s = time_s
        return time_s - self._zero_s
