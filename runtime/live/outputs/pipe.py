"""Live video as raw frames, for another program to read."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from mien.engines.errors import UsageError, VideoError
from mien.runtime.live.outputs.canvas import Canvas, CanvasFormat
from mien.runtime.live.outputs.output import OutputStoppedError, ThreadedOutput
from mien.runtime.live.values import LiveFrame

PipeFormat = Literal["y4m", "yuv420p", "rgb24"]
PIPE_FORMATS: Final = ("y4m", "yuv420p", "rgb24")
STANDARD_OUTPUT: Final = "-"
_LOOK_S: Final = 0.2  # how often a write that waits looks whether it is the end
_REOPEN_S: Final = 1.0


class RawPipe(ThreadedOutput):
    """Writes frames to a FIFO, a file, or standard output (`-`).

    y4m says its own size and rate; yuv420p and rgb24 are bare samples, frame after frame, rgb24
    row by row. All frames have one size. A frame that was begun is written to its end, so a reader
    never loses the beat; while it is slow, newer frames replace each other. A FIFO may have one
    reader after another, and each begins with a whole frame.

    rate: for y4m, which knows constant rates only; 30 where None.
    Raises UsageError or VideoError where nothing can be written there.
    """

    def __init__(
        self,
        target: str,
        size_wh: tuple[int, int],
        *,
        pixel_format: PipeFormat = "y4m",
        rate: Fraction | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__("standard output" if target == STANDARD_OUTPUT else f"pipe {target}")
        if pixel_format not in PIPE_FORMATS:
            raise UsageError(
                f"unknown pipe format {pixel_format!r} (known: {', '.join(PIPE_FORMATS)})"
            )
        check_pipe(target, overwrite=overwrite)
        self._target = target
        self._is_y4m = pixel_format == "y4m"
        drawn: CanvasFormat = "rgb24" if pixel_format == "rgb24" else "yuv420p"
        self._canvas = Canvas(size_wh, drawn)
        self._rate = rate or Fraction(30)
        self._lock = threading.Lock()
        self._file: int | None = None
        self._is_begun = False  # whether the reader has had the header
        self._tried_s = -_REOPEN_S
        self._was_blocking: bool | None = None
        self._is_file = target != STANDARD_OUTPUT and not _is_fifo(Path(target))
        # Without leave a file that appeared after the check is not replaced either.
        self._flags = os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        if self._is_file:
            self._open()  # what cannot be written is told at once; a FIFO waits for its reader

    @property
    def watched(self) -> bool:
        """Whether there is a reader; looks for one, once a second."""
        return super().watched and self._is_open()

    def close(self) -> None:
        """End the output; a frame that waits for its reader is dropped."""
        super().close()
        if self._thread is None:
            self._finish()

    def _show(self, frame: LiveFrame) -> None:
        if not self._is_open():
            raise VideoError(f"no program reads {self._target}; frames are dropped until then")
        data = self._canvas.draw(frame.frame).data.cast("B")
        try:
            if self._is_y4m:
                self._write(self._header())
            self._is_begun = True
            self._write(data)
        except BrokenPipeError as error:
            self._finish()
            if self._target == STANDARD_OUTPUT:
                raise OutputStoppedError(
                    "the program that read standard output has ended"
                ) from error
            raise VideoError(f"the program that read {self._target} has ended") from error
        except OSError as error:
            self._finish()
            why = error.strerror or error
            raise OutputStoppedError(f"{self._target} cannot be written: {why}") from error

    def _header(self) -> memoryview:
        if self._is_begun:
            return memoryview(b"FRAME\n")
        (width, height), rate = self._canvas.size_wh, self._rate
        pace = f"{rate.numerator}:{rate.denominator}"
        return memoryview(
            f"YUV4MPEG2 W{width} H{height} F{pace} Ip A1:1 C420jpeg\nFRAME\n".encode()
        )

    def _write(self, data: memoryview) -> None:
        """Write all of it, or stop where the output is being closed."""
        assert self._file is not None
        while data and not self._is_closing:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:  # noqa: PERF203 -- writing is what is slow
                select.select([], [self._file], [], _LOOK_S)

    def _is_open(self) -> bool:
        with self._lock:
            if self._file is None and not self._is_closing:
                now_s = time.monotonic()
                if now_s - self._tried_s >= _REOPEN_S:
                    self._tried_s = now_s
                    self._open()
            return self._file is not None

    def _open(self) -> None:
        if self._target == STANDARD_OUTPUT:
            self._file = sys.stdout.fileno()
            self._was_blocking = os.get_blocking(self._file)
            os.set_blocking(self._file, False)
        else:
            self._file = self._opened()
        self._is_begun = False

    def _opened(self) -> int | None:
        """None for a FIFO without a reader, which cannot be opened yet. Raises VideoError."""
        flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            is_new = self._is_file and not _is_device(Path(self._target))
            return os.open(self._target, flags | self._flags if is_new else flags, 0o644)
        except OSError as error:
            if not self._is_file:
                return None
            raise VideoError(f"{self._target} cannot be written: {error.strerror}") from error

    def _finish(self) -> None:
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                return
            if self._target == STANDARD_OUTPUT:
                os.set_blocking(file, bool(self._was_blocking))
            else:
                os.close(file)


def check_pipe(target: str, *, overwrite: bool = False) -> None:
    """Raise UsageError or VideoError where raw video may not be written to `target`."""
    if target == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise UsageError("--pipe - writes raw video; send it to a program: ... | ffplay -")
        return
    path = Path(target)
    if path.is_dir():
        raise VideoError(f"the pipe {target} is a folder")
    if not path.parent.is_dir():
        raise VideoError(f"the pipe's folder {path.parent} does not exist")
    if os.path.lexists(path) and not overwrite and not (_is_fifo(path) or _is_device(path)):
        raise VideoError(f"{target} exists and is no pipe; add --overwrite to replace it")


def _is_fifo(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
