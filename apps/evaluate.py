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
from mien.apps.boundary import Commands
from mien.engines.errors import UsageError, plain_lines
from mien.runtime.methods.gan import BLENDS

if TYPE_CHECKING:
    from mien.calibration.diffusion.table1 import DiffusionPlan
    from mien.calibration.judges.independent import Others
    from mien.calibration.latent.directions import DirectionsPlan
    from mien.calibration.latent.emm import EmmPlan
    from mien.calibration.latent.measures import OwnNetworks
    from mien.calibration.smile.tables import SmilePlan

AS_EDIT = "As of mien edit, where a network leaves the choice."
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


def print_emm(plan: EmmPlan, *, as_json: bool) -> None:
    """Measure, and print the mapper paper's Table 1 with mien's numbers. Raises MienError."""
    from mien.calibration.latent.emm import json_report, measure_emm, text_report

    progress = StepProgress()
    try:
        report = measure_emm(plan, progress)
    finally:
        progress.end()
    typer.echo(json.dumps(json_report(report), indent=1) if as_json else text_report(report))


def print_directions(plan: DirectionsPlan, *, as_json: bool) -> None:
    """Measure, and print the landmark paper's Tables I to V. Raises MienError."""
    from mien.calibration.latent.directions import json_report, measure_directions, text_report

    progress = StepProgress()
    try:
        report = measure_directions(plan, progress)
    finally:
        progress.end()
    typer.echo(json.dumps(json_report(report), indent=1) if as_json else text_report(report))


def own_networks(
    inception: Path | None, inception_range: str | None, *, others: dict[str, Path | None]
) -> OwnNetworks:
    """The user's own networks of these options. Raises UsageError."""
    from mien.calibration.judges.features import InputRange
    from mien.calibration.latent.measures import OwnNetworks

    if inception_range is not None and inception is None:
        raise UsageError("--inception-range needs --inception FILE")
    parsed = None if inception_range is None else InputRange.parse(inception_range)
    return OwnNetworks(inception=inception, inception_range=parsed, **others)


evaluate = Commands(help="Measure the methods on data of your own.")

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
Faces = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many faces, at most.")]
Source = Annotated[str, typer.Option(metavar="EMOTION", help="What the edited faces show.")]
Lpips = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="LPIPS, as ONNX: two pictures to a distance."),
]
Identity = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="An identity network such as ArcFace, as ONNX."),
]
ActionUnits = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A picture to intensities of action units, as ONNX."),
]
Baseline = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Directions trained without HFLD, to compare with."),
]
Drawn = Annotated[
    bool, typer.Option("--drawn", help="Faces that the prior draws, instead of held-out people.")
]
Blend = Annotated[str, typer.Option(metavar=f"{'|'.join(BLENDS)}|both", help="How to blend.")]


@evaluate.callback(invoke_without_command=True)
def help_alone(context: typer.Context) -> None:
    """Measure the methods on data of your own."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


JudgesCode = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A second classifier and an identity of other origin: a Python file "
        "(calibration/judges/independent_worker.py says what it holds).",
        show_default=False,
    ),
]
JudgesRoot = Annotated[
    Path | None,
    typer.Option("--judges", metavar="ROOT", help="The folder of its weights.", show_default=False),
]
JudgesPython = Annotated[
    Path | None,
    typer.Option(metavar="PYTHON", help="Of an environment with torch.", show_default=False),
]


def others_of(code: Path | None, root: Path | None, python: Path | None) -> Others | None:
    """The networks of other origin that the options name. Raises UsageError."""
    from mien.calibration.judges.independent import Others
    from mien.engines.system.process import this_python

    if code is None and root is None:
        return None
    if code is None or root is None:
        raise UsageError("give both --judges-code FILE and --judges ROOT, or neither")
    return Others(python or Path(this_python()), code, root)


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
    judges_code: JudgesCode = None,
    judges: JudgesRoot = None,
    judges_python: JudgesPython = None,
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
        others=others_of(judges_code, judges, judges_python),
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


@evaluate.command()
def emm(
    data: Data,
    source: Source = "neutral",
    count: Faces = 60,
    classifier: Classifier = None,
    inception: Inception = None,
    inception_range: InceptionRange = None,
    lpips: Lpips = None,
    identity: Identity = None,
    action_units: ActionUnits = None,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure the emotion mapper (--method emm) by the seven measures of its paper."""
    from mien.calibration.latent.emm import EmmPlan

    others = {"classifier": classifier, "lpips": lpips, "identity": identity}
    others["action_units"] = action_units
    own = own_networks(inception, inception_range, others=others)
    plan = EmmPlan(data, source, count, own, options.folders(models), provider)
    print_emm(plan, as_json=as_json)


@evaluate.command()
def directions(
    data: Data,
    count: Faces = 200,
    baseline: Baseline = None,
    classifier: Classifier = None,
    drawn: Drawn = False,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure attribute directions (--method directions) as Tables I to V of their paper do."""
    from mien.calibration.latent.directions import DirectionsPlan

    plan = DirectionsPlan(
        data, count, baseline, classifier, drawn, options.folders(models), provider
    )
    print_directions(plan, as_json=as_json)


Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="label|cnn|vae|latent",
        help="Only this condition; may be given again. By default all there are.",
        show_default=False,
    ),
]
Each = Annotated[int, typer.Option(min=1, max=1000, help="How many pictures of each emotion.")]
Split = Annotated[str, typer.Option(metavar="public|private", help="Which pictures of FER-2013.")]
Steps = Annotated[int | None, typer.Option(metavar="1..999", help=AS_EDIT, show_default=False)]
Guidance = Annotated[float | None, typer.Option(metavar="X", help=AS_EDIT, show_default=False)]
Noise = Annotated[float | None, typer.Option(metavar="X", help=AS_EDIT, show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise that faces are made from.")]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="A network that embeds people, as ONNX; without one the classifier's features, which "
        "say less.",
        show_default=False,
    ),
]
IdentityRange = Annotated[
    str | None,
    typer.Option(metavar="LOW..HIGH", help="What its black and white are; by default 0..1."),
]


@evaluate.command()
def diffusion(
    data: Data,
    condition: Conditions = None,
    each: Each = 5,
    split: Split = "public",
    steps: Steps = None,
    guidance: Guidance = None,
    noise: Noise = None,
    seed: Seed = 0,
    classifier: Classifier = None,
    identity: IdentityFile = None,
    identity_range: IdentityRange = None,
    judges_code: JudgesCode = None,
    judges: JudgesRoot = None,
    judges_python: JudgesPython = None,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
    as_json: options.AsJson = False,
    as_markdown: options.AsMarkdown = False,
) -> None:
    """Measure the diffusion models as Table 1 of their paper does, and whether faces stay."""
    from mien.calibration.diffusion.table1 import DiffusionPlan
    from mien.calibration.judges.features import InputRange
    from mien.runtime.methods.diffusion.sampler import EDIT_SIGMA, SamplerOptions

    others = others_of(judges_code, judges, judges_python)
    start = EDIT_SIGMA if noise is None else noise
    plan = DiffusionPlan(
        data,
        options.folders(models),
        provider,
        tuple(condition or ()),
        each,
        split,
        SamplerOptions(steps, guidance, seed, start),
    )
    parsed = None if identity_range is None else InputRange.parse(identity_range)
    plan = replace(plan, classifier=classifier, identity=identity, identity_range=parsed)
    plan = replace(plan, others=others)
    print_diffusion(plan, as_json=as_json, as_markdown=as_markdown)


def print_diffusion(plan: DiffusionPlan, *, as_json: bool, as_markdown: bool) -> None:
    """Measure, and print the diffusion paper's Table 1. Raises MienError."""
    if as_json and as_markdown:
        raise UsageError("give either --json or --markdown, not both")
    from mien.calibration.diffusion.table1 import measure_diffusion
    from mien.calibration.smile.report import plain
    from mien.calibration.tables.table import markdown

    progress = StepProgress()
    try:
        report = measure_diffusion(plan, progress)
    finally:
        progress.end()
    if as_json:
        typer.echo(json.dumps(report.json(), indent=1))
    else:
        table = (markdown if as_markdown else plain)(*report.table())
        typer.echo(plain_lines(f"{table}\n\n{report.notes()}"))
