"""What `mien edit` and `mien camera --record` mark by themselves, and what they leave alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mien.apps.edit.plan import EditJob
from mien.apps.main import run
from mien.apps.marks import marking
from mien.apps.marks.credential import local_file, make_local
from mien.apps.marks.marking import FileMarks, Marking, applied_live
from mien.apps.marks.provenance import read_manifest
from mien.engines.errors import VideoError
from mien.engines.system.partial_file import PartialFile
from mien.runtime.blending.blending import FaceEdit, crop_units_matrix
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import crop_matrix, ffhq_matrix
from mien.runtime.faces.tracking import Face
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.values import Applied as AppliedLive
from mien.runtime.target import Target, parse_target
from mien.runtime.video.planes import frame_from_av
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.watermark import EditedFace, Watermark
from tests.apps.fakes import Makers, write_clip, write_picture_file
from tests.apps.live_fakes import LiveFake
from tests.runtime.faces.shapes import mean_face

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "apps/sample/sample.mp4"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, and a user without a certificate."""
    for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def signing(here: Path) -> Path:
    """The same, of a user who has one."""
    pytest.importorskip("c2pa")
    make_local(local_file())
    return here


def _edit(*arguments: str) -> int:
    return run(["edit", *arguments, "--emotion", "happy:0.7+sad:0.3"], Makers())


def _packets(path: Path) -> list[tuple[int, int | None, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [
            (packet.stream_index, packet.pts, packet.dts, bytes(packet))
            for packet in container.demux()
            if packet.size
        ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_edited_video_is_signed_and_its_packets_are_as_without(signing: Path, suffix: str) -> None:
    source = write_clip(signing / f"in{suffix}")
    assert _edit(source.name, "-o", f"signed{suffix}", "--intensity", "0.5") == 0
    assert _edit(source.name, "-o", f"plain{suffix}", "--intensity", "0.5", "--no-marks") == 0
    signed, plain = signing / f"signed{suffix}", signing / f"plain{suffix}"
    found = read_manifest(signed)
    assert found is not None
    assert (found.state, found.problems) == ("valid", ())
    assert found.actions == ("c2pa.opened", "c2pa.edited")
    assert found.applied["expression"] == "happy:0.7+sad:0.3"
    assert (found.applied["intensity"], found.applied["method"]) == (0.5, "warp")
    assert "watermark" not in found.applied  # the filter of this test paints none
    assert read_manifest(plain) is None
    assert _packets(signed) == _packets(plain)
    assert sorted(path.name for path in signing.iterdir()) == sorted(
        [source.name, signed.name, plain.name]
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_edited_picture_is_signed_with_the_pixels_that_it_has_without(
    signing: Path, suffix: str
) -> None:
    write_picture_file(signing / f"in{suffix}")
    assert _edit(f"in{suffix}", "-o", f"signed{suffix}") == 0
    assert _edit(f"in{suffix}", "-o", f"plain{suffix}", "--no-marks") == 0
    found = read_manifest(signing / f"signed{suffix}")
    assert found is not None
    assert found.state == "valid"
    assert read_manifest(signing / f"plain{suffix}") is None
    pixels = [cv2.imread(str(signing / f"{name}{suffix}")) for name in ("signed", "plain")]
    assert np.array_equal(*pixels)


def test_every_file_of_a_folder_is_signed_or_one_line_says_why_not(
    signing: Path, capsys: Captured
) -> None:
    (signing / "trip").mkdir()
    for name in ("a.mp4", "b.mkv"):
        write_clip(signing / "trip" / name, 6)
    write_picture_file(signing / "trip" / "c.png")
    write_picture_file(signing / "trip" / "d.png", face=False)
    assert _edit("trip", "--json") == 0
    told = {
        Path(one["source"]).name: one
        for one in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert {name: one["signed"] for name, one in told.items()} == {
        "a.mp4": True, "b.mkv": False, "c.png": True, "d.png": False,
    }  # fmt: skip
    (note,) = told["b.mkv"]["notes"]
    assert note.startswith("mkv has no place for Content Credentials, so the file is not signed")
    assert told["a.mp4"]["notes"] == told["c.png"]["notes"] == []
    assert not any("Content Credentials" in note for note in told["d.png"]["notes"])


def test_nothing_is_said_to_who_has_no_certificate(here: Path, capsys: Captured) -> None:
    write_clip(here / "in.mkv")
    assert _edit("in.mkv", "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    told = json.loads(said.out)
    assert (told["notes"], told["signed"], told["watermark"]) == ([], False, None)


def test_preview_is_signed(signing: Path) -> None:
    write_clip(signing / "in.mp4")
    assert _edit("in.mp4", "--at", "0.5", "-o", "still.png") == 0
    found = read_manifest(signing / "still.png")
    assert found is not None
    assert found.state == "valid"


def test_certificate_that_cannot_sign_is_told_before_anything_is_written(
    signing: Path, capsys: Captured
) -> None:
    write_clip(signing / "in.mp4")
    local_file().write_bytes(b"rubbish")
    assert _edit("in.mp4") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no certificate" in line
    assert line.endswith("--no-marks")
    assert [path.name for path in signing.iterdir()] == ["in.mp4"]
    assert _edit("in.mp4", "--no-marks") == 0


def test_file_that_cannot_be_signed_is_kept_and_the_reason_is_told(
    signing: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fails(*_: object) -> None:
        raise VideoError("the disk is full")

    write_clip(signing / "in.mp4")
    monkeypatch.setattr(marking, "sign_into", fails)
    assert _edit("in.mp4", "-o", "out.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["not signed: the disk is full"]
    assert sorted(path.name for path in signing.iterdir()) == ["in.mp4", "out.mp4"]


def test_certificate_without_the_package_names_the_line_that_adds_it(
    signing: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write_picture_file(signing / "in.png")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert _edit("in.png", "--json") == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("not signed: Content Credentials need c2pa-python: pip install")


def test_signing_that_is_broken_off_leaves_no_copy(
    signing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(marking, "sign_into", broken_off)
    marks = FileMarks(Marking.ready(is_on=True), Payload.drawn(), overwrite=False)
    with PartialFile(signing / "out.png") as part, pytest.raises(KeyboardInterrupt):
        marks.sign(part, None, applied_live([], None))
    assert not list(signing.iterdir())


def test_number_of_an_edit_follows_from_its_source_and_settings(here: Path) -> None:
    job = EditJob((here,), parse_target("happy"))
    clip, copy, other = (here / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    content = bytes(range(256)) * 40_000  # more than the parts that are looked at
    clip.write_bytes(content)
    copy.write_bytes(content)
    other.write_bytes(content[:-1] + b"x")

    def number(job: EditJob, source: Path) -> int:
        marks = Marking().of_file(job.edit_of(source), overwrite=False)
        assert marks.watermark is not None
        return marks.watermark.payload.number

    first = number(job, clip)
    assert number(job, copy) == number(replace(job, jobs=4, overwrite=True), clip) == first
    others = [replace(job, own=0.5), replace(job, goal=parse_target("sad"))]
    others += [replace(job, end_s=2.0), replace(job, quality=50), replace(job, settings="face 2")]
    told = {first, number(job, other), *(number(each, clip) for each in others)}
    assert len(told) == 2 + len(others)
    drawn = {FileMarks.number(Marking().of_recording(overwrite=False), 1) for _ in range(8)}
    assert len(drawn) == 8


def test_recording_is_signed_with_all_that_was_applied(signing: Path) -> None:
    clip, record = write_clip(signing / "clip.mp4"), signing / "talk.mp4"
    asked = ["--emotion", "happy", "--no-virtual", "--no-panel", "--seconds", "1.2"]
    asked += ["--record", str(record), "--record-dry", str(signing / "dry.mp4")]
    assert run(["camera", "--source", str(clip), *asked], LiveFake) == 0
    found = read_manifest(record)
    assert found is not None
    assert found.state == "valid"
    assert found.actions == ("c2pa.created", "c2pa.edited")
    assert found.applied["expression"] == "happy"
    assert found.applied["watermark"] is not None
    assert read_manifest(signing / "dry.mp4") is None


def test_recording_of_a_kind_without_a_place_says_so_at_its_beginning(
    signing: Path, capsys: Captured
) -> None:
    clip, record = write_clip(signing / "clip.mp4"), signing / "talk.mkv"
    asked = ["--emotion", "happy", "--no-virtual", "--no-panel", "--seconds", "0.6"]
    assert run(["camera", "--source", str(clip), "--record", str(record), *asked], LiveFake) == 0
    said = capsys.readouterr().err
    assert said.count("mkv has no place for Content Credentials") == 1
    assert record.exists()


def test_what_changed_while_it_was_recorded_is_told_in_turn() -> None:
    ways = [
        AppliedLive("warp", (), parse_target("happy", 0.5)),
        AppliedLive("gan", (), parse_target("sad", 1.0), own=0.5),
        AppliedLive("warp", (), parse_target("happy", 0.7)),
    ]
    applied = applied_live(ways, "0abcdef")
    assert applied.expression == "happy, then sad"
    assert (applied.method, applied.intensity, applied.own) == ("warp, then gan", 1.0, 0.5)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first frames of the sample."""
    with av.open(str(SAMPLE)) as container:
        shown = zip(range(8), container.decode(video=0), strict=False)
        return [frame_from_av(picture, copy=True) for _, picture in shown]


class Recorder(Filter):
    """Keeps the last edit of a face."""

    last: EditedFace

    def _edit_face(
        self, frame: Frame, face: Face, target: Target | None, *, is_chosen: bool
    ) -> tuple[int, FaceEdit] | None:
        made = super()._edit_face(frame, face, target, is_chosen=is_chosen)
        if made is not None:
            self.last = EditedFace(face.landmarks, made[1])
        return made


def _edited(
    frames: list[Frame], watermark: Watermark | None
) -> tuple[list[Frame], list[bool], EditedFace]:
    """The frames edited, whether each is marked, and what was done to the last."""
    with Recorder("happy") as change:
        change.watermark = watermark
        edited, marked = [], []
        for frame in frames:
            edited.append(change.apply(frame))
            marked.append(change.is_marked)
        return edited, marked, change.last


def test_filter_marks_edited_pixels_alone_and_only_where_it_is_asked(frames: list[Frame]) -> None:
    came_luma = frames[-1].planes[0].samples.copy()
    plain, unmarked, _ = _edited(frames, None)
    with_mark, marked, face = _edited(frames, Watermark(Payload(5)))
    assert not any(unmarked)
    assert marked[-1]
    assert marked == [new is not old for new, old in zip(with_mark, frames, strict=True)]
    last, without = with_mark[-1], plain[-1]
    change = np.abs(last.planes[0].samples.astype(int) - without.planes[0].samples)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = crop_matrix(face.landmarks, 64)
    region = cv2.warpAffine(face.region(), matrix, change.shape[::-1], flags=flags)
    assert change.any()
    assert change.max() <= 12
    assert not change[region == 0].any()
    for new, old in zip(last.planes[1:], without.planes[1:], strict=True):
        assert np.array_equal(new.samples, old.samples)
    assert np.array_equal(came_luma, frames[-1].planes[0].samples)


def test_filter_at_rest_gives_the_frame_itself_back(frames: list[Frame]) -> None:
    with Filter(None) as change:
        change.watermark = Watermark(Payload(5))
        assert all(change.apply(frame) is frame for frame in frames[:2])
        assert not change.is_marked


SIDE = 240


def _face(matrix: Callable[[np.ndarray, int], np.ndarray], edit: Edit) -> EditedFace:
    landmarks = (mean_face() * 160 + 40).astype(np.float32)
    units = crop_units_matrix(matrix(landmarks, 64), 64)
    return EditedFace(landmarks, FaceEdit(units, edit))


def test_mark_of_an_edit_on_another_crop_lies_where_the_edit_does() -> None:
    flow = np.zeros((2, 64, 64), np.float32)
    flow[0, 20:40, 16:48] = 0.01
    edit = Edit(flow=flow)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for matrix in (crop_matrix, ffhq_matrix):
        face = _face(matrix, edit)
        own = matrix(face.landmarks, 64)
        canonical = crop_matrix(face.landmarks, 64)
        wide = (flow[0] > 0).astype(np.float32)
        changed = cv2.warpAffine(wide, own, (SIDE, SIDE), flags=flags)
        shown = cv2.warpAffine(face.region(), canonical, (SIDE, SIDE), flags=flags)
        assert shown.sum() > 0.6 * changed.sum()
        assert not shown[changed == 0].any()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_planes_of_red_green_and_blue_are_marked_alike(order: tuple[int, int, int]) -> None:
    grey = np.full((SIDE, SIDE), 120, np.uint8)
    layout = PixelLayout("rgb", full_range=True, rgb_order=order)
    came = Frame(tuple(Plane(grey, (1, 1)) for _ in range(3)), layout, SIDE, SIDE)
    face = _face(crop_matrix, Edit(gain=np.full((1, 8, 8), 0.1, np.float32)))
    edited = Frame(
        tuple(Plane(grey + np.uint8(10 * index), (1, 1)) for index in range(3)), layout, SIDE, SIDE
    )
    before = [plane.samples.astype(int) for plane in edited.planes]
    marked = Watermark(Payload(5))(came, edited, [face], time_s=0.3)
    changes = [plane.samples - old for plane, old in zip(marked.planes, before, strict=True)]
    assert changes[0].any()
    assert np.array_equal(changes[0], changes[1])
    assert np.array_equal(changes[0], changes[2])
    assert (came.planes[0].samples == 120).all()
