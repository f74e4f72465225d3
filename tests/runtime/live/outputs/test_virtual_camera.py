from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="the extra `camera` is not installed")

from mien.engines.errors import DeviceError  # noqa: E402
from mien.runtime.live.outputs import output, virtual_camera  # noqa: E402
from mien.runtime.live.outputs.canvas import yuv_picture, yuv_planes  # noqa: E402
from mien.runtime.live.outputs.virtual_camera import (  # noqa: E402
    VirtualCamera,
    loopback_devices,
)
from tests.runtime.live.pictures import QUARTERS, frame_of, live, quarters  # noqa: E402
from tests.runtime.live.virtual import (  # noqa: E402
    Recorder,
    add_loopback,
    add_opener,
    set_opens,
    until,
)

SIZE = (160, 96)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A backend that pyvirtualcam knows as `recorder`."""
    made = Recorder()
    made.register("recorder")
    yield made
    del pyvirtualcam.camera.BACKENDS["recorder"]


def opened(recorder: Recorder, root: Path, size_wh: tuple[int, int] = SIZE) -> VirtualCamera:
    return VirtualCamera(size_wh, 30.0, backend="recorder", root=root)


def picture(sent: np.ndarray, size_wh: tuple[int, int] = SIZE) -> np.ndarray:
    """What was sent, as RGB."""
    pixels = sent.reshape(size_wh[1] * 3 // 2, size_wh[0])
    return yuv_picture(pixels).to_ndarray(format="rgb24", threads=1)


def test_frames_reach_the_camera_in_its_size_and_order(recorder: Recorder, tmp_path: Path) -> None:
    camera = opened(recorder, tmp_path)
    settings = recorder.opened[0]
    assert (settings["width"], settings["height"], settings["fps"]) == (160, 96, 30.0)
    for index, level in enumerate((40, 90, 160, 220)):
        camera.offer(live(frame_of(np.full((96, 160, 3), level, np.uint8)), seq=index))
        assert until(lambda: len(recorder.sent) == index + 2)  # noqa: B023
    camera.close()
    black, *shown = [picture(sent).mean() for sent in recorder.sent]
    assert black < 2  # a camera without a picture is none to a browser
    assert np.abs(np.array(shown) - (40, 90, 160, 220)).max() < 3
    assert (camera.status().shown, camera.status().message) == (4, None)
    assert recorder.closed == 1


def test_planes_go_out_untouched_and_other_sizes_get_borders(
    recorder: Recorder, tmp_path: Path
) -> None:
    camera = opened(recorder, tmp_path)
    frame = frame_of(quarters())
    camera.offer(live(frame))
    assert until(lambda: len(recorder.sent) == 2)
    sent = yuv_planes(recorder.sent[1].reshape(144, 160))
    for own, plane in zip(sent, frame.planes, strict=True):
        assert (own == plane.samples).all()
    camera.offer(live(frame_of(quarters((96, 96)), "yuvj422p")))
    assert until(lambda: len(recorder.sent) == 3)
    camera.close()
    bordered = picture(recorder.sent[2])
    assert bordered[:, :30].max() < 3
    assert np.abs(bordered[24, 56].astype(int) - QUARTERS[0]).max() < 7


def test_a_camera_that_fails_is_opened_again_and_says_why(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "RETRY_S", 0.05)
    camera = opened(recorder, tmp_path)
    recorder.failures = 1
    camera.offer(live(frame_of(quarters())))
    assert until(lambda: camera.status().message)
    assert "taken away" in str(camera.status().message)
    camera.offer(live(frame_of(quarters()), seq=1))
    assert until(lambda: camera.status().shown == 1)
    assert (len(recorder.opened), recorder.closed) == (2, 1)
    assert camera.status().message is None
    camera.close()
    assert recorder.closed == 2


def test_a_camera_that_was_never_shown_anything_is_given_back(
    recorder: Recorder, tmp_path: Path
) -> None:
    camera = opened(recorder, tmp_path)
    camera.close()
    camera.close()
    assert recorder.closed == 1


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("Could not access /dev/video10 due to missing permissions.", "usermod -a -G video"),
        ("Virtual camera device /dev/video10 could not be configured: busy", "devices=2"),
    ],
)
def test_a_camera_that_does_not_open_names_the_line_that_mends_it(
    recorder: Recorder, tmp_path: Path, reason: str, advice: str
) -> None:
    recorder.error = reason
    with pytest.raises(DeviceError) as refused:
        opened(recorder, tmp_path)
    assert advice in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
def test_a_missing_driver_is_told_from_one_that_is_not_loaded(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.error = "No v4l2 loopback device found at /dev/video[0-99]."
    with pytest.raises(DeviceError, match="not installed; sudo apt install v4l2loopback-dkms"):
        opened(recorder, tmp_path)
    modules = tmp_path / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("extra/v4l2loopback.ko:\n")
    with pytest.raises(DeviceError, match="not loaded; sudo modprobe v4l2loopback devices=1"):
        opened(recorder, tmp_path)
    (tmp_path / "sys/module/v4l2loopback").mkdir(parents=True)
    with pytest.raises(DeviceError, match="no device; sudo modprobe -r v4l2loopback"):
        opened(recorder, tmp_path)


def test_a_size_that_another_program_holds_is_refused(recorder: Recorder, tmp_path: Path) -> None:
    recorder.device = "/dev/video10"
    add_loopback(tmp_path, held="YU12:640x480@30")
    with pytest.raises(DeviceError, match=r"locked to 640x480 .* use --size 640x480"):
        opened(recorder, tmp_path)
    assert recorder.closed == 1
    camera = opened(recorder, tmp_path, (640, 480))
    camera.close()


def test_a_device_that_browsers_pass_over_is_noted(recorder: Recorder, tmp_path: Path) -> None:
    recorder.device = "/dev/video10"
    add_loopback(tmp_path, exclusive="N")
    camera = opened(recorder, tmp_path)
    assert "browsers will not offer /dev/video10" in str(camera.note)
    camera.close()
    (tmp_path / "sys/module/v4l2loopback/parameters/exclusive_caps").write_text("Y\n")
    assert camera.note is None


def test_it_is_watched_only_while_a_program_reads_it(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_camera, "LOOK_S", 0.02)
    recorder.device = "/dev/video10"
    add_loopback(tmp_path)
    add_opener(tmp_path, None, "/dev/video10", flags=os.O_WRONLY)
    set_opens(tmp_path, 1)
    camera = opened(recorder, tmp_path)
    assert until(lambda: not camera.watched)
    add_opener(tmp_path, 4711, "/dev/video10")
    assert until(lambda: camera.watched)
    camera.close()


def test_without_news_from_the_system_it_counts_as_watched(
    recorder: Recorder, tmp_path: Path
) -> None:
    camera = opened(recorder, tmp_path)
    assert camera.watched
    camera.close()


def test_our_own_label_is_preferred_and_then_what_is_free(tmp_path: Path) -> None:
    made = Recorder(error="not now")
    add_loopback(tmp_path, 1, label="OBS", held="YU12:640x480@30")
    add_loopback(tmp_path, 2, label="other")
    kept = dict(pyvirtualcam.camera.BACKENDS)
    pyvirtualcam.camera.BACKENDS.clear()
    try:
        made.register("only")
        with pytest.raises(DeviceError):
            VirtualCamera(SIZE, 30.0, root=tmp_path)
        add_loopback(tmp_path, 7, label="mien", held="YU12:640x480@30")
        with pytest.raises(DeviceError):
            VirtualCamera(SIZE, 30.0, root=tmp_path)
    finally:
        pyvirtualcam.camera.BACKENDS.clear()
        pyvirtualcam.camera.BACKENDS.update(kept)
    assert [settings["device"] for settings in made.opened] == ["/dev/video2", "/dev/video7"]


def test_the_camera_that_frames_come_from_is_never_written_to(tmp_path: Path) -> None:
    add_loopback(tmp_path, 0, label="phone")
    with pytest.raises(DeviceError, match=r"/dev/video0 is the camera itself.*devices=2"):
        VirtualCamera(SIZE, 30.0, avoid="/dev/video0", root=tmp_path)


@pytest.mark.skipif(
    not loopback_devices(), reason="this machine has no v4l2loopback device to write to"
)
def test_a_real_loopback_device_takes_frames() -> None:
    free = [device for device in loopback_devices() if device.format is None]
    if not free:
        pytest.skip("every v4l2loopback device of this machine is in use")
    camera = VirtualCamera(SIZE, 30.0, device=str(free[0].path))
    camera.offer(live(frame_of(quarters())))
    assert until(lambda: camera.status().shown == 1), camera.status().message
    held = [device.format for device in loopback_devices() if device.path == free[0].path]
    camera.close()
    assert held[0] is not None
    assert held[0].size_wh == SIZE
