from __future__ import annotations

import threading

import pytest

from mien.engines.errors import UsageError
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.target import parse_target


def test_settings_begin_as_given_and_change_together() -> None:
    controls = Controls(target="happy", face=2)
    assert controls.snapshot() == ControlState(target=parse_target("happy"), face="2")
    state = controls.update(target=parse_target("sad", 0.5), mark=True)
    assert state == controls.snapshot()
    assert (state.target, state.face, state.mark) == (parse_target("sad", 0.5), "2", True)
    assert controls.update(target=None).target is None
    assert controls.update(target="happy").target == parse_target("happy")
    assert controls.update(target="none").target is None


def test_the_version_grows_with_a_change_only() -> None:
    controls = Controls()
    first = controls.update(paused=True).version
    assert first > 0
    assert controls.update(paused=True).version == first
    assert controls.update(paused=False).version > first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "hapy"}, "did you mean 'happy'"),
        ({"target": 3}, "a target is"),
        ({"face": "left"}, "cannot choose the face"),
        ({"face": True}, "cannot choose the face"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"gan": 1}, "a gan is"),
        ({"mark": "yes"}, "on or off"),
        ({"volume": 3}, "no setting 'volume'"),
        ({"version": 3}, "no setting 'version'"),
    ],
)
def test_nonsense_is_refused_and_nothing_changes(changes: dict[str, object], message: str) -> None:
    controls = Controls(target="happy")
    before = controls.snapshot()
    with pytest.raises(UsageError, match=message):
        controls.update(paused=True, **changes)
    assert controls.snapshot() == before


def test_listeners_hear_of_changes_until_they_stop() -> None:
    controls, heard = Controls(), []
    end = controls.listen(heard.append)
    controls.update(mark=True)
    controls.update(mark=True)
    end()
    end()
    controls.update(mark=False)
    assert [state.mark for state in heard] == [True]


def test_changes_from_many_threads_are_all_counted() -> None:
    controls = Controls()

    def turn(number: int) -> None:
        for step in range(50):
            controls.update(face=100 * number + step + 1)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controls.snapshot().version == 200
