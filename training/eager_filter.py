"""The whole filter on PyTorch eager against ONNX Runtime: `python -m mien.training.eager_filter`.

Both filters are the runtime's own; only what runs their networks differs. They get the same frames
of the same clip in turn, with the same weights: the modules are those that were exported, with the
weights of the ONNX files put back. Each module is held against its file on opening, and the edited
frames are held against each other before anything is timed. ONNX Runtime runs as mien runs it,
PyTorch with the number of threads and the memory format that are fastest for each network.

It stands here and not in `export`, for it needs both the modules and the runtime. What is printed
is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mien.engines import Catalog, MienError, ModelError
from mien.export.benchmark.torch_engine import TorchCatalog
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.methods import method_options
from mien.runtime.profile import WARM_UP_FRAMES, WatchedCatalog, decoded_first, profile_in_turn
from mien.runtime.video import read_frames

REST_S = 0.03  # before each frame: the threads of OpenMP go on turning for some milliseconds
COMPARED = 20  # frames, until the edit has eased in
LEAST_DB = 45.0  # between the frames that the two have edited


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure: the clip, and the filter as `mien.runtime.Filter` takes it."""

    clip: Path
    emotion: str = "happy"
    method: str = "warp"
    options: tuple[tuple[str, str], ...] = ()
    models: Path | None = None
    threads: int = 2

    def open_filter(self, catalog: Catalog) -> Filter:
        """The filter on the networks of a catalog. Raises MienError."""
        return Filter(self.emotion, method=self.method, models=catalog, **dict(self.options))


def compare(asked: Asked) -> dict[str, object]:
    """What is printed: the times of both, how each network ran, how alike the frames are.

    Raises MienError, ModelError where the edited frames differ.
    """
    shipped = Catalog.bundled() if asked.models is None else Catalog.load(asked.models)
    eager = TorchCatalog(shipped.entries, threads=asked.threads)
    catalogs = [WatchedCatalog.of(shipped), WatchedCatalog.of(eager)]
    with ExitStack() as opened:
        filters = [opened.enter_context(asked.open_filter(catalog)) for catalog in catalogs]
        decibels = _worst_decibels(filters, islice(read_frames(asked.clip), COMPARED))
        if decibels < LEAST_DB:
            raise ModelError(
                f"the filter in PyTorch edits {asked.clip} otherwise than in ONNX Runtime: "
                f"{decibels:.1f} dB between their frames, expected {LEAST_DB:g}"
            )
        for face_filter in filters:
            face_filter.reset()
        profiles = profile_in_turn(
            filters, _paced(decoded_first(read_frames(asked.clip)), catalogs)
        )
        profiled = [asdict(profile) for profile in profiles]
        for found, catalog in zip(profiled, catalogs, strict=True):
            frames = max(1, int(found["frames"]))
            found["networks"] = {
                name: {"calls": engine.calls / frames, "ms": 1000 * engine.spent_s / frames}
                for name, engine in catalog.engines.items()
            }
    return {
        "onnx_runtime": profiled[0],
        "torch": profiled[1],
        "settings": {name: str(setting) for name, setting in eager.settings.items()},
        "decibels": None if math.isinf(decibels) else decibels,
    }


def _paced(frames: Iterable[Frame], catalogs: Sequence[WatchedCatalog]) -> Iterator[Frame]:
    """The frames with a rest before each; what networks do counts from the end of the warm-up."""
    for index, frame in enumerate(frames):
        if index == WARM_UP_FRAMES:
            for catalog in catalogs:
                catalog.reset()
        time.sleep(REST_S)
        yield frame


def _worst_decibels(filters: Sequence[Filter], frames: Iterable[Frame]) -> float:
    """The PSNR of the frame on which two filters differ most; infinite where all are the same."""
    worst = math.inf
    for frame in frames:
        one, other = (face_filter.apply(frame) for face_filter in filters)
        for first, second in zip(one.planes, other.planes, strict=True):
            difference = first.samples.astype(np.float32) - second.samples
            mean = float(np.square(difference).mean())
            peak = float(np.iinfo(first.samples.dtype).max)
            if mean > 0:
                worst = min(worst, 10 * math.log10(peak**2 / mean))
    return worst


def main(arguments: list[str]) -> int:
    """The exit status; the times go to standard output."""
    parser = argparse.ArgumentParser(prog="python -m mien.training.eager_filter")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--method", default="warp")
    for option in method_options().values():
        parser.add_argument(f"--{option.name}", help=option.help)
    parser.add_argument("--models", type=Path, help="a folder of models, by default the bundled")
    parser.add_argument("--threads", type=int, default=2, help="that PyTorch may have")
    try:
        given = vars(parser.parse_args(arguments))
        told = {name: given.pop(name) for name in method_options()}
        options = tuple((name, value) for name, value in told.items() if value is not None)
        found = compare(Asked(**given, options=options))
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
