"""A video file read as pictures to edit and packets to copy, in the file's order."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.codec.context import ThreadType
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY, check_memory
from mien.runtime.frame import Frame
from mien.runtime.video.formats import readable_format
from mien.runtime.video.memory import FOUR_K_PIXELS, IN_FLIGHT, Budget, decoder_frames
from mien.runtime.video.planes import as_fraction, display_orientation, frame_from_av
from mien.runtime.video.reading.clock import SteadyClock
from mien.runtime.video.reading.losses import Losses
from mien.runtime.video.reading.mpeg import FRAME_COUNTERS
from mien.runtime.video.reading.sizes import Size, frame_sizes, stated_sizes
from mien.runtime.video.reading.structure import (
    Blocks,
    check_movie,
    has_stray_bytes,
    is_cut_off,
    matroska_blocks,
    starts_over,
)
from mien.runtime.video.values import VideoInfo
from mien.runtime.video.writing.encoders import frame_bytes, has_decoder

# PyAV 19 keeps bytes that are no UTF-8 by itself, earlier ones raise unless told to.
METADATA_ERRORS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
# What a file may be. Playlists and descriptions of streams (concat, HLS, SDP) are not in it: they
# name other files and hosts, which would be read in the name of the one that was given.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,m4v,mjpeg,h261,h263,h264,hevc,"
    "vvc,av1,obu,ivf,flv,live_flv,asf,mxf,gxf,nut,ogg,yuv4mpegpipe,dv,rm,wtv,dnxhd,vc1,vc1test,"
    "cavsvideo,avs2,avs3,dirac,apng,gif,nuv,smjpeg,mpjpeg,pva,mtv,roq,swf,image2,"
    "bmp_pipe,gem_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,pam_pipe,pbm_pipe,"
    "pgm_pipe,png_pipe,ppm_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,tiff_pipe,webp_pipe"
)
_OPENING = {
    "protocol_whitelist": "file",
    "format_whitelist": CONTAINERS,
    "enable_drefs": "0",  # QuickTime's references to other files
    "pattern_type": "none",  # img%d.jpg is that file, not img1.jpg, img2.jpg ...
}
_READ_TIMEOUT_S = 20.0  # a demuxer that seeks in circles ends; a disk that has to spin up does not
_MAX_ERRORS_IN_A_ROW = 64  # of demuxer or decoder, without a packet or picture between them
_MAX_PACKETS_UNSHOWN = 20_000  # without a picture that comes of them: the rest is not looked at
_DECODER_THREADS = 2  # more only cost memory: filter and encoder need the other cores
_ORDINARY_ENCODER_FRAMES = 24  # that x264 holds; with less left than that, one thread decodes
_MISSING_S = 0.5  # a file may end this much before its header says: audio and video differ
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# FFmpeg's decoder drops the picture that it still holds where a larger or smaller one comes.
_LOSES_AT_A_NEW_SIZE = frozenset({"mpeg1video", "mpeg2video"})
_LEAST_BYTES = 188  # of a frame in a transport stream, which is one packet
_SAME_RATE = Fraction(1, 1000)
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame, its size in bytes decided by the decoder."""

    picture: av.VideoFrame


@dataclass(frozen=True, slots=True)
class Copied:
    """One packet of a stream that is copied as it is."""

    packet: Packet[Any]


def check_path(path: Path) -> None:
    """Raise VideoError for what is missing, no file, empty, or may not be read."""
    try:
        if not path.exists():
            raise VideoError(f"{path} does not exist")
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty")
        path.open("rb").close()
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error


def open_input(path: Path, **more: str) -> InputContainer:
    """The opened file. more: options. Raises: VideoError for what is no video."""
    try:
        # The prefix keeps names such as `a:b.mp4` from being taken for a protocol.
        container: InputContainer = av.open(
            f"file:{path}", options=_OPENING | more, timeout=_READ_TIMEOUT_S, **METADATA_ERRORS
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path} cannot be read as a video ({reason(error)}); "
            "it is damaged, incomplete, or something else under a video's name"
        ) from error
    return container


def reason(error: BaseException) -> str:
    """The cause of a library's error in a few words, without numbers and file names."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def main_video(container: InputContainer) -> VideoStream | None:
    """The stream to edit: the default one, else the largest; cover art never."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
        and stream.codec_context is not None
    ]
    if not streams:
        return None
    return max(
        streams,
        key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index),
    )


def alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """The decoder that sees the transparency of VP8 and VP9, None where the stream says of none.

    It lies beside the pictures, as a video of its own; FFmpeg's own decoders pass over it.
    Raises: VideoError where the decoder that is needed is missing.
    """
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    codec = stream.codec_context.name
    if tags.get("alpha_mode") != "1" or codec not in _ALPHA_DECODERS:
        return None
    name = _ALPHA_DECODERS[codec]
    if not has_decoder(name):
        raise VideoError(
            f"{stream.container.name} is transparent {codec.upper()}, which only FFmpeg's "
            f"{name} decodes; the FFmpeg that PyAV has here is without it"
        )
    decoder = cast("VideoCodecContext", CodecContext.create(name, "r"))
    decoder.extradata = stream.codec_context.extradata
    return decoder


def pixel_format(stream: VideoStream) -> str:
    """FFmpeg's name of the stream's pixel format, empty where it is not known.

    PyAV 17 reads from address 0 where it is asked for the `pix_fmt` of such a stream.
    """
    known = cast("Any", stream.codec_context).format  # the stubs say that it is always known
    return known.name if known is not None else ""


class VideoSource(AbstractContextManager["VideoSource"]):
    """A video file, its stream to edit and what was lost while reading it.

    max_memory: bytes that its frames may take, by the sizes it states. beside: how many of them
    are held beside those of the decoder. check: called between any two steps of reading, also
    where nothing comes of them; what it raises ends the reading.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_memory: int = MAX_MEMORY,
        beside: float = 1.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._check = check
        self._max_memory, self._beside = max_memory, beside
        check_path(path)
        check_movie(path, max_memory)
        with open_input(path, codec_whitelist="none") as container:  # no decoder runs yet
            stream = self._main_video(container)
            self._budget(stream)
            largest = str(self._most_pixels(stream.codec_context.name))
        self.container = open_input(path, max_pixels=largest)
        try:
            self.stream = self._main_video(self.container)
            self.budget = self._budget(self.stream)
        except BaseException:
            self.container.close()
            raise
        self._decoder = alpha_decoder(self.stream) or self.stream.codec_context
        self._decoder.thread_type = ThreadType.AUTO
        self._decoder.thread_count = self.budget.threads
        self._decoder.options = {"max_pixels": largest}
        rate = self.stream.average_rate or self.stream.base_rate or None
        self.rate: Fraction | None = as_fraction(rate)
        self.time_base: Fraction = as_fraction(self.stream.time_base) or Fraction(1, 90000)
        self._losses = Losses(
            self.stream.codec_context.name,
            self.time_base,
            as_fraction(self.stream.average_rate),
            has_index=self._has_index,
        )
        self._streams = len(self.container.streams)
        self._late = frozenset(
            stream.index
            for stream in self.container.streams
            if self.has_broadcast_clock and _has_not_begun(stream)
        )
        self._late_packets: set[tuple[str, int]] = set()
        self._stated: list[Size] = []
        self._clock = SteadyClock(can_jump=self.has_broadcast_clock)
        self._indexed = sum(1 for entry in self.stream.index_entries if entry.size)
        self._read_errors: list[str] = []
        self._first_s: float | None = None  # when the first packet of the video is shown
        self._end_s = 0.0
        self._video_end_s = 0.0

    @property
    def _has_index(self) -> bool:
        """Whether the file lists all its frames: MP4 and AVI do, but for live MP4."""
        names = self.container.format.name.split(",")
        return bool(self.stream.frames) and ("mp4" in names or "avi" in names)

    @property
    def has_broadcast_clock(self) -> bool:
        """Whether times do not count from the beginning, and may jump: TS, MPG, VOB."""
        return bool(int(self.container.format.flags) & cast("int", FormatFlags.ts_discont.value))

    @property
    def rates(self) -> list[Fraction | None]:
        """What may be its rate, best first: MPEG's streams state it, others' clocks imply it."""
        own = as_fraction(self.stream.codec_context.framerate)
        told = [as_fraction(rate) for rate in (self.stream.average_rate, self.stream.base_rate)]
        states_it = self.stream.codec_context.name in FRAME_COUNTERS
        return [own, *told] if states_it else [*told, own]

    @property
    def is_steady(self) -> bool:
        """Whether every frame is shown for as long, as far as the file says."""
        average, base = (as_fraction(r) for r in (self.stream.average_rate, self.stream.base_rate))
        if not average or not base:
            return False
        return abs(average / base - 1) <= _SAME_RATE or abs(2 * average / base - 1) <= _SAME_RATE

    @property
    def is_interlaced(self) -> bool:
        """Whether the stream says that its frames are two fields, each at a time of its own."""
        order = getattr(self.stream.codec_context, "field_order", 0)  # PyAV 18 and later
        return int(order) > _PROGRESSIVE

    @property
    def begin_s(self) -> Fraction:
        """When the first of the streams begins."""
        return Fraction(self.container.start_time or 0, av.time_base)

    @property
    def _is_mov(self) -> bool:
        return "mp4" in self.container.format.name.split(",")

    @property
    def _is_matroska(self) -> bool:
        return "matroska" in self.container.format.name.split(",")

    def _main_video(self, container: InputContainer) -> VideoStream:
        stream = main_video(container)
        if stream is None:
            raise VideoError(f"{self.path} has no video to edit, only other streams")
        return stream

    def _budget(self, stream: VideoStream) -> Budget:
        """What reading takes of the memory there may be. Raises: VideoError where that is too much.

        Frames of up to 4K are read as ever, unless less memory was asked for than is usual.
        """
        context = stream.codec_context  # the larger of what container and decoder say
        width = max(stream.width, context.coded_width)
        height = max(stream.height, context.coded_height)
        return self._checked_budget(
            context.name, pixel_format(stream) or "yuv420p", (width, height)
        )

    def _checked_budget(self, codec: str, pixel_format: str, size_wh: tuple[int, int]) -> Budget:
        limit, size = self._max_memory, frame_bytes(pixel_format, size_wh)
        is_strict = size_wh[0] * size_wh[1] > FOUR_K_PIXELS or limit < MAX_MEMORY
        threads = _DECODER_THREADS
        ordinary = decoder_frames(codec, threads) + IN_FLIGHT + _ORDINARY_ENCODER_FRAMES
        if is_strict and ordinary * size > limit:
            threads = 1
        decoder = decoder_frames(codec, threads)
        if is_strict:
            what = (
                f"{self.path} has frames of {size_wh[0]}x{size_wh[1]}, and reading and editing them"
            )
            needed = round((decoder + self._beside) * size)
            check_memory(needed, what, limit=limit, error=VideoError)
        return Budget(limit, size, decoder, threads, is_strict)

    def measure(self, picture: av.VideoFrame) -> None:
        """Reckon with the size of a picture that came. Raises: VideoError where it is too large.

        The header may have said another, or none.
        """
        codec, size_wh = self.stream.codec_context.name, (picture.width, picture.height)
        if frame_bytes(picture.format.name, size_wh) > self.budget.frame_bytes:
            self.budget = self._checked_budget(codec, picture.format.name, size_wh)

    def canvas_wh(self, first: av.VideoFrame, *, limit_s: float | None = None) -> tuple[int, int]:
        """The size of frame that all of the video is to be fitted into: the largest there is.

        Of two alike the first picture's. One that takes too much memory is none; measured as it is.
        limit_s: seconds after which the rest of the file is not looked at. Raises: VideoError.
        """
        self.measure(first)
        own = (first.width, first.height)
        with open_input(self.path, codec_whitelist="none") as container:
            stream = self._main_video(container)
            codec = stream.codec_context.name
            most = self._most_pixels(codec)
            sizes = frame_sizes(
                stream, options={"max_pixels": str(most)}, check=self._check, limit_s=limit_s
            )
        for size_wh in sorted(sizes, key=math.prod, reverse=True):
            if not math.prod(own) < math.prod(size_wh) <= most:
                continue
            with contextlib.suppress(VideoError):
                if frame_bytes(first.format.name, size_wh) > self.budget.frame_bytes:
                    self.budget = self._checked_budget(codec, first.format.name, size_wh)
                return size_wh
        return own

    def _most_pixels(self, codec: str) -> int:
        """How large a frame may become in the middle of the stream: the decoder refuses others."""
        frames = decoder_frames(codec, 1) + 1
        return max(FOUR_K_PIXELS, round(self._max_memory / (1.5 * frames)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.container.close()

    @property
    def copied_streams(self) -> list[Stream]:
        """All streams to copy: those that a player would show, without the one to edit.

        What the demuxer discards, such as the text track that holds the chapters of an MP4
        file, is made again by the muxer.
        """
        return [
            stream
            for stream in self.container.streams
            if stream.index != self.stream.index
            and stream.discard != Discard.all
            and stream.index not in self._late
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the file is not given, though it is whole. To be asked after the last item."""
        if not self._late_packets:
            return ()
        kinds = " and ".join(sorted({kind for kind, _ in self._late_packets}, reverse=True))
        return (f"{kinds} that begin in the middle of the file, as streams of their own, left out",)

    @property
    def frame_count(self) -> int | None:
        """How many frames the file says it has, or its duration and rate make."""
        if self.stream.frames:
            return self.stream.frames
        seconds = self.duration_s
        count = round(seconds * self.rate) if seconds is not None and self.rate else None
        # A clock that jumps ahead makes a file long; it has no more frames for that.
        if count and self.has_broadcast_clock and count > self.path.stat().st_size / _LEAST_BYTES:
            return None
        return count

    @property
    def duration_s(self) -> float | None:
        """Seconds of the video as its header has them."""
        if self.stream.duration is not None:
            return float(self.stream.duration * self.time_base)
        if self.container.duration is not None:
            return self.container.duration / av.time_base
        return None

    def items(self, *, copies: bool = True) -> Iterator[Picture | Copied]:
        """Pictures in display order and, among them, the packets to copy, in the file's order."""
        unshown = 0
        packets = self._packets(list(self.container.streams) if copies else [self.stream])
        for packet, is_joint in self._clock.steady(packets):
            if packet.stream_index == self.stream.index:
                unshown += 1
                for picture in self._decode(packet, is_joint=is_joint):
                    unshown = 0
                    yield picture
                    del picture  # large ones are not held longer than they are needed
                if unshown > _MAX_PACKETS_UNSHOWN:
                    self._read_errors.append("no picture comes any more")
                    break
            elif packet.stream_index in self._late or packet.stream_index >= self._streams:
                self._late_packets.add((packet.stream.type, packet.stream_index))
            elif not _is_gap(packet):
                self._note_end(packet)
                yield Copied(packet)
        yield from self._drain()

    def _packets(self, streams: list[Stream]) -> Iterator[Packet[Any]]:
        """The packets of the file, without the empty ones at its end; a damaged one is left out."""
        errors_in_a_row = 0
        packets = self.container.demux(streams)
        while errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
            self._check()
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self._read_errors.append(reason(error))
                errors_in_a_row += 1
                if isinstance(error, av.error.ExitError):  # it took too long
                    return
                packets = self.container.demux(streams)
                continue
            except IndexError:  # PyAV, at the end of a file in which streams appeared on the way
                return
            if packet is None:
                return
            if packet.size:
                errors_in_a_row = 0
                yield packet

    def _decode(self, packet: Packet[Any], *, is_joint: bool) -> Iterator[Picture]:
        if self.stream.codec_context.name in _LOSES_AT_A_NEW_SIZE:
            stated = stated_sizes(self.stream.codec_context.name, packet)
            if stated and self._stated and stated != self._stated:
                yield from self._drain()
                self._decoder.flush_buffers()
            self._stated = stated or self._stated
        self._losses.note_packet(packet, is_joint=is_joint or self._starts_over(packet))
        self._note_end(packet)
        if self._first_s is None and packet.pts is not None:
            self._first_s = float(packet.pts * self.time_base)
        try:
            pictures = self._decoder.decode(packet)
        except (av.error.FFmpegError, OSError):
            self._losses.note_error()
            return
        while pictures:
            yield self._noted(pictures.pop(0))

    def _starts_over(self, packet: Packet[Any]) -> bool:
        """Whether another recording was joined on there, though the clock does not tell."""
        if not (packet.is_keyframe and self._losses.is_after_corrupt):
            return False
        return self.container.format.name == "mpegts" and starts_over(self.path, packet.pos or -1)

    def _drain(self) -> Iterator[Picture]:
        """What the decoder still holds: each call has pictures, an error, or the end."""
        for _ in range(_MAX_ERRORS_IN_A_ROW):
            self._check()
            try:
                pictures = self._decoder.decode(None)
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                self._losses.note_error()
                continue
            while pictures:
                yield self._noted(pictures.pop(0))
            return

    def _noted(self, picture: av.VideoFrame) -> Picture:
        picture.time_base = self.time_base  # frames that draining gives come without
        self._losses.note_picture(picture)
        if picture.pts is not None:
            end = float((picture.pts + (picture.duration or 0)) * self.time_base)
            self._video_end_s = max(self._video_end_s, end)
        return Picture(readable(picture))

    def _note_end(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_s = max(self._end_s, end)

    def lost(self) -> str | None:
        """What could not be read, None where all of it was. To be asked after the last item."""
        losses = self._losses
        parts, unread = self._lost_of_file()
        if undecoded := losses.undecoded:
            parts.append(f"{undecoded} of {_frames(losses.packets)} could not be decoded")
        if damaged := max(losses.damaged, losses.corrupt_packets):
            parts.append(f"{_frames(damaged)} damaged")
        if gone := max(losses.missing(is_damaged=bool(parts)), unread, self._not_read()):
            parts.append(f"{_frames(gone)} missing")
        return "; ".join(parts) or None

    def _lost_of_file(self) -> tuple[list[str], int]:
        """What is wrong with the file itself, and how many of its blocks of video were not read."""
        is_cut = is_cut_off(self.path, self.container.format.name)
        missing_s = self._missing_s()
        step_s = float(1 / self.rate) if self.rate else _MISSING_S
        # Healthy Matroska may begin at any time, also one whose steps are all alike.
        late_s = self._first_s if self._is_matroska and self._first_s is not None else 0.0
        duration_s = self.duration_s  # live Matroska has none
        unseen_s = math.inf if duration_s is None else duration_s - self._video_end_s
        is_odd = not self._losses.is_regular or max(unseen_s, late_s) > 1.5 * step_s
        blocks = self._blocks() if is_odd and self._is_matroska else None
        unread = max(0, blocks.count - self._losses.packets) if blocks else 0
        is_broken = blocks is not None and (unread > 0 or not blocks.is_whole)
        if self._is_mov and not self._has_index:
            is_broken = has_stray_bytes(self.path)
        errors, parts = self._read_errors, []
        limit_s = 1.5 * step_s if is_cut or is_broken or errors else self._allowed_missing_s
        if missing_s > limit_s:
            parts.append(f"the file ends {missing_s:.1f} s early")
        elif is_cut:
            parts.append("the file is cut off at its end")
        elif is_broken:
            late = f"; the first {late_s:.1f} s are missing" if late_s > 1.5 * step_s else ""
            parts.append(f"the file is broken inside{late}")
        if errors:
            places = "1 place" if len(errors) == 1 else f"{len(errors)} places"
            parts.append(f"it could not be read at {places} ({errors[0]})")
        return parts, unread

    def _blocks(self) -> Blocks | None:
        videos = [stream.index for stream in self.container.streams.video]
        return matroska_blocks(self.path, videos.index(self.stream.index))

    def _not_read(self) -> int:
        """How many frames the file's index has, or without one its header, that were not read."""
        if not self._has_index:
            return 0
        gone = self._indexed - self._losses.packets
        entries = self.stream.index_entries
        if self.container.format.name == "avi" and len(entries) > self._indexed:
            # The index was broken and is what was found while reading; the header has a count.
            gone = self.stream.frames - 1 - entries[len(entries) - 1].timestamp
        return max(0, gone)

    @property
    def _allowed_missing_s(self) -> float:
        """By how much a healthy file may end before its header says."""
        return 0.0 if self.stream.frames and self.stream.duration is not None else _MISSING_S

    def _missing_s(self) -> float:
        """How much earlier the file ends than its header says, in seconds."""
        stream, container = self.stream, self.container
        if self._clock.jumps:  # the duration is what the times make that are no longer those
            return 0.0
        if stream.duration is not None:
            if stream.frames and self._losses.packets >= stream.frames:
                return 0.0
            # Without a count of frames, as in live MP4, the duration reaches from 0 to the end.
            is_from_start = bool(stream.frames) or self.has_broadcast_clock
            start = float((stream.start_time or 0) * self.time_base) if is_from_start else 0.0
            return start + float(stream.duration * self.time_base) - self._video_end_s
        if container.duration is None:
            return 0.0
        # Matroska's duration reaches from 0 to the end.
        start = 0 if self._is_matroska else (container.start_time or 0)
        return (start + container.duration) / av.time_base - self._end_s


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _has_not_begun(stream: Stream) -> bool:
    """Whether a stream is announced, and what it is was not to be seen in the first packets."""
    if isinstance(stream, VideoStream):
        return not stream.width
    return isinstance(stream, AudioStream) and not stream.codec_context.sample_rate


def _is_gap(packet: Packet[Any]) -> bool:
    """Whether the packet is the empty text between two subtitles that MP4's muxer adds itself."""
    return getattr(packet.stream, "name", None) == "mov_text" and bytes(packet) == bytes(2)


def readable(picture: av.VideoFrame) -> av.VideoFrame:
    """`picture` in a format whose planes can be edited, itself where it already is."""
    name = readable_format(picture.format.name)
    if name == picture.format.name:
        return picture
    if name is None:
        raise VideoError(f"the pixel format {picture.format.name} cannot be edited")
    return picture.reformat(format=name, threads=1)


def probe(path: Path, *, max_memory: int = MAX_MEMORY) -> VideoInfo:
    """What the file says about its video. Raises: VideoError where it cannot be read."""
    check_path(path)
    check_movie(path, max_memory)
    with open_input(path, codec_whitelist="none") as container:
        audio, subtitles = len(container.streams.audio), len(container.streams.subtitles)
        if main_video(container) is None:
            return VideoInfo(False, audio_tracks=audio, subtitle_tracks=subtitles)
    with VideoSource(path, max_memory=max_memory) as source:
        stream = source.stream
        first = next((i for i in source.items(copies=False) if isinstance(i, Picture)), None)
        return VideoInfo(
            has_video=True,
            width=stream.width,
            height=stream.height,
            rotation=display_orientation(first.picture)[0] if first else 0,
            duration_s=source.duration_s,
            frames=source.frame_count,
            rate_hz=float(source.rate) if source.rate else None,
            codec=stream.codec_context.name,
            pixel_format=pixel_format(stream),
            audio_tracks=audio,
            subtitle_tracks=subtitles,
        )


def read_frames(path: str | Path, *, max_memory: int = MAX_MEMORY) -> Iterator[Frame]:
    """Every frame of the file's video, in display order. Raises: VideoError."""
    with VideoSource(Path(path), max_memory=max_memory) as source:
        for item in source.items(copies=False):
            if isinstance(item, Picture):
                yield frame_from_av(item.picture)
