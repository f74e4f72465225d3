from __future__ import annotations

import numpy as np

from mien.runtime.faces.tracking import CutDetector


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(20, 200, (9, 16)), np.ones((40, 40))).astype(np.uint8)


def test_the_first_frame_is_no_cut() -> None:
    assert not CutDetector()(scene(0))


def test_another_scene_is_a_cut_once() -> None:
    is_cut = CutDetector()
    shown = [is_cut(scene(seed)) for seed in (0, 0, 1, 1, 0)]
    assert shown == [False, False, True, False, True]


def test_a_pan_is_no_cut() -> None:
    is_cut, wide = CutDetector(), np.hstack([scene(0), scene(1)])
    assert not any(is_cut(np.ascontiguousarray(wide[:, x : x + 640])) for x in range(0, 640, 12))


def test_a_flash_and_a_fade_are_no_cuts() -> None:
    is_cut, plain = CutDetector(), scene(0).astype(float)
    for light in (1.0, 1.25, 1.0, 0.5, 0.1, 0.0, 0.3, 1.0):
        assert not is_cut((plain * light).clip(0, 255).astype(np.uint8))
    for level in (0, 255):
        assert not is_cut(np.full(plain.shape, level, np.uint8))
        assert not is_cut(scene(0))


def test_a_cut_through_black_is_seen_when_the_new_scene_comes() -> None:
    is_cut = CutDetector()
    assert not is_cut(scene(0))
    assert not is_cut(np.zeros((360, 640), np.uint8))
    assert is_cut(scene(1))


def test_noise_and_tiny_pictures_are_no_cuts() -> None:
    is_cut, rng = CutDetector(), np.random.default_rng(3)
    for _ in range(5):
        noisy = scene(0) + rng.normal(0, 15, (360, 640))
        assert not is_cut(noisy.clip(0, 255).astype(np.uint8))
    assert not CutDetector()(np.zeros((1, 1), np.uint8))


def test_reset_forgets_the_frame_before() -> None:
    is_cut = CutDetector()
    is_cut(scene(0))
    is_cut.reset()
    assert not is_cut(scene(1))
