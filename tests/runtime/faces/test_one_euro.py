from __future__ import annotations

import math

import numpy as np
import pytest

from mien.runtime.faces.smoothing import OneEuro


def test_the_first_value_passes_as_it_is() -> None:
    value = np.array([[1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(OneEuro(min_cutoff_hz=1, beta=1)(value, 3.0), value)


def test_jitter_at_rest_falls_to_a_third() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (200, 50, 2)).astype(np.float32)
    smooth = OneEuro(min_cutoff_hz=1.0, beta=4.0)
    shown = np.array([smooth(value, i / 30) for i, value in enumerate(noise)])
    assert shown[30:].std() < 0.4 * noise.std()


@pytest.mark.parametrize("speed", [0.5, 5.0, 50.0])
def test_the_lag_of_a_steady_movement_has_a_bound_whatever_its_speed(speed: float) -> None:
    beta, smooth = 8.0, OneEuro(min_cutoff_hz=1.0, beta=8.0)
    for i in range(200):
        shown = smooth(np.array([speed * i / 30, 0.0]), i / 30)
    assert 0 <= speed * 199 / 30 - shown[0] < 1 / (2 * math.pi * beta)


def test_a_step_is_reached() -> None:
    smooth = OneEuro(min_cutoff_hz=1.0, beta=8.0)
    for i in range(40):
        shown = smooth(np.array([0.0 if i < 10 else 1.0]), i / 25)
    assert shown[0] == pytest.approx(1.0, abs=0.02)


def test_uneven_steps_of_time_give_the_same_way() -> None:
    def run(times: np.ndarray) -> float:
        smooth = OneEuro(min_cutoff_hz=2.0, beta=2.0)
        for time_s in times:
            shown = smooth(np.array([math.sin(2 * time_s)]), float(time_s))
        return float(shown[0])

    rng = np.random.default_rng(2)
    uneven = np.append(np.sort(rng.uniform(0, 3, 240)), 3.0)
    assert run(np.linspace(0, 3, 241)) == pytest.approx(run(uneven), abs=0.02)


def test_points_are_smoothed_by_their_own_speed() -> None:
    smooth = OneEuro(min_cutoff_hz=1.0, beta=10.0)
    for i in range(30):
        shown = smooth(np.array([[0.01 * (-1) ** i, 0.0], [0.2 * i, 0.0]]), i / 25)
    assert abs(shown[0, 0]) < 0.006
    assert shown[1, 0] == pytest.approx(0.2 * 29, abs=0.02)


def test_time_that_does_not_grow_starts_again() -> None:
    smooth = OneEuro(min_cutoff_hz=1.0, beta=0.0)
    smooth(np.array([0.0]), 5.0)
    for time_s in (5.0, 2.0):
        assert smooth(np.array([7.0]), time_s)[0] == 7.0


def test_reset_forgets() -> None:
    smooth = OneEuro(min_cutoff_hz=1.0, beta=0.0)
    smooth(np.array([0.0]), 0.0)
    smooth.reset()
    assert smooth(np.array([1.0]), 0.04)[0] == 1.0
