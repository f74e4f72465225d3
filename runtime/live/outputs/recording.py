"""A video file of what live video showed, with the times at which it was captured."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from mien.engines.errors import VideoError
from mien.engines.system.partial_file import (
    FULL_DISK,
    UNFINISHED,
    PartialFile,
    check_free,
    remove_leftovers,
    rescue_recordings,
)
from mien.runtime.frame import Frame
from mien.runtime.live.outputs.canvas import Canvas, yuv_picture
from mien.runtime.live.outputs.output import OutputStoppedError, ThreadedOutput
from mien.runtime.live.values import Applied, LiveFrame
from mien.runtime.video.writing.encoders import (
    EncoderChoice,
    SourceFacts,
    choose_encoders,
    encoder_options,
    frame_bytes,
)

NOTICE: Final = "AI-edited with mien"
TIME_BASE: Final = Fraction(1, 90_000)
QUALITY: Final = 80
# Kinds of files that keep each frame's own time, and what they are written with.
_CODECS: Final = {".mp4": "h264", ".m4v": "h264", ".mov": "h264", ".mkv": "h264", ".webm": "vp9"}
_FORMATS: Final = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Beside a filter that needs the same cores: 7 ms a frame at 720p, and half the file of `ultrafast`,
# which takes 5.
_SPEED: Final = {"libx264": "superfast", "libvpx-vp9": "8"}
_MATRIX: Final = {"bt709": 1, "bt601": 6, "bt2020": 9}
_LIMITED: Final = 1
_SECONDS_A_KEY_FRAME: Final = 2
_MOST_APPLIED: Final = 16  # that a recording remembers

# Gives the file to publish in the place of a whole recording, or None for that itself. It is told
# what was applied to the edited frames, each way once, in the order in which they came.
Seal = Callable[[PartialFile, tuple[Applied, ...]], "PartialFile | None"]


class Recording(ThreadedOutput):
    """A recording of what goes out, each frame at the time it was captured; no sound is touched.

    It is written beside `path` under another name (`part`) and takes its own when it is closed.
    Until then it can be read as far as it got, should the machine go down; the next recording in
    that folder gives what it finds there a name to be seen (`rescued`). Its comment says that it
    is edited, which a recording without one edited frame loses when it is closed.
    rate: of the camera, None where unknown; for the encoder to plan with. is_dry: record what the
        camera gave, and not what was shown. Recordings of one loop begin with the same frame, and
        a frame has the same time in all of them.
    seal: called at the end of a recording with an edited frame; see `Seal`.

    Raises VideoError where the file cannot be written there.
    """

    close_s = 60.0  # the rest of the encoder's frames, the file's index, perhaps a copy

    def __init__(
        self,
        path: Path,
        rate: Fraction | None = None,
        *,
        overwrite: bool = False,
        is_dry: bool = False,
        seal: Seal | None = None,
    ) -> None:
        super().__init__(f"recording {path.name}")
        check_recording(path, overwrite=overwrite)
        self.path = path
        remove_leftovers(path.parent)
        self.rescued = tuple(rescue_recordings(path.parent))
        self._partial = PartialFile(path, overwrite=overwrite, is_recording=True)
        self.part = self._partial.place
        self._rate, self._overwrite = rate, overwrite
        self._container: OutputContainer | None = None
        self._is_dry, self._has_edits = is_dry, False
        self._seal = seal
        self._applied: dict[Applied, None] = {}
        self._began_s: float | None = None
        self._last_pts = -1

    def offer(self, frame: LiveFrame) -> None:
        """Keep the frame in place of the one that still waits. Never blocks."""
        if self._began_s is None:  # here: the frame may be replaced before it is written
            self._began_s = frame.captured_s
        super().offer(frame)

    def close(self) -> None:
        """Finish the file and give it its name, or say in a message what became of it."""
        super().close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            self._note_failure(
                OutputStoppedError(
                    f"the recording {self.path} could not be ended within {self.close_s:g} s; "
                    f"what there is of it is in {self.part}"
                )
            )

    def _show(self, frame: LiveFrame) -> None:
        try:
            if self._container is None:
                self._start(frame)
            picture = yuv_picture(self._canvas.draw(self._recorded(frame)))
            picture.pts, picture.time_base = self._time(frame), TIME_BASE
            picture.color_range, picture.colorspace = _LIMITED, self._matrix
            self._mux(picture)
            if frame.is_edited and not self._is_dry:
                self._has_edits = True
                self._note_applied(frame.applied)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._stopped(error) from error

    def _note_applied(self, applied: Applied) -> None:
        way = Applied(applied.method, applied.options, applied.target, applied.own)
        if len(self._applied) < _MOST_APPLIED:
            self._applied.setdefault(way)

    def _start(self, frame: LiveFrame) -> None:
        shown = self._recorded(frame)
        size = (shown.width, shown.height)
        self._canvas = Canvas(size if shown.rotation % 2 == 0 else size[::-1])
        self._matrix = _MATRIX[shown.layout.matrix if shown.layout.kind == "yuv" else "bt601"]
        choice = self._choice()
        container = _opened(self._partial)
        self._container = container
        if not self._is_dry:
            container.metadata["comment"] = NOTICE
        self._video = self._added(container, choice)

    def _recorded(self, frame: LiveFrame) -> Frame:
        return frame.original if self._is_dry else frame.frame

    def _choice(self) -> EncoderChoice:
        facts = SourceFacts(_CODECS[self.path.suffix.lower()], "yuv420p", False, TIME_BASE)
        return choose_encoders(None, facts, self._accepts)[0]

    def _accepts(self, encoder: str) -> bool:
        return encoder.startswith("libvpx") == (self.path.suffix.lower() == ".webm")

    def _added(self, container: OutputContainer, choice: EncoderChoice) -> VideoStream:
        width, height = self._canvas.size_wh
        options = encoder_options(
            choice.name,
            QUALITY,
            _SPEED.get(choice.name),
            threads=1,
            picture_bytes=frame_bytes("yuv420p", (width, height)),
        )
        if choice.name == "libx264":
            options |= {"tune": "zerolatency"}  # no frames held back
        elif choice.name == "libvpx-vp9":
            options |= {"deadline": "realtime", "lag-in-frames": "0"}
        added = container.add_stream(
            choice.name,
            rate=self._rate,
            options=options,
            width=width,
            height=height,
            time_base=TIME_BASE,
        )
        stream = cast("VideoStream", added)
        stream.time_base = TIME_BASE
        stream.codec_context.pix_fmt = choice.pixel_format
        stream.codec_context.gop_size = round(_SECONDS_A_KEY_FRAME * (self._rate or 30))
        stream.codec_context.color_range = _LIMITED
        stream.codec_context.colorspace = self._matrix
        return stream

    def _time(self, frame: LiveFrame) -> int:
        """The frame's place in the file; times that do not grow are moved by the least step."""
        assert self._began_s is not None
        pts = round((frame.captured_s - self._began_s) / TIME_BASE)
        self._last_pts = max(pts, self._last_pts + 1)
        return self._last_pts

    def _mux(self, picture: av.VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._video.encode(picture):
            self._container.mux(packet)

    def _stopped(self, error: Exception) -> OutputStoppedError:
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                container.close()
        full = getattr(error, "errno", None) in FULL_DISK
        why = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        return OutputStoppedError(f"the recording {self.path} has stopped: {why}{self._kept()}")

    def _kept(self) -> str:
        """Where what was recorded is from now on, as the end of a line; empty where that is told.

        Where it cannot be given a name, it stays as it is, for the next recording to rescue.
        """
        if self._partial.is_done:
            return ""
        if not self._partial.file.seek(0, os.SEEK_END):
            self._partial.discard()
            return ""
        with contextlib.suppress(VideoError):
            self.part = self._partial.keep(UNFINISHED)
        return f"; what was recorded until then is in {self.part}"

    def _finish(self) -> None:
        container = self._container
        if container is None:  # nothing was shown, or it has stopped
            self._kept()
            return
        try:
            self._mux(None)
            container.close()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._stopped(error) from error
        self._container = None
        trouble = None if self._has_edits or self._is_dry else self._drop_notice()
        if self._has_edits and self._seal is not None:
            self._put_in_place(self._seal)
        try:
            self._partial.publish()
        except VideoError as error:
            raise OutputStoppedError(f"{error}{self._kept()}") from error
        if trouble is not None:
            raise OutputStoppedError(trouble)

    def _put_in_place(self, seal: Seal) -> None:
        other = seal(self._partial, tuple(self._applied))
        if other is not None:
            self._partial.discard()
            self._partial, self.part = other, other.place

    def _drop_notice(self) -> str | None:
        """Copy what was recorded into a file that does not say it is edited.

        Muxers write the comment first, and until the end nobody knows. Returns what is wrong where
        there is no room for a copy: the file stays as it is.
        """
        try:
            copy = PartialFile(self.path, overwrite=self._overwrite, is_recording=True)
            try:
                _copy_packets(self.part, copy)
            except BaseException:
                copy.discard()
                raise
        except (av.error.FFmpegError, OSError, ValueError, VideoError) as error:
            return f"the recording {self.path} says {NOTICE!r}, though no frame is: {error}"
        self._partial.discard()
        self._partial, self.part = copy, copy.place
        return None


def _copy_packets(source: Path, target: PartialFile) -> None:
    """Write the video of a finished file into another one, without its metadata."""
    with av.open(str(source)) as reading, _opened(target) as writing:
        video = reading.streams.video[0]
        copied = writing.add_stream_from_template(video)
        copied.time_base = TIME_BASE
        for packet in reading.demux(video):
            if packet.size:  # the last one of a file is empty
                packet.stream = copied
                writing.mux(packet)


def check_recording(path: Path, *, overwrite: bool = False) -> None:
    """Raise VideoError where a recording may not be written to `path`."""
    if path.suffix.lower() not in _CODECS:
        raise VideoError(
            f"a recording must end in {', '.join(_CODECS)}, which keep each frame's time; "
            f"{path.name} does not"
        )
    if path.is_dir():
        raise VideoError(f"the recording {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise VideoError(f"the recording's folder {path.parent} does not exist")
    check_free(path, overwrite=overwrite)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise VideoError(f"the recording {path} cannot be written: {error.strerror}") from error


def _opened(part: PartialFile) -> OutputContainer:
    options = {"flush_packets": "1"}
    kind = _FORMATS.get(part.path.suffix.lower())
    if kind in ("mp4", "mov"):
        # Fragments while it is written, an ordinary file once it is closed.
        options["movflags"] = "hybrid_fragmented"
    else:
        options["cluster_time_limit"] = "1000"  # milliseconds; what is open is held in memory
    keywords: dict[str, Any] = {"format": kind, "container_options": options}
    return cast("OutputContainer", av.open(part.file, "w", **keywords))
