"""What libraries written in C print by themselves."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

STDERR = 2
# How libjpeg and libpng, which OpenCV does not stop, begin their lines.
KNOWN = ("Corrupt JPEG", "Premature end of JPEG", "Invalid SOS", "Warning: unknown JFIF", "libpng ")


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Takes in what picture libraries print on standard error; the list holds it at the end.

    Lines of anything else, such as another thread, are passed on.
    """
    lines: list[str] = []
    try:
        kept = os.dup(STDERR)
    except OSError:  # it is closed
        yield lines
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), STDERR)
        try:
            yield lines
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                text = line.decode(errors="replace").strip()
                if text.startswith(KNOWN):
                    lines.append(text)
                else:
                    os.write(STDERR, line)
