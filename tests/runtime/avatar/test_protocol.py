from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mien.engines.errors import DeviceError, UsageError
from mien.runtime.avatar.protocol import (
    MAX_LINE,
    Command,
    SocketServer,
    answer_stream,
    parse_command,
)
from mien.runtime.target import parse_target

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no local sockets")


class Heard:
    """Takes commands in the place of an avatar."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def __call__(self, command: Command) -> dict[str, Any]:
        self.commands.append(command)
        return {"count": len(self.commands)}


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def server(tmp_path: Path, heard: Heard) -> Iterator[SocketServer]:
    with SocketServer(tmp_path / "a", heard) as opened:
        yield opened


def connected(server: SocketServer) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(server.path))
    return client


def asked(client: socket.socket, data: bytes) -> Any:
    client.sendall(data)
    with client.makefile("rb") as lines:
        return json.loads(lines.readline())


def test_a_client_steers(server: SocketServer, heard: Heard) -> None:
    with connected(server) as client:
        line = b'{"id": 7, "emotion": "happy", "ease": 0.2, "look": [0.5, -1], "blink": true}\n'
        assert asked(client, line) == {"state": {"count": 1}, "id": 7}
        assert asked(client, b'{"say": "hello"}\n')["state"] == {"count": 2}
    first, second = heard.commands
    assert first.target == parse_target("happy")
    assert (first.ease_s, first.look, first.blink) == (0.2, (0.5, -1.0), True)
    assert (second.say, second.expresses, second.looks) == ("hello", False, False)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"happy", "JSON"),
        (b"[" * 9000, "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b'{"emotion": "hapy"}', "did you mean"),
        (b'{"emotion": 3}', "text"),
        (b'{"emotion": "sad", "mix": "sad"}', "either"),
        (b'{"mix": {"happy": 2}}', "weight"),
        (b'{"intensity": 9}', "intensity"),
        (b'{"ease": "soon"}', "ease"),
        (b'{"look": [2, 0]}', "look"),
        (b'{"blink": 1}', "blink"),
        (b'{"dance": true}', "unknown key"),
        (b'{"say": "' + b"x" * MAX_LINE + b'"}', "bytes"),
        (b"x" * (1 << 20), "bytes"),
    ],
)
def test_a_bad_line_costs_an_error_and_the_next_is_served(
    server: SocketServer, heard: Heard, line: bytes, word: str
) -> None:
    with connected(server) as client:
        assert word in asked(client, line + b"\n")["error"]
        assert "state" in asked(client, b"{}\n")
    assert len(heard.commands) == 1


def test_a_client_that_does_not_read_loses_its_connection_only(server: SocketServer) -> None:
    with connected(server) as deaf, connected(server) as other:
        cut_off = False
        for _ in range(10_000):
            try:
                deaf.sendall(b"x\n" * 4096)
            except OSError:  # noqa: PERF203 -- it ends the loop
                cut_off = True
                break
        assert cut_off
        assert "state" in asked(other, b"{}\n")


def test_the_socket_is_private_and_goes_with_the_avatar(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "a"
    with SocketServer(path, heard):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(DeviceError, match="already"):
            SocketServer(path, heard)
    assert not path.exists()


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "a"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with SocketServer(path, heard) as server, connected(server) as client:
        assert "state" in asked(client, b"{}\n")
    path.write_text("precious")
    with pytest.raises(DeviceError):
        SocketServer(path, heard)
    assert path.read_text() == "precious"


def test_standard_input_is_answered_line_by_line(heard: Heard) -> None:
    (read, told), (answers, write) = os.pipe(), os.pipe()
    thread: threading.Thread = answer_stream(read, write, heard)
    os.write(told, b'{"emotion": "sad"}\noops\n')
    os.close(told)
    thread.join(20)
    said = os.read(answers, 4096).splitlines()
    assert [sorted(json.loads(line)) for line in said] == [["state"], ["error"]]
    for descriptor in (read, answers, write):
        os.close(descriptor)


def test_a_mix_may_be_an_object() -> None:
    found = parse_command({"mix": {"happy": 0.6, "surprise": 0.4}}).target
    assert found == parse_target("happy:0.6+surprised:0.4")
    assert parse_command({"emotion": "none"}) == Command(expresses=True)
    with pytest.raises(UsageError):
        parse_command({"mix": {"happy": True}})
