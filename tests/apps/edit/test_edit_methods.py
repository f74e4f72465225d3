"""`mien edit --method ...`, with the real filter on models that are easy to see through."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.apps.main import run
from mien.engines.networks import SHIPPED_CLASSES
from mien.runtime.filter import Filter
from tests.apps.fakes import Makers, write_clip
from tests.runtime.methods.gan.networks import write_style_models

Captured = pytest.CaptureFixture[str]
PORTRAIT = SAMPLE.parent / "portrait.jpg"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_style_models(tmp_path_factory.mktemp("style"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return Path(shutil.copy(PORTRAIT, tmp_path / "portrait.jpg"))


def edit(picture: Path, models: Path, *options: str) -> int:
    return run(["edit", str(picture), "--emotion", "happy", "--models", str(models), *options])


def test_a_picture_is_edited_by_the_method_that_is_named(
    picture: Path, models: Path, capsys: Captured
) -> None:
    # Every way there is runs in tests/runtime/methods/gan/test_style_methods.py.
    options = ["--method", "parts", "--gan", "cyclegan", "--blend", "paste"]
    assert edit(picture, models, *options) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "left unchanged" not in out
    before = cv2.imread(str(picture)).astype(int)
    edited = picture.with_name("portrait_happy_parts_cyclegan_paste.jpg")
    after = cv2.imread(str(edited)).astype(int)
    assert np.abs(after - before).max() > 20


def test_unedited_parts_are_told_in_the_one_line(
    picture: Path, tmp_path: Path, capsys: Captured
) -> None:
    classes = tuple("hair" if name in ("r_eye", "nose") else name for name in SHIPPED_CLASSES)
    models = write_style_models(tmp_path / "models", classes)
    assert edit(picture, models, "--method", "parts") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "note: not seen, so left unchanged: nose 1x, right eye 1x" in out
    assert edit(picture, models, "--method", "face", "--overwrite") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "so it is unchanged; note: not seen, so left unchanged: nose 1x, right eye 1x" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gan", "stargan"], "the method warp has no option gan; leave gan out (it has none)"),
        (["--method", "parts", "--gan", "gan"], "unknown gan 'gan' (known: stargan, cyclegan)"),
        (["--method", "face", "--blend", "both"], "unknown blend 'both'"),
        (
            ["--method", "mouths"],
            "unknown method 'mouths' (known: warp, diffusion, directions, emm, face, image, parts)",
        ),
        (
            ["--method", "face", "--soften", "0.5"],
            "cannot scale a person's own expression; warp can",
        ),
        (["--method", "parts", "--emotion", "angry"], "cannot make a face angry (it can: "),
        (
            ["--method", "image", "--gan", "cyclegan", "--emotion", "sad"],
            "cannot make a face sad (it can: happy, from neutral faces)",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_file(
    picture: Path, models: Path, options: list[str], message: str, capsys: Captured
) -> None:
    assert edit(picture, models, *options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in picture.parent.iterdir()] == [picture.name]


def test_a_timeline_with_an_emotion_the_model_lacks_is_refused(
    tmp_path: Path, models: Path, capsys: Captured
) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    timeline = tmp_path / "steps.csv"
    timeline.write_text("0,happy\n0.5,angry\n")
    command = ["edit", str(clip), "--timeline", str(timeline), "--method", "image"]
    assert run([*command, "--models", str(models)]) == 2
    assert "cannot make a face angry" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.avi", "steps.csv"]


def test_a_smile_of_ones_own_is_softened_and_amplified(picture: Path, capsys: Captured) -> None:
    assert run(["edit", str(picture), "--emotion", "happy", "--intensity", "0.7"]) == 0
    smiling = picture.with_name("portrait_happy_0.7.jpg")
    shown = []
    with Filter(None, order="bgr") as look:
        for name, options in {
            "portrait_happy_0.7_soften0.25": ["--soften", "0.25"],
            "portrait_happy_0.7": None,
            "portrait_happy_0.7_amplify1.5": ["--amplify", "1.5"],
        }.items():
            assert options is None or run(["edit", str(smiling), *options]) == 0
            look.reset()
            look(cv2.imread(str(picture.with_name(f"{name}.jpg"))))
            shown.append(look.faces[0].measures.smile)
    assert "unchanged" not in capsys.readouterr().out
    print(shown)
    soft, own, amplified = shown
    assert soft < own < amplified


def test_the_options_reach_the_filter(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    makers = Makers()
    options = ["--method", "face", "--gan", "cyclegan", "--blend", "paste"]
    assert run(["edit", str(clip), "--emotion", "happy", *options], makers) == 0
    (made,) = makers.made
    assert made.settings.method == "face"
    assert made.settings.told == {"gan": "cyclegan", "blend": "paste"}
