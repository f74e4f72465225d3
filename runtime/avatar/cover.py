"""What lies in front of a still face, glasses or a hand: lifted off once, laid back on every frame.

A face that is edited below its glasses would have them lifted off, filled behind and laid back for
every eye and every expression again. A still picture has them in one place for good, so that what
lies behind is filled once and what they add to it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from mien.runtime.blending.field import WHOLE_CROP, region_under
from mien.runtime.blending.sampling import WHOLE_COVER, Cover
from mien.runtime.frame import Frame, Plane


@dataclass(frozen=True, slots=True)
class _Part:
    """Of one plane: where the cover lies, how much is seen through it, and what it adds.

    rows, columns: of the plane. through, added: float32 (h, w).
    """

    rows: slice
    columns: slice
    through: np.ndarray
    added: np.ndarray


class StillCover:
    """The cover of one picture.

    frame: planes of 8 bits, one component each. covered: float32 (h, w) in [0, 1] over the crop
    that `crop_from_frame`, float32 (2, 3), gives in units of its side; None for nothing.
    """

    def __init__(
        self, frame: Frame, covered: np.ndarray | None, crop_from_frame: np.ndarray
    ) -> None:
        self._parts: list[_Part | None] = []
        planes = []
        for plane in frame.planes:
            bare, part = _lifted(plane, covered, crop_from_frame)
            planes.append(bare)
            self._parts.append(part)
        is_bare = all(part is None for part in self._parts)
        self._bare = frame if is_bare else replace(frame, planes=tuple(planes))

    @property
    def bare(self) -> Frame:
        """The picture without its cover, which is the picture itself where there is none."""
        return self._bare

    def laid_on(self, frame: Frame) -> Frame:
        """A frame of the bare picture, edited, with the cover over it where it was.

        Where nothing was edited this is the picture, sample by sample.
        """
        if all(part is None for part in self._parts):
            return frame
        planes = [
            plane if part is None else replace(plane, samples=_laid(plane.samples, part))
            for plane, part in zip(frame.planes, self._parts, strict=True)
        ]
        return replace(frame, planes=tuple(planes))


def _lifted(
    plane: Plane, covered: np.ndarray | None, crop_from_frame: np.ndarray
) -> tuple[Plane, _Part | None]:
    """A plane with what lies behind the cover filled from around, and the cover itself."""
    height, width = plane.samples.shape
    size_wh = (width, height)
    region = region_under(WHOLE_CROP, crop_from_frame, size_wh, plane.subsampling_xy)
    if region is None or covered is None:
        return plane, None
    cover = Cover.of(region.show_smooth(covered), region, region)
    if cover is None:
        return plane, None
    before = region.of(plane.samples)
    behind = cover.lifted(before)
    samples = plane.samples.copy()
    region.of(samples)[...] = behind
    rows, columns = _span(cover.alpha.max(1)), _span(cover.alpha.max(0))
    share = cover.alpha[rows, columns]
    share = np.where(share > WHOLE_COVER, np.float32(1), share)
    through = 1 - share
    added = before[rows, columns] - behind[rows, columns] * through
    part = _Part(_moved(rows, region.y0), _moved(columns, region.x0), through, added)
    return replace(plane, samples=samples), part


def _span(most: np.ndarray) -> slice:
    """From the first to the last entry that is not 0; there is one."""
    found = np.flatnonzero(most)
    return slice(int(found[0]), int(found[-1]) + 1)


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _laid(samples: np.ndarray, part: _Part) -> np.ndarray:
    """A plane with its cover on it: uint8 (h, w)."""
    laid: np.ndarray = samples.copy()
    seen = np.ascontiguousarray(samples[part.rows, part.columns])
    below = cv2.multiply(seen, part.through, dtype=cv2.CV_32F)
    laid[part.rows, part.columns] = cv2.add(below, part.added, dtype=cv2.CV_8U)
    return laid
