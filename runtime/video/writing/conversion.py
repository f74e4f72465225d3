"""Sound and subtitles put into a codec that the output's container takes, packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, Protocol, cast

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import Codec, CodecContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from mien.engines.errors import VideoError

_BIT_RATE_A_CHANNEL: Final = 96_000
_MOST_CHANNELS_TIMES: Final = 6  # beyond them the rate does not grow
_UNPACED_SAMPLES: Final = 1024  # a packet has, where the encoder takes any number
# Times of sound in Matroska are whole milliseconds, and those of some cameras worse.
_JITTER_S: Final = Fraction(1, 25)
_LONGEST_SILENCE_S: Final = 600
_FAILURES: Final = (av.error.FFmpegError, OSError, ValueError)
_DEFAULT_LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_SUBTITLE_BASE: Final = Fraction(1, 1000)
# For subtitles that come without the header that says how they look.
_PLAIN_STYLE: Final = b"""[Script Info]\r
ScriptType: v4.00+\r
PlayResX: 384\r
PlayResY: 288\r
\r
[V4+ Styles]\r
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding\r
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r
\r
[Events]\r
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r
"""


class Converter(Protocol):
    """Makes the packets of one output stream from those of a source's."""

    stream: Any

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packets that a packet of the source makes; it may be none yet."""

    def finish(self) -> Iterator[Packet[Any]]:
        """The packets that are left after the last one."""

    @property
    def note(self) -> str | None:
        """What else is to be said of it, at the end."""


class SoundConverter:
    """Decodes, resamples and encodes sound, in step with its source's times.

    A gap is filled with silence, so that what follows it keeps its time.
    """

    def __init__(self, output: OutputContainer, source: Stream, encoder: str) -> None:
        self._decoder = cast("AudioCodecContext", source.codec_context)
        settings = _settings(self._decoder, encoder)
        if settings is None:
            raise VideoError(f"the sound in stream {source.index} cannot be written by {encoder}")
        self._rate, self._format, self._layout, channels = settings
        rate: Any = self._rate
        added = output.add_stream(encoder, rate=rate, time_base=Fraction(1, self._rate))
        self.stream = cast("AudioStream", added)
        self._encoder = context = self.stream.codec_context
        context.format = self._format
        context.layout = self._layout
        if not encoder.startswith(("pcm", "flac", "alac")):
            context.bit_rate = _BIT_RATE_A_CHANNEL * min(max(channels, 1), _MOST_CHANNELS_TIMES)
        self.stream.time_base = Fraction(1, self._rate)
        self._resampler = self._new_resampler()
        self._fifo = AudioFifo()
        self._next: int | None = None  # sample that the next one out of the FIFO is
        self._expected_s = Fraction(0)  # when the next frame of the source is to begin
        self._failed = 0

    @property
    def note(self) -> str | None:
        """How much of the sound could not be decoded."""
        if not self._failed:
            return None
        packets = "1 packet" if self._failed == 1 else f"{self._failed} packets"
        return f"{packets} of sound could not be decoded and left silence"

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packets that are full by now."""
        try:
            frames = self._decoder.decode(packet)
        except _FAILURES:
            self._failed += 1
            return
        for frame in frames:
            yield from self._take(frame)

    def finish(self) -> Iterator[Packet[Any]]:
        """What the decoder, the resampler and the encoder still hold."""
        try:
            frames = self._decoder.decode(None)
        except _FAILURES:
            frames = []
        for frame in frames:
            yield from self._take(frame)
        self._flush_resampler()
        yield from self._drained(partial=True)
        yield from self._encoded(None)

    def _take(self, frame: AudioFrame) -> Iterator[Packet[Any]]:
        if not frame.samples or not frame.sample_rate:
            return
        begin_s = self._begin_s(frame)
        if self._next is None:
            self._next, self._expected_s = round(begin_s * self._rate), begin_s
        elif begin_s - self._expected_s > _JITTER_S:
            yield from self._bridged(begin_s - self._expected_s)
            self._expected_s = begin_s
        self._expected_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        for ready in self._resampler.resample(frame):
            ready.pts = None
            self._fifo.write(ready)
        yield from self._drained(partial=False)

    def _begin_s(self, frame: AudioFrame) -> Fraction:
        if frame.pts is None or frame.time_base is None:
            return self._expected_s
        base = Fraction(frame.time_base.numerator, frame.time_base.denominator)
        return frame.pts * base

    def _bridged(self, gap_s: Fraction) -> Iterator[Packet[Any]]:
        """Encoded silence for a gap: not every container can hold one in its sound."""
        self._flush_resampler()
        samples = round(gap_s * self._rate)
        if gap_s > _LONGEST_SILENCE_S:  # no gap, but a clock that jumped: it is left open
            samples = -self._fifo.samples % self._samples
        while samples > 0:
            count = min(samples, self._rate)
            self._fifo.write(self._silence(count))
            samples -= count
            yield from self._drained(partial=False)
        if gap_s > _LONGEST_SILENCE_S:
            self._next = (self._next or 0) + round(gap_s * self._rate)

    def _silence(self, samples: int) -> AudioFrame:
        silence = AudioFrame(self._format, self._layout, samples)
        count = silence.layout.nb_channels if silence.format.is_planar else 1
        for plane in silence.planes[:count]:
            plane.update(_silent_byte(self._format) * plane.buffer_size)
        silence.sample_rate = self._rate
        silence.pts = None
        return silence

    def _flush_resampler(self) -> None:
        for ready in self._resampler.resample(None):
            ready.pts = None
            self._fifo.write(ready)
        self._resampler = self._new_resampler()

    def _drained(self, *, partial: bool) -> Iterator[Packet[Any]]:
        while self._fifo.samples >= self._samples or (partial and self._fifo.samples):
            frame = self._fifo.read(self._samples, partial)
            if frame is None:
                return
            frame.pts, frame.time_base = self._next, Fraction(1, self._rate)
            self._next = (self._next or 0) + frame.samples
            yield from self._encoded(frame)

    def _encoded(self, frame: AudioFrame | None) -> Iterator[Packet[Any]]:
        if frame is None and not self._encoder.is_open:
            return
        yield from self.stream.encode(frame)

    @property
    def _samples(self) -> int:
        return self._encoder.frame_size or _UNPACED_SAMPLES

    def _new_resampler(self) -> AudioResampler:
        return AudioResampler(format=self._format, layout=self._layout, rate=self._rate)


def _silent_byte(sample_format: str) -> bytes:
    return b"\x80" if sample_format.startswith("u8") else b"\0"


def _settings(decoder: AudioCodecContext, encoder: str) -> tuple[int, str, str, int] | None:
    """Rate, sample format, layout and channels that the encoder opens with; None for none."""
    codec = Codec(encoder, "w")
    rate = _nearest_rate(decoder.sample_rate or 48000, codec.audio_rates)
    formats = [offered.name for offered in codec.audio_formats or []]
    known = cast("Any", decoder).format  # the stubs say that it is always known
    sample_format = _nearest_format(known.name if known is not None else "fltp", formats)
    channels = max(decoder.channels, 1)
    own = decoder.layout.name
    for layout in dict.fromkeys((own, _DEFAULT_LAYOUTS.get(channels, own), "stereo", "mono")):
        context = cast("AudioCodecContext", CodecContext.create(encoder, "w"))
        try:
            context.sample_rate = rate
            context.format, context.layout = sample_format, layout
            context.time_base = Fraction(1, rate)
            context.open()
        except _FAILURES:
            continue
        return rate, sample_format, layout, min(channels, context.channels)
    return None


def _nearest_rate(rate: int, offered: list[int] | None) -> int:
    """The rate itself, the next higher one, or the highest."""
    if not offered or rate in offered:
        return rate
    return min((r for r in offered if r > rate), default=max(offered))


def _nearest_format(sample_format: str, offered: list[str]) -> str:
    """The format itself, planar or not, else the first that the encoder prefers."""
    plain = sample_format.removesuffix("p")
    for name in (sample_format, plain, f"{plain}p"):
        if name in offered:
            return name
    return offered[0] if offered else sample_format


class TextConverter:
    """Decodes subtitles of text and encodes them for another container, at their own times."""

    def __init__(self, output: OutputContainer, source: Stream, encoder: str) -> None:
        self._decoder = cast("SubtitleCodecContext", source.codec_context)
        self._decoder.open(strict=False)
        self.stream = output.add_stream(encoder)
        self._encoder = cast("SubtitleCodecContext", self.stream.codec_context)
        self._encoder.subtitle_header = self._decoder.subtitle_header or _PLAIN_STYLE
        self._encoder.time_base = _SUBTITLE_BASE
        self.stream.time_base = _SUBTITLE_BASE
        self._failed = 0

    @property
    def note(self) -> str | None:
        """How many subtitles could not be read."""
        return f"{self._failed} subtitles could not be converted" if self._failed else None

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The subtitle of a packet in the other codec, none for one without text."""
        try:
            subtitle = self._decoder.decode2(packet)
            if subtitle is None or not len(subtitle):
                return
            made = self._encoder.encode_subtitle(subtitle)
        except _FAILURES:
            self._failed += 1
            return
        made.stream = self.stream
        made.time_base = packet.time_base
        made.pts = packet.pts
        made.dts = packet.pts
        made.duration = packet.duration
        yield made

    def finish(self) -> Iterator[Packet[Any]]:
        """No packets: nothing is held."""
        return iter(())
