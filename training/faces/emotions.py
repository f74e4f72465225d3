"""The recipe of `judge`, an emotion classifier trained only on FER-2013's training split.

Its labels are the votes of ten annotators (FER+). It measures edits and takes no part in making
them: what guides a training is another network from another seed (`--seed`).
`python -m mien.training emotions --data DIR --out DIR --minutes 35` writes `emotions.pt`, and
`judge.onnx` with its numbers and its card; a run that finds a checkpoint goes on from it, with a
rate that rises and falls once more.
"""

from __future__ import annotations

import argparse
import copy
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.networks import FER_CLASSES, FER_SIZE
from mien.export.models.emotions import EmotionClassifier, export_classifier
from mien.export.onnx_file import rounded_to_half, sha256_of
from mien.runtime.faces.alignment import fer_matrix, sample_crop
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import balanced_weights
from mien.training.data.faces import load_faces160, load_fer2013, load_votes, vote_shares
from mien.training.recipe import write_card, write_metrics

BATCH = 96
PEAK_RATE = 2.5e-3
EMA_SECONDS = 25.0  # memory of the averaged weights, bounded by the length of the run
SAVE_EVERY_S = 120.0
TRAINED_ON = "FER-2013's training split with the ten votes of FER+, nothing else"
BALANCE = 0.6  # how far rare emotions are shown as often as common ones: 0 not at all, 1 as often
CLEAR_VOTES = 5  # of ten, for one emotion: a picture whose label can be relied on
SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures with what people saw in them.

    pictures: uint8 (n, 1, 48, 48). votes: float32 (n, 7), shares of FER_CLASSES, adding up to one.
    """

    pictures: torch.Tensor
    votes: torch.Tensor

    @property
    def classes(self) -> torch.Tensor:
        """What most of them saw: int64 (n,), index into FER_CLASSES."""
        return self.votes.argmax(1)


def load_split(data: Path, split: str, *, clear: bool = False) -> Split:
    """FER-2013's `train`, `public` or `private` split, without what is no face or contempt.

    clear: only pictures in which CLEAR_VOTES of ten saw the same.
    """
    pictures = np.stack(load_fer2013(data, with_landmarks=False).pictures)
    votes = load_votes(data, with_landmarks=False)
    with (data / "fer2013.csv").open() as file:
        chosen = np.array([row["split"] == split for row in csv.DictReader(file)])
    known = votes[:, [EMOTIONS.index(name) for name in FER_CLASSES]]
    chosen &= known.max(1) == votes.max(1)  # what most saw is none of the classes otherwise
    if clear:
        chosen &= known.max(1) >= CLEAR_VOTES
    shares = vote_shares(known)
    chosen &= shares.sum(1) > 0
    return Split(torch.from_numpy(pictures[chosen][:, None]), torch.from_numpy(shares[chosen]))


def load_press(data: Path) -> Split:
    """The held-out people of faces160, cropped as FER-2013 crops faces."""
    faces = load_faces160(data)
    known = {EMOTIONS.index(name): i for i, name in enumerate(FER_CLASSES)}
    rows = [i for i in np.flatnonzero(faces.validation) if faces.emotions[i] in known]
    crops = [
        sample_crop(faces.pictures[i], fer_matrix(faces.landmarks[i, :, :2], FER_SIZE), FER_SIZE)
        for i in rows
    ]
    pictures = np.stack(crops)[:, None]
    classes = torch.tensor([known[faces.emotions[i]] for i in rows])
    return Split(torch.from_numpy(pictures), F.one_hot(classes, len(FER_CLASSES)).float())


def augment(faces: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrored, shifted, turned, scaled, re-lit and partly hidden copies of (n, 1, 48, 48)."""
    count = len(faces)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle, scale = uniform(-0.2, 0.2), uniform(0.88, 1.12)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, uniform(-0.12, 0.12)], 1),
            torch.stack([sin * mirror, cos, uniform(-0.12, 0.12)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    gamma = torch.exp(uniform(-0.35, 0.35))[:, None, None, None]
    moved = moved.clamp(1e-4, 1) ** gamma
    side = uniform(0, 0.42)  # of the picture; a third of them are too small to hide anything
    x, y = uniform(-0.8, 0.8), uniform(-0.8, 0.8)
    line = torch.linspace(-1, 1, faces.shape[-1])
    hidden_x = (line[None] - x[:, None]).abs() < (side - 0.14)[:, None]
    hidden_y = (line[None] - y[:, None]).abs() < (side - 0.14)[:, None]
    hidden = hidden_y[:, None, :, None] & hidden_x[:, None, None, :]
    return torch.where(hidden, moved.mean((2, 3), keepdim=True), moved)


@torch.no_grad()
def probabilities(model: nn.Module, split: Split) -> torch.Tensor:
    """Probabilities (n, 7), the mean over each picture and its mirror image."""
    model.eval()
    parts = []
    for start in range(0, len(split.votes), 256):
        faces = split.pictures[start : start + 256].float() / 255
        both = model(faces).softmax(1) + model(faces.flip(3)).softmax(1)
        parts.append(both / 2)
    model.train()
    return torch.cat(parts)


def score(model: nn.Module, split: Split) -> dict[str, object]:
    """Accuracy over all and per class, and the confusion matrix (rows are the truth)."""
    said = probabilities(model, split).argmax(1)
    count = len(FER_CLASSES)
    matrix = torch.bincount(split.classes * count + said, minlength=count * count)
    matrix = matrix.reshape(count, count)
    recall = matrix.diag() / matrix.sum(1).clamp(min=1)
    return {
        "pictures": len(said),
        "accuracy": round(float((said == split.classes).float().mean()), 4),
        "mean_recall": round(float(recall.mean()), 4),
        "recall": {e: round(float(r), 3) for e, r in zip(FER_CLASSES, recall, strict=True)},
        "confusion": matrix.tolist(),
    }


def learning_rate(part: float) -> float:
    """The rate after `part` (0..1) of the run: a short rise, then a cosine down to nothing."""
    if part < 0.08:
        return PEAK_RATE * max(part, 0.004) / 0.08
    return PEAK_RATE * 0.5 * (1 + float(np.cos(np.pi * min(1.0, (part - 0.08) / 0.92))))


class Run:
    """One training run with its averaged weights; `save` and `load` make it resumable."""

    def __init__(self, out: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.out = out
        self.model = EmotionClassifier().to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.model).eval()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE)
        self.steps = 0
        self.runs: list[float] = []  # seconds of each run that made the weights
        out.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self.load()

    @property
    def checkpoint(self) -> Path:
        return self.out / "emotions.pt"

    def load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.runs = state["steps"], state["runs"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "runs": self.runs,
        }
        whole = self.checkpoint.with_suffix(".tmp")
        torch.save(state, whole)
        whole.replace(self.checkpoint)

    def step(self, faces: torch.Tensor, votes: torch.Tensor, rate: float, keep: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(faces.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), votes, label_smoothing=SMOOTHING)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimiser.step()
        self.steps += 1
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)
        return float(loss.detach())


def train(run: Run, split: Split, minutes: float) -> None:
    """Train for `minutes` of wall time from where `run` stands."""
    run.runs.append(0.0)
    memory_s = min(EMA_SECONDS, minutes * 60 / 15)
    start = saved = time.monotonic()
    weights = torch.from_numpy(balanced_weights(split.classes.numpy(), BALANCE))
    losses: list[float] = []
    step_s = 0.3
    while (passed := time.monotonic() - start) < minutes * 60:
        chosen = torch.multinomial(weights, BATCH, generator=run.generator)
        faces = augment(split.pictures[chosen].float() / 255, run.generator)
        keep = min(1 - step_s / memory_s, run.steps / (run.steps + 10))
        rate = learning_rate(passed / (minutes * 60))
        losses.append(run.step(faces, split.votes[chosen], rate, keep))
        step_s += 0.1 * (time.monotonic() - start - passed - step_s)
        if run.steps % 50 == 0:
            recent = sum(losses[-50:]) / 50
            print(f"{passed:6.0f} s  step {run.steps}  loss {recent:.3f}", flush=True)
        run.runs[-1] = time.monotonic() - start
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            run.save()
    run.save()


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score on both test splits and export; see the module."""
    parser = argparse.ArgumentParser(prog="mien.training emotions", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=35.0, help="0 only exports once more")
    parser.add_argument("--media", type=Path, help="not used by this recipe")
    parser.add_argument("--seed", type=int, default=4096)
    options = parser.parse_args(argv)
    run = Run(options.out, options.seed)
    if options.minutes > 0:
        train(run, load_split(options.data, "train"), options.minutes)
    finish(run, options.data)


def finish(run: Run, data: Path) -> None:
    """Round the averaged weights as they are shipped, score them, export them, write the card."""
    shipped = rounded_to_half(run.averaged)
    metrics: dict[str, object] = {
        "trained_on": TRAINED_ON,
        "steps": run.steps,
        "batch": BATCH,
        "minutes": round(sum(run.runs) / 60, 1),
        "runs_s": [round(seconds) for seconds in run.runs],
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "public": score(shipped, load_split(data, "public", clear=True)),
        "private": (private := score(shipped, load_split(data, "private", clear=True))),
        "press": (press := score(shipped, load_press(data))),
        "quality": {
            "accuracy_on_the_private_test_split_of_fer_plus": private["accuracy"],
            "mean_recall_on_it": private["mean_recall"],
            "accuracy_on_held_out_press_pictures": press["accuracy"],
        },
    }
    path = run.out / "judge.onnx"
    facts = {"trained_on": TRAINED_ON, "private_test_accuracy": str(private["accuracy"])}
    metrics["parity_error"] = export_classifier(shipped, path, facts)
    metrics["sha256"] = sha256_of(path)
    write_metrics(run.out / "judge.json", metrics)
    write_card(run.out / "judge.md", "The emotion classifier", card_sections(metrics))


def confusion_table(told: Mapping[str, object]) -> str:
    """The confusion matrix of a `score`: a row for each true class, with its recall last."""
    matrix, recall = told["confusion"], told["recall"]
    assert isinstance(matrix, list)
    assert isinstance(recall, dict)
    lines = [
        "| | " + " | ".join(FER_CLASSES) + " | recall |",
        "|---" * (len(FER_CLASSES) + 2) + "|",
    ]
    for name, counts in zip(FER_CLASSES, matrix, strict=True):
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + f" | {recall[name]:.3f} |")
    return "\n".join(lines)


def card_sections(metrics: Mapping[str, object]) -> dict[str, str]:
    """The model card, from what was measured."""
    public, private, runs = metrics["public"], metrics["private"], metrics["runs_s"]
    press = metrics["press"]
    assert isinstance(press, dict)
    assert isinstance(public, dict)
    assert isinstance(private, dict)
    assert isinstance(runs, list)
    lasted = " s, then ".join(map(str, runs)) + " s"
    return {
        "What it is": (
            "A face cropped as FER-2013 crops it "
            f"(`mien.calibration.judges.classifier.fer_crop`), 48x48 luma, to a probability for "
            f"each of {', '.join(FER_CLASSES)}. A residual network of {metrics['parameters']:,} "
            "parameters. It measures edits: no editor of mien was trained with it or sees it."
        ),
        "Data": (
            f"{TRAINED_ON}. Votes are soft labels; pictures in which most saw no face, contempt or "
            f"nothing certain are left out; rare emotions are drawn more often (power {BALANCE})."
        ),
        "Training": (
            "`python -m mien.training emotions --data DIR --out DIR --minutes M`: "
            f"{lasted} ({metrics['minutes']} minutes together; the rate rises and falls in each "
            f"run), {metrics['steps']} steps of {metrics['batch']}, one processor core, bfloat16 "
            "autocast, averaged weights. Mirrored, shifted, turned, scaled, re-lit and partly "
            f"hidden; label smoothing {SMOOTHING}."
        ),
        "Weights": (
            "Normalisation is merged into the convolutions and every weight is rounded to half "
            "precision, in which the file keeps them; a cast makes them single precision when it "
            "is loaded. All numbers here are those of the rounded weights. torch and ONNX Runtime "
            f"differ by at most {metrics['parity_error']:.1e}."
        ),
        "Quality": (
            f"Private test split of FER+, {private['pictures']} pictures in which at least "
            f"{CLEAR_VOTES} of ten saw the same: accuracy {private['accuracy']:.4f}, mean recall "
            f"{private['mean_recall']:.4f}; public one {public['accuracy']:.4f}. "
            f"{press['pictures']} press pictures of held-out people (faces160): "
            f"{press['accuracy']:.4f}. Each is the mean over a picture and its mirror image; a row "
            f"for each true class.\n\n{confusion_table(private)}\n\nPress pictures:\n\n"
            f"{confusion_table(press)}"
        ),
        "Limits": (
            "Weak expressions are called neutral; fear and disgust are scarce in the data, so "
            "little can be said of them. It sees 48x48 pixels, so fine furrows are lost. It says "
            "what a face shows, never what somebody feels; do not use it to judge people."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }


if __name__ == "__main__":
    main()
