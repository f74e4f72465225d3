"""A camera that comes, goes, hangs and returns; the devices are scripted."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest

from mien.engines.errors import DeviceError, UsageError
from mien.runtime.live.sources.camera import CameraSource
from mien.runtime.live.sources.source import CaptureOptions, NewestFrame, PushSource
from tests.runtime.live.stand_ins import FACTS, PATIENCE_S, FakeDevice, wait_until, yuv_frame


def device_with(*levels: int) -> FakeDevice:
    device = FakeDevice()
    device.give(*(yuv_frame(level) for level in levels))
    return device


def level_of(source: CameraSource, after: int = -1) -> int:
    captured = source.newest(after, PATIENCE_S)
    assert captured is not None
    return int(captured.frame.planes[0].samples[0, 0])


def test_only_the_newest_frame_is_held_and_has_its_time() -> None:
    slot = NewestFrame()
    assert slot.newest(-1, 0.001) is None
    for level in (10, 20, 30):
        slot.put(yuv_frame(level), 5.25 + level)
    captured = slot.newest(-1, 0.001)
    assert captured is not None
    assert (captured.index, captured.captured_s, captured.frame.time_s) == (2, 35.25, 35.25)
    assert captured.frame.planes[0].samples[0, 0] == 30
    assert slot.newest(captured.index, 0.001) is None


def test_who_waits_gets_the_next_frame_and_is_released_at_the_end() -> None:
    slot, got = NewestFrame(), []
    thread = threading.Thread(target=lambda: got.append(slot.newest(-1, PATIENCE_S)))
    thread.start()
    slot.put(yuv_frame(), 1.0)
    thread.join()
    assert got[0].index == 0
    thread = threading.Thread(target=lambda: got.append(slot.newest(0, PATIENCE_S)))
    thread.start()
    slot.close()
    thread.join()
    assert got[1] is None


def test_a_camera_that_is_unplugged_holds_its_last_frame_and_comes_back() -> None:
    first, second = device_with(10), device_with()
    back, tried = threading.Event(), threading.Event()
    opened = []

    def opener() -> FakeDevice:
        opened.append(len(opened))
        if len(opened) == 1:
            return first
        if not back.is_set():
            tried.set()
            raise DeviceError("there is no camera /dev/video0")
        return second

    source = CameraSource(opener, retry_s=0.01, silent_s=PATIENCE_S)
    before = source.newest(-1, 0)
    assert before is not None
    assert source.message is None
    first.give(DeviceError("the camera was unplugged"))
    assert tried.wait(PATIENCE_S)
    wait_until(lambda: source.message and "cannot be had now" in source.message)
    assert first.closed.is_set()
    assert source.newest(-1, 0) is before
    assert source.newest(before.index, 0) is None  # and it is not given as new
    back.set()
    second.give(yuv_frame(20))
    assert level_of(source, after=before.index) == 20
    assert source.message is None
    assert len(opened) >= 3
    source.close()
    assert second.closed.is_set()


def test_a_camera_that_gives_nothing_at_first_is_an_error() -> None:
    device = FakeDevice()
    with pytest.raises(DeviceError, match=r"gives no frames for 0\.05 seconds"):
        CameraSource(lambda: device, silent_s=0.05)
    assert device.closed.is_set()


def test_a_camera_that_fails_at_first_says_why() -> None:
    device = FakeDevice()
    device.give(DeviceError("the cable is loose"))
    with pytest.raises(DeviceError, match="the cable is loose"):
        CameraSource(lambda: device, retry_s=60, silent_s=0.5)


def test_a_driver_that_raises_something_of_its_own_is_tried_again() -> None:
    devices = [device_with(10), device_with(20)]
    opened: list[FakeDevice] = []

    def opener() -> FakeDevice:
        if len(opened) == 1:
            opened.append(devices[1])
            raise RuntimeError("out of buffers")
        opened.append(devices[min(len(opened), 1)])
        return opened[-1]

    source = CameraSource(opener, retry_s=0.01, silent_s=PATIENCE_S)
    devices[0].give(RuntimeError("a fault of the driver"))
    assert level_of(source, after=0) == 20
    assert len(opened) == 3
    source.close()


def test_a_camera_that_falls_silent_is_reported() -> None:
    device = device_with(10)
    source = CameraSource(lambda: device, silent_s=0.3)
    wait_until(lambda: source.message)
    assert source.message is not None
    assert "gives no frames" in source.message
    assert level_of(source) == 10
    device.give(yuv_frame(20))
    assert level_of(source, after=0) == 20
    source.close()


def test_a_pause_lets_the_camera_go_and_the_end_of_it_takes_it_again() -> None:
    devices = [device_with(10), device_with(20)]
    opened: list[FakeDevice] = []

    def opener() -> FakeDevice:
        opened.append(devices[len(opened)])
        return opened[-1]

    source = CameraSource(opener, silent_s=PATIENCE_S)
    source.pause()
    assert devices[0].closed.wait(PATIENCE_S)
    assert len(opened) == 1
    wait_until(lambda: source.newest(-1, 0) is None)  # an old picture is not given later
    assert source.message is None
    source.resume()
    assert level_of(source) == 20
    source.close()


def test_a_pause_that_ends_at_once_does_no_harm() -> None:
    opened: list[FakeDevice] = []

    def opener() -> FakeDevice:
        opened.append(device_with(10, 20))
        return opened[-1]

    source = CameraSource(opener, retry_s=60, silent_s=PATIENCE_S)
    for _ in range(20):
        source.pause()
        source.resume()
    opened[-1].give(yuv_frame(30))
    captured = source.newest(-1, PATIENCE_S)
    assert captured is not None
    assert source.message is None
    source.close()
    source.close()


def test_pushed_frames_are_a_source_too() -> None:
    source = PushSource(FACTS)
    source.push(yuv_frame(size_wh=(32, 16)), 2.0)
    captured = source.newest(-1, 0)
    assert captured is not None
    assert (captured.index, captured.frame.time_s, source.facts.size_wh) == (0, 2.0, (32, 16))
    source.pause()
    source.push(yuv_frame())
    assert source.newest(-1, 0) is None
    source.resume()
    source.push(yuv_frame())
    captured = source.newest(-1, 0)
    assert captured is not None
    assert captured.index == 1
    source.message = "the page was closed"
    assert source.message == "the page was closed"
    source.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_wh": (0, 720)}, "no size of 0x720"),
        ({"rate": Fraction(0)}, "rate of 0"),
        ({"format": "h264"}, "unknown camera format 'h264'"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CaptureOptions(**settings)  # type: ignore[arg-type]


def test_options_say_what_was_asked_for() -> None:
    assert str(CaptureOptions()) == "1280x720 at 30, auto"
    assert str(CaptureOptions(None, None, "yuyv")) == "any size, yuyv"
