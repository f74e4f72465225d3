"""Table 1 of the diffusion paper, measured on made faces whose answers are known."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.calibration.diffusion.evaluate import (
    REPORTED,
    EditedRow,
    EmbeddingNetwork,
    HeldOut,
    Identity,
    compare_people,
    edit_faces,
    f1_scores,
    held_out_faces,
    json_of,
    other_networks,
    outside_expression,
    score_row,
    shipped_identity,
    table_of,
)
from mien.calibration.diffusion.precision import Faces, half_unet, psnr_db, run_faces
from mien.calibration.judges.features import InputRange
from mien.engines.catalog import Catalog
from mien.engines.diffusion import (
    FER2013_LABELS,
    UNetFacts,
    encoder_network,
    unet_facts,
    unet_network,
)
from mien.engines.engine import FakeEngine
from mien.engines.errors import ModelError, UsageError
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.faces.alignment import fer_matrix
from mien.runtime.frame import Frame
from mien.runtime.methods.diffusion.sampler import FROM_NOISE, SamplerOptions

# A face is flat; its label shows in two corners: bright mouth for happy, and so on.
SHADES = np.linspace(-0.9, 0.9, 7, dtype=np.float32)
FACTS = UNetFacts("sigma", 48, 2, FER2013_LABELS, 4, "vae", "label")


def painter(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A UNet that paints its label as the shade of the mouth, and the code all over the rest."""
    shade = feeds["label"] @ SHADES
    made = np.broadcast_to(feeds["semantic"][:, :1, None, None], feeds["x"].shape).copy()
    made[:, :, 34:44, 14:34] = shade[:, None, None, None]
    return {"denoised": made.astype(np.float32)}


def painting_row(name: str = "vae", **options: object) -> EditedRow:
    network = unet_network("diffusion_vae", "sigma", labels=7, semantic=4)
    metadata = {f"mien.{key}": text for key, text in FACTS.words.items()}
    encoder = encoder_network("diffusion_vae_encoder", code=4)
    code = FakeEngine(encoder, lambda f: {"code": np.full((1, 4), f["image"].mean(), np.float32)})
    settings = SamplerOptions(steps=2, guidance=1, **options)  # type: ignore[arg-type]
    return EditedRow(name, FakeEngine(network, painter, metadata), code, settings)


def mouth_of(crop: np.ndarray) -> str:
    shade = 2 * float(crop[34:44, 14:34].mean()) - 1
    return FER2013_LABELS[int(np.abs(SHADES - shade).argmin())]


def flat_faces(count: int = 3) -> list[HeldOut]:
    return [HeldOut("neutral", np.full((48, 48), 0.2 + 0.2 * i, np.float32)) for i in range(count)]


def test_f1_is_that_of_its_definition() -> None:
    wanted = ["happy", "happy", "sad", "sad", "neutral"]
    named = ["happy", "sad", "sad", "sad", "happy"]
    scores = dict(zip(FER2013_LABELS, f1_scores(wanted, named), strict=True))
    assert scores["happy"] == pytest.approx(2 * 1 / (2 + 2))
    assert scores["sad"] == pytest.approx(2 * 2 / (2 + 3))
    assert scores["neutral"] == 0
    assert scores["angry"] == 0


def test_a_row_is_scored_by_every_classifier_and_by_who_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    classifiers = {"mouths": mouth_of, "always sad": lambda _: "sad"}
    identity = Identity("shades", lambda crop: crop[:4, :4].reshape(-1), 0.5)
    score = score_row(
        painting_row(), flat_faces(), classifiers, identity, lambda *what: told.append(what)
    )
    assert score.edits == 21
    assert score.f1["mouths"] == (1.0,) * 7
    assert score.macro("mouths") == 1
    assert score.macro("always sad") == pytest.approx((2 * 3 / 24) / 7)
    assert (score.same_person, score.own_nearest) == (1.0, 1.0)
    assert score.outside < 0.5
    assert [done for _, done, _ in told] == [0, 1, 2]
    header, rows = table_of([score], {"vae": "vae"})
    assert [row[1] for row in rows] == ["mouths", "always sad", "DeepFace"]
    assert all(len(row) == len(header) for row in rows)
    assert rows[2][header.index("macro F1")] == "0.33"
    (told_json,) = json_of([score])
    assert told_json["macro_f1"] == {"mouths": 1.0, "always sad": score.macro("always sad")}


def test_somebody_else_is_noticed() -> None:
    identity = Identity("shades", lambda crop: crop[:2, :2].reshape(-1), 0.1)
    originals = [np.full((48, 48), v, np.float32) for v in (0.1, 0.9)]
    edits = np.stack([originals, originals[::-1]])
    assert compare_people(identity, originals, edits) == (0.5, 0.5)
    unsure = Identity("shades", identity.embed)
    assert compare_people(unsure, originals, edits) == (None, 0.5)


def test_the_shipped_features_tell_faces_apart_without_a_threshold() -> None:
    entry = Catalog.bundled().entry("judge")
    identity = shipped_identity(entry.path)
    assert identity.threshold is None
    rng = np.random.default_rng(0)
    crops = [rng.uniform(0, 1, (48, 48)).astype(np.float32) for _ in range(2)]
    assert compare_people(identity, crops, np.stack([crops])) == (None, 1.0)
    assert np.linalg.norm(identity.embed(crops[0])) == pytest.approx(1, rel=1e-5)


def test_networks_of_other_origin_see_the_crop_as_a_frame() -> None:
    class Seeing:
        def emotion(self, frame: Frame, landmarks: np.ndarray) -> str:
            np.testing.assert_allclose(fer_matrix(landmarks, 48), np.eye(3)[:2], atol=1e-3)
            return "happy" if frame.planes[0].samples[0, 0] == 255 else "sad"

        def identity(self, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
            return np.full(3, float(frame.planes[0].samples.mean()) + landmarks.sum(), np.float32)

    say, identity = other_networks(Seeing())
    bright, dark = np.ones((48, 48), np.float32), np.zeros((48, 48), np.float32)
    assert (say(bright), say(dark)) == ("happy", "sad")
    assert identity.threshold == 0.6
    assert np.linalg.norm(identity.embed(bright) - identity.embed(dark)) > 100


def test_what_moves_outside_mouth_and_brows_is_told() -> None:
    mask = outside_expression()
    assert not mask[38, 24], "the mouth"
    assert not mask[14, 10], "a brow"
    assert mask[0, 0]
    assert mask[25, 24], "the nose"
    face = flat_faces(1)
    row = painting_row()
    dark = FakeEngine(row.encoder.network, lambda _: {"code": np.full((1, 4), -1, np.float32)})
    score = score_row(EditedRow("dark", row.unet, dark, row.options), face, {"m": mouth_of})
    assert score.outside == pytest.approx(0.2 * 255, abs=0.5)
    assert score.same_person is None


def test_faces_come_from_their_own_noise_from_fresh_noise_or_from_noise_alone() -> None:
    for way in ("inversion", "forward", "noise"):
        row = painting_row(start=FROM_NOISE)
        made, _ = edit_faces(
            EditedRow("any", row.unet, row.encoder, row.options, way), flat_faces()
        )
        assert made.shape == (7, 3, 48, 48)
        assert [mouth_of(crop) for crop in made[:, 0]] == list(FER2013_LABELS)


def test_the_papers_numbers_are_its_table_1() -> None:
    macro = {name: round(float(np.mean(values)), 2) for name, values in REPORTED.items()}
    assert macro == {"label": 0.62, "cnn": 0.16, "vae": 0.33}


def made_data(folder: Path, *, votes: bool) -> Path:
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    pictures = np.stack([np.full((48, 48), i, np.uint8) for i in range(100)])
    sheet = pictures.reshape(10, 10, 48, 48).transpose(0, 2, 1, 3).reshape(480, 480)
    content = cv2.imencode(".png", sheet)[1].tobytes()
    with tarfile.open(folder / "fer2013.tar", "w") as archive:
        member = tarfile.TarInfo("00000.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    with (folder / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "split"])
        rows.writerows((names[i % 7], "public" if i % 2 else "train") for i in range(100))
    if votes:
        with (folder / "ferplus.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["original", "neutral", "happiness", "sadness", "unknown"])
            rows.writerows(
                (1, *((0, 0, 9, 1) if i % 7 == 4 and i > 40 else (2, 1, 1, 6))) for i in range(100)
            )
    return folder


def test_held_out_faces_are_of_the_split_and_in_order(tmp_path: Path) -> None:
    faces = held_out_faces(made_data(tmp_path, votes=False), each=2)
    assert [face.emotion for face in faces] == [e for e in FER2013_LABELS for _ in range(2)]
    rows = [round(255 * float(face.crop[0, 0])) for face in faces]
    assert all(row % 2 == 1 for row in rows), "odd rows are the public split"
    assert {row % 7 for row in rows[:2]} == {0}


def test_only_faces_that_annotators_agree_on_are_taken(tmp_path: Path) -> None:
    faces = held_out_faces(made_data(tmp_path, votes=True), each=3)
    assert [face.emotion for face in faces] == ["sad"] * 3
    assert all(255 * face.crop[0, 0] > 40 for face in faces)


def test_missing_data_and_splits_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no fer2013\.csv"):
        held_out_faces(tmp_path)
    with pytest.raises(UsageError, match="not 'train'"):
        held_out_faces(tmp_path, split="train")
    with pytest.raises(UsageError, match="no picture of the private split"):
        held_out_faces(made_data(tmp_path, votes=False), split="private")


def model_file(path: Path, nodes: list, weights: dict, ends: tuple, metadata: dict) -> Path:
    inputs, outputs = (
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side] for side in ends
    )
    graph = helper.make_graph(
        nodes, "made", inputs, outputs,
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def test_an_identity_network_of_ones_own_is_taken(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["vector"]),
    ]
    ends = [("picture", (1, 3, 20, 20))], [("vector", (1, 3))]
    path = model_file(tmp_path / "who.onnx", nodes, {}, ends, {})
    network = EmbeddingNetwork(path, InputRange(-1.0, 1.0), threshold=0.4)
    vector = network.identity.embed(np.ones((48, 48), np.float32))
    np.testing.assert_allclose(vector, np.full(3, 3**-0.5), rtol=1e-5)
    assert (network.identity.name, network.identity.threshold) == ("who", 0.4)
    ends = [("picture", (1, 2, 20, 20))], [("vector", (1, 2))]
    other = model_file(tmp_path / "other.onnx", nodes, {}, ends, {})
    with pytest.raises(ModelError, match="takes one picture"):
        EmbeddingNetwork(other, InputRange(0.0, 1.0))


def small_unet_file(folder: Path) -> Path:
    """A UNet of two convolutions with a normalisation, one that FP16 changes a little."""
    network = unet_network("diffusion_label", "sigma", labels=7, size=16)
    rng = np.random.default_rng(0)
    weights = {
        "first": (0.2 * rng.standard_normal((4, 1, 3, 3))).astype(np.float32),
        "second": (0.2 * rng.standard_normal((1, 4, 3, 3))).astype(np.float32),
        "table": rng.standard_normal((7, 4)).astype(np.float32),
        "one": np.ones(4, np.float32), "nothing": np.zeros(4, np.float32),
        "shape": np.array([2, 1, 1, 1]), "shape4": np.array([2, 4, 1, 1]),
        "data": np.array(0.25, np.float32),
    }  # fmt: skip
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Reshape", ["sigma", "shape"], ["level"], "level"),
        helper.make_node("Mul", ["level", "level"], ["square"], "square"),
        helper.make_node("Add", ["square", "data"], ["variance"], "variance"),
        helper.make_node("Sqrt", ["variance"], ["spread"], "spread"),
        helper.make_node("Div", ["x", "spread"], ["given"], "given"),
        helper.make_node("Conv", ["given", "first"], ["wide"], "wide", **pads),
        helper.make_node("InstanceNormalization", ["wide", "one", "nothing"], ["even"], "even"),
        helper.make_node("MatMul", ["label", "table"], ["said"], "said"),
        helper.make_node("Reshape", ["said", "shape4"], ["row"], "row"),
        helper.make_node("Add", ["even", "row"], ["both"], "both"),
        helper.make_node("Tanh", ["both"], ["bent"], "bent"),
        helper.make_node("Conv", ["bent", "second"], ["made"], "made", **pads),
        helper.make_node("Reshape", ["cond_scale", "shape"], ["scale"], "scale"),
        helper.make_node("Mul", ["made", "scale"], ["denoised"], "denoised"),
    ]
    facts = UNetFacts("sigma", 16, 2, FER2013_LABELS, 0, "label", "label")
    metadata = network.metadata() | {f"mien.{k}": v for k, v in facts.words.items()}
    metadata |= {"mien.parity_error": "0", "mien.paper": "any"}
    ends = tuple([(s.name, s.shape) for s in side] for side in (network.inputs, network.outputs))
    return model_file(folder / "diffusion_label.onnx", nodes, weights, ends, metadata)


def test_fp16_is_near_in_each_call_and_over_a_whole_run(tmp_path: Path) -> None:
    path = small_unet_file(tmp_path)
    rng = np.random.default_rng(1)
    faces = Faces(
        rng.uniform(-0.5, 0.5, (2, 1, 16, 16)).astype(np.float32),
        np.eye(7, dtype=np.float32)[[1, 3]],
    )
    options = SamplerOptions(steps=5, guidance=2)
    half = half_unet(path, faces, options)
    assert half.run_db >= 40
    assert "even" in half.kept
    assert "wide" not in half.kept
    assert max(error.relative for error in half.errors) <= 5e-3
    written = tmp_path / "half.onnx"
    written.write_bytes(half.model.SerializeToString())
    with (
        OnnxRuntimeEngine(written, "diffusion_label") as halved,
        OnnxRuntimeEngine(path, "diffusion_label") as whole,
    ):
        assert unet_facts(halved) == unet_facts(whole)
        both = [run_faces(engine, faces, options) for engine in (whole, halved)]
    assert psnr_db(*both) >= 40
    stricter = half_unet(path, faces, options, least_db=half.run_db + 1)
    assert stricter.run_db > half.run_db
    assert len(stricter.kept) > len(half.kept)


def test_psnr_is_of_the_worst_picture() -> None:
    flat = np.zeros((2, 1, 4, 4), np.float32)
    other = flat.copy()
    other[1] = 0.02
    assert psnr_db(flat, flat) == np.inf
    assert psnr_db(flat, other) == pytest.approx(40, abs=0.01)
