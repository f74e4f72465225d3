"""What a face should look like: emotions, mixes of them, how strongly, and from which time on.

A `Target` is one expression; a `Timeline`, read from CSV, is a series of them.
"""

from __future__ import annotations

import bisect
import codecs
import csv
import difflib
import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mien.engines.errors import UsageError
from mien.engines.system.limits import file_size
from mien.runtime.words import words_of

EMOTIONS = (
    "neutral",
    "happy",
    "sad",
    "surprised",
    "fearful",
    "disgusted",
    "angry",
    "contemptuous",
)

ALIASES = {
    "neutrality": "neutral",
    "calm": "neutral",
    "happiness": "happy",
    "joy": "happy",
    "smile": "happy",
    "smiling": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "fearful",
    "afraid": "fearful",
    "scared": "fearful",
    "disgust": "disgusted",
    "anger": "angry",
    "contempt": "contemptuous",
}

# Words in the place of an emotion that leave the face as it is.
NO_EDIT = frozenset(("none", "off", "original", "-"))

MAX_STRENGTH = 1.5
LEAST_MIX = 1e-3  # a sum of strengths below it is none
MOST_NAME = 60  # characters of what a prompt adds to a file name
MAX_TEXT = 500  # characters of a mix; one of all eight emotions has 120


@dataclass(frozen=True, slots=True)
class Target:
    """An expression to reach.

    weights: a weight per emotion of EMOTIONS, each in [0, 1], their sum in (0, 1] where a mix
        leaves some of the face as it is.
    strength: 0 leaves the face alone, 1 is the full expression, at most MAX_STRENGTH.
    prompt: words beside the weights, for methods that take them (`MethodSpec.takes_prompt`).
    """

    weights: tuple[float, ...]
    strength: float = 1.0
    prompt: str = ""

    def __post_init__(self) -> None:
        given: object = self.weights
        if not isinstance(given, (tuple, list, np.ndarray)):
            kind = type(given).__name__
            raise UsageError(f"a target has {len(EMOTIONS)} weights as a tuple, not {kind}")
        if len(self.weights) != len(EMOTIONS):
            raise UsageError(f"a target has {len(EMOTIONS)} weights, not {len(self.weights)}")
        weights = tuple(w for w in map(finite_number, self.weights) if w is not None and w >= 0)
        if len(weights) != len(EMOTIONS) or not 0 < sum(weights) <= 1 + 1e-6:
            raise UsageError("the weights of an emotion mix must lie in 0..1 and sum to at most 1")
        strength = finite_number(self.strength)
        if strength is None or not 0 <= strength <= MAX_STRENGTH:
            raise UsageError(
                f"intensity must lie in 0..{MAX_STRENGTH:g}, not {shortened(self.strength)}"
            )
        words: object = self.prompt
        if not isinstance(words, str) or len(words) > MAX_TEXT:
            raise UsageError(f"a prompt is a text of at most {MAX_TEXT} characters")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "strength", strength)

    def vector(self) -> np.ndarray:
        """The weights as float32 (8,)."""
        return np.array(self.weights, np.float32)

    @property
    def name(self) -> str:
        """The mix in short form, fit for a file name: `happy` or `happy70-surprised30`.

        Of a prompt its words: `prompt-a-surprised-face`.
        """
        if self.prompt:
            return "-".join(["prompt", *words_of(self.prompt)])[:MOST_NAME].rstrip("-")
        parts = [(w, e) for w, e in zip(self.weights, EMOTIONS, strict=True) if w > 0]
        if len(parts) == 1 and parts[0][0] >= 0.995:
            return parts[0][1]
        return "-".join(f"{e}{round(100 * w)}" for w, e in parts)


def finite_number(value: object) -> float | None:
    """The float of a finite real number, NumPy's included; None for all else, and for a bool."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the floats
        return None
    return number if math.isfinite(number) else None


def shortened(value: object) -> str:
    """A value as an error line shows it: printable, and at most 43 characters."""
    if isinstance(value, numbers.Integral) and abs(int(value)).bit_length() > 128:
        return "a number of many digits"  # Python refuses to write some of them
    text = repr(value) if isinstance(value, str) else str(value)
    text = "".join(sign if sign.isprintable() else "?" for sign in text[:80])
    return text if len(text) <= 43 else text[:40] + "..."


def emotion_name(name: str) -> str:
    """The canonical name of an emotion or alias; UsageError names the nearest otherwise."""
    key = name.strip().lower()
    if key in EMOTIONS:
        return key
    if key in ALIASES:
        return ALIASES[key]
    near = difflib.get_close_matches(key, [*EMOTIONS, *ALIASES], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"unknown emotion {shortened(name)}{hint} (known: {', '.join(EMOTIONS)})")


def is_no_edit(text: str) -> bool:
    """Whether a text says that the face is to be left as it is: `none`."""
    return text.strip().lower() in NO_EDIT


def parse_goal(text: str, strength: float = 1.0) -> Target | None:
    """The target of a text as `parse_target` takes it, or None for `none`. Raises UsageError."""
    given: object = text
    is_left = isinstance(given, str) and is_no_edit(given)
    return None if is_left else parse_target(text, strength)


def goal_name(target: Target | None) -> str:
    """A target's name, fit for a file name; `none` where faces are left as they are."""
    return "none" if target is None else target.name


def goal_text(target: Target | None) -> str:
    """A target's mix as `parse_goal` takes it; `none` where faces are left as they are."""
    if target is None:
        return "none"
    parts = [(w, e) for w, e in zip(target.weights, EMOTIONS, strict=True) if w > 0]
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return "+".join(f"{emotion}:{weight:.4g}" for weight, emotion in parts)


def prompted_target(prompt: str, strength: float = 1.0) -> Target:
    """The target of a prompt; what its words mean, the method says.

    Raises UsageError where it has none, or is too long.
    """
    given: object = prompt
    if not isinstance(given, str) or not words_of(given):
        raise UsageError(f"the prompt {shortened(prompt)} has no word; try 'a surprised face'")
    return replace(parse_target("neutral", strength), prompt=prompt)


def parse_target(text: str, strength: float = 1.0) -> Target:
    """The target of `happy` or of a mix such as `happy:0.7+surprised:0.3`.

    A comma serves as well as a plus. Weights that are left out share what the others leave; a sum
    above 1 is scaled down to 1. Raises UsageError.
    """
    if not isinstance(text, str):
        raise UsageError(f"an expression is a text such as 'happy', not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise UsageError(f"an expression of {len(text):,} characters; {MAX_TEXT} are allowed")
    weights = dict.fromkeys(EMOTIONS, 0.0)
    open_parts: list[str] = []
    for part in text.replace(",", "+").split("+"):
        name, colon, weight = part.partition(":")
        emotion = emotion_name(name)
        if not colon:
            open_parts.append(emotion)
            continue
        weights[emotion] += _weight(weight, part)
    left = max(0.0, 1.0 - sum(weights.values()))
    for emotion in open_parts:
        weights[emotion] += left / len(open_parts)
    total = sum(weights.values())
    if total <= 0:
        raise UsageError(f"the mix {shortened(text)} gives no emotion any weight")
    scale = 1 / total if total > 1 else 1.0
    return Target(tuple(weights[e] * scale for e in EMOTIONS), strength)


def mixed_target(strengths: Sequence[float]) -> Target | None:
    """The target of a strength for each emotion of EMOTIONS, 0..MAX_STRENGTH; None where all are 0.

    Up to a sum of 1 they are the weights of a mix, as those of `happy:0.5`; above it, the sum is
    how strong the mix is, at most MAX_STRENGTH. So nothing jumps where one of them is moved.
    """
    total = sum(strengths)
    if total < LEAST_MIX:
        return None
    scale = max(total, 1.0)
    return Target(tuple(each / scale for each in strengths), min(scale, MAX_STRENGTH))


def _weight(text: str, part: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(
            f"{shortened(text)} in {shortened(part)} is not a number between 0 and 1"
        ) from None
    if not 0 <= weight <= 1:
        raise UsageError(f"the weight in {shortened(part)} must lie between 0 and 1")
    return weight


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
