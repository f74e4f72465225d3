"""What `mien bench` found, and its tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from mien.apps.bench_eager import EagerFilter, EagerRow
from mien.apps.bench_networks import NetworkRow
from mien.apps.bench_tables import (
    Grid,
    eager_filter_grid,
    eager_grid,
    network_grid,
    scene_grid,
    variant_grid,
)
from mien.apps.bench_variants import SceneRow, VariantRow
from mien.engines.errors import one_line
from mien.engines.peak import Peak
from mien.runtime.profile import FilterProfile


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `mien bench` found; the seconds and megabytes are medians over the runs.

    clip, width, height, clip_frames: what was measured on. machine, cores: where.
    method, variant: of the filter. providers: what really ran each network. ratio: of command_s to
    transcode_s. first_frame_s: from the start of the process. warm_start_s: from opening a filter,
    where another was open before. peaks: of the machine, by provider. networks, eager: each network
    by itself. eager_filter: the whole filter in PyTorch. What was not asked for is empty.
    """

    clip: str
    width: int
    height: int
    clip_frames: int
    machine: str
    cores: int
    method: str
    variant: str
    providers: dict[str, str]
    profile: FilterProfile
    runs: int
    command_s: float
    transcode_s: float
    ratio: float
    first_frame_s: float | None
    warm_start_s: float | None
    peak_mb: float | None
    variants: tuple[VariantRow, ...] = ()
    peaks: dict[str, Peak] = field(default_factory=dict)
    networks: tuple[NetworkRow, ...] = ()
    eager: tuple[EagerRow, ...] = ()
    eager_filter: EagerFilter | None = None
    scenes: tuple[SceneRow, ...] = ()


def report_heading(report: BenchReport) -> str:
    """One line on what was measured, and where."""
    networks = ", ".join(sorted(set(report.providers.values())))
    clip = f"{report.clip}, {report.width}x{report.height}, {report.clip_frames} frames"
    machine = f"{report.machine}, {report.cores} cores"
    return one_line(f"{clip}; {report.method}; {machine}; networks on {networks}")


def report_grids(report: BenchReport) -> list[Grid]:
    """The report as tables: the command first, then what else was measured."""
    grids = [command_grid(report)]
    if report.variants:
        grids.append(variant_grid(report.variants))
    if report.networks:
        grids.append(network_grid(report.networks))
    if report.eager:
        grids.append(eager_grid(report.eager))
    if report.eager_filter is not None:
        grids.append(eager_filter_grid(report.eager_filter))
    if report.scenes:
        grids.append(scene_grid(report.scenes))
    return grids


def command_grid(report: BenchReport) -> Grid:
    """The stages of the filter and the whole command."""
    rows = []
    for stage in (*report.profile.stages, report.profile.whole):
        name = "whole filter" if stage is report.profile.whole else stage.name
        rows.append((f"{name}, ms a frame", f"{stage.median_ms:.2f}", f"{stage.p95_ms:.2f}"))
    for name, value, form in (
        ("filter without codec, fps", report.profile.fps, ".1f"),
        ("whole command, s", report.command_s, ".2f"),
        ("transcode alone, s", report.transcode_s, ".2f"),
        ("command / transcode", report.ratio, ".2f"),
        ("cold: start of the process to first edited frame, s", report.first_frame_s, ".2f"),
        ("warm: opening of the filter to first edited frame, s", report.warm_start_s, ".2f"),
        ("memory at most, MB", report.peak_mb, ".0f"),
    ):
        rows.append((name, "-" if value is None else format(value, form), ""))
    for provider, peak in report.peaks.items():
        product = f"{peak.operations_s / 1e9:.0f}"
        rows.append((f"matrix product on {provider}, GFLOP/s", product, ""))
    copies = [peak.bytes_s for peak in report.peaks.values() if peak.bytes_s is not None]
    if copies:
        rows.append(("copy in memory by one thread, GB/s", f"{max(copies) / 1e9:.1f}", ""))
    return Grid("", ("", "median", "p95"), tuple(rows))
