"""The dual auxiliary classifier: emotions from codes (equation 7) and from pictures (equation 8).

`python -m mien.training classifiers --minutes N --data DIR --out DIR --features faceres.json`. They
guide the Emotion Manipulation Mapper and are never a verdict on it. Each emotion is its own yes or
no, as in the paper; the answers are the shares of the annotators' votes.

The classifier of codes also gives the inverse distribution functions of the mapper's condition
(`condition_table`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.emm import ImageClassifier, LatentClassifier
from mien.runtime.target import EMOTIONS
from mien.training.latent.data import (
    TRUNKS,
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
)
from mien.training.latent.generator import SMALL, FaceSpace
from mien.training.latent.text_image import GENERATED, seen_small
from mien.training.recipe import Options, Schedule, Trainer, write_metrics
from mien.training.warp.guide import erase, jitter

QUANTILES = 33  # of each inverse distribution function
HIDDEN, IMAGE_HIDDEN = 256, 128
LATENT_SHARE = 0.15  # of the minutes, for the classifier of codes


@dataclass(frozen=True, slots=True)
class Voted:
    """faces (n, 1, 64, 64) in [-1, 1], codes (n, layers, style_dim), votes (n, 8)."""

    faces: torch.Tensor
    codes: torch.Tensor
    votes: torch.Tensor


class VotedFaces:
    """Batches of training faces, rare emotions more often."""

    def __init__(self, faces: CodedFaces, batch: int, seed: int, *, pictures: bool) -> None:
        self.faces, self.batch, self.with_pictures = faces, batch, pictures
        self.random = np.random.default_rng(seed)
        self.chances = faces.balanced(0.8)

    def __call__(self) -> Voted:
        rows = self.random.choice(self.faces.train, self.batch, p=self.chances)
        shown = self.faces.pictures(rows, SMALL) if self.with_pictures else torch.zeros(0)
        codes = self.faces.codes[torch.from_numpy(rows)]
        return Voted(shown, codes, torch.from_numpy(self.faces.votes[rows]))


def yes_or_no(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Equation 10 as binary cross-entropy, summed over emotions, averaged over faces.

    As printed its second term swaps both distributions, which no longer has its least value where
    they agree.
    """
    each = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    return each.sum(1).mean()


class LatentLoss:
    """The classifier of codes; a code is moved a little, for the encoder's noise is no emotion."""

    def __init__(self, deviation: torch.Tensor, device: torch.device) -> None:
        self.deviation, self.device = deviation.to(device), device

    def __call__(self, network: nn.Module, batch: Voted) -> dict[str, torch.Tensor]:
        codes = batch.codes.to(self.device)
        codes = codes + 0.2 * self.deviation * torch.randn_like(codes)
        return {"vote": yes_or_no(network(codes), batch.votes.to(self.device))}


class ImageLoss:
    """The classifier of pictures, some of them the generator's."""

    def __init__(self, space: FaceSpace, device: torch.device) -> None:
        self.space, self.device = space, device

    def __call__(self, network: nn.Module, batch: Voted) -> dict[str, torch.Tensor]:
        faces = batch.faces.to(self.device)
        made = round(len(faces) * GENERATED)
        if made:
            faces[:made] = seen_small(self.space, batch.codes[:made].to(self.device))
        seen = erase(jitter((faces + 1) / 2)) * 2 - 1
        return {"vote": yes_or_no(network(seen), batch.votes.to(self.device))}


def new_latent_classifier(faces: CodedFaces, seed: int) -> LatentClassifier:
    """Untrained, with the statistics of the training codes."""
    torch.manual_seed(seed)
    layers, style_dim = faces.codes.shape[1:]
    network = LatentClassifier(layers, style_dim, HIDDEN)
    mean, deviation = faces.statistics()
    network.mean.copy_(mean)
    network.deviation.copy_(deviation)
    return network


def new_image_classifier(options: LatentOptions) -> ImageClassifier:
    """Untrained, of the trunk asked for."""
    torch.manual_seed(options.seed + 1)
    return ImageClassifier(TRUNKS[options.trunk], IMAGE_HIDDEN)


@torch.inference_mode()
def condition_table(network: LatentClassifier, faces: CodedFaces) -> torch.Tensor:
    """Inverse distribution functions of the condition: float32 (8 sources, 8 emotions, QUANTILES).

    Row s, e holds the quantiles, from the least to the largest, of how surely the classifier of
    codes sees emotion e in training faces whose annotators saw s. Equation 3, with one function
    for each emotion of the source's own: so the condition says what the source shows.
    """
    rows = faces.train
    seen = torch.cat(
        [network(part).sigmoid() for part in faces.codes[torch.from_numpy(rows)].split(1024)]
    ).numpy()
    shares = np.linspace(0.01, 0.99, QUANTILES)
    labels = faces.labels[rows]
    table = np.zeros((len(EMOTIONS), len(EMOTIONS), QUANTILES), np.float32)
    for source in range(len(EMOTIONS)):
        theirs = seen[labels == source]
        if len(theirs):
            table[source] = np.quantile(theirs, shares, axis=0).T
    return torch.from_numpy(table)


def recall(named: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How many of each emotion's faces are named right, and the mean over emotions."""
    found = {
        emotion: round(float((named[labels == i] == i).mean()), 3)
        for i, emotion in enumerate(EMOTIONS)
        if (labels == i).any()
    }
    return found | {"mean": round(float(np.mean(list(found.values()))), 3)}


@torch.inference_mode()
def measure(
    latent: LatentClassifier, image: ImageClassifier, faces: CodedFaces
) -> dict[str, dict[str, float]]:
    """Recall of both on held-out people."""
    rows = faces.held_out
    labels = faces.labels[rows]
    codes = latent(faces.codes[torch.from_numpy(rows)]).argmax(1).numpy()
    parts = np.array_split(rows, 1 + len(rows) // 128)
    seen = torch.cat([image(faces.pictures(part, SMALL)) for part in parts]).argmax(1).numpy()
    return {"codes": recall(codes, labels), "pictures": recall(seen, labels)}


def main(argv: list[str]) -> None:
    """Train both; `classifiers.pt` in `--out` holds their averages and the condition's table."""
    options = latent_options(latent_parser("classifiers", 64).parse_args(argv))
    space = load_space(options.space, options.device)
    faces = load_coded_faces(options, space)
    whole = options.of_recipe()
    parts = {"codes": LATENT_SHARE, "pictures": 1 - LATENT_SHARE}
    trainers: dict[str, Trainer[Voted]] = {}
    for part, network in (
        ("codes", new_latent_classifier(faces, options.seed)),
        ("pictures", new_image_classifier(options)),
    ):
        schedule = Schedule(rate=1e-3, weight_decay=0.05, half=part == "pictures")
        own = _with_minutes(whole, options.minutes * parts[part])
        trainer: Trainer[Voted] = Trainer(f"classifier_{part}", network, own, schedule)
        draw = VotedFaces(
            faces, options.batch, options.seed + trainer.step, pictures=part == "pictures"
        )
        loss = (
            ImageLoss(space, trainer.device)
            if part == "pictures"
            else LatentLoss(faces.statistics()[1], trainer.device)
        )
        trainer.run(draw, loss)
        trainers[part] = trainer
    latent = trainers["codes"].average.cpu().float().eval()
    image = trainers["pictures"].average.cpu().float().eval()
    assert isinstance(latent, LatentClassifier)
    assert isinstance(image, ImageClassifier)
    state = {"latent": latent.state_dict(), "image": image.state_dict()}
    state["table"] = condition_table(latent, faces)
    torch.save(state | {"trunk": options.trunk}, options.work / "classifiers.pt")
    metrics: dict[str, object] = dict(measure(latent, image, faces))
    metrics["minutes"] = round(sum(t.spent_s for t in trainers.values()) / 60, 1)
    metrics["steps"] = {part: trainer.step for part, trainer in trainers.items()}
    write_metrics(options.work / "classifiers.json", metrics)


def _with_minutes(options: Options, minutes: float) -> Options:
    return dataclasses.replace(options, minutes=minutes)
