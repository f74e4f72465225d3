import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from mien.apps.main import run
from mien.calibration.precision.quality import IDENTICAL_DB, psnr_db
from mien.calibration.representative import (
    SAMPLE,
    read_clips,
    representative_inputs,
    ways_of,
)
from mien.engines import NETWORKS
from mien.engines.catalog import Catalog
from mien.engines.errors import ModelError, UsageError
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods import method_specs
from mien.runtime.pictures.picture import read_picture


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    shutil.copy(SAMPLE / "portrait.jpg", folder)
    return folder


@pytest.mark.slow
def test_a_network_becomes_fp16_in_a_folder_that_the_filter_takes(
    tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "half"
    words = ["calibrate", "landmarks", "--precision", "fp16", "--data", str(faces), "-o", str(out)]
    assert run(words) == 0
    assert "stay in FP32" in capsys.readouterr().out
    card = json.loads((out / "landmarks.json").read_text())
    assert card["quality"]["psnr_db"] > 45
    assert {"node_softmax", "node_matmul"} <= card["kept"].keys()
    entry = Catalog.load(out).entry("landmarks")
    assert entry.folder == out
    model = onnx.load(str(entry.path))
    stated = {p.key: p.value for p in model.metadata_props}
    assert stated["mien.precision"] == "fp16"
    source = Catalog.bundled().entry("landmarks")
    assert stated["mien.precision_source_sha256"] == source.sha256
    assert TensorProto.FLOAT16 in {t.data_type for t in model.graph.initializer}
    assert entry.path.stat().st_size < 0.6 * source.path.stat().st_size
    edited = [tmp_path / "half.jpg", tmp_path / "whole.jpg"]
    edit = ["edit", str(faces / "portrait.jpg"), "--emotion", "happy", "-o"]
    assert run([*edit, str(edited[0]), "--models", str(out)]) == 0
    assert run([*edit, str(edited[1])]) == 0
    half, whole = (read_picture(path).frame for path in edited)
    assert psnr_db(half, whole) > 45
    entry.path.write_bytes(entry.path.read_bytes()[:-1])  # so that the folder really was used
    capsys.readouterr()
    assert run([*edit, str(tmp_path / "third.jpg"), "--models", str(out)]) == 2
    assert "landmarks.onnx" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_networks_are_shown_what_the_filter_shows_them(faces: Path) -> None:
    clips = read_clips(faces)
    for network in NETWORKS[:3]:
        seen = representative_inputs(network.name, clips, Catalog.bundled())
        assert 1 <= len(seen) <= 32
        network.check_inputs(seen[0])
    face = seen[-1]["face"]
    assert face.min() >= 0
    assert 0.6 < face.max() <= 1


def test_every_network_that_a_method_opens_has_a_way_into_the_filter() -> None:
    opened = {name for spec in method_specs().values() for name in spec.networks_for({})}
    assert {"warp", "occlusion", "face_parser"} <= opened
    for name in (*opened, "detector", "landmarks", "judge"):
        assert all(way.method for way in ways_of(name))
    with pytest.raises(ModelError, match="no part of the filter"):
        ways_of("nobody")


def test_a_folder_without_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        read_clips(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        read_clips(tmp_path / "none")
    frame = Frame((Plane(np.zeros((64, 64), np.uint8), (1, 1)),), PixelLayout("gray"), 64, 64)
    with pytest.raises(UsageError, match="faces that can be seen plainly"):
        representative_inputs("landmarks", [[frame] * 2], Catalog.bundled())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["warp", "--precision", "fp8"], "must be fp16 or int8"),
        (["warp", "--precision", "int8", "--rules", "gpu"], "must be cpu or tensorrt"),
        (["nobody", "--precision", "fp16"], "no model for the network"),
        (["none.onnx", "--precision", "fp16"], "cannot read the model none.onnx"),
    ],
)
def test_what_cannot_be_calibrated_is_said_in_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["calibrate", *words, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_psnr_is_that_of_its_definition() -> None:
    black = Frame((Plane(np.zeros((4, 4), np.uint8), (1, 1)),), PixelLayout("gray"), 4, 4)
    grey = Frame((Plane(np.full((4, 4), 5, np.uint8), (1, 1)),), PixelLayout("gray"), 4, 4)
    assert psnr_db(black, black) == IDENTICAL_DB
    assert psnr_db(black, grey) == pytest.approx(20 * np.log10(255 / 5))
