"""Generators and a face parser that are easy to see through, as fakes and as ONNX files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

from mien.engines import FakeEngine, ModelEntry, Network, record_model
from mien.engines.networks import SHIPPED_CLASSES, cyclegan_network, parser_network, stargan_network
from mien.runtime.faces.topology import (
    CONTOUR,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    NOSE_RIDGE,
    NOSE_SIDES,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
)
from mien.runtime.methods.gan.parts import SIZE
from mien.runtime.methods.gan.squares import WIDE_FROM_CROP
from tests.runtime.faces.shapes import mean_face

EMOTIONS = ("neutral", "happy", "sad")
PART_LABELS = (*EMOTIONS, "eye", "nose", "mouth")
# What a label adds to a picture in [-1, 1].
STEPS = {"neutral": 0.0, "happy": 0.3, "sad": -0.3, "mouth": 0.0}
# The 19 classes of CelebAMask-HQ, in the order of its own script.
CELEBAMASK = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
POLYGONS = {
    "skin": CONTOUR + LEFT_BROW + RIGHT_BROW,
    "l_brow": LEFT_BROW,
    "r_brow": RIGHT_BROW,
    "l_eye": LEFT_EYE,
    "r_eye": RIGHT_EYE,
    "nose": NOSE_RIDGE + NOSE_BASE + NOSE_SIDES,
    "u_lip": OUTER_LIPS,
    "mouth": INNER_LIPS,
}


def wide_landmarks() -> np.ndarray:
    """The mean face in units of the wide crop: float32 (106, 2)."""
    moved = mean_face() @ WIDE_FROM_CROP[:, :2].T + WIDE_FROM_CROP[:, 2]
    return moved.astype(np.float32)


def class_map(
    side: int = 256,
    classes: tuple[str, ...] = SHIPPED_CLASSES,
    landmarks: np.ndarray | None = None,
) -> np.ndarray:
    """The classes of the mean face: uint8 (side, side), index into `classes`."""
    points = wide_landmarks() if landmarks is None else landmarks
    indices = np.full((side, side), classes.index("background"), np.uint8)
    for name, polygon in POLYGONS.items():
        if name in classes:
            corners = np.round((points[list(polygon)] * side - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(indices, [cv2.convexHull(corners)], classes.index(name), cv2.LINE_8, 4)
    return indices


def logits_of(indices: np.ndarray, count: int) -> np.ndarray:
    """Logits (1, count, side, side) whose largest is that of `indices`."""
    return (8 * np.eye(count, dtype=np.float32)[indices]).transpose(2, 0, 1)[None]


class CountedParser:
    """A parser that answers with a class map, which may be changed, and counts its calls."""

    def __init__(self, classes: tuple[str, ...] = SHIPPED_CLASSES, size: int = 256) -> None:
        self.indices = class_map(size, classes)
        self.classes = classes
        self.calls = 0
        self.seen: list[np.ndarray] = []

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        self.seen.append(feeds["image"])
        return {"logits": logits_of(self.indices, len(self.classes))}

    def engine(self, **facts: str) -> FakeEngine:
        network = parser_network(classes=len(self.classes), size=self.indices.shape[0])
        stated = {"classes": ",".join(self.classes), "colour": "luma"} | facts
        return FakeEngine(network, self, metadata(stated))


def metadata(facts: Mapping[str, str]) -> dict[str, str]:
    return {f"mien.{key}": text for key, text in facts.items()}


class CountedGenerator:
    """A StarGAN that adds to each picture what its label says, and counts its calls."""

    def __init__(self, labels: tuple[str, ...] = EMOTIONS, batch: int = 1, size: int = 64) -> None:
        self.labels, self.batch, self.size = labels, batch, size
        self.calls = 0
        self.given: list[np.ndarray] = []
        self.asked: list[np.ndarray] = []

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        self.given.append(feeds["image"])
        self.asked.append(feeds["label"])
        steps = np.array([STEPS.get(name, 0.0) for name in self.labels], np.float32)
        return {"edited": feeds["image"] + (feeds["label"] @ steps)[:, None, None, None]}

    def engine(self, name: str = "stargan_face", **facts: str) -> FakeEngine:
        network = stargan_network(name, labels=len(self.labels), batch=self.batch, size=self.size)
        stated = {"labels": ",".join(self.labels), "colour": "luma"} | facts
        return FakeEngine(network, self, metadata(stated))


def one_way_engine(
    step: float = 0.3, name: str = "cyclegan_face", direction: str = "neutral->happy"
) -> FakeEngine:
    """A CycleGAN that adds `step` to the lower half of a picture in [-1, 1], not to its border."""

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        edited = feeds["image"].copy()
        side = edited.shape[2]
        edited[:, :, side // 2 : -side // 8, side // 8 : -side // 8] += np.float32(step)
        return {"edited": edited}

    stated = metadata({"labels": direction, "colour": "luma"})
    return FakeEngine(cyclegan_network(name), answer, stated)


def write_style_models(folder: Path, classes: tuple[str, ...] = SHIPPED_CLASSES) -> Path:
    """`folder`, with a catalog of all six generators and the parser, as ONNX files."""
    folder.mkdir(exist_ok=True)
    for mode, batch in (("image", 1), ("face", 1), ("parts", 4)):
        labels = PART_LABELS if mode == "parts" else EMOTIONS
        network = stargan_network(f"stargan_{mode}", labels=len(labels), batch=batch)
        steps = np.array([[STEPS.get(name, 0.0)] for name in labels], np.float32)
        nodes = [
            helper.make_node("MatMul", ["label", "steps"], ["step"]),
            helper.make_node("Reshape", ["step", "shape"], ["map"]),
            helper.make_node("Add", ["image", "map"], ["edited"]),
        ]
        shape = np.array([batch, 1, 1, 1], np.int64)
        facts = {"labels": ",".join(labels), "colour": "luma"}
        write_network(folder, network, nodes, {"steps": steps, "shape": shape}, facts)
        network = cyclegan_network(f"cyclegan_{mode}", batch=batch)
        nodes = [helper.make_node("Add", ["image", "step"], ["edited"])]
        facts = {"labels": "neutral->happy", "colour": "luma"}
        step = np.zeros((1, 1, SIZE, SIZE), np.float32)
        step[..., 12:52, 12:52] = 0.4  # not to its border, where a picture's light is compared
        write_network(folder, network, nodes, {"step": step}, facts)
    network = parser_network(classes=len(classes))
    logits = logits_of(class_map(classes=classes), len(classes))
    nodes = [helper.make_node("Identity", ["answer"], ["logits"])]
    facts = {"classes": ",".join(classes), "colour": "luma"}
    write_network(folder, network, nodes, {"answer": logits}, facts)
    return folder


def write_network(
    folder: Path,
    network: Network,
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    facts: Mapping[str, str],
) -> None:
    """Write a graph that states what it is, and put it into the folder's catalog."""
    inputs, outputs = (
        [
            helper.make_tensor_value_info(
                s.name, helper.np_dtype_to_tensor_dtype(np.dtype(s.dtype)), s.shape
            )
            for s in side
        ]
        for side in (network.inputs, network.outputs)
    )
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, network.name, inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, network.metadata() | metadata(facts))
    onnx.checker.check_model(model)
    path = folder / f"{network.name}.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / f"{network.name}.md").write_text("A network for tests.")
    entry = ModelEntry(
        name=f"plain {network.name}",
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
