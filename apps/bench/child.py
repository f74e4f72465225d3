"""One command of `mien bench`, in a process of its own, so that start and memory are its own.

    python -m mien.apps.bench.child edit IN -o OUT --emotion happy
    python -m mien.apps.bench.child transcode IN OUT

Its last line on standard output is JSON: when the first frame was edited (on the clock of
time.monotonic, which processes share) and the most memory it held.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import typer

from mien.apps.main import run
from mien.runtime.frame import Frame


def peak_memory_mb() -> float | None:
    """The most memory this process has held, in MB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # not getrusage: there a child begins with the peak of its parent
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 -- missing on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _edit(arguments: list[str]) -> tuple[int, float | None]:
    """The status of `mien edit`, and when its first frame was edited."""
    from mien.runtime.filter import Filter  # noqa: PLC0415 -- not for `transcode`

    first: list[float] = []

    class WatchedFilter(Filter):
        def apply(self, frame: Frame) -> Frame:
            edited = super().apply(frame)
            if not first and edited is not frame:
                first.append(time.monotonic())
            return edited

    status = run(arguments, WatchedFilter.of)
    return status, first[0] if first else None


def _transcode(source: str, destination: str) -> None:
    from mien.apps.edit.job import DEFAULT_VIDEO_QUALITY  # noqa: PLC0415 -- not for `edit`
    from mien.runtime.video import VideoOptions, edit_video, identity  # noqa: PLC0415

    edit_video(
        Path(source), Path(destination), identity, VideoOptions(quality=DEFAULT_VIDEO_QUALITY)
    )


def main(arguments: list[str]) -> int:
    """The exit status of one command; prints what was measured."""
    status, first_frame_at = 0, None
    if arguments[0] == "transcode":
        _transcode(*arguments[1:])
    else:
        status, first_frame_at = _edit(arguments)
    typer.echo(json.dumps({"first_frame_at": first_frame_at, "peak_mb": peak_memory_mb()}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
