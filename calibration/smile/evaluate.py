"""How often a generator's edits are named as they were meant, on a few held-out faces.

`python -m mien.calibration.smile.evaluate --method parts --gan stargan --data DIR --onnx-models
DIR` is the quick look while a generator is being trained; `mien evaluate smile` measures whole
tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.smile.measure import Sample, as_catalog, classify_sample, find_faces
from mien.calibration.smile.pictures import held_out_pictures
from mien.calibration.smile.rows import (
    GAN_TITLES,
    METHOD_TITLES,
    TRANSFERS,
    Filters,
    SmileRow,
    classifier_of,
)
from mien.engines.errors import MienError
from mien.engines.system.folders import private_folder
from mien.runtime.methods.gan import BLENDS

QUICK_COUNT = 200
PAPERS_BLEND = "paste"


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.smile.evaluate", description=__doc__)
    parser.add_argument("--method", choices=list(METHOD_TITLES), required=True)
    parser.add_argument("--gan", choices=list(GAN_TITLES), required=True)
    parser.add_argument("--blend", choices=BLENDS, default=PAPERS_BLEND)
    parser.add_argument("--data", type=Path, required=True, help="faces160 and FER-2013")
    parser.add_argument(
        "--onnx-models", type=Path, help="a folder with a catalog, or of NETWORK.onnx files"
    )
    parser.add_argument("--classifier", type=Path, help="by default the catalog's")
    parser.add_argument("--count", type=int, default=QUICK_COUNT)
    options = parser.parse_args(argv)
    try:
        with private_folder() as folder:
            models = options.onnx_models and as_catalog(options.onnx_models, folder)
            for line in quick_lines(options, Filters(models)):
                print(line, flush=True)  # noqa: T201 - printing is what it is for
    except MienError as error:
        print(f"mien.calibration.smile.evaluate: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def quick_lines(options: argparse.Namespace, filters: Filters) -> Iterator[str]:
    """A line for each transfer, as soon as it is measured. Raises MienError."""
    rows = [SmileRow(t, options.method, options.gan, options.blend) for t in TRANSFERS]
    missing = {row: filters.why_missing(row) for row in rows}
    there = [row for row in rows if missing[row] is None]
    samples, classifier = {}, None
    if there:
        classifier = EmotionClassifier.load(options.classifier or classifier_of(filters.catalog))
        emotions = [e for row in there for e in (row.transfer.source, row.transfer.target)]
        samples = _samples(options, filters, list(dict.fromkeys(emotions)))
    for row in rows:
        told = (
            missing[row]
            if classifier is None or missing[row]
            else _told(row, filters, classifier, samples)
        )
        yield f"{row.title}: {told}"


def _samples(
    options: argparse.Namespace, filters: Filters, emotions: Sequence[str]
) -> dict[str, Sample]:
    pictures = held_out_pictures(options.data, emotions)
    with filters.finder() as finder:
        return {
            emotion: find_faces(finder, emotion, pictures[emotion], options.count, _silent)
            for emotion in emotions
        }


def _told(
    row: SmileRow, filters: Filters, classifier: EmotionClassifier, samples: Mapping[str, Sample]
) -> str:
    source, target = samples[row.transfer.source], row.transfer.target
    before = classify_sample(source, classifier, None, tell=_silent)
    real = classify_sample(samples[target], classifier, None, tell=_silent)
    with filters.open(row) as editor:
        after = classify_sample(source, classifier, None, editors=[editor], tell=_silent)
    return (
        f"{after.share(target):.3f} of {source.distinct} named {target} "
        f"(unedited {before.share(target):.3f}, real {real.share(target):.3f}; "
        f"{after.unchanged} unchanged, {after.incomplete} in part, "
        f"{after.picture_ms:.0f} ms a picture)"
    )


def _silent(_done: int, _total: int) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())
