"""What `mien bench` found, and its tables, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from mien.apps.bench.calls import CallRow
from mien.apps.bench.eager import EagerFilter, EagerRow
from mien.apps.bench.networks import NetworkRow, Peak, ran_on
from mien.apps.bench.variants import SceneRow, VariantRow
from mien.engines.errors import one_line
from mien.runtime.profile import FilterProfile


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: a title, headings, rows of text."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(box=None, title=self.title or None, title_justify="left")
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(one_line, row))
        return table

    def markdown(self) -> str:
        """As Markdown, its title above it."""
        lines = [self.title, ""] if self.title else []
        lines += [_line(self.headings), _line(["---"] * len(self.headings))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(one_line, cells))} |"


def network_grid(rows: Sequence[NetworkRow]) -> Grid:
    """The networks, variant by variant."""
    grid = Grid(
        "Networks, call by call in turn",
        (
            *("network", "variant", "ran on", "median, ms", "p95, ms", "a second", "MFLOP"),
            *("% of peak GFLOP/s", "% of peak GB/s"),
        ),
        tuple(
            (
                *(row.network, row.variant, ran_on(row)),
                *(f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.per_s:.0f}"),
                *(f"{row.operations / 1e6:.0f}", _known(row.peak_percent, ".0f")),
                _known(row.copy_percent, ".0f"),
            )
            for row in rows
        ),
    )
    return _without_lone_variant(grid)


def _without_lone_variant(grid: Grid) -> Grid:
    """The table without its variants where there is one only: a folder's name would take room."""
    place = grid.headings.index("variant")
    if len({row[place] for row in grid.rows}) > 1:
        return grid
    headings, *rows = (row[:place] + row[place + 1 :] for row in (grid.headings, *grid.rows))
    return Grid(grid.title, headings, tuple(rows))


def variant_grid(rows: Sequence[VariantRow]) -> Grid:
    """The whole filter, variant by variant."""
    stages = tuple(stage.name for stage in rows[0].profile.stages)
    return Grid(
        "The whole filter, frame by frame in turn; ms a frame",
        ("variant", "median", "p95", "fps", *stages, "first frame warm, s", "cold, s", "MB"),
        tuple(
            (
                row.variant,
                f"{row.profile.whole.median_ms:.2f}",
                f"{row.profile.whole.p95_ms:.2f}",
                f"{row.profile.fps:.1f}",
                *(f"{stage.median_ms:.2f}" for stage in row.profile.stages),
                _known(row.warm_start_s, ".2f"),
                _known(row.first_frame_s, ".2f"),
                _known(row.peak_mb, ".0f"),
            )
            for row in rows
        ),
    )


def scene_grid(rows: Sequence[SceneRow]) -> Grid:
    """The filter by number of faces and by frame size."""
    grid = Grid(
        "The whole filter by number of faces and by frame size; ms a frame",
        ("frame", "faces", "variant", "median, ms", "p95, ms", "fps"),
        tuple(
            (
                *(row.size, _faces(row), row.variant),
                *(f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.fps:.1f}"),
            )
            for row in rows
        ),
    )
    return _without_lone_variant(grid)


def _faces(row: SceneRow) -> str:
    share = "an eighth of the frame" if row.kind == "faces" else "the whole frame"
    return f"{row.faces}, {'each ' if row.faces > 1 else ''}{share}"


def eager_grid(rows: Sequence[EagerRow]) -> Grid:
    """ONNX Runtime against PyTorch, network by network."""
    return Grid(
        "Networks against PyTorch eager, the same weights, in turns of a few calls; median ms",
        ("network", "PyTorch ran it with", "PyTorch", "ONNX Runtime", "times as fast"),
        tuple(
            (
                *(row.network, row.setting or f"not run: {row.refused}"),
                *(_known(row.torch_ms, ".2f"), _known(row.onnx_runtime_ms, ".2f")),
                _known(row.ratio, ".2f"),
            )
            for row in rows
        ),
    )


def eager_filter_grid(found: EagerFilter) -> Grid:
    """The whole filter in ONNX Runtime and in PyTorch, and what makes up the difference."""
    onnx, torch = found.onnx_runtime, found.torch
    rows = [
        _both("whole filter, median", onnx.whole.median_ms, torch.whole.median_ms),
        _both("whole filter, p95", onnx.whole.p95_ms, torch.whole.p95_ms),
    ]
    stages = zip(onnx.stages, torch.stages, strict=True)
    rows += [_both(f"{one.name}, median", one.median_ms, two.median_ms) for one, two in stages]
    onnx_ms, torch_ms = _mean_ms(onnx), _mean_ms(torch)
    rows.append(_both("whole filter, mean", onnx_ms, torch_ms))
    rows += [
        _both(
            f"{share.network}, mean ({share.calls:.2f} calls a frame; PyTorch: {share.setting})",
            share.onnx_runtime_ms,
            share.torch_ms,
        )
        for share in found.networks
    ]
    onnx_rest = onnx_ms - sum(share.onnx_runtime_ms for share in found.networks)
    torch_rest = torch_ms - sum(share.torch_ms for share in found.networks)
    rows += [
        _both("all but the networks, mean", onnx_rest, torch_rest),
        _both("bound: were ONNX Runtime to take no time", onnx_rest, torch_ms),
    ]
    alike = "the same" if found.decibels is None else f"alike to {found.decibels:.0f} dB or better"
    return Grid(
        f"The whole filter against PyTorch eager, the same weights, frame by frame in turn "
        f"(edited frames {alike}); ms a frame",
        ("", "ONNX Runtime", "PyTorch", "times as fast"),
        tuple(rows),
    )


def _mean_ms(profile: FilterProfile) -> float:
    """Of a frame; none where the clip ends with the warm-up."""
    return 1000 / profile.fps if profile.frames else 0.0


def _both(name: str, onnx_ms: float, torch_ms: float) -> tuple[str, ...]:
    ratio = f"{torch_ms / onnx_ms:.2f}" if onnx_ms > 0 else "-"
    return name, f"{onnx_ms:.2f}", f"{torch_ms:.2f}", ratio


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `mien bench` found; the seconds and megabytes are medians over the runs.

    clip, width, height, clip_frames: what was measured on. machine, cores: where.
    method, variant: of the filter. providers: what really ran each network. ratio: of command_s to
    transcode_s. first_frame_s: from the start of the process. warm_start_s: from opening a filter,
    where another was open before. peaks: of the machine, by provider. networks, eager: each network
    by itself. eager_filter: the whole filter in PyTorch. What was not asked for is empty. in_int8:
    what of the networks ran in INT8 variants.
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
    calls: tuple[CallRow, ...] = ()
    in_int8: tuple[str, ...] = ()


def report_heading(report: BenchReport) -> str:
    """One line on what was measured, and where."""
    networks = ", ".join(sorted(set(report.providers.values())))
    if report.in_int8:
        networks += f" ({', '.join(report.in_int8)} in INT8)"
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
    if report.calls:
        grids.append(call_grid(report.calls))
    if report.scenes:
        grids.append(scene_grid(report.scenes))
    return grids


def command_grid(report: BenchReport) -> Grid:
    """The stages of the filter and the whole command."""
    rows = []
    for stage in (*report.profile.stages, report.profile.whole):
        name = "whole filter" if stage is report.profile.whole else stage.name
        times = f"{stage.median_ms:.2f}", f"{stage.p95_ms:.2f}", _known(stage.cpu_ms, ".2f")
        rows.append((f"{name}, ms a frame", *times))
    for name, value, form in (
        ("filter without codec, fps", report.profile.fps, ".1f"),
        ("whole command, s", report.command_s, ".2f"),
        ("transcode alone, s", report.transcode_s, ".2f"),
        ("command / transcode", report.ratio, ".2f"),
        ("cold: start of the process to first edited frame, s", report.first_frame_s, ".2f"),
        ("warm: opening of the filter to first edited frame, s", report.warm_start_s, ".2f"),
        ("memory at most, MB", report.peak_mb, ".0f"),
    ):
        rows.append((name, "-" if value is None else format(value, form), "", ""))
    for provider, peak in report.peaks.items():
        product = f"{peak.operations_s / 1e9:.0f}"
        rows.append((f"matrix product on {provider}, GFLOP/s", product, "", ""))
    copies = [peak.bytes_s for peak in report.peaks.values() if peak.bytes_s is not None]
    if copies:
        rows.append(("copy in memory by one thread, GB/s", f"{max(copies) / 1e9:.1f}", "", ""))
    return Grid("", ("", "median", "p95", "CPU time, median"), tuple(rows))


def call_grid(rows: Sequence[CallRow]) -> Grid:
    """The dearest functions of the filter."""
    return Grid(
        "The dearest calls by CPU time of their own, what they call left out",
        ("call", "calls a frame", "ms a frame"),
        tuple((row.name, f"{row.calls:.1f}", f"{row.own_ms:.3f}") for row in rows),
    )
