"""Where frames go: one interface, a base class that isolates a slow consumer, and a fan-out."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Protocol

from mien.engines.errors import MienError
from mien.runtime.live.values import LiveFrame, OutputStatus

RETRY_S = 1.0  # between a failure of an output and the next try
_RECENT = 150  # frames whose delays are kept


class Output(Protocol):
    """Takes the frames of a live loop.

    name: for people, unlike the others'. watched: whether anybody looks; when nobody does at any
    output for a while, the camera is released.
    """

    @property
    def name(self) -> str: ...

    @property
    def watched(self) -> bool: ...

    def offer(self, frame: LiveFrame) -> None:
        """Take a frame, without blocking or raising. Its arrays are only to be read."""
        ...

    def status(self) -> OutputStatus:
        """How it is doing; from any thread."""
        ...

    def close(self) -> None:
        """End the output; no frame is offered after it. May be called twice."""
        ...


class OutputStoppedError(Exception):
    """Raised in `_show`: this output has ended for good; the text says why."""


class ThreadedOutput(ABC):
    """An output with a thread of its own and room for one frame: the newest wins.

    A subclass implements `_show`; it is called in the output's thread only, as are `_recover` and
    `_finish`. What `_show` raises becomes the output's message; after `RETRY_S` it is called
    again with the newest frame, until it raises OutputStoppedError.

    close_s: how long `close` waits for the thread; a consumer that hangs is left behind.
    """

    close_s = 2.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._next: LiveFrame | None = None
        self._is_closing = False
        self._has_stopped = False
        self._message: str | None = None
        self._shown = 0
        self._dropped = 0
        self._delays_ms: deque[float] = deque(maxlen=_RECENT)
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def watched(self) -> bool:
        """Whether anybody looks; a subclass that can tell overrides it."""
        return not self._has_stopped

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended for good; its message says why."""
        return self._has_stopped

    def offer(self, frame: LiveFrame) -> None:
        """Keep the frame in place of the one that still waits. Never blocks."""
        with self._changed:
            if self._is_closing or self._has_stopped:
                return
            if self._next is not None:
                self._dropped += 1
            self._next = frame
            if self._thread is None:  # not in the constructor: a subclass is not ready there
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def status(self) -> OutputStatus:
        """How it is doing; from any thread."""
        with self._changed:
            delay_ms = median(self._delays_ms) if self._delays_ms else None
            return OutputStatus(self._name, self._shown, self._dropped, self._message, delay_ms)

    def close(self) -> None:
        """Show the frame that waits, and end the thread."""
        with self._changed:
            is_first, self._is_closing = not self._is_closing, True
            self._changed.notify_all()
            thread = self._thread
        if thread is None and is_first:  # no frame ever came
            self._guard(self._finish)
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.close_s)

    @abstractmethod
    def _show(self, frame: LiveFrame) -> None:
        """Put the frame out, however long that takes; open what it needs when called."""

    def _recover(self) -> None:  # noqa: B027 -- not every output has something to release
        """Release what is broken; called after `_show` has raised."""

    def _finish(self) -> None:  # noqa: B027 -- as `_recover`
        """Release everything; called once, at the end, also where `_show` was never called."""

    def _run(self) -> None:
        while (frame := self._take()) is not None:
            if not self._try_to_show(frame):
                self._wait_to_retry()
        self._guard(self._finish)

    def _take(self) -> LiveFrame | None:
        """The next frame, None at the end."""
        with self._changed:
            while self._next is None and not self._is_closing and not self._has_stopped:
                self._changed.wait()
            frame, self._next = self._next, None
            return None if self._has_stopped else frame

    def _try_to_show(self, frame: LiveFrame) -> bool:
        try:
            self._show(frame)
        except OutputStoppedError as error:
            self._note_failure(error)
            self._has_stopped = True
            return True
        except Exception as error:  # noqa: BLE001 -- whatever a consumer does, the others go on
            self._note_failure(error)
            self._guard(self._recover)
            return False
        with self._changed:
            self._shown += 1
            self._message = None
            self._delays_ms.append((time.monotonic() - frame.captured_s) * 1e3)
        return True

    def _guard(self, step: object) -> None:
        try:
            step()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 -- as in `_try_to_show`
            self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        with self._changed:
            self._message = told(error)

    def _wait_to_retry(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, RETRY_S)


def told(error: BaseException) -> str:
    """What an error says, in one line; other than mien's own with its kind in front."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, (MienError, OutputStoppedError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class FanOut:
    """The outputs of a loop, which may come and go; any thread may call it."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._lock = threading.Lock()
        self._outputs = tuple(outputs)
        self._trouble: dict[int, str] = {}

    @property
    def watched(self) -> bool:
        """Whether anybody looks at any of them."""
        return any(output.watched for output in self._outputs)

    def add(self, output: Output) -> None:
        """Add an output: it gets every frame from the next one on."""
        with self._lock:
            self._outputs = (*self._outputs, output)

    def remove(self, output: Output) -> None:
        """Remove an output: it gets no more frames. It is not closed."""
        with self._lock:
            self._outputs = tuple(each for each in self._outputs if each is not output)
            self._trouble.pop(id(output), None)

    def offer(self, frame: LiveFrame) -> None:
        """Offer the frame to every output, whatever becomes of it in the others."""
        for output in self._outputs:
            try:
                output.offer(frame)
            except Exception as error:  # noqa: BLE001, PERF203 -- the others are not to suffer
                with self._lock:
                    self._trouble[id(output)] = told(error)
            else:
                if self._trouble:
                    self._trouble.pop(id(output), None)

    def statuses(self) -> tuple[OutputStatus, ...]:
        """How each is doing."""
        return tuple(output.status() for output in self._outputs)

    def messages(self) -> list[str]:
        """A line for each where something is wrong."""
        with self._lock:
            outputs, trouble = self._outputs, dict(self._trouble)
        found = [(output.name, trouble.get(id(output))) for output in outputs]
        found += [(status.name, status.message) for status in self.statuses()]
        return [f"{name}: {text}" for name, text in found if text]

    def close(self) -> None:
        """Close every output, also where one of them fails to close."""
        for output in self._outputs:
            try:
                output.close()
            except Exception as error:  # noqa: BLE001, PERF203 -- as in `offer`
                with self._lock:
                    self._trouble[id(output)] = told(error)
