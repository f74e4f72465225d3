"""How each stream beside the edited video gets into the output: as it is, converted, or not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final, Literal, cast

import av
import av.error
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream

from mien.runtime.video.reading.source import METADATA_ERRORS
from mien.runtime.video.writing.conversion import Converter, SoundConverter, TextConverter

# What a muxer that is tried on a stream may raise: FFmpeg's own errors, and PyAV's refusals.
_FAILURES: Final = (av.error.FFmpegError, OSError, ValueError, NotImplementedError)
_MOV_FAMILY: Final = frozenset(("mp4", "mov", "ipod", "3gp", "3g2", "ismv", "f4v", "psp"))
_MATROSKA: Final = frozenset(("matroska", "webm"))
# What a muxer takes and players do not, or what comes out of step.
_UNFIT: Final = {
    # The demuxer gives their packets a block size that the AVI muxer takes for a constant rate.
    "avi": frozenset(("aac", "ac3", "eac3", "dca", "flac")),
    "asf": frozenset(("flac", "opus", "alac")),
    "mpegts": frozenset(("mov_text", "subrip", "webvtt", "ass", "ssa", "text")),
    "mpeg": frozenset(("mov_text", "subrip", "webvtt", "ass", "ssa", "text")),
}
_SOUND_ENCODERS: Final = (
    "aac",
    "libopus",
    "libmp3lame",
    "ac3",
    "mp2",
    "flac",
    "wmav2",
    "pcm_s16le",
)
_SOUND_ENCODERS_FIRST: Final = {
    "avi": ("libmp3lame",),
    "asf": ("wmav2",),
    "mxf": ("pcm_s16le",),
    "mpeg": ("ac3",),
}
_TEXT: Final = frozenset(("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"))
_TEXT_ENCODERS: Final = ("mov_text", "subrip", "webvtt", "ass")
# PCM that keeps every sample, for the containers that editors read and that have it.
_PCM: Final = {"u8": "pcm_s16le", "s16": "pcm_s16le", "s32": "pcm_s24le", "flt": "pcm_f32le"}
_LOSSLESS: Final = frozenset(("flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp", "shorten"))
_COVER_TYPES: Final = {"mjpeg": ("image/jpeg", "cover.jpg"), "png": ("image/png", "cover.png")}
# TS and MP4 have one number for the three, and FFmpeg looks at more sound than is tried to tell.
_MPEG_SOUND: Final = frozenset(("mp1", "mp2", "mp3"))
_COVERS: Final = int(Disposition.attached_pic)
_A_FRAME: Final = Fraction(1, 25)
_TRIED_PACKETS: Final = 64
_TRIED_BYTES: Final = 1 << 18
_LOOKED_AT_BYTES: Final = 8 << 20  # of the file, for a first packet of every stream
_NOTES: Final = 5  # on streams that are left out: a file may have a thousand

Kind = Literal["copy", "sound", "text", "cover", "none"]


@dataclass(frozen=True, slots=True)
class Way:
    """How one stream gets into the output. codec: of what it is converted to.

    note: what is to be said of it. cover: the picture of a `cover`.
    """

    kind: Kind
    codec: str = ""
    note: str = ""
    cover: bytes = b""


_NOTHING: Final = Way("none")


@dataclass(frozen=True, slots=True)
class Target:
    """The container of the output. format: FFmpeg's name. suffix: how people call it."""

    format: str
    suffix: str


def plan_streams(opened: InputContainer, streams: list[Stream], target: Target) -> dict[int, Way]:
    """How each of `streams` gets into the output, by its index.

    opened: the same file, opened for this and for nothing else: its first packets are read, and
    tried on a container in memory.
    """
    wanted = {stream.index for stream in streams}
    packets = _first_packets(opened, wanted)
    ways = {}
    for stream in opened.streams:
        if stream.index in wanted:
            ways[stream.index] = _way(stream, packets[stream.index], target)
    return ways


def notes_of(ways: dict[int, Way]) -> list[str]:
    """What is to be said of the streams, the first few of those that are left out singly."""
    gone = [way.note for way in ways.values() if way.kind == "none" and way.note]
    notes = [way.note for way in ways.values() if way.kind != "none" and way.note]
    more = len(gone) - _NOTES
    return notes + gone[:_NOTES] + ([f"{more} more streams left out"] if more > 0 else [])


def describe(stream: Stream) -> str:
    """A stream as it is named to people: `audio stream 1 (aac)`."""
    name = codec_name(stream)
    return f"{stream.type} stream {stream.index}" + (f" ({name})" if name else "")


def codec_name(stream: Stream) -> str:
    """FFmpeg's name of a stream's codec, `tmcd` for timecodes, empty where there is none."""
    context = cast("Any", stream).codec_context  # the stubs say that there always is one
    if context is not None:
        return str(context.codec.canonical_name)
    name = getattr(stream, "name", None)
    if not name and stream.type == "data" and "timecode" in stream.metadata:
        return "tmcd"
    return name or ""


def _first_packets(opened: InputContainer, wanted: set[int]) -> dict[int, list[Packet[Any]]]:
    """The first packets of each stream, as far as they lie near the beginning of the file."""
    found: dict[int, list[Packet[Any]]] = {index: [] for index in wanted}
    sizes = dict.fromkeys(wanted, 0)
    missing, seen = set(wanted), 0
    with contextlib.suppress(*_FAILURES, IndexError):
        for packet in opened.demux():
            seen += packet.size
            index = packet.stream_index
            if found.get(index) and _goes_back(packet, found[index][-1]):
                missing.discard(index)  # the clock has jumped, which no muxer takes
            if packet.size and index in missing:
                found[index].append(packet)
                sizes[index] += packet.size
                if len(found[index]) >= _TRIED_PACKETS or sizes[index] >= _TRIED_BYTES:
                    missing.discard(index)
            if not missing or seen > _LOOKED_AT_BYTES:
                break
    return found


def _goes_back(packet: Packet[Any], last: Packet[Any]) -> bool:
    return packet.dts is not None and last.dts is not None and packet.dts < last.dts


def _way(stream: Stream, packets: list[Packet[Any]], target: Target) -> Way:
    if codec_name(stream) == "tmcd" and target.format in _MOV_FAMILY:
        return Way("none")  # the muxer makes it again, from the metadata of the video
    if stream.type in ("audio", "video", "subtitle") and not codec_name(stream):
        return _left_out(stream, "FFmpeg does not know its codec")
    is_cover = bool(int(stream.disposition) & _COVERS)
    if is_cover and target.format == "matroska":
        return _cover(stream, packets)
    if _fits(stream, packets, target):
        return Way("copy")
    if stream.type in ("audio", "subtitle"):
        return _sound(stream, target) if stream.type == "audio" else _text(stream, target)
    why = f"{target.suffix} files cannot hold it"
    if is_cover:
        why = f"{target.suffix} files hold no cover picture"
    elif stream.type == "data" and target.format in _MATROSKA:
        why = "Matroska has no place for it"
    elif stream.type == "data":
        why = f"FFmpeg cannot write it into {target.suffix} files"
    return _left_out(stream, why)


def _left_out(stream: Stream, why: str) -> Way:
    return Way("none", note=f"{describe(stream)} left out: {why}")


def _cover(stream: Stream, packets: list[Packet[Any]]) -> Way:
    """Matroska has its cover as an attachment."""
    if codec_name(stream) in _COVER_TYPES and packets:
        return Way("cover", codec_name(stream), cover=bytes(packets[0]))
    return _left_out(stream, "only JPEG and PNG can be Matroska's cover picture")


def _sound(stream: Stream, target: Target) -> Way:
    if not _has_decoder(stream):
        return _left_out(stream, f"{target.suffix} files cannot hold it, and nothing decodes it")
    context = cast("Any", stream.codec_context)
    encoders = _SOUND_ENCODERS_FIRST.get(target.format, ()) + _SOUND_ENCODERS
    if target.format == "mov" and codec_name(stream) in _LOSSLESS and context.format is not None:
        encoders = (_PCM.get(context.format.name.removesuffix("p"), "pcm_s24le"), *encoders)
    for encoder in encoders:
        if encoder in _UNFIT.get(target.format, ()):
            continue
        if _takes(target, partial(SoundConverter, source=stream, encoder=encoder)):
            name = Codec(encoder, "w").canonical_name
            note = f"{describe(stream)} re-encoded as {name}: {target.suffix} files cannot hold it"
            return Way("sound", encoder, note)
    return _left_out(stream, f"{target.suffix} files hold no sound that can be written here")


def _text(stream: Stream, target: Target) -> Way:
    if codec_name(stream) not in _TEXT or not _has_decoder(stream):
        return _left_out(stream, f"{target.suffix} files cannot hold it, and it is not text")
    for encoder in _TEXT_ENCODERS:
        if encoder in _UNFIT.get(target.format, ()):
            continue
        if _takes(target, partial(TextConverter, source=stream, encoder=encoder)):
            note = f"{describe(stream)} written as {encoder}: {target.suffix} files cannot hold it"
            return Way("text", encoder, note)
    return _left_out(stream, f"{target.suffix} files hold no subtitles of text")


def _has_decoder(stream: Stream) -> bool:
    try:
        Codec(codec_name(stream), "r")
    except UnknownCodecError:
        return False
    return stream.codec_context is not None


def _fits(stream: Stream, packets: list[Packet[Any]], target: Target) -> bool:
    """Whether a stream that is copied is found again in the output, as what it was."""
    if isinstance(stream, AttachmentStream):
        return target.format == "matroska"
    buffer = io.BytesIO()
    if _is_unfit(stream, target) or not _is_written(stream, packets, target, buffer):
        return False
    buffer.seek(0)
    try:
        with av.open(buffer, **METADATA_ERRORS) as again:
            found = list(again.streams)
            return any(_is_same(stream, other) for other in found) or not found
    except _FAILURES:
        return True  # too little of it to be read: the muxer's word has to do


def _is_unfit(stream: Stream, target: Target) -> bool:
    """Whether a muxer takes what it should not."""
    name = codec_name(stream)
    is_cover = bool(int(stream.disposition) & _COVERS)
    if is_cover and target.format == "mov":
        return True  # it is taken, and not written
    if name.startswith("pcm_") and target.format in _MOV_FAMILY - {"mov"}:
        return True  # it is in the standard, and next to nothing plays it
    return name in _UNFIT.get(target.format, ())


def _is_same(stream: Stream, other: Stream) -> bool:
    names = {codec_name(stream), codec_name(other)}
    same = stream.type == other.type and (len(names) == 1 or names <= _MPEG_SOUND)
    covers = int(stream.disposition) & _COVERS, int(other.disposition) & _COVERS
    return same and covers[0] == covers[1]


def _is_written(
    stream: Stream, packets: list[Packet[Any]], target: Target, buffer: io.BytesIO
) -> bool:
    def add(output: OutputContainer) -> None:
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.disposition = stream.disposition
        copy.metadata.update(stream.metadata)
        output.start_encoding()
        for packet in packets:
            packet.stream = copy
            output.mux_one(packet)

    return _takes(target, add, buffer)


def takes_video(container: str, encoder: str) -> bool:
    """Whether a container opens with what an encoder makes, where FFmpeg has no list of them."""

    def add(output: OutputContainer) -> None:
        # Without the encoder itself: x265 and SVT-AV1 print when they open.
        output.add_mux_stream(encoder, rate=25, width=64, height=64, time_base=_A_FRAME)

    return _takes(Target(container, ""), add)


def _takes(
    target: Target, add: Callable[[OutputContainer], object], buffer: io.BytesIO | None = None
) -> bool:
    """Whether a container in memory opens, and closes, with what is added to it."""
    with contextlib.ExitStack() as stack:
        try:
            output: OutputContainer = av.open(buffer or io.BytesIO(), "w", format=target.format)
            stack.callback(_close_quietly, output)
            for encoder in _COMPANIONS.get(target.format, ()):
                companion: Any = output.add_stream(encoder, rate=25, width=64, height=64)
                companion.pix_fmt = "yuv420p"
            add(output)
            output.start_encoding()
        except _FAILURES:
            return False
    return True


_COMPANIONS: Final = {"mxf": ("mpeg2video",), "gxf": ("mpeg2video",)}  # that need a video


def _close_quietly(output: OutputContainer) -> None:
    with contextlib.suppress(*_FAILURES):
        output.close()


class SideStreams:
    """The streams of an output beside its video, and how packets get into them."""

    def __init__(self, output: OutputContainer, ways: dict[int, Way]) -> None:
        self._output, self._ways = output, ways
        self._copies: dict[int, Stream] = {}
        self._converters: dict[int, Converter] = {}

    def add(self, stream: Stream) -> None:
        """Give the output its stream for one of the source's, in the order of the source."""
        way = self._ways.get(stream.index, _NOTHING)
        made: Stream | None = None
        if way.kind == "copy":
            made = self._copies[stream.index] = self._copy(stream)
        elif way.kind == "cover":
            mime_type, name = _COVER_TYPES[way.codec]
            self._output.add_attachment(stream.metadata.get("filename", name), mime_type, way.cover)
        elif way.kind in ("sound", "text"):
            make = SoundConverter if way.kind == "sound" else TextConverter
            converter = make(self._output, stream, way.codec)
            self._converters[stream.index] = converter
            made = converter.stream
        if made is not None:
            made.metadata.update(stream.metadata)
            made.disposition = stream.disposition

    def _copy(self, stream: Stream) -> Stream:
        return self._output.add_stream_from_template(stream, opaque=True)

    def packets(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """What a packet of the source becomes in the output."""
        index = packet.stream_index
        if index in self._copies:
            packet.stream = self._copies[index]
            yield packet
        elif index in self._converters:
            yield from self._converters[index].convert(packet)

    def finish(self) -> Iterator[Packet[Any]]:
        """What is left in converters."""
        for converter in self._converters.values():
            yield from converter.finish()

    @property
    def notes(self) -> list[str]:
        """What has to be said of the streams after the last packet."""
        return [note for each in self._converters.values() if (note := each.note)]
