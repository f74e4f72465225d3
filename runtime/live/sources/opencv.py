"""A camera through OpenCV: on Windows and macOS, and on a Jetson's own connector."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from mien.engines.errors import DeviceError
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.sources.source import CaptureOptions, DeviceFrame
from mien.runtime.live.values import SourceFacts

_PROBED: Final = 5  # camera numbers that are tried where the system has no list
_BGR: Final = PixelLayout("rgb", full_range=True, rgb_order=(2, 1, 0))
_FOURCC: Final = {"mjpeg": "MJPG", "yuyv": "YUY2", "auto": "MJPG"}


class OpenCvDevice:
    """A camera by its number. Raises: DeviceError."""

    def __init__(self, number: int, options: CaptureOptions) -> None:
        self._video = cv2.VideoCapture(number, _backend())
        if not self._video.isOpened():
            self._video.release()
            raise DeviceError(f"the camera {number} is busy or missing; {_there_are()}")
        _ask(self._video, options)
        self.facts = _facts(self._video, f"camera {number}", options)

    def read(self) -> DeviceFrame:
        """The next frame. Raises: DeviceError where the camera is gone."""
        is_there = self._video.grab()
        captured_s = time.monotonic()
        pixels = self._video.retrieve()[1] if is_there else None
        if pixels is None:
            raise DeviceError(
                f"{self.facts.name} was unplugged or stopped; the last frame is held until it "
                "is back"
            )
        decode_ms = (time.monotonic() - captured_s) * 1e3
        return DeviceFrame(frame_from_bgr(pixels), captured_s, decode_ms)

    def interrupt(self) -> None:
        """Do nothing: a `read` of a camera that gives frames returns within one."""

    def close(self) -> None:
        """Release the camera."""
        self._video.release()


class CsiDevice(OpenCvDevice):
    """A camera on a Jetson's own connector, through GStreamer. Raises: DeviceError."""

    def __init__(self, number: int, options: CaptureOptions) -> None:
        self._video = cv2.VideoCapture(csi_pipeline(number, options), cv2.CAP_GSTREAMER)
        if not self._video.isOpened():
            self._video.release()
            raise DeviceError(
                f"the camera csi:{number} cannot be opened: it takes a Jetson and an OpenCV with "
                "GStreamer (the one of JetPack), not the one from PyPI"
            )
        self.facts = _facts(self._video, f"csi:{number}", options)


def csi_pipeline(number: int, options: CaptureOptions) -> str:
    """The GStreamer pipeline of a CSI camera that ends in the newest BGR frame."""
    width, height = options.size_wh or (1280, 720)
    rate = options.rate or Fraction(30)
    return (
        f"nvarguscamerasrc sensor-id={number} ! "
        f"video/x-raw(memory:NVMM), width={width}, height={height}, format=NV12, "
        f"framerate={rate.numerator}/{rate.denominator} ! "
        "nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


def frame_from_bgr(pixels: np.ndarray) -> Frame:
    """uint8 (H, W, 3), BGR, as a frame; no copy."""
    height, width = pixels.shape[:2]
    return Frame((Plane(pixels, (1, 1)),), _BGR, width, height)


def probe_cameras() -> Iterator[tuple[int, str]]:
    """Number and name of the cameras there are; each is switched on for a moment."""
    for number in range(_PROBED):
        video = cv2.VideoCapture(number, _backend())
        if video.isOpened():
            yield number, f"camera {number}"
        video.release()


def _backend() -> int:
    if sys.platform == "win32":
        return cv2.CAP_DSHOW  # it keeps the numbers of the system, and opens at once
    return cv2.CAP_AVFOUNDATION if sys.platform == "darwin" else cv2.CAP_ANY


def _ask(video: cv2.VideoCapture, options: CaptureOptions) -> None:
    # The format first: the sizes and rates a camera has depend on it.
    video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_FOURCC[options.format]))
    if options.size_wh is not None:
        video.set(cv2.CAP_PROP_FRAME_WIDTH, options.size_wh[0])
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size_wh[1])
    if options.rate is not None:
        video.set(cv2.CAP_PROP_FPS, float(options.rate))
    video.set(cv2.CAP_PROP_BUFFERSIZE, 1)


def _facts(video: cv2.VideoCapture, name: str, options: CaptureOptions) -> SourceFacts:
    rate = video.get(cv2.CAP_PROP_FPS)
    code = int(video.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else ""
    size_wh = (
        int(video.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)),
    )
    return SourceFacts(
        name=name,
        size_wh=size_wh,
        rate=Fraction(rate).limit_denominator(1001) if rate > 0 else None,
        pixel_format=letters.strip("\0 ").lower() or "bgr24",
        asked=str(options),
    )


def _there_are() -> str:
    found = [str(number) for number, _ in probe_cameras()]
    return f"there are: {', '.join(found)}" if found else "there is no camera on this machine"
