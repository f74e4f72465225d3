"""The recipe of the face detector."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.networks import DETECTOR
from mien.export.models.landmarks import SIDE, STRIDES, DetectorNetwork, cell_centres
from mien.export.onnx_file import sha256_of, to_onnx
from mien.training.data.augment import face_boxes, face_free_crops, load_folder, plain, texture
from mien.training.data.clips import (
    SURE,
    Labelled,
    labelled_clips,
    labelled_scenes,
    only,
    sure_faces,
)
from mien.training.data.faces import load_faces160
from mien.training.faces.detector_scenes import Composer, Scene, Subject, targets_of
from mien.training.recipe import (
    Options,
    Schedule,
    Trainer,
    data_text,
    parse_options,
    quality_table,
    write_card,
    write_metrics,
)

BATCH = 16
LEVEL_SIZES = ((0, 46), (36, 104), (84, 1e9))  # which faces (longer side, pixels) each grid finds
NEAR = 1.0  # strides from a face's centre within which a cell has to find it
# Scenes with drawn faces, and with many faces that FaceMesh did not find.
LEFT_OUT = ("masked_img1.jpg", "masked_img5.jpg", "crowd_8.jpg", "crowd_17.jpg")
FOCUS, RARE_WEIGHT = 2.0, 0.5  # Lin et al., "Focal Loss", 2017


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes and what every cell should say.

    images: uint8 (n, 320, 320). state: int8 (n, 2100), 1 a face, 0 none, -1 left out.
    boxes: float32 (n, 2100, 4). points: float32 (n, 2100, 3, 2).
    """

    images: np.ndarray
    state: np.ndarray
    boxes: np.ndarray
    points: np.ndarray


def main(argv: list[str]) -> None:
    """Train, validate and export the detector."""
    options = parse_options("detector", argv)
    torch.manual_seed(options.seed)
    composer = build_composer(options)
    trainer: Trainer[Batch] = Trainer("detector", DetectorNetwork(), options, Schedule())
    trainer.run(lambda: make_batch(composer, BATCH), losses)
    metrics = evaluate(trainer.average, options)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step, "batch": BATCH}
    path = options.out / "detector.onnx"
    facts = {"paper": "in the manner of FCOS (Tian et al., 2019)"}
    metrics["parity_error"] = to_onnx(trainer.average, DETECTOR, path, facts=facts)
    metrics["sha256"] = sha256_of(path)
    write_metrics(options.out / "detector.json", metrics)
    write_card(options.out / "detector.md", "The face detector", card_sections(metrics))


def card_sections(metrics: dict[str, object]) -> dict[str, str]:
    """The model card, from what was measured."""
    return {
        "What it is": (
            "A whole picture, luma, letterboxed to 320x320, to a score, a box close around the "
            "106 landmarks and three points (eyes, mouth) for each of 2100 cells in three grids. "
            "Without anchors, 0.6 M parameters, about 290 M multiplications. Faces from 10 pixels "
            "of the 320 to the whole view, turned by up to 35 degrees."
        ),
        "Data": data_text(
            ("faces160", "clips", "scenes"),
            "\nComposed into scenes on the fly: whole frames and crowds at any size, cut-out "
            "heads on made-up bodies, on face-free parts of the pictures, made-up textures and "
            "the pictures without a person of scikit-image. Frames with the face painted over "
            "serve as scenes without one.",
        ),
        "Training": (
            f"`python -m mien.training detector --minutes {metrics['minutes']:.0f} --data DIR "
            f"--media DIR --out DIR --facemesh-python PYTHON --backgrounds DIR`: "
            f"{metrics['minutes']} minutes, {metrics['steps']} steps of {metrics['batch']}, two "
            "processor cores, bfloat16 autocast, averaged weights. Focal loss for scores, GIoU for "
            "boxes, smooth L1 for points."
        ),
        "Quality": (
            "On clips and pictures that were not trained on, against the faces that FaceMesh "
            "finds. A clip's lowest score is that of its worst frame; the highest false score is "
            "of anything that neither FaceMesh nor its detector takes for a face.\n\n"
            + quality_table(metrics)
        ),
        "Use": (
            "A cell counts as a face from a score of 0.6, and the landmark network then has to "
            "score the crop at 0.9 or more."
        ),
        "Limits": (
            "Profiles, faces upside down and faces under about 10 pixels of the 320 are missed. "
            "Faces of animals and drawings can be taken for faces."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }


def build_composer(options: Options) -> Composer:
    """All people and backgrounds of training, in memory."""
    cache, python = options.out / "cache", options.facemesh_python
    clips = labelled_clips(options.media / "train", cache / "clips_train.npz", python, step=2)
    scenes = labelled_scenes(options.media / "scenes/train", cache / "scenes_train.npz", python)
    faces = load_faces160(options.data)
    heads = [
        Subject(faces.pictures[i], faces.landmarks[i][None, :, :2], np.zeros((0, 4)), tight=True)
        for i in np.flatnonzero(~faces.validation)
    ]
    frames = [
        subject for i in range(len(clips.names)) if (subject := _subject(clips, i)).faces.any()
    ]
    scenes = only(scenes, [i for i, (n, _) in enumerate(scenes.names) if n not in LEFT_OUT])
    crowds = [_subject(scenes, i) for i in range(len(scenes.names))]
    rng = np.random.default_rng(options.seed + 1)
    backgrounds = [texture(rng, SIDE) for _ in range(150)]
    backgrounds += face_free_crops(clips, rng, 350, SIDE) + face_free_crops(scenes, rng, 350, SIDE)
    for picture in load_folder(options.backgrounds):
        backgrounds += [picture] * 4 + face_free_crops(plain(picture), rng, 12, SIDE)
    return Composer(heads, frames, crowds, backgrounds, options.seed)


def _subject(labelled: Labelled, index: int) -> Subject:
    """A picture whose sure faces are faces and whose other finds are left out."""
    faces, scores = sure_faces(labelled, index)
    sure = scores > SURE
    keep = faces[sure]
    boxes = face_boxes(labelled, index)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    known = np.zeros(len(boxes), bool)
    for face in keep:
        low, high = face.min(0), face.max(0)
        known |= ((middles > low) & (middles < high)).all(1)
    return Subject(labelled.pictures[index], keep, boxes[~known])


def make_batch(composer: Composer, size: int) -> Batch:
    """`size` scenes and what each cell should say."""
    scenes = [composer.scene() for _ in range(size)]
    cells = [assign(scene) for scene in scenes]
    return Batch(
        np.stack([scene.picture for scene in scenes]),
        *(np.stack(column) for column in zip(*cells, strict=True)),
    )


_CENTRES, _STRIDES = (tensor.numpy() for tensor in cell_centres())
_LEVELS = np.repeat(np.arange(3), [(SIDE // stride) ** 2 for stride in STRIDES])


def assign(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The state, box and points of every cell; of two faces in a cell the nearer counts."""
    count = len(_CENTRES)
    state = np.zeros(count, np.int8)
    boxes, points = np.zeros((count, 4), np.float32), np.zeros((count, 3, 2), np.float32)
    nearest = np.full(count, np.inf)
    for box in scene.unsure:
        state[((box[:2] < _CENTRES) & (box[2:] > _CENTRES)).all(1)] = -1
    for face in scene.faces:
        box, landmarks = targets_of(face)
        middle, longer = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        away = np.abs(_CENTRES - middle).max(1)
        inside = (np.abs(_CENTRES - middle) < (box[2:] - box[:2]) * 0.3).all(1)
        state[inside & (state == 0)] = -1
        for level, (low, high) in enumerate(LEVEL_SIZES):
            if not low <= longer < high:
                continue
            near = (level == _LEVELS) & (away < NEAR * STRIDES[level] * 0.75) & (away < nearest)
            state[near], boxes[near], points[near], nearest[near] = 1, box, landmarks, away[near]
    return state, boxes, points


def losses(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """The loss terms of one batch."""
    device = next(network.parameters()).device
    image = torch.from_numpy(batch.images).to(device)[:, None].float() / 255
    scores, boxes, points = network.logits(image.contiguous(memory_format=torch.channels_last))
    state = torch.from_numpy(batch.state).to(device)
    face, known = state == 1, state >= 0
    count = face.sum().clamp_min(1)
    wanted = face.float()
    cross = nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    missed = torch.exp(-cross)
    balance = torch.where(face, 1 - RARE_WEIGHT, RARE_WEIGHT)
    focal = (balance * (1 - missed) ** FOCUS * cross * known).sum() / count
    true_boxes = torch.from_numpy(batch.boxes).to(device)[face]
    true_points = torch.from_numpy(batch.points).to(device)[face]
    size = (true_boxes[:, 2:] - true_boxes[:, :2]).amax(1).clamp_min(4)
    apart = nn.functional.smooth_l1_loss(
        points[face] / size[:, None, None], true_points / size[:, None, None], beta=0.05,
        reduction="sum",
    )  # fmt: skip
    return {
        "score": 2 * focal,
        "box": (1 - generous_overlap(boxes[face], true_boxes)).sum() / count,
        "points": apart / count,
    }


def generous_overlap(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """GIoU of boxes (n, 4) pairwise: (n,). Source: Rezatofighi et al., 2019."""
    low, high = torch.maximum(found[:, :2], truth[:, :2]), torch.minimum(found[:, 2:], truth[:, 2:])
    common = (high - low).clamp_min(0).prod(1)
    areas = (found[:, 2:] - found[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1)
    union = areas - common
    low, high = torch.minimum(found[:, :2], truth[:, :2]), torch.maximum(found[:, 2:], truth[:, 2:])
    around = (high - low).prod(1).clamp_min(1e-6)
    return common / union.clamp_min(1e-6) - (around - union) / around


@torch.inference_mode()
def detect(network: nn.Module, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores (2100,), boxes (2100, 4) and scale of a luma picture, letterboxed as at run time."""
    height, width = picture.shape
    scale = SIDE / max(height, width)
    small = cv2.resize(
        picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA
    )
    image = np.zeros((1, 1, SIDE, SIDE), np.float32)
    image[0, 0, : small.shape[0], : small.shape[1]] = small / 255.0
    device = next(network.parameters()).device
    scores, boxes, _ = network(torch.from_numpy(image).to(device))
    return scores[0].cpu().numpy(), boxes[0].cpu().numpy(), scale


def evaluate(network: nn.Module, options: Options) -> dict[str, object]:
    """Found, missed and false faces on clips and scenes that no training saw."""
    cache, python = options.out / "cache", options.facemesh_python
    clips = labelled_clips(options.media / "eval", cache / "clips_eval.npz", python, step=5)
    scenes = labelled_scenes(options.media / "scenes/eval", cache / "scenes_eval.npz", python)
    result: dict[str, object] = {}
    for clip in sorted({name for name, _ in clips.names}):
        rows = [i for i, (name, _) in enumerate(clips.names) if name == clip]
        best, others, overlaps = [], [], []
        for i in rows:
            if not len(clips.landmarks[i]):
                continue
            hit, miss, iou = best_scores(network, clips, i)
            best.append(hit.min())
            others.append(miss)
            overlaps.append(iou.mean())
        result[clip] = {
            "frames": len(best),
            "lowest_score": round(float(min(best)), 3),
            "score_p05": round(float(np.quantile(best, 0.05)), 3),
            "highest_false_score": round(float(max(others)), 3),
            "mean_overlap": round(float(np.mean(overlaps)), 3),
        }
    strips = [strip for i in range(len(clips.names)) for strip in faceless_strips(clips, i)]
    false = np.array([float(detect(network, strip)[0].max()) for strip in strips])
    result["faceless parts"] = {
        "frames": len(strips),
        "highest_false_score": round(float(false.max()), 3),
        "over_0.5": int((false > 0.5).sum()),
    }
    for i, (name, _) in enumerate(scenes.names):
        hit, miss, _ = best_scores(network, scenes, i)
        result[name] = {
            "faces": [round(float(score), 2) for score in np.sort(hit)],
            "highest_false_score": round(miss, 3),
        }
    return result


def faceless_strips(labelled: Labelled, index: int) -> list[np.ndarray]:
    """What lies beside, above and below the head of one picture, where that is worth a look."""
    picture = labelled.pictures[index]
    if not len(labelled.landmarks[index]):
        return []
    face = labelled.landmarks[index][0]
    reach = np.ptp(face, axis=0).max() * 0.9
    (x0, y0), (x1, _) = face.min(0) - reach, face.max(0) + reach
    height, width = picture.shape
    bottom = int(face[:, 1].max())  # below the chin: neck, clothes, hands
    parts = [picture[:, : max(0, int(x0))], picture[:, min(width, int(x1)) :]]
    parts += [picture[: max(0, int(y0))], picture[min(height, bottom) :]]
    return [part for part in parts if min(part.shape) > 60]


def best_scores(
    network: nn.Module, labelled: Labelled, index: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """How well the faces of one picture are found, and the best score of anything else.

    For each labelled face the score of the best cell on it; the best score of the cells on no face
    and in no doubtful box; for each face the overlap of its cell.
    """
    scores, boxes, scale = detect(network, labelled.pictures[index])
    boxes = boxes / scale
    hits, overlaps = [], []
    free = np.ones(len(scores), bool)
    for face in labelled.landmarks[index]:
        truth = np.concatenate([face.min(0), face.max(0)])
        iou = _overlaps(truth, boxes)
        near = iou > 0.3
        best = int(np.argmax(np.where(near, scores, -1)))
        hits.append(scores[best] if near[best] else 0.0)
        overlaps.append(iou[best])
        free &= iou < 0.1
    for box in face_boxes(labelled, index):
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        free &= ~((middle > box[:2]) & (middle < box[2:])).all(1)
    return np.array(hits), float(scores[free].max(initial=0.0)), np.array(overlaps)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(size, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return common / np.maximum(areas - common, 1e-6)
