"""What can be said honestly of a labelled face: facts for captions, attributes for directions.

Emotion comes from the labels and votes, lips, eyes, brows and the turn of the head are measured
on the landmarks, glasses are what the shipped occlusion network finds. Sex and age are FaceRes's
estimates (`mien.training.latent.face_features`): good enough to steer a direction, no facts for a
caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from mien.engines.catalog import Catalog
from mien.engines.networks import OCCLUSION
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160
from mien.training.latent.data import CodedFaces
from mien.training.latent.face_features import FaceFeatures, read_weights

FACTS = (
    *EMOTIONS,
    "lips_apart",
    "lips_closed",
    "smiling",
    "eyes_narrow",
    "eyes_wide",
    "brows_raised",
    "brows_lowered",
    "turned_left",
    "turned_right",
    "straight",
    "glasses",
    "no_glasses",
)
# The first four are the expression's own, in the paper's words; the others are to be changed.
ATTRIBUTES = (
    "smiling",
    "mouth_slightly_open",
    "narrow_eyes",
    "brows_raised",
    "male",
    "young",
    "bright",
    "light_from_left",
)
EXPRESSIVE = 4
# Shares of the crop that rims cover: surely none below, between them nobody can tell, surely some.
# Set by looking at 80 crops.
NO_GLASSES, MAYBE_NONE, MAYBE_GLASSES, GLASSES = 0.0008, 0.002, 0.008, 0.014
YOUNG_AGE, OLD_AGE = 28.0, 52.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Measures of faces on their landmarks, each float32 (n,).

    gap: between the inner lips, of the mouth's width. lift: how far the corners of the mouth stand
    above its middle, of its width. opening: of the eyes, of their width. brows: height above the
    eyes in crop units. turn: of the nose's tip from the middle of the eyes, of the eyes' distance;
    negative is the viewer's left.
    """

    gap: np.ndarray
    lift: np.ndarray
    opening: np.ndarray
    brows: np.ndarray
    turn: np.ndarray


def shape_of(landmarks: np.ndarray) -> Shape:
    """The measures of landmarks (n, 106, 2)."""
    x, y = landmarks[..., 0], landmarks[..., 1]
    mouth = np.abs(x[:, 90] - x[:, 84]) + 1e-3
    eye = np.abs(x[:, 55] - x[:, 52]) + np.abs(x[:, 61] - x[:, 58]) + 1e-3
    middle = (y[:, 98] + y[:, 102]) / 2
    between = np.abs(x[:, 77] - x[:, 74]) + 1e-3
    return Shape(
        gap=(y[:, 102] - y[:, 98]) / mouth,
        lift=(middle - (y[:, 84] + y[:, 90]) / 2) / mouth,
        opening=(y[:, 73] - y[:, 72] + y[:, 76] - y[:, 75]) / eye,
        brows=(y[:, [74, 77]].mean(1) - y[:, [34, 35, 36, 39, 40, 41]].mean(1)),
        turn=(x[:, 46] - (x[:, 74] + x[:, 77]) / 2) / between,
    )


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, straight between; low may be the larger."""
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def face_facts(faces: CodedFaces, glasses: np.ndarray) -> np.ndarray:
    """How surely each of FACTS holds for each face: float32 (n, len(FACTS)) in [0, 1].

    glasses: the share of the crop that rims cover, (n,). Eyes and brows are wide, narrow, raised or
    lowered compared with those of the training people.
    """
    shape = shape_of(faces.crops.landmarks)
    opening = _quantiles(shape.opening[faces.train], (0.1, 0.25, 0.75, 0.9))
    brows = _quantiles(shape.brows[faces.train], (0.1, 0.25, 0.75, 0.9))
    happy = faces.votes[:, EMOTIONS.index("happy")]
    turned = np.abs(shape.turn)
    columns = [
        *faces.votes.T,
        ramp(shape.gap, 0.06, 0.12),
        ramp(shape.gap, 0.05, 0.02),
        np.minimum(happy * 1.2, 1) * ramp(shape.lift, -0.04, 0.03),
        ramp(shape.opening, opening[1], opening[0]),
        ramp(shape.opening, opening[2], opening[3]),
        ramp(shape.brows, brows[2], brows[3]),
        ramp(shape.brows, brows[1], brows[0]),
        ramp(shape.turn, -0.12, -0.25),
        ramp(shape.turn, 0.12, 0.25),
        ramp(turned, 0.12, 0.06),
        ramp(glasses, MAYBE_GLASSES, GLASSES),
        ramp(glasses, MAYBE_NONE, NO_GLASSES),
    ]
    return np.stack(columns, 1).astype(np.float32)


def face_attributes(faces: CodedFaces, people: np.ndarray) -> np.ndarray:
    """Each of ATTRIBUTES of each face: float32 (n, len(ATTRIBUTES)) in [0, 1].

    people: FaceRes's estimates, (n, 2): how surely male, and the age in years.
    """
    shape, train = shape_of(faces.crops.landmarks), faces.train
    opening = _quantiles(shape.opening[train], (0.1, 0.9))
    brows = _quantiles(shape.brows[train], (0.1, 0.9))
    lift = _quantiles(shape.lift[train], (0.2, 0.8))
    pixels = faces.crops.pixels
    middle = pixels[:, 32:112, 24:104].astype(np.float32)
    light = middle.mean((1, 2))
    side = middle[:, :, :40].mean((1, 2)) - middle[:, :, 40:].mean((1, 2))
    bright = _quantiles(light[train], (0.1, 0.9))
    from_left = _quantiles(side[train], (0.1, 0.9))
    happy = faces.votes[:, EMOTIONS.index("happy")]
    columns = [
        0.5 * happy + 0.5 * ramp(shape.lift, *lift),
        ramp(shape.gap, 0.02, 0.25),
        ramp(shape.opening, opening[1], opening[0]),
        ramp(shape.brows, *brows),
        people[:, 0],
        ramp(people[:, 1], OLD_AGE, YOUNG_AGE),
        ramp(light, *bright),
        ramp(side, *from_left),
    ]
    return np.stack(columns, 1).astype(np.float32)


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(v) for v in np.quantile(values, shares))


def covered_by_glasses(pixels: np.ndarray) -> np.ndarray:
    """The share of each crop, uint8 (n, 128, 128), that the shipped network takes for glasses."""
    shares = np.zeros(len(pixels), np.float32)
    with Catalog.bundled().open(OCCLUSION, threads=1) as engine:
        for i, face in enumerate(pixels):
            given = {"face": (face[None, None] / np.float32(255)).astype(np.float32)}
            shares[i] = engine.infer(given)["covered"][0, 0].mean()
    return shares


@torch.inference_mode()
def people_of(pixels: np.ndarray, model: Path, device: str) -> np.ndarray:
    """FaceRes's estimates of crops uint8 (n, s, s): how surely male, and years: float32 (n, 2)."""
    stored = {name: value.to(device) for name, value in read_weights(model).items()}
    network = FaceFeatures(model).to(device)
    found = []
    for first in range(0, len(pixels), 64):
        faces = torch.from_numpy(pixels[first : first + 64, None].astype(np.float32)).to(device)
        faces = F.interpolate(faces / 127.5 - 1, size=128, mode="bilinear", align_corners=False)
        deep = network(faces, (13,))[13].float().mean((2, 3))
        hidden = F.relu(deep @ stored["feats/kernel"] + stored["feats/bias"])
        male = (hidden @ stored["gender_pred/kernel"] + stored["gender_pred/bias"]).sigmoid()[:, 0]
        ages = (hidden @ stored["age_pred/kernel"] + stored["age_pred/bias"]).softmax(1)
        years = (ages * torch.arange(ages.shape[1], device=device)).sum(1)
        found.append(torch.stack([male, years], 1).cpu())
    return torch.cat(found).numpy()


def kept_measures(faces: CodedFaces, model: Path, cache: Path, device: str) -> np.ndarray:
    """Glasses, male and years of each face, float32 (n, 3), from `cache` where it has them."""
    file = cache / f"measures{len(faces.codes)}.npy"
    if file.exists():
        kept: np.ndarray = np.load(file)
        return kept
    press = faces.crops.source == FACES160
    # In FER-2013's 48 pixels nobody can tell: neither with nor without.
    glasses = np.full(len(press), (MAYBE_NONE + MAYBE_GLASSES) / 2, np.float32)
    glasses[press] = covered_by_glasses(faces.crops.pixels[press])
    found = np.column_stack([glasses, people_of(faces.crops.pixels, model, device)])
    np.save(file, found.astype(np.float32))
    return found.astype(np.float32)
