from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.apps.bench.calls import MOST_CALLS, CallRow, dearest_calls
from mien.apps.bench.report import call_grid
from mien.apps.edit.inputs import SAMPLE
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.profile import HELD_FRAMES, decoded_first, profile_filter
from mien.runtime.video import read_frames


@pytest.fixture(scope="module")
def calls() -> tuple[CallRow, ...]:
    with Filter("happy") as change:
        frames = [frame for frame, _ in zip(read_frames(Path(SAMPLE)), range(13), strict=False)]
        return dearest_calls(change, frames)


def test_the_dearest_calls_come_first_and_the_networks_are_among_them(
    calls: tuple[CallRow, ...],
) -> None:
    assert len(calls) == MOST_CALLS
    times = [row.own_ms for row in calls]
    assert times == sorted(times, reverse=True)
    assert min(row.calls for row in calls) > 0
    assert any("run" in row.name for row in calls)


def test_calls_are_told_by_the_frame() -> None:
    grid = call_grid([CallRow("flow.py: dense_flow", 1.0, 0.5)])
    assert grid.rows == (("flow.py: dense_flow", "1.0", "0.500"),)


def test_a_stage_has_time_of_the_processor_beside_that_of_the_clock() -> None:
    with Filter("happy") as change:
        frames = [frame for frame, _ in zip(read_frames(Path(SAMPLE)), range(12), strict=False)]
        profile = profile_filter(change, frames)
    assert profile.whole.cpu_ms is not None
    stages = [stage.cpu_ms for stage in profile.stages]
    assert None not in stages
    assert sum(ms for ms in stages if ms) > 0


def test_frames_that_are_timed_have_been_decoded_before() -> None:
    decoded: list[Frame] = []

    def decoder() -> Iterator[Frame]:
        for frame in read_frames(Path(SAMPLE)):
            decoded.append(frame)
            yield frame

    ahead = [len(decoded) for _ in decoded_first(decoder())]
    total = len(decoded)
    assert total > HELD_FRAMES
    blocks = [index // HELD_FRAMES + 1 for index in range(total)]
    assert ahead == [min(total, block * HELD_FRAMES) for block in blocks]
