"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from mien.engines.system.partial_file import PartialFile, check_free, remove_leftovers


def write_whole(path: Path, data: bytes, *, overwrite: bool = False, durable: bool = False) -> None:
    """Write `data` beside `path`, and give it that name once it is whole.

    durable: whole even after a power failure. Raises VideoError where `path` exists (unless
    `overwrite`) or cannot be written; where it appeared meanwhile, the data is kept beside it.
    """
    check_free(path, overwrite=overwrite)
    remove_leftovers(path.parent)
    with PartialFile(path, overwrite=overwrite) as part:
        part.write(data)
        part.publish(durable=durable)


def copy_whole(source: Path, path: Path, *, overwrite: bool = False) -> None:
    """Copy the bytes of `source` to `path` in the manner of `write_whole`."""
    check_free(path, overwrite=overwrite)
    remove_leftovers(path.parent)
    with PartialFile(path, overwrite=overwrite) as part:
        copy_into(part, source)
        part.publish()


def copy_into(part: PartialFile, source: Path) -> None:
    """Let a partial file hold the bytes of `source`, and nothing else. Raises VideoError."""
    try:
        with source.open("rb") as file:
            part.file.seek(0)
            part.file.truncate()
            shutil.copyfileobj(file, part.file, 1 << 20)
    except OSError as error:
        raise part.told(error) from error
