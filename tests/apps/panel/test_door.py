"""Who gets in: token, Host, Origin, sizes, too many, too slow, no sense."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from aiortc import RTCPeerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mien.apps.panel.settings import Limits
from tests.apps.panel.stand_in import (
    EVENT_S,
    TOKEN,
    RunningPanel,
    receive,
    running_panel,
    send,
)

PATHS = ("/", "/static/{}/page.js", "/stream.mjpg", "/frame.jpg", "/health", "/no-such-thing")
OPEN = f"GET /health?token={TOKEN} HTTP/1.1\r\nHost: {{}}\r\n"


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    limits = Limits(connections=40, sockets=4, streams=3, request_s=1.0, send_s=1.0)
    with running_panel(tmp_path_factory.mktemp("panel"), limits) as panel:
        yield panel


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def _read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes; b"" where it does so at once."""
    parts = []
    with connection:
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
    return b"".join(parts)


def _send_slowly(connection: socket.socket) -> None:
    """Send a line of a request's head each tenth of a second, and never the last."""
    end_s = time.monotonic() + EVENT_S
    while time.monotonic() < end_s:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.1)


def _is_well(panel: RunningPanel) -> bool:
    return panel.get(f"/health?token={TOKEN}")[0] == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ÄÖ\udcff"])
def test_nothing_is_given_without_the_token(
    panel: RunningPanel, path: str, token: str | None
) -> None:
    path = path.format("wrong")
    given = "" if token is None else token.encode("utf-8", "surrogateescape").hex("%")
    query = "" if token is None else f"?token={'%' + given if given else ''}"
    status, body = panel.get(path + query)
    assert status == 401
    assert TOKEN.encode() not in body


def test_token_is_taken_from_the_address_and_from_a_header(panel: RunningPanel) -> None:
    assert _is_well(panel)
    assert panel.get("/health", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert panel.get("/health", Authorization="Bearer wrong")[0] == 401
    assert panel.get(f"/static/{TOKEN}/no-such-thing.js")[0] == 404


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example:{port}",
        "localhost@evil.example",
        "localhost:x",
        "192.168.1.5:{port}",
        "user@127.0.0.1:{port}",
        "127.0.0.1:{port}@evil.example",
        "",
    ],
)
def test_other_names_of_this_machine_are_refused(panel: RunningPanel, host: str) -> None:
    status, _ = panel.get(f"/health?token={TOKEN}", Host=host.format(port=panel.port))
    assert status in (400, 403)


@pytest.mark.parametrize("host", ["localhost:{}", "127.0.0.1:{}", "[::1]:{}"])
def test_loopback_names_are_taken(panel: RunningPanel, host: str) -> None:
    assert panel.get(f"/health?token={TOKEN}", Host=host.format(panel.port))[0] == 200


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000", "localhost"])
def test_tunnel_may_begin_at_another_port(panel: RunningPanel, host: str) -> None:
    path, origin = f"/health?token={TOKEN}", f"http://{host}"
    assert panel.get(path, Host=host, Origin=origin)[0] == 200
    # Another program's page on the same machine is still another page.
    assert panel.get(path, Host=host, Origin="http://localhost:3000")[0] == 403
    assert panel.get(path, Host=panel.host, Origin=origin)[0] == 403
    assert panel.get(path, Host=host, Sec_Fetch_Site="same-site")[0] == 403
    connection = socket.create_connection(("127.0.0.1", panel.port), timeout=EVENT_S)
    url = f"ws://{host}/ws?token={TOKEN}"
    with connect(url, sock=connection, origin=origin, compression=None) as websocket:
        receive(websocket, "hello")


@pytest.mark.parametrize(
    ("path", "headers", "status", "told"),
    [
        ("/", {}, 401, "This address is not complete"),
        ("/?token=old", {}, 401, "This address is not complete"),
        (f"/?token={TOKEN}", {"Host": "evil.example"}, 403, "mien does not know this name"),
        (f"/?token={TOKEN}", {"Origin": "http://x.example"}, 403, "from another page"),
    ],
)
def test_person_who_is_not_let_in_reads_where_the_address_is(
    panel: RunningPanel, path: str, headers: dict[str, str], status: int, told: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", panel.port, timeout=EVENT_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Accept": "text/html,*/*;q=0.8", **headers})
        answer = connection.getresponse()
        page = answer.read().decode()
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert told in page
    assert "terminal where mien camera runs" in page
    assert TOKEN not in page
    assert "{{" not in page
    # Its style is let through by its digest, and nothing else is.
    policy = answer.headers["Content-Security-Policy"]
    assert "style-src 'sha256-" in policy
    assert "unsafe-inline" not in policy
    # What a script asks for is answered as before.
    assert json.loads(panel.get(path, **headers)[1])["error"]


def test_two_hosts_are_refused(panel: RunningPanel) -> None:
    request = OPEN.format(panel.host) + "Host: evil.example\r\n\r\n"
    assert _status(_read_all(panel.raw(request.encode()))) in (400, 403)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:1", "https://{host}", "http://{host}.evil"],
)
def test_pages_of_other_sites_are_refused(panel: RunningPanel, origin: str) -> None:
    origin = origin.format(host=panel.host)
    assert panel.get(f"/health?token={TOKEN}", Origin=origin)[0] == 403
    assert panel.request("POST", f"/offer?token={TOKEN}", b"{}", Origin=origin)[0] == 403
    with pytest.raises(InvalidStatus) as refused:
        panel.websocket(origin=origin).close()
    assert refused.value.response.status_code == 403


def test_own_page_is_let_in(panel: RunningPanel) -> None:
    origin = f"http://{panel.host}"
    assert panel.get(f"/health?token={TOKEN}", Origin=origin)[0] == 200
    with panel.websocket(origin=origin) as websocket:
        receive(websocket, "hello")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_in_other_pages_are_refused(panel: RunningPanel, site: str) -> None:
    path = f"/frame.jpg?token={TOKEN}"
    assert panel.get(path, Sec_Fetch_Site=site)[0] == 403


@pytest.mark.parametrize("token", ["", "wrong"])
def test_websocket_needs_the_token(panel: RunningPanel, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        panel.websocket(token=token).close()
    assert refused.value.response.status_code == 401


def test_websocket_with_another_host_is_refused(panel: RunningPanel) -> None:
    # The name leads to this machine, as after DNS rebinding.
    connection = socket.create_connection(("127.0.0.1", panel.port), timeout=EVENT_S)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://evil.example:{panel.port}/ws?token={TOKEN}", sock=connection).close()
    assert refused.value.response.status_code == 403


def test_answers_forbid_what_the_page_does_not_need(panel: RunningPanel) -> None:
    answer = _read_all(panel.raw((OPEN.format(panel.host) + "Connection: close\r\n\r\n").encode()))
    text = answer.decode().lower()
    assert "content-security-policy: default-src 'none'; script-src 'self';" in text
    assert "frame-ancestors 'none'" in text
    assert "unsafe-inline" not in text
    for line in ("cache-control: no-store", "referrer-policy: no-referrer"):
        assert f"{line}\r\n" in text
    assert "\r\nserver:" not in text
    assert "set-cookie" not in text
    assert "access-control" not in text


def test_websocket_message_of_ten_megabytes_closes_the_line(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        receive(websocket, "hello")
        with contextlib.suppress(ConnectionClosed):
            websocket.send("x" * 10_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            receive(websocket, "never")
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    assert _is_well(panel)


def test_large_requests_are_refused_before_they_are_read(panel: RunningPanel) -> None:
    try:
        status, _ = panel.request("POST", f"/offer?token={TOKEN}", b"x" * 1_000_000)
    except (ConnectionResetError, BrokenPipeError):
        status = 413  # refused and hung up on while it was still being sent
    assert status == 413
    head = (
        f"POST /offer?token={TOKEN} HTTP/1.1\r\nHost: {panel.host}\r\n"
        f"Content-Length: {10**12}\r\n\r\n"
    )
    assert _status(_read_all(panel.raw(head.encode()))) == 413


def test_large_requests_of_unknown_length_are_refused(panel: RunningPanel) -> None:
    head = (
        f"POST /offer?token={TOKEN} HTTP/1.1\r\nHost: {panel.host}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    connection = panel.raw(head.encode())
    try:
        for _ in range(64):
            connection.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    except (ConnectionResetError, BrokenPipeError):
        connection.close()  # the other way to say no
    else:
        assert _status(_read_all(connection)) == 413
    assert _is_well(panel)


def test_endless_headers_are_refused(panel: RunningPanel) -> None:
    connection = panel.raw(OPEN.format(panel.host).encode() + b"X: " + b"x" * 40_000)
    answer = _read_all(connection)
    assert not answer or _status(answer) == 400
    assert _is_well(panel)


@pytest.mark.parametrize("start", [b"", b"GET /health HTT", b"\x16\x03\x01\x02\x00\x01\x00\x01"])
def test_connection_that_asks_for_nothing_is_closed(panel: RunningPanel, start: bytes) -> None:
    answer = _read_all(panel.raw(start))
    assert not answer or _status(answer) == 400


def test_slow_request_is_given_up(panel: RunningPanel) -> None:
    connection = panel.raw(OPEN.format(panel.host).encode())
    with connection, pytest.raises(ConnectionError):
        _send_slowly(connection)


def test_five_hundred_connections_do_not_keep_the_page_out(panel: RunningPanel) -> None:
    many = []
    try:
        with panel.websocket() as websocket:
            for _ in range(500):
                many.append(panel.raw())
                if len(many) % 100 == 0:
                    assert _is_well(panel)
            send(websocket, type="ping", t=7)
            assert receive(websocket, "pong")["t"] == 7
    finally:
        for connection in many:
            connection.close()
    assert _is_well(panel)


def test_pages_beyond_the_limit_are_refused(panel: RunningPanel) -> None:
    with contextlib.ExitStack() as pages:
        for _ in range(4):
            receive(pages.enter_context(panel.websocket()), "hello")
        one_more = pages.enter_context(panel.websocket())
        with pytest.raises(ConnectionClosed) as closed:
            receive(one_more, "hello")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


def test_reader_that_takes_nothing_is_released(panel: RunningPanel) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", panel.port))
    request = f"GET /stream.mjpg?token={TOKEN} HTTP/1.1\r\nHost: {panel.host}\r\n\r\n"
    connection.sendall(request.encode())
    end_s = time.monotonic() + EVENT_S
    while panel.server.preview.viewers == 0:
        assert time.monotonic() < end_s
    while panel.server.preview.viewers:
        assert time.monotonic() < end_s, "a reader that takes nothing keeps its place"
        time.sleep(0.05)
    connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "[" * 30_000,
        '{"type": "no-such-thing"}',
        '{"type": ["set"]}',
        '{"type": "set", "intensity": NaN}',
        '{"type": "set", "target": {"happy": 1e999}}',
        '{"type": "set", "face": -1}',
        '{"type": "set", "paused": 1}',
        '{"type": "set", "__class__": "x"}',
        b"\x00\xff",
    ],
)
def test_messages_that_make_no_sense_change_nothing(panel: RunningPanel, text: str) -> None:
    before = panel.loop.controls.snapshot()
    with panel.websocket() as websocket:
        websocket.send(text)
        assert receive(websocket, "error")["text"]
        send(websocket, type="ping")
        receive(websocket, "pong")
    assert panel.loop.controls.snapshot() == before


def test_three_messages_in_a_row_that_make_no_sense_close_the_line(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        for _ in range(3):
            websocket.send("{")
        with pytest.raises(ConnectionClosed) as closed:
            receive(websocket, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_websocket_text_that_is_no_unicode_closes_the_line(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        websocket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed) as closed:
            receive(websocket, "never")
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1007
    assert _is_well(panel)


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"{",
        b"[]",
        b'{"type": "offer"}',
        b'{"type": "answer", "sdp": ""}',
        b'{"type": "offer", "sdp": ""}',
        b'{"type": "offer", "sdp": "v=0", "camera": 1}',
        b'{"type": "offer", "sdp": "hello"}',
        b'{"type": "offer", "sdp": "v=0\\r\\nm=video"}',
        b'{"type": "offer", "sdp": "v=0\\r\\nm=video 9 UDP/TLS/RTP/SAVPF 96\\r\\na=rtpmap:x"}',
    ],
)
def test_offers_that_make_no_sense_are_refused(panel: RunningPanel, offer: bytes) -> None:
    status, body = panel.request("POST", f"/offer?token={TOKEN}", offer)
    assert status == 400
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [("a=sendrecv", "a=x"), ("(VP8|H264)/90000", "XX/90000"), ("a=rtpmap:99 H264/90000", "a=x")],
)
def test_offers_that_lack_something_are_refused(
    panel: RunningPanel, pattern: str, instead: str
) -> None:
    async def offered() -> str:
        peer = RTCPeerConnection()
        peer.addTransceiver("video")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = str(peer.localDescription.sdp)
        await peer.close()
        return sdp

    sdp, count = re.subn(pattern, instead, asyncio.run(offered()))
    assert count
    offer = json.dumps({"type": "offer", "sdp": sdp}).encode()
    status, body = panel.request("POST", f"/offer?token={TOKEN}", offer)
    assert status == 400
    assert json.loads(body)["error"].startswith("this is not an offer for WebRTC")


@pytest.mark.parametrize("name", ["..%2Fsettings.py", "%2e%2e%2fserver.py", "server.py", "..", ""])
def test_only_files_of_the_page_are_served(panel: RunningPanel, name: str) -> None:
    status, body = panel.get(f"/static/{TOKEN}/{name}")
    assert status in (404, 307)
    assert b"import" not in body
