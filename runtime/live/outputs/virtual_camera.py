"""A camera that call programs can choose, fed with the edited video.

On Linux it is a device of the v4l2loopback module; which devices there are, and who reads them, is
what the system's files say. root: where those files lie; another folder than `/` in tests.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.engines.errors import DeviceError
from mien.engines.system.install import extras_line
from mien.runtime.live.outputs.canvas import Canvas, even_size
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.values import LiveFrame

MODULE = "v4l2loopback"
LOAD = "sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=mien"
RELOAD = f"sudo modprobe -r v4l2loopback && {LOAD}"
ROOT = Path("/")
_FORMAT = re.compile(r"(?P<fourcc>.{4}):(?P<width>\d+)x(?P<height>\d+)")
_ACCESS = 3  # O_ACCMODE


@dataclass(frozen=True, slots=True)
class LoopbackFormat:
    """What a device is set to while somebody has it open. fourcc: `YU12` is planar 4:2:0."""

    fourcc: str
    size_wh: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Loopback:
    """One virtual camera.

    path: the device file. label: the name that call programs show. format: None while it is free.
    is_exclusive: whether it calls itself a camera and nothing else, as browsers demand; None where
        the module does not say.
    """

    path: Path
    label: str
    format: LoopbackFormat | None
    is_exclusive: bool | None


def loopback_devices(root: Path = ROOT) -> tuple[Loopback, ...]:
    """The virtual cameras there are, by number."""
    folder = root / "sys/devices/virtual/video4linux"
    # of all virtual devices only this module's have this attribute
    found = [entry.parent for entry in folder.glob("video*/max_openers")]
    found.sort(key=lambda entry: int(entry.name.removeprefix("video")))
    exclusive = _exclusive_caps(root)
    return tuple(
        Loopback(
            Path("/dev") / entry.name,
            read_small(entry / "name") or entry.name,
            _format(read_small(entry / "format")),
            exclusive[index] if index < len(exclusive) else None,
        )
        for index, entry in enumerate(found)
    )


def module_is_loaded(root: Path = ROOT) -> bool:
    """Whether the kernel has the module now."""
    return (root / "sys/module" / MODULE).is_dir()


def module_is_installed(root: Path = ROOT, release: str | None = None) -> bool:
    """Whether the kernel could load the module. release: of the kernel, by default the running."""
    release = os.uname().release if release is None else release
    listed = read_small(root / "lib/modules" / release / "modules.dep") or ""
    return f"/{MODULE}.ko" in listed


def has_reader(device: Path, root: Path = ROOT) -> bool:
    """Whether another program has a virtual camera open to look at it.

    The module counts how often its devices are open. Who it is, is told only of processes that may
    be looked at, and browsers hide theirs; so whoever cannot be seen counts as a reader.
    """
    readers, others = _visible_opens(device, root)
    if readers:
        return True
    count = read_small(root / "sys/module" / MODULE / "refcnt")
    return count is not None and count.isdigit() and int(count) > others


def _visible_opens(device: Path, root: Path) -> tuple[int, int]:
    """How often other programs are seen to read the device, and all to use the module otherwise."""
    known = {str(loopback.path) for loopback in loopback_devices(root)} | {str(device)}
    readers = others = 0
    for process in (root / "proc").glob("[0-9]*"):
        is_own = process.name == str(os.getpid())
        for opened in _listed(process / "fd"):
            target = _link(opened)
            if target not in known:
                continue
            reads = not is_own and target == str(device)
            if reads and not _only_writes(process / "fdinfo" / opened.name):
                readers += 1
            else:
                others += 1
    return readers, others


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # another user's process, or one that has ended
        return []


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 -- a path of pipes and sockets is none
    except OSError:
        return None


def _only_writes(fdinfo: Path) -> bool:
    match = re.search(r"^flags:\s*([0-7]+)", read_small(fdinfo) or "", re.MULTILINE)
    return match is not None and int(match[1], 8) & _ACCESS == os.O_WRONLY


def _exclusive_caps(root: Path) -> list[bool]:
    text = read_small(root / "sys/module" / MODULE / "parameters/exclusive_caps") or ""
    return [flag.strip() in ("Y", "1") for flag in text.split(",") if flag.strip()]


def _format(text: str | None) -> LoopbackFormat | None:
    match = _FORMAT.match(text or "")
    if match is None:
        return None
    return LoopbackFormat(match["fourcc"], (int(match["width"]), int(match["height"])))


def read_small(path: Path) -> str | None:
    """The text of a small file of the system without its line end; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


LOOK_S = 1.0  # between looks at who reads the camera
LABEL = "mien"
FOURCC = "YU12"  # planar 4:2:0, as Linux calls it
INSTALL_DRIVER = f"sudo apt install v4l2loopback-dkms && {LOAD}"
ADD = f"sudo modprobe -r {MODULE} && {LOAD.replace('devices=1', 'devices=2')}"
JOIN_VIDEO = "sudo usermod -a -G video $USER, then log out and in"
INSTALL_OBS = "install OBS Studio (obsproject.com), start its virtual camera once, and stop it"


class VirtualCamera(ThreadedOutput):
    """A virtual camera of v4l2loopback (Linux), OBS (macOS, Windows) or Unity Capture (Windows).

    size_wh, rate: what the camera shows; frames of other sizes get black borders. device: one of
    several, by its file or name. avoid: the device that frames come from, which is never taken.
    backend: of pyvirtualcam, by default whatever works.
    root: where Linux's own files lie.

    It shows black until the first frame, for a camera that shows nothing is none to a browser.
    Raises DeviceError, with what to do, where it cannot be opened.
    """

    def __init__(
        self,
        size_wh: tuple[int, int],
        rate: float,
        *,
        device: str | None = None,
        avoid: str | None = None,
        backend: str | None = None,
        root: Path = ROOT,
    ) -> None:
        super().__init__("virtual camera")
        self._canvas = Canvas(size_wh)
        self._rate, self._backend, self._root = rate, backend, root
        self._wanted, self._avoid = device, avoid
        self._camera: Any = None
        self.device = self._open()
        self._has_reader = True  # until known better
        self._ended = threading.Event()
        if any(str(loopback.path) == self.device for loopback in loopback_devices(root)):
            threading.Thread(
                target=self._look_for_readers, name="mien-readers", daemon=True
            ).start()

    @property
    def watched(self) -> bool:
        """Whether a program shows the camera; always, where the system does not tell."""
        return super().watched and self._has_reader

    @property
    def note(self) -> str | None:
        """What is not as it should be, though the camera works; None where all is well."""
        for loopback in loopback_devices(self._root):
            if str(loopback.path) == self.device and loopback.is_exclusive is False:
                return f"browsers will not offer {self.device}; mien doctor says how to change that"
        return None

    def close(self) -> None:
        """Release the virtual camera."""
        super().close()
        self._ended.set()
        if self._thread is None:
            self._finish()

    def _show(self, frame: LiveFrame) -> None:
        if self._camera is None:
            self.device = self._open()
        self._camera.send(self._canvas.draw(frame.frame))

    def _recover(self) -> None:
        self._finish()

    def _finish(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def _open(self) -> str:
        """The device that is open now. Raises DeviceError."""
        device = self._wanted or self._chosen_loopback()
        if device is not None and device == self._avoid:
            raise DeviceError(
                f"no virtual camera: {device} is the camera itself; make one more device: {ADD}"
            )
        try:
            import pyvirtualcam  # noqa: PLC0415 -- an extra, and only for this output
        except ImportError as error:
            raise DeviceError(
                f"the virtual camera needs the package pyvirtualcam; {extras_line('camera')}"
            ) from error
        width, height = self._canvas.size_wh
        form = pyvirtualcam.PixelFormat.I420
        settings = {"fmt": form, "device": device, "backend": self._backend}
        try:
            camera = pyvirtualcam.Camera(width, height, self._rate, **settings)
        except (RuntimeError, KeyError) as error:
            raise DeviceError(self._why_not(str(error), device)) from error
        try:
            self._check_format(camera.device)
            camera.send(self._canvas.clear())
        except BaseException:
            camera.close()
            raise
        self._camera = camera
        return str(camera.device)

    def _chosen_loopback(self) -> str | None:
        """The device to take, None where the choice is left to pyvirtualcam."""
        if self._backend is not None:
            return None
        # pyvirtualcam would take the lowest number, and stop at a camera it may not open
        devices = sorted(loopback_devices(self._root), key=self._preference)
        return str(devices[0].path) if devices else None

    def _check_format(self, device: str) -> None:
        """Raise DeviceError where another program holds the device at another size or format."""
        for loopback in loopback_devices(self._root):
            held = loopback.format
            if str(loopback.path) != device or held is None:
                continue
            if (held.fourcc, held.size_wh) != (FOURCC, self._canvas.size_wh):
                raise DeviceError(locked_message(loopback, self._canvas.size_wh))

    def _why_not(self, reason: str, device: str | None) -> str:
        reason = " ".join(reason.split())
        if "permission" in reason:
            return f"the virtual camera {device or ''} may not be opened; {JOIN_VIDEO}"
        if "could not be configured" in reason or "already in use" in reason:
            return (
                f"the virtual camera {device or ''} is fed by another program; close that, or make "
                f"one more device: {ADD}"
            )
        if sys.platform != "linux":
            return f"no virtual camera works ({reason}); {INSTALL_OBS}"
        if self._wanted is not None:
            known = ", ".join(str(found.path) for found in loopback_devices(self._root)) or "none"
            return f"{device} is no virtual camera (there is: {known}); mien doctor says more"
        return f"no virtual camera: {missing_driver(self._root) or reason}"

    def _preference(self, loopback: Loopback) -> tuple[bool, bool, bool]:
        """A sort key: our own label first, then what nobody has open, the camera itself last."""
        own = LABEL in loopback.label.lower()
        return str(loopback.path) == self._avoid, not own, loopback.format is not None

    def _look_for_readers(self) -> None:
        device = Path(self.device)
        while not self._ended.wait(LOOK_S):
            self._has_reader = has_reader(device, self._root)


def is_installed() -> bool:
    """Whether the package pyvirtualcam is there."""
    return importlib.util.find_spec("pyvirtualcam") is not None


def locked_message(loopback: Loopback, size_wh: tuple[int, int]) -> str:
    """One line on a device that another program holds at another size, and what to do."""
    held = loopback.format
    assert held is not None
    size = f"{held.size_wh[0]}x{held.size_wh[1]}"
    remedy = "close the program that shows or feeds it"
    if held.fourcc == FOURCC and even_size(held.size_wh) == held.size_wh:
        remedy += f", or use --size {size}"
    return (
        f"the virtual camera {loopback.path} is locked to {size} ({held.fourcc}) by another "
        f"program, so it cannot show {size_wh[0]}x{size_wh[1]}; {remedy}"
    )


def missing_driver(root: Path = ROOT, release: str | None = None) -> str | None:
    """What of v4l2loopback is missing and the line that fixes it; None where a device is there.

    release: of the kernel, by default of the running one.
    """
    if loopback_devices(root):
        return None
    if module_is_loaded(root):
        return f"the driver {MODULE} has no device; sudo modprobe -r {MODULE} && {LOAD}"
    if module_is_installed(root, release):
        return f"the driver {MODULE} is not loaded; {LOAD}"
    return f"the driver {MODULE} is not installed; {INSTALL_DRIVER}"
