"""A lock between processes, given back by the system even where its holder is killed."""

from __future__ import annotations

import errno
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

# What the systems say of a lock that another one holds; Windows says the last.
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
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
    Raises EngineError where `gave_up` says so, and where the file cannot be locked.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        told = False
        while not _try_lock(descriptor, path):
            if not told:
                on_wait()
                told = True
            if gave_up():
                raise EngineError(f"waiting for {path} was called off")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)  # gives the lock back


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:  # waiting would never end
            raise _unusable(path, error) from error
        return False
    return True


def _unusable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"cannot lock {path}: {error.strerror}; remove it, or set XDG_CACHE_HOME to a folder on "
        "a disk of this machine"
    )
