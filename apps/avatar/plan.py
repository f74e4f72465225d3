"""What `mien avatar run` is to do. Nothing heavy is imported before it is known to be good."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mien.apps.camera.plan import NO_VIRTUAL, OutputPlan, PanelPlan
from mien.engines.errors import UsageError
from mien.runtime.avatar.adapters.link import parse_link
from mien.runtime.avatar.motion import IdleSettings
from mien.runtime.target import Target

MAX_EASE_S = 60.0


@dataclass(frozen=True, slots=True)
class AvatarPlan:
    """A picture, how it is to live, and where it is shown.

    target: the expression to begin with, None for the picture's own. speech: a sound file, `-` for
    standard input, None for none. links: addresses of `open_link`. socket: None for one in the
    user's runtime folder. seconds: end after that long, None for never. max_memory: bytes that
    reading the picture may take.
    Raises UsageError for what makes no sense.
    """

    picture: Path
    target: Target | None
    ease_s: float
    speech: str | None
    links: tuple[str, ...]
    size_wh: tuple[int, int]
    rate: Fraction
    idle: IdleSettings
    socket: Path | None
    outputs: OutputPlan
    panel: PanelPlan
    mark: bool
    provider: str
    models: Path | None
    seconds: float | None
    max_memory: int

    def __post_init__(self) -> None:
        if not 0 <= self.ease_s <= MAX_EASE_S:
            raise UsageError(f"--ease must lie in 0..{MAX_EASE_S:g} s, not {self.ease_s:g}")
        if self.rate > 120:
            raise UsageError(f"--rate must lie in 0..120 for an avatar, not {float(self.rate):g}")
        for link in self.links:
            parse_link(link)
        if self.outputs.device is not None and self.outputs.virtual == NO_VIRTUAL:
            raise UsageError("--device names a virtual camera, which --no-virtual leaves out")
