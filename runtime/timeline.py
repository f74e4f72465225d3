"""Timelines: which expression from which time on."""

from __future__ import annotations

import bisect
import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import UsageError
from mien.engines.system.limits import file_size
from mien.runtime.target import MAX_STRENGTH, Target, is_no_edit, parse_goal, shortened

# With no more digits than programs write.
CLOCK = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,2}):([0-9]{1,2}(?:[.,][0-9]{1,20})?)")
SECONDS = re.compile(r"[0-9]{1,12}(?:[.,][0-9]{0,20})?|[.,][0-9]{1,20}")
MAX_BYTES = 1 << 20  # of a timeline
MAX_ROWS = 10_000
# How a spreadsheet program may write text: by the mark at its beginning, the longer ones first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # .xlsx and .ods; .xls
SEPARATORS = ";\t"  # where a line has one of them, a comma in it is no separator
DECIMAL_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9])")
SEPARATOR_LINE = re.compile(
    r"sep=(.)", re.IGNORECASE
)  # that Excel takes, and may write, at the top


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
    """Seconds of `12.5`, `1:02.5`, `1:02,5` or `1:00:02`. Raises UsageError."""
    text = text.strip()
    if SECONDS.fullmatch(text):
        return float(text.replace(",", "."))
    clock = CLOCK.fullmatch(text)
    if not clock:
        raise UsageError(
            f"{shortened(text)} is not a time; write seconds (12.5) or [HH:]MM:SS (1:02.5)"
        )
    hours, minutes = int(clock[1] or 0), int(clock[2])
    seconds = float(clock[3].replace(",", "."))
    if seconds >= 60 or (clock[1] and minutes >= 60):
        raise UsageError(f"{shortened(text)} is not a time; minutes and seconds end at 59")
    return 3600.0 * hours + 60.0 * minutes + seconds


def read_timeline(path: Path, default_strength: float = 1.0) -> Timeline:
    """The timeline in a CSV file of `time, emotion, intensity`, as spreadsheet programs write it.

    Cells are parted by commas, semicolons or tabs; numbers may have a decimal comma. A header row,
    empty rows and lines that begin with # are passed over; the intensity may be left out.
    Raises UsageError with file and line.
    """
    steps: list[Step] = []
    for number, cells in _rows(path):
        if not steps and _is_header(cells):
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
    lines = _text(path).splitlines()
    kept = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip(" \t;,") and not line.lstrip(' "').startswith("#")
    ]
    separator = ""
    if kept and (stated := SEPARATOR_LINE.fullmatch(kept[0][1].strip(' "'))):
        separator, kept = stated[1], kept[1:]
    if len(kept) > MAX_ROWS:
        raise UsageError(f"the timeline {path} has {len(kept):,} rows; up to {MAX_ROWS:,} are read")
    found = (sign for sign in SEPARATORS if any(sign in line for _, line in kept))
    separator = separator or next(found, ",")
    return [(number, _cells(path, number, line, separator)) for number, line in kept]


def _text(path: Path) -> str:
    size = file_size(path, error=UsageError)
    if size > MAX_BYTES:
        raise UsageError(f"the timeline {path} has {size:,} bytes; up to {MAX_BYTES:,} are read")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the timeline {path}: {error.strerror}") from error
    if data.startswith(WORKBOOKS):
        raise UsageError(f"the timeline {path} is a workbook; save the sheet as CSV")
    try:
        return _decoded(data)
    except UnicodeDecodeError as error:
        raise UsageError(f"the timeline {path} is not a text file; save it as CSV") from error


def _decoded(data: bytes) -> str:
    """The text in UTF-8, in UTF-16 or UTF-32 with their marks, or as Windows wrote it in the West.

    Raises UnicodeDecodeError.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    # A character of ASCII has a zero beside it in UTF-16, and a timeline is mostly those.
    if len(data) >= 2 and 0 in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if 0 in data:
            raise
        return data.decode("cp1252")


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UsageError(f"{path}, line {number}: {error}") from error
    cells = [DECIMAL_COMMA.sub(".", cell.strip()) for cell in cells]
    while len(cells) > 2 and not cells[-1]:
        cells = cells[:-1]
    return _joined(cells) if separator == "," else cells


def _joined(cells: list[str]) -> list[str]:
    """Cells of a line in which commas part both cells and decimals: `0:05,5,happy,0,8`."""
    words = [place for place, cell in enumerate(cells) if cell[:1].isalpha() or is_no_edit(cell)]
    if len(words) != 1:
        return cells
    before, after = cells[: words[0]], cells[words[0] + 1 :]
    if len(before) not in (1, 2) or len(after) > 2:
        return cells
    return [".".join(before), cells[words[0]], *([".".join(after)] if after else [])]


def _is_header(cells: list[str]) -> bool:
    """Whether a first row only names its columns, in whatever language."""
    if cells[0].lower() in ("time", "time_s", "t"):
        return True
    has_digits = any(sign.isdigit() for sign in "".join(cells))
    return not has_digits and len(cells) in (2, 3) and not _is_goal(cells[1])


def _is_goal(text: str) -> bool:
    try:
        parse_goal(text)
    except UsageError:
        return False
    return True


def _step(cells: list[str], default_strength: float) -> Step:
    if len(cells) not in (2, 3):
        raise UsageError(f"received {len(cells)} values, expected: time, emotion, intensity")
    time_s = parse_time(cells[0])
    strength = _strength(cells[2]) if len(cells) == 3 else default_strength
    return Step(time_s, parse_goal(cells[1], strength))


def _check_order(steps: list[Step], step: Step) -> None:
    if steps and step.time_s <= steps[-1].time_s:
        before = steps[-1].time_s
        raise UsageError(f"the time {step.time_s:g} s does not come after the last, {before:g} s")


def _strength(text: str) -> float:
    number = text.removesuffix("%")
    try:
        return float(number) / (1 if number == text else 100)
    except ValueError:
        raise UsageError(
            f"the intensity {shortened(text)} is not a number between 0 and {MAX_STRENGTH:g}"
        ) from None
