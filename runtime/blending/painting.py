"""What content put on a face makes of the samples below it, by component."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mien.runtime.frame import PixelLayout
from mien.runtime.luma import RGB_WEIGHTS, luma_weights


def luma_part(values: np.ndarray, layout: PixelLayout) -> np.ndarray:
    """The brightness of luma or RGB values (1 or 3, h, w): float32 (h, w)."""
    if len(values) == 1:
        luma: np.ndarray = values[0]
        return luma
    red, green, blue = (np.float32(weight) for weight in luma_weights(layout))
    # no product of matrices: BLAS would spread it over threads that a fork elsewhere ends
    weighed: np.ndarray = values[0] * red
    weighed += values[1] * green
    weighed += values[2] * blue
    return weighed


def chroma_parts(values: np.ndarray, layout: PixelLayout) -> tuple[np.ndarray, np.ndarray]:
    """U and V of RGB values (3, h, w), 0 for grey and within -0.5..0.5: two float32 (h, w)."""
    red, _, blue = luma_weights(layout)
    luma = luma_part(values, layout)
    u = (values[2] - luma) * np.float32(0.5 / (1 - blue))
    v = (values[0] - luma) * np.float32(0.5 / (1 - red))
    return u, v


def overlaid(
    below: np.ndarray, values: np.ndarray, alpha: np.ndarray | None, zero: float
) -> np.ndarray:
    """Samples below content that covers them as `alpha` says, or is added where that is None.

    below: (h, w[, n]), any dtype, only read. values: float32 of the same shape, counted from
    `zero`, with alpha multiplied in. alpha: float32 (h, w). Gives float32.
    """
    shown = below.astype(np.float32)
    if alpha is not None:
        shown -= (shown - np.float32(zero)) * (alpha if below.ndim == 2 else alpha[..., None])
    shown += values
    return shown


def overlaid_luma(
    below: list[np.ndarray], luma: np.ndarray, alpha: np.ndarray | None
) -> list[np.ndarray]:
    """R, G, B of another brightness and the same colour: three float32 (h, w).

    luma: float32 (h, w), with alpha multiplied in; alpha as in `overlaid`.
    """
    change = luma
    if alpha is not None:
        grey = sum(part * np.float32(w) for part, w in zip(below, RGB_WEIGHTS, strict=True))
        change = luma - grey * alpha
    return [part.astype(np.float32) + change for part in below]


def means_around(pieces: Iterable[tuple[Sequence[np.ndarray], np.ndarray]]) -> list[float]:
    """The weighted mean of each component over pieces of a picture: its values, and the weights.

    The plain one where a face at the frame's border leaves no weight.
    """
    sums, plain, total, count = np.zeros(0), np.zeros(0), 0.0, 0
    for parts, weights in pieces:
        weighted = np.array([float((values * weights).sum()) for values in parts])
        unweighted = np.array([float(values.sum(dtype=np.float64)) for values in parts])
        sums = weighted if not count else sums + weighted
        plain = unweighted if not count else plain + unweighted
        total += float(weights.sum())
        count += weights.size
    means = sums / total if total > 0 else plain / max(count, 1)
    return [float(mean) for mean in means]


def tinted(
    below: np.ndarray,
    means: Sequence[float],
    saturation: np.ndarray,
    alpha: np.ndarray,
    zero: float,
) -> np.ndarray:
    """Chroma (h, w[, n]) replaced by a share of the mean chroma around it: float32.

    means: of `means_around`, one for each component.
    """
    if below.ndim == 3:
        parts = np.moveaxis(below, 2, 0)
        shown = [
            tinted(part, [mean], saturation, alpha, zero)
            for part, mean in zip(parts, means, strict=True)
        ]
        return np.stack(shown, -1)
    tint = np.float32(means[0] - zero) * saturation + np.float32(zero)
    blended: np.ndarray = below + (tint - below) * alpha
    return blended


def recoloured(
    below: list[np.ndarray],
    means: Sequence[float],
    luma: np.ndarray,
    saturation: np.ndarray,
    alpha: np.ndarray,
) -> list[np.ndarray]:
    """R, G, B of another brightness with a share of the mean colour around, as `alpha` says.

    means: of `means_around`, of R, G and B.
    """
    grey = sum(mean * weight for mean, weight in zip(means, RGB_WEIGHTS, strict=True))
    return [
        values + (luma + np.float32(mean - grey) * saturation - values) * alpha
        for values, mean in zip(below, means, strict=True)
    ]
