"""The picture by WebRTC, and a browser as the camera."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aioice
import aioice.stun
import av
import numpy as np
import psutil
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)

from mien.apps.panel import ice, webrtc
from mien.apps.panel.offers import MAX_CANDIDATES
from tests.apps.panel.stand_in import (
    BRIGHT,
    DARK,
    EVENT_S,
    SIZE_WH,
    SQUARE,
    TOKEN,
    RunningPanel,
    receive,
    running_panel,
)

BROWSER_LUMA = 120


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as panel:
        yield panel


class GrayTrack(VideoStreamTrack):
    """A browser's camera that sees nothing but gray."""

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        pixels = np.full((SIZE_WH[1] * 3 // 2, SIZE_WH[0]), 128, np.uint8)
        pixels[: SIZE_WH[1]] = BROWSER_LUMA
        frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Browser:
    """The other end: offers, and looks at what comes."""

    def __init__(self, panel: RunningPanel) -> None:
        self.panel = panel
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.track: MediaStreamTrack | None = None
        self.peer.on("track", self._on_track)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self.track = track

    async def open(self, *, camera: bool = False) -> str:
        """The answer's SDP."""
        if camera:
            self.peer.addTrack(GrayTrack())
        else:
            self.peer.addTransceiver("video", direction="recvonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = {"type": "offer", "sdp": self.peer.localDescription.sdp, "camera": camera}
        status, body = await asyncio.to_thread(
            self.panel.request, "POST", f"/offer?token={TOKEN}", json.dumps(offer).encode()
        )
        assert status == 200, body
        answer = json.loads(body)
        await self.peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        return str(answer["sdp"])

    async def luma_of_square(self) -> float:
        assert self.track is not None
        picture = await asyncio.wait_for(self.track.recv(), EVENT_S)
        assert isinstance(picture, av.VideoFrame)
        return float(picture.to_ndarray(format="gray8", threads=1)[SQUARE].mean())

    async def until_square_is(self, luma: float) -> None:
        # Limited range becomes full range on the way; VP8 changes a little.
        wanted = (luma - 16) * 255 / 219
        seen: list[float] = []
        async with asyncio.timeout(EVENT_S) if hasattr(asyncio, "timeout") else NoTimeout():
            while not seen or abs(seen[-1] - wanted) > 12:
                seen.append(await self.luma_of_square())


class NoTimeout:
    """Python 3.10 has no asyncio.timeout; each picture is waited for with one of its own."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


def test_edited_picture_comes_by_webrtc_and_follows_the_controls(panel: RunningPanel) -> None:
    async def look() -> None:
        browser = Browser(panel)
        sdp = await browser.open()
        candidates = [line for line in sdp.splitlines() if line.startswith("a=candidate")]
        assert candidates
        assert all(line.split()[4] == "127.0.0.1" for line in candidates)
        await browser.until_square_is(DARK)
        panel.loop.controls.update(target="happy")
        await browser.until_square_is(BRIGHT)
        panel.loop.controls.update(paused=True)
        await browser.until_square_is(DARK)
        await browser.peer.close()

    asyncio.run(look())


def test_browser_camera_takes_the_place_of_the_machines_and_gives_it_back(
    panel: RunningPanel,
) -> None:
    async def look() -> None:
        browser = Browser(panel)
        await browser.open(camera=True)
        await browser.until_square_is(BROWSER_LUMA)
        assert panel.camera.is_paused
        assert panel.loop.stats().source.name == "browser camera"
        panel.loop.controls.update(target="happy")
        await browser.until_square_is(BRIGHT)
        await browser.peer.close()

    with panel.websocket() as websocket:
        assert not receive(websocket, "hello")["state"]["browser_camera"]
        thread = threading.Thread(target=asyncio.run, args=(look(),))
        thread.start()
        while not receive(websocket, "state")["browser_camera"]:
            pass
        thread.join()
        while receive(websocket, "state")["browser_camera"]:
            pass
    assert not panel.camera.is_paused
    assert panel.loop.source is panel.camera


def test_camera_of_absurdly_large_pictures_is_not_taken(
    panel: RunningPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webrtc, "MAX_CAMERA_PIXELS", SIZE_WH[0] * SIZE_WH[1] - 1)

    async def look() -> None:
        browser = Browser(panel)
        await browser.open(camera=True)
        end_s = time.monotonic() + EVENT_S
        while any(one.laddr.ip == "127.0.0.1" for one in psutil.Process().net_connections("udp")):
            assert time.monotonic() < end_s, "the panel's port is still open"
            await asyncio.sleep(0.05)
        await browser.peer.close()

    asyncio.run(look())
    assert panel.loop.source is panel.camera


def test_what_strangers_send_to_the_port_of_webrtc_does_not_pile_up() -> None:
    async def pile() -> tuple[int, int]:
        connection = aioice.Connection(ice_controlling=False)
        ice.keep_to(connection, "127.0.0.1")
        await connection.gather_candidates()
        (there,) = connection.local_candidates
        connection.remote_username, connection.remote_password = "user", "p" * 22
        checks = asyncio.ensure_future(connection.connect())
        await asyncio.sleep(0.1)
        with contextlib.ExitStack() as opened:
            for number in range(ice.MAX_PACKETS + 200):
                if number % 20 == 0:  # another sender now and then, with a check that is valid
                    sender = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    sender.sendto(_check(connection), (there.host, there.port))
                sender.sendto(b"\x80 as RTP begins", (there.host, there.port))
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)
            found = connection._queue.qsize(), len(connection.remote_candidates)
        checks.cancel()
        await asyncio.gather(checks, return_exceptions=True)
        await connection.close()
        return found

    packets, senders = asyncio.run(pile())
    assert 0 < packets <= ice.MAX_PACKETS
    assert 0 < senders <= 2 * MAX_CANDIDATES


def _check(connection: aioice.Connection) -> bytes:
    """What a browser that knows the answer's password sends first."""
    request = aioice.stun.Message(
        message_method=aioice.stun.Method.BINDING, message_class=aioice.stun.Class.REQUEST
    )
    request.attributes["USERNAME"] = f"{connection.local_username}:user"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.add_message_integrity(connection.local_password.encode())
    return bytes(request)
