"""The 106 landmarks: their order, their parts and the rigid ones.

The order is the one of the JD-landmark challenge (Liu et al., "Grand Challenge of 106-Point Facial
Landmark Localization", 2019), also used by the LaPa data set. Left and right are the viewer's.
"""

from __future__ import annotations

import numpy as np

POINT_COUNT = 106

CONTOUR = tuple(range(33))  # left temple, down to the chin (16), up to the right temple
CHIN = 16
LEFT_BROW = (33, 34, 35, 36, 37, 64, 65, 66, 67)  # upper edge outer to inner, lower edge likewise
RIGHT_BROW = (38, 39, 40, 41, 42, 68, 69, 70, 71)  # upper edge inner to outer, lower edge likewise
NOSE_RIDGE = (43, 44, 45, 46)  # from between the eyes to the tip
NOSE_BASE = (47, 48, 49, 50, 51)  # left nostril to right nostril, below
NOSE_SIDES = (78, 79, 80, 81, 82, 83)  # left, right alternating, from the top; 82 and 83 the wings
LEFT_EYE = (52, 53, 72, 54, 55, 56, 73, 57)  # outer corner, over the top, inner corner, below
RIGHT_EYE = (58, 59, 75, 60, 61, 62, 76, 63)  # inner corner, over the top, outer corner, below
LEFT_EYE_CENTRE, RIGHT_EYE_CENTRE = 74, 77
LEFT_PUPIL, RIGHT_PUPIL = 104, 105
LEFT_EYE_OUTER, RIGHT_EYE_OUTER = 52, 61
OUTER_LIPS = tuple(range(84, 96))  # left corner, upper lip to the right corner (90), lower lip back
INNER_LIPS = tuple(range(96, 104))  # left corner, upper lip to the right corner (100), back below
INNER_LIPS_UPPER = (96, 97, 98, 99, 100)  # left to right
INNER_LIPS_LOWER = (96, 103, 102, 101, 100)  # left to right
MOUTH_LEFT_CORNER, MOUTH_RIGHT_CORNER = 84, 90
LIP_TOP, LIP_BOTTOM = 98, 102  # the middle of the inner lips

# Points that an expression hardly moves: they give position, roll and size, so that speech and
# smiles do not shake the crop.
RIGID = (52, 55, 58, 61, 74, 77, 43, 44, 45, 46, 47, 48, 49, 50, 51, 78, 79, 80, 81, 82, 83)

# Where a mirrored picture has each point.
MIRROR = np.array(
    [32 - i for i in range(33)]
    + [42, 41, 40, 39, 38]
    + [37, 36, 35, 34, 33]
    + [43, 44, 45, 46]
    + [51, 50, 49, 48, 47]
    + [61, 60, 59, 58, 63, 62]
    + [55, 54, 53, 52, 57, 56]
    + [71, 70, 69, 68]
    + [67, 66, 65, 64]
    + [75, 76, 77]
    + [72, 73, 74]
    + [79, 78, 81, 80, 83, 82]
    + [90, 89, 88, 87, 86, 85, 84, 95, 94, 93, 92, 91]
    + [100, 99, 98, 97, 96, 103, 102, 101]
    + [105, 104],
    dtype=np.int64,
)
