"""What `mien camera` is to do. Nothing heavy is imported before it is known to be good."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mien.engines.errors import UsageError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.spec import FilterSpec

if TYPE_CHECKING:
    from mien.runtime.target import Target

MAX_DELAY_MS = 5000.0
MAX_SIDE = 16_384
VIRTUAL_WAYS = ("auto", "pipewire", "v4l2")
NO_VIRTUAL = "none"
SIZE = re.compile(r"([0-9]{1,5})[xX*]([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Where the video goes.

    virtual: of VIRTUAL_WAYS, the way that has to work; None takes a virtual camera where one does,
    and NO_VIRTUAL none.

    record_dry: a recording of what the camera gave. log: a line for each frame. links: addresses
    of other programs, as of `open_link`, that are sent what a face shows.
    """

    virtual: str | None = None
    device: str | None = None
    record: Path | None = None
    pipe: str | None = None
    pipe_format: str = "y4m"
    window: bool = False
    overwrite: bool = False
    record_dry: Path | None = None
    log: Path | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PanelPlan:
    """How the panel is served. wanted: None serves it where its packages are installed."""

    wanted: bool | None = None
    port: int = 8765
    listen: str = "127.0.0.1"
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """What `mien camera` is to do. target: None leaves faces alone until somebody says more.

    face: which, as in `--face`; it stands here, for the panel can change it. filter: its other
    settings, to begin with. size_wh, rate: None asks a camera for what a call wants, and leaves a
    file its own size. seconds: end after that long, None for never.
    max_memory: bytes that a file in a camera's place may take, by the sizes it states.
    is_goal_given: whether something was asked for, and be it none. own: as of `Filter`.
    is_marked: whether edited faces get the watermark, and a recording is signed.
    """

    source: str
    target: Target | None
    face: str
    filter: FilterSpec
    size_wh: tuple[int, int] | None
    rate: Fraction | None
    format: str
    outputs: OutputPlan
    panel: PanelPlan
    delay_ms: float
    adaptive: bool
    mark: bool
    seconds: float | None
    max_memory: int = MAX_MEMORY
    is_goal_given: bool = False
    own: float = 1.0
    is_marked: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise UsageError(f"--delay must lie in 0..{MAX_DELAY_MS:g} ms, not {self.delay_ms:g}")
        if self.outputs.device is not None and self.outputs.virtual == NO_VIRTUAL:
            raise UsageError("--device names a virtual camera, which --no-virtual leaves out")


def virtual_way(virtual: str | None, *, no_virtual: bool) -> str | None:
    """What two options say of the virtual camera, as of OutputPlan. Raises UsageError."""
    if virtual is not None and virtual not in VIRTUAL_WAYS:
        known = ", ".join(VIRTUAL_WAYS)
        raise UsageError(f"unknown way of a virtual camera {virtual[:40]!r} (known: {known})")
    if no_virtual and virtual is not None:
        raise UsageError("give either --virtual or --no-virtual")
    return NO_VIRTUAL if no_virtual else virtual


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `1280x720`. Raises UsageError."""
    sides = SIZE.fullmatch(text)
    if sides is None or not all(0 < int(side) <= MAX_SIDE for side in sides.groups()):
        raise UsageError(f"--size must be such as 1280x720, up to {MAX_SIDE}, not {text[:40]!r}")
    return int(sides[1]), int(sides[2])


def parse_rate(rate: float) -> Fraction:
    """Frames a second. Raises UsageError."""
    if not 0 < rate <= 1000:
        raise UsageError(f"--rate must lie in 0..1000 frames a second, not {rate:g}")
    return Fraction(rate).limit_denominator(1001)
