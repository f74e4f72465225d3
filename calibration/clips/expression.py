"""Whether edits show, stay calm and leave the rest alone, measured by FaceMesh.

`python -m mien.calibration.clips.expression --clips DIR [CLIP...] --facemesh-python P --out
report.json` edits every clip to every emotion and compares FaceMesh's points of input and output,
frame by frame, pose taken out (see `mien.calibration.clips.series`): what moves, how lips and eyes
follow the source's (`series`), how calm the face stays, and whether the skin is stained
(`shading`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from mien.calibration.clips.edits import (
    add_method_option,
    add_models_option,
    all_clips,
    default_editors,
)
from mien.calibration.clips.measure import measure_clip, report
from mien.calibration.judges.facemesh import FaceMesh
from mien.calibration.tables.sheet import write_sheet
from mien.calibration.tables.thresholds import MEASURED
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole


def main(argv: Sequence[str] | None = None) -> None:
    """Measure whether edits show and stay calm; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.clips.expression", description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="folders, or clips")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="a picture: a row a clip, a column an emotion")
    parser.add_argument("--emotions", default=",".join(MEASURED))
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    add_models_option(parser)
    add_method_option(parser)
    options = parser.parse_args(argv)
    editors = default_editors(options.emotions.split(","), options.models, options.method)
    clips = {}
    with FaceMesh(options.facemesh_python) as reference:
        for path in all_clips(options.clips):
            frames = itertools.islice(read_frames(path), options.frames)
            clips[path.stem] = measure_clip(frames, reference, editors)
    text = json.dumps(report(clips), indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)
    if options.sheet:
        write_sheet(options.sheet, [clip.row for clip in clips.values() if clip.row is not None])


if __name__ == "__main__":
    main()
