"""The pace of live video: a slow machine, a lower frame rate, and a delay that is asked for.

`Pace` says which quality is given up, and taken back, where the machine is too slow for the camera;
`RateLimit` leaves frames out where fewer are wanted than the camera gives; `DelayLine` holds frames
back, so that lips go with a sound that takes longer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mien.engines.errors import UsageError
from mien.runtime.live.values import LiveFrame

SPACING: Final = 3.0  # how much rarer faces are looked for, when that is given up
_WINDOW_S: Final = 2.0
_LEAST_FRAMES: Final = 8  # in a window, to judge by
_TOO_MANY: Final = 0.03  # share of dropped frames above which something is given up
_EASY: Final = 0.6  # share of the time at work below which something may come back
_CALM_S: Final = 10.0  # how long it has to be easy for that
_LONGEST_CALM_S: Final = 160.0


class Pace:
    """Watches how a loop keeps up, and says what to give up. Time is what it is told.

    level: 0 nothing is given up (frames that come too fast are dropped in any case), 1 faces are
    looked for less often, 2 previews are smaller and rarer as well. A level that was taken back
    too early is held twice as long the next time, so that it does not swing.
    """

    def __init__(self, *, is_adaptive: bool = True) -> None:
        self._is_adaptive = is_adaptive
        self._calm_s = _CALM_S
        self.level = 0
        self.dropped_share = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget what was measured so far: it says nothing after a pause or with a new camera."""
        self._began_s: float | None = None
        self._calm_since_s: float | None = None
        self._eased_s: float | None = None  # when a level was last taken back
        self._captured = self._shown = 0
        self._busy_s = 0.0

    def note(self, now_s: float, *, captured: int, busy_s: float) -> int:
        """The level after one more frame.

        captured: frames that came since the one before, itself included. busy_s: how long the
        loop was at work on it.
        """
        if self._began_s is None:
            self._began_s = now_s
            return self.level
        self._captured += captured
        self._shown += 1
        self._busy_s += busy_s
        span_s = now_s - self._began_s
        if span_s >= _WINDOW_S and self._captured >= _LEAST_FRAMES:
            self._judge(now_s, span_s)
            self._began_s, self._captured, self._shown, self._busy_s = now_s, 0, 0, 0.0
        return self.level

    def texts(self) -> tuple[str, ...]:
        """What is given up now, in one line; none where nothing is."""
        given_up = ("faces are looked for less often", "previews are smaller")[: self.level]
        return (f"the machine is too slow: {', '.join(given_up)}",) if given_up else ()

    def message(self) -> str | None:
        """One line where the machine is too slow in spite of it all, else None."""
        if self.dropped_share <= _TOO_MANY or (self._is_adaptive and self.level < 2):
            return None
        return (
            f"the machine is too slow: {self.dropped_share:.0%} of the frames are dropped; "
            "ask for a smaller --size or a lower --rate"
        )

    def _judge(self, now_s: float, span_s: float) -> None:
        self.dropped_share = 1 - self._shown / self._captured
        if not self._is_adaptive:
            return
        if self.dropped_share > _TOO_MANY:
            self._give_up(now_s)
        elif self.dropped_share > 0 or self._busy_s > _EASY * span_s:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif self.level and now_s - self._calm_since_s >= self._calm_s:
            self.level -= 1
            self._calm_since_s, self._eased_s = now_s, now_s

    def _give_up(self, now_s: float) -> None:
        self._calm_since_s = None
        if self._eased_s is not None and now_s - self._eased_s < self._calm_s:
            self._calm_s = min(2 * self._calm_s, _LONGEST_CALM_S)
        self._eased_s = None
        self.level = min(self.level + 1, 2)


# Of a beat. A camera's clock trembles: a frame this early is not worth waiting for the next.
_EARLY: Final = 0.2


class RateLimit:
    """Lets at most `rate` frames a second through, evenly; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise UsageError(f"a rate of {rate:g} frames a second makes no sense")
        self._step_s = 0.0 if rate is None else 1 / rate
        self._due_s: float | None = None

    def beats(self, time_s: float) -> float:
        """0 where the frame of this time is left out, else how many frames the rate had room for.

        That is since the last one that was let through, this one included; more than 1 means that
        frames are missing, as far as the camera gave any. Without a rate there is room for all.
        """
        if not self._step_s:
            return math.inf
        due_s = self._due_s
        if due_s is None or time_s < due_s - 2 * self._step_s:
            due_s = time_s  # the first one, or another clock
        late = (time_s - due_s) / self._step_s
        if late < -_EARLY:
            return 0
        # The beat is kept, also over frames that are missing or late: the one after is not early.
        self._due_s = due_s + (max(0, math.floor(late + 0.01)) + 1) * self._step_s
        return math.floor(late + _EARLY) + 1


LONGEST_MS: Final = 5000
_UNKNOWN_RATE: Final = 60.0


class DelayLine:
    """Hands each frame on `delay_ms` after it was captured, in the order they came.

    It holds at most delay times rate plus two frames; the oldest is released beyond that.
    emit: called with each frame, in a thread of its own. Raises: UsageError.
    """

    def __init__(
        self, delay_ms: float, emit: Callable[[LiveFrame], None], *, rate: float | None = None
    ) -> None:
        if not 0 <= delay_ms <= LONGEST_MS:
            raise UsageError(f"a delay must lie in 0..{LONGEST_MS} ms, not {delay_ms:g}")
        self._delay_s, self._emit = delay_ms / 1e3, emit
        self._limit = math.ceil(self._delay_s * (rate or _UNKNOWN_RATE)) + 2
        self._held: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self.overflowed = 0
        self._thread = threading.Thread(target=self._run, name="mien-delay", daemon=True)
        self._thread.start()

    def put(self, frame: LiveFrame) -> None:
        """Append a frame, dropping the oldest where the line is full. Never blocks."""
        with self._changed:
            if len(self._held) >= self._limit:
                self._held.popleft()
                self.overflowed += 1
            self._held.append(frame)
            self._changed.notify_all()

    def close(self) -> None:
        """Release what is held."""
        with self._changed:
            self._is_closing = True
            self._held.clear()
            self._changed.notify_all()
        self._thread.join(2.0)

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)

    def _run(self) -> None:
        while (frame := self._due()) is not None:
            self._emit(frame)

    def _due(self) -> LiveFrame | None:
        """The oldest frame when its time has come, None at the end."""
        with self._changed:
            while not self._is_closing:
                if not self._held:
                    self._changed.wait()
                    continue
                wait_s = self._held[0].captured_s + self._delay_s - time.monotonic()
                if wait_s <= 0:
                    return self._held.popleft()
                self._changed.wait(wait_s)
            return None
