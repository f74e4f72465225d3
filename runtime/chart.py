"""Bars drawn with OpenCV, which is installed anyway: the picture of `mien bench --plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

WIDTH = 1000
BAR, GAP, MARGIN = 18, 10, 24
LABEL = 330  # where bars begin
NUMBER = 110  # kept free for the number behind the longest bar
INK, PAPER = (30, 30, 30), (255, 255, 255)
COLOURS = ((180, 119, 31), (14, 127, 255), (44, 160, 44), (40, 39, 214), (189, 103, 148))  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. series: bars of one series have one colour."""

    label: str
    series: str
    value: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars under a title, on a scale of their own that begins at zero."""

    title: str
    bars: tuple[Bar, ...]


def draw_chart(panels: Sequence[Panel]) -> bytes:
    """A PNG of the panels, one below the other, each series in one colour throughout."""
    series = list(dict.fromkeys(bar.series for panel in panels for bar in panel.bars))
    rows = sum(len(panel.bars) for panel in panels)
    height = 2 * MARGIN + rows * (BAR + GAP) + 2 * len(panels) * (BAR + GAP)
    picture = np.full((height, WIDTH, 3), PAPER, np.uint8)
    y = MARGIN
    for panel in panels:
        _write(picture, panel.title, (MARGIN, y + BAR - 4), scale=0.6)
        y += BAR + GAP
        longest = max((bar.value for bar in panel.bars), default=0) or 1
        for bar in panel.bars:
            colour = COLOURS[series.index(bar.series) % len(COLOURS)]
            end = LABEL + round((WIDTH - MARGIN - NUMBER - LABEL) * bar.value / longest)
            _write(picture, f"{bar.label}, {bar.series}", (MARGIN, y + BAR - 5))
            cv2.rectangle(picture, (LABEL, y), (end, y + BAR), colour, cv2.FILLED)
            _write(picture, f"{bar.value:.4g}", (end + 8, y + BAR - 5))
            y += BAR + GAP
        y += BAR + GAP
    return cv2.imencode(".png", picture)[1].tobytes()


def _write(picture: np.ndarray, text: str, at: tuple[int, int], scale: float = 0.45) -> None:
    """Nothing; OpenCV's fonts know ASCII alone."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, at, FONT, scale, INK, 1, cv2.LINE_AA)
