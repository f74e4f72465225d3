"""A folder of models in FP16 or INT8, each with its card, as `--models` takes it.

A refusal changes nothing that is in use: a model that was accepted before, and its card, stay as
they are, and the card of the refusal lies beside them under a name of its own, until the network
is accepted in that precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mien.calibration.precision.calibrate import Calibrated
from mien.calibration.precision.graph import read_graph
from mien.calibration.precision.places import Rules
from mien.calibration.precision.run import Calibration, Variant, entry_like
from mien.calibration.representative import read_clips
from mien.engines.catalog import CATALOG_NAME, Catalog, ModelEntry, read_catalog, record_model
from mien.engines.errors import ModelError
from mien.engines.network import Network
from mien.engines.system.partial_file import PartialFile, check_free, remove_leftovers

if TYPE_CHECKING:
    from mien.calibration.precision.calibrate import CalibratePlan

UNTOLD = "not told"
SUFFIXES = (".onnx", ".md", ".json")  # of a model and what is known of it


def calibrate_into(plan: CalibratePlan, catalog: Catalog, network: str) -> Calibrated:
    """The network of a catalog as a plan wants it, in the plan's folder. Raises MienError."""
    check_folder(plan.folder, catalog.entry(network))
    for suffix in SUFFIXES:
        place = plan.folder / f"{network}{suffix}"
        check_free(place, overwrite=plan.overwrite, error=ModelError)
    calibration = Calibration(network, catalog, read_clips(plan.data), data=data_name(plan.data))
    if plan.precision == "fp16":
        variant = calibration.fp16()
    else:
        variant = calibration.int8(cast("Rules", plan.rules))
    return keep(variant, catalog.entry(network), plan.folder, overwrite=plan.overwrite)


def check_folder(folder: Path, source: ModelEntry) -> None:
    """Raise ModelError where a variant of `source` may not go into `folder`."""
    if Path(source.network).name != source.network:
        raise ModelError(f"{source.network!r} is no name of a network: it would name a file")
    if folder.resolve() == source.folder.resolve():
        raise ModelError(f"{folder} holds the FP32 model itself; give another folder with -o")


def keep(
    variant: Variant, source: ModelEntry, folder: Path, *, overwrite: bool = False
) -> Calibrated:
    """A variant and its card written into a folder and its catalog; a refused one's card only.

    overwrite: whether an accepted model may replace one that is there. Raises MienError where the
    folder cannot be written to, or holds the FP32 model itself.
    """
    check_folder(folder, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {folder}: {error.strerror}") from error
    remove_leftovers(folder)
    text, told = variant.card.markdown(), variant.card.json().encode()
    refusal = folder / f"{source.network}-{variant.card.precision}-refused.md"
    with ExitStack() as opened:
        if variant.model is None:
            cards = {refusal: text.encode(), refusal.with_suffix(".json"): told}
            for part in _parts(cards, opened, overwrite=True):
                part.publish()
            return Calibrated(None, refusal, text)
        data = variant.model.SerializeToString()
        entry = entry_like(source, data, folder)
        card = folder / entry.card
        files = {entry.path: data, card: text.encode(), card.with_suffix(".json"): told}
        name = f"{source.name}-{variant.card.precision}"
        listed = replace(entry, name=name, quality=_numbers(variant))
        record_model(listed, _parts(files, opened, overwrite=overwrite))
    for outdated in (refusal, refusal.with_suffix(".json")):
        with suppress(OSError):
            outdated.unlink()
    return Calibrated(entry.path, card, text)


def _parts(files: Mapping[Path, bytes], opened: ExitStack, *, overwrite: bool) -> list[PartialFile]:
    """Files that are written and still want their names."""
    parts = []
    for path, data in files.items():
        part = PartialFile(path, overwrite=overwrite, error=ModelError)
        parts.append(opened.enter_context(part))
        part.write(data)
    return parts


def entry_of(path: Path) -> ModelEntry:
    """A model file as the entry of the catalog beside it, or as one of its own. Raises ModelError.

    What a catalog says of the file, its licence above all, holds where it is that very file.
    """
    network = Network.from_metadata(read_graph(path).metadata)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if (path.parent / CATALOG_NAME).is_file():
        for entry in read_catalog(path.parent):
            if (entry.file, entry.sha256) == (path.name, sha256):
                return entry
    return ModelEntry(
        name=path.stem,
        network=network.name,
        file=path.name,
        sha256=sha256,
        trained_on=UNTOLD,
        minutes=0.0,
        quality={},
        licence=UNTOLD,
        card=UNTOLD,
        folder=path.parent,
    )


def data_name(data: Path | None) -> str:
    """What is shown to the networks, for people."""
    return "the bundled sample" if data is None else f"the pictures and clips of {data.name}"


def _numbers(variant: Variant) -> dict[str, float]:
    numbers = {f"error_of_{e.output}_against_fp32": e.relative for e in variant.card.errors}
    if variant.card.quality is not None:
        numbers["lowest_psnr_db_of_edited_frames"] = variant.card.quality.psnr_db
    return {name: round(value, 6) for name, value in numbers.items()}
