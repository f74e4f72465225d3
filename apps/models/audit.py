"""The table of `mien audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.apps.boundary import EXIT_ERROR
from mien.calibration.audit.finding import VERSIONS, Finding, Report
from mien.calibration.audit.guard import audit_guarded, onnx_files
from mien.engines.catalog import BUNDLED_FOLDER
from mien.engines.errors import one_line

COLOURS = {"error": "red", "note": "yellow"}
SHOWN_NODES = 3


def print_audit(models: Sequence[Path], *, as_json: bool) -> int:
    """The exit status, 2 where a model has an error; prints what was found in each.

    models: files, or folders of them; those that come with mien where there are none.

    Raises UsageError.
    """
    reports = [audit_guarded(path) for path in onnx_files(models or [BUNDLED_FOLDER])]
    clean = all(report.is_clean for report in reports)
    if as_json:
        stated = [report.to_json() for report in reports]
        whole = {"clean": clean, "tensorrt": list(VERSIONS), "models": stated}
        typer.echo(json.dumps(whole, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(reports), soft_wrap=False)
        for report in reports:
            for found in report.findings:
                _print_finding(console, report, found)
    return 0 if clean else EXIT_ERROR


def _table(reports: Sequence[Report]) -> Table:
    table = Table(box=None)
    for heading in ("model", "network"):
        table.add_column(heading, no_wrap=True)
    versions = [f"TRT {version}" for version in VERSIONS]
    for heading in ("nodes", "opset", *versions, "errors", "notes"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        table.add_row(
            Text(one_line(Path(report.path).name)),
            Text(report.network or "-"),
            str(report.nodes or "-"),
            str(report.opset or "-"),
            *(_verdict(report, version) for version in VERSIONS),
            str(_count(report, "error")),
            str(_count(report, "note")),
        )
    return table


def _verdict(report: Report, version: str) -> Text:
    against = any(
        found.severity == "error" and (not found.versions or version in found.versions)
        for found in report.findings
    )
    return Text("no", "red") if against else Text("ok", "green")


def _count(report: Report, severity: str) -> int:
    return sum(found.severity == severity for found in report.findings)


def _print_finding(console: Console, report: Report, found: Finding) -> None:
    line = Text.assemble(
        (f"{found.severity:5}", COLOURS[found.severity]),
        f"  {one_line(Path(report.path).name)}, {found.rule}: {found.text}{_where(found)}",
    )
    console.print(line)
    if found.fix:
        console.print(Text(f"       -> {found.fix}"))


def _where(found: Finding) -> str:
    """Which versions and nodes it is about, in brackets."""
    parts = [f"TensorRT {' and '.join(found.versions)}"] if found.versions else []
    if found.nodes:
        more = len(found.nodes) - SHOWN_NODES
        shown = ", ".join(found.nodes[:SHOWN_NODES])
        parts.append(f"{shown} and {more} more" if more > 0 else shown)
    return f" ({'; '.join(parts)})" if parts else ""
