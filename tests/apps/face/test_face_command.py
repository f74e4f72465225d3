"""`mien face`, as people call it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.main import run

PROMPT = "a happy woman"


@pytest.fixture(scope="module")
def models(text_models: Path) -> str:
    return str(text_models)


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path, name: tuple[str, ...] = ("face",)
) -> str:
    assert run([*name, *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    return line


def test_a_face_its_grid_and_its_attention_are_written(
    models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ada.png"
    options = ["--seed", "7", "--n", "4", "--grid", "--attention", "--models", models]
    assert run(["face", f"{PROMPT}, quux", "-o", str(path), *options]) == 0
    told = capsys.readouterr()
    assert "seed 7, nearness" in told.out
    assert told.out.count("\n") == 1
    assert "left out: quux" in told.err
    face, grid, attention = (
        cv2.imread(str(tmp_path / name))
        for name in ("ada.png", "ada-grid.png", "ada-attention.png")
    )
    assert face is not None
    assert face.shape == (256, 256, 3)
    assert grid is not None
    assert grid.shape == (512, 512, 3)
    assert (grid[:256, :256] == face).all(), "the best comes first"
    assert attention is not None
    assert attention.shape == (2 * 280, 2 * 256, 3)
    again = tmp_path / "again.png"
    assert run(["face", PROMPT, "-o", str(again), *options[:4], "--models", models]) == 0
    assert (np.asarray(cv2.imread(str(again))) == face).all()


def test_bad_input_costs_one_line_and_writes_nothing(
    models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, given = tmp_path / "ada.png", ("--models", models)
    assert "has no word" in refused(capsys, "", "-o", path, *given)
    assert "it knows happy" in refused(capsys, "qqqq", "-o", path, *given)
    assert "not 60000; shorten" in refused(capsys, "happy " * 10_000, "-o", path, *given)
    assert "1 to 64 faces" in refused(capsys, PROMPT, "-o", path, "--n", "0", *given)
    assert "lies in 0..2147483647" in refused(capsys, PROMPT, "-o", path, "--seed", "-1", *given)
    assert "written as .png" in refused(capsys, PROMPT, "-o", tmp_path / "ada.mp4", *given)
    assert "no folder" in refused(capsys, PROMPT, "-o", tmp_path / "x" / "ada.png", *given)
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_the_shipped_networks_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ada.png"
    assert run(["face", "a young woman, happy", "-o", str(path), "--n", "2"]) == 0
    assert "number " in capsys.readouterr().out
    drawn = cv2.imread(str(path))
    assert drawn is not None
    assert drawn.shape == (256, 256, 3)
    assert drawn.std() > 20


def test_an_avatar_is_created_as_a_face_is_drawn(
    models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, face = tmp_path / "ada.png", tmp_path / "face.png"
    options = ["--seed", "7", "--n", "4", "--grid", "--models", models]
    assert run(["avatar", "create", PROMPT, "-o", str(ada), *options]) == 0
    assert run(["face", PROMPT, "-o", str(face), *options]) == 0
    assert ada.read_bytes() == face.read_bytes()
    assert (tmp_path / "ada-grid.png").exists()
    capsys.readouterr()
    create = ("avatar", "create")
    for words, told in (
        ("", "has no word"),
        ("qqqq", "it knows happy"),
        ("happy " * 10_000, "shorten"),
    ):
        line = refused(capsys, words, "-o", tmp_path / "b.png", "--models", models, name=create)
        assert told in line
    assert not (tmp_path / "b.png").exists()


def test_a_picture_that_exists_stays(
    models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "ada-grid.png"
    grid.write_bytes(b"mine")
    asked = (PROMPT, "-o", tmp_path / "ada.png", "--grid", "--n", "1", "--models", models)
    assert "add --overwrite" in refused(capsys, *asked)
    assert grid.read_bytes() == b"mine"
    assert not (tmp_path / "ada.png").exists()
    assert run(["face", *map(str, asked), "--overwrite"]) == 0
    assert grid.read_bytes() != b"mine"
