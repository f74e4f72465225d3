"""Whether an edit stains the skin: its low-frequency change of luma on cheeks and upper lip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mien.runtime.faces.alignment import sample_crop
from mien.runtime.frame import Frame
from mien.runtime.luma import level_range, luma_of

# FaceMesh vertices around skin that folds but holds no feature: the viewer's left cheek from below
# the eye to beside the mouth, the right one likewise, and the skin above the red of the upper lip.
LEFT_CHEEK = (116, 117, 118, 119, 100, 36, 206, 216, 207, 187, 123)
RIGHT_CHEEK = (345, 346, 347, 348, 329, 266, 426, 436, 427, 411, 352)
UPPER_LIP_SKIN = (206, 203, 98, 97, 2, 326, 327, 423, 426, 322, 270, 269, 267, 0, 37, 39, 40, 92)
REGIONS = (LEFT_CHEEK, RIGHT_CHEEK, UPPER_LIP_SKIN)
FACE_SIDES = (234, 454)  # vertices of the temples: the width of the face
FACE_CELLS = 100  # the face is looked at this many cells wide
BLUR = 0.1  # of the face's width: diameter of the blur, twice its standard deviation
BORDER = 0.025  # of the face's width that regions are shrunk by, away from lips and nostrils
LEAST_LUMA = 0.02  # of white: skin darker than that says nothing
LEAST_CELLS = 50


@dataclass(frozen=True, slots=True)
class Stain:
    """Low-frequency change of luma, as a share of the skin's own.

    largest: at any place; mean: over all places; both without their sign. frames: looked at.
    """

    largest: float
    mean: float
    frames: int = 1


def low_frequency_change(
    before: Frame, after: Frame, *, mesh_before: np.ndarray, mesh_after: np.ndarray
) -> Stain | None:
    """The stain of one frame; None where too little skin is in sight.

    mesh_before, mesh_after: FaceMesh points (478, 2 or more) in pixels of the frames. Skin is what
    is skin in both, so that what a moved lip covers or lays bare does not count.
    """
    cells_from_frame = _cells_from_frame(mesh_before)
    if cells_from_frame is None:
        return None
    skin = _skin(mesh_before, cells_from_frame) & _skin(mesh_after, cells_from_frame)
    if skin.sum() < LEAST_CELLS:
        return None
    own, edited = (
        _blurred(_seen(frame, cells_from_frame, skin.shape), skin) for frame in (before, after)
    )
    bright = skin & (own > LEAST_LUMA)
    if bright.sum() < LEAST_CELLS:
        return None
    change = np.abs(edited - own)[bright] / own[bright]
    return Stain(float(change.max()), float(change.mean()))


def over_frames(stains: Sequence[Stain | None]) -> Stain:
    """Of a clip: the largest is the 95th percentile of its frames', the mean their median."""
    seen = [stain for stain in stains if stain is not None]
    if not seen:
        return Stain(float("nan"), float("nan"), 0)
    largest = float(np.percentile([stain.largest for stain in seen], 95))
    return Stain(largest, float(np.median([stain.mean for stain in seen])), len(seen))


def native_luma(frame: Frame) -> np.ndarray:
    """The frame's own luma samples: float32 (H, W), 0 black and 1 white."""
    layout = frame.layout
    if layout.kind == "rgb":
        return luma_of(frame).astype(np.float32) / 255
    samples = frame.planes[0].samples
    values = (samples[..., 0] if samples.ndim == 3 else samples) >> layout.shift
    black, white = level_range(layout)
    luma: np.ndarray = (values.astype(np.float32) - black) / np.float32(white - black)
    return luma


def _cells_from_frame(mesh: np.ndarray) -> np.ndarray | None:
    """Cells of the box around a face from pixels of its frame: float64 (2, 3)."""
    width = float(np.linalg.norm(np.subtract(*mesh[list(FACE_SIDES), :2])))
    if not width > 1:
        return None
    scale = FACE_CELLS / width
    centre = mesh[:468, :2].mean(0)
    half = 0.75 * FACE_CELLS
    return np.array([[scale, 0, half - scale * centre[0]], [0, scale, half - scale * centre[1]]])


def _skin(mesh: np.ndarray, cells_from_frame: np.ndarray) -> np.ndarray:
    side = int(1.5 * FACE_CELLS)
    mask = np.zeros((side, side), np.uint8)
    cells = mesh[:, :2] @ cells_from_frame[:, :2].T + cells_from_frame[:, 2]
    for region in REGIONS:
        cv2.fillPoly(mask, [np.round(cells[list(region)]).astype(np.int32)], 1)
    border = 2 * round(BORDER * FACE_CELLS) + 1
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (border, border))
    shrunk: np.ndarray = cv2.erode(mask, shape) > 0
    return shrunk


def _seen(frame: Frame, cells_from_frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The native luma through the cells, reduced by area: float32 of `shape`."""
    return sample_crop(native_luma(frame), cells_from_frame.astype(np.float32), shape[0])


def _blurred(luma: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """`luma` blurred over skin alone: float32, of use where `skin` is."""
    sigma = BLUR / 2 * FACE_CELLS
    weight = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), sigma)
    total = cv2.GaussianBlur(luma * skin, (0, 0), sigma)
    blurred: np.ndarray = total / np.maximum(weight, 1e-3)
    return blurred
