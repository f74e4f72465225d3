"""A window that shows the edited video."""

from __future__ import annotations

import sys
from typing import Any, Final

import cv2

from mien.engines.errors import DeviceError
from mien.engines.system.install import packages_line
from mien.runtime.live.outputs.output import OutputStoppedError, ThreadedOutput
from mien.runtime.live.pixels import pixels
from mien.runtime.live.values import LiveFrame

TITLE: Final = "mien"
WIDEST: Final = 1280  # pixels; a larger picture is made smaller
_ESCAPE: Final = 27


class PreviewWindow(ThreadedOutput):
    """A window of OpenCV's; the key Escape, or closing it, ends it and nothing else.

    toolkit: what shows windows, by default OpenCV. Raises DeviceError where it has none.
    """

    def __init__(self, toolkit: Any = cv2) -> None:
        super().__init__("window")
        check_window(toolkit.getBuildInformation(), sys.platform)
        self._toolkit = toolkit
        self._is_shown = False

    def _show(self, frame: LiveFrame) -> None:
        if self._is_shown and self._toolkit.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise OutputStoppedError("the window was closed")
        width, height = frame.frame.width, frame.frame.height
        size = (width, height)
        if width > WIDEST:
            size = (WIDEST, round(height * WIDEST / width))
        self._toolkit.imshow(TITLE, pixels(frame.frame, "bgr24", size_wh=size))
        self._is_shown = True
        if self._toolkit.waitKey(1) & 0xFF == _ESCAPE:
            raise OutputStoppedError("the window was closed")

    def _finish(self) -> None:
        if self._is_shown:
            self._toolkit.destroyAllWindows()


def check_window(build: str, platform: str) -> None:
    """Raise DeviceError where this build of OpenCV cannot show a window.

    build: what OpenCV tells about itself.
    """
    if platform == "darwin":
        raise DeviceError(
            "macOS allows windows to a program's main thread only; look at the panel instead"
        )
    for line in build.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == "GUI" and value.strip() == "NONE":
            raise DeviceError(
                "this OpenCV was built without windows; look at the panel, or: pip uninstall "
                f"-y opencv-python-headless && {packages_line('opencv-python')}"
            )
