"""The last step of the warp editor's recipe: how much of each action unit an emotion shows.

For one emotion the trained network answers nearly the same amounts for every face, and the guides'
gradient through it is spread over millions of weights: fear kept the knit brows of its prototype
and a jaw that does not drop. Here the guides move the amounts themselves, one vector for an
emotion, within bounds that faces keep in real pictures of it; then the network's last layer is
fitted again (ridge regression), so that its answers differ from what they were by that much. What
it says of single faces stays.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from mien.engines import WARP
from mien.export.models.warp import WarpNetwork
from mien.export.onnx_file import sha256_of, to_onnx
from mien.runtime.methods.warp.editor import AMOUNTS
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, Crops, clear_crops, load_crops
from mien.training.recipe import write_card, write_metrics
from mien.training.warp.guide import CLASSES
from mien.training.warp.warp import MOST, Objective, card_sections, measure, unit_table

# From and to which amount an emotion may show a unit at intensity 1, in outer-eye distances; units
# that are not named stay as the network has them.
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "sad": {
        "1": (0.10, 0.12), "4": (0.01, 0.04), "15": (0.08, 0.115), "17": (0.03, 0.06),
        "43": (0.02, 0.045), "23": (-0.045, 0.01), "2": (-0.045, -0.01), "20": (0.0, 0.03),
    },
    "disgusted": {
        "9": (0.095, 0.122), "10": (0.08, 0.11), "6": (0.03, 0.065), "7": (0.02, 0.045),
        "4": (-0.01, 0.015), "15": (0.02, 0.065), "17": (0.005, 0.05), "1": (-0.02, 0.02),
        "43": (-0.015, 0.02), "23": (-0.02, 0.03), "12": (-0.02, 0.0), "2": (-0.01, 0.02),
    },
    "angry": {
        "4": (0.10, 0.126), "1": (-0.08, -0.04), "7": (0.02, 0.055), "23": (-0.01, 0.055),
        "15": (0.02, 0.065), "17": (0.01, 0.05), "5": (-0.025, 0.02), "2": (0.0, 0.04),
        "10": (0.0, 0.03), "9": (0.0, 0.03), "22": (0.0, 0.04),
    },
}  # fmt: skip
# Fear's were set by trying them through the whole filter on 40 training people: the mouth that
# training paints is too crude to search with. Of those that still looked like somebody's fear, the
# guide of FER+ saw most of it with these.
SET = {
    "fearful": {
        "1": 0.158, "2": 0.03, "4": 0.03, "5": 0.078, "20": 0.14, "25": 0.10, "26": 0.06,
        "10": 0.045, "15": 0.045, "17": -0.03, "12": -0.01,
    },
}  # fmt: skip
# What the viewer's left half shows of a unit, as a share of the right one: a curled lip.
ONE_SIDED = {"disgusted": ("10", 0.8)}
PULL = 0.4  # what leaving the middle of the bounds costs
RIDGE = 1e-4  # of the mean square of what the last layer sees
ROWS = 240  # faces that the last layer is fitted on


@dataclass(frozen=True, slots=True)
class Search:
    """How long to look, and at how many faces at a time."""

    steps: int = 40
    batch: int = 16
    rate: float = 0.12


def mean_amounts(network: WarpNetwork, crops: Crops, index: int) -> torch.Tensor:
    """What the network answers for an emotion on average, at intensity 1: (2k,)."""
    rows = np.flatnonzero((crops.source == FACES160) & (crops.emotions == 0))[:128]
    target = F.one_hot(torch.full((len(rows),), index), len(EMOTIONS)).float()
    with torch.inference_mode():
        mean = network.amounts(*_faces(crops, rows), target).mean(0)
    return mean * float(AMOUNTS[index])


def with_amounts(start: torch.Tensor, amounts: dict[str, float]) -> torch.Tensor:
    """Amounts (2k,) of which some are replaced, on both sides of the face."""
    changed = start.clone()
    for place, unit in enumerate(MOST):
        if unit in amounts:
            changed[2 * place : 2 * place + 2] = amounts[unit]
    return changed


def search(
    emotion: str, start: torch.Tensor, objective: Objective, crops: Crops, plan: Search
) -> torch.Tensor:
    """The amounts (2k,), at intensity 1, with which the guides see `emotion` best."""
    index = EMOTIONS.index(emotion)
    units, _ = unit_table()
    low, high = start.clone(), start.clone()
    for place, unit in enumerate(MOST):
        if unit in BOUNDS[emotion]:
            low[2 * place : 2 * place + 2], high[2 * place : 2 * place + 2] = BOUNDS[emotion][unit]
    span = (high - low).clamp(min=1e-6)
    free = torch.logit(((start - low) / span).clamp(0.1, 0.9)).requires_grad_()
    optimizer = torch.optim.Adam([free], plan.rate)
    rows = np.flatnonzero((crops.source == FACES160) & (crops.emotions == 0))
    rng = np.random.default_rng(index)
    target = F.one_hot(torch.full((plan.batch,), index), len(EMOTIONS)).float()
    for step in range(plan.steps):
        share = torch.sigmoid(_both_sides(free))
        amounts = torch.where(high > low, low + share * span, start)
        faces, marks = _faces(crops, rng.choice(rows, plan.batch))
        moved = (amounts @ units).reshape(1, -1, 2).expand(plan.batch, -1, -1)
        edited, flow = objective.apply(faces, marks, moved, target)
        seen = objective._guidance(edited, target).mean()
        loss = seen + PULL * ((share - 0.5) ** 2).mean() + 4 * objective._folds(flow)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"{emotion} {step + 1} guides {float(seen.detach()):.3f}", flush=True)
    found = amounts.detach()
    if emotion in ONE_SIDED:
        unit, share = ONE_SIDED[emotion]
        found[2 * list(MOST).index(unit)] *= share
    return found


def refit(network: WarpNetwork, crops: Crops, change: torch.Tensor, seed: int = 0) -> None:
    """Fit the last layer so that the answer for each emotion changes by `change` (8, 2k)."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(crops.source), ROWS)
    faces, marks = _faces(crops, rows)
    seen: list[torch.Tensor] = []
    handle = network.mix.register_forward_hook(lambda _, __, out: seen.append(out))
    wanted = []
    with torch.no_grad():
        for target in _targets(rng, len(rows)):
            old = network.amounts(faces, marks, target)
            within = ((old + target @ change) / network.most).clamp(-0.97, 0.97)
            wanted.append(torch.atanh(within))
        handle.remove()
        x = F.pad(torch.cat(seen), (0, 1), value=1.0).double()
        y = torch.cat(wanted).double()
        old_layer = torch.cat([network.move.weight, network.move.bias[:, None]], 1).T.double()
        # The difference is fitted, so that what the ridge pulls to is the layer that was there.
        ridge = RIDGE * float(x[:, :-1].square().mean()) * len(x)
        system = x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
        layer = old_layer + torch.linalg.solve(system, x.T @ (y - x @ old_layer))
        network.move.weight.copy_(layer[:-1].T)
        network.move.bias.copy_(layer[-1])


def _both_sides(free: torch.Tensor) -> torch.Tensor:
    """The mean of both halves of the face for both, (2k,)."""
    return free.reshape(-1, 2).mean(1, keepdim=True).expand(-1, 2).flatten()


def _targets(rng: np.random.Generator, count: int) -> list[torch.Tensor]:
    """Targets (count, 8): each emotion whole, a part of one, and two together."""
    whole = torch.eye(len(EMOTIONS))
    targets = [row.expand(count, -1) for row in whole]
    share = torch.from_numpy(rng.uniform(0.2, 0.8, (count, 1)).astype(np.float32))
    first, second = (torch.from_numpy(rng.integers(0, len(EMOTIONS), count)) for _ in range(2))
    return [*targets, share * whole[first], share * whole[first] + (1 - share) * whole[second]]


def _faces(crops: Crops, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    faces = torch.from_numpy(crops.pixels[rows]).float().div(255)[:, None]
    return faces, torch.from_numpy(crops.landmarks[rows])


def main(argv: list[str]) -> None:
    """Set the amounts of a trained editor; needs `warp.pt` and `guides.pt` in `--out`."""
    parser = argparse.ArgumentParser(prog="python -m mien.training warp_amounts")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Search().steps)
    options = parser.parse_args(argv)
    crops = clear_crops(load_crops(options.data, 64, options.out), options.data)
    train = crops.select(~crops.validation)
    state = torch.load(options.out / "warp.pt", weights_only=True)
    units, most = unit_table()
    network = WarpNetwork(units, most, state["average"]["mean"])
    network.load_state_dict(state["average"] | {"units": units, "most": most})
    objective = Objective(options.out / "guides.pt", torch.device("cpu"))
    change = torch.zeros(len(EMOTIONS), units.shape[0])
    file = options.out / "amounts.json"  # a run that is stopped goes on with the next emotion
    shown: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for emotion in (*SET, *BOUNDS):
        index = EMOTIONS.index(emotion)
        start = mean_amounts(network, train, index)
        if emotion in SET:
            shown[emotion] = with_amounts(start, SET[emotion]).tolist()
        elif emotion not in shown:
            found = search(emotion, start, objective, train, Search(options.steps))
            shown[emotion] = [round(value, 4) for value in found.tolist()]
            file.write_text(json.dumps(shown, indent=1) + "\n")
        change[index] = (torch.tensor(shown[emotion]) - start) / float(AMOUNTS[index])
        print(emotion, dict(zip(MOST, shown[emotion][::2], strict=True)), flush=True)
    refit(network, train, change)
    for emotion, wanted in shown.items():
        got = mean_amounts(network, train, EMOTIONS.index(emotion))
        print(
            emotion, "off by at most", float((got - torch.tensor(wanted)).abs().max()), flush=True
        )
    finish(network.eval(), objective, crops, options.out)


def finish(network: WarpNetwork, objective: Objective, crops: Crops, out: Path) -> None:
    """Measure and export the editor, and write its card."""
    before = torch.load(out / "warp.pt", weights_only=True)
    metrics = measure(network, objective, crops, 96)
    metrics |= {"minutes": round(before["spent_s"] / 60, 1), "steps": before["step"], "batch": 32}
    path = out / "warp.onnx"
    facts = {"paper": "mien's own, on StarGAN's objective", "targets": ",".join(EMOTIONS)}
    metrics["parity_error"] = to_onnx(network, WARP, path, facts=facts)
    metrics["sha256"] = sha256_of(path)
    metrics["quality"] = {
        f"guides_agree_{emotion}": row["seen_by_the_guides"]
        for emotion, row in metrics["emotions"].items()
        if emotion in EMOTIONS[:CLASSES]
    }
    write_metrics(out / "warp.json", metrics)
    write_card(out / "warp.md", "The warp editor", card_sections(metrics))
