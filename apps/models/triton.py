"""`mien export-triton`: the default filter as a model repository of Triton Inference Server.

The program that Triton's Python backend runs for the filter is kept as text and is no module of
this package: what it imports is there only inside the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mien.engines import Catalog, Network, UsageError
from mien.engines.network import TensorSpec
from mien.engines.networks import NETWORKS
from mien.runtime.whole_file import copy_whole, write_whole

MODEL = '''"""The filter of mien, its networks run by this server (business logic scripting).

The server's Python needs mien: pip install . in a clone of it, or its wheel.
"""

import numpy as np
import triton_python_backend_utils as pb_utils
from mien.engines import Catalog, Engine, EngineError, MienError, Network
from mien.runtime import Filter


class ServedEngine(Engine):
    """A network that is another model of this server."""

    def __init__(self, network):
        super().__init__(network, "triton")

    def _run(self, feeds):
        names = [spec.name for spec in self.network.outputs]
        inputs = [pb_utils.Tensor(name, np.ascontiguousarray(feeds[name])) for name in feeds]
        request = pb_utils.InferenceRequest(
            model_name=self.network.name, requested_output_names=names, inputs=inputs
        )
        response = request.exec()
        if response.has_error():
            raise EngineError(f"{self.network.name}: {response.error().message()}")
        found = {name: pb_utils.get_output_tensor_by_name(response, name) for name in names}
        return {name: tensor.as_numpy() for name, tensor in found.items()}

    def _release(self):
        pass


class ServedCatalog(Catalog):
    """The networks of this server."""

    def open(self, network, *, provider="cpu", threads=None):
        assert isinstance(network, Network), "the default filter declares its networks"
        return ServedEngine(network)


class TritonPythonModel:
    """One sequence at a time: a video, frame by frame."""

    def initialize(self, args):
        self._filter = Filter(None, models=ServedCatalog(()))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        def given(name):
            return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

        try:
            if given("START").reshape(-1)[0]:
                self._filter.reset()
            self._set_target(given("target").reshape(-1)[0].decode())
            edited = self._filter(given("frame"), float(given("time_s").reshape(-1)[0]))
        except MienError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("edited", edited)])

    def _set_target(self, text):
        from mien.runtime.target import parse_target

        self._filter.target = parse_target(text) if text else None

    def finalize(self):
        self._filter.close()
'''


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
