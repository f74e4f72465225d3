"""What a field does to the samples of a region: where they come from, and what they become.

`Look.of` prepares it for one geometry of planes, `Look.with_half` for luma and the 4:2:0 chroma
below it in one sweep over the grids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.runtime.blending.field import Field, Region, region_under

LEAST_COVER, WHOLE_COVER = 0.02, 0.995  # shares that count as nothing and as all
FILL_REACH: Final = 0.04  # of the region's longer side: how far a fill looks for what to be like
KERNEL: Final = 3  # samples around, of which the cubic kernel looks at 2


@dataclass(frozen=True, slots=True)
class Lens:
    """Where a region's samples come from, in samples of the region `margin` wider.

    map_x, map_y: float32 of the region. margin: samples, even.
    """

    map_x: np.ndarray
    map_y: np.ndarray
    margin: int

    @classmethod
    def of(cls, flow_x: np.ndarray, flow_y: np.ndarray, region: Region, reach: float) -> Lens:
        """The lens of a backward flow in samples of the plane; the flow is written over.

        flow_x, flow_y: float32 of the region, nowhere more than `reach` from 0.
        """
        margin = margin_for(reach)
        left, top = min(region.x0, margin), min(region.y0, margin)
        height, width = flow_x.shape
        flow_x += np.arange(left, left + width, dtype=np.float32)
        flow_y += np.arange(top, top + height, dtype=np.float32)[:, None]
        return cls(flow_x, flow_y, margin)

    def remap(self, values: np.ndarray, *, sharp: bool) -> np.ndarray:
        """Samples moved: luma with a cubic kernel, for a linear one takes its fine detail."""
        method = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
        return cv2.remap(values, self.map_x, self.map_y, method, borderMode=cv2.BORDER_REPLICATE)


def margin_for(reach: float) -> int:
    """How many samples around a region a lens that reaches so far looks at; even."""
    return (math.ceil(reach) + KERNEL + 1) // 2 * 2


@dataclass(frozen=True, slots=True)
class Shade:
    """A change of brightness in a part of a region.

    factor: float32 (h, w), what luma there is multiplied by. part: where that is.
    """

    factor: np.ndarray
    part: tuple[slice, slice]

    def shaded_into(self, out: list[np.ndarray], zero: float, weights: Sequence[float]) -> None:
        """Multiply the luma of the region, counted from `zero`; colour stays as it is.

        A shadow on skin is more saturated and a highlight less; scaled with the luma, the colour of
        pale skin in the shade is grey. out: a plane, (h, w) or (h, w, n), or several (h, w);
        rounded as they are. weights: of each of their channels in the luma.
        """
        parts = [np.ascontiguousarray(plane[self.part]) for plane in out]
        if len(parts) == 1 and parts[0].ndim == 2:
            out[0][self.part] = self._scaled(parts[0], zero)
            return
        whole = parts[0] if len(parts) == 1 else cv2.merge(parts)
        luma = cv2.transform(whole.astype(np.float32), np.array([weights], np.float32))
        change = cv2.multiply(luma.reshape(self.factor.shape), self.factor - 1)
        for plane, part in zip(out, parts, strict=True):
            wide = cv2.merge([change] * part.shape[2]) if part.ndim == 3 else change
            lit = cv2.add(part, wide, dtype=cv_depth(part.dtype))
            plane[self.part] = lit.reshape(part.shape)

    def _scaled(self, samples: np.ndarray, zero: float) -> np.ndarray:
        product = cv2.multiply(samples, self.factor, dtype=cv2.CV_32F)
        if not zero:
            return rounded(product, samples.dtype).reshape(samples.shape)
        depth = cv_depth(samples.dtype)
        scaled = cv2.addWeighted(product, 1.0, self.factor, -zero, zero, dtype=depth)
        return scaled.reshape(samples.shape)


@dataclass(frozen=True, slots=True)
class Cover:
    """What lies in front of the skin of a region: it is lifted off, and laid back where it was.

    alpha: float32 of the region. wide: the same, of the region with the margin of its lens. inner:
    where in that the region lies.
    """

    alpha: np.ndarray
    wide: np.ndarray
    inner: tuple[slice, slice]

    @classmethod
    def of(cls, wide: np.ndarray, region: Region, wider: Region) -> Cover | None:
        """The cover of a region; None where there is none. wide: float32 of the wider region."""
        if float(wide.max(initial=0)) <= LEAST_COVER:
            return None
        left, top = region.x0 - wider.x0, region.y0 - wider.y0
        width, height = region.size_wh
        inner = (slice(top, top + height), slice(left, left + width))
        return cls(wide[inner], wide, inner)

    def lifted(self, samples: np.ndarray) -> np.ndarray:
        """`samples` of the wider region with what was covered filled from around."""
        height, width = samples.shape[:2]
        rows, columns = part_of(self.wide)
        reach = max(8, round(FILL_REACH * max(height, width)))
        y0, y1 = max(0, rows.start - reach), min(height, rows.stop + reach)
        x0, x1 = max(0, columns.start - reach), min(width, columns.stop + reach)
        part = np.ascontiguousarray(samples[y0:y1, x0:x1])
        lifted: np.ndarray = samples.copy()
        lifted[y0:y1, x0:x1] = filled(part, self.wide[y0:y1, x0:x1], reach)
        return lifted

    def lay_back_into(self, out: np.ndarray, before: np.ndarray) -> None:
        """Put what was there `before` (of the region) over `out`, its own samples exactly."""
        part = part_of(self.alpha)
        if not self.alpha[part].size:  # only the margin of the lens is covered
            return
        alpha = self.alpha[part] if out.ndim == 2 else self.alpha[part][..., None]
        below, over = out[part].astype(np.float32), before[part]
        below += (over - below) * alpha
        out[part] = np.where(alpha > WHOLE_COVER, over, rounded(below, out.dtype))


@dataclass(frozen=True, slots=True)
class Look:
    """A field as one geometry of planes sees it in a region; None for what it does not do."""

    region: Region
    lens: Lens | None
    shade: Shade | None
    cover: Cover | None

    @classmethod
    def of(
        cls,
        field: Field,
        region: Region,
        plane_wh: tuple[int, int],
        subsampling_xy: tuple[int, int] = (1, 1),
    ) -> Look:
        """What a field does in a region of planes of a size and subsampling."""
        lens = shade = cover = None
        reach = field.reach / min(subsampling_xy)
        if field.flow_x is not None and field.flow_y is not None:
            flows = (region.show_smooth(field.flow_x), region.show_smooth(field.flow_y))
            flow_x, flow_y = (
                flow if step == 1 else flow * np.float32(1 / step)
                for flow, step in zip(flows, subsampling_xy, strict=True)
            )
            lens = Lens.of(flow_x, flow_y, region, reach)
        shaded = _shaded(field, region, plane_wh, subsampling_xy)
        if field.gain is not None and shaded is not None:
            shade = _shade(shaded.show_smooth(field.gain), region, shaded)
        if field.covered is not None:
            wider = region.wider(lens.margin if lens else 0, plane_wh)
            cover = Cover.of(wider.show_smooth(field.covered), region, wider)
        return cls(region, lens, shade, cover)

    @classmethod
    def with_half(
        cls, field: Field, region: Region, plane_wh: tuple[int, int]
    ) -> tuple[Look, Look]:
        """What a field does in a region of a luma plane, and in the 4:2:0 chroma of the same."""
        half = region.half()
        lenses: list[Lens | None] = [None, None]
        shade: Shade | None = None
        covers: list[Cover | None] = [None, None]
        if field.flow_x is not None and field.flow_y is not None:
            (full_x, half_x), (full_y, half_y) = (
                region.show_with_half(flow) for flow in (field.flow_x, field.flow_y)
            )
            own = half_x * np.float32(0.5), half_y * np.float32(0.5)
            lenses = [
                Lens.of(full_x, full_y, region, field.reach),
                Lens.of(*own, half, field.reach / 2),
            ]
        shaded = _shaded(field, region, plane_wh, (1, 1))
        if field.gain is not None and shaded is not None:
            shade = _shade(shaded.show_smooth(field.gain), region, shaded)
        if field.covered is not None:
            half_wh = (-(-plane_wh[0] // 2), -(-plane_wh[1] // 2))
            margins = [lens.margin if lens else 0 for lens in lenses]
            wider = region.wider(margins[0], plane_wh)
            wider_half = half.wider(margins[1], half_wh)
            covers = [
                Cover.of(wider.show_smooth(field.covered), region, wider),
                Cover.of(wider_half.show_smooth(field.covered), half, wider_half),
            ]
        looks = zip((region, half), lenses, (shade, None), covers, strict=True)
        first, second = (cls(*parts) for parts in looks)
        return first, second

    @property
    def margin(self) -> int:
        """How many samples around the region are looked at."""
        return self.lens.margin if self.lens else 0

    def painted(
        self, planes: Sequence[np.ndarray], *, zero: float, weights: Sequence[float] | None
    ) -> list[np.ndarray]:
        """The samples of the region with the field in them: new arrays, dtype kept.

        planes: of the region and `margin` around it where they go on; only read. zero: what
        brightness counts from. weights: of each channel in the luma, None for chroma.
        """
        shown = [self._moved(samples, sharp=weights is not None) for samples in planes]
        if self.shade is not None and weights is not None:
            self.shade.shaded_into(shown, zero, weights)
        if self.cover is not None:
            for out, samples in zip(shown, planes, strict=True):
                self.cover.lay_back_into(out, samples[self.cover.inner])
        return shown

    def _moved(self, samples: np.ndarray, *, sharp: bool) -> np.ndarray:
        below = samples if self.cover is None else self.cover.lifted(samples)
        return below.copy() if self.lens is None else self.lens.remap(below, sharp=sharp)


def _shaded(
    field: Field, region: Region, plane_wh: tuple[int, int], subsampling_xy: tuple[int, int]
) -> Region | None:
    """Where in a region the brightness changes."""
    if field.gain_box is None:
        return None
    under = region_under(field.gain_box, field.crop_from_frame, plane_wh, subsampling_xy)
    return region.within(under)


def _shade(gain: np.ndarray, region: Region, shaded: Region) -> Shade:
    top, left = shaded.y0 - region.y0, shaded.x0 - region.x0
    height, width = gain.shape
    part = (slice(top, top + height), slice(left, left + width))
    return Shade(gain + np.float32(1), part)


def part_of(alpha: np.ndarray) -> tuple[slice, slice]:
    """The smallest part of a mask that holds what is not zero; an empty one where all is."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def filled(samples: np.ndarray, alpha: np.ndarray, reach: int) -> np.ndarray:
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
    return rounded(full, samples.dtype)


def rounded(values: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Float values rounded and saturated, in one pass."""
    flat = np.ascontiguousarray(values, np.float32).reshape(values.shape[0], -1)
    whole = cv2.addWeighted(flat, 1.0, flat, 0.0, 0.0, dtype=cv_depth(dtype))
    return whole.reshape(values.shape)


def cv_depth(dtype: np.dtype[np.generic]) -> int:
    """OpenCV's name for uint8 or uint16."""
    return cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U
