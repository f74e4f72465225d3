"""The 106 landmarks of one face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mien.engines import Engine
from mien.runtime.faces.alignment import (
    ROI_SIZE,
    invert_similarity,
    roi_matrix,
    roi_matrix_from_points,
    transform_points,
)
from mien.runtime.luma import LumaSource, sample_luma


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Where the parts of a face are, and how far the picture can be trusted.

    points: float32 (106, 2) in pixels of the stored picture, order of
    `mien.runtime.faces.topology`. score: 0..1; 1 a plain face, 0 none, or one mostly covered or
    turned away. brightness, contrast: mean and standard deviation of the luma looked at, in [0, 1].
    """

    points: np.ndarray
    score: float
    brightness: float
    contrast: float


class LandmarkDetector:
    """Finds the landmarks of a face whose place is about known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, luma: LumaSource, roi_from_frame: np.ndarray) -> Landmarks:
        """The landmarks of the face that a crop shows.

        luma: uint8 (H, W), or a Frame.
        roi_from_frame: (2, 3) of `alignment.roi_matrix` or `roi_matrix_from_points`.
        """
        return self.each(luma, [roi_from_frame])[0]

    def each(self, luma: LumaSource, rois_from_frame: Sequence[np.ndarray]) -> list[Landmarks]:
        """The landmarks of several faces, each as of a call, in one call of the network."""
        crops = [sample_luma(luma, matrix, ROI_SIZE) for matrix in rois_from_frame]
        faces = [np.multiply(crop, np.float32(1 / 255), dtype=np.float32) for crop in crops]
        found = self._engine.infer_each([{"face": face[None, None]} for face in faces])
        return [
            _landmarks(crop, matrix, results)
            for crop, matrix, results in zip(crops, rois_from_frame, found, strict=True)
        ]

    def from_points(self, luma: LumaSource, points: np.ndarray) -> Landmarks:
        """The landmarks of a detection, in two looks: the second is centred by the first.

        points: (3, 2) of a `Detection`. The score is the lower of the two looks: a blurred plant
        scored 0.97 through the crop that its own first landmarks made of it.
        """
        first = self(luma, roi_matrix_from_points(points))
        second = self(luma, roi_matrix(first.points))
        return replace(second, score=min(first.score, second.score))


def _landmarks(
    crop: np.ndarray, roi_from_frame: np.ndarray, results: dict[str, np.ndarray]
) -> Landmarks:
    """What the network says of a crop, in the pixels of its frame."""
    in_roi = results["landmarks"][0] * ROI_SIZE - 0.5
    points = transform_points(invert_similarity(roi_from_frame), in_roi)
    score = float(results["score"][0, 0])
    mean, deviation = cv2.meanStdDev(crop)
    return Landmarks(points, score, float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255)
