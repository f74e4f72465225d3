"""The recipe of the diffusion paper, and of what makes it an edge model.

`python -m mien.training diffusion --minutes M --data DIR --out DIR` trains, one after the other,
the paper's VAE and classifier, a UNet on the label alone, UNets that begin as it and take a code of
the input too (`--conditions label,cnn,vae`; `latent` needs `--encoder`, the face encoder of the
latent recipe), and three students, of 4, 2 and 1 steps, for each of `--students` (the last of the
conditions where nothing is said). The data is FER-2013's training split, a label drawn from the ten
votes of FER+ each time a picture is shown.

A run that is stopped goes on where its last checkpoint was; `--part train` leaves the students out,
and `--part distil` trains them alone, from the checkpoints in `--out`. Without a checkpoint,
`--begin-with DIR` begins with the graphs of an earlier run, or with those that come with mien.
Sheets of held-out faces, a log, and at the end an ONNX file, its numbers and its card for each
network lie in `--out`; `ship` takes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.diffusion import (
    CONDITIONS,
    FER2013_LABELS,
    SEMANTIC_WIDTHS,
    STUDENT_STEPS,
    encoder_name,
    encoder_network,
    unet_name,
    unet_network,
)
from mien.engines.network import Network
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.models.diffusion_encoders import CnnEncoder
from mien.export.models.small_unet import HEADS, SmallSpec, SmallUNet
from mien.export.onnx_file import (
    EXAMPLES,
    example_of,
    rounded_to_half,
    sha256_of,
    store_small,
    to_onnx,
)
from mien.export.parity import Allowed, Example, compare
from mien.export.read_back import read_back
from mien.runtime.methods.diffusion import DEFAULT_GUIDANCE
from mien.runtime.methods.diffusion.sampler import EDIT_SIGMA
from mien.training.diffusion.codes import (
    CNN,
    Batch,
    Faces,
    Feeder,
    Vae,
    cnn_loss,
    erasing_projection,
    plain_codes,
    read_latent_encoder,
    readable,
    scaled,
    vae_loss,
    with_projection,
)
from mien.training.diffusion.sheets import MOST_BETWEEN, SHEETS, Sheets
from mien.training.diffusion.unet import Distillation, ModuleEngine, grown, student_of, teacher_loss
from mien.training.recipe import Options as RunOptions
from mien.training.recipe import Schedule, Trainer, write_card, write_metrics

PARTS = ("all", "train", "distil")
TOLERANCE = 1e-4  # between torch and ONNX Runtime
BATCH, STUDENT_BATCH = 64, 32  # a student's lesson costs more than twice a teacher's
PAPER = "Facial Expression Manipulation with Conditional Diffusion Model"
TRAINED_ON = "FER-2013's training split with the ten votes of FER+ as labels"
# How the minutes are divided: by weight, among the parts that are asked for.
SHARES = {"vae": 4.0, "cnn": 4.0, "label": 44.0, "code": 16.0}
STUDENT_SHARES = {4: 12.0, 2: 9.0, 1: 9.0}  # the first asks its teacher twice as often
SCHEDULES = {
    "encoder": Schedule(rate=1e-3, average=0.995, weight_decay=1e-4),
    "teacher": Schedule(rate=1e-3, average=0.999, weight_decay=1e-4, clip_norm=1.0),
    "code": Schedule(rate=6e-4, average=0.998, weight_decay=1e-4, clip_norm=1.0),
    "student": Schedule(rate=3e-4, average=0.997, weight_decay=0.0, clip_norm=1.0),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line gave."""

    minutes: float
    data: Path
    out: Path
    conditions: tuple[str, ...]
    students: tuple[str, ...]
    encoder: Path | None
    guidance: float
    device: str
    seed: int
    fresh: bool
    widths: tuple[int, ...]
    blocks: int
    part: str
    fewest: int
    begin_with: Path | None = None
    media: Path | None = None

    @property
    def student_steps(self) -> tuple[int, ...]:
        """The steps of the students to distil, each from the one before."""
        return tuple(steps for steps in STUDENT_STEPS if steps >= self.fewest)

    def run(self, minutes: float) -> RunOptions:
        """As the shared trainer takes them."""
        return RunOptions(
            minutes, self.data, self.out, self.out, Path(), None, self.device, self.seed, self.fresh
        )


def parse_options(argv: list[str]) -> Options:
    """The options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m mien.training diffusion", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="for all parts together")
    parser.add_argument("--data", type=Path, required=True, help="folder of fer2013 and ferplus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--media", type=Path, help="not used by this recipe")
    parser.add_argument(
        "--conditions", type=_names, default=("label", "cnn", "vae"), help="of label,cnn,vae,latent"
    )
    parser.add_argument(
        "--students", type=_names, default=None, help="by default the last of the conditions"
    )
    parser.add_argument(
        "--part", choices=PARTS, default="all", help="which part the minutes are for"
    )
    parser.add_argument(
        "--fewest",
        type=int,
        choices=STUDENT_STEPS,
        default=STUDENT_STEPS[-1],
        help="steps of the last student; those of more steps come before it",
    )
    parser.add_argument("--begin-with", type=Path, help="a folder of graphs, such as mien's own")
    parser.add_argument("--encoder", type=Path, help="a face encoder's checkpoint, for latent")
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE, help="for students")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="ignore earlier checkpoints")
    parser.add_argument(
        "--widths", type=_widths, default=SmallSpec().widths, help="channels at each level"
    )
    parser.add_argument("--blocks", type=int, default=SmallSpec().blocks, help="at each level")
    given = vars(parser.parse_args(argv))
    if given["students"] is None:
        given["students"] = given["conditions"][-1:]
    options = Options(**given)
    if "latent" in options.conditions and options.encoder is None:
        parser.error("the condition latent needs --encoder, a checkpoint of the latent recipe")
    if not set(options.students) <= set(options.conditions) or "label" not in options.conditions:
        parser.error("--conditions has label (all others begin as it) and all of --students")
    missing = _missing_teachers(options) if options.part == "distil" else []
    if missing:
        parser.error(f"--part distil: {options.out} lacks {', '.join(missing)}; train them first")
    if options.encoder is not None and not options.encoder.exists():  # it is opened hours later
        parser.error(f"--encoder: {options.encoder} does not exist; give a path that does")
    return options


def _missing_teachers(options: Options) -> list[str]:
    """The checkpoints that students are distilled from and that are missing."""
    graphs = {n: encoder_name(n) for n in ("vae", "cnn") if n in options.conditions}
    if begun_unet(options) is None:  # which the one on the label begins as
        graphs["diffusion_label"] = "diffusion_label"
    graphs |= {unet_name(c): unet_name(c) for c in options.conditions if c in options.students}
    return [
        f"{name}.pt"
        for name, graph in graphs.items()
        if not (options.out / f"{name}.pt").exists() and begun_with(options, graph) is None
    ]


def begun_with(options: Options, name: str) -> Path | None:
    """The graph of that name to begin with; None where there is none."""
    path = None if options.begin_with is None else options.begin_with / f"{name}.onnx"
    return path if path is not None and path.is_file() else None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(CONDITIONS)}")
    return tuple(name for name in CONDITIONS if name in names)


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(number) for number in text.split(","))
    if len(widths) < 2 or any(width < 1 or width % HEADS for width in widths):
        raise argparse.ArgumentTypeError(f"expected two or more multiples of {HEADS}, not {text!r}")
    return widths


def begun_unet(options: Options) -> Path | None:
    """The graph that the UNet on the label begins with: its own, or that of any condition."""
    found = (begun_with(options, unet_name(condition)) for condition in CONDITIONS)
    return next((path for path in found if path is not None), None)


def minutes_of(options: Options) -> dict[str, float]:
    """How long each part may take, by its name; what is not to be trained has no name here."""
    weights: dict[str, float] = {}
    if options.part != "distil":
        weights = {
            name: SHARES[name]
            for name in ("vae", "cnn")
            if name in options.conditions and begun_with(options, encoder_name(name)) is None
        }
        for condition in options.conditions:
            begins = condition == "label" and begun_unet(options) is None
            weights[unet_name(condition)] = SHARES["label" if begins else "code"]
    if options.part != "train":
        for condition in options.students:
            for steps in options.student_steps:
                weights[unet_name(condition, steps)] = STUDENT_SHARES[steps]
    whole = sum(weights.values())
    return {name: options.minutes * weight / whole for name, weight in weights.items()}


class Recipe:
    """One run of all parts."""

    def __init__(self, options: Options) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.minutes = minutes_of(options)
        self.device = torch.device(options.device)
        self.faces = Faces.load(options.data, "train")
        self.held_out = Faces.load(options.data, "public", clear=True)
        classes = self.held_out.classes.numpy()
        picked = [np.flatnonzero(classes == k) for k in range(len(FER2013_LABELS))]
        of_each = [rows[len(rows) // 2] for rows in picked if len(rows)]
        self.shown = np.array([*of_each, *picked[-1][:1]])  # and one more neutral face

    def run(self) -> None:
        """Train and write all that is asked for."""
        teachers: dict[str, SmallUNet] = {}
        encoders: dict[str, nn.Module] = {}
        codes: dict[str, torch.Tensor | None] = {"label": None}
        for condition in self.options.conditions:
            if condition != "label":
                encoders[condition], codes[condition] = self.coded(condition)
            semantic = 0 if condition == "label" else codes[condition].shape[2]
            begun = teachers.get("label")
            network, kind = self.beginning(condition, begun, semantic)
            teachers[condition] = self.train(
                condition, network, teacher_loss, encoders, codes, schedule=SCHEDULES[kind]
            )
        for condition in self.options.students if self.options.part != "train" else ():
            teacher = teachers[condition]
            for steps in self.options.student_steps:
                start = EDIT_SIGMA if condition != "label" else 80.0
                loss = Distillation(teacher, start, self.options.guidance)
                student = student_of(teacher, steps, start, self.options.guidance)
                name = unet_name(condition, steps)
                graph = begun_with(self.options, name)
                if graph is not None and not (self.options.out / f"{name}.pt").exists():
                    student = self.read(student, graph)
                teacher = self.train(
                    condition, student, loss, encoders, codes, schedule=SCHEDULES["student"]
                )

    def beginning(
        self, condition: str, label: SmallUNet | None, semantic: int
    ) -> tuple[SmallUNet, str]:
        """The UNet of a condition before its training, and the schedule that suits it.

        label: the one on the label alone, None where that is what begins.
        """
        spec = SmallSpec(widths=self.options.widths, blocks=self.options.blocks)
        name = unet_name(condition)
        if (self.options.out / f"{name}.pt").exists():  # it goes on from there
            is_first = condition == "label" and not self._begun(name).exists()
            return SmallUNet(replace(spec, semantic=semantic)), "teacher" if is_first else "code"
        graph = begun_with(self.options, name)
        if graph is not None:
            return self.read(SmallUNet(replace(spec, semantic=semantic)), graph), "code"
        if label is not None:
            return grown(label, semantic), "code"
        graph = begun_unet(self.options)
        if graph is None:
            return SmallUNet(spec), "teacher"
        other = graph.stem.removeprefix("diffusion_")
        taught = self.read(
            SmallUNet(replace(spec, semantic=SEMANTIC_WIDTHS[other])), graph, unet_name("label")
        )
        return grown(taught, 0), "code"

    def read(self, network: SmallUNet, graph: Path, name: str | None = None) -> SmallUNet:
        """That UNet with the weights of a graph, which its card then names.

        name: of the UNet, where it is not the graph's.
        """
        spec = network.spec
        batch = 1 if spec.steps else 2
        declared = unet_network(
            graph.stem, "sigma", labels=spec.labels, semantic=spec.semantic, batch=batch
        )
        begun = f"{graph.name}, SHA-256 `{sha256_of(graph)}`"
        self._begun(name or graph.stem).write_text(begun)
        print(f"{name or graph.stem} begins as {begun}", flush=True)
        return read_back(network, declared, graph)

    def _begun(self, name: str) -> Path:
        """A note of the graph that a network began as; there is none of one that began as none."""
        return self.options.out / f"{name}.begun"

    def coded(self, condition: str) -> tuple[nn.Module, torch.Tensor]:
        """The encoder of a condition without the emotion, and the codes of the training faces."""
        encoder: nn.Module
        facts: dict[str, object] = {"minutes": 0.0, "steps": 0}
        is_new = True
        graph = begun_with(self.options, encoder_name(condition))
        if graph is not None and not (self.options.out / f"{condition}.pt").exists():
            encoder = GraphEncoder(graph, condition)
            return encoder, plain_codes(encoder, self.faces.pictures, torch.device("cpu"))
        if condition == "latent":
            assert self.options.encoder is not None
            encoder = read_latent_encoder(self.options.encoder)
        else:
            network = Vae() if condition == "vae" else CnnEncoder(CNN)
            trainer = self._trainer(condition, network, SCHEDULES["encoder"])
            before = trainer.step
            feeder = Feeder(self.faces, None, BATCH, self.options.seed + before)
            trainer.run(feeder, vae_loss if condition == "vae" else cnn_loss)
            is_new = trainer.step != before
            encoder = trainer.average.mean if condition == "vae" else trainer.average
            facts = {"minutes": round(trainer.spent_s / 60, 1), "steps": trainer.step}
        plain = plain_codes(encoder, self.faces.pictures, self.device)
        votes = self.faces.votes.numpy()
        matrix, offset = erasing_projection(plain[:, 0].numpy(), votes)
        before = plain_codes(encoder, self.held_out.pictures, self.device)[:, 0].numpy()
        held_out = self.held_out.votes.numpy()
        quality = {
            "emotion_read_from_the_plain_code": readable(
                plain[:, 0].numpy(), votes, (before, held_out)
            )
        }
        codes = plain @ torch.from_numpy(matrix).T + torch.from_numpy(offset)
        after = before @ matrix.T + offset
        quality["emotion_read_from_the_code"] = readable(
            codes[:, 0].numpy(), votes, (after, held_out)
        )
        made = with_projection(encoder.cpu(), matrix, offset)
        if is_new or not self._is_written(encoder_name(condition)):
            self.write_encoder(condition, made, {**facts, "quality": quality})
        return made, codes

    def _is_written(self, name: str) -> bool:
        return all((self.options.out / f"{name}.{end}").exists() for end in ("onnx", "json", "md"))

    def train(
        self,
        condition: str,
        network: SmallUNet,
        loss: Callable[[nn.Module, Batch], dict[str, torch.Tensor]],
        encoders: Mapping[str, nn.Module],
        codes: Mapping[str, torch.Tensor | None],
        *,
        schedule: Schedule,
    ) -> SmallUNet:
        """A UNet after its share of the minutes, written as well: its averaged weights."""
        name = unet_name(condition, network.spec.steps)
        trainer = self._trainer(name, network, schedule)
        before = trainer.step
        torch.manual_seed(self.options.seed + before)
        batch = STUDENT_BATCH if network.spec.steps else BATCH
        feeder = Feeder(self.faces, codes[condition], batch, self.options.seed + trainer.step)
        pictures = scaled(self.held_out.pictures[self.shown])
        guidance = self.options.guidance
        sheets = Sheets(pictures, condition, trainer, encoders.get(condition), guidance)
        between = min(MOST_BETWEEN, self.minutes.get(name, 0.0) / (SHEETS + 1))
        trainer.run(feeder, sheets.around(loss, between))
        average = trainer.average
        assert isinstance(average, SmallUNet)
        if trainer.step != before or (trainer.step and not self._is_written(name)):
            self.write_unet(condition, average.cpu(), trainer, sheets.draw())
        return average

    def _trainer(self, name: str, network: nn.Module, schedule: Schedule) -> Trainer[Batch]:
        # Autocast to bfloat16 makes these convolutions twice as fast, also on a processor.
        return Trainer(name, network, self.options.run(self.minutes.get(name, 0.0)), schedule)

    def write_encoder(self, condition: str, encoder: nn.Module, metrics: dict[str, object]) -> None:
        """Export an encoder, with its numbers and its card."""
        name = encoder_name(condition)
        path = self.options.out / f"{name}.onnx"
        assert isinstance(encoder.projection, nn.Linear)
        network = encoder_network(name, code=encoder.projection.out_features)
        facts = {"paper": PAPER, "trained_on": TRAINED_ON, "projected": "true"}
        torch.save(encoder.state_dict(), path.with_suffix(".pt"))
        metrics["parity_error"] = _write_half(encoder, network, path, facts)
        self._finish(path, "The encoder of the condition " + condition, encoder, metrics)

    def write_unet(
        self, condition: str, module: SmallUNet, trainer: Trainer[Batch], named: float
    ) -> None:
        """Export a UNet, with its numbers and its card."""
        steps = module.spec.steps
        name = unet_name(condition, steps)
        path = self.options.out / f"{name}.onnx"
        batch = 1 if steps else 2
        network = unet_network(
            name, "sigma", labels=len(FER2013_LABELS), semantic=module.spec.semantic, batch=batch
        )
        facts = {"paper": PAPER, "trained_on": TRAINED_ON}
        facts |= ModuleEngine(module, condition).words
        metrics: dict[str, object] = {
            "minutes": round(trainer.spent_s / 60, 1),
            "steps": trainer.step,
            "pictures": trainer.step * (STUDENT_BATCH if steps else BATCH),
            "quality": {"sheet_named_as_asked_by_the_shipped_classifier": round(named, 4)},
        }
        if self._begun(name).exists():
            metrics["begun_as"] = self._begun(name).read_text()
        metrics["parity_error"] = _write_half(module, network, path, facts)
        title = f"The diffusion UNet of the condition {condition}"
        self._finish(path, title + (f" in {steps} steps" if steps else ""), module, metrics)

    def _finish(
        self, path: Path, title: str, module: nn.Module, metrics: dict[str, object]
    ) -> None:
        metrics["parameters"] = sum(p.numel() for p in module.parameters())
        metrics["sha256"] = sha256_of(path)
        write_metrics(path.with_suffix(".json"), metrics)
        quality = metrics["quality"]
        assert isinstance(quality, dict)
        begun = f", after {metrics['begun_as']}" if "begun_as" in metrics else ""
        numbers = "\n".join(f"- {k.replace('_', ' ')}: {v:.3f}" for k, v in quality.items())
        write_card(
            path.with_suffix(".md"),
            title,
            {
                "What it is": f"A network of {metrics['parameters']:,} parameters after the paper "
                f'"{PAPER}": 48x48 luma in [-1, 1], the labels {", ".join(FER2013_LABELS)}.',
                "Data": f"{TRAINED_ON}; rare emotions are drawn more often, half of the pictures "
                "are mirrored.",
                "Training": f"`python -m mien.training diffusion`: {metrics['minutes']} minutes, "
                f"{metrics['steps']} steps on {self.options.device}{begun}, bfloat16 autocast, "
                "averaged weights, kept in half precision. torch and ONNX Runtime differ by at "
                f"most {metrics['parity_error']:.1e}.",
                "Quality": numbers,
                "Limits": "Faces as FER-2013 crops them, upright and of 48 pixels. Fear and "
                "disgust are scarce in the data. It makes what a face would look like, which says "
                "nothing of what somebody feels.",
                "Licence": f"Apache-2.0. SHA-256 of the file: `{metrics['sha256']}`.",
            },
        )


class GraphEncoder(nn.Module):
    """An encoder that is there as a graph: pictures (n, 1, 48, 48) in [-1, 1] to codes (n, d)."""

    def __init__(self, path: Path, condition: str) -> None:
        super().__init__()
        network = encoder_network(path.stem, code=SEMANTIC_WIDTHS[condition])
        self._engine = OnnxRuntimeEngine(path, network)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.code(pictures)

    def code(self, pictures: torch.Tensor) -> torch.Tensor:
        """As the other encoders have it."""
        codes = [
            self._engine.infer({"image": picture[None]})["code"] for picture in pictures.numpy()
        ]
        return torch.from_numpy(np.concatenate(codes))


def _write_half(module: nn.Module, network: Network, path: Path, facts: Mapping[str, str]) -> float:
    """How far the file is from the module, whose weights are rounded to half precision and kept so.

    The file is half as large and computes in single precision.
    """
    rounded = rounded_to_half(module)
    to_onnx(rounded, network, path, facts=facts, tolerance=TOLERANCE)
    store_small(path)
    examples = [Example(f"random input {n}", example_of(network, n)) for n in range(EXAMPLES)]
    return compare(rounded, network, path, examples, Allowed(TOLERANCE)).difference


def main(argv: list[str]) -> None:
    """Train; see the module."""
    options = parse_options(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    for name, minutes in minutes_of(options).items():
        print(f"{name}: {minutes:.1f} minutes", flush=True)
    Recipe(options).run()
