"""The diffusion recipe on a few made pictures, from the data to the files that are shipped."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mien.apps.edit.inputs import SAMPLE
from mien.apps.main import run
from mien.engines.catalog import read_catalog
from mien.engines.diffusion import FER2013_LABELS, encoder_network, unet_facts, unet_network
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.diffusion_encoders import VaeEncoder
from mien.export.models.face_encoder import FaceEncoder
from mien.export.models.small_unet import SmallSpec, SmallUNet
from mien.export.onnx_file import rounded_to_half, to_onnx
from mien.runtime.methods.diffusion.sampler import (
    INVERSION_SIGMA,
    Sampler,
    crowded_sigmas,
    ddim_step,
)
from mien.training import ship
from mien.training.diffusion import recipe as diffusion
from mien.training.diffusion.codes import (
    VAE,
    Batch,
    Faces,
    Feeder,
    LatentEncoder,
    erasing_projection,
    readable,
    with_projection,
)
from mien.training.diffusion.unet import (
    TEACHER_STEPS,
    Distillation,
    ModuleEngine,
    grown,
    student_of,
    teacher_loss,
)

TINY = SmallSpec(widths=(16, 16, 16), blocks=1, embedding=16)
FER_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
VOTE_NAMES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES_OF = {
    "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness",
    "sad": "sadness", "surprise": "surprise", "neutral": "neutral",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER-2013 in small: 200 smooth pictures, every third held out, with plain votes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    small = rng.integers(40, 220, (200, 6, 6)).astype(np.uint8)
    pictures = np.stack([cv2.resize(p, (48, 48), interpolation=cv2.INTER_CUBIC) for p in small])
    with tarfile.open(folder / "fer2013.tar", "w") as archive:
        for number in range(2):
            part = pictures[100 * number : 100 * number + 100].reshape(10, 10, 48, 48)
            sheet = part.transpose(0, 2, 1, 3).reshape(480, 480)
            content = cv2.imencode(".webp", sheet, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
            member = tarfile.TarInfo(f"{number:05d}.webp")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    names = [FER_NAMES[i % 7] for i in range(200)]
    with (folder / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "split"])
        rows.writerows((n, "public" if i % 3 == 0 else "train") for i, n in enumerate(names))
    with (folder / "ferplus.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["original", *VOTE_NAMES, "unknown", "NF"])
        for name in names:
            votes = [9 if VOTES_OF[name] == v else 0 for v in VOTE_NAMES]
            rows.writerow([1, *votes, 1, 0])
    return folder


def test_labels_come_from_the_votes_in_the_public_order(data: Path) -> None:
    faces = Faces.load(data, "train")
    first = FER2013_LABELS[int(faces.classes[0])]
    assert first == "disgusted", "row 1 of the data is the first that is trained on"
    batch = Feeder(faces, None, 16, seed=3)()
    assert batch.faces.shape == (16, 1, 48, 48)
    assert batch.codes.shape == (16, 0)
    assert float(batch.faces.min()) >= -1
    assert float(batch.faces.max()) <= 1
    assert batch.labels.sum(1).eq(1).all()
    again = Feeder(faces, None, 16, seed=3)()
    assert torch.equal(again.faces, batch.faces)


def test_codes_of_mirrored_pictures_go_with_them(data: Path) -> None:
    faces = Faces.load(data, "train")
    codes = torch.stack([torch.zeros(len(faces.votes), 1), torch.ones(len(faces.votes), 1)], 1)
    batch = Feeder(faces, codes, 32, seed=0)()
    originals = {p.numpy().tobytes() for p in faces.pictures}
    pixels = ((batch.faces + 1) * 127.5).round().to(torch.uint8)
    for face, code in zip(pixels, batch.codes, strict=True):
        assert (face.numpy().tobytes() in originals) == (code.item() == 0)


def test_nothing_of_the_emotion_can_be_read_after_the_projection() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 7, 4000)
    votes = np.eye(7, dtype=np.float32)[classes]
    codes = rng.normal(size=(4000, 24)) * np.linspace(0.2, 3, 24)
    codes[:, :7] += 2 * votes
    codes = (codes @ rng.normal(size=(24, 24))).astype(np.float32)
    held = slice(3000, None)
    before = readable(codes[:3000], votes[:3000], (codes[held], votes[held]))
    matrix, offset = erasing_projection(codes[:3000], votes[:3000])
    made = codes @ matrix.T + offset
    after = readable(made[:3000], votes[:3000], (made[held], votes[held]))
    assert before > 0.6
    assert after < 0.25, "chance is a seventh"
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == 24 - 6, "no more is lost than it takes"


def test_a_teacher_learns_and_a_code_changes_nothing_at_first() -> None:
    torch.manual_seed(0)
    teacher = SmallUNet(TINY)
    line = torch.linspace(-0.9, 0.9, 48)
    batch = Batch(
        line.expand(32, 1, 48, 48).clone(), torch.eye(7)[torch.arange(32) % 7], torch.zeros(32, 0)
    )
    optimiser = torch.optim.Adam(teacher.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = teacher_loss(teacher, batch)["denoising"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    wider = grown(teacher, 5)
    asked = torch.randn(2, 1, 48, 48), torch.ones(2), batch.labels[:2]
    with torch.no_grad():
        before = teacher(*asked, torch.ones(2))
        after = wider(*asked, torch.randn(2, 5), torch.ones(2))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize(("steps", "start"), [(4, 2.5), (2, 2.5), (1, 2.5), (4, 80.0)])
def test_a_perfect_student_has_no_loss(steps: int, start: float) -> None:
    """What the loss asks for is where the teacher's steps lead, up and down."""
    torch.manual_seed(0)
    teacher = _shaken(SmallUNet(TINY))
    if steps < TEACHER_STEPS // 2:
        teacher = student_of(teacher, 2 * steps, start, 1.0)
    distillation = Distillation(teacher, start, 1.0)
    student = student_of(teacher, steps, start, 1.0)
    levels = student.sigmas.tolist()
    assert levels[0] == pytest.approx(start)
    assert levels[-1] == 0

    class Oracle(SmallUNet):
        """Says what the teacher's steps say."""

        def forward(self, x, sigma, label, *rest):  # type: ignore[no-untyped-def]
            finer = distillation._sigmas.tolist()
            up = bool((label[0] == 1).all())
            way = [INVERSION_SIGMA, *finer[-2::-1]] if up else finer
            first = min(range(len(way)), key=lambda i: abs(way[i] - float(sigma[0])))
            passed = way[first : first + (len(way) - 1) // steps + 1]
            asked = torch.zeros_like(label) if up and not teacher.spec.steps else label
            reached = x
            for high, low in itertools.pairwise(passed):
                level = torch.full_like(sigma, high)
                cleaned = teacher(reached, level, asked, *rest)
                reached = cleaned + (low / high) * (reached - cleaned)
            ratio = passed[-1] / passed[0]
            return (reached - ratio * x) / (1 - ratio)

    oracle = Oracle(student.spec)
    oracle.load_state_dict(student.state_dict())
    for _ in range(12):  # rows of one kind in a batch of one: up, down or silent by chance
        batch = Batch(torch.rand(1, 1, 48, 48), torch.eye(7)[:1], torch.zeros(1, 0))
        with torch.no_grad():
            terms = distillation(oracle, batch)
            other = distillation(student, batch)
        assert float(sum(terms.values())) < 1e-6
        assert float(sum(other.values())) > 1e-5


def test_the_sampler_runs_a_module_as_it_runs_a_file() -> None:
    torch.manual_seed(0)
    teacher = _shaken(SmallUNet(TINY))
    engine = ModuleEngine(teacher, "label", batch=4)
    assert unet_facts(engine).labels == FER2013_LABELS
    sampler = Sampler(engine)
    face = np.random.default_rng(0).uniform(-1, 1, (3, 1, 48, 48)).astype(np.float32)
    edited = sampler.edit(face, np.eye(7, dtype=np.float32)[:1])
    assert edited.shape == face.shape
    down = crowded_sigmas(TEACHER_STEPS, 2.5)
    assert np.allclose(student_of(teacher, 4, 2.5, 3.0).sigmas.numpy(), down[::2])
    moved = ddim_step(face, np.zeros_like(face), 2.0, 1.0)
    np.testing.assert_allclose(moved, face / 2)


@pytest.mark.slow
def test_the_recipe_trains_distils_goes_on_and_its_models_edit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusion, "BATCH", 4)
    monkeypatch.setattr(diffusion, "STUDENT_BATCH", 4)
    monkeypatch.setattr(diffusion, "STUDENT_STEPS", (4,))  # each more is one more export
    out = tmp_path / "out"
    arguments = ["--minutes", "0.004", "--data", str(data), "--out", str(out), "--device", "cpu"]
    arguments += ["--conditions", "label,vae", "--students", "vae", "--guidance", "2"]
    arguments += ["--widths", "16,16,16", "--blocks", "1"]
    diffusion.main([*arguments, "--part", "train"])
    assert not (out / "diffusion_vae_4.onnx").exists()
    diffusion.main([*arguments, "--part", "distil"])
    names = ["diffusion_label", *(f"diffusion_vae{end}" for end in ("", "_4"))]
    for name in (*names, "diffusion_vae_encoder"):
        for ending in ("onnx", "md", "json"):
            assert (out / f"{name}.{ending}").exists(), (name, ending)
    for name in names:
        assert list(out.glob(f"{name}-*.png")), "a sheet of each"
        with OnnxRuntimeEngine(out / f"{name}.onnx", name) as engine:
            facts = unet_facts(engine)
        steps = name.removeprefix("diffusion_vae_")
        if steps.isdigit():
            assert facts.sigmas is not None
            assert (len(facts.sigmas) - 1, facts.guidance) == (int(steps), 2.0)
    told = json.loads((out / "diffusion_vae_encoder.json").read_text())["quality"]
    assert set(told) == {"emotion_read_from_the_plain_code", "emotion_read_from_the_code"}
    before = json.loads((out / "diffusion_label.json").read_text())
    arguments[1] = "0.0001"
    diffusion.main([*arguments, "--conditions", "label", "--students", ""])
    after = json.loads((out / "diffusion_label.json").read_text())
    assert after["steps"] == before["steps"], "all minutes were spent before"
    kept = recognise(read_checkpoint(out / "diffusion_vae_4.pt")).module
    assert isinstance(kept, SmallUNet)
    assert (kept.spec.steps, float(kept.guidance)) == (4, 2.0)
    models = tmp_path / "models"
    models.mkdir()
    ship.main(["--out", str(out), "--into", str(models)])
    assert {entry.network for entry in read_catalog(models)} == {*names, "diffusion_vae_encoder"}
    picture = Path(shutil.copy(SAMPLE.parent / "portrait.jpg", tmp_path / "portrait.jpg"))
    asked = ["--method", "diffusion", "--condition", "vae", "--models", str(models)]
    for steps in ("4", "3"):  # of the student, and of its teacher
        result = tmp_path / f"{steps}.jpg"
        words = [*asked, "--steps", steps, "--emotion", "happy", "-o", str(result)]
        assert run(["edit", str(picture), *words]) == 0
        assert result.exists()


@pytest.mark.slow
def test_a_run_begins_with_graphs_where_there_is_no_checkpoint(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(diffusion, "STUDENT_BATCH", 4)
    monkeypatch.setattr(diffusion, "STUDENT_STEPS", (4, 2))
    models, out = tmp_path / "models", tmp_path / "out"
    models.mkdir()
    spec = replace(TINY, semantic=128, embedding=SmallSpec().embedding)
    teacher = _shaken(SmallUNet(spec))
    with torch.no_grad():
        for weight in teacher.parameters():  # the exporter joins weights that are alike
            weight.add_(torch.randn_like(weight) * 0.01)
    student = student_of(teacher, 4, 2.5, 3.0)
    encoder = with_projection(VaeEncoder(VAE), np.eye(128, dtype=np.float32), np.zeros(128, "f4"))
    for name, module in (("diffusion_vae", teacher), ("diffusion_vae_4", student)):
        declared = unet_network(
            name, "sigma", labels=7, semantic=128, batch=1 if module.spec.steps else 2
        )
        facts = ModuleEngine(module, "vae").words
        to_onnx(rounded_to_half(module), declared, models / f"{name}.onnx", facts=facts)
    to_onnx(
        encoder.eval(),
        encoder_network("diffusion_vae_encoder", code=128),
        models / "diffusion_vae_encoder.onnx",
    )
    arguments = ["--minutes", "0.02", "--data", str(data), "--out", str(out), "--device", "cpu"]
    arguments += ["--conditions", "label,vae", "--guidance", "3", "--widths", "16,16,16"]
    arguments += ["--blocks", "1", "--part", "distil", "--fewest", "2"]
    diffusion.main([*arguments, "--begin-with", str(models)])
    told = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[0] for line in told if " begins as " in line] == [
        "diffusion_label begins as diffusion_vae.onnx",  # as that of any condition
        "diffusion_vae begins as diffusion_vae.onnx",
        "diffusion_vae_4 begins as diffusion_vae_4.onnx",
    ]
    assert "cpu, after diffusion_vae_4.onnx, SHA-256" in (out / "diffusion_vae_4.md").read_text()
    assert ", after " not in (out / "diffusion_vae_2.md").read_text()
    made = {path.name for path in out.glob("*.onnx")}
    assert made == {"diffusion_vae_4.onnx", "diffusion_vae_2.onnx"}, "only what was trained"
    went_on = recognise(read_checkpoint(out / "diffusion_vae_4.pt")).module
    for mine, its in zip(went_on.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=0.02, rtol=0.1)
    with pytest.raises(SystemExit):  # graphs of another place hold nothing
        diffusion.main([*arguments, "--out", str(tmp_path), "--begin-with", str(out / "none")])


def test_the_minutes_may_be_for_teachers_or_students_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(tmp_path), "--out", str(tmp_path), "--minutes", "30"]
    common += ["--conditions", "label,vae", "--students", "vae"]
    names = {
        part: set(diffusion.minutes_of(diffusion.parse_options([*common, "--part", part])))
        for part in ("all", "train")
    }
    assert names["train"] == {"vae", "diffusion_label", "diffusion_vae"}
    with pytest.raises(SystemExit):
        diffusion.parse_options([*common, "--part", "distil"])
    assert "lacks vae.pt, diffusion_label.pt, diffusion_vae.pt" in capsys.readouterr().err
    for name in names["train"]:
        (tmp_path / f"{name}.pt").touch()
    minutes = diffusion.minutes_of(diffusion.parse_options([*common, "--part", "distil"]))
    assert set(minutes) == names["all"] - names["train"]
    last = diffusion.parse_options([*common, "--part", "distil", "--fewest", "2"])
    assert set(diffusion.minutes_of(last)) == {"diffusion_vae_4", "diffusion_vae_2"}
    assert sum(minutes.values()) == pytest.approx(30)


def test_the_face_encoder_sees_the_part_of_the_picture_that_its_crop_shows() -> None:
    torch.manual_seed(0)
    encoder = LatentEncoder(FaceEncoder(64)).eval()
    image = torch.rand(2, 1, 48, 48) * 2 - 1
    left, top, side = encoder.view
    line = (torch.arange(64) + 0.5) / 64
    x, y = (left + side * line) * 2 - 1, (top + side * line) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).expand(2, -1, -1, -1)
    seen = torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(encoder.rows @ image @ encoder.columns, seen)
        torch.testing.assert_close(encoder.code(image), encoder.encoder.parts(seen)[0])


def test_the_minutes_are_divided_among_what_is_asked_for(tmp_path: Path) -> None:
    common = ["--data", str(tmp_path), "--out", str(tmp_path), "--minutes", "94"]
    options = diffusion.parse_options([*common, "--conditions", "vae,label"])
    minutes = diffusion.minutes_of(options)
    assert options.conditions == ("label", "vae"), "the label first: the others begin as it"
    assert sum(minutes.values()) == pytest.approx(94)
    assert minutes["diffusion_label"] == pytest.approx(44)
    assert {"vae", "diffusion_vae", "diffusion_vae_4", "diffusion_vae_1"} <= minutes.keys()
    assert "diffusion_label_4" not in minutes
    assert "cnn" not in minutes


@pytest.mark.parametrize(
    "arguments",
    [
        ["--conditions", "label,latent"],
        ["--conditions", "label,latent", "--encoder", "nowhere.pt"],
        ["--conditions", "vae"],
        ["--conditions", "label,words"],
        ["--conditions", "label", "--students", "vae"],
        ["--widths", "48"],
        ["--widths", "48,50"],
    ],
)
def test_conditions_that_cannot_be_trained_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        diffusion.parse_options(
            ["--minutes", "1", "--data", str(tmp_path), "--out", str(tmp_path), *arguments]
        )
    assert capsys.readouterr().err


def _shaken(network: SmallUNet) -> SmallUNet:
    """A network none of whose layers is still at nothing."""
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return network.eval()
