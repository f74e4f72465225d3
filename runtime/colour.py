"""A face in colour, for networks that were trained on it: converted only where it is looked at."""

from __future__ import annotations

import numpy as np

from mien.runtime.alignment import sample_crop
from mien.runtime.frame import Frame, Plane
from mien.runtime.luma import level_range, sample_luma
from mien.runtime.painting import chroma_range, luma_weights


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
