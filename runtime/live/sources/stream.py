"""A stream in place of a camera: RTSP, SRT, RTMP, HTTP (MPEG-TS, MJPEG, HLS), standard input.

The newest picture wins. A stream that breaks off is connected to again, less and less often.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final
from urllib.parse import urlsplit

import av
import av.error
from av.codec.context import ThreadType
from av.container import InputContainer

from mien.engines.errors import DeviceError, UsageError
from mien.engines.system.addresses import STANDARD_INPUT, is_address, shown_address
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.live.outputs.canvas import scaled_into
from mien.runtime.live.pixels import live_frame
from mien.runtime.live.sources.camera import CameraSource
from mien.runtime.live.sources.packets import (
    PIPED,
    PUSHED,
    SEGMENTED,
    SILENT_READ_S,
    START_S,
    Arrived,
    PacketReader,
    StreamEndedError,
    StreamTraits,
)
from mien.runtime.live.sources.source import DeviceFrame, SourceEndedError
from mien.runtime.live.values import SourceFacts
from mien.runtime.video.memory import FOUR_K_PIXELS, decoder_frames
from mien.runtime.video.planes import as_fraction
from mien.runtime.video.reading.source import CONTAINERS, METADATA_ERRORS, reason

LONGEST_RETRY_S: Final = 15.0
_PROBE: Final = {"probesize": "1000000", "analyzeduration": "1000000"}  # bytes, microseconds
_LATE_S: Final = 0.25  # as of a file: who is later than this is paced from now on
_LONGEST_STEP_S: Final = 10.0  # a longer step between two pictures is a jump of the clock
_MOST_ERRORS: Final = 64  # of the decoder, without a picture between them
_MOST_ARRIVALS: Final = 256  # packets in the decoder whose arrival is remembered
_DECODER_THREADS: Final = 2
_ADDRESS_REMEDY: Final = "is it being sent, and is the address right?"
_PIPE_REMEDY: Final = (
    "send it y4m, Matroska, MPEG-TS or NUT: an MP4 with its index at the end cannot be read so"
)


@dataclass(frozen=True, slots=True)
class _Way:
    """How the streams of one scheme are opened.

    protocols, formats: all that FFmpeg may use for it; a playlist names other addresses, and none
        of them may be a file. options: further ones of FFmpeg's.
    """

    protocols: str
    formats: str = CONTAINERS
    options: tuple[tuple[str, str], ...] = ()


_WEB: Final = _Way(
    "http,https,httpproxy,tcp,tls,crypto",
    f"{CONTAINERS},hls",
    (("live_start_index", "-1"),),
)
_RTSP: Final = _Way("rtp,srtp,udp,tcp,tls,http,https", "rtsp", (("rtsp_flags", "prefer_tcp"),))
_RTMP: Final = _Way("rtmp,rtmps,rtmpt,rtmpts,ffrtmphttp,http,tcp,tls", "flv,live_flv")
_WAYS: Final = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "srt": _Way("srt"),
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "http": _WEB,
    "https": _WEB,
}


def is_stream(what: str) -> bool:
    """Whether a source is the address of a stream, or standard input."""
    return what == STANDARD_INPUT or is_address(what)


def stream_source(
    what: str,
    *,
    room_wh: tuple[int, int] | None = None,
    max_memory: int = MAX_MEMORY,
    start_s: float = START_S,
) -> CameraSource:
    """The source of a stream, with its first picture there. Arguments as of `open_source`.

    start_s: how long it may take to begin. Raises: UsageError, DeviceError.
    """
    settings = StreamSettings(what, room_wh, max_memory, start_s)
    opener: Callable[[], StreamDevice]
    if what == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("--source - reads video; send it some: ... | mien camera --source -")
        reader = PacketReader(shown_address(what), lambda: _opened(settings))

        def opener() -> StreamDevice:
            return StreamDevice(settings, reader, keeps_reader=True)

    else:
        _way(what)

        def opener() -> StreamDevice:
            reader = PacketReader(shown_address(what), lambda: _opened(settings))
            return StreamDevice(settings, reader)

    return CameraSource(opener, longest_retry_s=LONGEST_RETRY_S)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What to read, and how. Fields as of `stream_source`."""

    what: str
    room_wh: tuple[int, int] | None = None
    max_memory: int = MAX_MEMORY
    start_s: float = START_S

    @property
    def name(self) -> str:
        """For people."""
        return shown_address(self.what)


class StreamDevice:
    """The pictures of a stream that is being read, upright, in eight bits, at their own size.

    keeps_reader: whether the reader outlives this device: standard input cannot be opened again.
    A picture of a stream that is sent live has the time at which it arrived, before it was decoded;
    of one that is paced, the time at which it was due.
    Raises: DeviceError where no picture comes in time, and for what is no video.
    """

    def __init__(
        self, settings: StreamSettings, reader: PacketReader, *, keeps_reader: bool = False
    ) -> None:
        self._settings, self._reader, self._keeps_reader = settings, reader, keeps_reader
        self._interrupted = threading.Event()
        self._arrivals: dict[int | None, float] = {}
        self._base_s: float | None = None  # of time.monotonic at the stream's own time 0
        self._before_s: float | None = None
        self._time_base: Fraction | None = None
        self._failures = 0
        self._is_set_up = False
        self._ends_s: float | None = time.monotonic() + settings.start_s
        reader.go_on()
        self._frames = self._decoded()
        try:
            self._first: DeviceFrame | None = next(self._frames)
        except BaseException:
            self.close()
            raise
        self._ends_s = None
        info, frame = reader.info, self._first.frame
        room_wh = settings.room_wh
        self.facts = SourceFacts(
            name=settings.name,
            size_wh=(frame.width, frame.height),
            rate=info.rate,
            pixel_format=info.pixel_format,
            asked="" if room_wh is None else f"{room_wh[0]}x{room_wh[1]}",
        )

    def read(self) -> DeviceFrame:
        """The next picture. Raises: DeviceError, StreamEndedError where there is none any more."""
        taken, self._first = self._first or next(self._frames), None
        size_wh = (taken.frame.width, taken.frame.height)
        if size_wh != self.facts.size_wh:
            self.facts = replace(self.facts, size_wh=size_wh)
        return taken

    def interrupt(self) -> None:
        """Make a `read` that waits raise."""
        self._interrupted.set()
        self._reader.wake()

    def close(self) -> None:
        """End the connection; standard input is read on, and thrown away."""
        if self._keeps_reader:
            self._reader.rest()
        else:
            self._reader.close()

    def _decoded(self) -> Iterator[DeviceFrame]:
        while True:
            try:
                arrived = self._next()
            except (StreamEndedError, SourceEndedError):
                yield from self._frames_of(self._held_back(), time.monotonic())
                raise
            yield from self._frames_of(self._pictures(arrived), arrived.arrived_s)

    def _frames_of(
        self, pictures: Iterator[av.VideoFrame], last_arrived_s: float
    ) -> Iterator[DeviceFrame]:
        """Pictures as live frames, each when it is due."""
        began_s = time.monotonic()
        for picture in pictures:
            frame = live_frame(picture)
            if self._settings.room_wh is not None:
                frame = scaled_into(self._settings.room_wh, frame)
            decode_ms = (time.monotonic() - began_s) * 1e3
            captured_s = self._arrivals.pop(picture.pts, last_arrived_s)
            if self._reader.traits.is_paced:
                self._wait_until_due(self._time_s(picture))
                captured_s = time.monotonic()
            yield DeviceFrame(frame, captured_s, decode_ms)
            began_s = time.monotonic()

    def _held_back(self) -> Iterator[av.VideoFrame]:
        """The pictures that the decoder still has at the end of a stream."""
        stream = self._reader.stream
        if stream is not None and stream.codec_context.is_open:
            with contextlib.suppress(av.error.FFmpegError):
                yield from stream.codec_context.decode(None)

    def _next(self) -> Arrived:
        """The next packet. Raises: DeviceError."""
        while True:
            left_s = 1.0 if self._ends_s is None else self._ends_s - time.monotonic()
            if left_s <= 0:
                raise DeviceError(
                    f"{self._settings.name} has given no picture for {self._settings.start_s:g} "
                    "seconds; is something being sent there?"
                )
            try:
                arrived = self._reader.take(self._interrupted.is_set, left_s)
            except StreamEndedError as error:
                if self._keeps_reader:
                    raise SourceEndedError(str(error)) from error
                raise
            self._check()
            if arrived is not None:
                return arrived

    def _check(self) -> None:
        if self._interrupted.is_set():
            raise DeviceError(f"{self._settings.name} is being closed")

    def _pictures(self, arrived: Arrived) -> Iterator[av.VideoFrame]:
        """What the decoder makes of a packet; damage is passed over, unless nothing else comes."""
        assert self._reader.stream is not None
        context = self._reader.stream.codec_context
        if not self._is_set_up and not context.is_open:
            context.thread_type = ThreadType.SLICE  # by frames, each thread holds one back
            context.thread_count = _DECODER_THREADS
            context.options = {"max_pixels": str(_most_pixels(self._settings, context.name))}
        elif arrived.is_after_gap and context.is_open:
            context.flush_buffers()
            self._arrivals.clear()
        self._is_set_up = True
        packet = arrived.packet
        self._time_base = as_fraction(packet.time_base)
        if packet.pts is not None:
            if len(self._arrivals) >= _MOST_ARRIVALS:
                self._arrivals.clear()
            self._arrivals[packet.pts] = arrived.arrived_s
        try:
            pictures = context.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            self._failures += 1
            if self._failures >= _MOST_ERRORS:
                raise DeviceError(
                    f"{self._settings.name} cannot be decoded ({reason(error)})"
                ) from error
            return
        if pictures:
            self._failures = 0
        yield from pictures

    def _time_s(self, picture: av.VideoFrame) -> float | None:
        """When a picture is due on the stream's clock; a flushed decoder has no time base."""
        if picture.pts is None or self._time_base is None:
            return None
        return float(picture.pts * self._time_base)

    def _wait_until_due(self, time_s: float | None) -> None:
        now_s = time.monotonic()
        if time_s is None:
            return
        before_s, self._before_s = self._before_s, time_s
        is_jump = before_s is None or not 0 <= time_s - before_s < _LONGEST_STEP_S
        if self._base_s is None or is_jump or now_s - (self._base_s + time_s) > _LATE_S:
            self._base_s = now_s - time_s
        wait_s = self._base_s + time_s - now_s
        if wait_s > 0 and self._interrupted.wait(wait_s):
            self._check()


def _way(what: str) -> _Way:
    """How that address is opened. Raises: UsageError where nothing is known to."""
    try:
        scheme = urlsplit(what).scheme.lower()
    except ValueError as error:
        raise UsageError(
            f"{shown_address(what):.80} is no address of a stream; quote what is special in a "
            "password (%40 for @, %2F for /)"
        ) from error
    if scheme not in _WAYS:
        raise UsageError(
            f"cannot read streams of {scheme}:// (known: {', '.join(_WAYS)}, and - for standard "
            "input)"
        )
    return _WAYS[scheme]


def _opened(settings: StreamSettings) -> tuple[InputContainer, StreamTraits]:
    """The open container. Raises: DeviceError."""
    is_pipe = settings.what == STANDARD_INPUT
    scheme, separator, rest = settings.what.partition("://")
    what = f"{scheme.lower()}{separator}{rest}"  # FFmpeg knows small letters only
    way = _Way("pipe,fd") if is_pipe else _way(what)
    options = {
        "protocol_whitelist": way.protocols,
        "format_whitelist": way.formats,
        "max_pixels": str(_most_pixels(settings, "h264")),
        **_PROBE,
        **dict(way.options),
    }
    timeout = (settings.start_s, SILENT_READ_S)
    given: dict[str, Any] = {"options": options, **METADATA_ERRORS}
    if not is_pipe:  # a pipe may be silent for as long as it likes
        given["timeout"] = timeout
    try:
        container: InputContainer = av.open("pipe:0" if is_pipe else what, **given)
    except av.error.ProtocolNotFoundError as error:
        scheme = urlsplit(what).scheme.lower()
        raise DeviceError(
            f"the FFmpeg in PyAV {av.__version__} cannot read {scheme}://; let another one do it: "
            f"ffmpeg -i {scheme}://... -c copy -f nut - | mien camera --source -"
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        remedy = _PIPE_REMEDY if is_pipe else _ADDRESS_REMEDY
        raise DeviceError(
            f"{settings.name} cannot be read as a video ({reason(error)}); {remedy}"
        ) from error
    return container, _traits(container, is_pipe=is_pipe)


def _traits(container: InputContainer, *, is_pipe: bool) -> StreamTraits:
    """Whether a container is sent live, in segments, or lies there to be fetched."""
    if is_pipe or (container.duration or 0) > 0:
        return PIPED
    return SEGMENTED if "hls" in container.format.name.split(",") else PUSHED


def _most_pixels(settings: StreamSettings, codec: str) -> int:
    """How large a picture may be: the decoder refuses larger ones."""
    frames = decoder_frames(codec, 1) + 1
    return max(FOUR_K_PIXELS, round(settings.max_memory / (1.5 * frames)))
