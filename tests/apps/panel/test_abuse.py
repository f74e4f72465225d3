"""People who have the token and mean harm: whoever comes after them gets the panel all the same."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from mien.apps.panel import presets as presets_module
from mien.apps.panel.guard import Places, Rate, machine_of
from mien.apps.panel.parsing import MAX_MESSAGE, parse_client_message
from mien.apps.panel.protocol import ProtocolError
from mien.apps.panel.settings import Limits
from tests.apps.panel.stand_in import EVENT_S, TOKEN, RunningPanel, receive, running_panel, send

MANY = 64  # as many connections as there are by default
PINGS = 20
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    limits = Limits(request_s=2.0, send_s=2.0)
    with running_panel(tmp_path_factory.mktemp("panel"), limits) as panel:
        yield panel


def _request(panel: RunningPanel, path: str, method: str = "GET", more: str = "") -> bytes:
    name = "&" if "?" in path else "?"
    line = f"{method} {path}{name}token={TOKEN} HTTP/1.1"
    return f"{line}\r\nHost: {panel.host}\r\n{more}\r\n".encode()


def _unread(panel: RunningPanel, data: bytes) -> socket.socket:
    """A connection that takes next to nothing of what comes."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", panel.port))
    connection.sendall(data)
    return connection


def _upgrade(panel: RunningPanel) -> bytes:
    more = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\n"
    )
    return _request(panel, "/ws", more=more)


def _frame(data: bytes, opcode: int = 1, *, is_last: bool = True) -> bytes:
    """A WebSocket frame of a client; its mask is 0, so the data is as it is."""
    head = bytes([opcode | (0x80 if is_last else 0)])
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return head + length + bytes(4) + data


HOARDS: dict[str, Callable[[RunningPanel], bytes]] = {
    "pictures": lambda panel: _request(panel, "/stream.mjpg"),
    "originals": lambda panel: _request(panel, "/stream.mjpg?view=original"),
    "single-pictures": lambda panel: 200 * _request(panel, "/frame.jpg"),
    "pages": lambda panel: 200 * _request(panel, "/"),
    "files": lambda panel: 200 * _request(panel, f"/static/{TOKEN}/panel.css"),
    "refusals": lambda panel: 200 * _request(panel, "/no-such-thing"),
    "sockets": _upgrade,
    "talking-sockets": lambda panel: _upgrade(panel) + 2000 * _frame(b'{"type":"ping"}'),
    "pinging-sockets": lambda panel: _upgrade(panel) + 2000 * _frame(b"", 9),
    "nothing": lambda panel: b"",
    "half-heads": lambda panel: _request(panel, "/health")[:-2],
    "half-bodies": lambda panel: _request(panel, "/offer", "POST", "Content-Length: 999\r\n"),
    "kept-alive": lambda panel: _request(panel, "/health"),
    "bodies-nobody-reads": lambda panel: _request(panel, "/", more="Content-Length: 999\r\n"),
}


@pytest.mark.parametrize("hoard", HOARDS)
def test_connections_that_are_held_keep_nobody_out(panel: RunningPanel, hoard: str) -> None:
    data = HOARDS[hoard](panel)
    with contextlib.ExitStack() as held:
        for _ in range(MANY):
            with contextlib.suppress(OSError):
                held.enter_context(_unread(panel, data))
        _everything_is_had(panel)


@pytest.mark.parametrize("hoard", ["pictures", "originals", "files", "pages"])
def test_reader_that_takes_nothing_is_cut_off(panel: RunningPanel, hoard: str) -> None:
    with _unread(panel, HOARDS[hoard](panel)) as connection:
        _wait_until_closed_for_writing(connection)


def _wait_until_closed_for_writing(connection: socket.socket) -> None:
    connection.settimeout(EVENT_S)
    end_s = time.monotonic() + EVENT_S
    with contextlib.suppress(OSError):
        while time.monotonic() < end_s:
            connection.send(b"x")  # the other side has gone where this is refused
            time.sleep(0.1)
    assert time.monotonic() < end_s, "the connection is still there"


def test_readers_that_take_a_byte_at_a_time_keep_nobody_out(panel: RunningPanel) -> None:
    ended = threading.Event()

    def sip(connections: list[socket.socket]) -> None:
        while not ended.wait(0.05):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.recv(1)

    with contextlib.ExitStack() as held:
        request = _request(panel, "/stream.mjpg")
        connections = [held.enter_context(_unread(panel, request)) for _ in range(MANY)]
        for connection in connections:
            connection.setblocking(False)
        thread = threading.Thread(target=sip, args=(connections,))
        thread.start()
        try:
            _everything_is_had(panel)
        finally:
            ended.set()
            thread.join()


def test_idle_websockets_make_room_for_a_new_page_the_silent_ones_first(
    panel: RunningPanel,
) -> None:
    with contextlib.ExitStack() as pages:
        speaker = pages.enter_context(panel.websocket())
        idle = [pages.enter_context(panel.websocket()) for _ in range(15)]
        send(speaker, type="ping")
        receive(speaker, "pong")
        newcomer = pages.enter_context(_admitted_websocket(panel))
        send(newcomer, type="ping")
        receive(newcomer, "pong")
        with pytest.raises(ConnectionClosed) as closed:
            receive(idle[0], "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        send(speaker, type="ping", t=2)
        while receive(speaker, "pong")["t"] != 2:
            pass


def test_newest_reader_of_the_picture_takes_the_place_of_the_oldest(panel: RunningPanel) -> None:
    with contextlib.ExitStack() as open_ones:
        readers = [open_ones.enter_context(Reader(panel)) for _ in range(Limits().streams)]
        for reader in readers:
            reader.wait_for_picture()
        open_ones.enter_context(_admitted_reader(panel)).wait_for_picture()
        readers[0].wait_for_end()
        assert not readers[-1].has_ended


class Reader:
    """Reads a stream of JPEGs in a thread."""

    def __init__(self, panel: RunningPanel) -> None:
        self._panel = panel
        self.status = 0
        self._pictures = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reader:
        self._connection = self._panel.raw(_request(self._panel, "/stream.mjpg"))
        self.status = int((self._connection.recv(4096) or b"x 0 x").split(b" ", 2)[1])
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def wait_for_picture(self) -> None:
        _wait_until(lambda: self._pictures > 0, "a picture comes")

    def wait_for_end(self) -> None:
        assert self._ended.wait(EVENT_S)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while part := self._connection.recv(65536):
                self._pictures += part.count(b"\xff\xd8\xff")
        self._ended.set()


@contextlib.contextmanager
def _admitted_reader(panel: RunningPanel) -> Iterator[Reader]:
    """A reader that asked until it was let in."""
    end_s = time.monotonic() + EVENT_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError), Reader(panel) as reader:
            if reader.status == 200:
                yield reader
                return
        time.sleep(0.1)
    raise AssertionError("nobody new sees the picture")


@contextlib.contextmanager
def _admitted_websocket(panel: RunningPanel) -> Iterator[ClientConnection]:
    """A WebSocket that knocked until it got its greeting."""
    end_s = time.monotonic() + EVENT_S
    while time.monotonic() < end_s:
        with contextlib.ExitStack() as opened:
            try:
                websocket = opened.enter_context(panel.websocket())
                receive(websocket, "hello")
            except (ConnectionClosed, OSError):
                time.sleep(0.1)
                continue
            yield websocket
            return
    raise AssertionError("no new page gets its WebSocket")


def _everything_is_had(panel: RunningPanel) -> None:
    """Get page, file, WebSocket and picture, each within EVENT_S."""
    for path in ("/", f"/static/{TOKEN}/main.js", "/frame.jpg"):
        _wait_until(lambda path=path: _status(panel, path) == 200, f"{path} is had")
    with _admitted_websocket(panel) as websocket:
        send(websocket, type="ping", t=5)
        receive(websocket, "pong")
    with _admitted_reader(panel) as reader:
        reader.wait_for_picture()


def _status(panel: RunningPanel, path: str) -> int:
    with contextlib.suppress(OSError):
        return panel.get(f"{path}?token={TOKEN}")[0]
    return 0


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + EVENT_S
    while not holds():
        assert time.monotonic() < end_s, f"it does not come that {what}"
        time.sleep(0.05)


FLOODS: dict[str, bytes] = {
    "settings": _frame(b'{"type":"set","intensity":0.5,"face":3}'),
    "targets": b"".join(
        _frame(json.dumps({"type": "set", "target": {"happy": n / 100}}).encode())
        for n in range(99)
    ),
    "methods": _frame(b'{"type":"set","method":"parts"}')
    + _frame(b'{"type":"set","method":"warp"}'),
    "presets": b"".join(
        _frame(json.dumps({"type": "preset_save", "name": f"{n:040d}"}).encode())
        + _frame(json.dumps({"type": "preset_delete", "name": f"{n:040d}"}).encode())
        for n in range(300)
    ),
    "unknown-presets": _frame(b'{"type":"preset_apply","name":"nobody"}'),
    "pings-of-the-page": _frame(b'{"type":"ping"}'),
    "pings": _frame(b"", 9),
    "pongs": _frame(b"", 10),
    "fragments": _frame(b"", is_last=False) + 10_000 * _frame(b"", 0, is_last=False),
    "unknown-types": _frame(b'{"type":"ping"}') + _frame(b'{"type":"no-such-thing"}'),
    "deep": _frame(b'{"type":"ping"}') + _frame(b"[" * 4000),
    "long-numbers": _frame(b'{"type":"ping"}')
    + _frame(b'{"type":"ping","t":' + b"9" * 4000 + b"}"),
    "long-text": _frame(b'{"type":"ping"}') + _frame(b'"' + b"x" * 60_000 + b'"'),
    "binary": _frame(b'{"type":"ping"}') + _frame(bytes(2000), 2),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_messages_hold_up_neither_others_nor_the_filter(
    panel: RunningPanel, flood: str
) -> None:
    with (
        _admitted_reader(panel) as reader,
        panel.websocket() as bystander,
        _flood(panel, FLOODS[flood]),
    ):
        receive(bystander, "hello")
        reader.wait_for_picture()
        frames, end_s = panel.loop.stats().shown, time.monotonic() + EVENT_S
        for number in range(PINGS):
            send(bystander, type="ping", t=number)
            while receive(bystander, "pong")["t"] != number:
                pass
        assert time.monotonic() < end_s  # a moment; before messages were read in turns, a minute
        assert panel.loop.stats().shown > frames
        assert _status(panel, "/health") == 200
    panel.loop.controls.update(method="warp", target=None)


@contextlib.contextmanager
def _flood(panel: RunningPanel, data: bytes) -> Iterator[None]:
    """Sends the data again and again on a WebSocket, and takes what comes."""
    ended = threading.Event()
    connection = panel.raw(_upgrade(panel))
    connection.settimeout(0.2)

    def flood() -> None:
        left = b""
        with contextlib.suppress(OSError):
            while not ended.is_set():
                left = left or data * max(1, 65536 // len(data))
                with contextlib.suppress(TimeoutError):
                    left = left[connection.send(left) :]

    def drain() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return

    threads = [threading.Thread(target=work) for work in (flood, drain)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        connection.close()


def test_bodies_in_pieces_of_one_byte_hold_nobody_up(panel: RunningPanel) -> None:
    head = _request(panel, "/offer", "POST", "Transfer-Encoding: chunked\r\n")
    body = b"1\r\nx\r\n" * 60_000
    with contextlib.ExitStack() as senders, panel.websocket() as bystander:
        receive(bystander, "hello")
        threads = []
        for _ in range(8):
            connection = senders.enter_context(panel.raw(head))
            threads.append(threading.Thread(target=_send_all, args=(connection, body)))
            threads[-1].start()
        for number in range(10):
            send(bystander, type="ping", t=number)
            while receive(bystander, "pong")["t"] != number:
                pass
        assert _status(panel, "/health") == 200
    for thread in threads:
        thread.join()


def _send_all(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


def test_messages_that_come_too_fast_are_all_done_after_a_polite_word(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        receive(websocket, "hello")
        for number in range(140):
            send(websocket, type="ping", t=number)
        assert "slower, please" in receive(websocket, "error")["text"]
        while receive(websocket, "pong")["t"] != 139:
            pass


def test_method_that_changes_all_the_time_is_refused_for_a_moment(panel: RunningPanel) -> None:
    with panel.websocket() as websocket:
        receive(websocket, "hello")
        for _ in range(6):
            send(websocket, type="set", method="parts")
            send(websocket, type="set", method="warp")
        assert "the method changes too often; wait" in receive(websocket, "error")["text"]
    panel.loop.controls.update(method="warp", options={})


def test_flood_of_presets_is_bounded_and_told_a_few_times_a_second(tmp_path: Path) -> None:
    path = tmp_path / "config" / "presets.json"
    path.parent.mkdir()
    path.write_text(_presets_text(presets_module.MAX_PRESETS - 10), encoding="utf-8")
    with running_panel(tmp_path) as panel, panel.websocket() as bystander:
        receive(bystander, "hello")
        with (
            panel.websocket(close_timeout=1) as first,
            panel.websocket(close_timeout=1) as second,
        ):
            for number in range(40):
                send(first, type="preset_save", name=f"a{number:039d}")
                send(second, type="preset_save", name=f"b{number:039d}")
            began_s, lists = time.monotonic(), 0
            while len(receive(bystander, "presets")["presets"]) < presets_module.MAX_PRESETS:
                lists += 1
            seconds = time.monotonic() - began_s
            assert (
                lists <= 2 + 2 * seconds / presets_module.WRITE_EVERY_S
            )  # one for each that saved
            assert "there are 100 presets already" in receive(first, "error")["text"]
        with panel.websocket() as newcomer:
            assert len(receive(newcomer, "hello")["presets"]) == presets_module.MAX_PRESETS
    assert (
        len(json.loads(path.read_text(encoding="utf-8"))["presets"]) == presets_module.MAX_PRESETS
    )


def test_preset_that_cannot_be_written_is_told_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file in the place of the folder")
    with running_panel(tmp_path) as panel, panel.websocket() as websocket:
        assert receive(websocket, "hello")["presets"] == []
        for _ in range(2):
            send(websocket, type="preset_save", name="x")
            assert "presets cannot be kept in" in receive(websocket, "error")["text"]
        with panel.websocket() as other:
            assert receive(other, "hello")["presets"] == []


def _presets_text(count: int) -> str:
    entries = [{"name": str(n), "target": {}, "intensity": 1} for n in range(count)]
    return json.dumps({"version": 1, "presets": entries})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_presets_text(6000), "larger than"),
        (_presets_text(101), "they are 101, more than 100"),
        ('{"presets": ' + "[" * 2000 + "]" * 2000 + "}", "nested"),
        ('{"presets": [{"name": "x", "target": {}, "intensity": ' + "9" * 5000 + "}]}", "digits"),
        ('{"presets": [{"name": "x", "target": {}, "intensity": NaN}]}', "NaN"),
    ],
)
def test_preset_files_that_make_no_sense_are_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config" / "presets.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with running_panel(tmp_path) as panel, panel.websocket() as websocket:
        assert receive(websocket, "hello")["presets"] == []
        assert any(told in message for message in receive(websocket, "stats")["messages"])
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * (MAX_MESSAGE + 1), "a message may have 4096 characters"),
        ("[" * 9 + "]" * 9, "nested more than 8 deep"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested more than 8 deep"),
        ('{"type": "ping", "t": ' + "9" * 21 + "}", "a number may have 20 digits, not 21"),
        ('{"type": "ping", "t": -' + "9" * 4000 + "}", "a number may have 20 digits"),
        ('{"type": "ping", "t": NaN}', "NaN is no number"),
        ('{"type": "ping", "t": -Infinity}', "-Infinity is no number"),
        ('{"type": "ping", "t": 1e400}', "t must be a number"),
        (b'{"type": "ping"}', "must be text"),
    ],
)
def test_what_would_take_long_to_read_is_refused_before(text: str, told: str) -> None:
    with pytest.raises(ProtocolError) as error:
        parse_client_message(text)
    assert told in str(error.value)


def test_brackets_in_a_name_are_no_depth() -> None:
    message = json.dumps({"type": "preset_delete", "name": '[[[[[[[[[["\\'})
    assert parse_client_message(message) == parse_client_message(message)


class _Guest:
    def __init__(self, address: str, how: tuple[int, float] | None = None) -> None:
        self.address, self.how, self.has_gone = address, how, False

    def spare(self, now_s: float) -> tuple[int, float] | None:
        return self.how

    def make_room(self) -> None:
        self.has_gone = True


def test_places_leave_room_for_the_person_at_this_machine() -> None:
    places: Places[_Guest] = Places(8)
    assert [places.take(_Guest("192.0.2.1")) for _ in range(5)] == [True] * 4 + [False]
    assert [places.take(_Guest("192.0.2.2")) for _ in range(3)] == [True] * 2 + [False]
    assert not places.take(_Guest("2001:db8::1"))
    assert [places.take(_Guest("127.0.0.1")) for _ in range(3)] == [True] * 2 + [False]
    assert len(places) == 8


def test_places_go_from_whoever_can_be_spared_best() -> None:
    places: Places[_Guest] = Places(3)
    guests = [_Guest("::1", how) for how in (None, (1, 9.0), (2, 1.0))]
    assert all(places.take(guest) for guest in guests)
    assert places.take(_Guest("::1"))
    assert [guest.has_gone for guest in guests] == [False, False, True]
    assert places.take(_Guest("::1"))
    assert [guest.has_gone for guest in guests] == [False, True, True]
    assert not places.take(_Guest("::1"))


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::5%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_are_those_of_machines(address: str, machine: str | None) -> None:
    assert machine_of(address) == machine


def test_rates_allow_some_at_once_and_then_make_wait() -> None:
    rate = Rate(1.0, 3)
    waits = []
    for _ in range(5):
        waits.append(rate.wait_s())
        rate.take()
    assert waits[:3] == [0.0] * 3
    assert 0.5 < waits[3] <= 1.0 < waits[4] <= 2.0
