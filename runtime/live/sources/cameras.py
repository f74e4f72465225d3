"""The cameras of this machine: which there are, and how each system opens one."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mien.engines.errors import DeviceError
from mien.runtime.live.sources import v4l2, v4l2_source
from mien.runtime.live.sources.opencv import CsiDevice, OpenCvDevice, probe_cameras
from mien.runtime.live.sources.source import CaptureOptions, Device

IS_LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True, slots=True)
class CameraMode:
    """A way in which a camera gives frames. rates: frames a second, highest first."""

    pixel_format: str
    size_wh: tuple[int, int]
    rates: tuple[float, ...] = ()

    def __str__(self) -> str:
        rates = "/".join(f"{rate:g}" for rate in self.rates)
        text = f"{self.pixel_format} {self.size_wh[0]}x{self.size_wh[1]}"
        return f"{text} at {rates}" if rates else text


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera. path: what `--source` takes. problem: why its modes cannot be read, if so."""

    path: str
    name: str
    modes: tuple[CameraMode, ...] = ()
    problem: str | None = None


def list_cameras() -> list[CameraInfo]:
    """The cameras there are.

    On Linux nothing is switched on for it; elsewhere the first few are opened for a moment.
    """
    if not IS_LINUX:
        return [CameraInfo(str(index), name) for index, name in probe_cameras()]
    found = []
    for node in v4l2.capture_nodes():
        modes = tuple(
            CameraMode(mode.pixel_format, mode.size_wh, mode.rates) for mode in node.modes
        )
        found.append(CameraInfo(node.path, node.name, modes, node.problem))
    return found


def open_camera(what: str, options: CaptureOptions) -> Device:
    """The opened camera `what`: a number, a path such as `/dev/video2`, or `csi:0`.

    Raises: DeviceError, which lists the cameras there are where `what` is none.
    """
    if what.startswith("csi:"):
        number = what.removeprefix("csi:")
        if not (number.isascii() and number.isdigit()):
            raise DeviceError(f"cannot open the camera {what!r}: give csi:0, csi:1, ...")
        return CsiDevice(int(number), options)
    if not IS_LINUX:
        if not what.isdigit():
            raise DeviceError(f"cannot open the camera {what!r}: cameras have numbers here: 0, 1")
        return OpenCvDevice(int(what), options)
    path = f"/dev/video{what}" if what.isdigit() else what
    return v4l2_source.open_v4l2(path, options)
