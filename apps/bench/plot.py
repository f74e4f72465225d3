"""The picture of `mien bench --plot`: bars drawn with OpenCV, which is installed anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mien.apps.bench.report import BenchReport, report_heading
from mien.apps.bench.variants import SceneRow
from mien.runtime.profile import FilterProfile

WIDTH = 1000
BAR, GAP, MARGIN = 18, 10, 24
LABEL = 330  # where bars begin
NUMBER = 110  # kept free for the number behind the longest bar
INK, PAPER = (30, 30, 30), (255, 255, 255)
COLOURS = ((180, 119, 31), (14, 127, 255), (44, 160, 44), (40, 39, 214), (189, 103, 148))  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. series: bars of one series have one colour, which a legend tells."""

    label: str
    series: str
    value: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars under a title, on a scale of their own that begins at zero."""

    title: str
    bars: tuple[Bar, ...]


def draw_chart(panels: Sequence[Panel], heading: Sequence[str] = ()) -> bytes:
    """A PNG of the panels, one below the other, each series in one colour throughout.

    heading: lines above them. Bars that follow each other under one label share it.
    """
    series = list(dict.fromkeys(bar.series for panel in panels for bar in panel.bars))
    legend = series if len(series) > 1 else []
    rows = sum(len(panel.bars) + 2 for panel in panels) + len(heading) + len(legend) + 1
    picture = np.full((2 * MARGIN + rows * (BAR + GAP), WIDTH, 3), PAPER, np.uint8)
    y = MARGIN
    for line in heading:
        _write(picture, line, (MARGIN, y + BAR - 5))
        y += BAR + GAP
    for name in legend:
        cv2.rectangle(
            picture, (MARGIN, y), (MARGIN + BAR, y + BAR), _colour(series, name), cv2.FILLED
        )
        _write(picture, name, (MARGIN + BAR + 8, y + BAR - 5))
        y += BAR + GAP
    y += BAR + GAP if heading or legend else 0
    for panel in panels:
        y = _draw_panel(picture, panel, y, series) + BAR + GAP
    return cv2.imencode(".png", picture[:y])[1].tobytes()


def _draw_panel(picture: np.ndarray, panel: Panel, y: int, series: Sequence[str]) -> int:
    """Where the panel ends; it is drawn from `y` down."""
    _write(picture, panel.title, (MARGIN, y + BAR - 4), scale=0.6)
    y += BAR + GAP
    longest = max((bar.value for bar in panel.bars), default=0) or 1
    label = None
    for bar in panel.bars:
        end = LABEL + round((WIDTH - MARGIN - NUMBER - LABEL) * bar.value / longest)
        if bar.label != label:
            _write(picture, bar.label, (MARGIN, y + BAR - 5))
            label = bar.label
        cv2.rectangle(picture, (LABEL, y), (end, y + BAR), _colour(series, bar.series), cv2.FILLED)
        _write(picture, number(bar.value), (end + 8, y + BAR - 5))
        y += BAR + GAP
    return y


def _colour(series: Sequence[str], name: str) -> tuple[int, int, int]:
    return COLOURS[series.index(name) % len(COLOURS)]


def number(value: float) -> str:
    """A value with three digits or more, and no more than two behind the point."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _write(picture: np.ndarray, text: str, at: tuple[int, int], scale: float = 0.45) -> None:
    """Write `text` into `picture`; what is not ASCII, which OpenCV's fonts lack, becomes "?"."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, at, FONT, scale, INK, 1, cv2.LINE_AA)


ONNX, TORCH = "ONNX Runtime", "PyTorch eager"


def bench_chart(report: BenchReport) -> bytes:
    """A PNG of the medians: stages, and what else was measured, variant by variant."""
    profiles = {row.variant: row.profile for row in report.variants}
    profiles = profiles or {report.variant: report.profile}
    panels = [
        Panel("The filter, median ms a frame", tuple(_stages(profiles))),
        Panel(
            "Networks, median ms a call",
            tuple(Bar(row.network, row.variant, row.median_ms) for row in report.networks),
        ),
        Panel("Networks against PyTorch eager, median ms a call", tuple(_eager(report))),
        Panel("The filter against PyTorch eager, median ms a frame", tuple(_in_torch(report))),
        Panel(
            "Faces in a frame of 1280x720, each an eighth of it, median ms a frame",
            tuple(
                Bar(faces_of(row), row.variant, row.median_ms)
                for row in report.scenes
                if row.kind == "faces"
            ),
        ),
        Panel(
            "Frame size, one face that fills it, median ms a frame",
            tuple(
                Bar(row.size, row.variant, row.median_ms)
                for row in report.scenes
                if row.kind == "size"
            ),
        ),
    ]
    return draw_chart([panel for panel in panels if panel.bars], report_heading(report).split("; "))


def faces_of(row: SceneRow) -> str:
    """How many faces, for people."""
    return "1 face" if row.faces == 1 else f"{row.faces} faces"


def _stages(profiles: dict[str, FilterProfile]) -> Iterator[Bar]:
    """Every stage in each variant, then the whole."""
    names = [stage.name for stage in next(iter(profiles.values())).stages]
    for index, name in enumerate(names):
        for variant, profile in profiles.items():
            yield Bar(name, variant, profile.stages[index].median_ms)
    for variant, profile in profiles.items():
        yield Bar("whole filter", variant, profile.whole.median_ms)


def _eager(report: BenchReport) -> Iterator[Bar]:
    for row in report.eager:
        if row.onnx_runtime_ms is not None and row.torch_ms is not None:
            yield Bar(row.network, ONNX, row.onnx_runtime_ms)
            yield Bar(row.network, TORCH, row.torch_ms)


def _in_torch(report: BenchReport) -> Iterator[Bar]:
    if report.eager_filter is not None:
        both = {ONNX: report.eager_filter.onnx_runtime, TORCH: report.eager_filter.torch}
        yield from _stages(both)
