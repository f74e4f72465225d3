"""Models that answer the same whatever they see: a face in the middle, and a smile for it.

They have the declared inputs and outputs, so that the whole command runs on ONNX Runtime without
the shipped weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mien.engines import DETECTOR, LANDMARKS, OCCLUSION, WARP, ModelEntry, Network, record_model
from tests.runtime.faces.shapes import mean_face

# Of the sample, in pixels of the detector's input: left eye, right eye, mouth.
POINTS = np.array([(136, 84), (190, 83), (164, 155)], np.float32)
BOX = (100, 60, 225, 200)


def write_models(folder: Path) -> Path:
    """`folder`, with a catalog of stand-ins for all networks."""
    folder.mkdir(exist_ok=True)
    scores = np.zeros((1, 2100), np.float32)
    scores[0, 0] = 0.95
    boxes = np.tile(np.array(BOX, np.float32), (1, 2100, 1))
    points = np.tile(POINTS, (1, 2100, 1, 1))
    _write(folder, DETECTOR, {"scores": scores, "boxes": boxes, "points": points})
    # the landmark crop is wider than the canonical one
    seen = (mean_face() - (0.5, 0.34)) * (0.28 / 0.34) + (0.5, 0.40)
    score = np.ones((1, 1), np.float32)
    _write(folder, LANDMARKS, {"landmarks": seen[None].astype(np.float32), "score": score})
    displacement = np.zeros((1, 106, 2), np.float32)
    displacement[0, [84, 90, 96, 100], 1] = -0.05
    light = np.zeros((1, 1, 64, 64), np.float32)
    _write(folder, WARP, {"displacement": displacement, "light": light})
    _write(folder, OCCLUSION, {"covered": np.zeros(OCCLUSION.outputs[0].shape, np.float32)})
    return folder


def _write(folder: Path, network: Network, answers: dict[str, np.ndarray]) -> None:
    inputs = [helper.make_tensor_value_info(s.name, 1, s.shape) for s in network.inputs]
    outputs = [helper.make_tensor_value_info(s.name, 1, s.shape) for s in network.outputs]
    constants = [numpy_helper.from_array(value, f"{name}_") for name, value in answers.items()]
    nodes = [helper.make_node("Identity", [f"{name}_"], [name]) for name in answers]
    graph = helper.make_graph(nodes, network.name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, network.metadata())
    onnx.checker.check_model(model)
    path = folder / f"{network.name}.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / f"{network.name}.md").write_text("A stand-in for tests.")
    entry = ModelEntry(
        name=f"stand-in {network.name}",
        network=network.name,
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        trained_on="nothing",
        minutes=0.0,
        quality={"none": 0.0},
        licence="Apache-2.0",
        card=f"{network.name}.md",
        folder=folder,
    )
    record_model(entry)
