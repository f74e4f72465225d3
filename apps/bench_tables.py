"""The tables of `mien bench`, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from mien.apps.bench_eager import EagerFilter, EagerRow
from mien.apps.bench_networks import NetworkRow, ran_on
from mien.apps.bench_variants import SceneRow, VariantRow
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
