"""The main job: a video, a picture or a folder of them, with another expression on the face."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mien.apps.edit.crew import Crew
from mien.apps.edit.inputs import PREVIEW_SUFFIXES, check_source
from mien.apps.edit.pieces import PiecesRun
from mien.apps.edit.plan import EXIT_LOST, Display, EditJob, Result, Tally, is_still, planned
from mien.apps.marks.marking import FileMarks, Marking
from mien.engines.errors import MienError, UsageError, VideoError
from mien.engines.system.partial_file import PartialFile
from mien.engines.system.process import is_work_left, run_aside
from mien.runtime.frame import Frame
from mien.runtime.pictures.picture import (
    Picture,
    check_picture_suffix,
    encode_picture,
    left_out_note,
    read_picture,
    side_by_side,
)
from mien.runtime.pieces import Piece, PieceTask, past_s, plan_pieces
from mien.runtime.session import FaceFilter, FilterRun, RunCounts
from mien.runtime.target import Target, Timeline
from mien.runtime.video import Progress, VideoOptions, edit_video
from mien.runtime.video.patches import MismatchError
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


@dataclass(frozen=True, slots=True)
class Tools:
    """What every file of a job is edited with. crew: those who edit pieces of long clips."""

    opened: Future[FaceFilter]
    display: Display
    marking: Marking
    crew: Crew | None = None


def run_job(
    job: EditJob,
    make_filter: Callable[[], FaceFilter],
    display: Display,
    open_crew: Callable[[], AbstractContextManager[Crew | None]] = nullcontext,
) -> int:
    """The exit status after editing what `job` names: 0, 2 where it failed, 3 where some of it did.

    3 is that of a file that is cut, too. open_crew: gives those who edit long clips in pieces.

    Raises MienError where there is nothing to edit, or the one file fails.
    """
    steps = planned(job, display)
    if job.dry_run:
        return _each(job, steps, display, lambda file, output: _plan(file, output, display))
    if not steps:
        return 0
    marking = Marking.ready(is_on=job.is_marked)
    with opening_filter(make_filter) as opened, open_crew() as crew:
        if job.is_many:
            opened.result().own = job.own  # what the method cannot do is told once
        tools = Tools(opened, display, marking, crew)
        return _each(job, steps, display, lambda file, output: edit_one(job, file, output, tools))


def _plan(source: Path, output: Path, display: Display) -> int:
    display.plan(source, output)
    return 0


def _each(
    job: EditJob,
    steps: list[tuple[Path, Path]],
    display: Display,
    work: Callable[[Path, Path], int],
) -> int:
    """The status of `work` over all files; of several, one that fails stops no other."""
    tally = Tally(job, display)
    for file, output in steps:
        try:
            tally.check(file, output)
            tally.add(work(file, output))
        except MienError as error:  # noqa: PERF203 -- one file must not stop the others
            if not job.is_many:
                raise
            tally.fail(file, error)
    return tally.end()


@contextmanager
def opening_filter(make_filter: Callable[[], FaceFilter]) -> Iterator[Future[FaceFilter]]:
    """The filter, made in another thread while the caller looks at the input; closed at the end."""
    with ThreadPoolExecutor(1, thread_name_prefix="mien-open") as pool:
        opened = pool.submit(make_filter)
        try:
            yield opened
        finally:
            # under work that was left behind its networks must not be closed: that ends in abort()
            if not opened.cancel() and opened.exception() is None and not is_work_left():
                opened.result().close()


def edit_one(job: EditJob, source: Path, output: Path, tools: Tools) -> int:
    """The exit status of one file, which is edited and reported. Raises MienError."""
    edit = _edit_picture if is_still(source) else _edit_video
    if job.at_s is not None:
        edit = _preview
    try:
        check_source(source)
        result = edit(job, source, output, tools)
    except OSError as error:
        raise VideoError(f"cannot edit {source}: {error.strerror or error}") from error
    tools.display.finish(result)
    return EXIT_LOST if result.lost else 0


def _edit_video(job: EditJob, source: Path, output: Path, tools: Tools) -> Result:
    marks = tools.marking.of_file(job.edit_of(source), overwrite=job.overwrite)
    filter_ = tools.opened.result()
    filter_.watermark = marks.watermark
    run = FilterRun(filter_, job.goal, start_s=job.start_s, end_s=job.end_s, own=job.own)
    notes: tuple[str, ...] = ()
    if tools.crew is not None:
        pieces, notes = _pieces_of(job, source, tools.crew)
        if pieces:
            task = _task(job, source, marks)
            try:
                with PiecesRun(task, pieces, tools.crew, folder=output.parent) as parts:
                    return _write_video(job, (source, output), tools, marks, parts)
            except MismatchError as error:
                notes = (f"edited in one process, for its pieces do not fit together: {error}",)
    result = _write_video(job, (source, output), tools, marks, run)
    return replace(result, notes=(*result.notes, *notes))


def _pieces_of(job: EditJob, source: Path, crew: Crew) -> tuple[list[Piece], tuple[str, ...]]:
    """The pieces of a clip, empty where it is edited in one process; then a note may say why."""
    if not job.is_for_all:
        return [], ("edited in one process: which face is which is known from the beginning only",)
    past = past_s(job.goal, job.own)
    pieces = plan_pieces(source, crew.size, past, max_memory=job.max_memory)
    return (pieces if len(pieces) > 1 else []), ()


def _task(job: EditJob, source: Path, marks: FileMarks) -> PieceTask:
    return PieceTask(
        source,
        job.goal,
        start_s=job.start_s,
        end_s=job.end_s,
        own=job.own,
        number=None if marks.watermark is None else marks.watermark.payload.number,
        max_memory=job.max_memory,
    )


def _write_video(
    job: EditJob,
    paths: tuple[Path, Path],
    tools: Tools,
    marks: FileMarks,
    run: FilterRun | PiecesRun,
) -> Result:
    """Write the second of two paths from the first."""
    source, output = paths
    quality = DEFAULT_VIDEO_QUALITY if job.quality is None else job.quality
    options = VideoOptions(
        codec=job.codec,
        quality=quality,
        overwrite=job.overwrite,
        side_by_side=job.compare,
        max_memory=job.max_memory,
        copy_unedited=_may_be_copied(job, source, output),
        streamed=job.streamed,
        seal=lambda part: marks.sign(
            part, source, job.applied(marks.number(run.counts.frames_marked))
        ),
    )
    with tools.display.watch(source) as show:

        def tell(progress: Progress) -> None:
            show(run.progress(progress), run.counts.faces)

        report = edit_video(source, output, run, options, progress=tell, ended=run.ended)
    seen = run.counts
    unchanged = _why_unchanged(job, seen, changed=report.edited > 0)
    notes = unchanged + _unedited_parts(seen) + (() if report.is_copy else report.notes)
    frames = max(report.frames, 1)
    stages = [
        ("decode", 1000 * report.seconds.decode / frames),
        *((stage, ms / max(seen.frames, 1)) for stage, ms in seen.stage_ms.items()),
        ("encode", 1000 * report.seconds.encode / frames),
    ]
    return Result(
        source,
        output,
        frames=report.frames,
        faces=seen.faces,
        wall_s=report.wall_s,
        stages=tuple(stages),
        notes=notes + marks.notes,
        lost=report.lost,
        watermark=marks.number(seen.frames_marked),
        signed=marks.is_signed,
    )


def _why_unchanged(job: EditJob, run: RunCounts, *, changed: bool) -> tuple[str, ...]:
    """The note on a file in which nothing was edited, though it was asked for; else empty."""
    if changed or not _is_change(job):
        return ()
    if not run.frames:
        return (NO_FRAME,)
    if not run.frames_with_face:
        return (NO_FACE,)
    return (NOT_EDITED,) if isinstance(job.goal, Target) or job.own != 1 else ()


def _unedited_parts(run: RunCounts) -> tuple[str, ...]:
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


def _preview(job: EditJob, source: Path, output: Path, tools: Tools) -> Result:
    """One picture of a video, edited as the video would be."""
    assert job.at_s is not None
    if is_still(source):
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
    marks = tools.marking.of_file(None, overwrite=job.overwrite)
    changed = edited is not frames[-1]
    with PartialFile(output, overwrite=job.overwrite) as part:
        part.write(encoded)
        _publish_signed(job, part, source, marks if changed else None)
    done = time.perf_counter()
    unchanged = _why_unchanged(job, run.counts, changed=changed)
    return Result(
        source,
        output,
        frames=1,
        faces=run.counts.faces,
        wall_s=done - started,
        stages=(
            ("decode", 1000 * (decoded - started)),
            *run.counts.stage_ms.items(),
            ("encode", 1000 * (done - filtered)),
        ),
        notes=(*unchanged, *_unedited_parts(run.counts), *moment.notes, *marks.notes),
        still=True,
        signed=marks.is_signed,
    )


def _run_of_still(job: EditJob, tools: Tools) -> FilterRun:
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


def _edit_picture(job: EditJob, source: Path, output: Path, tools: Tools) -> Result:
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
    notes = _why_unchanged(job, run.counts, changed=changed) + _unedited_parts(run.counts)
    encoded = None
    marks = tools.marking.of_file(None, overwrite=job.overwrite)
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
        faces=run.counts.faces,
        wall_s=done - started,
        stages=(
            ("decode", 1000 * (decoded - started)),
            *run.counts.stage_ms.items(),
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
