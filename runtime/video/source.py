"""A video file read as pictures to edit and packets to copy, in the file's order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame
from mien.runtime.video.formats import readable_format
from mien.runtime.video.planes import as_fraction, display_orientation, frame_from_av
from mien.runtime.video.values import VideoInfo

MAX_PIXELS = 1 << 26  # 8192 x 8192; a larger frame is refused before it is decoded
# PyAV 19 keeps bytes that are no UTF-8 by itself, earlier ones raise unless told to.
METADATA_ERRORS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_DECODER_THREADS = 2  # more only cost memory: filter and encoder need the other cores
_MISSING_S = 0.5  # a file may end this much before its header says: audio and video differ
_CHROMA_LOCATION = re.compile(r"[(, ](topleft|bottomleft|left|center|top|bottom)[,)]")


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame, its size in bytes decided by the decoder."""

    picture: av.VideoFrame


@dataclass(frozen=True, slots=True)
class Copied:
    """One packet of a stream that is copied as it is."""

    packet: Packet[Any]


def open_input(path: Path) -> InputContainer:
    """The opened file. Raises: VideoError for what is missing, no file, or no video."""
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if path.is_dir():
        raise VideoError(f"{path} is a folder, not a video")
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty")
        # The prefix keeps names such as `a:b.mp4` from being taken for a protocol.
        container: InputContainer = av.open(f"file:{path}", **METADATA_ERRORS)
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


def chroma_location(container: InputContainer, stream: Stream) -> str | None:
    """Where the chroma samples lie, as FFmpeg names it, None where the stream does not say.

    PyAV has no name for it; the line that FFmpeg prints about the stream has, when it is verbose.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)
    av.logging.set_libav_level(av.logging.VERBOSE)
    try:
        text = str(cast("Any", container).dumps_format())  # not in the stubs
    finally:
        av.logging.set_level(level)
        av.logging.set_libav_level(av.logging.INFO)  # FFmpeg's own default
    start = f"Stream #0:{stream.index}"
    for line in text.splitlines():
        if line.strip().startswith((f"{start}[", f"{start}(", f"{start}:")):
            match = _CHROMA_LOCATION.search(line)
            return match.group(1) if match else None
    return None


class VideoSource(AbstractContextManager["VideoSource"]):
    """A video file, its stream to edit and what was lost while reading it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = open_input(path)
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise
        rate = self.stream.average_rate or self.stream.base_rate or None
        self.rate: Fraction | None = as_fraction(rate)
        self.time_base: Fraction = as_fraction(self.stream.time_base) or Fraction(1, 90000)
        self._packets = 0
        self._undecodable = 0
        self._damaged = 0
        self._read_error: str | None = None
        self._first_s: float | None = None
        self._end_s = 0.0
        self._video_end_s = 0.0

    def _choose_stream(self) -> VideoStream:
        stream = main_video(self.container)
        if stream is None:
            raise VideoError(f"{self.path} has no video to edit, only other streams")
        if stream.width * stream.height > MAX_PIXELS:
            raise VideoError(
                f"{self.path} has frames of {stream.width}x{stream.height}; "
                f"more than {MAX_PIXELS // 1_000_000} million pixels are refused"
            )
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _DECODER_THREADS
        return stream

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

        What the demuxer discards, such as the text track that carries the chapters of an MP4
        file, is made again by the muxer.
        """
        return [
            stream
            for stream in self.container.streams
            if stream.index != self.stream.index and stream.discard != Discard.all
        ]

    @property
    def frame_count(self) -> int | None:
        """How many frames the file says it has, or its duration and rate make."""
        if self.stream.frames:
            return self.stream.frames
        seconds = self.duration_s
        return round(seconds * self.rate) if seconds is not None and self.rate else None

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
        streams = list(self.container.streams) if copies else [self.stream]
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self._read_error = reason(error)
                packet = None
            if packet is None:
                break
            if packet.stream_index == self.stream.index:
                if packet.size:  # the last, empty one is the request to drain
                    yield from self._decode(packet)
            elif packet.size and not _is_gap(packet):
                self._note_end(packet)
                yield Copied(packet)
        yield from self._decode(None)

    def _decode(self, packet: Packet[Any] | None) -> Iterator[Picture]:
        if packet is not None:
            self._packets += 1
            self._note_end(packet)
        while True:
            try:
                pictures = self.stream.decode(packet)
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                self._undecodable += 1
                if packet is not None:
                    return
                continue  # while draining, every call has one frame or one error
            break
        for picture in pictures:
            picture.time_base = self.time_base  # frames that draining gives come without
            self._damaged += picture.is_corrupt
            self._note_picture(picture)
            yield Picture(readable(picture))

    def _note_end(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_s = max(self._end_s, end)

    def _note_picture(self, picture: av.VideoFrame) -> None:
        if picture.pts is None:
            return
        seconds = float(picture.pts * self.time_base)
        self._first_s = seconds if self._first_s is None else self._first_s
        end = seconds + float((picture.duration or 0) * self.time_base)
        self._video_end_s = max(self._video_end_s, end)

    def lost(self) -> str | None:
        """What could not be read, None where all of it was. To be asked after the last item."""
        parts = []
        missing = self._missing_s()
        if missing is not None:
            parts.append(f"the file ends {missing:.1f} s early")
        if self._read_error is not None:
            parts.append(f"reading stopped ({self._read_error})")
        if self._undecodable:
            parts.append(f"{self._undecodable} of {self._packets} packets could not be decoded")
        if self._damaged:
            parts.append(f"{self._damaged} frames are damaged")
        return "; ".join(parts) or None

    def _missing_s(self) -> float | None:
        if self.stream.duration is not None:
            start = float((self.stream.start_time or 0) * self.time_base)
            missing = start + float(self.stream.duration * self.time_base) - self._video_end_s
            complete = self.stream.frames and self._packets >= self.stream.frames
            limit = 0.0 if self.stream.frames else _MISSING_S
            return missing if missing > limit and not complete else None
        if self.container.duration is None:
            return None
        start = (self.container.start_time or 0) / av.time_base
        missing = start + self.container.duration / av.time_base - self._end_s
        return missing if missing > _MISSING_S else None


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
    return picture.reformat(format=name)


def probe(path: Path) -> VideoInfo:
    """What the file says about its video. Raises: VideoError where it cannot be read."""
    with open_input(path) as container:
        stream = main_video(container)
        audio, subtitles = len(container.streams.audio), len(container.streams.subtitles)
        if stream is None:
            return VideoInfo(False, audio_tracks=audio, subtitle_tracks=subtitles)
    with VideoSource(path) as source:
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
            pixel_format=stream.pix_fmt or "",
            audio_tracks=audio,
            subtitle_tracks=subtitles,
        )


def read_frames(path: Path) -> Iterator[Frame]:
    """Every frame of the file's video, in display order. Raises: VideoError."""
    with VideoSource(path) as source:
        for item in source.items(copies=False):
            if isinstance(item, Picture):
                yield frame_from_av(item.picture)
