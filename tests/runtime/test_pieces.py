"""Where clips are cut, what travels of an edit, and a piece against the whole clip."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.pieces import (
    LEAST_S,
    LONG_PAST_S,
    USUAL_PAST_S,
    Piece,
    PieceTask,
    edit_piece,
    past_s,
    plan_pieces,
)
from mien.runtime.session import FilterRun
from mien.runtime.target import parse_goal, read_timeline
from mien.runtime.video.patches import EditReader, MismatchError, packed_edit
from mien.runtime.video.planes import frame_from_av
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.watermark import Watermark

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "apps/sample/sample.mp4"
Clips = Callable[..., Path]


def _frame(kind: type, pts: int | None = 3, *, interleaved: bool = False) -> Frame:
    """A frame of noise: three planes, or luma and interleaved chroma."""
    rng = np.random.default_rng(1)
    most = np.iinfo(kind).max
    shapes = [(40, 60), (20, 30, 2)] if interleaved else [(40, 60), (20, 30), (20, 30)]
    planes = tuple(
        Plane(rng.integers(0, most, shape, kind, endpoint=True), (1, 1) if i == 0 else (2, 2))
        for i, shape in enumerate(shapes)
    )
    return Frame(planes, PixelLayout("yuv"), 60, 40, pts, Fraction(1, 25))


def _changed(frame: Frame, plane: int, rows: slice, columns: slice) -> Frame:
    samples = frame.planes[plane].samples.copy()
    samples[rows, columns] = np.iinfo(samples.dtype).max - samples[rows, columns]
    planes = list(frame.planes)
    planes[plane] = Plane(samples, planes[plane].subsampling_xy)
    return replace(frame, planes=tuple(planes))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("interleaved", [False, True])
def test_edit_travels_as_the_boxes_that_differ(kind: type, interleaved: bool) -> None:
    frame = _frame(kind, interleaved=interleaved)
    edited = _changed(frame, 0, slice(0, 7), slice(50, 60))
    edited = _changed(edited, 1, slice(19, 20), slice(3, 4))
    packed = packed_edit(frame, edited)
    assert len(packed) < 7 * 10 * 2 + 200
    reader = EditReader(io.BytesIO(packed + packed_edit(frame, frame)).read)
    got, same = reader.edited(frame), reader.edited(frame)
    assert reader.is_at_end
    for one, other in zip(got.planes, edited.planes, strict=True):
        assert np.array_equal(one.samples, other.samples)
    assert same is frame
    assert got.planes[-1].samples is frame.planes[-1].samples or interleaved


def test_edit_of_another_frame_is_refused() -> None:
    frame = _frame(np.uint8)
    packed = packed_edit(frame, _changed(frame, 0, slice(5, 9), slice(5, 9)))
    otherwise = _changed(frame, 0, slice(6, 7), slice(6, 7))
    smaller = replace(frame, planes=tuple(Plane(p.samples[:4], (1, 1)) for p in frame.planes))
    for other in (replace(frame, pts=4), otherwise, smaller, replace(frame, planes=())):
        with pytest.raises(MismatchError):
            EditReader(io.BytesIO(packed).read).edited(other)
    with pytest.raises(MismatchError, match="fewer frames"):
        EditReader(io.BytesIO(b"").read).edited(frame)
    with pytest.raises(MismatchError, match="no time"):
        packed_edit(_frame(np.uint8, None), _frame(np.uint8, None))


def _plan(clip: Clips, name: str, workers: int, seconds: int) -> list[Piece]:
    options = {"crf": "30", "preset": "ultrafast", "g": "6"}
    path = clip(name, frames=3 * seconds, rate=Fraction(3), size_wh=(32, 32), options=options)
    return plan_pieces(path, workers)


@pytest.mark.parametrize("name", ["in.mp4", "in.mov", "in.mkv"])
def test_pieces_follow_each_other_from_keyframe_to_keyframe(clip: Clips, name: str) -> None:
    pieces = _plan(clip, name, 2, 90)
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert 4 <= len(pieces) <= 6
    assert pieces[0].start is None
    assert pieces[-1].end is None
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert all(piece.end_s - piece.begin_s >= LEAST_S / 2 for piece in pieces)
    assert pieces[0].sparse is None
    assert all(piece.sparse < piece.dense < piece.start for piece in pieces[2:])


def test_clips_without_what_it_needs_are_no_pieces(clip: Clips) -> None:
    assert len(_plan(clip, "short.mp4", 8, 20)) < 2
    assert not _plan(clip, "in.ts", 2, 60)


def test_more_of_the_past_is_looked_at_where_it_is_learnt_slowly(tmp_path: Path) -> None:
    moods = tmp_path / "moods.csv"
    moods.write_text("time, emotion, intensity\n0:00, happy, 1\n0:04, fearful, 1\n")
    assert past_s(parse_goal("happy", 1.0), 1.0) == USUAL_PAST_S
    assert past_s(None, 0.5) == LONG_PAST_S
    assert past_s(parse_goal("happy:0.7+surprised:0.3", 1.0), 1.0) == LONG_PAST_S
    assert past_s(read_timeline(moods, 1.0), 1.0) == LONG_PAST_S


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample to and fro for 24 s, at 8 frames a second, with a keyframe every 2 s."""
    with av.open(str(SAMPLE)) as container:
        pictures = [f.reformat(format="yuv420p", threads=1) for f in container.decode(video=0)][::3]
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    with av.open(str(path), "w") as output:
        options = {"crf": "18", "preset": "veryfast", "g": "16"}
        stream = output.add_stream("libx264", rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = (
            pictures[0].width,
            pictures[0].height,
            "yuv420p",
        )
        there_and_back = [*pictures, *pictures[-2:0:-1]]
        for number in range(24 * 8):
            picture = there_and_back[number % len(there_and_back)]
            picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, 8), 0
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_frames_at_a_joint_are_those_of_the_whole_clip(talk: Path) -> None:
    goal, mark = parse_goal("happy", 1.0), Payload(1234)
    piece = plan_pieces(talk, 1)[1]
    assert piece.start is not None
    with av.open(str(talk)) as container:
        second = round(1 / container.streams.video[0].time_base)
    piece = replace(piece, end=piece.start + 2 * second)
    with Filter(None) as face_filter:
        packed = bytearray()
        task = PieceTask(talk, goal, number=mark.number)
        counts = edit_piece(task, piece, face_filter, lambda _, data: packed.extend(data))
        assert counts.frames == counts.frames_marked == counts.frames_with_face
        run, reader = FilterRun(face_filter, goal), EditReader(io.BytesIO(packed).read)
        face_filter.watermark = Watermark(mark)
        compared, edits = [], []
        with av.open(str(talk)) as container:
            for picture in container.decode(video=0):
                if picture.pts >= piece.end:
                    break
                frame = frame_from_av(picture)
                whole = run(frame)
                if picture.pts >= piece.start:
                    compared.append(_psnr_db(reader.edited(frame), whole))
                    edits.append(_psnr_db(frame, whole))
    assert reader.is_at_end
    assert len(compared) == counts.frames
    assert min(compared) > 50
    assert max(edits) < 45  # so that it says something


def _psnr_db(one: Frame, other: Frame) -> float:
    planes = list(zip(one.planes, other.planes, strict=True))
    errors = [np.square(a.samples.astype(float) - b.samples).sum() for a, b in planes]
    mean = sum(errors) / sum(a.samples.size for a, _ in planes)
    return 10 * float(np.log10(255**2 / max(mean, 1e-9)))
