"""A video file edited frame by frame: decode, filter and encode side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import av

from mien.engines.errors import VideoError
from mien.engines.system.partial_file import remove_leftovers
from mien.engines.system.process import run_in_worker
from mien.runtime.frame import Frame
from mien.runtime.video.channel import Allowance, Channel, Stop, StoppedError
from mien.runtime.video.compare import side_by_side, side_by_side_size
from mien.runtime.video.fitting import fitted
from mien.runtime.video.memory import least_edit_frames
from mien.runtime.video.planes import (
    av_from_frame,
    carries_extras,
    display_orientation,
    frame_from_av,
)
from mien.runtime.video.sink import VideoSink, check_destination
from mien.runtime.video.source import Copied, Picture, VideoSource
from mien.runtime.video.values import Progress, StageSeconds, VideoOptions, VideoReport

Process = Callable[[Frame], Frame]
_QUEUED_PICTURES = 2
_PACKET_WEIGHT_BYTES = 4 << 20  # so many bytes of copied packets weigh as much as a picture
_MAX_BYTES_BEFORE_FIRST = 64 << 20


def identity(frame: Frame) -> Frame:
    """The frame itself: the process of a plain transcode."""
    return frame


def edit_video(
    source: str | Path,
    destination: str | Path,
    process: Process,
    options: VideoOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> VideoReport:
    """What was done to write `destination`: `source` with `process` applied to its frames.

    process: called once a frame, in display order, in a thread of its own; a frame it gives back
        as it was is encoded from the decoder's own memory. It never writes into what it gets.
    progress: called a few times a second, in the caller's thread.
    cancel: set it to stop; nothing is left behind.
    Everything but the frames is copied: other streams, times, metadata, chapters, rotation.
    Raises: VideoError for what cannot be read or written; whatever `process` raises.
    """
    options = options or VideoOptions()
    source, destination = Path(source), Path(destination)
    check_destination(source, destination, overwrite=options.overwrite)
    remove_leftovers(destination.parent)
    stop = Stop()
    edit = _Edit(source, destination, process, options, stop)

    def check() -> None:
        if cancel is not None and cancel.is_set():
            raise VideoError("cancelled; nothing was written")

    def look() -> None:
        check()
        if progress is not None and edit.run is not None:
            progress(edit.run.progress())

    # What it writes is removed by who writes it: no signal can come between the two in a worker.
    report = run_in_worker(
        lambda: edit.write(check), stop=stop.fail, meanwhile=look, name="video-encode"
    )
    if progress is not None and edit.run is not None:
        progress(edit.run.progress())
    return report


class _Edit:
    """One file's way into another. run: counts what is done, from the first picture on."""

    def __init__(
        self, source: Path, destination: Path, process: Process, options: VideoOptions, stop: Stop
    ) -> None:
        self._source, self._destination = source, destination
        self._process, self._options, self._stop = process, options, stop
        self.run: _Run | None = None

    def write(self, check: Callable[[], None]) -> VideoReport:
        """What was done. Raises: StoppedError where the run was stopped, and nothing is left.

        check: called before the file gets its name; what it raises keeps that from it.
        """
        started = time.perf_counter()
        beside = least_edit_frames(2.0 if self._options.side_by_side else 1.0)
        with VideoSource(
            self._source,
            max_memory=self._options.max_memory,
            beside=beside,
            check=self._stop.check,
        ) as video:
            first, items = _first_picture(video, self._stop)
            canvas = _Canvas(video.canvas_wh(first), first.format.name)
            sink = self._sink(video, first, canvas)
            try:
                self.run = run = _Run(video, sink, self._process, self._options, canvas, self._stop)
                del first
                run.execute(items)
                sink.finish(self._stop.check)
                lost = video.lost()
                is_copy = self._options.copy_unedited and not run.edited and not lost
                if is_copy:
                    sink.hold_source()
                self._stop.check()
                check()
                sink.publish()
            except BaseException:
                sink.abandon()
                raise
            return VideoReport(
                frames=run.frames,
                edited=run.edited,
                seconds=StageSeconds(run.decode_s, run.filter_s, run.encode_s),
                wall_s=time.perf_counter() - started,
                lost=lost,
                encoder=sink.choice.name,
                pixel_format=sink.choice.pixel_format,
                notes=(*sink.notes, *video.notes, *run.notes),
                is_copy=is_copy,
            )

    def _sink(self, video: VideoSource, first: av.VideoFrame, canvas: _Canvas) -> VideoSink:
        options, size_wh = self._options, canvas.size_wh
        if options.side_by_side:
            size_wh = side_by_side_size(_frame_of(canvas.fit(first), first))
        return VideoSink(self._destination, video, first, options, size_wh=size_wh)


def _first_picture(
    video: VideoSource, stop: Stop
) -> tuple[av.VideoFrame, Iterator[Picture | Copied]]:
    """The first picture, and all items including it.

    Raises: VideoError without one, StoppedError where the run was stopped meanwhile.
    """
    items = video.items()
    early: list[Picture | Copied] = []
    waiting_bytes = 0
    for item in items:
        stop.check()
        early.append(item)
        if isinstance(item, Picture):
            return item.picture, chain(early, items)
        waiting_bytes += item.packet.size
        if waiting_bytes > _MAX_BYTES_BEFORE_FIRST:
            break
    why = f" ({lost})" if (lost := video.lost()) else ""
    raise VideoError(f"{video.path} has no frame that can be decoded{why}")


@dataclass(frozen=True, slots=True)
class _Canvas:
    """The size and pixel format of all frames that are edited and written."""

    size_wh: tuple[int, int]
    pixel_format: str

    def fit(self, picture: av.VideoFrame) -> av.VideoFrame:
        """`picture` in that size and format, itself where it is."""
        return fitted(picture, self.size_wh, self.pixel_format)


def _frame_of(picture: av.VideoFrame, original: av.VideoFrame, *, copy: bool = False) -> Frame:
    """`picture` as a Frame that is shown as the original is. copy: as of `frame_from_av`."""
    frame = frame_from_av(picture, copy=copy)
    if picture is original:
        return frame
    rotation, mirrored = display_orientation(original)
    return replace(frame, rotation=rotation, mirrored=mirrored)


@dataclass(frozen=True, slots=True)
class _Work:
    """One item on its way, and the seconds that stage work on it took."""

    item: Picture | Copied
    weight: float


class _Run:
    """The three stages of one edit and what they count."""

    def __init__(
        self,
        video: VideoSource,
        sink: VideoSink,
        process: Process,
        options: VideoOptions,
        canvas: _Canvas,
        stop: Stop,
    ) -> None:
        self._video = video
        self._sink = sink
        self._process = process
        self._options = options
        self._canvas = canvas
        self._start_pts: int | None = None
        self._resized = 0
        self._stop = stop
        self._started = time.perf_counter()
        self._total = video.frame_count  # the file is closed when the last progress is told
        self._decoded: Channel[_Work] = Channel(_QUEUED_PICTURES, self._stop)
        self._filtered: Channel[_Work] = Channel(_QUEUED_PICTURES, self._stop)
        self._in_flight = Allowance(sink.in_flight, self._stop)
        self.frames = 0
        self.edited = 0
        self.decode_s = self.filter_s = self.encode_s = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not stay as it was in the frames."""
        if not self._resized:
            return ()
        width, height = self._canvas.size_wh
        frames = "1 frame" if self._resized == 1 else f"{self._resized} frames"
        note = (
            f"size or pixel format change in the middle of the clip: {frames} fitted into "
            f"{width}x{height} {self._canvas.pixel_format}"
        )
        return (note,)

    def execute(self, items: Iterator[Picture | Copied]) -> None:
        """Runs all stages to their end, the last one here. Raises: the first error of any."""
        before = {"video-decode": lambda: self._decode(items), "video-filter": self._filter}
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=name, daemon=True)
            for name, stage in before.items()
        ]
        for thread in threads:
            thread.start()
        self._guard(self._encode)
        for thread in threads:
            thread.join()
        if self._stop.error is not None:
            raise self._stop.error

    def progress(self) -> Progress:
        """How far it is; from any thread."""
        done, total = self.frames, self._total
        seconds = time.perf_counter() - self._started
        fps = done / seconds if seconds > 0 else 0.0
        eta = (total - done) / fps if total is not None and fps > 0 and total >= done else None
        return Progress(done, total, fps, eta)

    def _guard(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller has to get it
            self._stop.fail(error)

    def _decode(self, items: Iterator[Picture | Copied]) -> None:
        while True:
            self._in_flight.take()
            before = time.perf_counter()
            item = next(items, None)
            self.decode_s += time.perf_counter() - before
            if item is None:
                break
            weight = 1.0
            if isinstance(item, Copied):
                self._in_flight.give()
                weight = min(1.0, item.packet.size / _PACKET_WEIGHT_BYTES)
            self._decoded.put(_Work(item, weight), weight)
            del item  # no stage holds a frame while it waits for the next
        self._decoded.close()

    def _filter(self) -> None:
        for work in self._decoded:
            item, weight = work.item, work.weight
            del work
            if isinstance(item, Picture):
                before = time.perf_counter()
                self._sink.settle_time(item.picture)
                item = Picture(self._edit(item.picture))
                self.filter_s += time.perf_counter() - before
            self._filtered.put(_Work(item, weight), weight)
            del item
        self._filtered.close()

    def _encode(self) -> None:
        for work in self._filtered:
            item = work.item
            del work
            before = time.perf_counter()
            if isinstance(item, Picture):
                self._sink.encode(item.picture)
                self.frames += 1
                del item
                self._in_flight.give()
            else:
                self._sink.copy(item.packet)
            self.encode_s += time.perf_counter() - before

    def _edit(self, picture: av.VideoFrame) -> av.VideoFrame:
        wanted, original = self._is_in_section(picture), picture
        picture = self._canvas.fit(original)
        self._resized += picture is not original
        if not wanted and not self._options.side_by_side:
            return picture
        own = wanted and carries_extras(picture)
        given = _frame_of(picture, original, copy=own)
        result = self._process(given) if wanted else given
        changed = any(
            new.samples is not old.samples
            for new, old in zip(result.planes, given.planes, strict=True)
        )
        self.edited += changed
        if self._options.side_by_side:
            return side_by_side(given, result, picture)
        return av_from_frame(result, picture, given, own=own) if changed else picture

    def _is_in_section(self, picture: av.VideoFrame) -> bool:
        start_s, end_s = self._options.start_s, self._options.end_s
        if start_s is None and end_s is None:
            return True
        pts = picture.pts or 0
        if self._start_pts is None:
            self._start_pts = pts
        seconds = float((pts - self._start_pts) * self._video.time_base)
        return (start_s is None or seconds >= start_s) and (end_s is None or seconds < end_s)
