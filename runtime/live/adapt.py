"""What is given up, and taken back, where the machine is too slow for the camera."""

from __future__ import annotations

from typing import Final

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
        """Nothing; what was watched so far says nothing about what comes: a pause, a new camera."""
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
