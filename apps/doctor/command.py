"""`mien build` and `mien doctor`: this machine made ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps import options

Networks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NETWORK...]",
        help="Whose plans; by default the default filter's, all for every model's.",
        show_default=False,
    ),
]
ShowList = Annotated[bool, typer.Option("--list", help="List the plans there are.")]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Remove plans that nothing can use any more: damaged or outdated ones."
    ),
]
Every = Annotated[
    bool,
    typer.Option("--all", help="With --prune: also plans of other GPUs and of other models."),
]
TrustPlan = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Take in a plan from elsewhere, its sidecar beside it. A plan is code: it runs "
        "with your rights.",
    ),
]
BuildDevice = Annotated[int, typer.Option(metavar="N", min=0, max=999, help="Which CUDA device.")]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="The panel's port.")]


def build(
    networks: Networks = None,
    show_list: ShowList = False,
    prune: Prune = False,
    every: Every = False,
    trust_plan: TrustPlan = None,
    device: BuildDevice = 0,
    models: options.Models = None,
) -> None:
    """Compile the networks for this machine's GPU with TensorRT, ahead of their first use."""
    from mien.apps.models.build import BuildJob, run_build

    job = BuildJob(tuple(networks or ()), options.folders(models), device)
    status = run_build(job, show_list=show_list, prune=prune, every=every, trust=trust_plan)
    raise typer.Exit(status)


def doctor(
    models: options.Models = None, port: Port = 8765, as_json: options.AsJson = False
) -> None:
    """Look at what this machine has, and print how to fix what it lacks."""
    from mien.apps.doctor.doctor import print_doctor
    from mien.apps.doctor.finding import Machine

    machine = Machine(models=options.folders(models), port=port)
    raise typer.Exit(print_doctor(machine, as_json=as_json))
