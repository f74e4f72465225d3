from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from mien.engines import Catalog, ModelError
from mien.engines.networks import LANDMARKS, NETWORKS
from mien.export import eager


def test_every_shipped_network_comes_back_as_a_module_that_answers_as_its_file_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert eager.main(["--seconds", "0"]) == 0  # it holds each against its file
    times = json.loads(capsys.readouterr().out)
    assert list(times) == [network.name for network in NETWORKS]
    assert all(ms["torch"] > 0 and ms["onnx_runtime"] > 0 for ms in times.values())


def test_a_file_of_another_make_is_refused(tmp_path: Path) -> None:
    shipped = Catalog.bundled().entry(LANDMARKS).path
    path = Path(shutil.copy(shipped, tmp_path / "landmarks.onnx"))
    model = onnx.load(str(path))
    model.graph.initializer[0].name = "renamed"
    model.graph.node[4].input[1] = "renamed"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="another make"):
        eager.eager_times(path, LANDMARKS, 0, 1)


def test_a_module_that_answers_otherwise_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Catalog.bundled().entry(LANDMARKS).path
    made = eager.restored_module(path, LANDMARKS)

    made.get_parameter("score.bias").data += 1
    made.get_parameter("offset.bias").data += 1
    monkeypatch.setattr(eager, "restored_module", lambda *_: made)
    with pytest.raises(ModelError, match="differs"):
        eager.eager_times(path, LANDMARKS, 0, 1)
