"""A camera that call programs can choose, fed with the edited video."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

from mien.engines.errors import DeviceError
from mien.engines.system.install import extras_line
from mien.runtime.live.canvas import Canvas, even_size
from mien.runtime.live.loopback import (
    LOAD,
    MODULE,
    ROOT,
    Loopback,
    has_reader,
    loopback_devices,
    module_is_installed,
    module_is_loaded,
)
from mien.runtime.live.output import ThreadedOutput
from mien.runtime.live.values import LiveFrame

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
        """Nothing; gives the camera back."""
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
        """Raises DeviceError where another program holds the device at another size or format."""
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
        """Sorts our own label first, then what nobody has open, and the camera itself last."""
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
