"""Work in a thread of its own, where no signal's exception can break in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

Result = TypeVar("Result")

_LOOK_S: Final = 0.2


def run_in_worker(
    work: Callable[[], Result],
    *,
    stop: Callable[[BaseException], None],
    meanwhile: Callable[[], None],
    name: str = "worker",
) -> Result:
    """What `work` returns, run in a thread of its own while this one waits.

    A signal raises its exception in the main thread, between any two steps: also after a file was
    made and before it is known that it has to be removed. Into another thread nothing can break.

    meanwhile: called here a few times a second. stop: called where the wait is broken off, with
        what broke it off; `work` is to end soon then, and is waited for before that goes on.
    Raises: what `work` or `meanwhile` raises, or what broke the wait off.
    """
    # Events, not Thread.join: a signal's exception in the middle of that marks a running thread as
    # ended (Python 3.10 to 3.12, bpo-45274).
    allowed, ended = threading.Event(), threading.Event()
    is_off = False
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        allowed.wait()
        try:
            if not is_off:
                results.append(work())
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the caller has to get it
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
        allowed.set()
        while not ended.wait(_LOOK_S):
            meanwhile()
    except BaseException as error:
        if allowed.is_set():
            stop(error)
            wait_surely(ended)
            thread.join()
        else:  # whether there is a thread is not known: there it has nothing to do
            is_off = True
            allowed.set()
        raise
    thread.join()  # no thread is left, and this takes no time
    if errors:
        raise errors[0]
    return results[0]


def wait_surely(ended: threading.Event) -> None:
    """Nothing; the event is set, also where a signal's exception comes: that is raised then."""
    try:
        ended.wait()
    finally:
        ended.wait()
