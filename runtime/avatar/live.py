"""An avatar as live video has its parts: a source that gives the beat, and a filter that draws.

So every output, the panel and its WebRTC, and `mien set` serve an avatar as they serve a camera.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np

from mien.engines.errors import UsageError
from mien.runtime.avatar.avatar import EASE_S, Avatar
from mien.runtime.avatar.protocol import Command
from mien.runtime.avatar.speech import Mouth
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.sources.source import NewestFrame
from mien.runtime.live.values import Captured, SourceFacts
from mien.runtime.methods.base import Goal
from mien.runtime.target import Target, goal_text, shortened

LEAST_SHOWN: Final = 0.005  # of an emotion; below it is none
LATE_S: Final = 0.25  # a beat that is later than this is left out, and the next counts from now


class BeatSource:
    """Gives the still picture at a steady rate: when the avatar is to be drawn."""

    def __init__(self, name: str, frame: Frame, rate: Fraction) -> None:
        self._frame = frame
        self._facts = SourceFacts(name, (frame.width, frame.height), rate, "yuv420p", "")
        self._newest = NewestFrame()
        self._is_running, self._ended = threading.Event(), threading.Event()
        self._is_running.set()
        self._newest.put(frame, time.monotonic())
        self._thread = threading.Thread(target=self._beat, name="mien-beat", daemon=True)
        self._thread.start()

    @property
    def facts(self) -> SourceFacts:
        """The picture's size and the rate."""
        return self._facts

    @property
    def message(self) -> str | None:
        """None: a clock does not fail."""
        return None

    def newest(self, after: int, timeout_s: float) -> Captured | None:
        """As of `Source`."""
        return self._newest.newest(after, timeout_s)

    def pause(self) -> None:
        """Rest while nobody watches."""
        self._is_running.clear()

    def resume(self) -> None:
        """Go on."""
        self._is_running.set()

    def close(self) -> None:
        """End the beat."""
        self._ended.set()
        self._is_running.set()
        self._newest.close()
        self._thread.join(1.0)

    def _beat(self) -> None:
        step_s = float(1 / (self._facts.rate or 30))
        due_s = time.monotonic()
        while not self._ended.is_set():
            self._is_running.wait()
            now_s = time.monotonic()
            due_s = due_s + step_s if due_s + step_s > now_s - LATE_S else now_s
            if self._ended.wait(max(0.0, due_s - now_s)):
                return
            self._newest.put(self._frame, time.monotonic())


@dataclass(frozen=True, slots=True)
class DrawTimes:
    """How long the last frame took. last_ms: milliseconds by stage."""

    last_ms: dict[str, float]


class AvatarFilter:
    """Draws an avatar where a camera's filter would edit; the attributes are those of `Filter`."""

    def __init__(self, avatar: Avatar, ease_s: float = EASE_S) -> None:
        """ease_s: how long a change of expression takes; it may be set at any time."""
        self._avatar = avatar
        self.target: Target | None = None
        self.own = 1.0
        self.face: Any = "all"
        self.detection_spacing = 1.0
        self.faces: tuple[Face, ...] = (avatar.still.face,)
        self.edited: tuple[int, ...] = (avatar.still.face.track_id,)
        self.numbers = {avatar.still.face.track_id: 1}
        self.timings = DrawTimes({"draw": 0.0})
        self.ease_s = ease_s

    @property
    def goals(self) -> dict[int, Goal]:
        """The expression that the face has reached, none where it is the picture's own."""
        mix = self._avatar.mix
        strength = float(mix.sum())
        if strength < LEAST_SHOWN:
            return {}
        (number,) = self.numbers
        return {number: Goal((mix / strength).astype(np.float32), strength)}

    @property
    def providers(self) -> dict[str, str]:
        """What runs the networks."""
        return dict(self._avatar.providers)

    def apply(self, frame: Frame) -> Frame:
        """The living face at the frame's time."""
        began_s = time.perf_counter()
        if self.target != self._avatar.target:
            self._avatar.express(self.target, self.ease_s)
        drawn = self._avatar.frame_at(frame.time_s or 0.0)
        self.faces = (self._avatar.face,)
        self.timings = DrawTimes({"draw": 1e3 * (time.perf_counter() - began_s)})
        return replace(drawn, pts=frame.pts, time_base=frame.time_base)

    def reset(self) -> None:
        """Do nothing: an avatar has no video to forget."""

    def close(self) -> None:
        """Close the avatar."""
        self._avatar.close()


class AvatarControls(Controls):
    """The controls of an avatar: it moves by one method, and its own expression is the picture's.

    Raises UsageError, also for another method, for options of one and for `own`.
    """

    def update(self, **changes: object) -> ControlState:
        """As of `Controls`, for what an avatar has."""
        method = changes.get("method", "warp")
        if method != "warp":
            raise UsageError(f"an avatar moves by the method warp, not by {shortened(method)}")
        if changes.get("options"):
            raise UsageError("an avatar has no options of a method; leave them out")
        if changes.get("own", 1.0) != 1.0:
            raise UsageError("an avatar shows its picture's own expression as it is: own is 1")
        return super().update(**changes)


class Steering:
    """What the protocol's commands act on: a running avatar and its controls."""

    def __init__(self, avatar: Avatar, controls: Controls, drawn: AvatarFilter) -> None:
        self._avatar, self._controls, self._filter = avatar, controls, drawn
        self._lock = threading.Lock()
        self._strength = 1.0
        self._look: tuple[float, float] | None = None

    def __call__(self, command: Command) -> dict[str, Any]:
        """The state after a command. Raises UsageError, and then nothing has changed."""
        now_s = time.monotonic()
        with self._lock:
            if command.say is not None:
                self._avatar.lips.say(command.say, now_s)
            if command.mouth is not None:
                self._avatar.lips.put(now_s, Mouth(*command.mouth))
            self._express(command)
            if command.blink:
                self._avatar.blink(now_s)
            if command.looks:
                self._look = command.look
                self._avatar.look(command.look, now_s)
            target = self._controls.snapshot().target
            return {
                "emotion": goal_text(target),
                "intensity": self._strength if target is None else target.strength,
                "ease": self._filter.ease_s,
                "look": self._look,
            }

    def _express(self, command: Command) -> None:
        if command.ease_s is not None:
            self._filter.ease_s = command.ease_s
        if command.intensity is not None:
            self._strength = command.intensity
        target = command.target if command.expresses else self._controls.snapshot().target
        if command.expresses or command.intensity is not None:
            if target is not None:
                target = replace(target, strength=self._strength)
            self._controls.update(target=target)
