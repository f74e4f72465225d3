"""A lock between processes, given back by the system even where its holder is killed."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien.engines.errors import EngineError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# What the systems say of a lock that another one holds; Windows says the last.
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
# What they say where there are no locks at all, as on some network mounts.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
POLL_S = 0.05  # between two tries; builds take seconds to minutes


@contextmanager
def file_lock(
    path: Path,
    *,
    on_wait: Callable[[], None] = lambda: None,
    gave_up: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """A context that holds the lock on the file `path`, which is made and stays.

    on_wait: called once where another process, or thread, holds it. gave_up: asked between tries.
    Raises EngineError where `gave_up` says so, and where the file cannot be locked.
    """
    descriptor = _opened(path, 0o600)
    try:
        told = False
        while not _is_locked(descriptor, path):
            if not told:
                on_wait()
                told = True
            if gave_up():
                raise EngineError(f"waiting for {path} was called off")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)  # gives the lock back


@contextmanager
def passing_lock(path: Path, *, patience_s: float = 60.0) -> Iterator[None]:
    """A context that holds the lock on the file `path`, which exists only as long: for instants.

    Where the file system has no locks, nothing is waited for. Raises EngineError where another
    process holds it for longer than `patience_s`, and where the file cannot be made.
    """
    descriptor = _passing(path, time.monotonic() + patience_s)
    try:
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(descriptor)


def _passing(path: Path, ends_s: float) -> int:
    """The descriptor of the locked file that has the name now."""
    while True:
        descriptor = _opened(path, 0o666)
        try:
            if try_lock(descriptor) and os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except FileNotFoundError:  # whoever held it has just removed it
            pass
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise _unusable(path, error) from error
        os.close(descriptor)
        if time.monotonic() > ends_s:
            raise EngineError(f"another process keeps {path} locked; end it and try again")
        time.sleep(POLL_S)


def try_lock(descriptor: int) -> bool:
    """Whether the lock on an open file is held from now on; False where another one has it.

    Raises OSError where the file cannot be locked at all.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise
    return True


def _is_locked(descriptor: int, path: Path) -> bool:
    try:
        return try_lock(descriptor)
    except OSError as error:  # waiting would never end
        raise _unusable(path, error) from error


def _opened(path: Path, mode: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"cannot lock {path}: {error.strerror}; remove it, or choose a folder on a disk of this "
        "machine (for what mien keeps itself, with XDG_CACHE_HOME)"
    )
