"""`mien bench`: its options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mien.apps import options
from mien.runtime.spec import DEFAULT_METHOD

Clip = Annotated[
    Path | None,
    typer.Argument(
        metavar="CLIP", help="A video; by default the sample at 720p.", show_default=False
    ),
]
Runs = Annotated[int, typer.Option(min=1, max=1000, help="How often the whole command is timed.")]
Emotion = Annotated[str, typer.Option(metavar=options.EMOTIONS, help="What to edit.")]
Method = Annotated[str, typer.Option(metavar=options.METHODS, help=options.AS_EDIT)]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PROVIDER[:DIR]|torch",
        help="Measure this provider, with the models of DIR, or PyTorch eager, in turn with the "
        "other; may be given again.",
        show_default=False,
    ),
]
Networks = Annotated[
    bool,
    typer.Option(
        "--networks",
        help="Also each network, against the machine's peak and PyTorch where it is there.",
    ),
]
Scaling = Annotated[bool, typer.Option("--scaling", help="Also 1 to 8 faces, and 480p to 2160p.")]
Calls = Annotated[bool, typer.Option("--calls", help="Also the ten calls that take most CPU time.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw it.", show_default=False)]


def bench(
    context: typer.Context,
    clip: Clip = None,
    runs: Runs = 3,
    emotion: Emotion = "happy",
    method: Method = DEFAULT_METHOD,
    provider: options.MeasuredProvider = "cpu",
    precision: options.Precision = "auto",
    models: options.Models = None,
    beside: Beside = None,
    networks: Networks = False,
    scaling: Scaling = False,
    calls: Calls = False,
    as_json: options.AsJson = False,
    as_markdown: options.AsMarkdown = False,
    plot: Plot = None,
) -> None:
    """Measure the filter stage by stage, and the whole command against a plain transcode."""
    from mien.apps.bench.run import BenchOutput, BenchPlan, print_bench
    from mien.apps.bench.variants import Variant
    from mien.runtime.target import parse_goal

    parse_goal(emotion)
    spec = options.filter_spec(
        context, method=method, provider=provider, models=models, precision=precision
    )
    plan = BenchPlan(clip, runs, emotion, spec)
    variants = tuple(Variant.parse(text) for text in beside or ())
    plan = replace(plan, beside=variants, networks=networks, scaling=scaling, calls=calls)
    print_bench(plan, BenchOutput(as_json=as_json, as_markdown=as_markdown, plot=plot))
