"""`mien avatar`: `create`, which is `mien face`, and the options and plan of `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps import options
from mien.apps.avatar.plan import AvatarPlan
from mien.apps.boundary import Commands
from mien.apps.camera.command import (
    BareVirtual,
    Device,
    Listen,
    Mark,
    NoVirtual,
    Overwrite,
    PemFile,
    Pipe,
    PipeFormat,
    Port,
    Record,
    Seconds,
    Virtual,
    Window,
)
from mien.apps.camera.plan import OutputPlan, PanelPlan, parse_rate, parse_size, virtual_way
from mien.apps.face.command import face as create
from mien.engines.system.limits import parse_memory

avatar = Commands(rich_markup_mode=None)


@avatar.callback()
def _avatar() -> None:
    """Make a face from a sentence, and show one alive."""


avatar.command("create")(create)  # `mien face`, where who wants an avatar looks for it

FacePicture = Annotated[Path, typer.Argument(metavar="FACE", help="A picture of one face.")]
Emotion = Annotated[
    str, typer.Option(metavar=options.EMOTIONS, help="To begin with; none is the picture's own.")
]
Intensity = Annotated[float, typer.Option(metavar=options.STRENGTHS, help="How strongly.")]
Ease = Annotated[float, typer.Option(metavar="S", help="How long a change of expression takes.")]
Speech = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-|pulse[:SOURCE]",
        help="Sound that the lips follow; - reads it from standard input, which then takes no "
        "commands, pulse from the microphone or another source of PulseAudio or PipeWire. It is "
        "not played.",
        show_default=False,
    ),
]
Link = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS",
        help="Another program to speak with, such as vmc-in://127.0.0.1:39539; may be given more "
        "than once (docs/avatar.md).",
        show_default=False,
    ),
]
Size = Annotated[
    str, typer.Option(metavar="WxH", help="What the picture is fitted into; never enlarged.")
]
Rate = Annotated[float, typer.Option(metavar="HZ", help="Frames a second.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of all idle motion.")]
Amount = Annotated[float, typer.Option(metavar="0..3", help="0 for none, 1 for the usual amount.")]
Blinks = Annotated[float, typer.Option(metavar="N", help="A minute, 0..60.")]
Socket = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Where the local socket for commands lies; by default in the user's runtime folder.",
        show_default=False,
    ),
]
Panel = Annotated[
    bool, typer.Option("--panel/--no-panel", help="A page that shows and steers it, by WebRTC.")
]


@avatar.command(cls=BareVirtual)
def run(
    face: FacePicture,
    emotion: Emotion = "none",
    intensity: Intensity = 1.0,
    ease: Ease = 0.45,
    speech: Speech = None,
    link: Link = None,
    size: Size = "512x512",
    rate: Rate = 30.0,
    seed: Seed = 7,
    sway: Amount = 1.0,
    breath: Amount = 1.0,
    gaze: Amount = 1.0,
    blinks: Blinks = 14.0,
    socket: Socket = None,
    virtual: Virtual = None,
    no_virtual: NoVirtual = False,
    device: Device = None,
    record: Record = None,
    pipe: Pipe = None,
    pipe_format: PipeFormat = "y4m",
    window: Window = False,
    panel: Panel = False,
    port: Port = 8765,
    listen: Listen = "127.0.0.1",
    certificate: PemFile = None,
    key: PemFile = None,
    mark: Mark = False,
    provider: options.Provider = "cpu",
    models: options.Models = None,
    overwrite: Overwrite = False,
    seconds: Seconds = None,
    max_memory: options.MaxMemory = options.MEMORY,
) -> None:
    """Hold a face and show it alive, steered by lines of JSON (docs/avatar.md)."""
    from mien.runtime.avatar.motion import IdleSettings
    from mien.runtime.target import parse_goal

    way = virtual_way(virtual, no_virtual=no_virtual)
    plan = AvatarPlan(
        picture=face,
        target=parse_goal(emotion, options.checked_strength(intensity)),
        ease_s=ease,
        speech=speech,
        links=tuple(link or ()),
        size_wh=parse_size(size),
        rate=parse_rate(rate),
        idle=IdleSettings(seed, sway, breath, gaze, blinks),
        socket=socket,
        outputs=OutputPlan(way, device, record, pipe, pipe_format, window, overwrite),
        panel=PanelPlan(panel, port, listen, certificate, key),
        mark=mark,
        provider=provider,
        models=options.folders(models),
        seconds=seconds,
        max_memory=parse_memory(max_memory),
    )

    from mien.apps.avatar.run import run_avatar

    raise typer.Exit(run_avatar(plan))
