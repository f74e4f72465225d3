"""OpenCV's threads, held to one while mien works and as they were afterwards.

On frames of up to 1080p a second thread of OpenCV brings nothing: what is worked on is one face,
and between its short calls the thread spins, on the core that the codec needs. How many threads
OpenCV takes is set for a whole process, so it is set for no longer than a call of mien's. ONNX
Runtime is told for each session (`mien.engines.ort.backend`), and NumPy is given no product that
its BLAS would spread over threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2


class _Held:
    """Who holds OpenCV to one thread now. There is one of it, for OpenCV has one number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = 1

    def take(self) -> None:
        """Begin to hold it; the first to do so notes what it was."""
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                if self._before != 1:
                    cv2.setNumThreads(1)
            self._holders += 1

    def give_back(self) -> None:
        """End it; the last to do so sets what was, unless somebody else has set it meanwhile."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._before != 1 and cv2.getNumThreads() == 1:
                cv2.setNumThreads(self._before)


_HELD = _Held()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold OpenCV to the calling thread; may be nested, in several threads.

    Work of others in the same process has one thread of OpenCV meanwhile, too, and the same
    results.
    """
    _HELD.take()
    try:
        yield
    finally:
        _HELD.give_back()
