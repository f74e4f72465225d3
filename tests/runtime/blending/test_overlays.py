"""Deltas and pastes in a frame, against a slow blender that computes every sample by itself."""

from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.blending.blending import blend
from mien.runtime.blending.edit import Delta, Edit, Paste
from mien.runtime.frame import Frame, PixelLayout, Plane
from tests.runtime.blending.test_blending import (
    HEIGHT,
    LAYOUTS,
    WIDTH,
    at_unit,
    bump,
    components,
    make_frame,
    make_matrix,
)

BOX = (0.15, 0.2, 0.9, 0.95)
KR, KB = 0.2126, 0.0722  # BT.709, the layout's default


def content(channels: int) -> np.ndarray:
    place = (np.arange(12) + 0.5) / 12
    waves = [
        0.3 + 0.2 * np.outer(np.sin(3 * place + c), np.cos(2 * place)) for c in range(channels)
    ]
    return np.stack(waves).astype(np.float32)


def make_overlay(kind: str, channels: int) -> Edit:
    values, mask = content(channels), np.ascontiguousarray(bump(12))
    if kind == "delta":
        return Edit(delta=Delta(values - np.float32(0.25), mask, BOX))
    return Edit(paste=Paste(values, mask, BOX))


def slow_grid(grid: np.ndarray, plane: Plane, matrix: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = BOX
    step_x, step_y = plane.subsampling_xy
    shown = np.zeros(plane.samples.shape[:2])
    for j in range(shown.shape[0]):
        for i in range(shown.shape[1]):
            p = np.array([step_x * (i + 0.5) - 0.5, step_y * (j + 0.5) - 0.5])
            u, v = matrix[:, :2] @ p + matrix[:, 2]
            shown[j, i] = at_unit(grid, (u - x0) / (x1 - x0), (v - y0) / (y1 - y0))
    return shown


def slow_overlay(frame: Frame, matrix: np.ndarray, edit: Edit, strength: float) -> list[np.ndarray]:
    """Every component of the result, before rounding."""
    layout, depth = frame.layout, frame.layout.depth
    peak = (1 << depth) - 1
    layer = edit.delta or edit.paste
    assert layer is not None
    is_delta = isinstance(layer, Delta)
    values = layer.values if isinstance(layer, Delta) else layer.pixels
    mask = layer.mask * strength if isinstance(layer, Delta) else layer.alpha * min(1, strength)
    values = values * mask  # alpha is interpolated with what it covers
    covered = np.zeros_like(mask) if is_delta else mask
    below = components(frame)
    rgb_weights = np.array([0.299, 0.587, 0.114])
    results = []
    if layout.kind == "rgb":
        plane = frame.planes[0]
        shown = [slow_grid(channel, plane, matrix) for channel in values]
        alpha = slow_grid(covered, plane, matrix)
        grey = sum(w * below[place] for w, place in zip(rgb_weights, layout.rgb_order, strict=True))
        results = [component.copy() for component in below]
        for channel, place in enumerate(layout.rgb_order):
            if len(values) == 1:
                results[place] += shown[0] * peak - grey * alpha
            else:
                results[place] += shown[channel] * peak - below[place] * alpha
        return [np.clip(result, 0, peak) for result in results]
    black, white = (0, peak) if layout.full_range else (16 << depth - 8, 235 << depth - 8)
    weights = np.array([KR, 1 - KR - KB, KB]) if layout.kind == "yuv" else rgb_weights
    luma = values[0] if len(values) == 1 else np.tensordot(weights, values, 1)
    grids = [(luma, black, white - black)]
    if layout.kind == "yuv":
        span = peak if layout.full_range else 224 << depth - 8
        if len(values) == 1:
            grids += [(None, 0, 0)] * 2
        else:
            middle = 1 << depth - 1
            grids += [((values[2] - luma) / (2 * (1 - KB)), middle, span)]
            grids += [((values[0] - luma) / (2 * (1 - KR)), middle, span)]
    planes = [p for p in frame.planes for _ in range(np.atleast_3d(p.samples).shape[2])]
    for component, plane, (grid, zero, span) in zip(below, planes, grids, strict=True):
        if grid is None:
            results.append(component)
            continue
        alpha = slow_grid(covered, plane, matrix)
        shown = slow_grid(np.asarray(grid), plane, matrix) * span
        results.append(np.clip(component - (component - zero) * alpha + shown, 0, peak))
    return results


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["delta", "paste"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_fast_overlays_agree_with_slow_ones(name: str, kind: str, channels: int) -> None:
    frame, matrix, edit = make_frame(name), make_matrix(), make_overlay(kind, channels)
    got = components(blend(frame, matrix, edit, 0.8))
    want = slow_overlay(frame, matrix, edit, 0.8)
    unit = 4 if frame.layout.depth == 10 else 1
    before = components(frame)
    assert np.abs(want[0] - before[0]).max() > 8 * unit
    for index, (fast, slow) in enumerate(zip(got, want, strict=True)):
        assert np.abs(fast - slow).max() <= unit, index


@pytest.mark.parametrize("kind", ["delta", "paste"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_where_the_mask_is_zero_samples_keep_their_bits(name: str, kind: str) -> None:
    rng = np.random.default_rng(5)
    made = make_frame(name)
    noisy = tuple(
        Plane(
            rng.integers(0, 1 << made.layout.depth, plane.samples.shape).astype(plane.samples.dtype)
            << made.layout.shift,
            plane.subsampling_xy,
        )
        for plane in made.planes
    )
    frame = Frame(noisy, made.layout, WIDTH, HEIGHT)
    matrix = make_matrix((23.0, 19.0), 40.0)
    mask = np.zeros((12, 12), np.float32)
    mask[7:10, 4:9] = 1
    values = np.ones((3, 12, 12), np.float32) * np.float32([0.6, 0.4, 0.1])[:, None, None]
    edit = Edit(delta=Delta(values, mask, BOX))
    if kind == "paste":
        edit = Edit(paste=Paste(values, mask, BOX))
    result = blend(frame, matrix, edit)
    for before, after in zip(frame.planes, result.planes, strict=True):
        untouched = slow_grid(mask, before, matrix) == 0
        np.testing.assert_array_equal(before.samples[untouched], after.samples[untouched])
        assert (before.samples != after.samples).any()


def test_luma_alone_leaves_the_colour_planes_as_they_are() -> None:
    frame = make_frame("yuv420p")
    for kind in ("delta", "paste"):
        result = blend(frame, make_matrix(), make_overlay(kind, 1))
        assert result.planes[1] is frame.planes[1]
        assert result.planes[2] is frame.planes[2]


def test_strength_scales_a_delta_and_fades_a_paste() -> None:
    frame, matrix = make_frame("gray"), make_matrix()
    plain = components(frame)[0]

    def size(kind: str, strength: float) -> float:
        shown = components(blend(frame, matrix, make_overlay(kind, 1), strength))[0]
        return float(np.abs(shown - plain).sum())

    assert size("delta", 1.5) > 1.4 * size("delta", 1.0)
    assert size("paste", 1.5) == size("paste", 1.0)
    assert 0.4 < size("paste", 0.5) / size("paste", 1.0) < 0.6


def test_an_empty_mask_gives_the_frame_itself() -> None:
    frame = make_frame("nv12")
    nothing = np.zeros((4, 4), np.float32)
    values = np.ones((1, 4, 4), np.float32)
    assert blend(frame, make_matrix(), Edit(delta=Delta(values, nothing))) is frame
    assert blend(frame, make_matrix(), Edit(paste=Paste(values, nothing))) is frame


def test_a_paste_covers_a_delta() -> None:
    frame = Frame(
        (Plane(np.full((HEIGHT, WIDTH), 90, np.uint8), (1, 1)),),
        PixelLayout("gray", full_range=True),
        WIDTH,
        HEIGHT,
    )
    mask = np.zeros((8, 8), np.float32)
    mask[2:6, 2:6] = 1
    delta = Delta(np.full((1, 8, 8), 0.3, np.float32), mask)
    paste = Paste(np.full((1, 8, 8), 0.6, np.float32), mask)
    samples = blend(frame, make_matrix(), Edit(delta=delta, paste=paste)).planes[0].samples
    assert samples[19, 23] == round(0.6 * 255)


def test_only_an_edit_without_any_part_is_empty() -> None:
    assert Edit().is_empty
    assert not make_overlay("delta", 1).is_empty
    assert not make_overlay("paste", 1).is_empty
    assert not Edit(gain=np.zeros((2, 2), np.float32)).is_empty
