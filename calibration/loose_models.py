"""A folder of ONNX files without a catalog, as a training leaves them, taken for one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from mien.engines.catalog import CATALOG_NAME, ModelEntry, write_catalog
from mien.engines.errors import UsageError


def as_catalog(folder: Path, into: Path) -> Path:
    """`folder` itself where it has a catalog; else `into`, where one of its files is made.

    Each `NETWORK.onnx` of `folder` is copied. Raises UsageError where there is none.
    """
    if (folder / CATALOG_NAME).exists():
        return folder
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise UsageError(f"{folder} holds neither {CATALOG_NAME} nor a NETWORK.onnx")
    write_catalog(into, tuple(_entry(Path(shutil.copy(file, into))) for file in files))
    return into


def _entry(file: Path) -> ModelEntry:
    untold = "not told"
    return ModelEntry(
        name=file.stem,
        network=file.stem,
        file=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        trained_on=untold,
        minutes=0.0,
        quality={},
        licence=untold,
        card=untold,
        folder=file.parent,
    )
