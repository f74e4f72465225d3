"""The table of `mien models`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from mien.engines import Catalog, ModelError


def print_models(folder: Path | None) -> int:
    """The exit status, 2 where a file is missing or damaged; prints one row for each model."""
    catalog = Catalog.bundled() if folder is None else Catalog.load(folder)
    table = Table(box=None)
    for heading in ("network", "model", "size", "licence", "trained on", "file"):
        table.add_column(heading, overflow="fold")
    status = 0
    for entry in catalog.entries:
        try:
            entry.check_file()
            state = "ok"
        except ModelError as error:
            state, status = str(error), 2
        size = f"{entry.path.stat().st_size / 1e6:.1f} MB" if entry.path.exists() else "-"
        table.add_row(entry.network, entry.name, size, entry.licence, entry.trained_on, state)
    Console(markup=False).print(table)
    return status
