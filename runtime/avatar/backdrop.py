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
from mien.runtime.frame import Frame

CUT_SIDE: Final = 192  # pixels of the longer side at which the person is cut out
ROUNDS: Final = 3
GRID: Final = 32  # cells of the field of movement, each way
REACH: Final = 0.035  # crop units beyond the person that go along, hair that was missed among them
BREATH: Final = 0.011  # crop units that shoulders rise by
RIM: Final = 0.05  # of the picture's sides, over which movement falls to nothing
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
        self._behind = [_filled(plane.samples, person) for plane in frame.planes]
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
        alpha = None
        planes = []
        maps_of: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        for plane, behind in zip(frame.planes, self._behind, strict=True):
            height, width = plane.samples.shape[:2]
            if (width, height) not in maps_of:
                maps_of[width, height] = self._maps(field, (width, height))
            maps = maps_of[width, height]
            sharp = (width, height) == self._size_wh
            method = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
            front = cv2.remap(plane.samples, *maps, method, borderMode=cv2.BORDER_REPLICATE)
            if sharp:
                alpha = cv2.remap(
                    self._alpha, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
            assert alpha is not None  # luma comes first
            share = alpha if sharp else cv2.resize(alpha, (width, height))
            planes.append(replace(plane, samples=_over(front, behind, share)))
        return replace(frame, planes=tuple(planes))

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

    def _maps(self, field: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The field as coordinates in a plane: two of float32 (h, w)."""
        share = size_wh[0] / self._size_wh[0]
        fine = cv2.resize(field, size_wh, interpolation=cv2.INTER_LINEAR) * np.float32(share)
        map_x = fine[..., 0] + np.arange(size_wh[0], dtype=np.float32)
        map_y = fine[..., 1] + np.arange(size_wh[1], dtype=np.float32)[:, None]
        return map_x, map_y


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


def _over(front: np.ndarray, behind: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """One plane over another, by a mask of bytes: uint8 (h, w)."""
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    mixed = cv2.blendLinear(front, behind, share, 1 - share)
    return np.asarray(mixed, np.uint8)
