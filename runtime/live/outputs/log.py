"""What was applied to each frame, as a file of JSON lines: one for each frame that went out."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from mien.engines.errors import VideoError
from mien.engines.system.partial_file import check_free
from mien.runtime.live.outputs.output import told
from mien.runtime.live.values import LiveFrame, OutputStatus
from mien.runtime.target import EMOTIONS

_MOST_WAITING: Final = 100_000  # lines of 300 bytes or so, where the disk stands still
_CLOSE_S: Final = 5.0


class FrameLog:
    """An output that writes a line for each frame, those that others drop as well.

    A line is an object with: `seq` and `index`, as of `LiveFrame`; `time_s`, since the first frame
    was captured, which is the time of the frame in a recording of the same run; `unix_s`, when it
    was captured, by the system's clock as it was at the start; `method` and `options`; `target`,
    the weights of the emotions asked for, null for none, with `intensity` and `prompt`; `own`;
    `paused`, `mark` and `bypassed`; `faces`, the tracks in view; and `edited`, for each face that
    is changed in what was shown its track and the weights, intensity and own expression that it
    had reached in that frame, on its way to those asked for.

    The lines are in the file at once, so that it can be read while it grows.
    Raises VideoError where it cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        check_log(path, overwrite=overwrite)
        self.path = path
        self._file = _opened(path, overwrite=overwrite)
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
        """Write what waits, and close the file. May be called twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _entry(self, frame: LiveFrame, began_s: float) -> dict[str, object]:
        applied = frame.applied
        target, edited = applied.target, frame.edited if frame.is_edited else ()
        return {
            "seq": frame.seq,
            "index": frame.index,
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
            with self._file as file:
                while lines := self._taken():
                    file.write("".join(f"{line}\n" for line in lines))
                    file.flush()
                    with self._changed:
                        self._shown += len(lines)
        except OSError as error:
            with self._changed:
                self._has_stopped = True
                why = error.strerror or told(error)
                self._message = f"the log {self.path} has stopped: {why}"

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


def _opened(path: Path, *, overwrite: bool) -> TextIO:
    # Without leave a file that appeared after the check is not replaced either.
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        return os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise VideoError(f"the log {path} cannot be written: {error.strerror}") from error
