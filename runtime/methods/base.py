"""What a method does once it is opened: an edit of one aligned face, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace, Crop
from mien.runtime.frame import Frame
from mien.runtime.target import Target


@dataclass(frozen=True, slots=True)
class Goal:
    """What one face is to show in one frame, with all easing done.

    weights: float32 (8,), a weight per emotion. strength: 0..1.5. own: how much of the person's
    own expression to show, 1 for all of it. prompt: words, for methods that take them.
    """

    weights: np.ndarray
    strength: float = 1.0
    own: float = 1.0
    prompt: str = ""


class FaceEditor(Protocol):
    """Edits one face through a video; it holds what is remembered of that face.

    unedited_parts: parts that the last frame does not show and that are therefore as they were.
    """

    unedited_parts: tuple[str, ...]

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        """The edit of the face in this frame; `time_s` grows from call to call."""
        ...


class Method(Protocol):
    """A way to change expressions, with its networks open.

    crop: the crop that it looks at. providers: which provider runs each of its networks.
    """

    @property
    def crop(self) -> Crop: ...

    @property
    def providers(self) -> dict[str, str]: ...

    def check_target(self, target: Target) -> None:
        """Raise UsageError where the method cannot reach it."""
        ...

    @property
    def share_done(self) -> float:
        """How much of the edit under way is done, 0..1, of a method that takes long.

        Read from any thread; 0 between two edits.
        """
        return 0.0

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        ...

    def close(self) -> None:
        """Close the networks."""
        ...
