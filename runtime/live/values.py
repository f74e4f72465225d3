"""What passes through live video, as plain values, and statistics of a running loop.

Counts, rates and delays are kept over the last ten seconds and over the whole run.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame
from mien.runtime.methods.base import Goal
from mien.runtime.spec import OptionValue
from mien.runtime.target import Target

FRAME_CLOCK = Fraction(1, 1_000_000)  # the time base of every live frame


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame as a camera gave it.

    frame: its `time_s` is `captured_s`, in microseconds (`FRAME_CLOCK`).
    captured_s: on the clock of time.monotonic, when the camera gave it.
    index: the source's own count; it grows by 1 from frame to frame, and never goes back.
    decode_ms: how long decoding it took; None where nothing was decoded, or out of sight.
    """

    frame: Frame
    captured_s: float
    index: int
    decode_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What the filter was given for one frame, and how the frame was then shown.

    method, options: in use, which may be others than those just asked for. target, own: what the
    filter was told, None and 1 while one method fades out for another. goals: what each face was
        to show in this very frame, by its track id: faces ease towards the target.
    paused: whether the original was shown. mark: whether `AI-edited` was drawn.
    bypassed: whether the filter failed on the frame, which was shown as it came.
    """

    method: str = ""
    options: tuple[tuple[str, OptionValue], ...] = ()
    target: Target | None = None
    own: float = 1.0
    goals: tuple[tuple[int, Goal], ...] = ()
    paused: bool = False
    mark: bool = False
    bypassed: bool = False


NOTHING_APPLIED: Final = Applied()


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One frame on its way out.

    frame: what is to be shown: edited and marked, or the original while that is compared with.
    original: what the camera gave.
    index: counts the frames that were captured, over all sources; a gap is a dropped frame.
    seq: counts what goes out, 0, 1, 2 ... without a gap.
    captured_s: on the clock of time.monotonic.
    faces: all faces in view, in pixels of the frame. edited: track ids of the changed ones.
    reduced: whether the machine is too slow, so that previews should be smaller and rarer.
    is_edited: whether a face in `frame` is changed; a watermark alone is no edit.
    applied: what was done to it.
    """

    frame: Frame
    original: Frame
    index: int
    captured_s: float
    faces: tuple[Face, ...]
    edited: tuple[int, ...]
    seq: int
    reduced: bool = False
    is_edited: bool = False
    applied: Applied = NOTHING_APPLIED


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a source really gives, read back from it.

    name: for people. rate: frames a second, None where the source does not say.
    pixel_format: what comes over the wire: `mjpeg`, `yuyv422`, or a decoder's format.
    asked: what was asked for, for people: `1280x720 at 30, mjpeg`; empty where nothing was.
    """

    name: str
    size_wh: tuple[int, int]
    rate: Fraction | None
    pixel_format: str
    asked: str


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """How an output is doing.

    shown, dropped: frames it has put out, and frames replaced by a newer one before that.
    message: one line for people where something is wrong, else None.
    delay_ms: median of the last frames, from capture until they were put out; None without any.
    """

    name: str
    shown: int
    dropped: int
    message: str | None
    delay_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DelayStats:
    """Milliseconds from capture until a frame was handed to the outputs; None without any.

    median_ms, p95_ms: over the last ten seconds. all_median_ms, all_p95_ms: since the start.
    """

    last_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    all_median_ms: float | None = None
    all_p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LiveFace:
    """A face in view.

    number: what `--face` takes for it, counted from 1. box: x0, y0, x1, y1 in pixels of the frame
    as displayed. presence: 0..1, as of `Face`. is_edited: whether it was changed in this frame.
    """

    track_id: int
    number: int
    box: tuple[float, float, float, float]
    presence: float
    is_edited: bool


@dataclass(frozen=True, slots=True)
class LiveStats:
    """How a live loop is doing, as of one moment.

    state: `starting`, `running`, `idle` (nobody watches, the camera is released) or `stopped`.
    capture_fps, output_fps: over the last ten seconds.
    captured, shown, dropped: frames since the start, without those that a rate leaves out; a
        dropped one was replaced by a newer one before the filter got to it.
    dropped_share: dropped by captured, 0..1.
        recent_dropped_share: the same over the last ten seconds.
    delay_asked_ms: how long frames are held back on purpose; it is part of `delay`.
    providers: what really runs each network. stages_ms: of the last frame, by stage of the filter,
        and `decode` before them where the source decodes. is_bypassed: whether the last frame is
        shown as it came because the filter failed on it.
    adaptations: what was given up to keep pace, in a line. messages: what is wrong now.
    frame_size_wh: as displayed; (0, 0) before the first frame.
    """

    state: str
    source: SourceFacts
    frame_size_wh: tuple[int, int] = (0, 0)
    uptime_s: float = 0.0
    capture_fps: float = 0.0
    output_fps: float = 0.0
    captured: int = 0
    shown: int = 0
    dropped: int = 0
    dropped_share: float = 0.0
    recent_dropped_share: float = 0.0
    delay: DelayStats = field(default_factory=DelayStats)
    delay_asked_ms: float = 0.0
    method: str = ""
    providers: dict[str, str] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)
    faces: tuple[LiveFace, ...] = ()
    adaptations: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    outputs: tuple[OutputStatus, ...] = ()
    is_bypassed: bool = False


RECENT_S: Final = 10.0
_BINS: Final = 4000  # of a millisecond each; the last one holds all longer delays
_MOST_RECENT: Final = 4000  # frames kept at most, whatever the rate


@dataclass(frozen=True, slots=True)
class Counts:
    """What `Meter` has counted; as of `LiveStats`."""

    captured: int
    shown: int
    dropped: int
    dropped_share: float
    recent_dropped_share: float
    capture_fps: float
    output_fps: float
    delay: DelayStats


@dataclass(frozen=True, slots=True)
class _Shown:
    """One frame that went out: when, how late, and how many were captured since the one before."""

    time_s: float
    delay_ms: float
    captured: int


class Meter:
    """Counts the frames of a live loop. Its memory does not grow; any thread may ask it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[_Shown] = deque(maxlen=_MOST_RECENT)
        self._histogram = np.zeros(_BINS, np.int64)
        self._captured = self._shown = 0
        self._last_ms: float | None = None

    def show(self, now_s: float, delay_ms: float, *, captured: int) -> None:
        """Count a frame that went out. captured: frames since the one before, itself included."""
        with self._lock:
            self._captured += captured
            self._shown += 1
            self._last_ms = delay_ms
            self._histogram[min(max(int(delay_ms), 0), _BINS - 1)] += 1
            self._recent.append(_Shown(now_s, delay_ms, captured))
            self._forget(now_s)

    def counts(self, now_s: float) -> Counts:
        """What has been counted until now."""
        with self._lock:
            self._forget(now_s)
            recent = list(self._recent)
            captured, shown = self._captured, self._shown
            delay = self._delay(recent)
        steps = recent[1:]  # what lies before the first one in view is not known
        span_s = recent[-1].time_s - recent[0].time_s if steps else 0.0
        came = sum(each.captured for each in steps)
        return Counts(
            captured=captured,
            shown=shown,
            dropped=captured - shown,
            dropped_share=(captured - shown) / captured if captured else 0.0,
            recent_dropped_share=(came - len(steps)) / came if came else 0.0,
            capture_fps=came / span_s if span_s > 0 else 0.0,
            output_fps=len(steps) / span_s if span_s > 0 else 0.0,
            delay=delay,
        )

    def _forget(self, now_s: float) -> None:
        while self._recent and now_s - self._recent[0].time_s > RECENT_S:
            self._recent.popleft()

    def _delay(self, recent: list[_Shown]) -> DelayStats:
        if self._last_ms is None:
            return DelayStats()
        delays = [each.delay_ms for each in recent]
        median, p95 = np.percentile(delays, (50, 95)) if delays else (None, None)
        return DelayStats(
            last_ms=self._last_ms,
            median_ms=None if median is None else float(median),
            p95_ms=None if p95 is None else float(p95),
            all_median_ms=self._quantile(0.5),
            all_p95_ms=self._quantile(0.95),
        )

    def _quantile(self, share: float) -> float:
        """The delay that `share` of all frames had at most, to half a millisecond."""
        upto = np.cumsum(self._histogram)
        return float(np.searchsorted(upto, share * upto[-1])) + 0.5


def faces_in(live: LiveFrame, numbers: dict[int, int]) -> tuple[LiveFace, ...]:
    """The faces of a frame as they are shown to people. numbers: by track id, for `--face`."""
    return tuple(
        LiveFace(
            track_id=face.track_id,
            number=numbers.get(face.track_id, 0),
            box=tuple(np.concatenate([face.landmarks.min(0), face.landmarks.max(0)]).tolist()),
            presence=face.presence,
            is_edited=face.track_id in live.edited,
        )
        for face in live.faces
    )
