"""The main job: a video, a picture or a folder of them, with another expression on the face."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mien.apps.edit.inputs import (
    COMPARE_TAG,
    PREVIEW_SUFFIX,
    PREVIEW_SUFFIXES,
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
from mien.apps.marks.marking import FileMarks, Marking
from mien.apps.marks.provenance import Applied
from mien.engines.errors import MienError, UsageError, VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.engines.system.partial_file import PartialFile, remove_leftovers
from mien.engines.system.process import is_work_left, run_aside
from mien.runtime.frame import Frame
from mien.runtime.pictures.picture import (
    Picture,
    check_picture_suffix,
    encode_picture,
    is_picture,
    left_out_note,
    read_picture,
    side_by_side,
)
from mien.runtime.session import FaceFilter, FilterRun, check_section
from mien.runtime.spec import DEFAULT_METHOD
from mien.runtime.target import Target, Timeline, goal_name, goal_text
from mien.runtime.video import Progress, VideoOptions, edit_video
from mien.runtime.video.animation import animation_kind, check_animation
from mien.runtime.video.planes import frame_from_av
from mien.runtime.video.reading.content import video_suffixes
from mien.runtime.video.reading.moment import encode_plain, read_moment
from mien.runtime.whole_file import copy_into

DEFAULT_VIDEO_QUALITY = 80
NO_FACE = "no face found, so it is unchanged"
NOT_EDITED = (
    "no chosen face could be edited (missing, turned away, covered, tiny or badly lit), "
    "so it is unchanged"
)
NO_FRAME = "no frame lies between --from and --to, so it is unchanged"
EXIT_ERROR = 2
EXIT_LOST = 3


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


@dataclass(frozen=True, slots=True)
class _Tools:
    """What every file of a job is edited with."""

    opened: Future[FaceFilter]
    display: Display
    marking: Marking


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


def run_job(job: EditJob, make_filter: Callable[[], FaceFilter], display: Display) -> int:
    """The exit status after editing what `job` names: 0, 2 where a file failed, 3 where one is cut.

    Raises MienError where there is nothing to edit, or the one file fails.
    """
    for source in job.sources:
        check_source(source)
    steps = _steps(job, display)
    if job.dry_run:
        return _each(job, steps, display, lambda file, output: _plan(file, output, display))
    marking = Marking.ready(is_on=job.is_marked)
    for folder in {output.parent for _, output in steps}:
        remove_leftovers(folder)
    with _opening(make_filter) as opened:
        if job.is_many:
            opened.result().own = job.own  # what the method cannot do is told once
        tools = _Tools(opened, display, marking)
        return _each(job, steps, display, lambda file, output: _edit_one(job, file, output, tools))


def _plan(source: Path, output: Path, display: Display) -> int:
    display.plan(source, output)
    return 0


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
        return _is_still(source)
    except MienError:
        return False


def _is_still(source: Path) -> bool:
    """Whether a file is one picture. Raises VideoError for an animation that cannot be edited."""
    if kind := animation_kind(source):
        check_animation(source, kind)
        return False
    return not video_suffixes(source) and is_picture(source)


def _each(
    job: EditJob,
    steps: list[tuple[Path, Path]],
    display: Display,
    work: Callable[[Path, Path], int],
) -> int:
    """The worst status of `work` over all files; of several, one that fails stops no other."""
    status = 0
    taken: set[Path] = set()
    for file, output in steps:
        try:
            if output in taken:
                raise VideoError(f"{file} would get the name of another result, {output}")
            taken.add(output)
            check_output(file, output, overwrite=job.overwrite)
            status = max(status, work(file, output), key=_badness)
        except MienError as error:  # noqa: PERF203 -- one file must not stop the others
            if not job.is_many:
                raise
            display.fail(error)
            status = EXIT_ERROR
    return status


def _badness(status: int) -> int:
    return (0, EXIT_LOST, EXIT_ERROR).index(status)


@contextmanager
def _opening(make_filter: Callable[[], FaceFilter]) -> Iterator[Future[FaceFilter]]:
    """The filter, made in another thread while the caller looks at the input; closed at the end."""
    with ThreadPoolExecutor(1, thread_name_prefix="mien-open") as pool:
        opened = pool.submit(make_filter)
        try:
            yield opened
        finally:
            # under work that was left behind its networks must not be closed: that ends in abort()
            if not opened.cancel() and opened.exception() is None and not is_work_left():
                opened.result().close()


def _edit_one(job: EditJob, source: Path, output: Path, tools: _Tools) -> int:
    edit = _edit_picture if _is_still(source) else _edit_video
    if job.at_s is not None:
        edit = _preview
    try:
        check_source(source)
        result = edit(job, source, output, tools)
    except OSError as error:
        raise VideoError(f"cannot edit {source}: {error.strerror or error}") from error
    tools.display.finish(result)
    return EXIT_LOST if result.lost else 0


def _edit_video(job: EditJob, source: Path, output: Path, tools: _Tools) -> Result:
    quality = DEFAULT_VIDEO_QUALITY if job.quality is None else job.quality
    marks = tools.marking.of_file(overwrite=job.overwrite)
    options = VideoOptions(
        codec=job.codec,
        quality=quality,
        overwrite=job.overwrite,
        side_by_side=job.compare,
        max_memory=job.max_memory,
        copy_unedited=_may_be_copied(job, source, output),
        streamed=job.streamed,
        seal=lambda part: marks.sign(part, source, job.applied(marks.number(run.frames_marked))),
    )
    filter_ = tools.opened.result()
    filter_.watermark = marks.watermark
    run = FilterRun(filter_, job.goal, start_s=job.start_s, end_s=job.end_s, own=job.own)
    with tools.display.watch(source) as show:

        def tell(progress: Progress) -> None:
            show(replace(progress, share_done=run.share_done), run.faces)

        report = edit_video(source, output, run, options, progress=tell)
    unchanged = _why_unchanged(job, run, changed=report.edited > 0)
    notes = unchanged + _unedited_parts(run) + (() if report.is_copy else report.notes)
    notes += marks.notes
    frames = max(report.frames, 1)
    stages = [
        ("decode", 1000 * report.seconds.decode / frames),
        *((stage, ms / max(run.frames, 1)) for stage, ms in run.stage_ms.items()),
        ("encode", 1000 * report.seconds.encode / frames),
    ]
    return Result(
        source,
        output,
        frames=report.frames,
        faces=run.faces,
        wall_s=report.wall_s,
        stages=tuple(stages),
        notes=notes,
        lost=report.lost,
        watermark=marks.number(run.frames_marked),
        signed=marks.is_signed,
    )


def _why_unchanged(job: EditJob, run: FilterRun, *, changed: bool) -> tuple[str, ...]:
    """The note on a file in which nothing was edited, though it was asked for; else empty."""
    if changed or not _is_change(job):
        return ()
    if not run.frames:
        return (NO_FRAME,)
    if not run.frames_with_face:
        return (NO_FACE,)
    return (NOT_EDITED,) if isinstance(job.goal, Target) or job.own != 1 else ()


def _unedited_parts(run: FilterRun) -> tuple[str, ...]:
    """The notes on faces that were not edited, and on parts of faces that could not be seen."""
    notes: tuple[str, ...] = ()
    if run.frames_without_chosen:
        told = f"{run.frames_without_chosen} of {run.frames} frames, which are unchanged"
        notes = (f"the chosen face was not in view, or could not be told from others, in {told}",)
    if run.unfollowed:
        notes += (f"more faces than are followed at a time: {run.unfollowed} left unchanged",)
    if not run.unedited_parts:
        return notes
    counts = ", ".join(
        f"{part.replace('_', ' ')} {count}x" for part, count in sorted(run.unedited_parts.items())
    )
    return (*notes, f"not seen, so left unchanged: {counts}")


def _may_be_copied(job: EditJob, source: Path, output: Path) -> bool:
    """Whether the bytes of a video in which nothing was edited are all that was asked for."""
    if job.streamed or job.compare or not _is_change(job):
        return False
    suffix = output.suffix.lower()
    is_named_so = suffix in (video_suffixes(source) or (suffix,))
    as_it_was = job.codec is None and job.quality is None and is_named_so
    return as_it_was and source.suffix.lower() == suffix


def _preview(job: EditJob, source: Path, output: Path, tools: _Tools) -> Result:
    """One picture of a video, edited as the video would be."""
    assert job.at_s is not None
    if _is_still(source):
        raise UsageError(f"{source} is a picture; --at needs a video")
    if output.suffix.lower() not in PREVIEW_SUFFIXES:
        raise UsageError(f"--at makes a picture, .png, .jpg or .webp, which {output} is not")
    started, at_s = time.perf_counter(), job.at_s
    moment = run_aside(lambda: read_moment(source, at_s, max_memory=job.max_memory))
    frames = [frame_from_av(picture) for picture in moment.pictures]
    decoded = time.perf_counter()
    run = _run_of_still(job, tools)
    edited = run_aside(lambda: run.moment(frames, moment.times_s))
    filtered = time.perf_counter()
    pictures = [moment.picture(edited, frames[-1])]
    if job.compare:
        pictures.insert(0, moment.picture(frames[-1], frames[-1]))
    encoded = encode_plain(np.hstack(pictures), output.suffix, job.quality)
    marks = tools.marking.of_file(overwrite=job.overwrite, moves=False)
    changed = edited is not frames[-1]
    with PartialFile(output, overwrite=job.overwrite) as part:
        part.write(encoded)
        _publish_signed(job, part, source, marks if changed else None)
    done = time.perf_counter()
    unchanged = _why_unchanged(job, run, changed=changed)
    return Result(
        source,
        output,
        frames=1,
        faces=run.faces,
        wall_s=done - started,
        stages=(
            ("decode", 1000 * (decoded - started)),
            *run.stage_ms.items(),
            ("encode", 1000 * (done - filtered)),
        ),
        notes=(*unchanged, *_unedited_parts(run), *moment.notes, *marks.notes),
        still=True,
        signed=marks.is_signed,
    )


def _run_of_still(job: EditJob, tools: _Tools) -> FilterRun:
    """A picture's way through the filter; the watermark is of what moves."""
    filter_ = tools.opened.result()
    filter_.watermark = None
    return FilterRun(filter_, job.goal, own=job.own)


def _publish_signed(job: EditJob, part: PartialFile, source: Path, marks: FileMarks | None) -> None:
    """Give a whole picture its name, signed where `marks` can."""
    signed = None if marks is None else marks.sign(part, source, job.applied(None))
    if signed is None:
        part.publish()
        return
    with signed:
        part.discard()
        signed.publish()


def _is_change(job: EditJob) -> bool:
    """Whether faces are to be changed at all."""
    has_goal = isinstance(job.goal, Timeline) or (job.goal is not None and job.goal.strength > 0)
    return has_goal or job.own != 1


def _edit_picture(job: EditJob, source: Path, output: Path, tools: _Tools) -> Result:
    _check_still(job, source)
    started = time.perf_counter()
    picture = run_aside(
        lambda: read_picture(source, max_memory=job.max_memory, doubled=job.compare)
    )
    check_picture_suffix(output, picture.container)
    decoded = time.perf_counter()
    run = _run_of_still(job, tools)
    edited = run_aside(lambda: run.still(picture.frame))
    filtered = time.perf_counter()
    changed = edited is not picture.frame
    notes = _why_unchanged(job, run, changed=changed) + _unedited_parts(run)
    encoded = None
    marks = tools.marking.of_file(overwrite=job.overwrite, moves=False)
    if changed or job.compare:
        notes += left_out_note(picture)
        if not job.compare:  # a large picture is released before its edit is written
            picture = replace(picture, frame=edited)
        encoded = run_aside(lambda: _encoded(job, picture, edited))
    with PartialFile(output, overwrite=job.overwrite) as part:
        if encoded is not None:
            part.write(encoded)
        else:
            copy_into(part, source)
        _publish_signed(job, part, source, marks if changed else None)
    done = time.perf_counter()
    return Result(
        source,
        output,
        frames=1,
        faces=run.faces,
        wall_s=done - started,
        stages=(
            ("decode", 1000 * (decoded - started)),
            *run.stage_ms.items(),
            ("encode", 1000 * (done - filtered)),
        ),
        notes=notes + marks.notes,
        lost=picture.lost,
        still=True,
        signed=marks.is_signed,
    )


def _encoded(job: EditJob, picture: Picture, edited: Frame) -> bytes:
    frame = side_by_side(picture.frame, edited) if job.compare else edited
    return encode_picture(picture, frame, job.quality)


def _check_still(job: EditJob, source: Path) -> None:
    if isinstance(job.goal, Timeline):
        raise UsageError(f"{source} is a picture; a timeline needs a video")
    if job.is_many:
        return  # what is asked of the videos of a folder is no fault of the pictures beside them
    if job.start_s is not None or job.end_s is not None:
        raise UsageError(f"{source} is a picture; --from and --to need a video")
    if job.codec is not None:
        raise UsageError(f"{source} is a picture; --codec needs a video")
