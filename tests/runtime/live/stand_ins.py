"""Cameras, filters and outputs without a camera, networks and a screen."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from mien.engines.errors import DeviceError
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.sources.source import DeviceFrame, PushSource
from mien.runtime.live.values import LiveFrame, OutputStatus, SourceFacts
from mien.runtime.methods.base import Goal
from mien.runtime.target import Target

FACTS = SourceFacts("a camera", (64, 48), Fraction(30), "yuv420p", "64x48 at 30, auto")
PATIENCE_S = 30.0  # before something that should happen is taken for not happening


def wait_until(condition: Callable[[], object]) -> None:
    """Wait generously for a condition; fail the test where it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)


def yuv_frame(level: int = 100, size_wh: tuple[int, int] = (64, 48)) -> Frame:
    width, height = size_wh
    planes = (
        Plane(np.full((height, width), level, np.uint8), (1, 1)),
        Plane(np.full((height // 2, width // 2), 120, np.uint8), (2, 2)),
        Plane(np.full((height // 2, width // 2), 140, np.uint8), (2, 2)),
    )
    return Frame(planes, PixelLayout("yuv"), width, height)


def live_frame(index: int = 0, captured_s: float | None = None) -> LiveFrame:
    frame = yuv_frame()
    when = time.monotonic() if captured_s is None else captured_s
    return LiveFrame(frame, frame, index, when, (), (), index)


def a_face(track_id: int = 1) -> Face:
    points = np.stack([np.linspace(10, 40, 106), np.linspace(8, 30, 106)], -1)
    return Face(track_id, points.astype(np.float32), 0.9, 1.0)


class CountedSource(PushSource):
    """A source that is pushed frames, and counts how it is treated."""

    def __init__(self) -> None:
        super().__init__(FACTS)
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")
        super().pause()

    def resume(self) -> None:
        self.calls.append("resume")
        super().resume()

    def close(self) -> None:
        self.calls.append("close")
        super().close()


@dataclass(frozen=True)
class FakeTimes:
    last_ms: Mapping[str, float] = field(default_factory=lambda: {"edit": 1.5})


class FakeFilter:
    """Makes luma brighter by one where it has a target; it can be held up and made to fail."""

    def __init__(self, name: str = "first") -> None:
        self.name = name
        self.target: Target | None = None
        self.own = 1.0
        self.face: str | int = "all"
        self.detection_spacing = 1.0
        self.faces: tuple[Face, ...] = ()
        self.edited: tuple[int, ...] = ()
        self.numbers = {1: 1}
        self.goals: dict[int, Goal] = {}
        self.providers = {"warp": "cpu"}
        self.timings = FakeTimes()
        self.seen: list[tuple[float | None, Target | None]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.closed = False

    def apply(self, frame: Frame) -> Frame:
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        assert not self.closed
        self.seen.append((frame.time_s, self.target))
        if self.error is not None:
            raise self.error
        self.faces = (a_face(),)
        self.edited = () if self.target is None else (1,)
        self.goals = {}
        if self.target is not None:  # half way to what is asked for
            self.goals[1] = Goal(self.target.vector(), self.target.strength / 2, self.own)
        if self.target is None:
            return frame
        first = frame.planes[0]
        brighter = Plane(first.samples + np.uint8(1), first.subsampling_xy)
        return replace(frame, planes=(brighter, *frame.planes[1:]))

    def reset(self) -> None:
        self.seen.clear()

    def close(self) -> None:
        self.closed = True


class Recorder:
    """An output that keeps what it gets."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.watched = True
        self.frames: list[LiveFrame] = []
        self.closed = 0

    def offer(self, frame: LiveFrame) -> None:
        self.frames.append(frame)

    def status(self) -> OutputStatus:
        return OutputStatus(self.name, len(self.frames), 0, None)

    def close(self) -> None:
        self.closed += 1


class SlowOutput(ThreadedOutput):
    """Shows a frame when the test lets it."""

    close_s = 0.1

    def __init__(self, name: str = "slow") -> None:
        super().__init__(name)
        self.entered, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.indices: list[int] = []
        self.error: Exception | None = None
        self.calls: list[str] = []

    def _show(self, frame: LiveFrame) -> None:
        self.entered.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.indices.append(frame.index)

    def _recover(self) -> None:
        self.calls.append("recover")

    def _finish(self) -> None:
        self.calls.append("finish")


class FakeDevice:
    """A camera that gives what the test puts: a frame, or an error to raise."""

    def __init__(self, facts: SourceFacts = FACTS) -> None:
        self.facts = facts
        self.script: queue.Queue[Frame | Exception] = queue.Queue()
        self.closed = threading.Event()

    def give(self, *items: Frame | Exception) -> None:
        for item in items:
            self.script.put(item)

    def read(self) -> DeviceFrame:
        item = self.script.get(timeout=PATIENCE_S)
        if isinstance(item, Exception):
            raise item
        return DeviceFrame(item, time.monotonic())

    def interrupt(self) -> None:
        self.script.put(DeviceError("interrupted"))

    def close(self) -> None:
        self.closed.set()
