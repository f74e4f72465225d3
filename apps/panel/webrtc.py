"""WebRTC: the edited picture to browsers, and a browser's camera in place of the machine's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import av
from aiortc import (
    InvalidAccessError,
    InvalidStateError,
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, pack_remb_fci

from mien.apps.panel.guard import TENURE_S, Places, Rate
from mien.apps.panel.ice import LOOPBACK, keep_to, own_address, plain_address
from mien.apps.panel.offers import MAX_CANDIDATES, VideoOffer
from mien.apps.panel.preview import PreviewOutput, Shown, VideoKind
from mien.apps.panel.receiving import (
    frame_of_browser,
    hand_over_promptly,
    next_picture,
    throw_away,
)
from mien.apps.panel.steering import Loop
from mien.engines.errors import UsageError
from mien.runtime.live.sources.source import PushSource, Source
from mien.runtime.live.values import SourceFacts


class BrowserCamera:
    """At most one browser's camera; the newest takes the place of the one before.

    While there is one, the machine's own camera is released; it is taken again when the
    browser's ends. changed: called whenever a browser's camera comes or goes.
    """

    def __init__(self, loop: Loop, changed: Callable[[bool], None]) -> None:
        self._loop, self._changed = loop, changed
        self._own: Source | None = None  # the machine's, while a browser's is used
        self._used: PushSource | None = None

    def start(self, name: str, size_wh: tuple[int, int]) -> PushSource:
        """A source that is the loop's camera from now on; the browser's frames go in there."""
        asked = "what the browser sends"
        source = PushSource(SourceFacts(name, size_wh, Fraction(30), "webrtc", asked))
        before = self._loop.use_source(source)
        if self._used is None:
            self._own = before
        else:
            before.close()
        self._used = source
        self._changed(True)
        return source

    def uses(self, source: PushSource) -> bool:
        """Whether it is the camera now."""
        return source is self._used

    def end(self, source: PushSource) -> None:
        """Take the machine's own camera again, unless another browser's came meanwhile."""
        if source is not self._used or self._own is None:
            return
        self._loop.use_source(self._own).close()
        self._used = self._own = None
        self._changed(False)


CONNECT_S: Final = 8.0  # for a browser to come after its offer was answered
COMING_S: Final = 3.0  # of it, that is its own; then it may have to make room
MAX_CAMERA_PIXELS: Final = 4096 * 2304
OUTPUT_BIT_RATE: Final = 3_000_000  # a second; of VP8, aiortc makes half of it at most
_NEGOTIATE_S: Final = 5.0
_OFFERS_A_SECOND: Final = 4.0
CAMERA: Final = "browser camera"
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

    def __init__(self, preview: PreviewOutput, which: VideoKind = "video") -> None:
        super().__init__()
        self._preview = preview
        self._viewing = contextlib.ExitStack()
        self._viewer = self._viewing.enter_context(preview.viewer(which))
        self._sending: Shown | None = None
        self._given_s = 0.0
        self.encoder_is_there: Callable[[], Coroutine[Any, Any, None]] | None = None  # called once

    async def recv(self) -> av.VideoFrame:
        """The next picture; what was given before has been encoded and sent by now."""
        if self._sending is not None:
            self._preview.note_sent(self._sending)
            self._preview.note_encoded((time.monotonic() - self._given_s) * 1e3)
            if self.encoder_is_there is not None:
                await self.encoder_is_there()
                self.encoder_is_there = None
        self._sending = shown = await self._viewer.next()
        if shown is None or shown.picture is None or self.readyState != "live":
            self.stop()
            raise MediaStreamError
        shown.picture.pts = round(shown.captured_s * VIDEO_CLOCK_RATE)
        shown.picture.time_base = VIDEO_TIME_BASE
        self._given_s = time.monotonic()
        return shown.picture

    def stop(self) -> None:
        """End the viewing."""
        self._viewing.close()
        super().stop()


@dataclass(frozen=True, slots=True)
class Call:
    """What somebody offers WebRTC for.

    client: the address the offer came from. server: the one it came to, where alone ports are
    opened. camera: how the video that it sends is called, and becomes the camera; None where it
    does not. picture: the one that goes back, if any. is_program: whether it may be no browser:
    GStreamer does not reach the loopback's address from its sockets, which libnice binds to a
    network card; from this machine it is met at the card's address as well, and nobody else is.
    """

    client: str
    server: str
    camera: str | None = None
    picture: VideoKind | None = None
    is_program: bool = False


class Peer:
    """One browser or program that is connected by WebRTC, or is about to be.

    address: the machine it is on. key: what it is asked for by, which cannot be guessed.
    """

    def __init__(self, connection: RTCPeerConnection, offer: VideoOffer, call: Call) -> None:
        self.connection, self.offer, self.call = connection, offer, call
        self.address = call.client
        self.key = secrets.token_urlsafe(16)
        self.answer = ""  # in SDP
        self.is_answered = False
        self.is_camera = False
        self.close: Callable[[], None] = lambda: None
        self._began_s = time.monotonic()

    @property
    def is_connected(self) -> bool:
        """Whether the browser came."""
        return bool(self.connection.connectionState == "connected")

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """Who did not come yet, then who has looked longest; never the camera in use."""
        lasted_s = now_s - self._began_s
        if not self.is_answered or self.is_camera:
            return None
        if self.is_connected:
            return (1, lasted_s) if lasted_s >= TENURE_S else None
        return (2, lasted_s) if lasted_s >= COMING_S else None

    def make_room(self) -> None:
        """Close the connection soon: somebody newer has the place."""
        self.close()


class Peers:
    """The browsers connected by WebRTC; used in the server's thread."""

    def __init__(self, preview: PreviewOutput, camera: BrowserCamera, *, most: int) -> None:
        self._preview, self._camera = preview, camera
        self._places: Places[Peer] = Places(most)
        self._open: set[Peer] = set()  # also those that have to make room
        self._one_at_a_time = asyncio.Lock()
        self._offers = Rate(_OFFERS_A_SECOND, most)
        self._most = self._waiting = most
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        # It reports what a browser that leaves in the middle brings about, line by line.
        logging.getLogger("aiortc").setLevel(logging.CRITICAL)
        logging.getLogger("aioice").setLevel(logging.CRITICAL)

    async def answer(self, offer: VideoOffer, call: Call) -> Peer | None:
        """Whoever made an offer, with the answer to it, None where there are too many.

        Raises UsageError for an offer that makes no sense.
        """
        if call.camera is not None and not offer.sends:
            raise UsageError("this offer sends no video that could be the camera")
        if self._waiting == 0:
            return None
        self._waiting -= 1
        try:
            async with self._one_at_a_time:
                if self._is_closed:
                    return None
                await asyncio.sleep(self._offers.wait_s())
                self._offers.take()
                return await self._answer(offer, call)
        finally:
            self._waiting += 1

    def find(self, key: str) -> Peer | None:
        """Who has that key and is still there."""
        return next((peer for peer in self._open if peer.key == key and peer.is_answered), None)

    async def end(self, peer: Peer) -> None:
        """Tell one good-bye."""
        await self._close(peer)

    async def add_ports(self, peer: Peer, ports: Sequence[int]) -> None:
        """Look for one at further ports of its machine, as `VideoOffer.sdp` does at the first."""
        client = plain_address(peer.call.client)
        if ipaddress.ip_address(client).is_loopback:  # from there it finds us by itself
            return
        ice = peer.connection.getTransceivers()[0].receiver.transport.transport
        room = MAX_CANDIDATES - len(ice.getRemoteCandidates())
        for number, port in enumerate(ports[: max(0, room)], start=MAX_CANDIDATES + 1):
            candidate = RTCIceCandidate(
                1, str(number), client, port, 2**31 - number, "udp", "host", sdpMid=peer.offer.mid
            )
            await ice.addRemoteCandidate(candidate)

    async def close(self) -> None:
        """Tell all good-bye."""
        self._is_closed = True
        async with self._one_at_a_time:  # one that is being answered has its ports by then
            for peer in list(self._open):
                await self._close(peer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, offer: VideoOffer, call: Call) -> Peer | None:
        # One transport for all parts: each of its own would open ports of its own.
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        peer = Peer(RTCPeerConnection(configuration), offer, call)
        peer.close = lambda: self._start(self._close(peer))
        if not self._places.take(peer):
            await peer.connection.close()
            return None
        self._open.add(peer)
        try:
            await asyncio.wait_for(self._negotiate(peer), _NEGOTIATE_S)
        except _BAD_OFFER as error:
            await self._close(peer)
            raise UsageError("this is not an offer for WebRTC") from error
        except BaseException:
            await self._close(peer)
            raise
        return peer

    async def _negotiate(self, peer: Peer) -> None:
        connection, call = peer.connection, peer.call
        server, client = plain_address(call.server), plain_address(call.client)
        offer = peer.offer
        if call.is_program:  # it begins DTLS: aiortc cannot with who has a key of RSA (GStreamer)
            offer = replace(offer, setup="active")
        if call.picture == "output":  # at 720p VP8 takes 11 ms of a core a frame, H.264 38 ms
            codecs = sorted(offer.codecs, key=lambda codec: codec.name == "H264")
            offer = replace(offer, codecs=tuple(codecs))
        sdp = offer.sdp(
            with_camera=call.camera is not None,
            client=client,
            with_picture=call.picture is not None,
        )
        is_near = call.is_program and client == server == LOOPBACK
        own = own_address(offer.hosts) if is_near else None
        connection.on("connectionstatechange", functools.partial(self._on_state, peer))
        if call.camera is not None:
            connection.on("track", functools.partial(self._on_track, peer))
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video":
                hand_over_promptly(transceiver.receiver)
        gatherer = connection.getTransceivers()[0].receiver.transport.transport.iceGatherer
        keep_to(gatherer._connection, server, own)
        if call.picture is not None:
            track = PreviewTrack(self._preview, call.picture)
            sender = connection.addTrack(track)
            if call.picture == "output":
                track.encoder_is_there = functools.partial(_raise_bit_rate, sender)
        await connection.setLocalDescription(await connection.createAnswer())
        if any(candidate.ip not in (server, own) for candidate in gatherer.getLocalCandidates()):
            raise UsageError("WebRTC opens ports where the panel does not listen")
        peer.answer = str(connection.localDescription.sdp)
        peer.is_answered = True
        self._start(self._drop_if_not_there(peer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drop_if_not_there(self, peer: Peer) -> None:
        await asyncio.sleep(CONNECT_S)
        if not peer.is_connected:
            await self._close(peer)

    async def _on_state(self, peer: Peer) -> None:
        if peer.connection.connectionState in ("failed", "closed"):
            await self._close(peer)

    def _on_track(self, peer: Peer, track: MediaStreamTrack) -> None:
        work = self._take_frames(peer, track) if track.kind == "video" else throw_away(track)
        self._start(work)

    async def _take_frames(self, peer: Peer, track: MediaStreamTrack) -> None:
        """Feed a browser's frames to the loop until they end."""
        source, name = None, str(peer.call.camera)
        try:
            while source is None or peer.is_camera or peer.call.picture is not None:
                picture = await next_picture(track, source)
                if picture.width * picture.height > MAX_CAMERA_PIXELS:
                    break
                frame = frame_of_browser(picture)
                if source is None:
                    source = self._camera.start(name, (frame.width, frame.height))
                peer.is_camera = self._camera.uses(source)
                source.push(frame)
            await self._close(peer)
        except MediaStreamError:
            pass  # this is how a track says that it is over
        finally:
            peer.is_camera = False
            if source is not None:
                self._camera.end(source)

    async def _close(self, peer: Peer) -> None:
        self._places.free(peer)
        if peer not in self._open:
            return
        self._open.discard(peer)
        for sender in peer.connection.getSenders():
            if sender.track is not None:
                sender.track.stop()
        await peer.connection.close()


async def _raise_bit_rate(sender: RTCRtpSender) -> None:
    """Let a sender begin at its highest bit rate.

    aiortc begins at 500 kbit/s, and goes up where the receiver says so by REMB: GStreamer does not.
    """
    fci = pack_remb_fci(OUTPUT_BIT_RATE, [sender._ssrc])
    packet = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=0, media_ssrc=sender._ssrc, fci=fci)
    await sender._handle_rtcp_packet(packet)
