from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.methods.gan.parts import Box
from mien.runtime.methods.gan.squares import (
    GRID,
    Piece,
    added_up,
    border_mean,
    laid_over,
    match_brightness,
)
from mien.runtime.methods.motion import EDGE, edge_ramp

EVERYWHERE = np.ones((64, 64), np.float32)


def piece(box: Box, value: float, share: float = 1.0) -> Piece:
    return Piece(box, np.full((1, 64, 64), value, np.float32), share)


def cell(u: float) -> int:
    return int(u * GRID)


def test_an_offset_keeps_contrast_and_a_gain_scales_it() -> None:
    rng = np.random.default_rng(0)
    generated = rng.uniform(0.2, 0.4, (1, 64, 64)).astype(np.float32)
    original = rng.uniform(0.5, 0.9, (1, 64, 64)).astype(np.float32)
    for how in ("offset", "gain"):
        matched = match_brightness(generated, original, how)
        assert border_mean(matched) == pytest.approx(border_mean(original), abs=1e-5)
    shifted = match_brightness(generated, original)
    assert shifted.std() == pytest.approx(generated.std(), rel=1e-4)
    scaled = match_brightness(generated, original, "gain")
    assert scaled.std() == pytest.approx(
        generated.std() * border_mean(original) / border_mean(generated), rel=1e-4
    )


def test_what_brightens_the_middle_leaves_the_border_as_bright_as_it_was() -> None:
    original = np.full((1, 64, 64), 0.5, np.float32)
    generated = original - np.float32(0.1)
    generated[:, 24:40, 24:40] = 0.9
    matched = match_brightness(generated, original)
    np.testing.assert_allclose(matched[:, :8], original[:, :8], atol=1e-6)
    assert matched[0, 32, 32] == pytest.approx(1.0)


def test_black_is_never_scaled_to_brightness() -> None:
    matched = match_brightness(np.zeros((1, 8, 8)), np.full((1, 8, 8), 0.5), "gain")
    np.testing.assert_allclose(matched, 0.5)


def test_colour_is_shifted_by_one_and_the_same() -> None:
    generated = np.stack([np.full((8, 8), value, np.float32) for value in (0.1, 0.2, 0.6)])
    matched = match_brightness(generated, np.full((3, 8, 8), 0.5, np.float32))
    np.testing.assert_allclose(matched[2] - matched[0], 0.5, atol=1e-6)


def test_the_edge_rises_linearly_over_an_eighth_of_the_side() -> None:
    ramp = edge_ramp(64)
    assert EDGE * 64 == 8
    np.testing.assert_allclose(ramp[32, :10], np.minimum(1, np.arange(10) / 8))
    np.testing.assert_allclose(ramp, ramp[::-1, ::-1])
    assert not ramp[0].any()
    assert ramp[4, 32] == ramp[4, 4] == 0.5


def test_a_pasted_square_stays_within_itself() -> None:
    sheet = laid_over([piece(Box(0.5, 0.5, 0.5), 0.7)])
    assert sheet.alpha[cell(0.5), cell(0.5)] == pytest.approx(1, abs=1e-4)
    assert sheet.values[0, cell(0.5), cell(0.5)] == pytest.approx(0.7, abs=1e-4)
    assert not sheet.alpha[: cell(0.25)].any()
    assert not sheet.alpha[:, cell(0.75) + 1 :].any()
    half_way = 0.25 + 0.5 * EDGE / 2
    assert sheet.alpha[cell(0.5), cell(half_way)] == pytest.approx(0.5, abs=0.06)


def test_the_later_square_lies_on_top() -> None:
    sheet = laid_over([piece(Box(0.4, 0.5, 0.5), 0.2), piece(Box(0.6, 0.5, 0.5), 0.8)])
    assert sheet.values[0, cell(0.5), cell(0.5)] == pytest.approx(0.8, abs=1e-4)
    assert sheet.values[0, cell(0.5), cell(0.3)] == pytest.approx(0.2, abs=1e-4)
    assert sheet.alpha.max() <= 1


def test_changes_do_not_add_up_where_squares_overlap() -> None:
    squares = [piece(Box(0.4, 0.5, 0.5), 0.2), piece(Box(0.6, 0.5, 0.5), 0.2)]
    sheet = added_up(squares, EVERYWHERE)
    shown = sheet.values[0] * sheet.alpha
    assert shown.max() == pytest.approx(0.2, abs=1e-3)
    assert shown[cell(0.5), cell(0.5)] == pytest.approx(0.2, abs=1e-3)


def test_where_squares_overlap_the_nearer_middle_counts_more() -> None:
    nose, mouth = piece(Box(0.5, 0.4, 0.4), 0.0), piece(Box(0.5, 0.65, 0.5), 0.3)
    sheet = added_up([nose, mouth], EVERYWHERE)
    shown = sheet.values[0] * sheet.alpha
    assert shown[cell(0.65), cell(0.5)] == pytest.approx(0.3, abs=0.01)
    assert shown[cell(0.57), cell(0.5)] > 0.28  # within the nose's square, near its border
    assert shown[cell(0.4), cell(0.5)] < 0.01
    line = shown[cell(0.25) : cell(0.85), cell(0.5)]
    assert np.abs(np.diff(line)).max() < 0.03  # without a seam


def test_changes_are_wanted_on_the_face_only() -> None:
    region = np.zeros((64, 64), np.float32)
    region[:32] = 1
    sheet = added_up([piece(Box(0.5, 0.5, 0.8), 0.3)], region)
    assert sheet.alpha[cell(0.4), cell(0.5)] == pytest.approx(1, abs=1e-3)
    assert not sheet.alpha[cell(0.53) :].any()


def test_a_picture_of_the_segmented_face_is_pasted_on_the_face_only() -> None:
    region = np.zeros((64, 64), np.float32)
    region[:32] = 1
    square = piece(Box(0.5, 0.5, 0.8), 0.3)
    sheet = laid_over([square], region)
    assert sheet.alpha[cell(0.4), cell(0.5)] == pytest.approx(1, abs=1e-3)
    assert not sheet.alpha[cell(0.53) :].any()
    assert laid_over([square]).alpha[cell(0.6), cell(0.5)] == pytest.approx(1, abs=1e-3)


def test_a_share_is_how_much_of_a_square_shows() -> None:
    whole = added_up([piece(Box(0.5, 0.5, 0.5), 0.3)], EVERYWHERE)
    half = added_up([piece(Box(0.5, 0.5, 0.5), 0.3, 0.5)], EVERYWHERE)
    np.testing.assert_allclose(half.values * half.alpha, whole.values * whole.alpha / 2, atol=1e-3)
    np.testing.assert_allclose(
        laid_over([piece(Box(0.5, 0.5, 0.5), 0.3, 0.5)]).alpha.max(), 0.5, atol=1e-3
    )


def test_a_square_beyond_the_crop_is_cut_and_fades_at_no_border_cell() -> None:
    for sheet in (
        laid_over([piece(Box(0.9, 0.9, 0.6), 0.5)]),
        added_up([piece(Box(0.9, 0.9, 0.6), 0.5)], EVERYWHERE),
    ):
        assert sheet.alpha.any()
        assert not sheet.alpha[-1].any()
        assert not sheet.alpha[:, -1].any()
