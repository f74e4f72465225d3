"""`mien build`: plans made ahead of their first use, listed, taken in and cleared away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from mien.apps.boundary import EXIT_ERROR, tell_error
from mien.engines import NETWORKS, Catalog, DeviceError, EngineError, ModelError, UsageError
from mien.engines.errors import one_line
from mien.engines.opening import tensorrt_source
from mien.engines.tensorrt.builder import BuildProgress, Report
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from mien.engines.tensorrt.plan_files import DeviceFacts, PlanSidecar, read_foreign
from mien.engines.tensorrt.plans import BuildWatch, PlanCache

ALL = "all"
OpenSource = Callable[[int], PlanSource]


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What to do.

    networks: to build, `all` for every one of the catalog, none for the default filter's.
    models: a folder of models of the user's own. device: which CUDA device.
    open_source: gives what builds on it.
    """

    networks: tuple[str, ...] = ()
    models: Path | None = None
    device: int = 0
    open_source: OpenSource = tensorrt_source

    @property
    def catalog(self) -> Catalog:
        """The models."""
        return Catalog.bundled() if self.models is None else Catalog.load(self.models)

    def chosen(self) -> tuple[str, ...]:
        """The names of the networks to build, each once."""
        if ALL in self.networks:
            return tuple(entry.network for entry in self.catalog.entries)
        return tuple(dict.fromkeys(self.networks)) or tuple(n.name for n in NETWORKS)


def run_build(
    job: BuildJob,
    *,
    show_list: bool = False,
    prune: bool = False,
    every: bool = False,
    trust: Path | None = None,
) -> int:
    """The exit status of one of: build, list, prune, take in a plan. Raises MienError."""
    if every and not prune:
        raise UsageError("--all belongs to --prune; mien build all builds every model's plan")
    if show_list + prune + (trust is not None) > 1:
        raise UsageError("give one of --list, --prune and --trust-plan")
    if job.networks and (show_list or prune or trust is not None):
        raise UsageError("--list, --prune and --trust-plan take no networks")
    if show_list:
        return print_plans(PlanCache())
    if prune:
        return prune_plans(job, PlanCache(), every=every)
    if trust is not None:
        return trust_plan(job, trust)
    return build_plans(job)


def build_plans(job: BuildJob) -> int:
    """The exit status, 2 where a plan cannot be built; prints a line for each network."""
    models = [_model(job.catalog, name) for name in job.chosen()]
    source = job.open_source(job.device)
    status = 0
    with _progress() as report:
        for model in models:
            try:
                typer.echo(one_line(_build(source, model, report)))
            except (EngineError, ModelError) as error:  # noqa: PERF203 -- the others go on
                tell_error(error)
                status = EXIT_ERROR
    return status


def print_plans(cache: PlanCache) -> int:
    """The exit status; prints a row for each plan of the cache."""
    table = Table(box=None)
    headings = ("network", "precision", "TensorRT", "GPU", "size", "built in", "state")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for state in cache.states():
        if state.sidecar is None:
            table.add_row(
                escape(one_line(state.name)), "", "", "", "", "", escape(one_line(state.reason))
            )
            continue
        stated, device = state.sidecar, state.sidecar.identity.device
        cells = (
            stated.identity.network,
            stated.identity.precision,
            device.tensorrt,
            f"{device.gpu} (SM {device.sm})",
            f"{stated.plan_bytes / 1e6:.1f} MB",
            f"{stated.built_s:.0f} s",
            "ok",
        )
        table.add_row(*(escape(one_line(cell)) for cell in cells))
    Console().print(table)
    typer.echo(one_line(f"plans lie in {cache.path}"))
    return 0


def prune_plans(job: BuildJob, cache: PlanCache, *, every: bool = False) -> int:
    """The exit status; removes plans that nothing can use any more.

    Those are damaged ones, and of this GPU those of another TensorRT or CUDA major version; which
    GPU that is is known only where TensorRT starts. every: also the plans of other GPUs and of
    models outside the catalog; another program, with models of its own, may use them.
    """
    known = {entry.sha256 for entry in job.catalog.entries}
    try:
        here = job.open_source(job.device).builder.device()
    except DeviceError:
        here = None

    def is_wanted(sidecar: PlanSidecar) -> bool:
        device = sidecar.identity.device
        if here is not None and device.is_same_gpu(here) and device != here:
            return False
        return not every or _is_of(sidecar, here, known)

    removed = cache.prune(is_wanted)
    for name in removed:
        typer.echo(f"removed {one_line(name)}")
    left = cache.states()
    typer.echo(f"{len(removed)} removed, {len(left)} plans left in {one_line(cache.path)}")
    others = sum(1 for state in left if state.sidecar and not _is_of(state.sidecar, here, known))
    if others:
        typer.echo(f"{others} of them are of other GPUs or models; --all removes those too")
    return 0


def _is_of(sidecar: PlanSidecar, device: DeviceFacts | None, known: set[str]) -> bool:
    identity = sidecar.identity
    return identity.device == (device or identity.device) and identity.graph_sha256 in known


def trust_plan(job: BuildJob, file: Path) -> int:
    """The exit status; takes in a plan from elsewhere, which runs as code of this user."""
    foreign = read_foreign(file)
    model = _model(job.catalog, foreign.sidecar.identity.network)
    job.open_source(job.device).trust(model, foreign)
    typer.echo(f"{model.network.name}: trusted {one_line(file)}; it runs as code, with your rights")
    return 0


def _model(catalog: Catalog, name: str) -> PlanModel:
    entry = catalog.entry(name)
    return PlanModel.read(entry.path, name, entry.sha256)


def _build(source: PlanSource, model: PlanModel, report: Report) -> str:
    """What to say of a plan that is there now."""
    name = model.network.name
    reasons: list[str] = []
    watch = BuildWatch(
        report=report,
        on_build=reasons.append,
        on_wait=lambda: typer.echo(f"{name}: waiting for another program that builds"),
        on_lost=_fail,
    )
    with source.open(model, watch) as engine:
        where = engine.provider
    return f"{name}: {f'built ({reasons[-1]})' if reasons else 'was built already'}, on {where}"


def _fail(error: EngineError) -> None:
    raise error


@contextmanager
def _progress() -> Iterator[Report]:
    """What shows progress: a bar with the time left, nothing where it is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _progress: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def show(progress: BuildProgress) -> None:
            bar.update(
                task,
                description=progress.network,
                completed=progress.done,
                left=time_left(progress),
            )

        yield show


def time_left(progress: BuildProgress) -> str:
    """`1:05 left`, or how long it has taken where too little is done to tell."""
    left = progress.left_s
    minutes, seconds = divmod(round(progress.elapsed_s if left is None else left), 60)
    return f"{minutes}:{seconds:02d} {'gone' if left is None else 'left'}"
