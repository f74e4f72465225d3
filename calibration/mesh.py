"""What a face does, read from FaceMesh points with the head's pose taken out.

Every mesh is moved by a similarity in three dimensions (rotation, one scale, translation, least
squares) so that its rigid points fit those of a mean face that looks straight ahead. What is left
is expression: x to the viewer's right, y down, z away from the viewer, all in units of the mean
face's distance between the outer corners of the eyes (vertices 33 and 263). Lengths are divided
by the same distance of the measured face.
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
