"""`mien bench`: the filter stage by stage, and the whole command against a plain transcode."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import typer
from rich.console import Console

from mien.apps.bench_eager import EagerRow, eager_rows
from mien.apps.bench_plot import bench_chart
from mien.apps.bench_tables import (
    Grid,
    eager_grid,
    network_grid,
    scene_grid,
    variant_grid,
)
from mien.apps.bench_variants import (
    NETWORK_SECONDS,
    FilterOpener,
    NetworkRow,
    SceneRow,
    Variant,
    VariantRow,
    measure_networks,
    measure_peaks,
    measure_scenes,
    profile_variants,
    warm_start_s,
)
from mien.apps.inputs import SAMPLE
from mien.engines.errors import MienError, UsageError
from mien.engines.onnx_runtime import DEFAULT_THREADS
from mien.engines.peak import Peak
from mien.runtime.bench_clip import write_bench_clip
from mien.runtime.filter import Filter
from mien.runtime.picture import is_picture
from mien.runtime.profile import FilterProfile, profile_filter
from mien.runtime.video import probe, read_frames
from mien.runtime.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure. clip: None is the bundled sample at 720p. runs: of the whole command.

    method, gan, blend: as of `mien.runtime.Filter`. beside: what else is measured in turn with
    `provider` and `models`. networks, scaling: whether these are measured as well.
    """

    clip: Path | None = None
    runs: int = 3
    emotion: str = "happy"
    provider: str = "cpu"
    models: Path | None = None
    method: str = "warp"
    gan: str | None = None
    blend: str | None = None
    beside: tuple[Variant, ...] = ()
    networks: bool = False
    scaling: bool = False

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All that is measured in turn."""
        return (Variant(self.provider, self.models), *self.beside)

    def of(self, variant: Variant) -> BenchPlan:
        """The same plan for another variant."""
        return replace(self, provider=variant.provider, models=variant.models)

    def options(self) -> list[str]:
        """How `mien edit` is told of it."""
        told = {
            "--emotion": self.emotion,
            "--provider": self.provider,
            "--method": self.method,
            "--gan": self.gan,
            "--blend": self.blend,
            "--models": self.models,
        }
        return [
            word
            for option, value in told.items()
            if value is not None
            for word in (option, str(value))
        ]

    def open_filter(self) -> Filter:
        """The filter it measures. Raises MienError."""
        return Filter(
            self.emotion,
            method=self.method,
            gan=self.gan,
            blend=self.blend,
            provider=self.provider,
            models=self.models,
        )


@dataclass(frozen=True, slots=True)
class CommandTimes:
    """One process: seconds from its start to its end and to its first edited frame, and memory."""

    wall_s: float
    first_frame_s: float | None
    peak_mb: float | None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `mien bench` found; the seconds and megabytes are medians over the runs.

    clip, width, height, clip_frames: what was measured on. machine, cores: where.
    providers: what really ran each network. ratio: of command_s to transcode_s.
    peaks: of the machine, by provider. What was not asked for is empty.
    """

    clip: str
    width: int
    height: int
    clip_frames: int
    machine: str
    cores: int
    providers: dict[str, str]
    profile: FilterProfile
    runs: int
    command_s: float
    transcode_s: float
    ratio: float
    first_frame_s: float | None
    peak_mb: float | None
    variants: tuple[VariantRow, ...] = ()
    peaks: dict[str, Peak] = field(default_factory=dict)
    networks: tuple[NetworkRow, ...] = ()
    eager: tuple[EagerRow, ...] = ()
    scenes: tuple[SceneRow, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchOutput:
    """How a report is given. plot: a PNG to write, which must not be there yet."""

    as_json: bool = False
    as_markdown: bool = False
    plot: Path | None = None


def print_bench(plan: BenchPlan, output: BenchOutput) -> None:
    """Nothing; measures and prints tables, JSON or Markdown. Raises MienError."""
    _check_output(output)
    report = measure(plan)
    if output.plot is not None:
        write_whole(output.plot, bench_chart(report.profile, report.networks, report.scenes))
    if output.as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
        return
    grids = report_grids(report)
    if output.as_markdown:
        typer.echo("\n\n".join([report_heading(report), *(grid.markdown() for grid in grids)]))
        return
    console = Console()
    console.print(report_heading(report), highlight=False, soft_wrap=True)
    for grid in grids:
        console.print(grid.rich())


def _check_output(output: BenchOutput) -> None:
    if output.as_json and output.as_markdown:
        raise UsageError("give either --json or --markdown, not both")
    if output.plot is None:
        return
    if output.plot.suffix.lower() != ".png":
        raise UsageError(f"--plot writes PNG, so {output.plot} must end in .png")
    if output.plot.exists():
        raise UsageError(f"{output.plot} exists; give --plot another name")
    if not output.plot.absolute().parent.is_dir():
        raise UsageError(f"the folder of {output.plot} does not exist; make it first")


def measure(plan: BenchPlan) -> BenchReport:
    """The measurements of a plan. Raises MienError."""
    if plan.clip is not None and is_picture(plan.clip):
        raise UsageError(f"{plan.clip} is a picture; give a video to measure on")
    for variant in plan.variants:  # what does not open is told of before anything is timed
        plan.of(variant).open_filter().close()
    with tempfile.TemporaryDirectory(prefix="mien-bench-") as folder:
        clip = plan.clip
        if clip is None:
            clip = Path(folder) / "sample-720p.mp4"
            write_bench_clip(SAMPLE, clip)
        info = probe(clip)
        output = Path(folder) / f"out{clip.suffix}"
        edit = ["edit", str(clip), "-o", str(output), "--overwrite", *plan.options()]
        edits, transcodes = [], []
        for _ in range(plan.runs):
            edits.append(time_command(edit))
            output.unlink()
            transcodes.append(time_command(["transcode", str(clip), str(output)]))
            output.unlink()
        with plan.open_filter() as face_filter:
            profile = profile_filter(face_filter, read_frames(clip))
            providers = dict(face_filter.providers)
        variants = _measure_variants(plan, clip, edits) if plan.beside else ()
    command_s = statistics.median(times.wall_s for times in edits)
    transcode_s = statistics.median(times.wall_s for times in transcodes)
    report = BenchReport(
        clip=clip.name,
        width=info.width,
        height=info.height,
        clip_frames=info.frames or profile.frames,
        machine=machine_name(),
        cores=usable_cores(),
        providers=providers,
        profile=profile,
        runs=plan.runs,
        command_s=command_s,
        transcode_s=transcode_s,
        ratio=command_s / transcode_s,
        first_frame_s=_median([times.first_frame_s for times in edits]),
        peak_mb=_median([times.peak_mb for times in edits]),
        variants=variants,
    )
    return _with_more(plan, report)


def _measure_variants(
    plan: BenchPlan, clip: Path, edits: list[CommandTimes]
) -> tuple[VariantRow, ...]:
    """The whole filter in every variant. edits: the times of the first one's command."""
    profiles = profile_variants(plan.variants, _opener(plan), read_frames(clip))
    first_frame = next(iter(read_frames(clip)))
    rows: list[VariantRow] = []
    for variant, profile in zip(plan.variants, profiles, strict=True):
        times = edits[-1] if not rows else _time_edit(plan.of(variant), clip)
        warm_s = warm_start_s(variant, _opener(plan), first_frame)
        rows.append(VariantRow(variant.name, profile, warm_s, times.first_frame_s, times.peak_mb))
    return tuple(rows)


def _time_edit(plan: BenchPlan, clip: Path) -> CommandTimes:
    with tempfile.TemporaryDirectory(prefix="mien-bench-") as folder:
        output = Path(folder) / f"out{clip.suffix}"
        return time_command(["edit", str(clip), "-o", str(output), *plan.options()])


def _opener(plan: BenchPlan) -> FilterOpener:
    return lambda variant: plan.of(variant).open_filter()


def _with_more(plan: BenchPlan, report: BenchReport) -> BenchReport:
    """The report with what else was asked for."""
    if plan.networks:
        peaks = measure_peaks(plan.variants)
        networks = measure_networks(plan.variants, peaks)
        eager = eager_rows(plan.models, NETWORK_SECONDS, DEFAULT_THREADS)
        report = replace(report, peaks=peaks, networks=tuple(networks), eager=tuple(eager))
    if plan.scaling:
        report = replace(report, scenes=tuple(measure_scenes(plan.variants, _opener(plan))))
    return report


def time_command(arguments: list[str]) -> CommandTimes:
    """The times of one command in a process of its own. Raises MienError where it fails."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mien.apps.bench_child", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.monotonic() - started
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise MienError(f"mien {arguments[0]} failed while it was timed: {said[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    first_frame_at = found["first_frame_at"]
    first_frame_s = None if first_frame_at is None else first_frame_at - started
    return CommandTimes(wall_s, first_frame_s, found["peak_mb"])


def report_heading(report: BenchReport) -> str:
    """One line on what was measured, and where."""
    networks = ", ".join(sorted(set(report.providers.values())))
    clip = f"{report.clip}, {report.width}x{report.height}, {report.clip_frames} frames"
    return f"{clip}; {report.machine}, {report.cores} cores; networks on {networks}"


def report_grids(report: BenchReport) -> list[Grid]:
    """The report as tables: the command first, then what else was measured."""
    grids = [command_grid(report)]
    if report.variants:
        grids.append(variant_grid(report.variants))
    if report.networks:
        grids.append(network_grid(report.networks))
    if report.eager:
        grids.append(eager_grid(report.eager))
    if report.scenes:
        grids.append(scene_grid(report.scenes))
    return grids


def command_grid(report: BenchReport) -> Grid:
    """The stages of the filter and the whole command."""
    rows = []
    for stage in (*report.profile.stages, report.profile.whole):
        name = "whole filter" if stage is report.profile.whole else stage.name
        rows.append((f"{name}, ms a frame", f"{stage.median_ms:.2f}", f"{stage.p95_ms:.2f}"))
    for name, value, form in (
        ("filter without codec, fps", report.profile.fps, ".1f"),
        ("whole command, s", report.command_s, ".2f"),
        ("transcode alone, s", report.transcode_s, ".2f"),
        ("command / transcode", report.ratio, ".2f"),
        ("start to first edited frame, s", report.first_frame_s, ".2f"),
        ("memory at most, MB", report.peak_mb, ".0f"),
    ):
        rows.append((name, "-" if value is None else format(value, form), ""))
    for provider, peak in report.peaks.items():
        rows.append(
            (f"matrix product on {provider}, GFLOP/s", f"{peak.operations_s / 1e9:.0f}", "")
        )
        if peak.bytes_s is not None:
            rows.append(("copy in memory, GB/s", f"{peak.bytes_s / 1e9:.1f}", ""))
    return Grid("", ("", "median", "p95"), tuple(rows))


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
