"""`mien evaluate`: measures on data of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mien.apps.commands import options

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
Blend = Annotated[str, typer.Option(metavar=f"{options.BLENDS}|both", help="How to blend.")]


@evaluate.callback(invoke_without_command=True)
def help_alone(context: typer.Context) -> None:
    """Measure the methods on data of your own."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
    from mien.apps.evaluate import print_smile, smile_plan

    plan = smile_plan(data, blend=blend, inception=inception, inception_range=inception_range)
    plan = replace(plan, classifier=classifier, count=count, provider=provider)
    plan = replace(plan, models=options.folders(models))
    if workers is not None:
        plan = replace(plan, workers=workers)
    print_smile(plan, as_json=as_json, as_markdown=as_markdown)
