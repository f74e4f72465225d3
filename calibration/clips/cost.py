"""What the default filter costs, beside another checkout of mien, in one run.

`python -m mien.calibration.clips.cost --clip CLIP --baseline CHECKOUT --out report.json` edits the
same frames, 720 lines each, with this checkout and with the other, in turn, several times, and
compares CPU time: seconds of the processor over all threads, of each frame the least of all rounds.
`scripts/cost` does so with the merge base.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from mien.calibration.clips.edits import add_models_option
from mien.calibration.clips.measure import plain
from mien.engines.errors import EngineError, UsageError
from mien.engines.system.folders import private_folder
from mien.engines.system.process import code_command
from mien.runtime.whole_file import write_whole

ROOMS = ("runtime", "engines", "apps", "export", "training", "calibration")
FRAMES, ROUNDS = 60, 7


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of a frame in milliseconds: the least of all rounds, the mean over frames.

    ratio: of this by the baseline's. spread: half of how far the ratios of the odd rounds alone and
    of the even ones lie apart.
    """

    own_ms: float
    baseline_ms: float
    ratio: float
    spread: float
    rounds: int


def compare(own_s: Sequence[Sequence[float]], baseline_s: Sequence[Sequence[float]]) -> Cost:
    """Of the seconds of every frame, round by round, both taken in turn.

    What else the machine does only adds to a time, and seldom to the same frame in every round.
    """
    own, baseline = np.asarray(own_s), np.asarray(baseline_s)
    halves = [_ratio(own[first::2], baseline[first::2]) for first in (0, min(1, len(own) - 1))]
    return Cost(
        float(own.min(0).mean()) * 1e3,
        float(baseline.min(0).mean()) * 1e3,
        _ratio(own, baseline),
        abs(halves[1] - halves[0]) / 2,
        len(own),
    )


def _ratio(own: np.ndarray, baseline: np.ndarray) -> float:
    return float(own.min(0).sum() / max(baseline.min(0).sum(), 1e-9))


def told(cost: Cost) -> str:
    """A cost in a line, for people."""
    return (
        f"CPU time of a frame: {cost.own_ms:.2f} ms, the baseline's {cost.baseline_ms:.2f} ms; "
        f"{cost.ratio:.3f} of it (give or take {cost.spread:.3f}, {cost.rounds} rounds)"
    )


class TimedFilter:
    """The filter of one checkout in a process of its own; a context manager.

    tree: a folder that holds the package `mien` of that checkout. arguments: as of `cost_worker`.
    Raises EngineError.
    """

    def __init__(self, tree: Path, arguments: Sequence[str]) -> None:
        worker = Path(__file__).with_name("cost_worker.py")
        # Run as a script, its own folder would come before the tree on the path of modules.
        code = f"import runpy; runpy.run_path({str(worker)!r}, run_name='__main__')"
        self._process = subprocess.Popen(
            code_command(code, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )
        self.frames = int(self._line())

    def __enter__(self) -> TimedFilter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def round_s(self) -> list[float]:
        """Seconds of CPU time of each frame in one pass. Raises EngineError."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [float(seconds) for seconds in self._line().split()]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise EngineError("the timed filter ended; its message is above")
        return line


def link_tree(checkout: Path, into: Path) -> Path:
    """`into`, where `mien` is the package of `checkout`. Raises UsageError where it is none."""
    package = into / "mien"
    package.mkdir(parents=True)
    if not (checkout / "package" / "__init__.py").exists():
        raise UsageError(f"{checkout} is no checkout of mien; it has no package/__init__.py")
    for file in sorted((checkout / "package").iterdir()):
        (package / file.name).symlink_to(file.resolve())
    for room in ROOMS:
        (package / room).symlink_to((checkout / room).resolve())
    return into


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the default filter costs; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.clips.cost", description=__doc__)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, required=True, help="another checkout")
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--most", type=float, help="fail where the ratio is above")
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    options = parser.parse_args(argv)
    here = Path(__file__).resolve().parents[2]
    models = "" if options.models is None else str(options.models.resolve())
    asked = [str(options.clip.resolve()), options.emotion, str(options.frames)]
    with ExitStack() as open_now:
        folder = open_now.enter_context(private_folder())
        trees = [
            link_tree(checkout, folder / name)
            for name, checkout in (("own", here), ("baseline", options.baseline))
        ]
        own, baseline = (
            open_now.enter_context(TimedFilter(tree, [*asked, networks]))
            for tree, networks in zip(trees, (models, ""), strict=True)
        )
        own.round_s(), baseline.round_s()  # the first pass warms up
        times = [(own.round_s(), baseline.round_s()) for _ in range(options.rounds)]
    cost = compare([own_s for own_s, _ in times], [other_s for _, other_s in times])
    text = json.dumps(plain({"emotion": options.emotion, **asdict(cost)}), indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)
    sys.stdout.write(told(cost) + "\n")
    if options.most is not None and cost.ratio > options.most:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
