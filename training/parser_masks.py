"""What each pixel of a face crop is, from FaceMesh's 478 points: the face parser's teacher.

A mesh knows the brows, eyes, nose, lips and the face's outline below the brow line; it does not
know hair, ears or neck. So everything outside the outline is background, the forehead above the
outline is left out of the loss (it may be skin or hair), and so is a thin seam along the outline,
where the mesh is a little off more often than not.
"""

from __future__ import annotations

import cv2
import numpy as np

from mien.engines.networks import SHIPPED_CLASSES

CLASSES = SHIPPED_CLASSES  # words as in CelebAMask-HQ; left is the viewer's
MIRRORED_CLASS = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, *range(10, 256)], np.uint8)
UNSURE = 255  # a pixel that the loss and the scores leave out

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
FOREHEAD = (127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356)
_UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
POLYGONS: dict[str, tuple[int, ...]] = {
    "nose": (
        168, 122, 174, 198, 209, 129, 64, 98, 97, 2,
        326, 327, 294, 358, 429, 420, 399, 351,
    ),
    "l_brow": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    "r_brow": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    "l_eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "r_eye": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "mouth": _UPPER_LIP_INNER + _LOWER_LIP_INNER[::-1],
    "u_lip": _UPPER_LIP_OUTER + _UPPER_LIP_INNER[::-1],
    "l_lip": _LOWER_LIP_OUTER + _LOWER_LIP_INNER[::-1],
}  # fmt: skip
FOREHEAD_HEIGHT = 0.35  # of the face's height: how far above the outline pixels are left out
SEAM = 0.012  # half width of the left-out seam along the outline, by the side of the crop

_SHIFT = 4  # of OpenCV's fixed-point coordinates


def class_mask(mesh: np.ndarray, size: int) -> np.ndarray:
    """The class of each pixel of a crop, or UNSURE: uint8 (size, size), index into CLASSES.

    mesh: float32 (478, 2), pixels of the crop (pixel centres at integers).
    """
    mask = np.zeros((size, size), np.uint8)
    _fill(mask, _above_the_forehead(mesh), UNSURE)
    _fill(mask, mesh[list(OVAL)], CLASSES.index("skin"))
    seam = max(1, round(2 * SEAM * size))
    cv2.polylines(mask, [_fixed(mesh[list(OVAL)])], True, UNSURE, seam, cv2.LINE_8, _SHIFT)
    for name, polygon in POLYGONS.items():
        _fill(mask, mesh[list(polygon)], CLASSES.index(name))
    return mask


def _above_the_forehead(mesh: np.ndarray) -> np.ndarray:
    """The area between the upper outline and the same line moved up along the face: (n, 2)."""
    line = mesh[list(FOREHEAD)]
    up = (mesh[10] - mesh[152]) * FOREHEAD_HEIGHT
    return np.concatenate([line, (line + up)[::-1]])


def _fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    cv2.fillPoly(mask, [_fixed(polygon)], value, cv2.LINE_8, _SHIFT)


def _fixed(polygon: np.ndarray) -> np.ndarray:
    return np.round(polygon * (1 << _SHIFT)).astype(np.int32)
