"""The tables of `mien bench`, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from mien.apps.bench_eager import EagerRow
from mien.apps.bench_variants import NetworkRow, SceneRow, VariantRow


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
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """As Markdown, its title above it."""
        lines = [self.title, ""] if self.title else []
        lines += [_line(self.headings), _line(["---"] * len(self.headings))]
        return "\n".join([*lines, *(_line(row) for row in self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def network_grid(rows: Sequence[NetworkRow]) -> Grid:
    """The networks, variant by variant."""
    return Grid(
        "Networks, call by call in turn",
        (
            *("network", "variant", "ran on", "median, ms", "p95, ms", "a second", "MFLOP"),
            *("% of product", "% of copy"),
        ),
        tuple(
            (
                *(row.network, row.variant, row.provider),
                *(f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.per_s:.0f}"),
                *(f"{row.operations / 1e6:.0f}", _known(row.peak_percent, ".0f")),
                _known(row.copy_percent, ".0f"),
            )
            for row in rows
        ),
    )


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
    return Grid(
        "The whole filter by faces (of one size each) and by frame size (one face that fills it)",
        ("scene", "faces", "variant", "median, ms", "p95, ms", "fps"),
        tuple(
            (
                *(row.size, str(row.faces), row.variant),
                *(f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.fps:.1f}"),
            )
            for row in rows
        ),
    )


def eager_grid(rows: Sequence[EagerRow]) -> Grid:
    """ONNX Runtime against PyTorch."""
    return Grid(
        "Against PyTorch eager, the same weights and as many threads, call by call in turn",
        ("network", "PyTorch, ms", "ONNX Runtime, ms", "times as fast"),
        tuple(
            (row.network, f"{row.torch_ms:.2f}", f"{row.onnx_runtime_ms:.2f}", f"{row.ratio:.2f}")
            for row in rows
        ),
    )


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
