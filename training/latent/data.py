"""What the latent recipes share: their options, the frozen face space, and the codes of all faces.

The recipes after `latent` (mapper, classifiers, text-image, emm, directions) take its checkpoint,
`--space`, and work on the codes of its averaged encoder, or on those of `latent-refine` where it
came before them. These are made once and kept beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from mien.export.models.emm import SMALL_TRUNK, TrunkSpec
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, Crops, balanced_weights
from mien.training.latent.generator import SMALL, FaceSpace, load_faces
from mien.training.recipe import Options

ENCODED = 64  # faces at once
TRUNKS = {"small": SMALL_TRUNK, "resnet18": TrunkSpec(colours=1)}


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """What the command line gave to a latent recipe.

    space: `latent.pt`. features: FaceRes's JSON. work: the folder that all recipes of one face
    space share; a recipe's own checkpoint, log and pictures go there as well. cache: where crops
    and what is measured on them are kept, for all face spaces. most: how many
    faces to use at most, 0 for all. trunk: of TRUNKS, for the networks that look at pictures.
    """

    minutes: float
    data: Path
    work: Path
    space: Path
    features: Path
    device: str
    seed: int
    fresh: bool
    batch: int
    most: int
    trunk: str
    cache: Path

    def of_recipe(self) -> Options:
        """The same for `Trainer`."""
        return Options(
            minutes=self.minutes,
            data=self.data,
            media=self.data,
            out=self.work,
            facemesh_python=Path("python"),
            backgrounds=None,
            device=self.device,
            seed=self.seed,
            fresh=self.fresh,
        )


def latent_parser(recipe: str, batch: int) -> argparse.ArgumentParser:
    """The options that every latent recipe has; `latent_options` reads them."""
    parser = argparse.ArgumentParser(prog=f"python -m mien.training {recipe}")
    parser.add_argument("--minutes", type=float, required=True, help="time to train")
    parser.add_argument("--data", type=Path, required=True, help="folder of faces160 and fer2013")
    parser.add_argument("--media", type=Path, help="not used by the latent recipes")
    parser.add_argument("--out", type=Path, required=True, help="cache, checkpoints, graphs, cards")
    parser.add_argument("--space", type=Path, help="latent.pt; else the one in --out")
    parser.add_argument("--cache", type=Path, help="where crops are kept; else --out")
    parser.add_argument("--features", type=Path, required=True, help="faceres.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--most", type=int, default=0, help="faces to use at most, for a trial")
    parser.add_argument("--trunk", choices=tuple(TRUNKS), default="small")
    return parser


def latent_options(args: argparse.Namespace) -> LatentOptions:
    """The shared part of what `latent_parser` parsed."""
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    return LatentOptions(
        args.minutes,
        args.data,
        args.out,
        args.space or args.out / "latent.pt",
        args.features,
        args.device,
        args.seed,
        args.fresh,
        args.batch,
        args.most,
        args.trunk,
        args.cache or args.out,
    )


@dataclass(frozen=True, slots=True)
class CodedFaces:
    """Faces with their codes, all in the same order.

    codes: float32 (n, layers, style_dim), of the averaged encoder. crops: the pictures, 128 pixels.
    votes: float32 (n, 8), emotion probabilities. train, held_out: rows; nobody is in both, and
    `held_out` are people of faces160.
    """

    codes: torch.Tensor
    crops: Crops
    votes: np.ndarray
    train: np.ndarray
    held_out: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The likeliest emotion of each face: int64 (n,)."""
        return self.votes.argmax(1)

    def pictures(self, rows: np.ndarray, size: int) -> torch.Tensor:
        """Faces as float32 (k, 1, size, size) in [-1, 1]."""
        pixels = torch.from_numpy(self.crops.pixels[rows][:, None].astype(np.float32))
        return _resized(pixels / 127.5 - 1, size)

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the training codes: (layers, style_dim) each."""
        codes = self.codes[torch.from_numpy(self.train)]
        return codes.mean(0), codes.std(0) + 1e-4

    def balanced(self, power: float = 0.7) -> np.ndarray:
        """The chance of each of `train`, so that rare emotions are not rare."""
        return balanced_weights(self.labels[self.train], power)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint of a face space holds; its tensors are read when they are used."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
    return state


def load_space(checkpoint: Path, device: str = "cpu") -> FaceSpace:
    """The averaged networks of a face space, of `latent` or of `latent-refine`, frozen."""
    state = read_state(checkpoint)
    average = state["average"]
    space = FaceSpace(
        state["size"],
        average["heads.landmarks.bias"].clone(),
        state.get("channels", "narrow"),
        state.get("passes", 0),
    )
    space.load_state_dict(average)
    space = space.eval().requires_grad_(requires_grad=False)
    return space.to(device, memory_format=torch.channels_last)


def load_labelled_faces(options: LatentOptions) -> CodedFaces:
    """All faces that have a label, without codes: of (n, 0, 0)."""
    crops, votes = load_faces(options.data, options.cache)
    usable = np.flatnonzero(votes.sum(1) > 0)
    press = crops.source[usable] == FACES160
    wanted = usable[~crops.validation[usable] | press]
    if options.most:
        chosen = np.random.default_rng(0).permutation(len(wanted))[: options.most]
        wanted = np.sort(wanted[chosen])
    crops, votes = crops.select(wanted), votes[wanted]
    held_out = crops.validation
    codes = torch.zeros(len(wanted), 0, 0)
    return CodedFaces(codes, crops, votes, np.flatnonzero(~held_out), np.flatnonzero(held_out))


def load_coded_faces(options: LatentOptions, space: FaceSpace) -> CodedFaces:
    """All faces that have a label, with their codes, from the cache where it has them."""
    faces = load_labelled_faces(options)
    return dataclasses.replace(faces, codes=_cached_codes(options, space, faces.crops))


def _cached_codes(options: LatentOptions, space: FaceSpace, crops: Crops) -> torch.Tensor:
    """Codes from `codes.npy`, made again where the encoder or the faces are others."""
    state = read_state(options.space)
    stamp = {"step": state["step"], "size": state["size"], "faces": len(crops.source)}
    stamp["refined"] = state.get("refined_step", 0)
    file, told = (options.work / f"codes.{suffix}" for suffix in ("npy", "json"))
    if not (file.exists() and told.exists() and json.loads(told.read_text()) == stamp):
        codes = encode(space, crops, options.device)
        part = file.with_suffix(".part")
        with part.open("wb") as opened:
            np.save(opened, codes.numpy().astype(np.float16))
        part.replace(file)
        told.write_text(json.dumps(stamp))
    return torch.from_numpy(np.load(file)).float()


@torch.inference_mode()
def encode(space: FaceSpace, crops: Crops, device: str) -> torch.Tensor:
    """The codes of crops: float32 (n, layers, style_dim), on the processor."""
    codes, inverter = [], space.inverter()
    for first in range(0, len(crops.source), ENCODED):
        pixels = crops.pixels[first : first + ENCODED, None].astype(np.float32) / 127.5 - 1
        faces = _resized(torch.from_numpy(pixels).to(device), SMALL)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            found = inverter(faces.contiguous(memory_format=torch.channels_last))
        codes.append(found.float().cpu())
    return torch.cat(codes)


def _resized(faces: torch.Tensor, size: int) -> torch.Tensor:
    own = faces.shape[-1]
    if own > size:
        return F.avg_pool2d(faces, own // size)
    if own < size:
        return F.interpolate(faces, size=size, mode="bilinear", align_corners=False)
    return faces


def write_sheet(path: Path, rows: list[torch.Tensor]) -> None:
    """Keep a picture of rows of faces, each (n, 1, s, s) in [-1, 1] of the same n and s."""
    tiles = torch.stack([row.float().cpu() for row in rows])[:, :, 0]
    count, across, height, width = tiles.shape
    sheet = tiles.permute(0, 2, 1, 3).reshape(count * height, across * width)
    pixels = ((sheet + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).numpy()
    cv2.imwrite(str(path), pixels)


def of_emotion(faces: CodedFaces, rows: np.ndarray, emotion: str, most: int) -> np.ndarray:
    """Up to `most` of `rows` that are clearly of an emotion, spread over all of them."""
    index = EMOTIONS.index(emotion)
    clear = rows[(faces.labels[rows] == index) & (faces.votes[rows, index] >= 0.5)]
    steps = np.linspace(0, len(clear) - 1, min(most, len(clear)))
    return clear[np.unique(steps.astype(int))] if len(clear) else clear
