"""Being stopped: Ctrl-C and a polite kill end a program the same way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(BaseException):
    """A signal that ends the program. status: what a shell reports for it, 128 + its number.

    No KeyboardInterrupt, which the command line library would turn into an error of its own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def status_of(program: Callable[[], int]) -> int:
    """The exit status of a program: its own, or that of the signal that ended it.

    No signal counts after it: with its work done, a program must not end with the trace of what
    the interpreter was at on its way out.
    """
    try:
        raise_on_signals()
        status = program()
        _ignore_signals()
    except Stopped as stopped:
        return stopped.status
    return status


def raise_on_signals() -> None:
    """Nothing; from now on SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread."""
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def _ignore_signals() -> None:
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[int]:
    """The signals of SIGNALS that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def _raise(number: int, _frame: FrameType | None) -> None:
    # A second signal must not break the clean-up that the first one began, be it another one: a
    # terminal that closes may send SIGHUP and SIGTERM together.
    _ignore_signals()
    raise Stopped(number)
