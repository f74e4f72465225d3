from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.blending.edit import Edit
from mien.runtime.blending.field import Region, make_field, region_under, spline

UNITS = np.array([[0.01, 0.0, 0.1], [0.0, 0.01, 0.2]])  # a crop of 100 pixels from (-10, -20) on


def test_a_grid_is_shown_where_it_lies() -> None:
    y, x = np.mgrid[0:16, 0:16]
    ramp = (3.0 * x + 5.0 * y).astype(np.float32)
    for side in (40.0, 400.0):  # densely and sparsely looked up
        matrix = np.array([[1 / side, 0.0, 0.0], [0.0, 1 / side, 0.0]])
        region = Region(int(side / 4), int(side / 4), int(side / 2) + 1, int(side / 2), matrix)
        shown = region.show(ramp)
        width, height = region.size_wh
        assert shown.shape == (height, width)
        places_x = (np.arange(width) + region.x0) / side * 16 - 0.5
        places_y = (np.arange(height) + region.y0) / side * 16 - 0.5
        expected = 3 * places_x[None, :] + 5 * places_y[:, None]
        # the lookup itself rounds to 1/32 cell, and the last samples repeat
        assert np.abs(shown - expected)[:-1, :-1].max() < 8 / 32 + 0.05


def test_sparse_lookup_keeps_zeros_zero() -> None:
    grid = np.zeros((16, 16), np.float32)
    grid[8, 8] = 1.0
    matrix = np.array([[1 / 400, 0.0, 0.0], [0.0, 1 / 400, 0.0]])
    shown = Region(0, 0, 401, 401, matrix).show(grid)
    assert shown.max() > 0.9
    touched = np.argwhere(shown != 0)
    assert touched.min() >= 7.5 * 25 - 3
    assert touched.max() <= 9.5 * 25 + 3


def test_the_spline_has_no_creases_and_keeps_a_border_of_zeros() -> None:
    coarse = np.zeros((16, 16), np.float32)
    coarse[1:-1, 1:-1] = np.random.default_rng(0).uniform(-0.2, 0.2, (14, 14))
    fine = spline(coarse)
    assert fine.shape == (80, 80)
    for edge in (fine[0], fine[-1], fine[:, 0], fine[:, -1]):
        np.testing.assert_allclose(edge, 0, atol=1e-7)
    bends = np.abs(np.diff(fine, 2, axis=0)).max()
    assert bends < 0.4 * 2 / 25 + 1e-6  # a crease would have 0.4 * 2 / 5


def test_a_fine_gain_is_taken_as_it_is() -> None:
    gain = np.zeros((64, 64), np.float32)
    gain[20:30, 20:30] = 0.1
    field = make_field(Edit(gain=gain), UNITS, 0.5)
    np.testing.assert_allclose(field.gain, gain / 2)


def test_only_the_part_that_does_something_is_active() -> None:
    flow = np.zeros((2, 16, 16), np.float32)
    flow[0, 4:6, 8:12] = 0.05
    field = make_field(Edit(flow), UNITS, 1.0)
    assert field.active == (7.5 / 16, 3.5 / 16, 12.5 / 16, 6.5 / 16)
    assert not field.is_empty
    assert field.flow_x is not None
    assert field.flow_x.max() == pytest.approx(5.0)
    assert make_field(Edit(flow), UNITS, 1e-6).is_empty
    assert make_field(Edit(np.zeros_like(flow)), UNITS, 1.0).is_empty


def test_the_mask_holds_back_flow_and_gain() -> None:
    flow = np.full((2, 16, 16), 0.05, np.float32)
    gain = np.full((8, 8), 0.1, np.float32)
    mask = np.zeros((16, 16), np.float32)
    mask[8:, 8:] = 1
    field = make_field(Edit(flow, gain, None, mask), UNITS, 1.0)
    assert field.flow_x is not None
    assert field.gain is not None
    assert (field.flow_x[:8] == 0).all()
    assert (field.gain[:19] == 0).all()
    assert field.gain[30:, 30:].min() == pytest.approx(0.1)


def test_a_region_is_clipped_to_its_plane() -> None:
    region = region_under((0.0, 0.0, 1.0, 1.0), UNITS, (60, 50), (1, 1))
    assert region is not None
    assert (region.x0, region.y0, region.x1, region.y1) == (0, 0, 60, 50)
    half = region_under((0.5, 0.5, 0.7, 0.8), UNITS, (30, 40), (2, 2))
    assert half is not None
    assert (half.x0, half.x1) == (18, 30)  # it begins with an even column
    assert region_under((0.0, 0.0, 0.05, 0.05), UNITS, (60, 50), (1, 1)) is None
