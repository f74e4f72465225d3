"""A virtual camera that records what it is sent, and made-up files of a system with loopbacks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


class Recorder:
    """What a backend of pyvirtualcam was asked for and sent.

    device: what it calls itself. error: what it raises when it is opened, None where it works.
    failures: how many of the next frames it refuses.
    """

    def __init__(self, device: str = "recorder", error: str | None = None) -> None:
        self.device = device
        self.error = error
        self.failures = 0
        self.opened: list[dict[str, object]] = []
        self.closed = 0
        self.sent: list[np.ndarray] = []

    def register(self, name: str) -> None:
        """Register this recorder as a backend of pyvirtualcam."""
        import pyvirtualcam

        pyvirtualcam.register_backend(name, self.backend())

    def backend(self) -> type:
        recorder = self

        class Backend:
            def __init__(self, **settings: object) -> None:
                recorder.opened.append(settings)
                if recorder.error is not None:
                    raise RuntimeError(recorder.error)

            def close(self) -> None:
                recorder.closed += 1

            def send(self, frame: np.ndarray) -> None:
                if recorder.failures:
                    recorder.failures -= 1
                    raise RuntimeError("the camera was taken away")
                recorder.sent.append(frame.copy())

            def device(self) -> str:
                return recorder.device

            def native_fourcc(self) -> None:
                return None

        return Backend


def until(is_true: Callable[[], object], limit_s: float = 10.0) -> bool:
    """Whether it became true in time."""
    ends_s = time.monotonic() + limit_s
    while time.monotonic() < ends_s:
        if is_true():
            return True
        time.sleep(0.01)
    return bool(is_true())


def add_loopback(
    root: Path, number: int = 10, *, label: str = "mien", held: str = "", exclusive: str = "Y"
) -> None:
    """Add one more device of v4l2loopback to the system of `root`."""
    device = root / f"sys/devices/virtual/video4linux/video{number}"
    device.mkdir(parents=True)
    for name, text in (("max_openers", "10"), ("name", label), ("format", held)):
        (device / name).write_text(f"{text}\n")
    parameters = root / "sys/module/v4l2loopback/parameters"
    parameters.mkdir(parents=True, exist_ok=True)
    flags = parameters / "exclusive_caps"
    flags.write_text(f"{flags.read_text().strip()},{exclusive}" if flags.exists() else exclusive)
    (parameters.parent / "refcnt").write_text("0\n")


def set_opens(root: Path, count: int) -> None:
    """Set how often the module's devices are open."""
    (root / "sys/module/v4l2loopback/refcnt").write_text(f"{count}\n")


def add_opener(root: Path, process: int | None, target: str, *, flags: int = os.O_RDWR) -> None:
    """Add a process that has a file open to the system of `root`. None: this very process."""
    folder = root / "proc" / str(os.getpid() if process is None else process)
    number = str(3 + len(list((folder / "fd").glob("*")))) if folder.exists() else "3"
    (folder / "fd").mkdir(parents=True, exist_ok=True)
    (folder / "fdinfo").mkdir(parents=True, exist_ok=True)
    (folder / "fd" / number).symlink_to(target)
    (folder / "fdinfo" / number).write_text(f"pos:\t0\nflags:\t0{flags:o}\nmnt_id:\t5\n")
