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
OWN_SCALES = "0.25..1.5"
AS_EDIT = "As of mien edit."

Soften = Annotated[
    float | None,
    typer.Option(
        metavar=OWN_SCALES,
        help="How much of the person's own expression to show, with or without another one; "
        "1 is all of it, 0.5 half.",
        show_default=False,
    ),
]
Amplify = Annotated[
    float | None,
    typer.Option(
        metavar=OWN_SCALES,
        help="The same scale by its other name: 1.3 shows more than there is.",
        show_default=False,
    ),
]
Face = Annotated[str, typer.Option(metavar="all|largest|N", help="Which faces to edit.")]
Provider = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the networks: cpu, the default, for it is there on every machine and what "
        "was measured ran on it; cuda, ...; or auto, the best that works here, and it says why.",
    ),
]
MeasuredProvider = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--models",
        metavar="DIR",
        help="A folder with models of your own; may be given again, the first counts most.",
        show_default=False,
    ),
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


def folders(models: list[Path] | None) -> Path | None:
    """The folders of `--models` as one value that `Catalog.load` takes."""
    from mien.engines.catalog import joined_folders

    return joined_folders(models or [])


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
