"""What edits do to a clip, judged by FaceMesh on input and output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mien.calibration.colour import rgb_picture
from mien.calibration.edits import EditedFrame, Editor, edit_frames
from mien.calibration.facemesh import LandmarkJudge, Region, find_anywhere, region_around
from mien.calibration.mesh import Expression, calm, change
from mien.calibration.sheet import SheetRow
from mien.runtime.frame import Frame

SHEET_FRAME = 60  # late enough that the filter has eased in


@dataclass(frozen=True, slots=True)
class EditMeasure:
    """What one emotion did to one clip.

    action: the median change of the face over frames.
    calm: frame-to-frame landmark acceleration of the output by the input's.
    outside: the largest change of a sample outside the face's crop.
    compared: frames in which FaceMesh found a face before and after.
    """

    action: Expression
    calm: float
    outside: int
    compared: int


@dataclass(frozen=True, slots=True)
class ClipMeasure:
    """All measures of one clip, by emotion, and a row of pictures."""

    frames: int
    edits: dict[str, EditMeasure]
    row: SheetRow | None


class FollowedFace:
    """FaceMesh on the frames of one clip, looking where the face last was.

    Input and output of a frame are looked at through the same region, so that the judge's own
    noise is the same for both.
    """

    def __init__(self, judge: LandmarkJudge) -> None:
        self._judge = judge
        self._region: Region | None = None
        self._next: Region | None = None

    def find(self, rgb: np.ndarray) -> np.ndarray | None:
        """Points (478, 3) in an input frame."""
        size_wh = (rgb.shape[1], rgb.shape[0])
        if self._region is None:
            seen = find_anywhere(self._judge, rgb)
            if seen is None:
                return None
            self._region = region_around(seen, size_wh)
        points = self._judge(rgb, self._region)
        self._next = None if points is None else region_around(points, size_wh, self._region)
        return points

    def again(self, rgb: np.ndarray) -> np.ndarray | None:
        """Points in an output frame, through the region of the last input frame."""
        return self._judge(rgb, self._region)

    def advance(self) -> None:
        """Moves on to the next frame."""
        self._region = self._next


def measure_clip(
    frames: Iterable[Frame], judge: LandmarkJudge, editors: Mapping[str, Editor]
) -> ClipMeasure:
    """What each emotion does to a clip of one person."""
    emotions = list(editors)
    followed = FollowedFace(judge)
    before: list[np.ndarray | None] = []
    after: dict[str, list[np.ndarray | None]] = {emotion: [] for emotion in emotions}
    outside = dict.fromkeys(emotions, 0)
    row: SheetRow | None = None
    for index, step in enumerate(edit_frames(frames, editors)):
        found = followed.find(rgb_picture(step.source))
        before.append(found)
        for emotion in emotions:
            outside[emotion] = max(outside[emotion], step.outside[emotion])
            mesh = None if found is None else followed.again(rgb_picture(step.edited[emotion]))
            after[emotion].append(mesh)
        if found is not None:
            followed.advance()
            if index <= SHEET_FRAME:
                row = _sheet_row(step, found)
    edits = {
        emotion: EditMeasure(
            action=change(before, after[emotion]),
            calm=calm(before, after[emotion]),
            outside=outside[emotion],
            compared=sum(mesh is not None for mesh in after[emotion]),
        )
        for emotion in emotions
    }
    return ClipMeasure(len(before), edits, row)


def _sheet_row(step: EditedFrame, mesh: np.ndarray) -> SheetRow:
    pictures = {"source": step.source, **step.edited}
    return SheetRow.around(mesh, {name: rgb_picture(frame) for name, frame in pictures.items()})
