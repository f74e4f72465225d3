"""The mouth: its box, how far its lips are open, how thin they may get, and the inside of it.

While somebody talks, the sharpest view of their open mouth is kept, and what an expression uncovers
is taken from it: the teeth stay where the skull has them, below the upper lip, relit. Where there
is no such view, or it does not reach, the inside is dark, with tongue and the edge of upper teeth:
drawn and not made by a network, at the resolution at which the frame shows it: what a network of a
processor's size paints there is a grey stripe.

Anatomy: central incisors 8.5 mm wide, lateral ones 6.5, canines 7.5 (Ash and Nelson, "Wheeler's
Dental Anatomy", 2003), 63 mm between the pupils; with lips at rest their edges show 2 to 3 mm below
the upper lip, and a dropped jaw leaves them there, for they are the skull's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.topology import (
    INNER_LIPS,
    INNER_LIPS_LOWER,
    INNER_LIPS_UPPER,
    LIP_TOP,
    MOUTH_LEFT_CORNER,
    MOUTH_RIGHT_CORNER,
    OUTER_LIPS,
)
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma

# Points of the outer lip and the inner ones behind them, upper lip, then lower.
UPPER_LIP = ((86, 97), (87, 98), (88, 99))
LOWER_LIP = ((94, 103), (93, 102), (92, 101))
_BETWEEN_LIPS = np.array((INNER_LIPS_UPPER[1:-1], INNER_LIPS_LOWER[1:-1]))
LEAST_THICKNESS = 0.6  # of what a lip had: it may be drawn thin, and never opens through itself
BOX_WIDTH = 1.7  # of the distance between the mouth's corners
BOX_HEIGHT = 1.15  # of how far lips are from its middle
MIN_WIDTH = 0.22  # crop units: a puckered or turned mouth still gets its surroundings

TEETH_BRIGHT = (0.70, 0.85)  # of the skin's luma: darker is the depth of a mouth, brighter teeth
LEAST_OPENING = 0.012  # crop units between the lips; below, no teeth are seen

Box = tuple[float, float, float, float]


def mouth_box(landmarks: np.ndarray) -> Box:
    """The mouth's box (x0, y0, x1, y1), twice as wide as high, in the units of `landmarks`.

    landmarks: (106, 2), crop units.
    """
    x, y = landmarks[list(OUTER_LIPS)].mean(0)
    corners = landmarks[MOUTH_RIGHT_CORNER] - landmarks[MOUTH_LEFT_CORNER]
    width = max(MIN_WIDTH, BOX_WIDTH * float(np.hypot(*corners)))
    return (
        float(x - width / 2),
        float(y - width / 4),
        float(x + width / 2),
        float(y + width / 4),
    )


def drawn_box(landmarks: np.ndarray) -> Box:
    """As `mouth_box`, and larger where a mouth is so high that it would reach beyond that.

    landmarks: (106, 2), crop units.
    """
    box = mouth_box(landmarks)
    middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = BOX_HEIGHT * float(np.abs(landmarks[list(OUTER_LIPS), 1] - middle_y).max())
    if reach <= (box[3] - box[1]) / 2:
        return box
    return middle_x - 2 * reach, middle_y - reach, middle_x + 2 * reach, middle_y + reach


def lips_gap(landmarks: np.ndarray) -> float:
    """The mean height between the inner lips, at least 0, in the units of `landmarks` (106, 2)."""
    upper, lower = landmarks[_BETWEEN_LIPS, 1]
    return max(0.0, float((lower - upper).sum()) / len(upper))


def lips_opening(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The area between the inner lips on the crop: float32 (size, size), antialiased.

    landmarks: (106, 2), crop units.
    """
    hole = np.zeros((size, size), np.uint8)
    points = np.round((landmarks[list(INNER_LIPS)] * size - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(hole, [points], 255, cv2.LINE_AA, 4)
    return hole.astype(np.float32) / 255


def lips_around(landmarks: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """Where a mouth's box shows lips: float32 of `shape`, 1 on them and away from their edges.

    landmarks: (106, 2), crop units.
    """
    height, width = shape
    scale = np.array([width / (box[2] - box[0]), height / (box[3] - box[1])])
    lips = np.zeros((height, width), np.uint8)
    edge = max(1, round(LIP_EDGE * float(scale[0])))
    for points, value in ((OUTER_LIPS, 1), (INNER_LIPS, 0)):
        places = np.round(((landmarks[list(points)] - box[:2]) * scale - 0.5) * 16)
        cv2.fillPoly(lips, [places.astype(np.int32)], value, cv2.LINE_8, 4)
    inner: np.ndarray = cv2.erode(lips, np.ones((2 * edge + 1,) * 2, np.uint8)).astype(np.float32)
    return inner


def bared_teeth(pixels: np.ndarray, landmarks: np.ndarray) -> float:
    """How much what shows between the lips looks like teeth: 0, it is dark or closed, to 1.

    pixels: float32 (n, n), luma of the crop in [0, 1]. landmarks: (106, 2), crop units.
    """
    size = pixels.shape[0]
    inside = lips_opening(landmarks, size)
    area = float(inside.sum())
    if lips_gap(landmarks) < LEAST_OPENING or not area > 0:
        return 0.0
    x0, y0, x1, y1 = (int(np.clip(place * size, 0, size - 1)) for place in mouth_box(landmarks))
    skin = float(np.percentile(pixels[y0 : y1 + 1, x0 : x1 + 1], 70))
    bright = float((pixels * inside).sum()) / area / max(skin, 0.02)
    return float(np.interp(bright, TEETH_BRIGHT, (0.0, 1.0)))


def with_rigid_teeth(flow: np.ndarray, landmarks: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A flow under which the inside of an open mouth moves as one body: float32 (2, size, size).

    flow: (2, size, size), crop units. landmarks: (106, 2), crop units. moved: the displacement to
    show. Lips bend and stretch; the teeth between them only go along with the lips as a whole.
    """
    open_share = lips_gap(landmarks) / LEAST_OPENING - 1  # none at first, all at twice that
    if open_share <= 0:
        return flow
    inner = list(INNER_LIPS)
    shift = moved[inner].mean(0)
    size = flow.shape[-1]
    both = np.minimum(lips_opening(landmarks + shift, size), lips_opening(landmarks + moved, size))
    share = cv2.GaussianBlur(both, (0, 0), 0.6) * np.float32(min(1.0, open_share))
    rigid: np.ndarray = flow + share * (-shift.astype(np.float32)[:, None, None] - flow)
    return rigid


def hold_lips(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The displacement under which every lip keeps most of its thickness: float32 (106, 2).

    landmarks, displacement: (106, 2), crop units. Only inner lip points are held back.
    """
    held: np.ndarray = displacement.astype(np.float32)
    before = landmarks[:, 1].tolist()
    after = (landmarks[:, 1] + displacement[:, 1]).tolist()
    for pairs, side in ((UPPER_LIP, 1.0), (LOWER_LIP, -1.0)):
        left, middle, right = (
            max(
                0.0,
                side * (LEAST_THICKNESS * (before[inner] - before[outer]))
                - side * (after[inner] - after[outer]),
            )
            for outer, inner in pairs
        )
        # The neighbours give way too, or the lip's edge would be a zigzag.
        left, right = max(left, 0.8 * middle), max(right, 0.8 * middle)
        middle = max(middle, 0.9 * (left + right) / 2)
        for (_, inner), missing in zip(pairs, (left, middle, right), strict=True):
            held[inner, 1] += side * missing
    return held


MILLIMETRE: Final = 0.34 / 63  # crop units
TOOTH_WIDTHS_MM: Final = (8.5, 6.5, 7.5, 6.8)  # from the middle outwards, as seen from the front
FORESHORTENED: Final = (1.0, 0.95, 0.8, 0.6)  # by the bow of the arch
# Their edges against the central incisors', upwards positive.
EDGE_RISE_MM: Final = (0.0, 0.7, 0.4, 1.2)
SHOWN_MM: Final = 3.8  # of the central incisors below a lip that surprise or fear raises
SAMPLES: Final = 41  # of a lip's curve
# Brightness and colour as shares of the skin's: depth of the mouth, tongue, teeth.
DARK, TONGUE, TEETH = 0.12, 0.5, 0.95
FROM_PIGMENT = 0.6  # teeth go with the light and less with the skin: this power of its luma
# A view of an open mouth: its size, the opening from which it is worth keeping, how bright the skin
# must be, how often it is looked for, how much better the next one must be, and how far from the
# edge of a lip the lip ends.
VIEW_UNITS, VIEW_PX = 0.36, 160
LEAST_GAP, LEAST_SKIN, LOOK_EVERY_S, BETTER, LIP_EDGE = 0.03, 0.12, 0.25, 1.1, 0.006
DARK_COLOUR, TONGUE_COLOUR, TEETH_COLOUR = 0.6, 1.0, 0.2
# An opening this high, as a share of its width, begins to have round corners, and has them.
POINTED, ROUND = 0.2, 0.5
BEHIND_LIPS = 0.6  # mm that the drawn mouth reaches behind a lip's edge


@dataclass(frozen=True, slots=True)
class Interior:
    """What shows between parted lips, over the mouth's box.

    luma: float32 (h, w) in [0, 1]. alpha: how much of it, 1 inside. saturation: as of a `Patch`.
    """

    luma: np.ndarray
    alpha: np.ndarray
    saturation: np.ndarray


@dataclass(frozen=True, slots=True)
class MouthView:
    """An open mouth as a frame showed it.

    luma: float32 (VIEW_PX, VIEW_PX) in [0, 1], VIEW_UNITS of the crop a side. inside: float32 of
    the same size, 1 well between the lips. skin: luma beside the mouth. middle: where the middle of
    the upper lip's inner edge is in it, as shares of its side. quality: how useful it is.
    """

    luma: np.ndarray
    inside: np.ndarray
    skin: float
    middle: tuple[float, float]
    quality: float


class MouthBank:
    """The best view of one person's open mouth."""

    def __init__(self) -> None:
        self.best: MouthView | None = None
        self._time_s = -math.inf

    def see(self, frame: Frame, face: AlignedFace, skin: float, time_s: float) -> None:
        """Keep what a frame shows between the lips, where it is better than what is kept."""
        gap = lips_gap(face.landmarks)
        if gap < LEAST_GAP or skin < LEAST_SKIN or 0 <= time_s - self._time_s < LOOK_EVERY_S:
            return
        self._time_s = time_s
        view = view_of(frame, face, skin)
        if self.best is None or view.quality > BETTER * self.best.quality:
            self.best = view


def view_of(frame: Frame, face: AlignedFace, skin: float) -> MouthView:
    """The mouth of a face in its frame."""
    landmarks = face.landmarks
    corner = landmarks[LIP_TOP] - np.array([0.5, 0.2], np.float32) * VIEW_UNITS
    scale = VIEW_PX / VIEW_UNITS
    matrix = face.crop_from_frame.astype(np.float64)
    matrix[:, 2] += 0.5
    matrix *= scale / face.pixels.shape[0]
    matrix[:, 2] -= corner * scale + 0.5
    luma = sample_luma(frame, matrix.astype(np.float32), VIEW_PX).astype(np.float32) / 255
    axis = (np.arange(VIEW_PX, dtype=np.float32) + 0.5) / scale
    x, y = axis + corner[0], (axis + corner[1])[:, None]
    upper = _curve(landmarks[list(INNER_LIPS_UPPER)], x)
    lower = _curve(landmarks[list(INNER_LIPS_LOWER)], x)
    left, right = landmarks[INNER_LIPS_UPPER[0], 0], landmarks[INNER_LIPS_UPPER[-1], 0]
    ends = np.clip(np.minimum(x - left, right - x) / (0.12 * (right - left)), 0, 1)
    inside = _step(y - upper - LIP_EDGE, 0.006) * _step(lower - y - LIP_EDGE, 0.006) * ends
    detail = cv2.Laplacian(luma, cv2.CV_32F)[inside > 0.5]
    sharp = float(np.abs(detail).mean()) / max(skin, 0.05) if detail.size else 0.0
    reach = float(np.hypot(matrix[0, 0], matrix[1, 0]))  # view pixels in a frame pixel
    quality = lips_gap(landmarks) * (0.01 + sharp) / max(1.0, reach)
    return MouthView(luma, inside.astype(np.float32), skin, (0.5, 0.2), quality)


def draw_interior(
    landmarks: np.ndarray,
    box: Box,
    width_px: int,
    skin: float,
    view: MouthView | None = None,
) -> Interior:
    """The inside of the mouth of landmarks (106, 2), crop units, where they are shown.

    box: of the mouth, crop units. width_px: how finely it is drawn. skin: luma beside the mouth.
    view: the person's own mouth, where it was seen.
    """
    width = int(np.clip(width_px, 48, 320))
    unit = width / (box[2] - box[0])
    height = max(16, round((box[3] - box[1]) * unit))
    x = (np.arange(width, dtype=np.float32) + 0.5) / unit + box[0]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / unit + box[1])[:, None]
    left, right = landmarks[INNER_LIPS_UPPER[0], 0], landmarks[INNER_LIPS_UPPER[-1], 0]
    height_share = lips_gap(landmarks) / max(1e-3, right - left)
    roundness = float(np.clip((height_share - POINTED) / (ROUND - POINTED), 0, 1))
    upper = _curve(landmarks[list(INNER_LIPS_UPPER)], x, roundness)
    lower = _curve(landmarks[list(INNER_LIPS_LOWER)], x, roundness)
    soft = 0.8 / unit
    within = np.clip(np.minimum(x - left, right - x) / (0.02 * (right - left)), 0, 1)
    behind = min(BEHIND_LIPS * MILLIMETRE, lips_gap(landmarks) / 4)
    alpha = _step(y - upper + behind, soft) * _step(lower - y + behind, soft) * within
    gap = np.maximum(lower - upper, 1e-4)
    down = np.clip((y - upper) / gap, 0, 1)
    across = np.clip((x - (left + right) / 2) / max(1e-3, (right - left) / 2), -1, 1)
    luma = DARK * (1 - 0.35 * across**2) * (0.8 + 0.5 * down)
    colour = np.full((height, width), DARK_COLOUR, np.float32)
    # The tongue lies on the floor of the mouth, a dome that the light reaches from the front.
    rise = np.clip((down - 0.4 - 0.3 * across**2) / 0.45, 0, 1)
    tongue = rise * np.clip(1.25 - 1.5 * across**2, 0, 1)
    tongue = tongue * np.clip(gap / (9 * MILLIMETRE) - 0.6, 0, 1)
    luma = luma + tongue * (TONGUE * (0.75 + 0.25 * rise) - luma)
    colour = colour + tongue * (TONGUE_COLOUR - colour)
    teeth, shade = _upper_teeth(landmarks, upper, x, y, unit)
    # The lip shades the teeth from above, the cheeks from the sides.
    lit = shade * np.clip(0.6 + (y - upper) / (2.4 * MILLIMETRE), 0, 1) * (1 - 0.5 * across**2)
    shadow = _step(y - upper, soft) * np.clip(1 - (y - upper) / (7 * MILLIMETRE), 0, 1)
    luma = luma * (1 - 0.4 * shadow)
    enamel = TEETH * max(skin, 0.02) ** (FROM_PIGMENT - 1)
    luma = luma + teeth * (enamel * lit - luma)
    colour = colour + teeth * (TEETH_COLOUR - colour)
    # Its edges are soft downwards alone; where they are steep, they would be steps.
    alpha = cv2.blur(alpha.astype(np.float32), (3, 3))
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    blur = max(0.5, 0.004 * unit)
    luma = cv2.GaussianBlur((luma * np.float32(skin)).astype(np.float32), (0, 0), blur)
    if view is not None:
        own, share = _own_content(view, landmarks[LIP_TOP], x, y)
        own = own * np.float32(skin / max(view.skin, 0.02))
        bright = np.clip((own / max(skin, 0.02) - DARK) / (TEETH - DARK), 0, 1)
        luma = luma + share * (own - luma)
        own_colour = DARK_COLOUR + bright * (TEETH_COLOUR - DARK_COLOUR)
        colour = colour + share * (own_colour - colour)
    return Interior(np.clip(luma, 0, 1), alpha, colour.astype(np.float32))


def _own_content(
    view: MouthView, middle: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a view shows at points below `middle`, the upper lip's: luma and share, (h, w) each."""
    scale = VIEW_PX / VIEW_UNITS
    columns = (x - middle[0]) * scale + view.middle[0] * VIEW_PX - 0.5
    rows = (y[:, 0] - middle[1]) * scale + view.middle[1] * VIEW_PX - 0.5
    map_x = np.broadcast_to(columns, (len(rows), len(columns))).astype(np.float32)
    map_y = np.broadcast_to(rows[:, None], map_x.shape).astype(np.float32)
    border = cv2.BORDER_CONSTANT
    luma = cv2.remap(view.luma, map_x, map_y, cv2.INTER_CUBIC, borderMode=border)
    share = cv2.remap(view.inside, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)
    return luma, share


def _upper_teeth(
    landmarks: np.ndarray, upper: np.ndarray, x: np.ndarray, y: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where upper teeth are, and their shading: both float32 (h, w)."""
    middle = float(landmarks[46, 0] * 0.35 + landmarks[98, 0] * 0.65)
    edge_y = float(np.interp(middle, x, upper)) + SHOWN_MM * MILLIMETRE
    away = np.abs(x - middle) / MILLIMETRE
    bounds = np.cumsum([w * f for w, f in zip(TOOTH_WIDTHS_MM, FORESHORTENED, strict=True)])
    tooth = np.minimum(np.searchsorted(bounds, away), len(bounds) - 1)
    inner = np.concatenate([[0.0], bounds[:-1]])[tooth]
    size = np.maximum(bounds[tooth] - inner, 1e-3)
    place = np.clip((away - inner) / size, 0, 1)  # 0 at the side of the middle, 1 outside
    round_edge = 0.55 * np.abs(2 * place - 1) ** 3
    rise = np.array(EDGE_RISE_MM)[tooth] + round_edge
    edge = edge_y - rise * MILLIMETRE
    soft = 0.9 / unit
    teeth = _step(edge - y, soft) * (away < bounds[-1])
    between = 1 - 0.34 * np.exp(-(((1 - np.abs(2 * place - 1)) * size / 0.45) ** 2))
    shade = between * np.array([1.0, 0.97, 0.88, 0.72])[tooth]
    return teeth.astype(np.float32), np.broadcast_to(shade, teeth.shape).astype(np.float32)


def _curve(points: np.ndarray, x: np.ndarray, roundness: float = 0.0) -> np.ndarray:
    """A smooth line through points (5, 2) from left to right: y at each x, float32 (n,).

    roundness: 0, it meets its ends as a line, to 1, as an ellipse.
    """
    order = np.argsort(points[:, 0])
    px, py = points[order, 0].astype(np.float64), points[order, 1].astype(np.float64)
    fine = np.linspace(px[0], px[-1], SAMPLES)
    chord = np.interp(fine, px[[0, -1]], py[[0, -1]])
    bow = np.interp(fine, px, py) - chord
    # Mirrored at its ends with the sign turned, so that smoothing leaves the corners in place.
    reach = SAMPLES // 2
    odd = np.concatenate([-bow[reach:0:-1], bow, -bow[-2 : -2 - reach : -1]])
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (SAMPLES * 0.09)) ** 2)
    smooth = np.convolve(odd, kernel / kernel.sum(), mode="valid") * 1.06 + chord
    if roundness > 0:
        smooth = smooth + roundness * (_arc(fine, px, py) + chord - smooth)
    line: np.ndarray = np.interp(x, fine, smooth).astype(np.float32)
    return line


def _arc(fine: np.ndarray, px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """The bow of a line through points over the chord of its ends, upright at both, at `fine`.

    Three sines of the angle that an ellipse over the chord has there, through the points between.
    """
    half, middle = max(1e-6, (px[-1] - px[0]) / 2), (px[-1] + px[0]) / 2
    angles = [np.arccos(np.clip((middle - at) / half, -1, 1)) for at in (px[1:-1], fine)]
    waves = [np.sin(angle[:, None] * np.arange(1, 4)) for angle in angles]
    bow = py[1:-1] - np.interp(px[1:-1], px[[0, -1]], py[[0, -1]])
    arc: np.ndarray = waves[1] @ np.linalg.lstsq(waves[0], bow, rcond=1e-3)[0]
    return arc


def _step(distance: np.ndarray, soft: float) -> np.ndarray:
    """0 to 1 around 0, over about twice `soft`."""
    result: np.ndarray = np.clip(distance / (2 * soft) + 0.5, 0, 1)
    return result
