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
from typing import Final

import cv2
import numpy as np

from mien.runtime.blending.edit import Edit, Patch
from mien.runtime.blending.field import Box, Field, Overlay, Region, make_field, region_under
from mien.runtime.blending.painting import (
    chroma_parts,
    luma_part,
    means_around,
    overlaid,
    overlaid_luma,
    recoloured,
    tinted,
)
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import chroma_range, level_range

LEAST_COVER, WHOLE_COVER = 0.02, 0.995  # shares that count as nothing and as all
FILL_REACH: Final = 0.04  # of the region's longer side: how far a fill looks for what to be like


@dataclass(frozen=True, slots=True)
class FaceEdit:
    """An edit, and the face of a frame it is for.

    crop_from_frame: float32 (2, 3), crop units from stored frame pixels (`crop_units_matrix`).
    strength: scales flow, gain and delta, and up to 1 paste and patch; 0 leaves the face alone.
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
    fields = [
        make_field(face.edit, face.crop_from_frame, face.strength)
        for face in faces
        if face.strength > 0
    ]
    fields = [field for field in fields if not field.is_empty]
    if not fields:
        return frame
    canvas = _Canvas(frame)
    for field in fields:
        canvas.paint(field)
    return replace(frame, planes=canvas.planes())


@dataclass(frozen=True, slots=True)
class _Component:
    """Planes of one geometry that are painted alike.

    zero: the value that brightness or colour counts from. white: that of white, for luma only.
    """

    indices: tuple[int, ...]
    zero: float
    white: float | None


def _components(frame: Frame) -> list[_Component]:
    black, white = level_range(frame.layout)
    is_interleaved = [plane.samples.ndim == 3 for plane in frame.planes]
    if frame.layout.kind == "rgb":
        return [_Component((0,) if is_interleaved[0] else (0, 1, 2), 0.0, float(white))]
    components = [_Component((0,), float(black), float(white))]
    if frame.layout.kind == "yuv" and len(frame.planes) > 1:
        middle = float(1 << (frame.layout.depth - 1))
        components.append(_Component((1,) if is_interleaved[1] else (1, 2), middle, None))
    return components


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

    def paint(self, field: Field) -> None:
        """Paint the field: flow and gain first, then overlays, then the patch over them."""
        components = _components(self._frame)
        if field.active is not None:
            for component in components:
                self._paint_field(component, field, field.active)
        for overlay in field.overlays:
            self._overlay(field, overlay, components)
        if field.patch is None:
            return
        if self._layout.kind == "rgb":
            self._paint_rgb_patch(field, field.patch)
            return
        for component in components:
            self._paint_patch(component, field, field.patch)

    def _paint_field(self, component: _Component, field: Field, active: Box) -> None:
        whole = self._region(component.indices[0], field, active)
        if whole is None:
            return
        height, width = self._frame.planes[component.indices[0]].samples.shape[:2]
        plane_wh = (width, height)
        steps = self._frame.planes[component.indices[0]].subsampling_xy
        strips = whole.strips()
        below = {index: self._before(index) for index in component.indices}
        for region in strips:
            lens = _Lens.of(field, region, steps)
            gain = None if field.gain is None else region.show(field.gain) + np.float32(1)
            cover = Cover.of(field.covered, region, lens, plane_wh)
            for index in component.indices:
                shown = self._values(below[index].of(region, lens.margin if lens else 0))
                if cover is not None:
                    front = shown[cover.inner].copy()
                    shown = cover.lifted(shown)
                if lens is not None:
                    shown = lens.remap(shown, sharp=component.white is not None)
                if gain is not None:
                    shown = _scaled(shown, gain, component.zero)
                if cover is not None:
                    shown = cover.laid_back(shown, front)
                self._write(index, region, shown)

    def _before(self, index: int) -> _Before:
        return _Before(self._copies.get(index, self._frame.planes[index].samples))

    def _paint_patch(self, component: _Component, field: Field, patch: Patch) -> None:
        strips = self._strips(component.indices[0], field, patch.box)
        zero, white = component.zero, component.white
        means = {
            index: means_around((self._parts(index, part), _around(part, patch)) for part in strips)
            for index in (component.indices if white is None else ())
        }
        for region in strips:
            alpha = region.show(patch.alpha, patch.box) * np.float32(field.opacity)
            grid = patch.saturation if white is None else patch.luma
            wanted = region.show(grid, patch.box)
            for index in component.indices:
                below = self._values(region.of(self._samples(index)))
                if white is None:
                    shown = tinted(below, means[index], wanted, alpha, zero)
                else:
                    shown = below + (wanted * np.float32(white - zero) + zero - below) * alpha
                self._write(index, region, shown)

    def _parts(self, index: int, region: Region) -> list[np.ndarray]:
        """The components of a plane in a region, each (h, w)."""
        values = self._values(region.of(self._samples(index)))
        return [values] if values.ndim == 2 else list(np.moveaxis(values, 2, 0))

    def _paint_rgb_patch(self, field: Field, patch: Patch) -> None:
        strips = self._strips(0, field, patch.box)
        means = means_around((self._rgb_below(part), _around(part, patch)) for part in strips)
        white = np.float32(level_range(self._layout)[1])
        for region in strips:
            shown = recoloured(
                self._rgb_below(region),
                means,
                region.show(patch.luma, patch.box) * white,
                region.show(patch.saturation, patch.box),
                region.show(patch.alpha, patch.box) * np.float32(field.opacity),
            )
            self._write_rgb(region, shown)

    def _overlay(self, field: Field, overlay: Overlay, components: list[_Component]) -> None:
        if self._layout.kind == "rgb":
            self._overlay_rgb(field, overlay)
            return
        for component in components:
            if component.white is not None:
                span = component.white - component.zero
                grids = [luma_part(overlay.values, self._layout) * np.float32(span)]
            elif len(overlay.values) == 3:
                span = chroma_range(self._layout)
                grids = [u * np.float32(span) for u in chroma_parts(overlay.values, self._layout)]
            else:
                continue  # luma alone leaves colour as it is
            self._overlay_planes(component, field, overlay, grids)

    def _overlay_planes(
        self, component: _Component, field: Field, overlay: Overlay, grids: list[np.ndarray]
    ) -> None:
        for region in self._strips(component.indices[0], field, overlay.box):
            alpha = None if overlay.alpha is None else region.show(overlay.alpha, overlay.box)
            values = [region.show(grid, overlay.box) for grid in grids]
            for place, index in enumerate(component.indices):
                below = self._values(region.of(self._samples(index)))
                if below.ndim == 3 and len(values) == 2:
                    own = np.dstack(values)  # U and V interleaved
                elif below.ndim == 3:
                    own = np.repeat(values[0][..., None], below.shape[2], 2)  # grey with alpha
                else:
                    own = values[place]
                self._write(index, region, overlaid(below, own, alpha, component.zero))

    def _overlay_rgb(self, field: Field, overlay: Overlay) -> None:
        white = np.float32(level_range(self._layout)[1])
        for region in self._strips(0, field, overlay.box):
            alpha = None if overlay.alpha is None else region.show(overlay.alpha, overlay.box)
            values = [region.show(grid, overlay.box) * white for grid in overlay.values]
            below = self._rgb_below(region)
            if len(values) == 1:
                shown = overlaid_luma(below, values[0], alpha)
            else:
                shown = [
                    overlaid(part, value, alpha, 0.0)
                    for part, value in zip(below, values, strict=True)
                ]
            self._write_rgb(region, shown)

    def _rgb_below(self, region: Region) -> list[np.ndarray]:
        """R, G and B of a region, each (h, w)."""
        order = self._layout.rgb_order
        if self._frame.planes[0].samples.ndim == 3:
            pixels = self._values(region.of(self._samples(0)))
            return [pixels[..., place] for place in order]
        return [self._values(region.of(self._samples(place))) for place in order]

    def _write_rgb(self, region: Region, shown: list[np.ndarray]) -> None:
        order = self._layout.rgb_order
        if self._frame.planes[0].samples.ndim == 3:
            full = self._values(region.of(self._samples(0))).astype(np.float32)
            full[..., list(order)] = np.stack(shown, -1)
            self._write(0, region, full)
            return
        for place, values in zip(order, shown, strict=True):
            self._write(place, region, values)

    def _region(self, index: int, field: Field, box: Box) -> Region | None:
        plane = self._frame.planes[index]
        height, width = plane.samples.shape[:2]
        return region_under(box, field.crop_from_frame, (width, height), plane.subsampling_xy)

    def _strips(self, index: int, field: Field, box: Box) -> list[Region]:
        """The region under a box in strips, none where it lies outside the plane."""
        region = self._region(index, field, box)
        return [] if region is None else region.strips()

    def _samples(self, index: int) -> np.ndarray:
        if index not in self._copies:
            self._copies[index] = self._frame.planes[index].samples.copy()
        return self._copies[index]

    def _values(self, samples: np.ndarray) -> np.ndarray:
        return samples >> self._layout.shift if self._layout.shift else samples

    def _write(self, index: int, region: Region, shown: np.ndarray) -> None:
        target = region.of(self._samples(index))
        if shown.dtype != target.dtype:
            shown = _rounded(shown, target.dtype)
        if target.dtype == np.uint16:
            shown = np.minimum(shown, (1 << self._layout.depth) - 1) << self._layout.shift
        channels = _painted_channels(self._layout, target)
        if channels is None:
            target[...] = shown
        else:
            target[..., channels] = shown[..., channels]


def _around(region: Region, patch: Patch) -> np.ndarray:
    return region.show(patch.around, patch.box)


class _Before:
    """The samples of a plane before a field is painted on it, strip by strip from the top.

    A strip also looks at rows that the one above it is painted on; only those are kept.
    """

    def __init__(self, samples: np.ndarray) -> None:
        self._samples = samples
        self._kept: np.ndarray | None = None

    def of(self, region: Region, margin: int) -> np.ndarray:
        """The samples of the next strip, and `margin` more around it where there are any."""
        shown = region.of(self._samples, margin)
        above = min(region.y0, margin)
        if self._kept is not None:
            shown = shown.copy()
            shown[above - len(self._kept) : above] = self._kept
        end = above + region.size_wh[1]
        self._kept = shown[max(0, end - margin) : end].copy()
        return shown


@dataclass(frozen=True, slots=True)
class _Lens:
    """Where a region's samples come from, in samples of the region `margin` wider."""

    map_x: np.ndarray
    map_y: np.ndarray
    margin: int

    @classmethod
    def of(cls, field: Field, region: Region, subsampling_xy: tuple[int, int]) -> _Lens | None:
        if field.flow_x is None or field.flow_y is None:
            return None
        flow_x = field.flow_x / np.float32(subsampling_xy[0])
        flow_y = field.flow_y / np.float32(subsampling_xy[1])
        reach = max(float(np.abs(flow_x).max()), float(np.abs(flow_y).max()))
        margin = math.ceil(reach) + 3  # the cubic kernel looks 2 further
        left, top = min(region.x0, margin), min(region.y0, margin)
        width, height = region.size_wh
        map_x, map_y = region.show(flow_x), region.show(flow_y)
        map_x += np.arange(left, left + width, dtype=np.float32)
        map_y += np.arange(top, top + height, dtype=np.float32)[:, None]
        return cls(map_x, map_y, margin)

    def remap(self, values: np.ndarray, *, sharp: bool) -> np.ndarray:
        """Luma is moved with a cubic kernel, for a linear one takes its fine detail."""
        method = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
        return cv2.remap(values, self.map_x, self.map_y, method, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True, slots=True)
class Cover:
    """What lies in front of the skin of a region: it is lifted off, and laid back where it was.

    `of` gives None where nothing does; without a lens the wide part is the region itself.

    alpha: float32 of the region. wide: the same, of the region with the margin of its lens. inner:
    where in that the region lies.
    """

    alpha: np.ndarray
    wide: np.ndarray
    inner: tuple[slice, slice]

    @classmethod
    def of(
        cls,
        covered: np.ndarray | None,
        region: Region,
        lens: _Lens | None,
        plane_wh: tuple[int, int],
    ) -> Cover | None:
        if covered is None:
            return None
        wider = region if lens is None else region.wider(lens.margin, plane_wh)
        wide = wider.show(covered)
        if not (wide > LEAST_COVER).any():
            return None
        left, top = region.x0 - wider.x0, region.y0 - wider.y0
        width, height = region.size_wh
        inner = (slice(top, top + height), slice(left, left + width))
        return cls(wide[inner], wide, inner)

    def lifted(self, samples: np.ndarray) -> np.ndarray:
        """`samples` of the wider region with what was covered filled from around."""
        height, width = samples.shape[:2]
        rows, columns = np.flatnonzero(self.wide.any(1)), np.flatnonzero(self.wide.any(0))
        reach = max(8, round(FILL_REACH * max(height, width)))
        y0, y1 = max(0, rows[0] - reach), min(height, rows[-1] + 1 + reach)
        x0, x1 = max(0, columns[0] - reach), min(width, columns[-1] + 1 + reach)
        part = np.ascontiguousarray(samples[y0:y1, x0:x1])
        alpha = self.wide[y0:y1, x0:x1]
        filled: np.ndarray = samples.copy()
        filled[y0:y1, x0:x1] = _filled(part, alpha, reach)
        return filled

    def laid_back(self, shown: np.ndarray, before: np.ndarray) -> np.ndarray:
        """`shown` of the region with the cover over it: float32, its own samples exactly."""
        mixed: np.ndarray = shown.astype(np.float32)
        part = _part_of(self.alpha)
        alpha = self.alpha[part] if shown.ndim == 2 else self.alpha[part][..., None]
        below, over = mixed[part], before[part].astype(np.float32)
        mixed[part] = np.where(alpha > WHOLE_COVER, over, below + (over - below) * alpha)
        return mixed


def _part_of(alpha: np.ndarray) -> tuple[slice, slice]:
    """The smallest part of a mask, not all zero, that holds what is not zero."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _filled(samples: np.ndarray, alpha: np.ndarray, reach: int) -> np.ndarray:
    """`samples` where alpha is 0, and what lies around where it is 1: dtype kept.

    A mean of the uncovered samples about as far as `reach`, finer where they are near: what shows
    of it is a seam a few samples wide.
    """
    height, width = samples.shape[:2]
    step = max(1, reach // 8)
    few_wh = (max(1, width // step), max(1, height // step))
    # Beside a cover lie its halo and its shadow, and what reducing has mixed.
    wider = 2 * max(1, reach // 3 // step) + 3
    near = cv2.resize(alpha, few_wh, interpolation=cv2.INTER_AREA)
    shares = 1 - cv2.dilate(near, np.ones((wider, wider), np.uint8))
    sums = cv2.resize(samples, few_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    sums = sums.reshape(*shares.shape, *samples.shape[2:])
    sums *= shares if samples.ndim == 2 else shares[..., None]
    fill, trust = None, None
    for sigma in (1.2, 5.0):
        total = cv2.GaussianBlur(sums, (0, 0), sigma)
        share = cv2.GaussianBlur(shares, (0, 0), sigma)
        safe = np.maximum(share, 1e-4)
        mean = total / (safe if total.ndim == 2 else safe[..., None])
        if fill is None or trust is None:
            fill, trust = mean, np.clip((share - 0.1) * 4, 0, 1)
            continue
        keep = trust if mean.ndim == 2 else trust[..., None]
        fill = fill * keep + mean * (1 - keep)
        trust = np.maximum(trust, np.clip((share - 0.1) * 4, 0, 1))
    assert fill is not None
    full = cv2.resize(fill, (width, height), interpolation=cv2.INTER_LINEAR)
    amount = alpha if samples.ndim == 2 else alpha[..., None]
    full = full.reshape(samples.shape)
    full -= samples
    full *= amount
    full += samples
    return _rounded(full, samples.dtype)


def _scaled(values: np.ndarray, factor: np.ndarray, zero: float) -> np.ndarray:
    """`values` (h, w[, n]) times `factor` (h, w), counted from `zero`: float32."""
    shown = values.astype(np.float32)
    shown -= zero
    shown *= factor if shown.ndim == 2 else factor[..., None]
    shown += zero
    return shown


def _rounded(values: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Float values rounded and saturated, in one pass."""
    depth = cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U
    flat = np.ascontiguousarray(values, np.float32).reshape(values.shape[0], -1)
    whole = cv2.addWeighted(flat, 1.0, flat, 0.0, 0.0, dtype=depth)
    return whole.reshape(values.shape)


def _painted_channels(layout: PixelLayout, samples: np.ndarray) -> list[int] | None:
    """Which channels of an interleaved plane are colour, None for all of them."""
    if samples.ndim == 2 or layout.kind == "yuv":
        return None
    colours = sorted(layout.rgb_order) if layout.kind == "rgb" else [0]
    return None if len(colours) == samples.shape[2] else colours
