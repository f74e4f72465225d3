"""What `mien bench` holds against each other: providers and folders of models, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mien.apps.inputs import SAMPLE
from mien.engines import Catalog, EngineError
from mien.runtime.bench_scenes import SIZES_WH, scene_frames
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.profile import WARM_UP_FRAMES, FilterProfile, profile_in_turn

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

    def catalog(self) -> Catalog:
        """Its models. Raises ModelError."""
        return Catalog.bundled() if self.models is None else Catalog.load(self.models)


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
