"""FaceMesh behind a pipe, run by the Python of an environment that has mediapipe.

`PYTHON facemesh_worker.py` reads pictures from its standard input, each as two little-endian
uint32, height and width, then height * width * 3 bytes RGB; it answers each on its standard output
with one byte, 1 where it found a face, and then 478 * 3 float32: x, y in pixels of the picture, z
in the same unit. It imports nothing of mien.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

import numpy as np


def read_picture(stream: BinaryIO) -> np.ndarray | None:
    """The next picture, uint8 (height, width, 3); None at the end of the stream."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    height, width = struct.unpack("<II", header)
    data = stream.read(height * width * 3)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def main() -> None:
    """Answer pictures until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what mediapipe prints, while it is imported too, must not get between them
    import mediapipe  # type: ignore[import-not-found]  # noqa: PLC0415

    # Every picture on its own: a tracker's memory would calm the very jitter that is measured.
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=True
    ) as mesh:
        while (picture := read_picture(sys.stdin.buffer)) is not None:
            found = mesh.process(picture).multi_face_landmarks
            answers.write(bytes([1 if found else 0]))
            if found:
                height, width = picture.shape[:2]
                points = [(p.x * width, p.y * height, p.z * width) for p in found[0].landmark]
                answers.write(np.array(points, "<f4").tobytes())
            answers.flush()


if __name__ == "__main__":
    main()
