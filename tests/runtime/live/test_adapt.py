from __future__ import annotations

from mien.runtime.live.pacing import Pace


def run(pace: Pace, start_s: float, seconds: float, *, every: int = 1, busy: float = 0.2) -> float:
    """Frames at 30 Hz of which one in `every` is shown; the time afterwards."""
    for index in range(round(seconds * 30 / every)):
        now_s = start_s + index * every / 30
        pace.note(now_s, captured=every, busy_s=busy * every / 30)
    return start_s + seconds


def test_a_machine_that_keeps_up_gives_nothing_up() -> None:
    pace = Pace()
    run(pace, 0, 60, busy=0.9)
    assert (pace.level, pace.texts(), pace.message()) == (0, (), None)


def test_detection_is_given_up_first_then_the_preview_then_it_is_told() -> None:
    pace, levels, messages = Pace(), [], []
    for step in range(6):
        run(pace, step * 2.2, 2.2, every=2)
        levels.append(pace.level)
        messages.append(pace.message())
    assert levels == sorted(levels)
    assert {1, 2} <= set(levels)
    assert messages[0] is None
    assert messages[-1] is not None
    assert "50% of the frames are dropped" in messages[-1]
    assert pace.texts() == (
        "the machine is too slow: faces are looked for less often, previews are smaller",
    )


def test_what_was_given_up_comes_back_when_it_is_easy() -> None:
    pace = Pace()
    now_s = run(pace, 0, 10, every=2)
    assert pace.level == 2
    now_s = run(pace, now_s, 30, busy=0.8)
    assert pace.level == 2  # no frame is dropped, but there is no room either
    run(pace, now_s, 60, busy=0.2)
    assert (pace.level, pace.message()) == (0, None)


def test_a_level_that_came_back_too_early_is_held_longer() -> None:
    def levels_taken_back(rounds: int) -> list[int]:
        pace, taken, now_s = Pace(), [], 0.0
        now_s = run(pace, now_s, 10, every=2)
        for _ in range(rounds):
            level = pace.level
            now_s = run(pace, now_s, 16, busy=0.2)
            taken.append(level - pace.level)
            now_s = run(pace, now_s, 5, every=2)
        return taken

    taken = levels_taken_back(4)
    assert taken[0] == 1
    assert taken[-1] == 0


def test_without_adapting_nothing_is_given_up_but_it_is_told() -> None:
    pace = Pace(is_adaptive=False)
    run(pace, 0, 10, every=2)
    assert (pace.level, pace.texts()) == (0, ())
    assert "too slow" in (pace.message() or "")


def test_a_pause_is_no_slowness() -> None:
    pace = Pace()
    run(pace, 0, 3)
    pace.reset()
    run(pace, 1000, 3)
    assert pace.level == 0
