"""What a page or a script and the panel's server say to each other on `/ws`.

Every message is one JSON object with a `type`; a dataclass here is a message, its fields are the
object's. The server speaks first, with `hello`. Each message that cannot be read or done is
answered with an `error` of its own, in the order in which they came, and changes nothing; the third
in a row that cannot be read closes the connection. Whoever is connected counts as a viewer: the
camera is not released meanwhile. Fields may be added; none is renamed or removed within a version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Final, Literal, TypeAlias

from mien.engines.errors import UsageError
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, Target

VERSION: Final = 1

Face: TypeAlias = Literal["all", "largest"] | int


class ProtocolError(UsageError):
    """A message that makes no sense; its text is fit to be sent back."""


@dataclass(frozen=True, slots=True)
class State:
    """How everything is set now.

    target: a weight 0..1 for each of the eight emotions, their sum at most 1; all 0 leave faces as
    they are.
    intensity: 0..1.5. face: `all`, `largest`, or a number from 1 on. options: what the method is
    told beside its own choices, by name. gan: the option of that name, else None. paused: whether
    the original is shown. mark: whether the watermark `AI-edited` is drawn. browser_camera: whether
    a browser, or a program by WHIP, is the camera now.
    emotions: those that the method in use can make; a target with another one is answered with
    `error`, and the target stays as it was. While another method is being opened, all eight; where
    it turns out that it cannot make the target, the method stays as it was.
    own: how much of the person's own expression is shown, 0.25 (soft) to 1.5 (amplified); 1 leaves
    it. scales_own: whether the method can show another than 1; one that it cannot is answered with
    `error`.
    prompt: the expression in words, in the place of `target`, whose weights are 0 then; empty where
    there is none. takes_prompt: whether the method reads one. What it cannot read is told in the
    messages of `stats`, and the expression stays as it was.
    """

    type: ClassVar[str] = "state"
    target: Mapping[str, float]
    intensity: float
    face: Face
    method: str
    gan: str | None
    paused: bool
    mark: bool
    browser_camera: bool
    emotions: tuple[str, ...] = EMOTIONS
    own: float = 1.0
    scales_own: bool = True
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    prompt: str = ""
    takes_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A named expression; target and intensity as in `State`."""

    name: str
    target: Mapping[str, float]
    intensity: float


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """An option of a method: the words it may be, or the least and the most of a number.

    default: the method's own choice.
    """

    name: str
    help: str
    values: tuple[str, ...]
    bounds: tuple[float, float] | None
    default: OptionValue | None


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of the server.

    emotions: the eight, in the order of their hotkeys. methods: the names of methods by which
    generators (`gan`) each has. method_help, method_options: what each method does, and what it can
    be told. hotkeys: what a key does, by key. max_intensity: the upper end.
    """

    type: ClassVar[str] = "hello"
    version: int
    mien: str
    emotions: tuple[str, ...]
    max_intensity: float
    methods: Mapping[str, tuple[str, ...]]
    hotkeys: Mapping[str, str]
    presets: tuple[Preset, ...]
    state: State
    method_help: Mapping[str, str] = field(default_factory=dict)
    method_options: Mapping[str, tuple[MethodChoice, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Presets:
    """All presets, sent to everybody after one was saved or deleted."""

    type: ClassVar[str] = "presets"
    presets: tuple[Preset, ...]


@dataclass(frozen=True, slots=True)
class Delay:
    """Milliseconds from the camera to an output; None before there was a frame."""

    median: float | None
    p95: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What the browser gets: frames a second, their size, and from camera to encoded picture.

    encode_ms: how long encoding one of its pictures takes; None while nobody looks.
    """

    fps: float
    size_wh: tuple[int, int] | None
    delay_ms: float | None
    encode_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The camera, as it was opened; rate in frames a second, None where unknown."""

    name: str
    size_wh: tuple[int, int]
    rate: float | None
    pixel_format: str


@dataclass(frozen=True, slots=True)
class OutputState:
    """One place that frames go to; message: what is wrong with it, if anything."""

    name: str
    shown: int
    dropped: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How it goes, twice a second.

    state: `starting`, `running`, `idle` (nobody watches, the camera is released) or `stopped`.
    capture_fps, output_fps, dropped_share, delay_ms: over the last ten seconds; dropped: since
    the start. providers: what really runs each network, by network.
    adaptations: what was reduced because the machine is too slow. messages: what people should
    know, such as an unplugged camera. notices: both as the page shows them, one line for one thing.
    stages_ms: how long the stages of a frame take: `decode` where the camera sends compressed
    frames, the filter's own, and `encode` (a picture for browsers) while somebody looks.
    bypassed: whether frames are shown unedited because the filter failed on them.
    """

    type: ClassVar[str] = "stats"
    state: str
    uptime_s: float
    capture_fps: float
    output_fps: float
    dropped: int
    dropped_share: float
    delay_ms: Delay
    preview: Preview
    source: Source
    outputs: tuple[OutputState, ...]
    providers: Mapping[str, str]
    adaptations: tuple[str, ...]
    messages: tuple[str, ...]
    notices: tuple[str, ...] = ()
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    bypassed: bool = False


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face in view.

    number: what chooses it (`face`). box: left, top, right, bottom as shares of the picture as it
    is shown, 0..1. edited: whether it was changed.
    """

    number: int
    box: tuple[float, float, float, float]
    edited: bool


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces in view, sent when they have moved, ten times a second at most."""

    type: ClassVar[str] = "faces"
    faces: tuple[SeenFace, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message was not done, in one line; the type is `error`."""

    type: ClassVar[str] = "error"
    text: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping, with its `t` given back."""

    type: ClassVar[str] = "pong"
    t: float


ServerMessage: TypeAlias = Hello | State | Stats | Faces | Presets | Refusal | Pong


@dataclass(frozen=True, slots=True)
class Change:
    """New settings; the type is `set`. None leaves a setting as it is.

    target: replaces all weights; missing emotions get 0, weights that sum to more than 1 are
    scaled down; an empty one (in JSON also null) leaves faces as they are. own: 0.25..1.5, as of
    `State`; presets leave it as it is. options: of the method, all that it is told; gan: the
    option of that name, which leaves the others. Another method without options takes its own
    choices. prompt: the expression in words, instead of `target`; an empty one leaves faces as they
    are.
    """

    type: ClassVar[str] = "set"
    target: Mapping[str, float] | None = None
    intensity: float | None = None
    face: Face | None = None
    method: str | None = None
    gan: str | None = None
    paused: bool | None = None
    mark: bool | None = None
    own: float | None = None
    options: Mapping[str, OptionValue] | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class SavePreset:
    """Saves the present expression under a name, or the one that is given."""

    type: ClassVar[str] = "preset_save"
    name: str
    target: Mapping[str, float] | None = None
    intensity: float | None = None


@dataclass(frozen=True, slots=True)
class DeletePreset:
    """Deletes a preset."""

    type: ClassVar[str] = "preset_delete"
    name: str


@dataclass(frozen=True, slots=True)
class ApplyPreset:
    """Sets target and intensity of a preset."""

    type: ClassVar[str] = "preset_apply"
    name: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a pong with the same number."""

    type: ClassVar[str] = "ping"
    t: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """The body of a POST to `/offer`, answered with `{"type": "answer", "sdp": ...}`.

    camera: whether the video the offer sends is to become the camera.
    """

    type: ClassVar[str] = "offer"
    sdp: str
    camera: bool = False


ClientMessage: TypeAlias = Change | SavePreset | DeletePreset | ApplyPreset | Ping


def encode(message: ServerMessage | ClientMessage | Offer) -> str:
    """A message as JSON; settings of a Change that are None are left out."""
    fields = asdict(message)
    if isinstance(message, Change | SavePreset):
        fields = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"type": message.type, **fields}, separators=(",", ":"), allow_nan=False)


def target_of(weights: Mapping[str, float], intensity: float) -> Target | None:
    """The target of a mix; None where no emotion has any weight."""
    total = sum(weights.values())
    if total <= 0:
        return None
    scale = 1 / total if total > 1 else 1.0
    return Target(tuple(weights.get(emotion, 0.0) * scale for emotion in EMOTIONS), intensity)


def weights_of(target: Target | None) -> dict[str, float]:
    """The weight of each of the eight emotions."""
    if target is None:
        return dict.fromkeys(EMOTIONS, 0.0)
    return dict(zip(EMOTIONS, target.weights, strict=True))
