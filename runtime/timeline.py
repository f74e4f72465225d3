"""Timelines: which expression from which time on."""

from __future__ import annotations

import bisect
import csv
import re
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import UsageError
from mien.engines.limits import file_size
from mien.runtime.target import MAX_STRENGTH, Target, parse_target, shortened

# With no more digits than programs write.
CLOCK = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,20})?)")
SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
MAX_BYTES = 1 << 20  # of a timeline
MAX_ROWS = 10_000
# Words in the place of an emotion that leave the face alone.
NO_EDIT = frozenset(("none", "off", "original", "-"))


@dataclass(frozen=True, slots=True)
class Step:
    """From `time_s` (seconds) on, the face is to reach `target`; None leaves it alone."""

    time_s: float
    target: Target | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps in the order of their times. The filter eases from one to the next."""

    steps: tuple[Step, ...]

    def target_at(self, time_s: float) -> Target | None:
        """What the face is to reach at a time; None before the first step."""
        index = bisect.bisect_right(self.steps, time_s, key=lambda step: step.time_s)
        return self.steps[index - 1].target if index else None


def parse_time(text: str) -> float:
    """Seconds of `12.5`, `1:02.5` or `1:00:02`. Raises UsageError."""
    text = text.strip()
    if SECONDS.fullmatch(text):
        return float(text)
    clock = CLOCK.fullmatch(text)
    if not clock:
        raise UsageError(
            f"{shortened(text)} is not a time; write seconds (12.5) or [HH:]MM:SS (1:02.5)"
        )
    hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
    if seconds >= 60 or (clock[1] and minutes >= 60):
        raise UsageError(f"{shortened(text)} is not a time; minutes and seconds end at 59")
    return 3600.0 * hours + 60.0 * minutes + seconds


def read_timeline(path: Path, default_strength: float = 1.0) -> Timeline:
    """The timeline in a CSV file of `time, emotion, intensity`.

    A header row, empty lines and lines that begin with # are passed over; the intensity may be
    left out. Raises UsageError with file and line.
    """
    steps: list[Step] = []
    for number, cells in _rows(path):
        if not steps and cells[0].lower() in ("time", "time_s", "t"):
            continue
        try:
            step = _step(cells, default_strength)
            _check_order(steps, step)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        steps.append(step)
    if not steps:
        raise UsageError(f"{path} has no rows; write lines of: time, emotion, intensity")
    return Timeline(tuple(steps))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The number and the cells of every line that says something."""
    size = file_size(path, error=UsageError)
    if size > MAX_BYTES:
        raise UsageError(f"the timeline {path} has {size:,} bytes; up to {MAX_BYTES:,} are read")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read the timeline {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the timeline {path} is not a text file in UTF-8") from error
    lines = text.splitlines()
    kept = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(kept) > MAX_ROWS:
        raise UsageError(f"the timeline {path} has {len(kept):,} rows; up to {MAX_ROWS:,} are read")
    return [(number, _cells(path, number, line)) for number, line in kept]


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except csv.Error as error:
        raise UsageError(f"{path}, line {number}: {error}") from error


def _step(cells: list[str], default_strength: float) -> Step:
    while len(cells) > 2 and not cells[-1]:
        cells = cells[:-1]
    if len(cells) not in (2, 3):
        raise UsageError(f"received {len(cells)} values, expected: time, emotion, intensity")
    time_s = parse_time(cells[0])
    strength = _strength(cells[2]) if len(cells) == 3 else default_strength
    if cells[1].lower() in NO_EDIT:
        return Step(time_s, None)
    return Step(time_s, parse_target(cells[1], strength))


def _check_order(steps: list[Step], step: Step) -> None:
    if steps and step.time_s <= steps[-1].time_s:
        before = steps[-1].time_s
        raise UsageError(f"the time {step.time_s:g} s does not come after the last, {before:g} s")


def _strength(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"the intensity {shortened(text)} is not a number between 0 and {MAX_STRENGTH:g}"
        ) from None
