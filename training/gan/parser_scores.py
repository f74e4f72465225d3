"""How well a face parser agrees with the landmark polygons, and with the squares of landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from mien.runtime.faces.alignment import roi_matrix, sample_crop, transform_points
from mien.runtime.methods.gan.parts import POINTS_OF_PART, part_boxes
from mien.runtime.methods.gan.segmentation import boxes_of, part_extents
from mien.training.data.facemesh import landmarks_106
from mien.training.faces.landmark_samples import shaken
from mien.training.gan.parser_samples import CLASSES, SIZE, UNSURE, class_mask

# RGB uint8 (256, 256, 3) to the class of each pixel, uint8 (256, 256)
Parse = Callable[[np.ndarray], np.ndarray]


class Scores:
    """Sums over pictures."""

    def __init__(self) -> None:
        self.common = np.zeros(len(CLASSES))
        self.either = np.zeros(len(CLASSES))
        self.same = self.sure = 0
        self.moved: dict[str, list[float]] = {part: [] for part in POINTS_OF_PART}
        self.grown: dict[str, list[float]] = {part: [] for part in POINTS_OF_PART}
        self.pictures = self.complete = 0

    def add(self, said: np.ndarray, mesh: np.ndarray) -> None:
        """Count one picture: the classes said, and its mesh in pixels of the crop."""
        truth = class_mask(mesh, SIZE)
        sure = truth != UNSURE
        for index in range(len(CLASSES)):
            mine, theirs = (said == index) & sure, truth == index
            self.common[index] += (mine & theirs).sum()
            self.either[index] += (mine | theirs).sum()
        self.same += int(((said == truth) & sure).sum())
        self.sure += int(sure.sum())
        boxes = boxes_of(part_extents(said, CLASSES))
        self.pictures += 1
        self.complete += len(boxes) == len(POINTS_OF_PART)
        for part, wanted in part_boxes((landmarks_106(mesh) + 0.5) / SIZE).items():
            if part in boxes:
                box = boxes[part]
                self.moved[part].append(float(np.hypot(box.x - wanted.x, box.y - wanted.y)))
                self.grown[part].append(box.side / wanted.side - 1)

    def overlap(self) -> dict[str, float]:
        """Intersection over union of each class, over all pictures together."""
        shares = self.common / np.maximum(self.either, 1)
        return {name: round(float(s), 4) for name, s in zip(CLASSES, shares, strict=True)}

    def box_errors(self) -> dict[str, dict[str, float]]:
        """Of each part's square: how far off its centre is, in wide crops, and how its side is."""
        return {
            part: {
                "centre_mean": round(float(np.mean(self.moved[part])), 4),
                "centre_p95": round(float(np.quantile(self.moved[part], 0.95)), 4),
                "side_ratio_mean": round(1 + float(np.mean(self.grown[part])), 3),
                "side_ratio_off_p95": round(float(np.quantile(np.abs(self.grown[part]), 0.95)), 3),
            }
            for part in self.moved
            if self.moved[part]
        }

    def table(self) -> dict[str, object]:
        """Everything, for JSON."""
        overlap = self.overlap()
        return {
            "pictures": self.pictures,
            "all_parts_found": round(self.complete / max(1, self.pictures), 4),
            "pixels_same_class": round(self.same / max(1, self.sure), 4),
            "mean_iou": round(float(np.mean(list(overlap.values()))), 4),
            "iou": overlap,
            "boxes": self.box_errors(),
        }


def score(parse: Parse, faces: Iterable[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> Scores:
    """The scores over pictures and their meshes, through crops shaken as tracking shakes them."""
    rng = np.random.default_rng(seed)
    scores = Scores()
    for picture, mesh in faces:
        shift, scale, turn = rng.normal(0, 0.015, 2), rng.normal(0, 0.04), rng.normal(0, 3)
        shake = (float(shift[0]), float(shift[1]), float(np.exp(scale)), float(turn))
        matrix = shaken(roi_matrix(landmarks_106(mesh), SIZE), shake, SIZE)
        crop = sample_crop(picture, matrix, SIZE)
        shown = crop if crop.ndim == 3 else np.repeat(crop[:, :, None], 3, 2)
        scores.add(parse(shown), transform_points(matrix, mesh))
    return scores
