from dataclasses import replace

import numpy as np
import pytest

from mien.calibration.clips.linearity import INTENSITIES, StillEdits, growth, measure_growth
from mien.calibration.clips.series import MOUTH_CORNERS, UPPER_BROWS
from mien.calibration.judges.classifier import still
from mien.calibration.tables.thresholds import OWN_ACTIONS
from mien.runtime.frame import Frame
from tests.calibration.faces import shifted, straight_mesh

UP = {"happy": (MOUTH_CORNERS, -1.0), "sad": (MOUTH_CORNERS, 1.0), "surprised": (UPPER_BROWS, -1.0)}


def code(frame: Frame) -> int:
    return int(frame.planes[0].samples[0, 0])


class Face:
    """A face that moves as the picture's first sample says: emotion in tens, steps in units."""

    def __init__(self, curve) -> None:
        self.curve = curve

    def edit(self, frame: Frame, emotion: str, intensity: float) -> Frame:
        value = 10 * (1 + list(UP).index(emotion)) + INTENSITIES.index(intensity)
        return still(np.full_like(frame.planes[0].samples, value))

    def find(self, rgb: np.ndarray, region=None) -> np.ndarray:
        mesh = shifted(straight_mesh(20.0), 40, 40)
        emotion, step = divmod(int(rgb[0, 0, 0]), 10)
        if emotion:
            vertices, sign = list(UP.values())[emotion - 1]
            mesh[list(vertices), 1] += sign * 20 * self.curve(INTENSITIES[step])
        return mesh


def measured(curve, frames: int = 2):
    face = Face(curve)
    pictures = [still(np.zeros((80, 80), np.uint8))] * frames
    return measure_growth(pictures, face.find, face.edit, list(UP))


def test_an_even_growth_is_linear_for_movements_up_and_down():
    for emotion, found in measured(lambda k: 0.05 * k).items():
        assert found.frames == 2, emotion
        assert found.linear.correlation == pytest.approx(1)
        assert found.linear.reversal == 0
        assert found.movements[0] == 0
        assert found.movements[-1] == pytest.approx(0.075, rel=0.01)


def test_growth_that_turns_back_is_told():
    found = measured(lambda k: 0.05 * min(k, 2 - k))["happy"]
    assert found.linear.reversal == pytest.approx(0.25, abs=0.01)
    assert found.linear.correlation < 0.9


def test_frames_without_a_face_leave_no_numbers():
    pictures = [still(np.zeros((80, 80), np.uint8))]
    face = Face(lambda k: k)
    nobody = measure_growth(pictures, lambda rgb, region=None: None, face.edit, ["happy"])
    assert nobody["happy"].frames == 0
    assert np.isnan(nobody["happy"].linear.correlation)


def test_the_median_over_frames_is_what_grows():
    even = [0.1 * k for k in INTENSITIES]
    wild = [9.0, -9.0, 9.0, -9.0, 9.0, -9.0]
    assert growth([even, even, wild]).linear.correlation == pytest.approx(1)


class Recorder:
    """A filter that writes down what it was asked."""

    def __init__(self) -> None:
        self.target = None
        self.asked: list[object] = []

    def reset(self) -> None:
        self.asked.append("reset")

    def apply(self, frame: Frame) -> Frame:
        self.asked.append(self.target.strength)
        return replace(frame, pts=7)


def test_each_frame_is_a_picture_of_its_own_at_its_intensity():
    recorder = Recorder()
    edit = StillEdits({"sad": recorder})
    edited = edit(still(np.zeros((4, 4), np.uint8)), "sad", 0.75)
    assert edited.pts == 7
    assert recorder.asked == ["reset", 0.75]


def test_every_emotion_that_is_measured_has_an_action_of_its_own():
    fields = set(measured(lambda k: k)) | set(OWN_ACTIONS)
    assert fields == set(OWN_ACTIONS)
