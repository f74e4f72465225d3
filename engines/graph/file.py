"""A model file, read once: its bytes, so that what is hashed is what runs, and what it states.

The weights of a large network lie in parts: files beside the model whose names, sizes and hashes
stand in the model's metadata, so that the hash of the model is one of them all. The metadata is
read without ONNX Runtime and without `onnx`. Source: onnx.proto3 of ONNX (the numbers of the
fields).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.engines.errors import ModelError
from mien.engines.graph.guard import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    MAX_BYTES,
    MAX_PARTS,
    MAX_PARTS_BYTES,
    RAW_DATA,
    check_graph,
    external_entry,
    placed,
)
from mien.engines.graph.wire import bytes_field, fields, number_field, part, written
from mien.engines.network import Network
from mien.engines.system.limits import memory_text

PART_KEY: Final = "mien.part."  # and the name of a part; the text is its hash and its size
PART_TEXT: Final = re.compile(r"([0-9a-f]{64}) ([0-9]{1,15})")
PART_NAME: Final = re.compile(r"[\w-][\w. -]{0,200}")
MAX_WHOLE_BYTES: Final = (1 << 31) - 1  # of one protobuf message
GRAPH, INITIALIZER, BYTES = 7, 5, 2  # fields of a model and of a graph, and a wire type


@dataclass(frozen=True, slots=True)
class Part:
    """A file beside a model that holds weights of it. size: in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's bytes, checked, and those of its parts by their names."""

    path: Path
    graph: bytes
    parts: Mapping[str, bytes]

    def whole(self) -> bytes:
        """The model as one file. Raises ModelError for one that is too large for that."""
        if not self.parts:
            return self.graph
        size = len(self.graph) + sum(map(len, self.parts.values()))
        if size > MAX_WHOLE_BYTES:
            raise ModelError(
                f"the model {self.path} has {size >> 20} MiB with its parts; only ONNX Runtime "
                f"takes more than {MAX_WHOLE_BYTES >> 20}"
            )
        return b"".join(_with_weights(self.graph, self.parts))


def read_model(path: Path, sha256: str | None = None) -> bytes:
    """The bytes of a model file with all its weights, checked against `sha256` where given.

    They are one ONNX graph of a sane size, that of its parts included. Raises ModelError.
    """
    return read_model_file(path, sha256).whole()


def read_model_file(path: Path, sha256: str | None = None) -> ModelFile:
    """A model file and its parts, each checked against its hash. Raises ModelError.

    sha256: of the file itself; those of its parts stand in it.
    """
    model = _read(path, MAX_BYTES)
    if sha256 is not None:
        _check_hash(model, path, sha256)
    parts = stated_parts(read_metadata(model, path), path)
    check_graph(model, path, {one.name: one.size for one in parts})
    return ModelFile(path, model, {one.name: _read_part(path, one) for one in parts})


def stated_parts(metadata: Mapping[str, str], path: Path) -> list[Part]:
    """The parts that a model states in its metadata. Raises ModelError for what is none."""
    parts = []
    for key, text in metadata.items():
        if not key.startswith(PART_KEY):
            continue
        name, found = key.removeprefix(PART_KEY), PART_TEXT.fullmatch(text)
        if found is None or not PART_NAME.fullmatch(name) or name == path.name:
            raise ModelError(
                f"the model {path} names a part {name[:80]!r} that is no file beside it with hash "
                "and size; export it again"
            )
        parts.append(Part(name, found[1], int(found[2])))
    size = sum(one.size for one in parts)
    if len(parts) > MAX_PARTS or size > MAX_PARTS_BYTES:
        raise ModelError(
            f"the model {path} has {len(parts)} parts; mien reads up to {MAX_PARTS} of together "
            f"{MAX_PARTS_BYTES >> 30} GiB"
        )
    _check_fits(size, path)
    return parts


def _check_fits(size: int, path: Path) -> None:
    """Check that weights find room in this machine twice, as they do while an engine copies them.

    Raises ModelError.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 2 * size > there:
        raise ModelError(
            f"the model {path} takes about {memory_text(2 * size)} of memory to open, and this "
            f"machine has {memory_text(there)}"
        )


def part_metadata(parts: Mapping[str, Path]) -> dict[str, str]:
    """What a model has to state of its parts. parts: where each lies now, by its name."""
    told = {}
    for name, place in parts.items():
        with place.open("rb") as file:
            digest = (
                hashlib.file_digest(file, "sha256")
                if hasattr(hashlib, "file_digest")
                else (
                    hashlib.sha256(file.read())  # before Python 3.11
                )
            )
        told[f"{PART_KEY}{name}"] = f"{digest.hexdigest()} {place.stat().st_size}"
    return told


def _read_part(path: Path, stated: Part) -> bytes:
    """The bytes of a part. Raises ModelError."""
    place = path.parent / stated.name
    if place.is_symlink():
        raise ModelError(f"the part {place} of {path} is a link; copy the file there")
    content = _read(place, MAX_PARTS_BYTES)
    if len(content) != stated.size or hashlib.sha256(content).hexdigest() != stated.sha256:
        raise ModelError(
            f"the part {place} is not the one that {path} states: it has {len(content):,} bytes, "
            f"expected {stated.size:,} of sha256 {stated.sha256[:12]}...; copy both again"
        )
    return content


def _read(path: Path, most: int) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
            raise ModelError(f"cannot read the model {path}: it is not a file; give an .onnx file")
        if found.st_size > most:
            size = found.st_size >> 20
            raise ModelError(f"the model {path} has {size} MiB; mien reads up to {most >> 20}")
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


def _with_weights(model: bytes, parts: Mapping[str, bytes]) -> Iterator[bytes | memoryview]:
    """The pieces of a model whose tensors hold what lies in its parts."""
    for number, value in fields(memoryview(model)):
        if number != GRAPH:
            yield _field(number, value)
            continue
        pieces = [
            piece
            for key, inner in fields(part(value))
            for piece in (
                _tensor(part(inner), parts) if key == INITIALIZER else (_field(key, inner),)
            )
        ]
        yield written(GRAPH << 3 | BYTES) + written(sum(map(len, pieces)))
        yield from pieces


def _tensor(message: memoryview, parts: Mapping[str, bytes]) -> tuple[bytes | memoryview, ...]:
    """The pieces of an initializer's field, its values in it."""
    kept, place = b"", {}
    for number, value in fields(message):
        if number == EXTERNAL_DATA:
            key, text = external_entry(part(value))
            place[key] = text
        elif number != DATA_LOCATION:
            kept += _field(number, value)
    if not place:
        return (bytes_field(INITIALIZER, message),)
    name, offset, length = placed(place)
    values = memoryview(parts[name])[offset : offset + length]
    head = kept + written(RAW_DATA << 3 | BYTES) + written(length)
    return written(INITIALIZER << 3 | BYTES) + written(len(head) + length) + head, values


def _field(number: int, value: int | memoryview | bytes) -> bytes:
    """A field as it was. Raises ValueError for a number of fixed size, which no such part has."""
    if isinstance(value, int):
        return number_field(number, value)
    return bytes_field(number, part(value))


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
