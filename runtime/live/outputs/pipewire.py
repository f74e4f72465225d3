"""A camera in the user's PipeWire session: no kernel module, no root, nothing but that session.

Browsers find it through the desktop's camera portal. Programs that know only Video4Linux do not see
it; for them there is `VirtualCamera`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Final

from mien.engines.errors import DeviceError
from mien.runtime.live.outputs.canvas import Canvas
from mien.runtime.live.outputs.output import RETRY_S, ThreadedOutput
from mien.runtime.live.outputs.pipewire_stream import PipeWireStream, load_library
from mien.runtime.live.outputs.virtual_camera import LABEL, ROOT, read_small
from mien.runtime.live.values import LiveFrame

MANAGERS: Final = ("wireplumber", "pipewire-media-")  # as the kernel cuts their names
INSTALL: Final = "sudo apt install pipewire wireplumber"
START: Final = "systemctl --user enable --now pipewire wireplumber"
_MOST_RATE: Final = 1001  # of a fraction's denominator: 30000/1001


def session_socket() -> Path:
    """Where this user's PipeWire answers, whether it runs or not (pipewire(1), PIPEWIRE_REMOTE)."""
    remote = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    folder = os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR") or "/run"
    return Path(folder) / remote  # which is `remote` itself where that is a whole path


def missing_session(root: Path = ROOT) -> str | None:
    """What of PipeWire is missing and the line that fixes it; None where a camera would be found.

    root: where the system's files lie that tell which programs run.
    """
    if not sys.platform.startswith("linux"):
        return "PipeWire is for Linux; leave --virtual pipewire out"
    try:
        load_library()
    except DeviceError as error:
        return f"{error}; {INSTALL}"
    if not _answers(session_socket()):
        return f"no PipeWire is running for this user; {START}"
    if not any(name.startswith(MANAGERS) for name in _programs(root)):
        return f"PipeWire runs without WirePlumber, which shows readers the camera; {START}"
    return None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as tried:
        tried.settimeout(1.0)
        try:
            tried.connect(str(path))
        except OSError:
            return False
    return True


def _programs(root: Path) -> list[str]:
    """The names of what runs, as far as this user may know them."""
    found = (read_small(process / "comm") for process in (root / "proc").glob("[0-9]*"))
    return [name for name in found if name is not None]


class PipeWireCamera(ThreadedOutput):
    """A camera of the user's PipeWire session.

    size_wh, rate: what the camera shows; frames of other sizes get black borders. device: its name,
    by default mien.
    A reader that is late loses frames, and holds nobody up. Where PipeWire ends, it is looked for
    every second.
    Raises DeviceError, with what to do, where there is none.
    """

    def __init__(self, size_wh: tuple[int, int], rate: float, *, device: str | None = None) -> None:
        super().__init__("virtual camera")
        self._canvas = Canvas(size_wh)
        self._rate = Fraction(rate).limit_denominator(_MOST_RATE)
        self.device = device or LABEL
        self._lock = threading.Lock()
        self._tried_s, self._why = time.monotonic(), ""
        self._stream: PipeWireStream | None = self._opened()

    @property
    def watched(self) -> bool:
        """Whether a program takes the camera's picture; looks for a lost PipeWire once a second."""
        stream = self._ready()
        return super().watched and stream is not None and stream.is_read

    @property
    def note(self) -> str | None:
        """What is not as it should be, though the camera works; None where all is well."""
        missing = missing_session()
        return None if missing is None else missing.replace("; ", ": ", 1)

    def close(self) -> None:
        """Take the camera away."""
        super().close()
        if self._thread is None:
            self._finish()

    def _show(self, frame: LiveFrame) -> None:
        stream = self._ready()
        if stream is None:
            raise DeviceError(self._why)
        stream.push(self._canvas.draw(frame.frame), frame.captured_s)

    def _finish(self) -> None:
        with self._lock:
            self._drop()

    def _ready(self) -> PipeWireStream | None:
        """The camera, made again where PipeWire had ended; None while there is no PipeWire."""
        with self._lock:
            if self._stream is not None and self._stream.is_lost:
                self._drop()
            if self._stream is None and not self._is_closing:
                now_s = time.monotonic()
                if now_s - self._tried_s >= RETRY_S:
                    self._tried_s = now_s
                    try:
                        self._stream = self._opened()
                    except DeviceError as error:
                        self._why = str(error)
            return self._stream

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._why = "PipeWire has ended; the camera is back when it is"
            stream.close()

    def _opened(self) -> PipeWireStream:
        properties = {
            "media.class": "Video/Source",
            "media.role": "Camera",  # what the desktop's portal shows to browsers
            "node.name": self.device,
            "node.description": self.device,
        }
        try:
            return PipeWireStream(properties, self._canvas.size_wh, self._rate)
        except DeviceError as error:
            why = missing_session() or f"{error}; {START}"
            raise DeviceError(f"no virtual camera: {why}") from error
