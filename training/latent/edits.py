"""A trained mapper at work: its guides, the condition of its input, its edits, and their scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mien.engines.face_space import layer_levels
from mien.export.models.emm import (
    Condition,
    EmotionMapper,
    ImageClassifier,
    LatentClassifier,
    MapperSpec,
    Norm,
)
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160
from mien.training.latent.attributes import shape_of
from mien.training.latent.classifiers import IMAGE_HIDDEN, new_latent_classifier
from mien.training.latent.data import (
    TRUNKS,
    CodedFaces,
    LatentOptions,
    of_emotion,
    write_sheet,
)
from mien.training.latent.generator import FaceSpace
from mien.training.latent.scores import SIX, Judges, edit_scores

Edit = Callable[[torch.Tensor, str], torch.Tensor]  # codes and an emotion to codes


@dataclass(frozen=True, slots=True)
class Dac:
    """The dual auxiliary classifier, frozen, and the table of the condition (8, 8, k)."""

    latent: LatentClassifier
    image: ImageClassifier
    table: torch.Tensor


def load_dac(options: LatentOptions, faces: CodedFaces) -> Dac:
    """What `classifiers` left in the work folder."""
    state = torch.load(options.work / "classifiers.pt", weights_only=True, map_location="cpu")
    latent = new_latent_classifier(faces, 0)
    latent.load_state_dict(state["latent"])
    image = ImageClassifier(TRUNKS[state["trunk"]], IMAGE_HIDDEN)
    image.load_state_dict(state["image"])
    for network in (latent, image):
        network.eval().requires_grad_(requires_grad=False).to(options.device)
    return Dac(latent, image, state["table"])


def condition_of(table: torch.Tensor, sources: np.ndarray, drawn: torch.Tensor) -> torch.Tensor:
    """The condition (n, 8) of source emotions (n,), equations 1 to 3.

    table: (8, 8, k), as of `latent_classifiers.condition_table`. drawn: (n, 8), normally
    distributed; zeros give the medians.
    """
    uniform = torch.special.ndtr(drawn)
    place = uniform * (table.shape[2] - 1)
    low = place.floor().long().clamp(max=table.shape[2] - 2)
    rows = table[torch.from_numpy(sources)]
    left = rows.gather(2, low[..., None])[..., 0]
    right = rows.gather(2, low[..., None] + 1)[..., 0]
    return left + (right - left) * (place - low)


def emotion_codes(faces: CodedFaces) -> torch.Tensor:
    """What each emotion adds to a code, in training faces: float32 (8, layers, style_dim).

    The least-squares fit on the votes with the light, its side, the turn of the head and the source
    beside them: plain class means brighten who is surprised and darken who is sad, as their
    pictures are.
    """
    rows = faces.train
    middle = faces.crops.pixels[rows, 32:112, 24:104].astype(np.float32) / 255
    left, right = middle[:, :, :40].mean((1, 2)), middle[:, :, 40:].mean((1, 2))
    beside = [left + right, left - right, shape_of(faces.crops.landmarks[rows]).turn]
    beside.append((faces.crops.source[rows] == FACES160).astype(np.float32))
    columns = np.column_stack([faces.votes[rows], *(x - x.mean() for x in beside)])
    given = torch.from_numpy(columns.astype(np.float64))
    codes = faces.codes[torch.from_numpy(rows)].flatten(1)
    # A little of each column's own weight keeps emotions that nobody shows at nought.
    square = given.T @ given + 1e-3 * torch.eye(given.shape[1], dtype=torch.float64)
    fitted = torch.linalg.solve(square, (given.T.float() @ codes).double())[: len(EMOTIONS)]
    return fitted.float().view(len(EMOTIONS), *faces.codes.shape[1:])


@torch.inference_mode()
def sources_of(latent: LatentClassifier, codes: torch.Tensor) -> np.ndarray:
    """The emotion that the classifier of codes sees: int64 (n,). The runtime knows no more."""
    device = latent.fc.weight.device
    found = [latent(part.to(device)).argmax(1).cpu() for part in codes.split(1024)]
    return torch.cat(found).numpy()


@dataclass(frozen=True, slots=True)
class MapperKind:
    """What kinds of mapper there are to train; the fields of `MapperSpec`."""

    condition: Condition
    norm: Norm
    depth: int

    @property
    def name(self) -> str:
        """Of the checkpoint and the log."""
        return {"global": "emm", "local": "emm_local", "none": "styleclip"}[self.condition]


def new_mapper(faces: CodedFaces, kind: MapperKind, seed: int) -> EmotionMapper:
    """Untrained, for all targets, with the statistics of the training codes."""
    torch.manual_seed(seed)
    layers, style_dim = faces.codes.shape[1:]
    levels = layer_levels(layers)
    spec = MapperSpec(
        layers, style_dim, kind.depth, kind.condition, kind.norm, levels, len(EMOTIONS)
    )
    mapper = EmotionMapper(spec)
    mean, deviation = faces.statistics()
    mapper.mean.copy_(mean)
    mapper.deviation.copy_(deviation)
    return mapper


def mapper_of(options: LatentOptions, faces: CodedFaces, name: str) -> EmotionMapper:
    """The averaged mapper that `emm` left under a name in the work folder."""
    stated = json.loads((options.work / f"{name}.json").read_text())
    kind = MapperKind(stated["condition"], stated["norm"], stated["depth"])
    mapper = new_mapper(faces, kind, 0)
    state = torch.load(options.work / f"{name}.pt", weights_only=True, map_location="cpu")
    mapper.load_state_dict(state["average"])
    return mapper.eval()


@torch.no_grad()
def mapped(mapper: nn.Module, codes: torch.Tensor, dac: Dac, wanted: torch.Tensor) -> torch.Tensor:
    """Codes that show what is wanted (n, 8), under the median of their own emotion's condition."""
    sources = sources_of(dac.latent, codes)
    condition = condition_of(dac.table.cpu(), sources, torch.zeros(len(codes), len(EMOTIONS)))
    device = next(mapper.parameters()).device
    moved: torch.Tensor = mapper(codes.to(device), condition.to(device), wanted.to(device))
    return moved


def edited(mapper: nn.Module, codes: torch.Tensor, dac: Dac, target: str) -> torch.Tensor:
    """Codes that show the target."""
    wanted = torch.eye(len(EMOTIONS))[[EMOTIONS.index(target)] * len(codes)]
    return mapped(mapper, codes, dac, wanted)


@torch.inference_mode()
def measure(
    edit: Edit, faces: CodedFaces, space: FaceSpace, judges: Judges, most: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Held-out neutral and happy people edited to each of six emotions: what judges say.

    most: people of each source emotion, at most.
    """
    found = {}
    for source in ("neutral", "happy"):
        rows = of_emotion(faces, faces.held_out, source, most)
        if not len(rows):
            continue
        codes = faces.codes[torch.from_numpy(rows)]
        before = generated(space, codes)
        edits = {
            target: generated(space, edit(codes, target)) for target in SIX if target != source
        }
        found[f"from {source}"] = edit_scores(before, edits, judges)
    return found


@torch.inference_mode()
def generated(space: FaceSpace, codes: torch.Tensor) -> torch.Tensor:
    """What the generator makes of codes, on the processor: (n, 1, size, size) in [-1, 1]."""
    codes = codes.to(space.heads.emotion.weight.device)
    made = [space.generator(part).float().clamp(-1, 1) for part in codes.split(32)]
    return torch.cat(made).cpu()


@torch.no_grad()
def draw_edits(
    mapper: nn.Module, faces: CodedFaces, space: FaceSpace, dac: Dac, path: Path
) -> None:
    """Keep a sheet: held-out people, their reconstructions, then all eight targets."""
    rows = np.concatenate(
        [of_emotion(faces, faces.held_out, source, 8) for source in ("neutral", "happy")]
    )
    if not len(rows):
        return
    codes = faces.codes[torch.from_numpy(rows)]
    sheets = [faces.pictures(rows, space.size), generated(space, codes)]
    sheets += [generated(space, edited(mapper, codes, dac, target)) for target in EMOTIONS]
    write_sheet(path, sheets)
