"""Those who edit the pieces of a clip, and the processes of this machine that do.

A crew hands out and tells; which piece is next, and what becomes of one whose worker died, is said
by who oversees it (`mien.apps.edit.pieces`).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol

from mien.engines.errors import MienError, VideoError, message_of
from mien.runtime.pieces import Piece, PieceTask, edit_piece
from mien.runtime.session import FaceFilter, RunCounts
from mien.runtime.video.patches import MismatchError

PATIENCE_S: Final = 5.0  # with a process that is asked to end


@dataclass(frozen=True, slots=True)
class Told:
    """News of a piece.

    frames, data: done so far, and the next bytes of its edits. counts: with the last of them.
    error: why it cannot be edited. died: how the one that edited it ended.
    """

    piece: int
    frames: int = 0
    data: bytes = b""
    counts: RunCounts | None = None
    error: MienError | None = None
    died: str | None = None


class Crew(Protocol):
    """Those who edit pieces side by side."""

    @property
    def size(self) -> int:
        """How many pieces it edits at a time."""

    @property
    def busy(self) -> int:
        """How many pieces are handed out, and not ended."""

    def hand_out(self, task: PieceTask, piece: Piece) -> None:
        """Begin a piece."""

    def told(self, wait_s: float) -> list[Told]:
        """The news, after a wait of at most so long for some. Raises MienError."""

    def drop(self) -> None:
        """Leave all pieces that are handed out."""


class Worker:
    """A process of this machine that is given things to do through a pipe, and tells of them.

    work: called in it with the other end of the pipe and `arguments`, all of which are pickled.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_alone, args=(work, other, *arguments), name="mien-edit", daemon=True
        )
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def fate(self) -> str:
        """How it ended, of one whose pipe has."""
        self.process.join(PATIENCE_S)
        code = self.process.exitcode
        return f"was ended by signal {-code}" if code and code < 0 else f"ended with {code}"

    def end(self, *, at_once: bool) -> None:
        """Ask it to end, and see that it does. at_once: not only when it has nothing to do."""
        if at_once:
            self.process.terminate()
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _alone(work: Callable[..., None], connection: Connection, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the one who oversees
    work(connection, *arguments)


class LocalCrew:
    """Processes of this machine, each with the networks open. One that died is replaced."""

    def __init__(self, count: int, make_filter: Callable[[], FaceFilter]) -> None:
        self._count, self._make_filter = count, make_filter
        self._idle: list[Worker] = []
        self._at: dict[int, Worker] = {}

    @property
    def size(self) -> int:
        """How many pieces it edits at a time."""
        return self._count

    @property
    def busy(self) -> int:
        """How many pieces are handed out, and not ended."""
        return len(self._at)

    def hand_out(self, task: PieceTask, piece: Piece) -> None:
        """Begin a piece, in a process that is idle or a new one."""
        worker = self._idle.pop() if self._idle else Worker(_edit_pieces, self._make_filter)
        self._at[piece.number] = worker
        with suppress(OSError):  # one that has just died: its pipe tells that it has
            worker.connection.send((task, piece))

    def told(self, wait_s: float) -> list[Told]:
        """The news, after a wait of at most so long for some."""
        by_pipe = {worker.connection: number for number, worker in self._at.items()}
        found = wait(list(by_pipe), wait_s) if by_pipe else []
        return [self._news(number) for pipe, number in by_pipe.items() if pipe in found]

    def _news(self, number: int) -> Told:
        worker = self._at[number]
        try:
            told: Told = worker.connection.recv()
        except (EOFError, OSError):
            del self._at[number]
            told = Told(number, died=worker.fate())
            worker.connection.close()
            return told
        if told.counts is not None or told.error is not None:
            self._idle.append(self._at.pop(number))
        return told

    def drop(self) -> None:
        """End the processes that have something to do."""
        for worker in self._at.values():
            worker.end(at_once=True)
        self._at.clear()

    def end(self) -> None:
        """End all processes."""
        self.drop()
        for worker in self._idle:
            worker.end(at_once=False)
        self._idle.clear()


@contextmanager
def local_crew(count: int, make_filter: Callable[[], FaceFilter]) -> Iterator[LocalCrew]:
    """So many processes of this machine, which end with the context."""
    crew = LocalCrew(count, make_filter)
    try:
        yield crew
    finally:
        crew.end()


def _edit_pieces(connection: Connection, make_filter: Callable[[], FaceFilter]) -> None:
    """Edit the pieces that come through the pipe, and tell of them."""
    face_filter: FaceFilter | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        for task, piece in iter(connection.recv, None):
            try:
                face_filter = face_filter or make_filter()
                told = edited_piece(task, piece, face_filter, connection.send)
            except MienError as error:  # of the networks, which do not open
                told = Told(piece.number, error=VideoError(str(error)))
            connection.send(told)
    if face_filter is not None:
        face_filter.close()


def edited_piece(
    task: PieceTask, piece: Piece, face_filter: FaceFilter, send: Callable[[Told], None]
) -> Told:
    """Edit a piece, and return its last news; those before go to `send`."""
    number = piece.number
    try:
        counts = edit_piece(
            task, piece, face_filter, lambda done, data: send(Told(number, done, data))
        )
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody oversees it any more
        raise
    except MismatchError as error:
        return Told(number, error=error)
    except MienError as error:
        return Told(number, error=VideoError(str(error)))  # others may not be made from a text
    except Exception as error:  # noqa: BLE001 -- whatever it is, who oversees it tells
        return Told(number, error=VideoError(f"cannot edit {task.source}: {message_of(error)}"))
    return Told(number, counts=counts)
