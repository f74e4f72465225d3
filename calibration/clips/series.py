"""What a face does, from FaceMesh points, and how an edit follows the movements of its source.

Every mesh is moved by a similarity in three dimensions (rotation, one scale, translation, least
squares) so that its rigid points fit those of a mean face that looks straight ahead. What is left
is expression: x to the viewer's right, y down, z away from the viewer, all in units of the mean
face's distance between the outer corners of the eyes (vertices 33 and 263). Lengths are divided by
the same distance of the measured face.

A series is one number a frame: float64 (frames,), NaN where no face was seen, lengths in outer-eye
distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

# Vertices that an expression hardly moves, and where the mean face has them: the mean of the 4,604
# pictures of faces160 that look ahead, made symmetric, in units of the outer-eye distance with the
# origin between the eyes. Corners of the eyes, ridge and tip of the nose, septum, temples. The
# wings of the nose, the forehead and the spot between the brows move with a smile, a raised brow
# and a frown, and are left out.
RIGID_VERTICES = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 2, 127, 356, 234, 454)
RIGID_MEAN = np.array(
    [
        (-0.5000, 0.0000, 0.0000),
        (-0.2005, 0.0208, -0.0559),
        (0.2005, 0.0208, -0.0559),
        (0.5000, 0.0000, 0.0000),
        (0.0000, -0.0160, -0.2455),
        (0.0000, 0.0761, -0.2850),
        (0.0000, 0.1614, -0.3325),
        (0.0000, 0.2421, -0.3847),
        (0.0000, 0.3283, -0.4386),
        (0.0000, 0.4266, -0.4558),
        (0.0000, 0.5442, -0.2455),
        (-0.7902, -0.0078, 0.5484),
        (0.7902, -0.0078, 0.5484),
        (-0.7854, 0.1458, 0.6156),
        (0.7854, 0.1458, 0.6156),
    ]
)

OUTER_EYES = (33, 263)
UPPER_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
INNER_BROWS = (107, 336, 55, 285)
OUTER_BROWS = (70, 46, 300, 276)
MOUTH_CORNERS = (61, 291)
UPPER_LIP = (37, 0, 267)
LOWER_LIP = (84, 17, 314)
NOSE_WINGS = (48, 278)
LIP_GAP = (13, 14)
LIDS = ((159, 145), (386, 374))


@dataclass(frozen=True, slots=True)
class Expression:
    """Places and lengths of one face; differences of two of them are what an edit did.

    All in outer-eye distances. Heights grow upwards.
    """

    corners_up: float  # AU12, AU15 where negative
    brows_up: float  # AU1 and AU2
    inner_brows_up: float  # AU1, AU4 where negative
    outer_brows_up: float  # AU2
    brows_apart: float  # AU4 where negative
    eyes_open: float  # AU5, AU7 where negative
    nose_wings_up: float  # AU9
    upper_lip_up: float  # AU10
    lower_lip_down: float  # AU16, AU25 to AU27
    lips_apart: float  # AU25 to AU27
    mouth_wide: float  # AU20, AU18 where negative

    def minus(self, other: Expression) -> Expression:
        """The change from `other` to this."""
        names = [f.name for f in fields(self)]
        return Expression(*(getattr(self, n) - getattr(other, n) for n in names))


def fit_similarity_3d(
    source: np.ndarray, target: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3) and translation (3,) that map `source` (n, 3) onto `target`.

    Source: Umeyama 1991, without reflection.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    s, t = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(t.T @ s)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((singular * signs).sum() / (s * s).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def frontal(points: np.ndarray) -> np.ndarray:
    """FaceMesh points (478, 3) without the head's pose: float64 (478, 3), outer-eye distances."""
    points = points.astype(np.float64)
    rigid = list(RIGID_VERTICES)
    scale, rotation, translation = fit_similarity_3d(points[rigid], RIGID_MEAN)
    moved: np.ndarray = scale * points @ rotation.T + translation
    unit = float(np.linalg.norm(moved[OUTER_EYES[1]] - moved[OUTER_EYES[0]]))
    return np.asarray(moved / unit)


def expression(points: np.ndarray) -> Expression:
    """What the face of FaceMesh points (478, 3) does."""
    face = frontal(points)

    def height(vertices: tuple[int, ...]) -> float:
        return -float(face[list(vertices), 1].mean())

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(face[a] - face[b]))

    return Expression(
        corners_up=height(MOUTH_CORNERS),
        brows_up=height(UPPER_BROWS),
        inner_brows_up=height(INNER_BROWS),
        outer_brows_up=height(OUTER_BROWS),
        brows_apart=distance(107, 336),
        eyes_open=float(np.mean([distance(a, b) for a, b in LIDS])),
        nose_wings_up=height(NOSE_WINGS),
        upper_lip_up=height(UPPER_LIP),
        lower_lip_down=-height(LOWER_LIP),
        lips_apart=distance(*LIP_GAP),
        mouth_wide=distance(*MOUTH_CORNERS),
    )


def change(before: Sequence[np.ndarray | None], after: Sequence[np.ndarray | None]) -> Expression:
    """The median change over frames, of those in which both meshes were found; NaN without any."""
    names = [f.name for f in fields(Expression)]
    rows = [
        [getattr(expression(b).minus(expression(a)), n) for n in names]
        for a, b in zip(before, after, strict=True)
        if a is not None and b is not None
    ]
    if not rows:
        return Expression(*(float("nan") for _ in names))
    return Expression(*(float(v) for v in np.median(np.array(rows), axis=0)))


def acceleration(meshes: Sequence[np.ndarray | None]) -> np.ndarray:
    """Mean |x[t+1] - 2 x[t] + x[t-1]| over points in outer-eye distances: float64 (frames,).

    In the picture, pose included. NaN at both ends and beside frames without a face.
    """
    result = np.full(len(meshes), np.nan)
    for t in range(1, len(meshes) - 1):
        before, here, after = meshes[t - 1 : t + 2]
        if before is None or here is None or after is None:
            continue
        jump = after[:468, :2] - 2 * here[:468, :2] + before[:468, :2]
        eyes = np.linalg.norm(here[OUTER_EYES[1], :2] - here[OUTER_EYES[0], :2])
        result[t] = np.linalg.norm(jump, axis=1).mean() / eyes
    return result


def calm(before: Sequence[np.ndarray | None], after: Sequence[np.ndarray | None]) -> float:
    """Acceleration of the output by that of the input, over the frames that have both."""
    source, edited = acceleration(before), acceleration(after)
    both = np.isfinite(source) & np.isfinite(edited)
    if not both.any() or source[both].mean() < 1e-9:
        return 1.0 if both.any() and edited[both].mean() < 1e-9 else float("nan")
    return float(edited[both].mean() / source[both].mean())


CLOSED = 0.02  # inner-lip gap below which lips are closed: FaceMesh gives 0.002 to 0.021 at rest
KEPT_CLOSED = 0.03  # and below which those of the edit still are
OPEN = 0.05  # above, they are open
SPEECH_FRAMES = 15  # closed lips this near to open ones are part of speech, not rest
MOVING = 0.1  # span of the gap in a clip with moving lips
LAG_REACH = 5  # frames
LAG_GAIN = 1e-3  # of correlation: a shift that gains less is chance
BLINK = 0.6  # of the opening around it: an eye that is less open blinks
BLINK_REACH = 30  # frames each way that the opening around a blink is taken from
BLINK_FRAMES = 20  # longest blink; longer are closed or lowered eyes
BLINK_DEPTH_KEPT = 0.75  # of its depth
LEAST_COMPARED = 8  # frames, for a correlation


@dataclass(frozen=True, slots=True)
class Lips:
    """The inner-lip gap of an edit against its source.

    span: how far the source's lips move, 5th to 95th percentile. correlation, lag: NaN where they
        rest; a positive lag, in frames, is an edit that comes late.
    closures: frames with closed lips; kept: the share of them in which the edit's are closed.
    spoken, spoken_kept: of those, the frames beside open lips (`SPEECH_FRAMES`).
    """

    span: float
    correlation: float
    lag: int
    closures: int
    kept: float
    spoken: int
    spoken_kept: float

    @property
    def moves(self) -> bool:
        """Whether the source's lips move."""
        return self.span > MOVING


@dataclass(frozen=True, slots=True)
class Eyes:
    """The opening of the eyes of an edit against its source.

    span: 5th to 95th percentile. slope: of the edit's opening over the source's.
    blinks: seen in the source; kept: how many of them the edit shows about as deep.
    """

    span: float
    correlation: float
    slope: float
    blinks: int
    kept: int


@dataclass(frozen=True, slots=True)
class ClosedLift:
    """How far an edit lifts the corners of a mouth whose lips are closed.

    lift: median. kept: the share of those frames whose lips stay closed.
    """

    frames: int
    lift: float
    kept: float


@dataclass(frozen=True, slots=True)
class Linear:
    """How a movement grows with the intensity that is asked for.

    correlation: of movement and intensity. reversal: the largest step back, as a share of the
        largest movement; 0 where it only grows.
    """

    correlation: float
    reversal: float


def measure_lips(source: np.ndarray, edited: np.ndarray) -> Lips:
    """How the inner-lip gap of the edit follows the source's; one value a frame each."""
    seen = np.isfinite(source) & np.isfinite(edited)
    span = _span(source[seen])
    moves = span > MOVING
    closed = seen & (source < CLOSED)
    spoken = closed & _near(seen & (source > OPEN), SPEECH_FRAMES)
    still_closed = edited < KEPT_CLOSED
    return Lips(
        span=span,
        correlation=correlation(source, edited) if moves else float("nan"),
        lag=lag(source, edited) if moves else 0,
        closures=int(closed.sum()),
        kept=_share(still_closed, closed),
        spoken=int(spoken.sum()),
        spoken_kept=_share(still_closed, spoken),
    )


def measure_eyes(source: np.ndarray, edited: np.ndarray) -> Eyes:
    """How the opening of the eyes of the edit follows the source's; one value a frame each."""
    seen = np.isfinite(source) & np.isfinite(edited)
    blinks = find_blinks(source)
    return Eyes(
        span=_span(source[seen]),
        correlation=correlation(source, edited),
        slope=slope(source, edited),
        blinks=len(blinks),
        kept=sum(_blink_kept(source, edited, blink) for blink in blinks),
    )


def measure_closed_lift(
    gaps: np.ndarray, corners: np.ndarray, *, edited_gaps: np.ndarray, edited_corners: np.ndarray
) -> ClosedLift:
    """How far corners of closed mouths are lifted, and whether the lips stay closed."""
    closed = np.isfinite(corners) & np.isfinite(edited_corners) & (gaps < CLOSED)
    lifts = (edited_corners - corners)[closed]
    lift = float(np.median(lifts)) if lifts.size else float("nan")
    return ClosedLift(int(closed.sum()), lift, _share(edited_gaps < KEPT_CLOSED, closed))


def measure_linearity(intensities: Sequence[float], movements: Sequence[float]) -> Linear:
    """How `movements` (in the direction that is meant) grow with `intensities`, rising ones."""
    moved = np.asarray(movements, np.float64)
    largest = float(np.nanmax(np.abs(moved))) if np.isfinite(moved).any() else 0.0
    back = float(np.nanmax(-np.diff(moved))) if np.isfinite(np.diff(moved)).any() else 0.0
    reversal = max(0.0, back) / largest if largest > 0 else float("nan")
    least = min(LEAST_COMPARED, len(moved))
    return Linear(correlation(np.asarray(intensities, np.float64), moved, least), reversal)


def correlation(a: np.ndarray, b: np.ndarray, least: int = LEAST_COMPARED) -> float:
    """Pearson's r over frames that both have; NaN for fewer than `least`, or where one rests."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < max(2, least):
        return float("nan")
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 1e-12 else float("nan")


def slope(a: np.ndarray, b: np.ndarray) -> float:
    """The slope of the line through `b` over `a` with least squares; NaN where `a` rests."""
    both = np.isfinite(a) & np.isfinite(b)
    x = a[both] - a[both].mean() if both.any() else a[both]
    size = float((x * x).sum())
    return float((x * b[both]).sum()) / size if size > 1e-12 else float("nan")


def lag(source: np.ndarray, edited: np.ndarray) -> int:
    """By how many frames `edited` comes after `source`, by cross-correlation; at most LAG_REACH."""
    best, found = correlation(source, edited), 0
    # The nearest shifts first, so that among equals the smallest is taken.
    for shift in sorted(range(-LAG_REACH, LAG_REACH + 1), key=abs):
        if shift == 0 or len(source) <= abs(shift):
            continue
        later = edited[shift:] if shift > 0 else edited[:shift]
        earlier = source[:-shift] if shift > 0 else source[-shift:]
        value = correlation(earlier, later)
        if value > best + LAG_GAIN:
            best, found = value, shift
    return found


def find_blinks(opening: np.ndarray) -> list[slice]:
    """The frames of each blink: where an eye is much less open than before and after."""
    around = _around(opening)
    shut = np.isfinite(opening) & (opening < BLINK * around)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shut.astype(np.int8), [0]])))
    runs = [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [
        run
        for run in runs
        if run.stop - run.start <= BLINK_FRAMES
        # The eye is as open again as before it: a squint that lasts is no blink.
        and run.stop < len(opening)
        and opening[run.stop] >= BLINK * around[run.start]
    ]


def _blink_kept(source: np.ndarray, edited: np.ndarray, blink: slice) -> bool:
    wide = slice(max(0, blink.start - 1), blink.stop + 1)
    depths = []
    for opening in (source, edited):
        around = float(np.nanmedian(_around(opening)[blink]))
        lowest = opening[wide][np.isfinite(opening[wide])]
        if not lowest.size or not around > 0:
            return False
        depths.append(1 - float(lowest.min()) / around)
    return depths[1] >= BLINK_DEPTH_KEPT * depths[0]


def _around(opening: np.ndarray) -> np.ndarray:
    """How far the eyes are open around each frame, blinks aside."""
    around = np.full(len(opening), np.nan)
    for frame in range(len(opening)):
        near = opening[max(0, frame - BLINK_REACH) : frame + BLINK_REACH + 1]
        near = near[np.isfinite(near)]
        if near.size:
            around[frame] = np.percentile(near, 75)
    return around


def _near(frames: np.ndarray, reach: int) -> np.ndarray:
    """Which frames lie at most `reach` from one of `frames`, bool."""
    wide = np.convolve(frames.astype(np.float64), np.ones(2 * reach + 1))
    near: np.ndarray = wide[reach : reach + len(frames)] > 0.5
    return near


def _span(values: np.ndarray) -> float:
    if not values.size:
        return float("nan")
    low, high = np.percentile(values, [5, 95])
    return float(high - low)


def _share(kept: np.ndarray, of: np.ndarray) -> float:
    return float(kept[of].mean()) if of.any() else float("nan")
