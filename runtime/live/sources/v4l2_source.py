"""A camera on Linux, through PyAV and V4L2."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet

from mien.engines.errors import DeviceError
from mien.runtime.live.pixels import live_frame
from mien.runtime.live.sources import v4l2
from mien.runtime.live.sources.source import CaptureOptions, DeviceFrame
from mien.runtime.live.values import SourceFacts
from mien.runtime.video.formats import readable_format
from mien.runtime.video.planes import as_fraction
from mien.runtime.video.reading.source import pixel_format, reason

_MAX_TORN = 150  # frames in a row; five seconds of most cameras
_WIRE_FORMATS = {"mjpeg": "mjpeg", "yuyv": "yuyv422"}


class V4l2Device:
    """An open camera. A frame's time is when it arrived, before it is decoded."""

    def __init__(self, path: str, container: InputContainer, options: CaptureOptions) -> None:
        self._path, self._container = path, container
        self._interrupted = threading.Event()
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # threads would hold frames back
        self._stream = stream
        self._packets: Iterator[Packet[Any]] = container.demux(stream)
        codec = stream.codec_context
        self.facts = SourceFacts(
            name=f"{_name_of(path)} ({path})",
            size_wh=(codec.width, codec.height),
            rate=as_fraction(stream.average_rate or stream.base_rate),
            pixel_format=codec.name if codec.name != "rawvideo" else pixel_format(stream),
            asked=str(options),
        )

    def read(self) -> DeviceFrame:
        """The next frame. Raises: DeviceError where the camera is gone, or gives none but torn."""
        for _ in range(_MAX_TORN):
            try:
                packet = next(self._packets)
            except (av.error.FFmpegError, OSError, StopIteration) as error:
                raise DeviceError(
                    f"{self.facts.name} was unplugged or stopped ({reason(error)}); "
                    "the last frame is held until it is back"
                ) from error
            captured_s = time.monotonic()
            picture = self._decoded(packet)
            if picture is not None:
                frame = live_frame(picture)
                return DeviceFrame(frame, captured_s, (time.monotonic() - captured_s) * 1e3)
            if self._interrupted.is_set():
                break
        raise DeviceError(
            f"{self.facts.name} gives no picture that can be decoded; "
            "plug it in again, or ask for --format yuyv"
        )

    def interrupt(self) -> None:
        """Let a `read` that gets nothing but torn frames raise; another one comes back soon."""
        self._interrupted.set()

    def close(self) -> None:
        """Release the camera."""
        self._container.close()

    def _decoded(self, packet: Packet[Any]) -> av.VideoFrame | None:
        try:
            pictures = packet.decode()
        except av.error.InvalidDataError:
            return None  # over USB a JPEG may arrive torn; the next one is whole again
        picture = pictures[-1] if pictures else None
        if not isinstance(picture, av.VideoFrame) or picture.is_corrupt:
            return None
        name = readable_format(picture.format.name)
        if name is None:
            raise DeviceError(
                f"{self.facts.name} gives {picture.format.name}, which cannot be edited; "
                "ask for --format mjpeg or yuyv"
            )
        return picture if name == picture.format.name else picture.reformat(format=name, threads=1)


def open_v4l2(path: str, options: CaptureOptions) -> V4l2Device:
    """The opened camera. Raises: DeviceError, which lists the cameras where this is none."""
    if not Path(path).exists():
        raise DeviceError(f"there is no camera {path}; {_there_are()}")
    failed: Exception | None = None
    for asked in _ways_to_ask(options):
        try:
            return V4l2Device(path, _open(path, asked), options)
        except (av.error.FFmpegError, OSError, ValueError) as error:  # noqa: PERF203 -- few tries
            failed = error
            if getattr(error, "errno", None) in (errno.EBUSY, errno.EACCES, errno.EPERM):
                break  # another format would not help
    assert failed is not None
    raise DeviceError(_why(path, options, failed)) from failed


def _ways_to_ask(options: CaptureOptions) -> Iterator[dict[str, str]]:
    asked = {}
    if options.size_wh is not None:
        asked["video_size"] = f"{options.size_wh[0]}x{options.size_wh[1]}"
    if options.rate is not None:
        asked["framerate"] = str(options.rate)
    if options.format != "auto":
        yield asked | {"input_format": _WIRE_FORMATS[options.format]}
        return
    for wire in _WIRE_FORMATS.values():
        yield asked | {"input_format": wire}
    # A grey or NV12 one has neither of the two, and some take no size or rate at all.
    yield asked
    yield {}


def _open(path: str, asked: dict[str, str]) -> InputContainer:
    options = {"fflags": "nobuffer", **asked}
    container: InputContainer = av.open(path, format="v4l2", options=options)
    if not container.streams.video:
        container.close()
        raise OSError(errno.ENODEV, "no video stream")
    return container


def _why(path: str, options: CaptureOptions, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EBUSY:
        return f"the camera {path} is busy: another program uses it; close that program"
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"the camera {path} may not be opened; "
            "add yourself to the group video: sudo usermod -aG video $USER, and log in again"
        )
    return f"the camera {path} does not give {options} ({reason(error)}); {_there_are()}"


def _there_are() -> str:
    found = [f"{node.path} ({node.name})" for node in v4l2.capture_nodes()]
    return f"there are: {', '.join(found)}" if found else "there is no camera on this machine"


def _name_of(path: str) -> str:
    entry = v4l2.SYSFS / Path(path).resolve().name / "name"
    try:
        return entry.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "camera"
