"""One clock for streams whose own jumps: broadcasts, discs, and recordings that were joined.

Transport and program streams count to 2**33 and begin again, and where two recordings were put one
after the other, the second one brings its own times. FFmpeg's demuxer passes such times on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from av.packet import Packet

# As FFmpeg's own remux: a longer step ahead, or a step back by more, is a jump of the clock.
_LONGEST_STEP_S: Final = 10
_LONGEST_STEP_BACK_S: Final = Fraction(1, 10)
_ROUND_S: Final = Fraction(1 << 33, 90_000)  # after which the clock begins again
# Sound lies up to so far from its pictures in a file: a stream that goes on for longer than that
# after another one has jumped does not jump itself.
_LONGEST_DELAY_S: Final = Fraction(3, 2)
_MAX_HELD_BYTES: Final = 16 << 20
_OFFSETS: Final = 4  # that are remembered


@dataclass(slots=True)
class _Track:
    """A stream of sound or pictures: its last time and the next one due, by its own clock.

    offset_s: by which its own clock is moved.
    """

    base: Fraction
    is_video: bool
    offset_s: Fraction
    last: int | None = None
    end: int = 0
    delay: int = 0  # from a packet's decoding to its display

    def follow(self, packet: Packet[Any]) -> None:
        """Take down a packet's time, and correct the one of its display.

        FFmpeg takes it from the next packet where it is not written down: beyond a jump.
        """
        assert packet.dts is not None
        if packet.pts is not None:
            if abs(packet.pts - packet.dts) * self.base > _LONGEST_STEP_S:
                packet.pts = packet.dts + self.delay
            self.delay = packet.pts - packet.dts
        step = 0 if self.last is None else packet.dts - self.last
        self.last = packet.dts
        self.end = packet.dts + (packet.duration or max(0, step))

    def has_jumped(self, packet: Packet[Any]) -> bool:
        """Whether the packet's time is none that follows."""
        if self.last is None or packet.dts is None:
            return False
        is_far = abs(packet.dts - self.end) * self.base > _LONGEST_STEP_S
        return is_far or (self.last - packet.dts) * self.base > _LONGEST_STEP_BACK_S

    def fits(self, packet: Packet[Any], offset_s: Fraction) -> bool:
        """Whether the packet follows the last one if its clock is moved by so much."""
        assert packet.dts is not None
        step_s = packet.dts * self.base + offset_s - self.end_s
        return -_LONGEST_STEP_BACK_S <= step_s <= _LONGEST_STEP_S

    @property
    def end_s(self) -> Fraction:
        """When the next packet is due, by the common clock."""
        return self.end * self.base + self.offset_s


@dataclass(frozen=True, slots=True)
class _Jump:
    """Where a track's clock jumped.

    due_s: when the packet was due, by the common clock. began_s: its time by the new clock.
    number: of the packet among those that are held.
    """

    due_s: Fraction
    began_s: Fraction
    number: int
    is_ahead: bool


class SteadyClock:
    """Moves the times of a file's packets so that each stream's follow each other.

    What was shown together stays together: a jump is one for all streams. For it to be understood,
    packets are held back until the others have jumped as well, or go on as if there were none.

    can_jump: whether the file's clock can; else all times are left as they are. jumps: how many
    there were, each stream's counted.
    """

    def __init__(self, *, can_jump: bool) -> None:
        self._can_jump = can_jump
        self.jumps = 0
        self._tracks: dict[int, _Track] = {}
        self._offsets = [Fraction(0)]  # the newest one last
        self._now_s: Fraction | None = None
        self._held: list[Packet[Any]] = []
        self._held_bytes = 0
        self._jumped: dict[int, _Jump] = {}
        self._at_jump: dict[int, int] = {}  # where each track was as the first one jumped

    def steady(self, packets: Iterator[Packet[Any]]) -> Iterator[tuple[Packet[Any], bool]]:
        """The packets with times that follow, and whether their stream's clock has jumped there."""
        for packet in packets:
            if not self._can_jump:
                yield packet, False
                continue
            track = self._track(packet)
            jumps = track is not None and track.has_jumped(packet)
            if self._held and jumps and packet.stream_index in self._jumped:
                yield from self._release()
            if jumps and not self._held and self._follow_known(track, packet):
                self.jumps += 1
                yield self._moved(packet), True
            elif jumps or self._held:
                self._hold(packet, track if jumps else None)
                if self._is_understood():
                    yield from self._release()
            else:
                yield self._moved(packet), False
        yield from self._release()

    def _track(self, packet: Packet[Any]) -> _Track | None:
        """The track of a packet that has a time; None for text and data, which come as they do."""
        stream, base = packet.stream, packet.time_base
        if stream.type not in ("audio", "video") or packet.dts is None:
            return None
        track = self._tracks.get(packet.stream_index)
        if track is None:
            base = Fraction(base.numerator, base.denominator)
            offset_s = self._nearest(packet.dts * base)
            if self._now_s is not None and not self._held:
                step_s = packet.dts * base + offset_s - self._now_s
                if abs(step_s) > _LONGEST_STEP_S:  # a clock of its own
                    offset_s -= step_s
            track = _Track(base, stream.type == "video", offset_s)
            self._tracks[packet.stream_index] = track
        return track

    def _nearest(self, time_s: Fraction) -> Fraction:
        """Of the last offsets, the one that brings a time nearest to the common clock's."""
        now_s = self._now_s
        if now_s is None:
            return self._offsets[-1]
        return min(reversed(self._offsets), key=lambda offset_s: abs(time_s + offset_s - now_s))

    def _follow_known(self, track: _Track | None, packet: Packet[Any]) -> bool:
        """Whether the clock has begun again, or jumped as that of another stream has."""
        assert track is not None
        rounds = (track.offset_s + _ROUND_S, track.offset_s - _ROUND_S)
        for offset_s in (*rounds, *reversed(self._offsets)):
            if track.fits(packet, offset_s):
                self._move(track, offset_s)
                return True
        return False

    def _move(self, track: _Track, offset_s: Fraction) -> None:
        track.offset_s, track.last = offset_s, None
        if offset_s in self._offsets:
            self._offsets.remove(offset_s)
        self._offsets = [*self._offsets, offset_s][-_OFFSETS:]

    def _moved(self, packet: Packet[Any]) -> Packet[Any]:
        track = self._tracks.get(packet.stream_index)
        time = packet.pts if packet.dts is None else packet.dts
        base = packet.time_base
        if time is None or base is None:
            return packet
        base = Fraction(base.numerator, base.denominator)
        offset_s = self._nearest(time * base) if track is None else track.offset_s
        if track is not None and packet.dts is not None:
            track.follow(packet)
            self._now_s = packet.dts * base + offset_s
        if ticks := round(offset_s / base):
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks
        return packet

    # Jumps that are not understood yet

    def _hold(self, packet: Packet[Any], jumped: _Track | None) -> None:
        if not self._held:
            self._at_jump = {index: track.end for index, track in self._tracks.items()}
        if jumped is not None:
            assert packet.dts is not None
            self._jumped[packet.stream_index] = _Jump(
                jumped.end_s,
                packet.dts * jumped.base,
                len(self._held),
                is_ahead=packet.dts > jumped.end,
            )
        track = self._tracks.get(packet.stream_index)
        if track is not None and packet.dts is not None:
            track.follow(packet)
        self._held.append(packet)
        self._held_bytes += packet.size

    def _is_understood(self) -> bool:
        if self._held_bytes > _MAX_HELD_BYTES:
            return True
        if max(map(self._gone_s, self._jumped)) > 2 * _LONGEST_DELAY_S:
            return True
        others = [index for index in self._at_jump if index not in self._jumped]
        return all(self._gone_s(index) > _LONGEST_DELAY_S for index in others)

    def _gone_s(self, index: int) -> Fraction:
        """How far a track has gone on since the first one jumped, or since it jumped itself."""
        track, jump = self._tracks[index], self._jumped.get(index)
        if jump is not None:
            return track.end * track.base - jump.began_s
        return (track.end - self._at_jump[index]) * track.base

    def _release(self) -> Iterator[tuple[Packet[Any], bool]]:
        """What is held, with the clocks moved that have jumped."""
        held, jumped = self._held, self._jumped
        offsets_s = self._understood() if jumped else {}
        fresh = set(self._tracks) - set(self._at_jump)  # which did not know the new offset
        self._held, self._jumped, self._held_bytes = [], {}, 0
        for number, packet in enumerate(held):
            index = packet.stream_index
            if index in fresh and packet.dts is not None:
                track = self._tracks[index]
                track.offset_s = self._nearest(packet.dts * track.base)
                fresh.remove(index)
            jump = jumped.get(index)
            is_jump = jump is not None and jump.number == number
            if is_jump and index in offsets_s:
                self._move(self._tracks[index], offsets_s[index])
                self.jumps += 1
            yield self._moved(packet), is_jump

    def _understood(self) -> dict[int, Fraction]:
        """The offsets of the tracks that have jumped; none where there is only a gap in one."""
        jumped, tracks = self._jumped, self._tracks
        goes_on = any(
            index not in jumped and self._gone_s(index) > _LONGEST_DELAY_S
            for index in self._at_jump
        )
        if goes_on and all(jump.is_ahead for jump in jumped.values()):
            return {}
        first = min(jumped, key=lambda index: (not tracks[index].is_video, jumped[index].number))
        offset_s = jumped[first].due_s - jumped[first].began_s
        for jump in jumped.values():
            late_s = jump.due_s - jump.began_s - offset_s
            if _LONGEST_STEP_BACK_S < late_s <= _LONGEST_STEP_S:
                offset_s += late_s  # or it would begin before the one before it has ended
        return {
            index: offset_s
            if abs(jump.began_s + offset_s - jump.due_s) <= _LONGEST_STEP_S
            else jump.due_s - jump.began_s
            for index, jump in jumped.items()
        }
