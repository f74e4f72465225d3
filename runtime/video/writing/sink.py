"""The output file: the encoded video, the copied streams, and its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.stream import VideoStream

from mien.engines.errors import VideoError
from mien.engines.system.limits import check_memory, memory_text
from mien.engines.system.partial_file import FULL_DISK, PartialFile, check_free
from mien.runtime.video.animation import PaletteMaker, container_options
from mien.runtime.video.formats import format_layout
from mien.runtime.video.memory import Plan, Thrift
from mien.runtime.video.planes import as_fraction, reinterpreted, side_data
from mien.runtime.video.reading.mpeg import (
    FRAME_COUNTERS,
    CountedFrames,
    rate_note,
    shape_note,
    stream_rate,
)
from mien.runtime.video.reading.source import METADATA_ERRORS, VideoSource, open_input, reason
from mien.runtime.video.values import Seal, VideoOptions
from mien.runtime.video.writing.carry import (
    SideStreams,
    Target,
    Way,
    describe,
    notes_of,
    plan_streams,
    takes_video,
)
from mien.runtime.video.writing.encoders import (
    PALETTE,
    EncoderChoice,
    SourceFacts,
    choose_encoders,
    encoder_options,
    family_of,
    frame_bytes,
    has_place,
    is_lossless,
    keeps_alpha,
    kind_options,
    parameter_option,
    thrifty,
)
from mien.runtime.video.writing.interleave import Interleaver, rescale_into
from mien.runtime.video.writing.side_data import (
    DOLBY_VISION,
    add_stream_like,
    chroma_location,
    loss_note,
    lost_side_data,
    stream_side_data,
)
from mien.runtime.whole_file import copy_into

# Suffixes that FFmpeg maps to something else, or to nothing.
_FORMATS = {".m4v": "mp4", ".mts": "mpegts", ".m2ts": "mpegts", ".qt": "mov", ".mk3d": "matroska"}
_MOV_FAMILY = frozenset({"mp4", "mov", "ipod", "3gp", "3g2", "ismv", "f4v", "psp"})
_OWN_CLOCK = {"mpegts_copyts": "1"}
_SAME_NAMES = {"fflags": "+bitexact"}  # or two edits alike differ by identifiers drawn for each
_OF_SUFFIX: dict[str, dict[str, str]] = {
    ".y4m": {"strict": "unofficial"},  # or it has 8 bits alone
    ".ts": _OWN_CLOCK,
    ".mts": _OWN_CLOCK,
    ".m2ts": _OWN_CLOCK,
    ".mkv": _SAME_NAMES,
    ".mk3d": _SAME_NAMES,
    ".webm": _SAME_NAMES,
}
_MAX_INTERLEAVE_US = "1000000"  # how long the muxer waits for a stream that has no packets
_STALE_TAGS = ("encoder", "rotate", "bps", "number_of_", "_statistics", "duration")
_SVT_FATAL = "0"  # SVT-AV1's level of messages
_LEFT_OUT_SINGLY = 8
_PROGRAM_STREAMS = frozenset({"mpeg", "vob", "dvd", "svcd", "vcd"})
_WITHOUT_SHAPE = _PROGRAM_STREAMS | {"mpegts", "mpeg2video"}
_RAW_FILE = "yuv4mpegpipe"
_FRAME_GRIDS = frozenset({"avi", "ogg", "ogv", _RAW_FILE})  # their times are numbers of frames
_OFF_GRID = Fraction(1, 4)  # of a frame, by which rounding may move one without a word
_INTERLACED_FLAGS = "+ildct+ilme"


def check_destination(source: Path, destination: Path, *, overwrite: bool) -> None:
    """Raise VideoError where `destination` may not or cannot be written."""
    if destination.is_dir():
        raise VideoError(f"the output {destination} is a folder; give the name of a file")
    if not destination.parent.is_dir():
        raise VideoError(f"the output's folder {destination.parent} does not exist")
    if source.exists() and destination.exists() and source.samefile(destination):
        raise VideoError(f"the output {destination} is the input itself; choose another name")
    check_free(destination, overwrite=overwrite)


def format_name(destination: Path) -> str | None:
    """FFmpeg's name for the container of a destination, None where its suffix says it."""
    return _FORMATS.get(destination.suffix.lower())


class VideoSink:
    """A file being written beside its destination, under a name of its own."""

    def __init__(
        self,
        destination: Path,
        source: VideoSource,
        first: av.VideoFrame,
        options: VideoOptions,
        *,
        size_wh: tuple[int, int],
    ) -> None:
        self.destination = destination
        self._part = PartialFile(destination, overwrite=options.overwrite)
        self.notes: list[str] = []
        self._source = source
        self._first = first
        self._options = options
        self._size_wh = size_wh
        self._last_pts: int | None = None
        # Two counters, for two threads at once: that of `settle_time`, and that which encodes.
        self._settled_times = self._moved_times = 0
        self._off_grid = self._first_pts = 0
        self._pictures = 0
        self._last_dts: dict[int, int] = {}
        self._palettes: PaletteMaker | None = None
        self._side_data = stream_side_data(source.container, source.stream)
        try:
            self._open()
        except BaseException:
            self.abandon()
            raise
        del self._first  # a large one is worth not holding
        # Only transport streams keep a clock that begins at any time: others count from 0.
        keeps_clock = self.container.format.name == "mpegts" or not source.has_broadcast_clock
        self._begin_s = Fraction(0) if keeps_clock else source.begin_s
        self._interleaver = Interleaver(self._mux)

    # Opening

    def _open(self) -> None:
        choices = choose_encoders(self._options.codec, self._facts(), self._accepts)
        failed: Exception | None = None
        for choice in self._affordable(choices):
            plan = self._plan(choice)
            assert plan is not None
            try:
                self._open_with(choice, plan.thrift)
            except (av.error.FFmpegError, ValueError, OSError) as error:
                failed = error
                if getattr(error, "errno", None) in _FILE_ERRORS:
                    break
                self._close_quietly()
                continue
            self.choice, self.in_flight = choice, plan.in_flight
            self.notes.extend(choice.notes)
            self._note_rounding()
            self._note_stream()
            return
        assert failed is not None
        raise self._error(failed) from failed

    def _affordable(self, choices: list[EncoderChoice]) -> list[EncoderChoice]:
        """Those that there is enough memory for. Raises: VideoError where it is for none."""
        kept = [choice for choice in choices if self._plan(choice) is not None]
        width, height = self._size_wh
        budget = self._source.budget
        if not kept:
            check_memory(
                min(budget.least(c.name, self._written_bytes(c)) for c in choices),
                f"{self._source.path} has frames of {width}x{height}, and editing them",
                limit=budget.limit,
                error=VideoError,
            )
        first = choices[0]
        if kept[0] is not first:
            needed = memory_text(budget.least(first.name, self._written_bytes(first)))
            note = (
                f"written by {kept[0].name}: at {width}x{height}, {first.name} takes about "
                f"{needed} of memory (--max-memory lets it)"
            )
            kept[0] = replace(kept[0], notes=(note, *kept[0].notes[1:]))
        return kept

    def _plan(self, choice: EncoderChoice) -> Plan | None:
        return self._source.budget.plan(choice.name, self._written_bytes(choice))

    def _written_bytes(self, choice: EncoderChoice) -> int:
        return frame_bytes(choice.pixel_format, self._size_wh)

    def _facts(self) -> SourceFacts:
        width, height = self._size_wh
        return SourceFacts(
            codec=self._source.stream.codec_context.name,
            pixel_format=self._first.format.name,
            odd_size=bool(width % 2 or height % 2),
            time_base=self._source.time_base,
        )

    def _new_container(self) -> OutputContainer:
        extra = {"max_interleave_delta": _MAX_INTERLEAVE_US}
        keys = self._source.container.metadata
        suffix = self.destination.suffix.lower()
        flags = []
        if suffix in (".mp4", ".mov", ".m4v", ".qt") and any("." in key for key in keys):
            flags.append("use_metadata_tags")  # a phone's place and model keys
        if self._options.streamed:
            flags += ["frag_keyframe", "empty_moov", "default_base_moof"]
        if flags:
            extra["movflags"] = "+".join(flags)
        extra |= _OF_SUFFIX.get(suffix, {})
        if self._side_data and DOLBY_VISION not in self._side_data:
            extra["strict"] = "unofficial"  # else MP4 gets no boxes for stereo and spheres
        name = format_name(self.destination)
        if self._source.container.format.name == "apng" and suffix == ".png":
            name = "apng"
        extra.update(container_options(self._source.path, name or suffix[1:]))
        self._part.file.seek(0)
        self._part.file.truncate()
        try:
            # Opened here and not by FFmpeg, which would follow a link put in the file's place.
            output: OutputContainer = av.open(
                self._part.file,
                "w",
                format=name,
                container_options=extra,
                **METADATA_ERRORS,
            )
        except (ValueError, av.error.FFmpegError) as error:
            raise VideoError(
                f"{self.destination.name} does not name a kind of video file; "
                "let the output end in .mp4, .mkv, .mov or .webm"
            ) from error
        if int(output.format.flags) & cast("int", FormatFlags.no_file.value):
            output.close()
            raise VideoError(
                f"{self.destination.name} names no video that is one whole file; "
                "let the output end in .mp4, .mkv, .mov or .webm"
            )
        return output

    def _accepts(self, encoder: str) -> bool:
        container = self._new_container()
        try:
            container.add_stream(encoder, rate=25)
            is_known = encoder in container.supported_codecs
        except ValueError:
            return False
        finally:
            container.close()
        name = container.format.name
        if not has_place(encoder, name) or not self._is_usual_in(encoder, name):
            return False
        if container.format.name == _RAW_FILE:
            return encoder == "rawvideo"
        if not is_known and not takes_video(container.format.name, encoder):
            return False
        layout = format_layout(self._first.format.name)
        if layout is None or not layout.alpha:
            return True
        is_own = family_of(encoder) == family_of(self._source.stream.codec_context.name)
        # What nothing plays is no way to keep transparency in .mp4.
        is_played = container.format.name != "mp4" or is_own
        return is_played and keeps_alpha(encoder, container.format.name)

    def _is_usual_in(self, encoder: str, container: str) -> bool:
        """Whether an encoder that was not asked for is what people expect in a container."""
        is_own = family_of(encoder) == family_of(self._source.stream.codec_context.name)
        is_stray = container in _PROGRAM_STREAMS and self._source.container.format.name != "mpeg"
        if (is_own and not is_stray) or self._options.codec is not None:
            return True
        if encoder == "rawvideo":
            return container == _RAW_FILE
        return (encoder in FRAME_COUNTERS) == (container in _PROGRAM_STREAMS)

    def _open_with(self, choice: EncoderChoice, thrift: Thrift) -> None:
        """Open encoder and file, leaving out data streams the container refuses together."""
        if choice.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", _SVT_FATAL)  # or it talks on standard error
        ways = self._plan_streams()
        tries = 0
        while True:
            self._build(choice, thrift, ways)
            if not self._encoding.codec_context.is_open:
                self._encoding.codec_context.open()
            try:
                self.container.start_encoding()
            except (av.error.FFmpegError, ValueError):
                optional = [
                    s
                    for s in self._source.copied_streams
                    if s.type in ("data", "attachment") and ways[s.index].kind == "copy"
                ]
                if not optional:
                    raise
                self._close_quietly()
                # One by one, for each try opens the encoder; a thousand of them all at once.
                tries += 1
                for stream in optional[-1:] if tries < _LEFT_OUT_SINGLY else optional:
                    why = f"{self.destination.suffix} files cannot hold it beside the others"
                    ways[stream.index] = Way("none", note=f"{describe(stream)} left out: {why}")
                continue
            self.notes.extend(notes_of(ways))
            return

    def _plan_streams(self) -> dict[int, Way]:
        streams = self._source.copied_streams
        if not streams:
            return {}
        container = self._new_container()
        target = Target(container.format.name, self.destination.suffix)
        container.close()
        with open_input(self._source.path) as opened:
            return plan_streams(opened, streams, target)

    def _build(self, choice: EncoderChoice, thrift: Thrift, ways: dict[int, Way]) -> None:
        source = self._source
        self.container = self._new_container()
        self.container.metadata.update(source.container.metadata)
        self.container.set_chapters(source.container.chapters())
        self._side_streams = SideStreams(self.container, ways)
        for stream in sorted([*source.copied_streams, source.stream], key=_index):
            if stream.index == source.stream.index:
                self._add_own(choice, thrift)
            else:
                self._side_streams.add(stream)

    def _add_own(self, choice: EncoderChoice, thrift: Thrift) -> None:
        """Add the stream of the video, with the encoder of its own, or that of one aside."""
        if not self._keeps_side_data(choice):
            self.video = self._encoding = self._add_video(self.container, choice, thrift)
            return
        self._aside = av.open(io.BytesIO(), "w", format=self.container.format.name)
        self._encoding = own = self._add_video(self._aside, choice, thrift)
        own.codec_context.open()
        self.video = stream = add_stream_like(
            self.container, self._source.stream, own.codec_context
        )
        stream.time_base = own.time_base
        stream.metadata.update(own.metadata)
        stream.disposition = own.disposition

    def _keeps_side_data(self, choice: EncoderChoice) -> bool:
        """Whether what the container says of the video fits the new one, and can be handed on."""
        is_same = family_of(choice.name) == family_of(self._source.stream.codec_context.name)
        has_any = bool(self._side_data) and DOLBY_VISION not in self._side_data
        return has_any and is_same and not self._options.side_by_side

    def _add_video(
        self, container: OutputContainer, choice: EncoderChoice, thrift: Thrift
    ) -> VideoStream:
        source, first = self._source, self._first
        options = self._encoder_options(choice, thrift)
        rate, time_base = source.rate, source.time_base
        if choice.name in FRAME_COUNTERS:
            rate = stream_rate(choice.name, source.rates)
            time_base = 1 / rate
        added = container.add_stream(
            choice.name,
            rate=rate,
            options=options,
            width=self._size_wh[0],
            height=self._size_wh[1],
            time_base=time_base,
        )
        stream = cast("VideoStream", added)
        stream.time_base = source.time_base
        is_grid = self.container.format.name in _FRAME_GRIDS
        # AVI can also number finer steps than frames, and leave most of them empty.
        is_fine = self.container.format.name == "avi" and not source.is_steady
        self._grid_rate = source.rate if is_grid and not is_fine else None
        if self._grid_rate:
            stream.time_base = 1 / self._grid_rate
        context = stream.codec_context
        if rate is None:
            context.framerate = Fraction(0)  # unknown stays unknown
        context.pix_fmt = choice.pixel_format
        context.flags |= CodecFlags.frame_duration
        context.color_range = first.color_range
        context.colorspace = first.colorspace
        context.color_primaries = first.color_primaries
        context.color_trc = first.color_trc
        ratio = source.stream.sample_aspect_ratio or source.stream.codec_context.sample_aspect_ratio
        if ratio:
            context.sample_aspect_ratio = ratio
        self._counted = None
        if choice.name in FRAME_COUNTERS and rate is not None:
            is_square = choice.name == "mpeg2video" and (not ratio or ratio == 1)
            self._counted = CountedFrames(source.time_base, rate, is_square=is_square)
        if hasattr(context, "field_order"):  # PyAV 18 and later
            context.field_order = source.stream.codec_context.field_order
        if self.container.format.name == "avi":
            context.max_b_frames = 0  # it has no times for frames out of order
        if family_of(choice.name) == "hevc" and self.container.format.name in _MOV_FAMILY:
            context.codec_tag = "hvc1"  # the one that Apple's players read
        layout = format_layout(choice.pixel_format)
        stale = _STALE_TAGS if layout and layout.alpha else (*_STALE_TAGS, "alpha_mode")
        stream.metadata.update(
            {k: v for k, v in source.stream.metadata.items() if not k.lower().startswith(stale)}
        )
        stream.disposition = source.stream.disposition
        matrix = side_data(first, SideDataType.DISPLAYMATRIX)
        if matrix is not None:
            stream.set_display_matrix(struct.unpack("=9i", matrix[:36]))
        return stream

    def _encoder_options(self, choice: EncoderChoice, thrift: Thrift) -> dict[str, str]:
        threads = _processors()
        quality = self._options.quality
        options = encoder_options(
            choice.name,
            quality,
            self._options.speed,
            threads=threads,
            picture_bytes=self._written_bytes(choice),
        )
        options = thrifty(options, choice.name, thrift, self._options.speed)
        options.update(parameter_option(choice.name, self._first, quality, threads, thrift))
        options.update(kind_options(choice, self._source.stream.codec_context.profile))
        if self._first.interlaced_frame or self._source.is_interlaced:
            options["flags"] = options.get("flags", "") + _INTERLACED_FLAGS
        if location := chroma_location(self._source.container, self._source.stream):
            options["chroma_sample_location"] = location
        return options

    def _note_stream(self) -> None:
        """Say what MPEG-1 and MPEG-2 cannot state, where the container has no place for it."""
        name, context = self.choice.name, self.video.codec_context
        if self._counted is not None and (note := rate_note(name, self._source.rates)):
            self.notes.append(note)
        shape = as_fraction(context.sample_aspect_ratio)
        is_in_stream = self.container.format.name in _WITHOUT_SHAPE
        if is_in_stream and (note := shape_note(name, self._size_wh, shape)):
            self.notes.append(note)

    def _note_rounding(self) -> None:
        base, own = self._source.time_base, self.video.time_base
        if self._grid_rate is None and own and (base / own).denominator != 1:
            self.notes.append(
                f"times are rounded to {float(own) * 1000:g} ms, "
                f"the finest {self.destination.suffix} files can hold"
            )
        if self._options.quality == 100 and not is_lossless(self.choice.name, 100):
            self.notes.append(f"{self.choice.name} has no lossless mode; its best one was used")

    # Writing

    def settle_time(self, picture: av.VideoFrame) -> None:
        """Give the next picture, in display order, a time after the last one's.

        Before it is filtered: raw streams have no times of their own, and a section or a timeline
        needs them. Called in one thread, which may be another one than that of `encode`.
        """
        step = 1
        if self._source.rate:
            step = max(1, round(1 / (self._source.rate * self._source.time_base)))
        own = picture.pts
        pts = picture.dts if own is None else own
        if pts is not None:
            pts -= round(self._begin_s / self._source.time_base)
        elif self._last_pts is not None:
            pts = self._last_pts + step
        else:
            pts = 0
        if self._last_pts is not None and pts <= self._last_pts:
            pts, own = self._last_pts + 1, None
        self._settled_times += own is None
        picture.pts = pts
        picture.time_base = self._source.time_base
        self._last_pts = pts

    def encode(self, picture: av.VideoFrame) -> None:
        """Encode the next picture, in display order, its time settled. Raises VideoError."""
        picture.pict_type = 0  # the source's choice of key frames is no order for this encoder
        self._off_grid += self._is_off_grid(picture)
        self._pictures += 1
        picture = self._in_encoder_format(picture)
        if self._counted is not None:
            self._counted.number_into(picture)
        try:
            for packet in self._encoding.encode(picture):
                packet.stream = self.video
                self._write(packet)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from error

    def _is_off_grid(self, picture: av.VideoFrame) -> bool:
        """Whether a picture is not shown where a file that numbers frames will show it."""
        if self._grid_rate is None or picture.pts is None:
            return False
        if not self._pictures:
            self._first_pts = picture.pts
        place = (picture.pts - self._first_pts) * self._source.time_base * self._grid_rate
        number = self._pictures if self.container.format.name == _RAW_FILE else round(place)
        return abs(place - number) > _OFF_GRID

    def copy(self, packet: Packet[Any]) -> None:
        """Take the next packet of a copied stream. Raises VideoError."""
        if self._begin_s and packet.time_base:
            ticks = round(self._begin_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
        try:
            for ready in self._side_streams.packets(packet):
                self._interleaver.copy(ready)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from error

    def finish(self, check: Callable[[], None] = lambda: None) -> None:
        """Drain the encoder and close the file. Raises: VideoError.

        check: called between any two packets, which take seconds each where frames are huge; what
        it raises ends that.
        """
        try:
            for packet in self._encoding.codec_context.encode_lazy(None):
                check()
                packet.stream = self.video
                self._write(packet)
            for packet in self._side_streams.finish():
                self._interleaver.copy(packet)
            self._interleaver.finish()
            self.container.close()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from error
        self.notes.extend(self._side_streams.notes)
        self._note_side_data()
        if self._off_grid:
            self.notes.append(
                f"{self._off_grid} frames are shown off their own times: "
                f"{self.destination.suffix} files have a steady rate alone"
            )
        if moved := self._settled_times + self._moved_times:
            were = "1 was" if moved == 1 else f"{moved} were"
            self.notes.append(f"times missing or out of order: {were} set to the next free one")

    def _write(self, packet: Packet[Any]) -> None:
        if self._counted is not None:
            self._counted.time_into(packet)
        self._interleaver.video(packet)

    def _note_side_data(self) -> None:
        """Name what the container said of the source's video and does not of the output's."""
        if not self._side_data:
            return
        suffix, name = self.destination.suffix, self.choice.name
        if self._options.side_by_side:
            self.notes.append(loss_note(self._side_data, suffix, "two pictures are side by side"))
            return
        lost = lost_side_data(self._side_data, self._part.place, self.video.index)
        if DOLBY_VISION in lost:
            lost.remove(DOLBY_VISION)
            self.notes.append(loss_note([DOLBY_VISION], suffix, "no encoder here writes it"))
        if lost:
            is_same = self._keeps_side_data(self.choice)
            why = "" if is_same else f"it is not handed on to what {name} writes"
            self.notes.append(loss_note(lost, suffix, why))

    def hold_source(self) -> None:
        """Let the finished file hold the source's own bytes. Raises: VideoError."""
        copy_into(self._part, self._source.path)

    def put_in_place(self, seal: Seal) -> None:
        """Take what `seal` gives of the finished file for it, where it gives another."""
        other = seal(self._part)
        if other is not None:
            self._part.discard()
            self._part = other

    def publish(self) -> None:
        """Give the file its name. Raises VideoError, also where the name was taken meanwhile."""
        self._part.publish()

    def abandon(self) -> None:
        """Remove what was written."""
        self._close_quietly()
        self._part.discard()

    def _close_quietly(self) -> None:
        container = getattr(self, "container", None)
        if container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                container.close()

    def _in_encoder_format(self, picture: av.VideoFrame) -> av.VideoFrame:
        wanted = self.choice.pixel_format
        if wanted == PALETTE:
            if self._palettes is None:
                self._palettes = PaletteMaker(picture)
            return self._palettes.paletted(picture)
        if picture.format.name == wanted:
            return picture
        have, want = format_layout(picture.format.name), format_layout(wanted)
        if have and want and replace(have, full_range=want.full_range) == want:
            return reinterpreted(picture, wanted)  # yuvj420p and yuv420p: a name apart
        color_range = picture.color_range or None
        converted = picture.reformat(
            format=wanted,
            src_color_range=color_range,
            dst_color_range=color_range,
            interpolation="POINT",  # repeated chroma can be halved again without loss
            threads=1,
        )
        converted.pict_type = 0
        return converted

    def _mux(self, packet: Packet[Any]) -> None:
        index = packet.stream_index
        stream = self.container.streams[index]
        if stream.time_base:  # here and not by the muxer, as two times may become one
            rescale_into(packet, stream.time_base)
        last = self._last_dts.get(index)
        if index == self.video.index and self._pictures <= 2 and self.choice.name == "libx265":
            packet.dts = packet.pts  # FFmpeg leaves it unset for one or two frames: chance numbers
        if packet.dts is not None:
            lowest = None if last is None else last + (not self._allows_equal_times(index))
            if lowest is not None and packet.dts < lowest:
                packet.dts = lowest
                if packet.pts is not None:
                    packet.pts = max(packet.pts, lowest)
                self._moved_times += 1
            self._last_dts[index] = packet.dts
        self.container.mux_one(packet)

    def _allows_equal_times(self, index: int) -> bool:
        if self.container.streams[index].type in ("data", "subtitle"):
            return True
        return bool(int(self.container.format.flags) & cast("int", FormatFlags.ts_nonstrict.value))

    def _error(self, error: BaseException) -> VideoError:
        if isinstance(error, VideoError):
            return error
        if getattr(error, "errno", None) in FULL_DISK:
            return VideoError(
                f"the disk is full: {self.destination} was not written; "
                "make room or choose another folder"
            )
        number = getattr(error, "errno", None) or 0
        if number == errno.EINVAL or number > _OWN_ERRORS:
            suffix = self.destination.suffix
            other = ".mp4 or .mov" if suffix.lower() == ".mkv" else ".mkv"
            return VideoError(
                f"{self.destination} cannot be written: FFmpeg refuses these streams in {suffix} "
                f"files; choose an output that ends in {other}"
            )
        return VideoError(f"{self.destination} cannot be written ({reason(error)})")


_OWN_ERRORS = 1 << 16  # FFmpeg's begin here: "invalid data", "patches welcome"
_FILE_ERRORS = FULL_DISK | {errno.EACCES, errno.EROFS}


def _processors() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _index(stream: Stream) -> int:
    return stream.index


def _describe(stream: Stream) -> str:
    name = getattr(stream, "name", None)
    return f"{stream.type} stream {stream.index}" + (f" ({name})" if name else "")
