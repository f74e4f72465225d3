"""What to do to one face: a field on the aligned crop, never a picture of the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Patch:
    """New content for the inside of the mouth, at the mouth's own scale.

    luma: float32 (h, w) in [0, 1], what to show; 0 is black and 1 white.
    alpha: float32 (h, w) in [0, 1], how much of it; 0 in the border cells.
    saturation: float32 (h, w) in [0, 1], its colour as a share of the colour around it.
    around: float32 (h, w), weights of where that colour is taken from: lips or skin.
    box: x0, y0, x1, y1 in crop units: the part of the aligned crop that the patch covers.
    """

    luma: np.ndarray
    alpha: np.ndarray
    saturation: np.ndarray
    around: np.ndarray
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Delta:
    """A change of brightness or colour, added to what is there.

    values: float32 (c, h, w), c = 1 for luma, 3 for R, G, B; 1 is the way from black to white.
    mask: float32 (h, w) in [0, 1], how much of it; 0 in the border cells.
    box: x0, y0, x1, y1 in crop units: what the grid covers. It may reach beyond the crop.
    """

    values: np.ndarray
    mask: np.ndarray
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Paste:
    """A picture put over what is there.

    pixels: float32 (c, h, w) in [0, 1], c = 1 for luma, whose colour stays that below, or 3 for
        R, G, B.
    alpha: float32 (h, w) in [0, 1], how much of it; 0 in the border cells.
    box: as of a Delta.
    """

    pixels: np.ndarray
    alpha: np.ndarray
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Edit:
    """What to do to one aligned face, in units of the canonical crop (`alignment.crop_matrix`).

    Every grid covers the whole crop, its values lie at cell centres ((i + 0.5) / w, (j + 0.5) / h).

    flow: float32 (2, h, w), x first: crop point p shows what was at p + flow(p). Exactly 0 in the
        border cells. None where nothing moves.
    gain: float32 (h', w'): relative change of brightness after the flow, 0 for none. Exactly 0 in
        the border cells. Up to 24 cells a side the blender shows it as a smooth spline.
    delta: added after flow and gain, or None.
    paste: put over that, or None.
    patch: new content put on top at last, or None.
    mask: float32 (h, w) in [0, 1]: how much of flow and gain to apply; None is 1 everywhere. Of the
        size of the flow, where there is one.
    covered: float32 (h, w) in [0, 1]: what lies in front of the skin and neither moves nor changes
        (glasses, a hand). The skin moves behind it, and what it covered of what comes into sight
        beside it is filled from around. None where nothing does.
    """

    flow: np.ndarray | None = None
    gain: np.ndarray | None = None
    patch: Patch | None = None
    mask: np.ndarray | None = None
    covered: np.ndarray | None = None
    delta: Delta | None = None
    paste: Paste | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it does nothing."""
        parts = (self.flow, self.gain, self.patch, self.delta, self.paste)
        return all(part is None for part in parts)
