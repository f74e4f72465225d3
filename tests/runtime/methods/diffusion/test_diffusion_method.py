"""`mien edit --method diffusion` with tiny networks through ONNX Runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.apps.main import run
from mien.engines.catalog import Catalog
from mien.engines.diffusion import CONDITIONS, unet_name
from mien.engines.errors import ModelError, UsageError
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.faces.alignment import AlignedFace, crop_matrix, fer_matrix
from mien.runtime.filter import Filter
from mien.runtime.methods import method_spec
from mien.runtime.methods.base import Goal
from mien.runtime.methods.diffusion.editor import (
    CROP_SIZE,
    DiffusionEditor,
    Redrawing,
    chosen_unet,
    points_in_frame,
)
from mien.runtime.methods.diffusion.sampler import SamplerOptions
from mien.runtime.target import parse_target
from mien.runtime.video import read_frames
from tests.runtime.faces.shapes import mean_face
from tests.runtime.methods.diffusion.networks import (
    STUDENT_GUIDANCE,
    STUDENT_SIGMAS,
    forget_shipped,
    write_encoder,
    write_student,
    write_unet,
)

Captured = pytest.CaptureFixture[str]
PORTRAIT = SAMPLE.parent / "portrait.jpg"
HAPPY = parse_target("happy").vector()
FEW = len(STUDENT_SIGMAS) - 1


@pytest.fixture(autouse=True)
def _own_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_shipped(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the conditions label and vae, and a student of the second."""
    folder = write_unet(tmp_path_factory.mktemp("diffusion"), "label")
    write_unet(folder, "vae")
    write_student(folder, "vae")
    return write_encoder(folder)


def pixels(count: int = 4) -> list[np.ndarray]:
    """The first frames of the sample, RGB, at half its size."""
    found = []
    for _, frame in zip(range(count), read_frames(SAMPLE), strict=False):
        grey = np.ascontiguousarray(frame.planes[0].samples)
        found.append(cv2.cvtColor(cv2.resize(grey, None, fx=0.5, fy=0.5), cv2.COLOR_GRAY2RGB))
    return found


def edited(models: Path, **options: str | float) -> list[np.ndarray]:
    """The same frames with the expression changed, half a second apart."""
    with Filter("happy", method="diffusion", models=models, **options) as change:
        return [change(picture, 0.5 * n) for n, picture in enumerate(pixels())]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_option_is_one_of_the_command_line_and_names_the_result(
    models: Path, tmp_path: Path
) -> None:
    picture = Path(shutil.copy(PORTRAIT, tmp_path / "portrait.jpg"))
    asked = ["--condition", "vae", "--steps", "3", "--guidance", "2.5", "--seed", "5"]
    words = ["edit", str(picture), "--models", str(models), "--method", "diffusion", *asked]
    assert run([*words, "--emotion", "happy"]) == 0
    (made,) = (path for path in tmp_path.iterdir() if path != picture)
    assert made.name.startswith("portrait_happy_diffusion")
    before, after = (cv2.imread(str(path)).astype(int) for path in (picture, made))
    assert np.abs(after - before).max() > 10


def test_a_video_is_edited_and_twice_the_same(models: Path, tmp_path: Path) -> None:
    words = ["edit", str(SAMPLE), "--models", str(models), "--method", "diffusion", "--steps", "2"]
    words += ["--emotion", "happy", "--to", "0.4", "--seed", "3"]
    words += ["--no-marks"]  # the watermark holds a number that is drawn anew
    made = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in made:
        assert run([*words, "-o", str(path)]) == 0
    frames = [[f.planes[0].samples.copy() for f in read_frames(path)] for path in made]
    assert same(*frames)
    source = [f.planes[0].samples for f in read_frames(SAMPLE)]
    changes = [np.abs(a.astype(int) - b).max() for a, b in zip(source, frames[0], strict=True)]
    assert max(changes) > 30


@pytest.mark.slow
def test_bench_prints_what_a_frame_costs(models: Path, tmp_path: Path, capsys: Captured) -> None:
    clip, frames = tmp_path / "in.mp4", pixels(12)
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for pixel in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixel, format="rgb24")))
        container.mux(stream.encode())
    words = ["bench", str(clip), "--runs", "1", "--models", str(models), "--method", "diffusion"]
    assert run([*words, "--condition", "label"]) == 0
    told = capsys.readouterr().out
    assert "--method diffusion --condition label" in told
    assert "whole filter, ms a frame" in told


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_threads_do_not_change_a_bit(
    solver: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for threads in (1, 2):
        monkeypatch.setattr("mien.runtime.methods.diffusion.editor.THREADS", threads)
        made.append(edited(models, condition="vae", steps=3, solver=solver, seed=11))
    assert same(*made)
    assert not same(made[0], pixels())


def test_only_drawn_noise_depends_on_the_seed(models: Path) -> None:
    fresh = [edited(models, solver="ddpm", steps=3, seed=seed) for seed in (1, 2)]
    assert not same(*fresh)
    own = [edited(models, solver="ddim", steps=3, seed=seed) for seed in (1, 2)]
    assert same(*own), "a face's own noise is not drawn"


def test_a_still_face_does_not_boil_under_fresh_noise(models: Path) -> None:
    (picture,) = pixels(1)
    with Filter("happy", method="diffusion", models=models, solver="ddpm", steps=3) as change:
        shown = [change(picture, 0.5 * n) for n in range(6)]
    moved = np.abs(shown[-1].astype(int) - shown[-2]).mean()
    changed = np.abs(shown[-1].astype(int) - picture).mean()
    assert moved < 0.1 * changed


def test_a_filter_that_begins_again_gives_the_same(models: Path) -> None:
    with Filter("happy", method="diffusion", models=models, solver="ddpm", steps=2) as change:
        first = [change(picture, 0.5 * n) for n, picture in enumerate(pixels())]
        change.reset()
        second = [change(picture, 0.5 * n) for n, picture in enumerate(pixels())]
    assert same(first, second)


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({}, "diffusion_vae_2"),
        ({"steps": 2}, "diffusion_vae_2"),
        ({"steps": 4}, "diffusion_vae"),
        ({"guidance": STUDENT_GUIDANCE}, "diffusion_vae"),
        ({"noise": 2.5}, "diffusion_vae"),
        ({"solver": "heun", "steps": 2}, "diffusion_vae"),
    ],
)
def test_a_student_runs_where_nothing_asks_for_its_teacher(
    options: dict[str, str | int | float], network: str, models: Path
) -> None:
    told = method_spec("diffusion").checked({"condition": "vae", **options})
    catalog = Catalog.load(models)
    assert chosen_unet(catalog, told) == network
    with Filter(method="diffusion", models=models, condition="vae", **options) as change:
        assert {network, "diffusion_vae_encoder"} <= change.providers.keys()


def test_what_a_method_opens_is_declared(models: Path) -> None:
    spec = method_spec("diffusion")
    for condition in CONDITIONS:
        (unet, *encoder) = spec.networks_for({"condition": condition, "steps": 10})
        assert unet == unet_name(condition)
        assert encoder == ([] if condition == "label" else [f"{unet}_encoder"])
    assert spec.networks_for({"condition": "cnn", "steps": 2})[0] == "diffusion_cnn_2"
    assert spec.networks_for({"steps": 2, "guidance": 4})[0] == "diffusion_vae"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], "steps lies in 1..999, not '0'"),
        (["--steps", "1000"], "steps lies in 1..999, not '1000'"),
        (["--steps", "few"], "steps is a whole number, not 'few'"),
        (["--guidance", "strong"], "guidance is a number, not 'strong'"),
        (["--guidance", "nan"], "guidance is a number, not 'nan'"),
        (["--noise", "0"], "noise lies in 0.1..160, not '0'"),
        (["--seed", "-1"], "seed lies in 0..2.14748e+09, not '-1'"),
        (["--condition", "words"], "unknown condition 'words' (known: vae, label, cnn, latent)"),
        (["--solver", "plms"], "unknown solver 'plms'"),
        (["--condition", "cnn"], "lacks the networks diffusion_cnn, diffusion_cnn_encoder"),
        (["--emotion", "contemptuous"], "knows angry, disgusted, fearful, happy, sad, surprised"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_file(
    options: list[str], words: str, models: Path, tmp_path: Path, capsys: Captured
) -> None:
    picture = Path(shutil.copy(PORTRAIT, tmp_path / "portrait.jpg"))
    given = ["edit", str(picture), "--models", str(models), "--method", "diffusion"]
    emotion = [] if "--emotion" in options else ["--emotion", "happy"]
    assert run([*given, *options, *emotion]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["portrait.jpg"]


def test_an_encoder_of_another_width_is_refused_naming_both(models: Path, tmp_path: Path) -> None:
    other = write_encoder(tmp_path / "other", code=5)
    both = [other, models]
    with pytest.raises(ModelError, match=r"code of 5 numbers, but diffusion_vae\w* takes 8"):
        Filter(method="diffusion", models=both, condition="vae")


def test_a_unet_under_the_name_of_another_condition_is_refused(
    models: Path, tmp_path: Path
) -> None:
    with OnnxRuntimeEngine(models / "diffusion_vae.onnx", "diffusion_vae") as unet:
        with pytest.raises(ModelError, match="takes a semantic code of 8 numbers"):
            Redrawing(unet, None)
        with pytest.raises(UsageError, match=r"diffusion steps are a whole number in 1\.\.999"):
            Redrawing(unet, None, SamplerOptions(steps=0))


def test_progress_rises_within_a_face_and_ends_at_nothing(models: Path) -> None:
    shares: list[float] = []

    class Watching(OnnxRuntimeEngine):
        def _run(self, feeds):  # type: ignore[no-untyped-def]
            shares.append(redraw.share_done)
            return super()._run(feeds)

    with Watching(models / "diffusion_label.onnx", "diffusion_label") as unet:
        redraw = Redrawing(unet, None, SamplerOptions(steps=4))
        redraw(np.full((48, 48), 0.5, np.float32), HAPPY)
    assert shares == [n / 12 for n in range(12)]
    assert redraw.share_done == 0


def test_drawn_faces_lie_where_the_frame_has_them(models: Path) -> None:
    """The UNet's picture in the wider crop: what it sees, put back without a change."""

    class Unchanged(Redrawing):
        def __call__(self, crop: np.ndarray, weights: np.ndarray) -> np.ndarray:
            return np.stack([crop, crop])

    (frame,) = (f for _, f in zip(range(1), read_frames(SAMPLE), strict=False))
    landmarks = mean_face() * 300 + np.array([200, 100], np.float32)
    matrix = crop_matrix(landmarks, CROP_SIZE)
    units = (landmarks @ matrix[:, :2].T + matrix[:, 2] + 0.5) / CROP_SIZE
    luma = cv2.warpAffine(frame.planes[0].samples, matrix, (CROP_SIZE, CROP_SIZE))
    face = AlignedFace((luma / 255).astype(np.float32), matrix, units.astype(np.float32))
    np.testing.assert_allclose(points_in_frame(face), landmarks, atol=0.05)
    assert fer_matrix(landmarks, 48).shape == (2, 3)
    with OnnxRuntimeEngine(models / "diffusion_label.onnx", "diffusion_label") as unet:
        editor = DiffusionEditor(Unchanged(unet, None), None, None)  # type: ignore[arg-type]
        before, after = editor.pictures(frame, face, Goal(HAPPY), 0.0)
    np.testing.assert_array_equal(before, after)
    small = cv2.resize(luma, (64, 64), interpolation=cv2.INTER_AREA)
    inside = np.s_[6:56, 6:58]
    shown = cv2.GaussianBlur(before[0] * 255, (0, 0), 1.5)[inside]
    seen = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5)[inside]
    limits = frame.layout.full_range
    offset = 0 if limits else np.mean(shown - seen)
    assert np.abs(shown - seen - offset).mean() < 6
