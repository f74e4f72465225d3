"""The latent recipes' results as ONNX files with their cards, ready for `training ship`.

`python -m mien.training latent-export --data DIR --out DIR --features faceres.json`: every network
that the work folder has a checkpoint of, into its folder `models`. Weights are rounded to half
precision and kept so, which halves the files, those of the encoder to eight bits; they compute in
single precision.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.engines.face_space import (
    CONDITION_KEY,
    condition_text,
    directions_network,
    emm_network,
    encoder_network,
    generator_network,
    image_network,
    latent_classifier_network,
    prior_network,
    regressor_network,
    text_network,
)
from mien.engines.network import Network
from mien.export.models.directions import AttributeRegressor, DirectionMatrix
from mien.export.onnx_file import (
    EXAMPLES,
    example_of,
    rounded_to_half,
    rounded_to_int8,
    sha256_of,
    store_small,
    to_onnx,
)
from mien.export.parity import Allowed, Example, compare
from mien.runtime.target import EMOTIONS
from mien.runtime.words import FIRST
from mien.training.latent.attributes import ATTRIBUTES
from mien.training.latent.captions import LENGTH, vocabulary
from mien.training.latent.data import (
    TRUNKS,
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
    read_state,
)
from mien.training.latent.edits import load_dac, mapper_of
from mien.training.latent.generator import FaceSpace
from mien.training.latent.prior import prior_of
from mien.training.latent.scores import Judges, add_judges, load_judges, reconstruction_scores
from mien.training.latent.text_image import load_pair
from mien.training.recipe import data_text, write_card, write_metrics

TOLERANCE = 1e-4
# Where what is to be used goes, and what is only there to be compared with.
MODELS, BASELINE = "models", "baseline"
# Checkpoint, recipe and folder: with the landmarks' loss, and without it.
DIRECTION_PARTS = (
    ("directions", "directions", MODELS),
    ("directions_baseline", "directions --no-hfld", BASELINE),
)
STYLEGAN2 = "StyleGAN2 (CVPR 2020)"
E4E = "Designing an Encoder for StyleGAN Image Manipulation (2021)"
RESTYLE = "ReStyle (ICCV 2021)"
EMM = "A StyleCLIP-based Facial Emotion Manipulation Method (ACCV 2024)"
HFLD = "My Emotion on your face (FG 2024)"
CLIP = "Learning Transferable Visual Models From Natural Language Supervision (2021)"
LIMITS = (
    "Luma only, tight crops within about 40 degrees of the camera, as sharp as a face of 100 "
    "pixels. Trained on press photographs and FER-2013, whose people are not a fair sample "
    "of anyone. FaceRes (npm `@vladmandic/human`), trained on research data, guided the training "
    "and is not part of the file."
)


@dataclass(frozen=True, slots=True)
class Part:
    """One network to export: its module, declaration, facts, what it is, what was measured.

    recipe: the one that trained it, with its own metrics (JSON of that name in the work folder).
    folder: where it goes below the work folder.
    data: what else its card says of the data. limits: what it cannot do. rounded: makes the copy
    that is exported. begun: the training before the recipe, in its card's words.
    """

    module: nn.Module
    network: Network
    paper: str
    recipe: str
    words: str
    quality: Mapping[str, float]
    metrics: Mapping[str, Any]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: str = MODELS
    data: str = "Labels of FER-2013 are the FER+ votes."
    limits: str = LIMITS
    rounded: Callable[[nn.Module], nn.Module] = rounded_to_half
    begun: str = ""


class Probabilities(nn.Module):
    """A classifier with its sigmoid."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.classifier(codes).sigmoid()
        return probabilities


def export_part(part: Part, models: Path) -> dict[str, Any]:
    """The metrics of one network, written beside its ONNX file and its card.

    Raises ParityError where the file does not say what the module says.
    """
    name = part.network.name
    path = models / f"{name}.onnx"
    facts = {"paper": part.paper, "colour": "luma", **part.facts}
    module = part.rounded(part.module)
    to_onnx(module, part.network, path, facts=facts, tolerance=TOLERANCE)
    store_small(path)
    examples = [Example(f"random input {n}", example_of(part.network, n)) for n in range(EXAMPLES)]
    parity = compare(module, part.network, path, examples, Allowed(TOLERANCE))
    found = {
        "minutes": part.metrics.get("minutes", 0.0),
        "steps": part.metrics.get("steps", 0),
        "quality": dict(part.quality),
        "parity_error": parity.difference,
        "sha256": sha256_of(path),
        "megabytes": round(path.stat().st_size / 1e6, 2),
    }
    write_metrics(models / f"{name}.json", found)
    kept = "half precision" if part.rounded is rounded_to_half else "eight bits, scaled by channel"
    rows = "\n".join(f"| {key} | {value} |" for key, value in part.quality.items())
    write_card(
        models / f"{name}.md",
        name,
        {
            "What it is": f"{part.words} Source: {part.paper}.",
            "Data": data_text(("faces160", "fer2013"), part.data),
            "Training": (
                f"{f'{part.begun} Then ' if part.begun else ''}"
                f"`python -m mien.training {part.recipe}`: {found['minutes']} minutes, "
                f"{found['steps']} steps; bfloat16 autocast, averaged weights, kept in {kept}."
            ),
            "Quality": f"On people that were not trained on.\n\n| | |\n|---|---|\n{rows}",
            "Limits": part.limits,
            "Licence": f"Apache-2.0. SHA-256 of the file: `{found['sha256']}`.",
        },
    )
    return found


def space_parts(
    space: FaceSpace, faces: CodedFaces, judges: Judges, spent: Mapping[str, Mapping[str, Any]]
) -> Iterator[Part]:
    """Generator and encoder; spent: of each, by its recipe."""
    scores = reconstruction_scores(space, faces, judges)
    layers, refined = faces.codes.shape[1], "latent-refine" in spent
    corrected = f", corrected {space.passes} times by what the generator makes of them"
    yield Part(
        space.generator,
        generator_network(space.size),
        STYLEGAN2,
        "latent",
        f"{layers} codes to a luma picture of {space.size} pixels, StyleGAN2's synthesis network.",
        scores,
        spent["latent"],
    )
    recipe = "latent-refine" if refined else "latent"
    inverter = space.inverter()
    scores = reconstruction_scores(space, faces, judges, inverter=rounded_to_int8(inverter))
    yield Part(
        inverter,
        encoder_network(layers),
        f"{E4E}; {RESTYLE}" if refined else E4E,
        recipe,
        f"A face of 64 pixels to {layers} codes, trained together with the generator"
        f"{corrected if refined else ''}.",
        scores,
        spent[recipe],
        rounded=rounded_to_int8,
    )


def guide_parts(options: LatentOptions, faces: CodedFaces) -> Iterator[Part]:
    """The classifier of codes and the two towers."""
    work = options.work
    if (work / "classifiers.pt").exists():
        metrics = json.loads((work / "classifiers.json").read_text())
        yield Part(
            Probabilities(load_dac(options, faces).latent),
            latent_classifier_network(faces.codes.shape[1]),
            EMM,
            "classifiers",
            "Codes to how surely each emotion is there (equation 7).",
            {f"recall_{k}": v for k, v in metrics["codes"].items()},
            metrics,
            {"classes": ",".join(EMOTIONS)},
        )
    if (work / "text_image.json").exists():
        metrics = json.loads((work / "text_image.json").read_text())
        pair, words = load_pair(options), vocabulary()
        quality = {k: metrics[k] for k in ("mean_recall", "r_precision")}
        text = text_network(FIRST + len(words), LENGTH, out=pair.text.spec.out)
        said = {"vocabulary": " ".join(words)}
        about = "the pair that answers prompts, in CLIP's place."
        yield Part(
            pair.text, text, CLIP, "text-image", f"Words to an embedding: {about}",
            quality, metrics, said,
        )  # fmt: skip
        yield Part(
            pair.image, image_network(out=pair.text.spec.out), CLIP, "text-image",
            f"A face to an embedding: {about}", quality, metrics,
        )  # fmt: skip


def edit_parts(options: LatentOptions, faces: CodedFaces) -> Iterator[Part]:
    """The prior, the mapper, the directions and their regressor."""
    work, layers = options.work, faces.codes.shape[1]
    if (work / "prior.json").exists():
        metrics = json.loads((work / "prior.json").read_text())
        quality = {k: v for k, v in metrics.items() if k.startswith("frechet")}
        yield Part(
            prior_of(options, faces), prior_network(2 ** (layers // 2 + 1)), STYLEGAN2, "mapper",
            "Normally distributed noise to codes; psi is the truncation.", quality, metrics,
        )  # fmt: skip
    if (work / "emm.json").exists():
        metrics = json.loads((work / "emm.json").read_text())
        mapper = mapper_of(options, faces, "emm")
        quality = {
            f"{source.replace(' ', '_')}_{target}_{judge}": value
            for source, table in metrics["scores"].items()
            for target, row in table.items()
            for judge, value in row.items()
        }
        table = load_dac(options, faces).table.numpy()
        facts = {"targets": ",".join(EMOTIONS), CONDITION_KEY[5:]: condition_text(table)}
        yield Part(
            mapper, emm_network(layers), EMM, "emm --condition global",
            "Codes, the condition of the source's emotion and a target to codes that show it.",
            quality, metrics, facts,
        )  # fmt: skip
    yield from direction_parts(options, faces)


def direction_parts(options: LatentOptions, faces: CodedFaces) -> Iterator[Part]:
    """The directions, their baseline in a folder of its own, and their regressor."""
    work, layers = options.work, faces.codes.shape[1]
    facts = {"attributes": ",".join(ATTRIBUTES)}
    for name, words, folder in DIRECTION_PARTS:
        if not (work / f"{name}.json").exists():
            continue
        metrics = json.loads((work / f"{name}.json").read_text())
        matrix = DirectionMatrix(len(ATTRIBUTES), layers, faces.codes.shape[2])
        matrix.load_state_dict(_average(work / f"{name}.pt"))
        yield Part(
            matrix, directions_network(len(ATTRIBUTES), layers), HFLD, words,
            "Codes to codes moved along a direction for each attribute.",
            metrics["scores"]["mean"], metrics, facts, folder,
        )  # fmt: skip
    if (work / "directions.json").exists():
        metrics = json.loads((work / "directions.json").read_text())
        regressor = AttributeRegressor(len(ATTRIBUTES), TRUNKS[options.trunk])
        regressor.load_state_dict(_average(work / "regressor.pt"))
        yield Part(
            regressor, regressor_network(len(ATTRIBUTES)), HFLD, "directions",
            "A face to its attributes, in [0, 1].", metrics["regressor_correlation"], metrics,
            facts,
        )  # fmt: skip


def _average(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True, map_location="cpu")[
        "average"
    ]
    return state


def export_all(
    options: LatentOptions, judges: Judges, told: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """The metrics of every network that there is a checkpoint of, by its name."""
    options = dataclasses.replace(options, device="cpu")
    space = load_space(options.space)
    faces = load_coded_faces(options, space)
    state = read_state(options.space)
    spent = {"latent": _spent(state["spent_s"], state["step"])}
    if state.get("passes", 0):
        spent["latent-refine"] = _spent(state["refined_s"], state["refined_step"])
    found: dict[str, dict[str, Any]] = {}
    for part in (
        *space_parts(space, faces, judges, spent),
        *guide_parts(options, faces),
        *edit_parts(options, faces),
    ):
        folder = options.work / part.folder
        folder.mkdir(exist_ok=True)
        name = part.network.name if part.folder == MODELS else f"{part.folder}/{part.network.name}"
        found[name] = export_part(part, folder)
        told(f"{name}: {found[name]['megabytes']} MB")
    return found


def _spent(seconds: float, steps: int) -> dict[str, Any]:
    return {"minutes": round(float(seconds) / 60, 1), "steps": int(steps)}


def main(argv: list[str]) -> None:
    """Export; see the module."""
    parser = latent_parser("latent-export", 1)
    add_judges(parser)
    args = parser.parse_args(["--minutes", "0", *argv])
    export_all(latent_options(args), load_judges(args.judges_code, args.judges))
