"""The CycleGAN recipes of the parts paper: image, face and parts, from one emotion to another.

`python -m mien.training cyclegan --mode parts --minutes N --data DIR --out DIR`; the defaults are
the paper's sizes and schedule, for a GPU. A student for a processor is narrower; `python -m
mien.training smile --student` has its settings.

Parts share one pair of generators: what a square shows tells which part it is.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mien.export.models.gans import CycleGanGenerator, CycleGanSpec, PatchGan, PatchGanSpec
from mien.runtime.target import EMOTIONS, parse_target
from mien.training.gan.faces import GanFaces, Mode
from mien.training.gan.run import GanRun, GanSettings
from mien.training.gan.stargan import (
    as_tensors,
    gan_faces,
    gan_parser,
    gan_settings,
    lessons_as_tensors,
    picture_distance,
)
from mien.training.recipe import Prefetch

CYCLE, IDENTITY = 10.0, 5.0  # the paper's
BACK_EVERY = 4  # updates from one lesson of `back` to its next: only `there` is shipped


class CycleGanRun(GanRun):
    """Two generators, there and back, and a critic for either domain.

    `there` turns the first emotion of `faces` into the second.
    """

    def __init__(
        self,
        faces: GanFaces,
        mode: Mode,
        settings: GanSettings,
        *,
        spec: CycleGanSpec,
        critic_dim: int,
    ) -> None:
        generators = {key: CycleGanGenerator(spec) for key in ("there", "back")}
        critics = {key: PatchGan(PatchGanSpec(critic_dim)) for key in ("source", "goal")}
        super().__init__(f"cyclegan_{mode}", dict(generators), dict(critics), settings)
        self._there, self._back = self.generators["there"], self.generators["back"]
        self._source, self._goal = self.critics["source"], self.critics["goal"]
        self.batches = Prefetch(
            lambda: (faces.draw(settings.batch, 0), faces.draw(settings.batch, 1))
        )
        self._drawn = iter(self.batches)
        self.lesson_count = faces.lesson_count
        self.lessons = None
        if faces.has_teacher:
            self.lessons = Prefetch(
                lambda: tuple(faces.draw_lessons(settings.batch, goal) for goal in (0, 1))
            )
        self._lessons = None if self.lessons is None else iter(self.lessons)

    def critic_loss(self) -> dict[str, torch.Tensor]:
        source, goal = self._next()
        with torch.no_grad(), self.half():
            fake_goal, fake_source = self._there(source).float(), self._back(goal).float()
        pairs = ((self._goal, goal, fake_goal), (self._source, source, fake_source))
        return {
            "critic": torch.stack(
                [c(fake).mean() - c(real).mean() for c, real, fake in pairs]
            ).sum(),
            "penalty": torch.stack([self.penalty(c, r, f) for c, r, f in pairs]).sum(),
        }

    def generator_loss(self) -> dict[str, torch.Tensor]:
        source, goal = self._next()
        with self.half():
            fake_goal, fake_source = self._there(source), self._back(goal)
            cycle = F.l1_loss(self._back(fake_goal).float(), source) + F.l1_loss(
                self._there(fake_source).float(), goal
            )
            same = F.l1_loss(self._there(goal).float(), goal) + F.l1_loss(
                self._back(source).float(), source
            )
        fooled = self._goal(fake_goal.float()).mean() + self._source(fake_source.float()).mean()
        terms = {"fooled": -fooled, "cycle": CYCLE * cycle, "identity": IDENTITY * same}
        weight = self.settings.imitation
        return terms | {"imitated": weight * self._imitation()} if weight else terms

    def _imitation(self) -> torch.Tensor:
        """How far the generators are from their teacher; `back` is asked now and then."""
        assert self._lessons is not None, "imitation needs lessons"
        distance = torch.zeros((), device=self.device)
        pairs = list(zip((self._back, self._there), next(self._lessons), strict=True))
        if self.updates % BACK_EVERY:
            del pairs[0]
        for generator, lesson in pairs:
            before, after, _, _ = lessons_as_tensors(lesson, self.device)
            with self.half():
                shown = generator(before)
            distance = distance + picture_distance(shown.float(), before, after)
        return distance

    def close(self) -> None:
        """Stop drawing pictures."""
        self.batches.close()
        if self.lessons is not None:
            self.lessons.close()

    def warm_loss(self) -> dict[str, torch.Tensor]:
        if self._lessons is not None:
            return {"warm": IDENTITY * self._imitation()}
        source, goal = self._next()
        with self.half():
            same = F.l1_loss(self._there(source).float(), source) + F.l1_loss(
                self._back(goal).float(), goal
            )
        return {"warm": IDENTITY * same}

    def _next(self) -> tuple[torch.Tensor, torch.Tensor]:
        source, goal = next(self._drawn)
        return as_tensors(source, self.device)[0], as_tensors(goal, self.device)[0]


def main(argv: list[str]) -> None:
    """Train one CycleGAN, export its way there, measure it, write its card."""
    from mien.training.gan.ending import finish_cyclegan

    parser = gan_parser("cyclegan")
    parser.add_argument("--emotions", default="neutral,happy", help="from, to")
    parser.add_argument("--ngf", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--critic-dim", type=int, default=64)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    names = tuple(
        EMOTIONS[int(parse_target(n).vector().argmax())] for n in args.emotions.split(",")
    )
    if len(names) != 2:
        parser.error("--emotions takes two: from, to")
    emotions = tuple(EMOTIONS.index(name) for name in names)
    faces = gan_faces(args, emotions)
    spec = CycleGanSpec(args.ngf, args.blocks)
    run = CycleGanRun(faces, args.mode, gan_settings(args), spec=spec, critic_dim=args.critic_dim)
    try:
        run.train()
    finally:
        run.close()
    finish_cyclegan(run, names, args)
