"""Which of the faces in view are edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mien.engines.errors import UsageError
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame
from mien.runtime.luma import display_from_stored
from mien.runtime.target import shortened

CLEARLY_LARGER: Final = 1.25  # how much larger another face must be to become the largest


class FaceChoice:
    """Picks faces by `all`, `largest`, or a number from 1 on.

    Faces are numbered in the order in which they first appear, those of one frame from left to
    right as displayed. Where nobody is left of those that were numbered, as after a cut, numbers
    begin again. The largest stays the largest until another is clearly larger, so that two
    people side by side do not take turns.

    is_missing: after a call, whether faces were there and the one with the number was not, or was
        not recognised.

    Raises UsageError for any other text.
    """

    def __init__(self, text: str = "all") -> None:
        self.text = text
        self.reset()

    @property
    def text(self) -> str:
        """What is picked; setting it keeps the numbers. Raises: UsageError."""
        return self._word

    @text.setter
    def text(self, text: str) -> None:
        word = text.strip().lower()
        is_number = len(word) <= 9 and word.isascii() and word.isdigit() and int(word) > 0
        if word not in ("all", "largest") and not is_number:
            raise UsageError(
                f"cannot choose the face {shortened(text)}: give all, largest, or 1, 2, 3 ..."
            )
        self._word = word

    @property
    def numbers(self) -> dict[int, int]:
        """The number of each face that was seen, by its track id."""
        return {track_id: place for place, track_id in enumerate(self._seen, start=1)}

    def reset(self) -> None:
        """Forget the faces; numbers begin at 1 again."""
        self.is_missing = False
        self._seen: list[int] = []  # track ids in order of appearance
        self._largest: int | None = None

    def __call__(self, faces: Sequence[Face], frame: Frame) -> list[Face]:
        """The chosen ones of all faces of a frame, in the order given."""
        self._number(faces, frame)
        self.is_missing = False
        if self._word == "all":
            return list(faces)
        if self._word == "largest":
            return self._pick_largest(faces)
        place = int(self._word) - 1
        wanted = self._seen[place] if place < len(self._seen) else None
        chosen = [face for face in faces if face.track_id == wanted]
        self.is_missing = bool(faces) and not chosen
        return chosen

    def _number(self, faces: Sequence[Face], frame: Frame) -> None:
        across = display_from_stored((frame.width, frame.height), frame.rotation)[0]
        across = -across if frame.mirrored else across
        new = [face for face in faces if face.track_id not in self._seen]
        if new and len(new) == len(faces):
            self._seen = []  # after a cut, or once everybody has left: numbers begin again
        new.sort(key=lambda face: float(across[:2] @ face.landmarks.mean(0)))
        self._seen += [face.track_id for face in new]

    def _pick_largest(self, faces: Sequence[Face]) -> list[Face]:
        if not faces:
            return []
        areas = {face.track_id: float(np.ptp(face.landmarks, axis=0).prod()) for face in faces}
        best = max(areas, key=lambda track_id: areas[track_id])
        held = areas.get(self._largest, 0.0) if self._largest is not None else 0.0
        if areas[best] > CLEARLY_LARGER**2 * held:
            self._largest = best
        return [face for face in faces if face.track_id == self._largest]
