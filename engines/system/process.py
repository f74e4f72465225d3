"""Work outside the main thread: programs of mien's own, and a thread that no signal interrupts.

Programs are started so that they import nothing from the working folder. An exception that a signal
raises comes in the main thread only, so work in a thread of its own is never broken off halfway.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

# `python -m` puts the working folder first among the places that modules are imported from: a
# numpy.py, or a folder mien, that lies where the user works would run. Python 3.10 has no -P.
CLEAN_PATH = "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
PROGRAM = (
    CLEAN_PATH
    + "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs `module` as `python -m` would, in this Python."""
    return [sys.executable, "-c", PROGRAM, module, *arguments]


def code_command(code: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs a piece of code in this Python."""
    return [sys.executable, "-c", CLEAN_PATH + code, *arguments]


def this_python() -> Path:
    """The program that runs this Python."""
    return Path(sys.executable)


Result = TypeVar("Result")

_LOOK_S: Final = 0.2
_ASIDE: Final = "mien-aside"  # the name of threads that may be left behind


def run_in_worker(
    work: Callable[[], Result],
    *,
    stop: Callable[[BaseException], None],
    meanwhile: Callable[[], None] = lambda: None,
    name: str = "worker",
) -> Result:
    """What `work` returns, run in a thread of its own while this one waits.

    A signal raises its exception in the main thread, between any two steps: also after a file was
    made and before it is known that it has to be removed. Into another thread nothing can break.

    meanwhile: called here a few times a second. stop: called where the wait is broken off, with
        what broke it off; `work` is to end soon then, and is waited for before that goes on.
    Raises: what `work` or `meanwhile` raises, or what broke the wait off.
    """
    job = _Job(work)
    thread = threading.Thread(target=job.run, name=name, daemon=True)
    try:
        thread.start()
        job.allowed.set()
        while not job.ended.wait(_LOOK_S):
            meanwhile()
    except BaseException as error:
        if job.allowed.is_set():
            job.allowed.set()  # again: it may have been broken off before the thread was told
            stop(error)
            wait_surely(job.ended)
            thread.join()
        else:  # whether there is a thread is not known: there it has nothing to do
            job.is_off = True
            job.allowed.set()
        raise
    thread.join()  # no thread is left, and this takes no time
    return job.result()


def run_aside(work: Callable[[], Result]) -> Result:
    """What `work` returns, from a thread of its own that is left behind where the wait breaks off.

    For a long call into a library that nothing can stop. The work touches no file and nothing that
    is closed with care; a process that leaves it behind ends by `os._exit`, for a thread that comes
    back from C++ while the interpreter ends takes the process down with it.
    """
    job = _Job(work)
    job.allowed.set()
    threading.Thread(target=job.run, name=_ASIDE, daemon=True).start()
    while not job.ended.wait(_LOOK_S):
        pass
    return job.result()


def is_work_left() -> bool:
    """Whether work that `run_aside` left behind is still running."""
    return any(thread.name == _ASIDE for thread in threading.enumerate())


class _Job(Generic[Result]):
    """The work on its way.

    Events tell how far it is, not Thread.join: a signal's exception in the middle of that marks a
    running thread as ended (Python 3.10 to 3.12, bpo-45274).
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self.allowed, self.ended = threading.Event(), threading.Event()
        self.is_off = False
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        self.allowed.wait()
        try:
            if not self.is_off:
                self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the caller has to get it
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> Result:
        if self._error is not None:
            raise self._error
        return self._results[0]


def wait_surely(ended: threading.Event) -> None:
    """Wait for the event, also where a signal's exception comes: that is raised afterwards."""
    try:
        ended.wait()
    finally:
        ended.wait()
