from __future__ import annotations

import numpy as np
import pytest

from mien.engines.errors import UsageError
from mien.runtime.live.pacing import RateLimit


@pytest.mark.parametrize(
    ("rate", "shown"), [(None, 300), (60, 300), (30, 300), (20, 200), (15, 150)]
)
def test_frames_are_left_out_evenly(rate: float | None, shown: int) -> None:
    limit = RateLimit(rate)
    tremble = np.random.default_rng(1).uniform(-0.003, 0.003, 300)
    passed = [i for i in range(300) if limit.beats(i / 30 + tremble[i])]
    assert len(passed) == pytest.approx(shown, abs=3)
    assert max(np.diff(passed)) <= (2 if rate else 1)


def test_after_a_gap_the_next_frame_is_shown_at_once() -> None:
    limit = RateLimit(10)
    assert limit.beats(0.0)
    assert not limit.beats(0.03)
    assert limit.beats(50.0)
    assert not limit.beats(50.03)
    assert limit.beats(50.1)


def test_a_late_frame_and_a_missing_one_cost_no_other() -> None:
    limit = RateLimit(30)
    times = [i / 30 + (0.02 if i % 7 == 3 else 0.0) for i in range(60) if i % 10 != 2]
    assert all(limit.beats(time_s) for time_s in times)


def test_a_missing_frame_is_told_from_one_that_is_left_out() -> None:
    limit = RateLimit(15)  # of a camera at 30
    beats = [limit.beats(i / 30) for i in (0, 1, 2, 4, 8, 11, 12)]
    assert beats == [1, 0, 1, 1, 2, 1, 1]
    assert RateLimit(None).beats(0.0) == float("inf")


def test_a_clock_that_goes_back_begins_again() -> None:
    limit = RateLimit(10)
    assert limit.beats(500.0)
    assert limit.beats(1.0)
    assert not limit.beats(1.05)


@pytest.mark.parametrize("rate", [0, -5, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        RateLimit(rate)
