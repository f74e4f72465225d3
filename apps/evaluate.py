"""The measuring commands: progress on standard error, the result on standard output."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import typer

from mien.calibration.features import InputRange
from mien.calibration.machine import available_cores
from mien.calibration.smile_report import json_report, markdown_report, text_report
from mien.calibration.smile_tables import SmilePlan, measure_smile
from mien.engines.errors import UsageError, plain_lines
from mien.runtime.methods.gan.method import BLENDS

STEP_S = 0.5  # between two looks of the progress on a terminal


class StepProgress:
    """Says on standard error what is being done: a line for each step, a count on a terminal."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._what = ""
        self._told_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Nothing; `done` of `total` pictures of the step `what` are done."""
        if what != self._what:
            typer.echo(("\n" if self._what and self._on_terminal else "") + what, err=True)
            self._what = what
        now = time.monotonic()
        if self._on_terminal and now - self._told_s > STEP_S:
            self._told_s = now
            typer.echo(f"\r{done}/{total}", err=True, nl=False)

    def end(self) -> None:
        """Nothing; ends the last line."""
        if self._what and self._on_terminal:
            typer.echo("", err=True)


def smile_plan(
    data: Path, *, blend: str, inception: Path | None, inception_range: str | None
) -> SmilePlan:
    """The plan of these options. Raises UsageError."""
    blends = BLENDS if blend == "both" else (blend,)
    if not set(blends) <= set(BLENDS):
        raise UsageError(f"--blend must be {', '.join(BLENDS)} or both, not {blend!r}")
    if inception_range is not None and inception is None:
        raise UsageError("--inception-range needs --inception FILE")
    parsed = None if inception_range is None else InputRange.parse(inception_range)
    return SmilePlan(
        data,
        inception=inception,
        inception_range=parsed,
        blends=blends,
        workers=available_cores(),
    )


def print_smile(plan: SmilePlan, *, as_json: bool, as_markdown: bool) -> None:
    """Prints the parts paper's tables with mien's numbers. Raises MienError."""
    if as_json and as_markdown:
        raise UsageError("give either --json or --markdown, not both")
    progress = StepProgress()
    try:
        report = measure_smile(plan, progress)
    finally:
        progress.end()
    if as_json:
        typer.echo(json.dumps(json_report(report), indent=1))
    else:
        typer.echo(plain_lines(markdown_report(report) if as_markdown else text_report(report)))
