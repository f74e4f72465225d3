"""Faces in a picture: one look of the detector, and a search that looks closer in many places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mien.engines import Engine
from mien.runtime.faces.alignment import invert_similarity, transform_points
from mien.runtime.luma import (
    LumaSource,
    display_from_stored,
    reduced_luma,
    rotation_of,
    sample_luma,
    size_of,
)

INPUT_SIDE: Final = 320
CANDIDATES: Final = 200  # the best cells that are compared with each other
# The detector finds nearly every face with 12 of its own pixels between the eyes; from 8 to 12 it
# depends on the face (clips of eight people: 17 of 69 with 5, 51 of 63 with 8.3, all with 12.5).
SURE_EYES_PX: Final = 12.0
SMALLEST_EYES_PX: Final = 14.0  # between the eyes in the picture: smaller ones are not edited
LEVEL_STEP: Final = 2.5  # from one size of looks to the next, at most
BOX_PER_EYES: Final = 2.6  # the longer side of a face's box in eye distances
MAX_VIEWS: Final = 400  # a larger picture is not looked at as closely
SURE_TURNS: Final = 0.4  # quarter turns that a head may lean
# The others of eight ways up, the likely ones first.
OTHER_TURNS: Final = (1, 3, 0.5, 3.5, 2, 1.5, 2.5)
# In a smaller picture the turned looks at the whole find all but the smallest lying heads.
LYING_SIDE_PX: Final = 1280
EDGE_PX: Final = 3.0  # a box that ends this near to the edge of a view may be half a face


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found in a whole picture.

    box: x0, y0, x1, y1 in pixels of the stored picture, close around the 106 landmarks.
    points: float32 (3, 2), left eye, right eye (viewer's left in the displayed picture) and mouth,
        in pixels of the stored picture.
    score: 0..1.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float


@dataclass(frozen=True, slots=True)
class View:
    """A part of a stored picture, as the detector looks at it.

    x0, y0, width, height: in pixels of the stored picture.
    turns: clockwise quarter turns that bring upright faces of the stored picture upright; halves
        of one are those of a head that leans.
    """

    x0: int
    y0: int
    width: int
    height: int
    turns: float = 0

    @property
    def shrink(self) -> float:
        """Pixels of the detector's input for each pixel of the picture."""
        if self.turns % 1:
            return INPUT_SIDE / ((self.width + self.height) * math.sqrt(0.5))  # all that it spans
        return INPUT_SIDE / max(self.width, self.height)

    def shows(self, box: np.ndarray, turns: float) -> bool:
        """Whether a face in `box` (x0, y0, x1, y1), upright after `turns`, would be found in it."""
        low, high = (self.x0, self.y0), (self.x0 + self.width, self.y0 + self.height)
        inside = bool((box[:2] >= low).all() and (box[2:] <= high).all())
        longest = float((box[2:] - box[:2]).max()) * self.shrink
        leans = abs((turns - self.turns + 2) % 4 - 2)
        return inside and longest >= SURE_EYES_PX * BOX_PER_EYES and leans <= SURE_TURNS

    def input_from_frame(self) -> np.ndarray:
        """Pixels of the detector's input from those of the stored picture: float32 (2, 3)."""
        angle = math.radians(90 * self.turns)
        cos, sin = math.cos(angle) * self.shrink, math.sin(angle) * self.shrink
        linear = np.array([[cos, -sin], [sin, cos]])
        middle = np.array([self.x0 + self.width / 2 - 0.5, self.y0 + self.height / 2 - 0.5])
        offset = (INPUT_SIDE - 1) / 2 - linear @ middle
        return np.hstack([linear, offset[:, None]]).astype(np.float32)


class FaceDetector:
    """Finds faces anywhere in a picture, in the orientation it is displayed in."""

    def __init__(self, engine: Engine, *, threshold: float = 0.6, overlap: float = 0.4) -> None:
        self._engine = engine
        self._threshold = threshold
        self._overlap = overlap

    def __call__(self, luma: LumaSource, view: View | None = None) -> list[Detection]:
        """The faces in one look at a picture, best first.

        luma: uint8 (H, W), or a Frame. view: what is looked at, None for the whole picture in the
        rotation that a Frame has.
        """
        if view is None:
            view = View(0, 0, *size_of(luma), rotation_of(luma))
        image, frame_from_input = self._seen(luma, view)
        results = self._engine.infer({"image": image})
        scores = results["scores"][0]
        boxes = results["boxes"][0]
        kept = suppress_overlaps(boxes, scores, threshold=self._threshold, overlap=self._overlap)
        return [
            _detection(frame_from_input, boxes[i], results["points"][0, i], float(scores[i]))
            for i in kept
        ]

    @staticmethod
    def _seen(luma: LumaSource, view: View) -> tuple[np.ndarray, np.ndarray]:
        """What the network is shown, and the pixels of the picture from those of it: (2, 3)."""
        if view.turns % 1:
            matrix = view.input_from_frame()
            return letterbox(sample_luma(luma, matrix, INPUT_SIDE)), invert_similarity(matrix)
        size_wh, turns = (view.width, view.height), int(view.turns) % 4
        small_wh = (
            max(1, round(size_wh[0] * view.shrink)),
            max(1, round(size_wh[1] * view.shrink)),
        )
        small = np.rot90(reduced_luma(luma, small_wh, (view.x0, view.y0, *size_wh)), -turns)
        upright = _homogeneous(invert_similarity(display_from_stored(small_wh, turns)))
        return letterbox(small), _frame_from_small(view, small_wh) @ upright


class FaceSearch:
    """Looks for faces of any size and roll, a bounded number of looks at a time.

    Every call looks at the whole picture; further looks go, in turn, to what one look at the whole
    says little about: the picture on its side, and tiles of it, down to the size in which a face
    with SMALLEST_EYES_PX between the eyes is found. `reset` begins again with the first of them.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._views: list[View] = []
        self._plan: tuple[tuple[int, int], int, bool] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin with the first view again."""
        self._next = 0
        self._looks = 0

    @property
    def has_seen_all(self) -> bool:
        """Whether every view has had its turn since the last reset."""
        return self._looks >= len(self._views)

    def __call__(
        self,
        luma: LumaSource,
        further: int = 0,
        *,
        asked: Sequence[View] = (),
        lying: bool = False,
    ) -> tuple[list[Detection], list[View]]:
        """The faces found, best first, and what was looked at.

        further: how many looks in turn, beside the whole. asked: views to look at in any case.
        lying: whether the views in turn also search parts of the picture for heads that lie.
        """
        size_wh, turns = size_of(luma), rotation_of(luma)
        if self._plan != (size_wh, turns, lying):
            self._plan = size_wh, turns, lying
            self._views = views_of(size_wh, turns, lying=lying)
            self._next = 0
        whole = View(0, 0, *size_wh, turns)
        views = [whole, *asked, *self._following(further)]
        found: list[Detection] = []
        for view in views:
            found += [d for d in self._detector(luma, view) if not _is_cut(d, view, size_wh)]
        return distinct(found), views

    def _following(self, count: int) -> list[View]:
        count = min(count, len(self._views))
        views = [self._views[(self._next + i) % len(self._views)] for i in range(count)]
        if self._views:
            self._next = (self._next + count) % len(self._views)
        self._looks += count
        return views


def views_of(size_wh: tuple[int, int], turns: int, *, lying: bool) -> list[View]:
    """All that is looked at beside the whole picture upright, in turn."""
    whole = View(0, 0, *size_wh, turns)
    upright = tiles(size_wh, turns)
    parts = [whole]
    if lying and max(size_wh) >= LYING_SIDE_PX:
        parts += [view for view in upright if view.width == upright[0].width]
    return [
        *turned(parts[:1]),
        *upright,
        *turned(parts[1:]),
    ]


def turned(views: Sequence[View]) -> list[View]:
    """The views in each of the other ways up."""
    return [
        replace(view, turns=(view.turns + quarters) % 4)
        for quarters in OTHER_TURNS
        for view in views
    ]


def tiles(size_wh: tuple[int, int], turns: int = 0) -> list[View]:
    """Views that together show every face too small for a look at the whole, coarse ones first.

    At most MAX_VIEWS: where that is too few, the smallest faces found are larger. Those of one
    size come in an order that reaches all parts of the picture early.
    """
    finest = SURE_EYES_PX / SMALLEST_EYES_PX
    while len(views := list(_pyramid(size_wh, turns, finest))) > MAX_VIEWS:
        finest *= 0.9
    return views


def _pyramid(size_wh: tuple[int, int], turns: int, finest: float) -> Iterator[View]:
    coarsest = INPUT_SIDE / max(size_wh)
    if finest <= coarsest:
        return
    count = math.ceil(math.log(finest / coarsest) / math.log(LEVEL_STEP))
    step = (finest / coarsest) ** (1 / count)
    # What is larger than this in a tile is found in the coarser ones, so it may be cut here.
    shared = SURE_EYES_PX * BOX_PER_EYES * step / INPUT_SIDE
    for level in range(1, count + 1):
        side = round(INPUT_SIDE / (coarsest * step**level))
        columns, rows = (_starts(length, side, shared) for length in size_wh)
        places = [(x, y) for y in rows for x in columns]
        # The fractional parts of multiples of the golden ratio fill the unit evenly.
        order = sorted(range(len(places)), key=lambda i: i * 0.6180339887 % 1)
        for x, y in (places[i] for i in order):
            yield View(x, y, min(side, size_wh[0]), min(side, size_wh[1]), turns)


def _starts(length: int, side: int, shared: float) -> list[int]:
    """Where tiles of `side` begin along a picture's side; neighbours share at least `shared`."""
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side * (1 - shared)))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _is_cut(found: Detection, view: View, size_wh: tuple[int, int]) -> bool:
    """Whether a box ends at an edge of the view that is no edge of the picture."""
    room = EDGE_PX / view.shrink
    x0, y0, x1, y1 = found.box
    return (
        (view.x0 > 0 and x0 < view.x0 + room)
        or (view.y0 > 0 and y0 < view.y0 + room)
        or (view.x0 + view.width < size_wh[0] and x1 > view.x0 + view.width - room)
        or (view.y0 + view.height < size_wh[1] and y1 > view.y0 + view.height - room)
    )


def distinct(found: Sequence[Detection], *, overlap: float = 0.4) -> list[Detection]:
    """`found` without what shows a face that a better one shows already, best first.

    Across views that is also what lies within another box: a nose is not a face in a face.
    """
    kept: list[Detection] = []
    for candidate in sorted(found, key=lambda d: -d.score):
        box = np.array(candidate.box)
        others = np.array([d.box for d in kept]).reshape(-1, 4)
        if not (overlaps(box, others) > overlap).any() and not (_covered(box, others) > 0.7).any():
            kept.append(candidate)
    return kept


def _covered(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The intersection of `box` with each of `boxes`, by the smaller of the two: (n,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1))
    shares: np.ndarray = shared / np.maximum(areas, 1e-9)
    return shares


def letterbox(small: np.ndarray) -> np.ndarray:
    """The detector's input: float32 (1, 1, 320, 320) in [0, 1], content at the left top, rest 0.

    small: uint8 (h, w), both sides at most 320.
    """
    image = np.zeros((1, 1, INPUT_SIDE, INPUT_SIDE), np.float32)
    height, width = small.shape
    np.multiply(small, np.float32(1 / 255), out=image[0, 0, :height, :width])
    return image


def suppress_overlaps(
    boxes: np.ndarray, scores: np.ndarray, *, threshold: float, overlap: float
) -> list[int]:
    """Which of `boxes` (n, 4) stay when of two that overlap only the better one does: best first.

    Boxes that score below `threshold` or have no area are left out. overlap: the intersection over
    union above which two boxes show the same face.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    candidates = np.flatnonzero((scores >= threshold) & (sides > 0).all(1))
    rest = candidates[np.argsort(-scores[candidates], kind="stable")][:CANDIDATES]
    kept: list[int] = []
    while len(rest):
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[overlaps(boxes[best], boxes[rest]) <= overlap]
    return kept


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of `box` (4,) with each of `boxes` (n, 4): (n,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    area = (box[2:] - box[:2]).prod()
    union = area + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared
    shares: np.ndarray = shared / np.maximum(union, 1e-9)
    return shares


def _frame_from_small(view: View, small_wh: tuple[int, int]) -> np.ndarray:
    step_x, step_y = view.width / small_wh[0], view.height / small_wh[1]
    return np.array(
        [[step_x, 0, view.x0 + step_x / 2 - 0.5], [0, step_y, view.y0 + step_y / 2 - 0.5]],
        np.float32,
    )


def _homogeneous(matrix: np.ndarray) -> np.ndarray:
    return np.vstack([matrix, np.array([[0, 0, 1]], np.float32)])


def _detection(
    frame_from_input: np.ndarray, box: np.ndarray, points: np.ndarray, score: float
) -> Detection:
    # Upright in the picture and as large, whatever way up it was seen.
    sides = (box[2:] - box[:2]) * math.hypot(*frame_from_input[:, 0])
    is_on_side = abs(float(frame_from_input[0, 1])) > abs(float(frame_from_input[0, 0])) + 1e-6
    half = (sides[::-1] if is_on_side else sides) / 2
    centre = transform_points(frame_from_input, (box[:2] + box[2:]) / 2)
    (x0, y0), (x1, y1) = centre - half, centre + half
    moved = transform_points(frame_from_input, points)
    return Detection((float(x0), float(y0), float(x1), float(y1)), moved, score)
