"""When the frames of a video that comes by RTP are whole, against aiortc's own buffer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import av
import pytest
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RtpPacket

from mien.apps.panel.receiving import PromptBuffer
from mien.runtime.live.pixels import picture_of
from tests.apps.panel.stand_in import RunningPanel, running_panel
from tests.apps.panel.test_whip import Client, CountingTrack, number_in, until

FRAME_TICKS = 3000
BEGINNING = 65_534  # numbers of packets begin again at 65,536


def packets_of(sizes: Sequence[int], *, marked: bool = True) -> list[RtpPacket]:
    """The packets of frames with so many packets each."""
    packets = []
    for frame, size in enumerate(sizes):
        for place in range(size):
            number = (BEGINNING + len(packets)) % 65_536
            packet = RtpPacket(sequence_number=number, timestamp=frame * FRAME_TICKS)
            packet.marker = int(marked and place == size - 1)
            packet._data = f"{frame}.{place} ".encode()
            packets.append(packet)
    return packets


def frames_from(buffer: JitterBuffer, packets: Sequence[RtpPacket]) -> list[tuple[int, bytes]]:
    """The frames that come out, with how many packets had come by then."""
    found = []
    for count, packet in enumerate(packets, start=1):
        _, frame = buffer.add(packet)
        if frame is not None:
            assert frame.data.startswith(f"{frame.timestamp // FRAME_TICKS}.".encode())
            found.append((count, frame.data))
    return found


def test_a_frame_is_whole_with_its_last_packet() -> None:
    packets = packets_of([3, 1, 2, 1, 1])
    assert frames_from(PromptBuffer(), packets) == [
        (3, b"0.0 0.1 0.2 "),
        (4, b"1.0 "),
        (6, b"2.0 2.1 "),
        (7, b"3.0 "),
        (8, b"4.0 "),
    ]


def test_without_markers_a_frame_ends_where_the_next_one_begins() -> None:
    packets = packets_of([3, 1, 2, 1, 1], marked=False)
    own = JitterBuffer(capacity=512, is_video=True)
    found = frames_from(PromptBuffer(), packets)
    assert found == frames_from(own, packets)
    assert [count for count, _ in found] == [4, 5, 7, 8]


def test_a_packet_that_comes_late_is_waited_for() -> None:
    packets = packets_of([2, 2, 2])
    late = [packets[0], packets[1], packets[3], packets[4], packets[2], packets[5]]
    assert frames_from(PromptBuffer(), late) == [
        (2, b"0.0 0.1 "),
        (5, b"1.0 1.1 "),
        (6, b"2.0 2.1 "),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_out_of_order_comes_out_whole_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    packets = packets_of([chance.randint(1, 4) for _ in range(200)])
    keys = {id(packet): place + 6 * chance.random() for place, packet in enumerate(packets)}
    mixed = [packets[0], *sorted(packets[1:], key=lambda packet: keys[id(packet)])]
    prompt = frames_from(PromptBuffer(), mixed)
    own = frames_from(JitterBuffer(capacity=512, is_video=True), mixed)
    assert len(own) > 150
    assert [data for _, data in prompt[: len(own)]] == [data for _, data in own]
    assert all(soon <= late for (soon, _), (late, _) in zip(prompt, own, strict=False))


class StillTrack(CountingTrack):
    """Gives five frames, and then none."""

    async def recv(self) -> av.VideoFrame:
        if len(self.made_s) == 5:
            await asyncio.Event().wait()
        return await super().recv()


def test_the_last_frame_is_shown_though_no_other_follows(tmp_path: Path) -> None:
    numbers: list[int | None] = []

    async def look(panel: RunningPanel) -> None:
        sender, receiver = Client(panel, "/whip"), Client(panel, "/whep")
        await receiver.receive("video")  # or nobody looks, and the loop rests
        await sender.send(StillTrack())

        def is_shown() -> bool:
            latest = panel.loop.latest()
            if latest is not None:
                numbers.append(number_in(picture_of(latest.frame)))
            return 4 in numbers

        await until(is_shown, "the last frame")
        await sender.peer.close()
        await receiver.peer.close()

    with running_panel(tmp_path) as panel:
        asyncio.run(look(panel))
    seen = [number for number in numbers if number is not None]
    assert seen == sorted(seen)
