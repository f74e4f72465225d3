import numpy as np
import pytest

from mien.runtime.faces.topology import LEFT_BROW
from mien.runtime.methods.warp.flow import BrowRoom, dense_flow, hold_brows, still_points
from tests.runtime.faces.shapes import mean_face

SIZE = 64


def flow_at(flow: np.ndarray, point: np.ndarray) -> np.ndarray:
    column, row = np.clip(np.round(point * SIZE - 0.5).astype(int), 0, SIZE - 1)
    return flow[:, row, column]


def test_nothing_moves_where_no_landmark_moves() -> None:
    flow = dense_flow(mean_face(), np.zeros((106, 2), np.float32), SIZE)
    assert np.abs(flow).max() < 1e-6


def test_a_moved_landmark_shows_what_was_at_its_old_place() -> None:
    face = mean_face()
    displacement = np.zeros((106, 2), np.float32)
    brow = [38, 39, 40, 41, 42, 68, 69, 70, 71]
    displacement[brow] = (0.0, -0.03)
    flow = dense_flow(face, displacement, SIZE)
    for point in brow[1:4]:
        moved = face[point] + displacement[point]
        assert flow_at(flow, moved) == pytest.approx(-displacement[point], abs=0.006)


def test_the_border_of_the_crop_and_the_far_side_of_the_face_stay() -> None:
    face = mean_face()
    displacement = np.zeros((106, 2), np.float32)
    displacement[84:104] = (0.0, 0.04)
    flow = dense_flow(face, displacement, SIZE)
    for edge in (flow[:, 0], flow[:, -1], flow[:, :, 0], flow[:, :, -1]):
        assert not edge.any()
    assert np.abs(flow_at(flow, face[52])).max() < 0.004
    for point in still_points(face)[:33]:
        if ((point > 0.05) & (point < 0.95)).all():
            assert np.abs(flow_at(flow, point)).max() < 0.006


def test_the_flow_of_a_smile_does_not_fold() -> None:
    face = mean_face()
    displacement = np.zeros((106, 2), np.float32)
    displacement[[84, 96]] = (-0.03, -0.04)
    displacement[[90, 100]] = (0.03, -0.04)
    flow = dense_flow(face, displacement, SIZE).astype(np.float64)
    dx, dy = np.gradient(flow[0], axis=1) * SIZE, np.gradient(flow[1], axis=0) * SIZE
    cross = np.gradient(flow[0], axis=0) * np.gradient(flow[1], axis=1) * SIZE**2
    assert ((1 + dx) * (1 + dy) - cross).min() > 0


def test_closed_lips_that_coincide_can_be_parted() -> None:
    face = mean_face()
    face[[103, 102, 101]] = face[[97, 98, 99]]
    displacement = np.zeros((106, 2), np.float32)
    displacement[[97, 98, 99]] = (0.0, -0.01)
    displacement[[101, 102, 103]] = (0.0, 0.03)
    flow = dense_flow(face, displacement, SIZE)
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() < 0.06


def test_brows_are_held_back_calmly_over_time_and_at_once_in_a_picture() -> None:
    rng, room, nothing = np.random.default_rng(4), BrowRoom(), np.zeros((106, 2), np.float32)
    down = nothing.copy()
    down[list(LEFT_BROW), 1] = 0.08
    told, held = [], []
    for frame in range(60):
        face = mean_face()
        face[[53, 72, 54], 1] += rng.normal(0, 0.004)
        told.append(hold_brows(face, down)[65, 1])
        held.append(0.08 + room(face, nothing, down, 1.0, frame / 30)[65, 1])
    assert held[0] == pytest.approx(told[0])
    assert told[0] < 0.08
    assert np.diff(held).std() < 0.4 * np.diff(told).std()


def test_brows_move_evenly_up_to_the_strongest() -> None:
    face, nothing = mean_face(), np.zeros((106, 2), np.float32)
    down = nothing.copy()
    down[list(LEFT_BROW), 1] = 0.08
    shares = np.linspace(0, 1, 7)
    moved = [s * 0.08 + BrowRoom()(face, nothing, down, s, 0.0)[65, 1] for s in shares]
    np.testing.assert_allclose(np.diff(moved), moved[-1] / 6, rtol=1e-4)
    assert moved[-1] == pytest.approx(hold_brows(face, down)[65, 1])


def test_brows_of_an_emotion_that_comes_and_goes_never_overshoot() -> None:
    face, nothing, room = mean_face(), np.zeros((106, 2), np.float32), BrowRoom()
    down = nothing.copy()
    down[list(LEFT_BROW), 1] = 0.08
    shares = np.concatenate([[0] * 10, np.linspace(0, 1, 14), [1] * 30, np.linspace(1, 0, 14)])
    moved = []
    for frame, share in enumerate([*shares, 0, 0]):
        strongest = down if share > 0 else nothing
        held = room(face, nothing, strongest, float(share), frame / 30)
        moved.append(share * 0.08 + held[65, 1])
    steady = hold_brows(face, down)[65, 1]
    assert min(moved) > -1e-6
    assert max(moved) < steady + 1e-6
    assert max(np.abs(np.diff(moved))) < 1.2 * steady / 13
