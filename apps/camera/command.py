"""`mien camera`: its options, the plan they make, and the table of `--list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.apps import options
from mien.apps.boundary import FileCommand
from mien.apps.camera.plan import (
    VIRTUAL_WAYS,
    CameraPlan,
    OutputPlan,
    PanelPlan,
    parse_rate,
    parse_size,
    virtual_way,
)
from mien.apps.options import checked_own, checked_strength
from mien.engines.errors import UsageError, one_line
from mien.engines.system.limits import parse_memory
from mien.runtime.methods import method_spec
from mien.runtime.spec import DEFAULT_METHOD, FilterSpec

if TYPE_CHECKING:
    from mien.runtime.target import Target


def print_cameras() -> int:
    """The exit status; prints one row for each camera, or what to do where there is none."""
    from rich.console import Console
    from rich.table import Table

    from mien.runtime.live.sources.cameras import list_cameras

    cameras = list_cameras()
    if not cameras:
        Console().print(
            "no camera found; plug one in, or let a file stand in for it: "
            "mien camera --source clip.mp4",
            soft_wrap=True,
        )
        return 0
    table = Table(box=None)
    for heading in ("--source", "camera", "modes"):
        table.add_column(heading, overflow="fold")
    for camera in cameras:
        modes = camera.problem or ", ".join(str(mode) for mode in camera.modes) or "-"
        table.add_row(*map(one_line, (camera.path, camera.name, modes)))
    Console(markup=False).print(table)
    return 0


Source = Annotated[
    str,
    typer.Option(
        metavar="CAMERA|FILE|URL|whip|-",
        help="0, /dev/video2, csi:0, a video or picture that stands in for a camera, a stream "
        "(rtsp://, srt://, rtmp://, http://), whip for what OBS sends to the panel, or - for a "
        "video on standard input.",
    ),
]
Emotion = Annotated[
    str | None,
    typer.Option(metavar=options.EMOTIONS, help="As for `mien edit`; the panel can change it."),
]
Intensity = Annotated[float, typer.Option(metavar=options.STRENGTHS, help="How strongly.")]
Method = Annotated[str, typer.Option(metavar=options.METHODS, help=options.AS_EDIT)]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="What a camera is asked for; by default 1280x720."),
]
Rate = Annotated[
    float | None,
    typer.Option(metavar="HZ", help="Frames a second at most; a camera is asked for 30."),
]
Format = Annotated[
    str, typer.Option("--format", metavar="auto|mjpeg|yuyv", help="As the camera sends them.")
]
Virtual = Annotated[
    str | None,
    typer.Option(
        metavar="auto|pipewire|v4l2",
        help="A camera for call programs, which has to work; auto prefers PipeWire, and is what "
        "--virtual alone means. By default auto, where one works.",
        show_default=False,
    ),
]
NoVirtual = Annotated[bool, typer.Option("--no-virtual", help="No camera for call programs.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which virtual camera: /dev/video10, or its name."),
]
Record = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Record into .mp4, .mkv, .mov or .webm.")
]
RecordDry = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Record the camera's own picture, frame for frame."),
]
Log = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what was applied to each frame, as JSON lines."),
]
Pipe = Annotated[str | None, typer.Option(metavar="FILE|-", help="Raw frames for another program.")]
PipeFormat = Annotated[
    str, typer.Option(metavar="y4m|yuv420p|rgb24", help="What goes into the pipe.")
]
Link = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS",
        help="Another program that is sent what the largest face shows, such as "
        "vmc://127.0.0.1:39539; may be given more than once (docs/avatar.md).",
        show_default=False,
    ),
]
Window = Annotated[bool, typer.Option("--window", help="Show a window.")]
Panel = Annotated[
    bool | None,
    typer.Option(
        "--panel/--no-panel",
        help="A page to steer it with; by default where its packages are installed.",
        show_default=False,
    ),
]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="Where the panel answers.")]
Listen = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="Other than this machine asks for --certificate and --key."
    ),
]
PemFile = Annotated[Path | None, typer.Option(metavar="PEM")]
Delay = Annotated[
    float, typer.Option(metavar="MS", help="Hold frames back, to be in step with sound.")
]
Adaptive = Annotated[
    bool, typer.Option("--adaptive/--no-adaptive", help="Give detail up where time is short.")
]
Mark = Annotated[bool, typer.Option("--mark", help="Show AI-edited in a corner.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a recording that exists.")]
Seconds = Annotated[
    float | None, typer.Option(metavar="T", help="End after so many seconds.", min=0.1, max=1e9)
]
ListThem = Annotated[bool, typer.Option("--list", help="List the cameras there are, and stop.")]


class BareVirtual(FileCommand):
    """A command whose `--virtual` may stand alone: the way is then chosen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is left of the arguments; the way is put in where it was left out."""
        bare = "--virtual"
        following = [*args[1:], ""]
        pairs = zip(args, following, strict=True)
        full = [
            f"{bare}={VIRTUAL_WAYS[0]}" if word == bare and after not in VIRTUAL_WAYS else word
            for word, after in pairs
        ]
        return super().parse_args(ctx, full)


def camera(
    context: typer.Context,
    source: Source = "0",
    emotion: Emotion = None,
    prompt: options.Prompt = None,
    intensity: Intensity = 1.0,
    soften: options.Soften = None,
    amplify: options.Amplify = None,
    face: options.Face = "all",
    method: Method = DEFAULT_METHOD,
    size: Size = None,
    rate: Rate = None,
    form: Format = "auto",
    virtual: Virtual = None,
    no_virtual: NoVirtual = False,
    device: Device = None,
    record: Record = None,
    record_dry: RecordDry = None,
    log: Log = None,
    pipe: Pipe = None,
    pipe_format: PipeFormat = "y4m",
    window: Window = False,
    link: Link = None,
    panel: Panel = None,
    port: Port = 8765,
    listen: Listen = "127.0.0.1",
    certificate: PemFile = None,
    key: PemFile = None,
    delay: Delay = 0.0,
    adaptive: Adaptive = True,
    mark: Mark = False,
    no_marks: options.NoMarks = False,
    provider: options.Provider = "cpu",
    precision: options.Precision = "auto",
    models: options.Models = None,
    overwrite: Overwrite = False,
    seconds: Seconds = None,
    list_them: ListThem = False,
    max_memory: options.MaxMemory = options.MEMORY,
) -> None:
    """Edit a camera's picture live, for call programs, and steer it from a page."""
    if list_them:
        raise typer.Exit(print_cameras())
    own = checked_own(soften, amplify)
    wanted = options.filter_spec(
        context, method=method, provider=provider, models=models, precision=precision
    )
    goal = _target(emotion, prompt, intensity, wanted)
    plan = CameraPlan(
        source=source,
        target=goal,
        face=face,
        filter=wanted,
        size_wh=None if size is None else parse_size(size),
        rate=None if rate is None else parse_rate(rate),
        format=form,
        outputs=OutputPlan(
            virtual_way(virtual, no_virtual=no_virtual),
            device,
            record,
            pipe,
            pipe_format,
            window,
            overwrite,
            record_dry,
            log,
            tuple(link or ()),
        ),
        panel=PanelPlan(panel, port, listen, certificate, key),
        delay_ms=delay,
        adaptive=adaptive,
        mark=mark,
        seconds=seconds,
        max_memory=parse_memory(max_memory),
        is_goal_given=emotion is not None or goal is not None or own is not None,
        own=1.0 if own is None else own,
        is_marked=not no_marks,
    )

    from mien.apps.camera.run import run_camera

    raise typer.Exit(run_camera(plan, context.obj))


def _target(
    emotion: str | None, prompt: str | None, intensity: float, wanted: FilterSpec
) -> Target | None:
    """What faces are to reach; neutral beside an option that is an edit by itself."""
    from mien.runtime.target import parse_goal

    strength = checked_strength(intensity)
    if prompt is not None:
        if emotion is not None:
            raise UsageError("give either --prompt or --emotion")
        return options.prompted(prompt, wanted.method, intensity)
    alone = method_spec(wanted.method).edits_by
    if emotion is None and any(value for name, value in wanted.options if name in alone):
        emotion = "neutral"
    return None if emotion is None else parse_goal(emotion, strength)
