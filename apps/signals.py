"""Being stopped: Ctrl-C and a polite kill end an edit the same way."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(BaseException):
    """A signal that ends the program. status: what a shell reports for it, 128 + its number.

    No KeyboardInterrupt, which the command line library would turn into an error of its own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def raise_on_signals() -> None:
    """Nothing; from now on SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread."""
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def _numbers() -> list[int]:
    """The signals of SIGNALS that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def _raise(number: int, _frame: FrameType | None) -> None:
    # A second signal must not break the clean-up that the first one began, be it another one: a
    # terminal that closes may send SIGHUP and SIGTERM together.
    for other in _numbers():
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)
