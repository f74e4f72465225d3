"""What measures generated faces: MS-SSIM, and networks of the user's own or those that are shipped.

Inception, LPIPS, ArcFace and OpenFace cannot be shipped. Each has a stand-in among the shipped
networks, which is named in every report: its numbers compare among themselves, not with a paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.judges.features import (
    RANGE_KEYS,
    ClassifierFeatures,
    Features,
    InceptionFeatures,
    InputRange,
)
from mien.calibration.latent.faces import OpenSpace, seen_by_classifier
from mien.calibration.smile.rows import classifier_of
from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.face_space import IMAGE_TOWER, TEXT_TOWER
from mien.engines.graph.file import read_model
from mien.engines.network import METADATA_KEY, Network
from mien.engines.ort.backend import check_runnable, open_session
from mien.runtime.methods.latent.space import resized
from mien.runtime.words import ADJECTIVES, NOUNS, prompt_tokens, stated_vocabulary

# Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity" (2003), section 3.2.
SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
STEADY: Final = (0.01**2, 0.03**2)  # C1 and C2 of pictures in [0, 1]

Vector = Callable[[np.ndarray, np.ndarray], np.ndarray]  # picture and landmarks to (d,)
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # two pictures, landmarks


def ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """The multi-scale structural similarity of two pictures (c, s, s) in [0, 1]; 1 for the same.

    Of their means over the channels. The paper's five scales need 176 pixels; smaller pictures take
    those that hold a window, and these scales' weights by their sum.
    """
    a, b = (picture.mean(0).astype(np.float64) for picture in (first, second))
    scales = 1
    while scales < len(SCALE_WEIGHTS) and min(a.shape) >> scales >= WINDOW:
        scales += 1
    weights = np.array(SCALE_WEIGHTS[:scales])
    weights /= weights.sum()
    result = 1.0
    for scale, weight in enumerate(weights):
        light, structure = _similarities(a, b)
        part = light * structure if scale == scales - 1 else structure
        result *= max(0.0, part) ** float(weight)
        a, b = (cv2.resize(x, (x.shape[1] // 2, x.shape[0] // 2), interpolation=cv2.INTER_AREA)
                for x in (a, b))  # fmt: skip
    return result


def _similarities(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The means of luminance and of contrast and structure over all whole windows."""
    edge = WINDOW // 2

    def local(x: np.ndarray) -> np.ndarray:
        blurred = cv2.GaussianBlur(x, (WINDOW, WINDOW), SIGMA)
        return blurred[edge : len(x) - edge, edge : x.shape[1] - edge]

    mean_a, mean_b = local(a), local(b)
    spread_a, spread_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    shared = local(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + STEADY[0]) / (mean_a**2 + mean_b**2 + STEADY[0])
    structure = (2 * shared + STEADY[1]) / (spread_a + spread_b + STEADY[1])
    return float(light.mean()), float(structure.mean())


class PictureNetwork:
    """A network of the user's own, as ONNX: one picture or two, (N, 1 or 3, H, W), to numbers.

    The graph's metadata says what black and white are: `mien.range`, such as -1..1, or what
    `mien export` states. Raises ModelError, UsageError.
    """

    def __init__(self, path: Path, pictures: int, *, provider: str = "cpu") -> None:
        model = read_model(path)
        check_runnable(model, path)
        self._session = open_session(model, path, provider=provider)
        inputs = self._session.get_inputs()
        shapes = [list(node.shape) for node in inputs]
        if len(shapes) != pictures or not all(_is_picture(shape) for shape in shapes):
            received = ", ".join(f"{node.name} {tuple(node.shape)}" for node in inputs)
            raise ModelError(
                f"{path} takes {received or 'nothing'}, expected {pictures} of (1, 1 or 3, H, W), "
                "H and W fixed; export it again"
            )
        self._names = [node.name for node in inputs]
        self._shapes = [(shape[1], shape[2], shape[3]) for shape in shapes]
        stated = self._session.get_modelmeta().custom_metadata_map
        self._range = _stated_range(stated, path)
        self.name = path.name

    def __call__(self, *pictures: np.ndarray) -> np.ndarray:
        """The first output for pictures (c, s, s) in [0, 1]: float32, flat."""
        feeds = {}
        for name, shape, picture in zip(self._names, self._shapes, pictures, strict=True):
            channels, height, width = shape
            planes = picture.mean(0, keepdims=True) if channels == 1 else picture
            sized = [
                cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes
            ]
            shown = np.broadcast_to(np.stack(sized), (channels, height, width))
            low, high = self._range.low, self._range.high
            feeds[name] = (shown * (high - low) + low)[None].astype(np.float32)
        found: np.ndarray = self._session.run(None, feeds)[0]
        return found.reshape(-1)


def _is_picture(shape: list[object]) -> bool:
    """Whether an input is (1 or open, 1 or 3, H, W)."""
    fixed = len(shape) == 4 and shape[1] in (1, 3) and all(isinstance(s, int) for s in shape[2:])
    return fixed and (shape[0] == 1 or not isinstance(shape[0], int))


def _stated_range(metadata: Mapping[str, str], path: Path) -> InputRange:
    for key in RANGE_KEYS:
        if key in metadata:
            return InputRange.parse(metadata[key])
    if METADATA_KEY in metadata:
        spec = Network.from_metadata(metadata).inputs[0]
        if spec.range is not None:
            return InputRange(*spec.range)
    raise UsageError(
        f"{path} does not state which range its pictures have; add mien.range to its metadata, "
        "such as -1..1"
    )


class TextImagePair:
    """How near a picture is to a text: the space's own text and image towers.

    Raises ModelError where the text tower states no vocabulary.
    """

    def __init__(self, text: Engine, image: Engine) -> None:
        self._text, self._image = text, image
        self._vocabulary = stated_vocabulary(text.metadata)
        self._known: dict[str, np.ndarray] = {}

    def cosine(self, picture: np.ndarray, emotion: str) -> float | None:
        """The cosine of a picture (c, s, s) with the paper's text, "an emotion of" the emotion.

        None where the text tower has no word for the emotion.
        """
        if emotion not in self._known:
            words = (*NOUNS[emotion], *ADJECTIVES[emotion])
            word = next((word for word in words if word in self._vocabulary), None)
            if word is None:
                return None
            batch, length = self._text.network.inputs[0].shape
            tokens = prompt_tokens(f"an emotion of {word}", self._vocabulary, length)
            found = self._text.infer({"tokens": np.repeat(tokens, batch, 0)})["embedding"][0]
            self._known[emotion] = unit(found)
        shape = self._image.network.inputs[0].shape
        seen = resized(picture.mean(0, keepdims=True), shape[2]) * 2 - 1
        image = np.broadcast_to(seen, shape).astype(np.float32)
        embedding = self._image.infer({"image": image})["embedding"][0]
        return float(unit(embedding) @ self._known[emotion])


@dataclass(frozen=True, slots=True)
class OwnNetworks:
    """Networks of the user's own, as ONNX files; None takes what is shipped.

    classifier: a `judge`. inception: pictures to 2,048 features. lpips: two pictures to a distance.
    identity: a picture to an embedding of the person. action_units: a picture to intensities.
    """

    classifier: Path | None = None
    inception: Path | None = None
    inception_range: InputRange | None = None
    lpips: Path | None = None
    identity: Path | None = None
    action_units: Path | None = None


@dataclass(frozen=True, slots=True)
class Instruments:
    """What measures pictures, each with its name for the report."""

    classifier: EmotionClassifier
    features: Features
    distance: Distance
    identity: Vector
    actions: Vector
    pair: TextImagePair | None
    names: Mapping[str, str]


def open_instruments(own: OwnNetworks, space: OpenSpace, catalog: Catalog) -> Instruments:
    """The user's networks, and shipped ones in the place of those not given. Raises MienError."""
    judge = own.classifier or classifier_of(catalog)
    plain = ClassifierFeatures(judge)
    shipped = f"features of the emotion classifier {judge.name}"

    def embedded(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        return unit(plain(seen_by_classifier(picture, landmarks)))

    def apart(first: np.ndarray, second: np.ndarray, landmarks: np.ndarray) -> float:
        return float(np.square(embedded(first, landmarks) - embedded(second, landmarks)).sum())

    def actions(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        return np.array(astuple(space.measures(picture, landmarks)))

    names = {
        "FID": shipped,
        "LPIPS": f"squared distance of {shipped}, of unit length",
        "IP": shipped,
        "AUs": "seven measures of landmarks (smile, brows, lids, lips)",
        "ED": f"emotion classifier {judge.name}",
        "CS": f"{TEXT_TOWER} and {IMAGE_TOWER} of the face space",
    }
    features: Features = plain
    distance: Distance = apart
    identity: Vector = embedded
    units: Vector = actions
    if own.inception is not None:
        features = InceptionFeatures(own.inception, input_range=own.inception_range)
        names["FID"] = own.inception.name
    if own.lpips is not None:
        lpips = PictureNetwork(own.lpips, 2)
        distance, names["LPIPS"] = (lambda a, b, _place: float(lpips(a, b)[0])), lpips.name
    if own.identity is not None:
        person = PictureNetwork(own.identity, 1)
        identity, names["IP"] = (lambda a, _place: unit(person(a))), person.name
    if own.action_units is not None:
        muscles = PictureNetwork(own.action_units, 1)
        units, names["AUs"] = (lambda a, _place: muscles(a)), muscles.name
    pair = None
    if space.has(TEXT_TOWER) and space.has(IMAGE_TOWER):
        pair = TextImagePair(space.open(TEXT_TOWER), space.open(IMAGE_TOWER))
    else:
        names["CS"] = f"{TEXT_TOWER} or {IMAGE_TOWER} is missing"
    classifier = EmotionClassifier.load(judge)
    return Instruments(classifier, features, distance, identity, units, pair, names)


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector at unit length."""
    scaled: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled
