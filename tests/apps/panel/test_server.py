"""The server comes up, shows the picture, and goes without a trace."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from mien.apps.panel.app import PanelServer
from mien.apps.panel.settings import PanelSettings, presets_file
from mien.engines.errors import DeviceError, UsageError
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from tests.apps.panel.stand_in import (
    BRIGHT,
    DARK,
    EVENT_S,
    SQUARE,
    TOKEN,
    PatternCamera,
    RunningPanel,
    SquareFilter,
    receive,
    running_panel,
)


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as panel:
        yield panel


def _luma(jpeg: bytes) -> float:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    # JPEG has the full range, the frames the limited one.
    return float(picture[SQUARE].mean()) * 219 / 255 + 16


def _pictures(panel: RunningPanel, view: str) -> Iterator[bytes]:
    """The JPEGs of a stream, which ends when this does."""
    request = f"GET /stream.mjpg?token={TOKEN}&view={view} HTTP/1.0\r\nHost: {panel.host}\r\n\r\n"
    with panel.raw(request.encode()) as connection, connection.makefile("rb") as stream:
        for line in stream:
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
                assert stream.readline() == b"\r\n"
                yield stream.read(size)


def _until(pictures: Iterator[bytes], luma: float) -> None:
    end_s = time.monotonic() + EVENT_S
    while abs(_luma(next(pictures)) - luma) > 6:
        assert time.monotonic() < end_s


def test_stream_shows_the_edit_and_beside_it_the_original(panel: RunningPanel) -> None:
    panel.loop.controls.update(target="happy")
    edited, original = _pictures(panel, "edited"), _pictures(panel, "original")
    _until(edited, BRIGHT)
    _until(original, DARK)
    panel.loop.controls.update(paused=True)
    _until(edited, DARK)
    assert panel.server.preview.viewers == 2
    edited.close()
    original.close()


def test_views_there_are_not_are_refused(panel: RunningPanel) -> None:
    assert panel.get(f"/frame.jpg?token={TOKEN}&view=inside")[0] == 400
    assert panel.get(f"/stream.mjpg?token={TOKEN}&view=inside")[0] == 400


def test_nobody_who_looks_means_nothing_is_made(panel: RunningPanel) -> None:
    assert not panel.server.preview.watched
    assert panel.get(f"/frame.jpg?token={TOKEN}")[0] == 200
    end_s = time.monotonic() + EVENT_S
    while panel.server.preview.watched:
        assert time.monotonic() < end_s
    shown = panel.server.preview.status().shown
    last = panel.loop.stats().shown
    while panel.loop.stats().shown < last + 5:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert panel.server.preview.status().shown <= shown + 1  # one may still be under way


def test_page_passes_the_token_to_its_files(panel: RunningPanel) -> None:
    status, page = panel.get(f"/?token={TOKEN}")
    assert status == 200
    assert f"/static/{TOKEN}/".encode() in page
    assert b"{{token}}" not in page
    names = {part.split(b'"')[0].decode() for part in page.split(f"/static/{TOKEN}/".encode())[1:]}
    assert names
    for name in names:
        assert panel.get(f"/static/{TOKEN}/{name}")[0] == 200


def test_close_ends_open_pages_and_streams(tmp_path: Path) -> None:
    with running_panel(tmp_path) as panel:
        pictures = _pictures(panel, "edited")
        next(pictures)
        with panel.websocket() as websocket:
            receive(websocket, "hello")
            panel.server.close()
            with pytest.raises(ConnectionClosed):
                receive(websocket, "never")
        for _ in pictures:  # they end, or reading them would raise
            pass
        with pytest.raises(ConnectionRefusedError):
            panel.raw()
        panel.server.close()


def test_port_in_use_names_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        camera = PatternCamera()
        loop = LiveLoop(camera, SquareFilter, [], Controls())
        with pytest.raises(UsageError, match=r"add --port \d+") as error:
            PanelServer(loop, PanelSettings(port=port))
        loop.join()
        free = int(str(error.value).split("--port ")[1])
        assert free > port
        with socket.socket() as other:
            other.bind(("127.0.0.1", free))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "a-name"])
def test_other_machines_are_listened_to_only_with_a_certificate(address: str) -> None:
    with pytest.raises(UsageError, match=r"everybody in the network.*--certificate and --key"):
        PanelSettings(listen=address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_this_machine_is_listened_to_without(address: str) -> None:
    assert PanelSettings(listen=address).is_loopback


def test_certificate_and_key_belong_together_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give both or neither"):
        PanelSettings(certificate=tmp_path / "a.pem")
    with pytest.raises(UsageError, match=r"cannot read .*a\.pem"):
        PanelSettings(certificate=tmp_path / "a.pem", key=tmp_path / "b.pem")


def test_certificate_that_is_none_is_refused_with_what_is_wanted(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.write_text("not a certificate")
    with pytest.raises(UsageError, match=r"a\.pem cannot be used; .* in PEM"):
        PanelSettings(port=0, certificate=pem, key=pem)


def test_server_that_does_not_start_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    loop = LiveLoop(PatternCamera(), SquareFilter, [], Controls())
    server = PanelServer(loop, PanelSettings(port=0, presets=tmp_path / "presets.json"))
    server._socket.close()
    with pytest.raises(DeviceError, match="the panel does not start"):
        server.start()
    loop.join()
    assert set(threading.enumerate()) <= before


def test_token_is_new_each_time_and_not_in_what_is_printed() -> None:
    one, other = PanelSettings(), PanelSettings()
    assert one.token != other.token
    assert len(one.token) >= 32
    assert one.token not in repr(one)


def test_presets_live_in_the_configuration_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert presets_file() == tmp_path / "mien" / "presets.json"
