"""The recipe of the landmark network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mien.engines.networks import LANDMARKS
from mien.export.models.landmarks import LandmarkNetwork
from mien.export.onnx_file import sha256_of, to_onnx
from mien.runtime.faces.alignment import roi_matrix, sample_crop, transform_points
from mien.runtime.faces.topology import (
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_EYE_OUTER,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_EYE_OUTER,
)
from mien.training.data.augment import face_free_crops, load_folder, plain, texture
from mien.training.data.clips import SURE, Labelled, labelled_clips, labelled_scenes, sure_faces
from mien.training.data.faces import Faces, load_faces160, load_fer2013
from mien.training.faces.landmark_samples import Batch, Pool, Sampler, YawEstimate, shaken
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

BATCH = 48
WING, CURVE = 0.10, 0.02  # of the outer-eye distance; Feng et al., "Wing Loss", 2018
STEADY = 0.5  # weight of two looks agreeing
SMALLEST_EYES_PX = 11.0  # labels of smaller faces are too coarse


def main(argv: list[str]) -> None:
    """Train, validate and export the landmark network."""
    options = parse_options("landmarks", argv)
    torch.manual_seed(options.seed)
    faces = load_faces160(options.data)
    sampler = build_sampler(options, faces)
    trainer: Trainer[Batch] = Trainer("landmarks", LandmarkNetwork(), options, Schedule())
    weights = point_weights().to(trainer.device)

    def loss_of(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return losses(network, batch, weights)

    trainer.run(lambda: sampler.batch(BATCH), loss_of)
    metrics = evaluate(trainer.average, options, faces)
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step, "batch": BATCH}
    path = options.out / "landmarks.onnx"
    facts = {"paper": "My Emotion on your face (HFLD landmarks), made for the edge"}
    metrics["parity_error"] = to_onnx(trainer.average, LANDMARKS, path, facts=facts)
    metrics["sha256"] = sha256_of(path)
    write_metrics(options.out / "landmarks.json", metrics)
    write_card(options.out / "landmarks.md", "The landmark network", card_sections(metrics))


def card_sections(metrics: dict[str, object]) -> dict[str, str]:
    """The model card, from what was measured."""
    return {
        "What it is": (
            "One upright 112x112 luma crop of a face "
            "(`mien.runtime.faces.alignment.roi_matrix`) to 106 landmarks in the order of "
            "`mien.runtime.faces.topology` and a score: 1 a plain face, 0 no face, or one that is "
            "covered by more than about a third, turned by more than about 55 degrees, or out of "
            "place. A small convolutional network with 14x14 heat maps and a global branch, 1.0 M "
            "parameters, about 110 M multiplications."
        ),
        "Data": data_text(
            ("faces160", "fer2013", "clips", "scenes"),
            "\nThe labels are FaceMesh points (mediapipe 0.10.21) mapped to 106 by "
            "`mien.training.data.facemesh`; the network can be no better than they are. Mirrored, "
            "shaken (shift, scale, turn), re-lit, blurred, shrunk, made noisy, compressed and "
            "partly covered at random.",
        ),
        "Training": (
            f"`python -m mien.training landmarks --minutes {metrics['minutes']:.0f} --data DIR "
            f"--media DIR --out DIR --facemesh-python PYTHON`: {metrics['minutes']} minutes, "
            f"{metrics['steps']} steps of {metrics['batch']}, two processor cores, bfloat16 "
            "autocast, averaged weights. Wing loss by the outer-eye distance, and a term by which "
            "two looks at one picture must agree."
        ),
        "Quality": (
            "Mean distance to FaceMesh's points by the outer-eye distance, on people and clips "
            "that were not trained on: from a shaken crop, and settled by one more look.\n\n"
            + quality_table(metrics)
        ),
        "Limits": (
            "Profiles beyond about 55 degrees, masks and faces smaller than about 20 pixels are "
            "given low scores or coarse points. Grey press pictures dominate the data; people of "
            "all origins and ages are not equally represented in it."
        ),
        "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
    }


def build_sampler(options: Options, faces: Faces) -> Sampler:
    """All training faces and backgrounds, in memory."""
    cache = options.out / "cache"
    fer = load_fer2013(options.data)
    python = options.facemesh_python
    clips = labelled_clips(options.media / "train", cache / "clips_train.npz", python, step=2)
    scenes = labelled_scenes(options.media / "scenes/train", cache / "scenes_train.npz", python)
    yaw = YawEstimate(faces.landmarks[~faces.validation])
    pools = [
        _pool(faces, yaw, share=0.62, weight=1.0),
        _pool(fer, yaw, share=0.13, weight=0.4),
        _pool_of_labelled(clips, yaw, share=0.21),
        _pool_of_labelled(scenes, yaw, share=0.04),
    ]
    rng = np.random.default_rng(options.seed + 1)
    squares = [texture(rng, 160) for _ in range(250)]
    squares += face_free_crops(clips, rng, 500, 160) + face_free_crops(scenes, rng, 250, 160)
    for picture in load_folder(options.backgrounds):
        squares += face_free_crops(plain(picture), rng, 12, 160)
    return Sampler(pools, squares, options.seed)


def _pool(faces: Faces, yaw: YawEstimate, *, share: float, weight: float) -> Pool:
    chosen = np.flatnonzero(~faces.validation)
    landmarks = faces.landmarks[chosen][:, :, :2]
    pictures = [faces.pictures[i] for i in chosen]
    return Pool(pictures, landmarks, yaw(landmarks), share, weight)


def _pool_of_labelled(labelled: Labelled, yaw: YawEstimate, *, share: float) -> Pool:
    """The faces of clips or scenes; people with masks are left out, their mouths are guesses."""
    pictures, landmarks = [], []
    for index, (name, _) in enumerate(labelled.names):
        if name.startswith("masked"):
            continue
        faces, scores = sure_faces(labelled, index)
        for face in faces[scores > SURE]:
            if np.linalg.norm(face[RIGHT_EYE_OUTER] - face[LEFT_EYE_OUTER]) > SMALLEST_EYES_PX:
                pictures.append(labelled.pictures[index])
                landmarks.append(face)
    stacked = np.array(landmarks, np.float32).reshape(-1, 106, 2)
    return Pool(pictures, stacked, yaw(stacked), share, 1.0)


def point_weights() -> torch.Tensor:
    """How much each point counts: eyes, brows and lips more than the outline. Mean 1."""
    weights = torch.ones(106)
    weights[:33] = 0.6
    weights[list(LEFT_EYE + RIGHT_EYE + LEFT_BROW + RIGHT_BROW)] = 1.5
    weights[list(OUTER_LIPS + INNER_LIPS)] = 2.0
    return weights / weights.mean()


def wing(x: torch.Tensor) -> torch.Tensor:
    """The wing loss of errors `x`, in outer-eye distances, scaled to slope about 1 at the rim."""
    size = x.abs()
    inner = WING * torch.log1p(size / CURVE)
    rim = WING - WING * float(np.log1p(WING / CURVE))
    return torch.where(size < WING, inner, size - rim)


def losses(network: nn.Module, batch: Batch, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss terms of one batch."""
    device = weights.device
    face = torch.from_numpy(batch.faces).to(device)[:, None].float() / 255
    landmarks, score = network.logits(face.contiguous(memory_format=torch.channels_last))
    truth = torch.from_numpy(batch.landmarks).to(device)
    eyes = (truth[:, RIGHT_EYE_OUTER] - truth[:, LEFT_EYE_OUTER]).norm(dim=1).clamp_min(0.2)
    apart = wing((landmarks - truth) / eyes[:, None, None]).mean(2) * weights
    weight = torch.from_numpy(batch.landmark_weight).to(device)
    place = (apart.mean(1) * weight).sum() / weight.sum().clamp_min(1)
    wanted = torch.from_numpy(batch.score).to(device)
    sure = torch.from_numpy(batch.score_weight).to(device)
    cross = nn.functional.binary_cross_entropy_with_logits(score[:, 0], wanted, reduction="none")
    terms = {"landmarks": 10 * place, "score": 0.5 * (cross * sure).sum() / sure.sum().clamp_min(1)}
    pair = torch.from_numpy(batch.pair).to(device)
    if len(pair):
        moved = torch.from_numpy(batch.moved).to(device)
        first = landmarks[pair[:, 0]] @ moved[:, :, :2].transpose(1, 2) + moved[:, None, :, 2]
        both = (weight[pair] > 0).all(1).float()[:, None, None]
        differ = (first - landmarks[pair[:, 1]]) / eyes[pair[:, 1], None, None]
        terms["steady"] = 10 * STEADY * (wing(differ) * both).mean()
    return terms


@torch.inference_mode()
def predict(
    network: nn.Module, pictures: list[np.ndarray], rois: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, 106, 2) in picture pixels and scores (n,), seen through `rois` (n, 2, 3)."""
    landmarks, scores = [], []
    for start in range(0, len(pictures), 64):
        part = slice(start, start + 64)
        crops = [sample_crop(p, m, 112) for p, m in zip(pictures[part], rois[part], strict=True)]
        face = torch.from_numpy(np.stack(crops))[:, None].float() / 255
        device = next(network.parameters()).device
        found, score = network(face.to(device))
        for points, roi in zip(found.cpu().numpy(), rois[part], strict=True):
            inverse = np.linalg.inv(np.vstack([roi, [0, 0, 1]]))[:2]
            landmarks.append(transform_points(inverse, points * 112 - 0.5))
        scores.append(score.cpu().numpy()[:, 0])
    return np.array(landmarks), np.concatenate(scores)


def errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean point error of each face by its outer-eye distance: (n,)."""
    eyes = np.linalg.norm(truth[:, RIGHT_EYE_OUTER] - truth[:, LEFT_EYE_OUTER], axis=1)
    return np.linalg.norm(found - truth, axis=2).mean(1) / eyes


def evaluate(network: nn.Module, options: Options, faces: Faces) -> dict[str, object]:
    """Errors on people and clips that no training saw, started from a shaken crop, settled once."""
    chosen = np.flatnonzero(faces.validation)
    pictures = [faces.pictures[i] for i in chosen]
    result = {"faces160": _errors_of(network, pictures, faces.landmarks[chosen][:, :, :2])}
    cache, python = options.out / "cache", options.facemesh_python
    clips = labelled_clips(options.media / "eval", cache / "clips_eval.npz", python, step=5)
    for clip in sorted({name for name, _ in clips.names}):
        rows = [
            i for i, (name, _) in enumerate(clips.names) if name == clip and len(clips.landmarks[i])
        ]
        if rows:
            truth = np.stack([clips.landmarks[i][0] for i in rows])
            result[clip] = _errors_of(network, [clips.pictures[i] for i in rows], truth)
    return result


def _errors_of(
    network: nn.Module, pictures: list[np.ndarray], truth: np.ndarray
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    rois = np.stack([roi_matrix(points, 112) for points in truth])
    nudged = np.stack([_nudged(roi, rng) for roi in rois])
    first, _ = predict(network, pictures, nudged)
    settled, scores = predict(network, pictures, np.stack([roi_matrix(p, 112) for p in first]))
    error = errors(settled, truth)
    return {
        "faces": len(pictures),
        "mean": round(float(error.mean()), 5),
        "p90": round(float(np.quantile(error, 0.9)), 5),
        "from_shaken_crop": round(float(errors(first, truth).mean()), 5),
        "score_over_0.5": round(float((scores > 0.5).mean()), 4),
    }


def _nudged(roi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shift, scale, turn = rng.uniform(-0.06, 0.06, 2), rng.uniform(-0.15, 0.15), rng.uniform(-12, 12)
    return shaken(roi, (float(shift[0]), float(shift[1]), float(np.exp(scale)), float(turn)))
