"""A model file, read once: its bytes, so that what is hashed is what runs, and what it states.

The metadata is read without ONNX Runtime and without `onnx`. Source: onnx.proto3 of ONNX (the
numbers of the fields).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.graph.guard import MAX_BYTES, check_graph
from mien.engines.graph.wire import fields, part
from mien.engines.network import Network


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


MODEL_METADATA = 14
ENTRY_KEY, ENTRY_VALUE = 1, 2


def read_metadata(model: bytes, path: Path) -> dict[str, str]:
    """The `metadata_props` of a model that `read_model` gave.

    path: for messages. Raises ModelError for texts that are none.
    """
    metadata: dict[str, str] = {}
    try:
        for number, value in fields(memoryview(model)):
            if number == MODEL_METADATA:
                entry = {key: bytes(part(text)).decode() for key, text in fields(part(value))}
                metadata[entry.get(ENTRY_KEY, "")] = entry.get(ENTRY_VALUE, "")
    except ValueError as error:
        raise ModelError(
            f"the model {path} is no ONNX file: {error}; export or download it again"
        ) from error
    return metadata


def declared_network(network: Network | str, path: Path, metadata: Mapping[str, str]) -> Network:
    """The declaration of the model at `path`, which has to be `network` (or of that name).

    Raises ModelError.
    """
    if not isinstance(network, str):
        if network.matches_metadata(metadata):
            return network
        raise ModelError(
            f"the model {path} does not state that it is the network {network.name!r}; "
            "export it again, so that its metadata is Network.metadata() of the declaration"
        )
    try:
        stated = Network.from_metadata(metadata)
    except ModelError as error:
        raise ModelError(f"the model {path}: {error}") from error
    if stated.name != network:
        raise ModelError(
            f"the model {path} states that it is the network {stated.name!r}, not {network!r}; "
            "correct the catalog beside it"
        )
    return stated
