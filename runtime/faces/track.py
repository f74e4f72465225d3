"""What is remembered of one face from frame to frame."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from mien.runtime.faces.alignment import (
    RIGID_TEMPLATE,
    fit_similarity,
    invert_similarity,
    transform_points,
)
from mien.runtime.faces.detection import Detection
from mien.runtime.faces.landmarks import Landmarks
from mien.runtime.faces.smoothing import OneEuro
from mien.runtime.faces.topology import RIGID
from mien.runtime.faces.visibility import Presence, visibility
from mien.runtime.luma import LumaSource, sample_luma

_RIGID_POINTS: Final = np.array(RIGID)
EYE_DISTANCE: Final = 0.34  # between the eye centres of RIGID_TEMPLATE, in crop units
LOOK_AHEAD_S: Final = 0.1  # a face is not extrapolated further than this
DOUBTS: Final = 3  # looks at the whole picture that may miss a weak face
APPEARANCE_SIDE: Final = 16  # pixels
LOOKS_KEPT: Final = 12
NEW_LOOK: Final = 0.93  # a look less like all known ones than this is worth keeping
SURE_SCORE: Final = 0.7  # a landmark score that needs no confirmation by the detector


class Appearance:
    """What a face looked like so far: a bank of small pictures that differ from each other.

    A picture is 16 x 16 luma of the aligned face, of mean 0 and length 1, so exposure and contrast
    do not matter. On nine clips of nine people the likelier of two banks was the right one in 99.6
    percent of 1,008 comparisons; likeness of the same face 0.96 in the median and 0.59 at the 5th
    percentile, of another 0.18, and 0.55 at the 95th.
    """

    def __init__(self) -> None:
        self._bank = np.zeros((0, APPEARANCE_SIDE**2), np.float32)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known yet."""
        return not len(self._bank)

    def add(self, picture: np.ndarray) -> None:
        """Keep a picture of `appearance_of` that is unlike those known; the oldest make room."""
        if self.likeness(picture) < NEW_LOOK:
            self._bank = np.vstack([self._bank, picture])[-LOOKS_KEPT:]

    def likeness(self, picture: np.ndarray) -> float:
        """The correlation with the most similar known picture, -1..1; -1 where none is known."""
        # By hand, for a matrix product may wake BLAS's threads.
        products = (self._bank * picture).sum(1)
        return float(products.max()) if len(products) else -1.0


def appearance_of(luma: LumaSource, points: np.ndarray) -> np.ndarray:
    """The small picture of a face by which it is recognised: float32 (256,).

    points: float32 (106, 2) landmarks in pixels of the stored picture.
    """
    around = np.array([0.5, 0.42], np.float32)  # with more of the hair than the edit's crop has
    template = ((RIGID_TEMPLATE - around) * np.float32(0.8) + around) * 48 - 0.5
    crop = sample_luma(luma, fit_similarity(points[_RIGID_POINTS], template), 48)
    small = cv2.resize(
        crop.astype(np.float32), (APPEARANCE_SIDE, APPEARANCE_SIDE), interpolation=cv2.INTER_AREA
    ).ravel()
    small -= small.mean()
    picture: np.ndarray = small / max(1e-6, float(np.sqrt((small * small).sum())))
    return picture


class LandmarkFilter:
    """Smooths landmarks over time: the place of the head, then the face upon it.

    Both run in eye distances, so that a near and a far face are treated alike. Noise of the head's
    place averages out over its 21 rigid points, so it may follow faster than single points.
    """

    def __init__(self) -> None:
        # Chosen on four real clips with noise of 0.8 percent of the eye distance added: on calm
        # ones the acceleration falls to a third, and the error below that of the noise on all but
        # one, where the head shakes.
        self._place = OneEuro(min_cutoff_hz=1.5, beta=16.0, speed_cutoff_hz=4.0)
        self._shape = OneEuro(min_cutoff_hz=1.0, beta=6.0, speed_cutoff_hz=5.0)
        self._unit_px = 0.0

    def reset(self) -> None:
        """Forget the past; the next landmarks begin a new track."""
        self._place.reset()
        self._shape.reset()
        self._unit_px = 0.0

    def __call__(self, points: np.ndarray, time_s: float) -> np.ndarray:
        """The smoothed landmarks: float32 (106, 2), in the pixels of `points`."""
        crop_from_frame = fit_similarity(points[_RIGID_POINTS], RIGID_TEMPLATE)
        frame_from_crop = invert_similarity(crop_from_frame)
        linear = frame_from_crop[:, 0].astype(np.float64)  # the crop's x axis in the frame
        size_px = float(np.hypot(*linear)) * EYE_DISTANCE
        if self._unit_px == 0.0 or not 0.8 < size_px / self._unit_px < 1.25:
            # the unit of the place stays fixed while the size wavers, for it scales far distances
            self._place.reset()
            self._unit_px = size_px
        centre = transform_points(frame_from_crop, np.array([0.5, 0.45], np.float32))
        state = np.concatenate([centre / self._unit_px, linear * EYE_DISTANCE / self._unit_px])
        calm = self._place(state.reshape(2, 2), time_s).astype(np.float64) * self._unit_px
        shape = self._shape(transform_points(crop_from_frame, points) / EYE_DISTANCE, time_s)
        (a, b), middle = calm[1] / EYE_DISTANCE, calm[0]
        upright = shape * EYE_DISTANCE - np.array([0.5, 0.45])
        moved: np.ndarray = upright @ np.array([[a, b], [-b, a]]) + middle
        return moved.astype(np.float32)


class Track:
    """One followed face. `Tracker` decides; a track remembers and answers."""

    def __init__(self, track_id: int, *, present: bool) -> None:
        self.track_id = track_id
        self.smoothed = np.zeros((0, 2), np.float32)
        self.score = 0.0
        self.misses = 0
        self.seen_s = 0.0
        self.surprise = 0.0  # how far measured faces lay from where they were expected, smoothed
        self.detection: Detection | None = None
        self.looked_s = 0.0  # when a look that could confirm it was last taken
        self.appearance = Appearance()
        self.learnt_s = -math.inf  # when it was last looked at to be recognised
        self.entangled_s = -math.inf  # when it last touched another face
        self._doubts = 0
        self._last: Landmarks | None = None
        self._velocity: np.ndarray = np.zeros(2, np.float32)  # of the whole face, px a second
        self._filter = LandmarkFilter()
        self._presence = Presence(full=present)

    @property
    def is_missed(self) -> bool:
        """Whether the last frame did not show it."""
        return self.misses > 0

    @property
    def is_doubtful(self) -> bool:
        """Whether the detector keeps missing what the landmark network barely takes for a face."""
        return self._doubts >= DOUBTS and self.score < SURE_SCORE

    @property
    def turns(self) -> float:
        """Clockwise quarter turns that bring it upright, 0..4."""
        matrix = fit_similarity(self.smoothed[_RIGID_POINTS], RIGID_TEMPLATE)
        return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) / 90 % 4

    @property
    def box(self) -> np.ndarray:
        """x0, y0, x1, y1 around the landmarks: (4,)."""
        return box_of(self.smoothed)

    def see(self, found: Landmarks, time_s: float) -> None:
        """Take in the landmarks of a frame."""
        if self._last is not None and time_s > self.seen_s:
            step_s = time_s - self.seen_s
            expected = self.predicted(time_s)
            centre = _centre(found.points)
            miss = math.hypot(*(centre - _centre(expected)).tolist()) / _scale(found.points)
            self.surprise += 0.4 * (miss - self.surprise)
            moved = (centre - _centre(self._last.points)) / np.float32(step_s)
            self._velocity = self._velocity + np.float32(0.5) * (moved - self._velocity)
        self.smoothed = self._filter(found.points, time_s)
        self.score, self.seen_s, self.misses = found.score, time_s, 0
        self._last = found

    def miss(self, time_s: float) -> None:
        """Take in a frame that does not show the face: it glides on, slower and slower."""
        if self._last is not None and not self.is_missed:
            self.smoothed = self.predicted(time_s)
        self.misses += 1

    def confirm(self, detection: Detection | None, time_s: float) -> None:
        """Take in that a look which could show the face found it there, or did not."""
        self.detection = detection
        self.looked_s = time_s
        self._doubts = 0 if detection is not None else self._doubts + 1

    def break_time(self) -> None:
        """Restart the smoothing: what comes next does not continue the movement."""
        self._filter.reset()
        self._velocity = np.zeros(2, np.float32)
        self.surprise = 0.0

    def return_from_loss(self) -> None:
        """Restart a face that was given up and is seen again: its edit fades in from nothing."""
        self.break_time()
        self._presence = Presence()

    def predicted(self, time_s: float) -> np.ndarray:
        """Where the landmarks should be at `time_s`: float32 (106, 2).

        From the calm landmarks, so that a face at rest is looked at through a crop at rest.
        """
        ahead_s = min(max(0.0, time_s - self.seen_s), LOOK_AHEAD_S)
        if self.is_missed:
            return self.smoothed
        ahead: np.ndarray = self.smoothed + self._velocity * np.float32(ahead_s)
        return ahead

    def distance_to(self, points: np.ndarray, time_s: float) -> float:
        """From where it should be to `points` (106, 2), in eye distances."""
        way = _centre(points) - _centre(self.predicted(time_s))
        return float(np.hypot(*way)) / _scale(points)

    def could_be(self, points: np.ndarray, time_s: float) -> bool:
        """Whether a face at `points` may be this one, come back."""
        ratio = _scale(points) / _scale(self.smoothed)
        return 0.6 < ratio < 1.7 and self.distance_to(points, time_s) < 2.5

    def update_presence(self, size_wh: tuple[int, int], time_s: float) -> float:
        """How much of an edit the face should get now, 0..1."""
        wanted = 0.0
        if self._last is not None and not self.is_missed:
            wanted = visibility(self._last, size_wh)
        return self._presence(wanted, time_s)


def box_of(points: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 around `points` (n, 2): (4,)."""
    return np.concatenate([points.min(0), points.max(0)])


def _centre(points: np.ndarray) -> np.ndarray:
    centre: np.ndarray = points[_RIGID_POINTS].sum(0) / np.float32(len(RIGID))
    return centre


def _scale(points: np.ndarray) -> float:
    """The eye distance in pixels, from all rigid points."""
    matrix = fit_similarity(points[_RIGID_POINTS], RIGID_TEMPLATE)
    return EYE_DISTANCE / max(1e-6, float(np.hypot(matrix[0, 0], matrix[1, 0])))
