from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mien.engines.errors import UsageError
from mien.runtime.target import EMOTIONS, Target, mixed_target, parse_target

HAPPY = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("happy", "sad", "weights", "strength"),
    [
        (0.5, 0.0, (0.5, 0.0), 1.0),
        (0.7, 0.3, (0.7, 0.3), 1.0),
        (1.5, 0.0, (1.0, 0.0), 1.5),
        (0.6, 0.6, (0.5, 0.5), 1.2),
        (1.5, 1.5, (0.5, 0.5), 1.5),
    ],
)
def test_strengths_of_emotions_make_a_mix_and_what_is_over_its_strength(
    happy: float, sad: float, weights: tuple[float, float], strength: float
) -> None:
    target = mixed_target([0.0, happy, sad, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert target is not None
    assert (target.weights[1], target.weights[2]) == pytest.approx(weights)
    assert target.strength == pytest.approx(strength)


def test_no_strength_at_all_makes_no_target() -> None:
    assert mixed_target([0.0] * len(EMOTIONS)) is None


def test_weights_that_are_left_out_share_what_the_others_leave() -> None:
    target = parse_target("happy:0.5+sad+angry")
    assert dict(zip(EMOTIONS, target.weights, strict=True)) == {
        **dict.fromkeys(EMOTIONS, 0.0),
        "happy": 0.5,
        "sad": 0.25,
        "angry": 0.25,
    }
    assert target.name == "happy50-sad25-angry25"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not NoneType"),
        (5, "not int"),
        (b"happy", "not bytes"),
        ("", "unknown emotion ''"),
        ("\x1b[31mred", r"unknown emotion '\\x1b\[31mred'"),
        ("x" * 1_000_000, "1,000,000 characters"),
        ("happy:" + "9" * 400, "must lie between 0 and 1"),
        ("happy:" + "9" * 5000, "5,006 characters"),
        ("happy:nan", "must lie between 0 and 1"),
        ("happy:1e400", "must lie between 0 and 1"),
        ("happy:-0.1", "must lie between 0 and 1"),
        ("happy:much", "'much' in 'happy:much' is not a number"),
        ("happy:0", "gives no emotion any weight"),
    ],
)
def test_other_expressions_are_refused_in_one_short_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        parse_target(text)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "weights",
    [
        None,
        "12345678",
        (1.0,),
        (1,) * 8,
        (0,) * 8,
        (np.nan, *HAPPY[1:]),
        ("0", *HAPPY[1:]),
        (-0.1, *HAPPY[1:]),
        (10**400, *HAPPY[1:]),
        (None, *HAPPY[1:]),
    ],
)
def test_weights_are_eight_numbers_that_sum_to_one(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="weights"):
        Target(weights)


WRONG_STRENGTHS = (None, "1", True, np.nan, np.inf, -1, 1.6, 10**5000, 1j)


@pytest.mark.parametrize("strength", WRONG_STRENGTHS, ids=range(len(WRONG_STRENGTHS)))
def test_an_intensity_is_a_number_in_its_range(strength: float) -> None:
    with pytest.raises(UsageError, match=r"intensity must lie in 0\.\.1\.5") as raised:
        Target(HAPPY, strength)
    assert len(str(raised.value)) < 100


def test_numbers_of_other_kinds_become_floats() -> None:
    target = Target(np.array(HAPPY, np.float32), Fraction(1, 2))  # type: ignore[arg-type]
    assert target == Target(HAPPY, 0.5)
    assert hash(target) == hash(Target(HAPPY, 0.5))
    assert all(type(weight) is float for weight in (*target.weights, target.strength))
