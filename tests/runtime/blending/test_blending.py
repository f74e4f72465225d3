"""The fast blender against a slow one that computes every sample by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mien.runtime.blending import field
from mien.runtime.blending.blending import FaceEdit, blend, blend_faces, crop_units_matrix
from mien.runtime.blending.edit import Delta, Edit, Patch
from mien.runtime.frame import Frame, PixelLayout, Plane

WIDTH, HEIGHT = 48, 40
LAYOUTS = (
    "yuv420p",
    "yuvj422p",
    "yuv444p",
    "nv12",
    "yuv420p10",
    "p010",
    "gray",
    "gray10",
    "rgb24",
    "bgr24",
    "rgba",
    "gbrp",
)


def picture(width: int, height: int, peak: int, seed: int) -> np.ndarray:
    """Smooth texture, so that the interpolation's own fine print does not matter."""
    y, x = np.mgrid[0:height, 0:width] / 7.0
    wave = np.sin(x + seed) + np.cos(1.3 * y - seed) + np.sin(0.7 * (x + y))
    return (peak * (0.5 + 0.14 * wave)).astype(np.float64)


def make_frame(name: str, width: int = WIDTH, height: int = HEIGHT) -> Frame:
    depth = 10 if "10" in name else 8
    shift = 6 if name == "p010" else 0
    dtype = np.uint8 if depth == 8 else np.uint16
    peak = (1 << depth) - 1

    def plane(step_x: int, step_y: int, seeds: tuple[int, ...]) -> Plane:
        size = (math.ceil(width / step_x), math.ceil(height / step_y))
        parts = [picture(*size, peak, seed).round().astype(dtype) << shift for seed in seeds]
        samples = parts[0] if len(parts) == 1 else np.stack(parts, -1)
        return Plane(samples.astype(dtype), (step_x, step_y))

    kind = "gray" if "gray" in name else "rgb" if name[0] in "rgb" and "gray" not in name else "yuv"
    order = {"bgr24": (2, 1, 0), "gbrp": (2, 0, 1)}.get(name, (0, 1, 2))
    layout = PixelLayout(kind, depth, shift, full_range="j" in name, rgb_order=order)
    if name in ("nv12", "p010"):
        planes = (plane(1, 1, (0,)), plane(2, 2, (1, 2)))
    elif name in ("rgb24", "bgr24"):
        planes = (plane(1, 1, (0, 1, 2)),)
    elif name == "rgba":
        planes = (plane(1, 1, (0, 1, 2, 3)),)
    elif kind == "gray":
        planes = (plane(1, 1, (0,)),)
    else:
        step = {"yuv420p": (2, 2), "yuv420p10": (2, 2), "yuvj422p": (2, 1)}.get(name, (1, 1))
        planes = (plane(1, 1, (0,)), plane(*step, (1,)), plane(*step, (2,)))
    for each in planes:
        each.samples.flags.writeable = False
    return Frame(planes, layout, width, height)


def make_matrix(centre: tuple[float, float] = (23.0, 19.0), side: float = 30.0) -> np.ndarray:
    """A crop turned by 12 degrees: crop units from frame pixels."""
    c, s = math.cos(0.21) / side, math.sin(0.21) / side
    linear = np.array([[c, s], [-s, c]])
    return np.hstack([linear, (0.5 - linear @ np.array(centre))[:, None]]).astype(np.float32)


def bump(size: int) -> np.ndarray:
    place = (np.arange(size) + 0.5) / size
    line = np.sin(math.pi * place) ** 2
    field = np.outer(line, line).astype(np.float32)
    field[[0, -1]] = 0
    field[:, [0, -1]] = 0
    return field


def make_edit() -> Edit:
    side = bump(16)
    mask = np.ones((16, 16), np.float32)
    mask[:, :8] = 0.5
    alpha = bump(8)
    patch = Patch(
        luma=np.full((8, 8), 0.9, np.float32),
        alpha=alpha,
        saturation=np.full((8, 8), 0.2, np.float32),
        around=1 - np.ceil(alpha),
        box=(0.3, 0.55, 0.7, 0.85),
    )
    return Edit(np.stack([0.06 * side, -0.09 * side]), 0.3 * bump(12), patch, mask)


def bilinear(grid: np.ndarray, x: float, y: float, *, outside: float | None = 0.0) -> float:
    """A grid between its cells; `outside` beyond it, or its border where that is None."""
    height, width = grid.shape
    x0, y0 = math.floor(x), math.floor(y)
    total = 0.0
    for j, i in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
        weight = (1 - abs(x - i)) * (1 - abs(y - j))
        if outside is None:
            value = grid[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
        else:
            value = grid[j, i] if 0 <= i < width and 0 <= j < height else outside
        total += weight * float(value)
    return total


def at_unit(grid: np.ndarray, u: float, v: float) -> float:
    return bilinear(grid, u * grid.shape[1] - 0.5, v * grid.shape[0] - 0.5)


def spline_at_unit(grid: np.ndarray, u: float, v: float) -> float:
    """Quadratic B-spline over the cells."""

    def kernel(t: float) -> float:
        t = abs(t)
        return 0.75 - t * t if t < 0.5 else 0.5 * (1.5 - t) ** 2 if t < 1.5 else 0.0

    rows, columns = grid.shape
    return sum(
        float(grid[j, i]) * kernel(u * columns - 0.5 - i) * kernel(v * rows - 0.5 - j)
        for j in range(rows)
        for i in range(columns)
        if grid[j, i] and abs(u * columns - 0.5 - i) < 1.5 and abs(v * rows - 0.5 - j) < 1.5
    )


def slow_component(
    values: np.ndarray, step: tuple[int, int], matrix: np.ndarray, edit: Edit, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flow for one component: (moved values, gain factor), both (h, w)."""
    moved, factor = values.astype(np.float64), np.ones(values.shape)
    inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
    for j in range(values.shape[0]):
        for i in range(values.shape[1]):
            p = np.array([step[0] * (i + 0.5) - 0.5, step[1] * (j + 0.5) - 0.5])
            u, v = matrix[:, :2] @ p + matrix[:, 2]
            mask = 1.0 if edit.mask is None else at_unit(edit.mask, u, v)
            if edit.flow is not None:
                flow = edit.flow if edit.mask is None else edit.flow * edit.mask
                way = inverse @ np.array([at_unit(flow[0], u, v), at_unit(flow[1], u, v)])
                way = strength * way / np.array(step)
                moved[j, i] = bilinear(values, i + way[0], j + way[1], outside=None)
            if edit.gain is not None:
                factor[j, i] += strength * mask * spline_at_unit(edit.gain, u, v)
    return moved, factor


def slow_patch(
    values: np.ndarray, step: tuple[int, int], matrix: np.ndarray, patch: Patch, what: str
) -> np.ndarray:
    grid = getattr(patch, what)
    x0, y0, x1, y1 = patch.box
    shown = np.zeros(values.shape)
    for j in range(values.shape[0]):
        for i in range(values.shape[1]):
            p = np.array([step[0] * (i + 0.5) - 0.5, step[1] * (j + 0.5) - 0.5])
            u, v = matrix[:, :2] @ p + matrix[:, 2]
            shown[j, i] = at_unit(grid, (u - x0) / (x1 - x0), (v - y0) / (y1 - y0))
    return shown


def light_rgb(
    channels: list[np.ndarray], order: tuple[int, int, int], factor: np.ndarray, peak: int
) -> None:
    """Multiply the luma of R, G, B and leave their colour."""
    r, g, b = (np.clip(channels[place], 0, peak) for place in order)
    light = (0.299 * r + 0.587 * g + 0.114 * b) * (factor - 1)
    for place, values in zip(order, (r, g, b), strict=True):
        channels[place] = np.clip(values + light, 0, peak)


def slow_blend(frame: Frame, matrix: np.ndarray, edit: Edit, strength: float) -> list[np.ndarray]:
    """Every plane of the result, as values before rounding."""
    layout = frame.layout
    peak = (1 << layout.depth) - 1
    is_video = not layout.full_range and layout.kind != "rgb"
    black, white = (16 << (layout.depth - 8), 235 << (layout.depth - 8)) if is_video else (0, peak)
    results, factors = [], []
    for index, plane in enumerate(frame.planes):
        samples = plane.samples >> layout.shift
        parts = np.atleast_3d(samples)
        zero = black if index == 0 or layout.kind == "rgb" else 1 << (layout.depth - 1)
        for channel in range(parts.shape[2]):
            if layout.kind == "rgb" and parts.shape[2] == 4 and channel == 3:
                results.append(parts[..., 3].astype(np.float64))
                continue
            step = plane.subsampling_xy
            moved, factor = slow_component(parts[..., channel], step, matrix, edit, strength)
            factors.append(factor)
            if index == 0 and layout.kind != "rgb":  # chroma keeps its colour
                moved = np.clip(np.clip(moved - zero, -zero, None) * factor + zero, 0, peak)
            if edit.patch is not None and layout.kind != "rgb":
                alpha = slow_patch(moved, step, matrix, edit.patch, "alpha") * min(1, strength)
                if index == 0:
                    luma = slow_patch(moved, step, matrix, edit.patch, "luma")
                    moved += (black + luma * (white - black) - moved) * alpha
                else:
                    saturation = slow_patch(moved, step, matrix, edit.patch, "saturation")
                    around = slow_patch(moved, step, matrix, edit.patch, "around")
                    mean = (np.round(moved) * around).sum() / around.sum()
                    moved += (zero + (mean - zero) * saturation - moved) * alpha
            results.append(moved)
    if layout.kind == "rgb":
        light_rgb(results, layout.rgb_order, factors[0], peak)
    if edit.patch is not None and layout.kind == "rgb":
        r, g, b = (results[place] for place in layout.rgb_order)
        grey = 0.299 * r + 0.587 * g + 0.114 * b
        alpha = slow_patch(grey, (1, 1), matrix, edit.patch, "alpha") * min(1, strength)
        luma = slow_patch(grey, (1, 1), matrix, edit.patch, "luma") * peak
        saturation = slow_patch(grey, (1, 1), matrix, edit.patch, "saturation")
        around = slow_patch(grey, (1, 1), matrix, edit.patch, "around")
        mean_grey = (grey * around).sum() / around.sum()
        for place in layout.rgb_order:
            mean = (results[place] * around).sum() / around.sum()
            shown = luma + (mean - mean_grey) * saturation
            results[place] = results[place] + (shown - results[place]) * alpha
    return results


def components(frame: Frame) -> list[np.ndarray]:
    return [
        (part >> frame.layout.shift).astype(np.float64)
        for plane in frame.planes
        for part in np.moveaxis(np.atleast_3d(plane.samples), 2, 0)
    ]


@pytest.mark.parametrize("name", LAYOUTS)
def test_fast_blend_agrees_with_the_slow_one(name: str) -> None:
    frame, edit, matrix = make_frame(name), make_edit(), make_matrix()
    fast = blend(frame, matrix, edit, 0.8)
    slow = slow_blend(frame, matrix, edit, 0.8)
    unit = 4 if frame.layout.depth == 10 else 1
    before = components(frame)
    for index, (got, want) in enumerate(zip(components(fast), slow, strict=True)):
        assert np.abs(got - want).max() <= 2.5 * unit, index
        assert np.abs(got - want).mean() <= 0.35 * unit, index
        if name != "rgba" or index != 3:
            assert np.abs(want - before[index]).max() > 8 * unit, index


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_lies_outside_the_crop_keeps_its_bits(name: str) -> None:
    frame, matrix = make_frame(name), make_matrix((13.0, 12.0), 16.0)
    result = blend(frame, matrix, make_edit(), 1.0)
    for before, after in zip(frame.planes, result.planes, strict=True):
        step_x, step_y = before.subsampling_xy
        height, width = before.samples.shape[:2]
        x, y = np.meshgrid(
            step_x * (np.arange(width) + 0.5) - 0.5, step_y * (np.arange(height) + 0.5) - 0.5
        )
        u = np.stack([x, y], -1) @ matrix[:, :2].T + matrix[:, 2]
        outside = ((u < 0) | (u > 1)).any(-1)
        assert outside.any()
        assert not outside.all()
        np.testing.assert_array_equal(before.samples[outside], after.samples[outside])
        assert (before.samples != after.samples).any()


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "p010", "rgba"])
def test_where_the_field_is_zero_samples_keep_their_bits(name: str) -> None:
    rng = np.random.default_rng(3)
    frame = make_frame(name)
    noisy = tuple(
        Plane(
            rng.integers(0, 1 << frame.layout.depth, p.samples.shape).astype(p.samples.dtype)
            << frame.layout.shift,
            p.subsampling_xy,
        )
        for p in frame.planes
    )
    frame = Frame(noisy, frame.layout, WIDTH, HEIGHT)
    flow, gain = np.zeros((2, 16, 16), np.float32), np.zeros((16, 16), np.float32)
    flow[:, 9, 9], gain[9, 9] = 0.05, 0.2
    result = blend(frame, make_matrix((24.0, 20.0), 34.0), Edit(flow, gain), 1.0)
    for before, after in zip(frame.planes, result.planes, strict=True):
        half = before.samples.shape[0] // 2 - 2
        np.testing.assert_array_equal(before.samples[:half], after.samples[:half])
        assert (before.samples != after.samples).any()


def test_a_frame_without_edit_is_given_back_as_it_is() -> None:
    frame = make_frame("yuv420p")
    empty = Edit(np.zeros((2, 8, 8), np.float32), np.zeros((4, 4), np.float32))
    assert blend(frame, make_matrix(), Edit()) is frame
    assert blend(frame, make_matrix(), empty) is frame
    assert blend(frame, make_matrix(), make_edit(), 0.0) is frame
    assert blend_faces(frame, []) is frame


def test_a_crop_outside_the_frame_changes_nothing() -> None:
    frame = make_frame("nv12")
    result = blend(frame, make_matrix((400.0, 20.0)), make_edit())
    for before, after in zip(frame.planes, result.planes, strict=True):
        assert after is before


@pytest.mark.parametrize("name", ["nv12", "rgb24"])
@pytest.mark.parametrize("centre", [(2.0, 3.0), (46.0, 38.0), (23.0, -8.0)])
def test_a_face_across_the_border_is_edited_where_it_shows(
    name: str, centre: tuple[float, float]
) -> None:
    frame, matrix = make_frame(name, 47, 39), make_matrix(centre)
    got = components(blend(frame, matrix, make_edit()))
    want = slow_blend(frame, matrix, make_edit(), 1.0)
    for fast, slow in zip(got, want, strict=True):
        # the light of R, G and B is made of all three, each moved by another kernel
        assert np.abs(fast - slow).max() <= 3


def test_planes_that_do_not_change_are_the_same_arrays() -> None:
    luma = make_frame("yuv420p")
    alpha = Plane(np.full((HEIGHT, WIDTH), 7, np.uint8), (1, 1))
    frame = Frame((*luma.planes, alpha), luma.layout, WIDTH, HEIGHT, pts=5)
    result = blend(frame, make_matrix(), make_edit())
    assert result.planes[3] is alpha
    assert result.planes[0].samples is not frame.planes[0].samples
    assert result.pts == 5


def test_the_alpha_of_rgba_is_kept() -> None:
    frame = make_frame("rgba")
    result = blend(frame, make_matrix(), make_edit())
    np.testing.assert_array_equal(result.planes[0].samples[..., 3], frame.planes[0].samples[..., 3])


def test_two_faces_in_one_call_are_two_calls() -> None:
    frame = make_frame("yuv420p")
    first, second = make_matrix((16.0, 16.0), 24.0), make_matrix((30.0, 22.0), 24.0)
    edit = make_edit()
    both = blend_faces(frame, [FaceEdit(first, edit), FaceEdit(second, edit, 0.5)])
    one_by_one = blend(blend(frame, first, edit), second, edit, 0.5)
    for a, b in zip(both.planes, one_by_one.planes, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


def test_strength_beyond_one_exaggerates_the_field() -> None:
    frame, edit = make_frame("gray"), make_edit()
    edit = Edit(edit.flow, edit.gain)
    plain = components(frame)[0]
    once = np.abs(components(blend(frame, make_matrix(), edit, 1.0))[0] - plain).sum()
    more = np.abs(components(blend(frame, make_matrix(), edit, 1.5))[0] - plain).sum()
    assert more > 1.2 * once


def test_bright_samples_saturate_instead_of_wrapping() -> None:
    for dtype, depth in ((np.uint8, 8), (np.uint16, 10)):
        top = (1 << depth) - 2
        plane = Plane(np.full((HEIGHT, WIDTH), top, dtype), (1, 1))
        frame = Frame((plane,), PixelLayout("gray", depth, full_range=True), WIDTH, HEIGHT)
        samples = blend(frame, make_matrix(), Edit(gain=0.5 * bump(12))).planes[0].samples
        assert samples.max() == top + 1
        assert samples.min() == top


def test_crop_units_matrix_takes_pixels_of_the_crop_to_units() -> None:
    pixels = np.array([[2.0, 0.0, 10.0], [0.0, 2.0, 4.0]], np.float32)
    units = crop_units_matrix(pixels, 64)
    point = np.array([5.0, 6.0])
    crop = pixels[:, :2] @ point + pixels[:, 2]
    np.testing.assert_allclose(units[:, :2] @ point + units[:, 2], (crop + 0.5) / 64, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_large_region_is_painted_in_strips_that_join(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(name, 400, 320)
    edit = make_edit()
    delta = Delta(np.full((3, 8, 8), 0.1, np.float32), bump(8))
    faces = [
        FaceEdit(make_matrix((190.0, 150.0), 280.0), replace(edit, delta=delta)),
        FaceEdit(make_matrix((260.0, 170.0), 200.0), edit),
    ]
    whole = blend_faces(frame, faces)
    monkeypatch.setattr(field, "LARGE_REGION", 64)
    monkeypatch.setattr(field, "STRIP_SAMPLES", 4096)
    in_strips = blend_faces(frame, faces)
    for one, other, plane in zip(whole.planes, in_strips.planes, frame.planes, strict=True):
        # remapping rounds places to 1/32 of a sample, and a lookup to 1/32 of a cell
        most = 2 << max(0, frame.layout.depth - 8)
        difference = np.abs(one.samples.astype(int) - other.samples) >> frame.layout.shift
        assert difference.max() <= most
        assert (difference > 0).mean() < 0.002
        assert (other.samples != plane.samples).mean() > 0.2


def covered_edit(*, strong: bool) -> Edit:
    flow = np.zeros((2, 24, 24), np.float32)
    flow[:, 3:-3, 3:-3] = 0.06 if strong else 0.0
    gain = np.zeros((24, 24), np.float32)
    gain[3:-3, 3:-3] = 0.2
    covered = np.zeros((64, 64), np.float32)
    covered[24:36, 20:44] = 1
    return Edit(flow=flow, gain=gain, covered=covered)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_covers_the_skin_keeps_every_sample(name: str) -> None:
    frame = make_frame(name, 96, 80)
    matrix = np.array([[1 / 96, 0, 0.5 / 96], [0, 1 / 80, 0.5 / 80]], np.float32)
    edited = blend(frame, matrix, covered_edit(strong=True))
    for before, after in zip(frame.planes, edited.planes, strict=True):
        step_x, step_y = before.subsampling_xy
        rows = slice(math.ceil(26 / 64 * 80 / step_y), int(34 / 64 * 80 / step_y))
        columns = slice(math.ceil(22 / 64 * 96 / step_x), int(42 / 64 * 96 / step_x))
        assert np.array_equal(after.samples[rows, columns], before.samples[rows, columns])
        assert not np.array_equal(after.samples, before.samples)


def test_a_cover_does_not_smear_into_the_skin_that_moves_beside_it() -> None:
    luma = np.full((80, 96), 100, np.uint8)
    luma[32:43, 32:64] = 250  # a white cup on grey skin
    frame = Frame((Plane(luma, (1, 1)),), PixelLayout("gray", full_range=True), 96, 80)
    matrix = np.array([[1 / 96, 0, 0.5 / 96], [0, 1 / 80, 0.5 / 80]], np.float32)
    covered = np.zeros((64, 64), np.float32)
    covered[24:36, 20:44] = 1
    flow = covered_edit(strong=True).flow
    shown = blend(frame, matrix, Edit(flow=flow, covered=covered)).planes[0].samples
    free = blend(frame, matrix, Edit(flow=flow)).planes[0].samples
    beyond = np.ones(luma.shape, bool)
    beyond[28:47, 28:68] = False
    assert free[beyond].max() > 200
    assert shown[beyond].max() < 130


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_cover_beside_what_moves_is_left_as_it_is(name: str) -> None:
    """Only the margin that the movement looks at has the cover in it."""
    frame = make_frame(name, 96, 80)
    matrix = np.array([[1 / 96, 0, 0.5 / 96], [0, 1 / 80, 0.5 / 80]], np.float32)
    flow = np.zeros((2, 24, 24), np.float32)
    flow[:, 3:-3, 12:-3] = 0.06
    for left in range(24, 40):
        covered = np.zeros((64, 64), np.float32)
        covered[24:36, left - 2 : left] = 1
        edited = blend(frame, matrix, Edit(flow=flow, covered=covered))
        for before, after in zip(frame.planes, edited.planes, strict=True):
            width = before.samples.shape[1]
            rows = slice(before.samples.shape[0] * 25 // 64, before.samples.shape[0] * 35 // 64)
            alone = slice(0, int(width * 24 / 64) - 2)  # left of all that moves
            assert np.array_equal(after.samples[rows, alone], before.samples[rows, alone])
            assert not np.array_equal(after.samples, before.samples)


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "nv12"])
def test_shaded_skin_keeps_its_chroma(name: str) -> None:
    frame, gain = make_frame(name), np.zeros((24, 24), np.float32)
    gain[8:16, 8:16] = -0.3
    luma, *chroma = components(blend(frame, make_matrix(), Edit(gain=gain)))
    was, *before = components(frame)
    assert (luma - was).min() < -20
    for now, then in zip(chroma, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "rgba", "gbrp"])
def test_shaded_skin_keeps_its_colour_in_rgb(name: str) -> None:
    frame, gain = make_frame(name), np.zeros((24, 24), np.float32)
    gain[8:16, 8:16] = -0.3
    was, now = components(frame)[:3], components(blend(frame, make_matrix(), Edit(gain=gain)))[:3]
    inside = np.all([(part > 8) & (part < 247) for part in (*was, *now)], 0)
    assert (now[0] - was[0])[inside].min() < -20
    for one, other in ((0, 1), (1, 2)):
        kept = (now[one] - now[other]) - (was[one] - was[other])
        assert np.abs(kept[inside]).max() <= 1
