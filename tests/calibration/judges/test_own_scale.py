import numpy as np
import pytest

from mien.calibration.clips.series import MOUTH_CORNERS
from mien.calibration.judges.classifier import EmotionClassifier, still
from mien.calibration.judges.held_out import HeldOutFace, SmilingPerson
from mien.calibration.judges.own_scale import PersonSmile, measure_person, summed
from mien.engines import FakeEngine
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from tests.calibration.clips.test_edits import SomeFace, landmarks_at
from tests.calibration.faces import shifted, straight_mesh

CALM, SMILE = 100, 200  # first sample of a picture: how high its corners are, 0 to 250 for 0.25


def picture(file: str, value: int) -> HeldOutFace:
    return HeldOutFace(file, "person", np.full((80, 80), value, np.uint8))


def mesh_of(rgb: np.ndarray, region=None) -> np.ndarray:
    mesh = straight_mesh(20.0)
    mesh[list(MOUTH_CORNERS), 1] -= 20 * float(rgb[0, 0, 0]) / 1000
    return shifted(mesh, 40, 40)


class Softer:
    """Brings a picture's corners towards those of the calm one."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.faces = (SomeFace(landmarks_at(10, 10, 60)),)

    def reset(self) -> None:
        """Forget nothing."""

    def apply(self, frame):
        value = float(frame.planes[0].samples[0, 0])
        return still(np.full((80, 80), round(CALM + self.scale * (value - CALM)), np.uint8))


def classifier() -> EmotionClassifier:
    """Calls a picture happy from a brightness of 0.7 on, else neutral."""

    def say(feeds):
        share = np.zeros((1, len(FER_CLASSES)), np.float32)
        name = "happy" if feeds["face"].mean() > 0.7 else "neutral"
        share[0, FER_CLASSES.index(name)] = 1
        return {"probabilities": share}

    return EmotionClassifier(FakeEngine(EMOTION_CLASSIFIER, say))


def test_the_scale_of_a_smile_is_measured_over_the_persons_own_calm_face():
    person = SmilingPerson("person", (picture("a", CALM),), (picture("b", SMILE),))
    editors = {0.25: Softer(0.25), 0.5: Softer(0.5)}
    found = measure_person(person, mesh_of, classifier(), editors)
    assert found is not None
    assert found.before == pytest.approx(0.1, abs=0.005)
    scales = summed([found])
    assert scales[0.5].measured == pytest.approx(0.5, abs=0.02)
    assert scales[0.25].measured == pytest.approx(0.25, abs=0.02)
    assert scales[1.0].measured == 1
    assert (scales[1.0].neutral, scales[0.25].neutral) == (0, 1)


def test_a_person_without_a_face_in_sight_is_left_out():
    person = SmilingPerson("person", (picture("a", CALM),), (picture("b", SMILE),))

    def blind(rgb, region=None):
        return None

    assert measure_person(person, blind, classifier(), {0.5: Softer(0.5)}) is None


def test_people_weigh_by_their_smile_and_faint_ones_not_at_all():
    names = {1.0: ("happy",), 0.5: ("neutral",)}
    broad = PersonSmile(0.2, {0.5: 0.1}, names)
    faint = PersonSmile(0.001, {0.5: 0.05}, names)
    found = summed([broad, faint])
    assert found[0.5].measured == pytest.approx(0.5)
    assert found[0.5].neutral == 1
    assert summed([]) == {}
