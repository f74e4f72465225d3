from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.main import run
from mien.calibration.precision import all as precisions
from mien.calibration.precision.card import PrecisionCard
from mien.calibration.precision.folder import keep
from mien.calibration.precision.quality import OutputError
from mien.calibration.precision.run import Variant
from mien.engines.catalog import Catalog, ModelEntry
from mien.engines.errors import ModelError
from tests.calibration import graphs


def _variant(source: ModelEntry, refusal: str = "") -> Variant:
    card = PrecisionCard(
        network=source.network,
        precision="int8",
        rules="cpu",
        source_sha256=source.sha256,
        data="nothing",
        inputs=1,
        nodes=3,
        kept={"node": "a reason"},
        errors=(OutputError("y", 0.1, 0.1, 0.1),),
        quality=None,
        fp32_ms=None,
        ms=None,
        machine="none",
        refusal=refusal,
    )
    model = graphs.model([graphs.conv("x", "w", "y")], graphs.weights("w"))
    return Variant(None if refusal else model, card)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_refusal_leaves_an_accepted_model_and_its_card_as_they_are(tmp_path: Path) -> None:
    source = Catalog.bundled().entry("warp")
    keep(_variant(source), source, tmp_path)
    before = _files(tmp_path)
    assert before.keys() == {"warp.onnx", "warp.md", "warp.json", "catalog.toml"}
    made = keep(_variant(source, "it shakes"), source, tmp_path)
    assert made.path is None
    assert made.card == tmp_path / "warp-int8-refused.md"
    assert "Not accepted: it shakes." in made.card.read_text()
    after = _files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"warp-int8-refused.md", "warp-int8-refused.json"}
    Catalog.load(tmp_path).entry("warp").check_file()


def test_once_accepted_no_refusal_is_left_in_the_folder(tmp_path: Path) -> None:
    source = Catalog.bundled().entry("warp")
    keep(_variant(source, "it shakes"), source, tmp_path)
    assert not (tmp_path / "catalog.toml").exists()
    made = keep(_variant(source), source, tmp_path)
    assert made.path == tmp_path / "warp.onnx"
    assert _files(tmp_path).keys() == {"warp.onnx", "warp.md", "warp.json", "catalog.toml"}


def test_the_folder_of_the_model_itself_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Catalog.bundled().entry("warp")
    with pytest.raises(ModelError, match="holds the FP32 model itself"):
        keep(_variant(source), source, source.folder)
    empty = tmp_path / "empty"
    empty.mkdir()  # without pictures: what is measured on is looked at later
    words = ["calibrate", "warp", "--precision", "fp16", "--data", str(empty)]
    assert run([*words, "-o", str(source.folder)]) == 2
    assert "holds the FP32 model itself" in capsys.readouterr().err
    cv2.imwrite(str(empty / "faceless.png"), np.zeros((64, 64, 3), np.uint8))
    words = ["--out", str(source.folder), "--data", str(empty), "--networks", "warp"]
    assert precisions.main(words) == 2
    assert "no: " in (table := capsys.readouterr().out)
    assert "holds the FP32 model itself" in table


def test_a_table_of_nothing_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert precisions.main(["--out", str(tmp_path), "--data", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mien.calibration.precision.all: no such folder: ")
    assert error.count("\n") == 1


def test_an_accepted_model_is_replaced_with_leave_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Catalog.bundled().entry("warp")
    keep(_variant(source), source, tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ModelError, match="appeared meanwhile") as caught:
        keep(_variant(source), source, tmp_path)
    after = _files(tmp_path)
    assert str(caught.value).endswith(f"kept as {tmp_path / 'warp_2.onnx'}")
    assert after.pop("warp_2.onnx") == before["warp.onnx"]
    assert after == before
    words = ["calibrate", "warp", "--precision", "fp16", "-o", str(tmp_path)]
    assert run(words) == 2, "said before anything is measured"
    assert "add --overwrite" in capsys.readouterr().err
    keep(_variant(source), source, tmp_path, overwrite=True)
    Catalog.load(tmp_path).entry("warp").check_file()


def test_what_lies_in_the_folder_is_not_written_through(tmp_path: Path) -> None:
    source = Catalog.bundled().entry("warp")
    folder, victims = tmp_path / "fast", tmp_path / "victims"
    folder.mkdir()
    victims.mkdir()
    for name in ("warp.onnx", "warp.md", "warp.json", "warp-int8-refused.md", "catalog.toml"):
        (victims / name).write_text("")
        (folder / name).symlink_to(victims / name)
    keep(_variant(source, "it shakes"), source, folder)
    assert (folder / "warp-int8-refused.md").read_text().endswith("\n")
    keep(_variant(source), source, folder, overwrite=True)
    assert all(victim.read_bytes() == b"" for victim in victims.iterdir())
    assert _files(folder).keys() == {"warp.onnx", "warp.md", "warp.json", "catalog.toml"}
