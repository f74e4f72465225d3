"""python -m tests.apps.panel.screenshot [docs/panel.png [RATE]]: the panel on the sample.

Needs Chromium, and Inter among the fonts for the looks of the one in `docs`. RATE: frames a second
at most, for a machine that has other things to do.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image

import mien.apps
from mien.apps.panel.app import PanelServer
from mien.apps.panel.settings import PanelSettings
from mien.runtime.filter import Filter
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.sources.source import open_source
from tests.apps.panel.browser import chromium, wait_until

SAMPLE: Final = Path(mien.apps.__file__).parent / "sample" / "sample.mp4"
WIDTH, HEIGHT = 1280, 960  # all of the page
PLOT_S: Final = 40.0  # how much of the plots there is


def take(driver: Any, url: str) -> Image.Image:
    """The page with a smile, of WIDTH x HEIGHT."""
    driver.get(url)
    wait_until(lambda: driver.find_element("id", "link-text").text == "Live · WebRTC", "a picture")
    driver.find_element("css selector", "[data-emotion=happy]").click()
    time.sleep(PLOT_S)
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(2)
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def main(path: Path, rate: float | None = None) -> None:
    """Write the picture, in 256 colours so that it is small."""
    with tempfile.TemporaryDirectory() as folder:
        settings = PanelSettings(port=0, presets=Path(folder) / "presets.json")
        loop = LiveLoop(
            open_source(str(SAMPLE)),
            lambda state: Filter(state.target, method=state.method),
            [],
            Controls(),
            rate=rate,
        )
        with (
            chromium(size_wh=(WIDTH, 1000)) as driver,
            loop,
            PanelServer(loop, settings) as server,
        ):
            picture = take(driver, server.url)
    picture.quantize(256, kmeans=3).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0] if given else "docs/panel.png"), float(given[1]) if given[1:] else None)
