"""A running `mien camera` steered from elsewhere: what `mien set` says to it.

The camera listens at a port of this machine alone, and answers nobody without the token. Both stand
in a file that only its user can read, which is there as long as the camera runs. A client sends one
line of JSON, `{"token": ..., "set": {...}}`, and gets one: `{"state": {...}}` or `{"error": ...}`.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mien.engines.errors import DeviceError, MienError, UsageError, one_line
from mien.engines.system.folders import CacheFolder, user_cache
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.spec import OptionValue
from mien.runtime.target import (
    MAX_STRENGTH,
    finite_number,
    goal_text,
    parse_goal,
    prompted_target,
    shortened,
)

ADDRESS: Final = "127.0.0.1"
SUFFIX: Final = ".camera"
WAIT_S: Final = 2.0  # for the other side to say its line
MAX_LINE: Final = 4096  # bytes; the longest that makes sense has a few hundred
AT_ONCE: Final = 8  # clients
_BACKLOG: Final = 16
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Running:
    """A camera that runs, as its file describes it.

    source: as it was asked for. names: what else it is called. port: where it listens. panel: the
    port of its panel, None without one. host: the machine it runs on.
    """

    source: str
    names: tuple[str, ...]
    port: int
    panel: int | None
    token: str
    host: str

    @property
    def text(self) -> str:
        """Its name for people: what `--camera` takes."""
        where = "no panel" if self.panel is None else f"panel {self.panel}"
        return f"{self.source} ({where}, port {self.port})"

    def is_called(self, name: str) -> bool:
        """Whether a name or port means this one."""
        ports = (str(self.port), str(self.panel))
        known = (self.source, Path(self.source).name, *self.names)
        return name in ports or name.lower() in (other.lower() for other in known)


@dataclass(frozen=True, slots=True)
class Wanted:
    """New settings; None leaves one as it is.

    goal: an expression, a mix or `none`. prompt: one in words, in its place. options: of the
    method, by name; those that are not named stay as they are, but another method takes its own
    choices.
    """

    goal: str | None = None
    intensity: float | None = None
    face: str | None = None
    method: str | None = None
    options: dict[str, OptionValue] | dict[str, str] | None = None
    paused: bool | None = None
    mark: bool | None = None
    own: float | None = None
    prompt: str | None = None


def runtime_folder() -> Path:
    """Where the files of running cameras lie: this user's alone. Raises EngineError."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if sys.platform != "win32" and Path(base).is_absolute() and Path(base).is_dir():
        return Path(base) / "mien"
    return user_cache() / "run"


class ControlServer:
    """Lets `mien set` change the controls of a camera, while it is entered.

    source, names, panel: as of `Running`. folder: None for the user's own.

    Raises MienError where nothing can be listened at, or the file not be written.
    """

    def __init__(
        self,
        controls: Controls,
        source: str,
        *,
        names: tuple[str, ...] = (),
        panel: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self._controls = controls
        self._intensity = _strength_of(controls.snapshot(), 1.0)
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(AT_ONCE)
        path = folder or runtime_folder()
        self._made = [known for known in (path, *path.parents) if not known.exists()]
        self._folder = CacheFolder(path)
        try:
            self._socket = socket.create_server((ADDRESS, 0), backlog=_BACKLOG)
        except OSError as error:
            raise DeviceError(f"cannot listen at {ADDRESS}: {error.strerror}") from error
        self._socket.settimeout(_LOOK_S)
        port = self._socket.getsockname()[1]
        self.running = Running(
            source, names, port, panel, secrets.token_urlsafe(24), socket.gethostname()
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="mien-set", daemon=True)

    def __enter__(self) -> ControlServer:
        try:
            self._folder.write(self._name, json.dumps(asdict(self.running)).encode())
        except MienError:
            self._socket.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.remove(self._name)
        with contextlib.suppress(OSError):  # where another camera's file is in it
            for made in self._made:
                made.rmdir()
        self._ended.set()
        self._thread.join(WAIT_S)
        self._socket.close()

    @property
    def _name(self) -> str:
        return f"{self.running.port}{SUFFIX}"

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # of the client that is gone already, or of the socket that is closed
                if self._socket.fileno() < 0:
                    return
                continue
            if not self._places.acquire(timeout=WAIT_S):
                client.close()
                continue
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError), client:
                client.settimeout(WAIT_S)
                client.sendall(json.dumps(self._answer(_line(client))).encode() + b"\n")
        finally:
            self._places.release()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
            token, wanted = said["token"], said["set"]
            if not hmac.compare_digest(str(token).encode(), self.running.token.encode()):
                return {"error": "the token is another one"}
            return {"state": self._do(Wanted(**wanted))}
        except MienError as error:
            return {"error": str(error)}
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"error": "this is no message that the camera knows"}

    def _do(self, wanted: Wanted) -> dict[str, Any]:
        with self._lock:
            now = self._controls.snapshot()
            self._intensity = _strength_of(now, self._intensity)
            changes, intensity = _changes(wanted, now, self._intensity)
            state = self._controls.update(**changes) if changes else now
            self._intensity = intensity
        return {
            "camera": self.running.source,
            "target": goal_text(state.target),
            "prompt": state.prompt,
            "intensity": intensity,
            "face": state.face,
            "method": state.method,
            "options": dict(state.options),
            "paused": state.paused,
            "mark": state.mark,
            "own": state.own,
        }


def running_cameras(folder: Path | None = None) -> list[Running]:
    """The cameras of this user that run on this machine. Files of those that were killed go."""
    path = folder or runtime_folder()
    if not path.is_dir():
        return []
    kept, found = CacheFolder(path), []
    for name in kept.names(SUFFIX):
        running = _read(kept.read(name))
        if running is None or running.host != socket.gethostname():
            continue
        try:
            socket.create_connection((ADDRESS, running.port), WAIT_S).close()
        except ConnectionRefusedError:
            kept.remove(name)
            continue
        except OSError:
            continue
        found.append(running)
    return found


def chosen_camera(name: str | None, folder: Path | None = None) -> Running:
    """The camera of a name or port, or the only one. Raises DeviceError, UsageError."""
    found = running_cameras(folder)
    if not found:
        raise DeviceError("no camera runs; start one with mien camera, then set its expression")
    texts = ", ".join(one_line(camera.text) for camera in found)
    named = found if name is None else [camera for camera in found if camera.is_called(name)]
    if not named:
        raise UsageError(f"no camera {shortened(name)} runs (running: {texts})")
    if len(named) > 1:
        raise UsageError(f"several cameras run: {texts}; choose one with --camera NAME or PORT")
    return named[0]


def send(camera: Running, wanted: Wanted) -> dict[str, Any]:
    """How the camera is set after that. Raises UsageError, DeviceError."""
    asked = {name: value for name, value in asdict(wanted).items() if value is not None}
    line = json.dumps({"token": camera.token, "set": asked}).encode() + b"\n"
    try:
        with socket.create_connection((ADDRESS, camera.port), WAIT_S) as line_to:
            line_to.settimeout(2 * WAIT_S)
            line_to.sendall(line)
            answer = json.loads(_line(line_to))
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"the camera {camera.text} does not answer; end it and start it"
        ) from error
    if not isinstance(answer, dict) or not isinstance(answer.get("state"), dict):
        told = answer.get("error", "it said something else") if isinstance(answer, dict) else answer
        raise UsageError(one_line(str(told)))
    state: dict[str, Any] = answer["state"]
    return state


def _changes(
    wanted: Wanted, now: ControlState, intensity: float
) -> tuple[dict[str, object], float]:
    """What is to change of the controls, and the intensity from now on. Raises UsageError."""
    changes: dict[str, object] = {
        name: value
        for name in ("face", "method", "options", "paused", "mark", "own")
        if (value := getattr(wanted, name)) is not None
    }
    if wanted.options is not None and wanted.method in (None, now.method):
        changes["options"] = {**dict(now.options), **wanted.options}
    if wanted.intensity is not None:
        given = finite_number(wanted.intensity)
        if given is None or not 0 <= given <= MAX_STRENGTH:
            told = shortened(wanted.intensity)
            raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {told}")
        intensity = given
    if wanted.prompt is not None:
        changes["target"] = prompted_target(wanted.prompt, intensity)
    elif wanted.goal is not None:
        changes["target"] = parse_goal(wanted.goal, intensity)
    elif wanted.intensity is not None and now.target is not None:
        changes["target"] = replace(now.target, strength=intensity)
    return changes, intensity


def _strength_of(state: ControlState, otherwise: float) -> float:
    return otherwise if state.target is None else state.target.strength


def _line(connection: socket.socket) -> bytes:
    """What the other side says up to the end of its line, at most MAX_LINE bytes of it."""
    said = b""
    while b"\n" not in said and len(said) < MAX_LINE and (more := connection.recv(MAX_LINE)):
        said += more
    return said.partition(b"\n")[0]


def _read(data: bytes | None) -> Running | None:
    try:
        stated: Mapping[str, Any] = json.loads(data or b"")
        told = {field.name: stated[field.name] for field in fields(Running)}
        told["names"] = tuple(map(str, told["names"]))
        return Running(**told) if 0 < int(told["port"]) < 65_536 else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
