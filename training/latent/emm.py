"""The Emotion Manipulation Mapper, and StyleCLIP's mapper without condition to compare with.

`python -m mien.training emm --minutes N --condition global --data DIR --out DIR --features
faceres.json`, after `classifiers` and `text-image`. The loss is the paper's (equations 9 to 15)
with its weights: the text-image pair in CLIP's place, the dual auxiliary classifier, the length of
the step, and identity by FaceRes. Added are a critic on the features that identity takes anyway,
since fear overshoots without one, and a pull of fear's and disgust's landmarks towards what facial
action units say, since their pictures are scarce. `--guides guides.pt` (of `python -m mien.training
guide`) adds classifiers of other make to the classes' term: a mapper that has one classifier of
pictures to please learns what pleases that one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.emm import EmotionMapper
from mien.runtime.target import EMOTIONS
from mien.training.latent.captions import caption_tokens, emotion_caption
from mien.training.latent.classifiers import yes_or_no
from mien.training.latent.data import (
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
)
from mien.training.latent.edits import (
    Dac,
    MapperKind,
    condition_of,
    draw_edits,
    edited,
    emotion_codes,
    load_dac,
    measure,
    new_mapper,
    sources_of,
)
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import (
    CRITIC_LAYERS,
    IDENTITY_LAYER,
    SMALL,
    Critic,
    FaceSpace,
    critic_loss,
)
from mien.training.latent.scores import add_judges, load_judges, printed
from mien.training.latent.text_image import load_pair
from mien.training.recipe import Schedule, Trainer, write_metrics
from mien.training.warp.displacements import TargetDisplacements
from mien.training.warp.guide import CLASSES, jitter, load_guides

# The paper's, for CLIP, cross-entropy, L2 and identity; the others are this recipe's.
WEIGHTS = {
    "clip": 1.0,
    "classes": 0.1,
    "move": 0.8,
    "identity": 0.5,
    "real": 0.1,
    "shape": 8.0,
    "guides": 0.3,
    "light": 2.0,
}
TARGET_CHANCES = (1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.0, 0.4)  # of EMOTIONS
SHAPED = (EMOTIONS.index("fearful"), EMOTIONS.index("disgusted"))
CRITIC_RATE, CRITIC_KEPT = 5e-4, 200
WARM_SHARE = 0.06  # of the minutes, on codes alone
# Of the way between mean codes, which votes make shy: on 16 held-out neutral people a classifier of
# other origin named 0.39 of plain directions right at 1.5 of the way, 0.46 at 2.5.
WARM_STEP = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """codes (n, layers, style_dim), condition (n, 8), target (n, 8) one-hot, landmarks (n, 212)."""

    codes: torch.Tensor
    condition: torch.Tensor
    target: torch.Tensor
    landmarks: torch.Tensor


class AskedFaces:
    """Batches of training faces of all emotions, each with a target."""

    def __init__(self, faces: CodedFaces, dac: Dac, batch: int, seed: int) -> None:
        self.faces, self.dac, self.batch = faces, dac, batch
        self.random = np.random.default_rng(seed)
        self.chances = faces.balanced(0.6)
        self.sources = sources_of(dac.latent, faces.codes)
        self.wanted = np.array(TARGET_CHANCES) / sum(TARGET_CHANCES)

    def __call__(self) -> Asked:
        rows = self.random.choice(self.faces.train, self.batch, p=self.chances)
        targets = self.random.choice(len(EMOTIONS), self.batch, p=self.wanted)
        drawn = torch.from_numpy(self.random.normal(size=(self.batch, len(EMOTIONS)))).float()
        marks = self.faces.crops.landmarks[rows].reshape(self.batch, -1)
        return Asked(
            self.faces.codes[torch.from_numpy(rows)],
            condition_of(self.dac.table, self.sources[rows], drawn),
            torch.eye(len(EMOTIONS))[torch.from_numpy(targets)],
            torch.from_numpy(marks),
        )


class EmmLoss:
    """Equations 9 to 15, the critic's term and the shape's, each with its weight.

    It trains its critic as it goes; `critic_file` keeps it beside the mapper's checkpoint.
    """

    def __init__(
        self,
        options: LatentOptions,
        faces: CodedFaces,
        space: FaceSpace,
        dac: Dac,
        *,
        critic_file: Path,
        guides: Path | None = None,
    ) -> None:
        self.device = torch.device(options.device)
        self.space, self.dac = space, dac
        self.features = FaceFeatures(options.features).to(self.device)
        self.pair = load_pair(options)
        prompts = caption_tokens([emotion_caption(emotion) for emotion in EMOTIONS])
        self.texts = self.pair.text(torch.from_numpy(prompts).to(self.device))
        self.deviation = faces.statistics()[1].square().mean().sqrt().item()
        self.displacements = TargetDisplacements(self.device)
        self.guides = load_guides(guides).to(self.device) if guides else nn.ModuleList()
        self.critic = Critic().to(self.device, memory_format=torch.channels_last)
        self.critic_file, self.steps = critic_file, 0
        start = torch.load(options.space, weights_only=True, map_location="cpu")["critic"]
        if critic_file.exists() and not options.fresh:
            start = torch.load(critic_file, weights_only=True, map_location="cpu")
        self.critic.load_state_dict(start)
        learned = [p for p in self.critic.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(learned, CRITIC_RATE, betas=(0.0, 0.99))
        self._last: tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]] | None = None

    def __call__(self, network: nn.Module, batch: Asked) -> dict[str, torch.Tensor]:
        self._teach()
        codes, target = batch.codes.to(self.device), batch.target.to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            moved = network(codes, batch.condition.to(self.device), target)
        with torch.no_grad():
            before = self.space.generator(codes).float()
            theirs = self._features(before)
        after = self.space.generator(moved).float()
        mine = self._features(after)
        terms = self._accuracy(moved, after, target)
        terms["move"] = ((moved - codes) / self.deviation).square().mean()
        persons = [f[IDENTITY_LAYER].float().mean((2, 3)) for f in (theirs, mine)]
        terms["identity"] = (1 - F.cosine_similarity(*persons)).mean()
        # Classifiers look past light, so nothing else would hold it.
        terms["light"] = (after.mean((1, 2, 3)) - before.mean((1, 2, 3))).abs().mean()
        pushed = self.critic({k: mine[k] for k in CRITIC_LAYERS})
        terms["real"] = -sum(score.float().mean() for score in pushed) / len(pushed)
        shaped = self._shape(after, batch, target)
        if shaped is not None:
            terms["shape"] = shaped
        self._last = theirs, {k: value.detach() for k, value in mine.items()}
        return {name: WEIGHTS[name] * value for name, value in terms.items()}

    def _features(self, faces: torch.Tensor) -> dict[int, torch.Tensor]:
        seen = F.interpolate(faces, size=96, mode="bilinear", align_corners=False)
        seen = seen.contiguous(memory_format=torch.channels_last)
        found: dict[int, torch.Tensor] = self.features(seen, (*CRITIC_LAYERS, IDENTITY_LAYER))
        return found

    def _accuracy(
        self, moved: torch.Tensor, after: torch.Tensor, target: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Equations 9 and 10; pictures are jittered, so that no pixel pattern is a verdict."""
        small = F.avg_pool2d(after, after.shape[-1] // SMALL) if after.shape[-1] > SMALL else after
        seen = jitter((small + 1) / 2) * 2 - 1
        near = (self.pair.image(seen) * (target @ self.texts)).sum(1)
        with torch.autocast(self.device.type, enabled=False):
            latent = self.dac.latent(moved)
        classes = yes_or_no(latent, target) + yes_or_no(self.dac.image(seen), target)
        terms = {"clip": (1 - near).mean(), "classes": classes}
        known = torch.nonzero(target[:, :CLASSES].sum(1))[:, 0]
        if len(self.guides) and len(known):
            # One at a time: it costs less, and no fixed verdict is there to exploit.
            guide = self.guides[int(torch.randint(len(self.guides), ()))]
            verdict = guide((seen[known] + 1) / 2).float()
            terms["guides"] = F.cross_entropy(verdict, target[known].argmax(1))
        return terms

    def _shape(
        self, after: torch.Tensor, batch: Asked, target: torch.Tensor
    ) -> torch.Tensor | None:
        """How far the landmarks of fear and disgust are from where action units put them."""
        rows = torch.nonzero(target[:, list(SHAPED)].sum(1))[:, 0]
        if not len(rows):
            return None
        marks = batch.landmarks.to(self.device)[rows].view(len(rows), -1, 2)
        present = batch.condition.to(self.device)[rows].clamp(0, 1)
        present = present / present.sum(1, keepdim=True).clamp(min=1e-3)
        wanted = marks + self.displacements.displacement(marks, present, target[rows])
        small = after[rows]
        if small.shape[-1] > SMALL:
            small = F.avg_pool2d(small, small.shape[-1] // SMALL)
        base, _ = self.space.encoder.parts(small)
        with torch.autocast(self.device.type, enabled=False):
            found = self.space.heads.landmarks(base.float()).view_as(wanted)
        return (found - wanted).abs().mean() * len(rows) / len(target)

    def _teach(self) -> None:
        """One step of the critic on the pictures of the last batch.

        Its weights may not change between a batch's loss and its gradient, so it is a batch late.
        """
        if self._last is None:
            return
        theirs, mine = (self.critic(features) for features in self._last)
        loss = critic_loss(theirs, mine)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.steps += 1
        if self.steps % CRITIC_KEPT == 0:
            part = self.critic_file.with_suffix(".part")  # a run may be stopped while it writes
            torch.save(self.critic.state_dict(), part)
            part.replace(self.critic_file)


class WarmLoss:
    """Codes alone: what the target adds instead of what the source adds, and what equation 10 says.

    It takes a hundredth of what a picture takes, and is where plain directions end.
    """

    def __init__(self, faces: CodedFaces, dac: Dac, device: torch.device) -> None:
        self.means = emotion_codes(faces).to(device)
        self.deviation = faces.statistics()[1].to(device)
        self.latent, self.device = dac.latent, device

    def __call__(self, network: nn.Module, batch: Asked) -> dict[str, torch.Tensor]:
        codes, target = batch.codes.to(self.device), batch.target.to(self.device)
        condition = batch.condition.to(self.device)
        moved = network(codes, condition, target)
        shown = condition / condition.sum(1, keepdim=True).clamp(min=1e-3)
        shift = torch.einsum("ne,els->nls", target - shown, self.means)
        apart = (moved - codes - WARM_STEP * shift) / self.deviation
        classes = yes_or_no(self.latent(moved), target)
        return {"mean": apart.square().mean(), "classes": WEIGHTS["classes"] * classes}


def warmed(
    mapper: EmotionMapper, name: str, options: LatentOptions, faces: CodedFaces, dac: Dac
) -> EmotionMapper:
    """A mapper that already moves codes as plain directions do."""
    own = dataclasses.replace(options.of_recipe(), minutes=options.minutes * WARM_SHARE)
    schedule = Schedule(rate=2e-3, weight_decay=0.0, average=0.98, half=False)
    trainer: Trainer[Asked] = Trainer(f"{name}_warm", mapper, own, schedule)
    batches = AskedFaces(faces, dac, 32, options.seed + trainer.step)
    trainer.run(batches, WarmLoss(faces, dac, trainer.device))
    average = trainer.average
    assert isinstance(average, EmotionMapper)
    return average


def main(argv: list[str]) -> None:
    """Train and measure one mapper; `emm.pt`, or `styleclip.pt` without condition, in `--out`."""
    parser = latent_parser("emm", 10)
    parser.add_argument("--condition", choices=("global", "local", "none"), default="global")
    parser.add_argument(
        "--norm", choices=("statistics", "layers", "channels"), default="statistics"
    )
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--measured", type=int, default=60, help="people of each source emotion")
    parser.add_argument("--guides", type=Path, help="guides.pt, for more classifiers")
    add_judges(parser)
    args = parser.parse_args(argv)
    options = latent_options(args)
    space = load_space(options.space, options.device)
    faces = load_coded_faces(options, space)
    dac = load_dac(options, faces)
    kind = MapperKind(args.condition, args.norm, args.depth)
    name = kind.name
    schedule = Schedule(rate=1e-3, weight_decay=0.0, clip_norm=1.0)
    mapper = warmed(new_mapper(faces, kind, options.seed), name, options, faces, dac).train()
    own = dataclasses.replace(options.of_recipe(), minutes=options.minutes * (1 - WARM_SHARE))
    trainer: Trainer[Asked] = Trainer(name, mapper, own, schedule)
    critic_file = options.work / f"{name}_critic.pt"
    loss = EmmLoss(options, faces, space, dac, critic_file=critic_file, guides=args.guides)

    def draw(mapper: nn.Module, title: str) -> None:
        draw_edits(mapper, faces, space, dac, options.work / f"{title}.png")

    batches = AskedFaces(faces, dac, options.batch, options.seed + trainer.step)
    trainer.run(batches, loss, draw)
    trained = trainer.average.float().eval()

    def edit(codes: torch.Tensor, target: str) -> torch.Tensor:
        return edited(trained, codes, dac, target)

    judges = load_judges(args.judges_code, args.judges)
    scores = measure(edit, faces, space, judges, args.measured)
    for title, table in scores.items():
        print(printed(title, table), flush=True)
    metrics: dict[str, object] = {"scores": scores, "batch": options.batch}
    metrics |= dataclasses.asdict(kind)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    write_metrics(options.work / f"{name}.json", metrics)
