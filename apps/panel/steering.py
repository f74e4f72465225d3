"""Between the panel's messages and a live loop: what they change, and how the loop reports.

Reports use the words of the page.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final, Protocol

from mien.apps.panel import protocol
from mien.apps.panel.guard import Rate
from mien.apps.panel.presets import Presets
from mien.apps.panel.protocol import (
    ApplyPreset,
    Change,
    ClientMessage,
    Delay,
    DeletePreset,
    Faces,
    Hello,
    MethodChoice,
    OutputState,
    Ping,
    Pong,
    Preset,
    Preview,
    SavePreset,
    SeenFace,
    ServerMessage,
    Source,
    State,
    Stats,
    target_of,
    weights_of,
)
from mien.engines.errors import UsageError
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.outputs.output import Output
from mien.runtime.live.sources.source import Source as LiveSource
from mien.runtime.live.values import LiveFace, LiveStats
from mien.runtime.methods import method_specs
from mien.runtime.spec import MethodSpec
from mien.runtime.target import EMOTIONS, MAX_STRENGTH, prompted_target

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
        """Send frames there too from now on."""
        ...

    def remove_output(self, output: Output) -> None:
        """Offer it no frame any more."""
        ...

    def use_source(self, source: LiveSource) -> LiveSource:
        """The source until now, paused and not closed; frames come from the other one now."""
        ...


class Steering:
    """Carries out messages; used in the server's thread.

    An intensity is remembered while there is no target to give it to.
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
            methods={name: _gans(spec) for name, spec in _editing().items()},
            method_help={name: spec.help for name, spec in _editing().items()},
            method_options={name: _options(spec) for name, spec in _editing().items()},
            hotkeys=HOTKEYS,
            presets=self.presets.all(),
            state=self.state(),
        )

    def state(self) -> State:
        """How everything is set."""
        now = self._controls.snapshot()
        return State(
            target=weights_of(None if now.prompt else now.target),
            intensity=self._intensity_of(now),
            face=int(now.face) if now.face.isdigit() else _word(now.face),
            method=now.method,
            gan=_gan(now),
            options=dict(now.options),
            paused=now.paused,
            mark=now.mark,
            browser_camera=self.browser_camera,
            emotions=now.emotions,
            own=now.own,
            scales_own=now.scales_own,
            prompt=now.prompt,
            takes_prompt=now.takes_prompt,
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
            for name in ("face", "method", "options", "paused", "mark", "own")
            if (value := getattr(change, name)) is not None
        }
        if change.gan is not None:
            kept = dict(now.options) if change.method in (None, now.method) else {}
            changes["options"] = {**changes.get("options", kept), "gan": change.gan}
        options = changes.get("options", dict(now.options))
        if changes.get("method", now.method) != now.method or options != dict(now.options):
            self._count_method()
        intensity = self._intensity_of(now)
        intensity = intensity if change.intensity is None else change.intensity
        if change.prompt is not None and change.target is not None:
            raise UsageError("give either target or prompt")
        if change.prompt is not None:
            changes["target"] = prompted_target(change.prompt, intensity) if change.prompt else None
        elif change.target is not None:
            changes["target"] = target_of(change.target, intensity)
        elif change.intensity is not None and now.target is not None:
            changes["target"] = replace(now.target, strength=intensity)
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


def _editing() -> dict[str, MethodSpec]:
    """The methods that edit faces, by name."""
    return {name: spec for name, spec in method_specs().items() if not spec.makes_faces}


def _gans(spec: MethodSpec) -> tuple[str, ...]:
    """The generators a method can be run with; the first is the one it takes by itself."""
    return next((option.values for option in spec.options if option.name == "gan"), ())


def _gan(state: ControlState) -> str | None:
    told = dict(state.options).get("gan")
    return None if told is None else str(told)


def _options(spec: MethodSpec) -> tuple[MethodChoice, ...]:
    """What can be set of a method, in the words of the pages."""
    return tuple(
        MethodChoice(option.name, option.help, option.values, option.bounds, option.choice)
        for option in spec.options
    )


# What the runtime says to people at a terminal, and what it is on the page.
_PAGE_WORDS: Final = (
    (
        re.compile(r"the machine is too slow: (\S+) of the frames are dropped.*"),
        (
            r"This computer is too slow: \1 of the frames are dropped. Close other programs, or "
            r"edit the largest face only"
        ),
    ),
    (
        re.compile(r"the machine is too slow: faces are looked for less often(, previews .*)?"),
        "This computer is at its limit: to keep the video fluid, faces are looked for less often",
    ),
    (re.compile(r"this frame is shown as it came: (.*)"), r"The video is left unchanged: \1"),
)
_PLAIN: Final = (("cannot be had now,", "is not available now;"), (" is held", " stays"))
# An option or a command of the terminal.
_TERMINAL: Final = r"(?:--[a-z][\w-]*|\bmien (?:[a-z][\w-]*)\b|\bpip install\b)"
# The part of a line about it, to the end of the sentence.
_TERMINAL_PART: Final = re.compile(
    rf"(?:\s*[;,:]\s+(?:or |and )?|\s+(?:or|and)\s+)?[^;,:()]*{_TERMINAL}[^;()]*"
)
_SEE_MORE: Final = " (the terminal where mien runs says more)"


def page_text(text: str) -> str:
    """What a line for the terminal says to somebody at the page, which has no options."""
    for pattern, words in _PAGE_WORDS:
        if found := pattern.fullmatch(text):
            text = found.expand(words)
            break
    for words, plain in _PLAIN:
        text = text.replace(words, plain)
    if not re.search(_TERMINAL, text):
        return text
    rest = re.sub(r"\s*\(\s*\)", "", _TERMINAL_PART.sub("", text)).strip(" ;,:")
    return (rest or "this does not work") + _SEE_MORE


def page_notices(messages: Iterable[str], adaptations: Iterable[str]) -> tuple[str, ...]:
    """What the page shows of messages and adaptations: one line for one thing.

    What was given up to keep pace is left out where the machine is too slow all the same, and of
    lines that differ in nothing but numbers, or in who says it, the first is kept.
    """
    told = [page_text(text) for text in messages]
    if not any(text.startswith("This computer") for text in told):
        told += [page_text(text) for text in adaptations]
    found: dict[str, str] = {}
    for text in told:
        key = re.sub(r"[\d.]+", "#", text)
        if not any(key.endswith(other) or other.endswith(key) for other in found):
            found[key] = text
    return tuple(found.values())


def stats_message(stats: LiveStats, preview: Preview, message: str | None) -> Stats:
    """The message of the loop's stats; `message` is the panel's own to people, if any."""
    facts = stats.source
    messages = stats.messages if message is None else (*stats.messages, message)
    return Stats(
        state=stats.state,
        uptime_s=round(stats.uptime_s, 1),
        capture_fps=round(stats.capture_fps, 1),
        output_fps=round(stats.output_fps, 1),
        dropped=stats.dropped,
        dropped_share=round(stats.recent_dropped_share, 4),
        delay_ms=Delay(
            median=_tenths(stats.delay.median_ms),
            p95=_tenths(stats.delay.p95_ms),
            last=_tenths(stats.delay.last_ms),
        ),
        preview=preview,
        source=Source(
            name=facts.name,
            size_wh=facts.size_wh,
            rate=None if facts.rate is None else round(float(facts.rate), 3),
            pixel_format=facts.pixel_format,
        ),
        outputs=tuple(
            OutputState(
                output.name,
                output.shown,
                output.dropped,
                None if output.message is None else page_text(output.message),
            )
            for output in stats.outputs
        ),
        providers=stats.providers,
        adaptations=stats.adaptations,
        messages=tuple(page_text(text) for text in messages),
        notices=page_notices(messages, stats.adaptations),
        stages_ms=_stages_ms(stats, preview),
        bypassed=stats.is_bypassed,
    )


def _stages_ms(stats: LiveStats, preview: Preview) -> dict[str, float]:
    stages_ms = {name: round(stage_ms, 2) for name, stage_ms in stats.stages_ms.items()}
    if preview.encode_ms is not None:
        stages_ms["encode"] = preview.encode_ms
    return stages_ms


def faces_message(stats: LiveStats) -> Faces:
    """The message of the faces in view."""
    width, height = stats.frame_size_wh
    if not width or not height:
        return Faces(())
    return Faces(tuple(_seen(face, width, height) for face in stats.faces))


def _seen(face: LiveFace, width: int, height: int) -> SeenFace:
    x0, y0, x1, y1 = face.box
    box = (_share(x0, width), _share(y0, height), _share(x1, width), _share(y1, height))
    return SeenFace(face.number, box, face.is_edited)


def _share(place: float, whole: int) -> float:
    return round(min(1.0, max(0.0, float(place) / whole)), 4)


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
