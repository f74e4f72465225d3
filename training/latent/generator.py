"""The face space of the latent papers: generator and encoder, trained together from the start.

Papers 0 and 1 take a generator that took weeks and an encoder fitted to it. Here both learn at
once, on tight aligned crops of luma: L1 and the features of a frozen face network (`--features`),
linear heads on the base code for landmarks and emotion (so that both are directions of W), and,
from 40 percent of the first part on, projected critics on the features that are computed anyway
(Sauer et al., "Projected GANs Converge Faster", 2021), which turn blur into photographs.

`python -m mien.training latent --minutes 150 --grow-at 0.6 --data DIR --media DIR --out DIR
--features faceres.json` trains at 64 pixels for the first share of the time and at 128 for the
rest. A run that is stopped goes on where its last checkpoint was. On a GPU, `--device cuda --size
1024 --channels public --batch-times 4` has the public generators' sizes; larger ones than 128
pixels share the rest of the time.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.errors import UsageError
from mien.export.models.face_encoder import STYLE_DIM, FaceEncoder, RefinedEncoder
from mien.export.models.stylegan2 import NARROW, Synthesis, public_channels
from mien.runtime.faces.topology import MIRROR, POINT_COUNT
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, Crops, balanced_weights, load_crops
from mien.training.data.faces import load_votes, vote_shares
from mien.training.latent.face_features import FaceFeatures
from mien.training.recipe import Prefetch

CROP = 128  # the usual last size of the generator, and that of the crops
SMALL = 64  # what the encoder sees, and the first size of the generator
PRESS, FER = 10, 6  # pictures of faces160 and of FER-2013 in a batch
CHANNELS = {"narrow": NARROW, "public": public_channels()}
CRITIC_LAYERS = (3, 5, 9)
IDENTITY_LAYER = 13
CRITIC_FROM = 0.4  # of the first part
WEIGHTS = {
    "l1": 4.0,
    "features": 1.0,
    "identity": 0.4,
    "landmarks": 8.0,
    "emotion": 0.05,
    "delta": 0.01,
    "base": 1e-3,
    "real": 0.12,
}
CONV_RATE, LINEAR_RATE, CRITIC_RATE = 1e-3, 3e-4, 5e-4
# Of these, after the first size: at 0.46 of them the weights of a step still left 0.131 of held-out
# people unexplained, their average 0.119.
LATER_RATE = 0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces of faces160, `press` of them, then faces of FER-2013.

    faces: float32 (n, 1, s, s) in [-1, 1]. landmarks: (n, 212), crop units.
    emotions: (n, 8), probabilities.
    """

    press: int

    faces: torch.Tensor
    landmarks: torch.Tensor
    emotions: torch.Tensor


class Faces:
    """The training people's crops, sampled so that rare emotions are not rare."""

    def __init__(self, crops: Crops, votes: np.ndarray, seed: int, times: int = 1) -> None:
        self.counts, self.size = (PRESS * times, FER * times), crops.pixels.shape[-1]
        self.random = np.random.default_rng(seed)
        keep = ~crops.validation & (votes.sum(1) > 0)
        self.crops, self.votes = crops.select(keep), votes[keep]
        press = self.crops.source == FACES160
        self.rows = [np.flatnonzero(press), np.flatnonzero(~press)]
        label = self.votes.argmax(1)
        self.chances = [balanced_weights(label[rows], 0.5) for rows in self.rows]

    def batch(self) -> Batch:
        """One batch of jittered, half of them mirrored, pictures."""
        chosen = [
            self.random.choice(rows, count, p=chance)
            for rows, count, chance in zip(self.rows, self.counts, self.chances, strict=True)
        ]
        rows = np.concatenate(chosen)
        faces, points = zip(*(self._jittered(row) for row in rows), strict=True)
        stacked = torch.from_numpy(np.stack(faces)[:, None].astype(np.float32) / 127.5 - 1)
        landmarks = torch.from_numpy(np.stack(points).reshape(len(rows), -1).astype(np.float32))
        return Batch(self.counts[0], stacked, landmarks, torch.from_numpy(self.votes[rows]))

    def _jittered(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        face, points = self.crops.pixels[row], self.crops.landmarks[row]
        if self.random.random() < 0.5:
            face, points = face[:, ::-1], points[MIRROR] * (-1, 1) + (1, 0)
        size = self.size
        angle, scale = self.random.normal(0, 2.0), np.exp(self.random.normal(0, 0.02))
        matrix = cv2.getRotationMatrix2D((size / 2 - 0.5, size / 2 - 0.5), angle, scale)
        matrix[:, 2] += self.random.normal(0, 0.01, 2) * size
        face = cv2.warpAffine(
            np.ascontiguousarray(face), matrix, (size, size), borderMode=cv2.BORDER_REPLICATE
        )
        points = ((points * size - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5) / size
        gain, offset = np.exp(self.random.normal(0, 0.1)), self.random.normal(0, 8)
        return np.clip(face * gain + offset, 0, 255), points


def load_faces(data: Path, cache: Path, size: int = CROP) -> tuple[Crops, np.ndarray]:
    """All crops at `size` pixels and their emotion probabilities (n, 8); zero rows: do not use."""
    crops = load_crops(data, size, cache)
    press = crops.source == FACES160
    votes = np.zeros((len(crops.source), len(EMOTIONS)), np.float32)
    votes[press] = 0.02 + 0.84 * np.eye(len(EMOTIONS), dtype=np.float32)[crops.emotions[press]]
    votes[~press] = vote_shares(load_votes(data))
    return crops, votes


class Heads(nn.Module):
    """What is linear in the base code: landmarks (n, 212) and emotion logits (n, 8)."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.landmarks = nn.Linear(STYLE_DIM, POINT_COUNT * 2)
        self.emotion = nn.Linear(STYLE_DIM, len(EMOTIONS))
        nn.init.normal_(self.landmarks.weight, std=1e-3)
        with torch.no_grad():
            self.landmarks.bias.copy_(mean)


class Critic(nn.Module):
    """Small critics on frozen features, each behind a fixed random mixing of the channels."""

    def __init__(self, widths: tuple[int, ...] = (128, 256, 512), mixed: int = 48) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.mixes = nn.ModuleList([nn.Conv2d(w, mixed, 1, bias=False) for w in widths])
        for mix in self.mixes:
            nn.init.orthogonal_(mix.weight)
            mix.weight.requires_grad_(False)
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    norm(nn.Conv2d(mixed, 64, 3)),
                    nn.LeakyReLU(0.2),
                    norm(nn.Conv2d(64, 64, 3)),
                    nn.LeakyReLU(0.2),
                    norm(nn.Conv2d(64, 1, 1)),
                )
                for _ in widths
            ]
        )

    def forward(self, features: dict[int, torch.Tensor]) -> list[torch.Tensor]:
        """The scores of each critic at all its places: (n, k) each."""
        return [
            head(mix(features[layer])).flatten(1)
            for layer, mix, head in zip(CRITIC_LAYERS, self.mixes, self.heads, strict=True)
        ]


def critic_loss(real: list[torch.Tensor], made: list[torch.Tensor]) -> torch.Tensor:
    """The hinge loss of critics, from their scores of real and of made pictures."""
    losses = [
        F.relu(1 - r.float()).mean() + F.relu(1 + m.float()).mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


class FaceSpace(nn.Module):
    """Encoder, generator and heads, of one size. channels: of CHANNELS, the generator's.

    passes: how often a second encoder corrects the codes (`latent-refine`); 0 where there is none.
    """

    def __init__(
        self, size: int, mean: torch.Tensor, channels: str = "narrow", passes: int = 0
    ) -> None:
        super().__init__()
        self.size, self.channels, self.passes = size, channels, passes
        self.encoder = FaceEncoder(size)
        self.generator = Synthesis(size, CHANNELS[channels])
        self.heads = Heads(mean)
        if passes:
            self.second = FaceEncoder(size)

    def inverter(self) -> FaceEncoder | RefinedEncoder:
        """What makes codes of faces: the encoder, with its corrections where there are any."""
        if not self.passes:
            return self.encoder
        return RefinedEncoder(self.encoder, self.second, self.generator, self.passes)

    def grown(self, size: int) -> FaceSpace:
        """The same with more layers of the generator, and codes for them."""
        larger = FaceSpace(size, self.heads.landmarks.bias.detach().cpu(), self.channels)
        state = larger.state_dict()
        for name, value in self.state_dict().items():
            if state[name].shape == value.shape:
                state[name] = value
            else:  # the codes of the fine layers: what is new starts like the last one
                state[name][: len(value)] = value
                state[name][len(value) :] = value[-STYLE_DIM:].repeat(
                    (len(state[name]) - len(value)) // STYLE_DIM, *[1] * (value.ndim - 1)
                )
        larger.load_state_dict(state)
        # The new block adds nothing at first.
        nn.init.zeros_(larger.generator.images[-1].weight)
        return larger


Network = TypeVar("Network", bound=nn.Module)


class Run:
    """One training run: weights, their average, optimisers, the time spent. Resumable."""

    def __init__(self, options: argparse.Namespace, mean: torch.Tensor) -> None:
        torch.manual_seed(options.seed)
        self.options, self.device = options, torch.device(options.device)
        self.space = self._placed(FaceSpace(SMALL, mean, options.channels))
        self.critic = self._placed(Critic())
        self.features = FaceFeatures(options.features).to(self.device)
        self.spent_s, self.step = 0.0, 0
        self._prepare()
        self.checkpoint = options.out / "latent.pt"
        if self.checkpoint.exists() and not options.fresh:
            self._resume()

    def _placed(self, network: Network) -> Network:
        return network.to(self.device, memory_format=torch.channels_last)

    def _prepare(self) -> None:
        self.average = copy.deepcopy(self.space).eval().requires_grad_(requires_grad=False)
        named = list(self.space.named_parameters())
        linear = [p for n, p in named if p.ndim == 2 or n.startswith("heads")]
        known = {id(p) for p in linear}
        rest = [p for _, p in named if id(p) not in known]
        groups = [{"params": rest, "lr": CONV_RATE}, {"params": linear, "lr": LINEAR_RATE}]
        for group in groups:
            group["peak"] = group["lr"]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        learned = [p for p in self.critic.parameters() if p.requires_grad]
        self.critic_optimiser = torch.optim.Adam(learned, CRITIC_RATE, betas=(0.0, 0.99))

    def grow(self) -> None:
        """Go on at twice the size, with the averaged weights as the start."""
        self.save(self.options.out / f"latent{self.space.size}.pt")
        self.space = self._placed(self.average.grown(self.space.size * 2))
        self.space.requires_grad_(requires_grad=True).train()
        self._prepare()

    def state(self) -> dict[str, object]:
        return {
            "size": self.space.size,
            "channels": self.space.channels,
            "space": self.space.state_dict(),
            "average": self.average.state_dict(),
            "critic": self.critic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "spent_s": self.spent_s,
            "step": self.step,
        }

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(self.state(), part)
        part.replace(path)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if state["size"] > self.options.size:
            size = state["size"]
            raise UsageError(f"{self.checkpoint} is at {size} pixels already; give --size {size}")
        while self.space.size < state["size"]:
            self.space = self._placed(self.space.grown(self.space.size * 2))
            self._prepare()
        self.space.load_state_dict(state["space"])
        self.average.load_state_dict(state["average"])
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # an older checkpoint says otherwise
            group["fused"], group["foreach"] = True, False
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.spent_s, self.step = float(state["spent_s"]), int(state["step"])

    def train(self, faces: Faces) -> None:
        """Train until the minutes are spent."""
        limit_s = self.options.minutes * 60
        stages = stages_of(self.options.size, limit_s, self.options.grow_at)
        critics_from_s = CRITIC_FROM * stages[SMALL][1]
        batches, last = Prefetch(faces.batch), time.monotonic()
        logged = saved = self.spent_s
        drawn, sums, count = -1e9, {}, 0
        try:
            for batch in batches:
                while self.spent_s >= stages[self.space.size][1] < limit_s:
                    self.grow()
                self._set_rates(stages)
                terms = self._one_step(batch, critics=self.spent_s > critics_from_s)
                sums = {k: sums.get(k, 0.0) + v for k, v in terms.items()}
                count, now = count + 1, time.monotonic()
                self.spent_s, last = self.spent_s + now - last, now
                if self.spent_s - logged > 30:
                    self._log({k: v / count for k, v in sums.items()}, count, logged)
                    sums, count, logged = {}, 0, self.spent_s
                if self.spent_s - saved > 180:
                    self.save(self.checkpoint)
                    saved = self.spent_s
                if self.spent_s - drawn > 600:
                    drawn = self.spent_s
                    self.draw(faces.held_out)
                if self.spent_s >= limit_s:
                    break
        finally:
            batches.close()
        self.save(self.checkpoint)
        self.draw(faces.held_out)

    def _set_rates(self, stages: dict[int, tuple[float, float]]) -> None:
        began_s, ends_s = stages[self.space.size]
        through = (self.spent_s - began_s) / max(ends_s - began_s, 1e-9)
        rise = 0.02 if self.space.size == SMALL else 0.05
        low = 0.02 if self.space.size == self.options.size else 0.4
        share = 0.5 * (1 + float(np.cos(np.pi * min(1.0, through))))
        rate = min(1.0, through / rise + 0.05) * (low + (1 - low) * share)
        rate *= 1.0 if self.space.size == SMALL else LATER_RATE
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        for group in self.critic_optimiser.param_groups:
            group["lr"] = CRITIC_RATE * rate

    def _one_step(self, batch: Batch, *, critics: bool) -> dict[str, float]:
        size, press = self.space.size, batch.press
        faces, emotions = batch.faces.to(self.device), batch.emotions.to(self.device)
        real = pooled(faces, size)
        seen = pooled(real, SMALL)
        layers = (*CRITIC_LAYERS, IDENTITY_LAYER)
        with torch.autocast(self.device.type, torch.bfloat16):
            base, deltas = self.space.encoder.parts(seen)
            fake = self.space.generator(base[:, None] + deltas)
            with torch.no_grad():
                real_features = self.features(compared(real, press), layers)
            fake_features = self.features(compared(fake, press), layers)
            press_fake = {k: v[:press] for k, v in fake_features.items()}
            if critics:
                pushed = sum(s.float().mean() for s in self.critic(press_fake))
        terms = reconstruction(real, fake, real_features, fake_features, press)
        with torch.autocast(self.device.type, enabled=False):
            points = self.space.heads.landmarks(base)
            logits = self.space.heads.emotion(base)
        terms["landmarks"] = (points - batch.landmarks.to(self.device)).abs().mean()
        terms["emotion"] = F.cross_entropy(logits, emotions)
        terms["delta"] = deltas.square().mean()
        terms["base"] = base.square().mean()
        if critics:
            terms["real"] = -pushed / len(CRITIC_LAYERS)
        total = sum(WEIGHTS[name] * term for name, term in terms.items())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.space.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        told = {name: float(term.detach()) for name, term in terms.items()}
        if critics:
            press_real = {k: v[:press] for k, v in real_features.items()}
            told["critic"] = self._teach_critic(press_real, press_fake)
        return told

    def _teach_critic(self, real: dict[int, torch.Tensor], fake: dict[int, torch.Tensor]) -> float:
        self.critic_optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            theirs = self.critic(real)
            mine = self.critic({k: v.detach() for k, v in fake.items()})
        loss = critic_loss(theirs, mine)
        loss.backward()
        self.critic_optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        for mean, value in zip(
            self.average.state_dict().values(), self.space.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _log(self, terms: dict[str, float], count: int, since_s: float) -> None:
        line = {"step": self.step, "minutes": round(self.spent_s / 60, 2), "size": self.space.size}
        images = count * (PRESS + FER) * self.options.batch_times
        line["a_second"] = round(images / (self.spent_s - since_s), 1)
        line |= {key: round(value, 4) for key, value in terms.items()}
        with (self.options.out / "latent.log").open("a") as file:
            file.write(json.dumps(line) + "\n")

    @torch.no_grad()
    def draw(self, faces: torch.Tensor) -> None:
        """Keep a sheet of held-out faces (n, 1, s, s) and what comes of them."""
        size, faces = self.space.size, faces.to(self.device)
        real = pooled(faces, size)
        again = self.average.generator(self.average.encoder(pooled(faces, SMALL)))
        unexplained = (real - again).square().mean((1, 2, 3)) / real.var((1, 2, 3))
        rows = torch.cat([torch.stack([real[i::2], again[i::2]]).flatten(0, 1) for i in (0, 1)])
        across = len(faces) // 2
        sheet = rows.view(4, across, size, size).transpose(1, 2).reshape(4 * size, across * size)
        pixels = ((sheet + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
        name = f"latent-{round(self.spent_s / 60):03d}min.png"
        cv2.imwrite(str(self.options.out / name), pixels)
        with (self.options.out / "latent.log").open("a") as file:
            told = {"sheet": name, "unexplained": round(float(unexplained.mean()), 4)}
            file.write(json.dumps(told) + "\n")


def stages_of(size: int, limit_s: float, grow_at: float) -> dict[int, tuple[float, float]]:
    """When each size up to `size` is trained, in seconds: SMALL first, then equal shares."""
    sizes = [SMALL]
    while sizes[-1] < size:
        sizes.append(sizes[-1] * 2)
    if len(sizes) == 1:
        return {SMALL: (0.0, limit_s)}
    ends = np.linspace(limit_s * grow_at, limit_s, len(sizes)).tolist()
    return dict(zip(sizes, zip([0.0, *ends], ends, strict=False), strict=True))


def pooled(faces: torch.Tensor, size: int) -> torch.Tensor:
    """Faces at `size` pixels, which divides theirs."""
    own = faces.shape[-1]
    return F.avg_pool2d(faces, own // size) if own > size else faces


def compared(faces: torch.Tensor, press: int) -> torch.Tensor:
    """Faces as the feature network sees them; FER-2013's only as sharp as its 48 pixels are."""
    size = faces.shape[-1]
    soft = F.avg_pool2d(faces[press:], size // 32)
    soft = F.interpolate(soft, size=size, mode="bilinear", align_corners=False)
    both = torch.cat([faces[:press], soft])
    wanted = min(max(96, size), 256)  # the largest faces that FaceRes knows what to do with
    if wanted != size:
        both = F.interpolate(both, size=wanted, mode="bilinear", align_corners=False)
    return both.contiguous(memory_format=torch.channels_last)


def reconstruction(
    real: torch.Tensor,
    fake: torch.Tensor,
    real_features: dict[int, torch.Tensor],
    fake_features: dict[int, torch.Tensor],
    press: int,
) -> dict[str, torch.Tensor]:
    """How far the pictures, their features and their identities are apart."""
    factor = real.shape[-1] // 32
    sharp = (real[:press] - fake[:press]).abs().mean()
    soft = (F.avg_pool2d(real[press:], factor) - F.avg_pool2d(fake[press:], factor)).abs().mean()
    unlike = [
        (F.normalize(fake_features[k].float()) - F.normalize(real_features[k].float()))
        .square()
        .sum(1)
        .mean()
        for k in CRITIC_LAYERS
    ]
    mine, theirs = (f[IDENTITY_LAYER].float().mean((2, 3)) for f in (fake_features, real_features))
    return {
        "l1": (sharp * press + soft * (len(real) - press)) / len(real),
        "features": torch.stack(unlike).sum(),
        "identity": (1 - F.cosine_similarity(mine, theirs)).mean(),
    }


def main(argv: list[str]) -> None:
    """Train; see the module."""
    parser = argparse.ArgumentParser(prog="python -m mien.training latent", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--grow-at", type=float, default=0.6, help="share of the time at 64 pixels")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--media", type=Path, help="not used by this recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True, help="faceres.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, choices=(64, 128, 256, 512, 1024), default=CROP)
    parser.add_argument("--channels", choices=tuple(CHANNELS), default="narrow")
    parser.add_argument("--batch-times", type=int, default=1, help="larger batches, for a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint")
    options = parser.parse_args(argv)
    if options.size not in CHANNELS[options.channels]:
        parser.error(f"--channels {options.channels} ends below {options.size} pixels; take public")
    options.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    crops, votes = load_faces(options.data, options.out, max(options.size, CROP))
    seed = options.seed + int(time.time()) % 100_000
    faces = Faces(crops, votes, seed, options.batch_times)
    held_out = np.flatnonzero(crops.validation & (crops.source == FACES160))
    every = held_out[np.linspace(0, len(held_out) - 1, 24).astype(int)]
    pixels = crops.pixels[every][:, None].astype(np.float32) / 127.5 - 1
    faces.held_out = torch.from_numpy(pixels)
    mean = torch.from_numpy(faces.crops.landmarks.mean(0).reshape(-1))
    Run(options, mean).train(faces)
