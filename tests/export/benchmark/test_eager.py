from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.engines import Catalog, ModelError, OnnxRuntimeEngine
from mien.engines.network import example_inputs
from mien.engines.networks import (
    LANDMARKS,
    NETWORKS,
    cyclegan_network,
    parser_network,
    stargan_network,
)
from mien.export.benchmark import eager, torch_engine
from mien.export.benchmark.restored import restored_module
from mien.export.benchmark.torch_engine import TorchCatalog, TorchEngine
from mien.export.models.gans import CycleGanGenerator, CycleGanSpec, StarGanGenerator, StarGanSpec
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.trunks import ResNetSpec
from mien.export.onnx_file import to_onnx


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_shipped_network_comes_back_as_a_module_that_answers_as_its_file_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert eager.main(["--seconds", "0"]) == 0  # it holds each against its file
    times = json.loads(capsys.readouterr().out)
    assert list(times) == [network.name for network in NETWORKS]
    assert all(ms["torch"] > 0 and ms["onnx_runtime"] > 0 for ms in times.values())


def _disturbed(module: torch.nn.Module) -> torch.nn.Module:
    """Every weight, and every statistic of a normalisation, other than it begins."""
    chance = torch.Generator().manual_seed(0)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand(tensor.shape, generator=chance)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "network"),
    [
        (
            lambda: StarGanGenerator(StarGanSpec(3, 4, 1, "deconv")),
            stargan_network("g", labels=3, batch=2),
        ),
        (lambda: StarGanGenerator(StarGanSpec(2, 4, 2)), stargan_network("g", labels=2)),
        (lambda: CycleGanGenerator(CycleGanSpec(4, 1, affine=True)), cyclegan_network("g")),
        (lambda: CycleGanGenerator(CycleGanSpec(4, 2)), cyclegan_network("g", batch=2)),
        (
            lambda: DeepLab(DeepLabSpec.mobilenet(3, width=0.2, head=8, stride=8, rates=(2, 4))),
            parser_network(classes=3, size=64),
        ),
        (
            lambda: DeepLab(DeepLabSpec(ResNetSpec.of((1, 1, 1, 1), 0.1), 3, 8)),
            parser_network(classes=3, size=64),
        ),
        (
            lambda: BiSeNet(BiSeNetSpec(3, (4, 8, 8, 8), 8)),
            parser_network(classes=3, size=64),
        ),
    ],
)
def test_a_generator_or_a_parser_comes_back_from_its_file(make, network, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    to_onnx(_disturbed(make()), network, path)
    module = restored_module(path, network.name)
    feeds = example_inputs(network)
    with torch.inference_mode():
        found = module(*(torch.from_numpy(feeds[spec.name]) for spec in network.inputs))
    with OnnxRuntimeEngine(path, network) as engine:
        (expected,) = engine.infer(feeds).values()
    size = max(1.0, float(np.abs(expected).max()))
    assert np.abs(found.numpy() - expected).max() < 1e-4 * size
    assert np.ptp(expected) > 1e-3, "an answer that says something"


def _of_another_make(folder: Path) -> Path:
    folder.mkdir()
    shipped = Catalog.bundled().entry(LANDMARKS).path
    path = Path(shutil.copy(shipped, folder / "landmarks.onnx"))
    model = onnx.load(str(path))
    model.graph.initializer[0].name = "renamed"
    model.graph.node[4].input[1] = "renamed"
    onnx.save(model, str(path))
    return path


def test_a_file_of_another_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="another make"):
        TorchEngine(_of_another_make(tmp_path / "models"), LANDMARKS, threads=1)


def test_a_network_that_cannot_come_back_is_told_and_the_others_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def only_warp(path: Path, name: str) -> torch.nn.Module:
        if name != "warp":
            raise ModelError(f"{path.name} is of another make or precision")
        return restored_module(path, name)

    monkeypatch.setattr(torch_engine, "restored_module", only_warp)
    assert eager.main(["landmarks", "warp=2", "--seconds", "0"]) == 0
    times = json.loads(capsys.readouterr().out)
    assert times["landmarks"] == {"refused": "landmarks.onnx is of another make or precision"}
    assert times["warp"]["torch"] > 0


def test_a_module_that_answers_otherwise_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Catalog.bundled().entry(LANDMARKS).path
    made = restored_module(path, LANDMARKS.name)
    made.get_parameter("score.bias").data += 1
    made.get_parameter("offset.bias").data += 1
    monkeypatch.setattr(torch_engine, "restored_module", lambda *_: made)
    with pytest.raises(ModelError, match="differs"):
        TorchEngine(path, LANDMARKS, threads=1)


@pytest.mark.parametrize("layout", ["planes", "channels last"])
def test_every_layout_and_number_of_threads_answers_alike(layout: str) -> None:
    catalog = TorchCatalog(Catalog.bundled().entries, threads=2)
    with catalog.open(LANDMARKS) as engine:
        assert engine.provider == "PyTorch eager"
        assert set(catalog.settings) == {"landmarks"}
        feeds = example_inputs(LANDMARKS)
        expected = engine.infer(feeds)
    path = Catalog.bundled().entry(LANDMARKS).path
    with TorchEngine(path, LANDMARKS, threads=2) as engine:
        form = torch_engine.FORMATS[layout]
        engine._modules = {layout: restored_module(path, "landmarks").to(memory_format=form)}
        engine.setting = torch_engine.Setting(layout, 2)
        found = engine.infer(feeds)
        assert torch.get_num_threads() == 2
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, atol=1e-4)
