from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import pytest

from mien.apps.main import run
from mien.engines.system.partial_file import PartialFile
from mien.runtime.frame import Frame
from mien.runtime.session import STILL_PASSES
from tests.apps.fakes import (
    EDITED,
    FACE,
    FakeFilter,
    Makers,
    edited_brightness,
    scene,
    write_clip,
    write_picture_file,
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_video_is_edited_beside_itself_and_summed_up_in_one_line(
    here: Path, capsys: Captured
) -> None:
    write_clip(here / "in.mp4")
    makers = Makers()
    assert run(["edit", "in.mp4", "--emotion", "happy"], makers) == 0
    assert names(here) == ["in.mp4", "in_happy.mp4"]
    assert min(edited_brightness(here / "in_happy.mp4")) > 140
    assert max(edited_brightness(here / "in.mp4")) < 130
    assert makers.made[0].closed
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    for part in ("in_happy.mp4", "12 frames", "1 face", "decode", "track", "edit", "encode"):
        assert part in said.out


def test_the_options_reach_the_filter(here: Path) -> None:
    write_clip(here / "in.mp4")
    (here / "mine").mkdir()
    makers = Makers()
    arguments = ["edit", "in.mp4", "-o", "out.mp4", "--emotion", "happy:0.7+sad:0.3"]
    arguments += ["--intensity", "0.5", "--face", "2", "--provider", "cuda", "--models", "mine"]
    assert run(arguments, makers) == 0
    made = makers.made[0]
    assert (made.settings.face, made.settings.provider) == (2, "cuda")
    assert made.settings.models == Path("mine")
    assert {target.strength for target in made.targets if target} == {0.5}
    assert (here / "out.mp4").exists()


def test_only_the_section_is_edited_and_the_whole_clip_is_kept(here: Path) -> None:
    write_clip(here / "in.mp4")
    arguments = ["edit", "in.mp4", "--emotion", "sad", "--from", "0.3", "--to", "0:00.6"]
    assert run(arguments, Makers()) == 0
    bright = [value > 135 for value in edited_brightness(here / "in_sad.mp4")]
    # the fake filter does not ease: it rests where a real one begins to fade
    assert bright == [False] * 3 + [True] * 2 + [False] * 7


def test_a_timeline_steps_from_one_expression_to_the_next(here: Path) -> None:
    write_clip(here / "in.mp4")
    (here / "steps.csv").write_text("time,emotion,intensity\n0.2,happy,0.5\n0.5,sad,1\n0.8,none\n")
    makers = Makers()
    assert run(["edit", "in.mp4", "--timeline", "steps.csv"], makers) == 0
    asked = [(t.name, t.strength) if t else None for t in makers.made[0].targets]
    assert asked == [None] * 2 + [("happy", 0.5)] * 3 + [("sad", 1.0)] * 3 + [None] * 4
    assert (here / "in_timeline.mp4").exists()


def test_none_leaves_faces_as_they_are_and_does_all_the_rest(here: Path, capsys: Captured) -> None:
    write_clip(here / "in.mp4")
    write_picture_file(here / "in.png")
    makers = Makers()
    for name in ("in.mp4", "in.png"):
        assert run(["edit", name, "--emotion", "none", "--compare"], makers) == 0
        assert run(["edit", name, "--emotion", "None", "-o", f"out{name[2:]}"], makers) == 0
    assert names(here) == [
        "in.mp4", "in.png", "in_none_compare.mp4", "in_none_compare.png", "out.mp4", "out.png",
    ]  # fmt: skip
    assert all(target is None for made in makers.made for target in made.targets)
    assert max(edited_brightness(here / "out.mp4")) < 130
    assert cv2.imread("in_none_compare.png").shape[1] == 2 * cv2.imread("in.png").shape[1]
    assert "unchanged" not in capsys.readouterr().out
    # it was asked for, so the clip is encoded as any other is
    assert Path("out.mp4").read_bytes() != Path("in.mp4").read_bytes()


def test_the_own_expression_is_scaled_alone_in_every_kind_of_result(here: Path) -> None:
    write_clip(here / "in.mp4")
    write_picture_file(here / "in.png")
    makers = Makers()
    for arguments in (
        ["in.mp4", "--soften", "0.5"],
        ["in.mp4", "--amplify", "1.3", "--compare"],
        ["in.mp4", "--soften", "0.5", "--at", "0.5"],
        ["in.png", "--soften", "0.25", "--emotion", "none", "--intensity", "0.5"],
        ["in.png", "--soften", "1"],  # as it is
    ):
        assert run(["edit", *arguments], makers) == 0
    assert names(here) == [
        "in.mp4", "in.png", "in_amplify1.3_compare.mp4", "in_none.png",
        "in_soften0.25.png", "in_soften0.5.mp4", "in_soften0.5_0-00.5.png",
    ]  # fmt: skip
    assert [set(made.owns) for made in makers.made] == [{0.5}, {1.3}, {0.5}, {0.25}, {1.0}]
    assert all(target is None for made in makers.made for target in made.targets)
    assert min(edited_brightness(here / "in_soften0.5.mp4")) > 140
    for name in ("in_soften0.25.png", "in_soften0.5_0-00.5.png"):
        assert cv2.imread(name)[FACE, EDITED].mean() > 140
    assert Path("in_none.png").read_bytes() == Path("in.png").read_bytes()
    # what was made is not edited again with the folder
    assert run(["edit", ".", "--soften", "0.3", "-o", "results"], Makers()) == 0
    assert names(here / "results") == ["in_soften0.3.mp4", "in_soften0.3.png"]


def test_the_own_expression_is_scaled_under_another_one_and_in_a_section_only(here: Path) -> None:
    write_clip(here / "in.mp4")
    (here / "steps.csv").write_text("0,none\n0.5,sad\n")
    makers, scale = Makers(), ["--soften", "0.3"]
    section = ["--from", "0.3", "--to", "0.6"]
    assert run(["edit", "in.mp4", "--emotion", "happy", *scale, *section], makers) == 0
    assert run(["edit", "in.mp4", "--timeline", "steps.csv", *scale], makers) == 0
    assert names(here) == [
        "in.mp4", "in_happy_soften0.3.mp4", "in_timeline_soften0.3.mp4", "steps.csv",
    ]  # fmt: skip
    happy, timeline = makers.made
    # from a little before it, where it rests, and to where it begins to fade
    assert happy.owns == [1.0] * 2 + [0.3] * 2 + [1.0]
    assert [target is not None for target in happy.targets] == [own != 1 for own in happy.owns]
    assert timeline.owns == [0.3] * 12
    bright = [value > 135 for value in edited_brightness(here / "in_timeline_soften0.3.mp4")]
    assert bright == [True] * 12


def test_a_file_in_which_no_own_expression_was_scaled_says_so(here: Path, capsys: Captured) -> None:
    write_clip(here / "in.mp4", face=False)
    assert run(["edit", "in.mp4", "--soften", "0.5"], Makers()) == 0
    assert "no face found, so it is unchanged" in capsys.readouterr().out
    assert Path("in_soften0.5.mp4").read_bytes() == Path("in.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--soften", "0.5", "--amplify", "1.2"], "give either --soften or --amplify, not both"),
        (["--soften", "0.2"], "--soften must lie in 0.25..1.5, not 0.2"),
        (["--amplify", "1.6"], "--amplify must lie in 0.25..1.5, not 1.6"),
        (["--amplify", "nan"], "--amplify must lie in 0.25..1.5, not nan"),
        (["--soften", "0.5", "--method", "face"], "this method cannot scale it"),
    ],
)
def test_a_scale_that_cannot_be_is_one_line_and_leaves_no_file(
    here: Path, arguments: list[str], said: str, capsys: Captured
) -> None:
    for name in ("a.png", "b.png"):
        write_picture_file(here / name)
    for inputs in (["a.png"], ["a.png", "b.png"]):
        assert run(["edit", *inputs, *arguments], Makers()) == 2
        errors = capsys.readouterr().err
        assert said in errors
        assert errors.count("\n") == 1
    assert names(here) == ["a.png", "b.png"]


def test_a_timeline_counts_from_the_first_frame_also_in_a_section(here: Path) -> None:
    write_clip(here / "in.mp4")
    (here / "steps.csv").write_text("0,happy\n0.5,none\n0.8,sad\n")
    arguments = ["edit", "in.mp4", "--timeline", "steps.csv", "--from", "0.3", "--to", "2"]
    assert run(arguments, Makers()) == 0
    bright = [value > 135 for value in edited_brightness(here / "in_timeline.mp4")]
    assert bright == [False] * 3 + [True] * 2 + [False] * 3 + [True] * 4


def test_compare_shows_both_at_twice_the_width(here: Path) -> None:
    write_clip(here / "in.mp4")
    write_picture_file(here / "in.png")
    for name in ("in.mp4", "in.png"):
        assert run(["edit", name, "--emotion", "happy", "--compare"], Makers()) == 0
    with av.open("in_happy_compare.mp4") as container:
        assert container.streams.video[0].width == 128
    both = cv2.imread("in_happy_compare.png")
    assert both.shape == (48, 128, 3)
    assert (both[:, :64] == scene()).all()
    assert (both[FACE, 64:][:, EDITED] != scene()[FACE, EDITED]).any()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_picture_is_edited_beside_itself(here: Path, suffix: str, capsys: Captured) -> None:
    source = write_picture_file(here / f"in{suffix}")
    makers = Makers()
    assert run(["edit", source.name, "--emotion", "happy"], makers) == 0
    before, after = cv2.imread(str(source)), cv2.imread(f"in_happy{suffix}")
    assert after[FACE, EDITED].mean() > before[FACE, EDITED].mean() + 30
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "1 face" in said
    assert makers.made[0].targets[0] is not None


@pytest.mark.parametrize("face", [True, False])
def test_the_name_of_the_result_stands_for_one_file_only(
    face: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(here / "in.mp4", face=face)
    published = []
    ordinary = PartialFile.publish

    def watched(part: PartialFile, **settings: bool) -> None:
        ordinary(part, **settings)
        published.append(part.path.read_bytes())

    monkeypatch.setattr(PartialFile, "publish", watched)
    assert run(["edit", "in.mp4", "--emotion", "happy"], Makers()) == 0
    assert published == [(here / "in_happy.mp4").read_bytes()]
    assert (published[0] == source.read_bytes()) == (not face)


def test_without_a_face_the_file_is_unchanged_and_a_note_says_so(
    here: Path, capsys: Captured
) -> None:
    for source in (
        write_clip(here / "in.mp4", face=False),
        write_picture_file(here / "in.jpg", face=False),
    ):
        assert run(["edit", source.name, "--emotion", "happy"], Makers()) == 0
        result = source.with_name(f"in_happy{source.suffix}")
        assert result.read_bytes() == source.read_bytes()
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        assert "note: no face found" in said


def test_faces_that_were_not_edited_are_said(here: Path, capsys: Captured) -> None:
    write_clip(here / "in.mp4", 12)

    class Crowded(FakeFilter):
        def apply(self, frame: Frame) -> Frame:
            self.unfollowed, self.is_face_missing = 3, len(self.targets) > 7
            return super().apply(frame)

    assert run(["edit", "in.mp4", "--emotion", "happy", "--face", "2"], Crowded) == 0
    said = capsys.readouterr().out
    assert "could not be told from others, in 4 of 12 frames" in said
    assert "more faces than are followed at a time: 3 left unchanged" in said


def test_a_section_beyond_the_end_is_told_from_a_clip_without_a_face(
    here: Path, capsys: Captured
) -> None:
    write_clip(here / "in.mp4")
    assert run(["edit", "in.mp4", "--emotion", "happy", "--from", "10"], Makers()) == 0
    assert "note: no frame lies between --from and --to" in capsys.readouterr().out
    assert (here / "in_happy.mp4").read_bytes() == (here / "in.mp4").read_bytes()


def test_a_folder_is_edited_file_by_file(here: Path, capsys: Captured) -> None:
    folder = here / "album"
    folder.mkdir()
    write_clip(folder / "a.mp4")
    write_picture_file(folder / "b.jpg")
    (folder / "broken.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("passed over")
    (folder / ".hidden.mp4").write_text("passed over")
    (folder / "inside").mkdir()
    assert run(["edit", "album", "--emotion", "happy"], Makers()) == 3
    said = capsys.readouterr()
    assert said.out.count("\n") == 2
    passed_over, broken, summed_up = said.err.splitlines()
    assert summed_up == "mien: 1 of 3 files failed: broken.mp4"
    assert passed_over.endswith("no video or picture that mien reads: notes.txt")
    assert "broken.mp4" in broken
    assert {"a_happy.mp4", "b_happy.jpg"} <= set(names(folder))
    (folder / "broken.mp4").unlink()
    arguments = ["edit", "album", "--emotion", "sad", "--compare"]
    assert run(arguments, Makers()) == 0
    assert run([*arguments, "--overwrite"], Makers()) == 0
    expected = ["a.mp4", "a_happy.mp4", "a_sad_compare.mp4"]
    assert [name for name in names(folder) if name.startswith("a")] == expected


def test_several_files_are_edited_and_one_that_fails_stops_no_other(
    here: Path, capsys: Captured
) -> None:
    write_picture_file(here / "a.png")
    write_clip(here / "b.mp4")
    (here / "c.mp4").write_text("not a video")
    makers = Makers()
    assert run(["edit", "a.png", "c.mp4", "b.mp4", "--emotion", "happy"], makers) == 3
    assert len(makers.made) == 1
    assert {"a_happy.png", "b_happy.mp4"} <= set(names(here))
    assert run(["edit", "a.png", "b.mp4", "-o", "there", "--emotion", "sad"], Makers()) == 0
    assert names(here / "there") == ["a_sad.png", "b_sad.mp4"]
    capsys.readouterr()
    assert run(["edit", "a.png", "b.mp4", "-o", "b.mp4", "--emotion", "sad"], Makers()) == 2
    assert "-o must be a folder" in capsys.readouterr().err


def test_two_files_never_share_one_result(here: Path, capsys: Captured) -> None:
    for folder in ("first", "second"):
        (here / folder).mkdir()
        write_picture_file(here / folder / "a.png")
    arguments = ["edit", "first/a.png", "second/a.png", "-o", "out", "--emotion", "happy"]
    assert run(arguments, Makers()) == 3
    assert names(here / "out") == ["a_happy.png"]
    assert "second/a.png would get the name of another result" in capsys.readouterr().err


def test_folders_in_a_folder_are_edited_where_asked(here: Path) -> None:
    (here / "album" / "inside").mkdir(parents=True)
    write_picture_file(here / "album" / "inside" / "a.png")
    assert run(["edit", "album", "--emotion", "happy"], Makers()) == 2
    assert run(["edit", "album", "--recursive", "--emotion", "happy", "-o", "out"], Makers()) == 0
    assert names(here / "out" / "inside") == ["a_happy.png"]


def test_a_dry_run_tells_the_names_and_writes_nothing(here: Path, capsys: Captured) -> None:
    write_picture_file(here / "a.png")
    makers = Makers()
    arguments = ["edit", "a.png", "--emotion", "happy", "--intensity", "0.5", "--dry-run"]
    assert run([*arguments, "-o", "a.png"], makers) == 2
    capsys.readouterr()
    assert run(arguments, makers) == 0
    assert capsys.readouterr().out == "a.png -> a_happy_0.5.png\n"
    assert names(here) == ["a.png"]
    assert makers.made == []


def test_results_are_told_as_json(here: Path, capsys: Captured) -> None:
    write_clip(here / "a.mp4", 7)
    assert run(["edit", "a.mp4", "--emotion", "happy", "--json"], Makers()) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["output"]) == ("a.mp4", "a_happy.mp4")
    assert (told["frames"], told["faces"], told["lost"]) == (7, 1, None)
    assert told["notes"] == []


def test_names_say_how_it_was_done_and_are_known_as_results(here: Path) -> None:
    write_picture_file(here / "a.png")
    assert run(["edit", ".", "--emotion", "none"], Makers()) == 0
    Path("a_none.png").rename("a_none_2.png")
    ways = (
        ["--method", "parts", "--gan", "cyclegan", "--blend", "paste"],
        ["--method", "face", "--intensity", "0.6", "--compare"],
    )
    for way in ways:
        assert run(["edit", ".", "--emotion", "happy", *way], Makers()) == 0
    expected = ["a.png", "a_happy_face_0.6_compare.png", "a_happy_parts_cyclegan_paste.png"]
    expected.append("a_none_2.png")
    assert names(here) == expected


def test_the_results_of_a_folder_go_into_the_folder_given(here: Path) -> None:
    folder = here / "album"
    folder.mkdir()
    write_picture_file(folder / "b.png")
    write_picture_file(folder / "c_happy.png")  # no result of mien: there is no c.png
    assert run(["edit", "album", "-o", "new/results", "--emotion", "happy"], Makers()) == 0
    assert names(here / "new" / "results") == ["b_happy.png", "c_happy_happy.png"]
    assert names(folder) == ["b.png", "c_happy.png"]


def test_one_filter_serves_a_whole_folder(here: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_picture_file(here / name)
    makers = Makers()
    assert run(["edit", ".", "--emotion", "happy"], makers) == 0
    assert len(makers.made) == 1
    assert len(makers.made[0].targets) == 3 * STILL_PASSES
    assert makers.made[0].closed


def test_the_bundled_sample_is_edited_without_an_input(here: Path, capsys: Captured) -> None:
    assert run(["edit"], Makers()) == 0
    assert names(here) == ["mien-sample_happy.mp4"]
    assert run(["edit"], Makers()) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["edit", "--overwrite"], Makers()) == 0


def test_an_output_that_is_a_folder_takes_the_usual_name(here: Path) -> None:
    write_picture_file(here / "in.png")
    (here / "there").mkdir()
    assert run(["edit", "in.png", "-o", "there", "--emotion", "angry"], Makers()) == 0
    assert names(here / "there") == ["in_angry.png"]


def test_quality_is_obeyed(here: Path) -> None:
    write_picture_file(here / "in.jpg")
    sizes = []
    for quality in ("10", "95"):
        arguments = ["edit", "in.jpg", "--emotion", "happy", "--quality", quality, "--overwrite"]
        assert run(arguments, Makers()) == 0
        sizes.append((here / "in_happy.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_an_output_that_appears_meanwhile_ends_in_one_line_and_the_edit_is_kept(
    here: Path, capsys: Captured, suffix: str
) -> None:
    write = write_clip if suffix == ".mp4" else write_picture_file
    source, output = write(here / f"in{suffix}"), here / f"in_happy{suffix}"

    class Appearing(FakeFilter):
        def apply(self, frame: Frame) -> Frame:
            output.write_bytes(b"precious")
            return super().apply(frame)

    assert run(["edit", source.name, "--emotion", "happy"], Appearing) == 2
    said = capsys.readouterr()
    kept = f"in_happy_2{suffix}"
    assert said.err.count("\n") == 1
    assert "appeared meanwhile" in said.err
    assert kept in said.err
    assert output.read_bytes() == b"precious"
    assert names(here) == sorted([source.name, output.name, kept])
    if suffix == ".mp4":
        assert min(edited_brightness(here / kept)) > 140
    output.unlink()
    assert run(["edit", ".", "--emotion", "happy"], Makers()) == 0, "what was kept is no input"
    assert names(here) == sorted([source.name, output.name, kept])
