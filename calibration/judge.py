"""The emotion classifier: faces cropped the way FER-2013 crops them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.networks import FER_CLASSES, FER_SIZE, JUDGE
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.faces.alignment import fer_matrix
from mien.runtime.luma import LumaSource, sample_luma


def fer_crop(source: LumaSource, landmarks: np.ndarray) -> np.ndarray:
    """The face as FER-2013 would show it: float32 (48, 48), luma in [0, 1].

    source: uint8 (H, W), or a frame. landmarks: float32 (106, 2) in its pixels.
    """
    return sample_luma(source, fer_matrix(landmarks, FER_SIZE), FER_SIZE).astype(np.float32) / 255


class EmotionJudge:
    """What a classifier sees in a face."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def bundled(cls) -> EmotionJudge:
        """The emotion classifier that comes with mien. Raises ModelError."""
        return cls(Catalog.bundled().open(JUDGE))

    @classmethod
    def load(cls, path: Path) -> EmotionJudge:
        """The classifier of an ONNX file. Raises ModelError."""
        return cls(OnnxRuntimeEngine(path, JUDGE))

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
