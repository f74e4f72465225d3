"""Brightness and colour for the networks, computed only where they are looked at.

A frame stays in the decoder's planes. What a network sees is a small crop or a small copy of the
whole picture, so samples are first moved and reduced, and only the few that are left become luma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import cv2
import numpy as np

from mien.runtime.faces.alignment import AlignedFace, Crop, sample_crop, transform_points
from mien.runtime.frame import Frame, PixelLayout, Plane

# uint8 (H, W), full range luma, or a frame of any layout
LumaSource: TypeAlias = np.ndarray | Frame

RGB_WEIGHTS: Final = (0.299, 0.587, 0.114)  # BT.601, as the grey training pictures were made
# Kr and Kb of the YUV matrices (ITU-R BT.601, BT.709, BT.2020).
YUV_WEIGHTS: Final = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


def size_of(source: LumaSource) -> tuple[int, int]:
    """Width and height of the picture, as stored."""
    if isinstance(source, Frame):
        return source.width, source.height
    return source.shape[1], source.shape[0]


def rotation_of(source: LumaSource) -> int:
    """Clockwise quarter turns (0..3) that bring the stored picture upright."""
    return source.rotation % 4 if isinstance(source, Frame) else 0


def sample_luma(source: LumaSource, crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """The luma seen through a similarity: uint8 (size, size), full range.

    crop_from_frame: (2, 3), crop pixels from stored frame pixels.
    """
    return _moved_luma(source, lambda samples: sample_crop(samples, crop_from_frame, size))


def reduced_luma(
    source: LumaSource,
    size_wh: tuple[int, int],
    region: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """The luma of the stored picture at another size: uint8 (h, w), full range.

    region: x0, y0, width and height of the part of it that is looked at, None for all of it.
    """

    def resize(samples: np.ndarray) -> np.ndarray:
        if region is not None:
            x0, y0, width, height = region
            samples = samples[y0 : y0 + height, x0 : x0 + width]
        shrinks = size_wh[0] <= samples.shape[1] and size_wh[1] <= samples.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(samples, size_wh, interpolation=method)

    return _moved_luma(source, resize)


def thinned_luma(source: LumaSource, size_wh: tuple[int, int], reach: int = 160) -> np.ndarray:
    """A rough small luma of the whole picture: uint8 (h, w), for comparing frames, not for faces.

    Samples are skipped first (about `reach` are kept a side), so the cost does not follow the
    size of the frame.
    """

    def thin(samples: np.ndarray) -> np.ndarray:
        step_y, step_x = (max(1, side // reach) for side in samples.shape[:2])
        few = np.ascontiguousarray(samples[::step_y, ::step_x])
        return cv2.resize(few, size_wh, interpolation=cv2.INTER_AREA)

    return _moved_luma(source, thin)


def luma_of(source: LumaSource) -> np.ndarray:
    """The luma of every pixel: uint8 (H, W), full range, stored orientation.

    The samples themselves where they are that already, so never write to it. For a look at one
    face `sample_luma` is cheaper.
    """
    return _moved_luma(source, lambda samples: samples)


def display_from_stored(size_wh: tuple[int, int], rotation: int) -> np.ndarray:
    """Pixels of the displayed picture from pixels of the stored one: float32 (2, 3).

    size_wh: of the stored picture. rotation: clockwise quarter turns, as in `Frame`.
    """
    width, height = size_wh
    matrices = (
        ((1, 0, 0), (0, 1, 0)),
        ((0, -1, height - 1), (1, 0, 0)),
        ((-1, 0, width - 1), (0, -1, height - 1)),
        ((0, 1, 0), (-1, 0, width - 1)),
    )
    return np.array(matrices[rotation % 4], np.float32)


def _moved_luma(source: LumaSource, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if not isinstance(source, Frame):
        return move(source)
    layout = source.layout
    if layout.kind != "rgb":
        samples = move(source.planes[0].samples)
        return _to_full_8bit(samples[..., 0] if samples.ndim == 3 else samples, layout)
    if source.planes[0].samples.ndim == 3:
        samples = move(source.planes[0].samples)
        parts = [samples[..., channel] for channel in layout.rgb_order]
    else:
        parts = [move(source.planes[plane].samples) for plane in layout.rgb_order]
    brightness = sum(
        part.astype(np.float32) * np.float32(weight)
        for part, weight in zip(parts, RGB_WEIGHTS, strict=True)
    )
    return _to_full_8bit(np.asarray(brightness), layout)


def _to_full_8bit(samples: np.ndarray, layout: PixelLayout) -> np.ndarray:
    black, white = level_range(layout)
    if samples.dtype == np.uint8 and (black, white) == (0, 255):
        return samples
    scale = 255.0 / (white - black)
    samples = np.ascontiguousarray(samples)
    # scaled, rounded and saturated in one pass
    return cv2.addWeighted(
        samples, scale / (1 << layout.shift), samples, 0.0, -black * scale, dtype=cv2.CV_8U
    )


def level_range(layout: PixelLayout) -> tuple[int, int]:
    """The sample values (after the shift) of black and white luma."""
    if layout.full_range or layout.kind == "rgb":
        return 0, (1 << layout.depth) - 1
    step = layout.depth - 8
    return (16 << step, 235 << step) if step >= 0 else (16 >> -step, 235 >> -step)


def luma_weights(layout: PixelLayout) -> tuple[float, float, float]:
    """How much of R, G and B a layout's luma holds."""
    if layout.kind != "yuv":
        return RGB_WEIGHTS
    red, blue = YUV_WEIGHTS[layout.matrix]
    return red, 1 - red - blue, blue


def chroma_range(layout: PixelLayout) -> float:
    """The sample values between chroma of -0.5 and of 0.5."""
    if layout.full_range:
        return float((1 << layout.depth) - 1)
    return 224.0 * 2.0 ** (layout.depth - 8)


def sample_rgb(frame: Frame, crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """R, G, B seen through a similarity: float32 (3, size, size) in [0, 1].

    crop_from_frame: (2, 3), crop pixels from stored frame pixels. A grey frame gives grey.
    """
    layout = frame.layout
    if layout.kind == "rgb":
        scale = np.float32(1 / ((1 << layout.depth) - 1))
        rgb: np.ndarray = _sampled(frame, crop_from_frame, size) * scale
        return rgb[list(layout.rgb_order)]
    if layout.kind == "gray" or len(frame.planes) < 2:
        luma = sample_luma(frame, crop_from_frame, size).astype(np.float32) / np.float32(255)
        return np.repeat(luma[None], 3, 0)
    black, white = level_range(layout)
    samples = _sampled(frame, crop_from_frame, size)
    luma = (samples[0] - black) / (white - black)
    u, v = (samples[1:3] - (1 << (layout.depth - 1))) / chroma_range(layout)
    kr, kg, kb = luma_weights(layout)
    red = luma + 2 * (1 - kr) * v
    blue = luma + 2 * (1 - kb) * u
    green = (luma - kr * red - kb * blue) / kg
    mixed: np.ndarray = np.clip(np.stack([red, green, blue]), 0, 1).astype(np.float32)
    return mixed


def _sampled(frame: Frame, crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """Every component as it is stored, after the shift: float32 (n, size, size)."""
    channels: list[np.ndarray] = []
    for plane in frame.planes:
        seen = sample_crop(plane.samples, _crop_from_plane(plane, crop_from_frame), size)
        values = seen >> frame.layout.shift if frame.layout.shift else seen
        channels += [values] if values.ndim == 2 else list(np.moveaxis(values, 2, 0))
    return np.stack(channels).astype(np.float32)


def _crop_from_plane(plane: Plane, crop_from_frame: np.ndarray) -> np.ndarray:
    step = np.array(plane.subsampling_xy, np.float64)
    matrix = np.asarray(crop_from_frame, np.float64)
    # sample i of the plane has its centre at frame pixel step * (i + 0.5) - 0.5
    offset = matrix[:, :2] @ (0.5 * step - 0.5) + matrix[:, 2]
    return np.hstack([matrix[:, :2] * step, offset[:, None]]).astype(np.float32)


def align_in_frame(frame: Frame, landmarks: np.ndarray, crop: Crop) -> AlignedFace:
    """A face of a frame as a method looks at it.

    landmarks: float32 (106, 2) in stored frame pixels.
    """
    matrix = crop.matrix(landmarks)
    if crop.is_colour:
        pixels = sample_rgb(frame, matrix, crop.size)
    else:
        pixels = sample_luma(frame, matrix, crop.size).astype(np.float32) / np.float32(255)
    units = (transform_points(matrix, landmarks) + 0.5) / crop.size
    return AlignedFace(pixels, matrix, units.astype(np.float32))
