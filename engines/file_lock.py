"""A lock between processes, given back by the system even where its holder is killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mien.engines.errors import EngineError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL_S = 0.05  # between two tries; builds take seconds to minutes


@contextmanager
def file_lock(
    path: Path,
    *,
    on_wait: Callable[[], None] = lambda: None,
    gave_up: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Holds the lock on the file `path`, which is made and stays.

    on_wait: called once where another process, or thread, holds it. gave_up: asked between tries.
    Raises EngineError where `gave_up` says so.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        told = False
        while not _try_lock(descriptor):
            if not told:
                on_wait()
                told = True
            if gave_up():
                raise EngineError(f"waiting for {path} was called off")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)  # gives the lock back


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
