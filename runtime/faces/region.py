"""The region of a face on its crop: where light may change."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from mien.runtime.faces.topology import CONTOUR
from mien.runtime.methods.warp.flow import BROW_TOPS

FOREHEAD: Final = 0.13  # crop units of skin taken for granted above the brows
SOFT: Final = 0.035  # crop units, the standard deviation of its edge


def face_region(landmarks: np.ndarray, size: int) -> np.ndarray:
    """1 on the face, falling softly to 0 around it: float32 (size, size).

    landmarks: (106, 2), crop units. Exactly 0 in the border cells.
    """
    forehead = landmarks[list(BROW_TOPS)] - np.array([0.0, FOREHEAD], np.float32)
    outline = np.concatenate([landmarks[list(CONTOUR)], forehead[::-1]])
    region = np.zeros((size, size), np.uint8)
    points = np.round((outline * size - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(region, [cv2.convexHull(points)], 255, cv2.LINE_AA, 4)
    # Eroded by as much as it is softened, so that little light falls beyond the cheek.
    inner = cv2.erode(region, np.ones((3, 3), np.uint8), iterations=max(1, round(SOFT * size)))
    soft = cv2.GaussianBlur(inner.astype(np.float32) / 255, (0, 0), SOFT * size)
    soft[[0, -1]] = 0
    soft[:, [0, -1]] = 0
    return soft
