"""The recipe of the occlusion network: what lies in front of a face's skin.

Glasses and covers are drawn onto faces (`training.warp.occlusion_samples`). The faces themselves
are not labelled, and one in ten wears glasses; so the network looks through them twice on the way:
whom it finds plainly wearing glasses teaches with what was found, whom it doubts is left out from
then on. A network that expects rims of clear plastic sees some on one in twenty who wears none, and
would teach that to itself: with `--begin-with DIR`, a folder of models, the network there finds the
wearers once, before the first step, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines import Catalog, Engine
from mien.engines.networks import OCCLUSION
from mien.export.models.warp import OcclusionNetwork
from mien.export.onnx_file import sha256_of, to_onnx
from mien.runtime.faces.alignment import align_face
from mien.training.data.clips import labelled_clips
from mien.training.data.crops import FACES160, load_crops
from mien.training.recipe import (
    Options,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    quality_table,
    write_card,
    write_metrics,
)
from mien.training.warp.occlusion_samples import SIZE, Batch, Sampler, known_area

BATCH = 20
LOOKS: tuple[float, ...] = (0.25, 0.55)  # shares of the time at which the faces are looked through
WEARER, DOUBTFUL = 0.7, 0.25  # mean of the surest pixels
SUREST = 150  # pixels of SIZE x SIZE: about a thin rim's
HELD_OUT_CLIP = "d12"  # wears glasses; kept for measuring
CLIP_SHARE = 0.2


def losses(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Cross-entropy and Dice of both kinds, where the picture is known."""
    said = network.logits(torch.from_numpy(batch.faces)).float()
    truth, weights = torch.from_numpy(batch.masks), torch.from_numpy(batch.weights)
    apart = F.binary_cross_entropy_with_logits(said, truth, reduction="none")
    boost = weights * (1 + 3 * truth)
    share = torch.sigmoid(said) * weights
    common = (share * truth).sum((0, 2, 3))
    both = (share + truth * weights).sum((0, 2, 3))
    return {
        "classes": (apart * boost).sum() / boost.sum() * 2,
        "dice": (1 - (2 * common + 20) / (both + 20)).mean(),
    }


@torch.inference_mode()
def covered_share(network: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """What the network sees in crops uint8 (n, SIZE, SIZE): float32 (n, 2, SIZE, SIZE)."""
    x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
    found: np.ndarray = network(x).float().numpy()
    return found


def find_wearers(sampler: Sampler, sees: Callable[[np.ndarray], np.ndarray]) -> None:
    """Tell a sampler who of its faces wears glasses, and whom to leave out.

    sees: what a network sees in crops uint8 (n, SIZE, SIZE): float32 (n, 2, SIZE, SIZE).
    """
    worn: dict[int, np.ndarray] = {}
    unsure: set[int] = set()
    for start in range(0, len(sampler.pixels), 64):
        rows = range(start, min(start + 64, len(sampler.pixels)))
        found = sees(sampler.pixels[start : start + 64])
        for row, (glasses, cover) in zip(rows, found, strict=True):
            surest = float(np.sort(glasses.ravel())[-SUREST:].mean())
            hidden = float((cover * known_area(sampler.landmarks[row])).mean())
            if surest > WEARER:
                worn[row] = np.round(glasses * 255).astype(np.uint8)
            elif surest > DOUBTFUL or hidden > 0.03:
                unsure.add(row)
    sampler.worn, sampler.unsure = worn, frozenset(unsure)
    print(f"{len(worn)} wear glasses, {len(unsure)} are left out", flush=True)


class LookThrough:
    """Finds out, on the way, who of the training faces wears glasses.

    looks_s: seconds of training at which the faces are looked through.
    """

    def __init__(self, trainer: Trainer[Batch], sampler: Sampler, looks_s: Sequence[float]) -> None:
        self._trainer, self._sampler, self._due = trainer, sampler, list(looks_s)

    def __call__(self, network: nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """The losses of a batch, after a look where one is due."""
        if self._due and self._trainer.spent_s >= self._due[0]:
            self._due.pop(0)
            average = self._trainer.average.eval()
            find_wearers(self._sampler, lambda pixels: covered_share(average, pixels))
        return losses(network, batch)


def seen_by(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    """As `covered_share`, by a network that is shipped."""
    faces = pixels[:, None, None].astype(np.float32) / 255
    return np.concatenate([engine.infer({"face": face})["covered"] for face in faces])


def load_faces(options: Options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligned training faces: pixels, landmarks and sampling odds."""
    crops = load_crops(options.data, SIZE, options.out)
    press = crops.select((crops.source == FACES160) & ~crops.validation)
    clips = labelled_clips(
        options.media / "train", options.out / "clips.npz", options.facemesh_python, step=4
    )
    pixels, landmarks = [press.pixels], [press.landmarks]
    odds = [np.ones(len(press.pixels))]
    found = [
        align_face(picture, points[0], SIZE)
        for (name, _), picture, points in zip(
            clips.names, clips.pictures, clips.landmarks, strict=True
        )
        if len(points) == 1 and HELD_OUT_CLIP not in name
    ]
    if found:
        pixels.append(np.stack([np.round(f.pixels * 255).astype(np.uint8) for f in found]))
        landmarks.append(np.stack([f.landmarks for f in found]))
        odds.append(np.full(len(found), len(press.pixels) * CLIP_SHARE / len(found)))
    return np.concatenate(pixels), np.concatenate(landmarks), np.concatenate(odds)


def held_out_scores(network: nn.Module, options: Options, count: int = 400) -> dict[str, object]:
    """Overlap with drawn masks on people that were not trained on, and false alarms."""
    crops = load_crops(options.data, SIZE, options.out)
    held = crops.select((crops.source == FACES160) & crops.validation)
    sampler = Sampler(held.pixels, held.landmarks, np.ones(len(held.pixels)), 5)
    hits = np.zeros((2, 2))
    for _ in range(count // 20):
        batch = sampler.batch(20)
        with torch.inference_mode():
            said = network(torch.from_numpy(batch.faces)).numpy() > 0.5
        truth = batch.masks > 0.5
        hits[0] += (said & truth).sum((0, 2, 3))
        hits[1] += ((said | truth) & (batch.weights > 0.4)).sum((0, 2, 3))
    overlap = hits[0] / np.maximum(hits[1], 1)
    return {
        "glasses_iou_drawn": round(float(overlap[0]), 4),
        "cover_iou_drawn": round(float(overlap[1]), 4),
    }


def main(argv: list[str]) -> None:
    """Train, measure and export the occlusion network."""
    options = parse_options("occlusion", argv, begins=True)
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)
    pixels, landmarks, odds = load_faces(options)
    print(len(pixels), "faces", flush=True)
    sampler = Sampler(pixels, landmarks, odds, options.seed)
    schedule = Schedule(rate=3e-3, average=0.99, weight_decay=1e-4)
    trainer: Trainer[Batch] = Trainer("occlusion", OcclusionNetwork(), options, schedule)
    looks = LOOKS
    if options.begin_with is not None:
        with Catalog.load(options.begin_with).open(OCCLUSION) as former:
            find_wearers(sampler, lambda pixels: seen_by(former, pixels))
        looks = ()
    look = LookThrough(trainer, sampler, [share * options.minutes * 60 for share in looks])
    make: Callable[[], Batch] = lambda: sampler.batch(BATCH)  # noqa: E731 - a bound argument
    trainer.run(make, look)
    finish(trainer, options)


def finish(trainer: Trainer[Batch], options: Options) -> None:
    """Export the averaged weights, with what was measured and the card."""
    average = trainer.average.cpu().float().eval()
    path = options.out / "occlusion.onnx"
    parity = to_onnx(average, OCCLUSION, path, facts={"source": "mien training occlusion"})
    scores = held_out_scores(average, options)
    metrics: dict[str, object] = {
        "minutes": round(trainer.spent_s / 60, 1),
        "steps": trainer.step,
        "parameters": sum(p.numel() for p in average.parameters()),
        "parity_error": parity,
        "sha256": sha256_of(path),
        "quality": scores,
    }
    write_metrics(options.out / "occlusion.json", metrics)
    write_card(options.out / "occlusion.md", "The occlusion network", card_sections(metrics))


def card_sections(metrics: Mapping[str, object]) -> dict[str, str]:
    """The model card, from what was measured."""
    return {
        "What it is": (
            "An aligned 128x128 luma crop to two masks of its size: spectacle frames with the "
            "reflections on their lenses, and what else covers skin. A U-Net of "
            f"{metrics['parameters']:,} parameters."
        ),
        "Data": data_text(
            ("faces160",),
            "- clips: every fourth frame of four short clips of four people.\n\nNobody labelled "
            "glasses or hands: they are rendered onto the faces by "
            "`mien.training.warp.occlusion_samples`. Wearers among the faces are found by the "
            "network itself on the way and teach with what it found.",
        ),
        "Training": (
            f"`python -m mien.training occlusion --minutes {metrics['minutes']:.0f} --data DIR "
            f"--media DIR --out DIR --facemesh-python PYTHON`: {metrics['steps']} steps of "
            f"{BATCH}, one processor core, bfloat16 autocast, averaged weights. Cross-entropy and "
            "Dice."
        ),
        "Quality": (
            "On held-out people of faces160, with things drawn by the same renderer, so that it "
            "says how well the drawn is found and not the real:\n\n"
            + quality_table({"drawn": metrics["quality"]})
        ),
        "Limits": (
            "It has seen no labelled real glasses and no labelled real hand. Hair above the brows "
            "was weighed lightly. Rims thinner than a 128th of the crop are found in part, rims of "
            "clear plastic seen now and then where deep shadows lie around an eye."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }
