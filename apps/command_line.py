"""The command line `mien`, with all its commands in the order that its help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from mien.apps.avatar.command import avatar
from mien.apps.bench.command import bench
from mien.apps.boundary import Commands
from mien.apps.camera.command import BareVirtual, camera
from mien.apps.camera.set import set_camera
from mien.apps.doctor.command import build, doctor
from mien.apps.edit.command import edit
from mien.apps.evaluate import evaluate
from mien.apps.face.command import face
from mien.apps.marks.command import inspect, provenance
from mien.apps.models.command import audit, calibrate, export, export_triton, models
from mien.apps.options import with_method_options

app = Commands(
    name="mien",
    help="Change the expression on a face in videos and pictures.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mien {version('mien')}")
        raise typer.Exit


@app.callback()
def mien(
    context: typer.Context,
    show_version: Annotated[  # noqa: ARG001 -- its callback acts on it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Change the expression on a face in videos and pictures."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(cls=BareVirtual)(with_method_options(camera))
app.command("set")(with_method_options(set_camera))
app.command()(with_method_options(edit))
app.add_typer(avatar, name="avatar")
app.command()(face)
app.command()(models)
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(export)
app.command()(calibrate)
app.command()(build)
app.command("export-triton")(export_triton)
app.command()(doctor)
app.command()(audit)
app.command()(with_method_options(bench))
app.add_typer(evaluate, name="evaluate")
app.command()(inspect)
app.add_typer(provenance, name="provenance")
