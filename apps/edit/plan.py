"""What `mien edit` is to do, file by file, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mien.apps.edit.inputs import (
    COMPARE_TAG,
    PREVIEW_SUFFIX,
    TIMELINE_TAG,
    Found,
    check_output,
    check_source,
    files_to_edit,
    fitting_suffix,
    output_name,
    output_path,
    prepare_folder,
    time_tag,
)
from mien.apps.marks.marking import Edit
from mien.apps.marks.provenance import Applied
from mien.engines.errors import MienError, VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.engines.system.partial_file import remove_leftovers
from mien.runtime.pictures.picture import is_picture
from mien.runtime.session import check_section
from mien.runtime.spec import DEFAULT_METHOD
from mien.runtime.target import Target, Timeline, goal_name, goal_text
from mien.runtime.video import Progress
from mien.runtime.video.animation import animation_kind, check_animation
from mien.runtime.video.reading.content import video_suffixes

EXIT_ERROR: Final = 2
EXIT_LOST: Final = 3


@dataclass(frozen=True, slots=True)
class EditJob:
    """What to edit and how.

    sources: videos, pictures, and folders of them. output: a file or folder, None for beside it.
    goal: the expression, or a timeline of them; None leaves faces as they are. compare: show the
    original next to the edit.
    start_s, end_s: the part of a video that is edited. codec: of the written video.
    quality: 0..100; None is 80 for videos, and for pictures what they came with.
    max_memory: bytes that one file may take, by the sizes it states.
    variant: what the names of the results say of how it was done, where that is not the default.
    recursive: whether the folders in a folder are edited too. dry_run: only say what would be done.
    at_s: a time of a video; only a picture of it is made.
    container: the suffix of the kind of file that videos become, None for that of the source.
    streamed: whether the result is read from its beginning, without going back.
    own: how much of a person's own expression is shown, as of `Filter`. method: what edits, for the
    file's own statement. is_marked: whether what is edited is marked as such.
    jobs: how many files are edited side by side, each in a process. resumes: whether a file whose
    result is there, and is no older than it, is passed over.
    settings: what else decides what the pictures become, as a text. is_for_all: whether all faces
    are edited, so that nobody need be told from others.
    """

    sources: tuple[Path, ...]
    goal: Target | Timeline | None
    output: Path | None = None
    compare: bool = False
    start_s: float | None = None
    end_s: float | None = None
    codec: str | None = None
    quality: int | None = None
    overwrite: bool = False
    max_memory: int = MAX_MEMORY
    variant: str = ""
    recursive: bool = False
    dry_run: bool = False
    at_s: float | None = None
    container: str | None = None
    streamed: bool = False
    own: float = 1.0
    method: str = DEFAULT_METHOD
    is_marked: bool = True
    jobs: int = 1
    resumes: bool = False
    settings: str = ""
    is_for_all: bool = True

    def __post_init__(self) -> None:
        check_section(self.start_s, self.end_s)

    @property
    def is_many(self) -> bool:
        """Whether more than one file was named, or a folder."""
        return len(self.sources) > 1 or self.sources[0].is_dir()

    @property
    def tag(self) -> str:
        """What the names of the results end in."""
        name = TIMELINE_TAG if isinstance(self.goal, Timeline) else goal_name(self.goal)
        if self.goal is None and self.own != 1:
            name = ""  # the variant says what was done
        at = "" if self.at_s is None else f"_{time_tag(self.at_s)}"
        return (name + self.variant + COMPARE_TAG * self.compare + at).removeprefix("_")

    def applied(self, watermark: str | None) -> Applied:
        """What its files say that was done. watermark: the number of the one in it."""
        goal = self.goal
        if isinstance(goal, Timeline):
            targets = [step.target for step in goal.steps if step.target is not None]
            text, strength = "a timeline", max((one.strength for one in targets), default=0.0)
        else:
            text = goal.prompt if goal is not None and goal.prompt else goal_text(goal)
            strength = 0.0 if goal is None else goal.strength
        return Applied(text, strength, self.method, self.own, watermark)

    def edit_of(self, source: Path) -> Edit:
        """What is made of a file, which decides the number of its watermark."""
        said = (self.goal, self.own, self.start_s, self.end_s, self.method, self.settings)
        written = (self.compare, self.codec, self.quality, self.container)
        return Edit(source, repr((*said, *written)))

    @property
    def suffix(self) -> str | None:
        """What the names of the results end in, None for what their sources do."""
        return None if self.at_s is None else PREVIEW_SUFFIX

    def suffix_for(self, source: Path, video_suffix: str | None = None) -> str:
        """What the name of the result of a file ends in.

        video_suffix: for videos, where no container is asked for; None for that of the source.
        """
        fitting = self.suffix or fitting_suffix(source)
        if self.suffix or not (self.container or video_suffix) or _seems_still(source):
            return fitting
        return self.container or video_suffix or fitting


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file.

    frames: written. faces: the most in one frame. wall_s: from opening to the finished file.
    stages: name and milliseconds of each, a frame's mean for a video, the whole for a still.
    notes: what the user should know. lost: what of the source could not be read.
    still: whether it is a picture. watermark: the number in its faces, None without one. signed:
    whether it has Content Credentials.
    """

    source: Path
    output: Path
    frames: int
    faces: int
    wall_s: float
    stages: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()
    lost: str | None = None
    still: bool = False
    watermark: str | None = None
    signed: bool = False


class Display(Protocol):
    """Where an edit tells how it goes."""

    def watch(self, source: Path, /) -> AbstractContextManager[Callable[[Progress, int], None]]:
        """A context that shows the progress of one file, and gives what takes it and the faces."""

    def finish(self, result: Result) -> None:
        """Report a file that is done."""

    def fail(self, error: MienError) -> None:
        """Report a file that failed."""

    def skip(self, files: Sequence[Path]) -> None:
        """Report the files of a folder that are passed over."""

    def plan(self, source: Path, output: Path) -> None:
        """Report a file that would be edited."""

    def resume(self, outputs: Sequence[Path]) -> None:
        """Report the results that are there already."""

    def summarize(self, failed: Sequence[Path], count: int) -> None:
        """Report at the end which of so many files failed."""

    def watch_all(self, count: int) -> AbstractContextManager[Callable[[int, int, float], None]]:
        """A context that shows how many files are done, frames, and frames a second."""


def planned(job: EditJob, display: Display) -> list[tuple[Path, Path]]:
    """Each file to edit and the name of its result. Raises MienError where there is nothing."""
    for source in job.sources:
        check_source(source)
    steps = _steps(job, display)
    if job.resumes:
        whole = {output for file, output in steps if _is_there(file, output)}
        display.resume([output for _, output in steps if output in whole])
        steps = [(file, output) for file, output in steps if output not in whole]
    if not job.dry_run:
        for folder in {output.parent for _, output in steps}:
            remove_leftovers(folder)
    return steps


def _is_there(source: Path, output: Path) -> bool:
    """Whether a result is there, and is no older than its source: its name comes with the whole."""
    try:
        return output.is_file() and output.stat().st_mtime >= source.stat().st_mtime
    except OSError:
        return False


def _steps(job: EditJob, display: Display) -> list[tuple[Path, Path]]:
    """Each file to edit and the name of its result; folders for the results are made."""
    if not job.is_many:
        source = job.sources[0]
        return [(source, output_path(source, job.output, job.tag, suffix=_suffix(job, source)))]
    if not job.dry_run:
        prepare_folder(job.output)
    steps = []
    for source in job.sources:
        found = Found([source], [])
        if source.is_dir():
            found = files_to_edit(source, recursive=job.recursive)
            display.skip(found.skipped)
        for file in found.files:
            folder = job.output
            if folder is not None and source.is_dir():
                folder = folder / file.parent.relative_to(source)
                if not job.dry_run:
                    prepare_folder(folder)
            name = output_name(file, job.tag, suffix=_suffix(job, file))
            steps.append((file, file.with_name(name) if folder is None else folder / name))
    return steps


def _suffix(job: EditJob, source: Path) -> str | None:
    """What the name of a result ends in, None for what its source does."""
    return job.suffix_for(source) if source.is_file() else job.suffix


def _seems_still(source: Path) -> bool:
    """`_is_still`, for naming: what is wrong with a file is told when it is edited."""
    try:
        return is_still(source)
    except MienError:
        return False


def is_still(source: Path) -> bool:
    """Whether a file is one picture. Raises VideoError for an animation that cannot be edited."""
    if kind := animation_kind(source):
        check_animation(source, kind)
        return False
    return not video_suffixes(source) and is_picture(source)


class Tally:
    """What became of the files of a job, and whether two would get one name."""

    def __init__(self, job: EditJob, display: Display) -> None:
        self._job, self._display = job, display
        self._taken: set[Path] = set()
        self._done, self._is_cut = 0, False
        self.failed: list[Path] = []

    def check(self, source: Path, output: Path) -> None:
        """Raise VideoError where a file may not be edited into `output`."""
        if output in self._taken:
            raise VideoError(f"{source} would get the name of another result, {output}")
        self._taken.add(output)
        check_output(source, output, overwrite=self._job.overwrite)

    def add(self, status: int) -> None:
        """Count a file that is done."""
        self._done += 1
        self._is_cut |= status == EXIT_LOST

    def fail(self, source: Path, error: MienError) -> None:
        """Tell of a file that failed."""
        self.failed.append(source)
        self._display.fail(error)

    def end(self) -> int:
        """The exit status: 2 where all failed, 3 where some did or are cut; says which."""
        if not self.failed:
            return EXIT_LOST if self._is_cut else 0
        self._display.summarize(self.failed, self._done + len(self.failed))
        return EXIT_LOST if self._done else EXIT_ERROR
