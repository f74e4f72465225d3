"""Table 1 of the diffusion paper, and what it claims and does not measure: that it is still them.

Every held-out face is given each of the seven emotions, and a classifier says which it sees. The
paper edits five pictures of FER-2013's public test split for each emotion, 245 edits in all, and
reports the F1 of each emotion by DeepFace. Beside it stand here how many edits an embedding takes
for the same person, how often the nearest of all originals is the edit's own, and how far pixels
move where no expression lies.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np

from mien.calibration.judges.classifier import still
from mien.calibration.judges.features import ClassifierFeatures, InputRange
from mien.calibration.judges.independent import SAME_PERSON, OtherNetworks
from mien.calibration.smile.pictures import fer2013_pictures
from mien.engines.diffusion import FER2013_LABELS, SIZE
from mien.engines.engine import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.graph.file import read_model
from mien.engines.ort.backend import check_runnable, open_session
from mien.runtime.faces.alignment import FER_TEMPLATE
from mien.runtime.faces.topology import POINT_COUNT, RIGID
from mien.runtime.frame import Frame
from mien.runtime.methods.diffusion.sampler import Sampler, SamplerOptions

Classifier = Callable[[np.ndarray], str]  # a crop float32 (48, 48) in [0, 1] to an emotion
Way = Literal["inversion", "forward", "noise"]
Tell = Callable[[str, int, int], None]
Cells = tuple[str, ...]

EACH = 5  # pictures of each emotion, as in the paper
SPLITS = ("public", "private")  # of FER-2013, that no training sees
FER_WORDS = MappingProxyType(
    {
        "angry": "angry",
        "disgust": "disgusted",
        "fear": "fearful",
        "happy": "happy",
        "sad": "sad",
        "surprise": "surprised",
        "neutral": "neutral",
    }
)
# Table 1 of the paper, by condition, in the order of FER2013_LABELS; macro F1 is their mean.
REPORTED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "label": (0.51, 0.45, 0.45, 0.88, 0.46, 0.94, 0.62),
        "cnn": (0.18, 0.05, 0.14, 0.20, 0.16, 0.19, 0.17),
        "vae": (0.33, 0.15, 0.26, 0.56, 0.32, 0.42, 0.30),
    }
)
# Where expressions lie in FER-2013's crops, left, top, right and bottom in shares of the side: the
# eyes are 0.37 apart at 0.41 of the height, the mean mouth lies 1.07 of that below them.
MOUTH, BROWS = (0.22, 0.66, 0.78, 0.94), (0.10, 0.20, 0.90, 0.38)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A face that no training has seen. crop: float32 (48, 48) in [0, 1]."""

    emotion: str
    crop: np.ndarray


@dataclass(frozen=True, slots=True)
class EditedRow:
    """One way of editing. name: for the table. encoder: of the condition; None for label alone.

    way: from the face's own noise, from fresh noise over it (as the paper), or from noise alone.
    """

    name: str
    unet: Engine
    encoder: Engine | None = None
    options: SamplerOptions | None = None
    way: Way = "inversion"


@dataclass(frozen=True, slots=True)
class Identity:
    """An embedding that took no part. threshold: below it two faces are one person's, or None."""

    name: str
    embed: Callable[[np.ndarray], np.ndarray]
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class EditScore:
    """What is seen in the edits of one row.

    f1: by classifier, of each of FER2013_LABELS. same_person: share of the edits, None without a
    threshold. own_nearest: share of the edits whose own original is the nearest of all. outside:
    mean absolute difference to the original outside mouth and brows, in 8-bit steps.
    """

    name: str
    edits: int
    f1: Mapping[str, tuple[float, ...]]
    same_person: float | None
    own_nearest: float | None
    outside: float
    edit_ms: float

    def macro(self, classifier: str) -> float:
        """The mean F1 by one classifier."""
        return float(np.mean(self.f1[classifier]))


def held_out_faces(data: Path, *, each: int = EACH, split: str = "public") -> list[HeldOut]:
    """The first `each` pictures of each emotion of one of FER-2013's test splits.

    Where the votes of FER+ lie beside it, only pictures whose label most annotators share. Raises
    UsageError.
    """
    if split not in SPLITS:
        raise UsageError(f"held-out faces are of the split {' or '.join(SPLITS)}, not {split!r}")
    if not (data / "fer2013.csv").is_file():
        raise UsageError(f"{data} holds no fer2013.csv; give the folder with FER-2013")
    agreed = _agreed(data)
    wanted: dict[int, str] = {}
    left = dict.fromkeys(FER_WORDS.values(), each)
    with (data / "fer2013.csv").open(encoding="utf-8") as file:
        for index, row in enumerate(csv.DictReader(file)):
            emotion = FER_WORDS.get(row["label"], "")
            is_clear = agreed is None or (index < len(agreed) and agreed[index] == emotion)
            if row["split"] == split and is_clear and left.get(emotion, 0) > 0:
                left[emotion] -= 1
                wanted[index] = emotion
    found = fer2013_pictures(data, wanted)
    faces = [HeldOut(emotion, (luma / 255).astype(np.float32)) for emotion, luma in found]
    if not faces:
        raise UsageError(f"{data} holds no picture of the {split} split of FER-2013")
    return sorted(faces, key=lambda face: FER2013_LABELS.index(face.emotion))


def _agreed(data: Path) -> list[str] | None:
    """What most annotators of FER+ saw in each row; None where there are no votes."""
    path = data / "ferplus.csv"
    if not path.is_file():
        return None
    words = {
        "neutral": "neutral", "happiness": "happy", "surprise": "surprised", "sadness": "sad",
        "anger": "angry", "disgust": "disgusted", "fear": "fearful", "contempt": "contempt",
        "unknown": "", "NF": "",
    }  # fmt: skip
    with path.open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        known = [name for name in rows.fieldnames or () if name in words]
        return [words[max(known, key=lambda name: float(row[name]))] for row in rows]


def edit_faces(
    row: EditedRow, faces: Sequence[HeldOut], tell: Tell = lambda *_: None
) -> tuple[np.ndarray, float]:
    """Every face under each emotion, float32 (7, n, 48, 48) in [0, 1], and milliseconds an edit.

    Raises UsageError, ModelError, EngineError.
    """
    sampler = Sampler(row.unet, row.options)
    unknown = [label for label in FER2013_LABELS if label not in sampler.facts.labels]
    if unknown or sampler.facts.size != SIZE:
        raise ModelError(
            f"{row.unet.network.name} makes {sampler.facts.size} pixels of "
            f"{', '.join(sampler.facts.labels)}; Table 1 needs {SIZE} and "
            f"{', '.join(FER2013_LABELS)}"
        )
    labels = np.eye(len(sampler.facts.labels), dtype=np.float32)
    made = np.empty((len(FER2013_LABELS), len(faces), SIZE, SIZE), np.float32)
    began_s = time.perf_counter()
    for number, face in enumerate(faces):
        tell(row.name, number, len(faces))
        image = (face.crop * 2 - 1)[None, None].astype(np.float32)
        code = None if row.encoder is None else row.encoder.infer({"image": image})["code"]
        latent = _latent(sampler, row.way, image, code, number)
        for place, emotion in enumerate(FER2013_LABELS):
            label = labels[sampler.facts.labels.index(emotion)][None]
            edited = sampler.generate(latent, label, code, tracks=[number])
            made[place, number] = (edited[0, 0] + 1) / 2
    spent_ms = 1e3 * (time.perf_counter() - began_s)
    return made, spent_ms / max(1, made.shape[0] * made.shape[1])


def _latent(
    sampler: Sampler, way: Way, image: np.ndarray, code: np.ndarray | None, track: int
) -> np.ndarray:
    if way == "inversion":
        return sampler.invert(image, code)
    return sampler.disturb(image, track) if way == "forward" else sampler.noise(track)


def score_row(
    row: EditedRow,
    faces: Sequence[HeldOut],
    classifiers: Mapping[str, Classifier],
    identity: Identity | None = None,
    tell: Tell = lambda *_: None,
) -> EditScore:
    """What classifiers and an embedding see in all edits of one row. Raises MienError."""
    edits, edit_ms = edit_faces(row, faces, tell)
    wanted = [label for label in FER2013_LABELS for _ in faces]
    crops = list(edits.reshape(-1, SIZE, SIZE))
    f1 = {name: f1_scores(wanted, list(map(say, crops))) for name, say in classifiers.items()}
    same = nearest = None
    if identity is not None:
        same, nearest = compare_people(identity, [face.crop for face in faces], edits)
    originals = np.stack([face.crop for face in faces])
    outside = float(np.abs(edits - originals)[:, :, outside_expression()].mean()) * 255
    return EditScore(row.name, len(crops), f1, same, nearest, outside, edit_ms)


def f1_scores(wanted: Sequence[str], named: Sequence[str]) -> tuple[float, ...]:
    """The F1 of each of FER2013_LABELS: 2 TP / (2 TP + FP + FN), 0 where nothing is right."""
    scores = []
    for label in FER2013_LABELS:
        right = sum(w == n == label for w, n in zip(wanted, named, strict=True))
        counted = sum(w == label for w in wanted) + sum(n == label for n in named)
        scores.append(2 * right / counted if counted else 0.0)
    return tuple(scores)


def compare_people(
    identity: Identity, originals: Sequence[np.ndarray], edits: np.ndarray
) -> tuple[float | None, float]:
    """The share of edits of the same person, and of those whose original is the nearest of all.

    edits: float32 (k, n, 48, 48) of n originals.
    """
    known = np.stack([identity.embed(crop) for crop in originals])
    same, nearest = [], []
    for many in edits:
        for number, crop in enumerate(many):
            away = np.linalg.norm(known - identity.embed(crop), axis=1)
            nearest.append(int(away.argmin()) == number)
            if identity.threshold is not None:
                same.append(bool(away[number] < identity.threshold))
    return (float(np.mean(same)) if same else None), float(np.mean(nearest))


def outside_expression(size: int = SIZE) -> np.ndarray:
    """Where a FER-2013 crop shows neither mouth nor brows: bool (size, size)."""
    mask = np.ones((size, size), bool)
    for left, top, right, bottom in (MOUTH, BROWS):
        rows = slice(round(top * size), round(bottom * size))
        mask[rows, round(left * size) : round(right * size)] = False
    return mask


class EmbeddingNetwork:
    """An identity network of the user's own, as ONNX: pictures (N, 1 or 3, H, W) to vectors.

    Vectors are brought to unit length. input_range: what black and white are. Raises ModelError.
    """

    def __init__(
        self, path: Path, input_range: InputRange, *, threshold: float | None = None
    ) -> None:
        model = read_model(path)
        check_runnable(model, path)
        self._session = open_session(model, path, provider="cpu")
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] not in (1, 3) or not all(type(s) is int for s in shape[2:]):
            received = ", ".join(f"{node.name} {tuple(node.shape)}" for node in inputs)
            raise ModelError(
                f"{path} takes {received or 'nothing'}, but an identity network takes one picture "
                "(N, 1 or 3, H, W) of a fixed size; export it again"
            )
        self._name, self._channels, self._size = inputs[0].name, shape[1], (shape[2], shape[3])
        self._range = input_range
        self.identity = Identity(path.stem, self._embed, threshold)

    def _embed(self, crop: np.ndarray) -> np.ndarray:
        resized = cv2.resize(crop, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        low, high = self._range.low, self._range.high
        whole = (1, self._channels, *self._size)
        picture = np.broadcast_to(resized * (high - low) + low, whole).astype(np.float32)
        return _unit(self._session.run(None, {self._name: picture})[0].reshape(-1))


def shipped_identity(classifier: Path) -> Identity:
    """What enters the last layer of the emotion classifier, for want of an identity network.

    It says more of the emotion than of the person: only `own_nearest` means something, and less
    than with an embedding of people. Raises ModelError.
    """
    features = ClassifierFeatures(classifier)
    return Identity("the emotion classifier's features", lambda crop: _unit(features(crop)))


def other_networks(networks: OtherNetworks) -> tuple[Classifier, Identity]:
    """Networks of other origin as a classifier and an identity of FER-2013's crops."""
    landmarks = np.zeros((POINT_COUNT, 2), np.float32)
    landmarks[list(RIGID)] = FER_TEMPLATE * SIZE - 0.5  # where such a crop has them

    def frame_of(crop: np.ndarray) -> Frame:
        return still(np.round(crop.clip(0, 1) * 255).astype(np.uint8))

    return (
        lambda crop: networks.emotion(frame_of(crop), landmarks),
        Identity("dlib", lambda crop: networks.identity(frame_of(crop), landmarks), SAME_PERSON),
    )


def _unit(vector: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled


def table_of(
    scores: Sequence[EditScore], conditions: Mapping[str, str]
) -> tuple[Cells, list[Cells]]:
    """Table 1 as a header and rows: a row a score and classifier, and the paper's beside them.

    conditions: the paper's condition for the names of scores that have one.
    """
    header = ("", "by", *FER2013_LABELS, "macro F1", "same person", "own nearest", "outside", "ms")
    rows: list[Cells] = []
    for score in scores:
        for classifier, values in score.f1.items():
            cells = [f"{value:.2f}" for value in (*values, score.macro(classifier))]
            rest = (_share(score.same_person), _share(score.own_nearest))
            numbers = (f"{score.outside:.1f}", f"{score.edit_ms:.0f}")
            rows.append((score.name, classifier, *cells, *rest, *numbers))
        reported = REPORTED.get(conditions.get(score.name, ""))
        if reported is not None:
            cells = [f"{value:.2f}" for value in (*reported, float(np.mean(reported)))]
            rows.append((f"{score.name}, the paper", "DeepFace", *cells, "", "", "", ""))
    return header, rows


def json_of(scores: Sequence[EditScore]) -> list[dict[str, object]]:
    """The scores for JSON, with the macro F1 of each classifier."""
    return [
        {**asdict(score), "macro_f1": {name: score.macro(name) for name in score.f1}}
        for score in scores
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
