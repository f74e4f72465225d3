"""Being stopped: Ctrl-C and a polite kill end a program the same way, a second Ctrl-C at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# A wrapper passes a terminal's Ctrl-C on to a child that has it already, and a terminal that closes
# sends several signals: what comes this soon after the first one is no second request.
ONE_REQUEST_S = 0.5
PATIENCE_S = 1.5  # then a program that is still cleaning up says so
PATIENCE = b"mien: stopping; Ctrl-C again ends it at once\n"


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
        status = stopped.status
    _leave_at_once(status)
    return status


def _leave_at_once(status: int) -> None:
    """End the process where work was left behind in a thread, which nothing can stop."""
    worker = sys.modules.get("mien.engines.system.process")
    if worker and worker.is_work_left():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def raise_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread from now on.

    A second SIGINT ends the process at once, also where the main thread never gets to run Python
    again: a thread of its own hears of signals through a socket that the C handler writes to.
    """
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    # The interpreter gives signals back their default action on its way out: too late to count.
    atexit.register(_discard_signals)
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(heard, told), name="mien-signals", daemon=True).start()


def _listen(heard: socket.socket, told: socket.socket) -> None:
    """End the process at a second SIGINT. told: held here, so that it stays open."""
    _next_signal(heard)
    first_s = time.monotonic()
    heard.settimeout(PATIENCE_S)
    while True:
        number = _next_signal(heard)
        if number is None:
            with contextlib.suppress(OSError):
                os.write(2, PATIENCE)
            heard.settimeout(None)
        elif number == signal.SIGINT and time.monotonic() - first_s > ONE_REQUEST_S:
            told.close()
            os._exit(128 + number)


def _next_signal(heard: socket.socket) -> int | None:
    """The number of the next signal that ends programs, None where none came in time."""
    while True:
        try:
            number = heard.recv(1)[0]
        except TimeoutError:
            return None
        if number in _numbers():
            return number


def _ignore_signals() -> None:
    for number in _numbers():
        signal.signal(number, _ignore)


def _discard_signals() -> None:
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[int]:
    """The signals of SIGNALS that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. SIG_IGN would also keep the C handler from telling the listening thread."""


def _raise(number: int, _frame: FrameType | None) -> None:
    # A second signal must not break the clean-up that the first one began, be it another one: a
    # terminal that closes may send SIGHUP and SIGTERM together.
    _ignore_signals()
    raise Stopped(number)
