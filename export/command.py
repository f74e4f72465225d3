"""`mien export`: from a checkpoint to a model that the filter takes."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

from mien.engines.catalog import CATALOG_NAME, ModelEntry, read_catalog, record_model
from mien.engines.errors import ModelError, UsageError
from mien.engines.system.folders import private_folder
from mien.engines.system.partial_file import PartialFile, remove_leftovers
from mien.export.checkpoints.declare import Declaration, declare
from mien.export.checkpoints.formats import Source, recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.onnx_file import copy_whole, write_onnx
from mien.export.options import SUFFIX, Options
from mien.export.parity import (
    Allowed,
    Parity,
    diffusion_examples,
    generator_examples,
    parser_examples,
)

# Outputs lie in [-1, 1]; 1e-4 is a hundredth of a step of an 8-bit picture.
GENERATOR_ALLOWED = Allowed(1e-4)
PARSER_ALLOWED = Allowed(1e-4, same_class=0.9999)
CARD_SUFFIX = ".md"
EXAMPLES_OF = {"face_parser": parser_examples, "diffusion": diffusion_examples}


def export(options: Options) -> str:
    """What was written, in a few lines.

    Raises UsageError and ModelError; nothing is written then.
    """
    checkpoint = read_checkpoint(options.checkpoint, limit=options.max_memory)
    source = recognise(checkpoint, options.activation, options)
    declared = declare(source, options)
    declared.facts["source_sha256"] = checkpoint.sha256
    _check_places(options, declared)
    with private_folder() as folder:
        made = folder / f"{declared.network.name}{SUFFIX}"
        parity = _write(source, declared, made)
        places = _put(made, options, declared, parity)
    return _report(options, source, declared, parity, places)


def _write(source: Source, declared: Declaration, path: Path) -> Parity:
    """The parity of the file that is written."""
    if source.prepared is not None:
        return write_onnx(
            source.module,
            declared.network,
            path,
            facts=declared.facts,
            allowed=source.prepared.allowed,
            examples=source.prepared.examples,
        )
    is_parser = source.format.kind == "face_parser"
    examples = EXAMPLES_OF.get(source.format.kind, generator_examples)
    return write_onnx(
        source.module,
        declared.network,
        path,
        facts=declared.facts,
        allowed=PARSER_ALLOWED if is_parser else GENERATOR_ALLOWED,
        examples=examples(declared.network, declared.facts["colour"]),
    )


def _check_places(options: Options, declared: Declaration) -> None:
    """Raise UsageError where a result may not be written, before minutes are spent on it."""
    places = _places(options, declared)
    cards = [] if options.into is None else [places[-1].with_suffix(CARD_SUFFIX)]
    for place in (*places, *cards):
        if os.path.lexists(place) and not options.overwrite:
            raise UsageError(f"{place} exists; add --overwrite to replace it")
        if place.is_dir():
            raise UsageError(f"{place} is a folder, expected a file's name")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {options.output.parent} to write to")
    if options.into is not None and options.into.exists() and not options.into.is_dir():
        raise UsageError(f"--into {options.into} is a file, expected a folder of models")
    if options.into is not None and (options.into / CATALOG_NAME).exists():
        read_catalog(options.into)  # raises where it is damaged


def _places(options: Options, declared: Declaration) -> list[Path]:
    places = [] if options.output is None else [options.output]
    if options.into is not None:
        places.append(options.into / f"{declared.network.name}{SUFFIX}")
    return places


def _put(made: Path, options: Options, declared: Declaration, parity: Parity) -> list[Path]:
    """The places where the file now lies, whole under each name."""
    if options.into is not None:
        try:
            options.into.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"cannot make the folder {options.into}: {error.strerror}") from error
    places, data = _places(options, declared), made.read_bytes()
    for weights in sorted(made.parent.glob(f"{made.stem}-*.data")):
        for place in places:
            copy_whole(weights, place.parent / weights.name)
    with ExitStack() as opened:
        parts = [opened.enter_context(_part(place, data, options)) for place in places]
        if options.output is not None:
            parts[0].publish(durable=True)
        if options.into is not None:
            entry = _entry(options, declared, parity, places[-1], data)
            text = _card(options, declared, parity)
            card = opened.enter_context(_part(entry.folder / entry.card, text.encode(), options))
            record_model(entry, [parts[-1], card])
    return places


def _part(place: Path, data: bytes, options: Options) -> PartialFile:
    remove_leftovers(place.parent)
    part = PartialFile(place, overwrite=options.overwrite, error=ModelError)
    try:
        part.write(data)
    except BaseException:
        part.discard()
        raise
    return part


def _card(options: Options, declared: Declaration, parity: Parity) -> str:
    """What is known about the model, as Markdown."""
    facts = [f"- {key}: {text}" for key, text in sorted(declared.facts.items())]
    told = (
        f"Exported from `{options.checkpoint.name}` by mien; largest difference from PyTorch "
        f"{parity.difference:.2g}. Trained on: {options.trained_on}. Licence of the weights: "
        f"{options.licence}."
    )
    heading = f"# {options.checkpoint.stem} as {declared.network.name}"
    return "\n".join([heading, "", told, "", *facts]) + "\n"


def _entry(
    options: Options, declared: Declaration, parity: Parity, path: Path, data: bytes
) -> ModelEntry:
    """What the catalog of the folder of `path` says of the model `data`."""
    return ModelEntry(
        name=options.checkpoint.stem,
        network=declared.network.name,
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        trained_on=options.trained_on,
        minutes=0.0,
        quality={"parity_error": parity.difference},
        licence=options.licence,
        card=path.with_suffix(CARD_SUFFIX).name,
        folder=path.parent,
    )


def _report(
    options: Options,
    source: Source,
    declared: Declaration,
    parity: Parity,
    places: list[Path],
) -> str:
    network = declared.network
    given = [f"{spec.name} {spec.shape}" for spec in (*network.inputs, *network.outputs)]
    words = {
        key: declared.facts[key] for key in ("labels", "classes", "noise") if key in declared.facts
    }
    lines = [
        f"{options.checkpoint}: {source.format.words}, {_millions(source)} M weights",
        f"as {network.name}: {', '.join(given)}",
        *(f"{key}: {names}" for key, names in words.items()),
        f"largest difference from PyTorch: {parity.difference:.2g}" + _classes(parity),
        *(f"{place}: {place.stat().st_size / 1e6:.1f} MB" for place in places),
    ]
    return "\n".join(lines)


def _classes(parity: Parity) -> str:
    if parity.same_class is None:
        return ""
    return f"; {100 * parity.same_class:.4g} % of the pixels keep their class"


def _millions(source: Source) -> str:
    count = sum(tensor.numel() for tensor in source.module.state_dict().values())
    return f"{count / 1e6:.2f}"
