"""The latent methods: a face is inverted, its code edited, and both codes are generated.

Sources: e4e (Tov et al. 2021) for the inversion, StyleGAN2 (Karras et al. 2020) for the pictures,
the edits of `mien.runtime.methods.latent.edits`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

import numpy as np

from mien.engines import LANDMARKS, OCCLUSION, Catalog, Engine
from mien.engines.face_space import (
    DIRECTIONS,
    EMM,
    ENCODER,
    GENERATOR,
    LATENT_CLASSIFIER,
    TEXT_TOWER,
)
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace, Crop, invert_similarity, transform_points
from mien.runtime.faces.smoothing import OneEuro
from mien.runtime.frame import Frame
from mien.runtime.inversion import Freshness, Inversion
from mien.runtime.methods.base import FaceEditor, Goal, Method
from mien.runtime.methods.latent.edits import (
    CodeEdit,
    CodeEditor,
    Directions,
    EmotionMapper,
    parse_layers,
    parse_moves,
)
from mien.runtime.methods.latent.field import Comparison, Lids, Made, behind, field_edit
from mien.runtime.methods.latent.prompts import PromptReader
from mien.runtime.methods.latent.space import FaceSpace, check_there
from mien.runtime.methods.warp.occlusion import Occlusion
from mien.runtime.methods.warp.speech import OpenEyes, SteadyLids
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, Target

THREADS: Final = 2  # the generator is large enough to gain from a second one
CALM_S: Final = 0.1  # time constant over which what is shown follows the pictures
SETTLED_S: Final = 0.6  # after a change of the goal; within it a method itself eases over

Opening = Callable[[str], Engine]


class LatentMethod(Method):
    """A face space and a way to edit its codes.

    landmarks: the network that compares pictures. occlusion: the one that sees what covers a face.
    """

    def __init__(
        self, space: FaceSpace, edit: CodeEdit, *, landmarks: Engine, occlusion: Engine
    ) -> None:
        self._space, self._edit = space, edit
        self._compare = Comparison(landmarks)
        self._occlusion = occlusion
        self._engines = (*space.engines, *edit.engines, landmarks, occlusion)

    @property
    def crop(self) -> Crop:
        """The canonical crop in luma, or FFHQ's in colour: what the space was trained on."""
        return self._space.crop

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        return {engine.network.name: engine.provider for engine in self._engines}

    def check_target(self, target: Target) -> None:
        """Raise UsageError where the networks cannot reach it."""
        self._edit.check_target(target)

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        occlusion = Occlusion(self._occlusion)
        return LatentEditor(self._space, self._edit.new_face(), self._compare, occlusion)

    def close(self) -> None:
        """Close the networks."""
        for engine in self._engines:
            engine.close()


class PictureEditor(FaceEditor):
    """Shows on one face, through a video, what a generator changes between two of its pictures.

    unedited_parts: nothing; it needs no part to be seen by itself. has_worked: whether so much was
    done for this frame already that the pictures had better wait for the next one.
    """

    unedited_parts: tuple[str, ...] = ()
    has_worked = False

    def __init__(self, compare: Comparison, occlusion: Occlusion) -> None:
        self._compare = compare
        self._occlusion = occlusion
        self._open_eyes, self._steady_lids = OpenEyes(), SteadyLids()
        self._shown = Shown()
        self._made: Made | None = None
        self._freshness, self._goal = Freshness(), Unsettled()

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        """The edit of the face in this frame; see `FaceEditor`."""
        usual = self._open_eyes(face.landmarks, time_s)
        lids = Lids(self._steady_lids(face.landmarks, usual, time_s), usual)
        changes = self._goal(goal, time_s)
        if self._made is None or self._freshness.is_due(
            face.landmarks, time_s, changes=changes, waits=self.has_worked
        ):
            pictures = self.pictures(frame, face, goal, time_s)
            self._made = self._compare(pictures, face.landmarks)
            self._freshness.made(face.landmarks, time_s)
        made = self._shown(self._made, time_s)
        edit = field_edit(face, made, lids, self.amount(goal))
        covered = self._occlusion(frame, points_in_frame(face), time_s)
        return edit if covered is None else behind(edit, covered, face.landmarks)

    @abstractmethod
    def pictures(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> np.ndarray:
        """The face as the generator reproduces it, and edited: float32 (2, c, s, s) in [0, 1]."""

    def amount(self, goal: Goal) -> float:
        """How much of what differs between the pictures is shown."""
        return goal.strength


class Unsettled:
    """Whether what is asked of a face has changed of late."""

    def __init__(self) -> None:
        self._goal: Goal | None = None
        self._changed_s = 0.0

    def __call__(self, goal: Goal, time_s: float) -> bool:
        """True while the goal changes and for SETTLED_S after that."""
        last, self._goal = self._goal, goal
        if last is None or not (
            np.array_equal(last.weights, goal.weights)
            and (last.strength, last.prompt) == (goal.strength, goal.prompt)
        ):
            self._changed_s = time_s
        return 0 <= time_s - self._changed_s < SETTLED_S


def points_in_frame(face: AlignedFace) -> np.ndarray:
    """The landmarks of an aligned face in pixels of its frame: float32 (106, 2)."""
    frame_from_crop = invert_similarity(face.crop_from_frame)
    return transform_points(frame_from_crop, face.landmarks * face.size - 0.5)


class LatentEditor(PictureEditor):
    """Edits one face's latent code through a video."""

    def __init__(
        self, space: FaceSpace, move: CodeEditor, compare: Comparison, occlusion: Occlusion
    ) -> None:
        super().__init__(compare, occlusion)
        self._space, self._move = space, move
        self._invert = Inversion(space.encode)

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        """The edit of the face in this frame; see `FaceEditor`."""
        self._codes = self._invert(face, time_s)  # in every frame, for it is smoothed over time
        # Encoder and generator take about as long; by turns no frame takes twice as long as others.
        self.has_worked = self._invert.has_encoded
        return super().__call__(frame, face, goal, time_s)

    def pictures(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> np.ndarray:
        """What the generator makes of the code, and of the code moved as far as is asked."""
        del frame, face
        codes = self._codes
        moved = self._move(codes, goal, time_s)
        # Up to full strength the code goes less far; what is asked beyond, the field does.
        edited = codes + np.float32(min(1.0, goal.strength)) * (moved - codes)
        return self._space.pictures(np.stack([codes, edited]))

    def amount(self, goal: Goal) -> float:
        """What is asked beyond full strength; up to it the code does it."""
        return max(1.0, goal.strength)


class Shown:
    """What is shown of what was made, calm over time: crops are never twice the same."""

    def __init__(self) -> None:
        self._displacement = OneEuro(min_cutoff_hz=1.0, beta=25.0)
        self._made: Made | None = None
        self._time_s = 0.0

    def __call__(self, made: Made, time_s: float) -> Made:
        """What to show now; time that falls or leaps begins again."""
        step_s, self._time_s = time_s - self._time_s, time_s
        displacement = self._displacement(made.displacement, time_s)
        kept = np.float32(math.exp(-step_s / CALM_S))
        if self._made is None or not 0 <= step_s < 1:
            self._made = made
        before, after = (
            new + kept * (old - new)
            for new, old in ((made.before, self._made.before), (made.after, self._made.after))
        )
        self._made = Made(before, after, displacement)
        return self._made


def open_emm(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Emotions by the mapper. Raises ModelError, DeviceError."""
    check_there("emm", (GENERATOR, ENCODER, LATENT_CLASSIFIER, EMM), catalog)
    has_text = any(entry.network == TEXT_TOWER for entry in catalog.entries)
    seed = options.get("seed")
    drawn = None if seed is None else np.random.default_rng(int(seed)).normal(size=len(EMOTIONS))

    def edit_of(opened: Opening, _space: FaceSpace) -> CodeEdit:
        reader = PromptReader(opened(TEXT_TOWER)) if has_text else None
        return EmotionMapper(opened(EMM), opened(LATENT_CLASSIFIER), drawn=drawn, reader=reader)

    return _opened(catalog, provider, edit_of)


def open_directions(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    """Attributes by directions. Raises ModelError, DeviceError, UsageError."""
    check_there("directions", (GENERATOR, ENCODER, DIRECTIONS), catalog)
    moves = parse_moves(str(options["attribute"]))

    def edit_of(opened: Opening, space: FaceSpace) -> CodeEdit:
        mask = parse_layers(str(options["layers"]), space.layers)
        return Directions(opened(DIRECTIONS), moves, mask)

    return _opened(catalog, provider, edit_of)


def _opened(
    catalog: Catalog, provider: str, edit_of: Callable[[Opening, FaceSpace], CodeEdit]
) -> Method:
    with ExitStack() as opening:  # what is open is closed where the next does not open

        def opened(network: str) -> Engine:
            return opening.enter_context(catalog.open(network, provider=provider, threads=THREADS))

        space = FaceSpace(opened(GENERATOR), opened(ENCODER))
        edit = edit_of(opened, space)
        landmarks, occlusion = opened(LANDMARKS.name), opened(OCCLUSION.name)
        method = LatentMethod(space, edit, landmarks=landmarks, occlusion=occlusion)
        opening.pop_all()
    return method
