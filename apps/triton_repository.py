"""`mien export-triton`: the default filter as a model repository of Triton Inference Server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mien.apps.triton_model import MODEL
from mien.engines import Catalog, Network, UsageError
from mien.engines.network import TensorSpec
from mien.engines.networks import NETWORKS
from mien.runtime.whole_file import copy_whole, write_whole

FILTER = "mien_filter"
LEFT_OUT = (
    "the generators and the parser of --method image, face and parts, and the emotion classifier; "
    "choosing a face, sound and files, which are the client's"
)
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
FILTER_CONFIG = f"""\
name: "{FILTER}"
backend: "python"
max_batch_size: 0
input [
  {{ name: "frame" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }},
  {{ name: "time_s" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "target" data_type: TYPE_STRING dims: [ 1 ] }}
]
output [ {{ name: "edited" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
sequence_batching {{
  max_sequence_idle_microseconds: 10000000
  control_input [
    {{
      name: "START"
      control [ {{ kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }} ]
    }}
  ]
}}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def export_triton(folder: Path, models: Path | None = None) -> list[str]:
    """The names of the models written to `folder`, which must not be there or be empty.

    Each network of the default filter is one, and the filter itself another that calls them.

    Raises UsageError, ModelError, VideoError.
    """
    catalog = Catalog.bundled() if models is None else Catalog.load(models)
    for network in NETWORKS:
        catalog.entry(network).check_file()
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; name a new folder")
        for network in NETWORKS:
            version = _version(folder, network.name, network_config(network))
            copy_whole(catalog.entry(network).path, version / "model.onnx")
        version = _version(folder, FILTER, FILTER_CONFIG)
        write_whole(version / "model.py", MODEL.encode())
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; name another folder") from error
    return [*(network.name for network in NETWORKS), FILTER]


def network_config(network: Network) -> str:
    """The `config.pbtxt` of a network.

    Its shapes are whole, batch included, so `max_batch_size` is 0 and Triton gathers no requests:
    a graph of one face cannot take two.
    """
    lines = [f"name: {json.dumps(network.name)}", 'backend: "onnxruntime"', "max_batch_size: 0"]
    lines += [_tensors("input", network.inputs), _tensors("output", network.outputs)]
    return "\n".join([*lines, "instance_group [ { count: 1 } ]", ""])


def _tensors(side: str, specs: Sequence[TensorSpec]) -> str:
    tensors = [
        f"  {{ name: {json.dumps(spec.name)} data_type: {TYPES[spec.dtype]} "
        f"dims: [ {', '.join(map(str, spec.shape))} ] }}"
        for spec in specs
    ]
    return f"{side} [\n" + ",\n".join(tensors) + "\n]"


def _version(folder: Path, name: str, config: str) -> Path:
    version = folder / name / "1"
    version.mkdir(parents=True)
    write_whole(folder / name / "config.pbtxt", config.encode())
    return version
