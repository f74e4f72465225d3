import numpy as np
import pytest

from mien.calibration.judges.features import Gaussian, fit_gaussian, frechet_distance
from mien.engines import UsageError


def gaussian(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(np.array(mean, float), np.array(covariance, float))


def spread(seed: int, *, dimensions: int, rank: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(dimensions, rank))
    return factor @ factor.T


def test_the_distance_of_independent_features_is_the_sum_over_each_of_them():
    a = gaussian([1, 2, 3], np.diag([4.0, 9.0, 0.0]))
    b = gaussian([1, 0, 4], np.diag([1.0, 16.0, 0.25]))
    # (m - m')^2 + (s - s')^2 for each feature, s the standard deviation
    expected = (0 + 1) + (4 + 1) + (1 + 0.25)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_the_distance_of_two_dependent_features_is_that_of_the_closed_form():
    a = gaussian([0, 0], [[2.0, 0.7], [0.7, 1.0]])
    b = gaussian([0.5, -1], [[1.0, -0.6], [-0.6, 3.0]])
    product = a.covariance @ b.covariance
    # for 2 x 2 matrices tr(M^(1/2)) = sqrt(tr M + 2 sqrt(det M))
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 1.25 + 3.0 + 4.0 - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_a_distribution_has_no_distance_to_itself_even_where_features_never_vary():
    flat = Gaussian(np.zeros(40), spread(1, dimensions=40, rank=11))
    distance = frechet_distance(flat, flat)
    assert 0 <= distance < 1e-5 * np.trace(flat.covariance)


def test_the_distance_is_real_where_the_product_of_covariances_has_complex_roots_by_rounding():
    a = Gaussian(np.zeros(60), spread(1, dimensions=60, rank=20))
    b = Gaussian(np.zeros(60), spread(2, dimensions=60, rank=20))
    # Taken directly, eigenvalues that are 0 come out negative or complex by rounding.
    direct = np.linalg.eigvals(a.covariance @ b.covariance)
    assert (direct.real < 0).any() or (np.abs(direct.imag) > 0).any()
    distance = frechet_distance(a, b)
    assert distance > 0
    assert distance == pytest.approx(frechet_distance(b, a), rel=1e-6)
    shared = np.sqrt(np.clip(direct.real, 0, None)).sum()
    expected = np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared
    assert distance == pytest.approx(expected, rel=1e-3)


def test_many_samples_of_one_distribution_lie_close_and_of_two_apart():
    rng = np.random.default_rng(5)
    a, b = (fit_gaussian(rng.normal(size=(4000, 3))) for _ in range(2))
    far = fit_gaussian(rng.normal(2.0, 3.0, size=(4000, 3)))
    assert frechet_distance(a, b) < 0.02
    assert frechet_distance(a, far) == pytest.approx(3 * (4 + 4), rel=0.1)


def test_features_of_one_dimension_have_a_covariance_too():
    fitted = fit_gaussian(np.array([[1.0], [3.0]], np.float32))
    assert fitted.mean.tolist() == [2.0]
    assert fitted.covariance.tolist() == [[2.0]]


def test_fewer_pictures_than_features_are_refused():
    fit_gaussian(np.eye(8))
    with pytest.raises(UsageError, match=r"received 7 pictures.*at least 8"):
        fit_gaussian(np.eye(8)[:7])
