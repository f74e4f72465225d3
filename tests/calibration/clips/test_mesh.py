import numpy as np
import pytest

from mien.calibration.clips.series import (
    INNER_BROWS,
    MOUTH_CORNERS,
    UPPER_BROWS,
    acceleration,
    calm,
    change,
    frontal,
)
from tests.calibration.faces import shifted, straight_mesh, turned

POSES = {
    "straight": {"yaw": 0.0, "roll": 0.0, "scale": 1.0, "shift": (0, 0, 0)},
    "turned": {"yaw": 0.5, "roll": 0.0, "scale": 1.0, "shift": (40, 7, 0)},
    "tilted and small": {"yaw": -0.3, "roll": 0.6, "scale": 0.4, "shift": (300, 200, 5)},
}


def moved(vertices: tuple[int, ...], by: tuple[float, float, float]) -> np.ndarray:
    mesh = straight_mesh()
    mesh[list(vertices)] += np.array(by) * 100
    return mesh


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_a_known_lift_of_the_corners_gives_the_known_number_in_any_pose(pose):
    before = turned(straight_mesh(), **pose)
    after = turned(moved(MOUTH_CORNERS, (0, -0.05, 0)), **pose)
    found = change([before], [after])
    assert found.corners_up == pytest.approx(0.05, abs=1e-6)
    assert found.brows_up == pytest.approx(0, abs=1e-6)
    assert found.mouth_wide == pytest.approx(0, abs=1e-6)


def test_brows_and_lips_are_measured_where_they_move():
    before = straight_mesh()
    brows = change([before], [moved(UPPER_BROWS, (0, -0.04, 0))])
    assert brows.brows_up == pytest.approx(0.04, abs=1e-6)
    frown = change([before], [moved(INNER_BROWS, (0, 0.02, 0))])
    assert frown.inner_brows_up == pytest.approx(-0.02, abs=1e-6)
    lips = straight_mesh()
    lips[14] = lips[13] + [0, 30, 0]
    open_lips = lips.copy()
    open_lips[14] += [0, 10, 0]
    assert change([lips], [open_lips]).lips_apart == pytest.approx(0.1, abs=1e-6)


def test_a_moved_head_is_no_expression():
    before = straight_mesh()
    after = turned(before, yaw=0.4, roll=-0.2, scale=1.3, shift=(10, -30, 2))
    np.testing.assert_allclose(frontal(after), frontal(before), atol=1e-9)


def test_the_median_ignores_a_bad_frame_and_missing_faces():
    before = straight_mesh()
    lifted, wild = moved(MOUTH_CORNERS, (0, -0.05, 0)), moved(MOUTH_CORNERS, (0, 0.9, 0))
    found = change([before] * 4 + [None], [lifted, lifted, wild, None, lifted])
    assert found.corners_up == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(change([None], [before]).corners_up)


def test_an_unedited_clip_has_no_change_and_calm_one():
    chance = np.random.default_rng(3)
    meshes = [straight_mesh() + chance.normal(0, 0.5, (478, 3)) for _ in range(12)]
    found = change(meshes, meshes)
    assert all(getattr(found, name) == 0 for name in found.__slots__)
    assert calm(meshes, meshes) == 1


def test_the_acceleration_of_a_sine_is_its_second_difference():
    step, height = 0.3, 4.0
    times = np.arange(40)
    meshes = [shifted(straight_mesh(), height * np.sin(step * t), 0) for t in times]
    expected = np.abs(height * np.sin(step * times) * (2 * np.cos(step) - 2)) / 100
    found = acceleration(meshes)
    assert np.isnan(found[[0, -1]]).all()
    np.testing.assert_allclose(found[1:-1], expected[1:-1], atol=1e-9)


def test_steady_motion_is_calm_and_doubled_shaking_is_twice_as_restless():
    chance = np.random.default_rng(5)
    steady = [shifted(straight_mesh(), 2 * t, t) for t in range(6)]
    np.testing.assert_allclose(acceleration(steady)[1:-1], 0, atol=1e-9)
    noise = chance.normal(0, 0.3, (30, 478, 3))
    noise[:, [33, 263]] = 0
    shaking = [straight_mesh() + n for n in noise]
    worse = [straight_mesh() + 2 * n for n in noise]
    assert calm(shaking, worse) == pytest.approx(2)


def test_calm_skips_frames_without_a_face():
    shaking = [shifted(straight_mesh(), (-1) ** t, 0) for t in range(9)]
    holed = [None if t == 4 else mesh for t, mesh in enumerate(shaking)]
    assert np.isfinite(acceleration(holed)).sum() == 4
    assert calm(shaking, holed) == pytest.approx(1)
    assert np.isnan(calm(shaking, [None] * 9))
