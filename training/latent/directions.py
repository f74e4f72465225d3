"""Directions of attributes that leave the expression alone: T, its regressor, and its baseline.

`python -m mien.training directions --minutes N --data DIR --out DIR --features faceres.json`; with
`--no-hfld` the baseline, "Enjoy Your Editing". The regressor is trained first (a share of the
minutes, once for both). The loss of T is the paper's, with its weights: the regressor's, content,
the discriminator's and the landmarks'. The paper's landmark network is not published, nor the unit
of its output, so 0.5e6 says nothing without `HFLD_UNIT`; see there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.catalog import Catalog
from mien.engines.networks import LANDMARKS
from mien.export.benchmark.restored import restored_module
from mien.export.models.directions import AttributeRegressor, DirectionMatrix, clamped
from mien.runtime.faces.alignment import RIGID_TEMPLATE, ROI_SIZE, ROI_TEMPLATE, fit_similarity
from mien.training.latent.attributes import ATTRIBUTES, EXPRESSIVE, face_attributes, kept_measures
from mien.training.latent.data import (
    TRUNKS,
    CodedFaces,
    LatentOptions,
    latent_options,
    latent_parser,
    load_coded_faces,
    load_space,
    write_sheet,
)
from mien.training.latent.edits import generated
from mien.training.latent.face_features import FaceFeatures
from mien.training.latent.generator import CRITIC_LAYERS, SMALL, Critic, FaceSpace, critic_loss
from mien.training.latent.scores import ShippedClassifier
from mien.training.latent.text_image import GENERATED, seen_small
from mien.training.recipe import Schedule, Trainer, write_metrics
from mien.training.warp.guide import jitter

# The paper's weights of the regressor's, content, the discriminator's and the landmarks' loss.
WEIGHTS = {"attributes": 10.0, "content": 0.05, "real": 0.05, "landmarks": 0.5e6}
# What a crop's side is in the unit that makes the paper's weight fit: landmarks that move by one
# percent of the side then weigh as much as a regressor's loss of 0.5.
HFLD_UNIT = 1e-3
REGRESSOR_SHARE = 0.4  # of the minutes of the first run
CONTENT_LAYERS = (1, 3, 5)
CRITIC_RATE = 3e-4
MEASURED = 400  # held-out people whose attributes are set to 0 and to 1


@dataclass(frozen=True, slots=True)
class Attributed:
    """faces (n, 1, 64, 64) in [-1, 1], codes (n, layers, style_dim), attributes (n, k)."""

    faces: torch.Tensor
    codes: torch.Tensor
    attributes: torch.Tensor


class AttributedFaces:
    """Batches of training faces with their attributes."""

    def __init__(self, faces: CodedFaces, attributes: np.ndarray, batch: int, seed: int) -> None:
        self.faces, self.attributes, self.batch = faces, attributes, batch
        self.random = np.random.default_rng(seed)

    def __call__(self) -> Attributed:
        rows = self.random.choice(self.faces.train, self.batch)
        return Attributed(
            self.faces.pictures(rows, SMALL),
            self.faces.codes[torch.from_numpy(rows)],
            torch.from_numpy(self.attributes[rows]),
        )


class RegressorLoss:
    """Squared error of linear outputs; some pictures are the generator's."""

    def __init__(self, space: FaceSpace, device: torch.device) -> None:
        self.space, self.device = space, device

    def __call__(self, network: nn.Module, batch: Attributed) -> dict[str, torch.Tensor]:
        faces = batch.faces.to(self.device)
        made = round(len(faces) * GENERATED)
        if made:
            faces[:made] = seen_small(self.space, batch.codes[:made].to(self.device))
        # Light is an attribute: pictures are moved a little and not relit.
        turned = jitter((faces + 1) / 2, mirrored=False) * 2 - 1
        level = faces.mean((1, 2, 3), keepdim=True) - turned.mean((1, 2, 3), keepdim=True)
        found = network(turned + level)
        return {"attributes": F.mse_loss(found.float(), batch.attributes.to(self.device)) * 10}


class LandmarksOf(nn.Module):
    """The shipped landmark network on tight crops (n, 1, s, s) in [-1, 1]: (n, 212) of the crop."""

    grid: torch.Tensor
    back: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        path = Catalog.bundled().entry(LANDMARKS).path
        self.network = restored_module(path, LANDMARKS.name).requires_grad_(requires_grad=False)
        matrix = torch.from_numpy(fit_similarity(ROI_TEMPLATE, RIGID_TEMPLATE))
        axis = (torch.arange(ROI_SIZE) + 0.5) / ROI_SIZE
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2)
        self.register_buffer("grid", (points @ matrix[:, :2].T + matrix[:, 2]) * 2 - 1)
        self.register_buffer("back", matrix)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Points outside the tight crop are seen as its border goes on."""
        grid = self.grid[None].expand(len(faces), -1, -1, -1).to(faces.dtype)
        wide = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
        points = self.network((wide + 1) / 2)[0].float()
        return (points @ self.back[:, :2].T + self.back[:, 2]).flatten(1)


class DirectionsLoss:
    """The loss of T on random amounts for training codes; it trains its critic as it goes."""

    def __init__(
        self, options: LatentOptions, space: FaceSpace, regressor: nn.Module, *, hfld: bool
    ) -> None:
        self.device = torch.device(options.device)
        self.space, self.regressor = space, regressor.to(self.device)
        self.features = FaceFeatures(options.features).to(self.device)
        self.landmarks = LandmarksOf().to(self.device) if hfld else None
        self.critic = Critic().to(self.device, memory_format=torch.channels_last)
        state = torch.load(options.space, weights_only=True, map_location="cpu")
        self.critic.load_state_dict(state["critic"])
        learned = [p for p in self.critic.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(learned, CRITIC_RATE, betas=(0.0, 0.99))
        self._last: tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]] | None = None

    def __call__(self, network: nn.Module, batch: Attributed) -> dict[str, torch.Tensor]:
        self._teach()
        codes = batch.codes.to(self.device)
        with torch.no_grad():
            before = self.space.generator(codes).float()
            own = clamped(self.regressor(_small(before)).float(), 0.0)
            theirs = self._features(before)
        # The paper draws amounts evenly from [-1, 1], each of the attributes at once.
        amounts = torch.rand_like(own) * 2 - 1
        wanted = (own + amounts).clamp(0, 1)
        with torch.autocast(self.device.type, enabled=False):
            moved = network(codes, wanted - own, torch.ones(codes.shape[1], device=self.device))
        after = self.space.generator(moved).float()
        mine = self._features(after)
        found = clamped(self.regressor(_small(after)).float())
        with torch.autocast(self.device.type, enabled=False):
            terms = {"attributes": F.binary_cross_entropy(found.float(), wanted)}
        alike = [F.mse_loss(mine[k].float(), theirs[k].float()) for k in CONTENT_LAYERS]
        terms["content"] = torch.stack(alike).mean()
        pushed = self.critic({k: mine[k] for k in CRITIC_LAYERS})
        terms["real"] = -sum(score.float().mean() for score in pushed) / len(pushed)
        if self.landmarks is not None:
            with torch.no_grad():
                rest = self.landmarks(before)
            terms["landmarks"] = (self.landmarks(after) - rest).abs().mean() * HFLD_UNIT
        self._last = theirs, {k: value.detach() for k, value in mine.items()}
        return {name: WEIGHTS[name] * value for name, value in terms.items()}

    def _features(self, faces: torch.Tensor) -> dict[int, torch.Tensor]:
        seen = F.interpolate(faces, size=96, mode="bilinear", align_corners=False)
        seen = seen.contiguous(memory_format=torch.channels_last)
        layers = sorted({*CRITIC_LAYERS, *CONTENT_LAYERS})
        found: dict[int, torch.Tensor] = self.features(seen, layers)
        return found

    def _teach(self) -> None:
        """One step of the critic on the last batch's pictures; see `emm.EmmLoss._teach`."""
        if self._last is None:
            return
        theirs, mine = (self.critic(features) for features in self._last)
        loss = critic_loss(theirs, mine)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def _small(faces: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(faces, faces.shape[-1] // SMALL) if faces.shape[-1] > SMALL else faces


def trained_regressor(
    options: LatentOptions, faces: CodedFaces, attributes: np.ndarray, space: FaceSpace
) -> AttributeRegressor:
    """The regressor of `regressor.pt`, trained first where it is not yet."""
    torch.manual_seed(options.seed)
    network = AttributeRegressor(len(ATTRIBUTES), TRUNKS[options.trunk])
    own = dataclasses.replace(options.of_recipe(), minutes=options.minutes * REGRESSOR_SHARE)
    trainer: Trainer[Attributed] = Trainer(
        "regressor", network, own, Schedule(rate=1e-3, weight_decay=0.02)
    )
    batches = AttributedFaces(faces, attributes, 64, options.seed + trainer.step)
    trainer.run(batches, RegressorLoss(space, trainer.device))
    average = trainer.average.float().eval().requires_grad_(requires_grad=False)
    assert isinstance(average, AttributeRegressor)
    return average


@torch.inference_mode()
def read_attributes(regressor: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """What the regressor reads off pictures, within [0, 1]: (n, k), on the processor."""
    device = next(regressor.parameters()).device
    found = [regressor(_small(part.to(device))).float().cpu() for part in pictures.split(64)]
    return torch.cat(found).clamp(0, 1)


@torch.inference_mode()
def measure(
    matrix: DirectionMatrix, regressor: nn.Module, faces: CodedFaces, space: FaceSpace
) -> dict[str, dict[str, float]]:
    """The paper's Tables I to V on held-out people, a row for each attribute but the expression's.

    Each is set to 0 and to 1 (by the regressor's own reading): `reached` is the mean change of the
    attribute itself, the expression's attributes are mean absolute changes divided by it, and
    `emotion` is the mean over emotions of the shipped classifier's change, in percent;
    `emotion_ratio` divides it by `reached`, since who changes less disturbs less.
    """
    rows = faces.held_out[:: max(1, len(faces.held_out) // MEASURED)][:MEASURED]
    codes = faces.codes[torch.from_numpy(rows)]
    own = read_attributes(regressor, generated(space, codes))
    classifier, whole = ShippedClassifier(), torch.ones(codes.shape[1])
    table: dict[str, dict[str, float]] = {}
    for index in range(EXPRESSIVE, len(ATTRIBUTES)):
        ends = []
        for wanted in (0.0, 1.0):
            amounts = torch.zeros_like(own)
            amounts[:, index] = wanted - own[:, index]
            faces_there = generated(space, matrix(codes, amounts, whole))
            seen = classifier.probabilities(faces_there)
            ends.append((read_attributes(regressor, faces_there).numpy(), seen))
        apart = np.abs(ends[1][0] - ends[0][0]).mean(0)
        reached = float((ends[1][0] - ends[0][0])[:, index].mean())
        emotion = float(np.abs(ends[1][1] - ends[0][1]).mean() * 100)
        row = {
            "reached": reached,
            "emotion": emotion,
            "emotion_ratio": emotion / max(reached, 0.05),
        }
        for k in range(EXPRESSIVE):
            row[ATTRIBUTES[k]] = float(apart[k]) / max(reached, 0.05)
        table[ATTRIBUTES[index]] = {name: round(value, 3) for name, value in row.items()}
    columns = next(iter(table.values())).keys()
    table["mean"] = {c: round(float(np.mean([r[c] for r in table.values()])), 3) for c in columns}
    return table


@torch.no_grad()
def draw_directions(
    matrix: DirectionMatrix, regressor: nn.Module, faces: CodedFaces, space: FaceSpace
) -> list[torch.Tensor]:
    """Rows of a sheet: held-out people, then each attribute at 0 and at 1."""
    rows = faces.held_out[:: max(1, len(faces.held_out) // 12)][:12]
    codes = faces.codes[torch.from_numpy(rows)]
    device = next(matrix.parameters()).device
    before = generated(space, codes)
    own = read_attributes(regressor, before)
    sheets = [before]
    for index in range(len(ATTRIBUTES)):
        for wanted in (0.0, 1.0):
            amounts = torch.zeros_like(own)
            amounts[:, index] = wanted - own[:, index]
            whole = torch.ones(codes.shape[1], device=device)
            moved = matrix(codes.to(device), amounts.to(device), whole)
            sheets.append(generated(space, moved))
    return sheets


def main(argv: list[str]) -> None:
    """Train and measure T; `directions.pt`, or `directions_baseline.pt`, in `--out`."""
    parser = latent_parser("directions", 10)
    parser.add_argument("--no-hfld", action="store_true", help="the baseline without landmarks")
    args = parser.parse_args(argv)
    options = latent_options(args)
    space = load_space(options.space, options.device)
    faces = load_coded_faces(options, space)
    people = kept_measures(faces, options.features, options.cache, options.device)[:, 1:]
    attributes = face_attributes(faces, people)
    regressor = trained_regressor(options, faces, attributes, space)
    name = "directions_baseline" if args.no_hfld else "directions"
    layers, style_dim = faces.codes.shape[1:]
    schedule = Schedule(rate=3e-3, weight_decay=0.0, clip_norm=20.0)
    own = dataclasses.replace(options.of_recipe(), minutes=options.minutes * (1 - REGRESSOR_SHARE))
    trainer: Trainer[Attributed] = Trainer(
        name, DirectionMatrix(len(ATTRIBUTES), layers, style_dim), own, schedule
    )
    loss = DirectionsLoss(options, space, regressor, hfld=not args.no_hfld)

    def draw(matrix: nn.Module, title: str) -> None:
        assert isinstance(matrix, DirectionMatrix)
        write_sheet(options.work / f"{title}.png", draw_directions(matrix, regressor, faces, space))

    batches = AttributedFaces(faces, attributes, options.batch, options.seed + trainer.step)
    trainer.run(batches, loss, draw)
    matrix = trainer.average.cpu().float().eval()
    assert isinstance(matrix, DirectionMatrix)
    read = read_attributes(regressor, faces.pictures(faces.held_out, SMALL)).numpy()
    truth = attributes[faces.held_out]
    metrics: dict[str, object] = {"scores": measure(matrix, regressor, faces, space)}
    metrics["regressor_correlation"] = {
        attribute: round(float(np.corrcoef(read[:, k], truth[:, k])[0, 1]), 3)
        for k, attribute in enumerate(ATTRIBUTES)
    }
    metrics["minutes"] = round(trainer.spent_s / 60, 1)
    metrics["steps"] = trainer.step
    write_metrics(options.work / f"{name}.json", metrics)
