"""`mien face`: a face drawn from a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.apps import options

if TYPE_CHECKING:
    import numpy as np

    from mien.runtime.text.faces import DrawnFace

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Description = Annotated[
    str, typer.Argument(metavar="SENTENCE", help="Such as 'a young woman, happy, brows raised'.")
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The picture.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Which faces: the same seed, the same face.")]
Count = Annotated[
    int, typer.Option("--n", metavar="N", help="How many to draw; the best one is kept.")
]
Grid = Annotated[bool, typer.Option("--grid", help="Also write all of them, as FILE-grid.")]
Attention = Annotated[
    bool,
    typer.Option("--attention", help="Also write where each word was looked for, as heat maps."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def face(
    sentence: Description,
    output: Output,
    seed: Seed = 0,
    count: Count = 16,
    grid: Grid = False,
    attention: Attention = False,
    overwrite: Overwrite = False,
    provider: options.MeasuredProvider = "cpu",
    models: options.Models = None,
) -> None:
    """Draw a face from a sentence; several are drawn, and the one that fits it best is kept."""
    from mien.engines.catalog import Catalog
    from mien.runtime.text.faces import TextFaces

    places = _places(output, grid=grid, attention=attention)
    _check_free(places, overwrite=overwrite)
    folder = options.folders(models)
    catalog = Catalog.bundled() if folder is None else Catalog.load(folder)
    with TextFaces.open(catalog, provider=provider) as faces:
        read = faces.read(sentence)
        drawn = faces.draw(read, count=count, seed=seed, with_attention=attention)
        ranked_by = faces.ranked_by
    _write(places, drawn, read.words, overwrite=overwrite)
    if read.dropped:
        typer.echo(f"mien: not known, and left out: {', '.join(read.dropped[:6])}", err=True)
    typer.echo(_told(drawn, seed, ranked_by, places))


def _places(output: Path, *, grid: bool, attention: bool) -> list[Path]:
    """Where the pictures go: the face, then what was asked for beside it. Raises UsageError."""
    from mien.engines.errors import UsageError

    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: a face is written as {', '.join(SUFFIXES)}")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} to write to")
    beside = [name for name, asked in (("grid", grid), ("attention", attention)) if asked]
    return [output, *(output.with_name(f"{output.stem}-{n}{output.suffix}") for n in beside)]


def _check_free(places: list[Path], *, overwrite: bool) -> None:
    """Raise UsageError where a picture may not be written, before it is drawn."""
    from mien.engines.errors import UsageError
    from mien.engines.system.partial_file import check_free

    for place in places:
        check_free(place, overwrite=overwrite, error=UsageError)


def _write(
    places: list[Path], drawn: list[DrawnFace], words: tuple[str, ...], *, overwrite: bool
) -> None:
    """Write the best face and, where there are places for them, the grid and the heat maps."""
    from mien.engines.errors import UsageError
    from mien.runtime.text.attention import attention_sheet
    from mien.runtime.text.faces import grid_of

    pictures = [drawn[0].pixels]
    for place in places[1:]:
        if place.stem.endswith("-grid"):
            pictures.append(grid_of([face.pixels for face in drawn]))
        elif drawn[0].attention is None:
            raise UsageError("this generator has no attention maps; leave --attention out")
        else:
            pictures.append(attention_sheet(drawn[0], words))
    for place, picture in zip(places, pictures, strict=True):
        _write_one(place, picture, overwrite=overwrite)


def _write_one(place: Path, picture: np.ndarray, *, overwrite: bool) -> None:
    from mien.engines.errors import VideoError
    from mien.engines.system.partial_file import PartialFile
    from mien.runtime.text.faces import encoded

    with PartialFile(place, overwrite=overwrite, error=VideoError) as part:
        part.write(encoded(picture, place.suffix))
        part.publish()


def _told(drawn: list[DrawnFace], seed: int, ranked_by: str | None, places: list[Path]) -> str:
    """What was drawn, and where it is, in a line."""
    best = drawn[0]
    names = ", ".join(map(str, places))
    if best.nearness is None or ranked_by is None:
        return f"{names}: the first of {len(drawn)}, seed {seed}; nothing here ranks them"
    return (
        f"{names}: number {best.number} of {len(drawn)}, seed {seed}, nearness "
        f"{best.nearness:.2f} by {ranked_by}"
    )
