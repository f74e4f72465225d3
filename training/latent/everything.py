"""All of the latent papers in one command: face space, prior, guides, mappers, directions, graphs.

`python -m mien.training latent-all --latent-minutes 150 --refine-minutes 40 --minutes-each 20
--data DIR --out DIR --features faceres.json`. With `--latent-minutes 0` it starts from the
checkpoint `--space`, which may be refined already. Each recipe goes on where an earlier run
stopped, and one that is done is only measured again. What follows the face space lies in a folder
named by its size and steps, so nothing that was trained on an earlier one is taken for this one's;
crops and what is measured on them are shared.

On a GPU: `--device cuda --batch-times 8 --trunk resnet18 --latent "--size 256 --channels public
--batch-times 8"`.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from mien.training.__main__ import run_recipe
from mien.training.latent.data import read_state
from mien.training.latent.generator import FER, PRESS
from mien.training.latent.scores import add_judges


@dataclass(frozen=True, slots=True)
class Job:
    """One recipe after the face space, by its name in `mien.training.__main__`.

    share: of `--minutes-each`. batch: at `--batch-times` 1. judged: whether it takes judges and
    guides.
    """

    recipe: str
    words: str
    share: float
    batch: int
    judged: bool = False


# In the order of need: the mapper learns from the guides, and each baseline as long as what it is
# compared to.
JOBS = (
    Job("classifiers", "", 1.0, 64),
    Job("text-image", "", 1.0, 96),
    Job("emm", "--condition global", 2.0, 10, judged=True),
    Job("mapper", "", 0.5, 256),
    Job("directions", "", 1.5, 10),
    Job("emm", "--condition none", 2.0, 10, judged=True),
    Job("directions", "--no-hfld", 1.5, 10),
)


def parsed(argv: list[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m mien.training latent-all")
    parser.add_argument("--latent-minutes", type=float, required=True, help="0: take --space")
    parser.add_argument("--refine-minutes", type=float, default=40.0, help="0: codes as they are")
    parser.add_argument("--minutes-each", type=float, required=True, help="for a recipe after it")
    parser.add_argument("--data", type=Path, required=True, help="folder of faces160 and fer2013")
    parser.add_argument("--media", type=Path, help="not used by the latent recipes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", type=Path, help="latent.pt; else the one in --out")
    parser.add_argument("--features", type=Path, required=True, help="faceres.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=0, help="faces to use at most, for a trial")
    parser.add_argument("--trunk", default="small")
    parser.add_argument("--batch-times", type=int, default=1, help="larger batches, for a GPU")
    parser.add_argument("--latent", default="", help="further options of the recipe latent")
    parser.add_argument("--guides", type=Path, help="guides.pt of the recipe guide, for emm")
    add_judges(parser)
    args = parser.parse_args(argv)
    if (args.judges_code is None) != (args.judges is None):
        parser.error("--judges-code and --judges belong together: give both or neither")
    _refuse_missing(parser, args)
    return args


def _refuse_missing(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse a place that is not there now, since some are first opened hours later."""
    needed = {"--data": args.data, "--features": args.features, "--guides": args.guides}
    needed |= {"--judges-code": args.judges_code, "--judges": args.judges}
    if args.latent_minutes <= 0:
        needed["--space"] = args.space or args.out / "latent.pt"
    for option, path in needed.items():
        if path is not None and not path.exists():
            parser.error(f"{option}: {path} does not exist; give a path that does")


def work_folder(out: Path, space: Path) -> Path:
    """Where the recipes after a face space work: named by its size and its steps."""
    state = read_state(space)
    refined = f"-refined{state['refined_step']}" if "refined_step" in state else ""
    return out / f"space{state['size']}-{state['step']}{refined}"


def main(argv: list[str]) -> None:
    """Train all that is not trained yet, and export it."""
    args = parsed(argv)
    space = args.space or args.out / "latent.pt"
    common = ["--data", args.data, "--features", args.features, "--device", args.device]
    common += ["--seed", args.seed]
    args.out.mkdir(parents=True, exist_ok=True)
    if args.latent_minutes > 0:
        words = ["--minutes", args.latent_minutes, "--out", args.out, *common]
        _run("latent", [*words, *args.latent.split()])
    common += ["--cache", args.out]
    if args.refine_minutes > 0 and not read_state(space).get("passes", 0):
        work = _copied(space, args.out)
        batch = (PRESS + FER) * args.batch_times
        words = ["--minutes", args.refine_minutes, "--batch", batch, "--out", work, *common]
        _run("latent-refine", words)
        space = work / "refined.pt"
    common += ["--out", _copied(space, args.out), "--most", args.most, "--trunk", args.trunk]
    judges = []
    if args.judges_code and args.judges:
        judges = ["--judges-code", args.judges_code, "--judges", args.judges]
    mappers = [*judges, *(["--guides", args.guides] if args.guides else [])]
    for job in JOBS:
        words = [
            "--minutes",
            args.minutes_each * job.share,
            "--batch",
            job.batch * args.batch_times,
        ]
        _run(job.recipe, [*words, *common, *job.words.split(), *(mappers if job.judged else [])])
    _run("latent-export", [*common, *judges])


def _copied(space: Path, out: Path) -> Path:
    """The folder of a face space, with its checkpoint: an earlier recipe may go on writing its."""
    work = work_folder(out, space)
    work.mkdir(exist_ok=True)
    shutil.copyfile(space, work / "latent.pt")
    return work


def _run(recipe: str, words: list[object]) -> None:
    print(f"{recipe}: {' '.join(map(str, words))}", flush=True)
    run_recipe(recipe, [str(word) for word in words])
