"""How an avatar is steered: lines of JSON on standard input and on a local socket.

A line is an object with any of `emotion`, `mix`, `intensity`, `ease`, `blink`, `look`, `say`,
`mouth`, and an `id` that the answer repeats; an empty one asks for the state. The answer is a line
`{"state": {...}}` or `{"error": "..."}`. A line acts as a whole or not at all. What a client does
wrong costs that client an error, or its connection, and nobody else anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mien.engines.errors import DeviceError, MienError, UsageError, short_line
from mien.runtime.target import (
    EMOTIONS,
    MAX_STRENGTH,
    Target,
    emotion_name,
    finite_number,
    is_no_edit,
    parse_goal,
    shortened,
)

MAX_LINE: Final = 16_384  # bytes
MAX_UNREAD: Final = 65_536  # bytes of answers; a client that leaves more unread is cut off
MAX_CLIENTS: Final = 16
MAX_EASE_S: Final = 60.0
KEYS: Final = ("id", "emotion", "mix", "intensity", "ease", "blink", "look", "say", "mouth")
_READ: Final = 65_536
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Command:
    """What one line asks for; None leaves a thing as it is.

    expresses: whether `target` counts, which is None for the picture's own expression. looks:
    likewise for `look`, -1..1 to the viewer's right and down, None for about by chance. mouth: how
    far open, 0..1, and how wide, -1 round to 1 spread, for a moment.
    """

    target: Target | None = None
    expresses: bool = False
    intensity: float | None = None
    ease_s: float | None = None
    blink: bool = False
    look: tuple[float, float] | None = None
    looks: bool = False
    say: str | None = None
    mouth: tuple[float, float] | None = None


Steer = Callable[[Command], dict[str, Any]]


def parse_command(said: object) -> Command:
    """The command of a decoded line. Raises UsageError."""
    if not isinstance(said, dict):
        raise UsageError('a command is a JSON object such as {"emotion": "happy"}')
    unknown = [name for name in said if name not in KEYS]
    if unknown:
        raise UsageError(f"unknown key {shortened(unknown[0])} (known: {', '.join(KEYS)})")
    if "emotion" in said and "mix" in said:
        raise UsageError("give either emotion or mix, not both")
    goal = _goal(said)
    blink = said.get("blink", False)
    if not isinstance(blink, bool):
        raise UsageError(f"blink is true or false, not {shortened(blink)}")
    say = said.get("say")
    if say is not None and not isinstance(say, str):
        raise UsageError(f"say is a text, not {shortened(say)}")
    return Command(
        target=goal,
        expresses="emotion" in said or "mix" in said,
        intensity=_number(said, "intensity", MAX_STRENGTH),
        ease_s=_number(said, "ease", MAX_EASE_S),
        blink=blink,
        look=_look(said.get("look")),
        looks="look" in said,
        say=say,
        mouth=_mouth(said.get("mouth")),
    )


def _goal(said: dict[str, Any]) -> Target | None:
    if "mix" in said and isinstance(said["mix"], dict):
        weights = dict.fromkeys(EMOTIONS, 0.0)
        for name, weight in said["mix"].items():
            given = finite_number(weight)
            if given is None or not 0 <= given <= 1:
                raise UsageError(f"the weight of {shortened(name)} lies in 0..1")
            weights[emotion_name(name)] += given
        return Target(tuple(weights.values()))
    text = said.get("emotion", said.get("mix", "none"))
    if not isinstance(text, str):
        raise UsageError(f"an emotion is a text such as 'happy', not {shortened(text)}")
    return None if is_no_edit(text) else parse_goal(text)


def _number(said: dict[str, Any], name: str, most: float) -> float | None:
    if name not in said:
        return None
    number = finite_number(said[name])
    if number is None or not 0 <= number <= most:
        raise UsageError(f"{name} must lie in 0..{most:g}, not {shortened(said[name])}")
    return number


def _look(at: object) -> tuple[float, float] | None:
    if at is None:
        return None
    if isinstance(at, list) and len(at) == 2:
        x, y = (finite_number(value) for value in at)
        if x is not None and y is not None and max(abs(x), abs(y)) <= 1:
            return (x, y)
    raise UsageError(f"look is [x, y] with both in -1..1, or null, not {shortened(at)}")


def _mouth(shape: object) -> tuple[float, float] | None:
    if shape is None:
        return None
    if isinstance(shape, list) and len(shape) == 2:
        opening, width = (finite_number(value) for value in shape)
        if opening is not None and width is not None and 0 <= opening <= 1 and abs(width) <= 1:
            return (opening, width)
    raise UsageError(
        f"mouth is [opening, width] in 0..1 and -1..1, or null, not {shortened(shape)}"
    )


def answer_to(line: bytes, steer: Steer) -> bytes:
    """The answering line to a line, whatever that holds."""
    name: object = None
    try:
        said = json.loads(line)
        if isinstance(said, dict) and isinstance(said.get("id"), (str, int)):
            name = said["id"]
        answer: dict[str, Any] = {"state": steer(parse_command(said))}
    except MienError as error:
        answer = {"error": short_line(error)}
    except (ValueError, RecursionError):
        answer = {"error": 'this line is no JSON; send one such as {"emotion": "happy"}'}
    if name is not None:
        answer["id"] = name
    return json.dumps(answer).encode() + b"\n"


class Lines:
    """Cuts what a client sends into lines, and answers each; a line too long is an error once."""

    def __init__(self, steer: Steer) -> None:
        self._steer = steer
        self._kept = b""
        self._skips = False

    def __call__(self, data: bytes) -> bytes:
        """The answers to the lines that end in `data`."""
        answers = []
        *whole, self._kept = (self._kept + data).split(b"\n")
        for line in whole:
            if self._skips or len(line) > MAX_LINE:
                answers += [] if self._skips else [too_long()]
                self._skips = False
            elif line.strip():
                answers.append(answer_to(line, self._steer))
        if len(self._kept) > MAX_LINE:
            answers += [] if self._skips else [too_long()]
            self._kept, self._skips = b"", True
        return b"".join(answers)


def too_long() -> bytes:
    """The answer to a line of more than MAX_LINE bytes."""
    return json.dumps({"error": f"a line has up to {MAX_LINE:,} bytes"}).encode() + b"\n"


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    lines: Lines
    unread: bytearray = field(default_factory=bytearray)


class SocketServer:
    """Answers lines at a Unix socket that only its user can open, while it is entered.

    Raises DeviceError where there can be none: on Windows, or where another avatar listens.
    """

    def __init__(self, path: Path, steer: Steer) -> None:
        self.path = path
        self._steer = steer
        self._clients: dict[int, _Client] = {}
        self._ended = threading.Event()
        self._socket = _listening(path)
        self._made = path.stat().st_ino
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="mien-avatar", daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(2.0)
        for number in list(self._clients):
            self._drop(number)
        self._selector.close()
        self._socket.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._made:  # not that of an avatar started since
                self.path.unlink()

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, events in self._selector.select(_LOOK_S):
                if key.fileobj is self._socket:
                    self._welcome()
                    continue
                try:
                    self._attend(key.fd, events)
                except OSError:
                    self._drop(key.fd)

    def _welcome(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # gone already
            return
        connection.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS:
            with contextlib.suppress(OSError), connection:
                connection.send(b'{"error": "too many clients; close one"}\n')
            return
        self._clients[connection.fileno()] = _Client(connection, Lines(self._steer))
        self._selector.register(connection, selectors.EVENT_READ)

    def _attend(self, number: int, events: int) -> None:
        """Read from one client, and write to it. Raises OSError where it is gone."""
        client = self._clients[number]
        if events & selectors.EVENT_READ:
            data = client.connection.recv(_READ)
            if not data:
                self._drop(number)
                return
            client.unread += client.lines(data)
        if client.unread:
            with contextlib.suppress(BlockingIOError):
                del client.unread[: client.connection.send(client.unread)]
        if len(client.unread) > MAX_UNREAD:
            self._drop(number)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unread else 0)
        self._selector.modify(client.connection, wanted)

    def _drop(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(client.connection)
            client.connection.close()


def _listening(path: Path) -> socket.socket:
    """A socket at a path, in the place of one that nobody listens at. Raises DeviceError."""
    if not hasattr(socket, "AF_UNIX"):
        raise DeviceError("this system has no local sockets; steer by standard input")
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            with socket.socket(socket.AF_UNIX) as other:
                other.settimeout(1.0)
                if other.connect_ex(str(path)) == 0:
                    raise DeviceError(f"an avatar listens at {path} already; choose another socket")
            path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(MAX_CLIENTS)
    except OSError as error:
        listening.close()
        raise DeviceError(f"cannot listen at {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    listening.setblocking(False)
    return listening


def answer_stream(read: int, write: int | None, steer: Steer) -> threading.Thread:
    """A thread that answers the lines of a file descriptor until it ends.

    write: where answers go, None for nowhere. What reads them slowly holds up this stream alone.
    """

    def run() -> None:
        lines = Lines(steer)
        with contextlib.suppress(OSError):
            while data := os.read(read, _READ):
                answers = lines(data)
                while answers and write is not None:
                    answers = answers[os.write(write, answers) :]

    thread = threading.Thread(target=run, name="mien-lines", daemon=True)
    thread.start()
    return thread


def may_read(descriptor: int) -> bool:
    """Whether a program may read there now: not in a terminal's background, which stops it."""
    try:
        if not os.isatty(descriptor):
            os.fstat(descriptor)
            return True
        return sys.platform == "win32" or os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
