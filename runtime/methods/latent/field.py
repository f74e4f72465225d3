"""The field of generate(edited) against generate(reconstruction): what moves, and what is left.

What the generator cannot reproduce of a face stays as the camera has it, for only the difference of
two of its pictures is shown. What moves between them is found by their landmarks and moves the
frame's own pixels; what no movement explains (light, creases, the inside of a mouth) is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mien.engines import Engine
from mien.runtime.blending.edit import Delta, Edit, Patch
from mien.runtime.faces.alignment import (
    AlignedFace,
    crop_matrix,
    invert_similarity,
    roi_matrix,
)
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.region import face_region
from mien.runtime.faces.topology import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from mien.runtime.luma import RGB_WEIGHTS
from mien.runtime.methods.latent.space import planes_of, resized
from mien.runtime.methods.motion import edge_ramp, moved, share_beyond
from mien.runtime.methods.warp.editor import (
    SMALLEST_GAP,
    painted_share,
    with_outline,
)
from mien.runtime.methods.warp.flow import dense_flow, hold_brows
from mien.runtime.methods.warp.mouth import (
    DARK,
    DARK_COLOUR,
    TEETH,
    hold_lips,
    lips_gap,
    mouth_box,
)
from mien.runtime.methods.warp.speech import keep_blinks, lids_opening

FLOW_CELLS: Final = 64
# Where the rest changes a mouth this much it is redrawn, at twice that wholly: teeth that were
# there shine through lips that close otherwise.
REDRAWN: Final = 0.03
LIPS_ROOM: Final = 0.02  # crop units around the lips, and the softness of that edge
DARKEST, MOST_GAIN = 0.12, 0.6  # luma below which, and relative change to which shading goes
EYES_REACH: Final = 0.02  # crop units around the lids where no light is added
# Luma, as a share of the skin's, up to which and from which on pixels count as hair and as skin.
HAIR, SKIN = 0.5, 0.85
RIM: Final = 0.1  # of the crop's side, over which the rest fades to its border
# An eye less open than this share of its usual opening blinks: no light is added to its lid. From
# the second on it is open.
BLINKS, OPEN = 0.45, 0.75
# Teeth lie behind the lips: brighter than this share of the skin around they glow, so only a share
# of what is beyond is shown. And their colour, of the skin's: with less they look blue beside lips.
BRIGHTEST, GLOW, TEETH_COLOUR = 0.9, 0.3, 0.45
# The lower lip without its corners, how much of its outline counts, and how many cells of
# area it must have to be believed wholly.
LOWER_LIP: Final = (95, 94, 93, 92, 91, 101, 102, 103)
LIP_CORE, LIP_CELLS = 0.7, 5.0
LIP_SHARE: Final = 0.4  # of the colour; with all of it a mouth with lipstick is violet inside
PATCH_WH: Final = (64, 32)  # cells of the inside of a mouth
# By how much luma darkens between the lips where it is another inside; at twice that wholly. Where
# it brightens, teeth that are there stay the camera's.
OTHER_MOUTH: Final = 0.035
AROUND: Final = 0.12  # of the mouth's box, a rim along its upper and outer sides: skin, not lips
EYE_REACH: Final = 0.085  # crop units, the deviation of what lies around an eye


@dataclass(frozen=True, slots=True)
class Made:
    """What the generator says of one face.

    before, after: float32 (c, s, s) in [0, 1], of the face's code and of the edited one.
    displacement: float32 (106, 2), crop units, by which the landmarks of the two differ.
    """

    before: np.ndarray
    after: np.ndarray
    displacement: np.ndarray


@dataclass(frozen=True, slots=True)
class Lids:
    """How far lids are apart, crop units: (2, 3) of `SteadyLids`, (2,) of `OpenEyes`."""

    steady: np.ndarray
    usual: np.ndarray


class Comparison:
    """Compares pictures by the landmark network, seen where the face is."""

    def __init__(self, landmarks: Engine) -> None:
        self._detect = LandmarkDetector(landmarks)

    def __call__(self, pictures: np.ndarray, landmarks: np.ndarray) -> Made:
        """What differs between two pictures (2, c, s, s); landmarks (106, 2), crop units."""
        size = pictures.shape[-1]
        place = roi_matrix(landmarks * size - 0.5)
        before, after = (self._detect(luma_bytes(planes), place).points for planes in pictures)
        return Made(pictures[0], pictures[1], ((after - before) / size).astype(np.float32))


def luma_bytes(planes: np.ndarray) -> np.ndarray:
    """A picture (c, s, s) in [0, 1] as luma: uint8 (s, s)."""
    weights = np.array([1.0] if len(planes) == 1 else RGB_WEIGHTS, np.float32)
    luma = np.tensordot(weights, planes, 1)
    return np.round(np.clip(luma, 0, 1) * 255).astype(np.uint8)


def field_edit(face: AlignedFace, made: Made, lids: Lids, amount: float = 1.0) -> Edit:
    """The edit that shows what a generator changes, on a face as the frame has it.

    amount: of it; 1 is the generator's own.
    """
    landmarks = face.landmarks
    asked = made.displacement * np.float32(amount)
    asked = hold_brows(landmarks, hold_lips(landmarks, with_outline(asked)))
    asked = keep_blinks(landmarks, asked, lids.steady, lids.usual)
    flow = dense_flow(landmarks, asked, FLOW_CELLS)
    size = made.before.shape[-1]
    on_picture = np.stack([cv2.resize(c, (size, size)) for c in flow])
    before = moved(made.before, on_picture)
    rest = (made.after - before) * np.float32(amount)
    mask = _shown(landmarks, landmarks + asked, lids.usual, size)
    lips = lips_region(landmarks, landmarks + asked, size)
    rest -= level(rest, mask * (1 - lips))
    seen = moved(resized(planes_of(face), size), on_picture)  # as the flow alone would show it
    change = rest.copy()
    redrawn = share_beyond(REDRAWN, rest) * lips * np.float32(min(1.0, amount))
    rest += redrawn * (before - seen)
    if len(rest) > 1:
        return Edit(flow=flow, delta=Delta(rest.astype(np.float32), mask))
    opened = painted_share(lips_gap(landmarks), lips_gap(landmarks + asked))
    return Edit(
        flow=flow,
        gain=skin_light(
            rest[0],
            seen[0],
            mask * (1 - lips) * (1 - eyes_region(landmarks, landmarks + asked, size)),
        ),
        delta=Delta(rest.astype(np.float32), lips * mask),
        patch=inside_patch(seen[0] + rest[0], change[0], landmarks + asked, opened),
    )


def shading(rest: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A change of luma as a relative one, float32 (s, s), by the luma (s, s) that is changed.

    Skin in shade has less of all colours: luma that is taken away alone leaves it orange.
    """
    gain: np.ndarray = np.clip(rest / np.maximum(seen, DARKEST), -MOST_GAIN, MOST_GAIN)
    return gain.astype(np.float32)


def skin_light(rest: np.ndarray, seen: np.ndarray, region: np.ndarray) -> np.ndarray:
    """`shading` of the skin within a region, float32 (s, s), all of the same size.

    Where the generator lets skin appear in place of a brow, the frame's own brow has moved away by
    itself, and what is left of it would glow: hair and lashes are not brightened.
    """
    light = shading(rest, seen) * region
    inside = region > 0.5
    usual = max(float(np.median(seen[inside])) if inside.any() else 1.0, 0.05)
    is_skin = np.clip((seen / usual - HAIR) / (SKIN - HAIR), 0, 1)
    shown: np.ndarray = np.where(light > 0, light * is_skin, light).astype(np.float32)
    return shown


def level(rest: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean of a change (c, s, s) under a mask (s, s), per channel: float32 (c, 1, 1).

    Generators light a face a little differently with each expression; a face in a frame must not.
    """
    weight = max(float(mask.sum()), 1e-6)
    mean: np.ndarray = (rest * mask).sum((1, 2), keepdims=True) / np.float32(weight)
    return mean


def lips_region(before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """1 on the lips and between them, before and after, and softly around: float32 (size, size)."""
    lips = np.concatenate([points[list(OUTER_LIPS)] for points in (before, after)])
    region = np.zeros((size, size), np.uint8)
    corners = np.round((lips * size - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(region, [cv2.convexHull(corners)], 255, cv2.LINE_AA, 4)
    reach = 2 * max(1, round(LIPS_ROOM * size)) + 1
    grown = cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return cv2.GaussianBlur(grown.astype(np.float32) / 255, (0, 0), LIPS_ROOM * size)


def eyes_region(before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """1 between the lids, before and after, and softly around: float32 (size, size)."""
    region = np.zeros((size, size), np.uint8)
    for points in (before, after):
        for eye in (LEFT_EYE, RIGHT_EYE):
            corners = np.round((points[list(eye)] * size - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(region, [cv2.convexHull(corners)], 255, cv2.LINE_AA, 4)
    reach = 2 * max(1, round(EYES_REACH * size / 2)) + 1
    grown = cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return cv2.GaussianBlur(grown.astype(np.float32) / 255, (0, 0), EYES_REACH * size / 2)


def inside_patch(
    luma: np.ndarray, change: np.ndarray, landmarks: np.ndarray, opened: float = 0.0
) -> Patch | None:
    """The inside of a mouth that an edit opens or draws differently, or None.

    A generator of luma darkens what it opens, but its colour is still that of the lips that were
    there; and where it draws a mouth without teeth, their edges, finer than its pixels, are still
    the camera's. luma, change: float32 (s, s), the face as edited, and what the edit adds.
    landmarks: (106, 2), crop units, as edited. opened: how much of the mouth is new, 0..1.
    """
    box = mouth_box(landmarks)
    inside = np.clip(_on_box(inner_mouth(landmarks, len(luma)), box), 0, 1)
    darker = np.maximum(0, -_on_box(change, box))
    amount = float((darker * inside).sum()) / max(float(inside.sum()), 1e-6)
    share = max(opened, min(1.0, max(0.0, amount / OTHER_MOUTH - 1)))
    if share <= 0 or lips_gap(landmarks) < SMALLEST_GAP:
        return None
    alpha = inside * np.float32(share)
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    seen = np.clip(_on_box(luma, box), 0, 1)
    skin = float(np.percentile(seen[skin_rim(alpha.shape) > 0], 70))
    seen = seen - (1 - GLOW) * np.maximum(0, seen - np.float32(BRIGHTEST * skin))
    bright = np.clip((seen / max(skin, 0.02) - DARK) / (TEETH - DARK), 0, 1)
    saturation = DARK_COLOUR + bright * np.float32(TEETH_COLOUR - DARK_COLOUR)
    teeth = float((bright * alpha).sum() / max(float(alpha.sum()), 1e-6))
    around = coloured_by(landmarks, box, teeth)
    return Patch(seen, alpha, saturation.astype(np.float32), around, box)


def coloured_by(
    landmarks: np.ndarray, box: tuple[float, float, float, float], teeth: float
) -> np.ndarray:
    """Where the colour of a mouth's inside is taken from, weights on its box: float32, PATCH_WH.

    landmarks: (106, 2), crop units. teeth: how much of the inside they are, 0..1: by as much the
    skin around gives the colour, for that of lips makes teeth blue or pink. The dark has some of
    the lower lip's, away from its edges: the upper one is often behind a beard, and what an edit
    draws above it has the beard's colour. A lip too thin to be seen leaves it to the skin.
    """
    (x0, y0, x1, y1), (width, height) = box, PATCH_WH
    scale = np.array([width / (x1 - x0), height / (y1 - y0)])
    cells = (landmarks[list(LOWER_LIP)] - np.array([x0, y0])) * scale - 0.5
    middle = cells.mean(0)
    core = (middle + LIP_CORE * (cells - middle)).astype(np.float32)
    region = np.zeros((height, width), np.uint8)
    cv2.fillPoly(region, [np.round(core * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    lip, skin = region.astype(np.float32), skin_rim((height, width))
    share = LIP_SHARE * (1 - teeth) * min(1.0, cv2.contourArea(core) / LIP_CELLS)
    around: np.ndarray = lip * np.float32(share / max(float(lip.sum()), 1.0))
    around += skin * np.float32((1 - share) / float(skin.sum()))
    return around


def inner_mouth(landmarks: np.ndarray, size: int) -> np.ndarray:
    """1 between the inner lips, softly: float32 (size, size); landmarks (106, 2), crop units."""
    cells = 4 * size  # finer than the crop, or closed lips would have an inside
    region = np.zeros((cells, cells), np.uint8)
    corners = np.round((landmarks[list(INNER_LIPS)] * cells - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(region, [corners], 255, cv2.LINE_AA, 4)
    small = cv2.resize(region, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small.astype(np.float32) / 255, (0, 0), 0.008 * size)


def _on_box(grid: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A grid (s, s) over the crop in a box of it: float32, PATCH_WH."""
    (x0, y0, x1, y1), size = box, len(grid)
    columns, rows = (
        ((np.arange(count) + 0.5) / count * (high - low) + low) * size - 0.5
        for count, low, high in ((PATCH_WH[0], x0, x1), (PATCH_WH[1], y0, y1))
    )
    map_x, map_y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(grid, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def behind(edit: Edit, covered: np.ndarray, landmarks: np.ndarray) -> Edit:
    """An edit of what lies behind glasses, a hand or hair, which stay as they are.

    covered: float32 (128, 128) of `Occlusion`, over the canonical crop. landmarks: (106, 2), units
    of the edit's crop.
    """
    cells = len(covered)
    canonical = crop_matrix(landmarks * cells - 0.5, cells)  # from this crop, at as many cells
    front = cv2.warpAffine(covered, invert_similarity(canonical), (cells, cells))
    delta, patch = edit.delta, edit.patch
    if delta is not None:
        size = delta.mask.shape[0]
        free = 1 - cv2.resize(front, (size, size), interpolation=cv2.INTER_AREA)
        delta = replace(delta, mask=delta.mask * free)
    if patch is not None:
        patch = replace(patch, alpha=patch.alpha * (1 - np.clip(_on_box(front, patch.box), 0, 1)))
    return replace(edit, covered=front, delta=delta, patch=patch)


def _shown(before: np.ndarray, after: np.ndarray, open_eyes: np.ndarray, size: int) -> np.ndarray:
    """Where the rest is shown: float32 (size, size), on the face, off lids that are shut."""
    region = np.minimum(face_region(before, size), face_region(after, size))
    mask: np.ndarray = region * edge_ramp(size, RIM)
    ratios = lids_opening(before) / np.maximum(open_eyes, 1e-3)
    shut = 1 - np.clip((ratios - BLINKS) / (OPEN - BLINKS), 0, 1)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    for eye, share in zip((LEFT_EYE, RIGHT_EYE), shut, strict=True):
        if share <= 0:
            continue
        x, y = before[list(eye)].mean(0)
        across, down = (np.exp(-0.5 * ((axis - at) / EYE_REACH) ** 2) for at in (x, y))
        mask = mask * (1 - np.float32(share) * down[:, None] * across[None])
    closed = np.zeros_like(mask)
    closed[1:-1, 1:-1] = mask[1:-1, 1:-1]
    return closed


def skin_rim(shape: tuple[int, ...]) -> np.ndarray:
    """Where the mouth's box shows skin: float32 of `shape`, 1 on its upper and outer rim."""
    height, width = shape
    rim = np.ones((height, width), np.float32)
    rim[round(AROUND * height) :, round(AROUND * width) : -round(AROUND * width)] = 0
    return rim
