"""How much a network has to do: the arithmetic of its graph and the bytes it moves at least.

ONNX Runtime itself tells the shapes, through its profile of one run of the graph as written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.engines.graph.file import read_model
from mien.engines.network import Network, example_inputs
from mien.engines.ort.backend import FATAL_ONLY
from mien.engines.ort.providers import import_onnxruntime
from mien.engines.system.folders import private_folder

MOVES_ONLY = frozenset(
    {"Reshape", "Transpose", "Concat", "Split", "Slice", "Unsqueeze", "Squeeze", "Gather", "Cast"}
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a network asks of the machine.

    operations: additions and multiplications, two for each multiply-accumulate.
    bytes_moved: of the inputs, outputs and weights of all nodes, as if no two were fused.
    """

    operations: float
    bytes_moved: float


def work_of(path: Path, network: Network) -> Work:
    """The work of the graph in `path`, found by running it once. Raises ModelError."""
    with private_folder() as folder:
        session = _profiled_session(read_model(path), folder / "run")
        session.run(None, example_inputs(network))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event["args"] for event in events if _is_node(event)]
    return Work(
        sum(_operations(node) for node in nodes),
        sum(
            int(node[size])
            for node in nodes
            for size in ("activation_size", "parameter_size", "output_size")
        ),
    )


def _profiled_session(model: bytes, prefix: Path) -> Any:
    """A session that runs the graph as written and notes every node, weights included."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    options.add_session_config_entry("session.disable_prepacking", "1")  # else weights are missing
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _is_node(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and "output_type_shape" in event.get("args", {})


def _operations(node: dict[str, Any]) -> float:
    inputs, outputs = (_shapes(node[side]) for side in ("input_type_shape", "output_type_shape"))
    kind = str(node["op_name"])
    written = sum(math.prod(shape) for shape in outputs)
    if kind in MOVES_ONLY:
        return 0
    if kind == "Conv":
        return 2 * written * math.prod(inputs[1][1:])
    if kind == "ConvTranspose":
        return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if kind == "MatMul":
        return 2 * written * inputs[0][-1]
    if kind == "Gemm":  # A may lie transposed
        return 2 * written * math.prod(inputs[0]) / outputs[0][0]
    return max(written, *(math.prod(shape) for shape in inputs)) if inputs else written


def _shapes(tensors: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for tensor in tensors for shape in tensor.values()]
