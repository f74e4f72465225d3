"""The parts of a face that the parts paper edits, and the square crops it hands to a generator.

All boxes lie in units of the wide crop (`alignment.roi_matrix`): (0, 0) its left top corner, (1, 1)
the right bottom one. Source: "Let's put a smile on your face", section 3; the paper gives neither
part list nor margins. Squares keep proportions, and leave a part room to grow: lips that smile are
wider than lips at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.runtime.faces.topology import (
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    NOSE_RIDGE,
    NOSE_SIDES,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
)

SIZE = 64  # pixels a side of what a generator sees, as in the paper
# Left and right are the viewer's. The right eye is shown mirrored, so that one set of weights
# serves both.
PARTS = ("left_eye", "right_eye", "nose", "mouth")
PART_KINDS = ("eye", "nose", "mouth")  # the order of a generator's part labels
KIND_OF_PART = (0, 0, 1, 2)
POINTS_OF_PART = {
    "left_eye": LEFT_BROW + LEFT_EYE,
    "right_eye": RIGHT_BROW + RIGHT_EYE,
    "nose": NOSE_RIDGE + NOSE_BASE + NOSE_SIDES,
    "mouth": OUTER_LIPS + INNER_LIPS,
}
# Side of a part's square by the longer side of its bounding box.
ROOM = {"left_eye": 1.5, "right_eye": 1.5, "nose": 1.4, "mouth": 2.4}
FACE_ROOM = 1.2


@dataclass(frozen=True, slots=True)
class Box:
    """A square: its centre and its side."""

    x: float
    y: float
    side: float

    def crop_from_wide(self, size: int = SIZE) -> np.ndarray:
        """Pixels of the square at `size` from units of the wide crop: float32 (2, 3)."""
        scale = size / self.side
        left, top = self.x - self.side / 2, self.y - self.side / 2
        matrix = [[scale, 0, -left * scale - 0.5], [0, scale, -top * scale - 0.5]]
        return np.array(matrix, np.float32)


# The whole picture: the face as data sets of expressions crop it, the eyes' centres 0.34 of the
# side apart at 0.40 of its height. More around it would lie beyond the training pictures.
IMAGE_BOX = Box(0.5, 0.4824, 0.8235)


def square_around(points: np.ndarray, room: float) -> Box:
    """The square over the bounding box of `points` (n, 2), `room` times its longer side."""
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return Box(float(x), float(y), float((high - low).max()) * room)


def part_boxes(landmarks: np.ndarray) -> dict[str, Box]:
    """The square of each of PARTS, by landmarks.

    landmarks: float32 (106, 2), units of the wide crop.
    """
    return {
        part: square_around(landmarks[list(POINTS_OF_PART[part])], ROOM[part]) for part in PARTS
    }


def face_box(landmarks: np.ndarray) -> Box:
    """The square over all parts together; landmarks as in `part_boxes`."""
    every = [index for part in PARTS for index in POINTS_OF_PART[part]]
    return square_around(landmarks[every], FACE_ROOM)
