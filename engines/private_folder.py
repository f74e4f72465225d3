"""A folder for what a run makes on its way, which outlives neither the run nor its being killed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mien.engines.file_lock import try_lock

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
