"""Whether edits show, stay calm and leave the rest alone, judged by FaceMesh.

`python -m mien.calibration.expression --clips DIR --facemesh-python P --out report.json` edits
every clip of a folder to every emotion and compares FaceMesh's points of input and output, frame
by frame, pose taken out (see `mien.calibration.mesh`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from mien.calibration.clip_measure import measure_clip
from mien.calibration.clip_report import report
from mien.calibration.clips import clips_of
from mien.calibration.default_filter import default_editors
from mien.calibration.facemesh import FaceMesh
from mien.calibration.floors import EDITED
from mien.calibration.sheet import write_sheet
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole


def main(argv: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.expression", description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of clips, or one")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="a picture: a row a clip, a column an emotion")
    parser.add_argument("--emotions", default=",".join(EDITED))
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    options = parser.parse_args(argv)
    editors = default_editors(options.emotions.split(","))
    clips = {}
    with FaceMesh(options.facemesh_python) as judge:
        for path in clips_of(options.clips):
            frames = itertools.islice(read_frames(path), options.frames)
            clips[path.stem] = measure_clip(frames, judge, editors)
    text = json.dumps(report(clips), indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)
    if options.sheet:
        write_sheet(options.sheet, [clip.row for clip in clips.values() if clip.row is not None])


if __name__ == "__main__":
    main()
