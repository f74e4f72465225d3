"""One face, held and shown alive: a still picture in, a frame of a living one out at any time.

The picture is looked at once. From then on each frame is made of it: the eyes first (`eyes`), then
expression and speech as displacements of its landmarks, by the warp method's own flow, folds and
drawn mouth, and the head and shoulders over their background at last (`backdrop`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from mien.engines import DETECTOR, LANDMARKS, Catalog
from mien.engines.errors import UsageError
from mien.engines.networks import OCCLUSION, WARP
from mien.runtime.avatar.backdrop import Backdrop
from mien.runtime.avatar.cover import StillCover
from mien.runtime.avatar.eyes import ASIDE, EYES, UP_DOWN, Eye, closed_lids
from mien.runtime.avatar.motion import Idle, IdleSettings, Pose
from mien.runtime.avatar.speech import Lips, Mouth
from mien.runtime.blending.blending import FaceEdit, blend_faces, crop_units_matrix
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace, invert_similarity, transform_points
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.smoothing import Easing
from mien.runtime.faces.topology import (
    CONTOUR,
    INNER_LIPS,
    MOUTH_LEFT_CORNER,
    MOUTH_RIGHT_CORNER,
    OUTER_LIPS,
)
from mien.runtime.faces.tracking import FILE, Face, Tracker
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.outputs.canvas import even_size, fitted
from mien.runtime.live.pixels import converted, upright
from mien.runtime.luma import align_in_frame
from mien.runtime.methods.warp.editor import (
    CROP,
    Answer,
    MouthPainter,
    ask,
    lit,
)
from mien.runtime.methods.warp.flow import BrowRoom, dense_flow, folds
from mien.runtime.methods.warp.mouth import hold_lips, lips_gap, with_rigid_teeth
from mien.runtime.methods.warp.occlusion import Occlusion
from mien.runtime.methods.warp.proportions import Proportions
from mien.runtime.methods.warp.speech import (
    LID_COLUMNS,
    OPENS,
    RestingLips,
    keep_blinks,
    keep_lips,
    lid_heights,
    lids_opening,
    taken_from_below,
)
from mien.runtime.pictures.picture import Picture
from mien.runtime.target import EMOTIONS, MAX_STRENGTH, Target, parse_target
from mien.runtime.video.planes import frame_from_av

EASE_S: Final = 0.45
LIGHT_SHAPE: Final = WARP.outputs[1].shape[-2:]
# Cells a side of the flow: fewer on a crop of so few pixels, where they are as fine as is seen.
SMALL_PX, COARSE, FINE = 200.0, 48, 64
STILL: Final = 2e-4  # crop units, some hundredths of a pixel
# Of the mouth's width: how far speech drops the lower lip and the chin, and lifts the upper lip.
JAW_DROP, CHIN_DROP, LIFT = 0.26, 0.2, 0.035
SPREAD, ROUND = 0.1, 0.22  # of its width that speech adds and takes
LOWER_LIP: Final = {101: 0.85, 102: 1.0, 103: 0.85, 91: 0.5, 92: 0.85, 93: 1.0, 94: 0.85, 95: 0.5}
UPPER_LIP: Final = {97: 0.8, 98: 1.0, 99: 0.8, 86: 0.7, 87: 0.8, 88: 0.7}
LEAST_SIDE: Final = 64  # pixels
MOST_ANSWERS: Final = 64  # of the network that are kept, of 17 KB each


@dataclass(frozen=True, slots=True)
class StillFace:
    """A picture of one face, as an avatar is made of it.

    frame: 4:2:0, eight bits. bgr: uint8 (H, W, 3), the same. face: with its landmarks in pixels.
    """

    frame: Frame
    bgr: np.ndarray
    face: Face


def read_still(
    picture: Picture, size_wh: tuple[int, int], catalog: Catalog, provider: str = "cpu"
) -> StillFace:
    """The one face of a picture, fitted into a size and never enlarged.

    Raises UsageError where the picture shows no face, or several.
    """
    bgr = _fitted_bgr(picture, size_wh)
    height, width = bgr.shape[:2]
    if min(width, height) < LEAST_SIDE:
        raise UsageError(
            f"the picture is {width}x{height} pixels in the avatar's size; "
            f"{LEAST_SIDE} a side are needed: use a larger or less narrow one"
        )
    layout = PixelLayout("rgb", full_range=True, matrix="bt601", rgb_order=(2, 1, 0))
    shown = Frame((Plane(bgr, (1, 1)),), layout, width, height)
    frame = frame_from_av(converted(shown, "yuv420p"))
    frame = replace(frame, layout=replace(frame.layout, full_range=False, matrix="bt601"))
    with (
        catalog.open(DETECTOR, provider=provider) as detector,
        catalog.open(LANDMARKS, provider=provider) as landmarks,
    ):
        tracker = Tracker(FaceDetector(detector), LandmarkDetector(landmarks))
        tracker.effort = FILE
        faces = tracker(frame, 0.0)
    if not faces:
        raise UsageError("the picture shows no face; use one that is seen from the front, unturned")
    if len(faces) > 1:
        raise UsageError(
            f"the picture shows {len(faces)} faces, and an avatar has one; cut the picture to it"
        )
    return StillFace(frame, bgr, faces[0])


def _fitted_bgr(picture: Picture, size_wh: tuple[int, int]) -> np.ndarray:
    """The picture upright in a size with even sides: uint8 (H, W, 3)."""
    frame = picture.frame
    samples = frame.planes[0].samples
    if samples.dtype != np.uint8:
        samples = (samples >> (frame.layout.depth - 8)).astype(np.uint8)
        layout = replace(frame.layout, depth=8, shift=0)
        frame = replace(frame, planes=(Plane(samples, (1, 1)),), layout=layout)
    frame = upright(frame)
    samples = frame.planes[0].samples
    room = even_size((min(size_wh[0], frame.width), min(size_wh[1], frame.height)))
    *_, width, height = fitted((frame.width, frame.height), room)
    scaled = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA)
    if scaled.ndim == 2:
        scaled = cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(scaled)


class Avatar:
    """A face that lives: `frame_at` draws it, the other methods steer it.

    Frames are drawn in one thread, at times that do not go back; any thread may steer.
    Raises ModelError, DeviceError.
    """

    def __init__(
        self,
        still: StillFace,
        catalog: Catalog,
        provider: str = "cpu",
        *,
        idle: IdleSettings | None = None,
    ) -> None:
        self.still = still
        self._aligned = align_in_frame(still.frame, still.face.landmarks, CROP)
        with catalog.open(OCCLUSION, provider=provider) as occlusion:
            look = Occlusion(occlusion)
            covered = look(still.frame, still.face.landmarks, 0.0)
        self._warp = catalog.open(WARP, provider=provider)
        points = self._aligned.landmarks
        self._matrix = crop_units_matrix(self._aligned.crop_from_frame, self._aligned.size)
        side_px = 1 / float(np.hypot(*self._matrix[:, 0]))
        self._cells = COARSE if side_px <= SMALL_PX else FINE
        self._cover = StillCover(still.frame, covered, self._matrix)
        self._eyes = tuple(Eye(still.face.landmarks, side) for side in (0, 1))
        self._mouth = MouthPainter()
        if covered is None:
            self._mouth.learn(still.frame, self._aligned, 0.0)
        self._backdrop = Backdrop(still.frame, still.bgr, still.face.landmarks)
        self._jaw = _Jaw.of(points)
        self._answers: dict[bytes, Answer] = {}
        for emotion in EMOTIONS:
            self._answer(parse_target(emotion).vector())
        self.lips = Lips()
        self._lock = threading.Lock()
        self._idle = Idle(idle or IdleSettings())
        self._target: Target | None = None
        self._ease_s = EASE_S
        self._is_new = False
        self._goal: np.ndarray = np.zeros((106, 2), np.float32)
        self._now = self._goal
        self._goal_light: np.ndarray = np.zeros(LIGHT_SHAPE, np.float32)
        self._light = self._goal_light
        self._light_easing = Easing(EASE_S)
        self._light_easing.reset(self._light)
        self._easing = Easing(EASE_S)
        self._easing.reset(self._goal)
        self._mix: np.ndarray = np.zeros(len(EMOTIONS))
        self._mix_easing = Easing(EASE_S)
        self._mix_easing.reset(self._mix)
        self._points = points
        self._gaze = (0.0, 0.0)
        self._last_s: float | None = None
        self._frame_from_crop = invert_similarity(self._matrix)
        # What the last frame was made of: drawn again only where it has changed.
        self._drawn: tuple[np.ndarray, np.ndarray, FaceEdit] | None = None
        self._eyed = ((0.0, (0.0, 0.0)), self._cover.bare)
        self._made: tuple[Frame, FaceEdit | None, Frame] = (self._cover.bare, None, still.frame)

    @property
    def providers(self) -> Mapping[str, str]:
        """What runs each network that is still open."""
        return MappingProxyType({self._warp.network.name: self._warp.provider})

    @property
    def target(self) -> Target | None:
        """The expression it eases to; None is that of the picture."""
        return self._target

    @property
    def mix(self) -> np.ndarray:
        """How much of each emotion the last frame had reached: float64 (8,), 0..1.5."""
        return self._mix

    @property
    def face(self) -> Face:
        """The face of the last frame, with the landmarks that it shows, but for the sway."""
        landmarks = transform_points(self._frame_from_crop, self._points)
        for corners, _, _, _, pupil in EYES:
            first, second = landmarks[list(corners)]
            width = float(np.hypot(*(second - first)))
            turned = np.array([ASIDE * self._gaze[0], UP_DOWN * self._gaze[1]]) * width
            landmarks[pupil] += turned.astype(np.float32)
        return replace(self.still.face, landmarks=landmarks)

    def express(self, target: Target | None, ease_s: float = EASE_S) -> None:
        """Ease to an expression, or to that of the picture, within seconds."""
        with self._lock:
            self._target, self._ease_s, self._is_new = target, max(ease_s, 1e-3), True

    def blink(self, time_s: float) -> None:
        """Blink now."""
        with self._lock:
            self._idle.blink(time_s)

    def look(self, at: tuple[float, float] | None, time_s: float) -> None:
        """Look there and stay, or None: about by chance. at: -1..1, viewer's right and down."""
        with self._lock:
            self._idle.look(at, time_s)

    def close(self) -> None:
        """Close the network."""
        self._warp.close()

    def frame_at(self, time_s: float) -> Frame:
        """The face at a time: a frame of the still's size and layout, without a time of its own."""
        with self._lock:
            pose = self._idle(time_s)
            is_new, self._is_new = self._is_new, False
            target, ease_s = self._target, self._ease_s
        if is_new:
            self._goal, self._goal_light = self._expression(target)
            self._easing = Easing(ease_s)
            self._easing.reset(self._now)
            self._light_easing = Easing(ease_s)
            self._light_easing.reset(self._light)
            self._mix_easing = Easing(ease_s)
            self._mix_easing.reset(self._mix)
            began_s = time_s if self._last_s is None else self._last_s
            self._easing(self._now, began_s)
            self._light_easing(self._light, began_s)
            self._mix_easing(self._mix, began_s)
        self._last_s = time_s
        self._now = self._easing(self._goal, time_s).astype(np.float32)
        self._light = self._light_easing(self._goal_light, time_s).astype(np.float32)
        wanted = np.zeros(len(EMOTIONS)) if target is None else target.strength * target.vector()
        self._mix = self._mix_easing(wanted, time_s)
        self._gaze = pose.gaze
        edit = self._face_edit(self.lips(time_s), pose.closure, time_s)
        return self._backdrop(self._with_face(self._with_eyes(pose), edit), pose)

    def _with_eyes(self, pose: Pose) -> Frame:
        """The bare picture with its eyes as they are now: the same frame while they rest."""
        state = (pose.closure, pose.gaze)
        if state != self._eyed[0]:
            edits = [eye.edit(*state) for eye in self._eyes]
            edited = blend_faces(self._cover.bare, [edit for edit in edits if edit is not None])
            self._eyed = (state, edited)
        return self._eyed[1]

    def _with_face(self, eyed: Frame, edit: FaceEdit | None) -> Frame:
        """The whole face, with its cover: the same frame while nothing has changed."""
        if self._made[0] is not eyed or self._made[1] is not edit:
            edited = eyed if edit is None else blend_faces(eyed, [edit])
            self._made = (eyed, edit, self._cover.laid_on(edited))
        return self._made[2]

    def _expression(self, target: Target | None) -> tuple[np.ndarray, np.ndarray]:
        """Where an expression moves the landmarks, and its light: float32 (106, 2) and (64, 64)."""
        points = self._aligned.landmarks
        if target is None or target.strength <= 0:
            return np.zeros((106, 2), np.float32), np.zeros(LIGHT_SHAPE, np.float32)
        weights = target.vector()
        answer = self._answer(weights)
        fit = Proportions()
        asked = fit(self._aligned, answer.displacement, target.strength, 0.0)
        strongest = answer.displacement * np.float32(MAX_STRENGTH)
        share = target.strength / MAX_STRENGTH
        held = BrowRoom()(points, np.zeros_like(asked), strongest, share, 0.0)
        asked = hold_lips(points, asked) + held
        opening = float(weights @ np.array(OPENS, np.float32))
        opening *= RestingLips()(lips_gap(points), 0.0, fit.bared)
        moved = keep_lips(asked, opening, from_below=taken_from_below(weights))
        light = answer.light * np.float32(min(1.0, target.strength))
        return keep_blinks(points, moved, lid_heights(points), lids_opening(points)), light

    def _answer(self, weights: np.ndarray) -> Answer:
        """What the network answers to the weights of a target.

        It is asked once for each: a frame that is the first to show an expression need not wait.
        """
        key = weights.tobytes()
        if key not in self._answers:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            self._answers[key] = ask(self._warp, self._aligned, weights)
        return self._answers[key]

    def _face_edit(self, mouth: Mouth, closure: float, time_s: float) -> FaceEdit | None:
        """Expression and speech of one frame, None where there is neither."""
        moved = self._now.copy()
        points = self._aligned.landmarks
        if closure > 0:  # lids that are shut are narrowed and widened no more
            for upper, lower in (lids for eye in LID_COLUMNS for lids in eye):
                middle = (moved[upper] + moved[lower]) / 2
                moved[[upper, lower]] = middle + (1 - closure) * (moved[[upper, lower]] - middle)
        creases = None
        if mouth.opening > 0 or mouth.width != 0:
            expressed = moved
            moved = hold_lips(points, moved + self._jaw(mouth))
            creases = folds(points + moved, moved - expressed)
        points = closed_lids(points, closure) if closure > 0 else points
        self._points = points + moved
        if float(np.abs(moved).max()) < STILL:
            return None
        drawn = self._drawn
        if drawn is not None and (
            np.abs(drawn[0] - moved).max() < STILL and np.array_equal(drawn[1], points)
        ):
            return drawn[2]
        face = AlignedFace(self._aligned.pixels, self._aligned.crop_from_frame, points)
        patch = self._mouth(face, moved, None, time_s)
        flow = with_rigid_teeth(dense_flow(points, moved, self._cells), points, moved)
        edit = Edit(flow=flow, gain=lit(creases, self._light), patch=patch)
        made = FaceEdit(self._matrix, edit)
        self._drawn = (moved, points, made)
        return made


@dataclass(frozen=True, slots=True)
class _Jaw:
    """How far speech moves the landmarks, crop units.

    opened: float32 (106, 2), by a mouth that is wide open. aside: float32 (106,), how far each of
    the lips lies beside the middle of the mouth, 0 for the others.
    """

    opened: np.ndarray
    aside: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> _Jaw:
        """Of a face's landmarks (106, 2), crop units."""
        corners = points[[MOUTH_LEFT_CORNER, MOUTH_RIGHT_CORNER]]
        lips = [*OUTER_LIPS, *INNER_LIPS]
        aside = np.zeros(len(points), np.float32)
        aside[lips] = points[lips, 0] - corners[:, 0].mean()
        width = float(np.hypot(*(corners[1] - corners[0])))
        return cls(np.float32(width) * _jaw_weights(points), aside)

    def __call__(self, mouth: Mouth) -> np.ndarray:
        """The displacement of a mouth: float32 (106, 2)."""
        moved: np.ndarray = np.float32(mouth.opening) * self.opened
        wider = SPREAD * mouth.width if mouth.width > 0 else ROUND * mouth.width
        moved[:, 0] += self.aside * np.float32(wider - 0.06 * mouth.opening)
        return moved


def _jaw_weights(points: np.ndarray) -> np.ndarray:
    """How far each landmark goes with a jaw that opens: float32 (106, 2), mouth widths."""
    weights = np.zeros((106, 2), np.float32)
    for point, share in LOWER_LIP.items():
        weights[point, 1] = JAW_DROP * share
    for point, share in UPPER_LIP.items():
        weights[point, 1] = -LIFT * share
    weights[[84, 90, 96, 100], 1] = 0.25 * JAW_DROP
    mouth_y = float(points[[84, 90], 1].mean())
    for point in CONTOUR[6:27]:
        below = (float(points[point, 1]) - mouth_y) / max(float(points[16, 1]) - mouth_y, 1e-3)
        weights[point, 1] = CHIN_DROP * float(np.clip(below, 0, 1)) ** 0.8
    return weights
