"""The default method: landmarks move, light changes, and what the lips uncover is painted.

One small network answers with a displacement per landmark and a coarse gain; displacements become
a smooth flow that the blender applies to the native frame, so moved pixels stay photographs. Where
the lips part over something that was closed there is nothing to move, and the mouth network paints
teeth and dark at the mouth's own scale.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from mien.engines import Catalog, Engine
from mien.engines.errors import UsageError
from mien.engines.networks import MOUTH, WARP
from mien.runtime.alignment import AlignedFace
from mien.runtime.edit import Edit, Patch
from mien.runtime.flow import dense_flow
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma
from mien.runtime.methods import FaceEditor, Method, MethodOptions
from mien.runtime.mouth import SIZE_HW, Box, hold_lips, lips_gap, lips_hole, mouth_box
from mien.runtime.one_euro import OneEuro
from mien.runtime.region import face_region
from mien.runtime.target import Target

CROP_SIZE = 64
# How much of the network's answer an emotion shows at intensity 1, in the order of EMOTIONS. Less
# of surprise, for FaceMesh found its wide mouth restless (1.30 times the input on one clip); a
# little more of happy, for people who smile already.
AMOUNTS = np.array([1.0, 1.08, 1.0, 0.82, 1.0, 1.0, 1.0, 1.0], np.float32)
MAX_GAIN = 0.22  # at intensity 1.5; the network itself stays within 0.15
# A gap that grew less than this factor is a stretched picture and still looks right; beyond the
# second there is nothing left to stretch. Between them the painted mouth fades in.
STRETCH_KEPT, STRETCH_PAINTED = 1.6, 2.8
SMALLEST_GAP = 0.006  # crop units; below, the lips count as closed and nothing is painted
# Colour inside a mouth as a share of the skin's around it: it falls with brightness, from the dark
# of the mouth to teeth. `python -m mien.training.mouth_colour` measured medians of 0.70 (of the
# lips) over dark halves, and 0.42 where the bright half was teeth with gums.
DARK_SATURATION, SATURATION_FALL, TEETH_SATURATION = 0.85, 0.75, 0.3
AROUND = 0.12  # of the mouth's box, a rim along its upper and outer sides: skin, not lips
CONTENT_S = 0.08  # time constant of what is painted, so that teeth do not shimmer
# How old an answer of a network may be. Wishes and what lies in a mouth change slowly; the flow and
# the mouth's outline are made anew for every frame, from its own landmarks.
FRESH_S = 0.06


class WarpMethod(Method):
    """The warp editor with its mouth network."""

    def __init__(self, warp: Engine, mouth: Engine) -> None:
        self._warp = warp
        self._mouth = mouth

    @property
    def crop_size(self) -> int:
        """64, in pixels."""
        return CROP_SIZE

    @property
    def providers(self) -> dict[str, str]:
        """Which provider runs each network."""
        return {engine.network.name: engine.provider for engine in (self._warp, self._mouth)}

    def check_target(self, target: Target) -> None:
        """Nothing; it reaches every emotion."""

    def new_face(self) -> FaceEditor:
        """An editor for a face that has just appeared."""
        return WarpEditor(self._warp, self._mouth)

    def close(self) -> None:
        """Nothing; gives the networks back."""
        self._warp.close()
        self._mouth.close()


def open_method(catalog: Catalog, *, provider: str, options: MethodOptions) -> Method:
    """The method with its networks from `catalog`. Raises UsageError where it is told of a GAN."""
    if options.gan is not None:
        raise UsageError(f"the method warp has no GAN; leave out --gan {options.gan}")
    if options.blend not in (None, "field"):
        raise UsageError(f"the method warp has no blend {options.blend!r}; leave out --blend")
    return WarpMethod(catalog.open(WARP, provider=provider), catalog.open(MOUTH, provider=provider))


class WarpEditor:
    """Edits one face through a video.

    left_alone: nothing; it needs no part to be seen by itself.
    """

    left_alone: tuple[str, ...] = ()

    def __init__(self, warp: Engine, mouth: Engine) -> None:
        self._warp = warp
        self._painter = MouthPainter(mouth)
        # A landmark's displacement is at rest nearly always; it follows speech within a few frames.
        self._displacement = OneEuro(min_cutoff_hz=1.0, beta=25.0)
        self._gain = OneEuro(min_cutoff_hz=1.0, beta=2.0)
        self._answer: dict[str, np.ndarray] = {}
        self._asked_s = math.inf  # never

    def __call__(
        self, frame: Frame, face: AlignedFace, weights: np.ndarray, strength: float, time_s: float
    ) -> Edit:
        """The edit of the face in this frame; see `FaceEditor`."""
        asks = not 0 <= time_s - self._asked_s < FRESH_S
        if asks:
            self._answer = self._warp.infer(
                {
                    "face": face.pixels[None, None],
                    "landmarks": face.landmarks[None],
                    "target": weights[None].astype(np.float32),
                }
            )
            self._asked_s = time_s
        displacement = self._displacement(self._answer["displacement"][0], time_s)
        gain = self._gain(self._answer["gain"][0, 0][..., None], time_s)[..., 0]
        amount = strength * float(weights @ AMOUNTS) / max(float(weights.sum()), 1e-6)
        moved = hold_lips(face.landmarks, displacement * np.float32(amount))
        flow = dense_flow(face.landmarks, moved)
        self._painter.may_wait = asks  # so that one frame does not pay for both networks
        patch = self._painter(frame, face, moved, flow, weights, time_s)
        light = np.clip(gain * np.float32(strength), -MAX_GAIN, MAX_GAIN)
        return Edit(flow=flow, gain=face_light(light, face.landmarks + moved), patch=patch)


def face_light(gain: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The coarse gain on the face alone: float32 (64, 64), for light must not spill beyond it.

    gain: (16, 16). landmarks: (106, 2), crop units, where they are shown.
    """
    size_wh = (CROP_SIZE, CROP_SIZE)
    fine = cv2.resize(gain.astype(np.float32), size_wh, interpolation=cv2.INTER_CUBIC)
    light: np.ndarray = fine * face_region(landmarks, CROP_SIZE)
    return light


class MouthPainter:
    """Paints what an edit uncovers between the lips.

    may_wait: whether an answer that is getting old will do for the next frame.
    """

    def __init__(self, mouth: Engine) -> None:
        self._mouth = mouth
        self.may_wait = False
        self._content: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(
        self,
        frame: Frame,
        face: AlignedFace,
        moved: np.ndarray,
        flow: np.ndarray,
        weights: np.ndarray,
        time_s: float,
    ) -> Patch | None:
        """The patch for lips that part, None where they stay closed or were open before.

        moved: float32 (106, 2), the displacement to show, crop units. flow: (2, h, w) made of it.
        """
        landmarks = face.landmarks + moved
        share = painted_share(lips_gap(face.landmarks), lips_gap(landmarks))
        if share <= 0.01:
            self._content = None
            return None
        box = mouth_box(landmarks)
        hole = lips_hole(landmarks, box)
        content = self._content
        fresh_s = 2 * FRESH_S if self.may_wait else FRESH_S
        if content is None or not 0 <= time_s - self._time_s < fresh_s:
            answer = self._mouth.infer(
                {
                    "mouth": (moved_mouth(frame, face, flow, box) * (1 - hole))[None, None],
                    "hole": hole[None, None],
                    "target": weights[None].astype(np.float32),
                }
            )
            content = self._calm(answer["content"][0, 0], time_s)
        alpha = cv2.GaussianBlur(hole, (0, 0), 0.9) * np.float32(share)
        alpha[[0, -1]] = 0
        alpha[:, [0, -1]] = 0
        saturation = np.clip(
            DARK_SATURATION - SATURATION_FALL * content, TEETH_SATURATION, DARK_SATURATION
        )
        return Patch(content, alpha, saturation.astype(np.float32), skin_rim(), box)

    def _calm(self, content: np.ndarray, time_s: float) -> np.ndarray:
        if self._content is None or time_s <= self._time_s:
            self._content = content
        else:
            keep = np.float32(math.exp(-(time_s - self._time_s) / CONTENT_S))
            self._content = content + keep * (self._content - content)
        self._time_s = time_s
        return self._content


def skin_rim() -> np.ndarray:
    """Where the mouth's box shows skin: float32 (48, 96), 1 on its upper and outer rim."""
    height, width = SIZE_HW
    rim = np.ones(SIZE_HW, np.float32)
    rim[round(AROUND * height) :, round(AROUND * width) : -round(AROUND * width)] = 0
    return rim


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


def moved_mouth(frame: Frame, face: AlignedFace, flow: np.ndarray, box: Box) -> np.ndarray:
    """The luma in the mouth's box after the flow: float32 (48, 96) in [0, 1].

    flow: (2, h, w), crop units. box: crop units.
    """
    height, width = SIZE_HW
    unit_px = width / (box[2] - box[0])  # patch pixels in a crop unit
    grid_from_patch = np.array(
        [
            [flow.shape[2] / unit_px, 0, (box[0] + 0.5 / unit_px) * flow.shape[2] - 0.5],
            [0, flow.shape[1] / unit_px, (box[1] + 0.5 / unit_px) * flow.shape[1] - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shift_px = [
        cv2.warpAffine(part, grid_from_patch, (width, height), flags=flags) for part in flow
    ]
    # The unmoved surroundings, a square half as large again as the box is wide.
    margin = width // 4
    side = width + 2 * margin
    top = (side - height) // 2
    square_from_frame = _square_from_frame(face, box, unit_px, margin, top)
    square = sample_luma(frame, square_from_frame, side)
    map_x = np.arange(width, dtype=np.float32) + margin + shift_px[0] * np.float32(unit_px)
    map_y = np.arange(height, dtype=np.float32)[:, None] + top + shift_px[1] * np.float32(unit_px)
    moved = cv2.remap(square, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    luma: np.ndarray = np.asarray(moved, np.float32) / np.float32(255)
    return luma


def _square_from_frame(
    face: AlignedFace, box: Box, unit_px: float, margin: int, top: int
) -> np.ndarray:
    size = face.pixels.shape[0]
    matrix: np.ndarray = face.crop_from_frame.astype(np.float64).copy()
    matrix[:, 2] += 0.5
    matrix *= unit_px / size
    matrix[:, 2] += np.array([margin, top]) - np.array(box[:2]) * unit_px - 0.5
    return matrix.astype(np.float32)
