"""The command that times ONNX Runtime against PyTorch; how long it takes is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mien.engines import Catalog, ModelEntry, record_model
from mien.engines.networks import CYCLEGAN_PARTS
from mien.export.benchmark.speed import (
    full_size_cases,
    main,
    public_latent_cases,
    shipped_cases,
    table,
    time_case,
)
from mien.export.benchmark.torch_engine import Timing
from mien.export.models.gans import CycleGanGenerator, CycleGanSpec
from mien.export.models.irse import EncoderSpec
from mien.export.onnx_file import sha256_of, to_onnx
from tests.export.checkpoints.files import saved, state_of


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_generator_and_parser_is_timed_at_full_size() -> None:
    cases = full_size_cases()
    kinds = [
        *(f"{gan}, {modes}, paper size" for modes in ("image or face", "parts")
          for gan in ("stargan", "cyclegan")),
        "face_parser, DeepLabV3 MobileNetV3",
        "face_parser, DeepLabV3 ResNet-50",
        "face_parser, BiSeNet",
        "stylegan2_synthesis, 256 pixels",
        "latent_encoder, e4e of 256 pixels",
    ]  # fmt: skip
    assert [case.name for case in cases] == kinds
    batches = [case.network.inputs[0].shape[0] for case in cases]
    assert batches == [1, 1, 4, 4, 1, 1, 1, 1, 1]


def test_networks_of_the_latent_methods_are_timed_against_their_fastest_form_in_pytorch() -> None:
    small = EncoderSpec(6, deltas=True, stages=((16, 1), (16, 1), (16, 1), (512, 1)), size=64)
    for case in public_latent_cases(16, small):
        timing = time_case(case, 0, 1)  # which refuses a form that answers otherwise
        assert timing.name == case.name
        assert timing.ratio > 0


def test_what_a_catalog_has_of_generators_and_parsers_is_timed_with_its_own_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    path = models / "cyclegan_parts.onnx"
    to_onnx(CycleGanGenerator(CycleGanSpec(4, 1)), CYCLEGAN_PARTS, path)
    record_model(
        ModelEntry("small", "cyclegan_parts", path.name, sha256_of(path), "nothing", 0.0, {},
                   "Apache-2.0", "small.md", models)
    )  # fmt: skip
    arguments = ["--shipped", "--models", str(models), "--seconds", "0", "--only", "cyclegan"]
    assert main(arguments) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert any(row.startswith("| cyclegan_parts, shipped | ") for row in rows)
    names = [case.name for case in shipped_cases(Catalog.bundled())]
    assert "face_parser, shipped" in names
    assert main([str(path), "--seconds", "0", "--threads", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "cyclegan_parts.onnx"
    assert row["setting"].startswith("1 thread, ")


def test_a_checkpoint_is_timed_in_both(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = saved(state_of(CycleGanSpec(4, 1)), tmp_path / "cyclegan_parts.pt")
    assert main([str(path), "--seconds", "0.01", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "cyclegan_parts.pt"
    assert row["rounds"] >= 5
    assert row["torch_ms"] > 0 < row["onnx_runtime_ms"]
    assert row["ratio"] == pytest.approx(row["torch_ms"] / row["onnx_runtime_ms"])


def test_the_table_holds_the_ratio_of_the_medians() -> None:
    text = table([Timing("warp", 9, 6.0, 2.0, "1 thread, planes")], 2)
    assert text.splitlines()[-1] == "| warp | 1 thread, planes | 6.0 | 2.0 | 3.00 |"


def test_what_cannot_be_timed_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no graph")
    for arguments, said in (
        (["--only", "dream"], "no network has 'dream' in its name"),
        ([str(wrong)], f"the model {wrong} is no ONNX file: "),
        ([f"{tmp_path}/none.onnx"], f"cannot read the model {tmp_path}/none.onnx: No such file"),
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"mien: {said}")
        assert told.count("\n") == 1
