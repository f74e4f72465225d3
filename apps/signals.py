"""Being stopped: Ctrl-C and a polite kill end an edit the same way."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(BaseException):
    """A signal that ends the program. status: what a shell reports for it, 128 + its number.

    No KeyboardInterrupt, which the command line library would turn into an error of its own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def raise_on_signals() -> None:
    """Nothing; from now on SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def _raise(number: int, _frame: FrameType | None) -> None:
    # a second signal must not break the clean-up that the first one began
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)
