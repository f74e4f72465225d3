"""Addresses of streams in the place of files: how they are told, and shown without their secrets.

A path makes one slash of two: what a person gave as `rtsp://host/video` is then `rtsp:/host/video`,
and no file. Here it is an address again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mien.engines.errors import UsageError

STANDARD_INPUT: Final = "-"
FILE_REMEDY: Final = "give the name of a file"
# Two characters at least: `C:/clips` is a folder.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SQUEEZED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]+(?=[^/\\])")
# User and password, then host and port (RFC 3986, 3.2).
_AUTHORITY: Final = re.compile(
    r"(?:[^/?#]*@)?(?P<place>(?:\[[^\]@/?#]*\]|[^:@/?#\[\]]*)(?::[0-9]*)?)(?=[/?#]|$)"
)


def is_address(what: str) -> bool:
    """Whether that is the address of a stream, and no file."""
    return _SCHEME.match(what) is not None


def shown_address(what: str) -> str:
    """An address for people: without the user, the password and the keys that it may have.

    Also of one that nobody can read, such as one whose password has characters that must be quoted.
    """
    if what == STANDARD_INPUT:
        return "standard input"
    found = _SCHEME.match(what)
    if found is None:
        return what
    rest = what[found.end() :]
    authority = _AUTHORITY.match(rest)
    if authority is not None:
        rest = authority["place"] + rest[authority.end() :]
    else:  # such as a password with a slash in it
        rest = rest.rpartition("@")[2] if "@" in rest else "..."
    return f"{found[1].lower()}://{re.split('[?#]', rest)[0]}"


def address_of(path: Path) -> str | None:
    """The address that was given where a file is wanted, None where it is a file's path."""
    text = str(path)
    found = _SQUEEZED.match(text)
    if found is None or path.exists():
        return None
    return f"{found[1]}://{text[found.end() :]}"


def check_files(values: Iterable[object], remedy: str = FILE_REMEDY) -> None:
    """Raise UsageError where an address was given for a file.

    values: of options or arguments; paths among them, also in lists, are looked at. remedy: what
    to do, with the address in the place of `{address}`.
    """
    for value in values:
        for path in value if isinstance(value, (list, tuple)) else (value,):
            address = address_of(path) if isinstance(path, Path) else None
            if address is not None:
                shown = shown_address(address)
                raise UsageError(
                    f"{shown} is an address, and a file is wanted; {remedy.format(address=shown)}"
                )
