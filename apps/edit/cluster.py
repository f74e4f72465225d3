"""The pieces of a clip on a Ray cluster: `mien edit CLIP --ray ADDRESS`.

What a piece needs travels through Ray's object store: the clip in chunks, and the models of the
method. So a machine needs mien and Ray, and neither a shared disk nor models of its own. Ray runs a
piece again on another machine where the one that had it is lost, and gives pieces to machines that
join; what is edited is written here alone, once.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mien.apps.edit.crew import Told, edited_piece
from mien.engines import DETECTOR, LANDMARKS, Catalog, ModelEntry
from mien.engines.catalog import write_catalog
from mien.engines.errors import MienError, UsageError, VideoError, message_of
from mien.engines.system.install import extras_line
from mien.runtime.methods import method_spec
from mien.runtime.pieces import Piece, PieceTask
from mien.runtime.session import FilterMaker
from mien.runtime.spec import FilterSpec

LOCAL, AUTO = "local", "auto"  # one of this machine alone; the one that this machine is part of
ANSWER_S: Final = 5.0
CHUNK_BYTES: Final = 32 << 20  # of a clip, an object in Ray's store each
RETRIES: Final = 2  # of Ray's own, where the machine or the process with a piece is lost
COUNT_S: Final = 1.0  # between two looks at how large the cluster is
ON_GPUS: Final = ("cuda", "tensorrt")
_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": "ERROR"}
MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"  # where Ray looks for them
_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Shipment:
    """What all pieces of a clip need on another machine.

    name: of the clip. chunks: references to its bytes. models: entries of the catalog, with
    references to their files. wanted, make_filter: what opens the filter. version: of mien.
    """

    name: str
    chunks: tuple[Any, ...]
    models: tuple[tuple[ModelEntry, Any], ...]
    wanted: FilterSpec
    make_filter: FilterMaker
    version: str


def _imported() -> Any:
    try:
        import ray  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise UsageError(f"--ray needs Ray: {extras_line('cluster')}") from error
    return ray


@contextmanager
def ray_crew(address: str, wanted: FilterSpec, make_filter: FilterMaker) -> Iterator[RayCrew]:
    """The machines of a cluster, or with `local` those of one that is started here and ended.

    Raises UsageError without Ray, and where no cluster answers.
    """
    with ExitStack() as opened:
        if address == LOCAL and "ray" not in sys.modules:  # which looks once, when it is imported
            opened.enter_context(_own_token())
        ray = _imported()
        _check_address(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports to its makers
        if not ray.is_initialized():
            settings = dict(_QUIET, address=address)
            if address == LOCAL:
                folder = tempfile.TemporaryDirectory(prefix="mien-", ignore_cleanup_errors=True)
                logs = opened.enter_context(folder)  # Ray's own would stay in /tmp/ray
                settings |= {"_temp_dir": logs, "include_dashboard": False}
            _join(ray, settings)
            opened.callback(ray.shutdown)
        crew = RayCrew(ray, wanted, make_filter)
        opened.callback(crew.drop)
        yield crew


@contextmanager
def _own_token() -> Iterator[None]:
    """A token for the cluster that is started here, which ends with it.

    Without one Ray keeps one in the user's home for good, and from then on the clusters that
    `ray start --head` makes ask for it.
    """
    given = {"RAY_AUTH_TOKEN_PATH", MODE, TOKEN} & os.environ.keys()
    own = {} if given else {MODE: "token", TOKEN: secrets.token_hex(_TOKEN_BYTES)}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def _join(ray: Any, settings: dict[str, Any]) -> None:
    """Take part in a cluster, or start one, without a word of Ray's own. Raises UsageError."""
    # It prints to standard output what becomes of other machines, and has no setting for that.
    ray._private.worker.listen_error_messages = lambda *_: None
    ends = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(**settings)
    except Exception as error:  # its kinds differ between versions
        raise _refused(settings["address"], error) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)  # Ray's own loses the exit status


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error: Ray's library writes there itself each time it tries."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _refused(address: str, error: Exception) -> UsageError:
    """Why Ray does not take part in a cluster, from an error and those that led to it."""
    led: list[BaseException] = [error]
    while (cause := led[-1].__cause__ or led[-1].__context__) and cause not in led:
        led.append(cause)
    if any("AuthToken" in str(one) or "authentication" in str(one) for one in led):
        return UsageError(
            f"the Ray cluster at {address[:60]} asks for its token: set {MODE}=token, and {TOKEN} "
            "to what `ray get-auth-token` prints where it was started"
        )
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return UsageError(f"Ray does not start, or take part, at {address[:60]}: {said}")


def _check_address(address: str) -> None:
    """Raise UsageError for what is no address, and where nothing answers: Ray tries for minutes."""
    if address in (LOCAL, AUTO):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--ray takes {LOCAL}, {AUTO} or HOST:PORT, not {address[:60]!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address[:60]} ({message_of(error)}); `ray start --head` "
            "prints the address of one, and local starts one here"
        ) from error


class RayCrew:
    """The machines of a Ray cluster. wanted, make_filter: what opens the filter."""

    def __init__(self, ray: Any, wanted: FilterSpec, make_filter: FilterMaker) -> None:
        self._ray, self._wanted, self._make_filter = ray, wanted, make_filter
        gpus = 1 if wanted.provider in ON_GPUS else 0
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(edit_remotely)
        self._shipment: tuple[Path, Any] | None = None
        self._models: tuple[tuple[ModelEntry, Any], ...] = ()
        self._at: dict[Any, int] = {}
        self._size, self._counted_s = 1, 0.0

    @property
    def size(self) -> int:
        """How many pieces it edits at a time: one for each processor core, or GPU."""
        if time.monotonic() - self._counted_s > COUNT_S:
            unit = "GPU" if self._wanted.provider in ON_GPUS else "CPU"
            self._size = max(1, int(self._ray.cluster_resources().get(unit, 1)))
            self._counted_s = time.monotonic()
        return self._size

    @property
    def busy(self) -> int:
        """How many pieces are handed out, and not ended."""
        return len(self._at)

    def hand_out(self, task: PieceTask, piece: Piece) -> None:
        """Begin a piece, where there is room. Raises MienError."""
        if self._shipment is None or self._shipment[0] != task.source:
            self._shipment = task.source, self._shipped(task.source)
        self._at[self._remote.remote(task, piece, self._shipment[1])] = piece.number

    def told(self, wait_s: float) -> list[Told]:
        """The news, after a wait of at most so long for some."""
        if not self._at:
            return []
        waiting = list(self._at)
        ready, _ = self._ray.wait(waiting, timeout=wait_s)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._news(reference, self._at.pop(reference)) for reference in ready]

    def _news(self, reference: Any, number: int) -> Told:
        failures = self._ray.exceptions
        try:
            told: Told = self._ray.get(reference)
        except failures.RayTaskError as error:  # before it came to mien: another Python, no mien
            why = " ".join(str(error.cause).split())[:200]
            return Told(number, error=VideoError(f"a machine of the cluster cannot edit: {why}"))
        except failures.RayError as error:
            return Told(number, died=f"was lost ({type(error).__name__})")
        return told

    def drop(self) -> None:
        """Leave all pieces that are handed out."""
        for reference in self._at:
            with suppress(Exception):  # a cluster that is gone
                self._ray.cancel(reference, force=True)
        self._at.clear()
        self._shipment = None

    def _shipped(self, clip: Path) -> Any:
        """A reference to what the pieces of a clip need."""
        if not self._models:
            self._models = tuple(
                (entry, self._ray.put(entry.path.read_bytes())) for entry in needed(self._wanted)
            )
        chunks = []
        try:
            with clip.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    chunks.append(self._ray.put(chunk))
        except OSError as error:
            raise VideoError(f"{clip} cannot be read: {error.strerror}") from error
        shipment = Shipment(
            clip.name,
            tuple(chunks),
            self._models,
            self._wanted,
            self._make_filter,
            version("mien"),
        )
        return self._ray.put(shipment)


def needed(wanted: FilterSpec) -> list[ModelEntry]:
    """The models that a filter opens. Raises MienError."""
    catalog = Catalog.bundled() if wanted.models is None else Catalog.load(wanted.models)
    names = method_spec(wanted.method).networks_for(wanted.told)
    return [catalog.entry(name) for name in dict.fromkeys((DETECTOR.name, LANDMARKS.name, *names))]


def edit_remotely(task: PieceTask, piece: Piece, shipment: Shipment) -> Told:
    """Edit a piece on a machine of the cluster: all of its edits, with what was counted."""
    own = version("mien")
    if own != shipment.version:
        why = f"a machine of the cluster has mien {own}, and this one {shipment.version}"
        return Told(piece.number, error=VideoError(f"{why}; install the same on all of them"))
    with tempfile.TemporaryDirectory(prefix="mien-") as name:
        folder = Path(name)
        try:
            clip, spec = _unpacked(folder, shipment)
            face_filter = shipment.make_filter(spec)
        except MienError as error:
            return Told(piece.number, error=VideoError(str(error)))
        packed = bytearray()
        frames = 0

        def keep(told: Told) -> None:
            nonlocal frames
            frames = told.frames
            packed.extend(told.data)

        try:
            told = edited_piece(replace(task, source=clip), piece, face_filter, keep)
        finally:
            face_filter.close()
        if told.error is not None:
            said = str(told.error).replace(str(clip), str(task.source))
            return replace(told, error=type(told.error)(said))
        return replace(told, frames=frames, data=bytes(packed))


def _unpacked(folder: Path, shipment: Shipment) -> tuple[Path, FilterSpec]:
    """The clip in a folder, and the filter's spec with the models there. Raises MienError."""
    import ray  # noqa: PLC0415 -- an extra

    models = folder / "models"
    try:
        models.mkdir()
        for entry, reference in shipment.models:
            (models / entry.file).write_bytes(ray.get(reference))
        clip = folder / shipment.name
        with clip.open("wb") as file:
            for chunk in shipment.chunks:
                file.write(ray.get(chunk))
    except OSError as error:
        raise VideoError(
            f"a machine of the cluster cannot keep the clip in {folder.parent}: {error.strerror}"
        ) from error
    write_catalog(models, tuple(replace(entry, folder=models) for entry, _ in shipment.models))
    return clip, replace(shipment.wanted, models=models)
