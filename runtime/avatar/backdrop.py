"""The head of a still picture, moved over what lies behind it.

The person is cut out once (GrabCut: Rother, Kolmogorov, Blake 2004, begun from the face), and what
they cover is filled from around (Telea 2004). Then a head that moves uncovers that filling, a few
pixels of it, and the room stays at rest. The edges of the picture never move.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from mien.runtime.avatar.motion import Pose
from mien.runtime.faces.alignment import crop_matrix, invert_similarity, transform_points
from mien.runtime.faces.topology import CHIN, CONTOUR
from mien.runtime.frame import Frame, Plane

CUT_SIDE: Final = 192  # pixels of the longer side at which the person is cut out
ROUNDS: Final = 3
GRID: Final = 32  # cells of the field of movement, each way
REACH: Final = 0.035  # crop units beyond the person that go along, hair that was missed among them
BREATH: Final = 0.011  # crop units that shoulders rise by
RIM: Final = 0.05  # of the picture's sides, over which movement falls to nothing
Box = tuple[int, int, int, int]  # left, top, right, bottom of the picture, pixels
LEAST_SHARE, MOST_SHARE = 0.08, 0.92  # of the picture; else the cut has failed


class Backdrop:
    """One picture, its person and its filled background.

    frame: planes of 8 bits, 4:2:0. bgr: uint8 (H, W, 3), the same picture. landmarks: (106, 2),
    pixels.
    """

    def __init__(self, frame: Frame, bgr: np.ndarray, landmarks: np.ndarray) -> None:
        frame_from_crop = invert_similarity(crop_matrix(landmarks, 1))
        self._unit_px = float(np.hypot(frame_from_crop[0, 0], frame_from_crop[1, 0]))
        self._size_wh = (frame.width, frame.height)
        reach_px = max(2, round(REACH * self._unit_px))
        person = person_mask(bgr, landmarks)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1,) * 2)
        cover = cv2.dilate(person, kernel)
        soft = cv2.GaussianBlur(cover, (0, 0), 0.5 * reach_px)
        # Whole where the person is: only beyond is anything seen through, and there the background
        # is the picture's own, so that a head at rest leaves the picture as it was.
        self._alpha = np.maximum(soft, person)
        rows, columns = (np.flatnonzero(self._alpha.any(axis)) for axis in (1, 0))
        self._person = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        self._behind = [_filled(plane.samples, person) for plane in frame.planes]
        sizes = {plane.samples.shape[::-1] for plane in frame.planes}
        self._places = {size_wh: _places(size_wh) for size_wh in sizes}
        self._chin = landmarks[CHIN].astype(np.float64)
        self._prepare()

    def _prepare(self) -> None:
        """Lay the grid of the field of movement, and how much of it each cell shows."""
        width, height = self._size_wh
        x = (np.arange(GRID) + 0.5) / GRID * width - 0.5
        y = ((np.arange(GRID) + 0.5) / GRID * height - 0.5)[:, None]
        self._x, self._y = x - self._chin[0], y - self._chin[1]
        below = np.clip((y - self._chin[1]) / max(8.0, height - self._chin[1]), 0, 1)
        self._head = (1 - below * below * (3 - 2 * below)) + 0 * x
        self._chest = np.sin(np.pi * below) * 0.8 + 0.35 * (1 - below)
        edge_x = np.minimum(x + 0.5, width - 0.5 - x) / (RIM * width)
        edge_y = np.minimum(y + 0.5, height - 0.5 - y) / (RIM * height)
        self._inner = np.clip(np.minimum(edge_x, edge_y) - 0.35, 0, 1)
        self._inner[[0, -1]] = 0
        self._inner[:, [0, -1]] = 0

    def __call__(self, frame: Frame, pose: Pose) -> Frame:
        """`frame`, an edited one of the same picture, with head and shoulders posed."""
        field = self._field(pose)
        if np.abs(field).max() < 0.02:
            return frame
        box = self._moving(float(np.abs(field).max()))
        luma, *chroma = frame.planes
        maps = self._maps(field, box, luma)
        share = _remapped(self._alpha, maps, cv2.INTER_LINEAR) * np.float32(1 / 255)
        parts = [(luma, maps, share, cv2.INTER_CUBIC)]
        if chroma:  # both planes alike
            maps = self._maps(field, box, chroma[0])
            share = np.asarray(cv2.resize(share, maps.shape[1::-1]))
            parts += [(plane, maps, share, cv2.INTER_LINEAR) for plane in chroma]
        planes = []
        for (plane, maps, share, method), behind in zip(parts, self._behind, strict=True):
            shown = behind.copy()
            part = _part(box, plane)
            shown[part] = _over(_remapped(plane.samples, maps, method), behind[part], share)
            planes.append(replace(plane, samples=shown))
        return replace(frame, planes=tuple(planes))

    def _moving(self, most_px: float) -> Box:
        """The part of the picture that a person who moves so far may cover, by even numbers."""
        reach = math.ceil(most_px) + 2
        left, top, right, bottom = self._person
        width, height = self._size_wh
        return (
            max(0, left - reach) // 2 * 2,
            max(0, top - reach) // 2 * 2,
            min(width, (right + reach + 1) // 2 * 2),
            min(height, (bottom + reach + 1) // 2 * 2),
        )

    def _field(self, pose: Pose) -> np.ndarray:
        """Where each cell comes from, relative to itself: float32 (GRID, GRID, 2), pixels."""
        unit = self._unit_px
        cosine, sine = math.cos(pose.roll), math.sin(pose.roll)
        scale = 1 / (1 + pose.scale)
        # turned about the neck, which lies below the chin
        x, y = self._x, self._y - 0.25 * unit
        back_x = scale * (cosine * x + sine * y) - x - pose.shift[0] * unit
        back_y = scale * (cosine * y - sine * x) - y - pose.shift[1] * unit
        rise = BREATH * pose.breath * unit * self._chest
        weight = self._head * self._inner
        field = np.stack([back_x * weight, back_y * weight + rise * self._inner], -1)
        return np.ascontiguousarray(field, np.float32)

    def _maps(self, field: np.ndarray, box: Box, plane: Plane) -> np.ndarray:
        """The field as coordinates in a plane, for a part of it: float32 (h, w, 2)."""
        size_wh = plane.samples.shape[::-1]
        share = np.float32(size_wh[0] / self._size_wh[0])
        fine = cv2.resize(field * share, size_wh, interpolation=cv2.INTER_LINEAR)
        part = _part(box, plane)
        return cv2.add(fine[part], self._places[size_wh][part])


def _part(box: Box, plane: Plane) -> tuple[slice, slice]:
    """Rows and columns of a plane in a part of the picture."""
    step_x, step_y = plane.subsampling_xy
    left, top, right, bottom = box
    return slice(top // step_y, bottom // step_y), slice(left // step_x, right // step_x)


def _places(size_wh: tuple[int, int]) -> np.ndarray:
    """The coordinates of a plane's samples: float32 (h, w, 2)."""
    axes = (np.arange(side, dtype=np.float32) for side in size_wh)
    return np.dstack(np.meshgrid(*axes))


def _remapped(samples: np.ndarray, maps: np.ndarray, method: int) -> np.ndarray:
    """Samples (h, w) looked up at places (h', w', 2): the same type (h', w')."""
    found = cv2.remap(  # type: ignore[call-overload] # one map of pairs: quicker to make and to read than two
        samples,
        maps,
        None,
        method,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found)


def person_mask(bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Where the person is: uint8 (H, W), 0 or 255.

    bgr: uint8 (H, W, 3). landmarks: (106, 2), pixels.
    """
    height, width = bgr.shape[:2]
    scale = min(1.0, CUT_SIDE / max(height, width))
    small_wh = (max(16, round(scale * width)), max(16, round(scale * height)))
    small = cv2.resize(bgr, small_wh, interpolation=cv2.INTER_AREA)
    seeds = _seeds(small_wh, landmarks * scale)
    cut: np.ndarray = seeds.copy()
    models = [np.zeros((1, 65)) for _ in range(2)]  # of background and person, filled by OpenCV
    cv2.setRNGSeed(0)
    cv2.grabCut(small, cut, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    person: np.ndarray = np.where((cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD), 255, 0).astype(
        np.uint8
    )
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not LEAST_SHARE < float(person.mean()) / 255 < MOST_SHARE:
        person = np.where(seeds == cv2.GC_BGD, 0, 255).astype(np.uint8)
    soft = cv2.resize(person, (width, height), interpolation=cv2.INTER_LINEAR)
    whole: np.ndarray = np.where(soft > 127, 255, 0).astype(np.uint8)
    return whole


def _seeds(size_wh: tuple[int, int], landmarks: np.ndarray) -> np.ndarray:
    """What GrabCut begins from: uint8 (h, w) of its classes."""
    frame_from_crop = invert_similarity(crop_matrix(landmarks, 1))
    unit = float(np.hypot(frame_from_crop[0, 0], frame_from_crop[1, 0]))
    tall = np.array([[0.5, 0.35], [0.5, 1.25]], np.float32) - 0.5  # crop pixels of a crop of one
    head, neck = transform_points(frame_from_crop, tall)
    width, height = size_wh
    seeds = np.full((height, width), cv2.GC_BGD, np.uint8)
    middle = tuple(round(float(v)) for v in head)
    cv2.ellipse(
        seeds, middle, (round(0.85 * unit), round(1.05 * unit)), 0, 0, 360, cv2.GC_PR_BGD, -1
    )
    half = unit * np.array([(0.35, -0.2), (1.9, 1.1)]) + [0.0, neck[1]]  # off the neck's middle
    half = np.vstack([half, [1.9 * unit, height + 9.0]])
    shoulders = np.vstack([half, (half * [-1, 1])[::-1]])
    shoulders[:, 0] += neck[0]
    cv2.fillPoly(seeds, [np.round(shoulders).astype(np.int32)], cv2.GC_PR_FGD)
    cv2.ellipse(
        seeds, middle, (round(0.58 * unit), round(0.75 * unit)), 0, 0, 360, cv2.GC_PR_FGD, -1
    )
    outline = cv2.convexHull(np.round(landmarks[list(CONTOUR)]).astype(np.int32))
    cv2.fillPoly(seeds, [outline], cv2.GC_FGD)
    return seeds


def _filled(samples: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """A plane with a hole filled from around it: uint8 (h, w)."""
    height, width = samples.shape[:2]
    mask = cv2.resize(hole, (width, height), interpolation=cv2.INTER_NEAREST)
    if mask.all():
        result: np.ndarray = samples.copy()
        return result
    scale = min(1.0, CUT_SIDE / max(height, width))
    small_wh = (max(8, round(scale * width)), max(8, round(scale * height)))
    small = cv2.resize(samples, small_wh, interpolation=cv2.INTER_AREA)
    small_mask = cv2.dilate(
        cv2.resize(mask, small_wh, interpolation=cv2.INTER_NEAREST), np.ones((3, 3), np.uint8)
    )
    filling = cv2.inpaint(small, small_mask, 3, cv2.INPAINT_TELEA)
    whole = cv2.resize(filling, (width, height), interpolation=cv2.INTER_LINEAR)
    filled: np.ndarray = np.where(mask > 0, whole, samples).astype(np.uint8)
    return filled


def _over(front: np.ndarray, behind: np.ndarray, share: np.ndarray) -> np.ndarray:
    """One plane over another by float32 shares: uint8 (h, w)."""
    change = cv2.subtract(front, behind, dtype=cv2.CV_32F)
    cv2.multiply(change, share, dst=change)
    return cv2.add(change, behind, dtype=cv2.CV_8U)
