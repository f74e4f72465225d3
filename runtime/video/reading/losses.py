"""What of a video was lost while it was read, counted so that it can be told.

Three things are compared: the packets that the file says or shows it has, those that were read,
and the pictures that came out of the decoder. Neither the decoder's errors nor its flags suffice:
damaged VP9 loses whole clusters of its file, and HEVC whole groups of pictures, without either.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import av
from av.packet import Packet

# Decoders that give one picture for each packet that shows one.
_ONE_FOR_ONE: Final = frozenset(
    ("h264", "hevc", "vvc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "prores", "dnxhd")
) | frozenset(("mpeg1video", "mpeg2video", "ffv1", "huffyuv", "ffvhuff", "utvideo", "dvvideo"))
_MAX_PENDING: Final = 512  # no decoder holds back so many packets
_NOT_CODED_BYTES: Final = 8  # an MPEG-4 picture that says "as before" is not longer
_REORDERED: Final = 32  # packets in decoding order are at most so far from the order of display
_KINDS_OF_STEPS: Final = 1024  # different steps in time that are counted apart
# So far apart are the times of two recordings that were joined, and so soon after the packet that
# seems to lack something, as parsers hold packets back.
_JOINED_S: Final = 1.0
_JOINED_PACKETS: Final = 4
_LONGEST_GAP_S: Final = 10.0  # a longer step may be where two recordings were joined
_LONGEST_UNPROVEN_S: Final = 2.0  # a longer one, where nothing else is wrong, may be a still
# A step in time means lost pictures where nearly all the others are the one that is declared.
_REGULAR: Final = 0.9
_REGULAR_DAMAGED: Final = 0.6
_FEW_GAPS: Final = 0.03


def shows_picture(codec: str, packet: Packet[Any]) -> bool:
    """Whether the decoder gives a picture for the packet: VP8, VP9 and MPEG-4 have hidden ones."""
    if codec == "mpeg4":
        return packet.size > _NOT_CODED_BYTES
    if codec not in ("vp8", "vp9") or not packet.size:
        return True
    data = memoryview(packet)
    if codec == "vp8":
        return bool(data[0] & 0x10)
    if data[-1] & 0xE0 == 0xC0:  # several in one, the last of them shown (VP9, annex B)
        return True
    first = data[0] << 1 if data[0] & 0x30 == 0x30 else data[0]  # profile 3 has one bit more
    return bool(first & 0x08 or first & 0x02)  # show_existing_frame, show_frame


def _is_absurd(packet: Packet[Any]) -> bool:
    """Whether a packet is shown further from its decoding than any order of pictures needs."""
    if packet.pts is None or packet.dts is None or not packet.duration:
        return False
    return abs(packet.pts - packet.dts) > _REORDERED * packet.duration


class Losses:
    """Counts what is lost of one stream of video.

    rate: pictures a second that the file declares. has_index: the file lists its pictures and how
    long each is shown, so that a long step between two is none that was lost.
    """

    def __init__(
        self, codec: str, time_base: Fraction, rate: Fraction | None, *, has_index: bool
    ) -> None:
        self._codec = codec
        self._is_counted = codec in _ONE_FOR_ONE
        self._steps = None if has_index else _Steps(time_base, rate)
        self._pending: dict[int, int | None] = {}  # pts to that of the key packet before it
        self._key_pts: int | None = None
        self._first_pts: int | None = None  # of the first picture that came out
        self._joined_ticks = float(_JOINED_S / time_base)
        self._corrupt_at = -_JOINED_PACKETS
        self._dts_before: int | None = None
        self._untimed = self._strangers = 0
        self._given_up = 0
        self.packets = self.errors = self.corrupt_packets = self.damaged = 0

    def note_packet(self, packet: Packet[Any], *, is_joint: bool = False) -> None:
        """Take down a packet that goes to the decoder.

        is_joint: two recordings are joined there, and the times of the second one were moved.
        """
        self.packets += 1
        self._note_corrupt(packet, is_joint=is_joint)
        if is_joint and self._steps is not None:
            self._steps.restart()
        if packet.is_discard:  # by an edit list, or by a time that nothing shows
            self._given_up += _is_absurd(packet)
            return
        if not shows_picture(self._codec, packet):
            return
        if packet.is_keyframe:
            self._key_pts = packet.pts
        if packet.pts is None:
            self._untimed += 1
            return
        if self._steps is not None:
            self._steps.add(packet.pts, packet.dts)
        if packet.pts in self._pending:
            self._untimed += 1
        self._pending[packet.pts] = self._key_pts
        if len(self._pending) > _MAX_PENDING:
            self._give_up(_MAX_PENDING // 2)

    def note_picture(self, picture: av.VideoFrame) -> None:
        """Take down a picture that came out of the decoder."""
        self.damaged += picture.is_corrupt
        if picture.pts is None or picture.pts not in self._pending:
            self._strangers += 1
        else:
            del self._pending[picture.pts]
        if picture.pts is None:
            return
        if self._first_pts is None:
            self._first_pts = picture.pts
        if picture.interlaced_frame:  # the packet of its second field gives no picture of its own
            end = picture.pts + max(picture.duration or 0, 1)
            for pts in [pts for pts in self._pending if picture.pts < pts < end]:
                del self._pending[pts]

    def note_error(self) -> None:
        """Take down that the decoder refused a packet, or failed at one of those it had."""
        self.errors += 1

    @property
    def is_after_corrupt(self) -> bool:
        """Whether one of the last packets lacks bytes, as do those where recordings are joined."""
        return self.packets - self._corrupt_at < _JOINED_PACKETS

    @property
    def undecoded(self) -> int:
        """Packets of which no picture came. To be asked after the last picture."""
        lost = self.errors
        if self._is_counted:
            self._give_up(len(self._pending))
            lost = max(lost, self._given_up + self._untimed - self._strangers)
        return min(lost, self.packets)  # a decoder that does not open has an error for each call

    def missing(self, *, is_damaged: bool) -> int:
        """Pictures that the file does not have any more, by the gaps that they leave in time.

        is_damaged: other things show that the file is; then a gap needs less proof.
        """
        return self._steps.missing(is_damaged=is_damaged) if self._steps is not None else 0

    @property
    def is_regular(self) -> bool:
        """Whether every picture follows the one before by the same time, as far as is known."""
        return self._steps is None or self._steps.is_regular

    def _note_corrupt(self, packet: Packet[Any], *, is_joint: bool) -> None:
        """Count packets that lack bytes, but not those before a place where recordings were joined.

        The counters of transport packets break there as well; times do only there.
        """
        self.corrupt_packets += packet.is_corrupt
        if packet.is_corrupt:
            self._corrupt_at = self.packets
        if packet.dts is None:
            return
        if self._dts_before is not None:
            is_joint |= not 0 <= packet.dts - self._dts_before < self._joined_ticks
            if is_joint and self.packets - self._corrupt_at <= _JOINED_PACKETS:
                self.corrupt_packets -= 1
                self._corrupt_at = -_JOINED_PACKETS
        self._dts_before = packet.dts

    def _give_up(self, count: int) -> None:
        for pts in list(self._pending)[:count]:
            key_pts = self._pending.pop(pts)
            # What is shown before the key picture that the decoder began at, and comes after it,
            # needs one that is missing: it is not meant to be shown.
            is_leading = key_pts is not None and key_pts == self._first_pts and pts < key_pts
            self._given_up += not is_leading


@dataclass
class _Steps:
    """The steps in time from one picture to the next, in the order of display."""

    time_base: Fraction
    rate: Fraction | None
    _longest: float = 0.0  # in ticks
    _waiting: list[int] = field(default_factory=list)
    _last: int | None = None
    _final: int = 0  # the last step
    _last_dts: int | None = None
    _counts: Counter[int] = field(default_factory=Counter)
    _others: int = 0

    def __post_init__(self) -> None:
        self._longest = float(_LONGEST_GAP_S / self.time_base)

    def add(self, pts: int, dts: int | None) -> None:
        """Take down the times of a packet, in decoding order."""
        if dts is not None:
            if self._last_dts is not None and abs(dts - self._last_dts) > self._longest:
                self._flush(0)
                self._last = None
            self._last_dts = dts
        heapq.heappush(self._waiting, pts)
        self._flush(_REORDERED)

    def restart(self) -> None:
        """Forget the last time: another recording begins."""
        self._flush(0)
        self._last = self._last_dts = None

    @property
    def is_regular(self) -> bool:
        """Whether all steps are the same, but for the rounding of times."""
        self._flush(0)
        usual = self._counts.most_common(1)[0][0] if self._counts else 0
        same = sum(n for s, n in self._counts.items() if abs(s - usual) <= self._slack(usual))
        return same == self._counts.total() + self._others

    def missing(self, *, is_damaged: bool) -> int:
        """How many pictures the gaps stand for; 0 where the steps are not regular enough to say."""
        self._flush(0)
        total = self._counts.total() + self._others
        if not total:
            return 0
        step = self._usual()
        if not is_damaged and not self._is_declared(step):
            return 0
        regular = sum(n for s, n in self._counts.items() if abs(s - step) <= self._slack(step))
        gaps = {s: n for s, n in self._counts.items() if self._is_gap(s, step)}
        if is_damaged:
            is_told = regular >= _REGULAR_DAMAGED * total
        else:
            few = math.ceil(_FEW_GAPS * total)
            is_told = regular >= _REGULAR * total and sum(gaps.values()) <= few
            is_told = is_told and regular + sum(gaps.values()) == total
            is_told = is_told and max(gaps, default=0) * self.time_base <= _LONGEST_UNPROVEN_S
            is_told = is_told and self._final not in gaps  # the last picture of a clip may stand
        return sum((round(s / step) - 1) * n for s, n in gaps.items()) if is_told else 0

    def _usual(self) -> float:
        """The most common step in ticks, and what its neighbours by rounding make of it."""
        common = self._counts.most_common(1)[0][0]
        near = {s: n for s, n in self._counts.items() if abs(s - common) <= self._slack(common)}
        return sum(s * n for s, n in near.items()) / sum(near.values())

    def _is_declared(self, step: float) -> bool:
        """Whether the rate that is declared, if any, is that of the usual step; else it varies."""
        if not self.rate:
            return True
        return abs(float(1 / (self.rate * self.time_base)) - step) <= self._slack(step)

    def _is_gap(self, ticks: int, step: float) -> bool:
        count = round(ticks / step)
        return count >= 2 and abs(ticks - count * step) <= self._slack(step) + 0.005 * ticks

    @staticmethod
    def _slack(step: float) -> float:
        """By how much a step may differ: times are rounded to whole ticks on either side."""
        return max(1.0, 0.02 * step) if step > 2 else 0.0

    def _flush(self, keep: int) -> None:
        while len(self._waiting) > keep:
            pts = heapq.heappop(self._waiting)
            step = 0 if self._last is None else pts - self._last
            self._last, self._final = pts, step
            if step <= 0:
                continue
            if step in self._counts or len(self._counts) < _KINDS_OF_STEPS:
                self._counts[step] += 1
            else:
                self._others += 1
