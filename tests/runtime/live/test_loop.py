"""The whole loop: pushed frames and real files in, recorded frames out."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mien.engines.errors import DeviceError, EngineError, ModelError, UsageError
from mien.runtime import Filter
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.outputs.output import Output
from mien.runtime.live.sources.camera import CameraSource
from mien.runtime.live.sources.source import open_source
from mien.runtime.live.values import LiveFrame
from tests.runtime.live.stand_ins import (
    PATIENCE_S,
    CountedSource,
    FakeDevice,
    FakeFilter,
    Recorder,
    SlowOutput,
    wait_until,
    yuv_frame,
)

SAMPLE = Path(__file__).parents[3] / "apps" / "sample" / "sample.mp4"


class Set:
    """A loop on fakes, and what it is made of."""

    def __init__(self, *outputs: Output, **settings: object) -> None:
        self.source, self.filter, self.out = CountedSource(), FakeFilter(), Recorder()
        self.controls = Controls(target="happy")
        settings = {"idle_after_s": PATIENCE_S, **settings}
        self.loop = LiveLoop(
            self.source,
            lambda state: self.filter,
            (self.out, *outputs),
            self.controls,
            **settings,  # type: ignore[arg-type]
        )

    def push(self, level: int = 100) -> LiveFrame:
        """The frame as it came out."""
        count = len(self.out.frames)
        self.source.push(yuv_frame(level))
        wait_until(lambda: len(self.out.frames) > count)
        return self.out.frames[-1]


@contextmanager
def running(*outputs: Output, **settings: object) -> Iterator[Set]:
    made = Set(*outputs, **settings)
    with made.loop:
        yield made


def luma(frame: LiveFrame) -> int:
    return int(frame.frame.planes[0].samples[0, 0])


def assert_in_order(frames: list[LiveFrame]) -> None:
    """Each frame once, in the order of capture, counted without a gap."""
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    for earlier, later in itertools.pairwise(frames):
        assert earlier.index < later.index
        assert earlier.captured_s < later.captured_s


def test_every_frame_goes_out_once_edited_and_in_order() -> None:
    with running() as made:
        shown = [made.push(level) for level in (10, 20, 30, 40)]
        stats = made.loop.stats()
    assert [luma(frame) for frame in shown] == [11, 21, 31, 41]
    assert [int(frame.original.planes[0].samples[0, 0]) for frame in shown] == [10, 20, 30, 40]
    assert_in_order(made.out.frames)
    assert (stats.captured, stats.shown, stats.dropped, stats.state) == (4, 4, 0, "running")
    assert stats.frame_size_wh == (64, 48)
    assert stats.delay.last_ms is not None
    assert (stats.method, stats.providers, stats.stages_ms) == (
        "warp",
        {"warp": "cpu"},
        {"edit": 1.5},
    )
    (face,) = stats.faces
    assert (face.track_id, face.number, face.is_edited) == (1, 1, True)
    assert (stats.messages, stats.adaptations) == ((), ())
    assert made.filter.closed
    assert made.out.closed == 1
    assert made.source.calls == ["close"]
    assert made.loop.stats().state == "stopped"


def test_a_slow_filter_drops_frames_counts_them_and_takes_the_newest() -> None:
    with running() as made:
        made.filter.gate.clear()
        made.source.push(yuv_frame(10))
        assert made.filter.entered.acquire(timeout=PATIENCE_S)
        for level in (20, 30, 40, 50):
            made.source.push(yuv_frame(level))
        made.filter.gate.set()
        wait_until(lambda: len(made.out.frames) == 2)
        made.push(60)
        stats = made.loop.stats()
    assert [luma(frame) for frame in made.out.frames] == [11, 51, 61]
    assert [frame.index for frame in made.out.frames] == [0, 4, 5]
    assert_in_order(made.out.frames)
    assert (stats.captured, stats.shown, stats.dropped) == (6, 3, 3)
    assert stats.dropped_share == 0.5


def test_a_slow_output_slows_neither_the_filter_nor_the_others() -> None:
    slow = SlowOutput()
    with running(slow) as made:
        for level in range(20):
            made.push(level)
        assert slow.entered.acquire(timeout=PATIENCE_S)
        assert slow.status().shown == 0
        slow.gate.release()
        assert slow.entered.acquire(timeout=PATIENCE_S)
        slow.gate.release()
        wait_until(lambda: slow.status().shown >= 2)
        stats = made.loop.stats()
    assert (stats.shown, stats.dropped) == (20, 0)
    assert slow.indices[1] == 19  # the newest
    assert {status.name: status.dropped for status in stats.outputs}["slow"] == 18


def test_an_output_that_raises_is_reported_and_the_others_go_on() -> None:
    class Raising(Recorder):
        broken = True

        def offer(self, frame: LiveFrame) -> None:
            if self.broken:
                raise ValueError("no")
            super().offer(frame)

    raising, failing = Raising("raising"), SlowOutput("failing")
    failing.error = OSError("the pipe is broken")
    failing.gate.release()
    with running(raising, failing) as made:
        for level in range(5):
            made.push(level)
        wait_until(lambda: failing.status().message)
        assert set(made.loop.stats().messages) == {
            "raising: ValueError: no",
            "failing: OSError: the pipe is broken",
        }
        raising.broken = False
        made.push()
        wait_until(lambda: raising.frames)
        assert "raising: ValueError: no" not in made.loop.stats().messages
    assert len(made.out.frames) == 6


def test_an_output_that_hangs_does_not_hold_up_the_end() -> None:
    hanging = SlowOutput()
    with running(hanging) as made:
        made.push()
    assert made.loop.stats().state == "stopped"
    hanging.gate.release()


def test_without_anybody_watching_the_camera_is_released() -> None:
    made = Set(idle_after_s=0.01)
    made.out.watched = False
    with made.loop:
        wait_until(lambda: made.source.calls == ["pause"])
        wait_until(lambda: made.loop.stats().state == "idle")
        made.source.push(yuv_frame())  # thrown away: the camera is off
        made.out.watched = True
        wait_until(lambda: made.source.calls == ["pause", "resume"])
        made.push(10)
        assert made.loop.stats().state == "running"
        assert made.loop.stats().dropped == 0
        made.out.watched = False
        wait_until(lambda: made.source.calls == ["pause", "resume", "pause"])
    assert [luma(frame) for frame in made.out.frames] == [11]


def test_an_output_that_comes_later_wakes_the_loop_and_can_leave_again() -> None:
    made = Set(idle_after_s=0.01)
    made.out.watched = False
    late = Recorder("late")
    with made.loop:
        wait_until(lambda: made.source.calls == ["pause"])
        made.loop.add_output(late)
        wait_until(lambda: made.source.calls == ["pause", "resume"])
        made.push()
        wait_until(lambda: late.frames)
        assert [status.name for status in made.loop.stats().outputs] == ["recorder", "late"]
        made.out.watched = True
        made.loop.remove_output(late)
        count = len(late.frames)
        made.push()
        assert len(late.frames) == count
    assert late.closed == 0


def test_before_and_after_the_mark_and_the_target_are_at_hand() -> None:
    with running() as made:
        assert luma(made.push(10)) == 11
        made.controls.update(paused=True, mark=True)
        frame = made.push(10)
        assert frame.frame is frame.original  # neither edit nor watermark
        made.controls.update(paused=False)
        marked = made.push(10)
        assert luma(marked) == 11
        assert (marked.frame.planes[0].samples[-8:, -30:] != 11).any()
        made.controls.update(target=None)
        frame = made.push(10)
        assert frame.frame is frame.original  # nothing is edited, so nothing is marked


def test_frames_are_held_back_in_order_and_within_bounds() -> None:
    with running(delay_ms=5000) as made:
        for level in range(200):
            made.source.push(yuv_frame(level))
            made.filter.entered.acquire(timeout=PATIENCE_S)
        assert made.out.frames == []
        assert len(made.loop._line or ()) <= 152
        assert made.loop.stats().delay_asked_ms == 5000
    with running(delay_ms=1) as made:
        for level in range(20):
            made.push(level)
        assert_in_order(made.out.frames)


def test_a_lower_rate_leaves_frames_out_that_are_not_counted_as_dropped() -> None:
    made = Set(rate=10)
    began = 1000.0
    with made.loop:
        for index in range(31):
            made.source.push(yuv_frame(index), began + index / 30)
            wait_until(lambda: made.loop._before == index)  # noqa: B023
        wait_until(lambda: len(made.out.frames) >= 11)
        stats = made.loop.stats()
    assert [luma(frame) - 1 for frame in made.out.frames] == list(range(0, 31, 3))
    assert (stats.shown, stats.dropped) == (11, 0)


def test_what_a_slow_filter_misses_counts_only_where_the_rate_had_room_for_it() -> None:
    made, go_on = Set(rate=10), threading.Semaphore(0)
    made.filter.gate.wait = lambda timeout: go_on.acquire(timeout=timeout)  # type: ignore[method-assign, assignment]

    def push_while_busy(*indices: int) -> None:
        assert made.filter.entered.acquire(timeout=PATIENCE_S)
        for index in indices:
            made.source.push(yuv_frame(index), 1000 + index / 30)
        go_on.release()

    with made.loop:
        made.source.push(yuv_frame(0), 1000.0)
        push_while_busy(1, 2)
        wait_until(lambda: made.loop._before == 2)  # looked at, and left out
        made.source.push(yuv_frame(3), 1000.1)
        push_while_busy(4, 5, 6)
        push_while_busy(7, 8, 9, 10, 11, 12)
        push_while_busy()
        wait_until(lambda: len(made.out.frames) == 4)
        stats = made.loop.stats()
    assert [luma(frame) - 1 for frame in made.out.frames] == [0, 3, 6, 12]
    assert (stats.captured, stats.shown, stats.dropped) == (5, 4, 1)


def test_a_frame_that_another_source_took_before_is_not_shown_after() -> None:
    other, now_s = CountedSource(), time.monotonic()
    other.push(yuv_frame(20), now_s - 1)
    with running() as made:
        made.push(10)
        made.loop.use_source(other)
        wait_until(lambda: made.loop._before == 0)
        other.push(yuv_frame(30))
        wait_until(lambda: len(made.out.frames) == 2)
    assert [luma(frame) for frame in made.out.frames] == [11, 31]
    assert_in_order(made.out.frames)


def test_another_source_while_nobody_watches_is_not_switched_on() -> None:
    made, other = Set(idle_after_s=0.01), CountedSource()
    made.out.watched = False
    with made.loop:
        wait_until(lambda: made.loop.stats().state == "idle")
        made.loop.use_source(other)
        assert other.calls == ["pause"]
        made.out.watched = True
        wait_until(lambda: other.calls == ["pause", "resume"])


def test_another_source_takes_over_and_back() -> None:
    other = CountedSource()
    with running() as made:
        made.push(10)
        made.push(20)
        assert made.loop.use_source(other) is made.source
        assert made.loop.source is other
        assert made.source.calls == ["pause"]
        other.push(yuv_frame(30))
        wait_until(lambda: len(made.out.frames) == 3)
        assert made.loop.use_source(made.source) is other
        made.push(40)
        stats = made.loop.stats()
    assert [luma(frame) for frame in made.out.frames] == [11, 21, 31, 41]
    assert_in_order(made.out.frames)
    assert (stats.dropped, stats.shown) == (0, 4)


def test_a_frame_that_cannot_be_edited_is_shown_as_it_came_and_told() -> None:
    with running() as made:
        made.filter.error = EngineError("the run failed")
        assert luma(made.push(10)) == 10
        assert "this frame is shown as it came: the run failed" in made.loop.stats().messages
        made.filter.error = None
        assert luma(made.push(10)) == 11
        assert made.loop.stats().messages == ()


def test_a_fault_in_the_filter_ends_the_loop_and_is_raised() -> None:
    made = Set()
    made.filter.error = ZeroDivisionError("a fault")
    made.loop.start()
    made.source.push(yuv_frame())
    with pytest.raises(ZeroDivisionError, match="a fault"):
        made.loop.join(PATIENCE_S)
    assert (made.out.closed, made.source.calls) == (1, ["close"])


def test_a_filter_that_cannot_be_made_is_raised_at_the_start() -> None:
    source, out = CountedSource(), Recorder()

    def fail(state: ControlState) -> FakeFilter:
        raise ModelError("cannot read the model")

    with pytest.raises(ModelError, match="cannot read"), LiveLoop(source, fail, [out], Controls()):
        pytest.fail("it must not start")
    assert (out.closed, source.calls) == (1, ["close"])


@pytest.mark.parametrize("settings", [{"delay_ms": -1}, {"rate": 0}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Set(**settings)


def test_a_loop_that_was_never_started_can_be_closed() -> None:
    made = Set()
    made.loop.stop()
    assert made.loop.join()
    assert (made.out.closed, made.source.calls) == (1, ["close"])


def test_frames_are_released_however_long_it_runs() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    with running() as made:
        for level in range(150):
            frame = yuv_frame(level)
            alive.append(weakref.ref(frame.planes[0].samples))
            made.source.push(frame)
            wait_until(lambda: made.out.frames)
            made.out.frames.clear()
        del frame
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= 4


def test_a_camera_that_is_unplugged_is_reported_and_goes_on_when_back() -> None:
    devices = [FakeDevice(), FakeDevice()]
    opened: list[FakeDevice] = []

    def opener() -> FakeDevice:
        opened.append(devices[len(opened)])
        return opened[-1]

    devices[0].give(yuv_frame(10))
    out = Recorder()
    source = CameraSource(opener, retry_s=0.05, silent_s=PATIENCE_S)
    with LiveLoop(source, lambda state: FakeFilter(), [out], Controls(target="happy")) as loop:
        wait_until(lambda: len(out.frames) == 1)
        devices[0].give(DeviceError("the camera was unplugged"))
        wait_until(lambda: "the camera was unplugged" in loop.stats().messages)
        wait_until(lambda: len(opened) == 2)
        assert len(out.frames) == 1  # the last frame is not shown again as a new one
        devices[1].give(yuv_frame(20))
        wait_until(lambda: len(out.frames) == 2)
        assert loop.stats().messages == ()
    assert_in_order(out.frames)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_signal_while_it_ends_does_not_keep_an_output_from_its_end() -> None:
    class Slow(Recorder):
        has_ended = False

        def close(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            super().close()
            self.has_ended = True

    slow = Slow()
    with pytest.raises(KeyboardInterrupt), running(slow) as made:
        made.push(10)
    assert slow.has_ended


def test_a_clip_runs_through_the_real_filter(clip: Callable[..., Path]) -> None:
    controls, out = Controls(target="happy", mark=True), Recorder()
    source = open_source(str(SAMPLE))
    with LiveLoop(source, lambda state: Filter(None, method=state.method), [out], controls) as loop:
        wait_until(lambda: any(frame.edited for frame in list(out.frames)))
        stats = loop.stats()
    assert_in_order(out.frames)
    assert stats.source.name == "sample.mp4"
    assert set(stats.providers) == {"detector", "landmarks", "warp", "occlusion"}
    frame = next(frame for frame in out.frames if frame.edited)
    assert (frame.frame.planes[0].samples != frame.original.planes[0].samples).any()
    left, top, right, bottom = stats.faces[0].box
    assert 0 < left < right < stats.frame_size_wh[0]
    assert 0 < top < bottom < stats.frame_size_wh[1]


def test_a_clip_that_changes_its_size_goes_on(clip: Callable[..., Path]) -> None:
    small = open_source(str(clip("small.mp4", frames=6, rate=Fraction(50), size_wh=(96, 64))))
    large = open_source(str(clip("large.mp4", frames=6, rate=Fraction(50), size_wh=(192, 128))))
    out, controls = Recorder(), Controls(target="happy", mark=True)
    with LiveLoop(small, lambda state: Filter(None), [out], controls) as loop:
        wait_until(lambda: len(out.frames) >= 4)
        loop.use_source(large)
        wait_until(lambda: loop.stats().frame_size_wh == (192, 128))
    small.close()
    assert_in_order(out.frames)
