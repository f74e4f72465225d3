"""Samples of the occlusion network's training: faces behind drawn glasses and other things.

Nobody has labelled glasses for us, so they are rendered: rims of many shapes, thicknesses and
finishes with bridge, pads, temples, tint and reflections, in the pose that the landmarks give.
Hands, cups, microphones, papers and strands of hair likewise, of surfaces and of the face's skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mien.runtime.faces.topology import (
    CONTOUR,
    LEFT_BROW,
    LEFT_EYE_CENTRE,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE_CENTRE,
)
from mien.training.data import augment
from mien.training.data.augment import texture

SIZE = 128
FINE = 3  # how much finer things are drawn than they are shown
BRIDGE_POINT = 44  # of the ridge of the nose, where glasses sit
CLEAR_SHARE = 0.2  # of the rims: see `_clear`
HINGES = (1, 31)  # contour points beside the eyes, where temples go


@dataclass(frozen=True, slots=True)
class Layer:
    """Something drawn over a face, at FINE times its size.

    value, alpha: float32 (s, s), luma 0..255 and how much of it. glasses, cover: float32 masks.
    """

    value: np.ndarray
    alpha: np.ndarray
    glasses: np.ndarray
    cover: np.ndarray


def _empty(side: int) -> np.ndarray:
    return np.zeros((side, side), np.float32)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points) * 16).astype(np.int32).reshape(-1, 1, 2)


def _line(mask: np.ndarray, points: np.ndarray, thickness: float, *, closed: bool = False) -> None:
    """Draw a soft line of any thickness in samples, 1 in it."""
    whole = max(1, round(thickness))
    cv2.polylines(mask, [_fixed(points)], closed, 1.0, whole, cv2.LINE_AA, 4)


def _lens_outline(rng: np.random.Generator, half_wh: np.ndarray, mirror: float) -> np.ndarray:
    """One lens around (0, 0): (48, 2); a superellipse, drawn down and outwards as aviators are."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    power = 2 / rng.choice([2.0, 2.0, 2.5, 3.0, 4.0, 6.0])
    x = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power
    y = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power
    drop, slant, cat = rng.uniform(0, 0.25), rng.normal(0, 0.06), rng.uniform(-0.05, 0.2)
    x = x * (1 - drop * 0.5 * (y > 0) * y)
    y = np.where(
        y > 0, y * (1 + drop * x * 0.3 * mirror), y * (1 + cat * np.maximum(0, x * mirror))
    )
    y = y + slant * x * mirror
    return np.stack([x, y], 1) * half_wh


@dataclass(frozen=True, slots=True)
class Pose:
    """How glasses lie on a face, FINE pixels: centres of the lenses and the axes of the face."""

    left: np.ndarray
    right: np.ndarray
    across: np.ndarray
    down: np.ndarray
    scale_left: float
    scale_right: float
    eyes: float


def glasses_pose(landmarks: np.ndarray, side: int) -> Pose:
    """The pose of a face's glasses; landmarks (106, 2), crop units."""
    points = landmarks * side
    left, right = points[LEFT_EYE_CENTRE], points[RIGHT_EYE_CENTRE]
    across = right - left
    eyes = float(np.hypot(*across))
    across = across / max(eyes, 1e-6)
    down = np.array([-across[1], across[0]])
    middle = points[43]
    halves = np.array([(middle - left) @ across, (right - middle) @ across])
    scale = np.clip(halves / max(1e-6, halves.mean()), 0.35, 1.6)
    return Pose(left, right, across, down, float(scale[0]), float(scale[1]), max(eyes, 4.0))


def draw_glasses(rng: np.random.Generator, landmarks: np.ndarray, side: int) -> Layer:
    """A pair of glasses on a face; landmarks (106, 2), crop units."""
    pose = glasses_pose(landmarks, side)
    eyes = pose.eyes
    outlines = []
    size = np.array([rng.uniform(0.30, 0.49), rng.uniform(0.19, 0.42)]) * eyes
    sink = rng.uniform(-0.02, 0.14) * eyes
    apart = rng.uniform(-0.02, 0.06) * eyes
    shape_seed = int(rng.integers(1 << 30))
    for centre, scale, mirror in (
        (pose.left, pose.scale_left, -1.0),
        (pose.right, pose.scale_right, 1.0),
    ):
        lens = _lens_outline(np.random.default_rng(shape_seed), size * [scale, 1], mirror)
        origin = centre + pose.down * sink + pose.across * apart * mirror
        outlines.append(origin + lens[:, :1] * pose.across + lens[:, 1:] * pose.down)
    rim, lens_area = _empty(side), _empty(side)
    kind = rng.choice(["full", "full", "full", "half", "rimless"])
    thickness = eyes * (rng.uniform(0.012, 0.05) if rng.random() < 0.6 else rng.uniform(0.04, 0.11))
    if kind == "rimless":
        thickness = eyes * rng.uniform(0.008, 0.016)
    for outline in outlines:
        cv2.fillPoly(lens_area, [_fixed(outline)], 1.0, cv2.LINE_AA, 4)
        if kind == "half":
            _line(rim, outline[22:49], thickness)  # the upper edge
            _line(rim, outline, max(1.0, 0.25 * thickness), closed=True)
        else:
            _line(rim, outline, thickness, closed=True)
    _bridge_and_temples(rng, rim, outlines, pose, landmarks * side, thickness)
    base = rng.choice(
        [rng.uniform(5, 60), rng.uniform(60, 140), rng.uniform(140, 240)], p=[0.6, 0.2, 0.2]
    )
    value = np.full((side, side), base, np.float32)
    if rng.random() < 0.35:  # tortoiseshell, or scratched metal
        value += (texture(rng, side).astype(np.float32) - 128) * np.float32(rng.uniform(0.1, 0.4))
    if rng.random() < 0.6:  # light along the upper edge of the rim
        shifted = np.roll(rim, round(max(1, thickness * 0.3)), 0)
        value += np.float32(rng.uniform(20, 130)) * rim * (1 - shifted)
    alpha = rim * np.float32(1 if rng.random() < 0.85 else rng.uniform(0.5, 0.9))
    if rng.random() < CLEAR_SHARE:
        value, alpha = _clear(rng, rim, thickness)
    # A rim thinner than a cell would teach the network to be unsure of every cell that it touches.
    mask = cv2.dilate(rim, np.ones((3, 3), np.uint8)) if thickness < FINE else rim.copy()
    value, alpha, mask = _glass(rng, value, alpha, mask, lens_area)
    return Layer(value, alpha, mask, _empty(side))


def _bridge_and_temples(
    rng: np.random.Generator,
    rim: np.ndarray,
    outlines: list[np.ndarray],
    pose: Pose,
    points: np.ndarray,
    thickness: float,
) -> None:
    inner_left = outlines[0][np.argmax(outlines[0] @ pose.across)]
    inner_right = outlines[1][np.argmin(outlines[1] @ pose.across)]
    raise_by = rng.uniform(-0.02, 0.14) * pose.eyes
    span = inner_right - inner_left
    for _ in range(1 if rng.random() < 0.85 else 2):
        t = np.linspace(0, 1, 12)[:, None]
        bow = np.sin(np.pi * t) * rng.uniform(0.0, 0.08) * pose.eyes + raise_by
        _line(rim, inner_left + t * span - bow * pose.down, thickness * rng.uniform(0.7, 1.6))
        raise_by += 0.1 * pose.eyes
    for outline, hinge, sign in ((outlines[0], HINGES[0], -1.0), (outlines[1], HINGES[1], 1.0)):
        outer = outline[np.argmax(outline @ pose.across * sign)] - pose.down * 0.06 * pose.eyes
        ear = points[hinge] - pose.down * rng.uniform(0.0, 0.12) * pose.eyes
        if (ear - outer) @ pose.across * sign > -0.1 * pose.eyes:
            _line(rim, np.stack([outer, ear]), thickness * rng.uniform(0.8, 2.0))
    if rng.random() < 0.4:  # nose pads
        for inner, sign in ((inner_left, 1.0), (inner_right, -1.0)):
            pad = inner + pose.down * 0.12 * pose.eyes + pose.across * sign * 0.03 * pose.eyes
            centre = tuple(int(v) for v in pad)
            axes = (max(1, int(0.02 * pose.eyes)), max(1, int(0.05 * pose.eyes)))
            cv2.ellipse(rim, centre, axes, 0, 0, 360, 0.7, -1, cv2.LINE_AA)


def _clear(
    rng: np.random.Generator, rim: np.ndarray, thickness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clear plastic or fine wire: skin is seen through it, its edges are darker, and it glints."""
    side = len(rim)
    core = cv2.GaussianBlur(rim, (0, 0), max(0.6, 0.3 * thickness)) * rim
    edge = rim * (1 - np.clip(core / max(float(core.max()), 1e-6), 0, 1) ** 2)
    haze = np.float32(rng.uniform(0.12, 0.4))
    dark = np.float32(rng.uniform(0.3, 0.7))
    value = np.full((side, side), rng.uniform(120, 250), np.float32)
    alpha = rim * haze
    shade = edge * dark
    value = (value * alpha + np.float32(rng.uniform(20, 110)) * shade) / np.maximum(
        alpha + shade, 1e-3
    )
    alpha = np.clip(alpha + shade, 0, 1)
    # Glints, where the rim turns to the light: on a few arcs, brighter than any skin.
    places = np.argwhere(rim > 0.5)
    glint = _empty(side)
    for _ in range(int(rng.integers(2, 8))):
        y, x = places[int(rng.integers(len(places)))]
        radius = rng.uniform(0.01, 0.09) * side
        cv2.circle(glint, (int(x), int(y)), max(1, int(radius)), 1.0, -1, cv2.LINE_AA)
    glint = cv2.GaussianBlur(glint, (0, 0), 0.01 * side) * rim * core
    glint = np.clip(glint * np.float32(rng.uniform(0.3, 1.3)), 0, 1)
    value = np.where(glint > alpha, np.float32(rng.uniform(200, 255)), value)
    return value.astype(np.float32), np.maximum(alpha, glint).astype(np.float32)


def _glass(
    rng: np.random.Generator,
    value: np.ndarray,
    alpha: np.ndarray,
    mask: np.ndarray,
    lens: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tint and reflections of the lenses."""
    side = len(value)
    within = lens * (1 - alpha)
    draw = rng.random()
    if draw < 0.12:  # sunglasses
        tint, dark = rng.uniform(0.7, 0.98), rng.uniform(5, 50)
        ramp = np.linspace(1, rng.uniform(0.6, 1), side, dtype=np.float32)[:, None]
        value = np.where(within > alpha, np.float32(dark), value)
        glass = within * np.float32(tint) * ramp
        alpha, mask = np.maximum(alpha, glass), np.maximum(mask, within)
    elif draw < 0.35:  # a slight tint is no cover: what is seen through it may move
        alpha = np.maximum(alpha, within * np.float32(rng.uniform(0.02, 0.2)))
        value = np.where(mask > 0.2, value, np.float32(rng.uniform(20, 90)))
    if rng.random() < 0.35:  # reflections
        shine = _empty(side)
        for _ in range(int(rng.integers(1, 4))):
            corner = rng.uniform(0.2, 0.8, 2) * side
            size = rng.uniform(0.02, 0.22, 2) * side
            box = cv2.boxPoints((corner.tolist(), size.tolist(), float(rng.uniform(0, 90))))
            cv2.fillPoly(shine, [_fixed(box)], 1.0, cv2.LINE_AA, 4)
        blur = float(rng.uniform(0.3, 4)) * FINE / 2
        shine = cv2.GaussianBlur(shine, (0, 0), blur) * lens * np.float32(rng.uniform(0.25, 1.0))
        value = np.where(shine > alpha, np.float32(rng.uniform(190, 255)), value)
        alpha = np.maximum(alpha, shine)
        mask = np.maximum(mask, (shine > 0.3).astype(np.float32))
    return value, alpha, mask


def draw_cover(
    rng: np.random.Generator,
    landmarks: np.ndarray,
    side: int,
    skin: np.ndarray,
    surface: np.ndarray,
) -> Layer:
    """A hand, a cup, a microphone, a paper, a sleeve or strands of hair before a face.

    skin: float32 luma of some of the face's own skin. surface: uint8 (side, side).
    """
    mask = _empty(side)
    kind = rng.choice(
        ["hand", "cup", "ball", "paper", "half", "hair", "blob"],
        p=[0.3, 0.17, 0.1, 0.1, 0.05, 0.16, 0.12],
    )
    mouth = landmarks[list(OUTER_LIPS)].mean(0) * side
    where = (
        mouth + rng.normal(0, 0.16, 2) * side
        if rng.random() < 0.6
        else rng.uniform(0.05, 0.95, 2) * side
    )
    value = surface.astype(np.float32)
    if kind == "hand":
        return _hand(rng, where, side, skin)
    if kind == "hair":
        return _hair(rng, landmarks, side)
    if kind == "cup":
        half = rng.uniform(0.1, 0.3, 2) * side
        taper = rng.uniform(0.7, 1.0)
        top = where - [0, rng.uniform(-0.08, 0.05) * side]
        shape = np.array([[-1, 0], [1, 0], [taper, 2], [-taper, 2]]) * half
        angle = rng.normal(0, 0.35)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = top + shape @ turn.T
        cv2.fillPoly(mask, [_fixed(corners)], 1.0, cv2.LINE_AA, 4)
        bow = cv2.ellipse2Poly(
            (0, 0), (int(half[0]), max(1, int(half[0] * rng.uniform(0.05, 0.4)))), 0, 0, 360, 10
        )
        cv2.fillPoly(mask, [_fixed(top + bow @ turn.T)], 1.0, cv2.LINE_AA, 4)
        base = rng.choice([rng.uniform(190, 255), rng.uniform(10, 200)])
        along = (np.arange(side, dtype=np.float32) - where[0]) / (half[0] + 1)
        value = (
            base
            * (1 - rng.uniform(0, 0.5) * np.clip(along + rng.uniform(-0.6, 0.6), -1, 1) ** 2)[None]
        )
        value = np.broadcast_to(value, (side, side)) * np.float32(0.9) + np.float32(0.1) * surface
        if rng.random() < 0.3:
            value = 0.5 * value + 0.5 * surface
    elif kind == "ball":
        radius = rng.uniform(0.06, 0.2) * side
        cv2.circle(mask, tuple(int(v) for v in where), int(radius), 1.0, -1, cv2.LINE_AA)
        if rng.random() < 0.7:
            end = where + rng.normal(0, 1, 2) * [0.3, 0.6] * side + [0, 0.6 * side]
            _line(mask, np.stack([where, end]), radius * rng.uniform(0.6, 1.2))
    elif kind == "paper":
        size = rng.uniform(0.15, 0.9, 2) * side
        box = cv2.boxPoints((where.tolist(), size.tolist(), float(rng.uniform(0, 90))))
        cv2.fillPoly(mask, [_fixed(box)], 1.0, cv2.LINE_AA, 4)
    elif kind == "half":
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:side, :side] / side - 0.5
        mask[(x * np.cos(angle) + y * np.sin(angle)) > rng.uniform(0.1, 0.4)] = 1
    else:
        t = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = rng.uniform(0.08, 0.25) * side * rng.uniform(0.6, 1.4, 12)
        points = where + np.stack(
            [np.cos(t) * radius, np.sin(t) * radius * rng.uniform(0.5, 1.5)], 1
        )
        cv2.fillPoly(mask, [_fixed(points)], 1.0, cv2.LINE_AA, 4)
    return Layer(np.asarray(value, np.float32), mask, _empty(side), mask)


def _hand(rng: np.random.Generator, where: np.ndarray, side: int, skin: np.ndarray) -> Layer:
    """Fingers, and sometimes a palm, in the face's own skin."""
    mask, shade = _empty(side), np.ones((side, side), np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    beside = np.array([-along[1], along[0]])
    width = rng.uniform(0.05, 0.11) * side
    count = int(rng.integers(1, 6))
    for i in range(count):
        place = where + beside * (i - (count - 1) / 2) * width * rng.uniform(0.9, 1.2)
        bend = beside * rng.normal(0, 0.06) * side
        tip = place + along * rng.uniform(0.1, 0.3) * side
        root = place - along * rng.uniform(0.3, 0.8) * side
        points = np.stack([tip, place + bend, root])
        finger = _empty(side)
        _line(finger, points, width * rng.uniform(0.85, 1.05))
        core = cv2.GaussianBlur(finger, (0, 0), width * 0.35)
        shade = np.where(finger > 0.5, 0.55 + 0.5 * core, shade)
        mask = np.maximum(mask, finger)
    if rng.random() < 0.5:
        palm = _empty(side)
        centre = tuple(int(v) for v in where - along * 0.4 * side)
        axes = (int(0.3 * side), int(max(4, width * count * 0.6)))
        cv2.ellipse(palm, centre, axes, float(np.degrees(angle)), 0, 360, 1.0, -1, cv2.LINE_AA)
        shade = np.where((palm > 0.5) & (mask < 0.5), 0.95, shade)
        mask = np.maximum(mask, palm)
    tone = float(np.median(skin)) * rng.uniform(0.75, 1.25)
    grain = cv2.GaussianBlur(rng.normal(0, 14, (side, side)).astype(np.float32), (0, 0), 3)
    value = np.clip(tone * shade + grain, 0, 255).astype(np.float32)
    return Layer(value, mask, _empty(side), mask)


def _hair(rng: np.random.Generator, landmarks: np.ndarray, side: int) -> Layer:
    """A fringe, or strands that fall over a brow, an eye or a cheek."""
    mask = _empty(side)
    value = np.full((side, side), 0, np.float32)
    base = float(rng.choice([rng.uniform(8, 60), rng.uniform(60, 190)], p=[0.7, 0.3]))
    brows = landmarks[[*LEFT_BROW, *RIGHT_BROW]] * side
    low, high = brows[:, 0].min() - 0.08 * side, brows[:, 0].max() + 0.08 * side
    middle = rng.uniform(low, high)
    spread = rng.uniform(0.02, 0.3) * side
    length = rng.uniform(0.02, 0.35) * side
    lean = rng.normal(0, 0.3)
    for _ in range(int(rng.integers(12, 130))):
        x = rng.normal(middle, spread)
        start = np.array([x - lean * 0.3 * side + rng.normal(0, 3), -5.0])
        end = np.array([x, brows[:, 1].mean() + length * rng.uniform(0.3, 1.2)])
        bow = np.array([rng.normal(0, 0.04) * side, 0])
        points = np.stack([start, (start + end) / 2 + bow, end + bow * 0.3])
        t = np.linspace(0, 1, 10)[:, None]
        curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
        thick = max(1, round(rng.uniform(0.3, 2.2) * FINE))
        cv2.polylines(mask, [_fixed(curve)], False, 1.0, thick, cv2.LINE_AA, 4)
        tone = float(np.clip(base * rng.uniform(0.6, 1.6), 0, 255))
        cv2.polylines(value, [_fixed(curve)], False, tone, thick, cv2.LINE_AA, 4)
    near = cv2.GaussianBlur(mask, (0, 0), FINE)
    label = np.maximum(mask, (near > 0.45).astype(np.float32))
    return Layer(value, mask, _empty(side), label)


def laid_over(
    luma: np.ndarray, layer: Layer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`luma` (SIZE, SIZE, 0..255) behind a layer, with its shadow; and masks (2, SIZE, SIZE)."""
    fine = np.float32(1 / 255) * layer.alpha * 255

    def small(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    alpha, colour = small(fine), small(layer.value * fine)
    if rng.random() < 0.75:  # as soft as the faces are, or sharpness alone would tell
        soft = float(rng.uniform(0.35, 1.5))
        alpha, colour = (cv2.GaussianBlur(x, (0, 0), soft) for x in (alpha, colour))
    shown = luma
    if rng.random() < 0.6:
        shift = np.array([[1, 0, rng.normal(0, 1.5)], [0, 1, rng.uniform(0, 3.5)]], np.float32)
        shadow = cv2.GaussianBlur(
            cv2.warpAffine(alpha, shift, (SIZE, SIZE)), (0, 0), 1 + 2 * rng.random()
        )
        shown = shown * (1 - np.float32(rng.uniform(0, 0.45)) * shadow)
    shown = shown * (1 - alpha) + colour
    return shown, np.stack([small(layer.glasses), small(layer.cover)])


@dataclass(frozen=True, slots=True)
class Batch:
    """faces float32 (n, 1, 128, 128) in [0, 1]; masks, weights float32 (n, 2, 128, 128)."""

    faces: np.ndarray
    masks: np.ndarray
    weights: np.ndarray


def known_area(landmarks: np.ndarray) -> np.ndarray:
    """How far a picture without drawn things says that nothing covers: float32 (SIZE, SIZE).

    Inside the face, and less so above the brows, where its own hair may hang.
    """
    area = np.zeros((SIZE, SIZE), np.uint8)
    points = landmarks * SIZE - 0.5
    brows = points[[*LEFT_BROW, *RIGHT_BROW]]
    top = brows[:, 1].min() - 2
    forehead = brows - np.array([0, 0.12 * SIZE])
    outline = np.concatenate([points[list(CONTOUR)], forehead])
    hull = cv2.convexHull(_fixed(outline))
    cv2.fillConvexPoly(area, hull, 255, cv2.LINE_AA, 4)
    inner = cv2.erode(area, np.ones((3, 3), np.uint8), iterations=3).astype(np.float32) / 255
    inner[: max(0, int(top))] *= 0.15
    return inner


class Sampler:
    """Draws batches of faces behind things.

    pixels: uint8 (n, s, s), aligned crops of SIZE. landmarks: (n, 106, 2). glasses: None, or for
    each face the mask uint8 (SIZE, SIZE) of the glasses that it wears itself; -1 in `worn` where
    it is not known whether it does.
    """

    def __init__(
        self, pixels: np.ndarray, landmarks: np.ndarray, odds: np.ndarray, seed: int
    ) -> None:
        self.pixels, self.landmarks, self.odds = pixels, landmarks, odds / odds.sum()
        self.rng = np.random.default_rng(seed)
        self.worn: dict[int, np.ndarray] = {}
        self.unsure: frozenset[int] = frozenset()
        side = SIZE * FINE
        self.surfaces = [texture(self.rng, side) for _ in range(80)]

    def batch(self, size: int) -> Batch:
        made = [self.sample() for _ in range(size)]
        faces, masks, weights = (np.stack(part) for part in zip(*made, strict=True))
        return Batch(faces[:, None], masks, weights)

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = self.rng
        row = int(rng.choice(len(self.odds), p=self.odds))
        while row in self.unsure:
            row = int(rng.choice(len(self.odds), p=self.odds))
        luma = self.pixels[row].astype(np.float32)
        landmarks = self.landmarks[row]
        known = known_area(landmarks)
        weights = np.stack([np.maximum(known, 0.5), known])
        masks = np.zeros((2, SIZE, SIZE), np.float32)
        side = SIZE * FINE
        is_wearer = row in self.worn
        if is_wearer:
            masks[0] = self.worn[row].astype(np.float32) / 255
            weights[0] = np.where(np.abs(masks[0] - 0.5) < 0.3, 0, weights[0])
        elif rng.random() < 0.5:
            luma, drawn = laid_over(luma, draw_glasses(rng, landmarks, side), rng)
            masks = np.maximum(masks, drawn)
        if rng.random() < 0.4:
            skin = luma[SIZE // 2 : SIZE * 3 // 4, SIZE // 4 : SIZE * 3 // 4]
            surface = self.surfaces[int(rng.integers(len(self.surfaces)))]
            if rng.random() < 0.35:  # a piece of another picture
                other = self.pixels[int(rng.integers(len(self.pixels)))]
                x, y = rng.integers(0, SIZE // 2, 2)
                surface = cv2.resize(other[y : y + 40, x : x + 40], (side, side))
            layer = draw_cover(rng, landmarks, side, skin, surface)
            luma, drawn = laid_over(luma, layer, rng)
            masks[0] *= 1 - drawn[1]
            masks[1] = np.maximum(masks[1], drawn[1])
        weights[1] = np.maximum(weights[1], masks[1])
        if rng.random() < 0.5:
            luma, masks, weights = luma[:, ::-1], masks[:, :, ::-1], weights[:, :, ::-1]
        luma, masks, weights = _shaken(rng, luma, masks, weights)
        luma = augment.degrade(augment.relight(luma.astype(np.uint8), rng), rng)
        return luma.astype(np.float32) / 255, masks, weights


def _shaken(
    rng: np.random.Generator, luma: np.ndarray, masks: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angle, scale = rng.normal(0, 3), float(np.exp(rng.normal(0, 0.05)))
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, scale)
    matrix[:, 2] += rng.normal(0, 1.5, 2)

    def moved(x: np.ndarray, border: int) -> np.ndarray:
        return cv2.warpAffine(np.ascontiguousarray(x), matrix, (SIZE, SIZE), borderMode=border)

    replicate, constant = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
    luma = np.clip(moved(luma.astype(np.float32), replicate), 0, 255)
    return (
        luma,
        np.stack([moved(mask, constant) for mask in masks]),
        np.stack([moved(weight, constant) for weight in weights]),
    )
