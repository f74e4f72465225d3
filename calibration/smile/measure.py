"""How held-out faces look to a classifier before and after an edit.

A folder of ONNX files without a catalog, as a training leaves them, serves as a catalog too.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from mien.calibration.clips.edits import Editor
from mien.calibration.judges.classifier import EmotionClassifier, fer_crop, still
from mien.calibration.judges.features import Features, Gaussian, fit_gaussian
from mien.engines.catalog import CATALOG_NAME, ModelEntry, write_catalog
from mien.engines.errors import UsageError
from mien.engines.networks import FER_CLASSES
from mien.runtime.frame import Frame


def as_catalog(folder: Path, into: Path) -> Path:
    """`folder` itself where it has a catalog; else `into`, where one of its files is made.

    Each `NETWORK.onnx` of `folder` is copied. Raises UsageError where there is none.
    """
    if (folder / CATALOG_NAME).exists():
        return folder
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise UsageError(f"{folder} holds neither {CATALOG_NAME} nor a NETWORK.onnx")
    write_catalog(into, tuple(_entry(Path(shutil.copy(file, into))) for file in files))
    return into


def _entry(file: Path) -> ModelEntry:
    untold = "not told"
    return ModelEntry(
        name=file.stem,
        network=file.stem,
        file=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        trained_on=untold,
        minutes=0.0,
        quality={},
        licence=untold,
        card=untold,
        folder=file.parent,
    )


FULL = 0.99  # presence from which an edit counts as whole

Tell = Callable[[int, int], None]  # pictures done, and of how many


class SeenFace(Protocol):
    """What is needed of a tracked face."""

    @property
    def landmarks(self) -> np.ndarray: ...

    @property
    def presence(self) -> float: ...


class Finder(Protocol):
    """What is needed of a filter without a target."""

    @property
    def faces(self) -> Sequence[SeenFace]: ...

    def apply(self, frame: Frame) -> Frame: ...

    def reset(self) -> None: ...


class StillEditor(Editor, Protocol):
    """What is needed of a filter with a target."""

    @property
    def unedited_parts(self) -> Sequence[str]:
        """Parts of the last frame's faces that could not be seen."""


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A held-out picture in which the filter finds a face.

    landmarks: float32 (106, 2) in its pixels. presence: the share of an edit that the filter lets
    this face have, less than 1 where it is turned away or hard to see. mirrored: whether it is the
    mirror image of another.
    """

    frame: Frame
    landmarks: np.ndarray
    presence: float
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The pictures of one emotion that are measured.

    faces: mirrored ones at the end. held_out: all that the data holds.
    not_found: of those looked at, how many the filter finds no face in; they are left out, as the
        paper leaves out pictures without all parts.
    """

    emotion: str
    faces: tuple[FoundFace, ...]
    held_out: int
    not_found: int

    @property
    def mirrored(self) -> int:
        """How many of `faces` are mirror images of others."""
        return sum(face.mirrored for face in self.faces)

    @property
    def weakened(self) -> int:
        """How many of those that are no mirror images the filter does not edit in full."""
        return sum(face.presence < FULL for face in self.faces if not face.mirrored)

    @property
    def distinct(self) -> int:
        """How many of `faces` are not."""
        return len(self.faces) - self.mirrored


@dataclass(frozen=True, slots=True)
class ClassifiedSample:
    """What the networks see in a sample.

    named: of the pictures that are no mirror images, how many are named what, in the order of
        FER_CLASSES. features: of all pictures; None where none were asked for.
    unchanged: edited pictures that are the unedited ones. incomplete: others of which a part was
        left unchanged, because it could not be seen. picture_ms: milliseconds for each edit.
    """

    named: tuple[int, ...]
    features: Gaussian | None
    unchanged: int = 0
    incomplete: int = 0
    picture_ms: float = 0.0

    def share(self, emotion: str) -> float:
        """The share of pictures that are named `emotion`."""
        return self.named[FER_CLASSES.index(emotion)] / max(1, sum(self.named))


def find_faces(
    finder: Finder, emotion: str, pictures: Sequence[np.ndarray], count: int, tell: Tell
) -> Sample:
    """Up to `count` pictures with a face; where there are fewer, mirror images fill up.

    finder: a filter without a target. pictures: uint8 (H, W) each.
    """
    faces: list[FoundFace] = []
    looked_at = 0
    for luma, mirrored in _with_mirrored(pictures):
        if len(faces) == count:
            break
        tell(len(faces), count)
        looked_at += not mirrored
        frame = still(luma)
        finder.reset()
        finder.apply(frame)
        if finder.faces:
            seen = finder.faces[0]
            faces.append(FoundFace(frame, seen.landmarks, seen.presence, mirrored))
    found = sum(not face.mirrored for face in faces)
    return Sample(emotion, tuple(faces), len(pictures), looked_at - found)


def classify_sample(
    sample: Sample,
    classifier: EmotionClassifier,
    features: Features | None,
    *,
    editors: Sequence[StillEditor] = (),
    tell: Tell,
) -> ClassifiedSample:
    """What the networks see in a sample, as it is or edited.

    editors: all alike, each works on pictures of its own beside the others; none leaves the
        pictures as they are.
    """
    free: SimpleQueue[StillEditor | None] = SimpleQueue()
    for editor in editors or (None,):
        free.put(editor)

    def look(face: FoundFace) -> _Look:
        editor = free.get()
        try:
            return _look(face, editor, classifier, features)
        finally:
            free.put(editor)

    looks = []
    with ThreadPoolExecutor(max(1, len(editors))) as pool:
        try:
            for done, seen in enumerate(pool.map(look, sample.faces)):
                tell(done, len(sample.faces))
                looks.append(seen)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _classified(sample, looks)


@dataclass(frozen=True, slots=True)
class _Look:
    """What is seen in one picture; the fields as of `ClassifiedSample`."""

    named: str
    features: np.ndarray | None
    is_unchanged: bool
    is_incomplete: bool
    edit_s: float


def _look(
    face: FoundFace,
    editor: StillEditor | None,
    classifier: EmotionClassifier,
    features: Features | None,
) -> _Look:
    began = time.perf_counter()
    shown = face.frame if editor is None else edit_still(editor, face.frame)
    edit_s = time.perf_counter() - began
    is_unchanged = editor is not None and _same(shown, face.frame)
    is_incomplete = editor is not None and not is_unchanged and bool(editor.unedited_parts)
    # Rigid points stay where they are, so one place serves the face and its edits.
    crop = fer_crop(shown, face.landmarks)
    seen = None if features is None else features(crop)
    return _Look(classifier.name(crop), seen, is_unchanged, is_incomplete, edit_s)


def _classified(sample: Sample, looks: Sequence[_Look]) -> ClassifiedSample:
    named = [0] * len(FER_CLASSES)
    for face, look in zip(sample.faces, looks, strict=True):
        if not face.mirrored:
            named[FER_CLASSES.index(look.named)] += 1
    features = [look.features for look in looks if look.features is not None]
    return ClassifiedSample(
        tuple(named),
        fit_gaussian(np.array(features)) if features else None,
        unchanged=sum(look.is_unchanged for look in looks),
        incomplete=sum(look.is_incomplete for look in looks),
        picture_ms=1e3 * sum(look.edit_s for look in looks) / max(1, len(looks)),
    )


def edit_still(editor: Editor, frame: Frame) -> Frame:
    """The picture after `editor`, which has seen nothing before.

    Once is enough: what eases over time starts at its end in a first frame. Two looks more, as
    `mien edit` takes, moved the probability of the target no more than chance, at thrice the cost.
    """
    editor.reset()
    return editor.apply(frame)


def _with_mirrored(pictures: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    for luma in pictures:
        yield luma, False
    for luma in pictures:
        yield np.ascontiguousarray(luma[:, ::-1]), True


def _same(a: Frame, b: Frame) -> bool:
    planes = zip(a.planes, b.planes, strict=True)
    return all(np.array_equal(p.samples, q.samples) for p, q in planes)
