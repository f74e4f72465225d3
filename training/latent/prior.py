"""The prior f(z): a mapping network from noise to codes, fitted by regression.

`python -m mien.training mapper --minutes N --data DIR --out DIR --features faceres.json`. An
adversarial mapping network collapsed on this face space, and a Gaussian over the principal
components of the codes knows nothing of how components go together. So a flow is learned first
that carries noise to the amounts of the components (Lipman et al., "Flow Matching", 2023), then
the mapping network, a Gaussian at first, learns by regression where the flow carries each noise,
in one step.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.prior import Prior, PriorSpec, Velocity
from mien.training.latent.data import (
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
    write_sheet,
)
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import FaceSpace
from mien.training.latent.scores import frechet
from mien.training.recipe import Schedule, Trainer, write_metrics

FLOW_SHARE = 0.4  # of the minutes
STEPS = 12  # of the flow, by Heun's method
PAIRS = 60_000  # of noise and where the flow carries it, made once: that takes longer than a step
CARRIED = 1024  # at once
JITTER = 0.02  # deviations; without it the flow could end in the training codes themselves
FEATURE_LAYER = 9


def new_prior(faces: CodedFaces, components: int, seed: int) -> Prior:
    """Untrained, with the principal components of the training codes."""
    torch.manual_seed(seed)
    layers, style_dim = faces.codes.shape[1:]
    prior = Prior(PriorSpec(layers, style_dim, components=components))
    flat = faces.codes[torch.from_numpy(faces.train)].flatten(1)
    prior.mean.copy_(flat.mean(0))
    centred = flat - prior.mean
    _, deviations, axes = torch.svd_lowrank(centred, q=components + 8, niter=3)
    scale = deviations[:components] / len(flat) ** 0.5
    prior.basis.copy_(axes.T[:components] * scale[:, None])
    return prior


def prior_of(options: LatentOptions, faces: CodedFaces) -> Prior:
    """The averaged mapping network that `mapper` left in the work folder."""
    state = torch.load(options.work / "prior.pt", weights_only=True, map_location="cpu")["average"]
    layers, style_dim = faces.codes.shape[1:]
    prior = Prior(PriorSpec(layers, style_dim, components=len(state["basis"])))
    prior.load_state_dict(state)
    return prior.eval()


def true_amounts(prior: Prior, codes: torch.Tensor) -> torch.Tensor:
    """How much of each component codes have, in deviations: (n, components)."""
    scale = prior.basis.square().sum(1)
    return ((codes.flatten(1) - prior.mean) @ prior.basis.T) / scale


class FlowLoss:
    """The velocity from noise to amounts, at a random time of a straight way."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, network: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        end = batch.to(self.device)
        start, time = torch.randn_like(end), torch.rand(len(end), 1, device=self.device)
        between = start + (end - start) * time
        return {"velocity": F.mse_loss(network(between, time), end - start)}


@torch.no_grad()
def carried(flow: nn.Module, start: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Where the flow carries noise: amounts of the components."""
    x, dt = start, 1 / steps
    for step in range(steps):
        now = torch.full((len(x), 1), step * dt, device=x.device)
        slope = flow(x, now)
        ahead = flow(x + slope * dt, now + dt)
        x = x + (slope + ahead) / 2 * dt
    return x


Pairs = tuple[torch.Tensor, torch.Tensor]  # noise (n, z_dim), and amounts (n, components)


def carried_pairs(flow: nn.Module, count: int, z_dim: int, components: int) -> Pairs:
    """Noise, and where the flow carries its first numbers; both on the processor."""
    device = next(flow.parameters()).device
    z = torch.randn(count, z_dim)
    z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)  # as the mapping network sees it
    parts = (part[:, :components].to(device) for part in z.split(CARRIED))
    return z, torch.cat([carried(flow, part).cpu() for part in parts])


class Regression:
    """The mapping network to where the flow carries the noise."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, network: nn.Module, batch: Pairs) -> dict[str, torch.Tensor]:
        assert isinstance(network, Prior)
        z, wanted = (part.to(self.device) for part in batch)
        return {"amounts": F.mse_loss(network.amounts(z), wanted)}


@torch.inference_mode()
def measure(
    prior: Prior, faces: CodedFaces, space: FaceSpace, features: FaceFeatures, samples: int
) -> dict[str, object]:
    """Frechet distances to reconstructions of real faces: f(z), and a Gaussian over the same."""
    random = torch.Generator().manual_seed(5)
    rows = np.random.default_rng(5).choice(faces.train, samples)
    z = torch.randn(samples, prior.spec.z_dim, generator=random)
    gaussian = torch.randn(samples, prior.spec.components, generator=random)
    sets = {
        "real": faces.codes[torch.from_numpy(rows)],
        "mapper": prior.codes(prior.amounts(z)),
        "gaussian": prior.codes(gaussian),
        "projected": prior.codes(true_amounts(prior, faces.codes[torch.from_numpy(rows)])),
    }
    seen = {name: _seen(codes, space, features) for name, codes in sets.items()}
    return {
        f"frechet_{name}": round(frechet(seen["real"], found), 3)
        for name, found in seen.items()
        if name != "real"
    }


def _seen(codes: torch.Tensor, space: FaceSpace, features: FaceFeatures) -> np.ndarray:
    """Pooled features of what the generator makes of codes: (n, 512)."""
    found = []
    for part in codes.split(64):
        with torch.autocast("cpu", torch.bfloat16):
            made = space.generator(part).float()
        made = F.interpolate(made, size=96, mode="bilinear", align_corners=False)
        found.append(features(made, (FEATURE_LAYER,))[FEATURE_LAYER].mean((2, 3)))
    return torch.cat(found).float().numpy()


@torch.no_grad()
def draw_samples(prior: Prior, space: FaceSpace, options: LatentOptions, name: str) -> None:
    """Keep a sheet: two rows of a Gaussian, then four of the mapping network, psi 0.7."""
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(32, prior.spec.components, generator=random)
    z = torch.randn(64, prior.spec.z_dim, generator=random)
    amounts = torch.cat([noise, prior.cpu().amounts(z)])
    faces = space.cpu().generator(prior.codes(amounts * 0.7))
    write_sheet(options.work / f"{name}.png", list(faces.split(16)))


def main(argv: list[str]) -> None:
    """Train and measure the prior; its checkpoint is `prior.pt` in `--out`."""
    parser = latent_parser("mapper", 256)
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--samples", type=int, default=1024, help="how many are measured")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of noise and amounts to learn")
    args = parser.parse_args(argv)
    options = latent_options(args)
    space = load_space(options.space)
    faces = load_coded_faces(options, load_space(options.space, options.device))
    prior = new_prior(faces, args.components, options.seed)
    amounts = true_amounts(prior, faces.codes[torch.from_numpy(faces.train)])

    def draw() -> torch.Tensor:
        rows = torch.randint(len(amounts), (options.batch,))
        return amounts[rows] + JITTER * torch.randn(options.batch, args.components)

    whole = options.of_recipe()
    schedule = Schedule(rate=1e-3, weight_decay=1e-2, half=False)
    flow: Trainer[torch.Tensor] = Trainer(
        "prior_flow",
        Velocity(args.components),
        dataclasses.replace(whole, minutes=options.minutes * FLOW_SHARE),
        schedule,
    )
    flow.run(draw, FlowLoss(flow.device))
    z, wanted = carried_pairs(flow.average, args.pairs, prior.spec.z_dim, args.components)

    def draw_pairs() -> Pairs:
        rows = torch.randint(len(z), (options.batch,))
        return z[rows], wanted[rows]

    own = dataclasses.replace(whole, minutes=options.minutes * (1 - FLOW_SHARE))
    schedule = dataclasses.replace(schedule, rate=5e-4, weight_decay=1e-4)
    trainer: Trainer[Pairs] = Trainer("prior", prior, own, schedule)
    trainer.run(draw_pairs, Regression(trainer.device))
    trained = trainer.average.cpu().float().eval()
    assert isinstance(trained, Prior)
    draw_samples(trained, space, options, "prior")
    metrics = measure(trained, faces, space, FaceFeatures(options.features), args.samples)
    metrics["explained"] = _explained(trained, faces)
    metrics["minutes"] = round((flow.spent_s + trainer.spent_s) / 60, 1)
    metrics["steps"] = {"flow": flow.step, "regression": trainer.step}
    write_metrics(options.work / "prior.json", metrics)


def _explained(prior: Prior, faces: CodedFaces) -> float:
    """The share of the codes' variance that the components hold."""
    codes = faces.codes[torch.from_numpy(faces.train)].flatten(1)
    return round(float(prior.basis.square().sum() / codes.var(0).sum()), 4)
