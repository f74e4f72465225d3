"""Frames held back for a while, so that lips go with a sound that takes longer."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mien.engines.errors import UsageError
from mien.runtime.live.values import LiveFrame

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
        """Nothing; never blocks."""
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
