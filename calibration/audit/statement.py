"""What a graph states of itself: which network it is, and the facts that mien reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto

from mien.calibration.audit.finding import Finding, printable
from mien.calibration.audit.graph import Tensor, TypedGraph, graph_values
from mien.engines.diffusion import ENCODERS, UNETS, unet_facts
from mien.engines.engine import FakeEngine
from mien.engines.errors import ModelError
from mien.engines.face_space import FACE_SPACE, PUBLIC_NAMES
from mien.engines.network import Network, TensorSpec
from mien.engines.networks import (
    FACE_PARSER_NAME,
    GENERATORS,
    SHIPPED,
    generator_facts,
    parser_facts,
)
from mien.engines.text_faces import TEXT_FACE_NAMES

PARITY_KEY = "mien.parity_error"
PARITY_LIMIT = 1e-3  # relative, of an export against its source
HALF_PARITY_LIMIT = 0.1  # of a network that convolves in FP16, relative to its largest value
ORIGINS = ("mien.paper", "mien.source", "mien.trained_on")
WORDS = {"judge": ("mien.classes", "probabilities"), "warp": ("mien.targets", None)}
# A user's own may have other sizes, labels and classes.
STYLED = {network.name for network in GENERATORS}
DENOISERS = {network.name for network in UNETS}
# Networks whose sizes are their own: what comes with mien is one of many.
FREE = {n.name for n in (*GENERATORS, *UNETS, *ENCODERS, *FACE_SPACE)} | {FACE_PARSER_NAME}
NUMPY_NAMES = {"FP32": "float32", "FP16": "float16", "DOUBLE": "float64", "BOOL": "bool"}
EXPORT_AGAIN = "write it with mien export"


def metadata_of(model: ModelProto) -> dict[str, str]:
    """What the file states, by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def stated_network(metadata: Mapping[str, str]) -> Network | None:
    """The network that a graph states it is."""
    try:
        return Network.from_metadata(metadata)
    except ModelError:
        return None


def check_statement(graph: TypedGraph) -> Iterator[Finding]:
    """What is missing of, or wrong in, what the graph states."""
    metadata = metadata_of(graph.model)
    network = stated_network(metadata)
    if network is None:
        text = "the graph does not state which network it is: not one of mien's"
        yield _wrong(text, EXPORT_AGAIN)
        return
    yield from _check_declared(network)
    yield from _check_ends(graph, network)
    yield from _check_facts(network, metadata)


def _wrong(text: str, fix: str) -> Finding:
    return Finding("metadata", "error", printable(text), fix)


def _check_declared(network: Network) -> Iterator[Finding]:
    declared = {known.name: known for known in SHIPPED}.get(network.name)
    if network.name in (*PUBLIC_NAMES, *TEXT_FACE_NAMES):  # of the user's own sizes
        return
    if declared is None:
        text = f"no network of mien is named {network.name!r}"
        yield _wrong(text, "use the file with the version of mien that made it")
    elif network.name not in FREE and network != declared:
        text = f"it states other inputs or outputs than the network {network.name!r} has"
        yield _wrong(text, "use a model made for this version of mien")


def _check_ends(graph: TypedGraph, network: Network) -> Iterator[Finding]:
    inputs, outputs = graph_values(graph.model.graph)
    for side, values, specs in (
        ("inputs", inputs, network.inputs),
        ("outputs", outputs, network.outputs),
    ):
        found = [_end(value.name, graph.tensors[value.name]) for value in values]
        stated = [_stated_end(spec) for spec in specs]
        if found != stated:
            text = f"its {side} are {', '.join(found) or 'none'}, and it states {', '.join(stated)}"
            yield _wrong(text, EXPORT_AGAIN)


def _end(name: str, tensor: Tensor) -> str:
    dtype = NUMPY_NAMES.get(tensor.dtype or "", (tensor.dtype or "unknown").lower())
    return f"{name} {dtype} {tensor.shape}"


def _stated_end(spec: TensorSpec) -> str:
    return f"{spec.name} {np.dtype(spec.dtype).name} {spec.shape}"


def _check_facts(network: Network, metadata: Mapping[str, str]) -> Iterator[Finding]:
    try:
        parity = float(metadata[PARITY_KEY])
    except (KeyError, ValueError):
        yield _wrong(f"{PARITY_KEY}, its error against its source, is not stated", EXPORT_AGAIN)
    else:
        is_half = metadata.get("mien.precision") == "fp16"
        limit = HALF_PARITY_LIMIT if is_half else PARITY_LIMIT
        if not (math.isfinite(parity) and 0 <= parity <= limit):
            text = f"{PARITY_KEY} is {parity:g}, above the {limit:g} that is allowed"
            yield _wrong(text, "find the node that differs, and export again")
    if not any(metadata.get(key) for key in ORIGINS):
        yield _wrong(f"none of {', '.join(ORIGINS)} says where it comes from", EXPORT_AGAIN)
    yield from _check_words(network, metadata)


def _check_words(network: Network, metadata: Mapping[str, str]) -> Iterator[Finding]:
    """The words for a network's numbers, read by the code that the filter reads them with."""
    engine = FakeEngine(network, lambda feeds: feeds, metadata)
    try:
        if network.name == FACE_PARSER_NAME:
            parser_facts(engine)
        elif network.name in DENOISERS:
            unet_facts(engine)
        elif network.name in STYLED:
            generator_facts(engine)
    except ModelError as error:
        yield _wrong(str(error), EXPORT_AGAIN)
    if network.name not in WORDS:
        return
    key, output = WORDS[network.name]
    specs = {spec.name: spec for spec in (*network.outputs, *network.inputs)}
    spec = specs.get(output or "target")
    count = len([word for word in metadata.get(key, "").split(",") if word.strip()])
    if spec is not None and count != spec.shape[-1]:
        yield _wrong(f"{key} has {count} words for {spec.shape[-1]} numbers", EXPORT_AGAIN)
