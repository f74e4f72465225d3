"""What TensorRT says, kept for messages instead of printed."""

from __future__ import annotations

import threading
from collections import deque
from types import ModuleType
from typing import Any

KEPT = 8
LONGEST = 300


class TensorRTLog:
    """Takes TensorRT's errors. logger: what its calls want."""

    def __init__(self, trt: ModuleType) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self.logger: Any = _logger(trt, self)

    def last(self) -> str:
        """The last error in one line, and forgotten then."""
        with self._lock:
            line = self._lines[-1] if self._lines else "it does not say why"
            self._lines.clear()
        return line

    def add(self, message: str) -> None:
        """Nothing; keeps an error."""
        with self._lock:
            self._lines.append(" ".join(message.split())[:LONGEST])


def _logger(trt: ModuleType, kept: TensorRTLog) -> object:
    base: Any = trt.ILogger
    errors = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Logger(base):  # type: ignore[misc]
        """Passes errors on."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: object, message: str) -> None:
            if severity in errors:
                kept.add(message)

    return Logger()
