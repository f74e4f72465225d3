from __future__ import annotations

import time

import pytest

from mien.engines.errors import UsageError
from mien.runtime.live.pacing import DelayLine
from mien.runtime.live.values import LiveFrame
from tests.runtime.live.stand_ins import live_frame, wait_until


def test_frames_whose_time_has_come_leave_in_order() -> None:
    out: list[LiveFrame] = []
    line = DelayLine(2000, out.append, rate=30)
    past_s = time.monotonic() - 100
    for index in range(20):
        line.put(live_frame(index, past_s + index))
        wait_until(lambda: len(line) == 0)
    wait_until(lambda: len(out) == 20)
    assert [frame.index for frame in out] == list(range(20))
    line.close()


def test_frames_are_held_and_never_more_than_delay_times_rate_and_two() -> None:
    out: list[LiveFrame] = []
    line = DelayLine(5000, out.append, rate=2)
    future_s = time.monotonic() + 1000
    for index in range(30):
        line.put(live_frame(index, future_s + index))
        assert len(line) <= 5 * 2 + 2
    assert (len(line), line.overflowed, out) == (12, 18, [])
    line.close()
    assert (len(line), out) == (0, [])


@pytest.mark.parametrize("delay_ms", [-1, 5001, float("nan")])
def test_a_delay_that_makes_no_sense_is_refused(delay_ms: float) -> None:
    with pytest.raises(UsageError, match="a delay must lie in 0"):
        DelayLine(delay_ms, lambda frame: None)
