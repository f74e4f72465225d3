"""A bounded, ordered hand-over between two threads that both can stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class StoppedError(Exception):
    """Another thread has ended the work; this one has nothing more to do."""


class Stop:
    """The one switch that ends every thread of a run, with the first error that flipped it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def fail(self, error: BaseException) -> None:
        """Ends the run; only the first error is kept."""
        with self._lock:
            if self.error is None:
                self.error = error
        self.event.set()

    def check(self) -> None:
        """Nothing. Raises: StoppedError where the run has been ended."""
        if self.event.is_set():
            raise StoppedError


class Allowance:
    """So many things at a time on their way through a run; who wants one more waits."""

    _WAKE_S = 0.1

    def __init__(self, count: int, stop: Stop) -> None:
        self._left, self._stop = count, stop
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for one to be there. Raises: StoppedError."""
        with self._changed:
            while self._left <= 0:
                self._stop.check()
                self._changed.wait(self._WAKE_S)
            self._left -= 1

    def give(self) -> None:
        """Give one back, from any thread."""
        with self._changed:
            self._left += 1
            self._changed.notify()


class Channel(Generic[Item]):
    """Items in the order they were put, never more than `limit` of weight at a time."""

    _WAKE_S = 0.1  # how often a waiting thread looks whether the run has been stopped

    def __init__(self, limit: float, stop: Stop) -> None:
        self._limit = limit
        self._stop = stop
        self._items: deque[tuple[Item, float]] = deque()
        self._weight = 0.0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item, weight: float = 1.0) -> None:
        """Adds an item, waiting for room. Raises: StoppedError."""
        with self._changed:
            while self._items and self._weight + weight > self._limit:
                self._wait()
            self._stop.check()
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def close(self) -> None:
        """Says that nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """The items until the channel is closed. Raises: StoppedError."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._wait()
                self._stop.check()
                if not self._items:
                    return
                item, weight = self._items.popleft()
                self._weight -= weight
                self._changed.notify_all()
            yield item
            del item  # not held while the next one is waited for

    def _wait(self) -> None:
        self._stop.check()
        self._changed.wait(self._WAKE_S)
