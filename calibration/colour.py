"""Frames as RGB pictures, for judges and sheets; the filter itself never needs them."""

from __future__ import annotations

import cv2
import numpy as np

from mien.runtime.frame import Frame, PixelLayout

# Kr and Kb of the YUV matrices (ITU-R BT.601, BT.709, BT.2020).
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def rgb_picture(frame: Frame) -> np.ndarray:
    """`frame` as stored, uint8 (H, W, 3) RGB; chroma is enlarged by area-aligned bilinear steps."""
    layout = frame.layout
    planes = [_eight_bit(plane.samples, layout) for plane in frame.planes]
    if layout.kind == "gray":
        return cv2.cvtColor(_stretched(planes[0], layout), cv2.COLOR_GRAY2RGB)
    if layout.kind == "rgb":
        channels = planes[0] if planes[0].ndim == 3 else np.dstack(planes[:3])
        return np.ascontiguousarray(channels[:, :, list(layout.rgb_order)])
    size_wh = (frame.width, frame.height)
    chroma = [planes[1][..., 0], planes[1][..., 1]] if planes[1].ndim == 3 else planes[1:3]
    u, v = (cv2.resize(np.ascontiguousarray(c), size_wh) for c in chroma)
    return cv2.transform(np.dstack([planes[0], u, v]), _rgb_from_yuv(layout))


def _eight_bit(samples: np.ndarray, layout: PixelLayout) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    values: np.ndarray = (samples >> layout.shift) >> (layout.depth - 8)
    return values.astype(np.uint8)


def _stretched(luma: np.ndarray, layout: PixelLayout) -> np.ndarray:
    if layout.full_range:
        return luma
    scaled = (luma.astype(np.float32) - 16) * (255 / 219)
    stretched: np.ndarray = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return stretched


def _rgb_from_yuv(layout: PixelLayout) -> np.ndarray:
    """float32 (3, 4): R, G, B of 8-bit Y, U, V and one."""
    kr, kb = _WEIGHTS[layout.matrix]
    kg = 1 - kr - kb
    matrix = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    black = 0.0
    if not layout.full_range:
        matrix *= [255 / 219, 255 / 224, 255 / 224]
        black = 16.0
    offset = matrix @ np.array([-black, -128, -128])
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)
