from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import pytest

from mien.runtime.one_thread import one_thread


@pytest.fixture(autouse=True)
def _users_own_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


def test_opencv_has_one_thread_inside_and_what_it_had_before_afterwards() -> None:
    with one_thread():
        assert cv2.getNumThreads() == 1
        with one_thread():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3


def test_what_was_set_is_set_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), one_thread():
        1 / 0  # noqa: B018 -- raises
    assert cv2.getNumThreads() == 3


def test_of_two_threads_the_last_to_leave_sets_it_again() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with one_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with one_thread():
        other.start()
        assert entered.wait(10)
    assert cv2.getNumThreads() == 1
    leave.set()
    other.join(10)
    assert cv2.getNumThreads() == 3


def test_what_the_program_sets_meanwhile_stays() -> None:
    with one_thread():
        cv2.setNumThreads(2)
    assert cv2.getNumThreads() == 2


def test_a_program_without_threads_stays_without() -> None:
    cv2.setNumThreads(0)
    with one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 1
