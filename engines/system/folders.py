"""Folders that only this user may read: one for a run's temporary files, and mien's cache.

A run's folder outlives neither the run nor its being killed. The cache keeps what mien made on this
machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mien.engines.errors import EngineError
from mien.engines.system.file_lock import try_lock

_PREFIX: Final = "mien-run-"
_NAME: Final = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_TRIES: Final = 100


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder, this user's alone, in the system's temporary one; removed at the end.

    It is locked as long as the run lives. First those are removed whose run was killed (not on
    Windows, which cannot lock a folder).
    """
    if sys.platform == "win32":
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as made:
            yield Path(made)
        return
    remove_left_folders()
    folder, descriptor = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_left_folders() -> None:
    """Remove the private folders of this user's runs that were killed. Never raises OSError."""
    base = Path(tempfile.gettempdir())
    try:
        names = [path.name for path in base.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            descriptor = _opened(base / name)
            try:
                is_own = os.fstat(descriptor).st_uid == os.geteuid()
                if is_own and try_lock(descriptor):
                    shutil.rmtree(base / name, ignore_errors=True)
            finally:
                os.close(descriptor)


def _made() -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            descriptor = _opened(folder)
        except FileNotFoundError:  # another run took it for left before it was locked
            continue
        with suppress(OSError):  # where there are no locks, nobody removes it either
            if not try_lock(descriptor):
                os.close(descriptor)
                continue
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)
    raise OSError(f"no folder can be made in {tempfile.gettempdir()}")


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


FOLDER_MODE, FILE_MODE = 0o700, 0o600
PART = ".part"


def user_cache() -> Path:
    """Where this user's caches lie, by the custom of the system. Raises EngineError."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or ""
        if not Path(base).is_absolute():  # by its specification to be left out of account
            base = "~/.cache"
    try:
        return Path(base).expanduser() / "mien"
    except RuntimeError as error:  # a user without a name, as in a container
        raise EngineError(
            "this user has no home folder for the plans; set XDG_CACHE_HOME to a folder of your own"
        ) from error


class CacheFolder:
    """A private folder: made with mode 0700, its files 0600.

    Raises EngineError where the folder belongs to somebody else, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            found = path.stat()
            self._check_owner(path, found)
            if sys.platform != "win32" and stat.S_IMODE(found.st_mode) != FOLDER_MODE:
                path.chmod(FOLDER_MODE)
        except OSError as error:
            raise EngineError(
                f"cannot use the cache folder {path}: {error.strerror}; fix it, or set "
                "XDG_CACHE_HOME to a folder you may write to"
            ) from error

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none that only this user can write."""
        # NONBLOCK, for a pipe would be waited for.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self.path / name, flags)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or not _is_private(found):
                return None
            try:
                return file.read()
            except OSError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write the file whole, or leave it as it was. Raises EngineError."""
        part = self.path / f".{name}.{secrets.token_hex(4)}{PART}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(part, flags, FILE_MODE), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path / name)
        except OSError as error:
            raise EngineError(
                f"cannot write {self.path / name}: {error.strerror}; make room, or set "
                "XDG_CACHE_HOME to another folder"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def remove(self, name: str) -> None:
        """Remove the file, where it is there and may be removed."""
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    def names(self, suffix: str) -> list[str]:
        """The files that end so, sorted."""
        return sorted(path.name for path in self.path.glob(f"[!.]*{suffix}"))

    def remove_parts(self) -> list[str]:
        """What killed writers left, removed. Only for who holds the folder's lock."""
        parts = sorted(self.path.glob(f".*{PART}"))
        for part in parts:
            self.remove(part.name)
        return [part.name for part in parts]

    def _check_owner(self, path: Path, found: os.stat_result) -> None:
        if sys.platform != "win32" and found.st_uid != os.getuid():
            raise EngineError(
                f"the cache folder {path} belongs to another user, and a plan is code; set "
                "XDG_CACHE_HOME to a folder of your own"
            )


def _is_private(found: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
