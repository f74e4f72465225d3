from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.engines.errors import DeviceError
from mien.runtime.live.outputs.window import PreviewWindow, check_window
from tests.runtime.live.pictures import frame_of, live, quarters
from tests.runtime.live.virtual import until


class Toolkit:
    """Windows without a screen."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []
        self.key = -1
        self.visible = 1.0
        self.closed = False

    def getBuildInformation(self) -> str:  # noqa: N802 -- OpenCV's name
        return "  GUI:                           GTK3\n"

    def getWindowProperty(self, _title: str, _which: int) -> float:  # noqa: N802
        return self.visible

    def imshow(self, _title: str, picture: np.ndarray) -> None:
        self.shown.append(picture)

    def waitKey(self, _ms: int) -> int:  # noqa: N802
        return self.key

    def destroyAllWindows(self) -> None:  # noqa: N802
        self.closed = True


def test_frames_are_shown_in_colour_and_large_ones_smaller() -> None:
    toolkit = Toolkit()
    window = PreviewWindow(toolkit)
    for index, size in enumerate(((160, 96), (1920, 1080))):
        window.offer(live(frame_of(quarters(size)), seq=index))
        assert until(lambda: len(toolkit.shown) == index + 1)  # noqa: B023
    window.close()
    assert np.abs(toolkit.shown[0][24, 40].astype(int) - (40, 60, 200)).max() < 8  # BGR
    assert toolkit.shown[1].shape == (720, 1280, 3)
    assert toolkit.closed


@pytest.mark.parametrize("how", ["key", "visible"])
def test_closing_the_window_ends_it_and_says_so(how: str) -> None:
    toolkit = Toolkit()
    window = PreviewWindow(toolkit)
    window.offer(live(frame_of(quarters())))
    assert until(lambda: toolkit.shown)
    setattr(toolkit, how, {"key": 27, "visible": 0.0}[how])
    window.offer(live(frame_of(quarters()), seq=1))
    assert until(lambda: not window.watched)
    assert window.status().message == "the window was closed"
    window.close()
    assert until(lambda: toolkit.closed)


def test_an_opencv_without_windows_says_what_to_install() -> None:
    with pytest.raises(DeviceError, match=r"pip install .opencv-python>=4.8,<6"):
        check_window("  Version: 5\n  GUI:                           NONE\n", "linux")
    with pytest.raises(DeviceError, match="panel"):
        check_window("GUI: COCOA", "darwin")
    check_window("  GUI:                           QT5\n", "linux")
    build = cv2.getBuildInformation()
    is_headless = any(line.split() == ["GUI:", "NONE"] for line in build.splitlines())
    if is_headless:
        with pytest.raises(DeviceError, match="built without windows"):
            PreviewWindow()
