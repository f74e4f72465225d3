"""`mien edit`: its options, and the job they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps import options
from mien.apps.options import checked_own, checked_strength
from mien.engines.errors import UsageError
from mien.runtime.methods import method_spec, method_specs
from mien.runtime.spec import DEFAULT_METHOD, FilterSpec

if TYPE_CHECKING:
    from mien.apps.edit.crew import Crew
    from mien.runtime.session import FilterMaker
    from mien.runtime.target import Target, Timeline

MOST_DIGITS = 9  # of a number that is typed

Sources = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IN...",
        help="Videos, pictures (JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP, GIF, JPEG 2000) and "
        "folders of them, or - for standard input; without any a bundled sample is edited.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="The result, or - for standard output; by default IN_happy.mp4 beside IN.",
    ),
]
Emotion = Annotated[
    str | None,
    typer.Option(
        metavar=options.EMOTIONS,
        help="neutral, happy, sad, surprised, fearful, disgusted, angry, contemptuous, "
        "a mix such as happy:0.7+surprised:0.3, or none, which leaves faces as they are.",
    ),
]
Intensity = Annotated[
    float, typer.Option(metavar=options.STRENGTHS, help="How strongly; 1 is the full expression.")
]
Compare = Annotated[bool, typer.Option("--compare", help="Show original and edit side by side.")]
Start = Annotated[
    str | None,
    typer.Option("--from", metavar="T", help="Edit from here: seconds or [HH:]MM:SS."),
]
End = Annotated[
    str | None, typer.Option("--to", metavar="T", help="Edit up to here; the rest stays.")
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        metavar="FILE",
        help="A CSV of time, emotion (or none), intensity, instead of --emotion.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        metavar=options.METHODS,
        help="How: " + "; ".join(f"{name} {spec.help}" for name, spec in method_specs().items()),
    ),
]
Codec = Annotated[
    str | None, typer.Option(help="The video codec; by default that of IN.", metavar="NAME")
]
Quality = Annotated[
    int | None,
    typer.Option(
        metavar="0..100",
        help="Quality of the result; by default 80 for videos, that of IN for pictures.",
        show_default=False,
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="T",
        help="Only make one picture, of this moment: IN_happy_0-05.png, or OUT.",
    ),
]
Container = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The kind of file that videos become: mkv, mp4, mov, webm and others; by default "
        "that of IN, and mkv on standard output.",
        show_default=False,
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", help="Edit what the folders in a folder hold, too.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print which file would become which.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Jobs = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=64,
        help="Edit so many files side by side, or pieces of one long clip, each in a process.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS|local",
        help="Edit the pieces of long clips on a Ray cluster (HOST:PORT), or on one of this "
        "machine alone.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Pass over files whose result is there, and no older than they are."
    ),
]


def edit(
    context: typer.Context,
    sources: Sources = None,
    output: Output = None,
    emotion: Emotion = None,
    prompt: options.Prompt = None,
    intensity: Intensity = 1.0,
    soften: options.Soften = None,
    amplify: options.Amplify = None,
    face: options.Face = "all",
    compare: Compare = False,
    start: Start = None,
    end: End = None,
    at: At = None,
    timeline: TimelineFile = None,
    method: Method = DEFAULT_METHOD,
    codec: Codec = None,
    container: Container = None,
    quality: Quality = None,
    provider: options.Provider = "cpu",
    precision: options.Precision = "auto",
    models: options.Models = None,
    overwrite: Overwrite = False,
    recursive: Recursive = False,
    dry_run: DryRun = False,
    jobs: Jobs = 1,
    ray: Ray = None,
    resume: Resume = False,
    no_marks: options.NoMarks = False,
    as_json: options.AsJson = False,
    max_memory: options.MaxMemory = options.MEMORY,
) -> None:
    """Put another expression on the faces of a video, a picture or a folder of either."""
    # Imported late, so that --help and a mistyped option answer at once.
    from mien.apps.edit.display import JsonDisplay, display_for_terminal
    from mien.apps.edit.inputs import SAMPLE, SAMPLE_STEM, container_suffix
    from mien.apps.edit.job import run_job
    from mien.apps.edit.plan import EditJob
    from mien.apps.edit.standard_streams import run_streamed, uses_streams
    from mien.engines.system.limits import parse_memory

    if resume and overwrite:
        raise UsageError("--resume keeps the results that there are; leave --overwrite out")
    if quality is not None and not 0 <= quality <= 100:
        raise UsageError(f"--quality must lie in 0..100, not {quality}")
    wanted = options.filter_spec(
        context,
        method=method,
        provider=provider,
        models=models,
        face=_face(face),
        precision=precision,
    )
    own = checked_own(soften, amplify)
    otherwise = _otherwise(wanted, is_sample=not sources) if own is None else "none"
    if prompt is None:
        goal = _goal(emotion, timeline, intensity, otherwise=otherwise)
    else:
        goal = _prompted(prompt, wanted.method, intensity, alone=emotion is None is timeline)
    strength = intensity if own is None or goal is not None else 1.0  # of nothing to be told
    section = _time(start, "--from"), _time(end, "--to")
    job = EditJob(
        tuple(sources or [SAMPLE]), goal, output, compare, *section, codec, quality, overwrite
    )
    job = replace(
        job,
        max_memory=parse_memory(max_memory),
        variant=_variant(wanted, strength) + _own_variant(soften, amplify),
        recursive=recursive,
        dry_run=dry_run,
        at_s=_moment(at, start, end, codec),
        container=container_suffix(container, output),
        own=1.0 if own is None else own,
        method=wanted.method,
        is_marked=not no_marks,
        jobs=jobs,
        resumes=resume,
        settings=repr((wanted.options, str(wanted.face))),
        is_for_all=wanted.face == "all",
    )
    if not sources and output is None:
        job = replace(job, output=Path(f"{SAMPLE_STEM}_{job.tag}{job.suffix or SAMPLE.suffix}"))
    make_filter: FilterMaker = context.obj
    display = JsonDisplay() if as_json else display_for_terminal()
    made = partial(make_filter, wanted)
    if uses_streams(job):
        if ray is not None:
            raise UsageError("--ray edits files; - is standard input or output")
        raise typer.Exit(run_streamed(job, made, display))
    if jobs > 1 and job.is_many and ray is None and not dry_run:
        from mien.apps.edit.many_files import run_side_by_side

        raise typer.Exit(run_side_by_side(job, made, display))
    raise typer.Exit(run_job(job, made, display, _crew(ray, jobs, wanted, make_filter)))


def _crew(
    ray: str | None, jobs: int, wanted: FilterSpec, make_filter: FilterMaker
) -> Callable[[], AbstractContextManager[Crew | None]]:
    """What opens those who edit the pieces of long clips."""
    if ray is not None:
        from mien.apps.edit.cluster import ray_crew

        return partial(ray_crew, ray, wanted, make_filter)
    if jobs > 1:
        from mien.apps.edit.crew import local_crew

        return partial(local_crew, jobs, partial(make_filter, wanted))
    return nullcontext


def _variant(wanted: FilterSpec, intensity: float) -> str:
    """What the names of the results say beside the expression, so that no two ways share one."""
    words = ["" if wanted.method == DEFAULT_METHOD else wanted.method]
    order = [option.name for option in method_spec(wanted.method).options]
    told = sorted(wanted.options, key=lambda pair: order.index(pair[0]))
    # A number says by itself nothing: `steps4`, but `cyclegan`.
    words += [
        _slug(value) if isinstance(value, str) else f"{name}{value:g}" for name, value in told
    ]
    words.append("" if intensity == 1 else f"{intensity:g}")
    return "".join(f"_{word}" for word in words if word)


def _slug(text: str) -> str:
    """A text fit for a file name: `smiling:+1,mouth_open:-0.5` is smiling-1-mouth-open-minus0.5."""
    plain = text.lower().replace("+", "").replace(":-", "-minus")
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")


def _otherwise(wanted: FilterSpec, *, is_sample: bool) -> str | None:
    """The expression where none is given: that of the sample, or none beside another edit."""
    alone = method_spec(wanted.method).edits_by
    if any(name in alone and value for name, value in wanted.options):
        return "neutral"
    return "happy" if is_sample else None


def _prompted(prompt: str, method: str, intensity: float, *, alone: bool) -> Target:
    """The target of a prompt; the method says what it means. Raises UsageError."""
    if not alone:
        raise UsageError("give either --prompt, --emotion or --timeline")
    return options.prompted(prompt, method, intensity)


def _own_variant(soften: float | None, amplify: float | None) -> str:
    name, own = ("amplify", amplify) if soften is None else ("soften", soften)
    return "" if own is None or own == 1 else f"_{name}{own:g}"


def _goal(
    emotion: str | None, timeline: Path | None, intensity: float, *, otherwise: str | None
) -> Target | Timeline | None:
    from mien.runtime.target import parse_goal, read_timeline

    strength = checked_strength(intensity)
    if timeline is not None:
        if emotion is not None:
            raise UsageError("give either --emotion or --timeline, not both")
        return read_timeline(timeline, strength)
    wanted = otherwise if emotion is None else emotion
    if wanted is None:
        raise UsageError(
            "which expression? add --emotion happy (or another), --timeline FILE, or --soften 0.5"
        )
    return parse_goal(wanted, strength)


def _face(text: str) -> str | int:
    if text in ("all", "largest"):
        return text
    if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS:
        return int(text)
    raise UsageError(f"--face must be all, largest or a number, not {text[:40]!r}")


def _moment(at: str | None, start: str | None, end: str | None, codec: str | None) -> float | None:
    if at is not None and (start, end, codec) != (None, None, None):
        raise UsageError("--at makes one picture; leave out --from, --to and --codec")
    return _time(at, "--at")


def _time(text: str | None, option: str) -> float | None:
    from mien.runtime.target import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error
