from dataclasses import dataclass, replace

import numpy as np

from mien.calibration.clips.edits import change_outside, edit_frames
from mien.calibration.clips.measure import failures, measure_clip, report
from mien.runtime.faces.alignment import RIGID_TEMPLATE
from mien.runtime.faces.topology import RIGID
from mien.runtime.frame import Frame, PixelLayout, Plane
from tests.calibration.faces import shifted, straight_mesh


@dataclass(frozen=True)
class SomeFace:
    landmarks: np.ndarray


def landmarks_at(x: float, y: float, side: float) -> np.ndarray:
    """Landmarks whose canonical crop is the square of `side` at (x, y)."""
    points = np.zeros((106, 2), np.float32)
    points[list(RIGID)] = RIGID_TEMPLATE * side - 0.5 + [x, y]
    return points


def grey_frame(value: int = 90) -> Frame:
    planes = (
        Plane(np.full((60, 80), value, np.uint8), (1, 1)),
        Plane(np.full((30, 40), 128, np.uint8), (2, 2)),
        Plane(np.full((30, 40), 128, np.uint8), (2, 2)),
    )
    return Frame(planes, PixelLayout("yuv"), 80, 60)


class Painter:
    """Writes into one plane, at one place; says that its face lies at 20..40."""

    def __init__(self, plane: int | None, at: tuple[int, int] = (0, 0), by: int = 5):
        self.plane, self.at, self.by = plane, at, by
        self.resets = 0
        self.faces = (SomeFace(landmarks_at(20, 20, 20)),)

    def apply(self, frame: Frame) -> Frame:
        if self.plane is None:
            return frame
        planes = list(frame.planes)
        samples = planes[self.plane].samples.copy()
        samples[self.at] += self.by
        planes[self.plane] = replace(planes[self.plane], samples=samples)
        return replace(frame, planes=tuple(planes))

    def reset(self) -> None:
        self.resets += 1


def test_changes_inside_the_crop_are_allowed():
    frame = grey_frame()
    for plane, at in ((0, (30, 30)), (0, (20, 20)), (1, (15, 15)), (2, (10, 19))):
        painter = Painter(plane, at)
        assert change_outside(frame, painter.apply(frame), [painter.faces[0].landmarks]) == 0


def test_changes_outside_the_crop_are_told_by_their_size():
    frame = grey_frame()
    for plane, at, by in ((0, (30, 46), 5), (0, (0, 0), 1), (1, (3, 3), 7), (2, (15, 25), 2)):
        painter = Painter(plane, at, by)
        assert change_outside(frame, painter.apply(frame), [painter.faces[0].landmarks]) == by


def test_without_a_face_nothing_may_change():
    frame = grey_frame()
    assert change_outside(frame, Painter(0, (30, 30), 3).apply(frame), []) == 3
    assert change_outside(frame, frame, []) == 0


def test_editors_start_afresh_and_see_every_frame():
    editors = {"happy": Painter(0, (30, 30)), "sad": Painter(None)}
    steps = list(edit_frames([grey_frame(), grey_frame(40)], editors))
    assert [e.resets for e in editors.values()] == [1, 1]
    assert steps[1].edited["happy"].planes[0].samples[30, 30] == 45
    assert steps[0].edited["sad"] is steps[0].source
    assert steps[0].landmarks is not None


def blind_reference(rgb, region=None):
    """A reference that sees one still face whatever it is shown, also through regions."""
    return shifted(straight_mesh(20.0), 30, 30)


def test_an_identity_edit_measures_as_nothing_and_fails_the_thresholds():
    clip = measure_clip([grey_frame()] * 5, blind_reference, {"happy": Painter(None)})
    edit = clip.edits["happy"]
    assert (clip.frames, edit.compared, edit.outside, edit.calm) == (5, 5, 0, 1.0)
    assert edit.action.corners_up == 0
    assert (edit.lips.moves, edit.eyes.blinks, edit.stain.frames) == (False, 0, 5)
    assert edit.stain.largest == 0
    assert failures({"clip": clip}) == ["clip: happy corners_up +0.000, threshold +0.040"]
    assert clip.row is not None
    assert set(clip.row.pictures) == {"source", "happy"}


def test_an_edit_beside_the_face_is_reported():
    clip = measure_clip([grey_frame()] * 3, blind_reference, {"fearful": Painter(0, (0, 0), 9)})
    assert failures({"clip": clip}) == ["clip: fearful changes samples outside by 9"]


def test_a_clip_without_a_face_reports_null_and_fails():
    clip = measure_clip([grey_frame()] * 3, lambda rgb, region=None: None, {"sad": Painter(None)})
    told = report({"clip": clip})
    assert told["clips"]["clip"]["edits"]["sad"]["calm"] is None
    assert len(told["failures"]) == 2


def test_the_judge_looks_at_input_and_output_through_one_region():
    regions = []

    def reference(rgb, region=None):
        regions.append(region)
        shift = 9 * len(regions)
        return shifted(straight_mesh(10.0), 30 + shift, 30)

    measure_clip([grey_frame()] * 3, reference, {"sad": Painter(None), "happy": Painter(None)})
    seen = regions[1:]  # the first look is for the face, anywhere
    assert all(len(set(seen[i : i + 3])) == 1 for i in (0, 3, 6))
    assert len(set(seen)) > 1
