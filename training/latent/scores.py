"""Verdicts on the latent recipes: the emotion in generated crops, the person, distances of sets.

The shipped classifier always judges. With `--judges-code FILE --judges ROOT` (the user's own, as
for `mien.calibration.judges.independent`) a classifier of other origin and dlib's identity
embedding do as well. They only measure: nothing is trained with them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.catalog import Catalog
from mien.engines.errors import UsageError
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES, FER_SIZE
from mien.runtime.faces.alignment import FER_TEMPLATE, RIGID_TEMPLATE, fit_similarity
from mien.runtime.target import EMOTIONS
from mien.training.latent.data import CodedFaces
from mien.training.latent.generator import SMALL, FaceSpace

SAME_PERSON = 0.6  # dlib's embeddings nearer than that are one person's
SIX = EMOTIONS[1:7]
# Around a tight crop, of its side, what a detector's box would show; and the networks' sizes.
EXPRESSION_VIEW, IDENTITY_VIEW = (112, 0.1), (150, 0.12)

Seen = Callable[[torch.Tensor], np.ndarray]


class ShippedClassifier:
    """The emotions that the shipped classifier sees in crops, as indices of EMOTIONS."""

    def __init__(self) -> None:
        self.engine = Catalog.bundled().open(EMOTION_CLASSIFIER, threads=1)
        self.order = np.array([EMOTIONS.index(name) for name in FER_CLASSES])
        matrix = torch.from_numpy(fit_similarity(FER_TEMPLATE, RIGID_TEMPLATE))
        axis = (torch.arange(FER_SIZE) + 0.5) / FER_SIZE
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2)
        self.place = (grid @ matrix[:, :2].T + matrix[:, 2]) * 2 - 1

    def probabilities(self, faces: torch.Tensor) -> np.ndarray:
        """Of crops (n, 1, s, s) in [-1, 1], in the order of FER_CLASSES: float32 (n, 7)."""
        grid = self.place[None].expand(len(faces), -1, -1, -1)
        seen = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
        seen = ((seen + 1) / 2).clamp(0, 1).numpy()
        answers = [self.engine.infer({"face": face[None]})["probabilities"] for face in seen]
        return np.concatenate(answers)

    def __call__(self, faces: torch.Tensor) -> np.ndarray:
        named: np.ndarray = self.order[self.probabilities(faces).argmax(1)]
        return named


@dataclass(frozen=True, slots=True)
class Judges:
    """Who sees an emotion in crops (by name), and who knows a person; None where nobody does."""

    emotion: dict[str, Seen]
    person: Seen | None = None


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Add the options for networks of other origin."""
    parser.add_argument("--judges-code", type=Path, help="torch code of other judges, to measure")
    parser.add_argument("--judges", type=Path, help="the folder of their weights")


def load_judges(code: Path | None, root: Path | None) -> Judges:
    """The shipped classifier, and those of other origin where they are given."""
    emotion: dict[str, Seen] = {"shipped": ShippedClassifier()}
    if code is None or root is None:
        return Judges(emotion)
    others = _loaded(code, root)
    expression, dlib = others.Expression(), others.Dlib()
    order = np.array([EMOTIONS.index(name) for name in expression.names])

    def seen(faces: torch.Tensor) -> np.ndarray:
        given = others.pad_view(_unit(faces), *EXPRESSION_VIEW)
        named: np.ndarray = order[expression(given).argmax(1).numpy()]
        return named

    def embedded(faces: torch.Tensor) -> np.ndarray:
        found: np.ndarray = dlib(others.pad_view(_unit(faces), *IDENTITY_VIEW)).numpy()
        return found

    return Judges(emotion | {"other": seen}, embedded)


def _loaded(code: Path, root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("other_judges", code)
    if spec is None or spec.loader is None:
        raise UsageError(f"{code} is no Python file; give --judges-code the judges' code")
    module = importlib.util.module_from_spec(spec)
    os.environ["MIEN_JUDGES"] = str(root)  # where that code looks for its weights
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _unit(faces: torch.Tensor) -> torch.Tensor:
    return ((faces + 1) / 2).clamp(0, 1)


@torch.inference_mode()
def edit_scores(
    source: torch.Tensor, edits: dict[str, torch.Tensor], judges: Judges
) -> dict[str, dict[str, float]]:
    """For each target its edits (n, 1, s, s) of `source`: who sees it, and the same person.

    A row a target: the share named right by each judge; `same_person` where someone knows persons.
    """
    known = judges.person(source) if judges.person else None
    scores: dict[str, dict[str, float]] = {}
    for target, edited in edits.items():
        index = EMOTIONS.index(target)
        row = {
            name: round(float((seen(edited) == index).mean()), 3)
            for name, seen in judges.emotion.items()
        }
        if judges.person and known is not None:
            apart = np.linalg.norm(judges.person(edited) - known, axis=1)
            row["same_person"] = round(float((apart < SAME_PERSON).mean()), 3)
        scores[target] = row
    columns = next(iter(scores.values())).keys() if scores else ()
    if scores:
        scores["mean"] = {
            c: round(float(np.mean([row[c] for row in scores.values()])), 3) for c in columns
        }
    return scores


@torch.inference_mode()
def reconstruction_scores(
    space: FaceSpace,
    faces: CodedFaces,
    judges: Judges,
    most: int = 300,
    inverter: nn.Module | None = None,
) -> dict[str, float]:
    """How near the reconstructions of held-out people are, from the faces' codes or by an encoder.

    unexplained: the share of a picture's variance. same_person: nearer than SAME_PERSON; nearest:
    the own original is the nearest of all, for so many people as `people` says.
    """
    rows = faces.held_out[:: max(1, len(faces.held_out) // most)][:most]
    real = faces.pictures(rows, space.size)
    parts = faces.codes[torch.from_numpy(rows)].split(32)
    if inverter is not None:
        parts = tuple(inverter(small) for small in faces.pictures(rows, SMALL).split(32))
    made = torch.cat([space.generator(part) for part in parts]).clamp(-1, 1)
    unexplained = (real - made).square().mean((1, 2, 3)) / real.var((1, 2, 3))
    scores = {"people": float(len(rows)), "unexplained": float(unexplained.mean())}
    if judges.person is not None:
        theirs, own = judges.person(real), judges.person(made)
        apart = np.linalg.norm(own[:, None] - theirs[None], axis=2)
        scores["same_person"] = float((np.diag(apart) < SAME_PERSON).mean())
        scores["nearest"] = float((apart.argmin(1) == np.arange(len(rows))).mean())
    return {name: round(value, 4) for name, value in scores.items()}


def printed(title: str, scores: dict[str, dict[str, float]]) -> str:
    """A table for the eye: a row a target."""
    lines = [title]
    for name, row in scores.items():
        lines.append("  " + name.ljust(14) + "  ".join(f"{k} {v:.2f}" for k, v in row.items()))
    return "\n".join(lines)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The Frechet distance of two sets of features (n, d), n above d, as normal distributions.

    Source: Heusel et al., 2017, equation 6.
    """
    means = first.mean(0) - second.mean(0)
    a, b = (np.cov(x.astype(np.float64), rowvar=False) for x in (first, second))
    values, axes = np.linalg.eigh(a)
    root = (axes * np.sqrt(np.clip(values, 0, None))) @ axes.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    return float(means @ means + np.trace(a) + np.trace(b) - 2 * shared)
