from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mien.engines.errors import DeviceError
from mien.runtime.live.sources import cameras, v4l2, v4l2_source
from mien.runtime.live.sources import opencv as opencv_source
from mien.runtime.live.sources.source import CaptureOptions, DeviceFrame, open_source
from mien.runtime.live.sources.v4l2 import Mode, Node

CAMERA = Node(
    "/dev/video0", "USB Camera", "uvcvideo", True, False, (Mode("mjpeg", (640, 480), (30.0, 15.0)),)
)
HAS_V4L2 = "video4linux2,v4l2" in av.formats_available


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """A Linux with these cameras."""
    found: list[Node] = [CAMERA]
    monkeypatch.setattr(cameras, "IS_LINUX", True)
    monkeypatch.setattr(v4l2, "capture_nodes", lambda: found)
    return found


def test_cameras_are_listed_with_what_they_can_do(linux: list[Node]) -> None:
    (camera,) = cameras.list_cameras()
    assert (camera.path, camera.name, camera.problem) == ("/dev/video0", "USB Camera", None)
    assert [str(mode) for mode in camera.modes] == ["mjpeg 640x480 at 30/15"]


@pytest.mark.parametrize("what", ["97", "/dev/video97"])
def test_a_camera_that_is_not_there_is_answered_with_those_that_are(
    linux: list[Node], what: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        open_source(what)
    assert str(caught.value) == (
        "there is no camera /dev/video97; there are: /dev/video0 (USB Camera)"
    )
    linux.clear()
    with pytest.raises(DeviceError, match="there is no camera on this machine"):
        open_source(what)


@pytest.mark.parametrize(
    ("number", "message", "tries"),
    [
        (errno.EBUSY, "is busy: another program uses it", 1),
        (errno.EACCES, "usermod -aG video", 1),
        (errno.EINVAL, "does not give 1280x720 at 30, auto", 4),
    ],
)
def test_a_camera_that_cannot_be_opened_says_what_to_do(
    linux: list[Node],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    message: str,
    tries: int,
) -> None:
    asked = []

    def refuse(path: str, **settings: object) -> None:
        asked.append(settings["options"])
        raise OSError(number, "refused")

    monkeypatch.setattr(v4l2_source.av, "open", refuse)
    device = tmp_path / "video0"
    device.touch()
    with pytest.raises(DeviceError, match=message):
        cameras.open_camera(str(device), CaptureOptions())
    assert len(asked) == tries
    assert asked[0] == {
        "fflags": "nobuffer",
        "video_size": "1280x720",
        "framerate": "30",
        "input_format": "mjpeg",
    }


def test_a_camera_that_takes_no_size_and_rate_gives_what_it_has(
    monkeypatch: pytest.MonkeyPatch, clip: Callable[..., Path]
) -> None:
    path = clip("camera.avi", frames=4, codec="mjpeg", pixel_format="yuvj422p", options={})
    real_open = av.open

    def open_as_it_is(file: str, **settings: Any) -> object:
        if settings["options"] != {"fflags": "nobuffer"}:
            raise OSError(errno.EINVAL, "refused")
        return real_open(file)

    monkeypatch.setattr(v4l2_source.av, "open", open_as_it_is)
    device = v4l2_source.open_v4l2(str(path), CaptureOptions())
    assert (device.facts.size_wh, device.facts.asked) == ((160, 120), "1280x720 at 30, auto")
    device.close()
    with pytest.raises(DeviceError, match="does not give 1280x720 at 30, yuyv"):
        v4l2_source.open_v4l2(str(path), CaptureOptions(format="yuyv"))


@pytest.mark.skipif(not HAS_V4L2, reason="this PyAV is built without V4L2")
def test_what_is_no_camera_is_refused_by_the_real_driver(linux: list[Node], tmp_path: Path) -> None:
    path = tmp_path / "video5"
    path.write_bytes(b"not a device")
    with pytest.raises(DeviceError, match="does not give"):
        cameras.open_camera(str(path), CaptureOptions(format="yuyv"))


@pytest.mark.parametrize("codec", ["mjpeg", "rawvideo"])
def test_a_v4l2_camera_is_read_until_it_is_unplugged(clip: Callable[..., Path], codec: str) -> None:
    # A file with a camera's codec stands in for the driver; its end is the unplugging.
    raw = {"codec": "rawvideo", "pixel_format": "yuyv422", "options": {}}
    jpeg = {"codec": "mjpeg", "pixel_format": "yuvj422p", "options": {}}
    settings = raw if codec == "rawvideo" else jpeg
    path = clip("camera.avi" if codec == "mjpeg" else "camera.nut", frames=4, **settings)
    device = v4l2_source.V4l2Device("/dev/video0", av.open(str(path)), CaptureOptions())
    assert device.facts.size_wh == (160, 120)
    assert device.facts.pixel_format == ("mjpeg" if codec == "mjpeg" else "yuyv422")
    assert device.facts.rate == Fraction(25)
    taken_frames = [device.read() for _ in range(4)]
    assert [taken.frame.planes[1].subsampling_xy for taken in taken_frames] == [(2, 1)] * 4
    assert taken_frames[0].frame.layout.full_range == (codec == "mjpeg")
    with pytest.raises(DeviceError, match="unplugged"):
        device.read()
    device.close()


def test_a_torn_jpeg_is_passed_over(clip: Callable[..., Path]) -> None:
    path = clip("camera.avi", frames=6, codec="mjpeg", pixel_format="yuvj422p", options={})
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[2] : starts[2] + 200] = bytes(200)
    path.write_bytes(bytes(data))
    device = v4l2_source.V4l2Device("/dev/video0", av.open(str(path)), CaptureOptions())
    read: list[DeviceFrame] = []

    def read_all() -> None:
        while True:
            read.append(device.read())

    with pytest.raises(DeviceError, match="unplugged"):
        read_all()
    assert len(read) in (5, 6)
    device.close()


def test_a_camera_that_gives_torn_pictures_only_says_so_and_can_be_released(
    clip: Callable[..., Path],
) -> None:
    path = clip("camera.avi", frames=400, codec="mjpeg", pixel_format="yuvj422p", options={})
    with av.open(str(path)) as whole:
        places = [(packet.pos, packet.size) for packet in whole.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for start, size in places:
        data[start + 8 : start + 8 + size] = b"\1" * size  # after the head of its chunk
    path.write_bytes(data)
    left = []
    for interrupts in (False, True):
        container = av.open(str(path))
        device = v4l2_source.V4l2Device("/dev/video0", container, CaptureOptions())
        if interrupts:
            device.interrupt()
        with pytest.raises(DeviceError, match="no picture that can be decoded"):
            device.read()
        left.append(sum(1 for packet in container.demux(video=0) if packet.size))
        device.close()
    assert 0 < left[0] < left[1] - 100


class FakeVideo:
    """What OpenCV gives for the cameras 0 and 1."""

    opened: int = 0

    def __init__(self, number: int | str, backend: int) -> None:
        self.number, self.asked, self.frames = number, {}, 2
        type(self).opened += 1

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return self.number in (0, 1)

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def get(self, what: int) -> float:
        known = {
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")),
            cv2.CAP_PROP_FRAME_WIDTH: 64,
            cv2.CAP_PROP_FRAME_HEIGHT: 48,
        }
        return known[what]

    def grab(self) -> bool:
        self.frames -= 1
        return self.frames >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((48, 64, 3), (50, 100, 200), np.uint8)

    def release(self) -> None:
        type(self).opened -= 1


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system whose cameras OpenCV opens."""
    monkeypatch.setattr(cameras, "IS_LINUX", False)
    monkeypatch.setattr(opencv_source.cv2, "VideoCapture", FakeVideo)
    yield
    assert FakeVideo.opened == 0


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_cameras_are_read_through_opencv() -> None:
    device = cameras.open_camera("1", CaptureOptions(size_wh=(64, 48)))
    facts = device.facts
    assert (facts.size_wh, facts.rate, facts.pixel_format) == ((64, 48), Fraction(30), "mjpg")
    frame = device.read().frame
    assert frame.layout.rgb_order == (2, 1, 0)
    device.read()
    with pytest.raises(DeviceError, match="unplugged"):
        device.read()
    device.close()


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_cameras_are_numbers_and_those_there_are_are_named() -> None:
    assert [camera.path for camera in cameras.list_cameras()] == ["0", "1"]
    with pytest.raises(DeviceError, match="there are: 0, 1"):
        cameras.open_camera("3", CaptureOptions())
    with pytest.raises(DeviceError, match="have numbers here"):
        cameras.open_camera("/dev/video0", CaptureOptions())


def test_a_jetson_camera_needs_a_jetson_and_says_so() -> None:
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(DeviceError, match="takes a Jetson"):
        cameras.open_camera("csi:0", CaptureOptions())
    with pytest.raises(DeviceError, match="give csi:0"):
        cameras.open_camera("csi:front", CaptureOptions())


def test_the_pipeline_of_a_jetson_camera_holds_the_newest_frame_only() -> None:
    options = CaptureOptions(size_wh=(1920, 1080), rate=Fraction(30))
    pipeline = opencv_source.csi_pipeline(1, options)
    assert "nvarguscamerasrc sensor-id=1" in pipeline
    assert "width=1920, height=1080, format=NV12, framerate=30/1" in pipeline
    assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /dev")
def test_a_real_camera_is_read_where_there_is_one() -> None:
    found = [node for node in v4l2.capture_nodes() if node.modes]
    if not found:
        pytest.skip("there is no camera on this machine")
    source = open_source(found[0].path, options=CaptureOptions(None, None))
    captured = source.newest(-1, 5)
    source.close()
    assert captured is not None
