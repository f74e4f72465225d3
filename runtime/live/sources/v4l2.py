"""What the Linux kernel says about video devices, asked with ioctls.

Source: the kernel's "Video for Linux API", structures of <linux/videodev2.h>.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

# _IOC(direction, 'V', number, size): direction in the top two bits, size in the next fourteen.
_READ, _WRITE = 2, 1


def _ioc(direction: int, number: int, layout: str) -> int:
    return direction << 30 | struct.calcsize(layout) << 16 | ord("V") << 8 | number


CAPABILITY: Final = "=16s32s32sIII3I"  # driver, card, bus_info, version, all, this node's, reserved
FORMAT: Final = "=III32sII3I"  # index, type, flags, description, pixelformat, mbus_code, reserved
FRAME_SIZE: Final = "=III6I2I"  # index, pixel_format, type, discrete or stepwise, reserved
FRAME_INTERVAL: Final = (
    "=IIIII6I2I"  # index, pixel_format, width, height, type, fractions, reserved
)
VIDIOC_QUERYCAP: Final = _ioc(_READ, 0, CAPABILITY)
VIDIOC_ENUM_FMT: Final = _ioc(_READ | _WRITE, 2, FORMAT)
VIDIOC_ENUM_FRAMESIZES: Final = _ioc(_READ | _WRITE, 74, FRAME_SIZE)
VIDIOC_ENUM_FRAMEINTERVALS: Final = _ioc(_READ | _WRITE, 75, FRAME_INTERVAL)

CAP_VIDEO_CAPTURE: Final = 0x1
CAP_VIDEO_OUTPUT: Final = 0x2
CAP_DEVICE_CAPS: Final = 0x80000000
_BUF_TYPE_VIDEO_CAPTURE: Final = 1
_DISCRETE: Final = 1  # V4L2_FRMSIZE_TYPE_DISCRETE and V4L2_FRMIVAL_TYPE_DISCRETE
_FORMAT_NAMES: Final = {"MJPG": "mjpeg", "JPEG": "mjpeg", "YUYV": "yuyv"}
# Of a device that takes any size, such as a loopback, the ones people ask for.
_USUAL_SIZES: Final = ((640, 360), (640, 480), (1280, 720), (1920, 1080))
SYSFS: Final = Path("/sys/class/video4linux")
DEV: Final = Path("/dev")

Ioctl = Callable[[int, int, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Mode:
    """A format and size a device gives, and the rates it has them at, highest first."""

    pixel_format: str
    size_wh: tuple[int, int]
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A video device. problem: why it cannot be asked, None where it could.

    driver: the kernel's name for it, `uvcvideo` or `v4l2 loopback`.
    gives, takes: whether frames can be captured from it, and written to it.
    """

    path: str
    name: str
    driver: str = ""
    gives: bool = False
    takes: bool = False
    modes: tuple[Mode, ...] = ()
    problem: str | None = None


def system_ioctl(handle: int, request: int, data: bytes) -> bytes:
    """What the kernel writes over `data`. Raises: OSError."""
    import fcntl  # noqa: PLC0415 -- missing on Windows

    answer: bytes = fcntl.ioctl(handle, request, data)
    return answer


def nodes(sysfs: Path = SYSFS, dev: Path = DEV, ioctl: Ioctl = system_ioctl) -> list[Node]:
    """All video devices, in the order of their numbers. None is switched on by it."""
    if not sysfs.is_dir():
        return []
    names = [entry.name for entry in sysfs.iterdir() if re.fullmatch(r"video\d+", entry.name)]
    names.sort(key=lambda name: int(name.removeprefix("video")))
    return [_ask(sysfs / name, dev / name, ioctl) for name in names]


def capture_nodes(sysfs: Path = SYSFS, dev: Path = DEV, ioctl: Ioctl = system_ioctl) -> list[Node]:
    """The video devices that give frames, and those that cannot be asked whether they do."""
    return [node for node in nodes(sysfs, dev, ioctl) if node.gives or node.problem]


def _ask(entry: Path, path: Path, ioctl: Ioctl) -> Node:
    try:
        name = (entry / "name").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = entry.name
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        return Node(str(path), name, problem=_why_not(error))
    try:
        answer = struct.unpack(CAPABILITY, ioctl(handle, VIDIOC_QUERYCAP, _blank(CAPABILITY)))
        driver, able = _text(answer[0]), answer[5] if answer[4] & CAP_DEVICE_CAPS else answer[4]
        gives, takes = bool(able & CAP_VIDEO_CAPTURE), bool(able & CAP_VIDEO_OUTPUT)
        modes = tuple(_modes(handle, ioctl)) if gives else ()
    except OSError as error:
        return Node(str(path), name, problem=_why_not(error))
    finally:
        os.close(handle)
    # A camera's second node gives only metadata, and has no format.
    return Node(str(path), name, driver, gives and bool(modes), takes, modes)


def _why_not(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied; add yourself to the group video: sudo usermod -aG video $USER"
    if error.errno == errno.EBUSY:
        return "another program uses it; close that program"
    return error.strerror or str(error)


def _modes(handle: int, ioctl: Ioctl) -> Iterator[Mode]:
    head = (_BUF_TYPE_VIDEO_CAPTURE, 0, b"", 0, 0, 0, 0, 0)
    for answer in _enumerate(handle, ioctl, VIDIOC_ENUM_FMT, FORMAT, head):
        code = answer[4]
        for size_wh in _sizes(handle, ioctl, code):
            yield Mode(_format_name(code), size_wh, tuple(_rates(handle, ioctl, code, size_wh)))


def _sizes(handle: int, ioctl: Ioctl, code: int) -> Iterator[tuple[int, int]]:
    head = (code, 0, *(0,) * 8)
    for answer in _enumerate(handle, ioctl, VIDIOC_ENUM_FRAMESIZES, FRAME_SIZE, head):
        kind, first, second = answer[2:5]
        if kind == _DISCRETE:
            yield first, second
            continue
        least_w, most_w, _, least_h, most_h, _ = answer[3:9]
        yield from (
            (width, height)
            for width, height in _USUAL_SIZES
            if least_w <= width <= most_w and least_h <= height <= most_h
        )
        return


def _rates(handle: int, ioctl: Ioctl, code: int, size_wh: tuple[int, int]) -> list[float]:
    head = (code, *size_wh, 0, *(0,) * 8)
    rates = set()
    for answer in _enumerate(handle, ioctl, VIDIOC_ENUM_FRAMEINTERVALS, FRAME_INTERVAL, head):
        kind, seconds, parts = answer[4:7]
        if seconds:
            rates.add(round(parts / seconds, 2))
        if kind != _DISCRETE:
            break
    return sorted(rates, reverse=True)


def _enumerate(
    handle: int, ioctl: Ioctl, request: int, layout: str, head: tuple[object, ...]
) -> Iterator[tuple[int, ...]]:
    """Answers for index 0, 1, 2 ... until the device has no more. head: the fields behind it."""
    for index in count():
        try:
            answer = ioctl(handle, request, struct.pack(layout, index, *head))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return
            raise
        yield struct.unpack(layout, answer)


def _blank(layout: str) -> bytes:
    return bytes(struct.calcsize(layout))


def _text(raw: object) -> str:
    assert isinstance(raw, bytes)
    return raw.split(b"\0")[0].decode("utf-8", "replace")


def _format_name(code: int) -> str:
    letters = struct.pack("<I", code & 0x7FFFFFFF).decode("ascii", "replace").strip()
    return _FORMAT_NAMES.get(letters, letters)
