"""How a live loop is doing: counts, rates and delays, over ten seconds and over all."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.runtime.live.values import DelayStats, LiveFace, LiveFrame

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
        """Nothing; a frame went out. captured: frames since the one before, itself included."""
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
    """The faces of a frame as people are told of them. numbers: by track id, for `--face`."""
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
