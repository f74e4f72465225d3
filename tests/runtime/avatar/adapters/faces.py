"""Frames of a live loop with a face in them, and who is steered in the place of an avatar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mien.engines import Catalog
from mien.runtime.avatar.avatar import Avatar, StillFace, read_still
from mien.runtime.avatar.live import AvatarFilter
from mien.runtime.avatar.motion import IdleSettings
from mien.runtime.avatar.protocol import Command
from mien.runtime.live.values import Applied, LiveFrame
from mien.runtime.pictures.picture import read_picture

PORTRAIT = Path(__file__).parents[4] / "apps" / "sample" / "portrait.jpg"
AT_REST = IdleSettings(sway=0, breath=0, gaze=0, blinks=0)


def portrait(size: int = 128) -> StillFace:
    return read_still(read_picture(PORTRAIT), (size, size), Catalog.bundled())


def still_avatar(still: StillFace) -> Avatar:
    return Avatar(still, Catalog.bundled(), idle=AT_REST)


def live_frame(avatar: Avatar, time_s: float) -> LiveFrame:
    """The avatar at a time, as a live loop hands it out."""
    drawn = AvatarFilter(avatar)
    frame = avatar.frame_at(time_s)
    goals = tuple(drawn.goals.items())
    return LiveFrame(
        frame=frame,
        original=frame,
        index=0,
        captured_s=time.monotonic(),
        faces=(avatar.face,),
        edited=(),
        seq=0,
        applied=Applied(goals=goals),
    )


class Heard:
    """Takes commands in the place of an avatar."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._came = threading.Condition()

    def __call__(self, command: Command) -> dict[str, Any]:
        with self._came:
            self.commands.append(command)
            self._came.notify_all()
        return {"count": len(self.commands)}

    def wait_for(self, wanted: Callable[[Command], bool]) -> Command:
        """The first command that is wanted; fails where none comes."""
        with self._came:
            assert self._came.wait_for(lambda: any(map(wanted, self.commands)), 20)
            return next(filter(wanted, self.commands))


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so; fail where it never is."""
    ends_s = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def noise(seed: int, count: int) -> list[bytes]:
    chance = np.random.default_rng(seed)
    return [chance.bytes(int(size)) for size in chance.integers(1, 300, count)]
