"""The picture of `mien bench --plot`."""

from __future__ import annotations

from collections.abc import Sequence

from mien.apps.bench_networks import NetworkRow
from mien.apps.bench_variants import SceneRow
from mien.runtime.chart import Bar, Panel, draw_chart
from mien.runtime.profile import FilterProfile


def bench_chart(
    profile: FilterProfile, networks: Sequence[NetworkRow], scenes: Sequence[SceneRow]
) -> bytes:
    """A PNG of the medians: stages, and networks and scenes where these were measured."""
    stages = (*profile.stages, profile.whole)
    panels = [
        Panel(
            "Stages, median ms a frame",
            tuple(Bar(stage.name, "median", stage.median_ms) for stage in stages),
        ),
        Panel(
            "Networks, median ms a call",
            tuple(Bar(row.network, row.variant, row.median_ms) for row in networks),
        ),
        Panel(
            "Faces, median ms a frame",
            tuple(_scene(row) for row in scenes if row.kind == "faces"),
        ),
        Panel(
            "Frame size, median ms a frame",
            tuple(_scene(row) for row in scenes if row.kind == "size"),
        ),
    ]
    return draw_chart([panel for panel in panels if panel.bars])


def _scene(row: SceneRow) -> Bar:
    faces = "1 face" if row.faces == 1 else f"{row.faces} faces"
    return Bar(f"{row.size}, {faces}", row.variant, row.median_ms)
