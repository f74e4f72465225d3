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
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from mien.apps.inputs import SAMPLE
from mien.engines.errors import MienError, UsageError
from mien.runtime.bench_clip import write_bench_clip
from mien.runtime.filter import Filter
from mien.runtime.picture import is_picture
from mien.runtime.profile import FilterProfile, profile_filter
from mien.runtime.video import probe, read_frames


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure. clip: None is the bundled sample at 720p. runs: of the whole command.

    method, gan, blend: as of `mien.runtime.Filter`.
    """

    clip: Path | None = None
    runs: int = 3
    emotion: str = "happy"
    provider: str = "cpu"
    models: Path | None = None
    method: str = "warp"
    gan: str | None = None
    blend: str | None = None

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


def print_bench(plan: BenchPlan, *, as_json: bool) -> None:
    """Nothing; measures and prints a table, or JSON. Raises MienError."""
    report = measure(plan)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        console = Console()
        console.print(report_heading(report), highlight=False, soft_wrap=True)
        console.print(report_table(report))


def measure(plan: BenchPlan) -> BenchReport:
    """The measurements of a plan. Raises MienError."""
    if plan.clip is not None and is_picture(plan.clip):
        raise UsageError(f"{plan.clip} is a picture; give a video to measure on")
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
    command_s = statistics.median(times.wall_s for times in edits)
    transcode_s = statistics.median(times.wall_s for times in transcodes)
    return BenchReport(
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
    )


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


def report_table(report: BenchReport) -> Table:
    """The report as a table for people."""
    table = Table(box=None)
    for heading in ("", "median", "p95"):
        table.add_column(heading, justify="right" if heading else "left")
    for stage in (*report.profile.stages, report.profile.whole):
        name = "whole filter" if stage is report.profile.whole else stage.name
        table.add_row(f"{name}, ms a frame", f"{stage.median_ms:.2f}", f"{stage.p95_ms:.2f}")
    table.add_row("filter without codec, fps", f"{report.profile.fps:.1f}")
    table.add_row("whole command, s", f"{report.command_s:.2f}")
    table.add_row("transcode alone, s", f"{report.transcode_s:.2f}")
    table.add_row("command / transcode", f"{report.ratio:.2f}")
    for name, value, form in (
        ("start to first edited frame, s", report.first_frame_s, ".2f"),
        ("memory at most, MB", report.peak_mb, ".0f"),
    ):
        table.add_row(name, "-" if value is None else format(value, form))
    return table


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
