"""The program that Triton's Python backend runs for the filter, as text.

It is no module of this package: what it imports is there only inside the server.
"""

from __future__ import annotations

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
