"""Live video for many minutes: does its latency or its memory grow, are frames lost?

    python -m mien.apps.soak --minutes 10

A clip in which a face leaves, two faces are in view and the scene is cut every 20 seconds stands in
for the camera. Where the panel is installed, a browser's stream of it is opened, closed and opened
again every 30 seconds, by a process of its own. It prints a line a minute and ends with exit
status 1 where a limit is missed. What it measures means nothing while other programs are at work.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import numpy as np
import typer

from mien.apps.edit.inputs import SAMPLE
from mien.engines.system.install import extras_line
from mien.engines.system.process import module_command
from mien.runtime.filter import Filter
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.soak_clip import write_soak_clip
from mien.runtime.live.sources.source import open_source
from mien.runtime.live.values import LiveFrame, OutputStatus

SIZE_WH: Final = (1280, 720)
RECONNECT_S: Final = 30.0
PAUSE_S: Final = 1.0  # without a browser, between two connections
WARM_UP_S: Final = 10.0  # is not counted: networks are loaded, the browser's first picture made
LIMITS: Final = {"median_ms": 40.0, "p95_ms": 80.0, "dropped": 0.01, "growth_mb": 20.0}


@dataclass(frozen=True, slots=True)
class Minute:
    """What was measured in one minute.

    panel_ms: median latency until a picture left for a browser; None without one.
    """

    frames: int
    dropped: int
    median_ms: float
    p95_ms: float
    memory_mb: float
    panel_ms: float | None

    def line(self, number: int) -> str:
        """The minute in one line for people."""
        share = self.dropped / max(1, self.frames + self.dropped)
        panel = "" if self.panel_ms is None else f", browser {self.panel_ms:.0f} ms"
        return (
            f"minute {number}: {self.frames} frames, dropped {share:.2%}, latency median "
            f"{self.median_ms:.1f} ms, p95 {self.p95_ms:.1f} ms{panel}, "
            f"memory {self.memory_mb:.1f} MB"
        )


class Watch:
    """An output that notes delays and gaps, and holds no frame."""

    name = "soak"

    def __init__(self, *, watched: bool) -> None:
        self.watched = watched
        self._delays_ms: list[float] = []
        self._dropped = 0
        self._index: int | None = None

    def offer(self, frame: LiveFrame) -> None:
        """Count the frame and its delay."""
        self._delays_ms.append((time.monotonic() - frame.captured_s) * 1e3)
        if self._index is not None:
            self._dropped += frame.index - self._index - 1
        self._index = frame.index

    def status(self) -> OutputStatus:
        """Nothing is ever wrong with it."""
        return OutputStatus(self.name, len(self._delays_ms), 0, None)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def take(self) -> tuple[list[float], int]:
        """Delays in ms and dropped frames since the last time."""
        delays, dropped = self._delays_ms, self._dropped
        self._delays_ms, self._dropped = [], 0
        return delays, dropped


def memory_mb() -> float:
    """What this process holds now, in MB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch_stream(url: str) -> int:
    """How many pictures of an MJPEG stream came, until its sender or `url`'s reader ends."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", f"/stream.mjpg?{parts.query}")
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"the panel answers {answer.status}")
    pictures, end_s = 0, time.monotonic() + RECONNECT_S
    while time.monotonic() < end_s:
        data = answer.read1(1 << 16)
        if not data:
            raise SystemExit("the panel has ended the stream")
        pictures += data.count(b"\xff\xd8\xff")
    connection.close()
    return pictures


def browse(url: str) -> None:
    """Look at the panel, leave, and come again, until the parent process ends."""
    while True:
        typer.echo(json.dumps({"pictures": watch_stream(url)}))
        time.sleep(PAUSE_S)


@contextlib.contextmanager
def _panel(loop: LiveLoop) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """The panel of a loop, and a process that looks at it as a browser does."""
    from mien.apps.panel.app import PanelServer  # noqa: PLC0415 -- not everybody has it
    from mien.apps.panel.settings import PanelSettings  # noqa: PLC0415

    server = PanelServer(loop, PanelSettings(port=0))
    server.start()
    command = module_command("mien.apps.soak", ["--browse", server.url])
    browser = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield server, browser
    finally:
        browser.terminate()
        browser.wait()
        server.close()


def _measure(loop: LiveLoop, watch: Watch, seconds: float, panel: Any) -> tuple[Minute, set[str]]:
    """One minute, or what is left of it, and what was reported in it."""
    messages: set[str] = set()
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(2.0, left_s))
        stats = loop.stats()
        # without their numbers, or one trouble would be reported many times
        messages |= {re.sub(r"\d+", "N", text) for text in (*stats.messages, *stats.adaptations)}
        if loop.join(0):
            break
    delays_ms, dropped = watch.take()
    median_ms, p95_ms = np.percentile(delays_ms, (50, 95)) if delays_ms else (np.inf, np.inf)
    panel_ms = panel.preview.facts().delay_ms if panel is not None else None
    minute = Minute(len(delays_ms), dropped, float(median_ms), float(p95_ms), memory_mb(), panel_ms)
    return minute, messages


def soak(clip: Path, minutes: float, *, with_panel: bool) -> tuple[list[Minute], set[str]]:
    """What each minute was like, and everything that was reported meanwhile."""
    watch = Watch(watched=not with_panel)
    loop = LiveLoop(
        open_source(str(clip)),
        lambda state: Filter(None, method=state.method),
        [watch],
        Controls(target="happy", mark=True),
    )
    measured: list[Minute] = []
    told: set[str] = set()
    with loop, contextlib.ExitStack() as opened:
        panel, browser = opened.enter_context(_panel(loop)) if with_panel else (None, None)
        _measure(loop, watch, WARM_UP_S, panel)
        left_s = minutes * 60
        while left_s > 0:
            minute, messages = _measure(loop, watch, min(60.0, left_s), panel)
            measured.append(minute)
            told |= messages
            typer.echo(minute.line(len(measured)))
            left_s -= 60
            if browser is not None and browser.poll() is not None and browser.stderr is not None:
                told.add(f"browser: {browser.stderr.read().strip()}")
                break
    return measured, told


def verdict(measured: list[Minute], told: set[str]) -> dict[str, Any]:
    """What is compared with the limits."""
    frames = sum(minute.frames for minute in measured)
    dropped = sum(minute.dropped for minute in measured)
    return {
        "minutes": len(measured),
        "frames": frames,
        "median_ms": float(np.median([minute.median_ms for minute in measured])),
        "p95_ms": max(minute.p95_ms for minute in measured),
        "dropped": dropped / max(1, frames + dropped),
        "growth_mb": measured[-1].memory_mb - measured[0].memory_mb,
        "told": sorted(told),
    }


def _has_panel() -> bool:
    try:
        importlib.import_module("mien.apps.panel.app")
    except ImportError:
        return False
    return True


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long.")] = 10.0,
    panel: Annotated[bool, typer.Option(help="With a browser that looks on.")] = True,
    clip: Annotated[Path | None, typer.Option(help="A clip in place of the made one.")] = None,
    browse_url: Annotated[str | None, typer.Option("--browse", hidden=True)] = None,
) -> None:
    """Run live video for a while, and say whether anything grows or is lost."""
    if browse_url is not None:
        browse(browse_url)
        return
    if panel and not _has_panel():
        typer.echo(f"without a browser, for the panel is not installed: {extras_line('panel')}")
        panel = False
    with tempfile.TemporaryDirectory() as folder:
        if clip is None:
            clip = Path(folder) / "soak.mp4"
            write_soak_clip(SAMPLE, clip, SIZE_WH)
        measured, told = soak(clip, minutes, with_panel=panel)
    result = verdict(measured, told)
    typer.echo(json.dumps(result, indent=1))
    missed = [name for name, limit in LIMITS.items() if result[name] > limit]
    for name in missed:
        typer.echo(f"missed: {name} {result[name]:.3g}, limit {LIMITS[name]:g}", err=True)
    if missed or told:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
