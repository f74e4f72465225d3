"""WebRTC: the edited picture to browsers, and a browser's camera to the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
from collections.abc import Coroutine
from typing import Any, Final

import av
from aiortc import (
    InvalidAccessError,
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError

from mien.apps.panel.browser_camera import BrowserCamera, frame_of_browser
from mien.apps.panel.preview import PreviewOutput, Shown
from mien.engines.errors import UsageError
from mien.runtime.live.capture import SILENT_S, PushSource

CONNECT_S: Final = 15.0  # for a browser to come after its offer was answered
_CAMERA: Final = "browser camera"
_LOOPBACK: Final = "127.0.0.1"
# What aiortc's parser raises where an offer is not one.
_BAD_OFFER: Final = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    InvalidAccessError,
    InvalidStateError,
    OperationError,
    RuntimeError,  # what becomes of StopIteration in a coroutine
)


class PreviewTrack(MediaStreamTrack):
    """The newest picture of the preview, for one browser."""

    kind = "video"

    def __init__(self, preview: PreviewOutput) -> None:
        super().__init__()
        self._preview = preview
        self._viewing = contextlib.ExitStack()
        self._viewer = self._viewing.enter_context(preview.viewer("video"))
        self._sending: Shown | None = None

    async def recv(self) -> av.VideoFrame:
        """The next picture; what was given before has been encoded and sent by now."""
        if self._sending is not None:
            self._preview.note_sent(self._sending)
        self._sending = shown = await self._viewer.next()
        if shown is None or shown.picture is None or self.readyState != "live":
            self.stop()
            raise MediaStreamError
        shown.picture.pts = round(shown.captured_s * VIDEO_CLOCK_RATE)
        shown.picture.time_base = VIDEO_TIME_BASE
        return shown.picture

    def stop(self) -> None:
        """Nothing; nobody looks any more."""
        self._viewing.close()
        super().stop()


class Peers:
    """The browsers connected by WebRTC; used in the server's thread.

    is_loopback: only this machine is talked to, whatever an offer says.
    """

    def __init__(self, preview: PreviewOutput, camera: BrowserCamera, *, is_loopback: bool) -> None:
        self._preview, self._camera = preview, camera
        self._is_loopback = is_loopback
        self._open: set[RTCPeerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # It reports what a browser that leaves in the middle brings about, line by line.
        logging.getLogger("aiortc").setLevel(logging.CRITICAL)
        logging.getLogger("aioice").setLevel(logging.CRITICAL)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._open)

    async def answer(self, sdp: str, *, with_camera: bool, client: str) -> str:
        """The SDP that answers a browser's offer.

        with_camera: the video that the offer sends becomes the camera. client: the address the
        offer came from. Raises UsageError for an offer that makes no sense.
        """
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._open.add(peer)
        try:
            return await self._negotiate(peer, reachable(sdp, client), with_camera)
        except UsageError:
            await self._close(peer)
            raise
        except _BAD_OFFER as error:
            await self._close(peer)
            raise UsageError("this is not an offer for WebRTC") from error
        except BaseException:
            await self._close(peer)
            raise

    async def close(self) -> None:
        """Nothing; all are told good-bye."""
        for peer in list(self._open):
            await self._close(peer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _negotiate(self, peer: RTCPeerConnection, sdp: str, with_camera: bool) -> str:
        peer.on("connectionstatechange", functools.partial(self._on_state, peer))
        if with_camera:
            peer.on("track", self._on_track)
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        videos = [line for line in peer.getTransceivers() if line.kind == "video"]
        if not videos:
            raise UsageError("the offer has no video")
        if self._is_loopback:
            for transceiver in peer.getTransceivers():
                _keep_to_loopback(transceiver)
        peer.addTrack(PreviewTrack(self._preview))
        await peer.setLocalDescription(await peer.createAnswer())
        self._start(self._drop_if_not_there(peer))
        return str(peer.localDescription.sdp)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drop_if_not_there(self, peer: RTCPeerConnection) -> None:
        await asyncio.sleep(CONNECT_S)
        if peer.connectionState != "connected":
            await self._close(peer)

    async def _on_state(self, peer: RTCPeerConnection) -> None:
        if peer.connectionState in ("failed", "closed"):
            await self._close(peer)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video":
            self._start(self._take_frames(track))

    async def _take_frames(self, track: MediaStreamTrack) -> None:
        """Feeds a browser's frames to the loop until they end."""
        source = None
        try:
            while True:
                picture = await _next_picture(track, source)
                frame = frame_of_browser(picture)
                if source is None:
                    source = self._camera.start(_CAMERA, (frame.width, frame.height))
                source.push(frame)
        except MediaStreamError:
            pass  # this is how a track says that it is over
        finally:
            if source is not None:
                self._camera.end(source)

    async def _close(self, peer: RTCPeerConnection) -> None:
        if peer not in self._open:
            return
        self._open.discard(peer)
        for sender in peer.getSenders():
            if sender.track is not None:
                sender.track.stop()
        await peer.close()


async def _next_picture(track: MediaStreamTrack, source: PushSource | None) -> av.VideoFrame:
    """The next picture of a browser; where it takes long, `source` says so meanwhile."""
    coming = asyncio.ensure_future(track.recv())
    try:
        done, _ = await asyncio.wait({coming}, timeout=SILENT_S)
        if source is not None:
            source.message = None if done else f"the {_CAMERA} gives no pictures; the last is held"
        picture = await coming
    finally:
        coming.cancel()
    if source is not None:
        source.message = None
    assert isinstance(picture, av.VideoFrame)
    return picture


def reachable(sdp: str, client: str) -> str:
    """The offer with names that hide a browser's address replaced by the address it came from.

    Browsers name themselves `....local` and expect the other side to ask the network who that is;
    that would open a port to everybody, and we know. On this machine it is IPv4's loopback, also
    where the page came by way of ::1: that is where both open their ports.
    """
    if ipaddress.ip_address(client).is_loopback:
        client = _LOOPBACK
    return "\r\n".join(_reachable_line(line, client) for line in sdp.splitlines()) + "\r\n"


def _reachable_line(line: str, client: str) -> str:
    if not line.startswith("a=candidate:"):
        return line
    parts = line.split(" ")
    if len(parts) > 4 and parts[4].lower().endswith(".local"):
        parts[4] = client
    return " ".join(parts)


def _keep_to_loopback(transceiver: Any) -> None:
    """Has ICE open ports of the loopback only; by itself it takes all network cards but that.

    aioice has no setting for it. `get_component_candidates` is where it takes the addresses from.
    """
    connection = transceiver.receiver.transport.transport.iceGatherer._connection
    gather = connection.get_component_candidates

    def gather_on_loopback(component: int, addresses: list[str]) -> Any:  # noqa: ARG001
        return gather(component=component, addresses=[_LOOPBACK])

    connection.get_component_candidates = gather_on_loopback
