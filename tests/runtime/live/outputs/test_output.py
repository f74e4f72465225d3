from __future__ import annotations

import pytest

from mien.engines.errors import VideoError
from mien.runtime.live.outputs import output as output_module
from mien.runtime.live.outputs.output import OutputStoppedError
from tests.runtime.live.stand_ins import SlowOutput, live_frame, wait_until


def test_the_newest_frame_wins_and_the_replaced_ones_are_counted() -> None:
    output = SlowOutput()
    output.offer(live_frame(0))
    assert output.entered.acquire(timeout=30)
    for index in (1, 2, 3):
        output.offer(live_frame(index))  # the consumer is still at the first
    output.gate.release()
    output.gate.release()
    wait_until(lambda: output.status().shown == 2)
    status = output.status()
    assert output.indices == [0, 3]
    assert (status.name, status.dropped, status.message) == ("slow", 2, None)
    assert status.delay_ms is not None
    output.close()
    assert output.calls == ["finish"]


def test_what_fails_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "RETRY_S", 0.01)
    output = SlowOutput()
    output.error = VideoError("the disk is full")
    output.gate.release()
    output.offer(live_frame(0))
    wait_until(lambda: output.calls == ["recover"])
    assert output.status().message == "the disk is full"
    output.error = None
    output.gate.release()
    output.offer(live_frame(1))
    wait_until(lambda: output.indices == [1])
    wait_until(lambda: output.status().message is None)
    output.close()


def test_an_output_that_ends_by_itself_takes_no_more_frames() -> None:
    output = SlowOutput()
    output.error = OutputStoppedError("the window was closed")
    output.gate.release()
    output.offer(live_frame(0))
    wait_until(lambda: output.calls == ["finish"])
    output.offer(live_frame(1))
    assert output.status().message == "the window was closed"
    assert not output.watched
    assert output.indices == []
    output.close()


def test_a_fault_of_another_kind_is_told_with_its_name() -> None:
    output = SlowOutput()
    output.error = RuntimeError("first line\nsecond line")
    output.gate.release()
    output.offer(live_frame(0))
    wait_until(lambda: output.status().message)
    assert output.status().message == "RuntimeError: first line"
    output.close()


def test_close_leaves_a_consumer_that_hangs_behind() -> None:
    output = SlowOutput()
    output.offer(live_frame(0))
    assert output.entered.acquire(timeout=30)
    output.close()
    output.close()
    assert output.calls == []  # it still hangs, and its end comes when it does
    output.gate.release()
    wait_until(lambda: output.calls == ["finish"])


def test_an_output_that_never_got_a_frame_comes_to_its_end_too() -> None:
    output = SlowOutput()
    output.close()
    output.close()
    assert output.calls == ["finish"]


def test_a_frame_that_waits_at_close_is_still_shown() -> None:
    output = SlowOutput()
    output.offer(live_frame(0))
    assert output.entered.acquire(timeout=30)
    output.offer(live_frame(1))
    output.close()
    output.offer(live_frame(2))
    output.gate.release()
    output.gate.release()
    wait_until(lambda: output.calls == ["finish"])
    assert output.indices == [0, 1]
