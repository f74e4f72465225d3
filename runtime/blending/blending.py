"""Edits put into a frame, on its own planes and at its own size.

Only the part of each plane under the edited crop is read, converted or written. What lies outside,
and what the edit leaves at zero, keeps its samples bit by bit; planes that change are copied once.

Subsampled chroma is taken to lie in the middle of the luma samples it covers. MPEG's left siting
is half a luma pixel off that; the field is far smoother than that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from mien.runtime.blending.sampling import Look, rounded
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import chroma_range, level_range, luma_weights


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
    weights: of each of its channels in the luma, none for chroma.
    """

    indices: tuple[int, ...]
    zero: float
    white: float | None
    weights: tuple[float, ...] | None


def _components(frame: Frame) -> list[_Component]:
    black, white = level_range(frame.layout)
    is_interleaved = [plane.samples.ndim == 3 for plane in frame.planes]
    if frame.layout.kind == "rgb":
        indices = (0,) if is_interleaved[0] else (0, 1, 2)
        channels = frame.planes[0].samples.shape[2] if is_interleaved[0] else 3
        weights = [0.0] * channels
        for place, weight in zip(frame.layout.rgb_order, luma_weights(frame.layout), strict=True):
            weights[place] = weight
        return [_Component(indices, 0.0, float(white), tuple(weights))]
    weights = [1.0] + [0.0] * (frame.planes[0].samples[0, 0].size - 1)  # alpha beside grey
    components = [_Component((0,), float(black), float(white), tuple(weights))]
    if frame.layout.kind == "yuv" and len(frame.planes) > 1:
        middle = float(1 << (frame.layout.depth - 1))
        components.append(_Component((1,) if is_interleaved[1] else (1, 2), middle, None, None))
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
            self._paint_field(components, field, field.active)
        for overlay in field.overlays:
            self._overlay(field, overlay, components)
        if field.patch is None:
            return
        if self._layout.kind == "rgb":
            self._paint_rgb_patch(field, field.patch)
            return
        for component in components:
            self._paint_patch(component, field, field.patch)

    def _paint_field(self, components: list[_Component], field: Field, active: Box) -> None:
        first = components[0]
        steps = {component: self._steps(component) for component in components}
        halved = [c for c in components if (steps[first], steps[c]) == ((1, 1), (2, 2))]
        alike = [c for c in components if steps[c] == steps[first]]
        below = {index: self._before(index) for c in components for index in c.indices}
        plane_wh = self._plane_wh(first)
        for region in self._strips(first.indices[0], field, active):
            if halved:
                look, half = Look.with_half(field, region, plane_wh)
                self._paint_look(halved, half, below)
            else:
                look = Look.of(field, region, plane_wh, steps[first])
            self._paint_look(alike, look, below)
        for component in components:
            if component in halved or component in alike:
                continue
            own_wh = self._plane_wh(component)
            for region in self._strips(component.indices[0], field, active):
                look = Look.of(field, region, own_wh, steps[component])
                self._paint_look([component], look, below)

    def _paint_look(
        self, components: list[_Component], look: Look, below: dict[int, _Before]
    ) -> None:
        for component in components:
            planes = [
                self._values(below[index].of(look.region, look.margin))
                for index in component.indices
            ]
            shown = look.painted(planes, zero=component.zero, weights=component.weights)
            for index, samples in zip(component.indices, shown, strict=True):
                self._write(index, look.region, samples)

    def _steps(self, component: _Component) -> tuple[int, int]:
        return self._frame.planes[component.indices[0]].subsampling_xy

    def _plane_wh(self, component: _Component) -> tuple[int, int]:
        height, width = self._frame.planes[component.indices[0]].samples.shape[:2]
        return width, height

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
            shown = rounded(shown, target.dtype)
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
        if not region.overlap:  # the region is all of it
            return shown
        above = min(region.y0, margin)
        if self._kept is not None:
            shown = shown.copy()
            shown[above - len(self._kept) : above] = self._kept
        end = above + region.size_wh[1]
        self._kept = shown[max(0, end - margin) : end].copy()
        return shown


def _painted_channels(layout: PixelLayout, samples: np.ndarray) -> list[int] | None:
    """Which channels of an interleaved plane are colour, None for all of them."""
    if samples.ndim == 2 or layout.kind == "yuv":
        return None
    colours = sorted(layout.rgb_order) if layout.kind == "rgb" else [0]
    return None if len(colours) == samples.shape[2] else colours
