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

import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from mien.engines.errors import UsageError
from mien.runtime.blending.blending import crop_units_matrix
from mien.runtime.blending.edit import Edit
from mien.runtime.blending.field import Box, region_under
from mien.runtime.faces.alignment import crop_matrix
from mien.runtime.frame import PixelLayout

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

FORMAT: Final = 1
NUMBER_BITS: Final = 28
PAYLOAD_BITS: Final = 48

# The best code of rate 1/3 and constraint length 9 (Larsen 1973), in octal.
GENERATORS: Final = (0o557, 0o663, 0o711)
CONSTRAINT: Final = 9
CODED_BITS: Final = len(GENERATORS) * (PAYLOAD_BITS + CONSTRAINT - 1)

# The least and the most root mean square of the mark, in 8-bit levels, and how it grows with the
# mean difference of neighbouring parts of the picture, which hides it.
LEAST_LEVELS, MOST_LEVELS, MASKING = 0.8, 2.2, 0.35
# Larger faces are read with less: the crop's side in pixels from which the mark becomes weaker, and
# from which on it has the least share of its strength.
SMALL_PX, LARGE_PX, LEAST_SHARE = 110, 240, 0.75
_UNIT: Final = 16.0  # steps of a level in the 8-bit pattern that is moved onto the frame
_ZERO: Final = 128

# The face in the crop: half axes and centre of an ellipse, in crop units, inside the contour of the
# mean face (mien.runtime.faces.topology.CONTOUR) and the forehead.
_FACE_CENTRE, _FACE_AXES = (0.5, 0.49), (0.36, 0.43)
_FACE_BOX: Final[Box] = (0.12, 0.03, 0.88, 0.95)  # around it as far as the mark fades


@dataclass(frozen=True, slots=True)
class Payload:
    """What the watermark says.

    number: 0..2^28-1, of one run. format: 0..15, of this layout of bits.
    Raises UsageError for numbers outside.
    """

    number: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 0 <= self.number < 1 << NUMBER_BITS or not 0 <= self.format < 16:
            raise UsageError(
                f"a watermark holds a number of 0..{(1 << NUMBER_BITS) - 1} and a format of 0..15, "
                f"not {self.number} and {self.format}"
            )

    @classmethod
    def drawn(cls) -> Payload:
        """A payload with a random number."""
        return cls(secrets.randbelow(1 << NUMBER_BITS))

    @property
    def identifier(self) -> str:
        """The number as people compare it: 7 hexadecimal digits."""
        return f"{self.number:07x}"

    def bits(self) -> np.ndarray:
        """Format (4), number (28), CRC-16 of them: uint8 (48,), 0 or 1."""
        said = (self.format << NUMBER_BITS | self.number).to_bytes(4, "big")
        whole = said + binascii.crc_hqx(said, 0xFFFF).to_bytes(2, "big")
        return np.unpackbits(np.frombuffer(whole, np.uint8))

    @classmethod
    def of_bits(cls, bits: np.ndarray) -> Payload | None:
        """The payload of 48 bits, None where the format is unknown or the error check fails."""
        whole = np.packbits(bits.astype(np.uint8)).tobytes()
        said = int.from_bytes(whole[:4], "big")
        if binascii.crc_hqx(whole[:4], 0xFFFF) != int.from_bytes(whole[4:], "big"):
            return None
        payload = cls(said & (1 << NUMBER_BITS) - 1, said >> NUMBER_BITS)
        return payload if payload.format == FORMAT else None


def encoded(bits: np.ndarray) -> np.ndarray:
    """The coded bits of a payload's: float32 (168,), -1 or 1, ended by zeros."""
    register, coded = 0, []
    for bit in [*bits.tolist(), *[0] * (CONSTRAINT - 1)]:
        register = (register << 1 | bit) & ((1 << CONSTRAINT) - 1)
        coded += [(register & taps).bit_count() & 1 for taps in GENERATORS]
    return np.array(coded, np.float32) * 2 - 1


def decoded(soft: np.ndarray) -> np.ndarray:
    """The most likely bits: uint8 (48,). Source: Viterbi 1967.

    soft: float (168,), the likelier a coded bit is 1 the larger, in any unit.
    """
    states = 1 << (CONSTRAINT - 1)
    registers = np.arange(2 * states)  # the state before, and the new bit
    ones = [
        [(register & tap).bit_count() & 1 for register in range(2 * states)] for tap in GENERATORS
    ]
    signs = np.array(ones, np.float64) * 2 - 1
    gains = soft.reshape(-1, len(GENERATORS)).astype(np.float64) @ signs
    scores = np.full(states, -np.inf)
    scores[0] = 0.0
    chosen = []
    for gain in gains:
        # Register r = (oldest bit, state); it leads to the state r mod `states`.
        reached = scores[registers >> 1] + gain
        both = reached.reshape(2, states)
        chosen.append(both[1] > both[0])
        scores = both.max(0)
    state, bits = 0, []
    for took in reversed(chosen):
        bits.append(state & 1)
        state = (state + states * int(took[state])) >> 1
    return np.array(bits[::-1][:PAYLOAD_BITS], np.uint8)


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
        _add_into(part, moved, layout)

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
    channels = [None] if part.ndim == 2 else list(range(part.shape[2]))
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
