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

from mien.apps.main import open_filter, run
from mien.runtime.faces.tracking import SearchEffort
from mien.runtime.frame import Frame
from mien.runtime.session import FaceFilter, StageTimes
from mien.runtime.spec import FilterSpec
from mien.runtime.target import Target
from mien.runtime.watermark.watermark import Watermark


class WatchedFilter:
    """A filter that notes when it has edited its first frame."""

    def __init__(self, inner: FaceFilter) -> None:
        self.first_frame_at: float | None = None
        self._inner = inner

    @property
    def target(self) -> Target | None:
        """What the faces are to reach."""
        return self._inner.target

    @target.setter
    def target(self, target: Target | None) -> None:
        self._inner.target = target

    @property
    def own(self) -> float:
        """How much of the person's own expression is shown."""
        return self._inner.own

    @own.setter
    def own(self, own: float) -> None:
        self._inner.own = own

    @property
    def effort(self) -> SearchEffort:
        """How hard faces are searched for."""
        return self._inner.effort

    @effort.setter
    def effort(self, effort: SearchEffort) -> None:
        self._inner.effort = effort

    @property
    def watermark(self) -> Watermark | None:
        """What edited faces are marked with."""
        return self._inner.watermark

    @watermark.setter
    def watermark(self, watermark: Watermark | None) -> None:
        self._inner.watermark = watermark

    @property
    def is_marked(self) -> bool:
        """Whether the last frame has the watermark."""
        return self._inner.is_marked

    @property
    def unfollowed(self) -> int:
        """How many faces in view are left unchanged because there are too many."""
        return self._inner.unfollowed

    @property
    def is_face_missing(self) -> bool:
        """Whether there are faces in the last frame, but not the chosen one."""
        return self._inner.is_face_missing

    @property
    def timings(self) -> StageTimes:
        """How long the stages took."""
        return self._inner.timings

    @property
    def faces(self) -> tuple[object, ...]:
        """The faces in the last frame."""
        return tuple(self._inner.faces)

    @property
    def unedited_parts(self) -> tuple[str, ...]:
        """Parts of faces that are as they were."""
        return tuple(self._inner.unedited_parts)

    def apply(self, frame: Frame) -> Frame:
        """`frame` edited."""
        edited = self._inner.apply(frame)
        if self.first_frame_at is None and edited is not frame:
            self.first_frame_at = time.monotonic()
        return edited

    def reset(self) -> None:
        """Forget the clip."""
        self._inner.reset()

    def close(self) -> None:
        """Close the networks."""
        self._inner.close()


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
    watched: list[WatchedFilter] = []

    def make(settings: FilterSpec) -> WatchedFilter:
        watched.append(WatchedFilter(open_filter(settings)))
        return watched[0]

    status = run(arguments, make)
    return status, watched[0].first_frame_at if watched else None


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
