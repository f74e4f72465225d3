"""The Frechet distance between two sets of pictures, by the features a network sees in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from mien.engines.errors import ModelError, UsageError
from mien.engines.graph import wire
from mien.engines.graph.file import read_model
from mien.engines.networks import FER_SIZE
from mien.engines.ort.backend import check_runnable, open_session

if TYPE_CHECKING:
    import onnxruntime


INCEPTION_FEATURES = 2048
INCEPTION_SIDE = 299  # where the graph leaves its size open
RANGE_KEYS = ("mien.range", "range")  # of a graph's metadata
RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:\.\.|,)\s*(-?\d+(?:\.\d+)?)")


# Field numbers of onnx.proto.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_OUTPUT = 1, 12
PRODUCTS = (b"Gemm", b"MatMul")
NODE_INPUT, NODE_TYPE = 1, 4
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_SIDE, FLOAT32 = 1, 1, 2, 1, 1


def features_tensor(model: bytes, path: Path) -> str:
    """The name of what enters the last fully connected layer of a classifier.

    model: the file's bytes. path: for the message. Raises ModelError.
    """
    last = None
    try:
        for number, graph in wire.fields(memoryview(model)):
            nodes = wire.fields(wire.part(graph)) if number == MODEL_GRAPH else ()
            for kind, node in nodes:
                parts = list(wire.fields(wire.part(node))) if kind == GRAPH_NODE else []
                if any(n == NODE_TYPE and bytes(wire.part(x)) in PRODUCTS for n, x in parts):
                    last = next(bytes(wire.part(x)) for n, x in parts if n == NODE_INPUT)
    except (ValueError, StopIteration):
        raise ModelError(f"{path} is not an ONNX file, or damaged; get it again") from None
    if last is None:
        raise ModelError(f"{path} has no fully connected layer; give a classifier that ends in one")
    return last.decode()


def with_output(model: bytes, tensor: str) -> bytes:
    """The file with `tensor`, float32 of two sides of any length, as its last output.

    Messages that stand one after the other are read as one, so bytes that say nothing but "the
    graph has another output" are simply appended.
    """
    side = wire.bytes_field(SHAPE_SIDE, b"")
    kind = wire.number_field(TENSOR_ELEMENT, FLOAT32) + wire.bytes_field(TENSOR_SHAPE, 2 * side)
    value = wire.text_field(VALUE_NAME, tensor)
    value += wire.bytes_field(VALUE_TYPE, wire.bytes_field(TYPE_TENSOR, kind))
    return model + wire.bytes_field(MODEL_GRAPH, wire.bytes_field(GRAPH_OUTPUT, value))


class Features(Protocol):
    """A network as a measure of pictures.

    distance_name: what the distance over these features is called. dimensions: how many.
    """

    @property
    def distance_name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """The features float32 (d,) of a `classifier.fer_crop`, float32 (48, 48) in [0, 1]."""
        ...


class ClassifierFeatures:
    """What enters the last layer of the emotion classifier.

    Not its 7 outputs: they say which emotion is seen and nothing else of the picture, and an
    edited face differs from a real one in more than that.

    path: an ONNX file of the network `judge`. Raises ModelError.
    """

    distance_name = "Frechet distance, emotion classifier features"

    def __init__(self, path: Path, *, provider: str = "cpu") -> None:
        model = _read_runnable(path)
        tensor = features_tensor(model, path)
        self._session = open_session(with_output(model, tensor), path, provider=provider)
        self._output = tensor
        self.dimensions = self(np.zeros((FER_SIZE, FER_SIZE), np.float32)).size

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        features: np.ndarray = self._session.run([self._output], {"face": crop[None, None]})[0]
        return features.reshape(-1)


@dataclass(frozen=True, slots=True)
class InputRange:
    """The values an Inception takes: black and white become `low` and `high`."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> InputRange:
        """The range of `0..1`, `-1..1`, `0..255`. Raises UsageError."""
        found = RANGE.fullmatch(text.strip().strip("[]()"))
        if found is None or float(found[1]) >= float(found[2]):
            raise UsageError(f"an input range is LOW..HIGH, such as -1..1, not {text!r}")
        return cls(float(found[1]), float(found[2]))


class InceptionFeatures:
    """An Inception network of the user's own; the distance over its 2,048 features is the FID.

    path: an ONNX file that takes pictures (N, 3, H, W), N open or 1, and gives 2,048 features.
    input_range: of its pictures; None where the graph's metadata states it under `mien.range`.
    Raises ModelError; UsageError where the range is known from neither.
    """

    distance_name = "FID"
    dimensions = INCEPTION_FEATURES

    def __init__(
        self, path: Path, *, input_range: InputRange | None = None, provider: str = "cpu"
    ) -> None:
        self._session = open_session(_read_runnable(path), path, provider=provider)
        self._name, self._size_wh = _picture_input(self._session, path)
        self._output = _features_output(self._session, path)
        self._range = input_range or _stated_range(self._session, path)

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        return self.of_colour(np.repeat(crop[..., None], 3, 2))

    def of_colour(self, picture: np.ndarray) -> np.ndarray:
        """The features of a picture, float32 (h, w, 3), RGB in [0, 1]: float32 (2048,)."""
        shown = cv2.resize(picture, self._size_wh, interpolation=cv2.INTER_LINEAR)
        low, high = self._range.low, self._range.high
        image = (shown * (high - low) + low).transpose(2, 0, 1)[None]
        feeds = {self._name: np.ascontiguousarray(image, np.float32)}
        features: np.ndarray = self._session.run([self._output], feeds)[0]
        return features.reshape(-1)


def _read_runnable(path: Path) -> bytes:
    """A model of the user's own that takes no more than a network may. Raises ModelError."""
    model = read_model(path)
    check_runnable(model, path)
    return model


def _picture_input(
    session: onnxruntime.InferenceSession, path: Path
) -> tuple[str, tuple[int, int]]:
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if inputs else []
    fits = len(inputs) == 1 and len(shape) == 4 and shape[1] == 3
    if not fits or (isinstance(shape[0], int) and shape[0] != 1):
        received = ", ".join(f"{node.name} {tuple(node.shape)}" for node in inputs)
        raise ModelError(
            f"{path} takes {received or 'nothing'}, but an Inception takes one (N, 3, H, W), "
            "N open or 1; export it again"
        )
    height, width = (side if isinstance(side, int) else INCEPTION_SIDE for side in shape[2:])
    return inputs[0].name, (width, height)


def _features_output(session: onnxruntime.InferenceSession, path: Path) -> str:
    for node in session.get_outputs():
        if INCEPTION_FEATURES in node.shape[1:2] and all(side == 1 for side in node.shape[2:]):
            name: str = node.name
            return name
    received = ", ".join(f"{node.name} {tuple(node.shape)}" for node in session.get_outputs())
    raise ModelError(
        f"{path} gives {received}, but FID needs {INCEPTION_FEATURES} features, (N, 2048); "
        "export the network up to its last pooling"
    )


def _stated_range(session: onnxruntime.InferenceSession, path: Path) -> InputRange:
    metadata = session.get_modelmeta().custom_metadata_map
    for key in RANGE_KEYS:
        if key in metadata:
            return InputRange.parse(metadata[key])
    raise UsageError(
        f"{path} does not state which range its pictures have; add --inception-range 0..1 "
        "(or -1..1, 0..255), as it was exported"
    )


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal distribution.

    mean: float64 (d,). covariance: float64 (d, d), symmetric.
    """

    mean: np.ndarray
    covariance: np.ndarray


def check_enough(count: int, dimensions: int) -> None:
    """Raise UsageError where `count` pictures are too few for `dimensions` features.

    Fewer pictures than features leave directions in which nothing was seen; the distance then says
    more of the number of pictures than of the pictures. The paper's own 2,048 of 2,048 are taken.
    """
    if count < dimensions:
        raise UsageError(
            f"received {count} pictures, but a Frechet distance over {dimensions} features needs "
            f"at least {dimensions}; take more pictures or a network with fewer features"
        )


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """The normal distribution of `features`, float (n, d), by their mean and covariance.

    Raises UsageError where n is below d.
    """
    count, dimensions = features.shape
    check_enough(count, dimensions)
    wide = features.astype(np.float64)
    return Gaussian(wide.mean(0), np.cov(wide, rowvar=False).reshape(dimensions, dimensions))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), at least 0; 0 for the same distribution.

    C_a C_b has the eigenvalues of the symmetric C_a^(1/2) C_b C_a^(1/2): real, and below 0 by
    rounding only. So no complex root is taken, whose imaginary part would have to be dropped.

    Source: Heusel et al. 2017 ("FID"), equation 6; Dowson and Landau 1982.
    """
    root = _root(a.covariance)
    product = root @ b.covariance @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    shared = float(np.sqrt(np.clip(values, 0, None)).sum())
    apart = float(((a.mean - b.mean) ** 2).sum())
    spread = float(np.trace(a.covariance) + np.trace(b.covariance))
    return max(0.0, apart + spread - 2 * shared)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
