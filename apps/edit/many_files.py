"""Many files edited side by side, each in a process of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

from mien.apps.edit.crew import Worker
from mien.apps.edit.job import Tools, edit_one, opening_filter
from mien.apps.edit.plan import Display, EditJob, Result, Tally, planned
from mien.apps.marks.marking import Marking
from mien.engines.errors import MienError, VideoError, message_of
from mien.engines.system.partial_file import remove_leftovers
from mien.runtime.session import FaceFilter
from mien.runtime.video import Progress

_LOOK_S: Final = 0.25  # how often the display is renewed where nothing is told

Step = tuple[Path, Path]
FilterMaker = Callable[[], FaceFilter]


def run_side_by_side(job: EditJob, make_filter: FilterMaker, display: Display) -> int:
    """The exit status of `run_job`, with `job.jobs` files at a time, each in a process.

    make_filter: pickled; each process opens the networks once. A process that dies fails the file
    that it was at; another one goes on with the rest.
    Raises MienError where there is nothing to edit.
    """
    steps = planned(job, display)
    Marking.ready(is_on=job.is_marked)  # a certificate that cannot sign is told once
    tally, waiting = Tally(job, display), deque[Step]()
    for file, output in steps:
        try:
            tally.check(file, output)
        except MienError as error:  # noqa: PERF203 -- one file must not stop the others
            tally.fail(file, error)
        else:
            waiting.append((file, output))
    crew = _Crew(job, make_filter, min(job.jobs, len(waiting)))
    try:
        with display.watch_all(len(steps)) as show:
            _oversee(crew, waiting, tally, display, show)
    finally:
        crew.end()
        for folder in {output.parent for _, output in steps}:
            remove_leftovers(folder)
    return tally.end()


def _oversee(
    crew: _Crew,
    waiting: deque[Step],
    tally: Tally,
    display: Display,
    show: Callable[[int, int, float], None],
) -> None:
    """Hand out the files, and tell what becomes of them, until all are done."""
    began_s, done, frames = time.monotonic(), len(tally.failed), 0
    crew.hand_out(waiting)
    while crew.busy:
        for worker in crew.ready():
            told = worker.told()
            if isinstance(told, Progress):
                worker.frames = told.frames_done
            elif isinstance(told, Result):
                display.finish(told)
                worker.frames = told.frames
            else:
                done, frames = done + 1, frames + worker.frames
                _note_end(tally, worker, told)
                crew.hand_out(waiting)
        seen = frames + sum(worker.frames for worker in crew.busy)
        show(done, seen, seen / max(1e-3, time.monotonic() - began_s))


def _note_end(tally: Tally, worker: _Worker, told: MienError | int) -> None:
    """Count a worker's file, which has ended with an error or a status."""
    assert worker.step is not None
    source, _ = worker.step
    worker.step, worker.frames = None, 0
    if isinstance(told, MienError):
        tally.fail(source, told)
    else:
        tally.add(told)


class _Worker(Worker):
    """A process that edits one file after another.

    step: the one that it is at. frames: how many of it are written.
    """

    def __init__(self, job: EditJob, make_filter: FilterMaker) -> None:
        super().__init__(_work, job, make_filter)
        self.step: Step | None = None
        self.frames = 0

    def told(self) -> Progress | Result | MienError | int:
        """What it says of its file; the status or the error comes last."""
        try:
            told: Progress | Result | MienError | int = self.connection.recv()
        except (EOFError, OSError):
            assert self.step is not None
            fate = self.fate()
            return VideoError(f"{self.step[0]} failed: the process that edited it {fate}")
        return told


class _Crew:
    """The processes of a job; one that died is replaced where there is more to do."""

    def __init__(self, job: EditJob, make_filter: FilterMaker, count: int) -> None:
        self._job, self._make_filter, self._count = job, make_filter, count
        self._workers: list[_Worker] = []

    @property
    def busy(self) -> list[_Worker]:
        """Those that are at a file."""
        return [worker for worker in self._workers if worker.step is not None]

    def hand_out(self, waiting: deque[Step]) -> None:
        """Give a file to everyone who has none."""
        self._workers = [one for one in self._workers if one.step or one.process.is_alive()]
        while waiting:
            idle = next((worker for worker in self._workers if worker.step is None), None)
            if idle is None:
                if len(self._workers) >= self._count:
                    return
                idle = _Worker(self._job, self._make_filter)
                self._workers.append(idle)
            idle.step = waiting.popleft()
            with suppress(OSError):  # a process that has just died: its pipe tells that it has
                idle.connection.send(idle.step)

    def ready(self) -> list[_Worker]:
        """Those that have something to tell, after a short wait."""
        found = wait([worker.connection for worker in self.busy], _LOOK_S)
        return [worker for worker in self.busy if worker.connection in found]

    def end(self) -> None:
        """Let the idle ones end by themselves, and end the others."""
        for worker in self._workers:
            worker.end(at_once=worker.step is not None)


def _work(connection: Connection, job: EditJob, make_filter: FilterMaker) -> None:
    """Edit the files that come through the pipe, in a process of its own, and tell of them."""
    with suppress(EOFError, BrokenPipeError), opening_filter(make_filter) as opened:
        tools = Tools(opened, _Reporter(connection), Marking.ready(is_on=job.is_marked))
        for source, output in iter(connection.recv, None):
            connection.send(_status(job, source, output, tools))


def _status(job: EditJob, source: Path, output: Path, tools: Tools) -> MienError | int:
    """The status of one file, or what is wrong with it."""
    try:
        tools.opened.result().own = job.own  # what the method cannot do fails each file
        return edit_one(job, source, output, tools)
    except (BrokenPipeError, EOFError):  # nobody oversees it any more
        raise
    except MienError as error:
        return VideoError(str(error))  # its own kind may not be made from a text alone
    except Exception as error:  # noqa: BLE001 -- whatever it is, the others go on
        return VideoError(f"cannot edit {source}: {message_of(error)}")


class _Reporter:
    """A display that passes the progress and the result of a file on through a pipe.

    Errors end a file, and are passed on as that; the rest is told by who oversees.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def watch(self, source: Path, /) -> Iterator[Callable[[Progress, int], None]]:
        """What passes the progress of one file on."""
        del source
        yield lambda progress, _faces: self._connection.send(progress)

    def finish(self, result: Result) -> None:
        """Pass the result on."""
        self._connection.send(result)

    def fail(self, error: MienError) -> None:
        """Do nothing."""

    def skip(self, files: Sequence[Path]) -> None:
        """Do nothing."""

    def plan(self, source: Path, output: Path) -> None:
        """Do nothing."""

    def resume(self, outputs: Sequence[Path]) -> None:
        """Do nothing."""

    def summarize(self, failed: Sequence[Path], count: int) -> None:
        """Do nothing."""

    @contextmanager
    def watch_all(self, count: int) -> Iterator[Callable[[int, int, float], None]]:
        """Do nothing."""
        del count
        yield lambda _files, _frames, _fps: None
