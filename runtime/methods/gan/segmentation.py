"""What each pixel of a face is, and where its parts lie: the face parser and its reuse over time.

The parser is the costliest stage by far. Its class map belongs to the face and not to the frame: it
is made in the wide crop, moves with it, and is recomputed only when it is old or the face has
changed within the crop. The boxes of the parts follow from the map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.engines import Engine
from mien.engines.networks import parser_facts
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.smoothing import OneEuro
from mien.runtime.faces.topology import (
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
)
from mien.runtime.frame import Frame
from mien.runtime.methods.gan.parts import FACE_ROOM, PARTS, ROOM, Box, square_around
from mien.runtime.methods.gan.squares import WideFace, wide_face

# The classes of a face parser that make up a part; words as in CelebAMask-HQ. Of a pair, sources
# disagree on whose left is left, so each pair is taken together and parted by place.
EYE_CLASSES: Final = frozenset(("l_eye", "r_eye"))
BROW_CLASSES: Final = frozenset(("l_brow", "r_brow"))
CLASSES_OF_PART: Final = {
    "nose": frozenset(("nose",)),
    "mouth": frozenset(("mouth", "u_lip", "l_lip")),
}
SEEN: Final = 0.0006  # share of the wide crop's pixels that a nose, lips, an eye and brow must have
EYES_APART: Final = 0.1  # of the wide crop; closer centres are one eye that is called both
SPECK: Final = 0.08  # a piece with less than this share of a part's largest is a parser's mistake


def class_mask(indices: np.ndarray, classes: tuple[str, ...], names: frozenset[str]) -> np.ndarray:
    """Where a class map shows one of `names`: bool (side, side)."""
    found: np.ndarray = np.array([name in names for name in classes])[indices]
    return found


def part_extents(indices: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The bounding box of each of PARTS that a class map shows: float32 (2, 2), low and high x, y.

    indices: uint8 (side, side) over the wide crop, index into `classes`; boxes are in its units.
    A part with too few pixels has none.
    """
    least = max(1.0, SEEN * indices.size)
    masks = _part_masks(indices, classes, least)
    extents = {}
    for part in PARTS:
        points = _whole_pieces(masks[part])
        if len(points) >= least:
            low_high = np.stack([points.min(0), points.max(0) + 1]) / indices.shape[0]
            extents[part] = low_high.astype(np.float32)
    return extents


def boxes_of(extents: Mapping[str, np.ndarray]) -> dict[str, Box]:
    """The square of each part that has an extent."""
    return {part: square_around(extent, ROOM[part]) for part, extent in extents.items()}


def face_box_of(extents: Mapping[str, np.ndarray]) -> Box | None:
    """The square over all parts together; None where one is missing."""
    if any(part not in extents for part in PARTS):
        return None
    return square_around(np.concatenate([extents[part] for part in PARTS]), FACE_ROOM)


def _part_masks(
    indices: np.ndarray, classes: tuple[str, ...], least: float
) -> dict[str, np.ndarray]:
    """Where each part is: bool (side, side). An eye that is not seen has no brow either."""
    masks = {part: class_mask(indices, classes, names) for part, names in CLASSES_OF_PART.items()}
    middle = _middle(indices, classes)
    is_left = (np.arange(indices.shape[1]) + 0.5) / indices.shape[1] < middle
    eyes, brows = (class_mask(indices, classes, names) for names in (EYE_CLASSES, BROW_CLASSES))
    for part, side in (("left_eye", is_left), ("right_eye", ~is_left)):
        eye = eyes & side
        masks[part] = eye | (brows & side) if eye.sum() >= least / 2 else np.zeros_like(eye)
    return masks


def _middle(indices: np.ndarray, classes: tuple[str, ...]) -> float:
    """The x between the two eyes: midway between their classes, where both are seen."""
    width = indices.shape[1]
    centres: list[float] = []
    for name in EYE_CLASSES:
        places = np.flatnonzero(class_mask(indices, classes, frozenset((name,))))
        if len(places):
            centres.append((float(np.median(places % width)) + 0.5) / width)
    if len(centres) == 2 and abs(centres[0] - centres[1]) > EYES_APART:
        return 0.5 * sum(centres)
    return 0.5


def _whole_pieces(mask: np.ndarray) -> np.ndarray:
    """The pixels (n, 2) of a mask, x first, without specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros((0, 2))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas >= SPECK * areas.max()
    rows, columns = np.nonzero(keep[labels])
    return np.stack([columns, rows], 1).astype(np.float64)


WHOLE: Final = Box(0.5, 0.5, 1.0)
OLD_S: Final = 0.25  # a class map of this age is recomputed
MOVED_S: Final = 0.1  # one of this age, where the face has moved
MOVED: Final = 0.012  # mean shift of the landmarks in the wide crop that counts as moved
# Classes that are no part of the face, where a parser knows them; all others are.
BEYOND_FACE: Final = frozenset(
    ("background", "neck", "neck_l", "cloth", "hair", "hat", "l_ear", "r_ear", "ear_r", "eye_g")
)
SOFT: Final = 0.02  # of the wide crop: standard deviation of the edge of the face's region
# Points that say how a part moves between two class maps.
FOLLOWED: Final = {
    "left_eye": LEFT_EYE + LEFT_BROW,
    "right_eye": RIGHT_EYE + RIGHT_BROW,
    "nose": NOSE_BASE,
    "mouth": OUTER_LIPS,
}


@dataclass(frozen=True, slots=True)
class ClassMap:
    """What each pixel of the wide crop is.

    indices: uint8 (side, side), index into `classes`. classes: words of CelebAMask-HQ.
    """

    indices: np.ndarray
    classes: tuple[str, ...]

    def mask(self, names: frozenset[str]) -> np.ndarray:
        """Where one of `names` is: bool (side, side)."""
        return class_mask(self.indices, self.classes, names)


class FaceParser:
    """The stage: a face in, its class map out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._facts = parser_facts(engine)
        shape = (1, 3, 1, 1)
        self._mean = np.array(self._facts.mean, np.float32).reshape(shape)
        self._std = np.array(self._facts.std, np.float32).reshape(shape)

    def __call__(self, face: WideFace) -> ClassMap:
        """The class map of a face."""
        seen = face.look(WHOLE, self._facts.size, self._facts.colour)
        image = (np.broadcast_to(seen, (1, 3, *seen.shape[1:])) - self._mean) / self._std
        logits = self._engine.infer({"image": np.ascontiguousarray(image, np.float32)})["logits"]
        return ClassMap(_largest(logits[0]), self._facts.classes)


def _largest(logits: np.ndarray) -> np.ndarray:
    """The channel with the largest value: uint8 (h, w). Source: logits (n, h, w).

    A running maximum, eight times as fast as NumPy's argmax over the first axis.
    """
    best = logits[0].copy()
    index = np.zeros(best.shape, np.uint8)
    for channel in range(1, len(logits)):
        larger = logits[channel] > best
        np.copyto(best, logits[channel], where=larger)
        index[larger] = channel
    return index


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Where the parts of a face lie now.

    boxes: the square of each of PARTS that can be seen, units of the wide crop.
    face: the square over all parts, None where one of them is missing.
    region: float32 (side, side) over the wide crop, 1 on the face, falling softly to 0 at its edge.
    is_fresh: whether the parser has just run.
    """

    boxes: Mapping[str, Box]
    face: Box | None
    region: np.ndarray
    is_fresh: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of PARTS that cannot be seen."""
        return tuple(part for part in PARTS if part not in self.boxes)


class Segmenter:
    """One face's segmentation through a video."""

    def __init__(self, parser: FaceParser) -> None:
        self._parser = parser
        self._steady: dict[str, OneEuro] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the class map, so that the next frame is parsed."""
        self._parsed: Mapping[str, np.ndarray] = {}
        self._region = np.zeros((1, 1), np.float32)
        self._landmarks: np.ndarray | None = None
        self._time_s = -math.inf
        self._steady.clear()

    def __call__(self, face: WideFace, time_s: float) -> Segmentation:
        """The segmentation of the face now; `time_s` grows from call to call."""
        parses = self._is_old(face, time_s)
        if parses:
            found = self._parser(face)
            self._parsed = part_extents(found.indices, found.classes)
            self._region = face_region_of(found)
            self._landmarks = face.landmarks
            self._time_s = time_s
        for part in PARTS:
            if part not in self._parsed:
                self._steady.pop(part, None)
        extents = {part: self._now(part, face, time_s) for part in self._parsed}
        return Segmentation(boxes_of(extents), face_box_of(extents), self._region, parses)

    def _is_old(self, face: WideFace, time_s: float) -> bool:
        age_s = time_s - self._time_s
        if self._landmarks is None or not 0 <= age_s < OLD_S:
            return True
        shift = np.hypot(*(face.landmarks - self._landmarks).T)
        return age_s >= MOVED_S and float(shift.mean()) > MOVED

    def _now(self, part: str, face: WideFace, time_s: float) -> np.ndarray:
        """A parsed extent where its part has moved to since, without the jitter of either."""
        if self._landmarks is None:
            return self._parsed[part]
        points = list(FOLLOWED[part])
        shift = (face.landmarks[points] - self._landmarks[points]).mean(0)
        # Beta: a corner of the mouth moves by half of a crop a second at most when people speak.
        steady = self._steady.setdefault(part, OneEuro(min_cutoff_hz=1.5, beta=8.0))
        return steady(self._parsed[part] + shift, time_s)


def face_region_of(found: ClassMap) -> np.ndarray:
    """1 on the face, falling softly to 0 at its edge: float32 (side, side), 0 in the border cells.

    Single pixels that a parser calls otherwise amid the face are closed. The edge is taken in by as
    much as it is softened, so that little falls beyond the face.
    """
    side = found.indices.shape[0]
    inside = found.mask(frozenset(found.classes) - BEYOND_FACE).astype(np.uint8)
    reach = max(1, round(SOFT * side))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    closed = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, disc)
    inner = cv2.erode(closed, disc)
    soft = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), SOFT * side)
    soft[[0, -1]] = 0
    soft[:, [0, -1]] = 0
    return soft


def show_parser(engine: Engine, frame: Frame, face: AlignedFace) -> None:
    """Let the face parser see one face, as these methods show it."""
    FaceParser(engine)(wide_face(frame, face))
