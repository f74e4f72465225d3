"""A filter without networks, files for it, and the `mien` command around it.

`python -m tests.apps.fakes edit ...` is `mien edit ...` with this filter.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from mien.apps.main import run
from mien.apps.signals import status_of
from mien.engines import ModelError
from mien.engines.errors import UsageError
from mien.runtime.faces.tracking import LIVE
from mien.runtime.frame import Frame, Plane
from mien.runtime.spec import FilterSpec
from mien.runtime.target import Target

ROOT = Path(__file__).parents[2]
FACE, EDITED = slice(0, 16), slice(16, 32)


@dataclass(frozen=True)
class FakeTimes:
    """Made up times."""

    last_ms: Mapping[str, float] = field(default_factory=lambda: {"track": 0.5, "edit": 1.5})


class FakeFilter:
    """Takes a bright left top corner for a face and inverts the square beside it.

    It does the same for an expression and for scaling the own one; the method `face` cannot scale.
    """

    def __init__(self, settings: FilterSpec) -> None:
        if settings.models is not None and not settings.models.is_dir():
            raise ModelError(f"cannot read {settings.models}")
        self.settings = settings
        self.target: Target | None = None
        self.own = 1.0
        self.targets: list[Target | None] = []
        self.owns: list[float] = []
        self.timings = FakeTimes()
        self.faces: tuple[object, ...] = ()
        self.unedited_parts: tuple[str, ...] = ()
        self.unfollowed = 0
        self.share_done = 0.0
        self.is_face_missing = False
        self.watermark: object = None
        self.is_marked = False
        self.effort = LIVE
        self.closed = False
        self.delay_s = float(os.environ.get("FAKE_DELAY_S", "0"))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "own" and value != 1 and self.settings.method == "face":
            raise UsageError("this method cannot scale it")
        super().__setattr__(name, value)

    def apply(self, frame: Frame) -> Frame:
        time.sleep(self.delay_s)
        if os.environ.get("FAKE_DIES_AT_WIDTH") == str(frame.width):
            os.kill(os.getpid(), signal.SIGKILL)
        once = os.environ.get("FAKE_DIES_ONCE")  # the file says that it has
        if once and not Path(once).exists():
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "FAKE_ENDLESS" in os.environ:  # it says where it is, and does not come back to Python
            Path(os.environ["FAKE_ENDLESS"]).touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        self.targets.append(self.target)
        self.owns.append(self.own)
        first = frame.planes[0]
        found = first.samples[FACE, FACE].size and first.samples[FACE, FACE].mean() > 180
        self.faces = ("a face",) if found else ()
        is_asked = self.target is not None and self.target.strength > 0
        if not found or not (is_asked or self.own != 1):
            return frame
        samples = first.samples.copy()
        samples[FACE, EDITED] = np.iinfo(samples.dtype).max - samples[FACE, EDITED]
        planes = (Plane(samples, first.subsampling_xy), *frame.planes[1:])
        return replace(frame, planes=planes)

    def reset(self) -> None:
        self.faces = ()

    def close(self) -> None:
        self.closed = True


class Makers:
    """Makes fake filters and remembers them."""

    def __init__(self) -> None:
        self.made: list[FakeFilter] = []

    def __call__(self, settings: FilterSpec) -> FakeFilter:
        self.made.append(FakeFilter(settings))
        return self.made[-1]


def scene(index: int = 0, *, face: bool = True, size_wh: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A dull picture, uint8 (H, W, 3) BGR, with a bright corner where a face is."""
    width, height = size_wh
    ramp = np.linspace(40, 120, width)[None, :] + np.zeros((height, 1)) + index % 8
    pixels = np.dstack([ramp, ramp * 0.8, ramp * 0.6])
    if face:
        pixels[FACE, FACE] = 240
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_clip(
    path: Path, frames: int = 12, *, face: bool = True, size_wh: tuple[int, int] = (64, 48)
) -> Path:
    """A clip at 10 frames a second; MPEG-4, which takes any size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 10)
        stream.options = {"qscale": "3"}
        for index in range(frames):
            pixels = scene(index, face=face, size_wh=size_wh)
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(
                format="yuv420p", threads=1
            )
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_picture_file(path: Path, *, face: bool = True) -> Path:
    """A picture of `scene`, in the format of its suffix."""
    path.write_bytes(cv2.imencode(path.suffix, scene(face=face))[1].tobytes())
    return path


def edited_brightness(path: Path) -> list[float]:
    """The mean luma of the edited square in each frame of a clip."""
    with av.open(str(path)) as container:
        return [
            float(frame.to_ndarray(format="gray8", threads=1)[FACE, EDITED].mean())
            for frame in container.decode(video=0)
        ]


if __name__ == "__main__":
    sys.exit(status_of(lambda: run(sys.argv[1:], FakeFilter)))
