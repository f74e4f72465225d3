"""The picture of `mien bench --plot`."""

from __future__ import annotations

from collections.abc import Iterator

from mien.apps.bench_report import BenchReport, report_heading
from mien.apps.bench_variants import SceneRow
from mien.runtime.chart import Bar, Panel, draw_chart
from mien.runtime.profile import FilterProfile

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
