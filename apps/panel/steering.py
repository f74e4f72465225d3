"""What messages do to a live loop, and how the loop is told about."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, Protocol

from mien.apps.panel import protocol
from mien.apps.panel.places import Rate
from mien.apps.panel.presets import Presets
from mien.apps.panel.protocol import (
    ApplyPreset,
    Change,
    ClientMessage,
    DeletePreset,
    Hello,
    Ping,
    Pong,
    Preset,
    SavePreset,
    ServerMessage,
    State,
    target_of,
    weights_of,
)
from mien.engines.errors import UsageError
from mien.engines.networks import GANS, MODES
from mien.runtime import methods
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.outputs.output import Output
from mien.runtime.live.sources.source import Source
from mien.runtime.live.values import LiveStats
from mien.runtime.target import EMOTIONS, MAX_STRENGTH

# Making the networks of another method takes the processor from the filter.
_METHODS_A_SECOND: Final = 0.5
_METHODS_AT_ONCE: Final = 6
HOTKEYS: Final[Mapping[str, str]] = {
    **{str(place): emotion for place, emotion in enumerate(EMOTIONS, start=1)},
    "0": "none",
    "b": "before/after",
    "+": "more intensity",
    "-": "less intensity",
    "?": "help",
}


class Loop(Protocol):
    """What the panel needs of a live loop; every method may be called from any thread."""

    @property
    def controls(self) -> Controls: ...

    def stats(self) -> LiveStats:
        """How it is doing."""
        ...

    def add_output(self, output: Output) -> None:
        """Let frames go there too from now on."""
        ...

    def remove_output(self, output: Output) -> None:
        """Offer it no frame any more."""
        ...

    def use_source(self, source: Source) -> Source:
        """The source until now, paused and not closed; frames come from the other one now."""
        ...


class Steering:
    """Carries out messages; used in the server's thread.

    An intensity is remembered while there is no target to carry it.
    """

    def __init__(self, controls: Controls, presets: Presets) -> None:
        self._controls, self.presets = controls, presets
        self._lock = threading.Lock()
        self._methods = Rate(_METHODS_A_SECOND, _METHODS_AT_ONCE)
        target = controls.snapshot().target
        self._intensity = 1.0 if target is None else target.strength
        self.browser_camera = False

    def hello(self) -> Hello:
        """The first message to somebody who has come."""
        return Hello(
            version=protocol.VERSION,
            mien=version("mien"),
            emotions=EMOTIONS,
            max_intensity=MAX_STRENGTH,
            methods={name: _gans(name) for name in methods.method_names()},
            hotkeys=HOTKEYS,
            presets=self.presets.all(),
            state=self.state(),
        )

    def state(self) -> State:
        """How everything is set."""
        now = self._controls.snapshot()
        return State(
            target=weights_of(now.target),
            intensity=self._intensity_of(now),
            face=int(now.face) if now.face.isdigit() else _word(now.face),
            method=now.method,
            gan=now.gan,
            paused=now.paused,
            mark=now.mark,
            browser_camera=self.browser_camera,
            emotions=now.emotions,
            own=now.own,
            scales_own=now.scales_own,
        )

    def do(self, message: ClientMessage) -> tuple[ServerMessage | None, asyncio.Task[None] | None]:
        """The answer to who sent it, and what is being done for it yet. Both raise UsageError."""
        if isinstance(message, Ping):
            return Pong(message.t), None
        if isinstance(message, DeletePreset):
            return None, self.presets.delete(message.name)
        if isinstance(message, SavePreset):
            return None, self.presets.save(self._preset(message))
        if isinstance(message, ApplyPreset):
            preset = self.presets.get(message.name)
            message = Change(target=preset.target, intensity=preset.intensity)
        self._change(message)
        return None, None

    def _intensity_of(self, state: ControlState) -> float:
        with self._lock:
            if state.target is not None:
                self._intensity = state.target.strength
            return self._intensity

    def _change(self, change: Change) -> None:
        now = self._controls.snapshot()
        changes: dict[str, Any] = {
            name: value
            for name in ("face", "method", "gan", "paused", "mark", "own")
            if (value := getattr(change, name)) is not None
        }
        if change.method is not None and change.gan is None:
            changes["gan"] = None  # a generator belongs to its method
        method = changes.get("method", now.method), changes.get("gan", now.gan)
        if method != (now.method, now.gan):
            self._count_method()
        intensity = self._intensity_of(now)
        if change.target is not None or change.intensity is not None:
            weights = weights_of(now.target) if change.target is None else change.target
            intensity = intensity if change.intensity is None else change.intensity
            changes["target"] = target_of(weights, intensity)
        self._controls.update(**changes)
        with self._lock:
            self._intensity = intensity

    def _count_method(self) -> None:
        if wait_s := self._methods.wait_s():
            raise UsageError(f"the method changes too often; wait {wait_s:.0f} s")
        self._methods.take()

    def _preset(self, message: SavePreset) -> Preset:
        state = self.state()
        target = state.target if message.target is None else message.target
        target = weights_of(target_of(target, 1.0))
        intensity = state.intensity if message.intensity is None else message.intensity
        return Preset(message.name, target, intensity)


def _word(face: str) -> protocol.Face:
    return "largest" if face == "largest" else "all"


def _gans(method: str) -> tuple[str, ...]:
    """The generators a method can be run with; the first is the one it takes by itself."""
    return GANS if method in MODES else ()
