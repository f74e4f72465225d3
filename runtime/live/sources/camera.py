"""A camera read by a thread that holds its newest frame, and takes it again when it was away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from mien.engines.errors import DeviceError
from mien.runtime.live.outputs.output import told
from mien.runtime.live.sources.source import (
    SILENT_S,
    Device,
    NewestFrame,
    SourceEndedError,
)
from mien.runtime.live.values import Captured, SourceFacts

RETRY_S: Final = 1.0  # between looks for a camera that is gone
_MOST_DOUBLINGS: Final = 16
_LOOK_S: Final = 0.02  # how often a start looks whether it has failed


class CameraSource:
    """A device read by a thread of its own; a device that goes away is taken again when back.

    opener: opens the device; called again, each `retry_s`, when it is gone or after a pause.
    longest_retry_s: with it the wait doubles from one failure to the next, up to that long.
    silent_s: how long a device may give nothing before that is an error or a message.

    Raises what the opener raises, and DeviceError where no frame comes at first.
    """

    def __init__(
        self,
        opener: Callable[[], Device],
        *,
        retry_s: float = RETRY_S,
        longest_retry_s: float | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._opener, self._retry_s, self._silent_s = opener, retry_s, silent_s
        self._longest_retry_s = retry_s if longest_retry_s is None else longest_retry_s
        self._failures = 0  # without a frame between them
        self._slot = NewestFrame()
        self._changed = threading.Condition()
        self._is_paused = self._is_closing = False
        self._has_ended = False
        self._pauses = 0
        self._trouble: str | None = None
        self._device: Device | None = opener()
        self._facts = self._device.facts
        self._since_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mien-capture", daemon=True)
        self._thread.start()
        if not self._has_begun():
            self.close()
            raise DeviceError(self._why_not_begun())

    @property
    def facts(self) -> SourceFacts:
        """What it really gives; it may change when a camera comes back."""
        return self._facts

    @property
    def message(self) -> str | None:
        """One line for people where the camera is gone or silent, else None."""
        with self._changed:
            if self._trouble is not None or self._is_paused or self._is_closing:
                return self._trouble
            last_s = max(self._slot.last_s or 0.0, self._since_s)
        silence_s = time.monotonic() - last_s
        if silence_s < self._silent_s:
            return None
        return f"{self._facts.name} gives no frames (for {silence_s:.0f} s); the last one is held"

    @property
    def has_ended(self) -> bool:
        """Whether its frames are over for good; the last one is held, and a message says so."""
        return self._has_ended

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """The newest frame with an index above `after`, None where none came in `timeout_s`."""
        return self._slot.newest(after, timeout_s)

    def pause(self) -> None:
        """Release the camera."""
        with self._changed:
            self._is_paused = True
            self._pauses += 1
            self._changed.notify_all()
            device = self._device
        if device is not None:
            device.interrupt()

    def resume(self) -> None:
        """Open the camera again; where that fails, a message says so."""
        with self._changed:
            self._is_paused = False
            self._since_s = time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """Release the camera. One that hangs is left behind after two seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            device = self._device
        if device is not None:
            device.interrupt()
        self._slot.close()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def _has_begun(self) -> bool:
        """Whether a first frame comes before the device fails or is silent for too long."""
        end_s = time.monotonic() + self._silent_s
        while self._slot.newest(-1, _LOOK_S) is None:
            if self._trouble is not None or time.monotonic() > end_s:
                return self._slot.last_s is not None
        return True

    def _why_not_begun(self) -> str:
        silence = f"{self._facts.name} gives no frames for {self._silent_s:g} seconds"
        return self._trouble or f"{silence}; plug it in again, or ask for another size or format"

    def _run(self) -> None:
        while not self._is_closing:
            if self._has_ended:
                self._release()
                self._wait(lambda: False, None)
            elif self._is_paused:
                self._release()
                self._slot.clear()
                self._wait(lambda: not self._is_paused, None)
            elif self._device is None:
                self._take()
            else:
                self._read(self._device)
        self._release()

    def _take(self) -> None:
        try:
            device = self._opener()
        except SourceEndedError as error:
            self._end(error)
            return
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is tried again
            self._fail(
                f"{self._facts.name} cannot be had now, the last frame is held ({told(error)})"
            )
            return
        with self._changed:
            self._device, self._facts = device, device.facts
            self._since_s = time.monotonic()

    def _read(self, device: Device) -> None:
        pauses = self._pauses
        try:
            taken = device.read()
        except SourceEndedError as error:
            self._end(error)
            return
        except Exception as error:  # noqa: BLE001 -- a driver may raise anything; as above
            if self._pauses == pauses and not self._is_closing:
                self._fail(told(error))
            else:
                self._release()
            return
        if self._is_paused or self._is_closing:
            return
        with self._changed:
            self._trouble, self._facts, self._failures = None, device.facts, 0
        self._slot.put(taken.frame, taken.captured_s, taken.decode_ms)

    def _end(self, error: SourceEndedError) -> None:
        with self._changed:
            self._trouble, self._has_ended = told(error), True

    def _fail(self, trouble: str) -> None:
        self._release()
        with self._changed:
            self._trouble = trouble
        wait_s = min(self._retry_s * 2**self._failures, self._longest_retry_s)
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
        self._wait(lambda: self._is_paused, wait_s)

    def _wait(self, until: Callable[[], bool], timeout_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or until(), timeout_s)

    def _release(self) -> None:
        with self._changed:
            device, self._device = self._device, None
        if device is not None:
            device.close()
