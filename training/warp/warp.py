"""The recipe of the warp editor.

Objective, on aligned luma crops of faces160 (training people) with lessons of the Emotion
Manipulation Mapper (`training.warp.lessons`):

- the displacement and the light of every emotion follow the lessons, L1, the light's edges too, for
  folds are fine; contempt, which the mapper hardly knows, and the mouths of sadness and anger are
  as of their prototypes (`training.warp.displacements`), and contempt changes no light;
- frozen classifiers (`training.warp.guide`) see the target emotion in the edited crop, of which
  they judge the movement and not the light: asked about that as well, they draw stains;
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
from mien.export.read_back import read_back, weights_of
from mien.runtime.faces.topology import INNER_LIPS_LOWER, INNER_LIPS_UPPER, MIRROR
from mien.runtime.methods.warp.editor import ADDED_MOVES, AMOUNTS
from mien.runtime.methods.warp.mouth import LOWER_LIP, UPPER_LIP
from mien.runtime.methods.warp.proportions import LIPS
from mien.runtime.methods.warp.speech import FROM_BELOW, OPENS
from mien.runtime.target import EMOTIONS, MAX_STRENGTH
from mien.training.data.crops import FACES160, Crops, balanced_weights, clear_crops, load_crops
from mien.training.recipe import (
    Options,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    training_in,
    write_card,
    write_metrics,
)
from mien.training.warp.displacements import TargetDisplacements, foreshorten
from mien.training.warp.flow import (
    creased,
    dense_flow,
    hold_brows,
    keep_lids,
    keep_lips,
    warp,
    with_outline,
)
from mien.training.warp.guide import CLASSES, jitter, load_guides
from mien.training.warp.lessons import Lessons, load_lessons

BATCH = 32
RATE, FURTHER_RATE = 1e-3, 5e-4  # from the beginning, and from weights that were trained
# How often each emotion is asked for: those that are hard to tell from others more often.
ASKED = np.array([0.08, 0.11, 0.11, 0.12, 0.2, 0.2, 0.14, 0.04])
MODES = 48  # principal components of the lessons' displacements
# Emotions whose mouths are their prototype's, and how much of it: the mapper parts their lips, and
# where these stay closed, what is left of that looks like a smile.
MOUTHS = {"sad": 0.45, "angry": 0.5}
# Of the crop's side and of the light: the differences that count as 1 in the loss.
FAR, BRIGHT = 0.006, 0.06
# Brightness of what opens between the lips, relative to the skin: the dark of the mouth.
INSIDE = (0.4, 0.4, 0.4, 0.3, 0.45, 0.4, 0.4, 0.4)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the loss terms."""

    follow: float = 1.3
    light: float = 1.0
    guide: float = 0.4
    adversarial: float = 0.04
    fold: float = 2.0
    lips: float = 1.0
    alike: float = 0.3


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

    faces, real: (n, 1, 64, 64). landmarks: (n, 106, 2). displacement: (n, 8, 106, 2) and light:
    (n, 8, 64, 64), what every emotion is to do. target, real_emotion: (n, 8).
    """

    faces: torch.Tensor
    landmarks: torch.Tensor
    displacement: torch.Tensor
    light: torch.Tensor
    target: torch.Tensor
    real: torch.Tensor
    real_emotion: torch.Tensor


class Sampler:
    """Draws batches: faces with their lessons, targets, and real faces of the targets' emotions."""

    def __init__(self, crops: Crops, taught: Taught, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.crops, self.taught = crops, taught
        self.weights = _press_first(crops)
        self.taught_weights = balanced_weights(taught.crops.emotions)

    def __call__(self) -> Batch:
        rows = self.rng.choice(len(self.taught_weights), BATCH, p=self.taught_weights)
        faces, landmarks, _, mirrored = self._faces(self.taught.crops, rows)
        displacement = self.taught.displacement[rows].astype(np.float32)
        light = self.taught.light[rows].astype(np.float32) / 127
        displacement[mirrored] = displacement[mirrored][:, :, MIRROR] * np.float32([-1, 1])
        light[mirrored] = light[mirrored][..., ::-1]
        chosen = self.rng.choice(len(self.weights), BATCH, p=self.weights)
        real, _, emotion, _ = self._faces(self.crops, chosen)
        return Batch(
            faces,
            landmarks,
            torch.from_numpy(displacement),
            torch.from_numpy(light.copy()),
            torch.from_numpy(self._targets(BATCH)),
            real,
            emotion,
        )

    def _faces(
        self, crops: Crops, rows: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
        count = len(rows)
        pixels = crops.pixels[rows].astype(np.float32) / 255
        landmarks = crops.landmarks[rows].copy()
        mirrored = self.rng.random(count) < 0.5
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        landmarks[mirrored] = landmarks[mirrored][:, MIRROR]
        landmarks[mirrored, :, 0] = 1 - landmarks[mirrored, :, 0]
        faces = torch.from_numpy(pixels)[:, None]
        sharp = torch.from_numpy(crops.source[rows] == FACES160)
        soft = F.interpolate(faces, size=46, mode="bilinear", antialias=True, align_corners=False)
        soft = F.interpolate(soft, size=64, mode="bicubic", align_corners=False)
        # FER-2013 is 48 pixels wide: the discriminator must not tell the sources by sharpness.
        blur = sharp & torch.from_numpy(self.rng.random(count) < 0.85)
        faces = torch.where(blur[:, None, None, None], soft, faces)
        light = torch.from_numpy(self.rng.normal(1, 0.15, (count, 1, 1, 1)).astype(np.float32))
        faces = (faces * light).clamp(0, 1)
        emotion = F.one_hot(torch.from_numpy(crops.emotions[rows]), len(EMOTIONS)).float()
        return faces, torch.from_numpy(landmarks), emotion, mirrored

    def _targets(self, count: int) -> np.ndarray:
        targets = np.zeros((count, len(EMOTIONS)), np.float32)
        for row in targets:
            first, second = self.rng.choice(len(EMOTIONS), 2, replace=False, p=ASKED)
            if self.rng.random() < 0.85:
                row[first] = 1
            else:
                share = self.rng.uniform(0.2, 0.8)
                row[first], row[second] = share, 1 - share
        return targets


def _press_first(crops: Crops) -> np.ndarray:
    weights = balanced_weights(crops.emotions)
    weights[crops.source == FACES160] *= 2.0  # sharper, better labelled
    return weights / weights.sum()


@dataclass(frozen=True, slots=True)
class Taught:
    """Faces with what every emotion is to do to them.

    displacement: float16 (n, 8, 106, 2). light: int8 (n, 8, 64, 64), 127 times the change.
    """

    crops: Crops
    displacement: np.ndarray
    light: np.ndarray


def taught_faces(crops: Crops, lessons: Lessons) -> Taught:
    """The faces that have lessons; contempt and the mouths of MOUTHS are as of their prototypes."""
    chosen = crops.select(lessons.rows)
    landmarks = torch.from_numpy(chosen.landmarks)
    count = len(landmarks)
    present = torch.zeros(count, len(EMOTIONS))
    displacements = TargetDisplacements(torch.device("cpu"))

    def prototype(emotion: str) -> np.ndarray:
        index = torch.full((count,), EMOTIONS.index(emotion))
        target = F.one_hot(index, len(EMOTIONS)).float()
        moved: np.ndarray = displacements.displacement(landmarks, present, target).numpy()
        return moved

    contempt = prototype("contemptuous").astype(np.float16)[:, None]
    displacement = np.concatenate([lessons.displacement, contempt], 1)
    for emotion, share in MOUTHS.items():
        row, lips = EMOTIONS.index(emotion), list(LIPS)
        whole = displacement[:, row, lips].astype(np.float32).mean(1, keepdims=True)
        mouth = whole + share * prototype(emotion)[:, lips]
        displacement[:, row, lips] = mouth.astype(np.float16)
    light = np.concatenate([lessons.light, np.zeros_like(lessons.light[:, :1])], 1)
    return Taught(chosen, displacement, light)


def movement_modes(taught: Taught, count: int = MODES) -> torch.Tensor:
    """The principal components (count, 212) of the displacements and their mirror images.

    Each is as long as its standard deviation.
    """
    moves = taught.displacement.astype(np.float32)
    mirrored = moves[:, :, MIRROR] * np.float32([-1, 1])
    flat = np.concatenate([m.reshape(-1, 212) for m in (moves, mirrored)])
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    kept = slice(-1, -1 - count, -1)
    scale = np.sqrt(np.maximum(values[kept], 0))
    return torch.from_numpy((vectors[:, kept] * scale).T.astype(np.float32).copy())


def explained_share(modes: torch.Tensor, taught: Taught) -> float:
    """How much of the displacements' square sum lies in the space of modes (k, 212)."""
    moves = taught.displacement.astype(np.float64).reshape(-1, 212)
    basis, _ = np.linalg.qr(modes.double().numpy().T)
    return float(((moves @ basis) ** 2).sum() / max(float((moves**2).sum()), 1e-12))


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
        self.discriminator = Discriminator().to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), 3e-4, (0.5, 0.99))
        self.inside = torch.tensor(INSIDE, device=device)
        self.opens = torch.tensor(OPENS, device=device)
        self.from_below = torch.tensor(FROM_BELOW, device=device)
        self.amounts = torch.from_numpy(AMOUNTS).to(device)
        self.added = torch.from_numpy(ADDED_MOVES).to(device)
        self.checkpoint = checkpoint
        self.step = 0
        if checkpoint is not None and checkpoint.exists():
            state = torch.load(checkpoint, map_location=device, weights_only=True)
            self.discriminator.load_state_dict(state["judge"])
            self.optimizer.load_state_dict(state["optimizer"])

    def __call__(self, network: WarpNetwork, batch: Batch) -> dict[str, torch.Tensor]:
        faces, landmarks, wanted, wanted_light, target, real, emotion = (
            getattr(batch, name).to(self.device) for name in Batch.__dataclass_fields__
        )
        w = self.weights
        moves, lights = (x.float() for x in network.each(faces, landmarks))
        again, again_light = (x.float() for x in network.each(*self._copy(faces, landmarks)))
        displacement = (moves * target[:, :, None, None]).sum(1)
        light = (lights * target[:, :, None, None]).sum(1, keepdim=True)
        # Classifiers judge the movement only: asked about light as well, they draw stains.
        edited, flow = self.apply(faces, landmarks, displacement, light.detach(), target)
        alike = F.l1_loss(again, moves) / FAR + F.l1_loss(again_light, lights) / BRIGHT
        terms = {
            "follow": w.follow * (moves - wanted).abs().mean() / FAR,
            "light": w.light * self._light_error(lights, wanted_light),
            "guide": w.guide * self.guidance(edited, target).mean(),
            "fold": w.fold * self.folds(flow),
            "lips": w.lips * self._thin_lips(landmarks, displacement),
            "alike": w.alike * alike,
        }
        self._train_discriminator(real, emotion, edited.detach(), target)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        terms["adversarial"] = -w.adversarial * self.discriminator(edited, target).mean()
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        self.step += 1
        if self.checkpoint is not None and self.step % 500 == 0:
            state = {
                "judge": self.discriminator.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            part = self.checkpoint.with_suffix(".part")  # a run may be stopped while it writes
            torch.save(state, part)
            part.replace(self.checkpoint)
        return terms

    @staticmethod
    def _light_error(light: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """How far light is from the lessons', its steps from cell to cell counted too."""
        rest = light - wanted
        steps = rest.diff(dim=-1).abs().mean() + rest.diff(dim=-2).abs().mean()
        return (rest.abs().mean() + steps) / BRIGHT

    def apply(
        self,
        faces: torch.Tensor,
        landmarks: torch.Tensor,
        displacement: torch.Tensor,
        light: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The edited crops and the flow (n, 2, 32, 32), as the runtime shows a displacement.

        That is as much of it as AMOUNTS says, with ADDED_MOVES, within an outline that stays, and
        of its light what follows folds; the classifiers judge what people see.
        """
        with torch.autocast(self.device.type, enabled=False):
            added = foreshorten(landmarks, torch.einsum("ne,epd->npd", target, self.added))
            share = target / target.sum(1, keepdim=True).clamp(min=1e-6)
            amount = (share @ self.amounts)[:, None, None]
            shown = with_outline(displacement * amount + added)
            # at intensity 1, brows are held back by their share of what the strongest needs
            strongest = shown * MAX_STRENGTH
            shown = shown + (hold_brows(landmarks, strongest) - strongest) / MAX_STRENGTH
            shown = keep_lips(shown, target @ self.opens, share @ self.from_below)
            displacement = keep_lids(landmarks, shown)
            flow = dense_flow(landmarks, displacement, 32)
            moved = warp(faces, flow) * (1 + creased(light, share))
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

    def guidance(self, edited: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How far the guides are from naming each edited crop as its target: (n,)."""
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
    def folds(flow: torch.Tensor) -> torch.Tensor:
        """A penalty where a flow (n, 2, s, s) turns over or is uneven."""
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


def new_network(taught: Taught, seed: int, begin_with: Path | None = None) -> WarpNetwork:
    """The untrained editor with the modes of the lessons and the mean face.

    begin_with: a folder of models; the editor is then the one there, with its own modes.
    """
    torch.manual_seed(seed)
    if begin_with is not None:
        return editor_of(begin_with)
    return WarpNetwork(movement_modes(taught), torch.from_numpy(taught.crops.landmarks.mean(0)))


def editor_of(models: Path) -> WarpNetwork:
    """The editor of a folder of models, with its own modes."""
    path = models / f"{WARP.name}.onnx"
    kept = weights_of(path)
    modes, mean = (torch.tensor(kept[name]) for name in ("modes", "mean"))
    return read_back(WarpNetwork(modes, mean), WARP, path)


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
        displacement, light = network(faces, landmarks, target)
        amount = float(AMOUNTS[index])  # as the runtime shows it
        edited, flow = objective.apply(faces, landmarks, displacement, light, target)
        odds = objective._present(edited)
        result[emotion] = {
            "seen_by_the_guides": round(float((odds.argmax(1) == index).float().mean()), 3),
            "displacement_percent": round(100 * amount * float(displacement.norm(dim=2).mean()), 3),
            "light_percent": round(100 * float(light.abs().mean()), 3),
            "folds": round(float(objective.folds(flow)), 5),
        }
    return {"faces": len(rows), "emotions": result}


def main(argv: list[str]) -> None:
    """Train, measure and export the editor.

    Needs `guides.pt` of the recipe `guide` and `lessons.npz` of `warp-lessons` in `--out`.
    `--begin-with DIR` goes on with the editor of a folder of models, such as mien's own.
    """
    options: Options = parse_options("warp", argv, begins=True)
    lessons = load_lessons(options.out)
    if lessons is None:
        raise SystemExit(f"{options.out} holds no lessons.npz; run warp-lessons first")
    everyone = load_crops(options.data, 64, options.out)
    taught = taught_faces(everyone, lessons)
    crops = clear_crops(everyone, options.data)
    rate = RATE if options.begin_with is None else FURTHER_RATE
    schedule = Schedule(rate=rate, average=0.998, weight_decay=1e-4, clip_norm=2.0)
    network = new_network(taught, options.seed, options.begin_with)
    trainer: Trainer[Batch] = Trainer("warp", network, options, schedule)
    objective = Objective(options.out / "guides.pt", trainer.device, options.out / "warp-judge.pt")
    train = crops.select(~crops.validation)
    trainer.run(Sampler(train, taught, options.seed), objective)
    average = trainer.average.cpu().float().eval()
    objective = Objective(options.out / "guides.pt", torch.device("cpu"))
    metrics = measure(average, objective, crops)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step, "batch": BATCH}
    explained = explained_share(average.modes, taught)  # a run that goes on keeps its modes
    metrics |= {"lessons": len(lessons.rows), "modes_explain": round(explained, 4)}
    path = options.out / "warp.onnx"
    facts = {"paper": "mien's own, taught by the mapper of the method emm"}
    facts["targets"] = ",".join(EMOTIONS)
    metrics["parity_error"] = to_onnx(average, WARP, path, facts=facts)
    metrics["sha256"] = sha256_of(path)
    metrics["quality"] = {
        f"guides_agree_{emotion}": row["seen_by_the_guides"]
        for emotion, row in metrics["emotions"].items()
        if emotion in EMOTIONS[:CLASSES]
    }
    write_metrics(options.out / "warp.json", metrics)
    begun = "" if options.begin_with is None else training_in(options.begin_with / "warp.md")
    write_card(options.out / "warp.md", "The warp editor", card_sections(metrics, begun))


def card_sections(metrics: dict[str, Any], begun: str = "") -> dict[str, str]:
    """The model card, from what was measured. begun: the training before this run."""
    rows = "\n".join(
        f"| {emotion} | {row['seen_by_the_guides']:.2f} | {row['displacement_percent']:.1f} | "
        f"{row['light_percent']:.1f} | {row['folds']:.4f} |"
        for emotion, row in metrics["emotions"].items()
    )
    return {
        "What it is": (
            "An aligned 64x64 luma crop, its 106 landmarks and a weight per emotion to a "
            "displacement of each landmark and to the relative change of the skin's brightness on "
            "a grid of 64x64. The runtime makes the flow of the displacements "
            "(`mien.runtime.methods.warp.flow`)."
        ),
        "Data": data_text(
            ("faces160", "fer2013"),
            "\nThe labels are FaceMesh points (mediapipe 0.10.21) mapped to 106 by "
            "`mien.training.data.facemesh`. What each emotion does to a face is taken from the "
            f"pictures of the method `emm` of {metrics['lessons']} faces of training people "
            "(`python -m mien.training warp-lessons`); FER-2013 shows the discriminator real "
            "faces. Contempt has no guide, and the mapper hardly knows it: it is a prototype made "
            "of facial action units (`mien.training.warp.displacements`), without light. So are "
            "the mouths of sadness and anger, whose lips the mapper parts.",
        ),
        "Training": (
            f"{f'{begun} Then, from these weights: ' if begun else ''}"
            "`python -m mien.training guide` (two classifiers, never shipped) and a "
            "checkpoint of `python -m mien.training emotions --seed 1` as a third, then `python -m "
            f"mien.training warp --minutes {metrics['minutes']:.0f}`: {metrics['minutes']} "
            f"minutes, {metrics['steps']} steps of {metrics['batch']}, one processor core, "
            "bfloat16 autocast, averaged weights. Displacements are made of "
            f"{MODES} principal components, which explain {metrics['modes_explain']:.3f} of the "
            "lessons."
        ),
        "Quality": (
            "On neutral faces of people and splits that were not trained on. The share of edits "
            "that the guides take for the target says only that training worked, for the guides "
            "took part in it; docs/quality.md has the verdict of FaceMesh and of a classifier that "
            "did not.\n\n| target | guides agree | mean displacement, percent of the crop | mean "
            "change of brightness, percent | fold penalty |\n|---|---|---|---|---|\n" + rows
        ),
        "Limits": (
            "Trained on faces within about 40 degrees of the camera; the runtime fades out beyond "
            "25. What glasses cover, and how far lips are open, is the runtime's to decide and not "
            "the network's."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }
