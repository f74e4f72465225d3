"""Where frames come from: a thread that holds the newest frame of a camera, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, Protocol

from mien.engines.errors import DeviceError, UsageError
from mien.runtime.frame import Frame
from mien.runtime.live.output import told
from mien.runtime.live.values import FRAME_CLOCK, Captured, SourceFacts

RETRY_S: Final = 1.0  # between looks for a camera that is gone
SILENT_S: Final = 2.0  # without a frame for this long, a camera is taken to be stuck
_LOOK_S: Final = 0.02  # how often a start looks whether it has failed
CameraFormat = Literal["auto", "mjpeg", "yuyv"]


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """What to ask of a camera; what it gives is in its `SourceFacts`.

    size_wh, rate: None leaves it to the camera. format: over the wire; `auto` takes MJPEG where
    the camera has it, for it is the only one that reaches 720p at 30 Hz over USB 2.
    """

    size_wh: tuple[int, int] | None = (1280, 720)
    rate: Fraction | None = Fraction(30)
    format: CameraFormat = "auto"

    def __post_init__(self) -> None:
        if self.size_wh is not None and not all(16 <= side <= 8192 for side in self.size_wh):
            raise UsageError(f"a camera has no size of {self.size_wh[0]}x{self.size_wh[1]} pixels")
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise UsageError(f"a rate of {float(self.rate):g} frames a second makes no sense")
        if self.format not in ("auto", "mjpeg", "yuyv"):
            raise UsageError(f"unknown camera format {self.format!r} (known: auto, mjpeg, yuyv)")

    def __str__(self) -> str:
        size = f"{self.size_wh[0]}x{self.size_wh[1]}" if self.size_wh else "any size"
        rate = f" at {float(self.rate):g}" if self.rate else ""
        return f"{size}{rate}, {self.format}"


class Source(Protocol):
    """Gives frames, the newest only; every method may be called from any thread."""

    @property
    def facts(self) -> SourceFacts:
        """What it really gives."""
        ...

    @property
    def message(self) -> str | None:
        """One line for people where something is wrong now, else None."""
        ...

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """The newest frame with an index above `after`, None where none came in `timeout_s`."""
        ...

    def pause(self) -> None:
        """Nothing; lets the camera go, so that its light goes out."""
        ...

    def resume(self) -> None:
        """Nothing; takes the camera again."""
        ...

    def close(self) -> None:
        """Nothing; lets the camera go for good. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame as a device gave it. captured_s: on the clock of time.monotonic."""

    frame: Frame
    captured_s: float


class Device(Protocol):
    """An open camera, or what stands in for one. Used by one thread, except for `interrupt`."""

    @property
    def facts(self) -> SourceFacts:
        """What it really gives."""
        ...

    def read(self) -> Shot:
        """The next frame, waiting for it. Raises: MienError where the camera is gone."""
        ...

    def interrupt(self) -> None:
        """Nothing; makes a `read` that waits return or raise soon, where that can be done."""
        ...

    def close(self) -> None:
        """Nothing; the camera is free again."""
        ...


class NewestFrame:
    """Room for one frame; who asks gets the newest, and the count goes on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._captured: Captured | None = None
        self._index = -1
        self._is_closed = False

    def put(self, frame: Frame, captured_s: float) -> None:
        """Nothing; the frame replaces the one before, and gets the time it was captured at."""
        timed = replace(frame, pts=round(captured_s / FRAME_CLOCK), time_base=FRAME_CLOCK)
        with self._changed:
            self._index += 1
            self._captured = Captured(timed, captured_s, self._index)
            self._changed.notify_all()

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """As of `Source.newest`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._is_newer(after), timeout_s)
            return self._captured if self._is_newer(after) else None

    def _is_newer(self, after: int) -> bool:
        return self._captured is not None and self._captured.index > after

    def clear(self) -> None:
        """Nothing; the frame is let go of, for it will be old when somebody asks again."""
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


class CameraSource:
    """A device read by a thread of its own; a device that goes away is taken again when back.

    opener: opens the device; called again, each `retry_s`, when it is gone or after a pause.
    silent_s: how long a device may give nothing before that is an error or a message.

    Raises what the opener raises, and DeviceError where no frame comes at first.
    """

    def __init__(
        self,
        opener: Callable[[], Device],
        *,
        retry_s: float = RETRY_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self._opener, self._retry_s, self._silent_s = opener, retry_s, silent_s
        self._slot = NewestFrame()
        self._changed = threading.Condition()
        self._is_paused = self._is_closing = False
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

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """The newest frame with an index above `after`, None where none came in `timeout_s`."""
        return self._slot.newest(after, timeout_s)

    def pause(self) -> None:
        """Nothing; the camera is let go."""
        with self._changed:
            self._is_paused = True
            self._pauses += 1
            self._changed.notify_all()
            device = self._device
        if device is not None:
            device.interrupt()

    def resume(self) -> None:
        """Nothing; the camera is taken again, and not being able to is a message."""
        with self._changed:
            self._is_paused = False
            self._since_s = time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing; the camera is let go. One that hangs is left behind after two seconds."""
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
            if self._is_paused:
                self._let_go()
                self._slot.clear()
                self._wait(lambda: not self._is_paused, None)
            elif self._device is None:
                self._take()
            else:
                self._read(self._device)
        self._let_go()

    def _take(self) -> None:
        try:
            device = self._opener()
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
            shot = device.read()
        except Exception as error:  # noqa: BLE001 -- a driver may raise anything; as above
            if self._pauses == pauses and not self._is_closing:
                self._fail(told(error))
            else:
                self._let_go()
            return
        if self._is_paused or self._is_closing:
            return
        with self._changed:
            self._trouble = None
        self._slot.put(shot.frame, shot.captured_s)

    def _fail(self, trouble: str) -> None:
        self._let_go()
        with self._changed:
            self._trouble = trouble
        self._wait(lambda: self._is_paused, self._retry_s)

    def _wait(self, until: Callable[[], bool], timeout_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or until(), timeout_s)

    def _let_go(self) -> None:
        with self._changed:
            device, self._device = self._device, None
        if device is not None:
            device.close()


def open_source(what: str, *, options: CaptureOptions | None = None) -> Source:
    """The source of that name, with its first frame there.

    what: a camera's number (`0`) or path (`/dev/video2`), a video or picture to play in real time
        and in a loop, or `csi:0` for a camera on a Jetson's own connector.
    Raises: DeviceError for a camera that is not there, busy or silent, VideoError for a file.
    """
    # Here, for each of them uses what stands above.
    from mien.runtime.live.cameras import open_camera  # noqa: PLC0415
    from mien.runtime.live.file_source import FileDevice  # noqa: PLC0415

    options = options or CaptureOptions()
    is_camera = what.isascii() and what.isdigit()
    if is_camera or what.startswith(("/dev/", "csi:")):
        return CameraSource(lambda: open_camera(what, options))
    return CameraSource(lambda: FileDevice(Path(what), options))


class PushSource:
    """A source that is given its frames from outside, such as a browser's camera.

    facts: what is told about it; `push` corrects the size.
    """

    def __init__(self, facts: SourceFacts) -> None:
        self._facts = facts
        self._slot = NewestFrame()
        self._is_paused = False
        self._message: str | None = None

    @property
    def facts(self) -> SourceFacts:
        """What it gives, with the size of the last frame."""
        return self._facts

    @property
    def message(self) -> str | None:
        """One line for people where something is wrong now, else None; whoever pushes sets it."""
        return self._message

    @message.setter
    def message(self, message: str | None) -> None:
        self._message = message

    def push(self, frame: Frame, captured_s: float | None = None) -> None:
        """Nothing; the frame is the newest now. captured_s: None stands for this moment."""
        if self._is_paused:
            return
        if (frame.width, frame.height) != self._facts.size_wh:
            self._facts = replace(self._facts, size_wh=(frame.width, frame.height))
        self._slot.put(frame, time.monotonic() if captured_s is None else captured_s)

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """The newest frame with an index above `after`, None where none came in `timeout_s`."""
        return self._slot.newest(after, timeout_s)

    def pause(self) -> None:
        """Nothing; what is pushed now is thrown away."""
        self._is_paused = True
        self._slot.clear()

    def resume(self) -> None:
        """Nothing; what is pushed is taken again."""
        self._is_paused = False

    def close(self) -> None:
        """Nothing; who waits waits no longer."""
        self._slot.close()
