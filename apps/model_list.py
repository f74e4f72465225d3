"""The table of `mien models`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from mien.engines import Catalog, ModelError
from mien.engines.errors import message_of, one_line


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
            size, state = f"{entry.path.stat().st_size / 1e6:.1f} MB", "ok"
        except (ModelError, OSError) as error:  # it may be gone between the two
            size, state, status = "-", message_of(error), 2
        cells = (entry.network, entry.name, size, entry.licence, entry.trained_on, state)
        table.add_row(*map(one_line, cells))
    Console(markup=False).print(table)
    return status
