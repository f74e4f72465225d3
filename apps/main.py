"""The `mien` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps.boundary import exit_status
from mien.apps.camera import camera
from mien.apps.settings import FilterMaker, FilterSettings
from mien.apps.signals import raise_on_signals
from mien.engines.errors import UsageError

if TYPE_CHECKING:
    from mien.apps.filter_run import FaceFilter
    from mien.runtime.target import Target
    from mien.runtime.timeline import Timeline

app = typer.Typer(
    name="mien",
    help="Change the expression on a face in videos and pictures.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

evaluate = typer.Typer(help="Measure the methods on data of your own.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
app.command()(camera)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mien {version('mien')}")
        raise typer.Exit


@app.callback()
def mien(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Change the expression on a face in videos and pictures."""


@app.command()
def edit(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="IN",
            help="A video, a picture (JPEG, PNG, WebP) or a folder of them; "
            "without it a bundled sample is edited.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The result; by default IN_happy.mp4 beside IN."
        ),
    ] = None,
    emotion: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|MIX",
            help="neutral, happy, sad, surprised, fearful, disgusted, angry, contemptuous, "
            "or a mix such as happy:0.7+surprised:0.3.",
        ),
    ] = None,
    intensity: Annotated[
        float, typer.Option(metavar="0..1.5", help="How strongly; 1 is the full expression.")
    ] = 1.0,
    face: Annotated[
        str, typer.Option(metavar="all|largest|N", help="Which faces to edit.")
    ] = "all",
    compare: Annotated[
        bool, typer.Option("--compare", help="Show original and edit side by side.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="T", help="Edit from here: seconds or [HH:]MM:SS."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="T", help="Edit up to here; the rest stays.")
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A CSV of time, emotion, intensity, instead of --emotion."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="warp|image|face|parts",
            help="How: warp moves the face's own pixels; the others restyle the picture, the face "
            "or each part of it with a GAN.",
        ),
    ] = "warp",
    gan: Annotated[
        str | None,
        typer.Option(
            metavar="stargan|cyclegan",
            help="The GAN of image, face and parts; by default stargan.",
            show_default=False,
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="field|paste",
            help="How a GAN's picture is put back: its change added to the frame, or the picture "
            "pasted; by default field.",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="The video codec; by default that of IN.", metavar="NAME")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="0..100",
            help="Quality of the result; by default 80 for videos, that of IN for pictures.",
            show_default=False,
        ),
    ] = None,
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="What runs the networks: cpu, cuda, ...")
    ] = "cpu",
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with models of your own.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that exists.")
    ] = False,
) -> None:
    """Put another expression on the faces of a video, a picture or a folder of either."""
    # Imported late, so that --help and a mistyped option answer at once.
    from mien.apps.display import display_for_terminal
    from mien.apps.edit_job import EditJob, run_job
    from mien.apps.inputs import SAMPLE, SAMPLE_STEM

    _check_quality(quality)
    job = EditJob(
        source=SAMPLE if source is None else source,
        goal=_goal(emotion, timeline, intensity, sample=source is None),
        output=output,
        compare=compare,
        start_s=_time(start, "--from"),
        end_s=_time(end, "--to"),
        codec=codec,
        quality=quality,
        overwrite=overwrite,
    )
    if source is None and output is None:
        job = replace(job, output=Path(f"{SAMPLE_STEM}_{job.tag}{SAMPLE.suffix}"))
    settings = FilterSettings(_face(face), provider, models, method, gan, blend)
    make_filter: FilterMaker = context.obj
    status = run_job(job, lambda: make_filter(settings), display_for_terminal())
    raise typer.Exit(status)


@app.command()
def models(
    folder: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", help="A folder with models of your own."),
    ] = None,
) -> None:
    """List the models with their licences, and check their files."""
    from mien.apps.model_list import print_models

    raise typer.Exit(print_models(folder))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def export(context: typer.Context) -> None:
    """Write a PyTorch checkpoint as a model for mien (with the extra mien[export])."""
    from mien.apps.export_run import run_export

    raise typer.Exit(run_export(context.args))


@app.command()
def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An ONNX file, or a network's name: warp, ...")
    ],
    precision: Annotated[str, typer.Option(metavar="fp16|int8", help="Into which precision.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures or clips of faces to measure on; by default the bundled sample.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        str, typer.Option(metavar="cpu|tensorrt", help="What the INT8 model is to run on.")
    ] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The folder for the model, its card and a catalog; by default mien-PRECISION.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with models of your own.")
    ] = None,
) -> None:
    """Write a model in FP16 or INT8, where the edit stays as good (with mien[export])."""
    from mien.calibration.calibrate import CalibratePlan, calibrate

    made = calibrate(CalibratePlan(model, precision, data, rules, output, models))
    typer.echo(made.text)
    if made.path is None:
        raise UsageError(f"{model} was not accepted in {precision}; {made.card} has the numbers")
    typer.echo(f"Wrote {made.path}; use it with --models {made.path.parent}")


@app.command()
def build(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NETWORK...]",
            help="Whose plans; by default the default filter's, all for every model's.",
            show_default=False,
        ),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the plans there are.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Remove plans that are damaged, or of another device or other models."
        ),
    ] = False,
    trust_plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take in a plan from elsewhere, its sidecar beside it. A plan is code: it runs "
            "with your rights.",
        ),
    ] = None,
    device: Annotated[int, typer.Option(metavar="N", min=0, help="Which CUDA device.")] = 0,
    models: Annotated[
        Path | None, typer.Option("--models", metavar="DIR", help="Models of your own.")
    ] = None,
) -> None:
    """Compile the networks for this machine's GPU with TensorRT, ahead of their first use."""
    from mien.apps.build import BuildJob, run_build

    job = BuildJob(tuple(networks or ()), models, device)
    status = run_build(job, show_list=show_list, prune=prune, trust=trust_plan)
    raise typer.Exit(status)


@app.command("export-triton")
def export_triton(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    models: Annotated[
        Path | None, typer.Option("--models", metavar="DIR", help="A folder of your own models.")
    ] = None,
) -> None:
    """Write the default filter as a model repository of Triton Inference Server."""
    from mien.apps.triton_repository import export_triton

    names = export_triton(folder, models)
    typer.echo(f"Wrote {', '.join(names)}; tritonserver --model-repository={folder}")


@app.command()
def doctor(
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", help="A folder with models of your own."),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="The panel's port.")] = 8765,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at what this machine has, and print the line that mends what it lacks."""
    from mien.apps.checks.finding import Machine
    from mien.apps.doctor import print_doctor

    raise typer.Exit(print_doctor(Machine(models=models, port=port), as_json=as_json))


@app.command()
def audit(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL...",
            help="ONNX files, or folders of them; by default the models that come with mien.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that TensorRT takes a graph, without a device (with the extra mien[export])."""
    from mien.apps.audit import print_audit

    raise typer.Exit(print_audit(models or [], as_json=as_json))


@app.command()
def bench(
    clip: Annotated[
        Path | None,
        typer.Argument(
            metavar="CLIP", help="A video; by default the sample at 720p.", show_default=False
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="How often the whole command is timed.")] = 3,
    emotion: Annotated[str, typer.Option(metavar="NAME|MIX", help="What to edit.")] = "happy",
    method: Annotated[
        str, typer.Option(metavar="warp|image|face|parts", help="As of mien edit.")
    ] = "warp",
    gan: Annotated[
        str | None,
        typer.Option(metavar="stargan|cyclegan", help="As of mien edit.", show_default=False),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(metavar="field|paste", help="As of mien edit.", show_default=False),
    ] = None,
    provider: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = "cpu",
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with models of your own.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER[:DIR]",
            help="Measure this provider, with the models of DIR, in turn with the other; "
            "may be given again.",
            show_default=False,
        ),
    ] = None,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks",
            help="Also each network, against the machine's peak and PyTorch where it is there.",
        ),
    ] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also 1 to 8 faces, and 480p to 2160p.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it.", show_default=False)
    ] = None,
) -> None:
    """Measure the filter stage by stage, and the whole command against a plain transcode."""
    from mien.apps.bench import BenchOutput, BenchPlan, print_bench
    from mien.apps.bench_variants import Variant
    from mien.runtime.target import parse_target

    parse_target(emotion)
    plan = BenchPlan(clip, runs, emotion, provider, models, method, gan, blend)
    variants = tuple(Variant.parse(text) for text in beside or ())
    plan = replace(plan, beside=variants, networks=networks, scaling=scaling)
    print_bench(plan, BenchOutput(as_json=as_json, as_markdown=as_markdown, plot=plot))


@evaluate.command()
def smile(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder with faces160 and FER-2013.")
    ],
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another emotion classifier, as ONNX."),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An Inception with 2,048 features, as ONNX, for the FID; without it the "
            "distance is taken over the classifier's features.",
        ),
    ] = None,
    inception_range: Annotated[
        str | None,
        typer.Option(metavar="LOW..HIGH", help="What its black and white are, such as -1..1."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pictures of each emotion.")] = 2048,
    blend: Annotated[str, typer.Option(metavar="field|paste|both", help="How to blend.")] = "both",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="Pictures edited at once; by default as many as there are cores.",
            show_default=False,
        ),
    ] = None,
    provider: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = "cpu",
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with models of your own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Measure the methods of "Let's put a smile on your face" as its tables 1 and 2 do."""
    from mien.apps.evaluate import print_smile, smile_plan

    plan = smile_plan(data, blend=blend, inception=inception, inception_range=inception_range)
    plan = replace(plan, classifier=classifier, count=count, provider=provider, models=models)
    if workers is not None:
        plan = replace(plan, workers=workers)
    print_smile(plan, as_json=as_json, as_markdown=as_markdown)


def _goal(
    emotion: str | None, timeline: Path | None, intensity: float, *, sample: bool
) -> Target | Timeline:
    from mien.runtime.target import MAX_STRENGTH, parse_target
    from mien.runtime.timeline import read_timeline

    if not 0 <= intensity <= MAX_STRENGTH:
        raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {intensity:g}")
    if timeline is not None:
        if emotion is not None:
            raise UsageError("give either --emotion or --timeline, not both")
        return read_timeline(timeline, intensity)
    if emotion is None and not sample:
        raise UsageError("which expression? add --emotion happy (or another), or --timeline FILE")
    return parse_target(emotion or "happy", intensity)


def _face(text: str) -> str | int:
    if text in ("all", "largest"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(f"--face must be all, largest or a number, not {text!r}")


def _check_quality(quality: int | None) -> None:
    if quality is not None and not 0 <= quality <= 100:
        raise UsageError(f"--quality must lie in 0..100, not {quality}")


def _time(text: str | None, option: str) -> float | None:
    from mien.runtime.timeline import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def open_filter(settings: FilterSettings) -> FaceFilter:
    """The filter of `mien.runtime`, with its networks loaded; says what `auto` chose."""
    from mien.engines.providers import AUTO
    from mien.runtime.filter import Filter

    opened = Filter(
        None,
        method=settings.method,
        gan=settings.gan,
        blend=settings.blend,
        face=settings.face,
        provider=settings.provider,
        models=settings.models,
    )
    if settings.provider.lower() == AUTO:
        where = ", ".join(sorted(set(opened.providers.values())))
        typer.echo(f"mien: auto runs the networks on {where}", err=True)
    return opened


def run(arguments: Sequence[str], make_filter: FilterMaker = open_filter) -> int:
    """The exit status of a command line; every error is one line on standard error."""
    return exit_status(
        lambda: app(list(arguments), prog_name="mien", standalone_mode=False, obj=make_filter)
    )


def main() -> None:
    """The entry point of `mien`."""
    raise_on_signals()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
