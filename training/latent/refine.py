"""A second look at the face: what its first reconstruction lacks, as a correction of the code.

The face space's encoder answers at once, and what it misses the generator could often draw: with
the generator fixed, a code that is searched for a face explains more of it than the encoder's. So a
second encoder sees the face and what the generator makes of its code, and corrects the code, as
often as `--passes` says (Alaluf et al., "ReStyle", 2021). It starts as a copy of the first one.
Generator and first encoder stay as they are.

`python -m mien.training latent-refine --minutes 40 --space latent.pt --data DIR --out DIR
--features faceres.json` leaves `refined.pt`, a face space with which all later recipes work in the
place of `latent.pt`. It has to come before them, for they learn from the codes.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mien.engines.errors import UsageError
from mien.export.models.face_encoder import FaceEncoder, RefinedEncoder
from mien.training.data.crops import FACES160
from mien.training.latent.data import (
    LatentOptions,
    latent_options,
    latent_parser,
    load_space,
    read_state,
    write_sheet,
)
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import (
    CRITIC_LAYERS,
    CROP,
    FER,
    IDENTITY_LAYER,
    PRESS,
    SMALL,
    Batch,
    Faces,
    FaceSpace,
    compared,
    load_faces,
    pooled,
    reconstruction,
)
from mien.training.recipe import Schedule, Trainer, write_metrics

# `move` keeps codes near the first ones, where the generator's faces are good ones.
WEIGHTS = {"l1": 4.0, "unexplained": 1.0, "features": 1.0, "identity": 0.4, "move": 0.01}
SCHEDULE = Schedule(rate=3e-4, final_rate=0.02, warmup_share=0.03, weight_decay=0.0, average=0.995)
SHOWN, MEASURED = 12, 96  # held-out people on a sheet, and in a measurement


class RefineLoss:
    """How far the pictures of corrected codes are from the faces.

    The codes were corrected a random number of times before, below `passes`: from wherever the
    second encoder led, it has to find on.
    """

    def __init__(self, space: FaceSpace, features: Path, passes: int, device: torch.device) -> None:
        self.space, self.passes, self.device = space, passes, device
        self.features = FaceFeatures(features).to(device)

    def __call__(self, network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        assert isinstance(network, FaceEncoder)
        # A batch's own statistics differ between faces and pictures, and hide what these lack.
        network.eval()
        refined = RefinedEncoder(self.space.encoder, network, self.space.generator, 1)
        real = pooled(batch.faces.to(self.device), self.space.size)
        seen = pooled(real, SMALL).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            first = self.space.encoder(seen)
            before = refined.corrected(seen, first, int(torch.randint(self.passes, ())))
        codes = refined.corrected(seen, before, 1)
        layers = (*CRITIC_LAYERS, IDENTITY_LAYER)
        made = self.space.generator(codes)
        with torch.no_grad():
            theirs = self.features(compared(real, batch.press), layers)
        mine = self.features(compared(made, batch.press), layers)
        terms = reconstruction(real, made.float(), theirs, mine, batch.press)
        terms["unexplained"] = unexplained(real[: batch.press], made[: batch.press]).mean()
        terms["move"] = (codes - first).square().mean()
        return {name: WEIGHTS[name] * term for name, term in terms.items()}


def unexplained(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The share of each picture's variance that another leaves unexplained: (n,)."""
    return (real - made.float()).square().mean((1, 2, 3)) / real.var((1, 2, 3))


class Progress:
    """Keeps, at each checkpoint, the refined space, a sheet, and what is unexplained by pass.

    held_out: (n, 1, s, s), pictures of people of faces160 that nothing was trained on.
    """

    def __init__(
        self, options: LatentOptions, space: FaceSpace, passes: int, held_out: torch.Tensor
    ) -> None:
        self.options, self.space, self.passes = options, space, passes
        self.real = pooled(held_out, space.size)

    @torch.inference_mode()
    def measure(self, second: FaceEncoder) -> tuple[list[float], torch.Tensor]:
        """What is unexplained without a correction, with one, and so on; and the last pictures."""
        device = next(second.parameters()).device
        shares, pictures = [], []
        refined = RefinedEncoder(self.space.encoder, second.eval(), self.space.generator, 1)
        for real in self.real.split(16):
            face = pooled(real, SMALL).to(device)
            codes = self.space.encoder(face)
            made = [self.space.generator(codes)]
            for _ in range(self.passes):
                codes = refined.corrected(face, codes, 1)
                made.append(self.space.generator(codes))
            shares.append(torch.stack([unexplained(real, m.cpu()) for m in made], 1))
            pictures.append(torch.cat([made[0], made[-1]], 1).cpu())
        means = torch.cat(shares).mean(0).tolist()
        return [round(value, 4) for value in means], torch.cat(pictures)

    def draw(self, trainer: Trainer[Batch], title: str) -> None:
        """Write `refined.pt`, the sheet `title` (face, first picture, last one) and the log."""
        second = trainer.average
        assert isinstance(second, FaceEncoder)
        write_refined(self.options, second, self.passes, trainer)
        shares, pictures = self.measure(second)
        rows = [self.real, pictures[:, :1], pictures[:, 1:]]
        shown = np.linspace(0, len(self.real) - 1, min(SHOWN, len(self.real))).astype(int)
        write_sheet(self.options.work / f"{title}.png", [row[shown] for row in rows])
        line = json.dumps({"sheet": f"{title}.png", "unexplained": shares})
        print(line, flush=True)
        with (self.options.work / "refine.log").open("a") as file:
            file.write(line + "\n")


def write_refined(
    options: LatentOptions, second: FaceEncoder, passes: int, trainer: Trainer[Batch]
) -> None:
    """Write `refined.pt`: the face space of `--space` with the second encoder."""
    state = read_state(options.space)
    further = {f"second.{name}": value.cpu() for name, value in second.state_dict().items()}
    # the critic is where the mappers' own begins
    kept = {name: state[name] for name in ("size", "step", "spent_s", "critic")}
    kept |= {"channels": state.get("channels", "narrow"), "passes": passes}
    kept |= {"average": {**state["average"], **further}}
    kept |= {"refined_step": trainer.step, "refined_s": trainer.spent_s}
    part = options.work / "refined.part"
    torch.save(kept, part)
    part.replace(options.work / "refined.pt")


def check_space(options: LatentOptions) -> None:
    """Refuse a space that is refined already, and a run that corrects another one's codes."""
    state, earlier = read_state(options.space), options.work / "refined.pt"
    if state.get("passes", 0):
        raise UsageError(f"{options.space} is refined already; give the checkpoint of latent")
    if options.fresh or not (options.work / "refine.pt").exists() or not earlier.exists():
        return
    corrected = read_state(earlier)["step"]
    if corrected != state["step"]:
        raise UsageError(
            f"{options.work} corrects the codes of step {corrected}, {options.space} is at step "
            f"{state['step']}; give --fresh or another --out"
        )


def main(argv: list[str]) -> None:
    """Train the second encoder; see the module."""
    parser = latent_parser("latent-refine", PRESS + FER)
    parser.add_argument("--passes", type=int, default=2, help="how often a code is corrected")
    args = parser.parse_args(argv)
    if args.passes < 1:
        parser.error(f"--passes {args.passes} corrects nothing; give 1 or more")
    options = latent_options(args)
    check_space(options)
    torch.manual_seed(options.seed)
    space = load_space(options.space, options.device)
    crops, votes = load_faces(options.data, options.cache, max(space.size, CROP))
    rows = np.flatnonzero(crops.validation & (crops.source == FACES160))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MEASURED).astype(int))]
    held_out = torch.from_numpy(crops.pixels[rows][:, None].astype(np.float32) / 127.5 - 1)
    second = copy.deepcopy(space.encoder).requires_grad_(requires_grad=True)
    trainer: Trainer[Batch] = Trainer("refine", second, options.of_recipe(), SCHEDULE)
    times = max(1, options.batch // (PRESS + FER))
    faces = Faces(crops, votes, options.seed + trainer.step, times)
    del crops  # `faces` has its own
    progress = Progress(options, space, args.passes, held_out)
    loss = RefineLoss(space, options.features, args.passes, trainer.device)
    trainer.run(faces.batch, loss, lambda _, title: progress.draw(trainer, title))
    # Also where it was trained before: `--passes` may be another.
    write_refined(options, trainer.average, args.passes, trainer)
    shares, _ = progress.measure(trainer.average)
    metrics: dict[str, object] = {"unexplained": shares, "people": len(rows)}
    metrics |= {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
    write_metrics(options.work / "refine.json", metrics)
