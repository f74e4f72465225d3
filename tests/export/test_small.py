from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mien.engines import Network, OnnxRuntimeEngine, TensorSpec
from mien.export.onnx_file import rounded_to_half, rounded_to_int8, store_small, to_onnx

NETWORK = Network(
    "tiny", (TensorSpec("image", (1, 3, 16, 16)),), (TensorSpec("logits", (1, 8, 16, 16)),)
)


def module() -> nn.Module:
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 24, 3, 1, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(24, 16, 1), nn.BatchNorm2d(16)),
        nn.Conv2d(16, 8, 3, 1, 1),
    )
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.3, 3)
    return made.eval()


def test_a_rounded_module_says_nearly_the_same_and_keeps_its_source_as_it_is() -> None:
    source = module()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    rounded = rounded_to_half(source)
    image = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(rounded(image), source(image), atol=5e-3, rtol=5e-3)
        assert not torch.equal(rounded(image), source(image))
    for weight in rounded.parameters():
        assert torch.equal(weight.half().float(), weight)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in rounded.modules())
    assert all(torch.equal(before[name], value) for name, value in source.state_dict().items())


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    to_onnx(rounded_to_half(module()), NETWORK, tmp_path / "tiny.onnx", facts={"paper": "none"})
    return tmp_path / "tiny.onnx"


def _run(path: Path) -> np.ndarray:
    image = np.random.default_rng(1).random((1, 3, 16, 16), np.float32)
    with OnnxRuntimeEngine(path, NETWORK) as engine:
        found: np.ndarray = engine.infer({"image": image})["logits"]
        return found


def test_a_file_in_half_precision_is_half_as_large_and_says_the_very_same(graph: Path) -> None:
    before, size = _run(graph), sum(t.ByteSize() for t in onnx.load(graph).graph.initializer)
    metadata = {p.key: p.value for p in onnx.load(graph).metadata_props}
    assert store_small(graph) == 3
    np.testing.assert_array_equal(_run(graph), before)
    stored = onnx.load(graph)
    assert sum(t.ByteSize() for t in stored.graph.initializer) < 0.6 * size
    assert {p.key: p.value for p in stored.metadata_props} == metadata


class Turned(nn.Module):
    """A matrix that the exporter transposes, beside a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mixed = module(), nn.Linear(16, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mixed(self.first(image))
        return mixed


def test_a_file_in_eight_bits_is_a_quarter_as_large_and_says_the_very_same(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source, path = Turned().eval(), tmp_path / "tiny.onnx"
    rounded = rounded_to_int8(source)
    image = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(rounded(image), source(image), atol=3e-2, rtol=3e-2)
    to_onnx(rounded, NETWORK, path)
    before, size = _run(path), sum(t.ByteSize() for t in onnx.load(path).graph.initializer)
    assert store_small(path) == 4
    np.testing.assert_array_equal(_run(path), before)
    stored = onnx.load(path).graph.initializer
    assert sum(t.data_type == onnx.TensorProto.UINT8 for t in stored) == 4
    assert sum(t.ByteSize() for t in stored) < 0.4 * size


def test_rounding_to_eight_bits_twice_changes_nothing_more(tmp_path: Path) -> None:
    once = rounded_to_int8(module())
    twice = rounded_to_int8(once)
    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_channel_of_zeros_is_rounded_to_zeros() -> None:
    source = nn.Sequential(nn.Conv2d(3, 24, 3)).eval()
    nn.init.zeros_(source[0].weight[3])
    weight = rounded_to_int8(source)[0].weight
    assert torch.isfinite(weight).all()
    assert (weight[3] == 0).all()


def test_weights_that_half_precision_would_change_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    to_onnx(module(), NETWORK, path)
    before = _run(path)
    assert store_small(path) == 0
    np.testing.assert_array_equal(_run(path), before)
