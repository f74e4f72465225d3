"""Files that get their name only once they are whole, and what killed runs left of others.

A file is written beside its destination under a name that cannot be guessed, by a process that
holds a lock on it until it has its own name. The system gives the lock back even where the writer
is killed: so the next run can tell what nobody will finish from what another run is writing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import platform
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mien.engines.errors import MienError, VideoError
from mien.engines.system.file_lock import try_lock

FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
UNFINISHED: Final = "_unfinished"  # in the names of recordings that were cut off
_NAME: Final = re.compile(
    r"\.(?P<stem>.{0,40})\.mien(?P<recording>-rec)?-(?P<host>[0-9a-f]{4})-[0-9a-f]{12}\.part"
    r"(?P<suffix>\.[^./]{1,15})?",
    re.DOTALL,
)
_NAME_BYTES: Final = 255  # that a file's name may have, nearly everywhere
_TRIES: Final = 1000
_ACROSS_S: Final = 86_400.0  # a lock of another machine may not be seen here
_UNLOCKED_S: Final = 60.0  # Windows: nothing guards a file between its closing and its renaming
# What systems say of a call that they, or the file system, do not have.
_UNSUPPORTED: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK}
)
_RENAME_NOREPLACE: Final = 1
_HAS_FOLDERS: Final = {os.open, os.link, os.rename, os.unlink, os.stat} <= os.supports_dir_fd
_SAFE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BYTES: Final = getattr(os, "O_BINARY", 0)


class WholeWriter(io.FileIO):
    """A file whose `write` takes all that it is given. name: its final one, for FFmpeg."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "wb")
        self.name = name

    def write(self, data: Any, /) -> int:
        """The size of `data`, bytes; the system may take less at once, unnoticed by FFmpeg."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            left = left[super().write(left) :]
        return size


class PartialFile:
    """A file being written beside `path`, which it becomes once it is whole.

    file: to write to and seek in. is_done: whether it has a name, or is removed. As a context:
    what was neither published nor kept is removed at its end. The file has the mode of any new
    file. Its folder is held: where another one is put in its place meanwhile, nothing is left in
    either.

    overwrite: replace a file that has the name by then. error: what is raised. is_recording: see
    `rescue_recordings`. Whether the name is free is asked with `check_free`, before the work
    begins, and again at its end.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        error: type[MienError] = VideoError,
        is_recording: bool = False,
    ) -> None:
        self.path = path
        self._overwrite = overwrite
        self._error = error
        self._folder: int | None = None
        self.is_done = False
        try:
            if _HAS_FOLDERS:
                flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
                self._folder = os.open(path.parent, flags | getattr(os, "O_CLOEXEC", 0))
            self.file = self._created("-rec" if is_recording else "")
        except OSError as trouble:
            self._close_folder()
            raise self.told(trouble) from trouble

    @property
    def place(self) -> Path:
        """Where the file lies until it has its name."""
        return self.path.with_name(self._name)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append `data`. Raises the error that was given."""
        try:
            self.file.write(data)
        except OSError as trouble:
            raise self.told(trouble) from trouble

    def sync(self) -> None:
        """Bring what is written to the disk, for what must be whole even after a power failure.

        Raises the error that was given.
        """
        try:
            os.fsync(self.file.fileno())
        except OSError as trouble:
            raise self.told(trouble) from trouble

    def publish(self, *, durable: bool = False) -> None:
        """Give the file its name. durable: `sync` it first.

        Raises the error that was given. Where the name was taken meanwhile, the file is kept under
        another one, which the message tells.
        """
        if durable:
            self.sync()
        try:
            os.close(os.dup(self.file.fileno()))  # when some network mounts tell that they are full
            self._check_place()
            self._rename(self.path.name, replace=self._overwrite)
        except FileExistsError as trouble:
            raise self._error(
                f"the output {self.path} appeared meanwhile and was not replaced; "
                f"the finished file is kept as {self.keep()}"
            ) from trouble
        except OSError as trouble:
            raise self.told(trouble) from trouble

    def keep(self, tag: str = "") -> Path:
        """The free name beside `path` that the file has from now on, as far as it is written.

        tag: comes after the stem. Raises the error that was given.
        """
        try:
            for name in free_names(self.path, tag):
                with contextlib.suppress(FileExistsError):
                    self._rename(name, replace=False)
                    return self.path.with_name(name)
        except OSError as trouble:
            raise self.told(trouble) from trouble
        raise self._error(f"cannot write {self.path}: its folder has no free name like it")

    def discard(self) -> None:
        """Remove what was written; do nothing where it has a name."""
        if self.is_done:
            return
        if sys.platform == "win32":  # an open file can be neither removed nor renamed there
            self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._at(self._name), dir_fd=self._folder)
        self._close()

    def told(self, trouble: OSError) -> MienError:
        """What went wrong with the file, as the error that was given."""
        if trouble.errno in FULL_DISK:
            return self._error(
                f"the disk is full: {self.path} was not written; make room or choose another folder"
            )
        return self._error(f"cannot write {self.path}: {trouble.strerror or trouble}")

    def _created(self, kind: str) -> WholeWriter:
        suffix = self.path.suffix if 2 <= len(self.path.suffix) <= 16 else ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE | _BYTES
        for _ in range(_TRIES):
            token = f"{kind}-{_host()}-{secrets.token_hex(6)}"
            self._name = f".{self.path.stem[:40]}.mien{token}.part{suffix}"
            descriptor = os.open(self._at(self._name), flags, 0o666, dir_fd=self._folder)
            file = WholeWriter(descriptor, str(self.path))
            if _hold(descriptor) and self._is_in_place(descriptor):
                return file
            file.close()  # another run took it for a leftover before it was locked
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _rename(self, name: str, *, replace: bool) -> None:
        """Give the file a name in its folder, and release it."""
        if sys.platform == "win32":
            self.file.close()
        part, target, folder = self._at(self._name), self._at(name), self._folder
        if replace and not _is_other(target, folder):
            os.replace(part, target, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            rename_new(part, target, folder)
        self._close()

    def _check_place(self) -> None:
        """Raise OSError where the folder, or the file in it, is another one by now."""
        if self._folder is None:
            return
        try:
            is_same = os.path.samestat(os.fstat(self._folder), self.path.parent.stat())
        except FileNotFoundError:
            is_same = False
        if not is_same or not self._is_in_place(self.file.fileno()):
            raise OSError(errno.ENOENT, "its folder was removed or replaced meanwhile")

    def _is_in_place(self, descriptor: int) -> bool:
        if self._folder is None:
            return True
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(descriptor))

    def _at(self, name: str) -> str:
        """What a call that is given the folder takes for a name in it."""
        return name if self._folder is not None else str(self.path.with_name(name))

    def _close(self) -> None:
        self.is_done = True
        self.file.close()
        self._close_folder()

    def _close_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)


def check_free(path: Path, *, overwrite: bool, error: type[MienError] = VideoError) -> None:
    """Raise `error` where a file may not get the name `path`, before work begins on it."""
    try:
        mode = path.lstat().st_mode  # a link counts, also one to nothing
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as trouble:
        raise error(f"cannot write {path}: {trouble.strerror}") from trouble
    if stat.S_ISDIR(mode):
        raise error(f"the output {path} is a folder; give the name of a file")
    if not overwrite:
        raise error(f"the output {path} exists; add --overwrite to replace it")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise error(f"the output {path} is a device or a pipe; give the name of a file")


def _is_other(name: str, folder: int | None) -> bool:
    """Whether a name is taken by a folder or a device, and not by a file or a link."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def free_names(path: Path, tag: str = "") -> Iterator[str]:
    """Names like that of `path` to try: `a_2.mp4`, `a_3.mp4`; with a tag `a_tag.mp4` before."""
    numbers = [f"_{number}" for number in range(2, _TRIES)]
    for number in ["", *numbers] if tag else numbers:
        end, stem = f"{tag}{number}{path.suffix}", path.stem
        while stem and len(os.fsencode(stem + end)) > _NAME_BYTES:
            stem = stem[:-1]
        yield stem + end


def rename_new(part: str, name: str, folder: int | None = None) -> None:
    """Rename a file within its folder, and never replace another by it.

    folder: its descriptor, where both names are relative to it. A file system that has neither the
    call for it nor hard links (some network mounts) is left one way in which a kill between two
    calls leaves an empty file under the name; FAT on Linux has the call.

    Raises FileExistsError where the name is taken, OSError otherwise.
    """
    if sys.platform == "win32":
        os.rename(part, name)  # noqa: PTH104 -- refuses a name that is taken
        return
    ways = [rename_by_link, rename_by_claim]
    for way in [rename_by_call, *ways] if sys.platform == "linux" else ways:
        try:
            way(part, name, folder)
        except FileExistsError:  # noqa: PERF203 -- there are three ways at most
            raise
        except OSError as trouble:
            if way is rename_by_claim or trouble.errno not in _UNSUPPORTED:
                raise
        else:
            return


def rename_by_call(part: str, name: str, folder: int | None) -> None:
    """Rename with the kernel's own call, in one step. Source: renameat2(2)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    at = -100 if folder is None else folder  # AT_FDCWD
    if call(at, os.fsencode(part), at, os.fsencode(name), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def rename_by_link(part: str, name: str, folder: int | None) -> None:
    """Rename by a second name; a kill between the steps leaves both, and the file is whole."""
    follows = os.link not in os.supports_follow_symlinks  # then it is all the system can
    os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=follows)
    os.unlink(part, dir_fd=folder)


def rename_by_claim(part: str, name: str, folder: int | None) -> None:
    """Rename over an empty file of one's own making; see `rename_new`."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666, dir_fd=folder))
    try:
        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left in a folder; recordings stay. Never raises OSError."""
    for path, found in _partial_files(folder):
        if not found["recording"]:
            _if_left(path, found["host"], Path.unlink)


def rescue_recordings(folder: Path) -> list[Path]:
    """The recordings that were cut off in a folder, under names to be seen from now on."""
    rescued: list[Path] = []

    def rescue(path: Path) -> None:
        if path.stat().st_size == 0:
            path.unlink()
            return
        for name in free_names(folder / f"{found['stem']}{found['suffix'] or ''}", UNFINISHED):
            with contextlib.suppress(FileExistsError):
                rename_new(str(path), str(folder / name))
                rescued.append(folder / name)
                return

    for path, found in _partial_files(folder):
        if found["recording"]:
            _if_left(path, found["host"], rescue)
    return rescued


def _partial_files(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    try:
        names = [name for name in os.listdir(folder) if name.startswith(".")]  # noqa: PTH208
    except OSError:
        return []
    return [(folder / name, found) for name in names if (found := _NAME.fullmatch(name))]


def _if_left(path: Path, host: str, act: Callable[[Path], object]) -> None:
    """Call `act` with a partial file that no run is writing any more."""
    flags = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | _SAFE | _BYTES
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            is_left = _is_left(descriptor, path, host)
            if is_left and sys.platform != "win32":
                act(path)
        finally:
            os.close(descriptor)
        if is_left and sys.platform == "win32":
            act(path)


def _is_left(descriptor: int, path: Path, host: str) -> bool:
    """Whether no run writes a file; it is locked then. Raises OSError where that is unknown."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return False
    if sys.platform != "win32" and found.st_uid != os.geteuid():
        return False
    age_s = time.time() - found.st_mtime
    if host != _host() and age_s < _ACROSS_S:
        return False
    if sys.platform == "win32":
        return age_s > _UNLOCKED_S
    return try_lock(descriptor) and os.path.samestat(found, path.lstat())


def _hold(descriptor: int) -> bool:
    """Whether a new file is locked, or lies where there are no locks."""
    if sys.platform == "win32":  # where an open file cannot be removed
        return True
    try:
        return try_lock(descriptor)
    except OSError:
        return True


def _host() -> str:
    """A short sign of this machine."""
    return hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:4]
