"""The semantic codes of the diffusion recipe: what the UNet knows of the input beside the target.

The paper takes the penultimate layer of a classifier or the mean of a VAE's latent as they are.
Both say which emotion the input shows, and then the UNet need not heed the label. Here the code is
whitened and all that a linear map could read of the emotion is projected out: the directions in
which whitened codes covary with the votes, after which no linear classifier does better than
chance.
Source: Belrose et al., "LEACE: Perfect linear concept erasure in closed form" (2023), theorem 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.diffusion import FER2013_LABELS, SIZE
from mien.engines.networks import FER_CLASSES
from mien.export.checkpoints.loading import load_strictly
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.diffusion_encoders import CnnEncoder, CnnSpec, VaeEncoder, VaeSpec
from mien.export.models.face_encoder import MIDDLE, STYLE_DIM, FaceEncoder
from mien.export.models.face_encoder import SIZE as ENCODED_SIZE
from mien.export.models.stylegan2 import code_count
from mien.training.data.crops import balanced_weights
from mien.training.faces.emotions import load_split

ORDER = [FER_CLASSES.index(name) for name in FER2013_LABELS]
BALANCE = 0.5  # how far rare emotions are drawn as often as common ones
# A quarter of the public classifier's work; its code keeps the public width.
CNN = CnnSpec(channels=1, widths=(32, 64, 64, 128, 128))
VAE = VaeSpec()
KL_WEIGHT = 2.5e-4  # of the public VAE, on means over pictures
LEAST_VARIANCE = 0.01  # of the largest: whitening does not blow up what hardly varies
ENCODER_PREFIX = "encoder."
FINE = "deltas.2.codes.weight"
SIDES = (64, 32, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Faces:
    """Pictures of FER-2013 with the votes of FER+.

    pictures: uint8 (n, 1, 48, 48). votes: float32 (n, 7), shares of FER2013_LABELS.
    """

    pictures: torch.Tensor
    votes: torch.Tensor

    @classmethod
    def load(cls, data: Path, split: str, *, clear: bool = False) -> Faces:
        """`train`, `public` or `private`; clear: most annotators saw the same."""
        found = load_split(data, split, clear=clear)
        return cls(found.pictures, found.votes[:, ORDER])

    @property
    def classes(self) -> torch.Tensor:
        """What most annotators saw: int64 (n,)."""
        return self.votes.argmax(1)

    def chances(self) -> torch.Tensor:
        """How often to draw each picture: rare emotions more often."""
        return torch.from_numpy(balanced_weights(self.classes.numpy(), BALANCE))


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures float32 (n, 1, 48, 48) in [-1, 1], labels (n, 7) and codes (n, d)."""

    faces: torch.Tensor
    labels: torch.Tensor
    codes: torch.Tensor


class Feeder:
    """Draws batches: a label from the votes of each picture, half of the pictures mirrored.

    codes: float32 (n, 2, d), of each picture and its mirror image; None for no code.
    """

    def __init__(self, faces: Faces, codes: torch.Tensor | None, batch: int, seed: int) -> None:
        self._faces, self._batch = faces, batch
        self._codes = torch.zeros(len(faces.votes), 2, 0) if codes is None else codes
        self._chances = faces.chances()
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self) -> Batch:
        rows = torch.multinomial(self._chances, self._batch, generator=self._random)
        mirrored = torch.rand(self._batch, generator=self._random) < 0.5
        faces = scaled(self._faces.pictures[rows])
        faces = torch.where(mirrored[:, None, None, None], faces.flip(3), faces)
        drawn = torch.multinomial(self._faces.votes[rows], 1, generator=self._random)[:, 0]
        labels = F.one_hot(drawn, len(FER2013_LABELS)).float()
        return Batch(faces, labels, self._codes[rows, mirrored.long()])


def scaled(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 as the networks see it, in [-1, 1]."""
    return pictures.float() / 127.5 - 1


class Vae(nn.Module):
    """The paper's VAE: its encoder, and a decoder to 48 pixels that is for training only."""

    def __init__(self, spec: VaeSpec = VAE) -> None:
        super().__init__()
        self.mean = VaeEncoder(spec)
        self.log_variance = nn.Linear(self.mean.fc_mu.in_features, spec.code)
        widths = (256, 128, 64, 32)
        layers: list[nn.Module] = [nn.Linear(spec.code, widths[0] * 9), nn.Unflatten(1, (-1, 3, 3))]
        for inputs, outputs in zip(widths, (*widths[1:], 16), strict=True):
            layers += [
                nn.Conv2d(inputs, outputs * 4, 3, padding=1),
                nn.PixelShuffle(2),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(),
            ]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(16, 1, 3, padding=1), nn.Tanh())

    def losses(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
        """Reconstruction and divergence (Kingma and Welling 2013, appendix B)."""
        features = self.mean.features(faces)
        mean, log_variance = self.mean.fc_mu(features), self.log_variance(features)
        log_variance = log_variance.float().clamp(-12, 6)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        spread = 1 + log_variance - mean.float().square() - log_variance.exp()
        return {
            "reconstruction": F.mse_loss(self.decoder(drawn).float(), faces),
            "divergence": -0.5 * KL_WEIGHT * spread.sum(1).mean(),
        }


def vae_loss(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """The terms of a step of the VAE."""
    assert isinstance(network, Vae)
    return network.losses(batch.faces.to(next(network.parameters()).device))


def cnn_loss(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """The term of a step of the classifier."""
    assert isinstance(network, CnnEncoder)
    device = next(network.parameters()).device
    said = network.logits(batch.faces.to(device)).float()
    return {"emotion": F.cross_entropy(said, batch.labels.to(device), label_smoothing=0.05)}


class LatentEncoder(nn.Module):
    """The base code of the e4e-style face encoder, with a projection: (n, 1, 48, 48) to (n, 512).

    A picture of FER-2013 is cropped wider than the encoder's aligned crops: `view` is the part of
    it that the encoder sees.
    """

    # Left, top and side in shares of FER-2013's picture: eyes at 0.34 of the encoder's crop, 0.34
    # of its side apart, where FER-2013's crops have them at 0.406, 0.367 apart (its templates).
    view = (-0.040, 0.038, 1.080)
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(STYLE_DIM, STYLE_DIM)
        left, top, side = self.view
        self.register_buffer("rows", _reading(top, side), persistent=False)
        self.register_buffer("columns", _reading(left, side).T, persistent=False)

    def code(self, image: torch.Tensor) -> torch.Tensor:
        """The base code as the encoder gives it."""
        encoder = self.encoder
        seen = self.rows @ image @ self.columns
        deep = encoder.coarse(encoder.middle(encoder.fine(encoder.stem(seen))))
        base: torch.Tensor = encoder.base(deep)[:, 0].float()
        return base

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        coded: torch.Tensor = self.projection(self.code(image))
        return coded


def _reading(start: float, side: float) -> torch.Tensor:
    """What reads ENCODED_SIZE places of a line of SIZE pixels, bilinearly: (ENCODED_SIZE, SIZE).

    start, side: of the part that is read, in shares of the line; beyond its ends they repeat.
    """
    share = (torch.arange(ENCODED_SIZE) + 0.5) / ENCODED_SIZE
    place = ((start + side * share) * SIZE - 0.5).clamp(0, SIZE - 1)
    return (1 - (place[:, None] - torch.arange(SIZE)).abs()).clamp(min=0)


def read_latent_encoder(path: Path) -> LatentEncoder:
    """The face encoder in a checkpoint of the latent recipe, or a state dict of its own.

    Raises ModelError.
    """
    state = read_checkpoint(path).state
    inner = {
        key.removeprefix(ENCODER_PREFIX): tensor
        for key, tensor in state.items()
        if key.startswith(ENCODER_PREFIX)
    }
    codes = next((tensor for key, tensor in (inner or state).items() if key.endswith(FINE)), None)
    layers = MIDDLE + (0 if codes is None else len(codes) // STYLE_DIM)
    size = next((side for side in SIDES if code_count(side) == layers), SIDES[0])
    encoder = load_strictly(
        lambda: FaceEncoder(size), inner or state, f"{path} should hold a face encoder"
    )
    return LatentEncoder(encoder)


@torch.no_grad()
def plain_codes(encoder: nn.Module, pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The codes of pictures and of their mirror images before any projection: (n, 2, d)."""
    read = encoder.fc_mu if isinstance(encoder, VaeEncoder) else None
    encoder = encoder.eval().to(device)
    parts = []
    for start in range(0, len(pictures), 256):
        faces = scaled(pictures[start : start + 256]).to(device)
        both = []
        for seen in (faces, faces.flip(3)):
            if read is not None:
                both.append(read(encoder.features(seen)))
            else:
                both.append(encoder.code(seen))
        parts.append(torch.stack(both, 1).float().cpu())
    return torch.cat(parts)


def erasing_projection(codes: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (d, d) and offset (d,) that whiten codes and take the emotion out of them.

    codes: (n, d). votes: (n, k), shares.
    """
    mean = codes.mean(0)
    centred = (codes - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(codes))
    kept = np.maximum(values, LEAST_VARIANCE * values[-1])
    whiten = vectors / np.sqrt(kept)  # rows of codes times this have unit variance
    white = centred @ whiten
    covaries = white.T @ (votes - votes.mean(0)) / len(codes)
    basis, strengths, _ = np.linalg.svd(covaries, full_matrices=False)
    basis = basis[:, strengths > 1e-6 * max(strengths[0], 1e-12)]
    matrix = whiten @ (np.eye(len(mean)) - basis @ basis.T)
    return matrix.T.astype(np.float32), (-mean @ matrix).astype(np.float32)


def with_projection(encoder: nn.Module, matrix: np.ndarray, offset: np.ndarray) -> nn.Module:
    """An encoder like `encoder`, with a projection after its code."""
    state = {
        **encoder.state_dict(),
        "projection.weight": torch.from_numpy(matrix),
        "projection.bias": torch.from_numpy(offset),
    }
    if isinstance(encoder, VaeEncoder):
        spec = encoder.spec
        made: nn.Module = VaeEncoder(VaeSpec(spec.code, spec.widths, is_projected=True))
    elif isinstance(encoder, CnnEncoder):
        spec = encoder.spec
        made = CnnEncoder(
            CnnSpec(spec.code, spec.classes, spec.channels, spec.widths, is_projected=True)
        )
    else:
        made = encoder
    made.load_state_dict(state)
    return made.eval()


def readable(
    codes: np.ndarray, votes: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]
) -> float:
    """How often least squares names the emotion of held-out codes, as a mean recall.

    Chance is 1 / 7.
    """
    wide = np.hstack([codes, np.ones((len(codes), 1))]).astype(np.float64)
    balance = 1 / np.maximum(np.bincount(votes.argmax(1), minlength=votes.shape[1]), 1)
    weights = balance[votes.argmax(1)][:, None]
    normal = wide.T @ (wide * weights)
    normal += 1e-4 * np.trace(normal) / len(normal) * np.eye(len(normal))
    solved = np.linalg.solve(normal, wide.T @ (votes * weights))
    tested, truth = held_out[0], held_out[1].argmax(1)
    said = (np.hstack([tested, np.ones((len(tested), 1))]) @ solved).argmax(1)
    recalls = [float((said[truth == k] == k).mean()) for k in np.unique(truth)]
    return float(np.mean(recalls))
