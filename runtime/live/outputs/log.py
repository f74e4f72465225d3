"""What was applied to each frame, as a file of JSON lines: one for each frame that went out."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mien.engines.errors import VideoError
from mien.engines.system.partial_file import (
    UNFINISHED,
    PartialFile,
    check_free,
    rescue_recordings,
)
from mien.runtime.live.outputs.output import told
from mien.runtime.live.values import LiveFrame, OutputStatus
from mien.runtime.target import EMOTIONS

_MOST_WAITING: Final = 100_000  # lines of 300 bytes or so, where the disk stands still
_CLOSE_S: Final = 5.0


class FrameLog:
    """An output that writes a line for each frame, those that others drop as well.

    A line is an object with: `seq` and `index`, as of `LiveFrame`; `dropped`, how many frames were
    captured since the line before, and left out; `time_s`, since the first frame
    was captured, which is the time of the frame in a recording of the same run; `unix_s`, when it
    was captured, by the system's clock as it was at the start; `method` and `options`; `target`,
    the weights of the emotions asked for, null for none, with `intensity` and `prompt`; `own`;
    `paused`, `mark` and `bypassed`; `faces`, the tracks in view; and `edited`, for each face that
    is changed in what was shown its track and the weights, intensity and own expression that it
    had reached in that frame, on its way to those asked for.

    It is written beside `path` under another name (`part`), where it can be read while it grows,
    and takes its own when it is closed. One that was cut off is given a name to be seen by the next
    recording or log in that folder (`rescued`). Nothing is left where no frame went out.
    Raises VideoError where it cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        check_log(path, overwrite=overwrite)
        self.path = path
        self.rescued = tuple(rescue_recordings(path.parent))
        self._partial = PartialFile(path, overwrite=overwrite, is_recording=True)
        self.part = self._partial.place
        self._before = -1  # the index of the frame before
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._is_closing = self._has_stopped = False
        self._message: str | None = None
        self._shown = self._dropped = 0
        self._began_s: float | None = None
        self._unix_from_monotonic_s = time.time() - time.monotonic()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"log {self.path.name}"

    @property
    def watched(self) -> bool:
        """Whether it still writes; as a recording, it keeps the camera on."""
        return not self._has_stopped

    @property
    def has_stopped(self) -> bool:
        """Whether it cannot write any more; its message says why."""
        return self._has_stopped

    def offer(self, frame: LiveFrame) -> None:
        """Append the frame's line to those that wait. Never blocks."""
        if self._began_s is None:
            self._began_s = frame.captured_s
        line = json.dumps(self._entry(frame, self._began_s), separators=(",", ":"))
        self._before = frame.index
        with self._changed:
            if self._is_closing or self._has_stopped or len(self._lines) >= _MOST_WAITING:
                self._dropped += 1
                return
            self._lines.append(line)
            self._changed.notify_all()

    def status(self) -> OutputStatus:
        """How it is doing; from any thread."""
        with self._changed:
            return OutputStatus(self.name, self._shown, self._dropped, self._message)

    def close(self) -> None:
        """Write what waits, and give the file its name, or say in a message what became of it.

        May be called twice.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is threading.current_thread():
            return
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            with self._changed:
                self._message = (
                    f"the log {self.path} could not be ended within {_CLOSE_S:g} s; "
                    f"what there is of it is in {self.part}"
                )

    def _entry(self, frame: LiveFrame, began_s: float) -> dict[str, object]:
        applied = frame.applied
        target, edited = applied.target, frame.edited if frame.is_edited else ()
        return {
            "seq": frame.seq,
            "index": frame.index,
            "dropped": frame.index - self._before - 1,
            "time_s": round(frame.captured_s - began_s, 6),
            "unix_s": round(frame.captured_s + self._unix_from_monotonic_s, 6),
            "method": applied.method,
            "options": dict(applied.options),
            "target": None if target is None else _named(target.weights),
            "intensity": None if target is None else target.strength,
            "prompt": "" if target is None else target.prompt,
            "own": applied.own,
            "paused": applied.paused,
            "mark": applied.mark,
            "bypassed": applied.bypassed,
            "faces": [face.track_id for face in frame.faces],
            "edited": [
                {
                    "face": track_id,
                    "weights": _named(goal.weights),
                    "intensity": round(goal.strength, 4),
                    "own": round(goal.own, 4),
                }
                for track_id, goal in applied.goals
                if track_id in edited
            ],
        }

    def _run(self) -> None:
        try:
            while lines := self._taken():
                self._partial.write("".join(f"{line}\n" for line in lines).encode())
                with self._changed:
                    self._shown += len(lines)
            if self._shown:
                self._partial.publish()
            else:
                self._partial.discard()
        except VideoError as error:
            kept = self._kept()
            with self._changed:
                self._has_stopped = True
                self._message = f"the log {self.path} has stopped: {told(error)}{kept}"

    def _kept(self) -> str:
        """Where what was logged is from now on, as the end of a line; empty where that is told."""
        if not self._shown:
            self._partial.discard()
        if self._partial.is_done:
            return ""
        with contextlib.suppress(VideoError):
            self.part = self._partial.keep(UNFINISHED)
        return f"; what was logged until then is in {self.part}"

    def _taken(self) -> list[str]:
        """The lines that wait; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closing)
            lines = list(self._lines)
            self._lines.clear()
            return lines


def _named(weights: Iterable[float]) -> dict[str, float]:
    """The weights that are not 0, by emotion."""
    pairs = zip(EMOTIONS, weights, strict=True)
    return {name: round(float(weight), 4) for name, weight in pairs if weight}


def check_log(path: Path, *, overwrite: bool = False) -> None:
    """Raise VideoError where a log may not be written to `path`."""
    if path.is_dir():
        raise VideoError(f"the log {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise VideoError(f"the log's folder {path.parent} does not exist")
    check_free(path, overwrite=overwrite)
