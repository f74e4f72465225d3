"""What edits do to a clip, measured by FaceMesh on input and output, against thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from mien.calibration.clips.edits import EditedFrame, Editor, edit_frames
from mien.calibration.clips.series import (
    ClosedLift,
    Expression,
    Eyes,
    Lips,
    calm,
    change,
    expression,
    measure_closed_lift,
    measure_eyes,
    measure_lips,
)
from mien.calibration.clips.shading import Stain, low_frequency_change, over_frames
from mien.calibration.judges.facemesh import LandmarkReference, Region, find_anywhere, region_around
from mien.calibration.tables.sheet import SheetRow, rgb_picture
from mien.calibration.tables.thresholds import ACTION_THRESHOLDS, CALM_CEILING
from mien.runtime.frame import Frame

SHEET_FRAME = 60  # late enough that the filter has eased in


@dataclass(frozen=True, slots=True)
class EditMeasure:
    """What one emotion did to one clip.

    action: the median change of the face over frames.
    lips, eyes: how their opening follows the source's. closed_lift: of the corners of the mouth, in
        frames whose lips are closed. stain: the low-frequency change of the skin's luma.
    calm: frame-to-frame landmark acceleration of the output by the input's.
    outside: the largest change of a sample outside the face's crop.
    compared: frames in which FaceMesh found a face before and after.
    """

    action: Expression
    lips: Lips
    eyes: Eyes
    closed_lift: ClosedLift
    stain: Stain
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

    Input and output of a frame are looked at through the same region, so that FaceMesh's own
    noise is the same for both.
    """

    def __init__(self, reference: LandmarkReference) -> None:
        self._reference = reference
        self._region: Region | None = None
        self._next: Region | None = None

    def find(self, rgb: np.ndarray) -> np.ndarray | None:
        """Points (478, 3) in an input frame."""
        size_wh = (rgb.shape[1], rgb.shape[0])
        if self._region is None:
            seen = find_anywhere(self._reference, rgb)
            if seen is None:
                return None
            self._region = region_around(seen, size_wh)
        points = self._reference(rgb, self._region)
        self._next = None if points is None else region_around(points, size_wh, self._region)
        return points

    def again(self, rgb: np.ndarray) -> np.ndarray | None:
        """Points in an output frame, through the region of the last input frame."""
        return self._reference(rgb, self._region)

    def advance(self) -> None:
        """Move on to the next frame."""
        self._region = self._next


def measure_clip(
    frames: Iterable[Frame], reference: LandmarkReference, editors: Mapping[str, Editor]
) -> ClipMeasure:
    """What each emotion does to a clip of one person."""
    followed = FollowedFace(reference)
    before: list[np.ndarray | None] = []
    edits = {emotion: _Series() for emotion in editors}
    row: SheetRow | None = None
    for index, step in enumerate(edit_frames(frames, editors)):
        found = followed.find(rgb_picture(step.source))
        before.append(found)
        for emotion, series in edits.items():
            frame = step.edited[emotion]
            mesh = None if found is None else followed.again(rgb_picture(frame))
            series.meshes.append(mesh)
            series.outside = max(series.outside, step.outside[emotion])
            if found is not None and mesh is not None:
                meshes = {"mesh_before": found, "mesh_after": mesh}
                series.stains.append(low_frequency_change(step.source, frame, **meshes))
        if found is not None:
            followed.advance()
            if index <= SHEET_FRAME:
                row = _sheet_row(step, found)
    told = {emotion: series.measure(before) for emotion, series in edits.items()}
    return ClipMeasure(len(before), told, row)


@dataclass(slots=True)
class _Series:
    """What one emotion's edits of a clip look like, frame by frame."""

    meshes: list[np.ndarray | None] = field(default_factory=list)
    stains: list[Stain | None] = field(default_factory=list)
    outside: int = 0

    def measure(self, before: Sequence[np.ndarray | None]) -> EditMeasure:
        """Against the meshes of the source."""
        was, became = quantities(before), quantities(self.meshes)
        return EditMeasure(
            action=change(before, self.meshes),
            lips=measure_lips(was["lips_apart"], became["lips_apart"]),
            eyes=measure_eyes(was["eyes_open"], became["eyes_open"]),
            closed_lift=measure_closed_lift(
                was["lips_apart"],
                was["corners_up"],
                edited_gaps=became["lips_apart"],
                edited_corners=became["corners_up"],
            ),
            stain=over_frames(self.stains),
            calm=calm(before, self.meshes),
            outside=self.outside,
            compared=sum(mesh is not None for mesh in self.meshes),
        )


def quantities(meshes: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Each field of `Expression` as a series: float64 (frames,), NaN without a face."""
    seen = [None if mesh is None else expression(mesh) for mesh in meshes]
    return {
        name: np.array([np.nan if face is None else getattr(face, name) for face in seen])
        for name in Expression.__slots__
    }


def _sheet_row(step: EditedFrame, mesh: np.ndarray) -> SheetRow:
    pictures = {"source": step.source, **step.edited}
    return SheetRow.around(mesh, {name: rgb_picture(frame) for name, frame in pictures.items()})


def failures(clips: Mapping[str, ClipMeasure]) -> list[str]:
    """A line for every threshold that a clip does not reach."""
    lines = []
    for name, clip in clips.items():
        for threshold in ACTION_THRESHOLDS:
            if threshold.emotion not in clip.edits:
                continue
            value = getattr(clip.edits[threshold.emotion].action, threshold.quantity)
            if not threshold.holds(value):
                what = f"{threshold.emotion} {threshold.quantity}"
                lines.append(f"{name}: {what} {value:+.3f}, threshold {threshold.least:+.3f}")
        for emotion, edit in clip.edits.items():
            if not edit.calm <= CALM_CEILING:
                lines.append(f"{name}: {emotion} calm {edit.calm:.2f}, ceiling {CALM_CEILING}")
            if edit.outside:
                lines.append(f"{name}: {emotion} changes samples outside by {edit.outside}")
    return lines


def report(clips: Mapping[str, ClipMeasure]) -> dict[str, object]:
    """The measures as JSON holds them; NaN becomes null."""
    told = {
        name: {
            "frames": clip.frames,
            "edits": {emotion: plain(asdict(edit)) for emotion, edit in clip.edits.items()},
        }
        for name, clip in clips.items()
    }
    return {"clips": told, "failures": failures(clips)}


def plain(value: object) -> object:
    """`value` as JSON holds it: numbers rounded, those that are none as null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
