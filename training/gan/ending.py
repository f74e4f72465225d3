"""What the GAN recipes leave behind: the graph, what was measured, a sheet to look at, the card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.network import Network
from mien.engines.networks import PARTS as PARTS_BATCH
from mien.engines.networks import cyclegan_network, stargan_network
from mien.export.onnx_file import to_onnx
from mien.runtime.methods.gan.parts import KIND_OF_PART, PART_KINDS, PARTS
from mien.runtime.target import EMOTIONS
from mien.training.gan.cyclegan import CycleGanRun
from mien.training.gan.faces import (
    Mode,
    Pool,
    is_mirrored,
    label_width,
    load_pool,
    show_square,
    square_of,
)
from mien.training.gan.run import GanRun
from mien.training.gan.stargan import StarGanRun
from mien.training.recipe import data_text, write_card, write_metrics

PAPER = "Let's put a smile on your face (Upenieks and Urtans, AIxHMI 2022)"
HELD_OUT = 400  # neutral faces of people that were not trained on
SHEET = 12
LICENCE = "Apache-2.0"
# How much of a student's change the field blend shows: what is imitated is shown by less.
# More says more and looks worse; `python -m mien.calibration.smile.evaluate` measures what one
# gives.
AMOUNT = "1.25"
AMOUNTS = {"stargan_parts": "1.4"}

# pictures (n, 3, S, S), part kinds (n,) and the place of the wanted emotion in the recipe's list
Apply = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def finish_stargan(run: StarGanRun, names: tuple[str, ...], args: argparse.Namespace) -> None:
    """Export the averaged generator, with everything that says what it is."""
    mode: Mode = args.mode
    generator = run.average["generator"].float().cpu().eval()
    count = len(names)

    def apply(pictures: torch.Tensor, kinds: torch.Tensor, emotion: int) -> torch.Tensor:
        label = torch.zeros(len(pictures), label_width(mode, count))
        label[:, emotion] = 1
        if mode == "parts":
            label[torch.arange(len(kinds)), count + kinds] = 1
        return generator(pictures, label)

    network = stargan_network(
        run.name, labels=label_width(mode, count), batch=PARTS_BATCH if mode == "parts" else 1
    )
    labels = ",".join(names + (PART_KINDS if mode == "parts" else ()))
    _finish(run, generator, network, args, labels=labels, names=names, apply=apply)


def finish_cyclegan(run: CycleGanRun, names: tuple[str, ...], args: argparse.Namespace) -> None:
    """Export the averaged generator of the way there, with everything that says what it is."""
    generator = run.average["there"].float().cpu().eval()

    def apply(pictures: torch.Tensor, _kinds: torch.Tensor, emotion: int) -> torch.Tensor:
        return generator(pictures) if emotion == 1 else pictures

    network = cyclegan_network(run.name, batch=PARTS_BATCH if args.mode == "parts" else 1)
    _finish(run, generator, network, args, labels="->".join(names), names=names, apply=apply)


def _finish(
    run: GanRun,
    generator: nn.Module,
    network: Network,
    args: argparse.Namespace,
    *,
    labels: str,
    names: tuple[str, ...],
    apply: Apply,
) -> None:
    pool = load_pool(args.data, args.cache or args.out)
    squares, kinds = _held_out_squares(pool, args.mode)
    with torch.inference_mode():
        shown = {name: _in_parts(apply, squares, kinds, place) for place, name in enumerate(names)}
    _draw_sheet(args.out / f"{run.name}.png", squares, [shown[name] for name in names])
    facts = {
        "paper": PAPER,
        "source": f"mien.training {run.name.partition('_')[0]}",
        "colour": "luma",
        "labels": labels,
        "norm": "instance",
    }
    if args.teacher:
        facts["amount"] = AMOUNTS.get(run.name, AMOUNT)
    path = args.out / f"{run.name}.onnx"
    parity = to_onnx(generator, network, path, facts=facts, tolerance=1e-4)
    quality = {"parity_error": parity} | {
        f"mean_change_{name}": float((shown[name] - squares).abs().mean() / 2) for name in names
    }
    parameters = sum(p.numel() for p in generator.parameters())
    metrics: dict[str, object] = {
        "minutes": round(run.spent_s / 60, 1),
        "steps": run.step,
        "updates": run.updates,
        "parameters": parameters,
        "lessons": run.lesson_count,
        "device": args.device,
        "command": _command(run, args),
        "quality": {key: round(value, 7) for key, value in quality.items()},
    }
    write_metrics(args.out / f"{run.name}.json", metrics)
    write_gan_card(args.out, run.name)


def _held_out_squares(pool: Pool, mode: Mode) -> tuple[torch.Tensor, torch.Tensor]:
    """Neutral squares (n, 3, S, S) in [-1, 1] of people not trained on, and their kinds (n,)."""
    neutral = pool.validation & (pool.emotions == EMOTIONS.index("neutral"))
    indices = np.flatnonzero(neutral)[:HELD_OUT]
    parts = [place % len(PARTS) if mode == "parts" else 0 for place in range(len(indices))]
    squares = []
    for index, part in zip(indices, parts, strict=True):
        square = show_square(pool.pixels[index], square_of(mode, pool.landmarks[index], part))
        squares.append(square[:, ::-1] if is_mirrored(mode, part) else square)
    pictures = torch.from_numpy(np.stack(squares).astype(np.float32) / 127.5 - 1)
    kinds = torch.tensor([KIND_OF_PART[part] for part in parts])
    return pictures[:, None].repeat(1, 3, 1, 1), kinds


def _in_parts(
    apply: Apply, squares: torch.Tensor, kinds: torch.Tensor, emotion: int
) -> torch.Tensor:
    pairs = zip(squares.split(50), kinds.split(50), strict=True)
    return torch.cat([apply(some, their, emotion) for some, their in pairs])


def _draw_sheet(path: Path, squares: torch.Tensor, shown: list[torch.Tensor]) -> None:
    """Draw a row of pictures as they were, and a row for each emotion."""
    step = max(1, len(squares) // SHEET) | 1  # odd: parts mode goes through all four parts
    rows = [torch.cat(list(some[::step][:SHEET, 0]), 1) for some in (squares, *shown)]
    sheet = ((torch.cat(rows).clamp(-1, 1) + 1) * 127.5).byte().numpy()
    cv2.imwrite(str(path), cv2.resize(sheet, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST))


def _command(run: GanRun, args: argparse.Namespace) -> str:
    gan = run.name.partition("_")[0]
    settings = run.settings
    words = [f"python -m mien.training {gan} --mode {args.mode} --emotions {args.emotions}"]
    words.append(f"--minutes {settings.minutes:g} --batch {settings.batch}")
    words.append(f"--rate {settings.rate:g} --critic-steps {settings.critic_steps}")
    words.append(f"--penalty-every {settings.penalty_every}")
    words.append(f"--average {settings.average:g} --warm-share {settings.warm_share:g}")
    words.append(f"--classes-share {settings.classes_share:g}")
    if args.teacher:
        words.append(f"--teacher --imitation {settings.imitation:g}")
    sizes = ("conv_dim", "critic_dim", "class_weight", "ngf", "blocks")
    words += [f"--{s.replace('_', '-')} {getattr(args, s):g}" for s in sizes if hasattr(args, s)]
    return " ".join([*words, "--data DIR --out DIR"])


def write_gan_card(folder: Path, name: str) -> None:
    """Write the card of a trained GAN from its metrics.

    Its `evaluation`, where there is one, is what `mien evaluate smile` measured: share of held-out
    people that the shipped classifier names as asked, by emotion.
    """
    metrics = json.loads((folder / f"{name}.json").read_text())
    gan, _, mode = name.partition("_")
    taught = (
        f"First it imitated mien's own warp editor ({metrics['lessons']:,} pairs made of the "
        "training people), then it went on with the paper's objective, that imitation beside it. "
        if metrics["lessons"]
        else ""
    )
    wait = (
        "The paper trained 7.2 M weights for 5,000 epochs on graphics processors with AffectNet in "
        "colour; this is a student for a processor, trained on grey pictures. The full size waits "
        "for a GPU: the same command without the narrower sizes and with more minutes."
    )
    if gan == "cyclegan":
        wait = wait.replace("7.2 M", "3 M")
    evaluation = metrics.get("evaluation", {})
    told = "\n".join(f"- {key}: {value}" for key, value in evaluation.items())
    write_card(
        folder / f"{name}.md",
        f"mien-{name}",
        {
            "What it is": f"The {'StarGAN' if gan == 'stargan' else 'CycleGAN'} generator of "
            f"{PAPER}, mode {mode}, {metrics['parameters'] / 1e6:.2f} M weights, 64x64.",
            "Data": data_text(("faces160", "fer2013")),
            "Training": f"`{metrics['command']}`, {metrics['minutes']} minutes on "
            f"{'two processor cores' if metrics['device'] == 'cpu' else metrics['device']}: "
            f"{metrics['updates']} updates of the generator. {taught}{wait}",
            "Measured": (told or "Not evaluated yet: run `mien evaluate smile`.")
            + f"\n- parity of the graph with PyTorch: {metrics['quality']['parity_error']:.2g} "
            "(largest difference on [-1, 1])",
            "Licence": LICENCE,
        },
    )
