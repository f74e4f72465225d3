"""The default method: landmarks move, and the light on the skin follows.

One small network answers with a displacement per landmark and with how the light on the skin
changes. Displacements become a smooth flow that the blender applies to the native frame, so moved
pixels stay photographs; cheeks and folds are shaded by the light; lips stay as far open as the
speaker has them (`runtime.methods.warp.speech`), and what glasses or a hand cover moves behind them
(`runtime.methods.warp.occlusion`). Only where surprise or fear opens a resting mouth is something
drawn: its dark inside, with the edge of teeth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.engines import Catalog, Engine
from mien.engines.networks import OCCLUSION, WARP
from mien.runtime.blending.edit import Edit, Patch
from mien.runtime.faces.action_units import OUTER_EYES, action_unit, foreshortened
from mien.runtime.faces.alignment import AlignedFace, Crop, invert_similarity, transform_points
from mien.runtime.faces.own_expression import OwnExpression
from mien.runtime.faces.smoothing import OneEuro
from mien.runtime.faces.topology import CONTOUR
from mien.runtime.frame import Frame
from mien.runtime.methods.base import FaceEditor, Goal, Method
from mien.runtime.methods.warp.flow import BrowRoom, dense_flow, folds
from mien.runtime.methods.warp.mouth import (
    LEAST_GAP,
    Box,
    MouthBank,
    draw_interior,
    drawn_box,
    hold_lips,
    lips_around,
    lips_gap,
    mouth_box,
    with_rigid_teeth,
)
from mien.runtime.methods.warp.occlusion import Occlusion
from mien.runtime.methods.warp.proportions import Proportions
from mien.runtime.methods.warp.speech import (
    JAW,
    OPENS,
    OpenEyes,
    RestingLips,
    SteadyLids,
    keep_blinks,
    keep_lips,
    softened_lips,
    spoken_width,
    taken_from_below,
)
from mien.runtime.spec import OptionValue
from mien.runtime.target import EMOTIONS, MAX_STRENGTH, Target

CROP = Crop(64)
# How much of the network's movement an emotion shows at intensity 1, in the order of EMOTIONS: more
# where classifiers saw little at first, as far as faces still looked right at full size. No more of
# its light is shown beyond intensity 1, where it is as deep as folds are.
AMOUNTS = np.array([1.0, 1.5, 2.3, 2.0, 2.1, 2.2, 2.1, 1.0], np.float32)
# What its movements lack to be told from other emotions, in action units and outer-eye distances.
# Set by hand after a coarse search on training people with the classifiers that guide the training
# and the shipped one (`python -m mien.training warp-units` is its like), as far as it looked right
# and stayed calm. Fear was taken for sadness for its brows that rise in the middle alone, disgust
# for anger for brows as low; anger stares, which narrowed eyes do not; a smile of closed lips was
# seen as parted, for the network lowers the lower lip as one of open lips does.
ADDED: Final[dict[str, dict[str, float]]] = {
    "happy": {"12": 0.02, "17": 0.06},
    "fearful": {"1": -0.06, "4": 0.05, "5": 0.06, "15": 0.015, "20": 0.05, "26": 0.03},
    "disgusted": {"4": -0.05, "9": 0.06, "10": 0.05},
    "angry": {"1": 0.015, "5": 0.05, "9": 0.04, "17": 0.03, "23": 0.05},
}
# The network shades whole cheeks as well as folds. What is broader than a fold is a stain at full
# size, and is taken away; what is left is shown as far as LIGHTS says and no deeper than a fold is.
# Skin that gleams looks wetter than it is bright, and fear's light beside the nose like dirt.
# Chosen on training people by the shipped classifier, and by looking.
BROAD: Final = 4.0  # cells of the light, standard deviation of what is too broad
LIGHTS = np.array([1.0, 0.85, 1.8, 1.5, 2.6, 2.0, 3.0, 1.0], np.float32)
GLEAM: Final = 0.8  # of the light's brighter side
DEEPEST: Final = 0.2  # relative change of brightness that the light comes near and never exceeds
BELOW_EYES = np.array([1.0, 1.0, 1.0, 1.0, 0.55, 1.0, 1.0, 1.0], np.float32)  # share of it there
BELOW_ROWS: Final = (26.0, 32.0)  # cells, between which the share sets in
LIGHT_S = 0.1  # time constant of the light: crops are never twice the same
# A gap that grew less than this factor is a stretched picture and still looks right; beyond the
# second there is nothing left to stretch. Between them the drawn mouth fades in.
STRETCH_KEPT, STRETCH_PAINTED = 1.6, 2.8
SMALLEST_GAP = 0.006  # crop units; below, the lips count as closed and nothing is painted
CALM_BESIDE = 0.6  # less movement beside a cover: what is made up there is seen
SKIN_S = 0.3  # time constant of the brightness that the inside of a mouth is drawn with
# How old an answer of the network may be. It changes slowly; the flow and the mouth's outline are
# made again for every frame, from its own landmarks.
FRESH_S = 0.06


class WarpMethod(Method):
    """The warp editor with the network that sees what covers a face."""

    def __init__(self, warp: Engine, occlusion: Engine) -> None:
        self._warp = warp
        self._occlusion = occlusion

    @property
    def crop(self) -> Crop:
        """64 pixels of luma."""
        return CROP

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        return {engine.network.name: engine.provider for engine in (self._warp, self._occlusion)}

    def check_target(self, target: Target) -> None:
        """Accept every target."""

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        return WarpEditor(self._warp, self._occlusion)

    def close(self) -> None:
        """Close the networks."""
        self._warp.close()
        self._occlusion.close()


def open_method(
    catalog: Catalog,
    provider: str,
    _options: Mapping[str, OptionValue],
) -> Method:
    """The method with its networks from `catalog`. Raises ModelError, DeviceError."""
    with ExitStack() as opening:  # what is open is closed where the next does not open
        warp = opening.enter_context(catalog.open(WARP, provider=provider))
        occlusion = catalog.open(OCCLUSION, provider=provider)
        opening.pop_all()
    return WarpMethod(warp, occlusion)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network asks of a face, at strength 1.

    displacement: float32 (106, 2), crop units. light: float32 (64, 64), the relative change of
    brightness on the edited crop; 0 in the border cells.
    """

    displacement: np.ndarray
    light: np.ndarray


def _added_moves() -> np.ndarray:
    """ADDED as movements of the landmarks: float32 (8, 106, 2), crop units."""
    moves = np.zeros((len(EMOTIONS), 106, 2))
    for emotion, units in ADDED.items():
        for number, amount in units.items():
            moves[EMOTIONS.index(emotion)] += action_unit(number) * amount
    return (moves * OUTER_EYES).astype(np.float32)


ADDED_MOVES: Final = _added_moves()


def ask(warp: Engine, face: AlignedFace, weights: np.ndarray) -> Answer:
    """The network's answer for a face in `CROP` and the weights (8,) of emotions."""
    inputs = {
        "face": face.pixels[None, None],
        "landmarks": face.landmarks[None],
        "target": weights[None].astype(np.float32),
    }
    found = warp.infer(inputs)
    share = weights / max(float(weights.sum()), 1e-6)
    light = creased(found["light"][0, 0], share)
    light[[0, -1]] = 0
    light[:, [0, -1]] = 0
    moved = np.float32(share @ AMOUNTS) * found["displacement"][0]
    moved += foreshortened(face.landmarks, np.tensordot(weights, ADDED_MOVES, 1))
    return Answer(with_outline(moved), light)


def creased(light: np.ndarray, share: np.ndarray) -> np.ndarray:
    """What of the network's light is shown: that of folds, without stains. float32 (64, 64).

    light: (64, 64), as the network answers. share: (8,), of the emotions, 1 in all.
    """
    fine = light - cv2.GaussianBlur(light, (0, 0), BROAD)
    fine = np.where(fine > 0, np.float32(GLEAM) * fine, fine)
    below = np.interp(np.arange(light.shape[0]), BELOW_ROWS, (1.0, float(share @ BELOW_EYES)))
    fine *= (np.float32(share @ LIGHTS) * below[:, None]).astype(np.float32)
    shown: np.ndarray = np.float32(DEEPEST) * np.tanh(fine / np.float32(DEEPEST))
    return shown


def with_outline(displacement: np.ndarray) -> np.ndarray:
    """The displacement that leaves the face's outline where it is, but for a jaw that drops.

    What lies beside a face would bend with its outline. displacement: float32 (106, 2).
    """
    held: np.ndarray = displacement.copy()
    held[list(CONTOUR)] = 0
    jaw = list(JAW)
    held[jaw, 1] = np.maximum(0, displacement[jaw, 1])
    return held


class WarpEditor:
    """Edits one face through a video.

    unedited_parts: nothing; it needs no part to be seen by itself.
    """

    unedited_parts: tuple[str, ...] = ()

    def __init__(self, warp: Engine, occlusion: Engine) -> None:
        self._warp = warp
        self._occlusion = Occlusion(occlusion)
        # A landmark's displacement is at rest nearly always; it follows speech within a few frames.
        self._displacement = OneEuro(min_cutoff_hz=0.7, beta=8.0)
        self._proportions = Proportions()
        self._room = BrowRoom()
        self._open_eyes = OpenEyes()
        self._lids = SteadyLids()
        self._resting = RestingLips()
        self._mouth = MouthPainter()
        self._own_expression = OwnExpression()
        self._answer: Answer | None = None
        self._asked_s = math.inf  # never
        self._light: np.ndarray | None = None
        self._lit_s = 0.0

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        """The edit of the face in this frame; see `FaceEditor`."""
        landmarks, weights = face.landmarks, goal.weights
        asked = own = self._own_expression(landmarks, goal.own, time_s)
        gain = folds(landmarks + own, own)
        strongest = np.zeros_like(own)
        if goal.strength > 0:
            answer = self._asked(face, weights, time_s)
            asked = asked + self._proportions(face, answer.displacement, goal.strength, time_s)
            gain = lit(gain, answer.light * np.float32(min(1.0, goal.strength)))
            strongest = answer.displacement * np.float32(MAX_STRENGTH)
        share = goal.strength / MAX_STRENGTH
        asked = hold_lips(landmarks, asked) + self._room(landmarks, own, strongest, share, time_s)
        opens = float(weights @ np.array(OPENS, np.float32))
        opening = opens * self._resting(lips_gap(landmarks), time_s, self._proportions.bared)
        asked = spoken_width(asked, landmarks, opens * (1 - self._resting.at_rest))
        closing = [0.0, 0.0, 0.0]
        if goal.own < 1:  # a smile parts the lips too, and speech does not rest
            softer = (1 - goal.own) * self._own_expression.smile * self._resting.at_rest
            closing = softened_lips(landmarks, softer, self._resting.usual_gap)
        moved = keep_lips(asked, opening, closing, taken_from_below(weights))
        open_eyes = self._open_eyes(landmarks, time_s)
        steady = self._lids(landmarks, open_eyes, time_s)
        moved = keep_blinks(landmarks, moved, steady, open_eyes)
        covered = self._occlusion(frame, frame_landmarks(face), time_s)
        patch = None
        if opening > 0:
            patch = self._mouth(face, moved, covered, time_s)
        if covered is None:
            self._mouth.learn(frame, face, time_s)
        flow = with_rigid_teeth(dense_flow(landmarks, moved), landmarks, moved)
        if covered is not None:
            flow = flow * (1 - CALM_BESIDE * _around(covered, flow.shape[-1]))
        return Edit(flow=flow, gain=gain, patch=patch, covered=covered)

    def _asked(self, face: AlignedFace, weights: np.ndarray, time_s: float) -> Answer:
        """What the network asks for at strength 1, calm over time."""
        if self._answer is None or not 0 <= time_s - self._asked_s < FRESH_S:
            self._answer = ask(self._warp, face, weights)
            self._asked_s = time_s
        light, step_s = self._answer.light, time_s - self._lit_s
        if self._light is not None and 0 <= step_s < 1:
            light = light + np.float32(math.exp(-step_s / LIGHT_S)) * (self._light - light)
        self._light, self._lit_s = light, time_s
        return Answer(self._displacement(self._answer.displacement, time_s), light)


def lit(creases: np.ndarray | None, light: np.ndarray) -> np.ndarray:
    """Folds, float32 (n, n) or None, and the light of an expression: float32, of either size."""
    if creases is None:
        return light
    both: np.ndarray = cv2.resize(light, creases.shape[::-1]) + creases
    return both


def frame_landmarks(face: AlignedFace) -> np.ndarray:
    """A face's landmarks in pixels of its frame: float32 (106, 2)."""
    size = face.pixels.shape[0]
    return transform_points(invert_similarity(face.crop_from_frame), face.landmarks * size - 0.5)


class MouthPainter:
    """Draws what an edit uncovers between lips that rest."""

    def __init__(self) -> None:
        self._skin: float | None = None
        self._time_s = 0.0
        self._measured: tuple[np.ndarray, Box, float] | None = None
        self._bank = MouthBank()

    def learn(self, frame: Frame, face: AlignedFace, time_s: float) -> None:
        """Look at the mouth that a frame shows, to draw from it later."""
        if lips_gap(face.landmarks) >= LEAST_GAP:
            self._bank.see(frame, face, self._skin_luma(face, time_s), time_s)

    def __call__(
        self, face: AlignedFace, moved: np.ndarray, covered: np.ndarray | None, time_s: float
    ) -> Patch | None:
        """The patch for lips that part, None where they stay closed or were open before.

        moved: float32 (106, 2), the displacement to show, crop units. covered: as of `Occlusion`.
        """
        landmarks = face.landmarks + moved
        share = painted_share(lips_gap(face.landmarks), lips_gap(landmarks))
        if share <= 0.01:
            return None
        box = drawn_box(landmarks)
        size = face.pixels.shape[0]
        unit_px = size / float(np.hypot(face.crop_from_frame[0, 0], face.crop_from_frame[1, 0]))
        width_px = round(unit_px * (box[2] - box[0]))
        skin = self._skin_luma(face, time_s)
        drawn = draw_interior(landmarks, box, width_px, skin, self._bank.best)
        alpha = drawn.alpha * np.float32(share)
        if covered is not None:
            alpha = alpha * (1 - _seen_through(box, alpha.shape, covered))
        return Patch(
            drawn.luma, alpha, drawn.saturation, lips_around(landmarks, box, alpha.shape), box
        )

    def _skin_luma(self, face: AlignedFace, time_s: float) -> float:
        """The brightness of the skin around the mouth, calm over time."""
        now = self._skin_now(face.pixels, mouth_box(face.landmarks))
        if self._skin is None or not 0 < time_s - self._time_s < 1:
            self._skin = now
        else:
            self._skin += (now - self._skin) * (1 - math.exp(-(time_s - self._time_s) / SKIN_S))
        self._time_s = time_s
        return self._skin

    def _skin_now(self, pixels: np.ndarray, box: Box) -> float:
        """The brightness of the skin on a crop; that of a still picture is measured once."""
        known = self._measured
        if known is not None and known[0] is pixels and known[1] == box:
            return known[2]
        x0, y0, x1, y1 = (int(place * pixels.shape[0]) for place in box)
        rows, columns = slice(max(0, y0), max(1, y1)), slice(max(0, x0), max(1, x1))
        now = float(np.percentile(pixels[rows, columns], 70))
        self._measured = (pixels, box, now)
        return now


def _around(covered: np.ndarray, size: int) -> np.ndarray:
    """Where something covers the face, and softly around there: float32 (size, size)."""
    small = cv2.resize(covered, (size, size), interpolation=cv2.INTER_AREA)
    wide = cv2.dilate(small, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(wide, (0, 0), 0.045 * size)


def _seen_through(box: Box, shape: tuple[int, ...], covered: np.ndarray) -> np.ndarray:
    """What covers the crop, in the mouth's box: float32 of `shape`."""
    cells = covered.shape[0]
    step = np.array([(box[2] - box[0]) / shape[1], (box[3] - box[1]) / shape[0]]) * cells
    first = np.array(box[:2]) * cells - 0.5 + 0.5 * step
    matrix = np.array([[step[0], 0, first[0]], [0, step[1], first[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(covered, matrix, (shape[1], shape[0]), flags=flags)


def painted_share(gap_before: float, gap_after: float) -> float:
    """How much of the opening between the lips must be painted, 0..1.

    Gaps in crop units.
    """
    if gap_after < SMALLEST_GAP:
        return 0.0
    stretch = gap_after / max(gap_before, 0.25 * SMALLEST_GAP)
    share = (stretch - STRETCH_KEPT) / (STRETCH_PAINTED - STRETCH_KEPT)
    appears = (gap_after - SMALLEST_GAP) / SMALLEST_GAP
    return min(1.0, max(0.0, share)) * min(1.0, appears)
