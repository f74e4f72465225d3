"""The panel for other machines: by certificate only, by number only, and where WebRTC goes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from mien.apps.panel.settings import Limits, PanelSettings, address_host
from tests.apps.panel.stand_in import (
    EVENT_S,
    TOKEN,
    RunningPanel,
    running_panel,
    write_certificate,
)
from tests.apps.panel.test_offers import OFFER


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    folder = tmp_path_factory.mktemp("panel")
    certificate, key = write_certificate(folder)
    with running_panel(folder, listen="0.0.0.0", certificate=certificate, key=key) as panel:
        yield panel


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is signed by nobody
    return context


def _first_message(address: str, **options: Any) -> dict[str, Any]:
    """What the panel says first by TLS.

    Not by the client with threads: one of them reads while the other writes, and OpenSSL bears
    one thread a connection (seen once: "internal error").
    """

    async def first() -> dict[str, Any]:
        async with connect_async(
            address, ssl=_context(), compression=None, open_timeout=EVENT_S, **options
        ) as websocket:
            message: dict[str, Any] = json.loads(await asyncio.wait_for(websocket.recv(), EVENT_S))
            return message

    return asyncio.run(first())


def _status(panel: RunningPanel, host: str, **headers: str) -> int:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", panel.port, timeout=EVENT_S, context=_context()
    )
    try:
        connection.request("GET", f"/health?token={TOKEN}", headers={"Host": host, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_network_is_served_by_https_only(panel: RunningPanel) -> None:
    assert panel.server.url == f"https://localhost:{panel.port}/?token={TOKEN}"
    assert _status(panel, panel.host, Origin=f"https://{panel.host}") == 200
    assert _status(panel, panel.host, Origin=f"http://{panel.host}") == 403
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        panel.get(f"/health?token={TOKEN}")


def test_network_is_served_by_the_machines_numbers_and_no_other_name(panel: RunningPanel) -> None:
    assert _status(panel, f"192.168.1.5:{panel.port}") == 200
    assert _status(panel, f"[fe80::1]:{panel.port}") == 200
    assert _status(panel, f"evil.example:{panel.port}") == 403


NAMED = ("desk.example.org", "*.home.example", "192.168.1.5")


@pytest.fixture
def named(tmp_path: Path) -> Iterator[RunningPanel]:
    """A panel whose certificate is for NAMED."""
    certificate, key = write_certificate(tmp_path, *NAMED)
    with running_panel(tmp_path, listen="0.0.0.0", certificate=certificate, key=key) as panel:
        yield panel


def test_network_is_served_by_the_names_of_the_certificate_and_no_other(
    named: RunningPanel,
) -> None:
    own = ("desk.example.org", "DESK.example.org", "tv.home.example", "192.168.1.5", "localhost")
    other = (
        "example.org",
        "x.desk.example.org",
        "home.example",
        "a.tv.home.example",
        ".home.example",
        "*.home.example",
        "a;b.home.example",
        "desk.example.org.evil.example",
        "panel",  # the certificate's common name
    )
    for port in (named.port, 9000):
        for name in (*own, *other):
            host = f"{name}:{port}"
            expected = 200 if name in own else 403
            assert _status(named, host, Origin=f"https://{host}") == expected, host
            assert _status(named, host, Origin="https://evil.example") == 403


def test_page_and_websocket_work_by_the_name_that_is_printed(named: RunningPanel) -> None:
    url = urlsplit(named.server.url)
    assert url.netloc == f"desk.example.org:{named.port}"
    connection = http.client.HTTPSConnection(
        "127.0.0.1", named.port, timeout=EVENT_S, context=_context()
    )
    with contextlib.closing(connection):
        connection.request("GET", f"/?{url.query}", headers={"Host": url.netloc})
        answer = connection.getresponse()
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert f"connect-src 'self' wss://{url.netloc};" in policy
    raw = socket.create_connection(("127.0.0.1", named.port), timeout=EVENT_S)
    raw.setblocking(False)
    address, origin = f"wss://{url.netloc}/ws?token={TOKEN}", f"https://{url.netloc}"
    assert _first_message(address, sock=raw, origin=Origin(origin))["type"] == "hello"


@pytest.mark.parametrize(
    ("listen", "names", "host"),
    [
        ("0.0.0.0", (), "localhost"),
        ("0.0.0.0", ("localhost", "desk.example.org"), "desk.example.org"),
        ("0.0.0.0", ("a.example.org", "{machine}.example.org"), "{machine}.example.org"),
        ("0.0.0.0", ("*.home.example",), "{machine}.home.example"),
        ("0.0.0.0", ("10.0.0.5",), "10.0.0.5"),
        ("0.0.0.0", ("*.com", "localhost"), "localhost"),
        ("::", ("desk.example.org",), "desk.example.org"),
        ("10.0.0.5", ("desk.example.org",), "desk.example.org"),
        ("10.0.0.5", ("desk.example.org", "10.0.0.5"), "10.0.0.5"),
        ("10.0.0.5", (), "10.0.0.5"),
        ("tv.home.example", ("desk.home.example", "*.home.example"), "tv.home.example"),
        ("127.0.0.1", ("desk.example.org",), "127.0.0.1"),
    ],
)
def test_address_that_is_printed_is_one_that_the_certificate_is_for(
    tmp_path: Path, listen: str, names: tuple[str, ...], host: str
) -> None:
    machine = socket.gethostname().partition(".")[0].lower()
    names = tuple(name.replace("{machine}", machine) for name in names)
    certificate, key = write_certificate(tmp_path, *names)
    settings = PanelSettings(listen=listen, certificate=certificate, key=key)
    assert address_host(settings) == host.replace("{machine}", machine)


def test_websocket_is_there_by_tls_too(panel: RunningPanel) -> None:
    url = f"wss://127.0.0.1:{panel.port}/ws?token="
    assert _first_message(url + TOKEN)["type"] == "hello"
    with pytest.raises(InvalidStatus) as refused:
        _first_message(url + "wrong")
    assert refused.value.response.status_code == 401


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a handshake begins


@pytest.mark.parametrize("start", [b"", HELLO, b"GET / HTTP/1.1\r\n"])
def test_handshakes_that_do_not_go_on_keep_nobody_out(panel: RunningPanel, start: bytes) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(200):
            held.enter_context(panel.raw(start))
        assert _status(panel, panel.host) == 200
        assert _accepted(panel) <= Limits().connections + 1  # one may be on its way out


@pytest.mark.slow
def test_encrypted_lines_on_which_nothing_is_asked_keep_nobody_out(panel: RunningPanel) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(70):
            raw = held.enter_context(panel.raw())
            with contextlib.suppress(OSError):
                held.enter_context(_context().wrap_socket(raw))
        assert _status(panel, panel.host) == 200


def test_encrypted_reader_that_takes_nothing_is_cut_off(panel: RunningPanel) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", panel.port))
    with _context().wrap_socket(connection) as stream:
        request = f"GET /stream.mjpg?token={TOKEN} HTTP/1.1\r\nHost: {panel.host}\r\n\r\n"
        stream.sendall(request.encode())
        _wait_until(lambda: panel.server.preview.viewers == 1)
        _wait_until(lambda: panel.server.preview.viewers == 0)
        _wait_until(lambda: _accepted(panel) == 0)


def test_encrypted_good_bye_that_nobody_answers_has_a_deadline(panel: RunningPanel) -> None:
    with _context().wrap_socket(panel.raw()) as stream:
        request = f"GET /health HTTP/1.1\r\nHost: {panel.host}\r\nConnection: close\r\n\r\n"
        stream.sendall(request.encode())
        _wait_until(lambda: _accepted(panel) == 0)


def test_webrtc_opens_ports_at_the_address_that_was_asked_and_no_other(
    panel: RunningPanel,
) -> None:
    found = [
        one.address
        for ones in psutil.net_if_addrs().values()
        for one in ones
        if one.family == socket.AF_INET and not one.address.startswith("127.")
    ]
    if not found:
        pytest.skip("this machine has no address but the loopback's")
    body = json.dumps({"type": "offer", "sdp": OFFER, "camera": False})
    connection = http.client.HTTPSConnection(
        found[0], panel.port, timeout=EVENT_S, context=_context()
    )
    with contextlib.closing(connection):
        connection.request("POST", f"/offer?token={TOKEN}", body)
        answer = connection.getresponse()
        sdp = json.loads(answer.read())["sdp"]
    opened = {one.laddr.ip for one in psutil.Process().net_connections("udp")}
    assert opened == {found[0]}
    candidates = [line for line in sdp.splitlines() if line.startswith("a=candidate")]
    assert [line.split()[4] for line in candidates] == [found[0]]


def _wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + EVENT_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def _accepted(panel: RunningPanel) -> int:
    """How many connections the panel holds."""
    return sum(
        one.laddr.port == panel.port and one.status == psutil.CONN_ESTABLISHED
        for one in psutil.Process().net_connections("tcp")
        if one.laddr and one.raddr
    )
