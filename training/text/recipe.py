"""Faces from text, FaceCLIP's way: everything that `mien face` needs, in one run.

`python -m mien.training text --minutes N --data DIR --media DIR --space latent.pt --out DIR
--features faceres.json`. From scratch the paper's generator would want a hundred times the pictures
that there are; it is distilled from the latent generator (`--space`), whose faces are as measured
captions say. In this order: the finisher (colour and detail), the DAMSM pair, the first two stages,
the third stage, and the graphs. Each part goes on where an earlier run stopped.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.text_faces import (
    FIRST,
    encoder_network,
    generator_network,
    image_encoder_network,
    stage_sizes,
)
from mien.export.models.damsm import REGIONS
from mien.export.models.prior import Prior
from mien.export.models.text_faces import GeneratorSpec, TextGenerator, merged
from mien.runtime.target import EMOTIONS
from mien.training.latent.attributes import face_facts, kept_measures
from mien.training.latent.data import (
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
)
from mien.training.latent.edits import Dac, load_dac, mapper_of
from mien.training.latent.export import Part, export_part
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import FaceSpace
from mien.training.latent.prior import new_prior
from mien.training.latent.scores import ShippedClassifier
from mien.training.latent.text_image import load_pair
from mien.training.recipe import Schedule, Trainer, write_metrics
from mien.training.text.captions import (
    INDEX,
    TEXT_FACTS,
    caption_of,
    text_facts,
    tokens_of,
    vocabulary,
)
from mien.training.text.damsm import (
    Damsm,
    DamsmLoss,
    Matched,
    MatchedFaces,
    captions_of,
    measure,
)
from mien.training.text.finish import (
    ColourBatches,
    Finisher,
    FinishLoss,
    colour_faces,
    luma_of,
)
from mien.training.text.student import Guides, Plan, Run, draw_sheet
from mien.training.text.teacher import (
    NOISE,
    Draws,
    FactSpace,
    Teacher,
    Wanted,
    fit_facts,
    wanted_of,
)

# Of the minutes: finisher, DAMSM pair, first two stages, third stage.
SHARES = {"finish": 0.12, "damsm": 0.18, "stages": 0.45, "fine": 0.25}
TEACHER_FACES, MOST_TEST = 48, 2000
PAPER = "FaceCLIP (JCST 2025)"
SHEET = (
    ("happy",), ("sad",), ("surprised",), ("angry",), ("fearful",), ("disgusted",),
    ("happy", "surprised"), ("woman", "young", "happy", "brows_raised"),
)  # fmt: skip
DATA = (
    "As of the latent generator that it was distilled from; colour and detail from portraits of "
    "members of the US Congress (public domain) and short clips."
)
LIMITS = (
    "The face alone, with streaks below the chin; glasses lack lenses, emotions acted, and colour "
    "is an average over mostly older, mostly white people. Faces as the latent generator knows "
    "them: press photographs and FER-2013, whose people are not a fair sample of anyone. "
    "Captions state what was measured: emotion, lips, eyes, brows, turn of the head, glasses, "
    "light, and sex and age as FaceRes estimates them. FaceRes guided the training "
    "and is not part of the file."
)


Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before anything is trained."""

    space: FaceSpace
    faces: CodedFaces
    holds: np.ndarray
    prior: Prior
    facts: FactSpace
    mapper: tuple[nn.Module, Dac] | None


def prepare(options: LatentOptions, noise: int, mapper: str) -> Prepared:
    """Codes, facts and their directions among so many principal components, z.

    mapper: the checkpoint of the one that makes emotions, where the work folder has it.
    """
    space = load_space(options.space, options.device)
    faces = load_coded_faces(options, space)
    measured = kept_measures(faces, options.features, options.cache, options.device)
    holds = text_facts(faces, face_facts(faces, measured[:, 0]), measured[:, 1:])
    prior = new_prior(faces, noise, options.seed)
    made = None
    if (options.work / f"{mapper}.json").exists():
        made = mapper_of(options, faces, mapper).to(options.device), load_dac(options, faces)
    facts = fit_facts(prior, faces, holds, mapped=made is not None)
    return Prepared(space, faces, holds, prior, facts, made)


def timed(options: LatentOptions, part: str) -> LatentOptions:
    """The options with that part's share of the minutes."""
    return dataclasses.replace(options, minutes=options.minutes * SHARES[part])


def train_finisher(options: LatentOptions, colours: np.ndarray) -> Finisher:
    """Colour and detail."""
    torch.manual_seed(options.seed)
    own = timed(options, "finish").of_recipe()
    trainer: Trainer[torch.Tensor] = Trainer("text_finish", Finisher(), own, Schedule(rate=1e-3))
    batches = ColourBatches(colours, max(2, options.batch // 2), options.seed + trainer.step)
    trainer.run(
        batches, FinishLoss(FaceFeatures(options.features).to(trainer.device), trainer.device)
    )
    assert isinstance(trainer.average, Finisher)
    return frozen(trainer.average)


def train_damsm(options: LatentOptions, known: Prepared, teacher: Teacher) -> Damsm:
    """The pair, and its R-precision on photographs in `text_damsm.json`."""
    torch.manual_seed(options.seed)
    own = timed(options, "damsm").of_recipe()
    trainer: Trainer[Matched] = Trainer("text_damsm", Damsm(), own, Schedule(rate=1e-3))
    seed = options.seed + trainer.step
    draws = Draws(known.facts, max(4, 2 * options.batch), seed)
    trainer.run(MatchedFaces(known.faces, known.holds, draws), DamsmLoss(teacher, trainer.device))
    assert isinstance(trainer.average, Damsm)
    metrics = measure(trainer.average, known.faces, known.holds, draws.usable)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    metrics["facts"] = [TEXT_FACTS[i] for i in np.flatnonzero(draws.usable)]
    write_metrics(options.work / "text_damsm.json", metrics)
    return frozen(trainer.average).to(options.device)


def frozen(network: Module) -> Module:
    """The network for use."""
    return network.eval().requires_grad_(requires_grad=False)


def sheet_of(known: Prepared, device: str) -> Wanted:
    """What the sheets show: two faces for each row of SHEET, the same at every time."""
    random = np.random.default_rng(11)
    rows = [tuple(INDEX[name] for name in names) for names in SHEET]
    usable = known.facts.usable.cpu().numpy()
    rows = [tuple(i for i in row if usable[i]) for row in rows for _ in range(2)]
    captions = [caption_of(row, random) for row in rows]
    shape = (len(rows), known.facts.directions.shape[1])
    z = torch.from_numpy(random.standard_normal(shape, np.float32))
    return wanted_of(known.facts.to(device), captions, z)


@torch.no_grad()
def measure_teacher(options: LatentOptions, known: Prepared, teacher: Teacher) -> None:
    """How often the shipped classifier names an emotion in the teacher's faces of its word.

    No generator that learns from them can be expected to be obeyed more often.
    """
    classifier, usable = ShippedClassifier(), known.facts.usable
    shape = (TEACHER_FACES, known.facts.directions.shape[1])
    z = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    found = {}
    for emotion in EMOTIONS[:7]:
        fact = EMOTIONS.index(emotion)
        if usable[fact]:
            meant = known.facts.meant(z.to(options.device), [(fact,)] * len(z))
            stated = torch.eye(len(EMOTIONS), device=options.device)[[fact] * len(z)]
            parts = zip(meant.split(16), stated.split(16), strict=True)
            made = torch.cat([teacher.luma(*part) for part in parts]).cpu()
            found[emotion] = round(float((classifier(made) == fact).mean()), 3)
    mean = round(float(np.mean(list(found.values()))), 3) if found else None
    write_metrics(options.work / "text_teacher.json", {"obeyed": found, "mean": mean})


def write_test(options: LatentOptions, known: Prepared) -> None:
    """Captions of people that nothing is trained on, and their pictures, for mien evaluate text."""
    folder = options.work / "test"
    folder.mkdir(exist_ok=True)
    rows = known.faces.held_out[:MOST_TEST]
    usable = known.facts.usable.cpu().numpy()
    captions = captions_of(known.holds[rows], np.random.default_rng(3), usable)
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["caption", "group", "picture"])
        for row, caption in zip(rows, captions, strict=True):
            if not caption.facts:  # "a face": nothing that could be drawn
                continue
            name = f"{row:06}.png"
            cv2.imwrite(str(folder / name), known.faces.crops.pixels[row])
            writer.writerow([caption.text, EMOTIONS[known.faces.labels[row]], name])


def train_student(
    options: LatentOptions, known: Prepared, guides: Guides, colours: np.ndarray, ngf: int
) -> TextGenerator:
    """The three stages."""
    device = torch.device(options.device)
    noise = known.facts.directions.shape[1]
    generator = TextGenerator(GeneratorSpec(ngf=ngf, nef=guides.damsm.text.width, noise=noise))
    sheet = sheet_of(known, options.device)
    spent = {}
    for part, stage in (("stages", 2), ("fine", 3)):
        torch.manual_seed(options.seed + stage)
        minutes = options.minutes * SHARES[part]
        plan = Plan(f"text_{part}", options.work, minutes, stage, device, options.fresh)
        run = Run(plan, generator, guides)
        draws = Draws(known.facts, options.batch, options.seed + run.step)
        real = (
            ColourBatches(colours, options.batch, options.seed + run.step) if stage == 3 else None
        )

        def draw(average: TextGenerator, name: str, stage: int = stage) -> None:
            draw_sheet(average, guides, sheet, options.work / f"{name}.png", stage)

        run.train(draws, real, draw)
        generator = TextGenerator(generator.spec)
        generator.load_state_dict(run.average.state_dict())
        spent |= {part: {"minutes": round(run.spent_s / 60, 1), "steps": run.step}}
    write_metrics(options.work / "text.json", spent)
    return generator.eval()


@torch.no_grad()
def obeyed(usable: np.ndarray, pair: Damsm, generator: TextGenerator) -> dict[str, float]:
    """How often the shipped classifier names an emotion in faces of its word, on the processor.

    Its data are those of the mapper's guides, so it is kinder than a stranger.
    """
    classifier, random = ShippedClassifier(), np.random.default_rng(5)
    found = {}
    for fact in np.flatnonzero(usable[:7]):
        captions = [caption_of((int(fact),), random) for _ in range(TEACHER_FACES)]
        tokens = torch.from_numpy(tokens_of([caption.text for caption in captions]))
        words, sentence, present = pair.text(tokens)
        mean, log_variance = generator.ca_net(sentence)
        shape = (len(captions), generator.spec.noise)
        z = torch.from_numpy(random.standard_normal(shape, np.float32))
        eps = torch.from_numpy(random.standard_normal(mean.shape, np.float32))
        code = torch.cat([mean + eps * (log_variance / 2).exp(), z], 1)
        made = generator.stages(code, words, present, 3)[2]
        luma = nn.functional.avg_pool2d(luma_of(made), 2).clamp(-1, 1)
        found[f"named_{EMOTIONS[fact]}"] = round(float((classifier(luma) == fact).mean()), 3)
    return found


def export_networks(
    options: LatentOptions,
    usable: np.ndarray,
    pair: Damsm,
    generator: TextGenerator,
    *,
    recipe: str = "text",
    begun: Mapping[str, str] | None = None,
) -> None:
    """Write the graphs and their cards into `models`.

    usable: bool, the facts that may be stated. begun: of each network, how it was trained before
    this recipe.
    """
    begun = begun or {}
    models = options.work / "models"
    models.mkdir(exist_ok=True)
    measured = json.loads((options.work / "text_damsm.json").read_text())
    spent = json.loads((options.work / "text.json").read_text())
    quality = {k: v for k, v in measured.items() if k.startswith("r_precision")}
    count, spec = len(vocabulary()) + FIRST, generator.spec
    both = {
        "minutes": round(sum(part["minutes"] for part in spent.values()), 1),
        "steps": sum(part["steps"] for part in spent.values()),
    }
    pair, generator = pair.cpu().float(), generator.cpu().float()
    named = obeyed(usable, pair, generator)
    generator = merged(generator)
    drawn = generator_network(spec.image_sizes, stage_sizes(2), noise=spec.noise)
    parts = (
        Part(
            pair.text, encoder_network(count), PAPER, recipe,
            "A description to the codes of its words and of the whole: DAMSM's bi-LSTM.",
            quality, measured, {"colour": "none", "vocabulary": " ".join(vocabulary())},
            data=DATA, limits=LIMITS,
        ),
        Part(
            generator, drawn, PAPER, recipe,
            "Noise and a description's codes to faces of 64, 128 and 256 pixels.",
            named, both, {"colour": "rgb", "ngf": str(spec.ngf)}, data=DATA, limits=LIMITS,
        ),
        Part(
            pair.image, image_encoder_network(regions=REGIONS), PAPER, recipe,
            "A face to a code near that of its description: it ranks faces.",
            quality, measured, {"colour": "rgb"}, data=DATA, limits=LIMITS,
        ),
    )  # fmt: skip
    for part in parts:
        whole = dataclasses.replace(part, begun=begun.get(part.network.name, ""))
        print(f"{part.network.name}: {export_part(whole, models)['megabytes']} MB", flush=True)


def parsed(argv: list[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = latent_parser("text", 12)
    parser.add_argument("--ngf", type=int, default=12, help="channels; the paper's are 32")
    parser.add_argument("--noise", type=int, default=NOISE, help="of z, as principal components")
    parser.add_argument(
        "--pair", action="store_true", help="the CLIP term by text_image.pt in --out"
    )
    parser.add_argument(
        "--mapper", default="styleclip", help="of emm, in --out: what makes the teacher's emotions"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Train everything that is not trained yet, and export it."""
    args = parsed(argv)
    options = latent_options(args)
    torch.manual_seed(options.seed)
    known = prepare(options, args.noise, args.mapper)
    colours = colour_faces(options.data, args.media, options.cache)
    finisher = train_finisher(options, colours)
    known.facts.to(options.device)
    teacher = Teacher(known.space, known.prior, finisher, known.mapper).to(options.device).eval()
    measure_teacher(options, known, teacher)
    write_test(options, known)
    pair = train_damsm(options, known, teacher)
    clip = load_pair(options) if args.pair else None
    features = FaceFeatures(options.features).to(options.device)
    guides = Guides(teacher, pair, features, clip)
    generator = train_student(options, known, guides, colours, args.ngf)
    export_networks(options, known.facts.usable.cpu().numpy(), pair, generator)
