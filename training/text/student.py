"""The three-stage generator, learned from the teacher: (caption, z) to a picture.

L1 and features say what the picture is to be; beside them stand the paper's losses: adversarial,
conditional, word-level, perceptual, DAMSM, the CLIP term, here with its gradient, and the
divergence of the augmentation. The first two stages are learned together, then the third alone, on
top of them.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.damsm import code_scores, matching_loss, word_scores
from mien.export.models.text_faces import GeneratorSpec, TextGenerator
from mien.export.models.text_image import TextImagePair
from mien.training.latent.captions import caption_tokens
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import CRITIC_LAYERS, SMALL, Critic, critic_loss
from mien.training.recipe import Prefetch
from mien.training.text.damsm import Damsm
from mien.training.text.finish import luma_of
from mien.training.text.teacher import Teacher, Wanted

DEEP, DEEP_WIDTH = 9, 512  # the layer of the features that words and sentences are compared with
WEIGHTS = {
    "l1": 6.0,
    "features": 1.0,
    "real": 0.1,
    "conditional": 0.05,
    "words": 0.05,
    "damsm": 0.03,
    "clip": 0.2,
    "divergence": 0.02,
}
RATE, CRITIC_RATE = 8e-4, 3e-4
ABSENT = -1e4
LOG_S, SAVE_S, DRAW_S = 20.0, 150.0, 180.0


class TextCritic(nn.Module):
    """Whether a picture is real, belongs to a sentence, and shows its words.

    Source: the discriminator of the paper: adversarial, conditional and word-level relevant loss,
    the last of ControlGAN. It sees frozen features (projected GAN), so it learns within minutes.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.real = Critic()
        self.pooled, self.said = nn.Linear(DEEP_WIDTH, width), nn.Linear(width, width)
        self.regions = nn.Conv2d(DEEP_WIDTH, width, 1)
        self.weigh = nn.Linear(width, 1)

    def fits(self, deep: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        """Logits of pictures' features (n, 512, h, w) and sentences (n, width): (n,)."""
        seen = self.pooled(deep.mean((2, 3)))
        return (seen * self.said(sentence)).sum(1) / seen.shape[1] ** 0.5

    def relevance(
        self, deep: torch.Tensor, words: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        """The paper's LOSS_corre: how well words are to be found in regions: (n,) in (0, 1)."""
        places = self.regions(deep).flatten(2)
        looked = (words.transpose(1, 2) @ places).softmax(2)
        context = places @ looked.transpose(1, 2)
        near = (4 * F.cosine_similarity(context, words, dim=1)).sigmoid()
        absent = (1 - present) * ABSENT
        weights = (self.weigh(words.transpose(1, 2))[..., 0] + absent).softmax(1)
        return (weights * near).sum(1).clamp(1e-4, 1 - 1e-4)


@dataclass(frozen=True, slots=True)
class Guides:
    """What teaches, all frozen.

    teacher: None where the generator is its own (`text-further`). clip: the contrastive pair, None
    to go without its term.
    """

    teacher: Teacher | None
    damsm: Damsm
    features: FaceFeatures
    clip: TextImagePair | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a run works, for how long, its peak rate, and how long weights are averaged.

    stage: 2 for the first two stages, 3 for the third.
    """

    name: str
    out: Path
    minutes: float
    stage: int
    device: torch.device
    fresh: bool = False
    rate: float = RATE
    average: float = 0.998


class Run:
    """The training of some stages: weights, their average, the critic, the time. Resumable."""

    def __init__(self, plan: Plan, generator: TextGenerator, guides: Guides) -> None:
        self.plan, self.guides, self.device = plan, guides, plan.device
        self.generator = generator.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(requires_grad=False)
        self.critic = TextCritic(generator.spec.nef).to(self.device)
        self.learned = []
        for name, parameter in self.generator.named_parameters():
            parameter.requires_grad_(_stage_of(name) in self._stages)
            if parameter.requires_grad:
                self.learned.append(parameter)
        self.optimiser = torch.optim.Adam(self.learned, RATE, betas=(0.5, 0.99))
        known = [p for p in self.critic.parameters() if p.requires_grad]
        self.critic_optimiser = torch.optim.Adam(known, CRITIC_RATE, betas=(0.0, 0.99))
        self.spent_s, self.step = 0.0, 0
        self.checkpoint = plan.out / f"{plan.name}.pt"
        if self.checkpoint.exists() and not plan.fresh:
            self._resume()

    @property
    def _stages(self) -> tuple[int, ...]:
        return (1, 2) if self.plan.stage == 2 else (3,)

    def train(
        self,
        make: Callable[[], Wanted],
        real: Callable[[], torch.Tensor] | None,
        draw: Callable[[TextGenerator, str], None],
    ) -> None:
        """Train until the minutes are spent.

        real: batches of photographs at the last stage's size, which its critic takes for real;
        None for the teacher's own pictures. draw: keeps a sheet under a name.
        """
        limit_s = self.plan.minutes * 60
        if self.spent_s >= limit_s:
            return
        batches, last = Prefetch(make), time.monotonic()
        logged = saved = drawn = self.spent_s
        sums: dict[str, float] = {}
        count = 0
        for name, module in self.generator.named_children():
            module.train(_stage_of(name) in self._stages)  # what is done keeps its statistics
        try:
            for wanted in batches:
                self._set_rates(self.spent_s / limit_s)
                terms = self._one_step(wanted, None if real is None else real())
                sums = {k: sums.get(k, 0.0) + v for k, v in terms.items()}
                count, now = count + 1, time.monotonic()
                self.spent_s, last = self.spent_s + now - last, now
                if self.spent_s - logged > LOG_S:
                    self._log({k: v / count for k, v in sums.items()})
                    sums, count, logged = {}, 0, self.spent_s
                if self.spent_s - saved > SAVE_S:
                    self._save()
                    saved = self.spent_s
                if self.spent_s - drawn > DRAW_S:
                    draw(self.average, self._name())
                    drawn = self.spent_s
                if self.spent_s >= limit_s:
                    break
        finally:
            batches.close()
        self._save()
        draw(self.average, self._name())

    def _name(self) -> str:
        return f"{self.plan.name}-{self.spent_s / 60:05.1f}min"

    def _set_rates(self, share: float) -> None:
        rate = min(1.0, 0.05 + share / 0.03) * (
            0.03 + 0.97 * 0.5 * (1 + float(np.cos(np.pi * share)))
        )
        peaks = (self.plan.rate, CRITIC_RATE)
        for optimiser, peak in zip((self.optimiser, self.critic_optimiser), peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate

    def _one_step(self, wanted: Wanted, photographs: torch.Tensor | None) -> dict[str, float]:
        with torch.autocast(self.device.type, torch.bfloat16):
            said = self._said(wanted.tokens)
            target = self.guides.teacher(
                wanted.amounts.to(self.device), wanted.emotions.to(self.device)
            )
            made, mean, log_variance = self._made(wanted, said)
            real, fake = _at_sizes(target, made), made
            seen = self._features(real[-1].detach())
            looked = self._features(fake[-1])
        terms = {"l1": sum(((r - f.float()).abs().mean() for r, f in zip(real, fake, strict=True)))}
        terms["features"] = _unlike(seen, looked)
        if self.plan.stage == 2:
            terms["divergence"] = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean()
        terms |= self._judged(looked, said)
        terms |= self._matched(fake[-1], wanted, said)
        told = self._learn(terms, WEIGHTS)
        if photographs is not None:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
                alone = self._features(photographs.to(self.device))
        else:
            alone = seen
        told["critic"] = self._teach_critic(seen, alone, looked, said)
        return told

    def _learn(
        self, terms: Mapping[str, torch.Tensor], weights: Mapping[str, float]
    ) -> dict[str, float]:
        """The terms as numbers, after one step of the generator by their weighted sum."""
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.learned, 5.0)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return {name: float(term.detach()) for name, term in terms.items()}

    @torch.no_grad()
    def _said(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Words, sentence and which words are present."""
        words, sentence, present = self.guides.damsm.text(tokens.to(self.device))
        return words.float(), sentence.float(), present

    def _made(
        self, wanted: Wanted, said: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """The pictures of the stages that are learned, and the augmentation."""
        words, sentence, present = said
        mean, log_variance = self.generator.ca_net(sentence)
        mean, log_variance = mean.float(), log_variance.float()
        eps = torch.randn_like(mean)
        code = torch.cat([mean + eps * (log_variance / 2).exp(), wanted.z.to(self.device)], 1)
        found = self.generator.stages(code, words, present, self.plan.stage)
        pictures = list(found[: self.plan.stage])
        return (pictures[-1:] if self.plan.stage == 3 else pictures), mean, log_variance

    def _features(self, pictures: torch.Tensor) -> dict[int, torch.Tensor]:
        """What the face network sees in pictures (n, 3, s, s)."""
        grey = luma_of(pictures.float())
        size = 96 if grey.shape[-1] <= 128 else 160
        grey = F.interpolate(grey, size=size, mode="bilinear", antialias=grey.shape[-1] > 128)
        return self.guides.features(
            grey.contiguous(memory_format=torch.channels_last), CRITIC_LAYERS
        )

    def _judged(
        self,
        looked: dict[int, torch.Tensor],
        said: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The paper's terms of the discriminator."""
        words, sentence, present = said
        with torch.autocast(self.device.type, torch.bfloat16):
            scores = self.critic.real(looked)
            fits = self.critic.fits(looked[DEEP], sentence)
        near = self.critic.relevance(looked[DEEP].float(), words, present)
        return {
            "real": -torch.stack([s.float().mean() for s in scores]).mean(),
            "conditional": F.softplus(-fits.float()).mean(),
            "words": -near.log().mean(),
        }

    def _matched(
        self,
        made: torch.Tensor,
        wanted: Wanted,
        said: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """DAMSM's term and CLIP's, with their gradients."""
        words, sentence, present = said
        size = min(made.shape[-1], 128)
        small = F.avg_pool2d(made.float(), made.shape[-1] // size)
        code, regions = self.guides.damsm.image(small)
        fits = wanted.fits.to(self.device)
        scores = (word_scores(words, present, regions), code_scores(sentence, code))
        terms = {"damsm": torch.stack([matching_loss(one, fits) for one in scores]).sum()}
        if self.guides.clip is not None:
            grey = F.avg_pool2d(luma_of(made.float()), made.shape[-1] // SMALL)
            tokens = torch.from_numpy(caption_tokens([c.text for c in wanted.captions]))
            seen = self.guides.clip.image(grey)
            with torch.no_grad():
                asked = self.guides.clip.text(tokens.to(self.device))
            terms["clip"] = (1 - (seen * asked).sum(1)).mean()
        return terms

    def _teach_critic(
        self,
        seen: dict[int, torch.Tensor],
        alone: dict[int, torch.Tensor],
        looked: dict[int, torch.Tensor],
        said: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        told: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    ) -> float:
        """Real pictures with their captions against made ones, and against others' captions.

        seen: real pictures, of the captions `told`, or of those that are said. alone: pictures that
        need no caption.
        """
        words, sentence, present = told or said
        fake = {layer: values.detach() for layer, values in looked.items()}
        self.critic_optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = critic_loss(self.critic.real(alone), self.critic.real(fake))
            right = self.critic.fits(seen[DEEP], sentence).float()
            wrong = self.critic.fits(seen[DEEP], sentence.roll(1, 0)).float()
            made = self.critic.fits(fake[DEEP], said[1]).float()
        loss = loss + F.softplus(-right).mean() + F.softplus(made).mean() / 2
        loss = loss + F.softplus(wrong).mean() / 2
        deep = seen[DEEP].float()
        near = self.critic.relevance(deep, words, present)
        other = self.critic.relevance(deep, words.roll(1, 0), present.roll(1, 0))
        loss = loss - near.log().mean() - (1 - other).log().mean()
        loss.backward()
        self.critic_optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        mine, theirs = self.average.state_dict(), self.generator.state_dict()
        for key, value in mine.items():
            if value.is_floating_point():
                value.lerp_(theirs[key], 1 - keep)
            else:
                value.copy_(theirs[key])

    def _log(self, terms: dict[str, float]) -> None:
        line = {"step": self.step, "minutes": round(self.spent_s / 60, 2)}
        line |= {key: round(value, 4) for key, value in terms.items()}
        print(json.dumps(line), flush=True)
        with (self.plan.out / f"{self.plan.name}.log").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        part = self.checkpoint.with_suffix(".part")
        state = {
            "network": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "critic": self.critic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "spec": spec_words(self.generator.spec),
            "spent_s": self.spent_s,
            "step": self.step,
        }
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.generator.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.spent_s, self.step = float(state["spent_s"]), int(state["step"])


def spec_words(spec: GeneratorSpec) -> dict[str, int]:
    """The sizes that a checkpoint states of its generator."""
    return {"ngf": spec.ngf, "nef": spec.nef, "condition": spec.condition, "noise": spec.noise}


def _stage_of(name: str) -> int:
    """Which stage a part of the generator belongs to, by its name."""
    first = name.split(".", maxsplit=1)[0]
    return 1 if first == "ca_net" else int(first[-1])


def _at_sizes(target: torch.Tensor, made: list[torch.Tensor]) -> list[torch.Tensor]:
    """The target at the size of each picture that is made of it."""
    own = target.shape[-1]
    return [F.avg_pool2d(target, own // m.shape[-1]) if own > m.shape[-1] else target for m in made]


def _unlike(seen: dict[int, torch.Tensor], looked: dict[int, torch.Tensor]) -> torch.Tensor:
    """The perceptual term: how far features are apart, each place of unit length."""
    terms = [
        (F.normalize(looked[k].float()) - F.normalize(seen[k].float())).square().sum(1).mean()
        for k in CRITIC_LAYERS
    ]
    return torch.stack(terms).sum()


@torch.no_grad()
def draw_sheet(
    generator: TextGenerator, guides: Guides, wanted: Wanted, path: Path, stage: int
) -> None:
    """Keep a picture of rows of four faces: the teacher's, and below each the generator's."""
    device = wanted.amounts.device
    words, sentence, present = guides.damsm.text(wanted.tokens.to(device))
    mean, _ = generator.ca_net(sentence)
    code = torch.cat([mean, wanted.z.to(device)], 1)
    made = generator.stages(code, words, present, stage)[stage - 1].float()
    (target,) = _at_sizes(guides.teacher(wanted.amounts, wanted.emotions.to(device)), [made])
    write_faces(path, [target, made])


def write_faces(path: Path, pictures: list[torch.Tensor], across: int = 8) -> None:
    """Keep rows of faces, each of pictures (n, 3, s, s) in [-1, 1] below the one before."""
    rows = []
    for first in range(0, len(pictures[0]), across):
        part = slice(first, first + across)
        rows += [torch.cat(list(faces[part]), 2) for faces in pictures]
    sheet = torch.cat(rows, 1).cpu()
    pixels = ((sheet + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0)
    cv2.imwrite(str(path), np.ascontiguousarray(pixels.numpy()[..., ::-1]))
