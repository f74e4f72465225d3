"""`mien bench`: the filter stage by stage, and the whole command against a plain transcode."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import typer
from rich.console import Console

from mien.apps.bench.calls import dearest_calls
from mien.apps.bench.eager import EagerFilter, eager_filter, eager_rows
from mien.apps.bench.networks import NETWORK_SECONDS, measure_networks
from mien.apps.bench.plan import BenchOutput, BenchPlan
from mien.apps.bench.plot import bench_chart
from mien.apps.bench.report import BenchReport, report_grids, report_heading
from mien.apps.bench.variants import (
    FilterOpener,
    VariantRow,
    measure_scenes,
    profile_variants,
    warm_start_s,
    write_bench_clip,
)
from mien.apps.edit.inputs import SAMPLE
from mien.engines.errors import MienError, UsageError
from mien.engines.system.folders import private_folder
from mien.engines.system.partial_file import PartialFile, remove_leftovers
from mien.engines.system.process import module_command
from mien.runtime.pictures.picture import is_picture
from mien.runtime.profile import decoded_first, profile_filter
from mien.runtime.video import VideoInfo, probe, read_frames

__all__ = ["BenchOutput", "BenchPlan", "measure", "print_bench"]


@dataclass(frozen=True, slots=True)
class CommandTimes:
    """One process: seconds from its start to its end and to its first edited frame, and memory."""

    wall_s: float
    first_frame_s: float | None
    peak_mb: float | None


def print_bench(plan: BenchPlan, output: BenchOutput) -> None:
    """Measure, and print tables, JSON or Markdown. Raises MienError."""
    output.check()
    report = measure(plan)
    if output.plot is not None:
        remove_leftovers(output.plot.parent)
        with PartialFile(output.plot) as part:  # what was measured is kept, whatever has the name
            part.write(bench_chart(report))
            part.publish()
    if output.as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
        return
    grids = report_grids(report)
    if output.as_markdown:
        typer.echo("\n\n".join([report_heading(report), *(grid.markdown() for grid in grids)]))
        return
    console = Console(markup=False)  # names of clips and folders may have brackets
    console.print(report_heading(report), highlight=False, soft_wrap=True)
    for grid in grids:
        console.print(grid.rich())


def measure(plan: BenchPlan) -> BenchReport:
    """The measurements of a plan. Raises MienError."""
    if plan.clip is not None and is_picture(plan.clip):
        raise UsageError(f"{plan.clip} is a picture; give a video to measure on")
    against_torch = plan.against_torch
    for variant in plan.variants:  # what does not open is reported before anything is timed
        plan.of(variant).open_filter().close()
    with private_folder() as folder:
        clip = plan.clip
        if clip is None:
            clip = folder / "sample-720p.mp4"
            write_bench_clip(SAMPLE, clip)
        info = probe(clip)
        # first, for it may be that PyTorch is missing
        in_torch = _measure_in_torch(plan, clip) if against_torch else None
        report = _measure_filter(plan, clip, info, folder)
    return _with_more(plan, replace(report, eager_filter=in_torch))


def _measure_filter(plan: BenchPlan, clip: Path, info: VideoInfo, folder: Path) -> BenchReport:
    """The filter and the whole command. folder: for what the command writes."""
    edits, transcodes = _time_commands(plan, clip, folder / f"out{clip.suffix}")
    with plan.open_filter() as face_filter:
        profile = profile_filter(face_filter, decoded_first(read_frames(clip)))
        providers, in_int8 = dict(face_filter.providers), face_filter.in_int8
        face_filter.reset()
        calls = dearest_calls(face_filter, decoded_first(read_frames(clip))) if plan.calls else ()
    first_frame = next(iter(read_frames(clip)))
    warm_s = warm_start_s(plan.variants[0], _opener(plan), first_frame)
    variants = _measure_variants(plan, clip, edits) if len(plan.variants) > 1 else ()
    command_s = statistics.median(times.wall_s for times in edits)
    transcode_s = statistics.median(times.wall_s for times in transcodes)
    return BenchReport(
        clip=clip.name,
        width=info.width,
        height=info.height,
        clip_frames=info.frames or profile.frames,
        machine=machine_name(),
        cores=usable_cores(),
        method=plan.method_name,
        variant=plan.variants[0].name,
        providers=providers,
        profile=profile,
        runs=plan.runs,
        command_s=command_s,
        transcode_s=transcode_s,
        ratio=command_s / transcode_s,
        first_frame_s=_median([times.first_frame_s for times in edits]),
        warm_start_s=warm_s,
        peak_mb=_median([times.peak_mb for times in edits]),
        variants=variants,
        calls=calls,
        in_int8=in_int8,
    )


def _time_commands(
    plan: BenchPlan, clip: Path, output: Path
) -> tuple[list[CommandTimes], list[CommandTimes]]:
    """The edits and the plain transcodes, in turn."""
    edit = ["edit", str(clip), "-o", str(output), "--overwrite", *plan.edit_options()]
    edits, transcodes = [], []
    for _ in range(plan.runs):
        edits.append(time_command(edit))
        output.unlink()
        transcodes.append(time_command(["transcode", str(clip), str(output)]))
        output.unlink()
    return edits, transcodes


def _measure_in_torch(plan: BenchPlan, clip: Path) -> EagerFilter:
    return eager_filter(clip, plan.filter_options(), usable_cores())


def _measure_variants(
    plan: BenchPlan, clip: Path, edits: list[CommandTimes]
) -> tuple[VariantRow, ...]:
    """The whole filter in every variant. edits: the times of the first one's command."""
    profiles = profile_variants(plan.variants, _opener(plan), decoded_first(read_frames(clip)))
    first_frame = next(iter(read_frames(clip)))
    rows: list[VariantRow] = []
    for variant, profile in zip(plan.variants, profiles, strict=True):
        times = edits[-1] if not rows else _time_edit(plan.of(variant), clip)
        warm_s = warm_start_s(variant, _opener(plan), first_frame)
        rows.append(VariantRow(variant.name, profile, warm_s, times.first_frame_s, times.peak_mb))
    return tuple(rows)


def _time_edit(plan: BenchPlan, clip: Path) -> CommandTimes:
    with private_folder() as folder:
        output = folder / f"out{clip.suffix}"
        return time_command(["edit", str(clip), "-o", str(output), *plan.edit_options()])


def _opener(plan: BenchPlan) -> FilterOpener:
    return lambda variant: plan.of(variant).open_filter()


def _with_more(plan: BenchPlan, report: BenchReport) -> BenchReport:
    """The report with what else was asked for."""
    if plan.networks:
        found = measure_networks(plan)
        eager = eager_rows(plan.models, found.threads(), NETWORK_SECONDS, usable_cores())
        report = replace(report, peaks=found.peaks, networks=found.rows, eager=tuple(eager))
    if plan.scaling:
        report = replace(report, scenes=tuple(measure_scenes(plan.variants, _opener(plan))))
    return report


def time_command(arguments: list[str]) -> CommandTimes:
    """The times of one command in a process of its own. Raises MienError where it fails."""
    started = time.monotonic()
    done = subprocess.run(
        module_command("mien.apps.bench.child", arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.monotonic() - started
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        why = said[-1].removeprefix("mien: ")
        raise MienError(f"mien {arguments[0]} failed while it was timed: {why}")
    found = json.loads(done.stdout.splitlines()[-1])
    first_frame_at = found["first_frame_at"]
    first_frame_s = None if first_frame_at is None else first_frame_at - started
    return CommandTimes(wall_s, first_frame_s, found["peak_mb"])


def machine_name() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
