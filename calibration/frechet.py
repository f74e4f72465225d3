"""The Frechet distance between two sets of pictures, by the features a network sees in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.engines.errors import UsageError


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal distribution.

    mean: float64 (d,). covariance: float64 (d, d), symmetric.
    """

    mean: np.ndarray
    covariance: np.ndarray


def check_enough(count: int, dimensions: int) -> None:
    """Nothing, where `count` pictures are enough for `dimensions` features. Raises UsageError.

    Fewer pictures than features leave directions in which nothing was seen; the distance then says
    more of the number of pictures than of the pictures. The paper's own 2,048 of 2,048 are taken.
    """
    if count < dimensions:
        raise UsageError(
            f"received {count} pictures, but a Frechet distance over {dimensions} features needs "
            f"at least {dimensions}; take more pictures or a network with fewer features"
        )


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """The normal distribution of `features`, float (n, d), by their mean and covariance.

    Raises UsageError where n is below d.
    """
    count, dimensions = features.shape
    check_enough(count, dimensions)
    wide = features.astype(np.float64)
    return Gaussian(wide.mean(0), np.cov(wide, rowvar=False).reshape(dimensions, dimensions))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), at least 0; 0 for the same distribution.

    C_a C_b has the eigenvalues of the symmetric C_a^(1/2) C_b C_a^(1/2): real, and below 0 by
    rounding only. So no complex root is taken, whose imaginary part would have to be dropped.

    Source: Heusel et al. 2017 ("FID"), equation 6; Dowson and Landau 1982.
    """
    root = _root(a.covariance)
    product = root @ b.covariance @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    shared = float(np.sqrt(np.clip(values, 0, None)).sum())
    apart = float(((a.mean - b.mean) ** 2).sum())
    spread = float(np.trace(a.covariance) + np.trace(b.covariance))
    return max(0.0, apart + spread - 2 * shared)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
