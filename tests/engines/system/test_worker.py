from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mien.engines.system.process import is_work_left, run_aside, run_in_worker


def nothing(*_: object) -> None:
    """Do nothing."""


def test_the_result_comes_back_and_no_thread_is_left() -> None:
    before = threading.active_count()
    assert run_in_worker(lambda: 3, stop=nothing, meanwhile=nothing) == 3
    assert threading.active_count() == before


def test_an_error_of_the_work_reaches_the_caller() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_worker(fail, stop=nothing, meanwhile=nothing)


def test_an_error_meanwhile_stops_the_work_and_waits_for_it() -> None:
    stopped = threading.Event()
    tidied = []

    def work() -> None:
        stopped.wait(60)
        time.sleep(0.1)
        tidied.append(True)

    def meanwhile() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_worker(work, stop=lambda _: stopped.set(), meanwhile=meanwhile)
    assert tidied == [True]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_signal_is_raised_only_when_the_work_has_tidied_up(
    interrupting: type[BaseException],
) -> None:
    stopped = threading.Event()
    tidied = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        stopped.wait(60)
        time.sleep(0.2)
        tidied.append(True)

    with pytest.raises(interrupting):
        run_in_worker(work, stop=lambda _: stopped.set(), meanwhile=nothing)
    assert tidied == [True]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_second_signal_does_not_cut_the_tidying_short(interrupting: type[BaseException]) -> None:
    stopped = threading.Event()
    tidied = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        stopped.wait(60)
        time.sleep(0.2)  # it is waited for by now
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.2)
        tidied.append(True)

    with pytest.raises(interrupting):
        run_in_worker(work, stop=lambda _: stopped.set(), meanwhile=nothing)
    assert tidied == [True]


def test_work_aside_comes_back_or_fails_like_a_call() -> None:
    assert run_aside(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        run_aside(lambda: 1 // 0)
    assert not is_work_left()


@pytest.mark.skipif(os.name != "posix", reason="a signal is raised")
def test_work_aside_is_left_behind_where_the_wait_breaks_off() -> None:
    class BrokenOffError(BaseException):
        """What a signal handler raises."""

    def break_off(*_: object) -> None:
        raise BrokenOffError

    go_on, before = threading.Event(), signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(BrokenOffError):
            run_aside(lambda: go_on.wait(60))
        assert is_work_left()
    finally:
        signal.signal(signal.SIGALRM, before)
        go_on.set()
    deadline = time.monotonic() + 30
    while is_work_left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_work_left()
