"""The bytes of a model file, read once: what is hashed is what runs."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.onnx_guard import MAX_BYTES, check_graph


def read_model(path: Path, sha256: str | None = None) -> bytes:
    """The bytes of a model file, checked against `sha256` where given.

    They are one ONNX graph of a sane size that takes nothing from other files. Raises ModelError.
    """
    model = _read(path)
    if sha256 is not None:
        _check_hash(model, path, sha256)
    check_graph(model, path)
    return model


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
            raise ModelError(f"cannot read the model {path}: it is not a file; give an .onnx file")
        if found.st_size > MAX_BYTES:
            size, most = found.st_size >> 20, MAX_BYTES >> 20
            raise ModelError(f"the model {path} has {size} MiB; mien reads up to {most}")
        with path.open("rb") as file:
            model = file.read(found.st_size + 1)
    except ValueError as error:  # a NUL in the name
        raise ModelError(f"{str(path)!r} is no name of a file; correct the catalog") from error
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}: {error.strerror}; install mien again, or check --models"
        ) from error
    if len(model) != found.st_size:
        raise ModelError(f"the model {path} changed while it was read; try again")
    return model


def _check_hash(model: bytes, path: Path, sha256: str) -> None:
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise ModelError(
            f"the model {path} is damaged: its sha256 is {found[:12]}..., expected "
            f"{sha256[:12]}...; install mien again, or correct the catalog beside it"
        )
