"""Room for the newest frame, and for no other."""

from __future__ import annotations

import threading
from dataclasses import replace

from mien.runtime.frame import Frame
from mien.runtime.live.values import FRAME_CLOCK, Captured


class NewestFrame:
    """Room for one frame; who asks gets the newest, and the count goes on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._captured: Captured | None = None
        self._index = -1
        self._is_closed = False

    def put(self, frame: Frame, captured_s: float, decode_ms: float | None = None) -> None:
        """Nothing; the frame replaces the one before, and gets the time it was captured at."""
        timed = replace(frame, pts=round(captured_s / FRAME_CLOCK), time_base=FRAME_CLOCK)
        with self._changed:
            self._index += 1
            self._captured = Captured(timed, captured_s, self._index, decode_ms)
            self._changed.notify_all()

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """As of `Source.newest`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._is_newer(after), timeout_s)
            return self._captured if self._is_newer(after) else None

    def _is_newer(self, after: int) -> bool:
        return self._captured is not None and self._captured.index > after

    def clear(self) -> None:
        """Release the frame, which will be old when somebody asks again."""
        with self._changed:
            self._captured = None

    @property
    def last_s(self) -> float | None:
        """When the newest frame was captured, None without any."""
        with self._changed:
            return None if self._captured is None else self._captured.captured_s

    def close(self) -> None:
        """Nothing; who waits waits no longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
