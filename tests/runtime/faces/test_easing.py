from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.smoothing import Easing


def test_it_starts_at_the_first_target() -> None:
    assert Easing()(0.7, 12.0) == 0.7


def test_it_starts_at_the_value_it_was_reset_to() -> None:
    ease = Easing()
    ease.reset(0.0)
    assert ease(1.0, 5.0) == 0.0
    assert 0 < ease(1.0, 5.1) < 1


def test_after_its_time_it_has_gone_most_of_the_way_without_overshoot() -> None:
    ease = Easing(0.4)
    ease.reset(0.0)
    way = [float(ease(1.0, i / 100)) for i in range(200)]
    assert way == sorted(way)
    assert way[40] == pytest.approx(0.95, abs=0.003)
    assert way[-1] <= 1.0
    assert way[-1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_way_does_not_depend_on_the_frame_rate(steps: int) -> None:
    ease = Easing(0.5)
    ease.reset(0.0)
    ease(1.0, 0.0)
    for i in range(1, steps + 1):
        value = ease(1.0, 0.2 * i / steps)
    expected = 1 - (1 + 4.744 * 0.4) * np.exp(-4.744 * 0.4)
    assert float(value) == pytest.approx(expected, abs=1e-9)


def test_vectors_glide_together() -> None:
    ease = Easing(0.4)
    start, goal = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.6, 0.4])
    ease(start, 0.0)
    middle = ease(goal, 0.1)
    assert middle.sum() == pytest.approx(1.0)
    assert 0 < middle[1] < 0.6
    np.testing.assert_allclose(ease(goal, 5.0), goal, atol=1e-9)


def test_time_that_goes_back_moves_nothing() -> None:
    ease = Easing(0.4)
    ease.reset(0.0)
    ease(1.0, 0.0)
    before = float(ease(1.0, 0.1))
    assert float(ease(1.0, 0.05)) == before
    assert float(ease(1.0, 0.05)) == before
    assert float(ease(1.0, 0.1)) > before


def test_a_change_of_target_on_the_way_makes_no_jump() -> None:
    ease = Easing(0.4)
    ease.reset(0.0)
    ease(1.0, 0.0)
    there = float(ease(1.0, 0.15))
    assert abs(float(ease(0.0, 0.151)) - there) < 0.02
