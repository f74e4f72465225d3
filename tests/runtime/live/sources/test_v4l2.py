"""What the kernel answers about video devices, from its own structures and without a device."""

from __future__ import annotations

import errno
import struct
import sys
from pathlib import Path

import pytest

from mien.runtime.live.sources import v4l2
from mien.runtime.live.sources.v4l2 import Mode, Node, capture_nodes, nodes

UVC = {"driver": b"uvcvideo", "caps": 0x84A00001, "device_caps": 0x04200001}
METADATA = {"driver": b"uvcvideo", "caps": 0x84A00001, "device_caps": 0x04A00000}
LOOPBACK = {"driver": b"v4l2 loopback", "caps": 0x85208002, "device_caps": 0x05208002}
MJPG, YUYV = (int.from_bytes(code, "little") for code in (b"MJPG", b"YUYV"))
SIZES = {MJPG: [(1280, 720), (640, 480)], YUYV: [(640, 480)]}
INTERVALS = {1280: [(1, 30), (1, 15)], 640: [(1001, 30000)]}


class Kernel:
    """Answers ioctls for the devices of a made up machine, told apart by their path."""

    def __init__(self, devices: dict[str, dict[str, object]], *, stepwise: bool = False) -> None:
        self.devices, self.stepwise = devices, stepwise

    def __call__(self, handle: int, request: int, data: bytes) -> bytes:
        device = self.devices[Path(f"/proc/self/fd/{handle}").readlink().name]
        if request == 0x80685600:
            card, caps = b"Camera", (device["caps"], device["device_caps"])
            return struct.pack(
                "=16s32s32sIIIIII", device["driver"], card, b"usb-1", 6, *caps, 0, 0, 0
            )
        if device is not UVC and device is not LOOPBACK:
            raise OSError(errno.EINVAL, "invalid argument")
        index, second, width = struct.unpack_from("=III", data)
        if request == 0xC0405602:
            code = self._pick([MJPG, YUYV], index)
            return struct.pack("=III32sIIIII", index, 1, 0, b"format", code, 0, 0, 0, 0)
        if request == 0xC02C564A:
            if self.stepwise:
                return struct.pack("=IIIIIIIIIII", index, second, 3, 2, 1280, 2, 2, 720, 2, 0, 0)
            size_wh = self._pick(SIZES[second], index)
            return struct.pack("=IIIIIIIIIII", index, second, 1, *size_wh, *(0,) * 6)
        assert request == 0xC034564B
        step = self._pick(INTERVALS.get(width, [(1, 30)]), index)
        height = struct.unpack_from("=I", data, 12)[0]
        return struct.pack("=IIIII8I", index, second, width, height, 1, *step, *(0,) * 6)

    def _pick(self, items: list, index: int):  # type: ignore[no-untyped-def, type-arg]
        if index >= len(items):
            raise OSError(errno.EINVAL, "invalid argument")
        return items[index]


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a made up machine: sysfs and dev, empty."""
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    sysfs.mkdir()
    dev.mkdir()
    return sysfs, dev


def plug(machine: tuple[Path, Path], number: int, name: str) -> None:
    sysfs, dev = machine
    entry = sysfs / f"video{number}"
    entry.mkdir()
    (entry / "name").write_text(name + "\n")
    (dev / f"video{number}").touch()


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's own")


def test_request_numbers_are_those_of_the_kernels_header() -> None:
    assert v4l2.VIDIOC_QUERYCAP == 0x80685600
    assert v4l2.VIDIOC_ENUM_FMT == 0xC0405602
    assert v4l2.VIDIOC_ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2.VIDIOC_ENUM_FRAMEINTERVALS == 0xC034564B


@LINUX
def test_a_camera_is_listed_with_its_modes_and_its_second_node_is_not(
    machine: tuple[Path, Path],
) -> None:
    plug(machine, 10, "Loopback")
    plug(machine, 0, "USB Camera")
    plug(machine, 1, "USB Camera")
    kernel = Kernel({"video0": UVC, "video1": METADATA, "video10": LOOPBACK})
    found = nodes(*machine, kernel)
    assert [Path(node.path).name for node in found] == ["video0", "video1", "video10"]
    assert [(node.gives, node.takes) for node in found] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    (camera,) = capture_nodes(*machine, kernel)
    assert (camera.name, camera.driver, camera.problem) == ("USB Camera", "uvcvideo", None)
    assert camera.modes == (
        Mode("mjpeg", (1280, 720), (30.0, 15.0)),
        Mode("mjpeg", (640, 480), (29.97,)),
        Mode("yuyv", (640, 480), (29.97,)),
    )


@LINUX
def test_a_device_that_takes_any_size_is_listed_with_the_usual_ones(
    machine: tuple[Path, Path],
) -> None:
    plug(machine, 0, "USB Camera")
    (camera,) = capture_nodes(*machine, Kernel({"video0": UVC}, stepwise=True))
    sizes = [mode.size_wh for mode in camera.modes if mode.pixel_format == "mjpeg"]
    assert sizes == [(640, 360), (640, 480), (1280, 720)]


@LINUX
def test_a_device_that_cannot_be_asked_says_why(machine: tuple[Path, Path]) -> None:
    plug(machine, 0, "USB Camera")
    (machine[1] / "video0").unlink()
    (node,) = capture_nodes(*machine, Kernel({}))
    assert (node.name, node.problem) == ("USB Camera", "No such file or directory")

    def busy(handle: int, request: int, data: bytes) -> bytes:
        raise OSError(errno.EBUSY, "busy")

    (machine[1] / "video0").touch()
    assert "another program" in (nodes(*machine, busy)[0].problem or "")

    def refused(handle: int, request: int, data: bytes) -> bytes:
        raise OSError(errno.EACCES, "denied")

    assert "usermod -aG video" in (nodes(*machine, refused)[0].problem or "")


def test_a_machine_without_video_devices_has_none(tmp_path: Path) -> None:
    assert nodes(tmp_path / "nothing", tmp_path) == []


@LINUX
def test_what_is_no_video_device_is_not_asked_for_more(machine: tuple[Path, Path]) -> None:
    plug(machine, 0, "a file")  # the real ioctl, on a plain file
    (node,) = nodes(*machine)
    assert isinstance(node, Node)
    assert node.problem
