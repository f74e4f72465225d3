"""What the paper's Table 4 measures of faces from text, each as it defines it.

R-precision, the Frechet distance and LPIPS are defined over networks that are not here (DAMSM on
FET, Inception v3, AlexNet), so every number goes with the name of the network it was computed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.calibration.judges.classifier import EmotionClassifier, fer_crop
from mien.engines import Catalog
from mien.engines.networks import DETECTOR, FER_CLASSES, LANDMARKS
from mien.runtime.faces.alignment import ROI_POINTS_TEMPLATE
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector

CANDIDATES: Final = 100  # captions among which a picture's own is looked for
FOLDS: Final = 10
TOP: Final = 3  # of the classes, for both emotions of a compound
BORDER: Final = 0.35  # of the side, around a picture, so that the detector sees a head in a place
LEAST_SCORE: Final = 0.3  # of the landmarks
# The eyes and the mouth of a canonical crop, in its units, where nothing is detected: those of the
# landmark network's crop, moved (see `mien.runtime.faces.alignment`).
_POINTS: Final = (ROI_POINTS_TEMPLATE - np.array([0.5, 0.40], np.float32)) * np.float32(
    0.34 / 0.28
) + np.array([0.5, 0.34], np.float32)


@dataclass(frozen=True, slots=True)
class Precision:
    """R-precision: how often a picture's own caption is the nearest, over folds of the pictures.

    candidates: the fewest captions that one was looked for among.
    """

    mean: float
    deviation: float
    pictures: int
    candidates: int


def r_precision(
    codes: np.ndarray, sentences: np.ndarray, groups: Sequence[str], *, seed: int = 0
) -> Precision:
    """R-precision with R = 1, among a caption and CANDIDATES - 1 captions of other groups.

    codes: of pictures, and sentences: of the captions they were made from, float (n, width) each;
    groups: what a caption belongs to, n names. Source: AttnGAN, section 4; Table 4 of the paper.
    """
    random = np.random.default_rng(seed)
    near = unit(codes) @ unit(sentences).T
    named = np.asarray(groups)
    hits, fewest = np.zeros(len(codes)), CANDIDATES
    for row in range(len(codes)):
        others = np.flatnonzero(named != named[row])
        others = random.choice(others, min(CANDIDATES - 1, len(others)), replace=False)
        hits[row] = (near[row, others] < near[row, row]).all()
        fewest = min(fewest, 1 + len(others))
    parts = np.array_split(random.permutation(len(hits)), min(FOLDS, len(hits)))
    means = [float(hits[part].mean()) for part in parts]
    return Precision(float(np.mean(means)), float(np.std(means)), len(codes), fewest)


def perceptual_distance(first: np.ndarray, second: np.ndarray) -> float:
    """An LPIPS-like distance of two maps of features, float (c, h, w): 0 for the same.

    Each place of unit length over the channels, squared differences, the mean over the places.
    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
    (2018), equation 1, with every weight 1.
    """
    a, b = (one / np.maximum(np.linalg.norm(one, axis=0), 1e-10) for one in (first, second))
    return float(((a - b) ** 2).sum(0).mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    normed: np.ndarray = x / np.maximum(lengths, 1e-12)
    return normed


class FaceReader:
    """Which emotions the shipped classifier sees in a drawn face.

    The face is looked for by the shipped detector in the picture with a border around it, and where
    that finds none, where a tight crop has its eyes and its mouth.
    """

    def __init__(self) -> None:
        bundled = Catalog.bundled()
        self._engines = [bundled.open(DETECTOR), bundled.open(LANDMARKS)]
        self._detector = FaceDetector(self._engines[0])
        self._landmarks = LandmarkDetector(self._engines[1])
        self._classifier = EmotionClassifier.bundled()

    def _found(self, picture: np.ndarray) -> tuple[np.ndarray, int, np.ndarray | None]:
        """The luma with a border, how wide it is, and the landmarks (106, 2) in it."""
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        side = round(BORDER * len(grey))
        wide = cv2.copyMakeBorder(grey, side, side, side, side, cv2.BORDER_REPLICATE)
        found = self._detector(wide)
        points = found[0].points if found else _POINTS * len(grey) - 0.5 + side
        marks = self._landmarks.from_points(wide, points)
        return wide, side, marks.points if marks.score >= LEAST_SCORE else None

    def landmarks(self, picture: np.ndarray) -> np.ndarray | None:
        """The landmarks (106, 2), in pixels of the picture; None where there is no face."""
        _, side, points = self._found(picture)
        return None if points is None else points - side

    def crop(self, picture: np.ndarray) -> np.ndarray | None:
        """The face as FER-2013 would show it, float32 (48, 48); None where there is none.

        picture: uint8 (s, s, 3), BGR.
        """
        wide, _, points = self._found(picture)
        return None if points is None else fer_crop(wide, points)

    def __call__(self, picture: np.ndarray) -> tuple[str, ...]:
        """The emotions, the likeliest first; none where there is no face."""
        crop = self.crop(picture)
        if crop is None:
            return ()
        order = np.argsort(-self._classifier(crop))
        return tuple(FER_CLASSES[i] for i in order)

    def close(self) -> None:
        """Close the networks."""
        for engine in self._engines:
            engine.close()
