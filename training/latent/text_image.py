"""The text-image pair: captions and faces that belong together, near each other.

`python -m mien.training text-image --minutes N --data DIR --out DIR --features faceres.json`. It
stands in CLIP's place in the Emotion Manipulation Mapper's loss and answers `--prompt`. A caption
often holds for several faces of a batch, so each row has several positives, weighed by how surely
it holds. Some pictures are the generator's reconstructions, for it has to judge such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.text_image import TextImagePair, TextSpec
from mien.runtime.target import EMOTIONS
from mien.runtime.words import FIRST
from mien.training.latent.attributes import face_facts, kept_measures
from mien.training.latent.captions import (
    LENGTH,
    Caption,
    caption_tokens,
    emotion_caption,
    fitting,
    make_caption,
    vocabulary,
)
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
from mien.training.recipe import Schedule, Trainer, write_metrics
from mien.training.warp.guide import jitter

GENERATED = 0.25  # of a batch
RETRIEVED = 100  # captions among which the right one is looked for


@dataclass(frozen=True, slots=True)
class Captioned:
    """faces (n, 1, 64, 64) in [-1, 1]; codes of the first few; tokens; fits (n, n)."""

    faces: torch.Tensor
    codes: torch.Tensor
    tokens: torch.Tensor
    fits: torch.Tensor


class CaptionedFaces:
    """Batches of training faces, each with a caption of its own."""

    def __init__(self, faces: CodedFaces, holds: np.ndarray, batch: int, seed: int) -> None:
        self.faces, self.holds, self.batch = faces, holds, batch
        self.random = np.random.default_rng(seed)
        self.chances = faces.balanced(0.6)

    def __call__(self) -> Captioned:
        rows = self.random.choice(self.faces.train, self.batch, p=self.chances)
        captions = [make_caption(self.holds[row], self.random) for row in rows]
        generated = torch.from_numpy(rows[: round(self.batch * GENERATED)])
        return Captioned(
            self.faces.pictures(rows, SMALL),
            self.faces.codes[generated],
            torch.from_numpy(caption_tokens([caption.text for caption in captions])),
            torch.from_numpy(fitting(self.holds[rows], captions)),
        )


class PairLoss:
    """Both directions of the contrastive loss, with soft positives."""

    def __init__(self, space: FaceSpace, device: torch.device) -> None:
        self.space, self.device = space, device

    def __call__(self, network: nn.Module, batch: Captioned) -> dict[str, torch.Tensor]:
        faces = batch.faces.to(self.device)
        if len(batch.codes):
            faces[: len(batch.codes)] = seen_small(self.space, batch.codes.to(self.device))
        faces = jitter((faces + 1) / 2, mirrored=False) * 2 - 1
        logits = network(faces, batch.tokens.to(self.device))
        fits = batch.fits.to(self.device)
        fits = fits + 1e-3 * torch.eye(len(fits), device=self.device)
        return {
            "caption": F.cross_entropy(logits, fits / fits.sum(1, keepdim=True)) / 2,
            "face": F.cross_entropy(logits.T, (fits / fits.sum(0)).T) / 2,
        }


@torch.no_grad()
def seen_small(space: FaceSpace, codes: torch.Tensor) -> torch.Tensor:
    """What the generator makes of codes, at the size that classifiers look at, in [-1, 1]."""
    made = space.generator(codes).float().clamp(-1, 1)
    return F.avg_pool2d(made, made.shape[-1] // SMALL) if made.shape[-1] > SMALL else made


def new_pair(options: LatentOptions) -> TextImagePair:
    """The untrained towers."""
    torch.manual_seed(options.seed)
    text = TextSpec(FIRST + len(vocabulary()), LENGTH)
    return TextImagePair(text, TRUNKS[options.trunk])


def load_pair(options: LatentOptions) -> TextImagePair:
    """The averaged towers of `text-image`, frozen."""
    pair = new_pair(options)
    state = torch.load(options.work / "text_image.pt", weights_only=True, map_location="cpu")
    pair.load_state_dict(state["average"])
    return pair.eval().requires_grad_(requires_grad=False).to(options.device)


@torch.inference_mode()
def measure(pair: TextImagePair, faces: CodedFaces, holds: np.ndarray) -> dict[str, object]:
    """On held-out people: the emotion named by its prompt, the caption found among RETRIEVED."""
    rows = faces.held_out
    seen = torch.cat(
        [
            pair.image(faces.pictures(part, SMALL))
            for part in np.array_split(rows, 1 + len(rows) // 128)
        ]
    )
    prompts = torch.from_numpy(caption_tokens([emotion_caption(e) for e in EMOTIONS]))
    named = (seen @ pair.text(prompts).T).argmax(1).numpy()
    labels = faces.labels[rows]
    right = {
        emotion: round(float((named[labels == i] == i).mean()), 3)
        for i, emotion in enumerate(EMOTIONS)
        if (labels == i).any()
    }
    return {
        "held_out": len(rows),
        "emotion_by_prompt": right,
        "mean_recall": round(float(np.mean(list(right.values()))), 3),
        "r_precision": round(_retrieval(pair, seen, holds[rows]), 3),
    }


def _retrieval(pair: TextImagePair, seen: torch.Tensor, holds: np.ndarray) -> float:
    """How often a face's own caption is the nearest among captions that do not hold for it.

    R-precision as in the text-to-image papers, RETRIEVED captions in all where there are as many.
    """
    random = np.random.default_rng(1)
    captions: list[Caption] = [make_caption(row, random) for row in holds]
    texts = [caption.text for caption in captions]
    near = (seen @ pair.text(torch.from_numpy(caption_tokens(texts))).T).numpy()
    false = fitting(holds, captions) < 0.3
    hits = []
    for i, others in enumerate(false):
        wrong = np.flatnonzero(others)
        wrong = random.choice(wrong, min(RETRIEVED - 1, len(wrong)), replace=False)
        hits.append(bool((near[i, wrong] < near[i, i]).all()))
    return float(np.mean(hits))


def main(argv: list[str]) -> None:
    """Train and measure the pair; its checkpoint is `text_image.pt` in `--out`."""
    options = latent_options(latent_parser("text-image", 96).parse_args(argv))
    space = load_space(options.space, options.device)
    faces = load_coded_faces(options, space)
    measures = kept_measures(faces, options.features, options.cache, options.device)
    holds = face_facts(faces, measures[:, 0])
    schedule = Schedule(rate=1e-3, weight_decay=0.02)
    trainer: Trainer[Captioned] = Trainer(
        "text_image", new_pair(options), options.of_recipe(), schedule
    )
    trainer.run(
        CaptionedFaces(faces, holds, options.batch, options.seed + trainer.step),
        PairLoss(space, trainer.device),
    )
    pair = trainer.average.cpu().float().eval()
    assert isinstance(pair, TextImagePair)
    metrics = measure(pair, faces, holds)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    write_metrics(options.work / "text_image.json", metrics)
