"""One clip edited in pieces side by side, and put together again frame by frame.

Workers decode and edit; what comes back are the edited boxes of frames. The file itself is written
by the one encoder and the one muxer that also write it where it is edited alone, so its streams,
times, metadata and settings are the same, and nothing has to fit at a joint but the frames.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from mien.apps.edit.crew import Crew, Told
from mien.engines.errors import VideoError
from mien.runtime.frame import Frame
from mien.runtime.pieces import Piece, PieceTask
from mien.runtime.session import RunCounts
from mien.runtime.video import Progress
from mien.runtime.video.patches import EditReader, MismatchError

TRIES: Final = 2  # for a piece whose worker dies
AHEAD: Final = 2  # pieces beyond those under way that may wait to be written
_LOOK_S: Final = 0.25  # how long news are waited for at a time
_GLANCE_S: Final = 0.05  # between two looks for news where there is something to write
_IN_MEMORY_BYTES: Final = 8 << 20  # of a piece's edits; more of them lie in a file without a name


class _Store:
    """The edits of one piece as they come; the piece begins again where its worker died."""

    def __init__(self, folder: Path) -> None:
        self.counts: RunCounts | None = None
        self.frames = self.tries = 0
        self._folder = folder
        self._file = self._new()

    def _new(self) -> IO[bytes]:
        return tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._folder))

    def take(self, told: Told) -> None:
        """Keep the next bytes, and at the end what was counted."""
        self._file.write(told.data)
        self.frames = max(self.frames, told.frames)
        if told.counts is not None:
            self.counts = told.counts
            self._file.seek(0)

    def begin_again(self) -> None:
        """Forget what came."""
        self._file.close()
        self._file, self.frames = self._new(), 0

    def reader(self) -> EditReader:
        """The edits, once they are whole."""
        return EditReader(self._file.read)

    def close(self) -> None:
        """Remove what is kept."""
        self._file.close()


class PiecesRun:
    """A clip's way through a crew; called with each frame, in order, as a `FilterRun` is.

    counts: of the pieces that were reached. ended: to be set where no more frames come, for a call
    may wait for a worker. folder: where edits wait in files without names.
    Calls raise MienError, and MismatchError where the clip cannot be put together.
    """

    def __init__(
        self, task: PieceTask, pieces: Sequence[Piece], crew: Crew, *, folder: Path
    ) -> None:
        self.counts = RunCounts()
        self.ended = threading.Event()
        self._task, self._pieces, self._crew = task, pieces, crew
        self._waiting = deque(pieces)
        self._stores = {piece.number: _Store(folder) for piece in pieces}
        self._current = -1
        self._reader: EditReader | None = None
        self._looked_s, self._done = 0.0, 0

    def __enter__(self) -> PiecesRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.drop()
        for store in self._stores.values():
            store.close()

    def __call__(self, frame: Frame) -> Frame:
        """The frame with its edit, as soon as its piece is there."""
        if self._current < 0:
            self._task = replace(self._task, zero_s=frame.time_s or 0.0)
        if frame.pts is None:
            raise MismatchError("a frame has no time")
        while self._reader is None or self._is_past(frame.pts):
            self._go_on()
        self._oversee(0.0)
        return self._reader.edited(frame)

    def progress(self, progress: Progress) -> Progress:
        """How far the pieces are, which is further than what is written of them."""
        done = max(progress.frames_done, self._done + self._under_way())
        if not progress.frames_done or done <= progress.frames_done:
            return replace(progress, frames_done=done)
        fps = progress.fps * done / progress.frames_done
        left = None if progress.frames_total is None else max(0, progress.frames_total - done)
        return replace(
            progress, frames_done=done, fps=fps, eta_s=None if left is None else left / fps
        )

    def _under_way(self) -> int:
        return sum(store.frames for store in list(self._stores.values()))

    def _is_past(self, pts: int) -> bool:
        end = self._pieces[self._current].end
        return end is not None and pts >= end

    def _go_on(self) -> None:
        """Begin with the next piece, once its edits are whole."""
        if self._reader is not None:
            if not self._reader.is_at_end:
                raise MismatchError("there are more frames")
            self._done += self._stores[self._current].frames
            self._stores.pop(self._current).close()
        self._current, self._reader = self._current + 1, None
        store = self._stores[self._current]
        while store.counts is None:
            if self.ended.is_set():
                raise VideoError("ended before its end")  # which nobody is told
            self._oversee(_LOOK_S)
        self.counts.add(store.counts)
        self._reader = store.reader()

    def _oversee(self, wait_s: float) -> None:
        """Hand out what is next, and take what is there."""
        now_s = time.monotonic()
        if not wait_s and now_s - self._looked_s < _GLANCE_S:
            return
        self._looked_s = now_s
        while (
            self._waiting
            and self._crew.busy < self._crew.size
            and self._waiting[0].number < self._current + self._crew.size + AHEAD
        ):
            self._crew.hand_out(self._task, self._waiting.popleft())
        for told in self._crew.told(wait_s):
            self._note(told)

    def _note(self, told: Told) -> None:
        store = self._stores[told.piece]
        if told.error is not None:
            raise told.error
        if told.died is None:
            store.take(told)
            return
        store.tries += 1
        piece = self._pieces[told.piece]
        if store.tries >= TRIES:
            raise VideoError(
                f"{self._task.source} failed: the process that edited {piece.name} {told.died}, "
                "and so did that which tried again"
            )
        store.begin_again()
        self._waiting.appendleft(piece)
