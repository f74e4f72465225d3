"""`mien camera`: its options. Nothing heavy is imported before they are known to be good."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.engines.errors import UsageError

if TYPE_CHECKING:
    from mien.runtime.target import Target

MAX_DELAY_MS = 5000.0


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Where the video goes. virtual: None takes a virtual camera where one works."""

    virtual: bool | None = None
    device: str | None = None
    record: Path | None = None
    pipe: str | None = None
    pipe_format: str = "y4m"
    window: bool = False
    overwrite: bool = False


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
    """What `mien camera` is to do. target: None leaves faces alone until the panel says more.

    size_wh, rate: None asks a camera for what a call wants. seconds: end after that long, None for
    never.
    """

    source: str
    target: Target | None
    face: str
    method: str
    gan: str | None
    size_wh: tuple[int, int] | None
    rate: Fraction | None
    format: str
    outputs: OutputPlan
    panel: PanelPlan
    delay_ms: float
    adaptive: bool
    mark: bool
    provider: str
    models: Path | None
    seconds: float | None


def camera(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Option(
            metavar="CAMERA|FILE",
            help="0, /dev/video2, csi:0, or a video or picture that stands in for a camera.",
        ),
    ] = "0",
    emotion: Annotated[
        str | None,
        typer.Option(metavar="NAME|MIX", help="As for `mien edit`; the panel can change it."),
    ] = None,
    intensity: Annotated[float, typer.Option(metavar="0..1.5", help="How strongly.")] = 1.0,
    face: Annotated[
        str, typer.Option(metavar="all|largest|N", help="Which faces to edit.")
    ] = "all",
    method: Annotated[str, typer.Option(metavar="NAME", help="How faces are edited.")] = "warp",
    gan: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of a method's generators.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="What a camera is asked for; by default 1280x720."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Frames a second at most; a camera is asked for 30."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="auto|mjpeg|yuyv", help="As the camera sends them.")
    ] = "auto",
    virtual: Annotated[
        bool | None,
        typer.Option(
            "--virtual/--no-virtual",
            help="A camera for call programs; by default where one works.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which virtual camera: /dev/video10, or its name."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record into .mp4, .mkv, .mov or .webm.")
    ] = None,
    pipe: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Raw frames for another program.")
    ] = None,
    pipe_format: Annotated[
        str, typer.Option(metavar="y4m|yuv420p|rgb24", help="What goes into the pipe.")
    ] = "y4m",
    window: Annotated[bool, typer.Option("--window", help="Show a window.")] = False,
    panel: Annotated[
        bool | None,
        typer.Option(
            "--panel/--no-panel",
            help="A page to steer it with; by default where its packages are installed.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="Where the panel answers.")] = 8765,
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Other than this machine asks for --certificate and --key."
        ),
    ] = "127.0.0.1",
    certificate: Annotated[Path | None, typer.Option(metavar="PEM")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM")] = None,
    delay: Annotated[
        float, typer.Option(metavar="MS", help="Hold frames back, to be in step with sound.")
    ] = 0.0,
    adaptive: Annotated[
        bool,
        typer.Option("--adaptive/--no-adaptive", help="Give detail up where time is short."),
    ] = True,
    mark: Annotated[bool, typer.Option("--mark", help="Show AI-edited in a corner.")] = False,
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="What runs the networks: cpu, cuda, ...")
    ] = "cpu",
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with models of your own.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a recording that exists.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(metavar="T", help="End after so many seconds.", min=0.1)
    ] = None,
    list_them: Annotated[
        bool, typer.Option("--list", help="List the cameras there are, and stop.")
    ] = False,
) -> None:
    """Edit a camera's picture live, for call programs, and steer it from a page."""
    if list_them:
        from mien.apps.camera_list import print_cameras

        raise typer.Exit(print_cameras())
    plan = CameraPlan(
        source=source,
        target=_target(emotion, intensity),
        face=face,
        method=method,
        gan=gan,
        size_wh=None if size is None else parse_size(size),
        rate=None if rate is None else _rate(rate),
        format=form,
        outputs=OutputPlan(virtual, device, record, pipe, pipe_format, window, overwrite),
        panel=PanelPlan(panel, port, listen, certificate, key),
        delay_ms=_delay(delay),
        adaptive=adaptive,
        mark=mark,
        provider=provider,
        models=models,
        seconds=seconds,
    )
    if device is not None and virtual is False:
        raise UsageError("--device names a virtual camera, which --no-virtual leaves out")

    from mien.apps.camera_run import run_camera

    raise typer.Exit(run_camera(plan, context.obj))


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `1280x720`. Raises UsageError."""
    width, cross, height = text.lower().replace("*", "x").partition("x")
    if not (cross and width.isascii() and width.isdigit() and height.isascii()):
        raise UsageError(f"--size must be such as 1280x720, not {text!r}")
    if not height.isdigit():
        raise UsageError(f"--size must be such as 1280x720, not {text!r}")
    return int(width), int(height)


def _target(emotion: str | None, intensity: float) -> Target | None:
    from mien.runtime.target import MAX_STRENGTH, parse_target

    if not 0 <= intensity <= MAX_STRENGTH:
        raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {intensity:g}")
    return None if emotion is None else parse_target(emotion, intensity)


def _rate(rate: float) -> Fraction:
    if not 0 < rate <= 1000:
        raise UsageError(f"--rate must lie in 0..1000 frames a second, not {rate:g}")
    return Fraction(rate).limit_denominator(1001)


def _delay(delay_ms: float) -> float:
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise UsageError(f"--delay must lie in 0..{MAX_DELAY_MS:g} ms, not {delay_ms:g}")
    return delay_ms
