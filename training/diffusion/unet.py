"""The UNets of the diffusion recipe: how teachers and their few-step students learn.

A teacher learns to clean pictures under noise of log-normal levels (Karras et al. 2022, EDM, table
1: the weights make every level count alike, and the preconditioning predicts the picture at high
noise and the noise at low, as v-prediction does between). A student learns to take two steps of its
teacher in one (Salimans and Ho, "Progressive Distillation", 2022), down with the teacher's guidance
folded in and up for inversion; each has half as many steps as the one before.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.diffusion import FER2013_LABELS, SIZE, UNetFacts, unet_name, unet_network
from mien.engines.engine import Engine
from mien.export.models.small_unet import SIGMA_DATA, SmallUNet
from mien.runtime.methods.diffusion.sampler import INVERSION_SIGMA, crowded_sigmas
from mien.training.diffusion.codes import Batch

LOG_MEAN, LOG_DEVIATION = -1.0, 1.3  # of the noise level in training; EDM has -1.2 and 1.2
DROP_LABEL, DROP_ALL = 0.1, 0.05
CODE_NOISE = 0.15  # on whitened codes, or the picture would be learnt by heart
# Of the teacher that the first student copies: from an edit's noise level, and from far above it.
TEACHER_STEPS, FAR, FAR_STEPS = 8, 10.0, 16
UP, RECONSTRUCT = 0.3, 0.15  # of a student's lessons: inversion, and the way down without a label

Terms = dict[str, torch.Tensor]


def teacher_loss(network: nn.Module, batch: Batch) -> Terms:
    """EDM's weighted error of the clean picture."""
    device = next(network.parameters()).device
    faces, labels, codes = (t.to(device) for t in (batch.faces, batch.labels, batch.codes))
    count = len(faces)
    sigma = (torch.randn(count, device=device) * LOG_DEVIATION + LOG_MEAN).exp().clamp(2e-3, 80)
    chance = torch.rand(2, count, device=device)
    labels = labels * (chance[0] >= DROP_LABEL)[:, None]
    scale = (chance[1] >= DROP_ALL).float()
    noised = faces + sigma[:, None, None, None] * torch.randn_like(faces)
    cleaned = network(noised, sigma, labels, *_codes(codes), scale)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    error = (cleaned.float() - faces).square().mean((1, 2, 3))
    return {"denoising": (weight * error).mean()}


def _codes(codes: torch.Tensor, *, noisy: bool = True) -> tuple[torch.Tensor, ...]:
    """The codes as the network takes them: nothing where they are empty."""
    if not codes.shape[1]:
        return ()
    return (codes + CODE_NOISE * torch.randn_like(codes) if noisy else codes,)


def grown(teacher: SmallUNet, semantic: int) -> SmallUNet:
    """A UNet that begins as `teacher` and takes a code of the input as well."""
    network = SmallUNet(replace(teacher.spec, semantic=semantic))
    network.load_state_dict(teacher.state_dict(), strict=False)
    return network


def student_of(teacher: SmallUNet, steps: int, start: float, guidance: float) -> SmallUNet:
    """A student that begins as its teacher. Its noise levels are every second one of its teacher's.

    start: the highest noise level, for the first student; later ones keep their teacher's.
    """
    spec = replace(teacher.spec, steps=steps)
    network = SmallUNet(spec)
    state = dict(teacher.state_dict())
    finer = teacher_sigmas(teacher, start)
    state["sigmas"] = finer[:: (len(finer) - 1) // steps].clone()
    state["guidance"] = torch.tensor(guidance)
    network.load_state_dict(state)
    return network


def teacher_sigmas(teacher: SmallUNet, start: float) -> torch.Tensor:
    """The noise levels that a student's teacher steps through."""
    if teacher.spec.steps:
        return teacher.sigmas.detach().cpu()
    steps = TEACHER_STEPS if start <= FAR else FAR_STEPS
    return torch.from_numpy(crowded_sigmas(steps, start)).float()


class Distillation:
    """The loss of a student: where several steps of its teacher lead, from the same noised picture.

    Two steps, or four for the first student of a teacher that comes from far above.
    """

    def __init__(self, teacher: SmallUNet, start: float, guidance: float) -> None:
        self._teacher = copy.deepcopy(teacher).eval().requires_grad_(requires_grad=False)
        self._sigmas = teacher_sigmas(teacher, start)
        self._guidance = guidance

    def __call__(self, network: nn.Module, batch: Batch) -> Terms:
        """The terms of a step of the student `network`."""
        assert isinstance(network, SmallUNet)
        device = next(network.parameters()).device
        teacher = self._teacher.to(device)
        faces, codes = batch.faces.to(device), batch.codes.to(device)
        count = len(faces)
        # Any target for any face: what the picture shows teaches nothing of an edit.
        kinds = batch.labels.shape[1]
        labels = F.one_hot(torch.randint(0, kinds, (count,), device=device), kinds).float()
        up = torch.arange(count, device=device) < round(UP * count)
        silent = torch.arange(count, device=device) >= count - round(RECONSTRUCT * count)
        stops = self._stops(network.spec.steps, up)
        high, low = stops[0], stops[-1]
        # A face that is to be inverted has no noise yet.
        added = torch.where(up & (high <= INVERSION_SIGMA), 0.0, high)
        noised = faces + added[:, None, None, None] * torch.randn_like(faces)
        asked = labels * (~up & ~silent)[:, None]
        given = _codes(codes, noisy=False)
        with torch.no_grad():
            reached = noised
            for ends in itertools.pairwise(stops):
                reached = self._step(teacher, reached, ends, asked, given, up)
            ratio = (low / high)[:, None, None, None]
            wanted = (reached - ratio * noised) / (1 - ratio)
        told = torch.where(up[:, None], torch.ones_like(asked), asked)
        cleaned = network(noised, high, told, *given, torch.ones_like(high)).float()
        weight = (high**2 + SIGMA_DATA**2) / (high * SIGMA_DATA) ** 2
        error = weight * (cleaned - wanted).square().mean((1, 2, 3))
        return {"down": error[~up].sum() / count, "up": error[up].sum() / count}

    def _stops(self, steps: int, up: torch.Tensor) -> list[torch.Tensor]:
        """Where each row starts, what its teacher passes, and where it arrives."""
        stride, rest = divmod(len(self._sigmas) - 1, steps)
        assert not rest, "the steps of a student divide those of its teacher"
        device = up.device
        down_way = self._sigmas.to(device)
        lowest = torch.tensor([INVERSION_SIGMA], device=device, dtype=down_way.dtype)
        up_way = torch.cat([lowest, down_way[:-1].flip(0)])
        step = torch.randint(0, steps, (len(up),), device=device) * stride
        passed = (step + offset for offset in range(stride + 1))
        return [torch.where(up, up_way[index], down_way[index]) for index in passed]

    def _step(
        self,
        teacher: SmallUNet,
        x: torch.Tensor,
        ends: tuple[torch.Tensor, torch.Tensor],
        asked: torch.Tensor,
        given: tuple[torch.Tensor, ...],
        up: torch.Tensor,
    ) -> torch.Tensor:
        """x after a step of the teacher between two noise levels."""
        sigma, following = ends
        scale = torch.ones_like(sigma)
        if teacher.spec.steps:  # guidance is in it already
            told = torch.where(up[:, None], torch.ones_like(asked), asked)
            cleaned = teacher(x, sigma, told, *given, scale)
        else:
            cleaned = teacher(x, sigma, torch.zeros_like(asked), *given, scale)
            rows = asked.any(1)  # the others ask for no emotion, and have it
            if rows.any():
                part = [tensor[rows] for tensor in (x, sigma, asked, *given, scale)]
                plain = cleaned[rows]
                cleaned[rows] = plain + self._guidance * (teacher(*part) - plain)
        ratio = (following / sigma)[:, None, None, None]
        moved: torch.Tensor = cleaned.float() + ratio * (x - cleaned.float())
        return moved


class ModuleEngine(Engine):
    """A UNet in torch as the sampler takes it, so that sheets show what the runtime would make."""

    def __init__(self, module: SmallUNet, condition: str, batch: int = 32) -> None:
        spec = module.spec
        sigmas = tuple(map(float, module.sigmas.tolist())) or None
        facts = UNetFacts(
            "sigma", SIZE, batch, FER2013_LABELS, spec.semantic, condition, "label", sigmas,
            float(module.guidance),
        )  # fmt: skip
        network = unet_network(
            unet_name(condition, spec.steps),
            "sigma",
            labels=spec.labels,
            semantic=spec.semantic,
            batch=batch,
        )
        metadata = {f"mien.{key}": text for key, text in facts.words.items()}
        super().__init__(network, "PyTorch", metadata)
        self.words = facts.words
        self._module = module.eval()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        device = next(self._module.parameters()).device
        given = [torch.from_numpy(feeds[spec.name]).to(device) for spec in self.network.inputs]
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            found = self._module(*given).float()
        return {"denoised": found.cpu().numpy()}

    def _release(self) -> None:
        """Nothing to give back."""
