import sys
from pathlib import Path

import numpy as np
import pytest

from mien.calibration.judges.classifier import still
from mien.calibration.judges.independent import (
    MARGINS,
    SIDES,
    IndependentNetworks,
    identity_calm,
    likeness,
    look_at_emotions,
    look_at_neighbours,
    same_person,
    wide_matrix,
)
from mien.engines import EngineError, UsageError
from mien.runtime.faces.alignment import fer_matrix, transform_points
from tests.calibration.judges.test_judge import Lighter, landmarks_at

# Networks in the shape of the user's own, on NumPy: the brightest of two names, and three colours.
CODE = """
import os, sys
from contextlib import nullcontext
from types import SimpleNamespace as Names
import numpy as np
print("a line that must not disturb the answers")
class Array(np.ndarray):
    def numpy(self):
        return np.asarray(self)
torch = Names(inference_mode=nullcontext, from_numpy=lambda a: a.view(Array))
assert open(os.environ["MIEN_JUDGES"] + "/weights").read() == "w"
class Expression:
    names = ("sad", "happy")
    def __call__(self, x):
        assert x.shape == (1, 3, 112, 112) and x.dtype == np.float32 and x.max() <= 1
        return np.array([[0.5, x.mean()]], np.float32).view(Array)
class Dlib:
    def __call__(self, x):
        assert x.shape == (1, 3, 150, 150)
        return x.mean((2, 3)).view(Array)
"""


def networks(folder: Path, code: str = CODE) -> IndependentNetworks:
    (folder / "weights").write_text("w")
    (folder / "code.py").write_text(code)
    return IndependentNetworks(Path(sys.executable), folder / "code.py", folder)


def light(level: float):
    return still(np.full((60, 60), round(level * 255), np.uint8))


def test_the_users_own_networks_answer_from_their_own_process(tmp_path):
    place = landmarks_at(10, 10, 40)
    with networks(tmp_path) as found:
        assert found.emotion(light(0.9), place) == "happy"
        assert found.emotion(light(0.1), place) == "sad"
        np.testing.assert_allclose(found.identity(light(0.6), place), [0.6] * 3, atol=0.01)


@pytest.mark.parametrize(
    ("code", "message"),
    [("raise OSError('no torch here')", "--judges-code"), ("Expression = 3", "--judges-python")],
    ids=["cannot be loaded", "is something else"],
)
def test_code_that_does_not_fit_is_one_clear_error(tmp_path, code, message):
    with pytest.raises(UsageError, match=message):
        networks(tmp_path, code)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        IndependentNetworks(Path(sys.executable), tmp_path / "nowhere", tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    with pytest.raises(UsageError, match="cannot start"):
        IndependentNetworks(tmp_path / "python", tmp_path / "code.py", tmp_path)


def test_networks_that_end_midway_are_told(tmp_path):
    code = CODE.replace(
        "return np.array([[0.5", "raise SystemExit(1)\n        return np.array([[0.5"
    )
    with networks(tmp_path, code) as found, pytest.raises(EngineError, match="ended"):
        found.emotion(light(0.5), landmarks_at(10, 10, 40))


def test_the_wide_crop_has_the_tight_one_in_its_middle():
    place = landmarks_at(30, 50, 48)
    corners = np.array([[29.5, 49.5], [77.5, 97.5]], np.float32)  # outer edges of the tight crop
    for side, margin in zip(SIDES, MARGINS, strict=True):
        tight = transform_points(fer_matrix(place, side), corners)
        np.testing.assert_allclose(tight, [[-0.5] * 2, [side - 0.5] * 2], atol=1e-2)
        wide = transform_points(wide_matrix(place, side, margin), corners)
        inset = margin * side / (1 + 2 * margin)
        np.testing.assert_allclose(wide, [[inset - 0.5] * 2, [side - inset - 0.5] * 2], atol=1e-2)


class Brightness:
    """Networks that see nothing but the first sample."""

    def emotion(self, frame, landmarks) -> str:
        return "happy" if frame.planes[0].samples[0, 0] > 100 else "sad"

    def identity(self, frame, landmarks) -> np.ndarray:
        return np.array([1.0, frame.planes[0].samples[0, 0] / 255], np.float32)


def test_names_and_distances_are_counted_by_emotion():
    sequences = [[light(0.3)], [light(0.3)], [light(0.0)]]  # no face in the black one
    editors = {"happy": Lighter(0.9), "sad": Lighter(0.9)}
    seen = look_at_emotions(sequences, Brightness(), editors)
    told = seen.expressions()
    assert (told["faces"], told["missed"]) == (2, 1)
    assert told["accuracy"] == {"happy": pytest.approx(2 / 3, abs=1e-3), "sad": 0}
    assert told["classes"] == ["happy", "sad"]
    assert told["confusion"]["source"] == [0, 2]
    assert told["confusion"]["sad"] == [2, 0]
    identity = seen.identities()["happy"]
    assert identity["median_distance"] == pytest.approx(0.6, abs=0.01)
    assert identity["calm"] is None


def test_the_calm_of_an_identity_is_that_of_neighbouring_frames_by_the_inputs():
    class Flicker(Lighter):
        def apply(self, frame):
            self.level = 0.9 - self.level
            return super().apply(frame)

    frames = [light(0.3)] * 6
    seen = look_at_neighbours(frames, Brightness(), {"happy": Lighter(0.5), "sad": Flicker(0.1)})
    told = seen.identities()
    assert told["happy"]["calm"] == 1
    assert told["sad"]["calm"] < 0.9
    assert told["happy"]["pictures"] == 6


def test_same_person_and_calm_of_plain_numbers():
    assert same_person([0.1, 0.59, 0.6, 0.9]) == 0.5
    assert identity_calm([1.0, 0.98], [0.99, 0.97]) == pytest.approx(0.9899, abs=1e-4)
    assert identity_calm([], [0.9]) is None
    assert likeness(np.array([1.0, 0]), np.array([2.0, 0])) == pytest.approx(1)
    assert likeness(np.zeros(2), np.ones(2)) == 0
