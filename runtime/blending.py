"""Edits put into a frame, on its own planes and at its own size.

Only the part of each plane under the edited crop is read, converted or written. What lies outside,
and what the edit leaves at zero, keeps its samples bit by bit; planes that change are copied once.

Subsampled chroma is taken to lie in the middle of the luma samples it covers. MPEG's left siting
is half a luma pixel off that; the field is far smoother than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mien.runtime.alignment import invert_similarity
from mien.runtime.edit import Edit, Patch
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import RGB_WEIGHTS, level_range

SPLINE_STEPS = 5  # fine cells a side for each coarse cell of the gain; odd, for the box to centre


@dataclass(frozen=True, slots=True)
class FaceEdit:
    """An edit, and the face of a frame it is for.

    crop_from_frame: float32 (2, 3), crop units from stored frame pixels (`crop_units_matrix`).
    strength: scales flow and gain, and up to 1 the patch; 0 leaves the face alone.
    """

    crop_from_frame: np.ndarray
    edit: Edit
    strength: float = 1.0


def crop_units_matrix(crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """Crop units from frame pixels, of a matrix to crop pixels: float32 (2, 3).

    crop_from_frame: (2, 3) of `alignment.crop_matrix(landmarks, size)` or an `AlignedFace`.
    """
    matrix = np.array(crop_from_frame, np.float64)
    matrix[:, 2] += 0.5
    return (matrix / size).astype(np.float32)


def blend(frame: Frame, crop_from_frame: np.ndarray, edit: Edit, strength: float = 1.0) -> Frame:
    """The frame with one edit in it; the frame given and its arrays stay as they are.

    crop_from_frame: (2, 3), crop units from stored frame pixels.
    """
    return blend_faces(frame, [FaceEdit(crop_from_frame, edit, strength)])


def blend_faces(frame: Frame, faces: Iterable[FaceEdit]) -> Frame:
    """The frame with several edits in it, the later ones over the earlier."""
    fields = [_Field.of(face) for face in faces if face.strength > 0]
    fields = [field for field in fields if not field.is_empty]
    if not fields:
        return frame
    canvas = _Canvas(frame)
    for field in fields:
        canvas.paint(field)
    return replace(frame, planes=canvas.planes())


@dataclass(frozen=True, slots=True)
class _Field:
    """An edit made ready: strength and mask are in it, the flow is in frame pixels."""

    crop_from_frame: np.ndarray  # float64 (2, 3), crop units
    flow_px: tuple[np.ndarray, np.ndarray] | None  # x and y, float32 (h, w)
    gain: np.ndarray | None  # float32 (h, w), fine enough for bilinear sampling
    patch: Patch | None
    opacity: float  # of the patch

    @classmethod
    def of(cls, face: FaceEdit) -> _Field:
        edit, strength = face.edit, face.strength
        matrix = np.asarray(face.crop_from_frame, np.float64)
        flow_px = gain = None
        if edit.flow is not None and edit.flow.any():
            linear = invert_similarity(matrix)[:, :2] * np.float32(strength)
            flow = edit.flow if edit.mask is None else edit.flow * edit.mask
            x, y = np.float32(linear) @ flow.reshape(2, -1)
            flow_px = (x.reshape(flow.shape[1:]), y.reshape(flow.shape[1:]))
        if edit.gain is not None and edit.gain.any():
            gain = _spline(edit.gain) * np.float32(strength)
            if edit.mask is not None:
                gain = gain * cv2.resize(edit.mask, gain.shape[::-1])
        return cls(matrix, flow_px, gain, edit.patch, min(1.0, strength))

    @property
    def is_empty(self) -> bool:
        return self.flow_px is None and self.gain is None and self.patch is None


def _spline(gain: np.ndarray) -> np.ndarray:
    """A coarse grid as a quadratic spline on a finer one: float32 (5h, 5w).

    Bilinear sampling alone would show the coarse cells as creases. Linear interpolation and a box
    one cell wide make the spline; a border of zeros keeps it zero up to the crop's edge.
    """
    wide_wh = (gain.shape[1] * SPLINE_STEPS, gain.shape[0] * SPLINE_STEPS)
    fine = cv2.resize(gain.astype(np.float32), wide_wh, interpolation=cv2.INTER_LINEAR)
    return cv2.blur(fine, (SPLINE_STEPS, SPLINE_STEPS), borderType=cv2.BORDER_REPLICATE)


@dataclass(frozen=True, slots=True)
class _Region:
    """A part of a plane, and where its samples lie on the crop."""

    x0: int
    y0: int
    x1: int
    y1: int
    crop_from_plane: np.ndarray  # float64 (2, 3), crop units from samples of the plane

    @classmethod
    def under(
        cls,
        box: tuple[float, float, float, float],
        crop_from_plane: np.ndarray,
        plane_wh: tuple[int, int],
    ) -> _Region | None:
        """The smallest part that holds `box` (crop units), None where that lies outside."""
        x0, y0, x1, y1 = box
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
        linear = np.linalg.inv(crop_from_plane[:, :2])
        seen = (corners - crop_from_plane[:, 2]) @ linear.T
        low = np.maximum(np.floor(seen.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(seen.max(0)) + 1, plane_wh).astype(int)
        if (high <= low).any():
            return None
        return cls(int(low[0]), int(low[1]), int(high[0]), int(high[1]), crop_from_plane)

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.x1 - self.x0, self.y1 - self.y0

    def of(self, samples: np.ndarray, margin: int = 0) -> np.ndarray:
        """A view of the region, `margin` samples wider where the plane goes on."""
        return samples[
            max(0, self.y0 - margin) : self.y1 + margin, max(0, self.x0 - margin) : self.x1 + margin
        ]

    def show(
        self, grid: np.ndarray, box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    ) -> np.ndarray:
        """A grid that covers `box` of the crop, sampled in the region; zero outside: (h, w)."""
        size = np.array(grid.shape[1::-1]) / (np.array(box[2:]) - np.array(box[:2]))
        linear = self.crop_from_plane[:, :2] * size[:, None]
        origin = self.crop_from_plane @ np.array([self.x0, self.y0, 1.0]) - np.array(box[:2])
        grid_from_region = np.hstack([linear, (origin * size - 0.5)[:, None]])
        return cv2.warpAffine(
            grid,
            grid_from_region,
            self.size_wh,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )


class _Canvas:
    """The planes of a frame while they are painted on."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._layout = frame.layout
        self._copies: dict[int, np.ndarray] = {}

    def planes(self) -> tuple[Plane, ...]:
        """The planes of the result: copies where they were painted on."""
        return tuple(
            replace(plane, samples=self._copies[i]) if i in self._copies else plane
            for i, plane in enumerate(self._frame.planes)
        )

    def paint(self, field: _Field) -> None:
        if self._layout.kind == "rgb":
            self._paint_rgb(field)
            return
        black, white = level_range(self._layout)
        self._paint_plane(0, field, float(black), float(white))
        if self._layout.kind == "yuv":
            middle = float(1 << (self._layout.depth - 1))
            chroma = range(1, min(len(self._frame.planes), 2 if self._is_semi_planar else 3))
            for index in chroma:
                self._paint_plane(index, field, middle, None)

    @property
    def _is_semi_planar(self) -> bool:
        return len(self._frame.planes) > 1 and self._frame.planes[1].samples.ndim == 3

    def _samples(self, index: int) -> np.ndarray:
        if index not in self._copies:
            self._copies[index] = self._frame.planes[index].samples.copy()
        return self._copies[index]

    def _region(self, index: int, field: _Field, box: tuple[float, ...]) -> _Region | None:
        plane = self._frame.planes[index]
        step = np.array(plane.subsampling_xy, np.float64)
        matrix = field.crop_from_frame
        # sample i of the plane has its centre at frame pixel step * (i + 0.5) - 0.5
        offset = matrix[:, :2] @ (0.5 * step - 0.5) + matrix[:, 2]
        crop_from_plane = np.hstack([matrix[:, :2] * step, offset[:, None]])
        height, width = plane.samples.shape[:2]
        x0, y0, x1, y1 = box
        return _Region.under((x0, y0, x1, y1), crop_from_plane, (width, height))

    def _paint_plane(self, index: int, field: _Field, zero: float, white: float | None) -> None:
        """Paints luma (`white` given) or chroma, whose values count from `zero`."""
        region = self._region(index, field, (0, 0, 1, 1))
        if region is not None and (field.flow_px is not None or field.gain is not None):
            shown = self._moved(index, field, region)
            if field.gain is not None:
                shown = _gained(shown, region.show(field.gain), zero)
            self._write(index, region, shown)
        if field.patch is None:
            return
        region = self._region(index, field, field.patch.box)
        if region is None:
            return
        below = self._values(region.of(self._samples(index))).astype(np.float32)
        alpha = region.show(field.patch.alpha, field.patch.box) * np.float32(field.opacity)
        if white is not None:
            luma = region.show(field.patch.luma, field.patch.box) * (white - zero) + zero
            shown = below + (luma - below) * alpha
        else:
            fall = alpha * (1 - region.show(field.patch.saturation, field.patch.box))
            shown = below - (below - zero) * (fall if below.ndim == 2 else fall[..., None])
        self._write(index, region, shown)

    def _paint_rgb(self, field: _Field) -> None:
        indices = range(1) if self._frame.planes[0].samples.ndim == 3 else range(3)
        for index in indices:
            region = self._region(index, field, (0, 0, 1, 1))
            if region is not None and (field.flow_px is not None or field.gain is not None):
                shown = self._moved(index, field, region)
                if field.gain is not None:
                    shown = _gained(shown, region.show(field.gain), 0.0)
                self._write(index, region, shown)
        if field.patch is not None:
            self._paint_rgb_patch(field, field.patch)

    def _paint_rgb_patch(self, field: _Field, patch: Patch) -> None:
        region = self._region(0, field, patch.box)
        if region is None:
            return
        order = self._layout.rgb_order
        is_interleaved = self._frame.planes[0].samples.ndim == 3
        below = [
            self._values(region.of(self._samples(0))[..., place])
            if is_interleaved
            else self._values(region.of(self._samples(place)))
            for place in order
        ]
        white = float(level_range(self._layout)[1])
        alpha = region.show(patch.alpha, patch.box) * np.float32(field.opacity)
        luma = region.show(patch.luma, patch.box) * white
        saturation = region.show(patch.saturation, patch.box)
        grey = np.zeros(alpha.shape, np.float32)
        for values, weight in zip(below, RGB_WEIGHTS, strict=True):
            grey += values * np.float32(weight)
        shown = [v + (luma + (v - grey) * saturation - v) * alpha for v in below]
        if is_interleaved:
            full = self._values(region.of(self._samples(0))).astype(np.float32)
            full[..., list(order)] = np.stack(shown, -1)
            self._write(0, region, full)
            return
        for place, values in zip(order, shown, strict=True):
            self._write(place, region, values)

    def _moved(self, index: int, field: _Field, region: _Region) -> np.ndarray:
        """The region as the flow shows it, in values (shift taken out)."""
        samples = self._samples(index)
        if field.flow_px is None:
            return self._values(region.of(samples))
        step_x, step_y = self._frame.planes[index].subsampling_xy
        flow_x = field.flow_px[0] / np.float32(step_x)
        flow_y = field.flow_px[1] / np.float32(step_y)
        reach = max(float(np.abs(flow_x).max()), float(np.abs(flow_y).max()))
        margin = math.ceil(reach) + 3  # the cubic kernel reaches 2 further
        left, top = min(region.x0, margin), min(region.y0, margin)
        width, height = region.size_wh
        map_x, map_y = region.show(flow_x), region.show(flow_y)
        map_x += np.arange(left, left + width, dtype=np.float32)
        map_y += np.arange(top, top + height, dtype=np.float32)[:, None]
        return cv2.remap(
            self._values(region.of(samples, margin)),
            map_x,
            map_y,
            cv2.INTER_CUBIC if index == 0 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _values(self, samples: np.ndarray) -> np.ndarray:
        return samples >> self._layout.shift if self._layout.shift else samples

    def _write(self, index: int, region: _Region, shown: np.ndarray) -> None:
        target = region.of(self._samples(index))
        if shown.dtype != target.dtype:
            shown = _rounded(shown, target.dtype)
        if target.dtype == np.uint16:
            shown = np.minimum(shown, (1 << self._layout.depth) - 1) << self._layout.shift
        channels = _painted_channels(self._layout, index, target)
        if channels is None:
            target[...] = shown
        else:
            target[..., channels] = shown[..., channels]


def _gained(values: np.ndarray, gain: np.ndarray, zero: float) -> np.ndarray:
    """`values` brightened by the factor 1 + gain, counted from `zero`: float32."""
    shown = values.astype(np.float32)
    gain += 1
    if shown.ndim == 3:
        gain = gain[..., None]
    shown -= zero
    shown *= gain
    shown += zero
    return shown


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    depth = cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U
    flat = np.ascontiguousarray(values).reshape(values.shape[0], -1)
    return cv2.add(flat, 0.0, dtype=depth).reshape(values.shape)


def _painted_channels(layout: PixelLayout, index: int, samples: np.ndarray) -> list[int] | None:
    """Which channels of an interleaved plane are colour, None for all of them."""
    if samples.ndim == 2:
        return None
    colours = {"rgb": sorted(layout.rgb_order), "gray": [0], "yuv": [0, 1]}[layout.kind]
    if layout.kind == "yuv" and index == 0:
        return None
    return None if len(colours) == samples.shape[2] else colours
