"""Which action units the editor's movements lack for each emotion, by the guides' verdict.

`python -m mien.training warp-units --minutes N --data DIR --media DIR --out DIR [--begin-with
DIR]` needs `guides.pt` of the recipe `guide` in `--out`, and takes the editor of a folder of
models, mien's own by default. The editor stays as it is; what is learnt is one amount for each
emotion and unit, on neutral training people, against a cost for every amount. Its answer,
`units.json`, says where to look, no more: an optimum of classifiers looks exaggerated.
`runtime.methods.warp.editor.ADDED` was chosen by hand after a coarser search of the same kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.catalog import BUNDLED_FOLDER
from mien.export.models.warp import WarpNetwork
from mien.runtime.faces.action_units import OUTER_EYES, action_unit
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import Crops, clear_crops, load_crops
from mien.training.recipe import Options, Schedule, Trainer, parse_options, write_metrics
from mien.training.warp.guide import CLASSES
from mien.training.warp.warp import BATCH, Objective, editor_of

UNITS: Final = ("1", "2", "4", "5", "6", "7", "9", "10", "12", "15", "17", "20", "23", "25", "26")
MOST: Final = 0.12  # outer-eye distances
COST: Final = 0.3  # of an outer-eye distance: all amounts of an emotion together
SOUGHT: Final = range(1, CLASSES)  # a neutral face lacks nothing, and contempt has no guide
FOLD: Final = 2.0

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # faces, landmarks, targets


class UnitAmounts(nn.Module):
    """How much of each unit every emotion is given beyond the editor's movement."""

    moves: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(len(EMOTIONS), len(UNITS)))
        moves = np.stack([action_unit(number) * OUTER_EYES for number in UNITS])
        self.register_buffer("moves", torch.from_numpy(moves.astype(np.float32)))

    def amounts(self) -> torch.Tensor:
        """In outer-eye distances, at most MOST: (8, units)."""
        return MOST * torch.tanh(self.raw / MOST)

    def forward(self) -> torch.Tensor:
        """What is added to the movement of each emotion: (8, 106, 2), crop units."""
        return torch.einsum("eu,upd->epd", self.amounts(), self.moves)


class Verdict:
    """The loss of amounts: what the guides miss, folds of the flow, and the cost."""

    def __init__(self, editor: WarpNetwork, objective: Objective) -> None:
        self.editor = editor.to(objective.device).eval().requires_grad_(requires_grad=False)
        self.objective = objective

    def __call__(self, network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        assert isinstance(network, UnitAmounts)
        faces, landmarks, target = (part.to(self.objective.device) for part in batch)
        with torch.no_grad():
            displacement, light = self.editor(faces, landmarks, target)
        self.objective.added = network()
        edited, flow = self.objective.apply(faces, landmarks, displacement, light, target)
        return {
            "guide": self.objective.guidance(edited, target).mean(),
            "fold": FOLD * self.objective.folds(flow),
            "cost": COST * (target @ network.amounts().abs()).sum(1).mean(),
        }


class NeutralFaces:
    """Draws neutral faces of training people, and for each an emotion to show."""

    def __init__(self, crops: Crops, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.crops = crops.select(~crops.validation & (crops.emotions == 0))

    def __call__(self) -> Batch:
        rows = self.rng.choice(len(self.crops.emotions), BATCH)
        faces = torch.from_numpy(self.crops.pixels[rows].astype(np.float32) / 255)[:, None]
        wanted = torch.from_numpy(self.rng.choice(SOUGHT, BATCH))
        target = F.one_hot(wanted, len(EMOTIONS)).float()
        return faces, torch.from_numpy(self.crops.landmarks[rows]), target


def told(amounts: torch.Tensor) -> dict[str, dict[str, float]]:
    """The amounts of each emotion that are worth a look, the largest first."""
    found = {}
    for index in SOUGHT:
        row = dict(zip(UNITS, amounts[index].tolist(), strict=True))
        kept = sorted(row.items(), key=lambda unit: -abs(unit[1]))
        found[EMOTIONS[index]] = {unit: round(x, 3) for unit, x in kept if abs(x) >= 0.01}
    return found


def main(argv: list[str]) -> None:
    """Search the amounts, and write them to `units.json` in `--out`."""
    options: Options = parse_options("warp-units", argv, begins=True)
    crops = clear_crops(load_crops(options.data, 64, options.out), options.data)
    models: Path = options.begin_with or BUNDLED_FOLDER
    schedule = Schedule(rate=1e-2, weight_decay=0.0, average=0.98, half=False)
    trainer: Trainer[Batch] = Trainer("units", UnitAmounts(), options, schedule)
    objective = Objective(options.out / "guides.pt", trainer.device)
    verdict = Verdict(editor_of(models), objective)
    trainer.run(NeutralFaces(crops, options.seed), verdict)
    average = trainer.average
    assert isinstance(average, UnitAmounts)
    spent = {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    write_metrics(options.out / "units.json", {**told(average.amounts().detach().cpu()), **spent})
