from __future__ import annotations

import dataclasses

import pytest

from mien.runtime.live.values import DelayStats, Meter, faces_in
from tests.runtime.live.stand_ins import a_face, live_frame


def test_nothing_is_known_before_the_first_frame() -> None:
    counts = Meter().counts(100.0)
    assert (counts.captured, counts.shown, counts.dropped, counts.dropped_share) == (0, 0, 0, 0)
    assert counts.delay == DelayStats()


def test_rates_drops_and_delays_are_those_of_the_frames() -> None:
    meter = Meter()
    for index in range(100):
        # every frame that is shown is the second one captured
        meter.show(index / 15, 20.0 if index % 10 else 70.0, captured=2)
    counts = meter.counts(99 / 15)
    assert (counts.captured, counts.shown, counts.dropped) == (200, 100, 100)
    assert counts.dropped_share == counts.recent_dropped_share == 0.5
    assert counts.output_fps == pytest.approx(15)
    assert counts.capture_fps == pytest.approx(30)
    assert counts.delay.last_ms == 20.0
    assert counts.delay.median_ms == 20.0
    assert counts.delay.p95_ms == 70.0
    assert counts.delay.all_median_ms == pytest.approx(20, abs=1)
    assert counts.delay.all_p95_ms == pytest.approx(70, abs=1)


def test_the_last_ten_seconds_are_told_apart_from_all() -> None:
    meter = Meter()
    for index in range(300):
        meter.show(index / 10, 100.0 if index < 180 else 10.0, captured=2 if index < 180 else 1)
    counts = meter.counts(30.0)
    assert counts.delay.median_ms == 10.0
    assert counts.delay.all_median_ms == pytest.approx(100, abs=1)
    assert counts.recent_dropped_share == 0
    assert counts.dropped == 180
    late = meter.counts(60.0)  # nothing for half a minute
    assert (late.output_fps, late.delay.median_ms, late.shown) == (0, None, 300)


def test_memory_of_a_meter_does_not_grow() -> None:
    meter = Meter()
    for index in range(20_000):
        meter.show(index / 1000, 1e9, captured=1)
    kept = [value for value in vars(meter).values() if hasattr(value, "__len__")]
    assert max(len(value) for value in kept) <= 4000


def test_faces_are_told_with_number_and_box() -> None:
    live = dataclasses.replace(live_frame(), faces=(a_face(4), a_face(7)), edited=(7,))
    first, second = faces_in(live, {4: 1, 7: 2})
    assert (first.track_id, first.number, first.is_edited) == (4, 1, False)
    assert (second.number, second.is_edited) == (2, True)
    assert second.box == pytest.approx((10, 8, 40, 30))
