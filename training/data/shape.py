"""The mean near-frontal face of the training pictures, from which the crop's template comes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mien.runtime.faces.alignment import fit_similarity, transform_points
from mien.runtime.faces.topology import LEFT_EYE_CENTRE, MIRROR, RIGHT_EYE_CENTRE, RIGID
from mien.training.data.faces import load_faces160

EYE_DISTANCE = 0.34  # of the crop's side, between the centres of the eyes
EYE_HEIGHT = 0.34  # of the crop's side, from its top


def is_frontal(points: np.ndarray, tolerance: float = 0.08) -> np.ndarray:
    """Which faces (n, 106, 2) look at the camera: the nose tip lies midway between the eyes."""
    eyes = points[:, RIGHT_EYE_CENTRE] - points[:, LEFT_EYE_CENTRE]
    middle = (points[:, RIGHT_EYE_CENTRE] + points[:, LEFT_EYE_CENTRE]) / 2
    off = ((points[:, 46] - middle) * eyes).sum(1) / (eyes**2).sum(1)
    return np.abs(off) < tolerance


def mean_shape(points: np.ndarray, rounds: int = 4) -> np.ndarray:
    """The symmetric mean of faces (n, 106, 2) in crop units: (106, 2), rigid points aligned."""
    rigid = list(RIGID)
    mean = points[0].astype(np.float64)
    for _ in range(rounds):
        moved = [transform_points(fit_similarity(p[rigid], mean[rigid]), p) for p in points]
        mean = np.mean(moved, axis=0, dtype=np.float64)
        x, y = mean[RIGHT_EYE_CENTRE] - mean[LEFT_EYE_CENTRE]
        upright = np.array([[x, -y], [y, x]]) / (x * x + y * y)
        mean = (mean - (mean[RIGHT_EYE_CENTRE] + mean[LEFT_EYE_CENTRE]) / 2) @ upright
        mean = (mean + mean[MIRROR] * [-1, 1]) / 2
    return mean * EYE_DISTANCE + [0.5, EYE_HEIGHT]


if __name__ == "__main__":
    faces = load_faces160(Path(sys.argv[1]))
    landmarks = faces.landmarks[:, :, :2]
    print(np.round(mean_shape(landmarks[is_frontal(landmarks)])[list(RIGID)], 4).tolist())
