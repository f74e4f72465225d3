"""Whether what an emotion moves grows with `--intensity`, evenly and without a step back.

`python -m mien.calibration.clips.linearity --clips DIR [CLIP...] --facemesh-python P --out
report.json` edits a few frames of each clip, each as a picture of its own, at intensities from 0.25
to 1.5, and measures the one movement that is most the emotion's own (`thresholds.OWN_ACTIONS`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mien.calibration.clips.edits import add_models_option, all_clips, default_editors
from mien.calibration.clips.measure import FollowedFace, plain
from mien.calibration.clips.series import Linear, expression, measure_linearity
from mien.calibration.judges.facemesh import FaceMesh, LandmarkReference
from mien.calibration.tables.sheet import rgb_picture
from mien.calibration.tables.thresholds import EDITED, OWN_ACTIONS
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.target import parse_target
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole

INTENSITIES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FRAME_STEP = 45

EditAt = Callable[[Frame, str, float], Frame]  # a frame, an emotion, an intensity


@dataclass(frozen=True, slots=True)
class Growth:
    """How one emotion's movement grows.

    intensities: from 0 on. movements: the median over frames at each, in outer-eye distances, in
    the direction that is meant. frames: that were measured at all of them.
    """

    intensities: tuple[float, ...]
    movements: tuple[float, ...]
    linear: Linear
    frames: int


def measure_growth(
    frames: Iterable[Frame], reference: LandmarkReference, edit: EditAt, emotions: Sequence[str]
) -> dict[str, Growth]:
    """How the movement of each emotion grows, over `frames`, each a picture of its own."""
    rows: dict[str, list[list[float]]] = {emotion: [] for emotion in emotions}
    for frame in frames:
        followed = FollowedFace(reference)
        mesh = followed.find(rgb_picture(frame))
        if mesh is None:
            continue
        for emotion in emotions:
            row = _movements(frame, mesh, followed, emotion, edit)
            if np.isfinite(row).all():
                rows[emotion].append(row)
    return {emotion: growth(found) for emotion, found in rows.items()}


def growth(rows: Sequence[Sequence[float]]) -> Growth:
    """Of movements at INTENSITIES, a row a frame; unedited faces have moved by 0."""
    asked = (0.0, *INTENSITIES)
    if not rows:
        nothing = float("nan")
        return Growth(asked, (nothing,) * len(asked), Linear(nothing, nothing), 0)
    medians = (0.0, *(float(value) for value in np.median(np.array(rows), axis=0)))
    return Growth(asked, medians, measure_linearity(asked, medians), len(rows))


def _movements(
    frame: Frame, mesh: np.ndarray, followed: FollowedFace, emotion: str, edit: EditAt
) -> list[float]:
    action = OWN_ACTIONS[emotion]
    before = getattr(expression(mesh), action.quantity)
    row = []
    for intensity in INTENSITIES:
        seen = followed.again(rgb_picture(edit(frame, emotion, intensity)))
        after = float("nan") if seen is None else getattr(expression(seen), action.quantity)
        row.append(action.direction * (after - before))
    return row


class StillEdits:
    """Edits of frames as pictures of their own, by a filter for each emotion."""

    def __init__(self, filters: dict[str, Filter]) -> None:
        self._filters = filters

    def __call__(self, frame: Frame, emotion: str, intensity: float) -> Frame:
        """The edited frame."""
        change = self._filters[emotion]
        change.target = parse_target(emotion, intensity)
        change.reset()  # what eases over time starts at its end in a first frame
        return change.apply(frame)


def few_frames(clips: Sequence[Path], step: int) -> Iterator[Frame]:
    """Every `step`-th frame of each clip."""
    for clip in clips:
        yield from itertools.islice(read_frames(clip), step // 2, None, step)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure how edits follow the strength; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.clips.linearity", description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="folders, or clips")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--step", type=int, default=FRAME_STEP, help="every STEP-th frame")
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    options = parser.parse_args(argv)
    edit = StillEdits(default_editors(EDITED, options.models))
    frames = few_frames(all_clips(options.clips), options.step)
    with FaceMesh(options.facemesh_python) as reference:
        measured = measure_growth(frames, reference, edit, EDITED)
    told = {
        emotion: {"quantity": OWN_ACTIONS[emotion].quantity, **asdict(found)}
        for emotion, found in measured.items()
    }
    text = json.dumps(plain(told), indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)


if __name__ == "__main__":
    main()
