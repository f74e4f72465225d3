"""An edit on its way into a plane: what of it is not zero, and where that lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mien.runtime.blending.edit import Edit, Patch
from mien.runtime.faces.alignment import invert_similarity

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in crop units

WHOLE_CROP: Final[Box] = (0.0, 0.0, 1.0, 1.0)
SPLINE_CELLS: Final = 24  # a gain with more cells a side is fine enough to show as it is
SPLINE_STEPS: Final = 5  # fine cells a side for each coarse cell of the gain; odd, so as to centre
STILL_PX: Final = 1 / 64  # a shift below this shows nowhere: remapping rounds to 1/32 pixel
COARSE_CELL: Final = 4.0  # samples a side from which a cell of a grid is looked up more sparsely
SMOOTH_CELL: Final = 3.0  # and a cell of one that is smooth and needs no sharp end
LARGE_REGION: Final = 1 << 22  # samples; a region of more is worked on in strips
STRIP_SAMPLES: Final = 1 << 20
STRIP_STEP: Final = 16  # rows, of which every strip has a multiple, and by which they overlap
LEVEL_GAIN: Final = 1 / 1024  # a change of brightness below this is a quarter of an 8-bit step


@dataclass(frozen=True, slots=True)
class Overlay:
    """A delta or a paste made ready: strength and mask are in its values.

    values: float32 (c, h, w), c = 1 luma or 3 R, G, B.
    alpha: float32 (h, w), how much of what lies below they cover; None where they are added.
    box: what of the crop the grid covers.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    box: Box


@dataclass(frozen=True, slots=True)
class Field:
    """An edit made ready for one frame: strength and mask are in it, the flow is in pixels.

    crop_from_frame: float64 (2, 3), crop units from frame pixels.
    flow_x, flow_y: float32 (h, w) in frame pixels, or None.
    gain: float32 (h', w'), fine enough for bilinear sampling, or None where it does nothing.
    reach: the most that flow_x or flow_y move anything, frame pixels.
    active: the part of the crop where flow or gain do something, None where there is none.
    gain_box: the part of it where gain does.
    opacity: of the patch, 0..1.
    overlays: in the order in which they are put on, after flow and gain and before the patch.
    covered: float32 (h, w) over the whole crop, what lies in front of the skin, or None.
    cover_box: the part of the crop where anything is covered, None where nothing is.
    """

    crop_from_frame: np.ndarray
    flow_x: np.ndarray | None
    flow_y: np.ndarray | None
    gain: np.ndarray | None
    reach: float
    active: Box | None
    gain_box: Box | None
    patch: Patch | None
    opacity: float
    overlays: tuple[Overlay, ...] = ()
    covered: np.ndarray | None = None
    cover_box: Box | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it leaves the frame as it is."""
        return self.active is None and self.patch is None and not self.overlays


def make_field(edit: Edit, crop_from_frame: np.ndarray, strength: float) -> Field:
    """The field of an edit at a strength above 0."""
    matrix = np.asarray(crop_from_frame, np.float64)
    flow_x = flow_y = gain = flow_box = gain_box = None
    reach = 0.0
    if edit.flow is not None:
        linear = invert_similarity(matrix)[:, :2] * np.float32(strength)
        flow = edit.flow if edit.mask is None else edit.flow * edit.mask
        # no product of matrices, which BLAS spreads over threads from 256 x 256 cells on
        flow_x, flow_y = ((row[0] * flow[0] + row[1] * flow[1]) for row in linear)
        shift = np.maximum(np.abs(flow_x), np.abs(flow_y))
        reach = float(shift.max())
        flow_box = _active_box(shift > STILL_PX)
    if edit.gain is not None:
        is_coarse = max(edit.gain.shape) <= SPLINE_CELLS
        gain = (spline(edit.gain) if is_coarse else edit.gain) * np.float32(strength)
        if edit.mask is not None:
            gain = gain * cv2.resize(edit.mask, gain.shape[::-1])
        gain_box = _active_box(np.abs(gain) > LEVEL_GAIN)
    return Field(
        matrix,
        flow_x,
        flow_y,
        gain,
        reach,
        _union([box for box in (flow_box, gain_box) if box is not None]),
        gain_box,
        edit.patch,
        min(1.0, strength),
        _overlays(edit, strength),
        edit.covered,
        None if edit.covered is None else _active_box(edit.covered > 0),
    )


def _overlays(edit: Edit, strength: float) -> tuple[Overlay, ...]:
    """Delta and paste with their masks multiplied in, cut to where they do something."""
    overlays = []
    if edit.delta is not None:
        mask = edit.delta.mask * np.float32(strength)
        overlays.append(_cut(edit.delta.values * mask, mask, edit.delta.box, adds=True))
    if edit.paste is not None:
        alpha = edit.paste.alpha * np.float32(min(1.0, strength))
        overlays.append(_cut(edit.paste.pixels * alpha, alpha, edit.paste.box, adds=False))
    return tuple(overlay for overlay in overlays if overlay is not None)


def _cut(values: np.ndarray, mask: np.ndarray, box: Box, *, adds: bool) -> Overlay | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    # with a cell of zeros around, over which the outermost values fade
    top, bottom = max(0, int(rows[0]) - 1), min(mask.shape[0], int(rows[-1]) + 2)
    left, right = max(0, int(columns[0]) - 1), min(mask.shape[1], int(columns[-1]) + 2)
    cell_x = (box[2] - box[0]) / mask.shape[1]
    cell_y = (box[3] - box[1]) / mask.shape[0]
    part = (slice(top, bottom), slice(left, right))
    covered = (
        box[0] + left * cell_x,
        box[1] + top * cell_y,
        box[0] + right * cell_x,
        box[1] + bottom * cell_y,
    )
    kept = np.ascontiguousarray(values[:, part[0], part[1]], np.float32)
    alpha = None if adds else np.ascontiguousarray(mask[part], np.float32)
    return Overlay(kept, alpha, covered)


def spline(gain: np.ndarray) -> np.ndarray:
    """A coarse grid as a quadratic spline on a finer one: float32 (5h, 5w).

    Bilinear sampling alone would show the coarse cells as creases. Linear interpolation and a box
    one cell wide make the spline; a border of zeros keeps it zero up to the crop's edge.
    """
    wide_wh = (gain.shape[1] * SPLINE_STEPS, gain.shape[0] * SPLINE_STEPS)
    fine = cv2.resize(gain.astype(np.float32), wide_wh, interpolation=cv2.INTER_LINEAR)
    return cv2.blur(fine, (SPLINE_STEPS, SPLINE_STEPS), borderType=cv2.BORDER_REPLICATE)


def _active_box(is_active: np.ndarray) -> Box | None:
    """Around the cells (h, w) that are set, with the half cell that their values fade over."""
    rows, columns = np.flatnonzero(is_active.any(1)), np.flatnonzero(is_active.any(0))
    if not len(rows):
        return None
    height, width = is_active.shape
    return (
        max(0.0, (float(columns[0]) - 0.5) / width),
        max(0.0, (float(rows[0]) - 0.5) / height),
        min(1.0, (float(columns[-1]) + 1.5) / width),
        min(1.0, (float(rows[-1]) + 1.5) / height),
    )


def _union(boxes: list[Box]) -> Box | None:
    if not boxes:
        return None
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a plane, in its samples, and where these lie on the crop.

    crop_from_plane: float64 (2, 3), crop units from samples of the plane.
    overlap: rows beyond both ends that `show` works out as well, so that parts of a region join.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    crop_from_plane: np.ndarray
    overlap: int = 0

    @property
    def size_wh(self) -> tuple[int, int]:
        """Its width and height in samples."""
        return self.x1 - self.x0, self.y1 - self.y0

    def strips(self) -> list[Region]:
        """Itself, or where it is large the strips that make it up, of some rows each.

        What is worked out for a region takes some 20 bytes a sample.
        """
        width, height = self.size_wh
        if width * height <= LARGE_REGION:
            return [self]
        # so many rows that what `show` looks up more sparsely stays the same
        rows = max(STRIP_STEP, STRIP_SAMPLES // width // STRIP_STEP * STRIP_STEP)
        return [
            replace(self, y0=y0, y1=min(self.y1, y0 + rows), overlap=STRIP_STEP)
            for y0 in range(self.y0, self.y1, rows)
        ]

    def within(self, other: Region | None) -> Region | None:
        """What it shares with another part of the same plane, None where that is nothing."""
        if other is None:
            return None
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return replace(self, x0=x0, y0=y0, x1=x1, y1=y1) if x1 > x0 and y1 > y0 else None

    def half(self) -> Region:
        """The same part of a plane with half as many samples each way, as of 4:2:0 chroma.

        It must begin with an even row and column.
        """
        linear = self.crop_from_plane[:, :2]
        offset = self.crop_from_plane[:, 2] + 0.5 * linear.sum(1)
        return Region(
            self.x0 // 2,
            self.y0 // 2,
            -(-self.x1 // 2),
            -(-self.y1 // 2),
            np.hstack([2 * linear, offset[:, None]]),
            self.overlap // 2,
        )

    def of(self, samples: np.ndarray, margin: int = 0) -> np.ndarray:
        """A view of the region, `margin` samples wider where the plane goes on."""
        rows = slice(max(0, self.y0 - margin), self.y1 + margin)
        return samples[rows, max(0, self.x0 - margin) : self.x1 + margin]

    def wider(self, margin: int, plane_wh: tuple[int, int]) -> Region:
        """The region with `margin` samples around it, where the plane goes on."""
        return replace(
            self,
            x0=max(0, self.x0 - margin),
            y0=max(0, self.y0 - margin),
            x1=min(plane_wh[0], self.x1 + margin),
            y1=min(plane_wh[1], self.y1 + margin),
            overlap=0,
        )

    def show(self, grid: np.ndarray, box: Box = WHOLE_CROP) -> np.ndarray:
        """A grid that covers `box` of the crop, sampled in the region; zero beyond it: (h, w).

        Where a cell covers many samples only every other one is looked up and the rest are put
        between: a third of the time, and no difference that a cell's own kinks do not make.
        """
        if self.overlap:
            inner = self._inner(self.overlap, self.size_wh[1])
            return self._wider_by_overlap().show(grid, box)[inner]
        if self._cell(grid, box) < COARSE_CELL:
            return self._looked_up(grid, box)
        return self._doubled(self._sparse()._looked_up(grid, box))

    def show_smooth(self, grid: np.ndarray) -> np.ndarray:
        """As `show`, of a smooth grid that covers the crop, in as many steps as its cells allow."""
        return self._show_smooth(grid)[0]

    def show_with_half(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `show_smooth`, in the region and in its `half`.

        What is looked up for the half is what the other is put together from.
        """
        full, half = self._show_smooth(grid)
        return full, self.half().show_smooth(grid) if half is None else half

    def _show_smooth(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        height = self.size_wh[1]
        if self.overlap:
            full, half = self._wider_by_overlap()._show_smooth(grid)
            if half is not None:
                half = half[self._inner(self.overlap // 2, -(-height // 2))]
            return full[self._inner(self.overlap, height)], half
        if self._cell(grid, WHOLE_CROP) < SMOOTH_CELL:
            return self._looked_up(grid, WHOLE_CROP), None
        half = self._sparse().show_smooth(grid)
        return self._doubled(half), half

    def _wider_by_overlap(self) -> Region:
        return replace(self, y0=self.y0 - self.overlap, y1=self.y1 + self.overlap, overlap=0)

    @staticmethod
    def _inner(skipped: int, rows: int) -> slice:
        return slice(skipped, skipped + rows)

    def _sparse(self) -> Region:
        """Every other sample of each way, as of `half`, from the region's corner on.

        Sample i lies at 2 * (i + 0.5) - 0.5 of the region, whose corner may be odd.
        """
        width, height = self.size_wh
        linear = self.crop_from_plane[:, :2]
        first = linear @ (self.x0 + 0.5, self.y0 + 0.5) + self.crop_from_plane[:, 2]
        matrix = np.hstack([2 * linear, first[:, None]])
        return Region(0, 0, -(-width // 2), -(-height // 2), matrix)

    def _doubled(self, sparse: np.ndarray) -> np.ndarray:
        width, height = self.size_wh
        wide_wh = (sparse.shape[1] * 2, sparse.shape[0] * 2)
        return cv2.resize(sparse, wide_wh, interpolation=cv2.INTER_LINEAR)[:height, :width]

    def _cell(self, grid: np.ndarray, box: Box) -> float:
        """How many samples the shorter side of a grid's cell is long."""
        (a, b), (c, d) = self.crop_from_plane[:, :2].tolist()
        columns, rows = grid.shape[1] / (box[2] - box[0]), grid.shape[0] / (box[3] - box[1])
        return float(1 / max((abs(a) + abs(b)) * columns, (abs(c) + abs(d)) * rows))

    def _looked_up(self, grid: np.ndarray, box: Box) -> np.ndarray:
        """As `show`, every sample by itself."""
        (a, b, x), (c, d, y) = self.crop_from_plane.tolist()
        columns, rows = grid.shape[1] / (box[2] - box[0]), grid.shape[0] / (box[3] - box[1])
        first_x = a * self.x0 + b * self.y0 + x - box[0]
        first_y = c * self.x0 + d * self.y0 + y - box[1]
        grid_from_region = np.array(
            [
                [a * columns, b * columns, first_x * columns - 0.5],
                [c * rows, d * rows, first_y * rows - 0.5],
            ]
        )
        return cv2.warpAffine(
            grid,
            grid_from_region,
            self.size_wh,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )


def region_under(
    box: Box,
    crop_from_frame: np.ndarray,
    plane_wh: tuple[int, int],
    subsampling_xy: tuple[int, int],
) -> Region | None:
    """The smallest part of a plane that holds `box` of the crop, None where that lies outside.

    It begins with an even row and column.
    """
    (a, b, x), (c, d, y) = crop_from_frame.tolist()
    step_x, step_y = subsampling_xy
    # sample i of the plane has its centre at frame pixel step * (i + 0.5) - 0.5
    near_x, near_y = 0.5 * step_x - 0.5, 0.5 * step_y - 0.5
    x, y = x + a * near_x + b * near_y, y + c * near_x + d * near_y
    a, b, c, d = a * step_x, b * step_y, c * step_x, d * step_y
    scale = 1 / (a * d - b * c)
    corners = [(box[i] - x, box[j] - y) for i in (0, 2) for j in (1, 3)]
    columns = [(d * u - b * v) * scale for u, v in corners]
    rows = [(a * v - c * u) * scale for u, v in corners]
    if not all(map(math.isfinite, columns + rows)):
        return None
    x0, y0 = max(0, math.floor(min(columns))) // 2 * 2, max(0, math.floor(min(rows))) // 2 * 2
    x1 = min(plane_wh[0], math.ceil(max(columns)) + 1)
    y1 = min(plane_wh[1], math.ceil(max(rows)) + 1)
    if x1 <= x0 or y1 <= y0:
        return None
    return Region(x0, y0, x1, y1, np.array([[a, b, x], [c, d, y]]))
