"""The command that times ONNX Runtime against PyTorch; how long it takes is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mien.export.cyclegan import CycleGanSpec
from mien.export.speed import Timing, full_size_cases, main, table
from tests.export.checkpoints import saved, state_of


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_generator_and_the_parser_are_timed() -> None:
    networks = [case.network.name for case in full_size_cases()]
    kinds = [
        f"{gan}_{mode}" for gan in ("stargan", "cyclegan") for mode in ("image", "face", "parts")
    ]
    assert set(networks) == {*kinds, "face_parser"}


def test_a_checkpoint_is_timed_in_both(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = saved(state_of(CycleGanSpec(4, 1)), tmp_path / "cyclegan_parts.pt")
    assert main([str(path), "--seconds", "0.01", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "cyclegan_parts.pt"
    assert row["rounds"] >= 5
    assert row["torch_ms"] > 0 < row["onnx_runtime_ms"]
    assert row["ratio"] == pytest.approx(row["torch_ms"] / row["onnx_runtime_ms"])


def test_the_table_holds_the_ratio_of_the_medians() -> None:
    text = table([Timing("warp", 9, 6.0, 2.0)], 2)
    assert text.splitlines()[-1] == "| warp | 6.0 | 2.0 | 3.00 |"


def test_what_cannot_be_timed_is_told_in_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main(["--only", "dream"]) == 2
    assert capsys.readouterr().err == "mien: no network has 'dream' in its name\n"
