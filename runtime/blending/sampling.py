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
FILL_STEPS: Final = 4  # cells of a fill's coarse grid in its reach
FILL_SIGMAS: Final = (1.2, 5.0)  # of its close and its wide mean, in eighths of its reach
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
        if values.ndim == 3 and values.shape[2] == 2:
            # OpenCV takes four times as long over pairs, such as U and V of NV12
            return cv2.merge([self.remap(part, sharp=sharp) for part in cv2.split(values)])
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
class Geometry:
    """The geometry of planes. size_wh: in samples. steps: frame pixels of a sample, x and y."""

    size_wh: tuple[int, int]
    steps: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Filling:
    """What lies around a cover, made ready to be put in its place in any plane of a geometry.

    around: the part of the samples that is looked at. inside: where in that the cover lies. sigmas:
    of a close and of a wide mean, in cells of a coarse grid over `around`. shares: float32 (h, w),
    how far each of these cells is looked at. weights: of either mean, each float32 (h, w); where
    the close one has enough to go by, it counts.
    """

    around: tuple[slice, slice]
    inside: tuple[slice, slice]
    sigmas: tuple[float, float]
    shares: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, share: np.ndarray, part: tuple[slice, slice], size_wh: tuple[int, int]) -> Filling:
        """The filling of a cover (h, w) of a part of samples that are `size_wh` all together."""
        (width, height), (rows, columns) = size_wh, part
        reach = max(8, round(FILL_REACH * max(width, height)))
        y0, y1 = max(0, rows.start - reach), min(height, rows.stop + reach)
        x0, x1 = max(0, columns.start - reach), min(width, columns.stop + reach)
        inside = (
            slice(rows.start - y0, rows.stop - y0),
            slice(columns.start - x0, columns.stop - x0),
        )
        alpha = np.zeros((y1 - y0, x1 - x0), np.float32)
        alpha[inside] = share
        step = max(1, reach // FILL_STEPS)
        few_wh = (max(1, (x1 - x0) // step), max(1, (y1 - y0) // step))
        # Beside a cover lie its halo and its shadow, and what reducing has mixed.
        wider = 2 * max(1, reach // 3 // step) + 3
        near = cv2.resize(alpha, few_wh, interpolation=cv2.INTER_AREA)
        shares = 1 - cv2.dilate(near, np.ones((wider, wider), np.uint8))
        eighth = max(1, reach // 8) / step
        sigmas = FILL_SIGMAS[0] * eighth, FILL_SIGMAS[1] * eighth
        close, wide = (cv2.GaussianBlur(shares, (0, 0), sigma) for sigma in sigmas)
        trust = np.clip((close - 0.1) * 4, 0, 1)
        weights = trust / np.maximum(close, 1e-4), (1 - trust) / np.maximum(wide, 1e-4)
        return cls((slice(y0, y1), slice(x0, x1)), inside, sigmas, shares, weights)

    def behind(self, samples: np.ndarray) -> np.ndarray:
        """What the cover may hide, a mean of what lies around: float32 (h, w[, n]) of its part.

        samples: all of them. The mean reaches about FILL_REACH far, less where uncovered samples
        are near: what shows of it is a seam a few samples wide.
        """
        around = np.ascontiguousarray(samples[self.around])
        few_wh = self.shares.shape[::-1]
        sums = cv2.resize(around, few_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
        sums = sums.reshape(*self.shares.shape, *samples.shape[2:])
        sums *= _for_each(self.shares, sums)
        close, wide = (cv2.GaussianBlur(sums, (0, 0), sigma) for sigma in self.sigmas)
        close, wide = (mean.reshape(sums.shape) for mean in (close, wide))
        fill = close * _for_each(self.weights[0], sums) + wide * _for_each(self.weights[1], sums)
        full = cv2.resize(fill, around.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        shown: np.ndarray = full.reshape(around.shape)[self.inside]
        return shown


@dataclass(frozen=True, slots=True)
class Cover:
    """What lies in front of the skin of a region: it is lifted off, and laid back where it was.

    share: float32 (h, w), how much of each sample is covered, of the part of the region and the
    margin of its lens where anything is. part: where that is. size_wh: of the region with the
    margin. inner: where in that the region lies.
    """

    share: np.ndarray
    part: tuple[slice, slice]
    size_wh: tuple[int, int]
    inner: tuple[slice, slice]
    filling: Filling

    @classmethod
    def of(cls, wide: np.ndarray, region: Region, wider: Region) -> Cover | None:
        """The cover of a region; None where there is none. wide: float32 of the wider region."""
        return cls._of_part(wide, wider, region, wider)

    @classmethod
    def under(cls, field: Field, region: Region, wider: Region, place: Geometry) -> Cover | None:
        """The cover that a field has in a region, None where it has none. wider: see `of`."""
        if field.covered is None or field.cover_box is None:
            return None
        under = region_under(field.cover_box, field.crop_from_frame, place.size_wh, place.steps)
        seen = wider.within(under)
        if seen is None:
            return None
        return cls._of_part(seen.show_smooth(field.covered), seen, region, wider)

    @classmethod
    def _of_part(
        cls, shown: np.ndarray, seen: Region, region: Region, wider: Region
    ) -> Cover | None:
        """The cover of a region by what is seen of it in a part of the wider one."""
        if float(shown.max(initial=0)) <= LEAST_COVER:
            return None
        rows, columns = part_of(shown)
        left, top = seen.x0 - wider.x0, seen.y0 - wider.y0
        part = (
            slice(rows.start + top, rows.stop + top),
            slice(columns.start + left, columns.stop + left),
        )
        share = np.ascontiguousarray(shown[rows, columns])
        x0, y0 = region.x0 - wider.x0, region.y0 - wider.y0
        width, height = region.size_wh
        inner = (slice(y0, y0 + height), slice(x0, x0 + width))
        return cls(share, part, wider.size_wh, inner, Filling.of(share, part, wider.size_wh))

    @property
    def alpha(self) -> np.ndarray:
        """How much of each sample of the region is covered: float32 (h, w)."""
        whole = np.zeros(self.size_wh[::-1], np.float32)
        whole[self.part] = self.share
        return whole[self.inner]

    def lifted(self, samples: np.ndarray) -> np.ndarray:
        """`samples` of the wider region with what was covered filled from around."""
        lifted: np.ndarray = samples.copy()
        behind = self.filling.behind(samples)
        lifted[self.part] = mixed(np.ascontiguousarray(samples[self.part]), behind, self.share)
        return lifted

    def lay_back_into(self, out: np.ndarray, before: np.ndarray) -> None:
        """Put what was there `before` (of the region) over `out`, its own samples exactly."""
        (rows, columns), (inner_rows, inner_columns) = self.part, self.inner
        kept = _shared(rows, inner_rows), _shared(columns, inner_columns)
        if not (kept[0].stop > kept[0].start and kept[1].stop > kept[1].start):
            return  # only the margin of the lens is covered
        share = np.ascontiguousarray(self.share[_within(kept[0], rows), _within(kept[1], columns)])
        place = _within(kept[0], inner_rows), _within(kept[1], inner_columns)
        over = np.ascontiguousarray(before[place])
        laid = mixed(np.ascontiguousarray(out[place]), over, share)
        np.copyto(laid, over, where=_for_each(share > WHOLE_COVER, over))
        out[place] = laid


def _shared(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _within(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


def _for_each(values: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Values (h, w) as they are multiplied with samples (h, w[, n])."""
    return values if samples.ndim == 2 else values[..., None]


def mixed(below: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Samples (h, w[, n]), and a share (h, w) of others over them, rounded as `below`."""
    count = 1 if below.ndim == 2 else below.shape[2]
    amount = share if count == 1 else cv2.merge([share] * count)
    flat = (len(below), -1)
    # each of these is one pass, whatever types it joins
    change = cv2.subtract(over.reshape(flat), below.reshape(flat), dtype=cv2.CV_32F)
    change = cv2.multiply(change, amount.reshape(flat), dst=change)
    whole = cv2.add(change, below.reshape(flat), dtype=cv_depth(below.dtype))
    return whole.reshape(below.shape)


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
        lens = shade = None
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
        wider = region.wider(lens.margin if lens else 0, plane_wh)
        cover = Cover.under(field, region, wider, Geometry(plane_wh, subsampling_xy))
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
        half_wh = (-(-plane_wh[0] // 2), -(-plane_wh[1] // 2))
        for index, (part, place) in enumerate(
            ((region, Geometry(plane_wh, (1, 1))), (half, Geometry(half_wh, (2, 2))))
        ):
            lens = lenses[index]
            wider = part.wider(lens.margin if lens else 0, place.size_wh)
            covers[index] = Cover.under(field, part, wider, place)
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
    x, y, width, height = cv2.boundingRect((alpha != 0).view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def rounded(values: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Float values rounded and saturated, in one pass."""
    flat = np.ascontiguousarray(values, np.float32).reshape(values.shape[0], -1)
    whole = cv2.addWeighted(flat, 1.0, flat, 0.0, 0.0, dtype=cv_depth(dtype))
    return whole.reshape(values.shape)


def cv_depth(dtype: np.dtype[np.generic]) -> int:
    """OpenCV's name for uint8 or uint16."""
    return cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U
