from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.runtime.methods.motion import flow_between, mirrored, moved, parted


def drawing() -> np.ndarray:
    """Smooth blots, luma: float32 (1, 64, 64)."""
    noise = np.random.default_rng(3).uniform(0, 1, (64, 64)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    stretched: np.ndarray = (smooth - smooth.min()) / np.ptp(smooth)
    return stretched[None]


def shifted(square: np.ndarray, x: float, y: float) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(square[0], matrix, (64, 64), borderMode=cv2.BORDER_REPLICATE)[None]


def test_what_is_shifted_is_found_to_have_moved() -> None:
    before = drawing()
    flow = flow_between(before, shifted(before, 3, -2)) * 64
    inner = flow[:, 16:48, 16:48]
    assert np.median(inner[0]) == pytest.approx(-3, abs=0.5)
    assert np.median(inner[1]) == pytest.approx(2, abs=0.5)
    assert not flow[:, 0].any()
    assert not flow[:, :, -1].any()


def test_movement_leaves_less_to_be_added() -> None:
    before = drawing()
    after = shifted(before, 2, 2)
    inner = np.s_[:, 12:52, 12:52]
    rest = parted(before, after)[2:]
    assert np.abs(rest[inner]).mean() < 0.3 * np.abs(after - before)[inner].mean()


def test_movement_and_rest_together_are_the_change() -> None:
    before = np.concatenate([drawing(), drawing()[:, ::-1], drawing().transpose(0, 2, 1)])
    after = np.clip(before[:, ::-1] + 0.1, 0, 1)
    change = parted(before, after)
    assert change.shape == (5, 64, 64)
    np.testing.assert_allclose(moved(before, change[:2]) + change[2:], after, atol=1e-6)


def test_what_only_grows_brighter_does_not_move() -> None:
    before = drawing() * np.float32(0.7)
    assert np.abs(flow_between(before, before + np.float32(0.2))).max() * 64 < 0.2


def test_a_mirrored_change_is_the_change_of_the_mirror_image() -> None:
    before = drawing()
    change = parted(before, shifted(before, 3, 1))
    other = mirrored(change)
    edited = moved(before[..., ::-1], other[:2]) + other[2:]
    np.testing.assert_allclose(edited, shifted(before, 3, 1)[..., ::-1], atol=1e-5)
