"""`mien edit --prompt` and `--attribute`, with the real filter on networks that are easy to see."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE, without_own_outputs
from mien.apps.main import run
from tests.runtime.methods.latent.networks import (
    write_directions,
    write_emm,
    write_space,
    write_text,
)

Captured = pytest.CaptureFixture[str]
PORTRAIT = SAMPLE.parent / "portrait.jpg"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_space(tmp_path_factory.mktemp("latent"))
    return write_text(write_directions(write_emm(folder)))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return Path(shutil.copy(PORTRAIT, tmp_path / "portrait.jpg"))


def edit(picture: Path, models: Path, *options: str) -> int:
    return run(["edit", str(picture), "--models", str(models), *options])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--method", "emm", "--prompt", "A happy face!"], "portrait_prompt-a-happy-face_emm"),
        (
            ["--method", "directions", "--attribute", "smiling:+1,brows_raised:-0.5"],
            "portrait_neutral_directions_smiling-1-brows-raised-minus0.5",
        ),
        (["--method", "emm", "--emotion", "sad", "--seed", "7"], "portrait_sad_emm_seed7"),
    ],
)
def test_a_result_is_named_by_what_was_asked_and_not_edited_again(
    options: list[str], name: str, picture: Path, models: Path
) -> None:
    assert edit(picture, models, *options) == 0
    made = picture.with_name(f"{name}.jpg")
    before, after = (cv2.imread(str(path)).astype(int) for path in (picture, made))
    assert np.abs(after - before).max() > 10
    assert without_own_outputs([picture, made]) == [picture]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "emm", "--prompt", "a zebra"], "says nothing that this model knows"),
        (["--prompt", "a happy face"], "--prompt is for --method emm, not warp"),
        (
            ["--method", "emm", "--prompt", "a happy face", "--emotion", "sad"],
            "give either --prompt, --emotion or --timeline",
        ),
        (["--method", "directions"], "which expression? add --emotion"),
        (["--method", "directions", "--attribute", "grin"], "unknown attribute 'grin'"),
        (["--method", "emm", "--attribute", "smiling"], "the method emm has no option attribute"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_file(
    options: list[str], message: str, picture: Path, models: Path, capsys: Captured
) -> None:
    assert edit(picture, models, *options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in picture.parent.iterdir()] == [picture.name]


def test_networks_that_are_missing_are_named_in_one_line(
    picture: Path, tmp_path: Path, capsys: Captured
) -> None:
    folder = write_space(tmp_path / "models")
    assert edit(picture, folder, "--method", "emm", "--emotion", "sad") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "the method emm lacks the networks latent_classifier, emm" in err
