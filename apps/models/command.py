"""`mien models`, `export`, `calibrate`, `audit` and `export-triton`.

The export needs PyTorch, which a command never imports, so it runs in a process beside it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mien.apps import options
from mien.engines import Catalog
from mien.engines.errors import ModelError, UsageError, message_of, one_line, plain_lines
from mien.engines.system.process import module_command


def print_models(folder: Path | None) -> int:
    """The exit status, 2 where a file is missing or damaged; prints one row for each model."""
    from rich.console import Console
    from rich.table import Table

    catalog = Catalog.bundled() if folder is None else Catalog.load(folder)
    table = Table(box=None)
    for heading in ("network", "model", "size", "licence", "trained on", "file"):
        table.add_column(heading, overflow="fold")
    status = 0
    for entry in (*catalog.entries, *catalog.in_int8().int8):
        try:
            entry.check_file()
            size, state = f"{entry.path.stat().st_size / 1e6:.1f} MB", "ok"
        except (ModelError, OSError) as error:  # it may be gone between the two
            size, state, status = "-", message_of(error), 2
        cells = (entry.network, entry.name, size, entry.licence, entry.trained_on, state)
        table.add_row(*map(one_line, cells))
    Console(markup=False).print(table)
    return status


def run_export(arguments: Sequence[str]) -> int:
    """The exit status of `python -m mien.export`, which prints for itself. Raises ModelError."""
    status = subprocess.run(module_command("mien.export", arguments), check=False)
    if status.returncode < 0:
        raise ModelError(
            f"the export was ended from outside (signal {-status.returncode}), as when memory "
            "runs out; try a smaller --size or --batch"
        )
    return status.returncode


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="An ONNX file, or a network's name: warp, ...")
]
Precision = Annotated[str, typer.Option(metavar="fp16|int8", help="Into which precision.")]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Pictures or clips of faces to measure on; by default the bundled sample.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a model that exists.")]
Rules = Annotated[
    str, typer.Option(metavar="cpu|tensorrt", help="What the INT8 model is to run on.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="The folder for the model, its card and a catalog; by default mien-PRECISION.",
        show_default=False,
    ),
]
AuditedModels = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="MODEL...",
        help="ONNX files, or folders of them; by default the models that come with mien.",
        show_default=False,
    ),
]


def models(folder: options.Models = None) -> None:
    """List the models with their licences, and check their files."""
    raise typer.Exit(print_models(options.folders(folder)))


def export(context: typer.Context) -> None:
    """Write a PyTorch checkpoint as a model for mien (with the extra export)."""
    raise typer.Exit(run_export(context.args))


def calibrate(
    model: Model,
    precision: Precision,
    data: Data = None,
    rules: Rules = "cpu",
    output: Output = None,
    models: options.Models = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model in FP16 or INT8, where the edit stays as good (with the package onnx)."""
    from mien.calibration.precision.calibrate import CalibratePlan, calibrate

    own = options.folders(models)
    with _told_on_a_terminal(f"calibrating {model} in {precision}"):
        made = calibrate(CalibratePlan(model, precision, data, rules, output, own, overwrite))
    typer.echo(plain_lines(made.text))
    if made.path is None:
        raise UsageError(f"{model} was not accepted in {precision}; {made.card} has the numbers")
    typer.echo(one_line(f"Wrote {made.path}; use it with --models {made.path.parent}"))


def audit(models: AuditedModels = None, as_json: options.AsJson = False) -> None:
    """Check that TensorRT takes a graph, without a device (with the package onnx)."""
    from mien.apps.models.audit import print_audit

    raise typer.Exit(print_audit(models or [], as_json=as_json))


def export_triton(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    models: options.Models = None,
) -> None:
    """Write the default filter as a model repository of Triton Inference Server."""
    from mien.apps.models.triton import LEFT_OUT, export_triton

    names = export_triton(folder, options.folders(models))
    server = f"ORT_DISABLE_TELEMETRY=1 tritonserver --model-repository={folder}"
    typer.echo(one_line(f"Wrote {', '.join(names)}; {server}"))
    typer.echo(f"Left out: {LEFT_OUT}")


@contextmanager
def _told_on_a_terminal(what: str) -> Iterator[None]:
    """A context that shows on a terminal's standard error what is done, and for how long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(one_line(what), total=None)
        yield
