"""Memory does not follow the length of a clip."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory"
)


def peak_mib(source: Path, destination: Path) -> int:
    """The most memory a process had that edited every frame of a clip."""
    script = f"""
        import gc
        from dataclasses import replace
        from pathlib import Path
        from mien.runtime.video import VideoOptions, edit_video

        def edit(frame):
            luma = frame.planes[0].samples.copy()
            luma[:9] = 50
            return replace(frame, planes=(replace(frame.planes[0], samples=luma),
                                          *frame.planes[1:]))

        gc.disable()  # a frame that is part of a cycle shows at once
        edit_video(Path({str(source)!r}), Path({str(destination)!r}), edit, VideoOptions(quality=0))
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(run.stdout) // 1024


def test_a_long_clip_takes_no_more_memory_than_a_short_one(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    settings = {"size_wh": (640, 480), "audio_tracks": 1}
    short = peak_mib(clip("short.mp4", frames=50, **settings), tmp_path / "a.mp4")
    long = peak_mib(clip("long.mp4", frames=250, **settings), tmp_path / "b.mp4")
    assert long < short + 40  # 200 frames are 90 MiB
