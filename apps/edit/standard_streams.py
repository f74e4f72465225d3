"""Editing what comes in on standard input, and writing the result to standard output."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from mien.apps.edit.inputs import fitting_suffix
from mien.apps.edit.job import run_job
from mien.apps.edit.plan import Display, EditJob, Result
from mien.engines.errors import MienError, UsageError, VideoError
from mien.runtime.session import FaceFilter
from mien.runtime.video import Progress

DASH: Final = Path("-")
STREAMED_CONTAINER: Final = ".mkv"  # it is read from its beginning, without going back
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE, as a shell has it
_STANDARD_INPUT, _STANDARD_OUTPUT = "standard input", "standard output"
_CHUNK_BYTES: Final = 1 << 20


def uses_streams(job: EditJob) -> bool:
    """Whether standard input or standard output take part."""
    return DASH in job.sources or job.output == DASH


def run_streamed(job: EditJob, make_filter: Callable[[], FaceFilter], display: Display) -> int:
    """The exit status of `run_job`, with `-` for standard input and standard output.

    Both go through files in a private folder that is removed at the end: containers are read from
    both ends, and nothing is written to standard output before it is whole. All else that would be
    printed there goes to standard error. Without an output, what is piped in is piped out.
    Raises: MienError.
    """
    if len(job.sources) > 1:
        raise UsageError("- is standard input or output, which hold one file; give one input alone")
    to_output = job.output == DASH or job.output is None
    if to_output and not job.dry_run and _is_terminal(sys.stdout):
        raise UsageError("the result would fill the terminal; add -o FILE, or send it into a pipe")
    if job.dry_run:
        display.plan(job.sources[0], DASH if to_output else job.output or DASH)
        return 0
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        source = job.sources[0]
        if source == DASH:
            source = _spooled(Path(folder))
        output = _output_in(Path(folder), job, source) if to_output else job.output
        shown = {source: _STANDARD_INPUT} if job.sources[0] == DASH else {}
        if to_output and output is not None:
            shown[output] = _STANDARD_OUTPUT
        inner = replace(job, sources=(source,), output=output, streamed=to_output)
        with _said_of_streams(shown):
            if not to_output:
                return run_job(inner, make_filter, _Renamed(display, shown))
            with contextlib.redirect_stdout(sys.stderr):
                status = run_job(inner, make_filter, _Renamed(display, shown))
        assert output is not None
        return _sent(output, status)


def _is_terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _spooled(folder: Path) -> Path:
    """What standard input holds, as a file with the suffix that fits it."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or _is_terminal(sys.stdin):
        raise UsageError("nothing is piped in; say where it comes from: mien edit - < talk.mp4")
    path = folder / "stdin"
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK_BYTES)
    except OSError as error:
        raise VideoError(
            f"standard input cannot be kept in {folder.parent}: {error.strerror or error}; "
            "TMPDIR names another folder"
        ) from error
    if not path.stat().st_size:
        raise VideoError("standard input is empty")
    return path.rename(path.with_suffix(fitting_suffix(path)))


def _output_in(folder: Path, job: EditJob, source: Path) -> Path:
    """Where a result for standard output is written first; its suffix says what it is."""
    if not source.exists() or source.is_dir():
        return folder / f"stdout{STREAMED_CONTAINER}"  # which is told when it is edited
    return folder / f"stdout{job.suffix_for(source, STREAMED_CONTAINER)}"


def _sent(output: Path, status: int) -> int:
    """`status`, with the file written to standard output; that of a broken pipe where it breaks."""
    stream = sys.stdout.buffer
    try:
        with output.open("rb") as file:
            shutil.copyfileobj(file, stream, _CHUNK_BYTES)
        stream.flush()
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _discard_output()
        raise VideoError(f"standard output cannot be written: {error.strerror}") from error
    return status


def _discard_output() -> None:
    """Let the interpreter find nothing to complain of when it flushes the stream at its end."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


@contextmanager
def _said_of_streams(shown: dict[Path, str]) -> Iterator[None]:
    """A context in which errors name the streams, not the files that stand for them meanwhile."""
    try:
        yield
    except MienError as error:
        raise type(error)(_renamed(str(error), shown)) from error


def _renamed(text: str, shown: dict[Path, str]) -> str:
    for path, name in shown.items():
        text = text.replace(str(path), name).replace(path.name, name)
    return text


class _Renamed:
    """A display that gets streams by their names."""

    def __init__(self, display: Display, shown: dict[Path, str]) -> None:
        self._display, self._shown = display, shown

    def watch(self, source: Path, /) -> AbstractContextManager[Callable[[Progress, int], None]]:
        """As of the display."""
        return self._display.watch(self._named(source))

    def finish(self, result: Result) -> None:
        """Pass the result on to the display."""
        notes = tuple(_renamed(note, self._shown) for note in result.notes)
        source, output = self._named(result.source), self._named(result.output)
        self._display.finish(replace(result, source=source, output=output, notes=notes))

    def fail(self, error: MienError) -> None:
        """Pass the error on to the display."""
        self._display.fail(error)

    def skip(self, files: Sequence[Path]) -> None:
        """Pass the names on to the display."""
        self._display.skip(files)

    def plan(self, source: Path, output: Path) -> None:
        """Pass the names on to the display."""
        self._display.plan(self._named(source), self._named(output))

    def resume(self, outputs: Sequence[Path]) -> None:
        """Pass the names on to the display."""
        self._display.resume([self._named(output) for output in outputs])

    def summarize(self, failed: Sequence[Path], count: int) -> None:
        """Pass the names on to the display."""
        self._display.summarize([self._named(file) for file in failed], count)

    def watch_all(self, count: int) -> AbstractContextManager[Callable[[int, int, float], None]]:
        """As of the display."""
        return self._display.watch_all(count)

    def _named(self, path: Path) -> Path:
        return Path(self._shown.get(path, path))
