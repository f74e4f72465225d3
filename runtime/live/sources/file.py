"""A video or picture in place of a camera: at its own pace, over and over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.frame import Frame
from mien.runtime.live.outputs.canvas import scaled_into
from mien.runtime.live.pixels import live_frame, upright
from mien.runtime.live.sources.source import DeviceFrame
from mien.runtime.live.values import SourceFacts
from mien.runtime.video.planes import display_orientation, fitted
from mien.runtime.video.reading.source import Picture, VideoSource, pixel_format

PICTURE_RATE: Final = Fraction(30)  # how often a picture is given
_LATE_S: Final = 0.25  # who is later than this is not hurried along, but paced from now on
_LOOK_AHEAD_S: Final = 1.0  # for sizes that change, before the first frame is given
_SHORTEST_STEP_S: Final = 0.001
_LONGEST_STEP_S: Final = 10.0  # a longer step between two frames is taken for a fault of the file


class FileDevice:
    """A file that gives its frames when they are due, and begins again when it ends.

    room_wh: pictures are made as large as fit in there, None leaves them as they are.
    max_memory: bytes that reading it may take by the sizes that it states.
    The time of a frame is when it was given. Raises: VideoError.
    """

    def __init__(
        self,
        path: Path,
        room_wh: tuple[int, int] | None = None,
        *,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._path, self._room_wh, self._max_memory = path, room_wh, max_memory
        self._interrupted = threading.Event()
        self._source = self._opened()
        container, stream, rate = self._source.container, self._source.stream, self._source.rate
        is_picture = container.format.name.endswith("_pipe") or container.format.name == "image2"
        if not rate or is_picture or not _SHORTEST_STEP_S < 1 / rate < _LONGEST_STEP_S:
            rate = PICTURE_RATE  # a file may declare any, also one picture a day
        self._step_s = float(1 / rate)
        self._canvas_wh: tuple[int, int] | None = None
        self._frames = self._endless()
        try:
            first = next(self._frames)[0]
        except BaseException:
            self.close()
            raise
        self._first: Frame | None = first
        self._due_s = time.monotonic()
        self.facts = SourceFacts(
            name=path.name,
            size_wh=(first.width, first.height),
            rate=rate,
            pixel_format=pixel_format(stream),
            asked="" if room_wh is None else f"{room_wh[0]}x{room_wh[1]}",
        )

    def read(self) -> DeviceFrame:
        """The next frame, decoded before it is due. Raises: VideoError."""
        began_s = time.monotonic()
        frame = self._taken()
        decode_ms = (time.monotonic() - began_s) * 1e3
        wait_s = self._due_s - time.monotonic()
        if wait_s < -_LATE_S:
            self._due_s = time.monotonic()
        elif wait_s > 0 and self._interrupted.wait(wait_s):
            self._check()
        return DeviceFrame(frame, time.monotonic(), decode_ms)

    def interrupt(self) -> None:
        """Make a `read` that waits raise."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the file."""
        self._source.container.close()

    def _opened(self) -> VideoSource:
        return VideoSource(self._path, max_memory=self._max_memory, check=self._check)

    def _check(self) -> None:
        """Raise VideoError where the device is being closed, also while nothing can be decoded."""
        if self._interrupted.is_set():
            raise VideoError(f"{self._path} is being closed")

    def _taken(self) -> Frame:
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        frame, step_s = next(self._frames)
        self._due_s += step_s
        return frame

    def _endless(self) -> Iterator[tuple[Frame, float]]:
        """Frames, and the seconds by which each comes after the one before."""
        while True:
            count, before_s = 0, None
            for frame in self._decoded():
                yield frame, self._step_between(before_s, frame.time_s)
                count, before_s = count + 1, frame.time_s
            if count == 0:
                raise VideoError(f"{self._path} has no frame that can be decoded")
            while count == 1:
                yield frame, self._step_s
            self.close()
            self._source = self._opened()

    def _decoded(self) -> Iterator[Frame]:
        for item in self._source.items(copies=False):
            if isinstance(item, Picture):
                frame = self._framed(item.picture)
                yield frame if self._room_wh is None else scaled_into(self._room_wh, frame)

    def _framed(self, picture: av.VideoFrame) -> Frame:
        """`picture` in the largest size of the clip, which may change in its middle."""
        if self._canvas_wh is None:
            self._canvas_wh = self._source.canvas_wh(picture, limit_s=_LOOK_AHEAD_S)
            self._format = picture.format.name
        fit = fitted(picture, self._canvas_wh, self._format)
        frame = live_frame(fit)
        if fit is picture:
            return frame
        rotation, mirrored = display_orientation(picture)
        return upright(replace(frame, rotation=rotation, mirrored=mirrored))

    def _step_between(self, before_s: float | None, time_s: float | None) -> float:
        if before_s is None or time_s is None or not 0 < time_s - before_s < _LONGEST_STEP_S:
            return self._step_s
        return time_s - before_s
