"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mien.engines.errors import VideoError


def write_whole(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Nothing; writes `data` beside `path` and gives it that name once it is whole.

    Raises VideoError where `path` exists (unless `overwrite`) or cannot be written.
    """
    with _part_of(path, overwrite=overwrite) as part, part.open("wb") as file:
        file.write(data)


def copy_whole(source: Path, path: Path, *, overwrite: bool = False) -> None:
    """Nothing; copies the bytes of `source` to `path` in the manner of `write_whole`."""
    with _part_of(path, overwrite=overwrite) as part:
        shutil.copyfile(source, part)


@contextlib.contextmanager
def _part_of(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new name beside `path` to write to; it takes the place of `path` where all went well."""
    if path.exists() and not overwrite:
        raise VideoError(f"the output {path} exists; add --overwrite to replace it")
    part = path.with_name(f".{path.stem[:50]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
