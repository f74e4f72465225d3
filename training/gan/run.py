"""The timed, resumable loop of the GAN recipes, and the paper's adversarial objective.

Source: "Let's put a smile on your face", section 3.2: Wasserstein loss with gradient penalty
(Gulrajani et al., 2017), Adam with betas (0.5, 0.99), the generator updated every fifth step,
Gaussian noise before the critic's convolutions that decays during training.
"""

from __future__ import annotations

import copy
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mien.export.models.gans import Noise

BETAS = (0.5, 0.99)
PENALTY = 10.0
NOISE_STD, NOISE_KEPT = 0.1, 0.99  # the share that is kept with each hundredth of the training
LOG_S, SAVE_S = 20.0, 150.0


@dataclass(frozen=True, slots=True)
class GanSettings:
    """How to train; the defaults are the paper's.

    penalty_every: critic steps from one gradient penalty to the next, which then weighs as much
    more (the lazy regularisation of Karras et al., 2020): its second backward pass is half the
    cost of a critic's step.
    classes_share: of the time, at its begin, in which the critic only learns to tell real pictures'
    classes apart, for it sees few of them beside a generator. warm_share: of the time, thereafter,
    in which the generator only learns to give back what it was shown. The paper has hours for both;
    with minutes this is the quickest way to there.
    """

    minutes: float
    out: Path
    device: str
    batch: int = 64
    rate: float = 1e-4
    critic_steps: int = 5
    penalty_every: int = 1
    average: float = 0.999
    classes_share: float = 0.0
    warm_share: float = 0.0
    warm_rate: float = 1e-3
    imitation: float = 0.0
    fresh: bool = False


class GanRun(ABC):
    """Trains generators against critics; afterwards `average` holds the generators to ship.

    generators, critics: by name. Subclasses give the losses of a batch that they draw themselves.
    """

    def __init__(
        self,
        name: str,
        generators: dict[str, nn.Module],
        critics: dict[str, nn.Module],
        settings: GanSettings,
    ) -> None:
        self.name, self.settings = name, settings
        self.lesson_count = 0
        self.device = torch.device(settings.device)
        to = {"device": self.device, "memory_format": torch.channels_last}
        self.generators = {key: net.to(**to) for key, net in generators.items()}
        self.critics = {key: net.to(**to) for key, net in critics.items()}
        self.average = {key: copy.deepcopy(net).eval() for key, net in self.generators.items()}
        self._optimizers = {
            "generators": self._adam(self.generators.values()),
            "critics": self._adam(self.critics.values()),
        }
        self.spent_s, self.step, self.updates = 0.0, 0, 0
        settings.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = settings.out / f"{name}.pt"
        if self.checkpoint.exists() and not settings.fresh:
            self._resume()

    @abstractmethod
    def critic_loss(self) -> dict[str, torch.Tensor]:
        """The terms of the critics on a new batch; their sum is minimised."""

    @abstractmethod
    def generator_loss(self) -> dict[str, torch.Tensor]:
        """The terms of the generators on a new batch; their sum is minimised."""

    @abstractmethod
    def warm_loss(self) -> dict[str, torch.Tensor]:
        """How badly the generators do as their teacher, or give back what they were shown."""

    def classes_loss(self) -> dict[str, torch.Tensor]:
        """How badly a critic tells real pictures' classes apart; no terms where it has none."""
        return {}

    def penalty(
        self,
        scores: Callable[[torch.Tensor], torch.Tensor],
        real: torch.Tensor,
        fake: torch.Tensor,
    ) -> torch.Tensor:
        """The gradient penalty in the steps that have one, else 0."""
        every = self.settings.penalty_every
        if self.step % every:
            return real.new_zeros(())
        return every * gradient_penalty(scores, real, fake)

    def train(self) -> None:
        """Train until the minutes are spent."""
        limit_s = self.settings.minutes * 60
        sums: dict[str, list[float]] = {}
        last, logged, saved = time.monotonic(), self.spent_s, self.spent_s
        while self.spent_s < limit_s:
            for key, value in self._one_step(self.spent_s / limit_s).items():
                sums.setdefault(key, []).append(value)
            now = time.monotonic()
            self.spent_s += now - last
            last = now
            if self.spent_s - logged > LOG_S:
                self._log({key: sum(values) / len(values) for key, values in sums.items()})
                sums, logged = {}, self.spent_s
            if self.spent_s - saved > SAVE_S:
                self._save()
                saved = self.spent_s
        self._save()

    def half(self) -> torch.autocast:
        """Bfloat16 for the generators; the critics and their penalty stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def _one_step(self, share: float) -> dict[str, float]:
        classes, warm = self.settings.classes_share, self.settings.warm_share
        if share < classes:
            rate = self.settings.warm_rate * (1.1 - share / classes)
            return self._apply("critics", self.classes_loss, rate)
        if share < classes + warm:
            return self._apply("generators", self.warm_loss, self.settings.warm_rate)
        # Weights that have learned nothing new for long are worth their last share of the rate.
        rate = self.settings.rate * min(1.0, 2.5 * (1 - share) + 0.02)
        self._set_noise(NOISE_STD * NOISE_KEPT ** (100 * share))
        terms = self._apply("critics", self.critic_loss, rate)
        self.step += 1
        if self.step % self.settings.critic_steps == 0:
            terms |= self._apply("generators", self.generator_loss, rate)
        return terms

    def _apply(
        self, side: str, loss_of: Callable[[], dict[str, torch.Tensor]], rate: float
    ) -> dict[str, float]:
        trains = self.generators if side == "generators" else self.critics
        for net in (*self.generators.values(), *self.critics.values()):
            net.requires_grad_(any(net is mine for mine in trains.values()))
        optimizer = self._optimizers[side]
        for group in optimizer.param_groups:
            group["lr"] = rate
        terms = loss_of()
        if not terms:
            return {}
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        if side == "generators":
            self.updates += 1
            self._update_average()
        return {key: float(value.detach()) for key, value in terms.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.settings.average, (1 + self.updates) / (10 + self.updates))
        for key, mean in self.average.items():
            theirs = self.generators[key].state_dict()
            for entry, value in mean.state_dict().items():
                value.lerp_(theirs[entry], 1 - keep)

    def _set_noise(self, std: float) -> None:
        for critic in self.critics.values():
            for module in critic.modules():
                if isinstance(module, Noise):
                    module.std = std

    def _adam(self, networks: Iterable[nn.Module]) -> torch.optim.Adam:
        parameters = [p for network in networks for p in network.parameters()]
        return torch.optim.Adam(parameters, self.settings.rate, betas=BETAS)

    def _log(self, terms: dict[str, float]) -> None:
        line = {"step": self.step, "updates": self.updates, "minutes": round(self.spent_s / 60, 2)}
        line |= {key: round(value, 4) for key, value in terms.items()}
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        part = self.checkpoint.with_suffix(".part")
        state = {key: net.state_dict() for key, net in self._stored().items()}
        counts = {"spent_s": self.spent_s, "step": self.step, "updates": self.updates}
        torch.save({"networks": state, **counts}, part)
        part.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        for key, stored in self._stored().items():
            stored.load_state_dict(state["networks"][key])
        self.spent_s = float(state["spent_s"])
        self.step, self.updates = int(state["step"]), int(state["updates"])

    def _stored(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        stored: dict[str, nn.Module | torch.optim.Optimizer] = {}
        for kind, nets in (
            ("generator", self.generators),
            ("critic", self.critics),
            ("average", self.average),
        ):
            stored |= {f"{kind}.{key}": net for key, net in nets.items()}
        return stored | {f"optimizer.{key}": one for key, one in self._optimizers.items()}


def gradient_penalty(
    scores: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
    """PENALTY times how far the critic's slope between real and fake pictures is from 1.

    scores: pictures (n, 3, S, S) to patches (n, 1, s, s). Source: Gulrajani et al., 2017, eq. 3.
    """
    mix = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    patches = scores(between).mean((1, 2, 3)).sum()
    (slope,) = torch.autograd.grad(patches, between, create_graph=True)
    lengths = slope.flatten(1).norm(dim=1)
    return PENALTY * ((lengths - 1) ** 2).mean()
