"""Links to other programs: what they say becomes commands, what a face shows goes out to them.

A link is an output of live video (`ThreadedOutput`): whatever becomes of the other program, frames
flow on, what is wrong is its message, and it goes on where the other side comes back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from mien.engines.errors import DeviceError, MienError, UsageError
from mien.engines.system.addresses import shown_address
from mien.engines.system.install import extras_line
from mien.runtime.avatar.protocol import Command, Steer
from mien.runtime.live.outputs.output import ThreadedOutput, told
from mien.runtime.live.values import LiveFrame, OutputStatus
from mien.runtime.target import shortened


@dataclass(frozen=True, slots=True)
class Address:
    """The other side of a link. path: without its first slash. user, password: empty for none."""

    text: str
    host: str
    port: int
    path: str = ""
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of link. opener: module and function. extra: of pyproject.toml.

    is_steered: whether it takes commands and so needs something that they act on.
    """

    opener: str
    extra: str
    port: int
    is_steered: bool


_HERE: Final = "mien.runtime.avatar.adapters"
KINDS: Final = {
    "vmc": Kind(f"{_HERE}.vmc:open_sender", "vmc", 39539, is_steered=False),
    "vmc-in": Kind(f"{_HERE}.vmc_in:open_receiver", "vmc", 39539, is_steered=True),
    "mqtt": Kind(f"{_HERE}.mqtt:open_receiver", "mqtt", 1883, is_steered=True),
    "ros": Kind(f"{_HERE}.ros:open_link", "ros", 9090, is_steered=False),
    "vts": Kind(f"{_HERE}.vtube:open_sender", "vts", 8001, is_steered=False),
}


def parse_link(text: str) -> tuple[Kind, Address]:
    """The kind and address of `KIND://[USER:PASSWORD@]HOST[:PORT][/PATH]`. Raises UsageError."""
    known = ", ".join(f"{name}://" for name in KINDS)
    shown = shortened(shown_address(text))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(
            f"the link {shown} is no address; its port must be a number, and what is special in a "
            "password quoted (%2F for /)"
        ) from error
    if parts.scheme not in KINDS or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"the link {shown} is no KIND://HOST[:PORT][/PATH] (kinds: {known})")
    kind = KINDS[parts.scheme]
    if port == 0:
        raise UsageError(f"the link {shown} has the port 0; name a real one")
    address = Address(
        text=f"{parts.scheme}://{parts.hostname}:{port or kind.port}",  # without a password
        host=parts.hostname,
        port=port or kind.port,
        path=unquote(parts.path.removeprefix("/")),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
    return kind, address


def open_link(text: str, steer: Steer | None) -> ThreadedOutput:
    """The link of an address. steer: None where there is nothing to steer, as at a camera.

    Raises UsageError for an address that makes no sense, DeviceError where the link's package is
    missing or its own side cannot be opened. The other side need not be there yet.
    """
    kind, address = parse_link(text)
    if kind.is_steered and steer is None:
        raise UsageError(f"{address.text} takes commands, and only an avatar takes those")
    module, _, name = kind.opener.partition(":")
    try:
        opener = cast(
            "Callable[[Address, Steer | None], ThreadedOutput]",
            getattr(importlib.import_module(module), name),
        )
    except ImportError as error:
        raise DeviceError(
            f"{address.text} needs packages that are not installed ({error.name}); "
            f"{extras_line(kind.extra)}"
        ) from error
    return opener(address, steer)


class Receiver(ThreadedOutput):
    """A link that only takes commands. trouble: what is wrong, in one line, or None."""

    def __init__(self, name: str, steer: Steer) -> None:
        super().__init__(name)
        self.trouble: str | None = None
        self._steer = steer

    @property
    def watched(self) -> bool:
        """False: nobody sees the face here."""
        return False

    def offer(self, frame: LiveFrame) -> None:
        """Do nothing: no picture goes out."""

    def status(self) -> OutputStatus:
        """What is wrong with it, if anything."""
        return OutputStatus(self.name, 0, 0, self.trouble)

    def steer(self, command: Command) -> dict[str, Any] | None:
        """The state after a command, None where that was refused, which is then the trouble."""
        try:
            state = self._steer(command)
        except MienError as error:
            self.trouble = told(error)
            return None
        self.trouble = None
        return state

    def _show(self, frame: LiveFrame) -> None:
        """Do nothing, as `offer`."""
