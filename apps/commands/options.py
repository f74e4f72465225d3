"""Options that several commands take, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

METHODS = "warp|image|face|parts"
GANS = "stargan|cyclegan"
BLENDS = "field|paste"
EMOTIONS = "NAME|MIX"
STRENGTHS = "0..1.5"
AS_EDIT = "As of mien edit."

Face = Annotated[str, typer.Option(metavar="all|largest|N", help="Which faces to edit.")]
Provider = Annotated[
    str, typer.Option(metavar="NAME", help="What runs the networks: cpu, cuda, ...")
]
MeasuredProvider = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")]
Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="DIR", help="A folder with models of your own."),
]
MaxMemory = Annotated[
    str,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Refuse a file that would take more, by the sizes it states: 2G, 800M.",
    ),
]
MEMORY = "1G"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
