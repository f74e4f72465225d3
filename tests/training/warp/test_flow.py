import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.runtime.methods.warp.editor import creased, with_outline  # noqa: E402
from mien.runtime.methods.warp.flow import dense_flow, hold_brows  # noqa: E402
from mien.runtime.methods.warp.speech import keep_blinks, keep_lips, lid_heights, lids_opening  # noqa: E402
from mien.training.warp import flow as torch_flow  # noqa: E402
from tests.runtime.faces.shapes import mean_face  # noqa: E402


def test_the_torch_flow_is_the_runtime_flow() -> None:
    rng = np.random.default_rng(5)
    faces = np.stack([mean_face() + rng.normal(0, 0.004, (106, 2)) for _ in range(3)])
    moves = rng.normal(0, 0.01, (3, 106, 2))
    ours = torch_flow.dense_flow(torch.from_numpy(faces), torch.from_numpy(moves), 32).numpy()
    for face, move, flow in zip(faces, moves, ours, strict=True):
        runtime = dense_flow(face.astype(np.float32), move.astype(np.float32), 32)
        assert np.abs(flow - runtime).max() < 2e-5


def test_the_torch_brows_are_the_runtime_brows() -> None:
    rng = np.random.default_rng(7)
    faces = np.stack([mean_face() + rng.normal(0, 0.004, (106, 2)) for _ in range(3)])
    moves = rng.normal(0, 0.05, (3, 106, 2)).astype(np.float32)
    faces = faces.astype(np.float32)
    ours = torch_flow.hold_brows(torch.from_numpy(faces), torch.from_numpy(moves)).numpy()
    for face, move, held in zip(faces, moves, ours, strict=True):
        np.testing.assert_allclose(held, hold_brows(face, move), atol=1e-6)
        assert not np.allclose(held, move)


@pytest.mark.parametrize(("opening", "below"), [(0.0, 0.5), (0.4, 0.8), (1.0, 1.0)])
def test_the_torch_lips_are_the_runtime_lips(opening: float, below: float) -> None:
    moves = np.random.default_rng(6).normal(0, 0.01, (3, 106, 2)).astype(np.float32)
    from_below = torch.full((3,), below)
    ours = torch_flow.keep_lips(
        torch.from_numpy(moves), torch.full((3,), opening), from_below
    ).numpy()
    for move, kept in zip(moves, ours, strict=True):
        np.testing.assert_allclose(kept, keep_lips(move, opening, from_below=below), atol=1e-6)


def test_the_torch_light_is_the_runtime_light() -> None:
    rng = np.random.default_rng(10)
    lights = rng.normal(0, 0.2, (3, 64, 64)).astype(np.float32)
    shares = rng.dirichlet(np.ones(8), 3).astype(np.float32)
    ours = torch_flow.creased(torch.from_numpy(lights)[:, None], torch.from_numpy(shares)).numpy()
    for light, share, shown in zip(lights, shares, ours[:, 0], strict=True):
        np.testing.assert_allclose(shown, creased(light, share), atol=1e-6)


def test_the_torch_outline_is_the_runtime_outline() -> None:
    moves = np.random.default_rng(8).normal(0, 0.01, (3, 106, 2)).astype(np.float32)
    ours = torch_flow.with_outline(torch.from_numpy(moves)).numpy()
    for move, held in zip(moves, ours, strict=True):
        np.testing.assert_array_equal(held, with_outline(move))


def test_the_torch_lids_are_the_runtime_lids_between_blinks() -> None:
    rng = np.random.default_rng(9)
    faces = np.stack([mean_face() + rng.normal(0, 0.002, (106, 2)) for _ in range(3)])
    faces, moves = faces.astype(np.float32), rng.normal(0, 0.02, (3, 106, 2)).astype(np.float32)
    ours = torch_flow.keep_lids(torch.from_numpy(faces), torch.from_numpy(moves)).numpy()
    for face, move, kept in zip(faces, moves, ours, strict=True):
        wanted = keep_blinks(face, move, lid_heights(face), lids_opening(face))
        np.testing.assert_allclose(kept, wanted, atol=1e-6)


def test_warping_by_a_constant_flow_shifts_the_picture() -> None:
    picture = torch.rand(1, 1, 16, 16)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2 / 16
    moved = torch_flow.warp(picture, flow)
    assert torch.allclose(moved[..., :-2], picture[..., 2:], atol=1e-5)
