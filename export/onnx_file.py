"""From a torch module to a checked ONNX file that states what it is.

Weights may be kept in half precision: a file of half the size that computes in single precision.
Rounding is done to the module, before its export, so that the file still says exactly what the
module says and a score of the module is a score of the file.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mien.engines.errors import ModelError
from mien.engines.graph.file import part_metadata
from mien.engines.graph.guard import MAX_BYTES
from mien.engines.network import Network, TensorSpec
from mien.engines.system.folders import private_folder
from mien.engines.system.partial_file import PartialFile
from mien.export.parity import Allowed, Example, Parity, compare

OPSET = 18
PARITY_KEY = "mien.parity_error"
SAME_CLASS_KEY = "mien.same_class"
MOST_BYTES = MAX_BYTES * 15 // 16  # what the graph itself takes lies within the rest
BLOCK = 1 << 24
DIGITS = 12  # of a hash, in the name of a part
# Random inputs for which torch and ONNX Runtime are compared; of a network of more than FEW_ABOVE
# bytes each takes seconds.
EXAMPLES, FEW_ABOVE = 4, 64 << 20
# It tells that there is no torchvision, four lines each time; nothing here needs it.
CHATTY = "torch.onnx._internal.exporter._registration"


def to_onnx(
    module: nn.Module,
    network: Network,
    path: Path,
    *,
    facts: Mapping[str, str] | None = None,
    tolerance: float = 1e-3,
) -> float:
    """The parity error of `module` written to `path` as the declared `network`.

    The largest difference between torch and ONNX Runtime over random inputs, relative to the size
    of an output's values where these are above 1. facts: more metadata (paper, data), kept as
    `mien.<key>`.

    Raises ParityError where they differ by more than `tolerance`; no file is left then.
    """
    written = write_onnx(module, network, path, facts=facts, allowed=Allowed(tolerance))
    return written.difference


def write_onnx(
    module: nn.Module,
    network: Network,
    path: Path,
    *,
    facts: Mapping[str, str] | None = None,
    allowed: Allowed,
    examples: Sequence[Example] = (),
) -> Parity:
    """How near the file that is written to `path` is to `module`; as `to_onnx` otherwise.

    examples: inputs to compare with beside the random ones. Weights of more than MOST_BYTES lie in
    a part beside the file.

    Raises ParityError where they differ by more than is allowed; no file is left then.
    """
    module = module.eval().cpu()
    size = _bytes_of(module)
    count = EXAMPLES if size <= FEW_ABOVE else 1
    randoms = [Example(f"random input {n}", example_of(network, n)) for n in range(count)]
    with private_folder() as folder:
        made = folder / path.name
        parts = _save(trace(module, network, randoms[0]), made, is_large=size > MOST_BYTES)
        metadata = network.metadata() | {f"mien.{key}": text for key, text in (facts or {}).items()}
        _stamp(made, metadata | part_metadata({one.name: one for one in parts}), check=True)
        parity = compare(module, network, made, [*randoms, *examples], allowed)
        measured = {PARITY_KEY: f"{parity.difference:.3g}"}
        if parity.same_class is not None:
            measured[SAME_CLASS_KEY] = f"{parity.same_class:.6f}"
        _stamp(made, measured, check=False)
        for one in (*parts, made):
            copy_whole(one, path.parent / one.name)
    return parity


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, so that it appears under its new name only when it is whole."""
    with PartialFile(target, overwrite=True, error=ModelError) as part, source.open("rb") as file:
        while block := file.read(BLOCK):
            part.write(block)
        part.publish(durable=True)


def _bytes_of(module: nn.Module) -> int:
    """What the weights of a module take."""
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def _save(program: torch.onnx.ONNXProgram, path: Path, *, is_large: bool) -> list[Path]:
    """The parts that are written beside the graph at `path`, for one whose weights are large.

    A part is named by what it holds, so that two models in one folder never share a wrong one.
    """
    program.save(str(path), external_data=is_large)
    made = path.with_name(f"{path.name}.data")
    if not is_large or not made.exists():
        return []
    digest = next(iter(part_metadata({made.name: made}).values()))[:DIGITS]
    part = made.rename(path.with_name(f"{path.stem}-{digest}.data"))
    graph = onnx.load(str(path), load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = part.name
    onnx.save(graph, str(path))
    return [part]


def trace(module: nn.Module, network: Network, example: Example) -> torch.onnx.ONNXProgram:
    """The graph of a module, with constants folded and normalisation merged into convolutions.

    onnxsim finds nothing to take out of the graphs made here (34 to 154 nodes), so it is not used.
    """
    with warnings.catch_warnings(), _quiet(CHATTY):
        # torch 2.13's exporter warns of what it deprecates itself, and that there is no torchvision
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            program = torch.onnx.export(
                module,
                tuple(torch.from_numpy(example.feeds[spec.name]) for spec in network.inputs),
                input_names=[spec.name for spec in network.inputs],
                output_names=[spec.name for spec in network.outputs],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{network.name}: torch cannot trace it: {reason}") from error
    if program is None:
        raise ModelError(f"torch gave no graph for the network {network.name!r}; update torch")
    return program


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def example_of(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of the declared shapes, within the declared ranges."""
    rng = np.random.default_rng(seed)
    return {spec.name: _example(spec, rng) for spec in network.inputs}


def _example(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    low, high = spec.range or (0.0, 1.0)
    return rng.uniform(low, high, spec.shape).astype(spec.dtype)


def sha256_of(path: Path) -> str:
    """The hash of a file, as the catalog keeps it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stamp(path: Path, metadata: Mapping[str, str], *, check: bool) -> None:
    """Add `metadata` to the graph at `path`, which is checked first where asked for."""
    if check:
        onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path), load_external_data=False)
    known = {entry.key: entry.value for entry in graph.metadata_props} | dict(metadata)
    onnx.helper.set_model_props(graph, known)
    for node in graph.graph.node:  # where a node was traced from: names of the exporting machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    for initializer in graph.graph.initializer:
        del initializer.metadata_props[:]
    onnx.save(graph, str(path))


Module = TypeVar("Module", bound=nn.Module)

INT8_MOST, INT8_MIDDLE = 127, 128
SMALLEST = 64  # tensors of fewer elements stay as they are: a cast costs as much as it saves


def rounded_to_half(module: Module) -> Module:
    """A copy of `module`, for inference, whose weights half precision holds exactly.

    Normalisation is merged into the convolutions before it, as the exporter would do after.
    """
    made = copy.deepcopy(module).eval().float()
    for sequence in list(made.modules()):
        if isinstance(sequence, nn.Sequential):
            _merge_normalisation(sequence)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(weight.half().float())
    return made


def rounded_to_int8(module: Module) -> Module:
    """A copy of `module`, as of `rounded_to_half`, whose matrices and kernels fit in eight bits.

    Each output channel has a scale of its own. It computes in single precision all the same.
    """
    made = rounded_to_half(module)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1 and weight.numel() >= SMALLEST:
                values = weight.numpy()
                steps, scale = _int8_steps(values, 0)
                weight.copy_(torch.from_numpy(steps.astype(np.float32) * scale))
    return made


def _merge_normalisation(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        convolution, normalisation = sequence[index], sequence[index + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(convolution, normalisation)
            sequence[index + 1] = nn.Identity()


def store_small(path: Path) -> int:
    """How many weights of the graph at `path` are now kept in eight bits, or in half precision.

    Those that these hold exactly. Each is cast, and scaled, when the graph is loaded; engines fold
    that.
    """
    model = onnx.load(str(path))
    graph = model.graph
    casts, further = [], []
    for tensor in graph.initializer:
        name = tensor.name
        values = _worth_it(tensor)
        if values is None:
            continue
        if (found := _exact_int8(values)) is not None:
            # Unsigned: TensorRT casts no signed ones, but as part of a quantised layer.
            levels = (found[0].astype(np.int16) + INT8_MIDDLE).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(levels, f"{name}.int8"))
            further += [
                numpy_helper.from_array(np.float32(INT8_MIDDLE), f"{name}.middle"),
                numpy_helper.from_array(found[1], f"{name}.scale"),
            ]
            level, step = f"{name}.level", f"{name}.step"
            casts += [
                helper.make_node("Cast", [tensor.name], [level], to=TensorProto.FLOAT),
                helper.make_node("Sub", [level, f"{name}.middle"], [step]),
                helper.make_node("Mul", [step, f"{name}.scale"], [name]),
            ]
        elif (half := _exact_half(values)) is not None:
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    graph.initializer.extend(further)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return sum(node.op_type == "Cast" for node in casts)


def _worth_it(tensor: TensorProto) -> np.ndarray | None:
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    return values if values.size >= SMALLEST else None


def _exact_half(values: np.ndarray) -> np.ndarray | None:
    """The values in half precision; None where that would change them."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None


def _exact_int8(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The values in eight bits, and the scales to multiply them by; None where that changes them.

    The axis of the channels is any: the exporter transposes some matrices.
    """
    for axis in range(values.ndim if values.ndim > 1 else 0):
        steps, scale = _int8_steps(values, axis)
        if np.array_equal(steps.astype(np.float32) * scale, values):
            return steps, scale
    return None


def _int8_steps(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Values as int8 steps of [-127, 127], and the float32 scale of each index of `axis`.

    Scales have 16 bits of mantissa, so that a step times its scale is exact, and the scales are
    found again in what was rounded by them.
    """
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(others, keepdims=True).astype(np.float64)
    mantissa, exponent = np.frexp(largest / INT8_MOST)
    scale = np.ldexp(np.ceil(mantissa * 2**16) / 2**16, exponent).astype(np.float32)
    scale[scale == 0] = 1
    return np.rint(values / scale).astype(np.int8), scale
