"""The watermark read back from a video, without its original.

A piece of about 3 s of one face is looked at as the crops that the landmarks give. What swings at
the mark's rates is taken out of it, which leaves the face's own texture behind; the place of the
grid is refined, and the time shift found, by the pilot chips; the others are decoded, softly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from mien.runtime.faces.alignment import crop_matrix
from mien.runtime.faces.tracking import FILE, Tracker
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma
from mien.runtime.watermark.payload import CODED_BITS, Payload, payload_in
from mien.runtime.watermark.watermark import (
    CELL_PX,
    CROP_PX,
    GRID,
    RATES_HZ,
    ChipPlan,
    band_pass,
    face_ellipse,
)

PIECE_S: Final = 3.0
LEAST_S: Final = 1.5  # of the shortest piece that is looked at
LEAST_FRAMES: Final = 24
# Standard deviations of the pilot's correlation from which bits are looked at (6,390 looks at
# unmarked faces gave 5.19 at most), and of the bits' own from which they count. By Gauss's tail,
# noise has 8 for one of the 2^28 numbers that pass the check about once in 10^7 looks.
LEAST_PILOT: Final = 5.0
LEAST_DATA: Final = 8.0
MESSAGES: Final = 256  # that are tried
# How far from where the landmarks put it the grid is expected, as `_Fit.place`. A faint pilot fits
# its noise best where the grid is bent: on a face of 35 px between the eyes, after crf 28, pieces
# with the bits at 9.0 to 9.9 standard deviations had them at 6.8 to 8.3 there.
_SPREAD: Final = np.array([0.006, 0.006, 0.015, 0.015, 0.015, 0.015])
_FREEDOM: Final = 3  # of a Student t: what is far off is as unlikely as what is a little further
_CLIP: Final = 2.0  # levels: the mark is weaker, what is stronger is motion
_SHIFTS: Final = 64  # of time that are tried
_COARSE_STEP, _REACH, _SIZE_STEP = 0.01, 2, 0.03  # in crop units; a chip is 0.028 wide
LEAST_COARSE: Final = 4.0  # of the pilot at a coarse place, for it to be refined
_FINE_STEPS: Final = (0.008, 0.004, 0.002, 0.001)
_MOST_MOVES: Final = 8
_STARTS: Final = 3  # places that are refined


@dataclass(frozen=True, slots=True)
class Piece:
    """One face over some seconds.

    crops: uint8 (t, 108, 108), luma of the canonical crop. times_s: float64 (t,).
    """

    track_id: int
    crops: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True, slots=True)
class Reading:
    """What a piece says.

    pilot: correlation with the pilot in standard deviations; of unmarked faces about 4 to 5.
    payload: None where there is no mark, or none that can be read.
    """

    track_id: int
    start_s: float
    end_s: float
    pilot: float
    payload: Payload | None


def read(frames: Iterable[Frame], tracker: Tracker, plan: ChipPlan | None = None) -> list[Reading]:
    """What each piece of a video says, in order.

    frames: with times. tracker: fresh; it looks for faces as in a file.
    """
    chips = plan or ChipPlan()
    return [read_piece(piece, chips) for piece in pieces(views(frames, tracker))]


@dataclass(frozen=True, slots=True)
class View:
    """One face in one frame: `crop` uint8 (108, 108), luma of the canonical crop."""

    track_id: int
    time_s: float
    crop: np.ndarray


def views(frames: Iterable[Frame], tracker: Tracker) -> Iterator[list[View]]:
    """The faces of each frame of a video."""
    tracker.effort = FILE
    time_s = 0.0
    for frame in frames:
        time_s = time_s + 1 / 30 if frame.time_s is None else frame.time_s
        seen = []
        for face in tracker(frame, time_s):
            if face.presence > 0:
                matrix = crop_matrix(face.landmarks, CROP_PX)
                seen.append(View(face.track_id, time_s, sample_luma(frame, matrix, CROP_PX)))
        yield seen


def pieces(seen: Iterable[list[View]]) -> Iterator[Piece]:
    """The faces of a video in pieces of 3 s; shorter ones where a face comes or goes."""
    kept: dict[int, list[View]] = {}
    for shown in seen:
        for gone in kept.keys() - {view.track_id for view in shown}:
            yield from _whole(kept.pop(gone))
        for view in shown:
            known = kept.setdefault(view.track_id, [])
            known.append(view)
            if view.time_s - known[0].time_s >= PIECE_S:
                yield from _whole(kept.pop(view.track_id))
    for known in kept.values():
        yield from _whole(known)


def _whole(known: list[View]) -> Iterator[Piece]:
    """The piece of some views, where they are enough."""
    if len(known) >= LEAST_FRAMES and known[-1].time_s - known[0].time_s >= LEAST_S:
        times_s = np.array([view.time_s for view in known])
        yield Piece(known[0].track_id, np.stack([view.crop for view in known]), times_s)


def read_piece(piece: Piece, plan: ChipPlan) -> Reading:
    """What one piece says."""
    pilot, payload = Search(swings(piece))(plan)
    return Reading(
        piece.track_id, float(piece.times_s[0]), float(piece.times_s[-1]), pilot, payload
    )


def swings(piece: Piece) -> np.ndarray:
    """What swings at the mark's rates, whitened and band-passed: complex64 (4, 108, 108)."""
    views = np.stack([band_pass(crop.astype(np.float32)) for crop in piece.crops])
    views = views.reshape(len(views), -1)
    views -= np.median(views, 0)
    np.clip(views, -_CLIP, _CLIP, out=views)
    weights = np.linalg.pinv(_basis(piece.times_s))[2:].astype(np.float32)
    parts = (weights @ views).reshape(-1, CROP_PX, CROP_PX)
    centres = (np.arange(CROP_PX, dtype=np.float32) + 0.5) / CROP_PX
    is_face = face_ellipse(centres[None, :], centres[:, None]) < 1.15
    found = []
    for cosine, sine in zip(parts[0::2], parts[1::2], strict=True):
        power = cv2.GaussianBlur(cosine**2 + sine**2, (0, 0), 2 * CELL_PX)
        weight = is_face / (power + 1e-3)
        found.append(band_pass(cosine * weight) + 1j * band_pass(sine * weight))
    return np.stack(found).astype(np.complex64)


def _basis(times_s: np.ndarray) -> np.ndarray:
    """What a chip's brightness is made of: float64 (t, 10); rest, drift, and each rate's two."""
    angles = 2 * np.pi * times_s[:, None] * np.array(RATES_HZ)
    turning = np.stack([np.cos(angles), np.sin(angles)], 2).reshape(len(times_s), -1)
    return np.column_stack([np.ones(len(times_s)), times_s - times_s.mean(), turning])


@dataclass(frozen=True, slots=True, order=True)
class _Fit:
    """Where the grid lies and since when it swings; the better, the larger.

    pilot: its correlation in standard deviations, less what speaks against such a place.
    place: float64 (6,): shift x and y, then what is added to the unit matrix, row by row.
    """

    pilot: float
    place: np.ndarray = field(compare=False)
    is_mirrored: bool = field(compare=False)
    shift_s: float = field(compare=False)


class Search:
    """Looks for the pilot of any plan in what swings, at places near where the landmarks put it.

    found: complex64 (4, 108, 108), of `swings`.
    """

    def __init__(self, found: np.ndarray) -> None:
        parts = np.stack([found.real, found.imag], 1).reshape(-1, CROP_PX, CROP_PX)
        rates = len(RATES_HZ)
        stacked = (np.moveaxis(half, 0, 2) for half in (parts[:rates], parts[rates:]))
        self._images = [np.ascontiguousarray(image, np.float32) for image in stacked]
        shifts = np.arange(_SHIFTS) / _SHIFTS
        self._turns = np.exp(-2j * np.pi * np.outer(np.array(RATES_HZ), shifts))
        self._turns = self._turns.astype(np.complex64)
        self._places = _coarse_places()
        self._seen_coarsely: dict[bool, np.ndarray] = {}

    def __call__(self, plan: ChipPlan) -> tuple[float, Payload | None]:
        """The pilot's correlation, in standard deviations, and the payload."""
        fits = [self._refined(plan, start) for start in self._starts(plan)]
        best = max(fits)
        unmoved = np.zeros((1, 6))
        seen = self._seen(plan, unmoved, is_mirrored=best.is_mirrored)
        fits += self._fits(plan, unmoved, seen, is_mirrored=best.is_mirrored)
        for fit in sorted(fits, reverse=True):
            if fit.pilot < LEAST_PILOT:
                break
            payload, _ = payload_in(self._soft_bits(plan, fit), LEAST_DATA, MESSAGES)
            if payload is not None:
                return fit.pilot, payload
        return best.pilot, None

    def _starts(self, plan: ChipPlan) -> list[_Fit]:
        """The likeliest of a grid of places, straight and mirrored."""
        fits = []
        for is_mirrored in (False, True):
            if is_mirrored not in self._seen_coarsely:
                looked = self._seen(plan, self._places, is_mirrored=is_mirrored)
                self._seen_coarsely[is_mirrored] = looked
            seen = self._seen_coarsely[is_mirrored]
            fits += self._fits(plan, self._places, seen, is_mirrored=is_mirrored)
        return sorted(fits)[-_STARTS:]

    def _refined(self, plan: ChipPlan, fit: _Fit) -> _Fit:
        """The best place near one, where it is likely enough; the steps become smaller."""
        if fit.pilot < LEAST_COARSE:
            return fit
        for step in _FINE_STEPS:
            moves = np.vstack([np.eye(6), -np.eye(6)]) * step * np.array([1, 1, 2, 2, 2, 2])
            for _ in range(_MOST_MOVES):
                places = fit.place + moves
                seen = self._seen(plan, places, is_mirrored=fit.is_mirrored)
                best = max(self._fits(plan, places, seen, is_mirrored=fit.is_mirrored))
                if best.pilot <= fit.pilot:
                    break
                fit = best
        return fit

    def _soft_bits(self, plan: ChipPlan, fit: _Fit) -> np.ndarray:
        """How likely each coded bit is 1: float64 (168,).

        Their correlation with a message of -1 and 1 is in standard deviations.
        """
        turns = np.exp(-2j * np.pi * np.array(RATES_HZ) * fit.shift_s)
        seen = self._seen(plan, fit.place[None], is_mirrored=fit.is_mirrored)[0] * turns[:, None]
        values = np.stack([seen.real, seen.imag], 1).reshape(plan.signs.shape)
        is_data = plan.bits >= 0
        soft: np.ndarray = np.bincount(
            plan.bits[is_data], (values * plan.signs)[is_data], CODED_BITS
        )
        return soft / max(1e-12, float(np.sqrt(np.square(values[is_data]).sum())))

    def _fits(
        self, plan: ChipPlan, places: np.ndarray, seen: np.ndarray, *, is_mirrored: bool
    ) -> list[_Fit]:
        """How well the pilot fits at each place, at its best time shift."""
        signs = np.where(plan.bits < 0, plan.signs, np.float32(0))
        pilot = signs[0::2] + 1j * signs[1::2]
        sums = np.stack([seen[:, k] @ pilot[k].conj() for k in range(len(RATES_HZ))], 1)
        power = np.square(seen.real) + np.square(seen.imag)
        spread = np.sqrt(power.reshape(len(places), -1) @ np.square(np.abs(pilot)).ravel() / 2)
        pilots = (sums @ self._turns).real / np.maximum(spread, 1e-12)[:, None]
        unlikely = np.log1p(np.square(places / _SPREAD) / _FREEDOM).sum(1)[:, None]
        unlikely *= _FREEDOM + 1
        pilots = np.sqrt(np.maximum(np.square(np.maximum(pilots, 0)) - unlikely, 0))
        best = pilots.argmax(1)
        return [
            _Fit(float(row[index]), place, is_mirrored, int(index) / _SHIFTS)
            for place, row, index in zip(places, pilots, best, strict=True)
        ]

    def _seen(self, plan: ChipPlan, places: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
        """What swings at each chip, for some places of the grid: complex64 (p, 4, n)."""
        points = (plan.cells[:, ::-1] + 0.5) / GRID - 0.5
        points = points * np.array([-1.0 if is_mirrored else 1.0, 1.0])
        linear = places[:, 2:].reshape(-1, 2, 2) + np.eye(2)
        moved = np.einsum("pij,nj->pni", linear, points) + places[:, None, :2] + 0.5
        maps = (moved * CROP_PX - 0.5).astype(np.float32)
        looks = [
            cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR) for image in self._images
        ]
        values = np.ascontiguousarray(np.moveaxis(np.concatenate(looks, 2), 2, 1))
        seen: np.ndarray = values[:, 0::2] + 1j * values[:, 1::2]
        return seen


def _coarse_places() -> np.ndarray:
    """Where the grid is looked for at first: float64 (225, 6), as `_Fit.place`."""
    reach = np.arange(-_REACH, _REACH + 1) * _COARSE_STEP
    sizes = (-_SIZE_STEP, 0.0, _SIZE_STEP)
    return np.array(
        [(x, y, s, 0.0, 0.0, t) for s in sizes for t in sizes for y in reach for x in reach]
    )
