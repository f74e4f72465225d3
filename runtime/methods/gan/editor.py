"""A generator's changes to one face through a video, and the edit they make.

Source: Upenieks and Urtans, "Let's put a smile on your face", AIxHMI 2022, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from mien.runtime.blending.edit import Delta, Edit, Paste
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.frame import Frame
from mien.runtime.methods.base import FaceEditor, Goal
from mien.runtime.methods.gan.generator import Restyler
from mien.runtime.methods.gan.parts import Box
from mien.runtime.methods.gan.segmentation import WHOLE
from mien.runtime.methods.gan.squares import (
    SCALE,
    Piece,
    WideFace,
    added_up,
    crop_box,
    laid_over,
    match_brightness,
    on_crop,
    wide_face,
)
from mien.runtime.methods.motion import edge_ramp, mirrored, parted, share_beyond

MIRRORED: Final = "right_eye"  # shown as a left one
FLOW_CELLS: Final = 96  # cells a side of the canonical crop that a generator's movement is told in
# How old an answer of the generator may be, and the time constant over which what it changes
# follows it: crops are never twice the same, and its answers flicker with them.
FRESH_S: Final = 0.06
CALM_S: Final = 0.08
FADE_S: Final = 0.12  # time constant over which a part comes and goes
GONE: Final = 0.02  # a part that has faded below this is forgotten
# A face is taken for neutral until another label reproduces it clearly better. All are compared at
# first, then one of them at every fourth answer. To take the place of the one before, an error must
# be this share of its: half-trained generators reproduce a tenth of all neutral faces best as happy
# ones, by little, and a smile that is asked for and does not come is worse than a broad one.
COMPARE_EVERY: Final = 4
BETTER: Final = 0.8
ERROR_KEPT: Final = 0.7  # share of the earlier comparisons that is kept
# Where a network without a label changes less than this it only fails to reproduce; from twice
# that on its change counts in full.
FAITHFUL: Final = 0.03
CONTRAST: Final = (0.6, 1.2)  # how much less or more of it such a network is given back
# Where a labelled network changes this much it begins to redraw, at twice that it redraws all.
# Where nothing counts as redrawn, lips that were smiling shine through and hardly look sad.
REDRAWN: Final = 1 / 60


@dataclass(frozen=True, slots=True)
class Looked:
    """Where a method looks in one frame.

    boxes: squares by name, units of the wide crop. region: float32 (side, side) over the wide crop,
    where changes are wanted. unedited_parts: what cannot be seen and is not edited. parsed: whether
    the face parser has just run. pastes_beyond: whether a picture is pasted beyond that region too,
    for the whole of it was restyled and not the segmented face.
    """

    boxes: Mapping[str, Box]
    region: np.ndarray
    unedited_parts: tuple[str, ...] = ()
    parsed: bool = False
    pastes_beyond: bool = False


class Look(Protocol):
    """Where a method looks on one face, through a video."""

    def __call__(self, face: WideFace, time_s: float, /) -> Looked:
        """Where it looks now; `time_s` grows from call to call."""
        ...


class StyleEditor(FaceEditor):
    """Edits one face through a video.

    unedited_parts: what of the face could not be seen in the last frame, and is as it was.
    """

    def __init__(self, restyler: Restyler, look: Look, *, pastes: bool) -> None:
        self.unedited_parts: tuple[str, ...] = ()
        self._restyler = restyler
        self._look = look
        self._pastes = pastes
        self._changes = Changes(restyler, pastes=pastes)
        self._boxes: dict[str, Box] = {}
        self._shares: dict[str, float] = {}
        self._time_s: float | None = None

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        """The edit of the face in this frame; see `FaceEditor`."""
        wide = wide_face(frame, face)
        looked = self._look(wide, time_s)
        self.unedited_parts = looked.unedited_parts
        changes = self._changes(wide, looked, goal.weights, time_s)
        self._fade(looked.boxes, time_s)
        shown = [name for name in self._boxes if name in changes and self._shares[name] > 0]
        if not shown:
            return Edit()
        pieces = [self._piece(wide, name, changes[name], goal.strength) for name in shown]
        if self._pastes:
            sheet = laid_over(pieces, None if looked.pastes_beyond else looked.region)
            return Edit(paste=Paste(np.clip(sheet.values, 0, 1), sheet.alpha, crop_box(WHOLE)))
        sheet = added_up(pieces, looked.region)
        flow = on_crop(sheet.values[:2] * sheet.alpha, FLOW_CELLS) / np.float32(SCALE)
        return Edit(flow=flow, delta=Delta(sheet.values[2:], sheet.alpha, crop_box(WHOLE)))

    def _piece(self, wide: WideFace, name: str, change: np.ndarray, strength: float) -> Piece:
        box, share = self._boxes[name], self._shares[name]
        if not self._pastes:
            values = change * np.float32(self._restyler.facts.amount * strength)
            values[:2] *= np.float32(box.side)
            return Piece(box, values, share)
        below = wide.look(box, change.shape[1], self._restyler.facts.colour)
        # Up to full strength the picture is put on more and more; beyond, it is made to say more.
        pixels = below + change * np.float32(max(1.0, strength))
        return Piece(box, pixels, share * min(1.0, strength))

    def _fade(self, boxes: Mapping[str, Box], time_s: float) -> None:
        """Move each part's share towards 1 where the part is seen and towards 0 where not."""
        is_first = self._time_s is None
        step_s = max(0.0, time_s - (self._time_s or 0.0))
        self._time_s = time_s
        kept = math.exp(-step_s / FADE_S)
        self._boxes |= boxes
        for name in list(self._boxes):
            wanted = 1.0 if name in boxes else 0.0
            share = self._shares.get(name, 1.0 if is_first else 0.0)
            self._shares[name] = wanted + kept * (share - wanted)
            if name not in boxes and self._shares[name] < GONE:
                del self._boxes[name], self._shares[name]


class Changes:
    """What a generator would change on one face, asked now and then and calmed over time."""

    def __init__(self, restyler: Restyler, *, pastes: bool) -> None:
        self._restyler = restyler
        self._pastes = pastes
        self._shown_emotion = ShownEmotion(restyler)
        self._wanted: dict[str, np.ndarray] = {}
        self._calm: dict[str, np.ndarray] = {}
        self._asked_s = math.inf
        self._time_s = math.inf

    def __call__(
        self, face: WideFace, looked: Looked, weights: np.ndarray, time_s: float
    ) -> Mapping[str, np.ndarray]:
        """The change of each square: float32, as [0, 1] counts.

        (c, s, s), what is added to its pixels, where it is pasted; else (2 + c, s, s) of `parted`.
        """
        is_new = not looked.boxes.keys() <= self._wanted.keys()
        # One frame should not pay for both networks.
        fresh_s = 2 * FRESH_S if looked.parsed else FRESH_S
        if looked.boxes and (is_new or not 0 <= time_s - self._asked_s < fresh_s):
            self._wanted |= self._ask(face, looked.boxes, weights)
            self._asked_s = time_s
        step_s = time_s - self._time_s
        kept = np.float32(math.exp(-step_s / CALM_S) if step_s >= 0 else 0.0)
        self._time_s = time_s
        for name, wanted in self._wanted.items():
            self._calm[name] = wanted + kept * (self._calm.get(name, wanted) - wanted)
        return self._calm

    def _ask(
        self, face: WideFace, boxes: Mapping[str, Box], weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        facts, names = self._restyler.facts, tuple(boxes)
        squares = np.stack([face.look(boxes[name], facts.size, facts.colour) for name in names])
        is_mirrored = [name == MIRRORED for name in names]
        squares[is_mirrored] = squares[is_mirrored][..., ::-1]
        before, after = self._restyled(squares, names, weights)
        return {
            name: self._change(*pair, is_mirrored=name == MIRRORED)
            for name, *pair in zip(names, before, after, strict=True)
        }

    def _change(self, before: np.ndarray, after: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
        if self._pastes:
            change: np.ndarray = match_brightness(after, before) - before
            return change[..., ::-1] if is_mirrored else change
        change = parted(before, after)
        return mirrored(change) if is_mirrored else change

    def _restyled(
        self, squares: np.ndarray, names: tuple[str, ...], weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Squares (n, c, s, s) before and after."""
        labels = self._restyler.labels
        if labels.source is not None:
            edited = self._restyler(squares, None)
            change = (
                edited - squares if self._pastes else faithful(relit(edited, squares) - squares)
            )
            return squares, squares + change * np.float32(labels.share(weights))
        if self._pastes:
            mixes = labels.mixes(weights, names, labels.rest)
            return squares, self._restyler(squares, mixes)
        shown, reproduced = self._shown_emotion(squares, names)
        edited = self._restyler(squares, labels.mixes(weights, names, shown))
        return squares, squares + meant(edited, reproduced, squares)


class ShownEmotion:
    """What a face shows already, by the label under which a generator reproduces it."""

    def __init__(self, restyler: Restyler) -> None:
        self._restyler = restyler
        self._errors: dict[str, float] = {}
        self._emotion = restyler.labels.rest or restyler.labels.emotions[0]
        self._calls = 0

    def __call__(self, squares: np.ndarray, names: tuple[str, ...]) -> tuple[str, np.ndarray]:
        """The emotion, and the squares as the generator reproduces them under it."""
        labels = self._restyler.labels
        found = {}
        for emotion in self._candidates(labels.emotions):
            found[emotion] = self._restyler(squares, labels.ones(emotion, names))
            error = float(np.abs(found[emotion] - squares).mean())
            before = self._errors.get(emotion, error)
            self._errors[emotion] = error + ERROR_KEPT * (before - error)
        self._calls += 1
        best = min(found, key=lambda emotion: self._errors[emotion])
        if self._errors[best] < BETTER * self._errors[self._emotion]:
            self._emotion = best
        return self._emotion, found[self._emotion]

    def _candidates(self, emotions: tuple[str, ...]) -> tuple[str, ...]:
        if not self._calls:
            return emotions
        turn, is_due = divmod(self._calls, COMPARE_EVERY)
        others = [emotion for emotion in emotions if emotion != self._emotion]
        if is_due or not others:
            return (self._emotion,)
        return self._emotion, others[turn % len(others)]


def meant(edited: np.ndarray, reproduced: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """What a generator means to change in `squares`: float32 (n, c, s, s), as all three.

    Where it changes little, what it cannot reproduce stays as it was in the camera. Where it
    redraws a place, the old drawing goes: else lips that were shine through the lips that come.
    """
    changes = []
    for new, kept, old in zip(edited, reproduced, squares, strict=True):
        change = new - kept
        changes.append(change + share_beyond(REDRAWN, change) * (kept - old))
    return np.stack(changes)


def faithful(changes: np.ndarray) -> np.ndarray:
    """Changes (n, c, s, s) where they are more than a failure to reproduce: float32, same shape.

    A network without a label cannot be asked to give the picture back, so what its 64 pixels lose
    looks like a change: small, and everywhere. What it means to change is large and in one place.
    """
    gated = [change * share_beyond(FAITHFUL, change) for change in changes]
    return np.stack(gated).astype(np.float32)


def relit(edited: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """`edited` in the light of `squares`, as it is along their borders: float32 (n, c, s, s).

    A network without a label is free to light a picture differently, each part its own way.
    """
    lit = []
    for new, old in zip(edited, squares, strict=True):
        weights = np.broadcast_to(1 - edge_ramp(new.shape[1]), new.shape)
        mean, wanted = (np.average(square, weights=weights) for square in (new, old))
        covariance = np.average((new - mean) * (old - wanted), weights=weights)
        contrast = covariance / max(float(np.average((new - mean) ** 2, weights=weights)), 1e-6)
        lit.append((new - mean) * np.clip(contrast, *CONTRAST) + wanted)
    return np.stack(lit).astype(np.float32)
