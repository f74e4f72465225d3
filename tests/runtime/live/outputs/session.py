"""A PipeWire session of a test's own: runtime folder, message bus, PipeWire and WirePlumber."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mien.runtime.live.outputs.pipewire_stream import load_library
from tests.runtime.live.virtual import until

PATIENCE_S = 20.0  # before a reader is taken for one that gets nothing
PROGRAMS = ("pipewire", "wireplumber", "dbus-daemon", "gst-launch-1.0", "gst-inspect-1.0")


def require_pipewire() -> None:
    """Skip where the programs are missing."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    load_library()
    # the plugin has PipeWire's version, and GStreamer's own is the least by default
    asked = ["gst-inspect-1.0", "--exists", "--atleast-version=0.3", "pipewiresrc"]
    found = subprocess.run(asked, check=False)
    if found.returncode:
        pytest.skip("GStreamer's plugin of PipeWire is not installed")


class Session:
    """What runs, and its environment.

    environment: for the programs of the session. pipewire: its process.
    """

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self._closing = closing
        bus = folder / "bus"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PIPEWIRE_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}",
        }
        self._socket = folder / "pipewire-0"
        self.run("dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}")
        assert until(bus.exists), "the message bus did not start"
        self.start()

    def start(self) -> None:
        """Start PipeWire and WirePlumber."""
        self.pipewire = self.run("pipewire")
        assert until(self._socket.exists), "PipeWire did not start"
        self.manager = self.run("wireplumber")

    def end(self) -> None:
        """End both, as a crash would."""
        for process in (self.manager, self.pipewire):
            process.kill()
            process.wait()
        self._socket.unlink()

    def run(self, *command: str, **settings: object) -> subprocess.Popen[bytes]:
        """A program of the session, ended with it."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=self.environment, **(quiet | settings))  # type: ignore[call-overload]
        self._closing.callback(_end, process)
        return process

    def reader(self, name: str) -> Reader:
        """A program that shows that camera: GStreamer's, which shares no code with mien."""
        source = ("pipewiresrc", f"target-object={name}", "!", "video/x-raw", "!", "fdsink")
        return Reader(self.run("gst-launch-1.0", "-f", "-q", *source, stdout=subprocess.PIPE))

    def formats(self, name: str) -> str:
        """What a reader is told of the camera's pictures, as GStreamer writes it."""
        source = ("pipewiresrc", f"target-object={name}", "num-buffers=2")
        command = ("gst-launch-1.0", "-f", "-v", *source, "!", "video/x-raw", "!", "fakesink")
        return self.run(*command, stdout=subprocess.PIPE).communicate(timeout=30)[0].decode()


class Reader:
    """Reads raw frames."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def frame(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end, or where nothing comes."""
        assert self._process.stdout is not None
        data, number = b"", self._process.stdout.fileno()
        while len(data) < size and select.select([number], [], [], PATIENCE_S)[0]:
            part = os.read(number, size - len(data))
            if not part:
                break
            data += part
        return data

    def hold(self) -> None:
        """Stop reading, as a program does that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Read again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the program."""
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@contextmanager
def private_session() -> Iterator[Session]:
    """A session, ended afterwards. Its folder has a short name: a socket's may have 107 bytes."""
    require_pipewire()
    with ExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="mien-pw-"))
        yield Session(Path(folder), closing)
