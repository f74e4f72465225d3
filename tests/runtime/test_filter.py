"""The whole filter: shipped networks, the bundled sample."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.engines import LANDMARKS, Catalog, UsageError
from mien.runtime import Filter, Frame, PixelLayout, Plane, parse_target
from mien.runtime.faces.alignment import crop_matrix, roi_matrix, transform_points
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.tracking import Face
from mien.runtime.luma import luma_of
from mien.runtime.video import read_frames
from tests.apps.stand_in import write_models
from tests.runtime.faces.shapes import mean_face

SAMPLE = Path(__file__).parents[2] / "apps" / "sample" / "sample.mp4"
# A filter at work in one thread, a process that forks in another.
FORKS = """
import os, sys, threading, warnings
from itertools import islice
from pathlib import Path
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads
from mien.runtime import Filter
from mien.runtime.video import read_frames

frames = list(islice(read_frames(Path(sys.argv[1])), 4))
begun, forked = threading.Event(), threading.Event()

def work():
    with Filter("happy") as change:
        while not forked.is_set():
            for frame in frames:
                change.apply(frame)
                begun.set()
        for frame in frames:  # it goes on after the last fork
            change.apply(frame)
    print("edited on")

thread = threading.Thread(target=work)
thread.start()
begun.wait()
for _ in range(30):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    threading.Event().wait(0.004)
forked.set()
thread.join()
"""


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(islice(read_frames(SAMPLE), 16))


@pytest.fixture
def happy() -> Iterator[Filter]:
    with Filter("happy") as made:
        yield made


def test_a_target_may_be_a_text_and_takes_the_intensity() -> None:
    with Filter("happy", intensity=0.5) as change:
        assert change.target == parse_target("happy", 0.5)
        change.target = "sad:0.7+angry:0.3"
        assert change.target == parse_target("sad:0.7+angry:0.3", 0.5)
        with pytest.raises(UsageError, match="did you mean 'sad'"):
            change.target = "sadd"
        assert change.target == parse_target("sad:0.7+angry:0.3", 0.5)


def test_pictures_of_opencv_are_edited_in_their_own_order(frames: list[Frame]) -> None:
    rgb = read_rgb(frames[0])
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    with Filter("happy") as change, Filter("happy", order="bgr") as change_bgr:
        edited = change(rgb, 0.0)
        assert (edited != rgb).any()
        assert np.array_equal(change_bgr(bgr, 0.0), edited[..., ::-1])
    with pytest.raises(UsageError, match="order is rgb or bgr, not 'gbr'"):
        Filter("happy", order="gbr")  # type: ignore[arg-type]


def read_rgb(frame: Frame) -> np.ndarray:
    """A picture with colour: the frame's luma, tinted."""
    luma = luma_of(frame).astype(np.float32)
    return np.stack([luma, luma * 0.8, luma * 0.6], -1).astype(np.uint8)


def empty_frame() -> Frame:
    luma = np.tile(np.linspace(20, 200, 320, dtype=np.uint8), (240, 1))
    return Frame((Plane(luma, (1, 1)),), PixelLayout("gray"), 320, 240, pts=0)


def landmarks_in(frame: Frame, near: np.ndarray) -> np.ndarray:
    """What the landmark network sees in a frame, in crop units of the face at `near`."""
    with Catalog.bundled().open(LANDMARKS) as engine:
        detector = LandmarkDetector(engine)
        found = detector(frame, roi_matrix(near))
        found = detector(frame, roi_matrix(found.points))
    return transform_points(crop_matrix(near, 1), found.points)


def test_happy_lifts_the_corners_of_the_mouth(happy: Filter, frames: list[Frame]) -> None:
    edited = happy.apply(frames[0])
    (face,) = happy.faces
    assert happy.edited == (face.track_id,)
    before = landmarks_in(frames[0], face.landmarks)
    after = landmarks_in(edited, face.landmarks)
    corners = [84, 90]
    assert (before[corners, 1] - after[corners, 1]).mean() > 0.008


@pytest.mark.parametrize("emotion", ["sad", "surprised", "angry"])
def test_each_emotion_changes_the_face_in_its_own_way(emotion: str, frames: list[Frame]) -> None:
    with Filter(emotion) as change:
        edited = change.apply(frames[0])
        (face,) = change.faces
    moved = landmarks_in(edited, face.landmarks) - landmarks_in(frames[0], face.landmarks)
    inner_brows, corners = [37, 38, 67, 68], [84, 90]
    if emotion == "sad":
        assert moved[corners, 1].mean() > 0.004
    elif emotion == "surprised":
        assert moved[inner_brows, 1].mean() < -0.004
        assert moved[102, 1] - moved[98, 1] > 0.02
    else:
        assert moved[inner_brows, 1].mean() > 0.004


def test_pixels_outside_the_face_are_the_same_bit_by_bit(
    happy: Filter, frames: list[Frame]
) -> None:
    edited = happy.apply(frames[0])
    (face,) = happy.faces
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    reach = 0.5 * (high - low)
    x0, y0 = np.floor(low - reach).astype(int)
    x1, y1 = np.ceil(high + reach).astype(int)
    for before, after in zip(frames[0].planes, edited.planes, strict=True):
        sx, sy = before.subsampling_xy
        changed = before.samples != after.samples
        assert changed.any()
        inside = np.zeros_like(changed)
        inside[max(0, y0 // sy) : y1 // sy + 1, max(0, x0 // sx) : x1 // sx + 1] = True
        assert not (changed & ~inside).any()


def test_the_frame_given_is_not_written_to(happy: Filter, frames: list[Frame]) -> None:
    kept = [plane.samples.copy() for plane in frames[0].planes]
    happy.apply(frames[0])
    for plane, before in zip(frames[0].planes, kept, strict=True):
        assert np.array_equal(plane.samples, before)


def test_a_frame_without_a_face_comes_back_itself(happy: Filter) -> None:
    frame = empty_frame()
    assert happy.apply(frame) is frame
    assert happy.faces == ()


def test_no_target_and_no_strength_leave_the_frame_alone(frames: list[Frame]) -> None:
    with Filter(None) as change:
        assert change.apply(frames[0]) is frames[0]
        change.target = parse_target("happy", 0.0)
        assert change.apply(frames[1]) is frames[1]


def test_an_expression_asked_for_later_eases_in(frames: list[Frame]) -> None:
    with Filter(None) as change:
        change.apply(frames[0])
        change.target = parse_target("surprised")
        sizes, strengths = [], []
        for frame in frames[1:14]:
            luma = change.apply(frame).planes[0].samples.astype(int)
            sizes.append(np.abs(luma - frame.planes[0].samples).sum())
            strengths += [goal.strength for goal in change.goals.values()]
    assert 0 < strengths[0] < 0.5 < strengths[-1] <= 1
    assert strengths == sorted(strengths)
    assert sizes[0] < 0.2 * sizes[-1]
    assert all(later > 0.99 * earlier for earlier, later in itertools.pairwise(sizes))


def test_rgb_pictures_are_edited_and_the_input_kept(happy: Filter, frames: list[Frame]) -> None:
    luma = frames[0].planes[0].samples
    picture = np.repeat(luma[..., None], 3, axis=2)
    kept = picture.copy()
    edited = happy(picture, 0.0)
    assert edited.shape == picture.shape
    assert edited.dtype == np.uint8
    assert np.array_equal(picture, kept)
    assert not np.array_equal(edited, kept)


WRONG_PICTURES = {
    "nothing": (None, "not NoneType"),
    "a list": ([[[1, 2, 3]]], "not list"),
    "bytes": (b"abc", "not bytes"),
    "another dtype": (np.zeros((10, 10, 3), np.float32), "float32"),
    "objects": (np.full((4, 4, 3), None), "object"),
    "grey": (np.zeros((10, 10), np.uint8), r"\(10, 10\)"),
    "with alpha": (np.zeros((10, 10, 4), np.uint8), r"\(10, 10, 4\)"),
    "a batch": (np.zeros((1, 10, 10, 3), np.uint8), r"\(1, 10, 10, 3\)"),
    "empty": (np.zeros((0, 10, 3), np.uint8), r"\(0, 10, 3\)"),
    "one sample spread": (np.broadcast_to(np.uint8(0), (90_000, 90_000, 3)), "22.6 GB"),
    "one sample in a row": (np.broadcast_to(np.uint8(0), (1 << 40, 1, 3)), "too long"),
}


@pytest.mark.parametrize("name", WRONG_PICTURES)
def test_what_is_no_picture_is_refused(happy: Filter, name: str) -> None:
    picture, said = WRONG_PICTURES[name]
    with pytest.raises(UsageError, match=said):
        happy(picture)  # type: ignore[arg-type]


def test_a_view_of_a_picture_is_edited_like_a_copy_of_it(frames: list[Frame]) -> None:
    luma = frames[0].planes[0].samples
    picture = np.dstack([luma, luma // 2, 255 - luma])
    wide = np.zeros((luma.shape[0] + 9, luma.shape[1] + 9, 3), np.uint8)
    wide[4:-5, 4:-5] = picture
    locked = picture.copy()
    locked.flags.writeable = False
    views = {
        "channels turned": picture[..., ::-1].copy()[..., ::-1],
        "rows turned": picture[::-1].copy()[::-1],
        "columns turned": picture[:, ::-1].copy()[:, ::-1],
        "a part": wide[4:-5, 4:-5],
        "by columns": np.asfortranarray(picture),
        "read only": locked,
    }
    with Filter("happy") as change:
        expected = change(picture, 0.0)
        assert not np.array_equal(expected, picture)
        for name, view in views.items():
            kept = view.copy()
            change.reset()
            assert np.array_equal(change(view, 0.0), expected), name
            assert np.array_equal(view, kept), name


NO_TIMES = (np.nan, np.inf, -np.inf, 1e300, 10**400, "1", True, [1.0], 1j)


def test_a_time_that_is_none_spoils_no_later_frame(frames: list[Frame]) -> None:
    pictures = [np.repeat(frame.planes[0].samples[..., None], 3, 2) for frame in frames[:3]]
    with Filter("happy") as change:
        expected = [change(picture, index / 30) for index, picture in enumerate(pictures)]
        change.reset()
        for index, picture in enumerate(pictures):
            for time_s in NO_TIMES:
                with pytest.raises(UsageError, match="finite number of seconds"):
                    change(picture, time_s)  # type: ignore[arg-type]
            assert np.array_equal(change(picture, index / 30), expected[index])


def test_times_may_jump_and_go_back(happy: Filter, frames: list[Frame]) -> None:
    picture = np.repeat(frames[0].planes[0].samples[..., None], 3, 2)
    times = (np.float32(1), 1e9, -1e19, 0, np.int64(5), Fraction(16, 3), 1e19, 5.0, None, 6.0)
    changes = []
    for time_s in times:
        edited = happy(picture, time_s)  # type: ignore[arg-type]
        assert happy.edited == (1,)
        changes.append(np.abs(edited.astype(int) - picture).sum())
    assert 0 < min(changes) <= max(changes) < 1.5 * min(changes)


def test_a_frame_that_is_not_what_it_says_is_refused(happy: Filter) -> None:
    frame = empty_frame()
    samples = frame.planes[0].samples
    half = Plane(samples[::2, ::2], (2, 2))
    wrong = {
        "expected a mien.runtime.Frame": samples,
        "at least one": replace(frame, planes=()),
        "no Plane": replace(frame, planes=(samples,)),  # type: ignore[arg-type]
        "not uint8 or uint16": replace(frame, planes=(Plane(samples.astype(float), (1, 1)),)),
        "expected \\(240, 321\\)": replace(frame, width=321),
        "1..1048576 pixels": replace(frame, height=0),
        "subsampling": replace(frame, planes=(Plane(samples, (3, 3)),)),
        "depth=10": replace(frame, layout=PixelLayout("gray", depth=10)),
        "kind='rgb'": replace(frame, layout=PixelLayout("rgb")),
        "1, 1. channels": replace(frame, layout=PixelLayout("yuv"), planes=(frame.planes[0], half)),
        "whole number": replace(frame, pts=np.nan),  # type: ignore[arg-type]
        "finite number of seconds": replace(frame, pts=10**400),
        "Fraction above 0": replace(frame, time_base=Fraction(0)),
        "quarter turns": replace(frame, rotation=5),
    }
    for said, given in wrong.items():
        with pytest.raises(UsageError, match=said):
            happy.apply(given)  # type: ignore[arg-type]
    assert happy.apply(frame) is frame


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": 5}, "a text such as"),
        ({"method": None}, "words"),
        ({"method": ["warp"]}, "method is a word"),
        ({"method": "parts", "gan": 5}, "gan is a word, not 5"),
        ({"provider": 5}, "provider is a word"),
        ({"face": None}, "cannot choose"),
        ({"face": 10**5000}, "many digits"),
        ({"face": "9" * 5000}, "cannot choose"),
        ({"models": 5}, "models is a folder"),
        ({"models": "a\0b"}, "models is a folder"),
    ],
)
def test_a_setting_of_another_kind_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        Filter(**settings)
    assert str(raised.value).isprintable()


def test_what_may_be_set_later_is_checked(happy: Filter) -> None:
    with pytest.raises(UsageError, match="a text such as"):
        happy.target = 1  # type: ignore[assignment]
    for spacing in (np.nan, 0, "2", None):
        with pytest.raises(UsageError, match="above 0"):
            happy.detection_spacing = spacing  # type: ignore[assignment]
    with pytest.raises(UsageError, match="effort is a SearchEffort"):
        happy.effort = "file"  # type: ignore[assignment]
    assert (happy.target, happy.detection_spacing) == (parse_target("happy"), 1.0)


def test_the_second_of_one_face_is_nobody(frames: list[Frame]) -> None:
    with Filter("happy", face=2) as change:
        assert change.apply(frames[0]) is frames[0]


def test_another_face_can_be_chosen_while_the_video_runs(frames: list[Frame]) -> None:
    with Filter("happy", face=2) as change:
        first = frames[0]
        assert change.apply(replace(first, pts=0, time_base=Fraction(1, 30))).planes
        assert not change.edited
        assert list(change.numbers.values()) == [1]
        change.face = 1
        strengths = []
        for i in range(1, 16):
            edited = change.apply(replace(first, pts=i, time_base=Fraction(1, 30)))
            difference = edited.planes[0].samples.astype(int) - first.planes[0].samples
            strengths.append(np.abs(difference).sum())
        assert change.edited == tuple(change.numbers)
        assert 0 < strengths[1] < strengths[4] < strengths[-1]  # it eases in
        with pytest.raises(UsageError, match="cannot choose"):
            change.face = "left"


def test_the_filter_says_what_runs_each_network(happy: Filter) -> None:
    assert happy.providers == dict.fromkeys(("detector", "landmarks", "warp", "occlusion"), "cpu")


def test_a_mix_lies_between_its_parts(frames: list[Frame]) -> None:
    moved = {}
    for mix in ("happy", "surprised", "happy:0.5+surprised:0.5"):
        with Filter(mix) as change:
            edited = change.apply(frames[0])
            (face,) = change.faces
        moved[mix] = landmarks_in(edited, face.landmarks)[[37, 38, 84, 90], 1].mean()
    low, high = sorted((moved["happy"], moved["surprised"]))
    assert low - 0.01 < moved["happy:0.5+surprised:0.5"] < high + 0.01


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="warp"):
        Filter("happy", method="wrap")


def test_the_same_frames_give_the_same_pictures_again(frames: list[Frame]) -> None:
    results = []
    with Filter("sad") as change:
        for _ in range(2):
            change.reset()
            results.append([change.apply(frame).planes[0].samples for frame in frames[:4]])
    for first, second in zip(*results, strict=True):
        assert np.array_equal(first, second)


def test_the_edit_moves_over_when_another_face_becomes_the_largest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sides_px = [100, 60]

    def track(_frame: Frame, _time_s: float) -> list[Face]:
        places = [(10, 40), (170, 40)]
        return [
            Face(number, mean_face() * np.float32(side_px) + np.float32(place), 0.9, 1.0)
            for number, side_px, place in zip((1, 2), sides_px, places, strict=True)
        ]

    with Filter("happy", face="largest", models=write_models(tmp_path)) as change:
        monkeypatch.setattr(change, "_tracker", track)
        edited = []
        for index in range(50):
            sides_px = [100, 60] if index < 5 else [60, 100]
            change.apply(replace(empty_frame(), pts=index, time_base=Fraction(1, 30)))
            edited.append(change.edited)
        monkeypatch.undo()
    assert edited[:5] == [(1,)] * 5
    assert set(edited[6:10]) == {(1, 2)}
    assert edited[-1] == (2,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_filter_goes_on_while_another_thread_forks() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", FORKS, str(SAMPLE)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout == "edited on\n", done.stderr
