"""Which files an edit reads, and under which names it leaves its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import UsageError, VideoError
from mien.engines.system.partial_file import check_free
from mien.runtime.pictures.picture import PICTURE_SUFFIXES, picture_suffix
from mien.runtime.target import EMOTIONS
from mien.runtime.video.reading.content import result_suffix, video_suffixes

SAMPLE = Path(__file__).parent.parent / "sample" / "sample.mp4"
SAMPLE_STEM = "mien-sample"
TIMELINE_TAG = "timeline"
COMPARE_TAG = "_compare"
PREVIEW_SUFFIX = ".png"
PREVIEW_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp"))
VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg")
) | frozenset((".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".webm", ".wmv", ".y4m"))
_CONTAINER_NAMES = {"matroska": "mkv", "mpegts": "ts", "quicktime": "mov", "mpeg": "mpg"}
_BY_CONTENT = frozenset(("", ".gif", ".apng"))
_EMOTION = "|".join(EMOTIONS)
_OWN = r"(?:soften|amplify)[01](?:\.\d+)?"
_PROMPT = r"prompt(?:-[a-z0-9]+)+"
# Method and its options as words, the intensity as a number: `in_happy_parts_cyclegan_0.6`.
OWN_OUTPUT = re.compile(
    rf"(.+)_(?:{TIMELINE_TAG}|none|{_OWN}|{_PROMPT}|(?:{_EMOTION})|(?:{_EMOTION})\d+(?:-(?:{_EMOTION})\d+)*)"
    rf"(?:_(?:[a-z][a-z0-9.-]*|{_OWN}|[01](?:\.\d+)?))*?"
    rf"(?:{COMPARE_TAG})?(?P<at>_(?:\d+-)?\d+-\d\d(?:\.\d+)?)?"  # the time: of a preview
    rf"(?:_\d{{1,3}})?"  # the number: of one that was kept beside another
)


def output_name(source: Path, tag: str, *, suffix: str | None = None) -> str:
    """The name of the result of `source`: `in.mp4` with the tag `happy` is `in_happy.mp4`.

    suffix: another than the source's.
    """
    return f"{source.stem}_{tag}{source.suffix if suffix is None else suffix}"


def container_suffix(name: str | None, output: Path | None) -> str | None:
    """The suffix of the kind of video that is asked for by name, None where none is.

    Raises UsageError for one that is not known, or where the output's name says another.
    """
    if name is None:
        return None
    plain = name.lower().removeprefix(".")
    suffix = f".{_CONTAINER_NAMES.get(plain, plain)}"
    if suffix not in VIDEO_SUFFIXES | {".gif", ".ogg", ".vob", ".asf", ".f4v"}:
        known = ", ".join(sorted(each[1:] for each in VIDEO_SUFFIXES))
        raise UsageError(f"--container must be one of {known}, not {name[:40]!r}")
    if output is not None and str(output) != "-" and output.suffix.lower() not in ("", suffix):
        raise UsageError(f"--container {name} does not fit the output {output}; leave one out")
    return suffix


def time_tag(seconds: float) -> str:
    """A time as names of files have it: `0-05`, `1-02.5`, `1-00-02`."""
    whole, part = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}-{minutes:02d}" if hours else f"{minutes}"
    return f"{clock}-{rest:02d}" + (f".{part:03d}".rstrip("0") if part else "")


def output_path(source: Path, output: Path | None, tag: str, *, suffix: str | None = None) -> Path:
    """Where the result of one file goes: `output`, or into that folder, or beside the source."""
    if output is None:
        return source.with_name(output_name(source, tag, suffix=suffix))
    if output.is_dir():
        return output / output_name(source, tag, suffix=suffix)
    return output


def check_output(source: Path, output: Path, *, overwrite: bool) -> None:
    """Raise VideoError where `output` may not be written from `source`."""
    if output.exists() and output.samefile(source):
        raise VideoError(f"the output {output} is the input itself; give it another name with -o")
    if output.is_dir():
        raise VideoError(f"the output {output} is a directory")
    if not output.parent.is_dir():
        raise VideoError(f"the folder {output.parent} of the output does not exist")
    check_free(output, overwrite=overwrite)


def check_source(source: Path) -> None:
    """Raise VideoError where `source` is neither a readable file nor a folder."""
    if not source.exists():
        raise VideoError(f"no such file: {source}")
    if not source.is_file() and not source.is_dir():
        raise VideoError(f"{source} is a device or a pipe; mien edits files, so save it first")
    if not os.access(source, os.R_OK):
        raise VideoError(f"{source} may not be read: permission denied")


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    files: the videos and pictures to edit, by name. skipped: other files, hidden ones left out.
    """

    files: list[Path]
    skipped: list[Path]


def files_to_edit(folder: Path, *, recursive: bool = False) -> Found:
    """The videos and pictures in a folder, without what mien wrote there before.

    recursive: also those in the folders in it. Links to folders are not followed.
    Raises VideoError where there are none.
    """
    found = Found([], [])
    _look_into(folder, found, recursive=recursive)
    if not found.files:
        hint = "" if recursive else "; --recursive looks into the folders in it"
        raise VideoError(f"the folder {folder} holds no video or picture{hint}")
    return found


def _look_into(folder: Path, found: Found, *, recursive: bool) -> None:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise VideoError(f"cannot read the folder {folder}: {error.strerror}") from error
    files = [entry for entry in entries if entry.is_file()]
    media = [file for file in files if _is_media(file)]
    found.files.extend(without_own_outputs(media))
    found.skipped.extend(file for file in files if file not in media)
    for entry in entries:
        if recursive and entry.is_dir() and not entry.is_symlink():
            _look_into(entry, found, recursive=True)


def _is_media(file: Path) -> bool:
    """Whether a file is edited with its folder: by its name, or without one by what it holds."""
    suffix = file.suffix.lower()
    if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        return True
    if suffix not in _BY_CONTENT or not os.access(file, os.R_OK):
        return False
    return bool(video_suffixes(file)) or picture_suffix(file) is not None


def fitting_suffix(source: Path) -> str:
    """What the name of a file's result ends in: as its own does, where that fits what it holds."""
    try:
        if video_suffixes(source):
            return result_suffix(source)
        return picture_suffix(source) or source.suffix
    except VideoError:  # which is told when it is edited
        return source.suffix


def without_own_outputs(files: Iterable[Path]) -> list[Path]:
    """`files` less those named like the result of another of them."""
    files = list(files)
    names = {file.name for file in files} | {file.stem + fitting_suffix(file) for file in files}
    stems = {file.stem for file in files if file.suffix.lower() in VIDEO_SUFFIXES}
    kept = []
    for file in files:
        own = OWN_OUTPUT.fullmatch(file.stem)
        if not own or not (stems if own["at"] else names) & {own[1], own[1] + file.suffix}:
            kept.append(file)
    return kept


def prepare_folder(output: Path | None) -> None:
    """Make the folder for the results of a folder. Raises UsageError."""
    if output is None:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"several files are edited, so -o must be a folder, not the file {output}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {output}: {error.strerror}") from error
