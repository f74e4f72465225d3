"""What an edit says: progress on a terminal, and one line for each file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from mien.apps.boundary import tell_error
from mien.apps.edit.plan import Result
from mien.engines.errors import MienError, one_line
from mien.runtime.video import Progress

SHOWN_NAMES = 8


def summary(result: Result) -> str:
    """One line on a finished file: how much, how long, and the time of every stage."""
    faces = "1 face" if result.faces == 1 else f"{result.faces} faces"
    parts = [faces, f"{result.wall_s:.1f} s"]
    if not result.still:
        rate = result.frames / result.wall_s if result.wall_s > 0 else 0.0
        frames = "1 frame" if result.frames == 1 else f"{result.frames} frames"
        parts = [frames, faces, f"{result.wall_s:.1f} s ({rate:.0f} fps)"]
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in result.stages)
    unit = "ms" if result.still else "ms a frame"
    line = f"{result.output}: {', '.join(parts)}; {unit}: {stages}"
    marks = [] if result.watermark is None else [f"watermark {result.watermark}"]
    marks += ["Content Credentials"] if result.signed else []
    line += f"; marked: {', '.join(marks)}" if marks else ""
    return one_line("; note: ".join([line, *result.notes]))


def _names(files: Sequence[Path]) -> str:
    """The first names of some files, and how many more there are."""
    rest = len(files) - SHOWN_NAMES
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(file.name for file in files[:SHOWN_NAMES]) + more


class PlainDisplay:
    """Says nothing but the summary of each file."""

    @contextmanager
    def watch(self, source: Path, /) -> Iterator[Callable[[Progress, int], None]]:
        """A function that takes the progress and the number of faces, and keeps silent."""
        del source
        yield lambda _progress, _faces: None

    def finish(self, result: Result) -> None:
        """Print the summary line, and what is lost of a damaged source."""
        if result.lost:
            told = result.lost.removeprefix("the file is damaged").lstrip(":;, ")
            tell_error(f"{result.source} is damaged: {told}; edited what there is")
        typer.echo(summary(result))

    def fail(self, error: MienError) -> None:
        """Print the error."""
        tell_error(error)

    def skip(self, files: Sequence[Path]) -> None:
        """Print the names of the files that are passed over."""
        if files:
            tell_error(f"passed over, no video or picture that mien reads: {_names(files)}")

    def plan(self, source: Path, output: Path) -> None:
        """Print which file would become which."""
        typer.echo(one_line(f"{source} -> {output}"))

    def resume(self, outputs: Sequence[Path]) -> None:
        """Print how many results are there already."""
        if outputs:
            results = "1 result is" if len(outputs) == 1 else f"{len(outputs)} results are"
            tell_error(f"{results} there already, and not made again")

    def summarize(self, failed: Sequence[Path], count: int) -> None:
        """Print how many files failed, and which."""
        tell_error(f"{len(failed)} of {count} files failed: {_names(failed)}")

    @contextmanager
    def watch_all(self, count: int) -> Iterator[Callable[[int, int, float], None]]:
        """A function that takes the files and frames done and the rate, and keeps silent."""
        del count
        yield lambda _files, _frames, _fps: None


class JsonDisplay(PlainDisplay):
    """Prints a JSON object for each file, in a line of its own."""

    def finish(self, result: Result) -> None:
        """Print all of the result as one line of JSON."""
        told = {
            "source": str(result.source),
            "output": str(result.output),
            "frames": result.frames,
            "faces": result.faces,
            "seconds": round(result.wall_s, 3),
            "ms": {name: round(ms, 2) for name, ms in result.stages},
            "notes": list(result.notes),
            "lost": result.lost,
            "watermark": result.watermark,
            "signed": result.signed,
        }
        typer.echo(json.dumps(told))

    def plan(self, source: Path, output: Path) -> None:
        """Print which file would become which."""
        typer.echo(json.dumps({"source": str(source), "output": str(output)}))


class TerminalDisplay(PlainDisplay):
    """Shows a bar with frames, frames a second, time left and faces while a file is edited."""

    @contextmanager
    def watch(self, source: Path, /) -> Iterator[Callable[[Progress, int], None]]:
        """What moves the bar, which is shown on standard error while entered."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[frames]}  {task.fields[rate]}  {task.fields[left]}"),
            TextColumn("{task.fields[faces]}"),
        )
        console = Console(stderr=True)
        with Bar(*columns, console=console, transient=True, refresh_per_second=8) as bar:
            task = bar.add_task(
                one_line(source.name), total=None, frames="opening", rate="", left="", faces=""
            )

            def show(progress: Progress, faces: int) -> None:
                bar.update(
                    task,
                    completed=progress.frames_done + progress.share_done,
                    total=progress.frames_total,
                    frames=frames_text(progress),
                    rate=f"{progress.fps:.0f} fps",
                    left=time_left(progress),
                    faces="1 face" if faces == 1 else f"{faces} faces",
                )

            yield show

    @contextmanager
    def watch_all(self, count: int) -> Iterator[Callable[[int, int, float], None]]:
        """What moves one bar for many files, which is shown on standard error while entered."""
        columns = (
            TextColumn("{task.fields[files]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[frames]}"),
        )
        console = Console(stderr=True)
        # What is printed to a terminal goes above the bar; into a file it goes as it is.
        above = sys.stdout.isatty()
        with Bar(
            *columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=above
        ) as bar:
            task = bar.add_task("", total=count, files=f"0/{count} files", frames="")

            def show(files: int, frames: int, fps: float) -> None:
                bar.update(
                    task,
                    completed=files,
                    files=f"{files}/{count} files",
                    frames=f"{frames} frames, {fps:.0f} fps",
                )

            yield show


def frames_text(progress: Progress) -> str:
    """`120/300 frames`, or `120 frames` where the file does not say how many there are.

    With how much of the next face is done, where its edit takes long: `120/300 frames + 40%`.
    """
    total = f"/{progress.frames_total}" if progress.frames_total else ""
    begun = f" + {progress.share_done:.0%}" if progress.share_done else ""
    return f"{progress.frames_done}{total} frames{begun}"


def time_left(progress: Progress) -> str:
    """`1:05 left`, or nothing where it is not known."""
    if progress.eta_s is None:
        return ""
    minutes, seconds = divmod(round(progress.eta_s), 60)
    return f"{minutes}:{seconds:02d} left"


def display_for_terminal() -> PlainDisplay:
    """A display with progress where standard error is a terminal, else a plain one."""
    return TerminalDisplay() if sys.stderr.isatty() else PlainDisplay()
