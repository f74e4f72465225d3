"""A video file edited frame by frame: decode, filter and encode side by side.

The stages are threads, joined by bounded, ordered channels that any of them can stop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import av

from mien.engines.errors import VideoError
from mien.engines.system.partial_file import remove_leftovers
from mien.engines.system.process import run_in_worker
from mien.runtime.frame import Frame
from mien.runtime.video.memory import least_edit_frames
from mien.runtime.video.planes import (
    av_from_frame,
    display_orientation,
    fitted,
    frame_from_av,
    has_extras,
    side_by_side,
    side_by_side_size,
)
from mien.runtime.video.reading.source import Copied, Picture, VideoSource
from mien.runtime.video.values import Progress, StageSeconds, VideoOptions, VideoReport
from mien.runtime.video.writing.sink import VideoSink, check_destination

Item = TypeVar("Item")


class StoppedError(Exception):
    """Another thread has ended the work; this one has nothing more to do."""


class Stop:
    """The one switch that ends every thread of a run, with the first error that flipped it."""

    def __init__(self, event: threading.Event | None = None) -> None:
        self.event = event or threading.Event()
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def fail(self, error: BaseException) -> None:
        """End the run; only the first error is kept."""
        with self._lock:
            if self.error is None:
                self.error = error
        self.event.set()

    def check(self) -> None:
        """Raise StoppedError where the run has been ended."""
        if self.event.is_set():
            raise StoppedError


class Allowance:
    """So many things at a time on their way through a run; who wants one more waits."""

    _WAKE_S = 0.1

    def __init__(self, count: int, stop: Stop) -> None:
        self._left, self._stop = count, stop
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for one to be there. Raises: StoppedError."""
        with self._changed:
            while self._left <= 0:
                self._stop.check()
                self._changed.wait(self._WAKE_S)
            self._left -= 1

    def give(self) -> None:
        """Give one back, from any thread."""
        with self._changed:
            self._left += 1
            self._changed.notify()


class Channel(Generic[Item]):
    """Items in the order they were put, never more than `limit` of weight at a time."""

    _WAKE_S = 0.1  # how often a waiting thread looks whether the run has been stopped

    def __init__(self, limit: float, stop: Stop) -> None:
        self._limit = limit
        self._stop = stop
        self._items: deque[tuple[Item, float]] = deque()
        self._weight = 0.0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item, weight: float = 1.0) -> None:
        """Add an item, waiting for room. Raises StoppedError."""
        with self._changed:
            while self._items and self._weight + weight > self._limit:
                self._wait()
            self._stop.check()
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def close(self) -> None:
        """Mark the end: nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """The items until the channel is closed. Raises: StoppedError."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._wait()
                self._stop.check()
                if not self._items:
                    return
                item, weight = self._items.popleft()
                self._weight -= weight
                self._changed.notify_all()
            yield item
            del item  # not held while the next one is waited for

    def _wait(self) -> None:
        self._stop.check()
        self._changed.wait(self._WAKE_S)


Process = Callable[[Frame], Frame]
_QUEUED_PICTURES = 2
_PACKET_WEIGHT_BYTES = 4 << 20  # so many bytes of copied packets weigh as much as a picture
_MAX_BYTES_BEFORE_FIRST = 64 << 20


def identity(frame: Frame) -> Frame:
    """The frame itself: the process of a plain transcode."""
    return frame


def edit_video(  # noqa: PLR0913 -- the last three are for those who watch it, by keyword only
    source: str | Path,
    destination: str | Path,
    process: Process,
    options: VideoOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    ended: threading.Event | None = None,
) -> VideoReport:
    """What was done to write `destination`: `source` with `process` applied to its frames.

    process: called once a frame, in display order, in a thread of its own; a frame it gives back
        as it was is encoded from the decoder's own memory. It never writes into what it gets.
    progress: called a few times a second, in the caller's thread.
    cancel: set it to stop; nothing is left behind.
    ended: is set where the run ends before its end, for a `process` that waits for something.
    Everything but the frames is copied: other streams, times, metadata, chapters, rotation.
    Raises: VideoError for what cannot be read or written; whatever `process` raises.
    """
    options = options or VideoOptions()
    source, destination = Path(source), Path(destination)
    check_destination(source, destination, overwrite=options.overwrite)
    remove_leftovers(destination.parent)
    stop = Stop(ended)
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
                elif self._options.seal is not None and run.edited:
                    sink.put_in_place(self._options.seal)
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
        """Run all stages to their end, the last one here. Raises: the first error of any."""
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
        original = picture
        picture = self._canvas.fit(original)
        self._resized += picture is not original
        own = has_extras(picture)
        given = _frame_of(picture, original, copy=own)
        result = self._process(given)
        changed = any(
            new.samples is not old.samples
            for new, old in zip(result.planes, given.planes, strict=True)
        )
        self.edited += changed
        if self._options.side_by_side:
            return side_by_side(given, result, picture)
        return av_from_frame(result, picture, given, own=own) if changed else picture
