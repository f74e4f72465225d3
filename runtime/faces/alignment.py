"""Alignment: from a face in a frame to the upright crop that a network looks at.

Every network of mien sees its crop through `Crop`s made here, in training, calibration and at run
time alike. A crop is a similarity (no shear), so lengths and angles keep their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from mien.engines.errors import EngineError
from mien.runtime.faces.topology import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, RIGID

# The rigid points (topology.RIGID) of the mean near-frontal face, in crop units: the mean over
# 4,672 pictures, made symmetric, scaled so that the eye centres lie at (0.33, 0.34), (0.67, 0.34).
# `python -m mien.training.data.shape` prints this table.
RIGID_TEMPLATE: Final = np.array(
    [
        (0.2573, 0.3359),
        (0.4027, 0.3441),
        (0.5973, 0.3441),
        (0.7427, 0.3359),
        (0.3300, 0.3400),
        (0.6700, 0.3400),
        (0.5000, 0.3625),
        (0.5000, 0.4016),
        (0.5000, 0.4775),
        (0.5000, 0.5240),
        (0.4006, 0.5725),
        (0.4541, 0.5844),
        (0.5000, 0.5872),
        (0.5459, 0.5844),
        (0.5994, 0.5725),
        (0.4584, 0.3239),
        (0.5416, 0.3239),
        (0.4218, 0.4772),
        (0.5782, 0.4772),
        (0.3808, 0.5355),
        (0.6192, 0.5355),
    ],
    np.float32,
)

_RIGID_POINTS: Final = np.array(RIGID)  # an index that NumPy takes without making it one

# The wider crop of the landmark network: the eye centres 0.28 of the side apart, at 0.40 of its
# height, so that the whole face fits with room around it even when the crop is a little off.
ROI_SIZE: Final = 112
ROI_TEMPLATE: Final = (RIGID_TEMPLATE - np.array([0.5, 0.34], np.float32)) * np.float32(
    0.28 / 0.34
) + np.array([0.5, 0.40], np.float32)

# Left eye centre, right eye centre, mouth centre (midway between the corners) of the same mean
# face, in units of the wider crop.
ROI_POINTS_TEMPLATE: Final = np.array([(0.36, 0.40), (0.64, 0.40), (0.50, 0.6987)], np.float32)


# The rigid points (topology.RIGID) in FER-2013's crops, in crop units: the median over the 12,495
# training pictures that look at the camera, made symmetric.
FER_TEMPLATE: Final = np.array(
    [
        (0.2370, 0.3984),
        (0.3958, 0.4114),
        (0.6042, 0.4114),
        (0.7630, 0.3984),
        (0.3164, 0.4056),
        (0.6836, 0.4056),
        (0.5000, 0.4349),
        (0.5000, 0.4739),
        (0.5000, 0.5521),
        (0.5000, 0.5989),
        (0.3971, 0.6471),
        (0.4518, 0.6614),
        (0.5000, 0.6640),
        (0.5482, 0.6614),
        (0.6029, 0.6471),
        (0.4531, 0.3880),
        (0.5469, 0.3880),
        (0.4167, 0.5508),
        (0.5833, 0.5508),
        (0.3750, 0.6081),
        (0.6250, 0.6081),
    ],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """One face, upright and in a fixed place.

    pixels: float32 (H, W), luma in [0, 1]; or (3, H, W), R, G, B, where the method wants colour.
    crop_from_frame: float32 (2, 3), maps frame pixels (pixel centres at integers) to crop pixels.
    landmarks: float32 (106, 2), in crop units: (0, 0) the left top corner of the crop, (1, 1) the
        right bottom one.
    """

    pixels: np.ndarray
    crop_from_frame: np.ndarray
    landmarks: np.ndarray

    @property
    def size(self) -> int:
        """Pixels a side of the crop."""
        return int(self.pixels.shape[-1])


@dataclass(frozen=True, slots=True)
class Crop:
    """The crop of a face that a method looks at, and in whose units its edits are.

    size: pixels a side. alignment: `canonical` (`crop_matrix`) or `ffhq` (`ffhq_matrix`).
    is_colour: R, G, B in the place of luma.
    """

    size: int
    alignment: Literal["canonical", "ffhq"] = "canonical"
    is_colour: bool = False

    def matrix(self, landmarks: np.ndarray) -> np.ndarray:
        """Where the crop lies: float32 (2, 3), crop from frame pixels; landmarks: (106, 2)."""
        place = crop_matrix if self.alignment == "canonical" else ffhq_matrix
        return place(landmarks, self.size)


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity that maps `source` onto `target` with least squares: float32 (2, 3).

    source, target: (n, 2) with n >= 2. Raises EngineError where a network has put all of `source`
    into one place. Source: Umeyama 1991, without reflection.
    """
    # Points as complex numbers: a similarity is a product and a sum of two of them.
    z, w = _complex(source), _complex(target)
    middle, goal = complex(z.sum()) / len(z), complex(w.sum()) / len(w)
    z = z - middle
    norm = float(np.vdot(z, z).real)
    if norm < 1e-12:
        raise EngineError(
            "a network puts all points of a face into one place; use a model that was trained for "
            "this"
        )
    turn = complex(np.vdot(z, w)) / norm
    moved = goal - turn * middle
    return np.array(
        [[turn.real, -turn.imag, moved.real], [turn.imag, turn.real, moved.imag]], np.float32
    )


def _complex(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) as x + iy: complex128 (n,)."""
    numbers: np.ndarray = np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
    return numbers


def invert_similarity(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) similarity, or of any affine map of the plane: float32 (2, 3)."""
    # in plain numbers: eight a frame are asked for, and NumPy took eight times as long
    (a, b, x), (c, d, y) = matrix.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]], np.float32)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` (..., 2) moved by the affine `matrix` (2, 3): float32 (..., 2)."""
    moved: np.ndarray = points @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def crop_matrix(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where the canonical crop of `size` pixels lies: float32 (2, 3), crop from frame pixels.

    landmarks: (106, 2) in frame pixels. Crop unit u is crop pixel u * size - 0.5.
    """
    return fit_similarity(landmarks[_RIGID_POINTS], RIGID_TEMPLATE * size - 0.5)


def roi_matrix(landmarks: np.ndarray, size: int = ROI_SIZE) -> np.ndarray:
    """Where the landmark network looks, from known landmarks: float32 (2, 3), roi from frame.

    landmarks: (106, 2) in frame pixels. Crop unit u is roi pixel u * size - 0.5.
    """
    return fit_similarity(landmarks[_RIGID_POINTS], ROI_TEMPLATE * size - 0.5)


def roi_matrix_from_points(points: np.ndarray, size: int = ROI_SIZE) -> np.ndarray:
    """The same crop as `roi_matrix`, from a detection: float32 (2, 3), roi from frame pixels.

    points: (3, 2) left eye centre, right eye centre, mouth centre in frame pixels.
    """
    return fit_similarity(points, ROI_POINTS_TEMPLATE * size - 0.5)


def ffhq_matrix(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where FFHQ's alignment puts a face: float32 (2, 3), crop from frame pixels.

    landmarks: (106, 2) in frame pixels. The square's side is 4 times the distance of the eyes or
    3.6 times that from eyes to mouth, whichever is more, and its centre lies a tenth of the way
    from the eyes to the mouth. Source: Karras et al., "A Style-Based Generator Architecture for
    Generative Adversarial Networks", 2019, the data set's alignment.
    """
    points = np.asarray(landmarks, np.float64)
    left, right = points[list(LEFT_EYE)].mean(0), points[list(RIGHT_EYE)].mean(0)
    mouth = points[[OUTER_LIPS[0], OUTER_LIPS[6]]].mean(0)
    eyes, across = (left + right) / 2, right - left
    down = mouth - eyes
    x_axis = across - np.array([-down[1], down[0]])
    x_axis /= max(float(np.hypot(*x_axis)), 1e-12)
    x_axis *= max(2.0 * float(np.hypot(*across)), 1.8 * float(np.hypot(*down)))
    y_axis = np.array([-x_axis[1], x_axis[0]])
    centre = eyes + 0.1 * down
    corners = np.stack(
        [centre - x_axis - y_axis, centre + x_axis - y_axis, centre + x_axis + y_axis]
    )
    square = np.array([(0, 0), (size, 0), (size, size)], np.float64) - 0.5
    return fit_similarity(corners, square)


def fer_matrix(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where the emotion classifier looks, cropped as FER-2013 crops faces: float32 (2, 3).

    landmarks: (106, 2) in frame pixels.
    """
    return fit_similarity(landmarks[_RIGID_POINTS], FER_TEMPLATE * size - 0.5)


def align_face(luma: np.ndarray, landmarks: np.ndarray, size: int) -> AlignedFace:
    """The face upright in a `size` x `size` crop; pixels beyond the frame repeat its border.

    luma: uint8 (H, W). landmarks: float32 (106, 2) in pixels of `luma`.
    """
    matrix = crop_matrix(landmarks, size)
    crop = (transform_points(matrix, landmarks) + 0.5) / size
    pixels = sample_crop(luma, matrix, size).astype(np.float32) / 255.0
    return AlignedFace(pixels, matrix, crop.astype(np.float32))


def sample_crop(image: np.ndarray, crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """`image` seen through `crop_from_frame`: (size, size[, C]), dtype kept, without aliasing.

    A face much larger than the crop is first reduced by area, for bilinear sampling would skip
    pixels and make the crop flicker.
    """
    scale = float(np.hypot(crop_from_frame[0, 0], crop_from_frame[1, 0]))
    if scale < 0.5:
        return _sample_reduced(image, crop_from_frame, size, int(1.0 / scale))
    return cv2.warpAffine(
        image,
        crop_from_frame,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _sample_reduced(image: np.ndarray, matrix: np.ndarray, size: int, factor: int) -> np.ndarray:
    frame_from_crop = invert_similarity(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float32)
    seen = transform_points(frame_from_crop, corners)
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(seen.min(0)).astype(int) - factor, 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(seen.max(0)).astype(int) + factor, (x0 + 1, y0 + 1), (width, height))
    small_wh = (max(1, (x1 - x0) // factor), max(1, (y1 - y0) // factor))
    # whole cells, of which OpenCV takes the means in a seventh of the time
    part = image[y0 : min(y1, y0 + small_wh[1] * factor), x0 : min(x1, x0 + small_wh[0] * factor)]
    step = np.array([part.shape[1] / small_wh[0], part.shape[0] / small_wh[1]], np.float32)
    small = cv2.resize(part, small_wh, interpolation=cv2.INTER_AREA)
    # small pixel i covers frame pixels x0 + i*step - 0.5 .. : centre at x0 + (i + 0.5)*step - 0.5
    offset = np.array([x0, y0], np.float32) + 0.5 * step - 0.5
    reduced = np.hstack([matrix[:, :2] * step, (matrix[:, :2] @ offset)[:, None] + matrix[:, 2:]])
    return cv2.warpAffine(
        small, reduced, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
