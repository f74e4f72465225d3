"""The StarGAN recipes of the parts paper: image, face and parts.

`python -m mien.training stargan --mode parts --emotions neutral,happy,sad --minutes N --data DIR
--out DIR`; the defaults are the paper's sizes and schedule, for a GPU. A student for a processor is
narrower; `python -m mien.training smile --student` has its settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from mien.export.models.gans import StarGanCritic, StarGanCriticSpec, StarGanGenerator, StarGanSpec
from mien.runtime.methods.gan.parts import PART_KINDS, SIZE
from mien.runtime.target import EMOTIONS, parse_target
from mien.training.gan.faces import (
    MODES,
    GanBatch,
    GanFaces,
    LessonBatch,
    Mode,
    label_width,
    load_pool,
)
from mien.training.gan.run import GanRun, GanSettings
from mien.training.gan.teacher import load_lessons
from mien.training.recipe import Prefetch

RECONSTRUCTION = 5.0  # the paper's
CLASSES_BATCH = 64  # of real pictures, while the critic learns their classes only
CHANGED = 10.0  # what a change of 1, of 2, adds to a pixel's weight in imitation
CLASSES = 1.0  # StarGAN's own weight of the classification; the paper names none


class StarGanRun(GanRun):
    """One generator for all emotions, one critic that also tells them apart."""

    def __init__(
        self,
        faces: GanFaces,
        mode: Mode,
        emotions: tuple[int, ...],
        settings: GanSettings,
        *,
        conv_dim: int,
        critic_dim: int,
        class_weight: float = CLASSES,
    ) -> None:
        self._mode, self._count, self._class_weight = mode, len(emotions), class_weight
        generator = StarGanGenerator(StarGanSpec(label_width(mode, len(emotions)), conv_dim))
        critic = StarGanCritic(StarGanCriticSpec(len(emotions), SIZE, critic_dim))
        super().__init__(f"stargan_{mode}", {"generator": generator}, {"critic": critic}, settings)
        self._generator, self._critic = self.generators["generator"], self.critics["critic"]
        self.batches = Prefetch(lambda: faces.draw(settings.batch))
        self._drawn = iter(self.batches)
        self.lesson_count = faces.lesson_count
        self.lessons = None
        if faces.has_teacher:
            self.lessons = Prefetch(lambda: faces.draw_lessons(settings.batch))
        self._lessons = None if self.lessons is None else iter(self.lessons)
        self.many = Prefetch(lambda: faces.draw(CLASSES_BATCH), depth=2)
        self._many_drawn = iter(self.many)

    def close(self) -> None:
        """Stop drawing pictures."""
        self.batches.close()
        self.many.close()
        if self.lessons is not None:
            self.lessons.close()

    def critic_loss(self) -> dict[str, torch.Tensor]:
        real, emotions, kinds = self._next()
        with torch.no_grad(), self.half():
            fake = self._generator(real, self._label(self._goals(len(real)), kinds)).float()
        real_score, logits = self._critic(real)
        fake_score, _ = self._critic(fake)
        return {
            "critic": fake_score.mean() - real_score.mean(),
            "penalty": self.penalty(lambda x: self._critic(x)[0], real, fake),
            "classes": self._class_weight * F.cross_entropy(logits, emotions),
        }

    def generator_loss(self) -> dict[str, torch.Tensor]:
        real, emotions, kinds = self._next()
        goals = self._goals(len(real))
        with self.half():
            fake = self._generator(real, self._label(goals, kinds))
            back = self._generator(fake, self._label(emotions, kinds))
        score, logits = self._critic(fake.float())
        terms = {
            "fooled": -score.mean(),
            "reached": self._class_weight * F.cross_entropy(logits, goals),
            "back": RECONSTRUCTION * F.l1_loss(back.float(), real),
        }
        weight = self.settings.imitation
        return terms | {"imitated": weight * self._imitation()} if weight else terms

    def warm_loss(self) -> dict[str, torch.Tensor]:
        if self._lessons is not None:
            return {"warm": RECONSTRUCTION * self._imitation()}
        real, emotions, kinds = self._next()
        with self.half():
            back = self._generator(real, self._label(emotions, kinds))
        return {"warm": RECONSTRUCTION * F.l1_loss(back.float(), real)}

    def _imitation(self) -> torch.Tensor:
        """How far the generator is from its teacher, in values and in edges."""
        assert self._lessons is not None, "imitation needs lessons"
        before, after, emotions, kinds = lessons_as_tensors(next(self._lessons), self.device)
        with self.half():
            shown = self._generator(before, self._label(emotions, kinds))
        return picture_distance(shown.float(), before, after)

    def classes_loss(self) -> dict[str, torch.Tensor]:
        real, emotions, _ = as_tensors(next(self._many_drawn), self.device)
        return {"classes": self._class_weight * F.cross_entropy(self._critic(real)[1], emotions)}

    def _next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return as_tensors(next(self._drawn), self.device)

    def _goals(self, count: int) -> torch.Tensor:
        return torch.randint(self._count, (count,), device=self.device)

    def _label(self, emotions: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        label = F.one_hot(emotions, self._count).float()
        if self._mode != "parts":
            return label
        return torch.cat([label, F.one_hot(kinds, len(PART_KINDS)).float()], 1)


def picture_distance(
    shown: torch.Tensor, before: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """How far a picture is from the wanted one, in values and in slopes: blur costs.

    All (n, 3, S, S). What the lesson changes counts CHANGED times its change more: it is a small
    part of a picture, and who leaves it out is hardly wrong anywhere else.
    """
    weight = 1 + CHANGED * F.avg_pool2d((wanted - before).abs(), 5, 1, 2)
    distance = (weight * (shown - wanted).abs()).mean()
    for axis in (2, 3):
        slopes = (shown.diff(dim=axis) - wanted.diff(dim=axis)).abs()
        distance = distance + (weight.narrow(axis, 1, SIZE - 1) * slopes).mean()
    return distance


def lessons_as_tensors(
    batch: LessonBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures before and after (n, 3, SIZE, SIZE); emotions (n,); kinds (n,)."""
    before, emotions, kinds = as_tensors(
        GanBatch(batch.pictures, batch.emotions, batch.kinds), device
    )
    after, _, _ = as_tensors(GanBatch(batch.goals, batch.emotions, batch.kinds), device)
    return before, after, emotions, kinds


def as_tensors(
    batch: GanBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (n, 3, SIZE, SIZE), the luma three times over; emotions (n,); kinds (n,)."""
    pictures = torch.from_numpy(batch.pictures).to(device)[:, None].expand(-1, 3, -1, -1)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    return (
        pictures,
        torch.from_numpy(batch.emotions).to(device),
        torch.from_numpy(batch.kinds).to(device),
    )


def gan_parser(recipe: str) -> argparse.ArgumentParser:
    """The options that both recipes share."""
    parser = argparse.ArgumentParser(prog=f"python -m mien.training {recipe}")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of faces160 and fer2013")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of the cropped faces; by default --out")
    parser.add_argument("--media", type=Path, help="not used by this recipe")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--critic-steps", type=int, default=5)
    parser.add_argument("--penalty-every", type=int, default=1)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--classes-share", type=float, default=0.0)
    parser.add_argument("--warm-share", type=float, default=0.0)
    parser.add_argument("--teacher", action="store_true", help="imitate the warp editor first")
    parser.add_argument("--imitation", type=float, default=0.0, help="its weight after that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint")
    return parser


def gan_faces(args: argparse.Namespace, emotions: tuple[int, ...]) -> GanFaces:
    """The faces that `gan_parser` understood; emotions: index into EMOTIONS."""
    cache = args.cache or args.out
    pool = load_pool(args.data, cache)
    lessons = load_lessons(pool, emotions, cache) if args.teacher else None
    return GanFaces(pool, args.mode, emotions, args.seed, lessons)


def gan_settings(args: argparse.Namespace) -> GanSettings:
    """What `gan_parser` understood."""
    return GanSettings(
        minutes=args.minutes,
        out=args.out,
        device=args.device,
        batch=args.batch,
        rate=args.rate,
        critic_steps=args.critic_steps,
        penalty_every=args.penalty_every,
        average=args.average,
        classes_share=args.classes_share,
        warm_share=args.warm_share,
        imitation=args.imitation,
        fresh=args.fresh,
    )


def main(argv: list[str]) -> None:
    """Train one StarGAN, export it, measure it, write its card."""
    from mien.training.gan.ending import finish_stargan

    parser = gan_parser("stargan")
    parser.add_argument("--emotions", default="neutral,happy,sad", help="or `all` for seven")
    parser.add_argument("--conv-dim", type=int, default=64)
    parser.add_argument("--critic-dim", type=int, default=64)
    parser.add_argument("--class-weight", type=float, default=CLASSES)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    names = EMOTIONS[:7] if args.emotions == "all" else tuple(args.emotions.split(","))
    emotions = tuple(int(parse_target(name).vector().argmax()) for name in names)
    faces = gan_faces(args, emotions)
    run = StarGanRun(
        faces,
        args.mode,
        emotions,
        gan_settings(args),
        conv_dim=args.conv_dim,
        critic_dim=args.critic_dim,
        class_weight=args.class_weight,
    )
    try:
        run.train()
    finally:
        run.close()
    finish_stargan(run, names, args)
