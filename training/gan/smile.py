"""All of the parts paper in one command: the six recipes, happiness to sadness, all emotions.

`python -m mien.training smile --minutes N --data DIR --out DIR` trains every network at the paper's
size, N minutes each, one after the other, and goes on where an earlier run stopped. `--student`
trains the narrow ones for a processor instead. Recipes that are done are passed over.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from mien.training.__main__ import run_recipe
from mien.training.gan.faces import MODES

# What each learns first from the warp editor, and for how long, is measured: without it ten minutes
# on two cores gave nothing that anyone but the critic took for a smile.
STUDENT = {
    "stargan": "--conv-dim 16 --critic-dim 24 --class-weight 0.4 --batch 12 --classes-share 0.08 "
    "--warm-share 0.62",
    "cyclegan": "--ngf 16 --blocks 5 --critic-dim 16 --batch 8 --warm-share 0.65",
}
STUDENT_PACE = (
    "--critic-steps 1 --rate 3e-4 --penalty-every 4 --average 0.995 --teacher --imitation 10"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One training. folder: below `--out`. options: beyond mode, minutes and places."""

    recipe: str
    mode: str
    folder: str
    options: str


def jobs(*, student: bool) -> tuple[Job, ...]:
    """What there is to train, the most useful first.

    One StarGAN of three emotions serves both of the paper's tables; CycleGAN takes one direction.
    """
    goals = [
        ("stargan", "neutral,happy,sad", "three"),
        ("cyclegan", "neutral,happy", "smile"),
        ("stargan", "all", "seven"),
        ("cyclegan", "happy,sad", "sadness"),
    ]
    narrow = {gan: f" {sizes} {STUDENT_PACE}" for gan, sizes in STUDENT.items()}
    return tuple(
        Job(gan, mode, folder, f"--emotions {emotions}{narrow[gan] if student else ''}")
        for gan, emotions, folder in goals[: 2 if student else None]
        for mode in reversed(MODES)
    )


def main(argv: list[str]) -> None:
    """Train all that is not trained yet."""
    parser = argparse.ArgumentParser(prog="python -m mien.training smile")
    parser.add_argument("--minutes", type=float, required=True, help="for each network")
    parser.add_argument("--data", type=Path, required=True, help="folder of faces160 and fer2013")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--media", type=Path, help="not used by this recipe")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--student", action="store_true", help="narrow networks for a processor")
    args = parser.parse_args(argv)
    for job in jobs(student=args.student):
        out = args.out / job.folder
        if (out / f"{job.recipe}_{job.mode}.json").exists():
            continue
        print(f"{job.recipe} {job.mode} {job.options}", flush=True)
        places = ["--data", args.data, "--out", out, "--cache", args.out, "--device", args.device]
        words = ["--mode", job.mode, "--minutes", args.minutes, *job.options.split(), *places]
        run_recipe(job.recipe, [str(word) for word in words])
