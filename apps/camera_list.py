"""The table of `mien camera --list`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mien.engines.errors import one_line
from mien.runtime.live.sources.cameras import list_cameras


def print_cameras() -> int:
    """The exit status; prints one row for each camera, or what to do where there is none."""
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
