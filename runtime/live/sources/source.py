"""Where frames come from: what a source and a camera are, and how one is opened by its name.

A source keeps the newest frame, and no other.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, Protocol

from mien.engines.errors import DeviceError, UsageError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.frame import Frame
from mien.runtime.live.values import FRAME_CLOCK, Captured, SourceFacts


class SourceEndedError(DeviceError):
    """Raised by a device whose frames are over, and which cannot be opened again."""


class NewestFrame:
    """Room for one frame; who asks gets the newest, and the count goes on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._captured: Captured | None = None
        self._index = -1
        self._is_closed = False

    def put(self, frame: Frame, captured_s: float, decode_ms: float | None = None) -> None:
        """Replace the frame before by this one, stamped with the time it was captured at."""
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
        """Wake whoever waits for a frame, for good."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


SILENT_S: Final = 2.0  # without a frame for this long, a camera is taken to be stuck
CameraFormat = Literal["auto", "mjpeg", "yuyv"]


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """What to ask of a camera; what it gives is in its `SourceFacts`. A file is asked nothing.

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
        """Release the camera, so that its light goes out."""
        ...

    def resume(self) -> None:
        """Open the camera again."""
        ...

    def close(self) -> None:
        """Release the camera for good. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """A frame as a device gave it.

    captured_s: on the clock of time.monotonic. decode_ms: as of `Captured`.
    """

    frame: Frame
    captured_s: float
    decode_ms: float | None = None


class Device(Protocol):
    """An open camera, or what stands in for one. Used by one thread, except for `interrupt`."""

    @property
    def facts(self) -> SourceFacts:
        """What it really gives."""
        ...

    def read(self) -> DeviceFrame:
        """The next frame, waiting for it. Raises: MienError where the camera is gone."""
        ...

    def interrupt(self) -> None:
        """Make a `read` that waits return or raise soon, where that can be done."""
        ...

    def close(self) -> None:
        """Release the camera."""
        ...


def open_source(
    what: str,
    *,
    options: CaptureOptions | None = None,
    file_room_wh: tuple[int, int] | None = None,
    max_memory: int = MAX_MEMORY,
) -> Source:
    """The source of that name, with its first frame there.

    what: a camera's number (`0`) or path (`/dev/video2`), a video or picture to play in real time
        and in a loop, or `csi:0` for a camera on a Jetson's own connector.
    max_memory: bytes that reading a file may take by the sizes that it states.
    Raises: DeviceError for a camera or stream that is missing, busy or silent, VideoError for a
        file.
    """
    # Here, for each of them uses what stands above.
    from mien.runtime.live.sources.camera import CameraSource  # noqa: PLC0415
    from mien.runtime.live.sources.cameras import open_camera  # noqa: PLC0415
    from mien.runtime.live.sources.file import FileDevice  # noqa: PLC0415
    from mien.runtime.live.sources.stream import is_stream, stream_source  # noqa: PLC0415

    options = options or CaptureOptions()
    is_camera = what.isascii() and what.isdigit()
    if is_camera or what.startswith(("/dev/", "csi:")):
        return CameraSource(lambda: open_camera(what, options))
    if is_stream(what):
        return stream_source(what, room_wh=file_room_wh, max_memory=max_memory)
    return CameraSource(lambda: FileDevice(Path(what), file_room_wh, max_memory=max_memory))


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
        """Make `frame` the newest one. captured_s: None stands for this moment."""
        if self._is_paused:
            return
        if (frame.width, frame.height) != self._facts.size_wh:
            self._facts = replace(self._facts, size_wh=(frame.width, frame.height))
        self._slot.put(frame, time.monotonic() if captured_s is None else captured_s)

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """The newest frame with an index above `after`, None where none came in `timeout_s`."""
        return self._slot.newest(after, timeout_s)

    def pause(self) -> None:
        """Throw away what is pushed from now on."""
        self._is_paused = True
        self._slot.clear()

    def resume(self) -> None:
        """Take what is pushed again."""
        self._is_paused = False

    def close(self) -> None:
        """Wake whoever waits for a frame, for good."""
        self._slot.close()
