"""The default filter of one checkout, timed in a process of its own.

`PYTHONPATH=TREE PYTHON cost_worker.py CLIP EMOTION FRAMES MODELS` decodes the first FRAMES frames
of CLIP to 720 lines, MODELS empty for the bundled ones, and writes a line when it is ready. For
each line it reads it edits them all once and writes a line of the seconds of CPU time that each of
them took, over all threads of the process. It uses only what every checkout of mien has.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2

from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.video import read_frames

HEIGHT_PX = 720


def at_720(frame: Frame) -> Frame:
    """The frame with 720 lines, its planes scaled."""
    width = round(frame.width * HEIGHT_PX / frame.height / 4) * 4
    planes = []
    for plane in frame.planes:
        x, y = plane.subsampling_xy
        samples = cv2.resize(plane.samples, (width // x, HEIGHT_PX // y))
        planes.append(replace(plane, samples=samples))
    return replace(frame, planes=tuple(planes), width=width, height=HEIGHT_PX)


def main() -> None:
    """Time a pass for each line that is read."""
    clip, emotion, count, models = sys.argv[1:5]
    frames = [at_720(f) for f in itertools.islice(read_frames(Path(clip)), int(count))]
    answers = sys.stdout
    with Filter(emotion, models=models or None) as change:
        answers.write(f"{len(frames)}\n")
        answers.flush()
        for _ in sys.stdin:
            change.reset()
            times = [time.process_time()]
            for frame in frames:
                change.apply(frame)
                times.append(time.process_time())
            spent = [after - before for before, after in itertools.pairwise(times)]
            answers.write(" ".join(map(repr, spent)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
