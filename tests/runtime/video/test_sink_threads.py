"""What two threads do to one sink at once is counted whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import av

from mien.runtime.video import VideoOptions
from mien.runtime.video.reading.source import Copied, Picture, VideoSource
from mien.runtime.video.writing import sink as sink_module
from mien.runtime.video.writing.sink import VideoSink


@contextmanager
def switching_at_every_step(code_of: str) -> Iterator[None]:
    """Let threads change places after every instruction of a module, as they might anywhere.

    CPython changes threads at calls and loops only, and free-threaded Python anywhere.
    """

    def step(frame: FrameType, _event: str, _argument: object) -> Callable[..., object] | None:
        if frame.f_code.co_filename != code_of:
            return None
        frame.f_trace_opcodes = True
        time.sleep(0)
        return step

    before = threading.gettrace()
    threading.settrace(step)
    try:
        yield
    finally:
        threading.settrace(before)  # type: ignore[arg-type]


def test_times_moved_by_two_threads_are_all_counted(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    with VideoSource(clip("in.mkv", frames=60, audio_tracks=1)) as video:
        items = list(video.items())
        pictures = [item.picture for item in items if isinstance(item, Picture)]
        first, *packets = [item.packet for item in items if isinstance(item, Copied)]
        size, options = (pictures[0].width, pictures[0].height), VideoOptions(codec="ffv1")
        sink = VideoSink(tmp_path / "out.mkv", video, pictures[0], options, size_wh=size)
        for picture in pictures:  # so that no packet is held back for them
            sink.settle_time(picture)
            sink.encode(picture)
        early = first.dts - 1
        sink.copy(first)

        def settle() -> None:
            for _ in packets:
                sink.settle_time(av.VideoFrame(16, 16, "yuv420p"))  # without a time

        def copy() -> None:
            for packet in packets:
                packet.pts = packet.dts = early
                sink.copy(packet)

        with switching_at_every_step(sink_module.__file__), ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(settle), pool.submit(copy)]:
                done.result()
        sink.finish()
        sink.abandon()
    (note,) = (text for text in sink.notes if "times missing" in text)
    assert f": {2 * len(packets)} were set" in note
