"""What goes into and comes out of editing a video, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mien.engines.errors import UsageError
from mien.engines.system.limits import MAX_MEMORY
from mien.engines.system.partial_file import PartialFile

# Gives the file to publish in the place of a whole one, or None for that itself.
Seal = Callable[[PartialFile], "PartialFile | None"]


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How the edited video is written.

    codec: an encoder (`libx265`) or a codec family (`hevc`); None keeps the family of the source
        where this machine has an encoder for it.
    quality: 0..100, one scale for every encoder: 80 looks like the source, 100 is lossless where
        the encoder can be (x264, x265, VP9, AV1, FFV1).
    speed: the encoder's own preset name; None is a fast one (`faster` for x264).
    overwrite: whether a file under the destination's name may be replaced.
    side_by_side: show the original and the edit next to each other, at twice the displayed width.
    copy_unedited: let a clip of which no frame was edited, and none was lost, become a copy of the
        source, byte for byte.
    streamed: let the file be readable from its beginning, without going back.
    max_memory: bytes that reading, editing and writing the clip may take by its stated sizes.
    seal: called with the whole file before it has its name, where a frame was edited, in a thread
        of its own; a signed copy may be published in its place.
    """

    codec: str | None = None
    quality: int = 80
    speed: str | None = None
    overwrite: bool = False
    side_by_side: bool = False
    copy_unedited: bool = False
    max_memory: int = MAX_MEMORY
    streamed: bool = False
    seal: Seal | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality} is outside 0..100")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an edit is. frames_total and eta_s are None where the file does not say.

    share_done: how much of the edit of a face under way is done, 0..1, where that takes long.
    """

    frames_done: int
    frames_total: int | None
    fps: float
    eta_s: float | None
    share_done: float = 0.0


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds each stage was at work; they run side by side, so the sum exceeds the wall time."""

    decode: float = 0.0
    filter: float = 0.0
    encode: float = 0.0


@dataclass(frozen=True, slots=True)
class VideoReport:
    """What an edit did.

    frames: frames written; edited: frames the process gave back changed.
    seconds: busy time per stage; wall_s: from start to the finished file.
    lost: what of the source could not be read, None where all of it was.
    encoder, pixel_format: what really ran.
    notes: one sentence each for all that could not stay as it was.
    is_copy: whether the file is a copy of the source.
    """

    frames: int
    edited: int
    seconds: StageSeconds
    wall_s: float
    lost: str | None
    encoder: str
    pixel_format: str
    notes: tuple[str, ...] = field(default=())
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file says about its video, before any frame is decoded.

    width, height: stored size in pixels, 0 without video. rotation: clockwise quarter turns for
    display. duration_s, frames and rate_hz are None where the file does not say.
    """

    has_video: bool
    width: int = 0
    height: int = 0
    rotation: int = 0
    duration_s: float | None = None
    frames: int | None = None
    rate_hz: float | None = None
    codec: str = ""
    pixel_format: str = ""
    audio_tracks: int = 0
    subtitle_tracks: int = 0
