"""What of a change is movement: pictures before and after, parted into a shift and a rest.

A generator sees 64 pixels a side. What it moves, the frame's own pixels can be moved by, and stay
a photograph; only what no movement explains is added to them.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from mien.runtime.paste import edge_ramp

# Of squares of 64 pixels, in pixels: what Farneback's method looks at around each, and the
# deviation of a Gaussian over what it finds. DIS folds a picture less, but leaves a brighter
# seam beside lips that are pulled down.
WINDOW: Final = 21
SMOOTH: Final = 2.0
LEVELS: Final = 3
ROUNDS: Final = 3
NEIGHBOURS: Final = 7  # pixels a side that a polynomial is fitted to, and its deviation
NEIGHBOURS_SIGMA: Final = 1.5


def parted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A change as movement and rest: float32 (2 + c, s, s).

    before, after: float32 (c, s, s) in [0, 1]. The first two channels are the backward flow, x
    first, by the side; it fades to 0 at the border. The others are what is to be added after it.
    """
    flow = flow_between(before, after)
    rest = after - moved(before, flow)
    return np.concatenate([flow, rest]).astype(np.float32)


def flow_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where each pixel of `after` was in `before`, by the side: float32 (2, s, s), x first.

    Source: Farneback, "Two-frame motion estimation based on polynomial expansion", SCIA 2003.
    """
    size = before.shape[1]
    now, then = (np.round(np.clip(p.mean(0), 0, 1) * 255).astype(np.uint8) for p in (after, before))
    found = cv2.calcOpticalFlowFarneback(
        now,
        then,
        np.zeros((size, size, 2), np.float32),
        pyr_scale=0.5,
        levels=LEVELS,
        winsize=WINDOW,
        iterations=ROUNDS,
        poly_n=NEIGHBOURS,
        poly_sigma=NEIGHBOURS_SIGMA,
        flags=0,
    )
    smooth = cv2.GaussianBlur(found, (0, 0), SMOOTH * size / 64)
    flow: np.ndarray = (smooth.transpose(2, 0, 1) * edge_ramp(size) / size).astype(np.float32)
    return flow


def moved(square: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`square` (c, s, s) seen through a backward flow (2, s, s) by the side: float32 (c, s, s)."""
    size = square.shape[1]
    row = np.arange(size, dtype=np.float32)
    map_x, map_y = row + flow[0] * size, row[:, None] + flow[1] * size
    border = cv2.BORDER_REPLICATE
    shown = [cv2.remap(c, map_x, map_y, cv2.INTER_CUBIC, borderMode=border) for c in square]
    return np.stack(shown)


def mirrored(change: np.ndarray) -> np.ndarray:
    """What `parted` gives for the mirror image: float32 (2 + c, s, s)."""
    other: np.ndarray = change[..., ::-1].copy()
    other[0] *= -1
    return other
