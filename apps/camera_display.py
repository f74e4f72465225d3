"""What `mien camera` says while it runs: a line that is renewed, or only what changes."""

from __future__ import annotations

import re
import shutil
import sys

import typer

from mien.engines.errors import one_line
from mien.runtime.live.values import LiveStats


def status_line(stats: LiveStats) -> str:
    """How it is doing, in one line."""
    if stats.state == "idle":
        return "nobody is watching, so the camera is off"
    delay = stats.delay
    parts = [f"{stats.output_fps:.0f} fps"]
    if delay.median_ms is not None and delay.p95_ms is not None:
        parts.append(f"latency {delay.median_ms:.0f} ms (p95 {delay.p95_ms:.0f})")
    parts.append(f"dropped {stats.recent_dropped_share:.1%}")
    parts.append("1 face" if len(stats.faces) == 1 else f"{len(stats.faces)} faces")
    parts.append(networks(stats))
    return one_line("; ".join([", ".join(parts), *stats.adaptations, *stats.messages]))


def networks(stats: LiveStats) -> str:
    """What really runs the networks."""
    return "on " + (", ".join(sorted(set(stats.providers.values()))) or "nothing yet")


def summary_line(stats: LiveStats) -> str:
    """How it was, in one line, at the end."""
    delay = stats.delay
    parts = [
        f"{stats.shown} frames in {stats.uptime_s:.1f} s",
        f"dropped {stats.dropped_share:.1%}",
    ]
    if delay.all_median_ms is not None and delay.all_p95_ms is not None:
        parts.append(f"latency {delay.all_median_ms:.1f} ms (p95 {delay.all_p95_ms:.1f})")
    parts += [f"{output.name}: {output.shown} shown" for output in stats.outputs]
    return one_line(", ".join([*parts, networks(stats)]))


class Teller:
    """Tells on standard error, for standard output may carry the video itself.

    is_terminal: the line is renewed in its place; else only what is wrong is told, once.
    """

    def __init__(self, *, is_terminal: bool | None = None) -> None:
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._told: tuple[str, ...] = ()
        self._has_line = False

    def say(self, text: str) -> None:
        """Nothing; prints a line that stays."""
        self.end_line()
        typer.echo(one_line(text), err=True)

    def show(self, stats: LiveStats) -> None:
        """Nothing; renews the status line, or tells what is new."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            typer.echo(f"\r\033[K{status_line(stats)[:width]}", err=True, nl=False)
            self._has_line = True
            return
        texts = (*stats.adaptations, *stats.messages)
        for text in texts:
            if _kind(text) not in self._told:
                typer.echo(f"mien: {one_line(text)}", err=True)
        self._told = tuple(_kind(text) for text in texts)

    def end_line(self) -> None:
        """Nothing; what follows begins on a line of its own."""
        if self._has_line:
            typer.echo("", err=True)
            self._has_line = False


def _kind(text: str) -> str:
    """The text without its numbers, which change all the time."""
    return re.sub(r"\d+", "#", text)
