"""Chromium without a window, and what it shows on the panel's page."""

from __future__ import annotations

import base64
import contextlib
import importlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.runtime.faces import topology
from mien.runtime.filter import Filter

EVENT_S = 25.0  # how long to wait for what must come
NAMES = ("chromium", "chromium-browser", "google-chrome")
# What is in front of the picture's place: the original, the video or the JPEGs.
SHOWN = """
const [name, quality] = arguments;
const picture = document.getElementById(name);
const width = picture.videoWidth || picture.naturalWidth;
const height = picture.videoHeight || picture.naturalHeight;
if (picture.hidden || !width) return null;
const canvas = document.createElement("canvas");
Object.assign(canvas, {width, height});
canvas.getContext("2d").drawImage(picture, 0, 0);
return canvas.toDataURL("image/jpeg", quality).split(",")[1];
"""


@contextlib.contextmanager
def chromium(
    camera: Path | None = None, size_wh: tuple[int, int] = (1280, 900), more: Sequence[str] = ()
) -> Iterator[Any]:
    """A driver of selenium; skips the test where there is no Chromium.

    camera: a clip of JPEGs (.mjpeg) that is the browser's camera. more: further arguments.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    driver_path = shutil.which("chromedriver")
    if browser is None or driver_path is None:
        pytest.skip("no chromium and chromedriver on the path (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*_arguments(camera, size_wh), *more):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


def _arguments(camera: Path | None, size_wh: tuple[int, int]) -> Iterator[str]:
    yield "--headless=new"
    yield "--disable-gpu"
    yield "--disable-dev-shm-usage"
    yield "--hide-scrollbars"
    yield f"--window-size={size_wh[0]},{size_wh[1]}"
    yield "--use-fake-device-for-media-stream"
    yield "--use-fake-ui-for-media-stream"
    if camera is not None:
        yield f"--use-file-for-fake-video-capture={camera}"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield "--no-sandbox"  # Chromium's sandbox does not start as root


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` gives as soon as it is true; fails with `what` where that does not come.

    An element that the page has put another in place of is looked for again.
    """
    stale = importlib.import_module("selenium.common").StaleElementReferenceException
    end_s = time.monotonic() + EVENT_S
    while time.monotonic() < end_s:
        with contextlib.suppress(stale):
            if value := holds():
                return value
        time.sleep(0.1)
    raise AssertionError(f"within {EVENT_S:g} s it did not come that {what}")


def picture(driver: Any, name: str) -> np.ndarray | None:
    """What the element of that id shows: uint8 (H, W, 3), RGB; None where it is hidden or empty."""
    text = driver.execute_script(SHOWN, name, 0.95)
    if text is None:
        return None
    coded = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1])


@contextlib.contextmanager
def tunnel(port: int) -> Iterator[int]:
    """A port of this machine from which all goes to another one and back, as `ssh -L` does it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_carry_on, args=(server, port), daemon=True).start()
        yield server.getsockname()[1]


def _carry_on(server: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError):  # the server was closed
        while True:
            near, _ = server.accept()
            threading.Thread(target=_join, args=(near, port), daemon=True).start()


def _join(near: socket.socket, port: int) -> None:
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class SmileMeter:
    """Measures mouths by the project's own landmarks."""

    def __init__(self) -> None:
        self._finder = Filter("neutral")

    def __call__(self, rgb: np.ndarray | None) -> float | None:
        """How far the corners of the mouth lie above its middle, in outer-eye distances.

        None where there is no picture, or no face in it.
        """
        if rgb is None:
            return None
        self._finder.reset()
        self._finder(rgb, 0.0)
        if not self._finder.faces:
            return None
        points = self._finder.faces[0].landmarks
        across = points[topology.RIGHT_EYE_OUTER] - points[topology.LEFT_EYE_OUTER]
        down = np.array([-across[1], across[0]]) / (across @ across)
        corners = points[[topology.MOUTH_LEFT_CORNER, topology.MOUTH_RIGHT_CORNER]].mean(0)
        middle = points[[topology.LIP_TOP, topology.LIP_BOTTOM]].mean(0)
        return float((middle - corners) @ down)

    def close(self) -> None:
        self._finder.close()
