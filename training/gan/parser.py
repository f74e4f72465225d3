"""The recipe of the face parser: a small DeepLabV3 that learns masks made of landmark polygons.

`parser_masks` says what the masks are and what they leave open. Half of the steps see whole crops,
half see windows of them, which cost less and hold as many eyes and lips.
"""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.networks import FACE_PARSER, IMAGENET_MEAN, IMAGENET_STD
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.models.parsers import DeepLab, DeepLabSpec
from mien.export.onnx_file import sha256_of, write_onnx
from mien.export.parity import Allowed, Example
from mien.training.gan.parser_samples import (
    CLASSES,
    UNSURE,
    Batch,
    Pool,
    Sampler,
    load_clips,
    load_press,
    load_small,
    normalised,
)
from mien.training.gan.parser_scores import Parse, Scores, score
from mien.training.recipe import (
    Options,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    write_card,
    write_metrics,
)

WHOLE_BATCH, WINDOW_BATCH, WINDOW = 10, 24, 160
WIDTH, HEAD, LAST, STRIDE, RATES = 0.5, 48, 160, 8, (3, 6, 12)
# How much a pixel counts: small parts more, so that a picture's eyes weigh as much as its cheeks.
CLASS_WEIGHTS = (0.6, 0.7, 2.0, 2.0, 3.0, 3.0, 1.2, 3.0, 2.5, 2.5)
DICE = 1.0
COMPARED = 16  # real crops for which torch and ONNX Runtime are compared


def student_spec() -> DeepLabSpec:
    """The sizes of the parser that comes with mien."""
    spec = DeepLabSpec.mobilenet(len(CLASSES), width=WIDTH, head=HEAD, stride=STRIDE, rates=RATES)
    return dataclasses.replace(spec, trunk=dataclasses.replace(spec.trunk, last=LAST))


def build_student() -> DeepLab:
    """A parser to train: running statistics that follow within a short run, little dropout."""
    network = DeepLab(student_spec())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.05
        elif isinstance(module, nn.Dropout):
            module.p = 0.1
    return network


def losses(network: DeepLab, batch: Batch, class_weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cross-entropy, and Dice over the classes, where the masks are sure.

    Taken at half the size: at full size these terms would cost as much as the network.
    """
    device = class_weights.device
    image = torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last)
    # a pixel of half size lies between four; which of two stands for it alternates
    start = int(batch.masks.sum() % 2)
    truth = torch.from_numpy(batch.masks[:, start::2, start::2]).to(device).long()
    cells = network.classifier(network.backbone(image)).float()
    logits = F.interpolate(cells, size=truth.shape[1:], mode="bilinear", align_corners=False)
    said = logits.contiguous().log_softmax(1)
    sure = (truth != UNSURE) * torch.from_numpy(batch.weights).to(device)[:, None, None]
    apart = F.nll_loss(said, truth, class_weights, ignore_index=UNSURE, reduction="none")
    numbers = torch.arange(len(CLASSES), device=device)[:, None, None]
    wanted = (truth[:, None] == numbers) * sure[:, None]
    share = said.exp()
    common = (share * wanted).sum((0, 2, 3))
    both = (share * sure[:, None]).sum((0, 2, 3)) + wanted.sum((0, 2, 3))
    return {
        "classes": (apart * sure).sum() / sure.sum().clamp_min(1),
        "dice": DICE * (1 - (2 * common + 10) / (both + 10)).mean(),
    }


def main(argv: list[str]) -> None:
    """Train, validate and export the face parser."""
    options = parse_options("parser", argv)
    torch.manual_seed(options.seed)
    clips = load_clips(
        options.media / "train", options.out / "clips.npz", options.facemesh_python, step=3
    )
    pools = [load_press(options.data, validation=False), load_small(options.data), clips]
    print([len(pool.pictures) for pool in pools], "faces", flush=True)
    sampler = Sampler(pools, options.seed)
    turns = itertools.cycle((False, True))

    def make_batch() -> Batch:
        if next(turns):
            return sampler.batch(WINDOW_BATCH, WINDOW)
        return sampler.batch(WHOLE_BATCH)

    schedule = Schedule(rate=3e-3, average=0.99, weight_decay=1e-4, half=False)
    trainer: Trainer[Batch] = Trainer("face_parser", build_student(), options, schedule)
    class_weights = torch.tensor(CLASS_WEIGHTS, device=trainer.device)
    trainer.run(make_batch, lambda network, batch: losses(network, batch, class_weights))
    finish(trainer, options)


def finish(trainer: Trainer[Batch], options: Options) -> None:
    """Export the averaged weights, with what was measured and the card."""
    average = trainer.average.cpu().float().eval()
    path = options.out / "face_parser.onnx"
    facts = {
        "classes": ",".join(CLASSES),
        "colour": "luma",
        "mean": ",".join(map(str, IMAGENET_MEAN)),
        "std": ",".join(map(str, IMAGENET_STD)),
        "paper": "Let's put a smile on your face (AIxHMI 2022); DeepLabV3 (2017)",
        "source": "mien training parser",
    }
    held_out = load_press(options.data, validation=True)
    parity = write_onnx(
        average,
        FACE_PARSER,
        path,
        facts=facts,
        allowed=Allowed(1e-4, same_class=0.9999),
        examples=real_examples(held_out),
    )
    clips = load_clips(
        options.media / "eval", options.out / "clips_eval.npz", options.facemesh_python, step=6
    )
    with OnnxRuntimeEngine(path, FACE_PARSER) as engine:

        def parse(image: np.ndarray) -> np.ndarray:
            logits = engine.infer({"image": normalised(image)[None]})["logits"]
            return logits[0].argmax(0).astype(np.uint8)

        rows = {
            "people_not_trained_on": score(grey(parse), _faces(held_out)),
            "clips_not_trained_on": score(grey(parse), _faces(clips)),
            "the_same_clips_in_colour": score(parse, _faces(clips)),
        }
    same = {"parity_error": parity.difference, "same_class": parity.same_class or 0.0}
    write_results(trainer, options, rows, same)


def grey(parse: Parse) -> Parse:
    """`parse` of what the filter shows it: luma on all three channels."""

    def of_luma(image: np.ndarray) -> np.ndarray:
        return parse(np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2))

    return of_luma


def real_examples(pool: Pool) -> list[Example]:
    """Crops of real faces for which torch and the file must agree."""
    sampler = Sampler([pool], 0)
    shown = [sampler.sample(pool.pictures[n], pool.meshes[n])[0] for n in range(COMPARED)]
    return [
        Example(f"real crop {n}", {"image": normalised(image)[None]})
        for n, image in enumerate(shown)
    ]


def _faces(pool: Pool) -> zip[tuple[np.ndarray, np.ndarray]]:
    return zip(pool.pictures, pool.meshes, strict=True)


def write_results(
    trainer: Trainer[Batch], options: Options, rows: dict[str, Scores], parity: dict[str, float]
) -> None:
    """Write the numbers and the card beside the graph."""
    held_out = rows["people_not_trained_on"].table()
    boxes = rows["people_not_trained_on"].box_errors()
    metrics: dict[str, object] = {name: scores.table() for name, scores in rows.items()}
    metrics |= {
        "minutes": round(trainer.spent_s / 60, 1),
        "steps": trainer.step,
        "parameters": sum(p.numel() for p in trainer.average.parameters()),
        **parity,
        "sha256": sha256_of(options.out / "face_parser.onnx"),
        "quality": {
            "mean_iou_with_polygons_unseen_people": held_out["mean_iou"],
            "all_parts_found_unseen_people": held_out["all_parts_found"],
            "mean_box_centre_error_in_wide_crops_unseen_people": round(
                float(np.mean([row["centre_mean"] for row in boxes.values()])), 4
            ),
        },
    }
    write_metrics(options.out / "face_parser.json", metrics)
    write_card(options.out / "face_parser.md", "The face parser", card_sections(metrics, rows))


def _row(name: str, values: dict[str, float]) -> str:
    return "| " + " | ".join([name, *(f"{value:g}" for value in values.values())]) + " |"


def overlap_table(rows: dict[str, Scores]) -> str:
    """Intersection over union, a row for each set of pictures."""
    head = "| | " + " | ".join(CLASSES) + " |\n" + "|---" * (len(CLASSES) + 1) + "|\n"
    return head + "\n".join(_row(n.replace("_", " "), s.overlap()) for n, s in rows.items())


def box_table(scores: Scores) -> str:
    """Errors of the parts' squares, a row for each part."""
    head = (
        "| part | centre off, mean | centre off, 95th percentile | side by the landmarks' side, "
        "mean | side off, 95th percentile |\n|---|---|---|---|---|\n"
    )
    return head + "\n".join(_row(n, v) for n, v in scores.box_errors().items())


def card_sections(metrics: dict[str, object], rows: dict[str, Scores]) -> dict[str, str]:
    """The model card, from what was measured."""
    held_out = rows["people_not_trained_on"]
    return {
        "What it is": (
            "A 256x256 wide crop of a face (`mien.runtime.faces.alignment.roi_matrix`), "
            f"normalised by ImageNet's mean and deviation, to a logit per pixel for "
            f"{len(CLASSES)} classes: {', '.join(CLASSES)}. Left and right are the viewer's; mouth "
            "is what lies between the lips. DeepLabV3 on MobileNetV3-Large at "
            f"{WIDTH} of its width, output stride {STRIDE}, dilations "
            f"{', '.join(map(str, RATES))}, {metrics['parameters']:,} parameters. Luma on all "
            "three channels is what it is meant to see; it was shown colour too."
        ),
        "Data": data_text(
            ("faces160", "fer2013"),
            "- clips: every third frame of five short clips of five people, in colour.\n\n"
            "The masks are polygons of FaceMesh's 478 points (mediapipe 0.10.21), drawn by "
            "`mien.training.gan.parser_samples`: no person drew any of them. FER-2013 counts 0.3. "
            "Mirrored, shaken as tracking shakes a crop, re-lit, tinted, blurred, made noisy, "
            "compressed, and partly covered by surfaces and skin, which are background.",
        ),
        "Training": (
            f"`python -m mien.training parser --minutes {metrics['minutes']:.0f} --data DIR "
            f"--media DIR --out DIR --facemesh-python PYTHON`: {metrics['minutes']} minutes, "
            f"{metrics['steps']} steps of {WHOLE_BATCH} whole crops or {WINDOW_BATCH} windows of "
            f"{WINDOW} pixels in turn, two processor cores, float32, averaged weights. "
            "Cross-entropy and Dice."
        ),
        "Quality": (
            f"Against the polygons on {held_out.pictures} press pictures of people that were not "
            "trained on and on frames of four clips, through crops shaken as tracking does. "
            "Intersection over union:\n\n"
            + overlap_table(rows)
            + "\n\nSquares of the parts made of its masks against those made of landmarks, press "
            "pictures, in sides of the wide crop:\n\n"
            + box_table(held_out)
            + f"\n\nAll four parts were found in {100 * held_out.complete / held_out.pictures:.1f} "
            f"percent of them. Of the pixels of {COMPARED} real crops, torch and ONNX Runtime put "
            f"no fewer than {metrics['same_class']:.4%} of one crop into the same class."
        ),
        "Limits": (
            "It can be no better than FaceMesh. Hair, ears, neck, glasses and hats have no class: "
            "outside the face they are background, on it they are skin. The forehead above "
            "FaceMesh's outline was left out of the training; what it says there means nothing. "
            "Faces turned by more than about 50 degrees were not shown. Full-size DeepLabV3 "
            "(ResNet-50, 39.6 M parameters, 512 pixels) trained on CelebAMask-HQ, as in the "
            "paper, waits for that data and a GPU."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }
