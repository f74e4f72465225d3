"""One moment of a video: the frames that lead up to it, and a picture of it for the screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.frame import Frame
from mien.runtime.video.formats import format_layout
from mien.runtime.video.planes import av_from_frame, display_orientation
from mien.runtime.video.reading.source import Picture, VideoSource

FOLLOWED: Final = 8  # frames, in which a face is followed up to the moment
SEEK_BEYOND_S: Final = 2.0  # nearer to the beginning, decoding is as fast
USUAL_RATE: Final = Fraction(25)  # where neither times nor a rate are known, as in raw H.264
DEFAULT_QUALITY: Final = 90
HDR: Final = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of what needs tone mapping


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a video.

    pictures: the last ones up to it, in order; the last one is shown then. times_s: when each is
    shown, from the first frame of the file on. shape: how wide a pixel is by its height.
    """

    pictures: tuple[av.VideoFrame, ...]
    times_s: tuple[float, ...]
    shape: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What a picture of it cannot show as the video does."""
        last, notes = self.pictures[-1], []
        if kind := HDR.get(int(last.color_trc)):
            notes.append(f"the video is HDR ({kind}), and this picture has no tone mapping")
        layout = format_layout(last.format.name)
        if layout is not None and layout.alpha:
            notes.append("the picture leaves the video's transparency out")
        return tuple(notes)

    def picture(self, edited: Frame, given: Frame) -> np.ndarray:
        """The last one with the planes of `edited`, as a player shows it: uint8 (H, W, 3), BGR.

        given: what it looked like as a Frame.
        """
        last = self.pictures[-1]
        shown = last if edited is given else av_from_frame(edited, last, given, own=False)
        full = given.layout.full_range or given.layout.kind == "rgb"
        bgr: np.ndarray = shown.reformat(
            format="bgr24",
            src_colorspace=_colorspace(given),
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            threads=1,
        ).to_ndarray()
        if self.shape > 1:
            bgr = cv2.resize(bgr, None, fx=self.shape, fy=1.0)
        elif self.shape < 1:
            bgr = cv2.resize(bgr, None, fx=1.0, fy=1 / self.shape)
        turns, mirrored = display_orientation(last)
        bgr = np.rot90(bgr, -turns)
        return np.ascontiguousarray(bgr[:, ::-1] if mirrored else bgr)


def encode_plain(pixels: np.ndarray, suffix: str, quality: int | None = None) -> bytes:
    """The bytes of a JPEG, PNG or WebP file, by its suffix, of uint8 (H, W, 3) BGR.

    quality: 0..100, for lossy files. Raises VideoError.
    """
    asked = DEFAULT_QUALITY if quality is None else quality
    flags = [cv2.IMWRITE_JPEG_QUALITY, asked]
    if suffix.lower() == ".png":
        flags = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    elif suffix.lower() == ".webp":
        flags = [cv2.IMWRITE_WEBP_QUALITY, asked]
    try:
        done, encoded = cv2.imencode(suffix, pixels, flags)
    except cv2.error as error:
        raise VideoError(f"the picture cannot be encoded: {error.err}") from error
    if not done:
        raise VideoError(f"the picture cannot be encoded as {suffix}")
    return encoded.tobytes()


def read_moment(path: Path, at_s: float, *, max_memory: int = MAX_MEMORY) -> Moment:
    """What a video shows at a time, counted from its first frame on.

    It is read from the nearest keyframe before it on, where the file can be searched; else from its
    beginning. Raises VideoError, also where the video ends before.
    """
    found = _Frames(path, at_s, max_memory)
    if at_s > SEEK_BEYOND_S and found.read(is_sought=True):
        return found.moment()
    found.read(is_sought=False)
    return found.moment()


class _Frames:
    """The frames of a file up to a time."""

    def __init__(self, path: Path, at_s: float, max_memory: int) -> None:
        self._path, self._at_s, self._max_memory = path, at_s, max_memory
        self._held: deque[tuple[av.VideoFrame, float]] = deque(maxlen=FOLLOWED)
        self._ends_s = 0.0
        self._is_passed = False  # whether what comes after the time was seen
        self._shape = 1.0

    def read(self, *, is_sought: bool) -> bool:
        """Whether the frames up to the time are held. is_sought: read from a keyframe near it."""
        self._held.clear()
        self._is_passed = False
        beside = FOLLOWED + 3.0
        with VideoSource(self._path, max_memory=self._max_memory, beside=beside) as source:
            pictures = self._pictures(source)
            first = next(pictures, None)
            if first is None:
                why = f" ({lost})" if (lost := source.lost()) else ""
                raise VideoError(f"{self._path} has no frame that can be decoded{why}")
            source.measure(first)
            shape = source.stream.sample_aspect_ratio
            self._shape = float(shape) if shape and 0.1 < shape < 10 else 1.0
            if is_sought:
                if first.pts is None or not _seek(source, first.pts, self._at_s):
                    return False
                start, pictures = first.pts, self._pictures(source)
            else:
                start = first.pts or 0
                self._hold(first, 0.0, source)
            next_s = _lasts_s(first, source)  # of what has no time of its own
            for picture in pictures:
                time_s = next_s
                if picture.pts is not None:
                    time_s = float((picture.pts - start) * source.time_base)
                next_s = time_s + _lasts_s(picture, source)
                if time_s > self._at_s:
                    self._is_passed = True
                    break
                self._hold(picture, time_s, source)
        return bool(self._held)

    def moment(self) -> Moment:
        """What was found. Raises VideoError where the video ends before the time."""
        last, _ = self._held[-1]
        if not self._is_passed and self._ends_s < self._at_s:
            raise VideoError(
                f"{self._path} ends at {self._ends_s:.1f} s, before --at {self._at_s:g} s"
            )
        size_wh = last.width, last.height
        alike = [
            (picture, at_s)
            for picture, at_s in self._held
            if (picture.width, picture.height) == size_wh
            and picture.format.name == last.format.name
        ]
        return Moment(tuple(p for p, _ in alike), tuple(t for _, t in alike), self._shape)

    def _hold(self, picture: av.VideoFrame, time_s: float, source: VideoSource) -> None:
        self._held.append((picture, time_s))
        self._ends_s = time_s + 1.5 * _lasts_s(picture, source)

    @staticmethod
    def _pictures(source: VideoSource) -> Iterator[av.VideoFrame]:
        for item in source.items(copies=False):
            if isinstance(item, Picture):
                yield item.picture


def _lasts_s(picture: av.VideoFrame, source: VideoSource) -> float:
    """How long a picture is shown."""
    if picture.duration:
        return float(picture.duration * source.time_base)
    return float(1 / (source.rate or USUAL_RATE))


def _seek(source: VideoSource, start: int, at_s: float) -> bool:
    """Whether the file could be searched for the keyframe before a time."""
    wanted = start + round(at_s / source.time_base)
    try:
        source.container.seek(wanted, stream=source.stream, backward=True)
    except (av.error.FFmpegError, OSError, ValueError, OverflowError):
        return False
    return True


def _colorspace(frame: Frame) -> int:
    return {"bt601": 5, "bt709": 1, "bt2020": 9}[frame.layout.matrix]
