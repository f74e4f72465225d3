"""Faces from text, trained further from networks that were shipped, without their checkpoints.

`python -m mien.training text-further --minutes N --data DIR --media DIR --out DIR --features
faceres.json --begin-with DIR`, the last a folder of models. Both parts of the DAMSM pair and the
generator are read back from their graphs. First the pair learns, on photographs and on the
generator's pictures, to prefer what says the most of what is there: with captions alike that say
less, "a woman" was as near to a face as "a happy woman with glasses". Then all stages of the
generator learn to be told apart by it, and from photographs, which `text` shows to the third alone.
It stays near the pictures it began with, in which backdrops lose their blue.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.text_faces import (
    ENCODER,
    FIRST,
    GENERATOR,
    IMAGE_ENCODER,
    NOISE,
    TEXT_FACE_NAMES,
    WIDTH,
    encoder_network,
    generator_network,
    image_encoder_network,
    stage_sizes,
)
from mien.export.models.damsm import (
    REGIONS,
    SmallImageEncoder,
    code_scores,
    matching_loss,
    word_scores,
)
from mien.export.models.text_faces import GeneratorSpec, TextEncoder, TextGenerator, merged
from mien.export.read_back import read_back, renormalise
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, balanced_weights
from mien.training.latent.attributes import face_facts, kept_measures
from mien.training.latent.captions import fitting
from mien.training.latent.data import (
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_labelled_faces,
)
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import CRITIC_LAYERS
from mien.training.recipe import Schedule, Trainer, training_in, write_metrics
from mien.training.text.captions import INDEX, caption_of, text_facts, tokens_of, vocabulary
from mien.training.text.damsm import FACTS, SEEN, Damsm, captions_of, measure
from mien.training.text.finish import ColourBatches, chroma_of, colour_faces, luma_of, rgb_of
from mien.training.text.recipe import SHEET, export_networks, frozen
from mien.training.text.student import Guides, Plan, Run, write_faces
from mien.training.text.teacher import EXCLUSIVE, FEWEST, SURE, stated_facts
from mien.training.warp.guide import jitter

SHARES = {"pair": 0.6, "generator": 0.4}
RATE, PAIR_RATE = 4e-4, 5e-4
OTHERS = 0.15  # of a caption's own weight, that of another one that surely fits as well
# With twice as much of `real`, and places held at half this size, an hour of training turned
# surprise to anger and made fear crooked: most photographs are calm or smile.
WEIGHTS = {
    "place": 8.0,
    "anchor": 0.3,
    "colour": 6.0,
    "smaller": 1.0,
    "real": 0.12,
    "conditional": 0.05,
    "words": 0.05,
    "damsm": 0.5,
    "divergence": 0.02,
}
COARSE = 32  # pixels a side at which pictures are held in place
BLUE = 0.25  # what is left of the colour where it is blue
EDGE, EXTENDED = 4, 0.8  # lines, and the steps of 8 bits between them below which they are repeated
CRITIC_SIZE = 160


def known_of(facts: tuple[int, ...], base: np.ndarray) -> np.ndarray:
    """How surely each of TEXT_FACTS holds for a picture of which some are stated.

    base: how often each holds where nothing is known. What excludes a stated fact does not hold.
    """
    known = base.copy()
    if any(fact < len(EMOTIONS) for fact in facts):
        known[: len(EMOTIONS)] = 0
    for group in EXCLUSIVE:
        rows = [INDEX[name] for name in group]
        if set(rows) & set(facts):
            known[rows] = 0
    known[list(facts)] = 1
    return known


def sharpened(fits: np.ndarray) -> torch.Tensor:
    """The targets of matching: a picture's own caption before the others that fit it: (n, n)."""
    targets = OTHERS * torch.from_numpy(fits)
    return targets.fill_diagonal_(1.0)


@dataclass(frozen=True, slots=True)
class Described:
    """z (n, noise) of pictures to be made, their captions, tokens, and what is known of them.

    photographs: float32 (m, 1, SEEN, SEEN) in [-1, 1], and their tokens.
    holds: (n + m, facts), how surely each holds, the made ones first; fits: (n + m, n + m).
    """

    z: torch.Tensor
    tokens: torch.Tensor
    photographs: torch.Tensor
    photograph_tokens: torch.Tensor
    holds: torch.Tensor
    fits: torch.Tensor


class DescribedFaces:
    """Batches of captions to draw, and of photographs with captions of their own.

    noise: numbers of z. press: only photographs of faces160 that are whole: they are examples.
    """

    def __init__(
        self,
        faces: CodedFaces,
        holds: np.ndarray,
        counts: tuple[int, int],
        seed: int,
        *,
        noise: int,
        press: bool,
    ) -> None:
        self.faces, self.holds, self.counts, self.noise = faces, holds, counts, noise
        self.random, self.usable = np.random.default_rng(seed), usable_facts(faces, holds)
        self.base = holds[faces.train].mean(0)
        rows = faces.train
        if press:
            rows = rows[faces.crops.source[rows] == FACES160]
            rows = rows[is_whole(faces.crops.pixels[rows])]
        self.rows = rows
        self.chances = balanced_weights(faces.labels[self.rows], 0.6)

    def __call__(self) -> Described:
        made, real = self.counts
        rows = self.random.choice(self.rows, real, p=self.chances)
        told = captions_of(self.holds[rows], self.random, self.usable)
        asked = [
            caption_of(stated_facts(self.usable, self.random), self.random) for _ in range(made)
        ]
        known = np.stack([known_of(caption.facts, self.base) for caption in asked])
        holds = np.concatenate([known, self.holds[rows]]).astype(np.float32)
        z = torch.from_numpy(self.random.standard_normal((made, self.noise), np.float32))
        return Described(
            z,
            torch.from_numpy(tokens_of([caption.text for caption in asked])),
            self.faces.pictures(rows, SEEN),
            torch.from_numpy(tokens_of([caption.text for caption in told])),
            torch.from_numpy(holds),
            sharpened(fitting(holds, [*asked, *told])),
        )


def usable_facts(faces: CodedFaces, holds: np.ndarray) -> np.ndarray:
    """Which facts are seen often enough to be stated: bool (facts,)."""
    usable: np.ndarray = (holds[faces.train] >= SURE).sum(0) >= FEWEST
    return usable


class PairLoss:
    """Words and codes matched both ways, of photographs and of what the generator makes."""

    def __init__(self, generator: TextGenerator, text: TextEncoder, device: torch.device) -> None:
        self.generator, self.text, self.device = generator, text, device

    def __call__(self, network: nn.Module, batch: Described) -> dict[str, torch.Tensor]:
        tokens = batch.tokens.to(self.device)
        with torch.no_grad():
            words, sentence, present = (part.float() for part in self.text(tokens))
            made = drawn(self.generator, batch.z.to(self.device), words, sentence, present)
        made = _pooled(luma_of(made.float()), SEEN)
        pictures = torch.cat([made, batch.photographs.to(self.device)])
        pictures = (jitter((pictures + 1) / 2, mirrored=False) * 2 - 1).expand(-1, 3, -1, -1)
        tokens = torch.cat([tokens, batch.photograph_tokens.to(self.device)])
        by_word, by_code, facts = network(pictures, tokens)
        fits, holds = batch.fits.to(self.device), batch.holds.to(self.device)
        return {
            "words": matching_loss(by_word, fits),
            "codes": matching_loss(by_code, fits),
            "facts": FACTS * F.binary_cross_entropy_with_logits(facts, holds),
        }


def drawn(
    generator: TextGenerator,
    z: torch.Tensor,
    words: torch.Tensor,
    sentence: torch.Tensor,
    present: torch.Tensor,
) -> torch.Tensor:
    """The last stage's pictures (n, 3, 256, 256) in [-1, 1], with a random augmentation."""
    eps = torch.randn(len(z), generator.spec.condition, device=z.device)
    made: torch.Tensor = generator(z, eps, words, sentence, present)[generator.spec.stages - 1]
    return made


def calmed(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in which blue is nearly grey: studio backdrops were learned with the portraits."""
    y, chroma = luma_of(pictures), chroma_of(pictures)
    return rgb_of(y, torch.where(chroma[:, :1] > 0, BLUE * chroma, chroma))


def is_whole(pixels: np.ndarray) -> np.ndarray:
    """Which crops, uint8 (n, s, s), end within their pictures at the bottom: bool (n,).

    Others were extended by their last line, and a generator that sees them draws streaks there.
    """
    steps = np.diff(pixels[:, -EDGE:].astype(np.int16), axis=1)
    whole: np.ndarray = np.abs(steps).mean((1, 2)) >= EXTENDED
    return whole


class FurtherRun(Run):
    """The training of all stages at once.

    photographs for its critic: those of the batch with their captions, and portraits alone.
    """

    def __init__(self, plan: Plan, generator: TextGenerator, guides: Guides) -> None:
        self.start = frozen(copy.deepcopy(generator)).to(plan.device)
        super().__init__(plan, generator, guides)

    @property
    def _stages(self) -> tuple[int, ...]:
        return (1, 2, 3)

    def _one_step(self, batch: Described, portraits: torch.Tensor | None) -> dict[str, float]:
        said = self._said(batch.tokens)
        told = self._said(batch.photograph_tokens)
        z = batch.z.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            mean, log_variance = self.generator.ca_net(said[1])
            mean, log_variance = mean.float(), log_variance.float()
            code = torch.cat([mean + torch.randn_like(mean) * (log_variance / 2).exp(), z], 1)
            with torch.no_grad():
                anchor = calmed(self.start.stages(code, said[0], said[2], 3)[2].float())
                seen = self._features(batch.photographs.to(self.device).expand(-1, 3, -1, -1))
            made = [one.float() for one in self.generator.stages(code, said[0], said[2], 3)[:3]]
            looked = self._features(made[2])
        last = made[2]
        terms = {
            "place": (_pooled(last, COARSE) - _pooled(anchor, COARSE)).abs().mean(),
            "anchor": (last - anchor).abs().mean(),
            # The critic looks at luma alone; left to it, bright spots turn yellow.
            "colour": (chroma_of(last) - chroma_of(anchor)).abs().mean(),
            "smaller": torch.stack(
                [(one - _pooled(last.detach(), one.shape[-1])).abs().mean() for one in made[:2]]
            ).sum(),
            "divergence": -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean(),
        }
        terms |= self._judged(looked, said)
        code, regions = self.guides.damsm.image(_pooled(last, SEEN))
        fits = batch.fits[: len(z), : len(z)].to(self.device)
        scores = (word_scores(said[0], said[2], regions), code_scores(said[1], code))
        terms["damsm"] = torch.stack([matching_loss(one, fits) for one in scores]).sum()
        found = self._learn(terms, WEIGHTS)
        alone = seen
        if portraits is not None:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
                theirs = self._features(portraits.to(self.device))
            alone = {layer: torch.cat([seen[layer], theirs[layer]]) for layer in seen}
        found["critic"] = self._teach_critic(seen, alone, looked, said, told)
        return found

    def _features(self, pictures: torch.Tensor) -> dict[int, torch.Tensor]:
        grey = F.interpolate(
            luma_of(pictures.float()), size=CRITIC_SIZE, mode="bilinear", antialias=True
        )
        return self.guides.features(
            grey.contiguous(memory_format=torch.channels_last), CRITIC_LAYERS
        )


def _pooled(pictures: torch.Tensor, size: int) -> torch.Tensor:
    return F.avg_pool2d(pictures, pictures.shape[-1] // size)


def read_pair(models: Path) -> Damsm:
    """The pair of a folder of models, without the layer that says what holds."""
    pair, count = Damsm(), len(vocabulary()) + FIRST
    pair.text = read_back(pair.text, encoder_network(count), models / f"{ENCODER}.onnx")
    declared = image_encoder_network(regions=REGIONS)
    pair.image = read_back(SmallImageEncoder(WIDTH), declared, models / f"{IMAGE_ENCODER}.onnx")
    return pair


def read_generator(models: Path, ngf: int, noise: int) -> TextGenerator:
    """The generator of a folder of models, its one linear normalisation merged."""
    spec = GeneratorSpec(ngf=ngf, nef=WIDTH, noise=noise)
    declared = generator_network(spec.image_sizes, stage_sizes(2), noise=spec.noise)
    untrained = merged(TextGenerator(spec).eval())
    return read_back(untrained, declared, models / f"{GENERATOR}.onnx")


def train_pair(
    options: LatentOptions,
    faces: CodedFaces,
    holds: np.ndarray,
    pair: Damsm,
    generator: TextGenerator,
) -> Damsm:
    """The pair that prefers what says the most; R-precision on photographs in its JSON."""
    torch.manual_seed(options.seed)
    own = dataclasses.replace(options, minutes=options.minutes * SHARES["pair"]).of_recipe()
    counts = (options.batch, 3 * options.batch)
    batches = DescribedFaces(
        faces, holds, counts, options.seed, noise=generator.spec.noise, press=False
    )
    renormalise(pair.image, batches().photographs.expand(-1, 3, -1, -1))
    trainer: Trainer[Described] = Trainer("further_pair", pair, own, Schedule(rate=PAIR_RATE))
    batches.random = np.random.default_rng(options.seed + trainer.step)
    text = frozen(copy.deepcopy(pair.text))
    trainer.run(batches, PairLoss(frozen(generator), text, trainer.device))
    assert isinstance(trainer.average, Damsm)
    usable = usable_facts(faces, holds)
    metrics = measure(trainer.average, faces, holds, usable)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    write_metrics(options.work / "text_damsm.json", metrics)
    return frozen(trainer.average).to(options.device)


def train_generator(
    options: LatentOptions,
    batches: DescribedFaces,
    generator: TextGenerator,
    guides: Guides,
    colours: np.ndarray,
) -> TextGenerator:
    """All stages, from photographs and by the pair."""
    torch.manual_seed(options.seed)
    minutes = options.minutes * SHARES["generator"]
    device = torch.device(options.device)
    plan = Plan("further", options.work, minutes, 3, device, options.fresh, RATE, 0.99)
    tokens, z = sheet_of(batches.usable, batches.noise)
    with torch.no_grad():
        said = guides.damsm.text(tokens)
        mean = torch.zeros(len(z), generator.spec.condition)
        renormalise(generator, z, mean, *said)
    run = FurtherRun(plan, generator, guides)
    batches.random = np.random.default_rng(options.seed + run.step)

    def draw(average: TextGenerator, name: str) -> None:
        draw_faces([run.start, average], guides.damsm, tokens, z, options.work / f"{name}.png")

    run.train(batches, ColourBatches(colours, options.batch // 2, options.seed + run.step), draw)
    write_metrics(
        options.work / "text.json",
        {"further": {"minutes": round(run.spent_s / 60, 1), "steps": run.step}},
    )
    return frozen(run.average)


def sheet_of(usable: np.ndarray, noise: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and z of what the sheets show: two faces for each row of SHEET, always the same."""
    random = np.random.default_rng(11)
    rows = [tuple(INDEX[name] for name in names if usable[INDEX[name]]) for names in SHEET]
    texts = [caption_of(row, random).text for row in rows for _ in range(2)]
    z = random.standard_normal((len(texts), noise), np.float32)
    return torch.from_numpy(tokens_of(texts)), torch.from_numpy(z)


@torch.no_grad()
def draw_faces(
    generators: list[TextGenerator], pair: Damsm, tokens: torch.Tensor, z: torch.Tensor, path: Path
) -> None:
    """Keep a picture of rows of eight faces, below each row the same of the next generator."""
    device = next(pair.parameters()).device
    said = pair.text(tokens.to(device))
    eps = torch.zeros(len(z), generators[0].spec.condition, device=device)
    made = [one.eval()(z.to(device), eps, *said)[2].float().cpu() for one in generators]
    write_faces(path, made)


def parsed(argv: list[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = latent_parser("text-further", 12)
    parser.add_argument("--begin-with", type=Path, required=True, help="a folder of models")
    parser.add_argument("--ngf", type=int, default=12, help="channels of its generator")
    parser.add_argument("--noise", type=int, default=NOISE, help="of its z")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Train both further, and export them."""
    args = parsed(argv)
    options = latent_options(args)
    models = args.begin_with
    faces = load_labelled_faces(options)
    measured = kept_measures(faces, options.features, options.cache, options.device)
    holds = text_facts(faces, face_facts(faces, measured[:, 0]), measured[:, 1:])
    colours = colour_faces(options.data, args.media, options.cache)
    pair = read_pair(models)
    generator = read_generator(models, args.ngf, args.noise).to(options.device)
    pair = train_pair(options, faces, holds, pair, copy.deepcopy(generator))
    features = FaceFeatures(options.features).to(options.device)
    counts = (options.batch, options.batch)
    batches = DescribedFaces(faces, holds, counts, options.seed, noise=args.noise, press=True)
    guides = Guides(None, pair, features, None)
    generator = train_generator(options, batches, generator, guides, colours)
    export_networks(
        options,
        batches.usable,
        pair,
        generator,
        recipe="text-further --begin-with DIR",
        begun={name: training_in(models / f"{name}.md") for name in TEXT_FACE_NAMES},
    )
