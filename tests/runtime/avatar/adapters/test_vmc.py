from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("pythonosc")

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import ThreadingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient

from mien.engines.errors import DeviceError, UsageError
from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.target import parse_target
from tests.runtime.avatar.adapters.faces import (
    Heard,
    live_frame,
    noise,
    portrait,
    still_avatar,
    until,
)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def client(port: int) -> Iterator[SimpleUDPClient]:
    with SimpleUDPClient("127.0.0.1", port) as opened:
        yield opened


@pytest.fixture
def link(heard: Heard, port: int) -> Iterator[ThreadedOutput]:
    opened = open_link(f"vmc-in://127.0.0.1:{port}", heard)
    yield opened
    opened.close()


def send(client: SimpleUDPClient, **values: float) -> None:
    for name, value in values.items():
        client.send_message("/VMC/Ext/Blend/Val", [name, value])
    client.send_message("/VMC/Ext/Blend/Apply", [])


def test_presets_of_both_vrms_become_expressions(
    link: ThreadedOutput, heard: Heard, client: SimpleUDPClient
) -> None:
    send(client, happy=0.75)
    assert heard.wait_for(lambda c: c.expresses and c.target is not None).target == parse_target(
        "happy:0.75"
    )
    send(client, Joy=0.0, Sorrow=1.0)
    heard.wait_for(lambda c: c.target == parse_target("sad"))
    send(client, Sorrow=0.0)
    heard.wait_for(lambda c: c.expresses and c.target is None)


def test_lips_blinks_and_gaze_come_through(
    link: ThreadedOutput, heard: Heard, client: SimpleUDPClient
) -> None:
    send(client, A=1.0, Blink=1.0, LookLeft=0.5)
    command = heard.wait_for(lambda c: c.mouth is not None and c.mouth[0] > 0)
    assert command.mouth == (0.9, 0.1)
    assert command.blink
    assert command.look == (0.5, 0.0)
    send(client, A=1.0, Blink=1.0)
    until(lambda: len(heard.commands) == 2)
    assert not heard.commands[1].blink  # it is the same one
    assert not heard.commands[1].looks


def test_what_is_no_expression_costs_nothing(
    link: ThreadedOutput, heard: Heard, client: SimpleUDPClient, port: int
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        for datagram in (*noise(1, 200), b"#bundle\0" * 4000, b"/VMC/Ext/Blend/Val\0\0,s"):
            raw.sendto(datagram, ("127.0.0.1", port))
    client.send_message("/VMC/Ext/Blend/Val", [3, "happy"])
    client.send_message("/VMC/Ext/Blend/Val", ["happy", float("nan")])
    client.send_message("/VMC/Ext/Blend/Val", ["no such shape", 1.0])
    with SimpleUDPClient("127.0.0.1", port) as other:  # another program, started since
        send(other, Angry=1.0)
    assert heard.wait_for(lambda c: c.expresses and c.target is not None).target == parse_target(
        "angry"
    )
    assert link.status().message is None


def test_what_a_face_shows_is_sent_and_a_listener_may_come_back() -> None:
    port, got = free_port(), dict[str, float]()
    still = portrait()
    avatar = still_avatar(still)
    avatar.express(parse_target("sad"), ease_s=0.1)
    live_frame(avatar, 0.0)
    frame = live_frame(avatar, 2.0)
    avatar.close()

    def listener() -> ThreadingOSCUDPServer:
        dispatcher = Dispatcher()
        dispatcher.map("/VMC/Ext/Blend/Val", lambda _, name, value: got.update({name: value}))
        server = ThreadingOSCUDPServer(("127.0.0.1", port), dispatcher)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    sender = open_link(f"vmc://127.0.0.1:{port}", None)
    try:
        for _ in range(2):
            got.clear()
            server = listener()

            def offered() -> bool:
                sender.offer(frame)
                return "Blink_R" in got and "contemptuous" in got

            until(offered)
            server.shutdown()
            server.server_close()
            sender.offer(frame)  # into nothing
            assert got["sad"] == got["Sorrow"] == pytest.approx(1.0, abs=0.02)
            assert got["happy"] == 0
        assert sender.status().message is None
    finally:
        sender.close()


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("vmc-in://127.0.0.1", "avatar"),
        ("vmc:127.0.0.1", "KIND"),
        ("osc://127.0.0.1", "kinds"),
        ("vmc://127.0.0.1:99999", "no address"),
        ("vmc://127.0.0.1:0", "port 0"),
    ],
)
def test_a_wrong_address_is_one_line(address: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        open_link(address, None)


def test_a_port_in_use_is_one_line(link: ThreadedOutput, heard: Heard, port: int) -> None:
    with pytest.raises(DeviceError, match=str(port)):
        open_link(f"vmc-in://127.0.0.1:{port}", heard)
