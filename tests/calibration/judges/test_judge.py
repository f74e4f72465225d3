import lzma
import tarfile
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from mien.calibration.judges.classifier import (
    EmotionClassifier,
    NamedEmotions,
    fer_crop,
    name_emotions,
    still,
)
from mien.calibration.judges.held_out import PADDING, neutral_faces
from mien.engines import FakeEngine
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from mien.runtime.faces.alignment import FER_TEMPLATE
from mien.runtime.faces.topology import RIGID


def landmarks_at(x: float, y: float, side: float) -> np.ndarray:
    points = np.zeros((106, 2), np.float32)
    points[list(RIGID)] = FER_TEMPLATE * side - 0.5 + [x, y]
    return points


def test_the_crop_lies_where_the_template_says():
    luma = np.zeros((200, 200), np.uint8)
    luma[50:98, 30:78] = np.arange(48, dtype=np.uint8)[:, None] * 5
    crop = fer_crop(luma, landmarks_at(30, 50, 48))
    np.testing.assert_allclose(crop, luma[50:98, 30:78] / 255, atol=1 / 255)


def test_the_crop_of_a_larger_face_is_reduced_without_aliasing():
    luma = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (150, 150))
    crop = fer_crop(luma, landmarks_at(20, 20, 240))
    np.testing.assert_allclose(crop, 0.5, atol=0.02)


def brightness_classifier() -> EmotionClassifier:
    """Names the class whose index is the mean brightness in tenths."""

    def say(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        share = np.zeros((1, len(FER_CLASSES)), np.float32)
        share[0, round(float(feeds["face"].mean()) * 10)] = 1
        return {"probabilities": share}

    return EmotionClassifier(FakeEngine(EMOTION_CLASSIFIER, say))


@dataclass(frozen=True)
class SomeFace:
    landmarks: np.ndarray


class Lighter:
    """Makes the whole picture as light as asked; finds a face unless the picture is black."""

    def __init__(self, level: float):
        self.level = level
        self.faces: tuple[SomeFace, ...] = ()

    def apply(self, frame):
        black = frame.planes[0].samples.max() == 0
        self.faces = () if black else (SomeFace(landmarks_at(10, 10, 40)),)
        return still(np.full((60, 60), round(self.level * 255), np.uint8))

    def reset(self):
        self.faces = ()


def test_what_the_classifier_says_is_counted_and_faces_that_were_missed():
    sequences = [[still(np.full((60, 60), 20, np.uint8))] for _ in range(3)]
    sequences.append([still(np.zeros((60, 60), np.uint8))])
    editors = {"happy": Lighter(0.1), "sad": Lighter(0.1)}
    found = name_emotions(sequences, brightness_classifier(), editors)
    assert (found.faces, found.missed) == (3, 1)
    assert found.said["happy"] == Counter(happy=3)
    assert found.accuracy("happy") == pytest.approx(0.75)
    assert found.accuracy("sad") == 0
    told = found.report()
    assert told["mean"] == pytest.approx(0.375)
    assert told["confusion"]["sad"] == [0, 3, 0, 0, 0, 0, 0]


def test_without_any_face_no_emotion_is_named():
    nobody = NamedEmotions({"source": Counter(), "happy": Counter()}, faces=0, missed=0)
    assert nobody.accuracy("happy") == 0


def test_only_calm_people_held_out_who_look_ahead_are_taken(tmp_path):
    points = np.zeros((4, 478, 2), np.float32)
    points[:, 33], points[:, 263], points[:, 4] = (10, 20), (30, 20), (20, 30)
    points[3, 4] = (27, 30)
    packed = np.zeros((3, 478, 4), np.int16)
    packed[:2] = (points * 8).transpose(2, 1, 0)
    with lzma.open(tmp_path / "faces160_landmarks.npy.xz", "wb") as file:
        np.save(file, packed)
    rows = [
        "0.png,neutral,0,0a",
        "1.png,neutral,0,0b",
        "2.png,happiness,0,0a",
        "3.png,neutral,0,14",
    ]
    (tmp_path / "faces160.csv").write_text("\n".join(["file,emotion,colour,person", *rows]) + "\n")
    with tarfile.open(tmp_path / "faces160.tar", "w") as archive:
        for index in range(4):
            path = tmp_path / f"{index}.png"
            assert cv2.imwrite(str(path), np.full((40, 30), 10 * index + 5, np.uint8))
            archive.add(path, path.name)
    faces = neutral_faces(tmp_path)
    assert [face.file for face in faces] == ["0.png"]
    assert faces[0].luma.shape == (40 + 2 * int(PADDING * 40), 30 + 2 * 14)


def test_the_bundled_judge_takes_every_crop_for_some_emotion():
    classifier = EmotionClassifier.bundled()
    crop = np.random.default_rng(3).random((48, 48), np.float32)
    said = classifier(crop)
    assert said.shape == (len(FER_CLASSES),)
    assert said.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(classifier(crop[:, ::-1]), said, atol=1e-6)
    assert classifier.name(crop) in FER_CLASSES
