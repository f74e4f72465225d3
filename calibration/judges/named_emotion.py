"""Whether a classifier that knows only FER-2013 names the emotion of an edit.

`python -m mien.calibration.judges.named_emotion --data DIR [--clips DIR [CLIP...]] [--judge FILE]
--out report.json` edits neutral pictures of held-out people of faces160, and every tenth frame of
clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mien.calibration.clips.edits import (
    add_method_option,
    add_models_option,
    all_clips,
    default_editors,
)
from mien.calibration.judges.classifier import EmotionClassifier, name_emotions, still
from mien.calibration.judges.held_out import neutral_faces
from mien.calibration.tables.thresholds import EDITED
from mien.runtime.frame import Frame
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole

CLIP_STEP = 10


def pictures(data: Path, count: int) -> Iterator[list[Frame]]:
    """Held-out neutral faces, a sequence each."""
    for face in neutral_faces(data, count):
        yield [still(face.luma)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure how often edits are named as asked; see the module."""
    parser = argparse.ArgumentParser(
        prog="mien.calibration.judges.named_emotion", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of faces160")
    parser.add_argument("--judge", type=Path, help="another classifier (ONNX) than the bundled one")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="folders, or clips")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    add_method_option(parser)
    options = parser.parse_args(argv)
    classifier = (
        EmotionClassifier.load(options.judge) if options.judge else EmotionClassifier.bundled()
    )
    editors = default_editors(EDITED, options.models, options.method)
    sequences = pictures(options.data, options.count)
    told = {"held_out": name_emotions(sequences, classifier, editors).report()}
    if options.clips:
        clips = (read_frames(path) for path in all_clips(options.clips))
        told["clips"] = name_emotions(clips, classifier, editors, step=CLIP_STEP).report()
    text = json.dumps(told, indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)


if __name__ == "__main__":
    main()
