"""One frame to many outputs, and what becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mien.runtime.live.output import Output, told
from mien.runtime.live.values import LiveFrame, OutputStatus


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
        """Nothing; the output gets every frame from the next one on."""
        with self._lock:
            self._outputs = (*self._outputs, output)

    def remove(self, output: Output) -> None:
        """Nothing; the output gets no more frames. It is not closed."""
        with self._lock:
            self._outputs = tuple(each for each in self._outputs if each is not output)
            self._trouble.pop(id(output), None)

    def offer(self, frame: LiveFrame) -> None:
        """Nothing; every output gets the frame, whatever becomes of it in the others."""
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
        """Nothing; all of them end, also where one of them cannot."""
        for output in self._outputs:
            try:
                output.close()
            except Exception as error:  # noqa: BLE001, PERF203 -- as in `offer`
                with self._lock:
                    self._trouble[id(output)] = told(error)
