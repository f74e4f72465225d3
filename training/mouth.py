"""The recipe of the mouth network: fill the mouths of real open-mouthed faces.

Training mouths come from faces160 (training people) and, for sharp teeth, from the training clips.
The area between the inner lips is blanked and made again: L1, its gradients, and a patch
discriminator (hinge). The picture's own emotion is the target it is told, or none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from mien.engines import MOUTH
from mien.export.mouth import MouthNetwork
from mien.export.onnx_file import sha256_of, to_onnx
from mien.runtime.alignment import crop_matrix, sample_crop, transform_points
from mien.runtime.mouth import SIZE_HW, lips_hole, mouth_box
from mien.runtime.target import EMOTIONS
from mien.training.clips import labelled_clips
from mien.training.faces import load_faces160
from mien.training.recipe import (
    Schedule,
    Trainer,
    data_text,
    parse_options,
    write_card,
    write_metrics,
)

BATCH = 24
OPEN = 0.022  # crop units between the inner lips: what counts as an open mouth
CLIP_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Mouths:
    """Open mouths.

    pixels: float32 (n, 48, 96), luma. holes: float32 (n, 48, 96). emotions: int64 (n,), or -1
    where nobody labelled it. weights: float64 (n,), sampling odds. validation: bool (n,).
    """

    pixels: np.ndarray
    holes: np.ndarray
    emotions: np.ndarray
    weights: np.ndarray
    validation: np.ndarray


def cut_mouth(picture: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mouth's box as the runtime cuts it and its hole: both float32 (48, 96).

    picture: uint8 (H, W). landmarks: (106, 2), pixels.
    """
    unit_from_frame = crop_matrix(landmarks, 1)
    unit_from_frame[:, 2] += 0.5
    marks = transform_points(unit_from_frame, landmarks)
    box = mouth_box(marks)
    scale = SIZE_HW[1] / (box[2] - box[0])
    box_from_frame = unit_from_frame * scale
    box_from_frame[:, 2] -= np.array(box[:2]) * scale + 0.5
    square = sample_crop(picture, box_from_frame.astype(np.float32), SIZE_HW[1])
    return square[: SIZE_HW[0]].astype(np.float32) / 255, lips_hole(marks, box)


def gap(landmarks: np.ndarray) -> float:
    """Height between the inner lips in crop units; landmarks (106, 2) in any unit."""
    scale = float(np.hypot(*crop_matrix(landmarks, 1)[:, 0]))
    return float(landmarks[102, 1] - landmarks[98, 1]) * scale


def load_mouths(data: Path, media: Path, cache: Path, facemesh_python: Path) -> Mouths:
    """Open mouths of faces160 and the training clips."""
    pixels, holes, emotions, weights, validation = [], [], [], [], []
    faces = load_faces160(data)
    counts = np.bincount(faces.emotions, minlength=len(EMOTIONS))
    for picture, marks, emotion, held in zip(
        faces.pictures, faces.landmarks[:, :, :2], faces.emotions, faces.validation, strict=True
    ):
        if gap(marks) > OPEN:
            mouth, hole = cut_mouth(picture, marks)
            pixels.append(mouth)
            holes.append(hole)
            emotions.append(int(emotion))
            weights.append(counts[emotion] ** -0.6)
            validation.append(bool(held))
    shown = sum(weights)
    clips = labelled_clips(media / "train", cache, facemesh_python, step=2)
    found = [
        cut_mouth(picture, marks[0])
        for picture, marks in zip(clips.pictures, clips.landmarks, strict=True)
        if len(marks) == 1 and gap(marks[0]) > OPEN
    ]
    for mouth, hole in found:
        pixels.append(mouth)
        holes.append(hole)
        emotions.append(-1)
        weights.append(shown * CLIP_SHARE / len(found))
        validation.append(False)
    odds = np.where(validation, 0.0, weights)
    return Mouths(
        np.stack(pixels),
        np.stack(holes),
        np.array(emotions),
        odds / odds.sum(),
        np.array(validation),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """mouth, hole (n, 1, 48, 96); target (n, 8)."""

    mouth: torch.Tensor
    hole: torch.Tensor
    target: torch.Tensor


class Sampler:
    """Draws mouths, mirrored, relit, slightly turned, with holes a little too wide or too small."""

    def __init__(self, mouths: Mouths, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.mouths = mouths

    def __call__(self) -> Batch:
        rows = self.rng.choice(len(self.mouths.weights), BATCH, p=self.mouths.weights)
        pairs = [self._vary(self.mouths.pixels[row], self.mouths.holes[row]) for row in rows]
        mouth = torch.from_numpy(np.stack([pair[0] for pair in pairs]))[:, None]
        hole = torch.from_numpy(np.stack([pair[1] for pair in pairs]))[:, None]
        target = np.zeros((BATCH, len(EMOTIONS)), np.float32)
        for row, emotion in enumerate(self.mouths.emotions[rows]):
            if emotion >= 0 and self.rng.random() < 0.85:
                target[row, emotion] = self.rng.uniform(0.6, 1)
        return Batch(mouth, hole, torch.from_numpy(target))

    def _vary(self, mouth: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = SIZE_HW
        angle, scale = self.rng.normal(0, 0.06), self.rng.uniform(0.85, 1.1)
        shift = self.rng.normal(0, 1.5, 2)
        mirror = -1.0 if self.rng.random() < 0.5 else 1.0
        centre = np.array([width / 2 - 0.5, height / 2 - 0.5])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        turn[:, 0] *= mirror
        matrix = np.hstack([turn, (centre + shift - turn @ centre)[:, None]]).astype(np.float32)
        moved = [
            cv2.warpAffine(a, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
            for a in (mouth, hole)
        ]
        kernel = np.ones((3, 3), np.uint8)
        moved[1] = cv2.dilate(moved[1], kernel, iterations=int(self.rng.integers(0, 3)))
        light = self.rng.normal(1, 0.2)
        return np.clip(moved[0] * light, 0, 1).astype(np.float32), moved[1]


class Discriminator(nn.Module):
    """Realness per patch of a filled mouth (n, 2, 48, 96), its hole as the second channel."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = [2, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, spectral_norm(nn.Conv2d(sizes[-1], 1, 3, 1, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x[:, :1].mean((2, 3), keepdim=True)
        spread = x[:, :1].std((2, 3), keepdim=True) + 0.05
        return self.body(torch.cat([(x[:, :1] - mean) / spread, x[:, 1:]], 1))


class Objective:
    """The loss of one batch; trains the discriminator on the way."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.judge = Discriminator().to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.judge.parameters(), 3e-4, (0.5, 0.99))

    def __call__(self, network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        mouth, hole, target = (
            getattr(batch, k).to(self.device) for k in ("mouth", "hole", "target")
        )
        content = network(mouth * (1 - hole), hole, target).float()
        filled = mouth + hole * (content - mouth)
        area = hole.sum() + 1
        across = (filled - mouth).diff(dim=3).abs().sum() + (filled - mouth).diff(dim=2).abs().sum()
        self._train_judge(mouth, filled.detach(), hole)
        self.judge.requires_grad_(False)
        near = F.max_pool2d(hole, 8, 8)
        seen = self.judge(torch.cat([filled, hole], 1))
        terms = {
            "same": 8 * (hole * (content - mouth).abs()).sum() / area,
            "edges": 4 * across / area,
            "adversarial": -0.1 * (seen * near).sum() / near.sum().clamp(min=1),
        }
        self.judge.requires_grad_(True)
        return terms

    def _train_judge(self, real: torch.Tensor, fake: torch.Tensor, hole: torch.Tensor) -> None:
        near = F.max_pool2d(hole, 8, 8)
        count = near.sum().clamp(min=1)
        loss = (F.relu(1 - self.judge(torch.cat([real, hole], 1))) * near).sum() / count
        loss = loss + (F.relu(1 + self.judge(torch.cat([fake, hole], 1))) * near).sum() / count
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


@torch.inference_mode()
def measure(network: nn.Module, mouths: Mouths) -> dict[str, object]:
    """Mean absolute error inside the hole on validation people, and that of a flat fill."""
    rows = np.flatnonzero(mouths.validation)
    mouth = torch.from_numpy(mouths.pixels[rows])[:, None]
    hole = torch.from_numpy(mouths.holes[rows])[:, None]
    target = F.one_hot(torch.from_numpy(mouths.emotions[rows]), len(EMOTIONS)).float()
    content = network(mouth * (1 - hole), hole, target)
    flat = (mouth * hole).sum() / hole.sum()
    return {
        "people_not_trained_on": len(rows),
        "l1_inside": round(float((hole * (content - mouth).abs()).sum() / hole.sum()), 4),
        "l1_inside_of_a_flat_fill": round(
            float((hole * (flat - mouth).abs()).sum() / hole.sum()), 4
        ),
    }


def main(argv: list[str]) -> None:
    """Train the mouth network."""
    options = parse_options("mouth", argv)
    torch.manual_seed(options.seed)
    cache = options.out / "clips_train.npz"
    mouths = load_mouths(options.data, options.media, cache, options.facemesh_python)
    print(f"{len(mouths.weights)} open mouths", flush=True)
    schedule = Schedule(rate=1e-3, average=0.998, weight_decay=1e-4)
    trainer = Trainer("mouth", MouthNetwork(), options, schedule)
    trainer.run(Sampler(mouths, options.seed), Objective(trainer.device))
    average = trainer.average.cpu().float().eval()
    metrics = measure(average, mouths)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step, "batch": BATCH}
    path = options.out / "mouth.onnx"
    metrics["parity_error"] = to_onnx(average, MOUTH, path, facts={"paper": "mien's own"})
    metrics["sha256"] = sha256_of(path)
    metrics["quality"] = {"l1_inside_unseen_people": metrics["l1_inside"]}
    write_metrics(options.out / "mouth.json", metrics)
    write_card(options.out / "mouth.md", "The mouth network", card_sections(metrics))


def card_sections(metrics: dict[str, object]) -> dict[str, str]:
    """The model card, from what was measured."""
    return {
        "What it is": (
            "A 48x96 luma crop of a mouth whose inside is blanked, the blank's shape and a weight "
            "per emotion to what may lie inside: teeth, tongue, dark. 0.25 M parameters."
        ),
        "Data": data_text(
            ("faces160", "clips"),
            "\nOnly mouths that stand open are used. The labels are FaceMesh points (mediapipe "
            "0.10.21) mapped to 106 by `mien.training.facemesh`.",
        ),
        "Training": (
            f"`python -m mien.training mouth --minutes {metrics['minutes']:.0f}`: "
            f"{metrics['minutes']} minutes, {metrics['steps']} steps of {metrics['batch']}, two "
            "processor cores, bfloat16 autocast, averaged weights. L1, L1 of gradients, and a "
            "patch discriminator."
        ),
        "Quality": (
            f"On {metrics['people_not_trained_on']} open mouths of people that were not trained "
            f"on: mean absolute error inside the hole {metrics['l1_inside']}, where a flat fill "
            f"with the mean has {metrics['l1_inside_of_a_flat_fill']} (luma in 0..1)."
        ),
        "Limits": (
            "It invents teeth: they are plausible, not the person's own. Its detail is that of a "
            "mouth 56 pixels wide; on a face that fills a 1080p frame teeth look soft."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }
