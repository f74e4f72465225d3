"""What a model file states of itself, read without ONNX Runtime and without `onnx`.

Source: onnx.proto3 of ONNX (the numbers of the fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.network import Network
from mien.engines.onnx_wire import fields, part

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
