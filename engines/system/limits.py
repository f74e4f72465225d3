"""How much memory one input may ask for: decided here, before anything of that size is made.

A file states its own sizes, and seven kilobytes can state gigabytes. Whoever reads a file works
out from its header what reading it will take, and asks `check_memory` first.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final

from mien.engines.errors import MienError, UsageError

# Enough for pictures and videos of 8K; `--max-memory` lifts it.
MAX_MEMORY: Final = 1 << 30
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([KMGT]?)I?B?", re.IGNORECASE)


def check_memory(
    needed: int, what: str, *, limit: int = MAX_MEMORY, error: type[MienError]
) -> None:
    """Raise `error` where `needed` bytes are more than `limit`.

    what: the input and why it takes so much, as the beginning of a sentence:
        "in.png has 60000x60000 pixels and".
    """
    if needed > limit:
        raise error(
            f"{what} takes about {memory_text(needed)} of memory, more than the limit of "
            f"{memory_text(limit)}; if you trust the file, raise it: "
            f"--max-memory {_next_step(needed)}"
        )


def file_size(path: Path, *, error: type[MienError]) -> int:
    """The bytes of a regular file, to be known before it is read.

    Raises `error` for what is missing, and for a device or a pipe, which may never end.
    """
    try:
        found = path.stat()
    except ValueError as fault:  # a NUL in the name
        raise error(f"{str(path)!r} is no name of a file") from fault
    except OSError as fault:
        raise error(f"cannot read {path}: {fault.strerror}") from fault
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        raise error(f"cannot read {path}: it is {kind}, not a file")
    return found.st_size


def parse_memory(text: str) -> int:
    """The bytes of a size such as `2G`, `1.5 GB` or `800M`. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1 << 20:
        raise UsageError(f"{text[:40]!r} is no amount of memory; write 2G, or 800M (1M at least)")
    return size


def memory_text(size: int) -> str:
    """A size for people: `850 MB`, `6.3 GB`."""
    if size < 1 << 30:
        return f"{max(1, round(size / (1 << 20)))} MB"
    return f"{size / (1 << 30):,.1f} GB"


def _next_step(needed: int) -> str:
    """The size to ask for, rounded up, as `parse_memory` reads it; the largest where it cannot."""
    for unit, size in (("G", 1 << 30), ("T", 1 << 40)):
        count = -(-needed // size)
        if count <= 999_999:
            return f"{count}{unit}"
    return "999999T"
