"""What `mien bench` compares in one run: providers and folders of models, on clips and scenes.

The clip, where none is given, and the scenes are made of the sample: at any frame size, and with
more faces than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import numpy as np

from mien.apps.edit.inputs import SAMPLE
from mien.engines import EngineError
from mien.engines.errors import UsageError
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, Plane
from mien.runtime.profile import WARM_UP_FRAMES, FilterProfile, profile_in_turn
from mien.runtime.video import read_frames

SIZE_WH = (1280, 720)
# The sample loops, and is too short to be timed once.
LOOPS = 3


def write_bench_clip(sample: Path, destination: Path) -> None:
    """Write `sample` at 1280x720, black at its sides, several times over (H.264)."""
    with av.open(str(destination), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, 30)
        index = 0
        for _ in range(LOOPS):
            with av.open(str(sample)) as source:
                for picture in source.decode(video=0):
                    planes = picture.reformat(format="yuv420p", threads=1).to_ndarray()
                    frame = av.VideoFrame.from_ndarray(_scaled(planes), format="yuv420p")
                    frame.pts, frame.time_base = index, Fraction(1, 30)
                    container.mux(stream.encode(frame))
                    index += 1
        container.mux(stream.encode(None))


def _scaled(planes: np.ndarray) -> np.ndarray:
    """Packed 4:2:0 planes, uint8 (H * 3 / 2, W), at 1280x720 in the middle of black."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    scaled = [_fitted(planes[:height], SIZE_WH, 16)]
    half_wh = (SIZE_WH[0] // 2, SIZE_WH[1] // 2)
    scaled += [_fitted(plane, half_wh, 128) for plane in chroma]
    return np.concatenate([plane.reshape(-1, SIZE_WH[0]) for plane in scaled])


def _fitted(plane: np.ndarray, size_wh: tuple[int, int], black: int) -> np.ndarray:
    width = plane.shape[1] * size_wh[1] // plane.shape[0]
    resized = cv2.resize(plane, (width, size_wh[1]), interpolation=cv2.INTER_CUBIC)
    left = (size_wh[0] - width) // 2
    right = size_wh[0] - width - left
    padded: np.ndarray = cv2.copyMakeBorder(
        resized, 0, 0, left, right, cv2.BORDER_CONSTANT, value=black
    )
    return padded


COLUMNS, ROWS = 4, 2  # eight faces, which is as many as are followed
MOST_FACES = COLUMNS * ROWS
SIZES_WH = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
}
BLACK, NEUTRAL = 16, 128
RATE = 30


def scene_frames(
    sample: Path, size_wh: tuple[int, int], count: int, faces: int | None = None
) -> Iterator[Frame]:
    """`count` frames of a size made of `sample`, a clip of one face in 4:2:0 with 8 bits.

    faces: None is one as high as the frame. A number of them has the same size each, whatever the
    number, so that only the number changes.

    Raises UsageError, VideoError.
    """
    if faces is not None and not 1 <= faces <= MOST_FACES:
        raise UsageError(f"a scene has 1 to {MOST_FACES} faces, not {faces}")
    boxes = _boxes(size_wh, faces)
    pictures = list(read_frames(sample))
    to_and_fro = [*pictures, *pictures[-2:0:-1]]  # without a cut of its own
    for index, picture in enumerate(islice(cycle(to_and_fro), count)):
        yield replace(
            picture,
            planes=tuple(_scene_plane(plane, size_wh, boxes) for plane in picture.planes),
            width=size_wh[0],
            height=size_wh[1],
            pts=index,
            time_base=Fraction(1, RATE),
        )


def _boxes(size_wh: tuple[int, int], faces: int | None) -> list[tuple[int, int, int, int]]:
    """Where the sample lies: x, y, width, height in pixels, all even."""
    if faces is None:
        return [(0, 0, *size_wh)]
    width, height = size_wh[0] // COLUMNS // 2 * 2, size_wh[1] // ROWS // 2 * 2
    cells = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    return [(column * width, row * height, width, height) for row, column in cells[:faces]]


def _scene_plane(
    plane: Plane, size_wh: tuple[int, int], boxes: list[tuple[int, int, int, int]]
) -> Plane:
    """The plane of a scene: the sample's in the middle of each box, without its borders."""
    across, down = plane.subsampling_xy
    black = BLACK if (across, down) == (1, 1) else NEUTRAL
    scene = np.full((-(-size_wh[1] // down), -(-size_wh[0] // across)), black, np.uint8)
    for x, y, width, height in boxes:
        shown = _fitted_scene(plane.samples, width // across, height // down)
        left = x // across + (width // across - shown.shape[1]) // 2
        top = y // down
        scene[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return Plane(scene, plane.subsampling_xy)


def _fitted_scene(samples: np.ndarray, width: int, height: int) -> np.ndarray:
    """The samples as high as that, cut at both sides where they are too wide."""
    across = round(samples.shape[1] * height / samples.shape[0])
    scaled = cv2.resize(samples, (across, height), interpolation=cv2.INTER_AREA)
    left = max(0, (across - width) // 2)
    fitted: np.ndarray = scaled[:, left : left + width]
    return fitted


SCENE_FRAMES = 60
FACE_COUNTS = (1, 2, 4, 8)
FACES_SIZE = "720p"


@dataclass(frozen=True, slots=True)
class Variant:
    """A provider with the models it runs; None are the bundled ones."""

    provider: str = "cpu"
    models: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Variant:
        """The variant of `PROVIDER[:DEVICE][:DIR]`; a folder of digits is written `./1`."""
        parts = text.split(":", 2)
        if len(parts) > 1 and parts[1].isdigit():
            provider, folder = ":".join(parts[:2]), ":".join(parts[2:])
        else:
            provider, folder = parts[0], ":".join(parts[1:])
        return cls(provider, Path(folder) if folder else None)

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.provider if self.models is None else f"{self.provider}:{self.models}"


FilterOpener = Callable[[Variant], Filter]


@dataclass(frozen=True, slots=True)
class VariantRow:
    """The whole filter in one variant, over the same frames as the others.

    warm_start_s: from opening the filter to its first edited frame, in a process where another
    was open before. first_frame_s, peak_mb: of `mien edit`, in a process of its own.
    """

    variant: str
    profile: FilterProfile
    warm_start_s: float | None
    first_frame_s: float | None
    peak_mb: float | None


@dataclass(frozen=True, slots=True)
class SceneRow:
    """The whole filter on one scene. kind: `faces` or `size`, which of them is scaled."""

    kind: str
    size: str
    faces: int
    variant: str
    median_ms: float
    p95_ms: float
    fps: float


def profile_variants(
    variants: Sequence[Variant], open_filter: FilterOpener, frames: Iterable[Frame]
) -> list[FilterProfile]:
    """The whole filter in every variant, frame by frame in turn. Raises MienError."""
    with ExitStack() as opened:
        filters = [opened.enter_context(open_filter(variant)) for variant in variants]
        return profile_in_turn(filters, frames)


def warm_start_s(variant: Variant, open_filter: FilterOpener, frame: Frame) -> float | None:
    """Seconds from opening a filter to its first edited frame; None where it edits none."""
    started = time.perf_counter()
    with open_filter(variant) as opened:
        for _ in range(WARM_UP_FRAMES):
            if opened.apply(frame) is not frame:
                return time.perf_counter() - started
    return None


def measure_scenes(
    variants: Sequence[Variant], open_filter: FilterOpener, count: int = SCENE_FRAMES
) -> list[SceneRow]:
    """The filter with 1 to 8 faces at 720p, and with one face from 480p to 2160p."""
    scenes: list[tuple[str, str, int | None]] = [
        ("faces", FACES_SIZE, faces) for faces in FACE_COUNTS
    ]
    scenes += [("size", size, None) for size in SIZES_WH]
    rows = []
    for kind, size, faces in scenes:
        frames = scene_frames(SAMPLE, SIZES_WH[size], WARM_UP_FRAMES + count, faces)
        profiles = profile_variants(variants, open_filter, frames)
        for variant, found in zip(variants, profiles, strict=True):
            if found.faces != (faces or 1):
                raise EngineError(
                    f"the models of {variant.name} found {found.faces} faces in a scene of "
                    f"{faces or 1}; leave out --scaling"
                )
            whole = found.whole
            rows.append(
                SceneRow(
                    kind, size, found.faces, variant.name, whole.median_ms, whole.p95_ms, found.fps
                )
            )
    return rows
