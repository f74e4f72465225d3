"""`mien evaluate`: measures on data of one's own, its progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps import options
from mien.engines.errors import UsageError, plain_lines
from mien.runtime.methods.gan import BLENDS

if TYPE_CHECKING:
    from mien.calibration.smile.tables import SmilePlan

STEP_S = 0.5  # between two looks of the progress on a terminal


class StepProgress:
    """Says on standard error what is being done: a line for each step, a count on a terminal."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._what = ""
        self._told_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` pictures of the step `what` are done."""
        if what != self._what:
            typer.echo(("\n" if self._what and self._on_terminal else "") + what, err=True)
            self._what = what
        now = time.monotonic()
        if self._on_terminal and now - self._told_s > STEP_S:
            self._told_s = now
            typer.echo(f"\r{done}/{total}", err=True, nl=False)

    def end(self) -> None:
        """End the last line."""
        if self._what and self._on_terminal:
            typer.echo("", err=True)


def smile_plan(
    data: Path, *, blend: str, inception: Path | None, inception_range: str | None
) -> SmilePlan:
    """The plan of these options. Raises UsageError."""
    from mien.calibration.judges.features import InputRange
    from mien.calibration.smile.tables import SmilePlan
    from mien.calibration.tables.machine import available_cores

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
    """Measure, and print the parts paper's tables with mien's numbers. Raises MienError."""
    if as_json and as_markdown:
        raise UsageError("give either --json or --markdown, not both")
    from mien.calibration.smile.report import json_report, markdown_report, text_report
    from mien.calibration.smile.tables import measure_smile

    progress = StepProgress()
    try:
        report = measure_smile(plan, progress)
    finally:
        progress.end()
    if as_json:
        typer.echo(json.dumps(json_report(report), indent=1))
    else:
        typer.echo(plain_lines(markdown_report(report) if as_markdown else text_report(report)))


evaluate = typer.Typer(help="Measure the methods on data of your own.")

Data = Annotated[Path, typer.Option(metavar="DIR", help="The folder with faces160 and FER-2013.")]
Classifier = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Another emotion classifier, as ONNX.")
]
Inception = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="An Inception with 2,048 features, as ONNX, for the FID; without it the "
        "distance is taken over the classifier's features.",
    ),
]
InceptionRange = Annotated[
    str | None,
    typer.Option(metavar="LOW..HIGH", help="What its black and white are, such as -1..1."),
]
Count = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="How many pictures of each emotion.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=64,
        metavar="N",
        help="Pictures edited at once; by default as many as there are cores.",
        show_default=False,
    ),
]
Blend = Annotated[str, typer.Option(metavar=f"{'|'.join(BLENDS)}|both", help="How to blend.")]


@evaluate.callback(invoke_without_command=True)
def help_alone(context: typer.Context) -> None:
    """Measure the methods on data of your own."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@evaluate.command()
def text(
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A CSV of captions that the model has not seen, with the columns caption, group, "
            "picture; without it the emotion words alone are measured.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Faces for each emotion.")] = 32,
    most: Annotated[int, typer.Option(min=1, help="How many captions at most.")] = 30_000,
    seed: Annotated[int, typer.Option(min=0, max=10_000, help="Which faces are drawn.")] = 0,
    ranked: Annotated[
        int, typer.Option(min=1, max=64, help="Take the best of so many; the paper takes one.")
    ] = 1,
    inception: Inception = None,
    inception_range: InceptionRange = None,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure faces from text as Table 4 of the FaceCLIP paper does, and the emotion words."""
    from mien.calibration.judges.features import InputRange
    from mien.calibration.text.evaluate import TextPlan, json_report, measure_text, text_lines
    from mien.engines.catalog import Catalog

    if inception_range is not None and inception is None:
        raise UsageError("--inception-range needs --inception FILE")
    folder = options.folders(models)
    plan = TextPlan(
        Catalog.bundled() if folder is None else Catalog.load(folder),
        captions=captions,
        count=count,
        most=most,
        seed=seed,
        ranked=ranked,
        provider=provider,
        inception=inception,
        inception_range=None if inception_range is None else InputRange.parse(inception_range),
    )
    progress = StepProgress()
    try:
        report = measure_text(plan, progress)
    finally:
        progress.end()
    typer.echo(json.dumps(json_report(report), indent=1) if as_json else text_lines(report))


@evaluate.command()
def smile(
    data: Data,
    classifier: Classifier = None,
    inception: Inception = None,
    inception_range: InceptionRange = None,
    count: Count = 2048,
    blend: Blend = "both",
    workers: Workers = None,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
    as_json: options.AsJson = False,
    as_markdown: options.AsMarkdown = False,
) -> None:
    """Measure the methods of "Let's put a smile on your face" as its tables 1 and 2 do."""
    plan = smile_plan(data, blend=blend, inception=inception, inception_range=inception_range)
    plan = replace(plan, classifier=classifier, count=count, provider=provider)
    plan = replace(plan, models=options.folders(models))
    if workers is not None:
        plan = replace(plan, workers=workers)
    print_smile(plan, as_json=as_json, as_markdown=as_markdown)
