"""`mien inspect` and `mien provenance`: what files say of how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps import options
from mien.apps.boundary import Commands

File = Annotated[Path, typer.Argument(metavar="FILE", help="A video or a picture.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the certificate that there is.")
]

provenance = Commands(
    help="The certificate that edits are signed with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def inspect(file: File, as_json: options.AsJson = False) -> None:
    """Print a file's Content Credentials and watermark, and what cannot be known from them."""
    from mien.apps.marks.inspect import print_inspection

    raise typer.Exit(print_inspection(file, as_json=as_json))


@provenance.command()
def init(overwrite: Overwrite = False) -> None:
    """Make a local certificate, with its key, and say what it is worth."""
    from mien.apps.marks.credential import WORTH, YEARS, local_file, make_local

    path = make_local(local_file(), overwrite=overwrite)
    typer.echo(f"wrote {path}, only you can read it; it is valid for {YEARS} years")
    typer.echo(f"what it is worth: {WORTH}")


@provenance.command()
def use(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="PEM, the signer's first.")],
    key: Annotated[
        Path | None,
        typer.Argument(
            metavar="KEY", help="PEM, where it is not in the same file.", show_default=False
        ),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Keep no copy: read both where they lie, at each signing."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Sign with a certificate of your own from now on."""
    from mien.apps.marks.credential import local_file, use_own

    path = use_own(
        certificate, key or certificate, local_file(), copies=not in_place, overwrite=overwrite
    )
    held = "says where they lie" if in_place else "holds a copy of both"
    typer.echo(f"edits are signed with {certificate} from now on; {path} {held}")


@provenance.command()
def check(
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM; by default the local one.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM, where it is not in the same.", show_default=False),
    ] = None,
) -> None:
    """Say whether a certificate can sign."""
    from mien.apps.marks.credential import load, local_file

    credential = load(certificate, key)
    typer.echo(f"{certificate or local_file()} can sign ({credential.algorithm})")
