"""A watermark in the edited part of a face: who made the edit can be read from the pixels alone.

Spread spectrum (Cox et al. 1997, "Secure spread spectrum watermarking for multimedia") on the
canonical crop: a grid of chips, smooth blobs of 1/36 of the crop, lies over the face and moves with
its landmarks, so that scaling and cropping a picture do not matter. Each chip swings at four rates
of 1 to 4 Hz, in two quadratures: over seconds a face's own texture cancels out, every frame holds
the same power, and a reader needs no start to count from, only to find one time shift. A quarter of
the chips is known beforehand: the pilot, which is also the tag that says that this is a mark of
mien. The others hold a format, a number and an error check behind a convolutional code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np

from mien.runtime.blending.blending import FaceEdit, crop_units_matrix
from mien.runtime.blending.edit import Edit
from mien.runtime.blending.field import Box, region_under
from mien.runtime.faces.alignment import crop_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.watermark.payload import CODED_BITS, Payload, encoded

# Chips a side of the crop. More are read better from large faces, fewer from small ones: after crf
# 28 a crop of 103 px was read best with 32 and 36 (of 24, 32, 36, 40, 44), one of 290 px with 44.
GRID: Final = 36
CELL_PX: Final = 3
CROP_PX: Final = GRID * CELL_PX  # of the crop that is read
PATTERN_PX: Final = 2 * GRID  # of the one that is written: half the time, and the same power left
RATES_HZ: Final = (1, 2, 3, 4)  # whole numbers, so that one time shift in [0, 1) s holds for all
PILOT_SHARE: Final = 0.25
SEED: Final = 18  # of the chips that `mien inspect` looks for

# A difference of Gaussians, in cells: what is finer is lost in encoding, what is coarser is seen,
# and lies under the face's own light and shade.
FINE_CELLS, COARSE_CELLS = 0.45, 1.6

# The least and the most root mean square of the mark, in 8-bit levels, and how it grows with the
# mean difference of neighbouring parts of the picture, which hides it.
LEAST_LEVELS, MOST_LEVELS, MASKING = 0.83, 2.3, 0.365
# Larger faces are read with less: the crop's side in pixels from which the mark becomes weaker, and
# from which on it has the least share of its strength.
SMALL_PX, LARGE_PX, LEAST_SHARE = 110, 240, 0.72
_UNIT: Final = 16.0  # steps of a level in the 8-bit pattern that is moved onto the frame
_ZERO: Final = 128

# The face in the crop: half axes and centre of an ellipse, in crop units, inside the contour of the
# mean face (mien.runtime.faces.topology.CONTOUR) and the forehead.
_FACE_CENTRE, _FACE_AXES = (0.5, 0.49), (0.36, 0.43)
_FACE_BOX: Final[Box] = (0.12, 0.03, 0.88, 0.95)  # around it as far as the mark fades


@dataclass(frozen=True, slots=True)
class ChipPlan:
    """Which chip says what; the same for the writer and the reader of one seed.

    cells: int (n, 2), row and column of each place of the grid that is used.
    signs: float32 (8, n), -1 or 1: cosine and sine of each rate in turn.
    bits: int (8, n): which coded bit a chip says, -1 of the pilot.
    """

    seed: int = SEED
    cells: np.ndarray = field(init=False)
    signs: np.ndarray = field(init=False)
    bits: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        centres = (np.arange(GRID) + 0.5) / GRID
        rows, columns = np.nonzero(face_ellipse(centres[None, :], centres[:, None]) < 1)
        shape = (2 * len(RATES_HZ), len(rows))
        count = shape[0] * shape[1]
        # From a hash, for the streams of random generators may change with their library.
        drawn = hashlib.shake_256(f"mien watermark {self.seed}".encode()).digest(5 * count)
        keys = np.frombuffer(drawn[: 4 * count], "<u4")
        chances = np.frombuffer(drawn[4 * count :], np.uint8)
        order = np.argsort(keys, kind="stable")
        pilots = round(PILOT_SHARE * count)
        bits = np.full(count, -1)
        bits[order[pilots:]] = np.arange(count - pilots) % CODED_BITS
        object.__setattr__(self, "cells", np.stack([rows, columns], 1))
        object.__setattr__(self, "bits", bits.reshape(shape))
        signs = (chances & 1).astype(np.float32) * 2 - 1
        object.__setattr__(self, "signs", signs.reshape(shape))

    def chips(self, payload: Payload) -> np.ndarray:
        """What each chip shows: float32 (8, n), -1 or 1."""
        coded = np.append(encoded(payload.bits()), np.float32(1))  # the last one for the pilot
        chips: np.ndarray = self.signs * coded[self.bits]
        return chips


def face_ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far out points of the crop are, in crop units: below 1 on the face."""
    horizontal = (x - _FACE_CENTRE[0]) / _FACE_AXES[0]
    vertical = (y - _FACE_CENTRE[1]) / _FACE_AXES[1]
    out: np.ndarray = horizontal**2 + vertical**2
    return out


def band_pass(image: np.ndarray) -> np.ndarray:
    """The spatial frequencies of the chips: float32, as the crop given, (n, n[, c])."""
    cell_px = len(image) / GRID
    fine = cv2.GaussianBlur(image, (0, 0), FINE_CELLS * cell_px)
    band: np.ndarray = fine - cv2.GaussianBlur(image, (0, 0), COARSE_CELLS * cell_px)
    return band


def edit_region(edit: Edit, size: int = 64) -> np.ndarray:
    """Where an edit changes a face, on its crop: float32 (size, size), 0 or 1.

    Every part of it that is not exactly 0 counts; what covers the skin does not.
    """
    region = np.zeros((size, size), np.float32)
    gain = None if edit.gain is None else edit.gain.reshape(edit.gain.shape[-2:])
    flow = None if edit.flow is None else np.abs(edit.flow).max(0)
    for grid in (gain, flow):
        if grid is not None:
            part = (np.abs(grid) > 0).astype(np.float32)
            resized = cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)
            region = np.maximum(region, (resized >= 1).astype(np.float32))
    if edit.mask is not None:
        region *= cv2.resize(edit.mask, (size, size)) > 0
    for overlay, grid in ((edit.delta, "mask"), (edit.paste, "alpha"), (edit.patch, "alpha")):
        if overlay is not None:
            _add_overlay(region, getattr(overlay, grid), overlay.box)
    if edit.covered is not None:
        region *= cv2.resize(edit.covered, (size, size)) < 0.5
    return region


def _add_overlay(region: np.ndarray, alpha: np.ndarray, box: Box) -> None:
    """Set to 1 in `region` the cells that an overlay reaches."""
    size = len(region)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = (centres - box[0]) / (box[2] - box[0]) * alpha.shape[1] - 0.5
    y = (centres - box[1]) / (box[3] - box[1]) * alpha.shape[0] - 0.5
    map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    part = (alpha > 0).astype(np.float32)
    shown = cv2.remap(part, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    region[shown >= 1] = 1


@dataclass(frozen=True, slots=True)
class EditedFace:
    """A face, and what was done to it.

    landmarks: float32 (106, 2), in pixels of the frame as it came.
    """

    landmarks: np.ndarray
    edit: FaceEdit

    def region(self, size: int = 64) -> np.ndarray:
        """Where the edit changes the face, on its canonical crop: float32 (size, size), 0 or 1."""
        region = edit_region(self.edit.edit, size)
        canonical = crop_units_matrix(crop_matrix(self.landmarks, size), size)
        own = self.edit.crop_from_frame
        if np.abs(canonical - own).max() < 1e-4:  # two crops differ by far more
            return region
        own_from_frame, canonical_from_frame = (
            np.vstack([matrix.astype(np.float64), (0, 0, 1)]) for matrix in (own, canonical)
        )
        move = (own_from_frame @ np.linalg.inv(canonical_from_frame))[:2]
        move[:, 2] = move[:, 2] * size + move[:, :2].sum(1) * 0.5 - 0.5  # of pixels, not units
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved: np.ndarray = cv2.warpAffine(region, move, (size, size), flags=flags)
        return (moved >= 1).astype(np.float32)


class Watermark:
    """Writes one payload into the faces of a video, frame by frame.

    seed: of the chips; `mien inspect` looks for SEED.
    """

    def __init__(self, payload: Payload, *, seed: int = SEED) -> None:
        self.payload = payload
        plan = ChipPlan(seed)
        chips = np.zeros((len(plan.signs), CROP_PX, CROP_PX), np.float32)
        rows, columns = (plan.cells * CELL_PX + CELL_PX // 2).T
        chips[:, rows, columns] = plan.chips(payload)
        size = (PATTERN_PX, PATTERN_PX)
        patterns = np.stack(
            [cv2.resize(band_pass(image), size, interpolation=cv2.INTER_AREA) for image in chips]
        )
        centres = (np.arange(PATTERN_PX, dtype=np.float32) + 0.5) / PATTERN_PX
        out = face_ellipse(centres[None, :], centres[:, None])
        fade = np.clip((1.1 - out) / 0.3, 0, 1).astype(np.float32)
        power = np.square(patterns[:, out < 0.8]).mean() * len(RATES_HZ)
        # From here on in the steps of the pattern that is moved.
        self._patterns = (patterns * fade * _UNIT / np.sqrt(power)).reshape(len(patterns), -1)

    def __call__(
        self, frame: Frame, edited: Frame, faces: Sequence[EditedFace], *, time_s: float
    ) -> Frame:
        """`edited` with the mark over the edited part of each face; itself where none is edited.

        frame: as it came, whose arrays are only read. edited: the same with the edits, whose arrays
        are written to where they are its own.
        """
        if edited is frame or not faces:
            return edited
        planes = list(edited.planes)
        is_planar_rgb = frame.layout.kind == "rgb" and len(planes) >= 3
        places = frame.layout.rgb_order if is_planar_rgb else (0,)
        targets = []
        for place in places:
            if planes[place].samples is frame.planes[place].samples:
                own = planes[place].samples.copy()
                planes[place] = Plane(own, planes[place].subsampling_xy)
            targets.append(planes[place].samples)
        for face in faces:
            self._paint_all(targets, face.landmarks, face.region(), time_s, frame.layout)
        return replace(edited, planes=tuple(planes))

    def paint_into(
        self,
        samples: np.ndarray,
        landmarks: np.ndarray,
        region: np.ndarray,
        *,
        time_s: float,
        layout: PixelLayout,
    ) -> None:
        """Add the mark of one face to a plane of luma or of R, G and B, in place.

        samples: uint8 or uint16 (H, W) or (H, W, n), with the edit in it.
        landmarks: float32 (106, 2), in pixels of the frame as it came.
        region: float32 (h, w) on the crop, 0 or 1, as of `edit_region`; where it is 0 no sample
            changes.
        time_s: when the frame is shown, from any start that stays the same.
        """
        self._paint_all([samples], landmarks, region, time_s, layout)

    def _paint_all(
        self,
        targets: Sequence[np.ndarray],
        landmarks: np.ndarray,
        region: np.ndarray,
        time_s: float,
        layout: PixelLayout,
    ) -> None:
        """Add the mark of one face to planes alike, as strongly as green, or luma, hides it."""
        samples = targets[len(targets) // 2]
        matrix = crop_matrix(landmarks, PATTERN_PX)
        height, width = samples.shape[:2]
        units = crop_units_matrix(matrix, PATTERN_PX)
        place = region_under(_FACE_BOX, units, (width, height), (1, 1))
        if place is None:
            return
        part = place.of(samples)
        here = matrix.astype(np.float64)
        here[:, 2] += here[:, :2] @ (place.x0, place.y0)
        strength = _levels(part, here, layout)
        strength[_outside(region)] = 0
        mark = self._at(time_s)
        mark *= strength
        moved = cv2.warpAffine(
            cv2.add(mark, np.float64(_ZERO), dtype=cv2.CV_8U),
            here,
            (part.shape[1], part.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_ZERO,
        )
        for target in targets:
            _add_into(place.of(target), moved, layout)

    def _at(self, time_s: float) -> np.ndarray:
        """The pattern at a time, in steps: float32 (72, 72)."""
        angles = 2 * np.pi * np.array(RATES_HZ) * (time_s % 1.0)
        swing = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32).reshape(-1)
        pattern: np.ndarray = (swing @ self._patterns).reshape(PATTERN_PX, PATTERN_PX)
        return pattern


def _levels(part: np.ndarray, crop_from_part: np.ndarray, layout: PixelLayout) -> np.ndarray:
    """How strong the mark is where, in 8-bit levels: float32 (72, 72)."""
    grey = part if part.ndim == 2 else part[..., layout.rgb_order[1]]
    small = crop_from_part * 0.5
    small[:, 2] -= 0.25  # pixel centres of the crop at half its size
    half = PATTERN_PX // 2
    seen = cv2.warpAffine(grey, small, (half, half), borderMode=cv2.BORDER_REPLICATE)
    unit = 1 << (layout.depth + layout.shift - 8)
    rough = cv2.absdiff(seen, cv2.blur(seen, (5, 5)))
    busy = cv2.blur(rough.astype(np.float32), (5, 5))
    levels = np.minimum(busy * np.float32(MASKING / unit) + np.float32(LEAST_LEVELS), MOST_LEVELS)
    side_px = PATTERN_PX / np.hypot(crop_from_part[0, 0], crop_from_part[1, 0])
    levels *= np.float32(np.interp(side_px, (SMALL_PX, LARGE_PX), (1, LEAST_SHARE)))
    wide: np.ndarray = cv2.resize(levels, (PATTERN_PX, PATTERN_PX), interpolation=cv2.INTER_LINEAR)
    return wide


def _outside(region: np.ndarray) -> np.ndarray:
    """Where the pattern's grid does not lie in a region with all that it mixes: bool (72, 72)."""
    is_out = (region == 0).astype(np.float32)
    wide = cv2.resize(is_out, (PATTERN_PX, PATTERN_PX), interpolation=cv2.INTER_LINEAR)
    return cv2.dilate(wide, np.ones((3, 3), np.uint8)) > 0


def _add_into(part: np.ndarray, moved: np.ndarray, layout: PixelLayout) -> None:
    """Add a moved pattern, 128 for none, to samples in place, saturated at the levels there are."""
    unit = float(1 << (layout.depth + layout.shift - 8)) / _UNIT
    channels: list[int | None] = [None] if part.ndim == 2 else [0]  # grey, beside transparency
    if layout.kind == "rgb" and part.ndim == 3:
        channels = list(layout.rgb_order)
    for channel in channels:
        target = part if channel is None else part[..., channel]
        if part.dtype == np.uint8:
            target[...] = cv2.addWeighted(target, 1.0, moved, unit, -_ZERO * unit)
            continue
        step = 1 << layout.shift
        change = np.rint((moved.astype(np.float32) - _ZERO) * np.float32(unit / step)) * step
        most = ((1 << layout.depth) - 1) << layout.shift
        target[...] = np.clip(target + change, 0, most).astype(part.dtype)
