"""The bundled sample clip: a portrait that breathes, sways and is slowly re-lit.

    python -m mien.training.data.sample PORTRAIT apps/sample/sample.mp4

PORTRAIT is the picture named in apps/sample/README.md. Every frame is the one photograph, warped:
the camera drifts, the head moves a little against what lies behind it, light walks over the face.
All of it repeats after the clip's length, so the clip loops.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE_WH = (640, 480)
FPS = 30
SECONDS = 4
# Where the head lies in the portrait, in pixels of it: centre and the spread of its sway.
HEAD_CENTRE = (266.0, 228.0)
HEAD_SPREAD = 120.0
# Width of the portrait that fills the frame.
VIEW_WIDTH = 424.0


def frame_at(portrait: np.ndarray, phase: float) -> np.ndarray:
    """One frame of the sample: uint8 (480, 640, 3) BGR.

    portrait: uint8 (H, W, 3) BGR. phase: 0..1, the place in the loop.
    """
    width, height = SIZE_WH
    turn = 2 * np.pi * phase
    scale = VIEW_WIDTH / width * (1 - 0.015 * np.sin(turn))
    angle = np.deg2rad(1.4 * np.sin(turn + 0.6))
    x, y = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    source_x = scale * (np.cos(angle) * x - np.sin(angle) * y) + HEAD_CENTRE[0]
    source_y = scale * (np.sin(angle) * x + np.cos(angle) * y) + HEAD_CENTRE[1] + 8
    near = np.exp(
        -((source_x - HEAD_CENTRE[0]) ** 2 + (source_y - HEAD_CENTRE[1]) ** 2)
        / (2 * HEAD_SPREAD**2)
    )
    source_x = source_x + near * 6.0 * np.sin(turn)
    source_y = source_y + near * (2.5 * np.sin(2 * turn) + 1.5 * np.cos(turn))
    pixels = cv2.remap(
        portrait,
        source_x.astype(np.float32),
        source_y.astype(np.float32),
        cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    side = 0.14 * np.sin(turn + 2.0) * x / (width / 2)
    light = 1.0 + side + 0.06 * np.cos(turn)
    lit: np.ndarray = np.clip(pixels * light[..., None], 0, 255)
    return np.round(lit).astype(np.uint8)


def write_sample(portrait: np.ndarray, destination: Path) -> None:
    """Write the clip: H.264, yuv420p, BT.709, no sound."""
    with av.open(str(destination), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS * 512)
        stream.options = {"crf": "21", "preset": "veryslow", "bf": "2"}
        context = stream.codec_context
        context.color_range, context.colorspace = 1, 1
        context.color_primaries, context.color_trc = 1, 1
        for index in range(FPS * SECONDS):
            pixels = frame_at(portrait, index / (FPS * SECONDS))
            picture = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame = picture.reformat(
                format="yuv420p",
                dst_colorspace="ITU709",
                dst_color_range="MPEG",
                threads=1,
            )
            frame.pts, frame.time_base = index * 512, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portrait", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    portrait = cv2.imread(str(arguments.portrait))
    if portrait is None:
        raise SystemExit(f"{arguments.portrait} is not a picture")
    write_sample(portrait, arguments.destination)


if __name__ == "__main__":
    main()
