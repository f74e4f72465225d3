"""The whole filter on PyTorch eager; how long it takes is not tested."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from mien.apps.edit.inputs import SAMPLE
from mien.engines import ModelError
from mien.engines.networks import WARP
from mien.export.benchmark import torch_engine
from mien.export.benchmark.restored import restored_module
from mien.runtime.video import read_frames
from mien.training import eager_filter
from mien.training.eager_filter import Asked, compare

FRAMES = 16


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(eager_filter, "REST_S", 0.0)
    monkeypatch.setattr(eager_filter, "read_frames", lambda clip: islice(read_frames(clip), FRAMES))
    yield
    torch.set_num_threads(before)


def test_the_same_filter_runs_on_both_over_the_same_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert eager_filter.main([str(SAMPLE), "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    both = [found[name] for name in ("onnx_runtime", "torch")]
    networks = ["detector", "landmarks", "warp", "occlusion"]
    assert list(found["settings"]) == networks
    for one in both:
        assert (one["frames"], one["faces"]) == (FRAMES - 10, 1)
        assert list(one["networks"]) == networks
        assert one["networks"]["landmarks"]["calls"] == 1
        assert all(share["ms"] > 0 for share in one["networks"].values() if share["calls"])
    assert both[0]["networks"]["warp"]["calls"] == both[1]["networks"]["warp"]["calls"] > 0
    assert found["decibels"] is None or found["decibels"] > 45


def test_a_filter_that_edits_otherwise_in_torch_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lit(path: Path, name: str) -> torch.nn.Module:
        module = restored_module(path, name)
        if name == WARP.name:
            module.register_forward_hook(lambda _module, _inputs, out: tuple(x * 0.5 for x in out))
        return module

    monkeypatch.setattr(torch_engine, "restored_module", lit)
    monkeypatch.setattr(torch_engine, "TOLERANCE", 10.0)
    with pytest.raises(ModelError, match=r"edits .* otherwise than in ONNX Runtime: "):
        compare(Asked(SAMPLE, threads=1))


def test_what_cannot_be_measured_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eager_filter.main([str(SAMPLE), "--models", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), error.count("mien: cannot read ")) == (1, 1)
