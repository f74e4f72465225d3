"""From the 478 points of FaceMesh to mien's 106.

FaceMesh labels the training pictures; mien's own order is that of `mien.runtime.faces.topology`.
The map is linear, so one matrix does it: contour points are spread evenly over FaceMesh's face
oval, every other point is a vertex or the mean of two.
"""

from __future__ import annotations

import numpy as np

OVAL = (
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152,
    377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356,
)  # fmt: skip

VERTICES: dict[int, tuple[int, ...]] = {
    # brows: upper edges, then lower edges
    33: (70, 46), 34: (63,), 35: (105,), 36: (66,), 37: (107,),
    38: (336,), 39: (296,), 40: (334,), 41: (293,), 42: (300, 276),
    64: (53,), 65: (52,), 66: (65,), 67: (55,),
    68: (285,), 69: (295,), 70: (282,), 71: (283,),
    # nose
    43: (6,), 44: (197,), 45: (5,), 46: (4,),
    47: (98,), 48: (97,), 49: (2,), 50: (326,), 51: (327,),
    78: (193,), 79: (417,), 80: (198,), 81: (420,), 82: (129,), 83: (358,),
    # eyes
    52: (33,), 53: (160,), 72: (159,), 54: (158,), 55: (133,), 56: (153,), 73: (145,), 57: (144,),
    58: (362,), 59: (385,), 75: (386,), 60: (387,), 61: (263,), 62: (373,), 76: (374,), 63: (380,),
    74: (33, 133), 77: (362, 263), 104: (468,), 105: (473,),
    # lips
    84: (61,), 85: (40,), 86: (37,), 87: (0,), 88: (267,), 89: (270,), 90: (291,),
    91: (321,), 92: (405,), 93: (17,), 94: (181,), 95: (91,),
    96: (78,), 97: (81,), 98: (13,), 99: (311,), 100: (308,), 101: (402,), 102: (14,), 103: (178,),
}  # fmt: skip


def matrix_106_from_478() -> np.ndarray:
    """The map from FaceMesh to 106 points: float32 (106, 478), each row sums to one."""
    matrix = np.zeros((106, 478), np.float32)
    for point in range(33):
        place = point * (len(OVAL) - 1) / 32
        low = min(int(place), len(OVAL) - 2)
        matrix[point, OVAL[low]] += 1 - (place - low)
        matrix[point, OVAL[low + 1]] += place - low
    for point, vertices in VERTICES.items():
        for vertex in vertices:
            matrix[point, vertex] = 1 / len(vertices)
    return matrix


def landmarks_106(mesh: np.ndarray) -> np.ndarray:
    """mien's landmarks of FaceMesh points: (..., 478, d) to float32 (..., 106, d)."""
    return np.einsum("pv,...vd->...pd", matrix_106_from_478(), mesh.astype(np.float32))
