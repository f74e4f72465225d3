"""Which emotion a classifier sees in edited faces."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mien.calibration.edits import Editor, edit_frames
from mien.calibration.judge import EmotionJudge, fer_crop
from mien.engines.networks import FER_CLASSES
from mien.runtime.frame import Frame, PixelLayout, Plane


@dataclass(frozen=True, slots=True)
class Persuasion:
    """What the judge said.

    said: by what was asked for (`source` for the unedited face), how often the judge named what.
    faces: faces judged. missed: pictures in which the filter found no face; they count as failed.
    """

    said: dict[str, Counter[str]]
    faces: int
    missed: int

    def accuracy(self, emotion: str) -> float:
        """How often the judge named `emotion` where it was asked for."""
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


def still(luma: np.ndarray) -> Frame:
    """A grey picture, uint8 (H, W), as a frame without a time."""
    layout = PixelLayout("gray", full_range=True)
    return Frame((Plane(luma, (1, 1)),), layout, luma.shape[1], luma.shape[0])


def persuade(
    shots: Iterable[Iterable[Frame]],
    judge: EmotionJudge,
    editors: Mapping[str, Editor],
    *,
    step: int = 1,
) -> Persuasion:
    """What the judge says of the edits of every `step`-th frame of each shot.

    A shot is a clip or a single picture; the editors start afresh with each.
    """
    said: dict[str, Counter[str]] = {asked: Counter() for asked in ("source", *editors)}
    faces = missed = 0
    for shot in shots:
        edits = edit_frames(shot, editors)
        for edit in itertools.islice(edits, step - 1, None, step):
            if edit.landmarks is None:
                missed += 1
                continue
            faces += 1
            for asked, frame in {"source": edit.source, **edit.edited}.items():
                # Rigid points stay where they are, so one place serves the face and its edits.
                said[asked][judge.name(fer_crop(frame, edit.landmarks))] += 1
    return Persuasion(said, faces, missed)
