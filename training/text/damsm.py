"""The DAMSM pair: a bi-LSTM and a small image encoder that find captions and faces near each other.

It gives the generator its words, guides it, ranks its faces and measures R-precision. Half of a
batch are photographs with captions of what is measured in them, half are the teacher's pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mien.engines.text_faces import FIRST, WIDTH
from mien.export.models.damsm import (
    SmallImageEncoder,
    code_scores,
    matching_loss,
    word_scores,
)
from mien.export.models.text_faces import TextEncoder
from mien.training.latent.captions import Caption, fitting
from mien.training.latent.data import CodedFaces
from mien.training.text.captions import (
    TEXT_FACTS,
    caption_of,
    chosen_facts,
    tokens_of,
    vocabulary,
)
from mien.training.text.teacher import Draws, Teacher
from mien.training.warp.guide import jitter

SEEN = 128
CANDIDATES, FOLDS = 100, 10  # R-precision: one true caption among so many, and groups of pictures
FACTS = 10.0  # the weight of what holds beside the matching
FALSE = 0.3  # a caption that fits less than that is a wrong one


class Damsm(nn.Module):
    """Both encoders, and in training what holds for a picture, from its code: it learns faster."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.text = TextEncoder(len(vocabulary()) + FIRST, hidden=width // 2)
        self.image = SmallImageEncoder(width)
        self.facts = nn.Linear(width, len(TEXT_FACTS))

    def forward(
        self, pictures: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores of words and of codes, each (pictures, captions), and logits of facts."""
        words, sentence, present = self.text(tokens)
        code, regions = self.image(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            by_word = word_scores(words.float(), present, regions.float())
            by_code = code_scores(sentence.float(), code.float())
            return by_word, by_code, self.facts(code.float())


@dataclass(frozen=True, slots=True)
class Matched:
    """pictures (n, 3, 128, 128) of photographs; amounts (m, NOISE) and emotions (m, 8) to draw.

    tokens (n + m, WORDS), fits (n + m, n + m), holds (n + m, facts): how surely each holds.
    """

    pictures: torch.Tensor
    amounts: torch.Tensor
    emotions: torch.Tensor
    tokens: torch.Tensor
    fits: torch.Tensor
    holds: torch.Tensor


class MatchedFaces:
    """Batches of photographs with captions, and of what the teacher is to make."""

    def __init__(self, faces: CodedFaces, holds: np.ndarray, draws: Draws) -> None:
        self.faces, self.holds, self.draws = faces, holds, draws
        self.chances = faces.balanced(0.6)

    def __call__(self) -> Matched:
        count, random = self.draws.batch, self.draws.random
        rows = random.choice(self.faces.train, count, p=self.chances)
        captions = captions_of(self.holds[rows], random, self.draws.usable)
        wanted = self.draws()
        fits = torch.zeros(2 * count, 2 * count)
        fits[:count, :count] = torch.from_numpy(fitting(self.holds[rows], captions))
        fits[count:, count:] = wanted.fits.cpu()
        held = wanted.held.cpu().numpy()
        fits[count:, :count] = torch.from_numpy(fitting(held, captions))
        fits[:count, count:] = torch.from_numpy(fitting(self.holds[rows], wanted.captions))
        tokens = tokens_of([caption.text for caption in captions])
        return Matched(
            self.faces.pictures(rows, SEEN).expand(-1, 3, -1, -1),
            wanted.amounts,
            wanted.emotions,
            torch.cat([torch.from_numpy(tokens), wanted.tokens]),
            fits,
            torch.cat([torch.from_numpy(self.holds[rows]).float(), wanted.held.cpu()]),
        )


def captions_of(
    holds: np.ndarray, random: np.random.Generator, usable: np.ndarray
) -> list[Caption]:
    """A caption for each face."""
    return [caption_of(chosen_facts(row, random, usable), random) for row in holds]


class DamsmLoss:
    """Words and codes, matched both ways."""

    def __init__(self, teacher: Teacher, device: torch.device) -> None:
        self.teacher, self.device = teacher, device

    def __call__(self, network: nn.Module, batch: Matched) -> dict[str, torch.Tensor]:
        made = self.teacher.luma(batch.amounts.to(self.device), batch.emotions.to(self.device))
        made = nn.functional.interpolate(made, size=SEEN, mode="bilinear").expand(-1, 3, -1, -1)
        pictures = torch.cat([batch.pictures.to(self.device), made])
        pictures = jitter((pictures[:, :1] + 1) / 2, mirrored=False) * 2 - 1
        pictures, tokens = pictures.expand(-1, 3, -1, -1), batch.tokens.to(self.device)
        by_word, by_code, facts = network(pictures, tokens)
        fits, holds = batch.fits.to(self.device), batch.holds.to(self.device)
        return {
            "words": matching_loss(by_word, fits),
            "codes": matching_loss(by_code, fits),
            "facts": FACTS * nn.functional.binary_cross_entropy_with_logits(facts, holds),
        }


def r_precision(
    codes: np.ndarray, sentences: np.ndarray, fits: np.ndarray, *, seed: int = 1
) -> tuple[float, float]:
    """How often a picture's own caption is the nearest of CANDIDATES, and its deviation over FOLDS.

    codes: of pictures, (n, width). sentences: of their captions, (n, width). fits: (n, n), how
    surely each caption holds for each picture; the others are drawn from those that do not.

    Source: AttnGAN, and Table 4 of the paper, with R = 1.
    """
    random = np.random.default_rng(seed)
    near = _unit(codes) @ _unit(sentences).T
    hits = np.zeros(len(codes))
    for row in range(len(codes)):
        wrong = np.flatnonzero(fits[row] < FALSE)
        wrong = wrong[wrong != row]
        wrong = random.choice(wrong, min(CANDIDATES - 1, len(wrong)), replace=False)
        hits[row] = (near[row, wrong] < near[row, row]).all()
    order = random.permutation(len(hits))
    folds = [hits[part].mean() for part in np.array_split(order, FOLDS) if len(part)]
    return float(np.mean(folds)), float(np.std(folds))


def _unit(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit: np.ndarray = x / np.maximum(lengths, 1e-12)
    return unit


@torch.inference_mode()
def measure(
    pair: Damsm, faces: CodedFaces, holds: np.ndarray, usable: np.ndarray
) -> dict[str, object]:
    """R-precision on photographs of people that nothing was trained on: the ceiling."""
    rows, random = faces.held_out, np.random.default_rng(7)
    captions = captions_of(holds[rows], random, usable)
    tokens = torch.from_numpy(tokens_of([caption.text for caption in captions]))
    pair = pair.cpu().float().eval()
    sentences = torch.cat([pair.text(part)[1] for part in tokens.split(256)])
    pictures = faces.pictures(rows, SEEN).expand(-1, 3, -1, -1)
    codes = torch.cat([pair.image(part)[0] for part in pictures.split(128)])
    fits = fitting(holds[rows], captions)
    mean, deviation = r_precision(codes.numpy(), sentences.numpy(), fits)
    return {
        "held_out": len(rows),
        "r_precision_photographs": round(mean, 4),
        "r_precision_deviation": round(deviation, 4),
    }
