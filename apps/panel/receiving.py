"""The video that comes by WebRTC: frames as soon as they are whole, and their way to a source."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any, Final

import av
from aiortc import MediaStreamTrack, RTCRtpReceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError

from mien.runtime.frame import Frame
from mien.runtime.live.pixels import live_frame
from mien.runtime.live.sources.source import SILENT_S, PushSource

_PACKETS: Final = 512  # that wait for one that is missing, as in aiortc's own


class PromptBuffer(JitterBuffer):
    """Puts the packets of a video in order, and ends a frame with its own last packet.

    That one has the marker bit (RFC 7741, section 4.1, of VP8; RFC 6184, section 5.1, of H.264).
    aiortc's own ends a frame with the first packet of the next, which is a frame's time later; so
    does this one where a sender sets no marker.
    """

    def __init__(self) -> None:
        super().__init__(capacity=_PACKETS, is_video=True)

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:  # noqa: ARG002 -- aiortc's
        """The first frame if it is whole, removed; None where packets of it are missing."""
        packets: list[Any] = []
        origin = self._origin or 0  # `add` has set it
        for place in range(origin, origin + self._capacity):
            packet = self._packets[place % self._capacity]
            if packet is None:
                return None
            if packets and packet.timestamp != packets[0].timestamp:
                break
            packets.append(packet)
            if packet.marker:
                break
        self.remove(len(packets))
        data = b"".join(packet._data for packet in packets)
        return JitterFrame(data=data, timestamp=packets[0].timestamp)


def hand_over_promptly(receiver: RTCRtpReceiver) -> None:
    """Have a receiver of video that has got nothing yet decode each frame with its last packet.

    aiortc has no setting for that.
    """
    receiver._RTCRtpReceiver__jitter_buffer = PromptBuffer()  # type: ignore[attr-defined]


def frame_of_browser(picture: av.VideoFrame) -> Frame:
    """A decoded picture of a browser's video as a live frame; WebRTC video is BT.601."""
    frame = live_frame(picture)
    return replace(frame, layout=replace(frame.layout, matrix="bt601"))


async def next_picture(track: MediaStreamTrack, source: PushSource | None) -> av.VideoFrame:
    """The next picture of a browser; where it takes long, `source` says so meanwhile."""
    coming = asyncio.ensure_future(track.recv())
    try:
        done, _ = await asyncio.wait({coming}, timeout=SILENT_S)
        if source is not None:
            source.message = (
                None if done else f"the {source.facts.name} sends no pictures; the last one stays"
            )
        picture = await coming
    finally:
        coming.cancel()
    if source is not None:
        source.message = None
    assert isinstance(picture, av.VideoFrame)
    return picture


async def throw_away(track: MediaStreamTrack) -> None:
    """Take a sound that nobody hears, so that it does not pile up."""
    with contextlib.suppress(MediaStreamError):
        while True:
            await track.recv()
