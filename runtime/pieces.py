"""A clip edited in pieces: where it is cut, and the edit of one piece as if all were one.

What a filter remembers of the past is made again before each piece: first a longer stretch of which
it sees a few frames a second, for what is learnt slowly of a person (how far their eyes are usually
open, their neutral face, the inside of their mouth), then a short one frame by frame, for tracks,
smoothing and easing. Everything in a filter goes by the frames' own times, so a few of them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error

from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.session import FaceFilter, FilterRun, RunCounts
from mien.runtime.target import EMOTIONS, Target, Timeline
from mien.runtime.video.patches import MismatchError, packed_edit
from mien.runtime.video.planes import frame_from_av
from mien.runtime.video.reading.source import Picture, VideoSource
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.watermark import Watermark

# A piece is no shorter: before each of them about four seconds' worth of frames are edited twice.
LEAST_S: Final = 15.0
MOST_S: Final = 60.0  # and no longer: what is edited and not yet written waits on the disk
EACH: Final = 3  # pieces for each that edits, so that none waits long for the others at the end
DENSE_S: Final = 2.0  # before a piece, in which every frame is seen
SPARSE_STEP_S: Final = 0.25  # between frames before that; a tracker follows up to a second
# How long before that a piece begins to look: the lids are learnt in 4 s, a neutral face in 6 s.
USUAL_PAST_S, LONG_PAST_S = 12.0, 30.0
_TOLD_FRAMES: Final = 16  # of a piece, that are passed on at once
# Containers that list where their keyframes are, with times that are those of the frames.
_INDEXED: Final = frozenset({"mp4", "mov", "matroska", "webm"})
_OPENERS: Final = tuple(EMOTIONS.index(name) for name in ("surprised", "fearful"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a clip, in ticks of its video's own clock.

    start, end: the first time in it, and the first after it; None for those of the clip.
    begin_s, end_s: the same, for people. dense, sparse: from when every frame is seen before it,
    and from when a few are, None from the beginning on.
    """

    number: int
    start: int | None
    end: int | None
    begin_s: float
    end_s: float
    dense: int = 0
    sparse: int | None = None

    @property
    def name(self) -> str:
        """What of the clip it is, for people."""
        return f"{self.begin_s:.0f} s to {self.end_s:.0f} s"


@dataclass(frozen=True, slots=True)
class PieceTask:
    """What all pieces of a clip have in common.

    goal, start_s, end_s, own, zero_s: as of `FilterRun`. number: of the watermark, None without.
    """

    source: Path
    goal: Target | Timeline | None
    start_s: float | None = None
    end_s: float | None = None
    own: float = 1.0
    number: int | None = None
    zero_s: float = 0.0
    max_memory: int = MAX_MEMORY


def past_s(goal: Target | Timeline | None, own: float) -> float:
    """How much of the past a piece looks at for what is learnt slowly, in seconds.

    More of it for a person's own expression, which is taken against their neutral face, and for
    emotions that open a mouth, whose inside is drawn from one that was seen.
    """
    steps = [step.target for step in goal.steps] if isinstance(goal, Timeline) else [goal]
    opens = any(one is not None and one.vector()[list(_OPENERS)].any() for one in steps)
    return LONG_PAST_S if opens or own != 1 else USUAL_PAST_S


def plan_pieces(
    path: Path, workers: int, long_s: float = USUAL_PAST_S, *, max_memory: int = MAX_MEMORY
) -> list[Piece]:
    """The pieces of a clip for so many that edit, cut at keyframes; fewer than two where none pay.

    long_s: of `past_s`. Clips without a list of keyframes, without times, or that are too short
    are one piece. max_memory: as of `VideoSource`. Raises VideoError.
    """
    with VideoSource(path, max_memory=max_memory) as video:
        if not _INDEXED & set(video.container.format.name.split(",")):
            return []
        with suppress(av.error.FFmpegError, OSError, ValueError):
            video.container.seek(0, stream=video.stream)  # or Matroska's list is not read
        base = video.time_base
        entries = [(entry.timestamp, entry.is_keyframe) for entry in video.stream.index_entries]
    times = [time for time, _ in entries]
    if len(times) < 2:
        return []
    first = min(times)
    length_s = float((max(times) - first) * base)
    wanted_s = min(MOST_S, max(LEAST_S, length_s / (EACH * max(1, workers))))
    cuts: list[int] = []
    for time in sorted(time for time, is_key in entries if is_key):
        since = time - (cuts[-1] if cuts else first)
        if since * base >= wanted_s and length_s - float((time - first) * base) >= LEAST_S / 2:
            cuts.append(time)
    return _between(cuts, first, first + round(length_s / base), base, long_s)


def _between(cuts: list[int], first: int, last: int, base: Fraction, long_s: float) -> list[Piece]:
    """The pieces between cuts."""
    pieces = []
    dense, long = round(DENSE_S / base), round(long_s / base)
    for number, (start, end) in enumerate(zip([None, *cuts], [*cuts, None], strict=True)):
        begin_s, end_s = (
            float(((place if time is None else time) - first) * base)
            for time, place in ((start, first), (end, last))
        )
        near = 0 if start is None else start - dense
        sparse = near - long if near - long > first else None
        pieces.append(Piece(number, start, end, begin_s, end_s, near, sparse))
    return pieces


def edit_piece(
    task: PieceTask,
    piece: Piece,
    face_filter: FaceFilter,
    tell: Callable[[int, bytes], None],
) -> RunCounts:
    """Edit one piece, and return what was counted in it.

    tell: called now and then with the number of frames done, and the next bytes that
    `mien.runtime.video.patches.EditReader` reads.
    Raises MienError, MismatchError where the frames have no times.
    """
    face_filter.watermark = None
    run = FilterRun(
        face_filter,
        task.goal,
        start_s=task.start_s,
        end_s=task.end_s,
        own=task.own,
        zero_s=task.zero_s,
    )
    mark = None if task.number is None else Watermark(Payload(task.number))
    done, packed, seen = 0, bytearray(), None
    with VideoSource(task.source, max_memory=task.max_memory) as video:
        step = round(SPARSE_STEP_S / video.time_base)
        for picture in _pictures(video, piece):
            pts = picture.pts
            if pts is None:
                raise MismatchError("a frame has no time")
            if piece.end is not None and pts >= piece.end:
                break
            frame = frame_from_av(picture)
            if piece.start is not None and pts < piece.start:
                if pts >= piece.dense or seen is None or pts - seen >= step:
                    run(frame)
                    seen = pts
                continue
            if not done:
                run.counts, face_filter.watermark = RunCounts(), mark
            packed += packed_edit(frame, run(frame))
            done += 1
            if done % _TOLD_FRAMES == 0:
                tell(done, bytes(packed))
                packed.clear()
    tell(done, bytes(packed))
    return run.counts if done else RunCounts()


def _pictures(video: VideoSource, piece: Piece) -> Iterator[av.VideoFrame]:
    """The pictures from where a piece begins to look, in display order."""
    sparse = piece.sparse
    if sparse is not None:
        try:
            video.container.seek(sparse, stream=video.stream, backward=True)
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            raise MismatchError("the file cannot be searched") from error
    for item in video.items(copies=False):
        if isinstance(item, Picture):
            pts = item.picture.pts
            if sparse is None or pts is None or pts >= sparse:
                yield item.picture
