"""The bytes of a model file, read once: what is hashed is what runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mien.engines.errors import ModelError


def read_model(path: Path, sha256: str | None = None) -> bytes:
    """The bytes of a model file, checked against `sha256` where given. Raises ModelError."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}: {error.strerror}; install mien again, or check --models"
        ) from error
    if sha256 is None:
        return model
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise ModelError(
            f"the model {path} is damaged: its sha256 is {found[:12]}..., expected "
            f"{sha256[:12]}...; install mien again, or correct the catalog beside it"
        )
    return model
