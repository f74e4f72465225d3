"""The recipe of the warp editor.

Objective, on aligned luma crops of FER-2013 (training split) and faces160 (training people):

- the displacement follows the fitted prototype of the target (`training.warp.displacements`), L1;
- frozen classifiers (`training.warp.guide`) see the target emotion in the warped crop;
- a projection discriminator with hinge loss (StarGAN's adversarial part; Miyato and Koyama 2018)
  finds the edited crop among real ones of that emotion;
- the flow keeps its orientation (a penalty where its Jacobian's determinant falls below 0.4), and
  lips their thickness, for a classifier likes a mouth that opens through its lips;
- like faces get like edits (a relit, slightly moved copy must be edited the same way), which is
  what keeps a video calm.

Lips part for surprise and fear only, as at run time (`runtime.methods.warp.speech`); what they
uncover is painted crudely here, so that the classifiers can see an open mouth.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from mien.engines import WARP
from mien.export.models.warp import WarpNetwork
from mien.export.onnx_file import sha256_of, to_onnx
from mien.runtime.faces.action_units import OUTER_EYES, RIGHT_HALF
from mien.runtime.faces.topology import INNER_LIPS_LOWER, INNER_LIPS_UPPER, MIRROR
from mien.runtime.methods.warp.editor import AMOUNTS
from mien.runtime.methods.warp.mouth import LOWER_LIP, UPPER_LIP
from mien.runtime.methods.warp.speech import OPENS
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, Crops, balanced_weights, clear_crops, load_crops
from mien.training.recipe import (
    Options,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    write_card,
    write_metrics,
)
from mien.training.warp.displacements import TargetDisplacements, expressed_unit
from mien.training.warp.flow import dense_flow, hold_brows, keep_lips, warp
from mien.training.warp.guide import CLASSES, jitter, load_guides

BATCH = 32
# How often each emotion is asked for: those that are hard to tell from others more often.
ASKED = np.array([0.08, 0.11, 0.11, 0.12, 0.2, 0.2, 0.14, 0.04])
# How much of each action unit an edit may show at strength 1, in outer-eye distances: a little more
# than what its prototypes ask for.
MOST = {
    "1": 0.10, "2": 0.10, "4": 0.09, "5": 0.05, "6": 0.06, "7": 0.04, "43": 0.04, "9": 0.10,
    "10": 0.09, "12": 0.14, "15": 0.10, "17": 0.055, "20": 0.095, "23": 0.05, "25": 0.065,
    "26": 0.11, "22": 0.045,
}  # fmt: skip
# Brightness of what opens between the lips, relative to the skin: the dark of the mouth.
INSIDE = (0.4, 0.4, 0.4, 0.3, 0.45, 0.4, 0.4, 0.4)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the loss terms."""

    follow: float = 1.3
    guide: float = 1.0
    adversarial: float = 0.08
    fold: float = 4.0
    lips: float = 1.0
    alike: float = 1.0


class Discriminator(nn.Module):
    """Realness of crops (n, 1, 64, 64) as faces of the target (n, 8): (n,)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [1, width, 2 * width, 3 * width, 4 * width]
        self.body = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in itertools.pairwise(sizes)
        )
        self.real = spectral_norm(nn.Linear(sizes[-1], 1))
        self.emotion = spectral_norm(nn.Linear(len(EMOTIONS), sizes[-1], bias=False))

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.05)
        for conv in self.body:
            x = F.leaky_relu(conv(x), 0.2)
        x = x.sum((2, 3)) / 4
        return self.real(x)[:, 0] + (self.emotion(target) * x).sum(1)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step looks at.

    faces, real: (n, 1, 64, 64). landmarks: (n, 106, 2). target, real_emotion: (n, 8).
    """

    faces: torch.Tensor
    landmarks: torch.Tensor
    target: torch.Tensor
    real: torch.Tensor
    real_emotion: torch.Tensor


class Sampler:
    """Draws batches: faces of any emotion, targets, and real faces of the targets' emotions."""

    def __init__(self, crops: Crops, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.crops = crops
        weights = balanced_weights(crops.emotions)
        weights[crops.source == FACES160] *= 2.0  # sharper, better labelled
        self.weights = weights / weights.sum()

    def __call__(self) -> Batch:
        faces, landmarks, _ = self._faces(BATCH)
        real, _, emotion = self._faces(BATCH)
        target = torch.from_numpy(self._targets(BATCH))
        return Batch(faces, landmarks, target, real, emotion)

    def _faces(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = self.rng.choice(len(self.weights), count, p=self.weights)
        pixels = self.crops.pixels[rows].astype(np.float32) / 255
        landmarks = self.crops.landmarks[rows].copy()
        mirrored = self.rng.random(count) < 0.5
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        landmarks[mirrored] = landmarks[mirrored][:, MIRROR]
        landmarks[mirrored, :, 0] = 1 - landmarks[mirrored, :, 0]
        faces = torch.from_numpy(pixels)[:, None]
        sharp = torch.from_numpy(self.crops.source[rows] == FACES160)
        soft = F.interpolate(faces, size=46, mode="bilinear", antialias=True, align_corners=False)
        soft = F.interpolate(soft, size=64, mode="bicubic", align_corners=False)
        # FER-2013 is 48 pixels wide: the discriminator must not tell the sources by sharpness.
        blur = sharp & torch.from_numpy(self.rng.random(count) < 0.85)
        faces = torch.where(blur[:, None, None, None], soft, faces)
        light = torch.from_numpy(self.rng.normal(1, 0.15, (count, 1, 1, 1)).astype(np.float32))
        faces = (faces * light).clamp(0, 1)
        emotion = F.one_hot(torch.from_numpy(self.crops.emotions[rows]), len(EMOTIONS)).float()
        return faces, torch.from_numpy(landmarks), emotion

    def _targets(self, count: int) -> np.ndarray:
        targets = np.zeros((count, len(EMOTIONS)), np.float32)
        for row in targets:
            first, second = self.rng.choice(len(EMOTIONS), 2, replace=False, p=ASKED)
            draw = self.rng.random()
            share = self.rng.uniform(0.2, 0.8)
            if draw < 0.7:
                row[first] = 1
            elif draw < 0.85:
                row[first], row[second] = share, 1 - share
            else:
                row[first] = share
        return targets


def unit_table() -> tuple[torch.Tensor, torch.Tensor]:
    """The movements of the action units by halves (2k, 212), crop units, and their most (2k,)."""
    right = np.zeros(106, bool)
    right[list(RIGHT_HALF)] = True
    middle = np.arange(106) == MIRROR
    share = np.where(middle, 0.5, np.where(right, 0.0, 1.0))[:, None]
    rows, most = [], []
    for number, largest in MOST.items():
        whole = expressed_unit(number) * OUTER_EYES
        for part in (share, 1 - share):
            rows.append((whole * part).reshape(212))
            most.append(largest)
    return torch.tensor(np.stack(rows)).float(), torch.tensor(most).float()


def lips_opening(landmarks: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the mouth is open: soft mask (n, 1, size, size) and mean height (n,), crop units."""
    axis = (torch.arange(size, device=landmarks.device) + 0.5) / size
    upper = landmarks[:, list(INNER_LIPS_UPPER)]
    lower = landmarks[:, list(INNER_LIPS_LOWER)]
    top, bottom = _curve(upper, axis), _curve(lower, axis)  # (n, size): y at each column
    height = (bottom - top).clamp(min=0)
    soft = 0.35 / size
    y = axis[None, :, None]
    inside = torch.sigmoid((y - top[:, None]) / soft) * torch.sigmoid((bottom[:, None] - y) / soft)
    left, right = upper[:, 0, 0], upper[:, -1, 0]
    within = (axis[None] > left[:, None]) & (axis[None] < right[:, None])
    mask = inside * (height > 0.004)[:, None] * within[:, None]
    mean = (lower[:, 1:4, 1] - upper[:, 1:4, 1]).clamp(min=0).mean(1)
    return mask[:, None], mean


def _curve(points: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """Piecewise linear y over x through points (n, k, 2), flat beyond the ends: (n, len(axis))."""
    x, y = points[..., 0], points[..., 1]
    result = y[:, :1].expand(-1, len(axis))
    for i in range(points.shape[1] - 1):
        run = (x[:, i + 1 : i + 2] - x[:, i : i + 1]).clamp(min=1e-3)
        part = ((axis[None] - x[:, i : i + 1]) / run).clamp(0, 1)
        result = result + part * (y[:, i + 1 : i + 2] - y[:, i : i + 1])
    return result


class Objective:
    """The loss of one batch; trains the discriminator on the way."""

    def __init__(self, guides: Path, device: torch.device, checkpoint: Path | None = None) -> None:
        self.device = device
        self.weights = Weights()
        self.guides = load_guides(guides).to(device)
        self.displacements = TargetDisplacements(device)
        self.discriminator = Discriminator().to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), 3e-4, (0.5, 0.99))
        self.inside = torch.tensor(INSIDE, device=device)
        self.opens = torch.tensor(OPENS, device=device)
        self.checkpoint = checkpoint
        self.step = 0
        if checkpoint is not None and checkpoint.exists():
            state = torch.load(checkpoint, map_location=device, weights_only=True)
            self.discriminator.load_state_dict(state["judge"])
            self.optimizer.load_state_dict(state["optimizer"])

    def __call__(self, network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        faces, landmarks, target, real, emotion = (
            getattr(batch, name).to(self.device) for name in Batch.__dataclass_fields__
        )
        w = self.weights
        with torch.no_grad():
            present = self._present(faces)
            wanted = self.displacements.displacement(landmarks, present, target)
        displacement = network(faces, landmarks, target).float()
        edited, flow = self.apply(faces, landmarks, displacement, target)
        again = network(*self._copy(faces, landmarks), target).float()
        whole = (target.sum(1) > 0.99).float()
        terms = {
            "follow": w.follow * (displacement - wanted).abs().mean() / 0.006,
            "guide": w.guide * (self._guidance(edited, target) * whole).sum() / whole.sum(),
            "fold": w.fold * self._folds(flow),
            "lips": w.lips * self._thin_lips(landmarks, displacement),
            "alike": w.alike * 0.3 * F.l1_loss(again, displacement) / 0.006,
        }
        self._train_discriminator(real, emotion, edited.detach(), target)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        terms["adversarial"] = -w.adversarial * (self.discriminator(edited, target) * whole).mean()
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        self.step += 1
        if self.checkpoint is not None and self.step % 500 == 0:
            state = {
                "judge": self.discriminator.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            torch.save(state, self.checkpoint)
        return terms

    def apply(
        self,
        faces: torch.Tensor,
        landmarks: torch.Tensor,
        displacement: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The edited crops and the flow (n, 2, 32, 32)."""
        with torch.autocast(self.device.type, enabled=False):
            displacement = hold_brows(landmarks, displacement)
            displacement = keep_lips(displacement, target @ self.opens)
            flow = dense_flow(landmarks, displacement, 32)
            moved = warp(faces, flow)
            mask, height = lips_opening(landmarks + displacement, 64)
            _, before = lips_opening(landmarks, 64)
            stretched = (height + 0.004) / (before + 0.004)
            fill = ((stretched - 1.5) / 1.5).clamp(0, 1)[:, None, None, None]
            skin = faces[:, :, 24:48, 12:52].mean((2, 3), keepdim=True)
            inside = (target @ self.inside)[:, None, None, None] * skin
            moved = moved + mask * fill * (inside - moved)
        return moved.clamp(0, 1), flow

    def _present(self, faces: torch.Tensor) -> torch.Tensor:
        odds = sum(F.softmax(guide(faces).float(), 1) for guide in self.guides) / len(self.guides)
        return F.pad(odds, (0, len(EMOTIONS) - CLASSES))

    def _guidance(self, edited: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        known = target[:, :CLASSES]
        seen = jitter(edited)
        total = torch.zeros(len(edited), device=edited.device)
        for guide in self.guides:
            total = total - (known * F.log_softmax(guide(seen).float(), 1)).sum(1)
        return total / len(self.guides)

    @staticmethod
    def _copy(faces: torch.Tensor, landmarks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn_like(faces) * 0.02
        light = 1 + 0.1 * torch.randn(len(faces), 1, 1, 1, device=faces.device)
        wobble = torch.randn_like(landmarks) * 0.003
        return (faces * light + noise).clamp(0, 1), landmarks + wobble

    @staticmethod
    def _folds(flow: torch.Tensor) -> torch.Tensor:
        size = flow.shape[-1]
        along_x = (flow[..., :-1, 1:] - flow[..., :-1, :-1]) * size
        along_y = (flow[..., 1:, :-1] - flow[..., :-1, :-1]) * size
        area = (1 + along_x[:, 0]) * (1 + along_y[:, 1]) - along_x[:, 1] * along_y[:, 0]
        return F.relu(0.4 - area).mean() * 10 + (along_x.square() + along_y.square()).mean() * 0.2

    @staticmethod
    def _thin_lips(landmarks: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """How much of a lip's thickness an edit takes, beyond a fifth."""
        pairs = torch.tensor(UPPER_LIP + LOWER_LIP)
        before = landmarks[:, pairs[:, 1], 1] - landmarks[:, pairs[:, 0], 1]
        moved = landmarks[..., 1] + displacement[..., 1]
        after = (moved[:, pairs[:, 1]] - moved[:, pairs[:, 0]]) * before.sign()
        return F.relu(0.8 * before.abs() - after).mean() / 0.006

    def _train_discriminator(
        self, real: torch.Tensor, emotion: torch.Tensor, fake: torch.Tensor, target: torch.Tensor
    ) -> None:
        loss = F.relu(1 - self.discriminator(real, emotion)).mean()
        loss = loss + F.relu(1 + self.discriminator(fake, target)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def new_network(crops: Crops, seed: int) -> WarpNetwork:
    """The untrained editor with the mean of the training faces."""
    torch.manual_seed(seed)
    units, most = unit_table()
    return WarpNetwork(units, most, torch.from_numpy(crops.landmarks.mean(0)))


@torch.inference_mode()
def measure(
    network: nn.Module, objective: Objective, crops: Crops, count: int = 512
) -> dict[str, Any]:
    """On neutral faces of validation people and splits: accuracy by the guides, folds, distance."""
    rows = np.flatnonzero(crops.validation & (crops.emotions == 0))[:count]
    faces = torch.from_numpy(crops.pixels[rows]).float().div(255)[:, None]
    landmarks = torch.from_numpy(crops.landmarks[rows])
    result: dict[str, dict[str, float]] = {}
    for index, emotion in enumerate(EMOTIONS):
        target = F.one_hot(torch.full((len(rows),), index), len(EMOTIONS)).float()
        displacement = network(faces, landmarks, target)
        displacement = displacement * float(AMOUNTS[index])  # as the runtime shows it
        edited, flow = objective.apply(faces, landmarks, displacement, target)
        odds = objective._present(edited)
        result[emotion] = {
            "seen_by_the_guides": round(float((odds.argmax(1) == index).float().mean()), 3),
            "displacement_percent": round(100 * float(displacement.norm(dim=2).mean()), 3),
            "folds": round(float(objective._folds(flow)), 5),
        }
    return {"faces": len(rows), "emotions": result}


def main(argv: list[str]) -> None:
    """Train, measure and export the editor; needs `guides.pt` of the guide recipe in `--out`."""
    options: Options = parse_options("warp", argv)
    crops = clear_crops(load_crops(options.data, 64, options.out), options.data)
    train = crops.select(~crops.validation)
    schedule = Schedule(rate=6e-4, average=0.998, weight_decay=1e-4, clip_norm=2.0)
    network = new_network(train, options.seed)
    trainer: Trainer[Batch] = Trainer("warp", network, options, schedule)
    objective = Objective(options.out / "guides.pt", trainer.device, options.out / "warp-judge.pt")
    trainer.run(Sampler(train, options.seed), objective)
    average = trainer.average.cpu().float().eval()
    objective = Objective(options.out / "guides.pt", torch.device("cpu"))
    metrics = measure(average, objective, crops)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step, "batch": BATCH}
    path = options.out / "warp.onnx"
    facts = {"paper": "mien's own, on StarGAN's objective", "targets": ",".join(EMOTIONS)}
    metrics["parity_error"] = to_onnx(average, WARP, path, facts=facts)
    metrics["sha256"] = sha256_of(path)
    metrics["quality"] = {
        f"guides_agree_{emotion}": row["seen_by_the_guides"]
        for emotion, row in metrics["emotions"].items()
        if emotion in EMOTIONS[:CLASSES]
    }
    write_metrics(options.out / "warp.json", metrics)
    write_card(options.out / "warp.md", "The warp editor", card_sections(metrics))


def card_sections(metrics: dict[str, Any]) -> dict[str, str]:
    """The model card, from what was measured."""
    rows = "\n".join(
        f"| {emotion} | {row['seen_by_the_guides']:.2f} | {row['displacement_percent']:.1f} | "
        f"{row['folds']:.4f} |"
        for emotion, row in metrics["emotions"].items()
    )
    return {
        "What it is": (
            "An aligned 64x64 luma crop, its 106 landmarks and a weight per emotion to a "
            "displacement of each landmark, made of bounded amounts of 17 facial action units for "
            "each half of the face. The runtime makes the flow of the displacements "
            "(`mien.runtime.methods.warp.flow`)."
        ),
        "Data": data_text(
            ("faces160", "fer2013"),
            "\nThe labels are FaceMesh points (mediapipe 0.10.21) mapped to 106 by "
            "`mien.training.data.facemesh`. What each emotion moves comes from facial action units "
            "(`mien.training.warp.displacements`), not from class means, which are faint where "
            "labels are noisy. Contempt has no guide and few pictures: it is its prototype alone.",
        ),
        "Training": (
            f"`python -m mien.training guide` (two classifiers, never shipped) and a "
            "checkpoint of `python -m mien.training emotions --seed 1` as a third, then `python -m "
            f"mien.training warp --minutes {metrics['minutes']:.0f}`: {metrics['minutes']} "
            f"minutes, {metrics['steps']} steps of {metrics['batch']}, one processor core, "
            "bfloat16 autocast, averaged weights. Then `python -m mien.training warp_amounts`: the "
            "guides move the amounts of sadness, disgust and anger, each as one vector within "
            "bounds that are set by hand, 40 steps of 16 faces, fear's are set by hand, and the "
            "last layer is fitted to them. Units 9 and 12 (brows that a wrinkled nose knits less, "
            "lips that rise with a smile) and the most that units 5 and 9 may show were changed "
            "between the two."
        ),
        "Quality": (
            "On neutral faces of people and splits that were not trained on. The share of edits "
            "that the guides take for the target says only that training worked, for the guides "
            "took part in it; docs/quality.md has the verdict of FaceMesh and of a classifier that "
            "did not.\n\n| target | guides agree | mean displacement, percent of the crop | "
            "fold penalty |\n|---|---|---|---|\n" + rows
        ),
        "Limits": (
            "Trained on faces within about 40 degrees of the camera; the runtime fades out beyond "
            "25. Fear is often taken for surprise or sadness, and disgust for anger. What glasses "
            "cover, and how far lips are open, is the runtime's to decide and not the network's."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }
