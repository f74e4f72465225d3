"""Which emotion a classifier sees in edited faces, cropped the way FER-2013 crops them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.calibration.clips.edits import Editor, edit_frames
from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES, FER_SIZE
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.faces.alignment import fer_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import LumaSource, sample_luma


def fer_crop(source: LumaSource, landmarks: np.ndarray) -> np.ndarray:
    """The face as FER-2013 would show it: float32 (48, 48), luma in [0, 1].

    source: uint8 (H, W), or a frame. landmarks: float32 (106, 2) in its pixels.
    """
    return sample_luma(source, fer_matrix(landmarks, FER_SIZE), FER_SIZE).astype(np.float32) / 255


class EmotionClassifier:
    """What a classifier sees in a face."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def bundled(cls) -> EmotionClassifier:
        """The emotion classifier that comes with mien. Raises ModelError."""
        return cls(Catalog.bundled().open(EMOTION_CLASSIFIER))

    @classmethod
    def load(cls, path: Path) -> EmotionClassifier:
        """The classifier of an ONNX file. Raises ModelError."""
        return cls(OnnxRuntimeEngine(path, EMOTION_CLASSIFIER))

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Probabilities float32 (7,) in the order of FER_CLASSES, of a `fer_crop`.

        The mean over the crop and its mirror image, as the classifier's own score is taken.
        """
        both = [self._ask(crop), self._ask(np.ascontiguousarray(crop[:, ::-1]))]
        mean: np.ndarray = np.mean(both, axis=0)
        return mean

    def name(self, crop: np.ndarray) -> str:
        """The likeliest emotion of a `fer_crop`."""
        return FER_CLASSES[int(self(crop).argmax())]

    def _ask(self, crop: np.ndarray) -> np.ndarray:
        answer: np.ndarray = self._engine.infer({"face": crop[None, None]})["probabilities"][0]
        return answer


@dataclass(frozen=True, slots=True)
class NamedEmotions:
    """What the classifier said.

    said: by what was asked for (`source` for the unedited face), how often it named what.
    faces: faces classified. missed: pictures in which the filter found no face; they count as
        failed.
    """

    said: dict[str, Counter[str]]
    faces: int
    missed: int

    def accuracy(self, emotion: str) -> float:
        """How often the classifier named `emotion` where it was asked for."""
        return self.said[emotion][emotion] / max(1, self.faces + self.missed)

    def report(self) -> dict[str, object]:
        """Accuracies and the confusion matrix (columns in the order of FER_CLASSES) for JSON."""
        accuracies = {e: round(self.accuracy(e), 4) for e in self.said if e != "source"}
        return {
            "faces": self.faces,
            "missed": self.missed,
            "accuracy": accuracies,
            "mean": round(float(np.mean(list(accuracies.values()))), 4),
            "classes": list(FER_CLASSES),
            "confusion": {a: [c[e] for e in FER_CLASSES] for a, c in self.said.items()},
        }


def still(picture: np.ndarray) -> Frame:
    """A picture, uint8 (H, W) of luma or (H, W, 3) in BGR, as a frame without a time."""
    layout = PixelLayout("gray", full_range=True)
    if picture.ndim == 3:
        layout = PixelLayout("rgb", full_range=True, rgb_order=(2, 1, 0))
    return Frame((Plane(picture, (1, 1)),), layout, picture.shape[1], picture.shape[0])


def name_emotions(
    sequences: Iterable[Iterable[Frame]],
    classifier: EmotionClassifier,
    editors: Mapping[str, Editor],
    *,
    step: int = 1,
) -> NamedEmotions:
    """What the classifier says of the edits of every `step`-th frame of each sequence.

    A sequence is a clip or a single picture; the editors start afresh with each.
    """
    said: dict[str, Counter[str]] = {asked: Counter() for asked in ("source", *editors)}
    faces = missed = 0
    for sequence in sequences:
        edits = edit_frames(sequence, editors)
        for edit in itertools.islice(edits, step - 1, None, step):
            if edit.landmarks is None:
                missed += 1
                continue
            faces += 1
            for asked, frame in {"source": edit.source, **edit.edited}.items():
                # Rigid points stay where they are, so one place serves the face and its edits.
                said[asked][classifier.name(fer_crop(frame, edit.landmarks))] += 1
    return NamedEmotions(said, faces, missed)
